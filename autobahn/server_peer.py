"""The server under test: an echo over one of wsframe's adapters.

    python autobahn/server_peer.py [--adapter aio] [--codec python] [--port 0] [--no-compression]

It listens on the loopback interface, prints `listening PORT` once it is ready, and ends with its standard input,
so that it does not outlive the runner.
"""

from __future__ import annotations

import asyncio
import sys

from peer_common import MAX_MESSAGE_SIZE, PeerSettings, read_arguments, stdin_closed


async def serve_with_aio(settings: PeerSettings) -> None:
    """Serve until standard input ends."""
    from wsframe import aio

    async def echo(ws: aio.WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    async with aio.serve(
        echo,
        "127.0.0.1",
        settings.port,
        max_message_size=MAX_MESSAGE_SIZE,
        compression=settings.compression,
        ping_interval=None,
    ) as server:
        print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
        await stdin_closed()


if __name__ == "__main__":
    arguments = read_arguments("server_peer.py", url=False)
    asyncio.run({"aio": serve_with_aio}[arguments.adapter](arguments))
    sys.exit(0)
