"""The tables of a run, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench_basics import KIB, duration, times
from bench_compare import Old, changes
from bench_goals import Judged, Verdict
from bench_json import core_share
from bench_measure import Result
from bench_subject import Subject

#: From here on a rate says more than a time.
RATE_FROM = 4 * KIB
#: Samples that had the core for less than this part of the time: the machine had something else to do.
BUSY = 0.9

COLORS = {Verdict.REACHED: "green", Verdict.MISSED: "red", Verdict.OPEN: "yellow"}


def show(console: Console, subject: Subject, results: Sequence[Result], missing: Mapping[str, str]) -> None:
    """Print one table for each group of cases, and who is not in them."""
    reference = subject.reference(results)
    for group, about in subject.groups.items():
        chosen = [result for result in results if result.case.group == group and result.samples]
        if not chosen:
            continue
        table = Table(title=about, title_justify="left", title_style="bold", pad_edge=False)
        table.add_column("case", no_wrap=True)
        table.add_column("contestant", no_wrap=True)
        headings = [subject.unit.heading, "spread", *(["wall"] if subject.wall else [])]
        if _has_rates(chosen):
            headings.append("MB/s")
        limits = subject.roster.limits
        headings += [f"of {reference}", "of best peer", *([f"of {limits[0]}"] if limits else [])]
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True)
        for result in chosen:
            _add(table, subject, result, reference, rates=_has_rates(chosen))
        console.print(table)
    _show_who_is_missing(console, subject, results, missing)


def _has_rates(results: Sequence[Result]) -> bool:
    return any(result.case.size >= RATE_FROM for result in results)


def _add(table: Table, subject: Subject, result: Result, reference: str | None, *, rates: bool) -> None:
    first = True
    for name, samples in result.samples.items():
        summary = samples.summary
        cells = [
            result.case.name if first else "",
            name,
            subject.unit.show(summary.median),
            f"{summary.spread:.0%}",
        ]
        if subject.wall:
            cells.append("" if samples.wall is None else duration(samples.wall))
        if rates:
            time = (samples.wall or 0) if subject.wall else summary.median
            shown = result.case.size >= RATE_FROM and time > 0
            cells.append(f"{result.case.size * 1000 / time:,.0f}" if shown else "")
        for what, other in subject.compared(result, reference).items():
            if what == "limit" and other is None:
                continue
            ratio = None if other is None else result.ratio(name, other)
            cells.append("" if ratio is None or other == name else times(ratio.median))
        style = "bold" if name == reference else "dim" if name in subject.roster.limits else ""
        table.add_row(*cells, style=style, end_section=name == list(result.samples)[-1])
        first = False


def _show_who_is_missing(
    console: Console, subject: Subject, results: Sequence[Result], missing: Mapping[str, str]
) -> None:
    for name, why in missing.items():
        console.print(Text(f"missing: {name}: {why}"), soft_wrap=True)
    reasons: dict[tuple[str, str, bool], list[str]] = {}
    for result in results:
        for name, why in result.skipped.items():
            if missing.get(name) != why:
                reasons.setdefault((name, why, name in result.failed), []).append(result.case.name)
    for (name, why, failed), which in reasons.items():
        cases = which
        for group in subject.groups:
            all_of_it = [result.case.name for result in results if result.case.group == group]
            if len(all_of_it) > 1 and set(all_of_it) <= set(cases):
                cases = [f"{group}/*", *(case for case in cases if case not in all_of_it)]
        text = f"{'FAILED' if failed else 'skipped'}: {name}: {why} ({', '.join(cases)})"
        console.print(Text(text, style="red" if failed else ""), soft_wrap=True)
    share = core_share(results) if subject.alone else None
    if share is not None and share < BUSY:
        console.print(
            f"the machine was busy: the samples had their core for {share:.0%} of the time", style="yellow"
        )


def show_goals(console: Console, subject: Subject, judged: Sequence[Judged]) -> None:
    """Print how the goals stand, with the figures of this run."""
    table = Table(title="goals", title_justify="left", title_style="bold", pad_edge=False)
    for heading in ("what", "ours", "against"):
        table.add_column(heading, no_wrap=True)
    table.add_column("goal", justify="right", no_wrap=True)
    table.add_column("this run")
    table.add_column("", no_wrap=True)
    for one in judged:
        figures = Text(", ").join(
            Text(
                f"{case.partition('/')[2]} {one.goal.show(figure)}",
                style="" if one.goal.met(figure) else COLORS[Verdict.MISSED],
            )
            for case, figure in one.figures.items()
            if figure is not None
        )
        verdict = Text(one.verdict.value, style=COLORS[one.verdict])
        goal = one.goal
        table.add_row(goal.what, goal.ours, goal.against, goal.asked, figures, verdict)
    console.print(table)
    for one in judged:
        for case, asked in one.asked.items():
            limits = ", ".join(
                f"{name} needs {subject.unit.show(needs)}" for name, needs in asked.limits.items()
            )
            console.print(
                f"{case}, {one.goal.ours} against {one.goal.against}: asked for is"
                f" {subject.unit.show(asked.figure)}; {limits}",
                soft_wrap=True,
            )
    console.print(
        "goals with >= say how many times as fast ours is; tables, and goals with <=, how many times as much it"
        " needs",
        style="dim",
    )


def show_change(console: Console, subject: Subject, results: Sequence[Result], old: Old) -> None:
    """Print what became of the figures of an older run."""
    limit = subject.roster.limits[0] if subject.roster.limits else ""
    title = f"since {old.started}"
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("case")
    table.add_column("contestant", no_wrap=True)
    for heading in ("before", "spread", "now", "spread", "change", f"as to {limit}"):
        table.add_column(heading, justify="right", no_wrap=True)
    last = None
    for change in changes(subject, results, old):
        if last not in (None, change.case):
            table.add_section()
        relative = change.new.median / change.old.median - 1 if change.old.median else 0.0
        style = "" if not change.real else "red" if relative > 0 else "green"
        table.add_row(
            change.case if change.case != last else "",
            change.contestant,
            subject.unit.show(change.old.median),
            f"{change.old.spread:.0%}",
            subject.unit.show(change.new.median),
            f"{change.new.spread:.0%}",
            Text(f"{relative:+.0%}", style=style),
            "" if change.of_limit is None else f"{change.of_limit - 1:+.0%}",
        )
        last = change.case
    console.print(table)
    console.print(
        "coloured where the middle halves of the samples do not touch; two runs differ by what the machine did"
        " meanwhile, too",
        style="dim",
    )
