"""What wsframe's own drivers say of an ending: every field, and a few words for the table."""

from __future__ import annotations

from typing import Any

from ...._adapter._settings import ConnectionOptions
from ...._config import Limits
from ...._enums import Cause, Initiator
from ...._events import CloseFrame, Disconnected

__all__ = ["SETTINGS", "fields_of", "in_words", "options_of"]

#: What the adapters have a word for.
SETTINGS = frozenset(ConnectionOptions.__annotations__)


def options_of(settings: dict[str, Any]) -> dict[str, Any]:
    """The adapters' keyword arguments."""
    options = dict(settings)
    if "limits" in options:
        options["limits"] = Limits(**options["limits"])
    return options


def fields_of(ending: Disconnected) -> dict[str, Any]:
    """An ending as JSON has it."""
    error = ending.error
    return {
        "phase": ending.phase.name,
        "cause": ending.cause.name,
        "initiator": ending.initiator.name,
        "clean": ending.clean,
        "code": ending.code,
        "reason": ending.reason,
        "received": _frame(ending.received),
        "sent": _frame(ending.sent),
        "received_first": ending.received_first,
        "was_websocket": ending.was_websocket,
        "error": None
        if error is None
        else [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__],
        "says": "" if error is None else str(error),
        "age": ending.last_received_age,
        "sentence": str(ending),
    }


def in_words(ending: Disconnected) -> str:
    """Cause, code and reason, and who it was where the cause does not say it."""
    words = ending.cause.name
    if ending.cause in (Cause.CLOSE_HANDSHAKE, Cause.CLOSE_TIMEOUT, Cause.REJECTED):
        words += " by the peer" if ending.initiator is Initiator.REMOTE else " by us"
    words += f" {ending.code}"
    return f"{words} {ending.reason}" if ending.reason else words


def _frame(frame: CloseFrame | None) -> list[Any] | None:
    return None if frame is None else [frame.code, frame.reason]
