"""The server under test: an echo over one of wsframe's adapters.

    python autobahn/server_peer.py [--adapter aio|sync] [--codec python] [--port 0] [--no-compression]
        [--loop asyncio|uvloop] [--callbacks]

It listens on the loopback interface, prints `listening PORT` once it is ready, and ends with its standard input,
so that it does not outlive the runner.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading

from peer_common import MAX_MESSAGE_SIZE, PeerSettings, read_arguments, stdin_closed


async def serve_with_aio(settings: PeerSettings) -> None:
    """Serve until standard input ends."""
    from wsframe import aio

    async def echo(ws: aio.WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    class Echo(aio.Application):
        def on_message(self, ws: aio.WebSocket, message: str | bytes, /) -> None:
            ws.send_nowait(message)

    async with aio.serve(
        Echo() if settings.callbacks else echo,
        "127.0.0.1",
        settings.port,
        max_message_size=MAX_MESSAGE_SIZE,
        compression=settings.compression,
        ping_interval=None,
    ) as server:
        print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
        await stdin_closed()


def serve_with_sync(settings: PeerSettings) -> None:
    """Serve until standard input ends."""
    from wsframe import sync

    def echo(ws: sync.WebSocket) -> None:
        for message in ws:
            ws.send(message)

    with sync.serve(
        echo,
        "127.0.0.1",
        settings.port,
        max_message_size=MAX_MESSAGE_SIZE,
        compression=settings.compression,
        ping_interval=None,
    ) as server:
        print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.buffer.read()


if __name__ == "__main__":
    arguments = read_arguments("server_peer.py", url=False)
    if arguments.adapter == "aio":
        with asyncio.Runner(loop_factory=importlib.import_module(arguments.loop).new_event_loop) as runner:
            runner.run(serve_with_aio(arguments))
    else:
        serve_with_sync(arguments)
    sys.exit(0)
