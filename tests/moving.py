"""For the tests of docs/coming-from.md: an application that remembers, and servers for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from adapterhelpers import port_of
from aiohelpers import Raw, dial, until
from framebuilder import client_handshake_request
from wsframe import Cause, Disconnected, Request
from wsframe.aio import Application, Server, WebSocket, serve

__all__ = ["Told", "one_request", "serving"]


class Told(Application):
    """Remembers what it was told.

    Attributes:
        told: names of callbacks, with what is worth knowing of each call.
        open: the WebSockets, in the order in which they came.
        endings: what ``on_close`` and ``on_disconnect`` were given, in order.
    """

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.open: list[WebSocket] = []
        self.endings: list[Disconnected] = []

    def on_open(self, ws: WebSocket) -> None:
        self.open.append(ws)
        self.told.append(("open", ws.request.target))

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.told.append(("message", message))

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.endings.append(ending)
        self.told.append(("close", ending.cause))

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
        self.endings.append(ending)
        self.told.append(("disconnect", None if request is None else request.target, ending.cause))

    async def one(self) -> WebSocket:
        """The last one that was opened."""
        await until(lambda: self.open)
        return self.open[-1]

    async def ended(self, cause: Cause) -> Disconnected:
        """The ending of the only connection that has ended."""
        await until(lambda: self.endings)
        (ending,) = self.endings
        assert ending.cause is cause, ending
        return ending


@contextlib.asynccontextmanager
async def serving(application: Any = None, **options: Any) -> AsyncIterator[tuple[Server, Any]]:
    """A server, and its application: a `Told` unless another is given."""
    application = Told() if application is None else application
    options.setdefault("ping_interval", None)
    async with serve(application, "127.0.0.1", 0, **options) as server:
        yield server, application


async def one_request(server: Server, target: str = "/", *headers: tuple[str, str], **options: Any) -> bytes:
    """What a server answers to a plain request, or an opening handshake, from the first byte to the end."""
    upgrade = options.pop("upgrade", False)
    request = client_handshake_request(
        target,
        host=f"127.0.0.1:{port_of(server)}",
        headers=headers,
        without=() if upgrade else ("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"),
        **options,
    )
    raw: Raw = await dial(server)
    with raw:
        await raw.send(request)
        return await raw.rest()
