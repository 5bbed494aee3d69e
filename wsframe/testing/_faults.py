"""What goes wrong, and when: operations are counted, the n-th of them fails, and a sweep lets each fail once."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from typing import Any, Literal, Protocol, TypeVar

__all__ = ["CancelAt", "Fault", "Faults", "Sweepable", "sweep"]

T = TypeVar("T")


class Fault(enum.Enum):
    """Failures that are no exceptions."""

    EOF = "eof"
    """From here on receiving finds the end of the stream, whatever the peer sends."""
    PARTIAL = "partial"
    """This operation moves one byte at the most."""
    STALL = "stall"
    """From here on nothing moves, and nobody is told: the network is gone. For transports in memory only."""


class Sweepable(Protocol):
    """What `sweep` needs to know."""

    @property
    def fired(self) -> bool:
        """Whether its moment has come."""


S = TypeVar("S", bound=Sweepable)


class Faults:
    """Counts and names the I/O operations of the transport or socket that it is given to, and lets one of them fail.

    The operations have the names of system calls: ``connect``, ``recv``, ``send``, ``shutdown``; sockets have more of
    them, see `FaultySocket`.

    Attributes:
        operations: the names of those that were begun, in order.
        failed: the name of the one that failed; None while none has.
    """

    def __init__(self) -> None:
        self.operations: list[str] = []
        self.failed: str | None = None
        self._n: int | None = None
        self._only: str | None = None
        self._counted = 0
        self._fault: BaseException | type[BaseException] | Fault = Fault.PARTIAL

    def fail_at(
        self, n: int, fault: BaseException | type[BaseException] | Fault, *, operation: str | None = None
    ) -> Faults:
        """Let the n-th operation fail; returns itself.

        An `OSError` breaks the connection: what failed in receiving, or in connecting, fails for good in all
        directions; what failed in sending leaves what was received before readable, as TCP does. `BlockingIOError`,
        `InterruptedError` and what is no `OSError`, such as `KeyboardInterrupt`, are raised once.

        Args:
            n: 1 for the first operation.
            fault: an exception (or its class) that is raised instead of doing it, or a `Fault`.
            operation: count only those of that name.

        Raises:
            ValueError: n is less than 1.
        """
        if n < 1:
            raise ValueError(f"operations are counted from 1, not from {n}")
        self._n, self._fault, self._only = n, fault, operation
        return self

    @property
    def fired(self) -> bool:
        """Whether an operation has failed."""
        return self.failed is not None

    def begin(self, operation: str) -> Fault | None:
        """Called by transports and sockets before each operation: count it, and say what is wrong with it.

        Raises:
            BaseException: the one that it is to fail with.
        """
        self.operations.append(operation)
        if self.failed is not None:
            return self._again(operation)
        if self._n is None or self._only not in (None, operation):
            return None
        self._counted += 1
        if self._counted < self._n:
            return None
        self.failed = operation
        return self._fail()

    def _again(self, operation: str) -> Fault | None:
        fault = self._fault
        if isinstance(fault, Fault):
            return None if fault is Fault.PARTIAL else fault
        kind = fault if isinstance(fault, type) else type(fault)
        broken = issubclass(kind, OSError) and not issubclass(kind, (BlockingIOError, InterruptedError))
        # A connection that cannot be written to may still have something to be read.
        dead = operation == "send" or (operation == "recv" and self.failed in ("recv", "connect"))
        return self._fail() if broken and dead else None

    def _fail(self) -> Fault:
        fault = self._fault
        if isinstance(fault, Fault):
            return fault
        raise fault


class CancelAt:
    """Cancels a coroutine where it waits for the n-th time: ``await CancelAt(3)(main())``.

    What is awaited without waiting, because it is there already, does not count.

    Args:
        n: 1 for the first time; None only counts.
        when: ``"wait"`` cancels as soon as the coroutine waits; ``"wake"`` at the moment when what it waits for has
            come, and it has not heard of that yet.

    Attributes:
        waits: how often it has waited.
        fired: whether it was cancelled.

    Raises:
        ValueError: n is less than 1.
    """

    def __init__(self, n: int | None = None, when: Literal["wait", "wake"] = "wait") -> None:
        if n is not None and n < 1:
            raise ValueError(f"waits are counted from 1, not from {n}")
        self.waits = 0
        self.fired = False
        self._n = n
        self._when = when

    def __call__(self, coroutine: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """The same coroutine, watched."""
        return _Watched(self, coroutine)

    def _wait(self, awaited: Any) -> None:
        self.waits += 1
        if self.waits != self._n:
            return
        task = asyncio.current_task()
        assert task is not None
        if self._when == "wait" or not isinstance(awaited, asyncio.Future):
            self.fired = True
            task.cancel()
            return

        def cancel(_: object) -> None:
            self.fired = True
            task.cancel()

        # It is called before the task's own, which is added when the task has got hold of it.
        awaited.add_done_callback(cancel)


class _Watched(Awaitable[T]):
    """Passes everything on between a coroutine and the task that runs it."""

    def __init__(self, watcher: CancelAt, coroutine: Coroutine[Any, Any, T]) -> None:
        self._watcher = watcher
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, T]:
        coroutine = self._coroutine
        step: Callable[[], Any] = lambda: coroutine.send(None)  # noqa: E731
        while True:
            try:
                awaited = step()
            except StopIteration as stop:
                result: T = stop.value
                return result
            self._watcher._wait(awaited)
            try:
                value = yield awaited
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as exc:
                step = _thrower(coroutine, exc)
            else:
                step = _sender(coroutine, value)


def _sender(coroutine: Coroutine[Any, Any, T], value: Any) -> Callable[[], Any]:
    return lambda: coroutine.send(value)


def _thrower(coroutine: Coroutine[Any, Any, T], exc: BaseException) -> Callable[[], Any]:
    return lambda: coroutine.throw(exc)


def sweep(make: Callable[[int], S], *, limit: int = 10_000) -> Iterator[S]:
    """Faults for the first, the second, ... the n-th operation, until one is not reached any more.

    ``for faults in sweep(lambda n: Faults().fail_at(n, ConnectionResetError())):`` and ``for cancel in
    sweep(CancelAt):`` run their body once for every point at which something can go wrong, and once untouched.

    Args:
        make: makes what fails or cancels at the n-th point.
        limit: more points than this are a mistake.

    Raises:
        RuntimeError: there are more points than ``limit``.
    """
    for n in range(1, limit + 1):
        made = make(n)
        yield made
        if not made.fired:
            return
    raise RuntimeError(f"still failing at point {limit}: does the body not use what it is given?")
