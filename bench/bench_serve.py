"""A server under test in a process of its own: `bench_serve.py NAME CORE [deflate] [tls=DIRECTORY]`.

CORE is a number, or - for any. DIRECTORY has cert.pem and key.pem. Prints {"ready": {..., "port": PORT}} or
{"missing": why}, and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Ours is the checkout that this file lies in, whatever else may be installed.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from bench_contestants import ECHO, Entry
from bench_errors import MissingError
from bench_servers import ASYNCHRONOUS, wsframe_sync


def describe(entry: Entry) -> dict[str, Any]:
    """Return what is loaded; raise what says that it is not here."""
    described: dict[str, Any] = {}
    if entry.loop == "uvloop":
        import uvloop  # noqa: F401  # it may be missing

        described["loop"] = f"uvloop {version('uvloop')}"
    elif entry.loop is not None:
        described["loop"] = f"asyncio {sys.version.split()[0]}"
    if entry.codec is not None:
        from bench_ours import Wsframe

        host = {} if entry.install is None else {"host": f"{entry.install} {version(entry.install)}"}
        return described | host | Wsframe(entry.codec).describe()
    name = entry.install or ""
    return described | {"version": version(name) if name else sys.version.split()[0]}


def context(directory: str) -> ssl.SSLContext:
    """Return the server's side of TLS."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
    return made


def say(answer: dict[str, Any]) -> None:
    """Answer whoever has started this."""
    print(json.dumps(answer), flush=True)


def end_with_stdin() -> None:
    """Wait until whoever has started this is done with it, or gone."""
    sys.stdin.read()
    os._exit(0)


async def serve(entry: Entry, described: dict[str, Any], tls: ssl.SSLContext | None, deflate: bool) -> None:
    """Serve for ever."""
    start = ASYNCHRONOUS[entry.name.partition("/")[0]]
    port = await start(tls, deflate)
    say({"ready": {**described, "port": port}})
    await asyncio.get_running_loop().create_future()


def main() -> None:
    """Serve until stdin ends."""
    name, core, *options = sys.argv[1:]
    if core != "-":
        os.sched_setaffinity(0, {int(core)})
    entry = ECHO.entries[name]
    try:
        described = describe(entry)
    except (ImportError, MissingError) as error:
        say({"missing": str(error)})
        return
    directory = next((option.removeprefix("tls=") for option in options if option.startswith("tls=")), None)
    tls = None if directory is None else context(directory)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    if entry.loop is None:
        port = wsframe_sync(tls, "deflate" in options)
        say({"ready": {**described, "port": port}})
        threading.Event().wait()
    elif entry.loop == "uvloop":
        import uvloop

        uvloop.run(serve(entry, described, tls, "deflate" in options))
    else:
        asyncio.run(serve(entry, described, tls, "deflate" in options))


if __name__ == "__main__":
    main()
