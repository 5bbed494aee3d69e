"""A server that ends in order: with SIGTERM, as service managers send it, and with Ctrl-C.

    python examples/drain.py 8765
    kill -TERM $(pgrep -f examples/drain.py)

Nobody is let in any more, everybody gets a Close frame with 1001 (going away), and has ten seconds to answer it.
Clients that connect again by themselves, such as `examples/reconnecting_client.py`, take 1001 as a reason to do so.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from wsframe.aio import WebSocket, serve


async def echo(ws: WebSocket) -> None:
    """What this server is for."""
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    """Serve until a signal comes, and say how the connections have ended."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Not on Windows, where there is only Ctrl-C.
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serve(echo, "127.0.0.1", port) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await stop.wait()
        counts = await server.close(1001, "the server is restarted", timeout=10)
    print(f"{counts.total()} connections have ended")
    for cause, count in counts.most_common():
        print(f"{count}: {cause.value}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
