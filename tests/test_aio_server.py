"""The asyncio server: opening, handlers, its end; with peers that are bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import struct
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest

import wsframe
from aiohelpers import (
    Endings,
    aio_test,
    dial,
    echo,
    expect_log,
    open_raw,
    port_of,
    until,
    uri_of,
)
from framebuilder import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    build,
    client_handshake_request,
    close_payload,
    parse_all,
)
from wsframe import Cause, Disconnected, Initiator, LocalProtocolError, Request, Response, State
from wsframe.aio import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    HandshakeRejected,
    Server,
    WebSocket,
    connect,
    serve,
)


@pytest.fixture
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers get less time to end than a second."""
    monkeypatch.setattr("wsframe.aio._server._HANDLER_GRACE", 0.1)


@contextlib.asynccontextmanager
async def serving(handler: Any = echo, **options: Any) -> AsyncIterator[tuple[Server, Endings]]:
    endings = Endings()
    async with serve(handler, "127.0.0.1", 0, on_end=endings, **options) as server:
        yield server, endings


# Opening.


@aio_test
async def test_text_and_binary_come_back_as_what_they_are() -> None:
    async with serving() as (server, endings):
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, "héllo".encode())
            await raw.send_frame(BINARY, b"\x00\xff")
            await raw.send_frame(TEXT)
            assert [(await raw.next_frame()).payload for _ in range(3)] == [
                "héllo".encode(),
                b"\x00\xff",
                b"",
            ]
            await raw.send_close(1000, b"bye")
            assert parse_all(await raw.rest())[-1].payload == close_payload(1000)
        ending = await endings.one()
        assert (ending.cause, ending.clean, ending.code, ending.reason) == (
            Cause.CLOSE_HANDSHAKE,
            True,
            1000,
            "bye",
        )
        assert ending.initiator is Initiator.REMOTE


@aio_test
async def test_a_thousand_messages_in_one_chunk_come_back_in_order() -> None:
    async with serving() as (server, _), contextlib.AsyncExitStack() as stack:
        raw = stack.enter_context(await open_raw(server))
        await raw.send(b"".join(raw.frame(TEXT, b"%d" % number) for number in range(1000)))
        assert [(await raw.next_frame()).payload for _ in range(1000)] == [b"%d" % n for n in range(1000)]
        await raw.send_close()
        await raw.rest()


@aio_test
async def test_messages_in_the_same_chunk_as_the_request_are_not_lost() -> None:
    async with serving() as (server, _):
        with await open_raw(server, then=build(TEXT, b"early", mask=b"1234")) as raw:
            assert (await raw.next_frame()).payload == b"early"
            await raw.send_close()
            await raw.rest()


@aio_test
async def test_the_handler_sees_the_request() -> None:
    seen: list[WebSocket] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(ws)
        assert ws.request.headers["User-Agent"].startswith("wsframe/")
        await ws.send(ws.request.target)
        await ws.wait_closed()

    async with serving(handler, subprotocols=["chat"]) as (server, _):
        async with connect(uri_of(server) + "a?b=c", subprotocols=["other", "chat"]) as ws:
            assert await ws.recv() == "/a?b=c"
            assert ws.subprotocol == "chat"
            assert ws.response is not None
            assert ws.response.status == 101
            assert ws.state.name == "OPEN"
            assert ws.local_address[0] == ws.remote_address[0] == "127.0.0.1"
            assert (ws.close_code, ws.close_reason) == (None, None)
            assert seen[0].remote_address == ws.local_address
        assert (ws.close_code, ws.close_reason) == (1000, "")
        assert ws.state.name == "CLOSED"
        assert seen[0].response is None


@pytest.mark.parametrize(
    ("sent", "status", "cause"),
    [
        (client_handshake_request(without=["Upgrade"]), 426, Cause.PLAIN_HTTP),
        (client_handshake_request(key="short"), 400, Cause.REJECTED),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400, Cause.NOT_HTTP),
        (client_handshake_request(headers=[("Origin", "https://elsewhere.example")]), 403, Cause.REJECTED),
    ],
    ids=["plain HTTP", "bad key", "TLS", "origin"],
)
@aio_test
async def test_what_is_refused_is_answered_and_read_to_its_end(
    sent: bytes, status: int, cause: Cause
) -> None:
    async with serving() as (server, endings):
        with await dial(server) as raw:
            # What follows, however much, must not turn the answer into a reset.
            await raw.send(sent + bytes(100_000))
            answer = await raw.rest()
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            await raw.send(bytes(100_000))
            raw.shutdown()
            ending = await endings.one()
        assert (ending.cause, ending.was_websocket) == (cause, False)


