"""Two endpoints of the asyncio adapter that are connected with each other."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from ..aio import Server, WebSocket, connect, serve

__all__ = ["connected", "pair"]


@contextlib.asynccontextmanager
async def connected(
    handler: Any, *, server_options: dict[str, Any] | None = None, **client_options: Any
) -> AsyncIterator[WebSocket]:
    """Serve a handler and connect to it: ``async with connected(handler) as ws``. Works on any event loop.

    At the end the connection is closed and the server too, which waits for the handler.

    Args:
        handler: a coroutine function that takes a `WebSocket`, as ``serve`` does.
        server_options: keyword arguments of ``serve``.
        client_options: keyword arguments of ``connect``.
    """
    async with (
        serve(handler, "127.0.0.1", 0, **(server_options or {})) as server,
        connect(_uri_of(server), **client_options) as websocket,
    ):
        yield websocket


@contextlib.asynccontextmanager
async def pair(
    *, server_options: dict[str, Any] | None = None, **client_options: Any
) -> AsyncIterator[tuple[WebSocket, WebSocket]]:
    """Both ends of one connection: ``async with pair() as (client, server)``. Works on any event loop.

    Args:
        server_options: keyword arguments of ``serve``.
        client_options: keyword arguments of ``connect``.
    """
    opened: asyncio.Future[WebSocket] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def handler(websocket: WebSocket) -> None:
        opened.set_result(websocket)
        await over.wait()

    async with connected(handler, server_options=server_options, **client_options) as client:
        try:
            yield client, await opened
        finally:
            over.set()


def _uri_of(server: Server) -> str:
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
