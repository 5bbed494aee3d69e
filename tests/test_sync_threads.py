"""Threads that share a blocking connection, signals, and what happens while nobody is in a call."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from framebuilder import CLOSE, PING, PONG, TEXT, close_payload
from synchelpers import (
    DEADLINE,
    Job,
    client_context,
    opened,
    pair,
    port_of,
    server_context,
    serving,
    tidy,
    tiny_switch_interval,
    uri_of,
    waits,
)
from wsframe import Cause, Connection, Limits, State
from wsframe.sync import ConnectionClosedError, ConnectionClosedOK, WebSocket, connect

__all__ = ["tidy", "tiny_switch_interval"]


@pytest.fixture(params=["plain", "tls"])
def secured(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of a server and of a client: both kinds of transports."""
    if request.param == "plain":
        return {}, {}
    return {"ssl": server_context()}, {"ssl": client_context()}


Secured = tuple[dict[str, Any], dict[str, Any]]


def send_often(ws: WebSocket, message: bytes, times: int) -> None:
    for _ in range(times):
        ws.send(message)


def uri(server: Any, secured: Secured) -> str:
    return f"{'wss' if secured[0] else 'ws'}://127.0.0.1:{port_of(server)}/"


@pytest.mark.usefixtures("tiny_switch_interval")
def test_eight_threads_send_at_once(secured: Secured) -> None:
    with serving(**secured[0]) as (server, _), connect(uri(server, secured), **secured[1]) as ws:

        def send(sender: int) -> None:
            for number in range(60):
                if number % 10 == 0:
                    ws.ping()
                ws.send(f"{sender} {number} " + "x" * (number * 97))

        senders = [Job(send, sender) for sender in range(8)]
        numbers: dict[str, Iterator[int]] = {str(sender): itertools.count() for sender in range(8)}
        for _ in range(8 * 60):
            message = ws.recv(timeout=DEADLINE)
            assert isinstance(message, str)
            sender, number, rest = message.split(" ")
            assert int(number) == next(numbers[sender])
            assert len(rest) == int(number) * 97
        for job in senders:
            job.result()


@pytest.mark.usefixtures("tiny_switch_interval")
def test_many_threads_send_more_than_the_cap_together(secured: Secured) -> None:
    """Who waits never runs into the cap for those who do not."""
    limits = Limits(write_hard_cap=100_000, max_message_size=1 << 20)
    with (
        serving(limits=limits, **secured[0]) as (server, _),
        connect(uri(server, secured), **secured[1], limits=limits) as ws,
    ):
        data = b"x" * 90_000
        senders = [Job(send_often, ws, data, 5) for _ in range(8)]
        for _ in range(40):
            assert ws.recv(timeout=DEADLINE) == data
        for job in senders:
            job.result()


def test_two_that_send_a_lot_at_once_do_not_wait_for_each_other(secured: Secured) -> None:
    data = b"x" * (8 << 20)
    received: list[Any] = []

    def handler(ws: WebSocket) -> None:
        ws.send(data)
        received.append(ws.recv())

    with (
        serving(handler, max_message_size=len(data), **secured[0]) as (server, _),
        connect(uri(server, secured), **secured[1]) as ws,
    ):
        Job(ws.send, data).result()
        assert ws.recv(timeout=DEADLINE) == data
        ws.wait_closed(DEADLINE)
    assert received == [data]


def test_nor_do_two_that_have_readers(secured: Secured) -> None:
    with serving(**secured[0]) as (server, _), connect(uri(server, secured), **secured[1]) as ws:
        data = b"x" * 60_000
        sender = Job(send_often, ws, data, 300)
        for _ in range(300):
            assert ws.recv(timeout=DEADLINE) == data
        sender.result()


def test_close_wakes_a_reader(secured: Secured) -> None:
    with serving(**secured[0]) as (server, _), connect(uri(server, secured), **secured[1]) as ws:
        reader = Job(ws.recv)
        waits(reader)
        ws.close(1000)
        with pytest.raises(ConnectionClosedOK):
            reader.result()


