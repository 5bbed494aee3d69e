"""The processes that contestants run in, seen from the one that tells them what to do."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from bench_contestants import ENTRIES

WORKER = Path(__file__).resolve().with_name("bench_worker.py")

#: Seconds after which a process that does not answer is given up.
PATIENCE = 120.0


class WorkerDiedError(Exception):
    """A process ended or hangs; the text says what is known."""


class Process:
    """One contestant's process."""

    def __init__(self, name: str, core: int | None = None) -> None:
        self.name = name
        self.described: dict[str, str] = {}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self._buffer = b""
        command = [sys.executable, str(WORKER), name, *([] if core is None else [str(core)])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment(name)
        )

    def start(self) -> str | None:
        """Wait until the contestant is loaded; return why it is missing, or None."""
        answer = self._receive()
        self.described = answer.get("ready", {})
        missing: str | None = answer.get("missing")
        return missing

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Give a command and wait for its answer.

        Raises:
            WorkerDiedError: there is none.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerDiedError(self._last_words()) from None
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise WorkerDiedError(f"no answer within {PATIENCE:.0f} s")
                data = os.read(descriptor, 65536)
                if not data:
                    raise WorkerDiedError(self._last_words())
                self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
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


class Pool:
    """All contestants of a run. `missing` says who is not among them, and why."""

    def __init__(self, names: Iterable[str], core: int | None = None) -> None:
        self.processes: dict[str, Process] = {}
        self.missing: dict[str, str] = {}
        try:
            for name in names:
                self.processes[name] = Process(name, core)
            for name, process in list(self.processes.items()):
                try:
                    why = process.start()
                except WorkerDiedError as error:
                    why = str(error)
                if why is not None:
                    self.drop(name, why)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Pool:
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


def environment(name: str) -> dict[str, str]:
    """Return what a contestant's process finds in its environment."""
    result = dict(os.environ)
    # What somebody has set for their own work must not decide what is compared.
    for variable in ("WSFRAME_PURE_PYTHON", "AIOHTTP_NO_EXTENSIONS", "PYTHONASYNCIODEBUG", "PYTHONDEVMODE"):
        result.pop(variable, None)
    if ENTRIES[name].codec == "python":
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
