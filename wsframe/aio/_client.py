"""``connect``: a WebSocket client on asyncio."""

from __future__ import annotations

import asyncio
import os
import socket as socket_module
import ssl as ssl_module
from collections.abc import Generator, Sequence
from typing import Any, Literal, Unpack

from .._adapter._conduct import cause_of
from .._adapter._owner import ClientOpening
from .._adapter._retry import RetryPolicy, check_reconnecting
from .._adapter._settings import ConnectionOptions, Settings, settings_for
from .._adapter._trace import Trace, check_trace
from .._adapter_io._asking import Asking
from .._adapter_io._route import LocalAddress
from .._client import USER_AGENT, Client
from .._enums import Cause, Role
from .._events import Disconnected, Event, Opened
from .._http import Response
from .._negotiate import HeaderItems
from ._application import NO_STREAM, Application, ApplicationWebSocket, check_application
from ._channel import Channel, Tap
from ._reconnect import OnConnected, Reconnecting
from ._route import Route
from ._streaming import websocket_class
from ._tls import start_tls
from ._trace import tap_for
from ._transports import own_transport, owns
from ._websocket import WebSocket

__all__ = ["connect"]


class connect:  # noqa: N801
    """Open a WebSocket: ``async with connect(uri) as ws``, or ``ws = await connect(uri)``.

    ``async with`` closes it at the end: with 1000, when an exception comes out of the block with 1011, when it is
    cancelled with 1001.

    ``async for ws in connect(uri)`` connects again whenever the connection is lost, as ``retry`` says, and gives every
    connection to the block. One that is still open at the end of a round is closed with 1000, and the next one made.
    The loop ends quietly after Close code 1000; where an ending is not to be retried, or it gives up, with that
    ending's exception, in whose notes it says why. Leaving the loop by ``break``, ``return`` or an exception begins to
    close the connection, with 1000, and does not wait for that; ``async with ws`` in the block does, and closes with
    1011 or 1001 where that is due.

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
        sock: a connected stream socket to use.
        unix_path: a Unix socket to connect to; the URI says the rest.
        family: ``socket.AF_INET`` or ``socket.AF_INET6``, for addresses of that family alone.
        local_addr: host and port to connect from; port 0 is any.
        proxy: ``http://``, ``socks5h://``, ``socks5://``, ``socks4a://`` or ``socks4://``, with user name and password
            or without; None for none. True, the default, takes what the environment, or the operating system, says
            (see docs/client.md), but never for this machine. SOCKS needs the extra ``proxy``.
        max_redirects: how many redirects are followed, all of them within ``open_timeout``. From wss to ws none is, and
            credentials do not go along to another origin.
        tap: hears the bytes of both directions from the opening handshake on, inside TLS; see `Tap`.
        stream: receive messages in pieces as they come; see ``WebSocket.recv_stream``. Not with an `Application`.
        retry: when ``async for`` connects again, how soon, and when it gives up.
        on_connected: a function, or coroutine function, that ``async for`` calls with every new `WebSocket` before the
            block gets it: to subscribe, say. If it raises an exception, the connection is closed with 1011 and the
            exception comes out of the loop, unless it is that of the end of this very connection.
        trace: called with a `TracedHead` for the request and the response, and a `TracedFrame` for each frame. Not
            together with ``tap``.
        options: see ``ConnectionOptions``.

    Attributes:
        last_ending: with ``async for``, how the last connection, or attempt, has ended; None before.
        attempts: with ``async for``, how many there were since a connection was stable, this one included.

    Raises:
        InvalidURI: the URI is no WebSocket URI.
        InvalidProxy: the proxy is none; that of the environment is looked at when the connection is made.
        LocalProtocolError: a value cannot stand in a header.
        TypeError, ValueError: an argument is wrong.
        ImportError: there is a SOCKS proxy, but the extra ``proxy`` is not installed.
        ConnectError: opening failed: one of `HandshakeRejected`, `HandshakeInvalid`, `ConnectTimeout`, `ConnectLost`
            (or `ProxyError`, which is one). Its ``ending`` says how far it got.
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
        unix_path: str | os.PathLike[str] | None = None,
        family: int = socket_module.AF_UNSPEC,
        local_addr: LocalAddress | None = None,
        proxy: str | Literal[True] | None = True,
        max_redirects: int = 0,
        tap: Tap | None = None,
        stream: bool = False,
        retry: RetryPolicy | None = None,
        on_connected: OnConnected | None = None,
        trace: Trace | None = None,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        if application is not None:
            check_application(application)
            if stream:
                raise TypeError(NO_STREAM)
        check_reconnecting(retry, on_connected)
        check_trace(trace)
        if tap is not None and trace is not None:
            raise TypeError("tap and trace cannot be used together: a tap hears all that trace could tell")
        self._route = Route.checked(
            sock=sock, unix_path=unix_path, family=family, local_addr=local_addr, proxy=proxy
        )
        self._asking = Asking(
            uri,
            headers=headers,
            origin=origin,
            subprotocols=subprotocols,
            user_agent=user_agent,
            ssl=ssl,
            server_hostname=server_hostname,
            leads_to_one_server=self._route.leads_to_one_server,
            max_redirects=max_redirects,
            stream=stream,
            settings=settings_for(Role.CLIENT, options),
        )
        self._application = application
        self._tap = tap
        self._trace = trace
        self._retry = retry
        self._on_connected = on_connected
        self._used = False
        self._websocket: WebSocket | None = None
        self.last_ending: Disconnected | None = None
        self.attempts = 0

    def __await__(self) -> Generator[Any, None, WebSocket]:
        return self._open().__await__()

    async def __aenter__(self) -> WebSocket:
        self._websocket = await self._open()
        return self._websocket

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
        assert self._websocket is not None
        await self._websocket.__aexit__(kind, exc, None)

    def __aiter__(self) -> Reconnecting:
        if self._route.sock is not None:
            raise ValueError("sock is for one connection; 'async for' makes several")
        return Reconnecting(self, self._attempt, self._retry or RetryPolicy(), self._on_connected)

    async def _open(self) -> WebSocket:
        if self._used:
            raise RuntimeError("this connect() was awaited before: call connect() for every connection")
        if self._retry is not None or self._on_connected is not None:
            raise TypeError("retry and on_connected are for 'async for ws in connect(...)'")
        self._used = True
        return await self._attempt()

    async def _attempt(self) -> WebSocket:
        """Everything that one connection takes, redirects included. May be called again."""
        asking = self._asking
        redirects, endpoint = asking.begin()
        opening = self._new_opening(endpoint)
        try:
            async with asyncio.timeout(asking.settings.timeouts.open) as deadline:
                await self._ask(opening)
                while redirects.follow(opening.refusal):
                    opening = self._new_opening(asking.again(redirects))
                    await self._ask(opening)
        except OSError as exc:
            if deadline.expired():
                opening.time_out()
            else:
                opening.channel.end(exc, cause_of(exc, ssl_module.SSLError))
        except BaseException:
            opening.abandon()
            raise
        opening.advice = redirects.advice
        return opening.outcome()

    async def _ask(self, opening: _Opening) -> None:
        """Connect to a server, and wait for its answer."""
        uri, channel = opening.endpoint.uri, opening.channel
        await self._connect_tcp(opening)
        if uri.secure:
            opening.waiting_for = f"TLS with {uri.host} port {uri.port}"
            context, hostname = self._asking.tls(uri)
            await start_tls(channel, context, self._asking.settings.timeouts, server_hostname=hostname)
        opening.waiting_for = ""
        await asyncio.shield(opening.result)

    async def _connect_tcp(self, opening: _Opening) -> None:
        endpoint, channel, route = opening.endpoint, opening.channel, self._route
        uri = endpoint.uri
        loop = asyncio.get_running_loop()
        # The deadline runs from here.
        endpoint.next_timeout(loop.time())
        proxy = route.proxy_to(uri)
        opening.waiting_for = route.towards(uri, proxy)
        asking = self._asking
        sock = await route.connected(uri, proxy, asking.user_agent, asking.settings.limits)
        if uri.secure or not owns(loop):
            await loop.create_connection(lambda: channel, sock=sock)
        else:
            own_transport(loop, sock, channel).start()

    def _new_opening(self, endpoint: Client) -> _Opening:
        # What a trace has read of one connection is nothing to the next.
        tap = tap_for(self._trace, 0, is_server=False) if self._tap is None else self._tap
        return _Opening(endpoint, self._asking.settings, tap, self._application)


class _Opening(ClientOpening[WebSocket]):
    """Owns the channel until the server has answered."""

    def __init__(
        self, endpoint: Client, settings: Settings, tap: Tap | None, application: Application | None
    ) -> None:
        super().__init__()
        self._application = application
        self.endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[None] = self._loop.create_future()
        self.channel = Channel(endpoint, self, settings.limits, securing=endpoint.uri.secure, tap=tap)

    def handle_events(self, events: list[Event]) -> None:
        """Take the core's events."""
        super().handle_events(events)
        if self.is_settled() and not self.result.done():
            self.result.set_result(None)

    def _on_opened(self, opened: Opened, rest: list[Event]) -> None:
        connection = self.endpoint.connection
        assert connection is not None
        response = Response(101, headers=opened.headers)
        application, request = self._application, self.endpoint.request
        if application is None:
            self._websocket = websocket_class(connection)(self.channel, connection, request, response)
        else:
            self._websocket = websocket = ApplicationWebSocket(
                application, self.channel, connection, request, response
            )
            websocket.open()
        self._websocket.handle_events(rest)

    def give_up(self) -> None:
        """Something that should not happen did."""
        self.endpoint.abort()

    def time_out(self) -> None:
        """The open timeout is over: let the endpoint say what it was that took so long."""
        if self._websocket is not None:
            # It was open in the same moment.
            return
        now = self._loop.time()
        due = self.endpoint.next_timeout(now)
        if due is not None:
            self.handle_events(self.endpoint.handle_timeout(max(due, now)))
        self.channel.end(None, Cause.TRANSPORT_ERROR)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self.channel.endpoint.abort()
        self.channel.end(None, Cause.TRANSPORT_ERROR)
