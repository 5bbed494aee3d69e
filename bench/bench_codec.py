"""`bench codec`: masking, building and parsing frames, without any I/O."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_cases import CASES, Case, select
from bench_contestants import ENTRIES, OURS, PEERS, choose, codec_of
from bench_errors import EXIT_FAILED, EXIT_OK, UnusableError
from bench_goals import judge
from bench_machine import commit, interpreter, machine, one_line
from bench_measure import Result, measure
from bench_pool import Pool, reserved_core

DESCRIPTION = """\
Measure the frame codec: masking, building and parsing, with both codecs, against memcpy and every peer that is
installed. How it is measured, and how to read the tables, stands in docs/performance.md. Exit status: 0 when
everything was measured, 1 when a contestant failed, 2 when it could not run as asked."""

EPILOG = """\
A pattern is the name of a case, the beginning of one up to a slash, or has *, ? or [...] as in a shell, such as
'parse', 'build/*/text/125' or '*/4K'. The peers come with: pip install "wsframe[bench]"."""

ROUNDS, QUICK_ROUNDS = 9, 3
SAMPLE_MS, QUICK_SAMPLE_MS = 70.0, 20.0


@dataclass(frozen=True)
class Settings:
    """What was asked for, checked."""

    cases: tuple[Case, ...]
    codecs: tuple[str, ...]
    #: Every one of those codecs must be there.
    insist: bool
    #: The peers asked for by name; None for all that are here.
    against: tuple[str, ...] | None
    rounds: int
    sample_ns: int
    json: Path | None
    chart: Path | None
    markdown: Path | None
    goals: bool


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command to `bench`."""
    parser = commands.add_parser(
        "codec",
        help="mask, build and parse frames, without I/O",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to measure")
    what.add_argument(
        "--codec",
        choices=["cython", "python", "both"],
        help="our codec; refuses to run with another one (default: both, or the one that there is)",
    )
    what.add_argument(
        "--cases", metavar="PATTERN", action="append", help="only these; several with commas, or repeated"
    )
    what.add_argument(
        "--against", metavar="NAME", action="append", help=f"only these peers: {', '.join(PEERS)}, none"
    )
    what.add_argument("--list", action="store_true", help="show cases and contestants, and measure nothing")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--quick",
        action="store_true",
        help=f"{QUICK_ROUNDS} rounds of {QUICK_SAMPLE_MS:.0f} ms instead of {ROUNDS} of {SAMPLE_MS:.0f} ms",
    )
    how.add_argument("--rounds", type=_positive, metavar="N", help="samples for each contestant and case")
    result = parser.add_argument_group("the result")
    result.add_argument(
        "--goals", action="store_true", help="say which of the project's goals this run reached"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
    result.add_argument(
        "--chart", type=Path, metavar="FILE", help="draw FILE, .svg or .png (with matplotlib)"
    )
    result.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables to FILE for documents"
    )
    parser.set_defaults(run=run)


def read(args: argparse.Namespace) -> Settings:
    """Check what was asked for, or raise UnusableError with what is wrong with it."""
    against = _names(args.against)
    if against == ["none"]:
        against = []
    asked = (args.codec,) if args.codec in ("cython", "python") else ("cython", "python")
    choose(asked, against)
    for option, path in (("--json", args.json), ("--chart", args.chart), ("--markdown", args.markdown)):
        if path is not None and not path.absolute().parent.is_dir():
            raise UnusableError(f"{option} {path}: there is no directory to put it in")
    if args.chart is not None:
        if args.chart.suffix not in (".svg", ".png"):
            raise UnusableError(f"--chart {args.chart}: the name must end with .svg or .png")
        _need("matplotlib", "--chart draws")
    patterns = _names(args.cases)
    return Settings(
        cases=tuple(CASES.values() if patterns is None else select(patterns)),
        codecs=asked,
        insist=args.codec is not None,
        against=None if against is None else tuple(against),
        rounds=args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS),
        sample_ns=round((QUICK_SAMPLE_MS if args.quick else SAMPLE_MS) * 1e6),
        json=args.json,
        chart=args.chart,
        markdown=args.markdown,
        goals=args.goals,
    )


