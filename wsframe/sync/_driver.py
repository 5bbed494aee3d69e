"""``Driver``: drives one sans-IO endpoint over one socket, by the threads that call. It obeys and decides nothing.

There is no thread behind a connection. Whoever waits for something (a message, a pong, room to send, the end) drives
it meanwhile: reads, writes, and keeps the deadlines. One of the waiting threads *leads*: it reads, or polls for what
is to be done next. The others wait until something has changed, or a deadline has come, and one of them takes over
when the leader leaves.

Everything is guarded by ``lock``, which is not held during a system call that may wait. It can be taken twice by one
thread, so that a signal handler that interrupts the lock's owner does not wait for itself.
"""

from __future__ import annotations

import contextlib
import logging
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
from ._poll import Waker, earliest, wait_ready
from ._transport import Buffer, SyncTransport

__all__ = ["Driver", "logger"]

logger = logging.getLogger("wsframe")

T = TypeVar("T")

#: How many seconds messages may stay unread before the endpoint goes on with what it kept back behind them.
_UNREAD_WAIT = 1.0

#: So many seconds a thread receives at the most without a look at the deadlines. One that begins to close and goes away
#: cannot tell it of a new one.
_LOOK_AGAIN = 2.0

#: How often input is read at the most before a socket is closed, or before an error in writing is reported.
_MAX_DRAINS = 64


