"""``WebSocket``: what handlers and callers of ``connect`` hold in their hands."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterator
from threading import get_ident
from time import monotonic
from types import TracebackType
from typing import Any, Literal, TypeVar, overload

from .._adapter._conduct import code_for_leaving
from .._adapter._exceptions import ConnectionClosedOK, closed_error
from .._adapter._pieces import WITHIN_ITSELF
from .._adapter._websocket import MESSAGE_TYPES, BytesLike, Record, converted, queue_message
from .._backend import Message, ReceiveQueue
from .._connection import Connection
from .._enums import State
from .._errors import LocalProtocolError, SlowPeerError
from .._events import Disconnected
from .._frames import PreparedMessage
from .._http import Request, Response
from ._driver import Driver
from ._nowait import NoWait
from ._pieces import Pieces, send_pieces
from ._pong import Pong, deadline_of, name_of
from ._pump import OnClose, OnError, OnMessage, start_pump

__all__ = ["WebSocket"]

# Looking a member up in its enumeration costs as much as framing a short message.
_OPEN = State.OPEN

_Self = TypeVar("_Self", bound="WebSocket")


class WebSocket(NoWait):
    """An open WebSocket. Made by `serve` and `connect`; usable in a ``with`` statement, which closes it at the end.

    ``for message in ws`` gives messages until the connection ends: quietly when it was closed cleanly with 1000, 1001
    or no code, else with `ConnectionClosedError`. Either way ``ws.ending`` says afterwards how it ended.

    Any thread may send, ping and close at any time; one at a time may receive.

    There is no thread behind it. Whoever waits in one of its methods reads and writes for all, answers pings and keeps
    the deadlines; while nobody does, nothing happens. So a thread that works on something else for longer than the
    peer's patience for pings should call ``service`` now and then, or have another one wait in ``recv`` or
    ``wait_closed``. ``start_pump`` starts a thread that takes the messages, for those who want callbacks.

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
        # The thread in recv, or the one that `start_pump` has started.
        self._reader: int | None = None
        # It was closed here, and not by the peer.
        self._is_leaving = False
        # From now on the connection is driven directly.
        driver.endpoint = connection
        driver.owner = self

    # Receiving.

    @overload
    def recv(self, timeout: float | None = None, decode: None = None) -> str | bytes: ...

    @overload
    def recv(self, timeout: float | None = None, *, decode: Literal[True]) -> str: ...

    @overload
    def recv(self, timeout: float | None = None, *, decode: Literal[False]) -> bytes: ...

    def recv(self, timeout: float | None = None, decode: bool | None = None) -> str | bytes:
        """Wait for the next message: ``str`` for text, ``bytes`` for binary.

        Args:
            timeout: seconds.
            decode: True for ``str`` and False for ``bytes`` (in UTF-8), whatever the peer has sent it as.

        Raises:
            TimeoutError: no message came in time.
            ConnectionClosedOK, ConnectionClosedError: the connection ended, and all messages before that were read.
            RuntimeError: another thread is in ``recv`` already.
            UnicodeDecodeError: with ``decode=True``, for a binary message that is no UTF-8. It is gone.
        """
        driver = self._driver
        with driver.lock:
            if self._reader is not None:
                raise self._reader_error()
            if not self._queue:
                deadline = None if timeout is None else monotonic() + timeout
                self._reader = thread = get_ident()
                try:
                    message = driver.receive_message(thread, deadline)
                    if message is not None:
                        return message.data if decode is None else converted(message.data, decode)
                    driver.wait(self._readable, deadline)
                finally:
                    self._reader = None
            kept: Message = self._take("message", timeout)
            return kept.data if decode is None else converted(kept.data, decode)

    def _take(self, what: str, timeout: float | None) -> Any:
        """The oldest message, or piece of one, that was kept; there is none if the time is over or the connection."""
        queue = self._queue
        if not queue:
            if self.ending is None:
                raise TimeoutError(f"no {what} came within {timeout:g} s")
            raise closed_error(self.ending)
        was_full = queue.full
        item = queue.get()
        if was_full:
            # Somebody who waits for something else may read on.
            self._driver.nudge()
        return item

    def _reader_error(self) -> RuntimeError:
        """What to raise for a second reader."""
        assert self._reader is not None
        return RuntimeError(
            f"recv() is already waiting in {name_of(self._reader)}; a WebSocket has one reader at a time"
        )

    def _readable(self) -> bool:
        return bool(self._queue) or self.ending is not None

    def __iter__(self: _Self) -> _Self:
        return self

    def __next__(self) -> str | bytes:
        try:
            return self.recv()
        except ConnectionClosedOK:
            raise StopIteration from None

    def recv_stream(self, timeout: float | None = None) -> Iterator[str | bytes]:
        """Give the pieces of one message as they come: ``str`` for text, ``bytes`` for binary.

        With ``stream=True`` in `serve` or `connect`; without it each message is one piece. A piece of text never ends
        within a character. An empty message has one empty piece.

        Whoever leaves before the end of the message may go on with the same iterator later, also after a
        `TimeoutError`. With the next ``recv`` or ``recv_stream`` the rest is skipped. ``recv`` and ``for message in
        ws`` join the pieces of a message.

        Args:
            timeout: for each piece.

        Raises, in the iteration:
            TimeoutError: no piece came in time.
            ConnectionClosedOK, ConnectionClosedError: the connection ended before the message, or within it.
            RuntimeError: another thread is in ``recv`` or within a message, or the rest of this one was skipped.
        """
        return _whole_message(self, timeout)

    # Sending.

    def send(self, message: str | BytesLike | PreparedMessage | Pieces, timeout: float | None = None) -> None:
        """Send a message: text from a ``str``, binary from bytes-like data, or either as it was prepared.

        It returns when the operating system has taken all of it. While more than the high-water mark waits to be
        written, messages of other threads for instance, it waits before it adds to that. While it waits and nobody
        else is reading, it reads: messages are kept for ``recv``, within the bounds of the receive queue.

        From an iterable of ``str``, or of bytes-like pieces, it sends one message, each piece when there is room for
        it; messages of other threads wait for the end of this one. What goes wrong before the first piece is sent
        changes nothing. After that, a message that is not completed ends the connection with 1011: when a piece is of
        the wrong type, the iterable raises, or time is over. Without any piece nothing is sent.

        Raises:
            TypeError: the message, or a piece of it, is of another type.
            TimeoutError: it was not written in time. The exception says whether it was queued: then it is sent in one
                piece all the same, as soon as a method is waiting again; else nothing of it is.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
            RuntimeError: it is what a message's pieces come from that calls this.
            ConnectionClosedOK, ConnectionClosedError: the connection is over. What was queued may not have arrived.
        """
        connection, driver = self._connection, self._driver
        function: Callable[..., None] = connection.send_text
        if not isinstance(message, str):
            if not isinstance(message, MESSAGE_TYPES):
                send_pieces(self, message, timeout)
                return
            function = functools.partial(queue_message, connection)
        with driver.lock:
            deadline = None if timeout is None else monotonic() + timeout
            if driver.pending or connection.state is not _OPEN:
                self._wait_for_turn(timeout, deadline)
            while True:
                try:
                    end = driver.send(function, message)
                    break
                except SlowPeerError:
                    driver.advance()
                    raise closed_error(self._wait_for_end(timeout, deadline)) from None
                except LocalProtocolError:
                    if driver.composer is None:
                        raise
                # Nothing may come between the pieces of another message.
                self._wait_for_composer(timeout, deadline)
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
            deadline = deadline_of(timeout)
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
            deadline = deadline_of(timeout)
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

    def _wait_for_composer(self, timeout: float | None, deadline: float | None) -> None:
        """Wait until nobody is in the middle of a message in pieces, and then as ``_wait_for_turn``."""
        driver = self._driver
        while driver.composer is not None:
            if driver.composer == get_ident():
                raise RuntimeError(WITHIN_ITSELF)
            if not driver.wait(
                lambda: driver.composer is None or self._connection.state is not _OPEN, deadline
            ):
                raise TimeoutError(
                    f"not sent: a message in pieces was not complete within {timeout:g} s; nothing was queued"
                )
            self._wait_for_turn(timeout, deadline)

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
            self._begin_to_close(code, reason)
            self._wait_for_end(None, None)

    def start_closing(self, code: int | None = 1000, reason: str = "") -> None:
        """The part of ``close`` that does not wait. On a client somebody has to wait for the rest, in any method.

        Raises:
            LocalProtocolError: the code or the reason may not be sent.
        """
        with self._driver.lock:
            self._begin_to_close(code, reason)
            self._driver.leave_to_others()

    def _begin_to_close(self, code: int | None, reason: str) -> None:
        self._driver.call(self._connection.close, code, reason)
        self._is_leaving = True
        self._driver.advance()

    def abort(self) -> None:
        """Drop the connection at once, without a Close frame. Threads that wait in it are woken.

        What the system has taken before is still delivered, as after any end of a process.
        """
        driver = self._driver
        with driver.lock:
            self._is_leaving = True
            driver.call(self._connection.abort)
            driver.advance()

    def wait_closed(self, timeout: float | None = None) -> Disconnected:
        """Wait until the connection has ended, and return how.

        Raises:
            TimeoutError: it has not ended in time.
        """
        with self._driver.lock:
            return self._wait_for_end(timeout, deadline_of(timeout))

    def service(self, timeout: float = 0.0) -> float | None:
        """Do what is due, for a thread that waits in no other method: answer pings, send what waits, keep deadlines.

        Messages that come meanwhile are kept for ``recv``, within the bounds of the receive queue.

        Args:
            timeout: seconds to go on with that; 0 does what can be done without waiting.

        Returns:
            seconds until a deadline of this side, by which to call it again: for a keepalive ping, say. It is infinity
            where there is none, and None when the connection has ended. The peer's patience is not known.
        """
        driver = self._driver
        with driver.lock:
            driver.service(monotonic() + timeout)
            if self.ending is not None:
                return None
            now = monotonic()
            due = driver.next_timeout(now)
            return math.inf if due is None else max(0.0, due - now)

    def start_pump(
        self,
        on_message: OnMessage,
        *,
        on_close: OnClose | None = None,
        on_error: OnError | None = None,
    ) -> threading.Thread:
        """Start a thread that receives all messages and calls back; nobody else can receive then.

        It ends when the connection has ended, after ``on_close``. Who closes or aborts the WebSocket here gets no more
        messages from it; when it is the peer that closes, all that came before are delivered first. The callbacks may
        send, close, and wait for that.

        A callback that raises is the last but for ``on_close``: after ``on_error`` the WebSocket is closed with 1011,
        unless ``on_error`` has closed it with another code.

        Args:
            on_message: called with this object and the message.
            on_close: called with this object and its `Disconnected`, last of all.
            on_error: called with this object and what a callback has raised; by default that is logged.

        Returns:
            the thread, a daemon. ``join`` it to be sure that ``on_close`` has returned.

        Raises:
            RuntimeError: another thread is in ``recv`` already.
            TypeError: a callback cannot be called, or the WebSocket has ``stream=True``.
        """
        return start_pump(self, on_message, on_close, on_error)

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


def _whole_message(websocket: WebSocket, timeout: float | None) -> Iterator[str | bytes]:
    """What a message that is received whole is in pieces: the only one."""
    yield websocket.recv(timeout)
