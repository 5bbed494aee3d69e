"""One message to many on asyncio: `broadcast`, `Server.broadcast`, and what happens to those that are slow."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import websockets.asyncio.client

from adapterhelpers import request_to, resident
from aiohelpers import Listener, Raw, aio_test, echo, open_raw, opened, port_of, until, uri_of
from crowd import Crowd, crowd, many_descriptors
from framebuilder import TEXT, build, close_payload
from wsframe import Cause, Limits, LocalProtocolError, PreparedMessage, State, _frames
from wsframe.aio import (
    Broadcast,
    BroadcastResult,
    ConnectionClosed,
    Server,
    WebSocket,
    broadcast,
    connect,
    serve,
)


def outcome(delivered: int = 0, dropped: int = 0, disconnected: int = 0) -> BroadcastResult:
    return BroadcastResult(delivered=delivered, dropped=dropped, disconnected=disconnected)


async def stall(ws: WebSocket) -> None:
    """Send to a peer that does not read until it is slow."""
    await until(lambda: not ws.try_send(bytes(65536)))
    assert ws.is_slow
    assert ws.state is State.OPEN


# To whom.


@aio_test
async def test_broadcast_reaches_all_kinds_of_connections_once() -> None:
    async with crowd(compression=True) as (server, application), contextlib.AsyncExitStack() as stack:
        plain = [
            await stack.enter_async_context(
                websockets.asyncio.client.connect(uri_of(server), compression=None)
            )
            for _ in range(3)
        ]
        compressed = [
            await stack.enter_async_context(websockets.asyncio.client.connect(uri_of(server)))
            for _ in range(2)
        ]
        async with serve(echo, "127.0.0.1", 0) as other, connect(uri_of(other)) as client:
            await until(lambda: len(application.members) == 5)
            everybody = [*application.members, client]
            for message in ("text " * 100, b"bytes", "☃" * 50_000, PreparedMessage("once")):
                assert await broadcast(everybody, message) == outcome(6)
                expected = message.data if isinstance(message, PreparedMessage) else message
                for theirs in (*plain, *compressed):
                    assert await theirs.recv() == expected
                assert await client.recv() == expected
        # Whoever has gone is left out.
        await plain[0].close()
        assert broadcast(everybody, "who is left?").result == outcome(4)
        for theirs in (*plain[1:], *compressed):
            assert await theirs.recv() == "who is left?"


@aio_test
async def test_a_server_broadcasts_to_whom_one_says() -> None:
    async with crowd() as (server, application), contextlib.AsyncExitStack() as stack:
        raws = [stack.enter_context(await open_raw(server)) for _ in range(4)]
        await until(lambda: len(application.members) == 4)
        a, b, c, d = server.connections
        for ws in (a, b):
            ws.join("red")

        async def check(sent: Broadcast, *expected: int) -> None:
            assert await sent == outcome(len(expected))
            for number in expected:
                assert (await raws[number].next_frame()).payload == b"x"
            # Nobody else got it: the next thing is the mark.
            assert server.broadcast("mark").result == outcome(4)
            for raw in raws:
                assert (await raw.next_frame()).payload == b"mark"

        await check(server.broadcast("x"), 0, 1, 2, 3)
        await check(server.broadcast("x", "red"), 0, 1)
        await check(server.broadcast("x", to="red", exclude=a), 1)
        await check(server.broadcast("x", "nobody"))
        await check(server.broadcast("x", lambda ws: ws.id % 2 == 1), 0, 2)
        await check(server.broadcast("x", [d, b]), 1, 3)
        await check(server.broadcast("x", iter([d, b]), exclude=[d]), 1)
        await check(server.broadcast("x", exclude={a, c}), 1, 3)
        await check(server.broadcast("x", server.groups["red"], exclude=b), 0)
        await check(broadcast([], "x"))

        def fails(ws: WebSocket) -> bool:
            if ws is b:
                raise ZeroDivisionError
            return True

        with pytest.raises(ZeroDivisionError):
            server.broadcast("x", fails)
        # It came to nobody.
        await check(server.broadcast("x", [c]), 2)


@aio_test
async def test_broadcast_frames_once_for_those_who_can_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    framed: list[str | bytes] = []
    pack = _frames.pack

    def count(data: str | bytes) -> bytes:
        framed.append(data)
        return pack(data)

    monkeypatch.setattr(_frames, "pack", count)
    async with crowd() as (server, application), contextlib.AsyncExitStack() as stack:
        raws = [stack.enter_context(await open_raw(server)) for _ in range(10)]
        await until(lambda: len(application.members) == 10)
        assert server.broadcast("news").result == outcome(10)
        for raw in raws:
            assert (await raw.next_frame()).payload == b"news"
    assert framed == ["news"]


@aio_test
async def test_a_client_masks_for_itself_and_who_compresses_compresses() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            for message in ("the same", PreparedMessage("the same")):
                assert broadcast([ws], message).result == outcome(1)
            headers = set()
            for _ in range(2):
                while len(raw.received) < 14:
                    raw.received += await raw.receive()
                headers.add(raw.received[:6])
                assert (await raw.next_frame()).payload == b"the same"
            assert len(headers) == 2
    text = "compress me " * 100
    extension = ("Sec-WebSocket-Extensions", "permessage-deflate")
    async with crowd(compression=True) as (server, application):
        with await open_raw(server, extension) as raw:
            await until(lambda: application.members)
            server.broadcast(text)
            frame = await raw.next_frame()
            assert frame.rsv
            assert len(frame.payload) < 200
            server.broadcast(PreparedMessage(text))
            frame = await raw.next_frame()
            assert (frame.rsv, frame.payload) == (0, text.encode())


@pytest.mark.parametrize("message", [None, 1, ["x"]])
@aio_test
async def test_what_is_no_message_is_refused(message: Any) -> None:
    async with crowd() as (server, application):
        with await open_raw(server):
            await until(lambda: application.members)
            for function in (server.broadcast, lambda message: broadcast([], message)):
                with pytest.raises(TypeError, match="a message is"):
                    function(message)
                with pytest.raises(LocalProtocolError):
                    function("\ud800")
            with pytest.raises(ValueError, match="policy is one of 'wait', 'drop', 'disconnect', not 'slow'"):
                server.broadcast("x", policy="slow")  # type: ignore[arg-type]
            assert application.members[0].buffered_bytes == 0


@aio_test
async def test_a_chat_in_callbacks() -> None:
    """A member that leaves in the middle harms nobody."""

    class Chat(Crowd):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.server.broadcast(message)

    application = Chat()
    async with serve(application, "127.0.0.1", 0) as server, contextlib.AsyncExitStack() as stack:
        members = [
            await stack.enter_async_context(websockets.asyncio.client.connect(uri_of(server)))
            for _ in range(4)
        ]
        await until(lambda: len(application.members) == 4)
        leaver = await open_raw(server)
        await until(lambda: len(application.members) == 5)
        leaver.sock.shutdown(socket.SHUT_RD)
        leaver.reset()
        for number in range(20):
            await members[number % 4].send(str(number))
            for member in members:
                assert await member.recv() == str(number)
        await until(lambda: application.endings)
        for member in members:
            await member.close()
            assert member.close_code == 1000


# Those that are slow.


@contextlib.asynccontextmanager
async def slow_and_quick(**options: Any) -> AsyncIterator[tuple[Server, WebSocket, Raw, Raw]]:
    """A server, one WebSocket whose peer has stopped to read, that peer, and another one."""
    async with crowd(**{"close_timeout": 0.3, **options}) as (server, application):
        with await open_raw(server, receive_buffer=4096) as lazy:
            await until(lambda: application.members)
            slow = application.members[0]
            with await open_raw(server) as quick:
                await until(lambda: len(application.members) == 2)
                await stall(slow)
                yield server, slow, lazy, quick


async def read_up_to(raw: Raw, last: bytes) -> list[bytes]:
    """Messages up to one; those that stalled it are left out."""
    got: list[bytes] = []
    while not got or got[-1] != last:
        payload = (await raw.next_frame()).payload
        if len(payload) < 65536:
            got.append(payload)
    return got


@aio_test
async def test_slow_peers_are_waited_for() -> None:
    async with slow_and_quick() as (server, _slow, lazy, quick):
        sent = server.broadcast("first", timeout=60)
        assert (sent.result, sent.waiting) == (outcome(1), 1)
        # Nobody waits for it.
        assert (await quick.next_frame()).payload == b"first"
        other = server.broadcast("second", timeout=60)
        assert (await quick.next_frame()).payload == b"second"
        task = asyncio.ensure_future(sent)
        await asyncio.sleep(0.01)
        assert not task.done()
        assert sent.waiting == 1
        # Then it reads, and has missed nothing; also not the order.
        assert await read_up_to(lazy, b"second") == [b"first", b"second"]
        assert await task == await sent == sent.result == outcome(2)
        assert await other == outcome(2)
        assert sent.waiting == 0


@aio_test
async def test_a_slow_peer_is_waited_for_also_when_nobody_awaits_that() -> None:
    async with slow_and_quick() as (server, _slow, lazy, quick):
        server.broadcast("news", timeout=60)
        assert (await quick.next_frame()).payload == b"news"
        assert await read_up_to(lazy, b"news") == [b"news"]


@aio_test
async def test_who_is_cancelled_while_waiting_takes_it_from_nobody() -> None:
    async with slow_and_quick() as (server, _slow, lazy, _quick):
        sent = server.broadcast("news", timeout=60)
        task = asyncio.ensure_future(sent)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sent.waiting == 1
        assert await read_up_to(lazy, b"news") == [b"news"]
        assert await sent == outcome(2)


@aio_test
async def test_waiting_has_an_end() -> None:
    async with slow_and_quick() as (server, slow, _lazy, quick):
        sent = server.broadcast("first", timeout=60)
        assert await server.broadcast("second", timeout=0.05) == outcome(1, disconnected=1)
        assert slow.state is State.CLOSING
        # The other one finds it gone.
        assert await sent == outcome(1, dropped=1)
        ending = await slow.wait_closed()
        assert ending.cause is Cause.SLOW_PEER
        assert ending.sent is None or ending.sent.code == 1013
        assert [(await quick.next_frame()).payload for _ in range(2)] == [b"first", b"second"]
        assert server.broadcast("third").result == outcome(1)


@aio_test
async def test_slow_peers_are_left_out() -> None:
    async with slow_and_quick() as (server, slow, lazy, quick):
        waiting = slow.buffered_bytes
        for number in range(100):
            sent = server.broadcast(str(number), policy="drop")
            assert sent.result == await sent == outcome(1, dropped=1)
            assert (await quick.next_frame()).payload == b"%d" % number
        assert slow.state is State.OPEN
        assert slow.buffered_bytes <= waiting
        reading = asyncio.create_task(read_up_to(lazy, b"again"))
        await slow.drain()
        assert await server.broadcast("again", policy="drop") == outcome(2)
        assert await reading == [b"again"]


@aio_test
async def test_slow_peers_are_disconnected() -> None:
    async with slow_and_quick() as (server, slow, _lazy, quick):
        sent = server.broadcast("news", policy="disconnect")
        assert sent.result == outcome(1, disconnected=1)
        assert slow.state is State.CLOSING
        assert server.broadcast("more", policy="disconnect").result == outcome(1)
        ending = await slow.wait_closed()
        assert (ending.cause, ending.clean) == (Cause.SLOW_PEER, False)
        assert [(await quick.next_frame()).payload for _ in range(2)] == [b"news", b"more"]


@aio_test
async def test_who_was_slow_and_reads_again_learns_why() -> None:
    async with slow_and_quick(close_timeout=30) as (server, slow, lazy, _quick):
        server.broadcast("news", policy="disconnect")
        *_, last = [frame async for frame in _frames_of(lazy)]
        assert last == close_payload(1013, b"too slow to receive")
        lazy.close()
        ending = await slow.wait_closed()
        assert ending.cause is Cause.SLOW_PEER
        assert ending.sent is not None
        assert ending.sent.code == 1013


async def _frames_of(raw: Raw) -> AsyncIterator[bytes]:
    while True:
        frame = await raw.next_frame()
        yield frame.payload
        if frame.opcode == 8:
            return


# Messages in pieces.


class Pieces:
    """A message in pieces that the test lets out one at a time."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()

    def put(self, *pieces: str | None) -> None:
        for piece in pieces:
            self._queue.put_nowait(piece)

    async def __aiter__(self) -> AsyncIterator[str]:
        while (piece := await self._queue.get()) is not None:
            yield piece


