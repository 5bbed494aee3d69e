"""Receiving: limits, compressed frames, bounded work, and what happens to the input."""

from __future__ import annotations

import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import framebuilder as fb
from codectools import MIB, both_ways, decode, feed, fragments, make, masked, one_by_one

if TYPE_CHECKING:
    from wsframe._backend import Message

BEFORE = masked(fb.BINARY, b"before")
AFTER = masked(fb.BINARY, b"after")


# --- limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 125, 126, 1000, 65535, 65536, MIB])
@pytest.mark.parametrize("stream", [False, True])
def test_max_message_size_is_exact(codec: ModuleType, limit: int, stream: bool) -> None:
    options = {"max_message_size": limit, "stream": stream}
    assert decode(codec, masked(fb.BINARY, bytes(limit)) * 2, **options).code is None
    outcome = decode(codec, masked(fb.BINARY, bytes(limit)) + masked(fb.BINARY, bytes(limit + 1)), **options)
    assert outcome.code == 1009
    assert [len(data) for data in outcome.data] == [limit]
    assert str(limit) in outcome.reason
    # The header announces it: no payload is needed to refuse it, not even the masking key.
    header = masked(fb.TEXT, declared_length=limit + 1)[:-4]
    assert decode(codec, header, **options).code == 1009
    assert decode(codec, header[:-1], **options).code is None


