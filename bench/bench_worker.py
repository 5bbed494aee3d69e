"""One contestant in a process of its own: `bench_worker.py NAME [CORE]`, told what to do by lines of JSON.

A process each, so that neither imports nor environment nor heap of one contestant decide how fast another one is.
Each line on stdin is a command, each on stdout its answer:

(at the start)                              {"ready": {...what was loaded...}} or {"missing": why}
{"do": "prepare", "case": NAME}             {"messages": in one iteration}, {"unsupported": why} or {"wrong": why}
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
from pathlib import Path
from typing import IO, Any

# Ours is the checkout that this file lies in, whatever else may be installed.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from bench_cases import CASES, Case, Stream, stream
from bench_contestants import CODEC
from bench_errors import MissingError, UnsupportedError
from bench_ours import Memcpy, Wsframe
from bench_wire import read_frames, xor
from bench_work import Contestant, Work


def make(name: str) -> Contestant:
    """Load a contestant; whatever it raises says that it is not here."""
    codec = CODEC.codec_of(name)
    if codec is not None:
        return Wsframe(codec)
    if name == "memcpy":
        return Memcpy()
    if name == "picows":
        from bench_picows import Picows

        return Picows()
    import bench_peers

    makers: dict[str, Callable[[], Contestant]] = {
        "websockets": lambda: bench_peers.Websockets(speedups=True),
        "websockets-python": lambda: bench_peers.Websockets(speedups=False),
        "wsproto": bench_peers.Wsproto,
        "aiohttp": bench_peers.Aiohttp,
    }
    return makers[name]()


def what_is_wrong(case: Case, expected: Stream | None, found: list[Any], *, baseline: bool) -> str | None:
    """Compare what a contestant gave with what the case asks for; None when they are the same."""
    if baseline:
        ok = all(part == case.message for part in found)
        return None if ok else "it gave other bytes"
    if case.group == "mask":
        key = case.random().randbytes(4)
        return None if found == [xor(case.message, key)] else "it gave other bytes"
    if case.group in ("build", "send"):
        return _wrong_frame(case, bytes(found[0]))
    assert expected is not None
    if len(found) != expected.messages:
        return f"it gave {len(found)} messages, not {expected.messages}"
    kinds: tuple[type, ...] = (str,) if case.text else (bytes, bytearray)
    for number, (mine, theirs) in enumerate(zip(expected.expected, found, strict=True)):
        if not isinstance(theirs, kinds):
            return f"message {number} is {type(theirs).__name__}"
        if mine != theirs:
            return f"message {number} has another payload"
    return None


def _wrong_frame(case: Case, wire: bytes) -> str | None:
    try:
        frames = list(read_frames(wire))
    except ValueError as error:
        return str(error)
    if len(frames) != 1:
        return f"it gave {len(frames)} frames"
    (frame,) = frames
    if (frame.opcode, frame.fin, frame.rsv1) != (case.opcode, True, False):
        return "the first byte of the frame is another one"
    if (frame.key is not None) != case.client:
        return "the frame is not masked" if case.client else "the frame is masked"
    return None if frame.payload == case.message else "the frame has another payload"


class Worker:
    """Answers commands."""

    def __init__(self, contestant: Contestant) -> None:
        self.contestant = contestant
        self.work: Work | None = None

    def prepare(self, case: str) -> dict[str, Any]:
        """Make a case ready, and make sure that this contestant does all of the work."""
        self.forget()
        chosen = CASES[case]
        given = stream(chosen) if chosen.group in ("parse", "decode") else None
        try:
            work = self.contestant.prepare(chosen, given)
            wrong = what_is_wrong(chosen, given, work.check(), baseline=self.contestant.baseline)
        except UnsupportedError as error:
            return {"unsupported": str(error)}
        except Exception as error:
            wrong = f"{type(error).__name__}: {error}"
        if wrong is not None:
            return {"wrong": wrong}
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
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            messages = self.work.run(iterations)
            cpu, wall = time.thread_time_ns() - cpu, time.perf_counter_ns() - wall
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


def main() -> None:
    """Answer until stdin ends."""
    # Ctrl-C is for the parent, who closes stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = channel()

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")

    name, *core = sys.argv[1:]
    if core and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core[0])})
    try:
        contestant = make(name)
        described = contestant.describe()
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
    worker = Worker(contestant)
    say({"ready": described})
    for line in sys.stdin:
        command = json.loads(line)
        say(getattr(worker, command.pop("do"))(**command))


if __name__ == "__main__":
    main()
