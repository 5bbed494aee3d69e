"""`connect` and redirects: followed only when asked, within one deadline, and without the credentials of another
origin."""

from __future__ import annotations

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets.asyncio.server
from aiohttp import web

from aiohelpers import Listener, aio_test, cancelled_after, client_context, echo, port_of, server_context
from connectrows import Redirecting
from proxies import ProxyServer, proxying
from wsframe import State
from wsframe.aio import (
    ConnectLost,
    ConnectTimeout,
    HandshakeRejected,
    connect,
    serve,
)


@contextlib.asynccontextmanager
async def serving(
    targets: dict[str, str], status: int = 302, **options: Any
) -> AsyncIterator[tuple[int, Redirecting]]:
    redirecting = Redirecting(targets, status)
    async with serve(echo, "127.0.0.1", 0, on_request=redirecting, **options) as server:
        yield port_of(server), redirecting


async def echoes(uri: str, **options: Any) -> str:
    """Be the client of an echo server; returns the target that was reached."""
    async with connect(uri, **options) as ws:
        await ws.send("x")
        assert await ws.recv() == "x"
        return ws.request.target


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@aio_test
async def test_redirects_are_followed_when_asked(status: int) -> None:
    async with serving({"/a": "b?c", "/b?c": "/d"}, status) as (port, server):
        uri = f"ws://127.0.0.1:{port}/a"
        assert await echoes(uri, max_redirects=2) == "/d"
        assert server.paths == ["/a", "/b?c", "/d"]
        # More than there are.
        assert await echoes(uri, max_redirects=20) == "/d"


@aio_test
async def test_the_default_is_to_follow_none() -> None:
    async with serving({"/a": "/b"}) as (port, server):
        with pytest.raises(HandshakeRejected) as caught:
            await connect(f"ws://127.0.0.1:{port}/a")
        error = caught.value
        assert (error.status, error.headers["Location"], error.body) == (302, "/b", b"moved")
        assert f"ws://127.0.0.1:{port}/b now" in str(error)
        assert "max_redirects=1" in str(error)
        assert server.paths == ["/a"]


@aio_test
async def test_a_loop_ends_at_the_limit() -> None:
    async with serving({"/a": "/b", "/b": "/a"}) as (port, server):
        with pytest.raises(HandshakeRejected, match="max_redirects=5 were followed") as caught:
            await connect(f"ws://127.0.0.1:{port}/a", max_redirects=5)
        assert caught.value.status == 302
        assert caught.value.ending.phase is State.HANDSHAKE
        assert server.paths == ["/a", "/b"] * 3


@aio_test
async def test_every_request_has_a_key_of_its_own() -> None:
    async with serving({"/a": "/b", "/b": "/c"}) as (port, server):
        await echoes(f"ws://127.0.0.1:{port}/a", max_redirects=2)
        assert len({request.headers["Sec-WebSocket-Key"] for request in server.requests}) == 3


@aio_test
async def test_what_a_server_of_another_origin_gets() -> None:
    headers = [("Authorization", "Bearer s3cret"), ("Cookie", "a=b"), ("X-Thing", "1")]
    async with serving({}) as (there, other), serving({"/a": "/b"}) as (here, server):
        server.targets["/b"] = f"http://127.0.0.1:{there}/c"
        target = await echoes(
            f"ws://127.0.0.1:{here}/a",
            headers=iter(headers),
            max_redirects=2,
            subprotocols=["s"],
            user_agent="agent",
        )
        assert target == "/c"
        for request in server.requests:
            assert request.headers["Authorization"] == "Bearer s3cret"
            assert request.headers["Cookie"] == "a=b"
        (request,) = other.requests
        assert "Authorization" not in request.headers
        assert "Cookie" not in request.headers
        assert request.headers["Host"] == f"127.0.0.1:{there}"
        assert request.headers["X-Thing"] == "1"
        assert request.headers["User-Agent"] == "agent"
        assert request.headers["Sec-WebSocket-Protocol"] == "s"


@aio_test
async def test_user_information_stays_behind() -> None:
    async with serving({}) as (there, other), serving({"/a": "/b"}) as (here, server):
        server.targets["/b"] = f"ws://127.0.0.1:{there}/c"
        assert await echoes(f"ws://ada:s3cret@127.0.0.1:{here}/a", max_redirects=2) == "/c"
        assert ["Authorization" in request.headers for request in server.requests] == [True, True]
        assert "Authorization" not in other.requests[0].headers


