"""What the project set itself to reach, as data, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from bench_measure import Result


class Verdict(Enum):
    """How a goal stands after a run."""

    REACHED = "reached"
    MISSED = "missed"
    #: Not every case of it was measured, and none of those that were missed it.
    OPEN = "not measured"


@dataclass(frozen=True)
class Goal:
    """`ours` is to be at least `least` times as fast as `theirs` in every one of the cases."""

    what: str
    ours: str
    theirs: str
    least: float
    cases: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """A goal after a run; `speeds` has how many times as fast ours was, or None where that was not measured."""

    goal: Goal
    speeds: Mapping[str, float | None]

    @property
    def verdict(self) -> Verdict:
        """How it stands."""
        measured = [speed for speed in self.speeds.values() if speed is not None]
        if any(speed < self.goal.least for speed in measured):
            return Verdict.MISSED
        return Verdict.REACHED if len(measured) == len(self.speeds) else Verdict.OPEN


SHORT = ("parse/text/8", "parse/text/125")
WHOLE = (*SHORT, "parse/binary/512", "parse/text/4K")
FRAMING = tuple(
    f"build/{role}/text/{size}" for role in ("server", "client") for size in ("8", "125", "512", "4K")
)

GOALS = (
    Goal("receiving, 8 to 125 B", "wsframe-cython", "websockets", 25, SHORT),
    Goal("receiving, 512 B", "wsframe-cython", "websockets", 15, ("parse/binary/512",)),
    Goal("receiving, 4 KiB", "wsframe-cython", "websockets", 10, ("parse/text/4K",)),
    Goal(
        "receiving, one message per chunk",
        "wsframe-cython",
        "websockets",
        8,
        ("parse/separate/8", "parse/separate/125", "parse/separate/4K"),
    ),
    Goal("receiving, 8 to 125 B", "wsframe-cython", "aiohttp", 5, SHORT),
    Goal("receiving, 4 KiB", "wsframe-cython", "aiohttp", 4, ("parse/text/4K",)),
    Goal("receiving, 8 B to 4 KiB", "wsframe-cython", "picows", 3, WHOLE),
    Goal("framing, to 4 KiB", "wsframe-cython", "websockets", 10, FRAMING),
    Goal("framing, to 4 KiB", "wsframe-cython", "aiohttp", 6, FRAMING),
    Goal(
        "masking, from 16 KiB",
        "wsframe-cython",
        "memcpy",
        0.75,
        ("mask/16K", "mask/64K", "mask/256K", "mask/1M", "mask/16M"),
    ),
    Goal(
        "masking, below 1 KiB",
        "wsframe-cython",
        "memcpy",
        1,
        ("mask/8", "mask/32", "mask/125", "mask/512"),
    ),
    Goal("receiving, pure Python", "wsframe-python", "websockets-python", 1.5, WHOLE),
    Goal("receiving, pure Python", "wsframe-python", "wsproto", 5, WHOLE),
)


def judge(results: list[Result], goals: tuple[Goal, ...] = GOALS) -> list[Judged]:
    """Return how every goal stands after a run."""
    by_name = {result.case.name: result for result in results}

    def speed(goal: Goal, case: str) -> float | None:
        result = by_name.get(case)
        ratio = None if result is None else result.ratio(goal.theirs, goal.ours)
        return None if ratio is None else ratio.median

    return [Judged(goal, {case: speed(goal, case) for case in goal.cases}) for goal in goals]
