"""The client under test: it asks the suite for one case after the other and echoes what it gets.

python autobahn/client_peer.py [--adapter aio|sync] [--codec python] [--agent NAME] [--no-compression] URL
"""

from __future__ import annotations

import asyncio
import sys

from peer_common import MAX_MESSAGE_SIZE, PeerSettings, read_arguments


async def run_with_aio(settings: PeerSettings) -> None:
    """Run every case that the fuzzing server at the URL has."""
    from wsframe import aio

    def connect(path: str) -> aio.connect:
        return aio.connect(
            settings.url + path,
            max_message_size=MAX_MESSAGE_SIZE,
            compression=settings.compression,
            ping_interval=None,
        )

    async with connect("/getCaseCount") as ws:
        count = int(await ws.recv())
    for number in range(1, count + 1):
        # The suite ends most cases in ways that are an error elsewhere, and the others must still run.
        try:
            async with connect(f"/runCase?case={number}&agent={settings.agent}") as ws:
                async for message in ws:
                    await ws.send(message)
        except aio.ConnectionClosed:
            pass
        except aio.ConnectError as error:
            print(f"case number {number}: {error}", file=sys.stderr)
    async with connect(f"/updateReports?agent={settings.agent}") as ws:
        await ws.wait_closed()


def run_with_sync(settings: PeerSettings) -> None:
    """Run every case that the fuzzing server at the URL has."""
    from wsframe import sync

    def connect(path: str) -> sync.WebSocket:
        return sync.connect(
            settings.url + path,
            max_message_size=MAX_MESSAGE_SIZE,
            compression=settings.compression,
            ping_interval=None,
        )

    with connect("/getCaseCount") as ws:
        count = int(ws.recv())
    for number in range(1, count + 1):
        # As above.
        try:
            with connect(f"/runCase?case={number}&agent={settings.agent}") as ws:
                for message in ws:
                    ws.send(message)
        except sync.ConnectionClosed:
            pass
        except sync.ConnectError as error:
            print(f"case number {number}: {error}", file=sys.stderr)
    with connect(f"/updateReports?agent={settings.agent}") as ws:
        ws.wait_closed()


if __name__ == "__main__":
    arguments = read_arguments("client_peer.py", url=True)
    if arguments.adapter == "aio":
        asyncio.run(run_with_aio(arguments))
    else:
        run_with_sync(arguments)
    sys.exit(0)
