"""A chat with rooms, and its page: one port for both.

    python examples/chat.py 8765

Then open the address that it prints, in several windows. Rooms are groups of the server: they come into being with
their first member, and who leaves, or is lost, is out of the group without anything being done.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from wsframe import Request, Response
from wsframe.aio import Accept, WebSocket, serve

PAGE = Path(__file__).with_name("chat.html").read_bytes()

#: Characters of a name, of a person or a room.
MAX_NAME = 20


def on_request(request: Request) -> Response | Accept:
    """The page for /, a WebSocket for /chat?room=...&name=..."""
    url = urlsplit(request.target)
    if url.path == "/":
        return Response(200, headers=[("Content-Type", "text/html; charset=utf-8")], body=PAGE)
    if url.path != "/chat":
        return Response(404, body="the chat is at /\n")
    asked = dict(parse_qsl(url.query))
    room, name = asked.get("room", "").strip(), asked.get("name", "").strip()
    if not 0 < len(room) <= MAX_NAME or not 0 < len(name) <= MAX_NAME:
        # A page cannot see the status of a response, but a Close code.
        return Accept(close=(4000, f"a room and a name, of up to {MAX_NAME} characters each"))
    return Accept(context=(room, name))


async def chat(ws: WebSocket) -> None:
    """One person in one room, from coming to leaving."""
    room, name = ws.context

    def tell(event: str, **more: str | list[str]) -> None:
        ws.server.broadcast(json.dumps({"event": event, "name": name, **more}), to=room)

    def names() -> list[str]:
        return sorted(member.context[1] for member in ws.server.groups.get(room, ()))

    ws.join(room)
    tell("joined", names=names())
    try:
        async for text in ws:
            if isinstance(text, str):
                tell("said", text=text)
    finally:
        tell("left", names=names())


async def main(port: int) -> None:
    """Serve until Ctrl-C."""
    async with serve(chat, "127.0.0.1", port, on_request=on_request, max_message_size=4096) as server:
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
