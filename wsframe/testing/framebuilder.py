"""Frames and opening handshakes made and read by hand, from RFC 6455 and nothing else.

Nothing here may import the rest of wsframe: what the code under test believes must not reach the bytes that it is
tested with.
`build` makes illegal frames as readily as legal ones; `parse_all` takes only what a sender may send.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "PING",
    "PONG",
    "SAMPLE_ACCEPT",
    "SAMPLE_KEY",
    "SAMPLE_MASK",
    "TEXT",
    "LengthForm",
    "ParsedFrame",
    "accept_for",
    "build",
    "client_handshake_request",
    "close_payload",
    "parse_all",
]

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

#: The masking key of the masked examples in RFC 6455 s5.7.
SAMPLE_MASK = bytes.fromhex("37fa213d")

#: The key and its answer from RFC 6455 s1.3.
SAMPLE_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
SAMPLE_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

LengthForm = Literal[7, 16, 64]


@dataclass(frozen=True)
class ParsedFrame:
    """One frame; ``payload`` is unmasked, ``key`` is None where nothing was masked."""

    fin: bool
    rsv: int
    opcode: int
    masked: bool
    key: bytes | None
    payload: bytes


def build(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bytes | None = None,
    length_form: LengthForm | None = None,
    declared_length: int | None = None,
) -> bytes:
    """Return one frame, legal or not.

    Args:
        opcode: 0 to 15, reserved ones too.
        payload: what goes on the wire, before masking.
        fin: the FIN bit.
        rsv: the three reserved bits as a number: RSV1 is 4, RSV2 is 2, RSV3 is 1.
        mask: the four bytes of a masking key, or None for a frame without one.
        length_form: how many bits carry the length; None takes the shortest, as s5.2 demands.
        declared_length: what the header says, when that is not the payload's length. Up to 2**64 - 1, so that the
            most significant bit, which s5.2 wants to be 0, can be set.
    """
    if not 0 <= opcode <= 0xF or not 0 <= rsv <= 0x7:
        raise ValueError(f"opcode {opcode} or rsv {rsv} does not fit in its bits")
    if mask is not None and len(mask) != 4:
        raise ValueError(f"a masking key has 4 bytes, not {len(mask)}")
    length = len(payload) if declared_length is None else declared_length
    if length_form is None:
        length_form = 7 if length <= 125 else 16 if length <= 0xFFFF else 64
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask_bit = 0 if mask is None else 0x80
    if length_form == 7:
        if length > 125:
            raise ValueError(f"a length of {length} does not fit in 7 bits; 126 and 127 mean other forms")
        header = struct.pack("!BB", first, mask_bit | length)
    elif length_form == 16:
        header = struct.pack("!BBH", first, mask_bit | 126, length)
    else:
        header = struct.pack("!BBQ", first, mask_bit | 127, length)
    if mask is None:
        return header + payload
    return header + mask + _masked(payload, mask)


def close_payload(code: int | None = None, reason: bytes = b"") -> bytes:
    """Return the payload of a Close frame. Any code and any bytes go; no code and no reason is an empty one."""
    return (b"" if code is None else struct.pack("!H", code)) + reason


def parse_all(data: bytes) -> list[ParsedFrame]:
    """Return the frames that data consists of.

    Raises:
        ValueError: something is left over or missing at the end, or a length is not in its shortest form, or has
            its top bit set (s5.2). Opcodes, reserved bits and payloads are the caller's to judge.
    """
    frames: list[ParsedFrame] = []
    position = 0

    def take(count: int, what: str) -> bytes:
        nonlocal position
        if len(data) - position < count:
            raise ValueError(
                f"frame {len(frames)}: {what} wants {count} bytes, {len(data) - position} are left"
            )
        position += count
        return data[position - count : position]

    while position < len(data):
        first, second = take(2, "the header")
        length = second & 0x7F
        smallest = 0
        if length == 126:
            (length,) = struct.unpack("!H", take(2, "the length"))
            smallest = 126
        elif length == 127:
            (length,) = struct.unpack("!Q", take(8, "the length"))
            smallest = 0x10000
        if length < smallest:
            raise ValueError(f"frame {len(frames)}: the length {length} is not in its shortest form")
        if length >> 63:
            raise ValueError(f"frame {len(frames)}: the length's most significant bit is set")
        key = take(4, "the masking key") if second & 0x80 else None
        payload = take(length, "the payload")
        if key is not None:
            payload = _masked(payload, key)
        frames.append(
            ParsedFrame(
                fin=bool(first & 0x80),
                rsv=first >> 4 & 0x7,
                opcode=first & 0xF,
                masked=key is not None,
                key=key,
                payload=payload,
            )
        )
    return frames


def accept_for(key: str) -> str:
    """Return the Sec-WebSocket-Accept that belongs to a Sec-WebSocket-Key (s4.2.2 item 5.4)."""
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def client_handshake_request(
    target: str = "/",
    *,
    host: str = "server.example.com",
    key: str = SAMPLE_KEY,
    method: str = "GET",
    http_version: str = "1.1",
    headers: Iterable[tuple[str, str]] = (),
    without: Collection[str] = (),
) -> bytes:
    """Return a client's opening handshake (s4.1), or something that is nearly one.

    Args:
        target: the request target.
        host: the Host header's value.
        key: the Sec-WebSocket-Key header's value.
        method: the request method.
        http_version: what follows ``HTTP/``.
        headers: header lines to add after the required ones; they replace nothing, so a name can come twice.
        without: required headers to leave out, in any case.
    """
    required = [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    left_out = {name.lower() for name in without}
    unknown = left_out - {name.lower() for name, _ in required}
    if unknown:
        raise ValueError(f"not among the required headers: {', '.join(sorted(unknown))}")
    lines = [f"{method} {target} HTTP/{http_version}"]
    lines += [f"{name}: {value}" for name, value in required if name.lower() not in left_out]
    lines += [f"{name}: {value}" for name, value in headers]
    # latin-1, so that a test can put any byte anywhere.
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1")


def _masked(payload: bytes, key: bytes) -> bytes:
    """Mask or unmask (s5.3: they are the same), one long XOR because tests send megabytes."""
    if not payload:
        return b""
    stream = (key * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return mixed.to_bytes(len(payload), "big")
