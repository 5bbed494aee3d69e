"""Two endpoints on a virtual clock, with a conforming adapter around each and wires between them.

A `Side` does what an adapter has to do: it writes what ``data_to_send`` gives, reports ``unsent``, obeys the
``transport`` verdict and calls ``handle_timeout`` when it is time. Its outgoing wire may be narrow (bytes stay with the
adapter), and bytes on it arrive only when a test says so. The wires know what TCP knows: FIN behind the bytes, and RST
instead of them when a transport is closed with unread input, or written to when it is gone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import framebuilder as fb
from wsframe import (
    Cause,
    Connection,
    Disconnected,
    Event,
    Limits,
    Role,
    State,
    Timeouts,
    Transport,
)
from wsframe._extension import PerMessageExtension


def counting_bytes() -> Callable[[int], bytes]:
    """Entropy for tests: different every time, the same in every run."""
    counter = itertools.count(1)
    return lambda n: b"".join((next(counter) & 0xFFFFFFFF).to_bytes(4, "big") for _ in range(n // 4 + 1))[:n]


def peer_frame(role: Role, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A frame as the peer of that role sends it."""
    return fb.build(opcode, payload, fin=fin, rsv=rsv, mask=fb.SAMPLE_MASK if role is Role.SERVER else None)


def peer_close(role: Role, code: int | None = None, reason: bytes = b"") -> bytes:
    """The same for a Close frame."""
    return peer_frame(role, fb.CLOSE, fb.close_payload(code, reason))


def sent_frames(endpoint: Connection) -> list[tuple[int, bytes]]:
    """What the endpoint hands out, as (opcode, payload); with the masking that its role demands (s5.1)."""
    frames = fb.parse_all(b"".join(endpoint.data_to_send()))
    assert all(frame.masked == (endpoint.role is Role.CLIENT) for frame in frames)
    return [(frame.opcode, frame.payload) for frame in frames]


def look(endpoint: Connection) -> tuple[State, Transport]:
    """How far it is, and what is to be done with the transport."""
    return endpoint.state, endpoint.transport


def lose(endpoint: Connection) -> Disconnected:
    """The transport is gone; what was the ending?"""
    events = endpoint.transport_closed()
    assert isinstance(events[-1], Disconnected)
    return events[-1]


