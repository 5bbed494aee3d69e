"""Single frames and Close payloads, for people who only want frames (RFC 6455 s5, s7.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import framebuilder as fb
import wsframe
from wsframe import (
    Frame,
    LocalProtocolError,
    Opcode,
    PreparedMessage,
    RemoteProtocolError,
    Role,
    pack,
    pack_close,
    unpack,
    unpack_close,
)
from wsframe._frames import check_close, is_receivable_close_code, is_sendable_close_code

KEY = fb.SAMPLE_MASK
LENGTHS = [0, 1, 125, 126, 127, 65535, 65536]

each_kind = pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])


# --- pack --------------------------------------------------------------------------------------------------


def test_pack_takes_the_opcode_from_the_type() -> None:
    assert pack("Hello") == fb.build(fb.TEXT, b"Hello")
    assert pack("é€") == fb.build(fb.TEXT, "é€".encode())
    for data in b"\xff", bytearray(b"\xff"), memoryview(b"\xff"):
        assert pack(data) == fb.build(fb.BINARY, b"\xff")
    assert pack("Hello", Opcode.PING) == pack(b"Hello", 9) == fb.build(fb.PING, b"Hello")
    assert pack(b"Hello", Opcode.TEXT) == pack("Hello")


def test_pack_bits() -> None:
    assert pack("x", fin=False) == fb.build(fb.TEXT, b"x", fin=False)
    assert pack("x", rsv1=True) == fb.build(fb.TEXT, b"x", rsv=4)
    assert pack("x", Opcode.CONTINUATION) == fb.build(fb.CONTINUATION, b"x")


@pytest.mark.parametrize("length", LENGTHS)
def test_pack_masks(length: int) -> None:
    payload = b"x" * length
    assert pack(payload, mask=KEY) == fb.build(fb.BINARY, payload, mask=KEY)
    assert pack(payload, mask=False) == fb.build(fb.BINARY, payload)
    (frame,) = fb.parse_all(pack(payload, mask=True))
    assert (frame.masked, frame.payload) == (True, payload)


def test_pack_takes_fresh_keys() -> None:
    # s5.3
    assert (
        len({frame.key for frame in fb.parse_all(b"".join(pack(b"x", mask=True) for _ in range(50)))}) == 50
    )


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("x", 3), {}, "opcode 3 is not defined"),
        (("x", 16), {}, "opcode 16 is not defined"),
        ((b"x" * 126, Opcode.PING), {}, "a control frame carries at most 125 bytes, not 126"),
        ((b"x" * 126, Opcode.CLOSE), {"mask": KEY}, "a control frame carries at most 125 bytes, not 126"),
        (("é" * 63, Opcode.PONG), {}, "at most 125 bytes, not 126"),
        ((b"", Opcode.PING), {"fin": False}, "cannot be fragmented"),
        ((b"", Opcode.CLOSE), {"rsv1": True}, "cannot be compressed"),
        ((b"", Opcode.CONTINUATION), {"rsv1": True}, "first frame of a message"),
        ((b"",), {"mask": b""}, "4 bytes, not 0"),
        ((b"",), {"mask": b"123"}, "4 bytes, not 3"),
        (("\ud800",), {}, "surrogates not allowed"),
    ],
    ids=repr,
)
def test_pack_says_what_is_wrong(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(LocalProtocolError, match=message):
        pack(*arguments, **options)


@pytest.mark.parametrize("wrong", [5, None, [1, 2]], ids=repr)
def test_only_bytes_and_text_have_frames(wrong: Any) -> None:
    for function in pack, unpack, PreparedMessage:
        with pytest.raises(TypeError):
            function(wrong)
    with pytest.raises(TypeError):
        pack(b"", mask=wrong)


# --- unpack ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("mask", [None, KEY], ids=["unmasked", "masked"])
def test_unpack_takes_the_first_frame(length: int, mask: bytes | None) -> None:
    wire = fb.build(fb.BINARY, b"x" * length, mask=mask)
    expected = Frame(2, b"x" * length, True, False)
    assert unpack(wire) == (expected, b"")
    assert unpack(wire + b"rest") == (expected, b"rest")
    assert unpack(wire + wire)[1] == wire
    for size in {*range(min(len(wire), 20)), len(wire) - 1}:
        assert unpack(wire[:size]) == (None, wire[:size])


def test_unpack_what_pack_made() -> None:
    for opcode in Opcode:
        for mask in False, True:
            frame, rest = unpack(pack(b"payload", opcode, mask=mask))
            assert (frame, rest) == (Frame(opcode, b"payload"), b"")
    frame, _ = unpack(pack(b"x", fin=False, rsv1=True), allow_rsv1=True)
    assert frame == Frame(2, b"x", False, True)


@each_kind
def test_unpack_any_bytes(kind: Callable[[bytes], Any]) -> None:
    data = kind(fb.build(fb.TEXT, b"Hello", mask=KEY) + b"rest")
    frame, rest = unpack(data)
    assert (frame, rest, type(rest)) == (Frame(1, b"Hello"), b"rest", bytes)
    assert unpack(kind(b"\x81")) == (None, b"\x81")


@given(
    opcode=st.sampled_from(list(Opcode)),
    payload=st.binary(max_size=125),
    mask=st.booleans(),
    rest=st.binary(max_size=9),
)
def test_unpack_is_the_other_side_of_pack(opcode: Opcode, payload: bytes, mask: bool, rest: bytes) -> None:
    assert unpack(pack(payload, opcode, mask=mask) + rest) == (Frame(opcode, payload), rest)


@pytest.mark.parametrize(
    ("wire", "code", "message"),
    [
        (fb.build(3, b""), 1002, "reserved opcode 3"),
        (fb.build(fb.TEXT, b"", rsv=4), 1002, "reserved bit"),
        (fb.build(fb.TEXT, b"", rsv=2), 1002, "reserved bit"),
        (fb.build(fb.TEXT, b"", rsv=1), 1002, "reserved bit"),
        (fb.build(fb.PING, b"", fin=False), 1002, "fragmented control frame"),
        (fb.build(fb.PING, bytes(126)), 1002, "control frame over 125 bytes"),
        (fb.build(fb.TEXT, bytes(5), length_form=16), 1002, "fewest bytes"),
        (fb.build(fb.TEXT, bytes(5), length_form=64), 1002, "fewest bytes"),
        (fb.build(fb.TEXT, declared_length=1 << 63), 1002, "top bit"),
        (fb.build(fb.TEXT, bytes(101)), 1009, "101 bytes is over the limit of 100"),
        (fb.build(fb.TEXT, declared_length=(1 << 63) - 1), 1009, "over the limit of 100"),
    ],
    ids=lambda value: value.hex()[:20] if isinstance(value, bytes) else None,
)
def test_unpack_refuses(wire: bytes, code: int, message: str) -> None:
    with pytest.raises(RemoteProtocolError, match=message) as caught:
        unpack(wire, max_size=100)
    assert caught.value.close_code == code


def test_unpack_refuses_rsv1_where_it_has_no_meaning() -> None:
    # RFC 7692 s6.1
    for opcode in Opcode.CONTINUATION, Opcode.PING, Opcode.CLOSE:
        with pytest.raises(RemoteProtocolError, match="RFC 7692"):
            unpack(fb.build(opcode, b"", rsv=4), allow_rsv1=True)
    with pytest.raises(RemoteProtocolError, match="reserved"):
        unpack(fb.build(fb.TEXT, b"", rsv=6), allow_rsv1=True)


def test_unpack_refuses_before_the_payload_is_there() -> None:
    assert unpack(fb.build(fb.TEXT, bytes(100)), max_size=100)[0] == Frame(1, bytes(100))
    with pytest.raises(RemoteProtocolError):
        unpack(fb.build(fb.TEXT, declared_length=101), max_size=100)
    assert unpack(fb.build(fb.TEXT, declared_length=1 << 20))[0] is None
    with pytest.raises(RemoteProtocolError):
        unpack(fb.build(fb.TEXT, declared_length=(1 << 20) + 1))


# --- Close -------------------------------------------------------------------------------------------------

#: RFC 6455 s7.4.1 and the IANA registry: 1004 is reserved, 1005, 1006 and 1015 never stand in a frame.
SENDABLE = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


def test_s7_4_codes() -> None:
    for code in [*range(5001), 65535, 1 << 16, -1000]:
        sendable = code in SENDABLE
        assert is_sendable_close_code(code) is sendable
        assert is_sendable_close_code(code, Role.CLIENT) is sendable
        assert is_sendable_close_code(code, Role.SERVER) is (sendable and code != 1010)
        assert is_receivable_close_code(code) is sendable
        if sendable:
            payload = fb.close_payload(code, b"why")
            assert pack_close(code, "why") == payload
            assert unpack_close(payload) == (code, "why")
        else:
            with pytest.raises(LocalProtocolError, match=f"Close code {code} may not be sent"):
                pack_close(code)
            if 0 <= code < 1 << 16:
                with pytest.raises(RemoteProtocolError, match=str(code)) as caught:
                    unpack_close(fb.close_payload(code))
                assert caught.value.close_code == 1002


def test_s7_4_1010_is_for_clients() -> None:
    assert pack_close(1010, "", Role.CLIENT) == fb.close_payload(1010)
    with pytest.raises(LocalProtocolError, match="1010 may not be sent by a server"):
        pack_close(1010, "", Role.SERVER)
    # Where it comes from a server it is a code like any other.
    assert unpack_close(fb.close_payload(1010)) == (1010, "")


def test_s5_5_1_empty_close() -> None:
    assert pack_close(None) == b""
    assert unpack_close(b"") == (None, "")
    with pytest.raises(LocalProtocolError, match="reason without a code"):
        pack_close(None, "why")


def test_s5_5_1_one_byte_is_no_close() -> None:
    with pytest.raises(RemoteProtocolError, match="one byte") as caught:
        unpack_close(b"\x03")
    assert caught.value.close_code == 1002


def test_s5_5_reason_has_at_most_123_bytes() -> None:
    for reason in "x" * 123, "é" * 61 + "x", "€" * 41:
        assert pack_close(1000, reason) == fb.close_payload(1000, reason.encode())
        assert unpack_close(pack_close(1000, reason)) == (1000, reason)
        assert len(pack(pack_close(1000, reason), Opcode.CLOSE)) == 127
    for reason in "x" * 124, "é" * 62, "€" * 42:
        with pytest.raises(
            LocalProtocolError, match=f"at most 123 bytes as UTF-8, not {len(reason.encode())}"
        ):
            pack_close(1000, reason)
        with pytest.raises(RemoteProtocolError, match="125"):
            unpack_close(fb.close_payload(1000, reason.encode()))


@pytest.mark.parametrize("reason", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"ok\xe2\x82"])
def test_s5_5_1_reason_is_utf8(reason: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="UTF-8") as caught:
        unpack_close(fb.close_payload(1000, reason))
    assert caught.value.close_code == 1007


def test_s5_5_1_code_is_judged_before_the_reason() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        unpack_close(fb.close_payload(999, b"\xff"))
    assert caught.value.close_code == 1002


def test_reason_that_cannot_be_encoded() -> None:
    with pytest.raises(LocalProtocolError, match="UTF-8"):
        pack_close(1000, "\ud800")


@pytest.mark.parametrize("code", [True, False, 1000.0, "1000", b"1000"], ids=repr)
def test_code_is_an_int(code: Any) -> None:
    with pytest.raises(LocalProtocolError, match="int or None"):
        pack_close(code)


def test_code_may_be_an_enum() -> None:
    assert pack_close(wsframe.CloseCode.GOING_AWAY) == fb.close_payload(1001)
    code, _ = unpack_close(fb.close_payload(1001))
    assert type(code) is int


@each_kind
def test_close_payload_may_be_any_bytes(kind: Callable[[bytes], Any]) -> None:
    assert unpack_close(kind(fb.close_payload(1000, b"why"))) == (1000, "why")


def test_check_close_is_pack_close_without_a_result() -> None:
    check_close(1000, "x" * 123)
    check_close(None, "")
    for code, reason in [(1005, ""), (1000, "x" * 124), (None, "x")]:
        with pytest.raises(LocalProtocolError):
            check_close(code, reason)


@given(code=st.sampled_from(sorted(SENDABLE)), reason=st.text(max_size=40))
def test_unpack_close_is_the_other_side_of_pack_close(code: int, reason: str) -> None:
    while len(reason.encode()) > 123:
        reason = reason[:-1]
    assert unpack_close(pack_close(code, reason)) == (code, reason)


@given(payload=st.binary(max_size=130) | st.binary(max_size=10).map(lambda data: b"\x03\xe8" + data))
def test_unpack_close_has_one_of_two_outcomes(payload: bytes) -> None:
    try:
        code, reason = unpack_close(payload)
    except RemoteProtocolError as exc:
        allowed = (1002, 1007)
        assert exc.close_code in allowed  # noqa: PT017
    else:
        assert pack_close(code, reason) == payload


# --- prepared messages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
def test_prepared_message(length: int) -> None:
    payload = b"x" * length
    cases: list[tuple[str | bytes | bytearray, int]] = [
        (payload.decode(), fb.TEXT),
        (payload, fb.BINARY),
        (bytearray(payload), fb.BINARY),
    ]
    for data, opcode in cases:
        message = PreparedMessage(data)
        assert message.frame == fb.build(opcode, payload)
        assert message.size == length
        assert str(length) in repr(message)


def test_prepared_message_counts_bytes() -> None:
    assert PreparedMessage("é" * 63).size == 126
    assert PreparedMessage("€" * 41).size == 123


def test_prepared_message_does_not_alias() -> None:
    data = bytearray(b"abc")
    message = PreparedMessage(data)
    data[:] = b"xyz"
    assert message.frame == fb.build(fb.BINARY, b"abc")


def test_prepared_message_is_utf8() -> None:
    with pytest.raises(LocalProtocolError, match="surrogates"):
        PreparedMessage("\ud800")


def test_what_is_public() -> None:
    assert wsframe.pack is pack
    assert wsframe.unpack is unpack
    assert wsframe.apply_mask(b"Hello", KEY) == bytes.fromhex("7f9f4d5158")
