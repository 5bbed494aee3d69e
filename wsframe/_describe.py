"""An ending in one sentence: who or what ended the connection and how far it had got; then what else is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._enums import Cause, Initiator, State

if TYPE_CHECKING:
    from ._events import CloseFrame, Disconnected

__all__ = ["describe"]

#: How far it had got.
_WHEN = {
    State.CONNECTING: " before the request",
    State.HANDSHAKE: " before the answer",
    State.OPEN: "",
    State.CLOSING: " while closing",
}

#: The first words, and what happened, where the error does not say it.
_WHAT = {
    Cause.CLOSE_HANDSHAKE: ("closed by {who}", ""),
    Cause.EOF: ("lost", "the peer ended the stream without a Close"),
    Cause.TRUNCATED: ("lost", "the peer ended the stream in the middle of a message"),
    Cause.RESET: ("lost", "the connection was reset"),
    Cause.TLS_ERROR: ("lost", "TLS failed"),
    Cause.TRANSPORT_ERROR: ("lost", "the transport was closed under us"),
    Cause.OPEN_TIMEOUT: ("gave up", "the opening handshake took too long"),
    Cause.PING_TIMEOUT: ("lost", "no Close from the peer"),
    Cause.CLOSE_TIMEOUT: ("gave up", "the peer did not answer our Close in time"),
    Cause.IDLE_TIMEOUT: ("closed by us", "no message for too long"),
    Cause.PROTOCOL_ERROR: ("failed by us", "the peer broke the protocol"),
    Cause.INVALID_DATA: ("failed by us", "the peer sent invalid data"),
    Cause.TOO_BIG: ("failed by us", "the peer's message was too big"),
    Cause.SLOW_PEER: ("failed by us", "the peer did not take what was sent"),
    Cause.LOCAL_ABORT: ("aborted by us", ""),
    Cause.REJECTED: ("refused by {who}", ""),
    Cause.PLAIN_HTTP: ("a plain HTTP request was answered", ""),
    Cause.NOT_HTTP: ("refused by us", "what came was not HTTP"),
    Cause.DETACHED: ("handed over to the host", ""),
}

#: What the error says belongs to what happened, in parentheses; of other causes it says all there is to say.
_EXPLAINED = (Cause.TLS_ERROR, Cause.PROTOCOL_ERROR, Cause.INVALID_DATA, Cause.TOO_BIG)

#: It tells by itself that there was a request, and no answer but this one.
_ANSWERS = (Cause.REJECTED, Cause.PLAIN_HTTP, Cause.NOT_HTTP, Cause.DETACHED)

#: The last byte was that of which it is about.
_BY_DATA = (Cause.PROTOCOL_ERROR, Cause.INVALID_DATA, Cause.TOO_BIG)


def describe(ending: Disconnected) -> str:
    """One sentence about an ending, for logs and people. It may contain what the peer sent."""
    cause = ending.cause
    start, what = _WHAT[cause]
    start = start.format(who="the peer" if ending.initiator is Initiator.REMOTE else "us")
    if not (cause is Cause.CLOSE_TIMEOUT or ending.clean) and not (
        cause in _ANSWERS and ending.phase is State.HANDSHAKE
    ):
        start += _WHEN[ending.phase]
    what = _narrowed(ending, what)
    error = _error_of(ending)
    if error:
        what = f"{what} ({error})" if cause in _EXPLAINED else error
    details = _frames_of(ending) + _ages_of(ending)
    first = f"{start}: {what}" if what else start
    return f"{first}; {', '.join(details)}" if details else first


def _narrowed(ending: Disconnected, what: str) -> str:
    """What happened, with regard to how far it had got."""
    cause = ending.cause
    if cause is Cause.EOF and (not ending.was_websocket or ending.received is not None):
        return "the peer ended the stream"
    if cause is Cause.EOF and ending.sent is not None:
        return "the peer ended the stream without answering our Close"
    if cause is Cause.TRUNCATED and not ending.was_websocket:
        return "the peer ended the stream in the middle of the opening handshake"
    if cause is Cause.TLS_ERROR and ending.code == 1015:
        return "the TLS handshake failed"
    if cause is Cause.CLOSE_TIMEOUT and ending.received is not None:
        return "our answer to the peer's Close could not be sent in time"
    if cause is Cause.CLOSE_TIMEOUT and ending.sent is None:
        return "our Close could not be sent in time"
    return what


def _error_of(ending: Disconnected) -> str:
    """What the error says, unless our Close has said it, or the cause has."""
    if ending.error is None or ending.cause is Cause.RESET:
        return ""
    if ending.cause in _BY_DATA and ending.phase is State.OPEN and ending.sent is not None:
        return ""
    return " ".join(str(ending.error).split()) or type(ending.error).__name__


def _frames_of(ending: Disconnected) -> list[str]:
    """The Close frames in their order, and those that there should have been."""
    if ending.cause is Cause.PING_TIMEOUT:
        # What we tried to send says nothing else.
        return []
    frames = [
        f"{what} {_close(frame)}"
        for what, frame in (("received", ending.received), ("sent", ending.sent))
        if frame is not None
    ]
    if ending.received_first is False:
        frames.reverse()
    if ending.phase is State.CLOSING and ending.sent is None and ending.cause is not Cause.CLOSE_TIMEOUT:
        frames.append("our Close was not sent")
    if ending.cause is Cause.IDLE_TIMEOUT and ending.received is None:
        frames.append("not answered")
    return frames


def _close(frame: CloseFrame) -> str:
    if frame.code == 1005:
        # s7.1.5: it stands for a Close frame without a code.
        return "Close without a code"
    return f"Close {frame.code} {frame.reason!r}" if frame.reason else f"Close {frame.code}"


def _ages_of(ending: Disconnected) -> list[str]:
    """How long it had been silent, where that may explain something."""
    ages = []
    if ending.was_websocket and not ending.clean and ending.cause not in _BY_DATA:
        if ending.last_received_age is not None:
            ages.append(f"last byte {ending.last_received_age:.1f} s ago")
        if ending.unanswered_ping is not None:
            ages.append(f"ping unanswered for {ending.unanswered_ping:.1f} s")
    return ages
