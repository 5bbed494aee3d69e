"""`Router`: paths, parameters, what is not there, and what holds for one path alone; with clients that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import websockets.asyncio.client
import websockets.exceptions
from werkzeug.routing import BaseConverter, Map, Rule

from aiohelpers import Endings, aio_test, dial, echo, expect_log, uri_of
from wsframe import ANY_ORIGIN, Cause, LocalProtocolError, Request, Response
from wsframe.aio import (
    Accept,
    Application,
    HandshakeRejected,
    KeepAlive,
    Route,
    Router,
    Server,
    WebSocket,
    connect,
    serve,
)


@contextlib.asynccontextmanager
async def serving(routes: Any, **options: Any) -> AsyncIterator[tuple[Server, str]]:
    options.setdefault("ping_interval", None)
    router = routes if isinstance(routes, Router) else Router(routes)
    async with serve(router, "127.0.0.1", 0, **options) as server:
        yield server, uri_of(server).rstrip("/")


async def ask(server: Server, start: str, *headers: str) -> tuple[int, dict[str, str], str]:
    """Send a plain request; status, headers and body of the answer."""
    with await dial(server) as raw:
        await raw.send("\r\n".join([f"{start} HTTP/1.1", "Host: www.example", *headers, "\r\n"]).encode())
        head, _, body = (await raw.rest()).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    return int(lines[0].split(" ")[1]), dict(line.split(": ", 1) for line in lines[1:]), body.decode()


async def first_message(uri: str, **options: Any) -> str | bytes:
    async with connect(uri, **options) as ws:
        return await ws.recv()


async def status_of(uri: str, **options: Any) -> tuple[int, str]:
    """How an opening handshake is refused."""
    with pytest.raises(HandshakeRejected) as caught:
        await connect(uri, **options)
    return caught.value.status, caught.value.body.decode()


async def tell(ws: WebSocket, **params: Any) -> None:
    """Tell the peer which parameters came, and where else they are."""
    assert dict(ws.path_params) == params
    await ws.send(repr(sorted(params.items())))


async def other(ws: WebSocket) -> None:
    await ws.send("other")


def health(request: Request) -> Response:
    return Response(200, body="fine\n")


# Finding the handler.


@aio_test
async def test_parameters_go_to_the_handler() -> None:
    routes = [Route("/room/<name>", tell), Route("/user/<int:number>/<path:rest>", tell), Route("/", other)]
    async with serving(routes) as (_, uri):
        assert await first_message(f"{uri}/room/a%20b?c=d") == "[('name', 'a b')]"
        assert await first_message(f"{uri}/room/%C3%A9") == "[('name', 'é')]"
        assert await first_message(f"{uri}/user/7/x/y") == "[('number', 7), ('rest', 'x/y')]"
        assert await first_message(f"{uri}/") == "other"
        assert (await status_of(f"{uri}/user/seven/x"))[0] == 404
        assert (await status_of(f"{uri}/room/%ff")) == (400, "the path '/room/%ff' is not UTF-8\n")


@aio_test
async def test_clients_that_are_not_ours() -> None:
    async with serving([Route("/room/<name>", tell), Route("/echo", echo)]) as (_server, uri):
        async with websockets.asyncio.client.connect(f"{uri}/room/x") as theirs:
            assert await theirs.recv() == "[('name', 'x')]"
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            await websockets.asyncio.client.connect(f"{uri}/nowhere")
        assert caught.value.response.status_code == 404
        assert caught.value.response.body == b"there is nothing at '/nowhere'\n"
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"{uri}/echo") as ws:
                await ws.send_str("hello")
                assert (await ws.receive()).data == "hello"
            async with session.get(f"{uri.replace('ws:', 'http:')}/echo") as response:
                assert response.status == 426
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"{uri}/nowhere")
            assert refused.value.status == 404


class Told(Application):
    def __init__(self) -> None:
        self.told: list[Any] = []
        self.says: Any = None

    def on_request(self, request: Request) -> Any:
        self.told.append(request.target)
        return self.says

    def on_open(self, ws: WebSocket) -> None:
        ws.send_nowait(f"{dict(ws.path_params)} {ws.context}")


@aio_test
async def test_an_application_at_a_path() -> None:
    told = Told()
    async with serving([Route("/app/<name>", told), Route("/kept/<name>", KeepAlive(told, 7))]) as (
        _server,
        uri,
    ):
        assert await first_message(f"{uri}/app/x") == "{'name': 'x'} None"
        # Its own on_request is asked, too.
        told.says = Accept(context="user")
        assert await first_message(f"{uri}/app/y") == "{'name': 'y'} user"
        assert await first_message(f"{uri}/kept/z") == "{'name': 'z'} user"
        told.says = Response(403, body="not you\n")
        assert await status_of(f"{uri}/app/z") == (403, "not you\n")
        assert told.told == ["/app/x", "/app/y", "/kept/z", "/app/z"]


@aio_test
async def test_slashes() -> None:
    """A browser does not follow a redirect with a WebSocket, so there is none for that."""
    routes = [
        Route("/with/", other, view=health),
        Route("/without", other, view=health),
        Route("/a/b", other, view=health),
    ]
    async with serving(routes) as (server, uri):
        for path in ("/with/", "/with", "/without", "/without/"):
            assert await first_message(uri + path) == "other"
        assert (await status_of(f"{uri}/a//b"))[0] == 404
        status, headers, body = await ask(server, "GET /with?x=1")
        assert (status, headers["Location"]) == (308, "http://www.example/with/?x=1")
        assert body == "it is at http://www.example/with/?x=1\n"
        assert (await ask(server, "GET /with/"))[::2] == (200, "fine\n")
        # Here is only the WebSocket.
        assert (await ask(server, "GET /without/"))[0] == 426
        status, headers, _ = await ask(server, "GET /a//b")
        assert (status, headers["Location"]) == (308, "http://www.example/a/b")


@aio_test
async def test_a_map_of_werkzeugs_rules() -> None:
    url_map = Map(
        [
            Rule("/", endpoint=other),
            Rule("/room/<name>/", endpoint=tell),
            Rule(
                "/strict",
                endpoint=Accept(handler=other, headers=[("X-A", "b")], origins=["https://a.example"]),
            ),
            Rule("/old", redirect_to="/strict", endpoint=other),
        ]
    )
    async with serving(url_map) as (server, uri):
        assert await first_message(uri) == "other"
        assert await first_message(f"{uri}/room/x/") == "[('name', 'x')]"
        assert await first_message(f"{uri}/room/x") == "[('name', 'x')]"
        assert (await status_of(f"{uri}/strict", origin="https://b.example"))[0] == 403
        async with connect(f"{uri}/strict", origin="https://a.example") as ws:
            assert ws.response is not None
            assert ws.response.headers["X-A"] == "b"
        with pytest.raises(HandshakeRejected) as caught:
            await connect(f"{uri}/old")
        assert (caught.value.status, caught.value.headers["Location"]) == (308, f"{uri}/strict")
        assert (await status_of(f"{uri}/nowhere"))[0] == 404
        assert (await ask(server, "GET /"))[0] == 426
        assert (await ask(server, "GET /nowhere"))[0] == 404


@aio_test
async def test_converters_and_hosts() -> None:
    class Even(BaseConverter):
        regex = "[0-9]*[02468]"

    routes = [Route("/<even:number>", tell)]
    async with serving(Router(routes, converters={"even": Even})) as (_, uri):
        assert await first_message(f"{uri}/24") == "[('number', '24')]"
        assert (await status_of(f"{uri}/25"))[0] == 404
    # What no name of a host can be is no reason to fail.
    async with serving([Route("/", other)]) as (server, _):
        with await dial(server) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nHost: " + b"x" * 70 + b".example\r\n\r\n")
            assert (await raw.rest()).split(b" ")[1] in (b"404", b"426")
        assert (await ask(server, "GET http://www.example/?a"))[0] == 426
        assert (await ask(server, "GET http://www.example"))[0] == 426
        assert (await ask(server, "GET //evil.example/"))[0] in (308, 404)


@pytest.mark.parametrize("style", ["function", "coroutine"])
@aio_test
async def test_a_function_in_the_place_of_rules(style: str) -> None:
    def find(request: Request) -> Accept | Response | None:
        path, _, name = request.target.strip("/").partition("/")
        if path == "room":
            return Accept(handler=tell, params={"name": name}, origins=ANY_ORIGIN)
        if path == "health":
            return Response(200, body="fine\n")
        if path == "nobody":
            return Accept()
        return None

    async def find_later(request: Request) -> Accept | Response | None:
        await asyncio.sleep(0)
        return find(request)

    async with serving(find if style == "function" else find_later) as (server, uri):
        assert await first_message(f"{uri}/room/x", origin="https://a.example") == "[('name', 'x')]"
        assert await status_of(f"{uri}/nowhere") == (404, "there is nothing at '/nowhere'\n")
        assert (await ask(server, "GET /health"))[::2] == (200, "fine\n")
        assert (await ask(server, "GET /room/x"))[0] == 426
        with expect_log("a handler is a coroutine function|on_request raised|events could not be handled"):
            assert (await status_of(f"{uri}/nobody"))[0] == 500


# What is not there.


@aio_test
async def test_404_and_405_say_so() -> None:
    routes = [
        Route("/both", other, view=health, methods=["GET", "POST"]),
        Route("/view", view=health),
        Route("/post", view=health, methods=["POST"]),
        Route("/ws", other),
    ]
    async with serving(routes) as (server, uri):
        assert (await ask(server, "GET /nowhere"))[::2] == (404, "there is nothing at '/nowhere'\n")
        for start, allowed in (
            ("DELETE /both", "GET, HEAD, POST"),
            ("POST /view", "GET, HEAD"),
            ("GET /post", "POST"),
            ("POST /ws", "GET"),
        ):
            method, path = start.split(" ")
            status, headers, body = await ask(server, start)
            assert (status, headers["Allow"]) == (405, allowed)
            assert body == f"{method} is not possible at '{path}', but {allowed}\n"
        for path in ("/both", "/view"):
            assert (await ask(server, f"GET {path}"))[::2] == (200, "fine\n")
            status, headers, body = await ask(server, f"HEAD {path}")
            assert (status, headers["Content-Length"], body) == (200, "5", "")
        status, headers, _ = await ask(server, "GET /ws")
        assert (status, headers["Upgrade"]) == (426, "websocket")
        assert await status_of(f"{uri}/view") == (404, "there is no WebSocket at '/view'\n")
        assert (await status_of(f"{uri}/post"))[0] in (404, 405)
        assert await first_message(f"{uri}/both") == "other"


# Views.


@aio_test
async def test_views() -> None:
    async def later(request: Request, number: int) -> Response:
        await asyncio.sleep(0)
        return Response(200, body=f"{number} {request.body.decode()}")

    def broken(request: Request) -> Any:
        return None

    routes = [Route("/later/<int:number>", view=later, methods=["POST"]), Route("/broken", view=broken)]
    async with serving(routes) as (server, _):
        async with aiohttp.ClientSession() as session:
            uri = uri_of(server).replace("ws:", "http:")
            async with session.post(f"{uri}later/7", data=b"hello") as response:
                assert (response.status, await response.text()) == (200, "7 hello")
        with expect_log("events could not be handled"):
            assert (await ask(server, "GET /broken"))[0] == 500


# What holds for one path.


@aio_test
async def test_origins_and_subprotocols_per_path() -> None:
    def choose(request: Request, offered: tuple[str, ...]) -> str | None:
        return offered[-1] if offered else None

    routes = [
        Route("/default", other),
        Route("/any", other, origins=ANY_ORIGIN, subprotocols=["b", "a"]),
        Route("/one", other, origins=["https://one.example"], subprotocols=choose),
        Route("/chat", other, subprotocols=["chat"], require_subprotocol=True),
    ]
    evil = "https://evil.example"
    async with serving(routes, subprotocols=["a"]) as (_, uri):
        # SAME_HOST, and the server's subprotocols, where the route says nothing.
        assert (await status_of(f"{uri}/default", origin=evil))[0] == 403
        async with connect(
            f"{uri}/default", origin=uri.replace("ws:", "http:"), subprotocols=["b", "a"]
        ) as ws:
            assert ws.subprotocol == "a"
        async with connect(f"{uri}/any", origin=evil, subprotocols=["a", "b"]) as ws:
            assert ws.subprotocol == "b"
        async with connect(f"{uri}/one", origin="https://one.example", subprotocols=["x", "y"]) as ws:
            assert ws.subprotocol == "y"
        assert (await status_of(f"{uri}/one", origin=evil))[0] == 403
        assert (await status_of(f"{uri}/chat", subprotocols=["a"]))[0] == 400
        async with connect(f"{uri}/chat", subprotocols=["a", "chat"]) as ws:
            assert ws.subprotocol == "chat"
    # What the server requires, a route need not.
    routes.append(Route("/free", other, require_subprotocol=False))
    async with serving(routes, subprotocols=["a"], require_subprotocol=True) as (_server, uri):
        assert (await status_of(f"{uri}/default"))[0] == 400
        assert await first_message(f"{uri}/free") == "other"


@aio_test
async def test_limits_and_timeouts_per_path() -> None:
    kept: list[WebSocket] = []

    async def handler(ws: WebSocket) -> None:
        kept.append(ws)
        await echo(ws)

    routes = [
        Route("/small", handler, options={"max_message_size": 10, "heartbeat": 9.0}),
        Route(
            "/large/<name>",
            lambda ws, name: handler(ws),
            options={"max_message_size": 1000, "compression": True},
        ),
    ]
    async with serving(routes, max_message_size=100, idle_timeout=50.0) as (_, uri):
        for path, size in (("small", 10), ("large/x", 1000)):
            async with connect(f"{uri}/{path}", compression=True) as ws:
                assert ws.response is not None
                assert ("Sec-WebSocket-Extensions" in ws.response.headers) is (size == 1000)
                await ws.send("x" * size)
                assert await ws.recv() == "x" * size
                await ws.send("x" * (size + 1))
                await ws.wait_closed()
                assert ws.close_code == 1009
        timeouts = [ws._connection.timeouts for ws in kept]
        assert [(each.heartbeat, each.idle) for each in timeouts] == [(9.0, 50.0), (None, 50.0)]


@pytest.mark.parametrize("style", ["function", "coroutine"])
@aio_test
async def test_asking_per_path_and_for_the_server(style: str) -> None:
    def of_path(request: Request, name: str) -> Any:
        if name == "nobody":
            return Response(401, body="who?\n")
        return Accept(context=name, headers=[("X-Path", name)]) if name != "plain" else None

    def of_server(request: Request) -> Any:
        if request.target == "/health":
            return Response(200, body="fine\n")
        if request.target == "/elsewhere":
            return Accept(handler=other)
        if request.target == "/gone":
            return Accept(close=4004)
        if "Cookie" in request.headers:
            return Accept(headers=[("X-Server", "s")], context=request.headers["Cookie"])
        return None

    def styled(function: Any) -> Any:
        async def later(*arguments: Any, **params: Any) -> Any:
            await asyncio.sleep(0)
            return function(*arguments, **params)

        return function if style == "function" else later

    async def handler(ws: WebSocket, name: str) -> None:
        await ws.send(f"{name} {ws.context}")

    routes = [Route("/room/<name>", handler, on_request=styled(of_path))]
    async with serving(routes, on_request=styled(of_server)) as (server, uri):
        assert await status_of(f"{uri}/room/nobody") == (401, "who?\n")
        assert await first_message(f"{uri}/room/x") == "x x"
        assert await first_message(f"{uri}/room/plain") == "plain None"
        # Who is asked first has found out more.
        async with connect(f"{uri}/room/x", headers=[("Cookie", "c")]) as ws:
            assert await ws.recv() == "x c"
            assert ws.response is not None
            assert (ws.response.headers["X-Server"], ws.response.headers["X-Path"]) == ("s", "x")
        assert (await ask(server, "GET /health"))[::2] == (200, "fine\n")
        assert await first_message(f"{uri}/elsewhere") == "other"
        async with connect(f"{uri}/gone") as ws:
            await ws.wait_closed()
        assert ws.close_code == 4004
        assert (await status_of(f"{uri}/nowhere", headers=[("Cookie", "c")]))[0] == 404


@aio_test
async def test_each_connection_ends_once() -> None:
    endings = Endings()
    async with serving([Route("/<name>", tell)], on_end=endings) as (server, uri):
        await first_message(f"{uri}/x")
        await status_of(f"{uri}/x/y")
        await ask(server, "GET /x")
    assert sorted(ending.cause.name for ending in endings) == ["CLOSE_HANDSHAKE", "PLAIN_HTTP", "REJECTED"]
    assert Cause.REJECTED in {ending.cause for ending in endings}


@aio_test
async def test_proxies_and_routes() -> None:
    """The Host that the proxy says is what the origin of a route is judged by."""
    headers = [("X-Forwarded-Host", "www.example"), ("X-Forwarded-For", "192.0.2.7")]
    seen: list[Any] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(ws.remote_address)

    routes = [Route("/same", handler), Route("/any", handler, origins=ANY_ORIGIN)]
    async with serving(routes, trusted_proxies=["127.0.0.1"]) as (_, uri):
        async with connect(f"{uri}/same", origin="https://www.example", headers=headers) as ws:
            await ws.wait_closed()
        assert (await status_of(f"{uri}/same", origin="https://b.example", headers=headers))[0] == 403
        async with connect(f"{uri}/any", origin="https://b.example", headers=headers) as ws:
            await ws.wait_closed()
    assert seen == [("192.0.2.7", 0)] * 2


# Wrong routes.


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("x", other), {}, ValueError, "a path begins with '/', not 'x'"),
        ((None, other), {}, ValueError, "a path begins with '/', not None"),
        (("/",), {}, TypeError, "it needs a handler, a view or both"),
        (("/",), {"view": health, "methods": "GET"}, TypeError, r"such as \['GET', 'POST'\]"),
        (("/",), {"view": health, "methods": []}, TypeError, "methods is a sequence of names"),
        (("/",), {"view": 7}, TypeError, "view must be a function, not 7"),
        (("/", other), {"on_request": 7}, TypeError, "on_request must be a function, not 7"),
        (("/", other), {"options": {"x": 1}}, TypeError, "unknown keyword argument 'x'"),
        (("/", other), {"origins": ["*"]}, ValueError, "ANY_ORIGIN"),
        (("/", other), {"subprotocols": "x"}, LocalProtocolError, "sequence of names"),
    ],
)
def test_a_route_is_checked_when_it_is_made(
    arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Route(*arguments, **options)


def test_so_is_a_router() -> None:
    with pytest.raises(TypeError, match=r"a route is a Route, not '/x'"):
        Router(["/x"])
    with pytest.raises(LookupError, match="nonsense"):
        Router([Route("/<nonsense:x>", other)])
    with pytest.raises(TypeError, match="converters is only for a list of routes"):
        Router(lambda request: None, converters={})
    for handler, message in (
        (7, "a handler is a coroutine function or an Application, not 7"),
        (Told, r"an object of it: Told\(\)"),
    ):
        with pytest.raises(TypeError, match=message):
            serve(Router([Route("/", handler)]))
        with pytest.raises(TypeError, match=message):
            serve(Router(Map([Rule("/", endpoint=handler)])))
    assert repr(Route("/x/<y>", other)) == "<Route /x/<y>>"


def test_without_werkzeug(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(ImportError, match=r"pip install 'wsframe\[routing\]'"):
        Router([Route("/", other)])
    assert Router(lambda request: None).handlers == []


def test_it_is_not_imported_before_it_is_needed() -> None:
    code = (
        "import sys, wsframe.aio; wsframe.aio.Router(lambda request: None); print('werkzeug' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
