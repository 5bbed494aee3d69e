"""The opening handshake on header lists: a host that parsed HTTP itself (RFC 6455 s4.2, RFC 8441 s5)."""

from __future__ import annotations

import re
from typing import Any

import pytest

import framebuilder as fb
from handshakes import Driver
from subprotocols import OFFERS
from wsframe import (
    SAME_HOST,
    Cause,
    Connection,
    Handshake,
    HandshakeError,
    Headers,
    Limits,
    LocalProtocolError,
    Message,
    PermessageDeflate,
    Rejection,
    Request,
    State,
    Timeouts,
    accept_value,
    negotiate,
)

HEADERS = [
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", fb.SAMPLE_KEY),
    ("Sec-WebSocket-Version", "13"),
]


def request(*headers: tuple[str, str], without: str = "", **changes: Any) -> Request:
    kept = [line for line in HEADERS if line[0] != without]
    arguments: dict[str, Any] = {"method": "GET", "target": "/chat", **changes}
    return Request(headers=[*kept, *headers], **arguments)


def handshake(*headers: tuple[str, str], origins: Any = SAME_HOST, **settings: Any) -> Handshake:
    outcome = negotiate(request(*headers), origins=origins, **settings)
    assert isinstance(outcome, Handshake), outcome
    return outcome


def rejection(asked: Request, origins: Any = SAME_HOST, **settings: Any) -> Rejection:
    outcome = negotiate(asked, origins=origins, **settings)
    assert isinstance(outcome, Rejection), outcome
    # What goes out and what stands in the ending is the same.
    assert outcome.error.status == outcome.status
    assert outcome.body == f"{outcome.error}\n"
    assert outcome.headers.get_all("Content-Type") == ["text/plain; charset=utf-8"]
    assert "Content-Length" not in outcome.headers
    assert (outcome.response.status, outcome.response.headers) == (outcome.status, outcome.headers)
    assert outcome.response.body == outcome.body.encode()
    return outcome


# --- acceptance -------------------------------------------------------------------------------------------


def test_s1_3_accept_value() -> None:
    assert accept_value(fb.SAMPLE_KEY) == fb.SAMPLE_ACCEPT == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_s4_2_2_item5_what_is_sent() -> None:
    agreed = handshake()
    assert (agreed.key, agreed.offered, agreed.subprotocol) == (fb.SAMPLE_KEY, (), None)
    assert (agreed.extensions, agreed.extension_header) == ((), None)
    status, headers, connection = agreed.accept()
    assert status == 101
    assert list(headers) == [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", fb.SAMPLE_ACCEPT),
    ]
    assert isinstance(connection, Connection)
    assert connection.state is State.OPEN


def test_accept_hands_its_settings_to_the_connection() -> None:
    limits, timeouts = Limits(max_message_size=3), Timeouts(close=1)
    _, _, connection = handshake().accept(
        limits=limits,
        timeouts=timeouts,
        decode_text=False,
        trailing_data=fb.build(fb.TEXT, b"abc", mask=fb.SAMPLE_MASK),
    )
    assert connection.limits is limits
    assert connection.timeouts is timeouts
    (message,) = connection.receive_data(b"")
    assert isinstance(message, Message)
    assert message.data == b"abc"
    connection.receive_data(fb.build(fb.TEXT, b"abcd", mask=fb.SAMPLE_MASK))
    connection.data_to_send()
    (ending,) = connection.transport_closed()
    assert connection.ending is ending
    assert connection.ending is not None
    assert connection.ending.cause is Cause.TOO_BIG


def test_accept_streams_when_asked() -> None:
    _, _, connection = handshake().accept(stream=True)
    (first,) = connection.receive_data(fb.build(fb.TEXT, b"ab", fin=False, mask=fb.SAMPLE_MASK))
    assert not isinstance(first, Message)


def test_further_headers() -> None:
    lines = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Server", "x")]
    for headers in (lines, Headers(lines), iter(lines)):
        _, sent, _ = handshake().accept(headers=headers)
        assert list(sent)[3:] == lines
    assert handshake().accept(headers={"X-A": "1"})[1]["x-a"] == "1"


