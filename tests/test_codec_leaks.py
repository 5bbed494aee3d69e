"""Nothing is leaked, whatever way a call ends: references, memory, buffers."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

import framebuilder as fb
from codectools import CASES, KEY, feed, make, masked, one_by_one

#: Not small, so that a leak of one object a round stands out.
ROUNDS = 24

Action = Callable[[], object]


def decoding(codec: ModuleType) -> dict[str, Action]:
    """Everything a decoder can meet, to the end, and broken off in the middle."""

    def run(options: dict[str, Any], chunks: list[bytes]) -> Action:
        def action() -> None:
            feed(codec, make(codec, **options), *chunks)
            feed(codec, make(codec, **options), *map(bytearray, chunks))
            # Thrown away with input that was never looked at, and in the middle of it.
            for count in range(3):
                decoder = make(codec, **options)
                for chunk in chunks:
                    decoder.feed(bytearray(chunk))
                    if count:
                        try:
                            decoder.decode([])
                        except codec.CodecError:
                            break
                    if count == 2:
                        decoder.feed(chunk[:1])
            if len(chunks[0]) < 100:
                feed(codec, make(codec, **options), *one_by_one(b"".join(chunks)))

        return action

    return {title: run(options, chunks) for title, (options, chunks) in CASES.items()}


def calling(codec: ModuleType) -> dict[str, Action]:
    """Everything else, with right and wrong arguments."""
    data, key = bytearray(b"x" * 300), bytearray(KEY)
    view = memoryview(bytes(600))[::2]
    keys = codec.MaskingKeys(bytes)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        *(
            ("encode_frame", (2, payload, True, False, key))
            for payload in (data, view, "x", "é", "\ud800", b"x", None, 5)
        ),
        *(("encode_frame", (2, b"x", True, False, wrong)) for wrong in (b"", "1234", 5, view, None)),
        *(("encode_frame", (opcode, data)) for opcode in (3, 9, -1, 1 << 80, None, "x")),
        *(
            ("encode_header", (2, length, True, True, key))
            for length in (0, 126, 1 << 40, 1 << 70, -5, None, 1.5)
        ),
        *(("apply_mask", (payload, key, 5)) for payload in (data, view, "x", None)),
        *(("apply_mask", (data, wrong, 5)) for wrong in (b"", None, view)),
        *(("apply_mask", (data, key, wrong)) for wrong in (-1, None, 1 << 90)),
        *(
            ("decode_header", (header, 0))
            for header in (data, view, b"\x81\x7e\0\1", b"\x81\x7f" + b"\xff" * 8, None, b"")
        ),
        *(("decode_header", (data, position)) for position in (-1, 1 << 90, 400, None, 1000)),
        *(("Message", arguments) for arguments in (("x" * 9, 1), (None, 1), ("x", 99), (), ("x", 1 << 90))),
        *(
            ("MessageChunk", arguments)
            for arguments in (("x", 1, True, False), (5, 1, 1, 1), ("x", None, 1, 1))
        ),
        *(
            ("Frame", arguments)
            for arguments in ((1, b"x"), (1, data), (99, b"x"), (None, b"x"), (1, b"x", 1, 1))
        ),
        *(("CodecError", arguments) for arguments in ((1002, "x"), ())),
        *(
            ("Decoder", arguments)
            for arguments in ((True, 5, 5), (True, -5, 5), (True, None, 5), (True, 1 << 80, 1 << 80), ())
        ),
        *(("MaskingKeys", arguments) for arguments in ((bytes,), ())),
        *(("Assembler", arguments) for arguments in ((True, False), ())),
    ]

    def run(name: str, arguments: tuple[Any, ...]) -> Action:
        def action() -> None:
            for _ in range(5):
                try:
                    value = getattr(codec, name)(*arguments)
                except (TypeError, ValueError, OverflowError, codec.CodecError):
                    continue
                if name in ("Message", "MessageChunk", "Frame"):
                    repr(value)
                    hash(value)
                    assert value == value
                    assert value != None  # noqa: E711
                    with pytest.raises(AttributeError):
                        value.opcode = 5
                    with pytest.raises(AttributeError):
                        value.__init__(*arguments)

        return action

    def misuse() -> None:
        decoder = make(codec)
        for wrong in None, "x", 5:
            with pytest.raises(TypeError):
                decoder.feed(wrong)
            with pytest.raises(TypeError):
                decoder.decode(wrong)
        for answer in None, b"", 5, RuntimeError:

            def source(size: int, answer: Any = answer) -> Any:
                if answer is RuntimeError:
                    raise RuntimeError
                return answer

            with pytest.raises((TypeError, ValueError, RuntimeError)):
                codec.MaskingKeys(source).next()

    def assemble() -> None:
        for stream in True, False:
            assembler = codec.Assembler(stream, True)
            for pieces in (b"abc", b"\xe2\x82", b"\xac" * 1), (b"abc" * 99, b"\xff"), (b"",):
                assembler.begin(fb.TEXT)
                out: list[Any] = []
                try:
                    for piece in pieces:
                        assembler.add(piece, False, out)
                    assembler.add(b"", True, out)
                except codec.CodecError:
                    pass

    return {f"{name}{arguments!r:.60}": run(name, arguments) for name, arguments in calls} | {
        "keys": lambda: [keys.next() for _ in range(300)],
        "misuse": misuse,
        "assembler": assemble,
    }


def used_memory() -> tuple[int, int]:
    """Allocated blocks, and references where the interpreter counts them."""
    gc.collect()
    total: Callable[[], int] = getattr(sys, "gettotalrefcount", lambda: 0)
    return sys.getallocatedblocks(), total()


def blocks_grown(action: Action) -> int:
    """How many blocks, or references, there are more after so many rounds; 0 for a few."""
    # Caches and free lists fill up first; once more where something else happened to grow.
    growth = 0
    for _ in range(4):
        for _ in range(3):
            action()
        before = used_memory()
        for _ in range(ROUNDS):
            action()
        growth = max(now - then for now, then in zip(used_memory(), before, strict=True))
        if growth < ROUNDS // 2:
            return 0
    return growth


def bytes_grown(action: Action) -> int:
    """The same in bytes: also what is too large for Python's own allocator to count."""
    growth = 0
    for _ in range(4):
        action()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(6):
            action()
        gc.collect()
        growth = tracemalloc.get_traced_memory()[0] - before
        if growth < 300:
            return 0
    return growth


