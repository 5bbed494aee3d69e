"""Receiving text, RFC 6455 s5.6 and s8.1, and the rules of streaming."""

from __future__ import annotations

import itertools
import sys
from types import ModuleType

import pytest

import framebuilder as fb
from codectools import both_ways, decode, feed, fragments, join_pieces, make, masked, one_by_one
from wsframe import _backend

#: What is not UTF-8 (RFC 3629), and which byte of it settles that: nothing that follows can make it valid.
INVALID = [
    # A continuation byte that continues nothing.
    ("80", 0),
    ("bf", 0),
    # Longer than needed.
    ("c0 80", 0),
    ("c1 bf", 0),
    ("e0 80 80", 1),
    ("e0 9f bf", 1),
    ("f0 80 80 80", 1),
    ("f0 8f bf bf", 1),
    # Surrogates, alone and in a pair.
    ("ed a0 80", 1),
    ("ed ad bf", 1),
    ("ed bf bf", 1),
    ("ed a0 bd ed b8 80", 1),
    # Over U+10FFFF, and forms that RFC 3629 does away with.
    ("f4 90 80 80", 1),
    ("f5 80 80 80", 0),
    ("f8 88 80 80 80", 0),
    ("fc 84 80 80 80 80", 0),
    ("fe", 0),
    ("ff", 0),
    # Broken off by something else, in each place.
    ("c3 28", 1),
    ("c3 c3 a9", 1),
    ("e2 28 ac", 1),
    ("e2 82 28", 2),
    ("e2 82 e2", 2),
    ("ed 9f c0", 2),
    ("f0 28 8c bc", 1),
    ("f0 90 28 bc", 2),
    ("f0 90 8c 28", 3),
    ("f4 8f bf f4", 3),
]

