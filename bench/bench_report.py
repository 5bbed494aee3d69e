"""The tables of a run, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench_cases import GROUPS, KIB
from bench_contestants import LIMIT, OURS
from bench_goals import Judged, Verdict
from bench_measure import Result

#: From here on a rate says more than a time.
RATE_FROM = 4 * KIB
#: Samples that had the core for less than this part of the time: the machine had something else to do.
BUSY = 0.9

COLORS = {Verdict.REACHED: "green", Verdict.MISSED: "red", Verdict.OPEN: "yellow"}


def duration(ns: float) -> str:
    """Return a time with three digits: 46.6 ns, 1.24 ms."""
    value, units = ns, ["s", "ms", "us", "ns"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop()
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {units[-1]}"


def times(value: float) -> str:
    """Return a ratio with as many digits as mean something."""
    return f"{value:.2f}x" if value < 10 else f"{value:.1f}x" if value < 100 else f"{value:.0f}x"


def reference(results: Sequence[Result]) -> str | None:
    """Return the contestant that all others are compared with: the first of ours that was measured."""
    measured = {name for result in results for name in result.samples}
    return next((name for name in OURS if name in measured), None)


def show(console: Console, results: Sequence[Result], missing: Mapping[str, str]) -> None:
    """Print one table for each group of cases, and who is not in them."""
    compared = reference(results)
    for group, about in GROUPS.items():
        chosen = [result for result in results if result.case.group == group and result.samples]
        if not chosen:
            continue
        table = Table(title=about, title_justify="left", title_style="bold", pad_edge=False)
        table.add_column("case")
        table.add_column("contestant", no_wrap=True)
        rates = any(result.case.size >= RATE_FROM for result in chosen)
        for heading in (
            "CPU/message",
            "spread",
            *(["MB/s"] if rates else []),
            f"of {compared}",
            f"of {LIMIT}",
        ):
            table.add_column(heading, justify="right", no_wrap=True)
        for result in chosen:
            _add(table, result, compared, rates=rates)
        console.print(table)
    _show_who_is_missing(console, results, missing)


def _add(table: Table, result: Result, compared: str | None, *, rates: bool) -> None:
    first = True
    for name, samples in result.samples.items():
        summary = samples.summary
        cells = [
            result.case.name if first else "",
            name,
            duration(summary.median),
            f"{summary.spread:.0%}",
        ]
        if rates:
            large = result.case.size >= RATE_FROM
            cells.append(f"{result.case.size * 1000 / summary.median:,.0f}" if large else "")
        for other in (compared, LIMIT):
            ratio = None if other is None else result.ratio(name, other)
            cells.append("" if ratio is None or other == name else times(ratio.median))
        style = "bold" if name == compared else "dim" if name == LIMIT else ""
        table.add_row(*cells, style=style, end_section=name == list(result.samples)[-1])
        first = False


def _show_who_is_missing(console: Console, results: Sequence[Result], missing: Mapping[str, str]) -> None:
    for name, why in missing.items():
        console.print(Text(f"missing: {name}: {why}"), soft_wrap=True)
    reasons: dict[tuple[str, str, bool], list[str]] = {}
    for result in results:
        for name, why in result.skipped.items():
            if missing.get(name) != why:
                reasons.setdefault((name, why, name in result.failed), []).append(result.case.name)
    for (name, why, failed), which in reasons.items():
        cases = which
        for group in GROUPS:
            all_of_it = [result.case.name for result in results if result.case.group == group]
            if len(all_of_it) > 1 and set(all_of_it) <= set(cases):
                cases = [f"{group}/*", *(case for case in cases if case not in all_of_it)]
        text = f"{'FAILED' if failed else 'skipped'}: {name}: {why} ({', '.join(cases)})"
        console.print(Text(text, style="red" if failed else ""), soft_wrap=True)
    share = core_share(results)
    if share is not None and share < BUSY:
        console.print(
            f"the machine was busy: the samples had their core for {share:.0%} of the time", style="yellow"
        )


def core_share(results: Sequence[Result]) -> float | None:
    """Return the part of the time for which the contestants had the core that they ran on."""
    cpu = wall = 0.0
    for result in results:
        for samples in result.samples.values():
            each = samples.iterations * samples.messages
            cpu += sum(samples.cpu) * each
            wall += sum(samples.wall) * each
    return cpu / wall if wall else None


def show_goals(console: Console, judged: Sequence[Judged]) -> None:
    """Print how the goals stand, with the figures of this run."""
    table = Table(title="goals", title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("what")
    table.add_column("against", no_wrap=True)
    table.add_column("goal", justify="right", no_wrap=True)
    table.add_column("this run")
    table.add_column("", no_wrap=True)
    for one in judged:
        figures = Text(", ").join(
            Text(
                f"{case.partition('/')[2]} {times(speed)}",
                style=COLORS[Verdict.MISSED] if speed < one.goal.least else "",
            )
            for case, speed in one.speeds.items()
            if speed is not None
        )
        verdict = Text(one.verdict.value, style=COLORS[one.verdict])
        table.add_row(one.goal.what, one.goal.theirs, f">= {times(one.goal.least)}", figures, verdict)
    console.print(table)
    console.print("goals say how many times as fast; the tables say how many times as long", style="dim")
