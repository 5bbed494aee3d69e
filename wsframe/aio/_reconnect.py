"""``async for ws in connect(...)``: one connection after the other."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Protocol, TypeAlias

from .._adapter._conduct import is_end_of
from .._adapter._exceptions import ConnectError, closed_error
from .._adapter._retry import Retry, RetryPolicy, Verdict, noted, response_of
from .._enums import State
from .._events import Disconnected, ResponseReceived
from ._channel import logger
from ._websocket import WebSocket

__all__ = ["OnConnected", "Reconnecting"]

OnConnected: TypeAlias = Callable[[WebSocket], object]

#: No seed is shared between processes.
_random = random.SystemRandom().random


class Link(Protocol):
    """Where a program looks at how it goes. It does not know of the iterator."""

    last_ending: Disconnected | None
    attempts: int


class Reconnecting(AsyncIterator[WebSocket]):
    """The connections, each when the one before it has ended. Made by ``async for ws in connect(...)``.

    It owns the connection that it gave last: who drops the iterator begins to close it.

    Cancelling ``anext()`` breaks off what is going on; the next call goes on from there, and keeps the delay.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_busy",
        "_connect",
        "_link",
        "_loop",
        "_next_at",
        "_on_connected",
        "_over",
        "_retry",
        "_websocket",
    )

    def __init__(
        self,
        link: Link,
        connect: Callable[[], Coroutine[Any, Any, WebSocket]],
        policy: RetryPolicy,
        on_connected: OnConnected | None,
    ) -> None:
        self._websocket: WebSocket | None = None
        self._loop = asyncio.get_running_loop()
        self._link = link
        self._connect = connect
        self._retry = Retry(policy, _random)
        self._on_connected = on_connected
        # When the next attempt is due.
        self._next_at = 0.0
        # The block was left with an open connection.
        self._asked = False
        self._busy = False
        self._over = False

    def __aiter__(self) -> Reconnecting:
        return self

    async def __anext__(self) -> WebSocket:
        if self._busy:
            raise RuntimeError("another task waits for the next connection already")
        if self._over:
            raise StopAsyncIteration
        self._busy = True
        try:
            await self._end_round()
            while True:
                await asyncio.sleep(max(self._next_at - self._loop.time(), 0))
                if await self._attempt() and await self._tell():
                    assert self._websocket is not None
                    return self._websocket
        finally:
            self._busy = False

    async def aclose(self) -> None:
        """Close the connection that there is, with 1000, and give no further one."""
        self._over = True
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            await websocket.__aexit__(None, None, None)

    def __del__(self) -> None:
        websocket = self._websocket
        if websocket is not None and websocket.ending is None and not self._loop.is_closed():
            # Not at once: the garbage collector may come at any time, and from any thread.
            self._loop.call_soon_threadsafe(websocket.start_closing)

    async def _end_round(self) -> None:
        """The block is done with the connection.

        Raises:
            StopAsyncIteration: it is not to be followed by another, and that is no failure.
            ConnectionClosed: it is not to be followed by another.
        """
        websocket = self._websocket
        if websocket is None:
            return
        self._asked |= websocket.state is State.OPEN
        await websocket.__aexit__(None, None, None)
        asked, self._asked = self._asked, False
        self._websocket = None
        ending = await websocket.wait_closed()
        verdict = self._judge(ending, None, asked=asked)
        if verdict.delay is None:
            if verdict.quiet:
                raise StopAsyncIteration
            raise noted(closed_error(ending), verdict.reason)

    async def _attempt(self) -> bool:
        """Make a connection, if that is possible now.

        Raises:
            ConnectError: it is not possible, and no further attempt is to be made.
        """
        link, retry = self._link, self._retry
        retry.begin(self._loop.time())
        link.attempts = retry.attempts
        try:
            self._websocket = await self._connect()
        except ConnectError as exc:
            verdict = self._judge(exc.ending, response_of(exc))
            if verdict.delay is None:
                exc.add_note(verdict.reason)
                raise
            return False
        retry.opened(self._loop.time())
        return True

    async def _tell(self) -> bool:
        """Tell the application of the new connection; False where that has ended meanwhile."""
        websocket, on_connected = self._websocket, self._on_connected
        assert websocket is not None
        if on_connected is None:
            return True
        try:
            result = on_connected(websocket)
            if inspect.isawaitable(result):
                await result
        except BaseException as exc:
            if not is_end_of(websocket.ending, exc):
                # Cancelling is no failure: the next call makes another connection.
                self._over = isinstance(exc, Exception)
                self._websocket = None
                await websocket.__aexit__(type(exc), exc, None)
                raise
        else:
            return True
        await self._end_round()
        return False

    def _judge(
        self, ending: Disconnected, response: ResponseReceived | None, *, asked: bool = False
    ) -> Verdict:
        now = self._loop.time()
        self._link.last_ending = ending
        verdict = self._retry.lost(ending, response, now, time.time(), asked=asked)
        if verdict.delay is None:
            self._over = True
            logger.debug("not connecting again (%s): %s", verdict.reason, ending)
        else:
            self._next_at = now + verdict.delay
            logger.debug("connecting again in %.1f s (%s): %s", verdict.delay, verdict.reason, ending)
        return verdict
