"""The blocking client: opening, receiving, sending, its end; with peers that are bare sockets."""

from __future__ import annotations

import gc
import socket
import time
import weakref
from typing import Any

import pytest

from framebuilder import BINARY, CLOSE, PING, PONG, TEXT, close_payload, parse_all
from synchelpers import DEADLINE, Job, Listener, Raw, opened, port_of, serving, tidy, uri_of, waits
from wsframe import Cause, Initiator, InvalidURI, Limits, LocalProtocolError, State
from wsframe.sync import (
    ConnectError,
    ConnectionClosedError,
    ConnectionClosedOK,
    ConnectLost,
    ConnectTimeout,
    HandshakeInvalid,
    HandshakeRejected,
    WebSocket,
    connect,
)

__all__ = ["tidy"]

# Opening.


def test_a_socket_that_was_reset_before_anything_was_done_with_it() -> None:
    with Listener() as listener:
        sock = socket.create_connection(("127.0.0.1", listener.port))
        with listener.accept() as raw:
            raw.reset()
        # It has arrived, and has been told of: what the system says of the socket from now on is ENOTCONN.
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        with pytest.raises(ConnectLost) as caught:
            connect(listener.uri, sock=sock)
        assert caught.value.ending.cause is Cause.RESET


def test_what_it_is_when_open_and_when_ended() -> None:
    with serving(subprotocols=["chat"]) as (server, _):
        with connect(uri_of(server) + "a?b=c", subprotocols=["other", "chat"]) as ws:
            assert ws.subprotocol == "chat"
            assert ws.request.target == "/a?b=c"
            assert ws.response is not None
            assert ws.response.status == 101
            assert ws.state is State.OPEN
            assert ws.remote_address == ("127.0.0.1", port_of(server))
            assert ws.local_address[0] == "127.0.0.1"
            assert (ws.close_code, ws.close_reason, ws.ending, ws.latency) == (None, None, None, None)
        assert (ws.close_code, ws.close_reason) == (1000, "")
        assert ws.ending is not None
        assert (ws.ending.cause, ws.ending.clean) == (Cause.CLOSE_HANDSHAKE, True)
        assert ws.ending.initiator is Initiator.LOCAL


def test_messages_in_the_same_chunk_as_the_response_are_not_lost() -> None:
    with opened(then=b"\x81\x05early\x81\x01!") as (ws, _):
        assert [ws.recv(), ws.recv()] == ["early", "!"]


def test_a_refusal_is_an_exception_with_status_headers_and_body() -> None:
    with Listener() as listener:
        job = Job(connect, listener.uri)
        with listener.accept() as raw:
            raw.head()
            raw.send(b"HTTP/1.1 403 Forbidden\r\nX-Why: because\r\nContent-Length: 4\r\n\r\nno!\n")
            with pytest.raises(HandshakeRejected) as caught:
                job.result()
    error = caught.value
    assert (error.status, error.headers["X-Why"], error.body) == (403, "because", b"no!\n")
    assert (error.ending.cause, error.ending.initiator) == (Cause.REJECTED, Initiator.REMOTE)


@pytest.mark.parametrize(
    ("answer", "error", "cause"),
    [
        (b"", ConnectLost, Cause.EOF),
        (b"HTTP/1.1 101", ConnectLost, Cause.TRUNCATED),
        (b"hello\r\n\r\n", HandshakeInvalid, Cause.NOT_HTTP),
        (b"HTTP/1.1 101 ok\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", HandshakeInvalid, None),
    ],
    ids=["nothing", "half a line", "not HTTP", "no accept"],
)
def test_a_bad_answer(answer: bytes, error: type[ConnectError], cause: Cause | None) -> None:
    with Listener() as listener:
        job = Job(connect, listener.uri)
        with listener.accept() as raw:
            raw.head()
            raw.send(answer)
            raw.shutdown()
            with pytest.raises(error) as caught:
                job.result()
    assert caught.value.ending.cause is (cause or Cause.PROTOCOL_ERROR)


def test_a_reset_instead_of_an_answer() -> None:
    with Listener() as listener:
        job = Job(connect, listener.uri)
        raw = listener.accept()
        raw.head()
        raw.reset()
        with pytest.raises(ConnectLost) as caught:
            job.result()
    assert caught.value.ending.cause is Cause.RESET
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_a_mute_server_is_given_up_in_time() -> None:
    with Listener() as listener:
        began = time.monotonic()
        with pytest.raises(ConnectTimeout) as caught:
            connect(listener.uri, open_timeout=0.2)
        assert 0.2 <= time.monotonic() - began < 2
    assert caught.value.ending.cause is Cause.OPEN_TIMEOUT
    assert isinstance(caught.value, TimeoutError)


