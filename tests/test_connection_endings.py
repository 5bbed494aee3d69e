"""What a bare Connection's ending depends on beside the rows of the endings table: order, what was only queued, where
exactly a stream is cut."""

from __future__ import annotations

import pytest

import framebuilder as fb
from pair import lose, peer_close, peer_frame, sent_frames
from wsframe import (
    Cause,
    CloseFrame,
    CloseReceived,
    Connection,
    Initiator,
    Limits,
    Message,
    Role,
    State,
    Timeouts,
)

both_roles = pytest.mark.parametrize("role", Role)
LOCAL, REMOTE, _ = Initiator

OURS, THEIRS = CloseFrame(4000, "ours"), CloseFrame(4001, "theirs")
BROKEN = OSError("broken")

#: The last byte comes at 10, what ends the connection happens at 13.
LAST_BYTE, END = 10.0, 13.0


def prepared(role: Role, before: str, then: str) -> Connection:
    """A connection whose last byte came at 10; our Close is queued, or sent."""
    connection = Connection(
        role,
        timeouts=Timeouts(ping_interval=3.0 if then == "ping" else None),
        limits=Limits(max_message_size=1000),
    )
    connection.receive_data(peer_frame(role, fb.TEXT, b"last"), LAST_BYTE)
    if before in ("queued", "sent"):
        connection.close(OURS.code, OURS.reason)
        if before == "sent":
            connection.data_to_send()
    connection.next_timeout(LAST_BYTE)
    return connection


WIRE = {
    "1002": (fb.TEXT, b"x", 3),
    "1007": (fb.TEXT, b"\xff", 0),
    "1009": (fb.BINARY, b"x" * 1001, 0),
    "close": (fb.CLOSE, fb.close_payload(4001, b"theirs"), 0),
}


def happen(connection: Connection, then: str) -> None:
    """What ends it."""
    role = connection.role
    if then == "ping":
        for moment in (13.0, 33.0, 33.1):
            connection.handle_timeout(moment)
            connection.data_to_send()
            connection.next_timeout(moment)
    elif then == "close timeout":
        connection.handle_timeout(20.0)
    elif then == "eof":
        connection.receive_eof()
    elif then == "truncated":
        connection.receive_data(peer_frame(role, fb.TEXT, b"x")[:-1], END)
        connection.receive_eof()
    elif then == "reset":
        assert connection.receive_error(BROKEN, Cause.RESET) == []
    elif then == "abort":
        connection.abort()
    elif then in WIRE:
        opcode, payload, rsv = WIRE[then]
        connection.receive_data(peer_frame(role, opcode, payload, rsv=rsv), END)


# Our Close was queued, and the adapter has not fetched it yet.


@both_roles
@pytest.mark.parametrize(
    ("then", "cause", "initiator"),
    [
        ("eof", Cause.EOF, REMOTE),
        ("truncated", Cause.TRUNCATED, REMOTE),
        ("1002", Cause.PROTOCOL_ERROR, LOCAL),
        ("1007", Cause.INVALID_DATA, LOCAL),
        ("1009", Cause.TOO_BIG, LOCAL),
    ],
)
def test_a_queued_close_still_goes(role: Role, then: str, cause: Cause, initiator: Initiator) -> None:
    connection = prepared(role, "queued", "")
    happen(connection, then)
    assert sent_frames(connection)[-1] == (fb.CLOSE, fb.close_payload(4000, b"ours"))
    ending = lose(connection)
    assert (ending.cause, ending.initiator, ending.phase) == (cause, initiator, State.CLOSING)
    assert (ending.sent, ending.received_first, ending.clean) == (OURS, False, False)


@both_roles
@pytest.mark.parametrize("then", ["reset", "abort", "gone", "close timeout"])
def test_a_queued_close_never_goes(role: Role, then: str) -> None:
    connection = prepared(role, "queued", "")
    happen(connection, then)
    ending = lose(connection)
    assert (ending.phase, ending.sent, ending.received_first) == (State.CLOSING, None, None)


@both_roles
def test_a_queued_close_that_the_peers_overtakes(role: Role) -> None:
    connection = prepared(role, "queued", "")
    happen(connection, "close")
    assert sent_frames(connection)[-1] == (fb.CLOSE, fb.close_payload(4000, b"ours"))
    ending = lose(connection)
    assert (ending.cause, ending.initiator, ending.clean) == (Cause.CLOSE_HANDSHAKE, REMOTE, True)
    assert (ending.received, ending.sent, ending.received_first) == (THEIRS, OURS, True)


# The first terminal fact wins.


@both_roles
def test_eof_after_a_ping_timeout(role: Role) -> None:
    connection = prepared(role, "open", "ping")
    happen(connection, "ping")
    connection.receive_data(peer_frame(role, fb.PONG), 34.0)
    connection.receive_eof()
    connection.receive_error(BROKEN, Cause.RESET)
    ending = lose(connection)
    assert (ending.cause, ending.error) == (Cause.PING_TIMEOUT, None)
    # Bytes that come later do not make it younger.
    assert ending.last_received_age == pytest.approx(23.1)


