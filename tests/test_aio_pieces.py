"""Sending messages in pieces: one message stays one, whatever comes between, and memory is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import random
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.asyncio.server

from aiohelpers import (
    Listener,
    Raw,
    aio_test,
    held,
    opened,
    port_of,
    uri_of,
)
from framebuilder import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload
from piecerows import BAD_PIECES, BAD_PIECES_IDS, NO_MESSAGES, NO_MESSAGES_IDS
from wsframe import LocalProtocolError, PreparedMessage
from wsframe.aio import (
    ConnectionClosedError,
    ConnectionClosedOK,
    WebSocket,
    connect,
    serve,
)

OPTIONS: Any = {"ping_interval": None}


class Tap:
    """Pieces that the test lets out one at a time."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.left = False

    def put(self, *pieces: Any) -> None:
        for piece in pieces:
            self.queue.put_nowait(piece)

    async def pieces(self) -> AsyncIterator[Any]:
        try:
            while (piece := await self.queue.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self.left = True


def in_a_generator(pieces: list[Any]) -> Iterator[Any]:
    yield from pieces


async def in_an_async_generator(pieces: list[Any]) -> AsyncIterator[Any]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


class Iterable:
    """Not an iterator, and not a sequence."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[Any]:
        return iter(self.pieces)


WAYS: list[Callable[[list[Any]], Any]] = [list, tuple, in_a_generator, in_an_async_generator, Iterable]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@aio_test
async def test_pieces_are_the_fragments_of_one_message(way: Callable[[list[Any]], Any]) -> None:
    async with held() as (ws, raw):
        await ws.send(way(["Grüße", "", " an ", "alle"]))
        frames = [await raw.next_frame() for _ in range(4)]
        assert [(frame.opcode, frame.fin) for frame in frames] == [
            (TEXT, False),
            (CONTINUATION, False),
            (CONTINUATION, False),
            (CONTINUATION, True),
        ]
        assert b"".join(frame.payload for frame in frames).decode() == "Grüße an alle"
        await ws.send(way([b"a", bytearray(b"b"), memoryview(b"c")]))
        frames = [await raw.next_frame() for _ in range(4)]
        assert [(frame.opcode, frame.payload) for frame in frames] == [
            (BINARY, b"a"),
            (CONTINUATION, b"b"),
            (CONTINUATION, b"c"),
            (CONTINUATION, b""),
        ]
        # And the next one is whole again.
        await ws.send("whole")
        frame = await raw.next_frame()
        assert (frame.opcode, frame.fin, frame.payload) == (TEXT, True, b"whole")


@aio_test
async def test_a_piece_leaves_before_the_next_one_is_there() -> None:
    async with held() as (ws, raw):
        tap = Tap()
        sending = asyncio.create_task(ws.send(tap.pieces()))
        for piece in ("one", "two"):
            tap.put(piece)
            assert (await raw.next_frame()).payload == piece.encode()
        assert not sending.done()
        tap.put(None)
        assert (await raw.next_frame()).fin
        await sending
        assert tap.left


@aio_test
async def test_an_empty_message_has_one_empty_piece_and_without_a_piece_there_is_none() -> None:
    async with held() as (ws, raw):
        await ws.send([])
        await ws.send(in_an_async_generator([]))
        await ws.send([""])
        first, last = await raw.next_frame(), await raw.next_frame()
        assert (first.opcode, first.payload, first.fin) == (TEXT, b"", False)
        assert (last.opcode, last.payload, last.fin) == (CONTINUATION, b"", True)


@aio_test
async def test_other_messages_wait_for_the_end_and_control_frames_do_not() -> None:
    async with held() as (ws, raw):
        tap, other = Tap(), Tap()
        first = asyncio.create_task(ws.send(tap.pieces()))
        tap.put("a")
        assert (await raw.next_frame()).payload == b"a"
        other.put("x", "y", None)
        waiting = [
            asyncio.create_task(ws.send("one")),
            asyncio.create_task(ws.send(other.pieces())),
            asyncio.create_task(ws.send(PreparedMessage("two"))),
        ]
        pong = await ws.ping(b"between")
        frame = await raw.next_frame()
        assert (frame.opcode, frame.payload) == (PING, b"between")
        await raw.send_frame(PONG, b"between")
        assert await pong >= 0
        await raw.send_frame(PING, b"theirs")
        frame = await raw.next_frame()
        assert (frame.opcode, frame.payload) == (PONG, b"theirs")
        assert not any(task.done() for task in waiting)
        tap.put("b", None)
        await asyncio.gather(first, *waiting)
        frames = [await raw.next_frame() for _ in range(7)]
        assert [(frame.payload, frame.fin) for frame in frames] == [
            (b"b", False),
            (b"", True),
            (b"one", True),
            (b"x", False),
            (b"y", False),
            (b"", True),
            (b"two", True),
        ]


@pytest.mark.parametrize("role", ["server", "client"])
@aio_test
async def test_what_does_not_wait_is_kept_behind_the_message(role: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        if role == "server":
            ws, raw = await stack.enter_async_context(held())
        else:
            listener = stack.enter_context(Listener())
            ws, raw = await stack.enter_async_context(opened(connect(listener.uri, **OPTIONS), listener))
        tap = Tap()
        sending = asyncio.create_task(ws.send(tap.pieces()))
        tap.put(b"begin")
        assert (await raw.next_frame()).payload == b"begin"
        buffer = bytearray(b"two")
        assert ws.send_nowait("one")
        assert ws.send_nowait(buffer)
        buffer[:] = b"xxx"
        assert ws.send_nowait(PreparedMessage("three"))
        with pytest.raises(LocalProtocolError, match="surrogates"):
            ws.send_nowait("\ud800")
        tap.put(None)
        await sending
        assert ws.send_nowait("four")
        frames = [await raw.next_frame() for _ in range(5)]
        assert [frame.payload for frame in frames] == [b"", b"one", b"two", b"three", b"four"]
        assert all(frame.fin for frame in frames)


@aio_test
async def test_what_is_kept_behind_a_message_is_bounded_and_does_not_make_a_slow_peer() -> None:
    async with held() as (ws, raw):
        tap = Tap()
        sending = asyncio.create_task(ws.send(tap.pieces()))
        tap.put("begin")
        assert (await raw.next_frame()).payload == b"begin"
        count = 0
        while ws.send_nowait(bytes(100_000)):
            count += 1
            assert count < 100
        assert 38 <= count <= 41
        assert ws.ending is None
        tap.put(None)
        reading = asyncio.create_task(raw_frames(raw, count + 1))
        await sending
        frames = await reading
        assert [len(frame.payload) for frame in frames] == [0, *[100_000] * count]
        # And it is as it was.
        assert ws.send_nowait("more")
        assert (await raw.next_frame()).payload == b"more"


async def raw_frames(raw: Raw, count: int) -> list[Any]:
    return [await raw.next_frame() for _ in range(count)]


@pytest.mark.parametrize(("message", "text"), NO_MESSAGES, ids=NO_MESSAGES_IDS)
@aio_test
async def test_what_is_wrong_before_the_first_piece_changes_nothing(message: Any, text: str) -> None:
    async with held() as (ws, raw):
        with pytest.raises((TypeError, LocalProtocolError), match=text):
            await ws.send(message)
        with pytest.raises(ZeroDivisionError):
            await ws.send(str(1 // 0) for _ in range(3))
        await ws.send("fine")
        assert (await raw.next_frame()).payload == b"fine"


@aio_test
async def test_what_has_a_buffer_is_not_taken_for_its_bytes() -> None:
    async with held() as (ws, raw):
        with mmap.mmap(-1, 100) as mapped:
            with pytest.raises(TypeError, match=r"mmap; memoryview\(\)"):
                await ws.send(mapped)  # type: ignore[arg-type]
            with memoryview(mapped) as view:
                await ws.send(view)
        assert (await raw.next_frame()).payload == bytes(100)


@pytest.mark.parametrize(("piece", "error"), BAD_PIECES, ids=BAD_PIECES_IDS)
@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_half_a_message_cannot_be_taken_back(
    piece: Any, error: type[Exception], compression: bool
) -> None:
    """As with websockets: nobody can go on after the half of a message."""
    headers = [("Sec-WebSocket-Extensions", "permessage-deflate")] if compression else []
    async with held(*headers, compression=compression) as (ws, raw):
        tap = Tap()
        sending = asyncio.create_task(ws.send(tap.pieces()))
        tap.put("begin")
        assert not (await raw.next_frame()).fin
        waiting = asyncio.create_task(ws.send("after"))
        await asyncio.sleep(0)
        assert ws.send_nowait("behind")
        tap.put(piece)
        with pytest.raises(error):
            await sending
        assert tap.left
        frame = await raw.next_frame()
        assert (frame.opcode, frame.payload[:2]) == (CLOSE, (1011).to_bytes(2, "big"))
        await raw.send(raw.frame(CLOSE, frame.payload))
        assert await raw.rest() == b""
        with pytest.raises(ConnectionClosedError) as caught:
            await waiting
        assert caught.value.ending.sent is not None
        assert caught.value.ending.sent.code == 1011
        assert "could not be completed" in caught.value.ending.sent.reason
        assert not ws.send_nowait("late")


@aio_test
async def test_cancelled_in_the_middle_it_ends_the_connection_and_before_it_does_not() -> None:
    async with held() as (ws, raw):
        tap = Tap()
        # Before the first piece, and in line.
        early = asyncio.create_task(ws.send(tap.pieces()))
        await asyncio.sleep(0.01)
        early.cancel()
        with pytest.raises(asyncio.CancelledError):
            await early
        tap = Tap()
        sending = asyncio.create_task(ws.send(tap.pieces()))
        tap.put("a")
        assert (await raw.next_frame()).payload == b"a"
        in_line = asyncio.create_task(ws.send(["x", "y"]))
        await asyncio.sleep(0.01)
        in_line.cancel()
        await asyncio.sleep(0)
        assert ws.ending is None
        tap.put("b")
        assert (await raw.next_frame()).payload == b"b"
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        frame = await raw.next_frame()
        assert (frame.opcode, frame.payload[:2]) == (CLOSE, (1011).to_bytes(2, "big"))
        assert tap.left


@aio_test
async def test_what_the_pieces_come_from_cannot_send_on_the_same_websocket() -> None:
    async with held() as (ws, raw):

        async def pieces(message: Any) -> AsyncIterator[str]:
            yield "a"
            with pytest.raises(RuntimeError, match="wait for the end of the message"):
                await ws.send(message)
            # It may ping, and it may close.
            await ws.ping(b"p")
            yield "b"

        await ws.send(pieces("nested"))
        await ws.send(pieces(["nested", "pieces"]))
        frames = await raw_frames(raw, 8)
        assert [frame.payload for frame in frames] == [b"a", b"p", b"b", b""] * 2


@aio_test
async def test_closing_while_a_message_is_in_pieces() -> None:
    async with held() as (ws, raw):
        tap = Tap()
        sending = asyncio.create_task(ws.send(tap.pieces()))
        tap.put("a")
        assert (await raw.next_frame()).payload == b"a"
        closing = asyncio.create_task(ws.close(1001))
        frame = await raw.next_frame()
        assert (frame.opcode, frame.payload) == (CLOSE, close_payload(1001))
        await raw.send_close(1001)
        await closing
        tap.put("b")
        with pytest.raises(ConnectionClosedOK):
            await sending
        # A generator that is left early has cleaned up by then.
        assert tap.left


@pytest.mark.parametrize("size", [30_000, 5 << 20])
@pytest.mark.parametrize("way", [in_a_generator, in_an_async_generator], ids=["sync", "async"])
@aio_test
async def test_it_waits_for_room_between_the_pieces(size: int, way: Any) -> None:
    async with held(receive_buffer=4096) as (ws, raw):
        taken = 0
        # More than the kernel takes.
        total = max(4, (14 << 20) // size)

        def counted() -> Iterator[bytes]:
            nonlocal taken
            for number in range(total):
                taken += 1
                yield bytes([number % 256]) * size

        pieces: Any = counted() if way is in_a_generator else in_an_async_generator_of(counted())
        sending = asyncio.create_task(ws.send(pieces))
        before = -1
        while taken != before:
            before = taken
            await asyncio.sleep(0.1)
        assert taken < total
        limits = ws._connection.limits
        assert ws.buffered_bytes < limits.write_high_water + (256 << 10) + size + 1000
        received = 0
        while not (frame := await raw.next_frame()).fin:
            assert frame.payload == bytes([received % 256]) * size
            received += 1
        await sending
        assert received == total
        assert ws.ending is None


async def in_an_async_generator_of(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_large_pieces_in_answer_to_a_message_do_not_make_a_slow_peer(compression: bool) -> None:
    # What a task does for a message happens while the chunk is processed that brought it: nothing leaves by itself.
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    pieces = [random.Random(seed + number).randbytes(1 << 20) for number in range(12)]

    async def handler(ws: WebSocket) -> None:
        async for _ in ws:
            await ws.send(pieces)

    async with (
        serve(handler, "127.0.0.1", 0, compression=compression, **OPTIONS) as server,
        connect(uri_of(server), compression=compression, **OPTIONS) as ws,
    ):
        for _ in range(2):
            await ws.send("go")
            assert await ws.recv() == b"".join(pieces)


@pytest.mark.peer
@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_websockets_understands_our_pieces_and_we_understand_theirs(compression: bool) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    texts = ["".join(chance.choices("aé☃𝄞 ", k=chance.randrange(3000))) for _ in range(40)]
    deflate = "deflate" if compression else None

    async def handler(ws: WebSocket) -> None:
        # What comes in pieces goes back in pieces.
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                await ws.send(ws.recv_stream())

    async with (
        serve(handler, "127.0.0.1", 0, compression=compression, stream=True, **OPTIONS) as server,
        websockets.asyncio.client.connect(uri_of(server), compression=deflate, proxy=None) as theirs,
    ):
        assert bool(theirs.protocol.extensions) is compression
        for _ in range(20):
            pieces = chance.choices(texts, k=chance.randrange(1, 10))
            await theirs.send(pieces)
            assert await theirs.recv() == "".join(pieces)
            data = [piece.encode() for piece in pieces]
            await theirs.send(data)
            assert await theirs.recv() == b"".join(data)

    async def their_echo(ws: Any) -> None:
        async for message in ws:
            await ws.send([message[:5], message[5:]])

    async with (
        websockets.asyncio.server.serve(their_echo, "127.0.0.1", 0, compression=deflate) as their_server,
        connect(
            f"ws://127.0.0.1:{port_of(their_server)}/", compression=compression, stream=True, **OPTIONS
        ) as ours,
    ):
        for _ in range(20):
            pieces = chance.choices(texts, k=chance.randrange(1, 10))
            await ours.send(in_an_async_generator(pieces))
            assert "".join([str(chunk) async for chunk in ours.recv_stream()]) == "".join(pieces)
