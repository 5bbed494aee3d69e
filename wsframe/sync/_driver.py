"""``Driver``: drives a link by the threads that call. It obeys and decides nothing.

There is no thread behind a connection. Whoever waits for something (a message, a pong, room to send, the end) drives
it meanwhile: reads, writes, and keeps the deadlines. One of the waiting threads *leads*: it reads, or polls for what
is to be done next. The others wait until something has changed, or a deadline has come, and one of them takes over
when the leader leaves.

What is left to be done when nobody waits, or when the leader is in a receive, from which it does not come back to
write, is the *attendant's*: on a server, the thread in ``serve_forever``.

Everything is guarded by ``lock``, which is not held during a system call that may wait.
"""

from __future__ import annotations

import math
import ssl as ssl_module
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from .._adapter._owner import Owner
from .._client import Client
from .._enums import State
from .._events import Message
from .._server import Server
from ._link import Link
from ._poll import Waker, Wanted, earliest, wait_ready
from ._transport import LONGEST_WAIT, SyncTransport

__all__ = ["Attention", "Driver"]

T = TypeVar("T")

# Looking a member up in its enumeration costs as much as decoding a short message.
_OPEN = State.OPEN

#: So often input is taken at the most in one call that does not wait.
_MAX_TURNS = 64

#: What to wait for with poll, and a deadline on the clock of ``monotonic``.
Attention: TypeAlias = tuple[Wanted, float | None]

#: How many seconds messages may stay unread before the endpoint goes on with what it kept back behind them.
_UNREAD_WAIT = 1.0


