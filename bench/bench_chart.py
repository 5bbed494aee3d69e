"""A picture of a run: over the sizes of messages, a line for each contestant; else a ranking for each case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench_basics import Panel, name_size
from bench_measure import Result
from bench_subject import Subject

#: Colours that people with any kind of sight can tell apart (Okabe and Ito).
PALETTE = ("#D55E00", "#E69F00", "#999999", "#0072B2", "#56B4E9", "#CC79A7", "#009E73", "#000000")
#: In a ranking there are too many contestants for colours of their own.
OURS, PEER, LIMIT = "#D55E00", "#56B4E9", "#BBBBBB"


def colors(subject: Subject) -> dict[str, str]:
    """Return everybody's colour: the same in all charts of a benchmark."""
    return {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(subject.roster.entries)}


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

    figure = Figure(layout="constrained")
    if subject.panels:
        _draw_panels(figure, subject, results)
    else:
        _draw_rankings(figure, subject, results)
    figure.supxlabel(f"{subject.unit.said}, lower is better. {caption}", fontsize="small", color="#555555")
    figure.savefig(path)


def _draw_panels(figure: Any, subject: Subject, results: Sequence[Result]) -> None:
    shown = panels(subject, results)
    columns = min(2, len(shown)) or 1
    rows = math.ceil(len(shown) / columns) or 1
    figure.set_size_inches(7.5 * columns, 4.6 * rows + 1.2)
    look = colors(subject)
    handles: dict[str, Any] = {}
    for number, (panel, chosen) in enumerate(shown):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.set_title(panel.title, loc="left", fontweight="bold")
        names = [name for name in look if any(name in result.samples for result in chosen)]
        for place, name in enumerate(names):
            if panel.by_size:
                handles[name] = _line(axes, subject, name, look[name], chosen)
            else:
                handles[name] = _bars(axes, name, look[name], chosen, place, len(names))
        _scales(axes, subject, panel, chosen)
    order = [name for name in look if name in handles]
    figure.legend(
        [handles[name] for name in order], order, loc="outside upper center", ncols=4, frameon=False
    )


def _line(axes: Any, subject: Subject, name: str, color: str, results: Sequence[Result]) -> Any:
    mine = [result for result in results if name in result.samples]
    sizes = [result.case.size for result in mine]
    summaries = [result.samples[name].summary for result in mine]
    (line,) = axes.plot(
        sizes,
        [summary.median for summary in summaries],
        marker="o",
        markersize=4,
        linestyle="--" if name in subject.roster.limits else "-",
        color=color,
        linewidth=2.4 if name in subject.roster.ours else 1.4,
    )
    axes.fill_between(
        sizes,
        [summary.low for summary in summaries],
        [summary.high for summary in summaries],
        color=color,
        alpha=0.15,
        linewidth=0,
    )
    return line


def _bars(axes: Any, name: str, color: str, results: Sequence[Result], place: int, count: int) -> Any:
    width = 0.85 / count
    at = [
        (position + (place - (count - 1) / 2) * width, result.samples[name].summary.median)
        for position, result in enumerate(results)
        if name in result.samples
    ]
    return axes.bar([x for x, _ in at], [height for _, height in at], width, color=color)


def _scales(axes: Any, subject: Subject, panel: Panel, results: Sequence[Result]) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _position: subject.unit.show(value))
    axes.yaxis.set_minor_formatter(lambda _value, _position: "")
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


def _draw_rankings(figure: Any, subject: Subject, results: Sequence[Result]) -> None:
    shown = [result for result in results if result.samples]
    columns = min(3, len(shown)) or 1
    rows = math.ceil(len(shown) / columns) or 1
    most = max((len(result.samples) for result in shown), default=1)
    figure.set_size_inches(5.6 * columns, (0.24 * most + 0.8) * rows + 0.5)
    for number, result in enumerate(shown):
        _ranking(figure.add_subplot(rows, columns, number + 1), subject, result)


def _ranking(axes: Any, subject: Subject, result: Result) -> None:
    """Draw a bar for each contestant, the best one above, with the middle half of its samples."""
    roster = subject.roster
    found = {name: samples.summary for name, samples in result.samples.items()}
    names = sorted(found, key=lambda name: found[name].median, reverse=True)
    medians = [found[name].median for name in names]
    colors = [OURS if name in roster.ours else LIMIT if name in roster.limits else PEER for name in names]
    axes.barh(names, medians, color=colors, height=0.75)
    axes.errorbar(
        medians,
        names,
        xerr=[
            [found[name].median - found[name].low for name in names],
            [found[name].high - found[name].median for name in names],
        ],
        fmt="none",
        ecolor="#333333",
        elinewidth=1,
    )
    # Whoever is far off shall not press all others together.
    right = max(min(max(medians), 12 * medians[len(medians) // 2]) * 1.25, 1e-9)
    axes.set_xlim(0, right)
    for name, summary in found.items():
        inside = summary.high < right * 0.8
        axes.annotate(
            subject.unit.show(summary.median),
            (summary.high if inside else right * 0.99, name),
            xytext=(4 if inside else -2, 0),
            textcoords="offset points",
            ha="left" if inside else "right",
            va="center",
            fontsize="small",
        )
    for label in axes.get_yticklabels():
        if label.get_text() in roster.ours:
            label.set_fontweight("bold")
    axes.set_title(result.case.name, loc="left", fontweight="bold")
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
