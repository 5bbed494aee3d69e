"""Every way in which a server's connection can end before it is a WebSocket: one full ``Disconnected`` each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import framebuilder as fb
from handshakes import PLAIN, REQUEST, Driver, check_ending, parse_refusal, server_with
from wsframe import Cause, Initiator, LocalProtocolError, Server, State, Timeouts, Transport

PART = REQUEST[:40]
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)

C, H = State.CONNECTING, State.HANDSHAKE
OPEN, SHUTDOWN_WRITE, CLOSE, ABORT = (
    Transport.OPEN,
    Transport.SHUTDOWN_WRITE,
    Transport.CLOSE,
    Transport.ABORT,
)
LOCAL, REMOTE, TRANSPORT = Initiator.LOCAL, Initiator.REMOTE, Initiator.TRANSPORT

RESET = ConnectionResetError("reset by peer")
BROKEN = OSError("network is down")
TLS = OSError("bad certificate")


def step(
    received: bytes, then: Callable[[Server, Driver], object] = lambda *_: None
) -> Callable[[Server, Driver], object]:
    """A peer that sends something (a second later), and what happens a second after that."""

    def run(server: Server, driver: Driver) -> None:
        driver.wait(1)
        if received:
            driver.feed(received)
        driver.wait(1)
        then(server, driver)
        driver.settle()

    return run


def eof(_: Server, driver: Driver) -> None:
    driver.eof()


#: name: (what happens, status on the wire, verdict, phase, cause, initiator, more fields)
ROWS: dict[str, tuple[Any, int | None, Transport, State, Cause, Initiator, dict[str, Any]]] = {
    "connect and drop": (step(b"", eof), None, CLOSE, C, Cause.EOF, REMOTE, {"age": None}),
    "eof inside the head": (step(PART, eof), None, CLOSE, C, Cause.TRUNCATED, REMOTE, {"age": 1}),
    "eof inside the body": (
        step(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n1", eof),
        None, CLOSE, C, Cause.TRUNCATED, REMOTE, {"age": 1},
    ),
    "eof while a WebSocket request waits": (step(REQUEST, eof), None, CLOSE, H, Cause.EOF, REMOTE, {"age": 1}),
    "garbage": (
        step(b"\x00\xff"), 400, SHUTDOWN_WRITE, C, Cause.NOT_HTTP, LOCAL,
        {"error": "this is not HTTP", "status": 400, "age": 0},
    ),
    "tls hello": (
        step(TLS_HELLO), 400, SHUTDOWN_WRITE, C, Cause.NOT_HTTP, LOCAL,
        {"error": "it looks like TLS", "status": 400, "age": 0},
    ),
    "a request that never comes": (
        step(b"", lambda _, driver: driver.wait(8)), 408, SHUTDOWN_WRITE, C, Cause.OPEN_TIMEOUT, LOCAL,
        {"error": "no complete request within 10 s", "status": 408, "age": None},
    ),
    "a request that never finishes": (
        step(PART, lambda _, driver: driver.wait(8)), 408, SHUTDOWN_WRITE, C, Cause.OPEN_TIMEOUT, LOCAL,
        {"error": "no complete request within 10 s", "status": 408, "age": 9},
    ),
    "nobody answers a WebSocket request": (
        step(REQUEST, lambda _, driver: driver.wait(8)), 503, SHUTDOWN_WRITE, H, Cause.OPEN_TIMEOUT, LOCAL,
        {"error": "too long", "status": 503, "age": 9},
    ),
    "nobody answers a plain request": (
        step(PLAIN, lambda _, driver: driver.wait(8)), 503, SHUTDOWN_WRITE, H, Cause.OPEN_TIMEOUT, LOCAL,
        {"error": "too long", "status": 503, "age": 9},
    ),
    "reset": (
        step(b"", lambda _, driver: driver.error(RESET, Cause.RESET)),
        None, ABORT, C, Cause.RESET, TRANSPORT, {"error": RESET, "age": None},
    ),
    "reset inside the head": (
        step(PART, lambda _, driver: driver.error(RESET, Cause.RESET)),
        None, ABORT, C, Cause.RESET, TRANSPORT, {"error": RESET, "age": 1},
    ),
    "reset while a request waits": (
        step(REQUEST, lambda _, driver: driver.error(RESET, Cause.RESET)),
        None, ABORT, H, Cause.RESET, TRANSPORT, {"error": RESET, "age": 1},
    ),
    "transport error": (
        step(PART, lambda _, driver: driver.error(BROKEN, Cause.TRANSPORT_ERROR)),
        None, ABORT, C, Cause.TRANSPORT_ERROR, TRANSPORT, {"error": BROKEN, "age": 1},
    ),
    "tls handshake failed": (
        step(b"", lambda _, driver: driver.error(TLS, Cause.TLS_ERROR)),
        None, ABORT, C, Cause.TLS_ERROR, TRANSPORT, {"error": TLS, "age": None, "code": 1015},
    ),
    "gone without a word": (
        lambda _, driver: driver.feed(PART), None, OPEN, C, Cause.TRANSPORT_ERROR, TRANSPORT, {"age": 0},
    ),
    "abort": (step(b"", lambda server, _: server.abort()), None, ABORT, C, Cause.LOCAL_ABORT, LOCAL, {"age": None}),
    "abort while a request waits": (
        step(REQUEST, lambda server, _: server.abort()), None, ABORT, H, Cause.LOCAL_ABORT, LOCAL, {"age": 1},
    ),
    "close": (
        step(b"", lambda server, _: server.close()), 503, SHUTDOWN_WRITE, C, Cause.REJECTED, LOCAL,
        {"error": "closing", "status": 503, "age": None},
    ),
    "close inside the head": (
        step(PART, lambda server, _: server.close(1001, "bye")), 503, SHUTDOWN_WRITE, C, Cause.REJECTED, LOCAL,
        {"error": "closing", "status": 503, "age": 1},
    ),
    "close while a request waits": (
        step(REQUEST, lambda server, _: server.close(None)), 503, SHUTDOWN_WRITE, H, Cause.REJECTED, LOCAL,
        {"error": "closing", "status": 503, "age": 1},
    ),
    "refused by a rule": (
        step(fb.client_handshake_request(headers=[("Origin", "null")])), 403, SHUTDOWN_WRITE, H, Cause.REJECTED, LOCAL,
        {"error": "origin 'null'", "status": 403, "age": 0},
    ),
    "refused by a limit": (
        step(b"GET / HTTP/1.1\r\nX: " + b"x" * 16384), 431, SHUTDOWN_WRITE, C, Cause.REJECTED, LOCAL,
        {"error": "max_header_line", "status": 431, "age": 0},
    ),
    "refused by the application": (
        step(REQUEST, lambda server, _: server.reject(401)), 401, SHUTDOWN_WRITE, H, Cause.REJECTED, LOCAL, {"age": 1},
    ),
    "a plain request": (
        step(PLAIN, lambda server, _: server.respond(200, body="ok")),
        200, SHUTDOWN_WRITE, H, Cause.PLAIN_HTTP, LOCAL, {"age": 1},
    ),
    "too much early data": (
        step(REQUEST, lambda _, driver: driver.feed(bytes(65537))),
        400, SHUTDOWN_WRITE, H, Cause.PROTOCOL_ERROR, LOCAL,
        {"error": "max_early_bytes", "status": 400, "age": 0},
    ),
    "detached": (step(REQUEST, lambda server, _: server.detach()), None, OPEN, H, Cause.DETACHED, LOCAL, {"age": 1}),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_endings(name: str) -> None:
    run, status, verdict, phase, cause, initiator, more = ROWS[name]
    server = Server()
    driver = Driver(server)
    run(server, driver)
    assert (parse_refusal(driver.output).status if driver.output else None) == status
    assert driver.verdict is verdict
    assert driver.verdicts[0] is OPEN
    # What happens after the first terminal fact changes nothing of the ending.
    if name != "gone without a word":
        driver.wait(1)
        driver.feed(REQUEST)
        driver.eof()
        driver.error(BROKEN, Cause.TRANSPORT_ERROR)
    check_ending(driver.gone(), phase, cause, initiator, **more)


def test_no_two_rows_share_an_ending() -> None:
    endings: dict[tuple[object, ...], str] = {}
    same = {
        # The peer left: how much of the request had come is in the phase, and no more can be said.
        "eof inside the body": "eof inside the head",
        # A TLS hello is one kind of garbage; the error says which.
        "tls hello": "garbage",
        # Who is silent does not matter: nothing has been asked for, or not all of it.
        "a request that never finishes": "a request that never comes",
        "nobody answers a plain request": "nobody answers a WebSocket request",
        "reset inside the head": "reset",
        "close inside the head": "close",
        # The status in the error says what it was.
        "refused by a limit": "close",
        "refused by a rule": "close while a request waits",
    }
    for name, (_, _, _, phase, cause, initiator, more) in ROWS.items():
        key = (
            phase,
            cause,
            initiator,
            more.get("code"),
            isinstance(more.get("error"), BaseException),
            "error" in more,
        )
        if name in same:
            assert endings[key] == same[name], name
        else:
            assert key not in endings, (name, endings[key])
            endings[key] = name


# --- the transport after a refusal ------------------------------------------------------------------------


def refused(**settings: Any) -> Driver:
    driver = server_with(b"\x00", **settings)[1]
    assert driver.verdict is SHUTDOWN_WRITE
    return driver


def test_the_peers_eof_ends_the_linger() -> None:
    driver = refused()
    driver.wait(1)
    driver.feed(b"more garbage")
    driver.eof()
    assert driver.verdicts == [OPEN, SHUTDOWN_WRITE, CLOSE]
    assert driver.gone().cause is Cause.NOT_HTTP


def test_linger_of_2_s() -> None:
    driver = refused()
    driver.wait(1.9)
    driver.feed(bytes(1000))
    assert driver.verdict is SHUTDOWN_WRITE
    driver.wait(0.2)
    assert driver.verdicts == [OPEN, SHUTDOWN_WRITE, CLOSE]
    assert driver.gone().cause is Cause.NOT_HTTP


def test_linger_counts_from_when_the_refusal_has_left() -> None:
    server = Server()
    driver = Driver(server, writable=False)
    driver.feed(b"\x00")
    driver.wait(5)
    assert driver.verdict is SHUTDOWN_WRITE
    driver.writable = True
    driver.settle()
    driver.wait(1.9)
    assert driver.verdict is SHUTDOWN_WRITE
    driver.wait(0.2)
    assert driver.verdict is CLOSE


def test_what_never_leaves_is_aborted_at_close_timeout() -> None:
    driver = Driver(Server(), writable=False)
    driver.feed(b"\x00")
    driver.wait(9.9)
    assert driver.verdict is SHUTDOWN_WRITE
    driver.wait(0.2)
    assert driver.verdict is ABORT
    assert driver.deadline is None
    check_ending(driver.gone(), C, Cause.NOT_HTTP, LOCAL, error="this is not HTTP", status=400, age=0.0)


def test_a_transport_that_does_not_close_is_aborted_at_close_timeout() -> None:
    driver = refused(timeouts=Timeouts(close=3, linger=1))
    driver.wait(1)
    assert driver.verdict is CLOSE
    driver.wait(2.1)
    assert driver.verdicts == [OPEN, SHUTDOWN_WRITE, CLOSE, ABORT]


def test_a_client_that_half_closed_is_waited_for_no_longer_than_the_open_timeout() -> None:
    driver = server_with(PLAIN)[1]
    driver.eof()
    driver.wait(10.1)
    assert parse_refusal(driver.output).status == 503
    assert driver.verdict is CLOSE
    assert driver.gone().cause is Cause.OPEN_TIMEOUT


def test_the_open_timeout_is_one_for_all_of_the_handshake() -> None:
    server = Server()
    driver = Driver(server)
    # A byte a second keeps nobody alive (slowloris).
    for index in range(9):
        driver.wait(1)
        driver.feed(REQUEST[index : index + 1])
    driver.wait(0.9)
    assert driver.output == b""
    driver.wait(0.2)
    assert parse_refusal(driver.output).status == 408
    # The request that is now complete is discarded.
    assert driver.feed(REQUEST[9:]) == []
    assert driver.gone().cause is Cause.OPEN_TIMEOUT


def test_the_deadline_runs_from_the_first_call_that_says_what_time_it_is() -> None:
    server = Server(timeouts=Timeouts(open=3))
    assert server.next_timeout(50.0) == 53.0
    assert server.handle_timeout(52.9) == []
    assert server.data_to_send() == []
    server.handle_timeout(53.0)
    assert server.data_to_send()[0].startswith(b"HTTP/1.1 408 ")


def test_close_checks_its_arguments_in_every_state_and_is_idempotent() -> None:
    server, driver = server_with(REQUEST)
    server.close()
    server.close()
    driver.settle()
    assert driver.take().count(b"HTTP/1.1 503 ") == 1
    for code in (1005, 1006, 1015, 999, 5000):
        with pytest.raises(LocalProtocolError):
            server.close(code)
    server.close(1001, "again")
    driver.settle()
    assert driver.output == b""
    driver.gone()
    with pytest.raises(LocalProtocolError):
        server.close(1006)


def test_abort_drops_what_has_not_left() -> None:
    server = Server()
    server.receive_data(b"\x00")
    server.abort()
    assert server.data_to_send() == []
    assert server.transport is ABORT
    (ending,) = server.transport_closed()
    assert server.ending is ending
    assert server.ending.cause is Cause.NOT_HTTP
