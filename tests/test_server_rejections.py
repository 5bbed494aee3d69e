"""What a server refuses on its own, and what then stands on the wire (RFC 6455 s4.2, RFC 9110, RFC 9112)."""

from __future__ import annotations

from typing import Any

import pytest

import framebuilder as fb
from handshakes import PLAIN, REQUEST, Driver, parse_refusal, refused_by, server_with
from wsframe import (
    ANY_ORIGIN,
    Cause,
    HandshakeError,
    LocalProtocolError,
    PermessageDeflate,
    RequestReceived,
    Server,
    State,
    Transport,
)

request = fb.client_handshake_request


def is_accepted(data: bytes, **settings: Any) -> bool:
    server, driver = server_with(data, **settings)
    if server.state is not State.HANDSHAKE:
        parse_refusal(driver.output)
        return False
    assert driver.output == b""
    (event,) = driver.events
    assert isinstance(event, RequestReceived)
    return event.is_websocket


# --- s4.2.1, item by item ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "get", "X"])
def test_s4_2_1_item1_get(method: str) -> None:
    server, driver = server_with(request(method=method))
    assert driver.output.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nAllow: GET\r\n" in driver.output
    assert b"\r\nConnection: close\r\n" in driver.output
    # RFC 9110 s9.3.2: the server MUST NOT send content in the response to HEAD.
    assert driver.output.endswith(b"\r\n\r\n") is (method == "HEAD")
    assert server.handshake is None
    assert server.request is not None
    assert server.request.method == method


def test_s4_2_1_item1_http_1_1() -> None:
    reply = refused_by(request(http_version="1.0"))
    assert (reply.status, reply.text) == (400, "a WebSocket handshake needs HTTP/1.1\n")
    assert refused_by(request(http_version="2.0")).status == 505
    assert is_accepted(request(http_version="1.2"))


@pytest.mark.parametrize("target", ["/", "/chat?x=1", "//", "/%20", "http://server.example.com/chat", "*"])
def test_s4_2_1_item1_any_request_target(target: str) -> None:
    driver = server_with(request(target))[1]
    (event,) = driver.events
    assert isinstance(event, RequestReceived)
    assert event.target == target


def test_s4_2_1_item2_host() -> None:
    assert refused_by(request(without=["Host"])).text == "exactly one Host header is needed, not none\n"
    reply = refused_by(request(headers=[("host", "server.example.com")]))
    assert (reply.status, reply.text) == (400, "exactly one Host header is needed, not 2\n")
    for host in ("", "a b", "a/b", "user@a", "a,b:c", "[::1", "a:b", "ä"):
        assert refused_by(request(host=host)).status == 400
    for host in ("a", "a:80", "a:", "127.0.0.1:8765", "[::1]:80", "a_b.example", "xn--a.example."):
        assert is_accepted(request(host=host))


@pytest.mark.parametrize(
    ("lines", "accepted"),
    [
        ([("Upgrade", "websocket")], True),
        ([("Upgrade", "WebSocket")], True),
        ([("UPGRADE", "WEBSOCKET")], True),
        ([("Upgrade", "h2c, websocket")], True),
        ([("Upgrade", "h2c"), ("Upgrade", "websocket")], True),
        ([("Upgrade", ",, websocket ,\t")], True),
        ([], False),
        ([("Upgrade", "")], False),
        ([("Upgrade", "h2c")], False),
        ([("Upgrade", "websockets")], False),
        ([("Upgrade", "websocket/13")], False),
        ([("Upgrade", "web socket")], False),
    ],
)
def test_s4_2_1_item3_upgrade(lines: list[tuple[str, str]], accepted: bool) -> None:
    data = request(headers=lines, without=["Upgrade"])
    assert is_accepted(data) is accepted
    if not accepted:
        # It does not ask for a WebSocket at all, and is the application's to answer.
        assert refused_by(data).status == 426


