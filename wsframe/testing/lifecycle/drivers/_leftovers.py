"""What a row leaves behind in a driver's process: tasks, threads, file descriptors, and words in the log."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import threading
import time
from typing import Any

__all__ = ["Leftovers"]

#: Seconds that what is about to end may take to do so.
_GRACE = 2.0

_DESCRIPTORS = "/proc/self/fd"


class Leftovers(logging.Handler):
    """Compares what there is before a row with what there is after it."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._descriptors = 0
        self._threads: set[threading.Thread] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._log: list[str] = []
        logging.root.addHandler(self)
        logging.root.setLevel(logging.WARNING)
        # Of wsframe nothing at all is expected above DEBUG.
        logging.getLogger("wsframe").setLevel(logging.INFO)
        sys.unraisablehook = lambda what: self.note(f"unraisable: {what.exc_value!r}")
        threading.excepthook = lambda what: self.note(f"a thread raised {what.exc_value!r}")

    def emit(self, record: logging.LogRecord) -> None:
        """Note what is logged: warnings and worse, and of wsframe everything above DEBUG."""
        error = "" if not record.exc_info or record.exc_info[1] is None else f" ({record.exc_info[1]!r})"
        self.note(f"{record.levelname} {record.name}: {record.getMessage()}{error}")

    def note(self, what: str) -> None:
        """Note what somebody who runs the process would see."""
        self._log.append(" ".join(what.split()))

    def begin(self) -> None:
        """A row begins."""
        gc.collect()
        self._log.clear()
        self._descriptors = _count_descriptors()
        self._threads = set(threading.enumerate())
        with contextlib.suppress(RuntimeError):
            self._tasks = asyncio.all_tasks()

    def look(self) -> dict[str, list[str]]:
        """The row is over: what is left, and what was logged."""
        deadline = time.monotonic() + _GRACE
        while self._left() and time.monotonic() < deadline:
            time.sleep(0.005)
        return self._found()

    async def look_async(self) -> dict[str, list[str]]:
        """As `look`, in an event loop."""
        deadline = time.monotonic() + _GRACE
        while self._left() and time.monotonic() < deadline:  # noqa: ASYNC110 - what is waited for does not know of it
            await asyncio.sleep(0.005)
        return self._found()

    def _found(self) -> dict[str, list[str]]:
        gc.collect()
        return {"left": self._left(), "log": list(self._log)}

    def _left(self) -> list[str]:
        left = [
            f"a thread: {thread.name}"
            for thread in set(threading.enumerate()) - self._threads
            # It belongs to the event loop, which keeps its threads.
            if not thread.name.startswith("asyncio_")
        ]
        # Without a loop there are none.
        with contextlib.suppress(RuntimeError):
            left += [f"a task: {task.get_coro()!r}" for task in asyncio.all_tasks() - self._tasks]
        more = _count_descriptors() - self._descriptors
        return [*left, f"{more} file descriptors"] if more > 0 else left


def _count_descriptors() -> int:
    return len(os.listdir(_DESCRIPTORS)) if os.path.isdir(_DESCRIPTORS) else 0
