"""The closing handshake: frames, verdicts and deadlines (RFC 6455 s5.5.1, s7)."""

from __future__ import annotations

import pytest

import framebuilder as fb
from pair import Pair, Side, assert_over, look, lose, peer_close, peer_frame, sent_frames
from wsframe import (
    Cause,
    CloseFrame,
    CloseReceived,
    Connection,
    Initiator,
    Limits,
    LocalProtocolError,
    Message,
    Role,
    State,
    Timeouts,
    Transport,
)

both_roles = pytest.mark.parametrize("role", Role)
QUIET = Timeouts(ping_interval=None)

SENDABLE = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
UNSENDABLE = [-1, 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535, 65536, 1 << 40]

OPEN, SHUTDOWN_WRITE, CLOSE, ABORT = Transport


# s5.5.1, s7.4: what may be in a Close frame.


@pytest.mark.parametrize("code", SENDABLE)
@both_roles
def test_s7_4_codes_that_may_be_sent(role: Role, code: int) -> None:
    connection = Connection(role)
    connection.close(code, "why")
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(code, b"why"))]
    assert look(connection) == (State.CLOSING, OPEN)


@pytest.mark.parametrize("code", UNSENDABLE)
@both_roles
def test_s7_4_1_codes_that_are_never_sent(role: Role, code: int) -> None:
    connection = Connection(role)
    with pytest.raises(LocalProtocolError, match=f"Close code {code} may not be sent"):
        connection.close(code)
    assert sent_frames(connection) == []
    assert look(connection) == (State.OPEN, OPEN)


def test_s7_4_1_1010_is_for_clients() -> None:
    with pytest.raises(LocalProtocolError, match="1010 may not be sent by a server"):
        Connection(Role.SERVER).close(1010)
    client = Connection(Role.CLIENT)
    client.close(1010, "x")
    assert sent_frames(client) == [(fb.CLOSE, fb.close_payload(1010, b"x"))]


@pytest.mark.parametrize("code", [True, "1000", 1000.0])
def test_a_code_is_an_int(code: object) -> None:
    with pytest.raises(LocalProtocolError, match="is an int or None"):
        Connection(Role.SERVER).close(code)  # type: ignore[arg-type]


@both_roles
def test_s5_5_1_an_empty_close(role: Role) -> None:
    connection = Connection(role)
    with pytest.raises(LocalProtocolError, match="reason without a code"):
        connection.close(None, "why")
    connection.close(None)
    assert sent_frames(connection) == [(fb.CLOSE, b"")]
    connection.receive_data(peer_close(role))
    ending = lose(connection)
    assert (ending.sent, ending.received, ending.code) == (CloseFrame(1005, ""), CloseFrame(1005, ""), 1005)
    assert ending.clean


@pytest.mark.parametrize("reason", ["x" * 123, "é" * 61 + "x", "🦊" * 30 + "xxx"])
@both_roles
def test_s5_5_a_reason_of_123_bytes_fits(role: Role, reason: str) -> None:
    connection = Connection(role)
    with pytest.raises(LocalProtocolError, match="at most 123 bytes as UTF-8, not 124"):
        connection.close(1000, reason + "x")
    connection.close(1000, reason)
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(1000, reason.encode()))]


def test_a_reason_that_utf8_cannot_carry() -> None:
    with pytest.raises(LocalProtocolError, match="cannot be encoded"):
        Connection(Role.SERVER).close(1000, "\ud800")


@both_roles
def test_close_is_idempotent_and_checked_in_every_state(role: Role) -> None:
    connection = Connection(role)
    connection.close(4000, "first")
    for step in range(4):
        connection.close(4001, "second")
        for code, reason in ((1005, ""), (1000, "x" * 124), (None, "x")):
            with pytest.raises(LocalProtocolError):
                connection.close(code, reason)
        frames = sent_frames(connection)
        if step == 0:
            assert frames == [(fb.CLOSE, fb.close_payload(4000, b"first"))]
        else:
            assert frames == []
        if step == 1:
            connection.receive_data(peer_close(role, 4000))
        if step == 2:
            connection.transport_closed()
    assert connection.ending is not None
    assert connection.ending.sent == CloseFrame(4000, "first")


# s5.5.1: the peer's Close.


