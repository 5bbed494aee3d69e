"""The command line: ``python -m wsframe COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn, cast

from .._backend import backend_description
from .._version import __version__
from . import _autobahn, _bench, _connect, _lifecycle, _serve, _vendor

__all__ = ["main"]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage of everything."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0 done, 1 failed, 2 wrongly called."""
    parser = _Parser(
        prog="python -m wsframe", description="WebSocket for Python: serve it, connect to it, and prove it."
    )
    parser.add_argument(
        "--version", action="version", version=f"wsframe {__version__} ({backend_description} codec)"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _serve.add_parser(commands)
    _connect.add_parser(commands)
    _bench.add_parser(commands)
    _autobahn.add_parser(commands)
    _lifecycle.add_parser(commands)
    _vendor.add_parser(commands)
    options = parser.parse_args(arguments)
    try:
        return cast("int", options.run(options))
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130