@pytest.mark.parametrize(
    ("lines", "accepted"),
    [
        ([("Connection", "upgrade")], True),
        ([("Connection", "UPGRADE")], True),
        ([("Connection", "keep-alive, Upgrade")], True),
        ([("Connection", "keep-alive"), ("connection", "Upgrade")], True),
        ([("Connection", "Upgrade,close")], True),
        ([], False),
        ([("Connection", "keep-alive")], False),
        ([("Connection", "upgraded")], False),
        ([("Connection", "websocket")], False),
    ],
)
def test_s4_2_1_item4_connection(lines: list[tuple[str, str]], accepted: bool) -> None:
    data = request(headers=lines, without=["Connection"])
    assert is_accepted(data) is accepted
    if not accepted:
        reply = refused_by(data)
        assert (reply.status, reply.text) == (400, "the Connection header does not contain 'Upgrade'\n")


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("", "0 bytes"),
        ("AAAAAAAAAAAAAAAAAAAA", "15 bytes"),
        ("AAAAAAAAAAAAAAAAAAAAAAA=", "17 bytes"),
        ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "24 bytes"),
        ("AAAAAAAAAAAAAAAAAAAAAA", "not base64"),
        ("AAAAAAAAAAAAAAAAAAAAAA=", "not base64"),
        ("AAAAAAAAAAAAAAAAAAAAAA===", "not base64"),
        ("AAAAAAAAAAAAAAAAAAAAAA==A", "not base64"),
        ("AAAAAAAAAAA AAAAAAAAAAA==", "not base64"),
        ("AAAAAAAAAAA-AAAAAAAAAA==", "not base64"),
        ("AAAAAAAAAAAäAAAAAAAAAA==", "not base64"),
        (f"{fb.SAMPLE_KEY}, {fb.SAMPLE_KEY}", "not base64"),
    ],
)
def test_s4_2_1_item5_key_of_16_bytes(key: str, reason: str) -> None:
    reply = refused_by(request(key=key))
    assert reply.status == 400
    assert "the Sec-WebSocket-Key " in reply.text
    assert reason in reply.text


def test_s4_2_1_item5_exactly_one_key() -> None:
    reply = refused_by(request(without=["Sec-WebSocket-Key"]))
    assert (reply.status, reply.text) == (400, "exactly one Sec-WebSocket-Key header is needed, not none\n")
    reply = refused_by(request(headers=[("sec-websocket-key", fb.SAMPLE_KEY)]))
    # s11.3.1: it MUST NOT appear more than once in an HTTP request.
    assert (reply.status, reply.text) == (400, "exactly one Sec-WebSocket-Key header is needed, not 2\n")


@pytest.mark.parametrize(
    "version", [None, "", "8", "0", "12", "14", "013", "13, 8", "8, 13", "thirteen", "13.0"]
)
def test_s4_2_1_item6_version_13(version: str | None) -> None:
    lines = [] if version is None else [("Sec-WebSocket-Version", version)]
    reply = refused_by(request(headers=lines, without=["Sec-WebSocket-Version"]))
    # s4.4: the versions that the server is capable of understanding. RFC 9110 s15.5.22 and s7.8: Upgrade.
    assert (reply.status, reply.reason) == (426, "Upgrade Required")
    assert reply.all("Sec-WebSocket-Version") == ["13"]
    assert reply.all("Upgrade") == ["websocket"]
    assert reply.all("Connection") == ["close, upgrade"]
    assert "must be 13, but is" in reply.text


def test_s11_3_5_version_only_once() -> None:
    assert refused_by(request(headers=[("Sec-WebSocket-Version", "13")])).status == 426
    assert is_accepted(
        request(headers=[("Sec-WebSocket-Version", " \t13 ")], without=["Sec-WebSocket-Version"])
    )


def test_s4_2_1_item7_origin() -> None:
    data = request(headers=[("Origin", "http://evil.example.com")])
    reply = refused_by(data)
    assert (reply.status, reply.reason) == (403, "Forbidden")
    for part in ("'http://evil.example.com'", "'server.example.com'", "'origins'", "proxy", "Host"):
        assert part in reply.text
    assert is_accepted(data, origins=ANY_ORIGIN)
    assert is_accepted(data, origins=["http://evil.example.com"])
    assert is_accepted(request(headers=[("Origin", "http://server.example.com")]))
    assert refused_by(request(headers=[("Origin", "null")])).status == 403


def test_s4_2_1_item8_subprotocols_are_tokens_and_differ() -> None:
    for value in ("a b", "a, a", "a/b", "{}"):
        reply = refused_by(request(headers=[("Sec-WebSocket-Protocol", value)]))
        assert reply.status == 400
        assert "subprotocol" in reply.text


def test_s4_2_1_item9_extensions_by_the_grammar() -> None:
    data = request(headers=[("Sec-WebSocket-Extensions", "permessage-deflate; =")])
    for extensions in ([], [PermessageDeflate()]):
        reply = refused_by(data, extensions=extensions)
        assert reply.status == 400
        assert "Sec-WebSocket-Extensions" in reply.text


def test_s4_2_1_item10_other_fields_are_ignored() -> None:
    assert is_accepted(request(headers=[("Cookie", "a=b"), ("X-\x7e", "\xff"), ("Sec-WebSocket-Foo", "1")]))


def test_require_subprotocol() -> None:
    reply = refused_by(REQUEST, subprotocols=["a"], require_subprotocol=True)
    assert (reply.status, reply.text) == (
        400,
        "no common subprotocol: the client offered none; supported: a\n",
    )


