"""The README's examples are run, so that they cannot rot."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from aiohelpers import run
from wsframe.aio import connect, serve

README = (Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def example(word: str) -> str:
    """The only example with that word in it."""
    (found,) = (text for text in EXAMPLES if word in text)
    assert isinstance(found, str)
    return found


def main_of(source: str, port: int) -> Any:
    """An example's coroutine function ``main``, with another port and not yet run."""
    source = source.replace("8765", str(port)).replace("asyncio.run(main())", "")
    names: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec"), names)
    return names["main"]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_no_example_is_forgotten() -> None:
    assert len(EXAMPLES) == 4
    assert [text for text in EXAMPLES if "asyncio.run(main())" in text] == [
        example("import serve"),
        example("import connect"),
    ]


def test_the_server() -> None:
    port = free_port()
    serving_main = main_of(example("import serve"), port)

    async def test() -> None:
        server = asyncio.create_task(serving_main())
        # It says nothing when it is ready.
        for _ in range(100):
            with contextlib.suppress(OSError):
                async with connect(f"ws://127.0.0.1:{port}/") as ws:
                    await ws.send("hello")
                    assert await ws.recv() == "hello"
                    await ws.send(b"hello")
                    assert await ws.recv() == b"hello"
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the server never listened")
        server.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await server

    run(test())


def test_the_callbacks() -> None:
    names: dict[str, Any] = {}
    exec(compile(example("Application"), "README.md", "exec"), names)

    async def test() -> None:
        async with serve(names["Echo"](), "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}/") as ws:
                for message in ("hello", b"hello"):
                    await ws.send(message)
                    assert await ws.recv() == message

    run(test())


def test_the_client() -> None:
    async def echo(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    async def test() -> str:
        async with serve(echo, "127.0.0.1", 0) as server:
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                await main_of(example("import connect"), server.sockets[0].getsockname()[1])()
            return output.getvalue()

    assert run(test()) == "hello\n"


def test_your_own_server() -> None:
    source = example("import wsframe\n")
    # The two lines that talk to the reader's socket, once for every chunk that comes.
    head, body = source.split("server = wsframe.Server()\n")
    names: dict[str, Any] = {}
    exec(compile(head + "server = wsframe.Server()\n", "README.md", "exec"), names)
    loop_body = compile(body, "README.md", "exec")
    ours, theirs = socket.socketpair()

    def pump() -> None:
        with ours:
            names["your_socket"] = ours
            while names["server"].transport.name == "OPEN":
                names["bytes_from_your_socket"] = ours.recv(65536)
                exec(loop_body, names)

    thread = threading.Thread(target=pump)
    thread.start()

    async def test() -> None:
        theirs.setblocking(False)
        async with connect("ws://socketpair.example/", sock=theirs) as ws:
            for message in ("text", b"binary", "", b"x" * 100_000):
                await ws.send(message)
                assert await ws.recv() == message
        assert ws.ending is not None
        assert ws.ending.clean

    try:
        run(test())
    finally:
        theirs.close()
        thread.join()