def test_abort_wakes_everybody(secured: Secured) -> None:
    with serving(**secured[0]) as (server, _), connect(uri(server, secured), **secured[1]) as ws:
        waiting: list[Job[Any]] = [Job(ws.recv), Job(ws.wait_closed), Job(ws.wait_closed, DEADLINE)]
        for job in waiting:
            waits(job)
        ws.abort()
        with pytest.raises(ConnectionClosedError) as caught:
            waiting[0].result()
        assert caught.value.ending.cause is Cause.LOCAL_ABORT
        assert [job.result() for job in waiting[1:]] == [ws.ending] * 2


def test_close_with_a_mute_peer_wakes_a_reader_in_time() -> None:
    with opened(close_timeout=0.2, ping_interval=None) as (ws, _):
        reader = Job(ws.recv)
        waits(reader)
        began = time.monotonic()
        ws.close()
        with pytest.raises(ConnectionClosedError) as caught:
            reader.result()
        assert time.monotonic() - began < 2
        assert caught.value.ending.cause is Cause.CLOSE_TIMEOUT


def test_a_second_reader_is_told_who_the_first_is() -> None:
    with opened() as (ws, raw):
        reader = Job(ws.recv, name="the first reader")
        waits(reader)
        with pytest.raises(RuntimeError, match="the first reader"):
            ws.recv()
        raw.send_frame(TEXT, b"for the first")
        assert reader.result() == "for the first"
        raw.send_frame(TEXT, b"for anybody")
        assert ws.recv() == "for anybody"


def test_whoever_waits_drives_for_the_others(secured: Secured) -> None:
    with serving(**secured[0]) as (server, _), connect(uri(server, secured), **secured[1]) as ws:
        # The leader leaves before the others, and one of them takes over.
        leader = Job(ws.wait_closed, 0.2)
        waits(leader)
        reader = Job(ws.recv)
        pongs = [Job(ws.ping().wait) for _ in range(3)]
        for pong in pongs:
            assert pong.result() < DEADLINE
        with pytest.raises(TimeoutError):
            leader.result()
        waits(reader)
        ws.send("hello")
        assert reader.result() == "hello"


def test_a_follower_leads_when_the_leader_has_its_message() -> None:
    with opened() as (ws, raw):
        reader = Job(ws.recv)
        waits(reader)
        pong = ws.ping(b"still there?")
        follower = Job(pong.wait)
        waits(follower)
        raw.send_frame(TEXT, b"x")
        assert reader.result() == "x"
        raw.send_frame(PONG, b"still there?")
        follower.result()


def test_a_message_wakes_a_reader_that_does_not_lead(secured: Secured) -> None:
    with serving(**secured[0]) as (server, _), connect(uri(server, secured), **secured[1]) as ws:
        leader = Job(ws.wait_closed)
        waits(leader)
        for text in ("one", "two"):
            reader = Job(ws.recv)
            waits(reader)
            ws.send(text)
            assert reader.result() == text
        ws.close()
        assert leader.result() is ws.ending


def test_a_full_queue_stops_a_waiting_sender_from_reading_until_there_is_room() -> None:
    limits = Limits(receive_queue_messages=2)
    with opened(receive_buffer=4096, limits=limits) as (ws, raw):
        sender = Job(ws.send, b"x" * (8 << 20))
        waits(sender)
        raw.send(b"".join(raw.frame(TEXT, b"%d" % number) for number in range(50)))
        waits(sender)
        assert [ws.recv(timeout=DEADLINE) for _ in range(50)] == [str(number) for number in range(50)]
        waits(sender)
        raw.next_frame()
        sender.result()


