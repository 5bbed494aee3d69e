"""``Backlog``: messages of those who do not wait, which wait in their place until there is room for them.

Those who wait for room themselves do not get in before them: what there is room for is released whenever something has
been written. So a message in pieces is begun only when nothing waits here, and what comes meanwhile has no deadline.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import TypeAlias

from .._adapter._broadcast import Fate
from .._adapter._websocket import queue_message
from .._connection import Connection
from .._enums import State
from .._errors import SlowPeerError
from .._frames import PreparedMessage

__all__ = ["Backlog", "Settle", "Waiting"]


Settle: TypeAlias = Callable[[Fate], object]


class Waiting:
    """One message in a backlog.

    Attributes:
        fate: what has become of it; None as long as it waits.
    """

    __slots__ = ("_settle", "deadline", "fate", "message", "size")

    def __init__(
        self, message: str | bytes | PreparedMessage, size: int, deadline: float | None, settle: Settle | None
    ) -> None:
        self.message = message
        self.size = size
        self.deadline = deadline
        self.fate: Fate | None = None
        self._settle = settle

    def settle(self, fate: Fate) -> None:
        """It waits no more."""
        self.fate = fate
        settle, self._settle = self._settle, None
        if settle is not None:
            settle(fate)


class Backlog:
    """What waits for one connection, in order. All calls want the connection's lock to be held.

    Args:
        connection: the endpoint.
        is_busy: tells whether a message is being sent in pieces, which nothing may come between.

    Attributes:
        due: when ``expire`` is to be called at the latest, on the clock of ``monotonic``; None: never.
    """

    __slots__ = ("_connection", "_entries", "_is_busy", "_size", "due")

    def __init__(self, connection: Connection, is_busy: Callable[[], bool]) -> None:
        self._connection = connection
        self._is_busy = is_busy
        self._entries: collections.deque[Waiting] = collections.deque()
        self._size = 0
        self.due: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def put(
        self,
        message: str | bytes | PreparedMessage,
        size: int,
        deadline: float | None = None,
        settle: Settle | None = None,
    ) -> Waiting | None:
        """Keep a message.

        Args:
            message: that.
            size: its bytes.
            deadline: who has not made room by then is disconnected; on the clock of ``monotonic``.
            settle: told what has become of it, with the lock held.

        Returns:
            what waits; None if too much does already.
        """
        limits = self._connection.limits
        # When it is queued the high-water mark may wait already.
        if self._entries and self._size + size > limits.write_hard_cap - limits.write_high_water:
            return None
        entry = Waiting(message, size, deadline, settle)
        self._entries.append(entry)
        self._size += size
        if deadline is not None and (self.due is None or deadline < self.due):
            self.due = deadline
        return entry

    def release(self) -> bool:
        """Queue the next one, if there is room for it; return whether there is something new to be written.

        When the connection is not open any more, all are dropped.
        """
        connection = self._connection
        if connection.state is not State.OPEN:
            for entry in self._take_all():
                entry.settle(Fate.DROPPED)
            return False
        if not self._entries or connection.buffered > connection.limits.write_high_water or self._is_busy():
            return False
        entry = self._entries.popleft()
        self._size -= entry.size
        if not self._entries:
            self.due = None
        try:
            queue_message(connection, entry.message)
        except SlowPeerError:
            entry.settle(Fate.DISCONNECTED)
        else:
            entry.settle(Fate.DELIVERED)
        return True

    def expire(self, now: float) -> bool:
        """Give up on a peer that has made no room in time; return whether that is so."""
        if self.due is None or now < self.due:
            return False
        late = [entry for entry in self._entries if entry.deadline is not None and entry.deadline <= now]
        for entry in late:
            self._entries.remove(entry)
            self._size -= entry.size
        self.due = min(
            (entry.deadline for entry in self._entries if entry.deadline is not None), default=None
        )
        for number, entry in enumerate(late):
            entry.settle(Fate.DROPPED if number else Fate.DISCONNECTED)
        if not late:
            return False
        self._connection.give_up_on_slow_peer()
        return True

    def _take_all(self) -> list[Waiting]:
        entries = list(self._entries)
        self._entries.clear()
        self._size = 0
        self.due = None
        return entries
