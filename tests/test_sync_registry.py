"""The registry of a blocking server: ids, info, groups, counters, for any thread; and what never waits."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import websockets.sync.client
from websockets.typing import Subprotocol

from adapterhelpers import request_to
from framebuilder import BINARY, CLOSE, PING, TEXT, close_payload
from servertables import BAD_CLOSES
from synchelpers import (
    DEADLINE,
    Endings,
    Job,
    dial,
    echo,
    open_raw,
    serving,
    tidy,
    tiny_switch_interval,
    until,
    uri_of,
)
from wsframe import Cause, Limits, LocalProtocolError, PreparedMessage, Request, State
from wsframe.sync import Server, ServerStats, WebSocket, connect
from wsframe.sync import _driver as driver_module

__all__ = ["tidy", "tiny_switch_interval"]


@pytest.fixture(autouse=True)
def no_short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is in a receive comes back for what is received, and for nothing else."""
    monkeypatch.setattr(driver_module, "LONGEST_WAIT", 1000.0)


def stay(ws: WebSocket) -> None:
    """A handler that stays, and reads."""
    for _ in ws:
        pass


@contextlib.contextmanager
def staying(**options: Any) -> Iterator[tuple[Server, Endings]]:
    options.setdefault("ping_interval", None)
    with serving(stay, **options) as (server, endings):
        yield server, endings


@contextlib.contextmanager
def busy(**options: Any) -> Iterator[Server]:
    """A server whose handlers are in no method of their WebSocket, until the end."""
    over = threading.Event()
    with serving(lambda ws: over.wait(), ping_interval=None, **options) as (server, _):
        try:
            yield server
        finally:
            over.set()


def one(server: Server) -> WebSocket:
    """The only WebSocket of a server."""
    until(lambda: len(server.connections) == 1)
    (ws,) = server.connections
    return ws


# Ids.


def test_every_connection_has_an_id_that_no_other_ever_has() -> None:
    with staying() as (server, _):
        for number in (1, 2, 3):
            with open_raw(server):
                ws = one(server)
                assert (ws.id, ws.server) == (number, server)
                assert server.get(number) is ws
                assert ws in server.connections
            ws.wait_closed(DEADLINE)
            # It is still its own.
            assert (ws.id, ws.server) == (number, server)
            assert server.get(number) is None


def test_a_client_has_no_id_and_no_server() -> None:
    with serving() as (server, _), connect(uri_of(server)) as ws:
        assert ws.id == 0
        for use in (lambda: ws.server, lambda: ws.groups, lambda: ws.join("x"), lambda: ws.leave("x")):
            with pytest.raises(RuntimeError, match="a client's WebSocket"):
                use()


# What Swoole calls exist, isEstablished, push, disconnect and getClientInfo.


def test_exists_and_is_established() -> None:
    answer = threading.Event()

    def on_request(request: Request) -> None:
        answer.wait(DEADLINE)

    with staying(on_request=on_request) as (server, endings):
        assert not server.exists(1)
        with dial(server) as raw:
            until(lambda: server.exists(1))
            assert not server.is_established(1)
            info = server.info(1)
            assert info is not None
            assert (info.state, info.remote_address) == (State.CONNECTING, raw.sock.getsockname())
            # The request is there, and nobody has answered.
            raw.send(request_to(server))
            until(lambda: _state(server, 1) is State.HANDSHAKE)
            assert server.exists(1)
            assert not server.is_established(1)
            assert server.get(1) is None
            assert len(server.connections) == 0
            assert not server.push(1, "too early")
            assert not server.disconnect(1)
            answer.set()
            raw.head()
            assert server.exists(1)
            assert server.is_established(1)
            ws = server.get(1)
            assert ws is not None
            assert list(server.connections) == [ws]
            # It is closing: there, but nothing can be sent.
            ws.start_closing()
            assert server.exists(1)
            assert not server.is_established(1)
            assert server.get(1) is ws
            assert ws not in server.connections
            raw.send_close()
            raw.rest()
        until(lambda: not server.exists(1))
        assert server.info(1) is None
        assert endings.one().cause is Cause.CLOSE_HANDSHAKE


