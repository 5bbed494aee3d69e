"""``connect``: a WebSocket client on blocking sockets."""

from __future__ import annotations

import errno
import os
import socket as socket_module
import ssl as ssl_module
from collections.abc import Sequence
from time import monotonic
from typing import Any, Literal, Unpack, overload

from .._adapter._application import NO_STREAM, Application, check_application
from .._adapter._conduct import cause_of
from .._adapter._owner import ClientOpening
from .._adapter._retry import RetryPolicy, check_reconnecting
from .._adapter._settings import ConnectionOptions, settings_for
from .._adapter._trace import Trace, check_trace
from .._adapter_io._asking import Asking
from .._adapter_io._route import LocalAddress
from .._client import USER_AGENT, Client
from .._enums import Role
from .._events import Event, Opened
from .._http import Response
from .._negotiate import HeaderItems
from ._application import ApplicationWebSocket
from ._driver import Driver
from ._reconnect import OnConnected, Reconnector
from ._route import Route
from ._streaming import websocket_class
from ._tls import TlsTransport
from ._trace import traced
from ._transport import SyncTransport, open_transport, prepare
from ._websocket import WebSocket

__all__ = ["connect"]


class ClientOptions(ConnectionOptions, total=False):
    """Keyword arguments of ``connect``; see there."""

    application: Application | None
    headers: HeaderItems
    origin: str | None
    subprotocols: Sequence[str]
    user_agent: str | None
    ssl: ssl_module.SSLContext | None
    server_hostname: str | None
    sock: socket_module.socket | None
    unix_path: str | os.PathLike[str] | None
    family: int
    local_addr: LocalAddress | None
    proxy: str | Literal[True] | None
    max_redirects: int
    stream: bool
    trace: Trace | None


@overload
def connect(uri: str, *, retry: None = None, **options: Unpack[ClientOptions]) -> WebSocket: ...


@overload
def connect(
    uri: str,
    *,
    retry: RetryPolicy,
    on_connected: OnConnected | None = None,
    **options: Unpack[ClientOptions],
) -> Reconnector: ...


