"""A driver's process: JSON lines to its stdin, JSON lines from its stdout, and a deadline for everything."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["DriverFailed", "DriverProcess", "Hangs"]

#: Seconds that a driver may take to begin, on a busy machine.
_START = 30.0

#: Bytes of a driver's stderr that are kept.
_ERRORS = 20_000


class Hangs(Exception):
    """The driver has not answered in time."""


class DriverFailed(Exception):
    """The driver has ended, or does not speak as it should."""


class DriverProcess:
    """A driver that runs.

    Args:
        command: how it is started.
        environment: what its environment has besides ours.

    Attributes:
        hello: its first line: ``driver``, ``version``, ``roles``.
        told: what the application was told in the present row, each with the time when it was heard of.

    Raises:
        DriverFailed: it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.told: list[dict[str, Any]] = []
        self._answers: list[dict[str, Any]] = []
        self._pending = b""
        self._gone = False
        try:
            self._process = subprocess.Popen(  # noqa: S603 - whoever starts the suite says what it runs
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
            )
        except OSError as exc:
            raise DriverFailed(f"cannot start {command[0]}: {exc.strerror}") from None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        os.set_blocking(self._process.stderr.fileno(), False)
        self._errors = b""
        try:
            self.hello = self._answer(time.monotonic() + _START)
            if "driver" not in self.hello:
                raise DriverFailed(f"its first line is {self.hello}")
        except (Hangs, DriverFailed):
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def fileno(self) -> int:
        """What is readable when the driver has said something."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def ask(self, question: Mapping[str, Any], deadline: float) -> dict[str, Any]:
        """Send a line and wait for its answer; what comes before goes to ``told``.

        Raises:
            Hangs: there is none until the deadline.
            DriverFailed: the driver has ended.
        """
        self.send(question)
        return self._answer(deadline)

    def send(self, question: Mapping[str, Any]) -> None:
        """Send a line.

        Raises:
            DriverFailed: the driver has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise DriverFailed(self._last_words()) from None

    def answer(self) -> dict[str, Any] | None:
        """The answer to an earlier question, if it is there."""
        self.listen()
        return self._answers.pop(0) if self._answers else None

    def listen(self) -> None:
        """Take what the driver has said.

        Raises:
            DriverFailed: the driver has ended, or does not speak JSON.
        """
        assert self._process.stdout is not None
        while not self._gone:
            try:
                data = os.read(self.fileno(), 1 << 16)
            except BlockingIOError:
                break
            self._pending += data
            self._gone = not data
        *lines, self._pending = self._pending.split(b"\n")
        for line in lines:
            try:
                value = json.loads(line)
            except ValueError:
                raise DriverFailed(f"it said {line[:200]!r}, which is not JSON") from None
            if "told" in value:
                self.told.append({**value, "at": time.monotonic()})
            else:
                self._answers.append(value)
        self._drain_errors()
        if self._gone and not lines:
            raise DriverFailed(self._last_words())

    def _answer(self, deadline: float) -> dict[str, Any]:
        while True:
            found = self.answer()
            if found is not None:
                return found
            left = deadline - time.monotonic()
            if left <= 0:
                raise Hangs("no answer")
            select.select([self.fileno()], [], [], left)

    def _drain_errors(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._process.stderr.fileno(), 1 << 16):
                self._errors = (self._errors + data)[-_ERRORS:]

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1)
        self._drain_errors()
        lines = self._errors.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with status {self._process.returncode}"

    @property
    def errors(self) -> str:
        """The end of what it wrote to stderr."""
        return self._errors.decode(errors="replace")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._close()

    def close(self) -> None:
        """Let it end, which it does when its stdin does."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._close()

    def _close(self) -> None:
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()
