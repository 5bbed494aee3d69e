"""The result of a run for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from bench_goals import judge
from bench_measure import Result, Samples
from bench_report import core_share, reference

#: Raised when the meaning of a field changes.
FORMAT = 1


def as_json(
    results: Sequence[Result],
    *,
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
    contestants: Mapping[str, Mapping[str, str]],
    missing: Mapping[str, str],
) -> dict[str, Any]:
    """Return everything about a run, each sample included."""
    compared = reference(results)
    return {
        "tool": "wsframe bench codec",
        "format": FORMAT,
        **environment,
        "settings": dict(settings),
        "contestants": {name: dict(described) for name, described in contestants.items()},
        "missing": dict(missing),
        "reference": compared,
        "core share": core_share(results),
        "cases": [_case(result, compared) for result in results],
        "goals": [
            {
                "what": one.goal.what,
                "ours": one.goal.ours,
                "theirs": one.goal.theirs,
                "least": one.goal.least,
                "speeds": dict(one.speeds),
                "verdict": one.verdict.value,
            }
            for one in judge(list(results))
        ],
    }


def _case(result: Result, compared: str | None) -> dict[str, Any]:
    return {
        **dataclasses.asdict(result.case),
        "results": {
            name: {
                **_samples(samples),
                "of reference": _ratio(result, name, compared),
                "of memcpy": _ratio(result, name, "memcpy"),
            }
            for name, samples in result.samples.items()
        },
        "skipped": dict(result.skipped),
        "failed": sorted(result.failed),
    }


def _samples(samples: Samples) -> dict[str, Any]:
    summary = samples.summary
    return {
        "iterations": samples.iterations,
        "messages": samples.messages,
        "median_ns": summary.median,
        "low_ns": summary.low,
        "high_ns": summary.high,
        "cpu_ns": samples.cpu,
        "wall_ns": samples.wall,
    }


def _ratio(result: Result, name: str, other: str | None) -> dict[str, float] | None:
    ratio = None if other is None else result.ratio(name, other)
    return None if ratio is None else dataclasses.asdict(ratio)
