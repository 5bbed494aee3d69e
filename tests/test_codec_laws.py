"""What holds for all bytes: cutting changes nothing, legal streams come out as they went in, and nothing else does."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import framebuilder as fb
from codectools import KEY, UNLIMITED, Outcome, decode, fragments, join_pieces, masked, one_by_one

if TYPE_CHECKING:
    from wsframe._backend import Frame, Message

Draw = Callable[[st.SearchStrategy[Any]], Any]

DATA = [fb.TEXT, fb.BINARY]
CONTROL = [fb.CLOSE, fb.PING, fb.PONG]

keys = st.sampled_from([KEY, bytes(4), b"\xff\x00\x80\x01"]) | st.binary(min_size=4, max_size=4)

#: Characters of each length, and what stands at the edges.
texts = st.text(
    st.sampled_from("az\0\x7f\x80é\u07ff\u0800€\ud7ff\ue000\uffff𐍈\U0010ffff"), max_size=12
) | st.text(max_size=40)

#: Bytes that look like UTF-8 without being it as often as not.
nearly_utf8 = st.lists(
    st.sampled_from(
        [
            bytes.fromhex(part)
            for part in "61 80 bf 90 9f a0 a9 c0 c3 e0 e282 ed f0 f4 8f ff c3a9e282acf0908d88".split()
        ]
    ),
    max_size=12,
).map(b"".join)

options = st.fixed_dictionaries(
    {
        "expect_masked": st.booleans(),
        "stream": st.booleans(),
        "decode_text": st.booleans(),
        "allow_rsv1": st.booleans(),
        "max_message_size": st.sampled_from([0, 1, 7, 125, 126, 300, UNLIMITED]),
        "max_fragments": st.sampled_from([1, 2, 3, UNLIMITED]),
    }
)


def cut(data: bytes, where: list[int]) -> list[bytes]:
    """Cut at these positions, counted from either end so that small numbers hit both."""
    edges = sorted({0, len(data), *(position % (len(data) + 1) for position in where)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


cuts = st.lists(st.integers(-40, 400), max_size=8)


@st.composite
def legal_streams(draw: Draw, mask: bool) -> tuple[bytes, list[tuple[Any, ...]]]:
    """Frames that a peer may send, and what they mean: ("message", opcode, payload) or ("frame", opcode, payload)."""
    wire = b""
    meaning: list[tuple[Any, ...]] = []

    def frame(opcode: int, payload: bytes, fin: bool = True) -> bytes:
        return fb.build(opcode, payload, fin=fin, mask=draw(keys) if mask else None)

    for _ in range(draw(st.integers(0, 4))):
        opcode = draw(st.sampled_from(DATA))
        payload = draw(texts).encode() if opcode == fb.TEXT else draw(st.binary(max_size=40))
        if draw(st.booleans()):
            payload *= draw(st.sampled_from([2, 5, 20]))
        parts = cut(payload, draw(cuts)) or [b""]
        parts += draw(st.lists(st.just(b""), max_size=2))
        for i, part in enumerate(parts):
            wire += frame(0 if i else opcode, part, i == len(parts) - 1)
            if i == len(parts) - 1:
                meaning.append(("message", opcode, payload))
            if draw(st.booleans()):
                control, data = draw(st.sampled_from(CONTROL)), draw(st.binary(max_size=20))
                wire += frame(control, data)
                meaning.append(("frame", control, data))
    return wire, meaning


#: Frames that are legal in parts.
odd_frames = st.builds(
    fb.build,
    st.sampled_from([0, 0, 1, 1, 1, 2, 2, 8, 9, 10, 3, 11]),
    nearly_utf8 | texts.map(str.encode) | st.binary(max_size=150),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 4, 4, 1, 2]),
    mask=keys,
    length_form=st.sampled_from([None, None, None, 16, 64]),
    declared_length=st.none() | st.sampled_from([0, 3, 125]) | st.none(),
)
odd_streams = st.lists(odd_frames, max_size=6).map(b"".join)


@st.composite
def mutated_streams(draw: Draw) -> bytes:
    """A legal stream with bytes changed, lost and added."""
    data = bytearray(draw(legal_streams(draw(st.booleans())))[0])
    for _ in range(draw(st.integers(0, 3))):
        position = draw(st.integers(0, len(data)))
        change = draw(st.integers(0, 2))
        if change == 0 and position < len(data):
            data[position] ^= draw(st.sampled_from([0x80, 0x40, 0x10, 0x01, 0x02, 0x7F, 0xFF]))
        elif change == 1:
            del data[position : position + draw(st.integers(1, 4))]
        else:
            data[position:position] = draw(st.binary(max_size=4))
    return bytes(data)


any_bytes = st.one_of(st.binary(max_size=60), odd_streams, mutated_streams())


def verdict(codec: ModuleType, outcome: Outcome, streaming: bool) -> tuple[object, ...]:
    """All that may not depend on the cuts."""
    items = join_pieces(codec, outcome.items) if streaming else outcome.items
    return items, outcome.code, outcome.reason, outcome.pending


@settings(max_examples=600)
@given(data=any_bytes, options=options, where=cuts)
@example(masked(fb.TEXT, b"", fin=False) + masked(fb.TEXT, b"x"), {"max_fragments": 1}, [1])
@example(masked(fb.TEXT, b"ok\xed\xa0"), {"stream": True}, [])
@example(masked(fb.TEXT, b"ok\xe2\x82("), {"stream": True, "decode_text": False}, [])
@example(masked(fb.TEXT, b"ok", rsv=4, fin=False) + masked(fb.PING), {"stream": True, "allow_rsv1": True}, [])
def test_cutting_changes_nothing(
    codec: ModuleType, data: bytes, options: dict[str, Any], where: list[int]
) -> None:
    streaming = options.get("stream", False)
    whole = verdict(codec, decode(codec, data, **options), streaming)
    assert verdict(codec, decode(codec, *one_by_one(data), **options), streaming) == whole
    assert verdict(codec, decode(codec, *cut(data, where), **options), streaming) == whole
    assert decode(codec, data, **options).code in (None, 1002, 1007, 1009)


@settings(max_examples=300)
@given(stream=st.booleans().flatmap(lambda mask: st.tuples(st.just(mask), legal_streams(mask))), where=cuts)
def test_legal_streams_come_out_as_they_went_in(
    codec: ModuleType, stream: tuple[bool, tuple[bytes, list[tuple[Any, ...]]]], where: list[int]
) -> None:
    mask, (wire, meaning) = stream
    for decode_text in True, False:
        expected = [
            codec.Frame(opcode, payload)
            if kind == "frame"
            else codec.Message(payload.decode() if opcode == fb.TEXT and decode_text else payload, opcode)
            for kind, opcode, payload in meaning
        ]
        plain: dict[str, Any] = {"expect_masked": mask, "decode_text": decode_text}
        for chunks in [wire], one_by_one(wire), cut(wire, where):
            outcome = decode(codec, *chunks, **plain)
            assert (outcome.items, outcome.code, outcome.pending) == (expected, None, False)
            outcome = decode(codec, *chunks, **plain, stream=True)
            assert (outcome.code, outcome.pending) == (None, False)
            # The same messages, when the chunks of each are put together.
            joined: list[Message | Frame] = []
            parts: list[Any] = []
            for item in outcome.items:
                if isinstance(item, codec.MessageChunk):
                    assert item.first == (not parts)
                    parts.append(item)
                    if item.final:
                        data = parts[0].data[:0].join(part.data for part in parts)
                        joined.append(codec.Message(data, item.opcode))
                        parts = []
                else:
                    joined.append(item)
            assert parts == []
            assert joined == expected


@settings(max_examples=300)
@given(payload=nearly_utf8 | texts.map(str.encode) | st.binary(max_size=12), where=cuts, cut_wire=cuts)
def test_text_is_what_python_decodes(
    codec: ModuleType, payload: bytes, where: list[int], cut_wire: list[int]
) -> None:
    wire = fragments(fb.TEXT, *(cut(payload, where) or [b""]))
    try:
        text: str | None = payload.decode()
    except UnicodeDecodeError:
        text = None
    for chunks in [wire], one_by_one(wire), cut(wire, cut_wire), [masked(fb.TEXT, payload)]:
        for decode_text in True, False:
            outcome = decode(codec, *chunks, decode_text=decode_text)
            if text is None:
                assert (outcome.items, outcome.code) == ([], 1007)
            else:
                expected = codec.Message(text if decode_text else payload, fb.TEXT)
                assert (outcome.items, outcome.code) == ([expected], None)


def can_become_text(data: bytes) -> bool:
    """Whether bytes exist that make it valid. After at most three, with a second byte from each range there is."""
    ends = [b""] + [
        second + rest for second in (b"\x80", b"\x90", b"\xa0") for rest in (b"", b"\x80", b"\x80\x80")
    ]
    for end in ends:
        try:
            (data + end).decode()
        except UnicodeDecodeError:
            continue
        return True
    return False


@settings(max_examples=300)
@given(payload=nearly_utf8 | st.binary(max_size=12), where=cuts)
def test_text_fails_at_the_first_byte_that_settles_it(
    codec: ModuleType, payload: bytes, where: list[int]
) -> None:
    settled = next((size for size in range(len(payload) + 1) if not can_become_text(payload[:size])), None)
    # In a frame that is not complete, and in fragments that are.
    head = masked(fb.TEXT, b"", declared_length=1000)
    frame = [head, *one_by_one(codec.apply_mask(payload, KEY))]
    parts = [
        masked(fb.CONTINUATION if i else fb.TEXT, byte, fin=False)
        for i, byte in enumerate(one_by_one(payload))
    ]
    for chunks in frame, [b"", *parts]:
        for size in range(len(chunks) + 1):
            code = decode(codec, *chunks[:size]).code
            assert code == (1007 if settled is not None and size > settled else None)


@given(
    frames=st.lists(
        st.tuples(
            st.sampled_from([*DATA, *CONTROL]),
            st.binary(max_size=40) | st.sampled_from([125, 126, 1999, 2000, 65535, 65536]).map(bytes),
            st.none() | keys,
        ),
        max_size=5,
    ),
)
def test_what_is_encoded_is_what_is_decoded(
    codec: ModuleType, frames: list[tuple[int, bytes, bytes | None]]
) -> None:
    for mask in True, False:
        mine = [frame for frame in frames if (frame[2] is not None) is mask]
        wanted = [key for _, _, key in mine]
        legal = [
            (opcode, payload if opcode == fb.BINARY else payload[:125].decode(errors="ignore"))
            for opcode, payload, _ in mine
        ]
        wire = [
            codec.encode_frame(opcode, data, key=key)
            for (opcode, data), key in zip(legal, wanted, strict=True)
        ]
        parsed = fb.parse_all(b"".join(wire))
        assert [frame.key for frame in parsed] == wanted
        expected = [
            codec.Message(data, opcode)
            if opcode in DATA
            else codec.Frame(opcode, data.encode() if isinstance(data, str) else data)
            for opcode, data in legal
        ]
        outcome = decode(codec, b"".join(wire), expect_masked=mask)
        assert (outcome.items, outcome.code, outcome.pending) == (expected, None, False)


@given(data=st.binary(max_size=50), times=st.sampled_from([1, 60]), key=keys, offset=st.integers(0, 1 << 65))
def test_mask_laws(codec: ModuleType, data: bytes, times: int, key: bytes, offset: int) -> None:
    data *= times
    mask = codec.apply_mask
    masked_data = mask(data, key, offset)
    assert len(masked_data) == len(data)
    # Masking and unmasking are the same (s5.3).
    assert mask(masked_data, key, offset) == data
    assert masked_data == bytes(byte ^ key[(i + offset) & 3] for i, byte in enumerate(data))
    for at in {0, 1, len(data) // 2, len(data)}:
        assert mask(data[:at], key, offset) + mask(data[at:], key, offset + at) == masked_data


@given(data=st.binary(max_size=16), position=st.integers(0, 3))
def test_decode_header_is_the_other_side_of_encode_header(
    codec: ModuleType, data: bytes, position: int
) -> None:
    try:
        found = codec.decode_header(bytes(position) + data, position)
    except codec.CodecError:
        return
    if found is None:
        return
    first, second, length, after = found
    opcode, key = first & 0x0F, bytes(4) if second & 0x80 else None
    if (
        first & 0x30
        or opcode not in (0, 1, 2, 8, 9, 10)
        or (opcode >= 8 and (length > 125 or first != 0x80 | opcode))
    ):
        return
    if opcode == 0 and first & 0x40:
        return
    header = codec.encode_header(opcode, length, bool(first & 0x80), bool(first & 0x40), key)
    assert header[: after - position] == data[: after - position]


@pytest.mark.parametrize("options", [{}, {"stream": True}], ids=str)
def test_every_first_two_bytes(codec: ModuleType, options: dict[str, bool]) -> None:
    """All of them that differ, in both states a decoder can be in, against the rules written once more."""
    for begun in False, True:
        for rsv1 in False, True:
            for first in range(256):
                opcode, fin = first & 15, bool(first & 0x80)
                for second in (0, 1, 125, 126, 127, 0x80, 0x81, 0xFD, 0xFE, 0xFF):
                    legal = (
                        bool(second & 0x80)
                        and not first & 0x30
                        and opcode in (0, 1, 2, 8, 9, 10)
                        and (not first & 0x40 or (rsv1 and opcode in (1, 2)))
                        and (opcode < 8 or (fin and second & 0x7F <= 125))
                        and (opcode >= 8 or begun == (opcode == 0))
                    )
                    before = masked(fb.TEXT, b"", fin=False) if begun else b""
                    outcome = decode(codec, before + bytes([first, second]), allow_rsv1=rsv1, **options)
                    assert outcome.items == []
                    assert outcome.code == (None if legal else 1002), (begun, rsv1, first, second)
