"""For tests of the asyncio adapter: a way to run them that sees what they leave behind, and raw peers.

`aio_test` makes a test of a coroutine function, for asyncio's own event loop and for uvloop where that is installed.
It fails when the test leaves a task, a timer, a thread, a file descriptor, a future with an exception that nobody has
seen, or anything above DEBUG in the logs of wsframe and asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import importlib
import importlib.util
import inspect
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar
from unittest import mock

import pytest

from adapterhelpers import (
    ListenerBase,
    RawBase,
    client_context,
    expect_log,
    needs_ipv6,
    nothing_left,
    port_of,
    request_to,
    response_to,
    server_context,
    uri_of,
)
from framebuilder import SAMPLE_ACCEPT, ParsedFrame, close_payload, parse_all
from wsframe import Disconnected
from wsframe.aio import WebSocket, serve

__all__ = [
    "DEADLINE",
    "LOOPS",
    "LOOP_TRANSPORTS",
    "Endings",
    "Hold",
    "Listener",
    "Raw",
    "aio_test",
    "cancelled_after",
    "client_context",
    "dial",
    "echo",
    "expect_log",
    "held",
    "loop_factory",
    "needs_ipv6",
    "nothing_goes_on",
    "open_raw",
    "opened",
    "port_of",
    "run",
    "server_context",
    "transports_of",
    "until",
    "uri_of",
    "warm_up",
    "without_proxies",
]

T = TypeVar("T")

#: Seconds that any test may take, however slow the machine.
DEADLINE = 60.0

_needs_uvloop = pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed"
)

LOOPS = ["asyncio", pytest.param("uvloop", marks=_needs_uvloop)]


#: The same loops, but plain TCP goes through their own transports, as TLS always does.
LOOP_TRANSPORTS = ["asyncio-transports", pytest.param("uvloop-transports", marks=_needs_uvloop)]

#: Modules whose tests run on both ways; on the others it makes no difference, or TLS has the second one.
BOTH_WAYS = (
    "test_aio_addresses",
    "test_aio_broadcast",
    "test_aio_client",
    "test_aio_closing",
    "test_aio_flow",
    "test_aio_registry",
    "test_aio_resets",
    "test_aio_server",
    "test_aio_streaming",
    "test_aio_trace",
)


def loop_factory(loop_kind: str) -> Callable[[], asyncio.AbstractEventLoop]:
    module = importlib.import_module(loop_kind.partition("-")[0])
    factory: Callable[[], asyncio.AbstractEventLoop] = module.new_event_loop
    return factory


def transports_of(loop_kind: str) -> contextlib.AbstractContextManager[Any]:
    """While this lasts, plain TCP is carried by what that kind of loop says."""
    own = not loop_kind.endswith("-transports")
    return mock.patch.dict(os.environ, {} if own else {"WSFRAME_LOOP_TRANSPORTS": "1"})


@contextlib.contextmanager
def without_proxies() -> Iterator[None]:
    """While this lasts, the environment names no proxies but those that a test sets."""
    with mock.patch.dict(os.environ):
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            del os.environ[name]
        yield


@functools.cache
def warm_up(loop_kind: str) -> None:
    """What a kind of loop opens once and for all is not what a test left open."""
    loop_factory(loop_kind)().close()
    # What exists by now need not be looked at for every test.
    gc.collect()
    gc.freeze()


def run(main: Coroutine[Any, Any, T], loop_kind: str = "asyncio") -> T:
    """Run a coroutine under the overall deadline and complain about what it leaves behind."""
    factory = loop_factory(loop_kind)
    failures: list[str] = []

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failures.append(repr(context)))
        async with asyncio.timeout(DEADLINE):
            result = await main
        await nothing_goes_on(failures)
        return result

    warm_up(loop_kind)
    with (
        transports_of(loop_kind),
        without_proxies(),
        nothing_left(failures),
        asyncio.Runner(loop_factory=factory) as runner,
    ):
        return runner.run(guarded())


async def nothing_goes_on(failures: list[str]) -> None:
    """Complain about tasks other than this one, and about timers of ours."""
    # What is about to end may do so.
    for _ in range(200):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0.01)
    failures.extend(f"a task is left: {task!r}" for task in left)
    await asyncio.sleep(0)
    # asyncio's own loop can say which timers it still has. (A peer's are not our business.)
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    left_timers = [handle for handle in scheduled if not handle.cancelled() and _is_ours(handle)]
    failures.extend(f"a timer is left: {handle!r}" for handle in left_timers)


def _is_ours(handle: asyncio.TimerHandle) -> bool:
    callback = getattr(handle, "_callback", None)
    return str(getattr(callback, "__module__", "")).startswith("wsframe")


def aio_test(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a coroutine function; its other parameters are fixtures, as always."""

    @functools.wraps(function)
    def test(*, loop_kind: str, **arguments: Any) -> None:
        async def main() -> None:
            await function(**arguments)

        run(main(), loop_kind)

    signature = inspect.signature(function)
    parameters = [*signature.parameters.values()]
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    parameters.append(inspect.Parameter("loop_kind", inspect.Parameter.KEYWORD_ONLY))
    test.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    kinds = [*LOOPS, *LOOP_TRANSPORTS] if function.__module__ in BOTH_WAYS else LOOPS
    pytest.mark.parametrize("loop_kind", kinds)(test)
    return test


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something is true; the test's deadline ends it where it never is."""
    while not condition():  # noqa: ASYNC110 - what is waited for does not know of it
        await asyncio.sleep(0.002)


