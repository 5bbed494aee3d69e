"""``connect``: a WebSocket client on blocking sockets."""

from __future__ import annotations

import errno
import os
import socket as socket_module
import ssl as ssl_module
from collections.abc import Sequence
from time import monotonic
from typing import Any, Unpack

from .._adapter._conduct import cause_of
from .._adapter._owner import ClientOpening
from .._adapter._settings import ConnectionOptions, settings_for
from .._client import USER_AGENT, Client
from .._enums import Role
from .._events import Event, Opened
from .._http import Response
from .._negotiate import HeaderItems
from ._dial import dial
from ._driver import Driver
from ._tls import TlsTransport
from ._transport import open_transport, prepare
from ._websocket import WebSocket

__all__ = ["connect"]


def connect(
    uri: str,
    *,
    headers: HeaderItems = (),
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    user_agent: str | None = USER_AGENT,
    ssl: ssl_module.SSLContext | None = None,
    server_hostname: str | None = None,
    sock: socket_module.socket | None = None,
    **options: Unpack[ConnectionOptions],
) -> WebSocket:
    """Open a WebSocket: ``with connect(uri) as ws``, or ``ws = connect(uri)`` and ``ws.close()``.

    ``with`` closes it at the end: with 1000, when an exception comes out of the block with 1011, when that is Ctrl-C
    with 1001.

    Args:
        uri: ``ws://`` or ``wss://``.
        headers: further request header lines.
        origin: the Origin header, for servers that ask for one.
        subprotocols: what to offer, the preferred first; ``ws.subprotocol`` is what the server chose.
        user_agent: the User-Agent header, or None for none.
        ssl: a client-side TLS context for wss; by default ``ssl.create_default_context()``.
        server_hostname: the name that the certificate must have, if it is not the URI's host.
        sock: a connected stream socket to use. It belongs to the WebSocket from now on, also when this raises.
        options: see ``ConnectionOptions``. What ``open_timeout`` cannot cut short is the system's look-up of a name.

    Raises:
        InvalidURI: the URI is no WebSocket URI.
        LocalProtocolError: a value cannot stand in a header.
        TypeError, ValueError: an argument is wrong.
        ConnectError: opening failed: one of `HandshakeRejected`, `HandshakeInvalid`, `ConnectTimeout`, `ConnectLost`.
            Its ``ending`` says how far it got.
    """
    opening = _Opening(sock)
    try:
        settings = settings_for(Role.CLIENT, options)
        endpoint = Client(
            uri,
            headers=headers,
            origin=origin,
            subprotocols=subprotocols,
            extensions=settings.extensions,
            user_agent=user_agent,
            limits=settings.limits,
            timeouts=settings.timeouts,
        )
        if endpoint.uri.secure:
            ssl = ssl or ssl_module.create_default_context()
            server_hostname = server_hostname or endpoint.uri.host
        elif ssl is not None:
            raise ValueError("a TLS context was given for a ws:// URI; use wss://")
        return opening.open(endpoint, ssl, server_hostname)
    except BaseException:
        opening.abandon()
        raise


class _Opening(ClientOpening[WebSocket]):
    """Owns the socket and the driver until the server has answered."""

    def __init__(self, sock: socket_module.socket | None) -> None:
        super().__init__()
        self._sock = sock
        self._endpoint: Client | None = None
        self._driver: Driver | None = None
        self._addresses: tuple[Any, Any] = (None, None)

    def open(
        self, endpoint: Client, context: ssl_module.SSLContext | None, server_hostname: str | None
    ) -> WebSocket:
        """The `WebSocket`; or the exception that says why there is none."""
        self._endpoint = endpoint
        # The deadline runs from here.
        deadline = endpoint.next_timeout(monotonic())
        assert deadline is not None
        try:
            if self._sock is None:
                self._sock = dial(endpoint.uri.host, endpoint.uri.port, deadline)
            self._addresses = self._sock.getsockname(), _peer_of(self._sock)
            prepare(self._sock)
            transport = (
                open_transport(self._sock)
                if context is None
                else TlsTransport(self._sock, context, server_hostname=server_hostname)
            )
        except OSError as exc:
            self._fail(endpoint, exc, deadline)
        else:
            self._driver = driver = Driver(endpoint, self, transport)
            with driver.lock:
                driver.advance()
                driver.wait(self.is_settled)
        return self.outcome()

    def _fail(self, endpoint: Client, exc: OSError, deadline: float) -> None:
        """There is no connection yet that could tell how it ended."""
        if isinstance(exc, TimeoutError) and monotonic() >= deadline:
            events = endpoint.handle_timeout(monotonic())
        else:
            events = endpoint.receive_error(exc, cause_of(exc, ssl_module.SSLError))
        self.handle_events(events + endpoint.transport_closed())

    def abandon(self) -> None:
        """Nobody waits for the answer any more, or there will be none."""
        if self._driver is not None:
            with self._driver.lock:
                self._driver.break_off()
        elif self._sock is not None:
            self._sock.close()

    def _on_opened(self, opened: Opened, rest: list[Event]) -> None:
        assert self._endpoint is not None
        assert self._driver is not None
        connection = self._endpoint.connection
        assert connection is not None
        local, remote = self._addresses
        self._websocket = WebSocket(
            self._driver,
            connection,
            self._endpoint.request,
            Response(101, headers=opened.headers),
            local_address=local,
            remote_address=remote,
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
