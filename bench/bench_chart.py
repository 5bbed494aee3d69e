"""A picture of a run: one panel for each kind of case, one line or bar for each contestant."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_cases import name_size
from bench_contestants import ENTRIES, OURS
from bench_measure import Result
from bench_report import duration

#: Colours that people with any kind of sight can tell apart (Okabe and Ito); the same one in all charts.
PALETTE = ("#D55E00", "#E69F00", "#999999", "#0072B2", "#56B4E9", "#CC79A7", "#009E73", "#000000")
COLORS = dict(zip(ENTRIES, PALETTE, strict=True))


@dataclass(frozen=True)
class Panel:
    """The cases that begin with one of the prefixes: over their sizes, or each by itself."""

    title: str
    prefixes: tuple[str, ...]
    by_size: bool = True


PANELS = (
    Panel("Receiving text, 64 KiB chunks", ("parse/text/",)),
    Panel(
        "Receiving, other cases",
        ("parse/separate/", "parse/binary/", "parse/fragments/", "parse/unicode/", "parse/deflate/"),
        by_size=False,
    ),
    Panel("Building text frames, server", ("build/server/text/",)),
    Panel("Building text frames, client", ("build/client/text/",)),
    Panel("Sending through the connection, server", ("send/server/text/",)),
    Panel("Masking", ("mask/",)),
)


def panels(results: Sequence[Result]) -> list[tuple[Panel, list[Result]]]:
    """Return the panels for which there is something to show."""
    found = []
    for panel in PANELS:
        chosen = [
            result for result in results if result.case.name.startswith(panel.prefixes) and result.samples
        ]
        if panel.by_size:
            chosen.sort(key=lambda result: result.case.size)
        if chosen:
            found.append((panel, chosen))
    return found


def draw(results: Sequence[Result], path: Path, caption: str) -> None:
    """Write the picture in the format that the name ends with."""
    from matplotlib.figure import Figure

    shown = panels(results)
    columns = min(2, len(shown)) or 1
    rows = math.ceil(len(shown) / columns) or 1
    figure = Figure(figsize=(7.5 * columns, 4.6 * rows + 1.2), layout="constrained")
    handles: dict[str, Any] = {}
    for number, (panel, chosen) in enumerate(shown):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.set_title(panel.title, loc="left", fontweight="bold")
        names = [name for name in ENTRIES if any(name in result.samples for result in chosen)]
        for place, name in enumerate(names):
            if panel.by_size:
                handles[name] = _line(axes, name, chosen)
            else:
                handles[name] = _bars(axes, name, chosen, place, len(names))
        _scales(axes, panel, chosen)
    order = [name for name in ENTRIES if name in handles]
    figure.legend(
        [handles[name] for name in order], order, loc="outside upper center", ncols=4, frameon=False
    )
    figure.supxlabel(
        f"CPU time for one message, lower is better. {caption}", fontsize="small", color="#555555"
    )
    figure.savefig(path)


def _line(axes: Any, name: str, results: Sequence[Result]) -> Any:
    mine = [result for result in results if name in result.samples]
    sizes = [result.case.size for result in mine]
    summaries = [result.samples[name].summary for result in mine]
    style = {"color": COLORS[name], "linewidth": 2.4 if name in OURS else 1.4}
    (line,) = axes.plot(
        sizes,
        [summary.median for summary in summaries],
        marker="o",
        markersize=4,
        linestyle="--" if name == "memcpy" else "-",
        **style,
    )
    axes.fill_between(
        sizes,
        [summary.low for summary in summaries],
        [summary.high for summary in summaries],
        color=COLORS[name],
        alpha=0.15,
        linewidth=0,
    )
    return line


def _bars(axes: Any, name: str, results: Sequence[Result], place: int, count: int) -> Any:
    width = 0.85 / count
    at = [
        (position + (place - (count - 1) / 2) * width, result.samples[name].summary.median)
        for position, result in enumerate(results)
        if name in result.samples
    ]
    return axes.bar([x for x, _ in at], [height for _, height in at], width, color=COLORS[name])


def _scales(axes: Any, panel: Panel, results: Sequence[Result]) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _position: duration(value))
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