def _state(server: Server, number: int) -> State | None:
    info = server.info(number)
    return None if info is None else info.state


def test_push() -> None:
    with staying() as (server, _), open_raw(server) as raw, open_raw(server) as other:
        until(lambda: len(server.connections) == 2)
        assert server.push(1, "text")
        assert server.push(1, b"bytes")
        assert server.push(1, PreparedMessage("prepared"))
        assert server.push(2, bytearray(b"other"))
        frames = [raw.next_frame() for _ in range(3)]
        assert [(frame.opcode, frame.payload) for frame in frames] == [
            (TEXT, b"text"),
            (BINARY, b"bytes"),
            (TEXT, b"prepared"),
        ]
        assert other.next_frame().payload == b"other"
        assert not server.push(3, "nobody")
        with pytest.raises(TypeError, match="not int"):
            server.push(1, 1)  # type: ignore[arg-type]
        with pytest.raises(LocalProtocolError):
            server.push(1, "\ud800")
        ws = server.get(1)
        assert ws is not None
        ws.start_closing()
        assert not server.push(1, "closing")


def test_disconnect() -> None:
    with staying(close_timeout=5) as (server, endings), open_raw(server) as raw:
        ws = one(server)
        assert server.disconnect(ws.id, 4000, "bye")
        # True is not the peer's agreement.
        assert (ws.ending, ws.state) == (None, State.CLOSING)
        # There is no open WebSocket any more.
        assert not server.disconnect(ws.id)
        assert raw.next_frame().payload == close_payload(4000, b"bye")
        raw.send_close(4000)
        ending = endings.one()
        assert (ending.cause, ending.clean) == (Cause.CLOSE_HANDSHAKE, True)
        assert not server.disconnect(ws.id)


@pytest.mark.parametrize(("code", "payload"), [(1000, close_payload(1000)), (None, b"")])
def test_disconnect_has_a_code_of_its_own(code: Any, payload: bytes) -> None:
    with staying() as (server, _), open_raw(server) as raw:
        one(server)
        assert server.disconnect(1, code)
        frame = raw.next_frame()
        assert (frame.opcode, frame.payload) == (CLOSE, payload)
        raw.send_close()
        raw.rest()


@pytest.mark.parametrize(("code", "reason", "why"), BAD_CLOSES)
def test_disconnect_refuses_what_may_not_be_sent(code: Any, reason: str, why: str) -> None:
    with staying() as (server, _), open_raw(server):
        ws = one(server)
        for number in (ws.id, 99):
            with pytest.raises(LocalProtocolError, match=why):
                server.disconnect(number, code, reason)
        assert ws.state is State.OPEN


def test_a_busy_handler_does_not_keep_its_peer_from_closing() -> None:
    """Nobody is in a method of the WebSocket: the thread in serve_forever takes the peer's Close."""
    with busy() as server:
        with open_raw(server) as raw:
            ws = one(server)
            assert ws.join("red")
            assert server.disconnect(ws.id, 4000)
            assert raw.next_frame().payload == close_payload(4000)
            raw.send_close(4000)
            assert raw.rest() == b""
        until(lambda: ws.ending)
        assert ws.ending is not None
        assert ws.ending.clean
        # It is gone, although its handler is not.
        assert not server.exists(1)
        assert server.groups == {}
        assert server.stats().ended == {"CLOSE_HANDSHAKE": 1}


def test_the_deadline_of_a_busy_handlers_connection_is_kept() -> None:
    with busy(close_timeout=0.2) as server, open_raw(server) as raw:
        ws = one(server)
        ws.start_closing(4000)
        assert raw.next_frame().payload == close_payload(4000)
        until(lambda: ws.ending)
        assert ws.ending is not None
        assert ws.ending.cause is Cause.CLOSE_TIMEOUT


