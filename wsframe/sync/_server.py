"""``serve``: a WebSocket server on blocking sockets."""

from __future__ import annotations

import collections
import socket as socket_module
import ssl as ssl_module
import threading
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, Unpack

from .._adapter._addresses import HostLike, PathLike, addresses_for
from .._adapter._application import Application
from .._adapter._forwarded import TrustedProxies, proxies_for
from .._adapter._routing import Router
from .._adapter._serving import CLOSE_MARGIN, OnEnd, ask_whom
from .._adapter._settings import ConnectionOptions, settings_for
from .._adapter._trace import Trace, check_trace
from .._adapter_io._listening import ACCEPT_PAUSE, MAX_ACCEPTS, is_nothing
from .._enums import Cause, Role
from .._frames import pack_close
from .._negotiate import SAME_HOST, Origins, SubprotocolChoice
from ._driver import Driver
from ._link import logger
from ._listen import Listeners
from ._poll import Wanted, earliest, wait_ready
from ._registry import ServerRegistry
from ._serving import Handler, OnRequest, ServerConnection, ServerOptions, Serving

__all__ = ["Server", "serve"]

#: Seconds that handlers have at least to end after their connections have ended.
_HANDLER_GRACE = 1.0

#: So many connections that are refused because there are too many may be at the point of being told so.
_MAX_REFUSED = 64


