"""Both codecs on the same input: a program that makes inputs by the million and says where the codecs differ.

    python tests/differential.py --count 1000000 --seed 1 --processes 2

An input is a stream of frames (legal, damaged, or no frames at all), the pieces it comes in, and the settings of the
receiver. Two of three go to the two decoders, which must agree on everything that shows after every single call; the
third goes to two whole connections of one role, one on each codec, among sends, pings and closes of our own. Some carry
calls of the functions that build, mask and read frames, with arguments that are mostly right.

Every input has a number and depends on that and the seed alone. The first difference is made as small as it can be and
printed together with the command that repeats it, and the exit status is 1. `tests/test_codec_differential.py` runs a
sample.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import multiprocessing
import os
import random
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from wsframe import Connection, Limits, LocalProtocolError, Role, _backend, _codec_py
from wsframe._deflate import DeflateCodec

MIB = 1 << 20

#: Inputs that a process does between two reports.
BATCH = 1000
#: No input needs so many calls for one chunk.
MOST_CALLS = 100_000

#: What a decoder takes in one call: payload bytes, and so much more for each piece.
BOUND = MIB
PIECE = 64

#: What a payload's length goes wrong at: length forms, words and vectors of the masking loops, growing buffers.
LENGTHS = [
    0,
    0,
    1,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    124,
    125,
    126,
    127,
    128,
    129,
    160,
    255,
    257,
]
LONGER = [511, 1000, 1023, 1025, 1999, 2000, 2001, 4096, 8191, 10_000]
LONG = [65_534, 65_535, 65_536, 65_537, 100_000, 200_001]
HUGE = [MIB - 1, MIB, MIB + 1, 2 * MIB + 7]
DECLARED = [
    0,
    1,
    125,
    126,
    300,
    65_535,
    65_536,
    1 << 23,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 53,
    1 << 62,
    (1 << 63) - 1,
]
IMPOSSIBLE = [1 << 63, (1 << 64) - 1]

CHARACTERS = [
    *(c.encode() for c in "a\0\x7f\x80é\u07ff\u0800€\ud7ff\ue000\uffff\U00010000𐍈\U0010ffff"),
    b"hello world",
    b"abcdefghijklmnopqrstuvwxyz" * 3,
]
NO_CHARACTERS = [
    bytes.fromhex(part)
    for part in "80 bf c0 c1 c2 c0af e0 e080 e09f80 e2 e282 ed eda0 eda080 ef f0 f08f f0908d f4 f490 f5 ff".split()
]
KEYS = [bytes(4), b"\xff\xff\xff\xff", b"\xff\x00\x80\x01", bytes.fromhex("37fa213d")]
SIZES = [0, 1, 7, 125, 126, 300, 65_535, MIB, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, 1 << 70]
COUNTS = [0, 1, 2, 3, 1000, 1 << 32, 1 << 70]
OPCODES = [0, 1, 2, 8, 9, 10]
WRONG_OPCODES = [-1, 3, 7, 11, 15, 16, 1 << 70]


@dataclass(frozen=True)
class Case:
    """One input; its repr repeats it."""

    #: For the decoders, or for connections of the receiving role.
    connection: bool
    chunks: tuple[bytes, ...]
    masked: bool
    max_size: int
    max_fragments: int
    compression: bool
    stream: bool
    decode_text: bool
    #: How a chunk is handed over: 0 as bytes, 1 in a buffer that is overwritten as soon as that is allowed.
    reuse: bool = False
    #: Decoders: after how many chunks decode is called. Connections: before which call something is sent.
    rhythm: int = 1
    #: Connections: what is sent.
    sends: tuple[int, ...] = ()
    #: Functions of the codec to call before all else, with their arguments.
    calls: tuple[tuple[str, tuple[Any, ...]], ...] = ()


# --- inputs ------------------------------------------------------------------------------------------------


def xor(data: bytes, key: bytes) -> bytes:
    size = len(data)
    pattern = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pattern, "big")).to_bytes(size, "big")


def frame(first: int, payload: bytes, key: bytes | None, declared: int | None = None, form: int = 0) -> bytes:
    """A frame, right or wrong. ``form`` is the least length field: 0, 126 or 127."""
    length = len(payload) if declared is None else declared
    mask = 0 if key is None else 0x80
    if length < 126 and not form:
        head = bytes((first, mask | length))
    elif length < 1 << 16 and form != 127:
        head = bytes((first, mask | 126)) + length.to_bytes(2, "big")
    else:
        head = bytes((first, mask | 127)) + length.to_bytes(8, "big")
    return head + payload if key is None else head + key + xor(payload, key)


class Generator:
    """Makes the inputs of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random()
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
        texts = [
            b"",
            b"a",
            b"hello " * 30,
            "é€𐍈".encode() * 9,
            bytes(5000),
            b"\xff",
            random.Random(seed).randbytes(99),
        ]
        self.compressed = [
            # With its empty block taken off at the end (RFC 7692 s7.2.1).
            (deflater.compress(text) + deflater.flush(zlib.Z_FULL_FLUSH))[:-4] or b"\x00"
            for text in texts
        ] + [b"\x03\x00", b"\x00", b"\xff\xff", b"\x01\x00\x00\xff\xff", b""]

    def case(self, number: int) -> Case:
        """Input number N."""
        rng = self.random
        rng.seed((self.seed << 64) | number)
        chance = rng.random
        connection = number % 3 == 2
        masked = chance() < 0.5
        compression = chance() < 0.3
        roll = chance()
        if roll < 0.07:
            data = rng.randbytes(rng.randrange(40))
        elif roll < 0.2:
            data = b"".join(self.odd_frame(masked) for _ in range(rng.randrange(1, 5)))
        else:
            data = self.legal(masked, compression)
            if roll < 0.6:
                data = self.damage(data)
        loose = chance() < 0.7
        return Case(
            connection,
            tuple(self.cut(data)),
            masked,
            MIB if loose else (rng.choice(SIZES[1:11]) if connection else rng.choice(SIZES)),
            1000 if loose else (rng.choice(COUNTS[1:]) if connection else rng.choice(COUNTS)),
            compression,
            chance() < 0.3,
            chance() < 0.7,
            chance() < 0.3,
            1 if chance() < 0.8 else rng.randrange(2, 5),
            tuple(rng.choices(range(10), k=rng.randrange(4))) if connection else (),
            tuple(self.call(data) for _ in range(rng.randrange(1, 4))) if chance() < 0.1 else (),
        )

    def call(self, data: bytes) -> tuple[str, tuple[Any, ...]]:
        """A function of the codec with its arguments, of which one is wrong now and then."""
        rng = self.random
        chance = rng.random
        roll = chance()
        key = (
            None if chance() < 0.3 else self.key() if chance() < 0.9 else rng.randbytes(rng.choice((0, 3, 5)))
        )
        if roll < 0.2:
            return "decode_header", (
                data[:20],
                rng.randrange(25) if chance() < 0.9 else rng.choice((-1, 1 << 70)),
            )
        if roll < 0.5:
            offset = rng.randrange(9) if chance() < 0.9 else rng.choice((-1, (1 << 70) + 1))
            return "apply_mask", (rng.randbytes(self.length()), key or self.key(), offset)
        opcode = rng.choice(OPCODES if chance() < 0.9 else WRONG_OPCODES)
        fin, rsv1 = chance() < 0.8, chance() < 0.2
        if roll < 0.7:
            length = self.length() if chance() < 0.5 else rng.choice([*DECLARED, *IMPOSSIBLE, -1])
            return "encode_header", (opcode, length, fin, rsv1, key)
        payload: Any = rng.randbytes(self.length())
        if roll < 0.8:
            payload = bytearray(payload)
        elif roll < 0.9:
            payload = self.text(False).decode() + ("\ud800" if chance() < 0.05 else "")
        return "encode_frame", (opcode, payload, fin, rsv1, key)

    def key(self) -> bytes:
        rng = self.random
        return rng.randbytes(4) if rng.random() < 0.8 else rng.choice(KEYS)

    def length(self) -> int:
        rng = self.random
        roll = rng.random()
        if roll < 0.9:
            return rng.choice(LENGTHS)
        return rng.choice(LONGER if roll < 0.995 else LONG if roll < 0.9998 else HUGE)

    def text(self, wrong: bool) -> bytes:
        rng = self.random
        parts = rng.choices(CHARACTERS, k=rng.randrange(6))
        if wrong:
            parts.insert(rng.randint(0, len(parts)), rng.choice(NO_CHARACTERS))
        data = b"".join(parts)
        if rng.random() < 0.3:
            length = self.length()
            front = b"x" * (length - len(data))
            data = front + data if rng.random() < 0.5 else data + front
        return data

    def odd_frame(self, masked: bool) -> bytes:
        """Legal in parts."""
        rng = self.random
        chance = rng.random
        first = rng.choice((0, 1, 1, 1, 2, 2, 8, 9, 10, 3, 11, 15)) | (0x80 if chance() < 0.7 else 0)
        if chance() < 0.2:
            first |= rng.choice((0x40, 0x40, 0x20, 0x10))
        payload = self.text(chance() < 0.3) if chance() < 0.6 else rng.randbytes(rng.choice(LENGTHS))
        declared = None
        if chance() < 0.2:
            declared = rng.choice(DECLARED) if chance() < 0.9 else rng.choice(IMPOSSIBLE)
        form = rng.choice((126, 127)) if chance() < 0.15 else 0
        return frame(first, payload, self.key() if (chance() < 0.9) == masked else None, declared, form)

    def legal(self, masked: bool, compression: bool) -> bytes:
        """Frames that a peer may send, but for invalid UTF-8 now and then."""
        rng = self.random
        chance = rng.random
        wire: list[bytes] = []
        for _ in range(rng.choice((1, 1, 2, 3, 5))):
            rsv1 = 0
            if compression and chance() < 0.5:
                opcode, rsv1 = rng.choice((1, 2)), 0x40
                payload = rng.choice(self.compressed)
            elif chance() < 0.5:
                opcode, payload = 1, self.text(chance() < 0.1)
            else:
                opcode, payload = 2, rng.randbytes(self.length())
            if chance() < 0.5:
                wire.append(frame(0x80 | rsv1 | opcode, payload, self.key() if masked else None))
            else:
                size = len(payload)
                edges = sorted(rng.choices(range(size + 1), k=rng.randrange(1, 5)))
                last = len(edges)
                for i, (begin, end) in enumerate(itertools.pairwise([0, *edges, size])):
                    first = (0 if i else opcode | rsv1) | (0x80 if i == last else 0)
                    wire.append(frame(first, payload[begin:end], self.key() if masked else None))
                    if chance() < 0.2:
                        wire.append(self.control(masked))
            if chance() < 0.2:
                wire.append(self.control(masked))
        roll = chance()
        if roll < 0.01:
            wire *= 60
        elif roll < 0.013:
            # More than one call of decode takes.
            wire *= 1 + rng.randrange(1, 4) * BOUND // sum(len(part) + PIECE - 14 for part in wire)
        return b"".join(wire)

    def control(self, masked: bool) -> bytes:
        rng = self.random
        opcode = rng.choice((8, 9, 9, 9, 10, 10))
        payload = rng.randbytes(rng.choice((0, 1, 4, 125)))
        if opcode == 8 and payload:
            payload = rng.choice((1000, 1001, 1005, 1006, 1011, 3000, 4999, 5000)).to_bytes(2, "big") + b"bye"
        return frame(0x80 | opcode, payload, self.key() if masked else None)

    def damage(self, data: bytes) -> bytes:
        """Change, lose, add and repeat bytes, most of them near the front, where headers are."""
        rng = self.random
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 3))):
            size = len(changed)
            at = rng.randrange(min(size, 16) + 1 if rng.random() < 0.5 else size + 1)
            change = rng.randrange(6)
            if change < 3 and at < size:
                changed[at] ^= 1 << rng.randrange(8) if change else rng.randrange(1, 256)
            elif change == 3:
                del changed[at : at + rng.randrange(1, 5)]
            elif change == 4:
                changed[at:at] = rng.randbytes(rng.randrange(1, 4))
            else:
                del changed[at:]
        return bytes(changed)

    def cut(self, data: bytes) -> list[bytes]:
        rng = self.random
        size = len(data)
        roll = rng.random()
        if roll < 0.35 or not size:
            return [data]
        if roll < 0.5 and size < 400:
            return [data[i : i + 1] for i in range(size)]
        if roll < 0.6:
            step = rng.randrange(2, 20) if size < 4000 else size // 50
            return [data[i : i + step] for i in range(0, size, step)]
        edges = sorted(rng.choices(range(size + 1), k=rng.randrange(1, 6)))
        return [data[begin:end] for begin, end in itertools.pairwise([0, *edges, size])]


