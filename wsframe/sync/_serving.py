"""What is behind a `Server`: its connections, from accept to their end, and the thread that each has."""

from __future__ import annotations

import collections
import functools
import inspect
import socket as socket_module
import ssl as ssl_module
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from .._adapter._answers import Accept, Answer
from .._adapter._application import Application, check_handler
from .._adapter._conduct import answer_failure, is_end_of
from .._adapter._owner import Opening
from .._adapter._serving import CommonOptions
from .._adapter._trace import Trace
from .._connection import Connection
from .._enums import Cause, State
from .._events import Disconnected, Event, Opened, RequestReceived
from .._http import Request
from .._server import Server
from ._application import ApplicationWebSocket
from ._driver import Driver
from ._link import logger
from ._poll import Waker
from ._registry import SharedRegistry
from ._streaming import websocket_class
from ._tls import TlsTransport
from ._trace import traced
from ._transport import open_transport, prepare
from ._websocket import WebSocket

if TYPE_CHECKING:
    from ._server import Server as RunningServer

__all__ = ["Handler", "OnRequest", "ServerConnection", "ServerOptions", "Serving"]

Handler: TypeAlias = Callable[[WebSocket], object]
OnRequest: TypeAlias = Callable[[Request], Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(CommonOptions):
    """The arguments of ``serve`` that concern every connection."""

    #: None where the answer to the request says which.
    handler: Handler | Application | None
    ssl: ssl_module.SSLContext | None
    on_request: OnRequest | None
    trace: Trace | None


class Serving:
    """What the connections of a server share.

    Attributes:
        server: the server itself, which has made known that it has these.
        lock: guards what is shared. It can be taken twice by one thread, since a signal handler may close the server.
            Who holds it takes no other.
        registry: the connections by their ids.
        closing: the server is.
        close_timeout: the longest that any connection may take to close, in seconds.
        ended: how many have ended how since the server is closing.
        connections: those that have a thread, or are being refused.
        waker: wakes the thread that looks after them.
    """

    server: RunningServer

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.lock = threading.RLock()
        self.registry = SharedRegistry(self.lock)
        self.closing = False
        self.close_timeout = options.settings.timeouts.close
        self.ended: collections.Counter[Cause] = collections.Counter()
        self.connections: set[ServerConnection] = set()
        self.waker = Waker()
        # Those with which something is to be done that nobody else does.
        self._attended: set[Driver] = set()

    def attend(self, driver: Driver) -> None:
        """Look after a connection until all is done that can be done without waiting for its own threads."""
        # Not with the lock: what is done to a set in one call needs none.
        self._attended.add(driver)
        self.waker.wake()

    def attended(self) -> set[Driver]:
        """Those who are looked after."""
        return self._attended.copy()

    def dismiss(self, driver: Driver) -> None:
        """There is nothing to be done with it any more; unless it has said so again just now."""
        with driver.lock:
            if driver.attention() is None:
                self._attended.discard(driver)

    def count(self, ending: Disconnected) -> None:
        """A connection has ended."""
        with self.lock:
            self.ended[ending.cause] += 1
        if self.closing:
            self.waker.wake()

    def forget(self, connection: ServerConnection) -> None:
        """A connection's thread is done with it."""
        with self.lock:
            self.connections.discard(connection)


class ServerConnection(Opening):
    """One connection; owns the driver until there is a `WebSocket`.

    Args:
        serving: whose.
        sock: what was accepted.
        address: from where.

    Raises:
        OSError: the socket is of no use.
    """

    def __init__(self, serving: Serving, sock: socket_module.socket, address: Any) -> None:
        options = serving.options
        self.id = serving.registry.new_id()
        self._serving = serving
        self._options = options
        self._remote_address = address
        self._local_address = sock.getsockname()
        self._opening = options.new_endpoint()
        # What the endpoint has got, as it was before proxies passed it on; and what was said to it.
        self._request: Request | None = None
        self._accept: Accept | None = None
        self._handler: Any = options.handler
        self._websocket: WebSocket | None = None
        self._ending: Disconnected | None = None
        self._is_registered = False
        self._requested = False
        prepare(sock)
        transport = (
            open_transport(sock) if options.ssl is None else TlsTransport(sock, options.ssl, server_side=True)
        )
        self.driver = Driver(self._opening, self, traced(transport, options.trace, self.id, is_server=True))
        self.driver.attendant = serving.attend

    @property
    def server(self) -> RunningServer:
        """Whose it is."""
        return self._serving.server

    @property
    def registry(self) -> SharedRegistry:
        """Where its server finds it."""
        return self._serving.registry

    @property
    def endpoint(self) -> Server | Connection:
        """The sans-IO side."""
        endpoint = self.driver.endpoint
        assert isinstance(endpoint, (Server, Connection))
        return endpoint

    @property
    def websocket(self) -> WebSocket | None:
        """What it has become; None if it was opened only to be closed."""
        return self._websocket

    @property
    def addresses(self) -> tuple[Any, Any]:
        """The local one and the peer's, as sockets give them."""
        return self._local_address, self._remote_address

    @property
    def request(self) -> Request | None:
        """The request, if it has come."""
        return self._opening.request if self._request is None else self._request

    def begin(self) -> None:
        """It is one of the server's from now on."""
        self.registry.add(self)
        self._is_registered = True

    def start(self) -> threading.Thread:
        """Give it a thread.

        Raises:
            RuntimeError: the system has no more.
        """
        # The interpreter does not wait for them when it ends: `Server.close` does, and knows how long.
        thread = threading.Thread(target=self._run, name=f"wsframe {self._remote_address}", daemon=True)
        thread.start()
        return thread

    def close(self, code: int, reason: str) -> None:
        """Begin to end it in order, in whatever state it is."""
        driver = self.driver
        with driver.lock:
            driver.call(driver.endpoint.close, code, reason)
            driver.advance()

    def refuse(self) -> None:
        """Say that there are too many, as soon as anything can be said. May be called again and again."""
        if self.driver.secured:
            self.close(1001, "")

    def report(self) -> None:
        """Tell the application that the connection has ended; does nothing the second time."""
        with self.driver.lock:
            ending, self._ending = self._ending, None
        if ending is None:
            return
        if isinstance(self._websocket, ApplicationWebSocket):
            self._websocket.tell_end(ending)
        elif self._websocket is None and isinstance(self._options.handler, Application):
            try:
                self._options.handler.on_disconnect(self.request, self._remote_address, ending)
            except BaseException:
                logger.exception("on_disconnect raised an exception")
        self._leave_registry(ending)
        self._options.report(self.request, self._remote_address, ending, logger)

    def _leave_registry(self, ending: Disconnected) -> None:
        if self._is_registered:
            self._is_registered = False
            self.registry.remove(self, ending)

    # In its own thread.

    def _run(self) -> None:
        driver = self.driver
        try:
            with driver.lock:
                driver.wait(lambda: self._requested)
            if self._requested:
                self._answer()
            websocket = self._websocket
            if isinstance(websocket, ApplicationWebSocket):
                websocket.run()
            elif websocket is not None:
                _run_handler(self._handler, websocket)
            with driver.lock:
                driver.wait(lambda: driver.lost)
        except Exception:
            logger.exception("a connection ends because its events could not be handled")
        finally:
            with driver.lock:
                driver.break_off()
            self.report()
            # It knows of this.
            self._websocket = None
            self._serving.forget(self)

    def _answer(self) -> None:
        """Ask the application, without the lock, and do what it says."""
        driver, options, opening = self.driver, self._options, self._opening
        try:
            with driver.lock:
                if opening.state is not State.HANDSHAKE:
                    return
                scheme = "http" if options.ssl is None else "https"
                request = options.judge(opening, self._remote_address, scheme)
                if request is None:
                    driver.advance()
                    return
            self._request = request
            self._remote_address = request.remote_address
            said = None
            if options.on_request is not None:
                with driver.lock:
                    # It may take its time. The peer may not wait so long.
                    driver.leave_to_others()
                said = _waited_for_by_nobody(options.on_request(request))
                # Meanwhile the peer may have gone, time may be over, or the server may have begun to close.
                driver.pump()
            if isinstance(said, Accept):
                self._take_up(said)
            with driver.lock:
                if opening.state is State.HANDSHAKE:
                    events = driver.call(options.answer, opening, request, said)
                    driver.deliver(lambda: events)
        except Exception:
            logger.exception("on_request raised an exception")
            with driver.lock:
                answer_failure(opening)
                driver.advance()

    def _take_up(self, accept: Accept) -> None:
        """Go on as an answer says.

        Raises:
            TypeError: nothing that could be called would take the connection.
        """
        self._accept = accept
        if accept.close is not None:
            return
        if accept.handler is not None:
            self._handler = accept.handler
        check_handler(self._handler, stream=self._options.stream, is_plain=True)
        if accept.params and not isinstance(self._handler, Application):
            self._handler = functools.partial(self._handler, **accept.params)

    # From the driver.

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._requested = True
        elif isinstance(event, Disconnected):
            self.ended(event)

    def _on_opened(self, opened: Opened, rest: list[Event]) -> None:
        connection, request, accept = self._opening.connection, self._request, self._accept
        assert connection is not None
        assert request is not None
        known: dict[str, Any] = {
            "local_address": self._local_address,
            "remote_address": self._remote_address,
            "record": self,
        }
        if accept is not None:
            if accept.context is not None:
                request.attach(accept.context)
            serving = self._serving
            serving.close_timeout = max(serving.close_timeout, connection.timeouts.close)
            if accept.close is not None:
                # For the application it is none.
                WebSocket(self.driver, connection, request, **known)
                connection.close(*accept.close)
                return
        handler = self._handler
        websocket = (
            ApplicationWebSocket(handler, self.driver, connection, request, **known)
            if isinstance(handler, Application)
            else websocket_class(connection)(self.driver, connection, request, **known)
        )
        if accept is not None and accept.params:
            websocket.path_params = accept.params
        self._websocket = websocket
        self.registry.opened(connection, monotonic())
        websocket.handle_events(rest)

    def ended(self, ending: Disconnected) -> None:
        """It has ended."""
        self._ending = ending
        if self._websocket is not None and not isinstance(self._websocket, ApplicationWebSocket):
            # Its handler may take its time. (The others are told first.)
            self._leave_registry(ending)
        self._serving.count(ending)


def _waited_for_by_nobody(said: Any) -> Answer:
    """What ``on_request`` has returned.

    Raises:
        TypeError: it is something to await.
    """
    if inspect.isawaitable(said):
        if inspect.iscoroutine(said):
            said.close()
        raise TypeError(f"on_request must not be a coroutine function here: it has returned {said!r}")
    answer: Answer = said
    return answer


def _run_handler(handler: Handler, websocket: WebSocket) -> None:
    try:
        handler(websocket)
    except BaseException as exc:
        if not is_end_of(websocket.ending, exc):
            logger.exception("handler raised an exception")
            websocket.close(1011)
            return
        logger.debug("handler left with: %s", exc)
    websocket.close()
