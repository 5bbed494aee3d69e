"""What libraries tell their applications, side by side, and which endings one cannot tell apart."""

from __future__ import annotations

import json
import platform
import string
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..._enums import Role
from ..._version import __version__
from ._on_uvicorn import on_uvicorn
from ._outcome import Outcome
from ._row import Row
from ._run import Result
from ._verdict import expected_row
from .drivers import message_text

__all__ = ["Column", "columns_of", "marked", "merged", "report", "to_markdown"]

#: Characters of one piece of what was told, in the table.
_WIDTH = 48

_NOTHING = "nothing"


@dataclass
class Column:
    """One library in the table.

    Attributes:
        name: its name.
        version: its version.
        cells: row -> what its application could tell.
        marks: row -> a letter; rows with the same one have different endings, and were told the same.
        wrong: row -> what is wrong with it; for wsframe's own.
        adapter: "aio", "sync" or "uvicorn" for these.
        on_uvicorn: what it is told there.
        told_apart: how many endings its application can tell from all others, and of how many.
    """

    name: str
    version: str
    cells: dict[str, str] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    adapter: str | None = None
    on_uvicorn: bool = False
    told_apart: tuple[int, int] = (0, 0)


def columns_of(results: Iterable[Result], rows: Mapping[str, Row]) -> list[Column]:
    """The columns of the table.

    Args:
        results: what came of each library.
        rows: all rows by name.
    """
    columns = []
    for result in results:
        column = Column(
            result.library.name,
            result.version,
            wrong=result.wrong,
            adapter=result.library.adapter,
            on_uvicorn=result.library.on_uvicorn,
        )
        groups: dict[Any, list[Row]] = defaultdict(list)
        for name, outcome in result.outcomes.items():
            row = rows[name]
            column.cells[name] = _cell(outcome, row)
            if outcome.status == "played":
                # Endings of a server and of a client are never to be told apart.
                groups[row.role, _identity(outcome, row)].append(row)
        _mark(column, groups, rows)
        columns.append(column)
    return columns


def _mark(column: Column, groups: Mapping[Any, list[Row]], table: Mapping[str, Row]) -> None:
    """Give a letter to what was told for more than one ending."""

    def endings(rows: Iterable[Row]) -> set[str]:
        """The different endings of some rows, each by a row's name; what an adapter cannot tell is in the table."""
        expected: Iterable[Row | None] = rows
        if column.adapter is not None:
            expected = [expected_row(row, column.adapter, table) for row in rows]
        elif column.on_uvicorn:
            expected = map(on_uvicorn, rows)
        return {row.same_as or row.name for row in expected if row is not None}

    order = list(table)
    confused: dict[Role, list[list[Row]]] = {role: [] for role in Role}
    for rows in groups.values():
        if len(endings(rows)) > 1:
            confused[rows[0].role].append(rows)
    lost = 0
    for lists in confused.values():
        lists.sort(key=lambda rows: min(order.index(row.name) for row in rows))
        for rows, letter in zip(lists, _letters(), strict=False):
            for row in rows:
                column.marks[row.name] = letter
        lost += len(set().union(*map(endings, lists)))
    total = len(endings(row for rows in groups.values() for row in rows))
    column.told_apart = total - lost, total


def merged(columns: Sequence[Column]) -> list[Column]:
    """The same with one column for all of wsframe's own, which say the same, if the table is right.

    On uvicorn there are fewer endings, so what is there has a column of its own.
    """
    result: list[Column] = []
    for name, there in (("wsframe", False), ("uvicorn/wsframe", True)):
        ours = [column for column in columns if column.adapter is not None and column.on_uvicorn is there]
        result += ours if len(ours) < 2 else [_merged(name, ours)]
    return [*result, *(column for column in columns if column.adapter is None)]


def _merged(title: str, ours: Sequence[Column]) -> Column:
    one = Column(
        title,
        __version__,
        on_uvicorn=ours[0].on_uvicorn,
        told_apart=min(column.told_apart for column in ours),
    )
    for name in dict.fromkeys(name for column in ours for name in column.cells):
        said: dict[str, list[str]] = defaultdict(list)
        for column in ours:
            if name in column.cells:
                said[marked(column, name)].append(column.name)
            if name in column.wrong:
                one.wrong[name] = column.wrong[name]
        one.cells[name] = (
            next(iter(said))
            if len(said) == 1
            else "; ".join(f"{'/'.join(_adapters(names))}: {text}" for text, names in said.items())
        )
    return one


def _adapters(names: Sequence[str]) -> list[str]:
    """Of names such as "aio:cython", the adapters, where it is not the codec that makes a difference."""
    adapters = list(dict.fromkeys(name.partition(":")[0] for name in names))
    return adapters if len(names) == 2 * len(adapters) else list(names)


