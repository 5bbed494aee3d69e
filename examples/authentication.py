"""Only those who have a token are let in.

    python examples/authentication.py 8765
    python -m wsframe connect ws://127.0.0.1:8765/ --header "Authorization: Bearer token-of-ann"

A program shows the token in the header Authorization, and is refused with 401 if it has none. A page in a browser can
set no header, but sends its cookies; and it never learns why it was refused. So it is let in and told with a Close
code: 3000 is registered for "unauthorized".
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import sys
from http.cookies import CookieError, SimpleCookie

from wsframe import Request, Response
from wsframe.aio import Accept, WebSocket, serve

#: Token -> user. Yours come from a database.
TOKENS = {"token-of-ann": "ann", "token-of-bob": "bob"}


def user_of(request: Request) -> str | None:
    """Who shows a token that is known."""
    cookies: SimpleCookie = SimpleCookie()
    with contextlib.suppress(CookieError):
        cookies.load(request.headers.get("Cookie", ""))
    shown = [request.headers.get("Authorization", "").removeprefix("Bearer ")]
    if "token" in cookies:
        shown.append(cookies["token"].value)
    for token, user in TOKENS.items():
        # How long it takes says nothing about the token.
        if any(hmac.compare_digest(token.encode(), candidate.encode()) for candidate in shown):
            return user
    return None


def on_request(request: Request) -> Response | Accept:
    """Called with every request, before the WebSocket is opened."""
    user = user_of(request)
    if user is not None:
        return Accept(context=user)
    if "Origin" in request.headers:
        # It is a browser's.
        return Accept(close=(3000, "log in first"))
    return Response(401, headers=[("WWW-Authenticate", "Bearer")], body="a token, please\n")


async def handler(ws: WebSocket) -> None:
    """Called for those who were let in."""
    await ws.send(f"hello, {ws.context}")
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    """Serve until Ctrl-C."""
    async with serve(handler, "127.0.0.1", port, on_request=on_request) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8765))
