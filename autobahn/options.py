"""The command line: what may be asked, and what of it makes no sense."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cases import HERE, select, tier, wrong_masking_cases
from errors import UnusableError
from probe import parse_url
from rows import Row
from suite import WAYS

PACKAGE = HERE.parent / "wsframe"

DESCRIPTION = """\
Run the Autobahn|Testsuite against wsframe's server and client, or against anybody's, and compare every case
with the expected result. The first use installs the suite into the cache. Exit status: 0 when everything is
as expected, 1 when a case failed or is missing, 2 when the suite could not be run as asked."""

EPILOG = """\
A client given with --peer gets the address of the suite as its last argument, or in place of {url}. It must ask
for ADDRESS/getCaseCount, run ADDRESS/runCase?case=N&agent=NAME for N from 1 to that count, echoing every message
with its type, and end with ADDRESS/updateReports?agent=NAME. {agent} stands for a name it may use. It is started
once for every shard.

Cases: an id such as 9.1.6, or a pattern with *, read as the suite does: * is anything, the rest a regular
expression that must match the id's beginning, with . as itself. '1.*' does not include 10.1.1; '12.*.[1-6]$'
is the first six cases of every group."""


@dataclass(frozen=True)
class Settings:
    """What was asked for, checked."""

    rows: tuple[Row, ...]
    url: str | None
    shards: int
    output: Path
    json: Path | None
    resume: bool
    wstest: str | None
    way: str
    stall_timeout: float


class Parser(argparse.ArgumentParser):
    """A parser that reports wrong usage as our other errors are, in one sentence."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Report wrong usage."""
        raise UnusableError(message)


def adapters() -> list[str]:
    """Return the adapters that this checkout has."""
    return [
        name for name in ("aio", "sync") if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
    ]


def codecs() -> list[str]:
    """Return the codecs that this checkout has, the fastest first."""
    compiled = (
        any(PACKAGE.glob("_codec.*.so"))
        or any(PACKAGE.glob("_codec.*pyd"))
        or (PACKAGE / "_codec.so").exists()
    )
    return ["cython", "python"] if compiled else ["python"]


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def seconds(text: str) -> float:
    """Read a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 86400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def parser(program: str) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = Parser(
        prog=program,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = result.add_argument_group("what is tested")
    what.add_argument("--server", action="store_true", help="servers (default: servers and clients)")
    what.add_argument("--client", action="store_true", help="clients (default: servers and clients)")
    what.add_argument("--adapter", choices=[*adapters(), "all"], help="which adapter of ours (default: aio)")
    what.add_argument(
        "--codec", choices=[*codecs(), "all"], help="which codec of ours (default: the fastest built)"
    )
    what.add_argument("--url", metavar="WS_URL", help="somebody else's server, instead of ours")
    what.add_argument("--peer", metavar="CMD", help="somebody else's client, instead of ours")
    what.add_argument(
        "--tier", choices=["fast", "full"], default="fast", help="385 cases or all 517 (default: fast)"
    )
    what.add_argument(
        "--cases", metavar="PATTERN", action="append", help="only these cases; repeat or use commas"
    )
    what.add_argument(
        "--masking",
        action=argparse.BooleanOptionalAction,
        help="also send wrongly masked frames, which must fail the connection with 1002 "
        "(default: with our own peers, unless --cases is given)",
    )
    how = result.add_argument_group("how")
    how.add_argument(
        "--shards", type=positive, metavar="N", help="run so many shares at once (default: one per core)"
    )
    how.add_argument(
        "--resume", action="store_true", help="keep results in DIR that are as expected, run the others"
    )
    how.add_argument(
        "--stall-timeout", type=seconds, default=120.0, metavar="S", help="give up a case after S silent s"
    )
    how.add_argument(
        "--output", metavar="DIR", type=Path, default=HERE / "reports", help="default: %(default)s"
    )
    how.add_argument("--json", metavar="FILE", type=Path, help="write the result to FILE for machines")
    how.add_argument(
        "--suite", choices=WAYS, default="auto", help="how to get the suite (default: the first that works)"
    )
    how.add_argument("--wstest", metavar="PATH", help="use this installed wstest")
    return result


def read(arguments: Sequence[str], program: str) -> Settings:
    """Read the command line, or raise UnusableError with what is wrong with it."""
    args = parser(program).parse_args(arguments)
    if args.cases is None:
        cases = tier(args.tier)
    else:
        cases = select(filter(None, (part.strip() for value in args.cases for part in value.split(","))))
    output: Path = args.output.absolute()
    if output.exists() and not output.is_dir():
        raise UnusableError(f"--output {args.output} is not a directory")
    if args.json is not None and not args.json.absolute().parent.is_dir():
        raise UnusableError(f"--json {args.json}: there is no directory to put it in")
    return Settings(
        rows=tuple(rows(args, tuple(cases))),
        url=args.url,
        shards=args.shards or available_cores(),
        output=output,
        json=args.json,
        resume=args.resume,
        wstest=args.wstest,
        way=args.suite,
        stall_timeout=args.stall_timeout,
    )


def rows(args: argparse.Namespace, cases: tuple[str, ...]) -> list[Row]:
    """Return the rows that the options ask for: those with wrong masking after those without."""
    foreign = args.url is not None or args.peer is not None
    if args.url is not None:
        parse_url(args.url)
        if args.client and args.peer is None:
            raise UnusableError("--url is for testing a server; --client needs --peer with it")
    if args.peer is not None:
        check_command(args.peer)
        if args.server and args.url is None:
            raise UnusableError("--peer is for testing a client; --server needs --url with it")
    if foreign and (args.adapter or args.codec):
        raise UnusableError(
            "--adapter and --codec choose among our own peers; leave them out with --url and --peer"
        )
    if not foreign and not adapters():
        raise UnusableError("this checkout has no adapter to test yet; use --url or --peer")

    plain: list[Row] = []
    if foreign:
        if args.url is not None:
            plain.append(Row("server", cases, target=args.url))
        if args.peer is not None:
            plain.append(Row("client", cases, target=args.peer))
    else:
        directions = [name for name in ("server", "client") if getattr(args, name)] or ["server", "client"]
        plain += [
            Row(direction, cases, adapter=adapter, codec=codec)
            for adapter in (adapters() if args.adapter == "all" else [args.adapter or adapters()[0]])
            for codec in (codecs() if args.codec == "all" else [args.codec or codecs()[0]])
            for direction in directions
        ]
    masking = args.masking if args.masking is not None else not foreign and args.cases is None
    return plain + ([wrongly_masked(row) for row in plain] if masking else [])


def wrongly_masked(row: Row) -> Row:
    """Return the row that tests the same peer with wrongly masked frames."""
    return Row(
        row.direction, tuple(wrong_masking_cases()), row.adapter, row.codec, row.target, wrong_masking=True
    )


def check_command(command: str) -> None:
    """Make sure that a client command can be started."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UnusableError(f"--peer {command!r} cannot be split into words: {error}") from None
    if not words or shutil.which(words[0]) is None:
        raise UnusableError(f"--peer {command!r}: there is no program {words[0] if words else ''!r}")


def available_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