@pytest.mark.parametrize("code", [*SENDABLE, 1010])
@both_roles
def test_s5_5_1_the_reply_echoes_the_code(role: Role, code: int) -> None:
    connection = Connection(role)
    assert connection.receive_data(peer_close(role, code, "größer".encode())) == [
        CloseReceived(code, "größer")
    ]
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(code))]
    assert connection.receive_data(b"") == []
    ending = lose(connection)
    assert (ending.code, ending.reason, ending.clean) == (code, "größer", True)
    assert (ending.received, ending.sent) == (CloseFrame(code, "größer"), CloseFrame(code, ""))


@both_roles
def test_s5_5_1_an_empty_close_gets_an_empty_reply(role: Role) -> None:
    connection = Connection(role)
    assert connection.receive_data(peer_close(role)) == [CloseReceived(1005, "")]
    assert sent_frames(connection) == [(fb.CLOSE, b"")]


@pytest.mark.parametrize(
    ("payload", "code", "words"),
    [
        (b"\x03", 1002, "one byte"),
        *[(fb.close_payload(code), 1002, f"code {code}") for code in UNSENDABLE if 0 <= code <= 0xFFFF],
        (fb.close_payload(1000, b"\xff"), 1007, "not UTF-8"),
        (fb.close_payload(1000, b"ab\xc3"), 1007, "not UTF-8"),
        (fb.close_payload(1000, b"\xed\xa0\x80"), 1007, "not UTF-8"),
    ],
)
@both_roles
def test_s7_a_bad_close_fails_the_connection(role: Role, payload: bytes, code: int, words: str) -> None:
    connection = Connection(role)
    assert connection.receive_data(peer_frame(role, fb.CLOSE, payload)) == []
    ((opcode, sent),) = sent_frames(connection)
    assert (opcode, sent[:2]) == (fb.CLOSE, code.to_bytes(2, "big"))
    assert words in sent[2:].decode()
    assert look(connection) == (State.CLOSING, SHUTDOWN_WRITE)
    ending = lose(connection)
    assert ending.cause is (Cause.PROTOCOL_ERROR if code == 1002 else Cause.INVALID_DATA)
    assert (ending.received, ending.code, ending.clean) == (None, 1006, False)


@both_roles
def test_s5_5_1_a_close_inside_a_fragmented_message(role: Role) -> None:
    connection = Connection(role)
    assert connection.receive_data(peer_frame(role, fb.TEXT, b"a", fin=False) + peer_close(role, 1000)) == [
        CloseReceived(1000, "")
    ]
    assert lose_clean(connection)


def lose_clean(connection: Connection) -> bool:
    connection.data_to_send()
    return lose(connection).clean


@pytest.mark.parametrize("junk", [b"\xff" * 20, b"\x81", None])
@both_roles
def test_s5_5_1_what_follows_a_close_is_ignored(role: Role, junk: bytes | None) -> None:
    if junk is None:
        junk = peer_frame(role, fb.TEXT, b"late") + peer_close(role, 4999) + peer_frame(role, fb.PING)
    connection = Connection(role)
    assert connection.receive_data(peer_close(role, 1001) + junk) == [CloseReceived(1001, "")]
    assert connection.receive_data(junk) == []
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(1001))]
    assert connection.receive_data(junk) == []
    assert connection.receive_eof() == []
    ending = lose(connection)
    assert (ending.cause, ending.clean, ending.code) == (Cause.CLOSE_HANDSHAKE, True, 1001)


# After our Close.


@both_roles
def test_messages_before_our_close_are_delivered_and_later_ones_dropped(role: Role) -> None:
    connection = Connection(role)
    assert connection.receive_data(peer_frame(role, fb.TEXT, b"before")) == [Message("before", 1)]
    connection.send_text("sent before")
    connection.close(1001)
    late = peer_frame(role, fb.TEXT, b"after") + peer_frame(role, fb.BINARY, b"x", fin=False)
    assert connection.receive_data(late) == []
    assert connection.receive_data(peer_frame(role, fb.CONTINUATION, b"y") + peer_close(role, 1001)) == [
        CloseReceived(1001, "")
    ]
    assert sent_frames(connection) == [(fb.TEXT, b"sent before"), (fb.CLOSE, fb.close_payload(1001))]
    assert lose(connection).clean


@both_roles
def test_garbage_after_our_close_is_a_failure_without_a_second_close(role: Role) -> None:
    connection = Connection(role)
    connection.close(1000)
    connection.data_to_send()
    assert connection.receive_data(b"\xff\xff") == []
    assert sent_frames(connection) == []
    assert look(connection) == (State.CLOSING, SHUTDOWN_WRITE)
    ending = lose(connection)
    assert (ending.cause, ending.phase, ending.clean) == (Cause.PROTOCOL_ERROR, State.CLOSING, False)
    assert ending.sent == CloseFrame(1000, "")


