"""`trace` of the asyncio `serve` and `connect`: heads without their secrets, and frames."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiohelpers import (
    Raw,
    aio_test,
    client_context,
    dial,
    echo,
    expect_log,
    open_raw,
    server_context,
    until,
    uri_of,
)
from framebuilder import BINARY, CLOSE, PING, PONG, TEXT, close_payload
from wsframe import Response, State
from wsframe.aio import Application, HandshakeRejected, TracedFrame, TracedHead, WebSocket, connect, serve


class Trace(list[Any]):
    """Remembers what it is told."""

    def __call__(self, event: TracedHead | TracedFrame) -> None:
        self.append(event)

    def frames(self, direction: str) -> list[tuple[int, int, bytes]]:
        return [
            (event.opcode, event.length, event.head)
            for event in self
            if isinstance(event, TracedFrame) and event.direction == direction
        ]

    def heads(self, direction: str) -> list[tuple[str, ...]]:
        return [
            event.lines for event in self if isinstance(event, TracedHead) and event.direction == direction
        ]


@aio_test
async def test_both_sides_tell_the_same() -> None:
    server_trace, client_trace = Trace(), Trace()
    async with serve(echo, "127.0.0.1", 0, trace=server_trace, ping_interval=None) as server:
        async with connect(uri_of(server), trace=client_trace, headers=[("Cookie", "hunter2")]) as ws:
            await ws.send("text")
            assert await ws.recv() == "text"
            await ws.send(bytes(100_000))
            assert await ws.recv() == bytes(100_000)
            await (await ws.ping(b"ping"))
        await until(lambda: not server.exists(1))
    for trace, out, back in ((client_trace, "sent", "received"), (server_trace, "received", "sent")):
        assert trace.frames(out) == [
            (TEXT, 4, b"text"),
            (BINARY, 100_000, bytes(128)),
            (PING, 4, b"ping"),
            (CLOSE, 2, close_payload(1000)),
        ]
        assert trace.frames(back) == [
            (TEXT, 4, b"text"),
            (BINARY, 100_000, bytes(128)),
            (PONG, 4, b"ping"),
            (CLOSE, 2, close_payload(1000)),
        ]
        (request,), (response,) = trace.heads(out), trace.heads(back)
        assert request[0] == "GET / HTTP/1.1"
        assert "Cookie: [redacted]" in request
        assert any(line.startswith("Sec-WebSocket-Key: ") for line in request)
        assert response[0] == "HTTP/1.1 101 Switching Protocols"
        assert "hunter2" not in repr(trace)
    assert {event.id for event in server_trace} == {1}
    assert {event.id for event in client_trace} == {0}


@aio_test
async def test_inside_tls_and_with_callbacks() -> None:
    class Echo(Application):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send_nowait(message)

    trace = Trace()
    async with serve(Echo(), "127.0.0.1", 0, trace=trace, ssl=server_context(), ping_interval=None) as server:
        uri = uri_of(server).replace("ws:", "wss:")
        async with connect(uri, ssl=client_context()) as ws:
            await ws.send("secret")
            assert await ws.recv() == "secret"
        await until(lambda: not server.exists(1))
    assert trace.frames("received") == [(TEXT, 6, b"secret"), (CLOSE, 2, close_payload(1000))]
    assert trace.frames("sent") == trace.frames("received")


@aio_test
async def test_every_connection_has_its_id_in_it_and_refusals_are_heard_too() -> None:
    trace = Trace()
    async with serve(
        echo,
        "127.0.0.1",
        0,
        trace=trace,
        ping_interval=None,
        on_request=lambda request: Response(401, headers=[("Set-Cookie", "hunter2")]),
    ) as server:
        for _ in range(2):
            with pytest.raises(HandshakeRejected):
                await connect(uri_of(server), headers=[("Authorization", "Basic hunter2")])
        with await dial(server) as raw:
            await raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\x81\x02hi")
            await raw.rest()
        await until(lambda: server.stats().connections == 0)
    assert [event.id for event in trace] == [1, 1, 2, 2, 3, 3]
    assert [lines[0] for lines in trace.heads("sent")] == ["HTTP/1.1 401 Unauthorized"] * 3
    assert all("Set-Cookie: [redacted]" in lines for lines in trace.heads("sent"))
    assert "hunter2" not in repr(trace)
    assert trace.frames("received") == trace.frames("sent") == []


@aio_test
async def test_a_trace_that_raises_is_one_line_in_the_log_and_harms_nobody() -> None:
    calls = 0

    def trace(event: object) -> None:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError

    with expect_log("trace raised"):
        async with serve(echo, "127.0.0.1", 0, trace=trace) as server, connect(uri_of(server)) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"
    assert calls == 1


@contextlib.asynccontextmanager
async def counted(**options: Any) -> AsyncIterator[tuple[WebSocket, Raw]]:
    opened: list[WebSocket] = []

    class Listening(Application):
        def on_open(self, ws: WebSocket) -> None:
            opened.append(ws)

    async with serve(Listening(), "127.0.0.1", 0, ping_interval=None, **options) as server:
        with await open_raw(server) as raw:
            await until(lambda: opened)
            yield opened[0], raw


@aio_test
async def test_without_it_there_is_nothing_in_the_way() -> None:
    async with counted() as (ws, _):
        assert ws._channel._tap is None
        assert ws._lane is not None
    async with counted(trace=Trace()) as (ws, _):
        assert ws._lane is None


@aio_test
async def test_what_is_traced_is_counted_as_well() -> None:
    trace = Trace()
    async with counted(trace=trace) as (ws, raw):
        await raw.send_frame(TEXT, b"abc")
        await until(lambda: trace.frames("received"))
        assert ws.send_nowait("abcd")
        assert (await raw.next_frame()).payload == b"abcd"
        info = ws.server.info(ws.id)
        assert info is not None
        assert (info.state, info.messages_in, info.messages_out, info.frames_out) == (State.OPEN, 1, 1, 1)
        assert (
            info.bytes_in
            == sum(map(len, trace.heads("received")[0])) + 2 * len(trace.heads("received")[0]) + 2 + 9
        )


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match="trace must be callable"):
        serve(echo, "127.0.0.1", 0, trace="stderr")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="trace must be callable"):
        connect("ws://a/", trace=1)  # type: ignore[arg-type]

    class Silent:
        def received(self, data: object) -> None:
            """Nothing."""

        def sent(self, data: bytes) -> None:
            """Nothing."""

    with pytest.raises(TypeError, match="tap and trace"):
        connect("ws://a/", trace=Trace(), tap=Silent())
