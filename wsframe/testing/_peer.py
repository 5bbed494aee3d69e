"""A peer that does what it is told: sends and expects bytes and frames, legal or not.

It has no protocol of its own: it answers no ping and no Close, and keeps no deadline but that of waiting. `Peer` is for
asyncio, on any event loop, and so in memory on the `VirtualClockLoop`; `BlockingPeer` is for a blocking socket.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import socket
import struct
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

from .. import Frame, Opcode, Role, accept_value, pack, pack_close, parse_uri, unpack, unpack_close

__all__ = ["BlockingPeer", "Peer", "PeerListener", "listen"]

#: Seconds that anything which is expected may take.
_PATIENCE = 30.0

#: Payload bytes of a frame that is expected.
_MAX_FRAME = 1 << 30

Payload = str | bytes | bytearray | memoryview


class _Script:
    """What both kinds of peers share: bytes that were received and not taken yet, and how frames are made."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.received = b""
        self._ended = False

    def frame(
        self, data: Payload, opcode: int | None = None, *, fin: bool = True, rsv1: bool = False
    ) -> bytes:
        """A frame as bytes, with the masking that the role demands (RFC 6455 s5.1)."""
        return pack(data, opcode, fin=fin, rsv1=rsv1, mask=self.role is Role.CLIENT)

    def _take_frame(self) -> Frame | None:
        frame, self.received = unpack(self.received, max_size=_MAX_FRAME, allow_rsv1=True)
        return frame

    def _take_head(self) -> bytes | None:
        head, separator, rest = self.received.partition(b"\r\n\r\n")
        if not separator:
            return None
        self.received = rest
        return head + separator

    def _take(self, size: int) -> bytes | None:
        if len(self.received) < size:
            return None
        taken, self.received = self.received[:size], self.received[size:]
        return taken

    def _feed(self, data: bytes) -> None:
        if not data:
            self._ended = True
        self.received += data

    def _missing(self, what: str) -> AssertionError:
        return AssertionError(f"expected {what}; came {self.received!r}, then the end of the stream")

    def _check(self, what: str, expected: Any, found: Any) -> None:
        if expected is not None and found != expected:
            raise AssertionError(f"expected {what} {expected!r}, not {found!r}")

    def _check_frame(self, frame: Frame, opcode: int | None, payload: Payload | None) -> None:
        self._check("opcode", opcode, frame.opcode)
        self._check("payload", payload.encode() if isinstance(payload, str) else payload, frame.payload)

    def _check_close(self, frame: Frame, code: int | None, reason: str | None) -> None:
        self._check("opcode", Opcode.CLOSE, frame.opcode)
        found, text = unpack_close(frame.payload)
        self._check("Close code", code, found)
        self._check("Close reason", reason, text)

    def _request(self, host: str, target: str, headers: tuple[str, ...]) -> tuple[bytes, str]:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {target} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            *headers,
            "\r\n",
        ]
        return "\r\n".join(lines).encode(), key

    def _check_response(self, head: bytes, key: str) -> None:
        if not head.startswith(b"HTTP/1.1 101 "):
            raise AssertionError(f"expected a 101 response, not {head!r}")
        if accept_value(key).encode() not in head:
            raise AssertionError(f"the response has no right Sec-WebSocket-Accept: {head!r}")

    def _response(self, request: bytes, headers: tuple[str, ...]) -> bytes:
        for line in request.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            if name.lower() == "sec-websocket-key":
                break
        else:
            raise AssertionError(f"expected an opening handshake, not {request!r}")
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept_value(value.strip())}",
            *headers,
            "\r\n",
        ]
        return "\r\n".join(lines).encode()


