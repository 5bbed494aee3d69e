"""Bounded work and bounded memory: has_more, queued pongs, the hard cap."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import framebuilder as fb
from pair import look, lose, peer_close, peer_frame, sent_frames
from test_connection_messages import Deflater, compressing
from wsframe import (
    Cause,
    CloseFrame,
    CloseReceived,
    Connection,
    Disconnected,
    Event,
    Limits,
    LocalProtocolError,
    Message,
    PingReceived,
    PongReceived,
    PreparedMessage,
    Role,
    SlowPeerError,
    State,
    Timeouts,
    Transport,
)

both_roles = pytest.mark.parametrize("role", Role)
MIB = 1 << 20
BIG = Limits(max_message_size=64 * MIB)


def size(events: list[Event]) -> int:
    return sum(len(event.data) for event in events if isinstance(event, Message))


def joined(turns: list[list[Event]]) -> list[Event]:
    return [event for turn in turns for event in turn]


def rounds(connection: Connection, data: bytes) -> list[list[Event]]:
    """The events of each call until nothing is left."""
    result = [connection.receive_data(data)]
    while connection.has_more:
        assert len(result) < 1000
        result.append(connection.receive_data(b""))
    return result


# has_more.


@both_roles
def test_at_most_256_control_frames_at_a_time(role: Role) -> None:
    connection = Connection(role)
    payloads = [b"%d" % number for number in range(1000)]
    chunk = b"".join(
        peer_frame(role, fb.PING if number % 2 else fb.PONG, payload)
        for number, payload in enumerate(payloads)
    )
    turns = rounds(connection, chunk + peer_frame(role, fb.TEXT, b"end"))
    assert [len(turn) for turn in turns] == [256, 256, 256, 233]
    expected: list[Event] = [
        PingReceived(payload) if number % 2 else PongReceived(payload, None)
        for number, payload in enumerate(payloads)
    ]
    assert joined(turns) == [*expected, Message("end", 1)]
    assert sent_frames(connection) == [(fb.PONG, payload) for payload in payloads[1::2]]


@both_roles
def test_about_one_mib_of_payload_at_a_time(role: Role) -> None:
    connection = Connection(role)
    frame = peer_frame(role, fb.BINARY, b"x" * 100_000)
    turns = rounds(connection, frame * 50)
    assert all(size(turn) <= MIB + 100_000 for turn in turns)
    assert joined(turns) == [Message(b"x" * 100_000, 2)] * 50


@both_roles
def test_a_message_over_the_bound_comes_whole(role: Role) -> None:
    connection = Connection(role, limits=BIG)
    frame = peer_frame(role, fb.BINARY, b"x" * 3 * MIB)
    assert rounds(connection, frame * 2) == [[Message(b"x" * 3 * MIB, 2)]] * 2


@both_roles
def test_a_flood_of_empty_messages_is_bounded(role: Role) -> None:
    connection = Connection(role)
    turns = rounds(connection, peer_frame(role, fb.TEXT) * 50_000)
    assert max(len(turn) for turn in turns) <= 20_000
    assert sum(len(turn) for turn in turns) == 50_000


@both_roles
def test_order_is_kept_across_the_bound(role: Role) -> None:
    connection = Connection(role)
    wire, expected = b"", []
    for number in range(400):
        wire += peer_frame(role, fb.BINARY, b"%d" % number + b"x" * 9000) + peer_frame(
            role, fb.PING, b"%d" % number
        )
        expected += [Message(b"%d" % number + b"x" * 9000, 2), PingReceived(b"%d" % number)]
    turns = rounds(connection, wire)
    assert len(turns) > 3
    assert joined(turns) == expected


@both_roles
def test_small_bombs_in_one_chunk_are_inflated_a_few_at_a_time(role: Role) -> None:
    connection = compressing(role, Limits(max_message_size=MIB))
    deflate = Deflater()
    wire = b"".join(peer_frame(role, fb.BINARY, deflate(b"\0" * MIB), rsv=4) for _ in range(20))
    assert len(wire) < 30_000
    turns = rounds(connection, wire)
    assert [size(turn) for turn in turns if turn] == [MIB] * 20
    # When the transport is lost, what is left is not inflated without bound either.
    connection = compressing(role, Limits(max_message_size=MIB))
    first = connection.receive_data(wire)
    assert size(first) == MIB
    rest = connection.transport_closed()
    assert isinstance(rest[-1], Disconnected)
    assert size(rest) == 4 * MIB
    assert not connection.has_more


@both_roles
def test_fragments_that_inflate_are_counted_too(role: Role) -> None:
    connection = compressing(role, BIG)
    deflate = Deflater()
    pieces = [deflate(b"\0" * 300_000, final=number == 19) for number in range(20)]
    wire = b"".join(
        peer_frame(
            role, fb.CONTINUATION if number else fb.BINARY, piece, fin=number == 19, rsv=0 if number else 4
        )
        for number, piece in enumerate(pieces)
    )
    turns = rounds(connection, wire)
    assert len(turns) >= 5
    assert joined(turns) == [Message(b"\0" * 6_000_000, 2)]


@both_roles
def test_an_eof_while_has_more_is_judged_after_the_rest(role: Role) -> None:
    pings = peer_frame(role, fb.PING) * 300
    for rest, cause in (
        (b"", Cause.EOF),
        (peer_close(role, 1000), Cause.CLOSE_HANDSHAKE),
        (peer_frame(role, fb.TEXT, b"x")[:-1], Cause.TRUNCATED),
        (b"\xff\xff", Cause.PROTOCOL_ERROR),
    ):
        connection = Connection(role)
        events = connection.receive_data(pings + rest)
        assert connection.receive_eof() == []
        assert connection.receive_eof() == []
        assert look(connection) == (State.OPEN, Transport.OPEN)
        events += connection.receive_data(b"")
        assert events.count(PingReceived(b"")) == 300
        assert look(connection) == (State.CLOSING, Transport.CLOSE)
        connection.data_to_send()
        ending = lose(connection)
        assert ending.cause is cause
        assert ending.clean is (cause is Cause.CLOSE_HANDSHAKE)


@both_roles
def test_what_is_kept_is_delivered_when_the_transport_is_lost(role: Role) -> None:
    wire = peer_frame(role, fb.PING) * 600 + peer_frame(role, fb.TEXT, b"end") + peer_close(role, 4000)
    for lost in ("closed", "reset", "eof"):
        connection = Connection(role)
        events = connection.receive_data(wire)
        if lost == "reset":
            events += connection.receive_error(OSError(), Cause.RESET)
        elif lost == "eof":
            events += connection.receive_eof()
        events += connection.transport_closed()
        assert events[:-3] == [PingReceived(b"")] * 600
        assert events[-3:-1] == [Message("end", 1), CloseReceived(4000, "")]
        assert events[-1] is connection.ending
        assert connection.ending is not None
        # The Close was read, and could not be answered.
        assert (connection.ending.received, connection.ending.sent) == (CloseFrame(4000, ""), None)
        expected = {"closed": Cause.TRANSPORT_ERROR, "reset": Cause.RESET, "eof": Cause.EOF}[lost]
        assert connection.ending.cause is expected


@both_roles
def test_closing_while_has_more_finds_the_peers_close(role: Role) -> None:
    connection = Connection(role)
    wire = peer_frame(role, fb.PING) * 300 + peer_frame(role, fb.TEXT, b"x") * 30_000 + peer_close(role, 4000)
    connection.receive_data(wire)
    connection.data_to_send()
    connection.close()
    turns = rounds(connection, b"")
    assert joined(turns) == [CloseReceived(4000, "")]
    assert [opcode for opcode, _ in sent_frames(connection)] == [fb.CLOSE]


# Pongs.


def ping(connection: Connection, number: int) -> None:
    connection.receive_data(peer_frame(connection.role, fb.PING, b"%06d" % number))


def pongs(connection: Connection) -> list[int]:
    return [int(payload) for opcode, payload in sent_frames(connection) if opcode == fb.PONG]


@both_roles
def test_64_kib_of_pongs_and_then_the_latest(role: Role) -> None:
    connection = Connection(role)
    fit = 65536 // (8 if role is Role.SERVER else 12)
    for number in range(fit + 5000):
        ping(connection, number)
    assert connection.buffered <= 65536
    assert pongs(connection) == [*range(fit), fit + 4999]
    # The adapter took them all: from here on as before.
    ping(connection, 1)
    ping(connection, 2)
    assert pongs(connection) == [1, 2]


@both_roles
def test_a_smaller_bound(role: Role) -> None:
    connection = Connection(role, limits=Limits(max_pong_bytes=1))
    for number in range(5):
        ping(connection, number)
    assert pongs(connection) == [4]
    connection = Connection(role, limits=Limits(max_pong_bytes=24))
    for number in range(9):
        ping(connection, number)
    assert pongs(connection) == ([0, 1, 2, 8] if role is Role.SERVER else [0, 1, 8])


@both_roles
def test_pongs_with_the_adapter_count_as_well(role: Role) -> None:
    """An adapter that takes everything and cannot write it must not fill up with pongs."""
    connection = Connection(role)
    buffer = 0
    latest = -1
    for number in range(30_000):
        latest = number
        ping(connection, number)
        buffer += sum(map(len, connection.data_to_send()))
        connection.unsent(buffer)
    assert buffer <= 65536 + 200
    # The peer reads again: the last one is answered.
    connection.unsent(0)
    assert pongs(connection) == [latest]
    connection.unsent(0)
    ping(connection, 7)
    assert pongs(connection) == [7]


@both_roles
def test_a_busy_peer_that_reads_gets_every_pong(role: Role) -> None:
    connection = Connection(role, limits=Limits(max_pong_bytes=200))
    for number in range(1000):
        connection.send_bytes(b"x" * 100)
        ping(connection, number)
        assert pongs(connection) == [number]
        # Something is always unsent, but it moves.
        connection.unsent(60)


@both_roles
def test_a_pong_that_waits_is_not_sent_after_close(role: Role) -> None:
    connection = Connection(role, limits=Limits(max_pong_bytes=1))
    ping(connection, 1)
    connection.close()
    assert [opcode for opcode, _ in sent_frames(connection)] == [fb.CLOSE]
    assert connection.data_to_send() == []


# The hard cap.

CAP = Limits(write_low_water=1, write_high_water=1, write_hard_cap=1000)


@both_roles
def test_one_message_of_any_size_always_fits(role: Role) -> None:
    connection = Connection(role)
    connection.send_bytes(b"x" * (4 * MIB - 100))
    connection.send_bytes(b"y" * 20 * MIB)
    assert connection.state is State.OPEN
    assert [len(payload) for _, payload in sent_frames(connection)] == [4 * MIB - 100, 20 * MIB]


@both_roles
def test_the_cap_itself_is_not_over_it(role: Role) -> None:
    connection = Connection(role, limits=CAP)
    header = 4 if role is Role.SERVER else 8
    connection.send_bytes(b"x" * (1000 - header))
    assert connection.buffered == 1000
    connection.send_bytes(b"y")
    with pytest.raises(SlowPeerError, match=r"over write_hard_cap \(1000\)"):
        connection.send_bytes(b"z")


@pytest.mark.parametrize("handed", [True, False])
@pytest.mark.parametrize("what", ["text", "bytes", "fragment", "prepared", "ping", "pong"])
@both_roles
def test_over_the_cap_it_ends_as_slow_peer(role: Role, what: str, handed: bool) -> None:
    connection = Connection(role, limits=CAP, timeouts=Timeouts(ping_interval=None))
    connection.send_bytes(b"begun" * 300)
    if handed:
        taken = sum(map(len, connection.data_to_send()))
        connection.unsent(taken)
        assert connection.buffered == taken
    if what == "prepared" and role is Role.CLIENT:
        what = "text"
    sends: dict[str, Callable[[], object]] = {
        "text": lambda: connection.send_text("x"),
        "bytes": lambda: connection.send_bytes(b"x"),
        "fragment": lambda: connection.send_fragment(b"x", final=False),
        "prepared": lambda: connection.send_prepared(PreparedMessage("x")),
        "ping": connection.ping,
        "pong": connection.pong,
    }
    send = sends[what]
    with pytest.raises(SlowPeerError):
        send()
    assert look(connection) == (State.CLOSING, Transport.SHUTDOWN_WRITE)
    # What was not begun is dropped; the peer is told why.
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(1013, b"too slow to receive"))]
    with pytest.raises(LocalProtocolError):
        send()
    assert connection.next_timeout(5.0) is not None
    connection.unsent(10)
    connection.handle_timeout(15.0)
    assert connection.transport is Transport.ABORT
    ending = lose(connection)
    assert (ending.cause, ending.phase, ending.clean) == (Cause.SLOW_PEER, State.OPEN, False)
    assert ending.sent == CloseFrame(1013, "too slow to receive")


@both_roles
def test_a_peer_that_catches_up_is_not_slow(role: Role) -> None:
    connection = Connection(role, limits=CAP)
    for _ in range(100):
        connection.send_bytes(b"x" * 3000)
        connection.data_to_send()
        connection.unsent(1000)


# unsent().


@both_roles
def test_unsent_is_checked(role: Role) -> None:
    connection = Connection(role)
    with pytest.raises(ValueError, match="less than nothing"):
        connection.unsent(-1)
    connection.send_text("x")
    queued = connection.buffered
    # A TLS layer holds more than went into it; nothing was handed out yet.
    connection.unsent(100)
    assert connection.buffered == queued
    connection.data_to_send()
    connection.unsent(100)
    assert connection.buffered == queued
    connection.unsent(1)
    assert connection.buffered == 1
    connection.unsent(0)
    assert connection.buffered == 0
