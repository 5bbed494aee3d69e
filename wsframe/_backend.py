"""Which frame codec is loaded. Everything above the codecs takes their names from here.

There is one set of `Message`, `MessageChunk`, `Frame` and `CodecError` classes per loaded copy of the package.
"""

from __future__ import annotations

import copyreg
from typing import Any

from ._codec_py import (
    Assembler,
    CodecError,
    Decoder,
    Frame,
    MaskingKeys,
    Message,
    MessageChunk,
    apply_mask,
    decode_header,
    encode_frame,
    encode_header,
)

__all__ = [
    "Assembler",
    "CodecError",
    "Decoder",
    "Frame",
    "MaskingKeys",
    "Message",
    "MessageChunk",
    "apply_mask",
    "backend",
    "backend_description",
    "decode_header",
    "encode_frame",
    "encode_header",
]

#: The codec in use.
backend: str = "python"

#: The same for people: banners, ``--version``, benchmarks.
backend_description: str = "python"


# Pickles name these functions and not the codec's classes, so that one written with one codec loads with the other.
def _make_message(data: str | bytes, opcode: int) -> Message:
    return Message(data, opcode)


def _make_chunk(data: str | bytes, opcode: int, first: bool, final: bool) -> MessageChunk:
    return MessageChunk(data, opcode, first, final)


def _make_frame(opcode: int, payload: bytes, fin: bool, rsv1: bool) -> Frame:
    return Frame(opcode, payload, fin, rsv1)


def _reduce_message(value: Message) -> tuple[Any, ...]:
    return _make_message, (value.data, value.opcode)


def _reduce_chunk(value: MessageChunk) -> tuple[Any, ...]:
    return _make_chunk, (value.data, value.opcode, value.first, value.final)


def _reduce_frame(value: Frame) -> tuple[Any, ...]:
    return _make_frame, (value.opcode, value.payload, value.fin, value.rsv1)


copyreg.pickle(Message, _reduce_message)
copyreg.pickle(MessageChunk, _reduce_chunk)
copyreg.pickle(Frame, _reduce_frame)
