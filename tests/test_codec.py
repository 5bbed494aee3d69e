"""Receiving, RFC 6455 s5: one test for each MUST, then errors and what is pending. UTF-8 (s8.1) has its own file."""

from __future__ import annotations

from types import ModuleType

import pytest

import framebuilder as fb
from codectools import KEY, UNLIMITED, both_ways, decode, feed, fragments, make, masked, one_by_one
from wsframe import _backend

DATA = [fb.TEXT, fb.BINARY]
CONTROL = [fb.CLOSE, fb.PING, fb.PONG]
RESERVED = [3, 4, 5, 6, 7, 11, 12, 13, 14, 15]
LENGTHS = [0, 1, 125, 126, 127, 65535, 65536]

BEFORE = masked(fb.BINARY, b"before")
AFTER = masked(fb.BINARY, b"after")


def refused(codec: ModuleType, data: bytes, code: int = 1002, **options: object) -> str:
    """Check that this fails between two good messages, whatever the cuts, and return the reason."""
    outcome = both_ways(codec, BEFORE + data + AFTER, **options)
    assert outcome.code == code, outcome
    assert outcome.items[0] == codec.Message(b"before", fb.BINARY)
    assert codec.Message(b"after", fb.BINARY) not in outcome.items
    assert not outcome.pending
    assert 0 < len(outcome.reason.encode()) <= 123, "it has to fit in a Close frame"
    return outcome.reason


def test_backend_has_one_set_of_classes() -> None:
    message = _backend.Message("x", fb.TEXT)
    out: list[object] = []
    decoder = _backend.Decoder(False, 10, 10)
    decoder.feed(fb.build(fb.TEXT, b"x"))
    assert decoder.decode(out) is None
    assert out == [message]
    assert type(out[0]) is _backend.Message
    assert _backend.backend in _backend.backend_description


# --- s5.1: masking -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", DATA + CONTROL)
def test_s5_1_server_fails_on_unmasked_frame(codec: ModuleType, opcode: int) -> None:
    for payload in b"", b"x", b"x" * 125:
        assert "must mask" in refused(codec, fb.build(opcode, payload))


@pytest.mark.parametrize("opcode", DATA + CONTROL)
def test_s5_1_client_fails_on_masked_frame(codec: ModuleType, opcode: int) -> None:
    for mask in KEY, bytes(4):
        data = fb.build(fb.BINARY, b"before") + fb.build(opcode, b"x", mask=mask)
        outcome = both_ways(codec, data, expect_masked=False)
        assert (outcome.code, outcome.data) == (1002, [b"before"])
        assert "must not mask" in outcome.reason


def test_s5_1_every_fragment_is_masked(codec: ModuleType) -> None:
    refused(codec, fb.build(fb.TEXT, b"a", fin=False, mask=KEY) + fb.build(fb.CONTINUATION, b"b"))


def test_s5_3_unmasking(codec: ModuleType) -> None:
    payload = bytes(range(256)) * 20
    for length in [*range(20), 125, 126, 1999, 2000, 2001, 4096, 5120]:
        for key in bytes(4), b"\xff" * 4, KEY:
            data = fb.build(fb.BINARY, payload[:length], mask=key)
            cuts = [data[:9], data[9:10], data[10:13], data[13:]]
            for outcome in decode(codec, data), decode(codec, *cuts), decode(codec, *one_by_one(data[:400])):
                if outcome.items:
                    assert outcome.items == [codec.Message(payload[:length], fb.BINARY)]
                else:
                    assert outcome.pending
                    assert len(data) > 400


# --- s5.2: the header --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", DATA + CONTROL)
@pytest.mark.parametrize("rsv", range(1, 8))
def test_s5_2_fails_on_reserved_bits(codec: ModuleType, rsv: int, opcode: int) -> None:
    refused(codec, masked(opcode, b"x", rsv=rsv))
    # With an extension that defines RSV1, the other two are as reserved as before.
    if rsv != 4 or opcode in CONTROL:
        refused(codec, masked(opcode, b"x", rsv=rsv), allow_rsv1=True)


