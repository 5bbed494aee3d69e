"""``Channel``: drives one sans-IO endpoint over one asyncio transport. It obeys and decides nothing.

A BufferedProtocol, because a plain Protocol makes asyncio allocate 256 KiB for every read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl as ssl_module
from collections.abc import Callable
from typing import Any, Protocol, cast

from .._adapter._conduct import cause_of
from .._adapter._owner import Nobody, Owner
from .._client import Client
from .._config import Limits
from .._connection import Connection
from .._enums import Cause, State, Transport
from .._events import Event
from .._server import Server
from ._lane import LaneHost, Tap
from ._transports import clock_of, shared_buffer

__all__ = ["Channel", "Tap", "logger"]

logger = logging.getLogger("wsframe")

#: So many bytes are gathered at the most, before the rest of what is sent together.
_MOST_GATHERED = 256 * 1024

#: How long messages may stay unread before the endpoint goes on with what it kept back behind them.
_UNREAD_WAIT = 1.0


class ChannelOwner(Owner, Protocol):
    """Who uses a channel."""

    def give_up(self) -> None:
        """An exception came out of ``handle_events``, or of a callable that the endpoint was given: end it."""


class _Nobody(Nobody):
    def give_up(self) -> None:
        pass


class Channel(LaneHost, asyncio.BufferedProtocol):
    """The way between an endpoint and a transport.

    Args:
        endpoint: the sans-IO side; replaced by its ``Connection`` once that exists.
        owner: who gets the events.
        limits: for the write buffer's water marks.
        securing: TLS is not established yet; until it is nothing is taken or written.
        on_connected: called when the transport is there.
        tap: hears the bytes of both directions, inside TLS.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_draining",
        "_early",
        "_early_eof",
        "_failed",
        "_flush_scheduled",
        "_limits",
        "_more",
        "_more_waits",
        "_most_gathered",
        "_on_connected",
        "_room_waiters",
        "_secure",
        "_securing",
        "_timer",
        "_timer_at",
        "_write_paused",
        "before_tls",
        "owner",
        "reading_is_paused",
    )

    def __init__(
        self,
        endpoint: Client | Server,
        owner: ChannelOwner,
        limits: Limits,
        *,
        securing: bool = False,
        on_connected: Callable[[], None] | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.endpoint: Client | Server | Connection = endpoint
        self.owner: ChannelOwner = owner
        self.lost = False
        self.reading_is_paused = False
        self.transport: asyncio.Transport | None = None
        # The way for ordinary messages, once it is open.
        self.lane = None
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        # So much does not wait for more: before a peer counts as slow it shall have had a chance.
        self._most_gathered = min(_MOST_GATHERED, limits.write_hard_cap)
        self._secure = self._securing = securing
        # Below TLS: the transport that has its own buffer.
        self._plain = None
        # What came in plain before start_tls had begun, and through TLS before it had returned.
        self.before_tls = b""
        self._early = b""
        self._early_eof = False
        self._on_connected = on_connected
        self._tap = tap
        self._clock = clock_of(self._loop)
        self._buffer = shared_buffer(self._loop)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._corked = False
        self._failed = False
        self._flush_scheduled = False
        self._more: asyncio.Handle | None = None
        self._more_waits = False
        self._write_paused = False
        # The high-water mark is as low as the low one, so that the transport says when it is reached.
        self._draining = False
        self._write_over = False
        self._room_waiters: tuple[asyncio.Future[None], ...] = ()

    # From asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        if self.lost:
            # Whoever wanted it gave up while it was being made.
            transport.abort()
            return
        self._use(transport)
        connected, self._on_connected = self._on_connected, None
        if connected is not None:
            connected()
        # Not at once: where a peer has reset the connection already the write fails, and uvloop, as long as it is in
        # create_connection, then forgets that the socket is its own to close.
        self.advance_soon()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.lane is not None and self.lane.receive(self._buffer, nbytes):
            return
        if self._securing:
            # Once start_tls has begun the transport has another protocol, and what comes here came through TLS.
            plain = self.transport is not None and self.transport.get_protocol() is self
            if plain:
                self.before_tls += self._buffer[:nbytes]
            else:
                self._early += self._buffer[:nbytes]
        else:
            self._receive(self._buffer[:nbytes])

    def eof_received(self) -> bool:
        if self._securing:
            self._early_eof = True
            return False
        # TCP stays half open until the endpoint's verdict; TLS cannot, and its transport takes nothing any more.
        self._write_over |= self._secure
        self._deliver(self.endpoint.receive_eof)
        return not self._secure

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None and self._secure and not self._securing:
            # uvloop does not say so when it was the end of the stream; where we closed, this changes nothing.
            self._write_over = True
            self._deliver(self.endpoint.receive_eof)
        self.end(exc, cause_of(exc, ssl_module.SSLError))

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._draining:
            self._set_water_marks(draining=False)
        # Not at once: what fails or closes now, inside asyncio's own write, ends the transport twice (CPython's issue
        # 156512), once with another reason.
        self.advance_soon()

    # For the owner.

    def secured(self, transport: asyncio.Transport) -> None:
        """TLS is established; what came through it before that was known is taken now."""
        if self.lost:
            return
        self._plain = self.transport
        self._use(transport)
        self._take_early()
        self.advance()
        self.update_reading()

    def use_limits(self, limits: Limits) -> None:
        """Have other water marks from now on."""
        if limits is not self._limits:
            self._limits = limits
            self._most_gathered = min(_MOST_GATHERED, limits.write_hard_cap)
            self._set_water_marks(draining=False)

    def end(self, exc: BaseException | None, cause: Cause) -> None:
        """The transport is gone, or could not be made, or is dropped."""
        if self.lost:
            return
        # From here on nothing is written, least of all in plain below a TLS that was not ready.
        self._write_over = True
        if self._early or self._early_eof:
            self._take_early()
        self.lost = True
        if self.lane is not None:
            self.lane.close()
            self.lane = None
        for handle in (self._timer, self._more):
            if handle is not None:
                handle.cancel()
        self._timer = self._more = None
        if self.transport is not None and not self.transport.is_closing():
            self.transport.abort()
        try:
            # When it is that the transport is gone; of the calls that follow none can say so.
            self.endpoint.next_timeout(self._clock())
            events = self.endpoint.receive_error(exc, cause) if exc is not None else []
            self.owner.handle_events(events + self.endpoint.transport_closed())
        except Exception:
            logger.exception("the end of a connection could not be handled")
        self.owner = _Nobody()
        self._on_connected = None
        # TLS holds on to its protocol, this, for good.
        self.transport = self._plain = None
        self._release_writers()

    def advance(self) -> None:
        """Hand on what the endpoint wants to send, obey its verdict, and arrange for its next deadline."""
        transport, lane = self.transport, self.lane
        if self._corked or self.lost or transport is None or (lane is not None and lane.corked):
            return
        if not self._securing:
            self._flush(transport)
            if self.endpoint.transport is not Transport.OPEN:
                self._obey(transport)
        elif self.endpoint.transport is not Transport.OPEN:
            # Nothing can be said yet, so there is only one way to end it.
            transport.abort()
        self._schedule()

    def advance_soon(self) -> None:
        """As ``advance``, once at the end of this turn: what is sent until then leaves in one system call."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._advance_now)

    def gather(self) -> None:
        """Something is about to be sent: let it leave with all else that is sent for this chunk, or in this turn."""
        if self.endpoint.buffered >= self._most_gathered and self.transport is not None:
            self._flush(self.transport)
        if not self._corked:
            self.advance_soon()

    def has_room(self) -> bool:
        """Whether what is sent now need not wait. What was gathered is no reason: that is written first."""
        if self.endpoint.buffered > self._limits.write_high_water and self.transport is not None:
            self._flush(self.transport)
        return not self.congested

    def update_reading(self) -> None:
        """Read while there is room for messages; while ending, always: the peer's Close has to be found."""
        transport = self.transport
        if self.lost or transport is None or self._securing or transport.is_closing():
            return
        full = self.endpoint.state is State.OPEN and not self.owner.wants_data()
        more = self.endpoint.has_more
        if more and not full:
            self._schedule_more()
        pause = full or more
        if pause != self.reading_is_paused:
            self.reading_is_paused = pause
            if pause:
                transport.pause_reading()
            else:
                transport.resume_reading()
            self.endpoint.reading_paused(pause)
            self.advance()

    @property
    def congested(self) -> bool:
        """More is waiting to be written than the high-water mark, or the transport takes nothing any more."""
        return not self.lost and (self._write_paused or self._is_closing())

    async def room(self) -> None:
        """Wait until no longer ``congested``, or lost."""
        while self.congested:
            await self._resumed()

    async def drained(self) -> None:
        """Wait until no more than the low-water mark is waiting to be written, or lost."""
        while not self.lost:
            if not self._write_paused:
                self._set_water_marks(draining=True)
            if not self._write_paused:
                self._set_water_marks(draining=False)
                break
            await self._resumed()

    @property
    def takes_no_more(self) -> bool:
        """More is waiting in the transport than the high-water mark."""
        return self._write_paused

    # Inside.

    async def _resumed(self) -> None:
        """Wait until the transport takes more, or is lost."""
        waiter = self._loop.create_future()
        self._room_waiters += (waiter,)
        try:
            await waiter
        finally:
            self._room_waiters = tuple([other for other in self._room_waiters if other is not waiter])

    def _use(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self._set_water_marks(draining=False)

    def _set_water_marks(self, *, draining: bool) -> None:
        """Tell the transport when to pause us, which it may do at once, and when to resume."""
        self._draining = draining
        transport = self.transport
        # uvloop's take no orders once they are closed.
        if transport is not None and not transport.is_closing():
            high, low = self._limits.write_high_water, self._limits.write_low_water
            transport.set_write_buffer_limits(low if draining else high, low)

    def _take_early(self) -> None:
        self._securing = False
        early, self._early = self._early, b""
        if early:
            self._receive(early)
        if self._early_eof:
            self._early_eof = False
            self.eof_received()

    def _receive(self, data: memoryview | bytes) -> None:
        if self._tap is not None:
            self._tap.received(data)
        self.endpoint.traffic.bytes_in += len(data)
        self._deliver(self.endpoint.receive_data, data, self._clock())

    def _deliver(self, source: Callable[..., list[Event]], *arguments: Any) -> None:
        """Take events to the owner with the output held back, so that all replies leave together."""
        if self.lost:
            return
        self._corked = True
        if self.lane is not None:
            self.lane.cork(True)
        try:
            self.owner.handle_events(source(*arguments))
        except Exception as exc:
            self.fail(exc)
        finally:
            self._corked = False
            if self.lane is not None:
                self.lane.cork(False)
        self.advance()
        if self.endpoint.has_more or self.reading_is_paused or not self.owner.wants_data():
            self.update_reading()

    def fail(self, exc: BaseException) -> None:
        """An exception came out of the code that events were given to: a bug, here or in the application's code.

        The connection must end all the same.
        """
        if self._failed:
            self.endpoint.abort()
        else:
            self._failed = True
            logger.error("a connection ends because its events could not be handled", exc_info=exc)
            self.owner.give_up()

    def _schedule_more(self) -> None:
        """Take what the endpoint kept back: at once, or as soon as the application has read what it has.

        It may be the end of the connection, after which nothing that came before it can be answered any more.
        """
        wait = self.endpoint.state is State.OPEN and self.owner.has_unread()
        if self._more is not None:
            if wait or not self._more_waits:
                return
            self._more.cancel()
        self._more_waits = wait
        if wait:
            self._more = self._loop.call_later(_UNREAD_WAIT, self._continue)
        else:
            self._more = self._loop.call_soon(self._continue)

    def _continue(self) -> None:
        """Take what the endpoint kept back, if there still is room for it."""
        self._more = None
        if self.endpoint.state is not State.OPEN or self.owner.wants_data():
            self._deliver(self.endpoint.receive_data, b"", self._clock())

    def _advance_now(self) -> None:
        self._flush_scheduled = False
        self.advance()
        if self._room_waiters and not self._write_paused:
            self._release_writers()
        if self.reading_is_paused:
            self.update_reading()

    def _flush(self, transport: asyncio.Transport) -> None:
        endpoint = self.endpoint
        if self.lane is not None:
            # What it has gathered was sent before.
            self.lane.flush()
        # Above high water the rest stays with the endpoint, which can still drop it or put a Close in front.
        if not self._write_paused and not self._write_over and not self._is_closing():
            out = endpoint.data_to_send()
            if self._tap is not None:
                for piece in out:
                    self._tap.sent(piece)
            if len(out) == 1:
                transport.write(out[0])
            elif out:
                transport.writelines(out)
                if (
                    transport.get_write_buffer_size() > self._limits.write_high_water
                    and not self._write_paused
                ):
                    # Python 3.12 and 3.13 have releases whose writelines() forgets the high-water mark; this looks.
                    self._set_water_marks(draining=self._draining)
        self._tell_unsent(transport)

    def _obey(self, transport: asyncio.Transport) -> None:
        if self.reading_is_paused:
            self.update_reading()
        verdict = self.endpoint.transport
        if verdict is Transport.ABORT:
            transport.abort()
        elif self._write_paused and not self._write_over:
            # Output is still with the endpoint.
            return
        elif transport.is_closing():
            # A TLS transport that is closed twice cannot be aborted any more.
            return
        elif verdict is Transport.CLOSE:
            transport.close()
        elif not self._secure and not self._write_over:
            self._write_over = True
            # The peer may have reset the connection, which reading has not found out yet.
            with contextlib.suppress(OSError):
                transport.write_eof()

    def _schedule(self) -> None:
        deadline = self.endpoint.next_timeout(self._clock())
        if self._timer is not None:
            # A timer that fires too early does no harm, and is cheaper than a new one for every chunk.
            if deadline is not None and self._timer_at <= deadline:
                return
            self._timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer = self._loop.call_at(deadline, self._on_timer)
            # Not Handle.when(): uvloop's handles for what is due do not have it.
            self._timer_at = deadline

    def _on_timer(self) -> None:
        self._timer = None
        if self.transport is not None:
            # How much has left since decides over some deadlines.
            self._tell_unsent(self.transport)
        self._deliver(self.endpoint.handle_timeout, self._clock())

    def _release_writers(self) -> None:
        for waiter in self._room_waiters:
            if not waiter.done():
                waiter.set_result(None)
