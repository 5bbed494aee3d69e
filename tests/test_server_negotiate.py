"""``Server.negotiate``, and limits and timeouts of ``accept``: for whoever learns of them from the request."""

from __future__ import annotations

from typing import Any

import pytest

import framebuilder as fb
from handshakes import PLAIN, REQUEST, Driver, parse_refusal, parse_reply
from wsframe import (
    ANY_ORIGIN,
    SAME_HOST,
    Cause,
    Initiator,
    Limits,
    LocalProtocolError,
    Message,
    Opened,
    PermessageDeflate,
    Request,
    Server,
    State,
    Timeouts,
    Transport,
)


def asking(*headers: tuple[str, str]) -> tuple[Server, Driver]:
    """A lenient server with an opening handshake."""
    server = Server(origins=ANY_ORIGIN)
    driver = Driver(server)
    driver.feed(fb.client_handshake_request(headers=headers))
    assert server.handshake is not None
    return server, driver


def test_what_is_in_order_can_be_accepted() -> None:
    server, driver = asking(
        ("Sec-WebSocket-Protocol", "a, b"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
        ("Origin", "http://server.example.com"),
    )
    assert server.handshake is not None
    assert (server.handshake.subprotocol, server.handshake.extensions) == (None, ())
    assert server.negotiate(origins=SAME_HOST, subprotocols=["b"], extensions=[PermessageDeflate()])
    assert server.handshake.subprotocol == "b"
    (opened,) = server.accept()
    assert isinstance(opened, Opened)
    assert opened.subprotocol == "b"
    assert len(opened.extensions) == 1
    driver.settle()
    reply = parse_reply(driver.take())
    assert reply.all("Sec-WebSocket-Protocol") == ["b"]
    assert reply.all("Sec-WebSocket-Extensions")[0].startswith("permessage-deflate")


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"origins": SAME_HOST}, 403),
        ({"origins": ["https://other.example"]}, 403),
        ({"origins": ANY_ORIGIN, "subprotocols": ["c"], "require_subprotocol": True}, 400),
        ({"origins": ANY_ORIGIN, "subprotocols": lambda request, offered: "c"}, 500),
    ],
)
def test_what_is_not_is_refused(settings: Any, status: int) -> None:
    server, driver = asking(("Origin", "http://evil.example"), ("Sec-WebSocket-Protocol", "a, b"))
    assert not server.negotiate(**settings)
    driver.settle()
    assert parse_refusal(driver.take()).status == status
    assert server.transport is Transport.SHUTDOWN_WRITE
    with pytest.raises(LocalProtocolError, match="there is no request to answer"):
        server.negotiate(origins=ANY_ORIGIN)
    with pytest.raises(LocalProtocolError, match="there is no request to answer"):
        server.accept()
    ending = driver.gone()
    assert (ending.cause, ending.initiator, ending.phase) == (
        Cause.REJECTED,
        Initiator.LOCAL,
        State.HANDSHAKE,
    )


def test_another_request_can_be_judged() -> None:
    for host, expected in (("outside.example", True), ("server.example.com", False)):
        server, _ = asking(("Origin", "https://outside.example"))
        assert server.request is not None
        lines = [line for line in server.request.headers if line[0] != "Host"]
        request = Request("GET", "/", [("Host", host), *lines])
        assert server.negotiate(origins=SAME_HOST, request=request) is expected
        if expected:
            assert server.handshake is not None
            assert server.handshake.request is request


def test_a_mistake_is_not_the_peers() -> None:
    server, driver = asking()
    with pytest.raises(ValueError, match="for every origin there is ANY_ORIGIN"):
        server.negotiate(origins=["*"])
    with pytest.raises(LocalProtocolError, match="is not a token"):
        server.negotiate(origins=ANY_ORIGIN, subprotocols=["a b"])
    assert driver.take() == b""
    assert server.negotiate(origins=ANY_ORIGIN)
    plain = Server()
    with pytest.raises(LocalProtocolError, match="there is no request to answer"):
        plain.negotiate(origins=ANY_ORIGIN)
    Driver(plain).feed(PLAIN)
    with pytest.raises(LocalProtocolError, match="there is nothing to negotiate"):
        plain.negotiate(origins=ANY_ORIGIN)


def test_limits_and_timeouts_of_the_websocket() -> None:
    for given in (False, True):
        server = Server(limits=Limits(max_message_size=3), timeouts=Timeouts(close=1.0, ping_interval=None))
        driver = Driver(server)
        driver.feed(REQUEST)
        if given:
            server.accept(limits=Limits(max_message_size=5), timeouts=Timeouts(close=7.0, ping_interval=None))
        else:
            server.accept()
        driver.settle()
        events = driver.feed(fb.build(fb.TEXT, b"1234", mask=fb.SAMPLE_MASK))
        assert [type(event) for event in events] == ([Message] if given else [])
        if not given:
            continue
        server.close(1000)
        driver.settle()
        driver.wait(6.5)
        assert driver.verdicts == [Transport.OPEN]
        driver.wait(1.0)
        assert driver.verdicts[-1] is Transport.ABORT
        assert driver.gone().cause is Cause.CLOSE_TIMEOUT


def test_what_holds_before_that_is_the_servers() -> None:
    server, driver = asking()
    driver.feed(b"x" * Limits().max_early_bytes)
    assert server.state is State.HANDSHAKE
    driver.feed(b"x")
    with pytest.raises(LocalProtocolError, match="there is no request to answer"):
        server.accept(limits=Limits(max_early_bytes=1 << 20))
