"""Keepalive and round-trip times of one connection (RFC 6455 s5.5.2, s5.5.3).

Any received byte is a sign of life, so nothing has to be done when one comes but to set ``Traffic.alive``. Deadlines
that turn out to be too early are moved when they expire.
"""

from __future__ import annotations

from ._backend import Traffic
from ._config import Timeouts
from ._enums import Cause
from ._timers import Timer, Timers

__all__ = ["Heartbeat", "Keepalive", "keepalive_for"]

#: After a ping timeout has expired the adapter gets this long to read once more, and to say what has left: the deadline
#: may have passed because the event loop was blocked, with the peer's answer waiting in the socket.
GRACE = 0.1

#: Pings of ours that may be unanswered at a time; beyond it the oldest is forgotten.
_MAX_PENDING = 64


class Keepalive:
    """When to ping, and when a silent peer is lost.

    Attributes:
        latency: seconds of the last measured round trip, or None.
    """

    __slots__ = (
        "_flushed",
        "_leaves_at",
        "_left_at",
        "_paused",
        "_pending",
        "_timeouts",
        "_timers",
        "_traffic",
        "latency",
    )

    def __init__(self, timeouts: Timeouts, timers: Timers, traffic: Traffic) -> None:
        self._timeouts = timeouts
        self._timers = timers
        self._traffic = traffic
        # Pings that are not answered; None while there are none.
        self._pending: dict[bytes, float | None] | None = None
        self._paused = False
        # The stream offset behind a keepalive ping that is still with the adapter, and what had left before.
        self._leaves_at: int | None = None
        self._flushed = 0
        # When the last keepalive ping had left.
        self._left_at: float | None = None
        self.latency: float | None = None

    def start(self, now: float | None = None) -> None:
        """Wait for silence."""
        if self._timeouts.ping_interval is not None:
            self._timers.start(Timer.PING, self._timeouts.ping_interval, now)

    def stop(self) -> None:
        """No more pings, and no more verdicts."""
        self._timers.stop(Timer.PING, Timer.PONG, Timer.GRACE)
        self._leaves_at = None
        self._pending = None

    def pause(self, paused: bool, last_received: float | None) -> None:
        """Reading was stopped or resumed: as long as nobody reads, silence means nothing.

        Afterwards keepalive starts afresh, with a ping at once unless bytes came within the interval: an adapter may
        pause after every few messages.
        """
        if paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._left_at = None
            self._timers.stop(Timer.PING, Timer.PONG, Timer.GRACE)
        elif self._timeouts.ping_interval is not None:
            if last_received is None:
                self._timers.start(Timer.PING, 0.0)
            else:
                self._timers.start_at(Timer.PING, last_received + self._timeouts.ping_interval)

    # Round trips.

    def sent(self, payload: bytes, now: float | None) -> None:
        """A Ping with that payload was queued at ``now``, or at the next ``tick``."""
        pending = self._pending
        if pending is None:
            pending = self._pending = {}
        pending.pop(payload, None)
        pending[payload] = now
        if len(pending) > _MAX_PENDING:
            del pending[self._oldest(pending)]

    def _oldest(self, pending: dict[bytes, float | None]) -> bytes:
        """Which Ping to forget when there are too many."""
        return next(iter(pending))

    def answered(self, payload: bytes, now: float) -> float | None:
        """A Pong came: seconds since its Ping, or None for a late or unknown one."""
        pending = self._pending
        if pending is None or payload not in pending:
            return None
        # s5.5.3: a Pong may answer the most recent Ping only, so the earlier ones are settled by it.
        for earlier in list(pending):
            queued_at = pending.pop(earlier)
            if earlier == payload:
                break
        if not pending:
            self._pending = None
        if queued_at is None:
            return None
        self.latency = max(0.0, now - queued_at)
        return self.latency

    # Signs of life.

    @property
    def unanswered_since(self) -> float | None:
        """When the last keepalive ping had left; None when something has come since, or nobody could have read it."""
        return None if self._traffic.alive else self._left_at

    def tick(self, now: float, flushed: int) -> bool:
        """The time is known, and how many bytes of the stream have left; return whether a Ping still has to."""
        if self._pending is not None:
            for payload, queued_at in self._pending.items():
                if queued_at is None:
                    self._pending[payload] = now
        if self._leaves_at is None:
            return False
        left = flushed >= self._leaves_at
        if (left or flushed > self._flushed) and not self._paused:
            # The timeout runs from when the ping has left; until then a peer that takes something is not lost.
            self._timers.stop(Timer.GRACE)
            self._watch(now)
        self._flushed = flushed
        if left:
            self._leaves_at = None
            if not self._paused:
                self._left_at = now
        return not left

    def ping_is_due(self, last_received: float | None, now: float) -> bool:
        """PING has expired: whether to send one. The timer is running again afterwards."""
        interval = self._timeouts.ping_interval
        assert interval is not None
        if last_received is not None and last_received + interval > now:
            self._timers.start_at(Timer.PING, last_received + interval)
            return False
        self.start(now)
        if not self._traffic.alive and (
            self._timers.running(Timer.PONG) or self._timers.running(Timer.GRACE)
        ):
            # The last one is still waited for.
            return False
        self._timers.stop(Timer.PONG, Timer.GRACE)
        if self._leaves_at is None:
            return True
        # The peer spoke since, but the last one has not even left: another would not fare better.
        self._traffic.alive = False
        self._watch(now)
        return False

    def ping_sent(self, payload: bytes, now: float, end: int) -> None:
        """A keepalive Ping was queued; it has left once ``end`` bytes of the stream have."""
        self.sent(payload, now)
        self._traffic.alive = False
        self._left_at = None
        self._leaves_at = end
        self._watch(now)

    def _watch(self, now: float) -> None:
        if self._timeouts.ping_timeout is not None:
            self._timers.start(Timer.PONG, self._timeouts.ping_timeout, now)

    def lost(self, timer: Timer, now: float) -> Cause | None:
        """PONG or GRACE has expired: why the peer is lost, or None while it is not."""
        if self._traffic.alive:
            return None
        if timer is Timer.PONG:
            self._timers.start(Timer.GRACE, GRACE, now)
            return None
        return Cause.PING_TIMEOUT if self._leaves_at is None else Cause.SLOW_PEER