def connect(
    uri: str,
    *,
    application: Application | None = None,
    headers: HeaderItems = (),
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    user_agent: str | None = USER_AGENT,
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
    sock: socket_module.socket | None = None,
    unix_path: str | os.PathLike[str] | None = None,
    family: int = socket_module.AF_UNSPEC,
    local_addr: LocalAddress | None = None,
    proxy: str | Literal[True] | None = True,
    max_redirects: int = 0,
    stream: bool = False,
    trace: Trace | None = None,
    retry: RetryPolicy | None = None,
    on_connected: OnConnected | None = None,
    **options: Unpack[ConnectionOptions],
) -> WebSocket | Reconnector:
    """Open a WebSocket: ``with connect(uri) as ws``, or ``ws = connect(uri)`` and ``ws.close()``.

    ``with`` closes it at the end: with 1000, when an exception comes out of the block with 1011, when that is Ctrl-C
    with 1001.

    ``for ws in connect(uri, retry=RetryPolicy())`` connects again whenever the connection is lost, as ``retry`` says,
    and gives every connection to the block. One that is still open at the end of a round is closed with 1000, and the
    next one made. The loop ends quietly after Close code 1000; where an ending is not to be retried, or it gives up,
    with that ending's exception, in whose notes it says why. Leaving the loop by ``break``, ``return`` or an exception
    begins to close the connection, with 1000, and does not wait for that; ``with ws`` in the block does, and closes
    with 1011 or 1001 where that is due.

    With an `Application` it is the same, but there is a thread for each connection, which begins to call the
    application when it is open. Leaving the ``with`` block waits for ``on_close`` as well, at most ``close_timeout``.

    Args:
        uri: ``ws://`` or ``wss://``.
        application: gets the messages; without it ``ws.recv`` does.
        headers: further request header lines.
        origin: the Origin header, for servers that ask for one.
        subprotocols: what to offer, the preferred first; ``ws.subprotocol`` is what the server chose.
        user_agent: the User-Agent header, or None for none.
        ssl: a client-side TLS context for wss; by default ``ssl.create_default_context()``.
        server_hostname: the name that the certificate must have, if it is not the URI's host.
        sock: a connected stream socket to use. It belongs to the WebSocket from now on, also when this raises.
        unix_path: a Unix socket to connect to; the URI says the rest.
        family: ``socket.AF_INET`` or ``socket.AF_INET6``, for addresses of that family alone.
        local_addr: host and port to connect from; port 0 is any.
        proxy: ``http://``, ``socks5h://``, ``socks5://``, ``socks4a://`` or ``socks4://``, with user name and password
            or without; None for none. True, the default, takes what the environment, or the operating system, says
            (see docs/client.md), but never for this machine. SOCKS needs the extra ``proxy``.
        max_redirects: how many redirects are followed, all of them within ``open_timeout``. From wss to ws none is, and
            credentials do not go along to another origin.
        stream: receive messages in pieces as they come; see ``WebSocket.recv_stream``. Not with an `Application`.
        trace: called with what goes through: a `TracedHead` for each request and response, a `TracedFrame` for each
            frame; by the threads that read and write it, of which there may be two.
        retry: make this an iterable of connections, a `Reconnector`: when it connects again, how soon, and when it
            gives up.
        on_connected: with ``retry``, a function that is called with every new `WebSocket` before the block gets it: to
            subscribe, say. If it raises an exception, the connection is closed with 1011 and the exception comes out of
            the loop, unless it is that of the end of this very connection.
        options: see ``ConnectionOptions``. What ``open_timeout`` cannot cut short is the system's look-up of a name.

    Raises:
        InvalidURI: the URI is no WebSocket URI.
        InvalidProxy: the proxy is none.
        LocalProtocolError: a value cannot stand in a header.
        TypeError, ValueError: an argument is wrong.
        ImportError: there is a SOCKS proxy, but the extra ``proxy`` is not installed.
        ConnectError: opening failed: one of `HandshakeRejected`, `HandshakeInvalid`, `ConnectTimeout`, `ConnectLost`
            (or `ProxyError`, which is one). Its ``ending`` says how far it got.
    """
    try:
        if application is not None:
            check_application(application)
            if stream:
                raise TypeError(NO_STREAM)
        check_reconnecting(retry, on_connected)
        if retry is None and on_connected is not None:
            raise TypeError("on_connected is for 'for ws in connect(uri, retry=RetryPolicy())'")
        if retry is not None and sock is not None:
            raise ValueError("sock is for one connection; retry makes several")
        check_trace(trace)
        route = Route.checked(
            sock=sock, unix_path=unix_path, family=family, local_addr=local_addr, proxy=proxy
        )
        asking = Asking(
            uri,
            headers=headers,
            origin=origin,
            subprotocols=subprotocols,
            user_agent=user_agent,
            ssl=ssl,
            server_hostname=server_hostname,
            leads_to_one_server=route.leads_to_one_server,
            max_redirects=max_redirects,
            stream=stream,
            settings=settings_for(Role.CLIENT, options),
        )
        connector = _Connector(asking, route, application, trace)
    except BaseException:
        if sock is not None and hasattr(sock, "close"):
            sock.close()
        raise
    if retry is not None:
        return Reconnector(connector.connect, retry, on_connected)
    return connector.connect()


