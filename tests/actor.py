"""A `Side` that keeps account: what it did, what it was told, and what it is owed.

The laws are those of the RFC and of DESIGN's promises, worked out here from what went over the wires and when, never
from what the endpoint says about itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import framebuilder as fb
from pair import Side
from wsframe import (
    Cause,
    CloseFrame,
    CloseReceived,
    Disconnected,
    Event,
    Initiator,
    Limits,
    Message,
    MessageChunk,
    Opened,
    PingReceived,
    PongReceived,
    RequestReceived,
    Role,
    State,
    Timeouts,
    Transport,
)

#: Hard cap, the largest message, pongs, and a control frame or two.
LIMITS = Limits(
    max_message_size=5000, max_pong_bytes=300, write_low_water=1, write_high_water=1, write_hard_cap=4000
)
LARGEST = 3000
MOST_BUFFERED = LIMITS.write_hard_cap + LARGEST + LIMITS.max_pong_bytes + 3 * 131

#: Pongs that wait, and the one that is released when there is room.
_MOST_PONGS = LIMITS.max_pong_bytes + 125

#: After a ping timeout the core takes so long to look once more.
GRACE = 0.1
#: What adding seconds up may lose.
SLACK = 1e-6

#: What a failing endpoint says, by cause.
FAREWELLS = {
    Cause.PROTOCOL_ERROR: 1002,
    Cause.INVALID_DATA: 1007,
    Cause.TOO_BIG: 1009,
    Cause.SLOW_PEER: 1013,
    Cause.PING_TIMEOUT: 1011,
    Cause.IDLE_TIMEOUT: 1001,
}
PEERS_FAULT = (Cause.PROTOCOL_ERROR, Cause.INVALID_DATA, Cause.TOO_BIG)
INITIATORS = {
    Cause.EOF: Initiator.REMOTE,
    Cause.TRUNCATED: Initiator.REMOTE,
    Cause.RESET: Initiator.TRANSPORT,
    Cause.TRANSPORT_ERROR: Initiator.TRANSPORT,
}

Data = str | bytes


class Actor(Side):
    """One of two endpoints, with an honest adapter.

    Args:
        endpoint: a `Connection`, or a `Client` or a `Server` before the opening handshake.
        timeouts: its deadlines.
        now: the time at which it begins.
        half_close: the transport can be closed in one direction.
        lazy: what ``receive_data`` keeps back is taken only when somebody asks for more.
        fin_held: the end of the peer's stream is still on its way when what was before it has come.
        holds_back: what the wire does not take stays with the endpoint, except for one portion.
        decode_text: as the endpoint was told.
    """

    #: Of any of the three kinds.
    endpoint: Any

    def __init__(
        self,
        endpoint: Any,
        timeouts: Timeouts,
        now: float,
        *,
        half_close: bool,
        lazy: bool,
        fin_held: bool,
        holds_back: bool,
        decode_text: bool,
    ) -> None:
        super().__init__(endpoint, half_close=half_close)
        self.timeouts = timeouts
        self.lazy = lazy
        self.fin_held = fin_held
        self.holds_back = holds_back
        self.decode_text = decode_text
        self.other: Actor
        self.opens = endpoint.connection is None
        self.now = self.began = now
        # What it did.
        self.sent: list[Data] = []
        self.begun: Data | None = None
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.wanted_close: CloseFrame | None = None
        self.aborted = False
        self.refused = False
        self.overflowed = False
        #: What it had sent when something went out that no endpoint may send.
        self.poisoned_at: int | None = None
        # What it was told.
        self.delivered: list[Data] = []
        self.partial: Data | None = None
        self.request_waits = False
        self.close_received = False
        self.handed_before_close = 0
        self.reset_seen = False
        # When.
        self.opened_at = None if self.opens else now
        self.closing_since: float | None = None
        self.quiet_since: float | None = None
        self.gone_at: float | None = None
        self.last_heard: float | None = None
        self.last_life = now
        self.last_message = now
        self.last_progress = now
        self.watched_since = now
        self.late_at = now
        self.ever_paused = False
        self.flushed = 0

    # Being an adapter.

    def tell(self, function: Callable[..., list[Event]], *arguments: Any) -> list[Event]:
        state = self.endpoint.state
        name = function.__name__
        if name == "receive_data" and arguments[0] and state is not State.CLOSED:
            self.last_heard = self.now
            if state is not State.CLOSING:
                self.last_life = self.now
        self.reset_seen |= name == "receive_error"
        if name == "transport_closed":
            self.gone_at = self.now
        events = super().tell(function, *arguments)
        for event in events:
            self._hear(event, state)
        if state is State.OPEN and name == "receive_data" and self.close_received:
            # What came before a Close can still be answered: it is never in one call with the Close.
            assert not any(isinstance(event, Message | MessageChunk) for event in events)
        return events

    def _hear(self, event: Event, state: State) -> None:
        assert not isinstance(self.events[-1], Disconnected) or event in self.events
        if isinstance(event, Message | MessageChunk | PingReceived | PongReceived):
            # s5.5.1, s1.4: nothing after a Close frame, and nothing after our own.
            assert state in (State.CONNECTING, State.HANDSHAKE, State.OPEN)
            assert not self.close_received
        match event:
            case Message(data, opcode):
                assert (opcode == fb.TEXT) == event.is_text
                assert self.partial is None
                self._deliver(data, final=True, is_text=event.is_text)
            case MessageChunk(data, opcode, first, final):
                assert first == (self.partial is None)
                whole = data if self.partial is None else self.partial + data  # type: ignore[operator]
                self._deliver(whole, final=final, is_text=opcode == fb.TEXT)
                self.partial = None if final else whole
            case PongReceived(rtt=rtt):
                assert rtt is None or rtt >= 0
            case CloseReceived():
                self.close_received = True
                self.handed_before_close = len(self.handed)
            case RequestReceived(is_websocket=is_websocket):
                assert is_websocket
                self.request_waits = True
            case Opened():
                assert self.opened_at is None
                self.opened_at = self.last_message = self.watched_since = self.last_progress = self.now

    def _deliver(self, data: Data, *, final: bool, is_text: bool) -> None:
        """Delivered is a prefix of sent, of the same kind, and nothing comes from behind a broken frame."""
        other = self.other
        index = len(self.delivered)
        assert index < len(other.sent) if final else index <= len(other.sent)
        assert other.poisoned_at is None or index < other.poisoned_at or not final
        expected = other.sent[index] if index < len(other.sent) else other.begun
        assert expected is not None
        assert isinstance(expected, str) == is_text
        if isinstance(expected, str) and not self.decode_text:
            expected = expected.encode()
        assert type(data) is type(expected)
        assert data == expected if final else expected.startswith(data)  # type: ignore[arg-type]
        if final:
            self.delivered.append(data)
        self.last_message = self.now

    def work(self, now: float) -> None:
        self.now = now
        gone = self.gone
        super().work(now)
        over = self.close_received or Transport.SHUTDOWN_WRITE in self.verdicts
        if not gone and over and not self.buffer and self.quiet_since is None:
            self.quiet_since = now
        if self.gone:
            return
        flushed = len(self.handed) - len(self.buffer)
        endpoint = self.endpoint
        if flushed > self.flushed and endpoint.state < State.CLOSING:
            self.flushed, self.last_progress = flushed, now
        if endpoint.state >= State.CLOSING and self.closing_since is None:
            self.closing_since = now

    def may_take_output(self) -> bool:
        return not (self.holds_back and self.buffer)

    def read_on(self, now: float) -> None:
        if not self.lazy:
            super().read_on(now)

    def receive(self, now: float, count: int | None = None) -> bool:
        self.now = now
        if not self.gone and self.endpoint.has_more:
            # What is kept comes before anything new.
            super().read_on(now)
            self.work(now)
            self._take(now, count)
            return True
        return self._take(now, count)

    def _take(self, now: float, count: int | None) -> bool:
        wire = self.incoming
        if not (self.fin_held and wire.fin):
            return super().receive(now, count)
        wire.fin = False
        arrived = super().receive(now, count)
        wire.fin = True
        return arrived

    def pause(self, paused: bool, now: float) -> None:
        if not self.is_open:
            # Before, the opening handshake has to be found, and afterwards the peer's Close.
            return
        if paused:
            self.ever_paused = True
        elif self.paused:
            self.watched_since = now
        super().pause(paused, now)

    def accept(self) -> None:
        self.request_waits = False
        self.tell(self.endpoint.accept)

    def refuse(self, status: int) -> None:
        self.request_waits = False
        self.refused = True
        self.tell(self.endpoint.reject, status)

    @property
    def is_open(self) -> bool:
        return self.endpoint.state is State.OPEN

    @property
    def patience(self) -> float:
        """Until then, at least, a peer that has not been heard since is not lost."""
        timeouts = self.timeouts
        return self.last_life + (timeouts.ping_interval or 0) + (timeouts.ping_timeout or 0)

    # What must be true at any moment.

    def check_now(self) -> None:
        endpoint = self.endpoint
        assert endpoint.buffered <= MOST_BUFFERED
        assert self.most_buffered <= MOST_BUFFERED
        order = list(Transport)
        assert self.verdicts == sorted(self.verdicts, key=order.index)
        assert (endpoint.state is State.CLOSED) == self.gone
        if not self.gone:
            self._check_deadlines(self.now - SLACK)
            if not self.buffer:
                # It has nothing to say that its adapter does not know of.
                assert endpoint.data_to_send() == []
            elif len(self.buffer) > _MOST_PONGS:
                self._check_pongs()

    def _check_pongs(self) -> None:
        """However many pings come, what waits for a peer that takes nothing is bounded."""
        left = size = 0
        for frame in reversed(self.frames()):
            left += len(frame.payload)
            if left >= len(self.buffer):
                break
            if frame.opcode == fb.PONG:
                size += len(frame.payload)
        assert size <= _MOST_PONGS

    def _check_deadlines(self, now: float) -> None:
        """Whatever is waited for has an end."""
        timeouts = self.timeouts
        endpoint = self.endpoint
        due = endpoint.next_timeout(self.now)
        assert due is None or due > self.now
        # A call that comes too early changes nothing.
        before = endpoint.state, endpoint.transport, endpoint.buffered
        assert endpoint.handle_timeout(self.now) == []
        assert (endpoint.state, endpoint.transport, endpoint.buffered) == before
        assert endpoint.next_timeout(self.now) == due
        if self.closing_since is not None:
            assert due is not None
            assert now < self.closing_since + timeouts.close
            if self.quiet_since is not None:
                assert now < self.quiet_since + self._patience_with_silence()
            return
        if self.opened_at is None:
            assert now < self.began + timeouts.open
            return
        if timeouts.idle is not None:
            assert now < self.last_message + timeouts.idle
        if timeouts.ping_interval is not None and timeouts.ping_timeout is not None and not self.paused:
            heard = max(self.opened_at, self.last_life)
            pinged = max(heard + timeouts.ping_interval, self.watched_since, self.last_progress, self.late_at)
            assert now < pinged + timeouts.ping_timeout + GRACE

    def _patience_with_silence(self) -> float:
        """How long it waits for the end of the peer's stream when all is said."""
        # s7.1.1: after both Close frames a server closes at once, and a client waits, but not long.
        at_once = self.close_received and self.endpoint.role is Role.SERVER
        return 0.0 if at_once else self.timeouts.linger

    # What must be true in the end.

    def check_end(self) -> None:
        ending, other = self.ending, self.other
        assert [event for event in self.events if isinstance(event, Disconnected)] == [ending]
        assert self.events[-1] is ending
        closes = [event for event in self.events if isinstance(event, CloseReceived)]
        assert [(event.code, event.reason) for event in closes] == (
            [] if ending.received is None else [(ending.received.code, ending.received.reason)]
        )
        assert ending.was_websocket == (self.opened_at is not None)
        self._check_codes(ending)
        self._check_cause(ending)
        self._check_when()
        # The two agree where they can. A Close that came had gone.
        if ending.received is not None:
            assert ending.received == other.sent_close
        if ending.clean:
            assert ending.cause in (Cause.CLOSE_HANDSHAKE, Cause.IDLE_TIMEOUT)
            assert ending.received is not None
            assert ending.sent is not None
        if ending.cause is Cause.CLOSE_HANDSHAKE:
            assert ending.clean
            assert ending.initiator is (Initiator.REMOTE if ending.received_first else Initiator.LOCAL)
        if ending.received_first and other.gone:
            # Who got the other's Close before its own went is not the one who began.
            assert other.ending.received_first is False
            if other.ending.clean and other.ending.cause is Cause.CLOSE_HANDSHAKE:
                assert other.ending.initiator is Initiator.LOCAL
        assert (ending.received_first is None) == (ending.received is ending.sent is None)
        if ending.received is not None:
            # Our Close is the last thing that was handed out: before the peer's came, or after.
            answered = ending.sent is None or self.handed_before_close < len(self.handed)
            assert ending.received_first is answered

    def _check_when(self) -> None:
        """The transport went neither too late nor too early."""
        gone, since, quiet = self.gone_at, self.closing_since, self.quiet_since
        assert gone is not None
        latest = max(self.late_at, gone if since is None else since + self.timeouts.close)
        if quiet is not None:
            enough = quiet + self._patience_with_silence()
            latest = min(latest, max(self.late_at, enough))
            if not (self.eof_seen or self.reset_seen or self.aborted):
                assert gone >= min(enough, latest) - SLACK
        assert gone <= latest + SLACK

    @property
    def sent_close(self) -> CloseFrame | None:
        """The Close frame among the bytes that were handed out."""
        frames = self.frames()
        closes = [frame for frame in frames if frame.opcode == fb.CLOSE]
        if not closes:
            return None
        # s5.5.1: nothing after a Close frame.
        assert [frame.opcode for frame in frames].index(fb.CLOSE) == len(frames) - 1
        payload = closes[0].payload
        return (
            CloseFrame(int.from_bytes(payload[:2], "big"), payload[2:].decode())
            if payload
            else CloseFrame(1005, "")
        )

    def frames(self) -> list[fb.ParsedFrame]:
        """What it handed out after the opening handshake: whole frames, masked as its role demands (s5.1)."""
        data = bytes(self.handed)
        if self.opens:
            if self.opened_at is None:
                return []
            data = data.partition(b"\r\n\r\n")[2]
        frames = fb.parse_all(data)
        masked = self.endpoint.role is Role.CLIENT
        assert all(frame.masked is masked for frame in frames)
        return frames

    def _check_codes(self, ending: Disconnected) -> None:
        # s7.1.5: the code of the Close that was received, 1005 when it had none, 1006 without any.
        if ending.received is None:
            assert (ending.code, ending.reason) == (1006, "")
        else:
            assert (ending.code, ending.reason) == (ending.received.code, ending.received.reason)
        assert ending.sent == self.sent_close
        if ending.sent is None:
            return
        if self.wanted_close is not None:
            assert ending.sent == self.wanted_close
        elif ending.cause in FAREWELLS:
            assert ending.sent.code == FAREWELLS[ending.cause]
        else:
            # s5.5.1: the answer to a Close has its code.
            assert ending.received is not None
            assert ending.sent == CloseFrame(ending.received.code, "")

    def _check_cause(self, ending: Disconnected) -> None:
        """The cause is something that happened, and not too early."""
        cause, timeouts, since = ending.cause, self.timeouts, self.closing_since
        begun_at = self.now if since is None else since
        heard = max(self.opened_at or 0.0, self.last_life)
        if cause in FAREWELLS and cause is not Cause.IDLE_TIMEOUT:
            # What comes after a failure is thrown away.
            assert ending.received is None
        if cause in PEERS_FAULT:
            assert self.other.poisoned_at is not None
        elif cause is Cause.RESET:
            assert self.reset_seen
        elif cause in (Cause.EOF, Cause.TRUNCATED):
            assert self.eof_seen
        elif cause is Cause.LOCAL_ABORT:
            assert self.aborted
        elif cause is Cause.REJECTED:
            assert self.refused or self.other.refused or self.other.ending.cause is Cause.OPEN_TIMEOUT
            assert ending.initiator is (Initiator.LOCAL if self.refused else Initiator.REMOTE)
        elif cause is Cause.OPEN_TIMEOUT:
            assert begun_at >= self.began + timeouts.open - SLACK
        elif cause is Cause.CLOSE_TIMEOUT:
            assert since is not None
            assert self.now >= since + timeouts.close - SLACK
        elif cause is Cause.IDLE_TIMEOUT:
            assert timeouts.idle is not None
            assert begun_at >= self.last_message + timeouts.idle - SLACK
        elif cause is Cause.PING_TIMEOUT:
            assert timeouts.ping_interval is not None
            assert timeouts.ping_timeout is not None
            # As long as nobody reads, silence means nothing.
            assert not self.paused
            silence = timeouts.ping_timeout + (0 if self.ever_paused else timeouts.ping_interval)
            assert begun_at >= heard + silence - SLACK
            # Nobody is there to wait for.
            assert self.verdicts[-1] is Transport.ABORT
        elif cause is Cause.SLOW_PEER:
            stalled = timeouts.ping_timeout is not None and (
                begun_at >= max(self.last_progress, heard) + timeouts.ping_timeout - SLACK
            )
            took_nothing = (
                timeouts.write is not None and begun_at >= self.last_progress + timeouts.write - SLACK
            )
            assert self.overflowed or (stalled and not self.paused) or took_nothing
        else:
            assert cause is Cause.CLOSE_HANDSHAKE
        if cause not in (Cause.CLOSE_HANDSHAKE, Cause.CLOSE_TIMEOUT, Cause.REJECTED):
            assert ending.initiator is INITIATORS.get(cause, Initiator.LOCAL)
        if ending.last_received_age is None:
            # What comes after the verdict is thrown away unseen.
            assert self.last_heard is None or self.last_heard >= begun_at
        else:
            assert self.last_heard is not None
            assert -SLACK <= ending.last_received_age <= self.now - self.began + SLACK
