"""Two endpoints that do anything, in any order, on a virtual clock, with everything in between that can go wrong.

A Hypothesis state machine. What is true at every step and at the end is in `actor`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import framebuilder as fb
from actor import LIMITS, Actor
from pair import assert_over, peer_frame
from setting import (
    CODES,
    POISONS,
    Poison,
    Setting,
    beginnings,
    capacities,
    codes,
    datas,
    payloads,
    sides,
    wrong_codes,
)
from wsframe import (
    Cause,
    CloseFrame,
    Connection,
    LocalProtocolError,
    PreparedMessage,
    Role,
    SlowPeerError,
    State,
    Transport,
)


class Machine(RuleBasedStateMachine):
    """One connection after the other: when both sides have ended, another one begins."""

    @initialize(setting=beginnings)
    def begin(self, setting: Setting) -> None:
        self.pair = setting.pair()
        self.steps = 0
        self.calm = setting.calm
        #: Nothing was done to it, so nothing may be lost.
        self.harmless = all(item.ping_interval is None and item.idle is None for item in setting.timeouts)

    def actor(self, index: int) -> Actor:
        side = self.pair.sides[index]
        assert isinstance(side, Actor)
        return side

    @property
    def actors(self) -> tuple[Actor, Actor]:
        return self.actor(0), self.actor(1)

    def alive(self) -> bool:
        return not all(actor.gone for actor in self.actors)

    def rough(self) -> bool:
        """Things may go wrong."""
        return self.steps > self.calm and self.alive()

    def settled(self) -> None:
        self.steps += 1
        self.pair.work()
        # What is due already is done at once.
        self.pair.pass_time(0)

    # What applications do.

    @precondition(alive)
    @rule(index=sides, data=datas, times=st.sampled_from([1, 1, 1, 6]))
    def send(self, index: int, data: str | bytes, times: int) -> None:
        for _ in range(times if self.rough() else 1):
            self._send(index, data)

    def _send(self, index: int, data: str | bytes) -> None:
        actor = self.actor(index)
        connection = actor.endpoint.connection

        def act() -> None:
            assert connection is not None
            if isinstance(data, str):
                connection.send_text(data)
            else:
                connection.send_bytes(data)
            actor.sent.append(data)

        self._say(actor, act, may=actor.is_open and actor.begun is None)

    @precondition(alive)
    @rule(data=datas)
    def send_prepared(self, data: str | bytes) -> None:
        actor = self.actor(1)
        connection = actor.endpoint.connection

        def act() -> None:
            assert connection is not None
            connection.send_prepared(PreparedMessage(data))
            actor.sent.append(data)

        self._say(actor, act, may=actor.is_open and actor.begun is None)

    @precondition(alive)
    @rule(index=sides, data=datas, final=st.booleans())
    def fragment(self, index: int, data: str | bytes, final: bool) -> None:
        actor = self.actor(index)
        connection = actor.endpoint.connection
        begun = actor.begun

        def act() -> None:
            assert connection is not None
            connection.send_fragment(data, final=final)
            whole = data if begun is None else begun + data  # type: ignore[operator]
            if len(whole if isinstance(whole, bytes) else whole.encode()) > LIMITS.max_message_size:
                # The peer will not have it.
                self._break_a_rule(actor)
            actor.begun = None if final else whole
            if final:
                actor.sent.append(whole)

        self._say(actor, act, may=actor.is_open and (begun is None or type(begun) is type(data)))

    @precondition(alive)
    @rule(index=sides, payload=payloads, times=st.sampled_from([1, 1, 12]))
    def ping(self, index: int, payload: bytes | None, times: int) -> None:
        for number in range(times):
            self._ping(index, payload if times == 1 else bytes([number]) * 125)

    def _ping(self, index: int, payload: bytes | None) -> None:
        actor = self.actor(index)
        connection = actor.endpoint.connection

        def act() -> None:
            assert connection is not None
            connection.ping(payload, self.pair.now)

        self._say(actor, act, may=actor.is_open, message=False)

    def _say(self, actor: Actor, act: Any, *, may: bool, message: bool = True) -> None:
        """Whether it may be said is decided by what was done before, and by nothing else."""
        if actor.endpoint.connection is None:
            # An application that has no connection yet cannot call it.
            return
        full = actor.endpoint.buffered > LIMITS.write_hard_cap
        try:
            act()
        except LocalProtocolError:
            assert not may
        except SlowPeerError:
            assert may
            assert full
            assert actor.endpoint.state is State.CLOSING
            # What had not been begun was dropped, for the Close frame that says why.
            assert actor.endpoint.buffered <= len(actor.buffer) + 131
            actor.overflowed = True
            self.harmless = False
        else:
            assert may
            assert not full
            if message:
                actor.last_message = self.pair.now
        self.settled()

    @precondition(rough)
    @rule(
        index=sides,
        code=codes,
        reason=st.sampled_from(["", "bye", "über"]),
        wrong=wrong_codes,
        then=st.none() | st.sampled_from(POISONS),
    )
    def close(self, index: int, code: int | None, reason: str, wrong: int, then: Poison | None) -> None:
        actor = self.actor(index)
        self._close_wrongly(actor.endpoint, wrong, "")
        self._close_wrongly(actor.endpoint, code, "x" * 124)
        reason = "" if code is None else reason
        if actor.is_open:
            actor.wanted_close = CloseFrame(1005 if code is None else code, reason)
        elif actor.endpoint.connection is None and actor.endpoint.state < State.CLOSING:
            # Before it is open: a server refuses, a client has nobody to say anything to.
            actor.refused = actor.endpoint.role is Role.SERVER
            actor.aborted = not actor.refused
        self.harmless = False
        actor.endpoint.close(code, reason)
        self.settled()
        if then is not None:
            self._poison(actor, then)

    def _close_wrongly(self, endpoint: Connection, code: int | None, reason: str) -> None:
        before = endpoint.state, endpoint.buffered, endpoint.transport
        try:
            endpoint.close(code, reason)
        except LocalProtocolError:
            assert (endpoint.state, endpoint.buffered, endpoint.transport) == before
        else:
            raise AssertionError(f"close({code}, {reason!r}) was taken")

    @precondition(
        lambda self: self.actor(1).request_waits and self.actor(1).endpoint.state is State.HANDSHAKE
    )
    @rule()
    def accept(self) -> None:
        self.actor(1).accept()
        self.settled()

    @precondition(
        lambda self: (
            self.rough() and self.actor(1).request_waits and self.actor(1).endpoint.state is State.HANDSHAKE
        )
    )
    @rule(status=st.sampled_from([403, 503]))
    def reject(self, status: int) -> None:
        self.harmless = False
        self.actor(1).refuse(status)
        self.settled()

    # What adapters and networks do.

    @precondition(alive)
    @rule(index=sides, count=st.integers(1, 400) | st.none())
    def deliver(self, index: int, count: int | None) -> None:
        self.pair.deliver(self.actor(index), count)
        self.settled()

    @precondition(alive)
    @rule()
    def deliver_all(self) -> None:
        self.pair.settle()
        self.settled()

    @precondition(rough)
    @rule(index=sides)
    def let_fin_through(self, index: int) -> None:
        self.actor(index).fin_held = False
        self.settled()

    @precondition(alive)
    @rule(index=sides, paused=st.booleans())
    def pause(self, index: int, paused: bool) -> None:
        self.actor(index).pause(paused, self.pair.now)
        self.settled()

    @precondition(alive)
    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 3.0, 9.9]), at_once=st.booleans())
    def time(self, seconds: float, at_once: bool) -> None:
        """Every deadline is met, and perhaps all that is on its way arrives before each."""
        if not self.rough():
            seconds = min(seconds, 0.5)
        self.pair.pass_time(seconds, settle=at_once)
        self.settled()

    @precondition(alive)
    @rule(index=sides, seconds=st.sampled_from([0.2, 1.0, 2.5, 30.0]), reads_first=st.booleans())
    def stand_still(self, index: int, seconds: float, reads_first: bool) -> None:
        """One side does nothing for a while, as when its event loop is blocked; then all that is due, in any order."""
        pair, actor = self.pair, self.actor(index)
        if not self.rough():
            seconds = min(seconds, 0.5)
        began = pair.now
        self._go_on_alone(actor.other, seconds)
        wire = actor.incoming
        spoke = bool(wire.data) and not (actor.paused or wire.dead or wire.rst or actor.gone)
        if not actor.gone:
            actor.now = actor.late_at = pair.now
        if reads_first:
            pair.deliver(actor)
        if not actor.gone:
            actor.tell(actor.endpoint.handle_timeout, pair.now)
            actor.work(pair.now)
        if spoke and began < actor.patience:
            # It was in time before, and has answered meanwhile: who was late is we, and nobody is lost for that.
            assert not actor.gone or actor.ending.cause is not Cause.PING_TIMEOUT
        if not reads_first:
            pair.deliver(actor)
        self.settled()

    def _go_on_alone(self, actor: Actor, seconds: float) -> None:
        pair = self.pair
        until = pair.now + seconds
        while True:
            while actor.receive(pair.now):
                pass
            actor.work(pair.now)
            due = None if actor.gone else actor.endpoint.next_timeout(pair.now)
            if due is None or due > until:
                break
            pair.now = max(pair.now, due)
            actor.now = pair.now
            actor.tell(actor.endpoint.handle_timeout, pair.now)
            actor.work(pair.now)
        pair.now = until
        actor.work(pair.now)

    @precondition(alive)
    @rule(index=sides, capacity=capacities)
    def narrow(self, index: int, capacity: int | None) -> None:
        self.actor(index).outgoing.capacity = capacity
        self.settled()

    @precondition(rough)
    @rule(index=sides, accident=st.sampled_from(["abort", "sever", "lose one way", "cut", "reset"]))
    def accident(self, index: int, accident: str) -> None:
        actor = self.actor(index)
        wire = actor.outgoing
        if accident == "abort":
            actor.aborted |= not actor.gone
            actor.endpoint.abort()
            actor.work(self.pair.now)
            assert actor.gone
        elif accident == "sever":
            # The peer sees the end of the stream, which this side has not sent.
            wire.severed = wire.fin = True
        elif accident == "lose one way":
            wire.dead = True
            wire.data.clear()
        elif accident == "cut":
            self.pair.cut()
        else:
            self.pair.reset()
        self.harmless = False
        self.settled()

    @precondition(rough)
    @rule(index=sides, poison=st.sampled_from(POISONS))
    def poison(self, index: int, poison: Poison) -> None:
        self._poison(self.actor(index), poison)

    def _poison(self, actor: Actor, poison: Poison) -> None:
        """Behind whole frames there comes something that breaks a rule."""
        wire = actor.outgoing
        if actor.opened_at is None or actor.buffer or wire.fin or wire.dead:
            return
        opcode, payload, rsv, masked_right = poison
        victim = Role.CLIENT if (actor.endpoint.role is Role.SERVER) == masked_right else Role.SERVER
        if actor.is_open:
            self._break_a_rule(actor)
        # Else it stands behind a Close frame, and is ignored (s5.5.1).
        wire.data += peer_frame(victim, opcode, payload, rsv=rsv)
        self.settled()

    def _break_a_rule(self, actor: Actor) -> None:
        if actor.poisoned_at is None:
            actor.poisoned_at = len(actor.sent)
        self.harmless = False

    # What must be true.

    @precondition(lambda self: not self.alive())
    @rule(setting=beginnings)
    def again(self, setting: Setting) -> None:
        self.check_over()
        self.begin(setting)

    @invariant()
    def laws(self) -> None:
        for actor in self.actors:
            actor.check_now()

    def check_over(self) -> None:
        for actor in self.actors:
            actor.check_end()
            assert_over(actor, self.pair.now)

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        pair, actors = self.pair, self.actors
        if self.harmless and self.alive():
            self.end_in_order()
        first = self.steps % 2
        for index, actor in enumerate((actors[first], actors[1 - first])):
            code = CODES[(self.steps + index) % len(CODES)]
            if actor.is_open:
                actor.wanted_close = CloseFrame(1005 if code is None else code, "")
            if actor.endpoint.connection is None and actor.endpoint.state < State.CLOSING:
                actor.refused = actor.endpoint.role is Role.SERVER
                actor.aborted = not actor.refused
            actor.endpoint.close(code)
            pair.work()
            if index == 0:
                pair.pass_time(0.5)
        # Whatever has happened, both are over within bounded time.
        pair.pass_time(max(actor.timeouts.close for actor in actors) + 0.1, settle=True)
        assert not self.alive()
        self.check_over()

    def end_in_order(self) -> None:
        """Nothing has gone wrong: all that was sent arrives, and both end clean."""
        pair, (client, server) = self.pair, self.actors
        for actor in self.actors:
            actor.outgoing.capacity = None
            actor.fin_held = False
            actor.pause(False, pair.now)
        pair.settle()
        if server.request_waits and server.endpoint.state is State.HANDSHAKE:
            self.accept()
            pair.settle()
        if not (client.is_open and server.is_open):
            # It took them too long to open.
            return
        for actor in self.actors:
            sent = actor.other.sent
            assert len(actor.delivered) == len(sent)
            pings = [frame.payload for frame in actor.other.frames() if frame.opcode == fb.PING]
            pongs = [frame.payload for frame in actor.frames() if frame.opcode == fb.PONG]
            # s5.5.3: pings are answered, at least the last one.
            assert pongs[-1:] == pings[-1:]
        first = self.actor(self.steps % 2)
        code = CODES[self.steps % len(CODES)]
        first.wanted_close = CloseFrame(1005 if code is None else code, "")
        first.endpoint.close(code)
        pair.work()
        pair.pass_time(max(actor.timeouts.linger for actor in self.actors), settle=True)
        for actor in self.actors:
            assert actor.gone
            assert actor.ending.clean
            assert actor.ending.cause is Cause.CLOSE_HANDSHAKE
            assert Transport.ABORT not in actor.verdicts
