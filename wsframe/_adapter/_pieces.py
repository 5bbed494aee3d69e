"""What can be sent as one message in pieces, and what is said about the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["UNFINISHED", "WITHIN_ITSELF", "can_be_pieces", "no_message"]

#: The reason of the Close frame when half a message was sent.
UNFINISHED = "a message that was sent in pieces could not be completed"

#: What is said to those who would wait for themselves.
WITHIN_ITSELF = (
    "what a message's pieces come from cannot send on the same WebSocket: that would wait for the end of the"
    " message"
)


def can_be_pieces(value: object) -> bool:
    """Whether a value that is no message can be meant as the pieces of one."""
    return isinstance(value, Iterable) and not isinstance(value, Mapping) and not _has_buffer(value)


def no_message(value: object) -> TypeError:
    """What to raise where it cannot."""
    hint = ""
    if isinstance(value, Mapping):
        hint = "; json.dumps() makes text of it"
    elif _has_buffer(value):
        hint = "; memoryview() makes one of it"
    return TypeError(
        "a message is a str, bytes-like, a PreparedMessage, or an iterable of str or bytes-like pieces,"
        f" not {type(value).__name__}{hint}"
    )


def _has_buffer(value: Any) -> bool:
    """It is data as a whole: iterating would give single numbers or bytes."""
    try:
        memoryview(value).release()
    except TypeError:
        return False
    return True
