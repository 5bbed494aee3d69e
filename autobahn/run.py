"""Run the Autobahn|Testsuite: the command behind `python -m wsframe autobahn`.

This file starts; the others do the work:

options.py    the command line                  suite.py, install.py   getting the suite
cases.py      ids, patterns, tiers, shards      wstest_main.py         what runs inside the suite's Python 2.7
rows.py       what is tested and remembered     shard.py, processes.py running it
verdict.py    what a result means               progress.py, report.py showing it
server_peer.py, client_peer.py                  our own peers under test
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cases
from errors import EXIT_FAILED, EXIT_OK, EXIT_UNUSABLE, UnusableError
from options import Settings, read
from probe import probe
from rows import Outcome, Record
from shard import Shard
from suite import Suite, get_suite
from verdict import Result

if importlib.util.find_spec("rich") is not None:
    from rich.console import Console

    from progress import Display
    from report import as_json, show, write_index


def main(arguments: Sequence[str] | None = None, program: str = "autobahn/run.py") -> int:
    """Run the command and return its exit status."""
    try:
        settings = read(sys.argv[1:] if arguments is None else arguments, program)
        if importlib.util.find_spec("rich") is None:
            raise UnusableError(
                'this command shows its progress with rich; pip install "wsframe[autobahn]" gets it'
            )
        with only_one_run(settings.output):
            return asyncio.run(until_interrupted(settings))
    except UnusableError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        print(f"{program}: interrupted; --resume goes on from here", file=sys.stderr)
        return 128 + signal.SIGINT


@contextmanager
def only_one_run(output: Path) -> Iterator[None]:
    """Keep two runs from writing to one output directory; the kernel forgets the lock of a run that dies."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / "lock").open("w")
    except OSError as error:
        raise UnusableError(f"cannot write to {output}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UnusableError(
                f"another run is writing to {output}; choose another directory with --output"
            ) from None
        yield


async def until_interrupted(settings: Settings) -> int:
    """Run everything; a request to terminate ends all processes as an interrupt from the keyboard does."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await run(settings)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def run(settings: Settings) -> int:
    """Get the suite, run every row, report; return the exit status."""
    # A file or a CI log has no width of its own; the 80 columns that rich assumes are too few for the table.
    console = Console(width=None if sys.stdout.isatty() else 120)
    if settings.url is not None:
        await probe(settings.url)
    suite = await get_suite(
        lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True),
        wstest=settings.wstest,
        way=settings.way,
    )
    console.print(f"suite: {suite.description}", markup=False, highlight=False, soft_wrap=True)
    outcomes = []
    try:
        for row in settings.rows:
            outcome = Outcome(row)
            outcomes.append(outcome)
            await run_row(outcome, suite, settings, console)
    finally:
        page = write_index(outcomes, settings.output)
    result = as_json(outcomes, suite=suite.description, report=page)
    if settings.json is not None:
        try:
            settings.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
        except OSError as error:
            raise UnusableError(f"cannot write {settings.json}: {error.strerror}") from None
    show(console, outcomes, page)
    return EXIT_OK if result["ok"] else EXIT_FAILED


async def run_row(outcome: Outcome, suite: Suite, settings: Settings, console: Console) -> None:
    """Run one row, all its shards at once."""
    row = outcome.row
    record = Record(settings.output / row.slug, row)
    started = time.monotonic()
    with record.open(outcome, resume=settings.resume) as add, Display(console, outcome) as display:

        def ended(result: Result) -> None:
            add(result)
            display.ended(outcome.judge(result.case))

        todo = [case for case in row.cases if case not in outcome.results]
        shards = [
            Shard(row, number, share, suite, record.directory, settings.stall_timeout, ended, display.begun)
            for number, share in enumerate(cases.shards(todo, settings.shards))
            if share
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for shard in shards:
                    group.create_task(shard.run())
        except ExceptionGroup as failures:
            # The first failure has cancelled the other shards, and one reason is enough.
            raise failures.exceptions[0] from None
        finally:
            outcome.seconds = time.monotonic() - started
            for shard in shards:
                outcome.why_missing.update(shard.why_missing)


if __name__ == "__main__":
    sys.exit(main())