def test_info() -> None:
    with staying(subprotocols=["chat"]) as (server, _):
        with websockets.sync.client.connect(
            uri_of(server) + "room?token=secret", subprotocols=[Subprotocol("chat")]
        ) as theirs:
            ws = one(server)
            ws.join("red")
            theirs.send("hello")
            theirs.send(b"bytes")
            assert ws.send_nowait("x" * 1000)
            assert len(theirs.recv()) == 1000
            ws.ping().wait(DEADLINE)
            until(lambda: server.stats().messages_in == 2)
            info = server.info(ws.id)
            assert info is not None
            assert (info.id, info.state, info.path, info.subprotocol) == (1, State.OPEN, "/room", "chat")
            assert info.groups == {"red"}
            assert info.local_address == ws.local_address == theirs.remote_address
            assert info.remote_address == ws.remote_address == theirs.local_address
            assert (info.messages_in, info.messages_out, info.frames_out) == (2, 1, 2)
            # The handshake; frames of 5 bytes each, and a pong with 4, each with 6 more.
            handshake = info.bytes_in - (6 + 5) * 2 - (6 + 4)
            assert 100 < handshake < 1000
            assert 100 < info.bytes_out - (4 + 1000) - (2 + 4) < 1000
            assert info.buffered_bytes == 0
            assert info.latency == ws.latency is not None
            assert info.opened_age is not None
            assert info.last_received_age is not None
            assert 0 <= info.last_received_age <= info.opened_age < 60
        assert server.info(99) is None


@pytest.mark.parametrize("compression", [False, True])
def test_all_kinds_of_messages_are_counted(compression: bool) -> None:
    with serving(compression=compression, ping_interval=None, max_message_size=1 << 20) as (server, endings):
        with websockets.sync.client.connect(
            uri_of(server), compression="deflate" if compression else None, max_size=None
        ) as theirs:
            for message in ("x", "y" * 3000, bytes(100_000), ["in", "three", "parts"]):
                theirs.send(message)
                theirs.recv()
            theirs.ping()
            info = server.info(1)
            assert info is not None
            assert (info.messages_in, info.messages_out) == (4, 4)
        endings.one()
        stats = server.stats()
        assert (stats.messages_in, stats.messages_out) == (4, 4)


# The view of the connections.


def test_connections_can_be_gone_through_while_they_come_and_go() -> None:
    with staying() as (server, _), contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(open_raw(server))
        until(lambda: len(server.connections) == 5)
        connections = server.connections
        seen = []
        for ws in connections:
            seen.append(ws.id)
            if ws.id == 2:
                for number in (1, 4):
                    other = server.get(number)
                    assert other is not None
                    other.abort()
                stack.enter_context(open_raw(server))
                until(lambda: not server.exists(4))
        assert sorted(seen) == [1, 2, 3, 4, 5]
        until(lambda: len(connections) == 4)
        assert sorted(ws.id for ws in connections) == [2, 3, 5, 6]


# Groups.


def test_groups() -> None:
    with staying() as (server, _):
        assert dict(server.groups) == {}
        with open_raw(server) as raw, open_raw(server):
            until(lambda: len(server.connections) == 2)
            a, b = server.connections
            assert a.join("red")
            assert b.join("red")
            assert b.join("blue")
            assert server.groups == {"red": {a, b}, "blue": {b}}
            assert a.groups == {"red"}
            assert b.leave("blue")
            assert not b.leave("blue")
            assert list(server.groups) == ["red"]
            # It is left when the connection has ended, however.
            raw.reset()
            until(lambda: a.ending)
            assert server.groups == {"red": {b}}
            assert a.groups == frozenset()
            assert not a.join("red")
            b.abort()
            assert server.groups == {}
            with pytest.raises(TypeError):
                b.join(1)  # type: ignore[arg-type]


