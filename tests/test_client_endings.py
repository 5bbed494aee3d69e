"""A client that is refused, or whose opening handshake fails: what comes out, and the full ``Disconnected``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import framebuilder as fb
from handshakes import Driver, check_ending, client_with, plain_response, response
from wsframe import (
    Cause,
    Client,
    HandshakeError,
    Initiator,
    Limits,
    LocalProtocolError,
    ResponseReceived,
    State,
    Timeouts,
    Transport,
)

C, H = State.CONNECTING, State.HANDSHAKE
OPEN, CLOSE, ABORT = Transport.OPEN, Transport.CLOSE, Transport.ABORT
LOCAL, REMOTE, TRANSPORT = Initiator.LOCAL, Initiator.REMOTE, Initiator.TRANSPORT

RESET = ConnectionResetError("reset by peer")
REFUSED = ConnectionRefusedError("nobody listens")
TLS = OSError("bad certificate")

# --- other statuses (s4.1, the response's item 1) ---------------------------------------------------------


def refused(driver: Driver, body: bytes, *, status: int = 403, age: float = 0.0) -> ResponseReceived:
    """The server has refused, and has said this much."""
    (event,) = driver.events
    assert isinstance(event, ResponseReceived)
    assert (event.status, event.body) == (status, body)
    assert driver.verdict is CLOSE
    driver.wait(1)
    driver.feed(b"more")
    driver.eof()
    check_ending(
        driver.gone(),
        H,
        Cause.REJECTED,
        REMOTE,
        error=f"the server answered {status}",
        status=status,
        age=age,
    )
    return event


LENGTH_3 = ("Content-Length", "3")
CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.mark.parametrize(
    "status",
    ["200 OK", "204 No Content", "301 Moved", "302 Found", "400 Bad", "401 No", "403 Forbidden", "404 Not Found",
     "426 Upgrade Required", "429 Slow", "500 Oops", "503 Later", "599 "],
)  # fmt: skip
def test_s4_1_response_item1_any_other_status(status: str) -> None:
    driver = client_with()[1]
    driver.feed(plain_response(status, b"", ("Content-Length", "0"), ("X-A", "1")))
    event = refused(driver, b"", status=int(status[:3]))
    assert event.headers["x-a"] == "1"
    assert driver.endpoint.connection is None


def test_a_response_to_a_websocket_request_does_not_have_to_look_like_one() -> None:
    driver = client_with()[1]
    driver.feed(response("200 OK", headers=[("Content-Length", "2")]) + b"ok")
    refused(driver, b"ok", status=200)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (plain_response("403 Forbidden", b"abc", LENGTH_3), b"abc"),
        (plain_response("403 Forbidden", b"abcdef", LENGTH_3), b"abc"),
        (plain_response("403 Forbidden", b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", CHUNKED), b"abcde"),
        (plain_response("403 Forbidden", b"0\r\nTrailer: x\r\n\r\n", CHUNKED), b""),
        (plain_response("403 Forbidden", b"x" * 10, ("Content-Length", "11")), b"x" * 10),
        (plain_response("403 Forbidden", b"x" * 1000), b"x" * 10),
        (plain_response("403 Forbidden", b"x" * 1000, ("Content-Length", "1000")), b"x" * 10),
        (plain_response("403 Forbidden", b"x", ("Content-Length", "9" * 100)), b"x"),
        (plain_response("403 Forbidden", b"20\r\n" + b"x" * 32, CHUNKED), b"x" * 10),
    ],
)
def test_the_body(data: bytes, body: bytes) -> None:
    limits = Limits(max_body_size=10)
    driver = client_with(limits=limits)[1]
    driver.feed(data)
    driver.eof()
    refused(driver, body)
    driver = client_with(limits=limits)[1]
    for byte in data:
        driver.feed(bytes([byte]))
    driver.eof()
    refused(driver, body)


def test_a_complete_body_is_not_waited_for() -> None:
    for data in (
        plain_response("403 Forbidden", b"abc", LENGTH_3),
        plain_response("403 Forbidden", b"3\r\nabc\r\n0\r\n\r\n", CHUNKED),
    ):
        driver = client_with()[1]
        driver.feed(data)
        assert driver.verdicts == [OPEN, CLOSE]
        refused(driver, b"abc")


def test_a_body_until_eof() -> None:
    driver = client_with()[1]
    driver.feed(plain_response("403 Forbidden", b"abc"))
    assert (driver.events, driver.verdict) == ([], OPEN)
    driver.feed(b"def")
    driver.eof()
    refused(driver, b"abcdef")


@pytest.mark.parametrize("framing", [LENGTH_3, CHUNKED])
def test_a_body_cut_by_eof(framing: tuple[str, str]) -> None:
    driver = client_with()[1]
    driver.feed(plain_response("403 Forbidden", b"3\r\na" if framing is CHUNKED else b"a", framing))
    driver.eof()
    refused(driver, b"a")


def test_a_body_that_is_too_slow() -> None:
    driver = client_with()[1]
    driver.feed(plain_response("403 Forbidden", b"ab", LENGTH_3))
    driver.wait(10.1)
    refused(driver, b"ab", age=10.0)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (plain_response("403 Forbidden", b"3\r\nabcX", CHUNKED), b"abc"),
        (plain_response("403 Forbidden", b"zz\r\n", CHUNKED), b""),
        (plain_response("403 Forbidden", b"", LENGTH_3, LENGTH_3), b""),
        (plain_response("403 Forbidden", b"abc", LENGTH_3, CHUNKED), b""),
    ],
)
def test_a_broken_body_does_not_hide_the_answer(data: bytes, body: bytes) -> None:
    driver = client_with()[1]
    driver.feed(data)
    refused(driver, body)
    driver = client_with()[1]
    for byte in data:
        driver.feed(bytes([byte]))
    refused(driver, body)


def test_an_answer_before_the_request() -> None:
    # A server over its limit of connections may say so at once.
    client = Client("ws://a")
    (event,) = client.receive_data(
        plain_response("503 Service Unavailable", b"", ("Content-Length", "0")), 1.0
    )
    assert isinstance(event, ResponseReceived)
    assert event.status == 503
    (ending,) = client.transport_closed()
    assert client.ending is ending
    assert (client.ending.cause, client.ending.phase) == (Cause.REJECTED, C)


def test_what_the_server_says_is_shortened() -> None:
    driver = client_with()[1]
    driver.feed(plain_response(f"403 {'x' * 10_000}", b"", ("Content-Length", "0")))
    assert len(str(driver.gone().error)) < 200
    for headers in (
        [("Upgrade", "y" * 10_000)],
        [("Sec-WebSocket-Protocol", "y" * 10_000)],
    ):
        driver = client_with()[1]
        driver.feed(response(headers=headers))
        assert len(str(driver.gone().error)) < 200


# --- all other endings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happens", "cause", "initiator", "more"),
    [
        (lambda client: client.receive_error(REFUSED, Cause.TRANSPORT_ERROR), Cause.TRANSPORT_ERROR, TRANSPORT,
         {"error": REFUSED}),
        (lambda client: client.receive_error(TLS, Cause.TLS_ERROR), Cause.TLS_ERROR, TRANSPORT,
         {"error": TLS, "code": 1015}),
        (lambda client: client.receive_error(RESET, Cause.RESET), Cause.RESET, TRANSPORT, {"error": RESET}),
        (lambda client: client.receive_eof(), Cause.EOF, REMOTE, {}),
        (lambda client: client.abort(), Cause.LOCAL_ABORT, LOCAL, {}),
        (lambda client: client.close(), Cause.LOCAL_ABORT, LOCAL, {}),
        (lambda client: client.handle_timeout(client.next_timeout(0.0) or 0.0), Cause.OPEN_TIMEOUT, LOCAL,
         {"error": "no answer"}),
    ],
)  # fmt: skip
def test_endings_before_the_request_is_out(
    happens: Callable[[Client], object], cause: Cause, initiator: Initiator, more: dict[str, Any]
) -> None:
    # TCP or TLS is not there yet, so nothing is written.
    client = Client("ws://a")
    happens(client)
    (ending,) = client.transport_closed()
    assert client.ending is ending
    check_ending(client.ending, C, cause, initiator, age=None, **more)
    assert client.data_to_send() == []


def test_the_open_timeout_is_one_for_all_of_the_handshake() -> None:
    client, driver = client_with(timeouts=Timeouts(open=3))
    for byte in b"HTTP/1.1 ":
        driver.wait(0.3)
        driver.feed(bytes([byte]))
    driver.wait(0.2)
    assert client.state is H
    driver.wait(0.2)
    assert driver.gone().cause is Cause.OPEN_TIMEOUT


def test_the_deadline_runs_from_the_first_call_that_says_what_time_it_is() -> None:
    client = Client("ws://a", timeouts=Timeouts(open=3))
    assert client.next_timeout(50.0) == 53.0
    client.data_to_send()
    client.handle_timeout(52.9)
    assert client.transport is OPEN
    client.handle_timeout(53.0)
    assert client.transport is ABORT


def test_close_checks_its_arguments_in_every_state_and_changes_nothing_later() -> None:
    client, driver = client_with()
    with pytest.raises(LocalProtocolError):
        client.close(1005)
    assert client.state is H
    driver.feed(plain_response("403 Forbidden", b"abc", LENGTH_3))
    client.close()
    # It is over already, and in good order.
    assert client.transport is CLOSE
    with pytest.raises(LocalProtocolError):
        client.close(1000, "x" * 124)
    refused(driver, b"abc")


def test_a_transport_that_does_not_close_is_aborted_at_close_timeout() -> None:
    driver = client_with()[1]
    driver.feed(plain_response("403 Forbidden", b"abc", LENGTH_3))
    driver.wait(9.9)
    assert driver.verdict is CLOSE
    driver.wait(0.2)
    assert driver.verdicts == [OPEN, CLOSE, ABORT]
    assert driver.gone().cause is Cause.REJECTED


def test_too_many_interim_responses() -> None:
    driver = client_with()[1]
    driver.feed(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
    ending = driver.gone()
    assert ending.cause is Cause.PROTOCOL_ERROR
    assert isinstance(ending.error, HandshakeError)


def test_frames_instead_of_an_answer() -> None:
    driver = client_with()[1]
    driver.feed(fb.build(fb.TEXT, b"Hello"))
    assert driver.gone().cause is Cause.NOT_HTTP
