"""Laws for any history: two endpoints that end in order, and one endpoint that is sent anything at all.

Two endpoints that do anything are in `machine`.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import framebuilder as fb
from pair import Pair, Side, assert_over, counting_bytes, peer_frame
from setting import agreed, codes, datas, sides, texts
from wsframe import (
    Cause,
    CloseReceived,
    Connection,
    Disconnected,
    Event,
    Limits,
    LocalProtocolError,
    Message,
    PingReceived,
    PongReceived,
    Role,
    State,
    Timeouts,
    Transport,
)

calm_steps = st.one_of(
    st.tuples(st.just("send"), sides, datas),
    st.tuples(st.just("send"), sides, datas),
    st.tuples(st.just("fragment"), sides, datas, st.booleans()),
    st.tuples(st.just("ping"), sides, st.binary(max_size=125) | st.none()),
    st.tuples(st.just("deliver"), sides, st.integers(1, 400)),
    st.tuples(st.just("deliver"), sides, st.none()),
    st.tuples(st.just("pause"), sides, st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([0.01, 0.5])),
)
smooth = st.lists(calm_steps, min_size=8, max_size=30)


class Run:
    """A program on a pair, and what it is owed."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.sent: tuple[list[str | bytes], list[str | bytes]] = ([], [])
        self.begun: list[str | bytes | None] = [None, None]

    def step(self, name: str, *arguments: Any) -> None:
        pair = self.pair
        if name == "time":
            pair.pass_time(arguments[0])
        else:
            index, *values = arguments
            try:
                self.act(name, index, pair.sides[index], *values)
            except LocalProtocolError:
                # A message is in progress, of the other kind perhaps; or the connection is not open any more.
                assert self.begun[index] is not None or pair.sides[index].endpoint.state is not State.OPEN
        pair.work()

    def act(self, name: str, index: int, side: Side, *values: Any) -> None:
        endpoint = side.endpoint
        if name == "send":
            data = values[0]
            if isinstance(data, str):
                endpoint.send_text(data)
            else:
                endpoint.send_bytes(data)
            self.sent[index].append(data)
        elif name == "fragment":
            data, final = values
            endpoint.send_fragment(data, final=final)
            begun = self.begun[index]
            whole = data if begun is None else begun + data
            if final:
                self.sent[index].append(whole)
            self.begun[index] = None if final else whole
        elif name == "ping":
            endpoint.ping(values[0], self.pair.now)
        elif name == "deliver":
            self.pair.deliver(side, values[0])
        elif name == "pause":
            side.pause(values[0], self.pair.now)


def messages(side: Side) -> list[str | bytes]:
    return [event.data for event in side.events if isinstance(event, Message)]


@pytest.mark.parametrize("deflate", [False, True])
@settings(max_examples=80)
@given(smooth, sides, codes, st.none() | codes)
def test_without_accidents_both_end_clean_and_nothing_is_lost(
    deflate: bool, program: list[tuple[Any, ...]], first: int, code: int | None, other_code: int | None
) -> None:
    quiet = Timeouts(ping_interval=None)
    limits = Limits(max_pong_bytes=300, write_low_water=1, write_high_water=1)
    pair = Pair(client_timeouts=quiet, server_timeouts=quiet, limits=limits, extensions=agreed(deflate))
    run = Run(pair)
    for step in program:
        run.step(*step)
    pair.sides[first].endpoint.close(code)
    run.step("time", 0.5)
    # Let what is on its way to the one that has not closed arrive, and then perhaps it closes, too.
    for side in pair.sides:
        side.pause(False, pair.now)
    if other_code is not None:
        pair.sides[1 - first].endpoint.close(other_code)
    pair.pass_time(10, settle=True)
    for side in pair.sides:
        assert side.ending.cause is Cause.CLOSE_HANDSHAKE
        assert side.ending.clean
        assert side.ending.error is None
        assert Transport.ABORT not in side.verdicts
        assert_over(side, pair.now)
    for index, side in enumerate(pair.sides):
        delivered = messages(side)
        sent = run.sent[1 - index]
        assert delivered == sent[: len(delivered)]
        if index != first and other_code is None:
            # What was sent before a Close arrives, if its receiver had not closed as well.
            assert delivered == sent


