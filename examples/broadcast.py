"""What is posted to /push goes to everybody who is connected.

    PUSH_TOKEN=secret python examples/broadcast.py 8765
    python -m wsframe connect ws://127.0.0.1:8765/
    curl -H "Authorization: Bearer secret" -d "it rains" http://127.0.0.1:8765/push

The answer says how many have got it. Who does not keep up is disconnected with 1013, and holds up nobody. Without the
token any page in a browser on this machine could post.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import json
import os
import sys

from wsframe import Request, Response
from wsframe.aio import WebSocket, serve


async def listen(ws: WebSocket) -> None:
    """Who is connected gets what is pushed, until the end."""
    await ws.wait_closed()


async def main(port: int, token: str) -> None:
    """Serve until Ctrl-C."""

    async def on_request(request: Request) -> Response | None:
        if request.target != "/push":
            return None
        if request.method != "POST":
            return Response(405, headers=[("Allow", "POST")])
        shown = request.headers.get("Authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {token}".encode()):
            return Response(401, headers=[("WWW-Authenticate", "Bearer")])
        try:
            text = request.body.decode()
        except UnicodeDecodeError:
            return Response(400, body="it has to be UTF-8\n")
        result = await server.broadcast(text, policy="disconnect")
        headers = [("Content-Type", "application/json")]
        return Response(200, headers=headers, body=json.dumps(dataclasses.asdict(result)))

    async with serve(listen, "127.0.0.1", port, on_request=on_request) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    if not os.environ.get("PUSH_TOKEN"):
        sys.exit("say in PUSH_TOKEN what who pushes has to know")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765, os.environ["PUSH_TOKEN"]))
