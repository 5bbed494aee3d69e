"""For the tests of the command line: servers beside the test, and commands as people run them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import framebuilder
from wsframe.aio import WebSocket, serve

#: Long enough for a busy machine; nothing waits for so long unless it fails.
PATIENCE = 30.0


async def behave(websocket: WebSocket) -> None:
    """What the path asks for."""
    path, _, query = websocket.request.target.partition("?")
    if path == "/welcome":
        await websocket.send("welcome")
    elif path == "/send":
        await websocket.send(bytes.fromhex(query).decode())
    elif path == "/close":
        code, _, reason = query.partition(",")
        await websocket.close(int(code), reason)
        return
    elif path == "/tick":
        for number in range(1000):
            await websocket.send(f"tick {number}")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await websocket.send(f"heard {await websocket.recv()!r}")
    async for message in websocket:
        if path == "/drop":
            websocket.abort()
        elif path == "/slow":
            await asyncio.sleep(0.8)
            await websocket.send(message)
        elif path == "/headers":
            await websocket.send("\n".join(f"{name}: {value}" for name, value in websocket.request.headers))
        elif path != "/silent":
            await websocket.send(message)


@contextmanager
def serving(context: ssl.SSLContext | None = None, **options: Any) -> Generator[str]:
    """A server of ours in a thread; gives its URI, without a path."""
    started: list[Any] = []
    ready = threading.Event()

    async def main() -> None:
        async with serve(behave, "127.0.0.1", 0, ssl=context, **options) as server:
            stop = asyncio.Event()
            started.extend((server.sockets[0].getsockname()[1], asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    port, loop, stop = started
    try:
        yield f"{'wss' if context else 'ws'}://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(PATIENCE)


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Generator[str]:
    """A server of bytes for one connection; gives its URI."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            accepted, _ = listener.accept()
            with accepted:
                accepted.settimeout(PATIENCE)
                talk(accepted)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(PATIENCE)


def environment(**more: str) -> dict[str, str]:
    """Nobody's own settings, as far as they change what is printed."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    return {**kept, **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-X", "dev", "-W", "error", "-m", "wsframe", *arguments]


def run(*arguments: str, stdin: bytes | None = None, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end. With neither input nor a terminal, stdin is empty."""
    return subprocess.run(
        command(*arguments),
        input=b"" if stdin is None else stdin,
        capture_output=True,
        env=environment(**more),
        timeout=PATIENCE,
        check=False,
    )


class Terminal:
    """A command with a terminal as stdin, stdout and stderr."""

    def __init__(self, *arguments: str, **more: str) -> None:
        self._master, slave = pty.openpty()
        # Without an emulator nobody answers when the prompt asks where the cursor is.
        settings = {"TERM": "xterm", "NO_COLOR": "1", "PROMPT_TOOLKIT_NO_CPR": "1", **more}
        self.process = subprocess.Popen(
            command(*arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(**settings),
            start_new_session=True,
        )
        os.close(slave)
        self.output = ""
        self._position = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Read until the pattern appears, behind the one before."""
        deadline = time.monotonic() + PATIENCE
        while (found := re.compile(pattern).search(self.output, self._position)) is None:
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{pattern!r} did not come; the terminal shows {self.output[-400:]!r}")
        self._position = found.end()
        return found

    def wait(self) -> int:
        """Read to the end, and return the exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline - time.monotonic()):
            pass
        return self.process.wait(PATIENCE)

    def _read(self, patience: float) -> bool:
        if patience <= 0 or not select.select([self._master], [], [], patience)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux: the other side is closed
            return False
        self.output += data.decode(errors="replace")
        return bool(data)


def lines(data: bytes) -> list[str]:
    return data.decode().splitlines()


def accept(sock: socket.socket, *more: bytes) -> None:
    """Read a request and answer it as a server does."""
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        request += sock.recv(65536)
    key = next(line[19:] for line in request.decode().split("\r\n") if line.startswith("Sec-WebSocket-Key: "))
    head = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {framebuilder.accept_for(key)}\r\n\r\n"
    )
    sock.sendall(head.encode() + b"".join(more))


def finish(sock: socket.socket) -> None:
    """Send EOF and read the rest: closing with unread input would be a reset."""
    sock.shutdown(socket.SHUT_WR)
    drain(sock)


def drain(sock: socket.socket) -> bytes:
    """Read until EOF."""
    data = b""
    while True:
        try:
            piece = sock.recv(65536)
        except ConnectionResetError:
            return data
        if not piece:
            return data
        data += piece
