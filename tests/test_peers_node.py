"""Our server with the client of Node's `ws`, and our client with its server."""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from adapterhelpers import authority
from aiohelpers import echo, port_of, run, server_context, until
from wsframe import Cause, Disconnected, Initiator
from wsframe.aio import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, WebSocket, connect, serve

pytestmark = pytest.mark.peer

PEERS = Path(__file__).parent / "peers"
SIZES = [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 3 << 20]


async def node(environment: dict[str, str], script: str, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        "node", str(PEERS / script), *arguments, stdin=PIPE, stdout=PIPE, env=environment
    )


async def node_client(environment: dict[str, str], uri: str, **options: Any) -> dict[str, Any]:
    """Run the client to its end; return what it saw."""
    process = await node(environment, "client.cjs", uri, json.dumps(options))
    output, _ = await process.communicate()
    assert process.returncode == 0
    seen = json.loads(output)
    assert isinstance(seen, dict)
    return seen


class NodeServer:
    """A running server, and what it says."""

    def __init__(self, process: Process, port: int) -> None:
        self._process = process
        self.uri = f"ws://127.0.0.1:{port}/"

    async def said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said = json.loads(await self._process.stdout.readline())
        assert isinstance(said, dict)
        return said


@contextlib.asynccontextmanager
async def node_server(environment: dict[str, str], **options: Any) -> AsyncIterator[NodeServer]:
    process = await node(environment, "server.cjs", json.dumps(options))
    assert process.stdout is not None
    try:
        port = json.loads(await process.stdout.readline())["port"]
        yield NodeServer(process, port)
    finally:
        await process.communicate(b"")


@contextlib.asynccontextmanager
async def ours(handler: Any = echo, **options: Any) -> AsyncIterator[tuple[str, list[Disconnected]]]:
    endings: list[Disconnected] = []
    options = {"max_message_size": 16 << 20, "ping_interval": 0.05} | options
    async with serve(
        handler, "127.0.0.1", 0, on_end=lambda *arguments: endings.append(arguments[-1]), **options
    ) as server:
        scheme = "ws" if options.get("ssl") is None else "wss"
        yield f"{scheme}://127.0.0.1:{port_of(server)}/", endings


@pytest.mark.parametrize("deflate", [False, True])
def test_our_server(node_environment: dict[str, str], deflate: bool) -> None:
    async def test() -> None:
        async with ours(compression=deflate, subprotocols=["b", "a"]) as (uri, endings):
            seen = await node_client(
                node_environment,
                uri,
                deflate=deflate,
                protocols=["a", "b"],
                sizes=SIZES,
                close=4000,
                reason="bye",
            )
            await until(lambda: endings)
        assert (seen["echoed"], seen["wrong"], seen["pong"], seen["error"]) == (
            2 * len(SIZES),
            0,
            "hello",
            None,
        )
        assert seen["protocol"] == "b"
        assert seen["extensions"] == ("permessage-deflate" if deflate else "")
        assert seen["close"] == 4000
        (ending,) = endings
        assert (ending.clean, ending.code, ending.reason) == (True, 4000, "bye")
        assert ending.initiator is Initiator.REMOTE

    run(test())


@pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (1001, ""), (4999, "ü" * 60)])
def test_our_server_closes(node_environment: dict[str, str], code: int, reason: str) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.close(code, reason)

    async def test() -> None:
        async with ours(handler) as (uri, endings):
            seen = await node_client(node_environment, uri)
            await until(lambda: endings)
        assert (seen["close"], seen["reason"], seen["error"]) == (code, reason, None)
        assert endings[0].clean

    run(test())


def test_our_servers_failing_close_is_seen(node_environment: dict[str, str]) -> None:
    async def test() -> None:
        async with ours() as (uri, endings):
            seen = await node_client(node_environment, uri, bad="a18000000000")
            await until(lambda: endings)
        assert seen["close"] == 1002
        assert "reserved" in seen["reason"].lower() or seen["reason"]
        assert endings[0].cause is Cause.PROTOCOL_ERROR

    run(test())


def test_our_server_over_tls(node_environment: dict[str, str]) -> None:
    async def test() -> None:
        async with ours(ssl=server_context()) as (uri, endings):
            ca = authority().cert_pem.bytes().decode()
            seen = await node_client(node_environment, uri, ca=ca, sizes=[5, 1 << 20], close=1000)
            refused = await node_client(node_environment, uri, sizes=[5], close=1000)
            await until(lambda: len(endings) == 2)
        assert (seen["echoed"], seen["wrong"], seen["close"]) == (4, 0, 1000)
        assert endings[0].clean
        assert refused["error"] is not None
        assert not endings[1].was_websocket

    run(test())


def test_our_servers_keepalive_is_answered(node_environment: dict[str, str]) -> None:
    async def handler(ws: WebSocket) -> None:
        await asyncio.sleep(0.4)

    async def test() -> None:
        async with ours(handler, ping_timeout=2) as (uri, endings):
            seen = await node_client(node_environment, uri)
            await until(lambda: endings)
        assert seen["pinged"] >= 2
        assert (seen["close"], endings[0].clean) == (1000, True)

    run(test())


@pytest.mark.parametrize("deflate", [False, True])
def test_our_client(node_environment: dict[str, str], deflate: bool) -> None:
    async def test() -> None:
        async with node_server(node_environment, deflate=deflate, protocol="b") as server:
            async with connect(server.uri, compression=deflate, subprotocols=["a", "b"]) as ws:
                assert ws.subprotocol == "b"
                assert ws.response is not None
                assert ("Sec-WebSocket-Extensions" in ws.response.headers) is deflate
                for size in SIZES * 2:
                    for message in (
                        "é☃x" * (size // 6),
                        bytes(range(256)) * (size // 256) + bytes(size % 256),
                    ):
                        await ws.send(message)
                        assert await ws.recv() == message
                assert await (await ws.ping()) >= 0
                await ws.send("ping")
                assert await ws.recv() == "pong hello"
                await ws.close(4001, "bye")
            assert ws.ending is not None
            assert (ws.ending.clean, ws.ending.initiator) == (True, Initiator.LOCAL)
            assert await server.said() == {"close": 4001, "reason": "bye"}

    run(test())


@pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (1001, ""), (1011, "x"), (4999, "ü" * 60)])
def test_our_client_is_closed(node_environment: dict[str, str], code: int, reason: str) -> None:
    async def test() -> None:
        async with node_server(node_environment) as server, connect(server.uri) as ws:
            await ws.send(f"close {code} {reason}")
            with pytest.raises(ConnectionClosed) as caught:
                await ws.recv()
            assert isinstance(caught.value, ConnectionClosedOK) is (code in (1000, 1001))
            assert (caught.value.code, caught.value.reason) == (code, reason)
            assert caught.value.ending.clean

    run(test())


def test_our_client_is_dropped(node_environment: dict[str, str]) -> None:
    async def test() -> None:
        async with node_server(node_environment) as server, connect(server.uri) as ws:
            await ws.send("drop")
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.ending.cause in (Cause.EOF, Cause.RESET)
            assert caught.value.code == 1006

    run(test())
