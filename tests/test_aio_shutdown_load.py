"""A graceful shutdown under load: 500 clients that send all the time, in another process."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiohelpers import aio_test, port_of
from crowd import many_descriptors
from flood_clients import payload
from framebuilder import close_payload
from wsframe import Cause, Disconnected
from wsframe.aio import Application, ConnectionClosed, Server, WebSocket, serve

CLIENTS = 500

#: Seconds that the shutdown may take.
TIMEOUT = 20.0

FLOOD = Path(__file__).with_name("flood_clients.py")


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Both processes need one for each client."""
    with many_descriptors(2 * CLIENTS + 200):
        yield


class Counts:
    """What the server's side knows of its clients."""

    def __init__(self) -> None:
        # By client: how many messages the application got, and how many answers it sent.
        self.handed: collections.Counter[int] = collections.Counter()
        self.answered: collections.Counter[int] = collections.Counter()
        self.sockets: dict[int, WebSocket] = {}
        self.ended: list[Disconnected] = []

    def open(self, ws: WebSocket) -> int:
        number = int(ws.request.target[1:])
        self.sockets[number] = ws
        return number

    def take(self, number: int, message: str | bytes) -> None:
        assert message == payload(self.handed[number])
        self.handed[number] += 1

    def end(self, request: object, address: object, ending: Disconnected) -> None:
        self.ended.append(ending)

    async def coroutine(self, ws: WebSocket) -> None:
        """A handler that answers everything, and goes on to take what had come when it cannot answer any more."""
        number = self.open(ws)
        async for message in ws:
            self.take(number, message)
            with contextlib.suppress(ConnectionClosed):
                await ws.send(message)
                self.answered[number] += 1
            if number % 5 == 0:
                # Some are slow, so that there is something that they have not taken yet.
                await asyncio.sleep(0)


class Callbacks(Application):
    """The same with callbacks."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.numbers: dict[WebSocket, int] = {}

    def on_open(self, ws: WebSocket) -> None:
        self.numbers[ws] = self.counts.open(ws)

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        number = self.numbers[ws]
        self.counts.take(number, message)
        self.counts.answered[number] += ws.send_nowait(message)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        del self.numbers[ws]


async def flooded(server: Server, counts: Counts) -> asyncio.subprocess.Process:
    """Clients that have all begun to send, and have had answers."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(FLOOD), str(port_of(server)), str(CLIENTS), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    while len(counts.answered) < CLIENTS or counts.answered.total() < 20 * CLIENTS:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return process


@pytest.mark.parametrize("style", ["coroutine", "callbacks"])
@aio_test
async def test_nothing_that_was_accepted_is_lost(style: str) -> None:
    counts = Counts()
    handler: Any = counts.coroutine if style == "coroutine" else Callbacks(counts)
    async with serve(
        handler, "127.0.0.1", 0, on_end=counts.end, ping_interval=None, close_timeout=TIMEOUT
    ) as server:
        process = await flooded(server, counts)
        assert process.stdout is not None
        try:
            # What was read and decoded by now is the application's.
            unread = {number: len(ws._queue.items) for number, ws in counts.sockets.items()}
            accepted = {number: counts.handed[number] + unread[number] for number in counts.sockets}
            loop = asyncio.get_running_loop()
            began = loop.time()
            causes = await server.close(reason="see you", timeout=TIMEOUT)
            took = loop.time() - began
            reports = json.loads(await process.stdout.read())
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert style == "callbacks" or sum(unread.values()) > 0
    print(f"{counts.handed.total()} messages, {sum(unread.values())} unread; closed in {took:.2f} s")
    assert took < TIMEOUT
    # In order, all of them.
    assert causes == {Cause.CLOSE_HANDSHAKE: CLIENTS}
    assert {(ending.clean, ending.code) for ending in counts.ended} == {(True, 1001)}
    assert {report["ended"] for report in reports} == {"eof"}
    # The last that each has got is the Close frame, and before it there is every answer that was sent.
    closing = close_payload(1001, b"see you")
    assert {report["rest"] for report in reports} == {(bytes([0x88, len(closing)]) + closing).hex()}
    assert [report["echoed"] for report in reports] == [counts.answered[number] for number in range(CLIENTS)]
    # Everything that had come was handed over, and nothing that came after.
    assert dict(counts.handed) == accepted
    # It was a flood: they had much more to say.
    assert sum(report["sent"] for report in reports) > counts.handed.total()
    assert all(report["sent"] >= counts.handed[number] for number, report in enumerate(reports))