class Server(ServerRegistry):
    """A server that listens. Made by `serve`; leaving its ``with`` statement closes it.

    Any thread may call its methods. Besides accepting, the thread in ``serve_forever`` looks after connections with
    which something is left to be done that none of their threads does: what waits to be written to a peer that did not
    take it at once, and closing handshakes.
    """

    def __init__(self, serving: Serving, listeners: Listeners, max_connections: int) -> None:
        super().__init__(serving.registry)
        serving.server = self
        self._serving = serving
        self._listeners: Listeners | None = listeners
        self._max_connections = max_connections
        # Can be taken twice by one thread, since a signal handler may call `close`; no other is taken while it is held.
        self._lock = serving.lock
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._deadline: float | None = None
        self._timeout: float | None = None
        self._farewell: tuple[int, str] = (1001, "")
        # Those without a thread, which are being told that there are too many; part of the connections.
        self._refused: set[ServerConnection] = set()
        # Threads that are telling the application about a refused connection.
        self._reporters: list[threading.Thread] = []
        self._threads: list[threading.Thread] = []
        self._closers: set[threading.Thread] = set()
        # Handlers that were named in the log.
        self._late: set[threading.Thread] = set()
        self._acceptor: threading.Thread | None = None
        self._pause_until: float | None = None
        self._waker = serving.waker
        self._users = 0

    @property
    def sockets(self) -> tuple[socket_module.socket, ...]:
        """The listening sockets; none once it is closing."""
        return () if self._listeners is None else tuple(self._listeners.sockets)

    @property
    def is_closing(self) -> bool:
        """``close`` was called."""
        return self._serving.closing

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
        """Wait for something to accept, and meanwhile look after those who need it."""
        if self._pause_until is not None and monotonic() >= self._pause_until:
            self._pause_until = None
        wanted = [(self._waker.fileno(), True, False)]
        if self._pause_until is None:
            wanted += [(listener.fileno(), True, False) for listener in self.sockets]
        refused = list(self._refused)
        drivers = [connection.driver for connection in refused]
        ready = self._wait_for([*drivers, *self._serving.attended()], wanted, self._pause_until)
        self._waker.clear()
        for connection in refused:
            if connection.driver.lost:
                self._report_refused(connection)
            else:
                connection.refuse()
        # `close` may be done already, if it was a signal handler that called it.
        for listener in () if self.is_closing else self.sockets:
            if listener.fileno() in ready:
                self._accept_from(listener)

    def _accept_from(self, listener: socket_module.socket) -> None:
        for _ in range(MAX_ACCEPTS):
            try:
                sock, address = listener.accept()
            except OSError as exc:
                # (A signal handler may have closed it just now.)
                if not is_nothing(exc) and listener.fileno() >= 0:
                    logger.error("no connections are accepted for %s s: %s", ACCEPT_PAUSE, exc)
                    self._pause_until = monotonic() + ACCEPT_PAUSE
                return
            self._take(sock, address)

    def _take(self, sock: socket_module.socket, address: Any) -> None:
        """Begin with a connection that was accepted."""
        try:
            connection = ServerConnection(self._serving, sock, address)
        except OSError as exc:
            logger.debug("connection from %s ended before it began: %s", address, exc)
            sock.close()
            return
        connections = self._serving.connections
        with self._lock:
            dropped = self._closed or len(self._refused) >= _MAX_REFUSED
            refused = self.is_closing or len(connections) - len(self._refused) >= self._max_connections
            if not dropped:
                connection.begin()
                connections.add(connection)
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
        if len(self._threads) > 2 * len(self._serving.connections) + 16:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        try:
            self._threads.append(connection.start())
        except RuntimeError as exc:
            logger.error("a connection is refused: %s", exc)
            with self._lock:
                self._refused.add(connection)
            return False
        return True

    def _wait_for(self, drivers: Iterable[Driver], wanted: list[Wanted], deadline: float | None) -> set[int]:
        """Wait until something is ready or a deadline has come, and let the drivers do what they can."""
        by_descriptor = {}
        dues = {}
        for driver in drivers:
            attention = driver.attention()
            if attention is None:
                self._serving.dismiss(driver)
            else:
                interest, dues[driver] = attention
                by_descriptor[interest[0]] = driver
                wanted.append(interest)
        until = earliest(deadline, *dues.values())
        ready = wait_ready(wanted, None if until is None else max(0.0, until - monotonic()))
        now = monotonic()
        late = {driver for driver, due in dues.items() if due is not None and due <= now}
        for driver in late | {by_descriptor[found] for found in ready if found in by_descriptor}:
            try:
                driver.pump()
            except Exception:
                # It is over with that one. The others do not have to know.
                logger.exception("a connection ends because its events could not be handled")
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
                return self._serving.ended.copy()
            self._closers.add(threading.current_thread())
            if not self.is_closing:
                self._serving.closing = True
                self._farewell = code, reason
                self._timeout = timeout
                self._serving.ended.clear()
            self._users += 1
        try:
            self._waker.wake()
            this = threading.current_thread()
            with self._lock:
                # Afterwards it adds no connections any more.
                self._changed.wait_for(lambda: self._acceptor in (None, this))
                listeners, self._listeners = self._listeners, None
                acceptor = self._acceptor
                if listeners is not None:
                    # Others who close it wait for what comes now.
                    self._acceptor = this
            if listeners is not None:
                try:
                    # Those that the system has accepted before hear why, too.
                    listeners.close(self._accept_from)
                finally:
                    with self._lock:
                        self._acceptor = acceptor
                        self._changed.notify_all()
            for connection in self._all():
                connection.close(*self._farewell)
            with self._lock:
                if self._deadline is None:
                    if self._timeout is None:
                        self._timeout = self._serving.close_timeout + CLOSE_MARGIN
                    self._deadline = monotonic() + self._timeout
                deadline = self._deadline
            self._wait_for_connections(deadline)
            self._wait_for_threads(max(deadline, monotonic() + _HANDLER_GRACE))
            with self._lock:
                self._closed = True
                self._changed.notify_all()
        finally:
            self._leave()
        return self._serving.ended.copy()

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
        while left := [connection.driver for connection in self._all() if not connection.driver.lost]:
            # Who ends without us wakes us.
            if monotonic() >= deadline:
                for driver in left:
                    with driver.lock:
                        driver.break_off()
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
            self._refused.discard(connection)
            self._serving.connections.discard(connection)
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

    def _all(self) -> list[ServerConnection]:
        with self._lock:
            return list(self._serving.connections)


