"""The transports of the blocking adapter: how many system calls they make, and for how long they wait."""

from __future__ import annotations

import _socket
import contextlib
import errno
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from framebuilder import PING, PONG, TEXT
from sweephelpers import system_sockets
from synchelpers import DEADLINE, Job, opened, tidy, waits
from wsframe import Connection, Role
from wsframe.sync import ConnectionClosedError, WebSocket, connect
from wsframe.sync import _driver as driver_module
from wsframe.sync import _transport as transport_module
from wsframe.sync._poll import Waker, wait_ready
from wsframe.sync._transport import PlainTransport, PolledTransport, open_transport, some_of
from wsframe.testing import BlockingPeer, Faults, FaultySocket

__all__ = ["tidy"]

needs_plain = pytest.mark.skipif(
    not hasattr(socket, "MSG_DONTWAIT"), reason="this system has no plain transport"
)


class Tracing:
    """Counts the calls of a socket, in the place of one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.calls: Counter[str] = Counter()
        self.timeouts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._sock, name)

        def call(*arguments: Any) -> Any:
            self.calls[name] += 1
            if name == "setsockopt":
                self.timeouts.append(arguments[2])
            return method(*arguments)

        return call

    def reset(self) -> dict[str, int]:
        calls = {name: count for name, count in self.calls.items() if name != "fileno"}
        self.calls.clear()
        return calls


def traced(ws: WebSocket) -> Tracing:
    """Trace the socket of a WebSocket from now on."""
    transport: Any = ws._driver._transport
    transport.sock = Tracing(transport.sock)
    tracing: Tracing = transport.sock
    return tracing


@needs_plain
def test_receiving_and_sending_are_one_system_call_each() -> None:
    with opened(ping_interval=None) as (ws, raw):
        raw.send_frame(TEXT, b"x")
        ws.recv()
        calls = traced(ws)
        for _ in range(10):
            raw.send_frame(TEXT, b"x")
            ws.recv()
        assert calls.reset() == {"recv_into": 10}
        for _ in range(10):
            ws.send("x")
        assert calls.reset() == {"send": 10}
        raw.send(raw.frame(TEXT, b"x") * 10)
        for _ in range(10):
            ws.recv()
        assert calls.reset() == {"recv_into": 1}


@needs_plain
def test_a_deadline_that_comes_nearer_does_not_cost_a_system_call_every_time() -> None:
    with opened(ping_interval=3) as (ws, raw):
        calls = traced(ws)
        for _ in range(100):
            raw.send_frame(TEXT, b"x")
            ws.recv()
            time.sleep(0.002)
        assert calls.calls["setsockopt"] <= 2
        calls.reset()
        # The same timeout again and again is set once.
        for _ in range(20):
            raw.send_frame(TEXT, b"x")
            ws.recv(timeout=1)
        assert calls.calls["setsockopt"] <= 1


@needs_plain
def test_the_parts_of_a_message_are_received_one_after_the_other_as_long_as_there_is_time() -> None:
    message = b"x" * 200_000
    with opened() as (ws, raw):
        calls = traced(ws)
        raw.send_frame(TEXT, message)
        received: str | bytes = b""
        attempts = 0
        while not received:
            attempts += 1
            with contextlib.suppress(TimeoutError):
                received = ws.recv(timeout=0)
            assert calls.reset()["recv_into"] <= 3
        assert received == message.decode()
        assert attempts > 1
        raw.send_frame(TEXT, message)
        assert ws.recv(timeout=DEADLINE) == message.decode()


@needs_plain
@pytest.mark.parametrize("recv_timeout", [None, 30])
def test_deadlines_are_kept_while_messages_come(
    recv_timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not looked at before every message: far away is more than the longest wait."""
    monkeypatch.setattr(driver_module, "LONGEST_WAIT", 0.01)
    asked = 0
    next_timeout = Connection.next_timeout

    def counting(self: Connection, now: float) -> float | None:
        nonlocal asked
        asked += 1
        return next_timeout(self, now)

    monkeypatch.setattr(Connection, "next_timeout", counting)
    with opened(heartbeat=0.5) as (ws, raw):
        received = 0
        end = time.monotonic() + DEADLINE
        raw.sock.setblocking(False)
        while not raw.received and time.monotonic() < end:
            raw.send_frame(TEXT, b"x")
            ws.recv(recv_timeout)
            received += 1
            with contextlib.suppress(BlockingIOError):
                raw.received = raw.sock.recv(100)
        raw.sock.settimeout(DEADLINE)
        assert raw.received
        assert raw.next_frame().opcode == PING
    if received > 1000:
        assert asked < received / 2


