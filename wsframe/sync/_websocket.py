"""``WebSocket``: what handlers and callers of ``connect`` hold in their hands."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from .._adapter._conduct import code_for_leaving
from .._adapter._exceptions import ConnectionClosedOK, closed_error
from .._adapter._websocket import BytesLike, Record, WebSocketBase, check_message, queue_message
from .._backend import Message, ReceiveQueue
from .._connection import Connection
from .._enums import State
from .._errors import SlowPeerError
from .._events import Disconnected
from .._frames import PreparedMessage
from .._http import Request, Response
from ._driver import Driver

__all__ = ["Pong", "WebSocket"]

# Looking a member up in its enumeration costs as much as framing a short message.
_OPEN = State.OPEN

_Self = TypeVar("_Self", bound="WebSocket")


class WebSocket(WebSocketBase["Pong"]):
    """An open WebSocket. Made by `serve` and `connect`; usable in a ``with`` statement, which closes it at the end.

    ``for message in ws`` gives messages until the connection ends: quietly when it was closed cleanly with 1000, 1001
    or no code, else with `ConnectionClosedError`. Either way ``ws.ending`` says afterwards how it ended.

    Any thread may send, ping and close at any time; one at a time may receive.

    There is no thread behind it. Whoever waits in one of its methods reads and writes for all, answers pings and keeps
    the deadlines; while nobody does, nothing happens. So a thread that works on something else for longer than the
    peer's patience for pings should have another one wait in ``recv`` or ``wait_closed``.

    A ``timeout`` is in seconds; None waits as long as the connection lasts, and 0 tries without waiting. After a
    `TimeoutError` the connection is what it was, and nothing is lost.

    Attributes:
        request: the opening handshake's request.
        response: its response; None on a server.
        ending: how the connection ended; None while it has not.
        local_address: the local address, as sockets give it.
        remote_address: the peer's address, as sockets give it.
    """

    def __init__(
        self,
        driver: Driver,
        connection: Connection,
        request: Request,
        response: Response | None = None,
        *,
        local_address: Any = None,
        remote_address: Any = None,
        record: Record | None = None,
    ) -> None:
        limits = connection.limits
        self._queue = ReceiveQueue(limits.receive_queue_messages, limits.receive_queue_bytes)
        super().__init__(connection, request, response, record)
        self.local_address = local_address
        self.remote_address = remote_address
        self._driver = driver
        # The thread in recv.
        self._reader: int | None = None
        # From now on the connection is driven directly.
        driver.endpoint = connection
        driver.owner = self

    # Receiving.

    def recv(self, timeout: float | None = None) -> str | bytes:
        """Wait for the next message: ``str`` for text, ``bytes`` for binary.

        Raises:
            TimeoutError: no message came in time.
            ConnectionClosedOK, ConnectionClosedError: the connection ended, and all messages before that were read.
            RuntimeError: another thread is in ``recv`` already.
        """
        driver = self._driver
        with driver.lock:
            if self._reader is not None:
                raise RuntimeError(
                    f"recv() is already waiting in {_name_of(self._reader)}; a WebSocket has one reader at a time"
                )
            if not self._queue:
                deadline = None if timeout is None else monotonic() + timeout
                self._reader = thread = get_ident()
                try:
                    message = driver.receive_message(thread, deadline)
                    if message is not None:
                        return message.data
                    driver.wait(self._readable, deadline)
                finally:
                    self._reader = None
            return self._take(timeout)

    def _take(self, timeout: float | None) -> str | bytes:
        """The oldest message that was kept."""
        queue = self._queue
        if not queue:
            if self.ending is None:
                raise TimeoutError(f"no message came within {timeout:g} s")
            raise closed_error(self.ending)
        was_full = queue.full
        message: Message = queue.get()
        if was_full:
            # Somebody who waits for something else may read on.
            self._driver.nudge()
        return message.data

    def _readable(self) -> bool:
        return bool(self._queue) or self.ending is not None

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> str | bytes:
        try:
            return self.recv()
        except ConnectionClosedOK:
            raise StopIteration from None

    # Sending.

    def send(self, message: str | BytesLike | PreparedMessage, timeout: float | None = None) -> None:
        """Send a message: text from a ``str``, binary from bytes-like data, or either as it was prepared.

        It returns when the operating system has taken all of it. While more than the high-water mark waits to be
        written, messages of other threads for instance, it waits before it adds to that. While it waits and nobody
        else is reading, it reads: messages are kept for ``recv``, within the bounds of the receive queue.

        Raises:
            TypeError: the message is of another type.
            TimeoutError: it was not written in time. The exception says whether it was queued: then it is sent in one
                piece all the same, as soon as a method is waiting again; else nothing of it is.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
            ConnectionClosedOK, ConnectionClosedError: the connection is over. What was queued may not have arrived.
        """
        connection, driver = self._connection, self._driver
        function: Callable[..., None] = connection.send_text
        if not isinstance(message, str):
            check_message(message)
            function = functools.partial(queue_message, connection)
        with driver.lock:
            deadline = None if timeout is None else monotonic() + timeout
            if driver.pending or connection.state is not _OPEN:
                self._wait_for_turn(timeout, deadline)
            try:
                end = driver.send(function, message)
            except SlowPeerError:
                driver.advance()
                raise closed_error(self._wait_for_end(timeout, deadline)) from None
            if driver.sent < end:
                self._wait_until_sent(end, "the message", timeout, deadline)

    def drain(self, timeout: float | None = None) -> None:
        """Wait until no more than the low-water mark is waiting to be written: after a ``send`` that has timed out, or
        those of other threads.

        Raises:
            TimeoutError: that did not happen in time.
            ConnectionClosedOK, ConnectionClosedError: the connection is over. What was queued may not have arrived.
        """
        connection = self._connection
        low_water = connection.limits.write_low_water
        with self._driver.lock:
            deadline = _deadline(timeout)
            if not self._wait_for_room(low_water, deadline):
                raise TimeoutError(
                    f"more than {low_water} bytes still wait to be written after {timeout:g} s"
                )
            if connection.state is not _OPEN:
                raise closed_error(self._wait_for_end(timeout, deadline))

    def ping(self, payload: BytesLike | None = None, timeout: float | None = None) -> Pong:
        """Send a ping.

        Args:
            payload: at most 125 bytes; by default 4 random ones.
            timeout: for sending it, as in ``send``; not for the answer.

        Returns:
            what waits for the answer: ``ws.ping().wait(5)`` is the round-trip time. Waiting is not necessary.

        Raises:
            LocalProtocolError: the payload is too long.
            TimeoutError: as in ``send``.
            ConnectionClosedOK, ConnectionClosedError: the connection is over.
        """
        driver = self._driver
        with driver.lock:
            deadline = _deadline(timeout)
            self._wait_for_turn(timeout, deadline)
            sent = driver.call(self._connection.ping, payload, monotonic())
            pong = self._pong_for(sent, lambda: Pong(self))
            self._wait_until_sent(driver.write(), "the ping", timeout, deadline)
        return pong

    def _wait_for_turn(self, timeout: float | None, deadline: float | None) -> None:
        """Wait until something may be queued."""
        connection = self._connection
        if not self._wait_for_room(connection.limits.write_high_water, deadline):
            raise TimeoutError(f"not sent: there was no room within {timeout:g} s; nothing was queued")
        if connection.state is not _OPEN:
            raise closed_error(self._wait_for_end(timeout, deadline))

    def _wait_for_room(self, mark: int, deadline: float | None) -> bool:
        """Wait until no more than that is queued, or the connection is ending; return whether that came in time."""
        connection = self._connection

        def has_room() -> bool:
            return connection.buffered <= mark or connection.state is not _OPEN

        return has_room() or self._driver.wait(has_room, deadline) or self.ending is not None

    def _wait_until_sent(self, end: int, what: str, timeout: float | None, deadline: float | None) -> None:
        """Wait until so much of the stream is with the operating system."""
        connection, driver = self._connection, self._driver
        # What was queued before may get less: of many pongs that cannot leave only the latest is kept.
        if driver.wait(lambda: driver.sent >= end or not connection.buffered, deadline):
            if driver.sent < end and connection.state is not _OPEN:
                # It was dropped.
                raise closed_error(self._wait_for_end(timeout, deadline))
        elif self.ending is not None:
            raise closed_error(self.ending)
        else:
            raise TimeoutError(f"{what} could not be written within {timeout:g} s; it is queued")

    # Closing.

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close: send a Close frame, wait for the peer's and for the end of the transport.

        It takes at most ``close_timeout``. Closing a second time waits for the same end. Messages that were received
        before can still be read; those that come after are dropped. A thread that is in ``recv`` is woken.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999; None for an empty Close frame.
            reason: at most 123 bytes as UTF-8.

        Raises:
            LocalProtocolError: the code or the reason may not be sent.
        """
        with self._driver.lock:
            self.start_closing(code, reason)
            self._wait_for_end(None, None)

    def start_closing(self, code: int | None = 1000, reason: str = "") -> None:
        """The part of ``close`` that does not wait: somebody has to wait for the rest, in any method.

        Raises:
            LocalProtocolError: the code or the reason may not be sent.
        """
        driver = self._driver
        with driver.lock:
            driver.call(self._connection.close, code, reason)
            driver.advance()

    def abort(self) -> None:
        """Drop the connection at once, without a Close frame. Threads that wait in it are woken.

        What the system has taken before is still delivered, as after any end of a process.
        """
        driver = self._driver
        with driver.lock:
            driver.call(self._connection.abort)
            driver.advance()

    def wait_closed(self, timeout: float | None = None) -> Disconnected:
        """Wait until the connection has ended, and return how.

        Raises:
            TimeoutError: it has not ended in time.
        """
        with self._driver.lock:
            return self._wait_for_end(timeout, _deadline(timeout))

    def _wait_for_end(self, timeout: float | None, deadline: float | None) -> Disconnected:
        self._driver.wait(self._ended, deadline)
        if self.ending is None:
            raise TimeoutError(f"the connection has not ended within {timeout:g} s")
        return self.ending

    def _ended(self) -> bool:
        return self.ending is not None

    def add_done_callback(self, callback: Callable[[WebSocket], object]) -> None:
        """Have something called when the connection has ended, or at once if it has.

        As with the futures of threads, it is called once, with this object, whose ``ending`` is set, by the thread that
        finds out: one that waits in a method of this object. (There is no other.)
        """
        driver = self._driver
        with driver.lock:
            driver.call_when_lost(lambda: callback(self))

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close with 1000; with 1011 when an exception comes out of the block, with 1001 when that is Ctrl-C."""
        try:
            self.close(code_for_leaving(kind))
        except BaseException:
            self.abort()
            raise

    # From the driver.

    def _settle(self, pong: Pong, rtt: float) -> None:
        pong.rtt = rtt

    def _finish(self, ending: Disconnected) -> None:
        """The driver wakes all threads that wait."""


class Pong:
    """The answer to a ping, expected or come.

    Attributes:
        rtt: seconds between the ping and its pong; None while that has not come.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self.rtt: float | None = None
        self._websocket = websocket

    def is_set(self) -> bool:
        """Whether it has come."""
        return self.rtt is not None

    def wait(self, timeout: float | None = None) -> float:
        """Wait for it, and return ``rtt``.

        Raises:
            TimeoutError: it did not come in time.
            ConnectionClosedOK, ConnectionClosedError: the connection ended before it came.
        """
        websocket = self._websocket
        driver = websocket._driver
        with driver.lock:
            driver.wait(lambda: self.rtt is not None or websocket.ending is not None, _deadline(timeout))
            if self.rtt is not None:
                return self.rtt
            if websocket.ending is not None:
                raise closed_error(websocket.ending)
        raise TimeoutError(f"no pong came within {timeout:g} s")


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else monotonic() + timeout


def _name_of(ident: int) -> str:
    return next((thread.name for thread in threading.enumerate() if thread.ident == ident), "another thread")