# Anything at all.


def deflated(data: bytes, final: bool) -> bytes:
    deflater = zlib.compressobj(wbits=-9)
    payload = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return payload[:-4] if final else payload


contents = st.one_of(texts.map(str.encode), st.integers(100, 150).map(lambda size: b"x" * size))
control = st.tuples(st.sampled_from([fb.PING, fb.PING, fb.PONG]), st.binary(max_size=125))
Frames = list[tuple[int, bytes, bool, int]]


@st.composite
def legal_messages(draw: st.DrawFn, deflate: bool) -> Frames:
    """The frames of one message, with control frames between; as (opcode, payload, fin, rsv)."""
    parts = draw(st.lists(contents, min_size=1, max_size=3))
    opcode = draw(st.sampled_from([fb.TEXT, fb.BINARY]))
    if draw(st.booleans()):
        # Cut anywhere, inside characters too.
        whole = b"".join(parts)
        cut = draw(st.integers(0, len(whole)))
        parts = [whole[:cut], whole[cut:]]
    compressed = deflate and draw(st.booleans())
    result: Frames = []
    for index, part in enumerate(parts):
        final = index == len(parts) - 1
        payload = deflated(part, final) if compressed else part
        result.append(
            (fb.CONTINUATION if index else opcode, payload, final, 4 if compressed and not index else 0)
        )
        result += [(opcode, payload, True, 0) for opcode, payload in draw(st.lists(control, max_size=2))]
    return result


payloads = st.one_of(
    contents,
    st.integers(300, 330).map(lambda size: b"x" * size),
    st.sampled_from([b"\xed\xa0\x80", b"\xf0\x9f", b"\xf4\x90\x80\x80", b"\xc3", b"\xa9", b"ab\xff"]),
    st.builds(deflated, st.integers(200, 400).map(lambda size: b"y" * size), st.booleans()),
    st.builds(fb.close_payload, st.integers(990, 1020) | st.just(4000), st.binary(max_size=5)),
)
#: Perhaps legal.
frames = st.tuples(
    st.sampled_from([fb.TEXT, fb.BINARY, fb.CONTINUATION, fb.PING, fb.CLOSE, fb.CLOSE, 3]),
    payloads,
    st.booleans(),
    st.sampled_from([0, 0, 0, 4, 4, 1]),
).map(lambda frame: [frame])
closes = st.builds(fb.close_payload, st.sampled_from([1000, 3000]), contents.map(lambda data: data[:20]))


def histories(deflate: bool) -> st.SearchStrategy[list[Any]]:
    """Lists of frames and raw bytes: mostly legal at first, then something else, then more."""
    message = legal_messages(deflate)
    odd: st.SearchStrategy[list[Any]] = st.one_of(
        frames,
        frames,
        closes.map(lambda payload: [(fb.CLOSE, payload, True, 0)]),
        st.binary(max_size=12).map(lambda data: [data]),
        st.just([]),
    )
    return st.builds(
        lambda before, between, after: [frame for unit in [*before, between, *after] for frame in unit],
        st.lists(message, min_size=1, max_size=4),
        odd,
        st.lists(message | frames, max_size=2),
    )


def wire_of(role: Role, parts: list[Any]) -> bytes:
    wire = b""
    for part in parts:
        if isinstance(part, bytes):
            wire += part
        else:
            opcode, payload, fin, rsv = part
            if opcode in (fb.PING, fb.PONG, fb.CLOSE):
                payload, fin, rsv = payload[:125], True, 0
            wire += peer_frame(role, opcode, payload, fin=fin, rsv=rsv)
    return wire