@pytest.mark.parametrize("limit", [1, 125, 126, 70000])
def test_max_message_size_counts_all_fragments(codec: ModuleType, limit: int) -> None:
    head, tail = bytes(limit // 2), bytes(limit - limit // 2)
    for fits in fragments(fb.BINARY, head, tail), fragments(fb.BINARY, head, b"", tail, b""):
        assert decode(codec, fits * 2, max_message_size=limit).data == [bytes(limit)] * 2
    over = masked(fb.BINARY, head, fin=False) + masked(fb.CONTINUATION, declared_length=len(tail) + 1)[:-4]
    assert decode(codec, over, max_message_size=limit).code == 1009
    over = fragments(fb.TEXT, head, tail)[:-1]
    assert decode(codec, over, max_message_size=limit - 1).code == 1009


def test_max_message_size_of_zero_takes_empty_messages(codec: ModuleType) -> None:
    data = masked(fb.TEXT) + fragments(fb.BINARY, b"", b"")
    assert both_ways(codec, data, max_message_size=0).data == ["", b""]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
@pytest.mark.parametrize("stream", [False, True])
def test_max_fragments_is_exact(codec: ModuleType, limit: int, stream: bool) -> None:
    options = {"max_fragments": limit, "stream": stream}
    for payload in b"", b"x":
        fits = fragments(fb.TEXT, *[payload] * limit)
        assert both_ways(codec, fits * 2, **options).code is None
        over = fragments(fb.TEXT, *[payload] * (limit + 1))
        outcome = both_ways(codec, over, **options)
        assert (outcome.code, str(limit) in outcome.reason) == (1009, True)


def test_max_fragments_of_zero_takes_nothing(codec: ModuleType) -> None:
    assert both_ways(codec, masked(fb.TEXT, b"x"), max_fragments=0).code == 1009
    assert both_ways(codec, masked(fb.PING, b"x"), max_fragments=0).code is None


def test_control_frames_count_for_no_limit(codec: ModuleType) -> None:
    pings = masked(fb.PING, b"p" * 125) * 3
    data = masked(fb.BINARY, b"a", fin=False) + pings + masked(fb.CONTINUATION, b"b") + pings
    outcome = both_ways(codec, data, max_message_size=2, max_fragments=2)
    assert (outcome.code, len(outcome.items)) == (None, 7)


def test_which_limit_is_named_when_both_are_broken(codec: ModuleType) -> None:
    data = masked(fb.BINARY, b"a", fin=False) + masked(fb.CONTINUATION, b"bc")
    assert "fragments" in both_ways(codec, data, max_message_size=2, max_fragments=1).reason


# --- compressed messages -----------------------------------------------------------------------------------


def test_rsv1_messages_come_out_frame_by_frame(codec: ModuleType) -> None:
    data = b"".join(
        [
            masked(fb.TEXT, b"\xff\xfe", rsv=4),
            masked(fb.BINARY, b"", fin=False, rsv=4),
            masked(fb.CONTINUATION, b"two", fin=False),
            masked(fb.PING, b"between"),
            masked(fb.CONTINUATION, b"", fin=False),
            masked(fb.CONTINUATION, b"three"),
            masked(fb.TEXT, "plain €".encode()),
            fragments(fb.TEXT, b"pl", b"ain"),
        ]
    )
    outcome = both_ways(codec, data, allow_rsv1=True)
    assert outcome.items == [
        # Nothing is validated: that is for who inflates it.
        codec.Frame(fb.TEXT, b"\xff\xfe", True, True),
        codec.Frame(fb.BINARY, b"", False, True),
        codec.Frame(fb.CONTINUATION, b"two", False, False),
        codec.Frame(fb.PING, b"between", True, False),
        codec.Frame(fb.CONTINUATION, b"", False, False),
        codec.Frame(fb.CONTINUATION, b"three", True, False),
        codec.Message("plain €", fb.TEXT),
        codec.Message("plain", fb.TEXT),
    ]
    assert outcome.code is None
    assert not outcome.pending


def test_rsv1_messages_come_piece_by_piece_when_streaming(codec: ModuleType) -> None:
    data = masked(fb.TEXT, b"abc", fin=False, rsv=4) + masked(fb.CONTINUATION, b"de")
    decoder = make(codec, allow_rsv1=True, stream=True)
    assert feed(codec, decoder, data[:6]).items == []
    assert feed(codec, decoder, data[6:8]).items == [codec.Frame(fb.TEXT, b"ab", False, True)]
    assert feed(codec, decoder, data[8:9]).items == [codec.Frame(fb.CONTINUATION, b"c", False, False)]
    assert feed(codec, decoder, data[9:16]).items == [codec.Frame(fb.CONTINUATION, b"d", False, False)]
    assert feed(codec, decoder, data[16:]).items == [codec.Frame(fb.CONTINUATION, b"e", True, False)]
    assert not decoder.pending
    # An empty piece says nothing, but the end of a message does.
    empty = masked(fb.TEXT, b"", fin=False, rsv=4) + masked(fb.CONTINUATION, b"")
    assert both_ways(codec, empty, allow_rsv1=True, stream=True).items == [
        codec.Frame(fb.TEXT, b"", True, True)
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_rsv1_only_on_the_first_frame_of_a_message(codec: ModuleType, stream: bool) -> None:
    # RFC 7692 s6.1
    options = {"allow_rsv1": True, "stream": stream}
    for rsv in 0, 4:
        begun = masked(fb.TEXT, b"a", fin=False, rsv=rsv)
        assert decode(codec, begun + masked(fb.CONTINUATION, b"b", rsv=4), **options).code == 1002
        assert decode(codec, begun + masked(fb.PING, b"b", rsv=4), **options).code == 1002


def test_rsv1_messages_have_limits_too(codec: ModuleType) -> None:
    limit = 10000
    # Data that cannot be compressed, in the smallest window and flushed after each fragment, still fits.
    noise = bytes(zlib.crc32(bytes([i & 255, i >> 8])) & 0xFF for i in range(limit))
    deflater = zlib.compressobj(9, zlib.DEFLATED, -9, 1)
    pieces = [
        deflater.compress(noise[i : i + 100]) + deflater.flush(zlib.Z_SYNC_FLUSH)
        for i in range(0, limit, 100)
    ]
    options = {"allow_rsv1": True, "max_message_size": limit, "max_fragments": 100}
    assert len(b"".join(pieces)) > limit
    assert decode(codec, fragments(fb.BINARY, *pieces, rsv=4), **options).code is None
    # The bound itself, known from the header.
    for first, more in [(limit + limit // 8 + 1024 + 64, 0), (1, limit + limit // 8 + 1024 + 127)]:
        for extra, code in (0, None), (1, 1009):
            wire = masked(fb.BINARY, bytes(first + (extra if not more else 0)), fin=False, rsv=4)
            if more:
                wire += masked(fb.CONTINUATION, declared_length=more + extra)
            assert decode(codec, wire, **options).code == code
    assert decode(codec, fragments(fb.BINARY, *[b""] * 101, rsv=4), **options).code == 1009


# --- bounded work ------------------------------------------------------------------------------------------


def test_work_is_bounded_by_payload(codec: ModuleType) -> None:
    data = masked(fb.BINARY, bytes(600_000)) * 5
    decoder = make(codec)
    decoder.feed(data)
    found = []
    for expected, more in (2, True), (2, True), (1, False):
        out: list[Message] = []
        assert decoder.decode(out) is None
        assert (len(out), decoder.has_more) == (expected, more)
        found += out
    assert found == [codec.Message(bytes(600_000), fb.BINARY)] * 5
    assert not decoder.pending


@pytest.mark.parametrize("size", [30_000, 600_000])
@pytest.mark.parametrize("options", [{}, {"stream": True}, {"decode_text": False}], ids=str)
def test_work_is_bounded_in_bytes_not_characters(
    codec: ModuleType, size: int, options: dict[str, bool]
) -> None:
    data = masked(fb.TEXT, "€".encode() * (size // 3)) * (3_000_000 // size)
    outcome = decode(codec, data, **options)
    assert len(outcome.items) == 3_000_000 // size
    assert outcome.more == 2


def test_work_is_bounded_by_objects(codec: ModuleType) -> None:
    for options in {}, {"stream": True}:
        decoder = make(codec, **options)
        decoder.feed(masked(fb.TEXT) * 20_000)
        out: list[Message] = []
        assert decoder.decode(out) is None
        assert (len(out), decoder.has_more) == (16_384, True)
        assert decoder.decode(out) is None
        assert (len(out), decoder.has_more) == (20_000, False)


def test_what_was_fed_meanwhile_counts_as_more(codec: ModuleType) -> None:
    decoder = make(codec)
    decoder.feed(masked(fb.TEXT) * 16_384)
    decoder.feed(AFTER)
    out: list[Message] = []
    assert decoder.decode(out) is None
    assert (len(out), decoder.has_more, decoder.pending) == (16_384, True, True)
    assert decoder.decode(out) is None
    assert (len(out), decoder.has_more, decoder.pending) == (16_385, False, False)


def test_work_is_bounded_by_fragments(codec: ModuleType) -> None:
    outcome = decode(codec, fragments(fb.TEXT, *[b""] * 40_000))
    assert outcome.items == [codec.Message("", fb.TEXT)]
    assert outcome.more == 2


def test_a_message_over_the_bound_of_work_comes_whole(codec: ModuleType) -> None:
    data = masked(fb.BINARY, bytes(3 * MIB))
    outcome = decode(codec, data + AFTER)
    assert [len(item) for item in outcome.data] == [3 * MIB, 5]
    assert outcome.more == 1


def test_nothing_is_lost_when_frames_come_between(codec: ModuleType) -> None:
    data = (masked(fb.BINARY, bytes(100_000)) + masked(fb.PING, b"p")) * 30
    outcome = decode(codec, data)
    assert [len(item) for item in outcome.data] == [100_000, 1] * 30
    assert outcome.more >= 2


def test_feeding_while_input_is_left(codec: ModuleType) -> None:
    numbers = [b"%06d" % i for i in range(60_000)]
    stream = b"".join(masked(fb.BINARY, number) for number in numbers)
    decoder = make(codec)
    decoder.feed(stream[:500_000])
    out: list[Message] = []
    for turn, i in enumerate(range(500_000, len(stream), 999)):
        decoder.feed(stream[i : i + 999])
        if turn % 100 == 0:
            assert decoder.decode(out) is None
            assert decoder.has_more
            assert decoder.pending
    while decoder.decode(out) is None and decoder.has_more:
        pass
    assert out == [codec.Message(number, fb.BINARY) for number in numbers]
    assert not decoder.pending


def grows_linearly(work: Callable[[int], None], size: int) -> bool:
    """Whether eight times the work takes about eight times the processor time; quadratic work takes up to 64 times."""

    def cost(size: int) -> float:
        begin = time.process_time()
        work(size)
        return time.process_time() - begin

    return any(cost(8 * size) < 20 * cost(size) for _ in range(5))


def test_work_grows_linearly(codec: ModuleType) -> None:
    def bytes_alone(size: int) -> None:
        assert len(decode(codec, *one_by_one(masked(fb.TEXT, b"x" * size))).items) == 1

    def small_fragments(size: int) -> None:
        assert len(decode(codec, fragments(fb.BINARY, *[b"x"] * size)).items) == 1

    def chunks(size: int) -> None:
        wire = masked(fb.TEXT, b"x" * size)
        assert len(decode(codec, *(wire[i : i + 1024] for i in range(0, len(wire), 1024))).items) == 1

    def feeds_behind_a_rest(size: int) -> None:
        decoder = make(codec)
        decoder.feed(masked(fb.BINARY, bytes(1000)) * (size // 100))
        for _ in range(size // 10):
            decoder.feed(b"\x89")

    for work, size in (
        (bytes_alone, 20_000),
        (small_fragments, 8_000),
        (chunks, MIB),
        (feeds_behind_a_rest, 40_000),
    ):
        assert grows_linearly(work, size), work.__name__


def test_nothing_is_kept_of_what_was_given_out(codec: ModuleType) -> None:
    data = bytes(300_000)
    wires = [
        masked(fb.BINARY, data),
        fragments(fb.BINARY, data, data),
        fragments(fb.TEXT, data, data),
        masked(fb.TEXT, data, rsv=4),
        masked(fb.PING) * 100,
        # What fails, and what is left of a chunk.
        BEFORE * 10_000 + AFTER[:3],
        masked(fb.TEXT, data, fin=False) + b"\xff\xff",
    ]
    tracemalloc.start()
    try:
        for wire in wires:
            for cuts in [wire], [wire[:70_000], wire[70_000:]]:
                before = tracemalloc.get_traced_memory()[0]
                decoder = make(codec, allow_rsv1=True)
                outcome = feed(codec, decoder, *cuts)
                del outcome
                assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opcode", [fb.TEXT, fb.BINARY])
def test_what_is_announced_is_not_allocated_before_half_has_come(codec: ModuleType, opcode: int) -> None:
    size = 8 * MIB
    wire = masked(opcode, b"x" * size)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        decoder = make(codec, max_message_size=size)
        out: list[object] = []
        peak = have = 0
        while have < len(wire):
            decoder.feed(wire[have : have + MIB // 4])
            have += MIB // 4
            decoder.decode(out)
            while decoder.has_more:
                decoder.decode(out)
            if not out:
                peak = max(peak, tracemalloc.get_traced_memory()[0] - before - 2 * have)
        assert len(out) == 1
        assert peak < 100_000
    finally:
        tracemalloc.stop()


# --- the input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_input_may_be_any_bytes(codec: ModuleType, kind: Callable[[bytes], bytes]) -> None:
    data = masked(fb.TEXT, b"abc") + masked(fb.PING, b"def") + fragments(fb.BINARY, b"g", b"h" * 200)
    expected = decode(codec, data).items
    assert decode(codec, kind(data)).items == expected
    assert decode(codec, *map(kind, one_by_one(data))).items == expected
    assert all(type(item) in (bytes, str) for item in decode(codec, kind(data)).data)


def test_input_may_be_any_view(codec: ModuleType) -> None:
    data = masked(fb.TEXT, b"abcd")
    assert decode(codec, memoryview(bytes(2 * len(data)))[:0], memoryview(data)[:3], data[3:]).data == [
        "abcd"
    ]
    every_second = memoryview(bytes(x for byte in data for x in (byte, 0)))[::2]
    assert decode(codec, every_second).data == ["abcd"]


@pytest.mark.parametrize(
    "wrong", [5, "text", None, [1, 2], iter([1])], ids=["int", "str", "None", "list", "iterator"]
)
def test_input_must_be_bytes(codec: ModuleType, wrong: object) -> None:
    decoder = make(codec)
    with pytest.raises(TypeError):
        decoder.feed(wrong)
    decoder.feed(b"\x81")
    with pytest.raises(TypeError):
        decoder.feed(wrong)


def test_input_is_not_kept(codec: ModuleType) -> None:
    stream = b"".join(
        [masked(fb.BINARY, b"abc"), masked(fb.PING, b"def"), fragments(fb.BINARY, b"g" * 200, b"h"), AFTER]
    )
    expected = decode(codec, stream).items
    for size in range(1, 20):
        decoder = make(codec)
        found = []
        buffer = bytearray(size)
        for i in range(0, len(stream), size):
            chunk = stream[i : i + size]
            buffer[: len(chunk)] = chunk
            found += feed(codec, decoder, memoryview(buffer)[: len(chunk)]).items
            # The next receive overwrites it, and a buffer that is still exported cannot be resized.
            buffer[:] = b"\xff" * size
            buffer.append(0)
            buffer.pop()
        assert found == expected


def test_feeding_nothing_changes_nothing(codec: ModuleType) -> None:
    outcome = decode(codec, b"", *[part for byte in one_by_one(BEFORE) for part in (byte, b"")])
    assert outcome.data == [b"before"]
    assert not outcome.pending


def test_no_limit_is_beyond_what_a_length_can_be(codec: ModuleType) -> None:
    """Frames that are each as long as one may be: together they are over every limit."""
    decoder = make(codec, max_message_size=1 << 70, expect_masked=False)
    decoder.feed(b"\x02\x07payload\x80\x7f\x7f\xff\xff\xff\xff\xff\xff\xff")
    with pytest.raises(codec.CodecError, match=f"over the limit of {(1 << 63) - 1}") as caught:
        decoder.decode([])
    assert caught.value.code == 1009


def test_input_stays_in_order_when_it_is_fed_between_frames(codec: ModuleType) -> None:
    """What is fed while older input waits comes after it, also where a frame ended with the oldest of it."""
    wire = one_by_one(b"".join(masked(fb.PING, bytes([number])) for number in range(4)))
    decoder = make(codec)
    frames: list[bytes] = []
    for chunk in wire:
        decoder.feed(chunk)
    while len(frames) < 4:
        frame = decoder.decode([])
        if frame is None:
            assert decoder.has_more
            continue
        frames.append(frame.payload)
        decoder.feed(b"")
    assert frames == [b"\0", b"\1", b"\2", b"\3"]
    # A frame that ends with one chunk, and two more chunks around the call that gives it out.
    first, second, third = (masked(fb.PING, bytes([number])) for number in range(3))
    decoder = make(codec)
    decoder.feed(first)
    decoder.feed(second)
    assert decoder.decode([]).payload == b"\0"
    decoder.feed(third)
    assert [decoder.decode([]).payload for _ in range(2)] == [b"\1", b"\2"]
    assert decoder.decode([]) is None


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 688: buffers made by Python code")
def test_a_buffer_that_calls_back(codec: ModuleType) -> None:
    """Letting go of somebody's buffer can run their code, and that finds no decoder in the middle of its work."""
    if not codec.__name__.endswith("._codec"):
        pytest.skip("the pure codec holds nobody's buffer")
    decoder = make(codec)
    calls: list[str] = []

    class Treacherous:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def __buffer__(self, flags: int) -> memoryview:
            calls.append("taken")
            return memoryview(self.data)

        def __release_buffer__(self, view: memoryview) -> None:
            calls_back: list[Callable[[], object]] = [
                lambda: decoder.feed(b"x" * 1000),
                lambda: decoder.decode([]),
            ]
            for call in calls_back:
                with pytest.raises(RuntimeError, match="at work"):
                    call()
            calls.append("released")
            view.release()

    wire = masked(fb.TEXT, b"abc") + masked(fb.PING, b"ping") + masked(fb.TEXT, b"end")
    items: list[Any] = []
    for chunk in wire[:5], wire[5:]:
        buffer: Any = Treacherous(chunk)
        decoder.feed(buffer)
        while True:
            frame = decoder.decode(items)
            if frame is None:
                break
            items.append(frame)
    assert calls.count("taken") == calls.count("released") == 2
    assert [getattr(item, "data", None) or item.payload for item in items] == ["abc", b"ping", "end"]
