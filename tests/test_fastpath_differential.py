"""Both twins of the fast path do the same: random scripts, and after every step what was returned, told and counted."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from typing import Any

import pytest

import framebuilder as fb
from pair import peer_close, peer_frame
from test_fastpath_lane import NOW, Wire
from wsframe import Role, _backend, _fastpath_py

pytestmark = pytest.mark.skipif(
    _backend.backend != "cython", reason=f"nothing to compare: the codec is {_backend.backend_description}"
)

SIZES = [0, 1, 125, 126, 1000, 5000, 33_000, 70_000]


def stream(chance: random.Random, role: Role) -> list[bytes]:
    """What a peer sends, in chunks that have nothing to do with frames."""
    frames: list[bytes] = []
    for _ in range(chance.randrange(40)):
        size = chance.choice(SIZES)
        match chance.randrange(30):
            case 0:
                frames.append(peer_frame(role, fb.PING, chance.randbytes(chance.randrange(126))))
            case 1:
                frames.append(peer_frame(role, fb.PONG))
            case 2 | 3:
                frames.append(peer_frame(role, fb.TEXT, b"h\xc3", fin=False))
                frames.append(peer_frame(role, fb.CONTINUATION, b"\xa9llo"))
            case 4 if chance.random() < 0.2:
                frames.append(peer_close(role, 1000))
            case 5 if chance.random() < 0.2:
                frames.append(peer_frame(role, fb.TEXT, b"\xff"))
            case 6 if chance.random() < 0.2:
                frames.append(peer_frame(role, fb.BINARY, rsv=2))
            case number if number % 2:
                frames.append(peer_frame(role, fb.TEXT, ("é" * (size // 2)).encode()))
            case _:
                frames.append(peer_frame(role, fb.BINARY, chance.randbytes(size)))
    data = b"".join(frames)
    chunks: list[bytes] = []
    while data:
        size = chance.choice([1, 3, 50, 3000, 100_000, 200_000])
        chunks.append(data[:size])
        data = data[size:]
    return chunks


def script(seed: int, role: Role) -> list[tuple[str, Any]]:
    """What happens."""
    chance = random.Random(seed)
    chunks = stream(chance, role)
    steps: list[tuple[str, Any]] = []
    for _ in range(chance.randrange(150)):
        size = chance.choice(SIZES)
        match chance.randrange(24):
            case 0 | 1 | 2 | 3 | 4 | 5 if chunks:
                steps.append(("receive", chunks.pop(0)))
            case 6 | 7 | 8 | 9:
                how = chance.choice(["send", "send_nowait"])
                messages = ["x" * size, "é" * size, bytes(size), "\ud800", bytearray(b"x"), None]
                steps.append((how, chance.choices(messages, [8, 4, 8, 1, 1, 1])[0]))
            case 10:
                steps += [("send", "again")] * chance.randrange(40)
            case 11 | 12:
                steps.append(("send_framed", fb.build(fb.BINARY, bytes(size))))
            case 13 | 14:
                steps.append(("cork", chance.random() < 0.5))
            case 15 | 16:
                steps.append(("flush", None))
            case 17 | 18:
                steps.append(("advance", None))
            case 19 | 20:
                steps.append(("read", chance.randrange(6)))
            case 21:
                steps.append((chance.choice(["ping", "text"]), None))
            case 22:
                steps.append(("mode", chance.choice(["echo", "keep", "fail", "large"])))
            case 23:
                steps.append(("unsent", chance.choice([0, 0, 0, 1])))
    if chance.random() < 0.2:
        steps += [("close", None), ("send", "late"), ("receive", peer_frame(role, fb.TEXT)), ("flush", None)]
    return steps


def fail(_: Any) -> None:
    raise ValueError("a bug")


def play(twin: Any, steps: list[tuple[str, Any]], role: Role, own: bool, inbox: bool) -> list[Any]:
    """What came of every step."""
    played: list[Any] = []
    with Wire(twin, role, own=own, inbox=inbox) as wire:
        modes: dict[str, Callable[[Any], object]] = {
            "echo": wire.lane.send,
            "keep": lambda data: wire.note(("message", data)),
            "fail": fail,
            "large": lambda _: wire.lane.send_nowait(bytes(40_000)),
        }
        for kind, argument in steps:
            result: Any = None
            match kind:
                case "receive":
                    result = wire.give(argument)
                    if not result:
                        wire.events(wire.connection.receive_data(argument, NOW))
                case "send" | "send_nowait" | "send_framed" | "cork":
                    result = getattr(wire.lane, kind)(argument)
                case "flush":
                    wire.lane.flush()
                case "advance":
                    wire.advance()
                case "read" if inbox:
                    result = [wire.inbox.get().data for _ in range(min(argument, len(wire.inbox)))]
                    if not len(wire.inbox):
                        # Somebody waits, and gives up.
                        reader = twin.Receive(wire.inbox)
                        assert next(reader) is wire.inbox
                        reader.close()
                case "ping" if wire.connection.traffic.in_order:
                    wire.connection.ping(b"", NOW)
                case "text" if wire.connection.traffic.in_order:
                    wire.connection.send_text("endpoint")
                case "mode":
                    wire.on_message = modes[argument]
                case "unsent":
                    wire.connection.unsent(argument)
                case "close":
                    wire.lane.close()
            failures = [(type(exc).__name__, str(exc)) for exc in wire.failures]
            full = inbox and (wire.inbox.full, len(wire.inbox), wire.inbox.turns)
            state = wire.lane.corked, wire.lane.burst, full, wire.counters
            played.append((kind, result, wire.log[:], wire.written(), failures, state))
            wire.log.clear()
    return played


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("inbox", [False, True], ids=["callback", "inbox"])
@pytest.mark.parametrize("own", [False, True], ids=["write", "own"])
@pytest.mark.parametrize("role", Role)
def test_both_do_the_same(role: Role, own: bool, inbox: bool, seed: int) -> None:
    compiled = importlib.import_module("wsframe._fastpath")
    steps = script(seed, role)
    expected, got = (play(twin, steps, role, own, inbox) for twin in (_fastpath_py, compiled))
    for number, (one, other) in enumerate(zip(expected, got, strict=True)):
        assert one == other, f"seed {seed}, step {number}: {steps[number][0]}"
