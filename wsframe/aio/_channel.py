"""``Channel``: drives one sans-IO endpoint over one asyncio transport. It obeys and decides nothing.

A BufferedProtocol, because a plain Protocol makes asyncio allocate 256 KiB for every read.
"""

from __future__ import annotations

import asyncio
import ssl as ssl_module
import weakref
from collections.abc import Callable
from typing import Protocol

from .._client import Client
from .._config import Limits
from .._connection import Connection
from .._enums import Cause, State, Transport
from .._events import Event
from .._server import Server

__all__ = ["Channel", "Owner"]

#: Size of the receive buffer that all connections of an event loop share: it is only in use between two calls.
_BUFFER_SIZE = 256 * 1024
_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = weakref.WeakKeyDictionary()


def _shared_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    try:
        return _buffers[loop]
    except KeyError:
        buffer = _buffers[loop] = memoryview(bytearray(_BUFFER_SIZE))
        return buffer


class Owner(Protocol):
    """Who uses a channel."""

    def handle_events(self, events: list[Event]) -> None:
        """Take events. May call the endpoint; the channel flushes afterwards."""

    def wants_data(self) -> bool:
        """Whether there is room for more messages."""


class Channel(asyncio.BufferedProtocol):
    """The way between an endpoint and a transport.

    Args:
        endpoint: the sans-IO side; replaced by its ``Connection`` once that exists.
        owner: who gets the events.
        limits: for the write buffer's water marks.
        securing: TLS is not established yet; until it is nothing is written.
        on_connected: called when the transport is there.
    """

    def __init__(
        self,
        endpoint: Client | Server,
        owner: Owner,
        limits: Limits,
        *,
        securing: bool = False,
        on_connected: Callable[[], None] | None = None,
    ) -> None:
        self.endpoint: Client | Server | Connection = endpoint
        self.owner = owner
        self.secure = securing
        self.lost = False
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self._securing = securing
        self._on_connected = on_connected
        self._buffer = _shared_buffer(self._loop)
        self._timer: asyncio.TimerHandle | None = None
        self._corked = False
        self._flush_scheduled = False
        self._more_scheduled = False
        self._write_paused = False
        self._read_paused = False
        self._eof_written = False
        self._room_waiters: list[asyncio.Future[None]] = []

    # From asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._use(transport)
        if self._on_connected is not None:
            self._on_connected()
        self.advance()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._receive(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        self._deliver(self.endpoint.receive_eof)
        # TCP stays half open until the endpoint's verdict; TLS cannot.
        return not self.secure

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(exc, _cause_of(exc))

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self.advance()
        if not self._write_paused:
            self._release_writers()

    # For the owner.

    def secured(self, transport: asyncio.Transport) -> None:
        """TLS is established."""
        self._securing = False
        self._use(transport)
        self.advance()
        self.update_reading()

    def end(self, exc: BaseException | None, cause: Cause) -> None:
        """The transport is gone, or could not be made."""
        if self.lost:
            return
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        events = self.endpoint.receive_error(exc, cause) if exc is not None else []
        events += self.endpoint.transport_closed()
        self.owner.handle_events(events)
        self._release_writers()

    def advance(self) -> None:
        """Hand on what the endpoint wants to send, obey its verdict, and arrange for its next deadline."""
        if self._corked or self.lost:
            return
        if self.transport is not None:
            if self._securing:
                # Nothing can be said yet, so there is only one way to end it.
                if self.endpoint.transport is not Transport.OPEN:
                    self.transport.abort()
            else:
                self._flush(self.transport)
                self._obey(self.transport)
        self._schedule()

    def advance_soon(self) -> None:
        """As ``advance``, once at the end of this turn: what is sent until then leaves in one system call."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._advance_now)

    def update_reading(self) -> None:
        """Read while there is room for messages; while ending, always: the peer's Close has to be found."""
        transport = self.transport
        if self.lost or transport is None or self._securing or transport.is_closing():
            return
        is_open = self.endpoint.state is State.OPEN
        full = is_open and not self.owner.wants_data()
        if self.endpoint.has_more and not full and not self._more_scheduled:
            self._more_scheduled = True
            self._loop.call_soon(self._continue)
        pause = full or self.endpoint.has_more
        if pause != self._read_paused:
            self._read_paused = pause
            if pause:
                transport.pause_reading()
            else:
                transport.resume_reading()
            self.endpoint.reading_paused(pause)
            self.advance()

    @property
    def congested(self) -> bool:
        """More is waiting to be written than the high-water mark."""
        return self._write_paused and not self.lost

    async def room(self) -> None:
        """Wait until no longer ``congested``, or lost."""
        while self.congested:
            waiter = self._loop.create_future()
            self._room_waiters.append(waiter)
            try:
                await waiter
            finally:
                if waiter in self._room_waiters:
                    self._room_waiters.remove(waiter)

    # Inside.

    def _use(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        transport.set_write_buffer_limits(self._limits.write_high_water, self._limits.write_low_water)

    def _receive(self, data: memoryview | bytes) -> None:
        self._deliver(lambda: self.endpoint.receive_data(data, self._loop.time()))

    def _continue(self) -> None:
        self._more_scheduled = False
        if not self.lost and (self.endpoint.state is not State.OPEN or self.owner.wants_data()):
            self._receive(b"")

    def _deliver(self, source: Callable[[], list[Event]]) -> None:
        """Take events to the owner with the output held back, so that all replies leave together."""
        if self.lost:
            return
        self._corked = True
        try:
            self.owner.handle_events(source())
        finally:
            self._corked = False
        self.advance()
        if self.endpoint.has_more or self._read_paused or not self.owner.wants_data():
            self.update_reading()

    def _advance_now(self) -> None:
        self._flush_scheduled = False
        self.advance()

    def _flush(self, transport: asyncio.Transport) -> None:
        endpoint = self.endpoint
        # Above high water the rest stays with the endpoint, which can still drop it or put a Close in front.
        if not transport.is_closing() and (not self._write_paused or endpoint.transport is Transport.ABORT):
            out = endpoint.data_to_send()
            if len(out) == 1:
                transport.write(out[0])
            elif out:
                transport.writelines(out)
        endpoint.unsent(transport.get_write_buffer_size())

    def _obey(self, transport: asyncio.Transport) -> None:
        verdict = self.endpoint.transport
        if verdict is Transport.OPEN:
            return
        if self._read_paused:
            self.update_reading()
        if verdict is Transport.ABORT:
            transport.abort()
        elif self._write_paused:
            # Output is still with the endpoint.
            return
        elif verdict is Transport.CLOSE:
            transport.close()
        elif not self._eof_written and not self.secure and not transport.is_closing() and transport.can_write_eof():
            self._eof_written = True
            transport.write_eof()

    def _schedule(self) -> None:
        deadline = self.endpoint.next_timeout(self._loop.time())
        if self._timer is not None:
            # A timer that fires too early does no harm, and is cheaper than a new one for every chunk.
            if deadline is not None and self._timer.when() <= deadline and not self._timer.cancelled():
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._deliver(lambda: self.endpoint.handle_timeout(self._loop.time()))

    def _release_writers(self) -> None:
        for waiter in self._room_waiters:
            if not waiter.done():
                waiter.set_result(None)


def _cause_of(exc: BaseException | None) -> Cause:
    if isinstance(exc, ssl_module.SSLError):
        return Cause.TLS_ERROR
    if isinstance(exc, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)):
        return Cause.RESET
    return Cause.TRANSPORT_ERROR