class Wire:
    """One direction: bytes on their way, and perhaps an end behind them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.fin = False
        self.rst = False
        #: Bytes it takes before the sender has to wait; None for any number.
        self.capacity: int | None = None
        #: What is written disappears, and nobody is told.
        self.dead = False
        #: Somebody on the way has put the FIN there: what is written from now on goes nowhere.
        self.severed = False

    def room(self) -> int | None:
        return None if self.capacity is None else max(0, self.capacity - len(self.data))


class Side:
    """An endpoint and its adapter."""

    def __init__(self, endpoint: Connection, *, half_close: bool = True) -> None:
        self.endpoint = endpoint
        self.incoming = Wire()
        self.outgoing = Wire()
        self.buffer = bytearray()
        #: All that the endpoint has handed out.
        self.handed = bytearray()
        self.events: list[Event] = []
        self.verdicts: list[Transport] = [Transport.OPEN]
        self.half_close = half_close
        self.shut = False
        self.paused = False
        self.eof_seen = False
        self.most_buffered = 0

    @property
    def gone(self) -> bool:
        return self.endpoint.ending is not None

    @property
    def ending(self) -> Disconnected:
        assert self.endpoint.ending is not None
        return self.endpoint.ending

    def tell(self, function: Callable[..., list[Event]], *arguments: Any) -> list[Event]:
        """Call the endpoint and keep the events. Every event comes this way."""
        events = function(*arguments)
        self.events += events
        return events

    def work(self, now: float) -> None:
        """What an adapter does after every call."""
        if self.gone:
            return
        endpoint = self.endpoint
        self._write()
        self.most_buffered = max(self.most_buffered, endpoint.buffered)
        verdict = endpoint.transport
        if verdict is not self.verdicts[-1]:
            self.verdicts.append(verdict)
        if verdict is Transport.ABORT:
            self.outgoing.rst = True
            self._lose()
        elif verdict is Transport.CLOSE and not self.buffer:
            if self.incoming.data and not self.outgoing.dead:
                # Closing with unread input makes the kernel send RST, and what was on its way to the peer is lost.
                self.outgoing.rst = True
            self.outgoing.fin = True
            self._lose()
        elif (
            verdict is Transport.SHUTDOWN_WRITE
            and not self.buffer
            and self.half_close
            and not self.outgoing.fin
        ):
            self.outgoing.fin = True
        if not self.gone:
            endpoint.next_timeout(now)

    def may_take_output(self) -> bool:
        """Whether the adapter takes more than it has, or leaves it with the endpoint."""
        return True

    def _write(self) -> None:
        self._flush()
        # What has left may have made room for more.
        while self.may_take_output() and (out := self.endpoint.data_to_send()):
            self.handed += b"".join(out)
            self.buffer += b"".join(out)
            self._flush()

    def _flush(self) -> None:
        room = self.outgoing.room()
        count = len(self.buffer) if room is None else min(room, len(self.buffer))
        if not self.outgoing.dead and not self.outgoing.severed:
            assert not count or not self.outgoing.fin, "written after the end of the stream"
            self.outgoing.data += self.buffer[:count]
        del self.buffer[:count]
        self.endpoint.unsent(len(self.buffer))

    def _lose(self) -> None:
        self.tell(self.endpoint.transport_closed)

    def receive(self, now: float, count: int | None = None) -> bool:
        """Read what has arrived, or so many bytes of it; True when there was something."""
        wire = self.incoming
        if self.gone:
            if wire.data and not self.outgoing.dead:
                # Nobody is there any more.
                self.outgoing.rst = True
            wire.data.clear()
            return False
        if wire.dead or (self.paused and self.endpoint.state is State.OPEN):
            # While it is ending, an adapter always reads: the peer's Close has to be found.
            return False
        if wire.rst:
            wire.data.clear()
            self.tell(self.endpoint.receive_error, ConnectionResetError("reset by peer"), Cause.RESET)
            self._lose()
            return True
        taken = bytes(wire.data[:count])
        del wire.data[:count]
        if taken:
            self.tell(self.endpoint.receive_data, taken, now)
            self.read_on(now)
        if wire.fin and not wire.data and not self.eof_seen:
            self.eof_seen = True
            self.tell(self.endpoint.receive_eof)
            taken += b"!"
        self.work(now)
        return bool(taken)

    def read_on(self, now: float) -> None:
        """What is kept comes first."""
        rounds = 0
        while self.endpoint.has_more:
            self.tell(self.endpoint.receive_data, b"", now)
            rounds += 1
            assert rounds < 10000, "has_more never ends"

    def pause(self, paused: bool, now: float) -> None:
        if self.paused != paused and not self.gone:
            self.paused = paused
            self.endpoint.reading_paused(paused)
            self.work(now)


class Pair:
    """A client and a server, open at once, that differ from a real connection in nothing but time."""

    def __init__(
        self,
        *,
        client_timeouts: Timeouts | None = None,
        server_timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        extensions: tuple[PerMessageExtension | None, PerMessageExtension | None] = (None, None),
        half_close: bool = True,
    ) -> None:
        sides = []
        for role, timeouts, extension in zip(
            (Role.CLIENT, Role.SERVER), (client_timeouts, server_timeouts), extensions, strict=True
        ):
            connection = Connection(
                role,
                limits=limits,
                timeouts=timeouts,
                extensions=() if extension is None else (extension,),
                random_bytes=counting_bytes(),
            )
            sides.append(Side(connection, half_close=half_close))
        self.join(*sides)

    def join(self, client: Side, server: Side) -> None:
        """Lay the wires between two sides, and begin."""
        self.now = 1000.0
        self.client, self.server = client, server
        self.client.incoming = self.server.outgoing
        self.server.incoming = self.client.outgoing
        self.work()

    @property
    def sides(self) -> tuple[Side, Side]:
        return self.client, self.server

    def work(self) -> None:
        for side in self.sides:
            side.work(self.now)

    def deliver(self, side: Side, count: int | None = None) -> bool:
        """Let bytes arrive at a side: ``count`` of them, or all."""
        arrived = side.receive(self.now, count)
        self.work()
        return arrived

    def settle(self) -> None:
        """Deliver until nothing is on its way."""
        for _ in range(10000):
            self.work()
            arrived = [self.deliver(side) for side in self.sides]
            if not any(arrived):
                return
        raise AssertionError("they never come to rest")

    def cut(self) -> None:
        """The network is gone, and nobody is told."""
        for side in self.sides:
            side.outgoing.dead = True
            side.outgoing.data.clear()

    def reset(self) -> None:
        """Both sides see a reset."""
        for side in self.sides:
            side.incoming.rst = True

    def pass_time(self, seconds: float, *, settle: bool = False) -> None:
        """Let time pass, with every deadline met; with ``settle``, bytes arrive at once."""
        until = self.now + seconds
        for _ in range(10000):
            if settle:
                self.settle()
            deadlines = [
                deadline
                for side in self.sides
                if (deadline := side.endpoint.next_timeout(self.now)) is not None
            ]
            if not deadlines or min(deadlines) > until:
                self.now = until
                break
            self.now = max(self.now, min(deadlines))
            for side in self.sides:
                due = side.endpoint.next_timeout(self.now)
                if due is not None and due <= self.now:
                    side.tell(side.endpoint.handle_timeout, self.now)
                    side.work(self.now)
        else:
            raise AssertionError("deadlines that never end")
        if settle:
            self.settle()


def assert_over(side: Side, now: float) -> None:
    """Exactly one Disconnected, the last event, and nothing after it."""
    endpoint = side.endpoint
    assert endpoint.state is State.CLOSED
    assert [event for event in side.events if isinstance(event, Disconnected)] == [endpoint.ending]
    assert side.events[-1] is endpoint.ending
    assert endpoint.data_to_send() == []
    assert endpoint.next_timeout(now) is None
    assert endpoint.handle_timeout(now + 1e6) == []
    assert endpoint.next_timeout(now + 1e6) is None
    assert endpoint.receive_data(b"\x81\x01a", now) == []
    assert not endpoint.has_more
    assert endpoint.receive_eof() == []
    assert endpoint.receive_error(OSError(), Cause.RESET) == []
    assert endpoint.transport_closed() == []
    endpoint.close()
    endpoint.abort()
    endpoint.reading_paused(True)
    endpoint.reading_paused(False)
    assert endpoint.data_to_send() == []
    assert endpoint.next_timeout(now) is None
    if side.ending.cause is Cause.DETACHED:
        assert endpoint.transport is Transport.OPEN
    else:
        assert endpoint.transport in (Transport.CLOSE, Transport.ABORT)
