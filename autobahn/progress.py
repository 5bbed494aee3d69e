"""Showing how far a run is: one bar per row on a terminal, a line now and then where there is none."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from rows import Outcome
from verdict import Problem

#: Seconds between two lines where the output is not a terminal.
QUIET = 20.0
#: Of so many problems in a row each is shown when it happens; the table at the end has the others.
SHOWN = 20


class Display:
    """Shows one row while it runs."""

    def __init__(self, console: Console, outcome: Outcome) -> None:
        self._console = console
        self._outcome = outcome
        self._total = len(outcome.row.cases)
        self._shown = 0
        self._last_line = time.monotonic()
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[case]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )

    def __enter__(self) -> Display:
        self._progress.start()
        self._task = self._progress.add_task(self._outcome.row.name, total=self._total, case="")
        if not self._console.is_terminal:
            self._console.print(f"{self._outcome.row.name}: {self._total} cases")
        self.ended(None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begun(self, case: str) -> None:
        """Show that a case has begun."""
        assert self._task is not None
        self._progress.update(self._task, case=case)

    def ended(self, problem: Problem | None) -> None:
        """Show that a case has ended, and what was wrong with it."""
        assert self._task is not None
        done = len(self._outcome.results)
        self._progress.update(self._task, completed=done)
        if problem is not None:
            self._shown += 1
            if self._shown <= SHOWN:
                self._console.print(
                    f"  {problem.case}: {problem.behavior}, {problem.text}",
                    markup=False,
                    highlight=False,
                    soft_wrap=True,
                )
            elif self._shown == SHOWN + 1:
                self._console.print("  (further problems are in the report only)")
        if not self._console.is_terminal and time.monotonic() - self._last_line > QUIET:
            self._last_line = time.monotonic()
            self._console.print(f"  {done} of {self._total}")
