"""Every way a Connection can end: all fields of ``Disconnected``, for both roles, in every phase.

The table has a row for each (what had happened before, what happens then). ``initiator``, ``clean``, ``code`` and the
rest are written out, not computed: this is the documentation's table in another form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

import framebuilder as fb
from pair import Side, assert_over, lose, peer_close, peer_frame
from wsframe import (
    Cause,
    CloseFrame,
    CloseReceived,
    Connection,
    Disconnected,
    Initiator,
    Limits,
    Message,
    RemoteProtocolError,
    Role,
    SlowPeerError,
    State,
    Timeouts,
    Transport,
)

both_roles = pytest.mark.parametrize("role", Role)
LOCAL, REMOTE, TRANSPORT = Initiator

OURS, THEIRS = CloseFrame(4000, "ours"), CloseFrame(4001, "theirs")
REPLY = CloseFrame(4001, "")
BROKEN = OSError("broken")

#: The last byte comes at 10, what ends the connection happens at 13.
LAST_BYTE, END = 10.0, 13.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """What had happened (``open``, ``queued``, ``sent``, ``received``), what happens, and how it ends."""

    before: str
    then: str
    cause: Cause
    by: Initiator
    clean: bool = False
    code: int = 1006
    reason: str = ""
    received: CloseFrame | None = None
    sent: CloseFrame | None = None
    received_first: bool | None = None
    error: type[BaseException] | None = None
    age: float = 3.0
    verdict: Transport = Transport.CLOSE

    @property
    def name(self) -> str:
        return f"{self.before}-{self.then}"


def row(before: str, then: str, cause: Cause, by: Initiator, **fields: object) -> Row:
    return replace(Row(before=before, then=then, cause=cause, by=by), **fields)  # type: ignore[arg-type]


ours = {"sent": OURS, "received_first": False}
theirs = {"received": THEIRS, "received_first": True, "code": 4001, "reason": "theirs"}
abort = {"verdict": Transport.ABORT}
talks = {"age": 0.0, "error": RemoteProtocolError, "verdict": Transport.SHUTDOWN_WRITE}


def failing(code: int, reason: str) -> dict[str, object]:
    return {"sent": CloseFrame(code, reason), "received_first": False}


C = Cause
ROWS = [
    # The peer's stream ends.
    row("open", "eof", C.EOF, REMOTE),
    row("queued", "eof", C.EOF, REMOTE, **ours),
    row("sent", "eof", C.EOF, REMOTE, **ours),
    row("received", "eof", C.CLOSE_HANDSHAKE, REMOTE, **theirs, sent=REPLY, clean=True),
    row("open", "truncated", C.TRUNCATED, REMOTE, age=0.0),
    row("queued", "truncated", C.TRUNCATED, REMOTE, age=0.0, **ours),
    row("sent", "truncated", C.TRUNCATED, REMOTE, age=0.0, **ours),
    # The transport fails; what was only queued is never sent.
    *[
        row(before, then, cause, TRANSPORT, error=OSError, **abort, **known)
        for then, cause in (
            ("reset", C.RESET),
            ("tls", C.TLS_ERROR),
            ("broken", C.TRANSPORT_ERROR),
        )
        for before, known in (("open", {}), ("queued", {}), ("sent", ours), ("received", theirs))
    ],
    # It is gone, and nobody says why.
    row("open", "gone", C.TRANSPORT_ERROR, TRANSPORT),
    row("queued", "gone", C.TRANSPORT_ERROR, TRANSPORT),
    row("sent", "gone", C.TRANSPORT_ERROR, TRANSPORT, **ours),
    row("received", "gone", C.TRANSPORT_ERROR, TRANSPORT, **theirs),
    row("received", "eof and gone", C.EOF, REMOTE, **theirs),
    # Deadlines.
    row("open", "ping", C.PING_TIMEOUT, LOCAL, **failing(1011, "keepalive ping timeout"), age=23.1, **abort),
    row(
        "open",
        "idle",
        C.IDLE_TIMEOUT,
        LOCAL,
        **failing(1001, "idle timeout"),
        age=40.0,
        verdict=Transport.OPEN,
    ),
    row(
        "open",
        "idle, answered",
        C.IDLE_TIMEOUT,
        LOCAL,
        **failing(1001, "idle timeout"),
        received=THEIRS,
        code=4001,
        reason="theirs",
        clean=True,
        age=40.0,
        verdict=Transport.OPEN,
    ),
    row("queued", "close timeout", C.CLOSE_TIMEOUT, LOCAL, age=10.0, **abort),
    row("sent", "close timeout", C.CLOSE_TIMEOUT, LOCAL, age=10.0, **ours, **abort),
    row("received", "close timeout", C.CLOSE_TIMEOUT, REMOTE, age=10.0, **theirs, **abort),
    # The peer breaks the rules.
    row(
        "open", "1002", C.PROTOCOL_ERROR, LOCAL, **failing(1002, "reserved bit RSV2 or RSV3 is set"), **talks
    ),
    row("queued", "1002", C.PROTOCOL_ERROR, LOCAL, **ours, **talks),
    row("sent", "1002", C.PROTOCOL_ERROR, LOCAL, **ours, **talks),
    row("open", "1007", C.INVALID_DATA, LOCAL, **failing(1007, "invalid UTF-8 in a text message"), **talks),
    row("queued", "1007", C.INVALID_DATA, LOCAL, **ours, **talks),
    row("sent", "1007", C.INVALID_DATA, LOCAL, **ours, **talks),
    row(
        "open",
        "1009",
        C.TOO_BIG,
        LOCAL,
        **failing(1009, "message of 1001 bytes or more is over the limit of 1000"),
        **talks,
    ),
    row("queued", "1009", C.TOO_BIG, LOCAL, **ours, **talks),
    row("sent", "1009", C.TOO_BIG, LOCAL, **ours, **talks),
    row(
        "open",
        "slow",
        C.SLOW_PEER,
        LOCAL,
        **failing(1013, "too slow to receive"),
        verdict=Transport.SHUTDOWN_WRITE,
    ),
    # We give up.
    row("open", "abort", C.LOCAL_ABORT, LOCAL, **abort),
    row("queued", "abort", C.LOCAL_ABORT, LOCAL, **abort),
    row("sent", "abort", C.LOCAL_ABORT, LOCAL, **ours, **abort),
    row("received", "abort", C.LOCAL_ABORT, LOCAL, **theirs, **abort),
    # Both Close frames.
    row("queued", "close", C.CLOSE_HANDSHAKE, REMOTE, **theirs, sent=OURS, clean=True, age=0.0),
    row(
        "sent",
        "close",
        C.CLOSE_HANDSHAKE,
        LOCAL,
        **ours,
        received=THEIRS,
        code=4001,
        reason="theirs",
        clean=True,
        age=0.0,
    ),
    row("received", "flush", C.CLOSE_HANDSHAKE, REMOTE, **theirs, sent=REPLY, clean=True),
]


def prepared(role: Role, before: str, then: str) -> Connection:
    timeouts = Timeouts(
        ping_interval=3.0 if then == "ping" else None, idle=40.0 if then.startswith("idle") else None
    )
    connection = Connection(
        role,
        timeouts=timeouts,
        limits=Limits(max_message_size=1000, write_low_water=1, write_high_water=1, write_hard_cap=100),
    )
    connection.receive_data(peer_frame(role, fb.TEXT, b"last"), LAST_BYTE)
    if before in ("queued", "sent"):
        connection.close(OURS.code, OURS.reason)
        if before == "sent":
            connection.data_to_send()
    elif before == "received":
        connection.receive_data(peer_close(role, THEIRS.code, b"theirs"), LAST_BYTE)
    connection.next_timeout(LAST_BYTE)
    return connection


WIRE = {
    "1002": (fb.TEXT, b"x", 3),
    "1007": (fb.TEXT, b"\xff", 0),
    "1009": (fb.BINARY, b"x" * 1001, 0),
    "close": (fb.CLOSE, fb.close_payload(4001, b"theirs"), 0),
}


def happen(connection: Connection, then: str) -> None:
    """What ends it, with an adapter that flushes."""
    role = connection.role
    if then == "ping":
        for moment in (13.0, 33.0, 33.1):
            connection.handle_timeout(moment)
            connection.data_to_send()
            connection.next_timeout(moment)
    elif then.startswith("idle"):
        connection.handle_timeout(50.0)
    elif then == "close timeout":
        connection.handle_timeout(20.0)
    elif then in ("eof", "eof and gone"):
        connection.receive_eof()
    elif then == "truncated":
        connection.receive_data(peer_frame(role, fb.TEXT, b"x")[:-1], END)
        connection.receive_eof()
    elif then in ("reset", "tls", "broken"):
        cause = {"reset": Cause.RESET, "tls": Cause.TLS_ERROR, "broken": Cause.TRANSPORT_ERROR}[then]
        assert connection.receive_error(BROKEN, cause) == []
    elif then in WIRE:
        opcode, payload, rsv = WIRE[then]
        connection.receive_data(peer_frame(role, opcode, payload, rsv=rsv), END)
    elif then == "slow":
        connection.send_bytes(b"x" * 101)
        with pytest.raises(SlowPeerError):
            connection.send_bytes(b"y")
    elif then == "abort":
        connection.abort()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@both_roles
def test_every_ending(role: Role, row: Row) -> None:
    connection = prepared(role, row.before, row.then)
    happen(connection, row.then)
    if "gone" not in row.then:
        if row.then != "close timeout":
            connection.data_to_send()
        if row.cause not in (Cause.CLOSE_HANDSHAKE, Cause.TRANSPORT_ERROR):
            assert connection.transport is row.verdict
    if row.then == "idle, answered":
        connection.receive_data(peer_close(role, THEIRS.code, b"theirs"), 51.0)
    if row.then not in ("idle", "idle, answered", "ping", "close timeout"):
        connection.next_timeout(END)
    ending = lose(connection)
    assert ending == Disconnected(
        phase=State.OPEN
        if row.before == "open" and row.cause is not Cause.CLOSE_HANDSHAKE
        else State.CLOSING,
        cause=row.cause,
        initiator=row.by,
        clean=row.clean,
        code=row.code,
        reason=row.reason,
        received=row.received,
        sent=row.sent,
        received_first=row.received_first,
        was_websocket=True,
        error=ending.error,
        last_received_age=ending.last_received_age,
    )
    assert ending.last_received_age == pytest.approx(row.age)
    if row.error is None:
        assert ending.error is None
    else:
        assert isinstance(ending.error, row.error)
    assert_over_with_events(connection, ending)
    assert is_one_sentence(str(ending))


def assert_over_with_events(connection: Connection, ending: Disconnected) -> None:
    side = Side(connection)
    side.events.append(ending)
    assert_over(side, END)


def is_one_sentence(text: str) -> bool:
    return text == text.strip() and "\n" not in text and 5 < len(text) < 250 and not text.endswith(".")


def test_every_cause_of_a_connection_has_a_row() -> None:
    before_it_is_open = {
        Cause.OPEN_TIMEOUT,
        Cause.REJECTED,
        Cause.PLAIN_HTTP,
        Cause.NOT_HTTP,
        Cause.DETACHED,
    }
    assert {row.cause for row in ROWS} == set(Cause) - before_it_is_open
    assert len({row.name for row in ROWS}) == len(ROWS)


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


# For people.


def sentence(role: Role, before: str, then: str) -> str:
    connection = prepared(role, before, then)
    happen(connection, then)
    if then not in ("gone", "eof and gone"):
        connection.data_to_send()
    connection.next_timeout(END)
    return str(lose(connection))


@pytest.mark.parametrize(
    ("before", "then", "expected"),
    [
        ("received", "flush", "closed by the peer; received Close 4001 'theirs', sent Close 4001"),
        ("sent", "close", "closed by us; sent Close 4000 'ours', received Close 4001 'theirs'"),
        ("open", "eof", "lost: the peer ended the stream without a Close; last byte 3.0 s before"),
        (
            "received",
            "eof and gone",
            (
                "lost: the peer ended the stream before our Close could go; received Close 4001 'theirs',"
                " last byte 3.0 s before"
            ),
        ),
        (
            "sent",
            "reset",
            "lost: the connection was reset; sent Close 4000 'ours', broken, last byte 3.0 s before",
        ),
        (
            "open",
            "ping",
            (
                "lost: a keepalive ping stayed unanswered; sent Close 1011 'keepalive ping timeout',"
                " last byte 23.1 s before"
            ),
        ),
        ("open", "abort", "aborted by us; last byte 3.0 s before"),
        (
            "open",
            "1007",
            (
                "failed by us: the peer sent invalid data; sent Close 1007 'invalid UTF-8 in a text message',"
                " last byte 0.0 s before"
            ),
        ),
    ],
)
def test_what_an_ending_says(before: str, then: str, expected: str) -> None:
    assert sentence(Role.SERVER, before, then) == expected
    assert sentence(Role.CLIENT, before, then) == expected


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
