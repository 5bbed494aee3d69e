"""`bench memory`: what a connection that is open and idle costs a server in memory."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bench_basics import KIB, BaseCase, Unit, amount
from bench_command import Benchmark, Settings
from bench_contestants import ECHO
from bench_errors import UnsupportedError, WrongError
from bench_generator import (
    SPARE_DESCRIPTORS,
    Programs,
    descriptors,
    generator_command,
    read_answer,
    server_command,
)
from bench_goals import MEMORY as GOALS
from bench_measure import Sample
from bench_pool import Command, Process, Starter
from bench_subject import Subject

DESCRIPTION = """\
Measure how much memory an idle connection takes in a server's process: the growth of its resident memory from 1000 to
3000 open connections, for one of them. What the kernel keeps for a socket is not in it. Every sample is taken from a
process of its own. Exit status: 0 when everything was measured, 1 when a contestant failed, 2 when it could not run
as asked."""

GROUPS = {
    "idle": "idle: open, nothing was sent",
    "used": "used: 1 KiB of text went there and back, once",
}

#: So many connections are open before memory is looked at first: what is needed once is there by then.
FIRST = 1000
#: ... and so many when it is looked at again.
THEN = 3000
#: Seconds that the load generator has for one step.
PROBE_TIMEOUT = 60.0


@dataclass(frozen=True)
class MemoryCase(BaseCase):
    """Idle connections.

    Attributes:
        deflate: permessage-deflate was agreed.
        used: a message went there and back.
    """

    deflate: bool = False
    used: bool = False

    def options(self, name: str, hold: str) -> dict[str, Any]:
        """Return what the load generator is to do to that contestant."""
        return {
            "hold": hold,
            "size": KIB,
            "used": int(self.used),
            "deflate": int(self.deflate),
            "raw": int(name.startswith("raw/")),
        }


CASES = {
    case.name: case
    for case in (
        MemoryCase("idle/plain", "idle", 0),
        MemoryCase("idle/deflate", "idle", 0, deflate=True),
        MemoryCase("used/plain", "used", 0, used=True),
        MemoryCase("used/deflate", "used", 0, deflate=True, used=True),
    )
}
UNIT = Unit("memory", "resident memory for one connection", "rss_bytes", "bytes", amount)


class MemoryField:
    """Servers under test, started anew for every sample: a heap that has once grown is no measure any more."""

    def __init__(self, settings: Settings, programs: Programs, core: int | None) -> None:
        self._programs = programs
        self._core = core
        self._descriptors = descriptors()
        self._case = next(iter(CASES.values()))
        with Starter({name: self._command(name) for name in settings.names}) as starter:
            self.described: Mapping[str, Mapping[str, str]] = dict(starter.described)
            self.missing = dict(starter.missing)

    @property
    def names(self) -> Sequence[str]:
        """Those who are there, in their order."""
        return tuple(self.described)

    def __enter__(self) -> MemoryField:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing lasts longer than a sample."""

    def _command(self, name: str) -> Command:
        options = ("deflate",) if self._case.deflate else ()
        return server_command(ECHO.entries[name], self._programs, self._core, *options)

    def _server(self, name: str) -> Process:
        process = Process(self._command(name))
        why = process.start()
        if why is not None:
            process.close()
            raise WrongError(why)
        return process

    def prepare(self, name: str, case: BaseCase) -> None:
        """See that the server can do that, with one connection."""
        assert isinstance(case, MemoryCase)
        self._case = case
        if self._descriptors < THEN + SPARE_DESCRIPTORS:
            raise UnsupportedError(f"a process may only open {self._descriptors} files here")
        if case.deflate and name.startswith("raw/"):
            raise UnsupportedError("it has no frames")
        with closing(self._server(name)) as server:
            command = self._load(name, server, "1").arguments
            done = subprocess.run(
                command,
                input="",
                capture_output=True,
                text=True,
                timeout=PROBE_TIMEOUT,
                check=False,
            )
            read_answer(done.stdout.strip(), done.returncode)

    def sample(self, name: str) -> Sample:
        """Measure it once."""
        with (
            closing(self._server(name)) as server,
            closing(Process(self._load(name, server, f"{FIRST},{THEN}"))) as load,
        ):
            sizes = []
            for count in (FIRST, THEN):
                answer = load.receive()
                if answer.get("held") != count:
                    raise WrongError(str(answer.get("wrong", "the load generator is out of step")))
                sizes.append(resident(server.pid))
                load.tell("")
        return Sample((sizes[1] - sizes[0]) / (THEN - FIRST), None, THEN - FIRST)

    def forget(self, name: str) -> None:
        """Nothing is kept."""

    def _load(self, name: str, server: Process, hold: str) -> Command:
        options = self._case.options(name, hold)
        port = int(server.described["port"])
        return Command(tuple(generator_command(self._programs, port, server.pid, options)), {})


def resident(pid: int) -> int:
    """Return how many bytes of a process are in memory.

    Raises:
        WrongError: it is gone.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:
        raise WrongError("its process has ended") from None
    # "Rss:   12345 kB", where kB stands for 1024 bytes.
    return next(int(line.split()[1]) * KIB for line in lines if line.startswith("Rss:"))


class MemoryBenchmark(Benchmark):
    """Contestants are servers that are looked at from outside."""

    subject = Subject("memory", CASES, GROUPS, ECHO, UNIT, GOALS)
    about = "memory for one idle connection"
    description = DESCRIPTION
    examples = "'idle', 'used/plain' or '*/deflate'"
    rounds, quick_rounds = 5, 1
    sample_ms = quick_sample_ms = 0.0
    codecs = ("cython",)
    has_loops = True

    def check(self) -> None:
        """Compile what has to be compiled."""
        Programs()

    def start(self, settings: Settings, core: int | None) -> MemoryField:
        """Find out who is there."""
        return MemoryField(settings, Programs(), core)


BENCHMARK = MemoryBenchmark()
