"""`wsproto`, which does no I/O, with the smallest loop that is fair: asyncio streams, and what its examples do.

https://python-hyper.org/projects/wsproto/. It has no timeouts and no keepalive, and this loop adds none.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import ProtocolError

from ._driver import AsyncDriver, Cannot, run


class WsprotoDriver(AsyncDriver):
    """The application is told the events, and what `receive_data()` and `send()` raise."""

    name = "wsproto"
    settings = frozenset(("compression",))

    async def start(self) -> int | None:
        """Serve, or begin to connect."""
        self._server: asyncio.Server | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._ws: WSConnection | None = None
        self._fragments: list[Any] = []
        assignment = self.assignment
        context = assignment.ssl_context()
        if assignment.role == "client":
            self.spawn(self._connect(context), "connect()")
            return None
        self._server = await asyncio.start_server(self._serve, sock=assignment.listener(), ssl=context)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def end(self) -> None:
        """Drop what is left."""
        self._abort()
        if self._server is not None:
            self._server.close()

    # The loop.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._ws = WSConnection(ConnectionType.SERVER)
        await self._loop(reader, writer, self._ws)

    async def _connect(self, context: Any) -> None:
        uri = self.assignment.uri
        assert uri is not None
        host, _, port = uri.rstrip("/").rpartition("/")[2].rpartition(":")
        try:
            sock = self.assignment.dialled()
            address = (host, int(port)) if sock is None else ()
            server_hostname = host if context is not None and sock is not None else None
            reader, writer = await asyncio.open_connection(
                *address, ssl=context, sock=sock, server_hostname=server_hostname
            )
        except OSError as exc:
            self.told_exception(exc, by="open_connection()", over=True)
            return
        self._writer = writer
        self._ws = ws = WSConnection(ConnectionType.CLIENT)
        writer.write(ws.send(Request(host=f"{host}:{port}", target="/", extensions=self._extensions())))
        await self._loop(reader, writer, ws)

    def _extensions(self) -> list[Any]:
        return [PerMessageDeflate()] if self.setting("compression") else []

    async def _loop(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ws: WSConnection
    ) -> None:
        try:
            while True:
                data = await reader.read(1 << 16)
                ws.receive_data(data or None)
                over = False
                for event in ws.events():
                    over = self._handle(ws, writer, event) or over
                await writer.drain()
                if over or not data:
                    break
        except ProtocolError as exc:
            self.told_exception(exc, by="receive_data()")
            # What a server says to the peer comes with the exception.
            hint = getattr(exc, "event_hint", None)
            if hint is not None and self.assignment.role == "server":
                writer.write(ws.send(hint))
        except OSError as exc:
            self.told_exception(exc, by="read()")
        self.told("the loop ends", over=True, brief="")
        writer.close()

    def _handle(self, ws: WSConnection, writer: asyncio.StreamWriter, event: Event) -> bool:
        """Do what the event asks for; return whether that was the end."""
        if isinstance(event, Request):
            return self._answer(ws, writer)
        if isinstance(event, AcceptConnection):
            self.told("open")
        elif isinstance(event, (TextMessage, BytesMessage)):
            self._fragments.append(event.data)
            if event.message_finished:
                parts, self._fragments = self._fragments, []
                self.told_message(
                    "".join(parts) if isinstance(event, TextMessage) else b"".join(parts), by="event"
                )
        elif isinstance(event, Ping):
            writer.write(ws.send(event.response()))
        elif isinstance(event, (CloseConnection, RejectConnection, RejectData)):
            number = event.code if isinstance(event, CloseConnection) else getattr(event, "status_code", "")
            self.told(
                repr(event), by="event", brief=f"{type(event).__name__} {int(number or 0) or ''}".strip()
            )
            if isinstance(event, CloseConnection):
                if ws.state.name == "REMOTE_CLOSING":
                    writer.write(ws.send(event.response()))
                return True
            return not isinstance(event, RejectConnection) or not event.has_body
        return False

    def _answer(self, ws: WSConnection, writer: asyncio.StreamWriter) -> bool:
        answer = self.assignment.answer
        if answer is None:
            writer.write(ws.send(AcceptConnection(extensions=self._extensions())))
            self.told("open")
            return False
        if isinstance(answer, int):
            writer.write(ws.send(RejectConnection(status_code=answer)))
            return True
        if answer == "raise":
            raise RuntimeError("the application fails")
        return False

    # What it can be told to do.

    def act_close(self, code: int | None, reason: str) -> None:
        """Send a Close; the loop goes on until the peer's comes."""
        assert self._ws is not None
        assert self._writer is not None
        self._writer.write(
            self._ws.send(CloseConnection(code=1005 if code is None else code, reason=reason or None))
        )

    async def act_send(self, size: int, count: int | None) -> None:
        """Send messages."""
        ws, writer = self._ws, self._writer
        assert ws is not None
        assert writer is not None

        async def send(data: bytes) -> None:
            writer.write(ws.send(BytesMessage(data=data)))
            await writer.drain()

        await self.send_all(send, size, count)

    def act_abort(self) -> None:
        """The transport is the loop's own."""
        self._abort()

    def _abort(self) -> None:
        # asyncio does not take an abort of a transport that was closed with something left to write, and is gone.
        with contextlib.suppress(AttributeError):
            if self._writer is not None:
                self._writer.transport.abort()

    def act_shutdown(self, code: int, reason: str) -> None:
        """There is no server to shut down."""
        raise Cannot("no server, only connections")


if __name__ == "__main__":
    run(WsprotoDriver)