class Driver(Link):
    """A link, and the threads that wait for something in it."""

    def __init__(self, endpoint: Client | Server, owner: Owner, transport: SyncTransport) -> None:
        super().__init__(endpoint, owner, transport)
        self._waits = transport.waits
        self._paused = False
        self._unread_since: float | None = None
        self._flushing = False
        #: The thread that is in the middle of a message in pieces, which nothing else may come between.
        self.composer: int | None = None
        # What was received, counted, but for what ``receive_message`` has.
        self._chunks = 0
        # Told of a driver with which something is left to be done; must not wait.
        self.attendant: Callable[[Driver], object] | None = None
        # What the attendant waits for, and until when, as far as it is known to.
        self._attended: Attention | None = None

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
            if self.pending or self.backlog or self.endpoint.state > _OPEN:
                self.leave_to_others()

    def pump(self) -> None:
        """Do what can be done without waiting. Takes the lock."""
        with self.lock:
            if not self.lost:
                now = monotonic()
                self._turn(now, now)

    def service(self, deadline: float) -> None:
        """Do what is due and take what comes, up to the deadline: what can be done without waiting in any case."""
        for _ in range(_MAX_TURNS):
            chunks = self._chunks
            if self.wait(lambda: self.lost, deadline) or self._chunks == chunks:
                break

    def begin_message(self, thread: int) -> None:
        """The thread has sent the first piece of a message, and no other one may send messages until its end."""
        self.composer = thread

    def end_message(self) -> None:
        """The message is complete, or will never be."""
        self.composer = None
        if self.backlog:
            # What has waited behind it.
            self.advance()
        self._notify()
        if self._polled is not None:
            assert self._waker is not None
            self._waker.wake()

    def leave_to_others(self) -> None:
        """The caller does not stay: what is left to be done, and no other thread will do, the attendant shall."""
        if self.attendant is not None and self._is_left_alone() and self._attended != self._attention():
            self._attended = None
            self.attendant(self)

    def attention(self) -> Attention | None:
        """What the attendant has to wait for before the next ``pump``; None when it is not needed. Takes the lock."""
        with self.lock:
            self._attended = self._attention() if self._is_left_alone() else None
            return self._attended

    def _is_left_alone(self) -> bool:
        return (
            not self.lost
            and (bool(self.pending) or bool(self.backlog) or self.endpoint.state is not _OPEN)
            # Who polls does it all.
            and self._polled is None
        )

    def _attention(self) -> Attention:
        if self._leader is None:
            wanted = self._wanted()
        else:
            # It reads by itself.
            wanted = self._transport.interest(False, bool(self.pending))
        return (self._transport.sock.fileno(), *wanted), self.next_timeout(monotonic())

    def _close(self) -> None:
        super()._close()
        if self._attended is not None and self.attendant is not None:
            # As long as it is in poll the system keeps the socket, and the peer would not hear that it is closed.
            self._attended = None
            self.attendant(self)

    @property
    def secured(self) -> bool:
        """Something can be said: there is no TLS, or its handshake is done."""
        return self._transport.secured

    def receive_message(self, thread: int, deadline: float | None) -> Message | None:
        """Wait for a message by one receive: a short turn, while there is nothing else to do and nothing else comes.

        Args:
            thread: the one that calls.
            deadline: on the clock of ``monotonic``.

        Returns:
            the message. None when it was not as simple as that: what came was delivered, and the rest is for ``wait``.
        """
        endpoint = self.endpoint
        while (
            self._waits
            and self._leader is None
            and not self.pending
            and not self._paused
            and not endpoint.has_more
            and endpoint.state is _OPEN
        ):
            now, timeout, due = monotonic(), LONGEST_WAIT, None
            if now > self._calm_until:
                due = self._look_at_deadlines(now)
                if due is not None and due - now < timeout:
                    timeout = due - now
            if deadline is not None and deadline - now < timeout:
                timeout = deadline - now
            self._leader = thread
            # This is ``_outside``, without another call.
            self._inside += 1
            try:
                try:
                    self.lock.release()
                    data = self._transport.receive(timeout)
                finally:
                    self.lock.acquire()
                    self._inside -= 1
                    if self.lost and not self._inside:
                        self._close()
            except OSError as exc:
                self._fail(exc)
                break
            except BaseException:
                # Somebody else may have to lead.
                self._notify()
                raise
            finally:
                self._leader = None
            if not data or self.lost:
                self._receive(data)
                break
            traffic = endpoint.traffic
            traffic.bytes_in += len(data)
            now = monotonic()
            try:
                events = endpoint.receive_data(data, now)
            except BaseException:
                self.break_off()
                raise
            if (due is None or now < due) and not self.pending:
                if len(events) == 1 and isinstance(message := events[0], Message):
                    traffic.messages_in += 1
                    if self._waiting:
                        self._changed.notify_all()
                    return message
                if not events and endpoint.state is _OPEN and (deadline is None or now < deadline):
                    # It was a part of one.
                    continue
            self.deliver(list, events)
            self._keep(due)
            break
        return None

    def _look_at_deadlines(self, now: float) -> float | None:
        """The next deadline. While all of them are far away, receiving need not ask again before every message."""
        due = self.endpoint.next_timeout(now)
        connection = self.endpoint.connection
        # The idle timeout wants to know when each message was sent.
        if connection is not None and connection.timeouts.idle is None:
            self._calm_until = math.inf if due is None else due - LONGEST_WAIT
        return due

    # One turn.

    def _turn(self, now: float, deadline: float | None) -> None:
        """Do what is to be done next, or wait until the deadline for something to do.

        It always looks into the socket before it tells the endpoint that a deadline is over: what counts may be there.
        """
        sent = self.sent
        if self.pending:
            self.advance()
        endpoint = self.endpoint
        due = self.next_timeout(now)
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
        self._keep(due)

    def _keep(self, due: float | None) -> None:
        """Tell the endpoint if its deadline is over."""
        if due is not None and not self.lost:
            now = monotonic()
            if now >= due:
                self.deliver(self.endpoint.handle_timeout, now)
                if self.backlog and self.backlog.expire(now):
                    self.advance()

    def _more_at(self, now: float) -> float | None:
        """When to take what the endpoint kept back: at once, or as soon as the application has read what it has.

        It may be the end of the connection, after which nothing that came before it can be answered any more.
        """
        endpoint, owner = self.endpoint, self.owner
        if not endpoint.has_more:
            return None
        if endpoint.state is not _OPEN or not owner.has_unread():
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
        # Who waits for the end of a message must hear of it, and a receive cannot be woken by that.
        if read and transport.waits and not self.pending and self.composer is None:
            timeout = LONGEST_WAIT if timeout is None else min(timeout, LONGEST_WAIT)
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
        if self.pending:
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
            self._outside(partial(wait_ready, descriptors), timeout)
        finally:
            self._polled = None
            self._waker.clear()

    def _follow(self, timeout: float | None) -> None:
        if self.pending and self._polled is None and not self._flushing:
            # The leader is receiving, and cannot be asked to wait for room as well.
            self._flushing = True
            try:
                self._outside(partial(wait_ready, [(self._transport.sock.fileno(), False, True)]), timeout)
            finally:
                self._flushing = False
            return
        self._waiting += 1
        try:
            self._changed.wait(timeout)
        finally:
            self._waiting -= 1

    def _outside(self, function: Callable[[float | None], T], timeout: float | None) -> T:
        """Make a system call that may wait. Meanwhile the lock is free, and nobody closes the socket."""
        self._inside += 1
        try:
            self.lock.release()
            return function(timeout)
        finally:
            self.lock.acquire()
            self._inside -= 1
            if self.lost and not self._inside:
                self._close()

    # Reading.

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
        self._chunks += 1
        if data:
            self.endpoint.traffic.bytes_in += len(data)
            self.deliver(self.endpoint.receive_data, data, monotonic())
        elif self._write_error is not None:
            self._fail(self._write_error)
        else:
            self._eof = True
            self.deliver(self.endpoint.receive_eof)
