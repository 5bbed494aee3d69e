"""The result of a run: a combined index in HTML and JSON, the machine-readable result, the table at the end."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cases import all_cases, category, configuration, sort_key
from rows import Outcome
from verdict import MISSING, Problem, Result, explanations, summary

#: So many kinds of problem of a row are listed on the console.
LISTED = 30

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2em; }
table { border-collapse: collapse; }
th, td { border: 1px solid #bbb; padding: 2px 8px; text-align: left; }
thead th { position: sticky; top: 0; background: #fff; }
.ok { background: #d8f2d8; } .info { background: #dbe8fb; } .bad { background: #f8d0d0; } .none { color: #999; }
small { color: #555; }
"""


def counts(outcome: Outcome) -> dict[str, int]:
    """Return how many of the row's cases ended how; the four numbers add up to all of them."""
    problems = outcome.problems()
    missing = sum(problem.case not in outcome.results for problem in problems)
    wrong = {problem.case for problem in problems}
    informational = sum(
        result.behavior == "INFORMATIONAL" and case not in wrong for case, result in outcome.results.items()
    )
    return {
        "ok": len(outcome.row.cases) - len(problems) - informational,
        "informational": informational,
        "failed": len(problems) - missing,
        "missing": missing,
    }


def as_json(outcomes: Sequence[Outcome], *, suite: str, report: Path) -> dict[str, Any]:
    """Return the machine-readable result."""
    rows = []
    for outcome in outcomes:
        problems = {problem.case: problem for problem in outcome.problems()}
        rows.append(
            {
                "name": outcome.row.name,
                **outcome.row.fingerprint(),
                "ok": not problems,
                "counts": counts(outcome),
                "resumed": outcome.resumed,
                "seconds": round(outcome.seconds, 1),
                "problems": {case: problem.text for case, problem in problems.items()},
                "explanations": explain_all(outcome, list(problems.values())),
                "cases": {case: case_as_json(outcome.results.get(case)) for case in outcome.row.cases},
            }
        )
    return {
        "suite": configuration()["version"],
        "obtained": suite,
        "ok": all(row["ok"] for row in rows),
        "report": str(report),
        "rows": rows,
    }


def case_as_json(result: Result | None) -> dict[str, Any] | None:
    """Return one case of the machine-readable result; None where the case is missing."""
    if result is None:
        return None
    return {
        "behavior": result.behavior,
        "behaviorClose": result.behavior_close,
        "remoteCloseCode": result.remote_close_code,
        "duration": result.duration,
    }


def explain_all(outcome: Outcome, problems: list[Problem]) -> list[str]:
    """Return the explanations of a row's problems. Those of wrong masking speak for themselves."""
    if outcome.row.wrong_masking:
        return []
    return explanations(problems, outcome.results)


def write_index(outcomes: Sequence[Outcome], output: Path) -> Path:
    """Write index.html and index.json for all rows, the latter in the suite's own form; return the former."""
    merged = {
        outcome.row.slug: {
            case: (case_as_json(result) or {})
            | {"reportfile": f"{outcome.row.slug}/{result.details['reportfile']}"}
            for case, result in sorted(outcome.results.items(), key=lambda item: sort_key(item[0]))
        }
        for outcome in outcomes
    }
    (output / "index.json").write_text(json.dumps(merged, indent=1) + "\n", "utf-8")
    page = output / "index.html"
    page.write_text(html_index(outcomes), "utf-8")
    return page


