"""Pings in a fixed period: each must be answered by the next. Time is a number."""

from __future__ import annotations

import pytest

import framebuilder as fb
from pair import look, lose, peer_frame, sent_frames
from wsframe import Cause, Connection, Message, PongReceived, Role, State, Timeouts, Transport

both_roles = pytest.mark.parametrize("role", Role)

PERIOD = 10.0


def beating(role: Role) -> Connection:
    """A connection with a heartbeat, which begins at 0."""
    connection = Connection(role, timeouts=Timeouts(heartbeat=PERIOD))
    assert connection.next_timeout(0.0) == PERIOD
    return connection


def step(connection: Connection, now: float, unsent: int = 0) -> list[tuple[int, bytes]]:
    """A deadline has come: what an adapter does then."""
    assert connection.handle_timeout(now) == []
    frames = sent_frames(connection)
    connection.unsent(unsent)
    connection.next_timeout(now)
    return frames


def ping(connection: Connection, now: float, unsent: int = 0) -> bytes:
    """A ping goes out now; its payload."""
    ((opcode, payload),) = step(connection, now, unsent)
    assert opcode == fb.PING
    return payload


def pong(role: Role, payload: bytes) -> bytes:
    return peer_frame(role, fb.PONG, payload)


@both_roles
def test_a_ping_in_every_period_whatever_comes(role: Role) -> None:
    connection = beating(role)
    seen = set()
    for turn in range(1, 50):
        now = turn * PERIOD
        assert connection.receive_data(peer_frame(role, fb.TEXT, b"x"), now - 0.1) == [Message("x", 1)]
        assert step(connection, now - 0.1) == []
        payload = ping(connection, now)
        seen.add(payload)
        assert connection.receive_data(pong(role, payload), now + 0.5) == [PongReceived(payload, 0.5)]
        assert connection.next_timeout(now + 0.5) == now + PERIOD
    assert len(seen) == 49
    assert connection.latency == 0.5
    assert look(connection) == (State.OPEN, Transport.OPEN)


@pytest.mark.parametrize("talk", [fb.TEXT, fb.PING, fb.PONG])
@both_roles
def test_who_has_not_answered_by_the_next_is_dropped_however_much_it_says(role: Role, talk: int) -> None:
    connection = beating(role)
    ping(connection, PERIOD)
    for moment in (12.0, 15.0, 19.9):
        connection.receive_data(peer_frame(role, talk, b"I"), moment)
        sent_frames(connection)
    # The chance to read once more.
    assert step(connection, 2 * PERIOD) == []
    assert look(connection) == (State.OPEN, Transport.OPEN)
    assert connection.next_timeout(2 * PERIOD) == pytest.approx(20.1)
    connection.receive_data(peer_frame(role, talk, b"I"), 20.05)
    sent_frames(connection)
    assert step(connection, 20.1) == [(fb.CLOSE, fb.close_payload(1011, b"keepalive ping timeout"))]
    assert look(connection) == (State.CLOSING, Transport.ABORT)
    assert connection.next_timeout(20.1) is None
    assert lose(connection).cause is Cause.PING_TIMEOUT


@both_roles
def test_the_pong_of_an_earlier_one_is_late_and_ignored(role: Role) -> None:
    connection = beating(role)
    first = ping(connection, PERIOD)
    connection.receive_data(pong(role, first), 11.0)
    ping(connection, 2 * PERIOD)
    assert connection.receive_data(pong(role, first), 21.0) == [PongReceived(first, None)]
    step(connection, 3 * PERIOD)
    step(connection, 3 * PERIOD + 0.1)
    assert lose(connection).cause is Cause.PING_TIMEOUT


@both_roles
def test_the_pong_of_a_later_ping_counts_for_the_earlier(role: Role) -> None:
    # s5.5.3: a Pong may answer only the most recent Ping.
    connection = beating(role)
    ping(connection, PERIOD)
    connection.ping(b"mine", 11.0)
    sent_frames(connection)
    connection.receive_data(pong(role, b"mine"), 12.0)
    ping(connection, 2 * PERIOD)