#: The first and the last of each length and on each side of a gap.
VALID = [
    *["\0", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff"],
    *["\U00010000", "\U0003ffff", "\U00040000", "\U0010ffff", "\ufeffBOM", "e\u0301", "\r\n\r"],
]

UNFINISHED = ["c3", "e2", "e2 82", "ed", "ed 9f", "f0", "f0 90", "f0 90 8c", "f4 8f bf"]

OPTIONS = pytest.mark.parametrize("options", [{}, {"stream": True}, {"decode_text": False}], ids=str)


@OPTIONS
@pytest.mark.parametrize("text", VALID, ids=ascii)
def test_s8_1_valid_text(codec: ModuleType, text: str, options: dict[str, bool]) -> None:
    def check(expected: str, *chunks: bytes) -> None:
        (item,) = join_pieces(codec, decode(codec, *chunks, **options).items)
        assert item.is_text
        assert item.data == (expected if options.get("decode_text", True) else expected.encode())

    for whole in text, f"a{text}z", text * 100, "a" * 65530 + text * 3:
        data = whole.encode()
        for wire in masked(fb.TEXT, data), fragments(fb.TEXT, data[:-1], data[-1:]):
            check(whole, wire)
            check(whole, wire[:-1], wire[-1:])
            if len(wire) < 1000:
                check(whole, *one_by_one(wire))
    check(text * 5, fragments(fb.TEXT, *one_by_one(text.encode() * 5)))


@OPTIONS
@pytest.mark.parametrize(("sequence", "settled"), INVALID)
def test_s8_1_invalid_text(codec: ModuleType, sequence: str, settled: int, options: dict[str, bool]) -> None:
    data = bytes.fromhex(sequence)
    for before in b"", b"ok", "ok €".encode(), b"x" * 65530:
        for after in b"", b" more", b"\x80\x80\x80":
            # As one frame, where it is only looked at when it is all there; and as it comes.
            whole = masked(fb.TEXT, before + data + after)
            assert decode(codec, whole, **options).code == 1007
            # Inside a frame that is not complete: at the very byte, and not before.
            start = masked(fb.TEXT, before + data + b" " * 200)
            size = len(start) - len(data) - 200 + settled
            decoder = make(codec, **options)
            assert feed(codec, decoder, start[:size]).code is None
            outcome = feed(codec, decoder, start[size : size + 1])
            assert (outcome.code, outcome.reason) == (1007, "invalid UTF-8 in a text message")
    # Across fragments.
    pieces = one_by_one(b"ok" + data)
    decoder = make(codec, **options)
    for i, piece in enumerate(pieces):
        outcome = feed(codec, decoder, masked(fb.CONTINUATION if i else fb.TEXT, piece, fin=False))
        assert outcome.code == (1007 if i == 2 + settled else None)
        if outcome.code:
            break
    with pytest.raises(UnicodeDecodeError):
        data.decode()


@OPTIONS
@pytest.mark.parametrize("sequence", UNFINISHED)
def test_s8_1_text_ends_with_a_character(codec: ModuleType, sequence: str, options: dict[str, bool]) -> None:
    data = bytes.fromhex(sequence)
    for payload in data, b"ok" + data, b"x" * 200 + data, b"x" * 70000 + data:
        for wire in (
            masked(fb.TEXT, payload),
            fragments(fb.TEXT, payload, b""),
            fragments(fb.TEXT, b"", payload),
        ):
            assert decode(codec, wire, **options).code == 1007
            assert decode(codec, wire[:50], wire[50:], **options).code == 1007
        # Between fragments it is legal.
        assert decode(codec, fragments(fb.TEXT, payload, b"")[: -len(masked(0))], **options).code is None


def test_s8_1_a_character_may_be_cut_anywhere(codec: ModuleType) -> None:
    text = "aé€𐍈z"
    data = text.encode()
    ping = masked(fb.PING, b"p")
    for cut in range(len(data) + 1):
        for second in range(cut, len(data) + 1):
            parts = fragments(fb.TEXT, data[:cut], data[cut:second], data[second:])
            assert both_ways(codec, parts).data == [text]
    wire = ping.join(
        masked(0 if i else fb.TEXT, byte, fin=i == len(data) - 1) for i, byte in enumerate(one_by_one(data))
    )
    assert both_ways(codec, wire).data == [b"p"] * (len(data) - 1) + [text]


def test_s8_1_only_text_is_looked_at(codec: ModuleType) -> None:
    wire = masked(fb.BINARY, b"\xff") + fragments(fb.BINARY, b"\xed", b"\xa0") + masked(fb.PING, b"\xff")
    assert both_ways(codec, wire).data == [b"\xff", b"\xed\xa0", b"\xff"]


def test_s8_1_messages_do_not_touch_each_other(codec: ModuleType) -> None:
    # What one message left unfinished is not finished by the next.
    wire = fragments(fb.TEXT, b"\xc3", b"\xa9") + fragments(fb.TEXT, b"a", b"b") + masked(fb.TEXT, b"\xa9")
    outcome = both_ways(codec, wire)
    assert (outcome.data, outcome.code) == (["é", "ab"], 1007)


def test_s8_1_code_wins_by_position(codec: ModuleType) -> None:
    # What comes first on the wire decides, however it was cut.
    assert both_ways(codec, masked(fb.TEXT, b"\xff") + b"\xff\xff").code == 1007
    assert both_ways(codec, masked(fb.TEXT, b"\xe2", fin=False) + b"\xff\xff").code == 1002
    assert both_ways(codec, masked(fb.TEXT, b"\xff" * 11), max_message_size=10).code == 1009


def test_text_that_is_not_decoded(codec: ModuleType) -> None:
    wire = masked(fb.TEXT, "é".encode()) + fragments(fb.TEXT, b"\xc3", b"\xa9") + masked(fb.BINARY, b"x")
    items = both_ways(codec, wire, decode_text=False).items
    assert items == [codec.Message("é".encode(), fb.TEXT)] * 2 + [codec.Message(b"x", fb.BINARY)]
    assert [item.is_text for item in items] == [True, True, False]


# --- streaming ---------------------------------------------------------------------------------------------


def test_stream_gives_payload_as_it_comes(codec: ModuleType) -> None:
    data = masked(fb.BINARY, b"abc", fin=False) + masked(fb.PING, b"p") + masked(fb.CONTINUATION, b"def")
    chunk = codec.MessageChunk
    assert decode(codec, data, stream=True).items == [
        chunk(b"abc", fb.BINARY, True, False),
        codec.Frame(fb.PING, b"p"),
        chunk(b"def", fb.BINARY, False, True),
    ]
    assert decode(codec, *one_by_one(data), stream=True).items == [
        chunk(b"a", fb.BINARY, True, False),
        chunk(b"b", fb.BINARY, False, False),
        chunk(b"c", fb.BINARY, False, False),
        codec.Frame(fb.PING, b"p"),
        chunk(b"d", fb.BINARY, False, False),
        chunk(b"e", fb.BINARY, False, False),
        chunk(b"f", fb.BINARY, False, True),
    ]


@pytest.mark.parametrize("opcode", [fb.TEXT, fb.BINARY])
def test_stream_empty_pieces(codec: ModuleType, opcode: int) -> None:
    def chunks(wire: bytes) -> list[tuple[str, bool, bool]]:
        items = both_ways(codec, wire, stream=True).items
        assert {item.opcode for item in items} <= {opcode}
        return [(item.data if item.is_text else item.data.decode(), item.first, item.final) for item in items]

    # The end of a message is always told, an empty piece before it never.
    assert chunks(masked(opcode)) == [("", True, True)]
    assert chunks(fragments(opcode, b"", b"", b"")) == [("", True, True)]
    assert chunks(fragments(opcode, b"", b"a", b"")) == [("a", True, False), ("", False, True)]
    assert chunks(fragments(opcode, b"", b"", b"a")) == [("a", True, True)]
    assert chunks(fragments(opcode, b"", b"")[:-1]) == []
    assert chunks(masked(opcode, b"a") * 2) == [("a", True, True)] * 2


def test_stream_text_never_ends_inside_a_character(codec: ModuleType) -> None:
    data = "é€𐍈".encode()
    for options in {}, {"decode_text": False}:
        items = decode(codec, *one_by_one(masked(fb.TEXT, data)), stream=True, **options).items
        texts = [item.data if isinstance(item.data, str) else item.data.decode() for item in items]
        assert texts == ["é", "€", "𐍈"]
        assert [(item.first, item.final) for item in items] == [(True, False), (False, False), (False, True)]
        items = decode(codec, fragments(fb.TEXT, b"a\xf0\x90", b"\x8d\x88z"), stream=True, **options).items
        assert [len(item.data) for item in items] == [1, 2 if options == {} else 5]


@pytest.mark.parametrize("decode_text", [True, False])
def test_stream_gives_what_was_valid_before_an_error(codec: ModuleType, decode_text: bool) -> None:
    # Byte by byte it was given already, so it has to be given in one chunk, too.
    for broken in b"\xff", b"\xed\xa0", b"\xe2\x82\x28", b"\xc3\xff":
        for wire in masked(fb.TEXT, "aé".encode() + broken), fragments(fb.TEXT, b"a\xc3", b"\xa9" + broken):
            for cuts in [wire], one_by_one(wire), [wire[:8], wire[8:]]:
                outcome = decode(codec, *cuts, stream=True, decode_text=decode_text)
                assert outcome.code == 1007
                text = "aé" if decode_text else "aé".encode()
                assert join_pieces(codec, outcome.items) == [codec.MessageChunk(text, fb.TEXT, True, False)]
    assert decode(codec, masked(fb.TEXT, b"\xff"), stream=True).items == []


# --- the assembler, for who brings the payload -------------------------------------------------------------


def test_assembler(codec: ModuleType) -> None:
    assembler = codec.Assembler(False, True)
    out: list[object] = []
    assembler.begin(fb.TEXT)
    assembler.add(b"a\xc3", False, out)
    assert out == []
    assembler.add(b"\xa9", True, out)
    assembler.begin(fb.BINARY)
    assembler.add(b"\xff", True, out)
    # A message that was broken off leaves nothing behind.
    assembler.begin(fb.TEXT)
    assembler.add(b"lost \xc3", False, out)
    assembler.begin(fb.BINARY)
    assembler.add(b"a", False, out)
    assembler.add(b"", False, out)
    assembler.add(b"", True, out)
    assert out == [
        codec.Message("aé", fb.TEXT),
        codec.Message(b"\xff", fb.BINARY),
        codec.Message(b"a", fb.BINARY),
    ]
    assembler.begin(fb.TEXT)
    with pytest.raises(codec.CodecError) as caught:
        assembler.add(b"\xed\xa0", False, out)
    assert caught.value.code == 1007
    assert len(out) == 3


@pytest.mark.parametrize("pieces", [1, 2, 3, 7])
@pytest.mark.parametrize("where", ["nowhere", "first", "middle", "last"])
@pytest.mark.parametrize("fragmented", [False, True])
def test_long_text_in_pieces(codec: ModuleType, pieces: int, where: str, fragmented: bool) -> None:
    text = "0123456789" * 3000
    at = {"nowhere": None, "first": 0, "middle": 15_000, "last": 30_000}[where]
    if at is not None:
        text = text[:at] + "é🙂" + text[at:]
    data = text.encode()
    if fragmented:
        cuts = [len(data) * i // pieces for i in range(pieces + 1)]
        wire = fragments(fb.TEXT, *(data[one:two] for one, two in itertools.pairwise(cuts)))
    else:
        wire = masked(fb.TEXT, data)
    step = len(wire) // pieces + 1
    outcome = decode(codec, *(wire[i : i + step] for i in range(0, len(wire), step)))
    assert outcome.items == [codec.Message(text, fb.TEXT)]
    (message,) = outcome.data
    # A str as good as any other.
    assert hash(message) == hash(text)
    assert sys.getsizeof(message) == sys.getsizeof(text)
    assert message.isascii() == (where == "nowhere")


def test_assembler_streaming(codec: ModuleType) -> None:
    out: list[_backend.MessageChunk] = []
    assembler = codec.Assembler(True, False)
    for opcode in fb.TEXT, fb.BINARY:
        assembler.begin(opcode)
        assembler.add(b"", False, out)
        assembler.add(b"ab", False, out)
        assembler.add(b"", True, out)
    assert out == [
        codec.MessageChunk(data, opcode, first, not first)
        for opcode in (fb.TEXT, fb.BINARY)
        for data, first in ((b"ab", True), (b"", False))
    ]
