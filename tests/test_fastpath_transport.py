"""The transport on a descriptor of its own, over real sockets, on every event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from aiohelpers import aio_test, until
from wsframe import _backend


class Recorder:
    """A protocol that keeps what it is told, and complains where it may not be told that."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(65536))
        self.events: list[str] = []
        self.received = bytearray()
        self.error: BaseException | None = None
        self.stays_half_open = False
        self.transport: Any = None
        #: Called with what just happened.
        self.then: dict[str, Callable[[], object]] = {}

    def _note(self, event: str) -> None:
        assert "lost" not in self.events, event
        self.events.append(event)
        self.then.get(event, lambda: None)()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._note("made")

    def buffer_updated(self, size: int) -> None:
        self.received += self.buffer[:size]
        self._note("data")

    def eof_received(self) -> bool:
        self._note("eof")
        return self.stays_half_open

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
        self._note("lost")

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    @property
    def lost(self) -> bool:
        return "lost" in self.events

    def count(self, event: str) -> int:
        return self.events.count(event)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    return ours, peer


@contextlib.asynccontextmanager
async def started(
    recorder: Recorder, *, tcp: bool = False, look_again: bool | None = None
) -> AsyncIterator[tuple[Any, socket.socket]]:
    """A transport that has started and its peer. In the end it has let go of everything."""
    loop = asyncio.get_running_loop()
    ours, peer = tcp_pair() if tcp else socket.socketpair()
    for sock in (ours, peer):
        sock.setblocking(False)
    # The system makes it as much as is the least.
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    if look_again is None:
        look_again = not isinstance(loop, asyncio.SelectorEventLoop)
    descriptor = ours.fileno()
    transport = _backend.SocketTransport(loop, ours, recorder, recorder.buffer, look_again)
    transport.start()
    with peer, ours:
        yield transport, peer
        transport.abort()
        await until(lambda: recorder.lost)
        await until(lambda: ours.fileno() == -1)
        assert not loop.remove_reader(descriptor)
        assert not loop.remove_writer(descriptor)
    # Whatever is asked of it now does nothing.
    transport.write(b"late")
    transport.writelines([b"late"])
    transport.write_eof()
    transport.pause_reading()
    transport.resume_reading()
    transport.close()
    transport.abort()
    await turns(3)
    assert transport.is_closing()
    assert transport.get_write_buffer_size() == 0
    assert recorder.count("made") == recorder.count("lost") == 1
    assert recorder.events[-1] == "lost"


