"""What does not wait: `send_nowait` and prepared messages, on asyncio; and what is prepared, on sync."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.sync.client

import synchelpers
from aiohelpers import Listener, aio_test, open_raw, opened, until, uri_of
from crowd import Crowd, crowd
from framebuilder import BINARY, TEXT, build, close_payload
from wsframe import Cause, Limits, LocalProtocolError, PreparedMessage, State, sync
from wsframe.aio import Application, WebSocket, connect, serve

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
            for send in (ws.send_nowait, PreparedMessage):
                with pytest.raises(TypeError):
                    send(message)
            if message != ["x"]:
                # For send() these are pieces.
                with pytest.raises(TypeError):
                    await ws.send(message)
            for send in (ws.send_nowait, PreparedMessage):
                with pytest.raises(LocalProtocolError):
                    send("\ud800")
            assert ws.buffered_bytes == 0


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
        (other,) = set(application.members) - {lazy}
        sent = 0
        # The kernel takes some megabytes.
        while {ws.send_nowait(bytes(1 << 20)) for ws in application.members} == {True}:
            sent += 1
            assert lazy.state is State.OPEN
            assert lazy.buffered_bytes < 6 << 20
            await quick.recv()
        assert not lazy.send_nowait("x")
        await quick.recv()
        assert other.send_nowait("still here")
        assert await quick.recv() == "still here"
        await until(lambda: application.endings)
        assert [ending.cause for ending in application.endings] == [Cause.SLOW_PEER]
        assert sent > 4
        assert application.members == [other]
        slow.close()


@aio_test
async def test_buffered_says_what_waits() -> None:
    async with crowd() as (server, application):
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await application.one()
            assert ws.buffered_bytes == 0
            count = 0
            while ws.buffered_bytes < 1 << 20:
                ws.send_nowait(bytes(100_000))
                count += 1
                await asyncio.sleep(0)
            drain = asyncio.create_task(ws.drain())
            for _ in range(count):
                await raw.next_frame()
            await drain
            assert ws.buffered_bytes <= Limits().write_low_water


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
            headers = []
            for _ in range(2):
                while len(raw.received) < 14:
                    raw.received += await raw.receive()
                headers.append(raw.received[:6])
                frame = await raw.next_frame()
                assert (frame.opcode, frame.payload) == (TEXT, b"the same")
            # Two masking keys.
            assert {header[:2] for header in headers} == {b"\x81\x88"}
            assert len(set(headers)) == 2


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
            for _ in range(2):
                frame = await raw.next_frame()
                assert (frame.rsv, frame.payload) == (0, text.encode())
            # Without that it is.
            ws.send_nowait(text)
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
        assert ws.buffered_bytes == 0
