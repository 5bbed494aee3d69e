"""What one message to many means in every adapter: the policies, and what came of it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, get_args

from .._connection import Connection
from .._enums import Role, State
from .._frames import PreparedMessage
from ._websocket import BytesLike, WebSocketBase, check_message

__all__ = [
    "BROADCAST_TIMEOUT",
    "BroadcastResult",
    "Fate",
    "Policy",
    "check_policy",
    "needs_its_own",
    "offer",
    "prepare",
    "result_of",
    "without",
]

T = TypeVar("T")

#: Seconds that a slow peer has to make room.
BROADCAST_TIMEOUT = 10.0

#: What to do about a peer for which more than the high-water mark waits already.
Policy: TypeAlias = Literal["wait", "drop", "disconnect"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BroadcastResult:
    """For how many WebSockets a message was what. Those that were closing are in none of these.

    Attributes:
        delivered: it was queued.
        dropped: they do not get it: they were slow, or ended while there was no room for it.
        disconnected: they were too slow, and lose their connection with 1013.
    """

    delivered: int
    dropped: int
    disconnected: int


class Fate(enum.Enum):
    """What has become of a message for one WebSocket."""

    DELIVERED = enum.auto()
    DROPPED = enum.auto()
    DISCONNECTED = enum.auto()


def result_of(counts: Mapping[Fate, int]) -> BroadcastResult:
    """What has become of it for how many."""
    return BroadcastResult(
        delivered=counts[Fate.DELIVERED],
        dropped=counts[Fate.DROPPED],
        disconnected=counts[Fate.DISCONNECTED],
    )


class Target(Protocol):
    """What is asked of a ``WebSocket`` to which a broadcast goes."""

    @property
    def state(self) -> State:
        """OPEN, CLOSING or CLOSED."""

    @property
    def is_within_message(self) -> bool:
        """A message is being sent in pieces."""

    def send_nowait(self, message: str | bytes | PreparedMessage) -> bool:
        """Queue a message at once; return whether that was possible."""

    def disconnect_slow(self) -> None:
        """End the connection with 1013."""


def offer(
    target: Target,
    message: str | bytes | PreparedMessage,
    policy: Policy,
    *,
    others_wait: bool,
    is_slow: Callable[[], bool],
) -> Fate | None:
    """Send a message to one that is OPEN, as the policy says.

    Args:
        target: that one.
        message: as it goes to it.
        policy: what to do if it is slow.
        others_wait: somebody waits for the end of a message in pieces, and keeps its place.
        is_slow: tells whether it is. Only asked when it matters.

    Returns:
        what has become of it; None if it is to be waited for until there is room.
    """
    if target.is_within_message:
        # Whoever sends the pieces fills what there is: that says nothing of the peer.
        slow = policy == "drop" or (policy == "wait" and others_wait)
    else:
        slow = is_slow()
    if not slow:
        if target.send_nowait(message):
            return Fate.DELIVERED
        if target.state is not State.OPEN:
            # It was open: so far too much waits.
            return Fate.DISCONNECTED
        # So much is kept behind the message in pieces, and the peer can do nothing about that.
        policy = "disconnect" if policy == "disconnect" else "drop"
    if policy == "wait":
        return None
    if policy == "drop":
        return Fate.DROPPED
    target.disconnect_slow()
    return Fate.DISCONNECTED


def check_policy(policy: object) -> None:
    """Raises:
    ValueError: there is no such policy.
    """
    if policy not in get_args(Policy):
        raise ValueError(f"policy is one of {', '.join(map(repr, get_args(Policy)))}, not {policy!r}")


def prepare(message: str | BytesLike | PreparedMessage) -> PreparedMessage:
    """Frame a message for all that can share it.

    Raises:
        TypeError: it is none.
        LocalProtocolError: the text cannot be encoded as UTF-8.
    """
    check_message(message)
    return message if isinstance(message, PreparedMessage) else PreparedMessage(message)


def needs_its_own(connection: Connection) -> bool:
    """Whether a message has to be framed for that connection alone: a client's is masked, or it is compressed."""
    return connection.role is Role.CLIENT or bool(connection.extensions)


def without(members: Iterable[T], excluded: Any) -> list[T]:
    """Return those who are not excluded.

    Args:
        members: all of them, of whom some may go or come meanwhile.
        excluded: one of them, or several.
    """
    # A blocking WebSocket can be iterated over, too: that would receive.
    several = isinstance(excluded, Iterable) and not isinstance(excluded, WebSocketBase)
    left_out = set(excluded) if several else {excluded}
    return [member for member in members if member not in left_out]
