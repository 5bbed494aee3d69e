"""Our servers with websockets' asyncio client, and our clients with its asyncio server.

Its blocking ones are in `test_sync_peers`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.frames import Close

import synchelpers
from aiohelpers import aio_test, client_context, echo, port_of, server_context, until, uri_of
from wsframe import Cause, Disconnected, Initiator, sync
from wsframe.aio import (
    ConnectionClosedError,
    ConnectionClosedOK,
    HandshakeRejected,
    WebSocket,
    connect,
    serve,
)

pytestmark = pytest.mark.peer

MESSAGES: list[str | bytes] = [
    *("", "x", "héllo wörld ☃ 𝄞", "x" * 125, "x" * 126, "y" * 65535, "y" * 65536, "é" * 600_000),
    *(b"", b"\x00\xff", bytes(range(256)) * 300, b"z" * (1 << 20), bytes(3 << 20)),
]


async def their_echo(ws: Any) -> None:
    async for message in ws:
        await ws.send(message)


@contextlib.asynccontextmanager
async def ours(handler: Any = echo, **options: Any) -> AsyncIterator[tuple[str, list[Disconnected]]]:
    endings: list[Disconnected] = []
    options.setdefault("max_message_size", 16 << 20)
    async with serve(
        handler, "127.0.0.1", 0, on_end=lambda *arguments: endings.append(arguments[-1]), **options
    ) as server:
        uri = uri_of(server)
        yield uri if options.get("ssl") is None else uri.replace("ws:", "wss:"), endings


@contextlib.asynccontextmanager
async def theirs(handler: Any = their_echo, **options: Any) -> AsyncIterator[str]:
    options.setdefault("max_size", 16 << 20)
    async with websockets.asyncio.server.serve(handler, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{port_of(server)}/"


def dial(uri: str, **options: Any) -> Any:
    options.setdefault("max_size", 16 << 20)
    return websockets.asyncio.client.connect(uri, proxy=None, **options)


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_our_server_echoes(compression: bool) -> None:
    async with (
        ours(compression=compression) as (uri, endings),
        dial(uri, compression="deflate" if compression else None) as ws,
    ):
        assert bool(ws.protocol.extensions) is compression
        for message in MESSAGES * 2:
            await ws.send(message)
            assert await ws.recv() == message
        # Fragmented.
        await ws.send(["frag", "", "mented"])
        assert await ws.recv() == "fragmented"
        await ws.close(1000, "bye")
        await until(lambda: endings)
        assert (endings[0].clean, endings[0].code, endings[0].reason) == (True, 1000, "bye")
        assert endings[0].initiator is Initiator.REMOTE


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_our_client_is_echoed(compression: bool) -> None:
    async with (
        theirs(compression="deflate" if compression else None) as uri,
        connect(uri, compression=compression) as ws,
    ):
        for message in MESSAGES * 2:
            await ws.send(message)
            assert await ws.recv() == message
        await ws.close(1000, "bye")
        assert ws.ending is not None
        assert (ws.ending.clean, ws.ending.initiator) == (True, Initiator.LOCAL)


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_a_flood_both_ways_keeps_its_order(compression: bool) -> None:
    async with (
        ours(compression=compression) as (uri, _),
        dial(uri, compression="deflate" if compression else None) as ws,
    ):

        async def send() -> None:
            for number in range(2000):
                await ws.send(f"{number} " + "x" * 500)

        sending = asyncio.create_task(send())
        for number in range(2000):
            assert (await ws.recv()).startswith(f"{number} ")
        await sending


@aio_test
async def test_over_tls() -> None:
    async with ours(ssl=server_context()) as (uri, _), dial(uri, ssl=client_context()) as ws:
        for message in MESSAGES:
            await ws.send(message)
            assert await ws.recv() == message
    async with (
        websockets.asyncio.server.serve(their_echo, "127.0.0.1", 0, ssl=server_context()) as server,
        connect(f"wss://127.0.0.1:{port_of(server)}/", ssl=client_context()) as ours_,
    ):
        for message in ("x", bytes(1 << 20)):
            await ours_.send(message)
            assert await ours_.recv() == message


@aio_test
async def test_subprotocols() -> None:
    async with ours(subprotocols=["b", "a"]) as (uri, _):
        async with dial(uri, subprotocols=["a", "b"]) as ws:
            assert ws.subprotocol == "b"
        async with dial(uri) as ws:
            assert ws.subprotocol is None
    async with ours(subprotocols=["b"], require_subprotocol=True) as (uri, _):
        with pytest.raises(websockets.InvalidStatus) as caught:
            await dial(uri)
        assert caught.value.response.status_code == 400
    async with theirs(subprotocols=["b", "a"]) as uri, connect(uri, subprotocols=["a", "b"]) as client:
        assert client.subprotocol == "b"


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (3000, "ü" * 60), (4999, "x")])
@aio_test
async def test_close_codes_and_reasons_both_ways(code: int, reason: str) -> None:
    good = code in (1000, 1001)

    async def we_close(ws: WebSocket) -> None:
        await ws.close(code, reason)

    async with ours(we_close) as (uri, endings), dial(uri) as ws:
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await ws.recv()
        assert caught.value.rcvd == Close(code, reason)
        await until(lambda: endings)
        assert endings[0].clean

    async def they_close(ws: Any) -> None:
        await ws.close(code, reason)

    async with theirs(they_close) as uri, connect(uri) as client:
        with pytest.raises(ConnectionClosedOK if good else ConnectionClosedError) as ours_:
            await client.recv()
        assert (ours_.value.code, ours_.value.reason) == (code, reason)
        assert ours_.value.ending.clean


@aio_test
async def test_pings_both_ways() -> None:
    async with ours() as (uri, _), dial(uri) as ws:
        assert await (await ws.ping()) >= 0
        assert await (await ws.ping(b"x" * 125)) >= 0
    async with theirs() as uri, connect(uri) as client:
        assert await (await client.ping()) >= 0
        assert await (await client.ping(b"x" * 125)) >= 0
        assert client.latency is not None


@aio_test
async def test_keepalive_of_both_sides() -> None:
    async with (
        ours(ping_interval=0.05, ping_timeout=0.5) as (uri, endings),
        dial(uri, ping_interval=0.05, ping_timeout=0.5) as ws,
    ):
        await asyncio.sleep(0.4)
        assert not endings
        await ws.send("alive")
        assert await ws.recv() == "alive"


@aio_test
async def test_a_failing_close_is_seen_at_once() -> None:
    async with ours() as (uri, endings), dial(uri) as ws:
        # RSV2, behind the back of their protocol.
        ws.transport.write(b"\xa1\x80\x00\x00\x00\x00")
        async with asyncio.timeout(1):
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                await ws.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1002
        await until(lambda: endings)
        assert endings[0].cause is Cause.PROTOCOL_ERROR


@aio_test
async def test_too_big_both_ways() -> None:
    async with ours(max_message_size=1000) as (uri, endings), dial(uri) as ws:
        await ws.send("x" * 1000)
        assert len(await ws.recv()) == 1000
        await ws.send("x" * 1001)
        with pytest.raises(websockets.ConnectionClosedError) as caught:
            await ws.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
        await until(lambda: endings)
        assert endings[0].cause is Cause.TOO_BIG
    async with theirs(max_size=1000) as uri, connect(uri) as client:
        await client.send("x" * 1001)
        with pytest.raises(ConnectionClosedError) as theirs_:
            await client.recv()
        assert theirs_.value.code == 1009


@aio_test
async def test_a_handler_that_fails_on_either_side() -> None:
    async def fails(ws: Any) -> None:
        # Like a failing handler, without its line in the log.
        await ws.close(1011, "oops")

    async with ours(fails) as (uri, _), dial(uri) as ws:
        with pytest.raises(websockets.ConnectionClosedError):
            await ws.recv()
        assert (ws.close_code, ws.close_reason) == (1011, "oops")
    async with theirs(fails) as uri, connect(uri) as client:
        with pytest.raises(ConnectionClosedError):
            await client.recv()
        assert (client.close_code, client.close_reason) == (1011, "oops")


@aio_test
async def test_servers_that_go_away() -> None:
    async with ours() as (uri, _):
        ws = await dial(uri)
    with pytest.raises(websockets.ConnectionClosedOK):
        await ws.recv()
    assert ws.close_code == 1001
    async with theirs() as uri:
        client = await connect(uri)
    with pytest.raises(ConnectionClosedOK):
        await client.recv()
    assert client.close_code == 1001


@aio_test
async def test_a_refusal() -> None:
    def refuse(connection: Any, request: Any) -> Any:
        return connection.respond(418, "no tea\n")

    async with theirs(process_request=refuse) as uri:
        with pytest.raises(HandshakeRejected) as caught:
            await connect(uri)
    assert (caught.value.status, caught.value.body) == (418, b"no tea\n")


# The blocking adapter: its server in threads beside the event loop, its client in one.


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_our_blocking_server(compression: bool) -> None:
    with synchelpers.serving(compression=compression, max_message_size=16 << 20) as (server, endings):
        async with dial(uri_of(server), compression="deflate" if compression else None) as ws:
            assert bool(ws.protocol.extensions) is compression
            for message in MESSAGES:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.send(["frag", "", "mented"])
            assert await ws.recv() == "fragmented"
            assert await (await ws.ping(b"x" * 125)) >= 0
            await ws.close(4000, "bye")
        await until(lambda: endings)
    (ending,) = endings
    assert (ending.clean, ending.code, ending.reason) == (True, 4000, "bye")


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_our_blocking_client(compression: bool) -> None:
    async def handler(ws: Any) -> None:
        # In fragments.
        await ws.send(["frag", "", "mented"])
        async for message in ws:
            if message == "close":
                await ws.close(4000, "ü" * 60)
            else:
                await ws.send(message)

    def talk(uri: str) -> sync.ConnectionClosed:
        with sync.connect(uri, compression=compression) as ws:
            assert ws.recv(timeout=synchelpers.DEADLINE) == "fragmented"
            for message in MESSAGES:
                ws.send(message)
                assert ws.recv(timeout=synchelpers.DEADLINE) == message
            assert ws.ping(b"x" * 125).wait(synchelpers.DEADLINE) >= 0
            ws.send("close")
            with pytest.raises(sync.ConnectionClosed) as caught:
                ws.recv(timeout=synchelpers.DEADLINE)
        return caught.value

    async with theirs(handler, compression="deflate" if compression else None) as uri:
        closed = await asyncio.to_thread(talk, uri)
    assert (closed.code, closed.reason, closed.ending.clean) == (4000, "ü" * 60, True)
    assert closed.ending.initiator is Initiator.REMOTE
