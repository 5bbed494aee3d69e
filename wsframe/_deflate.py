"""permessage-deflate (RFC 7692 s7): its settings, its negotiation in both roles, and the agreed codec.

How the receiving side works, because it is unusual. An inflater lives for one message, not for the connection. It
starts from what the context takeover gives it, the last bytes of the messages before, as its preset dictionary, and at
the end of the message it is closed with an empty final block. That costs about a microsecond and buys four things:

- A message that ends inside a block is noticed (zlib alone says nothing, and the next message would pay for it).
- A block with BFINAL set is no special case: the stream ends earlier, and the next inflater starts from the same
  sliding window (s7.2.3.4).
- An idle connection keeps 2 ** window bits bytes for receiving, and no inflater.
- Inside a message the window is always 32 KiB, so whether a peer that lies about its window gets away with it does not
  depend on how the message was cut into pieces.
"""

from __future__ import annotations

import functools
import re
import sys
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._backend import CodecError
from ._errors import HandshakeError
from ._extension import ExtensionItem, Params, format_extensions

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["NAME", "DeflateCodec", "PermessageDeflate"]

#: RFC 7692 s7: the registered extension name.
NAME = "permessage-deflate"

SERVER_NO_CONTEXT = "server_no_context_takeover"
CLIENT_NO_CONTEXT = "client_no_context_takeover"
SERVER_BITS = "server_max_window_bits"
CLIENT_BITS = "client_max_window_bits"

#: What a side may use when nothing is said about its window (s7.1.2).
MAX_BITS = 15
#: zlib's raw deflate has no window of 256 bytes: older versions silently took 512, newer ones refuse.
MIN_OWN_BITS = 9

_INVALID_DATA = 1007
_TOO_BIG = 1009

#: What a sender removes from the end of a message and a receiver puts back (s7.2.1, s7.2.2).
_TAIL = b"\x00\x00\xff\xff"
#: An empty stored block with BFINAL set: it ends a deflate stream, if and only if that is between two blocks.
_CLOSING = b"\x01\x00\x00\xff\xff"

#: Deflate streams (blocks with BFINAL set) in one message: as many as a message may have fragments by default.
#: Two bytes are enough for one, and each costs a new inflater.
MAX_STREAMS = 131072
#: How much to feed to the inflater after a BFINAL block; it doubles while no other comes.
_FIRST_SLICE = 256

