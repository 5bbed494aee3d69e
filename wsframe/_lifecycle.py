"""What every endpoint shares: the output queue, terminal facts, the transport verdict, and the one ending.

The rules are in ``_state.py``. ``Connection``, ``Server`` and ``Client`` derive from `Lifecycle`.
"""

from __future__ import annotations

from ._backend import Traffic
from ._config import Limits, Timeouts
from ._enums import Cause, Initiator, Role, State, Transport
from ._events import CloseFrame, Disconnected, Event
from ._state import INITIATORS, VERDICT_ORDER, Fact, next_state
from ._timers import Timer, Timers

__all__ = ["Lifecycle"]

#: Causes that an adapter may report.
_TRANSPORT_CAUSES = (Cause.RESET, Cause.TLS_ERROR, Cause.TRANSPORT_ERROR)

#: Endings that count as clean when both Close frames were exchanged: ours did not complain about the peer.
_CLEAN_CAUSES = (Cause.CLOSE_HANDSHAKE, Cause.IDLE_TIMEOUT)


class Lifecycle:
    """Base of the endpoints: from the first fact to ``Disconnected``."""

    __slots__ = (
        "_age",
        "_age_known",
        "_cause",
        "_discard",
        "_eof",
        "_error",
        "_initiator",
        "_linger_wanted",
        "_now",
        "_out",
        "_phase",
        "_received",
        "_received_first",
        "_sent",
        "_timers",
        "_unanswered",
        "ending",
        "limits",
        "role",
        "state",
        "timeouts",
        "traffic",
        "transport",
    )

    def __init__(self, role: Role, state: State, limits: Limits | None, timeouts: Timeouts | None) -> None:
        self.role = role
        self.state = state
        self.limits = Limits.for_role(role) if limits is None else limits
        self.timeouts = Timeouts() if timeouts is None else timeouts
        self.transport = Transport.OPEN
        self.ending: Disconnected | None = None
        self.traffic = Traffic()
        # Output: what waits in the core; None while nothing does.
        self._out: list[bytes] | None = None
        # The facts.
        self._cause: Cause | None = None
        self._phase = state
        self._initiator: Initiator | None = None
        self._error: BaseException | None = None
        self._received: CloseFrame | None = None
        self._sent: CloseFrame | None = None
        self._received_first: bool | None = None
        self._eof = False
        self._discard = False
        self._timers = Timers()
        self._now = 0.0
        # Seconds from the last byte to the first terminal fact, once the time of that is known.
        self._age: float | None = None
        self._age_known = False
        self._unanswered: float | None = None
        self._linger_wanted = False

    # What an adapter calls.

    def receive_data(self, data: bytes | bytearray | memoryview, now: float = 0.0) -> list[Event]:
        """Take received bytes and return what they mean. Never raises for anything that a peer can send."""
        raise NotImplementedError

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Begin to end the connection in an orderly way. Idempotent."""
        raise NotImplementedError

    def reading_paused(self, paused: bool) -> None:
        """The adapter stopped or resumed reading. Before a connection is OPEN that makes no difference."""

    def data_to_send(self) -> list[bytes]:
        """Bytes to write, in order; [] when there are none. What was handed out counts as sent."""
        out = self._out
        if out is None:
            return []
        self._out = None
        self.traffic.hand_out()
        self._on_handed_out()
        return out

    def unsent(self, n: int) -> None:
        """Of the bytes handed out so far, ``n`` are still with the adapter.

        More than was handed out is taken for everything: a TLS layer's buffer is larger than what went into it.

        Raises:
            ValueError: ``n`` is negative.
        """
        if n < 0:
            raise ValueError(f"unsent({n}): there cannot be less than nothing")
        self.traffic.unsent = min(n, self.traffic.handed)

    @property
    def buffered(self) -> int:
        """Bytes that are queued here or, as far as ``unsent`` told, with the adapter."""
        return self.traffic.queued - self.traffic.handed + self.traffic.unsent

    def receive_eof(self) -> list[Event]:
        """The peer will send no more (its FIN, or TLS close_notify). Idempotent."""
        if self._eof or self.state is State.CLOSED:
            return []
        self._eof = True
        events: list[Event] = []
        self._on_eof(events)
        return events

    def receive_error(self, exc: BaseException, cause: Cause) -> list[Event]:
        """The transport failed. What was received before and is still undelivered comes first.

        Args:
            exc: what the system reported; it becomes ``Disconnected.error``, without its traceback.
            cause: RESET, TLS_ERROR or TRANSPORT_ERROR.

        Raises:
            ValueError: another cause.
        """
        if cause not in _TRANSPORT_CAUSES:
            raise ValueError(f"an adapter reports RESET, TLS_ERROR or TRANSPORT_ERROR, not {cause.name}")
        events: list[Event] = []
        if self.state is not State.CLOSED:
            self._deliver_rest(events)
            # Not its traceback, whose frames hold on to the adapter, and that to this: nobody but the garbage
            # collector could free it.
            self._terminate(cause, error=exc.with_traceback(None))
            self._drop_output()
            self._verdict(Transport.ABORT)
        return events

    def transport_closed(self) -> list[Event]:
        """The transport is gone. Emits ``Disconnected``, and before it what was still undelivered; once."""
        if self.state is State.CLOSED:
            return []
        events: list[Event] = []
        self._deliver_rest(events)
        if self._cause is None:
            # Gone without a reason: after an EOF that is it, else somebody closed it under us.
            self._terminate(Cause.EOF if self._eof else Cause.TRANSPORT_ERROR)
        events.append(self._end())
        return events

    def next_timeout(self, now: float) -> float | None:
        """When to call ``handle_timeout``, on the clock of ``now``; None when there is nothing to wait for."""
        self._now = now
        if self.traffic.untimed:
            self._tick(now)
        return self._timers.next()

    def handle_timeout(self, now: float) -> list[Event]:
        """Time has passed. A call that comes too early changes nothing."""
        self._tick(now)
        events: list[Event] = []
        for timer in self._timers.due(now):
            if not self._timers.take(timer, now):
                # The one before has stopped or moved it.
                continue
            if timer is Timer.CLOSE:
                # Everything has to happen inside the close timeout, whatever the peer or the buffers do.
                self._terminate(Cause.CLOSE_TIMEOUT)
                self._verdict(Transport.ABORT)
            elif timer is Timer.LINGER:
                self._verdict(Transport.CLOSE)
            else:
                self._on_timer(timer, now, events)
        if self.traffic.untimed:
            self._tick(now)
        return events

    def abort(self) -> None:
        """End the connection at once: nothing more is sent, and the verdict is ABORT."""
        if self.state is not State.CLOSED:
            self._terminate(Cause.LOCAL_ABORT)
            self._drop_output()
            self._verdict(Transport.ABORT)

    def take_over(self, before: Lifecycle) -> None:
        """Go on where the endpoint of the opening handshake ended: its output, its counters, its clock."""
        if before._out is not None:
            self._out = before._out + (self._out or [])
        self.traffic.queued += before.traffic.queued
        self.traffic.handed = before.traffic.handed
        self.traffic.unsent = before.traffic.unsent
        self.traffic.bytes_in = before.traffic.bytes_in
        self._now = before._now
        self.traffic.last_received = before.traffic.last_received
        self._eof = before._eof

    # What derived classes add.

    def _on_handed_out(self) -> None:
        """The output queue was handed to the adapter."""

    def _on_eof(self, events: list[Event]) -> None:
        """The first EOF."""

    def _deliver_rest(self, events: list[Event]) -> None:
        """Deliver what was received and not yet delivered."""

    def _on_timer(self, timer: Timer, now: float, events: list[Event]) -> None:
        """A timer other than CLOSE and LINGER has expired."""

    def _on_tick(self, now: float) -> bool:
        """Time is known; return whether something still waits for a later one."""
        return False

    def _was_websocket(self) -> bool:
        return False

    def _unanswered_since(self) -> float | None:
        """When the last keepalive ping had left, if nothing came that answers it."""
        return None

    # What derived classes call.

    def _write(self, data: bytes) -> None:
        if self._out is None:
            self._out = [data]
        else:
            self._out.append(data)
        self.traffic.queue(len(data))

    def _write_on(self, data: bytes) -> None:
        """As ``_write``, for what belongs to the frame that was begun with it."""
        assert self._out is not None
        self._out.append(data)
        self.traffic.queued += len(data)

    def _drop_output(self) -> None:
        """Throw away what was not handed out."""
        self._out = None
        self.traffic.queued = self.traffic.handed

    def _advance(self, fact: Fact) -> None:
        """The only way from one state to another."""
        self.state = next_state(self.state, fact)

    def _verdict(self, transport: Transport) -> None:
        """Move the transport verdict on; it never goes back."""
        if VERDICT_ORDER[transport] > VERDICT_ORDER[self.transport]:
            self.transport = transport
        if VERDICT_ORDER[transport] >= VERDICT_ORDER[Transport.CLOSE]:
            self._linger_wanted = False
            self._timers.stop(Timer.LINGER)
            if transport is Transport.ABORT:
                self._stop_receiving()
                self._timers.stop_all()

    def _stop_receiving(self) -> None:
        """From now on input is thrown away unseen."""
        self._discard = True

    def _terminate(
        self, cause: Cause, *, error: BaseException | None = None, initiator: Initiator | None = None
    ) -> None:
        """A terminal fact: the first one fixes cause and phase for good."""
        if self._cause is not None:
            return
        self._timers.stop(Timer.OPEN)
        self._cause = cause
        self._phase = self.state
        self._error = error
        self._initiator = initiator
        self._advance(Fact.TERMINAL)
        self._start_close_timer()

    def _start_close_timer(self) -> None:
        if not self._timers.running(Timer.CLOSE):
            self._timers.start(Timer.CLOSE, self.timeouts.close)
        self.traffic.untimed = True

    def _linger(self) -> None:
        """Wait for the peer's EOF, but only so long once our bytes have left."""
        if self._eof:
            self._verdict(Transport.CLOSE)
        elif self.transport not in (Transport.CLOSE, Transport.ABORT):
            self._linger_wanted = True
            self.traffic.untimed = True

    def _tick(self, now: float) -> None:
        """Take note of the time: what was waiting for it begins to run."""
        self._now = now
        self._timers.tick(now)
        self._note_age(now)
        if self._linger_wanted and not self._out and not self.traffic.unsent:
            self._linger_wanted = False
            self._timers.start(Timer.LINGER, self.timeouts.linger, now)
        self.traffic.untimed = self._on_tick(now) or self._linger_wanted

    def _note_age(self, now: float) -> None:
        """How old the last byte is, and a ping: once, at the first time that is known after a terminal fact."""
        if self._cause is not None and not self._age_known:
            self._age_known = True
            if self.traffic.last_received is not None:
                self._age = max(0.0, now - self.traffic.last_received)
            since = self._unanswered_since()
            if since is not None:
                self._unanswered = max(0.0, now - since)

    def _end(self) -> Disconnected:
        cause = self._cause
        assert cause is not None
        initiator = self._initiator or INITIATORS[cause]
        if initiator is None:
            initiator = Initiator.REMOTE if self._received_first else Initiator.LOCAL
        was_websocket = self._was_websocket()
        self._note_age(self._now)
        code, reason = 1006, ""
        if self._received is not None:
            # s7.1.5: the code of the first Close frame received, 1005 without one in it, 1006 without a frame.
            code, reason = self._received.code, self._received.reason
        elif cause is Cause.TLS_ERROR and self._phase is State.CONNECTING and self._age is None:
            # s7.4.1: 1015 is for a TLS handshake that failed, so nothing has come through it yet.
            code = 1015
        self._advance(Fact.TRANSPORT_CLOSED)
        self._drop_output()
        self._timers.stop_all()
        self.traffic.untimed = self._linger_wanted = False
        self._stop_receiving()
        self._verdict(Transport.CLOSE)
        self.ending = Disconnected(
            phase=self._phase,
            cause=cause,
            initiator=initiator,
            clean=cause in _CLEAN_CAUSES and self._received is not None and self._sent is not None,
            code=code,
            reason=reason,
            received=self._received,
            sent=self._sent,
            received_first=self._received_first,
            was_websocket=was_websocket,
            error=self._error,
            last_received_age=self._age,
            unanswered_ping=self._unanswered,
        )
        return self.ending