class Peer(_Script):
    """A scripted peer on asyncio: as a client from ``connect``, as a server from `listen`.

    Everything that is expected is waited for, 30 seconds at the most, and what else comes is an `AssertionError`.
    Leaving its ``async with`` block closes it.

    Args:
        role: CLIENT masks what it sends.
        reader: what it receives.
        writer: where it sends.

    Attributes:
        received: bytes that came and were not expected yet.
    """

    def __init__(self, role: Role, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(role)
        self._reader = reader
        self._writer = writer

    @classmethod
    async def dial(cls, host: str, port: int) -> Peer:
        """A client that is connected, and has said nothing."""
        return cls(Role.CLIENT, *await asyncio.open_connection(host, port))

    @classmethod
    async def connect(cls, uri: str, *headers: str) -> Peer:
        """A client whose opening handshake is done (RFC 6455 s4.1).

        Args:
            uri: a ``ws://`` URI.
            headers: further lines of the request.

        Raises:
            AssertionError: the server refused it.
        """
        parts = parse_uri(uri)
        peer = await cls.dial(parts.host, parts.port)
        try:
            request, key = peer._request(parts.host, parts.target, headers)
            await peer.send(request)
            peer._check_response(await peer.expect_head(), key)
        except BaseException:
            peer.reset()
            raise
        return peer

    async def accept(self, *headers: str) -> bytes:
        """Be a server: read the opening handshake and answer it (s4.2); return the request's head."""
        request = await self.expect_head()
        await self.send(self._response(request, headers))
        return request

    # Sending.

    async def send(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def send_frame(
        self, data: Payload, opcode: int | None = None, *, fin: bool = True, rsv1: bool = False
    ) -> None:
        """Send a frame; by default a message of one frame: text from a ``str``, else binary."""
        await self.send(self.frame(data, opcode, fin=fin, rsv1=rsv1))

    async def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close frame."""
        await self.send(self.frame(pack_close(code, reason), Opcode.CLOSE))

    def send_eof(self) -> None:
        """Send the end of the stream (TCP's FIN); receiving goes on."""
        self._writer.write_eof()

    # Expecting.

    async def _read(self) -> None:
        if self._ended:
            return
        async with asyncio.timeout(_PATIENCE):
            self._feed(await self._reader.read(1 << 16))

    async def expect(self, data: bytes) -> None:
        """Exactly these bytes come next."""
        while (found := self._take(len(data))) is None:
            if self._ended:
                raise self._missing(repr(data))
            await self._read()
        self._check("bytes", data, found)

    async def expect_head(self) -> bytes:
        """The head of an HTTP message comes next."""
        while (head := self._take_head()) is None:
            if self._ended:
                raise self._missing("the head of an HTTP message")
            await self._read()
        return head

    async def expect_frame(self, payload: Payload | None = None, opcode: int | None = None) -> Frame:
        """A frame comes next: any, or one with that payload and opcode (1 is text, 2 is binary, 9 is ping)."""
        while (frame := self._take_frame()) is None:
            if self._ended:
                raise self._missing("a frame")
            await self._read()
        self._check_frame(frame, opcode, payload)
        return frame

    async def expect_close(self, code: int | None = None, reason: str | None = None) -> None:
        """A Close frame comes next: any, or one with that code and reason."""
        self._check_close(await self.expect_frame(), code, reason)

    async def expect_eof(self) -> None:
        """The end of the stream comes next, and nothing before it. A reset is not that end: `ConnectionResetError`."""
        while not self._ended:
            if self.received:
                break
            await self._read()
        if self.received:
            raise AssertionError(f"expected the end of the stream, not {self.received!r}")

    # Ending.

    def reset(self) -> None:
        """Drop the connection at once. What was sent and not received yet may be lost."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class PeerListener:
    """Where clients connect to peers. Made by `listen`.

    Attributes:
        uri: for the client under test.
    """

    def __init__(self) -> None:
        self.uri = ""
        self._accepted: asyncio.Queue[Peer] = asyncio.Queue()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted.put_nowait(Peer(Role.SERVER, reader, writer))

    async def accept(self) -> Peer:
        """The next connection; its opening handshake is still to be read (``await peer.accept()``)."""
        async with asyncio.timeout(_PATIENCE):
            return await self._accepted.get()


@contextlib.asynccontextmanager
async def listen(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[PeerListener]:
    """Be a server of scripted peers."""
    listener = PeerListener()
    server = await asyncio.start_server(listener._take, host, port)
    try:
        listener.uri = f"ws://{host}:{server.sockets[0].getsockname()[1]}/"
        yield listener
    finally:
        server.close()


class BlockingPeer(_Script):
    """The same on a blocking socket; nothing in it waits for longer than 30 seconds.

    Args:
        role: CLIENT masks what it sends.
        sock: a connected socket, which belongs to it from now on.
    """

    def __init__(self, role: Role, sock: socket.socket) -> None:
        super().__init__(role)
        sock.settimeout(_PATIENCE)
        self.sock = sock

    @classmethod
    def dial(cls, host: str, port: int) -> BlockingPeer:
        """A client that is connected, and has said nothing."""
        return cls(Role.CLIENT, socket.create_connection((host, port), _PATIENCE))

    @classmethod
    def connect(cls, uri: str, *headers: str) -> BlockingPeer:
        """As `Peer.connect`."""
        parts = parse_uri(uri)
        peer = cls.dial(parts.host, parts.port)
        try:
            request, key = peer._request(parts.host, parts.target, headers)
            peer.send(request)
            peer._check_response(peer.expect_head(), key)
        except BaseException:
            peer.close()
            raise
        return peer

    def accept(self, *headers: str) -> bytes:
        """As `Peer.accept`."""
        request = self.expect_head()
        self.send(self._response(request, headers))
        return request

    # Sending.

    def send(self, data: bytes) -> None:
        """Send bytes, whatever they are."""
        self.sock.sendall(data)

    def send_frame(
        self, data: Payload, opcode: int | None = None, *, fin: bool = True, rsv1: bool = False
    ) -> None:
        """As `Peer.send_frame`."""
        self.send(self.frame(data, opcode, fin=fin, rsv1=rsv1))

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close frame."""
        self.send(self.frame(pack_close(code, reason), Opcode.CLOSE))

    def send_eof(self) -> None:
        """Send the end of the stream (TCP's FIN); receiving goes on."""
        self.sock.shutdown(socket.SHUT_WR)

    # Expecting.

    def _read(self) -> None:
        if not self._ended:
            self._feed(self.sock.recv(1 << 16))

    def expect(self, data: bytes) -> None:
        """Exactly these bytes come next."""
        while (found := self._take(len(data))) is None:
            if self._ended:
                raise self._missing(repr(data))
            self._read()
        self._check("bytes", data, found)

    def expect_head(self) -> bytes:
        """The head of an HTTP message comes next."""
        while (head := self._take_head()) is None:
            if self._ended:
                raise self._missing("the head of an HTTP message")
            self._read()
        return head

    def expect_frame(self, payload: Payload | None = None, opcode: int | None = None) -> Frame:
        """As `Peer.expect_frame`."""
        while (frame := self._take_frame()) is None:
            if self._ended:
                raise self._missing("a frame")
            self._read()
        self._check_frame(frame, opcode, payload)
        return frame

    def expect_close(self, code: int | None = None, reason: str | None = None) -> None:
        """As `Peer.expect_close`."""
        self._check_close(self.expect_frame(), code, reason)

    def expect_eof(self) -> None:
        """As `Peer.expect_eof`."""
        while not self._ended and not self.received:
            self._read()
        if self.received:
            raise AssertionError(f"expected the end of the stream, not {self.received!r}")

    # Ending.

    def reset(self) -> None:
        """Close so that the other side sees a reset. What was sent and not received yet may be lost."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close the connection."""
        self.sock.close()

    def __enter__(self) -> BlockingPeer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
