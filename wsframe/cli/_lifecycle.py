"""``python -m wsframe lifecycle``: play every way in which a connection can end against libraries, and compare."""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..testing.lifecycle import Row
    from ..testing.lifecycle._compare import Column
    from ..testing.lifecycle._libraries import Library
    from ..testing.lifecycle._run import Result

__all__ = ["add_parser"]

PROGRAM = "python -m wsframe lifecycle"

DESCRIPTION = """\
A peer that is a bare socket plays every way in which a connection can end against a server or a client, and the
application under test says what it was told. Rows are those of docs/endings.md. Exit status: 0 when wsframe's own
adapters told what the table says, 1 when they did not or a library could not be played, 2 when the suite could not be
run as asked."""

EPILOG = """\
wsframe stands for its adapters with both codecs, aio and sync for one of them. uvicorn stands for what an application
on uvicorn can have below it, wsframe's protocol and uvicorn's own; by default these are not played. Node's ws is found
where node finds it, or in the node_modules directory that WSFRAME_NODE_PATH names. docs/lifecycle.md says how a driver
for another library is written."""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "lifecycle",
        help="what libraries tell when connections end (needs the extra lifecycle)",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--libraries",
        metavar="NAMES",
        action="append",
        help="only these; repeat or use commas (default: all)",
    )
    parser.add_argument(
        "--rows",
        metavar="PATTERN",
        action="append",
        help="only these rows, such as 'client/tls-*'; repeat or use commas",
    )
    parser.add_argument(
        "--role", choices=["server", "client"], help="only servers, or only clients, are tested"
    )
    parser.add_argument(
        "--driver",
        metavar="DRIVER",
        action="append",
        default=[],
        help="another library's driver: a file or a Python module; can be repeated",
    )
    parser.add_argument("--list", action="store_true", help="list rows and libraries, and play nothing")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything that was told to a file")
    parser.add_argument(
        "--markdown", metavar="FILE", type=Path, help="write the comparison for docs/endings.md"
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=_positive,
        default=8 * (os.cpu_count() or 2),
        help="rows at a time (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


class _Wrong(Exception):
    """The command was wrongly called."""


def _run(options: argparse.Namespace) -> int:
    for module, what in (("trustme", "makes certificates"), ("rich", "shows a table")):
        if importlib.util.find_spec(module) is None:
            return _refuse(f'this command {what} with {module}; pip install "wsframe[lifecycle]" gets it')
    from ..testing.lifecycle import ROWS
    from ..testing.lifecycle._run import can_be_played

    try:
        rows = _chosen_rows([row for row in ROWS if can_be_played(row)], options)
        libraries = _chosen_libraries(options)
    except _Wrong as exc:
        return _refuse(str(exc))
    if options.list:
        _list(rows, libraries)
        return 0
    return _play(rows, libraries, options)


def _refuse(message: str) -> int:
    print(f"{PROGRAM}: {message}", file=sys.stderr)
    return 2


def _names(texts: Sequence[str] | None) -> list[str]:
    return [name.strip() for text in texts or () for name in text.split(",") if name.strip()]


def _chosen_rows(rows: list[Row], options: argparse.Namespace) -> list[Row]:
    if options.role:
        rows = [row for row in rows if row.role.value == options.role]
    patterns = _names(options.rows)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(row.name, pattern) for row in rows):
            raise _Wrong(f"no row is called {pattern!r} (--list names them)")
    return [
        row
        for row in rows
        if not patterns or any(fnmatch.fnmatchcase(row.name, pattern) for pattern in patterns)
    ]


