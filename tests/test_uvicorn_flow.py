"""`wsframe.integrations.uvicorn`: uvicorn's settings, flow control in both directions, TLS, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from adapterhelpers import authority, request_to
from aiohelpers import aio_test, client_context, dial, open_raw, until
from framebuilder import BINARY, CLOSE, PING, TEXT
from uvicornhelpers import Event, Receive, Scope, Send, http_implementations, serving
from wsframe import Cause, Limits, Timeouts
from wsframe.aio import connect
from wsframe.integrations.uvicorn import WebSocketProtocol

ACCEPT = {"type": "websocket.accept"}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def waits(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    await receive()


async def waits_for_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    await until(lambda: scope["extensions"]["wsframe"]["ending"])


# Settings.


@aio_test
async def test_ws_max_size() -> None:
    async with serving(echo, ws_max_size=1000, ws_per_message_deflate=False) as served:
        with await open_raw(served) as raw:
            await raw.send_frame(BINARY, bytes(1000))
            assert len((await raw.next_frame()).payload) == 1000
            await raw.send_frame(BINARY, bytes(1001))
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload[:2]) == (CLOSE, (1009).to_bytes(2, "big"))
        assert (await served.endings.one()).cause is Cause.TOO_BIG


@aio_test
async def test_ws_max_size_is_that_of_uvicorn() -> None:
    async with serving(echo, ws_per_message_deflate=False) as served, connect(served.uri) as ws:
        await ws.send(bytes(16 << 20))
        assert len(await ws.recv()) == 16 << 20


@pytest.mark.parametrize("wanted", [True, False])
@aio_test
async def test_ws_per_message_deflate(wanted: bool) -> None:
    async with serving(echo, ws_per_message_deflate=wanted) as served:
        with await dial(served) as raw:
            await raw.send(request_to(served, ("Sec-WebSocket-Extensions", "permessage-deflate")))
            assert (b"permessage-deflate" in await raw.head()) is wanted
        async with connect(served.uri, compression=True) as ws:
            await ws.send("many words " * 1000)
            assert await ws.recv() == "many words " * 1000


@aio_test
async def test_ws_ping_interval_and_timeout() -> None:
    async with serving(waits, ws_ping_interval=0.2, ws_ping_timeout=0.2) as served:
        with await open_raw(served) as raw:
            assert (await raw.next_frame()).opcode == PING
            assert (await served.endings.one()).cause is Cause.PING_TIMEOUT


@pytest.mark.parametrize("never", [None, 0, 100_000.0])
@aio_test
async def test_ws_ping_interval_can_be_never(never: float | None) -> None:
    async with serving(waits, ws_ping_interval=never, ws_ping_timeout=never) as served:
        with await open_raw(served):
            await until(lambda: served.connections)
            timeouts = served.connections[0].endpoint.timeouts
            assert timeouts.ping_interval is timeouts.ping_timeout is None


@aio_test
async def test_what_uvicorn_has_no_word_for() -> None:
    async with serving(waits, timeouts=Timeouts(idle=0.2), limits=Limits(max_fragments=2)) as served:
        with await open_raw(served) as raw:
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload[:2]) == (CLOSE, (1001).to_bytes(2, "big"))
            await raw.send_close(1001)
            await raw.rest()
        assert (await served.endings.one()).cause is Cause.IDLE_TIMEOUT
        with await open_raw(served) as raw:
            await raw.send(raw.frame(TEXT, b"", fin=False) + 2 * raw.frame(0, b"", fin=False))
            assert (await raw.next_frame()).payload[:2] == (1009).to_bytes(2, "big")


# Flow.


@aio_test
async def test_send_waits_while_the_peer_does_not_read() -> None:
    sent = 0

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await receive()
        await send(ACCEPT)
        for _ in range(1000):
            await send({"type": "websocket.send", "bytes": bytes(65536)})
            sent += 1

    async with serving(application, ws_per_message_deflate=False) as served:
        with await open_raw(served, receive_buffer=4096) as raw:
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.2)
            assert sent < 1000
            # Of what waits here, not more than one message over the high-water mark.
            (connection,) = served.connections
            assert connection.endpoint.buffered < Limits().write_high_water + 2 * 65536 + 100
            for _ in range(1000):
                assert len((await raw.next_frame()).payload) == 65536
            assert sent == 1000


@pytest.mark.parametrize("queue", [1, 4, None])
@aio_test
async def test_reading_pauses_while_the_application_does_not_receive(queue: int | None) -> None:
    """At most as many messages are kept as ``ws_max_queue`` says, or 256 KiB of them; the rest waits at the peer."""
    go_on = asyncio.Event()
    got: list[int] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await go_on.wait()
        while (event := await receive())["type"] == "websocket.receive":
            got.append(len(event["bytes"]))

    async with serving(application, ws_max_queue=queue, ws_per_message_deflate=False) as served:
        with await open_raw(served) as raw:
            sending = asyncio.create_task(raw.send(raw.frame(BINARY, bytes(50_000)) * 400))
            await until(lambda: served.connections and served.connections[0].reading_is_paused)
            await asyncio.sleep(0.1)
            assert not sending.done()
            assert got == []
            go_on.set()
            await sending
            await until(lambda: len(got) == 400)
            assert set(got) == {50_000}


@pytest.mark.parametrize(("queue", "paused_at"), [(1, 1), (4, 4), (0, None), (None, None)])
@aio_test
async def test_ws_max_queue(queue: int | None, paused_at: int | None) -> None:
    async with serving(waits_for_nothing, ws_max_queue=queue) as served:
        with await open_raw(served) as raw:
            await until(lambda: served.connections)
            (connection,) = served.connections
            traffic = connection.endpoint.traffic
            for number in range(1, 20):
                await raw.send_frame(TEXT, b"x")
                await until(lambda: traffic.messages_in == number)  # noqa: B023 - it is asked now
                assert connection.reading_is_paused is (number == paused_at)
                if number == paused_at:
                    break


@aio_test
async def test_what_was_received_is_read_before_the_end() -> None:
    go_on = asyncio.Event()
    events: list[Event] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await go_on.wait()
        while not events or events[-1]["type"] == "websocket.receive":
            events.append(await receive())

    async with serving(application) as served:
        with await open_raw(served) as raw:
            await raw.send(b"".join(raw.frame(TEXT, b"%d" % number) for number in range(5)))
            await raw.send_close(4001, b"theirs")
            await raw.rest()
        await served.endings.one()
        go_on.set()
        await until(lambda: len(events) == 6)
        assert [event["text"] for event in events[:5]] == ["0", "1", "2", "3", "4"]
        assert events[5] == {"type": "websocket.disconnect", "code": 4001, "reason": "theirs"}


# TLS.


@http_implementations
@aio_test
async def test_tls(http: str, tmp_path: Any) -> None:
    path = tmp_path / "both.pem"
    authority().issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    scopes: list[Scope] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    async with serving(application, http=http, ssl_certfile=str(path)) as served:
        uri = served.uri.replace("ws:", "wss:")
        async with connect(uri, ssl=client_context()) as ws:
            for message in ("text", b"bytes", "x" * 1_000_000):
                await ws.send(message)
                assert await ws.recv() == message
        assert scopes[0]["scheme"] == "wss"
        assert (await served.endings.one()).clean


# How the server stops.


@contextlib.asynccontextmanager
async def running(application: Any, **options: Any) -> AsyncIterator[Any]:
    """A whole server, with its main loop."""
    options = {"ws": WebSocketProtocol, "ws_ping_interval": None, **options}
    server: Any = uvicorn.Server(uvicorn.Config(application, lifespan="off", log_config=None, **options))
    sock = socket.create_server(("127.0.0.1", 0))
    server.sockets = [sock]
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started)
    try:
        yield server
    finally:
        server.should_exit = True
        await serving
        sock.close()
        await asyncio.sleep(0)


@http_implementations
@aio_test
async def test_the_server_stops(http: str) -> None:
    events: list[Event] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/slow":
            events.append(await receive())
            return
        await send(ACCEPT)
        events.append(await receive())

    async with running(application, http=http) as server:
        with await open_raw(server) as raw, await dial(server) as slow:
            await slow.send(request_to(server).replace(b"GET / ", b"GET /slow "))
            await until(lambda: len(server.server_state.tasks) == 2)
            await asyncio.sleep(0.05)
            server.should_exit = True
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, (1012).to_bytes(2, "big"))
            assert (await slow.head()).startswith(b"HTTP/1.1 503 ")
            slow.shutdown()
            await raw.send_close(1012)
            assert await raw.rest() == b""
            await until(lambda: len(events) == 2)
    assert {event["code"] for event in events} == {1006, 1012}


@aio_test
async def test_the_server_stops_and_a_peer_is_mute() -> None:
    class Impatient(WebSocketProtocol):
        timeouts = Timeouts(close=0.3)

    async with running(waits, ws=Impatient) as server:
        with await open_raw(server) as raw:
            server.should_exit = True
            assert (await raw.next_frame()).opcode == CLOSE
            # It does not answer, and is dropped.
            with contextlib.suppress(ConnectionError):
                await raw.rest()
            await until(lambda: not server.server_state.connections)


@aio_test
async def test_the_server_stops_and_an_application_does_not() -> None:
    cancelled = asyncio.Event()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with running(application, timeout_graceful_shutdown=1) as server:
        with await open_raw(server) as raw:
            server.should_exit = True
            assert (await raw.next_frame()).payload == (1012).to_bytes(2, "big")
            await raw.send_close(1012)
            await raw.rest()
            await cancelled.wait()
