"""Waiting for several sockets at once, and being woken from it."""

from __future__ import annotations

import contextlib
import math
import select
import socket
from collections.abc import Iterable

__all__ = ["Waker", "Wanted", "earliest", "wait_ready"]

#: Of a descriptor: whether to wait until it can be read, and whether until it can be written.
Wanted = tuple[int, bool, bool]


def wait_ready(wanted: Iterable[Wanted], timeout: float | None) -> set[int]:
    """Wait until one of the descriptors is ready, or broken.

    Args:
        wanted: descriptors, each with whether to wait for reading and for writing.
        timeout: in seconds; None waits without end.

    Returns:
        those on which something happened; none when the time is over.
    """
    # Of one for which nothing is wanted, poll would still tell that it is broken, again and again.
    wanted = [(descriptor, read, write) for descriptor, read, write in wanted if read or write]
    if not hasattr(select, "poll"):
        return _select(wanted, timeout)
    # Made anew each time: where somebody has replaced the function, as gevent does, that is meant for us too.
    poller = select.poll()
    for descriptor, read, write in wanted:
        poller.register(descriptor, (select.POLLIN if read else 0) | (select.POLLOUT if write else 0))
    # Rounded up: what wakes too early has to wait again.
    found = poller.poll(None if timeout is None else max(0, math.ceil(timeout * 1000)))
    return {descriptor for descriptor, _ in found}


def _select(wanted: list[Wanted], timeout: float | None) -> set[int]:
    """For Windows, which has no poll and reports a failed connect as exceptional."""
    readers = [descriptor for descriptor, read, _ in wanted if read]
    writers = [descriptor for descriptor, _, write in wanted if write]
    return set[int]().union(*select.select(readers, writers, writers, timeout))


class Waker:
    """A descriptor that becomes readable when somebody calls ``wake``."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """What to wait for."""
        return self._reader.fileno()

    def wake(self) -> None:
        """Wake whoever waits now, or else who does it next. Works in any thread and in signal handlers."""
        # A full buffer wakes as well as one byte more would; a closed one has nobody to wake.
        with contextlib.suppress(OSError):
            self._writer.send(b"\0")

    def clear(self) -> None:
        """Forget all calls of ``wake``."""
        with contextlib.suppress(OSError):
            while len(self._reader.recv(4096)) == 4096:
                pass

    def close(self) -> None:
        """Give the descriptors back."""
        self._reader.close()
        self._writer.close()


def earliest(*deadlines: float | None) -> float | None:
    """The first of some deadlines, of which None is none."""
    return min((deadline for deadline in deadlines if deadline is not None), default=None)
