"""RST at every byte of an exchange, with the asyncio adapter; see `resets`."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from aiohelpers import Listener, Raw, aio_test, dial, until
from resets import MESSAGES, Progress, check_reset, check_whole, exchange, offsets
from wsframe import Disconnected, Request, Role
from wsframe.aio import ConnectError, ConnectionClosed, connect, serve


async def play(raw: Raw, progress: Progress, limit: int | None) -> None:
    """Do what the script says; then reset."""
    raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    loop = asyncio.get_running_loop()
    script = exchange(progress, limit)
    answer: bytes | None = None
    with contextlib.suppress(StopIteration):
        while True:
            step = script.send(answer)  # type: ignore[arg-type]
            answer = b""
            if isinstance(step, bytes):
                await raw.send(step)
            else:
                answer = await loop.sock_recv(raw.sock, step)
    if limit is not None:
        raw.reset()


@aio_test
async def test_the_client_resets_at_every_byte() -> None:
    received: list[str | bytes] = []
    endings: list[Disconnected] = []
    told: list[Disconnected] = []

    async def handler(ws: Any) -> None:
        try:
            async for message in ws:
                received.append(message)
                await ws.send(message)
        except ConnectionClosed as exc:
            told.append(exc.ending)

    def on_end(request: Request | None, address: Any, ending: Disconnected) -> None:
        endings.append(ending)

    async with serve(handler, "127.0.0.1", 0, on_end=on_end, ping_interval=None) as server:

        async def run(limit: int | None) -> Progress:
            progress = Progress(Role.CLIENT)
            with await dial(server) as raw:
                await play(raw, progress, limit)
                await until(lambda: endings)
            # A handler that has just begun still learns of it.
            for _ in range(3):
                await asyncio.sleep(0)
            (check_whole if limit is None else check_reset)(progress, received, endings[0])
            assert len(endings) == 1
            assert told in ([], endings)
            received.clear()
            endings.clear()
            told.clear()
            return progress

        for limit in offsets(await run(None)):
            await run(limit)


@aio_test
async def test_the_server_resets_at_every_byte() -> None:
    async def talk(uri: str) -> tuple[list[str | bytes], Disconnected]:
        received: list[str | bytes] = []
        try:
            ws = await connect(uri, ping_interval=None)
        except ConnectError as exc:
            return received, exc.ending
        try:
            for message in MESSAGES:
                await ws.send(message)
                received.append(await ws.recv())
        except ConnectionClosed as exc:
            return received, exc.ending
        await ws.close()
        return received, await ws.wait_closed()

    with Listener() as listener:

        async def run(limit: int | None) -> Progress:
            progress = Progress(Role.SERVER)
            task = asyncio.create_task(talk(listener.uri))
            with await listener.accept() as raw:
                await play(raw, progress, limit)
                if limit is None:
                    raw.shutdown()
                received, ending = await task
            (check_whole if limit is None else check_reset)(progress, received, ending)
            return progress

        for limit in offsets(await run(None)):
            await run(limit)