SMALL = Limits(max_message_size=300, max_fragments=4)
TALKATIVE = (Message, PingReceived, PongReceived, CloseReceived)


Sent = tuple[list[tuple[int, bytes]], list[bytes], list[bytes]]


def answer(connection: Connection, events: list[Event]) -> None:
    for event in events:
        if isinstance(event, Message) and connection.state is State.OPEN:
            if isinstance(event.data, str):
                connection.send_text(event.data)
            else:
                connection.send_bytes(event.data)


def drive(role: Role, deflate: bool, chunks: list[bytes], closing: bool) -> tuple[list[Event], Sent, Any]:
    """Events, output and ending of a connection that echoes and is sent these chunks and then EOF."""
    extension = agreed(deflate)[0 if role is Role.CLIENT else 1]
    connection = Connection(
        role,
        limits=SMALL,
        extensions=() if extension is None else [extension],
        random_bytes=counting_bytes(),
    )
    if closing:
        connection.close(4000)
    events: list[Event] = []
    output = b"".join(connection.data_to_send())
    for chunk in chunks:
        data = chunk
        while True:
            now = connection.receive_data(data, 1.0)
            answer(connection, now)
            events += now
            output += b"".join(connection.data_to_send())
            if not connection.has_more:
                break
            data = b""
    events += connection.receive_eof()
    output += b"".join(connection.data_to_send())
    assert connection.transport in (Transport.CLOSE, Transport.SHUTDOWN_WRITE)
    events += connection.transport_closed()
    ending = events.pop()
    assert isinstance(ending, Disconnected)
    assert ending is connection.ending
    assert all(isinstance(event, TALKATIVE) for event in events)
    sent = fb.parse_all(output)
    assert not sent or sent[-1].opcode == fb.CLOSE or fb.CLOSE not in [frame.opcode for frame in sent]
    return (
        events,
        (
            # A pong goes before the answers to messages of the same chunk, so only each kind has its order.
            [(frame.opcode, frame.payload) for frame in sent if frame.opcode < fb.CLOSE],
            [frame.payload for frame in sent if frame.opcode == fb.PONG],
            [frame.payload for frame in sent if frame.opcode == fb.CLOSE],
        ),
        (replace(ending, error=None), str(ending), type(ending.error)),
    )


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("deflate", [False, True])
@settings(max_examples=150)
@given(st.data())
def test_whatever_is_received_and_however_it_is_cut(role: Role, deflate: bool, data: st.DataObject) -> None:
    wire = wire_of(role, data.draw(histories(deflate)))
    wire = wire[: len(wire) - data.draw(st.sampled_from([0, 0, 0, 1, 5, 200]))]
    cuts = data.draw(st.lists(st.integers(0, 2000), max_size=8))
    closing = data.draw(st.sampled_from([False, False, False, True]))
    whole = drive(role, deflate, [wire], closing)
    assert drive(role, deflate, [bytes([byte]) for byte in wire], closing) == whole
    edges = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    chunks = [wire[begin:end] for begin, end in itertools.pairwise(edges)]
    assert drive(role, deflate, chunks, closing) == whole
    events, (answers, pongs, closes), (ending, _, _) = whole
    # One documented ending, and one Close if there was reason for any.
    assert ending.cause in (
        Cause.CLOSE_HANDSHAKE,
        Cause.EOF,
        Cause.TRUNCATED,
        Cause.PROTOCOL_ERROR,
        Cause.INVALID_DATA,
        Cause.TOO_BIG,
    )
    assert len(closes) == (closing or ending.cause not in (Cause.EOF, Cause.TRUNCATED))
    # Every ping and every message could be answered.
    assert pongs == [event.payload for event in events if isinstance(event, PingReceived)]
    received = [event for event in events if isinstance(event, Message)]
    assert len(answers) == len(received)
    assert all(len(message.data) <= 300 for message in received)
    if closing:
        assert [event for event in events if not isinstance(event, CloseReceived)] == []