def serve(
    handler: Handler | Application | Router,
    host: HostLike = None,
    port: int | None = None,
    *,
    unix_path: PathLike | None = None,
    unix_mode: int | None = None,
    sock: socket_module.socket | Sequence[socket_module.socket] | None = None,
    reuse_port: bool = False,
    backlog: int | None = None,
    ssl: ssl_module.SSLContext | None = None,
    origins: Origins = SAME_HOST,
    subprotocols: SubprotocolChoice = (),
    require_subprotocol: bool = False,
    on_request: OnRequest | None = None,
    trusted_proxies: TrustedProxies | Iterable[str] = (),
    on_end: OnEnd | None = None,
    max_connections: int = 1000,
    stream: bool = False,
    trace: Trace | None = None,
    **options: Unpack[ConnectionOptions],
) -> Server:
    """Listen; ``serve_forever`` accepts: ``with serve(handler, host, port) as server: server.serve_forever()``.

    Args:
        handler: function that is called with each `WebSocket`, in a thread of its own. When it returns the connection
            is closed with 1000, when it raises with 1011. Or an `Application`, whose methods are called by that thread
            instead, or a `Router`, which has one or the other for each path.
        host: address or name to listen on, a sequence of them, or None for all interfaces. Instead of a name there may
            be a pair of name and port, if several ports are wanted: ``[("localhost", 8000), ("10.0.0.1", 80)]``.
        port: TCP port; 0 picks one that is free on all addresses (see ``server.sockets``).
        unix_path: listen on a unix socket, in the place of TCP or, where host or port is given, besides. A file that
            a server has left behind is replaced; if one listens there, it is an error. The file is removed at the end.
            A path that begins with NUL is no file but a name (on Linux).
        unix_mode: permissions of that file, such as 0o660; by default those that the umask leaves.
        sock: a bound stream socket, or several, in the place of the above or besides. They are closed at the end.
        reuse_port: let other processes listen on the same TCP ports; the system shares the connections out.
        backlog: connections that the system keeps until they are accepted (100).
        ssl: a server-side TLS context, for wss.
        origins: which Origin headers may connect: ``SAME_HOST`` (the default), ``ANY_ORIGIN``, or a list of strings
            and compiled patterns.
        subprotocols: supported ones, the preferred first, or ``f(request, offered)`` that chooses.
        require_subprotocol: refuse clients with which none is agreed.
        on_request: called with every `Request`, for a WebSocket or not, in the connection's thread; a returned
            `Response` is sent instead of going on, and with an `Accept` it goes on in another way. Without it, plain
            HTTP requests are answered with 426.
        trusted_proxies: addresses and networks of proxies, and "unix" for those that come over a unix socket; or a
            `TrustedProxies`. Of requests that come from them, the remote address, the scheme and the Host are those
            that the proxies say (X-Forwarded-For, -Proto and -Host, or Forwarded). By default nobody is believed.
        on_end: called once for every connection, a WebSocket or not, with its `Request` (or None), the peer's address
            and its ending; by the connection's thread when the handler has returned.
        max_connections: how many connections, and so threads, there may be at a time; others are answered 503.
        stream: receive messages in pieces as they come; see ``WebSocket.recv_stream``. Not with an `Application`.
        trace: called with what goes through every connection: a `TracedHead` for each request and response, a
            `TracedFrame` for each frame; by the threads that read and write it, of which there may be two. For finding
            out what happens: it makes everything slower.
        options: see ``ConnectionOptions``.

    Raises:
        OSError: cannot listen there.
        TypeError, ValueError: an argument is wrong.
    """
    if isinstance(max_connections, bool) or not isinstance(max_connections, int):
        raise TypeError(f"max_connections must be an int, not {max_connections!r}")
    if max_connections <= 0:
        raise ValueError(f"max_connections must be positive, not {max_connections}")
    taker, on_request, judges_late = ask_whom(handler, on_request, stream=stream, is_plain=True)
    check_trace(trace)
    addresses = addresses_for(
        host,
        port,
        unix_path=unix_path,
        unix_mode=unix_mode,
        sock=sock,
        reuse_port=reuse_port,
        backlog=backlog,
    )
    server_options = ServerOptions(
        handler=taker,
        judges_late=judges_late,
        settings=settings_for(Role.SERVER, options),
        ssl=ssl,
        origins=origins,
        subprotocols=subprotocols,
        require_subprotocol=require_subprotocol,
        on_request=on_request,
        trusted_proxies=proxies_for(trusted_proxies),
        stream=stream,
        on_end=on_end,
        trace=trace,
    )
    # What is wrong with them shall be known now, and not when the first client comes.
    server_options.check()
    listeners = Listeners(addresses)
    return Server(Serving(server_options), listeners, max_connections)
