"""For tests of peers that block, such as other programs: one server of ours or the other, and a function against it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

import aiohelpers
import synchelpers
from aiohelpers import run, until
from synchelpers import DEADLINE, serving
from wsframe import Disconnected, aio, sync

T = TypeVar("T")

both_adapters = pytest.mark.parametrize("adapter", ["aio", "sync"])

#: Of a server that takes whatever a test sends.
MAX_MESSAGE_SIZE = 16 << 20


def against(
    adapter: str, talk: Callable[[str], T], *, handler: Any = None, connections: int = 1, **options: Any
) -> tuple[T, list[Disconnected]]:
    """Call a function with the URI of a server of this adapter; return what it returns, and how the connections ended.

    By default the handler is `obey_aio`, or `obey_sync`.
    """
    options = {"max_message_size": MAX_MESSAGE_SIZE} | options

    def uri_of(server: Any) -> str:
        scheme = "wss" if options.get("ssl") else "ws"
        return f"{scheme}://127.0.0.1:{aiohelpers.port_of(server)}/"

    if adapter == "sync":
        with serving(handler or obey_sync, **options) as (server, heard):
            result = talk(uri_of(server))
            synchelpers.until(lambda: len(heard) == connections)
        return result, list(heard)

    async def main() -> T:
        def on_end(*arguments: Any) -> None:
            endings.append(arguments[-1])

        async with aio.serve(handler or obey_aio, "127.0.0.1", 0, on_end=on_end, **options) as server:
            result = await asyncio.to_thread(talk, uri_of(server))
            await until(lambda: len(endings) == connections)
        return result

    endings: list[Disconnected] = []
    return run(main()), endings


def asked_to_close(message: str | bytes) -> tuple[int, str] | None:
    """Code and reason, where a message asks for a Close."""
    if not isinstance(message, str) or not message.startswith("close "):
        return None
    _, code, reason = message.split(" ", 2)
    return int(code), reason


async def obey_aio(ws: aio.WebSocket) -> None:
    """Echo; but answer "ping" after a ping, and "close CODE REASON" with that."""
    async for message in ws:
        if message == "ping":
            await asyncio.wait_for(await ws.ping(), DEADLINE)
        if (close := asked_to_close(message)) is not None:
            await ws.close(*close)
        else:
            await ws.send(message)


def obey_sync(ws: sync.WebSocket) -> None:
    """As `obey_aio`."""
    for message in ws:
        if message == "ping":
            ws.ping().wait(DEADLINE)
        if (close := asked_to_close(message)) is not None:
            ws.close(*close)
        else:
            ws.send(message)
