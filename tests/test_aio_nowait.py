"""What does not wait: `send_nowait`, prepared messages and `broadcast`, on asyncio; and what is prepared, on sync."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.sync.client

import synchelpers
from aiohelpers import Listener, aio_test, echo, open_raw, opened, until, uri_of
from framebuilder import BINARY, TEXT, build, close_payload
from wsframe import Cause, Disconnected, Limits, LocalProtocolError, PreparedMessage, State, _frames, sync
from wsframe.aio import Application, Server, WebSocket, broadcast, connect, serve


class Crowd(Application):
    """All its WebSockets, and how those ended that have."""

    def __init__(self) -> None:
        self.members: set[WebSocket] = set()
        self.endings: list[Disconnected] = []

    def on_open(self, ws: WebSocket) -> None:
        self.members.add(ws)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.members.discard(ws)
        self.endings.append(ending)

    async def one(self) -> WebSocket:
        await until(lambda: self.members)
        (ws,) = self.members
        return ws


@contextlib.asynccontextmanager
async def crowd(**options: Any) -> AsyncIterator[tuple[Server, Crowd]]:
    application = Crowd()
    options.setdefault("ping_interval", None)
    async with serve(application, "127.0.0.1", 0, **options) as server:
        yield server, application


# send_nowait.


@aio_test
async def test_what_a_callback_sends_keeps_its_order_whatever_it_is() -> None:
    class Mixed(Application):
        """Small and large, what is framed on the express lane and what is not."""

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            for number in range(4):
                ws.send_nowait(b"%d small" % number)
                ws.send_nowait(bytearray(b"%d large " % number + bytes(300_000)))

    async with serve(Mixed(), "127.0.0.1", 0, ping_interval=None) as server:
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"go")
            got = [(await raw.next_frame()).payload[:7] for _ in range(8)]
            assert got == [b"%d %s" % (number, size) for number in range(4) for size in (b"small", b"large")]


@aio_test
async def test_send_nowait_sends_in_order() -> None:
    async with crowd() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            assert all(ws.send_nowait(b"%2d" % number) for number in range(100))
            expected = b"".join(build(BINARY, b"%2d" % number) for number in range(100))
            data = b""
            while len(data) < len(expected):
                data += await raw.receive()
            assert data == expected


@aio_test
async def test_send_nowait_and_send_keep_their_order() -> None:
    async with crowd() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            ws.send_nowait("a")
            await ws.send("b")
            ws.send_nowait(bytearray(b"c"))
            assert [(await raw.next_frame()).payload for _ in range(3)] == [b"a", b"b", b"c"]


@aio_test
async def test_send_nowait_works_beside_a_handler() -> None:
    async def handler(ws: WebSocket) -> None:
        async for message in ws:
            assert ws.send_nowait(message)

    async with serve(handler, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        for number in range(50):
            assert ws.send_nowait(str(number))
        assert [await ws.recv() for _ in range(50)] == [str(number) for number in range(50)]


@aio_test
async def test_send_nowait_on_what_is_over_says_so_and_does_nothing() -> None:
    async with crowd() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            ws.start_closing(4000)
            assert not ws.send_nowait("too late")
            assert broadcast([ws], "too late") == 0
            assert (await raw.next_frame()).payload == close_payload(4000)
            await raw.send_close(4000)
            assert await raw.rest() == b""
            await until(lambda: application.endings)
            assert not ws.send_nowait("much too late")
            # What is wrong with the program is said all the same.
            with pytest.raises(TypeError, match="not int"):
                ws.send_nowait(1)  # type: ignore[arg-type]


@pytest.mark.parametrize("message", [None, 1, ["x"]])
@aio_test
async def test_what_is_no_message_is_refused(message: Any) -> None:
    async with crowd() as (server, application):
        with await open_raw(server):
            ws = await application.one()
            for send in (ws.send_nowait, lambda message: broadcast([], message), PreparedMessage):
                with pytest.raises(TypeError):
                    send(message)
            with pytest.raises(TypeError):
                await ws.send(message)
            for send in (ws.send_nowait, lambda message: broadcast([], message), PreparedMessage):
                with pytest.raises(LocalProtocolError):
                    send("\ud800")
            assert ws.buffered == 0


@aio_test
async def test_a_burst_is_no_slow_peer() -> None:
    """More than the hard cap may be sent in one turn, and for one chunk, if it leaves."""

    class Burst(Crowd):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            for _ in range(16):
                assert ws.send_nowait(bytes(16_384))

    application = Burst()
    limits = Limits(write_hard_cap=1 << 16)
    async with serve(application, "127.0.0.1", 0, limits=limits, ping_interval=None) as server:
        with await open_raw(server) as raw:
            for _ in range(16):
                assert (await application.one()).send_nowait(bytes(16_384))
            await raw.send_frame(TEXT, b"go")
            for _ in range(32):
                assert (await raw.next_frame()).payload == bytes(16_384)


@aio_test
async def test_a_slow_peer_loses_its_connection_and_nobody_else() -> None:
    async with crowd(close_timeout=1) as (server, application), contextlib.AsyncExitStack() as stack:
        slow = stack.enter_context(await open_raw(server, receive_buffer=4096))
        lazy = await application.one()
        quick = await stack.enter_async_context(
            websockets.asyncio.client.connect(uri_of(server), max_size=None)
        )
        await until(lambda: len(application.members) == 2)
        (other,) = application.members - {lazy}
        sent = 0
        # The kernel takes some megabytes.
        while broadcast(application.members, bytes(1 << 20)) == 2:
            sent += 1
            assert lazy.state is State.OPEN
            assert lazy.buffered < 6 << 20
            await quick.recv()
        assert not lazy.send_nowait("x")
        await quick.recv()
        assert other.send_nowait("still here")
        assert await quick.recv() == "still here"
        await until(lambda: application.endings)
        assert [ending.cause for ending in application.endings] == [Cause.SLOW_PEER]
        assert sent > 4
        assert application.members == {other}
        slow.close()


@aio_test
async def test_buffered_says_what_waits() -> None:
    async with crowd() as (server, application):
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await application.one()
            assert ws.buffered == 0
            count = 0
            while ws.buffered < 1 << 20:
                ws.send_nowait(bytes(100_000))
                count += 1
                await asyncio.sleep(0)
            drain = asyncio.create_task(ws.drain())
            for _ in range(count):
                await raw.next_frame()
            await drain
            assert ws.buffered <= Limits().write_low_water


# Prepared messages.


@pytest.mark.parametrize("data", ["x", "héllo" * 1000, b"", bytes(70_000), bytearray(b"x" * 200)])
@aio_test
async def test_prepared_messages_arrive_as_what_they_are(data: Any) -> None:
    prepared = PreparedMessage(data)
    assert prepared.data == data
    async with crowd() as (server, application), websockets.asyncio.client.connect(uri_of(server)) as theirs:
        ws = await application.one()
        await ws.send(prepared)
        ws.send_nowait(prepared)
        assert [await theirs.recv(), await theirs.recv()] == [data, data]


@aio_test
async def test_what_was_prepared_does_not_change_with_its_source() -> None:
    source = bytearray(b"before")
    prepared = PreparedMessage(source)
    source[:] = b"after!"
    assert prepared.data == b"before"
    assert prepared.frame.endswith(b"before")


@aio_test
async def test_a_client_sends_what_was_prepared_masked_afresh() -> None:
    prepared = PreparedMessage("the same")
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            await ws.send(prepared)
            ws.send_nowait(prepared)
            assert broadcast([ws], prepared) == 1
            assert broadcast([ws], "the same") == 1
            headers = []
            for _ in range(4):
                while len(raw.received) < 14:
                    raw.received += await raw.receive()
                headers.append(raw.received[:6])
                frame = await raw.next_frame()
                assert (frame.opcode, frame.payload) == (TEXT, b"the same")
            # Four masking keys.
            assert {header[:2] for header in headers} == {b"\x81\x88"}
            assert len(set(headers)) == 4


@aio_test
async def test_what_was_prepared_is_not_compressed() -> None:
    text = "compress me " * 100
    extension = ("Sec-WebSocket-Extensions", "permessage-deflate")
    async with crowd(compression=True) as (server, application):
        with await open_raw(server, extension) as raw:
            ws = await application.one()
            prepared = PreparedMessage(text)
            await ws.send(prepared)
            ws.send_nowait(prepared)
            broadcast([ws], prepared)
            for _ in range(3):
                frame = await raw.next_frame()
                assert (frame.rsv, frame.payload) == (0, text.encode())
            # Without that it is.
            broadcast([ws], text)
            frame = await raw.next_frame()
            assert frame.rsv
            assert len(frame.payload) < 200


def test_prepared_messages_on_sync() -> None:
    prepared = PreparedMessage("the same")

    def handler(ws: Any) -> None:
        for _ in range(2):
            ws.send(prepared)
        assert ws.recv() == "the same"

    def endless(ws: Any) -> None:
        for message in ws:
            ws.send(PreparedMessage(message))

    with (
        synchelpers.serving(handler) as (server, _),
        websockets.sync.client.connect(synchelpers.uri_of(server)) as theirs,
    ):
        assert [theirs.recv(10), theirs.recv(10)] == ["the same"] * 2
        theirs.send("the same")
    with synchelpers.serving(endless) as (server, _), sync.connect(synchelpers.uri_of(server)) as ws:
        ws.send(prepared)
        assert ws.recv(10) == "the same"
        assert ws.buffered == 0


# broadcast.


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
            for message in ("text " * 100, b"bytes", "☃" * 50_000):
                assert broadcast(everybody, message) == 6
                for theirs in (*plain, *compressed):
                    assert await theirs.recv() == message
                assert await client.recv() == message
        # Whoever has gone is left out.
        await plain[0].close()
        assert broadcast(everybody, "who is left?") == 4
        for theirs in (*plain[1:], *compressed):
            assert await theirs.recv() == "who is left?"


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
        assert broadcast(application.members, "news") == 10
        for raw in raws:
            assert (await raw.next_frame()).payload == b"news"
    assert framed == ["news"]


@aio_test
async def test_broadcast_to_a_set_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever ends may be taken out of the set while it goes on."""
    send_nowait = WebSocket.send_nowait

    def send_and_end(self: WebSocket, message: Any) -> bool:
        application.members.discard(self)
        return send_nowait(self, message)

    monkeypatch.setattr(WebSocket, "send_nowait", send_and_end)
    async with crowd() as (server, application), contextlib.AsyncExitStack() as stack:
        raws = [stack.enter_context(await open_raw(server)) for _ in range(3)]
        await until(lambda: len(application.members) == 3)
        assert broadcast(application.members, "news") == 3
        for raw in raws:
            assert (await raw.next_frame()).payload == b"news"


@aio_test
async def test_a_chat_in_callbacks() -> None:
    """A member that leaves in the middle harms nobody."""

    class Chat(Crowd):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            broadcast(self.members, message)

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