# --- what HTTP refuses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "status", "cause"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400, Cause.NOT_HTTP),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 400, Cause.NOT_HTTP),
        (b"\x00\x01\x02", 400, Cause.NOT_HTTP),
        (b"hello, world\r\n", 400, Cause.NOT_HTTP),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400, Cause.REJECTED),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, Cause.REJECTED),
        (b"GET / HTTP/1.1\r\n\r\n", 400, Cause.REJECTED),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, Cause.REJECTED),
        (b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, Cause.REJECTED),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, Cause.REJECTED),
        (b"GET /" + b"a" * 16384, 414, Cause.REJECTED),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 16384, 431, Cause.REJECTED),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 129, 431, Cause.REJECTED),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, Cause.REJECTED),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413, Cause.REJECTED),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 411, Cause.REJECTED),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400, Cause.REJECTED),
    ],
)
def test_what_is_no_acceptable_http(data: bytes, status: int, cause: Cause) -> None:
    server, driver = server_with(data)
    reply = parse_refusal(driver.output)
    assert reply.status == status
    assert driver.events == []
    ending = driver.gone()
    assert ending.cause is cause
    assert isinstance(ending.error, HandshakeError)
    assert ending.error.status == status
    assert reply.text == f"{ending.error}\n"
    assert server.connection is None


@pytest.mark.parametrize(
    "data",
    [
        request(without=["Sec-WebSocket-Key"]),
        b"\x16\x03\x01",
        request(method="POST"),
        request(headers=[("Origin", "null")]),
    ],
)
def test_what_follows_a_refused_request_is_discarded(data: bytes) -> None:
    follow = PLAIN + REQUEST + fb.build(fb.TEXT, b"x", mask=fb.SAMPLE_MASK) + bytes(1 << 20)
    together = server_with(data + follow)[1]
    apart = server_with(data)[1]
    refusal = apart.take()
    parse_refusal(refusal)
    assert together.take() == refusal
    for driver in (together, apart):
        for chunk in (REQUEST, bytes(1 << 20), PLAIN):
            assert driver.feed(chunk) == []
        assert driver.output == b""
        assert driver.events == []
        assert driver.verdict is Transport.SHUTDOWN_WRITE


def test_refused_is_refused() -> None:
    server, driver = server_with(request(without=["Sec-WebSocket-Key"]))
    driver.take()
    for call in (
        server.accept,
        server.reject,
        server.respond,
        server.respond_upgrade_required,
        server.detach,
    ):
        with pytest.raises(LocalProtocolError, match="CLOSING"):
            call()
    driver.settle()
    assert driver.output == b""
    assert driver.gone().cause is Cause.REJECTED


# --- settings and callables -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"origins": "http://a"}, ValueError),
        ({"origins": ["*"]}, ValueError),
        ({"origins": 1}, TypeError),
        ({"subprotocols": "chat"}, LocalProtocolError),
        ({"subprotocols": ["a\r\nX: y"]}, LocalProtocolError),
        ({"extensions": [PermessageDeflate(), PermessageDeflate()]}, ValueError),
    ],
)
def test_settings_that_cannot_work_show_before_the_first_connection(
    settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        Server(**settings)


def test_a_callable_that_raises_is_answered_with_500() -> None:
    bug = ZeroDivisionError("bug")

    def choose(*_: object) -> str:
        raise bug

    server, driver = server_with(REQUEST, subprotocols=choose)
    reply = parse_refusal(driver.output)
    assert (reply.status, reply.text) == (500, "the server failed to answer\n")
    assert driver.verdict is Transport.SHUTDOWN_WRITE
    assert server.handshake is None
    ending = driver.gone()
    assert (ending.cause, ending.error) == (Cause.REJECTED, bug)


def test_a_callable_that_chooses_what_was_not_offered() -> None:
    driver = server_with(REQUEST, subprotocols=lambda *_: "chat")[1]
    assert parse_refusal(driver.output).status == 500
    assert isinstance(driver.gone().error, LocalProtocolError)


def test_a_callable_may_refuse() -> None:
    def choose(*_: object) -> str:
        raise HandshakeError("come back with a ticket", 401)

    driver = server_with(REQUEST, subprotocols=choose)[1]
    reply = parse_refusal(driver.output)
    assert (reply.status, reply.text) == (401, "come back with a ticket\n")


def test_a_driver_writes_nothing_before_there_is_a_request() -> None:
    driver = Driver(Server())
    driver.wait(5)
    assert (driver.output, driver.events, driver.verdict) == (b"", [], Transport.OPEN)
