"""``serve``: a WebSocket server on asyncio."""

from __future__ import annotations

import asyncio
import collections
import socket as socket_module
import ssl as ssl_module
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Unpack

from .._adapter._addresses import Addresses, HostLike, PathLike, addresses_for
from .._adapter._application import Application
from .._adapter._forwarded import TrustedProxies, proxies_for
from .._adapter._routing import Router
from .._adapter._serving import CLOSE_MARGIN, OnEnd, ask_whom
from .._adapter._settings import ConnectionOptions, settings_for
from .._adapter._trace import Trace, check_trace
from .._enums import Cause, Role
from .._frames import pack_close
from .._negotiate import SAME_HOST, Origins, SubprotocolChoice
from ._listen import Listener, LoopListener, listen
from ._registry import ServerRegistry
from ._serving import Handler, OnRequest, ServerOptions, Serving
from ._transports import owns

__all__ = ["Server", "serve"]

#: Seconds that handlers have at least to end after their connections have ended, before they are cancelled.
_HANDLER_GRACE = 1.0


class Server(ServerRegistry):
    """A running server. Made by `serve`."""

    def __init__(self, serving: Serving) -> None:
        super().__init__(serving.registry)
        serving.server = self
        self._serving = serving
        # None until it listens everywhere. Connections may come before, and they have a server as well.
        self._listener: Listener | LoopListener | None = None
        self._closing: asyncio.Task[None] | None = None
        self._closers: set[asyncio.Task[Any] | None] = set()
        self._closed = asyncio.Event()

    @property
    def sockets(self) -> tuple[socket_module.socket, ...]:
        """The listening sockets; none once it is closing."""
        return () if self._listener is None else tuple(self._listener.sockets)

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
            if self._listener is not None:
                self._listener.close()
            self._serving.close_connections(code, reason)
            loop = asyncio.get_running_loop()
            if timeout is None:
                timeout = self._serving.close_timeout + CLOSE_MARGIN
            self._closing = loop.create_task(self._close(loop.time() + timeout))
        await asyncio.shield(self._closing)
        return self._serving.ended.copy()

    async def _listen(self, addresses: Addresses) -> None:
        """Accept connections from now on. For `serve`.

        Raises:
            OSError: one of the addresses cannot be listened on.
        """
        serving, loop = self._serving, asyncio.get_running_loop()
        accepted = serving.accept if serving.options.ssl is None and owns(loop) else None
        try:
            self._listener = await listen(loop, addresses, serving.new_protocol, accepted)
        except BaseException:
            # What came to one address before another could not be had.
            serving.close_connections(1001, "")
            raise
        if self.is_closing:
            # A handler was quicker.
            self._listener.close()

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
            1000, when it raises with 1011. Or an `Application`, whose methods are called instead, or a `Router`, which
            has one or the other for each path.
        host: address or name to listen on, a sequence of them, or None for all interfaces. Instead of a name there may
            be a pair of name and port, if several ports are wanted: ``[("localhost", 8000), ("10.0.0.1", 80)]``.
        port: TCP port; 0 picks one that is free on all addresses (see ``server.sockets``).
        unix_path: listen on a unix socket, in the place of TCP or, where host or port is given, besides. A file that
            a server has left behind is replaced; if one listens there, it is an error. The file is removed at the end.
            A path that begins with NUL is no file but a name (on Linux).
        unix_mode: permissions of that file, such as 0o660; by default those that the umask leaves.
        sock: a bound stream socket, or several, in the place of the above or besides. They are closed at the end.
        reuse_port: let other processes listen on the same TCP ports; the system shares the connections out.
        backlog: connections that the system keeps until they are accepted (100).
        ssl: a server-side TLS context, for wss.
        origins: which Origin headers may connect: ``SAME_HOST`` (the default), ``ANY_ORIGIN``, or a list of strings
            and compiled patterns.
        subprotocols: supported ones, the preferred first, or ``f(request, offered)`` that chooses.
        require_subprotocol: refuse clients with which none is agreed.
        on_request: called with every `Request`, for a WebSocket or not; a returned `Response` is sent instead of going
            on, and with an `Accept` it goes on in another way. May be a coroutine function. Without it, plain HTTP
            requests are answered with 426.
        trusted_proxies: addresses and networks of proxies, and "unix" for those that come over a unix socket; or a
            `TrustedProxies`. Of requests that come from them, the remote address, the scheme and the Host are those
            that the proxies say (X-Forwarded-For, -Proto and -Host, or Forwarded). By default nobody is believed.
        on_end: called once for every connection, a WebSocket or not, with its `Request` (or None), the peer's address
            and its ending.
        handler_cancellation: cancel a handler whose connection has ended. (One that waits in ``recv`` is told there.)
        stream: receive messages in pieces as they come; see ``WebSocket.recv_stream``. Not with an `Application`.
        trace: called with what goes through every connection: a `TracedHead` for each request and response, a
            `TracedFrame` for each frame. For finding out what happens: it makes everything slower.
        options: see ``ConnectionOptions``.

    Raises:
        OSError: cannot listen there.
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self,
        handler: Handler | Application | Router,
        host: HostLike = None,
        port: int | None = None,
        *,
        unix_path: PathLike | None = None,
        unix_mode: int | None = None,
        sock: socket_module.socket | Sequence[socket_module.socket] | None = None,
        reuse_port: bool = False,
        backlog: int | None = None,
        ssl: ssl_module.SSLContext | None = None,
        origins: Origins = SAME_HOST,
        subprotocols: SubprotocolChoice = (),
        require_subprotocol: bool = False,
        on_request: OnRequest | None = None,
        trusted_proxies: TrustedProxies | Iterable[str] = (),
        on_end: OnEnd | None = None,
        handler_cancellation: bool = False,
        stream: bool = False,
        trace: Trace | None = None,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        taker, on_request, judges_late = ask_whom(handler, on_request, stream=stream)
        if handler_cancellation and isinstance(taker, Application):
            raise TypeError("handler_cancellation is for handlers, and an Application is none")
        check_trace(trace)
        self._addresses = addresses_for(
            host,
            port,
            unix_path=unix_path,
            unix_mode=unix_mode,
            sock=sock,
            reuse_port=reuse_port,
            backlog=backlog,
        )
        self._options = ServerOptions(
            handler=taker,
            judges_late=judges_late,
            settings=settings_for(Role.SERVER, options),
            ssl=ssl,
            origins=origins,
            subprotocols=subprotocols,
            require_subprotocol=require_subprotocol,
            on_request=on_request,
            trusted_proxies=proxies_for(trusted_proxies),
            on_end=on_end,
            handler_cancellation=handler_cancellation,
            stream=stream,
            trace=trace,
        )
        # What is wrong with them shall be known now, and not when the first client comes.
        self._options.check()
        self._server: Server | None = None

    def __await__(self) -> Generator[Any, None, Server]:
        return self._start().__await__()

    async def _start(self) -> Server:
        server = Server(Serving(self._options))
        await server._listen(self._addresses)
        return server

    async def __aenter__(self) -> Server:
        self._server = await self._start()
        return self._server

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self._server.close()
