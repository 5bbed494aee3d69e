"""``WebSocket``: what handlers and callers of ``connect`` hold in their hands."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Literal, Self, overload

from .._adapter._conduct import code_for_leaving
from .._adapter._exceptions import closed_error
from .._adapter._websocket import (
    MESSAGE_TYPES,
    BytesLike,
    Record,
    check_message,
    converted,
    queue_message,
)
from .._backend import Finished, Lane
from .._connection import Connection
from .._enums import State
from .._errors import SlowPeerError
from .._events import Disconnected, Event
from .._frames import PreparedMessage
from .._http import Request, Response
from ._channel import Channel
from ._pieces import Line, Pieces, WholeMessage, send_pieces
from ._server_side import ServerSide
from ._threads import check_thread, run_in_loop
from ._transports import AnyInbox, Over, new_inbox, reader_of

__all__ = ["WebSocket"]

#: So many messages are sent without waiting before others get their turn.
_MAX_BURST = 32

#: What is returned when there is nothing to wait for.
_DONE = Finished()


class WebSocket(ServerSide):
    """An open WebSocket. Made by `serve` and `connect`.

    ``async for message in ws`` gives messages until the connection ends: quietly when it was closed cleanly with 1000,
    1001 or no code, else with `ConnectionClosedError`. Either way ``ws.ending`` says afterwards how it ended.

    Many tasks may send, one at a time may receive. It belongs to the thread in which its event loop runs: other threads
    get a `RuntimeError`, but for ``send_threadsafe``, and what can only be looked at.

    ``async with ws`` closes it at the end of the block, as ``async with connect(...)`` does.

    Attributes:
        request: the opening handshake's request.
        response: its response; None on a server.
        ending: how the connection ended; None while it has not.
        local_address: the local address, as sockets give it.
        remote_address: the peer's address, as sockets give it.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_burst",
        "_channel",
        "_closed",
        "_in_line",
        "_lane",
        "_line",
        "_loop",
        "local_address",
        "remote_address",
    )

    def __init__(
        self,
        channel: Channel,
        connection: Connection,
        request: Request,
        response: Response | None = None,
        record: Record | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._queue: AnyInbox = self._new_queue(loop, channel, connection)
        super().__init__(connection, request, response, record)
        assert channel.transport is not None
        self.local_address: Any = channel.transport.get_extra_info("sockname")
        self.remote_address: Any = channel.transport.get_extra_info("peername")
        self._loop = loop
        self._channel = channel
        # Senders that wait do so in line; so many of them.
        self._line: Line | None = None
        self._in_line = 0
        # Messages that were sent since there was something to wait for.
        self._burst = 0
        # Made when somebody waits for it.
        self._closed: asyncio.Future[Disconnected] | None = None
        # From now on the connection is driven directly.
        channel.endpoint = connection
        channel.owner = self
        self._lane = self._open_lane(channel, connection)

    def _new_queue(
        self, loop: asyncio.AbstractEventLoop, channel: Channel, connection: Connection
    ) -> AnyInbox:
        return new_inbox(loop, connection.limits, self)

    def _open_lane(self, channel: Channel, connection: Connection) -> Lane | None:
        return channel.open_lane(connection, inbox=self._queue)

    # Receiving.

    @overload
    async def recv(self, decode: None = None) -> str | bytes: ...

    @overload
    async def recv(self, decode: Literal[True]) -> str: ...

    @overload
    async def recv(self, decode: Literal[False]) -> bytes: ...

    async def recv(self, decode: bool | None = None) -> str | bytes:
        """Wait for the next message: ``str`` for text, ``bytes`` for binary. Cancelling it loses nothing.

        Args:
            decode: True for ``str`` and False for ``bytes`` (in UTF-8), whatever the peer has sent it as.

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection ended, and all messages before that were read.
            RuntimeError: another task is in ``recv`` already.
            UnicodeDecodeError: with ``decode=True``, for a binary message that is no UTF-8. It is gone.
        """
        message = await reader_of(self._queue)
        return message if decode is None else converted(message, decode)

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        check_thread(self._loop, "__aiter__")
        return reader_of(self._queue, iterating=True)

    def recv_stream(self) -> AsyncIterator[str | bytes]:
        """Give the pieces of one message as they come: ``str`` for text, ``bytes`` for binary. For ``async for``.

        With ``stream=True`` in `serve` or `connect`; without it each message is one piece. A piece of text never ends
        within a character. An empty message has one empty piece.

        Whoever leaves before the end of the message may go on with the same iterator later. With the next ``recv`` or
        ``recv_stream`` the rest is skipped. ``recv`` and ``async for message in ws`` join the pieces of a message.

        Raises, in the iteration:
            ConnectionClosedOK, ConnectionClosedError: the connection ended before the message, or within it.
            RuntimeError: another task is in ``recv`` or within a message, or the rest of this one was skipped.
        """
        check_thread(self._loop, "recv_stream")
        return WholeMessage(self)

    # Sending.

    def send(self, message: str | BytesLike | PreparedMessage | Pieces) -> Coroutine[Any, Any, None]:
        """Send a message: text from a ``str``, binary from bytes-like data, or either as it was prepared.

        While more is buffered than the high-water mark, this waits, in line with other senders. Then the message is
        queued at once and whole: when this is cancelled, either all of it is sent or nothing.

        From an iterable or an asynchronous iterable of ``str``, or of bytes-like pieces, it sends one message, each
        piece when there is room for it; other messages wait for the end of this one. What goes wrong before the first
        piece is sent changes nothing. After that, a message that is not completed ends the connection with 1011: when
        this is cancelled, a piece is of the wrong type, or the iterable raises. Without any piece nothing is sent.

        Raises:
            TypeError: the message, or a piece of it, is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
            RuntimeError: it is what a message's pieces come from that calls this.
            ConnectionClosedOK, ConnectionClosedError: the connection is over. What was queued may not have arrived.
        """
        lane = self._lane
        if lane is not None and not self._in_line and lane.send(message):
            return _DONE
        return self._send(message)

    async def _send(self, message: str | BytesLike | PreparedMessage | Pieces) -> None:
        check_thread(self._loop, "send")
        if not isinstance(message, MESSAGE_TYPES):
            await send_pieces(self, message)
            return
        connection, channel = self._connection, self._channel
        if connection.buffered >= connection.limits.write_high_water:
            # While a chunk is processed nothing leaves by itself, and so nobody would see that there is no room.
            channel.gather()
        if channel.congested or self._in_line or self._sent_in_a_row() >= _MAX_BURST:
            await self._wait_in_line()
        self._burst += 1
        if connection.state is not State.OPEN:
            raise closed_error(await self.wait_closed())
        try:
            queue_message(connection, message)
        except SlowPeerError:
            channel.advance()
            raise closed_error(await self.wait_closed()) from None
        if self._queue and connection.buffered < connection.limits.write_high_water:
            # More messages wait to be answered in this turn: let the answers leave together.
            channel.advance_soon()
        else:
            channel.advance()

    def send_nowait(self, message: str | BytesLike | PreparedMessage) -> bool:
        """Queue a message at once and whole, and never wait: for callbacks, and for sending to many.

        What is sent while a received chunk is processed leaves together, when that is done. Nothing slows the caller
        down but itself: with ``try_send``, with ``buffered_bytes``, or by waiting in ``drain``. When more than
        ``Limits.write_hard_cap`` bytes wait already, the peer is too slow: it loses its connection, with 1013.

        While a message is being sent in pieces this one is kept, and queued behind it.

        Returns:
            whether it was queued. It was not if the connection is closing or has ended; ``ending`` will say why. Nor
            was it if about ``Limits.write_hard_cap`` bytes are kept behind a message in pieces.

        Raises:
            TypeError: the message is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
        """
        lane = self._lane
        if lane is not None and (
            lane.send_framed(message.frame) if type(message) is PreparedMessage else lane.send_nowait(message)
        ):
            return True
        check_thread(self._loop, "send_nowait")
        connection = self._connection
        check_message(message)
        if connection.state is not State.OPEN:
            return False
        if self._line is not None and self._line.sender is not None:
            return self._line.put_behind(message, connection.limits)
        self._channel.gather()
        try:
            queue_message(connection, message)
        except SlowPeerError:
            return False
        return True

    def try_send(self, message: str | BytesLike | PreparedMessage) -> bool:
        """As ``send_nowait``, but only where ``send`` would not have to wait: for what need not be sent at any price.

        Returns:
            whether it was queued. It was not if more than the high-water mark waits to be written, if others are
            waiting in ``send``, or if the connection is closing or has ended. ``state`` tells which.

        Raises:
            TypeError: the message is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
        """
        check_message(message)
        check_thread(self._loop, "try_send")
        return not self._in_line and self._channel.has_room() and self.send_nowait(message)

    def send_threadsafe(self, message: str | BytesLike | PreparedMessage) -> concurrent.futures.Future[None]:
        """Send a message from any thread. What one thread sends is sent in order.

        Returns:
            a future for that thread, which is done when ``send`` would have returned, or raises what it raises; also
            RuntimeError when the event loop is closed. As long as the loop is stopped it waits. Cancelling it is
            like cancelling ``send``. In the event loop's own thread its ``result()`` would wait for itself.

        Raises:
            TypeError: the message is of another type.
        """
        check_message(message)
        if self.ending is not None:
            over: concurrent.futures.Future[None] = concurrent.futures.Future()
            over.set_exception(closed_error(self.ending))
            return over
        if isinstance(message, (bytearray, memoryview)):
            # It is the caller's again when this returns.
            message = bytes(message)
        return run_in_loop(self._loop, self._send_later, message)

    async def _send_later(self, message: str | bytes | PreparedMessage) -> None:
        await self.send(message)

    async def _wait_in_line(self) -> None:
        """Wait for room, behind those who came first."""
        line = self._line_up()
        line.check_sender()
        self._in_line += 1
        try:
            async with line.lock:
                if self._sent_in_a_row() >= _MAX_BURST:
                    # Let others have their turn, and what was received be read.
                    self._burst = 0
                    if self._lane is not None:
                        self._lane.burst = 0
                    await asyncio.sleep(0)
                await self._channel.room()
        finally:
            self._in_line -= 1

    def _line_up(self) -> Line:
        if self._line is None:
            self._line = Line()
        return self._line

    def _sent_in_a_row(self) -> int:
        """Messages that were sent since there was something to wait for."""
        return self._burst + (0 if self._lane is None else self._lane.burst)

    async def drain(self) -> None:
        """Wait until no more than the low-water mark is waiting to be written. (``send`` waits for less.)

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection is over. What was queued may not have arrived.
        """
        check_thread(self._loop, "drain")
        if self._connection.state is State.OPEN:
            await self._channel.drained()
        if self._connection.state is not State.OPEN:
            raise closed_error(await self.wait_closed())

    async def ping(self, payload: BytesLike | None = None) -> Awaitable[float]:
        """Send a ping. Before that it waits for room, but not in line: it may go between the pieces of a message.

        Args:
            payload: at most 125 bytes; by default 4 random ones.

        Returns:
            an awaitable that gives the round-trip time in seconds when the pong comes. Awaiting it is not necessary.

        Raises:
            LocalProtocolError: the payload is too long.
            ConnectionClosedOK, ConnectionClosedError: the connection is over; also from the awaitable.
        """
        check_thread(self._loop, "ping")
        await self._channel.room()
        if self._connection.state is not State.OPEN:
            raise closed_error(await self.wait_closed())
        sent = self._connection.ping(payload, self._loop.time())
        waiter = self._pong_for(sent, self._loop.create_future)
        self._channel.advance()
        pong = asyncio.shield(waiter)
        pong.add_done_callback(_retrieve)
        return pong

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close: send a Close frame, wait for the peer's and for the end of the transport.

        It takes at most ``close_timeout``. Closing a second time waits for the same end. Messages that were received
        before can still be read; those that come after are dropped.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999; None for an empty Close frame.
            reason: at most 123 bytes as UTF-8.

        Raises:
            LocalProtocolError: the code or the reason may not be sent.
        """
        self.start_closing(code, reason)
        await self.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
        """As ``async with connect(...)``: close with 1000, for an exception with 1011, when cancelled with 1001."""
        try:
            await self.close(code_for_leaving(kind))
        except asyncio.CancelledError:
            self.abort()
            raise

    def start_closing(self, code: int | None = 1000, reason: str = "") -> None:
        """The part of ``close`` that does not wait.

        Raises:
            LocalProtocolError: the code or the reason may not be sent.
        """
        check_thread(self._loop, "close")
        self._connection.close(code, reason)
        self._channel.advance()
        self._channel.update_reading()

    def abort(self) -> None:
        """Drop the connection at once, without a Close frame."""
        check_thread(self._loop, "abort")
        self._connection.abort()
        self._channel.advance()

    async def wait_closed(self) -> Disconnected:
        """Wait until the connection has ended, and return how."""
        return await asyncio.shield(self._closed_future())

    def _closed_future(self) -> asyncio.Future[Disconnected]:
        check_thread(self._loop, "wait_closed")
        if self._closed is None:
            self._closed = self._loop.create_future()
            if self.ending is not None:
                self._closed.set_result(self.ending)
        return self._closed

    def add_done_callback(self, callback: Callable[[WebSocket], object]) -> None:
        """Have something called when the connection has ended, or soon if it has: for those who wait for nothing.

        As with futures, it is called by the event loop, once, with this object, whose ``ending`` is set.
        """
        self._closed_future().add_done_callback(lambda _: callback(self))

    @property
    def reader(self) -> asyncio.Task[Any] | None:
        """The task that waits in ``recv``."""
        task: asyncio.Task[Any] | None = self._queue.reader
        return task

    # From a broadcast.

    @property
    def is_slow(self) -> bool:
        """More than the high-water mark waits for the peer, or somebody waits for room in ``send``."""
        return self._in_line > 0 or self._channel.takes_no_more

    @property
    def is_within_message(self) -> bool:
        """A message is being sent in pieces, and nothing can be sent before its end but with ``send_nowait``."""
        return self._line is not None and self._line.sender is not None

    def disconnect_slow(self) -> None:
        """The peer takes too little: drop what waits for it, and end the connection with 1013."""
        self._connection.give_up_on_slow_peer()
        self._channel.advance()
        self._channel.update_reading()

    # From the queue.

    def why_over(self, iterating: bool) -> BaseException | None:
        """What tells a reader that nothing comes any more; None while something may."""
        # There is nothing to read, so others have their turn.
        self._burst = 0
        return None if self.ending is None else Over(self.ending).why_over(iterating)

    def has_unread(self) -> bool:
        """Whether there are messages that nobody has taken yet. If so, the channel is told when the last one is."""
        unread = super().has_unread()
        self._queue.watched = unread
        return unread

    def has_room(self) -> None:
        """It was full and is not any more, or is empty and was watched."""
        self._channel.update_reading()

    # From the channel.

    def give_up(self) -> None:
        """Something that should not happen did: say so to the peer."""
        self._connection.close(1011)

    def handle_events(self, events: list[Event]) -> None:
        """Take the core's events."""
        super().handle_events(events)
        if self.ending is not None:
            # Not at once: what the task does now must not happen while the connection is being taken apart.
            self._queue.wake_soon()
        elif self._queue:
            self._queue.wake()

    def _settle(self, pong: asyncio.Future[float], rtt: float) -> None:
        if not pong.done():
            pong.set_result(rtt)

    def _finish(self, ending: Disconnected) -> None:
        # What tells how it was must not hold on to this.
        self._queue.close(Over(ending))
        if self._closed is not None:
            self._closed.set_result(ending)
        for pong in (self._pongs or {}).values():
            if not pong.done():
                pong.set_exception(closed_error(ending))
                pong.exception()


def _retrieve(pong: asyncio.Future[float]) -> None:
    """Nobody has to await a pong: that none came is no news."""
    if not pong.cancelled():
        pong.exception()
