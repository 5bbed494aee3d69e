"""`wsframe.integrations.uvicorn`: every point of the ASGI specification, with bare applications and bare sockets."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from pathlib import Path
from typing import Any

import pytest
import uvicorn.protocols.utils

from adapterhelpers import request_to
from aiohelpers import Raw, aio_test, dial, expect_log, open_raw, until, without_proxies
from framebuilder import BINARY, CLOSE, TEXT, client_handshake_request
from uvicornhelpers import Event, Receive, Scope, Send, Served, http_implementations, serving
from wsframe import Cause, Initiator, Timeouts
from wsframe.aio import connect

ACCEPT = {"type": "websocket.accept"}


class Told:
    """An application that accepts, and keeps what it is told until the end."""

    def __init__(self, **accept: Any) -> None:
        self.scope: Scope = {}
        self.events: list[Event] = []
        self.send: Send
        self.receive: Receive
        self._accept = {**ACCEPT, **accept}
        self.is_open = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self.receive, self.send = scope, receive, send
        self.events.append(await receive())
        await send(self._accept)
        self.is_open.set()
        while self.events[-1]["type"] != "websocket.disconnect":
            self.events.append(await receive())
        self.over.set()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def refused(served: Served, request: bytes | None = None) -> tuple[bytes, bytes]:
    """Head and body of an answer that is no WebSocket; the peer reads them and leaves."""
    with await dial(served) as raw:
        await raw.send(request or request_to(served))
        head = await raw.head()
        body = await raw.rest()
        raw.shutdown()
    await served.endings.one()
    return head, body


# The scope.


@http_implementations
@aio_test
async def test_scope(http: str) -> None:
    application = Told()
    async with serving(application, http=http, root_path="/root", ws_per_message_deflate=False) as served:
        port = served.sockets[0].getsockname()[1]
        request = client_handshake_request(
            "/chat%20room?name=%C3%A4&x=1",
            host=f"127.0.0.1:{port}",
            headers=[
                ("Sec-WebSocket-Protocol", "one, two"),
                ("X-Twice", "1"),
                ("X-Twice", "\xe4"),
                ("Sec-WebSocket-Protocol", "three"),
                ("Origin", "http://elsewhere"),
            ],
        )
        with await dial(served) as raw:
            await raw.send(request)
            await raw.head()
            client = raw.sock.getsockname()
            await application.is_open.wait()
            scope = dict(application.scope)
            assert scope.pop("headers")[5:] == [
                (b"sec-websocket-protocol", b"one, two"),
                (b"x-twice", b"1"),
                (b"x-twice", b"\xe4"),
                (b"sec-websocket-protocol", b"three"),
                (b"origin", b"http://elsewhere"),
            ]
            assert {name.islower() for name, _ in application.scope["headers"]} == {True}
            assert scope == {
                "type": "websocket",
                "asgi": {"version": "3.0", "spec_version": "2.5"},
                "http_version": "1.1",
                "scheme": "ws",
                "server": ("127.0.0.1", port),
                "client": client,
                "root_path": "/root",
                "path": "/root/chat room",
                "raw_path": b"/root/chat%20room",
                "query_string": b"name=%C3%A4&x=1",
                "subprotocols": ["one", "two", "three"],
                "state": {},
                "extensions": {"websocket.http.response": {}, "wsframe": {"ending": None}},
            }
            assert application.events == [{"type": "websocket.connect"}]
        await application.over.wait()


@aio_test
async def test_state_is_a_copy_for_every_connection() -> None:
    states: list[dict[str, Any]] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        states.append(scope["state"])
        scope["state"]["mine"] = len(states)
        await send({"type": "websocket.close"})

    async with serving(application) as served:
        served.server.lifespan.state["shared"] = "all"
        for _ in range(2):
            with await dial(served) as raw:
                await raw.send(request_to(served))
                await raw.rest()
        assert states == [{"shared": "all", "mine": 1}, {"shared": "all", "mine": 2}]


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("http://127.0.0.1/where?to=1", "/where", b"to=1"),
        ("http://127.0.0.1?to=/1", "/", b"to=/1"),
        ("http://127.0.0.1:80", "/", b""),
        ("/http://x/y?", "/http://x/y", b""),
        ("//x/y?a?b", "//x/y", b"a?b"),
        ("/%ff%00%E4", "/\ufffd\x00\ufffd", b""),
    ],
)
@http_implementations
@aio_test
async def test_targets(http: str, target: str, path: str, query: bytes) -> None:
    application = Told()
    async with serving(application, http=http) as served:
        with await dial(served) as raw:
            await raw.send(client_handshake_request(target))
            await raw.head()
            await application.is_open.wait()
            assert (application.scope["path"], application.scope["query_string"]) == (path, query)
            await raw.send_close(1000)
            await raw.rest()
        await application.over.wait()


@pytest.mark.parametrize("target", ["*", "x", "http://[", "http://", "?", "a:b", "/\x80", "/#"])
@http_implementations
@aio_test
async def test_strange_targets_are_no_news(http: str, target: str) -> None:
    """Whoever answers them, nothing is logged that says that we have failed."""
    if http == "zttp" and not target.isascii():
        pytest.skip("uvicorn's protocol for zttp fails by itself, before it hands the connection over")
    async with serving(echo, http=http) as served:
        with await dial(served) as raw:
            await raw.send(client_handshake_request().replace(b" / ", f" {target} ".encode("latin-1")))
            assert (await raw.head()).startswith(b"HTTP/1.1 ")
        await until(lambda: not served.connections)
        assert [line for line in served.log if line.startswith("ERROR")] == []


@aio_test
async def test_whom_a_proxy_speaks_for() -> None:
    """uvicorn's own middleware stands before the application."""
    application = Told()
    async with serving(application) as served:
        request = client_handshake_request(
            headers=[("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https")]
        )
        with await dial(served) as raw:
            await raw.send(request)
            await raw.head()
            await application.is_open.wait()
            assert application.scope["client"][0] == "192.0.2.7"
            assert application.scope["scheme"] == "wss"
        await application.over.wait()


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no Unix sockets")
@http_implementations
@aio_test
async def test_a_unix_socket(http: str, tmp_path: Path) -> None:
    application = Told()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    async with serving(application, http=http, sock=listener) as served:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(tmp_path / "s"))
        with Raw(sock, masks=True) as raw:
            await raw.send(client_handshake_request())
            await raw.head()
            await application.is_open.wait()
            assert application.scope["client"] is None
            await raw.send_close(1000)
            await raw.rest()
        await application.over.wait()
        assert served.log[0] == 'INFO - "WebSocket /" [accepted]'


