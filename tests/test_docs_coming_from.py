"""docs/coming-from.md: whatever it names is there, and every row of some of its tables has a test of its name."""

from __future__ import annotations

import ast
import asyncio
import builtins
import importlib
import inspect
import json
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import wsframe
from wsframe import Disconnected, Request, aio
from wsframe._adapter._settings import ConnectionOptions

TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "coming-from.md").read_text(encoding="utf-8")

#: The tables whose rows have tests of their names, and where these are.
TESTED = {
    "Swoole and OpenSwoole": "test_coming_from_swoole.py",
    "Ratchet": "test_coming_from_ratchet.py",
    "The PHP client": "test_coming_from_php.py",
}

#: What follows the name of a row in that of a test, if the row has more than one.
SUFFIXES = ("_on_sync",)


@dataclass(frozen=True)
class Row:
    """One row of a table, without the table's head."""

    table: str
    theirs: str
    ours: str
    difference: str

    @property
    def slug(self) -> str:
        """Its name in that of a test."""
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", self.theirs).lower()
        return re.sub(r"[^a-z0-9]+", "_", name).strip("_")


def rows() -> Iterator[Row]:
    table = ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            table = line[3:]
        elif line.startswith("| ") and not line.startswith(("| there |", "| --- |")):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            yield Row(table, *cells)


ROWS = list(rows())