async def turns(count: int) -> None:
    """So many turns of the event loop, in which it has also looked for what is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


def fill(transport: Any) -> bytes:
    """Write until the system takes no more; what was written."""
    written = b""
    while not transport.get_write_buffer_size():
        written += bytes(1000)
        transport.write(bytes(1000))
    return written


async def rest_of(peer: socket.socket) -> bytes:
    """Everything up to the end of the stream."""
    loop = asyncio.get_running_loop()
    pieces: list[bytes] = []
    while not pieces or pieces[-1]:
        pieces.append(await loop.sock_recv(peer, 65536))
    return b"".join(pieces)


# Writing.


@pytest.mark.parametrize("seed", range(8))
@aio_test
async def test_what_is_written_arrives_whole_and_in_order(seed: int) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(300_000)
    recorder = Recorder()
    expected, got = bytearray(), bytearray()
    async with started(recorder) as (transport, peer):
        transport.set_write_buffer_limits(*chance.choice([(65536, 16384), (1000, 0), (0, 0)]))

        def piece(*sizes: int) -> bytes:
            start = chance.randrange(100_000)
            taken = content[start : start + chance.choice(sizes)]
            expected.extend(taken)
            return taken

        for _ in range(40):
            match chance.randrange(4):
                case 0:
                    transport.write(piece(0, 1, 7, 500, 5000, 70_000, 200_000))
                case 1:
                    transport.writelines(
                        [piece(0, 1, 5000, 100_000) for _ in range(chance.choice([0, 1, 3]))]
                    )
                case 2:
                    # More than fit into one system call.
                    transport.writelines([piece(1, 2, 300) for _ in range(40)])
                case _:
                    for _ in range(chance.randrange(20)):
                        with contextlib.suppress(BlockingIOError):
                            got += peer.recv(chance.choice([1, 100, 10_000, 1_000_000]))
                        await asyncio.sleep(0)
            assert transport.get_write_buffer_size() <= len(expected) - len(got)
        transport.close()
        got += await rest_of(peer)
    assert got == expected
    assert recorder.error is None


@pytest.mark.parametrize("low", [0, 1, 3000])
@aio_test
async def test_it_says_pause_above_the_high_mark_and_resume_at_the_low_one(low: int) -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        fill(transport)
        waiting = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(waiting + 10_000, low)
        transport.write(bytes(9_999))
        transport.writelines([b"x"])
        assert recorder.count("pause") == 0
        transport.write(b"x")
        assert recorder.count("pause") == 1
        transport.write(bytes(50_000))
        assert recorder.count("pause") == 1

        while not recorder.count("resume"):
            assert transport.get_write_buffer_size() > low
            with contextlib.suppress(BlockingIOError):
                peer.recv(700)
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() <= low
        assert recorder.events == ["made", "pause", "resume"]
        # And once more.
        fill(transport)
        transport.write(bytes(waiting + 10_001))
        assert recorder.events == ["made", "pause", "resume", "pause"]


@aio_test
async def test_new_marks_count_at_once() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, _):
        fill(transport)
        waiting = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(waiting, 0)
        assert recorder.count("pause") == 0
        transport.set_write_buffer_limits(waiting - 1, 0)
        assert recorder.count("pause") == 1


@aio_test
async def test_a_protocol_may_write_and_close_as_soon_as_it_may_resume() -> None:
    recorder = Recorder()

    def go_on() -> None:
        recorder.transport.write(b"and this")
        recorder.transport.close()

    async with started(recorder) as (transport, peer):
        recorder.then["resume"] = go_on
        transport.set_write_buffer_limits(0, 0)
        written = fill(transport)
        assert await rest_of(peer) == written + b"and this"
    assert recorder.error is None


# The end, from here.


@aio_test
async def test_close_lets_everything_leave_first() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        written = fill(transport) + bytes(100_000)
        transport.write(bytes(100_000))
        transport.close()
        transport.close()
        assert transport.is_closing()
        transport.write(b"too late")
        transport.writelines([b"too late"])
        transport.write_eof()
        await turns(5)
        assert not recorder.count("lost")
        assert await rest_of(peer) == written
    assert recorder.error is None


@aio_test
async def test_close_with_nothing_to_write_ends_it_in_the_next_turn() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        transport.write(b"gone already")
        transport.close()
        assert not recorder.count("lost")
        await turns(2)
        assert recorder.count("lost")
        assert await rest_of(peer) == b"gone already"
    assert recorder.error is None


@aio_test
async def test_abort_drops_what_waits() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        written = fill(transport)
        waiting = transport.get_write_buffer_size()
        transport.abort()
        assert transport.is_closing()
        assert not recorder.count("lost")
        assert transport.get_write_buffer_size() == 0
        assert len(await rest_of(peer)) == len(written) - waiting
    assert recorder.error is None


@aio_test
async def test_abort_ends_what_close_has_begun() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, _):
        fill(transport)
        transport.close()
        await turns(3)
        assert not recorder.count("lost")
        transport.abort()
        await turns(2)
        assert recorder.count("lost")


@aio_test
async def test_the_end_of_the_stream_leaves_behind_all_that_was_written() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        written = fill(transport)
        assert transport.can_write_eof()
        transport.write_eof()
        transport.write_eof()
        transport.write(b"too late")
        assert await rest_of(peer) == written
        # The other direction is open.
        assert not transport.is_closing()
        peer.send(b"still here")
        await until(lambda: recorder.received == b"still here")


@aio_test
async def test_the_end_of_the_stream_is_sent_at_once_where_nothing_waits() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        transport.write(b"all")
        transport.write_eof()
        assert peer.recv(100) == b"all"
        assert peer.recv(100) == b""
        assert not transport.is_closing()


@aio_test
async def test_close_after_write_eof_still_waits_for_what_was_written() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        written = fill(transport)
        transport.write_eof()
        transport.close()
        assert await rest_of(peer) == written
    assert recorder.error is None


# Reading.


@aio_test
async def test_it_reads_nothing_before_it_has_started_or_where_the_protocol_does_not_want_it() -> None:
    recorder = Recorder()
    recorder.then["made"] = lambda: recorder.transport.abort()
    async with started(recorder) as (_, peer):
        peer.send(b"hello")
        await turns(3)
    assert recorder.events == ["made", "lost"]


@aio_test
async def test_pause_and_resume_reading() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        transport.pause_reading()
        transport.pause_reading()
        peer.send(b"one")
        await turns(5)
        assert not recorder.received
        transport.resume_reading()
        transport.resume_reading()
        await until(lambda: recorder.received)
        # From within.
        recorder.then["data"] = transport.pause_reading
        peer.send(b"two")
        await until(lambda: recorder.received == b"onetwo")
        peer.send(b"three")
        await turns(5)
        assert recorder.received == b"onetwo"
        transport.resume_reading()
        await until(lambda: recorder.received == b"onetwothree")


@aio_test
async def test_what_was_received_last_comes_before_the_end_of_the_stream() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        peer.send(bytes(100_000))
        peer.send(b"last")
        peer.close()
        await until(lambda: recorder.lost)
        assert len(recorder.received) == 100_004
        assert recorder.received.endswith(b"last")
        assert recorder.events[-2:] == ["eof", "lost"]
        assert transport.is_closing()
    assert recorder.error is None


@aio_test
async def test_after_the_end_of_the_stream_the_other_direction_may_stay_open() -> None:
    recorder = Recorder()
    recorder.stays_half_open = True
    async with started(recorder) as (transport, peer):
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: recorder.count("eof"))
        await turns(5)
        assert recorder.count("eof") == 1
        assert not transport.is_closing()
        written = fill(transport)
        transport.close()
        assert await rest_of(peer) == written
    assert recorder.error is None


@aio_test
async def test_a_spurious_event_changes_nothing() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        for _ in range(3):
            transport._on_readable()
            transport._on_writable()
        assert recorder.events == ["made"]
        peer.send(b"x")
        await until(lambda: recorder.received == b"x")


@aio_test
async def test_looking_again_does_not_become_more_and_more() -> None:
    # A peer that has sent the next byte whenever one was read.
    recorder = Recorder()
    async with started(recorder, look_again=True) as (_, peer):
        recorder.then["data"] = lambda: peer.send(b"x")
        peer.send(b"x")
        counts = []
        for _ in range(30):
            before = recorder.count("data")
            await asyncio.sleep(0)
            counts.append(recorder.count("data") - before)
        recorder.then.clear()
    assert 0 < max(counts) <= 2 * max(counts[:3]), counts


# The end, from there.


@pytest.mark.parametrize("size", [0, 1, 100_000])
@aio_test
async def test_a_reset_is_told_after_what_came_before_it(size: int) -> None:
    recorder = Recorder()
    async with started(recorder, tcp=True) as (transport, peer):
        transport.pause_reading()
        await asyncio.get_running_loop().sock_sendall(peer, bytes(size))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        transport.resume_reading()
        await until(lambda: recorder.lost)
        assert len(recorder.received) == size
    assert isinstance(recorder.error, ConnectionResetError)
    assert "eof" not in recorder.events


@aio_test
async def test_writing_to_a_peer_that_has_gone_ends_it() -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        peer.close()
        transport.write(b"x")
        # Not within the call.
        assert not recorder.count("lost")
        assert transport.is_closing()
        await until(lambda: recorder.lost)
    assert isinstance(recorder.error, BrokenPipeError)
    assert recorder.events == ["made", "lost"]


@pytest.mark.parametrize("closing", [False, True])
@aio_test
async def test_a_peer_that_goes_while_something_waits_ends_it(closing: bool) -> None:
    recorder = Recorder()
    async with started(recorder) as (transport, peer):
        transport.pause_reading()
        fill(transport)
        if closing:
            transport.close()
        else:
            transport.write_eof()
        peer.close()
        await until(lambda: recorder.lost)
    assert isinstance(recorder.error, (BrokenPipeError, ConnectionResetError))


@aio_test
async def test_a_refused_end_of_the_stream_is_an_error_of_the_caller_and_no_end() -> None:
    recorder = Recorder()
    async with started(recorder, tcp=True) as (transport, peer):
        transport.pause_reading()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(OSError):
            transport.write_eof()
        assert not transport.is_closing()


# What the protocol does wrong.


@pytest.mark.parametrize("event", ["data", "eof"])
@aio_test
async def test_what_the_protocol_raises_is_told_and_ends_it(event: str) -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    error = ValueError("a bug")

    def fail() -> None:
        raise error

    recorder = Recorder()
    recorder.then[event] = fail
    async with started(recorder) as (transport, peer):
        peer.send(b"x")
        peer.shutdown(socket.SHUT_WR)
        await until(lambda: recorder.lost)
        assert recorder.error is error
    assert [context["exception"] for context in told] == [error]
    assert told[0]["transport"] is transport


@aio_test
async def test_the_descriptor_is_closed_also_where_the_protocol_fails_in_the_end() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    def fail() -> None:
        raise ValueError("a bug")

    recorder = Recorder()
    recorder.then["lost"] = fail
    async with started(recorder):
        pass
    assert len(told) == 1


@aio_test
async def test_it_says_what_it_is() -> None:
    recorder = Recorder()
    async with started(recorder, tcp=True) as (transport, peer):
        sock = transport.get_extra_info("socket")
        assert transport.get_extra_info("sockname") == sock.getsockname() == peer.getpeername()
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("cipher") is None
        assert transport.get_extra_info("cipher", 5) == 5
        assert transport.get_protocol() is recorder
    assert transport.get_extra_info("peername", "nobody") == "nobody"


@pytest.mark.parametrize("seed", range(20))
@aio_test
async def test_whatever_happens_it_ends_once(seed: int) -> None:
    chance = random.Random(seed)
    recorder = Recorder()
    recorder.stays_half_open = chance.random() < 0.5
    async with started(recorder, tcp=chance.random() < 0.3) as (transport, peer):
        everything: list[Callable[[], object]] = [
            *[lambda: transport.write(bytes(chance.choice([1, 3000, 100_000])))] * 4,
            *[lambda: transport.writelines([bytes(10)] * chance.randrange(30))] * 4,
            *[lambda: peer.recv(100_000)] * 4,
            *[lambda: peer.send(bytes(1000))] * 3,
            transport.pause_reading,
            transport.resume_reading,
            lambda: transport.set_write_buffer_limits(chance.randrange(5000), 0),
            transport.write_eof,
            transport.close,
            transport.abort,
            lambda: peer.shutdown(socket.SHUT_WR),
            peer.close,
        ]
        for step in chance.choices(everything, k=chance.randrange(60)):
            for event in ("data", "eof", "pause", "resume"):
                recorder.then[event] = functools.partial(_try, chance.choice(everything))
            _try(step)
            if chance.random() < 0.5:
                await asyncio.sleep(0)


def _try(step: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):
        step()
