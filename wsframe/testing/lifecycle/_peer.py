"""The peer of the lifecycle suite: a bare socket, with or without TLS, that does one thing after the other.

It is driven by one thread and reads whenever it waits for anything, unless it was told not to. It knows frames only
from ``framebuilder``, which does not know wsframe.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Literal

from ..framebuilder import SAMPLE_MASK, ParsedFrame, accept_for, build, client_handshake_request, parse_all
from ._unread import unread

__all__ = ["Gone", "Peer", "TooLate"]

_CHUNK = 1 << 16
_NAMES = {0: "Continuation", 1: "Text", 2: "Binary", 8: "Close", 9: "Ping", 10: "Pong"}

#: The peer that stops reading has these buffers, so that little is under way.
SMALL_BUFFER = 4096


class TooLate(Exception):
    """What was waited for has not come in time."""


class Gone(Exception):
    """What was waited for cannot come any more: the stream has ended."""


class Peer:
    """One end of a connection.

    Args:
        sock: connected.
        masks: it is the client.
        context: the TLS context, or None.
        idle: called while there is nothing to read for a moment; the player listens to the driver there.

    Attributes:
        end: how the other side ended TCP: None (not at all), "FIN" or "RST".
        end_time: when, on the clock of ``time.monotonic``.
        secured: there is no TLS, or its handshake is done.
        close_notify: TLS was ended in order by the other side.
        head: the HTTP request or response of the other side.
        frames: those of the other side.
        garbage: what is wrong with what came, or None.
    """

    def __init__(self, sock: socket.socket, *, masks: bool, context: ssl.SSLContext | None = None) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.masks = masks
        self.end: Literal["FIN", "RST"] | None = None
        self.end_time: float | None = None
        self.close_notify = False
        self.head = b""
        self.frames: list[ParsedFrame] = []
        self.garbage: str | None = None
        self.closed = False
        self._reading = True
        self._received = b""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self.secured = context is None
        self._here, self._there = sock.getsockname(), sock.getpeername()
        if context is not None:
            self._tls = context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_side=not masks,
                server_hostname="127.0.0.1" if masks else None,
            )

    # Waiting.

    def step(self, timeout: float, *also: int) -> None:
        """Read what comes within that time, or until one of these descriptors is readable."""
        readers: list[int] = list(also)
        if self.wants_to_read:
            readers.append(self.sock.fileno())
        ready, _, _ = select.select(readers, [], [], max(0.0, timeout))
        if not self.closed and self.sock.fileno() in ready:
            self._read()

    @property
    def wants_to_read(self) -> bool:
        """There may be more to come, and it is read."""
        return self._reading and self.end is None and not self.closed

    def _read(self) -> None:
        data = self._receive()
        if not data:
            return
        if self._tls is None:
            self._take(data)
            return
        self._incoming.write(data)
        # Reading would begin the handshake, which may be the point of a row not to have.
        if self.secured:
            self._read_tls()

    def _receive(self) -> bytes:
        """What has come; empty, too, when there is nothing and when it is over, which is noted."""
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            self._note_end("RST")
            return b""
        if not data:
            self._note_end("FIN")
        return data

    def _read_tls(self) -> None:
        assert self._tls is not None
        try:
            while data := self._tls.read(_CHUNK):
                self._take(data)
            self.close_notify = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.close_notify = True
        except ssl.SSLError as exc:
            self.garbage = f"TLS: {exc.reason}"
        self._flush_tls()

    def _note_end(self, how: Literal["FIN", "RST"]) -> None:
        self.end = how
        self.end_time = time.monotonic()

    def has_arrived(self) -> bool:
        """The other side has read all that was sent, as far as this system tells."""
        return self.closed or unread(self._there, self._here) in (None, 0)

    # What came.

    def _take(self, data: bytes) -> None:
        self._received += data
        if not self.head:
            head, mark, rest = self._received.partition(b"\r\n\r\n")
            if not mark:
                return
            self.head = head + mark
            if self.masks and not head.startswith(b"HTTP/1.1 101"):
                # A refusal, with a body.
                return
            self._received = rest
        elif self.masks and self.status != 101:
            return
        self._take_frames()

    def _take_frames(self) -> None:
        while self.garbage is None and (length := _frame_length(self._received)) is not None:
            if len(self._received) < length:
                return
            piece, self._received = self._received[:length], self._received[length:]
            try:
                self.frames += parse_all(piece)
            except ValueError as exc:
                self.garbage = str(exc)

    @property
    def status(self) -> int | None:
        """Of the other side's response."""
        found = re.match(rb"HTTP/1\.\d (\d\d\d)", self.head)
        return int(found.group(1)) if found else None

    @property
    def key(self) -> str:
        """The client's Sec-WebSocket-Key."""
        found = re.search(rb"sec-websocket-key: *(\S+)", self.head, re.IGNORECASE)
        return found.group(1).decode("latin-1") if found else ""

    def wire(self) -> list[str]:
        """What came after, or instead of, the other side's half of a successful opening handshake, in words."""
        words = [] if self.status in (None, 101) else [f"HTTP {self.status}"]
        for frame in self.frames:
            name = _NAMES.get(frame.opcode, f"opcode {frame.opcode}")
            if frame.opcode == 8 and len(frame.payload) >= 2:
                name += f" {int.from_bytes(frame.payload[:2], 'big')}"
            elif frame.opcode == 0:
                # Part of what began before.
                continue
            if not words or words[-1] != name:
                words.append(name)
        return words

    def has_seen(self, what: str) -> Callable[[], bool]:
        """Whether something has come: "request", "response", "message", "EOF", or the name of a control frame."""
        tests: dict[str, Callable[[], bool]] = {
            "request": lambda: bool(self.head),
            "response": lambda: self.status is not None,
            "EOF": lambda: self.end is not None,
            "message": lambda: any(frame.opcode in (1, 2) for frame in self.frames),
        }
        opcodes = [opcode for opcode, name in _NAMES.items() if name == what]
        return tests.get(what) or (lambda: any(frame.opcode in opcodes for frame in self.frames))

    @property
    def close_frame(self) -> ParsedFrame | None:
        """The other side's Close."""
        return next((frame for frame in self.frames if frame.opcode == 8), None)

    # What it does.

    def handshake_tls(self, deadline: float) -> None:
        """The TLS handshake.

        Raises:
            TooLate: it does not come to an end.
            Gone: the other side has left.
            ssl.SSLError: it fails.
        """
        assert self._tls is not None
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush_tls()
            except ssl.SSLError:
                self._flush_tls()
                raise
            else:
                self.secured = True
                # The other side's first bytes may have come with the last of its handshake.
                self._read_tls()
                return
            if self.end is not None:
                raise Gone("the TLS handshake was cut off")
            if time.monotonic() > deadline:
                raise TooLate("TLS handshake")
            ready, _, _ = select.select([self.sock], [], [], 0.05)
            if ready:
                self._incoming.write(self._receive())

    def send(self, data: bytes, deadline: float) -> None:
        """Send bytes, and read meanwhile. What the other side does not want any more is lost."""
        if self._tls is not None:
            try:
                self._tls.write(data)
            except ssl.SSLError:
                return
            data = self._outgoing.read()
        self._send_raw(data, deadline)

    def _flush_tls(self) -> None:
        data = self._outgoing.read()
        if data:
            self._send_raw(data, time.monotonic() + 1)

    def _send_raw(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view and not self.closed and self.end != "RST":
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TooLate("sending") from None
                readers = [self.sock] if self.wants_to_read else []
                ready, _, _ = select.select(readers, [self.sock], [], 0.05)
                if ready:
                    self._read()
            except OSError:
                # It was reset; what came before that can still be read, and then the reset is found.
                return

    def send_raw(self, data: bytes, deadline: float) -> None:
        """Send bytes below TLS."""
        self._send_raw(data, deadline)

    def frame(
        self,
        opcode: int,
        payload: bytes = b"",
        *,
        fin: bool = True,
        rsv: int = 0,
        wrong_mask: bool = False,
        length_form: Literal[7, 16, 64] | None = None,
        cut: int | None = None,
    ) -> bytes:
        """A frame as this side sends it; see `Frame`."""
        mask = SAMPLE_MASK if self.masks != wrong_mask else None
        return build(opcode, payload, fin=fin, rsv=rsv, mask=mask, length_form=length_form)[:cut]

    def request(self, port: int, *, deflate: bool) -> bytes:
        """A client's half of the opening handshake."""
        headers = [("Sec-WebSocket-Extensions", "permessage-deflate")] if deflate else []
        return client_handshake_request(host=f"127.0.0.1:{port}", headers=headers)

    def response(self, *, deflate: bool) -> bytes:
        """A server's half."""
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept_for(self.key)}",
        ]
        if deflate:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate")
        return "\r\n".join([*lines, "", ""]).encode()

    def fill(self, data: bytes) -> bytes:
        """Put the accept value that belongs to the client's key where it is wanted."""
        return data.replace(b"{accept}", accept_for(self.key).encode())

    def finish(self, deadline: float) -> None:
        """End the stream, over TLS in order, and read on."""
        if self._tls is not None:
            # It complains that it has not got the other side's yet, which it does not need.
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._send_raw(self._outgoing.read(), deadline)
        self.cut()

    def cut(self) -> None:
        """End the TCP stream, whatever is above it, and read on."""
        # The other side may have reset it already.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def stop_reading(self) -> None:
        """Read no more."""
        self._reading = False

    def read_again(self) -> None:
        """Read again."""
        self._reading = True

    def close(self) -> None:
        """Close the socket."""
        self.closed = True
        self.sock.close()


def _frame_length(data: bytes) -> int | None:
    """How long the frame is that begins here, or None while that is not known."""
    if len(data) < 2:
        return None
    length = data[1] & 0x7F
    header = 2 + (4 if data[1] & 0x80 else 0)
    extended = {126: 2, 127: 8}.get(length, 0)
    if len(data) < 2 + extended:
        return None
    if extended:
        length = int.from_bytes(data[2 : 2 + extended], "big")
    return header + extended + length
