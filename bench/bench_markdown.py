"""The tables of a run for documents: made from what ``--json`` writes, so that they can be made again."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from bench_cases import GROUPS
from bench_machine import one_line
from bench_report import duration, times


def markdown(document: Mapping[str, Any]) -> str:
    """Return a run as Markdown: who took part, one table for each group of cases, and the goals."""
    about = one_line(document["machine"], document["python"])
    versions = ", ".join(f"{name} {one['version']}" for name, one in document["contestants"].items())
    parts = [f"{document['started'][:10]}: {about}; {versions}.\n"]
    for group, title in GROUPS.items():
        cases = [case for case in document["cases"] if case["group"] == group and case["results"]]
        if cases:
            parts.append(f"{title} (CPU time for one message):\n\n{_table(cases, document['contestants'])}")
    if all(speed is not None for goal in document["goals"] for speed in goal["speeds"].values()):
        parts.append(_goals(document["goals"]))
    return "\n".join(parts)


def _table(cases: list[Mapping[str, Any]], contestants: Iterable[str]) -> str:
    names = [name for name in contestants if any(name in case["results"] for case in cases)]
    rows = [["case", *names], ["---", *["---:"] * len(names)]]
    for case in cases:
        results = case["results"]
        shown = [duration(results[name]["median_ns"]) if name in results else "-" for name in names]
        rows.append([f"`{case['name']}`", *shown])
    return _rows(rows)


def _goals(goals: Iterable[Mapping[str, Any]]) -> str:
    rows = [["goal", "against", "at least", "this run", ""], ["---", "---", "---:", "---", "---"]]
    for goal in goals:
        speeds = ", ".join(
            f"{case.partition('/')[2]} {times(speed)}" for case, speed in goal["speeds"].items()
        )
        rows.append([goal["what"], goal["theirs"], times(goal["least"]), speeds, goal["verdict"]])
    return f"Goals, as how many times as fast:\n\n{_rows(rows)}"


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.stdout.write(markdown(json.load(sys.stdin)))
