"""The frame codec in plain Python: RFC 6455 s5 as seen by one receiver and one sender of bytes.

This is the reference. It imports nothing from the package, calls no callback, and knows nothing of
connection states, time or HTTP. What it takes from the outside is numbers and flags, what it gives are
`Message`, `MessageChunk` and `Frame` objects, and what it finds wrong is a `CodecError`.
"""

from __future__ import annotations

import io
import os
from codecs import utf_8_decode
from collections.abc import Callable
from operator import index
from typing import Any, ClassVar, NoReturn, final

__all__ = [
    "Assembler",
    "CodecError",
    "Decoder",
    "Frame",
    "MaskingKeys",
    "Message",
    "MessageChunk",
    "apply_mask",
    "decode_header",
    "encode_frame",
    "encode_header",
]

BytesLike = bytes | bytearray | memoryview

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
_KNOWN_OPCODES = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_CONTROL = 0x08

_FIN = 0x80
_RSV1 = 0x40
_RSV23 = 0x30
_MASKED = 0x80

_PROTOCOL_ERROR = 1002
_INVALID_DATA = 1007
_TOO_BIG = 1009

_BAD_UTF8 = "invalid UTF-8 in a text message"

#: Limits above it are none: no frame is longer (s5.2), and a message that is has no place in memory.
_MOST = (1 << 63) - 1

#: What one `Decoder.decode` call takes at the most, in payload bytes; every piece of payload counts this much more, so
#: that a flood of empty messages or fragments is bounded as well.
_BUDGET = 1 << 20
_OBJECT_COST = 64

#: From here on four strided translations beat one XOR of two long integers.
_TRANSLATE_FROM = 2000


class CodecError(Exception):
    """The peer's bytes break RFC 6455 s5.

    Attributes:
        code: the Close code to fail the connection with (s7.4.1): 1002, 1007 or 1009.
        reason: what was wrong, short enough for a Close frame.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class _Value:
    """A read-only record: what a final cdef class is in the compiled codec."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        if _Value not in cls.__bases__:
            raise TypeError(f"{cls.__mro__[1].__name__} is final and cannot be subclassed")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} objects are read-only")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} objects are read-only")

    def _fields(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__match_args__)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash((type(self).__name__, *self._fields()))

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__match_args__)
        return f"{type(self).__name__}({shown})"


@final
class Message(_Value):
    """A whole message (RFC 6455 s5.4, s5.6).

    Attributes:
        data: ``str`` for a text message, ``bytes`` for a binary one; with ``decode_text=False`` the validated
            UTF-8 ``bytes`` of a text message.
        opcode: 1 (text) or 2 (binary).
    """

    __slots__ = ("data", "opcode")
    __match_args__ = ("data", "opcode")
    data: str | bytes
    opcode: int

    def __init__(self, data: str | bytes, opcode: int) -> None:
        _refuse_again(self)
        _set(self, "data", _checked_data(data))
        _set(self, "opcode", _checked_opcode(opcode))

    @property
    def is_text(self) -> bool:
        """Whether the message was sent as text."""
        return self.opcode == TEXT


# Messages are made by the million: without __init__, which need not check what the codec itself gives, and with the
# slots' own setters, which are the fastest way around the refusing __setattr__.
_new = object.__new__
_set_message_data = Message.__dict__["data"].__set__
_set_message_opcode = Message.__dict__["opcode"].__set__


def _new_message(data: str | bytes, opcode: int) -> Message:
    message = _new(Message)
    _set_message_data(message, data)
    _set_message_opcode(message, opcode)
    return message


_make_message: Callable[[str | bytes, int], Message] = _new_message


