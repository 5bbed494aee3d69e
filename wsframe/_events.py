"""What the core tells its caller. Events are immutable and can be taken apart with ``match``.

`Message` and `MessageChunk` are made by the codec and re-exported here.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, TypeAlias

from ._backend import Message, MessageChunk
from ._describe import describe
from ._enums import Cause, Initiator, State

if TYPE_CHECKING:
    from ._extension import PerMessageExtension
    from ._http import Headers

__all__ = [
    "CloseFrame",
    "CloseReceived",
    "Disconnected",
    "Event",
    "Message",
    "MessageChunk",
    "Opened",
    "PingReceived",
    "PongReceived",
    "RequestReceived",
    "ResponseReceived",
]


#: Close codes with which a connection that was closed cleanly ended well.
_GOOD_CODES = (1000, 1001, 1005)


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """Server: a complete HTTP request. Answer it with ``accept``, ``reject`` or ``respond`` (RFC 6455 s4.2).

    Attributes:
        method: such as ``"GET"``.
        target: path and query, as sent.
        headers: the request's header lines.
        body: the body, by Content-Length.
        is_websocket: it is a valid WebSocket opening handshake; ``accept`` works only then.
    """

    method: str
    target: str
    headers: Headers
    body: bytes
    is_websocket: bool


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """Client: the server answered with something other than 101 (RFC 6455 s4.1).

    Attributes:
        status: HTTP status.
        headers: the response's header lines.
        body: at most ``Limits.max_body_size`` bytes of the body.
    """

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Opened:
    """The opening handshake succeeded (RFC 6455 s4).

    Attributes:
        subprotocol: the agreed one, or None.
        extensions: the agreed extensions.
        headers: the peer's header lines: the request's on a server, the response's on a client.
    """

    subprotocol: str | None
    extensions: tuple[PerMessageExtension, ...]
    headers: Headers


@dataclass(frozen=True, slots=True)
class PingReceived:
    """A Ping came, and was answered unless a Close has been sent (RFC 6455 s5.5.2).

    Attributes:
        payload: up to 125 bytes.
    """

    payload: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """A Pong came (RFC 6455 s5.5.3).

    Attributes:
        payload: up to 125 bytes.
        rtt: seconds since the Ping with that payload was queued, or None when it answers none of ours.
    """

    payload: bytes
    rtt: float | None


@dataclass(frozen=True, slots=True)
class CloseFrame:
    """The content of a Close frame (RFC 6455 s5.5.1).

    Attributes:
        code: the code; 1005 for a frame without one (s7.1.5).
        reason: the reason, possibly empty.
    """

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The peer's Close frame came. Nothing else is ever reported by this event (RFC 6455 s5.5.1).

    Attributes:
        code: its code; 1005 when it has none (s7.1.5).
        reason: its reason, possibly empty.
    """

    code: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected:
    """The connection is over. Exactly one per connection, and always the last event.

    ``str()`` of it is one sentence for people.

    Attributes:
        phase: the state when the first terminal fact occurred.
        cause: why it ended.
        initiator: who made it end.
        clean: both Close frames were exchanged, and ours did not report a failure.
        code: what an application should be told (RFC 6455 s7.1.5): the received Close code, 1005 when that frame had
            none, 1006 without a Close frame, 1015 when the TLS handshake failed.
        reason: the received reason, or "".
        received: the peer's Close frame, or None.
        sent: our Close frame once it was handed to the adapter, or None.
        received_first: whether the peer's Close came before ours went; None when there was neither.
        was_websocket: ``Opened`` was emitted (always True for a bare ``Connection``).
        error: the exception behind it, or None.
        last_received_age: seconds between the last received byte and the terminal fact; None when none ever came.
        unanswered_ping: seconds between the moment when the last keepalive ping had left and the terminal fact; None
            unless nothing has come that counts as its answer.
    """

    phase: State
    cause: Cause
    initiator: Initiator
    clean: bool
    code: int
    reason: str
    received: CloseFrame | None
    sent: CloseFrame | None
    received_first: bool | None
    was_websocket: bool
    error: BaseException | None
    last_received_age: float | None
    unanswered_ping: float | None = None

    def __str__(self) -> str:
        return describe(self)

    def __repr__(self) -> str:
        """All fields, as they are written in a program."""
        shown = (f"{field.name}={_shown(getattr(self, field.name))}" for field in fields(self))
        return f"Disconnected({', '.join(shown)})"

    @property
    def ok(self) -> bool:
        """It was closed cleanly, with 1000, 1001 or without a code: there is nothing to be told about it."""
        return self.clean and self.code in _GOOD_CODES

    @property
    def exit_status(self) -> int:
        """For command lines: 0 when it is ``ok``, 1 when the WebSocket ended in another way, 3 when there was none.

        (2 is for wrong usage, as everywhere.)
        """
        if not self.was_websocket:
            return 3
        return 0 if self.ok else 1

    def asgi_event(self) -> dict[str, str | int]:
        """The ``websocket.disconnect`` event of the ASGI specification.

        Returns:
            ``type``, ``code`` and ``reason``; the code is that of RFC 6455 s7.1.5, so 1006 without a Close frame.
        """
        return {"type": "websocket.disconnect", "code": self.code, "reason": self.reason}

    def close_event(self) -> dict[str, str | int | bool]:
        """What a browser in our place would tell a page: the ``CloseEvent`` of the WHATWG WebSockets Standard.

        Returns:
            ``code``, ``reason`` and ``wasClean``. Why there never was a WebSocket is kept from pages, so the code is
            1006 for a failed TLS handshake, too.
        """
        return {
            "code": self.code if self.was_websocket else 1006,
            "reason": self.reason,
            "wasClean": self.clean,
        }


Event: TypeAlias = (
    RequestReceived
    | ResponseReceived
    | Opened
    | Message
    | MessageChunk
    | PingReceived
    | PongReceived
    | CloseReceived
    | Disconnected
)


def _shown(value: object) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)
