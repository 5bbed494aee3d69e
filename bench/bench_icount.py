"""`bench icount`: instructions instead of time. They come out the same every time, so 2 % can be told from nothing."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench_command import CODECS
from bench_errors import EXIT_FAILED, EXIT_OK, UnusableError
from bench_icount_worker import TURN
from bench_ours import Wsframe
from bench_pool import environment

DESCRIPTION = """\
Count the instructions of fixed work under callgrind: masking, building, parsing, and one turn of an echo in the
server's core. The counts are compared with those in bench/icount.json, if these are of the same CPython, compilers and
machine. Exit status: 0 when nothing has grown by more than 5 %, or there is nothing to compare with; 1 when something
has; 2 when it could not run as asked."""

#: What is counted, and how often it is done: some million instructions, beside which nothing else matters.
CASES = {
    "mask/125": 50_000,
    "mask/64K": 1000,
    "build/server/text/125": 50_000,
    "build/client/text/125": 50_000,
    "parse/text/125": 20,
    "parse/text/4K": 100,
    "parse/separate/125": 20,
    TURN: 2000,
}
HERE = Path(__file__).resolve().parent
BASELINE = HERE / "icount.json"
#: More than this part of what it was is too much.
GROWTH = 0.05
#: The work is done so often, and then so much more often; the difference has neither the start of the interpreter nor
#: that of the work in it.
BASE = 10
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
    key = identify(codec)
    entries = read(args.file)
    before = next((entry["instructions"] for entry in entries if entry["key"] == key), None)
    counts = count(codec, CASES, before or {})
    show(key, counts, compared=before is not None)
    if args.update:
        kept = [entry for entry in entries if entry["key"] != key]
        kept.append({"key": key, "instructions": {one.case: round(one.now, 1) for one in counts}})
        args.file.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        return EXIT_OK
    return EXIT_FAILED if any(one.grown for one in counts) else EXIT_OK


def identify(codec: str) -> dict[str, str]:
    """Return everything that the counts depend on besides our code.

    Raises:
        UnusableError: that codec cannot be loaded.
    """
    program = (
        "import json, sys; sys.path[:0] = sys.argv[2:]; from bench_icount import described;"
        " print(json.dumps(described(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program, codec, str(HERE), str(HERE.parent)],
        env=environment(codec),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise UnusableError(f"the {codec} codec cannot be measured: {lines[-1] if lines else 'it crashed'}")
    found: dict[str, str] = json.loads(done.stdout)
    return found


def described(codec: str) -> dict[str, str]:
    """Return the same, from a process that has the codec loaded."""
    about = Wsframe(codec).describe()
    return {
        "codec": codec,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python compiler": platform.python_compiler(),
        "compiler": about.get("compiler", ""),
        "cython": about.get("cython", ""),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
    }


def read(path: Path) -> list[dict[str, Any]]:
    """Return what is in the file; nothing, if there is none."""
    try:
        entries: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UnusableError(f"{path} cannot be read: {error}") from None
    return entries


def count(codec: str, cases: Mapping[str, int], before: Mapping[str, float]) -> list[Count]:
    """Count every case. Whoever else needs the cores is not counted, so all of them are used."""
    runs = [(case, BASE + more) for case, passes in cases.items() for more in (0, passes)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(runs, pool.map(lambda one: instructions(codec, *one), runs), strict=True))
    counts = []
    for case, passes in cases.items():
        (base, few), (whole, many) = found[case, BASE], found[case, BASE + passes]
        counts.append(Count(case, (whole - base) / (many - few), before.get(case)))
    return counts


def instructions(codec: str, case: str, times: int) -> tuple[int, int]:
    """Return how many instructions a process has executed that did a case so often, and how many messages that were.

    Raises:
        UnusableError: it failed.
    """
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    # Without `site`: what is installed beside must not decide how much the start of the interpreter allocates.
    # And numbers of one length, since the heap begins with the arguments.
    command += [sys.executable, "-S", str(HERE / "bench_icount_worker.py"), codec, case, f"{times:08}"]
    done = subprocess.run(
        command, env=environment(codec), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    found = re.search(r"^==\d+== Collected : (\d+)", done.stderr, re.MULTILINE)
    if done.returncode or found is None or not done.stdout.strip().isdecimal():
        lines = (done.stderr.strip() or "it does not say why").splitlines()
        raise UnusableError(f"{case} failed under callgrind with status {done.returncode}: {lines[-1]}")
    return int(found[1]), int(done.stdout)


def show(key: Mapping[str, str], counts: Iterable[Count], *, compared: bool) -> None:
    """Print the counts."""
    print(", ".join(value for value in key.values() if value))
    if not compared:
        print("there are no counts of the same interpreter, compilers and machine to compare with")
    for one in counts:
        change = "" if one.before is None else f"{one.now / one.before - 1:+8.1%}"
        print(f"  {one.case:24}{one.now:12,.0f} instructions{change}{'  GROWN' if one.grown else ''}")