@aio_test
async def test_connect_and_drop() -> None:
    async with serving() as (server, endings):
        (await dial(server)).close()
        ending = await endings.one()
        assert (ending.cause, ending.phase, ending.was_websocket) == (Cause.EOF, State.CONNECTING, False)
        endings.clear()
        (await dial(server)).reset()
        assert (await endings.one()).cause in (Cause.RESET, Cause.TRANSPORT_ERROR)


@aio_test
async def test_the_address_of_a_peer_that_is_gone_before_it_is_accepted() -> None:
    addresses: list[Any] = []
    async with serve(echo, "127.0.0.1", 0, on_end=lambda _, address, __: addresses.append(address)) as server:
        # The event loop does not run meanwhile.
        with socket.create_connection(("127.0.0.1", port_of(server))) as sock:
            here = sock.getsockname()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await until(lambda: addresses)
    # uvloop's own transports ask the socket, which does not know any more.
    assert addresses == [here] or (addresses == [None] and os.environ.get("WSFRAME_LOOP_TRANSPORTS") == "1")


@aio_test
async def test_a_request_that_never_ends_is_answered_408() -> None:
    async with serving(open_timeout=0.2) as (server, endings):
        with await dial(server) as raw:
            await raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
            assert (await raw.rest()).startswith(b"HTTP/1.1 408 ")
        assert (await endings.one()).cause is Cause.OPEN_TIMEOUT


# on_request.


@aio_test
async def test_on_request_answers_plain_http() -> None:
    def on_request(request: Request) -> Response | None:
        return Response(200, body=b"fine\n") if request.target == "/health" else None

    async with serving(on_request=on_request) as (server, endings):
        with await dial(server) as raw:
            await raw.send(b"GET /health HTTP/1.0\r\n\r\n")
            answer = await raw.rest()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"\r\n\r\nfine\n")
        assert (await endings.one()).cause is Cause.PLAIN_HTTP
        async with connect(uri_of(server)) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"


@aio_test
async def test_on_request_may_be_a_coroutine_function_and_refuse() -> None:
    async def on_request(request: Request) -> Response | None:
        await asyncio.sleep(0.01)
        return Response(401, body=b"who are you?") if "Authorization" not in request.headers else None

    async with serving(on_request=on_request) as (server, _):
        with pytest.raises(HandshakeRejected) as caught:
            await connect(uri_of(server))
        assert (caught.value.status, caught.value.body) == (401, b"who are you?")
        assert caught.value.ending.initiator is Initiator.REMOTE
        async with connect(uri_of(server), headers=[("Authorization", "me")]) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"


async def _fail_later(request: Request) -> Response | None:
    await asyncio.sleep(0)
    raise ZeroDivisionError


def _fail(request: Request) -> Response | None:
    raise ZeroDivisionError


def _nonsense(request: Request) -> Any:
    return "no response"


def _forbidden_header(request: Request) -> Response:
    return Response(200, headers=[("Connection", "keep-alive")])


async def _forbidden_status(request: Request) -> Response:
    return Response(101)


@pytest.mark.parametrize("on_request", [_fail, _fail_later, _nonsense, _forbidden_header, _forbidden_status])
@aio_test
async def test_a_failing_on_request_is_a_500_and_one_line_in_the_log(on_request: Any) -> None:
    async with serving(on_request=on_request) as (server, endings):
        with expect_log("on_request|could not be handled"):
            with pytest.raises(HandshakeRejected) as caught:
                await connect(uri_of(server))
            assert caught.value.status == 500
            assert (await endings.one()).cause is Cause.REJECTED


