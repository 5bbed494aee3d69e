"""Shorthand for writing rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..._enums import Cause, Initiator, Role
from ..._events import CloseFrame
from ._acts import Act, Await, Fin, Seen
from ._row import Instead, Row

__all__ = [
    "AT_CLOSE_TIMEOUT",
    "AT_LINGER",
    "AT_OPEN_TIMEOUT",
    "CLOSE_TIMEOUT",
    "GRACE",
    "HEARTBEAT",
    "IDLE_TIMEOUT",
    "LINGER",
    "LOST",
    "OPEN_TIMEOUT",
    "PART_OF_A_REQUEST",
    "PING_INTERVAL",
    "PING_TIMEOUT",
    "PLAIN_REQUEST",
    "REQUEST",
    "RESPONSE",
    "WRITE_TIMEOUT",
    "both",
    "by_timeout",
    "client",
    "closed",
    "frame",
    "leaves",
    "only_in_the_core",
    "reads",
    "refused",
    "request",
    "response",
    "server",
    "without_close",
]

# Seconds. Short, so that a table is played soon; not so short that a slow machine could miss them.
OPEN_TIMEOUT = 0.5
CLOSE_TIMEOUT = 0.5
PING_INTERVAL = 0.3
PING_TIMEOUT = 0.4
#: What keepalive waits more, so that the adapter reads once more before the verdict.
GRACE = 0.1
HEARTBEAT = 0.4
WRITE_TIMEOUT = 0.4
IDLE_TIMEOUT = 0.4
#: The default of `Timeouts.linger`, for which adapters have no argument.
LINGER = 2.0


# Bytes of the opening handshake.


def request(*lines: str, without: str = "", method: str = "GET") -> bytes:
    """A client's opening handshake: further header lines, or one of the usual left out."""
    usual = (
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    )
    kept = [line for line in usual if not without or not line.startswith(without)]
    return "".join(f"{line}\r\n" for line in (f"{method} / HTTP/1.1", *kept, *lines, "")).encode()


def response(*lines: str, status: str = "101 Switching Protocols", without: str = "") -> bytes:
    """A server's opening handshake, likewise; ``{accept}`` belongs to the client's key."""
    usual = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}")
    kept = [line for line in usual if not without or not line.startswith(without)]
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *kept, *lines, "")).encode()


def refused(status: str, body: bytes = b"", *lines: str) -> bytes:
    """Another response than 101; its length is that of the body unless the lines say how long it is."""
    length = () if lines else (f"Content-Length: {len(body)}",)
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *length, *lines, "")).encode() + body


REQUEST = request()
RESPONSE = response()
PART_OF_A_REQUEST = REQUEST[:40]
PLAIN_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


# Rows.


def server(name: str, what: str, *acts: Act, group: str, **fields: Any) -> Row:
    """A row for a server; names of other rows in it are without the role."""
    return _row(Role.SERVER, name, what, acts, group, fields)


def client(name: str, what: str, *acts: Act, group: str, **fields: Any) -> Row:
    """The same for a client."""
    return _row(Role.CLIENT, name, what, acts, group, fields)


def both(name: str, what: str, *acts: Act, group: str, **fields: Any) -> tuple[Row, Row]:
    """The same for a server and for a client."""
    return server(name, what, *acts, group=group, **fields), client(name, what, *acts, group=group, **fields)


def _row(role: Role, name: str, what: str, acts: tuple[Act, ...], group: str, fields: dict[str, Any]) -> Row:
    same_as = fields.pop("same_as", None)
    instead: Mapping[str, Instead] = fields.pop("except_on", {})
    return Row(
        name=f"{role.value}/{name}",
        group=group,
        what=what,
        role=role,
        acts=acts,
        same_as=None if same_as is None else f"{role.value}/{same_as}",
        except_on={
            adapter: Instead(None if other.like is None else f"{role.value}/{other.like}", other.because)
            for adapter, other in instead.items()
        },
        **fields,
    )


# Fields that go together.


def frame(code: int, reason: str = "") -> CloseFrame:
    """A Close frame's content."""
    return CloseFrame(code, reason)


def closed(
    initiator: Initiator, received: CloseFrame, sent: CloseFrame, *, cause: Cause = Cause.CLOSE_HANDSHAKE
) -> dict[str, Any]:
    """Both Close frames, in the order that says who began."""
    return {
        "cause": cause,
        "initiator": initiator,
        "clean": True,
        "code": received.code,
        "reason": received.reason,
        "received": received,
        "sent": sent,
        "received_first": initiator is Initiator.REMOTE,
    }


def without_close(cause: Cause, initiator: Initiator, sent: CloseFrame | None = None) -> dict[str, Any]:
    """No Close frame came, but perhaps one went."""
    return {
        "cause": cause,
        "initiator": initiator,
        "sent": sent,
        "received_first": None if sent is None else False,
    }


#: The peer, or the network, has ended TCP: nothing can be said any more.
LOST: dict[str, Any] = {"tcp": "lost", "wire": ()}


def by_timeout(seconds: float, words: str) -> dict[str, Any]:
    """It ends at that time after the last act, neither earlier nor later."""
    return {"after": seconds, "by": seconds, "when": words}


AT_OPEN_TIMEOUT = by_timeout(OPEN_TIMEOUT, "open_timeout")
AT_CLOSE_TIMEOUT = by_timeout(CLOSE_TIMEOUT, "close_timeout")
AT_LINGER = by_timeout(LINGER, "linger (2 s)")


def reads(what: Seen, seconds: float = 0.0) -> tuple[Act, ...]:
    """The peer sees our last word, which comes after so many seconds, and ends its stream."""
    return Await(what, seconds, seconds), Fin()


def leaves(role: Role) -> tuple[Act, ...]:
    """What a conforming peer does after both Close frames: a server closes TCP, a client waits for that."""
    return (Await("Close"), Fin()) if role is Role.CLIENT else (Await("EOF"),)


def only_in_the_core(because: str) -> dict[str, Instead]:
    """No adapter has a call for it."""
    return {adapter: Instead(None, because) for adapter in ("aio", "sync")}
