"""Commands that only a checkout has: programs beside the package, which are not installed with it."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

__all__ = ["Program"]

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Program:
    """A command ``python -m wsframe NAME`` that a script of the checkout carries out.

    Args:
        name: the command, and the script's directory.
        script: the script's name; it has ``main(arguments, program)``, which returns the exit status.
        sibling: another file beside it. An unrelated package of that name may lie beside an installed wsframe.
        about: one line of help.
    """

    name: str
    script: str
    sibling: str
    about: str

    def add_parser(self, commands: argparse._SubParsersAction[Any]) -> None:
        """Add the command. It takes all arguments as they are; the script has the real parser and the help."""
        parser = commands.add_parser(
            self.name,
            help=f"{self.about} (needs a checkout)",
            add_help=False,
            # No argument starts with this, so that none is taken for an option of ours.
            prefix_chars="\0",
        )
        parser.add_argument("arguments", nargs=argparse.REMAINDER)
        parser.set_defaults(run=lambda options: self.run(options.arguments))

    def find(self) -> Path | None:
        """Return the script in the checkout that this package is part of, or None."""
        script = CHECKOUT / self.name / self.script
        return script if script.is_file() and script.with_name(self.sibling).is_file() else None

    def run(self, arguments: Sequence[str]) -> int:
        """Run the script and return the exit status."""
        program = f"python -m wsframe {self.name}"
        script = self.find()
        if script is None:
            print(
                f"{program}: this command needs a checkout of wsframe, with its directory {self.name}/",
                file=sys.stderr,
            )
            return 2
        # As if the script had been started by its path: its siblings are found first.
        sys.path.insert(0, str(script.parent))
        main = runpy.run_path(str(script))["main"]
        return cast("int", main(arguments, program))
