"""What docs/coming-from.md says to those who come from PHP's client: a test for every row, by its name.

The server is a bare socket, so that what is on the wire is seen. `..._on_sync`: the same without asyncio, because that
client blocks as well.
"""

from __future__ import annotations

import asyncio

import pytest

import synchelpers
from aiohelpers import Listener, aio_test, opened
from framebuilder import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload
from wsframe import Cause, CloseFrame, Disconnected, State
from wsframe.aio import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK, connect


def check_order(ending: Disconnected | None) -> None:
    """It was we who closed, and the reply came."""
    assert ending is not None
    assert (ending.cause, ending.clean, ending.received_first) == (Cause.CLOSE_HANDSHAKE, True, False)
    assert ending.sent == CloseFrame(1000, "ttfn")
    assert ending.received == CloseFrame(1000, "")


@aio_test
async def test_close_frame_then_reply_then_socket() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            closing = asyncio.create_task(ws.close(1000, "ttfn"))
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, close_payload(1000, b"ttfn"))
            # It reads on, and answers nothing any more.
            await raw.send_frame(TEXT, b"x" * 100_000)
            await raw.send_frame(PING, b"?")
            assert not closing.done()
            await raw.send_close(1000)
            # TCP is for the server to close.
            raw.shutdown()
            await closing
            # An end, and no reset; and nothing came behind the Close frame.
            assert await raw.rest() == b""
            check_order(ws.ending)


def test_close_frame_then_reply_then_socket_on_sync() -> None:
    with synchelpers.opened() as (ws, raw):
        closing = synchelpers.Job(ws.close, 1000, "ttfn")
        frame = raw.next_frame()
        assert (frame.opcode, frame.payload) == (CLOSE, close_payload(1000, b"ttfn"))
        raw.send_frame(TEXT, b"x" * 100_000)
        raw.send_frame(PING, b"?")
        synchelpers.waits(closing)
        raw.send_close(1000)
        raw.shutdown()
        closing.result()
        assert raw.rest() == b""
        check_order(ws.ending)


@aio_test
async def test_a_message_before_the_reply() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            await raw.send_frame(TEXT, b"one")
            await raw.send_frame(PING)
            # It has come, and so has what stood before it.
            assert (await raw.next_frame()).opcode == PONG
            closing = asyncio.create_task(ws.close())
            assert (await raw.next_frame()).opcode == CLOSE
            await raw.send_frame(TEXT, b"two")
            await raw.send_close()
            raw.shutdown()
            await closing
            assert await ws.recv() == "one"
            with pytest.raises(ConnectionClosedOK):
                await ws.recv()


@aio_test
async def test_no_reply() -> None:
    with Listener() as listener:
        connecting = connect(listener.uri, ping_interval=None, close_timeout=0.2)
        async with opened(connecting, listener) as (ws, raw):
            closing = asyncio.create_task(ws.close())
            assert (await raw.next_frame()).opcode == CLOSE
            # It talks on, which does not put the end off.
            await raw.send_frame(TEXT, b"never mind")
            await closing
            assert ws.ending is not None
            assert (ws.ending.cause, ws.ending.clean) == (Cause.CLOSE_TIMEOUT, False)
            assert ws.ending.sent == CloseFrame(1000, "")


@aio_test
async def test_the_server_closes_first() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            await raw.send_frame(TEXT, b"last words")
            await raw.send_close(4000, b"bye")
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload[:2]) == (CLOSE, close_payload(4000))
            raw.shutdown()
            assert await raw.rest() == b""
            assert await ws.recv() == "last words"
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.ending.received == CloseFrame(4000, "bye")
            assert caught.value.ending.received_first


@aio_test
async def test_close() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            closing = asyncio.create_task(ws.close())
            assert (await raw.next_frame()).payload == close_payload(1000)
            await raw.send_close()
            raw.shutdown()
            await closing
            # Again is the same end.
            await ws.close(1001, "again")
            assert ws.ending is not None
            assert ws.ending.sent == CloseFrame(1000, "")


@aio_test
async def test_disconnect() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            ws.abort()
            assert await raw.rest() == b""
            ending = await ws.wait_closed()
            assert (ending.cause, ending.sent) == (Cause.LOCAL_ABORT, None)


@pytest.mark.parametrize(("code", "told"), [(4000, 4000), (None, 1005), (0, 1006)])
@aio_test
async def test_get_close_status(code: int | None, told: int) -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            assert (ws.close_code, ws.close_reason) == (None, None)
            if code != 0:
                await raw.send_close(code, b"bye" if code else b"")
            raw.shutdown()
            ending = await ws.wait_closed()
            assert ws.close_code == ending.code == told
            assert ws.close_reason == ("bye" if code else "")


@aio_test
async def test_is_connected() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            states = [ws.state]
            await raw.send_close()
            raw.shutdown()
            await ws.wait_closed()
            states.append(ws.state)
            assert states == [State.OPEN, State.CLOSED]
            with pytest.raises(ConnectionClosed):
                await ws.send("again?")


@aio_test
async def test_text() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            await ws.send("grüße")
            frame = await raw.next_frame()
            assert (frame.opcode, frame.masked, frame.payload) == (TEXT, True, "grüße".encode())


@aio_test
async def test_binary() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            await ws.send(b"\x00\xff")
            frame = await raw.next_frame()
            assert (frame.opcode, frame.masked, frame.payload) == (BINARY, True, b"\x00\xff")


@aio_test
async def test_receive() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            await raw.send_frame(PONG, b"nobody asked")
            await raw.send_frame(PING, b"?")
            await raw.send_frame(TEXT, b"text")
            await raw.send_frame(BINARY, b"binary")
            assert [await ws.recv() for _ in range(2)] == ["text", b"binary"]
            assert (await raw.next_frame()).opcode == PONG


@aio_test
async def test_ping() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            pong = await ws.ping(b"here?")
            ping = await raw.next_frame()
            assert (ping.opcode, ping.payload) == (PING, b"here?")
            await raw.send_frame(PONG, b"here?")
            assert await pong >= 0
            # And the other way round, whatever the application does.
            await raw.send_frame(PING, b"there?")
            answer = await raw.next_frame()
            assert (answer.opcode, answer.payload) == (PONG, b"there?")


@aio_test
async def test_set_timeout() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await ws.recv()
            await raw.send_frame(TEXT, b"at last")
            assert await ws.recv() == "at last"


def test_set_timeout_on_sync() -> None:
    with synchelpers.opened() as (ws, raw):
        for _ in range(3):
            with pytest.raises(TimeoutError):
                ws.recv(timeout=0.01)
        raw.send_frame(TEXT, b"at last")
        assert ws.recv(timeout=synchelpers.DEADLINE) == "at last"


@aio_test
async def test_set_fragment_size() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            await ws.send("x" * 100_000)
            frame = await raw.next_frame()
            assert (frame.opcode, frame.fin, len(frame.payload)) == (TEXT, True, 100_000)
            await ws.send(["one ", "two ", "three"])
            frames = [await raw.next_frame()]
            while not frames[-1].fin:
                frames.append(await raw.next_frame())
            assert [frame.opcode for frame in frames] == [TEXT] + [CONTINUATION] * (len(frames) - 1)
            assert [frame.payload for frame in frames if frame.payload] == [b"one ", b"two ", b"three"]
