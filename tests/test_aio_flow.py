"""Flow control of the asyncio adapter, both ways: bounded memory, nothing lost, no order changed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import zlib
from typing import Any

import pytest

from aiohelpers import (
    Hold,
    Listener,
    Raw,
    aio_test,
    client_context,
    echo,
    open_raw,
    opened,
    server_context,
    until,
    uri_of,
)
from framebuilder import BINARY, PING, PONG, TEXT, ParsedFrame, close_payload
from sweephelpers import Records, system_sockets
from wsframe import Cause, Connection, Disconnected, Limits
from wsframe.aio import (
    ConnectionClosedError,
    ConnectionClosedOK,
    ConnectLost,
    WebSocket,
    _channel,
    connect,
    serve,
)
from wsframe.testing import Faults, FaultySocket, connected, run, sweep

#: More than the kernel takes for a peer that does not read.
MUCH = 12 << 20


def buffered(ws: WebSocket) -> int:
    """Bytes that wait to be written, wherever."""
    assert ws._channel.transport is not None
    return ws._connection.buffered


async def fill(ws: WebSocket, message: bytes = bytes(10_000)) -> int:
    """Send until it takes no more; return how many messages went."""
    count = 0
    with contextlib.suppress(TimeoutError):
        while True:
            await asyncio.wait_for(ws.send(message), 0.1)
            count += 1
    return count


# Sending.


@aio_test
async def test_send_waits_for_a_slow_reader_and_goes_on_when_it_reads() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await hold.one()
            count = await fill(ws)
            assert count * 10_000 < MUCH
            assert buffered(ws) < ws._connection.limits.write_high_water + 20_000
            sending = asyncio.create_task(ws.send("the last"))
            await asyncio.sleep(0.02)
            assert not sending.done()
            frames = [await raw.next_frame() for _ in range(count + 1)]
            await sending
            assert {frame.payload for frame in frames[:-1]} == {bytes(10_000)}
            assert frames[-1].payload == b"the last"


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_cancelled_sends_leave_whole_messages(compression: bool) -> None:
    hold = Hold()
    sent = []
    with contextlib.ExitStack() as stack:
        async with serve(hold, "127.0.0.1", 0, compression=compression) as server:
            extension = [("Sec-WebSocket-Extensions", "permessage-deflate")] if compression else []
            raw = stack.enter_context(await open_raw(server, *extension, receive_buffer=4096))
            ws = await hold.one()
            message = os.urandom(30_000)
            for number in range(400):
                data = b"%d " % number + message
                try:
                    await asyncio.wait_for(ws.send(data), 0.001)
                    sent.append(data)
                except TimeoutError:
                    if number > 350:
                        break
                    frame_reader = asyncio.create_task(raw.receive())
                    raw.received += await frame_reader
            closing = asyncio.create_task(ws.close())
            received = await messages(raw, compression)
            await raw.send_close()
            raw.shutdown()
            await closing
            # What send() returned from is there, whole, once and in order; what was cancelled was not begun.
            assert received == sent


async def messages(raw: Raw, compressed: bool) -> list[bytes]:
    """All messages up to the Close frame, inflated by hand."""
    inflater = zlib.decompressobj(-15)
    received = []
    while (frame := await raw.next_frame()).opcode == BINARY:
        payload = frame.payload
        assert frame.fin
        if frame.rsv:
            assert compressed
            payload = inflater.decompress(payload + b"\x00\x00\xff\xff")
        received.append(payload)
    return received


@aio_test
async def test_many_senders_wait_in_line_and_nobody_is_punished() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await hold.one()
            # Together far beyond the hard cap, which is for those who do not wait.
            senders = [asyncio.create_task(ws.send(b"%6d" % number + bytes(50_000))) for number in range(400)]
            await asyncio.sleep(0.05)
            assert buffered(ws) < ws._connection.limits.write_high_water + 100_000
            senders[300].cancel()
            numbers = [int((await raw.next_frame()).payload[:6]) for _ in range(399)]
            assert numbers == [*range(300), *range(301, 400)]
            await asyncio.gather(*senders, return_exceptions=True)
            assert buffered(ws) == 0


@pytest.mark.parametrize("compression", [False, True])
@aio_test
async def test_many_large_answers_to_one_message_wait_for_room(compression: bool) -> None:
    # The handler goes on while the chunk is processed, and until it waits for something nothing leaves by itself.
    answer = os.urandom(1 << 20)

    async def handler(ws: WebSocket) -> None:
        async for _ in ws:
            for _ in range(12):
                await ws.send(bytearray(answer))

    options: Any = {"compression": compression, "ping_interval": None}
    async with (
        serve(handler, "127.0.0.1", 0, **options) as server,
        connect(uri_of(server), **options) as ws,
    ):
        for _ in range(2):
            await ws.send("go")
            for _ in range(12):
                assert await ws.recv() == answer


@aio_test
async def test_drain_waits_for_the_low_water_mark_and_send_for_the_high_one() -> None:
    hold = Hold()
    async with serve(
        hold, "127.0.0.1", 0, limits=Limits(write_high_water=4 << 20, write_low_water=10_000)
    ) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await hold.one()
            size = 100_000
            count = 0
            while buffered(ws) < 1 << 20:
                await ws.send(bytes(size))
                count += 1
            # There is room for more; but what there is has not left.
            assert not ws._channel.congested
            draining = [asyncio.create_task(ws.drain()) for _ in range(2)]
            await asyncio.sleep(0.02)
            assert not any(task.done() for task in draining)
            draining.pop().cancel()
            for _ in range(count):
                await raw.next_frame()
            await draining[0]
            assert buffered(ws) <= 10_000
            # And the marks are what they were.
            while buffered(ws) < 1 << 20:
                await ws.send(bytes(size))
            assert not ws._channel.congested
            raw.reset()
            with pytest.raises(ConnectionClosedError):
                await ws.drain()


@aio_test
async def test_senders_in_line_learn_that_the_connection_ended() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await hold.one()
            await fill(ws)
            senders = [asyncio.create_task(ws.send("x")) for _ in range(3)]
            await asyncio.sleep(0)
            raw.reset()
            for sender in senders:
                with pytest.raises(ConnectionClosedError) as caught:
                    await sender
                assert caught.value.ending is ws.ending


@aio_test
async def test_large_messages_in_two_buffers_meet_the_high_water_mark() -> None:
    # Python 3.12.1 and 3.13.0: writelines() of a socket transport does not look at the marks.
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0) as server:
        with await open_raw(server, receive_buffer=4096):
            ws = await hold.one()
            assert await fill(ws, bytes(1 << 20)) < 12
            assert ws._channel.congested
            ws.abort()


@aio_test
async def test_a_peer_that_reads_slowly_but_steadily_is_not_lost() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0, ping_interval=0.1, ping_timeout=0.15) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await hold.one()
            await ws.send(bytes(MUCH))
            began = asyncio.get_running_loop().time()
            received = 0
            # It says nothing of its own; the ping waits behind the message.
            while asyncio.get_running_loop().time() < began + 1.0:
                received += len(await raw.receive())
                await asyncio.sleep(0.01)
            assert received < MUCH
            assert ws.ending is None
            ws.abort()


@aio_test
async def test_a_peer_that_takes_nothing_is_a_slow_peer() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0, ping_interval=0.1, ping_timeout=0.1, close_timeout=0.2) as server:
        with await open_raw(server, receive_buffer=4096):
            ws = await hold.one()
            await ws.send(bytes(MUCH))
            ending = await ws.wait_closed()
            assert ending.cause is Cause.SLOW_PEER


async def send_much(ws: WebSocket) -> None:
    for _ in range(100):
        await ws.send(bytes(60_000))


def test_a_sender_that_never_has_to_wait_learns_of_a_reset() -> None:
    async def main() -> None:
        async with connected(Hold()) as ws:
            with pytest.raises(ConnectionClosedError) as caught:
                await send_much(ws)
            assert caught.value.ending.cause is Cause.RESET

    faults = Faults().fail_at(3, ConnectionResetError(errno.ECONNRESET, "reset"), operation="send")
    run(main(), client_faults=faults)


@pytest.mark.skipif(sys.platform != "linux", reason="needs sockets that deliver at once")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_reset_at_any_send_is_told_once_and_quietly(tls: bool) -> None:
    """asyncio's transport and its TLS have opinions of their own about writing to what is broken."""
    uri = "wss://localhost/" if tls else "ws://localhost/"
    ours, theirs = (client_context(), server_context("localhost")) if tls else (None, None)

    async def main(faults: Faults) -> Disconnected:
        listener, client = system_sockets()
        client.setblocking(False)
        async with serve(drink, sock=listener, ssl=theirs):
            try:
                async with connect(uri, sock=FaultySocket(client, faults), ssl=ours) as ws:
                    for _ in range(12):
                        await ws.send(bytes(60_000))
            except (ConnectLost, ConnectionClosedError) as exc:
                return exc.ending
        assert ws.ending is not None
        return ws.ending

    async def drink(ws: WebSocket) -> None:
        await asyncio.sleep(1)
        async for _ in ws:
            pass

    told = 0
    reset = ConnectionResetError(errno.ECONNRESET, "reset")
    for faults in sweep(lambda n: Faults().fail_at(n, reset, operation="send")):
        with Records() as records:
            ending = run(main(faults))
        assert not records.texts, f"{len(faults.operations)}: {records.texts}"
        if faults.fired and ending.cause is not Cause.CLOSE_HANDSHAKE:
            assert ending.cause is Cause.RESET, f"{len(faults.operations)}: {ending}"
            assert ending.error is reset
            told += 1
    # All but the last, and that of TLS, which come when everything is said.
    assert told >= len(faults.operations) // 2


