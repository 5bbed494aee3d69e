"""`service`, for threads that wait in nothing, and `start_pump`, for those who want callbacks."""

from __future__ import annotations

import math
import queue
import threading
import time
from typing import Any

import pytest

from framebuilder import CLOSE, PING, PONG, TEXT, close_payload
from synchelpers import (
    DEADLINE,
    Job,
    Raw,
    client_context,
    expect_log,
    opened,
    port_of,
    server_context,
    serving,
    tidy,
    uri_of,
    waits,
)
from wsframe import Cause, Disconnected, Limits, State
from wsframe.sync import ConnectionClosedError, WebSocket, connect

__all__ = ["tidy"]


# service.


def test_service_answers_pings_and_keeps_messages() -> None:
    with opened() as (ws, raw):
        # More than one receive takes.
        raw.send(raw.frame(TEXT, b"x" * 100_000) + raw.frame(PING, b"?"))
        time.sleep(0.05)
        assert ws.service() == math.inf
        frame = raw.next_frame()
        assert (frame.opcode, frame.payload) == (PONG, b"?")
        assert ws.recv(timeout=0) == "x" * 100_000


def test_service_sends_what_waits() -> None:
    with opened(receive_buffer=4096) as (ws, raw):
        big = b"x" * (8 << 20)
        with pytest.raises(TimeoutError, match="it is queued"):
            ws.send(big, timeout=0.05)
        job = Job(lambda: raw.next_frame().payload)
        while ws.buffered_bytes:
            assert ws.service(0.05) is not None
        assert job.result() == big


def test_service_goes_on_for_as_long_as_it_is_told() -> None:
    with opened() as (ws, raw):
        timer = threading.Timer(0.1, raw.send_frame, [PING, b"late"])
        timer.start()
        began = time.monotonic()
        ws.service(0.4)
        assert time.monotonic() - began >= 0.4
        assert raw.next_frame().payload == b"late"
        timer.join()


def test_service_keeps_deadlines_and_says_when_the_next_one_is() -> None:
    with opened(ping_interval=0.2, ping_timeout=0.2) as (ws, raw):
        due = ws.service()
        assert due is not None
        assert 0 < due <= 0.2
        time.sleep(due)
        ws.service()
        assert raw.next_frame().opcode == PING
        end = time.monotonic() + DEADLINE
        while (due := ws.service()) is not None:
            assert due <= 0.2
            assert time.monotonic() < end
            time.sleep(due)
        assert ws.ending is not None
        assert ws.ending.cause is Cause.PING_TIMEOUT
        assert ws.service(DEADLINE) is None


def test_service_hears_the_end() -> None:
    with opened() as (ws, raw):
        raw.send(raw.frame(TEXT, b"last words"))
        raw.send_close(4000)
        raw.shutdown()
        while ws.service(0.05) is not None:
            pass
        assert raw.next_frame().opcode == CLOSE
        assert ws.recv() == "last words"
        with pytest.raises(ConnectionClosedError):
            ws.recv()


def test_service_reads_no_more_than_the_queue_takes() -> None:
    limits = Limits(receive_queue_messages=4)
    with opened(limits=limits) as (ws, raw):
        frame = raw.frame(TEXT, bytes(50_000))
        raw.sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            fill(ws, raw, frame)
        assert len(ws._queue) < 20


def fill(ws: WebSocket, raw: Raw, frame: bytes) -> None:
    for _ in range(1000):
        raw.send(frame)
        ws.service()


def test_service_beside_a_reader_takes_nothing_from_it() -> None:
    with opened() as (ws, raw):
        reader = Job(ws.recv)
        waits(reader)
        for _ in range(5):
            ws.service(0.01)
        raw.send_frame(TEXT, b"for the reader")
        assert reader.result() == "for the reader"


# The pump.


class Calls:
    """What a pump has called."""

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.queue.put(message)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        assert ws.ending is ending
        self.queue.put(ending)

    def on_error(self, ws: WebSocket, exc: Exception) -> None:
        self.queue.put(exc)

    def next(self) -> Any:
        return self.queue.get(timeout=DEADLINE)


def test_messages_in_order_and_then_the_end() -> None:
    calls = Calls()
    with opened() as (ws, raw):
        thread = ws.start_pump(calls.on_message, on_close=calls.on_close)
        assert thread.name.startswith("wsframe pump")
        raw.send(b"".join(raw.frame(TEXT, b"%d" % number) for number in range(100)))
        raw.send_frame(PING, b"?")
        assert [calls.next() for _ in range(100)] == [str(number) for number in range(100)]
        assert raw.next_frame().payload == b"?"
        raw.send(raw.frame(TEXT, b"last") + raw.frame(CLOSE, close_payload(4001)))
        raw.shutdown()
        assert calls.next() == "last"
        ending = calls.next()
        assert (ending.cause, ending.code) == (Cause.CLOSE_HANDSHAKE, 4001)
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert calls.queue.empty()