@both_roles
def test_our_close_was_queued_but_not_handed_out_when_the_peers_came(role: Role) -> None:
    connection = Connection(role)
    connection.close(4000, "ours")
    assert connection.receive_data(peer_close(role, 4001, b"theirs")) == [CloseReceived(4001, "theirs")]
    assert connection.transport is OPEN
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(4000, b"ours"))]
    ending = lose(connection)
    assert (ending.received_first, ending.initiator) == (True, Initiator.REMOTE)
    assert (ending.code, ending.reason, ending.clean) == (4001, "theirs", True)


def test_simultaneous_close() -> None:
    pair = Pair()
    pair.client.endpoint.close(4000, "c")
    pair.server.endpoint.close(4001, "s")
    pair.work()
    pair.settle()
    pair.pass_time(3, settle=True)
    for side, mine, theirs in ((pair.client, 4000, 4001), (pair.server, 4001, 4000)):
        assert (side.ending.clean, side.ending.cause) == (True, Cause.CLOSE_HANDSHAKE)
        assert side.ending.sent is not None
        assert (side.ending.sent.code, side.ending.code) == (mine, theirs)
        # Each side's went first, as it saw it.
        assert (side.ending.received_first, side.ending.initiator) == (False, Initiator.LOCAL)
        assert_over(side, pair.now)


# The verdict.


@pytest.mark.parametrize("first", ["client", "server"])
def test_s7_1_1_the_server_closes_first_and_the_client_waits(first: str) -> None:
    pair = Pair()
    getattr(pair, first).endpoint.close(1000)
    pair.work()
    while not pair.server.gone:
        assert pair.client.endpoint.transport is OPEN
        assert pair.deliver(pair.server) | pair.deliver(pair.client)
    assert pair.server.verdicts == [OPEN, CLOSE]
    pair.settle()
    assert pair.client.verdicts == [OPEN, CLOSE]
    for side in pair.sides:
        assert side.ending.clean
        assert_over(side, pair.now)


def test_s7_1_1_the_client_waits_two_seconds_for_the_servers_eof() -> None:
    client = Connection(Role.CLIENT, timeouts=QUIET)
    client.receive_data(peer_close(Role.CLIENT, 1000), 50.0)
    client.data_to_send()
    client.unsent(8)
    assert client.next_timeout(50.0) == 60.0
    client.unsent(0)
    # From when our reply has left.
    assert client.next_timeout(51.0) == 53.0
    assert client.handle_timeout(52.9) == []
    assert client.transport is OPEN
    client.handle_timeout(53.0)
    assert look(client) == (State.CLOSING, CLOSE)
    ending = lose(client)
    assert (ending.clean, ending.cause) == (True, Cause.CLOSE_HANDSHAKE)


def test_an_eof_ends_the_clients_wait() -> None:
    client = Connection(Role.CLIENT)
    client.close()
    client.data_to_send()
    client.receive_data(peer_close(Role.CLIENT, 1000))
    assert client.transport is OPEN
    client.receive_eof()
    assert look(client) == (State.CLOSING, CLOSE)
    assert lose(client).clean


def test_an_eof_before_the_reply_could_be_handed_out() -> None:
    client = Connection(Role.CLIENT)
    client.receive_data(peer_close(Role.CLIENT, 1000))
    client.receive_eof()
    assert look(client) == (State.CLOSING, CLOSE)
    # CLOSE means: flush, then close.
    assert sent_frames(client) == [(fb.CLOSE, fb.close_payload(1000))]
    ending = lose(client)
    assert (ending.clean, ending.cause) == (True, Cause.CLOSE_HANDSHAKE)


@both_roles
def test_s7_1_7_after_a_failing_close_input_is_discarded_until_eof(role: Role) -> None:
    connection = Connection(role, timeouts=QUIET)
    connection.receive_data(b"\xff\xff", 10.0)
    assert look(connection) == (State.CLOSING, SHUTDOWN_WRITE)
    connection.data_to_send()
    for second in range(3):
        junk = peer_frame(role, fb.TEXT, b"x") * 1000 + peer_close(role, 1000)
        assert connection.receive_data(junk, 10.0 + second / 2) == []
        assert not connection.has_more
        assert connection.transport is SHUTDOWN_WRITE
    assert connection.receive_eof() == []
    assert look(connection) == (State.CLOSING, CLOSE)
    ending = lose(connection)
    assert (ending.received, ending.clean, ending.cause) == (None, False, Cause.PROTOCOL_ERROR)


