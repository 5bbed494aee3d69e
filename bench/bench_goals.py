"""What the project set itself to reach, as data, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from bench_basics import KIB, amount, times
from bench_measure import Result


class Verdict(Enum):
    """How a goal stands after a run."""

    REACHED = "reached"
    MISSED = "missed"
    #: Not every case of it was measured, and none of those that were missed it.
    OPEN = "not measured"


class Goal(Protocol):
    """Something to be reached in every one of some cases."""

    @property
    def what(self) -> str:
        """What it is about."""

    @property
    def ours(self) -> str:
        """Who of ours has to reach it."""

    @property
    def against(self) -> str:
        """Whom or what it is compared with."""

    @property
    def asked(self) -> str:
        """What is asked for, for people."""

    def figures(self, results: Mapping[str, Result]) -> dict[str, float | None]:
        """Return the figure for each case, or None where that was not measured."""

    def met(self, figure: float) -> bool:
        """Whether a figure is good enough."""

    def allowed(self, results: Mapping[str, Result], case: str) -> float | None:
        """Return what ours may need in a case, in the unit of the benchmark, or None if nothing says so."""

    def show(self, figure: float) -> str:
        """Write a figure for people."""


Goals = tuple[Goal, ...]


@dataclass(frozen=True)
class Speed:
    """`ours` is to be at least `least` times as fast as `theirs` in every one of the cases."""

    what: str
    ours: str
    theirs: str
    least: float
    cases: tuple[str, ...]

    @property
    def against(self) -> str:
        """Whom it is compared with."""
        return self.theirs

    @property
    def asked(self) -> str:
        """What is asked for, for people."""
        return f">= {times(self.least)}"

    def figures(self, results: Mapping[str, Result]) -> dict[str, float | None]:
        """Return how many times as fast ours was."""
        return {case: _ratio(results.get(case), self.theirs, self.ours) for case in self.cases}

    def met(self, figure: float) -> bool:
        """Whether that is fast enough."""
        return figure >= self.least

    def allowed(self, results: Mapping[str, Result], case: str) -> float | None:
        """Return what ours may need."""
        theirs = _median(results.get(case), self.theirs)
        return None if theirs is None else theirs / self.least

    def show(self, figure: float) -> str:
        """Write a figure for people."""
        return times(figure)


class _AtMost:
    """A goal that a figure must not be above."""

    most: float

    @property
    def asked(self) -> str:
        """What is asked for, for people."""
        return f"<= {self.show(self.most)}"

    def met(self, figure: float) -> bool:
        """Whether that is little enough."""
        return figure <= self.most

    def show(self, figure: float) -> str:
        """Write a figure for people."""
        return times(figure)


@dataclass(frozen=True)
class Cost(_AtMost):
    """`ours` is to need at most `most` times as much as `theirs` in every one of the cases."""

    what: str
    ours: str
    theirs: str
    most: float
    cases: tuple[str, ...]

    @property
    def against(self) -> str:
        """Whom it is compared with."""
        return self.theirs

    def figures(self, results: Mapping[str, Result]) -> dict[str, float | None]:
        """Return how many times as much ours needed."""
        return {case: _ratio(results.get(case), self.ours, self.theirs) for case in self.cases}

    def allowed(self, results: Mapping[str, Result], case: str) -> float | None:
        """Return what ours may need."""
        theirs = _median(results.get(case), self.theirs)
        return None if theirs is None else theirs * self.most


@dataclass(frozen=True)
class Bound(_AtMost):
    """`ours` is to need at most so many bytes in every one of the cases."""

    what: str
    ours: str
    most: float
    cases: tuple[str, ...]
    against: str = ""

    def figures(self, results: Mapping[str, Result]) -> dict[str, float | None]:
        """Return how much ours needed."""
        return {case: _median(results.get(case), self.ours) for case in self.cases}

    def allowed(self, _results: Mapping[str, Result], _case: str) -> float | None:
        """Return what ours may need."""
        return self.most

    def show(self, figure: float) -> str:
        """Write a figure for people."""
        return amount(figure)


@dataclass(frozen=True)
class Growth(_AtMost):
    """`ours` is to need at most `most` times as much in the cases as it needs itself in the case `since`."""

    what: str
    ours: str
    since: str
    most: float
    cases: tuple[str, ...]

    @property
    def against(self) -> str:
        """What it is compared with."""
        return self.since

    def figures(self, results: Mapping[str, Result]) -> dict[str, float | None]:
        """Return how many times as much it needed."""
        first = _median(results.get(self.since), self.ours)
        found = {case: _median(results.get(case), self.ours) for case in self.cases}
        return {
            case: None if first is None or median is None else median / first
            for case, median in found.items()
        }

    def allowed(self, results: Mapping[str, Result], _case: str) -> float | None:
        """Return what ours may need."""
        first = _median(results.get(self.since), self.ours)
        return None if first is None else first * self.most


def _ratio(result: Result | None, of: str, to: str) -> float | None:
    found = None if result is None else result.ratio(of, to)
    return None if found is None else found.median


def _median(result: Result | None, name: str) -> float | None:
    return None if result is None or name not in result.samples else result.samples[name].summary.median


@dataclass(frozen=True)
class Asked:
    """What a missed goal asks for in one case, in the unit of the benchmark, and what the limits needed there.

    A limit does less than any server or client could. Where even that is above what is asked for, the goal is out of
    reach on this machine.
    """

    figure: float
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Judged:
    """A goal after a run; `figures` has what it asks about, or None where that was not measured.

    `asked` has the cases in which it was missed, where there are limits.
    """

    goal: Goal
    figures: Mapping[str, float | None]
    asked: Mapping[str, Asked]

    @property
    def verdict(self) -> Verdict:
        """How it stands."""
        measured = [figure for figure in self.figures.values() if figure is not None]
        if any(not self.goal.met(figure) for figure in measured):
            return Verdict.MISSED
        return Verdict.REACHED if len(measured) == len(self.figures) else Verdict.OPEN


def judge(results: Sequence[Result], goals: Goals, limits: Sequence[str] = ()) -> list[Judged]:
    """Return how every goal stands after a run; `limits` are the names of the contestants that are one."""
    by_name = {result.case.name: result for result in results}
    return [_judged(goal, by_name, limits) for goal in goals]


def _judged(goal: Goal, results: Mapping[str, Result], limits: Sequence[str]) -> Judged:
    figures = goal.figures(results)
    loop = goal.ours.partition("/")[2]
    # A limit of the same loop, or of none; what is asked for is measured by the one that it is about already.
    near = [name for name in limits if name.partition("/")[2] in ("", loop) and name != goal.against]
    asked = {}
    for case, figure in figures.items():
        allowed = goal.allowed(results, case)
        needed = {name: median for name in near if (median := _median(results.get(case), name)) is not None}
        if figure is not None and not goal.met(figure) and allowed is not None and needed:
            asked[case] = Asked(allowed, needed)
    return Judged(goal, figures, asked)


SHORT = ("parse/text/8", "parse/text/125")
WHOLE = (*SHORT, "parse/binary/512", "parse/text/4K")
FRAMING = tuple(
    f"build/{role}/text/{size}" for role in ("server", "client") for size in ("8", "125", "512", "4K")
)

CODEC: Goals = (
    Speed("receiving, 8 to 125 B", "wsframe-cython", "websockets", 25, SHORT),
    Speed("receiving, 512 B", "wsframe-cython", "websockets", 15, ("parse/binary/512",)),
    Speed("receiving, 4 KiB", "wsframe-cython", "websockets", 10, ("parse/text/4K",)),
    Speed(
        "receiving, one message per chunk",
        "wsframe-cython",
        "websockets",
        8,
        ("parse/separate/8", "parse/separate/125", "parse/separate/4K"),
    ),
    Speed("receiving, 8 to 125 B", "wsframe-cython", "aiohttp", 5, SHORT),
    Speed("receiving, 4 KiB", "wsframe-cython", "aiohttp", 4, ("parse/text/4K",)),
    Speed("receiving, 8 B to 4 KiB", "wsframe-cython", "picows", 3, WHOLE),
    Speed("framing, to 4 KiB", "wsframe-cython", "websockets", 10, FRAMING),
    Speed("framing, to 4 KiB", "wsframe-cython", "aiohttp", 6, FRAMING),
    Speed(
        "masking, from 16 KiB",
        "wsframe-cython",
        "memcpy",
        0.75,
        ("mask/16K", "mask/64K", "mask/256K", "mask/1M", "mask/16M"),
    ),
    Speed(
        "masking, below 1 KiB",
        "wsframe-cython",
        "memcpy",
        1,
        ("mask/8", "mask/32", "mask/125", "mask/512"),
    ),
    Speed("receiving, pure Python", "wsframe-python", "websockets-python", 1.5, WHOLE),
    Speed("receiving, pure Python", "wsframe-python", "wsproto", 5, WHOLE),
)

PING = ("ping/32", "ping/256", "ping/8K", "ping/100K", "ping/1M")


def _callbacks() -> Iterator[Goal]:
    """What callbacks are to reach against picows' callbacks, on the same loop, and against the limit."""
    wanted = (
        ("ping-pong, 32 B", 1.1, "ping/32"),
        ("ping-pong, 8 KiB", 2, "ping/8K"),
        ("ping-pong, 100 KiB", 4, "ping/100K"),
        ("ping-pong, 1 MiB", 2.5, "ping/1M"),
        ("pipelined, 32 B", 12, "pipe/32"),
        ("1000 connections", 1.25, "many/1000"),
    )
    for loop in ("uvloop", "asyncio"):
        for what, least, case in wanted:
            yield Speed(what, f"wsframe.callbacks/{loop}", f"picows/{loop}", least, (case,))
    yield Cost("ping-pong", "wsframe.callbacks/uvloop", "limit", 1.4, PING)