def run(args: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    if args.list:
        show_list()
        return EXIT_OK
    settings = read(args)
    _need("rich", "this command shows its progress")
    with reserved_core() as core:
        return bench(settings, core)


def show_list() -> None:
    """Print what there is to measure, and with whom."""
    print("cases:")
    for case in CASES.values():
        print(f"  {case.name}")
    print("contestants:")
    for entry in ENTRIES.values():
        here = entry.install is None or importlib.util.find_spec(entry.install) is not None
        print(f"  {entry.name:18} {entry.about}{'' if here else ' (not installed)'}")


def bench(settings: Settings, core: int | None) -> int:
    """Measure, show and write; return the exit status."""
    from rich.console import Console

    from bench_progress import Display
    from bench_report import show, show_goals

    # A file or a CI log has no width of its own; the 80 columns that rich assumes are too few for the table.
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    described = machine(core)
    python = interpreter()
    started, since = datetime.now(UTC), time.monotonic()
    console.print(one_line(described, python), markup=False, soft_wrap=True)
    with Pool(choose(settings.codecs, settings.against), core) as pool:
        check(settings, pool.missing)
        contestants = {name: process.described for name, process in pool.processes.items()}
        for name, about in contestants.items():
            shown = about.get("codec", "")
            console.print(f"  {name} {about['version']}{f' ({shown})' if shown else ''}", markup=False)
        for name, why in pool.missing.items():
            console.print(f"  missing: {name}: {why}", markup=False, soft_wrap=True)
        missing = dict(pool.missing)
        with Display(console, len(settings.cases), settings.rounds) as display:
            results = measure(
                pool, settings.cases, display, rounds=settings.rounds, sample_ns=settings.sample_ns
            )
    show(console, results, missing)
    if settings.goals:
        show_goals(console, judge(results))
    environment = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - since, 1),
        "checkout": commit(),
        "machine": described,
        "python": python,
    }
    write(settings, results, environment, contestants, missing)
    failed = any(result.failed for result in results)
    return EXIT_FAILED if failed else EXIT_OK


def check(settings: Settings, missing: Mapping[str, str]) -> None:
    """Refuse to run with less than what was asked for by name."""
    absent = [name for name in OURS if name in missing and codec_of(name) in settings.codecs]
    if absent and (settings.insist or len(absent) == len(settings.codecs)):
        codec = codec_of(absent[0])
        raise UnusableError(f"the {codec} codec was asked for and cannot be measured: {missing[absent[0]]}")
    for name in settings.against or ():
        if name in missing:
            install = ENTRIES[name].install
            raise UnusableError(f"--against {name}: {missing[name]} (pip install {install} gets it)")


def write(
    settings: Settings,
    results: list[Result],
    environment: Mapping[str, Any],
    contestants: Mapping[str, Mapping[str, str]],
    missing: Mapping[str, str],
) -> None:
    """Write the files that were asked for."""
    from bench_chart import draw
    from bench_json import as_json
    from bench_markdown import markdown

    asked = {
        "codecs": list(settings.codecs),
        "against": None if settings.against is None else list(settings.against),
        "cases": [case.name for case in settings.cases],
        "rounds": settings.rounds,
        "sample_ns": settings.sample_ns,
    }
    result = as_json(
        results, settings=asked, environment=environment, contestants=contestants, missing=missing
    )
    if settings.json is not None:
        _write_text(settings.json, json.dumps(result, indent=1) + "\n")
    if settings.markdown is not None:
        _write_text(settings.markdown, markdown(result))
    if settings.chart is not None:
        caption = one_line(environment["machine"], environment["python"])
        try:
            draw(results, settings.chart, f"{caption}; {environment['started'][:10]}")
        except OSError as error:
            raise UnusableError(f"cannot write {settings.chart}: {error.strerror}") from None


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UnusableError(f"cannot write {path}: {error.strerror}") from None


def _need(module: str, why: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise UnusableError(f'{why} with {module}; pip install "wsframe[bench]" gets it')


def _names(values: list[str] | None) -> list[str] | None:
    """Split what may be given several times, and with commas."""
    if values is None:
        return None
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
