"""Taking the samples: case by case, in rounds, with the contestants in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench_cases import Case
from bench_pool import Pool, WorkerDiedError
from bench_stats import Summary, ratio, summarize


@dataclass
class Samples:
    """What one contestant needed for one case, one sample for each round, in nanoseconds for each message."""

    iterations: int
    messages: int
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    @property
    def summary(self) -> Summary:
        """The median and its spread."""
        return summarize(self.cpu)


@dataclass
class Result:
    """One case, measured. `skipped` says who was not, and why; `failed` has those of them who gave wrong results."""

    case: Case
    samples: dict[str, Samples] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)

    def ratio(self, of: str, to: str) -> Summary | None:
        """Return how many times as long `of` takes as `to`, or None if one of them was not measured."""
        if of not in self.samples or to not in self.samples:
            return None
        return ratio(self.samples[of].cpu, self.samples[to].cpu)


class Progress(Protocol):
    """Is told how far it is."""

    def at(self, case: Case, contestant: str, round_: int) -> None:
        """A sample is about to be taken; round 0 is preparation."""

    def done(self, result: Result) -> None:
        """A case is measured."""


def measure(
    pool: Pool, cases: Sequence[Case], progress: Progress, *, rounds: int, sample_ns: int
) -> list[Result]:
    """Measure every case with everyone in the pool."""
    results = []
    for case in cases:
        result = Result(case)
        results.append(result)
        _prepare(result, pool, progress, sample_ns)
        for number in range(rounds):
            names = list(result.samples)
            # Nobody always comes after the same one: what that one leaves in the caches would be part of the figure.
            turn = number % len(names) if names else 0
            for name in names[turn:] + names[:turn]:
                progress.at(case, name, number + 1)
                _sample(result, name, pool)
        for name in list(pool.processes):
            _ask(result, name, pool, "forget")
        progress.done(result)
    return results


def _prepare(result: Result, pool: Pool, progress: Progress, sample_ns: int) -> None:
    for name in list(pool.processes):
        progress.at(result.case, name, 0)
        answer = _ask(result, name, pool, "prepare", case=result.case.name)
        if answer is None:
            continue
        if "messages" not in answer:
            result.skipped[name] = answer["unsupported"]
            continue
        calibrated = _ask(result, name, pool, "calibrate", ns=sample_ns)
        if calibrated is not None:
            result.samples[name] = Samples(calibrated["iterations"], answer["messages"])
    for name, why in pool.missing.items():
        result.skipped.setdefault(name, why)


def _sample(result: Result, name: str, pool: Pool) -> None:
    samples = result.samples[name]
    answer = _ask(result, name, pool, "sample", iterations=samples.iterations)
    if answer is not None:
        messages = samples.iterations * samples.messages
        samples.cpu.append(answer["cpu_ns"] / messages)
        samples.wall.append(answer["wall_ns"] / messages)


def _ask(result: Result, name: str, pool: Pool, do: str, **arguments: Any) -> dict[str, Any] | None:
    """Ask one process; None when it failed and is not counted, in this case or, if it died, in any further one."""
    if name not in pool.processes:
        return None
    try:
        answer = pool.processes[name].ask(do, **arguments)
        wrong = answer.get("wrong")
    except WorkerDiedError as error:
        wrong = str(error)
        pool.drop(name, wrong)
    if wrong is None:
        return answer
    result.samples.pop(name, None)
    result.skipped[name] = wrong
    result.failed.add(name)
    return None
