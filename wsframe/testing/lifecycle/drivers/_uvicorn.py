"""For uvicorn, whose applications are those of the ASGI specification, whatever brings them their messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvicorn

from ._driver import Cannot
from ._handler import ApplicationFails, HandlerDriver

__all__ = ["UvicornDriver"]

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class UvicornDriver(HandlerDriver):
    """An ASGI application that reads until it is told that it is over."""

    roles = ("server",)
    settings = frozenset(("compression", "max_message_size", "ping_interval", "ping_timeout"))

    def protocol(self) -> Any:
        """What uvicorn is to use, as its option ``ws`` takes it."""
        raise NotImplementedError

    async def start(self) -> int | None:
        """Serve."""
        assignment = self.assignment
        self._send: Send | None = None
        config = uvicorn.Config(
            self._application,
            interface="asgi3",
            ws=self.protocol(),
            lifespan="off",
            log_config=None,
            ws_max_size=self.setting("max_message_size", 1 << 20),
            ws_ping_interval=self.setting("ping_interval"),
            ws_ping_timeout=self.setting("ping_timeout", 20.0),
            ws_per_message_deflate=bool(self.setting("compression")),
            ssl_certfile=assignment.certificate,
        )
        self._server = uvicorn.Server(config)
        sock = assignment.listener()
        port: int = sock.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[sock]))
        while not self._server.started and not self._serving.done():  # noqa: ASYNC110 - it does not say when
            await asyncio.sleep(0.005)
        return port

    async def end(self) -> None:
        """Drop what is left, and stop."""
        self.never.cancel()
        for connection in list(self._server.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        self._server.should_exit = self._server.force_exit = True
        await self._serving

    # The application.

    async def _application(self, scope: Any, receive: Receive, send: Send) -> None:
        self._send = send
        await receive()
        answer = self.assignment.answer
        if answer == "raise":
            raise ApplicationFails
        if answer is None:
            await send({"type": "websocket.accept"})
            await self.use(self._read(receive))
            return
        if isinstance(answer, int):
            await self._refuse(send, answer)
        self._disconnected(await receive())

    async def _refuse(self, send: Send, status: int) -> None:
        body = self.assignment.body.encode()
        if status == 403 and not body:
            await send({"type": "websocket.close"})
        else:
            await send({"type": "websocket.http.response.start", "status": status, "headers": []})
            await send({"type": "websocket.http.response.body", "body": body})

    async def _read(self, receive: Receive) -> None:
        while (event := await receive())["type"] == "websocket.receive":
            text = event.get("text")
            self.told_message(event["bytes"] if text is None else text, by="recv()")
        self._disconnected(event)

    def _disconnected(self, event: Mapping[str, Any]) -> None:
        """The application gets ``websocket.disconnect``."""
        code, reason = event["code"], event.get("reason")
        self.told(f"websocket.disconnect {code} {reason!r}", over=True, brief=f"{code} {reason!r}")

    # What it can be told to do.

    async def act_close(self, code: int | None, reason: str) -> None:
        """Close."""
        if code is None:
            raise Cannot("no Close without a code")
        assert self._send is not None
        await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def act_send(self, size: int, count: int | None) -> None:
        """Send messages."""

        def send(data: bytes) -> Awaitable[None]:
            assert self._send is not None
            return self._send({"type": "websocket.send", "bytes": data})

        await self.send_all(send, size, count)

    def act_shutdown(self, code: int, reason: str) -> None:
        """Stop the server. What it says is for uvicorn to choose."""
        self._server.should_exit = True
