"""A process that measures itself, told what to do by lines of JSON.

Each line on stdin is a command, each on stdout its answer:

(at the start)                              {"ready": {...what was loaded...}} or {"missing": why}
{"do": "prepare", "case": NAME, ...}        {"messages": in one iteration}, {"unsupported": why} or {"wrong": why}
{"do": "calibrate", "ns": NS}               {"iterations": how many take about that long}
{"do": "sample", "iterations": N}           {"cpu_ns": ..., "wall_ns": ...} or {"wrong": why}
{"do": "forget"}                            {}: what the case had in memory is gone

The end of stdin ends it.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import IO, Any

from bench_errors import MissingError, UnsupportedError, WrongError
from bench_work import Work


class Worker:
    """Answers commands. A subclass makes the cases ready."""

    def __init__(self, clock: Callable[[], int] = time.thread_time_ns) -> None:
        #: What counts CPU time, in nanoseconds.
        self.clock = clock
        self.work: Work | None = None

    def describe(self) -> dict[str, str]:
        """Return what is loaded: `version`, and what else decides how fast it is."""
        raise NotImplementedError

    def ready(self, case: str, **arguments: Any) -> Work:
        """Make a case ready, and make sure that this contestant does all of the work.

        Raises:
            UnsupportedError: it cannot do that.
            WrongError: it does something else.
        """
        raise NotImplementedError

    def prepare(self, case: str, **arguments: Any) -> dict[str, Any]:
        """Make a case ready."""
        self.forget()
        try:
            work = self.ready(case, **arguments)
        except UnsupportedError as error:
            return {"unsupported": str(error)}
        except WrongError as error:
            return {"wrong": str(error)}
        except Exception as error:
            return {"wrong": f"{type(error).__name__}: {error}"}
        self.work = work
        return {"messages": work.messages}

    def calibrate(self, ns: int) -> dict[str, Any]:
        """Find out how many iterations take so long; this warms up as well."""
        iterations = 1
        while True:
            taken = self.sample(iterations)
            if "wrong" in taken:
                return taken
            if taken["cpu_ns"] * 2 >= ns:
                return {"iterations": max(1, round(iterations * ns / taken["cpu_ns"]))}
            # The first passes are slow; a jump would overshoot.
            iterations *= 4 if taken["cpu_ns"] * 8 < ns else 2

    def sample(self, iterations: int) -> dict[str, Any]:
        """Do the work and say how long that took."""
        assert self.work is not None
        gc.collect()
        gc.disable()
        try:
            wall, cpu = time.perf_counter_ns(), self.clock()
            messages = self.work.run(iterations)
            cpu, wall = self.clock() - cpu, time.perf_counter_ns() - wall
        except Exception as error:
            return {"wrong": f"{type(error).__name__}: {error}"}
        finally:
            gc.enable()
        if messages != iterations * self.work.messages:
            return {"wrong": f"it gave {messages} messages, not {iterations * self.work.messages}"}
        # A clock that stands still for the shortest of runs must not divide anything.
        return {"cpu_ns": max(1, cpu), "wall_ns": max(1, wall)}

    def forget(self) -> dict[str, Any]:
        """Give back the memory of the case."""
        self.work = None
        gc.collect()
        return {}


def channel() -> IO[str]:
    """Keep stdout for answers alone; what a library prints goes to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return open(kept, "w", buffering=1, encoding="utf-8")


def answer(make: Callable[[str], Worker]) -> None:
    """Load the contestant that the command line names, on the core that it names, and answer until stdin ends."""
    # Ctrl-C is for the parent, who closes stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = channel()

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")

    name, *core = sys.argv[1:]
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core[0])})
    try:
        worker = make(name)
        described = worker.describe()
    except (ModuleNotFoundError, MissingError) as error:
        say({"missing": str(error)})
        return
    except Exception as error:
        # What we use of a peer is not all public: another version may have moved it.
        say({"missing": f"{type(error).__name__}: {error}"})
        return
    # What is loaded stays; looking through it before every sample would take longer than the sample.
    gc.collect()
    gc.freeze()
    say({"ready": described})
    for line in sys.stdin:
        command = json.loads(line)
        say(getattr(worker, command.pop("do"))(**command))
