"""The express lane: what it takes and what it leaves to others, what it counts, and what leaves when."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import framebuilder as fb
from pair import counting_bytes, peer_close, peer_frame
from wsframe import Connection, Event, Message, Role, _backend

NOW = 1000.0


class StillLoop:
    """An event loop that does nothing; what it shall call is kept."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []
        self.writers: dict[int, Callable[[], object]] = {}

    def call_soon(self, callback: Callable[..., object], *arguments: Any, context: Any = None) -> None:
        self.soon.append(lambda: callback(*arguments))

    def add_reader(self, *_: Any) -> None:
        pass

    def remove_reader(self, *_: Any) -> None:
        pass

    def add_writer(self, descriptor: int, callback: Callable[[], object]) -> None:
        self.writers[descriptor] = callback

    def remove_writer(self, descriptor: int) -> None:
        del self.writers[descriptor]


class Wire:
    """A lane of a real connection, with a channel that is this, and a list in place of a peer.

    Args:
        twin: what has the classes.
        role: of the connection.
        own: write to a transport on a descriptor of its own.
        inbox: messages go there; else to ``on_message``, which tests may replace.
    """

    def __init__(
        self, twin: Any, role: Role = Role.SERVER, *, own: bool = False, inbox: bool = False, room: int = 16
    ) -> None:
        self.log: list[Any] = []
        self.writes: list[bytes] = []
        self.failures: list[BaseException] = []
        self.connection = Connection(role, random_bytes=counting_bytes())
        self.buffer = memoryview(bytearray(1 << 18))
        self.loop = StillLoop()
        self.transport: Any = None
        self.inbox: Any = None
        self.on_message: Callable[[Any], object] = lambda data: self.log.append(("message", data))
        if own:
            ours, self.peer = socket.socketpair()
            for sock in (ours, self.peer):
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            self.transport = twin.SocketTransport(self.loop, ours, self, self.buffer)
            self._ours = ours
        if inbox:
            self.inbox = twin.Inbox(
                room,
                1 << 20,
                self.loop,
                lambda _: None,
                ValueError,
                self,
            )
        self.lane: Any = twin.Lane(
            self.connection,
            self,
            lambda: NOW,
            role is Role.CLIENT,
            _backend.encode_frame,
            _backend.encode_header,
            transport=self.transport,
            write=self.writes.append,
            inbox=self.inbox,
            on_message=None if inbox else lambda _, data: self.on_message(data),
            websocket=self,
            failed=self.failures.append,
        )
        # What every connection waits for in the beginning.
        self.connection.next_timeout(NOW)

    # For the inbox.

    def why_over(self, iterating: bool) -> None:
        return None

    def has_room(self) -> None:
        self.note("room")

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.lane.close()
        if self.transport is not None:
            self._ours.close()
            self.peer.close()

    def note(self, what: Any) -> None:
        self.log.append(what)

    def give(self, data: bytes) -> bool:
        """Let these bytes be received."""
        self.buffer[: len(data)] = data
        taken: bool = self.lane.receive(self.buffer, len(data))
        return taken

    def written(self) -> bytes:
        """What has left since the last time."""
        if self.transport is None:
            taken = b"".join(self.writes)
            self.writes.clear()
            return taken
        pieces: list[bytes] = []
        while True:
            try:
                pieces.append(self.peer.recv(1 << 20))
            except BlockingIOError:
                break
            for callback in list(self.loop.writers.values()):
                callback()
        return b"".join(pieces)

    @property
    def counters(self) -> tuple[Any, ...]:
        traffic = self.connection.traffic
        return (
            traffic.queued,
            traffic.handed,
            traffic.unsent,
            traffic.bytes_in,
            traffic.messages_in,
            traffic.frames_out,
            traffic.messages_out,
            traffic.last_received,
            traffic.alive,
            traffic.untimed,
            traffic.has_more,
            traffic.in_order,
            traffic.plain,
        )

    # What a channel does.

    def take_decoded(self, messages: list[Event], rest: Any) -> None:
        assert not isinstance(rest, Exception) or isinstance(rest, _backend.CodecError), rest
        self.events(self.connection.take_decoded(messages, rest, NOW))

    def events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Message):
                self.note(("event", event.data))
            else:
                self.note(("event", type(event).__name__))
        self.advance()

    def advance(self) -> None:
        self.note("advance")
        if self.lane.corked:
            return
        self.lane.flush()
        out = b"".join(self.connection.data_to_send())
        if out and self.transport is not None:
            self.transport.write(out)
        elif out:
            self.writes.append(out)
        self.connection.unsent(0)
        self.connection.next_timeout(NOW)

    def advance_soon(self) -> None:
        self.note("advance_soon")

    def tell_unsent(self) -> None:
        self.note("tell_unsent")

    def update_reading(self) -> None:
        self.note("update_reading")

    # What a protocol is told.

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")


