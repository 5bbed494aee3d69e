"""What ``on_request`` may say: nothing, a `Response`, an `Accept`; with bare sockets and clients that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets.asyncio.client
import websockets.exceptions

from aiohelpers import (
    Endings,
    aio_test,
    client_context,
    dial,
    echo,
    expect_log,
    open_raw,
    port_of,
    server_context,
    until,
    uri_of,
)
from framebuilder import CLOSE, TEXT, build, client_handshake_request, close_payload
from wsframe import (
    ANY_ORIGIN,
    SAME_HOST,
    Cause,
    Disconnected,
    Limits,
    LocalProtocolError,
    Request,
    Response,
    Role,
    State,
)
from wsframe._adapter._settings import settings_for
from wsframe.aio import (
    Accept,
    Application,
    HandshakeRejected,
    Server,
    TrustedProxies,
    WebSocket,
    broadcast,
    connect,
    serve,
)


@contextlib.asynccontextmanager
async def serving(handler: Any = echo, **options: Any) -> AsyncIterator[tuple[Server, Endings]]:
    endings = Endings()
    options.setdefault("ping_interval", None)
    async with serve(handler, "127.0.0.1", 0, on_end=endings, **options) as server:
        yield server, endings


async def ask(server: Server, request: str | bytes) -> tuple[str, str]:
    """Send a request; the head and the body of the answer."""
    data = request if isinstance(request, bytes) else request.replace("\n", "\r\n").encode()
    with await dial(server) as raw:
        await raw.send(data)
        head, _, body = (await raw.rest()).partition(b"\r\n\r\n")
    return head.decode(), body.decode()


def later(said: Any) -> Any:
    """An ``on_request`` that takes its time."""

    async def on_request(request: Request) -> Any:
        await asyncio.sleep(0.001)
        return said

    return on_request


def at_once(said: Any) -> Any:
    return lambda request: said


both_styles = pytest.mark.parametrize("style", [at_once, later], ids=["function", "coroutine"])

GET = "GET /x HTTP/1.1\nHost: a\n\n"


# A Response.


@both_styles
@aio_test
async def test_a_response(style: Any) -> None:
    response = Response(403, headers=[("X-Why", "because")], body="no entry, sörry\n")
    async with serving(on_request=style(response)) as (server, endings):
        for request in (GET, client_handshake_request().decode().replace("\r\n", "\n")):
            head, body = await ask(server, request)
            lines = head.split("\r\n")
            assert lines[0] == "HTTP/1.1 403 Forbidden"
            assert {"X-Why: because", "Content-Type: text/plain; charset=utf-8", "Content-Length: 17"} <= set(
                lines
            )
            assert "Connection: close" in lines
            assert body == "no entry, sörry\n"
        await until(lambda: len(endings) == 2)
        assert [ending.cause for ending in endings] == [Cause.PLAIN_HTTP, Cause.REJECTED]


@aio_test
async def test_a_post_that_tells_everybody() -> None:
    there: set[WebSocket] = set()

    async def handler(ws: WebSocket) -> None:
        there.add(ws)
        await ws.wait_closed()

    def on_request(request: Request) -> Response | None:
        if request.method != "POST":
            return None
        return Response(200, body=f"{broadcast(there, request.body.decode()).result.delivered}\n")

    async with serving(handler, on_request=on_request, limits=Limits(max_body_size=10)) as (server, _):
        with await open_raw(server) as first, await open_raw(server) as second:
            await until(lambda: len(there) == 2)
            head, body = await ask(server, "POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello")
            assert (head.split("\r\n")[0], body) == ("HTTP/1.1 200 OK", "2\n")
            for raw in (first, second):
                assert (await raw.next_frame()).payload == b"hello"
            head, body = await ask(server, "POST / HTTP/1.1\nHost: a\nContent-Length: 11\n\n" + "x" * 11)
            assert head.startswith("HTTP/1.1 413 ")
            assert "max_body_size" in body


@aio_test
async def test_head_has_the_length_and_no_body() -> None:
    async with serving(on_request=at_once(Response(200, body="12345"))) as (server, _):
        for version in ("1.0", "1.1"):
            head, body = await ask(server, f"HEAD / HTTP/{version}\nHost: a\n\n")
            assert head.startswith("HTTP/1.1 200 OK\r\n")
            assert "Content-Length: 5" in head.split("\r\n")
            assert body == ""
    async with serving() as (server, _):
        length = len((await ask(server, GET))[1])
        head, body = await ask(server, "HEAD / HTTP/1.1\nHost: a\n\n")
        assert head.startswith("HTTP/1.1 426 ")
        assert f"Content-Length: {length}" in head.split("\r\n")
        assert body == ""


@aio_test
async def test_http_1_0_is_answered_and_never_upgraded() -> None:
    seen: list[tuple[int, int]] = []

    def on_request(request: Request) -> Response:
        seen.append(request.version)
        return Response(200, body="fine\n")

    async with serving(on_request=on_request) as (server, _):
        # It need not have a Host.
        head, body = await ask(server, "GET /health HTTP/1.0\n\n")
        assert (head.split("\r\n")[0], body) == ("HTTP/1.1 200 OK", "fine\n")
        assert seen == [(1, 0)]
    upgrade = client_handshake_request().replace(b"HTTP/1.1", b"HTTP/1.0")
    for on_request_too in (None, at_once(Accept())):
        async with serving(on_request=on_request_too) as (server, endings):
            head, body = await ask(server, upgrade)
            assert head.startswith("HTTP/1.1 400 ")
            assert body == "a WebSocket handshake needs HTTP/1.1\n"
            assert (await endings.one()).was_websocket is False


@pytest.mark.parametrize(
    "said", [None, Accept(), Accept(close=4000, context=1)], ids=["None", "Accept", "close"]
)
@aio_test
async def test_426_is_the_answer_to_a_request_for_nothing_else(said: Any) -> None:
    async with serving(on_request=at_once(said)) as (server, endings):
        for request in (GET, "GET / HTTP/1.0\n\n", "POST / HTTP/1.1\nHost: a\nContent-Length: 1\n\nx"):
            head, body = await ask(server, request)
            assert head.startswith("HTTP/1.1 426 Upgrade Required\r\n")
            assert {"Upgrade: websocket", "Sec-WebSocket-Version: 13"} <= set(head.split("\r\n"))
            assert "this is a WebSocket server" in body
        await until(lambda: len(endings) == 3)
        assert {ending.cause for ending in endings} == {Cause.PLAIN_HTTP}


@pytest.mark.peer
@aio_test
async def test_curl(tmp_path: Path) -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")

    def on_request(request: Request) -> Response:
        return Response(201, body=b"[%s %s]" % (request.method.encode(), request.body))

    async def run(*options: str) -> tuple[str, str]:
        command = [str(program), "--disable", "--noproxy", "*", "-sSNi", *options, uri]
        result = await asyncio.to_thread(
            subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True
        )
        head, _, body = result.stdout.decode().partition("\r\n\r\n")
        return head.split("\r\n")[0], body

    async with serving(on_request=on_request) as (server, _):
        uri = uri_of(server).replace("ws:", "http:")
        assert await run() == ("HTTP/1.1 201 Created", "[GET ]")
        assert await run("--http1.0") == ("HTTP/1.1 201 Created", "[GET ]")
        assert await run("--head") == ("HTTP/1.1 201 Created", "")
        assert await run("--data", "hello") == ("HTTP/1.1 201 Created", "[POST hello]")
        # It asks whether it may send so much before it does.
        body = "x" * 30_000
        (tmp_path / "body").write_text(body)
        assert await run("--data-binary", f"@{tmp_path / 'body'}", "-H", "Expect: 100-continue") == (
            "HTTP/1.1 100 Continue",
            f"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 30007\r\n\r\n[POST {body}]",
        )


# An Accept.


@both_styles
@aio_test
async def test_headers_and_subprotocol(style: Any) -> None:
    said = Accept([("X-Server", "7"), ("Set-Cookie", "a=b")], subprotocol="two")
    async with serving(on_request=style(said), subprotocols=["one", "two"]) as (server, _):
        async with connect(uri_of(server), subprotocols=["one", "two"]) as ws:
            assert ws.subprotocol == "two"
            assert ws.response is not None
            assert (ws.response.headers["X-Server"], ws.response.headers["Set-Cookie"]) == ("7", "a=b")
            await ws.send("hello")
            assert await ws.recv() == "hello"
        async with websockets.asyncio.client.connect(uri_of(server), subprotocols=["two"]) as theirs:  # type: ignore[list-item]
            assert theirs.subprotocol == "two"
            assert theirs.response is not None
            assert theirs.response.headers["X-Server"] == "7"


@aio_test
async def test_a_subprotocol_that_was_not_offered_is_the_servers_fault() -> None:
    async with serving(on_request=later(Accept(subprotocol="two"))) as (server, endings):
        with expect_log("^on_request raised an exception$"), pytest.raises(HandshakeRejected) as caught:
            await connect(uri_of(server), subprotocols=["one"])
        assert caught.value.status == 500
        assert (await endings.one()).cause is Cause.REJECTED


@both_styles
@pytest.mark.parametrize("said", ["yes", 200, b"", True, WebSocket], ids=repr)
@aio_test
async def test_what_is_no_answer(style: Any, said: Any) -> None:
    async with serving(on_request=style(said)) as (server, endings):
        with expect_log("on_request raised an exception|events could not be handled"):
            head, _ = await ask(server, GET)
        assert head.startswith("HTTP/1.1 500 ")
        await endings.one()


class Told(Application):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_open(self, ws: WebSocket) -> None:
        self.told.append(("open", dict(ws.path_params), ws.context))

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.told.append(message)
        ws.send_nowait(message)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.told.append(("close", ending.code))

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
        self.told.append(("disconnect", request is not None and request.context, ending.cause))


@aio_test
async def test_another_handler_for_this_connection() -> None:
    seen: list[Any] = []

    async def room(ws: WebSocket, name: str, number: int = 0) -> None:
        seen.append((name, number, dict(ws.path_params)))
        await ws.send(f"room {name} {number}")

    application = Told()

    def on_request(request: Request) -> Accept | None:
        if request.target == "/app":
            return Accept(handler=application, params={"a": 1}, context="user")
        if request.target == "/room":
            return Accept(handler=room, params={"name": "x", "number": 7})
        if request.target == "/empty":
            return Accept(handler=room, params={"name": "y"})
        return None

    async with serving(on_request=on_request) as (server, endings):
        uri = uri_of(server)
        async with connect(uri + "room") as ws:
            assert await ws.recv() == "room x 7"
        async with connect(uri + "empty") as ws:
            assert await ws.recv() == "room y 0"
        assert seen == [("x", 7, {"name": "x", "number": 7}), ("y", 0, {"name": "y"})]
        async with connect(uri + "app") as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
        await until(lambda: len(endings) == 3)
        assert application.told == [("open", {"a": 1}, "user"), "hello", ("close", 1000)]
        async with connect(uri) as ws:
            await ws.send("echo")
            assert await ws.recv() == "echo"
            assert dict(ws.path_params) == {}


@pytest.mark.parametrize("wrong", [7, Application, "handler"], ids=str)
@aio_test
async def test_a_handler_that_is_none_is_found_before_the_answer(wrong: Any) -> None:
    async with serving(on_request=later(Accept(handler=wrong))) as (server, _):
        with expect_log("^on_request raised an exception$"), pytest.raises(HandshakeRejected) as caught:
            await connect(uri_of(server))
        assert caught.value.status == 500


@both_styles
@aio_test
async def test_who_it_is_is_attached(style: Any) -> None:
    seen: list[Any] = []
    ended: list[Any] = []

    async def handler(ws: WebSocket) -> None:
        seen.append((ws.context, ws.request.context))

    def on_end(request: Request | None, address: object, ending: Disconnected) -> None:
        ended.append(request and request.context)

    user = {"name": "ann"}
    async with serve(
        handler, "127.0.0.1", 0, on_request=style(Accept(context=user)), on_end=on_end, ping_interval=None
    ) as server:
        async with connect(uri_of(server)) as ws:
            await ws.wait_closed()
        assert ws.context is None
    assert seen[0][0] is seen[0][1] is user
    assert ended == [user]


# Limits and timeouts.


@aio_test
async def test_options_for_this_connection() -> None:
    kept: list[WebSocket] = []

    async def handler(ws: WebSocket) -> None:
        kept.append(ws)
        await echo(ws)

    limits = Limits(write_high_water=10_000, write_low_water=5_000, receive_queue_messages=3)

    def on_request(request: Request) -> Accept | None:
        if request.target == "/large":
            return Accept(options={"max_message_size": 100, "limits": limits, "heartbeat": 7.0})
        return None

    async with serving(handler, on_request=on_request, max_message_size=10, idle_timeout=50.0) as (
        server,
        endings,
    ):
        async with connect(uri_of(server) + "large") as ws:
            await ws.send("x" * 100)
            assert await ws.recv() == "x" * 100
            connection: Any = kept[0]._connection
            assert connection.limits == Limits(
                max_message_size=100, write_high_water=10_000, write_low_water=5_000, receive_queue_messages=3
            )
            channel: Any = kept[0]._channel
            assert channel._limits is connection.limits
            timeouts = connection.timeouts
            # What was not among them is as the server has it.
            assert (timeouts.heartbeat, timeouts.idle, timeouts.ping_interval) == (7.0, 50.0, None)
            await ws.send("x" * 101)
            await ws.wait_closed()
            assert ws.close_code == 1009
        async with connect(uri_of(server)) as ws:
            assert kept[1]._connection.limits.max_message_size == 10
            await ws.send("x" * 11)
            await ws.wait_closed()
            assert ws.close_code == 1009
        await until(lambda: len(endings) == 2)


@aio_test
async def test_compression_for_this_connection() -> None:
    def on_request(request: Request) -> Accept:
        return Accept(options={"compression": request.target == "/compress"})

    for default in (False, True):
        async with serving(on_request=on_request, compression=default) as (server, _):
            for path, expected in (("compress", True), ("", False)):
                async with connect(uri_of(server) + path, compression=True) as ws:
                    assert ws.response is not None
                    assert ("Sec-WebSocket-Extensions" in ws.response.headers) is expected
                    await ws.send("x" * 1000)
                    assert await ws.recv() == "x" * 1000


@aio_test
async def test_a_longer_close_timeout_is_waited_for() -> None:
    async with serving(on_request=at_once(Accept(options={"close_timeout": 1.5})), close_timeout=0.1) as (
        server,
        endings,
    ):
        with await open_raw(server) as raw:
            closing = asyncio.ensure_future(server.close())
            assert (await raw.next_frame()).opcode == CLOSE
            # Later than the server's own would be over, and the margin too.
            await asyncio.sleep(0.8)
            await raw.send_close(1001)
            await raw.rest()
            assert await closing == {Cause.CLOSE_HANDSHAKE: 1}
        assert (await endings.one()).clean


def test_settings_are_made_once_for_an_answer_that_is_given_often() -> None:
    base, other = settings_for(Role.SERVER, {"idle_timeout": 5}), settings_for(Role.SERVER, {})
    accept = Accept(options={"max_message_size": 7})
    settings = accept.settings(base)
    assert (settings.limits.max_message_size, settings.timeouts.idle) == (7, 5)
    assert accept.settings(base) is settings
    for made in (
        Accept(params={"a": 1}).with_defaults(accept),
        accept.with_defaults(Accept(context=1)),
    ):
        assert made.settings(base) is settings
    assert accept.settings(other).timeouts.idle is None
    assert Accept().settings(base) is base
    both = Accept(options={"idle_timeout": 9}).with_defaults(accept).settings(base)
    assert (both.limits.max_message_size, both.timeouts.idle) == (7, 9)
    assert accept.settings(base).timeouts.idle == 5


# What it is judged by.


@aio_test
async def test_origins_and_subprotocols_of_an_answer() -> None:
    said = Accept(origins=["https://good.example"], subprotocols=["b", "a"], require_subprotocol=True)
    async with serving(on_request=later(said), origins=ANY_ORIGIN) as (server, _):
        async with connect(uri_of(server), origin="https://good.example", subprotocols=["a", "b"]) as ws:
            assert ws.subprotocol == "b"
        for origin, names, status in (
            ("https://evil.example", ["a"], 403),
            ("https://good.example", ["c"], 400),
            ("https://good.example", [], 400),
        ):
            with pytest.raises(HandshakeRejected) as caught:
                await connect(uri_of(server), origin=origin, subprotocols=names)
            assert caught.value.status == status


@aio_test
async def test_the_server_judges_first() -> None:
    asked: list[Request] = []

    def on_request(request: Request) -> Accept:
        asked.append(request)
        return Accept(origins=ANY_ORIGIN)

    async with serving(on_request=on_request) as (server, _):
        with pytest.raises(HandshakeRejected) as caught:
            await connect(uri_of(server), origin="https://evil.example")
        assert caught.value.status == 403
        assert asked == []


# Accept, then close.


@both_styles
@aio_test
async def test_accept_and_close(style: Any) -> None:
    application = Told()
    said = Accept(close=(4001, "not you"), context="nobody")
    async with serving(application, on_request=style(said)) as (server, endings):
        with await open_raw(server, then=build(TEXT, b"early", mask=b"1234")) as raw:
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, close_payload(4001, b"not you"))
            await raw.send_close(4001)
            assert await raw.rest() == b""
        ending = await endings.one()
        assert (ending.cause, ending.clean, ending.was_websocket) == (Cause.CLOSE_HANDSHAKE, True, True)
        assert ending.sent is not None
        assert (ending.sent.code, ending.sent.reason) == (4001, "not you")
        # For the application it has never been a WebSocket.
        assert application.told == [("disconnect", "nobody", Cause.CLOSE_HANDSHAKE)]


@both_styles
@aio_test
async def test_who_is_turned_away_is_in_no_list_and_no_count(style: Any) -> None:
    application = Told()
    said = Accept(close=(4001, "not you"), context="nobody")
    async with serving(application, on_request=style(said)) as (server, endings):
        with await open_raw(server) as raw:
            assert (await raw.next_frame()).opcode == CLOSE
            # It is a connection, and no WebSocket.
            assert server.exists(1)
            info = server.info(1)
            assert info is not None
            assert (info.state, info.opened_age) == (State.CLOSING, None)
            assert server.get(1) is None
            assert not server.is_established(1)
            assert not server.push(1, "x")
            assert list(server.connections) == []
            assert server.broadcast("x").result.delivered == 0
            stats = server.stats()
            assert (stats.connections, stats.websockets, stats.accepted, stats.opened) == (1, 0, 1, 0)
            await raw.send_close(4001)
            assert await raw.rest() == b""
        await endings.one()
        stats = server.stats()
        assert (stats.connections, stats.websockets, stats.accepted, stats.opened) == (0, 0, 1, 0)
        assert (stats.refused, stats.ended) == ({}, {"CLOSE_HANDSHAKE": 1})
        assert not server.exists(1)
        assert application.told == [("disconnect", "nobody", Cause.CLOSE_HANDSHAKE)]


@aio_test
async def test_others_see_the_code() -> None:
    async def handler(ws: WebSocket) -> None:
        raise AssertionError("it must not be called")

    async with serving(handler, on_request=at_once(Accept(close=4001))) as (server, endings):
        async with connect(uri_of(server)) as ours:
            await ours.wait_closed()
        assert ours.close_code == 4001
        async with websockets.asyncio.client.connect(uri_of(server)) as theirs:
            with pytest.raises(websockets.exceptions.ConnectionClosed) as caught:
                await theirs.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4001
        async with aiohttp.ClientSession() as session, session.ws_connect(uri_of(server)) as ws:
            message = await ws.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4001)
        await until(lambda: len(endings) == 3)
        assert all(ending.clean for ending in endings)


@aio_test
async def test_a_peer_that_does_not_answer_such_a_close() -> None:
    said = Accept(close=4001, options={"close_timeout": 0.2})
    async with serving(on_request=at_once(said)) as (server, endings):
        with await open_raw(server) as raw:
            assert (await raw.next_frame()).opcode == CLOSE
            for _ in range(50):
                await raw.send_frame(TEXT, b"x" * 1000)
            ending = await endings.one()
            assert ending.cause is Cause.CLOSE_TIMEOUT


# What an Accept must not be.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"headers": [("Upgrade", "h2c")]}, LocalProtocolError, "written by the opening handshake itself"),
        ({"headers": [("X", "a\r\nb")]}, LocalProtocolError, "is not allowed"),
        ({"options": {"open_timeout": 3}}, TypeError, "open_timeout is over when a request is answered"),
        ({"options": {"max_size": 3}}, TypeError, "unknown keyword argument 'max_size'"),
        ({"options": {"max_message_size": 0}}, ValueError, "max_message_size must be positive"),
        ({"options": {"close_timeout": None}}, ValueError, "cannot be turned off"),
        ({"options": [1]}, TypeError, r"options must be a dict of options, not \[1\]"),
        ({"origins": ["*"]}, ValueError, "for every origin there is ANY_ORIGIN"),
        ({"subprotocols": "chat"}, LocalProtocolError, r"write \['chat'\]"),
        ({"subprotocols": ["a b"]}, LocalProtocolError, "is no token|is not a token"),
        ({"close": 1005}, LocalProtocolError, "1005"),
        ({"close": (4000, "x" * 124)}, LocalProtocolError, "123"),
    ],
)
def test_what_is_wrong_is_found_when_it_is_made(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Accept(**options)


def test_what_one_does_not_say_the_other_does() -> None:
    first = Accept(
        [("A", "1")], subprotocol=None, handler=echo, params={"a": 1}, options={"heartbeat": 1.0}, context=1
    )
    second = Accept(
        [("B", "2")],
        subprotocol="x",
        handler=serve,
        params={"b": 1},
        options={"heartbeat": 2.0, "idle_timeout": 3.0},
        origins=SAME_HOST,
        subprotocols=["x"],
        require_subprotocol=False,
        close=4000,
        context=2,
    )
    both = first.with_defaults(second)
    assert list(both.headers) == [("B", "2"), ("A", "1")]
    assert (both.subprotocol, both.handler, both.params, both.context) == (None, echo, {"a": 1}, 1)
    assert both.options == {"heartbeat": 1.0, "idle_timeout": 3.0}
    assert (both.origins, both.subprotocols, both.require_subprotocol) == (SAME_HOST, ["x"], False)
    assert both.close == (4000, "")
    other = Accept().with_defaults(second)
    assert (other.subprotocol, other.handler, other.params) == ("x", serve, {"b": 1})


# Whose request it is.


@aio_test
async def test_the_request_says_where_it_came_from(tmp_path: Path) -> None:
    seen: list[tuple[Any, str | None]] = []

    def on_request(request: Request) -> Response:
        seen.append((request.remote_address, request.scheme))
        return Response(204)

    async with serving(on_request=on_request) as (server, _):
        with await dial(server) as raw:
            address = raw.sock.getsockname()
            # Nobody is believed who was not named.
            await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
            assert (await raw.rest()).startswith(b"HTTP/1.1 204 ")
        assert seen == [(address, "http")]
    async with serving(on_request=on_request, ssl=server_context()) as (server, _):
        with pytest.raises(HandshakeRejected):
            await connect(uri_of(server).replace("ws:", "wss:"), ssl=client_context())
        assert seen[1][1] == "https"


def forwarded(*headers: tuple[str, str], host: str = "inside:8000") -> bytes:
    return client_handshake_request(host=host, headers=headers)


@pytest.mark.parametrize("trusted", [["127.0.0.0/8"], TrustedProxies(["127.0.0.1"], headers="x-forwarded")])
@aio_test
async def test_a_trusted_proxy_says_whose_request_it_is(trusted: Any) -> None:
    addresses: list[Any] = []
    seen: list[Any] = []

    async def handler(ws: WebSocket) -> None:
        request = ws.request
        seen.append((ws.remote_address, request.remote_address, request.scheme, request.headers["Host"]))

    def on_request(request: Request) -> None:
        seen.append(request.remote_address)

    async with serve(
        handler,
        "127.0.0.1",
        0,
        on_request=on_request,
        trusted_proxies=trusted,
        on_end=lambda request, address, ending: addresses.append(address),
        ping_interval=None,
    ) as server:
        headers = [
            ("X-Forwarded-For", "9.9.9.9, 192.0.2.7"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "www.example"),
        ]
        with await dial(server) as raw:
            await raw.send(forwarded(*headers, ("Origin", "https://www.example")))
            assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
            assert (await raw.next_frame()).opcode == CLOSE
            await raw.send_close()
            await raw.rest()
        client = ("192.0.2.7", 0)
        assert seen == [client, (client, client, "https", "www.example")]
        # The origin is judged by what the proxy says, before on_request is asked.
        for request in (
            forwarded(*headers, ("Origin", "https://inside:8000")),
            forwarded(("X-Forwarded-For", "192.0.2.7"), ("Origin", "https://www.example")),
        ):
            head, _ = await ask(server, request)
            assert head.startswith("HTTP/1.1 403 ")
        assert len(seen) == 2
        await until(lambda: len(addresses) == 3)
        assert addresses[0] == client
        head, _ = await ask(server, GET)
        assert head.startswith("HTTP/1.1 426 ")


@aio_test
async def test_both_kinds_of_headers_are_refused() -> None:
    async with serving(trusted_proxies=["127.0.0.1"]) as (server, endings):
        for request in (
            forwarded(("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=192.0.2.7")),
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\r\n",
        ):
            head, body = await ask(server, request)
            assert head.startswith("HTTP/1.1 400 ")
            assert "trusted_proxies" in body
        await until(lambda: len(endings) == 2)
        assert [ending.cause for ending in endings] == [Cause.REJECTED, Cause.PLAIN_HTTP]
        assert not any(ending.was_websocket for ending in endings)


@aio_test
async def test_a_proxy_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    seen: list[Any] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(ws.remote_address)

    for trusted, expected in ((["unix"], ("2001:db8::7", 1234, 0, 0)), (["127.0.0.1"], "")):
        async with serve(handler, unix_path=path, trusted_proxies=trusted, ping_interval=None):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            headers = [("Forwarded", 'for="[2001:db8::7]:1234"')]
            async with connect("ws://localhost/", sock=sock, headers=headers) as ws:
                await ws.wait_closed()
        assert seen.pop() == expected


# Nothing is left of it.


@aio_test
async def test_the_state_is_what_it_was() -> None:
    """An answer that comes when the peer has gone changes nothing."""
    go_on = asyncio.Event()

    async def on_request(request: Request) -> Accept:
        await go_on.wait()
        return Accept(close=4000, context=1, handler=echo)

    async with serving(on_request=on_request) as (server, endings):
        with await dial(server) as raw:
            await raw.send(client_handshake_request())
            raw.reset()
        ending = await endings.one()
        assert ending.phase is State.HANDSHAKE
        go_on.set()
        await asyncio.sleep(0.01)
        assert port_of(server)
    assert len(endings) == 1