# --- two of everything -------------------------------------------------------------------------------------


def codecs() -> tuple[ModuleType, ModuleType]:
    """The compiled codec and its twin, which makes the same classes of values (see `_codec_py.adopt`)."""
    if _backend.backend != "cython":
        raise SystemExit(f"there is nothing to compare: the codec is {_backend.backend_description}")
    return importlib.import_module(f"{_backend.__name__.rpartition('.')[0]}._codec"), _codec_py


def twin_connection() -> type[Connection]:
    """A `Connection` on the pure codec beside the one that there is: its modules are loaded a second time."""
    package = _backend.__name__.rpartition(".")[0]
    names = [f"{package}.{name}" for name in ("_frames", "_sending", "_connection")]
    saved = {name: sys.modules.pop(name) for name in names}
    compiled = {name: getattr(_backend, name) for name in _codec_py.__all__}
    try:
        for name in _codec_py.__all__:
            setattr(_backend, name, getattr(_codec_py, name))
        twin: type[Connection] = importlib.import_module(names[-1]).Connection
    finally:
        for name, value in compiled.items():
            setattr(_backend, name, value)
        sys.modules.update(saved)
        for name, module in saved.items():
            setattr(sys.modules[package], name.rpartition(".")[2], module)
    assert twin is not Connection
    return twin