def text(content: str, role: Role = Role.SERVER) -> bytes:
    return peer_frame(role, fb.TEXT, content.encode())


BOTH = pytest.mark.parametrize("own", [False, True], ids=["write", "own"])


# What is not ordinary.


@pytest.mark.parametrize(("flag", "value"), [("in_order", False), ("has_more", True), ("untimed", True)])
def test_it_receives_nothing_where_something_unusual_goes_on(flag: str, value: bool) -> None:
    with Wire(_backend) as wire:
        setattr(wire.connection.traffic, flag, value)
        before = wire.counters
        assert wire.give(text("hello")) is False
        assert wire.counters == before
        assert wire.log == []
        setattr(wire.connection.traffic, flag, not value)
        assert wire.give(text("hello")) is True
        assert wire.log == [("message", "hello")]
        assert wire.counters != before


@BOTH
@pytest.mark.parametrize("how", ["plain", "queued", "unsent", "closed"])
def test_it_sends_nothing_where_something_unusual_goes_on(own: bool, how: str) -> None:
    with Wire(_backend, own=own) as wire:
        traffic = wire.connection.traffic
        if how == "plain":
            traffic.plain = False
        elif how == "queued":
            wire.connection.ping(b"x", NOW)
        elif how == "unsent":
            if own:
                # That something has not left counts as long as it is so.
                while not wire.transport.get_write_buffer_size():
                    wire.transport.write(bytes(100_000))
            traffic.unsent = 1
        else:
            wire.lane.close()
        before = wire.counters
        for send in (wire.lane.send, wire.lane.send_nowait, wire.lane.send_framed):
            assert send(b"hello") is False
        assert wire.counters == before
        assert wire.lane.burst == 0
        wire.lane.flush()
        assert b"hello" not in wire.written()


def test_a_transport_that_is_closing_takes_nothing() -> None:
    with Wire(_backend, own=True) as wire:
        wire.transport.close()
        before = wire.counters
        assert wire.lane.send("hello") is False
        assert wire.lane.send_framed(b"hello") is False
        assert wire.counters == before


def test_what_had_not_left_does_not_count_once_it_has() -> None:
    with Wire(_backend, own=True) as wire:
        wire.connection.traffic.unsent = 1
        assert wire.lane.send("hello") is True
        assert wire.connection.traffic.unsent == 0


@pytest.mark.parametrize(
    "message", [bytearray(b"x"), memoryview(b"x"), 5, None, "\ud800", type("S", (str,), {})("x")]
)
def test_what_is_no_ordinary_message_is_left_to_others(message: object) -> None:
    with Wire(_backend) as wire:
        before = wire.counters
        assert wire.lane.send(message) is False
        assert wire.lane.send_nowait(message) is False
        assert wire.counters == before
        assert wire.written() == b""


@pytest.mark.parametrize("role", Role)
def test_a_control_frame_is_handed_on_with_the_messages_before_it(role: Role) -> None:
    with Wire(_backend, role) as wire:
        assert wire.give(text("a", role) + peer_frame(role, fb.PING, b"x") + text("b", role)) is True
        assert wire.log == [("event", "a"), ("event", "PingReceived"), ("event", "b"), "advance"]
        (pong,) = fb.parse_all(wire.written())
        assert (pong.opcode, pong.payload) == (fb.PONG, b"x")
        assert wire.give(peer_close(role, 1000)) is True
        assert not wire.connection.traffic.in_order
        assert wire.give(text("late", role)) is False


def test_a_broken_rule_is_handed_on_with_the_messages_before_it() -> None:
    with Wire(_backend) as wire:
        assert wire.give(text("a") + fb.build(fb.TEXT, b"not masked")) is True
        assert wire.log == [("event", "a"), "advance"]
        # The application has its turn before the end.
        assert wire.connection.traffic.has_more
        assert wire.give(text("late")) is False
        wire.events(wire.connection.receive_data(b"", NOW))
        (close,) = fb.parse_all(wire.written())
        assert close.opcode == fb.CLOSE
        assert wire.lane.send("late") is False


# Sending.


