"""The tests' own frame builder, held against the examples of RFC 6455 and against itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framebuilder import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    SAMPLE_ACCEPT,
    SAMPLE_KEY,
    SAMPLE_MASK,
    TEXT,
    LengthForm,
    ParsedFrame,
    accept_for,
    build,
    client_handshake_request,
    close_payload,
    parse_all,
)

# RFC 6455 s5.7, byte for byte. The long ones are given there by their header alone.
EXAMPLES = {
    "unmasked text": (build(TEXT, b"Hello"), "81 05 48 65 6c 6c 6f"),
    "masked text": (build(TEXT, b"Hello", mask=SAMPLE_MASK), "81 85 37 fa 21 3d 7f 9f 4d 51 58"),
    "first fragment": (build(TEXT, b"Hel", fin=False), "01 03 48 65 6c"),
    "last fragment": (build(CONTINUATION, b"lo"), "80 02 6c 6f"),
    "ping": (build(PING, b"Hello"), "89 05 48 65 6c 6c 6f"),
    "masked pong": (build(PONG, b"Hello", mask=SAMPLE_MASK), "8a 85 37 fa 21 3d 7f 9f 4d 51 58"),
    "256 bytes": (build(BINARY, bytes(256))[:4], "82 7e 01 00"),
    "64 KiB": (build(BINARY, bytes(65536))[:10], "82 7f 00 00 00 00 00 01 00 00"),
}


@pytest.mark.parametrize(("built", "expected"), EXAMPLES.values(), ids=EXAMPLES)
def test_build_gives_the_examples_of_section_5_7(built: bytes, expected: str) -> None:
    assert built == bytes.fromhex(expected)


def test_parse_reads_the_examples_of_section_5_7() -> None:
    data = bytes.fromhex("01 03 48 65 6c 80 02 6c 6f 8a 85 37 fa 21 3d 7f 9f 4d 51 58")
    assert parse_all(data) == [
        ParsedFrame(fin=False, rsv=0, opcode=TEXT, masked=False, key=None, payload=b"Hel"),
        ParsedFrame(fin=True, rsv=0, opcode=CONTINUATION, masked=False, key=None, payload=b"lo"),
        ParsedFrame(fin=True, rsv=0, opcode=PONG, masked=True, key=SAMPLE_MASK, payload=b"Hello"),
    ]


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (0, "82 00"),
        (125, "82 7d"),
        (126, "82 7e 00 7e"),
        (0xFFFF, "82 7e ff ff"),
        (0x10000, "82 7f 00 00 00 00 00 01 00 00"),
    ],
)
def test_the_shortest_length_form_is_the_default(length: int, header: str) -> None:
    frame = build(BINARY, bytes(length))
    assert frame[: len(frame) - length] == bytes.fromhex(header)
    assert parse_all(frame)[0].payload == bytes(length)


@pytest.mark.parametrize(
    ("form", "expected"),
    [(7, "81 01 61"), (16, "81 7e 00 01 61"), (64, "81 7f 00 00 00 00 00 00 00 01 61")],
)
def test_a_length_form_can_be_forced(form: LengthForm, expected: str) -> None:
    assert build(TEXT, b"a", length_form=form) == bytes.fromhex(expected)


def test_a_declared_length_can_lie_up_to_the_top_bit() -> None:
    assert build(BINARY, b"", declared_length=(1 << 64) - 1) == bytes.fromhex("82 7f" + "ff" * 8)
    assert build(BINARY, b"abc", declared_length=2) == bytes.fromhex("82 02 61 62 63")


def test_reserved_bits_and_opcodes_can_be_set() -> None:
    assert build(0x3, rsv=0b100) == bytes.fromhex("c3 00")
    assert build(0xF, rsv=0b111, fin=False) == bytes.fromhex("7f 00")
    assert [(f.rsv, f.opcode) for f in parse_all(bytes.fromhex("c3 00 7f 00"))] == [(4, 0x3), (7, 0xF)]


def test_close_payload() -> None:
    assert close_payload() == b""
    assert close_payload(1000) == b"\x03\xe8"
    assert close_payload(1001, b"bye") == b"\x03\xe9bye"
    assert build(CLOSE, close_payload(1000)) == bytes.fromhex("88 02 03 e8")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("81", "header"),
        ("81 7e 00", "length"),
        ("81 7f 00 00 00 00 00 01 00", "length"),
        ("81 85 37 fa 21", "masking key"),
        ("81 05 48 65 6c 6c", "payload"),
        ("81 01 61 00", "frame 1: the header"),
        ("81 7e 00 7d", "shortest form"),
        ("81 7f 00 00 00 00 00 00 ff ff", "shortest form"),
        ("81 7f 80 00 00 00 00 00 00 00", "most significant bit"),
    ],
)
def test_parse_refuses_what_is_not_whole_frames_in_shortest_form(data: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_all(bytes.fromhex(data))


def test_build_refuses_what_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="opcode"):
        build(16)
    with pytest.raises(ValueError, match="rsv"):
        build(TEXT, rsv=8)
    with pytest.raises(ValueError, match="4 bytes"):
        build(TEXT, mask=b"abc")
    with pytest.raises(ValueError, match="7 bits"):
        build(TEXT, length_form=7, declared_length=126)


@given(
    st.lists(
        st.builds(
            lambda fin, rsv, opcode, key, payload: ParsedFrame(
                fin, rsv, opcode, key is not None, key, payload
            ),
            st.booleans(),
            st.integers(0, 7),
            st.integers(0, 15),
            st.none() | st.binary(min_size=4, max_size=4),
            st.binary(max_size=300),
        ),
        max_size=4,
    )
)
def test_parse_undoes_build(frames: list[ParsedFrame]) -> None:
    wire = b"".join(build(f.opcode, f.payload, fin=f.fin, rsv=f.rsv, mask=f.key) for f in frames)
    assert parse_all(wire) == frames


def test_accept_is_the_one_of_section_1_3() -> None:
    assert accept_for(SAMPLE_KEY) == SAMPLE_ACCEPT


def test_handshake_request() -> None:
    assert client_handshake_request("/chat", headers=[("Origin", "http://example.com")]) == (
        b"GET /chat HTTP/1.1\r\n"
        b"Host: server.example.com\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Version: 13\r\n"
        b"Origin: http://example.com\r\n"
        b"\r\n"
    )


def test_handshake_request_with_a_required_header_missing() -> None:
    request = client_handshake_request(method="POST", http_version="1.0", without=["sec-websocket-KEY"])
    assert request.startswith(b"POST / HTTP/1.0\r\n")
    assert b"Sec-WebSocket-Key" not in request
    with pytest.raises(ValueError, match="origin"):
        client_handshake_request(without=["Origin"])


def test_it_uses_nothing_of_the_code_under_test() -> None:
    tree = ast.parse(Path(build.__code__.co_filename).read_text(encoding="utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert "struct" in modules
    assert {module.partition(".")[0] for module in modules} <= sys.stdlib_module_names