class Raw(RawBase):
    """A peer that is a bare socket."""

    def __init__(self, sock: socket.socket, *, masks: bool) -> None:
        super().__init__(sock, masks=masks)
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.sock, data)

    async def send_frame(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        await self.send(self.frame(opcode, payload, **options))

    async def send_close(self, code: int | None = 1000, reason: bytes = b"") -> None:
        await self.send_frame(8, close_payload(code, reason))

    async def receive(self) -> bytes:
        """What comes next; b"" at the end of the stream. A reset is an error."""
        return await self._loop.sock_recv(self.sock, 1 << 16)

    async def take(self, count: int) -> bytes:
        """So many bytes."""
        while len(self.received) < count:
            data = await self.receive()
            if not data:
                raise EOFError(f"{self.received!r} came, then the end")
            self.received += data
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    async def next_frame(self) -> ParsedFrame:
        """The next frame, which must be a legal one."""
        header = await self.take(2)
        length = header[1] & 0x7F
        if length == 126:
            header += await self.take(2)
            length = int.from_bytes(header[2:], "big")
        elif length == 127:
            header += await self.take(8)
            length = int.from_bytes(header[2:], "big")
        if header[1] & 0x80:
            header += await self.take(4)
        (frame,) = parse_all(header + await self.take(length))
        return frame

    async def rest(self) -> bytes:
        """Everything up to the end of the stream, which a reset is not."""
        pieces = [self.received]
        while pieces[-1] or len(pieces) == 1:
            pieces.append(await self.receive())
        self.received = b""
        return b"".join(pieces)

    async def head(self) -> bytes:
        """The head of an HTTP message."""
        while b"\r\n\r\n" not in self.received:
            data = await self.receive()
            if not data:
                raise EOFError(f"{self.received!r} came, then the end")
            self.received += data
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        return head + b"\r\n\r\n"

    async def accept_websocket(self, *headers: str, then: bytes = b"") -> bytes:
        """Be a server: read a client's opening handshake and answer it."""
        request = await self.head()
        await self.send(response_to(request, *headers) + then)
        return request


class Endings(list[Disconnected]):
    """What a server told its on_end."""

    def __call__(self, request: object, address: object, ending: Disconnected) -> None:
        self.append(ending)

    async def one(self) -> Disconnected:
        await until(lambda: self)
        (ending,) = self
        return ending


async def dial(server: Any, *, receive_buffer: int | None = None) -> Raw:
    """A bare TCP connection to a server."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port_of(server)))
    return Raw(sock, masks=True)


async def open_raw(
    server: Any, *headers: tuple[str, str], receive_buffer: int | None = None, then: bytes = b""
) -> Raw:
    """A bare socket after the opening handshake of a client."""
    raw = await dial(server, receive_buffer=receive_buffer)
    await raw.send(request_to(server, *headers) + then)
    head = await raw.head()
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert SAMPLE_ACCEPT.encode() in head
    return raw


class Hold:
    """A handler that hands its WebSocket to the test and stays until that is closed."""

    def __init__(self) -> None:
        self.sockets: list[WebSocket] = []

    async def __call__(self, ws: WebSocket) -> None:
        self.sockets.append(ws)
        await ws.wait_closed()

    async def one(self) -> WebSocket:
        await until(lambda: self.sockets)
        return self.sockets[0]


@contextlib.asynccontextmanager
async def held(*headers: tuple[str, str], **options: Any) -> AsyncIterator[tuple[WebSocket, Raw]]:
    """A server's WebSocket, and the bare socket that is its client."""
    hold = Hold()
    receive_buffer = options.pop("receive_buffer", None)
    async with serve(hold, "127.0.0.1", 0, ping_interval=None, **options) as server:
        with await open_raw(server, *headers, receive_buffer=receive_buffer) as raw:
            ws = await hold.one()
            try:
                yield ws, raw
            finally:
                ws.abort()


class Listener(ListenerBase):
    """A bare listening socket."""

    async def accept(self) -> Raw:
        sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        return Raw(sock, masks=False)


@contextlib.asynccontextmanager
async def opened(connecting: Any, listener: Listener, *headers: str) -> AsyncIterator[tuple[Any, Raw]]:
    """A client of ours and the bare socket that serves it; the client is aborted in the end if it must be."""
    task = asyncio.ensure_future(_awaited(connecting))
    with await listener.accept() as raw:
        await raw.accept_websocket(*headers)
        ws = await task
        try:
            yield ws, raw
        finally:
            ws.abort()
            await ws.wait_closed()


async def _awaited(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def cancelled_after(turns: int, opening: Coroutine[Any, Any, Any]) -> None:
    """Cancel the opening of a connection after so many turns of the event loop; close it if it was open by then."""
    task = asyncio.ensure_future(opening)
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        await (await task).close()
    # asyncio leaks what it has accepted and not set up when the listener closes (CPython issue 109564).
    await asyncio.sleep(0.01)


async def echo(websocket: Any) -> None:
    """The handler of an echo server."""
    async for message in websocket:
        await websocket.send(message)
