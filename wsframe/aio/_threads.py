"""Threads other than the event loop's: what they may not do, and how they send."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["check_thread", "remember_thread", "run_in_loop"]

#: By event loop: the name of the thread in which it ran when its first connection was made.
_names: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, str] = weakref.WeakKeyDictionary()


def remember_thread(loop: asyncio.AbstractEventLoop) -> None:
    """This is the thread of that loop, for those who have to be told."""
    _names[loop] = threading.current_thread().name


def check_thread(loop: asyncio.AbstractEventLoop, what: str) -> None:
    """While a loop is running, only its own thread may touch what belongs to it.

    Raises:
        RuntimeError: this is another thread.
    """
    if asyncio._get_running_loop() is not loop and loop.is_running():
        raise RuntimeError(
            f"{what}() was called in thread {threading.current_thread().name!r}, but this WebSocket belongs to the"
            f" event loop in thread {_names.get(loop, 'unknown')!r}; send_threadsafe() is for other threads, and"
            " so is loop.call_soon_threadsafe()"
        )


def run_in_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any
) -> concurrent.futures.Future[None]:
    """Run a coroutine function as a task of a loop, from any thread.

    Returns:
        what becomes of it. Cancelling this cancels the task.
    """
    job = _Job(loop, function, arguments)
    try:
        loop.call_soon_threadsafe(job)
    except RuntimeError as exc:
        job.fail(exc)
    return job.future


class _Job:
    """What a thread wants to have done. Nobody but the event loop holds it, so it knows when that has dropped it."""

    __slots__ = ("_arguments", "_function", "_loop", "future")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        function: Callable[..., Coroutine[Any, Any, None]],
        arguments: tuple[Any, ...],
    ) -> None:
        self.future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._loop = loop
        self._function = function
        self._arguments = arguments

    def __call__(self) -> None:
        """Begin: in a task, whose first step comes after those of earlier ones, so that the order is kept."""
        if self.future.cancelled():
            self._settle(None)
            return
        task = self._loop.create_task(self._function(*self._arguments))
        task.add_done_callback(self._finish)
        self.future.add_done_callback(functools.partial(_cancel, self._loop, weakref.ref(task)))

    def fail(self, cause: BaseException | None = None) -> None:
        """It cannot be done any more."""
        error = RuntimeError("the event loop of this WebSocket was closed before this was sent")
        error.__cause__ = cause
        self._settle(error)

    def __del__(self) -> None:
        if not self.future.done():
            self.fail()

    def _finish(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            self.future.cancel()
        self._settle(None if task.cancelled() else task.exception())

    def _settle(self, exc: BaseException | None) -> None:
        # It may be cancelled in this very moment, by another thread.
        if not self.future.set_running_or_notify_cancel():
            return
        if exc is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(exc)


def _cancel(
    loop: asyncio.AbstractEventLoop,
    task: weakref.ref[asyncio.Task[None]],
    future: concurrent.futures.Future[None],
) -> None:
    """It is done, or was cancelled, by whatever thread."""
    running = task()
    if running is not None and future.cancelled():
        # A loop that is closed has nothing left to cancel.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(running.cancel)
