"""``for ws in connect(uri, retry=...)`` on blocking sockets: over real connections, in time that is not.

"Chance" is always a half: delays are 2.5, 5, 10, 20, 30, 30 ... seconds, all of which pass at once.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectrows import CODES_AGAIN, CODES_STOP, STATUSES_STOP
from framebuilder import CLOSE, close_payload
from synchelpers import DEADLINE, Job, Listener, Raw, serving, tidy, until, uri_of
from wsframe import Cause, Disconnected, ResponseReceived, State
from wsframe.sync import (
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    ConnectLost,
    HandshakeInvalid,
    HandshakeRejected,
    Reconnector,
    RetryPolicy,
    WebSocket,
    _reconnect,
    connect,
)

__all__ = ["tidy"]

POLICY = RetryPolicy()

Script = Callable[[Raw], None]


class Clock:
    """Time that only passes when somebody waits, or says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, over: threading.Event, seconds: float) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        return over.is_set()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(_reconnect, "_random", lambda: 0.5)
    monkeypatch.setattr(_reconnect, "_monotonic", clock)
    monkeypatch.setattr(_reconnect, "_wait", clock.wait)
    return clock


# Servers.


def answering(status: int, *headers: str) -> Script:
    def script(raw: Raw) -> None:
        raw.head()
        raw.send("\r\n".join([f"HTTP/1.1 {status} X", "Content-Length: 0", *headers, "\r\n"]).encode())

    return script


def closing(code: int | None) -> Script:
    def script(raw: Raw) -> None:
        raw.accept_websocket()
        raw.send_close(code)
        while raw.next_frame().opcode != CLOSE:
            pass

    return script


def dropping(raw: Raw) -> None:
    raw.accept_websocket()
    raw.reset()


def waiting_for_close(codes: list[bytes]) -> Script:
    """A server that lets the client close."""

    def script(raw: Raw) -> None:
        raw.accept_websocket()
        frame = raw.next_frame()
        codes.append(frame.payload[:2])
        raw.send_frame(CLOSE, frame.payload)

    return script


@contextlib.contextmanager
def script_of(*scripts: Script) -> Iterator[str]:
    """A server that plays one of these after the other, all of which must come; its URI."""
    with Listener() as listener:

        def serve() -> None:
            for script in scripts:
                with listener.accept() as raw:
                    script(raw)

        job = Job(serve)
        yield listener.uri
        job.result()


def to_the_end(ws: WebSocket) -> None:
    """What most blocks do."""
    with contextlib.suppress(ConnectionClosed):
        for _ in ws:
            pass


def all_rounds(link: Reconnector) -> list[WebSocket]:
    seen = []
    for ws in link:
        seen.append(ws)
        to_the_end(ws)
    return seen


def first_of(link: Any) -> WebSocket:
    """Leave the loop at once."""
    for ws in link:
        assert isinstance(ws, WebSocket)
        return ws
    raise AssertionError


def code(number: int) -> bytes:
    return number.to_bytes(2, "big")


@pytest.fixture
def nobody() -> str:
    """A URI where nobody listens."""
    with Listener() as listener:
        return listener.uri


# When.


def test_nobody_listens(clock: Clock, nobody: str) -> None:
    link = connect(nobody, retry=RetryPolicy(max_attempts=6))
    with pytest.raises(ConnectLost) as caught:
        all_rounds(link)
    assert clock.waits == [2.5, 5, 10, 20, 30]
    assert link.attempts == 6
    assert caught.value.__notes__ == ["given up: that was attempt 6 in a row (max_attempts)"]
    assert link.last_ending is caught.value.ending


def test_seconds_are_limited(clock: Clock, nobody: str) -> None:
    with pytest.raises(ConnectLost) as caught:
        all_rounds(connect(nobody, retry=RetryPolicy(max_seconds=20)))
    assert sum(clock.waits) == 17.5
    assert "max_seconds (20)" in caught.value.__notes__[0]


def test_delays_begin_anew_after_a_stable_connection(clock: Clock) -> None:
    lasts = [0, 1, 59, 61, 1, 3600]
    endings, attempts, seen = [], [], []
    with script_of(*[dropping] * len(lasts), closing(1000)) as uri:
        for ws in (link := connect(uri, retry=POLICY, ping_interval=None)):
            seen.append(ws)
            endings.append(link.last_ending)
            attempts.append(link.attempts)
            clock.now += ([*lasts, 0])[len(seen) - 1]
            to_the_end(ws)
    assert clock.waits == pytest.approx([2.5, 5, 10, 2.5, 5, 2.5])
    assert attempts == [1, 2, 3, 4, 1, 2, 1]
    # Each a new one, and the ending of the one before it is known.
    assert len(set(seen)) == len(lasts) + 1
    assert endings == [None, *(ws.ending for ws in seen[:-1])]
    assert link.last_ending is seen[-1].ending