@aio_test
async def test_output_that_was_queued_for_a_lost_peer_is_no_news() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await hold.one()
            await fill(ws)
            raw.reset()
            await ws.wait_closed()
            for _ in range(10):
                with pytest.raises(ConnectionClosedError):
                    await ws.send(b"x")


# Receiving.


async def pour(raw: Raw, frame: bytes, count: int) -> int:
    """Send frames until the connection takes no more; return how many went, the last one whole."""
    sent = 0
    pending = asyncio.create_task(raw.send(frame))
    while sent < count:
        done, _ = await asyncio.wait([pending], timeout=0.2)
        if not done:
            break
        await pending
        sent += 1
        pending = asyncio.create_task(raw.send(frame))
    raw_pending.append(pending)
    return sent


raw_pending: list[asyncio.Task[None]] = []


@aio_test
async def test_a_slow_handler_stops_the_peer_and_loses_nothing() -> None:
    release = asyncio.Event()
    received: list[Any] = []
    sockets: list[WebSocket] = []

    async def handler(ws: WebSocket) -> None:
        sockets.append(ws)
        await release.wait()
        async for message in ws:
            received.append(message)  # noqa: PERF401

    async with serve(handler, "127.0.0.1", 0) as server:
        with await open_raw(server) as raw:
            frame = raw.frame(BINARY, bytes(20_000))
            sent = await pour(raw, frame, MUCH // 20_000)
            assert sent < MUCH // 20_000, "the peer was never stopped"
            (ws,) = sockets
            assert ws._channel.reading_is_paused
            held = sum(len(message.data) for message in ws._queue.items)
            limit = ws._connection.limits.receive_queue_bytes
            # The last chunk that was read may lie above the mark.
            assert limit <= held < limit + (300 << 10)
            release.set()
            await raw_pending.pop()
            await raw.send_close()
            await raw.rest()
            await ws.wait_closed()
            await until(lambda: len(received) == sent + 1)


@aio_test
async def test_the_count_of_messages_is_bounded_too() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0) as server:
        with await open_raw(server) as raw:
            ws = await hold.one()
            for _ in range(16):
                await raw.send_frame(TEXT, b"x")
            await until(lambda: ws._channel.reading_is_paused)
            for _ in range(8):
                await ws.recv()
            assert not ws._channel.reading_is_paused
            await raw.send_close()


