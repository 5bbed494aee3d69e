"""Our servers with aiohttp's client, and our clients with aiohttp's server."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator
from typing import Any

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import aiohttp
    from aiohttp import web

import synchelpers
from aiohelpers import aio_test, client_context, echo, port_of, server_context, until, uri_of
from wsframe import Cause, Disconnected, Initiator, sync
from wsframe.aio import ConnectionClosed, HandshakeRejected, WebSocket, connect, serve

pytestmark = pytest.mark.peer

MESSAGES: list[str | bytes] = [
    *("", "x", "héllo ☃ 𝄞", "x" * 126, "y" * 65536, "é" * 600_000),
    *(b"", b"\x00\xff", bytes(range(256)) * 300, b"z" * (1 << 20)),
]


@contextlib.asynccontextmanager
async def ours(handler: Any = echo, **options: Any) -> AsyncIterator[tuple[str, list[Disconnected]]]:
    endings: list[Disconnected] = []
    async with serve(
        handler, "127.0.0.1", 0, on_end=lambda *arguments: endings.append(arguments[-1]), **options
    ) as server:
        uri = uri_of(server)
        # aiohttp's limit is below the longest message here, ours too without this.
        yield uri if options.get("ssl") is None else uri.replace("ws:", "wss:"), endings


@contextlib.asynccontextmanager
async def dial(uri: str, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(uri, max_msg_size=16 << 20, **options) as ws,
    ):
        yield ws


@contextlib.asynccontextmanager
async def theirs(handler: Any, *, ssl: Any = None, **options: Any) -> AsyncIterator[str]:
    async def upgrade(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=16 << 20, **options)
        await ws.prepare(request)
        await handler(ws)
        return ws

    app = web.Application()
    app.router.add_get("/", upgrade)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl)
    await site.start()
    assert site._server is not None
    try:
        yield f"ws{'s' if ssl else ''}://127.0.0.1:{port_of(site._server)}/"
    finally:
        await runner.cleanup()


async def their_echo(ws: Any) -> None:
    async for message in ws:
        if message.type is aiohttp.WSMsgType.TEXT:
            await ws.send_str(message.data)
        else:
            await ws.send_bytes(message.data)


async def echoes(ws: aiohttp.ClientWebSocketResponse) -> None:
    for message in MESSAGES * 2:
        if isinstance(message, str):
            await ws.send_str(message)
        else:
            await ws.send_bytes(message)
        assert (await ws.receive()).data == message


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_our_server_echoes(compression: bool) -> None:
    async with ours(compression=compression, max_message_size=16 << 20) as (uri, endings):
        async with dial(uri, compress=15 if compression else 0) as ws:
            assert bool(ws.compress) is compression
            await echoes(ws)
            await ws.close(code=4000, message=b"bye")
        await until(lambda: endings)
        assert (endings[0].clean, endings[0].code, endings[0].reason) == (True, 4000, "bye")


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_our_client_is_echoed(compression: bool) -> None:
    async with theirs(their_echo, compress=compression) as uri:
        async with connect(uri, compression=compression) as ws:
            assert ws.response is not None
            assert ("Sec-WebSocket-Extensions" in ws.response.headers) is compression
            for message in MESSAGES * 2:
                await ws.send(message)
                assert await ws.recv() == message
        assert ws.ending is not None
        assert ws.ending.clean


@aio_test
async def test_over_tls() -> None:
    async with (
        ours(ssl=server_context(), max_message_size=16 << 20) as (uri, _),
        dial(uri, ssl=client_context()) as ws,
    ):
        await echoes(ws)
    async with (
        theirs(their_echo, ssl=server_context()) as uri,
        connect(uri, ssl=client_context()) as client,
    ):
        for message in MESSAGES:
            await client.send(message)
            assert await client.recv() == message


@aio_test
async def test_subprotocols() -> None:
    async with ours(subprotocols=["b", "a"]) as (uri, _), dial(uri, protocols=["a", "b"]) as ws:
        assert ws.protocol == "b"
    async with (
        theirs(their_echo, protocols=["a", "c"]) as uri,
        connect(uri, subprotocols=["b", "a"]) as client,
    ):
        assert client.subprotocol == "a"


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going"), (4999, "ü" * 60)])
@aio_test
async def test_close_codes_and_reasons_both_ways(code: int, reason: str) -> None:
    async def we_close(ws: WebSocket) -> None:
        await ws.close(code, reason)

    async with ours(we_close) as (uri, endings):
        async with dial(uri) as ws:
            message = await ws.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert (message.data, message.extra) == (code, reason)
        await until(lambda: endings)
        assert endings[0].clean

    async def they_close(ws: Any) -> None:
        await ws.close(code=code, message=reason.encode())

    async with theirs(they_close) as uri, connect(uri) as client:
        with pytest.raises(ConnectionClosed) as caught:
            await client.recv()
        assert (caught.value.code, caught.value.reason) == (code, reason)
        assert caught.value.ending.clean


@aio_test
async def test_pings_both_ways() -> None:
    async with ours() as (uri, _), dial(uri, autoping=False) as ws:
        await ws.ping(b"hello")
        message = await ws.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.PONG, b"hello")
    async with theirs(their_echo) as uri, connect(uri) as client:
        assert await (await client.ping(b"hello")) >= 0


@aio_test
async def test_heartbeats_of_both_sides() -> None:
    async with (
        ours(ping_interval=0.05, ping_timeout=0.5) as (uri, endings),
        dial(uri, heartbeat=0.1) as ws,
    ):
        receiving = asyncio.create_task(ws.receive())
        await asyncio.sleep(0.4)
        assert not endings
        await ws.send_str("alive")
        assert (await receiving).data == "alive"


@aio_test
async def test_a_client_that_vanishes() -> None:
    async with ours() as (uri, endings):
        async with aiohttp.ClientSession() as session:
            ws = await session.ws_connect(uri)
            assert ws._response.connection is not None
            assert ws._response.connection.transport is not None
            ws._response.connection.transport.abort()
            await until(lambda: endings)
            await ws.receive()
        assert endings[0].cause in (Cause.EOF, Cause.RESET)


@aio_test
async def test_a_refusal() -> None:
    async with theirs(their_echo) as uri:
        with pytest.raises(HandshakeRejected) as caught:
            await connect(uri + "elsewhere")
    assert caught.value.status == 404
    async with ours(origins=["https://example.org"]) as (uri, _):
        with pytest.raises(aiohttp.WSServerHandshakeError) as theirs_:
            async with dial(uri, origin="https://elsewhere.example"):
                pass
        assert theirs_.value.status == 403


# The blocking adapter: its server in threads beside the event loop, its client in one.


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_our_blocking_server(compression: bool) -> None:
    with synchelpers.serving(compression=compression, max_message_size=16 << 20, subprotocols=["b", "a"]) as (
        server,
        endings,
    ):
        async with dial(uri_of(server), compress=15 if compression else 0, protocols=["a", "b"]) as ws:
            assert (ws.protocol, bool(ws.compress)) == ("b", compression)
            await echoes(ws)
            await ws.close(code=4000, message=b"bye")
        await until(lambda: endings)
    (ending,) = endings
    assert (ending.clean, ending.code, ending.reason) == (True, 4000, "bye")
    assert ending.initiator is Initiator.REMOTE


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_our_blocking_client(compression: bool) -> None:
    def talk(uri: str) -> None:
        with sync.connect(uri, compression=compression, subprotocols=["b", "a"]) as ws:
            assert ws.subprotocol == "a"
            for message in MESSAGES * 2:
                ws.send(message)
                assert ws.recv(timeout=synchelpers.DEADLINE) == message
            assert ws.ping(b"hello").wait(synchelpers.DEADLINE) >= 0
            ws.close(4000, "bye")
        assert ws.ending is not None
        assert (ws.ending.clean, ws.ending.initiator) == (True, Initiator.LOCAL)

    seen = []

    async def handler(ws: Any) -> None:
        await their_echo(ws)
        seen.append(ws.close_code)

    async with theirs(handler, compress=compression, protocols=["a", "c"]) as uri:
        await asyncio.to_thread(talk, uri)
        await until(lambda: seen)
    assert seen == [4000]


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4999, "ü" * 60)])
@aio_test
async def test_close_codes_and_reasons_both_ways_with_the_blocking_adapter(code: int, reason: str) -> None:
    def we_close(ws: sync.WebSocket) -> None:
        ws.close(code, reason)

    with synchelpers.serving(we_close) as (server, endings):
        async with dial(uri_of(server)) as ws:
            message = await ws.receive()
            assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, code, reason)
        await until(lambda: endings)
    assert endings[0].clean

    async def they_close(ws: Any) -> None:
        await ws.close(code=code, message=reason.encode())

    def be_closed(uri: str) -> sync.ConnectionClosed:
        with sync.connect(uri) as client, pytest.raises(sync.ConnectionClosed) as caught:
            client.recv(timeout=synchelpers.DEADLINE)
        return caught.value

    async with theirs(they_close) as uri:
        closed = await asyncio.to_thread(be_closed, uri)
    assert (closed.code, closed.reason, closed.ending.clean) == (code, reason, True)
