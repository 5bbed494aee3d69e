"""The state table: every pair of a state and a fact, and that real endpoints take each legal one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

import framebuilder as fb
from wsframe import Cause, Connection, Initiator, Role, Server, State, Transport, _lifecycle
from wsframe._state import INITIATORS, TRANSITIONS, VERDICT_ORDER, Fact, next_state

C, H, O, G, D = State  # noqa: E741

#: One line per state: where REQUEST, OPENED, CLOSE_QUEUED, CLOSE_RECEIVED, TERMINAL and TRANSPORT_CLOSED lead.
TABLE: dict[State, tuple[State | None, ...]] = {
    C: (H, None, None, None, G, None),
    H: (None, O, None, None, G, None),
    O: (None, None, G, G, G, None),
    G: (None, None, G, G, G, D),
    D: (None, None, None, None, None, None),
}
PAIRS = [(state, fact, TABLE[state][i]) for state in State for i, fact in enumerate(Fact)]


@pytest.mark.parametrize(("state", "fact", "expected"), PAIRS)
def test_every_pair_is_legal_or_impossible(state: State, fact: Fact, expected: State | None) -> None:
    if expected is None:
        with pytest.raises(RuntimeError, match=f"impossible in {state.name}"):
            next_state(state, fact)
    else:
        assert next_state(state, fact) is expected


def test_states_only_grow_and_all_lead_to_closed() -> None:
    reached = {State.CONNECTING}
    for state in sorted(State):
        exits = [after for (before, _), after in TRANSITIONS.items() if before is state]
        assert all(after >= state for after in exits)
        assert state in reached
        reached.update(exits)
        # Nothing can stay anywhere for good: there is a way on from every state but the last.
        assert any(after > state for after in exits) or state is State.CLOSED


def test_every_cause_has_an_initiator_or_a_rule() -> None:
    assert set(INITIATORS) == set(Cause)
    by_whoever_began = {cause for cause, initiator in INITIATORS.items() if initiator is None}
    assert by_whoever_began == {Cause.CLOSE_HANDSHAKE, Cause.CLOSE_TIMEOUT, Cause.REJECTED}
    assert INITIATORS[Cause.EOF] is INITIATORS[Cause.TRUNCATED] is Initiator.REMOTE


def test_the_verdict_has_one_direction() -> None:
    assert sorted(VERDICT_ORDER, key=VERDICT_ORDER.__getitem__) == [
        Transport.OPEN,
        Transport.SHUTDOWN_WRITE,
        Transport.CLOSE,
        Transport.ABORT,
    ]


def test_endpoints_take_every_legal_pair_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[tuple[State, Fact]] = set()

    def watch(state: State, fact: Fact) -> State:
        taken.add((state, fact))
        return next_state(state, fact)

    monkeypatch.setattr(_lifecycle, "next_state", watch)
    request = fb.client_handshake_request(host="localhost")
    close = fb.build(fb.CLOSE, mask=fb.SAMPLE_MASK)

    # Everything that can happen, in every order of up to four.
    steps: list[Callable[[Server], object]] = [
        lambda server: server.receive_data(request),
        lambda server: server.state is State.HANDSHAKE and server.accept(),
        lambda server: server.close(),
        lambda server: server.receive_data(close),
        lambda server: server.data_to_send(),
        lambda server: server.receive_eof(),
        lambda server: server.handle_timeout(1e6),
        lambda server: server.abort(),
        lambda server: server.transport_closed(),
    ]
    for program in itertools.product(steps, repeat=4):
        server = Server()
        seen = server.state
        for step in program:
            step(server)
            assert server.state >= seen
            seen = server.state
        server.transport_closed()
        assert server.state is State.CLOSED
        assert server.ending is not None
        assert server.ending.phase < State.CLOSED
    assert taken == set(TRANSITIONS)


@pytest.mark.parametrize("role", Role)
def test_a_bare_connection_begins_open(role: Role) -> None:
    connection = Connection(role)
    assert connection.state is State.OPEN
    assert connection.connection is connection
    assert connection.transport is Transport.OPEN
    assert connection.ending is None