def test_what_came_before_it_was_started_comes_first() -> None:
    calls = Calls()
    with opened(then=b"\x81\x05early\x81\x01!") as (ws, raw):
        ws.service()
        ws.start_pump(calls.on_message)
        raw.send_frame(TEXT, b"late")
        assert [calls.next() for _ in range(3)] == ["early", "!", "late"]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_any_thread_sends_and_closes_beside_it(secure: bool) -> None:
    server_options: Any = {"ssl": server_context()} if secure else {}
    client_options: Any = {"ssl": client_context()} if secure else {}
    calls = Calls()
    with serving(**server_options) as (server, _):
        uri = f"{'wss' if secure else 'ws'}://127.0.0.1:{port_of(server)}/"
        with connect(uri, **client_options) as ws:
            thread = ws.start_pump(calls.on_message, on_close=calls.on_close)
            for number in range(50):
                ws.send(str(number))
            assert [calls.next() for _ in range(50)] == [str(number) for number in range(50)]
            assert ws.ping().wait(DEADLINE) >= 0
        assert calls.next().code == 1000
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_callbacks_send_and_close() -> None:
    with serving() as (server, _):
        answers: list[str | bytes] = []

        def on_message(ws: WebSocket, message: str | bytes) -> None:
            answers.append(message)
            if len(answers) == 10:
                ws.close(4000)
                assert ws.state is State.CLOSED
            else:
                ws.send(f"answer {len(answers)}")

        ws = connect(uri_of(server))
        thread = ws.start_pump(on_message)
        ws.send("go")
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert answers == ["go", *(f"answer {number}" for number in range(1, 10))]
        assert ws.close_code == 4000


def test_who_closes_gets_no_more_messages() -> None:
    calls = Calls()

    def on_message(ws: WebSocket, message: str | bytes) -> None:
        calls.on_message(ws, message)
        ws.start_closing(4000)

    with opened() as (ws, raw):
        thread = ws.start_pump(on_message, on_close=calls.on_close)
        raw.send(raw.frame(TEXT, b"one") + raw.frame(TEXT, b"two"))
        assert raw.next_frame().payload == close_payload(4000)
        raw.send(raw.frame(TEXT, b"three") + raw.frame(CLOSE, close_payload(4000)))
        raw.shutdown()
        thread.join(DEADLINE)
        assert calls.next() == "one"
        assert isinstance(calls.next(), Disconnected)
        assert calls.queue.empty()


def test_closing_from_another_thread_ends_it() -> None:
    calls = Calls()
    with opened() as (ws, raw):
        thread = ws.start_pump(calls.on_message, on_close=calls.on_close)
        time.sleep(0.05)
        closing = Job(ws.close, 4000)
        assert raw.next_frame().payload == close_payload(4000)
        raw.send_close(4000)
        raw.shutdown()
        closing.result()
        thread.join(DEADLINE)
        assert not thread.is_alive()
        assert calls.next().code == 4000


def test_a_callback_that_raises_ends_the_connection_with_1011() -> None:
    calls = Calls()

    def broken(ws: WebSocket, message: str | bytes) -> None:
        raise ZeroDivisionError

    with expect_log("a callback raised"), opened() as (ws, raw):
        thread = ws.start_pump(broken, on_close=calls.on_close)
        raw.send(raw.frame(TEXT, b"one") + raw.frame(TEXT, b"two"))
        assert raw.next_frame().payload == close_payload(1011)
        raw.send_close(1011)
        raw.shutdown()
        thread.join(DEADLINE)
        assert calls.next().sent.code == 1011
        assert calls.queue.empty()


def test_on_error_is_told_and_may_choose_another_code() -> None:
    calls = Calls()

    def broken(ws: WebSocket, message: str | bytes) -> None:
        raise ZeroDivisionError

    def on_error(ws: WebSocket, exc: Exception) -> None:
        calls.on_error(ws, exc)
        ws.start_closing(4002)

    with opened() as (ws, raw):
        thread = ws.start_pump(broken, on_close=calls.on_close, on_error=on_error)
        raw.send_frame(TEXT, b"one")
        assert raw.next_frame().payload == close_payload(4002)
        raw.send_close(4002)
        raw.shutdown()
        thread.join(DEADLINE)
        assert isinstance(calls.next(), ZeroDivisionError)
        assert calls.next().sent.code == 4002


def test_on_error_and_on_close_that_raise_are_logged() -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    with opened() as (ws, raw), expect_log("on_error raised"):
        thread = ws.start_pump(print, on_close=broken, on_error=broken)
        raw.send_close(1000)
        raw.shutdown()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_it_is_the_reader() -> None:
    calls = Calls()

    def greedy(ws: WebSocket, message: str | bytes) -> None:
        with pytest.raises(RuntimeError, match="wsframe pump"):
            ws.recv()
        calls.on_message(ws, message)

    with opened() as (ws, raw):
        reader = Job(ws.recv, name="an earlier reader")
        waits(reader)
        with pytest.raises(RuntimeError, match="an earlier reader"):
            ws.start_pump(greedy)
        raw.send_frame(TEXT, b"for the earlier one")
        assert reader.result() == "for the earlier one"
        ws.start_pump(greedy)
        for attempt in (ws.recv, lambda: ws.start_pump(greedy)):
            with pytest.raises(RuntimeError, match="already waiting in wsframe pump"):
                attempt()
        raw.send_frame(TEXT, b"x")
        assert calls.next() == "x"


@pytest.mark.parametrize(
    "options",
    [{"on_message": None}, {"on_message": print, "on_close": 1}, {"on_message": print, "on_error": 1}],
)
def test_what_cannot_be_called(options: dict[str, Any]) -> None:
    with opened() as (ws, _), pytest.raises(TypeError, match="must be callable"):
        ws.start_pump(**options)


def test_an_end_that_was_there_before() -> None:
    calls = Calls()
    with opened() as (ws, raw):
        raw.send(raw.frame(TEXT, b"last words"))
        raw.close()
        ws.wait_closed(DEADLINE)
        thread = ws.start_pump(calls.on_message, on_close=calls.on_close)
        thread.join(DEADLINE)
        assert calls.next() == "last words"
        assert calls.next() is ws.ending