@pytest.mark.parametrize("opcode", RESERVED)
def test_s5_2_fails_on_reserved_opcode(codec: ModuleType, opcode: int) -> None:
    for fin in True, False:
        for rsv in 0, 4:
            reason = refused(codec, masked(opcode, b"x", fin=fin, rsv=rsv), allow_rsv1=True)
            assert f"opcode {opcode}" in reason


@pytest.mark.parametrize(("form", "lengths"), [(16, [0, 1, 124, 125]), (64, [0, 125, 126, 65534, 65535])])
@pytest.mark.parametrize("opcode", DATA)
def test_s5_2_length_must_be_minimal(
    codec: ModuleType, form: fb.LengthForm, lengths: list[int], opcode: int
) -> None:
    for length in lengths:
        # It is refused as soon as it is known.
        header = masked(opcode, declared_length=length, length_form=form)[:-4]
        assert decode(codec, header).code == 1002
        assert decode(codec, header[:-1]).code is None
        assert f"length {length} " in refused(codec, masked(opcode, bytes(length), length_form=form))


@pytest.mark.parametrize("length", [1 << 63, (1 << 63) + 1, (1 << 64) - 1])
@pytest.mark.parametrize("opcode", DATA)
def test_s5_2_length_must_not_have_its_top_bit_set(codec: ModuleType, length: int, opcode: int) -> None:
    assert "top bit" in refused(codec, masked(opcode, declared_length=length))
    refused(codec, masked(opcode, declared_length=length), max_message_size=10)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("mask", [KEY, None], ids=["masked", "unmasked"])
def test_s5_2_lengths(codec: ModuleType, length: int, mask: bytes | None) -> None:
    payload = bytes(i * 7 & 0x7F for i in range(length))
    text = payload.decode()
    stream = fb.build(fb.BINARY, payload, mask=mask) + fb.build(fb.TEXT, payload, mask=mask)
    expected = [codec.Message(payload, fb.BINARY), codec.Message(text, fb.TEXT)]
    expect_masked = mask is not None
    assert decode(codec, stream, expect_masked=expect_masked).items == expected
    for size in 1000, 32768, len(stream) - 1:
        chunks = [stream[i : i + size] for i in range(0, len(stream), size)]
        assert decode(codec, *chunks, expect_masked=expect_masked).items == expected


@pytest.mark.parametrize("power", [16, 23, 31, 32, 33, 53, 62])
def test_s5_2_large_lengths_are_taken_for_what_they_are(codec: ModuleType, power: int) -> None:
    for length in (1 << power) - 1, 1 << power, (1 << power) + 1, (1 << 63) - 1:
        header = masked(fb.BINARY, declared_length=length)
        decoder = make(codec, stream=True)
        outcome = feed(codec, decoder, header, codec.apply_mask(b"begin", KEY))
        assert outcome.items == [codec.MessageChunk(b"begin", fb.BINARY, True, False)]
        assert outcome.pending
        # At the limit, and one below it: nobody waits for a payload that cannot be taken.
        assert decode(codec, header[:-4], max_message_size=length).code is None
        assert decode(codec, header[:-4], max_message_size=length - 1).code == 1009
        assert decode(codec, header[:-4], max_message_size=0).code == 1009


def test_s5_2_header_may_come_in_any_pieces(codec: ModuleType) -> None:
    for length in LENGTHS[:5]:
        data = masked(fb.TEXT, b"x" * length)
        for cut in range(min(len(data), 16)):
            outcome = decode(codec, data[:cut], data[cut:])
            assert outcome.data == ["x" * length]


# --- s5.4: fragmentation -----------------------------------------------------------------------------------