@final
class MessageChunk(_Value):
    """A part of a message, given out as it comes when streaming.

    Attributes:
        data: like `Message.data`; a chunk of text never ends inside a character.
        opcode: 1 (text) or 2 (binary), the same in all chunks of a message.
        first: this chunk begins a message.
        final: this chunk ends it; its data may be empty.
    """

    __slots__ = ("data", "final", "first", "opcode")
    __match_args__ = ("data", "opcode", "first", "final")
    data: str | bytes
    opcode: int
    first: bool
    final: bool

    def __init__(self, data: str | bytes, opcode: int, first: bool, final: bool) -> None:
        _refuse_again(self)
        _set(self, "data", _checked_data(data))
        _set(self, "opcode", _checked_opcode(opcode))
        _set(self, "first", bool(first))
        _set(self, "final", bool(final))

    @property
    def is_text(self) -> bool:
        """Whether the message is sent as text."""
        return self.opcode == TEXT


@final
class Frame(_Value):
    """One frame (RFC 6455 s5.2), its payload already unmasked.

    Attributes:
        opcode: 0 continuation, 1 text, 2 binary, 8 Close, 9 Ping, 10 Pong.
        payload: the unmasked payload.
        fin: the final fragment of a message.
        rsv1: the bit that marks a compressed message (RFC 7692 s6) in its first frame.
    """

    __slots__ = ("fin", "opcode", "payload", "rsv1")
    __match_args__ = ("opcode", "payload", "fin", "rsv1")
    opcode: int
    payload: bytes
    fin: bool
    rsv1: bool

    def __init__(self, opcode: int, payload: bytes, fin: bool = True, rsv1: bool = False) -> None:
        _refuse_again(self)
        if type(payload) is not bytes:
            raise TypeError(f"payload is bytes, not {type(payload).__name__}")
        _set(self, "opcode", _checked_opcode(opcode))
        _set(self, "payload", payload)
        _set(self, "fin", bool(fin))
        _set(self, "rsv1", bool(rsv1))


_set = object.__setattr__


def _refuse_again(value: _Value) -> None:
    """Read-only is read-only for a second ``__init__`` as well."""
    if hasattr(value, "opcode"):
        raise AttributeError(f"{type(value).__name__} objects are read-only")


def _checked_data(data: str | bytes) -> str | bytes:
    if not isinstance(data, str | bytes):
        raise TypeError(f"data is a str or bytes, not {type(data).__name__}")
    return data


def _checked_opcode(opcode: int) -> int:
    opcode = index(opcode)
    if not 0 <= opcode <= 15:
        raise ValueError(f"an opcode has four bits: {opcode} is none")
    # Of an enum's member the number alone.
    return int(opcode)


def adopt(codec: Any) -> None:
    """Make the value and error classes of another codec from now on, so that a process has one set of them."""
    for name in ("CodecError", "Frame", "Message", "MessageChunk"):
        globals()[name] = getattr(codec, name)
    globals()["_make_message"] = codec.Message


def apply_mask(data: BytesLike, key: BytesLike, offset: int = 0) -> bytes:
    """XOR ``data`` with the masking key (RFC 6455 s5.3); masking and unmasking are the same.

    Args:
        data: the bytes to (un)mask; they are not changed.
        key: 4 bytes.
        offset: position of ``data`` in the payload, for payloads that come in pieces.

    Raises:
        ValueError: the key is not 4 bytes long, or the offset is negative.
    """
    key = _key(key)
    offset = index(offset)
    if offset < 0:
        raise ValueError(f"offset must not be negative, but is {offset}")
    turn = offset & 3
    if turn:
        key = key[turn:] + key[:turn]
    return _xor(_bytes(data), key)


def _bytes(data: BytesLike) -> bytes:
    # bytes() alone would make zeros of a number and take any iterable.
    return data if type(data) is bytes else bytes(memoryview(data))


def _check_list(out: object) -> None:
    if type(out) is not list:
        # The compiled one cannot call what a subclass makes of append.
        raise TypeError(f"Argument 'out' has incorrect type (expected list, got {type(out).__name__})")


