"""The walls of the house: who may import whom, who may print and log, and how big a room may grow.

`check` judges one file by its text alone; the lower half of this page shows it bad files, because a check that cannot
fail is worth nothing. The table is the whole design: a new module has no place until it is given one here.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

PACKAGE = "wsframe"
PACKAGE_DIR = Path(__file__).resolve().parent.parent / PACKAGE

#: The package's own `__init__`: what `from . import Name` and `from .. import Name` reach.
ROOT = "__init__"

#: From the ground up. A room may import from its own floor and from below, and no two rooms may import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("_version", "_enums", "_errors", "_config"),
    ("_codec", "_codec_py", "_fastpath", "_fastpath_py"),
    ("_backend",),
    ("_frames",),
    ("_describe", "_events", "_state", "_timers", "_extension", "_deflate"),
    ("_lifecycle", "_keepalive", "_progress", "_endpoint"),
    ("_sending",),
    ("_connection",),
    ("_http", "_uri", "_http11", "_negotiate"),
    ("_server", "_client"),
    (ROOT,),
    ("_adapter",),
    ("_adapter_io",),
    ("aio", "sync"),
    ("integrations", "testing", "cli", "__main__"),
)

FLOOR = {room: floor for floor, rooms in enumerate(LAYERS) for room in rooms}

#: They can be copied out, compiled, and swapped for one another: they import nothing from the package at all.
LEAVES = {"_codec", "_codec_py", "_fastpath", "_fastpath_py"}

#: The compiled codec has the types of its twin, which only a type checker reads.
STUBS = {("_codec", "_codec_py"), ("_fastpath", "_fastpath_py")}

#: No I/O, no clock, no chance and no logging up to `_adapter`, that included.
PURE_UP_TO = FLOOR["_adapter"]
IMPURE = {"asyncio", "socket", "ssl", "threading", "select", "time", "random", "logging"}

#: From here on other people's packages are what it is about.
STDLIB_ONLY_UP_TO = FLOOR["aio"]

#: Other people's packages that an adapter imports where they are used, each with its reason: (path, package) -> why.
EXTRAS: dict[tuple[str, str], str] = {
    ("aio/_route.py", "python_socks"): "the extra `proxy`: only for who goes through a SOCKS proxy",
    ("sync/_route.py", "python_socks"): "the extra `proxy`: only for who goes through a SOCKS proxy",
}

PRINTERS = {"cli", "__main__"}
ADAPTERS = {"aio", "sync", "integrations"}
#: The command line sets logging up for the adapters that it runs; what helps to test looks at what they log.
MAY_IMPORT_LOGGING = ADAPTERS | {"cli", "testing"}

#: Upward imports that exist for a type checker alone, each with its reason: (importer, imported) -> why.
TYPE_ONLY: dict[tuple[str, str], str] = {
    ("_endpoint", "_connection"): "the protocol names the Connection that a Server or Client comes to hold",
    ("_describe", "_events"): "it describes an ending, which has it for its str()",
    ("_events", "_http"): "the events of the opening handshake carry its headers",
}

MAX_LINES = 500
#: Files that may be longer, each with its reason: path below wsframe/ -> why.
LONG_FILES: dict[str, str] = {
    "_codec.pyx": "the same in Cython",
    "_fastpath.pyx": "the same in Cython",
    "_fastpath_py.py": "a leaf that is swapped whole for its compiled twin",
    "_codec_py.py": "a leaf that is swapped whole for its compiled twin, and so cannot be spread over files",
}


def room_of(path: str) -> str:
    """The room that a file belongs to: the first name below wsframe/."""
    return PurePosixPath(path).parts[0].removesuffix(".pyi").removesuffix(".py")


def imported_rooms(path: str, node: ast.ImportFrom) -> Iterator[str]:
    """The rooms that one relative import statement reaches."""
    # `from .` names the package that the file lies in, each further dot the one around it; [] is wsframe itself.
    package = PurePosixPath(path).parts[:-1]
    base = package[: len(package) - (node.level - 1)]
    if node.level - 1 > len(package):
        raise ValueError(f"line {node.lineno}: the import leaves the package")
    target = [*base, *(node.module.split(".") if node.module else [])]
    if target:
        yield target[0]
        return
    for alias in node.names:
        # `from . import _enums` is about that module; `from . import Message` is about the package's public face.
        yield alias.name if alias.name in FLOOR or alias.name.startswith("_") else ROOT


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def walk(tree: ast.AST, type_only: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Every node, and whether it stands under `if TYPE_CHECKING:`."""
    for field, value in ast.iter_fields(tree):
        guarded = type_only or (isinstance(tree, ast.If) and is_type_checking(tree.test) and field == "body")
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child, guarded
                yield from walk(child, guarded)