def test_s5_4_fragments_make_one_message(codec: ModuleType) -> None:
    for opcode, payloads in [
        (fb.BINARY, [b"a", b"bc", b"def"]),
        (fb.TEXT, [b"", b"", b"a", b"", b"b", b""]),
        (fb.TEXT, [b"", b""]),
        (fb.BINARY, [b"", b""]),
        (fb.BINARY, [b"x" * 70000, b"y" * 70000]),
    ]:
        whole = b"".join(payloads)
        expected = codec.Message(whole if opcode == fb.BINARY else whole.decode(), opcode)
        data = fragments(opcode, *payloads)
        assert decode(codec, data * 2).items == [expected] * 2
        assert decode(codec, *one_by_one(data)).items == [expected]
        data = fragments(opcode, *payloads, mask=None)
        assert decode(codec, data, expect_masked=False).items == [expected]


@pytest.mark.parametrize("fin", [True, False])
def test_s5_4_continuation_needs_a_message(codec: ModuleType, fin: bool) -> None:
    refused(codec, masked(fb.CONTINUATION, b"x", fin=fin))
    refused(codec, fragments(fb.TEXT, b"a", b"b") + masked(fb.CONTINUATION, b"x", fin=fin))


@pytest.mark.parametrize("second", DATA)
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("started", [b"", b"x"], ids=["nothing yet", "something"])
def test_s5_4_no_new_message_inside_a_message(
    codec: ModuleType, second: int, fin: bool, started: bytes
) -> None:
    # The trap: nothing was received of the message, but it has begun.
    for first in DATA:
        refused(codec, masked(first, started, fin=False) + masked(second, b"y", fin=fin))
        begun = masked(first, started, fin=False) + masked(fb.CONTINUATION, b"", fin=False)
        refused(codec, begun + masked(second, b"y", fin=fin))


def test_s5_4_control_frames_between_fragments(codec: ModuleType) -> None:
    data = b"".join(
        [
            masked(fb.TEXT, b"a", fin=False),
            masked(fb.PING, b"1"),
            masked(fb.CONTINUATION, b"b", fin=False),
            masked(fb.PONG, b""),
            masked(fb.PING, b"x" * 125),
            masked(fb.CONTINUATION, b"c"),
            masked(fb.CLOSE, b"\x03\xe8"),
        ]
    )
    assert both_ways(codec, data).items == [
        codec.Frame(fb.PING, b"1"),
        codec.Frame(fb.PONG, b""),
        codec.Frame(fb.PING, b"x" * 125),
        codec.Message("abc", fb.TEXT),
        codec.Frame(fb.CLOSE, b"\x03\xe8"),
    ]


# --- s5.5: control frames ----------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", CONTROL)
def test_s5_5_control_frames_up_to_125_bytes(codec: ModuleType, opcode: int) -> None:
    for length in 0, 1, 124, 125:
        frame = codec.Frame(opcode, b"p" * length, True, False)
        assert both_ways(codec, masked(opcode, b"p" * length)).items == [frame]
        unmasked = fb.build(opcode, b"p" * length)
        assert both_ways(codec, unmasked, expect_masked=False).items == [frame]
    for length in 126, 65535, 65536, (1 << 63) - 1, 1 << 63:
        # Its first two bytes are enough.
        assert decode(codec, masked(opcode, declared_length=length)[:2]).code == 1002
    assert "125" in refused(codec, masked(opcode, b"p" * 126))
    refused(codec, masked(opcode, b"p", length_form=16))
    refused(codec, masked(opcode, b"p", length_form=64))


@pytest.mark.parametrize("opcode", CONTROL)
def test_s5_5_control_frames_are_not_fragmented(codec: ModuleType, opcode: int) -> None:
    assert "fragmented" in refused(codec, masked(opcode, b"p", fin=False))
    refused(codec, masked(fb.TEXT, b"a", fin=False) + masked(opcode, b"p", fin=False))


@pytest.mark.parametrize("data", ["8100", "8180", "810548656c6c6f", "818537fa213d7f9f4d5158"])
def test_s5_7_examples(codec: ModuleType, data: str) -> None:
    wire = bytes.fromhex(data)
    outcome = both_ways(codec, wire, expect_masked=bool(wire[1] & 0x80))
    if data == "8180":
        assert (outcome.items, outcome.pending) == ([], True)
    else:
        assert outcome.items == [codec.Message("Hello" if len(wire) > 2 else "", fb.TEXT)]