def html_index(outcomes: Sequence[Outcome]) -> str:
    """Return the combined index: one column per row, one line per case, each linked to the suite's report."""
    escape = html.escape
    version = escape(configuration()["version"])
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>Autobahn|Testsuite</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>Autobahn|Testsuite {version}</h1>",
        "<table><thead><tr><th>Case</th>",
        *(
            f"<th>{escape(outcome.row.name)}<br><small>{escape(in_words(outcome))}</small></th>"
            for outcome in outcomes
        ),
        "</tr></thead><tbody>",
    ]
    wanted = {case for outcome in outcomes for case in outcome.row.cases}
    problems = [{problem.case: problem for problem in outcome.problems()} for outcome in outcomes]
    chapter = 0
    for case in filter(wanted.__contains__, all_cases()):
        if category(case) != chapter:
            chapter = category(case)
            lines.append(f'<tr><th colspan="{len(outcomes) + 1}">{chapter}</th></tr>')
        cells = (
            cell(case, outcome, wrong.get(case)) for outcome, wrong in zip(outcomes, problems, strict=True)
        )
        lines.append(f"<tr><td>{case}</td>{''.join(cells)}</tr>")
    lines.append("</tbody></table></body></html>")
    return "\n".join(lines) + "\n"


def cell(case: str, outcome: Outcome, problem: Problem | None) -> str:
    """Return the cell of one case in one row."""
    if case not in outcome.row.cases:
        return '<td class="none">not run</td>'
    result = outcome.results.get(case)
    if result is None:
        assert problem is not None
        return f'<td class="bad">missing<br><small>{html.escape(problem.text)}</small></td>'
    page = Path(outcome.row.slug) / Path(result.details["reportfile"]).with_suffix(".html")
    code = f" {result.remote_close_code}" if result.remote_close_code is not None else ""
    if problem is None:
        kind, word = ("info", "informational") if result.behavior == "INFORMATIONAL" else ("ok", "ok")
        text = ""
    else:
        kind = "bad"
        word = f"{result.behavior.lower()} / {result.behavior_close.lower()}"
        text = f"<br><small>{html.escape(problem.text)}</small>"
    return f'<td class="{kind}"><a href="{html.escape(str(page))}">{word}</a><small>{code}</small>{text}</td>'


def alike(problems: Sequence[Problem]) -> list[str]:
    """Return one line for each kind of problem, with the cases that have it."""
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        behavior = (
            MISSING if problem.behavior == MISSING else f"{problem.behavior} / {problem.behavior_close}"
        )
        kinds.setdefault(f"{behavior}: {problem.text}", []).append(problem.case)
    return [f"{summary(cases)}  {kind}" for kind, cases in kinds.items()]


def in_words(outcome: Outcome) -> str:
    """Return a row's result in words, e.g. "514 ok, 3 informational"."""
    found = counts(outcome)
    return ", ".join(f"{number} {word}" for word, number in found.items() if number or word == "ok")


def show(console: Console, outcomes: Sequence[Outcome], page: Path) -> None:
    """Print the table, what was wrong, what explains it, and where the report is."""
    table = Table(title=f"Autobahn|Testsuite {configuration()['version']}")
    table.add_column("tested", overflow="fold")
    for name in ("cases", "ok", "informational", "failed", "missing", "seconds"):
        table.add_column(name, justify="right")
    for outcome in outcomes:
        found = counts(outcome)
        bad = found["failed"] + found["missing"]
        table.add_row(
            outcome.row.name,
            str(len(outcome.row.cases)),
            *(str(number) for number in found.values()),
            f"{outcome.seconds:.1f}",
            style="red" if bad else "green",
        )
    console.print(table)
    for outcome in outcomes:
        problems = outcome.problems()
        if not problems:
            continue
        console.print(f"\n{outcome.row.name}: {len(problems)} not as expected", markup=False)
        for line in alike(problems)[:LISTED]:
            console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
        if len(alike(problems)) > LISTED:
            console.print(f"  ... and {len(alike(problems)) - LISTED} more kinds of problem")
        for text in explain_all(outcome, problems):
            console.print(f"  * {text}", markup=False, highlight=False, soft_wrap=True)
    for outcome in outcomes:
        if outcome.resumed:
            console.print(
                f"{outcome.row.name}: {outcome.resumed} results are from an earlier run", markup=False
            )
    console.print(f"report: {page}", markup=False, highlight=False, soft_wrap=True)