@pytest.mark.parametrize("answered", [True, False])
@both_roles
def test_many_pings_of_the_application_do_not_push_it_out(role: Role, answered: bool) -> None:
    connection = beating(role)
    payload = ping(connection, PERIOD)
    for number in range(200):
        connection.ping(b"%d" % number, 11.0)
    sent_frames(connection)
    if answered:
        assert connection.receive_data(pong(role, payload), 12.0) == [PongReceived(payload, 2.0)]
        ping(connection, 2 * PERIOD)
    else:
        connection.receive_data(pong(role, b"unknown"), 12.0)
        step(connection, 2 * PERIOD)
        step(connection, 2 * PERIOD + 0.1)
        assert lose(connection).cause is Cause.PING_TIMEOUT


@both_roles
def test_a_pong_in_the_last_moment_brings_the_next_ping_at_once(role: Role) -> None:
    # As after a blocked event loop: the deadline is over, and the answer is waiting in the socket.
    connection = beating(role)
    payload = ping(connection, PERIOD)
    assert step(connection, 35.0) == []
    connection.receive_data(pong(role, payload), 35.01)
    assert connection.latency == pytest.approx(25.01)
    assert connection.next_timeout(35.01) == 35.01
    ping(connection, 35.01)
    assert connection.next_timeout(35.02) == pytest.approx(45.01)


@both_roles
def test_while_reading_is_paused_nothing_need_be_answered(role: Role) -> None:
    connection = beating(role)
    ping(connection, PERIOD)
    connection.reading_paused(True)
    assert connection.next_timeout(12.0) is None
    assert step(connection, 100.0) == []
    connection.reading_paused(False)
    assert connection.next_timeout(100.0) == 2 * PERIOD
    ping(connection, 100.0)
    step(connection, 110.0)
    step(connection, 110.1)
    assert lose(connection).cause is Cause.PING_TIMEOUT


@both_roles
def test_many_pauses_do_not_change_the_period(role: Role) -> None:
    connection = beating(role)
    for moment in (1.0, 2.0, 3.0):
        connection.reading_paused(True)
        connection.next_timeout(moment)
        connection.reading_paused(False)
    # There was none yet: it begins afresh.
    assert connection.next_timeout(3.0) == 13.0
    ping(connection, 13.0)
    for moment in (14.0, 15.0, 16.0):
        connection.reading_paused(True)
        connection.next_timeout(moment)
        connection.reading_paused(False)
        assert connection.next_timeout(moment) == 23.0


@both_roles
def test_the_period_runs_from_when_the_ping_has_left(role: Role) -> None:
    connection = beating(role)
    connection.send_bytes(b"x" * 1000)
    connection.data_to_send()
    ping(connection, PERIOD, unsent=500)
    connection.unsent(300)
    assert connection.next_timeout(18.0) is not None
    assert step(connection, 20.0, unsent=300) == []
    connection.unsent(0)
    connection.next_timeout(25.0)
    assert step(connection, 28.0) == []
    assert look(connection) == (State.OPEN, Transport.OPEN)
    step(connection, 35.0)
    step(connection, 35.1)
    assert lose(connection).cause is Cause.PING_TIMEOUT


@both_roles
def test_a_ping_that_does_not_leave_is_a_slow_peer(role: Role) -> None:
    connection = beating(role)
    connection.send_bytes(b"x" * 1000)
    connection.data_to_send()
    ping(connection, PERIOD, unsent=500)
    # It talks on, and takes nothing.
    connection.receive_data(peer_frame(role, fb.TEXT, b"x"), 15.0)
    step(connection, 20.0, unsent=500)
    step(connection, 20.1, unsent=500)
    connection.abort()
    assert lose(connection).cause is Cause.SLOW_PEER


@both_roles
def test_closing_ends_it(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(heartbeat=1.0, close=50.0))
    connection.next_timeout(0.0)
    connection.close()
    connection.data_to_send()
    assert connection.next_timeout(0.5) == 50.5
    assert step(connection, 20.0) == []