class OtherLoop(asyncio.SelectorEventLoop):
    """One that nobody has tried wsframe with: uvicorn takes any."""


def test_another_event_loop() -> None:
    async def main() -> None:
        async with serving(echo) as served, connect(served.uri) as ws:
            for message in ("text", b"bytes", "x" * 100_000):
                await ws.send(message)
                assert await ws.recv() == message
            await ws.close(4001, "theirs")
            await served.endings.one()
            (scope,) = served.scopes
            assert scope is not None
            assert scope["extensions"]["wsframe"]["ending"].code == 4001

    with without_proxies(), asyncio.Runner(loop_factory=OtherLoop) as runner:
        runner.run(main())


# To accept.


@http_implementations
@aio_test
async def test_accept_with_subprotocol_and_headers(http: str) -> None:
    application = Told(
        subprotocol="two", headers=[(b"x-one", b"1"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
    )
    async with serving(application, http=http, headers=[("X-Every", "yes")]) as served:
        with await dial(served) as raw:
            await raw.send(request_to(served, ("Sec-WebSocket-Protocol", "one, two")))
            head = (await raw.head()).decode().lower().split("\r\n")
            assert head[0] == "http/1.1 101 switching protocols"
            for line in (
                "sec-websocket-protocol: two",
                "x-one: 1",
                "set-cookie: a",
                "set-cookie: b",
                "server: uvicorn",
                "x-every: yes",
            ):
                assert head.count(line) == 1, line
            assert any(line.startswith("date: ") for line in head)
        await application.over.wait()


@aio_test
async def test_server_and_date_are_left_out_when_asked() -> None:
    application = Told()
    async with serving(application, server_header=False, date_header=False) as served:
        with await dial(served) as raw:
            await raw.send(request_to(served))
            head = await raw.head()
            assert b"server:" not in head.lower()
            assert b"date:" not in head.lower()
        await application.over.wait()


@pytest.mark.parametrize(
    ("accept", "says"),
    [
        ({"subprotocol": "three"}, "subprotocol 'three' was not offered; the client offered 'one, two'"),
        ({"headers": [(b"upgrade", b"x")]}, "the header upgrade is written by the opening handshake itself"),
        ({"headers": [(b"x", b"1\r\ny: 2")]}, "header 'x': character"),
        ({"headers": [(b"x",)]}, "a header is a pair"),
    ],
)
@aio_test
async def test_accept_that_cannot_be_sent(accept: Event, says: str) -> None:
    raised: list[Exception] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({**ACCEPT, **accept})
        except RuntimeError as exc:
            raised.append(exc)
        # Nothing is lost: it can still be accepted.
        await send(ACCEPT)

    async with serving(application) as served:
        with await dial(served) as raw:
            await raw.send(request_to(served, ("Sec-WebSocket-Protocol", "one, two")))
            assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        assert says in str(raised[0])


@http_implementations
@aio_test
async def test_origins_are_not_our_business(http: str) -> None:
    async with serving(echo, http=http) as served:
        with await open_raw(served, ("Origin", "http://elsewhere")) as raw:
            await raw.send_frame(TEXT, b"hello")
            assert (await raw.next_frame()).payload == b"hello"


@http_implementations
@aio_test
async def test_frames_that_come_before_the_answer(http: str) -> None:
    answer = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await answer.wait()
        await send(ACCEPT)
        event = await receive()
        await send({**event, "type": "websocket.send"})

    async with serving(application, http=http) as served:
        with await dial(served) as raw:
            await raw.send(request_to(served))
            await until(lambda: served.requests)
            await raw.send_frame(TEXT, b"early")
            await asyncio.sleep(0.05)
            answer.set()
            await raw.head()
            assert (await raw.next_frame()).payload == b"early"


@http_implementations
@pytest.mark.parametrize("ws", ["ours", "websockets-sansio", "wsproto"])
@aio_test
async def test_what_comes_in_one_piece_with_the_request_is_dropped_by_uvicorn(http: str, ws: str) -> None:
    """It hands over the request alone, whatever protocol it is: nobody below it can know of the rest."""
    events: list[Event] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        events.append(await receive())

    options: dict[str, Any] = {} if ws == "ours" else {"ws": ws}
    async with serving(application, http=http, **options) as served:
        with await dial(served) as raw:
            await raw.send(request_to(served) + raw.frame(TEXT, b"lost"))
            await raw.head()
            await asyncio.sleep(0.05)
            assert events == []
            await raw.send_frame(TEXT, b"found")
            await until(lambda: events)
            assert events[0]["text"] == "found"
        if ws == "ours":
            (request,) = served.requests
            assert request.endswith(b"\r\n\r\n")
            assert b"lost" not in request


@pytest.mark.parametrize("ws", ["ours", "websockets-sansio", "wsproto"])
@aio_test
async def test_a_request_right_behind_another_is_dropped_later_by_uvicorn(ws: str) -> None:
    """httptools' protocol forgets to stop its own clock, which ends the connection of any protocol."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body"})
        else:
            await echo(scope, receive, send)

    options: dict[str, Any] = {} if ws == "ours" else {"ws": ws}
    async with serving(application, http="httptools", timeout_keep_alive=1, **options) as served:
        with await dial(served) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + request_to(served))
            assert (await raw.head()).startswith(b"HTTP/1.1 200 ")
            assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
            await raw.send_frame(TEXT, b"hello")
            assert (await raw.next_frame()).payload == b"hello"
            assert await raw.rest() == b""
        if ws == "ours":
            assert (await served.endings.one()).cause is Cause.TRANSPORT_ERROR
        # One that was not sent before the answer to the other is not concerned.
        with await dial(served) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.head()).startswith(b"HTTP/1.1 200 ")
            await raw.send(request_to(served))
            await raw.head()
            await asyncio.sleep(1.5)
            await raw.send_frame(TEXT, b"hello")
            assert (await raw.next_frame()).payload == b"hello"


# To refuse.


@http_implementations
@aio_test
async def test_close_before_accept(http: str) -> None:
    events: list[Event] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.close", "code": 4000, "reason": "nobody hears this"})
        events.append(await receive())

    async with serving(application, http=http) as served:
        head, body = await refused(served)
        assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        assert b"server: uvicorn\r\n" in head
        assert body == b""
        ending = await served.endings.one()
        assert (ending.cause, ending.initiator) == (Cause.REJECTED, Initiator.LOCAL)
        await until(lambda: events)
        assert events == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]
        assert served.log[-1].endswith('"WebSocket /" 403')


@http_implementations
@aio_test
async def test_denial_response(http: str) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(
            {
                "type": "websocket.http.response.start",
                "status": 401,
                "headers": [
                    (b"WWW-Authenticate", b"Basic"),
                    (b"Content-Type", b"text/plain"),
                    (b"Content-Length", b"7"),
                    (b"Connection", b"keep-alive"),
                ],
            }
        )
        for piece, more in ((b"who", True), (b"", True), (b" are", False)):
            await send({"type": "websocket.http.response.body", "body": piece, "more_body": more})

    async with serving(application, http=http) as served:
        head, body = await refused(served)
        lines = head.decode().lower().split("\r\n")
        assert lines[0] == "http/1.1 401 unauthorized"
        for line in (
            "www-authenticate: basic",
            "content-type: text/plain",
            "content-length: 7",
            "connection: close",
        ):
            assert lines.count(line) == 1, line
        assert body == b"who are"
        assert served.log == [f'INFO {_client(served)} - "WebSocket /" 401']


def _client(served: Served) -> str:
    (scope,) = served.scopes
    assert scope is not None
    return "{}:{}".format(*scope["client"])


@aio_test
async def test_denial_without_a_body() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "websocket.http.response.start", "status": 307, "headers": [(b"location", b"/x")]}
        )
        await send({"type": "websocket.http.response.body"})

    async with serving(application) as served:
        head, body = await refused(served)
        assert head.startswith(b"HTTP/1.1 307 ")
        assert b"location: /x\r\n" in head
        assert body == b""


@pytest.mark.parametrize("status", [101, 199, 600, 99])
@aio_test
async def test_denial_with_a_status_that_is_none(status: int) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.http.response.start", "status": status, "headers": []})

    async with serving(application) as served:
        head, body = await refused(served)
        assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert body == b"Internal Server Error"
        assert f"Invalid HTTP status code '{status}' in response" in served.log[0]


@pytest.mark.parametrize(
    ("request_", "status", "says"),
    [
        (client_handshake_request(without=["Sec-WebSocket-Key"]), 400, b"exactly one Sec-WebSocket-Key"),
        (client_handshake_request(key="x"), 400, b"the Sec-WebSocket-Key is not base64"),
        (
            client_handshake_request(
                without=["Sec-WebSocket-Version"], headers=[("Sec-WebSocket-Version", "8")]
            ),
            426,
            b"the Sec-WebSocket-Version must be 13",
        ),
        (client_handshake_request(headers=[("Sec-WebSocket-Protocol", "a b")]), 400, b"is not a token"),
    ],
)
@http_implementations
@aio_test
async def test_requests_that_are_not_in_order(http: str, request_: bytes, status: int, says: bytes) -> None:
    called: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        called.append(scope)

    async with serving(application, http=http) as served:
        head, body = await refused(served, request_)
        assert head.startswith(b"HTTP/1.1 %d " % status)
        assert says in body
        assert not called
        assert served.scopes == [None]
        assert (await served.endings.one()).error is not None


@http_implementations
@aio_test
async def test_a_request_whose_body_never_comes(http: str) -> None:
    """uvicorn hands it over without the body, of which nobody hears any more."""
    async with serving(echo, http=http, timeouts=Timeouts(open=0.3)) as served:
        head, _ = await refused(served, client_handshake_request(headers=[("Content-Length", "5")]))
        assert head.startswith(b"HTTP/1.1 408 ")
        assert (await served.endings.one()).cause is Cause.OPEN_TIMEOUT


@aio_test
async def test_an_application_may_take_its_time() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.4)
        await echo(scope, receive, send)

    async with serving(application, timeouts=Timeouts(open=0.1)) as served:
        with await open_raw(served) as raw:
            await raw.send_frame(TEXT, b"hello")
            assert (await raw.next_frame()).payload == b"hello"


# Messages.


@http_implementations
@aio_test
async def test_messages(http: str) -> None:
    application = Told()
    async with serving(application, http=http) as served:
        with await open_raw(served) as raw:
            await application.is_open.wait()
            await raw.send_frame(TEXT, "grüße".encode())
            await raw.send_frame(BINARY, b"\x00\xff")
            await raw.send(raw.frame(TEXT, b"in ", fin=False) + raw.frame(0, b"two"))
            await raw.send_frame(TEXT, b"")
            await raw.send_frame(BINARY, b"")
            await until(lambda: len(application.events) == 6)
            assert application.events[1:] == [
                {"type": "websocket.receive", "text": "grüße"},
                {"type": "websocket.receive", "bytes": b"\x00\xff"},
                {"type": "websocket.receive", "text": "in two"},
                {"type": "websocket.receive", "text": ""},
                {"type": "websocket.receive", "bytes": b""},
            ]
            for message, opcode, payload in (
                ({"text": "grüße"}, TEXT, "grüße".encode()),
                ({"text": "grüße", "bytes": None}, TEXT, "grüße".encode()),
                ({"bytes": b"\x00\xff"}, BINARY, b"\x00\xff"),
                ({"bytes": b"\x00\xff", "text": None}, BINARY, b"\x00\xff"),
                ({"bytes": bytearray(b"array")}, BINARY, b"array"),
                ({"bytes": memoryview(b"view")}, BINARY, b"view"),
                ({"text": ""}, TEXT, b""),
                ({"bytes": b""}, BINARY, b""),
                ({"text": "x" * 100_000}, TEXT, b"x" * 100_000),
            ):
                await application.send({"type": "websocket.send", **message})
                frame = await raw.next_frame()
                assert (frame.opcode, frame.payload) == (opcode, payload)
        await application.over.wait()


@aio_test
async def test_many_messages_in_one_piece() -> None:
    async with serving(echo) as served:
        with await open_raw(served) as raw:
            texts = [b"%d" % number for number in range(1000)]
            await raw.send(b"".join(raw.frame(TEXT, text) for text in texts))
            assert [(await raw.next_frame()).payload for _ in texts] == texts


@aio_test
async def test_many_senders_send_whole_messages_in_order() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)

        async def sender(name: int) -> None:
            for number in range(50):
                await send({"type": "websocket.send", "text": f"{name} {number}"})

        async with asyncio.TaskGroup() as group:
            for name in range(10):
                group.create_task(sender(name))

    async with serving(application) as served:
        with await open_raw(served) as raw:
            found = [(await raw.next_frame()).payload.decode().split() for _ in range(500)]
            for name in range(10):
                assert [int(number) for who, number in found if who == str(name)] == list(range(50))


@aio_test
async def test_a_task_can_be_made_of_send_and_of_receive() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.create_task(receive())
        await asyncio.create_task(send(ACCEPT))
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0.01)
        waiting.cancel()
        event = await asyncio.create_task(receive())
        await asyncio.create_task(send({**event, "type": "websocket.send"}))

    async with serving(application) as served:
        with await open_raw(served) as raw:
            await asyncio.sleep(0.05)
            await raw.send_frame(TEXT, b"hello")
            assert (await raw.next_frame()).payload == b"hello"


@aio_test
async def test_two_receivers_at_a_time() -> None:
    raised: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        first = asyncio.create_task(receive(), name="the first")
        await asyncio.sleep(0)
        try:
            await receive()
        except RuntimeError as exc:
            raised.append(str(exc))
        await send({**(await first), "type": "websocket.send"})

    async with serving(application) as served:
        with await open_raw(served) as raw:
            await until(lambda: raised)
            await raw.send_frame(TEXT, b"hello")
            assert (await raw.next_frame()).payload == b"hello"
    assert "already waiting in the first" in raised[0]


# What an application must not say.


SENT = {"type": "websocket.send", "text": "x"}
START = {"type": "websocket.http.response.start", "status": 400, "headers": []}
BODY = {"type": "websocket.http.response.body", "body": b"x"}


@pytest.mark.parametrize(
    ("before", "wrong", "says"),
    [
        ([], SENT, "Expected ASGI message 'websocket.accept', 'websocket.close' or"),
        ([], BODY, "but got 'websocket.http.response.body'"),
        ([], {"type": "http.response.start"}, "but got 'http.response.start'"),
        (
            [],
            {**START, "headers": [(b"a b", b"")]},
            "'websocket.http.response.start' cannot be sent: header name",
        ),
        ([START], SENT, "Expected ASGI message 'websocket.http.response.body', but got 'websocket.send'"),
        ([START], ACCEPT, "but got 'websocket.accept'"),
        ([START, BODY], BODY, "Unexpected ASGI message 'websocket.http.response.body', after"),
        ([{"type": "websocket.close"}], ACCEPT, "Unexpected ASGI message 'websocket.accept', after"),
        (
            [ACCEPT],
            ACCEPT,
            "Expected ASGI message 'websocket.send' or 'websocket.close', but got 'websocket.accept'",
        ),
        ([ACCEPT], START, "but got 'websocket.http.response.start'"),
        (
            [ACCEPT, {"type": "websocket.close"}],
            SENT,
            "Unexpected ASGI message 'websocket.send', after sending",
        ),
        ([ACCEPT, {"type": "websocket.close"}], {"type": "websocket.close"}, "Unexpected ASGI message"),
        ([ACCEPT], {"type": "websocket.send"}, "needs either 'text', a str, or 'bytes'"),
        ([ACCEPT], {**SENT, "text": b"x"}, "got text of bytes and bytes of NoneType"),
        ([ACCEPT], {**SENT, "bytes": b"x"}, "got text of str and bytes of bytes"),
        ([ACCEPT], {"type": "websocket.send", "bytes": "x"}, "got text of NoneType and bytes of str"),
        (
            [ACCEPT],
            {**SENT, "text": "\ud800"},
            "'websocket.send' cannot be sent: text that UTF-8 cannot carry",
        ),
        ([ACCEPT], {"type": "websocket.close", "code": 1006}, "'websocket.close' cannot be sent"),
        ([ACCEPT], {"type": "websocket.close", "reason": "x" * 124}, "'websocket.close' cannot be sent"),
    ],
)
@aio_test
async def test_wrong_messages(before: list[Event], wrong: Event, says: str) -> None:
    raised: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for message in before:
            await send(message)
        try:
            await send(wrong)
        except RuntimeError as exc:
            raised.append(str(exc))

    async with serving(application) as served:
        with await dial(served) as raw:
            await raw.send(request_to(served))
            await until(lambda: raised)
    assert says in raised[0], raised


# The end.


@http_implementations
@aio_test
async def test_the_peer_closes(http: str) -> None:
    application = Told()
    async with serving(application, http=http) as served:
        with await open_raw(served) as raw:
            await raw.send_frame(TEXT, b"last words")
            await raw.send_close(4001, b"theirs")
            assert (await raw.next_frame()).payload == (4001).to_bytes(2, "big")
            assert await raw.rest() == b""
            await application.over.wait()
        assert application.events[1:] == [
            {"type": "websocket.receive", "text": "last words"},
            {"type": "websocket.disconnect", "code": 4001, "reason": "theirs"},
        ]
        ending = await served.endings.one()
        assert application.scope["extensions"]["wsframe"]["ending"] is ending
        assert (ending.cause, ending.initiator) == (Cause.CLOSE_HANDSHAKE, Initiator.REMOTE)
        assert ending.clean
        # It stays so.
        assert await application.receive() == application.events[-1]
        with pytest.raises(OSError, match="4001") as caught:
            await application.send(SENT)
        assert type(caught.value) is uvicorn.protocols.utils.ClientDisconnected
        # That is what it has been.
        await application.send({"type": "websocket.close"})


@aio_test
async def test_the_peer_closes_without_a_code() -> None:
    application = Told()
    async with serving(application) as served:
        with await open_raw(served) as raw:
            await raw.send_close(None)
            await raw.rest()
        await application.over.wait()
        assert application.events[-1] == {"type": "websocket.disconnect", "code": 1005, "reason": ""}


@http_implementations
@pytest.mark.parametrize(("how", "cause"), [("shutdown", Cause.EOF), ("reset", Cause.RESET)])
@aio_test
async def test_the_peer_goes_without_a_word(http: str, how: str, cause: Cause) -> None:
    application = Told()
    async with serving(application, http=http) as served:
        with await open_raw(served) as raw:
            await application.is_open.wait()
            getattr(raw, how)()
            await application.over.wait()
        assert application.events[-1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        assert application.scope["extensions"]["wsframe"]["ending"].cause is cause


@http_implementations
@aio_test
async def test_the_peer_goes_before_it_is_accepted(http: str) -> None:
    events: list[Event] = []
    raised: list[OSError] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        events.append(await receive())
        events.append(await receive())
        for message in (ACCEPT, START):
            try:
                await send(message)
            except OSError as exc:
                raised.append(exc)
        await send({"type": "websocket.close"})

    async with serving(application, http=http) as served:
        with await dial(served) as raw:
            await raw.send(request_to(served))
            await until(lambda: events)
            raw.shutdown()
            await until(lambda: len(raised) == 2)
        assert events[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        assert (await served.endings.one()).cause is Cause.EOF
        assert served.log == []


@http_implementations
@aio_test
async def test_the_application_closes(http: str) -> None:
    events: list[Event] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", "code": 4000, "reason": "ours"})
        events.append(await receive())

    async with serving(application, http=http) as served:
        with await open_raw(served) as raw:
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, (4000).to_bytes(2, "big") + b"ours")
            # The peer's own is what the application hears of.
            await raw.send_close(4001, b"theirs")
            assert await raw.rest() == b""
            await until(lambda: events)
        assert events == [{"type": "websocket.disconnect", "code": 4001, "reason": "theirs"}]
        assert (await served.endings.one()).initiator is Initiator.LOCAL


@pytest.mark.parametrize(
    ("close", "payload"),
    [
        ({}, b"\x03\xe8"),
        ({"code": None, "reason": None}, b"\x03\xe8"),
        ({"code": 3000, "reason": "grüße"}, b"\x0b\xb8" + "grüße".encode()),
    ],
)
@aio_test
async def test_what_a_close_says(close: Event, payload: bytes) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.close", **close})

    async with serving(application) as served:
        with await open_raw(served) as raw:
            assert (await raw.next_frame()).payload == payload


@aio_test
async def test_send_tells_how_it_ended() -> None:
    raised: list[OSError] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        try:
            while True:
                await send(SENT)
                await asyncio.sleep(0.001)
        except OSError as exc:
            raised.append(exc)
            assert scope["extensions"]["wsframe"]["ending"] is not None
            raise

    async with serving(application) as served:
        with await open_raw(served) as raw:
            raw.reset()
            await until(lambda: raised)
        ending = await served.endings.one()
        assert str(raised[0]) == str(ending)
        await until(lambda: not served.server.server_state.tasks)
        # That it lets that pass is no failure.
        assert [line for line in served.log if not line.startswith("INFO ")] == []


# How the application ends.


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("the application fails")


async def raises_afterwards(scope: Scope, receive: Receive, send: Send) -> None:
    await send(ACCEPT)
    raise ValueError("the application fails")


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def returns_within_a_response(scope: Scope, receive: Receive, send: Send) -> None:
    await send(START)


@pytest.mark.parametrize(
    ("application", "log"),
    [
        (raises, "ERROR Exception in ASGI application: ValueError('the application fails')"),
        (returns, "ERROR ASGI callable returned without completing handshake."),
        (returns_within_a_response, "ERROR ASGI callable returned without completing response."),
    ],
)
@http_implementations
@aio_test
async def test_an_application_that_does_not_answer(application: Any, log: str, http: str) -> None:
    async with serving(application, http=http) as served:
        head, body = await refused(served)
        assert head.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert body == b"Internal Server Error"
        assert log in served.log
        assert (await served.endings.one()).cause is Cause.REJECTED


@aio_test
async def test_an_application_that_fails_when_it_is_open() -> None:
    async with serving(raises_afterwards) as served:
        with await open_raw(served) as raw:
            assert (await raw.next_frame()).payload == (1011).to_bytes(2, "big")
            await raw.send_close(1011)
            await raw.rest()
        assert "ERROR Exception in ASGI application: ValueError('the application fails')" in served.log


@aio_test
async def test_an_application_that_returns_closes() -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> str:
        await receive()
        await send(ACCEPT)
        return "done"

    async with serving(application) as served:
        with await open_raw(served) as raw:
            assert (await raw.next_frame()).payload == (1000).to_bytes(2, "big")
            await raw.send_close(1000)
            await raw.rest()
        assert "ERROR ASGI callable should return None, but returned 'done'." in served.log


@pytest.mark.parametrize("accepted", [True, False])
@aio_test
async def test_an_application_that_is_cancelled(accepted: bool) -> None:
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if accepted:
            await send(ACCEPT)
        await receive()

    async with serving(application) as served:
        with await dial(served) as raw:
            await raw.send(request_to(served))
            if accepted:
                await raw.head()
            await until(lambda: served.server.server_state.tasks)
            await asyncio.sleep(0.01)
            (task,) = served.server.server_state.tasks
            task.cancel()
            if accepted:
                assert (await raw.next_frame()).payload == (1001).to_bytes(2, "big")
            else:
                assert (await raw.head()).startswith(b"HTTP/1.1 503 ")
        assert [line for line in served.log if "ERROR" in line] == []


@http_implementations
@aio_test
async def test_nothing_is_left_for_the_garbage_collector(http: str) -> None:
    application = Told()
    async with serving(application, http=http) as served:
        with await open_raw(served) as raw:
            await application.is_open.wait()
            (connection,) = served.connections
            protocol = weakref.ref(connection)
            del connection
            gc.disable()
            try:
                await raw.send_close(1000)
                await raw.rest()
                await application.over.wait()
                application.scope, application.send, application.receive = {}, None, None  # type: ignore[assignment]
                await until(lambda: not served.server.server_state.tasks)
                await asyncio.sleep(0.01)
                assert protocol() is None
            finally:
                gc.enable()


# What is logged.


@http_implementations
@aio_test
async def test_log(http: str) -> None:
    async with serving(echo, http=http) as served:
        with await dial(served) as raw:
            await raw.send(client_handshake_request("/chat%20room?x=1"))
            await raw.head()
            await raw.send_close(1000)
            await raw.rest()
        await served.endings.one()
        assert served.log == [
            f'INFO {_client(served)} - "WebSocket /chat%20room?x=1" [accepted]',
            "INFO connection open",
            "INFO connection closed",
        ]


@aio_test
async def test_on_end_that_raises() -> None:
    async with serving(echo) as served:
        # The list that the protocol of the tests appends to.
        served.endings.append = None  # type: ignore[method-assign,assignment]
        with expect_log("on_end raised an exception"), await open_raw(served) as raw:
            await raw.send_close(1000)
            await raw.rest()
            await until(lambda: not served.connections)
