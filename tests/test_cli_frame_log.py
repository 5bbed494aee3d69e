"""The frame log of `python -m wsframe connect --frames`: right at any chunking, and never in the way."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framebuilder import BINARY, CLOSE, CONTINUATION, PING, SAMPLE_MASK, TEXT, build, close_payload
from wsframe._adapter._wire import FrameScanner
from wsframe.cli._frame_log import FrameLog, describe

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def shown(data: bytes) -> list[str]:
    return [describe(frame) for frame in FrameScanner().feed(data)]


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        (build(TEXT, b"Hello"), 'TEXT fin 5 bytes "Hello"'),
        (build(TEXT, b"Hello", mask=SAMPLE_MASK), 'TEXT fin masked 5 bytes "Hello"'),
        (build(TEXT, b""), "TEXT fin 0 bytes"),
        (build(TEXT, b"x", fin=False), 'TEXT 1 byte "x"'),
        (build(TEXT, b"x" * 61), f'TEXT fin 61 bytes "{"x" * 60}"...'),
        (build(TEXT, b"x" * 70_000, mask=SAMPLE_MASK), f'TEXT fin masked 70000 bytes "{"x" * 60}"...'),
        # Cut in the middle of a character by what is kept, and by the peer.
        (build(TEXT, b"xx" + "\u20ac".encode() * 50), f'TEXT fin 152 bytes "xx{chr(0x20AC) * 42}"...'),
        (build(TEXT, b"ab\xff"), 'TEXT fin 3 bytes "ab\ufffd"'),
        (build(TEXT, b"\x01\x02", rsv=4), "TEXT fin rsv1 2 bytes 01 02"),
        (build(BINARY, bytes(21)), f"BINARY fin 21 bytes {' '.join(['00'] * 20)} ..."),
        (build(PING, b"hi"), "PING fin 2 bytes 68 69"),
        (build(CLOSE, close_payload(1000)), "CLOSE fin 2 bytes 1000"),
        (build(CLOSE, close_payload(4001, b"bye")), 'CLOSE fin 5 bytes 4001 "bye"'),
        (build(CLOSE), "CLOSE fin 0 bytes"),
        (build(CLOSE, b"\x00"), "CLOSE fin 1 byte 00"),
        (build(11, b"?", rsv=3, fin=False), "reserved 11 rsv2 rsv3 1 byte 3f"),
    ],
)
def test_one_frame(frame: bytes, line: str) -> None:
    assert [" ".join(text.split()) for text in shown(frame)] == [line]


def test_fragments_know_what_message_they_belong_to() -> None:
    data = (
        build(TEXT, b"a", fin=False)
        + build(PING, b"p")
        + build(CONTINUATION, b"b")
        + build(BINARY, b"c", fin=False)
        + build(CONTINUATION, b"d")
        + build(TEXT, b"e", fin=False, rsv=4)
        + build(CONTINUATION, b"f")
    )
    assert [text.split()[-1] for text in shown(data)] == ['"a"', "70", '"b"', "63", "64", "65", "66"]


frames = st.builds(
    build,
    st.integers(0, 15),
    st.binary(max_size=300),
    fin=st.booleans(),
    rsv=st.integers(0, 7),
    mask=st.none() | st.binary(min_size=4, max_size=4),
)


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 3000), max_size=20))
def test_the_chunks_do_not_matter(built: list[bytes], cuts: list[int]) -> None:
    data = b"".join(built)
    whole = list(FrameScanner().feed(data))
    assert len(whole) == len(built)
    scanner = FrameScanner()
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[begin:end] for begin, end in itertools.pairwise(edges)]
    assert [frame for piece in pieces for frame in scanner.feed(piece)] == whole
    assert scanner.unfinished() is None


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=10), st.booleans())
def test_whatever_comes_it_is_not_in_the_way(chunks: list[tuple[bool, bytes]], opened: bool) -> None:
    written: list[str] = []
    log = FrameLog(written.append, lambda: 0.0, handshake=True, frames=True)
    if opened:
        log.sent(b"GET / HTTP/1.1\r\n\r\n")
        log.received(HEAD)
    for sent, data in chunks:
        if sent:
            log.sent(data)
        else:
            log.received(memoryview(data))
    log.close()


def log_of(*received: bytes, handshake: bool = True, frames: bool = True) -> list[str]:
    written: list[str] = []
    log = FrameLog(written.append, lambda: 0.0, handshake=handshake, frames=frames)
    for data in received:
        log.received(data)
    log.close()
    return [" ".join(line.split()) for line in written]


def test_a_head_in_pieces_with_frames_behind() -> None:
    data = HEAD + build(TEXT, b"x")
    whole = log_of(data)
    assert whole == [
        "< HTTP/1.1 101 Switching Protocols",
        "< Upgrade: websocket",
        "<",
        '0.000 < TEXT fin 1 byte "x"',
    ]
    assert log_of(*(data[i : i + 1] for i in range(len(data)))) == whole
    assert log_of(data, handshake=False) == whole[3:]
    assert log_of(data, frames=False) == whole[:3]


def test_an_interim_response_comes_before() -> None:
    lines = log_of(b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + build(TEXT, b"x"))
    assert lines[0] == "< HTTP/1.1 103 Early Hints"
    assert lines[-1] == '0.000 < TEXT fin 1 byte "x"'


def test_behind_a_refusal_there_are_no_frames() -> None:
    assert log_of(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\n", build(TEXT, b"x")) == [
        "< HTTP/1.1 403 Forbidden",
        "< Content-Length: 2",
        "<",
    ]


def test_a_head_without_an_end_is_given_up() -> None:
    assert log_of(*[b"x" * 65536] * 8) == []


def test_what_is_no_frame_ends_the_log() -> None:
    too_long = build(TEXT, b"x", length_form=64)
    assert log_of(HEAD, build(TEXT, b"a") + too_long, build(TEXT, b"b"), handshake=False) == [
        '0.000 < TEXT fin 1 byte "a"',
        "0.000 < no frame: length 1 is not encoded in the fewest bytes; what follows is not shown",
    ]


def test_a_frame_that_is_cut_off_is_shown() -> None:
    cut = build(TEXT, b"abc", declared_length=10)
    assert log_of(HEAD + cut, handshake=False) == ['0.000 < TEXT fin 10 bytes "abc"... (cut off after 3)']


def test_a_large_frame_costs_little() -> None:
    scanner = FrameScanner()
    chunk = memoryview(bytes(1 << 16))
    assert list(scanner.feed(build(BINARY, b"", declared_length=1 << 40)[:10])) == []
    for _ in range(1000):
        assert list(scanner.feed(chunk)) == []
    frame = scanner.unfinished()
    assert frame is not None
    assert (frame.came, len(frame.head)) == (1000 << 16, 128)
    assert frame.opcode == BINARY