@needs_plain
def test_when_a_message_was_sent_is_no_secret_to_the_idle_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    next_timeout = Connection.next_timeout

    def noting(self: Connection, now: float) -> float | None:
        times.append(now)
        return next_timeout(self, now)

    monkeypatch.setattr(Connection, "next_timeout", noting)
    with opened(idle_timeout=1000) as (ws, raw):
        for _ in range(3):
            ws.send("x")
            sent = time.monotonic()
            raw.send_frame(TEXT, b"x")
            ws.recv()
            assert sent <= times[-1] <= time.monotonic()


@needs_plain
@pytest.mark.parametrize("timeout", [1e-9, 0.001, 0.03, 0.2])
def test_the_kernel_waits_as_long_as_it_should(timeout: float) -> None:
    ours, theirs = socket.socketpair()
    with theirs, ours:
        transport = PlainTransport(ours)
        began = time.monotonic()
        assert transport.receive(timeout) is None
        # A clock that ticks may be ahead by a tick.
        assert timeout - 0.011 <= time.monotonic() - began < timeout + 1
        assert transport.receive(0) is None
        theirs.send(b"x")
        assert bytes(transport.receive(None) or b"") == b"x"
        theirs.close()
        assert bytes(transport.receive(None) or b"") == b""


@needs_plain
def test_another_threads_shutdown_ends_the_wait() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ours:
        transport = PlainTransport(ours)
        job = Job(transport.receive, None)
        waits(job)
        transport.interrupt()
        assert bytes(job.result() or b"") == b""


@needs_plain
def test_the_buffer_grows_while_it_is_filled() -> None:
    ours, theirs = socket.socketpair()
    with theirs, ours:
        transport = PlainTransport(ours)
        assert len(transport._buffer) == 16 * 1024
        sender = threading.Thread(target=theirs.sendall, args=(b"x" * (4 << 20),))
        sender.start()
        received = 0
        while received < 4 << 20:
            received += len(transport.receive(None) or b"")
        sender.join()
        assert len(transport._buffer) > 16 * 1024


@needs_plain
def test_which_sockets_are_plain() -> None:
    class Own(socket.socket):
        """Adds something, but changes nothing."""

    class Changed(socket.socket):
        """As somebody's who wants to be asked."""

        def recv_into(self, *arguments: Any) -> int:
            return super().recv_into(*arguments)

    with contextlib.ExitStack() as stack:
        for kind, plain in ((socket.socket, True), (Own, True), (Changed, False)):
            sock = stack.enter_context(kind())
            assert isinstance(open_transport(sock), PlainTransport if plain else PolledTransport)
    assert issubclass(socket.socket, _socket.socket)


def test_a_system_without_the_plain_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "MSG_DONTWAIT", raising=False)
    with opened() as (ws, raw):
        assert isinstance(ws._driver._transport, PolledTransport)
        job = Job(ws.recv)
        waits(job)
        raw.send_frame(TEXT, b"x")
        assert job.result() == "x"
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0.01)


