"""Named deadlines of one connection. No clock is read here: ``now`` is handed in."""

from __future__ import annotations

import enum

__all__ = ["Timer", "Timers"]


class Timer(enum.Enum):
    """The deadlines that a connection can have."""

    OPEN = "opening handshake"
    CLOSE = "closing handshake, flush and end of the transport"
    LINGER = "waiting for the peer's end of stream"
    PING = "next keepalive ping"
    PONG = "anything at all after a keepalive ping has left, or some progress before it has"
    GRACE = "one more read before a ping timeout is declared"
    IDLE = "a message in either direction"
    WRITE = "another look at whether output leaves"


class Timers:
    """Deadlines by name.

    A timer that is started without a time begins to run at the next ``tick``.
    """

    __slots__ = ("_deadlines", "_waiting")

    def __init__(self) -> None:
        self._deadlines: dict[Timer, float] = {}
        self._waiting: dict[Timer, float] = {}

    def start(self, timer: Timer, delay: float, now: float | None = None) -> None:
        """(Re)start a timer, ``delay`` seconds from ``now`` or from the next ``tick``."""
        if now is None:
            self._deadlines.pop(timer, None)
            self._waiting[timer] = delay
        else:
            self._waiting.pop(timer, None)
            self._deadlines[timer] = now + delay

    def start_at(self, timer: Timer, deadline: float) -> None:
        """(Re)start a timer whose deadline is known; one in the past is due at once."""
        self._waiting.pop(timer, None)
        self._deadlines[timer] = deadline

    def stop(self, *timers: Timer) -> None:
        """Forget timers; those that do not run are no error."""
        for timer in timers:
            self._deadlines.pop(timer, None)
            self._waiting.pop(timer, None)

    def stop_all(self) -> None:
        """Forget every timer."""
        self._deadlines.clear()
        self._waiting.clear()

    def running(self, timer: Timer) -> bool:
        """Whether the timer was started and has neither expired nor been stopped."""
        return timer in self._deadlines or timer in self._waiting

    def tick(self, now: float) -> None:
        """Let timers that were started without a time begin to run."""
        if self._waiting:
            for timer, delay in self._waiting.items():
                self._deadlines[timer] = now + delay
            self._waiting.clear()

    def next(self) -> float | None:
        """The earliest deadline."""
        return min(self._deadlines.values()) if self._deadlines else None

    def due(self, now: float) -> list[Timer]:
        """The timers whose deadline has come, the earliest first. They keep running until they are taken."""
        due = [timer for timer, deadline in self._deadlines.items() if deadline <= now]
        due.sort(key=self._deadlines.__getitem__)
        return due

    def take(self, timer: Timer, now: float) -> bool:
        """Stop a timer that is due; False when it is not, or not any more."""
        deadline = self._deadlines.get(timer)
        if deadline is None or deadline > now:
            return False
        del self._deadlines[timer]
        return True
