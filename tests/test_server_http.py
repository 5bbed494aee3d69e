"""Plain HTTP requests, and refusing by the application: an answer, and the end of the connection (RFC 9110)."""

from __future__ import annotations

from typing import Any

import pytest

from handshakes import PLAIN, REQUEST, Driver, Reply, check_ending, parse_refusal, parse_reply, server_with
from wsframe import Cause, Headers, Initiator, RequestReceived, Server, State, Transport


def answered(data: bytes, *answer: Any, **more: Any) -> tuple[RequestReceived, Reply]:
    server, driver = server_with(data)
    (event,) = driver.events
    assert isinstance(event, RequestReceived)
    assert not event.is_websocket
    assert server.handshake is None
    assert server.respond(*answer, **more) == []
    driver.settle()
    assert driver.verdict is Transport.SHUTDOWN_WRITE
    output = driver.take()
    assert driver.feed(PLAIN) == []
    assert driver.output == b""
    ending = driver.gone()
    check_ending(ending, State.HANDSHAKE, Cause.PLAIN_HTTP, Initiator.LOCAL, age=0.0)
    return event, parse_reply(output)


def test_get() -> None:
    event, reply = answered(b"GET /health?x HTTP/1.1\r\nHost: a\r\n\r\n", 200, {"X-A": "1"}, "fine ä\n")
    assert (event.method, event.target, event.headers, event.body) == (
        "GET",
        "/health?x",
        Headers({"Host": "a"}),
        b"",
    )
    assert (reply.status, reply.reason, reply.text) == (200, "OK", "fine ä\n")
    assert sorted(reply.headers) == [
        ("Connection", "close"),
        ("Content-Length", "8"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-A", "1"),
    ]


def test_rfc_9110_s9_3_2_head_has_no_body_but_its_length() -> None:
    _, reply = answered(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200, [], "twelve bytes")
    assert (reply.body, reply.all("Content-Length")) == (b"", ["12"])


def test_http_1_0_needs_no_host() -> None:
    for data in (
        b"GET / HTTP/1.0\r\n\r\n",
        b"HEAD / HTTP/1.0\r\n\r\n",
        b"\r\nGET / HTTP/1.0\r\nHost: a\r\n\r\n",
    ):
        _, reply = answered(data, 200)
        assert reply.all("Content-Length") == ["0"]


def test_post_with_a_body() -> None:
    data = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
    event, _ = answered(data, 204)
    assert (event.method, event.body) == ("POST", b"hello")
    server = Server()
    driver = Driver(server)
    for index in range(len(data) - 1):
        assert driver.feed(data[index : index + 1]) == []
    (late,) = driver.feed(data[-1:])
    assert late == event


def test_rfc_9110_s10_1_1_expect_continue_is_answered_once() -> None:
    server = Server()
    driver = Driver(server)
    driver.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert driver.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    driver.feed(b"")
    driver.feed(b"a")
    assert driver.take() == b""
    (event,) = driver.feed(b"b")
    assert isinstance(event, RequestReceived)
    assert event.body == b"ab"
    assert driver.take() == b""


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\na",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
    ],
)
def test_rfc_9110_s10_1_1_no_continue_where_nobody_waits(data: bytes) -> None:
    assert server_with(data)[1].output == b""


def test_the_default_is_426() -> None:
    server, driver = server_with(PLAIN)
    assert server.respond_upgrade_required() == []
    driver.settle()
    reply = parse_refusal(driver.output)
    assert (reply.status, reply.reason) == (426, "Upgrade Required")
    assert reply.all("Upgrade") == ["websocket"]
    assert reply.all("Connection") == ["close, upgrade"]
    assert reply.all("Sec-WebSocket-Version") == ["13"]
    assert driver.gone().cause is Cause.PLAIN_HTTP


def test_rfc_9110_s7_8_an_upgrade_header_is_a_connection_option() -> None:
    _, reply = answered(PLAIN, 426, {"Upgrade": "websocket"}, "upgrade!")
    assert reply.all("Connection") == ["close, upgrade"]


def test_a_client_that_half_closes_gets_its_answer() -> None:
    server, driver = server_with(PLAIN)
    assert driver.eof() == []
    server.respond(200, body="hi")
    driver.settle()
    assert driver.output.endswith(b"\r\n\r\nhi")
    # It has nothing more to say, so nothing has to be waited for.
    assert driver.verdicts == [Transport.OPEN, Transport.CLOSE]
    check_ending(driver.gone(), State.HANDSHAKE, Cause.PLAIN_HTTP, Initiator.LOCAL, age=0.0)


@pytest.mark.parametrize(
    ("body", "headers", "content_type"),
    [
        ("a", {}, ["text/plain; charset=utf-8"]),
        ("a", {"content-type": "text/html"}, ["text/html"]),
        (b"a", {}, []),
        (b"a", {"Content-Type": "image/png"}, ["image/png"]),
    ],
)
def test_content_type(body: str | bytes, headers: dict[str, str], content_type: list[str]) -> None:
    _, reply = answered(PLAIN, 200, headers, body)
    assert (reply.body, reply.all("Content-Type")) == (b"a", content_type)


def test_reject() -> None:
    for data, cause in ((REQUEST, Cause.REJECTED), (PLAIN, Cause.PLAIN_HTTP)):
        server, driver = server_with(data)
        assert server.reject(404, {"X-A": "1"}, "no such room\n") == []
        driver.settle()
        reply = parse_refusal(driver.output)
        assert (reply.status, reply.reason, reply.text) == (404, "Not Found", "no such room\n")
        assert reply.all("X-A") == ["1"]
        check_ending(driver.gone(), State.HANDSHAKE, cause, Initiator.LOCAL, age=0.0)


def test_reject_says_at_least_the_status() -> None:
    for arguments, expected in (((), "Forbidden\n"), ((404,), "Not Found\n"), ((499,), "499\n")):
        server, driver = server_with(REQUEST)
        server.reject(*arguments)
        driver.settle()
        assert parse_refusal(driver.output).text == expected


def test_a_websocket_request_can_be_redirected() -> None:
    server, driver = server_with(REQUEST)
    server.respond(307, {"Location": "wss://other.example.com/"})
    driver.settle()
    reply = parse_reply(driver.output)
    assert (reply.status, reply.all("Location")) == (307, ["wss://other.example.com/"])
    assert driver.gone().cause is Cause.REJECTED
