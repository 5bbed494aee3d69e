"""What ``on_request`` may say to a blocking server, routes, and whose request it is; with clients that are not ours."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client
from websockets.typing import Origin, Subprotocol

from framebuilder import CLOSE, TEXT, build, client_handshake_request, close_payload
from synchelpers import (
    DEADLINE,
    Endings,
    Job,
    client_context,
    dial,
    echo,
    expect_log,
    open_raw,
    port_of,
    server_context,
    serving,
    tidy,
    until,
    uri_of,
)
from wsframe import ANY_ORIGIN, Cause, Disconnected, Limits, Request, Response, State
from wsframe.sync import (
    Accept,
    Application,
    HandshakeRejected,
    Route,
    Router,
    Server,
    TrustedProxies,
    WebSocket,
    broadcast,
    connect,
    serve,
)

__all__ = ["tidy"]

GET = "GET /x HTTP/1.1\nHost: a\n\n"


def ask(server: Server, request: str | bytes) -> tuple[str, str]:
    """Send a request; the head and the body of the answer."""
    data = request if isinstance(request, bytes) else request.replace("\n", "\r\n").encode()
    with dial(server) as raw:
        raw.send(data)
        head, _, body = raw.rest().partition(b"\r\n\r\n")
    return head.decode(), body.decode()


def at_once(said: Any) -> Any:
    return lambda request: said


@contextlib.contextmanager
def answering(said: Any, handler: Any = echo, **options: Any) -> Iterator[tuple[Server, Endings]]:
    options.setdefault("ping_interval", None)
    with serving(handler, on_request=said if callable(said) else at_once(said), **options) as (
        server,
        endings,
    ):
        yield server, endings


def refused(uri: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(HandshakeRejected) as caught:
        connect(uri, **options)
    return caught.value.status, caught.value.body.decode()


# A Response.


def test_a_response() -> None:
    response = Response(403, headers=[("X-Why", "because")], body="no entry, sörry\n")
    with answering(response) as (server, endings):
        for request in (GET, client_handshake_request().decode().replace("\r\n", "\n")):
            head, body = ask(server, request)
            lines = head.split("\r\n")
            assert lines[0] == "HTTP/1.1 403 Forbidden"
            assert {"X-Why: because", "Content-Type: text/plain; charset=utf-8", "Content-Length: 17"} <= set(
                lines
            )
            assert "Connection: close" in lines
            assert body == "no entry, sörry\n"
        until(lambda: len(endings) == 2)
        assert {ending.cause for ending in endings} == {Cause.PLAIN_HTTP, Cause.REJECTED}


def test_a_post_that_tells_everybody() -> None:
    there: set[WebSocket] = set()

    def handler(ws: WebSocket) -> None:
        there.add(ws)
        ws.wait_closed()

    def on_request(request: Request) -> Response | None:
        if request.method != "POST":
            return None
        return Response(200, body=f"{broadcast(there, request.body.decode()).result.delivered}\n")

    limits = Limits(max_body_size=10)
    with (
        answering(on_request, handler, limits=limits) as (server, _),
        open_raw(server) as first,
        open_raw(server) as second,
    ):
        until(lambda: len(there) == 2)
        head, body = ask(server, "POST / HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello")
        assert (head.split("\r\n")[0], body) == ("HTTP/1.1 200 OK", "2\n")
        for raw in (first, second):
            assert raw.next_frame().payload == b"hello"
        head, body = ask(server, "POST / HTTP/1.1\nHost: a\nContent-Length: 11\n\n" + "x" * 11)
        assert head.startswith("HTTP/1.1 413 ")
        assert "max_body_size" in body


def test_head_has_the_length_and_no_body() -> None:
    with answering(Response(200, body="12345")) as (server, _):
        for version in ("1.0", "1.1"):
            head, body = ask(server, f"HEAD / HTTP/{version}\nHost: a\n\n")
            assert head.startswith("HTTP/1.1 200 OK\r\n")
            assert "Content-Length: 5" in head.split("\r\n")
            assert body == ""


def test_http_1_0_is_answered_and_never_upgraded() -> None:
    seen: list[tuple[int, int]] = []

    def on_request(request: Request) -> Response:
        seen.append(request.version)
        return Response(200, body="fine\n")

    with answering(on_request) as (server, _):
        head, body = ask(server, "GET /health HTTP/1.0\n\n")
        assert (head.split("\r\n")[0], body) == ("HTTP/1.1 200 OK", "fine\n")
        assert seen == [(1, 0)]
    upgrade = client_handshake_request().replace(b"HTTP/1.1", b"HTTP/1.0")
    with answering(Accept()) as (server, endings):
        head, body = ask(server, upgrade)
        assert head.startswith("HTTP/1.1 400 ")
        assert body == "a WebSocket handshake needs HTTP/1.1\n"
        assert endings.one().was_websocket is False


@pytest.mark.parametrize(
    "said", [None, Accept(), Accept(close=4000, context=1)], ids=["None", "Accept", "close"]
)
def test_426_is_the_answer_to_a_request_for_nothing_else(said: Any) -> None:
    with answering(said) as (server, endings):
        for request in (GET, "GET / HTTP/1.0\n\n", "POST / HTTP/1.1\nHost: a\nContent-Length: 1\n\nx"):
            head, body = ask(server, request)
            assert head.startswith("HTTP/1.1 426 Upgrade Required\r\n")
            assert {"Upgrade: websocket", "Sec-WebSocket-Version: 13"} <= set(head.split("\r\n"))
            assert "this is a WebSocket server" in body
        until(lambda: len(endings) == 3)
        assert {ending.cause for ending in endings} == {Cause.PLAIN_HTTP}


@pytest.mark.peer
def test_curl() -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")

    def on_request(request: Request) -> Response:
        return Response(201, body=b"[%s %s]" % (request.method.encode(), request.body))

    def run(*options: str) -> tuple[str, str]:
        command = [str(program), "--disable", "--noproxy", "*", "-sSNi", *options, uri]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True
        )
        head, _, body = result.stdout.decode().partition("\r\n\r\n")
        return head.split("\r\n")[0], body

    with answering(on_request) as (server, _):
        uri = uri_of(server).replace("ws:", "http:")
        assert run() == ("HTTP/1.1 201 Created", "[GET ]")
        assert run("--http1.0") == ("HTTP/1.1 201 Created", "[GET ]")
        assert run("--head") == ("HTTP/1.1 201 Created", "")
        assert run("--data", "hello") == ("HTTP/1.1 201 Created", "[POST hello]")


# An Accept.


def test_headers_and_subprotocol() -> None:
    said = Accept([("X-Server", "7"), ("Set-Cookie", "a=b")], subprotocol="two")
    with answering(said, subprotocols=["one", "two"]) as (server, _):
        with connect(uri_of(server), subprotocols=["one", "two"]) as ws:
            assert ws.subprotocol == "two"
            assert ws.response is not None
            assert (ws.response.headers["X-Server"], ws.response.headers["Set-Cookie"]) == ("7", "a=b")
            ws.send("hello")
            assert ws.recv() == "hello"
        with websockets.sync.client.connect(uri_of(server), subprotocols=[Subprotocol("two")]) as theirs:
            assert theirs.subprotocol == "two"
            assert theirs.response is not None
            assert theirs.response.headers["X-Server"] == "7"


def test_a_subprotocol_that_was_not_offered_is_the_servers_fault() -> None:
    with answering(Accept(subprotocol="two")) as (server, endings):
        with expect_log("^on_request raised an exception$"):
            assert refused(uri_of(server), subprotocols=["one"])[0] == 500
        assert endings.one().cause is Cause.REJECTED


async def _later(request: Request) -> None:
    """Nobody would await it."""


class Awaitable:
    """What could be awaited, and is no coroutine."""

    def __await__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize(
    "said",
    [
        "yes",
        200,
        b"",
        True,
        WebSocket,
        Accept(handler=7),
        Accept(handler=Application),
        Accept(handler=_later),
    ],
    ids=["str", "int", "bytes", "bool", "class", "no handler", "class of handlers", "coroutine function"],
)
def test_what_is_no_answer(said: Any) -> None:
    with answering(said if not callable(said) else at_once(said)) as (server, endings):
        with expect_log("^on_request raised an exception$"):
            head, _ = ask(server, client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
            endings.one()
        assert head.startswith("HTTP/1.1 500 ")


def test_what_would_have_to_be_awaited_is_no_answer() -> None:
    for said in (lambda request: _later(request), lambda request: Awaitable()):
        with answering(said) as (server, endings), expect_log("^on_request raised an exception$"):
            assert refused(uri_of(server))[0] == 500
            endings.one()


class Told(Application):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_open(self, ws: WebSocket) -> None:
        self.told.append(("open", dict(ws.path_params), ws.context))

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.told.append(message)
        ws.send(message)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.told.append(("close", ending.code))

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
        self.told.append(("disconnect", request is not None and request.context, ending.cause))


def test_another_handler_for_this_connection() -> None:
    seen: list[Any] = []

    def room(ws: WebSocket, name: str, number: int = 0) -> None:
        seen.append((name, number, dict(ws.path_params)))
        ws.send(f"room {name} {number}")

    application = Told()

    def on_request(request: Request) -> Accept | None:
        if request.target == "/app":
            return Accept(handler=application, params={"a": 1}, context="user")
        if request.target == "/room":
            return Accept(handler=room, params={"name": "x", "number": 7})
        return None

    with answering(on_request) as (server, endings):
        uri = uri_of(server)
        with connect(uri + "room") as ws:
            assert ws.recv() == "room x 7"
        assert seen == [("x", 7, {"name": "x", "number": 7})]
        with connect(uri + "app") as ws:
            ws.send("hello")
            assert ws.recv() == "hello"
        until(lambda: len(endings) == 2)
        assert application.told == [("open", {"a": 1}, "user"), "hello", ("close", 1000)]
        with connect(uri) as ws:
            ws.send("echo")
            assert ws.recv() == "echo"
            assert dict(ws.path_params) == {}


def test_who_it_is_is_attached() -> None:
    seen: list[Any] = []
    ended: list[Any] = []

    def handler(ws: WebSocket) -> None:
        seen.append((ws.context, ws.request.context))

    def on_end(request: Request | None, address: object, ending: Disconnected) -> None:
        ended.append(request and request.context)

    user = {"name": "ann"}
    with answering(Accept(context=user), handler, on_end=on_end) as (server, _):
        with connect(uri_of(server)) as ws:
            ws.wait_closed(DEADLINE)
        assert ws.context is None
        until(lambda: ended)
    assert seen[0][0] is seen[0][1] is user
    assert ended == [user]


def test_options_for_this_connection() -> None:
    kept: list[WebSocket] = []

    def handler(ws: WebSocket) -> None:
        kept.append(ws)
        echo(ws)

    limits = Limits(write_high_water=10_000, write_low_water=5_000, receive_queue_messages=3)

    def on_request(request: Request) -> Accept | None:
        if request.target == "/large":
            return Accept(options={"max_message_size": 100, "limits": limits, "heartbeat": 7.0})
        return None

    with answering(on_request, handler, max_message_size=10, idle_timeout=50.0) as (server, endings):
        with connect(uri_of(server) + "large") as ws:
            ws.send("x" * 100)
            assert ws.recv() == "x" * 100
            connection: Any = kept[0]._connection
            assert connection.limits == Limits(
                max_message_size=100, write_high_water=10_000, write_low_water=5_000, receive_queue_messages=3
            )
            timeouts = connection.timeouts
            # What was not among them is as the server has it.
            assert (timeouts.heartbeat, timeouts.idle, timeouts.ping_interval) == (7.0, 50.0, None)
            ws.send("x" * 101)
            ws.wait_closed(DEADLINE)
            assert ws.close_code == 1009
        with connect(uri_of(server)) as ws:
            ws.send("x" * 11)
            ws.wait_closed(DEADLINE)
            assert ws.close_code == 1009
        until(lambda: len(endings) == 2)


def test_a_longer_close_timeout_is_waited_for() -> None:
    with answering(Accept(options={"close_timeout": 1.5}), close_timeout=0.1) as (server, endings):
        with open_raw(server) as raw:
            until(lambda: server.is_established(1))
            closing = Job(server.close)
            assert raw.next_frame().opcode == CLOSE
            # Later than the server's own would be over, and the margin too.
            with pytest.raises(TimeoutError):
                server.wait_closed(0.8)
            raw.send_close(1001)
            raw.rest()
            assert closing.result() == {Cause.CLOSE_HANDSHAKE: 1}
        assert endings.one().clean


def test_while_on_request_thinks_others_look_after_the_connection() -> None:
    go_on = threading.Event()

    def on_request(request: Request) -> None:
        go_on.wait(DEADLINE)

    with answering(on_request, open_timeout=0.2) as (server, endings):
        try:
            with dial(server) as raw:
                raw.send(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
                assert raw.rest().startswith(b"HTTP/1.1 503 ")
            with dial(server) as raw:
                raw.send(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
                until(lambda: server.exists(2))
            until(lambda: not server.exists(2))
            assert len(endings) == 0
        finally:
            go_on.set()
        until(lambda: len(endings) == 2)
        assert {ending.cause for ending in endings} <= {Cause.OPEN_TIMEOUT, Cause.EOF}
        assert not any(ending.was_websocket for ending in endings)


# What it is judged by.


def test_origins_and_subprotocols_of_an_answer() -> None:
    said = Accept(origins=["https://good.example"], subprotocols=["b", "a"], require_subprotocol=True)
    with answering(said, origins=ANY_ORIGIN) as (server, _):
        with connect(uri_of(server), origin="https://good.example", subprotocols=["a", "b"]) as ws:
            assert ws.subprotocol == "b"
        for origin, names, status in (
            ("https://evil.example", ["a"], 403),
            ("https://good.example", ["c"], 400),
            ("https://good.example", [], 400),
        ):
            assert refused(uri_of(server), origin=origin, subprotocols=names)[0] == status


def test_the_server_judges_first() -> None:
    asked: list[Request] = []

    def on_request(request: Request) -> Accept:
        asked.append(request)
        return Accept(origins=ANY_ORIGIN)

    with answering(on_request) as (server, _):
        assert refused(uri_of(server), origin="https://evil.example")[0] == 403
        assert asked == []


# Accept, then close.


def test_accept_and_close() -> None:
    application = Told()
    said = Accept(close=(4001, "not you"), context="nobody")
    with answering(said, application) as (server, endings):
        with open_raw(server, then=build(TEXT, b"early", mask=b"1234")) as raw:
            frame = raw.next_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, close_payload(4001, b"not you"))
            # It is a connection, and no WebSocket.
            assert server.exists(1)
            info = server.info(1)
            assert info is not None
            assert (info.state, info.opened_age) == (State.CLOSING, None)
            assert server.get(1) is None
            assert not server.push(1, "x")
            assert list(server.connections) == []
            assert server.broadcast("x").result.delivered == 0
            stats = server.stats()
            assert (stats.connections, stats.websockets, stats.accepted, stats.opened) == (1, 0, 1, 0)
            raw.send_close(4001)
            assert raw.rest() == b""
        ending = endings.one()
        assert (ending.cause, ending.clean, ending.was_websocket) == (Cause.CLOSE_HANDSHAKE, True, True)
        # For the application it has never been a WebSocket.
        assert application.told == [("disconnect", "nobody", Cause.CLOSE_HANDSHAKE)]
        stats = server.stats()
        assert (stats.connections, stats.websockets, stats.opened) == (0, 0, 0)
        assert (stats.refused, stats.ended) == ({}, {"CLOSE_HANDSHAKE": 1})


def test_others_see_the_code() -> None:
    def handler(ws: WebSocket) -> None:
        raise AssertionError("it must not be called")

    with answering(Accept(close=4001), handler) as (server, endings):
        with (
            websockets.sync.client.connect(uri_of(server)) as theirs,
            pytest.raises(websockets.exceptions.ConnectionClosed) as caught,
        ):
            theirs.recv(DEADLINE)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4001
        assert endings.one().clean


def test_a_peer_that_does_not_answer_such_a_close() -> None:
    said = Accept(close=4001, options={"close_timeout": 0.2})
    with answering(said) as (server, endings), open_raw(server) as raw:
        assert raw.next_frame().opcode == CLOSE
        raw.send_frame(TEXT, b"x" * 1000)
        assert endings.one().cause is Cause.CLOSE_TIMEOUT


# Whose request it is.


def test_the_request_says_where_it_came_from() -> None:
    seen: list[tuple[Any, str | None]] = []

    def on_request(request: Request) -> Response:
        seen.append((request.remote_address, request.scheme))
        return Response(204)

    with answering(on_request) as (server, _), dial(server) as raw:
        address = raw.sock.getsockname()
        # Nobody is believed who was not named.
        raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
        assert raw.rest().startswith(b"HTTP/1.1 204 ")
        assert seen == [(address, "http")]
    with answering(on_request, ssl=server_context()) as (server, _):
        refused(uri_of(server).replace("ws:", "wss:"), ssl=client_context())
        assert seen[1][1] == "https"


def forwarded(*headers: tuple[str, str], host: str = "inside:8000") -> bytes:
    return client_handshake_request(host=host, headers=headers)


@pytest.mark.parametrize("trusted", [["127.0.0.0/8"], TrustedProxies(["127.0.0.1"], headers="x-forwarded")])
def test_a_trusted_proxy_says_whose_request_it_is(trusted: Any) -> None:
    addresses: list[Any] = []
    seen: list[Any] = []

    def handler(ws: WebSocket) -> None:
        request = ws.request
        seen.append((ws.remote_address, request.remote_address, request.scheme, request.headers["Host"]))

    def on_request(request: Request) -> None:
        seen.append(request.remote_address)

    def on_end(request: Request | None, address: Any, ending: Disconnected) -> None:
        addresses.append(address)

    with answering(on_request, handler, trusted_proxies=trusted, on_end=on_end) as (server, _):
        headers = [
            ("X-Forwarded-For", "9.9.9.9, 192.0.2.7"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "www.example"),
        ]
        with dial(server) as raw:
            raw.send(forwarded(*headers, ("Origin", "https://www.example")))
            assert raw.head().startswith(b"HTTP/1.1 101 ")
            assert raw.next_frame().opcode == CLOSE
            raw.send_close()
            raw.rest()
        client = ("192.0.2.7", 0)
        assert seen == [client, (client, client, "https", "www.example")]
        until(lambda: addresses)
        assert addresses == [client]
        # The origin is judged by what the proxy says, before on_request is asked.
        for request in (
            forwarded(*headers, ("Origin", "https://inside:8000")),
            forwarded(("X-Forwarded-For", "192.0.2.7"), ("Origin", "https://www.example")),
        ):
            assert ask(server, request)[0].startswith("HTTP/1.1 403 ")
        assert len(seen) == 2
        assert ask(server, GET)[0].startswith("HTTP/1.1 426 ")


def test_both_kinds_of_headers_are_refused() -> None:
    with serving(trusted_proxies=["127.0.0.1"]) as (server, endings):
        for request in (
            forwarded(("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=192.0.2.7")),
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\r\n",
        ):
            head, body = ask(server, request)
            assert head.startswith("HTTP/1.1 400 ")
            assert "trusted_proxies" in body
        until(lambda: len(endings) == 2)
        assert not any(ending.was_websocket for ending in endings)


def test_a_proxy_on_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    seen: list[Any] = []

    def handler(ws: WebSocket) -> None:
        seen.append(ws.remote_address)

    for trusted, expected in ((["unix"], ("2001:db8::7", 1234, 0, 0)), (["127.0.0.1"], "")):
        with serving(handler, unix_path=path, trusted_proxies=trusted):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            headers = [("Forwarded", 'for="[2001:db8::7]:1234"')]
            with connect("ws://localhost/", sock=sock, headers=headers) as ws:
                ws.wait_closed(DEADLINE)
        assert seen.pop() == expected


# Routes.


def chat(ws: WebSocket, room: str) -> None:
    ws.send(f"this is {room}")


def count(ws: WebSocket, number: int) -> None:
    for i in range(number):
        ws.send(str(i))


def page(request: Request, name: str = "nobody") -> Response:
    return Response(200, body=f"{request.method} {name}\n")


def only_ann(request: Request, room: str) -> Response | Accept:
    if request.headers.get("Authorization") != "Basic ann":
        return Response(401, body=f"not in {room}\n")
    return Accept(context="ann")


def test_routes() -> None:
    application = Told()
    router = Router(
        [
            Route("/", view=page),
            Route("/page/<name>", view=page, methods=["GET", "POST"]),
            Route("/chat/<room>", chat, subprotocols=["v2", "v1"], options={"max_message_size": 4}),
            Route("/count/<int:number>", count, origins=["https://a.example"]),
            Route("/closed/<room>", chat, on_request=only_ann),
            Route("/app/<name>", application),
        ]
    )
    with serving(router, ping_interval=None) as (server, endings):
        uri = uri_of(server).rstrip("/")
        with connect(f"{uri}/chat/blue", subprotocols=["v1"]) as ws:
            assert (ws.recv(), ws.subprotocol) == ("this is blue", "v1")
        with websockets.sync.client.connect(f"{uri}/count/3", origin=Origin("https://a.example")) as theirs:
            assert list(theirs) == ["0", "1", "2"]
        assert refused(f"{uri}/count/3", origin="https://b.example")[0] == 403
        assert refused(f"{uri}/closed/red") == (401, "not in red\n")
        with connect(f"{uri}/closed/red", headers=[("Authorization", "Basic ann")]) as ws:
            assert ws.recv() == "this is red"
        with connect(f"{uri}/app/x") as ws:
            ws.send("hello")
            assert ws.recv() == "hello"
        until(lambda: ("close", 1000) in application.told)
        assert application.told == [("open", {"name": "x"}, None), "hello", ("close", 1000)]
        assert refused(f"{uri}/elsewhere") == (404, "there is nothing at '/elsewhere'\n")
        assert refused(f"{uri}/count/many")[0] == 404
        assert refused(f"{uri}/") == (404, "there is no WebSocket at '/'\n")
        for start, status, body in (
            ("GET /", "200 OK", "GET nobody\n"),
            ("HEAD /", "200 OK", ""),
            ("POST /page/ann", "200 OK", "POST ann\n"),
            ("GET /chat/blue", "426 Upgrade Required", None),
            ("DELETE /page/ann", "405 Method Not Allowed", None),
            ("GET /nowhere", "404 Not Found", "there is nothing at '/nowhere'\n"),
        ):
            head, answer = ask(server, f"{start} HTTP/1.1\nHost: a\n\n")
            assert head.startswith(f"HTTP/1.1 {status}\r\n")
            assert body is None or answer == body
        # What never became one is told to nobody in particular.
        assert len(application.told) == 3
        until(lambda: server.stats().connections == 0)
        assert len(endings) == server.stats().accepted


def test_limits_of_a_route() -> None:
    router = Router([Route("/small", echo, options={"max_message_size": 4}), Route("/large", echo)])
    with serving(router) as (server, _):
        for path, code in (("small", 1009), ("large", 1000)):
            with connect(uri_of(server) + path) as ws:
                ws.send("hello")
                if code == 1000:
                    assert ws.recv() == "hello"
                else:
                    ws.wait_closed(DEADLINE)
            assert ws.close_code == code


def test_a_function_in_the_place_of_rules() -> None:
    def find(request: Request) -> Accept | None:
        _, place, name = f"{request.target}/".split("/")[:3]
        return Accept(handler=chat, params={"room": name}) if place == "chat" else None

    with serving(Router(find)) as (server, _):
        with connect(uri_of(server) + "chat/green") as ws:
            assert ws.recv() == "this is green"
        assert refused(uri_of(server) + "chess")[0] == 404


def test_a_failing_view_is_a_500() -> None:
    def view(request: Request) -> Response:
        raise ZeroDivisionError

    with (
        serving(Router([Route("/", view=view)])) as (server, endings),
        expect_log("^on_request raised an exception$"),
    ):
        assert ask(server, "GET / HTTP/1.1\nHost: a\n\n")[0].startswith("HTTP/1.1 500 ")
        endings.one()


# What makes no sense.


class WithRequest(Application):
    def on_request(self, request: Request) -> Response | None:
        return None


class WithCoroutine(Application):
    async def on_request(self, request: Request) -> None:
        """Nobody would await it."""


async def _handler(ws: WebSocket) -> None:
    """Nobody would await it."""


@pytest.mark.parametrize(
    ("handler", "options", "message"),
    [
        (None, {}, "a handler is a plain function or an Application, not None"),
        (_handler, {}, "a handler is a plain function or an Application"),
        (Application, {}, r"an object of it: Application\(\)"),
        (WithRequest(), {"on_request": at_once(None)}, "on_request is there twice"),
        (WithCoroutine(), {}, "must be a plain function: nobody would await"),
        (echo, {"on_request": _later}, "must be a plain function: nobody would await"),
        (Router([Route("/", _handler)]), {}, "a handler is a plain function"),
        (Router([Route("/", WithCoroutine())]), {}, "must be a plain function: nobody would await"),
        (Router([Route("/", echo, on_request=_later)]), {}, "must be a plain function"),
        (Router([Route("/", view=_later)]), {}, "must be a plain function"),
        (Router(_later), {}, "must be a plain function"),
        (echo, {"trace": "stderr"}, "trace must be callable"),
        (echo, {"trusted_proxies": "10.0.0.1"}, "a list of addresses"),
    ],
)
def test_wrong_arguments(handler: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        serve(handler, "127.0.0.1", 0, **options)
