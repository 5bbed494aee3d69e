"""``Server`` where things go well, what came before ``accept``, and calls that change nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import framebuilder as fb
from handshakes import PLAIN, REQUEST, Driver, check_ending, parse_refusal, parse_reply, server_with
from wsframe import (
    Cause,
    CloseReceived,
    Connection,
    Endpoint,
    Event,
    Initiator,
    Limits,
    LocalProtocolError,
    Message,
    Opened,
    PermessageDeflate,
    PingReceived,
    RequestReceived,
    Role,
    Server,
    State,
    Timeouts,
    Transport,
)


def text(data: bytes) -> bytes:
    return fb.build(fb.TEXT, data, mask=fb.SAMPLE_MASK)


CLOSE = fb.build(fb.CLOSE, fb.close_payload(1000), mask=fb.SAMPLE_MASK)


def test_server_and_connection_are_endpoints() -> None:
    endpoints: list[Endpoint] = [Server(), Connection(Role.SERVER)]
    assert [endpoint.state for endpoint in endpoints] == [State.CONNECTING, State.OPEN]


# --- accepting --------------------------------------------------------------------------------------------


def test_s4_2_2_the_whole_handshake() -> None:
    server = Server()
    driver = Driver(server)
    assert (server.state, server.request, server.handshake, server.connection) == (1, None, None, None)
    headers = [("Origin", "http://server.example.com"), ("Cookie", "a=b")]
    data = fb.client_handshake_request("/chat?room=1", headers=headers)
    (event,) = driver.feed(data)
    assert isinstance(event, RequestReceived)
    assert (event.method, event.target, event.body, event.is_websocket) == ("GET", "/chat?room=1", b"", True)
    assert event.headers["cookie"] == "a=b"
    assert server.state == State.HANDSHAKE.value
    assert server.request is not None
    assert server.request.headers is event.headers
    assert server.handshake is not None
    assert driver.output == b""
    (opened,) = server.accept()
    assert opened == Opened(None, (), event.headers)
    assert server.state is State.OPEN
    driver.settle()
    # s4.2.2 item 5: status 101, Upgrade, Connection, Sec-WebSocket-Accept; and no body.
    assert driver.take() == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    connection = server.connection
    assert connection is not None
    assert connection.role is Role.SERVER
    (message,) = driver.feed(text(b"Hello"))
    assert isinstance(message, Message)
    connection.send_text("World")
    driver.settle()
    assert driver.take() == fb.build(fb.TEXT, b"World")
    driver.feed(CLOSE)
    assert driver.take() == fb.build(fb.CLOSE, fb.close_payload(1000))
    assert driver.verdict is Transport.CLOSE
    ending = driver.gone()
    assert (ending.cause, ending.clean, ending.was_websocket) == (Cause.CLOSE_HANDSHAKE, True, True)
    assert server.ending is ending is connection.ending


def test_s4_2_2_item5_subprotocol_and_extension() -> None:
    headers = [
        ("Sec-WebSocket-Protocol", "soap, wamp"),
        ("Sec-WebSocket-Protocol", "chat"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ]
    settings: dict[str, Any] = {"subprotocols": ["chat", "wamp"], "extensions": [PermessageDeflate()]}
    server, driver = server_with(fb.client_handshake_request(headers=headers), **settings)
    (opened,) = server.accept()
    driver.settle()
    reply = parse_reply(driver.output)
    assert reply.all("Sec-WebSocket-Protocol") == ["chat"]
    (extension,) = reply.all("Sec-WebSocket-Extensions")
    assert extension.startswith("permessage-deflate")
    assert isinstance(opened, Opened)
    assert opened.subprotocol == "chat"
    assert [extension.name for extension in opened.extensions] == ["permessage-deflate"]


def test_accept_overrides() -> None:
    data = fb.client_handshake_request(headers=[("Sec-WebSocket-Protocol", "a, b")])
    for override, expected in (("b", ["b"]), (None, [])):
        server, driver = server_with(data, subprotocols=["a"])
        server.accept(subprotocol=override, headers=[("Set-Cookie", "s=1")])
        driver.settle()
        reply = parse_reply(driver.output)
        assert reply.all("Sec-WebSocket-Protocol") == expected
        assert reply.all("Set-Cookie") == ["s=1"]
        assert server.connection is not None
        assert server.connection.subprotocol == override


def test_the_settings_reach_the_connection() -> None:
    limits, timeouts = Limits(max_message_size=10), Timeouts(close=1)
    server, driver = server_with(REQUEST, limits=limits, timeouts=timeouts, decode_text=False)
    server.accept()
    (message,) = driver.feed(text(b"abc"))
    assert isinstance(message, Message)
    assert message.data == b"abc"
    assert server.connection is not None
    assert server.connection.limits is limits
    assert server.connection.timeouts is timeouts


def test_deadlines_begin_at_accept_and_not_at_the_request() -> None:
    # accept() does not know what time it is: the time of the request, long ago, is none.
    server, driver = server_with(REQUEST, timeouts=Timeouts(idle=5, ping_interval=7))
    driver.wait(8)
    driver.events += server.accept()
    driver.settle()
    driver.take()
    driver.wait(4.9)
    assert (driver.take(), server.state) == (b"", State.OPEN)
    driver.wait(0.2)
    assert driver.take() == fb.build(fb.CLOSE, fb.close_payload(1001, b"idle timeout"))


def test_the_open_timeout_ends_with_accept() -> None:
    server, driver = server_with(REQUEST, timeouts=Timeouts(ping_interval=None))
    driver.wait(9.9)
    server.accept()
    driver.settle()
    assert driver.deadline is None
    driver.wait(100)
    assert server.state is State.OPEN


# --- early data -------------------------------------------------------------------------------------------


def test_data_before_accept_comes_out_after_opened_in_order() -> None:
    ping = fb.build(fb.PING, b"p", mask=fb.SAMPLE_MASK)
    frames = text(b"one") + ping + text(b"two")
    for chunks in (
        [REQUEST + frames],
        [REQUEST, frames],
        [REQUEST + frames[:5], frames[5:9], frames[9:]],
        [REQUEST[:-1], REQUEST[-1:] + frames[:1], frames[1:]],
    ):
        server = Server()
        driver = Driver(server)
        for chunk in chunks:
            driver.feed(chunk)
        events = server.accept()
        assert [type(event) for event in events] == [Opened, Message, PingReceived, Message]
        driver.settle()
        head, _, rest = driver.output.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert rest == fb.build(fb.PONG, b"p")
        (message,) = driver.feed(text(b"three"))
        assert isinstance(message, Message)


def test_a_frame_cut_by_accept() -> None:
    frame = text(b"Hello")
    server, driver = server_with(REQUEST + frame[:4])
    assert len(server.accept()) == 1
    (message,) = driver.feed(frame[4:])
    assert isinstance(message, Message)
    assert message.data == "Hello"


def test_early_data_with_a_close_or_an_error() -> None:
    server, driver = server_with(REQUEST + text(b"a") + CLOSE)
    events = server.accept()
    # The message can still be answered: the Close comes with the next call.
    assert [type(event) for event in events] == [Opened, Message]
    assert server.has_more
    assert [type(event) for event in driver.feed(b"")] == [CloseReceived]
    driver.settle()
    assert driver.output.endswith(b"\r\n\r\n" + fb.build(fb.CLOSE, fb.close_payload(1000)))
    assert driver.gone().clean
    server, driver = server_with(REQUEST + text(b"a") + fb.build(3))
    assert [type(event) for event in server.accept()] == [Opened, Message]
    assert driver.feed(b"") == []
    driver.settle()
    assert driver.verdict is Transport.SHUTDOWN_WRITE
    assert driver.gone().cause is Cause.PROTOCOL_ERROR


def test_a_lot_of_early_data_is_delivered_with_bounded_work() -> None:
    pings = fb.build(fb.PING, mask=fb.SAMPLE_MASK) * 1000
    server, driver = server_with(REQUEST + pings)
    events = server.accept()
    assert 1 < len(events) <= 257
    assert server.has_more
    events += driver.feed(b"")
    assert len(events) == 1001
    assert not server.has_more


def test_early_data_up_to_the_limit() -> None:
    server, driver = server_with(REQUEST, limits=Limits(max_early_bytes=100))
    frames = text(b"x" * 44) * 2
    assert len(frames) == 100
    driver.feed(frames[:50])
    driver.feed(frames[50:])
    assert [type(event) for event in server.accept()] == [Opened, Message, Message]


def test_early_data_beyond_the_limit() -> None:
    assert Limits().max_early_bytes == 64 * 1024
    server, driver = server_with(REQUEST)
    driver.feed(bytes(64 * 1024))
    assert (server.state, driver.output) == (State.HANDSHAKE, b"")
    driver.feed(b"x")
    reply = parse_refusal(driver.output)
    assert (reply.status, "65536 bytes (max_early_bytes)" in reply.text) == (400, True)
    with pytest.raises(LocalProtocolError):
        server.accept()
    ending = driver.gone()
    check_ending(
        ending,
        State.HANDSHAKE,
        Cause.PROTOCOL_ERROR,
        Initiator.LOCAL,
        error="max_early_bytes",
        status=400,
        age=0.0,
    )


def test_what_comes_with_the_request_does_not_count_before_there_was_a_chance_to_answer() -> None:
    # Or it would depend on the chunks whether a client that does not wait is served.
    frames = text(b"x" * 100_000)
    for chunks in ([REQUEST + frames], [REQUEST, frames]):
        server = Server()
        driver = Driver(server)
        events: list[Event] = []
        for chunk in chunks:
            for event in driver.feed(chunk):
                events += [event, *(server.accept() if isinstance(event, RequestReceived) else [])]
        assert [type(event) for event in events] == [RequestReceived, Opened, Message]
    server, driver = server_with(REQUEST + frames)
    driver.feed(b"x")
    assert parse_refusal(driver.output).status == 400


# --- nothing is changed by a call that is refused ---------------------------------------------------------


def unchanged(server: Server, driver: Driver, call: Callable[[], object], error: type[Exception]) -> None:
    before = server.state, server.transport, server.buffered, server.connection, server.ending
    with pytest.raises(error):
        call()
    driver.settle()
    assert driver.output == b""
    assert before == (server.state, server.transport, server.buffered, server.connection, server.ending)


BAD_ANSWERS: list[tuple[str, dict[str, Any], type[Exception]]] = [
    ("respond", {"status": 199}, LocalProtocolError),
    ("respond", {"status": 101}, LocalProtocolError),
    ("respond", {"status": 600}, LocalProtocolError),
    ("respond", {"status": "200"}, TypeError),
    ("respond", {"status": "200 OK\r\nX: y"}, TypeError),
    ("respond", {"status": 204, "body": "x"}, LocalProtocolError),
    ("respond", {"body": None}, TypeError),
    ("reject", {"status": 200}, LocalProtocolError),
    ("reject", {"status": 399}, LocalProtocolError),
    ("reject", {"status": 600}, LocalProtocolError),
    *[
        (method, {"headers": headers}, LocalProtocolError)
        for method in ("accept", "reject", "respond")
        for headers in (
            [("X", "a\rb")],
            [("X", "a\nb")],
            [("X", "a\0b")],
            [("X\r\nY", "b")],
            [("X:", "b")],
            [("", "b")],
            [("X", "€")],
            [("X", "a\r\n\r\n<html>")],
            {"Connection": "keep-alive"},
            {"content-length": "5"},
            {"Transfer-Encoding": "chunked"},
        )
    ],
    ("accept", {"headers": {"Sec-WebSocket-Accept": "x"}}, LocalProtocolError),
    ("accept", {"subprotocol": "chat"}, LocalProtocolError),
    ("accept", {"subprotocol": "a\r\nX: y"}, LocalProtocolError),
    ("respond_upgrade_required", {}, LocalProtocolError),
    ("close", {"code": 1005}, LocalProtocolError),
    ("close", {"code": 1000, "reason": "x" * 124}, LocalProtocolError),
]


@pytest.mark.parametrize(("method", "arguments", "error"), BAD_ANSWERS)
def test_what_cannot_be_sent_changes_nothing(
    method: str, arguments: dict[str, Any], error: type[Exception]
) -> None:
    server, driver = server_with(fb.client_handshake_request(headers=[("Sec-WebSocket-Protocol", "a")]))
    unchanged(server, driver, lambda: getattr(server, method)(**arguments), error)
    assert [type(event) for event in server.accept()] == [Opened]


def test_a_plain_request_cannot_be_accepted() -> None:
    server, driver = server_with(PLAIN)
    unchanged(server, driver, server.accept, LocalProtocolError)
    server.respond(200)


ANSWERS = ["accept", "reject", "respond", "respond_upgrade_required"]


@pytest.mark.parametrize("method", [*ANSWERS, "detach"])
@pytest.mark.parametrize("phase", ["nothing", "part", "accepted", "refused", "aborted", "detached", "closed"])
def test_answers_in_the_wrong_state(method: str, phase: str) -> None:
    if method == "detach" and phase in ("nothing", "part"):
        return
    server = Server()
    driver = Driver(server)
    if phase not in ("nothing", "part"):
        driver.feed(REQUEST)
    if phase == "part":
        driver.feed(REQUEST[:30])
    elif phase == "accepted":
        server.accept()
    elif phase == "refused":
        server.reject()
    elif phase == "aborted":
        server.abort()
    elif phase == "detached":
        server.detach()
    elif phase == "closed":
        driver.gone()
    driver.settle()
    driver.take()
    unchanged(server, driver, getattr(server, method), LocalProtocolError)
