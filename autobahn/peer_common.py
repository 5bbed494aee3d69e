"""What our two test peers share: their arguments, and loading the adapter and codec that were asked for."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import threading
from dataclasses import dataclass

#: The suite's largest message has 16 MiB, which is our client's default; our server's is smaller.
MAX_MESSAGE_SIZE = 64 * 2**20


@dataclass(frozen=True)
class PeerSettings:
    """What a peer was asked to do."""

    adapter: str
    codec: str | None
    compression: bool
    port: int = 0
    loop: str = "asyncio"
    callbacks: bool = False
    url: str = ""
    agent: str = "wsframe"


def read_arguments(program: str, *, url: bool) -> PeerSettings:
    """Read the command line of a server (`url` false) or client peer."""
    parser = argparse.ArgumentParser(prog=program, allow_abbrev=False)
    adapters = ["aio", "sync"] if url else ["aio", "sync", "uvicorn"]
    parser.add_argument("--adapter", choices=adapters, default="aio")
    parser.add_argument(
        "--codec", choices=["cython", "python"], help="end at once when another codec is loaded"
    )
    parser.add_argument("--no-compression", action="store_true", help="without permessage-deflate")
    if url:
        parser.add_argument("--agent", default="wsframe", help="the name in the suite's report")
        parser.add_argument("url", metavar="URL", help="the fuzzing server, e.g. ws://127.0.0.1:9001")
    else:
        parser.add_argument("--port", type=int, default=0, help="default: one that is free")
        parser.add_argument(
            "--loop", choices=["asyncio", "uvloop"], default="asyncio", help="of the adapters aio and uvicorn"
        )
        parser.add_argument("--callbacks", action="store_true", help="an Application of the adapter aio")
    args = parser.parse_args()
    common = (args.adapter, args.codec, not args.no_compression)
    settings = (
        PeerSettings(*common, url=args.url.rstrip("/"), agent=args.agent)
        if url
        else PeerSettings(*common, port=args.port, loop=args.loop, callbacks=args.callbacks)
    )
    check_codec(settings)
    return settings


def check_codec(settings: PeerSettings) -> None:
    """End the process when the codec that is loaded is not the one that shall be tested."""
    loaded = importlib.import_module("wsframe._backend").backend
    if settings.codec is not None and loaded != settings.codec:
        sys.exit(f"the {loaded} codec is loaded, not the {settings.codec} one")


async def stdin_closed() -> None:
    """Wait until standard input ends, which the runner's end does too."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wait() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait, daemon=True).start()
    await ended.wait()
