"""A server's transport after a refusal, and its deadlines. (How its connections end is the endings table.)"""

from __future__ import annotations

from typing import Any

import pytest

from handshakes import PLAIN, REQUEST, Driver, check_ending, parse_refusal, server_with
from wsframe import Cause, Initiator, LocalProtocolError, Server, State, Timeouts, Transport

C, H = State.CONNECTING, State.HANDSHAKE
OPEN, SHUTDOWN_WRITE, CLOSE, ABORT = (
    Transport.OPEN,
    Transport.SHUTDOWN_WRITE,
    Transport.CLOSE,
    Transport.ABORT,
)
LOCAL = Initiator.LOCAL


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


def test_a_host_may_leave_it_open_when_the_request_is_answered() -> None:
    server = Server()
    driver = Driver(server)
    with pytest.raises(LocalProtocolError, match="there is no request to answer"):
        server.lift_open_timeout()
    driver.feed(REQUEST[:20])
    driver.wait(9)
    driver.feed(REQUEST[20:])
    server.lift_open_timeout()
    driver.settle()
    assert driver.deadline is None
    driver.wait(1000)
    assert driver.output == b""
    server.accept()
    driver.settle()
    assert server.state is State.OPEN


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
