"""One message to many with threads: `broadcast`, `Server.broadcast`, and what happens to those that are slow."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websockets.sync.client

from framebuilder import CLOSE, close_payload
from synchelpers import (
    DEADLINE,
    Endings,
    Job,
    Raw,
    client_context,
    open_raw,
    opened,
    port_of,
    server_context,
    serving,
    tidy,
    tiny_switch_interval,
    until,
    uri_of,
    waits,
)
from wsframe import Cause, Limits, LocalProtocolError, PreparedMessage, State, _frames
from wsframe.sync import Broadcast, BroadcastResult, ConnectionClosed, Server, WebSocket, broadcast, connect
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
def crowd(**options: Any) -> Iterator[tuple[Server, Endings]]:
    options.setdefault("ping_interval", None)
    with serving(options.pop("handler", stay), **options) as (server, endings):
        yield server, endings


def there(server: Server, count: int) -> list[WebSocket]:
    until(lambda: len(server.connections) == count)
    return list(server.connections)


def outcome(delivered: int = 0, dropped: int = 0, disconnected: int = 0) -> BroadcastResult:
    return BroadcastResult(delivered=delivered, dropped=dropped, disconnected=disconnected)


def stall(ws: WebSocket) -> None:
    """Send to a peer that does not read until it is slow."""
    # What the system has taken in the meantime makes room once more.
    until(lambda: not ws.try_send(bytes(65536)))
    assert ws.is_slow
    assert ws.state is State.OPEN


# To whom.


def test_broadcast_reaches_all_kinds_of_connections_once() -> None:
    with crowd(compression=True) as (server, _), contextlib.ExitStack() as stack:
        plain = [
            stack.enter_context(websockets.sync.client.connect(uri_of(server), compression=None))
            for _ in range(3)
        ]
        compressed = [stack.enter_context(websockets.sync.client.connect(uri_of(server))) for _ in range(2)]
        with serving() as (other, _), connect(uri_of(other)) as client:
            everybody = [*there(server, 5), client]
            for message in ("text " * 100, b"bytes", "☃" * 50_000, PreparedMessage("once")):
                assert broadcast(everybody, message).wait() == outcome(6)
                expected = message.data if isinstance(message, PreparedMessage) else message
                for theirs in (*plain, *compressed):
                    assert theirs.recv(DEADLINE) == expected
                assert client.recv(DEADLINE) == expected
        # Whoever has gone is left out.
        plain[0].close()
        there(server, 4)
        assert broadcast(everybody, "who is left?").result == outcome(4)
        for theirs in (*plain[1:], *compressed):
            assert theirs.recv(DEADLINE) == "who is left?"


def test_a_server_broadcasts_to_whom_one_says() -> None:
    with crowd() as (server, _), contextlib.ExitStack() as stack:
        raws: list[Raw] = []
        for number in range(4):
            raws.append(stack.enter_context(open_raw(server)))
            there(server, number + 1)
        a, b, c, d = server.connections
        for ws in (a, b):
            ws.join("red")

        def check(sent: Broadcast, *expected: int) -> None:
            assert sent.wait(DEADLINE) == outcome(len(expected))
            for number in expected:
                assert raws[number].next_frame().payload == b"x"
            # Nobody else got it: the next thing is the mark.
            assert server.broadcast("mark").result == outcome(4)
            for raw in raws:
                assert raw.next_frame().payload == b"mark"

        check(server.broadcast("x"), 0, 1, 2, 3)
        check(server.broadcast("x", "red"), 0, 1)
        check(server.broadcast("x", to="red", exclude=a), 1)
        check(server.broadcast("x", "nobody"))
        check(server.broadcast("x", lambda ws: ws.id % 2 == 1), 0, 2)
        check(server.broadcast("x", [d, b]), 1, 3)
        check(server.broadcast("x", iter([d, b]), exclude=[d]), 1)
        check(server.broadcast("x", exclude={a, c}), 1, 3)
        check(server.broadcast("x", server.groups["red"], exclude=b), 0)
        check(broadcast([], "x"))

        def fails(ws: WebSocket) -> bool:
            if ws is b:
                raise ZeroDivisionError
            return True

        with pytest.raises(ZeroDivisionError):
            server.broadcast("x", fails)
        # It came to nobody.
        check(server.broadcast("x", [c]), 2)


def test_broadcast_frames_once_for_those_who_can_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    framed: list[str | bytes] = []
    pack = _frames.pack

    def count(data: str | bytes) -> bytes:
        framed.append(data)
        return pack(data)

    monkeypatch.setattr(_frames, "pack", count)
    with crowd() as (server, _), contextlib.ExitStack() as stack:
        raws = [stack.enter_context(open_raw(server)) for _ in range(10)]
        there(server, 10)
        assert server.broadcast("news").result == outcome(10)
        for raw in raws:
            assert raw.next_frame().payload == b"news"
    assert framed == ["news"]


def test_a_client_masks_for_itself_and_who_compresses_compresses() -> None:
    with opened() as (ws, raw):
        keys = set()
        for message in ("the same", PreparedMessage("the same")):
            assert broadcast([ws], message).result == outcome(1)
            header = raw.take(2)
            assert header[1] == 0x80 | len("the same")
            keys.add(raw.take(4))
            raw.take(len("the same"))
        assert len(keys) == 2
    text = "compress me " * 100
    extension = ("Sec-WebSocket-Extensions", "permessage-deflate")
    with crowd(compression=True) as (server, _), open_raw(server, extension) as raw:
        there(server, 1)
        server.broadcast(text)
        frame = raw.next_frame()
        assert frame.rsv
        assert len(frame.payload) < 200
        server.broadcast(PreparedMessage(text))
        frame = raw.next_frame()
        assert (frame.rsv, frame.payload) == (0, text.encode())


@pytest.mark.parametrize("message", [None, 1, ["x"]])
def test_what_is_no_message_is_refused(message: Any) -> None:
    with crowd() as (server, _), open_raw(server):
        (ws,) = there(server, 1)
        for function in (server.broadcast, lambda message: broadcast([], message)):
            with pytest.raises(TypeError, match="a message is"):
                function(message)
            with pytest.raises(LocalProtocolError):
                function("\ud800")
        with pytest.raises(ValueError, match="policy is one of 'wait', 'drop', 'disconnect', not 'slow'"):
            server.broadcast("x", policy="slow")  # type: ignore[arg-type]
        info = server.info(ws.id)
        assert info is not None
        assert info.messages_out == 0


def test_a_chat() -> None:
    """A member that leaves in the middle harms nobody."""

    def chat(ws: WebSocket) -> None:
        for message in ws:
            ws.server.broadcast(message)

    with crowd(handler=chat) as (server, endings), contextlib.ExitStack() as stack:
        members = [stack.enter_context(websockets.sync.client.connect(uri_of(server))) for _ in range(4)]
        there(server, 4)
        leaver = open_raw(server)
        there(server, 5)
        leaver.sock.shutdown(socket.SHUT_RD)
        leaver.reset()
        for number in range(20):
            members[number % 4].send(str(number))
            for member in members:
                assert member.recv(DEADLINE) == str(number)
        until(lambda: endings)


# Those that are slow.


@contextlib.contextmanager
def slow_and_quick(**options: Any) -> Iterator[tuple[Server, WebSocket, Raw, Raw]]:
    """A server, one WebSocket whose peer has stopped to read, that peer, and another one."""
    with (
        crowd(**{"close_timeout": 0.3, **options}) as (server, _),
        open_raw(server, receive_buffer=4096) as lazy,
    ):
        (slow,) = there(server, 1)
        with open_raw(server) as quick:
            there(server, 2)
            stall(slow)
            yield server, slow, lazy, quick


def read_up_to(raw: Raw, last: bytes) -> list[bytes]:
    """Messages up to one; those that stalled it are left out."""
    got: list[bytes] = []
    while not got or got[-1] != last:
        payload = raw.next_frame().payload
        if len(payload) < 65536:
            got.append(payload)
    return got


busy = threading.Event()


def be_busy(ws: WebSocket) -> None:
    """A handler that is in no method of its WebSocket."""
    while ws.ending is None:
        busy.wait(0.01)


#: Who could drive the slow connection: its own thread, in a receive; nobody.
handlers = pytest.mark.parametrize("handler", [stay, be_busy])


@handlers
def test_slow_peers_are_waited_for(handler: Any) -> None:
    with slow_and_quick(handler=handler) as (server, _slow, lazy, quick):
        sent = server.broadcast("first", timeout=60)
        assert (sent.result, sent.waiting) == (outcome(1), 1)
        # Nobody waits for it.
        assert quick.next_frame().payload == b"first"
        other = server.broadcast("second", timeout=60)
        assert quick.next_frame().payload == b"second"
        job = Job(sent.wait)
        waits(job)
        assert sent.waiting == 1
        with pytest.raises(TimeoutError, match="still waited for"):
            sent.wait(0.01)
        # Then it reads, and has missed nothing; also not the order.
        assert read_up_to(lazy, b"second") == [b"first", b"second"]
        assert job.result() == sent.wait() == sent.result == outcome(2)
        assert other.wait(DEADLINE) == outcome(2)
        assert sent.waiting == 0


@handlers
def test_a_slow_peer_is_waited_for_also_when_nobody_waits_for_that(handler: Any) -> None:
    with slow_and_quick(handler=handler) as (server, _slow, lazy, quick):
        server.broadcast("news", timeout=60)
        assert quick.next_frame().payload == b"news"
        assert read_up_to(lazy, b"news") == [b"news"]


@handlers
def test_waiting_has_an_end(handler: Any) -> None:
    with slow_and_quick(handler=handler) as (server, slow, _lazy, quick):
        sent = server.broadcast("first", timeout=60)
        second = server.broadcast("second", timeout=0.05)
        # Nobody waits for it here.
        until(lambda: not second.waiting)
        assert second.result == outcome(1, disconnected=1)
        # The other one finds it gone.
        assert sent.wait(DEADLINE) == outcome(1, dropped=1)
        ending = slow.wait_closed(DEADLINE)
        assert ending.cause is Cause.SLOW_PEER
        assert ending.sent is None or ending.sent.code == 1013
        assert [quick.next_frame().payload for _ in range(2)] == [b"first", b"second"]
        assert server.broadcast("third").result == outcome(1)


def test_what_waits_has_a_bound() -> None:
    limits = Limits(write_hard_cap=1 << 20)
    with slow_and_quick(limits=limits) as (server, slow, _lazy, quick):
        count = 0
        while (sent := server.broadcast(bytes(100_000), timeout=60)).result.disconnected == 0:
            count += 1
            assert sent.waiting == 1
            assert len(quick.next_frame().payload) == 100_000
        assert count == ((1 << 20) - limits.write_high_water) // 100_010
        assert sent.result == outcome(1, disconnected=1)
        assert slow.wait_closed(DEADLINE).cause is Cause.SLOW_PEER


def test_slow_peers_are_left_out() -> None:
    with slow_and_quick() as (server, slow, lazy, quick):
        waiting = slow.buffered_bytes
        for number in range(100):
            sent = server.broadcast(str(number), policy="drop")
            assert sent.result == sent.wait() == outcome(1, dropped=1)
            assert quick.next_frame().payload == b"%d" % number
        assert slow.state is State.OPEN
        assert slow.buffered_bytes <= waiting
        drained = Job(slow.drain)
        while drained.running:
            assert len(lazy.next_frame().payload) == 65536
        assert server.broadcast("again", policy="drop").result == outcome(2)
        assert read_up_to(lazy, b"again") == [b"again"]


@handlers
def test_slow_peers_are_disconnected(handler: Any) -> None:
    with slow_and_quick(handler=handler) as (server, slow, _lazy, quick):
        sent = server.broadcast("news", policy="disconnect")
        assert sent.result == outcome(1, disconnected=1)
        assert slow.state is State.CLOSING
        assert server.broadcast("more", policy="disconnect").result == outcome(1)
        until(lambda: slow.ending)
        assert slow.ending is not None
        assert (slow.ending.cause, slow.ending.clean) == (Cause.SLOW_PEER, False)
        assert [quick.next_frame().payload for _ in range(2)] == [b"news", b"more"]


def test_who_was_slow_and_reads_again_learns_why() -> None:
    with slow_and_quick(close_timeout=30) as (server, slow, lazy, _quick):
        server.broadcast("news", policy="disconnect")
        while (frame := lazy.next_frame()).opcode != CLOSE:
            pass
        assert frame.payload == close_payload(1013, b"too slow to receive")
        lazy.close()
        ending = slow.wait_closed(DEADLINE)
        assert ending.cause is Cause.SLOW_PEER
        assert ending.sent is not None
        assert ending.sent.code == 1013


# Messages in pieces.


class Pieces:
    """A message in pieces that the test lets out one at a time."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def put(self, *pieces: str | None) -> None:
        for piece in pieces:
            self._queue.put(piece)

    def __iter__(self) -> Iterator[str]:
        return iter(lambda: self._queue.get(timeout=DEADLINE), None)


