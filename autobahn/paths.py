"""Run the Autobahn suite against the ways through `wsframe.aio` that `python -m wsframe autobahn` does not take.

    .venv/bin/python autobahn/paths.py [--tier full] [WAY ...]

A way is an event loop, a style, and what carries the connections: `uvloop/callbacks/own`, for instance. Without any,
all are run but the default one. Exit status: 0 when every case was as expected.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import subprocess
import sys
from typing import Any

from wsframe.aio import Application, WebSocket, serve

WAYS = (
    "asyncio/callbacks/own",
    "asyncio/coroutines/transports",
    "uvloop/callbacks/own",
    "uvloop/callbacks/transports",
    "uvloop/coroutines/own",
    "uvloop/coroutines/transports",
)


class Echo(Application):
    """Sends back what comes."""

    def on_message(self, ws: WebSocket, message: str | bytes, /) -> None:
        """Echo."""
        ws.send_nowait(message)


async def echo(ws: WebSocket) -> None:
    """Send back what comes."""
    async for message in ws:
        await ws.send(message)


async def serve_until_stdin_ends(style: str) -> None:
    """Serve, and print where."""
    handler: Any = Echo() if style == "callbacks" else echo
    # The suite's largest messages have 16 MiB.
    async with serve(handler, "127.0.0.1", 0, max_message_size=16 << 20, compression=True) as server:
        print(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def run_server(way: str) -> None:
    """Be the server that goes that way."""
    loop, style, _ = way.split("/")
    if loop == "uvloop":
        import uvloop

        uvloop.run(serve_until_stdin_ends(style))
    else:
        asyncio.run(serve_until_stdin_ends(style))


def judge(way: str, tier: str) -> bool:
    """Run the suite against a way; whether every case was as expected."""
    print(f"{way}:", flush=True)
    carried = {"WSFRAME_LOOP_TRANSPORTS": "1"} if way.endswith("/transports") else {}
    with subprocess.Popen(
        [sys.executable, __file__, "--serve", way],
        env={**os.environ, **carried},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        command = [sys.executable, "-m", "wsframe", "autobahn", "--url", url, "--tier", tier]
        passed = bool(url) and subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0
        server.communicate("")
    return passed


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="The Autobahn suite on every way through wsframe.aio.")
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"default: all of {', '.join(WAYS)}")
    parser.add_argument("--tier", choices=["fast", "full"], default="fast")
    parser.add_argument("--serve", metavar="WAY", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        run_server(arguments.serve)
        return 0
    unknown = set(arguments.ways) - set(WAYS)
    if unknown:
        parser.error(f"there is no way {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    if importlib.util.find_spec("uvloop") is None:
        parser.error("uvloop is not installed")
    failed = [way for way in arguments.ways or WAYS if not judge(way, arguments.tier)]
    if failed:
        print(f"not as expected: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