@contextlib.asynccontextmanager
async def in_pieces(
    **options: Any,
) -> AsyncIterator[tuple[Server, WebSocket, Raw, Raw, Callable[[], Coroutine[Any, Any, None]]]]:
    """A server, a WebSocket in the middle of a message in pieces, its peer, another peer, and what ends the message."""
    async with crowd(**options) as (server, application):
        with await open_raw(server) as raw:
            await until(lambda: application.members)
            ws = application.members[0]
            with await open_raw(server) as other:
                await until(lambda: len(application.members) == 2)
                pieces = Pieces()
                sending = asyncio.create_task(ws.send(pieces))
                pieces.put("begin")
                assert (await raw.next_frame()).payload == b"begin"

                async def end() -> None:
                    pieces.put("end", None)
                    await sending

                yield server, ws, raw, other, end


async def payloads(raw: Raw, count: int) -> list[bytes]:
    return [(await raw.next_frame()).payload for _ in range(count)]


@pytest.mark.parametrize("policy", ["wait", "drop", "disconnect"])
@aio_test
async def test_a_message_in_pieces_is_not_broken(policy: Any) -> None:
    async with in_pieces() as (server, ws, raw, other, end):
        kept = policy != "drop"
        for message in ("one", PreparedMessage("two")):
            sent = server.broadcast(message, policy=policy, timeout=0.01)
            assert (sent.result, sent.waiting) == (outcome(1 + kept, dropped=1 - kept), 0)
        assert await payloads(other, 2) == [b"one", b"two"]
        # Longer than the peer would have if it were slow.
        await asyncio.sleep(0.03)
        await end()
        assert server.broadcast("three", policy=policy).result == outcome(2)
        between = [b"one", b"two"] if kept else []
        assert await payloads(raw, 3 + len(between)) == [b"end", b"", *between, b"three"]
        assert ws.state is State.OPEN


