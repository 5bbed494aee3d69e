"""Laws of both handshakes, by Hypothesis: the cuts make no difference, and any bytes at all give one ending."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import framebuilder as fb
from handshakes import PLAIN, REQUEST, Driver, entropy, plain_response, response
from wsframe import (
    Client,
    Event,
    HandshakeError,
    Limits,
    Opened,
    PermessageDeflate,
    RequestReceived,
    Server,
    State,
    Transport,
)

LIMITS = Limits(
    max_header_line=200, max_header_bytes=600, max_header_count=12, max_body_size=20, max_early_bytes=100
)

Outcome = tuple[list[Any], bytes, list[Transport], State, tuple[Any, ...]]


def drive(driver: Driver, chunks: list[bytes], end: str) -> Outcome:
    """Everything that can be seen of a connection that receives these chunks and then ends."""
    events: list[Event] = []
    endpoint = driver.endpoint
    for chunk in chunks:
        for event in driver.feed(chunk):
            events.append(event)
            if isinstance(event, RequestReceived):
                assert isinstance(endpoint, Server)
                # As an adapter does it: at once.
                events += endpoint.accept() if event.is_websocket else endpoint.respond(200, body=event.body)
                driver.settle()
                while endpoint.has_more:
                    events += endpoint.receive_data(b"", driver.now)
                    driver.settle()
    if end == "eof":
        events += driver.eof()
    elif end == "timeout":
        events += driver.wait(10.5)
    state = endpoint.state
    ending = driver.gone()
    error = ending.error
    if isinstance(error, HandshakeError):
        shown: object = (str(error), error.status)
    else:
        shown = type(error), str(error)
    facts = (
        ending.phase, ending.cause, ending.initiator, ending.clean, ending.code, ending.reason, ending.received,
        ending.sent, ending.received_first, ending.was_websocket, shown, ending.last_received_age,
    )  # fmt: skip
    return [comparable(event) for event in events], driver.output, driver.verdicts, state, facts


def comparable(event: Event) -> Any:
    """Agreed extensions are objects with a state, and equal to nothing but themselves."""
    if isinstance(event, Opened):
        agreed = [(extension.name, extension.params) for extension in event.extensions]
        return Opened, event.subprotocol, agreed, event.headers
    return event


def a_server() -> Driver:
    return Driver(
        Server(subprotocols=["b"], extensions=[PermessageDeflate()], limits=LIMITS, random_bytes=entropy)
    )


def a_client() -> Driver:
    return Driver(
        Client(
            "ws://a",
            subprotocols=["b"],
            extensions=[PermessageDeflate()],
            limits=LIMITS,
            random_bytes=entropy,
        )
    )


def masked(opcode: int, payload: bytes = b"", **more: Any) -> bytes:
    return fb.build(opcode, payload, mask=fb.SAMPLE_MASK, **more)


TO_SERVER = [
    REQUEST
    + masked(fb.TEXT, b"Hello")
    + masked(fb.PING, b"p")
    + masked(fb.CLOSE, fb.close_payload(1000, b"bye")),
    REQUEST + masked(fb.TEXT, b"Hello") * 30,
    REQUEST + masked(fb.TEXT, b"He", fin=False) + fb.build(fb.CONTINUATION, b"llo"),
    fb.client_handshake_request(
        headers=[("Sec-WebSocket-Protocol", "a, b"), ("Sec-WebSocket-Extensions", "permessage-deflate")]
    )
    + masked(fb.TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4),
    fb.client_handshake_request(without=["Sec-WebSocket-Key"]) + REQUEST,
    fb.client_handshake_request(headers=[("Origin", "null")]) + PLAIN,
    fb.client_handshake_request(headers=[("Sec-WebSocket-Protocol", "a, a")]),
    fb.client_handshake_request(headers=[("X", "y" * 250)]),
    PLAIN + PLAIN,
    b"\r\n" + PLAIN,
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello" + REQUEST,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 21\r\n\r\n" + b"x" * 21,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(30),
    b"GET / HTTP/1.1\r\nHost: a\r\nA b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + REQUEST,
    REQUEST[:50],
    b"",
]

TO_CLIENT = [
    response()
    + fb.build(fb.TEXT, b"Hello")
    + fb.build(fb.PING, b"p")
    + fb.build(fb.CLOSE, fb.close_payload(1000)),
    b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + response(headers=[("Sec-WebSocket-Protocol", "b")]),
    response(headers=[("Sec-WebSocket-Extensions", "permessage-deflate")])
    + fb.build(fb.TEXT, bytes.fromhex("f248cdc9c90700"), rsv=4),
    response() + fb.build(fb.TEXT, b"He", fin=False) + fb.build(fb.TEXT, b"llo"),
    response() + fb.build(fb.TEXT, b"x" * 3, declared_length=1000),
    response(key="AAAA") + fb.build(fb.TEXT, b"Hello"),
    response(headers=[("Sec-WebSocket-Protocol", "a")]),
    response(headers=[("Sec-WebSocket-Extensions", "x")]),
    response(without=["Upgrade"]),
    response(http_version="1.0"),
    response(http_version="2.0"),
    plain_response("403 Forbidden", b"no", ("Content-Length", "2")) + response(),
    plain_response("403 Forbidden", b"no" * 20),
    plain_response("200 OK", b"2\r\nok\r\n0\r\n\r\n", ("Transfer-Encoding", "chunked")),
    plain_response("200 OK", b"2\r\nokX", ("Transfer-Encoding", "chunked")),
    plain_response("200 OK", b"", ("Content-Length", "1"), ("Content-Length", "1")),
    plain_response("204 No Content"),
    b"\x15\x03\x03\x00\x02\x02\x46",
    b"HTTP/1.1 101 x\r\nA: " + b"b" * 250,
    response()[:60],
    b"",
]

ENDS = ["eof", "timeout", "gone"]


def cut(data: bytes, points: list[int]) -> list[bytes]:
    inner = sorted({point for point in points if 0 < point < len(data)})
    bounds = [0, *inner, len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(bounds)] if data else []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("data", TO_SERVER)
def test_server_byte_by_byte_is_the_same_as_whole(data: bytes, end: str) -> None:
    assert drive(a_server(), cut(data, list(range(len(data)))), end) == drive(a_server(), cut(data, []), end)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("data", TO_CLIENT)
def test_client_byte_by_byte_is_the_same_as_whole(data: bytes, end: str) -> None:
    assert drive(a_client(), cut(data, list(range(len(data)))), end) == drive(a_client(), cut(data, []), end)


points = st.lists(st.integers(1, 400), max_size=8)


@given(st.sampled_from(TO_SERVER), points, st.sampled_from(ENDS))
def test_server_cuts_make_no_difference(data: bytes, where: list[int], end: str) -> None:
    assert drive(a_server(), cut(data, where), end) == drive(a_server(), cut(data, []), end)


@given(st.sampled_from(TO_CLIENT), points, st.sampled_from(ENDS))
def test_client_cuts_make_no_difference(data: bytes, where: list[int], end: str) -> None:
    assert drive(a_client(), cut(data, where), end) == drive(a_client(), cut(data, []), end)


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Something valid with a few bytes replaced, removed or put in; or anything at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        position = draw(st.integers(0, len(data)))
        removed = draw(st.integers(0, 3))
        data[position : position + removed] = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from(
                    [b"\r\n", b"\r\n\r\n", b":", b" ", b",", b"\0", b"13", b"websocket", b"HTTP/1.1"]
                ),
            )
        )
    return bytes(data)


@given(mutated(TO_SERVER), points, st.sampled_from(ENDS))
@example(b"\r", [], "eof")
@example(REQUEST + b"\x88\x01\x00", [], "eof")
def test_any_bytes_give_a_server_one_ending_whatever_the_cuts(
    data: bytes, where: list[int], end: str
) -> None:
    assert drive(a_server(), cut(data, where), end) == drive(a_server(), cut(data, []), end)


@given(mutated(TO_CLIENT), points, st.sampled_from(ENDS))
@example(b"H", [], "eof")
@example(response() + b"\x88\x01\x00", [], "eof")
def test_any_bytes_give_a_client_one_ending_whatever_the_cuts(
    data: bytes, where: list[int], end: str
) -> None:
    assert drive(a_client(), cut(data, where), end) == drive(a_client(), cut(data, []), end)


@given(mutated(TO_SERVER), st.integers(0, 3))
def test_an_answer_that_comes_late_or_never(data: bytes, when: int) -> None:
    driver = a_server()
    server = driver.endpoint
    assert isinstance(server, Server)
    for number, chunk in enumerate(cut(data, list(range(0, len(data), 60)))):
        driver.feed(chunk)
        if number == when and server.state is State.HANDSHAKE:
            server.accept() if server.handshake is not None else server.respond_upgrade_required()
            driver.settle()
    driver.wait(30)
    driver.gone()
