"""Which frame codec is loaded. Everything above the codecs takes their names from here.

There is one set of `Message`, `MessageChunk`, `Frame` and `CodecError` classes per loaded copy of the package: with the
extension loaded, the Python codec is handed the compiled ones.
"""

from __future__ import annotations

import copyreg
import importlib
import os
from typing import TYPE_CHECKING, Any

from . import _codec_py, _fastpath_py

__all__ = [
    "Assembler",
    "CodecError",
    "Decoder",
    "Finished",
    "Frame",
    "Inbox",
    "Lane",
    "MaskingKeys",
    "Message",
    "MessageChunk",
    "Receive",
    "ReceiveQueue",
    "SocketTransport",
    "Traffic",
    "apply_mask",
    "backend",
    "backend_description",
    "decode_header",
    "encode_frame",
    "encode_header",
]

#: The codec in use: "cython" or "python".
backend: str
#: The same for people: banners, ``--version``, benchmarks.
backend_description: str

if TYPE_CHECKING:
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
    from ._fastpath_py import Finished, Inbox, Lane, Receive, ReceiveQueue, SocketTransport, Traffic


def _load() -> tuple[Any, str, str]:
    # "1" and nothing else: =0 must not mean yes.
    if os.environ.get("WSFRAME_PURE_PYTHON") == "1":
        return _codec_py, "python", "python (WSFRAME_PURE_PYTHON=1)"
    name = f"{__package__}._codec"
    try:
        codec = importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name != name:
            raise
        return _codec_py, "python", "python (extension not built)"
    _codec_py.adopt(codec)
    return codec, "cython", "cython"


def _load_fastpath() -> Any:
    """What goes with the codec; where it was not built (there are systems without its system calls), its twin."""
    name = f"{__package__}._fastpath"
    try:
        return _fastpath_py if backend == "python" else importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name != name:
            raise
        return _fastpath_py


_codec_module, backend, backend_description = _load()
for _name in _codec_py.__all__:
    globals()[_name] = getattr(_codec_module, _name)
_fastpath_module = _load_fastpath()
for _name in _fastpath_py.__all__:
    globals()[_name] = getattr(_fastpath_module, _name)


# Pickles name these functions and not the codec's classes, so that one written with one codec loads with the other.
def _make_message(data: str | bytes, opcode: int) -> Message:
    return Message(data, opcode)


def _make_chunk(data: str | bytes, opcode: int, first: bool, final: bool) -> MessageChunk:
    return MessageChunk(data, opcode, first, final)


def _make_frame(opcode: int, payload: bytes, fin: bool, rsv1: bool) -> Frame:
    return Frame(opcode, payload, fin, rsv1)


def _make_error(code: int, reason: str) -> CodecError:
    return CodecError(code, reason)


def _reduce_message(value: Message) -> tuple[Any, ...]:
    return _make_message, (value.data, value.opcode)


def _reduce_chunk(value: MessageChunk) -> tuple[Any, ...]:
    return _make_chunk, (value.data, value.opcode, value.first, value.final)


def _reduce_frame(value: Frame) -> tuple[Any, ...]:
    return _make_frame, (value.opcode, value.payload, value.fin, value.rsv1)


def _reduce_error(value: CodecError) -> tuple[Any, ...]:
    return _make_error, (value.code, value.reason)


copyreg.pickle(CodecError, _reduce_error)
copyreg.pickle(Message, _reduce_message)
copyreg.pickle(MessageChunk, _reduce_chunk)
copyreg.pickle(Frame, _reduce_frame)
