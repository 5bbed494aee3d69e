"""An echo server.

    python examples/echo.py 8765
    python -m wsframe connect ws://127.0.0.1:8765/

Without a port it takes 8765, and with port 0 any that is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

from wsframe.aio import WebSocket, serve


async def echo(ws: WebSocket) -> None:
    """Called with every WebSocket; when it returns, that is closed."""
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    """Serve until Ctrl-C."""
    async with serve(echo, "127.0.0.1", port) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
