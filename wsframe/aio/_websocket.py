"""``WebSocket``: what handlers and callers of ``connect`` hold in their hands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .._adapter._exceptions import ConnectionClosedOK, closed_error
from .._adapter._websocket import BytesLike, WebSocketBase, check_message, queue_message
from .._connection import Connection
from .._enums import Role, State
from .._errors import SlowPeerError
from .._events import Disconnected, Event
from .._frames import PreparedMessage
from .._http import Request, Response
from ._channel import Channel

__all__ = ["WebSocket", "broadcast"]

#: So many messages are sent without waiting before others get their turn.
_MAX_BURST = 32


class WebSocket(WebSocketBase["asyncio.Future[float]"]):
    """An open WebSocket. Made by `serve` and `connect`.

    ``async for message in ws`` gives messages until the connection ends: quietly when it was closed cleanly with 1000,
    1001 or no code, else with `ConnectionClosedError`. Either way ``ws.ending`` says afterwards how it ended.

    Attributes:
        request: the opening handshake's request.
        response: its response; None on a server.
        ending: how the connection ended; None while it has not.
        local_address: the local address, as sockets give it.
        remote_address: the peer's address, as sockets give it.
    """

    def __init__(
        self,
        channel: Channel,
        connection: Connection,
        request: Request,
        response: Response | None = None,
        on_end: Callable[[Disconnected], None] | None = None,
    ) -> None:
        super().__init__(connection, request, response, on_end)
        assert channel.transport is not None
        self.local_address: Any = channel.transport.get_extra_info("sockname")
        self.remote_address: Any = channel.transport.get_extra_info("peername")
        self._loop = asyncio.get_running_loop()
        self._channel = channel
        self._waiter: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[Any] | None = None
        # Senders that wait for room do so in line.
        self._turn = asyncio.Lock()
        self._in_line = 0
        # Messages that were sent since there was something to wait for.
        self._burst = 0
        self._closed: asyncio.Future[Disconnected] = self._loop.create_future()
        # From now on the connection is driven directly.
        channel.endpoint = connection
        channel.owner = self

    # Receiving.

    async def recv(self) -> str | bytes:
        """Wait for the next message: ``str`` for text, ``bytes`` for binary. Cancelling it loses nothing.

        Raises:
            ConnectionClosedOK, ConnectionClosedError: the connection ended, and all messages before that were read.
            RuntimeError: another task is in ``recv`` already.
        """
        queue = self._queue
        if not queue or self._reader is not None:
            await self._wait_for_message()
        message = queue.get()
        if self._channel.reading_is_paused and not queue.full:
            self._channel.update_reading()
        return message.data

    async def _wait_for_message(self) -> None:
        if self._reader is not None:
            name = self._reader.get_name()
            raise RuntimeError(f"recv() is already waiting in {name}; a WebSocket has one reader at a time")
        self._reader = asyncio.current_task()
        try:
            while not self._queue:
                if self.ending is not None:
                    raise closed_error(self.ending)
                self._waiter = self._loop.create_future()
                self._burst = 0
                await self._waiter
        finally:
            self._waiter = self._reader = None

    def __aiter__(self) -> WebSocket:
        return self

    async def __anext__(self) -> str | bytes:
        try:
            return await self.recv()
        except ConnectionClosedOK:
            raise StopAsyncIteration from None

    # Sending.

    async def send(self, message: str | BytesLike | PreparedMessage) -> None:
        """Send a message: text from a ``str``, binary from bytes-like data, or either as it was prepared.

        While more is buffered than the high-water mark, this waits, in line with other senders. Then the message is
        queued at once and whole: when this is cancelled, either all of it is sent or nothing.

        Raises:
            TypeError: the message is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
            ConnectionClosedOK, ConnectionClosedError: the connection is over. What was queued may not have arrived.
        """
        check_message(message)
        connection, channel = self._connection, self._channel
        if channel.congested or self._in_line or self._burst >= _MAX_BURST:
            await self._wait_in_line()
        self._burst += 1
        if connection.state is not State.OPEN:
            raise closed_error(await self.wait_closed())
        try:
            if isinstance(message, str):
                connection.send_text(message)
            else:
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

        What is sent in one turn of the event loop leaves together. Nothing slows the caller down but itself: with
        ``ws.buffered``, or by waiting in ``drain``. When more than ``Limits.write_hard_cap`` bytes wait already, the
        peer is too slow: it loses its connection, with 1013.

        Returns:
            whether it was queued. It was not if the connection is closing or has ended; ``ending`` will say why.

        Raises:
            TypeError: the message is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
        """
        connection = self._connection
        check_message(message)
        if connection.state is not State.OPEN:
            return False
        self._channel.gather()
        try:
            if isinstance(message, str):
                connection.send_text(message)
            else:
                queue_message(connection, message)
        except SlowPeerError:
            return False
        return True

    async def _wait_in_line(self) -> None:
        """Wait for room, behind those who came first."""
        self._in_line += 1
        try:
            async with self._turn:
                if self._burst >= _MAX_BURST:
                    # Let others have their turn, and what was received be read.
                    self._burst = 0
                    await asyncio.sleep(0)
                await self._channel.room()
        finally:
            self._in_line -= 1

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
        waiter = self._pongs.get(sent)
        if waiter is None:
            waiter = self._pongs[sent] = self._loop.create_future()
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
        return await asyncio.shield(self._closed)

    def add_done_callback(self, callback: Callable[[WebSocket], object]) -> None:
        """Have something called when the connection has ended, or soon if it has: for those who wait for nothing.

        As with futures, it is called by the event loop, once, with this object, whose ``ending`` is set.
        """
        self._closed.add_done_callback(lambda _: callback(self))

    @property
    def reader(self) -> asyncio.Task[Any] | None:
        """The task that waits in ``recv``."""
        return self._reader

    # From the channel.

    def give_up(self) -> None:
        """Something that should not happen did: say so to the peer."""
        self._connection.close(1011)

    def handle_events(self, events: list[Event]) -> None:
        """Take the core's events."""
        super().handle_events(events)
        if self._waiter is not None and not self._waiter.done() and (self._queue or self.ending is not None):
            self._waiter.set_result(None)

    def _settle(self, pong: asyncio.Future[float], rtt: float) -> None:
        if not pong.done():
            pong.set_result(rtt)

    def _finish(self, ending: Disconnected) -> None:
        self._closed.set_result(ending)
        for pong in self._pongs.values():
            if not pong.done():
                pong.set_exception(closed_error(ending))
                pong.exception()


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