@aio_test
async def test_a_failing_choice_of_subprotocol_is_a_500() -> None:
    def choose(request: Request, offered: Any) -> str | None:
        raise ZeroDivisionError

    async with serving(subprotocols=choose) as (server, endings):
        with expect_log("code failed in an opening handshake"):
            with pytest.raises(HandshakeRejected) as caught:
                await connect(uri_of(server), subprotocols=["chat"])
            assert caught.value.status == 500
            await endings.one()


@aio_test
async def test_a_failing_on_end_is_one_line_in_the_log() -> None:
    def on_end(request: Any, address: Any, ending: Disconnected) -> None:
        raise ZeroDivisionError

    with expect_log("on_end raised"):
        async with serve(echo, "127.0.0.1", 0, on_end=on_end) as server, connect(uri_of(server)) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"


@aio_test
async def test_a_peer_that_leaves_while_on_request_thinks() -> None:
    go_on = asyncio.Event()

    async def on_request(request: Request) -> None:
        await go_on.wait()

    async with serving(on_request=on_request) as (server, endings):
        with await dial(server) as raw:
            await raw.send(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
            await asyncio.sleep(0.05)
        ending = await endings.one()
        assert (ending.cause, ending.phase) == (Cause.EOF, State.HANDSHAKE)
        go_on.set()


# Handlers.


@aio_test
async def test_a_handler_that_returns_closes_with_1000() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send("done")

    async with serving(handler) as (server, endings):
        with await open_raw(server) as raw:
            assert (await raw.next_frame()).payload == b"done"
            assert (await raw.next_frame()).payload == close_payload(1000)
            await raw.send_close()
            assert await raw.rest() == b""
        ending = await endings.one()
        assert (ending.clean, ending.initiator, ending.code) == (True, Initiator.LOCAL, 1000)


@aio_test
async def test_a_handler_that_raises_closes_with_1011_and_is_logged_once() -> None:
    async def handler(ws: WebSocket) -> None:
        raise ZeroDivisionError

    async with serving(handler) as (server, endings):
        with await open_raw(server) as raw, expect_log("handler raised"):
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload[:2]) == (CLOSE, close_payload(1011))
            await raw.send_close(1011)
            assert await raw.rest() == b""
            await endings.one()


@aio_test
async def test_the_end_of_its_connection_is_no_failure_of_a_handler() -> None:
    async def plain(ws: WebSocket) -> None:
        while True:
            await ws.recv()

    async def grouped(ws: WebSocket) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(plain(ws))
            group.create_task(wait(ws))

    async def wait(ws: WebSocket) -> None:
        await ws.wait_closed()
        await ws.send("x")

    for handler in (plain, grouped):
        async with serving(handler) as (server, endings):
            (await open_raw(server)).close()
            assert (await endings.one()).cause is Cause.EOF


@aio_test
async def test_the_end_of_another_connection_may_be_a_failure_of_the_handler() -> None:
    async def proxy(ws: WebSocket) -> None:
        async with connect(upstream) as other:
            await other.close()
            await other.recv()

    async with serving() as (behind, _), serving(proxy) as (server, _):
        upstream = uri_of(behind)
        with expect_log("handler raised"):
            async with connect(uri_of(server)) as ws:
                with pytest.raises(ConnectionClosedError):
                    await ws.recv()
                assert ws.close_code == 1011


@aio_test
async def test_a_cancelled_handler_closes_with_1001() -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def handler(ws: WebSocket) -> None:
        tasks.append(asyncio.current_task())
        await asyncio.sleep(3600)

    async with serving(handler) as (server, endings):
        async with connect(uri_of(server)) as ws:
            await until(lambda: tasks)
            assert tasks[0] is not None
            tasks[0].cancel()
            with pytest.raises(ConnectionClosedOK):
                await ws.recv()
            assert ws.close_code == 1001
        assert (await endings.one()).clean


@aio_test
async def test_an_idle_websocket_keeps_nothing_that_it_does_not_use() -> None:
    opened: list[Any] = []

    async def handler(ws: Any) -> None:
        ws.name = "its user's"
        opened.append(ws)
        await ws.recv()

    async with serving(handler) as (server, endings):
        with await open_raw(server) as raw:
            await until(lambda: opened)
            (ws,), (owner,) = opened, server._serving.registry.records
            for holder in (owner, ws, ws._channel, ws._queue, ws._connection):
                for held in gc.get_referents(holder):
                    # (The task that waits is a future, too.)
                    assert type(held) not in (
                        wsframe.Server,
                        asyncio.Future,
                        asyncio.Lock,
                        list,
                        bytearray,
                    ), holder
                    assert not isinstance(held, dict) or held == {"name": "its user's"}, holder
            assert ws.request.headers["Upgrade"] == "websocket"
            await raw.send_frame(TEXT, b"x")
            await raw.next_frame()
            await raw.send_close()
        await endings.one()


