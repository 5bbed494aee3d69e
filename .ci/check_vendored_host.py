"""Run the Autobahn suite's fast tier against another HTTP server with a vendored copy of wsframe, pure and compiled.

Usage: check_vendored_host.py CHECKOUT DIRECTORY. The interpreter must have what the tests need, and wsframe. Hosts and
reports go to DIRECTORY.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path


def main() -> None:
    checkout, directory = (Path(argument).resolve() for argument in sys.argv[1:])
    sys.path.insert(0, str(checkout / "tests/vendored_host"))
    building = importlib.import_module("building")
    for codec in building.CODECS:
        project = directory / codec
        building.make_host(project, codec)
        with building.running(project, codec) as port:
            command = [
                "-m",
                "wsframe",
                "autobahn",
                "--server",
                "--url",
                f"ws://127.0.0.1:{port}/",
                "--tier",
                "fast",
            ]
            print(f"cheroot with a vendored copy, {codec} codec", flush=True)
            subprocess.run(
                [sys.executable, *command, "--output", project / "reports"], cwd=checkout, check=True
            )


if __name__ == "__main__":
    main()
