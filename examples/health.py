"""A health check on the port of the WebSockets.

    python examples/health.py 8765
    curl http://127.0.0.1:8765/health

For a load balancer, which may ask with HEAD. Everything else that is no WebSocket is answered with 426.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys

from wsframe import Request, Response
from wsframe.aio import WebSocket, serve


async def echo(ws: WebSocket) -> None:
    """What this server is for."""
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    """Serve until Ctrl-C."""

    def on_request(request: Request) -> Response | None:
        if request.target != "/health":
            return None
        if request.method not in ("GET", "HEAD"):
            return Response(405, headers=[("Allow", "GET, HEAD")])
        status = {"websockets": server.stats().websockets}
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        # To HEAD the body is left out.
        return Response(200, headers=headers, body=json.dumps(status))

    async with serve(echo, "127.0.0.1", port, on_request=on_request) as server:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/health", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
