"""Keepalive and round-trip times of one connection (RFC 6455 s5.5.2, s5.5.3).

Any received byte is a sign of life, so nothing has to be done when one comes but to set ``alive``. Deadlines that
turn out to be too early are moved when they expire.
"""

from __future__ import annotations

from ._config import Timeouts
from ._timers import Timer, Timers

__all__ = ["Keepalive"]

#: After a ping timeout has expired the adapter gets this long to read once more: the deadline may have passed
#: because the event loop was blocked, with the peer's answer waiting in the socket.
GRACE = 0.1

#: Pings of ours that may be unanswered at a time; beyond it the oldest is forgotten.
_MAX_PENDING = 64

_SILENCE = (Timer.PONG, Timer.GRACE, Timer.STUCK)


class Keepalive:
    """When to ping, and when a silent peer is lost.

    Attributes:
        alive: set by the connection when bytes come.
        latency: seconds of the last measured round trip, or None.
    """

    __slots__ = ("_flushed", "_leaves_at", "_paused", "_pending", "_timeouts", "_timers", "alive", "latency")

    def __init__(self, timeouts: Timeouts, timers: Timers) -> None:
        self._timeouts = timeouts
        self._timers = timers
        self._pending: dict[bytes, float | None] = {}
        self._paused = False
        # The stream offset behind a keepalive ping that is still with the adapter, and what had left before.
        self._leaves_at: int | None = None
        self._flushed = 0
        self.alive = False
        self.latency: float | None = None

    def start(self, now: float | None = None) -> None:
        """Wait for silence."""
        if self._timeouts.ping_interval is not None:
            self._timers.start(Timer.PING, self._timeouts.ping_interval, now)

    def sent(self, payload: bytes, now: float | None) -> None:
        """A Ping with that payload was queued at ``now``, or at the next ``tick``."""
        self._pending.pop(payload, None)
        self._pending[payload] = now
        if len(self._pending) > _MAX_PENDING:
            del self._pending[next(iter(self._pending))]

    def answered(self, payload: bytes, now: float) -> float | None:
        """A Pong came: seconds since its Ping, or None for a late or unknown one."""
        if payload not in self._pending:
            return None
        # s5.5.3: a Pong may answer the most recent Ping only, so the earlier ones are settled by it.
        for earlier in list(self._pending):
            queued_at = self._pending.pop(earlier)
            if earlier == payload:
                break
        if queued_at is None:
            return None
        self.latency = max(0.0, now - queued_at)
        return self.latency

    def keepalive_sent(self, end: int) -> None:
        """A keepalive Ping was queued; it has left once ``end`` bytes of the stream have."""
        self.alive = False
        self._leaves_at = end
        if self._timeouts.ping_timeout is not None:
            self._timers.start(Timer.STUCK, self._timeouts.ping_timeout)

    def tick(self, now: float, flushed: int) -> bool:
        """The time is known, and how many bytes of the stream have left; return whether a Ping still has to."""
        for payload, queued_at in self._pending.items():
            if queued_at is None:
                self._pending[payload] = now
        if self._leaves_at is None:
            return False
        timeout = self._timeouts.ping_timeout
        if flushed >= self._leaves_at:
            self._leaves_at = None
            self._timers.stop(Timer.STUCK)
            if timeout is not None:
                self._timers.start(Timer.PONG, timeout, now)
        elif flushed > self._flushed and timeout is not None:
            # The peer is slow but takes something: not stuck.
            self._timers.start(Timer.STUCK, timeout, now)
        self._flushed = flushed
        return self._leaves_at is not None

    def ping_is_due(self, last_received: float | None, now: float) -> bool:
        """PING has expired: whether to send one. The timer is running again afterwards."""
        interval = self._timeouts.ping_interval
        assert interval is not None
        waiting = any(self._timers.running(timer) for timer in _SILENCE)
        if waiting and self.alive:
            self._timers.stop(*_SILENCE)
            waiting = False
        if last_received is not None and last_received + interval > now:
            self._timers.start(Timer.PING, last_received + interval - now, now)
            return False
        self.start(now)
        return not waiting

    def ping_timed_out(self, timer: Timer, now: float) -> bool:
        """PONG or GRACE has expired: whether the peer is lost."""
        if self.alive:
            return False
        if timer is Timer.GRACE:
            return True
        self._timers.start(Timer.GRACE, GRACE, now)
        return False

    def pause(self, paused: bool) -> bool:
        """Reading was stopped or resumed: without reading, silence means nothing. Return whether to ping now."""
        if paused == self._paused:
            return False
        self._paused = paused
        if paused:
            self._timers.stop(Timer.PING, *_SILENCE)
            self._leaves_at = None
            return False
        self.start()
        return self._timeouts.ping_interval is not None
