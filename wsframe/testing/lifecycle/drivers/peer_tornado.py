"""`tornado.websocket`: https://www.tornadoweb.org/."""

from __future__ import annotations

import asyncio
from typing import Any

from tornado import httpclient, httpserver, web, websocket

from ._driver import AsyncDriver, Cannot, run


class ApplicationFails(Exception):
    """What the application raises when it is to raise something."""


class TornadoDriver(AsyncDriver):
    """A `WebSocketHandler` with its callbacks, or a client that reads messages until None comes."""

    name = "tornado"
    settings = frozenset(("compression", "max_message_size", "ping_interval", "ping_timeout", "open_timeout"))

    async def start(self) -> int | None:
        """Serve, or begin to connect."""
        self._server: httpserver.HTTPServer | None = None
        self._handler: Handler | None = None
        self._connection: websocket.WebSocketClientConnection | None = None
        #: What waits for this waits until the row is over.
        self.never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        assignment = self.assignment
        if assignment.role == "client":
            self.spawn(self._connect(), "websocket_connect()")
            return None
        settings: dict[str, Any] = {
            f"websocket_{name}": assignment.settings[name]
            for name in ("max_message_size", "ping_interval", "ping_timeout")
            if assignment.settings.get(name) is not None
        }
        app = web.Application([("/", Handler, {"driver": self})], **settings)
        self._server = httpserver.HTTPServer(app, ssl_options=assignment.ssl_context())
        listener = assignment.listener()
        listener.setblocking(False)
        self._server.add_socket(listener)
        port: int = listener.getsockname()[1]
        return port

    async def end(self) -> None:
        """Stop."""
        self.never.cancel()
        if self._handler is not None:
            _drop(self._handler.ws_connection)
        if self._connection is not None:
            _drop(self._connection.protocol)
        if self._server is not None:
            self._server.stop()
            await self._server.close_all_connections()

    # The application.

    def opened(self, handler: Handler) -> None:
        """From the handler."""
        self._handler = handler
        self.told("open")

    async def _connect(self) -> None:
        assignment = self.assignment
        assert assignment.uri is not None
        request = httpclient.HTTPRequest(
            assignment.uri,
            ca_certs=assignment.authority,
            connect_timeout=self.setting("open_timeout", assignment.patience),
        )
        settings: dict[str, Any] = {
            name: assignment.settings[name]
            for name in ("max_message_size", "ping_interval", "ping_timeout")
            if assignment.settings.get(name) is not None
        }
        if self.setting("compression"):
            settings["compression_options"] = {}
        try:
            self._connection = connection = await websocket.websocket_connect(request, **settings)
        except Exception as exc:
            self.told_exception(exc, by="websocket_connect()", over=True)
            return
        self.told("open")
        while (message := await connection.read_message()) is not None:
            self.told_message(message, by="read_message()")
        self.told("None", by="read_message()", brief="")
        self.told(f"{connection.close_code} {connection.close_reason!r}", by="close_code", over=True)

    # What it can be told to do.

    async def act_close(self, code: int | None, reason: str) -> None:
        """Close; nobody can wait for the end."""
        side = self._handler or self._connection
        assert side is not None
        side.close(code, reason or None)

    async def act_send(self, size: int, count: int | None) -> None:
        """Send messages, and wait for each to be flushed."""
        side = self._handler or self._connection
        assert side is not None
        await self.send_all(lambda data: side.write_message(data, binary=True), size, count)

    async def act_shutdown(self, code: int, reason: str) -> None:
        """Stop the server; it closes its WebSockets one by one, as an application does that keeps a list of them."""
        assert self._server is not None
        self._server.stop()
        if self._handler is None:
            raise Cannot("stop() leaves connections alone")
        self._handler.close(code, reason or None)
        await self._server.close_all_connections()


class Handler(websocket.WebSocketHandler):  # type: ignore[misc]
    """The application of a server."""

    def initialize(self, driver: TornadoDriver) -> None:
        """Take the driver from the routing table."""
        self._driver = driver

    async def prepare(self) -> None:
        """Answer, if the row says how."""
        answer = self._driver.assignment.answer
        if isinstance(answer, int):
            self.set_status(answer)
            await self.finish(self._driver.assignment.body)
        elif answer == "raise":
            raise ApplicationFails("the application fails")
        elif answer == "nothing":
            await self._driver.never

    def get_compression_options(self) -> dict[str, Any] | None:
        """permessage-deflate, if the row asks for it."""
        return {} if self._driver.setting("compression") else None

    def open(self, *_args: str, **_kwargs: str) -> None:
        """It is a WebSocket."""
        self._driver.opened(self)

    def on_message(self, message: str | bytes) -> None:
        """A message."""
        self._driver.told_message(message, by="on_message()")

    def on_close(self) -> None:
        """The end."""
        self._driver.told(f"{self.close_code} {self.close_reason!r}", by="on_close()", over=True)


def _drop(protocol: Any) -> None:
    """There is no such call, but the row is over."""
    if protocol is not None and protocol.stream is not None:
        protocol.stream.close()


if __name__ == "__main__":
    run(TornadoDriver)
