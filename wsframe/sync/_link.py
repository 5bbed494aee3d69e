"""``Link``: one sans-IO endpoint and its socket. What the endpoint says is written, and what it decides is done.

Nothing in here waits: that is what ``Driver`` adds. All methods want ``lock`` to be held. It can be taken twice by one
thread, so that a signal handler that interrupts the lock's owner does not wait for itself.
"""

from __future__ import annotations

import contextlib
import logging
import math
import ssl as ssl_module
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeVar

from .._adapter._conduct import cause_of
from .._adapter._owner import Nobody, Owner
from .._client import Client
from .._connection import Connection
from .._enums import State, Transport
from .._events import Event
from .._server import Server
from ._backlog import Backlog
from ._poll import Waker, earliest
from ._transport import Buffer, SyncTransport

__all__ = ["Link", "logger"]

logger = logging.getLogger("wsframe")

T = TypeVar("T")

#: How often input is read at the most before a socket is closed, or before an error in writing is reported.
_MAX_DRAINS = 64


class Link:
    """The way between an endpoint and a transport.

    Args:
        endpoint: the sans-IO side; replaced by its ``Connection`` once that exists.
        owner: who gets the events.
        transport: the socket, which belongs to the link from now on.
    """

    def __init__(self, endpoint: Client | Server, owner: Owner, transport: SyncTransport) -> None:
        self.endpoint: Client | Server | Connection = endpoint
        self.owner: Owner = owner
        self.lock = threading.RLock()
        self.lost = False
        # How many bytes of the stream the system has taken.
        self.sent = 0
        # Handed out by the endpoint, and not taken by the system yet.
        self.pending: list[Buffer] = []
        self._pending_size = 0
        self._transport = transport
        self._write_error: OSError | None = None
        self._write_over = False
        self._eof = False
        # Until then receiving need not ask for deadlines. Whatever may bring one nearer ends in ``advance``.
        self._calm_until = -math.inf
        # Threads that wait for a change.
        self._changed = threading.Condition(self.lock)
        self._waiting = 0
        # The one that reads for all.
        self._leader: int | None = None
        # What the leader polls for, and until when; None while it does not poll.
        self._polled: tuple[bool, bool] | None = None
        self._polled_until: float | None = None
        self._waker: Waker | None = None
        # Threads in a system call, without the lock.
        self._inside = 0
        # What is still to be called without the lock once the connection is lost.
        self._farewells: list[Callable[[], object]] = []
        # What waits for room, until when at the most; made by those who need it.
        self.backlog: Backlog | None = None

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the endpoint. What Ctrl-C cuts short there cannot be trusted any more, and is aborted."""
        try:
            return function(*arguments)
        except Exception:
            raise
        except BaseException:
            self.break_off()
            raise

    def deliver(self, source: Callable[..., list[Event]], *arguments: Any) -> None:
        """Take events to the owner; then write what they have caused, all of it together."""
        try:
            self.owner.handle_events(source(*arguments))
        except BaseException:
            self.break_off()
            raise
        self._notify()
        self.advance()

    def advance(self) -> None:
        """Write what the endpoint wants to send, as far as that is possible, and obey its verdict."""
        if self.lost:
            return
        self._calm_until = -math.inf
        try:
            if not self._transport.secured:
                # Nothing can be said yet, so there is only one way to end it.
                if self.endpoint.transport is not Transport.OPEN:
                    self._end([])
                return
            if not self._write_over:
                self._flush()
            if self.backlog:
                self._release()
            if self.endpoint.transport is not Transport.OPEN and not self.lost:
                self._obey()
        except BaseException:
            self.break_off()
            raise
        self.nudge()

    def write(self) -> int:
        """As ``advance``; return where in the stream all of it ends: it has left when ``sent`` is there."""
        end = self.sent + self.endpoint.buffered
        self.advance()
        return end

    def send(self, function: Callable[[Any], object], message: object) -> int:
        """Call the endpoint with a message, and give that to the system at once. Returns as ``write`` does."""
        if self.pending or self._write_over:
            self.call(function, message)
            return self.write()
        try:
            function(message)
        except Exception:
            raise
        except BaseException:
            self.break_off()
            raise
        begin = self.sent
        try:
            buffers = self.endpoint.data_to_send()
            size = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
            try:
                count = self._transport.send(buffers)
            except OSError as exc:
                self.pending, self._pending_size = [*buffers], size
                self._fail_to_write(exc)
            else:
                if count == size:
                    self.sent += size
                else:
                    self.pending, self._pending_size = [*buffers], size
                    self._took(count)
        except BaseException:
            self.break_off()
            raise
        if self.pending or self._write_over:
            self.advance()
        elif self._polled is not None:
            self.nudge()
        return begin + size

    def nudge(self) -> None:
        """Let a leader that polls look again for what, and until when, if that has changed."""
        if self._polled is None:
            return
        due = self.next_timeout(monotonic())
        if self._polled != self._wanted() or earliest(due, self._polled_until) != self._polled_until:
            assert self._waker is not None
            self._waker.wake()

    def call_when_lost(self, farewell: Callable[[], object]) -> None:
        """Have something called, without the lock, by the thread that finds out; at once if that is this one."""
        if self.lost:
            self._say_farewell([farewell])
        else:
            self._farewells.append(farewell)

    def break_off(self) -> None:
        """Something that should not happen did: drop the connection."""
        if not self.lost:
            self.endpoint.abort()
            self._end([])

    # Of use to both.

    def next_timeout(self, now: float) -> float | None:
        """The next deadline, on the clock of ``monotonic``."""
        due = self.endpoint.next_timeout(now)
        return earliest(due, self.backlog.due) if self.backlog else due

    def _wanted(self) -> tuple[bool, bool]:
        """What to poll for."""
        reading = self._may_read() or not self._transport.secured
        return self._transport.interest(reading, bool(self.pending))

    def _may_read(self) -> bool:
        if self._eof:
            return False
        endpoint = self.endpoint
        # While ending, always: the peer's Close has to be found.
        return endpoint.state is not State.OPEN or (not endpoint.has_more and self.owner.wants_data())

    def _notify(self) -> None:
        if self._waiting:
            self._changed.notify_all()

    # Writing.

    def _flush(self) -> None:
        endpoint = self.endpoint
        while True:
            if not self.pending:
                # What is not handed out can still be dropped by the endpoint, or get a Close in front.
                self.pending = [data for data in endpoint.data_to_send() if data]
                if not self.pending:
                    break
                self._pending_size = sum(map(len, self.pending))
            try:
                count = self._transport.send(self.pending)
            except OSError as exc:
                self._fail_to_write(exc)
                return
            if not count:
                break
            self._took(count)
        endpoint.unsent(self._pending_size)

    def _took(self, count: int) -> None:
        self.sent += count
        self._pending_size -= count
        if self._pending_size:
            done = 0
            while count >= len(self.pending[done]):
                count -= len(self.pending[done])
                done += 1
            self.pending[: done + 1] = [memoryview(self.pending[done])[count:]]
        else:
            self.pending = []
        self._notify()

    def _fail_to_write(self, exc: OSError) -> None:
        """The peer takes no more. What it said before it went, its Close for instance, is still to be heard."""
        self._write_over = True
        self._write_error = exc
        size = self._pending_size
        self.pending, self._pending_size = [], 0
        if self._transport.waits and self._leader not in (None, threading.get_ident()):
            # The leader hears it, and then the end of the stream, also where this error alone does not bring it.
            self._transport.interrupt()
            # Until then whoever sends must not think that it has left.
            self.endpoint.unsent(size)
            return
        with contextlib.suppress(OSError):
            for _ in range(_MAX_DRAINS):
                data = None if self._eof else self._transport.receive(0)
                if not data:
                    break
                self.endpoint.traffic.bytes_in += len(data)
                self.owner.handle_events(self.endpoint.receive_data(data, monotonic()))
        self._fail(exc)

    def _release(self) -> None:
        """Queue what has waited for room, as far as there is any."""
        assert self.backlog is not None
        # Where nothing can be written any more, the end is near and will be told.
        while not self.lost and not (self._write_over and self.endpoint.state is State.OPEN):
            if not self.backlog.release():
                break
            self._flush()
        self._notify()

    # Ending.

    def _obey(self) -> None:
        verdict = self.endpoint.transport
        if verdict is Transport.ABORT:
            self._end([])
        elif self.pending:
            return
        elif verdict is Transport.CLOSE:
            self._leave()
            self._end([])
        elif not self._write_over:
            self._write_over = True
            if self._transport.can_half_close:
                self._transport.shutdown_write()

    def _leave(self) -> None:
        """Before an orderly close: unread input would make the system reset it, and the peer lose what was sent."""
        self._transport.say_goodbye()
        if self._eof or self._leader not in (None, threading.get_ident()):
            return
        with contextlib.suppress(OSError):
            for _ in range(_MAX_DRAINS):
                if not self._transport.receive(0):
                    break

    def _fail(self, exc: OSError) -> None:
        if not self.lost:
            # When it is that the transport is gone; of the calls that follow none can say so.
            self.endpoint.next_timeout(monotonic())
            self._end(self.endpoint.receive_error(exc, cause_of(exc, ssl_module.SSLError)))

    def _end(self, events: list[Event]) -> None:
        """The transport is gone, or is dropped."""
        if self.lost:
            return
        self.lost = True
        self.pending, self._pending_size = [], 0
        owner, self.owner = self.owner, Nobody()
        try:
            owner.handle_events(events + self.endpoint.transport_closed())
        finally:
            if self.backlog:
                self.backlog.release()
            self._notify()
            if self._waker is not None:
                self._waker.wake()
            if self._inside:
                # Whoever is the last to come back closes it.
                self._transport.interrupt()
            else:
                self._close()
            farewells, self._farewells = self._farewells, []
            self._say_farewell(farewells)

    def _say_farewell(self, farewells: list[Callable[[], object]]) -> None:
        if not farewells:
            return
        # As a Condition does, however often this thread has the lock: what is called may wait for others that want it.
        state = self.lock._release_save()  # type: ignore[attr-defined]
        try:
            for farewell in farewells:
                try:
                    farewell()
                except Exception:
                    logger.exception("a callback for the end of a connection raised an exception")
        finally:
            self.lock._acquire_restore(state)  # type: ignore[attr-defined]

    def _close(self) -> None:
        self._transport.close()
        if self._waker is not None:
            self._waker.close()