def test_an_address_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.socket() as full:
        # A backlog that is full swallows what comes.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        others = []
        try:
            for _ in range(4):
                other = socket.socket()
                others.append(other)
                other.setblocking(False)
                other.connect_ex(full.getsockname())
            time.sleep(0.05)
            with pytest.raises(ConnectTimeout) as caught:
                connect(f"ws://127.0.0.1:{full.getsockname()[1]}/", open_timeout=0.3)
            assert caught.value.ending.cause is Cause.OPEN_TIMEOUT
        finally:
            for other in others:
                other.close()


def test_nobody_listens() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectLost) as caught:
            connect(f"ws://127.0.0.1:{sock.getsockname()[1]}/")
    assert caught.value.ending.cause is Cause.TRANSPORT_ERROR
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_a_name_with_two_families_of_which_one_answers() -> None:
    with serving() as (server, _), connect(f"ws://localhost:{port_of(server)}/") as ws:
        ws.send("x")
        assert ws.recv() == "x"


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(ConnectLost) as caught:
        connect("ws://does-not-exist.invalid/", open_timeout=5)
    assert isinstance(caught.value.__cause__, socket.gaierror)


@pytest.mark.parametrize(
    ("uri", "options", "error"),
    [
        ("http://127.0.0.1/", {}, InvalidURI),
        ("ws://127.0.0.1/", {"headers": [("A", "b\r\nc")]}, LocalProtocolError),
        ("ws://127.0.0.1/", {"open_timeout": None}, ValueError),
        ("ws://127.0.0.1/", {"wurst": 1}, TypeError),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    uri: str, options: dict[str, Any], error: type[Exception]
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(error):
            connect(uri, sock=ours, **options)
        # It was given away.
        assert theirs.recv(1) == b""


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no Unix sockets")
def test_a_socket_pair() -> None:
    ours, theirs = socket.socketpair()
    with Raw(theirs, masks=False) as raw:
        job = Job(lambda: connect("ws://example.com/", sock=ours))
        assert b"Host: example.com\r\n" in raw.accept_websocket(then=b"\x81\x02hi")
        with job.result() as ws:
            assert ws.recv() == "hi"
            reader = Job(ws.recv)
            waits(reader)
            raw.send_frame(BINARY, b"\0")
            assert reader.result() == b"\0"
            raw.send_close(4001, b"enough")
            raw.shutdown()
            with pytest.raises(ConnectionClosedError) as caught:
                ws.recv()
        assert (caught.value.code, caught.value.reason) == (4001, "enough")
        assert raw.next_frame().payload == close_payload(4001)


# Receiving.


def test_a_timeout_loses_nothing() -> None:
    with opened() as (ws, raw):
        frame = raw.frame(TEXT, b"whole")
        for timeout in (0, 0.05, 0.001):
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                ws.recv(timeout=timeout)
            assert timeout <= time.monotonic() - began < timeout + 1
        for byte in frame[:-1]:
            raw.send(bytes([byte]))
            with pytest.raises(TimeoutError):
                ws.recv(timeout=0.01)
        raw.send(frame[-1:])
        assert ws.recv(timeout=DEADLINE) == "whole"


@pytest.mark.parametrize("stream", [False, True])
def test_messages_are_had_as_str_or_bytes_whatever_they_came_as(stream: bool) -> None:
    with opened(stream=stream) as (ws, raw):
        for opcode in TEXT, BINARY:
            for decode in True, False:
                raw.send_frame(opcode, "Grüße".encode())
                received: str | bytes = ws.recv(10, decode=decode)
                assert received == ("Grüße" if decode else "Grüße".encode())
        # One that was kept.
        raw.send_frame(TEXT, b"a")
        raw.send_frame(TEXT, b"b")
        assert [ws.recv(10, decode=False), ws.recv(10, decode=False)] == [b"a", b"b"]
        raw.send_frame(BINARY, b"\xff")
        with pytest.raises(UnicodeDecodeError):
            ws.recv(10, decode=True)
        # Only that message is gone.
        raw.send_frame(BINARY, b"\xff")
        assert ws.recv(10) == b"\xff"


def test_zero_takes_what_is_there() -> None:
    with opened() as (ws, raw):
        raw.send_frame(TEXT, b"a")
        raw.send_frame(TEXT, b"b")
        time.sleep(0.02)
        assert ws.recv(timeout=0) == "a"
        assert ws.recv(timeout=0) == "b"
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0)


def test_iteration_ends_quietly_or_with_the_reason() -> None:
    with opened() as (ws, raw):
        raw.send_frame(TEXT, b"1")
        raw.send_frame(BINARY, b"2")
        raw.send_close(1001)
        raw.shutdown()
        assert list(ws) == ["1", b"2"]
        assert list(ws) == []
        with pytest.raises(ConnectionClosedOK):
            ws.recv()
    with opened() as (ws, raw):
        raw.send_frame(TEXT, b"1")
        raw.close()
        assert next(ws) == "1"
        with pytest.raises(ConnectionClosedError):
            next(ws)
        assert ws.ending is not None
        assert ws.ending.cause is Cause.EOF


@pytest.mark.parametrize("bad", [b"\x83\x00", b"\x81\x01\xff", b"\x81\x7f" + (1 << 62).to_bytes(8, "big")])
def test_what_came_before_a_bad_frame_is_read_and_answered_first(bad: bytes) -> None:
    with opened() as (ws, raw):
        raw.send(raw.frame(TEXT, b"one") + raw.frame(TEXT, b"two") + bad)
        for expected in ("one", "two"):
            assert ws.recv() == expected
            ws.send(expected)
        job = Job(ws.recv)
        frames = parse_all(raw.rest())
        raw.close()
        with pytest.raises(ConnectionClosedError) as caught:
            job.result()
        assert caught.value.ending.cause in (Cause.PROTOCOL_ERROR, Cause.INVALID_DATA, Cause.TOO_BIG)
        assert [frame.payload for frame in frames[:2]] == [b"one", b"two"]
        assert frames[2].opcode == CLOSE


def test_more_messages_than_the_queue_holds_are_not_read_before_there_is_room() -> None:
    limits = Limits(receive_queue_messages=4, max_message_size=1 << 20)
    with opened(limits=limits) as (ws, raw):
        raw.send(b"".join(raw.frame(TEXT, b"%d" % number) for number in range(1000)))
        with pytest.raises(TimeoutError):
            ws.wait_closed(0.05)
        assert [ws.recv() for _ in range(1000)] == [str(number) for number in range(1000)]


def test_pings_are_answered_while_somebody_waits() -> None:
    with opened() as (ws, raw):
        job = Job(ws.wait_closed)
        raw.send_frame(PING, b"are you there?")
        frame = raw.next_frame()
        assert (frame.opcode, frame.payload) == (PONG, b"are you there?")
        raw.send_close()
        raw.shutdown()
        assert job.result().clean
        with pytest.raises(ConnectionClosedOK):
            ws.send("too late")


def test_idle_deadlines_of_the_kernel_are_kept_while_data_comes() -> None:
    with opened(ping_interval=0.5, ping_timeout=0.3) as (ws, raw):
        job = Job(lambda: [ws.recv() for _ in range(20)])
        for _ in range(20):
            raw.send_frame(TEXT, b"x")
            time.sleep(0.02)
        job.result()
        began = time.monotonic()
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv()
        # Silence, the unanswered ping, and the grace.
        assert 0.6 < time.monotonic() - began < 2.5
        assert caught.value.ending.cause is Cause.PING_TIMEOUT
        frames = parse_all(raw.rest())
        assert [frame.opcode for frame in frames] == [PING, CLOSE]


def test_a_reader_that_was_away_does_not_take_its_peer_for_dead() -> None:
    with opened(ping_interval=0.1, ping_timeout=0.1) as (ws, raw):
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0.15)
        ping = raw.next_frame()
        assert ping.opcode == PING
        raw.send_frame(PONG, ping.payload)
        # Nobody waits in the connection, so nobody keeps its deadlines, or sees the pong.
        time.sleep(0.5)
        raw.send_frame(TEXT, b"alive")
        assert ws.recv() == "alive"