def _key(key: BytesLike) -> bytes:
    key = _bytes(key)
    if len(key) != 4:
        raise ValueError(f"a masking key has 4 bytes, not {len(key)}")
    return key


def _xor(data: bytes, key: bytes) -> bytes:
    length = len(data)
    if length < _TRANSLATE_FROM:
        pattern = (key * (length // 4 + 1))[:length]
        number = int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")
        return number.to_bytes(length, "little")
    result = bytearray(data)
    for lane, byte in enumerate(key):
        result[lane::4] = result[lane::4].translate(_XOR_TABLES[byte])
    return bytes(result)


_XOR_TABLES = [bytes(value ^ byte for value in range(256)) for byte in range(256)]


class MaskingKeys:
    """Unpredictable masking keys (RFC 6455 s5.3, s10.3) for one connection.

    Asking the system for four bytes a frame costs more than framing, so a small pool is filled at the first use.
    It is thrown away in the child of a fork: parent and child would otherwise use the same keys.

    Args:
        random_bytes: ``random_bytes(n)`` gives ``n`` bytes of strong entropy.
    """

    __slots__ = ("_generation", "_pool", "_position", "_random_bytes")

    POOL_SIZE = 1024

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._pool = b""
        self._position = 0
        self._generation = _fork_generation

    def next(self) -> bytes:
        """A fresh key of 4 bytes."""
        position = self._position
        if position >= len(self._pool) or self._generation != _fork_generation:
            # Looked at before: a fork while the bytes are being made would leave both processes with them.
            generation = _fork_generation
            pool = _bytes(self._random_bytes(self.POOL_SIZE))
            if len(pool) != self.POOL_SIZE:
                raise ValueError(f"random_bytes({self.POOL_SIZE}) gave {len(pool)} bytes")
            self._pool = pool
            self._generation = generation
            position = 0
        self._position = position + 4
        return self._pool[position : position + 4]


_fork_generation = 0


def _after_fork() -> None:
    global _fork_generation
    _fork_generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def encode_header(
    opcode: int, length: int, fin: bool = True, rsv1: bool = False, key: BytesLike | None = None
) -> bytes:
    """The header of a frame, with the masking key at its end if there is one (RFC 6455 s5.2).

    Args:
        opcode: a known opcode.
        length: payload length in bytes, below 2**63.
        fin: the final fragment of its message.
        rsv1: the compression bit.
        key: 4 bytes when the payload will be masked.

    Raises:
        ValueError: the opcode or the length is impossible, a control frame is fragmented, compressed or over
            125 bytes (s5.5), a continuation frame has the compression bit, or the key is not 4 bytes long.
    """
    if type(opcode) is not int:
        opcode = index(opcode)
    length = index(length)
    if opcode not in _KNOWN_OPCODES:
        raise ValueError(f"opcode {opcode} is not defined (RFC 6455 s5.2)")
    if opcode & _CONTROL:
        # s5.5: All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented.
        if length > 125:
            raise ValueError(f"a control frame carries at most 125 bytes, not {length} (RFC 6455 s5.5)")
        if not fin:
            raise ValueError("a control frame cannot be fragmented (RFC 6455 s5.5)")
        if rsv1:
            raise ValueError("a control frame cannot be compressed (RFC 7692 s6.1)")
    elif rsv1 and opcode == CONTINUATION:
        raise ValueError(
            "a continuation frame cannot have RSV1: the first frame of a message has it (RFC 7692 s6.1)"
        )
    first = opcode | (_FIN if fin else 0) | (_RSV1 if rsv1 else 0)
    masked = 0
    if key is not None:
        key = _key(key)
        masked = _MASKED
    # s5.2: the minimal number of bytes MUST be used to encode the length.
    if length < 126:
        if length < 0:
            raise ValueError(f"a payload cannot have {length} bytes")
        header = bytes((first, masked | length))
    elif length < 1 << 16:
        header = bytes((first, masked | 126)) + length.to_bytes(2, "big")
    elif length < 1 << 63:
        header = bytes((first, masked | 127)) + length.to_bytes(8, "big")
    else:
        raise ValueError("a payload must be shorter than 2**63 bytes (RFC 6455 s5.2)")
    return header if key is None else header + key


def encode_frame(
    opcode: int, payload: BytesLike | str, fin: bool = True, rsv1: bool = False, key: BytesLike | None = None
) -> bytes:
    """A whole frame, masked when there is a key.

    Args:
        opcode: a known opcode.
        payload: bytes-like, or a ``str`` which is encoded as UTF-8.
        fin: the final fragment of its message.
        rsv1: the compression bit.
        key: 4 bytes to mask with, or None.

    Raises:
        ValueError: as `encode_header`; also when a ``str`` has lone surrogates (``UnicodeEncodeError``).
    """
    # By the class: a subclass's own idea of encoding is not asked for.
    data = str.encode(payload) if isinstance(payload, str) else _bytes(payload)
    header = encode_header(opcode, len(data), fin, rsv1, key)
    return header + (data if key is None else _xor(data, header[-4:]))


def decode_header(data: BytesLike, position: int = 0) -> tuple[int, int, int, int] | None:
    """Read the first bytes of a frame up to the masking key, without judging opcode, direction or size.

    Args:
        data: the bytes.
        position: where the frame begins.

    Returns:
        None when more bytes are needed, else ``(first byte, second byte, payload length, position of what
        follows the length)``: the masking key if the second byte's top bit is set, else the payload.

    Raises:
        CodecError: the length is not minimal or has its top bit set (1002, s5.2).
        ValueError: the position is negative.
    """
    data = _bytes(data)
    position = index(position)
    if position < 0:
        raise ValueError(f"position must not be negative, but is {position}")
    return _read_header(data, position)


def _read_header(data: bytes, position: int) -> tuple[int, int, int, int] | None:
    have = len(data) - position
    if have < 2:
        return None
    first, second = data[position], data[position + 1]
    length = second & 0x7F
    if length < 126:
        return first, second, length, position + 2
    size, least = (2, 126) if length == 126 else (8, 1 << 16)
    if have < 2 + size:
        return None
    after = position + 2 + size
    length = int.from_bytes(data[position + 2 : after], "big")
    # s5.2: the minimal number of bytes MUST be used to encode the length.
    if length < least:
        raise CodecError(_PROTOCOL_ERROR, f"length {length} is not encoded in the fewest bytes")
    # s5.2: the most significant bit MUST be 0.
    if length >= 1 << 63:
        raise CodecError(_PROTOCOL_ERROR, "frame length has its top bit set")
    return first, second, length, after


class Assembler:
    """Put one message together from pieces of its unmasked, uncompressed payload (RFC 6455 s5.4, s5.6).

    Text is checked piece by piece and fails at the first byte that cannot become valid UTF-8 (s8.1). After any
    exception only ``begin`` makes sense.

    Args:
        stream: give out a `MessageChunk` for each piece instead of one `Message` at the end.
        decode_text: give text as ``str``; else as validated ``bytes``.
    """

    __slots__ = ("_decode_text", "_first", "_opcode", "_parts", "_stream", "_tail")

    def __init__(self, stream: bool, decode_text: bool) -> None:
        self._stream = stream
        self._decode_text = decode_text
        self.begin(0)

    def begin(self, opcode: int) -> None:
        """Start a message of that opcode (1 text, 2 binary), and forget the one before."""
        self._opcode = opcode
        self._first = True
        # What came so far when it came in pieces, in one buffer: a list would cost an object for each byte sent alone.
        self._parts: io.StringIO | io.BytesIO | None = None
        # The bytes of a character whose end has not come yet.
        self._tail = b""

    def add(self, piece: bytes, final: bool, out: list[Any]) -> None:
        """Take the next piece, the last one of its message if ``final``, and append to ``out`` what is finished.

        Raises:
            CodecError: 1007, invalid UTF-8; when streaming, the characters before it are in ``out``.
        """
        data = self._check(piece, final, out) if self._opcode == TEXT else piece
        if self._stream:
            if data or final:
                self._give_chunk(data, final, out)
        elif final and self._parts is None:
            out.append(_make_message(data, self._opcode))
        else:
            if self._parts is None:
                self._parts = io.StringIO() if isinstance(data, str) else io.BytesIO()
            self._parts.write(data)  # type: ignore[arg-type]
            if final:
                out.append(_make_message(self._parts.getvalue(), self._opcode))
                self._parts = None

    def _give_chunk(self, data: str | bytes, final: bool, out: list[Any]) -> None:
        out.append(MessageChunk(data, self._opcode, self._first, final))
        self._first = False

    def _check(self, piece: bytes, final: bool, out: list[Any]) -> str | bytes:
        """The whole characters that end in ``piece``, in the form in which they are given out."""
        if self._tail:
            piece = self._tail + piece
        try:
            text, used = utf_8_decode(piece, "strict", final)
        except UnicodeDecodeError as exc:
            used = exc.start
            valid = False
        else:
            # A surrogate is known by its second byte (RFC 3629 s4), but CPython waits for the third.
            valid = not b"\xed\xa0" <= piece[used:] < b"\xee"
        if not valid:
            # Streaming, the same must be given out however the bytes were cut.
            if self._stream and used:
                self._give_chunk(
                    str(piece[:used], "utf-8") if self._decode_text else piece[:used], False, out
                )
            raise CodecError(_INVALID_DATA, _BAD_UTF8)
        self._tail = piece[used:]
        return text if self._decode_text else piece[:used]


class Decoder:
    """Turn received bytes into messages and, for all that is not plain data, frames.

    Args:
        expect_masked: whether the peer must mask (s5.1: a client must, a server must not).
        max_message_size: payload bytes of one message; that size itself passes. For a compressed message, which comes
            out frame by frame, it bounds the compressed bytes with some room for incompressible data: the real
            limit is for the one who inflates.
        max_fragments: frames of one message.
        allow_rsv1: an extension that uses RSV1 has been agreed.
        stream: give out `MessageChunk` as payload comes instead of `Message`.
        decode_text: give text as ``str``; else as validated ``bytes``.

    Attributes:
        has_more: ``decode`` stopped at its bound of work (1 MiB of payload) with input left: call it again.
        frames: complete frames so far, in which nothing was wrong.
    """

    __slots__ = (
        "_allow_rsv1",
        "_assembler",
        "_budget",
        "_buffer",
        "_compressed",
        "_decode_text",
        "_express_size",
        "_failed",
        "_fed",
        "_fin",
        "_fragments",
        "_in_frame",
        "_key",
        "_left",
        "_mask_bit",
        "_max_fragments",
        "_max_size",
        "_opcode",
        "_partial",
        "_pieces",
        "_position",
        "_size",
        "_stream",
        "frames",
        "has_more",
    )

    def __init__(
        self,
        expect_masked: bool,
        max_message_size: int,
        max_fragments: int,
        allow_rsv1: bool = False,
        stream: bool = False,
        decode_text: bool = True,
    ) -> None:
        max_message_size = index(max_message_size)
        max_fragments = index(max_fragments)
        if max_message_size < 0 or max_fragments < 0:
            raise ValueError("a limit cannot be negative")
        self._mask_bit = _MASKED if expect_masked else 0
        self._max_size = min(max_message_size, _MOST)
        self._max_fragments = min(max_fragments, _MOST)
        self._allow_rsv1 = allow_rsv1
        self._stream = stream
        self._decode_text = decode_text
        # The longest message that may take the express lane; below 0 none may.
        self._express_size = -1 if stream or max_fragments < 1 else min(max_message_size, 0xFFFF)
        self.has_more = False
        self.frames = 0
        # The input: what is behind the position in the buffer, and then what was fed while that was not used up.
        self._buffer = b""
        self._position = 0
        self._fed: list[bytes] = []
        self._failed = False
        self._budget = _BUDGET
        # The message in progress (s5.4). An opcode of 0 means that there is none: a buffer can be empty all the same.
        self._opcode = 0
        self._compressed = False
        self._fragments = 0
        self._size = 0
        self._assembler = Assembler(stream, decode_text)
        # The compressed frame in progress, and how many Frames its message has given so far.
        self._pieces = 0
        self._partial: bytearray | None = None
        # The data frame in progress, once its header is complete.
        self._in_frame = False
        self._fin = False
        self._left = 0
        self._key = b""

    @property
    def pending(self) -> bool:
        """There are bytes of an unfinished frame or frames of an unfinished message; never after an error."""
        if self._failed:
            return False
        return self._opcode != 0 or self._position < len(self._buffer) or bool(self._fed)

    def feed(self, data: BytesLike) -> None:
        """Take received bytes; ``decode`` does the work.

        The compiled codec may go on looking at ``data`` until ``decode`` returns None or raises, or until the next
        ``feed``. An exception (a TypeError, or out of memory) means that nothing was taken.
        """
        data = _bytes(data)
        if not data or self._failed:
            return
        if self._position == len(self._buffer) and not self._fed:
            self._buffer = data
            self._position = 0
        else:
            # Not joined here: many small feeds behind much unused input would each copy all of it.
            self._fed.append(data)

    def keep_rest(self) -> None:
        """Stop borrowing what was fed. To be called when ``decode`` gave a frame and is not called again at once."""
        # This codec always copies.

    def decode(self, out: list[Any]) -> Frame | None:
        """Append finished messages (or chunks) to ``out`` until something else comes.

        Returns:
            the first thing that is not plain data: a control frame, or a data frame of a compressed message;
            None when the input is used up or the bound of work is reached (see ``has_more``).

        Raises:
            CodecError: the peer broke the protocol. What came before it is in ``out``. From then on input is ignored.

        Any other exception that ends it halfway, such as MemoryError, ends the decoder in the same way: going on with a
        lost place in the input would mean to take payload for headers.
        """
        _check_list(out)
        self.has_more = False
        if self._failed:
            return None
        try:
            frame = self._decode(out)
        except BaseException:
            # By itself enough, should there be no memory for the rest.
            self._failed = True
            self._give_up()
            raise
        if frame is None:
            self._budget = _BUDGET
        return frame

    def receive(self, buffer: BytesLike, size: int, out: list[Any]) -> Frame | None:
        """``feed`` the first ``size`` bytes of a buffer and ``decode``, in one step.

        Raises:
            ValueError: the buffer has less than that.
            CodecError: as ``decode``.
        """
        _check_list(out)
        size = index(size)
        if size < 0:
            raise ValueError(f"cannot take {size} bytes")
        view = memoryview(buffer)
        if size > view.nbytes:
            raise ValueError(f"cannot take {size} bytes of {view.nbytes}")
        # Only the part that is wanted is copied, where it can be cut out.
        self.feed(bytes(view[:size]) if view.format == "B" and view.ndim == 1 else bytes(view)[:size])
        return self.decode(out)

    def _give_up(self) -> None:
        """Keep nothing of what a failed connection has sent."""
        self._buffer = b""
        self._position = 0
        self._fed.clear()
        self._in_frame = False
        self._opcode = 0
        self._partial = None
        self._assembler.begin(0)

    def _decode(self, out: list[Any]) -> Frame | None:
        if self._fed:
            # All of it, so that neither pieces nor the bound of work depend on how it was fed.
            self._buffer = b"".join((self._buffer[self._position :], *self._fed))
            self._position = 0
            self._fed.clear()
        while True:
            if not self._opcode:
                self._whole_messages(out)
            if self._budget <= 0:
                self.has_more = self._position < len(self._buffer)
                return None
            before = self._position
            frame = self._step(out)
            if frame is not None:
                return frame
            if self._position == before:
                # More bytes are needed: what is left is at the most a control frame that is not complete.
                self._buffer = self._buffer[before:]
                self._position = 0
                return None

    def _whole_messages(self, out: list[Any]) -> None:
        """The express lane: messages in one frame that is all here, not compressed and below 64 KiB.

        It stops before anything else and judges nothing but UTF-8: the rest is for `_step`.
        """
        buffer = self._buffer
        position = self._position
        end = len(buffer)
        budget = self._budget
        mask_bit = self._mask_bit
        header = 6 if mask_bit else 2
        longest = self._express_size
        decode_text = self._decode_text
        append = out.append
        before = len(out)
        make_message = _make_message
        from_bytes = int.from_bytes
        while position + 2 <= end and budget > 0:
            first = buffer[position]
            if first != 0x81 and first != 0x82:
                break
            length = buffer[position + 1] ^ mask_bit
            start = position + header
            if length > 125:
                if length != 126 or position + 4 > end:
                    break
                length = buffer[position + 2] << 8 | buffer[position + 3]
                start += 2
                if length < 126:
                    break
            stop = start + length
            if stop > end or length > longest:
                break
            payload = buffer[start:stop]
            if mask_bit:
                key = buffer[start - 4 : start]
                if length > 125:
                    payload = _xor(payload, key)
                else:
                    # _xor once more: for a short message the call is a tenth of the work.
                    number = from_bytes(payload, "little") ^ from_bytes((key * 32)[:length], "little")
                    payload = number.to_bytes(length, "little")
            if first == 0x82:
                append(make_message(payload, BINARY))
            else:
                try:
                    text = str(payload, "utf-8")
                except UnicodeDecodeError:
                    self.frames += len(out) - before
                    raise CodecError(_INVALID_DATA, _BAD_UTF8) from None
                append(make_message(text if decode_text else payload, TEXT))
            position = stop
            budget -= length + _OBJECT_COST
        self._position = position
        self._budget = budget
        self.frames += len(out) - before

    def _step(self, out: list[Any]) -> Frame | None:
        """Go on by one header, control frame or stretch of payload; no progress means that more bytes are needed."""
        buffer = self._buffer
        end = len(buffer)
        if self._in_frame:
            return self._payload(out) if self._position < end else None
        if self._position + 2 > end:
            return None
        self._judge(buffer[self._position], buffer[self._position + 1])
        found = _read_header(buffer, self._position)
        if found is None:
            return None
        first, _, length, position = found
        opcode = first & 0x0F
        start = position + (4 if self._mask_bit else 0)
        if opcode & _CONTROL:
            stop = start + length
            if stop > end:
                return None
            payload = buffer[start:stop]
            if self._mask_bit:
                payload = _xor(payload, buffer[position:start])
            self._position = stop
            self.frames += 1
            return Frame(opcode, payload, True, False)
        compressed = self._compressed if opcode == CONTINUATION else bool(first & _RSV1)
        self._bound(length, opcode, compressed)
        if start > end:
            return None
        if opcode != CONTINUATION:
            self._opcode = opcode
            self._compressed = compressed
            self._fragments = self._size = self._pieces = 0
            if not compressed:
                self._assembler.begin(opcode)
        self._fragments += 1
        self._size += length
        self._in_frame = True
        self._fin = bool(first & _FIN)
        self._left = length
        self._key = buffer[position:start]
        self._position = start
        return self._payload(out)

    def _judge(self, first: int, second: int) -> None:
        """What the first two bytes of a frame can break; the order is part of the interface."""
        opcode = first & 0x0F
        # s5.2: RSV bits MUST be 0 unless an extension is negotiated that defines them.
        if first & _RSV23:
            raise CodecError(_PROTOCOL_ERROR, "reserved bit RSV2 or RSV3 is set")
        if first & _RSV1 and not self._allow_rsv1:
            raise CodecError(_PROTOCOL_ERROR, "reserved bit RSV1 is set and no extension was agreed")
        if opcode not in _KNOWN_OPCODES:
            raise CodecError(_PROTOCOL_ERROR, f"reserved opcode {opcode}")
        # RFC 7692 s6.1: RSV1 belongs to the first frame of a message, and only to data.
        if first & _RSV1 and (opcode & _CONTROL or opcode == CONTINUATION):
            raise CodecError(_PROTOCOL_ERROR, "RSV1 is set on a control or continuation frame")
        if opcode & _CONTROL:
            # s5.5: control frames have at most 125 bytes and are not fragmented.
            if not first & _FIN:
                raise CodecError(_PROTOCOL_ERROR, "fragmented control frame")
            if second & 0x7F > 125:
                raise CodecError(_PROTOCOL_ERROR, "control frame over 125 bytes")
        elif opcode == CONTINUATION:
            if not self._opcode:
                raise CodecError(_PROTOCOL_ERROR, "continuation frame without a message to continue")
        elif self._opcode:
            # s5.4: the fragments of one message MUST NOT be interleaved with those of another.
            raise CodecError(_PROTOCOL_ERROR, "new message before the last fragment of the one in progress")
        if second & _MASKED != self._mask_bit:
            # s5.1: a server MUST close on an unmasked frame, a client on a masked one.
            wrong = (
                "not masked, but a client must mask"
                if self._mask_bit
                else "masked, but a server must not mask"
            )
            raise CodecError(_PROTOCOL_ERROR, f"frame is {wrong}")

    def _bound(self, length: int, opcode: int, compressed: bool) -> None:
        """Refuse a data frame that takes its message over a limit, before a byte of it is kept."""
        size, fragments = (self._size, self._fragments) if opcode == CONTINUATION else (0, 0)
        size += length
        fragments += 1
        if fragments > self._max_fragments:
            raise CodecError(_TOO_BIG, f"message has over {self._max_fragments} fragments")
        limit = self._max_size
        if compressed:
            # Incompressible data grows a little, and every fragment may end with an empty block.
            limit += (limit >> 3) + 1024 + 64 * fragments
        if size > limit:
            raise CodecError(
                _TOO_BIG, f"message of {size} bytes or more is over the limit of {self._max_size}"
            )

    def _payload(self, out: list[Any]) -> Frame | None:
        """Take what there is of the current data frame's payload."""
        start = self._position
        piece = self._buffer[start : start + self._left]
        take = len(piece)
        if self._mask_bit and take:
            piece = _xor(piece, self._key)
            turn = take & 3
            if turn:
                self._key = self._key[turn:] + self._key[:turn]
        self._budget -= take + _OBJECT_COST
        self._position = start + take
        self._left -= take
        whole = self._left == 0
        final = whole and self._fin
        frame = None
        if self._compressed:
            frame = self._compressed_piece(piece, whole, final)
        elif piece or final:
            self._assembler.add(piece, final, out)
        if whole:
            self._in_frame = False
            self.frames += 1
        if final:
            self._opcode = 0
        return frame

    def _compressed_piece(self, piece: bytes, whole: bool, final: bool) -> Frame | None:
        """Compressed data leaves frame by frame, or, when streaming, piece by piece as if fragmented finer."""
        if self._stream:
            if not piece and not final:
                return None
        elif not whole:
            if self._partial is None:
                self._partial = bytearray()
            self._partial += piece
            return None
        elif self._partial is not None:
            self._partial += piece
            piece = bytes(self._partial)
            self._partial = None
        self._pieces += 1
        first = self._pieces == 1
        return Frame(self._opcode if first else CONTINUATION, piece, final, first)