def test_a_sender_that_waits_reads_on_as_soon_as_somebody_takes_messages() -> None:
    """Both sides send more than the other takes; ours then reads some, and that must get it going again."""
    limits = Limits(receive_queue_messages=2, max_message_size=1 << 20)
    with pair(limits=limits) as (client, server):
        data = b"x" * (1 << 20)
        senders = [Job(send_often, ws, data, 32) for ws in (client, server)]
        for job in senders:
            waits(job)
        for _ in range(32):
            assert client.recv(timeout=DEADLINE) == data
        for _ in range(32):
            assert server.recv(timeout=DEADLINE) == data
        for job in senders:
            job.result()


def test_keepalive_expires_in_the_middle_of_recv() -> None:
    with opened(ping_interval=0.1, ping_timeout=0.1) as (ws, raw):
        reader = Job(ws.recv)
        assert raw.next_frame().opcode == PING
        with pytest.raises(ConnectionClosedError) as caught:
            reader.result()
        assert caught.value.ending.cause is Cause.PING_TIMEOUT
        assert raw.next_frame().payload == close_payload(1011, b"keepalive ping timeout")


def test_a_follower_keeps_deadlines_that_the_leader_does_not_know() -> None:
    with opened(close_timeout=0.2, ping_interval=None) as (ws, raw):
        reader = Job(ws.recv)
        waits(reader)
        ws.start_closing(4000)
        assert raw.next_frame().opcode == CLOSE
        began = time.monotonic()
        assert ws.wait_closed().cause is Cause.CLOSE_TIMEOUT
        assert time.monotonic() - began < 2
        with pytest.raises(ConnectionClosedError):
            reader.result()


def test_pings_are_answered_while_a_handler_only_sends() -> None:
    with opened(receive_buffer=4096) as (ws, raw):
        sender = Job(ws.send, b"x" * (8 << 20))
        waits(sender)
        raw.send_frame(PING, b"?")
        assert len(raw.next_frame().payload) == 8 << 20
        sender.result()
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0)
        assert raw.next_frame().opcode == PONG


def test_the_server_answers_for_a_handler_that_is_busy_while_it_closes(secured: Secured) -> None:
    over = threading.Event()
    with (
        serving(lambda ws: over.wait(DEADLINE), **secured[0]) as (server, _),
        connect(uri(server, secured), **secured[1]) as ws,
    ):
        reader = Job(ws.wait_closed)
        waits(reader)
        closing = Job(server.close)
        assert reader.result().code == 1001
        over.set()
        assert closing.result() == {Cause.CLOSE_HANDSHAKE: 1}


# Signals.


def interrupted(code: str, number: int = signal.SIGINT, then: Callable[[], object] = bool) -> str:
    """Run a program, send it a signal 0.1 s after it said "ready", and return what else it prints."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line == "ready\n":
                break
        else:
            pytest.fail("".join(lines))
        time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(number)
        then()
        try:
            output, _ = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
        assert time.monotonic() - began < 5
        return output


@pytest.mark.parametrize("what", ["recv()", "wait_closed()", "ping().wait()", "send(big)"])
def test_ctrl_c_in_a_call_of_the_client_ends_it(what: str) -> None:
    interrupted_at = threading.Event()

    def handler(ws: WebSocket) -> None:
        # Until then it does not read.
        interrupted_at.wait(DEADLINE)
        ws.wait_closed()

    with serving(handler, close_timeout=1) as (server, endings):
        output = interrupted(
            f"""
from wsframe.sync import connect
try:
    big = b"x" * (16 << 20)
    with connect({uri_of(server)!r}, close_timeout=3) as ws:
        print("ready", flush=True)
        ws.{what}
except KeyboardInterrupt:
    print("interrupted", ws.ending.cause.name)
""",
            then=interrupted_at.set,
        )
        if "send" in what:
            # It was in the middle of a message, which is too big for our server anyway.
            assert output.startswith("interrupted ")
            endings.one()
        else:
            assert output == "interrupted CLOSE_HANDSHAKE\n"
            assert endings.one().code == 1001


@pytest.mark.parametrize("secure", [False, True])
def test_ctrl_c_in_serve_forever_closes_with_1001(secure: bool) -> None:
    program = f"""
