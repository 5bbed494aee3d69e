"""Run a benchmark: the command behind `python -m wsframe bench`.

This file starts; the others do the work:

bench_command.py        what all commands do: options, and the order of things
bench_subject.py        what a benchmark is about, for all that show it     bench_basics.py   words they share
bench_contestants.py    who is measured, by name                            bench_goals.py    what is to be reached
bench_measure.py        rounds and samples                                  bench_stats.py    what the samples say
bench_pool.py           the contestants' processes                          bench_machine.py  where it ran
bench_progress.py, bench_report.py, bench_json.py, bench_markdown.py, bench_chart.py, bench_compare.py   showing it

bench_codec.py          the command `codec`; bench_cases.py, bench_wire.py, bench_work.py: what is measured;
                        bench_ours.py, bench_peers.py, bench_picows.py: who; bench_worker.py: one of them
bench_echo.py, bench_connect.py, bench_memory.py    the commands `echo`, `connect`, `memory`; bench_field.py: servers
                        under test; bench_servers.py, bench_node.cjs: who; bench_serve.py: one of them
bench_client.py         the command `client`; bench_clients.py: who; bench_client_worker.py: one of them
bench_icount.py         the command `icount`; bench_icount_worker.py: what is counted
bench_answer.py         a process that measures itself, for `codec` and `client`
bench_load.c, bench_limit.c     the load generator, and the server that is the limit; bench_generator.py: these from
                        outside; bench_compile.py: how they are compiled
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import cast

import bench_icount
from bench_client import BENCHMARK as CLIENT
from bench_codec import BENCHMARK as CODEC
from bench_connect import BENCHMARK as CONNECT
from bench_echo import BENCHMARK as ECHO
from bench_errors import EXIT_UNUSABLE, UnusableError
from bench_memory import BENCHMARK as MEMORY


class Parser(argparse.ArgumentParser):
    """A parser that reports wrong usage as our other errors are, in one sentence."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Report wrong usage."""
        raise UnusableError(message)


def main(arguments: Sequence[str] | None = None, program: str = "bench/bench_main.py") -> int:
    """Run the command and return its exit status."""
    parser = Parser(prog=program, description="Measure wsframe and its peers.", allow_abbrev=False)
    commands = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
    for benchmark in (CODEC, ECHO, CLIENT, MEMORY, CONNECT):
        benchmark.add_parser(commands)
    bench_icount.add_parser(commands)
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
