"""The endings table is whole: no ending without a row, no two rows alike without a reason."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections import defaultdict
from typing import Any

import pytest

from wsframe import Cause, Role, State
from wsframe._adapter._settings import settings_for
from wsframe.testing.lifecycle import ROWS, CallAbort, Fin, Opening, Row

BY_NAME = {row.name: row for row in ROWS}
ADAPTERS = {"aio", "sync"}

C, H, O, G, D = State  # noqa: E741
CLIENT, SERVER = Role

ONLY_OPENING = "it is about the opening handshake, which is over"
ONLY_MESSAGES = "it is about messages, and there are none before it is open"
NOT_AFTER_CLOSE = "keepalive and the idle timeout stop with the first Close; then the close timeout watches"

#: What cannot be, and why: (causes, roles, phases, reason).
IMPOSSIBLE: tuple[tuple[tuple[Cause, ...], tuple[Role, ...], tuple[State, ...], str], ...] = (
    (
        tuple(Cause),
        (CLIENT, SERVER),
        (D,),
        "the ending is there with CLOSED; nothing can be decided any more",
    ),
    ((Cause.CLOSE_HANDSHAKE,), (CLIENT, SERVER), (C, H, O), "the first Close frame makes it CLOSING"),
    (
        (Cause.CLOSE_TIMEOUT,),
        (CLIENT, SERVER),
        (C, H, O),
        "the timeout begins with a Close, which makes it CLOSING, or after another cause, which stays",
    ),
    (
        (Cause.OPEN_TIMEOUT, Cause.REJECTED, Cause.PLAIN_HTTP, Cause.NOT_HTTP, Cause.DETACHED),
        (CLIENT, SERVER),
        (O, G),
        ONLY_OPENING,
    ),
    (
        (Cause.PING_TIMEOUT, Cause.IDLE_TIMEOUT, Cause.SLOW_PEER),
        (CLIENT, SERVER),
        (C, H),
        "before it is open there is one timeout for everything, and nothing is sent that could get stuck",
    ),
    ((Cause.PING_TIMEOUT, Cause.IDLE_TIMEOUT), (CLIENT, SERVER), (G,), NOT_AFTER_CLOSE),
    ((Cause.SLOW_PEER,), (CLIENT, SERVER), (G,), "nothing more can be sent, and the close timeout watches"),
    ((Cause.INVALID_DATA, Cause.TOO_BIG), (CLIENT, SERVER), (C, H), ONLY_MESSAGES),
    ((Cause.TRUNCATED,), (SERVER,), (H,), "the request is complete; what follows it is not looked at yet"),
    ((Cause.PROTOCOL_ERROR,), (SERVER,), (C,), "a request that is wrong is refused: REJECTED, or NOT_HTTP"),
    ((Cause.NOT_HTTP,), (SERVER,), (H,), "the request has been read, so it was HTTP"),
    ((Cause.PLAIN_HTTP,), (SERVER,), (C,), "there is no request yet that could be answered"),
    ((Cause.PLAIN_HTTP, Cause.DETACHED), (CLIENT,), (C, H), "it is servers that answer requests"),
)


def test_every_cause_in_every_phase_has_a_row_or_is_impossible() -> None:
    rows = {(row.cause, row.role, row.phase) for row in ROWS}
    impossible = {
        combination
        for causes, roles, phases, _ in IMPOSSIBLE
        for combination in itertools.product(causes, roles, phases)
    }
    assert rows & impossible == set()
    assert rows | impossible == set(itertools.product(Cause, Role, State))


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(ROWS) >= 60


def test_rows_that_share_an_ending_say_why() -> None:
    shared: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in ROWS:
        shared[row.ending].append(row)
    for rows in shared.values():
        first, *others = [row.name for row in rows if row.same_as is None] or ["nobody"]
        assert others == [], (
            f"{first} and {others} have one ending: which is same_as which, and because of what?"
        )
        assert {row.same_as for row in rows} <= {None, first}


def test_rows_with_different_endings_do_not_claim_to_be_the_same() -> None:
    for row in ROWS:
        if row.same_as is not None:
            other = BY_NAME[row.same_as]
            assert row.ending == other.ending, row.name
            assert other.same_as is None, f"{row.name} -> {other.name} -> {other.same_as}"
            assert row.because
            assert len(row.because.split()) > 3


def test_what_errors_say_tells_rows_apart() -> None:
    """Endings that differ in nothing but the error's words must not both have the words of one."""
    alike: dict[tuple[Any, ...], set[str]] = defaultdict(set)
    for row in ROWS:
        alike[row.ending[:-1]].add(row.says)
    for words in alike.values():
        for one, other in itertools.permutations(words, 2):
            assert one not in other or not one, (one, other)


def test_what_adapters_do_instead() -> None:
    for row in ROWS:
        assert set(row.except_on) <= ADAPTERS
        for instead in row.except_on.values():
            assert instead.because
            if instead.like is not None:
                other = BY_NAME[instead.like]
                assert other.role is row.role
                assert other.ending != row.ending, f"{row.name} is no exception"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_makes_sense(row: Row) -> None:
    settings_for(row.role, row.settings)
    assert re.fullmatch(r"\S.*[^\s.]", row.what)
    assert len(row.what) < 100
    # Where it stands in the page, it stands alone.
    assert not row.what.startswith("the same")
    # A table is played in seconds.
    assert row.by < 3


def test_one_group_follows_the_other() -> None:
    groups = [group for group, _ in itertools.groupby(row.group for row in ROWS)]
    assert len(groups) == len(set(groups))


# A row that contradicts itself is refused.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "server/With Spaces"}, "not role/words"),
        ({"name": "client/fin"}, "not that of a server"),
        ({"same_as": "server/reset"}, "go together"),
        ({"because": "so it is"}, "go together"),
        ({"acts": (Fin(), Opening())}, "first act or none"),
        ({"acts": (CallAbort(),)}, "begins with Opening if and only if"),
        ({"was_websocket": False}, "begins with Opening if and only if"),
        ({"after": 1.0, "by": 0.5}, "after > by"),
    ],
)
def test_contradictions(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(BY_NAME["server/fin"], **change)
