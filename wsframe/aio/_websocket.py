"""``WebSocket``: what handlers and callers of ``connect`` hold in their hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Self

from .._adapter._conduct import code_for_leaving
from .._adapter._exceptions import ConnectionClosedOK, closed_error
from .._adapter._websocket import BytesLike, WebSocketBase, check_message, queue_message
from .._backend import Finished, Lane
from .._connection import Connection
from .._enums import Role, State
from .._errors import SlowPeerError
from .._events import Disconnected, Event
from .._frames import PreparedMessage
from .._http import Request, Response
from ._channel import Channel
from ._transports import AnyInbox, new_inbox, reader_of

__all__ = ["WebSocket", "broadcast"]

#: So many messages are sent without waiting before others get their turn.
_MAX_BURST = 32

#: What is returned when there is nothing to wait for.
_DONE = Finished()


class WebSocket(WebSocketBase["asyncio.Future[float]"]):
    """An open WebSocket. Made by `serve` and `connect`.

    ``async for message in ws`` gives messages until the connection ends: quietly when it was closed cleanly with 1000,
    1001 or no code, else with `ConnectionClosedError`. Either way ``ws.ending`` says afterwards how it ended.

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
        "_loop",
        "_turn",
        "local_address",
        "remote_address",
    )

    def __init__(
        self,
        channel: Channel,
        connection: Connection,
        request: Request,
        response: Response | None = None,
        on_end: Callable[[Disconnected], None] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._queue: AnyInbox = self._new_queue(loop, channel, connection)
        super().__init__(connection, request, response, on_end)
        assert channel.transport is not None
        self.local_address: Any = channel.transport.get_extra_info("sockname")
        self.remote_address: Any = channel.transport.get_extra_info("peername")
        self._loop = loop
        self._channel = channel
        # Senders that wait for room do so in line.
        self._turn: asyncio.Lock | None = None
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

    async def recv(self) -> str | bytes:
        """Wait for the next message: ``str`` for text, ``bytes`` for binary. Cancelling it loses nothing.

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection ended, and all messages before that were read.
            RuntimeError: another task is in ``recv`` already.
        """
        return await reader_of(self._queue)

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return reader_of(self._queue, iterating=True)

    # Sending.

    def send(self, message: str | BytesLike | PreparedMessage) -> Coroutine[Any, Any, None]:
        """Send a message: text from a ``str``, binary from bytes-like data, or either as it was prepared.

        While more is buffered than the high-water mark, this waits, in line with other senders. Then the message is
        queued at once and whole: when this is cancelled, either all of it is sent or nothing.

        Raises:
            TypeError: the message is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
            ConnectionClosedOK, ConnectionClosedError: the connection is over. What was queued may not have arrived.
        """
        lane = self._lane
        if lane is not None and not self._in_line and lane.send(message):
            return _DONE
        return self._send(message)

    async def _send(self, message: str | BytesLike | PreparedMessage) -> None:
        check_message(message)
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
        down but itself: with ``ws.buffered``, or by waiting in ``drain``. When more than ``Limits.write_hard_cap``
        bytes wait already, the peer is too slow: it loses its connection, with 1013.

        Returns:
            whether it was queued. It was not if the connection is closing or has ended; ``ending`` will say why.

        Raises:
            TypeError: the message is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
        """
        lane = self._lane
        if lane is not None and (
            lane.send_framed(message.frame) if type(message) is PreparedMessage else lane.send_nowait(message)
        ):
            return True
        connection = self._connection
        check_message(message)
        if connection.state is not State.OPEN:
            return False
        self._channel.gather()
        try:
            queue_message(connection, message)
        except SlowPeerError:
            return False
        return True

    async def _wait_in_line(self) -> None:
        """Wait for room, behind those who came first."""
        self._in_line += 1
        if self._turn is None:
            self._turn = asyncio.Lock()
        try:
            async with self._turn:
                if self._sent_in_a_row() >= _MAX_BURST:
                    # Let others have their turn, and what was received be read.
                    self._burst = 0
                    if self._lane is not None:
                        self._lane.burst = 0
                    await asyncio.sleep(0)
                await self._channel.room()
        finally:
            self._in_line -= 1

    def _sent_in_a_row(self) -> int:
        """Messages that were sent since there was something to wait for."""
        return self._burst + (0 if self._lane is None else self._lane.burst)

    async def drain(self) -> None:
        """Wait until no more than the low-water mark is waiting to be written. (``send`` waits for less.)

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection is over. What was queued may not have arrived.
        """
        if self._connection.state is State.OPEN:
            await self._channel.drained()
        if self._connection.state is not State.OPEN:
            raise closed_error(await self.wait_closed())

    async def ping(self, payload: BytesLike | None = None) -> Awaitable[float]:
        """Send a ping. Before that it waits for room, as ``send`` does.

        Args:
            payload: at most 125 bytes; by default 4 random ones.

        Returns:
            an awaitable that gives the round-trip time in seconds when the pong comes. Awaiting it is not necessary.

        Raises:
            LocalProtocolError: the payload is too long.
            ConnectionClosedOK, ConnectionClosedError: the connection is over; also from the awaitable.
        """
        if self._channel.congested or self._in_line:
            await self._wait_in_line()
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
        self._connection.close(code, reason)
        self._channel.advance()
        self._channel.update_reading()

    def abort(self) -> None:
        """Drop the connection at once, without a Close frame."""
        self._connection.abort()
        self._channel.advance()

    async def wait_closed(self) -> Disconnected:
        """Wait until the connection has ended, and return how."""
        return await asyncio.shield(self._closed_future())

    def _closed_future(self) -> asyncio.Future[Disconnected]:
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
    def context(self) -> Any:
        """What ``on_request`` has attached with ``Accept(context=...)``; None if nothing."""
        return self.request.context

    @property
    def path_params(self) -> Mapping[str, Any]:
        """The parameters in the path by which a server has found the handler."""
        # Not a slot: most have none.
        params: Mapping[str, Any] = self.__dict__.get("path_params", {})
        return params

    @path_params.setter
    def path_params(self, params: Mapping[str, Any]) -> None:
        self.__dict__["path_params"] = params

    @property
    def reader(self) -> asyncio.Task[Any] | None:
        """The task that waits in ``recv``."""
        task: asyncio.Task[Any] | None = self._queue.reader
        return task

    # From the queue.

    def why_over(self, iterating: bool) -> BaseException | None:
        """What tells a reader that nothing comes any more; None while something may."""
        # There is nothing to read, so others have their turn.
        self._burst = 0
        return None if self.ending is None else _Over(self.ending).why_over(iterating)

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
        self._queue.close(_Over(ending))
        if self._closed is not None:
            self._closed.set_result(ending)
        for pong in (self._pongs or {}).values():
            if not pong.done():
                pong.set_exception(closed_error(ending))
                pong.exception()


class _Over:
    """Tells a reader how the connection has ended."""

    __slots__ = ("_ending",)

    def __init__(self, ending: Disconnected) -> None:
        self._ending = ending

    def why_over(self, iterating: bool) -> BaseException:
        error = closed_error(self._ending)
        return StopAsyncIteration() if iterating and isinstance(error, ConnectionClosedOK) else error

    def has_room(self) -> None:
        """Nothing is read any more."""


def broadcast(websockets: Iterable[WebSocket], message: str | BytesLike | PreparedMessage) -> int:
    """Send one message to many with ``send_nowait``, framing it once for all that can share it.

    These are the connections of servers that have not agreed on compression. A `PreparedMessage` is shared by all
    connections of servers, and not compressed.

    Args:
        websockets: to whom. One that is closing is left out; one whose peer is too slow is the only one that suffers.
        message: as for ``send_nowait``.

    Returns:
        for how many it was queued.

    Raises:
        TypeError: the message is of another type.
        LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
    """
    check_message(message)
    shared = message if isinstance(message, PreparedMessage) else PreparedMessage(message)
    count = 0
    # Whoever keeps them may take one out when it ends.
    for websocket in list(websockets):
        alone = websocket.role is Role.CLIENT or websocket._connection.extensions
        count += websocket.send_nowait(message if alone else shared)
    return count


def _retrieve(pong: asyncio.Future[float]) -> None:
    """Nobody has to await a pong: that none came is no news."""
    if not pong.cancelled():
        pong.exception()
