"""Every allocation of a codec fails once: a program, because what it looks for is a crash.

    python tests/nomemory.py cython
    python tests/nomemory.py python

For each case and each N, allocation number N fails, and with the compiled codec once more that and all after it. Each
time it must end in MemoryError or in the right result; what was given out is what belongs there; the decoder either
goes on as if nothing had been, or gives nothing more (see `Decoder.decode`); buffers are let go of; nothing is leaked;
and a new decoder works.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any

import framebuilder as fb
from codectools import CASES, masked
from wsframe import _backend, _codec_py

_testcapi: Any = importlib.import_module("_testcapi")

#: Whether there is also a pass where everything fails from some allocation on. Not for Python code: without memory for
#: the number of a line, CPython 3.11 looks for an exception's handler for ever where the number is above 256.
ALL_AFTER = sys.argv[1:] == ["cython"]

#: What no case needs: more means that failing changes nothing and the sweep would never end.
MOST = 4000


def failing_from(number: int, stop: int, function: Callable[[], Any]) -> tuple[bool, Any]:
    """(whether it came to its end, its result), with allocations from that number on failing."""
    gc.disable()
    _testcapi.set_nomemory(number, stop)
    try:
        result = function()
    except MemoryError:
        result = None
        done = False
    except SystemError as exc:
        # CPython's own (3.11 to 3.13): without memory for the frame object of a traceback it loses the exception, also
        # where one Python function calls another that does nothing but raise.
        if str(exc) != "error return without exception set":
            raise
        result = None
        done = False
    else:
        done = True
    finally:
        _testcapi.remove_mem_hooks()
        gc.enable()
    return done, result


def sweep(name: str, attempt: Callable[[int, int], bool]) -> int:
    """Call ``attempt(start, stop)``, which says whether it came to its end, for every allocation there is."""
    failures = 0
    in_a_row = 0
    for number in range(MOST):
        # What fails may be something that can do without.
        in_a_row = in_a_row + 1 if attempt(number, number + 1) else 0
        failures += not in_a_row
        if in_a_row == 30:
            break
    else:
        raise AssertionError(f"{name}: still failing with allocation {number}")
    if ALL_AFTER:
        for first in range(number):
            attempt(first, 0)
    return failures


class Run:
    """A decoder that is driven to the end of its input, and can go on after an exception."""

    def __init__(self, codec: ModuleType, options: dict[str, Any], chunks: list[bytes], ahead: bool) -> None:
        arguments = {
            "expect_masked": True,
            "max_message_size": 1 << 40,
            "max_fragments": 1000,
            "allow_rsv1": False,
            "stream": False,
            "decode_text": True,
        } | options
        self.decoder = codec.Decoder(*arguments.values())
        self.error_class = codec.CodecError
        self.buffers = [bytearray(chunk) for chunk in chunks]
        # Room for what comes, so that the test itself needs no memory at the wrong moment.
        self.frames: list[Any] = [None] * 16
        self.frame_count = 0
        self.at = 0
        #: How many chunks are fed, and how many may be before their turn.
        self.fed = 0
        self.ahead = len(chunks) if ahead else 1
        self.out: list[Any] = []
        self.error: Any = None
        self.in_decode = False

    def decode(self) -> Any:
        """One call. Short, for the sake of CPython 3.11 (see `ALL_AFTER`)."""
        self.in_decode = True
        try:
            return self.decoder.decode(self.out)
        except self.error_class as exc:
            self.error = exc

    def go_on(self) -> None:
        decoder = self.decoder
        while self.at < len(self.buffers):
            while self.fed < min(self.at + self.ahead, len(self.buffers)):
                decoder.feed(self.buffers[self.fed])
                self.fed += 1
            while True:
                frame = self.decode()
                self.in_decode = False
                if self.error is not None:
                    return
                if frame is not None:
                    self.frames[self.frame_count] = frame
                    self.frame_count += 1
                elif not decoder.has_more:
                    break
            self.at += 1

    def outcome(self) -> tuple[Any, ...]:
        error = self.error and (self.error.code, self.error.reason)
        return self.out, self.frames, error, self.decoder.pending, self.decoder.has_more


def sweep_decoder(
    codec: ModuleType, name: str, options: dict[str, Any], chunks: list[bytes], ahead: bool
) -> int:
    whole = Run(codec, options, chunks, ahead)
    whole.go_on()
    expected = whole.outcome()
    failed_for_good = went_on = 0

    def attempt(start: int, stop: int) -> bool:
        nonlocal failed_for_good, went_on
        run = Run(codec, options, chunks, ahead)
        done, _ = failing_from(start, stop, run.go_on)
        where = f"{name}, allocations from {start} to {stop or 'the last'}"
        if done:
            assert run.outcome() == expected, f"{where}: {run.outcome()}"
        else:
            before = list(run.out), run.frame_count
            assert run.out == expected[0][: len(run.out)], f"{where}: {run.out}"
            # A frame that was lost on its way to the caller, by the interpreter, was decoded all the same.
            lost = run.in_decode
            run.go_on()
            if run.outcome() == expected:
                went_on += 1
            else:
                # Given up: nothing came any more, and nothing will.
                assert lost, f"{where}: {run.outcome()} after nothing was lost"
                probe: list[Any] = []
                run.decoder.feed(masked(fb.TEXT, b"probe"))
                assert run.decoder.decode(probe) is None, where
                assert (run.out, run.frame_count, probe) == (*before, []), f"{where}: {run.outcome()}"
                assert not run.decoder.pending, where
                assert not run.decoder.has_more, where
                failed_for_good += 1
        for buffer in run.buffers:
            # BufferError, were it still exported.
            buffer.append(0)
        return done

    count = sweep(name, attempt)
    fresh = Run(codec, options, chunks, ahead)
    fresh.go_on()
    assert fresh.outcome() == expected
    print(f"{name}: {count} allocations, {failed_for_good} times given up, {went_on} times gone on")
    return count


def sweep_call(name: str, function: Callable[[], Any], lent: list[bytearray] | None = None) -> int:
    """A call that gives the right result or MemoryError."""
    expected = call(function)

    def attempt(start: int, stop: int) -> bool:
        done, result = failing_from(start, stop, lambda: call(function))
        assert not done or result == expected, f"{name}, {start} to {stop or 'the last'}: {result!r}"
        for buffer in lent or []:
            buffer.append(0)
            buffer.pop()
        return done

    count = sweep(name, attempt)
    print(f"{name}: {count} allocations")
    return count


def call(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except ValueError as exc:
        return str(exc)


def sweep_functions(codec: ModuleType) -> int:
    key = bytearray(b"abcd")
    data = bytearray(b"x" * 300)
    every_second = memoryview(bytes(data))[::2]

    # Made here, for CPython 3.12 itself crashes where it has no memory for a new function.
    def source(size: int) -> bytes:
        return b"k" * size

    keys = codec.MaskingKeys(source)
    header = fb.build(fb.BINARY, declared_length=1 << 40)

    def assemble(opcode: int, *pieces: bytes) -> list[Any]:
        out: list[Any] = []
        assembler = codec.Assembler(False, True)
        assembler.begin(opcode)
        try:
            for piece in pieces:
                assembler.add(piece, False, out)
        except MemoryError:
            # What comes out now makes no sense, and does no harm.
            with suppress(Exception):
                assembler.add(pieces[-1], True, out)
            raise
        assembler.add(b"", True, out)
        return out

    def new_keys() -> Any:
        return codec.MaskingKeys(source).next()

    return sum(
        itertools.starmap(
            sweep_call,
            [
                ("frame", lambda: codec.encode_frame(fb.TEXT, "hello"), []),
                ("frame of text", lambda: codec.encode_frame(fb.TEXT, "é" * 300, key=key), [key]),
                ("masked frame", lambda: codec.encode_frame(fb.BINARY, data, key=key), [key, data]),
                ("frame of a view", lambda: codec.encode_frame(fb.BINARY, every_second, key=key), [key]),
                ("wrong frame", lambda: codec.encode_frame(3, data, key=key), [key, data]),
                ("lone surrogate", lambda: codec.encode_frame(fb.TEXT, "\ud800"), []),
                ("header", lambda: codec.encode_header(fb.BINARY, 1 << 40, key=key), [key]),
                ("wrong header", lambda: codec.encode_header(fb.PING, 1 << 70), []),
                ("mask", lambda: codec.apply_mask(data, key, 1 << 70), [key, data]),
                ("wrong mask", lambda: codec.apply_mask(data, b"123"), [data]),
                ("reading a header", lambda: codec.decode_header(header), []),
                ("key", keys.next, []),
                ("keys", new_keys, []),
                ("text", lambda: assemble(fb.TEXT, b"a" * 100, b"\xc3", b"\xa9" + b"b" * 9000), []),
                ("ASCII", lambda: assemble(fb.TEXT, b"a" * 100, b"b", b"c" * 9000), []),
                ("binary", lambda: assemble(fb.BINARY, b"a" * 100, b"b", b"c" * 9000), []),
                ("message", lambda: repr(codec.Message("x" * 9, 1)), []),
                ("chunk", lambda: hash(codec.MessageChunk(b"x" * 9, 2, True, False)), []),
                ("values", lambda: codec.Frame(9, b"x") == codec.Frame(9, b"x", False), []),
                ("wrong value", lambda: codec.Message("x", 99), []),
            ],
        )
    )


def main() -> None:
    (name,) = sys.argv[1:]
    package = _backend.__name__.rpartition(".")[0]
    codec = _codec_py if name == "python" else importlib.import_module(f"{package}._codec")
    total = sweep_functions(codec)
    for title, (options, chunks) in CASES.items():
        references = [sys.getrefcount(value) for value in chunks]
        total += sweep_decoder(codec, title, options, chunks, False)
        if len(chunks) > 1 and not options.get("stream"):
            total += sweep_decoder(codec, f"{title}, fed at once", options, chunks, True)
        assert references == [sys.getrefcount(value) for value in chunks], title
    print(f"all of {total} allocations")


if __name__ == "__main__":
    main()
