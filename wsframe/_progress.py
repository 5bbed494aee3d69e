"""Whether what is sent ever leaves: a peer that takes nothing must not be waited for without end."""

from __future__ import annotations

from ._timers import Timer, Timers

__all__ = ["Progress"]

#: In so many looks, one after the other, nothing may have left. A single one could come right after the event loop had
#: been blocked, before it has written anything again.
_LOOKS = 4


class Progress:
    """Watches the output of one connection, as long as there is any that has not left.

    Attributes:
        wanted: there is output that is not watched yet; ``begin`` waits to be called.
    """

    __slots__ = ("_begun", "_flushed", "_in_vain", "_timeout", "_timers", "wanted")

    def __init__(self, timeout: float | None, timers: Timers) -> None:
        self._timeout = timeout
        self._timers = timers
        self._begun = timeout is None
        self._flushed = 0
        self._in_vain = 0
        self.wanted = False

    def want(self) -> bool:
        """There is output that has not left; return whether that is news."""
        if self._begun or self.wanted:
            return False
        self.wanted = True
        return True

    def begin(self, now: float, flushed: int) -> None:
        """The time is known, and how many bytes of the stream have left: begin to watch."""
        self.wanted = False
        self._begun = True
        self._flushed = flushed
        self._in_vain = 0
        self._look_again(now)

    def is_stuck(self, now: float, flushed: int, buffered: int) -> bool:
        """WRITE has expired: whether nothing has left for too long.

        Args:
            now: the time.
            flushed: how many bytes of the stream have left.
            buffered: how many have not.
        """
        if not buffered:
            self._begun = False
            return False
        self._in_vain = 0 if flushed > self._flushed else self._in_vain + 1
        self._flushed = flushed
        if self._in_vain == _LOOKS:
            return True
        self._look_again(now)
        return False

    def _look_again(self, now: float) -> None:
        assert self._timeout is not None
        self._timers.start(Timer.WRITE, self._timeout / _LOOKS, now)