def test_s5_7_fragmented_example(codec: ModuleType) -> None:
    outcome = both_ways(codec, bytes.fromhex("010348656c80026c6f"), expect_masked=False)
    assert outcome.items == [codec.Message("Hello", fb.TEXT)]


# --- errors and what is pending ----------------------------------------------------------------------------


def test_pending(codec: ModuleType) -> None:
    decoder = make(codec, allow_rsv1=True)
    assert not decoder.pending
    for rsv in 0, 4:
        data = (
            masked(fb.TEXT, b"ab", fin=False, rsv=rsv) + masked(fb.PING, b"p") + masked(fb.CONTINUATION, b"c")
        )
        for byte in one_by_one(data[:-1]):
            feed(codec, decoder, byte)
            assert decoder.pending
        feed(codec, decoder, data[-1:])
        assert not decoder.pending
        # Between the frames of a message it is pending too.
        empty = masked(fb.TEXT, b"", fin=False, rsv=rsv)
        assert decode(codec, empty, allow_rsv1=True).pending
    decoder.feed(b"\x89")
    assert decoder.pending


def test_nothing_is_pending_after_an_error(codec: ModuleType) -> None:
    for broken in (
        masked(fb.TEXT, b"ok\xff more"),
        fragments(fb.TEXT, b"ok", b"\xff", b"more"),
        masked(fb.TEXT, b"ok", fin=False) + masked(fb.TEXT, b"again"),
    ):
        outcome = both_ways(codec, broken)
        assert outcome.code is not None
        assert not outcome.pending


def test_nothing_comes_after_an_error(codec: ModuleType) -> None:
    decoder = make(codec)
    outcome = feed(codec, decoder, BEFORE + b"\xff\xff" + AFTER, AFTER, b"", AFTER[:3])
    assert (outcome.data, outcome.code) == ([b"before"], 1002)
    out: list[object] = []
    assert decoder.decode(out) is None
    assert out == []
    assert not decoder.has_more
    assert not decoder.pending


def test_complete_frames_are_counted(codec: ModuleType) -> None:
    def count(data: bytes) -> int:
        counts = {
            decode(codec, *chunks, allow_rsv1=True, stream=stream).frames
            for stream in (False, True)
            for chunks in ([data], one_by_one(data))
        }
        (the_same,) = counts
        return the_same

    one, many = masked(fb.TEXT, b"x"), fragments(fb.TEXT, b"a", b"", b"b")
    assert count(one + many + masked(fb.BINARY) + masked(fb.PING, b"p")) == 6
    assert count(fragments(fb.TEXT, b"a", b"b", rsv=4) + one) == 3
    assert count(masked(fb.BINARY, bytes(70_000))) == 1
    # Neither one that is not complete nor one in which something is wrong.
    assert count(one + masked(fb.TEXT, b"xyz")[:-1]) == 1
    for broken in masked(fb.TEXT, b"\xff"), masked(3, b""), masked(fb.PING, bytes(126)):
        assert count(one + broken + one) == 1


def test_error_can_be_shown_and_raised_again(codec: ModuleType) -> None:
    error = codec.CodecError(1002, "reserved opcode 3")
    assert (error.code, error.reason, str(error)) == (1002, "reserved opcode 3", "reserved opcode 3")
    assert isinstance(error, Exception)


def test_defaults_of_the_decoder(codec: ModuleType) -> None:
    assert feed(codec, codec.Decoder(True, 10, 10), masked(fb.TEXT, b"x")).data == ["x"]
    decoder = codec.Decoder(expect_masked=True, max_message_size=UNLIMITED, max_fragments=UNLIMITED)
    assert feed(codec, decoder, masked(fb.TEXT, b"x", rsv=4)).code == 1002
