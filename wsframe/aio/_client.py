"""``connect``: a WebSocket client on asyncio."""

from __future__ import annotations

import asyncio
import socket as socket_module
import ssl as ssl_module
from collections.abc import Generator, Sequence
from typing import Any, Unpack

from .._adapter._conduct import cause_of, code_for_leaving
from .._adapter._owner import ClientOpening
from .._adapter._settings import ConnectionOptions, Settings, settings_for
from .._client import USER_AGENT, Client
from .._enums import Cause, Role
from .._events import Event, Opened
from .._http import Response
from .._negotiate import HeaderItems
from ._application import Application, ApplicationWebSocket, check_application
from ._channel import Channel, Tap
from ._dial import dial
from ._tls import start_tls
from ._transports import own_transport, owns
from ._websocket import WebSocket

__all__ = ["connect"]


class connect:  # noqa: N801
    """Open a WebSocket: ``async with connect(uri) as ws``, or ``ws = await connect(uri)``.

    ``async with`` closes it at the end: with 1000, when an exception comes out of the block with 1011, when it is
    cancelled with 1001.

    With an `Application` it is the same; ``on_open`` and the first ``on_message`` may have been called before.

    Args:
        uri: ``ws://`` or ``wss://``.
        application: gets the messages; without it ``ws.recv`` does.
        headers: further request header lines.
        origin: the Origin header, for servers that ask for one.
        subprotocols: what to offer, the preferred first; ``ws.subprotocol`` is what the server chose.
        user_agent: the User-Agent header, or None for none.
        ssl: a client-side TLS context for wss; by default ``ssl.create_default_context()``.
        server_hostname: the name that the certificate must have, if it is not the URI's host.
        sock: a connected TCP socket to use.
        tap: hears the bytes of both directions from the opening handshake on, inside TLS; see `Tap`.
        options: see ``ConnectionOptions``.

    Raises:
        InvalidURI: the URI is no WebSocket URI.
        LocalProtocolError: a value cannot stand in a header.
        TypeError, ValueError: an argument is wrong.
        ConnectError: opening failed: one of `HandshakeRejected`, `HandshakeInvalid`, `ConnectTimeout`, `ConnectLost`.
            Its ``ending`` says how far it got.
    """

    def __init__(
        self,
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
        tap: Tap | None = None,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        if application is not None:
            check_application(application)
        settings = settings_for(Role.CLIENT, options)
        self._settings: Settings = settings
        self._endpoint = Client(
            uri,
            headers=headers,
            origin=origin,
            subprotocols=subprotocols,
            extensions=settings.extensions,
            user_agent=user_agent,
            limits=settings.limits,
            timeouts=settings.timeouts,
        )
        if ssl is not None and not self._endpoint.uri.secure:
            raise ValueError("a TLS context was given for a ws:// URI; use wss://")
        self._application = application
        self._ssl = ssl
        self._server_hostname = server_hostname
        self._sock = sock
        self._tap = tap
        self._used = False
        self._websocket: WebSocket | None = None

    def __await__(self) -> Generator[Any, None, WebSocket]:
        return self._open().__await__()

    async def __aenter__(self) -> WebSocket:
        self._websocket = await self._open()
        return self._websocket

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
        websocket = self._websocket
        assert websocket is not None
        try:
            await websocket.close(code_for_leaving(kind))
        except asyncio.CancelledError:
            websocket.abort()
            raise

    async def _open(self) -> WebSocket:
        if self._used:
            raise RuntimeError("this connect() was awaited before: call connect() for every connection")
        self._used = True
        opening = _Opening(self._endpoint, self._settings, self._tap, self._application)
        channel = opening.channel
        try:
            async with asyncio.timeout(self._settings.timeouts.open) as deadline:
                await self._connect_tcp(channel)
                if self._endpoint.uri.secure:
                    await start_tls(
                        channel,
                        self._ssl or ssl_module.create_default_context(),
                        self._settings.timeouts,
                        server_hostname=self._server_hostname or self._endpoint.uri.host,
                    )
                await asyncio.shield(opening.result)
        except OSError as exc:
            if deadline.expired():
                opening.time_out()
            else:
                channel.end(exc, cause_of(exc, ssl_module.SSLError))
        except BaseException:
            opening.abandon()
            raise
        return opening.outcome()

    async def _connect_tcp(self, channel: Channel) -> None:
        uri = self._endpoint.uri
        loop = asyncio.get_running_loop()
        # The deadline runs from here.
        self._endpoint.next_timeout(loop.time())
        sock = self._sock if self._sock is not None else await dial(uri.host, uri.port)
        if uri.secure or not owns(loop):
            await loop.create_connection(lambda: channel, sock=sock)
        else:
            own_transport(loop, sock, channel).start()


class _Opening(ClientOpening[WebSocket]):
    """Owns the channel until the server has answered."""

    def __init__(
        self, endpoint: Client, settings: Settings, tap: Tap | None, application: Application | None
    ) -> None:
        super().__init__()
        self._application = application
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[None] = self._loop.create_future()
        self.channel = Channel(endpoint, self, settings.limits, securing=endpoint.uri.secure, tap=tap)

    def handle_events(self, events: list[Event]) -> None:
        """Take the core's events."""
        super().handle_events(events)
        if self.is_settled() and not self.result.done():
            self.result.set_result(None)

    def _on_opened(self, opened: Opened, rest: list[Event]) -> None:
        connection = self._endpoint.connection
        assert connection is not None
        response = Response(101, headers=opened.headers)
        application, request = self._application, self._endpoint.request
        if application is None:
            self._websocket = WebSocket(self.channel, connection, request, response)
        else:
            self._websocket = websocket = ApplicationWebSocket(
                application, self.channel, connection, request, response
            )
            websocket.open()
        self._websocket.handle_events(rest)

    def give_up(self) -> None:
        """Something that should not happen did."""
        self._endpoint.abort()

    def time_out(self) -> None:
        """The open timeout is over: let the endpoint say what it was that took so long."""
        if self._websocket is not None:
            # It was open in the same moment.
            return
        now = self._loop.time()
        due = self._endpoint.next_timeout(now)
        if due is not None:
            self.handle_events(self._endpoint.handle_timeout(max(due, now)))
        self.channel.end(None, Cause.TRANSPORT_ERROR)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self.channel.endpoint.abort()
        self.channel.end(None, Cause.TRANSPORT_ERROR)