@pytest.mark.parametrize("group", [decoding, calling])
def test_nothing_grows(codec: ModuleType, group: Callable[[ModuleType], dict[str, Action]]) -> None:
    grown = {title: blocks_grown(action) for title, action in group(codec).items()}
    assert {title: growth for title, growth in grown.items() if growth} == {}


def test_no_memory_grows(codec: ModuleType) -> None:
    tracemalloc.start()
    try:
        grown = {title: bytes_grown(action) for title, action in (decoding(codec) | calling(codec)).items()}
    finally:
        tracemalloc.stop()
    assert {title: growth for title, growth in grown.items() if growth} == {}


def test_a_leak_would_be_seen() -> None:
    leaked: list[object] = []
    assert blocks_grown(lambda: leaked.append(object())) >= ROUNDS // 2
    tracemalloc.start()
    try:
        assert bytes_grown(lambda: leaked.append(bytes(1000))) >= 6000
    finally:
        tracemalloc.stop()


def test_references_are_given_back(codec: ModuleType) -> None:
    """Inputs, keys and what all of them share are not counted up."""
    payload, key, text = bytes(range(200)), bytes(range(4)), "é" * 50
    wire = masked(fb.TEXT, text.encode()) + masked(fb.BINARY, payload) + masked(fb.PING, payload[:9])
    bad = masked(fb.TEXT, b"ok") + masked(fb.TEXT, payload)
    lent, lent_key = bytearray(payload), bytearray(key)
    limit = 1 << 80
    shared: list[Any] = [
        payload,
        key,
        text,
        wire,
        bad,
        lent,
        lent_key,
        limit,
        b"",
        "",
        (),
        1,
        1002,
        None,
        True,
        False,
    ]
    shared += [
        codec.Message,
        codec.MessageChunk,
        codec.Frame,
        codec.CodecError,
        codec.Decoder,
        codec.Assembler,
    ]

    def rounds() -> None:
        for _ in range(1000):
            codec.encode_frame(2, payload, key=key)
            codec.encode_frame(2, lent, key=lent_key)
            codec.encode_frame(1, text)
            codec.apply_mask(lent, lent_key, 3)
            codec.decode_header(wire, 0)
            message = codec.Message(text, 1)
            hash(message)
            codec.MessageChunk(payload, 2, True, False)
            codec.Frame(2, payload)
            for data in wire, bad:
                decoder = codec.Decoder(True, limit, limit)
                decoder.feed(data)
                for _ in range(2):
                    try:
                        decoder.decode([])
                    except codec.CodecError:
                        break

    rounds()
    gc.collect()
    before = [sys.getrefcount(value) for value in shared]
    rounds()
    gc.collect()
    after = [sys.getrefcount(value) for value in shared]
    grown = [
        (repr(value)[:50], now - then)
        for value, now, then in zip(shared, after, before, strict=True)
        if abs(now - then) > 200
    ]
    assert grown == []
    # BufferError, were one still exported.
    lent.append(0)
    lent_key.append(0)