@contextlib.contextmanager
def in_pieces(**options: Any) -> Iterator[tuple[Server, WebSocket, Raw, Raw, Callable[[], None]]]:
    """A server, a WebSocket in the middle of a message in pieces, its peer, another peer, and what ends the message."""
    with crowd(**options) as (server, _), open_raw(server) as raw:
        (ws,) = there(server, 1)
        with open_raw(server) as other:
            there(server, 2)
            pieces = Pieces()
            sending = Job(ws.send, pieces)
            pieces.put("begin")
            assert raw.next_frame().payload == b"begin"

            def end() -> None:
                pieces.put("end", None)
                sending.result()

            yield server, ws, raw, other, end


def payloads(raw: Raw, count: int) -> list[bytes]:
    return [raw.next_frame().payload for _ in range(count)]


@pytest.mark.parametrize("policy", ["wait", "drop", "disconnect"])
def test_a_message_in_pieces_is_not_broken(policy: Any) -> None:
    with in_pieces() as (server, ws, raw, other, end):
        kept = policy != "drop"
        assert not ws.try_send("would have to wait")
        for message in ("one", PreparedMessage("two")):
            sent = server.broadcast(message, policy=policy, timeout=0.01)
            assert (sent.result, sent.waiting) == (outcome(1 + kept, dropped=1 - kept), 0)
        assert server.push(ws.id, "pushed")
        assert payloads(other, 2) == [b"one", b"two"]
        # Longer than the peer would have if it were slow.
        time.sleep(0.03)
        end()
        assert server.broadcast("three", policy=policy).result == outcome(2)
        between = [b"one", b"two"] if kept else []
        assert payloads(raw, 4 + len(between)) == [b"end", b"", *between, b"pushed", b"three"]
        assert ws.state is State.OPEN


