"""Named deadlines of one connection. No clock is read here: ``now`` is handed in."""

from __future__ import annotations

import enum
import operator

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


_deadline_of = operator.itemgetter(0)


class Timers:
    """Deadlines by name.

    A timer that is started without a time begins to run at the next ``tick``.
    """

    __slots__ = ("_running", "_waiting")

    def __init__(self) -> None:
        # The earliest deadline first. There are few of them, seldom started, and a tuple is much smaller than a dict.
        self._running: tuple[tuple[float, Timer], ...] = ()
        # With their delays.
        self._waiting: tuple[tuple[float, Timer], ...] = ()

    def start(self, timer: Timer, delay: float, now: float | None = None) -> None:
        """(Re)start a timer, ``delay`` seconds from ``now`` or from the next ``tick``."""
        if now is None:
            self.stop(timer)
            self._waiting += ((delay, timer),)
        else:
            self.start_at(timer, now + delay)

    def start_at(self, timer: Timer, deadline: float) -> None:
        """(Re)start a timer whose deadline is known; one in the past is due at once."""
        self.stop(timer)
        self._running = tuple(sorted((*self._running, (deadline, timer)), key=_deadline_of))

    def stop(self, *timers: Timer) -> None:
        """Forget timers; those that do not run are no error."""
        if self._running:
            self._running = tuple([entry for entry in self._running if entry[1] not in timers])
        if self._waiting:
            self._waiting = tuple([entry for entry in self._waiting if entry[1] not in timers])

    def stop_all(self) -> None:
        """Forget every timer."""
        self._running = self._waiting = ()

    def running(self, timer: Timer) -> bool:
        """Whether the timer was started and has neither expired nor been stopped."""
        return any(entry[1] is timer for entry in self._running + self._waiting)

    def tick(self, now: float) -> None:
        """Let timers that were started without a time begin to run."""
        waiting, self._waiting = self._waiting, ()
        for delay, timer in waiting:
            self.start_at(timer, now + delay)

    def next(self) -> float | None:
        """The earliest deadline."""
        return self._running[0][0] if self._running else None

    def due(self, now: float) -> list[Timer]:
        """The timers whose deadline has come, the earliest first. They keep running until they are taken."""
        return [timer for deadline, timer in self._running if deadline <= now]

    def take(self, timer: Timer, now: float) -> bool:
        """Stop a timer that is due; False when it is not, or not any more."""
        if timer not in self.due(now):
            return False
        self.stop(timer)
        return True