@both_roles
def test_the_linger_runs_from_the_flush(role: Role) -> None:
    connection = Connection(role, timeouts=QUIET)
    connection.send_bytes(b"x" * 1000)
    connection.receive_data(b"\xff\xff", 10.0)
    assert connection.next_timeout(10.0) == 20.0  # not even handed out
    connection.data_to_send()
    connection.unsent(500)
    assert connection.next_timeout(11.0) == 20.0
    connection.unsent(1)
    assert connection.next_timeout(12.0) == 20.0
    connection.unsent(0)
    assert connection.next_timeout(13.0) == 15.0
    connection.receive_data(b"still talking", 14.9)
    assert connection.next_timeout(14.9) == 15.0
    connection.handle_timeout(15.0)
    assert connection.transport is CLOSE
    assert connection.next_timeout(15.0) == 20.0
    connection.handle_timeout(20.0)
    assert connection.transport is ABORT
    assert connection.next_timeout(20.0) is None
    assert lose(connection).cause is Cause.PROTOCOL_ERROR


# Everything inside close_timeout.


def far(pair: Pair, role: Role) -> tuple[Side, Side]:
    return (pair.client, pair.server) if role is Role.CLIENT else (pair.server, pair.client)


@pytest.mark.parametrize("peer", ["mute", "data", "pings", "bytes"])
@both_roles
def test_a_peer_that_does_not_answer_our_close(role: Role, peer: str) -> None:
    connection = Connection(role, timeouts=Timeouts(close=5.0))
    connection.receive_data(peer_frame(role, fb.PING), 0.0)
    connection.close(1000)
    connection.data_to_send()
    frame = {
        "data": peer_frame(role, fb.BINARY, b"x" * 60000),
        "pings": peer_frame(role, fb.PING, b"x" * 125) * 300,
        "bytes": peer_frame(role, fb.BINARY, b"x" * 60000),
    }.get(peer, b"")
    now, rest = 100.0, b""
    deadline = connection.next_timeout(now)
    assert deadline == 105.0
    while now < 105.0:
        if peer != "mute":
            rest = rest or frame
            count = 1 if peer == "bytes" else len(rest)
            assert connection.receive_data(rest[:count], now) == []
            rest = rest[count:]
            while connection.has_more:
                assert connection.receive_data(b"", now) == []
        assert connection.handle_timeout(now) == []
        assert connection.data_to_send() == []
        assert connection.transport is OPEN
        assert connection.next_timeout(now) == 105.0
        now += 0.1
    connection.handle_timeout(105.0)
    assert look(connection) == (State.CLOSING, ABORT)
    assert connection.next_timeout(105.0) is None
    ending = lose(connection)
    assert (ending.cause, ending.phase, ending.initiator) == (
        Cause.CLOSE_TIMEOUT,
        State.CLOSING,
        Initiator.LOCAL,
    )
    assert (ending.sent, ending.received, ending.clean) == (CloseFrame(1000, ""), None, False)


@pytest.mark.parametrize("begun_by", ["close", "failure", "peer", "eof", "cap"])
@both_roles
def test_close_timeout_with_a_full_write_buffer(role: Role, begun_by: str) -> None:
    limits = Limits(write_low_water=1, write_high_water=1, write_hard_cap=1000)
    pair = Pair(limits=limits, client_timeouts=QUIET, server_timeouts=QUIET)
    side, _ = far(pair, role)
    side.outgoing.capacity = 100
    side.endpoint.send_bytes(b"x" * 2000)
    pair.work()
    if begun_by == "close":
        side.endpoint.close()
    elif begun_by == "failure":
        side.events += side.endpoint.receive_data(b"\xff\xff", pair.now)
    elif begun_by == "peer":
        side.events += side.endpoint.receive_data(peer_close(role, 4000), pair.now)
    elif begun_by == "eof":
        side.events += side.endpoint.receive_eof()
    else:
        with pytest.raises(Exception, match="write_hard_cap"):
            side.endpoint.send_bytes(b"y")
    pair.work()
    pair.pass_time(9.9)
    assert not side.gone
    assert side.buffer
    pair.pass_time(0.1)
    assert side.verdicts[-1] is ABORT
    # With both Close frames handed out it is clean, as far as this side can know.
    assert side.ending.clean is (begun_by == "peer")
    assert_over(side, pair.now)