@aio_test
async def test_an_ended_websocket_needs_no_garbage_collector() -> None:
    kept: list[weakref.ref[Any]] = []

    async def handler(ws: WebSocket) -> None:
        kept.append(weakref.ref(ws))
        kept.append(weakref.ref(ws._channel))
        async for message in ws:
            await ws.send(message)

    async with serving(handler) as (server, _):
        gc.disable()
        try:
            with await open_raw(server) as raw:
                await raw.send_frame(TEXT, b"x")
                await raw.next_frame()
                await raw.send_close()
                await raw.rest()
            await until(lambda: not server._serving._tasks)
            await asyncio.sleep(0.01)
            assert [reference() for reference in kept] == [None, None]
        finally:
            gc.enable()


# Closing the server.


@aio_test
async def test_closing_the_server_ends_everything_and_counts(little_grace: None) -> None:
    on_request_cancelled: list[bool] = []

    async def on_request(request: Request) -> Response | None:
        if request.target == "/slow":
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                on_request_cancelled.append(True)
                raise
        return None

    async with (
        serving(on_request=on_request, close_timeout=0.5) as (server, endings),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await connect(uri_of(server)) for _ in range(3)]
        idle = stack.enter_context(await dial(server))
        waiting = stack.enter_context(await dial(server))
        await waiting.send(client_handshake_request("/slow", host=f"127.0.0.1:{port_of(server)}"))
        await until(lambda: len(server._serving.registry.records) == 5)
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(server.close(reason="maintenance"))
        for ws in clients:
            with pytest.raises(ConnectionClosedOK):
                await ws.recv()
            assert (ws.close_code, ws.close_reason) == (1001, "maintenance")
        for raw in (idle, waiting):
            assert (await raw.rest()).startswith(b"HTTP/1.1 503 ")
            raw.close()
        assert server.is_closing
        counts = await closing
        assert counts == {Cause.CLOSE_HANDSHAKE: 3, Cause.REJECTED: 2}
        assert await server.close() == counts
        await server.wait_closed()
        assert on_request_cancelled == [True]
        assert len(endings) == 5
        assert server.sockets == ()


@aio_test
async def test_closing_waits_for_handlers_and_cancels_the_late_ones(little_grace: None) -> None:
    log: list[str] = []

    async def handler(ws: WebSocket) -> None:
        try:
            await ws.wait_closed()
            await asyncio.sleep(0.05)
            log.append("tidy")
            if ws.request.target == "/late":
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise

    async with (
        serving(handler, close_timeout=0.3) as (server, _),
        connect(uri_of(server)),
        connect(uri_of(server) + "late"),
    ):
        await server.close(1012)
        assert log == ["tidy", "tidy", "cancelled"]


@aio_test
async def test_a_handler_that_ignores_its_cancellation_does_not_stop_the_end(little_grace: None) -> None:
    free = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        while not free.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await free.wait()

    with expect_log("does not end", traceback=False):
        async with serving(handler, close_timeout=0.2) as (server, _), connect(uri_of(server)):
            await server.close()
        free.set()


@aio_test
async def test_a_handler_may_close_the_server() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.recv()
        counts.append(await server.close())

    counts: list[Any] = []
    async with serving(handler) as (server, _), connect(uri_of(server)) as ws:
        await ws.send("stop")
        async with asyncio.timeout(5):
            await server.wait_closed()
            await until(lambda: counts)
    assert counts == [{Cause.CLOSE_HANDSHAKE: 1}]


@aio_test
async def test_mute_peers_do_not_hold_the_server_up() -> None:
    async with serving(close_timeout=0.2) as (server, endings):
        with await open_raw(server) as raw:
            counts = await server.close()
            assert counts == {Cause.CLOSE_TIMEOUT: 1}
            assert (await endings.one()).initiator is Initiator.LOCAL
            assert (await raw.next_frame()).payload == close_payload(1001)


