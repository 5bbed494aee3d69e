"""The bytes of a connection taken apart for those who watch it: HTTP heads and frames, as they are.

It judges nothing: what the codec refuses is shown as well, because that is when one wants to see it. Of a payload only
the beginning is kept, so a frame of any size costs the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .._backend import CodecError, apply_mask, decode_header
from .._enums import Opcode

__all__ = ["FrameScanner", "FrameSeen", "WireScanner"]

#: What is kept of a payload: all of a control frame's, and more than is shown of any other.
_KEPT = 128

#: A head beyond this is not one that any of us would take.
_MAX_HEAD = 1 << 18


@dataclass(frozen=True, slots=True)
class FrameSeen:
    """A frame that passed by (RFC 6455 s5.2).

    Attributes:
        opcode: 0 to 15, reserved ones included.
        fin, rsv1, rsv2, rsv3, masked: the bits.
        length: the payload's length as announced.
        came: how much of it came.
        head: the beginning of the payload, unmasked.
        message_opcode: that of the message which the frame is a part of; its own for control frames.
        compressed: it belongs to a compressed message (RFC 7692 s6).
    """

    opcode: int
    fin: bool
    rsv1: bool
    rsv2: bool
    rsv3: bool
    masked: bool
    length: int
    came: int
    head: bytes
    message_opcode: int
    compressed: bool


class FrameScanner:
    """Finds the frames in one direction's bytes, however they are cut."""

    def __init__(self) -> None:
        self._header = b""
        self._first = self._second = 0
        self._length = self._came = 0
        self._key: bytes | None = None
        self._head = bytearray()
        self._inside = False
        self._message_opcode = 0
        self._compressed = False

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[FrameSeen]:
        """Take bytes and give the frames that they complete.

        Raises:
            CodecError: from here on nobody can say where a frame begins.
        """
        view = memoryview(data)
        while True:
            if not self._inside:
                view = self._read_header(view)
                if not self._inside:
                    return
            piece = view[: self._length - self._came]
            self._came += len(piece)
            if len(self._head) < _KEPT:
                self._head += piece[: _KEPT - len(self._head)]
            view = view[len(piece) :]
            if self._came < self._length:
                return
            yield self._take()

    def unfinished(self) -> FrameSeen | None:
        """The frame that is not complete, or None."""
        return self._take() if self._inside else None

    def _read_header(self, view: memoryview) -> memoryview:
        """Read a header and begin its frame once it is there; return what follows."""
        before = len(self._header)
        # 14 bytes: two, a length of eight, a masking key of four.
        self._header += view[: 14 - before]
        found = decode_header(self._header)
        if found is None:
            return view[len(view) :]
        self._first, self._second, self._length, position = found
        end = position + (4 if self._second & 0x80 else 0)
        if len(self._header) < end:
            return view[len(view) :]
        self._key = self._header[position:end] or None
        self._header = b""
        self._came = 0
        self._head.clear()
        self._inside = True
        return view[end - before :]

    def _take(self) -> FrameSeen:
        self._inside = False
        first = self._first
        opcode = first & 0x0F
        is_control = opcode >= Opcode.CLOSE
        if not is_control and opcode != Opcode.CONTINUATION:
            self._message_opcode = opcode
            self._compressed = bool(first & 0x40)
        head = bytes(self._head) if self._key is None else apply_mask(self._head, self._key)
        return FrameSeen(
            opcode=opcode,
            fin=bool(first & 0x80),
            rsv1=bool(first & 0x40),
            rsv2=bool(first & 0x20),
            rsv3=bool(first & 0x10),
            masked=self._key is not None,
            length=self._length,
            came=self._came,
            head=head,
            message_opcode=opcode if is_control else self._message_opcode,
            compressed=not is_control and self._compressed,
        )


class WireScanner:
    """Finds HTTP heads, and the frames behind them, in one direction's bytes.

    Args:
        requests: this is what the client says.

    Attributes:
        is_open: there are frames from here on.
        lost: nothing can be told about what follows.
    """

    def __init__(self, *, requests: bool) -> None:
        self._requests = requests
        self._head = bytearray()
        self._frames = FrameScanner()
        self.is_open = False
        self.lost = False

    def feed(self, data: bytes | bytearray | memoryview) -> Iterator[tuple[str, ...] | FrameSeen]:
        """Take bytes, and give the lines of each head, and the frames, that they complete.

        Raises:
            CodecError: from here on nobody can say where a frame begins.
        """
        if not self.is_open and not self.lost:
            heads, data = self._read_heads(data)
            yield from heads
        if self.is_open and data:
            try:
                yield from self._frames.feed(data)
            except CodecError:
                self.is_open, self.lost = False, True
                raise

    def _read_heads(self, data: bytes | bytearray | memoryview) -> tuple[list[tuple[str, ...]], bytes]:
        """Return the heads that are complete now, and what stands behind the last one of them."""
        heads: list[tuple[str, ...]] = []
        head = self._head
        # Not again where it was looked for before.
        begin = max(0, len(head) - 3)
        head += data
        while (end := head.find(b"\r\n\r\n", begin)) >= 0:
            lines = tuple(head[:end].decode("latin-1").split("\r\n"))
            heads.append(lines)
            del head[: end + 4]
            begin = 0
            if not self._goes_on(lines):
                rest = bytes(head)
                head.clear()
                return heads, rest
        self.lost = len(head) > _MAX_HEAD
        return heads, b""

    def _goes_on(self, lines: tuple[str, ...]) -> bool:
        """Whether there is another head behind that one; else find out what there is."""
        if self._requests:
            # Behind any other request there may be a body, which has no frames.
            self.is_open = any(line.lower().startswith("upgrade:") for line in lines)
        else:
            status = "".join(lines[0].split(" ")[1:2])
            if status.startswith("1") and status != "101":
                # It announces another response; after any other there are no frames.
                return True
            self.is_open = status == "101"
        self.lost = not self.is_open
        return False

    def unfinished(self) -> FrameSeen | None:
        """The frame that is not complete, or None."""
        return self._frames.unfinished() if self.is_open else None