@pytest.mark.parametrize("policy", ["wait", "disconnect"])
def test_what_is_kept_behind_a_message_in_pieces_has_a_bound(policy: Any) -> None:
    with in_pieces(close_timeout=0.3) as (server, ws, raw, other, end):
        count = 0
        while (sent := server.broadcast(bytes(1 << 20), policy=policy)).result == outcome(2):
            count += 1
            assert count < 6
            other.next_frame()
        other.next_frame()
        assert count == 3
        if policy == "wait":
            assert sent.result == outcome(1, dropped=1)
            ended = Job(end)
            assert payloads(raw, 2 + count) == [b"end", b"", *[bytes(1 << 20)] * count]
            ended.result()
            assert ws.state is State.OPEN
        else:
            assert sent.result == outcome(1, disconnected=1)
            assert raw.next_frame().payload == close_payload(1013, b"too slow to receive")
            with pytest.raises(ConnectionClosed):
                end()
            assert ws.wait_closed(DEADLINE).cause is Cause.SLOW_PEER


def test_who_waited_before_a_message_in_pieces_keeps_its_place() -> None:
    with slow_and_quick(close_timeout=30) as (server, slow, lazy, quick):
        first = server.broadcast("first", timeout=60)
        pieces = Pieces()
        sending = Job(slow.send, pieces)
        pieces.put("begin")
        last = Job(read_up_to, lazy, b"last")
        until(lambda: slow.is_within_message)
        assert first.wait(DEADLINE) == outcome(2)
        second = server.broadcast("second", timeout=60)
        third = server.broadcast("third", timeout=0.01)
        time.sleep(0.03)
        # Nor does it lose its connection when the message takes its time.
        assert slow.state is State.OPEN
        pieces.put("end", None)
        sending.result()
        assert second.wait(DEADLINE) == third.wait(DEADLINE) == outcome(2)
        assert server.broadcast("last").wait(DEADLINE) == outcome(2)
        assert last.result() == [b"first", b"begin", b"end", b"", b"second", b"third", b"last"]
        assert payloads(quick, 4) == [b"first", b"second", b"third", b"last"]


