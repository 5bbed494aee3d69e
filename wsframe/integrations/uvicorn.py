"""uvicorn with wsframe's WebSocket: ``uvicorn app:app --ws wsframe.integrations.uvicorn:WebSocketProtocol``.

The applications need not know of it. Those that do find under ``scope["extensions"]["wsframe"]["ending"]`` how the
connection has ended, once it has: a ``Disconnected``, of which the event ``websocket.disconnect`` has code and reason.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.logging import TRACE_LOG_LEVEL
from uvicorn.protocols.utils import (
    ClientDisconnected,
    get_client_addr,
    get_local_addr,
    get_path_with_query_string,
    get_remote_addr,
    is_ssl,
)
from uvicorn.server import ServerState
from uvicorn.server import logger as uvicorn_logger

from .._adapter._settings import Settings
from .._config import DAY, Limits, Timeouts
from .._deflate import PermessageDeflate
from .._events import Disconnected
from .._http import Request
from .._negotiate import ANY_ORIGIN
from .._server import Server
from ..aio._channel import logger
from ._asgi import Host, RawHeaders, Scope, Session

__all__ = ["WebSocketProtocol"]

#: What stands before the path.
_ADDRESS = re.compile(r"\A[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


class WebSocketProtocol(Host):
    """What uvicorn makes for every WebSocket, with its option ``--ws`` or ``uvicorn.Config(ws=WebSocketProtocol)``.

    Its settings are those of uvicorn. For what uvicorn has no word for derive a class, and name that instead::

        class Patient(WebSocketProtocol):
            timeouts = Timeouts(close=30, idle=600)

    Attributes:
        limits: bounds. ``max_message_size`` and ``receive_queue_messages`` are those of uvicorn, ``ws_max_size`` and
            ``ws_max_queue``, in any case.
        timeouts: deadlines in seconds. ``ping_interval`` and ``ping_timeout`` are those of uvicorn in any case;
            ``open`` is for the request alone, for an application may take its time.
    """

    __slots__ = ("_app_state", "_client", "_config", "_opened", "_server_state")

    limits: ClassVar[Limits] = Limits()
    timeouts: ClassVar[Timeouts] = Timeouts()

    disconnected = ClientDisconnected

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        settings = _settings(
            self.limits,
            self.timeouts,
            config.ws_max_size,
            config.ws_max_queue,
            config.ws_ping_interval,
            config.ws_ping_timeout,
            config.ws_per_message_deflate,
        )
        self._config = config
        self._server_state = server_state
        self._app_state = app_state
        self._client: tuple[str, int] | None = None
        self._opened = False
        endpoint = Server(
            # Whom to let in is for the application, or its middleware, to say.
            origins=ANY_ORIGIN,
            extensions=settings.extensions,
            limits=settings.limits,
            timeouts=settings.timeouts,
        )
        super().__init__(endpoint, Session(self, config.loaded_app), settings.limits)

    def on_end(self, scope: Scope | None, ending: Disconnected) -> None:
        """Called once for every connection, when it has ended. Does nothing; it is for derived classes.

        Args:
            scope: that of the application; None where the request was not in order, and no application was called.
            ending: how it ended.
        """

    # From uvicorn.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection over whose request has come."""
        self._server_state.connections.add(self)
        self._client = get_remote_addr(transport)
        # uvicorn has it established.
        self._secure = is_ssl(transport)
        self._trace("connection made")
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take the request, which uvicorn has written down anew. All that follows comes to ``buffer_updated``."""
        self._receive(data)

    def shutdown(self) -> None:
        """The server stops: end it with 1012, or, before it is open, with 503."""
        self.endpoint.close(1012)
        self.advance()
        self.update_reading()

    # From the session.

    def new_scope(self, request: Request, subprotocols: tuple[str, ...]) -> Scope:
        """What the application is told of the connection, in the way of uvicorn."""
        transport, root_path = self.transport, self._config.root_path
        # A client may name the whole address.
        path_and_query = _ADDRESS.sub("", request.target)
        raw_path, _, query = path_and_query.partition("?")
        raw_path = raw_path or "/"
        return {
            "type": "websocket",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.5"},
            "http_version": "1.1",
            "scheme": "wss" if self._secure else "ws",
            "server": get_local_addr(transport),
            "client": self._client,
            "root_path": root_path,
            "path": root_path + unquote(raw_path),
            "raw_path": root_path.encode("ascii") + raw_path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "subprotocols": list(subprotocols),
            "state": self._app_state.copy(),
            "extensions": {"websocket.http.response": {}},
        }

    def start(self, job: Coroutine[Any, Any, None]) -> None:
        """Run the application, in a task that uvicorn waits for when it stops."""
        tasks = self._server_state.tasks
        task = self._loop.create_task(job)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def response_headers(self) -> RawHeaders:
        """What uvicorn adds to every response: Server and Date, and those that it was told to."""
        headers: RawHeaders = self._server_state.default_headers
        return headers

    def answered(self, scope: Scope, status: int) -> None:
        """Log it, as uvicorn does."""
        said = "[accepted]" if status == 101 else status
        uvicorn_logger.info(
            '%s - "WebSocket %s" %s', get_client_addr(scope), get_path_with_query_string(scope), said
        )
        if status == 101:
            self._opened = True
            uvicorn_logger.info("connection open")

    def application_failed(self, text: str, exc: BaseException | None = None) -> None:
        """Log it, as uvicorn does."""
        uvicorn_logger.error(text, exc_info=exc)

    def ended(self, scope: Scope | None, ending: Disconnected) -> None:
        """The connection has ended."""
        self._server_state.connections.discard(self)
        if self._opened:
            uvicorn_logger.info("connection closed")
        logger.debug("connection from %s ended: %s", self._client, ending)
        self._trace("connection lost")
        try:
            self.on_end(scope, ending)
        except Exception:
            logger.exception("on_end raised an exception")

    def _trace(self, what: str) -> None:
        if uvicorn_logger.level <= TRACE_LOG_LEVEL:
            prefix = "{}:{} - ".format(*self._client) if self._client else ""
            uvicorn_logger.log(TRACE_LOG_LEVEL, "%sWebSocket %s", prefix, what)


@functools.lru_cache(16)
def _settings(
    limits: Limits,
    timeouts: Timeouts,
    max_size: int,
    max_queue: int | None,
    ping_interval: float | None,
    ping_timeout: float | None,
    deflate: bool,
) -> Settings:
    """What a class and uvicorn say together. The same objects for all connections."""
    return Settings(
        replace(limits, max_message_size=max_size, receive_queue_messages=max_queue or _UNLIMITED),
        replace(timeouts, ping_interval=_seconds(ping_interval), ping_timeout=_seconds(ping_timeout)),
        (PermessageDeflate(),) if deflate else (),
    )


#: Of messages in the queue, where uvicorn was told that it does not matter; their bytes are bounded all the same.
_UNLIMITED = 65536


def _seconds(value: float | None) -> float | None:
    """A time of uvicorn, for which 0 means never. Nor does what takes over a day ever come."""
    return None if not value or value > DAY else value
