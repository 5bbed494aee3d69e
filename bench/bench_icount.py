"""`bench icount`: instructions instead of time. They come out the same every time, so 2 % can be told from nothing."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_command import CODECS
from bench_errors import EXIT_FAILED, EXIT_OK, UnusableError
from bench_pool import environment

DESCRIPTION = """\
Count the instructions of fixed work under callgrind: masking, building, parsing, and one turn of an echo in the core,
as a server and as a client. The counts are compared with those in bench/icount.json, if these are of the same CPython,
compilers and machine. Exit status: 0 when nothing has grown by more than 5 %, or there is nothing to compare with; 1
when something has; 2 when it could not run as asked."""

#: What is counted, and how often it is done: some ten million instructions, beside which the call of it is nothing.
CASES = {
    "mask/125": 20_000,
    "mask/64K": 2000,
    "build/server/text/125": 20_000,
    "build/client/text/125": 20_000,
    "parse/text/125": 10,
    "parse/text/4K": 100,
    "parse/separate/125": 20,
    "parse/client/125": 10,
    "turn/server/125": 2000,
    "turn/client/125": 2000,
}
HERE = Path(__file__).resolve().parent
WORKER = HERE / "bench_icount_worker.py"
BASELINE = HERE / "icount.json"
#: More than this part of what it was is too much.
GROWTH = 0.05
#: Seconds for one run.
PATIENCE = 600.0


@dataclass(frozen=True)
class Count:
    """One case: instructions for one message, now and in the file (None: not in there)."""

    case: str
    now: float
    before: float | None

    @property
    def grown(self) -> bool:
        """It needs more than it may."""
        return self.before is not None and self.now > self.before * (1 + GROWTH)


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to `bench`."""
    parser = commands.add_parser(
        "icount",
        help="instruction counts of fixed work, under callgrind",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--codec", choices=CODECS, default="cython", help="our codec (default: cython)")
    parser.add_argument("--update", action="store_true", help="write the counts to the file instead")
    parser.add_argument(
        "--file", type=Path, metavar="FILE", default=BASELINE, help="instead of bench/icount.json"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if shutil.which("valgrind") is None:
        raise UnusableError("instructions are counted by callgrind, and valgrind is not installed")
    codec = str(args.codec)
    entries = read(args.file)
    with tempfile.TemporaryDirectory(prefix="wsframe-icount-") as directory:
        counter = Counter(codec, Path(directory))
        key = counter.identify()
        before = next((entry["instructions"] for entry in entries if entry["key"] == key), None)
        counts = counter.count(CASES, before or {})
    show(key, counts, compared=before is not None)
    if args.update:
        kept = [entry for entry in entries if entry["key"] != key]
        kept.append({"key": key, "instructions": {one.case: round(one.now, 1) for one in counts}})
        args.file.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        return EXIT_OK
    return EXIT_FAILED if any(one.grown for one in counts) else EXIT_OK


def read(path: Path) -> list[dict[str, Any]]:
    """Return what is in the file; nothing, if there is none."""
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UnusableError(f"{path} cannot be read: {error}") from None
    return entries


class Counter:
    """Counts with one codec, in a directory of its own."""

    def __init__(self, codec: str, directory: Path) -> None:
        self.codec = codec
        self.directory = directory
        # To compile the same modules for every case would take most of the time.
        self.environment = environment(codec) | {"PYTHONPYCACHEPREFIX": str(directory / "cache")}
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        # Without `site`: what is installed beside must not decide how much the start of the interpreter allocates.
        self.command = [sys.executable, "-S", str(WORKER), codec]

    def identify(self) -> dict[str, str]:
        """Return everything that the counts depend on besides our code.

        Raises:
            UnusableError: that codec cannot be loaded.
        """
        done = self._run(self.command)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            why = lines[-1] if lines else "it crashed"
            raise UnusableError(f"the {self.codec} codec cannot be measured: {why}")
        found: dict[str, str] = json.loads(done.stdout)
        return found

    def count(self, cases: Mapping[str, int], before: Mapping[str, float]) -> list[Count]:
        """Count every case. Whoever else needs the cores is not counted, so all of them are used."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = pool.map(lambda case: self.instructions(case, cases[case]), cases)
            return [Count(case, now, before.get(case)) for case, now in zip(cases, found, strict=True)]

    def instructions(self, case: str, times: int) -> float:
        """Return how many instructions one message of a case takes.

        Raises:
            UnusableError: it failed.
        """
        # callgrind writes what it has counted whenever `getpgrp` is called: the second part is the work.
        parts = self.directory / case.replace("/", "-")
        valgrind = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={parts}",
            "--dump-before=getpgrp",
        ]
        # Numbers of one length, since the heap begins with the arguments.
        done = self._run([*valgrind, *self.command, case, f"{times:08}"])
        if done.returncode or not done.stdout.strip().isdecimal():
            lines = (done.stderr.strip() or "it does not say why").splitlines()
            raise UnusableError(f"{case} failed under callgrind with status {done.returncode}: {lines[-1]}")
        work = parts.with_name(f"{parts.name}.2")
        found = (
            re.search(r"^summary: (\d+)", work.read_text("utf-8"), re.MULTILINE) if work.exists() else None
        )
        if found is None:
            raise UnusableError(f"{case}: callgrind has not seen where the work begins and ends")
        return int(found[1]) / int(done.stdout)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )


def show(key: Mapping[str, str], counts: Iterable[Count], *, compared: bool) -> None:
    """Print the counts."""
    print(", ".join(value for value in key.values() if value))
    if not compared:
        print("there are no counts of the same interpreter, compilers and machine to compare with")
    for one in counts:
        change = "" if one.before is None else f"{one.now / one.before - 1:+8.1%}"
        print(f"  {one.case:24}{one.now:12,.0f} instructions{change}{'  GROWN' if one.grown else ''}")
