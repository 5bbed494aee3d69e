"""The libraries that the suite has drivers for, and how one is started."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["BUILT_IN", "ON_UVICORN", "OURS", "Library", "own_driver"]

_DRIVERS = f"{__package__}.drivers"


@dataclass(frozen=True)
class Library:
    """A driver that can be started.

    Attributes:
        name: what it is called in the table and with ``--libraries``.
        command: how its driver is started.
        environment: what the driver's environment has besides ours.
        adapter: "aio", "sync" or "uvicorn" for wsframe's own, which must do what the table says; None for others.
        on_uvicorn: its application is one on uvicorn.
        missing: says what of it is not on this machine, or None.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    adapter: str | None = None
    missing: Callable[[], str | None] = lambda: None
    on_uvicorn: bool = False


def _lacks_module(module: str, package: str) -> str | None:
    return None if importlib.util.find_spec(module) is not None else f"pip install {package}"


def _lacks_compiled_codec() -> str | None:
    package = (__package__ or "").split(".")[0]
    return (
        None
        if importlib.util.find_spec(f"{package}._codec") is not None
        else "the codec is not compiled here"
    )


def node_environment() -> dict[str, str]:
    """``WSFRAME_NODE_PATH`` names the ``node_modules`` that has the package ``ws``, if node would not find it."""
    path = os.environ.get("WSFRAME_NODE_PATH")
    return {} if path is None else {"NODE_PATH": path}


@functools.cache
def _lacks_node() -> str | None:
    node = shutil.which("node")
    if node is None:
        return "node is not installed"
    probe = subprocess.run(  # noqa: S603 - node as it is found
        [node, "-e", "require('ws')"],
        env={**os.environ, **node_environment()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
    if probe.returncode:
        return "npm install ws, and WSFRAME_NODE_PATH names the node_modules directory"
    return None


def _ours(adapter: str, codec: str) -> Library:
    def missing() -> str | None:
        lacks = _lacks_module("uvicorn", "uvicorn") if adapter == "uvicorn" else None
        return lacks or (_lacks_compiled_codec() if codec == "cython" else None)

    return Library(
        f"{adapter}:{codec}",
        (sys.executable, "-m", f"{_DRIVERS}.wsframe_{adapter}"),
        # Whatever is set outside: a name must be true.
        {"WSFRAME_PURE_PYTHON": "1" if codec == "python" else "0"},
        adapter,
        missing,
        on_uvicorn=adapter == "uvicorn",
    )


def _on_uvicorn(backend: str, module: str) -> Library:
    return Library(
        f"uvicorn/{backend}",
        (sys.executable, "-m", f"{_DRIVERS}.peer_uvicorn", backend),
        missing=lambda: _lacks_module("uvicorn", "uvicorn") or _lacks_module(module, module),
        on_uvicorn=True,
    )


def _python(name: str, module: str | None = None) -> Library:
    module = module or name
    return Library(
        name,
        (sys.executable, "-m", f"{_DRIVERS}.peer_{module}"),
        missing=lambda: _lacks_module(module, name),
    )


#: wsframe's own.
OURS = tuple(_ours(adapter, codec) for adapter in ("aio", "sync") for codec in ("cython", "python"))

#: What an application on uvicorn can have below it, wsframe's own first. They are compared with one another.
ON_UVICORN: tuple[Library, ...] = (
    *(_ours("uvicorn", codec) for codec in ("cython", "python")),
    _on_uvicorn("websockets-sansio", "websockets"),
    _on_uvicorn("wsproto", "wsproto"),
)

#: All others that have a driver here, in the order of the table.
BUILT_IN: tuple[Library, ...] = (
    *OURS,
    _python("websockets"),
    _python("aiohttp"),
    _python("tornado"),
    _python("picows"),
    _python("websocket-client", "websocket"),
    _python("wsproto"),
    Library(
        "ws",
        ("node", str(Path(__file__).parent / "drivers" / "peer_ws.cjs")),
        node_environment(),
        missing=_lacks_node,
    ),
)


def own_driver(text: str) -> Library:
    """A driver that somebody names: a Python file, a script for node, a program, or a Python module.

    Raises:
        ValueError: there is nothing of that name.
    """
    path = Path(text)
    if path.is_file():
        if path.suffix == ".py":
            return Library(path.stem, (sys.executable, str(path)))
        if path.suffix in (".js", ".cjs", ".mjs"):
            return Library(path.stem, ("node", str(path)), node_environment())
        if os.access(path, os.X_OK):
            return Library(path.stem, (str(path.resolve()),))
        raise ValueError(f"{text} is neither Python nor JavaScript, and cannot be executed")
    try:
        found = importlib.util.find_spec(text)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise ValueError(f"there is no file and no module {text}")
    return Library(text.rpartition(".")[2], (sys.executable, "-m", text))