def _coroutines() -> Iterator[Goal]:
    for loop in ("uvloop", "asyncio"):
        ours = f"wsframe/{loop}"
        for peer, ping, pipelined in (("picows.websockets", 1.4, 7), ("websockets", 3.5, 40)):
            yield Speed("ping-pong, 32 B", ours, f"{peer}/{loop}", ping, ("ping/32",))
            yield Speed("pipelined, 32 B", ours, f"{peer}/{loop}", pipelined, ("pipe/32",))


ECHO: Goals = (
    *_callbacks(),
    *_coroutines(),
    Growth("connections", "wsframe/uvloop", "ping/32", 1.6, ("many/100", "many/1000", "many/10000")),
    Growth("connections", "wsframe/asyncio", "ping/32", 1.6, ("many/100", "many/1000", "many/10000")),
    Growth("idle connections", "wsframe/uvloop", "ping/32", 1.6, ("idle/10000",)),
    Growth("idle connections", "wsframe/asyncio", "ping/32", 1.6, ("idle/10000",)),
)

MEMORY: Goals = (
    Bound("an idle connection", "wsframe/asyncio", 5 * KIB, ("idle/plain", "idle/deflate")),
    Bound("once compression was used", "wsframe/asyncio", 52 * KIB, ("used/deflate",)),
)

CLIENT: Goals = (
    Cost(
        "a blocking round trip",
        "wsframe/sync",
        "socket",
        1.25,
        ("trip/32", "trip/8K", "trip/100K", "trip/1M"),
    ),
)
