"""``FrameLog``: a tap that takes the bytes of both directions apart into the opening handshake and frames, for people.

It judges nothing: what the codec refuses is shown as well, because that is when one wants to see it. Of a payload only
the beginning is kept, so a frame of any size costs the same.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .._backend import CodecError, apply_mask, decode_header
from .._enums import Opcode
from .._errors import RemoteProtocolError
from .._frames import unpack_close

__all__ = ["FrameLog", "FrameScanner", "FrameSeen"]

#: What is kept of a payload: all of a control frame's, and more than is shown of any other.
_KEPT = 128
_SHOWN_TEXT = 60
_SHOWN_BYTES = 20

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


class FrameLog:
    """A tap for ``connect`` that writes lines.

    Args:
        write: called with each line, which may contain anything that the peer sent.
        clock: seconds, for the times of frames.
        handshake: show the opening handshake.
        frames: show the frames.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float], *, handshake: bool, frames: bool
    ) -> None:
        self._write = write
        self._clock = clock
        self._began = clock()
        self._show_handshake = handshake
        self._show_frames = frames
        self._directions = {">": _Direction(), "<": _Direction()}

    def sent(self, data: bytes) -> None:
        """These bytes go to the transport."""
        self._pass(">", data)

    def received(self, data: memoryview | bytes | bytearray) -> None:
        """These bytes came."""
        self._pass("<", data)

    def close(self) -> None:
        """No more will come: show what was cut off."""
        for mark, direction in self._directions.items():
            frame = direction.scanner.unfinished()
            if frame is not None and self._show_frames and not direction.lost:
                self._write_frame(mark, frame)

    def _pass(self, mark: str, data: memoryview | bytes | bytearray) -> None:
        direction = self._directions[mark]
        if not direction.is_open:
            data = self._read_head(mark, direction, bytes(data))
        if not data or direction.lost or not self._show_frames:
            return
        try:
            for frame in direction.scanner.feed(data):
                self._write_frame(mark, frame)
        except CodecError as exc:
            direction.lost = True
            self._write(f"{self._time()} {mark} no frame: {exc.reason}; what follows is not shown")

    def _read_head(self, mark: str, direction: _Direction, data: bytes) -> bytes:
        """Bytes of the opening handshake; return those behind it."""
        direction.head += data
        while not direction.lost:
            head, blank, rest = bytes(direction.head).partition(b"\r\n\r\n")
            if not blank:
                direction.lost = len(direction.head) > _MAX_HEAD
                return b""
            lines = head.decode("latin-1").split("\r\n")
            if self._show_handshake:
                for line in [*lines, ""]:
                    self._write(f"{mark} {line}".rstrip())
            direction.head[:] = rest
            status = lines[0].split(" ")[1:2]
            if mark == ">" or status == ["101"]:
                direction.is_open = True
                direction.head.clear()
                return rest
            # A status of 1xx announces another response; after any other there are no frames.
            direction.lost = not (status and status[0].startswith("1"))
        return b""

    def _write_frame(self, mark: str, frame: FrameSeen) -> None:
        self._write(f"{self._time()} {mark} {describe(frame)}")

    def _time(self) -> str:
        return f"{self._clock() - self._began:9.3f}"


class _Direction:
    def __init__(self) -> None:
        self.head = bytearray()
        self.is_open = False
        self.lost = False
        self.scanner = FrameScanner()


def describe(frame: FrameSeen) -> str:
    """One line about a frame: name, flags, length and the beginning of the payload."""
    flags = " ".join(name for name in ("fin", "rsv1", "rsv2", "rsv3", "masked") if getattr(frame, name))
    size = "1 byte" if frame.length == 1 else f"{frame.length} bytes"
    line = f"{_name(frame.opcode):<12} {flags:<15} {size:>12}  {_preview(frame)}".rstrip()
    return line if frame.came == frame.length else f"{line}  (cut off after {frame.came})"


def _name(opcode: int) -> str:
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"reserved {opcode}"


def _preview(frame: FrameSeen) -> str:
    head = frame.head
    if frame.opcode == Opcode.CLOSE and frame.came == frame.length:
        try:
            code, reason = unpack_close(head)
        except RemoteProtocolError:
            return _hex(head, frame.length)
        return "" if code is None else f'{code} "{reason}"' if reason else str(code)
    if frame.compressed or frame.message_opcode != Opcode.TEXT:
        return _hex(head, frame.length)
    # A character that is cut by our cut is left out; the beginning of a fragment may be the rest of one.
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(head, final=False)
    if len(text) > _SHOWN_TEXT or len(head) < frame.length:
        text = f'"{text[:_SHOWN_TEXT]}"...'
    else:
        text = f'"{text}"'
    return text if frame.length else ""


def _hex(head: bytes, length: int) -> str:
    text = head[:_SHOWN_BYTES].hex(" ")
    return f"{text} ..." if length > _SHOWN_BYTES else text
