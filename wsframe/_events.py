"""What the core tells its caller. Events are immutable and can be taken apart with ``match``.

`Message` and `MessageChunk` are made by the codec and re-exported here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ._backend import Message, MessageChunk
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

    def __str__(self) -> str:
        return describe(self)


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


_WHAT = {
    Cause.EOF: "lost: the peer ended the stream without a Close",
    Cause.TRUNCATED: "lost: the peer ended the stream in the middle of something",
    Cause.RESET: "lost: the connection was reset",
    Cause.TLS_ERROR: "lost: TLS failed",
    Cause.TRANSPORT_ERROR: "lost: the transport failed",
    Cause.OPEN_TIMEOUT: "gave up: the opening handshake took too long",
    Cause.PING_TIMEOUT: "lost: a keepalive ping stayed unanswered",
    Cause.CLOSE_TIMEOUT: "gave up: the closing handshake took too long",
    Cause.IDLE_TIMEOUT: "closed by us: no message for too long",
    Cause.PROTOCOL_ERROR: "failed by us: the peer broke the protocol",
    Cause.INVALID_DATA: "failed by us: the peer sent invalid data",
    Cause.TOO_BIG: "failed by us: the peer's message was too big",
    Cause.SLOW_PEER: "failed by us: the peer did not take what was sent",
    Cause.LOCAL_ABORT: "aborted by us",
    Cause.PLAIN_HTTP: "a plain HTTP request was answered",
    Cause.NOT_HTTP: "refused: what came was not HTTP",
    Cause.DETACHED: "handed over to the host",
}


def describe(ending: Disconnected) -> str:
    """One sentence about an ending, for logs and people."""
    if ending.cause is Cause.CLOSE_HANDSHAKE:
        who = "the peer" if ending.initiator is Initiator.REMOTE else "us"
        text = f"closed by {who}"
    elif ending.cause is Cause.REJECTED:
        who = "the peer" if ending.initiator is Initiator.REMOTE else "us"
        text = f"refused by {who}"
    elif ending.cause is Cause.EOF and ending.received is not None:
        text = "lost: the peer ended the stream before our Close could go"
    else:
        text = _WHAT[ending.cause]
    details = [
        f"{what} Close {frame.code}" + (f" {frame.reason!r}" if frame.reason else "")
        for what, frame in (("received", ending.received), ("sent", ending.sent))
        if frame is not None
    ]
    if ending.received_first is False:
        details.reverse()
    if ending.error is not None:
        error = str(ending.error) or type(ending.error).__name__
        # A failing Close has said so already.
        if ending.sent is None or not ending.sent.reason or not error.startswith(ending.sent.reason):
            details.append(error)
    if not ending.clean and ending.was_websocket and ending.last_received_age is not None:
        details.append(f"last byte {ending.last_received_age:.1f} s before")
    if not ending.was_websocket and ending.cause not in (Cause.REJECTED, Cause.PLAIN_HTTP, Cause.NOT_HTTP):
        details.append(f"while {ending.phase.name}")
    return f"{text}; {', '.join(details)}" if details else text
