"""A peer that takes nothing of what is sent is not waited for without end, whatever it says. Time is a number."""

from __future__ import annotations

import pytest

import framebuilder as fb
from pair import look, lose, peer_frame, sent_frames
from wsframe import Cause, Connection, LocalProtocolError, Role, State, Timeouts, Transport

both_roles = pytest.mark.parametrize("role", Role)


def writing(role: Role, timeout: float | None = 8.0) -> Connection:
    """A connection with 1000 bytes that are with the adapter, at 0."""
    connection = Connection(role, timeouts=Timeouts(ping_interval=None, write=timeout, close=5.0))
    connection.send_bytes(bytes(5000))
    connection.data_to_send()
    connection.unsent(1000)
    connection.next_timeout(0.0)
    return connection


def drive(connection: Connection, now: float, until: float, unsent: int | None = None) -> float | None:
    """Meet the deadlines; when the first was that ended it."""
    while (due := connection.next_timeout(now)) is not None and due <= until:
        now = due
        if unsent is not None:
            connection.unsent(unsent)
        connection.handle_timeout(now)
        if connection.state is not State.OPEN:
            return now
    return None


@both_roles
def test_nothing_leaves_for_so_long(role: Role) -> None:
    connection = writing(role)
    # That it talks is no excuse.
    connection.receive_data(peer_frame(role, fb.TEXT, b"x"), 7.0)
    connection.send_bytes(b"more")
    assert drive(connection, 0.0, 100.0, unsent=1000) == 8.0
    # What was not begun is dropped.
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(1013, b"too slow to receive"))]
    assert look(connection) == (State.CLOSING, Transport.SHUTDOWN_WRITE)
    with pytest.raises(LocalProtocolError):
        connection.send_bytes(b"even more")
    assert connection.next_timeout(8.0) == 13.0
    connection.handle_timeout(13.0)
    assert connection.transport is Transport.ABORT
    ending = lose(connection)
    assert (ending.cause, ending.clean) == (Cause.SLOW_PEER, False)


@both_roles
def test_whoever_takes_a_little_now_and_then_is_not_lost(role: Role) -> None:
    connection = writing(role)
    now = 0.0
    for left in range(999, 900, -1):
        now += 7.0
        assert drive(connection, now - 7.0, now) is None
        connection.unsent(left)
    assert connection.state is State.OPEN
    # From the last byte it is the timeout, and at the most a quarter more.
    end = drive(connection, now, now + 100.0)
    assert end is not None
    assert now + 8.0 <= end <= now + 10.0


@both_roles
def test_without_output_there_is_nothing_to_wait_for(role: Role) -> None:
    connection = writing(role)
    connection.unsent(0)
    assert connection.next_timeout(1.0) == 2.0
    assert drive(connection, 1.0, 1000.0) is None
    assert connection.next_timeout(1000.0) is None
    connection.send_bytes(bytes(100))
    connection.data_to_send()
    connection.unsent(0)
    assert connection.next_timeout(1001.0) is None
    connection.send_bytes(bytes(100))
    connection.data_to_send()
    connection.unsent(102)
    assert connection.next_timeout(1002.0) == 1004.0
    assert drive(connection, 1002.0, 2000.0) == 1010.0


@both_roles
def test_what_is_still_here_counts_too(role: Role) -> None:
    connection = writing(role)
    connection.send_bytes(bytes(10))
    # The adapter has got rid of its part, and takes no more.
    connection.unsent(0)
    connection.next_timeout(1.0)
    assert drive(connection, 1.0, 100.0) == 10.0


@both_roles
def test_a_blocked_loop_is_no_slow_peer(role: Role) -> None:
    connection = writing(role)
    # Nothing could leave meanwhile; a single look says nothing.
    connection.handle_timeout(100.0)
    assert connection.state is State.OPEN
    connection.unsent(500)
    assert connection.next_timeout(100.0) == 102.0
    assert drive(connection, 100.0, 109.9) is None
    assert drive(connection, 109.9, 200.0) == 110.0


@both_roles
def test_it_can_be_turned_off(role: Role) -> None:
    connection = writing(role, None)
    assert connection.next_timeout(1.0) is None
    assert drive(connection, 1.0, 1e6) is None


@both_roles
def test_closing_has_its_own_deadline(role: Role) -> None:
    connection = writing(role)
    connection.close()
    connection.data_to_send()
    connection.unsent(1000)
    assert connection.next_timeout(1.0) == 6.0
    connection.unsent(900)
    connection.next_timeout(2.0)
    connection.handle_timeout(6.0)
    assert connection.transport is Transport.ABORT
    assert lose(connection).cause is Cause.CLOSE_TIMEOUT
