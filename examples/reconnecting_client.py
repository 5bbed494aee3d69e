"""A client that stays: it connects again when the connection is lost, and subscribes anew every time.

    python examples/reconnecting_client.py ws://127.0.0.1:8765/ news weather

It ends when the server closes with 1000, when there is no use in trying again, and with Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools

from wsframe.aio import ConnectError, ConnectionClosed, RetryPolicy, WebSocket, connect

#: At most a second for the first retry, and at most half a minute for a later one; an hour without a connection is
#: enough.
POLICY = RetryPolicy(initial=1, maximum=30, max_seconds=3600)


async def subscribe(topics: list[str], ws: WebSocket) -> None:
    """What the server has to be told on every connection."""
    for topic in topics:
        await ws.send(f"subscribe {topic}")


async def main(uri: str, topics: list[str]) -> int:
    """Print what comes, from one connection after the other."""
    link = connect(uri, retry=POLICY, on_connected=functools.partial(subscribe, topics))
    try:
        async for ws in link:
            print(
                f"connected (attempt {link.attempts}); before that: {link.last_ending or 'nothing'}",
                flush=True,
            )
            # So that Ctrl-C, or a mistake in here, tells the server, too.
            async with ws:
                with contextlib.suppress(ConnectionClosed):
                    async for message in ws:
                        print(message, flush=True)
    except (ConnectError, ConnectionClosed) as exc:
        print(f"{exc} ({'; '.join(exc.__notes__)})")
        return 1
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A client that stays.")
    parser.add_argument("uri")
    parser.add_argument("topics", nargs="*")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        raise SystemExit(asyncio.run(main(arguments.uri, arguments.topics)))
