"""Many tasks, cancellation at any moment, and other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import random
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.asyncio.server

from aiohelpers import LOOPS, aio_test, echo, loop_factory, open_raw, port_of, until, uri_of
from framebuilder import BINARY
from wsframe import Limits, PreparedMessage
from wsframe._adapter._broadcast import Policy
from wsframe.aio import (
    Application,
    ConnectionClosedError,
    ConnectionClosedOK,
    WebSocket,
    connect,
    serve,
)
from wsframe.aio._threads import run_in_loop

OPTIONS: Any = {"ping_interval": None}

#: Less than the system holds, so that senders have to wait.
SMALL = Limits(write_high_water=4096, write_low_water=1024)


# Cancellation.


class Books:
    """What was sent by whom, and what has arrived."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        # Messages by sender: whether send() returned, or None while it has not.
        self.sent: dict[tuple[int, int], bool | None] = {}
        self.received: list[tuple[int, int]] = []
        self.cancelled = 0

    def message(self, sender: int, number: int) -> bytes:
        """A message that can be told to be whole."""
        size = self.chance.choice((10, 500, 3000, 20_000))
        body = self.chance.choice((self.chance.randbytes(size), b"compressible " * (size // 13)))
        head = b"%d %d " % (sender, number)
        return head + zlib.crc32(head + body).to_bytes(4, "big") + body

    def take(self, message: Any) -> None:
        """It has arrived."""
        sender, number, rest = bytes(message).split(b" ", 2)
        head = b"%s %s " % (sender, number)
        assert zlib.crc32(head + rest[4:]).to_bytes(4, "big") == rest[:4]
        self.received.append((int(sender), int(number)))

    def check(self) -> None:
        """All of what was sent is there, once and in order; of the rest there is nothing that was not begun."""
        assert len(set(self.received)) == len(self.received)
        assert set(self.received) <= set(self.sent)
        assert {message for message, whole in self.sent.items() if whole} <= set(self.received)
        for sender in {sender for sender, _ in self.sent}:
            numbers = [number for other, number in self.received if other == sender]
            assert numbers == sorted(numbers)
        # Otherwise this has shown nothing.
        assert self.cancelled > 20
        assert sum(whole is True for whole in self.sent.values()) > 200


SENDERS, MESSAGES = 50, 12


async def send_and_cancel(ws: WebSocket, books: Books) -> None:
    """50 tasks send; any of them is cancelled at any moment, and goes on with its next message."""
    waiting: set[asyncio.Task[None]] = set()

    async def send_all(sender: int) -> None:
        for number in range(MESSAGES):
            message: Any = books.message(sender, number)
            if sender % 10 == 0:
                # In pieces. They are not cancelled: that would be the end.
                await ws.send([message[:7], message[7:]])
                books.sent[sender, number] = True
                continue
            books.sent[sender, number] = None
            task = asyncio.create_task(ws.send(message))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            try:
                await task
                books.sent[sender, number] = True
            except asyncio.CancelledError:
                books.sent[sender, number] = False
                books.cancelled += 1

    async def cancel() -> None:
        while True:
            await asyncio.sleep(books.chance.choice((0, 0, 0.0005)))
            for task in books.chance.sample(sorted(waiting, key=id), min(3, len(waiting))):
                if books.chance.random() < 0.3:
                    task.cancel()

    cancelling = asyncio.create_task(cancel())
    await asyncio.gather(*[send_all(sender) for sender in range(SENDERS)])
    cancelling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cancelling


async def slowly(messages: AsyncIterator[Any], take: Callable[[Any], None]) -> None:
    """Read, now and then not for a while."""
    count = 0
    async for message in messages:
        take(message)
        count += 1
        if count % 20 == 0:
            await asyncio.sleep(0.002)


@pytest.mark.peer
@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize("peer", ["websockets", "ours"])
@aio_test
async def test_50_tasks_with_compression_under_random_cancellation(role: str, peer: str) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    books = Books(seed)

    async def send(ws: WebSocket) -> None:
        await send_and_cancel(ws, books)
        await ws.close()

    async def read(ws: Any) -> None:
        await slowly(ws, books.take)

    if role == "server":
        async with serve(send, "127.0.0.1", 0, compression=True, limits=SMALL, **OPTIONS) as server:
            connecting: Any = (
                connect(uri_of(server), compression=True, **OPTIONS)
                if peer == "ours"
                else websockets.asyncio.client.connect(uri_of(server), proxy=None)
            )
            async with connecting as reader:
                assert reader.subprotocol is None
                await read(reader)
    else:
        reading = asyncio.get_running_loop().create_future()

        async def read_all(ws: Any) -> None:
            await read(ws)
            reading.set_result(None)

        serving: Any = (
            serve(read_all, "127.0.0.1", 0, compression=True, **OPTIONS)
            if peer == "ours"
            else websockets.asyncio.server.serve(read_all, "127.0.0.1", 0)
        )
        async with serving as server:
            uri = f"ws://127.0.0.1:{port_of(server)}/"
            async with connect(uri, compression=True, limits=SMALL, **OPTIONS) as ws:
                assert ws._connection.extensions
                await send(ws)
            await reading
    books.check()


@pytest.mark.parametrize("stream", [False, True], ids=["", "stream"])
@pytest.mark.parametrize("compression", [False, True], ids=["plain", "deflate"])
@aio_test
async def test_receiving_under_random_cancellation_loses_nothing(compression: bool, stream: bool) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    messages = [b"%d " % number + chance.randbytes(chance.choice((1, 300, 30_000))) for number in range(300)]

    async def handler(ws: WebSocket) -> None:
        for message in messages:
            if chance.random() < 0.1:
                await asyncio.sleep(0.001)
            await ws.send([message[:100], message[100:]] if chance.random() < 0.2 else message)

    async with (
        serve(handler, "127.0.0.1", 0, compression=compression, **OPTIONS) as server,
        connect(uri_of(server), compression=compression, stream=stream, **OPTIONS) as ws,
    ):
        received: list[Any] = []
        cancelled = 0
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                task = asyncio.create_task(ws.recv())
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                if chance.random() < 0.7:
                    task.cancel()
                try:
                    received.append(await task)
                except asyncio.CancelledError:
                    cancelled += 1
        assert received == messages
        assert cancelled > 20


# Other threads.


def in_thread(function: Callable[[], Any], name: str = "the other one") -> Coroutine[Any, Any, Any]:
    """What a function gives or raises in another thread."""

    def run() -> Any:
        threading.current_thread().name = name
        return function()

    return asyncio.to_thread(run)


def driven(method: Callable[[], Any]) -> Callable[[], Any]:
    """A coroutine's first step, in a thread that has no event loop."""

    def step() -> None:
        coroutine = method()
        try:
            coroutine.send(None)
        finally:
            coroutine.close()

    return step


def in_loop(method: Callable[[], Any]) -> Callable[[], Any]:
    """A coroutine, in a thread that has an event loop of its own."""

    async def main() -> None:
        await method()

    return lambda: asyncio.run(main())


CALLS: dict[str, Callable[[WebSocket], Any]] = {
    "send_nowait": lambda ws: ws.send_nowait("x"),
    "send_nowait prepared": lambda ws: ws.send_nowait(PreparedMessage("x")),
    "try_send": lambda ws: ws.try_send("x"),
    "start_closing": lambda ws: ws.start_closing(),
    "abort": lambda ws: ws.abort(),
    "add_done_callback": lambda ws: ws.add_done_callback(print),
    "aiter": lambda ws: aiter(ws),
}

COROUTINES: dict[str, Callable[[WebSocket], Any]] = {
    "send": lambda ws: ws.send("x"),
    "send pieces": lambda ws: ws.send(["x"]),
    "send large": lambda ws: ws.send(bytes(1 << 20)),
    "ping": lambda ws: ws.ping(),
    "drain": lambda ws: ws.drain(),
    "close": lambda ws: ws.close(),
    "wait_closed": lambda ws: ws.wait_closed(),
    "recv": lambda ws: ws.recv(),
    "recv_stream": lambda ws: anext(ws.recv_stream()),
}


class Silent(Application):
    """Nothing is done with messages, but for the answer to the last one."""

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send_nowait(message)


@pytest.mark.parametrize("kind", ["plain", "compression", "stream"])
@aio_test
async def test_calls_from_another_thread_raise_at_once_and_change_nothing(kind: str) -> None:
    options: Any = {"compression": True} if kind == "compression" else {"stream": kind == "stream"}
    async with (
        serve(echo, "127.0.0.1", 0, compression=kind == "compression", **OPTIONS) as server,
        connect(uri_of(server), **options, **OPTIONS) as ws,
    ):
        here = threading.current_thread().name
        text = rf"called in thread 'the other one', .* event loop in thread '{here}'.*send_threadsafe"
        # With a message there, and without.
        for waiting in (False, True):
            if waiting:
                await ws.send("waiting")
                await until(lambda: ws._queue)
            for call in CALLS.values():
                with pytest.raises(RuntimeError, match=text):
                    await in_thread(lambda call=call: call(ws))  # type: ignore[misc]
            for call in COROUTINES.values():
                for way in (driven, in_loop):
                    with pytest.raises(RuntimeError, match=text):
                        await in_thread(way(lambda call=call: call(ws)))  # type: ignore[misc]
        assert await ws.recv() == "waiting"
        await ws.send("fine")
        assert await ws.recv() == "fine"
        assert ws.ending is None
        assert ws._connection.traffic.queued == ws._connection.traffic.handed


@aio_test
async def test_callbacks_belong_to_the_loop_as_well() -> None:
    sockets: list[WebSocket] = []

    class Keeps(Silent):
        def on_open(self, ws: WebSocket) -> None:
            sockets.append(ws)

    async with (
        serve(Keeps(), "127.0.0.1", 0, **OPTIONS) as server,
        connect(uri_of(server), **OPTIONS) as ws,
    ):
        await ws.send("hello")
        assert await ws.recv() == "hello"
        (theirs,) = sockets
        for call in list(CALLS.values())[:4]:
            with pytest.raises(RuntimeError, match="the other one"):
                await in_thread(lambda call=call: call(theirs))  # type: ignore[misc]
        await in_thread(lambda: theirs.send_threadsafe("from a thread").result(10))
        assert await ws.recv() == "from a thread"


@aio_test
async def test_what_a_server_has_belongs_to_the_loop_as_well() -> None:
    hold: asyncio.Future[WebSocket] = asyncio.get_running_loop().create_future()

    async def handler(ws: WebSocket) -> None:
        ws.join("red")
        hold.set_result(ws)
        await ws.wait_closed()

    async with (
        serve(handler, "127.0.0.1", 0, **OPTIONS) as server,
        connect(uri_of(server), **OPTIONS) as ws,
    ):
        theirs = await hold
        policies: tuple[Policy, ...] = ("wait", "drop", "disconnect")
        calls: list[Callable[[], Any]] = [
            lambda: theirs.join("blue"),
            lambda: theirs.leave("red"),
            lambda: server.push(theirs.id, "x"),
            lambda: server.disconnect(theirs.id),
            *[lambda policy=policy: server.broadcast("x", policy=policy) for policy in policies],
        ]
        for waits in (False, True):
            if waits:
                theirs._in_line += 1
            for call in calls:
                with pytest.raises(RuntimeError, match="the other one"):
                    await in_thread(call)
        theirs._in_line -= 1
        assert theirs.groups == {"red"}
        assert server.broadcast("fine").result.delivered == 1
        assert await ws.recv() == "fine"
        # What can only be looked at can be looked at.
        assert (await in_thread(server.stats)).websockets == 1


@aio_test
async def test_a_coroutine_made_in_another_thread_may_run_here() -> None:
    """As everybody writes it. Nothing may happen before it runs."""
    async with serve(echo, "127.0.0.1", 0, **OPTIONS) as server, connect(uri_of(server), **OPTIONS) as ws:
        loop = asyncio.get_running_loop()

        def hand_over() -> None:
            asyncio.run_coroutine_threadsafe(ws.send("x"), loop).result(10)

        await in_thread(hand_over)
        assert await ws.recv() == "x"


@aio_test
async def test_what_can_only_be_looked_at_can_be_looked_at_from_anywhere() -> None:
    async with serve(echo, "127.0.0.1", 0, **OPTIONS) as server, connect(uri_of(server), **OPTIONS) as ws:

        def look() -> list[Any]:
            return [
                ws.state,
                ws.ending,
                ws.buffered_bytes,
                ws.latency,
                ws.subprotocol,
                ws.close_code,
                ws.role,
            ]

        assert await in_thread(look) == look()


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_threads_send_in_order_and_at_the_same_time_as_tasks(compression: bool) -> None:
    got: list[str] = []
    total = 4 * 200 + 200

    async def handler(ws: WebSocket) -> None:
        async for message in ws:
            got.append(str(message))
            if len(got) == total:
                break

    async with (
        serve(handler, "127.0.0.1", 0, compression=compression, **OPTIONS) as server,
        connect(uri_of(server), compression=compression, limits=SMALL, **OPTIONS) as ws,
    ):

        def send(name: str) -> None:
            futures = [ws.send_threadsafe(f"{name} {number} " + "x" * 500) for number in range(200)]
            for future in futures:
                future.result(30)

        threads = [in_thread(lambda name=name: send(name), name) for name in "abcd"]  # type: ignore[misc]

        async def send_here() -> None:
            for number in range(200):
                await ws.send(f"e {number} " + "x" * 500)

        await asyncio.gather(send_here(), *threads)
        await ws.wait_closed()
        for name in "abcde":
            numbers = [int(message.split()[1]) for message in got if message[0] == name]
            assert numbers == list(range(200))


@aio_test
async def test_a_message_of_a_thread_waits_its_turn_and_can_be_cancelled() -> None:
    hold: asyncio.Future[WebSocket] = asyncio.get_running_loop().create_future()

    async def handler(ws: WebSocket) -> None:
        hold.set_result(ws)
        await ws.wait_closed()

    async with serve(handler, "127.0.0.1", 0, **OPTIONS) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await hold
            count = 0
            with contextlib.suppress(TimeoutError):
                while True:
                    await asyncio.wait_for(ws.send(bytes(50_000)), 0.1)
                    count += 1
            buffer = bytearray(b"first")
            futures = await in_thread(
                lambda: [ws.send_threadsafe(message) for message in (buffer, b"second", b"third")]
            )
            buffer[:] = b"xxxxx"
            await until(lambda: ws._in_line == 3)
            assert not any(future.done() for future in futures)
            assert await in_thread(futures[1].cancel)
            await until(lambda: ws._in_line == 2)
            with pytest.raises(concurrent.futures.CancelledError):
                futures[1].result(0)
            frames = [await raw.next_frame() for _ in range(count + 2)]
            assert [frame.payload for frame in frames[-2:]] == [b"first", b"third"]
            assert {(frame.opcode, frame.fin) for frame in frames} == {(BINARY, True)}
            await until(lambda: futures[0].done() and futures[2].done())
            # And one that waits learns of the end.
            with contextlib.suppress(TimeoutError):
                while True:
                    await asyncio.wait_for(ws.send(bytes(50_000)), 0.1)
            future = await in_thread(lambda: ws.send_threadsafe("late"))
            await until(lambda: ws._in_line)
            raw.reset()
            with pytest.raises(ConnectionClosedError):
                await in_thread(lambda: future.result(10))


@aio_test
async def test_a_thread_learns_what_is_wrong() -> None:
    async with serve(echo, "127.0.0.1", 0, **OPTIONS) as server:
        async with connect(uri_of(server), **OPTIONS) as ws:
            for wrong in (5, ["pieces"], None):
                with pytest.raises(TypeError, match="a message is"):
                    await in_thread(lambda wrong=wrong: ws.send_threadsafe(wrong))  # type: ignore[misc]
            with pytest.raises(Exception, match="surrogates"):
                await in_thread(lambda: ws.send_threadsafe("\ud800").result(10))
            closing = asyncio.create_task(ws.close(1000))
            await asyncio.sleep(0)
            with pytest.raises(ConnectionClosedOK):
                await in_thread(lambda: ws.send_threadsafe("x").result(10))
            await closing
        with pytest.raises(ConnectionClosedOK):
            await in_thread(lambda: ws.send_threadsafe("x").result(10))


@contextlib.contextmanager
def a_loop(loop_kind: str) -> Iterator[tuple[asyncio.AbstractEventLoop, WebSocket]]:
    """An event loop that is stopped, and a WebSocket that belongs to it and is gone in the end."""
    loop = loop_factory(loop_kind)()

    async def begin() -> tuple[Any, WebSocket]:
        server = await serve(echo, "127.0.0.1", 0, **OPTIONS)
        return server, await connect(uri_of(server), **OPTIONS)

    async def end() -> None:
        ws.abort()
        await server.close()

    server, ws = loop.run_until_complete(begin())
    try:
        yield loop, ws
        loop.run_until_complete(end())
    finally:
        loop.close()


@pytest.mark.parametrize("loop_kind", LOOPS)
def test_a_stopped_loop_lets_threads_wait_until_it_goes_on(loop_kind: str) -> None:
    with a_loop(loop_kind) as (loop, ws):
        future = ws.send_threadsafe("x")
        with pytest.raises(TimeoutError):
            future.result(0.05)
        # Nobody else is using it: that is no foreign thread.
        assert ws.send_nowait("y")

        async def receive() -> list[str | bytes]:
            return [await ws.recv(), await ws.recv()]

        assert loop.run_until_complete(receive()) == ["y", "x"]
        assert future.result(0) is None


@pytest.mark.parametrize("loop_kind", LOOPS)
def test_a_closed_loop_lets_nobody_wait(loop_kind: str) -> None:
    with a_loop(loop_kind) as (loop, ws):
        ending = ws
    # The connection is over, and that is what matters.
    with pytest.raises(ConnectionClosedError):
        ending.send_threadsafe("x").result(5)
    # As if it were not: a loop can be closed with connections that it has forgotten.
    loop = loop_factory(loop_kind)()
    dropped = run_in_loop(loop, never)
    cancelled = run_in_loop(loop, never)
    assert cancelled.cancel()
    loop.close()
    with pytest.raises(RuntimeError, match="closed before this was sent"):
        dropped.result(5)
    with pytest.raises(RuntimeError, match="closed before this was sent"):
        run_in_loop(loop, never).result(5)
    assert cancelled.cancelled()


async def never() -> None:
    """Nobody comes here."""
    raise AssertionError
