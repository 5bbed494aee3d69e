"""What came of a row."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Outcome", "in_order", "normal"]


@dataclass
class Outcome:
    """What came of a row.

    Attributes:
        row: its name.
        status: "played"; "cannot": the library has nothing for it; "hangs": the driver did not come to an end and was
            killed; "failed": the driver ended, or the script could not go on.
        note: the reason of the last three; or why the peer could not play its part to the end.
        told: what the application was told, in order, without what differs from run to run.
        brief: the same, as short as it can be: what stands in the table.
        over: it was told that the connection is over.
        taken: seconds that the player has taken for acts that should take no time.
        early, late: seconds from the last act to when it was told that; None if never. The first is an upper bound, and
            counts the time that the player itself has taken before; the second is a lower one.
        ending: the fields of the ending, from wsframe's own drivers.
        wire: what came from the side under test, in words.
        tcp: how it ended TCP: "FIN", "RST", or None.
        waits: for every `Await` of the script: seconds since the begin and the end of the act before.
        left: tasks, threads and descriptors that are left.
        log: what was logged above DEBUG.
        ignores: settings of the row that the library has no word for.
    """

    row: str
    status: Literal["played", "cannot", "hangs", "failed"] = "played"
    note: str = ""
    told: list[str] = field(default_factory=list)
    brief: list[str] = field(default_factory=list)
    over: bool = False
    taken: float = 0.0
    early: float | None = None
    late: float | None = None
    ending: dict[str, Any] | None = None
    wire: list[str] = field(default_factory=list)
    tcp: str | None = None
    waits: list[tuple[float, float]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    ignores: list[str] = field(default_factory=list)


#: What an act raises comes at its own time, beside the rest.
_LATE = ("close()", "send()", "shutdown()")

_DIFFERS: Iterable[tuple[str, str]] = (
    (r"0x[0-9a-f]{6,}", "0x..."),
    (r"(127\.0\.0\.1|localhost)(['\"]?[:,] ?)\d+", r"\1\2..."),
    (r"\bport \d+", "port ..."),
    (r"\b\d+(\.\d+)? ?(s|ms|sec|seconds?)\b", "... s"),
    (r"\(_ssl\.c:\d+\)", ""),
)


def normal(text: str) -> str:
    """A text without what differs from run to run by itself."""
    for pattern, replacement in _DIFFERS:
        text = re.sub(pattern, replacement, text)
    return " ".join(text.split())


def in_order(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a driver has said, with what comes at its own time at the end."""
    return sorted(lines, key=lambda line: line.get("by") in _LATE)