def test_an_idle_connection_is_closed_with_1001() -> None:
    with opened(idle_timeout=0.1) as (ws, raw):
        job = Job(ws.wait_closed)
        assert raw.next_frame().payload == close_payload(1001, b"idle timeout")
        raw.send_close(1001)
        raw.close()
        assert job.result().cause is Cause.IDLE_TIMEOUT


# Sending.


def send_all(ws: WebSocket, messages: list[bytes]) -> None:
    for message in messages:
        ws.send(message)


def send_for_ever(ws: WebSocket) -> None:
    while True:
        ws.send("x")


@pytest.mark.parametrize("wrong", [1, None, [1], object()])
def test_what_cannot_be_sent(wrong: Any) -> None:
    with opened() as (ws, _):
        with pytest.raises(TypeError):
            ws.send(wrong)
        with pytest.raises(LocalProtocolError):
            ws.send("\ud800")
        with pytest.raises(LocalProtocolError):
            ws.ping(b"x" * 126)
        assert ws.state is State.OPEN


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 1 << 20])
@pytest.mark.parametrize("kind", [str, bytes, bytearray, memoryview])
def test_sizes_and_types(size: int, kind: type) -> None:
    with opened() as (ws, raw):
        data = b"x" * size
        job = Job(ws.send, data.decode() if kind is str else kind(data))
        frame = raw.next_frame()
        job.result()
        assert (frame.opcode, frame.payload) == (TEXT if kind is str else BINARY, data)


