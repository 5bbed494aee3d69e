"""How connections over the asyncio adapter end, on the wire: nothing is lost, nothing hangs, no reset."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import pytest

from aiohelpers import Endings, Listener, aio_test, echo, expect_log, open_raw, opened, until, uri_of
from framebuilder import BINARY, CLOSE, PING, PONG, TEXT, ParsedFrame, close_payload, parse_all
from wsframe import Cause, Disconnected, Initiator, Limits, LocalProtocolError
from wsframe.aio import ConnectionClosedError, ConnectionClosedOK, WebSocket, connect, serve


def last(data: bytes) -> ParsedFrame:
    return parse_all(data)[-1]


@pytest.mark.parametrize("size", [9_000, 900_000])
@pytest.mark.parametrize("delay", [0.001, 0.02])
@aio_test
async def test_a_server_that_closes_loses_nothing_and_resets_nothing(size: int, delay: float) -> None:
    # The most damaging bug of deployed servers: they close TCP after writing Close, the peer's reply hits a closed
    # socket, and the reset throws away what the peer has not read.
    payload = os.urandom(size)
    limits = Limits(write_high_water=4 * size, write_hard_cap=5 * size)
    endings = Endings()

    async def handler(ws: WebSocket) -> None:
        await ws.send(payload)

    async with serve(handler, "127.0.0.1", 0, on_end=endings, limits=limits) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            await asyncio.sleep(delay)
            await raw.send_frame(TEXT, b"meanwhile")
            await raw.send_close()
            frames = parse_all(await raw.rest())
            assert [frame.opcode for frame in frames] == [BINARY, CLOSE]
            assert frames[0].payload == payload
            assert frames[1].payload == close_payload(1000)
        ending = await endings.one()
        assert (ending.cause, ending.clean, ending.initiator) == (
            Cause.CLOSE_HANDSHAKE,
            True,
            Initiator.LOCAL,
        )


@aio_test
async def test_the_server_closes_tcp_first_and_the_client_waits_for_it() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            closing = asyncio.create_task(ws.close(3000, "bye"))
            assert (await raw.next_frame()).payload == close_payload(3000, b"bye")
            await raw.send_close(3000)
            await asyncio.sleep(0.05)
            # It has not sent its end of stream: nothing to read, and not the end either.
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(raw.receive(), 0.05)
            assert not closing.done()
            raw.shutdown()
            await closing
            assert ws.ending.clean


@pytest.mark.parametrize(
    ("bad", "cause", "code"),
    [
        (b"\xc1\x80", Cause.PROTOCOL_ERROR, 1002),
        (b"\x81\x82\x00\x00\x00\x00\xff\xff", Cause.INVALID_DATA, 1007),
        (b"\x82\xff\x00\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00", Cause.TOO_BIG, 1009),
        (b"\x81\x00", Cause.PROTOCOL_ERROR, 1002),
    ],
    ids=["rsv", "utf-8", "too big", "unmasked"],
)
@aio_test
async def test_a_failing_close_arrives_although_the_peer_talks_on(
    bad: bytes, cause: Cause, code: int
) -> None:
    endings = Endings()
    async with serve(echo, "127.0.0.1", 0, on_end=endings) as server:
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"before")
            assert (await raw.next_frame()).payload == b"before"
            await raw.send(bad)
            # More than the kernel's buffers hold: it has to be read, or nothing goes on.
            await raw.send(bytes(3_000_000))
            (frame,) = parse_all(await raw.rest())
            assert (frame.opcode, frame.payload[:2]) == (CLOSE, close_payload(code))
            raw.shutdown()
            ending = await endings.one()
    assert (ending.cause, ending.clean, ending.code, ending.received) == (cause, False, 1006, None)
    assert ending.sent is not None
    assert ending.sent.code == code


@aio_test
async def test_what_came_before_a_failure_in_the_same_chunk_is_answered_first() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        with await open_raw(server) as raw:
            await raw.send(raw.frame(TEXT, b"1") + raw.frame(TEXT, b"2") + b"\xc1\x80")
            frames = parse_all(await raw.rest())
            assert [frame.payload for frame in frames[:-1]] == [b"1", b"2"]
            assert frames[-1].payload[:2] == close_payload(1002)


@aio_test
async def test_a_mute_peer_ends_with_close_timeout() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, close_timeout=0.2), listener) as (ws, raw):
            async with asyncio.timeout(5):
                await ws.close()
            assert (ws.ending.cause, ws.ending.clean, ws.close_code) == (Cause.CLOSE_TIMEOUT, False, 1006)
            assert last(await raw.take(8)).opcode == CLOSE


@pytest.mark.parametrize("opcode", [BINARY, PING])
@aio_test
async def test_a_peer_that_talks_on_does_not_put_the_end_off(opcode: int) -> None:
    endings = Endings()

    async def handler(ws: WebSocket) -> None:
        await ws.recv()

    async with serve(handler, "127.0.0.1", 0, on_end=endings, close_timeout=0.3) as server:
        with await open_raw(server) as raw:
            chunk = raw.frame(opcode, bytes(100)) * 1000
            await raw.send_frame(TEXT, b"go")
            with contextlib.suppress(ConnectionError):
                while not endings:
                    await raw.send(chunk)
        ending = await endings.one()
    assert (ending.cause, ending.initiator) == (Cause.CLOSE_TIMEOUT, Initiator.LOCAL)
    assert ending.sent is not None


@aio_test
async def test_a_peer_that_talks_on_and_then_closes_closes_cleanly() -> None:
    endings = Endings()

    async def handler(ws: WebSocket) -> None:
        await ws.recv()

    async with serve(handler, "127.0.0.1", 0, on_end=endings) as server:
        with await open_raw(server) as raw:
            chunk = raw.frame(TEXT, bytes(100)) * 1000
            for _ in range(30):
                await raw.send(chunk)
            await raw.send_close()
            assert last(await raw.rest()).payload == close_payload(1000)
        assert (await endings.one()).clean


@aio_test
async def test_our_close_while_the_write_buffer_is_full() -> None:
    endings = Endings()
    sockets: list[WebSocket] = []

    async def handler(ws: WebSocket) -> None:
        sockets.append(ws)
        await ws.send(bytes(8 << 20))
        await ws.send(bytes(8 << 20))

    async with serve(handler, "127.0.0.1", 0, on_end=endings, close_timeout=0.3) as server:
        with await open_raw(server, receive_buffer=4096):
            await until(lambda: sockets)
            await asyncio.sleep(0.05)
            async with asyncio.timeout(5):
                await sockets[0].close()
        ending = await endings.one()
    assert (ending.cause, ending.initiator, ending.clean) == (Cause.CLOSE_TIMEOUT, Initiator.LOCAL, False)
    # It could not even begin to leave, and nobody says that it did.
    assert ending.sent is None


@aio_test
async def test_our_close_while_the_write_buffer_is_full_of_a_peer_that_reads_in_the_end() -> None:
    endings = Endings()
    size = 8 << 20

    async def handler(ws: WebSocket) -> None:
        await ws.send(bytes(size))

    async with serve(handler, "127.0.0.1", 0, close_timeout=60, on_end=endings) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            await asyncio.sleep(0.1)
            assert len((await raw.next_frame()).payload) == size
            assert (await raw.next_frame()).payload == close_payload(1000)
            await raw.send_close()
            assert await raw.rest() == b""
        assert (await endings.one()).clean


@aio_test
async def test_the_peers_close_is_answered_behind_a_full_write_buffer() -> None:
    endings = Endings()

    async def handler(ws: WebSocket) -> None:
        await ws.send(bytes(8 << 20))
        await ws.wait_closed()

    async with serve(handler, "127.0.0.1", 0, on_end=endings) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            await raw.send_close(4000)
            frames = parse_all(await raw.rest())
            assert [(frame.opcode, len(frame.payload)) for frame in frames] == [(BINARY, 8 << 20), (CLOSE, 2)]
        assert (await endings.one()).clean


@aio_test
async def test_both_sides_close_at_once() -> None:
    async with serve(lambda ws: ws.close(4001), "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        await ws.close(4002)
        assert ws.ending is not None
        assert ws.ending.clean
        assert ws.close_code == 4001


@aio_test
async def test_close_then_data_then_fin() -> None:
    endings = Endings()
    async with serve(echo, "127.0.0.1", 0, on_end=endings) as server:
        with await open_raw(server) as raw:
            await raw.send(raw.frame(CLOSE, close_payload(1001)) + raw.frame(TEXT, b"more") * 100)
            raw.shutdown()
            assert parse_all(await raw.rest()) == parse_all(b"\x88\x02\x03\xe9")
        ending = await endings.one()
    assert (ending.clean, ending.code) == (True, 1001)


@aio_test
async def test_a_close_without_code_is_answered_by_one() -> None:
    endings = Endings()
    async with serve(echo, "127.0.0.1", 0, on_end=endings) as server:
        with await open_raw(server) as raw:
            await raw.send_close(None)
            assert await raw.rest() == b"\x88\x00"
        assert (await endings.one()).code == 1005
        endings.clear()
        async with connect(uri_of(server)) as ws:
            await ws.close(None)
            assert ws.close_code == 1005
            with pytest.raises(ConnectionClosedOK):
                await ws.recv()


@pytest.mark.parametrize(
    ("sent", "cause"),
    [(b"", Cause.EOF), (b"\x81", Cause.TRUNCATED), (b"\x01\x80\x00\x00\x00\x00", Cause.TRUNCATED)],
    ids=["between frames", "inside a frame", "inside a message"],
)
@aio_test
async def test_the_end_of_the_stream(sent: bytes, cause: Cause) -> None:
    endings = Endings()
    async with serve(echo, "127.0.0.1", 0, on_end=endings) as server:
        with await open_raw(server) as raw:
            await raw.send(sent)
            raw.shutdown()
            assert await raw.rest() == b""
        ending = await endings.one()
    assert (ending.cause, ending.initiator, ending.code) == (cause, Initiator.REMOTE, 1006)


@aio_test
async def test_answers_that_were_on_their_way_arrive_after_the_peers_end_of_stream() -> None:
    # TCP stays half open until everything is said.
    async with serve(echo, "127.0.0.1", 0) as server:
        with await open_raw(server) as raw:
            await raw.send(raw.frame(TEXT, b"a") + raw.frame(CLOSE, close_payload(1000)))
            raw.shutdown()
            frames = parse_all(await raw.rest())
            assert [frame.opcode for frame in frames][-1:] == [CLOSE]


@aio_test
async def test_closing_twice_waits_for_the_same_end() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        ws = await connect(uri_of(server))
        await asyncio.gather(ws.close(4000), ws.close(4001), ws.wait_closed())
        assert ws.ending is not None
        assert ws.ending.sent is not None
        assert ws.ending.sent.code == 4000
        await ws.close(4002)
        with pytest.raises(LocalProtocolError):
            await ws.close(1006)


@aio_test
async def test_a_cancelled_close_goes_on() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.close(), 0.05)
            assert (await raw.next_frame()).opcode == CLOSE
            await raw.send_close()
            raw.shutdown()
            assert (await ws.wait_closed()).clean


@aio_test
async def test_sending_after_the_close_raises_with_the_ending() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            ws.start_closing(4000)
            calls = [asyncio.create_task(call) for call in (ws.send("x"), ws.ping())]
            await asyncio.sleep(0.01)
            await raw.send_close(4000)
            raw.shutdown()
            for call in calls:
                with pytest.raises(ConnectionClosedError) as caught:
                    await call
                assert caught.value.ending is ws.ending
            frames = parse_all(await raw.rest())
            assert [frame.opcode for frame in frames] == [CLOSE]


@aio_test
async def test_a_bug_does_not_wedge_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: WebSocket, events: list[Any]) -> None:
        if not any(isinstance(event, Disconnected) for event in events):
            raise ZeroDivisionError
        handle_events(self, events)

    handle_events = WebSocket.handle_events
    endings = Endings()
    async with serve(echo, "127.0.0.1", 0, on_end=endings) as server:
        with expect_log("could not be handled"), await open_raw(server) as raw:
            await asyncio.sleep(0.05)
            monkeypatch.setattr(WebSocket, "handle_events", broken)
            await raw.send_frame(PONG, b"x")
            assert (await raw.next_frame()).payload[:2] == close_payload(1011)
            raw.shutdown()
            with contextlib.suppress(ConnectionError):
                await raw.rest()
            await endings.one()


@aio_test
async def test_how_long_a_peer_was_silent_before_it_reset() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            await asyncio.sleep(0.3)
            raw.reset()
            ending = await ws.wait_closed()
            assert ending.cause is Cause.RESET
            assert ending.last_received_age is not None
            assert ending.last_received_age > 0.2
