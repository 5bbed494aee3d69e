"""What the benchmarks' commands have in common: options, the order of things, and what is written."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench_basics import BaseCase, select
from bench_compare import Old, read_old
from bench_errors import EXIT_FAILED, EXIT_OK, UnusableError
from bench_goals import judge
from bench_machine import commit, interpreter, machine, one_line
from bench_measure import Field, Result, measure
from bench_pool import reserved_core
from bench_subject import Subject

EPILOG = """\
A pattern is the name of a case, the beginning of one up to a slash, or has *, ? or [...] as in a shell, such as
{examples}. The peers come with: pip install "wsframe[bench]"."""

#: The two codecs under wsframe's core.
CODECS = ("cython", "python")
LOOPS = ("asyncio", "uvloop")


@dataclass(frozen=True)
class Settings:
    """What was asked for, checked."""

    cases: tuple[BaseCase, ...]
    #: The contestants, in their order.
    names: tuple[str, ...]
    codecs: tuple[str, ...]
    #: Every one of those codecs must be there.
    insist: bool
    #: The loops asked for by name; None for all that are here.
    loops: tuple[str, ...] | None
    #: The peers asked for by name; None for all that are here.
    against: tuple[str, ...] | None
    rounds: int
    sample_ns: int
    json: Path | None
    chart: Path | None
    markdown: Path | None
    goals: bool
    old: Old | None


class Benchmark:
    """One command of `bench`. A subclass says what it measures, and starts those who are measured.

    Attributes:
        subject: its nouns.
        about: one line of help.
        description: what it says about itself.
        examples: patterns of cases.
        rounds, quick_rounds: samples for each contestant and case.
        sample_ms, quick_sample_ms: how long a sample takes at least.
        codecs: our codecs that are measured when nothing is said.
        has_loops: its contestants run on event loops, which can be chosen.
    """

    subject: Subject
    about: str
    description: str
    examples: str
    rounds = 9
    quick_rounds = 3
    sample_ms = 70.0
    quick_sample_ms = 20.0
    codecs: tuple[str, ...] = CODECS
    has_loops = False

    def cases(self, *, quick: bool) -> Sequence[BaseCase]:
        """Return what is measured when nothing is said."""
        return list(self.subject.cases.values())

    def check(self) -> None:
        """Raise UnusableError where this cannot run on this machine."""

    def start(self, settings: Settings, core: int | None) -> AbstractContextManager[Field]:
        """Start the contestants, on that core."""
        raise NotImplementedError

    # Options.

    def add_parser(self, commands: argparse._SubParsersAction[Any]) -> None:
        """Add the command to `bench`."""
        roster = self.subject.roster
        parser = commands.add_parser(
            self.subject.command,
            help=self.about,
            description=self.description,
            epilog=EPILOG.format(examples=self.examples),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        what = parser.add_argument_group("what to measure")
        default = "both, or the one that there is" if len(self.codecs) > 1 else self.codecs[0]
        what.add_argument(
            "--codec",
            choices=[*CODECS, "both"],
            help=f"our codec; refuses to run with another one (default: {default})",
        )
        if self.has_loops:
            what.add_argument(
                "--loop",
                choices=[*LOOPS, "both"],
                help="only this event loop; refuses to run without it (default: both, or the one that there is)",
            )
        what.add_argument(
            "--cases", metavar="PATTERN", action="append", help="only these; several with commas, or repeated"
        )
        families = dict.fromkeys(peer.partition("/")[0] for peer in roster.peers)
        what.add_argument(
            "--against",
            metavar="NAME",
            action="append",
            help=f"only these peers: {', '.join(families)}, none",
        )
        what.add_argument(
            "--list", action="store_true", help="show cases and contestants, and measure nothing"
        )
        how = parser.add_argument_group("how")
        how.add_argument("--quick", action="store_true", help=self._quick_help())
        how.add_argument("--rounds", type=_positive, metavar="N", help="samples for each contestant and case")
        result = parser.add_argument_group("the result")
        result.add_argument(
            "--goals", action="store_true", help="say which of the project's goals this run reached"
        )
        result.add_argument(
            "--compare", type=Path, metavar="OLD.json", help="show what has changed since that run"
        )
        result.add_argument("--json", type=Path, metavar="FILE", help="write every sample to FILE")
        result.add_argument(
            "--chart", type=Path, metavar="FILE", help="draw FILE, .svg or .png (with matplotlib)"
        )
        result.add_argument(
            "--markdown", type=Path, metavar="FILE", help="write the tables to FILE for documents"
        )
        parser.set_defaults(run=self.run)

    def _quick_help(self) -> str:
        text = f"{self.quick_rounds} rounds instead of {self.rounds}"
        if self.quick_sample_ms != self.sample_ms:
            text += f", of {self.quick_sample_ms:.0f} ms instead of {self.sample_ms:.0f}"
        left_out = [case.name for case in self.subject.cases.values() if case not in self.cases(quick=True)]
        return text + (f", without {', '.join(left_out)}" if left_out else "")

    def read(self, args: argparse.Namespace) -> Settings:
        """Check what was asked for, or raise UnusableError with what is wrong with it."""
        against = _names(args.against)
        if against == ["none"]:
            against = []
        codecs = self.codecs if args.codec is None else CODECS if args.codec == "both" else (args.codec,)
        loop = getattr(args, "loop", None)
        loops = None if loop is None else LOOPS if loop == "both" else (loop,)
        names = self.subject.roster.choose(codecs, against, loops)
        for option, path in (("--json", args.json), ("--chart", args.chart), ("--markdown", args.markdown)):
            if path is not None and not path.absolute().parent.is_dir():
                raise UnusableError(f"{option} {path}: there is no directory to put it in")
        if args.chart is not None:
            if args.chart.suffix not in (".svg", ".png"):
                raise UnusableError(f"--chart {args.chart}: the name must end with .svg or .png")
            need("matplotlib", "--chart draws")
        patterns = _names(args.cases)
        cases = self.cases(quick=args.quick)
        if patterns is not None:
            cases = select(self.subject.cases, patterns)
        return Settings(
            cases=tuple(cases),
            names=tuple(names),
            codecs=codecs,
            insist=args.codec is not None,
            loops=loops,
            against=None if against is None else tuple(against),
            rounds=args.rounds or (self.quick_rounds if args.quick else self.rounds),
            sample_ns=round((self.quick_sample_ms if args.quick else self.sample_ms) * 1e6),
            json=args.json,
            chart=args.chart,
            markdown=args.markdown,
            goals=args.goals,
            old=None if args.compare is None else read_old(self.subject, args.compare),
        )

    # Running.

    def run(self, args: argparse.Namespace) -> int:
        """Run the command and return its exit status."""
        if args.list:
            self.show_list()
            return EXIT_OK
        settings = self.read(args)
        need("rich", "this command shows its progress")
        self.check()
        with reserved_core() as core:
            return self.bench(settings, core)

    def show_list(self) -> None:
        """Print what there is to measure, and with whom."""
        print("cases:")
        for name in self.subject.cases:
            print(f"  {name}")
        print("contestants:")
        entries = self.subject.roster.entries.values()
        width = max(18, *(len(entry.name) for entry in entries))
        for entry in entries:
            here = entry.install is None or _is_here(entry.install)
            print(f"  {entry.name:{width}} {entry.about}{'' if here else ' (not installed)'}")

    def bench(self, settings: Settings, core: int | None) -> int:
        """Measure, show and write; return the exit status."""
        from rich.console import Console

        from bench_progress import Display
        from bench_report import show, show_change, show_goals

        # A file or a CI log has no width of its own; the 80 columns that rich assumes are too few for the table.
        console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
        described = machine(core)
        python = interpreter()
        started, since = datetime.now(UTC), time.monotonic()
        console.print(one_line(described, python), markup=False, soft_wrap=True)
        with self.start(settings, core) as field:
            self.check_missing(settings, field.missing)
            contestants = field.described
            for name, about in contestants.items():
                shown = about.get("codec", "")
                console.print(f"  {name} {about['version']}{f' ({shown})' if shown else ''}", markup=False)
            for name, why in field.missing.items():
                console.print(f"  missing: {name}: {why}", markup=False, soft_wrap=True)
            missing = dict(field.missing)
            with Display(console, len(settings.cases), settings.rounds) as display:
                results = measure(field, settings.cases, display, rounds=settings.rounds)
        show(console, self.subject, results, missing)
        if settings.old is not None:
            show_change(console, self.subject, results, settings.old)
        if settings.goals:
            show_goals(console, self.subject, judge(results, self.subject.goals, self.subject.roster.limits))
        environment = {
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - since, 1),
            "checkout": commit(),
            "machine": described,
            "python": python,
        }
        self.write(settings, results, environment, contestants, missing)
        failed = any(result.failed for result in results)
        return EXIT_FAILED if failed else EXIT_OK

    def check_missing(self, settings: Settings, missing: Mapping[str, str]) -> None:
        """Refuse to run with less than what was asked for by name."""
        roster = self.subject.roster
        ours = [name for name in settings.names if name in roster.ours]
        absent = [name for name in ours if name in missing]
        by_codec = {name: roster.codec_of(name) for name in absent}
        for codec in settings.codecs:
            mine = [name for name in ours if roster.codec_of(name) == codec]
            gone = [name for name in mine if name in by_codec]
            if gone == mine and gone and (settings.insist or len(absent) == len(ours)):
                raise UnusableError(
                    f"the {codec} codec was asked for and cannot be measured: {missing[gone[0]]}"
                )
        for loop in settings.loops or ():
            for name in settings.names:
                if roster.entries[name].loop == loop and name in roster.ours and name in missing:
                    raise UnusableError(f"--loop {loop}: {missing[name]}")
        for asked in settings.against or ():
            mine = [name for name in roster.matching(asked) if name in settings.names]
            if mine and all(name in missing for name in mine):
                install = roster.entries[mine[0]].install
                hint = f" (pip install {install} gets it)" if install else ""
                raise UnusableError(f"--against {asked}: {missing[mine[0]]}{hint}")

    def write(
        self,
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
            "loops": None if settings.loops is None else list(settings.loops),
            "against": None if settings.against is None else list(settings.against),
            "cases": [case.name for case in settings.cases],
            "rounds": settings.rounds,
            "sample_ns": settings.sample_ns,
        }
        result = as_json(
            self.subject,
            results,
            settings=asked,
            environment=environment,
            contestants=contestants,
            missing=missing,
        )
        if settings.json is not None:
            _write_text(settings.json, json.dumps(result, indent=1) + "\n")
        if settings.markdown is not None:
            _write_text(settings.markdown, markdown(self.subject, result))
        if settings.chart is not None:
            caption = one_line(environment["machine"], environment["python"])
            try:
                draw(self.subject, results, settings.chart, f"{caption}; {environment['started'][:10]}")
            except OSError as error:
                raise UnusableError(f"cannot write {settings.chart}: {error.strerror}") from None


def need(module: str, why: str) -> None:
    """Raise UnusableError where a module is not installed."""
    if not _is_here(module):
        raise UnusableError(f'{why} with {module}; pip install "wsframe[bench]" gets it')


def _is_here(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UnusableError(f"cannot write {path}: {error.strerror}") from None


def _names(values: list[str] | None) -> list[str] | None:
    """Split what may be given several times, and with commas."""
    if values is None:
        return None
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)
