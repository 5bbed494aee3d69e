"""What one message to many means in every adapter: the policies, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from .._connection import Connection
from .._enums import Role
from .._frames import PreparedMessage
from ._websocket import BytesLike, WebSocketBase, check_message

__all__ = [
    "BROADCAST_TIMEOUT",
    "BroadcastResult",
    "Policy",
    "check_policy",
    "needs_its_own",
    "prepare",
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