@aio_test
async def test_connections_that_are_accepted_while_closing_are_refused() -> None:
    async with serving() as (server, endings):
        raws = [await dial(server) for _ in range(3)]
        # The system has accepted them; asyncio may not have seen them yet.
        closing = asyncio.create_task(server.close())
        for raw in raws:
            with raw, contextlib.suppress(ConnectionError):
                answer = await raw.rest()
                assert answer == b"" or answer.startswith(b"HTTP/1.1 503 ")
        counts = await closing
        assert sum(counts.values()) == len(endings)
        assert counts.keys() <= {Cause.REJECTED}


@aio_test
async def test_a_code_that_may_not_be_sent_is_refused_with_and_without_connections() -> None:
    async with serving() as (server, _):
        with pytest.raises(LocalProtocolError):
            await server.close(1006)
        assert not server.is_closing
        async with connect(uri_of(server)) as ws:
            with pytest.raises(LocalProtocolError):
                await server.close(1001, "x" * 124)
            await ws.send("still there")
            assert await ws.recv() == "still there"


@aio_test
async def test_serve_forever_ends_with_close_and_closes_when_cancelled() -> None:
    async with serving() as (server, _):
        forever = asyncio.create_task(server.serve_forever())
        await asyncio.sleep(0)
        await server.close()
        await forever
    async with serving() as (server, _):
        forever = asyncio.create_task(server.serve_forever())
        async with connect(uri_of(server)) as ws:
            forever.cancel()
            with pytest.raises(ConnectionClosed):
                await ws.recv()
            with pytest.raises(asyncio.CancelledError):
                await forever
        assert server.is_closing


# Arguments.


@aio_test
async def test_a_listening_socket_can_be_given() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    server = await serve(echo, sock=sock)
    async with server, connect(uri_of(server)) as ws:
        await ws.send("x")
        assert await ws.recv() == "x"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"no_such_option": 1}, TypeError),
        ({"compression": "yes"}, TypeError),
        ({"limits": 5}, TypeError),
        ({"max_message_size": 0}, ValueError),
        ({"open_timeout": None}, ValueError),
        ({"close_timeout": 100_000}, ValueError),
        ({"ping_interval": -1}, ValueError),
        ({"subprotocols": ["a b"]}, LocalProtocolError),
    ],
    ids=lambda value: str(value),
)
def test_wrong_arguments_are_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        serve(echo, "127.0.0.1", 0, **options)


@aio_test
async def test_a_port_that_is_taken() -> None:
    async with serving() as (server, _):
        with pytest.raises(OSError, match=str(port_of(server))):
            await serve(echo, "127.0.0.1", port_of(server))


# Pings.


@aio_test
async def test_pings_are_answered_in_order_and_more_than_one_turn_takes() -> None:
    async with serving() as (server, _):
        with await open_raw(server) as raw:
            payloads = [b"%d" % number for number in range(300)]
            await raw.send(
                b"".join(raw.frame(PING, payload) for payload in payloads) + raw.frame(TEXT, b"after")
            )
            frames = [await raw.next_frame() for _ in range(301)]
            assert [frame.payload for frame in frames] == [*payloads, b"after"]
            assert {frame.opcode for frame in frames[:300]} == {PONG}
            await raw.send_close()
            await raw.rest()


@aio_test
async def test_a_ping_gives_its_round_trip_time() -> None:
    async with serving() as (server, _), connect(uri_of(server)) as ws:
        assert not ws.latency
        first = await ws.ping()
        second = await ws.ping(b"hello")
        assert await second >= 0
        assert await first >= 0
        assert isinstance(ws.latency, float)
        with pytest.raises(LocalProtocolError):
            await ws.ping(b"x" * 126)


@aio_test
async def test_a_ping_that_nobody_waits_for_is_no_news_when_the_connection_ends() -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.ping()
        kept.append(await ws.ping())
        await ws.wait_closed()

    kept: list[Any] = []
    async with serving(handler) as (server, endings):
        (await open_raw(server)).close()
        await endings.one()
        with pytest.raises(ConnectionClosedError):
            await kept.pop()