def test_a_server_that_is_busy_says_when(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 784111777.0)
    scripts = [
        answering(503, "Retry-After: 120"),
        answering(429, "Retry-After: 100000"),
        answering(500, "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT"),
        answering(408),
        closing(1012),
        closing(1000),
    ]
    with script_of(*scripts) as uri:
        all_rounds(connect(uri, retry=POLICY))
    # The last is a restart: 5 to 30 seconds at least.
    assert clock.waits == pytest.approx([122.5, 305, 70, 20, 30])


# What ends the loop, and how.


@pytest.mark.parametrize("number", CODES_AGAIN)
def test_codes_after_which_it_connects_again(clock: Clock, number: int | None) -> None:
    with script_of(closing(number), closing(1000)) as uri:
        assert len(all_rounds(connect(uri, retry=POLICY))) == 2


@pytest.mark.parametrize("number", CODES_STOP)
def test_codes_after_which_it_stops(clock: Clock, number: int) -> None:
    with script_of(closing(number)) as uri:
        link = connect(uri, retry=POLICY)
        with pytest.raises(ConnectionClosedError) as caught:
            all_rounds(link)
    assert caught.value.code == number
    assert caught.value.ending is link.last_ending
    assert caught.value.__notes__[0].startswith("not retried: ")


def test_1000_stops_quietly_unless_asked(clock: Clock) -> None:
    with script_of(closing(1000)) as uri:
        all_rounds(connect(uri, retry=POLICY))
    with script_of(closing(1000), closing(1000), closing(1008)) as uri:
        link = connect(uri, retry=RetryPolicy(on_ok=True))
        with pytest.raises(ConnectionClosedError):
            all_rounds(link)
    assert link.attempts == 3


@pytest.mark.parametrize("status", STATUSES_STOP)
def test_answers_after_which_it_stops(clock: Clock, status: int) -> None:
    with script_of(answering(status)) as uri, pytest.raises(HandshakeRejected) as caught:
        all_rounds(connect(uri, retry=POLICY))
    assert caught.value.status == status
    assert caught.value.__notes__[0].startswith("not retried: the ")


def test_what_is_no_websocket_server(clock: Clock) -> None:
    def say(raw: Raw) -> None:
        raw.send(b"220 mail.example ESMTP\r\n")

    with script_of(say) as uri, pytest.raises(HandshakeInvalid):
        all_rounds(connect(uri, retry=POLICY))


def test_giving_up_after_a_good_end_is_not_quiet(clock: Clock) -> None:
    with script_of(closing(1001)) as uri, pytest.raises(ConnectionClosedOK) as caught:
        all_rounds(connect(uri, retry=RetryPolicy(max_attempts=1)))
    assert "max_attempts" in caught.value.__notes__[0]


def test_decide_hears_everything(clock: Clock) -> None:
    heard: list[tuple[Disconnected, ResponseReceived | None]] = []

    def decide(ending: Disconnected, response: ResponseReceived | None) -> bool | float | None:
        heard.append((ending, response))
        if response is not None:
            return 3.0
        return False if ending.code == 4001 else None

    scripts = (answering(404, "X-Thing: 1"), dropping, closing(4001))
    with script_of(*scripts) as uri, pytest.raises(ConnectionClosedError):
        all_rounds(connect(uri, retry=RetryPolicy(decide=decide)))
    assert clock.waits[0] == 3
    assert [response is None for _, response in heard] == [False, True, True]


def test_an_exception_of_decide_comes_out(clock: Clock, nobody: str) -> None:
    def decide(*_: object) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        all_rounds(connect(nobody, retry=RetryPolicy(decide=decide)))


def test_nothing_comes_after_the_end(clock: Clock, nobody: str) -> None:
    iterator = iter(connect(nobody, retry=RetryPolicy(max_attempts=1)))
    with pytest.raises(ConnectLost):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)
    assert iter(iterator) is iterator


# The block.