@aio_test
async def test_control_frames_wait_with_the_messages_and_the_peer_is_not_taken_for_dead() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0, ping_interval=0.05, ping_timeout=0.05) as server:
        with await open_raw(server) as raw:
            ws = await hold.one()
            await raw.send(raw.frame(TEXT, b"x") * 20 + raw.frame(PING, b"read already"))
            # What had been read already is answered.
            while (frame := await raw.next_frame()).opcode != PONG:
                pass
            assert frame.payload == b"read already"
            await raw.send(raw.frame(PING, b"later"))
            # Reading is paused for much longer than the keepalive would wait.
            await asyncio.sleep(0.4)
            assert ws.ending is None
            for _ in range(20):
                await ws.recv()
            seen: list[ParsedFrame] = []
            while not any(frame.payload == b"later" for frame in seen):
                frame = await raw.next_frame()
                seen.append(frame)
                if frame.opcode == PING:
                    await raw.send_frame(PONG, frame.payload)
            assert ws.ending is None
            await raw.send_close()


@aio_test
async def test_closing_reads_on_although_the_queue_is_full() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0) as server:
        with await open_raw(server) as raw:
            ws = await hold.one()
            await raw.send(raw.frame(TEXT, b"x") * 100)
            await until(lambda: ws._channel.reading_is_paused)
            sending = asyncio.create_task(
                raw.send(raw.frame(TEXT, bytes(1000)) * 5000 + raw.frame(8, close_payload(1000)))
            )
            await ws.close()
            assert ws.ending is not None
            assert ws.ending.clean
            await sending
            # What came before our Close can still be read, and nothing else.
            received = []
            with contextlib.suppress(ConnectionClosedOK):
                while True:
                    received.append(await ws.recv())
            assert received == ["x"] * 100


