"""`python -m wsframe autobahn`: run the Autobahn|Testsuite from a checkout.

The runner lives in the checkout's `autobahn/`, beside the package, and is not installed with it.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path
from typing import Any, cast

PROGRAM = "python -m wsframe autobahn"


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the command. It takes all arguments as they are; the runner has the real parser and the help."""
    parser = subparsers.add_parser(
        "autobahn",
        help="run the Autobahn|Testsuite (needs a checkout)",
        add_help=False,
        # No argument starts with this, so that none is taken for an option of ours.
        prefix_chars="\0",
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the suite and return the exit status."""
    runner = find_runner()
    if runner is None:
        print(
            f"{PROGRAM}: this command needs a checkout of wsframe, with its directory autobahn/",
            file=sys.stderr,
        )
        return 2
    # As if the script had been started by its path: its siblings are found first.
    sys.path.insert(0, str(runner.parent))
    main = runpy.run_path(str(runner))["main"]
    return cast("int", main(args.arguments, PROGRAM))


def find_runner() -> Path | None:
    """Return the runner's script in the checkout that this package is part of, or None."""
    runner = Path(__file__).resolve().parents[2] / "autobahn" / "run.py"
    # An unrelated package of that name may lie beside an installed wsframe.
    return runner if runner.is_file() and runner.with_name("wstest_main.py").is_file() else None
