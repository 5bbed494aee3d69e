"""Run a command that serves, in a directory, and talk to it with a client that is not ours.

Usage: check_serve.py DIRECTORY COMMAND. The command must print a ``ws://`` URI, echo a text message, and end without a
traceback when interrupted.
"""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time

from websockets.sync.client import connect

STARTED_WITHIN = 240  # it makes a virtual environment and installs first
STOPPED_WITHIN = 20


def wait_for_uri(output: queue.SimpleQueue[str | None]) -> str:
    deadline = time.monotonic() + STARTED_WITHIN
    while True:
        line = output.get(timeout=max(0.0, deadline - time.monotonic()))
        if line is None:
            raise SystemExit("the command ended before it served")
        if found := re.search(r"wss?://[^\s'\"]+", line):
            return found.group().rstrip(".,;)")


def main() -> None:
    directory, command = sys.argv[1:]
    print(f"$ {command}", flush=True)
    server = subprocess.Popen(
        ["bash", "-c", command],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own, to be interrupted as Ctrl-C does it: the shell and what it runs.
        process_group=0,
    )
    stdout = server.stdout
    assert stdout is not None
    lines: list[str] = []
    output: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stdout:
            sys.stdout.write(line)
            lines.append(line)
            output.put(line)
        output.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        try:
            uri = wait_for_uri(output)
        except queue.Empty:
            raise SystemExit(f"the command printed no ws:// URI within {STARTED_WITHIN} s") from None
        with connect(uri, open_timeout=10, close_timeout=10) as ws:
            ws.send("hello")
            answer = ws.recv(timeout=10)
        if answer != "hello":
            raise SystemExit(f"sent 'hello' to {uri}, received {answer!r}")
        os.killpg(server.pid, signal.SIGINT)
        try:
            server.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"still there {STOPPED_WITHIN} s after an interrupt") from None
        reader.join(STOPPED_WITHIN)
        if any(line.startswith("Traceback") for line in lines):
            raise SystemExit("there was a traceback")
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    print(f"{uri} echoed, and stopped on an interrupt")


if __name__ == "__main__":
    main()
