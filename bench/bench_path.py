"""Where the instructions of one echo go, from the event loop to the application and back: `python bench/bench_path.py`.

`python bench/bench_path.py uvicorn` compares what an application on uvicorn can have below it instead.

Counts them under callgrind (valgrind), without the kernel's: one echo server of `wsframe.aio` answers some thousand
messages of 32 B, another one some thousand more, and what these have added is divided by their number. Figures differ
by some percent from run to run.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

# Ours is the checkout that this file lies in.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from bench_servers import ASYNCHRONOUS
from bench_wire import REQUEST, TEXT, frame

FEW, MANY = 1000, 6000
STYLES = {"callbacks": "wsframe.callbacks", "coroutines": "wsframe"}
ON_UVICORN = ("uvicorn.wsframe", "uvicorn.websockets-sansio", "uvicorn.wsproto")
WAYS = ("uvloop callbacks", "uvloop coroutines", "asyncio callbacks", "asyncio coroutines")
#: What is counted with all that it calls: a part of the function's name in C, and what it is called here.
STEPS = (
    ("SocketTransport_.*on_readable", "readable"),
    ("9_fastpath_4Lane__receive", "lane"),
    ("Decoder_.*receive", "decoder"),
    ("__Pyx_PyObject_FastCallDict.constprop", "application"),
    ("Lane_.*send_nowait", "framing"),
    ("Lane__flush", "flush"),
)


def be_client(port: int, count: int) -> None:
    """Send so many messages, one at a time."""
    message = frame(TEXT, b"a" * 32, b"abcd")
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(REQUEST)
        sock.recv(4096)
        for _ in range(count):
            sock.sendall(message)
            sock.recv(4096)


async def be_server(style: str, count: int) -> None:
    """Answer them."""
    port = await ASYNCHRONOUS[STYLES.get(style, style)](None, False)
    client = os.fork()
    if not client:
        try:
            be_client(port, count)
        finally:
            os._exit(0)
    await asyncio.to_thread(os.waitpid, client, 0)


def count(way: str, messages: int, directory: str) -> dict[str, int]:
    """Run a server under callgrind; return the instructions of each step, and of everything."""
    file = f"{directory}/callgrind.out"
    ran = subprocess.run(
        [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={file}",
            sys.executable,
            __file__,
            way,
            str(messages),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    text = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", file],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # The client's process, which does less, is counted as well.
    totals = re.findall(r"I +refs: +([\d,]+)", ran.stderr)
    found = {"everything": max(int(total.replace(",", "")) for total in totals)}
    for pattern, step in STEPS:
        lines = re.findall(rf"^ *([\d,]+) \([ \d.]+%\)  (?!=>).*{pattern}.* \[", text, re.MULTILINE)
        found[step] = max((int(line.replace(",", "")) for line in lines), default=0)
    return found


def main() -> None:
    """Print the figures."""
    if len(sys.argv) > 2:
        loop, style = sys.argv[1].split()
        job = be_server(style, int(sys.argv[2]))
        if loop == "uvloop":
            import uvloop

            uvloop.run(job)
        else:
            asyncio.run(job)
        return
    ways: tuple[str, ...] = WAYS
    if sys.argv[1:] == ["uvicorn"]:
        ways = tuple(f"{loop} {name}" for loop in ("uvloop", "asyncio") for name in ON_UVICORN)
    with tempfile.TemporaryDirectory() as directory:
        for way in ways:
            few, many = count(way, FEW, directory), count(way, MANY, directory)
            each = {step: (many[step] - few[step]) // (MANY - FEW) for step in many}
            print(f"{way}: {each['everything']:,}", flush=True)
            if way == "uvloop callbacks":
                lane = each["lane"] - each["decoder"] - each["application"] - each["flush"]
                print(f"    event loop                        {each['everything'] - each['readable']:6,}")
                print(f"    SocketTransport, but for the lane {each['readable'] - each['lane']:6,}")
                print(f"    Lane.receive itself               {lane:6,}")
                print(f"    Decoder.receive                   {each['decoder']:6,}")
                print(f"    on_message and send_nowait        {each['application'] - each['framing']:6,}")
                print(f"    framing                           {each['framing']:6,}")
                print(f"    Lane.flush                        {each['flush']:6,}")


if __name__ == "__main__":
    main()
