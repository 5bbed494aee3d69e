"""wsframe's asyncio adapter."""

from __future__ import annotations

from ...._backend import backend
from ...._events import Disconnected
from ...._http import Request, Response
from ...._version import __version__
from ....aio import ConnectError, ConnectionClosed, Server, WebSocket, connect, serve
from ._driver import run
from ._endings import SETTINGS, fields_of, in_words, options_of
from ._handler import ApplicationFails, HandlerDriver


class AioDriver(HandlerDriver):
    """A server's handler, or a client in its `async with` block."""

    name = "wsframe.aio"
    settings = SETTINGS

    @classmethod
    def version(cls) -> str:
        """wsframe's version, and the codec that is loaded."""
        return f"{__version__} {backend}"

    async def start(self) -> int | None:
        """Serve, or begin to connect."""
        self._server: Server | None = None
        self._ws: WebSocket | None = None
        assignment = self.assignment
        options = options_of(assignment.settings)
        context = assignment.ssl_context()
        if assignment.role == "client":
            assert assignment.uri is not None
            connecting = connect(assignment.uri, ssl=context, sock=assignment.dialled(), **options)
            self.application = self.spawn(self._connect(connecting), "connect()")
            return None
        self._server = await serve(
            self._handler,
            sock=assignment.listener(),
            ssl=context,
            on_request=None if assignment.answer is None else self._on_request,
            on_end=lambda _request, _address, ending: self._ended(ending),
            **options,
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def end(self) -> None:
        """Abort what is left."""
        if self._ws is not None:
            self._ws.abort()
            await self._ws.wait_closed()
        self.never.cancel()
        if self._server is not None:
            await self._server.close()

    # The application.

    async def _on_request(self, _request: Request) -> Response | None:
        answer = self.assignment.answer
        if isinstance(answer, int):
            return Response(answer, body=self.assignment.body.encode())
        if answer == "raise":
            raise ApplicationFails
        await self.never
        return None

    async def _handler(self, ws: WebSocket) -> None:
        self._ws = ws
        await self.use(self._read(ws))

    async def _connect(self, connecting: connect) -> None:
        try:
            async with connecting as ws:
                self._ws = ws
                await self.use(self._read(ws))
        except ConnectError as exc:
            self._over(exc.ending)
        except ApplicationFails:
            pass
        finally:
            if self._ws is not None:
                self._over(await self._ws.wait_closed())

    async def _read(self, ws: WebSocket) -> None:
        try:
            async for message in ws:
                self.told_message(message, by="recv()")
        except ConnectionClosed as exc:
            if exc.ending is not ws.ending:
                self.told(f"another ending: {exc.ending}", by="recv()")

    def _ended(self, ending: Disconnected) -> None:
        # What was received before can still be read; the reader is in the middle of it.
        if self.reader is not None and not self.reader.done():
            self.reader.add_done_callback(lambda _: self._over(ending))
        else:
            self._over(ending)

    def _over(self, ending: Disconnected) -> None:
        self.told(in_words(ending), over=True, ending=fields_of(ending))

    # What it can be told to do.

    def _open(self) -> WebSocket:
        assert self._ws is not None, "it is not open"
        return self._ws

    async def act_close(self, code: int | None, reason: str) -> None:
        """Close, and wait for the end."""
        await self._open().close(code, reason)

    async def act_send(self, size: int, count: int | None) -> None:
        """Send messages."""
        try:
            await self.send_all(self._open().send, size, count)
        except ConnectionClosed as exc:
            if exc.ending is not self._open().ending:
                self.told(f"another ending: {exc.ending}", by="send()")

    def act_abort(self) -> None:
        """Abort."""
        self._open().abort()

    async def act_shutdown(self, code: int, reason: str) -> None:
        """Close the server."""
        assert self._server is not None
        await self._server.close(code, reason)


if __name__ == "__main__":
    run(AioDriver)
