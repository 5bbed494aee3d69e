"""``serve``: a WebSocket server on asyncio."""

from __future__ import annotations

import asyncio
import collections
import socket as socket_module
import ssl as ssl_module
from collections.abc import Generator, Sequence
from typing import Any, Unpack

from .._adapter._serving import CLOSE_MARGIN, OnEnd
from .._adapter._settings import ConnectionOptions, settings_for
from .._enums import Cause, Role
from .._frames import pack_close
from .._negotiate import SAME_HOST, Origins, SubprotocolChoice
from ._application import Application, check_application, has_own_on_request
from ._listen import Listener, bound_sockets
from ._serving import Handler, OnRequest, ServerOptions, Serving
from ._transports import owns

__all__ = ["Server", "serve"]

#: Seconds that handlers have at least to end after their connections have ended, before they are cancelled.
_HANDLER_GRACE = 1.0


class Server:
    """A running server. Made by `serve`."""

    def __init__(self, serving: Serving, listener: asyncio.Server | Listener) -> None:
        self._serving = serving
        self._listener = listener
        self._closing: asyncio.Task[None] | None = None
        self._closers: set[asyncio.Task[Any] | None] = set()
        self._closed = asyncio.Event()

    @property
    def sockets(self) -> tuple[socket_module.socket, ...]:
        """The listening sockets; none once it is closing."""
        return tuple(self._listener.sockets)

    @property
    def is_closing(self) -> bool:
        """``close`` was called."""
        return self._closing is not None

    async def close(
        self, code: int = 1001, reason: str = "", timeout: float | None = None
    ) -> collections.Counter[Cause]:
        """Stop listening and end all connections: a Close frame for WebSockets, a 503 for opening handshakes.

        All have the same deadline. Connections that have not ended then are dropped. Handlers that still run then, but
        not within a second of their connection's end, are cancelled. A handler may call this; it is not waited for.
        Calling it again waits for the same end.

        Args:
            code: the Close code, 1001 (going away) unless another is wanted.
            reason: at most 123 bytes as UTF-8.
            timeout: seconds until the deadline; without it that comes half a second after the ``close_timeout`` that
                each connection has in any case.

        Returns:
            how many of the connections that were there ended how.

        Raises:
            LocalProtocolError: the code or the reason may not be sent.
        """
        pack_close(code, reason, Role.SERVER)
        self._closers.add(asyncio.current_task())
        if self._closing is None:
            self._listener.close()
            self._serving.close_connections(code, reason)
            loop = asyncio.get_running_loop()
            if timeout is None:
                timeout = self._serving.options.settings.timeouts.close + CLOSE_MARGIN
            self._closing = loop.create_task(self._close(loop.time() + timeout))
        await asyncio.shield(self._closing)
        return self._serving.ended.copy()

    async def _close(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        # Accepted by the system before, and made known to us now.
        await asyncio.sleep(0)
        await self._serving.wait_empty(deadline)
        await self._serving.wait_tasks(max(_HANDLER_GRACE, deadline - loop.time()), self._closers)
        self._closed.set()

    async def wait_closed(self) -> None:
        """Wait until ``close`` is done."""
        await self._closed.wait()

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


class serve:  # noqa: N801
    """Start a WebSocket server: ``async with serve(handler, host, port) as server`` or ``await serve(...)``.

    Args:
        handler: coroutine function that is called with each `WebSocket`. When it returns the connection is closed with
            1000, when it raises with 1011. Or an `Application`, whose methods are called instead.
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
        handler_cancellation: cancel a handler whose connection has ended. (One that waits in ``recv`` is told there.)
        options: see ``ConnectionOptions``.

    Raises:
        OSError: cannot listen there.
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self,
        handler: Handler | Application,
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
        handler_cancellation: bool = False,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        given: object = handler
        if isinstance(given, type) and issubclass(given, Application):
            raise TypeError(f"not the class is needed but an object of it: {given.__name__}()")
        if isinstance(handler, Application):
            check_application(handler)
            if handler_cancellation:
                raise TypeError("handler_cancellation is for handlers, and an Application is none")
            if has_own_on_request(handler):
                if on_request is not None:
                    raise TypeError("on_request is there twice: as an argument and in the Application")
                on_request = handler.on_request
        self._address = host, port, sock
        self._options = ServerOptions(
            handler=handler,
            settings=settings_for(Role.SERVER, options),
            ssl=ssl,
            origins=origins,
            subprotocols=subprotocols,
            require_subprotocol=require_subprotocol,
            on_request=on_request,
            on_end=on_end,
            handler_cancellation=handler_cancellation,
        )
        # What is wrong with them shall be known now, and not when the first client comes.
        self._options.new_endpoint()
        self._server: Server | None = None

    def __await__(self) -> Generator[Any, None, Server]:
        return self._start().__await__()

    async def _start(self) -> Server:
        host, port, sock = self._address
        serving = Serving(self._options)
        loop = asyncio.get_running_loop()
        listener: asyncio.Server | Listener
        if self._options.ssl is None and owns(loop):
            sockets = [sock] if sock is not None else await bound_sockets(loop, host, port or 0)
            listener = Listener(loop, sockets, serving.accept)
        elif sock is not None:
            listener = await loop.create_server(serving.new_protocol, sock=sock)
        else:
            listener = await loop.create_server(serving.new_protocol, host, port or 0)
        return Server(serving, listener)

    async def __aenter__(self) -> Server:
        self._server = await self._start()
        return self._server

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.close()