# Nobody is held up.


@pytest.mark.parametrize("policy", ["wait", "drop", "disconnect"])
def test_a_stalled_reader_holds_up_nobody(policy: Any) -> None:
    """Its own thread is in a send that waits for it, and its output is full."""
    sending = threading.Event()

    def handler(ws: WebSocket) -> None:
        if ws.id > 1:
            stay(ws)
        sending.set()
        for _ in range(1000):
            ws.send(bytes(1 << 20))

    with crowd(handler=handler, close_timeout=0.3) as (server, _), contextlib.ExitStack() as stack:
        stack.enter_context(open_raw(server, receive_buffer=4096))
        (stalled,) = there(server, 1)
        raws = [stack.enter_context(open_raw(server)) for _ in range(20)]
        there(server, 21)
        assert sending.wait(DEADLINE)
        until(lambda: stalled.is_slow)
        for number in range(50):
            sent = server.broadcast(str(number), policy=policy, timeout=60)
            if policy == "drop" or number == 0:
                assert sent.result.delivered == 20
            for raw in raws:
                assert raw.next_frame().payload == b"%d" % number
        if policy == "disconnect":
            assert stalled.wait_closed(DEADLINE).cause is Cause.SLOW_PEER
        else:
            assert stalled.state is State.OPEN
            stalled.abort()