@pytest.mark.parametrize("policy", ["wait", "disconnect"])
@aio_test
async def test_what_is_kept_behind_a_message_in_pieces_has_a_bound(policy: Any) -> None:
    async with in_pieces(close_timeout=0.3) as (server, ws, raw, other, end):
        count = 0
        while (sent := server.broadcast(bytes(1 << 20), policy=policy)).result == outcome(2):
            count += 1
            assert count < 6
            await other.next_frame()
        await other.next_frame()
        assert count == 3
        if policy == "wait":
            assert await sent == outcome(1, dropped=1)
            ended = asyncio.create_task(end())
            assert await payloads(raw, 2 + count) == [b"end", b"", *[bytes(1 << 20)] * count]
            await ended
            assert ws.state is State.OPEN
        else:
            assert sent.result == outcome(1, disconnected=1)
            assert (await raw.next_frame()).payload == close_payload(1013, b"too slow to receive")
            with pytest.raises(ConnectionClosed):
                await end()
            assert (await ws.wait_closed()).cause is Cause.SLOW_PEER


@aio_test
async def test_who_waited_before_a_message_in_pieces_keeps_its_place() -> None:
    async with slow_and_quick() as (server, slow, lazy, quick):
        pieces = Pieces()
        sending = asyncio.create_task(slow.send(pieces))
        pieces.put("begin")
        await until(lambda: slow._in_line == 1)
        first = server.broadcast("first", timeout=60)
        await until(lambda: slow._in_line == 2)
        last = asyncio.create_task(read_up_to(lazy, b"last"))
        await until(lambda: slow.is_within_message)
        second = server.broadcast("second", timeout=60)
        # Nor does it lose its connection when the message takes its time.
        assert await server.broadcast("third", timeout=0.01) == outcome(1, dropped=1)
        pieces.put("end", None)
        await sending
        assert await first == await second == outcome(2)
        assert (await server.broadcast("last")).disconnected == 0
        assert await last == [b"begin", b"end", b"", b"first", b"second", b"last"]
        assert await payloads(quick, 4) == [b"first", b"second", b"third", b"last"]


