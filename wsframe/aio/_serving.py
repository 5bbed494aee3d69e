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
from typing import TYPE_CHECKING, Any, TypeAlias

from .._adapter._answers import Accept, Answer
from .._adapter._application import Application, check_handler
from .._adapter._conduct import answer_failure, is_end_of
from .._adapter._owner import Opening
from .._adapter._registry import Registry
from .._adapter._serving import CommonOptions
from .._adapter._trace import Trace
from .._connection import Connection
from .._enums import Cause, State
from .._events import Disconnected, Event, Opened, RequestReceived
from .._http import Request
from .._server import Server
from ._application import ApplicationWebSocket
from ._channel import Channel, logger
from ._streaming import websocket_class
from ._tls import start_tls
from ._trace import tap_for
from ._transports import own_transport
from ._websocket import WebSocket

if TYPE_CHECKING:
    from ._server import Server as RunningServer

__all__ = ["Handler", "OnRequest", "ServerConnection", "ServerOptions", "Serving"]

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
    trace: Trace | None


class Serving:
    """The connections of a server, and the tasks that run for them.

    Attributes:
        server: the server itself, which has made known that it has these.
        registry: its connections.
    """

    server: RunningServer

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.registry: Registry[ServerConnection, WebSocket] = Registry()
        self.ended: collections.Counter[Cause] = collections.Counter()
        self.closing = False
        #: The longest that any connection may take to close, in seconds.
        self.close_timeout = options.settings.timeouts.close
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
        self.registry.add(connection)
        self._empty.clear()

    def forget(self, connection: ServerConnection, ending: Disconnected) -> None:
        """A connection has ended."""
        self.registry.remove(connection, ending)
        self.ended[ending.cause] += 1
        if not len(self.registry):
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
        for connection in self.registry.records:
            connection.close(code, reason)

    async def wait_empty(self, deadline: float) -> None:
        """Wait until all connections have ended, and drop those that have not when the deadline comes."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._empty.wait()
        except TimeoutError:
            for connection in self.registry.records:
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

    __slots__ = ("_remote_address", "_request", "_serving", "channel", "id")

    def __init__(self, serving: Serving) -> None:
        self.id = serving.registry.new_id()
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
            tap=tap_for(serving.options.trace, self.id, is_server=True),
        )

    @property
    def server(self) -> RunningServer:
        """Whose it is."""
        return self._serving.server

    @property
    def registry(self) -> Registry[ServerConnection, WebSocket]:
        """Where its server finds it."""
        return self._serving.registry

    @property
    def _options(self) -> ServerOptions:
        return self._serving.options

    @property
    def endpoint(self) -> Server | Connection:
        """The sans-IO side."""
        endpoint = self.channel.endpoint
        assert isinstance(endpoint, (Server, Connection))
        return endpoint

    @property
    def websocket(self) -> WebSocket | None:
        """What it has become, from the opening handshake to its end."""
        owner = self.channel.owner
        return owner if isinstance(owner, WebSocket) and owner.id == self.id else None

    @property
    def addresses(self) -> tuple[Any, Any]:
        """The local one and the peer's, as sockets give them."""
        transport = self.channel.transport
        local = None if transport is None else transport.get_extra_info("sockname")
        return local, self._remote_address

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
            self.ended(event)

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
            handler = self._options.handler if accept.handler is None else accept.handler
            check_handler(handler, stream=self._options.stream)
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
                turned_away = WebSocket(self.channel, connection, request, record=_TurnedAway(self))
                turned_away.start_closing(*accept.close)
                return
        self.registry.opened(connection, self.channel.now())
        if isinstance(handler, Application):
            told = ApplicationWebSocket(handler, self.channel, connection, request, record=self)
            self._introduce(told, accept)
            told.open()
            told.handle_events(rest)
        else:
            websocket = websocket_class(connection)(self.channel, connection, request, record=self)
            self._introduce(websocket, accept)
            websocket.handle_events(rest)
            if accept is not None and accept.params:
                handler = functools.partial(handler, **accept.params)
            self._serving.start(_run_handler(self._options, handler, websocket))

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

    def turned_away(self, ending: Disconnected) -> None:
        """It has ended, and was opened only to be closed."""
        self._on_disconnect(ending)
        self.ended(ending)

    def ended(self, ending: Disconnected) -> None:
        """It has ended, whatever it was."""
        self._serving.forget(self, ending)
        self._options.report(self.request, self._remote_address, ending, logger)


class _TurnedAway:
    """Of a connection that is opened only to be closed: for the application it has never been a `WebSocket`."""

    __slots__ = ("_connection",)

    #: Nobody finds it.
    id = 0

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection

    def ended(self, ending: Disconnected) -> None:
        """It has ended."""
        self._connection.turned_away(ending)


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
