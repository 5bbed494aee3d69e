"""Run the Autobahn suite against the ways through wsframe on asyncio that `python -m wsframe autobahn` does not take.

    .venv/bin/python autobahn/paths.py [--tier full] [WAY ...]

A way is an event loop, a style, and what carries the connections: `uvloop/callbacks/own`, for instance. The style
`asgi` is an application on uvicorn, with `wsframe.integrations.uvicorn`. Without any, all are run but the default one.
Exit status: 0 when every case was as expected.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

WAYS = (
    "asyncio/callbacks/own",
    "asyncio/coroutines/transports",
    "uvloop/callbacks/own",
    "uvloop/callbacks/transports",
    "uvloop/coroutines/own",
    "uvloop/coroutines/transports",
    "asyncio/asgi/uvicorn",
    "uvloop/asgi/uvicorn",
)


#: What a style is for the peer.
_OPTIONS = {"callbacks": ["--callbacks"], "asgi": ["--adapter", "uvicorn"]}


def judge(way: str, tier: str) -> bool:
    """Run the suite against a way; whether every case was as expected."""
    print(f"{way}:", flush=True)
    loop, style, carried = way.split("/")
    server_peer = str(Path(__file__).with_name("server_peer.py"))
    with subprocess.Popen(
        [sys.executable, server_peer, "--loop", loop, *_OPTIONS.get(style, ())],
        env={**os.environ, **({"WSFRAME_LOOP_TRANSPORTS": "1"} if carried == "transports" else {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        # "listening PORT"
        port = server.stdout.readline().split()[-1:]
        url = "".join(["ws://127.0.0.1:", *port])
        command = [sys.executable, "-m", "wsframe", "autobahn", "--url", url, "--tier", tier]
        passed = bool(port) and subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode == 0
        server.communicate("")
    return passed


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="The Autobahn suite on every way through wsframe.aio.")
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"default: all of {', '.join(WAYS)}")
    parser.add_argument("--tier", choices=["fast", "full"], default="fast")
    arguments = parser.parse_args()
    unknown = set(arguments.ways) - set(WAYS)
    if unknown:
        parser.error(f"there is no way {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    for module in ("uvloop", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            parser.error(f"{module} is not installed")
    failed = [way for way in arguments.ways or WAYS if not judge(way, arguments.tier)]
    if failed:
        print(f"not as expected: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
