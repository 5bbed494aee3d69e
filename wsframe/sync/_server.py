"""``serve``: a WebSocket server on blocking sockets."""

from __future__ import annotations

import collections
import contextlib
import errno
import itertools
import os
import socket as socket_module
import ssl as ssl_module
import sys
import threading
from collections.abc import Sequence
from time import monotonic
from typing import Any, Unpack

from .._adapter._serving import CLOSE_MARGIN, OnEnd
from .._adapter._settings import ConnectionOptions, settings_for
from .._enums import Cause, Role
from .._events import Disconnected
from .._frames import pack_close
from .._negotiate import SAME_HOST, Origins, SubprotocolChoice
from ._link import logger
from ._poll import Waker, earliest, wait_ready
from ._serving import Handler, OnRequest, ServerConnection, ServerOptions

__all__ = ["Server", "serve"]

#: Seconds that handlers have at least to end after their connections have ended.
_HANDLER_GRACE = 1.0

#: So many connections that are refused because there are too many may be at the point of being told so.
_MAX_REFUSED = 64

#: Connections that are accepted from one listening socket before looking after the others.
_MAX_ACCEPTS = 64

#: The system is short of something: seconds until accepting is tried again.
_PAUSE = 1.0
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

#: It is no listening socket, or not any more.
_BROKEN = (errno.EBADF, errno.EINVAL, errno.ENOTSOCK)


