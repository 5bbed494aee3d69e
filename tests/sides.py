"""One test for both adapters: a side runs ours, on an event loop in a thread or in threads; the peer is a bare socket.

The fixtures `side` and `side_and_transports` give each of them, and fail a test that leaves anything behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import pytest

import aiohelpers
from adapterhelpers import nothing_left
from synchelpers import DEADLINE, Job, until
from wsframe import Disconnected, Request, aio, sync

__all__ = ["Pending", "Server", "Side", "side", "side_and_transports"]


class Pending(Protocol):
    """A call that may wait."""

    def result(self, timeout: float = DEADLINE) -> Any:
        """What it returns, or raises."""

    @property
    def waits(self) -> bool:
        """It is still waiting."""

    def cancel(self) -> None:
        """Wait no longer, where that is possible."""


class Server:
    """A server of ours."""

    def __init__(self, side: Side, server: Any, endings: list[Disconnected]) -> None:
        self._side = side
        self.server = server
        self.endings = endings
        self.sockets = server.sockets

    def close(self, *arguments: Any, **options: Any) -> Any:
        """Close it; what that returns."""
        return self._side.start(self.server.close, *arguments, **options).result()

    def wait_for(self, count: int) -> None:
        """Wait until it knows of so many connections."""
        server = self.server
        known = getattr(server, "_registry", None)
        until(lambda: len(server._connections if known is None else known) == count)

    def ending(self) -> Disconnected:
        """How its only connection has ended."""
        until(lambda: self.endings)
        (ending,) = self.endings
        return ending


class Side:
    """Whoever runs one of our adapters."""

    name: str
    module: Any
    failures: list[str]

    def start(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Pending:
        """Begin with something that may wait."""
        raise NotImplementedError

    def do(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Do it."""
        return self.start(function, *arguments, **options).result()

    def block(self, seconds: float) -> None:
        """Let nothing go on for so long, as if the machine or the program stood still."""
        raise NotImplementedError

    def serve(self, handler: Any, **options: Any) -> Server:
        """A server; it is closed in the end, if it has not been.

        Args:
            handler: a pair of handlers, for asyncio and for threads.
            options: those of ``serve``.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Close what was made."""
        raise NotImplementedError


class _AioPending:
    def __init__(self, future: Any) -> None:
        self._future = future

    def result(self, timeout: float = DEADLINE) -> Any:
        return self._future.result(timeout)

    @property
    def waits(self) -> bool:
        return not self._future.done()

    def cancel(self) -> None:
        self._future.cancel()


class AioSide(Side):
    """An event loop in a thread."""

    module = aio

    def __init__(self, loop_kind: str, failures: list[str]) -> None:
        self.name = loop_kind
        self.failures = failures
        self._servers: list[Server] = []
        aiohelpers.warm_up(loop_kind)
        self._loop = aiohelpers.loop_factory(loop_kind)()
        self._loop.set_exception_handler(lambda _, context: failures.append(repr(context)))
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def start(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Pending:
        async def go() -> Any:
            result = function(*arguments, **options)
            return await result if inspect.isawaitable(result) else result

        return _AioPending(asyncio.run_coroutine_threadsafe(go(), self._loop))

    def block(self, seconds: float) -> None:
        self.do(lambda: time.sleep(seconds))

    def serve(self, handler: Any, **options: Any) -> Server:
        endings = aiohelpers.Endings()

        async def begin() -> Any:
            return await aio.serve(handler[0], "127.0.0.1", 0, on_end=endings, **options)

        server = Server(self, self.do(begin), endings)
        self._servers.append(server)
        return server

    def stop(self) -> None:
        for server in self._servers:
            server.close()
        try:
            self.do(aiohelpers.nothing_goes_on, self.failures)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(DEADLINE)
            self._loop.close()


class _SyncPending(Job[Any]):
    @property
    def waits(self) -> bool:
        return self.running

    def cancel(self) -> None:
        pass


class SyncSide(Side):
    """Threads."""

    name = "sync"
    module = sync

    def __init__(self) -> None:
        self._servers: list[tuple[Server, Job[None]]] = []

    def start(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Pending:
        return _SyncPending(lambda: function(*arguments, **options))

    def block(self, seconds: float) -> None:
        # Nothing goes on while nobody waits.
        time.sleep(seconds)

    def serve(self, handler: Any, **options: Any) -> Server:
        endings: list[Disconnected] = []

        def on_end(request: Request | None, address: object, ending: Disconnected) -> None:
            endings.append(ending)

        server = sync.serve(handler[1], "127.0.0.1", 0, on_end=on_end, **options)
        self._servers.append((Server(self, server, endings), Job(server.serve_forever)))
        return self._servers[-1][0]

    def stop(self) -> None:
        for server, job in self._servers:
            server.close()
            job.result()


@contextlib.contextmanager
def _begun(kind: str) -> Iterator[Side]:
    failures: list[str] = []
    if kind != "sync":
        aiohelpers.warm_up(kind)
    with aiohelpers.transports_of(kind), nothing_left(failures):
        chosen = SyncSide() if kind == "sync" else AioSide(kind, failures)
        try:
            yield chosen
        finally:
            chosen.stop()


@pytest.fixture(params=[*aiohelpers.LOOPS, "sync"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    """Each adapter, on each event loop."""
    with _begun(request.param) as chosen:
        yield chosen


@pytest.fixture(params=[*aiohelpers.LOOPS, *aiohelpers.LOOP_TRANSPORTS, "sync"])
def side_and_transports(request: pytest.FixtureRequest) -> Iterator[Side]:
    """The same, and each of the loops with its own transports."""
    with _begun(request.param) as chosen:
        yield chosen