RESERVED = [
    "Upgrade",
    "Connection",
    "Sec-WebSocket-Accept",
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "sec-websocket-extensions",
    "CONTENT-LENGTH",
    "Transfer-Encoding",
]


@pytest.mark.parametrize("name", RESERVED)
def test_accept_writes_these_headers_itself(name: str) -> None:
    with pytest.raises(LocalProtocolError, match=name):
        handshake().accept(headers=[(name, "x")])


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\r\nEvil: 1"])
def test_accept_refuses_injection(bad: str) -> None:
    agreed = handshake(("Sec-WebSocket-Protocol", "chat"))
    for headers in ([("X", f"a{bad}")], [(f"X{bad}", "a")], [("X", f"a{bad}".encode())]):
        with pytest.raises(LocalProtocolError, match="not allowed"):
            agreed.accept(headers=headers)
    with pytest.raises(LocalProtocolError, match="not offered"):
        agreed.accept(subprotocol=f"chat{bad}")


def test_the_connection_agrees_on_the_extension() -> None:
    agreed = handshake(
        ("Sec-WebSocket-Extensions", "x-unknown; a=1, permessage-deflate; client_max_window_bits"),
        extensions=[PermessageDeflate()],
    )
    _, headers, connection = agreed.accept()
    assert headers["Sec-WebSocket-Extensions"].startswith("permessage-deflate")
    assert [extension.name for extension in connection.extensions] == ["permessage-deflate"]


def test_s9_1_extensions_that_nobody_supports_are_declined() -> None:
    agreed = handshake(("Sec-WebSocket-Extensions", "permessage-deflate"))
    assert "Sec-WebSocket-Extensions" not in agreed.accept()[1]


def test_s9_1_a_broken_extensions_header_is_refused() -> None:
    refused = rejection(request(("Sec-WebSocket-Extensions", "a;;b")))
    assert refused.status == 400
    assert "Sec-WebSocket-Extensions" in refused.body


# --- subprotocols -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lines", "supported", "chosen"), OFFERS)
def test_s4_2_2_item5_subprotocol(lines: list[str], supported: Any, chosen: str | int | None) -> None:
    asked = request(*(("Sec-WebSocket-Protocol", line) for line in lines))
    outcome = negotiate(asked, origins=SAME_HOST, subprotocols=supported)
    if isinstance(chosen, int):
        assert isinstance(outcome, Rejection)
        assert outcome.status == chosen
        assert "subprotocol" in outcome.body
        return
    assert isinstance(outcome, Handshake)
    assert outcome.subprotocol == chosen
    _, headers, connection = outcome.accept()
    # s4.2.2: absent when the server does not agree to any of them; never the whole list.
    assert headers.get_all("Sec-WebSocket-Protocol") == ([] if chosen is None else [chosen])
    assert connection.subprotocol == chosen


def test_the_number_of_subprotocols_is_bounded() -> None:
    names = [f"p{number}" for number in range(256)]
    agreed = handshake(("Sec-WebSocket-Protocol", ",".join(names)), subprotocols=["p255"])
    assert agreed.offered == tuple(names)
    assert agreed.subprotocol == "p255"
    refused = rejection(request(("Sec-WebSocket-Protocol", ",".join([*names, "more"]))))
    assert (refused.status, refused.body) == (400, "over 256 subprotocols are offered\n")


def test_require_subprotocol() -> None:
    agreed = handshake(("Sec-WebSocket-Protocol", "a"), subprotocols=["a"], require_subprotocol=True)
    assert agreed.subprotocol == "a"
    refused = rejection(request(), subprotocols=["a", "b"], require_subprotocol=True)
    assert refused.status == 400
    assert refused.body == "no common subprotocol: the client offered none; supported: a, b\n"
    asked = request(("Sec-WebSocket-Protocol", "c, d"))
    refused = rejection(asked, subprotocols=lambda *_: None, require_subprotocol=True)
    assert refused.body == "no common subprotocol: the client offered 'c, d'\n"