class Server:
    """A server that listens. Made by `serve`; leaving its ``with`` statement closes it."""

    def __init__(
        self, options: ServerOptions, listeners: Sequence[socket_module.socket], max_connections: int
    ) -> None:
        self._options = options
        self._listeners = list(listeners)
        self._max_connections = max_connections
        # Can be taken twice by one thread, since a signal handler may call `close`; no other is taken while it is held.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._closing = False
        self._timeout = options.settings.timeouts.close + CLOSE_MARGIN
        self._deadline: float | None = None
        self._farewell: tuple[int, str] = (1001, "")
        self._ids = itertools.count(1)
        self._connections: set[ServerConnection] = set()
        # Those without a thread, which are being told that there are too many; part of the above.
        self._refused: set[ServerConnection] = set()
        # Threads that are telling the application about a refused connection.
        self._reporters: list[threading.Thread] = []
        self._ended: collections.Counter[Cause] = collections.Counter()
        self._threads: list[threading.Thread] = []
        self._closers: set[threading.Thread] = set()
        # Handlers that were named in the log.
        self._late: set[threading.Thread] = set()
        self._acceptor: threading.Thread | None = None
        self._pause_until: float | None = None
        self._waker = Waker()
        self._users = 0
        for listener in self._listeners:
            listener.setblocking(False)

    @property
    def sockets(self) -> tuple[socket_module.socket, ...]:
        """The listening sockets; none once it is closing."""
        return tuple(self._listeners)

    @property
    def is_closing(self) -> bool:
        """``close`` was called."""
        return self._closing

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Serving.

    def serve_forever(self) -> None:
        """Accept connections until ``close`` is called, or Ctrl-C or another exception comes, which closes.

        Without it nobody accepts anything: there is no thread behind a server. Every connection gets one, of which it
        is the only user.

        Raises:
            RuntimeError: another thread does that already.
        """
        with self._lock:
            if self._acceptor is not None:
                raise RuntimeError(f"serve_forever() is already running in {self._acceptor.name}")
            self._acceptor = threading.current_thread()
            self._users += 1
        try:
            while not self.is_closing:
                self._accept_turn()
        finally:
            with self._lock:
                self._acceptor = None
                self._changed.notify_all()
            try:
                self.close()
            finally:
                self._leave()

    def _accept_turn(self) -> None:
        """Wait for something to accept, and meanwhile look after those that are refused."""
        if self._pause_until is not None and monotonic() >= self._pause_until:
            self._pause_until = None
        wanted = [(self._waker.fileno(), True, False)]
        if self._pause_until is None:
            wanted += [(listener.fileno(), True, False) for listener in self._listeners]
        refused = list(self._refused)
        ready = self._wait_for(refused, wanted, self._pause_until)
        self._waker.clear()
        for connection in refused:
            if connection.driver.lost:
                self._report_refused(connection)
            else:
                connection.refuse()
        # `close` may be done already, if it was a signal handler that called it.
        for listener in () if self.is_closing else self._listeners:
            if listener.fileno() in ready:
                self._accept_from(listener)

    def _accept_from(self, listener: socket_module.socket) -> None:
        for _ in range(_MAX_ACCEPTS):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                if exc.errno in _SHORTAGES:
                    logger.error("cannot accept connections for %g s: %s", _PAUSE, exc)
                    self._pause_until = monotonic() + _PAUSE
                elif exc.errno in _BROKEN:
                    if not self.is_closing:
                        raise
                else:
                    # It is about the connection, which has failed before it was accepted.
                    logger.debug("a connection could not be accepted: %s", exc)
                return
            self._take(sock, address)

    def _take(self, sock: socket_module.socket, address: Any) -> None:
        """Begin with a connection that was accepted."""
        try:
            connection = ServerConnection(
                next(self._ids), self._options, sock, address, self._count, self._forget
            )
        except OSError as exc:
            logger.debug("connection from %s ended before it began: %s", address, exc)
            sock.close()
            return
        with self._lock:
            dropped = self._closed or len(self._refused) >= _MAX_REFUSED
            refused = self.is_closing or len(self._connections) - len(self._refused) >= self._max_connections
            if not dropped:
                self._connections.add(connection)
                if refused:
                    self._refused.add(connection)
        if dropped:
            logger.debug("connection from %s dropped: there are too many", address)
            with connection.driver.lock:
                connection.driver.break_off()
        elif refused or not self._start(connection):
            connection.refuse()

    def _start(self, connection: ServerConnection) -> bool:
        """Give it a thread; return whether there was one left."""
        if len(self._threads) > 2 * len(self._connections) + 16:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        try:
            self._threads.append(connection.start())
        except RuntimeError as exc:
            logger.error("a connection is refused: %s", exc)
            with self._lock:
                self._refused.add(connection)
            return False
        return True

    def _wait_for(
        self,
        connections: Sequence[ServerConnection],
        wanted: list[tuple[int, bool, bool]],
        deadline: float | None,
    ) -> set[int]:
        """Wait until something is ready or a deadline has come, and let the connections do what they can."""
        by_descriptor = {}
        dues = {}
        for connection in connections:
            driver = connection.driver
            interest = driver.interest()
            if interest is not None:
                by_descriptor[interest[0]] = driver
                wanted.append(interest)
                dues[driver] = driver.next_timeout()
        until = earliest(deadline, *dues.values())
        ready = wait_ready(wanted, None if until is None else max(0.0, until - monotonic()))
        now = monotonic()
        late = {driver for driver, due in dues.items() if due is not None and due <= now}
        for driver in late | {by_descriptor[found] for found in ready if found in by_descriptor}:
            driver.pump()
        return ready

    # Ending.

    def close(
        self, code: int = 1001, reason: str = "", timeout: float | None = None
    ) -> collections.Counter[Cause]:
        """Stop listening and end all connections: a Close frame for WebSockets, a 503 for opening handshakes.

        All have the same deadline. It looks after the connections, also for handlers that are busy, and drops those
        that have not ended then; and it waits for the handlers, until then or for a second. Python cannot stop a
        thread: a handler that still runs is named in the log, and ends with the process. Any thread may call this, also
        a handler, which is not waited for, and a signal handler. Calling it again waits for the same end.

        Args:
            code: the Close code, 1001 (going away) unless another is wanted.
            reason: at most 123 bytes as UTF-8.
            timeout: seconds until the deadline; without it that comes half a second after the ``close_timeout`` that
                each connection has in any case.

        Returns:
            how many of the connections that were there ended how.

        Raises:
            LocalProtocolError: the code or the reason may not be sent.
        """
        pack_close(code, reason, Role.SERVER)
        with self._lock:
            if self._closed:
                return self._ended.copy()
            self._closers.add(threading.current_thread())
            if not self._closing:
                self._closing = True
                self._farewell = code, reason
                if timeout is not None:
                    self._timeout = timeout
                self._ended.clear()
            self._users += 1
        try:
            self._waker.wake()
            with self._lock:
                # Afterwards it adds no connections any more.
                self._changed.wait_for(lambda: self._acceptor in (None, threading.current_thread()))
                listeners, self._listeners = self._listeners, []
            for listener in listeners:
                # Those that the system has accepted before hear why, too.
                self._accept_from(listener)
                listener.close()
            for connection in list(self._connections):
                connection.close(*self._farewell)
            with self._lock:
                if self._deadline is None:
                    self._deadline = monotonic() + self._timeout
                deadline = self._deadline
            self._wait_for_connections(deadline)
            self._wait_for_threads(max(deadline, monotonic() + _HANDLER_GRACE))
            with self._lock:
                self._closed = True
                self._changed.notify_all()
        finally:
            self._leave()
        return self._ended.copy()

    def _leave(self) -> None:
        """A thread does not wait with the waker any more; the last one closes it."""
        self._waker.wake()
        with self._lock:
            self._users -= 1
            if self._closed and not self._users:
                self._waker.close()

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until ``close``, called by somebody else, is done.

        Raises:
            TimeoutError: it is not done in time.
        """
        with self._lock:
            if not self._changed.wait_for(lambda: self._closed, timeout):
                raise TimeoutError(f"the server has not closed within {timeout:g} s")

    def _wait_for_connections(self, deadline: float) -> None:
        """Drive those that nobody else drives, and drop those that have not ended when the deadline comes."""
        while left := [connection for connection in list(self._connections) if not connection.driver.lost]:
            # Who ends without us wakes us.
            if monotonic() >= deadline:
                for connection in left:
                    with connection.driver.lock:
                        connection.driver.break_off()
                break
            self._wait_for(left, [(self._waker.fileno(), True, False)], deadline)
            self._waker.clear()
        for connection in list(self._refused):
            self._report_refused(connection)
        with self._lock:
            # Another thread may be closing too, or have been accepting, and still be telling of one.
            this = threading.current_thread()
            self._changed.wait_for(lambda: all(reporter is this for reporter in self._reporters))

    def _report_refused(self, connection: ServerConnection) -> None:
        """Tell the application about one that never had a thread; whoever comes first does it."""
        this = threading.current_thread()
        with self._lock:
            if connection not in self._refused:
                return
            self._forget(connection)
            self._reporters.append(this)
        try:
            connection.report()
        finally:
            with self._lock:
                self._reporters.remove(this)
                self._changed.notify_all()

    def _wait_for_threads(self, deadline: float) -> None:
        for thread in self._threads:
            if thread not in self._closers:
                thread.join(max(0.0, deadline - monotonic()))
                if thread.is_alive() and thread not in self._late:
                    self._late.add(thread)
                    logger.warning("a handler does not end although its connection has: %s", thread.name)

    # From the connections.

    def _count(self, ending: Disconnected) -> None:
        with self._lock:
            self._ended[ending.cause] += 1
        if self.is_closing:
            self._waker.wake()

    def _forget(self, connection: ServerConnection) -> None:
        with self._lock:
            self._connections.discard(connection)
            self._refused.discard(connection)


def serve(
    handler: Handler,
    host: str | Sequence[str] | None = None,
    port: int | None = None,
    *,
    sock: socket_module.socket | None = None,
    ssl: ssl_module.SSLContext | None = None,
    origins: Origins = SAME_HOST,
    subprotocols: SubprotocolChoice = (),
    require_subprotocol: bool = False,
    on_request: OnRequest | None = None,
    on_end: OnEnd | None = None,
    max_connections: int = 1000,
    **options: Unpack[ConnectionOptions],
) -> Server:
    """Listen; ``serve_forever`` accepts: ``with serve(handler, host, port) as server: server.serve_forever()``.

    Args:
        handler: function that is called with each `WebSocket`, in a thread of its own. When it returns the connection
            is closed with 1000, when it raises with 1011.
        host: address or name to listen on, a sequence of them, or None for all interfaces.
        port: TCP port; 0 picks a free one (see ``server.sockets``).
        sock: a listening socket to use instead of host and port.
        ssl: a server-side TLS context, for wss.
        origins: which Origin headers may connect: ``SAME_HOST`` (the default), ``ANY_ORIGIN``, or a list of strings
            and compiled patterns.
        subprotocols: supported ones, the preferred first, or ``f(request, offered)`` that chooses.
        require_subprotocol: refuse clients with which none is agreed.
        on_request: called with every `Request`, in the connection's thread; a returned `Response` is sent instead of
            going on. Without it, plain HTTP requests are answered with 426.
        on_end: called once for every connection, a WebSocket or not, with its `Request` (or None), the peer's address
            and its ending; by the connection's thread when the handler has returned.
        max_connections: how many connections, and so threads, there may be at a time; others are answered 503.
        options: see ``ConnectionOptions``.

    Raises:
        OSError: cannot listen there.
        TypeError, ValueError: an argument is wrong.
    """
    if isinstance(max_connections, bool) or not isinstance(max_connections, int):
        raise TypeError(f"max_connections must be an int, not {max_connections!r}")
    if max_connections <= 0:
        raise ValueError(f"max_connections must be positive, not {max_connections}")
    if sock is not None and (host is not None or port is not None):
        raise ValueError("host and port and sock cannot be specified at the same time")
    server_options = ServerOptions(
        handler=handler,
        settings=settings_for(Role.SERVER, options),
        ssl=ssl,
        origins=origins,
        subprotocols=subprotocols,
        require_subprotocol=require_subprotocol,
        on_request=on_request,
        on_end=on_end,
    )
    # What is wrong with them shall be known now, and not when the first client comes.
    server_options.new_endpoint()
    if sock is not None:
        listeners = [sock]
    else:
        listeners = _listen([host] if host is None or isinstance(host, str) else host, port or 0)
    return Server(server_options, listeners, max_connections)


def _listen(hosts: Sequence[str | None], port: int) -> list[socket_module.socket]:
    """Listening sockets for every address of every host, all on the same port."""
    with contextlib.ExitStack() as stack:
        listeners: list[socket_module.socket] = []
        for family, address in _addresses(hosts, port):
            if listeners and port == 0:
                # The one that the system has picked for the first.
                address = (address[0], listeners[0].getsockname()[1], *address[2:])
            try:
                listener = socket_module.socket(family, socket_module.SOCK_STREAM)
            except OSError:
                # Known by name, but not to this system's kernel.
                continue
            stack.callback(listener.close)
            if os.name == "posix" and sys.platform != "cygwin":
                listener.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_REUSEADDR, 1)
            if family == socket_module.AF_INET6:
                listener.setsockopt(socket_module.IPPROTO_IPV6, socket_module.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen()
            listeners.append(listener)
        if not listeners:
            raise OSError(f"cannot listen on {', '.join(map(str, hosts))}: no address family is supported")
        stack.pop_all()
    return listeners


def _addresses(hosts: Sequence[str | None], port: int) -> list[tuple[int, Any]]:
    found: dict[tuple[int, Any], None] = {}
    for host in hosts:
        for family, _, _, _, address in socket_module.getaddrinfo(
            host, port, type=socket_module.SOCK_STREAM, flags=socket_module.AI_PASSIVE
        ):
            if family in (socket_module.AF_INET, socket_module.AF_INET6):
                found[family, address] = None
    return list(found)
