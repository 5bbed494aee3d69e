"""What is behind a `Server`: its connections, from accept to their end, and the tasks of their handlers."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import inspect
import socket as socket_module
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from .._adapter._conduct import answer, answer_failure, is_end_of
from .._adapter._owner import Opening
from .._adapter._serving import CommonOptions
from .._enums import Cause, State
from .._events import Disconnected, Event, Opened, RequestReceived
from .._http import Request, Response
from .._server import Server
from ._application import Application, ApplicationWebSocket
from ._channel import Channel, logger
from ._tls import start_tls
from ._transports import own_transport
from ._websocket import WebSocket

__all__ = ["Handler", "OnRequest", "ServerOptions", "Serving"]

Handler: TypeAlias = Callable[[WebSocket], Awaitable[None]]
OnRequest: TypeAlias = Callable[[Request], "Response | Awaitable[Response | None] | None"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(CommonOptions):
    """The arguments of ``serve`` that concern every connection."""

    handler: Handler | Application
    ssl: ssl_module.SSLContext | None
    on_request: OnRequest | None
    handler_cancellation: bool


class Serving:
    """The connections of a server, and the tasks that run for them."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.ended: collections.Counter[Cause] = collections.Counter()
        self.closing = False
        self._connections: set[ServerConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # One for all of them, and one context, which does not matter to it.
        self._forget_task = self._tasks.discard
        self._context = contextvars.Context()
        self._local_address: Any = None
        # Set while there is no connection.
        self._empty = asyncio.Event()
        self._empty.set()

    def accept(self, sock: socket_module.socket, address: Any) -> None:
        """A connection was accepted: carry it on its own descriptor."""
        own_transport(asyncio.get_running_loop(), sock, ServerConnection(self).channel, address).start()

    def new_protocol(self) -> asyncio.BaseProtocol:
        """What asyncio asks for with every accepted connection."""
        return ServerConnection(self).channel

    def remember(self, connection: ServerConnection) -> None:
        """A connection was made. (asyncio forgets those that it has accepted when the listener is closed.)"""
        self._connections.add(connection)
        self._empty.clear()

    def forget(self, connection: ServerConnection, ending: Disconnected) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        self.ended[ending.cause] += 1
        if not self._connections:
            self._empty.set()

    def shared(self, local_address: Any) -> Any:
        """Return a local address; the same object for all connections that have the same one."""
        if local_address != self._local_address:
            self._local_address = local_address
        return self._local_address

    def start(self, job: Coroutine[Any, Any, None]) -> None:
        """Run something for a connection."""
        task = asyncio.get_running_loop().create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._forget_task, context=self._context)

    def close_connections(self, code: int, reason: str) -> None:
        """Begin to end all connections, in whatever state they are; those that come now are refused."""
        self.closing = True
        self.ended.clear()
        for connection in list(self._connections):
            connection.close(code, reason)

    async def wait_empty(self, deadline: float) -> None:
        """Wait until all connections have ended, and drop those that have not when the deadline comes."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            await self._empty.wait()

    async def wait_tasks(self, timeout: float, but: set[asyncio.Task[Any] | None]) -> None:
        """Wait for the tasks that still run; cancel them after ``timeout`` seconds.

        Args:
            timeout: in seconds; that long, too, cancelled tasks may take.
            but: tasks that wait for us themselves.
        """
        tasks = self._tasks - but
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=timeout)
        for task in tasks:
            task.cancel()
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=timeout)
        for task in tasks:
            logger.warning("a handler does not end although it was cancelled: %r", task)


class ServerConnection(Opening):
    """One connection from accept to its end; owns the channel until there is a `WebSocket`."""

    __slots__ = ("_remote_address", "_request", "_serving", "channel")

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._remote_address: Any = None
        # Once it is open. The endpoint of the opening handshake, which has it before, is not kept.
        self._request: Request | None = None
        self.channel = Channel(
            serving.options.new_endpoint(),
            self,
            serving.options.settings.limits,
            securing=serving.options.ssl is not None,
            on_connected=self._connected,
        )

    @property
    def _options(self) -> ServerOptions:
        return self._serving.options

    @property
    def _opening(self) -> Server:
        """The endpoint, until it is open."""
        endpoint = self.channel.endpoint
        assert isinstance(endpoint, Server)
        return endpoint

    @property
    def request(self) -> Request | None:
        """The request, if it has come."""
        endpoint = self.channel.endpoint
        return endpoint.request if isinstance(endpoint, Server) else self._request

    def close(self, code: int, reason: str) -> None:
        """End it in order, in whatever state it is."""
        self.channel.endpoint.close(code, reason)
        self.channel.advance()
        self.channel.update_reading()

    def abort(self) -> None:
        """Drop it, in whatever state it is."""
        self.channel.endpoint.abort()
        self.channel.advance()

    # TLS.

    def _connected(self) -> None:
        assert self.channel.transport is not None
        self._serving.remember(self)
        self._remote_address = self.channel.transport.get_extra_info("peername")
        if self._serving.closing:
            self._opening.close()
        elif self._options.ssl is not None:
            self._serving.start(self._secure(self._options.ssl))

    async def _secure(self, context: ssl_module.SSLContext) -> None:
        try:
            await start_tls(self.channel, context, self._options.settings.timeouts, server_side=True)
        except BaseException:
            self.channel.endpoint.abort()
            self.channel.end(None, Cause.TRANSPORT_ERROR)
            raise

    # Opening.

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._on_request()
        elif isinstance(event, Disconnected):
            self._on_disconnect(event)
            self._finish(event)

    def give_up(self) -> None:
        """The application's code failed."""
        endpoint = self.channel.endpoint
        if isinstance(endpoint, Server):
            answer_failure(endpoint)
        else:
            endpoint.abort()

    def _on_request(self) -> None:
        request, on_request = self.request, self._options.on_request
        assert request is not None
        response = None if on_request is None else on_request(request)
        if inspect.isawaitable(response):
            self._serving.start(self._answer_later(response))
        else:
            self.handle_events(answer(self._opening, response))

    async def _answer_later(self, awaitable: Awaitable[Response | None]) -> None:
        try:
            response = await awaitable
            # Meanwhile the peer may have gone, or the server may have begun to close.
            if self.channel.endpoint.state is State.HANDSHAKE:
                self.handle_events(answer(self._opening, response))
        except Exception:
            logger.exception("on_request raised an exception")
            self.give_up()
        self.channel.advance()
        self.channel.update_reading()

    def _on_opened(self, opened: Opened, rest: list[Event]) -> None:
        connection, request = self._opening.connection, self._opening.request
        assert connection is not None
        assert request is not None
        self._request = request
        handler = self._options.handler
        if isinstance(handler, Application):
            told = ApplicationWebSocket(handler, self.channel, connection, request, on_end=self._finish)
            self._share_addresses(told)
            told.open()
            told.handle_events(rest)
        else:
            websocket = WebSocket(self.channel, connection, request, on_end=self._finish)
            self._share_addresses(websocket)
            websocket.handle_events(rest)
            self._serving.start(_run_handler(self._options, handler, websocket))

    def _share_addresses(self, websocket: WebSocket) -> None:
        """What each connection keeps of them for itself is a quarter of a KiB."""
        websocket.local_address = self._serving.shared(websocket.local_address)
        websocket.remote_address = self._remote_address

    # Ending.

    def _on_disconnect(self, ending: Disconnected) -> None:
        """It has ended before there was a `WebSocket`."""
        application = self._options.handler
        if isinstance(application, Application):
            try:
                application.on_disconnect(self.request, self._remote_address, ending)
            except (Exception, asyncio.CancelledError):
                logger.exception("on_disconnect raised an exception")

    def _finish(self, ending: Disconnected) -> None:
        self._serving.forget(self, ending)
        self._options.report(self.request, self._remote_address, ending, logger)


async def _run_handler(options: ServerOptions, handler: Handler, websocket: WebSocket) -> None:
    try:
        if options.handler_cancellation:
            await _run_cancellable(handler, websocket)
        else:
            await handler(websocket)
    except asyncio.CancelledError:
        websocket.start_closing(1001)
        raise
    except Exception as exc:
        if not is_end_of(websocket.ending, exc):
            logger.exception("handler raised an exception")
            websocket.start_closing(1011)
            return
        logger.debug("handler left with: %s", exc)
    await websocket.close()


async def _run_cancellable(handler: Handler, websocket: WebSocket) -> None:
    """Cancel the handler when the connection has ended, unless it is in ``recv``, which tells it the same."""
    task = asyncio.current_task()
    assert task is not None
    running = True

    def cancel(_: WebSocket) -> None:
        if running and websocket.reader is not task:
            task.cancel("the connection has ended")

    websocket.add_done_callback(cancel)
    try:
        await handler(websocket)
    finally:
        running = False
