"""``serve``: a WebSocket server on asyncio."""

from __future__ import annotations

import asyncio
import collections
import inspect
import logging
import socket as socket_module
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeAlias, Unpack

from .._adapter._exceptions import ConnectionClosed
from .._adapter._settings import ConnectionOptions, Settings, settings_for
from .._enums import Cause, Role, State
from .._events import Disconnected, Event, Opened, RequestReceived
from .._http import Request, Response
from .._negotiate import SAME_HOST, Origins, SubprotocolChoice
from .._server import Server as Endpoint
from ._channel import Channel
from ._websocket import WebSocket

__all__ = ["Server", "serve"]

logger = logging.getLogger("wsframe")

Handler: TypeAlias = Callable[[WebSocket], Awaitable[None]]
OnRequest: TypeAlias = Callable[[Request], "Response | Awaitable[Response | None] | None"]
OnEnd: TypeAlias = Callable[["Request | None", Any, Disconnected], None]


class Server:
    """A running server. Made by `serve`."""

    def __init__(
        self,
        handler: Handler,
        settings: Settings,
        *,
        ssl: ssl_module.SSLContext | None,
        origins: Origins,
        subprotocols: SubprotocolChoice,
        require_subprotocol: bool,
        on_request: OnRequest | None,
        on_end: OnEnd | None,
    ) -> None:
        self.handler = handler
        self.settings = settings
        self.ssl = ssl
        self.on_request = on_request
        self.on_end = on_end
        self._endpoint_arguments = origins, subprotocols, require_subprotocol
        self._listener: asyncio.Server | None = None
        self._connections: set[_ServerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: collections.Counter[Cause] = collections.Counter()
        self._closing: asyncio.Task[None] | None = None
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def sockets(self) -> tuple[socket_module.socket, ...]:
        """The listening sockets."""
        return () if self._listener is None else tuple(self._listener.sockets)

    @property
    def is_closing(self) -> bool:
        """``close`` was called."""
        return self._closing is not None

    async def close(self, code: int = 1001, reason: str = "") -> collections.Counter[Cause]:
        """Stop listening and end all connections: a Close frame for WebSockets, a 503 for opening handshakes.

        It takes at most ``close_timeout``; handlers that still run then are cancelled.

        Args:
            code: the Close code, 1001 (going away) unless another is wanted.
            reason: at most 123 bytes as UTF-8.

        Returns:
            how many of the connections that were there ended how.

        Raises:
            LocalProtocolError: the code or the reason may not be sent.
        """
        if self._closing is None:
            for connection in list(self._connections):
                connection.endpoint_close(code, reason)
            self._ended.clear()
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)
        return self._ended

    async def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        # Accepted by the system before, and made known to us now.
        await asyncio.sleep(0)
        for connection in list(self._connections):
            connection.endpoint_close(1001, "")
        if self._connections:
            await asyncio.wait([connection.ended for connection in self._connections])
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self.settings.timeouts.close)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        if not self._closed.done():
            self._closed.set_result(None)

    async def wait_closed(self) -> None:
        """Wait until ``close`` is done."""
        await asyncio.shield(self._closed)

    async def serve_forever(self) -> None:
        """Serve until ``close`` is called, or this is cancelled, which closes."""
        try:
            await self.wait_closed()
        finally:
            await self.close()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # For the connections.

    def new_endpoint(self) -> Endpoint:
        """The sans-IO side of a new connection."""
        origins, subprotocols, require_subprotocol = self._endpoint_arguments
        return Endpoint(
            origins=origins,
            subprotocols=subprotocols,
            require_subprotocol=require_subprotocol,
            extensions=self.settings.extensions,
            limits=self.settings.limits,
            timeouts=self.settings.timeouts,
        )

    def new_protocol(self) -> asyncio.BaseProtocol:
        """What asyncio asks for with every accepted connection."""
        connection = _ServerConnection(self)
        self._connections.add(connection)
        return connection.channel

    def start(self, job: Awaitable[None]) -> asyncio.Task[None]:
        """Run something for a connection; ``close`` waits for it."""

        async def run() -> None:
            await job

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def forget(self, connection: _ServerConnection, ending: Disconnected) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self._ended[ending.cause] += 1


