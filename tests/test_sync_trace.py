"""`trace` of the blocking `serve` and `connect`: heads without their secrets, and frames."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from framebuilder import BINARY, CLOSE, PING, PONG, TEXT, close_payload
from synchelpers import (
    DEADLINE,
    Raw,
    client_context,
    dial,
    echo,
    expect_log,
    open_raw,
    server_context,
    serving,
    tidy,
    until,
    uri_of,
)
from wsframe import Response, State
from wsframe.sync import HandshakeRejected, TracedFrame, TracedHead, WebSocket, connect

__all__ = ["tidy"]


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


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_everything_is_told_inside_tls(secure: bool) -> None:
    trace, client_trace = Trace(), Trace()
    options: dict[str, Any] = {"ssl": server_context()} if secure else {}
    with serving(echo, trace=trace, ping_interval=None, **options) as (server, endings):
        uri, options = uri_of(server), {}
        if secure:
            uri, options = uri.replace("ws:", "wss:"), {"ssl": client_context()}
        with connect(uri, headers=[("Cookie", "hunter2")], trace=client_trace, **options) as ws:
            ws.send("text")
            assert ws.recv(DEADLINE) == "text"
            ws.send(bytes(1_000_000))
            assert ws.recv(DEADLINE) == bytes(1_000_000)
            ws.ping(b"ping").wait(DEADLINE)
        endings.one()
    assert trace.frames("received") == [
        (TEXT, 4, b"text"),
        (BINARY, 1_000_000, bytes(128)),
        (PING, 4, b"ping"),
        (CLOSE, 2, close_payload(1000)),
    ]
    assert trace.frames("sent") == [
        (TEXT, 4, b"text"),
        (BINARY, 1_000_000, bytes(128)),
        (PONG, 4, b"ping"),
        (CLOSE, 2, close_payload(1000)),
    ]
    (request,), (response,) = trace.heads("received"), trace.heads("sent")
    assert request[0] == "GET / HTTP/1.1"
    assert "Cookie: [redacted]" in request
    assert response[0] == "HTTP/1.1 101 Switching Protocols"
    assert "hunter2" not in repr(trace)
    assert {event.id for event in trace} == {1}
    # The client tells the same.
    assert client_trace.frames("sent") == trace.frames("received")
    assert client_trace.frames("received") == trace.frames("sent")
    assert (client_trace.heads("sent"), client_trace.heads("received")) == ([request], [response])
    assert {event.id for event in client_trace} == {0}


def test_every_connection_has_its_id_in_it_and_refusals_are_heard_too() -> None:
    trace = Trace()
    refusal = Response(401, headers=[("Set-Cookie", "hunter2")])
    with serving(echo, trace=trace, on_request=lambda request: refusal) as (server, endings):
        for _ in range(2):
            with pytest.raises(HandshakeRejected):
                connect(uri_of(server), headers=[("Authorization", "Basic hunter2")])
            until(lambda: server.stats().connections == 0)
        with dial(server) as raw:
            raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\x81\x02hi")
            raw.rest()
        until(lambda: len(endings) == 3)
    assert [event.id for event in trace] == [1, 1, 2, 2, 3, 3]
    assert [lines[0] for lines in trace.heads("sent")] == ["HTTP/1.1 401 Unauthorized"] * 3
    assert all("Set-Cookie: [redacted]" in lines for lines in trace.heads("sent"))
    assert "hunter2" not in repr(trace)
    assert trace.frames("received") == trace.frames("sent") == []


def test_a_trace_that_raises_is_one_line_in_the_log_and_harms_nobody() -> None:
    calls = 0

    def trace(event: object) -> None:
        nonlocal calls
        calls += 1
        raise ZeroDivisionError

    with expect_log("trace raised"), serving(echo, trace=trace) as (server, _), connect(uri_of(server)) as ws:
        ws.send("x")
        assert ws.recv(DEADLINE) == "x"
    assert calls == 1


@contextlib.contextmanager
def counted(**options: Any) -> Iterator[tuple[WebSocket, Raw]]:
    def stay(ws: WebSocket) -> None:
        for _ in ws:
            pass

    with serving(stay, ping_interval=None, **options) as (server, _), open_raw(server) as raw:
        until(lambda: len(server.connections) == 1)
        (ws,) = server.connections
        yield ws, raw


def test_without_it_there_is_nothing_in_the_way() -> None:
    def kind(ws: WebSocket) -> str:
        return type(ws._driver._transport).__name__

    with counted() as (ws, _):
        assert kind(ws) == "PlainTransport"
    with counted(trace=Trace()) as (ws, _):
        assert kind(ws) == "_TracedTransport"


def test_what_is_traced_is_counted_as_well() -> None:
    trace = Trace()
    with counted(trace=trace) as (ws, raw):
        raw.send_frame(TEXT, b"abc")
        until(lambda: ws.server.stats().messages_in == 1)
        assert ws.send_nowait("abcd")
        assert raw.next_frame().payload == b"abcd"
        info = ws.server.info(ws.id)
        assert info is not None
        assert (info.state, info.messages_in, info.messages_out, info.frames_out) == (State.OPEN, 1, 1, 1)
        lines = trace.heads("received")[0]
        assert info.bytes_in == sum(map(len, lines)) + 2 * len(lines) + 2 + 9


def test_of_what_a_peer_does_not_take_only_what_has_left_is_told() -> None:
    trace = Trace()
    with counted(trace=trace, close_timeout=0.2) as (ws, _):
        while ws.try_send(bytes(65536)):
            pass
        sent = len(trace.frames("sent"))
        info = ws.server.info(ws.id)
        assert info is not None
        assert sent < info.messages_out
        done = threading.Event()
        ws.add_done_callback(lambda ws: done.set())
        ws.abort()
        assert done.is_set()


# A client's.


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_client_is_told_as_well(secure: bool) -> None:
    trace = Trace()
    options: dict[str, Any] = {"ssl": server_context()} if secure else {}
    with serving(echo, ping_interval=None, **options) as (server, _):
        uri, context = uri_of(server), None
        if secure:
            uri, context = uri.replace("ws:", "wss:"), client_context()
        with connect(uri, headers=[("Cookie", "hunter2")], ssl=context, trace=trace) as ws:
            ws.send(["te", "xt"])
            assert ws.recv(DEADLINE) == "text"
    assert trace.frames("sent") == [
        (TEXT, 2, b"te"),
        (0, 2, b"xt"),
        (0, 0, b""),
        (CLOSE, 2, close_payload(1000)),
    ]
    assert trace.frames("received") == [(TEXT, 4, b"text"), (CLOSE, 2, close_payload(1000))]
    (request,), (response,) = trace.heads("sent"), trace.heads("received")
    assert "Cookie: [redacted]" in request
    assert response[0].startswith("HTTP/1.1 101 ")
    assert {event.id for event in trace} == {0}


def test_a_client_traces_every_redirect() -> None:
    def redirect(request: Any) -> Response | None:
        return Response(302, headers=[("Location", "/there")]) if request.target == "/" else None

    trace = Trace()
    with (
        serving(echo, on_request=redirect) as (server, _),
        connect(uri_of(server), trace=trace, max_redirects=1),
    ):
        pass
    assert [lines[0] for lines in trace.heads("sent")] == ["GET / HTTP/1.1", "GET /there HTTP/1.1"]
    assert [lines[0].split(" ")[1] for lines in trace.heads("received")] == ["302", "101"]


def test_what_is_no_callback_is_refused() -> None:
    with pytest.raises(TypeError, match="trace must be callable"):
        connect("ws://127.0.0.1/", trace=1)  # type: ignore[call-overload]