class _Connector:
    """The arguments of ``connect``, checked: makes one connection, or several."""

    def __init__(
        self, asking: Asking, route: Route, application: Application | None, trace: Trace | None
    ) -> None:
        self._asking = asking
        self._route = route
        self._application = application
        self._trace = trace

    def connect(self) -> WebSocket:
        """Everything that one connection takes, redirects included. May be called again."""
        asking = self._asking
        redirects, endpoint = asking.begin()
        opening = _Opening(endpoint, self._application, self._route.sock)
        deadline = monotonic() + asking.settings.timeouts.open
        try:
            self._ask(opening, deadline)
            while redirects.follow(opening.refusal):
                opening = _Opening(asking.again(redirects), self._application, None)
                self._ask(opening, deadline)
        except OSError as exc:
            opening.fail(exc, deadline)
        except BaseException:
            opening.abandon()
            raise
        opening.advice = redirects.advice
        websocket = opening.outcome()
        if isinstance(websocket, ApplicationWebSocket):
            websocket.start()
        return websocket

    def _ask(self, opening: _Opening, deadline: float) -> None:
        """Connect to a server, and wait for its answer.

        Raises:
            OSError: there was no way to it.
        """
        uri, route, asking = opening.endpoint.uri, self._route, self._asking
        # The deadline runs from here.
        opening.endpoint.next_timeout(monotonic())
        proxy = route.proxy_to(uri)
        opening.waiting_for = route.towards(uri, proxy)
        sock = route.connected(uri, proxy, asking.user_agent, asking.settings.limits, deadline)
        opening.take(sock)
        transport: SyncTransport
        if uri.secure:
            opening.waiting_for = f"TLS with {uri.host} port {uri.port}"
            context, hostname = asking.tls(uri)
            transport = TlsTransport(sock, context, server_hostname=hostname)
        else:
            transport = open_transport(sock)
        # What a trace has read of one connection is nothing to the next.
        opening.talk(traced(transport, self._trace, 0, is_server=False), deadline)


class _Opening(ClientOpening[WebSocket]):
    """Owns the socket and the driver until the server has answered."""

    def __init__(
        self, endpoint: Client, application: Application | None, sock: socket_module.socket | None
    ) -> None:
        super().__init__()
        self._application = application
        self.endpoint = endpoint
        self._sock = sock
        self._driver: Driver | None = None
        self._addresses: tuple[Any, Any] = (None, None)

    def take(self, sock: socket_module.socket) -> None:
        """This is the connection.

        Raises:
            OSError: it is of no use.
        """
        self._sock = sock
        self._addresses = sock.getsockname(), _peer_of(sock)
        prepare(sock)

    def talk(self, transport: SyncTransport, deadline: float) -> None:
        """Ask, and wait for the answer."""
        self._driver = driver = Driver(self.endpoint, self, transport)
        with driver.lock:
            driver.advance()
            driver.wait(lambda: driver.secured or self.is_settled(), deadline)
            if driver.secured:
                self.waiting_for = ""
            if not driver.wait(self.is_settled, deadline):
                driver.deliver(self._time_out)
                driver.break_off()

    def fail(self, exc: OSError, deadline: float) -> None:
        """There is no connection yet that could tell how it ended."""
        endpoint = self.endpoint
        if isinstance(exc, TimeoutError) and monotonic() >= deadline:
            events = self._time_out()
        else:
            events = endpoint.receive_error(exc, cause_of(exc, ssl_module.SSLError))
        self.handle_events(events + endpoint.transport_closed())
        self.abandon()

    def _time_out(self) -> list[Event]:
        """The open timeout is over: let the endpoint say what it was that took so long."""
        now = monotonic()
        due = self.endpoint.next_timeout(now)
        return self.endpoint.handle_timeout(now if due is None else max(due, now))

    def abandon(self) -> None:
        """Nobody waits for the answer any more, or there will be none."""
        if self._driver is not None:
            with self._driver.lock:
                self._driver.break_off()
        elif self._sock is not None:
            self._sock.close()

    def _on_opened(self, opened: Opened, rest: list[Event]) -> None:
        assert self._driver is not None
        connection = self.endpoint.connection
        assert connection is not None
        local, remote = self._addresses
        arguments = self._driver, connection, self.endpoint.request, Response(101, headers=opened.headers)
        known: dict[str, Any] = {"local_address": local, "remote_address": remote}
        self._websocket = (
            websocket_class(connection)(*arguments, **known)
            if self._application is None
            else ApplicationWebSocket(self._application, *arguments, **known)
        )
        self._websocket.handle_events(rest)


def _peer_of(sock: socket_module.socket) -> Any:
    """The peer's address.

    Raises:
        ConnectionResetError: it has reset the connection already, and the system has said so already.
    """
    try:
        return sock.getpeername()
    except OSError as exc:
        if exc.errno != errno.ENOTCONN:
            raise
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from None
