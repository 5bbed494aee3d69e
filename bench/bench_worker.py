"""One contestant of `bench codec` in a process of its own: `bench_worker.py NAME [CORE]`.

A process each, so that neither imports nor environment nor heap of one contestant decide how fast another one is. How
it is talked to stands in bench_answer.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Ours is the checkout that this file lies in, whatever else may be installed.
sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from bench_answer import Worker, answer
from bench_cases import CASES, Case, Stream, stream
from bench_contestants import CODEC
from bench_errors import WrongError
from bench_ours import Memcpy, Wsframe
from bench_wire import read_frames, xor
from bench_work import Contestant, Work


def make(name: str) -> Contestant:
    """Load a contestant; whatever it raises says that it is not here."""
    codec = CODEC.codec_of(name)
    if codec is not None:
        return Wsframe(codec)
    if name == "memcpy":
        return Memcpy()
    if name == "picows":
        from bench_picows import Picows

        return Picows()
    import bench_peers

    makers: dict[str, Callable[[], Contestant]] = {
        "websockets": lambda: bench_peers.Websockets(speedups=True),
        "websockets-python": lambda: bench_peers.Websockets(speedups=False),
        "wsproto": bench_peers.Wsproto,
        "aiohttp": bench_peers.Aiohttp,
    }
    return makers[name]()


def what_is_wrong(case: Case, expected: Stream | None, found: list[Any], *, baseline: bool) -> str | None:
    """Compare what a contestant gave with what the case asks for; None when they are the same."""
    if baseline:
        ok = all(part == case.message for part in found)
        return None if ok else "it gave other bytes"
    if case.group == "mask":
        key = case.random().randbytes(4)
        return None if found == [xor(case.message, key)] else "it gave other bytes"
    if case.group in ("build", "send"):
        return _wrong_frame(case, bytes(found[0]))
    assert expected is not None
    if len(found) != expected.messages:
        return f"it gave {len(found)} messages, not {expected.messages}"
    kinds: tuple[type, ...] = (str,) if case.text else (bytes, bytearray)
    for number, (mine, theirs) in enumerate(zip(expected.expected, found, strict=True)):
        if not isinstance(theirs, kinds):
            return f"message {number} is {type(theirs).__name__}"
        if mine != theirs:
            return f"message {number} has another payload"
    return None


def _wrong_frame(case: Case, wire: bytes) -> str | None:
    try:
        frames = list(read_frames(wire))
    except ValueError as error:
        return str(error)
    if len(frames) != 1:
        return f"it gave {len(frames)} frames"
    (frame,) = frames
    if (frame.opcode, frame.fin, frame.rsv1) != (case.opcode, True, False):
        return "the first byte of the frame is another one"
    if (frame.key is not None) != case.client:
        return "the frame is not masked" if case.client else "the frame is masked"
    return None if frame.payload == case.message else "the frame has another payload"


class CodecWorker(Worker):
    """One contestant of `bench codec`."""

    def __init__(self, contestant: Contestant) -> None:
        super().__init__()
        self.contestant = contestant

    def describe(self) -> dict[str, str]:
        """Return what the contestant has loaded."""
        return self.contestant.describe()

    def ready(self, case: str, **arguments: Any) -> Work:
        """Make a case ready, and compare everything that comes out of it."""
        chosen = CASES[case]
        given = stream(chosen) if chosen.group in ("parse", "decode") else None
        work = self.contestant.prepare(chosen, given)
        wrong = what_is_wrong(chosen, given, work.check(), baseline=self.contestant.baseline)
        if wrong is not None:
            raise WrongError(wrong)
        return work


if __name__ == "__main__":
    answer(lambda name: CodecWorker(make(name)))