def _chosen_libraries(options: argparse.Namespace) -> list[Library]:
    """What was asked for and is there; what is not there is named on stderr."""
    from ..testing.lifecycle._libraries import BUILT_IN, ON_UVICORN, OURS, own_driver

    names = _names(options.libraries)
    chosen: list[Library] = []
    for name in names:
        found = [
            library
            for library in (*BUILT_IN, *ON_UVICORN)
            if name in (library.name, library.adapter)
            or (name == "wsframe" and library in OURS)
            or (name == "uvicorn" and library in ON_UVICORN)
        ]
        if not found:
            names_here = (library.name for library in (*BUILT_IN, *ON_UVICORN))
            known = ", ".join(["wsframe", "aio", "sync", "uvicorn", *names_here])
            raise _Wrong(f"there is no driver for {name!r}; there are {known}")
        chosen += [library for library in found if library not in chosen]
    if not names and not options.driver:
        chosen = list(BUILT_IN)
    try:
        own = [own_driver(text) for text in options.driver]
    except ValueError as exc:
        raise _Wrong(str(exc)) from None
    there = []
    for library in chosen:
        missing = library.missing()
        if missing is None:
            there.append(library)
        elif names:
            raise _Wrong(f"{library.name} is not here: {missing}")
        else:
            print(f"{PROGRAM}: without {library.name}: {missing}", file=sys.stderr)
    return [*there, *own]


def _list(rows: Sequence[Row], libraries: Sequence[Library]) -> None:
    print(f"{len(libraries)} libraries: {', '.join(library.name for library in libraries)}")
    print(f"{len(rows)} rows:")
    for row in rows:
        print(f"  {row.name}: {row.what}")


def _play(rows: Sequence[Row], libraries: Sequence[Library], options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ..testing.lifecycle import ROWS
    from ..testing.lifecycle._certificates import Certificates
    from ..testing.lifecycle._compare import columns_of, report, to_markdown
    from ..testing.lifecycle._run import play_all

    table = {row.name: row for row in ROWS}
    errors = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
    )
    with Certificates() as certificates, progress:
        tasks = {library.name: progress.add_task(library.name, total=len(rows)) for library in libraries}
        results = play_all(
            rows,
            libraries,
            certificates,
            table=table,
            jobs=options.jobs,
            on_played=lambda result, _row: progress.advance(tasks[result.library.name]),
        )
    columns = columns_of(results, table)
    _show(columns, results, rows)
    if options.json is not None:
        options.json.write_text(json.dumps(report(results, columns, rows), indent=1) + "\n", encoding="utf-8")
    if options.markdown is not None:
        options.markdown.write_text(to_markdown(columns, rows), encoding="utf-8")
    failed = any(result.problem or result.wrong or _died(result) for result in results)
    return 1 if failed else 0


def _died(result: Result) -> dict[str, str]:
    """The rows in which a driver came to its end -> its last words."""
    return {name: outcome.note for name, outcome in result.outcomes.items() if outcome.status == "failed"}


def _show(columns: Sequence[Column], results: Sequence[Result], rows: Sequence[Row]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..testing.lifecycle._compare import marked, merged

    shown = merged(columns)
    console = Console()
    if not console.is_terminal:
        # A file or a CI log has no width of its own.
        console = Console(width=max(120, 30 * (len(shown) + 1)))
    for role in ("server", "client"):
        chosen = [row for row in rows if row.role.value == role]
        if not chosen:
            continue
        table = Table(title=f"What the application of a {role} was told", show_lines=True)
        table.add_column("row")
        for column in shown:
            table.add_column(escape(f"{column.name} {column.version}"), overflow="fold")
        group = ""
        for row in chosen:
            if row.group != group:
                group = row.group
                table.add_section()
                table.add_row(f"[bold]{escape(group)}[/]")
            cells = [
                f"[red]WRONG[/] {escape(marked(column, row.name))}"
                if row.name in column.wrong
                else escape(marked(column, row.name))
                for column in shown
            ]
            table.add_row(escape(row.name.partition("/")[2]), *cells)
        console.print(table)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    say("The same letter in a column: its application cannot tell those endings apart.")
    for column, result in zip(columns, results, strict=True):
        name = escape(column.name)
        if result.problem is not None:
            say(f"[red]{name}: {escape(result.problem)}[/]")
        else:
            apart, total = column.told_apart
            say(f"{name} {escape(column.version)}: tells {apart} of {total} endings from all others")
        for row_name, words in _died(result).items():
            if row_name not in column.wrong:
                say(f"[red]{name} {escape(row_name)}: the driver failed:[/] {escape(words)}")
        for row_name, problems in result.again.items():
            if row_name not in column.wrong:
                say(f"{name} {escape(row_name)}: played again, since {escape('; '.join(problems))}")
        for row_name, problems in column.wrong.items():
            say(f"[red]{name} {escape(row_name)}:[/] {escape('; '.join(problems))}")
