"""For tests of the uvicorn integration: a uvicorn server in the test's own event loop, and bare ASGI applications."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeAlias

import pytest
import uvicorn

from aiohelpers import Endings, until
from wsframe import Disconnected, Limits, Timeouts
from wsframe.integrations.uvicorn import WebSocketProtocol

__all__ = ["Application", "Event", "Receive", "Scope", "Send", "Served", "http_implementations", "serving"]

Scope: TypeAlias = dict[str, Any]
Event: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Coroutine[Any, Any, Event]]
Send: TypeAlias = Callable[[Event], Coroutine[Any, Any, None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[Any]]

#: What uvicorn can have for HTTP: each hands a connection over in its own way.
http_implementations = pytest.mark.parametrize(
    "http",
    [
        "h11",
        "httptools",
        pytest.param(
            "zttp",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("zttp") is None, reason="zttp is not installed"
            ),
        ),
    ],
)


class Served:
    """A uvicorn server that runs.

    Attributes:
        server: uvicorn's.
        sockets: those that listen.
        endings: of the connections, in order.
        scopes: what their applications were told, in the same order.
        requests: what uvicorn has written down anew of their requests, in the order of these.
        log: what uvicorn has logged from INFO on.
    """

    def __init__(self, server: uvicorn.Server, sock: socket.socket, log: list[str]) -> None:
        self.server = server
        self.sockets = [sock]
        self.endings = Endings()
        self.scopes: list[Scope | None] = []
        self.requests: list[bytes] = []
        self.log = log

    @property
    def uri(self) -> str:
        return f"ws://127.0.0.1:{self.sockets[0].getsockname()[1]}/"

    @property
    def connections(self) -> list[Any]:
        return list(self.server.server_state.connections)


class _Log(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        text = f"{record.levelname} {record.getMessage().strip()}"
        self._lines.append(text if error is None else f"{text}: {error!r}")


@contextlib.contextmanager
def _logged() -> Iterator[list[str]]:
    lines: list[str] = []
    logger, handler = logging.getLogger("uvicorn.error"), _Log(lines)
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


@contextlib.asynccontextmanager
async def serving(
    application: Application | Any,
    *,
    http: str = "httptools",
    limits: Limits | None = None,
    timeouts: Timeouts | None = None,
    sock: socket.socket | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve an application with our protocol, or another one that ``options`` name as ``ws``.

    Everything is uvicorn's own but its main loop, which looks every 0.1 s whether it is to stop.
    """

    class Protocol(WebSocketProtocol):
        def data_received(self, data: bytes) -> None:
            served.requests.append(data)
            super().data_received(data)

        def on_end(self, scope: Scope | None, ending: Disconnected) -> None:
            served.endings.append(ending)
            served.scopes.append(scope)

    Protocol.limits = limits or Limits()
    Protocol.timeouts = timeouts or Timeouts()
    options = {"ws": Protocol, "ws_ping_interval": None, **options}
    config = uvicorn.Config(application, http=http, lifespan="off", log_config=None, **options)
    with _logged() as log:
        with warnings.catch_warnings():
            # It says of itself that it is experimental.
            warnings.filterwarnings("ignore", "The 'zttp'", UserWarning)
            config.load()
        server = uvicorn.Server(config)
        server.lifespan = config.lifespan_class(config)
        sock = sock or socket.create_server(("127.0.0.1", 0))
        served = Served(server, sock, log)
        await server.startup(sockets=[sock])
        # It makes the headers that go with every response.
        await server.on_tick(0)
        try:
            yield served
        finally:
            for listener in server.servers:
                listener.close()
            for connection in served.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await until(lambda: not served.connections and not server.server_state.tasks)
            for listener in server.servers:
                await listener.wait_closed()
            sock.close()
            # What a transport still has to do.
            await asyncio.sleep(0)
