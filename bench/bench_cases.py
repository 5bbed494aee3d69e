"""What `bench codec` measures: its cases, by name, and the bytes that belong to each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from bench_basics import KIB, MIB, BaseCase, name_size
from bench_wire import BINARY, CONTINUATION, TEXT, cut, deflate, frame

#: What a server reads from a socket at once.
CHUNK = 64 * KIB
#: A stream to parse is about that long, so that chunks end inside messages as often as they do in life.
STREAM = 256 * KIB
#: ... but has no more messages than this, or one pass would take too long for the slow.
MOST_MESSAGES = 5000
LEAST_MESSAGES = 8
#: Streams of whole messages in chunks of their own have that many.
SEPARATE_MESSAGES = 500
#: permessage-deflate's window for every contestant that lets one choose.
WINDOW_BITS = 12

#: A mixture of scripts: two to four bytes a character, with ASCII in between.
WORDS = "Größe, Maß und Ziel: ελληνικά, русский, 日本語 und 한국어 🙂 "

GROUPS = {
    "mask": "mask: XOR with the masking key",
    "build": "build: one message in, the bytes of its frame out",
    "send": "send: one message through the connection object, wire bytes out",
    "parse": "parse: received bytes in, whole messages out, through the connection object",
    "decode": "decode: the same by the frame decoder alone",
}


@dataclass(frozen=True)
class Case(BaseCase):
    """One thing to measure.

    Attributes:
        text: messages are `str`, else `bytes`.
        plain: text is all ASCII.
        client: frames are built by a client, which masks them.
        fragments: frames of one message.
        separate: every message comes in a chunk of its own.
        compressed: with permessage-deflate.
    """

    text: bool = False
    plain: bool = True
    client: bool = False
    fragments: int = 1
    separate: bool = False
    compressed: bool = False

    @property
    def opcode(self) -> int:
        """The opcode of its messages."""
        return TEXT if self.text else BINARY

    def random(self) -> Random:
        """Return the same sequence of numbers in every process and every run."""
        return Random(self.name)

    @cached_property
    def message(self) -> bytes:
        """Return the payload of its messages, before compression."""
        if not self.text:
            return self.random().randbytes(self.size)
        if self.plain:
            return (b"The quick brown fox jumps over the lazy dog. " * (self.size // 45 + 1))[: self.size]
        whole = (WORDS * (self.size // len(WORDS) + 1)).encode()[: self.size].decode(errors="ignore").encode()
        return whole + b"." * (self.size - len(whole))

    @property
    def payload(self) -> str | bytes:
        """The message as an application has it."""
        return self.message.decode() if self.text else self.message


@dataclass(frozen=True)
class Stream:
    """What a case gives to a parser, and what must come out of it.

    A stream begins and ends between two messages, so one connection can be given it over and over.
    """

    chunks: list[bytes] = field(repr=False)
    expected: list[str | bytes] = field(repr=False)

    @property
    def messages(self) -> int:
        """How many messages it has."""
        return len(self.expected)


def _every() -> Iterator[Case]:
    for size in (8, 32, 125, 512, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 16 * MIB):
        yield Case(f"mask/{name_size(size)}", "mask", size)
    for role in ("server", "client"):
        client = role == "client"
        for size in (8, 125, 512, 4 * KIB, 64 * KIB):
            yield Case(f"build/{role}/text/{name_size(size)}", "build", size, text=True, client=client)
        yield Case(f"build/{role}/unicode/4K", "build", 4 * KIB, text=True, plain=False, client=client)
        for size in (MIB, 16 * MIB):
            yield Case(f"build/{role}/binary/{name_size(size)}", "build", size, client=client)
    for role in ("server", "client"):
        for size in (8, 125, 4 * KIB, 64 * KIB):
            yield Case(
                f"send/{role}/text/{name_size(size)}", "send", size, text=True, client=role == "client"
            )
    for group in ("parse", "decode"):
        for size in (8, 125, 4 * KIB, 64 * KIB):
            yield Case(f"{group}/text/{name_size(size)}", group, size, text=True)
        yield Case(f"{group}/binary/512", group, 512)
        for size in (8, 125, 4 * KIB):
            yield Case(f"{group}/separate/{name_size(size)}", group, size, text=True, separate=True)
    yield Case("parse/text/1M", "parse", MIB, text=True)
    yield Case("parse/text/16M", "parse", 16 * MIB, text=True)
    yield Case("parse/unicode/125", "parse", 125, text=True, plain=False)
    yield Case("parse/unicode/4K", "parse", 4 * KIB, text=True, plain=False)
    yield Case("parse/fragments/4x125", "parse", 500, text=True, fragments=4)
    for size in (KIB, 16 * KIB):
        yield Case(f"parse/deflate/{name_size(size)}", "parse", size, text=True, compressed=True)


CASES = {case.name: case for group in GROUPS for case in _every() if case.group == group}


def stream(case: Case) -> Stream:
    """Return what a parser is given: frames of a client, each with a masking key of its own."""
    random = case.random()
    if case.separate:
        count = SEPARATE_MESSAGES
    else:
        count = max(LEAST_MESSAGES, min(MOST_MESSAGES, STREAM // (case.size + 8)))
        if case.size >= MIB:
            count = 1
    messages = (
        [records(random, case.size) for _ in range(count)] if case.compressed else [case.message] * count
    )
    payloads = deflate(messages, WINDOW_BITS) if case.compressed else messages
    frames = [b"".join(_frames(case, payload, random)) for payload in payloads]
    chunks = frames if case.separate else cut(b"".join(frames), CHUNK)
    if case.compressed:
        expected: list[str | bytes] = [message.decode() for message in messages]
    else:
        expected = [case.payload] * count
    return Stream(chunks, expected)


def _frames(case: Case, payload: bytes, random: Random) -> Iterator[bytes]:
    parts = cut(payload, len(payload) // case.fragments)
    for number, part in enumerate(parts):
        yield frame(
            CONTINUATION if number else case.opcode,
            part,
            random.randbytes(4),
            fin=number == len(parts) - 1,
            rsv1=case.compressed and not number,
        )


def records(random: Random, size: int) -> bytes:
    """Return JSON of exactly that size, as an API would send it; no two are the same."""
    rows: list[str] = []
    length = 0
    while length < size:
        row = {
            "id": random.getrandbits(40),
            "name": random.choice(("temperature", "pressure", "humidity", "wind_speed")),
            "value": round(random.uniform(-40, 1100), 3),
            "station": f"{random.choice('ABCDEF')}{random.randrange(1000):03}",
            "ok": random.random() < 0.95,
        }
        rows.append(json.dumps(row))
        length += len(rows[-1])
    # Cut off rather than padded: what compresses to nothing would flatter everyone.
    return f"[{', '.join(rows)}]".encode()[:size]