_bits_value = re.compile(r"[89]|1[0-5]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PermessageDeflate:
    """Settings for permessage-deflate (RFC 7692 s7.1); an ``ExtensionFactory`` for either role.

    "Own" is the direction in which we send. Windows are in bits: 12 is a sliding window of 4,096 bytes. An agreed
    connection keeps, once it was used, about 2 ** (bits + 2) + 2 ** (mem_level + 9) bytes for sending, unless it
    is without context takeover, and 2 ** bits for receiving.

    Args:
        server_no_context_takeover: the server starts every message with an empty window.
            Client: asked for and insisted on. Server: done and announced; also when only the client asks for it.
        client_no_context_takeover: the same for the client.
            Client: done and announced, whatever the server says; and done when only the server asks for it. Server:
            asked for, which every client must obey; also agreed when only the client announces it.
        server_max_window_bits: the largest window of the server, 8 to 15, or None for no limit (15).
            Client: asked for; an answer with more is refused, one that says nothing means 15, as there are servers
            that ignore the question. Server: the window is the smaller one of this and what the client asks for; it is
            announced when the client asked.
        client_max_window_bits: the largest window of the client, 8 to 15, or True or None.
            Client: a number is offered and never exceeded; True offers the bare parameter, so the server may choose;
            None offers nothing, so the server cannot limit our window of 15. Server: a number is asked for when the
            client offers the parameter, or a smaller one when the client names it; True only takes up what a client
            names; None never limits the client. A client that does not offer the parameter uses 15.
        level: zlib's effort for sending, 1 (fast) to 9 (small). From 4 on it costs two to three times the time for
            some 5 % of the size.
        mem_level: zlib's memory for sending, 1 to 9.
        min_size: messages of fewer bytes are sent uncompressed; a fragmented one is compressed.

    A window of 8 bits is for the peer alone, and most peers refuse it. zlib cannot compress with it, so for our own
    direction 8 counts as 9, and a server declines an offer that asks it for 8. Only a server's answer can still impose
    it on a client, which then sends without back-references but to the byte before (Huffman coding and run lengths):
    that fits any window.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range.
    """

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int | None = 12
    client_max_window_bits: int | bool | None = 12
    level: int = 3
    mem_level: int = 5
    min_size: int = 256

    def __post_init__(self) -> None:
        for name in (SERVER_NO_CONTEXT, CLIENT_NO_CONTEXT):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise TypeError(f"{name} must be a bool, not {value!r}")
        if self.server_max_window_bits is not None:
            _check_int(SERVER_BITS, self.server_max_window_bits, 8, MAX_BITS, " or None")
        if self.client_max_window_bits is not None and self.client_max_window_bits is not True:
            _check_int(CLIENT_BITS, self.client_max_window_bits, 8, MAX_BITS, ", True or None")
        _check_int("level", self.level, 1, 9)
        _check_int("mem_level", self.mem_level, 1, 9)
        _check_int("min_size", self.min_size, 0, None)

    @property
    def name(self) -> str:
        """``permessage-deflate``."""
        return NAME

    def offers(self) -> list[Params]:
        """Client: the one offer that these settings make (RFC 7692 s7.1)."""
        offer: list[tuple[str, str | None]] = []
        if self.server_no_context_takeover:
            offer.append((SERVER_NO_CONTEXT, None))
        if self.client_no_context_takeover:
            offer.append((CLIENT_NO_CONTEXT, None))
        if self.server_max_window_bits is not None:
            offer.append((SERVER_BITS, str(self.server_max_window_bits)))
        if self.client_max_window_bits is True:
            offer.append((CLIENT_BITS, None))
        elif self.client_max_window_bits is not None:
            offer.append((CLIENT_BITS, str(max(self.client_max_window_bits, MIN_OWN_BITS))))
        return [tuple(offer)]

    def accept_response(self, params: Params) -> DeflateCodec:
        """Client: take the server's answer to the offer (RFC 7692 s7.1.1, s7.1.2).

        Raises:
            HandshakeError: an unknown, repeated or wrong parameter; a server's window larger than asked for; a limit
                for our own window although none was offered; or no ``server_no_context_takeover`` although that was
                asked for.
        """
        # s7.1.2.2: in a response client_max_window_bits has a value.
        found = _read(params, bare=())
        if isinstance(found, str):
            raise _refused(params, found)
        # s7.1.1.1: a server accepts an offer with this parameter "by including" it in its response.
        if self.server_no_context_takeover and SERVER_NO_CONTEXT not in found:
            raise _refused(params, f"{SERVER_NO_CONTEXT} was asked for and is missing")
        # s7.1.2.1: "the same or smaller value as the offer". Servers that do not know the parameter leave it out
        # instead of declining. Their window is 15 then: that costs memory, and refusing them would cost the connection.
        peer_bits = found.get(SERVER_BITS)
        asked = self.server_max_window_bits
        if peer_bits is not None and asked is not None and peer_bits > asked:
            raise _refused(params, f"{SERVER_BITS} is larger than the {asked} that was asked for")
        own_bits = found.get(CLIENT_BITS)
        offered = self.client_max_window_bits
        # s7.1.2.2: without the parameter in the offer the response "MUST NOT include" it.
        if own_bits is not None and offered is None:
            raise _refused(params, f"{CLIENT_BITS} was not offered")
        limit = MAX_BITS if offered is None or offered is True else max(offered, MIN_OWN_BITS)
        return DeflateCodec(
            params=_canonical(found),
            # s7.1.2.2: a server "may either ignore this value" of the offer or answer with the same or a smaller one. A
            # larger answer ignores it, and limits us to nothing that we had not promised.
            send_bits=limit if own_bits is None else min(limit, own_bits),
            send_takeover=not (self.client_no_context_takeover or CLIENT_NO_CONTEXT in found),
            receive_bits=MAX_BITS if peer_bits is None else peer_bits,
            receive_takeover=SERVER_NO_CONTEXT not in found,
            level=self.level,
            mem_level=self.mem_level,
            min_size=self.min_size,
        )

    def accept_offer(self, params: Params) -> DeflateCodec | None:
        """Server: take one offer, or None to decline it (RFC 7692 s7.1.1, s7.1.2)."""
        # s7: "A server MUST decline an extension negotiation offer for this extension if" it has a parameter that is
        # unknown, repeated, or has an invalid value.
        found = _read(params, bare=(CLIENT_BITS,))
        if isinstance(found, str):
            return None
        asked = found.get(SERVER_BITS)
        if asked is not None and asked < MIN_OWN_BITS:
            return None
        agreed: dict[str, int | None] = {}
        # s7.1.1: either parameter may stand in a response whether or not it was in the offer.
        if self.server_no_context_takeover or SERVER_NO_CONTEXT in found:
            agreed[SERVER_NO_CONTEXT] = None
        if self.client_no_context_takeover or CLIENT_NO_CONTEXT in found:
            agreed[CLIENT_NO_CONTEXT] = None
        own_bits = max(min(self.server_max_window_bits or MAX_BITS, asked or MAX_BITS), MIN_OWN_BITS)
        if asked is not None:
            agreed[SERVER_BITS] = own_bits
        peer_bits = MAX_BITS
        wanted = self.client_max_window_bits
        if CLIENT_BITS in found and wanted is not None:
            peer_bits = min(MAX_BITS if wanted is True else wanted, found[CLIENT_BITS] or MAX_BITS)
            if peer_bits < MAX_BITS:
                agreed[CLIENT_BITS] = peer_bits
        return DeflateCodec(
            params=_canonical(agreed),
            send_bits=own_bits,
            send_takeover=SERVER_NO_CONTEXT not in agreed,
            receive_bits=peer_bits,
            receive_takeover=CLIENT_NO_CONTEXT not in agreed,
            level=self.level,
            mem_level=self.mem_level,
            min_size=self.min_size,
        )


@dataclass(frozen=True, slots=True)
class Agreed:
    """What the two sides of a connection have agreed, and how we compress; see `DeflateCodec`."""

    params: Params
    send_bits: int
    send_takeover: bool
    receive_bits: int
    receive_takeover: bool
    level: int
    mem_level: int
    min_size: int


#: Most connections agree on the same, and then have it once for all of them.
_agreed = functools.lru_cache(maxsize=256)(Agreed)


class DeflateCodec:
    """permessage-deflate as agreed for one connection; a ``PerMessageExtension``. Made by `PermessageDeflate`.

    Nothing of zlib's is allocated for a direction before its first compressed message.

    Args:
        params: the parameters agreed.
        send_bits: window for sending, 8 to 15; with 8 there are no back-references but to the byte before.
        send_takeover: keep the window from one sent message to the next (s7.2.1).
        receive_bits: the peer's window, 8 to 15.
        receive_takeover: the peer keeps its window from one message to the next (s7.2.2).
        level, mem_level, min_size: see `PermessageDeflate`.

    Attributes:
        agreed: all of these.
    """

    __slots__ = ("_deflater", "_history", "_inflater", "_streams", "agreed")

    def __init__(
        self,
        *,
        params: Params,
        send_bits: int,
        send_takeover: bool,
        receive_bits: int,
        receive_takeover: bool,
        level: int,
        mem_level: int,
        min_size: int,
    ) -> None:
        self.agreed = _agreed(
            params, send_bits, send_takeover, receive_bits, receive_takeover, level, mem_level, min_size
        )
        self._deflater: zlib._Compress | None = None
        # None while no byte was fed since the message began or its last deflate stream ended.
        self._inflater: zlib._Decompress | None = None
        # The sliding window: the last bytes of what was inflated; None while there are none.
        self._history: bytearray | None = None
        # Deflate streams that ended within the message in progress.
        self._streams = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {format_extensions([ExtensionItem(NAME, self.agreed.params)])}>"

    @property
    def name(self) -> str:
        """``permessage-deflate``."""
        return NAME

    @property
    def params(self) -> Params:
        """The parameters of the server's response, in the order of RFC 7692 s7.1."""
        return self.agreed.params

    @property
    def min_size(self) -> int:
        """Messages of fewer bytes are sent uncompressed."""
        return self.agreed.min_size

    def encode(self, data: bytes, *, first: bool, final: bool) -> bytes:
        """Compress what goes into one frame, so that the receiver can inflate all of it (RFC 7692 s7.2.1).

        Args:
            data: the bytes of the message that go into this frame; may be empty.
            first: whether the frame begins its message.
            final: whether it ends it.
        """
        if data:
            deflater = self._deflater
            if deflater is None:
                deflater = self._deflater = self._new_deflater()
            payload = deflater.compress(data)
            flushed = deflater.flush(zlib.Z_SYNC_FLUSH)
            # s7.2.1: "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end."
            payload += flushed[:-4] if final else flushed
        else:
            # s7.2.3.6: an empty message, or an empty end of one, is an empty block with no compression. The frames
            # before it were flushed, so it begins on a byte boundary.
            payload = b"\x00" if final else b""
        if final and not self.agreed.send_takeover:
            self._deflater = None
        return payload

    def _new_deflater(self) -> zlib._Compress:
        bits = max(self.agreed.send_bits, MIN_OWN_BITS)
        # Z_RLE matches at distance one and nowhere else.
        strategy = zlib.Z_DEFAULT_STRATEGY if bits == self.agreed.send_bits else zlib.Z_RLE
        return zlib.compressobj(self.agreed.level, zlib.DEFLATED, -bits, self.agreed.mem_level, strategy)

    def decode(self, data: bytes, *, final: bool, limit: int) -> bytes:
        """Inflate one frame of a compressed message, or a piece of one (RFC 7692 s7.2.2).

        A message without any payload passes for an empty one, and so does one that ends right after a block with
        BFINAL set: senders exist that leave out the last octet of s7.2.3.4, and there is only one thing to be meant.

        Args:
            data: the next bytes of the message's payload; may be empty.
            final: whether they are the last of the message.
            limit: bytes by which the message may still grow; that many still pass. zlib stops one byte later, and
                about twice that is needed while CPython joins the blocks of its output.

        Raises:
            CodecError: 1009 as soon as the message is over the limit, or has over 131,072 BFINAL blocks; 1007 when
                the data is not valid, refers to before the window, or ends inside a block. Data that is invalid right
                behind the first byte over the limit can be either.
        """
        inflated = self._inflate(data, final, limit) if data else b""
        if final:
            if self._inflater is not None:
                _close(self._inflater)
                self._inflater = None
            if not self.agreed.receive_takeover:
                self._history = None
            self._streams = 0
        return inflated

    def _inflate(self, data: bytes, final: bool, limit: int) -> bytes:
        inflater = self._inflater
        if inflater is None:
            inflater = self._inflater = self._new_inflater()
        inflated = _run(inflater, data, limit)
        if inflater.eof:
            return self._go_on(data, inflater, inflated, limit)
        if self.agreed.receive_takeover or not final:
            self._remember(inflated)
        return inflated

    def _go_on(self, data: bytes, inflater: zlib._Decompress, inflated: bytes, limit: int) -> bytes:
        """A deflate stream ended within ``data``, which is legal (s7.2.3.4): what follows is another one.

        s7.2.3.5 has one message of two such streams. The sliding window goes on across them (s7.2.2).
        """
        parts = [inflated]
        limit -= len(inflated)
        self._remember(inflated)
        position = len(data) - len(inflater.unused_data)
        view = memoryview(data)
        # zlib gives a copy of what it did not use: feeding small slices keeps that linear.
        size = _FIRST_SLICE
        self._stream_ended()
        while position < len(data):
            if self._inflater is None:
                self._inflater = self._new_inflater()
            inflater = self._inflater
            piece = view[position : position + size]
            inflated = _run(inflater, piece, limit)
            position += len(piece) - len(inflater.unused_data)
            size *= 2
            if inflated:
                parts.append(inflated)
                limit -= len(inflated)
                self._remember(inflated)
            if inflater.eof:
                self._stream_ended()
                size = _FIRST_SLICE
        return b"".join(parts)

    def _stream_ended(self) -> None:
        self._inflater = None
        self._streams += 1
        if self._streams > MAX_STREAMS:
            raise CodecError(_TOO_BIG, f"compressed message has over {MAX_STREAMS} final blocks")

    def _new_inflater(self) -> zlib._Decompress:
        if self._history:
            return zlib.decompressobj(-MAX_BITS, self._history)
        return zlib.decompressobj(-MAX_BITS)

    def _remember(self, inflated: bytes) -> None:
        """Move the sliding window on."""
        # A peer that agreed to 8 bits and has an old zlib uses 9.
        window = 1 << max(self.agreed.receive_bits, MIN_OWN_BITS)
        history = self._history
        if history is None:
            history = self._history = bytearray()
        if len(inflated) >= window:
            history[:] = inflated[-window:]
        else:
            history += inflated
            if len(history) > window:
                del history[:-window]


def _run(inflater: zlib._Decompress, data: bytes | memoryview, limit: int) -> bytes:
    """Inflate all of ``data``, or fail at the first byte over the limit.

    zlib leaves input unconsumed only when its output is full, which here is one byte too much.
    """
    try:
        # 0 would mean that there is no limit.
        inflated = inflater.decompress(data, min(max(limit, 0), sys.maxsize - 1) + 1)
    except zlib.error:
        raise CodecError(_INVALID_DATA, "invalid compressed data") from None
    if len(inflated) > limit:
        raise CodecError(_TOO_BIG, "message is over the size limit when decompressed")
    return inflated


def _close(inflater: zlib._Decompress) -> None:
    """The end of a message: put back what the sender removed, and see that the message ended between two blocks."""
    # s7.2.2: "Append 4 octets of 0x00 0x00 0xff 0xff to the tail end of the payload of the message." By s7.2.1 they
    # complete an empty block: if anything comes out, they were taken for the content of another.
    inflated = _run(inflater, _TAIL, sys.maxsize) + _run(inflater, _CLOSING, sys.maxsize)
    if inflated or not inflater.eof or inflater.unused_data:
        raise CodecError(_INVALID_DATA, "compressed message ends inside a block")


def _read(params: Params, bare: Collection[str]) -> dict[str, int | None] | str:
    """Read an offer's or response's parameters: name to value, or what is wrong with them.

    ``bare`` names the window parameters that need no value.
    """
    found: dict[str, int | None] = {}
    for name, value in params:
        if name in found:
            return f"{name} is there twice"
        if name in (SERVER_NO_CONTEXT, CLIENT_NO_CONTEXT):
            if value is not None:
                return f"{name} has a value"
            found[name] = None
        elif name in (SERVER_BITS, CLIENT_BITS):
            # s7.1.2: a decimal integer "without leading zeroes between 8 to 15 inclusive".
            if value is None:
                if name not in bare:
                    return f"{name} has no value"
                found[name] = None
            elif _bits_value.fullmatch(value) is None:
                return f"{name} is not a number from 8 to 15"
            else:
                found[name] = int(value)
        else:
            return f"{name} is unknown"
    return found


def _canonical(values: dict[str, int | None]) -> Params:
    """Parameters in the order of s7.1."""
    order = (SERVER_NO_CONTEXT, CLIENT_NO_CONTEXT, SERVER_BITS, CLIENT_BITS)
    return tuple(
        (name, None if (value := values[name]) is None else str(value)) for name in order if name in values
    )


def _refused(params: Params, why: str) -> HandshakeError:
    shown = format_extensions([ExtensionItem(NAME, params)])
    return HandshakeError(f"the server agreed to {shown!r}, but {why}")


def _check_int(name: str, value: object, least: int, most: int | None, others: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int{others}, not {value!r}")
    if value < least or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"between {least} and {most}"
        raise ValueError(f"{name} must be {span}{others}, not {value}")
