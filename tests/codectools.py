"""Driving a frame codec: bytes in, everything that comes out.

Nothing here imports wsframe: which codec is driven is the test's choice (see the fixture ``codec``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import framebuilder as fb

MIB = 1 << 20
KEY = bytes.fromhex("37fa213d")

#: No limit that a test could reach; more than fits into 64 bits on purpose.
UNLIMITED = 1 << 70


@dataclass
class Outcome:
    """What came out of a decoder."""

    #: Messages, chunks and frames in their order.
    items: list[Any] = field(default_factory=list)
    #: The error's code, or None.
    code: int | None = None
    reason: str = ""
    pending: bool = False
    #: How many frames were complete and right.
    frames: int = 0
    #: How often ``decode`` had to be called again because of its bound of work.
    more: int = 0

    @property
    def data(self) -> list[Any]:
        """The data of messages and chunks, the payloads of frames."""
        return [item.payload if hasattr(item, "payload") else item.data for item in self.items]


def make(codec: Any, **changes: Any) -> Any:
    """A decoder; by default a server's with no limits to speak of."""
    options: dict[str, Any] = {
        "expect_masked": True,
        "max_message_size": UNLIMITED,
        "max_fragments": UNLIMITED,
        "allow_rsv1": False,
        "stream": False,
        "decode_text": True,
    }
    assert not changes.keys() - options.keys()
    return codec.Decoder(*(options | changes).values())


def feed(codec: Any, decoder: Any, *chunks: Any) -> Outcome:
    """Feed chunk by chunk, and decode after each until nothing more comes. After an error nothing may come."""
    outcome = Outcome()
    for chunk in chunks:
        decoder.feed(chunk)
        while True:
            out: list[Any] = []
            try:
                frame = decoder.decode(out)
            except codec.CodecError as exc:
                assert outcome.code is None, "an error after an error"
                outcome.code, outcome.reason = exc.code, exc.reason
                outcome.items += out
                break
            assert outcome.code is None or (not out and frame is None), "something after an error"
            outcome.items += out
            if frame is not None:
                assert not isinstance(frame, codec.Message | codec.MessageChunk)
                outcome.items.append(frame)
            elif decoder.has_more:
                outcome.more += 1
            else:
                break
    assert not decoder.has_more
    outcome.pending = decoder.pending
    outcome.frames = decoder.frames
    return outcome


def decode(codec: Any, *chunks: Any, **options: Any) -> Outcome:
    """What a new decoder makes of these chunks."""
    return feed(codec, make(codec, **options), *chunks)


def one_by_one(data: bytes) -> list[bytes]:
    """Every byte alone."""
    return [data[i : i + 1] for i in range(len(data))]


def both_ways(codec: Any, data: bytes, **options: Any) -> Outcome:
    """Decode in one chunk and byte by byte; the outcome must be the same."""
    whole = decode(codec, data, **options)
    alone = decode(codec, *one_by_one(data), **options)
    assert (alone.items, alone.code, alone.reason, alone.pending, alone.frames) == (
        whole.items,
        whole.code,
        whole.reason,
        whole.pending,
        whole.frames,
    )
    return whole


def masked(opcode: int, payload: bytes = b"", **options: Any) -> bytes:
    """A frame as a client sends it."""
    return fb.build(opcode, payload, mask=KEY, **options)


def fragments(opcode: int, *payloads: bytes, mask: bytes | None = KEY, rsv: int = 0) -> bytes:
    """A message in as many frames as there are payloads."""
    last = len(payloads) - 1
    return b"".join(
        fb.build(0 if i else opcode, payload, fin=i == last, mask=mask, rsv=0 if i else rsv)
        for i, payload in enumerate(payloads)
    )


def join_pieces(codec: Any, items: Iterable[Any]) -> list[Any]:
    """The same with pieces that belong together made one: chunks of a message, and frames of a compressed message.

    Where a streaming decoder cuts is its own business; the pieces together are not.
    """
    joined: list[Any] = []
    for item in items:
        last = joined[-1] if joined else None
        if isinstance(item, codec.MessageChunk):
            if isinstance(last, codec.MessageChunk) and not item.first:
                assert not last.final
                assert last.opcode == item.opcode
                item = codec.MessageChunk(last.data + item.data, item.opcode, last.first, item.final)
                joined.pop()
        elif (
            isinstance(item, codec.Frame)
            and item.opcode == fb.CONTINUATION
            and isinstance(last, codec.Frame)
            and last.opcode < fb.CLOSE
        ):
            assert not last.fin
            item = codec.Frame(last.opcode, last.payload + item.payload, item.fin, last.rsv1)
            joined.pop()
        joined.append(item)
    return joined


