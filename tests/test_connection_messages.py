"""Messages and control frames of an open Connection, sent and received (RFC 6455 s5, RFC 7692 s6, s7)."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest

import framebuilder as fb
from pair import Pair, counting_bytes, peer_close, peer_frame, sent_frames
from wsframe import (
    Cause,
    CloseReceived,
    Connection,
    Disconnected,
    Event,
    Limits,
    LocalProtocolError,
    Message,
    MessageChunk,
    PermessageDeflate,
    PingReceived,
    PongReceived,
    PreparedMessage,
    Role,
    State,
    Transport,
)
from wsframe._deflate import DeflateCodec

both_roles = pytest.mark.parametrize("role", Role)


def text(data: str) -> Message:
    return Message(data, 1)


def binary(data: bytes) -> Message:
    return Message(data, 2)


def codecs(settings: PermessageDeflate | None = None) -> tuple[DeflateCodec, DeflateCodec]:
    """A client's and a server's, as they agree on them."""
    settings = settings or PermessageDeflate(min_size=0)
    server = settings.accept_offer(settings.offers()[0])
    assert server is not None
    return settings.accept_response(server.params), server


def compressing(role: Role, limits: Limits | None = None, *, stream: bool = False) -> Connection:
    client, server = codecs()
    return Connection(
        role, limits=limits, stream=stream, extensions=[client if role is Role.CLIENT else server]
    )


class Deflater:
    """What a peer with context takeover does, written from RFC 7692 s7.2.1."""

    def __init__(self) -> None:
        self._deflater = zlib.compressobj(wbits=-12)

    def __call__(self, data: bytes, final: bool = True) -> bytes:
        payload = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        return payload[:-4] if final else payload


# s5.5.2, s5.5.3: Ping and Pong.


@both_roles
def test_s5_5_2_pings_are_answered_in_order_with_the_same_payload(role: Role) -> None:
    connection = Connection(role)
    payloads = [b"", b"a", b"\x00\xff" * 62 + b"!", b"a"]
    chunk = b"".join(peer_frame(role, fb.PING, payload) for payload in payloads)
    assert connection.receive_data(chunk) == [PingReceived(payload) for payload in payloads]
    assert sent_frames(connection) == [(fb.PONG, payload) for payload in payloads]


@both_roles
def test_s5_5_2_a_pong_goes_behind_what_was_queued_before(role: Role) -> None:
    connection = Connection(role)
    connection.send_text("first")
    connection.receive_data(peer_frame(role, fb.PING, b"p"))
    connection.send_text("second")
    assert sent_frames(connection) == [(fb.TEXT, b"first"), (fb.PONG, b"p"), (fb.TEXT, b"second")]


@both_roles
def test_s5_5_2_no_pong_after_our_close(role: Role) -> None:
    connection = Connection(role)
    connection.close()
    assert connection.receive_data(peer_frame(role, fb.PING, b"p")) == []
    assert [opcode for opcode, _ in sent_frames(connection)] == [fb.CLOSE]
    assert connection.receive_data(peer_frame(role, fb.PING, b"p") + peer_frame(role, fb.PONG)) == []
    assert sent_frames(connection) == []


@both_roles
def test_s5_5_2_no_pong_after_the_peers_close(role: Role) -> None:
    connection = Connection(role)
    connection.receive_data(
        peer_frame(role, fb.PING, b"1") + peer_frame(role, fb.CLOSE) + peer_frame(role, fb.PING, b"2")
    )
    assert sent_frames(connection) == [(fb.PONG, b"1"), (fb.CLOSE, b"")]


@both_roles
def test_s5_5_3_an_unsolicited_pong_needs_no_answer(role: Role) -> None:
    connection = Connection(role)
    assert connection.receive_data(peer_frame(role, fb.PONG, b"x")) == [PongReceived(b"x", None)]
    assert sent_frames(connection) == []
    connection.pong(b"y")
    connection.pong()
    assert sent_frames(connection) == [(fb.PONG, b"y"), (fb.PONG, b"")]


@both_roles
def test_s5_5_control_payloads_up_to_125_bytes(role: Role) -> None:
    connection = Connection(role)
    assert connection.ping(b"x" * 125) == b"x" * 125
    connection.pong(b"x" * 125)
    for send in (connection.ping, connection.pong):
        with pytest.raises(LocalProtocolError, match="at most 125 bytes, not 126"):
            send(b"x" * 126)
    assert sent_frames(connection) == [(fb.PING, b"x" * 125), (fb.PONG, b"x" * 125)]
    assert connection.state is State.OPEN


def test_a_ping_without_payload_gets_a_random_one() -> None:
    connection = Connection(Role.SERVER)
    payloads = {connection.ping() for _ in range(50)}
    assert len(payloads) == 50
    assert {len(payload) for payload in payloads} == {4}


def pong(connection: Connection, payload: bytes, now: float) -> float | None:
    (event,) = connection.receive_data(peer_frame(connection.role, fb.PONG, payload), now)
    assert isinstance(event, PongReceived)
    assert event.payload == payload
    return event.rtt


@both_roles
def test_round_trip_times_by_payload(role: Role) -> None:
    connection = Connection(role)
    connection.ping(b"a", 10.0)
    connection.ping(b"b", 11.0)
    assert pong(connection, b"a", 12.0) == 2.0
    assert connection.latency == 2.0
    assert pong(connection, b"a", 12.5) is None  # a duplicate
    assert pong(connection, b"?", 12.5) is None  # unknown
    assert connection.latency == 2.0
    assert pong(connection, b"b", 14.0) == 3.0
    assert connection.latency == 3.0


def test_a_pong_settles_earlier_pings() -> None:
    connection = Connection(Role.CLIENT)
    for number, payload in enumerate((b"a", b"b", b"c")):
        connection.ping(payload, float(number))
    assert pong(connection, b"b", 5.0) == 4.0
    assert pong(connection, b"a", 6.0) is None  # late
    assert pong(connection, b"c", 6.0) == 4.0


def test_the_same_payload_twice_is_measured_from_the_later_ping() -> None:
    connection = Connection(Role.CLIENT)
    connection.ping(b"a", 1.0)
    connection.ping(b"a", 3.0)
    assert pong(connection, b"a", 4.0) == 1.0
    assert pong(connection, b"a", 5.0) is None


def test_a_ping_without_a_time_is_measured_from_the_next_call_that_brings_one() -> None:
    connection = Connection(Role.CLIENT)
    connection.ping(b"a")
    connection.next_timeout(100.0)
    connection.next_timeout(101.0)
    assert pong(connection, b"a", 102.5) == 2.5


def test_unanswered_pings_are_not_remembered_without_bound() -> None:
    connection = Connection(Role.CLIENT)
    for number in range(1000):
        connection.ping(number.to_bytes(4, "big"), 1.0)
    assert pong(connection, (0).to_bytes(4, "big"), 2.0) is None
    assert pong(connection, (999).to_bytes(4, "big"), 2.0) == 1.0


# s5.4, s5.6: messages.


@both_roles
def test_s5_6_text_and_binary(role: Role) -> None:
    connection = Connection(role)
    connection.send_text("Grüße 🦊")
    connection.send_text("Grüße".encode())
    connection.send_text(bytearray(b"ascii"))
    connection.send_text("")
    connection.send_bytes(b"")
    connection.send_bytes(b"\x00\xff")
    assert sent_frames(connection) == [
        (fb.TEXT, "Grüße 🦊".encode()),
        (fb.TEXT, "Grüße".encode()),
        (fb.TEXT, b"ascii"),
        (fb.TEXT, b""),
        (fb.BINARY, b""),
        (fb.BINARY, b"\x00\xff"),
    ]


@both_roles
@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 40000, 1 << 20])
def test_s5_2_every_length_arrives(role: Role, size: int) -> None:
    pair = Pair(limits=Limits())
    side, other = (pair.client, pair.server) if role is Role.CLIENT else (pair.server, pair.client)
    side.endpoint.send_bytes(b"b" * size)
    side.endpoint.send_text("t" * size)
    pair.settle()
    assert other.events == [binary(b"b" * size), text("t" * size)]


@both_roles
def test_bytes_like_data_is_copied(role: Role) -> None:
    connection = Connection(role)
    for size in (5, 50000):
        data = bytearray(b"x" * size)
        connection.send_bytes(data)
        connection.send_bytes(memoryview(data)[::-1])
        connection.send_text(data)
        connection.send_text(memoryview(data))
        connection.send_fragment(data, final=False)
        connection.send_fragment(memoryview(data), final=True)
        connection.ping(data[:5])
        connection.pong(data[:5])
        data[:] = b"y" * size
        frames = sent_frames(connection)
        assert {bytes(set(payload)) for _, payload in frames} == {b"x"}
        assert [len(payload) for _, payload in frames] == [size] * 6 + [5] * 2


@both_roles
def test_what_is_neither_str_nor_bytes_like_is_refused(role: Role) -> None:
    connection = Connection(role)
    sends: list[Callable[[object], object]] = [
        connection.send_bytes,  # type: ignore[list-item]
        connection.send_text,  # type: ignore[list-item]
        connection.ping,  # type: ignore[list-item]
        connection.pong,  # type: ignore[list-item]
        lambda data: connection.send_fragment(data, final=True),  # type: ignore[arg-type]
    ]
    for send in sends:
        for wrong in (5, [1, 2], object()):
            with pytest.raises(TypeError):
                send(wrong)
    for send in (sends[0], sends[2], sends[3]):
        with pytest.raises(TypeError):
            send("text")
    assert sent_frames(connection) == []


@pytest.mark.parametrize("extension", [False, True])
@both_roles
def test_s8_1_text_that_utf8_cannot_carry(role: Role, extension: bool) -> None:
    connection = compressing(role) if extension else Connection(role)
    for wrong in ("\ud800", "a" * 50000 + "\udfff"):
        with pytest.raises(LocalProtocolError, match="UTF-8"):
            connection.send_text(wrong)
        with pytest.raises(LocalProtocolError, match="UTF-8"):
            connection.send_fragment(wrong, final=False)
    for wrong_bytes in (b"\xff", b"\xed\xa0\x80", b"ab\xc3"):
        with pytest.raises(LocalProtocolError, match="not UTF-8"):
            connection.send_text(wrong_bytes)
    assert sent_frames(connection) == []
    connection.send_text("fine")


@both_roles
def test_s5_4_fragments(role: Role) -> None:
    connection = Connection(role)
    connection.send_fragment("a", final=False)
    connection.send_fragment("", final=False)
    connection.ping(b"between")
    connection.send_fragment("ü", final=True)
    connection.send_fragment(b"whole", final=True)
    frames = fb.parse_all(b"".join(connection.data_to_send()))
    assert [(frame.opcode, frame.payload, frame.fin) for frame in frames] == [
        (fb.TEXT, b"a", False),
        (fb.CONTINUATION, b"", False),
        (fb.PING, b"between", True),
        (fb.CONTINUATION, "ü".encode(), True),
        (fb.BINARY, b"whole", True),
    ]


@both_roles
def test_s5_4_no_other_message_between_fragments(role: Role) -> None:
    connection = Connection(role)
    connection.send_fragment("a", final=False)
    with pytest.raises(LocalProtocolError, match="in progress"):
        connection.send_text("b")
    with pytest.raises(LocalProtocolError, match="in progress"):
        connection.send_bytes(b"b")
    with pytest.raises(LocalProtocolError, match="all be str"):
        connection.send_fragment(b"b", final=True)
    if role is Role.SERVER:
        with pytest.raises(LocalProtocolError, match="in progress"):
            connection.send_prepared(PreparedMessage("b"))
    connection.send_fragment("c", final=True)
    connection.send_text("d")
    assert sent_frames(connection) == [(fb.TEXT, b"a"), (fb.CONTINUATION, b"c"), (fb.TEXT, b"d")]


@both_roles
def test_s5_5_1_a_close_may_stand_between_fragments(role: Role) -> None:
    connection = Connection(role)
    connection.send_fragment("a", final=False)
    connection.close()
    assert [opcode for opcode, _ in sent_frames(connection)] == [fb.TEXT, fb.CLOSE]


def test_prepared_messages_are_for_servers() -> None:
    server = Connection(Role.SERVER)
    messages = [PreparedMessage("ü" * 100), PreparedMessage(bytearray(b"b" * 70000))]
    for message in messages:
        server.send_prepared(message)
    assert sent_frames(server) == [(fb.TEXT, ("ü" * 100).encode()), (fb.BINARY, b"b" * 70000)]
    assert [message.size for message in messages] == [200, 70000]
    with pytest.raises(LocalProtocolError, match="client cannot send prepared"):
        Connection(Role.CLIENT).send_prepared(messages[0])
    with pytest.raises(LocalProtocolError):
        PreparedMessage("\ud800")


def end_up(connection: Connection, how: str) -> None:
    if how == "closing":
        connection.close()
    elif how == "peer closing":
        connection.receive_data(peer_frame(connection.role, fb.CLOSE))
    elif how == "failed":
        connection.receive_data(b"\xff\xff")
    elif how == "aborted":
        connection.abort()
    else:
        connection.transport_closed()


@pytest.mark.parametrize("how", ["closing", "peer closing", "failed", "aborted", "closed"])
@both_roles
def test_sends_after_the_end_raise_and_change_nothing(role: Role, how: str) -> None:
    connection = Connection(role)
    end_up(connection, how)
    state, before = connection.state, connection.buffered
    for send in (
        lambda: connection.send_text("x"),
        lambda: connection.send_bytes(b"x"),
        lambda: connection.send_fragment(b"x", final=True),
        lambda: connection.ping(),
        lambda: connection.pong(),
    ):
        with pytest.raises(LocalProtocolError, match=f"cannot send: the connection is {state.name}"):
            send()
    if role is Role.SERVER:
        with pytest.raises(LocalProtocolError):
            connection.send_prepared(PreparedMessage("x"))
    assert (connection.state, connection.buffered) == (state, before)


# s5.3: masking.


def test_s5_3_every_client_frame_has_its_own_key_from_random_bytes() -> None:
    asked: list[int] = []
    entropy = counting_bytes()

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return entropy(count)

    client = Connection(Role.CLIENT, random_bytes=random_bytes)
    assert asked == []
    for _ in range(600):
        client.send_text("same")
    frames = fb.parse_all(b"".join(client.data_to_send()))
    assert len({frame.key for frame in frames}) == 600
    assert {frame.payload for frame in frames} == {b"same"}
    # Not a call per key.
    assert len(asked) <= 3
    # The same entropy, the same bytes.
    outputs = []
    for _ in range(2):
        again = Connection(Role.CLIENT, random_bytes=counting_bytes())
        again.send_text("x")
        again.ping()
        outputs.append(again.data_to_send())
    assert outputs[0] == outputs[1]


def test_s5_1_a_server_masks_nothing_and_needs_no_entropy() -> None:
    def none(count: int) -> bytes:
        raise AssertionError("entropy is not needed")

    server = Connection(Role.SERVER, random_bytes=none)
    server.send_text("x")
    server.close()
    assert sent_frames(server) == [(fb.TEXT, b"x"), (fb.CLOSE, fb.close_payload(1000))]


# Receiving.


@both_roles
def test_messages_before_an_error_in_the_same_chunk_are_delivered(role: Role) -> None:
    connection = Connection(role)
    chunk = (
        peer_frame(role, fb.TEXT, b"a") + peer_frame(role, fb.PING, b"p") + peer_frame(role, fb.BINARY, b"b")
    )
    assert connection.receive_data(
        chunk + peer_frame(role, fb.TEXT, b"\xff") + peer_frame(role, fb.TEXT, b"c")
    ) == [
        text("a"),
        PingReceived(b"p"),
        binary(b"b"),
    ]
    # They can still be answered: the failure comes with the next call.
    connection.send_text("answer")
    assert (connection.has_more, connection.transport) == (True, Transport.OPEN)
    assert connection.receive_data(b"") == []
    assert (connection.has_more, connection.transport) == (False, Transport.SHUTDOWN_WRITE)
    assert sent_frames(connection) == [
        (fb.PONG, b"p"),
        (fb.TEXT, b"answer"),
        (fb.CLOSE, fb.close_payload(1007, b"invalid UTF-8 in a text message")),
    ]
    assert connection.receive_data(peer_frame(role, fb.TEXT, b"d")) == []


@both_roles
def test_messages_before_a_close_in_the_same_chunk_can_be_answered(role: Role) -> None:
    connection = Connection(role)
    chunk = (
        peer_frame(role, fb.TEXT, b"a") + peer_close(role, 1000, b"bye") + peer_frame(role, fb.TEXT, b"never")
    )
    assert (connection.receive_data(chunk), connection.has_more) == ([text("a")], True)
    connection.send_text("answer")
    # More input changes nothing: what is kept comes first, and after it nothing is looked at.
    assert connection.receive_data(peer_frame(role, fb.TEXT, b"nor this")) == [CloseReceived(1000, "bye")]
    assert connection.has_more is False
    assert sent_frames(connection) == [(fb.TEXT, b"answer"), (fb.CLOSE, fb.close_payload(1000))]


@both_roles
def test_our_close_before_the_last_word_was_looked_at(role: Role) -> None:
    connection = Connection(role)
    connection.receive_data(peer_frame(role, fb.TEXT, b"a") + peer_close(role, 1000, b"bye"))
    connection.close(4000, "ours")
    assert sent_frames(connection) == [(fb.CLOSE, fb.close_payload(4000, b"ours"))]
    assert connection.receive_data(b"") == [CloseReceived(1000, "bye")]
    (ending,) = connection.transport_closed()
    assert isinstance(ending, Disconnected)
    assert (ending.clean, ending.received_first) == (True, False)


@both_roles
@pytest.mark.parametrize("last", ["message", "ping", "close", "bad close", "error", "part"])
@pytest.mark.parametrize("first", [True, False])
def test_the_caller_has_its_buffer_back(role: Role, last: str, first: bool) -> None:
    connection = Connection(role)
    wire = {
        "message": peer_frame(role, fb.TEXT, b"a"),
        "ping": peer_frame(role, fb.PING, b"p"),
        "close": peer_close(role, 1000) + b"behind it",
        "bad close": peer_close(role, 1000, b"\xff"),
        "error": b"\x83" + b"behind it",
        "part": peer_frame(role, fb.TEXT, b"cut off")[:-1],
    }[last]
    buffer = bytearray((peer_frame(role, fb.TEXT, b"before") if first else b"") + wire)
    connection.receive_data(memoryview(buffer)[:])
    # Growing is refused as long as somebody looks at the memory.
    buffer += b"more"
    connection.receive_data(b"")
    buffer += b"and more"


def test_the_caller_has_its_buffer_back_when_an_exception_comes_out() -> None:
    def exhausted(size: int) -> bytes:
        raise MemoryError

    # The answer to the ping needs a masking key.
    connection = Connection(Role.CLIENT, random_bytes=exhausted)
    buffer = bytearray(fb.build(fb.PING, b"p") + fb.build(fb.TEXT, b"behind it"))
    raised = False
    try:
        connection.receive_data(memoryview(buffer)[:])
    except MemoryError:
        raised = True
    assert raised
    # Growing is refused as long as somebody looks at the memory.
    buffer += b"more"


@both_roles
def test_trailing_data_comes_out_of_the_first_receive_data(role: Role) -> None:
    trailing = bytearray(peer_frame(role, fb.TEXT, b"early") + peer_frame(role, fb.TEXT, b"split"))
    connection = Connection(role, trailing_data=bytes(trailing[:-2]))
    assert (connection.has_more, connection.receive_data(b"")) == (True, [text("early")])
    assert not connection.has_more
    assert connection.receive_data(trailing[-2:]) == [text("split")]
    joined = Connection(role, trailing_data=bytes(trailing[:-2]))
    assert joined.receive_data(trailing[-2:]) == [text("early"), text("split")]
    lost = Connection(role, trailing_data=bytes(trailing))
    assert lost.transport_closed()[:-1] == [text("early"), text("split")]


@both_roles
def test_a_received_buffer_may_be_reused(role: Role) -> None:
    connection = Connection(role)
    frame = peer_frame(role, fb.BINARY, b"x" * 300)
    buffer = bytearray(100)
    events: list[Event] = []
    for start in range(0, len(frame), 100):
        piece = frame[start : start + 100]
        buffer[: len(piece)] = piece
        events += connection.receive_data(memoryview(buffer)[: len(piece)])
        buffer[:] = b"\x00" * 100
    assert events == [binary(b"x" * 300)]


@both_roles
def test_a_received_buffer_may_be_reused_when_there_is_more(role: Role) -> None:
    # Asyncio's connections share one receive buffer: what stays for the next call must not stay in there.
    wire = b"".join(peer_frame(role, fb.PING, b"%d" % i) for i in range(600)) + peer_frame(
        role, fb.TEXT, b"end"
    )
    buffer = bytearray(wire)
    connection = Connection(role)
    events = connection.receive_data(memoryview(buffer))
    assert len(events) == 256
    buffer[:] = b"\xff" * len(buffer)
    buffer.append(0)
    while connection.has_more:
        events += connection.receive_data(b"")
    assert events == [*(PingReceived(b"%d" % i) for i in range(600)), text("end")]


@both_roles
@pytest.mark.parametrize("last", [fb.CLOSE, 11])
@pytest.mark.parametrize("pings", range(253, 259))
def test_there_is_no_more_after_the_last_word(role: Role, last: int, pings: int) -> None:
    # Also where it is what the bound of work is reached with.
    connection = Connection(role)
    pinged = peer_frame(role, fb.PING, b"") * pings
    events = connection.receive_data(pinged + peer_frame(role, last) + peer_frame(role, fb.TEXT, b"never"))
    if connection.has_more:
        events += connection.receive_data(b"")
    assert not connection.has_more
    assert events == [PingReceived(b"")] * pings + [CloseReceived(1005, "")] * (last == fb.CLOSE)


@both_roles
def test_there_is_no_more_after_the_last_word_that_follows_dropped_data(role: Role) -> None:
    connection = Connection(role)
    connection.close()
    large = peer_frame(role, fb.BINARY, bytes(1 << 20), fin=False) + peer_frame(role, fb.CONTINUATION, b"")
    cut = len(large) - 3
    events = connection.receive_data(large[:cut])
    events += connection.receive_data(large[cut:] + peer_frame(role, fb.CLOSE))
    for _ in range(3):
        if connection.has_more:
            events += connection.receive_data(b"")
    assert not connection.has_more
    assert events == [CloseReceived(1005, "")]


@both_roles
@pytest.mark.parametrize("last", [fb.CLOSE, 11])
def test_a_received_buffer_is_let_go_of_at_the_end(role: Role, last: int) -> None:
    for before in b"", peer_frame(role, fb.TEXT, b"a"):
        buffer = bytearray(before + peer_frame(role, last) + b"more")
        connection = Connection(role)
        connection.receive_data(memoryview(buffer))
        buffer.append(0)
        trailing = bytearray(buffer)
        connection = Connection(role, trailing_data=trailing)  # type: ignore[arg-type]
        trailing.append(0)


@both_roles
def test_decode_text_false_leaves_validated_bytes(role: Role) -> None:
    connection = Connection(role, decode_text=False)
    (message,) = connection.receive_data(peer_frame(role, fb.TEXT, "ü".encode()))
    assert message == Message("ü".encode(), 1)
    assert isinstance(message, Message)
    assert message.is_text
    connection.receive_data(peer_frame(role, fb.TEXT, b"\xff"))
    (ending,) = connection.transport_closed()
    assert ending is connection.ending
    assert connection.ending is not None
    assert connection.ending.cause is Cause.INVALID_DATA


@pytest.mark.parametrize("compressed", [False, True])
@both_roles
def test_streaming(role: Role, compressed: bool) -> None:
    connection = compressing(role, stream=True) if compressed else Connection(role, stream=True)
    deflate = Deflater()
    text_data = "Grüße, 🦊! ".encode() * 40
    parts = [text_data[:101], b"", text_data[101:]]
    wire = b""
    for index, part in enumerate(parts):
        final = index == 2
        payload = deflate(part, final) if compressed else part
        opcode = fb.CONTINUATION if index else fb.TEXT
        wire += peer_frame(role, opcode, payload, fin=final, rsv=4 if compressed and not index else 0)
        wire += peer_frame(role, fb.PING, b"%d" % index)
    wire += peer_frame(role, fb.BINARY, b"")
    for size in (1, 7, 64, len(wire)):
        if size != 1:
            connection = compressing(role, stream=True) if compressed else Connection(role, stream=True)
        events: list[Event] = []
        for start in range(0, len(wire), size):
            events += connection.receive_data(wire[start : start + size])
        chunks = [event for event in events if isinstance(event, MessageChunk)]
        assert chunks[-1] == MessageChunk(b"", 2, True, True)
        chunks.pop()
        assert "".join(str(chunk.data) for chunk in chunks) == text_data.decode()
        assert [chunk.first for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
        assert [chunk.final for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
        assert [event.payload for event in events if isinstance(event, PingReceived)] == [b"0", b"1", b"2"]


# Limits.


@both_roles
def test_max_message_size_itself_passes(role: Role) -> None:
    limits = Limits(max_message_size=1000)
    connection = Connection(role, limits=limits)
    assert connection.receive_data(peer_frame(role, fb.BINARY, b"x" * 1000)) == [binary(b"x" * 1000)]
    connection.receive_data(
        peer_frame(role, fb.BINARY, b"x" * 600, fin=False) + peer_frame(role, fb.PING, b"p" * 125)
    )
    assert connection.receive_data(peer_frame(role, fb.CONTINUATION, b"x" * 400)) == [binary(b"x" * 1000)]
    connection.receive_data(peer_frame(role, fb.BINARY, b"x" * 600, fin=False))
    # Refused with its header, before anything is kept.
    assert connection.receive_data(peer_frame(role, fb.CONTINUATION, b"x" * 401)[:8]) == []
    assert connection.transport is Transport.SHUTDOWN_WRITE
    assert sent_frames(connection)[-1][1][:2] == (1009).to_bytes(2, "big")


@both_roles
def test_max_fragments_itself_passes(role: Role) -> None:
    connection = Connection(role, limits=Limits(max_fragments=3))
    parts = [peer_frame(role, fb.TEXT, b"a", fin=False), peer_frame(role, fb.CONTINUATION, b"b", fin=False)]
    assert connection.receive_data(b"".join(parts) + peer_frame(role, fb.CONTINUATION, b"c")) == [text("abc")]
    connection.receive_data(b"".join(parts) + parts[1] + peer_frame(role, fb.CONTINUATION, b"c"))
    assert sent_frames(connection) == [
        (fb.CLOSE, fb.close_payload(1009, b"message has over 3 fragments")),
    ]


# RFC 7692.


@both_roles
def test_rfc7692_s6_a_message_goes_both_ways(role: Role) -> None:
    pair = Pair(extensions=codecs(PermessageDeflate(min_size=5)), limits=Limits())
    side, other = (pair.client, pair.server) if role is Role.CLIENT else (pair.server, pair.client)
    side.endpoint.send_text("small" * 300)
    side.endpoint.send_text("tiny")
    side.endpoint.send_fragment(b"part", final=False)
    side.endpoint.ping(b"p")
    side.endpoint.send_fragment(b"", final=False)
    side.endpoint.send_fragment(b"end", final=True)
    side.endpoint.send_fragment(b"tiny", final=True)
    if role is Role.SERVER:
        side.endpoint.send_prepared(PreparedMessage("plain" * 100))
    side.endpoint.send_bytes(b"")
    side.endpoint.send_text("small" * 300)
    wire = fb.parse_all(b"".join(side.endpoint.data_to_send()))
    data = [frame for frame in wire if frame.opcode != fb.PING]
    rsv = [4, 0, 4, 0, 0, 0, *([0] if role is Role.SERVER else []), 0, 4]
    assert [frame.rsv for frame in data] == rsv
    # Context takeover: the second time it costs next to nothing.
    assert len(data[-1].payload) < len(data[0].payload)
    events: list[Event] = []
    for frame in wire:
        mask = frame.key if frame.masked else None
        events += other.endpoint.receive_data(
            fb.build(frame.opcode, frame.payload, fin=frame.fin, rsv=frame.rsv, mask=mask)
        )
    assert events == [
        text("small" * 300),
        text("tiny"),
        PingReceived(b"p"),
        binary(b"partend"),
        binary(b"tiny"),
        *([text("plain" * 100)] if role is Role.SERVER else []),
        binary(b""),
        text("small" * 300),
    ]


@both_roles
def test_rfc7692_s6_1_a_ping_between_compressed_fragments(role: Role) -> None:
    connection = compressing(role)
    deflate = Deflater()
    first = deflate(b"Hello, ", False)
    events = connection.receive_data(
        peer_frame(role, fb.TEXT, first, fin=False, rsv=4)
        + peer_frame(role, fb.PING, b"p")
        + peer_frame(role, fb.CONTINUATION, deflate(b"world"))
        + peer_frame(role, fb.TEXT, b"uncompressed between")
        + peer_frame(role, fb.TEXT, deflate(b"Hello, world"), rsv=4)
    )
    assert events == [
        PingReceived(b"p"),
        text("Hello, world"),
        text("uncompressed between"),
        text("Hello, world"),
    ]


@both_roles
def test_rfc7692_s7_2_3_4_a_final_block_is_legal(role: Role) -> None:
    connection = compressing(role)
    final = zlib.compressobj(wbits=-12)
    payload = final.compress(b"Hello") + final.flush(zlib.Z_FINISH) + b"\x00"
    for _ in range(2):
        assert connection.receive_data(peer_frame(role, fb.TEXT, payload, rsv=4)) == [text("Hello")]


@both_roles
def test_the_limit_is_on_the_inflated_size(role: Role) -> None:
    limits = Limits(max_message_size=10000)
    exact, over = Deflater()(b"x" * 10000), Deflater()(b"x" * 10001)
    connection = compressing(role, limits)
    assert connection.receive_data(peer_frame(role, fb.BINARY, exact, rsv=4)) == [binary(b"x" * 10000)]
    connection = compressing(role, limits)
    assert connection.receive_data(peer_frame(role, fb.BINARY, over, rsv=4)) == []
    assert sent_frames(connection)[0][1][:2] == (1009).to_bytes(2, "big")
    # Over several frames, too, and a fresh count for each message.
    connection = compressing(role, limits)
    deflate = Deflater()
    for _ in range(3):
        assert connection.receive_data(
            peer_frame(role, fb.BINARY, deflate(b"x" * 6000, False), fin=False, rsv=4)
            + peer_frame(role, fb.CONTINUATION, deflate(b"x" * 4000))
        ) == [binary(b"x" * 10000)]
    connection.receive_data(
        peer_frame(role, fb.BINARY, deflate(b"x" * 6000, False), fin=False, rsv=4)
        + peer_frame(role, fb.CONTINUATION, deflate(b"x" * 4001))
    )
    (ending,) = connection.transport_closed()
    assert ending is connection.ending
    assert connection.ending is not None
    assert connection.ending.cause is Cause.TOO_BIG


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"\x06", Deflater()(b"x" * 50)[:-3]])
@both_roles
def test_bad_compressed_data_is_1007(role: Role, payload: bytes) -> None:
    connection = compressing(role)
    good = Deflater()(b"good")
    events = connection.receive_data(
        peer_frame(role, fb.BINARY, good, rsv=4) + peer_frame(role, fb.BINARY, payload, rsv=4)
    )
    assert events == [binary(b"good")]
    assert connection.receive_data(b"") == []
    assert sent_frames(connection)[0][1][:2] == (1007).to_bytes(2, "big")
    connection.transport_closed()
    assert connection.ending is not None
    assert connection.ending.cause is Cause.INVALID_DATA


@both_roles
def test_compressed_text_is_checked_after_inflating(role: Role) -> None:
    connection = compressing(role)
    deflate = Deflater()
    assert connection.receive_data(
        peer_frame(role, fb.TEXT, deflate("é".encode()[:1], False), fin=False, rsv=4)
        + peer_frame(role, fb.CONTINUATION, deflate("é".encode()[1:]))
    ) == [text("é")]
    assert connection.receive_data(peer_frame(role, fb.TEXT, deflate(b"\xc3"), rsv=4)) == []
    assert sent_frames(connection)[0][1][:2] == (1007).to_bytes(2, "big")


@both_roles
def test_rfc7692_s6_rsv1_without_the_extension(role: Role) -> None:
    connection = Connection(role)
    assert connection.receive_data(peer_frame(role, fb.TEXT, Deflater()(b"x"), rsv=4)) == []
    assert sent_frames(connection)[0][1][:2] == (1002).to_bytes(2, "big")


def test_one_extension_at_the_most() -> None:
    codec, _ = codecs()
    with pytest.raises(LocalProtocolError, match="only one"):
        Connection(Role.CLIENT, extensions=[codec, codec])
    assert Connection(Role.CLIENT, extensions=[codec]).extensions == (codec,)
