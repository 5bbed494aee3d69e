"""The blocking adapter and other people's WebSocket implementations, in both directions."""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from synchelpers import (
    DEADLINE,
    Job,
    client_context,
    echo,
    server_context,
    serving,
    tidy,
    uri_of,
)
from wsframe import Cause, Initiator, aio
from wsframe.sync import ConnectionClosed, WebSocket, connect

__all__ = ["tidy"]

pytestmark = pytest.mark.peer

PEERS = Path(__file__).parent / "peers"
MIB = 1 << 20
TEXT = "héllo " * (MIB // 7)
BINARY = bytes(range(256)) * (MIB // 256)
SIZE = 2 * MIB


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def compression(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def secure(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def address(server: Any, secure: bool) -> str:
    return uri_of(server).replace("ws:", "wss:") if secure else uri_of(server)


# websockets.sync


@pytest.fixture
def websockets() -> Any:
    """The modules `sync.client` and `sync.server`."""
    pytest.importorskip("websockets")
    names = ("websockets.sync.client", "websockets.sync.server")
    return tuple(importlib.import_module(name) for name in names)


def test_a_client_of_websockets(websockets: Any, compression: bool, secure: bool) -> None:
    client, _ = websockets
    context = {"ssl": server_context()} if secure else {}
    with serving(compression=compression, max_message_size=SIZE, **context) as (server, endings):
        with client.connect(
            address(server, secure),
            compression="deflate" if compression else None,
            ssl=client_context() if secure else None,
            max_size=SIZE,
        ) as ws:
            for message in (TEXT, BINARY, "", b"", "x"):
                ws.send(message)
                assert ws.recv(DEADLINE) == message
            assert ws.ping().wait(DEADLINE)
        ending = endings.one()
        assert (ending.cause, ending.code, ending.clean) == (Cause.CLOSE_HANDSHAKE, 1000, True)


def test_a_server_of_websockets(websockets: Any, compression: bool, secure: bool) -> None:
    _, module = websockets
    context = server_context() if secure else None
    with module.serve(
        echo,
        "127.0.0.1",
        0,
        compression="deflate" if compression else None,
        ssl=context,
        max_size=SIZE,
    ) as server:
        job = Job(server.serve_forever)
        try:
            scheme = "wss" if secure else "ws"
            with connect(
                f"{scheme}://127.0.0.1:{server.socket.getsockname()[1]}/",
                compression=compression,
                ssl=client_context() if secure else None,
            ) as ws:
                for message in (TEXT, BINARY, "", b"", "x"):
                    ws.send(message)
                    assert ws.recv(timeout=DEADLINE) == message
                assert ws.ping().wait(DEADLINE) < DEADLINE
            assert ws.ending is not None
            assert (ws.ending.cause, ws.ending.code) == (Cause.CLOSE_HANDSHAKE, 1000)
        finally:
            server.shutdown()
            job.result()


# Node's ws


def run_node(environment: dict[str, str], *arguments: str) -> str:
    result = subprocess.run(
        ["node", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


NODE_CLIENT = """
const WebSocket = require("ws");
const [url, compress] = process.argv.slice(-2);
const ws = new WebSocket(url, {perMessageDeflate: compress === "true", rejectUnauthorized: false});
const messages = ["h\\u00e9llo ".repeat(150000), Buffer.alloc(1 << 20, 7), "", "x"];
let next = 0;
ws.on("open", () => ws.send(messages[0]));
ws.on("message", (data, binary) => {
    const sent = Buffer.from(messages[next]);
    if (!sent.equals(data) || binary !== Buffer.isBuffer(messages[next])) { process.exit(3); }
    next += 1;
    if (next < messages.length) { ws.send(messages[next]); } else { ws.close(4000, "done"); }
});
ws.on("close", (code) => { console.log(code); });
"""


def test_a_client_of_node(node_environment: dict[str, str], compression: bool, secure: bool) -> None:
    options: dict[str, Any] = {"ssl": server_context()} if secure else {}
    with serving(compression=compression, max_message_size=SIZE, **options) as (server, endings):
        arguments = (address(server, secure), str(compression).lower())
        output = run_node(node_environment, "-e", NODE_CLIENT, "--", *arguments)
        assert output == "4000\n"
        ending = endings.one()
        assert (ending.code, ending.reason, ending.clean) == (4000, "done", True)


NODE_SERVER = """
const {WebSocketServer} = require("ws");
const compress = process.argv.at(-1) === "true";
const server = new WebSocketServer({host: "127.0.0.1", port: 0, perMessageDeflate: compress});
server.on("listening", () => console.log(server.address().port));
server.on("connection", (ws) => {
    ws.on("message", (data, binary) => ws.send(data, {binary}));
    ws.on("close", (code, reason) => { console.log(code, reason.toString()); server.close(); });
});
"""


def test_a_server_of_node(node_environment: dict[str, str], compression: bool) -> None:
    with subprocess.Popen(
        ["node", "-e", NODE_SERVER, "--", str(compression).lower()],
        env=node_environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            with connect(f"ws://127.0.0.1:{port}/", compression=compression) as ws:
                for message in (TEXT, BINARY, "", "x"):
                    ws.send(message)
                    assert ws.recv(timeout=DEADLINE) == message
                assert ws.ping().wait(DEADLINE) < DEADLINE
                ws.close(4000, "done")
            assert ws.ending is not None
            assert ws.ending.clean
            assert process.stdout.read() == "4000 done\n"
        finally:
            process.kill()


CLOSES = pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (1001, ""), (4999, "ü" * 60)])


@CLOSES
def test_our_close_for_a_client_of_node(node_environment: dict[str, str], code: int, reason: str) -> None:
    def handler(ws: WebSocket) -> None:
        ws.close(code, reason)

    with serving(handler) as (server, endings):
        seen = json.loads(run_node(node_environment, str(PEERS / "client.cjs"), uri_of(server), "{}"))
        assert (seen["close"], seen["reason"], seen["error"]) == (code, reason, None)
        ending = endings.one()
        assert (ending.clean, ending.initiator) == (True, Initiator.LOCAL)


@CLOSES
def test_the_close_of_a_server_of_node(node_environment: dict[str, str], code: int, reason: str) -> None:
    with subprocess.Popen(
        ["node", str(PEERS / "server.cjs")],
        env=node_environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            with connect(f"ws://127.0.0.1:{json.loads(process.stdout.readline())['port']}/") as ws:
                ws.send(f"close {code} {reason}")
                with pytest.raises(ConnectionClosed) as caught:
                    ws.recv(timeout=DEADLINE)
            closed = caught.value
            assert (closed.code, closed.reason, closed.ending.clean) == (code, reason, True)
        finally:
            process.kill()


# Our own asyncio adapter


def test_our_asyncio_client() -> None:
    async def talk(uri: str, context: ssl.SSLContext | None) -> None:
        async with aio.connect(uri, ssl=context, compression=True) as ws:
            await ws.send(TEXT)
            assert await ws.recv() == TEXT

    for secure in (False, True):
        options: dict[str, Any] = {"ssl": server_context()} if secure else {}
        with serving(compression=True, max_message_size=SIZE, **options) as (server, endings):
            asyncio.run(talk(address(server, secure), client_context() if secure else None))
            assert endings.one().clean
