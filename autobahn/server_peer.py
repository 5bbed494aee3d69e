"""The server under test: an echo over one of wsframe's adapters, or an ASGI application on uvicorn.

    python autobahn/server_peer.py [--adapter aio|sync|uvicorn] [--codec python] [--port 0] [--no-compression]
        [--loop asyncio|uvloop] [--callbacks]

It listens on the loopback interface, prints `listening PORT` once it is ready, and ends with its standard input,
so that it does not outlive the runner.
"""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys
import threading
from typing import Any

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


async def serve_with_uvicorn(settings: PeerSettings) -> None:
    """Serve until standard input ends."""
    import uvicorn

    from wsframe.integrations.uvicorn import WebSocketProtocol

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({**event, "type": "websocket.send"})

    config = uvicorn.Config(
        echo,
        ws=WebSocketProtocol,
        lifespan="off",
        log_level="warning",
        ws_max_size=MAX_MESSAGE_SIZE,
        ws_per_message_deflate=settings.compression,
        ws_ping_interval=None,
    )
    server = uvicorn.Server(config)
    sock = socket.create_server(("127.0.0.1", settings.port))
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    print(f"listening {sock.getsockname()[1]}", flush=True)
    await stdin_closed()
    server.should_exit = server.force_exit = True
    await serving


if __name__ == "__main__":
    arguments = read_arguments("server_peer.py", url=False)
    if arguments.adapter != "sync":
        serve = serve_with_aio if arguments.adapter == "aio" else serve_with_uvicorn
        with asyncio.Runner(loop_factory=importlib.import_module(arguments.loop).new_event_loop) as runner:
            runner.run(serve(arguments))
    else:
        serve_with_sync(arguments)
    sys.exit(0)
