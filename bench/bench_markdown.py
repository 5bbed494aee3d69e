"""The tables of a run for documents: made from what ``--json`` writes, so that they can be made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench_basics import Unit
from bench_machine import one_line
from bench_subject import Subject

#: So many columns a page has room for.
WIDE = 8


def markdown(subject: Subject, document: Mapping[str, Any]) -> str:
    """Return a run as Markdown: who took part, one table for each group of cases, and the goals."""
    about = one_line(document["machine"], document["python"])
    versions = ", ".join(f"{name} {one['version']}" for name, one in document["contestants"].items())
    parts = [f"{document['started'][:10]}: {about}; {versions}.\n"]
    for group, title in subject.groups.items():
        cases = [case for case in document["cases"] if case["group"] == group and case["results"]]
        if cases:
            name, _, rest = title.partition(":")
            table = _table(subject.unit, cases, document["contestants"])
            parts.append(f"**{name}**:{rest} ({subject.unit.said}):\n\n{table}")
    # Goals about which the run says nothing at all are not for the table.
    goals = [
        goal for goal in document["goals"] if any(figure is not None for figure in goal["figures"].values())
    ]
    if goals:
        parts.append(_goals(goals))
    return "\n".join(parts)


def _table(unit: Unit, cases: list[Mapping[str, Any]], contestants: Iterable[str]) -> str:
    names = [name for name in contestants if any(name in case["results"] for case in cases)]
    median = f"median_{unit.suffix}"
    if len(names) > max(len(cases), WIDE):
        # What there is more of goes down.
        rows = [["", *(f"`{case['name']}`" for case in cases)], ["---", *["---:"] * len(cases)]]
        for name in names:
            found = [case["results"].get(name) for case in cases]
            rows.append([name, *("-" if one is None else unit.show(one[median]) for one in found)])
        return _rows(rows)
    rows = [["case", *names], ["---", *["---:"] * len(names)]]
    for case in cases:
        results = case["results"]
        shown = [unit.show(results[name][median]) if name in results else "-" for name in names]
        rows.append([f"`{case['name']}`", *shown])
    return _rows(rows)


def _goals(goals: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        ["goal", "ours", "against", "asked for", "this run", "", "where it was missed"],
        ["---", "---", "---", "---:", "---", "---", "---"],
    ]
    for goal in goals:
        figures = ", ".join(
            f"{case.partition('/')[2]} {shown or '-'}" for case, shown in goal["shown"].items()
        )
        missed = "; ".join(
            f"{case.partition('/')[2]} would be {one['asked']}, where "
            + " and ".join(f"{name} needs {needs}" for name, needs in one["limits"].items())
            for case, one in goal["asked for"].items()
        )
        about = [goal["what"], goal["ours"], goal["against"], goal["asked"], figures, goal["verdict"], missed]
        rows.append(about)
    return f"**Goals**:\n\n{_rows(rows)}"


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