@pytest.mark.usefixtures("tiny_switch_interval")
def test_many_threads_join_and_leave_while_others_look() -> None:
    with staying() as (server, _), contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(open_raw(server))
        until(lambda: len(server.connections) == 4)
        everybody = list(server.connections)
        over = threading.Event()

        def join_and_leave(ws: WebSocket) -> None:
            for number in range(300):
                group = f"group {number % 3}"
                assert ws.join(group)
                assert ws.leave(group)

        def look() -> int:
            looks = 0
            while not over.is_set():
                for name in server.groups:
                    # It may be gone by now, as in any mapping.
                    assert server.groups.get(name, frozenset()) <= set(everybody)
                assert set(server.connections) == set(everybody)
                server.stats()
                looks += 1
            return looks

        lookers = [Job(look) for _ in range(2)]
        for job in [Job(join_and_leave, ws) for ws in everybody]:
            job.result()
        over.set()
        assert all(job.result() for job in lookers)
        assert server.groups == {}


# Counters.


def test_stats() -> None:
    with staying(origins=["https://good.example"]) as (server, endings):
        assert server.stats() == ServerStats(
            connections=0,
            websockets=0,
            accepted=0,
            opened=0,
            refused={},
            ended={},
            messages_in=0,
            messages_out=0,
            bytes_in=0,
            bytes_out=0,
        )
        with connect(uri_of(server)) as ws:
            ws.send("x" * 100)
            until(lambda: server.stats().messages_in == 1)
            assert server.push(1, "abc")
            ws.recv()
            for _ in range(2):
                with dial(server) as raw:
                    raw.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
                    raw.rest()
            with dial(server) as raw:
                raw.send(request_to(server, ("Origin", "https://bad.example")))
                assert b" 403 " in raw.rest()
            until(lambda: len(endings) == 3)
            stats = server.stats()
            assert (stats.connections, stats.websockets, stats.accepted, stats.opened) == (1, 1, 4, 1)
            assert stats.refused == {426: 2, 403: 1}
            assert stats.ended == {"PLAIN_HTTP": 2, "REJECTED": 1}
            assert (stats.messages_in, stats.messages_out) == (1, 1)
        until(lambda: len(endings) == 4)
        after = server.stats()
        assert (after.connections, after.websockets, after.opened) == (0, 0, 1)
        assert after.ended == {"PLAIN_HTTP": 2, "REJECTED": 1, "CLOSE_HANDSHAKE": 1}
        # What it was is not forgotten with a connection: a Close came, and went.
        assert (after.messages_in, after.messages_out) == (1, 1)
        assert (after.bytes_in, after.bytes_out) == (stats.bytes_in + 8, stats.bytes_out + 4)
        server.close()
        assert server.stats() == after
        assert all(type(name) in (int, str) for name in itertools.chain(after.refused, after.ended))


def test_who_is_refused_because_there_are_too_many_is_counted_too() -> None:
    with staying(max_connections=1) as (server, endings), open_raw(server):
        with dial(server) as raw:
            assert raw.head().startswith(b"HTTP/1.1 503 ")
        endings.one()
        stats = server.stats()
        assert (stats.connections, stats.accepted, stats.refused) == (1, 2, {503: 1})


def test_a_large_message_that_has_not_left_is_not_counted_as_gone() -> None:
    with staying(close_timeout=1) as (server, _), open_raw(server, receive_buffer=4096):
        ws = one(server)
        assert ws.send_nowait(bytes(8 << 20))
        info = server.info(ws.id)
        assert info is not None
        assert info.messages_out == 1
        assert 0 < info.buffered_bytes <= 8 << 20
        assert info.bytes_out + info.buffered_bytes > 8 << 20
        ws.abort()
        assert server.stats().bytes_out < 8 << 20


def test_a_ping_is_no_message() -> None:
    with staying() as (server, _), open_raw(server) as raw:
        ws = one(server)
        raw.send_frame(PING, b"?")
        raw.next_frame()
        info = server.info(ws.id)
        assert info is not None
        assert (info.messages_in, info.messages_out, info.frames_out) == (0, 0, 1)


# send_nowait and try_send.


