"""A picture of a run: one panel for each kind of case, one line or bar for each contestant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_basics import Panel, name_size
from bench_measure import Result
from bench_subject import Subject

#: Colours that people with any kind of sight can tell apart (Okabe and Ito).
PALETTE = ("#D55E00", "#E69F00", "#999999", "#0072B2", "#56B4E9", "#CC79A7", "#009E73", "#000000")
#: Members of one family share a colour and differ in these.
STYLES = ("-", "--", ":", "-.")
HATCHES = ("", "//", "..", "xx")


@dataclass(frozen=True)
class Look:
    """How one contestant is drawn."""

    color: str
    line: str
    hatch: str
    wide: bool


def looks(subject: Subject) -> dict[str, Look]:
    """Return how everybody is drawn: the same in all charts of a benchmark."""
    families: dict[str, list[str]] = {}
    for name in subject.roster.entries:
        families.setdefault(name.partition("/")[0], []).append(name)
    return {
        name: Look(
            color=PALETTE[number % len(PALETTE)],
            line=STYLES[(place + number // len(PALETTE)) % len(STYLES)],
            hatch=HATCHES[(place + number // len(PALETTE)) % len(HATCHES)],
            wide=name in subject.roster.ours,
        )
        for number, members in enumerate(families.values())
        for place, name in enumerate(members)
    }


def panels(subject: Subject, results: Sequence[Result]) -> list[tuple[Panel, list[Result]]]:
    """Return the panels for which there is something to show."""
    found = []
    for panel in subject.panels:
        chosen = [
            result for result in results if result.case.name.startswith(panel.prefixes) and result.samples
        ]
        if panel.by_size:
            chosen.sort(key=lambda result: result.case.size)
        if chosen:
            found.append((panel, chosen))
    return found


def draw(subject: Subject, results: Sequence[Result], path: Path, caption: str) -> None:
    """Write the picture in the format that the name ends with."""
    from matplotlib.figure import Figure

    shown = panels(subject, results)
    columns = min(2, len(shown)) or 1
    rows = math.ceil(len(shown) / columns) or 1
    figure = Figure(figsize=(7.5 * columns, 4.6 * rows + 1.2), layout="constrained")
    look = looks(subject)
    handles: dict[str, Any] = {}
    for number, (panel, chosen) in enumerate(shown):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.set_title(panel.title, loc="left", fontweight="bold")
        names = [name for name in look if any(name in result.samples for result in chosen)]
        for place, name in enumerate(names):
            if panel.by_size:
                handles[name] = _line(axes, name, look[name], chosen)
            else:
                handles[name] = _bars(axes, name, look[name], chosen, place, len(names))
        _scales(axes, subject, panel, chosen)
    order = [name for name in look if name in handles]
    figure.legend(
        [handles[name] for name in order], order, loc="outside upper center", ncols=4, frameon=False
    )
    figure.supxlabel(f"{subject.unit.said}, lower is better. {caption}", fontsize="small", color="#555555")
    figure.savefig(path)


def _line(axes: Any, name: str, look: Look, results: Sequence[Result]) -> Any:
    mine = [result for result in results if name in result.samples]
    sizes = [result.case.size for result in mine]
    summaries = [result.samples[name].summary for result in mine]
    (line,) = axes.plot(
        sizes,
        [summary.median for summary in summaries],
        marker="o",
        markersize=4,
        linestyle=look.line,
        color=look.color,
        linewidth=2.4 if look.wide else 1.4,
    )
    axes.fill_between(
        sizes,
        [summary.low for summary in summaries],
        [summary.high for summary in summaries],
        color=look.color,
        alpha=0.15,
        linewidth=0,
    )
    return line


def _bars(axes: Any, name: str, look: Look, results: Sequence[Result], place: int, count: int) -> Any:
    width = 0.85 / count
    at = [
        (position + (place - (count - 1) / 2) * width, result.samples[name].summary.median)
        for position, result in enumerate(results)
        if name in result.samples
    ]
    return axes.bar(
        [x for x, _ in at],
        [height for _, height in at],
        width,
        color=look.color,
        hatch=look.hatch,
        edgecolor="white",
        linewidth=0,
    )


def _scales(axes: Any, subject: Subject, panel: Panel, results: Sequence[Result]) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _position: subject.unit.show(value))
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if panel.by_size:
        axes.set_xscale("log", base=2)
        sizes = [result.case.size for result in results]
        axes.set_xticks(sizes, [name_size(size) for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("payload bytes")
    else:
        labels = [result.case.name.partition("/")[2] for result in results]
        axes.set_xticks(range(len(labels)), labels, rotation=30, ha="right", fontsize="small")
