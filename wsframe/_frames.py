"""Single frames and Close payloads, for people who want only frames (RFC 6455 s5)."""

from __future__ import annotations

import os

from ._backend import CodecError, Frame, apply_mask, decode_header, encode_frame
from ._enums import Opcode, Role
from ._errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "PreparedMessage",
    "apply_mask",
    "check_close",
    "is_receivable_close_code",
    "is_sendable_close_code",
    "pack",
    "pack_close",
    "unpack",
    "unpack_close",
]

MAX_CONTROL_PAYLOAD = 125
MAX_REASON = 123


def pack(
    data: str | bytes | bytearray | memoryview,
    opcode: int | None = None,
    *,
    fin: bool = True,
    rsv1: bool = False,
    mask: bool | bytes = False,
) -> bytes:
    """One frame as bytes (RFC 6455 s5.2).

    Args:
        data: the payload; a ``str`` is encoded as UTF-8.
        opcode: an `Opcode`; by default TEXT for a ``str`` and BINARY for anything else.
        fin: whether this is the final fragment of its message.
        rsv1: the bit that marks a compressed message (RFC 7692 s6).
        mask: False, True for a fresh random masking key, or a key of 4 bytes. Clients must mask (s5.1).

    Raises:
        LocalProtocolError: an unknown opcode, a control frame over 125 bytes, fragmented or compressed (s5.5), a
            continuation frame with ``rsv1``, a key that is not 4 bytes long, or a ``str`` that UTF-8 cannot carry.
    """
    if opcode is None:
        opcode = Opcode.TEXT if isinstance(data, str) else Opcode.BINARY
    key = None if mask is False else os.urandom(4) if mask is True else bytes(memoryview(mask))
    try:
        return encode_frame(int(opcode), data, fin, rsv1, key)
    except ValueError as exc:
        raise LocalProtocolError(str(exc)) from exc


def unpack(
    data: bytes | bytearray | memoryview, *, max_size: int = 1 << 20, allow_rsv1: bool = False
) -> tuple[Frame | None, bytes]:
    """Take the first frame out of a buffer (RFC 6455 s5.2). Masked and unmasked frames are both taken.

    What is left is copied each time, and nothing is remembered from one frame to the next: for a stream of frames use
    a ``Connection``.

    Args:
        data: received bytes, beginning with a frame.
        max_size: payload bytes that are acceptable.
        allow_rsv1: whether the compression bit may be set.

    Returns:
        the frame, unmasked, and what is left of the buffer after it; ``(None, data)`` when it is not complete.

    Raises:
        RemoteProtocolError: the bytes are no legal frame (1002) or the payload is over ``max_size`` (1009).
    """
    data = bytes(memoryview(data))
    if len(data) >= 2:
        _check_first_bytes(data[0], data[1], allow_rsv1)
    try:
        found = decode_header(data)
    except CodecError as exc:
        raise RemoteProtocolError(exc.reason, exc.code) from None
    if found is None:
        return None, data
    first, second, length, position = found
    if length > max_size:
        raise RemoteProtocolError(f"frame of {length} bytes is over the limit of {max_size}", 1009)
    start = position + (4 if second & 0x80 else 0)
    stop = start + length
    if len(data) < stop:
        return None, data
    payload = data[start:stop]
    if second & 0x80:
        payload = apply_mask(payload, data[position:start])
    return Frame(first & 0x0F, payload, bool(first & 0x80), bool(first & 0x40)), data[stop:]


def _check_first_bytes(first: int, second: int, allow_rsv1: bool) -> None:
    opcode = first & 0x0F
    if first & 0x30 or (first & 0x40 and not allow_rsv1):
        raise RemoteProtocolError("a reserved bit is set (RFC 6455 s5.2)")
    if opcode not in Opcode.__members__.values():
        raise RemoteProtocolError(f"reserved opcode {opcode} (RFC 6455 s5.2)")
    if opcode == Opcode.CONTINUATION and first & 0x40:
        raise RemoteProtocolError("RSV1 is set on a continuation frame (RFC 7692 s6.1)")
    if opcode & 0x08:
        if not first & 0x80:
            raise RemoteProtocolError("fragmented control frame (RFC 6455 s5.5)")
        if second & 0x7F > MAX_CONTROL_PAYLOAD:
            raise RemoteProtocolError("control frame over 125 bytes (RFC 6455 s5.5)")
        if first & 0x40:
            raise RemoteProtocolError("compressed control frame (RFC 7692 s6.1)")