def test_with_tls() -> None:
    with crowd(ssl=server_context(), close_timeout=0.3) as (server, _):
        uri = f"wss://127.0.0.1:{port_of(server)}/"
        with connect(uri, ssl=client_context()) as lazy, connect(uri, ssl=client_context()) as quick:
            there(server, 2)
            slow = server.get(1)
            assert slow is not None
            stall(slow)
            sent = server.broadcast("news", timeout=60)
            assert (sent.result, sent.waiting) == (outcome(1), 1)
            assert quick.recv(DEADLINE) == "news"
            while len(lazy.recv(DEADLINE)) == 65536:
                pass
            assert sent.wait(DEADLINE) == outcome(2)


@pytest.mark.usefixtures("tiny_switch_interval")
def test_many_threads_broadcast_at_once() -> None:
    with crowd() as (server, _), contextlib.ExitStack() as stack:
        raws = [stack.enter_context(open_raw(server)) for _ in range(5)]
        there(server, 5)

        def send(sender: int) -> None:
            for number in range(50):
                assert server.broadcast(f"{sender} {number}").wait(DEADLINE) == outcome(5)

        jobs = [Job(send, sender) for sender in range(6)]
        for raw in raws:
            last = [-1] * 6
            for _ in range(6 * 50):
                sender, number = map(int, raw.next_frame().payload.split(b" "))
                assert number == last[sender] + 1
                last[sender] = number
        for job in jobs:
            job.result()


@pytest.mark.usefixtures("tiny_switch_interval")
def test_connections_come_and_go_while_eight_threads_use_them() -> None:
    """Nothing is torn, doubled or out of order, whatever else goes on."""
    over = threading.Event()

    def handler(ws: WebSocket) -> None:
        ws.join(f"group {ws.id % 3}")
        for message in ws:
            ws.server.broadcast(message, f"group {ws.id % 3}", policy="drop")

    with crowd(handler=handler, close_timeout=5) as (server, endings):

        def send(sender: int) -> int:
            number = 0
            while not over.is_set():
                policy: Any = ("wait", "drop")[number % 2]
                server.broadcast(f"{sender} {number} " + "x" * (number % 50 * 97), policy=policy)
                for ws in server.connections:
                    ws.try_send(f"{sender} {number} ")
                    server.info(ws.id)
                number += 1
            return number

        def come_and_go(who: int) -> int:
            seen = 0
            for round_ in range(12):
                with connect(uri_of(server)) as ws:
                    ws.send(f"{who + 4} {round_} ")
                    last: dict[str, int] = {}
                    for _ in range(40):
                        message = ws.recv(DEADLINE)
                        assert isinstance(message, str)
                        sender, number, rest = message.split(" ")
                        assert rest in ("", "x" * (int(number) % 50 * 97))
                        assert int(number) >= last.get(sender, 0)
                        last[sender] = int(number)
                        seen += 1
            return seen

        senders = [Job(send, sender) for sender in range(4)]
        clients = [Job(come_and_go, who) for who in range(4)]
        try:
            assert [job.result() for job in clients] == [12 * 40] * 4
        finally:
            over.set()
        assert all(job.result() for job in senders)
        until(lambda: len(endings) == 4 * 12)
        assert {ending.cause for ending in endings} == {Cause.CLOSE_HANDSHAKE}
        assert server.groups == {}
        stats = server.stats()
        assert (stats.connections, stats.websockets, stats.opened) == (0, 0, 4 * 12)


def test_a_broadcast_from_a_callback_for_the_end() -> None:
    """It is called without any lock, by the thread that finds out."""
    with crowd() as (server, _), open_raw(server) as leaver, open_raw(server) as stayer:
        for ws in there(server, 2):
            ws.add_done_callback(lambda ws: ws.server.broadcast(f"{ws.id} has left"))
        leaver.send_close()
        leaver.rest()
        assert stayer.next_frame().payload == b"1 has left"