@aio_test
async def test_from_ws_to_wss_and_not_back() -> None:
    async with (
        serving({"/back": "x"}, ssl=server_context()) as (secure, tls),
        serving({"/a": f"wss://127.0.0.1:{secure}/b"}) as (plain, _),
    ):
        tls.targets["/back"] = f"ws://127.0.0.1:{plain}/c"
        uri = f"ws://127.0.0.1:{plain}/a"
        assert await echoes(uri, max_redirects=1, ssl=client_context()) == "/b"
        with pytest.raises(HandshakeRejected, match="from wss to ws"):
            await connect(f"wss://127.0.0.1:{secure}/back", max_redirects=5, ssl=client_context())
        # Without the context, the default one does not trust that server.
        with pytest.raises(ConnectLost, match="certificate"):
            await connect(uri, max_redirects=1)


@aio_test
async def test_a_server_hostname_is_for_the_first_server() -> None:
    async with (
        serving({}, ssl=server_context("localhost")) as (there, _),
        serving({"/a": f"wss://localhost:{there}/b"}, ssl=server_context("first.example")) as (here, _),
    ):
        uri = f"wss://127.0.0.1:{here}/a"
        options = {"ssl": client_context(), "server_hostname": "first.example", "max_redirects": 1}
        assert await echoes(uri, **options) == "/b"


@aio_test
async def test_the_second_server_can_fail_in_its_own_way() -> None:
    with Listener() as listener:
        port = listener.port
    async with serving({"/a": f"ws://127.0.0.1:{port}/", "/b": "/c"}) as (here, server):
        with pytest.raises(ConnectLost, match=f"refused, connecting to 127.0.0.1 port {port}"):
            await connect(f"ws://127.0.0.1:{here}/a", max_redirects=1)
        server.targets["/c"] = "ftp://127.0.0.1/"
        with pytest.raises(HandshakeRejected, match="its Location cannot be followed: ftp://"):
            await connect(f"ws://127.0.0.1:{here}/b", max_redirects=5)


@aio_test
async def test_there_is_one_deadline_for_all() -> None:
    loop = asyncio.get_running_loop()

    async def slowly(listener: Listener) -> None:
        while True:
            with await listener.accept() as raw:
                await raw.head()
                await asyncio.sleep(0.1)
                await raw.send(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")

    with Listener() as listener:
        serving_slowly = asyncio.create_task(slowly(listener))
        begin = loop.time()
        with pytest.raises(ConnectTimeout):
            await connect(listener.uri, max_redirects=1000, open_timeout=0.5)
        assert loop.time() - begin > 0.4
        serving_slowly.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving_slowly


@aio_test
async def test_a_redirect_whose_body_never_ends() -> None:
    async def answering(listener: Listener) -> None:
        with await listener.accept() as raw, contextlib.suppress(ConnectionError, EOFError):
            await raw.head()
            await raw.send(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 9\r\n\r\nno")
            await raw.rest()

    with Listener() as listener:
        task = asyncio.create_task(answering(listener))
        with pytest.raises((HandshakeRejected, ConnectTimeout)):
            await connect(listener.uri, max_redirects=1, open_timeout=0.3)
        await task


@pytest.mark.parametrize("turns", [*range(0, 60, 5), 80, 110])
@aio_test
async def test_cancelling_at_any_point_leaves_nothing(turns: int) -> None:
    async with serving({"/a": "/b"}) as (port, _):
        await cancelled_after(turns, connect(f"ws://127.0.0.1:{port}/a", max_redirects=1)._open())


@aio_test
async def test_every_server_is_reached_through_the_proxy() -> None:
    async with (
        serving({"/a": "/b"}) as (port, _),
        proxying(ProxyServer()) as proxy,
    ):
        uri = f"ws://service.example:{port}/a"
        assert await echoes(uri, max_redirects=1, proxy=proxy.url()) == "/b"
        assert proxy.asked == [f"http service.example:{port}"] * 2


# Strangers.


@pytest.mark.peer
@aio_test
async def test_redirects_of_aiohttp() -> None:
    async def moved(_: web.Request) -> web.Response:
        raise web.HTTPFound("/new?x=1")

    async def new(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/old", moved)
    app.router.add_get("/new", new)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        assert await echoes(f"ws://127.0.0.1:{port_of(site._server)}/old", max_redirects=1) == "/new?x=1"
    finally:
        await runner.cleanup()


@pytest.mark.peer
@aio_test
async def test_redirects_of_websockets() -> None:
    async def their_echo(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    def redirect(connection: Any, request: Any) -> Any:
        if request.path != "/old":
            return None
        response = connection.respond(http.HTTPStatus.MOVED_PERMANENTLY, "moved\n")
        response.headers["Location"] = f"http://127.0.0.1:{port}/new"
        return response

    async with websockets.asyncio.server.serve(
        their_echo, "127.0.0.1", 0, process_request=redirect
    ) as server:
        port = port_of(server)
        assert await echoes(f"ws://127.0.0.1:{port}/old", max_redirects=1) == "/new"
