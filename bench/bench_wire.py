"""Frames made and read by the letter of RFC 6455 s5.2, for the input of cases and for checking what contestants make.

Nothing in here is measured, and none of the code that is measured has a part in it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY = 0, 1, 2

#: An opening handshake that every server takes.
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@dataclass(frozen=True)
class WireFrame:
    """One frame as it was found on the wire, unmasked."""

    opcode: int
    fin: bool
    rsv1: bool
    key: bytes | None
    payload: bytes


def xor(data: bytes, key: bytes) -> bytes:
    """XOR data with a key of four bytes."""
    pattern = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(len(data), "little")


def frame(opcode: int, payload: bytes, key: bytes | None, *, fin: bool = True, rsv1: bool = False) -> bytes:
    """Return a frame, masked if there is a key."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    length = len(payload)
    masked = 0 if key is None else 0x80
    if length < 126:
        header = struct.pack("!BB", first, masked | length)
    elif length < 1 << 16:
        header = struct.pack("!BBH", first, masked | 126, length)
    else:
        header = struct.pack("!BBQ", first, masked | 127, length)
    return header + payload if key is None else header + key + xor(payload, key)


def read_frames(wire: bytes) -> Iterator[WireFrame]:
    """Read back whole frames, or raise ValueError."""
    position = 0
    while position < len(wire):
        try:
            first, second = wire[position : position + 2]
            position += 2
            length = second & 0x7F
            if length > 125:
                size = 2 if length == 126 else 8
                length = int.from_bytes(wire[position : position + size], "big")
                position += size
        except ValueError:
            raise ValueError("the wire ends inside a header") from None
        key = wire[position : position + 4] if second & 0x80 else None
        position += 4 if key is not None else 0
        payload = wire[position : position + length]
        position += length
        if position > len(wire):
            raise ValueError("the wire ends inside a frame")
        yield WireFrame(
            first & 0x0F,
            bool(first & 0x80),
            bool(first & 0x40),
            key,
            payload if key is None else xor(payload, key),
        )


def cut(wire: bytes, size: int) -> list[bytes]:
    """Cut into chunks of that size; the last may be shorter."""
    return [wire[start : start + size] for start in range(0, len(wire), size)]


def deflate(messages: Sequence[bytes], window_bits: int) -> list[bytes]:
    """Compress messages as one sender does who keeps its window from message to message (RFC 7692 s7.2.1)."""
    deflater = zlib.compressobj(wbits=-window_bits)
    return [
        (deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH))[: -len(b"\x00\x00\xff\xff")]
        for message in messages
    ]