def test_accept_can_override_the_subprotocol() -> None:
    agreed = handshake(("Sec-WebSocket-Protocol", "a, b"), subprotocols=["a"])
    _, headers, connection = agreed.accept(subprotocol="b")
    assert (headers["Sec-WebSocket-Protocol"], connection.subprotocol) == ("b", "b")
    _, headers, connection = agreed.accept(subprotocol=None)
    assert ("Sec-WebSocket-Protocol" in headers, connection.subprotocol) == (False, None)


def test_s4_2_2_item5_a_subprotocol_that_was_not_offered() -> None:
    with pytest.raises(LocalProtocolError, match="'c' was not offered; the client offered 'a, b'"):
        handshake(("Sec-WebSocket-Protocol", "a, b")).accept(subprotocol="c")
    with pytest.raises(LocalProtocolError, match="the client offered none"):
        handshake().accept(subprotocol="c")
    with pytest.raises(LocalProtocolError, match="callable chose subprotocol 'c'; the client offered 'a'"):
        handshake(("Sec-WebSocket-Protocol", "a"), subprotocols=lambda *_: "c")


# --- settings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "hint"),
    [
        ({"origins": "https://a.example"}, ValueError, "a list of origins"),
        ({"origins": ["*"]}, ValueError, "ANY_ORIGIN"),
        ({"origins": ["a.example"]}, ValueError, "scheme://host"),
        ({"origins": ["https://a.example/"]}, ValueError, "without a path"),
        ({"origins": [b"https://a.example"]}, TypeError, "pattern of str"),
        ({"origins": [re.compile(b"x")]}, TypeError, "pattern of str"),
        ({"origins": None}, TypeError, "a list of origins"),
        ({"origins": iter(["https://a.example"])}, TypeError, "a list of origins"),
        ({"subprotocols": "chat"}, LocalProtocolError, r"write \['chat'\]"),
        ({"subprotocols": ["a b"]}, LocalProtocolError, "not a token"),
        ({"subprotocols": ["a\r\nb"]}, LocalProtocolError, "not a token"),
        ({"subprotocols": ["a", "a"]}, LocalProtocolError, "twice"),
        ({"extensions": [PermessageDeflate(), PermessageDeflate()]}, ValueError, "one name"),
    ],
)
def test_settings_that_cannot_work_are_refused_for_every_request(
    settings: dict[str, Any], error: type[Exception], hint: str
) -> None:
    for asked in (request(), request(("Origin", "null")), request(method="POST")):
        with pytest.raises(error, match=hint):
            negotiate(asked, **{"origins": SAME_HOST, **settings})


# --- rejections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "reason", "headers"),
    [
        (request(method="POST"), 405, "GET request, not 'POST'", {"Allow": "GET", "Connection": "close"}),
        (request(version=(1, 0)), 400, "HTTP/1.1", {"Connection": "close"}),
        (request(without="Host"), 400, "exactly one Host header is needed, not none", {}),
        (request(("Host", "b")), 400, "exactly one Host header is needed, not 2", {}),
        (request(("Host", ""), without="Host"), 400, "Host header is empty", {}),
        (request(("Host", "a/b"), without="Host"), 400, "Host header is not", {}),
        (request(without="Connection"), 400, "Connection", {"Connection": "close"}),
        (request(without="Sec-WebSocket-Key"), 400, "Sec-WebSocket-Key header is needed, not none", {}),
        (request(body=b"x"), 400, "no body", {}),
        (
            request(without="Upgrade"),
            426,
            "no Upgrade: websocket",
            {"Upgrade": "websocket", "Connection": "close, upgrade", "Sec-WebSocket-Version": "13"},
        ),
        (
            request(without="Sec-WebSocket-Version"),
            426,
            "must be 13, but is missing",
            {"Upgrade": "websocket", "Connection": "close, upgrade", "Sec-WebSocket-Version": "13"},
        ),
    ],
)
def test_rejections(asked: Request, status: int, reason: str, headers: dict[str, str]) -> None:
    refused = rejection(asked)
    assert refused.status == status
    assert reason in refused.body
    for name, value in headers.items():
        assert refused.headers.get_all(name) == [value]
    assert isinstance(refused.error, HandshakeError)


