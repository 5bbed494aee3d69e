"""The receive queue: messages between the connection and its reader, bounded in number and bytes."""

from __future__ import annotations

from collections import deque

from .._config import Limits
from .._events import Message, MessageChunk

__all__ = ["ReceiveQueue"]


class ReceiveQueue:
    """Messages that were received and not yet read.

    What is put in is never refused: the bound is kept by not reading on while ``full``. A queue that was full takes
    reading up again when it is half empty, so that the transport is not stopped and started for every message.
    """

    __slots__ = ("_bytes", "_items", "_max_bytes", "_max_items", "full")

    def __init__(self, limits: Limits) -> None:
        self._items: deque[Message | MessageChunk] = deque()
        self._bytes = 0
        self._max_items = limits.receive_queue_messages
        self._max_bytes = limits.receive_queue_bytes
        self.full = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, message: Message | MessageChunk) -> None:
        """Add a message."""
        self._items.append(message)
        self._bytes += len(message.data)
        if len(self._items) >= self._max_items or self._bytes >= self._max_bytes:
            self.full = True

    def get(self) -> Message | MessageChunk:
        """Take the oldest message.

        Raises:
            IndexError: there is none.
        """
        message = self._items.popleft()
        self._bytes -= len(message.data)
        if self.full and len(self._items) <= self._max_items // 2 and self._bytes <= self._max_bytes // 2:
            self.full = False
        return message
