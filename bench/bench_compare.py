"""An older run, to compare with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_errors import UnusableError
from bench_json import FORMAT, tool
from bench_measure import Result
from bench_stats import Summary
from bench_subject import Subject


@dataclass(frozen=True)
class Old:
    """What an older run measured: by case and contestant, and by case the same in terms of the limit."""

    started: str
    figures: dict[tuple[str, str], Summary]
    of_limit: dict[tuple[str, str], Summary]


@dataclass(frozen=True)
class Change:
    """What became of one figure.

    Attributes:
        case, contestant: whose figure it is.
        old, new: before and now.
        of_limit: the new figure in terms of the limit, as a multiple of the old one in terms of the limit; what the
            machine does to both is not in it. None where the limit was not measured both times.
        real: the middle halves of the samples, before and now, do not touch each other.
    """

    case: str
    contestant: str
    old: Summary
    new: Summary
    of_limit: float | None
    real: bool


def read_old(subject: Subject, path: Path) -> Old:
    """Return what a file has that `--json` wrote.

    Raises:
        UnusableError: it is no such file.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UnusableError(f"--compare {path}: {error.strerror}") from None
    except ValueError:
        raise UnusableError(f"--compare {path}: this is not JSON") from None
    if not isinstance(document, dict) or (document.get("tool"), document.get("format")) != (
        tool(subject),
        FORMAT,
    ):
        raise UnusableError(f"--compare {path}: this is not a result of this version of {tool(subject)}")
    suffix = subject.unit.suffix
    old = Old(document["started"], {}, {})
    for case in document["cases"]:
        for name, one in case["results"].items():
            key = case["name"], name
            old.figures[key] = Summary(*(one[f"{part}_{suffix}"] for part in ("median", "low", "high")))
            if one["of limit"] is not None:
                old.of_limit[key] = _summary(one["of limit"])
    return old


def _summary(fields: dict[str, Any]) -> Summary:
    return Summary(fields["median"], fields["low"], fields["high"])


def changes(subject: Subject, results: Sequence[Result], old: Old) -> Iterator[Change]:
    """Return what became of every figure that both runs have."""
    limit = subject.roster.limits[0] if subject.roster.limits else None
    for result in results:
        for name, samples in result.samples.items():
            key = result.case.name, name
            if key not in old.figures:
                continue
            before, now = old.figures[key], samples.summary
            ratio = None if limit is None or name == limit else result.ratio(name, limit)
            before_ratio = old.of_limit.get(key)
            of_limit = None if ratio is None or before_ratio is None else ratio.median / before_ratio.median
            real = now.low > before.high or now.high < before.low
            yield Change(*key, before, now, of_limit, real)
