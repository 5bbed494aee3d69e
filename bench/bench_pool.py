"""The processes that contestants run in, seen from the one that tells them what to do."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench_basics import BaseCase
from bench_contestants import Entry
from bench_errors import UnsupportedError, WrongError
from bench_measure import Sample

WORKER = Path(__file__).resolve().with_name("bench_worker.py")

#: Seconds after which a process that does not answer is given up.
PATIENCE = 120.0
#: Seconds that a process whose peer has seen it die needs to be dead.
GRACE = 1.0


@dataclass(frozen=True)
class Command:
    """How to start a contestant's process."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]


class Process:
    """One contestant's process, which says what it has loaded and then answers commands, in lines of JSON."""

    def __init__(self, command: Command) -> None:
        self.described: dict[str, str] = {}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._buffer = b""
        self._process = subprocess.Popen(
            command.arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(command.environment),
        )

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    def start(self) -> str | None:
        """Wait until the contestant is loaded; return why it is missing, or None.

        Raises:
            WrongError: it died.
        """
        answer = self.receive()
        self.described = answer.get("ready", {})
        missing: str | None = answer.get("missing")
        return missing

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for its answer.

        Raises:
            WrongError: there is none.
        """
        self.tell(json.dumps({"do": do, **arguments}))
        return self.receive()

    def tell(self, line: str) -> None:
        """Write a line.

        Raises:
            WrongError: it died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise WrongError(self.last_words()) from None

    def receive(self) -> dict[str, Any]:
        """Wait for a line.

        Raises:
            WrongError: there is none.
        """
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise WrongError(f"no answer within {PATIENCE:.0f} s")
                data = os.read(descriptor, 65536)
                if not data:
                    raise WrongError(self.last_words())
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def has_ended(self) -> bool:
        """Whether it has ended by itself, or is just about to."""
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_words(self) -> str:
        """Wait for its end and return how it ended."""
        status = self._process.wait(10)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return f"its process ended with status {status}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # It may have ended by itself, with something unread.
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()


class Starter:
    """Contestants' processes. `missing` says who is not among them, and why."""

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self.processes: dict[str, Process] = {}
        self.missing: dict[str, str] = {}
        try:
            for name, command in commands.items():
                self.processes[name] = Process(command)
            for name, process in list(self.processes.items()):
                try:
                    why = process.start()
                except WrongError as error:
                    why = str(error)
                if why is not None:
                    self.drop(name, why)
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> Sequence[str]:
        """Those who are there, in their order."""
        return tuple(self.processes)

    @property
    def described(self) -> Mapping[str, Mapping[str, str]]:
        """What each of them has loaded."""
        return {name: process.described for name, process in self.processes.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def drop(self, name: str, why: str) -> None:
        """Go on without a contestant."""
        self.missing[name] = why
        self.processes.pop(name).close()

    def close(self) -> None:
        """End all processes."""
        for process in self.processes.values():
            process.close()


class Pool(Starter):
    """Contestants who measure themselves, as `bench_worker.py` does."""

    def __init__(self, commands: Mapping[str, Command], sample_ns: int) -> None:
        super().__init__(commands)
        self._sample_ns = sample_ns
        self._iterations: dict[str, int] = {}
        self._messages: dict[str, int] = {}

    def arguments(self, case: BaseCase) -> dict[str, int]:
        """Return what a contestant has to know of a case besides its name."""
        return {}

    def prepare(self, name: str, case: BaseCase) -> None:
        """Make a case ready, and find out how often it has to be done for one sample."""
        answer = self._ask(name, "prepare", case=case.name, **self.arguments(case))
        if "unsupported" in answer:
            raise UnsupportedError(answer["unsupported"])
        self._messages[name] = answer["messages"]
        self._iterations[name] = self._ask(name, "calibrate", ns=self._sample_ns)["iterations"]

    def sample(self, name: str) -> Sample:
        """Measure it once."""
        answer = self._ask(name, "sample", iterations=self._iterations[name])
        messages = self._iterations[name] * self._messages[name]
        return Sample(answer["cpu_ns"] / messages, answer["wall_ns"] / messages, messages)

    def forget(self, name: str) -> None:
        """Give back the memory of the case."""
        self._ask(name, "forget")

    def _ask(self, name: str, do: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = self.processes[name].ask(do, **arguments)
        except WrongError as error:
            self.drop(name, str(error))
            raise
        if "wrong" in answer:
            raise WrongError(answer["wrong"])
        return answer


def worker(entry: Entry, core: int | None, script: Path | None = None) -> Command:
    """Return how to start the process of a contestant that measures itself."""
    pinned = () if core is None else (str(core),)
    return Command((sys.executable, str(script or WORKER), entry.name, *pinned), environment(entry.codec))


def environment(codec: str | None) -> dict[str, str]:
    """Return what a contestant's process finds in its environment; wsframe is to load that codec."""
    result = dict(os.environ)
    # What somebody has set for their own work must not decide what is compared.
    for variable in ("WSFRAME_PURE_PYTHON", "AIOHTTP_NO_EXTENSIONS", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE"):
        result.pop(variable, None)
    if codec == "python":
        result["WSFRAME_PURE_PYTHON"] = "1"
    # The same order of everything that is hashed, in every run.
    result["PYTHONHASHSEED"] = "0"
    return result


@contextmanager
def reserved_core() -> Iterator[int | None]:
    """Choose a core for all contestants and keep off it meanwhile; None where that is not ours to say.

    They run one at a time, so one core is enough, and all of them get the same one.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    allowed = os.sched_getaffinity(0)
    core = max(allowed)
    if len(allowed) > 1:
        os.sched_setaffinity(0, allowed - {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, allowed)
