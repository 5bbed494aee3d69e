"""``Client``: the request, and the 101 that answers it (RFC 6455 s4.1)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

import framebuilder as fb
from handshakes import Driver, client_with, entropy, parse_reply, response
from subprotocols import ANSWERS
from wsframe import (
    Cause,
    Client,
    CloseReceived,
    Endpoint,
    Event,
    HandshakeError,
    Headers,
    InvalidURI,
    Limits,
    LocalProtocolError,
    Message,
    Opened,
    PermessageDeflate,
    PingReceived,
    Role,
    Server,
    State,
    Timeouts,
    Transport,
    WebSocketURI,
    __version__,
    parse_uri,
)


def test_client_is_an_endpoint() -> None:
    endpoint: Endpoint = Client("ws://a")
    assert endpoint.state is State.CONNECTING


# --- the request ------------------------------------------------------------------------------------------


def request_lines(
    uri: str | WebSocketURI = "ws://server.example.com/", **settings: Any
) -> tuple[str, list[str]]:
    client = Client(uri, random_bytes=entropy, **settings)
    data = b"".join(client.data_to_send())
    head, separator, body = data.partition(b"\r\n\r\n")
    assert (separator, body) == (b"\r\n\r\n", b"")
    start, *lines = head.decode("latin-1").split("\r\n")
    assert "\r" not in head.decode("latin-1").replace("\r\n", "")
    return start, lines


def header(name: str, *arguments: Any, **settings: Any) -> list[str]:
    _, lines = request_lines(*arguments, **settings)
    return [line.split(": ", 1)[1] for line in lines if line.lower().startswith(f"{name.lower()}: ")]


def test_s4_1_the_whole_request() -> None:
    client, driver = client_with("ws://server.example.com/chat?x=1", user_agent=None)
    assert driver.output == (
        b"GET /chat?x=1 HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (client.request.method, client.request.target) == ("GET", "/chat?x=1")
    assert client.uri == parse_uri("ws://server.example.com/chat?x=1")
    assert (client.state, client.transport, client.connection) == (State.HANDSHAKE, Transport.OPEN, None)


def test_the_state_is_handshake_once_the_request_is_handed_out() -> None:
    client = Client("ws://a")
    before = client.state
    assert client.buffered == sum(map(len, client.data_to_send()))
    assert (before, client.state) == (State.CONNECTING, State.HANDSHAKE)
    assert client.data_to_send() == []


def test_s4_1_item1_to_3_get_http_1_1_and_the_resource_name() -> None:
    for uri, target in (
        ("ws://a", "/"),
        ("ws://a/", "/"),
        ("ws://a?x", "/?x"),
        ("ws://a/b/c?d=e&f", "/b/c?d=e&f"),
        ("wss://a/ä", "/%C3%A4"),
        ("ws://a//", "//"),
        (WebSocketURI(secure=False, host="a", port=80, target="/x"), "/x"),
    ):
        assert request_lines(uri)[0] == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("ws://example.com", "example.com"),
        ("ws://example.com:80", "example.com"),
        ("ws://example.com:443", "example.com:443"),
        ("ws://example.com:8080", "example.com:8080"),
        ("wss://example.com:443", "example.com"),
        ("wss://example.com:80", "example.com:80"),
        ("ws://EXAMPLE.com", "example.com"),
        ("ws://[::1]", "[::1]"),
        ("ws://[::1]:8080", "[::1]:8080"),
        ("ws://[fe80::1%25eth0]:81", "[fe80::1]:81"),
        ("ws://user:secret@example.com", "example.com"),
    ],
)
def test_s4_1_item4_host(uri: str, host: str) -> None:
    assert header("Host", uri) == [host]


def test_s4_1_items_5_6_9() -> None:
    assert header("Upgrade") == ["websocket"]
    assert header("Connection") == ["Upgrade"]
    assert header("Sec-WebSocket-Version") == ["13"]


def test_s4_1_item7_the_key_is_16_bytes_from_the_entropy() -> None:
    assert header("Sec-WebSocket-Key") == [fb.SAMPLE_KEY]
    asked: list[int] = []

    def random_bytes(n: int) -> bytes:
        asked.append(n)
        return b"\xff" * n

    request = Client("ws://a", random_bytes=random_bytes).request
    assert asked == [16]
    assert base64.b64decode(request.headers["Sec-WebSocket-Key"]) == b"\xff" * 16
    # A nonce, for each connection anew.
    keys = {Client("ws://a").request.headers["Sec-WebSocket-Key"] for _ in range(10)}
    assert len(keys) == 10


def test_s4_1_item8_origin() -> None:
    assert header("Origin") == []
    assert header("Origin", origin="https://app.example.com") == ["https://app.example.com"]


def test_s4_1_item10_subprotocols() -> None:
    assert header("Sec-WebSocket-Protocol") == []
    assert header("Sec-WebSocket-Protocol", subprotocols=["b", "a"]) == ["b, a"]
    for wrong in (["a", "a"], ["a b"], [""], ["a,b"], ["a\r\nX: y"], ["ä"], "chat"):
        with pytest.raises(LocalProtocolError):
            Client("ws://a", subprotocols=wrong)


def test_s4_1_item11_extensions() -> None:
    assert header("Sec-WebSocket-Extensions") == []
    (offer,) = header("Sec-WebSocket-Extensions", extensions=[PermessageDeflate()])
    assert offer.startswith("permessage-deflate")
    with pytest.raises(ValueError, match="name"):
        Client("ws://a", extensions=[PermessageDeflate(), PermessageDeflate()])


def test_s4_1_item12_other_headers() -> None:
    lines = [("Cookie", "a=b"), ("Cookie", "c=d"), ("X-A", "é")]
    for headers in (lines, Headers(lines), iter(lines)):
        assert request_lines(headers=headers)[1][-3:] == ["Cookie: a=b", "Cookie: c=d", "X-A: é"]


def test_user_agent() -> None:
    assert header("User-Agent") == [f"wsframe/{__version__}"]
    assert header("User-Agent", user_agent="x/1") == ["x/1"]
    assert header("User-Agent", user_agent=None) == []
    assert header("User-Agent", headers={"user-agent": "y/2"}) == ["y/2"]


@pytest.mark.parametrize(
    ("userinfo", "credentials"),
    [
        ("user:pass@", b"user:pass"),
        ("user@", b"user:"),
        ("u%40x:p%3Aw%C3%A4@", "u@x:p:wä".encode()),
        (":p@", b":p"),
    ],
)
def test_rfc_7617_authorization_from_the_uri(userinfo: str, credentials: bytes) -> None:
    uri = f"ws://{userinfo}a/"
    (value,) = header("Authorization", uri)
    scheme, _, encoded = value.partition(" ")
    assert (scheme, base64.b64decode(encoded)) == ("Basic", credentials)
    assert header("Authorization", uri, headers={"authorization": "Bearer x"}) == ["Bearer x"]
    assert userinfo not in str(request_lines(uri)).replace(value, "")


def test_no_authorization_without_userinfo() -> None:
    assert header("Authorization", "ws://a/") == []


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\r\nX: y", "\x7f", "€"])
def test_injection_is_refused(bad: str) -> None:
    wrong: list[dict[str, Any]] = [
        {"headers": {"X": f"a{bad}b"}},
        {"headers": {f"X{bad}": "a"}},
        {"origin": f"http://a{bad}"},
        {"user_agent": f"a{bad}"},
        {"subprotocols": [f"a{bad}"]},
    ]
    for settings in wrong:
        with pytest.raises(LocalProtocolError):
            Client("ws://a/", **settings)
    by_hand = WebSocketURI(secure=False, host=f"a{bad}", port=80)
    with pytest.raises(LocalProtocolError):
        Client(by_hand)
    by_hand = WebSocketURI(secure=False, host="a", port=80, target=f"/{bad}")
    with pytest.raises(LocalProtocolError):
        Client(by_hand)


@pytest.mark.parametrize(
    "name",
    [
        "Host", "upgrade", "Connection", "Sec-WebSocket-Key", "SEC-WEBSOCKET-VERSION", "Sec-WebSocket-Protocol",
        "Sec-WebSocket-Extensions", "Sec-WebSocket-Accept", "Content-Length", "Transfer-Encoding", "Origin",
    ],
)  # fmt: skip
def test_reserved_headers(name: str) -> None:
    with pytest.raises(LocalProtocolError, match=name):
        Client("ws://a/", headers={name: "x"})


@pytest.mark.parametrize("uri", ["http://a", "a", "ws://", "ws://a#f", ""])
def test_s3_not_a_websocket_uri(uri: str) -> None:
    with pytest.raises(InvalidURI):
        Client(uri)


# --- the 101 ----------------------------------------------------------------------------------------------


def opened(data: bytes, **settings: Any) -> Opened:
    client, driver = client_with(**settings)
    (event,) = driver.feed(data)
    assert isinstance(event, Opened)
    assert client.state is State.OPEN
    assert client.connection is not None
    assert client.connection.subprotocol == event.subprotocol
    assert client.connection.extensions == event.extensions
    return event


def fails(data: bytes, reason: str, **settings: Any) -> None:
    client, driver = client_with(**settings)
    driver.take()
    assert driver.feed(data) == []
    # s7.1.7: _Fail the WebSocket Connection_; the client closes, and nothing is sent to whoever that is.
    assert (driver.output, driver.verdict) == (b"", Transport.CLOSE)
    assert driver.feed(fb.build(fb.TEXT, b"x")) == []
    ending = driver.gone()
    assert (ending.cause, ending.phase, ending.code) == (Cause.PROTOCOL_ERROR, State.HANDSHAKE, 1006)
    assert (ending.was_websocket, ending.clean, ending.sent) == (False, False, None)
    assert isinstance(ending.error, HandshakeError)
    assert ending.error.status == 101
    assert reason in str(ending.error)
    assert client.connection is None


def test_the_whole_handshake() -> None:
    client, driver = client_with(timeouts=Timeouts(ping_interval=None))
    driver.take()
    (event,) = driver.feed(response(headers=[("Server", "x")]))
    assert isinstance(event, Opened)
    assert (event.subprotocol, event.extensions, event.headers["server"]) == (None, (), "x")
    assert driver.deadline is None
    assert driver.take() == b""
    connection = client.connection
    assert connection is not None
    assert connection.role is Role.CLIENT
    connection.send_text("Hello")
    driver.settle()
    (frame,) = fb.parse_all(driver.take())
    assert (frame.opcode, frame.masked, frame.payload) == (fb.TEXT, True, b"Hello")
    client.close(1000, "bye")
    driver.settle()
    (frame,) = fb.parse_all(driver.take())
    assert (frame.opcode, frame.payload) == (fb.CLOSE, fb.close_payload(1000, b"bye"))
    (event,) = driver.feed(fb.build(fb.CLOSE, fb.close_payload(1000)))
    assert isinstance(event, CloseReceived)
    driver.eof()
    ending = driver.gone()
    assert (ending.cause, ending.clean, ending.was_websocket) == (Cause.CLOSE_HANDSHAKE, True, True)


def test_the_settings_reach_the_connection() -> None:
    limits, timeouts = Limits(max_message_size=10), Timeouts(close=1)
    client, driver = client_with(limits=limits, timeouts=timeouts, decode_text=False)
    _, message = driver.feed(response() + fb.build(fb.TEXT, b"abc"))
    assert isinstance(message, Message)
    assert message.data == b"abc"
    assert client.connection is not None
    assert (client.connection.limits, client.connection.timeouts) == (limits, timeouts)
    client, driver = client_with(stream=True)
    (_, chunk) = driver.feed(response() + fb.build(fb.TEXT, b"abc", fin=False))
    assert not isinstance(chunk, Message)
    assert client.connection is not None
    assert client.connection.limits.max_message_size == 16 << 20


@pytest.mark.parametrize(
    ("lines", "works"),
    [
        ([("Upgrade", "websocket")], True),
        ([("upgrade", "WebSocket")], True),
        ([], False),
        ([("Upgrade", "")], False),
        ([("Upgrade", "h2c")], False),
        ([("Upgrade", "websocket, h2c")], False),
        ([("Upgrade", "websocket"), ("Upgrade", "websocket")], False),
        ([("Upgrade", "websocket/13")], False),
    ],
)
def test_s4_1_response_item2_upgrade(lines: list[tuple[str, str]], works: bool) -> None:
    data = response(headers=lines, without=["Upgrade"])
    opened(data) if works else fails(data, "Upgrade header must be 'websocket'")


@pytest.mark.parametrize(
    ("lines", "works"),
    [
        ([("Connection", "upgrade")], True),
        ([("connection", "keep-alive, UPGRADE")], True),
        ([("Connection", "keep-alive"), ("Connection", "Upgrade")], True),
        ([], False),
        ([("Connection", "close")], False),
        ([("Connection", "upgrades")], False),
    ],
)
def test_s4_1_response_item3_connection(lines: list[tuple[str, str]], works: bool) -> None:
    data = response(headers=lines, without=["Connection"])
    opened(data) if works else fails(data, "Connection header does not contain 'Upgrade'")


@pytest.mark.parametrize(
    ("values", "works"),
    [
        ([fb.SAMPLE_ACCEPT], True),
        ([f" \t{fb.SAMPLE_ACCEPT} "], True),
        ([], False),
        ([""], False),
        ([fb.SAMPLE_ACCEPT.lower()], False),
        ([fb.SAMPLE_ACCEPT[:-1]], False),
        ([fb.SAMPLE_KEY], False),
        ([fb.accept_for("AAAAAAAAAAAAAAAAAAAAAA==")], False),
        ([fb.SAMPLE_ACCEPT, fb.SAMPLE_ACCEPT], False),
        ([f"{fb.SAMPLE_ACCEPT}, {fb.SAMPLE_ACCEPT}"], False),
    ],
)
def test_s4_1_response_item4_accept(values: list[str], works: bool) -> None:
    lines = [("Sec-WebSocket-Accept", value) for value in values]
    data = response(headers=lines, without=["Sec-WebSocket-Accept"])
    opened(data) if works else fails(data, "Sec-WebSocket-Accept does not belong to our key")


@pytest.mark.parametrize(("offered", "values", "reason"), ANSWERS)
def test_s4_1_response_item6_subprotocol(offered: list[str], values: list[str], reason: str | None) -> None:
    data = response(headers=[("Sec-WebSocket-Protocol", value) for value in values])
    if reason is None:
        assert opened(data, subprotocols=offered).subprotocol == (values[0] if values else None)
    else:
        fails(data, reason, subprotocols=offered)


def test_what_was_offered_is_what_counts() -> None:
    subprotocols = ["a"]
    client, driver = client_with(subprotocols=subprotocols)
    subprotocols.append("b")
    driver.feed(response(headers=[("Sec-WebSocket-Protocol", "b")]))
    assert driver.gone().cause is Cause.PROTOCOL_ERROR
    assert client.connection is None


def test_a_101_of_http_1_0() -> None:
    fails(response(http_version="1.0"), "HTTP/1.0")


def test_a_101_before_the_request_is_out() -> None:
    # Whoever answers before being asked is no WebSocket server, and cannot know the key.
    client = Client("ws://a", random_bytes=entropy)
    assert client.receive_data(response()) == []
    (ending,) = client.transport_closed()
    assert client.ending is ending
    assert (client.ending.cause, client.ending.phase) == (Cause.PROTOCOL_ERROR, State.CONNECTING)
    assert "before the request was sent" in str(client.ending.error)


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints", "199 "])
def test_rfc_9110_s15_2_interim_responses_are_passed_over(status: str) -> None:
    interim = f"HTTP/1.1 {status}\r\nLink: </a>\r\n\r\n".encode()
    opened(interim + response())
    client, driver = client_with()
    for _ in range(3):
        assert driver.feed(interim) == []
    (event,) = driver.feed(response())
    assert isinstance(event, Opened)
    assert client.state is State.OPEN


def test_the_body_that_a_101_cannot_have_is_frames() -> None:
    event = opened(response(headers=[("Content-Length", "100")]))
    assert event.headers["content-length"] == "100"


def test_frames_in_the_chunk_of_the_101_come_out_after_opened() -> None:
    frames = fb.build(fb.TEXT, b"one") + fb.build(fb.PING, b"p") + fb.build(fb.TEXT, b"two")
    data = response() + frames
    for cut in (len(response()), len(response()) + 3, len(data)):
        client, driver = client_with()
        driver.take()
        events: list[Event] = driver.feed(data[:cut]) + driver.feed(data[cut:])
        assert [type(event) for event in events] == [Opened, Message, PingReceived, Message]
        (pong,) = fb.parse_all(driver.take())
        assert (pong.opcode, pong.payload) == (fb.PONG, b"p")
        assert client.state is State.OPEN


def test_a_close_in_the_chunk_of_the_101() -> None:
    client, driver = client_with()
    events = driver.feed(response() + fb.build(fb.CLOSE, fb.close_payload(1013, b"full")))
    assert [type(event) for event in events] == [Opened, CloseReceived]
    driver.eof()
    ending = driver.gone()
    assert (ending.cause, ending.code, ending.reason, ending.clean) == (
        Cause.CLOSE_HANDSHAKE,
        1013,
        "full",
        True,
    )
    assert client.connection is not None


def test_a_lot_of_frames_in_the_chunk_of_the_101() -> None:
    client, _ = client_with()
    events = client.receive_data(response() + fb.build(fb.PING) * 1000, 101.0)
    first = len(events)
    while client.has_more:
        events += client.receive_data(b"", 101.0)
    assert 1 < first <= 257
    assert len(events) == 1001


def test_a_server_of_ours_is_a_server_for_our_client() -> None:
    client = Client("ws://h/x", subprotocols=["a", "b"], extensions=[PermessageDeflate()])
    server = Server(subprotocols=["b"], extensions=[PermessageDeflate()])
    there, here = Driver(server), Driver(client)
    there.feed(here.take())
    server.accept()
    there.settle()
    assert parse_reply(there.output).status == 101
    here.feed(there.take())
    assert client.connection is not None
    assert server.connection is not None
    assert client.connection.subprotocol == server.connection.subprotocol == "b"
    client.connection.send_text("x" * 1000)
    here.settle()
    (message,) = there.feed(here.take())
    assert isinstance(message, Message)
    assert message.data == "x" * 1000