@pytest.fixture(params=["poll", "select"])
def waiting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to wait for several sockets."""
    if request.param == "select":
        monkeypatch.delattr("select.poll", raising=False)
    elif sys.platform == "win32":
        pytest.skip("there is no poll")


@pytest.mark.usefixtures("waiting")
def test_waiting_for_several() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waker = Waker()
        try:
            wanted = [
                (ours.fileno(), True, False),
                (waker.fileno(), True, False),
                (theirs.fileno(), False, False),
            ]
            began = time.monotonic()
            assert wait_ready(wanted, 0.05) == set()
            assert time.monotonic() - began >= 0.045
            assert wait_ready(wanted, 0) == set()
            for _ in range(3):
                waker.wake()
            assert wait_ready(wanted, None) == {waker.fileno()}
            waker.clear()
            assert wait_ready(wanted, 0) == set()
            theirs.send(b"x")
            assert wait_ready(wanted, None) == {ours.fileno()}
            assert wait_ready([(ours.fileno(), True, True)], None) == {ours.fileno()}
        finally:
            waker.close()
        waker.wake()
        waker.clear()


def test_a_waker_that_nobody_clears_does_not_block() -> None:
    waker = Waker()
    for _ in range(100_000):
        waker.wake()
    waker.clear()
    assert wait_ready([(waker.fileno(), True, False)], 0) == set()
    waker.close()


def test_joining_what_is_small() -> None:
    assert some_of([b"abc"], 2) == b"abc"
    assert some_of([b"abc", b"d"], 3) == b"abc"
    assert some_of([b"ab", b"c", b"d"], 3) == b"abc"
    assert some_of([b"a", b"bcdef", b"g"], 3) == b"a"


def test_more_buffers_than_one_call_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "_MAX_BUFFERS", 3)
    with opened() as (ws, raw):
        with ws._driver.lock:
            for number in range(100):
                ws._connection.send_bytes(b"%d" % number)
        ws.send("last")
        assert [raw.next_frame().payload for _ in range(101)] == [*(b"%d" % n for n in range(100)), b"last"]


@contextlib.contextmanager
def opened_with_faults(faults: Faults, **options: Any) -> Iterator[tuple[WebSocket, BlockingPeer]]:
    """A client of ours on a socket with faults, and its peer."""
    listener, client = system_sockets()
    with listener:
        accepted, _ = listener.accept()
    with BlockingPeer(Role.SERVER, accepted) as peer:
        opening = Job(
            lambda: connect(
                "ws://localhost/", sock=FaultySocket(client, faults), ping_interval=None, **options
            )
        )
        peer.accept()
        ws = opening.result()
        try:
            yield ws, peer
        finally:
            ws.abort()


@pytest.mark.skipif(sys.platform != "linux", reason="needs AF_UNIX sockets without names")
@pytest.mark.parametrize("others_receive", [False, True])
def test_what_could_only_be_written_at_the_second_try_is_written(
    others_receive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room came between the first try and the wait for it; nothing else will happen."""
    monkeypatch.setattr(transport_module, "_is_plain", lambda sock: True)
    faults = Faults().fail_at(2, BlockingIOError(), operation="send")
    with opened_with_faults(faults) as (ws, peer):
        receiving = Job(ws.wait_closed) if others_receive else None
        if receiving is not None:
            waits(receiving)
        Job(ws.send, "message").result(5)
        assert faults.fired
        peer.expect_frame("message")
    if receiving is not None:
        receiving.result()


@pytest.mark.skipif(sys.platform != "linux", reason="needs AF_UNIX sockets without names")
@pytest.mark.parametrize("plain", [True, False])
def test_an_error_in_sending_wakes_who_receives(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not be one that ends the stream, too."""
    monkeypatch.setattr(transport_module, "_is_plain", lambda sock: plain)
    error = OSError(errno.ENOBUFS, "No buffer space available")
    faults = Faults().fail_at(2, error, operation="send")
    with opened_with_faults(faults) as (ws, _):
        receiving = Job(ws.recv)
        waits(receiving)
        for job in (Job(ws.send, "message"), receiving):
            with pytest.raises(ConnectionClosedError) as caught:
                job.result(5)
            assert caught.value.ending.error is error


@pytest.mark.skipif(sys.platform != "linux", reason="needs AF_UNIX sockets without names")
def test_who_follows_leads_when_the_leader_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "_is_plain", lambda sock: True)
    faults = Faults()
    with opened_with_faults(faults) as (ws, peer):
        faults.fail_at(2, KeyboardInterrupt(), operation="recv")
        leader = Job(ws.recv)
        waits(leader)
        pong = ws.ping(b"still there?")
        follower = Job(pong.wait)
        waits(follower)
        frame = peer.frame("message")
        peer.send(frame[:4])
        with pytest.raises(KeyboardInterrupt):
            leader.result()
        peer.send(frame[4:] + peer.frame(b"still there?", PONG))
        follower.result()
        assert ws.recv() == "message"