@BOTH
@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("size", [0, 1, 125, 126, 32_767, 32_768, 65_535, 65_536, 200_000])
def test_a_message_leaves_as_one_frame_and_is_counted(own: bool, role: Role, size: int) -> None:
    with Wire(_backend, role, own=own) as wire:
        total = 0
        for opcode, message, payload in [
            (fb.TEXT, "x" * size, b"x" * size),
            (fb.TEXT, "é" * size, "é".encode() * size),
            (fb.BINARY, b"\xff" * size, b"\xff" * size),
        ]:
            if not wire.lane.send_nowait(message):
                # Large ones need a transport that takes more than one piece.
                assert not own
                assert role is Role.SERVER
                assert len(payload) >= 32 * 1024
                continue
            wire.lane.flush()
            data = wire.written()
            (frame,) = fb.parse_all(data)
            assert (frame.opcode, frame.fin, frame.payload) == (opcode, True, payload)
            assert frame.masked is (role is Role.CLIENT)
            total += len(data)
            traffic = wire.connection.traffic
            assert traffic.queued == traffic.handed == total


@BOTH
def test_what_is_framed_already_leaves_as_it_is_but_not_from_clients(own: bool) -> None:
    for size in (0, 10, 40_000, 100_000):
        frame = fb.build(fb.BINARY, bytes(size))
        with Wire(_backend, own=own) as wire:
            assert wire.lane.send_framed(frame) is True
            assert wire.written() == frame
            assert wire.connection.traffic.queued == wire.connection.traffic.handed == len(frame)
        with Wire(_backend, Role.CLIENT, own=own) as wire:
            assert wire.lane.send_framed(frame) is False
            assert wire.written() == b""


def test_a_client_takes_its_keys_from_the_connection() -> None:
    with Wire(_backend, Role.CLIENT) as wire:
        expected = _backend.MaskingKeys(counting_bytes())
        for _ in range(3):
            wire.lane.send("x")
            assert wire.written()[2:6] == expected.next()
        # And it is the connection's turn.
        wire.connection.send_text("y")
        wire.advance()
        assert wire.written()[2:6] == expected.next()


@BOTH
def test_while_it_is_corked_everything_waits_and_leaves_together(own: bool) -> None:
    with Wire(_backend, own=own) as wire:
        wire.lane.cork(True)
        assert wire.lane.corked
        for _ in range(10):
            assert wire.lane.send("hello")
        assert wire.written() == b""
        wire.lane.cork(False)
        assert wire.written() == b""
        wire.lane.flush()
        assert fb.parse_all(wire.written()) == fb.parse_all(fb.build(fb.TEXT, b"hello") * 10)


def test_not_more_waits_than_64_kib() -> None:
    with Wire(_backend) as wire:
        wire.lane.cork(True)
        for number in range(100):
            assert wire.lane.send_nowait(bytes(1000))
            waiting = (number + 1) * 1004 - sum(map(len, wire.writes))
            assert 0 <= waiting < 65536
        assert len(wire.writes) == 1


def test_a_large_message_leaves_at_once_behind_what_waits() -> None:
    with Wire(_backend, own=True) as wire:
        wire.lane.cork(True)
        wire.lane.send("first")
        wire.lane.send(bytes(40_000))
        assert [len(frame.payload) for frame in fb.parse_all(wire.written())] == [5, 40_000]
        wire.lane.send("second")
        wire.lane.send_framed(fb.build(fb.BINARY, bytes(40_000)))
        assert [len(frame.payload) for frame in fb.parse_all(wire.written())] == [6, 40_000]


def test_what_does_not_leave_is_told() -> None:
    with Wire(_backend, own=True) as wire:
        while "tell_unsent" not in wire.log:
            assert wire.lane.send_nowait(bytes(100_000))
        assert wire.transport.get_write_buffer_size()
        wire.connection.traffic.unsent = wire.transport.get_write_buffer_size()
        assert not wire.lane.send_nowait(b"x")
        sizes = {len(frame.payload) for frame in fb.parse_all(wire.written())}
        assert sizes == {100_000}
        assert wire.lane.send_nowait(b"x")
        assert [frame.payload for frame in fb.parse_all(wire.written())] == [b"x"]


def test_who_does_nothing_but_send_is_refused_now_and_then() -> None:
    with Wire(_backend, inbox=True) as wire:
        for _ in range(32):
            assert wire.lane.send("x")
        assert not wire.lane.send("x")
        assert wire.lane.burst == 32
        assert wire.lane.send_nowait("x")
        reader: Any = _backend.Receive(wire.inbox)
        # It has begun to wait.
        assert next(reader) is wire.inbox
        assert wire.lane.send("x")
        assert wire.lane.burst == 1
        wire.lane.burst = 32
        assert not wire.lane.send("x")
        wire.lane.burst = 0
        assert wire.lane.send("x")


# Receiving.