class _ServerConnection:
    """One connection from accept to its end; owns the channel until there is a `WebSocket`."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._endpoint = server.new_endpoint()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.remote_address: Any = None
        self.channel = Channel(
            self._endpoint,
            self,
            server.settings.limits,
            securing=server.ssl is not None,
            on_connected=self._connected,
        )

    @property
    def request(self) -> Request | None:
        """The request, if there was one."""
        return self._endpoint.request

    # TLS.

    def _connected(self) -> None:
        assert self.channel.transport is not None
        self.remote_address = self.channel.transport.get_extra_info("peername")
        if self._server.is_closing:
            self._endpoint.close(1001)
        if self._server.ssl is not None:
            # Nothing may be read before TLS takes over.
            self.channel.transport.pause_reading()
            self._server.start(self._secure(self._server.ssl, self.channel.transport))

    async def _secure(self, context: ssl_module.SSLContext, plain: asyncio.Transport) -> None:
        timeouts = self._server.settings.timeouts
        try:
            secure = await asyncio.get_running_loop().start_tls(
                plain,
                self.channel,
                context,
                server_side=True,
                # The endpoint's own deadline, which knows when the connection began, comes first.
                ssl_handshake_timeout=timeouts.open + 1,
                ssl_shutdown_timeout=timeouts.linger,
            )
        except (OSError, ssl_module.SSLError) as exc:
            plain.abort()
            self.channel.end(exc, Cause.TLS_ERROR)
            return
        except asyncio.CancelledError:
            plain.abort()
            self.endpoint_abort()
            self.channel.end(None, Cause.TRANSPORT_ERROR)
            raise
        if secure is None or plain.is_closing():
            self.channel.end(None, Cause.TRANSPORT_ERROR)
        else:
            self.channel.secured(secure)

    # Opening.

    def wants_data(self) -> bool:
        """What comes before the answer is bounded by the endpoint."""
        return True

    def handle_events(self, events: list[Event]) -> None:
        """Take the core's events until there is a `WebSocket`, then pass them on to it."""
        for position, event in enumerate(events):
            if isinstance(event, RequestReceived):
                self._on_request(event)
            elif isinstance(event, Opened):
                self._on_opened(events[position + 1 :])
                return
            elif isinstance(event, Disconnected):
                self._finish(event)

    def _on_request(self, event: RequestReceived) -> None:
        request = self._endpoint.request
        assert request is not None
        on_request = self._server.on_request
        try:
            answer = None if on_request is None else on_request(request)
        except Exception:
            logger.exception("on_request raised an exception")
            self._refuse_after_failure()
            return
        if inspect.isawaitable(answer):
            self._server.start(self._answer_later(answer))
        else:
            self._answer(answer)

    async def _answer_later(self, answer: Awaitable[Response | None]) -> None:
        try:
            response = await answer
        except Exception:
            logger.exception("on_request raised an exception")
            self._refuse_after_failure()
        else:
            if self._endpoint.state is State.HANDSHAKE:
                self._answer(response)
        self.channel.advance()

    def _refuse_after_failure(self) -> None:
        if self._endpoint.state is State.HANDSHAKE:
            self._endpoint.reject(500, body="the server failed to answer\n")

    def _answer(self, response: Response | None) -> None:
        endpoint = self._endpoint
        if response is not None:
            endpoint.respond(response.status, response.headers, response.body)
        elif endpoint.handshake is None:
            endpoint.respond_upgrade_required()
        else:
            self.handle_events(endpoint.accept())

    def _on_opened(self, events: list[Event]) -> None:
        connection, request = self._endpoint.connection, self._endpoint.request
        assert connection is not None
        assert request is not None
        websocket = WebSocket(self.channel, connection, request, on_end=self._finish)
        websocket.handle_events(events)
        self._server.start(self._run_handler(websocket))

    # Handling and ending.

    async def _run_handler(self, websocket: WebSocket) -> None:
        try:
            await self._server.handler(websocket)
        except ConnectionClosed as exc:
            # The end of a connection is no failure of the handler.
            logger.debug("handler left with: %s", exc)
            websocket.start_closing()
        except asyncio.CancelledError:
            websocket.start_closing(1001)
            raise
        except Exception:
            logger.exception("handler raised an exception")
            websocket.start_closing(1011)
        else:
            await websocket.close()

    def _finish(self, ending: Disconnected) -> None:
        logger.debug("connection ended: %s", ending)
        self._server.forget(self, ending)
        if not self.ended.done():
            self.ended.set_result(None)
        if self._server.on_end is not None:
            self._server.on_end(self.request, self.remote_address, ending)

    def endpoint_close(self, code: int, reason: str) -> None:
        """End it in order, in whatever state it is."""
        self.channel.endpoint.close(code, reason)
        self.channel.advance()
        self.channel.update_reading()

    def endpoint_abort(self) -> None:
        """End it at once."""
        self.channel.endpoint.abort()


class serve:  # noqa: N801
    """Start a WebSocket server: ``async with serve(handler, host, port) as server`` or ``await serve(...)``.

    Args:
        handler: coroutine function that is called with each `WebSocket`. When it returns the connection is closed with
            1000, when it raises with 1011.
        host: address or name to listen on, a sequence of them, or None for all interfaces.
        port: TCP port; 0 picks a free one (see ``server.sockets``).
        sock: a listening socket to use instead of host and port.
        ssl: a server-side TLS context, for wss.
        origins: which Origin headers may connect: ``SAME_HOST`` (the default), ``ANY_ORIGIN``, or a list of strings
            and compiled patterns.
        subprotocols: supported ones, the preferred first, or ``f(request, offered)`` that chooses.
        require_subprotocol: refuse clients with which none is agreed.
        on_request: called with every `Request`; a returned `Response` is sent instead of going on. May be a coroutine
            function. Without it, plain HTTP requests are answered with 426.
        on_end: called once for every connection, a WebSocket or not, with its `Request` (or None), the peer's address
            and its ending.
        options: see ``ConnectionOptions``.

    Raises:
        OSError: cannot listen there.
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self,
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
        **options: Unpack[ConnectionOptions],
    ) -> None:
        self._address = host, port, sock
        self._arguments: dict[str, Any] = {
            "handler": handler,
            "settings": settings_for(Role.SERVER, options),
            "ssl": ssl,
            "origins": origins,
            "subprotocols": subprotocols,
            "require_subprotocol": require_subprotocol,
            "on_request": on_request,
            "on_end": on_end,
        }
        self._server: Server | None = None

    def __await__(self) -> Generator[Any, None, Server]:
        return self._start().__await__()

    async def _start(self) -> Server:
        host, port, sock = self._address
        server = Server(**self._arguments)
        loop = asyncio.get_running_loop()
        if sock is not None:
            server._listener = await loop.create_server(server.new_protocol, sock=sock)
        else:
            server._listener = await loop.create_server(server.new_protocol, host, port or 0)
        return server

    async def __aenter__(self) -> Server:
        self._server = await self._start()
        return self._server

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.close()
