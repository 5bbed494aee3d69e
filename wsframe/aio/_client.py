"""``connect``: a WebSocket client on asyncio."""

from __future__ import annotations

import asyncio
import socket as socket_module
import ssl as ssl_module
from collections.abc import Generator, Sequence
from typing import Any, Unpack

from .._adapter._exceptions import connect_error
from .._adapter._settings import ConnectionOptions, Settings, settings_for
from .._client import USER_AGENT, Client
from .._enums import Cause, Role
from .._events import Disconnected, Event, Opened, ResponseReceived
from .._http import Response
from .._negotiate import HeaderItems
from ._channel import Channel
from ._websocket import WebSocket

__all__ = ["connect"]


class connect:  # noqa: N801
    """Open a WebSocket: ``async with connect(uri) as ws``, which closes it at the end, or ``ws = await connect(uri)``.

    Args:
        uri: ``ws://`` or ``wss://``.
        headers: further request header lines.
        origin: the Origin header, for servers that ask for one.
        subprotocols: what to offer, the preferred first; ``ws.subprotocol`` is what the server chose.
        user_agent: the User-Agent header, or None for none.
        ssl: a client-side TLS context for wss; by default ``ssl.create_default_context()``.
        server_hostname: the name that the certificate must have, if it is not the URI's host.
        sock: a connected TCP socket to use.
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
        headers: HeaderItems = (),
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        user_agent: str | None = USER_AGENT,
        ssl: ssl_module.SSLContext | None = None,
        server_hostname: str | None = None,
        sock: socket_module.socket | None = None,
        **options: Unpack[ConnectionOptions],
    ) -> None:
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
        self._ssl = ssl
        self._server_hostname = server_hostname
        self._sock = sock
        self._websocket: WebSocket | None = None

    def __await__(self) -> Generator[Any, None, WebSocket]:
        return self._open().__await__()

    async def __aenter__(self) -> WebSocket:
        self._websocket = await self._open()
        return self._websocket

    async def __aexit__(self, *_: object) -> None:
        assert self._websocket is not None
        await self._websocket.close()

    async def _open(self) -> WebSocket:
        opening = _Opening(self._endpoint, self._settings)
        channel = opening.channel
        try:
            async with asyncio.timeout(self._settings.timeouts.open):
                await self._connect_tcp(channel)
                if self._endpoint.uri.secure:
                    await self._start_tls(channel)
                # From here on the endpoint keeps the deadline, and tells better what it was that took so long.
                await asyncio.shield(opening.result)
        except TimeoutError:
            opening.give_up()
        except asyncio.CancelledError:
            self._endpoint.abort()
            opening.give_up()
            raise
        except OSError as exc:
            channel.end(exc, _cause_of_connecting(exc))
        except BaseException:
            self._endpoint.abort()
            opening.give_up()
            raise
        return opening.outcome()

    async def _connect_tcp(self, channel: Channel) -> None:
        uri = self._endpoint.uri
        loop = asyncio.get_running_loop()
        # The deadline runs from here.
        self._endpoint.next_timeout(loop.time())
        if self._sock is not None:
            await loop.create_connection(lambda: channel, sock=self._sock)
        else:
            await loop.create_connection(lambda: channel, uri.host, uri.port, happy_eyeballs_delay=0.25)

    async def _start_tls(self, channel: Channel) -> None:
        plain = channel.transport
        assert plain is not None
        timeouts = self._settings.timeouts
        secure = await asyncio.get_running_loop().start_tls(
            plain,
            channel,
            self._ssl if self._ssl is not None else ssl_module.create_default_context(),
            server_hostname=self._server_hostname or self._endpoint.uri.host,
            ssl_handshake_timeout=timeouts.open + 1,
            ssl_shutdown_timeout=timeouts.linger,
        )
        if secure is None or plain.is_closing():
            raise ConnectionResetError("the connection was lost during the TLS handshake")
        channel.secured(secure)


class _Opening:
    """Owns the channel until the server has answered."""

    def __init__(self, endpoint: Client, settings: Settings) -> None:
        self._endpoint = endpoint
        self._response: ResponseReceived | None = None
        self._websocket: WebSocket | None = None
        self._ending: Disconnected | None = None
        self.result: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.channel = Channel(endpoint, self, settings.limits, securing=endpoint.uri.secure)

    def wants_data(self) -> bool:
        """What comes before the answer is bounded by the endpoint."""
        return True

    def handle_events(self, events: list[Event]) -> None:
        """Take the core's events until there is a `WebSocket`, then pass them on to it."""
        for position, event in enumerate(events):
            if isinstance(event, ResponseReceived):
                self._response = event
            elif isinstance(event, Opened):
                connection = self._endpoint.connection
                assert connection is not None
                response = Response(101, headers=event.headers)
                self._websocket = WebSocket(self.channel, connection, self._endpoint.request, response)
                self._websocket.handle_events(events[position + 1 :])
                self._settle()
                return
            elif isinstance(event, Disconnected):
                self._ending = event
                self._settle()

    def _settle(self) -> None:
        if not self.result.done():
            self.result.set_result(None)

    def give_up(self) -> None:
        """Nobody waits for the answer any more: let the endpoint say why, and drop the transport."""
        if self._websocket is not None:
            self._websocket.abort()
            return
        loop = asyncio.get_running_loop()
        deadline = self._endpoint.next_timeout(loop.time())
        if deadline is not None:
            self._endpoint.handle_timeout(max(deadline, loop.time()))
        if self.channel.transport is not None:
            self.channel.transport.abort()
        self.channel.end(None, Cause.TRANSPORT_ERROR)

    def outcome(self) -> WebSocket:
        """The `WebSocket`, or the exception that says why there is none."""
        if self._websocket is not None:
            return self._websocket
        assert self._ending is not None
        raise connect_error(self._ending, self._response) from self._ending.error


def _cause_of_connecting(exc: OSError) -> Cause:
    if isinstance(exc, ssl_module.SSLError):
        return Cause.TLS_ERROR
    return Cause.RESET if isinstance(exc, ConnectionResetError) else Cause.TRANSPORT_ERROR
