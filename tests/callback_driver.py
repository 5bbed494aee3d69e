"""A driver for the tests: the asyncio adapter with an `Application` in the place of a handler."""

from __future__ import annotations

import asyncio
from typing import Any

from wsframe import Disconnected, Request, Response
from wsframe.aio import Application, ConnectError, WebSocket, connect, serve
from wsframe.testing.lifecycle.drivers import run
from wsframe.testing.lifecycle.drivers._endings import options_of
from wsframe.testing.lifecycle.drivers._handler import ApplicationFails
from wsframe.testing.lifecycle.drivers.wsframe_aio import AioDriver


class CallbackDriver(AioDriver):
    name = "callbacks"

    async def start(self) -> int | None:
        self._server = self._ws = None
        assignment = self.assignment
        options = options_of(assignment.settings)
        context = assignment.ssl_context()
        if assignment.role == "client":
            assert assignment.uri is not None
            connecting = connect(
                assignment.uri, application=Told(self), ssl=context, sock=assignment.dialled(), **options
            )
            self.application = self.spawn(self._connect(connecting), "connect()")
            return None
        application = Told(self) if assignment.answer is None else Asked(self)
        self._server = await serve(application, sock=assignment.listener(), ssl=context, **options)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _connect(self, connecting: connect) -> None:
        try:
            async with connecting as ws:
                self.reader = self.spawn(ws.wait_closed(), "wait_closed()")
                await self._leave_or_end()
        except ConnectError as exc:
            self._over(exc.ending)
        except ApplicationFails:
            pass

    async def _leave_or_end(self) -> None:
        assert self.reader is not None
        await asyncio.wait({self.reader, self._leave}, return_when=asyncio.FIRST_COMPLETED)
        if self._leave.done():
            self._leave.result()

    def act_return(self) -> None:
        if self.assignment.role == "client":
            super().act_return()
        else:
            self._open().start_closing()


class Told(Application):
    """Says what it is told."""

    def __init__(self, driver: CallbackDriver) -> None:
        self.driver = driver

    def on_open(self, ws: WebSocket) -> None:
        self.driver._ws = ws
        self.driver.told("open")

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        # By the name that it has in the table.
        self.driver.told_message(message, by="recv()")

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.driver._over(ending)

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
        self.driver._over(ending)


class Asked(Told):
    """Answers requests, too."""

    async def on_request(self, request: Request) -> Response | None:
        return await self.driver._on_request(request)


if __name__ == "__main__":
    run(CallbackDriver)