class Driver:
    """The way between an endpoint and a transport.

    Args:
        endpoint: the sans-IO side; replaced by its ``Connection`` once that exists.
        owner: who gets the events.
        transport: the socket, which belongs to the driver from now on.
    """

    def __init__(self, endpoint: Client | Server, owner: Owner, transport: SyncTransport) -> None:
        self.endpoint: Client | Server | Connection = endpoint
        self.owner: Owner = owner
        self.lock = threading.RLock()
        self.lost = False
        # How many bytes of the stream the system has taken.
        self.sent = 0
        self._transport = transport
        self._changed = threading.Condition(self.lock)
        self._waiting = 0
        # Handed out by the endpoint, and not taken by the system yet.
        self._pending: list[Buffer] = []
        self._pending_size = 0
        self._write_error: OSError | None = None
        self._write_over = False
        self._eof = False
        self._paused = False
        self._unread_since: float | None = None
        self._leader: int | None = None
        # What the leader polls for, and until when; None while it does not poll.
        self._polled: tuple[bool, bool] | None = None
        self._polled_until: float | None = None
        self._flushing = False
        # What is still to be called without the lock once the connection is lost.
        self._farewells: list[Callable[[], object]] = []
        # Threads in a system call, without the lock.
        self._inside = 0
        self._waker: Waker | None = None

    # For those who wait. The lock is held, unless it says otherwise.

    def wait(self, ready: Callable[[], Any], deadline: float | None = None) -> bool:
        """Drive until something is true, or the connection is lost, or it is too late.

        Args:
            ready: tells whether it is true.
            deadline: on the clock of ``monotonic``; in the past it means to try once, without waiting.

        Returns:
            whether it is true.
        """
        if ready():
            return True
        try:
            tried = False
            while not self.lost:
                now = monotonic()
                if tried and deadline is not None and now >= deadline:
                    return False
                self._turn(now, deadline)
                tried = True
                if ready():
                    return True
            return bool(ready())
        finally:
            # Somebody else may have to lead.
            self._notify()

    def pump(self) -> None:
        """Do what can be done without waiting. Takes the lock."""
        with self.lock:
            if not self.lost:
                now = monotonic()
                self._turn(now, now)

    def interest(self) -> tuple[int, bool, bool] | None:
        """What has to be waited for before the next ``pump``; None when it is over. Takes the lock."""
        with self.lock:
            if self.lost:
                return None
            # Who leads reads by itself.
            wanted = self._wanted() if self._leader is None else (False, bool(self._pending))
            return self._transport.sock.fileno(), *wanted

    def next_timeout(self) -> float | None:
        """The next deadline of the endpoint, on the clock of ``monotonic``. Takes the lock."""
        with self.lock:
            return None if self.lost else self.endpoint.next_timeout(monotonic())

    @property
    def secured(self) -> bool:
        """Something can be said: there is no TLS, or its handshake is done."""
        return self._transport.secured

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
        try:
            if not self._transport.secured:
                # Nothing can be said yet, so there is only one way to end it.
                if self.endpoint.transport is not Transport.OPEN:
                    self._end([])
                return
            if not self._write_over:
                self._flush()
            if self.endpoint.transport is not Transport.OPEN and not self.lost:
                self._obey()
        except BaseException:
            self.break_off()
            raise
        self.nudge()

    def nudge(self) -> None:
        """Let a leader that polls look again for what, and until when, if that has changed."""
        if self._polled is None:
            return
        due = self.endpoint.next_timeout(monotonic())
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

    # One turn.

    def _turn(self, now: float, deadline: float | None) -> None:
        """Do what is to be done next, or wait until the deadline for something to do.

        It always looks into the socket before it tells the endpoint that a deadline is over: what counts may be there.
        """
        sent = self.sent
        if self._pending:
            self.advance()
        endpoint = self.endpoint
        due = endpoint.next_timeout(now)
        more = self._more_at(now)
        if more is not None and more <= now:
            self._unread_since = None
            self.deliver(endpoint.receive_data, b"", now)
        elif not self.lost:
            until = earliest(deadline, due, more)
            timeout = None if until is None else max(0.0, until - now)
            if self.sent != sent:
                # That may be all that this thread waits for.
                timeout = 0.0
            if self._leader in (None, threading.get_ident()):
                self._lead(timeout)
            elif timeout != 0:
                self._follow(timeout)
        if due is not None and not self.lost:
            now = monotonic()
            if now >= due:
                self.deliver(self.endpoint.handle_timeout, now)

    def _more_at(self, now: float) -> float | None:
        """When to take what the endpoint kept back: at once, or as soon as the application has read what it has.

        It may be the end of the connection, after which nothing that came before it can be answered any more.
        """
        endpoint, owner = self.endpoint, self.owner
        if not endpoint.has_more:
            return None
        if endpoint.state is not State.OPEN or not owner.has_unread():
            return now
        if not owner.wants_data():
            return None
        # Nobody may ever read it, and somebody waits for something else.
        if self._unread_since is None:
            self._unread_since = now
        return self._unread_since + _UNREAD_WAIT

    def _lead(self, timeout: float | None) -> None:
        # This thread may lead already, interrupted by a signal whose handler waits, too.
        before, self._leader = self._leader, threading.get_ident()
        try:
            if self._transport.secured:
                self._exchange(timeout)
            else:
                self._secure(timeout)
        except OSError as exc:
            self._fail(exc)
        finally:
            self._leader = before

    def _exchange(self, timeout: float | None) -> None:
        transport = self._transport
        if not self._tell_paused():
            return
        read = self._may_read()
        if read and transport.waits and not self._pending:
            timeout = _LOOK_AGAIN if timeout is None else min(timeout, _LOOK_AGAIN)
            self._receive(self._outside(transport.receive, timeout))
            return
        if read and (transport.waits or transport.buffered or timeout == 0):
            data = transport.receive(0)
            if data is not None:
                self._receive(data)
                return
        if timeout == 0:
            return
        self._poll(timeout)
        if self._pending:
            self.advance()
        if not self.lost and self._may_read():
            self._receive(transport.receive(0))

    def _secure(self, timeout: float | None) -> None:
        try:
            done = self._transport.secure()
        except ssl_module.SSLEOFError:
            # Nothing could be cut off yet: the peer has gone.
            self._eof = True
            self._end(self.endpoint.receive_eof())
            return
        if done:
            self.advance()
        elif timeout != 0:
            self._poll(timeout)

    def _poll(self, timeout: float | None) -> None:
        if self._waker is None:
            self._waker = Waker()
        wanted = self._polled = self._wanted()
        self._polled_until = None if timeout is None else monotonic() + timeout
        descriptors = [(self._transport.sock.fileno(), *wanted), (self._waker.fileno(), True, False)]
        try:
            self._outside(wait_ready, descriptors, timeout)
        finally:
            self._polled = None
            self._waker.clear()

    def _follow(self, timeout: float | None) -> None:
        if self._pending and self._polled is None and not self._flushing:
            # The leader is receiving, and cannot be asked to wait for room as well.
            self._flushing = True
            try:
                self._outside(wait_ready, [(self._transport.sock.fileno(), False, True)], timeout)
            finally:
                self._flushing = False
            return
        self._waiting += 1
        try:
            self._changed.wait(timeout)
        finally:
            self._waiting -= 1

    def _outside(self, function: Callable[..., T], *arguments: Any) -> T:
        """Make a system call that may wait. Meanwhile the lock is free, and nobody closes the socket."""
        self._inside += 1
        self.lock.release()
        try:
            return function(*arguments)
        finally:
            self.lock.acquire()
            self._inside -= 1
            if self.lost and not self._inside:
                self._close()

    def _wanted(self) -> tuple[bool, bool]:
        """What to poll for."""
        reading = self._may_read() or not self._transport.secured
        return self._transport.interest(reading, bool(self._pending))

    def _notify(self) -> None:
        if self._waiting:
            self._changed.notify_all()

    # Reading.

    def _may_read(self) -> bool:
        if self._eof:
            return False
        endpoint = self.endpoint
        # While ending, always: the peer's Close has to be found.
        return endpoint.state is not State.OPEN or (not endpoint.has_more and self.owner.wants_data())

    def _tell_paused(self) -> bool:
        """Tell the endpoint whether anybody reads; return whether there still is something to read from."""
        paused = not self._eof and not self._may_read()
        if paused != self._paused:
            self._paused = paused
            self.endpoint.reading_paused(paused)
            self.advance()
        return not self.lost

    def _receive(self, data: memoryview | None) -> None:
        if data is None or self.lost:
            return
        if data:
            self.deliver(self.endpoint.receive_data, data, monotonic())
        elif self._write_error is not None:
            self._fail(self._write_error)
        else:
            self._eof = True
            self.deliver(self.endpoint.receive_eof)

    # Writing.

    def _flush(self) -> None:
        endpoint = self.endpoint
        while True:
            if not self._pending:
                # What is not handed out can still be dropped by the endpoint, or get a Close in front.
                self._pending = [data for data in endpoint.data_to_send() if data]
                if not self._pending:
                    break
                self._pending_size = sum(map(len, self._pending))
            try:
                count = self._transport.send(self._pending)
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
            while count >= len(self._pending[done]):
                count -= len(self._pending[done])
                done += 1
            self._pending[: done + 1] = [memoryview(self._pending[done])[count:]]
        else:
            self._pending = []
        self._notify()

    def _fail_to_write(self, exc: OSError) -> None:
        """The peer takes no more. What it said before it went, its Close for instance, is still to be heard."""
        self._write_over = True
        self._write_error = exc
        size = self._pending_size
        self._pending, self._pending_size = [], 0
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
                self.owner.handle_events(self.endpoint.receive_data(data, monotonic()))
        self._fail(exc)

    # Ending.

    def _obey(self) -> None:
        verdict = self.endpoint.transport
        if verdict is Transport.ABORT:
            self._end([])
        elif self._pending:
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
        self._pending, self._pending_size = [], 0
        owner, self.owner = self.owner, Nobody()
        try:
            owner.handle_events(events + self.endpoint.transport_closed())
        finally:
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
