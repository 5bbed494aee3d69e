"""The endings table, played against the core: every row, in both roles, however its bytes are cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from endings_player import EPSILON, Player
from pair import assert_over
from wsframe import Disconnected, State, _lifecycle
from wsframe._state import TRANSITIONS, Fact, next_state
from wsframe.testing.lifecycle import ROWS, KeepSending, Row

HOW: dict[str, dict[str, Any]] = {
    "as sent": {},
    "together": {"joined": True},
    "in threes": {"joined": True, "chunk": 3},
    "byte by byte": {"chunk": 1},
    "with noise": {"noise": True},
}


@pytest.fixture(scope="module")
def steps() -> Iterator[set[tuple[State, Fact]]]:
    """What moved the connections of all rows from one state to another."""
    taken: set[tuple[State, Fact]] = set()

    def recording(state: State, fact: Fact) -> State:
        taken.add((state, fact))
        return next_state(state, fact)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_lifecycle, "next_state", recording)
        yield taken


def check_ending(row: Row, ending: Disconnected) -> None:
    """All fields, as the table declares them."""
    assert ending == Disconnected(
        phase=row.phase,
        cause=row.cause,
        initiator=row.initiator,
        clean=row.clean,
        code=row.code,
        reason=row.reason,
        received=row.received,
        sent=row.sent,
        received_first=row.received_first,
        was_websocket=row.was_websocket,
        error=ending.error,
        last_received_age=ending.last_received_age,
        unanswered_ping=ending.unanswered_ping,
    )
    assert ending.unanswered_ping == pytest.approx(row.unanswered_ping, abs=EPSILON)
    if row.error is None:
        assert ending.error is None
    else:
        assert isinstance(ending.error, row.error)
        assert row.says in str(ending.error)
    if row.age is None:
        assert ending.last_received_age is None
    else:
        # What a peer keeps sending came at some time within its period.
        slack = max((act.every for act in row.acts if isinstance(act, KeepSending)), default=0.0)
        assert ending.last_received_age == pytest.approx(row.age, abs=slack + EPSILON)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(row: Row, how: str, steps: set[tuple[State, Fact]]) -> None:
    player = Player(row, **HOW[how])
    check_ending(row, player.play())
    assert row.after - EPSILON <= player.waited <= row.by + EPSILON
    assert player.delivered == row.delivered
    assert player.wire == row.wire
    # What is dropped may end in order, where nothing was in its way.
    assert player.tcp == row.tcp or (player.tcp, row.tcp) == ("FIN", "dropped")
    assert_over(player.side, player.now)


def test_the_rows_take_every_step_there_is(steps: set[tuple[State, Fact]]) -> None:
    for row in ROWS:
        Player(row).play()
    assert steps == set(TRANSITIONS)