import sys, threading
from synchelpers import *
from wsframe.sync import *
def handler(ws):
    for message in ws:
        ws.send(message)
endings = Endings()
options = {{"ssl": server_context()}} if {secure} else {{}}
client = {{"ssl": client_context()}} if {secure} else {{}}
with serve(handler, "127.0.0.1", 0, on_end=endings, **options) as server:
    def run():
        with connect(f"{"wss" if secure else "ws"}://127.0.0.1:{{port_of(server)}}/", **client) as ws:
            print("ready", flush=True)
            print(list(ws), ws.close_code, flush=True)
    job = Job(run)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        job.result()
        print(threading.active_count(), [ending.cause.name for ending in endings])
"""
    assert interrupted(program) == "[] 1001\n1 ['CLOSE_HANDSHAKE']\n"


def test_a_signal_handler_may_close_the_server() -> None:
    output = interrupted(
        """
import signal, threading
from synchelpers import *
from wsframe.sync import *
with serve(echo, "127.0.0.1", 0, max_connections=1) as server:
    signal.signal(signal.SIGTERM, lambda *_: print(sorted(cause.name for cause in server.close(1012))))
    def run():
        with connect(uri_of(server)) as ws, dial(server) as refused:
            refused.head()
            print("ready", flush=True)
            return ws.wait_closed().code
    job = Job(run)
    server.serve_forever()
    print(job.result(), threading.active_count())
""",
        signal.SIGTERM,
    )
    assert output == "['CLOSE_HANDSHAKE', 'REJECTED']\n1012 1\n"


def test_a_signal_handler_may_close_the_connection_that_it_interrupts() -> None:
    with serving() as (server, endings):
        output = interrupted(
            f"""
import signal
from wsframe.sync import connect, ConnectionClosedError
with connect({uri_of(server)!r}) as ws:
    signal.signal(signal.SIGTERM, lambda *_: ws.close(4000))
    print("ready", flush=True)
    try:
        ws.recv()
    except ConnectionClosedError as exc:
        print(exc.code)
""",
            signal.SIGTERM,
        )
        assert output == "4000\n"
        assert endings.one().code == 4000


def test_signals_that_do_not_raise_are_no_end() -> None:
    with opened() as (ws, raw):
        seen: list[int] = []
        before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            timer = threading.Timer(0.2, raw.send_frame, [TEXT, b"late"])
            timer.start()
            assert ws.recv() == "late"
            timer.join()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert seen


# An application that fails.


@pytest.mark.parametrize("where", ["receive_data", "handle_events"])
def test_an_unhandled_exception_in_the_core_ends_the_connection(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened() as (ws, raw):

        def fail(*arguments: Any) -> None:
            raise ZeroDivisionError

        whose: Any = Connection if where == "receive_data" else ws
        monkeypatch.setattr(whose, where, fail)
        # What is not a message alone is for handle_events.
        raw.send_frame(PING, b"x")
        with pytest.raises(ZeroDivisionError):
            ws.recv()
        assert ws.state is State.CLOSED
        assert raw.rest() == b""


def test_many_connections_at_once() -> None:
    def talk(number: int) -> list[str | bytes]:
        with connect(uri_of(server)) as ws:
            answers = []
            for i in range(50):
                ws.send(f"{number} {i}")
                answers.append(ws.recv())
            return answers

    with serving() as (server, _):
        jobs = [Job(talk, number) for number in range(20)]
        for number, job in enumerate(jobs):
            assert job.result() == [f"{number} {i}" for i in range(50)]


def test_descriptors_are_closed_by_the_last_to_leave(secured: Secured) -> None:
    with serving(**secured[0]) as (server, _):
        for _ in range(20):
            ws = connect(uri(server, secured), **secured[1])
            readers = [Job(ws.wait_closed) for _ in range(3)]
            waits(readers[0])
            ws.abort()
            for reader in readers:
                reader.result()
