"""Sending: frames, headers, masks and masking keys (RFC 6455 s5.2, s5.3)."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType

import pytest

import framebuilder as fb
from codectools import KEY
from wsframe import _backend

OPCODES = [fb.CONTINUATION, fb.TEXT, fb.BINARY, fb.CLOSE, fb.PING, fb.PONG]
LENGTHS = [0, 1, 124, 125, 126, 127, 65535, 65536]
KINDS = pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("key", [None, KEY, bytes(4)], ids=repr)
def test_s5_2_frame(codec: ModuleType, length: int, key: bytes | None) -> None:
    payload = bytes(i * 31 & 0xFF for i in range(length))
    for opcode in OPCODES:
        if opcode >= fb.CLOSE and length > 125:
            continue
        expected = fb.build(opcode, payload, mask=key)
        assert codec.encode_frame(opcode, payload, True, False, key) == expected
        header = codec.encode_header(opcode, length, True, False, key)
        assert header == expected[: len(expected) - length]
        assert type(header) is bytes
    for fin in True, False:
        for rsv1 in True, False:
            expected = fb.build(fb.TEXT, payload, fin=fin, rsv=4 * rsv1, mask=key)
            assert codec.encode_frame(fb.TEXT, payload, fin, rsv1, key) == expected
    assert codec.encode_frame(fb.BINARY, payload) == fb.build(fb.BINARY, payload)


@pytest.mark.parametrize("power", [16, 23, 31, 32, 53, 63])
def test_s5_2_large_lengths(codec: ModuleType, power: int) -> None:
    for length in (1 << power) - 1, 1 << power, (1 << power) + 1:
        if length < 1 << 63:
            for key in None, KEY:
                expected = fb.build(fb.BINARY, mask=key, declared_length=length)
                assert codec.encode_header(fb.BINARY, length, key=key) == expected
        else:
            with pytest.raises(ValueError, match=r"2\*\*63"):
                codec.encode_header(fb.BINARY, length)


def test_s5_7_examples(codec: ModuleType) -> None:
    encode = codec.encode_frame
    assert encode(fb.TEXT, "Hello").hex(" ") == "81 05 48 65 6c 6c 6f"
    assert encode(fb.TEXT, "Hello", key=KEY).hex(" ") == "81 85 37 fa 21 3d 7f 9f 4d 51 58"
    assert encode(fb.TEXT, "Hel", fin=False).hex(" ") == "01 03 48 65 6c"
    assert encode(fb.CONTINUATION, "lo").hex(" ") == "80 02 6c 6f"
    assert encode(fb.PING, b"Hello").hex(" ") == "89 05 48 65 6c 6c 6f"
    assert encode(fb.PONG, b"Hello", key=KEY).hex(" ") == "8a 85 37 fa 21 3d 7f 9f 4d 51 58"
    assert encode(fb.BINARY, bytes(256))[:4].hex(" ") == "82 7e 01 00"
    assert encode(fb.BINARY, bytes(65536))[:10].hex(" ") == "82 7f 00 00 00 00 00 01 00 00"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(((opcode, 0), f"opcode {opcode} is not defined") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        ((16, 0), "opcode 16"),
        ((-1, 0), "opcode -1"),
        ((0x81, 0), "opcode 129"),
        ((fb.PING, 126), "at most 125 bytes, not 126"),
        ((fb.CLOSE, 1 << 64), "at most 125 bytes"),
        ((fb.PONG, 1, False), "cannot be fragmented"),
        ((fb.PING, 1, True, True), "cannot be compressed"),
        ((fb.CONTINUATION, 1, True, True), "first frame of a message"),
        ((fb.TEXT, -1), "-1 bytes"),
        ((fb.PING, -1), "-1 bytes"),
        ((fb.TEXT, 1, True, False, b""), "4 bytes, not 0"),
        ((fb.TEXT, 1, True, False, b"123"), "4 bytes, not 3"),
        ((fb.TEXT, 1, True, False, b"12345"), "4 bytes, not 5"),
    ],
    ids=repr,
)
def test_what_cannot_be_encoded(codec: ModuleType, arguments: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec.encode_header(*arguments)
    if 0 <= arguments[1] < 1000:
        opcode, length, *more = arguments
        with pytest.raises(ValueError, match=message):
            codec.encode_frame(opcode, bytes(length), *more)


@KINDS
def test_payload_may_be_any_bytes(codec: ModuleType, kind: Callable[[bytes], bytes]) -> None:
    for length in 5, 200, 5000:
        payload = (bytes(range(256)) * 20)[:length]
        plain = codec.encode_frame(fb.BINARY, kind(payload))
        assert (plain, type(plain)) == (fb.build(fb.BINARY, payload), bytes)
        frame = codec.encode_frame(fb.BINARY, kind(payload), key=KEY)
        assert (frame, type(frame)) == (fb.build(fb.BINARY, payload, mask=KEY), bytes)
        once = codec.apply_mask(kind(payload), kind(KEY), 1)
        assert (once, type(once)) == (codec.apply_mask(payload, KEY, 1), bytes)
    every_second = memoryview(b"a-b-c-d-")[::2]
    assert codec.encode_frame(fb.BINARY, every_second) == b"\x82\x04abcd"
    assert codec.apply_mask(every_second, bytes(4)) == b"abcd"


def test_payload_may_be_text(codec: ModuleType) -> None:
    for text in "", "Hello", "é€𐍈", "x" * 200 + "é", "\0":
        assert codec.encode_frame(fb.TEXT, text) == fb.build(fb.TEXT, text.encode())
        assert codec.encode_frame(fb.TEXT, text, key=KEY) == fb.build(fb.TEXT, text.encode(), mask=KEY)
    for text in "\ud800", "ok\udfff":
        with pytest.raises(UnicodeEncodeError):
            codec.encode_frame(fb.TEXT, text)


@pytest.mark.parametrize("wrong", [5, None, [1, 2], 1.5], ids=repr)
def test_payload_must_be_bytes_or_text(codec: ModuleType, wrong: object) -> None:
    with pytest.raises(TypeError):
        codec.encode_frame(fb.BINARY, wrong)
    with pytest.raises(TypeError):
        codec.apply_mask(wrong, KEY)
    with pytest.raises(TypeError):
        codec.apply_mask("text", KEY)


# --- decode_header -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [*LENGTHS, 1 << 23, 1 << 31, 1 << 32, 1 << 53, (1 << 63) - 1])
def test_decode_header(codec: ModuleType, length: int) -> None:
    for key in None, KEY:
        wire = fb.build(fb.TEXT, mask=key, declared_length=length, fin=False, rsv=7)
        after = len(wire) - (4 if key else 0)
        second = wire[1]
        assert codec.decode_header(wire) == (0x71, second, length, after)
        assert codec.decode_header(b"??" + wire, 2) == (0x71, second, length, after + 2)
        for kind in bytearray, memoryview:
            assert codec.decode_header(kind(wire)) == (0x71, second, length, after)
        for size in range(after):
            assert codec.decode_header(wire[:size]) is None
        assert codec.decode_header(wire[:after]) is not None


def test_decode_header_does_not_judge(codec: ModuleType) -> None:
    assert codec.decode_header(b"\xff\x00") == (0xFF, 0, 0, 2)
    assert codec.decode_header(b"\x0f\xfe\xff\xff") == (0x0F, 0xFE, 65535, 4)
    assert codec.decode_header(b"", 0) is None
    assert codec.decode_header(b"\x81", 1) is None


@pytest.mark.parametrize(
    ("length", "form", "reason"),
    [
        (0, 16, "fewest"),
        (125, 16, "fewest"),
        (0, 64, "fewest"),
        (65535, 64, "fewest"),
        (1 << 63, 64, "top bit"),
        ((1 << 64) - 1, 64, "top bit"),
    ],
)
def test_decode_header_refuses_lengths(
    codec: ModuleType, length: int, form: fb.LengthForm, reason: str
) -> None:
    wire = fb.build(fb.TEXT, declared_length=length, length_form=form)
    assert codec.decode_header(wire[:-1]) is None
    with pytest.raises(codec.CodecError, match=reason) as caught:
        codec.decode_header(wire)
    assert caught.value.code == 1002


# --- masking -----------------------------------------------------------------------------------------------


def test_s5_3_mask(codec: ModuleType) -> None:
    assert codec.apply_mask(b"Hello", KEY) == bytes.fromhex("7f9f4d5158")
    payload = bytes(i * 31 & 0xFF for i in range(5000))
    for length in [*range(40), 125, 126, *range(1990, 2010), 3001, 5000]:
        for offset in 0, 1, 2, 3, 4, 5, (1 << 32) + 1, (1 << 63) + 2, (1 << 70) + 3:
            expected = bytes(byte ^ KEY[(i + offset) % 4] for i, byte in enumerate(payload[:length]))
            assert codec.apply_mask(payload[:length], KEY, offset) == expected


def test_mask_does_not_change_its_input(codec: ModuleType) -> None:
    for length in 10, 5000:
        data = bytearray(length)
        codec.apply_mask(data, KEY)
        assert data == bytes(length)


@pytest.mark.parametrize("key", [b"", b"123", b"12345"])
def test_mask_key_has_four_bytes(codec: ModuleType, key: bytes) -> None:
    with pytest.raises(ValueError, match=f"4 bytes, not {len(key)}"):
        codec.apply_mask(b"data", key)


def test_mask_offset_is_not_negative(codec: ModuleType) -> None:
    with pytest.raises(ValueError, match="-1"):
        codec.apply_mask(b"data", KEY, -1)


# --- masking keys ------------------------------------------------------------------------------------------


class Source:
    """Entropy that is none: the numbers from 0 on, four bytes each."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, size: int) -> bytes:
        self.calls.append(size)
        assert size % 4 == 0
        begin = sum(self.calls[:-1]) // 4
        return b"".join(number.to_bytes(4, "big") for number in range(begin, begin + size // 4))


def test_s5_3_keys_are_fresh(codec: ModuleType) -> None:
    source = Source()
    keys = codec.MaskingKeys(source)
    assert source.calls == [], "a connection that sends nothing needs no entropy"
    size = codec.MaskingKeys.POOL_SIZE
    count = 3 * size // 4
    # In their order and without a gap, so none comes twice and none is made of two.
    assert [keys.next() for _ in range(count)] == [number.to_bytes(4, "big") for number in range(count)]
    assert source.calls == [size] * 3
    keys.next()
    assert len(source.calls) == 4


def test_s5_3_keys_of_two_connections(codec: ModuleType) -> None:
    first, second = codec.MaskingKeys(os.urandom), codec.MaskingKeys(os.urandom)
    drawn = [keys.next() for keys in (first, second) for _ in range(1000)]
    assert all(len(key) == 4 and type(key) is bytes for key in drawn)
    assert len(set(drawn)) > 1990


def test_keys_need_all_the_entropy_asked_for(codec: ModuleType) -> None:
    good = Source()
    answers = [b"", b"1234", bytes(codec.MaskingKeys.POOL_SIZE + 1)]
    keys = codec.MaskingKeys(lambda size: answers.pop() if answers else good(size))
    for _ in range(3):
        with pytest.raises(ValueError, match="random_bytes"):
            keys.next()
    assert keys.next() == bytes(4)


def test_an_error_of_the_source_is_the_callers(codec: ModuleType) -> None:
    def source(size: int) -> bytes:
        raise OSError("no entropy")

    with pytest.raises(OSError, match="no entropy"):
        codec.MaskingKeys(source).next()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_s10_3_keys_are_not_shared_across_fork(codec: ModuleType) -> None:
    source = Source()
    keys = codec.MaskingKeys(source)
    unused = codec.MaskingKeys(os.urandom)
    before = [keys.next() for _ in range(3)]
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(
                sender,
                b"".join([*(keys.next() for _ in range(5)), bytes([len(source.calls)]), unused.next()]),
            )
        finally:
            os._exit(0)
    os.close(sender)
    try:
        assert os.waitpid(child, 0)[1] == 0
        told = os.read(receiver, 100)
    finally:
        os.close(receiver)
    assert len(told) == 25
    assert told[20] == 2, "the child filled its own pool"
    after = [keys.next() for _ in range(5)]
    assert source.calls == [codec.MaskingKeys.POOL_SIZE], "the parent keeps its own"
    assert len({*before, *after, *(told[i : i + 4] for i in range(0, 20, 4))}) == 13
    assert told[21:] != unused.next()


def test_backend_sends_with_the_codec_that_it_names() -> None:
    assert _backend.encode_frame(fb.TEXT, "Hello", key=KEY) == fb.build(fb.TEXT, b"Hello", mask=KEY)
