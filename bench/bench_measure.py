"""Taking the samples: case by case, in rounds, with the contestants in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench_basics import BaseCase
from bench_errors import UnsupportedError, WrongError
from bench_stats import Summary, ratio, summarize


@dataclass(frozen=True)
class Sample:
    """What one sample gave.

    Attributes:
        figure: what is measured, for one message.
        wall: wall-clock nanoseconds for one message; None where that says nothing.
        messages: how many there were.
    """

    figure: float
    wall: float | None
    messages: int


@dataclass
class Samples:
    """What one contestant needed for one case, one sample for each round."""

    taken: list[Sample] = field(default_factory=list)

    @property
    def figures(self) -> list[float]:
        """What was measured, for one message."""
        return [sample.figure for sample in self.taken]

    @property
    def walls(self) -> list[float]:
        """Wall-clock nanoseconds for one message."""
        return [sample.wall for sample in self.taken if sample.wall is not None]

    @property
    def summary(self) -> Summary:
        """The median and its spread."""
        return summarize(self.figures)

    @property
    def wall(self) -> float | None:
        """The median of the wall-clock times."""
        return summarize(self.walls).median if self.walls else None


@dataclass
class Result:
    """One case, measured. `skipped` says who was not, and why; `failed` has those of them who gave wrong results."""

    case: BaseCase
    samples: dict[str, Samples] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def ratio(self, of: str, to: str) -> Summary | None:
        """Return how many times as much `of` needs as `to`, or None if one of them was not measured, or is nothing."""
        if of not in self.samples or to not in self.samples:
            return None
        divisors = self.samples[to].figures
        # Memory may not have grown at all.
        return None if min(divisors) <= 0 else ratio(self.samples[of].figures, divisors)


class Progress(Protocol):
    """Is told how far it is."""

    def at(self, case: BaseCase, contestant: str, round_: int) -> None:
        """A sample is about to be taken; round 0 is preparation."""

    def done(self, result: Result) -> None:
        """A case is measured."""


class Field(Protocol):
    """The contestants of a run, as they are told what to do.

    Everything but `names` and `missing` raises WrongError where one gave a wrong result or died. Whoever died is in
    `missing` from then on.
    """

    missing: dict[str, str]

    @property
    def names(self) -> Sequence[str]:
        """Those who are there, in their order."""

    @property
    def described(self) -> Mapping[str, Mapping[str, str]]:
        """What each of them has loaded: `version`, and what else decides how fast it is."""

    def prepare(self, name: str, case: BaseCase) -> None:
        """Make a case ready, and make sure that this contestant does all of the work.

        Raises:
            UnsupportedError: it cannot do that.
        """

    def sample(self, name: str) -> Sample:
        """Measure it once."""

    def forget(self, name: str) -> None:
        """Give back what the case needed."""


def measure(field: Field, cases: Sequence[BaseCase], progress: Progress, *, rounds: int) -> list[Result]:
    """Measure every case with everyone in the field."""
    results = []
    for case in cases:
        result = Result(case)
        results.append(result)
        _prepare(result, field, progress)
        for number in range(rounds):
            names = list(result.samples)
            # Nobody always comes after the same one: what that one leaves in the caches would be part of the figure.
            turn = number % len(names) if names else 0
            for name in names[turn:] + names[:turn]:
                progress.at(case, name, number + 1)
                try:
                    result.samples[name].taken.append(field.sample(name))
                except WrongError as error:
                    _fail(result, name, error)
        for name in list(field.names):
            try:
                field.forget(name)
            except WrongError as error:
                _fail(result, name, error)
        progress.done(result)
    return results


def _prepare(result: Result, field: Field, progress: Progress) -> None:
    for name, why in field.missing.items():
        result.skipped.setdefault(name, why)
    for name in list(field.names):
        progress.at(result.case, name, 0)
        try:
            field.prepare(name, result.case)
        except UnsupportedError as error:
            result.skipped[name] = str(error)
        except WrongError as error:
            _fail(result, name, error)
        else:
            result.samples[name] = Samples()


def _fail(result: Result, name: str, error: WrongError) -> None:
    """One that failed is not counted: in this case or, if it died, in any further one."""
    result.samples.pop(name, None)
    result.skipped[name] = str(error)
    result.failed.add(name)
