"""Which transport carries a connection, and what its tasks wait with: it depends on the event loop.

On the loops that are known here, plain TCP is read from and written to on a descriptor of our own (`SocketTransport`),
and a task that waits for a message is woken from within the read (`Inbox`). Everything else, TLS above all, goes
through the loop's own transports, and on loops that nobody has tried, tasks wait with futures.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket as socket_module
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from threading import get_ident
from time import monotonic
from typing import Any, Protocol, TypeAlias, cast

from .. import _fastpath_py
from .._adapter._exceptions import ConnectionClosedOK, closed_error
from .._backend import Inbox, Lane, Receive, ReceiveQueue, SocketTransport
from .._config import Limits
from .._events import Disconnected
from ._threads import remember_thread

__all__ = [
    "NO_INBOX",
    "AnyInbox",
    "FutureInbox",
    "FutureReceive",
    "Over",
    "as_own_transport",
    "clock_of",
    "is_known",
    "lane_class",
    "new_inbox",
    "own_transport",
    "owns",
    "reader_of",
    "shared_buffer",
]

#: Size of the receive buffer that all connections of an event loop share: it is only in use between two calls.
_BUFFER_SIZE = 256 * 1024
_buffers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = weakref.WeakKeyDictionary()

OwnTransport: TypeAlias = SocketTransport | _fastpath_py.SocketTransport


def shared_buffer(loop: asyncio.AbstractEventLoop) -> memoryview:
    """What all connections of a loop receive into."""
    try:
        return _buffers[loop]
    except KeyError:
        remember_thread(loop)
        buffer = _buffers[loop] = memoryview(bytearray(_BUFFER_SIZE))
        return buffer


def owns(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether plain TCP connections of a loop are carried on descriptors of our own.

    ``WSFRAME_LOOP_TRANSPORTS=1`` in the environment says no: for tests, and for finding out who is at fault.
    """
    return is_known(loop) and os.environ.get("WSFRAME_LOOP_TRANSPORTS") != "1"


