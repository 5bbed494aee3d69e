"""For tests of the blocking adapter: what they leave behind is seen, and peers that are bare sockets.

The fixture `tidy` fails a test that leaves a thread, a file descriptor, or anything above DEBUG in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

import pytest

from adapterhelpers import (
    ListenerBase,
    RawBase,
    client_context,
    expect_log,
    nothing_left,
    port_of,
    request_to,
    response_to,
    server_context,
    uri_of,
)
from framebuilder import SAMPLE_ACCEPT, ParsedFrame, close_payload, parse_all
from wsframe import Disconnected, Request
from wsframe.sync import Server, WebSocket, connect, serve

__all__ = [
    "DEADLINE",
    "Endings",
    "Job",
    "Listener",
    "Raw",
    "client_context",
    "dial",
    "echo",
    "expect_log",
    "in_a_loop",
    "open_raw",
    "opened",
    "pair",
    "port_of",
    "server_context",
    "serving",
    "tidy",
    "tiny_switch_interval",
    "until",
    "uri_of",
    "waits",
]

T = TypeVar("T")

#: Seconds that any wait of a test may take, however slow the machine.
DEADLINE = 30.0


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Look at what a test leaves behind."""
    with nothing_left([]):
        yield


@pytest.fixture
def tiny_switch_interval() -> Iterator[None]:
    """Threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def until(condition: Callable[[], Any]) -> None:
    """Wait until something is true of which nobody tells us."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


class Job(Generic[T]):
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[..., T], *arguments: Any, name: str | None = None) -> None:
        self._function = function
        self._arguments = arguments
        self._value: T | None = None
        self._exception: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function(*self._arguments)
        except BaseException as exc:
            self._exception = exc

    @property
    def running(self) -> bool:
        return self.thread.is_alive()

    def result(self, timeout: float = DEADLINE) -> T:
        """What the function has returned; raises what it has raised."""
        self.thread.join(timeout)
        assert not self.running, "the thread does not end"
        if self._exception is not None:
            raise self._exception
        return self._value  # type: ignore[return-value]


def waits(job: Job[Any]) -> None:
    """Give a thread the time to begin to wait, and see that it does."""
    time.sleep(0.05)
    assert job.running


@contextlib.contextmanager
def in_a_loop(context: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """What is written for asyncio, a proxy for instance, in the event loop of another thread."""
    loop = asyncio.new_event_loop()
    job = Job(loop.run_forever, name="the event loop of a peer")

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(DEADLINE)

    try:
        value: T = run(context.__aenter__())
        try:
            yield value
        finally:
            run(context.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        job.result()
        loop.close()


class Raw(RawBase):
    """A peer that is a bare socket."""

    def __init__(self, sock: socket.socket, *, masks: bool) -> None:
        super().__init__(sock, masks=masks)
        sock.settimeout(DEADLINE)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send_frame(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        self.send(self.frame(opcode, payload, **options))

    def send_close(self, code: int | None = 1000, reason: bytes = b"") -> None:
        self.send_frame(8, close_payload(code, reason))

    def take(self, count: int) -> bytes:
        """So many bytes."""
        pieces, length = [self.received], len(self.received)
        while length < count:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError(f"{length} of {count} bytes came, then the end")
            pieces.append(data)
            length += len(data)
        self.received = b"".join(pieces)
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    def next_frame(self) -> ParsedFrame:
        """The next frame, which must be a legal one."""
        header = self.take(2)
        length = header[1] & 0x7F
        if length >= 126:
            extended = self.take(2 if length == 126 else 8)
            header += extended
            length = int.from_bytes(extended, "big")
        if header[1] & 0x80:
            header += self.take(4)
        (frame,) = parse_all(header + self.take(length))
        return frame

    def rest(self) -> bytes:
        """Everything up to the end of the stream, which a reset is not."""
        pieces = [self.received]
        while data := self.sock.recv(1 << 16):
            pieces.append(data)
        self.received = b""
        return b"".join(pieces)

    def head(self) -> bytes:
        """The head of an HTTP message."""
        while b"\r\n\r\n" not in self.received:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError(f"{self.received!r} came, then the end")
            self.received += data
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    def accept_websocket(self, *headers: str, then: bytes = b"") -> bytes:
        """Be a server: read a client's opening handshake and answer it."""
        request = self.head()
        self.send(response_to(request, *headers) + then)
        return request


# Servers of ours.


class Endings(list[Disconnected]):
    """What a server told its on_end."""

    def __call__(self, request: Request | None, address: Any, ending: Disconnected) -> None:
        self.append(ending)

    def one(self) -> Disconnected:
        until(lambda: self)
        (ending,) = self
        return ending


def echo(ws: WebSocket) -> None:
    """The handler of an echo server."""
    for message in ws:
        ws.send(message)


@contextlib.contextmanager
def serving(handler: Any = echo, *address: Any, **options: Any) -> Iterator[tuple[Server, Endings]]:
    """A server that is accepting, and what its on_end hears."""
    endings = Endings()
    if not {"sock", "unix_path"} & options.keys():
        address = address or ("127.0.0.1", 0)
    with serve(handler, *address, **{"on_end": endings, **options}) as server:
        job = Job(server.serve_forever)
        try:
            yield server, endings
        finally:
            server.close()
            job.result()


def dial(server: Server, *, receive_buffer: int | None = None) -> Raw:
    """A bare TCP connection to a server."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", port_of(server)))
    return Raw(sock, masks=True)


def open_raw(
    server: Server, *headers: tuple[str, str], receive_buffer: int | None = None, then: bytes = b""
) -> Raw:
    """A bare socket after the opening handshake of a client."""
    raw = dial(server, receive_buffer=receive_buffer)
    raw.send(request_to(server, *headers) + then)
    head = raw.head()
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert SAMPLE_ACCEPT.encode() in head
    return raw


# Clients of ours.


class Listener(ListenerBase):
    """A bare listening socket."""

    def __init__(self, receive_buffer: int | None = None) -> None:
        super().__init__(receive_buffer)
        self.sock.settimeout(DEADLINE)

    def accept(self) -> Raw:
        sock, _ = self.sock.accept()
        return Raw(sock, masks=False)


@contextlib.contextmanager
def opened(
    *headers: str, receive_buffer: int | None = None, then: bytes = b"", **options: Any
) -> Iterator[tuple[WebSocket, Raw]]:
    """A client of ours and the bare socket that serves it; the client is aborted in the end if it must be."""
    # Nobody answers pings here: on a machine that stands still for a while they would come between what is expected.
    options.setdefault("ping_interval", None)
    with Listener(receive_buffer) as listener:
        job = Job(lambda: connect(listener.uri, **options))
        with listener.accept() as raw:
            raw.accept_websocket(*headers, then=then)
            ws = job.result()
            try:
                yield ws, raw
            finally:
                ws.abort()


@contextlib.contextmanager
def pair(**options: Any) -> Iterator[tuple[WebSocket, WebSocket]]:
    """A client of ours, and the server's side of it."""
    sides: list[WebSocket] = []
    over = threading.Event()

    def handler(ws: WebSocket) -> None:
        sides.append(ws)
        over.wait(DEADLINE)

    with serving(handler, **options) as (server, _), connect(uri_of(server), **options) as ws:
        until(lambda: sides)
        try:
            yield ws, sides[0]
        finally:
            over.set()
