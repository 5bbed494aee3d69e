"""The fast path of the adapters in plain Python: the twin of ``_fastpath.pyx``, which does the same compiled.

A connection is a state machine in readable Python, and is asked about everything that is not ordinary. What is
ordinary, a whole message on a connection that nothing unusual was agreed for, need not ask it: its decoder and its
counters are lent to whoever carries the bytes. Both are leaves: they import nothing from the package.
"""

from __future__ import annotations

__all__ = ["Traffic"]


class Traffic:
    """What went through one connection: shared by the endpoint and by those who carry its bytes.

    Attributes:
        queued: bytes that were ever queued to be sent.
        handed: how many of those were handed out.
        unsent: how many of those are still with the adapter, as far as it told.
        last_received: when the last byte came, in seconds; None before the first.
        alive: bytes came since the last keepalive ping was sent.
        untimed: something waits for the next call that brings a time.
        has_more: decoding stopped at its bound of work.
        in_order: the connection is open, and what it receives is given out as it comes.
        plain: the connection is open, and a message that is sent is one frame, as it is.
    """

    __slots__ = (
        "alive",
        "handed",
        "has_more",
        "in_order",
        "last_received",
        "plain",
        "queued",
        "unsent",
        "untimed",
    )

    def __init__(self) -> None:
        self.queued = 0
        self.handed = 0
        self.unsent = 0
        self.last_received: float | None = None
        self.alive = False
        self.untimed = False
        self.has_more = False
        self.in_order = False
        self.plain = False
