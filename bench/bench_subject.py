"""What one benchmark is about. Whatever shows or writes a run reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench_basics import BaseCase, Panel, Unit
from bench_contestants import Roster
from bench_goals import Goals
from bench_measure import Result


@dataclass(frozen=True)
class Subject:
    """A benchmark's nouns.

    Attributes:
        command: its name in `python -m wsframe bench`.
        cases: what there is to measure, by name.
        groups: the kinds of cases, each with a line about it.
        roster: who takes part.
        unit: what a figure is.
        goals: what the project wants to reach.
        panels: the parts of its chart; without any, it has a ranking for each case.
        alone: contestants have their core for themselves, so where wall-clock time is longer than CPU time, somebody
            else was there.
        wall: wall-clock time is shown beside.
    """

    command: str
    cases: Mapping[str, BaseCase]
    groups: Mapping[str, str]
    roster: Roster
    unit: Unit
    goals: Goals
    panels: tuple[Panel, ...] = ()
    alone: bool = False
    wall: bool = False

    def reference(self, results: Sequence[Result]) -> str | None:
        """Return the contestant that all others are compared with: the first of ours that was measured."""
        measured = {name for result in results for name in result.samples}
        return next((name for name in self.roster.ours if name in measured), None)

    def best_peer(self, result: Result) -> str | None:
        """Return the peer that was best in a case."""
        peers = [name for name in result.samples if name in self.roster.peers]
        return min(peers, key=lambda name: result.samples[name].summary.median, default=None)

    def compared(self, result: Result, reference: str | None) -> dict[str, str | None]:
        """Return whom everybody is compared with in a case: by what that is called in tables and files."""
        limits = self.roster.limits
        return {
            "reference": reference,
            "best peer": self.best_peer(result),
            "limit": limits[0] if limits else None,
        }
