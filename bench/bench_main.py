"""Run a benchmark: the command behind `python -m wsframe bench`.

This file starts; the others do the work:

bench_codec.py          the command `codec`: options, and the order of things
bench_cases.py          what is measured           bench_wire.py, bench_work.py   what it is made of
bench_contestants.py    who is measured            bench_ours.py, bench_peers.py, bench_picows.py
bench_worker.py         one contestant's process   bench_pool.py                  the processes from outside
bench_measure.py        rounds                     bench_stats.py, bench_goals.py what the samples say
bench_progress.py, bench_report.py, bench_json.py, bench_chart.py                 showing it
bench_machine.py        where it ran
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import cast

from bench_codec import BENCHMARK as CODEC
from bench_errors import EXIT_UNUSABLE, UnusableError


class Parser(argparse.ArgumentParser):
    """A parser that reports wrong usage as our other errors are, in one sentence."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Report wrong usage."""
        raise UnusableError(message)


def main(arguments: Sequence[str] | None = None, program: str = "bench/bench_main.py") -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog=program, description="Measure wsframe and its peers.", allow_abbrev=False)
    commands = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    for benchmark in (CODEC,):
        benchmark.add_parser(commands)
    try:
        options = parser.parse_args(arguments)
        return cast("int", options.run(options))
    except UnusableError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