def test_a_send_that_cannot_be_finished_is_queued_and_goes_out_with_the_next_call() -> None:
    with opened(receive_buffer=4096) as (ws, raw):
        big = b"x" * (8 << 20)
        with pytest.raises(TimeoutError, match="it is queued"):
            ws.send(big, timeout=0.05)
        with pytest.raises(TimeoutError, match="nothing was queued"):
            ws.send("never", timeout=0.05)
        job = Job(ws.send, "after")
        assert raw.next_frame().payload == big
        assert raw.next_frame().payload == b"after"
        job.result()


def test_a_slow_reader_gets_everything() -> None:
    with opened(receive_buffer=4096) as (ws, raw):
        messages = [bytes([number]) * 70_000 for number in range(20)]
        job = Job(send_all, ws, messages)
        assert [raw.next_frame().payload for _ in messages] == messages
        job.result()


def test_while_a_send_is_stuck_the_peer_can_still_speak_and_close() -> None:
    with opened(receive_buffer=4096) as (ws, raw):
        job = Job(ws.send, b"x" * (8 << 20))
        waits(job)
        raw.send_frame(TEXT, b"stop it")
        raw.send_close(4002)
        waits(job)
        raw.next_frame()
        job.result()
        raw.shutdown()
        assert ws.recv() == "stop it"
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv()
        assert caught.value.code == 4002


def test_the_close_of_a_peer_that_takes_nothing_more_is_heard() -> None:
    with opened() as (ws, raw):
        raw.send_close(4003, b"gone")
        raw.close()
        time.sleep(0.05)
        with pytest.raises(ConnectionClosedError) as caught:
            send_for_ever(ws)
        assert (caught.value.code, caught.value.reason) == (4003, "gone")


def test_a_reset_ends_a_stuck_send() -> None:
    with opened(receive_buffer=4096) as (ws, raw):
        job = Job(ws.send, b"x" * (8 << 20))
        waits(job)
        raw.reset()
        with pytest.raises(ConnectionClosedError) as caught:
            job.result()
        assert caught.value.ending.cause is Cause.RESET


def test_a_ping_gives_its_round_trip_time() -> None:
    with serving() as (server, _), connect(uri_of(server)) as ws:
        pong = ws.ping(b"payload")
        rtt = pong.wait(DEADLINE)
        assert pong.is_set()
        assert 0 <= rtt < DEADLINE
        assert pong.rtt == rtt == ws.latency
        first, second = ws.ping(), ws.ping()
        second.wait()
        assert first.is_set()


def test_a_pong_that_does_not_come() -> None:
    with opened() as (ws, raw):
        pong = ws.ping()
        with pytest.raises(TimeoutError):
            pong.wait(0.05)
        job = Job(pong.wait)
        waits(job)
        raw.send_close()
        raw.shutdown()
        with pytest.raises(ConnectionClosedOK):
            job.result()
        with pytest.raises(ConnectionClosedOK):
            ws.ping()


# Closing.


def chatter_for_ever(raw: Raw, opcode: int) -> None:
    while True:
        raw.send_frame(opcode, b"x" * 100)


