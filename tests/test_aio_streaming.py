"""Receiving messages in pieces: nothing is lost or mixed, however it is read, and memory is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from adapterhelpers import request_to
from aiohelpers import (
    Hold,
    Listener,
    Raw,
    aio_test,
    client_context,
    dial,
    expect_log,
    held,
    open_raw,
    opened,
    port_of,
    server_context,
    until,
)
from framebuilder import BINARY, CONTINUATION, PING, TEXT, close_payload
from wsframe import Cause
from wsframe.aio import (
    Accept,
    Application,
    ConnectionClosed,
    ConnectionClosedOK,
    RetryPolicy,
    Route,
    Router,
    WebSocket,
    connect,
    serve,
)
from wsframe.aio._streaming import StreamInbox

OPTIONS: Any = {"ping_interval": None}


@contextlib.asynccontextmanager
async def streamed(role: str, *headers: str, **options: Any) -> AsyncIterator[tuple[WebSocket, Raw]]:
    """A WebSocket of ours that receives pieces, and the bare socket that it talks to."""
    if role == "server":
        lines = [tuple(header.split(": ")) for header in headers]
        async with held(*lines, stream=True, **options) as both:  # type: ignore[arg-type]
            yield both
    else:
        with Listener() as listener:
            connecting = connect(listener.uri, stream=True, **OPTIONS, **options)
            async with opened(connecting, listener, *headers) as both:
                yield both


def inbox_of(ws: WebSocket) -> StreamInbox:
    assert isinstance(ws._queue, StreamInbox)
    return ws._queue


both_roles = pytest.mark.parametrize("role", ["server", "client"])


@both_roles
@aio_test
async def test_pieces_are_given_out_as_they_come(role: str) -> None:
    async with streamed(role) as (ws, raw):
        stream = ws.recv_stream()
        await raw.send_frame(TEXT, b"one", fin=False)
        assert await anext(stream) == "one"
        # Control frames come between, and are answered.
        await raw.send(raw.frame(PING, b"p") + raw.frame(CONTINUATION, "tw☃".encode()[:-1], fin=False))
        assert await anext(stream) == "tw"
        assert (await raw.next_frame()).payload == b"p"
        # Half a frame is a piece, and half a character is none.
        frame = raw.frame(CONTINUATION, "☃".encode()[-1:] + bytes(100), fin=True)
        await raw.send(frame[:-50])
        assert await anext(stream) == "☃" + "\0" * 50
        await raw.send(frame[-50:])
        assert [piece async for piece in stream] == ["\0" * 50]
        assert [piece async for piece in stream] == []
        # Whole, empty, and binary.
        await raw.send(raw.frame(TEXT, b"x") + raw.frame(TEXT) + raw.frame(BINARY, b"b") + raw.frame(BINARY))
        for expected in ("x", "", b"b", b""):
            assert [piece async for piece in ws.recv_stream()] == [expected]


@both_roles
@aio_test
async def test_recv_and_iterating_join_the_pieces(role: str) -> None:
    async with streamed(role) as (ws, raw):
        message = (
            raw.frame(TEXT, "ü".encode()[:1], fin=False)
            + raw.frame(CONTINUATION, fin=False)
            + raw.frame(CONTINUATION, "ü".encode()[1:] + b"\r\n", fin=False)
            + raw.frame(CONTINUATION)
        )
        await raw.send(message + raw.frame(BINARY, b"12", fin=False) + raw.frame(CONTINUATION, b"3"))
        assert await ws.recv() == "ü\r\n"
        assert await ws.recv() == b"123"
        await raw.send(message + raw.frame(TEXT, b"whole"))
        iterator = aiter(ws)
        assert [await anext(iterator), await anext(iterator)] == ["ü\r\n", "whole"]


@both_roles
@aio_test
async def test_who_leaves_early_may_go_on_or_skip_the_rest(role: str) -> None:
    async with streamed(role) as (ws, raw):
        begin, rest = raw.frame(TEXT, b"a", fin=False), raw.frame(CONTINUATION, b"b")
        # On with the same one.
        await raw.send(begin + rest)
        stream = ws.recv_stream()
        async for piece in stream:
            assert piece == "a"
            break
        assert [piece async for piece in stream] == ["b"]
        # The rest has come already, or has not.
        for together in (True, False):
            readers: list[Callable[[], Coroutine[Any, Any, Any]]] = [ws.recv, lambda: _next(ws.recv_stream())]
            for reading in readers:
                await raw.send(begin + rest if together else begin)
                async for piece in ws.recv_stream():
                    assert piece == "a"
                    break
                after = asyncio.create_task(reading())
                await asyncio.sleep(0.01)
                assert not after.done()
                await raw.send((b"" if together else rest) + raw.frame(TEXT, b"next"))
                assert await after == "next"


@both_roles
@aio_test
async def test_a_stream_whose_message_was_skipped_says_so(role: str) -> None:
    async with streamed(role) as (ws, raw):
        await raw.send(
            raw.frame(TEXT, b"a", fin=False) + raw.frame(CONTINUATION, b"b") + raw.frame(TEXT, b"c")
        )
        stream = ws.recv_stream()
        assert await anext(stream) == "a"
        assert await ws.recv() == "c"
        with pytest.raises(RuntimeError, match="the rest of this message is gone"):
            await anext(stream)


@both_roles
@aio_test
async def test_skipping_can_be_cancelled_and_is_gone_on_with(role: str) -> None:
    async with streamed(role) as (ws, raw):
        await raw.send_frame(TEXT, b"a", fin=False)
        stream = ws.recv_stream()
        assert await anext(stream) == "a"
        for _ in range(3):
            await raw.send_frame(CONTINUATION, b"b", fin=False)
            # (In Python 3.11, wait_for() would be another task.)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await ws.recv()
        with pytest.raises(RuntimeError, match="gone"):
            await anext(stream)
        await raw.send(raw.frame(CONTINUATION, b"c") + raw.frame(TEXT, b"next"))
        assert await ws.recv() == "next"


@both_roles
@aio_test
async def test_cancelled_reading_loses_nothing(role: str) -> None:
    async with streamed(role) as (ws, raw):
        await raw.send_frame(TEXT, b"1", fin=False)
        for number in (b"2", b"3"):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(ws.recv(), 0.02)
            await raw.send_frame(CONTINUATION, number, fin=False)
        await raw.send_frame(CONTINUATION, b"4")
        assert await ws.recv() == "1234"
        # What a cancelled recv() had is the first piece.
        await raw.send_frame(TEXT, b"1", fin=False)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.05)
        await raw.send_frame(CONTINUATION, b"2", fin=False)
        stream = ws.recv_stream()
        assert await anext(stream) == "1"
        assert await anext(stream) == "2"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_next(stream), 0.02)
        await raw.send_frame(CONTINUATION, b"3")
        assert [piece async for piece in stream] == ["3"]


@aio_test
async def test_one_reader_at_a_time_and_the_first_is_named() -> None:
    async with streamed("server") as (ws, raw):
        first = asyncio.create_task(ws.recv(), name="the first one")
        await asyncio.sleep(0)
        waiting = r"recv\(\) is already waiting in the first one"
        with pytest.raises(RuntimeError, match=waiting):
            await ws.recv()
        with pytest.raises(RuntimeError, match=waiting):
            await anext(ws.recv_stream())
        # Within the message as well.
        await raw.send_frame(TEXT, b"1", fin=False)
        await until(lambda: inbox_of(ws).has_joined)
        with pytest.raises(RuntimeError, match=waiting):
            await ws.recv()
        await raw.send_frame(CONTINUATION, b"2")
        assert await first == "12"

        processing = asyncio.Event()

        async def read() -> list[str | bytes]:
            pieces = []
            async for piece in ws.recv_stream():
                pieces.append(piece)
                await processing.wait()
            return pieces

        reader = asyncio.create_task(read(), name="the reader")
        await raw.send_frame(TEXT, b"1", fin=False)
        await until(lambda: inbox_of(ws)._stream)
        await asyncio.sleep(0.02)
        # It is not waiting here, but will come back.
        with pytest.raises(RuntimeError, match="the reader is in the middle of a message"):
            await ws.recv()
        processing.set()
        await raw.send_frame(CONTINUATION, b"2")
        assert await reader == ["1", "2"]
        # Whoever has ended does not come back.
        await raw.send(
            raw.frame(TEXT, b"1", fin=False) + raw.frame(CONTINUATION, b"2") + raw.frame(TEXT, b"3")
        )
        stream = ws.recv_stream()
        assert await asyncio.create_task(_next(stream)) == "1"
        assert await ws.recv() == "3"


async def _next(stream: AsyncIterator[str | bytes]) -> str | bytes:
    return await anext(stream)


async def drained(ws: WebSocket) -> tuple[list[str | bytes], ConnectionClosed]:
    """The pieces of one message up to the end of the connection."""
    pieces = []
    stream = ws.recv_stream()
    try:
        while True:
            pieces.append(await anext(stream))
    except ConnectionClosed as exc:
        return pieces, exc


@both_roles
@pytest.mark.parametrize("how", ["close", "eof", "reset", "utf-8", "too big", "fragments", "protocol"])
@aio_test
async def test_what_was_good_comes_before_the_end(role: str, how: str) -> None:
    async with streamed(role, max_message_size=1000) as (ws, raw):
        await raw.send_frame(TEXT, b"good", fin=False)
        # So that it is here, whatever becomes of the connection.
        await until(lambda: ws._queue)
        if how == "close":
            await raw.send_close(1000)
        elif how == "eof":
            raw.shutdown()
        elif how == "reset":
            raw.reset()
        elif how == "utf-8":
            await raw.send_frame(CONTINUATION, b"ok\xff", fin=False)
        elif how == "too big":
            await raw.send(
                raw.frame(CONTINUATION, b"ok", fin=False) + raw.frame(CONTINUATION, bytes(995))[:20]
            )
        elif how == "fragments":
            await raw.send_frame(TEXT, b"another message")
        else:
            await raw.send_frame(CONTINUATION, b"", rsv=1)
        with contextlib.suppress(ConnectionResetError, OSError):
            if how not in ("eof", "reset", "close"):
                frame = await raw.next_frame()
                codes = {"utf-8": 1007, "too big": 1009}
                assert frame.payload[:2] == codes.get(how, 1002).to_bytes(2, "big")
            if how != "reset":
                raw.close()
        pieces, closed = await drained(ws)
        assert pieces == (["good", "ok"] if how in ("utf-8", "too big") else ["good"])
        causes = {
            "close": Cause.CLOSE_HANDSHAKE,
            "eof": Cause.TRUNCATED,
            "reset": Cause.RESET,
            "utf-8": Cause.INVALID_DATA,
            "too big": Cause.TOO_BIG,
        }
        assert closed.ending.cause is causes.get(how, Cause.PROTOCOL_ERROR)
        assert isinstance(closed, ConnectionClosedOK) is (how == "close")
        with pytest.raises(type(closed)):
            await ws.recv()
        with pytest.raises(type(closed)):
            await anext(ws.recv_stream())


@both_roles
@aio_test
async def test_compressed_messages_come_in_pieces_under_the_limit(role: str) -> None:
    line = "Sec-WebSocket-Extensions: permessage-deflate"
    async with streamed(role, line, compression=True, max_message_size=1 << 20) as (ws, raw):
        deflater = zlib.compressobj(wbits=-15)

        def compressed(data: bytes, final: bool) -> bytes:
            payload = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
            return payload[:-4] if final else payload

        text = "Grüße ☃ " * 1000
        data = text.encode()
        await raw.send_frame(TEXT, compressed(data[:5000], False), rsv=4, fin=False)
        stream = ws.recv_stream()
        pieces = [await anext(stream)]
        assert pieces[0]
        await raw.send_frame(PING, b"p")
        assert (await raw.next_frame()).payload == b"p"
        await raw.send_frame(CONTINUATION, compressed(data[5000:], True))
        pieces += [piece async for piece in stream]
        assert "".join(map(str, pieces)) == text
        # Exactly the limit, and then a byte more.
        await raw.send_frame(BINARY, compressed(bytes(1 << 20), True), rsv=4)
        assert len(await ws.recv()) == 1 << 20
        reading = asyncio.create_task(drained(ws))
        await raw.send_frame(BINARY, compressed(bytes(1 << 19), False), rsv=4, fin=False)
        await raw.send_frame(CONTINUATION, compressed(bytes((1 << 19) + 1), True))
        assert (await raw.next_frame()).payload[:2] == (1009).to_bytes(2, "big")
        raw.close()
        got, closed = await reading
        assert sum(map(len, got)) >= 1 << 19
        assert closed.ending.cause is Cause.TOO_BIG


@pytest.mark.parametrize("size", [1, 100_000])
@aio_test
async def test_reading_pauses_while_nobody_takes_the_pieces(size: int) -> None:
    async with streamed("server", max_message_size=64 << 20) as (ws, raw):
        total = 400 if size > 1 else 100_000
        frame = raw.frame(CONTINUATION, bytes(size), fin=False)
        batch = frame * (1 if size > 1 else 100)

        async def pour() -> None:
            await raw.send_frame(BINARY, b"", fin=False)
            for _ in range(0, total, len(batch) // len(frame)):
                await raw.send(batch)
            await raw.send_frame(CONTINUATION)

        pouring = asyncio.create_task(pour())
        await until(lambda: ws._channel.reading_is_paused)
        await asyncio.sleep(0.1)
        # What is small fits into what the system keeps.
        assert size == 1 or not pouring.done()
        limits = ws._connection.limits
        items = ws._queue.items
        if size > 1:
            held_bytes = sum(len(chunk.data) for chunk in items)
            # The last chunk that was read may lie above the mark.
            assert limits.receive_queue_bytes <= held_bytes < limits.receive_queue_bytes + (300 << 10)
        else:
            # One read of the socket brings so many at the most.
            assert limits.receive_queue_messages <= len(items) <= (256 << 10) // 7
        received = 0
        async for piece in ws.recv_stream():
            received += len(piece)
        assert received == total * size
        await pouring


@aio_test
async def test_a_message_that_comes_byte_by_byte_is_joined_in_one_buffer() -> None:
    async with streamed("server", max_message_size=1 << 20) as (ws, raw):
        total = 20_000
        sending = asyncio.create_task(raw.send(raw.frame(BINARY, b"", fin=False)))
        task = asyncio.create_task(ws.recv())
        await sending
        for _ in range(total // 1000):
            await raw.send(raw.frame(CONTINUATION, b"x", fin=False) * 1000)
        await until(lambda: inbox_of(ws).has_joined)
        await asyncio.sleep(0.05)
        gc.collect()
        chunks = sum(type(item).__name__ == "MessageChunk" for item in gc.get_objects())
        assert chunks < 1000
        await raw.send_frame(CONTINUATION, b"y")
        assert await task == b"x" * total + b"y"


@aio_test
async def test_over_tls() -> None:
    async def handler(ws: WebSocket) -> None:
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                await ws.send(ws.recv_stream())

    async with (
        serve(handler, "127.0.0.1", 0, ssl=server_context(), stream=True, **OPTIONS) as server,
        connect(f"wss://127.0.0.1:{port_of(server)}/", ssl=client_context(), stream=True, **OPTIONS) as ws,
    ):
        message = random.Random(1).randbytes(900_000)
        pieces = [message[at : at + 30_000] for at in range(0, len(message), 30_000)]
        for _ in range(3):
            sending = asyncio.create_task(ws.send(pieces))
            received = [piece async for piece in ws.recv_stream()]
            await sending
            assert b"".join(received) == message  # type: ignore[arg-type]
            assert len(received) > 1


@aio_test
async def test_without_stream_a_message_is_its_only_piece() -> None:
    async with held() as (ws, raw):
        await raw.send(raw.frame(TEXT, b"a", fin=False) + raw.frame(CONTINUATION, b"b") + raw.frame(BINARY))
        stream = ws.recv_stream()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_never(ws), 0.01)
        assert [piece async for piece in stream] == ["ab"]
        assert [piece async for piece in stream] == []
        assert [piece async for piece in ws.recv_stream()] == [b""]
        await raw.send_close(1000)
        with pytest.raises(ConnectionClosedOK):
            await anext(ws.recv_stream())


async def _never(ws: WebSocket) -> None:
    await asyncio.get_running_loop().create_future()


@both_roles
@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_a_message_in_pieces_counts_once(role: str, compression: bool) -> None:
    headers = ["Sec-WebSocket-Extensions: permessage-deflate"] if compression else []
    async with streamed(role, *headers, compression=compression) as (ws, raw):
        traffic = ws._connection.traffic
        parts = [
            raw.frame(TEXT, b"a", fin=False),
            raw.frame(CONTINUATION, b"b", fin=False),
            # Not for the express lane.
            raw.frame(PING) + raw.frame(CONTINUATION, b"c", fin=False),
            raw.frame(CONTINUATION, b"d") + raw.frame(BINARY, b"whole") + raw.frame(TEXT),
        ]
        stream = ws.recv_stream()
        for part, expected in zip(parts, "abcd", strict=True):
            await raw.send(part)
            assert await anext(stream) == expected
            assert traffic.messages_in == (3 if expected == "d" else 0)
        assert [await ws.recv(), await ws.recv()] == [b"whole", ""]
        if compression:
            deflater = zlib.compressobj(wbits=-15)
            payload = deflater.compress(b"x" * 1000) + deflater.flush(zlib.Z_SYNC_FLUSH)
            await raw.send_frame(TEXT, payload[:5], rsv=4, fin=False)
            await raw.send_frame(CONTINUATION, payload[5:-4])
            assert await ws.recv() == "x" * 1000
            assert traffic.messages_in == 4
        # And those that are sent.
        await ws.send(["1", "2", "3"])
        await ws.send("4")
        assert traffic.messages_out == 2


@pytest.mark.parametrize("judged", ["at once", "router", "proxies", "accept"])
@aio_test
async def test_stream_goes_with_everything_that_finds_a_handler(judged: str) -> None:
    got: list[list[str | bytes]] = []

    async def handler(ws: WebSocket) -> None:
        got.append([piece async for piece in ws.recv_stream()])

    router = Router([Route("/", handler)])
    by_way: dict[str, dict[str, Any]] = {
        "proxies": {"trusted_proxies": ["127.0.0.1"]},
        "accept": {"on_request": lambda _: Accept(options={"max_message_size": 100})},
    }
    options = by_way.get(judged, {})
    serving = serve(
        router if judged == "router" else handler, "127.0.0.1", 0, stream=True, **OPTIONS, **options
    )
    async with serving as server:
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"a", fin=False)
            await asyncio.sleep(0.01)
            await raw.send_frame(CONTINUATION, b"b")
            await until(lambda: got)
    assert got == [["a", "b"]]


@aio_test
async def test_every_connection_of_a_client_that_connects_again_gets_pieces() -> None:
    with Listener() as listener:
        got: list[list[str | bytes]] = []

        async def read() -> None:
            async for ws in connect(listener.uri, stream=True, retry=RetryPolicy(initial=0.001), **OPTIONS):
                got.append([piece async for piece in ws.recv_stream()])
                with contextlib.suppress(ConnectionClosed):
                    await ws.recv()

        reading = asyncio.create_task(read())
        for code in (1001, 1000):
            with await listener.accept() as raw:
                await raw.accept_websocket()
                await raw.send_frame(TEXT, b"a", fin=False)
                await asyncio.sleep(0.01)
                await raw.send_frame(CONTINUATION, b"b")
                await raw.send_close(code)
                assert (await raw.next_frame()).payload == close_payload(code)
        await reading
    assert got == [["a", "b"]] * 2


@aio_test
async def test_an_application_gets_whole_messages() -> None:
    router = Router([Route("/", Application())])
    with pytest.raises(TypeError, match="an Application gets whole messages"):
        serve(router, "127.0.0.1", 0, stream=True)
    said = Accept(handler=Application())
    async with serve(Hold(), "127.0.0.1", 0, on_request=lambda _: said, stream=True, **OPTIONS) as server:
        with expect_log("its events could not be handled"), await dial(server) as raw:
            await raw.send(request_to(server))
            assert (await raw.head()).startswith(b"HTTP/1.1 500 ")
    with pytest.raises(TypeError, match="an Application gets whole messages"):
        serve(Application(), "127.0.0.1", 0, stream=True)
    with pytest.raises(TypeError, match="an Application gets whole messages"):
        connect("ws://127.0.0.1/", application=Application(), stream=True)