# A stalled reader among a thousand.

CLIENTS = 1000


class Clients:
    """Bare clients in a thread of their own, which count what they get; the first one reads nothing."""

    def __init__(self, server: Server) -> None:
        self._address = ("127.0.0.1", port_of(server))
        self._request = request_to(server)
        self.sockets: list[socket.socket] = []
        self.got: list[int] = []
        self._selector = selectors.DefaultSelector()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Clients:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._selector.close()
        for sock in self.sockets:
            sock.close()

    def _run(self) -> None:
        for number in range(CLIENTS):
            sock = socket.socket()
            if number == 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(self._address)
            sock.sendall(self._request)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                # Not more than the head.
                head += sock.recv(1)
            if number:
                self._selector.register(sock, selectors.EVENT_READ, number)
            self.sockets.append(sock)
            self.got.append(0)
        while not self._over.is_set():
            for key, _ in self._selector.select(0.05):
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(1 << 16)
                self.got[key.data] += len(data)
                if not data:
                    self._selector.unregister(key.fileobj)


@aio_test
async def test_one_stalled_reader_among_a_thousand() -> None:
    message = "x" * 4096
    size = len(build(TEXT, message.encode()))
    total = 0

    def everybody_has() -> bool:
        return all(count == total for count in clients.got[1:])

    with many_descriptors(2 * CLIENTS + 200):
        async with crowd(close_timeout=1, open_timeout=60) as (server, _application):
            with Clients(server) as clients:
                await until(lambda: len(clients.sockets) == CLIENTS)
                assert len(server.connections) == CLIENTS
                stalled = server.get(1)
                assert stalled is not None
                await stall(stalled)
                before, waiting = resident(), stalled.buffered_bytes
                # Dropped for one, and for nobody else.
                for _ in range(50):
                    assert await server.broadcast(message, policy="drop") == outcome(CLIENTS - 1, dropped=1)
                    total += size
                    await until(everybody_has)
                assert stalled.buffered_bytes <= waiting <= Limits().write_high_water + 2 * 65546
                # Waited for, while all others have it.
                sent = server.broadcast(message, timeout=60)
                assert (sent.result, sent.waiting) == (outcome(CLIENTS - 1), 1)
                total += size
                await until(everybody_has)
                assert sent.waiting == 1
                # And in the end no longer.
                assert await server.broadcast(message, timeout=0.1) == outcome(CLIENTS - 1, disconnected=1)
                total += size
                await until(everybody_has)
                ending = await stalled.wait_closed()
                assert ending.cause is Cause.SLOW_PEER
                assert await sent == outcome(CLIENTS - 1, dropped=1)
                assert len(server.connections) == CLIENTS - 1
                assert server.broadcast(message).result == outcome(CLIENTS - 1)
                total += size
                await until(everybody_has)
                # 200 MiB went through.
                assert resident() - before < 32 << 20
