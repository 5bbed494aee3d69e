"""``FrameLog``: a tap that shows the opening handshake and the frames of both directions to people."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from .._adapter._wire import FrameSeen, WireScanner
from .._backend import CodecError
from .._enums import Opcode
from .._errors import RemoteProtocolError
from .._frames import unpack_close

__all__ = ["FrameLog", "describe"]

_SHOWN_TEXT = 60
_SHOWN_BYTES = 20


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
        self._directions = {">": WireScanner(requests=True), "<": WireScanner(requests=False)}

    def sent(self, data: bytes) -> None:
        """These bytes go to the transport."""
        self._pass(">", data)

    def received(self, data: memoryview | bytes | bytearray) -> None:
        """These bytes came."""
        self._pass("<", data)

    def close(self) -> None:
        """No more will come: show what was cut off."""
        for mark, direction in self._directions.items():
            frame = direction.unfinished()
            if frame is not None and self._show_frames:
                self._write_frame(mark, frame)

    def _pass(self, mark: str, data: memoryview | bytes | bytearray) -> None:
        direction = self._directions[mark]
        if direction.is_open and not self._show_frames:
            return
        try:
            for seen in direction.feed(data):
                if not isinstance(seen, tuple):
                    if self._show_frames:
                        self._write_frame(mark, seen)
                elif self._show_handshake:
                    for line in [*seen, ""]:
                        self._write(f"{mark} {line}".rstrip())
        except CodecError as exc:
            if self._show_frames:
                self._write(f"{self._time()} {mark} no frame: {exc.reason}; what follows is not shown")

    def _write_frame(self, mark: str, frame: FrameSeen) -> None:
        self._write(f"{self._time()} {mark} {describe(frame)}")

    def _time(self) -> str:
        return f"{self._clock() - self._began:9.3f}"


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
