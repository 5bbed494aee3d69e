"""Child processes that never outlive the run: each leads its own group, which is ended as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from errors import UnusableError

#: Seconds between asking a process group to end and making it.
PATIENCE = 3.0
#: What a child may write in one line before it counts as broken.
LINE_LIMIT = 2**20


class Child:
    """A running child process. An async context manager: leaving it ends the child and all its children.

    Its standard input stays open and empty as long as we live, so a child that reads it learns of our end;
    its standard output is read line by line; its standard error goes to the file `log`.
    """

    def __init__(self, argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        self.log = log
        self._env = dict(env) if env is not None else None
        self._process: asyncio.subprocess.Process | None = None
        self._draining: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Child:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as errors:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self.argv,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=errors,
                    env=self._env,
                    start_new_session=True,
                    limit=LINE_LIMIT,
                )
            except OSError as error:
                raise UnusableError(
                    f"{self.argv[0]!r} cannot be started: {error.strerror or error}"
                ) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def process(self) -> asyncio.subprocess.Process:
        """The process; only while the context is entered."""
        assert self._process is not None
        return self._process

    async def line(self, timeout: float) -> str | None:
        """Return the next line of standard output, None at its end; TimeoutError after `timeout` seconds."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout):
            try:
                text = await self.process.stdout.readline()
            except ValueError:
                raise UnusableError(f"{self.argv[0]!r} wrote a line of over {LINE_LIMIT} bytes") from None
        return text.decode("utf-8", "replace").rstrip("\r\n") if text else None

    def drain(self) -> None:
        """From now on copy standard output to the log, so that a talkative child never blocks."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        assert self.process.stdout is not None
        with self.log.open("ab") as log:
            while data := await self.process.stdout.read(65536):
                log.write(data)
                log.flush()

    async def stop(self) -> None:
        """End the process group: first by asking, after `PATIENCE` seconds by force."""
        process = self.process
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE):
                    await process.wait()
                    break
        # The leader may be gone and have left others behind; its group then still has its number.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        # Only a pipe read to its end is closed in time; otherwise the garbage collector does it, with a warning.
        self.drain()
        assert self._draining is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._draining, 1.0)

    def last_words(self) -> str:
        """Return the last line in the log that says something, or an empty string."""
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


async def output_of(
    argv: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None
) -> str | None:
    """Return what a short command prints, or None when it is absent, fails or takes over `timeout` seconds."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(env) if env is not None else None,
            start_new_session=True,
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(timeout):
            text, _ = await process.communicate()
    except TimeoutError:
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return text.decode("utf-8", "replace").strip() if process.returncode == 0 else None


def without_python_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of the environment in which another Python is not led to this one's packages."""
    return {key: value for key, value in environment.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