#: What a decoder can meet: settings, and the chunks that it is fed.
CASES: dict[str, tuple[dict[str, Any], list[bytes]]] = {
    "short text": ({}, [masked(fb.TEXT, b"hello")]),
    "three messages": ({}, [masked(fb.TEXT, b"hello") + masked(fb.BINARY, b"x") + masked(fb.TEXT, b"")]),
    "long text": ({}, [masked(fb.TEXT, b"x" * 5000)]),
    "text beyond ASCII": ({}, [masked(fb.TEXT, "é€𐍈".encode() * 30)]),
    "text as bytes": ({"decode_text": False}, [masked(fb.TEXT, "é€𐍈".encode() * 30)]),
    "long binary": ({}, [masked(fb.BINARY, bytes(70_000))]),
    "one by one": ({}, [bytes([byte]) for byte in masked(fb.TEXT, "é€𐍈".encode() * 3)]),
    "in pieces": ({}, [masked(fb.BINARY, b"a" * 999)[at : at + 100] for at in range(0, 1100, 100)]),
    "fragments": ({}, [fragments(fb.TEXT, b"a" * 100, b"\xc3", b"\xa9" * 1, b"", b"b" * 5000)]),
    "binary fragments": ({}, [fragments(fb.BINARY, b"", b"a" * 9000, b"b", b"")]),
    "streamed": (
        {"stream": True},
        [
            fragments(fb.TEXT, b"a" * 100, b"\xe2", b"\x82\xac")[:80],
            fragments(fb.TEXT, b"a" * 100, b"\xe2", b"\x82\xac")[80:],
        ],
    ),
    "streamed bytes": (
        {"stream": True, "decode_text": False},
        [fragments(fb.TEXT, b"abc", b"", b"\xc3\xa9")],
    ),
    "compressed": (
        {"allow_rsv1": True},
        [
            fragments(fb.TEXT, b"abc" * 50, b"def", rsv=4)[:40],
            fragments(fb.TEXT, b"abc" * 50, b"def", rsv=4)[40:],
        ],
    ),
    "compressed and streamed": (
        {"allow_rsv1": True, "stream": True},
        [
            fragments(fb.TEXT, b"abc" * 50, b"def", rsv=4)[:40],
            fragments(fb.TEXT, b"abc" * 50, b"def", rsv=4)[40:],
        ],
    ),
    "control": (
        {},
        [masked(fb.PING, b"p") + masked(fb.TEXT, b"a") + masked(fb.PONG) + masked(fb.CLOSE, b"\x03\xe8")],
    ),
    "control between fragments": (
        {},
        [
            masked(fb.TEXT, b"a" * 200, fin=False)
            + masked(fb.PING, b"x" * 125)
            + masked(fb.CONTINUATION, b"b")
            + masked(fb.PING)[:3],
            masked(fb.PING)[3:] + masked(fb.BINARY, b"end"),
        ],
    ),
    "used up slowly": (
        {},
        [masked(fb.BINARY, bytes(5000)) + b"\x82", b"\x81", b"\1\2\3\4", b"x" + masked(fb.PING) * 3],
    ),
    "more than the bound of work": (
        {},
        [masked(fb.BINARY, b"") * 9 + masked(fb.BINARY, bytes(1 << 20)) + masked(fb.TEXT, b"x")],
    ),
    "invalid text": ({}, [masked(fb.TEXT, b"ok") + masked(fb.TEXT, b"\xff" * 20)]),
    "invalid text in fragments": ({"stream": True}, [fragments(fb.TEXT, b"ok", b"\xe2\x82", b"(")]),
    "broken rule": ({}, [masked(fb.TEXT, b"ok") + masked(3), b"more"]),
    "long form": ({}, [masked(fb.TEXT, b"ok") + masked(fb.TEXT, b"x", length_form=16)]),
    "too big": ({"max_message_size": 500}, [fragments(fb.BINARY, b"x" * 400, b"y" * 101)]),
    "too many": ({"max_fragments": 2}, [fragments(fb.BINARY, b"a", b"b", b"c")]),
}