def test_a_block_that_ends_while_it_is_open_gets_the_next_one(clock: Clock) -> None:
    codes: list[bytes] = []
    seen: list[WebSocket] = []
    with script_of(*[waiting_for_close(codes)] * 3) as uri:
        for ws in connect(uri, retry=POLICY):
            # The one before has ended, not only begun to.
            assert [before.ending is not None for before in seen] == [True] * len(seen)
            seen.append(ws)
            if len(seen) == 3:
                ws.close(4000)
                break
    assert codes == [code(1000), code(1000), code(4000)]
    assert clock.waits == [2.5, 5]


def test_closing_it_in_the_block_ends_the_loop(clock: Clock) -> None:
    codes: list[bytes] = []
    with script_of(waiting_for_close(codes)) as uri:
        for ws in connect(uri, retry=POLICY):
            ws.close()
    assert codes == [code(1000)]


def test_break_begins_to_close(clock: Clock) -> None:
    codes: list[bytes] = []
    with script_of(*[waiting_for_close(codes)] * 2) as uri:
        link = connect(uri, retry=POLICY)
        ws = first_of(link)
        assert ws.state is State.CLOSING
        assert ws.wait_closed(DEADLINE).clean
        # And with the link in hand it can be used again.
        ws = first_of(link)
        assert link.attempts == 1
        assert ws.wait_closed(DEADLINE).clean
    assert codes == [code(1000)] * 2


def test_an_exception_begins_to_close(clock: Clock) -> None:
    codes: list[bytes] = []
    kept: list[WebSocket] = []

    def raising(uri: str) -> None:
        for ws in connect(uri, retry=POLICY):
            kept.append(ws)
            raise ZeroDivisionError

    with script_of(waiting_for_close(codes)) as uri:
        with pytest.raises(ZeroDivisionError):
            raising(uri)
        # The traceback may hold the loop for a while.
        gc.collect()
        assert kept[0].wait_closed(DEADLINE).clean
    assert codes == [code(1000)]


def test_with_the_connection_as_a_block_it_says_why_and_waits(clock: Clock) -> None:
    codes: list[bytes] = []

    def leave(uri: str, *, raises: bool) -> WebSocket:
        for ws in connect(uri, retry=POLICY):
            try:
                with ws:
                    if raises:
                        raise ZeroDivisionError
                    break
            finally:
                assert ws.ending is not None
        return ws

    with script_of(*[waiting_for_close(codes)] * 2) as uri:
        leave(uri, raises=False)
        with pytest.raises(ZeroDivisionError):
            leave(uri, raises=True)
    assert codes == [code(1000), code(1011)]


def test_messages_that_came_before_the_end_are_read(clock: Clock) -> None:
    def talk(raw: Raw) -> None:
        raw.accept_websocket()
        raw.send(raw.frame(1, b"one") + raw.frame(1, b"two"))
        raw.send_close(1001)
        raw.next_frame()

    messages: list[str | bytes] = []
    with script_of(talk, talk, closing(1000)) as uri:
        for ws in connect(uri, retry=POLICY):
            messages += list(ws)
    assert messages == ["one", "two"] * 2


# on_connected.


def test_on_connected_comes_before_the_block(clock: Clock) -> None:
    story: list[tuple[str, WebSocket]] = []

    def subscribe(ws: WebSocket) -> None:
        ws.send("subscribe")
        story.append(("hook", ws))

    def expecting(raw: Raw) -> None:
        raw.accept_websocket()
        assert raw.next_frame().payload == b"subscribe"
        raw.reset()

    def client(uri: str) -> None:
        for ws in connect(uri, retry=POLICY, on_connected=subscribe):
            story.append(("block", ws))
            to_the_end(ws)

    with (
        script_of(expecting, answering(503), expecting, answering(403)) as uri,
        pytest.raises(HandshakeRejected),
    ):
        client(uri)
    assert [who for who, _ in story] == ["hook", "block"] * 2
    assert story[0][1] is story[1][1] is not story[2][1]


def test_a_connection_that_is_lost_in_on_connected_is_a_lost_connection(clock: Clock) -> None:
    def ask(ws: WebSocket) -> None:
        ws.recv()

    with script_of(dropping, closing(1001), closing(1000)) as uri:
        link = connect(uri, retry=POLICY, on_connected=ask)
        assert all_rounds(link) == []
    assert link.last_ending is not None
    assert link.last_ending.code == 1000
    assert clock.waits == [2.5, 5]
    with script_of(closing(1008)) as uri, pytest.raises(ConnectionClosedError) as caught:
        all_rounds(connect(uri, retry=POLICY, on_connected=ask))
    assert caught.value.__notes__
    assert caught.value.__context__ is None