def _letters() -> Iterable[str]:
    yield from string.ascii_lowercase
    for first in string.ascii_lowercase:
        for second in string.ascii_lowercase:
            yield first + second


def _identity(outcome: Outcome, row: Row) -> str:
    """All that the application can tell of an ending: equal strings mean that it cannot tell two apart."""
    if outcome.ending is not None:
        # How long ago something was says nothing about what it was.
        fields = {key: value for key, value in outcome.ending.items() if key not in ("age", "sentence")}
        return json.dumps(fields)
    return json.dumps([*_news(outcome, row, outcome.told), outcome.over])


def _news(outcome: Outcome, row: Row, lines: Sequence[str]) -> list[str]:
    """What was told besides that it is open, where it was, and the messages, as far as they are what was sent."""
    messages = [message_text(data) for data in row.delivered]
    kept = []
    for line, told in zip(lines, outcome.told, strict=True):
        if told == "open" and row.opens:
            continue
        if messages and told.endswith(messages[0]):
            del messages[0]
            continue
        kept.append(line)
    return kept


def _cell(outcome: Outcome, row: Row) -> str:
    if outcome.status != "played":
        return f"{outcome.status}: {outcome.note}" if outcome.status != "hangs" else "hangs"
    pieces = [piece for piece in _news(outcome, row, outcome.brief) if piece]
    text = ", ".join(piece if len(piece) <= _WIDTH else f"{piece[:_WIDTH]}..." for piece in pieces)
    return text or _NOTHING


def report(results: Sequence[Result], columns: Sequence[Column], rows: Iterable[Row]) -> dict[str, Any]:
    """A run as JSON has it."""
    return {
        "wsframe": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "libraries": [
            {
                "name": column.name,
                "version": column.version,
                "problem": result.problem,
                "told_apart": column.told_apart[0],
                "of": column.told_apart[1],
            }
            for result, column in zip(results, columns, strict=True)
        ],
        "rows": [
            {
                "name": row.name,
                "what": row.what,
                "group": row.group,
                "same_as": row.same_as,
                "libraries": {
                    result.library.name: {
                        "cell": column.cells[row.name],
                        "mark": column.marks.get(row.name),
                        "wrong": column.wrong.get(row.name, []),
                        **asdict(result.outcomes[row.name]),
                    }
                    for result, column in zip(results, columns, strict=True)
                    if row.name in result.outcomes
                },
            }
            for row in rows
        ],
    }


def to_markdown(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """The comparison as a part of ``docs/endings.md``: the rows that have an ending of their own."""
    columns = merged(columns)
    heading, command = (
        ("What applications on uvicorn are told", "--libraries uvicorn --markdown docs/_endings_uvicorn.md")
        if all(column.on_uvicorn for column in columns)
        else ("What other libraries tell", "--markdown docs/_endings_comparison.md")
    )
    lines = [
        f"## {heading}",
        "",
        f"Written by `python -m wsframe lifecycle {command}` from one run: the same peer",
        "plays the rows that have an ending of their own against each library, whose application says all that it can",
        "see. The same letter in one column: that library's application cannot tell those endings apart, though they",
        "are not the same. `nothing`: it is told nothing. `cannot`: the library has nothing for what the row needs.",
        "[lifecycle.md](lifecycle.md) says how it is done, and how to add a library.",
        "",
        "Versions: "
        + ", ".join(f"{column.name} {column.version}" for column in columns)
        + f"; Python {platform.python_version()} on {platform.system()}.",
        "",
        "| library | different endings played | of these told from all others |",
        "| --- | ---: | ---: |",
        *(f"| {column.name} | {column.told_apart[1]} | {column.told_apart[0]} |" for column in columns),
    ]
    for role in Role:
        shown = [
            column for column in columns if any(name.startswith(f"{role.value}/") for name in column.cells)
        ]
        if not shown:
            continue
        lines += ["", f"### A {role.value}", ""]
        lines.append("| what happens | " + " | ".join(column.name for column in shown) + " |")
        lines.append("| --- " * (len(shown) + 1) + "|")
        for row in rows:
            if row.role is role and row.same_as is None and any(row.name in column.cells for column in shown):
                cells = (marked(column, row.name) for column in shown)
                lines.append(f"| {_escape(row.what)} | " + " | ".join(map(_escape, cells)) + " |")
    return "\n".join(lines) + "\n"


def marked(column: Column, name: str) -> str:
    """A cell with its letter."""
    text = column.cells.get(name, "")
    mark = column.marks.get(name)
    return f"({mark}) {text}" if mark else text


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("_", "\\_").replace("*", "\\*")
