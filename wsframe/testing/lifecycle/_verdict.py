"""Holds what came of a row against what the table says. Only wsframe's own adapters have that much to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..._events import CloseFrame
from ._acts import Await, Raise, ReadAgain, Reset, StopReading
from ._on_uvicorn import on_uvicorn
from ._outcome import Outcome
from ._player import AGAIN
from ._row import Row
from .drivers import message_text

__all__ = ["expected_row", "verdict"]

#: Seconds that a busy machine may take longer.
SLACK = 8.0

#: Seconds by which two clocks may differ, and a timer be early.
EARLY = 0.03


def expected_row(row: Row, adapter: str, rows: Mapping[str, Row]) -> Row | None:
    """The row whose ending this one must have on an adapter: itself mostly; None where it cannot happen there."""
    if adapter == "uvicorn":
        there = on_uvicorn(row)
        if there is None:
            return None
        # It has the transports of asyncio.
        row, adapter = there, "aio"
    instead = row.except_on.get(adapter)
    if instead is None:
        return row
    return None if instead.like is None else rows.get(instead.like, row)


def verdict(outcome: Outcome, row: Row, expected: Row) -> list[str]:
    """What is wrong with an outcome, in words.

    Args:
        outcome: of the row.
        row: what was played.
        expected: the row whose ending it must have; see `expected_row`.
    """
    if outcome.status != "played":
        return [f"{outcome.status}: {outcome.note}"]
    return [
        *([outcome.note] if outcome.note else []),
        *_wrong_ending(outcome, expected),
        *_wrong_words(outcome, row),
        *_wrong_wire(outcome, expected if expected.name == row.name else row),
        *_wrong_times(outcome, row),
        *(f"left behind: {what}" for what in outcome.left),
        *_wrong_log(outcome.log, row),
    ]


def _wrong_ending(outcome: Outcome, row: Row) -> Iterator[str]:
    ending = outcome.ending
    if ending is None:
        yield "no ending"
        return
    expected = {
        "phase": row.phase.name,
        "cause": row.cause.name,
        "initiator": row.initiator.name,
        "clean": row.clean,
        "code": row.code,
        "reason": row.reason,
        "received": _frame(row.received),
        "sent": _frame(row.sent),
        "received_first": row.received_first,
        "was_websocket": row.was_websocket,
    }
    for name, value in expected.items():
        if ending[name] != value:
            yield f"{name} is {ending[name]!r}, not {value!r}"
    error = None if row.error is None else f"{row.error.__module__}.{row.error.__qualname__}"
    if error is None and ending["error"] is not None:
        yield f"error is {ending['error'][0]}, not None"
    elif error is not None and error not in (ending["error"] or ()):
        yield f"error is {(ending['error'] or [None])[0]}, not {error}"
    if row.says not in ending["says"]:
        yield f"the error says {ending['says']!r}, not {row.says!r}"
    age = ending["age"]
    if (age is None) is not (row.age is None):
        yield f"age is {age}, not {row.age}"
    elif row.age is not None and not row.age - EARLY - outcome.taken <= age <= row.age + SLACK:
        yield f"age is {age:.3f} s, not {row.age:g} s"


def _frame(frame: CloseFrame | None) -> list[Any] | None:
    return None if frame is None else [frame.code, frame.reason]


def _wrong_words(outcome: Outcome, row: Row) -> Iterator[str]:
    """What the application was told besides: that it is open, the messages, and one ending."""
    assert outcome.ending is not None or not outcome.over
    messages = [f"recv(): {message_text(data)}" for data in row.delivered]
    told = outcome.told[:-1] if outcome.over else outcome.told
    # How many of these are delivered is a question of time.
    told = [what for what in told if what != f"recv(): {message_text(AGAIN)}"]
    expected = [*(["open"] if row.opens else []), *messages]
    if told != expected:
        yield f"told {told}, not {expected}"


def _wrong_wire(outcome: Outcome, row: Row) -> Iterator[str]:
    wire = list(row.wire)
    stopped = any(isinstance(act, StopReading) for act in row.acts) and not any(
        isinstance(act, ReadAgain) for act in row.acts
    )
    gone = stopped or row.tcp == "lost" or any(isinstance(act, Reset) for act in row.acts)
    if outcome.wire != (wire[: len(outcome.wire)] if gone else wire):
        yield f"on the wire {outcome.wire}, not {wire}"
    allowed: dict[str, tuple[str | None, ...]] = {
        "FIN": ("FIN",),
        "dropped": ("FIN", "RST"),
        "lost": ("FIN", "RST", None),
        "kept": (None,),
    }
    if not gone and outcome.tcp not in allowed[row.tcp]:
        yield f"TCP ended with {outcome.tcp}, not {row.tcp}"


def _wrong_times(outcome: Outcome, row: Row) -> Iterator[str]:
    awaits = [act for act in row.acts if isinstance(act, Await)]
    for act, (early, late) in zip(awaits, outcome.waits, strict=False):
        if act.after and early < act.after - EARLY:
            yield f"{act.what} came after {early:.3f} s, not {act.after:g} s"
        if late > act.by + SLACK:
            yield f"{act.what} came after {late:.3f} s, not {act.by:g} s"
    if row.after and outcome.early is not None and outcome.early < row.after - EARLY:
        yield f"it was over after {outcome.early:.3f} s, not {row.after:g} s"
    if outcome.late is not None and outcome.late > row.by + SLACK:
        yield f"it was over after {outcome.late:.3f} s, not {row.by:g} s"


def _wrong_log(log: list[str], row: Row) -> Iterator[str]:
    """Nothing that a peer does is logged above DEBUG; that a server's application fails is, once."""
    fails = row.role.value == "server" and any(isinstance(act, Raise) for act in row.acts)
    if fails and len(log) == 1 and "the application fails" in log[0]:
        return
    if fails and not log:
        yield "the application failed, and the log does not say it"
    for line in log:
        yield f"logged: {line}"
