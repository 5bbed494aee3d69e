"""`websockets`, its asyncio implementation: https://websockets.readthedocs.io/."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ._driver import Cannot, run
from ._handler import ApplicationFails, HandlerDriver


class WebsocketsDriver(HandlerDriver):
    """A handler, or a client in its `async with` block; afterwards it looks at the attributes."""

    name = "websockets"
    settings = frozenset(
        ("close_timeout", "compression", "max_message_size", "open_timeout", "ping_interval", "ping_timeout")
    )

    async def start(self) -> int | None:
        """Serve, or begin to connect."""
        self._server: Server | None = None
        self._ws: ServerConnection | ClientConnection | None = None
        assignment = self.assignment
        options: dict[str, Any] = {
            name: assignment.settings[name]
            for name in ("close_timeout", "open_timeout", "ping_interval", "ping_timeout")
            if name in assignment.settings
        }
        if assignment.patience is not None:
            options = {"open_timeout": assignment.patience, "close_timeout": assignment.patience} | options
        options["compression"] = "deflate" if self.setting("compression") else None
        if "max_message_size" in assignment.settings:
            options["max_size"] = assignment.settings["max_message_size"]
        options["ssl"] = assignment.ssl_context()
        if assignment.role == "client":
            assert assignment.uri is not None
            self.spawn(self._connect(assignment.uri, options), "connect()")
            return None
        self._server = await serve(
            self._handler, sock=assignment.listener(), process_request=self._process_request, **options
        )
        port: int = next(iter(self._server.sockets)).getsockname()[1]
        return port

    async def end(self) -> None:
        """Drop what is left."""
        self.never.cancel()
        if self._ws is not None:
            self._ws.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    # The application.

    async def _process_request(self, connection: ServerConnection, _request: Request) -> Response | None:
        answer = self.assignment.answer
        if answer is None:
            return None
        if isinstance(answer, int):
            return connection.respond(answer, self.assignment.body)
        if answer == "raise":
            raise ApplicationFails
        await self.never
        return None

    async def _handler(self, ws: ServerConnection) -> None:
        self._ws = ws
        self.spawn(self._watch(ws), "wait_closed()")
        await self.use(self._read(ws))

    async def _connect(self, uri: str, options: dict[str, Any]) -> None:
        if (sock := self.assignment.dialled()) is not None:
            options["sock"] = sock
        opened = False
        try:
            async with connect(uri, **options) as ws:
                opened = True
                self._ws = ws
                self.spawn(self._watch(ws), "wait_closed()")
                await self.use(self._read(ws))
        except Exception as exc:
            if opened:
                raise
            self.told_exception(exc, by="connect()", over=True)

    async def _read(self, ws: ServerConnection | ClientConnection) -> None:
        try:
            while True:
                self.told_message(await ws.recv(), by="recv()")
        except ConnectionClosed as exc:
            self.told_exception(exc, by="recv()")

    async def _watch(self, ws: ServerConnection | ClientConnection) -> None:
        await ws.wait_closed()
        await asyncio.sleep(0)
        await self.read_all()
        self.told(
            f"{ws.close_code} {ws.close_reason!r}", by="close_code", over=True, brief=str(ws.close_code)
        )

    # What it can be told to do.

    async def act_close(self, code: int | None, reason: str) -> None:
        """Close, and wait for the end."""
        if code is None:
            raise Cannot("no Close without a code")
        assert self._ws is not None
        await self._ws.close(code, reason)

    async def act_send(self, size: int, count: int | None) -> None:
        """Send messages."""
        assert self._ws is not None
        await self.send_all(self._ws.send, size, count)

    async def act_shutdown(self, code: int, reason: str) -> None:
        """Close the server."""
        assert self._server is not None
        self._server.close(code=code, reason=reason)
        await self._server.wait_closed()


if __name__ == "__main__":
    run(WebsocketsDriver)
