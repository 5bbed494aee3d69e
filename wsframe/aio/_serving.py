"""What is behind a `Server`: its connections, from accept to their end, and the tasks of their handlers."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import functools
import inspect
import socket as socket_module
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeAlias

from .._adapter._answers import Accept, Answer
from .._adapter._conduct import answer_failure, is_end_of
from .._adapter._owner import Opening
from .._adapter._serving import CommonOptions
from .._connection import Connection
from .._enums import Cause, State
from .._events import Disconnected, Event, Opened, RequestReceived
from .._http import Request
from .._server import Server
from ._application import Application, ApplicationWebSocket, check_handler
from ._channel import Channel, logger
from ._tls import start_tls
from ._transports import own_transport
from ._websocket import WebSocket

__all__ = ["Handler", "OnRequest", "ServerOptions", "Serving"]

Handler: TypeAlias = Callable[[WebSocket], Awaitable[None]]
OnRequest: TypeAlias = Callable[[Request], "Answer | Awaitable[Answer]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions(CommonOptions):
    """The arguments of ``serve`` that concern every connection."""

    #: None where the answer to the request says which.
    handler: Handler | Application | None
    ssl: ssl_module.SSLContext | None
    on_request: OnRequest | None
    handler_cancellation: bool


class Serving:
    """The connections of a server, and the tasks that run for them."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.ended: collections.Counter[Cause] = collections.Counter()
        self.closing = False
        #: The longest that any connection may take to close, in seconds.
        self.close_timeout = options.settings.timeouts.close
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
        # What the endpoint has got, as it was before proxies passed it on. The endpoint is not kept once it is open.
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
        if self._request is None and isinstance(endpoint, Server):
            return endpoint.request
        return self._request

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
        options = self._options
        scheme = "http" if options.ssl is None else "https"
        request = options.judge(self._opening, self._remote_address, scheme)
        if request is None:
            return
        self._request = request
        self._remote_address = request.remote_address
        said = None if options.on_request is None else options.on_request(request)
        if inspect.isawaitable(said):
            self._serving.start(self._answer_later(said))
        else:
            self._answer(said)

    async def _answer_later(self, awaitable: Awaitable[Answer]) -> None:
        try:
            said = await awaitable
            # Meanwhile the peer may have gone, or the server may have begun to close.
            if self.channel.endpoint.state is State.HANDSHAKE:
                self._answer(said)
        except Exception:
            logger.exception("on_request raised an exception")
            self.give_up()
        self.channel.advance()
        self.channel.update_reading()

    def _answer(self, said: Answer) -> None:
        accept = said if isinstance(said, Accept) else None
        if accept is not None and accept.close is None:
            check_handler(self._options.handler if accept.handler is None else accept.handler)
        assert self._request is not None
        events = self._options.answer(self._opening, self._request, said)
        if events and isinstance(events[0], Opened):
            self._on_opened(events[0], events[1:], accept)
        else:
            self.handle_events(events)

    def _on_opened(self, opened: Opened, rest: list[Event], accept: Accept | None = None) -> None:
        connection, request = self._opening.connection, self._request
        assert connection is not None
        assert request is not None
        handler: Any = self._options.handler
        if accept is not None:
            handler = handler if accept.handler is None else accept.handler
            if accept.context is not None:
                request.attach(accept.context)
            self.channel.use_limits(connection.limits)
            self._serving.close_timeout = max(self._serving.close_timeout, connection.timeouts.close)
            if accept.close is not None:
                self._turn_away(connection, request, accept.close)
                return
        if isinstance(handler, Application):
            told = ApplicationWebSocket(handler, self.channel, connection, request, on_end=self._finish)
            self._introduce(told, accept)
            told.open()
            told.handle_events(rest)
        else:
            websocket = WebSocket(self.channel, connection, request, on_end=self._finish)
            self._introduce(websocket, accept)
            websocket.handle_events(rest)
            if accept is not None and accept.params:
                handler = functools.partial(handler, **accept.params)
            self._serving.start(_run_handler(self._options, handler, websocket))

    def _turn_away(self, connection: Connection, request: Request, close: tuple[int, str]) -> None:
        """Open it only to close it: for the application it has never been a `WebSocket`."""

        def on_end(ending: Disconnected) -> None:
            self._on_disconnect(ending)
            self._finish(ending)

        WebSocket(self.channel, connection, request, on_end=on_end).start_closing(*close)

    def _introduce(self, websocket: WebSocket, accept: Accept | None) -> None:
        self._share_addresses(websocket)
        if accept is not None and accept.params:
            websocket.path_params = accept.params

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
