"""The result of a run for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bench_basics import Unit
from bench_goals import judge
from bench_measure import Result, Samples
from bench_subject import Subject

#: Raised when the meaning of a field changes.
FORMAT = 2


def as_json(
    subject: Subject,
    results: Sequence[Result],
    *,
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
    contestants: Mapping[str, Mapping[str, str]],
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """Return everything about a run, each sample included."""
    reference = subject.reference(results)
    return {
        "tool": tool(subject),
        "format": FORMAT,
        **environment,
        "settings": dict(settings),
        "contestants": {name: dict(described) for name, described in contestants.items()},
        "missing": dict(missing),
        "reference": reference,
        "core share": core_share(results) if subject.alone else None,
        "cases": [_case(subject, result, reference) for result in results],
        "goals": [
            {
                "what": one.goal.what,
                "ours": one.goal.ours,
                "against": one.goal.against,
                "asked": one.goal.asked,
                "figures": dict(one.figures),
                "shown": {
                    case: None if figure is None else one.goal.show(figure)
                    for case, figure in one.figures.items()
                },
                "asked for": {
                    case: {
                        "asked": subject.unit.show(asked.figure),
                        "limits": {name: subject.unit.show(needs) for name, needs in asked.limits.items()},
                    }
                    for case, asked in one.asked.items()
                },
                "verdict": one.verdict.value,
            }
            for one in judge(results, subject.goals, subject.roster.limits)
        ],
    }


def core_share(results: Sequence[Result]) -> float | None:
    """Return the part of the time for which the contestants had the core that they ran on."""
    cpu = wall = 0.0
    for result in results:
        for samples in result.samples.values():
            for sample in samples.taken:
                cpu += sample.figure * sample.messages
                wall += (sample.wall or 0) * sample.messages
    return cpu / wall if wall else None


def tool(subject: Subject) -> str:
    """Return what the file says that it was written by."""
    return f"wsframe bench {subject.command}"


def _case(subject: Subject, result: Result, reference: str | None) -> dict[str, Any]:
    compared = subject.compared(result, reference)
    return {
        **dataclasses.asdict(result.case),
        "best peer": compared["best peer"],
        "results": {
            name: {
                **_samples(subject.unit, samples),
                **{f"of {what}": _ratio(result, name, other) for what, other in compared.items()},
            }
            for name, samples in result.samples.items()
        },
        "skipped": dict(result.skipped),
        "failed": sorted(result.failed),
    }


def _samples(unit: Unit, samples: Samples) -> dict[str, Any]:
    summary = samples.summary
    return {
        f"median_{unit.suffix}": summary.median,
        f"low_{unit.suffix}": summary.low,
        f"high_{unit.suffix}": summary.high,
        "messages": [sample.messages for sample in samples.taken],
        unit.key: samples.figures,
        "wall_ns": samples.walls,
    }


def _ratio(result: Result, name: str, other: str | None) -> dict[str, float] | None:
    ratio = None if other is None else result.ratio(name, other)
    return None if ratio is None else dataclasses.asdict(ratio)