def check_room_imports(path: str, node: ast.ImportFrom, type_only: bool) -> Iterator[str]:
    """What is wrong with one relative import."""
    room = room_of(path)
    try:
        targets = list(imported_rooms(path, node))
    except ValueError as exc:
        yield str(exc)
        return
    for target in targets:
        here = f"line {node.lineno}: {room} imports {target}"
        if target == room and room != ROOT:
            if PurePosixPath(path).parts[:-1]:
                continue
            yield f"{here}: itself"
        elif target not in FLOOR:
            yield f"{here}, which has no place: add it to the layer table"
        elif path.endswith(".pyi") and (room, target) in STUBS:
            continue
        elif room in LEAVES:
            yield f"{here}, but it is a leaf and imports nothing from the package"
        elif FLOOR[target] > FLOOR[room] and not (type_only and (room, target) in TYPE_ONLY):
            yield f"{here}, which stands above it: imports run downwards only"


def check_outside_import(path: str, module: str, node: ast.stmt) -> Iterator[str]:
    """What is wrong with one absolute import."""
    room, line, top = room_of(path), node.lineno, module.partition(".")[0]
    here = f"line {line}: {room} imports {module}"
    if top == PACKAGE:
        yield f"{here}: inside the package imports are relative, or a vendored copy would reach another one"
    elif top in IMPURE and FLOOR[room] <= PURE_UP_TO:
        yield f"{here}: up to _adapter there is no I/O, clock, chance or logging"
    elif top == "logging" and room not in MAY_IMPORT_LOGGING:
        yield f"{here}: only adapters log"
    elif top not in sys.stdlib_module_names and FLOOR[room] <= STDLIB_ONLY_UP_TO:
        if (path, top) not in EXTRAS:
            yield f"{here}: there are no run-time dependencies"
        elif not node.col_offset:
            yield f"{here}: an extra is imported where it is used, not with the package"


