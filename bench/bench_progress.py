"""Showing how far a run is: a bar on a terminal, a line now and then where there is none."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench_basics import BaseCase
from bench_measure import Result

#: Seconds between two lines where the output is not a terminal.
QUIET = 20.0
#: Seconds between two pictures on a terminal: drawing is work, and the measured may share the core with it.
REDRAW = 0.2


class Display:
    """Shows a run while it lasts."""

    def __init__(self, console: Console, cases: int, rounds: int) -> None:
        self._console = console
        self._cases = cases
        self._rounds = rounds
        self._done = 0
        self._last = time.monotonic()
        # Without a thread of its own: it draws between two samples or not at all.
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[at]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            auto_refresh=False,
        )
        self._task = self._progress.add_task("cases", total=cases, at="")

    def __enter__(self) -> Display:
        self._progress.start()
        if not self._console.is_terminal:
            self._console.print(f"{self._cases} cases, {self._rounds} rounds each")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def at(self, case: BaseCase, contestant: str, round_: int) -> None:
        """Show what is about to be measured."""
        if not self._console.is_terminal:
            return
        now = time.monotonic()
        if now - self._last > REDRAW:
            self._last = now
            what = f"round {round_} of {self._rounds}" if round_ else "preparing"
            self._progress.update(self._task, at=f"{case.name}, {contestant}, {what}", refresh=True)

    def done(self, result: Result) -> None:
        """Show that a case is measured."""
        self._done += 1
        self._progress.update(self._task, completed=self._done)
        for name in sorted(result.failed):
            self._console.print(
                f"{result.case.name}: {name} failed: {result.skipped[name]}", markup=False, soft_wrap=True
            )
        if not self._console.is_terminal and time.monotonic() - self._last > QUIET:
            self._last = time.monotonic()
            self._console.print(f"  {self._done} of {self._cases}")