def is_known(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether it is a loop that this was made for, and tried with."""
    # Not a subclass of it, which may mean anything.
    kind = type(loop)
    return kind is asyncio.SelectorEventLoop or (kind.__module__, kind.__qualname__) == ("uvloop", "Loop")


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return a clock that goes with ``loop.time``; where that is the system's, the system is asked directly."""
    return monotonic if is_known(loop) else loop.time


def own_transport(
    loop: asyncio.AbstractEventLoop,
    sock: socket_module.socket,
    protocol: asyncio.BufferedProtocol,
    peername: object = None,
) -> OwnTransport:
    """Return what carries a connected socket, not started yet. A socket of another kind has methods of its own."""
    sock.setblocking(False)
    if sock.family in (socket_module.AF_INET, socket_module.AF_INET6):
        with contextlib.suppress(OSError):
            # Small messages shall not wait for more to come.
            sock.setsockopt(socket_module.IPPROTO_TCP, socket_module.TCP_NODELAY, 1)
    made = SocketTransport if type(sock) is socket_module.socket else _fastpath_py.SocketTransport
    look_again = not isinstance(loop, asyncio.SelectorEventLoop)
    return made(loop, sock, protocol, shared_buffer(loop), look_again, peername)


def as_own_transport(transport: object) -> OwnTransport | None:
    """Return it if it is one of these."""
    return transport if isinstance(transport, OwnTransport) else None


def lane_class(transport: object) -> type[Lane]:
    """Return the express lane that goes with a transport."""
    return _fastpath_py.Lane if isinstance(transport, _fastpath_py.SocketTransport) else Lane


class InboxOwner(Protocol):
    """What an inbox asks of whom it belongs to."""

    def why_over(self, iterating: bool) -> BaseException | None:
        """What tells a reader that nothing comes any more; None while something may."""

    def has_room(self) -> None:
        """It was full and is not any more, or is empty and was watched."""

    def check_caller(self, what: str) -> None:
        """Another thread than the one that made the inbox calls ``what``: raise if it must not."""


class Over:
    """Owns what is left of an inbox, and tells its reader how the connection has ended."""

    __slots__ = ("_ending",)

    def __init__(self, ending: Disconnected) -> None:
        self._ending = ending

    def why_over(self, iterating: bool) -> BaseException:
        """What tells a reader so."""
        error = closed_error(self._ending)
        return StopAsyncIteration() if iterating and isinstance(error, ConnectionClosedOK) else error

    def has_room(self) -> None:
        """Nothing is read any more."""

    def check_caller(self, what: str) -> None:
        """What is left belongs to nobody."""


class FutureInbox(ReceiveQueue):
    """What `Inbox` is, with futures: for loops that nobody has tried, where it is not known who can wake a task how."""

    def __init__(
        self,
        max_items: int,
        max_bytes: int,
        owner: InboxOwner,
    ) -> None:
        super().__init__(max_items, max_bytes)
        self._owner = owner
        self._future: asyncio.Future[None] | None = None
        self.reader: asyncio.Task[Any] | None = None
        self.turns = 0
        self._thread = get_ident()

    def close(self, owner: InboxOwner) -> None:
        """Nothing comes any more: let go of the owner, and ask this one instead."""
        self._owner = owner

    def on_room(self) -> None:
        """Tell the owner."""
        self._owner.has_room()

    def take(self, messages: list[Any]) -> bool:
        """Add messages and let the task go on that waits; return whether it is full."""
        for message in messages:
            self.put(message)
        self.wake()
        return self.full

    def wake(self) -> None:
        """Let the task go on that waits, if one does."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    wake_soon = wake

    async def receive(self, iterating: bool = False) -> str | bytes:
        """Wait for a message, and give its data."""
        await self.wait(iterating)
        data: str | bytes = self.get().data
        return data

    async def wait(self, iterating: bool) -> None:
        """Wait until there is a message."""
        self._check_reader()
        self.turns += 1
        if not self:
            self.reader = asyncio.current_task()
            try:
                while not self:
                    over = self._owner.why_over(iterating)
                    if over is not None:
                        try:
                            raise over
                        finally:
                            # Its traceback holds this frame.
                            del over
                    self._future = asyncio.get_running_loop().create_future()
                    await self._future
            finally:
                self._future = self.reader = None

    def _check_reader(self) -> None:
        if get_ident() != self._thread:
            self._owner.check_caller("recv")
        if self.reader is not None:
            name = self.reader.get_name()
            raise RuntimeError(f"recv() is already waiting in {name}; a WebSocket has one reader at a time")


class FutureReceive:
    """What `Receive` is, for a `FutureInbox`."""

    __slots__ = ("_inbox", "_iterating")

    def __init__(self, inbox: FutureInbox, iterating: bool = False) -> None:
        self._inbox = inbox
        self._iterating = iterating

    def __await__(self) -> Generator[Any, None, str | bytes]:
        return self._inbox.receive(self._iterating).__await__()

    def __aiter__(self) -> FutureReceive:
        return self

    def __anext__(self) -> FutureReceive:
        return self


class NoInbox(ReceiveQueue):
    """For those whose messages go elsewhere: nothing is put in, so that all of them have the same one."""

    reader = None

    def close(self, owner: InboxOwner) -> None:
        """Nobody asks."""

    def wake(self) -> None:
        """Nobody waits."""

    wake_soon = wake


NO_INBOX = NoInbox(1, 1)

AnyInbox: TypeAlias = Inbox | FutureInbox


def new_inbox(loop: asyncio.AbstractEventLoop, limits: Limits, owner: InboxOwner) -> AnyInbox:
    """Return what the tasks of that loop wait at.

    Args:
        loop: the event loop.
        limits: how much it should hold.
        owner: whom it belongs to.
    """
    size = limits.receive_queue_messages, limits.receive_queue_bytes
    if is_known(loop):
        return Inbox(*size, loop, asyncio.current_task, asyncio.CancelledError, owner, get_ident)
    return FutureInbox(*size, owner)


class Reader(Protocol):
    """What is awaited, or iterated over, to get the data of messages."""

    def __await__(self) -> Generator[Any, None, str | bytes]:
        """Wait for one."""

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        """Get all."""

    def __anext__(self) -> Awaitable[str | bytes]:
        """Wait for the next."""


def reader_of(inbox: AnyInbox, iterating: bool = False) -> Reader:
    """Return what is awaited, or iterated over, to get messages."""
    return cast(
        "Reader",
        FutureReceive(inbox, iterating) if isinstance(inbox, FutureInbox) else Receive(inbox, iterating),
    )
