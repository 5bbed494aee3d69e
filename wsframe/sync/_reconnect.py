"""``for ws in connect(..., retry=...)``: one connection after the other."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from .._adapter._conduct import is_end_of
from .._adapter._exceptions import ConnectError, closed_error
from .._adapter._retry import Retry, RetryPolicy, Verdict, noted, response_of
from .._enums import State
from .._events import Disconnected, ResponseReceived
from ._link import logger
from ._websocket import WebSocket

__all__ = ["OnConnected", "Reconnecting", "Reconnector"]

OnConnected: TypeAlias = Callable[[WebSocket], object]

#: No seed is shared between processes.
_random = random.SystemRandom().random
_monotonic = time.monotonic

#: Seconds that dropping the loop waits for the lock of its connection at the most. Only the garbage collector, which
#: comes at any time, can find it taken for good.
_LOCK_WAIT = 1.0


class Reconnector:
    """What ``connect`` gives for ``for ws in connect(uri, retry=RetryPolicy())``.

    Attributes:
        last_ending: how the last connection, or attempt, has ended; None before.
        attempts: how many there were since a connection was stable, this one included.
    """

    def __init__(
        self, connect: Callable[[], WebSocket], policy: RetryPolicy, on_connected: OnConnected | None
    ) -> None:
        self._connect = connect
        self._policy = policy
        self._on_connected = on_connected
        self.last_ending: Disconnected | None = None
        self.attempts = 0

    def __iter__(self) -> Reconnecting:
        return Reconnecting(self, self._connect, self._policy, self._on_connected)


class Reconnecting(Iterator[WebSocket]):
    """The connections, each when the one before it has ended. Made by ``for ws in connect(..., retry=...)``.

    It owns the connection that it gave last: who drops the iterator begins to close it.

    What breaks off ``next()``, such as Ctrl-C, breaks off what is going on; the next call goes on from there, and keeps
    the delay.
    """

    def __init__(
        self,
        link: Reconnector,
        connect: Callable[[], WebSocket],
        policy: RetryPolicy,
        on_connected: OnConnected | None,
    ) -> None:
        self._websocket: WebSocket | None = None
        self._link = link
        self._connect = connect
        self._retry = Retry(policy, _random)
        self._on_connected = on_connected
        # When the next attempt is due.
        self._next_at = 0.0
        # The block was left with an open connection.
        self._asked = False
        self._busy = threading.Lock()
        self._over = threading.Event()

    def __iter__(self) -> Reconnecting:
        return self

    def __next__(self) -> WebSocket:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("another thread waits for the next connection already")
        try:
            if not self._over.is_set():
                self._end_round()
            while not self._over.is_set():
                delay = self._next_at - _monotonic()
                if delay > 0 and _wait(self._over, delay):
                    break
                if self._attempt() and self._tell():
                    websocket = self._websocket
                    if websocket is not None:
                        return websocket
            raise StopIteration
        finally:
            self._busy.release()

    def close(self) -> None:
        """Close the connection that there is, with 1000, and give no further one. Any thread may call it.

        Who waits for the next connection meanwhile is told at once that there is none; who is in the middle of making
        one is told when that is made, which is within ``open_timeout``.
        """
        self._over.set()
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            websocket.close()

    def __del__(self) -> None:
        websocket = self._websocket
        if websocket is not None and websocket.ending is None:
            lock = websocket._driver.lock
            if lock.acquire(timeout=_LOCK_WAIT):
                try:
                    websocket.start_closing()
                finally:
                    lock.release()

    def _end_round(self) -> None:
        """The block is done with the connection.

        Raises:
            StopIteration: it is not to be followed by another, and that is no failure.
            ConnectionClosed: it is not to be followed by another.
        """
        websocket = self._websocket
        if websocket is None:
            return
        self._asked |= websocket.state is State.OPEN
        websocket.__exit__(None, None, None)
        asked, self._asked = self._asked, False
        self._websocket = None
        ending = websocket.wait_closed()
        verdict = self._judge(ending, None, asked=asked)
        if verdict.delay is None and not verdict.quiet:
            raise noted(closed_error(ending), verdict.reason)

    def _attempt(self) -> bool:
        """Make a connection, if that is possible now.

        Raises:
            ConnectError: it is not possible, and no further attempt is to be made.
        """
        link, retry = self._link, self._retry
        retry.begin(_monotonic())
        link.attempts = retry.attempts
        try:
            websocket = self._connect()
        except ConnectError as exc:
            verdict = self._judge(exc.ending, response_of(exc))
            if verdict.delay is None:
                exc.add_note(verdict.reason)
                raise
            return False
        self._websocket = websocket
        if self._over.is_set():
            # Somebody has closed this meanwhile.
            self.close()
            return False
        retry.opened(_monotonic())
        return True

    def _tell(self) -> bool:
        """Tell the application of the new connection; False where that has ended meanwhile."""
        websocket, on_connected = self._websocket, self._on_connected
        if websocket is None:
            return False
        if on_connected is None:
            return True
        try:
            on_connected(websocket)
        except BaseException as exc:
            if not is_end_of(websocket.ending, exc):
                # Ctrl-C is no failure: the next call makes another connection.
                if isinstance(exc, Exception):
                    self._over.set()
                self._websocket = None
                websocket.__exit__(type(exc), exc, None)
                raise
        else:
            return True
        self._end_round()
        return False

    def _judge(
        self, ending: Disconnected, response: ResponseReceived | None, *, asked: bool = False
    ) -> Verdict:
        now = _monotonic()
        self._link.last_ending = ending
        verdict = self._retry.lost(ending, response, now, time.time(), asked=asked)
        if verdict.delay is None:
            self._over.set()
            logger.debug("not connecting again (%s): %s", verdict.reason, ending)
        else:
            self._next_at = now + verdict.delay
            logger.debug("connecting again in %.1f s (%s): %s", verdict.delay, verdict.reason, ending)
        return verdict


def _wait(over: threading.Event, seconds: float) -> bool:
    """Wait, at most so long, until there is to be no further connection; return whether it is so."""
    return over.wait(seconds)
