"""Messages in pieces on blocking sockets, both ways. The aio tests have the same rows."""

from __future__ import annotations

import contextlib
import importlib
import queue
import random
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from adapterhelpers import request_to
from framebuilder import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload
from piecerows import BAD_PIECES, BAD_PIECES_IDS, NO_MESSAGES, NO_MESSAGES_IDS
from synchelpers import (
    DEADLINE,
    Job,
    Raw,
    client_context,
    dial,
    opened,
    port_of,
    server_context,
    serving,
    tidy,
    until,
    uri_of,
    waits,
)
from wsframe import Cause, Limits, LocalProtocolError, PreparedMessage
from wsframe.sync import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    WebSocket,
    connect,
)

__all__ = ["tidy"]

OPTIONS: Any = {"ping_interval": None}


class Tap:
    """Pieces that the test lets out one at a time."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.left = False

    def put(self, *pieces: Any) -> None:
        for piece in pieces:
            self.queue.put(piece)

    def pieces(self) -> Iterator[Any]:
        try:
            while (piece := self.queue.get(timeout=DEADLINE)) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
        finally:
            self.left = True


def frames_of(raw: Raw, count: int) -> list[tuple[bytes, bool]]:
    frames = [raw.next_frame() for _ in range(count)]
    return [(frame.payload, frame.fin) for frame in frames]


# Sending.


def in_a_generator(pieces: list[Any]) -> Iterator[Any]:
    yield from pieces


class Iterable:
    """Not an iterator, and not a sequence."""

    def __init__(self, pieces: list[Any]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[Any]:
        return iter(self.pieces)


@pytest.mark.parametrize("way", [list, tuple, in_a_generator, Iterable], ids=lambda way: way.__name__)
def test_pieces_are_the_fragments_of_one_message(way: Callable[[list[Any]], Any]) -> None:
    with opened() as (ws, raw):
        ws.send(way(["Grüße", "", " an ", "alle"]))
        frames = [raw.next_frame() for _ in range(4)]
        assert [(frame.opcode, frame.fin) for frame in frames] == [
            (TEXT, False),
            (CONTINUATION, False),
            (CONTINUATION, False),
            (CONTINUATION, True),
        ]
        assert b"".join(frame.payload for frame in frames).decode() == "Grüße an alle"
        ws.send(way([b"a", bytearray(b"b"), memoryview(b"c")]))
        assert frames_of(raw, 4) == [(b"a", False), (b"b", False), (b"c", False), (b"", True)]
        # And the next one is whole again.
        ws.send("whole")
        frame = raw.next_frame()
        assert (frame.opcode, frame.fin, frame.payload) == (TEXT, True, b"whole")


def test_a_piece_leaves_before_the_next_one_is_there() -> None:
    with opened() as (ws, raw):
        tap = Tap()
        sending = Job(ws.send, tap.pieces())
        for piece in ("one", "two"):
            tap.put(piece)
            assert raw.next_frame().payload == piece.encode()
        assert sending.running
        tap.put(None)
        assert raw.next_frame().fin
        sending.result()
        assert tap.left


def test_an_empty_message_has_one_empty_piece_and_without_a_piece_there_is_none() -> None:
    with opened() as (ws, raw):
        ws.send([])
        ws.send(in_a_generator([]))
        ws.send([""])
        first, last = raw.next_frame(), raw.next_frame()
        assert (first.opcode, first.payload, first.fin) == (TEXT, b"", False)
        assert (last.opcode, last.payload, last.fin) == (CONTINUATION, b"", True)


@pytest.mark.parametrize("reads", [False, True], ids=["alone", "with a reader"])
def test_other_messages_wait_for_the_end_and_control_frames_do_not(reads: bool) -> None:
    with opened() as (ws, raw):
        reader = Job(ws.recv) if reads else None
        tap, other = Tap(), Tap()
        first = Job(ws.send, tap.pieces())
        tap.put("a")
        assert raw.next_frame().payload == b"a"
        other.put("x", "y", None)
        waiting = [Job(ws.send, "one")]
        waits(waiting[0])
        pong = ws.ping(b"between")
        frame = raw.next_frame()
        assert (frame.opcode, frame.payload) == (PING, b"between")
        raw.send_frame(PONG, b"between")
        assert pong.wait(DEADLINE) >= 0
        raw.send_frame(PING, b"theirs")
        frame = raw.next_frame()
        assert (frame.opcode, frame.payload) == (PONG, b"theirs")
        waiting += [Job(ws.send, other.pieces()), Job(ws.send, PreparedMessage("two"))]
        for job in waiting:
            waits(job)
        began = time.monotonic()
        tap.put("b", None)
        for job in (first, *waiting):
            job.result()
        # They are woken, and do not find out some time.
        assert time.monotonic() - began < 1
        frames = frames_of(raw, 7)
        assert frames[:2] == [(b"b", False), (b"", True)]
        rest = frames[2:]
        position = rest.index((b"x", False))
        assert rest[position : position + 3] == [(b"x", False), (b"y", False), (b"", True)]
        del rest[position : position + 3]
        assert sorted(rest) == [(b"one", True), (b"two", True)]
        if reader is not None:
            raw.send_frame(TEXT, b"read")
            assert reader.result() == "read"


def test_what_does_not_wait_is_kept_behind_the_message() -> None:
    with opened() as (ws, raw):
        tap = Tap()
        sending = Job(ws.send, tap.pieces())
        tap.put(b"begin")
        assert raw.next_frame().payload == b"begin"
        buffer = bytearray(b"two")
        assert not ws.try_send("not at any price")
        assert ws.send_nowait("one")
        assert ws.send_nowait(buffer)
        buffer[:] = b"xxx"
        assert ws.send_nowait(PreparedMessage("three"))
        with pytest.raises(LocalProtocolError, match="surrogates"):
            ws.send_nowait("\ud800")
        tap.put(None)
        sending.result()
        assert ws.send_nowait("four")
        frames = frames_of(raw, 5)
        assert frames == [(b"", True), (b"one", True), (b"two", True), (b"three", True), (b"four", True)]


def test_a_timeout_behind_a_message_in_pieces_sends_nothing() -> None:
    with opened() as (ws, raw):
        tap = Tap()
        first = Job(ws.send, tap.pieces())
        tap.put("a")
        assert raw.next_frame().payload == b"a"
        for message in ("late", ["late", "too"]):
            with pytest.raises(TimeoutError, match="nothing was queued"):
                ws.send(message, timeout=0.05)
        tap.put(None)
        first.result()
        ws.send("after")
        assert frames_of(raw, 2) == [(b"", True), (b"after", True)]


@pytest.mark.parametrize(("message", "text"), NO_MESSAGES, ids=NO_MESSAGES_IDS)
def test_what_is_wrong_before_the_first_piece_changes_nothing(message: Any, text: str) -> None:
    with opened() as (ws, raw):
        with pytest.raises((TypeError, LocalProtocolError), match=text):
            ws.send(message)
        with pytest.raises(ZeroDivisionError):
            ws.send(str(1 // 0) for _ in range(3))
        ws.send("fine")
        assert raw.next_frame().payload == b"fine"


def test_an_asynchronous_iterable_is_none_here() -> None:
    async def pieces() -> Any:
        yield "a"

    with opened() as (ws, _), pytest.raises(TypeError, match="not async_generator"):
        ws.send(pieces())


@pytest.mark.parametrize(("piece", "error"), BAD_PIECES, ids=BAD_PIECES_IDS)
@pytest.mark.parametrize("compression", [False, True])
def test_half_a_message_cannot_be_taken_back(piece: Any, error: type[Exception], compression: bool) -> None:
    headers = ["Sec-WebSocket-Extensions: permessage-deflate"] if compression else []
    with opened(*headers, compression=compression) as (ws, raw):
        tap = Tap()
        sending = Job(ws.send, tap.pieces())
        tap.put("begin")
        assert not raw.next_frame().fin
        waiting = Job(ws.send, "after")
        waits(waiting)
        tap.put(piece)
        with pytest.raises(error):
            sending.result()
        assert tap.left
        frame = raw.next_frame()
        assert (frame.opcode, frame.payload[:2]) == (CLOSE, (1011).to_bytes(2, "big"))
        raw.send(raw.frame(CLOSE, frame.payload))
        raw.shutdown()
        with pytest.raises(ConnectionClosedError) as caught:
            waiting.result()
        assert caught.value.ending.sent is not None
        assert caught.value.ending.sent.code == 1011
        assert "could not be completed" in caught.value.ending.sent.reason


def test_a_timeout_in_the_middle_ends_the_connection() -> None:
    with opened(receive_buffer=4096) as (ws, raw):
        pieces = (b"x" * (1 << 20) for _ in range(20))
        with pytest.raises(TimeoutError):
            ws.send(pieces, timeout=0.2)
        job = Job(ws.wait_closed)
        while (frame := raw.next_frame()).opcode != CLOSE:
            pass
        assert frame.payload[:2] == (1011).to_bytes(2, "big")
        raw.send(raw.frame(CLOSE, frame.payload))
        raw.shutdown()
        assert job.result().sent == job.result().sent
        assert next(pieces, None) is None


def test_what_the_pieces_come_from_cannot_send_on_the_same_websocket() -> None:
    with opened() as (ws, raw):

        def pieces(message: Any) -> Iterator[str]:
            yield "a"
            with pytest.raises(RuntimeError, match="wait for the end of the message"):
                ws.send(message)
            # It may ping, and it may close.
            ws.ping(b"p")
            yield "b"

        ws.send(pieces("nested"))
        ws.send(pieces(["nested", "pieces"]))
        assert [payload for payload, _ in frames_of(raw, 8)] == [b"a", b"p", b"b", b""] * 2


def test_closing_while_a_message_is_in_pieces() -> None:
    with opened() as (ws, raw):
        tap = Tap()
        sending = Job(ws.send, tap.pieces())
        tap.put("a")
        assert raw.next_frame().payload == b"a"
        closing = Job(ws.close, 1001)
        frame = raw.next_frame()
        assert (frame.opcode, frame.payload) == (CLOSE, close_payload(1001))
        raw.send_close(1001)
        raw.shutdown()
        closing.result()
        tap.put("b")
        with pytest.raises(ConnectionClosedOK):
            sending.result()
        assert tap.left


@pytest.mark.parametrize("size", [30_000, 5 << 20])
def test_it_waits_for_room_between_the_pieces(size: int) -> None:
    with opened(receive_buffer=4096) as (ws, raw):
        taken = 0
        # More than the kernel takes.
        total = max(4, (14 << 20) // size)

        def counted() -> Iterator[bytes]:
            nonlocal taken
            for number in range(total):
                taken += 1
                yield bytes([number % 256]) * size

        sending = Job(ws.send, counted())
        before = -1
        while taken != before:
            before = taken
            time.sleep(0.1)
        assert taken < total
        limits = ws._connection.limits
        assert ws.buffered_bytes < limits.write_high_water + (256 << 10) + size + 1000
        received = 0
        while not (frame := raw.next_frame()).fin:
            assert frame.payload == bytes([received % 256]) * size
            received += 1
        sending.result()
        assert received == total
        assert ws.ending is None


@pytest.mark.peer
@pytest.mark.parametrize("compression", [False, True])
def test_websockets_understands_our_pieces_and_we_understand_theirs(compression: bool) -> None:
    client = importlib.import_module("websockets.sync.client")
    server_module = importlib.import_module("websockets.sync.server")
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    texts = ["".join(chance.choices("aé☃𝄞 ", k=chance.randrange(3000))) for _ in range(40)]
    deflate = "deflate" if compression else None

    def handler(ws: WebSocket) -> None:
        # What comes in pieces goes back in pieces.
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                ws.send(ws.recv_stream())

    with (
        serving(handler, compression=compression, stream=True, **OPTIONS) as (server, _),
        client.connect(uri_of(server), compression=deflate, proxy=None) as theirs,
    ):
        assert bool(theirs.protocol.extensions) is compression
        for _ in range(20):
            pieces = chance.choices(texts, k=chance.randrange(1, 10))
            theirs.send(pieces)
            assert theirs.recv(DEADLINE) == "".join(pieces)
            data = [piece.encode() for piece in pieces]
            theirs.send(data)
            assert theirs.recv(DEADLINE) == b"".join(data)

    def their_echo(ws: Any) -> None:
        for message in ws:
            ws.send([message[:5], message[5:]])

    with server_module.serve(their_echo, "127.0.0.1", 0, compression=deflate) as their_server:
        job = Job(their_server.serve_forever)
        port = their_server.socket.getsockname()[1]
        with connect(f"ws://127.0.0.1:{port}/", compression=compression, stream=True, **OPTIONS) as ours:
            for _ in range(20):
                pieces = chance.choices(texts, k=chance.randrange(1, 10))
                ours.send(in_a_generator(pieces))
                assert "".join(str(chunk) for chunk in ours.recv_stream(DEADLINE)) == "".join(pieces)
        their_server.shutdown()
        job.result()


# Receiving.


@contextlib.contextmanager
def streamed(role: str, *headers: str, **options: Any) -> Iterator[tuple[WebSocket, Raw]]:
    """A WebSocket of ours that receives pieces, and the bare socket that it talks to."""
    if role == "client":
        with opened(*headers, stream=True, **options) as both:
            yield both
        return
    sides: list[WebSocket] = []

    def handler(ws: WebSocket) -> None:
        sides.append(ws)
        over.get(timeout=DEADLINE)

    over: queue.SimpleQueue[None] = queue.SimpleQueue()
    with serving(handler, stream=True, **OPTIONS, **options) as (server, _):
        lines = [tuple(header.split(": ")) for header in headers]
        with dial(server) as raw:
            raw.send(request_to(server, *lines))  # type: ignore[arg-type]
            assert raw.head().startswith(b"HTTP/1.1 101 ")
            until(lambda: sides)
            try:
                yield sides[0], raw
            finally:
                sides[0].abort()
                over.put(None)


both_roles = pytest.mark.parametrize("role", ["server", "client"])


@both_roles
def test_pieces_are_given_out_as_they_come(role: str) -> None:
    with streamed(role) as (ws, raw):
        stream = ws.recv_stream(DEADLINE)
        raw.send_frame(TEXT, b"one", fin=False)
        assert next(stream) == "one"
        # Control frames come between, and are answered.
        raw.send(raw.frame(PING, b"p") + raw.frame(CONTINUATION, "tw☃".encode()[:-1], fin=False))
        assert next(stream) == "tw"
        assert raw.next_frame().payload == b"p"
        # Half a frame is a piece, and half a character is none.
        frame = raw.frame(CONTINUATION, "☃".encode()[-1:] + bytes(100), fin=True)
        raw.send(frame[:-50])
        assert next(stream) == "☃" + "\0" * 50
        raw.send(frame[-50:])
        assert list(stream) == ["\0" * 50]
        assert list(stream) == []
        # Whole, empty, and binary.
        raw.send(raw.frame(TEXT, b"x") + raw.frame(TEXT) + raw.frame(BINARY, b"b") + raw.frame(BINARY))
        for expected in ("x", "", b"b", b""):
            assert list(ws.recv_stream()) == [expected]


@both_roles
def test_recv_and_iterating_join_the_pieces(role: str) -> None:
    with streamed(role) as (ws, raw):
        message = (
            raw.frame(TEXT, "ü".encode()[:1], fin=False)
            + raw.frame(CONTINUATION, fin=False)
            + raw.frame(CONTINUATION, "ü".encode()[1:] + b"\r\n", fin=False)
            + raw.frame(CONTINUATION)
        )
        raw.send(message + raw.frame(BINARY, b"12", fin=False) + raw.frame(CONTINUATION, b"3"))
        assert ws.recv(DEADLINE) == "ü\r\n"
        assert ws.recv(DEADLINE) == b"123"
        raw.send(message + raw.frame(TEXT, b"whole"))
        assert [next(ws), next(ws)] == ["ü\r\n", "whole"]


@both_roles
def test_who_leaves_early_may_go_on_or_skip_the_rest(role: str) -> None:
    with streamed(role) as (ws, raw):
        begin, rest = raw.frame(TEXT, b"a", fin=False), raw.frame(CONTINUATION, b"b")
        # On with the same one.
        raw.send(begin + rest)
        stream = ws.recv_stream()
        assert next(stream) == "a"
        assert list(stream) == ["b"]
        # The rest has come already, or has not.
        for together in (True, False):
            for reading in (ws.recv, lambda: next(ws.recv_stream())):
                raw.send(begin + rest if together else begin)
                for piece in ws.recv_stream():
                    assert piece == "a"
                    break
                after = Job(reading)
                waits(after)
                raw.send((b"" if together else rest) + raw.frame(TEXT, b"next"))
                assert after.result() == "next"


@both_roles
def test_a_stream_whose_message_was_skipped_says_so(role: str) -> None:
    with streamed(role) as (ws, raw):
        raw.send(raw.frame(TEXT, b"a", fin=False) + raw.frame(CONTINUATION, b"b") + raw.frame(TEXT, b"c"))
        stream = ws.recv_stream()
        assert next(stream) == "a"
        assert ws.recv() == "c"
        with pytest.raises(RuntimeError, match="the rest of this message is gone"):
            next(stream)


@both_roles
def test_timeouts_lose_nothing(role: str) -> None:
    with streamed(role) as (ws, raw):
        raw.send_frame(TEXT, b"1", fin=False)
        for number in (b"2", b"3"):
            with pytest.raises(TimeoutError):
                ws.recv(timeout=0.05)
            raw.send_frame(CONTINUATION, number, fin=False)
        raw.send_frame(CONTINUATION, b"4")
        assert ws.recv(DEADLINE) == "1234"
        # What recv() had when its time was over is the first piece.
        raw.send_frame(TEXT, b"1", fin=False)
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0.1)
        raw.send_frame(CONTINUATION, b"2", fin=False)
        stream = ws.recv_stream(0.1)
        assert next(stream) == "1"
        assert next(stream) == "2"
        with pytest.raises(TimeoutError):
            next(stream)
        raw.send_frame(CONTINUATION, b"3")
        assert list(stream) == ["3"]
        # Skipping is gone on with, too.
        raw.send_frame(TEXT, b"a", fin=False)
        stream = ws.recv_stream()
        assert next(stream) == "a"
        for _ in range(3):
            raw.send_frame(CONTINUATION, b"b", fin=False)
            with pytest.raises(TimeoutError):
                ws.recv(timeout=0.05)
        raw.send(raw.frame(CONTINUATION, b"c") + raw.frame(TEXT, b"next"))
        assert ws.recv(DEADLINE) == "next"


def test_one_reader_at_a_time_and_the_first_is_named() -> None:
    with streamed("server") as (ws, raw):
        first = Job(ws.recv, name="the first one")
        waits(first)
        waiting = r"recv\(\) is already waiting in the first one"
        with pytest.raises(RuntimeError, match=waiting):
            ws.recv()
        with pytest.raises(RuntimeError, match=waiting):
            next(ws.recv_stream())
        # Within the message as well.
        raw.send_frame(TEXT, b"1", fin=False)
        waits(first)
        with pytest.raises(RuntimeError, match=waiting):
            ws.recv()
        raw.send_frame(CONTINUATION, b"2")
        assert first.result() == "12"

        going_on: queue.SimpleQueue[None] = queue.SimpleQueue()
        pieces: list[str | bytes] = []

        def read() -> None:
            for piece in ws.recv_stream():
                pieces.append(piece)
                going_on.get(timeout=DEADLINE)

        reader = Job(read, name="the reader")
        raw.send_frame(TEXT, b"1", fin=False)
        until(lambda: pieces)
        # It is not waiting here, but will come back.
        with pytest.raises(RuntimeError, match="the reader is in the middle of a message"):
            ws.recv()
        going_on.put(None)
        going_on.put(None)
        raw.send_frame(CONTINUATION, b"2")
        reader.result()
        assert pieces == ["1", "2"]
        # Whoever has ended does not come back.
        raw.send(raw.frame(TEXT, b"1", fin=False) + raw.frame(CONTINUATION, b"2") + raw.frame(TEXT, b"3"))
        stream = ws.recv_stream()
        assert Job(next, stream).result() == "1"
        assert ws.recv() == "3"


def drained(ws: WebSocket) -> tuple[list[str | bytes], ConnectionClosed]:
    """The pieces of one message up to the end of the connection."""
    pieces = []
    stream = ws.recv_stream(DEADLINE)
    try:
        while True:
            pieces.append(next(stream))
    except ConnectionClosed as exc:
        return pieces, exc


@both_roles
@pytest.mark.parametrize("how", ["close", "eof", "reset", "utf-8", "too big", "fragments", "protocol"])
def test_what_was_good_comes_before_the_end(role: str, how: str) -> None:
    with streamed(role, max_message_size=1000) as (ws, raw):
        raw.send_frame(TEXT, b"good", fin=False)
        # So that it is here, whatever becomes of the connection.
        until(lambda: ws.service() is not None and ws._queue)
        if how == "close":
            raw.send_close(1000)
        elif how == "eof":
            raw.shutdown()
        elif how == "reset":
            raw.reset()
        elif how == "utf-8":
            raw.send_frame(CONTINUATION, b"ok\xff", fin=False)
        elif how == "too big":
            raw.send(raw.frame(CONTINUATION, b"ok", fin=False) + raw.frame(CONTINUATION, bytes(995))[:20])
        elif how == "fragments":
            raw.send_frame(TEXT, b"another message")
        else:
            raw.send_frame(CONTINUATION, b"", rsv=1)
        job = Job(drained, ws)
        with contextlib.suppress(OSError):
            if how not in ("eof", "reset", "close"):
                frame = raw.next_frame()
                codes = {"utf-8": 1007, "too big": 1009}
                assert frame.payload[:2] == codes.get(how, 1002).to_bytes(2, "big")
            if how == "close":
                assert raw.next_frame().opcode == CLOSE
            if how != "reset":
                raw.close()
        pieces, closed = job.result()
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
            ws.recv()
        with pytest.raises(type(closed)):
            next(ws.recv_stream())


@both_roles
def test_compressed_messages_come_in_pieces_under_the_limit(role: str) -> None:
    line = "Sec-WebSocket-Extensions: permessage-deflate"
    with streamed(role, line, compression=True, max_message_size=1 << 20) as (ws, raw):
        deflater = zlib.compressobj(wbits=-15)

        def compressed(data: bytes, final: bool) -> bytes:
            payload = deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)
            return payload[:-4] if final else payload

        data = ("Grüße ☃ " * 1000).encode()
        raw.send_frame(TEXT, compressed(data[:5000], False), rsv=4, fin=False)
        stream = ws.recv_stream(DEADLINE)
        pieces = [next(stream)]
        raw.send_frame(CONTINUATION, compressed(data[5000:], True))
        pieces += list(stream)
        assert "".join(map(str, pieces)).encode() == data
        raw.send_frame(BINARY, compressed(bytes(2 << 20), True), rsv=4)
        job = Job(ws.wait_closed)
        assert raw.next_frame().payload[:2] == (1009).to_bytes(2, "big")
        raw.close()
        assert job.result().cause is Cause.TOO_BIG


def test_reading_pauses_while_nobody_takes_the_pieces() -> None:
    with opened(stream=True, limits=Limits(max_message_size=64 << 20)) as (ws, raw):
        raw.send_frame(BINARY, bytes(100_000), fin=False)
        raw.sock.settimeout(0.2)

        def fill() -> None:
            for _ in range(600):
                ws.service()
                raw.send_frame(CONTINUATION, bytes(100_000), fin=False)

        with pytest.raises(TimeoutError):
            fill()
        held = sum(len(chunk.data) for chunk in ws._queue.items)
        assert held < ws._connection.limits.receive_queue_bytes + (1 << 20)


def test_over_tls() -> None:
    def handler(ws: WebSocket) -> None:
        for _ in range(3):
            ws.send(ws.recv_stream())

    with serving(handler, stream=True, ssl=server_context(), **OPTIONS) as (server, _):
        uri = f"wss://127.0.0.1:{port_of(server)}/"
        with connect(uri, ssl=client_context(), stream=True, **OPTIONS) as ws:
            for _ in range(3):
                ws.send(bytes([number]) * 50_000 for number in range(10))
                data = b"".join(bytes(piece) for piece in ws.recv_stream(DEADLINE))
                assert data == b"".join(bytes([number]) * 50_000 for number in range(10))


def test_without_stream_a_message_is_its_only_piece() -> None:
    with opened() as (ws, raw):
        raw.send(raw.frame(TEXT, b"a", fin=False) + raw.frame(CONTINUATION, b"b") + raw.frame(BINARY))
        assert list(ws.recv_stream()) == ["ab"]
        assert list(ws.recv_stream(DEADLINE)) == [b""]
        with pytest.raises(TimeoutError):
            next(ws.recv_stream(0))


def test_a_pump_gets_whole_messages() -> None:
    with opened(stream=True) as (ws, _), pytest.raises(TypeError, match="whole messages"):
        ws.start_pump(print)