def test_answers_to_one_chunk_leave_together() -> None:
    with Wire(_backend) as wire:
        wire.on_message = wire.lane.send_nowait
        assert wire.give(b"".join(text(str(number)) for number in range(50)))
        (written,) = wire.writes
        assert [frame.payload for frame in fb.parse_all(written)] == [b"%d" % number for number in range(50)]
        assert wire.log == []
        assert wire.connection.traffic.last_received == NOW
        assert wire.connection.traffic.alive


def test_answers_wait_while_there_are_messages_to_read() -> None:
    with Wire(_backend, inbox=True) as wire:
        assert wire.give(text("a") + text("b"))
        assert wire.lane.send("one")
        assert wire.written() == b""
        assert wire.log == ["advance_soon"]
        wire.inbox.get()
        wire.inbox.get()
        assert wire.lane.send("two")
        assert [frame.payload for frame in fb.parse_all(wire.written())] == [b"one", b"two"]


def test_reading_is_looked_at_where_the_inbox_is_full_or_something_has_not_left() -> None:
    with Wire(_backend, inbox=True, room=2) as wire:
        assert wire.give(text("a"))
        assert wire.log == []
        assert wire.give(text("b"))
        assert wire.log == ["update_reading"]
    with Wire(_backend) as wire:
        wire.connection.traffic.unsent = 1
        assert wire.give(text("a"))
        assert wire.log == [("message", "a"), "update_reading"]


def test_half_a_message_is_kept_for_the_rest() -> None:
    with Wire(_backend) as wire:
        for byte in text("hello"):
            assert wire.log == []
            assert wire.give(bytes([byte]))
        assert wire.log == [("message", "hello")]


def test_after_the_application_has_closed_it_gets_no_more() -> None:
    with Wire(_backend) as wire:

        def close(data: Any) -> None:
            wire.note(data)
            wire.connection.close(1000)

        wire.on_message = close
        assert wire.give(text("a") + text("b"))
        assert wire.log == ["a", "advance"]
        assert fb.parse_all(wire.written())[0].opcode == fb.CLOSE


@pytest.mark.parametrize("error", [ValueError, KeyError, GeneratorExit, KeyboardInterrupt, SystemExit])
def test_an_exception_of_the_application_is_told_unless_it_ends_the_program(
    error: type[BaseException],
) -> None:
    with Wire(_backend) as wire:

        def fail(data: Any) -> None:
            wire.lane.send("before")
            raise error

        wire.on_message = fail
        if issubclass(error, Exception):
            assert wire.give(text("a") + text("b"))
            (failure,) = wire.failures
            assert isinstance(failure, error)
            assert [frame.payload for frame in fb.parse_all(wire.written())] == [b"before"]
        else:
            with pytest.raises(error):
                wire.give(text("a"))
            assert wire.failures == []
        assert not wire.lane.corked
        wire.lane.flush()
        wire.written()
        # It goes on if it is let.
        wire.on_message = wire.lane.send
        assert wire.give(text("again"))
        assert [frame.payload for frame in fb.parse_all(wire.written())] == [b"again"]


# Its own life.


def test_it_needs_something_to_write_with() -> None:
    connection = Connection(Role.SERVER)
    with pytest.raises(TypeError, match="something to write with"):
        _backend.Lane(
            connection, None, lambda: NOW, False, _backend.encode_frame, _backend.encode_header, failed=print
        )


@BOTH
def test_once_closed_it_does_nothing_and_holds_on_to_nothing(own: bool) -> None:
    wire = Wire(_backend, own=own)
    lane = wire.lane
    with wire:
        lane.cork(True)
        lane.send("never")
    assert wire.writes == []
    gone = weakref.ref(wire)
    del wire
    gc.collect()
    assert gone() is None
    assert lane.receive(memoryview(bytearray(text("x"))), 7) is False
    assert lane.send("x") is False
    lane.flush()
    lane.cork(False)
    lane.close()


def test_a_message_comes_to_whoever_waits_before_the_chunk_is_done() -> None:
    with Wire(_backend, own=True, inbox=True) as wire:
        reader: Any = _backend.Receive(wire.inbox)
        assert next(reader) is wire.inbox

        def go_on(inbox: Any) -> None:
            with pytest.raises(StopIteration) as stopped:
                next(reader)
            wire.lane.send(stopped.value.value)
            assert wire.lane.corked
            assert wire.written() == b""

        class Context:
            def run(self, callback: Callable[[Any], object], argument: Any) -> None:
                callback(argument)

        wire.inbox.add_done_callback(go_on, context=Context())
        assert wire.give(text("hello"))
        assert [frame.payload for frame in fb.parse_all(wire.written())] == [b"hello"]