@both_roles
def test_a_reset_after_a_clean_close(role: Role) -> None:
    connection = prepared(role, "sent", "")
    happen(connection, "close")
    connection.receive_error(BROKEN, Cause.RESET)
    ending = lose(connection)
    assert (ending.cause, ending.clean, ending.error) == (Cause.CLOSE_HANDSHAKE, True, None)


@both_roles
def test_a_close_after_a_failure_is_not_seen(role: Role) -> None:
    connection = prepared(role, "open", "")
    happen(connection, "1007")
    assert connection.receive_data(peer_close(role, 1000), END) == []
    connection.abort()
    ending = lose(connection)
    assert (ending.cause, ending.received, ending.clean) == (Cause.INVALID_DATA, None, False)


@both_roles
def test_an_abort_after_a_timeout_and_a_reset_after_an_abort(role: Role) -> None:
    connection = prepared(role, "sent", "")
    happen(connection, "close timeout")
    connection.abort()
    assert lose(connection).cause is Cause.CLOSE_TIMEOUT
    connection = prepared(role, "open", "")
    connection.abort()
    connection.receive_error(BROKEN, Cause.RESET)
    connection.receive_eof()
    assert lose(connection).cause is Cause.LOCAL_ABORT


@both_roles
def test_an_eof_that_came_before_a_reset(role: Role) -> None:
    connection = prepared(role, "open", "")
    connection.receive_eof()
    connection.receive_error(BROKEN, Cause.RESET)
    assert lose(connection).cause is Cause.EOF


@both_roles
def test_an_adapter_reports_only_transport_failures(role: Role) -> None:
    connection = Connection(role)
    for cause in set(Cause) - {Cause.RESET, Cause.TLS_ERROR, Cause.TRANSPORT_ERROR}:
        with pytest.raises(ValueError, match="an adapter reports"):
            connection.receive_error(BROKEN, cause)
    assert connection.state is State.OPEN


@both_roles
def test_what_was_received_before_a_reset_comes_first(role: Role) -> None:
    connection = Connection(
        role, trailing_data=peer_frame(role, fb.TEXT, b"a") + peer_close(role, 4001, b"theirs")
    )
    with pytest.raises(ValueError, match="an adapter reports"):
        connection.receive_error(BROKEN, Cause.EOF)
    assert connection.receive_error(BROKEN, Cause.RESET) == [Message("a", 1), CloseReceived(4001, "theirs")]
    ending = lose(connection)
    assert (ending.cause, ending.received, ending.sent, ending.clean) == (Cause.RESET, THEIRS, None, False)


# s7.1.5, and TRUNCATED against EOF.


@both_roles
def test_truncated_at_every_offset_of_a_frame(role: Role) -> None:
    frame = peer_frame(role, fb.BINARY, b"x" * 130)
    ping = peer_frame(role, fb.PING, b"abc")
    close = peer_close(role, 1000, b"bye")
    for wire in (frame, ping, close):
        for offset in range(len(wire) + 1):
            connection = Connection(role)
            connection.receive_data(frame + wire[:offset])
            connection.receive_data(b"")
            connection.receive_eof()
            connection.data_to_send()
            ending = lose(connection)
            if offset == 0 or (offset == len(wire) and wire is not close):
                assert ending.cause is Cause.EOF
            elif offset == len(wire):
                assert ending.cause is Cause.CLOSE_HANDSHAKE
            else:
                assert ending.cause is Cause.TRUNCATED
            assert (ending.initiator, ending.clean) == (REMOTE, ending.cause is Cause.CLOSE_HANDSHAKE)


@both_roles
def test_truncated_between_fragments(role: Role) -> None:
    for payload in (b"", b"x"):
        connection = Connection(role)
        connection.receive_data(peer_frame(role, fb.TEXT, payload, fin=False) + peer_frame(role, fb.PING))
        connection.receive_eof()
        assert lose(connection).cause is Cause.TRUNCATED
        connection = Connection(role)
        connection.receive_data(
            peer_frame(role, fb.TEXT, payload, fin=False) + peer_frame(role, fb.CONTINUATION)
        )
        connection.receive_eof()
        assert lose(connection).cause is Cause.EOF


@both_roles
def test_the_age_is_none_when_no_byte_ever_came(role: Role) -> None:
    connection = Connection(role)
    connection.abort()
    connection.next_timeout(5.0)
    assert lose(connection).last_received_age is None


def test_of_an_error_the_traceback_is_not_kept() -> None:
    """Its frames hold on to the adapter, and that to the connection."""
    connection = Connection(Role.CLIENT)
    try:
        raise ConnectionResetError("reset by peer")
    except ConnectionResetError as exc:
        connection.receive_error(exc, Cause.RESET)
    error = lose(connection).error
    assert isinstance(error, ConnectionResetError)
    assert error.__traceback__ is None