def check_logger(node: ast.Call) -> Iterator[str]:
    """There is one logger, and whoever embeds us knows its name."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name != "getLogger":
        return
    if not (len(node.args) == 1 and isinstance(node.args[0], ast.Constant) and node.args[0].value == PACKAGE):
        yield f"line {node.lineno}: the one logger is getLogger({PACKAGE!r})"


def check(path: str, source: str) -> list[str]:
    """Return what is wrong with a file, in words. `path` is relative to wsframe/, with slashes."""
    room = room_of(path)
    if room not in FLOOR:
        return [f"{room} is a new module: add it to the layer table"]
    problems: list[str] = []
    for node, type_only in walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                problems += check_outside_import(path, alias.name, node)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                problems += check_room_imports(path, node, type_only)
            else:
                problems += check_outside_import(path, node.module or "", node)
        elif isinstance(node, ast.Name) and node.id == "print" and room not in PRINTERS:
            problems.append(f"line {node.lineno}: {room} prints; only cli does")
        elif isinstance(node, ast.Call):
            problems += check_logger(node)
    if room in ADAPTERS:
        for number, line in enumerate(source.splitlines(), 1):
            if re.search(r"\bRFC\b|opcode", line, re.IGNORECASE):
                problems.append(
                    f"line {number}: an adapter cites the RFC or names an opcode; that belongs in the core"
                )
    return problems


def edges(path: str, source: str, *, type_only: bool = False) -> Iterator[tuple[str, str]]:
    """Who imports whom, between rooms: at run time, where cycles hurt, or for a type checker only."""
    room = room_of(path)
    for node, guarded in walk(ast.parse(source, path)):
        if isinstance(node, ast.ImportFrom) and node.level and guarded == type_only:
            for target in imported_rooms(path, node):
                if target != room:
                    yield room, target


def find_cycle(pairs: set[tuple[str, str]]) -> list[str]:
    """Return one cycle as the rooms along it, the first again at the end, or nothing."""
    imports: dict[str, list[str]] = {}
    for importer, imported in sorted(pairs):
        imports.setdefault(importer, []).append(imported)
    done: set[str] = set()

    def visit(room: str, trail: list[str]) -> list[str]:
        if room in trail:
            return [*trail[trail.index(room) :], room]
        if room in done:
            return []
        for target in imports.get(room, []):
            if cycle := visit(target, [*trail, room]):
                return cycle
        done.add(room)
        return []

    for room in sorted(imports):
        if cycle := visit(room, []):
            return cycle
    return []


def package_files(*suffixes: str) -> list[str]:
    """Paths relative to wsframe/, with slashes."""
    return sorted(
        path.relative_to(PACKAGE_DIR).as_posix()
        for path in PACKAGE_DIR.rglob("*")
        if path.suffix in suffixes and "__pycache__" not in path.parts
    )


def read(path: str) -> str:
    return (PACKAGE_DIR / path).read_text(encoding="utf-8")


# --- the package ------------------------------------------------------------------------------------------


def test_there_is_something_to_check() -> None:
    assert {"__init__.py", "_version.py"} <= set(package_files(".py"))


@pytest.mark.parametrize("path", package_files(".py", ".pyi"))
def test_file_keeps_the_rules(path: str) -> None:
    assert check(path, read(path)) == []


def test_no_two_rooms_import_each_other() -> None:
    pairs = {pair for path in package_files(".py") for pair in edges(path, read(path))}
    assert find_cycle(pairs) == []


@pytest.mark.parametrize("path", package_files(".py", ".pyi", ".pyx", ".pxd"))
def test_file_is_not_too_long(path: str) -> None:
    lines = len(read(path).splitlines())
    if path in LONG_FILES:
        assert lines > MAX_LINES, f"{path} needs no exception any more"
    else:
        assert lines <= MAX_LINES, f"{path} has {lines} lines: is it still one room with one purpose?"


def test_every_exception_is_still_needed() -> None:
    assert set(LONG_FILES) <= set(package_files(".py", ".pyi", ".pyx", ".pxd"))
    used = {pair for path in package_files(".py") for pair in edges(path, read(path), type_only=True)}
    assert set(TYPE_ONLY) <= used
    for path, package in EXTRAS:
        assert f" {package}" in read(path)


# --- the checker ------------------------------------------------------------------------------------------

BAD = [
    ("_wurst.py", "", "add it to the layer table"),
    ("_frames.py", "from ._wurst import x", "add it to the layer table"),
    ("_frames.py", "from . import _wurst", "add it to the layer table"),
    ("aio/_serve.py", "from .. import _wurst", "add it to the layer table"),
    # downwards only
    ("_enums.py", "from ._backend import Message", "stands above"),
    ("_frames.py", "from . import _connection", "stands above"),
    ("_connection.py", "def f():\n    from ._server import Server", "stands above"),
    ("_connection.py", "if TYPE_CHECKING:\n    from ._server import Server", "stands above"),
    ("_connection.py", "from . import Message", "imports __init__, which stands above"),
    ("_adapter/retry.py", "from ..aio import connect", "stands above"),
    ("_adapter/__init__.py", "from .. import aio", "stands above"),
    ("aio/__init__.py", "from ..cli import main", "stands above"),
    ("aio/deep/er.py", "from ...cli.serve import x", "stands above"),
    ("_backend.py", "from ._backend import x", "itself"),
    ("_backend.py", "from .. import x", "leaves the package"),
    # the package's face never shows an adapter
    ("__init__.py", "from .aio import serve", "stands above"),
    ("__init__.py", "from . import aio", "stands above"),
    ("__init__.py", "def __getattr__(name):\n    from .sync import connect", "stands above"),
    ("__init__.py", "from ._adapter import retry", "stands above"),
    # leaves
    ("_codec_py.py", "from ._enums import Opcode", "leaf"),
    ("_codec_py.py", "from . import _errors", "leaf"),
    ("_codec_py.py", "from ._codec import Message", "leaf"),
    ("_codec.pyi", "from ._enums import Opcode", "leaf"),
    # relative only
    ("_frames.py", "import wsframe", "relative"),
    ("_frames.py", "from wsframe._enums import Opcode", "relative"),
    ("cli/__init__.py", "import wsframe.aio", "relative"),
    ("__main__.py", "from wsframe.cli import main", "relative"),
    # no I/O, no clock, no chance
    *(
        (f"{room}.py", f"import {name}", "no I/O")
        for room in ("_enums", "_client")
        for name in sorted(IMPURE)
    ),
    ("_adapter/queue.py", "import asyncio", "no I/O"),
    ("_timers.py", "from time import monotonic", "no I/O"),
    ("_uri.py", "import asyncio.sslproto", "no I/O"),
    ("_config.py", "import os, socket as s", "no I/O"),
    ("__init__.py", "import logging", "no I/O"),
    ("_server.py", "try:\n    import ssl\nexcept ImportError:\n    pass", "no I/O"),
    # no dependency
    ("_uri.py", "import idna", "run-time dependencies"),
    ("aio/_tls.py", "from trustme import CA", "run-time dependencies"),
    ("aio/_dial.py", "def f():\n    import python_socks", "run-time dependencies"),
    ("aio/_route.py", "from python_socks import ProxyType", "where it is used"),
    # printing and logging
    ("_connection.py", "print('x')", "prints"),
    ("aio/_serve.py", "callback = print", "prints"),
    ("__main__.py", "import logging", "only adapters log"),
    ("aio/_serve.py", "import logging\nlog = logging.getLogger(__name__)", "the one logger"),
    ("sync/_serve.py", "from logging import getLogger\nlog = getLogger()", "the one logger"),
    # adapters know nothing of the protocol
    ("aio/_serve.py", "# RFC 6455 s7 says", "cites the RFC"),
    ("integrations/uvicorn.py", "x = Opcode.TEXT", "names an opcode"),
]


@pytest.mark.parametrize(("path", "source", "message"), BAD)
def test_checker_sees(path: str, source: str, message: str) -> None:
    problems = check(path, source)
    assert len(problems) == 1, problems
    assert message in problems[0]


GOOD = [
    ("_enums.py", "import enum\nfrom __future__ import annotations"),
    ("_errors.py", "from ._enums import CloseCode"),
    ("_connection.py", "from . import _enums, _frames\nfrom ._events import Opened"),
    ("_http11.py", "# RFC 9112 s2\nfrom ._http import Request"),
    (
        "__init__.py",
        "from ._server import Server\nfrom ._client import Client\nfrom ._version import __version__",
    ),
    ("_adapter/groups.py", "from .. import Connection\nfrom .retry import x\nfrom . import retry"),
    ("aio/__init__.py", "from ._serve import serve\nfrom .._adapter.queue import Queue"),
    ("aio/_serve.py", "import asyncio, ssl, logging\nlog = logging.getLogger('wsframe')\nlog.info('x')"),
    ("aio/_serve.py", "from . import _wurst"),
    ("aio/_route.py", "def f():\n    from python_socks import ProxyType"),
    ("aio/_serve.py", "print_it = 1\nself.print(1)\nx = 'print()'"),
    ("cli/serve.py", "import logging\nfrom ..aio import serve\nprint('x')"),
    ("__main__.py", "from .cli import main\nmain()"),
    ("integrations/uvicorn.py", "import uvicorn"),
]


@pytest.mark.parametrize(("path", "source"), GOOD)
def test_checker_lets_pass(path: str, source: str) -> None:
    assert check(path, source) == []


def test_checker_takes_a_listed_upward_import_for_types_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TYPE_ONLY, ("_frames", "_connection"), "a reason")
    source = "from ._connection import Connection"
    assert check("_frames.py", f"if TYPE_CHECKING:\n    {source}") == []
    assert check("_frames.py", f"if typing.TYPE_CHECKING:\n    {source}") == []
    assert len(check("_frames.py", source)) == 1
    assert len(check("_frames.py", f"if TYPE_CHECKING:\n    pass\nelse:\n    {source}")) == 1


def test_cycles_are_found() -> None:
    files = {
        "_http.py": "from ._uri import x",
        "_uri.py": "from . import _http11",
        "_http11.py": "from ._http import y",
        "_enums.py": "from ._version import z",
    }
    pairs = {pair for path, source in files.items() for pair in edges(path, source)}
    assert find_cycle(pairs) == ["_http", "_uri", "_http11", "_http"]
    assert find_cycle(pairs - {("_http11", "_http")}) == []
    for_types = "if TYPE_CHECKING:\n    from ._uri import x"
    assert list(edges("_http.py", for_types)) == []
    assert list(edges("_http.py", for_types, type_only=True)) == [("_http", "_uri")]
    assert list(edges("aio/_a.py", "from ._b import x\nfrom . import _b")) == []
