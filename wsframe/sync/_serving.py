"""One connection of a server, from accept to its end, and the thread that it has."""

from __future__ import annotations

import socket as socket_module
import ssl as ssl_module
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from .._adapter._conduct import answer, answer_failure, is_end_of
from .._adapter._owner import Opening
from .._adapter._serving import CommonOptions
from .._enums import State
from .._events import Disconnected, Event, Opened, RequestReceived
from .._http import Request, Response
from ._driver import Driver
from ._link import logger
from ._tls import TlsTransport
from ._transport import open_transport, prepare
from ._websocket import WebSocket

__all__ = ["Handler", "OnRequest", "ServerConnection", "ServerOptions"]

Handler: TypeAlias = Callable[[WebSocket], None]
OnRequest: TypeAlias = Callable[[Request], "Response | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(CommonOptions):
    """The arguments of ``serve`` that concern every connection."""

    handler: Handler
    ssl: ssl_module.SSLContext | None
    on_request: OnRequest | None


class ServerConnection(Opening):
    """One connection; owns the driver until there is a `WebSocket`.

    Args:
        number: its id.
        options: the server's.
        sock: what was accepted.
        address: from where.
        on_lost: called once, with the driver's lock held, when the connection has ended.
        on_done: called last in its thread.

    Raises:
        OSError: the socket is of no use.
    """

    def __init__(
        self,
        number: int,
        options: ServerOptions,
        sock: socket_module.socket,
        address: Any,
        on_lost: Callable[[Disconnected], None],
        on_done: Callable[[ServerConnection], None],
    ) -> None:
        self.id = number
        self._options = options
        self._on_lost = on_lost
        self._on_done = on_done
        self._remote_address = address
        self._local_address = sock.getsockname()
        self._endpoint = options.new_endpoint()
        self._websocket: WebSocket | None = None
        self._ending: Disconnected | None = None
        self._requested = False
        prepare(sock)
        transport = (
            open_transport(sock) if options.ssl is None else TlsTransport(sock, options.ssl, server_side=True)
        )
        self.driver = Driver(self._endpoint, self, transport)

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
        self._options.report(self._endpoint.request, self._remote_address, ending, logger)

    # In its own thread.

    def _run(self) -> None:
        driver = self.driver
        try:
            with driver.lock:
                driver.wait(lambda: self._requested)
            if self._requested:
                self._answer()
            if self._websocket is not None:
                _run_handler(self._options.handler, self._websocket)
            with driver.lock:
                driver.wait(lambda: driver.lost)
        except Exception:
            logger.exception("a connection ends because its events could not be handled")
        finally:
            with driver.lock:
                driver.break_off()
            # It knows of this.
            self._websocket = None
            self.report()
            self._on_done(self)

    def _answer(self) -> None:
        """Ask the application, without the lock, and do what it says."""
        driver, endpoint = self.driver, self._endpoint
        request, on_request = endpoint.request, self._options.on_request
        assert request is not None
        request.came_from(self._remote_address, "http" if self._options.ssl is None else "https")
        try:
            response = None if on_request is None else on_request(request)
            if on_request is not None:
                # Meanwhile the peer may have gone, time may be over, or the server may have begun to close.
                driver.pump()
            with driver.lock:
                if endpoint.state is State.HANDSHAKE:
                    events = driver.call(answer, endpoint, response)
                    driver.deliver(lambda: events)
        except Exception:
            logger.exception("on_request raised an exception")
            with driver.lock:
                answer_failure(endpoint)
                driver.advance()

    # From the driver.

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._requested = True
        elif isinstance(event, Disconnected):
            self.ended(event)

    def _on_opened(self, opened: Opened, rest: list[Event]) -> None:
        connection, request = self._endpoint.connection, self._endpoint.request
        assert connection is not None
        assert request is not None
        self._websocket = WebSocket(
            self.driver,
            connection,
            request,
            local_address=self._local_address,
            remote_address=self._remote_address,
            record=self,
        )
        self._websocket.handle_events(rest)

    def ended(self, ending: Disconnected) -> None:
        """It has ended."""
        self._ending = ending
        self._on_lost(ending)


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