class Comparer:
    """Runs a case on both codecs."""

    def __init__(self) -> None:
        self.compiled, self.twin = codecs()
        self.connections = Connection, twin_connection()
        assert sys.modules[Connection.__module__].__dict__["Connection"] is Connection

    def difference(self, case: Case) -> str:
        """The first difference in words, or ""."""
        for name, arguments in case.calls:
            mine, its = (outcome(getattr(codec, name), arguments) for codec in (self.compiled, self.twin))
            if mine != its:
                return f"{name}{arguments!r}: {mine!r}, twin {its!r}"
        if case.connection:
            return compare_connections(case, *self.connections)
        return compare_decoders(case, self.compiled, self.twin)


def outcome(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What a call gives, be it an error."""
    try:
        return function(*arguments)
    except Exception as exc:
        return type(exc), str(exc)


def compare_decoders(case: Case, compiled: Any, twin: Any) -> str:
    """Feed both the same, and look at everything after every call."""
    options = (
        case.masked,
        case.max_size,
        case.max_fragments,
        case.compression,
        case.stream,
        case.decode_text,
    )
    rhythm = case.rhythm
    one, two = compiled.Decoder(*options), twin.Decoder(*options)
    error_class = compiled.CodecError
    last = len(case.chunks) - 1
    for number, chunk in enumerate(case.chunks):
        lent: Any = bytearray(chunk) if case.reuse else chunk
        # In one step with decoding, as the fast path does, out of a buffer with more in it than counts.
        in_one_step = number % 3 == 2 and not (number % rhythm and number != last)
        if in_one_step:
            lent = bytearray(chunk + b"\x81\x85never")
        else:
            one.feed(lent)
            two.feed(chunk)
        if not in_one_step and one.pending != two.pending:
            return f"pending after feeding chunk {number}: {one.pending}, twin {two.pending}"
        if number % rhythm and number != last:
            if lent is not chunk:
                # It may still be looked at.
                one.feed(b"")
                scribble(lent)
            continue
        calls = 0
        while True:
            calls += 1
            mine: list[Any] = []
            its: list[Any] = []
            frame: Any = None
            error = other_error = None
            try:
                frame = one.receive(lent, len(chunk), mine) if in_one_step else one.decode(mine)
            except error_class as exc:
                error = exc.code, exc.reason
            try:
                other = two.receive(bytes(lent), len(chunk), its) if in_one_step else two.decode(its)
            except error_class as exc:
                other = None
                other_error = exc.code, exc.reason
            in_one_step = False
            if mine != its:
                return f"messages of chunk {number}, call {calls}: {mine!r}, twin {its!r}"
            if frame != other or error != other_error:
                return f"result of chunk {number}, call {calls}: {error or frame!r}, twin {other_error or other!r}"
            state, others = (one.pending, one.has_more, one.frames), (two.pending, two.has_more, two.frames)
            if state != others:
                return (
                    f"(pending, has_more, frames) after chunk {number}, call {calls}: {state}, twin {others}"
                )
            if error is not None or (frame is None and not one.has_more):
                break
            if frame is not None and rhythm > 2 and number != last:
                # What is left comes with the next chunk.
                one.feed(b"")
                break
        if lent is not chunk:
            scribble(lent)
    return ""


def scribble(buffer: bytearray) -> None:
    """What a caller may do with a buffer that is not borrowed any more."""
    buffer[:] = b"\xa5" * len(buffer)
    buffer.append(0)


def entropy() -> Callable[[int], bytes]:
    """No entropy at all: the same for both."""
    counter = itertools.count(0x01F3_55AA, 0x0101_0307)
    return lambda n: b"".join((next(counter) & 0xFFFF_FFFF).to_bytes(4, "big") for _ in range(n // 4 + 1))[:n]


PAYLOADS: list[Any] = [
    "",
    "hello",
    "é€𐍈" * 20,
    b"",
    b"binary" * 30,
    bytearray(b"\xff" * 126),
    "x" * 70_000,
    b"\0" * 65_536,
]


def compare_connections(case: Case, first: type[Connection], second: type[Connection]) -> str:
    """The same for whole connections."""
    one, two = (
        cls(
            Role.SERVER if case.masked else Role.CLIENT,
            limits=Limits(max_message_size=case.max_size, max_fragments=case.max_fragments),
            extensions=[deflate()] if case.compression else [],
            stream=case.stream,
            decode_text=case.decode_text,
            random_bytes=entropy(),
        )
        for cls in (first, second)
    )
    now = 0.0
    for number, chunk in enumerate(case.chunks):
        now += 0.25
        if case.sends and number % case.rhythm == 0:
            action = case.sends[number // case.rhythm % len(case.sends)]
            results = [send(connection, action, now) for connection in (one, two)]
            if results[0] != results[1]:
                return f"sending {action} before chunk {number}: {results[0]!r}, twin {results[1]!r}"
        lent: Any = bytearray(chunk) if case.reuse else chunk
        data: Any = memoryview(lent) if case.reuse else chunk
        calls = 0
        while True:
            mine, its = one.receive_data(data, now), two.receive_data(data, now)
            if case.reuse:
                data.release()
                scribble(lent)
            data = lent = b""
            if mine != its:
                return f"events of chunk {number}: {mine!r}, twin {its!r}"
            if difference := compare_states(one, two):
                return f"after chunk {number}: {difference}"
            if not one.has_more:
                break
            calls += 1
            if calls > MOST_CALLS:
                return f"after chunk {number}: there is more for ever"
            if case.reuse:
                data = memoryview(lent := bytearray())
    mine, its = one.receive_eof(), two.receive_eof()
    if mine != its:
        return f"events of the end: {mine!r}, twin {its!r}"
    if difference := compare_states(one, two):
        return f"after the end: {difference}"
    # As text, for the errors inside are equal only to themselves.
    mine_text, its_text = repr(one.transport_closed()), repr(two.transport_closed())
    return "" if mine_text == its_text else f"ending: {mine_text}, twin {its_text}"


def compare_states(one: Connection, two: Connection) -> str:
    mine, its = (
        (c.state, c.transport, c.has_more, c.buffered, b"".join(c.data_to_send()), c.next_timeout(0.0))
        for c in (one, two)
    )
    return (
        ""
        if mine == its
        else f"(state, transport, has_more, buffered, output, timeout): {mine!r}, twin {its!r}"
    )


def send(connection: Connection, action: int, now: float) -> Any:
    """Say something ourselves; what comes of it."""
    try:
        if action == 0:
            return connection.ping(b"ping", now)
        if action == 1:
            return connection.close(1000, "done")
        data = PAYLOADS[action % len(PAYLOADS)]
        if action == 9:
            return connection.send_fragment(data, final=False)
        return connection.send_text(data) if isinstance(data, str) else connection.send_bytes(data)
    except LocalProtocolError as exc:
        return type(exc), str(exc)


def deflate() -> DeflateCodec:
    return DeflateCodec(
        params=(),
        send_bits=12,
        send_takeover=False,
        receive_bits=15,
        receive_takeover=True,
        level=1,
        mem_level=5,
        min_size=200,
    )


# --- what to do with a difference --------------------------------------------------------------------------


def shrink(case: Case, differs: Callable[[Case], bool], seconds: float = 20.0) -> Case:
    """A smaller case that still differs."""
    until = time.monotonic() + seconds
    progress = True
    while progress and time.monotonic() < until:
        progress = False
        for smaller in smaller_cases(case):
            if time.monotonic() > until:
                break
            if differs(smaller):
                case = smaller
                progress = True
                break
    return case


def smaller_cases(case: Case) -> Iterator[Case]:
    """Simpler settings, fewer chunks, fewer bytes; the large steps first."""
    plain = replace(case, max_size=MIB, max_fragments=1000, compression=False, stream=False, decode_text=True)
    for candidate in (
        plain,
        replace(case, reuse=False),
        replace(case, rhythm=1),
        replace(case, sends=case.sends[1:]),
        replace(case, calls=case.calls[1:]),
        replace(case, calls=case.calls[:-1]),
    ):
        if candidate != case:
            yield candidate
    changes: list[dict[str, Any]] = [
        {"max_size": MIB},
        {"max_fragments": 1000},
        {"compression": False},
        {"stream": False},
    ]
    for change in changes:
        candidate = replace(case, **change)
        if candidate != case:
            yield candidate
    chunks = case.chunks
    count = len(chunks)
    step = max(count // 2, 1)
    while count > 1:
        for at in range(0, count, step):
            yield replace(case, chunks=chunks[:at] + chunks[at + step :])
        if step == 1:
            break
        step //= 2
    for at in range(count - 1):
        yield replace(case, chunks=(*chunks[:at], chunks[at] + chunks[at + 1], *chunks[at + 2 :]))
    for at, chunk in enumerate(chunks):
        size = len(chunk) // 2
        while size:
            for begin in range(0, len(chunk), size):
                less = chunk[:begin] + chunk[begin + size :]
                yield replace(case, chunks=(*chunks[:at], less, *chunks[at + 1 :]))
            size //= 2


def check(comparer: Comparer, seed: int, numbers: range) -> str:
    """Compare the inputs with these numbers; a report on the first difference, or ""."""
    generator = Generator(seed)
    for number in numbers:
        case = generator.case(number)
        try:
            difference = comparer.difference(case)
        except Exception as exc:
            difference = f"{type(exc).__name__}: {exc}"
        if difference:
            return report(comparer, seed, number, case, difference)
    return ""


def report(comparer: Comparer, seed: int, number: int, case: Case, difference: str) -> str:
    def words(candidate: Case) -> str:
        try:
            return comparer.difference(candidate)
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"

    small = shrink(case, lambda candidate: bool(words(candidate)))
    return "\n".join(
        [
            f"input {number} of seed {seed}: {shorten(difference)}",
            f"repeat it: python tests/differential.py --seed {seed} --first {number} --count 1",
            f"the smallest that differs: {shorten(words(small))}",
            f"    {shorten(repr(small), 4000)}",
        ]
    )


def shorten(text: str, length: int = 1000) -> str:
    return text if len(text) <= length else f"{text[:length]}... ({len(text)} characters)"


# --- the program -------------------------------------------------------------------------------------------


def work(job: tuple[int, int, int]) -> tuple[int, str]:
    """One batch, in a process of its own."""
    seed, begin, end = job
    global _comparer
    if _comparer is None:
        _comparer = Comparer()
    return end - begin, check(_comparer, seed, range(begin, end))


_comparer: Comparer | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare the compiled codec with its Python twin.")
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs (default: 1000000)")
    parser.add_argument("--seed", type=int, default=None, help="default: one that is not predictable")
    parser.add_argument("--first", type=int, default=0, help="number of the first input (default: 0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: one per core")
    options = parser.parse_args(arguments)
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    codecs()
    end = options.first + options.count
    jobs = [(seed, begin, min(begin + BATCH, end)) for begin in range(options.first, end, BATCH)]
    print(f"seed {seed}, inputs {options.first} to {end - 1}, {options.processes} processes", flush=True)
    began = shown = time.monotonic()
    done = 0
    results: Iterator[tuple[int, str]]
    if options.processes > 1:
        pool = multiprocessing.get_context("spawn").Pool(options.processes)
        results = pool.imap_unordered(work, jobs)
    else:
        pool = None
        results = map(work, jobs)
    every = 1.0 if sys.stdout.isatty() else 20.0
    try:
        for count, difference in results:
            if difference:
                print(f"\nDIFFERENCE\n{difference}", flush=True)
                return 1
            done += count
            now = time.monotonic()
            if now - shown >= every or done == options.count:
                shown = now
                rate = done / max(now - began, 1e-9)
                left = (options.count - done) / rate
                print(f"{done:>10} inputs, {rate:.0f}/s, {now - began:.0f} s, {left:.0f} s to go", flush=True)
    finally:
        if pool is not None:
            pool.terminate()
            pool.join()
    print(f"no difference in {done} inputs of seed {seed}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