def is_sendable_close_code(code: int, role: Role | None = None) -> bool:
    """Whether an endpoint may put that code into a Close frame (RFC 6455 s7.4, IANA registry).

    1005, 1006 and 1015 are never sent (s7.4.1); 1010 is for clients only.
    """
    if code == 1010 and role is Role.SERVER:
        return False
    return code in (1000, 1001, 1002, 1003) or 1007 <= code <= 1014 or 3000 <= code <= 4999


def is_receivable_close_code(code: int) -> bool:
    """Whether a received Close frame may carry that code (RFC 6455 s7.4)."""
    return is_sendable_close_code(code)


def check_close(code: int | None, reason: str, role: Role | None = None) -> None:
    """Check a code and a reason that the caller wants to send.

    Raises:
        LocalProtocolError: the code may not be sent, the reason is over 123 bytes of UTF-8 or cannot be encoded, or
            there is a reason without a code. Nothing is silently rewritten.
    """
    pack_close(code, reason, role)


def pack_close(code: int | None, reason: str = "", role: Role | None = None) -> bytes:
    """The payload of a Close frame (RFC 6455 s5.5.1).

    Args:
        code: 1000-1003, 1007-1014 or 3000-4999; None for an empty Close.
        reason: at most 123 bytes as UTF-8.
        role: when given, 1010 is refused for a server.

    Raises:
        LocalProtocolError: see `check_close`.
    """
    if code is None:
        if reason:
            raise LocalProtocolError("a Close frame cannot carry a reason without a code (RFC 6455 s5.5.1)")
        return b""
    if isinstance(code, bool) or not isinstance(code, int):
        raise LocalProtocolError(f"a Close code is an int or None, not {code!r}")
    if not is_sendable_close_code(code, role):
        detail = " by a server" if code == 1010 else ""
        raise LocalProtocolError(
            f"Close code {int(code)} may not be sent{detail}; use 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 s7.4)"
        )
    try:
        encoded = reason.encode()
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(f"the Close reason cannot be encoded as UTF-8: {exc.reason}") from exc
    if len(encoded) > MAX_REASON:
        raise LocalProtocolError(
            f"a Close reason has at most {MAX_REASON} bytes as UTF-8, not {len(encoded)} (RFC 6455 s5.5)"
        )
    return int(code).to_bytes(2, "big") + encoded


def unpack_close(payload: bytes) -> tuple[int | None, str]:
    """Code and reason out of a Close frame's payload; ``(None, "")`` for an empty one.

    Raises:
        RemoteProtocolError: the payload has one byte or a code that may not be sent (1002), or a reason that is not
            UTF-8 (1007).
    """
    if not payload:
        return None, ""
    if len(payload) == 1:
        raise RemoteProtocolError("Close frame with one byte of payload (RFC 6455 s5.5.1)")
    if len(payload) > MAX_CONTROL_PAYLOAD:
        raise RemoteProtocolError("control frame over 125 bytes (RFC 6455 s5.5)")
    code = int.from_bytes(payload[:2], "big")
    if not is_receivable_close_code(code):
        raise RemoteProtocolError(f"Close frame with code {code}, which may not be sent (RFC 6455 s7.4)")
    try:
        return code, str(payload[2:], "utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError("Close reason is not UTF-8 (RFC 6455 s5.5.1)", 1007) from None


class PreparedMessage:
    """A message framed once, to be sent to many clients by a server (unmasked, uncompressed).

    Args:
        data: ``str`` for a text message, bytes-like for a binary one.

    Attributes:
        data: the message; ``bytes`` for what was bytes-like.
        frame: the bytes on the wire.
        size: payload bytes.

    Raises:
        LocalProtocolError: the text cannot be encoded as UTF-8.
    """

    __slots__ = ("data", "frame", "size")

    def __init__(self, data: str | bytes | bytearray | memoryview) -> None:
        self.data: str | bytes = data if isinstance(data, (str, bytes)) else bytes(memoryview(data))
        self.frame = pack(self.data)
        # What is in front of an unmasked payload depends on its length alone (s5.2).
        self.size = len(self.frame) - (2 if len(self.frame) < 128 else 4 if len(self.frame) < 65540 else 10)

    def __repr__(self) -> str:
        return f"<PreparedMessage of {self.size} bytes>"