def compressed_bombs(count: int, size: int) -> list[tuple[bytes, int]]:
    """Payloads of compressed messages without context takeover."""
    bombs = []
    for number in range(count):
        deflater = zlib.compressobj(wbits=-15)
        payload = deflater.compress(bytes([number % 256]) * size) + deflater.flush(zlib.Z_SYNC_FLUSH)
        bombs.append((payload.removesuffix(b"\x00\x00\xff\xff"), number % 256))
    return bombs


@aio_test
async def test_compressed_bombs_come_one_turn_at_a_time() -> None:
    # 60 MiB of messages in 60 KiB: more than one call to the core may hand out, and more than the queue may hold.
    release = asyncio.Event()
    received: list[Any] = []
    sockets: list[WebSocket] = []
    most = 0

    async def handler(ws: WebSocket) -> None:
        nonlocal most
        sockets.append(ws)
        await release.wait()
        async for message in ws:
            most = max(most, sum(len(item.data) for item in ws._queue.items))
            received.append((len(message), message[0]))

    extension = ("Sec-WebSocket-Extensions", "permessage-deflate; client_no_context_takeover")
    async with serve(handler, "127.0.0.1", 0, compression=True) as server:
        with await open_raw(server, extension) as raw:
            bombs = compressed_bombs(60, 1 << 20)
            await raw.send(b"".join(raw.frame(BINARY, payload, rsv=4) for payload, _ in bombs))
            raw_close = asyncio.create_task(raw.send_close())
            await until(lambda: sockets and sockets[0]._channel.reading_is_paused)
            await asyncio.sleep(0.05)
            assert len(sockets[0]._queue) <= 2
            assert sockets[0]._connection.has_more
            release.set()
            await raw_close
            await raw.rest()
            await until(lambda: len(received) == 60)
            assert received == [(1 << 20, number) for _, number in bombs]
            assert most <= 3 << 20