def test_close_waits_for_the_peer_and_is_idempotent() -> None:
    with opened() as (ws, raw):
        job = Job(ws.close, 4000, "tschüß")
        assert raw.next_frame().payload == close_payload(4000, "tschüß".encode())
        waits(job)
        raw.send_frame(TEXT, b"dropped")
        raw.send_close(4000)
        raw.close()
        job.result()
        ws.close(1000)
        assert ws.ending is not None
        assert (ws.ending.clean, ws.ending.code, ws.ending.sent and ws.ending.sent.reason) == (
            True,
            4000,
            "tschüß",
        )
        with pytest.raises(ConnectionClosedError):
            ws.recv()


def test_what_was_received_before_close_can_be_read_after_it() -> None:
    with opened() as (ws, raw):
        raw.send_frame(TEXT, b"1")
        raw.send_frame(TEXT, b"2")
        assert ws.recv() == "1"
        job = Job(ws.close)
        raw.next_frame()
        raw.send_close()
        raw.close()
        job.result()
        assert list(ws) == ["2"]


def test_a_mute_peer_does_not_hold_close_up() -> None:
    with opened(close_timeout=0.2) as (ws, _):
        began = time.monotonic()
        ws.close()
        assert 0.2 <= time.monotonic() - began < 2
        assert ws.ending is not None
        assert ws.ending.cause is Cause.CLOSE_TIMEOUT


@pytest.mark.parametrize("what", [TEXT, PING])
def test_nor_does_a_chatty_one(what: int) -> None:
    with opened(close_timeout=0.3) as (ws, raw):
        began = time.monotonic()
        job = Job(ws.close)
        chatter = Job(chatter_for_ever, raw, what)
        job.result()
        assert 0.3 <= time.monotonic() - began < 5
        with pytest.raises(OSError):
            chatter.result()
        assert ws.ending is not None
        assert ws.ending.cause is Cause.CLOSE_TIMEOUT


def test_nor_does_one_that_does_not_read() -> None:
    with opened(receive_buffer=4096, close_timeout=0.3) as (ws, _):
        with pytest.raises(TimeoutError):
            ws.send(b"x" * (8 << 20), timeout=0.05)
        began = time.monotonic()
        ws.close()
        assert time.monotonic() - began < 2
        assert ws.ending is not None
        assert ws.ending.cause is Cause.CLOSE_TIMEOUT


def test_a_client_waits_for_the_server_to_close_first() -> None:
    with opened() as (ws, raw):
        job = Job(ws.close)
        raw.next_frame()
        raw.send_close()
        waits(job)
        raw.shutdown()
        job.result()
        assert raw.rest() == b""


@pytest.mark.parametrize(("code", "reason"), [(1005, ""), (999, ""), (1000, "x" * 124)])
def test_a_close_that_may_not_be_sent(code: int, reason: str) -> None:
    with opened() as (ws, _):
        with pytest.raises(LocalProtocolError):
            ws.close(code, reason)
        assert ws.state is State.OPEN


@pytest.mark.parametrize(
    ("error", "code"), [(None, 1000), (ValueError, 1011), (KeyboardInterrupt, 1001)], ids=str
)
def test_leaving_a_with_block(error: type[BaseException] | None, code: int) -> None:
    with opened() as (ws, raw):

        def block() -> None:
            with ws:
                if error is not None:
                    raise error

        job = Job(block)
        assert raw.next_frame().payload == close_payload(code)
        raw.send_close(code)
        raw.close()
        if error is None:
            job.result()
        else:
            with pytest.raises(error):
                job.result()


def test_abort() -> None:
    with opened() as (ws, raw):
        ws.abort()
        assert ws.ending is not None
        assert ws.ending.cause is Cause.LOCAL_ABORT
        assert raw.rest() == b""
        ws.abort()
        with pytest.raises(ConnectionClosedError):
            ws.send("x")


def test_wait_closed_with_a_timeout() -> None:
    with opened() as (ws, raw):
        with pytest.raises(TimeoutError):
            ws.wait_closed(0.05)
        raw.close()
        assert ws.wait_closed(DEADLINE).cause is Cause.EOF


def test_an_ended_websocket_needs_no_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        with serving() as (server, _):
            with connect(uri_of(server)) as ws:
                ws.send("x")
                ws.recv()
            reference = weakref.ref(ws)
            del ws
            assert reference() is None
    finally:
        gc.enable()


def test_how_long_a_peer_was_silent_before_it_reset() -> None:
    with opened() as (ws, raw):
        job = Job(ws.wait_closed)
        time.sleep(0.3)
        raw.reset()
        ending = job.result()
        assert ending.cause is Cause.RESET
        assert ending.last_received_age is not None
        assert ending.last_received_age > 0.2