def test_try_send_says_no_where_send_would_wait() -> None:
    with staying(close_timeout=1) as (server, _), open_raw(server, receive_buffer=4096) as raw:
        ws = one(server)
        count = 0
        # The kernel takes some megabytes.
        while ws.try_send(bytes(65536)):
            count += 1
            assert count < 1000
        assert ws.state is State.OPEN
        high = Limits().write_high_water
        assert high < ws.buffered_bytes <= high + 2 * 65546
        waiting = Job(ws.send, "waits")
        assert not ws.try_send("x")
        # send_nowait does not ask.
        assert ws.send_nowait("does not wait")
        for _ in range(count):
            assert len(raw.next_frame().payload) == 65536
        assert raw.next_frame().payload == b"does not wait"
        assert raw.next_frame().payload == b"waits"
        waiting.result()
        assert ws.try_send("again")
        assert raw.next_frame().payload == b"again"


def test_what_is_sent_without_waiting_leaves_although_nobody_does_anything() -> None:
    """The handler is busy, or in a receive: the thread in serve_forever writes."""
    with staying() as (waits, _), busy() as works:
        for server in (waits, works):
            with open_raw(server, receive_buffer=4096) as raw:
                ws = one(server)
                count = 0
                # The kernel takes some megabytes.
                while ws.try_send(bytes(65536)):
                    count += 1
                assert ws.send_nowait("last")
                assert ws.buffered_bytes
                for _ in range(count):
                    assert len(raw.next_frame().payload) == 65536
                assert raw.next_frame().payload == b"last"


def test_over_the_cap_the_peer_is_too_slow() -> None:
    limits = Limits(write_hard_cap=1 << 20)
    with (
        staying(limits=limits, close_timeout=0.3) as (server, endings),
        open_raw(server, receive_buffer=4096),
    ):
        ws = one(server)
        count = 0
        while ws.send_nowait(bytes(100_000)):
            count += 1
            assert count < 1000
        assert ws.state is not State.OPEN
        assert not ws.send_nowait("more")
        assert not ws.try_send("more")
        ending = endings.one()
        assert (ending.cause, ending.initiator.name) == (Cause.SLOW_PEER, "LOCAL")


def test_try_send_takes_what_send_takes() -> None:
    with staying() as (server, _), open_raw(server) as raw:
        ws = one(server)
        for send in (ws.try_send, ws.send_nowait):
            for message in ("a", b"b", bytearray(b"c"), memoryview(b"d"), PreparedMessage("e")):
                assert send(message)
            assert [raw.next_frame().payload for _ in range(5)] == [b"a", b"b", b"c", b"d", b"e"]
            with pytest.raises(TypeError, match="not int"):
                send(1)  # type: ignore[arg-type]
            with pytest.raises(LocalProtocolError):
                send("\ud800")
        ws.start_closing()
        assert not ws.try_send("too late")
        raw.next_frame()
        raw.send_close()
        raw.rest()
        until(lambda: ws.ending)
        assert not ws.send_nowait("much too late")


def test_a_client_may_send_without_waiting() -> None:
    with serving(echo) as (server, _), connect(uri_of(server)) as ws:
        assert ws.send_nowait("one")
        assert ws.try_send(PreparedMessage("two"))
        assert [ws.recv(DEADLINE), ws.recv(DEADLINE)] == ["one", "two"]


def test_threads_that_send_without_waiting_keep_their_order() -> None:
    with staying() as (server, _), open_raw(server) as raw:
        ws = one(server)

        def send(sender: int) -> None:
            for number in range(200):
                assert ws.send_nowait(f"{sender} {number} " + "x" * (number * 37))

        jobs = [Job(send, sender) for sender in range(4)]
        counts = [itertools.count() for _ in range(4)]
        for _ in range(4 * 200):
            sender, number, rest = raw.next_frame().payload.decode().split(" ")
            assert int(number) == next(counts[int(sender)])
            assert len(rest) == int(number) * 37
        for job in jobs:
            job.result()