@aio_test
async def test_what_is_kept_back_is_not_overwritten_by_other_connections() -> None:
    # All connections of a loop share one receive buffer.
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0) as server:
        with await open_raw(server) as first, await open_raw(server) as second:
            await until(lambda: len(hold.sockets) == 2)
            ws = hold.sockets[0]
            texts = [b"%d" % number for number in range(600)]
            frames = b"".join(first.frame(PING, text) + first.frame(TEXT, text) for text in texts)
            await first.send(frames)
            # The queue is full and the core has stopped in the middle of the chunk.
            await until(lambda: ws._channel.reading_is_paused)
            for _ in range(50):
                await second.send(second.frame(TEXT, b"overwritten!" * 10) * 100)
                await asyncio.sleep(0)
            assert [await ws.recv() for _ in range(600)] == [text.decode() for text in texts]
            await first.send_close()
            await second.send_close()


@aio_test
async def test_the_end_waits_until_what_was_kept_back_is_read() -> None:
    hold = Hold()
    async with serve(hold, "127.0.0.1", 0) as server:
        with await open_raw(server) as raw:
            ws = await hold.one()
            await raw.send((raw.frame(PING) + raw.frame(TEXT, b"x")) * 600)
            raw.shutdown()
            await asyncio.sleep(0.05)
            assert [await ws.recv() for _ in range(600)] == ["x"] * 600
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.ending.cause is Cause.EOF


@aio_test
async def test_both_directions_full_at_once() -> None:
    # A peer that sends without reading: its messages and our echoes fill every buffer, and drain when it reads.
    async with serve(echo, "127.0.0.1", 0) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            frame = raw.frame(BINARY, bytes(20_000))
            sent = await pour(raw, frame, MUCH // 20_000)
            assert sent < MUCH // 20_000
            pending = raw_pending.pop()
            for _ in range(sent + 1):
                assert len((await raw.next_frame()).payload) == 20_000
            await pending
            await raw.send_close()
            assert await raw.rest()


@aio_test
async def test_replies_to_one_chunk_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    handed_out = []
    data_to_send = Connection.data_to_send

    def counting(self: Connection) -> list[bytes]:
        out = data_to_send(self)
        if out:
            handed_out.append(len(out))
        return out

    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (_, raw):
            monkeypatch.setattr(Connection, "data_to_send", counting)
            await raw.send(raw.frame(PING, b"x") * 100)
            frames: list[ParsedFrame] = [await raw.next_frame() for _ in range(100)]
            assert {frame.opcode for frame in frames} == {PONG}
            assert handed_out == [100]


@aio_test
async def test_answers_of_one_turn_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    writes = []

    async with serve(echo, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        data_to_send = Connection.data_to_send

        def counting(self: Connection) -> list[bytes]:
            out = data_to_send(self)
            if out and self.role.value == "server":
                writes.append(len(out))
            return out

        monkeypatch.setattr(Connection, "data_to_send", counting)
        for _ in range(10):
            ws._connection.send_text("x")
        ws._channel.advance()
        for _ in range(10):
            await ws.recv()
        assert len(writes) <= 2


@aio_test
async def test_what_is_kept_back_goes_on_as_soon_as_the_messages_before_it_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broken frame behind a message: first that can be answered, then the connection fails, and not later."""
    monkeypatch.setattr(_channel, "_UNREAD_WAIT", 3600.0)
    reading = asyncio.Event()

    async def handler(ws: WebSocket) -> None:
        await reading.wait()
        async for message in ws:
            await ws.send(message)

    async with serve(handler, "127.0.0.1", 0) as server:
        with await open_raw(server) as raw:
            # A frame with RSV2 set.
            await raw.send(raw.frame(TEXT, b"first") + b"\xa1\x80\0\0\0\0")
            await asyncio.sleep(0.05)
            reading.set()
            assert (await raw.next_frame()).payload == b"first"
            assert (await raw.next_frame()).payload[:2] == close_payload(1002)
            raw.shutdown()
            await raw.rest()