class Heartbeat(Keepalive):
    """Pings in a fixed period, whatever else comes. Only its Pong answers one: by the next, or the peer is lost."""

    __slots__ = ("_awaited", "_due", "_period")

    def __init__(self, period: float, timeouts: Timeouts, timers: Timers, traffic: Traffic) -> None:
        super().__init__(timeouts, timers, traffic)
        self._period = period
        # The payload of the Ping that is not answered, and when the next is due.
        self._awaited: bytes | None = None
        self._due: float | None = None

    def start(self, now: float | None = None) -> None:
        """Wait for the first time."""
        self._timers.start(Timer.PING, self._period, now)

    def pause(self, paused: bool, last_received: float | None) -> None:
        """Reading was stopped or resumed: what nobody can read need not have come."""
        if paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._awaited = self._left_at = None
            self._timers.stop(Timer.PING, Timer.GRACE)
        elif self._due is None:
            self.start()
        else:
            self._timers.start_at(Timer.PING, self._due)

    def answered(self, payload: bytes, now: float) -> float | None:
        """A Pong came: seconds since its Ping, or None for a late or unknown one."""
        rtt = super().answered(payload, now)
        if self._awaited is not None and self._awaited not in (self._pending or ()):
            self._awaited = None
            if self._timers.running(Timer.GRACE):
                # In the last moment; the next has been due since.
                self._timers.stop(Timer.GRACE)
                self._timers.start_at(Timer.PING, now)
        return rtt

    def _oldest(self, pending: dict[bytes, float | None]) -> bytes:
        # Not the one that has to be answered.
        return next(payload for payload in pending if payload != self._awaited)

    def ping_is_due(self, last_received: float | None, now: float) -> bool:
        """PING has expired: whether to send one. If not, the last one is not answered."""
        if self._awaited is None and self._leaves_at is None:
            return True
        self._timers.start(Timer.GRACE, GRACE, now)
        return False

    def ping_sent(self, payload: bytes, now: float, end: int) -> None:
        """A heartbeat Ping was queued; it has left once ``end`` bytes of the stream have."""
        self._awaited = payload
        super().ping_sent(payload, now, end)

    def _watch(self, now: float) -> None:
        # From when it has left: until then a peer that takes something is not lost.
        self._due = now + self._period
        self._timers.start(Timer.PING, self._period, now)

    def lost(self, timer: Timer, now: float) -> Cause | None:
        """GRACE has expired: the peer is lost."""
        # Whatever else came is no answer.
        self._traffic.alive = False
        return Cause.PING_TIMEOUT if self._leaves_at is None else Cause.SLOW_PEER


def keepalive_for(timeouts: Timeouts, timers: Timers, traffic: Traffic) -> Keepalive:
    """What those timeouts ask for."""
    if timeouts.heartbeat is None:
        return Keepalive(timeouts, timers, traffic)
    return Heartbeat(timeouts.heartbeat, timeouts, timers, traffic)
