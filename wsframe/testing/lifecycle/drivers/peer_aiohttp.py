"""`aiohttp`: https://docs.aiohttp.org/."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiohttp
from aiohttp import web

from ._driver import Cannot, describe, run
from ._handler import ApplicationFails, HandlerDriver

_Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse

#: Messages that are the application's; all others are about the connection.
_DATA = (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY)


class AiohttpDriver(HandlerDriver):
    """A handler of `aiohttp.web`, or a client; both read with `receive()` and look at the attributes afterwards."""

    name = "aiohttp"
    settings = frozenset(
        ("close_timeout", "compression", "max_message_size", "open_timeout", "ping_interval")
    )

    async def start(self) -> int | None:
        """Serve, or begin to connect."""
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._ws: _Socket | None = None
        self._request: web.Request | None = None
        assignment = self.assignment
        self._options: dict[str, Any] = {}
        if "ping_interval" in assignment.settings:
            # It waits half of it for the answer.
            self._options["heartbeat"] = assignment.settings["ping_interval"]
        if "max_message_size" in assignment.settings:
            self._options["max_msg_size"] = assignment.settings["max_message_size"]
        if assignment.role == "client":
            self.spawn(self._connect(), "ws_connect()")
            return None
        app = web.Application()
        app.router.add_get("/", self._handler)
        app.on_shutdown.append(self._on_shutdown)
        self._runner = web.AppRunner(
            app, shutdown_timeout=self.setting("close_timeout", self.assignment.patience)
        )
        await self._runner.setup()
        site = web.SockSite(self._runner, assignment.listener(), ssl_context=assignment.ssl_context())
        await site.start()
        port: int = self._runner.addresses[0][1]
        return port

    async def end(self) -> None:
        """Stop."""
        self.never.cancel()
        if self.application is not None:
            self.application.cancel()
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()
        if self._session is not None:
            # It waits until everything is written, also for a peer that does not read.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._session.close()
        if self._runner is not None:
            self._ws = None
            await self._runner.cleanup()

    # The application.

    async def _handler(self, request: web.Request) -> web.StreamResponse:
        answer = self.assignment.answer
        if isinstance(answer, int):
            return web.Response(status=answer, text=self.assignment.body)
        if answer == "raise":
            raise ApplicationFails
        if answer == "nothing":
            await self.never
        self._request = request
        ws = web.WebSocketResponse(
            timeout=self.setting("close_timeout", self.assignment.patience),
            compress=bool(self.setting("compression")),
            **self._options,
        )
        await ws.prepare(request)
        self._ws = ws
        await self.use(self._read(ws))
        return ws

    async def _on_shutdown(self, _app: web.Application) -> None:
        """As the documentation has it: the application closes its WebSockets."""
        if self._ws is not None:
            await self._ws.close(code=self._farewell[0], message=self._farewell[1].encode())

    async def _connect(self) -> None:
        assignment = self.assignment
        assert assignment.uri is not None
        timeout = aiohttp.ClientTimeout(total=self.setting("open_timeout", self.assignment.patience))
        self._session = aiohttp.ClientSession(timeout=timeout)
        if (context := assignment.ssl_context()) is not None:
            self._options["ssl"] = context
        try:
            ws = await self._session.ws_connect(
                assignment.uri,
                timeout=aiohttp.ClientWSTimeout(
                    ws_close=self.setting("close_timeout", self.assignment.patience)
                ),
                compress=15 if self.setting("compression") else 0,
                **self._options,
            )
        except Exception as exc:
            self.told_exception(exc, by="ws_connect()", over=True)
            return
        self._ws = ws
        await self.use(self._read(ws))

    async def _read(self, ws: _Socket) -> None:
        while True:
            message = await ws.receive()
            if message.type in _DATA:
                self.told_message(message.data, by="receive()")
                continue
            if message.type is aiohttp.WSMsgType.ERROR:
                what = f"ERROR {describe(message.data)}"
            else:
                extra = f" {message.extra!r}" if message.extra else ""
                what = f"{message.type.name} {message.data}{extra}"
            self.told(what, by="receive()")
            if message.type is aiohttp.WSMsgType.CLOSING:
                # We close; the next message says that it is done.
                await asyncio.sleep(0.01)
                continue
            break
        error = ws.exception()
        self.told(
            f"close_code {ws.close_code}" + ("" if error is None else f", exception {describe(error)}"),
            over=True,
        )

    # What it can be told to do.

    async def act_close(self, code: int | None, reason: str) -> None:
        """Close, and wait for the end."""
        if code is None:
            raise Cannot("no Close without a code")
        assert self._ws is not None
        await self._ws.close(code=code, message=reason.encode())

    async def act_send(self, size: int, count: int | None) -> None:
        """Send messages."""
        assert self._ws is not None
        await self.send_all(self._ws.send_bytes, size, count)

    def act_abort(self) -> None:
        """The request gives away its transport; a client has nothing of the kind."""
        if self._request is None or self._request.transport is None:
            raise Cannot("no abort")
        self._request.transport.abort()

    async def act_shutdown(self, code: int, reason: str) -> None:
        """Shut down as the documentation of `aiohttp.web` has it."""
        assert self._runner is not None
        self._farewell = code, reason
        await self._runner.cleanup()


if __name__ == "__main__":
    run(AiohttpDriver)