def snippets(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


# Names.

#: What stands for something of the reader's.
PLACEHOLDERS = set(
    "address application blocked close_code close_message code connections context data exc f frame"
    " handler headers host listener_factory logger message msg_type name names opcode origins path payload pieces"
    " port reason remote_address request size status text timeout transport uri url user websockets".split()
)

#: What an attribute is of which nobody declares the type.
TYPES = {("WebSocket", "request"): Request, ("WebSocket", "ending"): Disconnected}

#: The roots of our names. What is not among them is in `wsframe.aio`, or a builtin.
OURS: dict[str, Any] = {
    "asyncio": asyncio,
    "ending": Disconnected,
    "info": aio.ConnectionInfo,
    "json": json,
    "server": aio.Server,
    "stats": aio.ServerStats,
    "ws": aio.WebSocket,
    "wsframe": wsframe,
}


class Unknown:
    """Something of which no more is known than that it is there."""


def parsed(snippet: str) -> Iterable[ast.AST]:
    """The expressions of a piece of code that may have lost its context."""
    for form in ("{}", "async def _():\n    {}", "async def _():\n    {}: pass"):
        try:
            statement = ast.parse(form.format(snippet)).body[0]
        except SyntaxError:
            continue
        return statement.body if isinstance(statement, ast.AsyncFunctionDef) else [statement]
    raise AssertionError(f"{snippet!r} is no code")


class Resolver:
    """Looks up every name in a piece of code.

    Args:
        roots: what names stand for.
        places: objects, usually modules, that have the others.
    """

    def __init__(self, roots: Mapping[str, Any], *places: Any) -> None:
        self._roots = roots
        self._places = places

    def check(self, snippet: str) -> None:
        """Fail unless every name in it is there, and every keyword taken."""
        for statement in parsed(snippet):
            match statement:
                case ast.Expr(value=expression):
                    self._resolve(expression)
                case ast.AsyncFor(iter=expression) | ast.AsyncWith(items=[ast.withitem(expression)]):
                    self._resolve(expression)
                case _:
                    raise AssertionError(f"what is {snippet!r}?")

    def _resolve(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(name):
                return self._name(name)
            case ast.Attribute(value, attribute):
                owner = self._resolve(value)
                return Unknown if owner is Unknown else _attribute(owner, attribute)
            case ast.Call(function, arguments, keywords):
                return self._call(function, arguments, keywords)
            case ast.Await(value):
                self._resolve(value)
            case ast.List(elements) | ast.Tuple(elements):
                for element in elements:
                    self._resolve(element)
            case ast.ListComp(element, [ast.comprehension(iter=iterable, ifs=conditions)]):
                for part in (element, iterable, *conditions):
                    self._resolve(part)
            case ast.Compare(left, _, comparators):
                for part in (left, *comparators):
                    self._resolve(part)
            case ast.Constant():
                pass
            case _:
                raise AssertionError(f"what is {ast.unparse(node)!r}?")
        return Unknown

    def _name(self, name: str) -> Any:
        if name in self._roots:
            return self._roots[name]
        if name in PLACEHOLDERS:
            return Unknown
        for place in (*self._places, builtins):
            if hasattr(place, name):
                return getattr(place, name)
        raise AssertionError(f"there is no {name!r}")

    def _call(self, function: ast.expr, arguments: list[ast.expr], keywords: list[ast.keyword]) -> Any:
        callee = self._resolve(function)
        for value in (*arguments, *(keyword.value for keyword in keywords)):
            self._resolve(value)
        if callee is Unknown:
            return Unknown
        assert callable(callee), f"{ast.unparse(function)} cannot be called"
        try:
            parameters = inspect.signature(callee).parameters
        except ValueError:
            # It is compiled, and keeps that to itself.
            return Unknown
        taken = set(parameters)
        if "options" in parameters:
            taken |= ConnectionOptions.__annotations__.keys()
        for keyword in keywords:
            assert keyword.arg in taken, f"{ast.unparse(function)} takes no {keyword.arg}"
        positional = [
            parameter
            for parameter in parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            and parameter.name != "self"
        ]
        assert len(arguments) <= len(positional), (
            f"{ast.unparse(function)} takes no {len(arguments)} arguments"
        )
        return callee if isinstance(callee, type) else _returned(callee)


def _attribute(owner: Any, name: str) -> Any:
    if isinstance(owner, type):
        if not hasattr(owner, name) and _is_set_by(owner, name):
            return Unknown
        known = TYPES.get((owner.__name__, name))
        if known is not None:
            return known
    assert hasattr(owner, name), f"{owner!r} has no {name!r}"
    value = getattr(owner, name)
    if isinstance(value, property):
        assert value.fget is not None
        return _returned(value.fget)
    if inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
        return value
    return Unknown


def _is_set_by(owner: type, name: str) -> bool:
    """Whether a class gives its objects an attribute, as it says, or in its methods."""
    if any(name in vars(base).get("__annotations__", {}) for base in owner.__mro__):
        return True
    sources = (inspect.getsource(base) for base in owner.__mro__ if base.__module__.startswith("websockets"))
    return any(re.search(rf"\bself\.{name}\b(?::| =) ", source) for source in sources)


def _returned(function: Any) -> Any:
    """The class of what a function returns, apart from None."""
    try:
        hint = typing.get_type_hints(function).get("return", Unknown)
    except (NameError, TypeError):
        return Unknown
    classes = [found for found in (typing.get_args(hint) or (hint,)) if found is not type(None)]
    return classes[0] if len(classes) == 1 and isinstance(classes[0], type) else Unknown


#: As in the tables: the names of the others, by the title of the table.
THEIRS: dict[str, tuple[dict[str, tuple[str, str | None]], tuple[str, ...]]] = {
    "websockets": (
        {
            "connection": ("websockets.asyncio.server", "ServerConnection"),
            "websocket": ("websockets.asyncio.server", "ServerConnection"),
            "server": ("websockets.asyncio.server", "Server"),
        },
        ("websockets.asyncio.server", "websockets.asyncio.client", "websockets.exceptions"),
    ),
    "aiohttp": (
        {
            "client_ws": ("aiohttp", "ClientWebSocketResponse"),
            "session": ("aiohttp", "ClientSession"),
            "web": ("aiohttp.web", None),
            "ws": ("aiohttp.web", "WebSocketResponse"),
        },
        ("aiohttp",),
    ),
    "picows": (
        {"frame": ("picows", "WSFrame"), "transport": ("picows", "WSTransport")},
        ("picows",),
    ),
}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.table}-{row.slug}")
def test_our_names_are_there(row: Row) -> None:
    resolver = Resolver(OURS, aio)
    for snippet in snippets(row.ours):
        resolver.check(snippet)


def test_so_are_those_in_sentences() -> None:
    """Those that are seen to be ours by their beginning."""
    ours = re.compile(
        r"(?:asyncio|ending|info|server|stats|ws|wsframe)\.\w|(?:Application|Accept|AddressBlockList)\W"
    )
    beside = "\n".join(f"{row.ours} {row.difference}" for row in ROWS)
    prose = re.sub(r"^\|.*$", "", PAGE, flags=re.MULTILINE)
    found = [snippet for snippet in snippets(f"{beside}\n{prose}") if ours.match(snippet)]
    # Modules, and not names in them.
    found = [
        snippet for snippet in found if snippet not in ("wsframe.aio", "wsframe.sync", "websockets.asyncio")
    ]
    assert len(found) > 100
    resolver = Resolver(OURS, aio)
    for snippet in found:
        resolver.check(snippet.replace("$", ""))


@pytest.mark.parametrize("table", THEIRS)
def test_their_names_are_there(table: str) -> None:
    roots, modules = THEIRS[table]
    pytest.importorskip(table)

    def found(module: str, name: str | None) -> Any:
        place = importlib.import_module(module)
        return place if name is None else getattr(place, name)

    names = {name: found(*where) for name, where in roots.items()}
    if table == "websockets":
        names["exc"] = importlib.import_module("websockets.exceptions").ConnectionClosed(None, None)
    resolver = Resolver(names, *map(importlib.import_module, modules))
    checked = [snippet for row in ROWS if row.table == table for snippet in snippets(row.theirs)]
    for snippet in checked:
        resolver.check(snippet)
    assert len(checked) > 20


@pytest.mark.parametrize(
    "snippet",
    [
        "server.pushed(id, message)",
        "server.info(id).stat",
        "ws.request.targets",
        "serve(handler, host, port, pings=1)",
        "connect(uri, retry=RetryPolicy(deciding=f))",
        "async for ws in connecting(uri)",
        "await (await ws.pings())",
        "server.push(id, message, more, of, them)",
        "[ws for ws in server.connection]",
        "ending.sender",
        "wsframe.packs(data)",
        "Application.on_opened(ws)",
        "not code",
    ],
)
def test_what_is_not_there_is_found(snippet: str) -> None:
    with pytest.raises(AssertionError):
        Resolver(OURS, aio).check(snippet)


# Tests.


def names_in(source: str) -> set[str]:
    return {
        node.name.removeprefix("test_")
        for node in ast.parse(source).body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
    }


def without_test(table: str, source: str) -> tuple[set[str], set[str]]:
    """The rows that have no test of their name, and the tests that have no row."""
    slugs = {row.slug for row in ROWS if row.table == table}
    tested = names_in(source)
    named = {name.removesuffix(suffix) for name in tested for suffix in ("", *SUFFIXES)}
    without_row = {name for name in tested if not slugs & {name, *map(name.removesuffix, SUFFIXES)}}
    return slugs - named, without_row


@pytest.mark.parametrize("table", TESTED)
def test_every_row_has_a_test_of_its_name(table: str) -> None:
    source = (TESTS / TESTED[table]).read_text(encoding="utf-8")
    assert len([row for row in ROWS if row.table == table]) > 12
    assert without_test(table, source) == (set(), set())


def test_a_row_without_a_test_is_found() -> None:
    first = (TESTS / TESTED["Ratchet"]).read_text(encoding="utf-8")
    changed = first.replace("def test_on_open(", "def test_opening(")
    assert without_test("Ratchet", changed) == ({"on_open"}, {"opening"})


def test_no_name_stands_twice_in_a_table() -> None:
    for table in TESTED:
        slugs = [row.slug for row in ROWS if row.table == table]
        assert len(slugs) == len(set(slugs)), table


def test_the_tables_are_those_that_are_promised() -> None:
    assert {row.table for row in ROWS} == {*TESTED, *THEIRS}