@both_roles
def test_a_half_closed_peer(role: Role) -> None:
    pair = Pair(client_timeouts=QUIET, server_timeouts=QUIET)
    side, other = far(pair, role)
    other.outgoing.fin = True
    side.endpoint.send_text("on its way")
    pair.work()
    assert pair.deliver(side)
    # What was queued is flushed, and then it is over: a WebSocket has no half-open state.
    assert side.ending.cause is Cause.EOF
    assert side.verdicts == [OPEN, CLOSE]
    pair.deliver(other)
    assert other.events[0] == Message("on its way", 1)


@both_roles
def test_a_peer_that_stops_in_the_middle_of_its_reply(role: Role) -> None:
    connection = Connection(role)
    connection.close()
    connection.data_to_send()
    connection.receive_data(peer_close(role, 1000)[:3], 1.0)
    assert connection.next_timeout(1.0) == 11.0
    connection.handle_timeout(11.0)
    ending = lose(connection)
    assert (ending.cause, ending.received, ending.last_received_age) == (Cause.CLOSE_TIMEOUT, None, 10.0)


@both_roles
def test_a_close_timeout_while_our_reply_cannot_be_handed_out(role: Role) -> None:
    connection = Connection(role, timeouts=QUIET)
    connection.receive_data(peer_close(role, 4000), 1.0)
    assert connection.next_timeout(1.0) == 11.0
    connection.handle_timeout(11.0)
    assert look(connection) == (State.CLOSING, ABORT)
    ending = lose(connection)
    assert (ending.cause, ending.initiator, ending.code) == (Cause.CLOSE_TIMEOUT, Initiator.REMOTE, 4000)
    assert (ending.sent, ending.clean) == (None, False)


@both_roles
def test_nothing_runs_after_abort_whatever_comes_later(role: Role) -> None:
    connection = Connection(role)
    connection.receive_data(peer_close(role, 4000), 1.0)
    connection.handle_timeout(1e6)
    # The adapter still writes what can be written without waiting.
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(4000))]
    assert connection.transport is ABORT
    assert connection.next_timeout(1e6) is None


# abort().


@both_roles
@pytest.mark.parametrize("when", ["open", "closing", "peer closing", "failed", "clean", "has_more"])
def test_abort_in_every_state(role: Role, when: str) -> None:
    connection = Connection(role)
    if when == "closing":
        connection.close()
        connection.data_to_send()
    elif when == "peer closing":
        connection.receive_data(peer_close(role, 1000))
    elif when == "failed":
        connection.receive_data(b"\xff\xff")
    elif when == "clean":
        connection.receive_data(peer_close(role, 1000))
        connection.data_to_send()
    elif when == "has_more":
        connection.receive_data(peer_frame(role, fb.PING) * 300)
        assert connection.has_more
    else:
        connection.send_text("dropped")
    connection.abort()
    connection.abort()
    assert look(connection) == (State.CLOSING, ABORT)
    assert connection.data_to_send() == []
    assert connection.next_timeout(0.0) is None
    assert not connection.has_more
    assert connection.receive_data(peer_frame(role, fb.TEXT, b"x")) == []
    (ending,) = connection.transport_closed()
    assert ending is connection.ending
    assert connection.ending is not None
    cause = {"failed": Cause.PROTOCOL_ERROR, "clean": Cause.CLOSE_HANDSHAKE}.get(when, Cause.LOCAL_ABORT)
    assert connection.ending.cause is cause
    assert connection.ending.clean is (when == "clean")
    assert look(connection) == (State.CLOSED, ABORT)
    connection.abort()


# What TCP does to whoever closes too early.


@pytest.mark.parametrize("breaker", ["client", "server"])
def test_a_failing_close_arrives_although_the_peer_keeps_talking(breaker: str) -> None:
    """Close TCP with unread input and the kernel sends RST, which takes the Close frame away from the peer."""
    pair = Pair(client_timeouts=QUIET, server_timeouts=QUIET)
    bad, good = (pair.client, pair.server) if breaker == "client" else (pair.server, pair.client)
    bad.endpoint.send_bytes(b"x" * 100000)
    bad.work(pair.now)
    bad.outgoing.data += b"\xff\xff" + b"junk" * 100
    pair.deliver(good, 100050 if breaker == "server" else 100054)
    assert good.endpoint.transport is SHUTDOWN_WRITE
    assert good.incoming.data
    pair.settle()
    assert good.ending.cause is Cause.PROTOCOL_ERROR
    assert bad.ending.cause is Cause.CLOSE_HANDSHAKE
    assert bad.ending.code == 1002
    for side in pair.sides:
        assert_over(side, pair.now)