def test_an_exception_of_on_connected_closes_and_comes_out(clock: Clock) -> None:
    codes: list[bytes] = []

    def broken(ws: WebSocket) -> None:
        raise ZeroDivisionError

    with script_of(waiting_for_close(codes)) as uri:
        iterator = iter(connect(uri, retry=POLICY, on_connected=broken))
        with pytest.raises(ZeroDivisionError):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)
    assert codes == [code(1011)]


# Breaking it off, and more than one.


def test_close_wakes_who_waits_for_the_next_one(nobody: str) -> None:
    iterator = iter(connect(nobody, retry=RetryPolicy(decide=lambda *_: 3600.0)))
    job = Job(lambda: list(iterator))
    until(lambda: iterator._next_at)
    with pytest.raises(RuntimeError, match="another thread waits for the next connection"):
        next(iterator)
    iterator.close()
    assert job.result() == []


def test_close_closes_the_connection_that_there_is(clock: Clock) -> None:
    codes: list[bytes] = []
    with script_of(waiting_for_close(codes)) as uri:
        with contextlib.closing(iter(connect(uri, retry=POLICY))) as connections:
            ws = next(connections)
        assert ws.ending is not None
        assert list(connections) == []
        connections.close()
    assert codes == [code(1000)]


def test_close_while_a_connection_is_being_made() -> None:
    with Listener() as listener:
        connections = iter(connect(listener.uri, retry=POLICY))
        job = Job(lambda: list(connections))
        with listener.accept() as raw:
            connections.close()
            raw.accept_websocket()
            frame = raw.next_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, close_payload(1000))
            raw.send_frame(CLOSE, frame.payload)
            raw.shutdown()
            assert job.result() == []


class Interrupt(BaseException):
    """What a signal handler raises."""


def test_a_signal_breaks_the_wait_off_and_it_can_be_gone_on_with(nobody: str) -> None:
    def handler(*_: object) -> None:
        raise Interrupt

    decided: list[float] = []

    def decide(ending: Disconnected, _: object) -> float:
        decided.append(time.monotonic())
        return 0.3 if len(decided) == 1 else 3600

    before = signal.signal(signal.SIGALRM, handler)
    try:
        iterator = iter(connect(nobody, retry=RetryPolicy(decide=decide)))
        for seconds in (0.1, 0.5):
            signal.setitimer(signal.ITIMER_REAL, seconds)
            with pytest.raises(Interrupt):
                next(iterator)
        # The delay went on where it was.
        assert len(decided) == 2
        assert decided[1] - decided[0] >= 0.3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# What is made for each, and arguments.


def test_a_server_that_comes_and_goes() -> None:
    """In real time, without a fake clock."""
    answers: list[str | bytes] = []
    policy = RetryPolicy(decide=lambda *_: 0.01)
    port = 0

    def client(uri: str) -> None:
        for ws in connect(uri, retry=policy, on_connected=lambda ws: ws.send("hello"), stream=True):
            with contextlib.suppress(ConnectionClosed):
                for message in ws:
                    answers.append(message)
                    if len(answers) == 3:
                        ws.close()
                        return

    job = None
    for number in range(3):
        with serving(sock=_listening(port)) as (server, _):
            port = server.sockets[0].getsockname()[1]
            job = job or Job(client, uri_of(server))
            until(lambda number=number: len(answers) > number)  # type: ignore[misc]
    assert job is not None
    job.result()
    assert answers == ["hello"] * 3


def _listening(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    sock.listen()
    return sock


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"retry": 5}, TypeError, "retry must be a RetryPolicy"),
        ({"retry": POLICY, "on_connected": 5}, TypeError, "on_connected must be callable"),
        ({"on_connected": print}, TypeError, "retry=RetryPolicy"),
        ({"retry": POLICY, "sock": object()}, ValueError, "sock is for one connection"),
        ({"retry": POLICY, "max_redirects": -1}, ValueError, "max_redirects"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        connect("ws://127.0.0.1/", **options)


def test_the_endings_of_a_loop_are_those_of_single_connections(clock: Clock) -> None:
    with script_of(dropping, closing(1000)) as uri:
        first, second = all_rounds(connect(uri, retry=POLICY))
    assert first.ending is not None
    assert first.ending.cause is Cause.RESET
    assert second.ending is not None
    assert second.ending.cause is Cause.CLOSE_HANDSHAKE