def test_what_a_peer_sent_is_shown_quoted_and_shortened() -> None:
    long = "x" * 10_000
    for asked in (
        request(("Origin", long)),
        request(method=long),
        request(("Sec-WebSocket-Version", "\x9b1m" + long), without="Sec-WebSocket-Version"),
        request(("Sec-WebSocket-Protocol", long), ("Sec-WebSocket-Protocol", long)),
        request(("Host", f"{long}/"), without="Host"),
        request(("Host", long), ("Origin", "http://a"), without="Host"),
    ):
        body = rejection(asked).body
        assert len(body) < 500
        assert body.isprintable() or body[:-1].isprintable()


# --- RFC 8441 ---------------------------------------------------------------------------------------------


def connect_request(*headers: tuple[str, str], version: str = "13", **changes: Any) -> Request:
    arguments: dict[str, Any] = {"method": "CONNECT", "target": "/chat", "version": (2, 0), **changes}
    lines = [("host", "server.example.com"), ("sec-websocket-version", version), *headers]
    return Request(headers=lines, **arguments)


def test_rfc_8441_s5_extended_connect() -> None:
    asked = connect_request(
        ("sec-websocket-protocol", "chat, superchat"), ("origin", "https://server.example.com")
    )
    outcome = negotiate(asked, origins=SAME_HOST, subprotocols=["superchat"], protocol="websocket")
    assert isinstance(outcome, Handshake)
    assert outcome.key is None
    status, headers, connection = outcome.accept(headers={"x-extra": "1"})
    # RFC 8441 s5: a 2xx; Sec-WebSocket-Key and -Accept are not used; RFC 9113 s8.2.2: no connection-specific fields.
    assert status == 200
    assert list(headers) == [("Sec-WebSocket-Protocol", "superchat"), ("x-extra", "1")]

    # A stream of HTTP/2 then carries frames, and its end is the end of the connection.
    driver = Driver(connection)
    (message,) = driver.feed(fb.build(fb.TEXT, b"Hello", mask=fb.SAMPLE_MASK))
    assert isinstance(message, Message)
    connection.send_text("World")
    driver.settle()
    assert driver.take() == fb.build(fb.TEXT, b"World")
    connection.close(1000, "bye")
    driver.settle()
    driver.feed(fb.build(fb.CLOSE, fb.close_payload(1000), mask=fb.SAMPLE_MASK))
    assert driver.take() == fb.build(fb.CLOSE, fb.close_payload(1000, b"bye"))
    ending = driver.gone()
    assert (ending.cause, ending.clean, ending.was_websocket) == (Cause.CLOSE_HANDSHAKE, True, True)


@pytest.mark.parametrize(
    ("asked", "protocol", "status", "reason", "more"),
    [
        (connect_request(method="GET"), "websocket", 400, "CONNECT request, not 'GET'", {}),
        (connect_request(), "connect-udp", 501, ":protocol is 'connect-udp'", {}),
        (connect_request(), "", 501, ":protocol is ''", {}),
        (connect_request(version="8"), "websocket", 400, "is '8'", {"Sec-WebSocket-Version": "13"}),
        (connect_request(("origin", "https://a.example")), "websocket", 403, "'origins'", {}),
        (connect_request(("sec-websocket-protocol", "a, a")), "websocket", 400, "twice", {}),
    ],
)
def test_rfc_8441_s5_rejections(
    asked: Request, protocol: str, status: int, reason: str, more: dict[str, str]
) -> None:
    refused = rejection(asked, protocol=protocol)
    assert refused.status == status
    assert reason in refused.body
    # RFC 9113 s8.2.2: an endpoint MUST NOT generate an HTTP/2 message containing connection-specific fields.
    assert dict(refused.headers) == {"Content-Type": "text/plain; charset=utf-8", **more}
