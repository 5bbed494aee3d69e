"""``Disconnected.unanswered_ping``: for how long a keepalive ping had waited, whatever the connection ended of."""

from __future__ import annotations

import pytest

import framebuilder as fb
from pair import lose, peer_close, peer_frame
from wsframe import Cause, Connection, Role, Timeouts

both_roles = pytest.mark.parametrize("role", Role)


def pinged(role: Role, *, leaves: bool = True) -> Connection:
    """A ping was queued at 10, and left at 11 if it did."""
    connection = Connection(role, timeouts=Timeouts(ping_interval=10.0, ping_timeout=20.0))
    connection.next_timeout(0.0)
    connection.handle_timeout(10.0)
    output = b"".join(connection.data_to_send())
    connection.unsent(len(output))
    connection.next_timeout(10.0)
    if leaves:
        connection.unsent(0)
        connection.next_timeout(11.0)
    return connection


def lost_at(connection: Connection, now: float) -> float | None:
    connection.receive_error(ConnectionResetError(), Cause.RESET)
    connection.next_timeout(now)
    return lose(connection).unanswered_ping


@both_roles
def test_it_counts_from_when_the_ping_had_left(role: Role) -> None:
    assert lost_at(pinged(role), 16.0) == 5.0


@both_roles
def test_a_ping_that_has_not_left_cannot_be_answered(role: Role) -> None:
    assert lost_at(pinged(role, leaves=False), 16.0) is None


@both_roles
@pytest.mark.parametrize("sent", [b"", b"x"])
def test_any_byte_answers_it(role: Role, sent: bytes) -> None:
    connection = pinged(role)
    connection.receive_data(peer_frame(role, fb.TEXT, sent)[:1], 12.0)
    assert lost_at(connection, 16.0) is None


@both_roles
def test_bytes_from_before_do_not(role: Role) -> None:
    connection = Connection(role, timeouts=Timeouts(ping_interval=10.0))
    connection.receive_data(peer_frame(role, fb.TEXT, b"x"), 0.0)
    connection.handle_timeout(10.0)
    connection.data_to_send()
    connection.next_timeout(10.0)
    assert lost_at(connection, 16.0) == 6.0


@both_roles
def test_nobody_could_read_the_answer(role: Role) -> None:
    connection = pinged(role)
    connection.reading_paused(True)
    assert lost_at(connection, 16.0) is None
    connection = pinged(role, leaves=False)
    connection.reading_paused(True)
    connection.unsent(0)
    connection.next_timeout(11.0)
    assert lost_at(connection, 16.0) is None


@both_roles
def test_it_still_counts_while_closing(role: Role) -> None:
    connection = pinged(role)
    connection.close()
    connection.data_to_send()
    connection.next_timeout(12.0)
    assert lost_at(connection, 16.0) == 5.0


@both_roles
def test_the_peers_close_answers_it(role: Role) -> None:
    connection = pinged(role)
    connection.receive_data(peer_close(role, 1000), 12.0)
    connection.data_to_send()
    connection.next_timeout(12.0)
    ending = lose(connection)
    assert (ending.clean, ending.unanswered_ping) == (True, None)


@both_roles
def test_what_comes_after_the_end_does_not_answer_it(role: Role) -> None:
    connection = pinged(role)
    connection.abort()
    connection.next_timeout(16.0)
    connection.receive_data(peer_frame(role, fb.PONG), 17.0)
    assert lose(connection).unanswered_ping == 5.0


@both_roles
def test_there_was_no_ping(role: Role) -> None:
    assert lost_at(Connection(role), 16.0) is None
