"""What cannot be sent as a message in pieces: the rows that the tests of both adapters play."""

from __future__ import annotations

from array import array
from typing import Any

from wsframe import LocalProtocolError, PreparedMessage

__all__ = ["BAD_PIECES", "BAD_PIECES_IDS", "NO_MESSAGES", "NO_MESSAGES_IDS"]


class Odd:
    """Neither a message nor an iterable of pieces."""


#: What is wrong before anything is sent -> what the exception says.
NO_MESSAGES: list[tuple[Any, str]] = [
    (5, "not int$"),
    (None, "not NoneType$"),
    (Odd(), "not Odd$"),
    ({"a": 1}, r"not dict; json.dumps\(\)"),
    (array("B", b"abc"), r"not array; memoryview\(\)"),
    ([5], "a piece of a message is a str or bytes-like, not int"),
    ([None], "not NoneType"),
    ([PreparedMessage("a")], "not PreparedMessage"),
    (["\ud800"], "surrogates"),
]
NO_MESSAGES_IDS = ["int", "None", "object", "dict", "array", "ints", "Nones", "prepared", "surrogates"]

#: What is wrong with the second piece of a message -> what is raised. (An exception is one out of the iterable.)
BAD_PIECES: list[tuple[Any, type[Exception]]] = [
    (ZeroDivisionError("oops"), ZeroDivisionError),
    (b"bytes", TypeError),
    (5, TypeError),
    ("\ud800", LocalProtocolError),
]
BAD_PIECES_IDS = ["raises", "mixed", "wrong", "surrogate"]
