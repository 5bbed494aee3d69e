"""The endings table, played against the core: every row, however its bytes are cut."""

from __future__ import annotations

import pytest

from endings_player import EPSILON, Player
from pair import assert_over
from wsframe import Disconnected
from wsframe.testing.lifecycle import ROWS, KeepSending, Row

HOW = {
    "as sent": {},
    "together": {"joined": True},
    "byte by byte": {"chunk": 1},
}


def expected(row: Row, ending: Disconnected) -> Disconnected:
    """The ending that the table declares; the error and the age are looked at separately."""
    return Disconnected(
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
    )


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row(row: Row, how: str) -> None:
    player = Player(row, **HOW[how])  # type: ignore[arg-type]
    ending = player.play()
    assert ending == expected(row, ending)
    if row.error is None:
        assert ending.error is None
    else:
        assert isinstance(ending.error, row.error)
        assert row.says in str(ending.error)
    if row.age is None:
        assert ending.last_received_age is None
    else:
        slack = max((act.every for act in row.acts if isinstance(act, KeepSending)), default=0.0)
        assert ending.last_received_age == pytest.approx(row.age, abs=slack + EPSILON)
    assert row.after - EPSILON <= player.waited <= row.by + EPSILON
    assert player.delivered == row.delivered
    assert player.wire == row.wire
    # What is dropped may end in order, where nothing was in its way.
    assert player.tcp == row.tcp or (player.tcp, row.tcp) == ("FIN", "dropped")
