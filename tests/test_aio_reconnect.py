"""``async for ws in connect(...)``: in virtual time, where it is about when; over sockets, where it is about what.

In virtual time "chance" is always a half, unless a test says otherwise: delays are 2.5, 5, 10, 20, 30, 30 ... seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import itertools
import logging
import os
import socket
import sys
import time
import warnings
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.server

from aiohelpers import Listener, aio_test, client_context, echo, port_of, server_context, until, uri_of
from connectrows import CODES_AGAIN, CODES_STOP, STATUSES_STOP
from wsframe import Cause, Disconnected, ResponseReceived, State
from wsframe.aio import (
    Application,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    ConnectLost,
    HandshakeInvalid,
    HandshakeRejected,
    RetryPolicy,
    WebSocket,
    _reconnect,
    connect,
    serve,
)
from wsframe.testing import CancelAt, Peer, PeerListener, VirtualClockLoop, listen, run, sweep

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from aiohttp import web

ROOT = Path(__file__).resolve().parents[1]

URI = "ws://a.example/"

#: For tests in real time.
QUICK = RetryPolicy(initial=0.01, maximum=0.05, stable_after=3600)


@pytest.fixture(autouse=True)
def chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_reconnect, "_random", lambda: 0.5)


def virtual_test(function: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """A test in virtual time, which must leave no task, timer or transport, and log nothing above DEBUG."""

    def test(caplog: pytest.LogCaptureFixture, **arguments: Any) -> None:
        failures: list[str] = []

        async def main() -> None:
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: failures.append(repr(context))
            )
            await function(**arguments)
            await look_around(failures)

        run(main(), timeout=10_000)
        failures.extend(record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG)
        assert not failures, "\n".join(failures)

    functools.update_wrapper(test, function)
    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(function).parameters.values()
    ]
    caplog = inspect.Parameter("caplog", inspect.Parameter.KEYWORD_ONLY)
    test.__signature__ = inspect.Signature([caplog, *parameters])  # type: ignore[attr-defined]
    return test


async def look_around(failures: list[str]) -> None:
    """What there is after everything that was begun has had its time."""
    loop = now_loop()
    await asyncio.sleep(100)
    failures += [f"a task is left: {task!r}" for task in asyncio.all_tasks() - {asyncio.current_task()}]
    failures += [f"a timer is left: {timer!r}" for timer in loop.timers]
    failures += [f"a transport is left: {transport!r}" for transport in loop.network.transports]


def now_loop() -> VirtualClockLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return loop


def now() -> float:
    return asyncio.get_running_loop().time()


async def scripted(
    listener: PeerListener, *scripts: Callable[[Peer], Coroutine[Any, Any, None]]
) -> list[float]:
    """Serve one connection after the other with these; return when each came."""
    times = []
    for script in scripts:
        # Its `accept` is not patient enough.
        peer = await listener._accepted.get()
        times.append(now())
        await script(peer)
        await peer.close()
    return times


def answering(status: int, *headers: str) -> Callable[[Peer], Coroutine[Any, Any, None]]:
    async def script(peer: Peer) -> None:
        await peer.expect_head()
        await peer.send("\r\n".join([f"HTTP/1.1 {status} X", "Content-Length: 0", *headers, "\r\n"]).encode())

    return script


def closing(code: int | None, after: float = 0.0) -> Callable[[Peer], Coroutine[Any, Any, None]]:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await asyncio.sleep(after)
        await peer.send_close(code)
        await peer.expect_close()

    return script


def dropping(after: float = 0.0) -> Callable[[Peer], Coroutine[Any, Any, None]]:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await asyncio.sleep(after)
        peer.reset()

    return script


@contextlib.asynccontextmanager
async def script_of(
    *scripts: Callable[[Peer], Coroutine[Any, Any, None]],
) -> AsyncIterator[asyncio.Task[list[float]]]:
    """A server at `URI`, and when its connections come."""
    async with listen("a.example", 80) as listener:
        task = asyncio.create_task(scripted(listener, *scripts))
        try:
            yield task
            await task
        finally:
            task.cancel()


async def to_the_end(ws: WebSocket) -> None:
    """What most blocks do."""
    with contextlib.suppress(ConnectionClosed):
        async for _ in ws:
            pass


async def greet(ws: WebSocket) -> None:
    """Be somebody's `on_connected`."""
    await ws.send("hello")


async def first_of(link: AsyncIterable[WebSocket]) -> WebSocket:
    """Leave the loop at once."""
    async for ws in link:
        return ws
    raise AssertionError


async def all_rounds(link: connect) -> list[WebSocket]:
    """Do that with every connection."""
    seen = []
    async for ws in link:
        seen.append(ws)
        await to_the_end(ws)
    return seen


def gaps(times: list[float]) -> list[float]:
    """Seconds between one and the next."""
    return [after - before for before, after in itertools.pairwise(times)]


# When.


@virtual_test
async def test_nobody_listens() -> None:
    link = connect("ws://nobody.example/", retry=RetryPolicy(max_attempts=6))
    with pytest.raises(ConnectLost) as caught:
        await all_rounds(link)
    assert now() == 2.5 + 5 + 10 + 20 + 30
    assert link.attempts == 6
    assert caught.value.__notes__ == ["given up: that was attempt 6 in a row (max_attempts)"]
    assert link.last_ending is caught.value.ending


@virtual_test
async def test_seconds_are_limited() -> None:
    link = connect("ws://nobody.example/", retry=RetryPolicy(max_seconds=20))
    with pytest.raises(ConnectLost) as caught:
        await all_rounds(link)
    assert now() == 17.5
    assert "max_seconds (20)" in caught.value.__notes__[0]


@virtual_test
async def test_delays_begin_anew_after_a_stable_connection() -> None:
    lasts = [0, 1, 59, 61, 1, 3600]
    scripts = [dropping(after) for after in lasts]
    seen, endings, attempts = [], [], []
    async with script_of(*scripts, closing(1000)) as arrivals:
        async for ws in (link := connect(URI, ping_interval=None)):
            seen.append(ws)
            endings.append(link.last_ending)
            attempts.append(link.attempts)
            await to_the_end(ws)
    waits = [gap - last for gap, last in zip(gaps(await arrivals), lasts, strict=True)]
    assert waits == pytest.approx([2.5, 5, 10, 2.5, 5, 2.5])
    assert attempts == [1, 2, 3, 4, 1, 2, 1]
    # Each a new one, and the ending of the one before it is known.
    assert len(set(seen)) == len(lasts) + 1
    assert endings == [None, *(ws.ending for ws in seen[:-1])]
    assert link.last_ending is seen[-1].ending


@virtual_test
async def test_a_server_that_is_busy_says_when() -> None:
    scripts = [
        answering(503, "Retry-After: 120"),
        answering(429, "Retry-After: 100000"),
        answering(500, "Retry-After: Thu, 01 Jan 1970 00:00:10 GMT"),
        answering(408),
        closing(1000),
    ]
    async with script_of(*scripts) as arrivals:
        async for ws in (link := connect(URI)):
            assert link.attempts == 5
            await to_the_end(ws)
    assert gaps(await arrivals) == pytest.approx([122.5, 305, 10, 20])


@virtual_test
async def test_a_date_in_a_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 784111777.0)
    scripts = [answering(503, "Retry-After: Sun, 06 Nov 1994 08:50:37 GMT"), closing(1000)]
    async with script_of(*scripts) as arrivals:
        await all_rounds(connect(URI))
    assert gaps(await arrivals) == pytest.approx([62.5])


@virtual_test
async def test_a_restart_takes_5_to_30_seconds() -> None:
    async with script_of(closing(1012), closing(1000)) as arrivals:
        await all_rounds(connect(URI))
    assert gaps(await arrivals) == pytest.approx([17.5])


@virtual_test
async def test_the_last_try_waits_no_longer_than_open_timeout() -> None:
    async def silent(peer: Peer) -> None:
        await peer.expect_head()
        await peer.expect_eof()

    async with script_of(silent, closing(1000)) as arrivals:
        await all_rounds(connect(URI, open_timeout=7))
    assert gaps(await arrivals) == pytest.approx([9.5])


# What ends the loop, and how.


@pytest.mark.parametrize("code", CODES_AGAIN)
@virtual_test
async def test_codes_after_which_it_connects_again(code: int | None) -> None:
    rounds = 0
    async with script_of(closing(code), closing(1000)):
        async for ws in connect(URI):
            rounds += 1
            await to_the_end(ws)
    assert rounds == 2


@pytest.mark.parametrize("code", CODES_STOP)
@virtual_test
async def test_codes_after_which_it_stops(code: int) -> None:
    async with script_of(closing(code)):
        link = connect(URI)
        with pytest.raises(ConnectionClosedError) as caught:
            await all_rounds(link)
    assert caught.value.code == code
    assert caught.value.ending is link.last_ending
    assert caught.value.__notes__[0].startswith("not retried: ")


@virtual_test
async def test_1000_stops_quietly_unless_asked() -> None:
    async with script_of(closing(1000)):
        await all_rounds(connect(URI))
    async with script_of(closing(1000), closing(1000), closing(1008)):
        link = connect(URI, retry=RetryPolicy(on_ok=True))
        with pytest.raises(ConnectionClosedError):
            await all_rounds(link)
    assert link.attempts == 3


@pytest.mark.parametrize("status", STATUSES_STOP)
@virtual_test
async def test_answers_after_which_it_stops(status: int) -> None:
    async with script_of(answering(status)):
        with pytest.raises(HandshakeRejected) as caught:
            await all_rounds(connect(URI))
    assert caught.value.status == status
    assert caught.value.__notes__[0].startswith("not retried: the ")


@virtual_test
async def test_what_is_no_websocket_server() -> None:
    async def say(peer: Peer) -> None:
        await peer.send(b"220 mail.example ESMTP\r\n")

    async with script_of(say):
        with pytest.raises(HandshakeInvalid):
            await all_rounds(connect(URI))


@virtual_test
async def test_a_message_that_is_too_big_would_be_again() -> None:
    async def big(peer: Peer) -> None:
        await peer.accept()
        await peer.send_frame("x" * 2000)
        await peer.expect_close(1009)

    async with script_of(big):
        with pytest.raises(ConnectionClosedError) as caught:
            await all_rounds(connect(URI, max_message_size=1000))
    assert caught.value.ending.cause is Cause.TOO_BIG


@virtual_test
async def test_giving_up_after_a_good_end_is_not_quiet() -> None:
    async with script_of(closing(1001)):
        with pytest.raises(ConnectionClosedOK) as caught:
            await all_rounds(connect(URI, retry=RetryPolicy(max_attempts=1)))
    assert "max_attempts" in caught.value.__notes__[0]


@virtual_test
async def test_decide_hears_everything() -> None:
    heard: list[tuple[Disconnected, ResponseReceived | None]] = []

    def decide(ending: Disconnected, response: ResponseReceived | None) -> bool | float | None:
        heard.append((ending, response))
        if response is not None:
            return 3.0
        return False if ending.code == 4001 else None

    async with script_of(answering(404, "X-Thing: 1"), dropping(), closing(4001)) as arrivals:
        with pytest.raises(ConnectionClosedError):
            await all_rounds(connect(URI, retry=RetryPolicy(decide=decide)))
    assert gaps(await arrivals)[0] == 3
    assert [response is None for _, response in heard] == [False, True, True]
    response = heard[0][1]
    assert response is not None
    assert (response.status, response.headers["X-Thing"]) == (404, "1")


@virtual_test
async def test_an_exception_of_decide_comes_out() -> None:
    def decide(*_: object) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await all_rounds(connect("ws://nobody.example/", retry=RetryPolicy(decide=decide)))


@virtual_test
async def test_nothing_comes_after_the_end() -> None:
    iterator = aiter(connect("ws://nobody.example/", retry=RetryPolicy(max_attempts=1)))
    with pytest.raises(ConnectLost):
        await anext(iterator)
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)
    assert aiter(iterator) is iterator


# The block.


async def wait_for_close(codes: list[int | None]) -> Any:
    """A server at `URI` that notes how its connections were closed."""

    async def handler(ws: WebSocket) -> None:
        await ws.wait_closed()
        codes.append(ws.close_code)

    return serve(handler, "a.example", 80)


@virtual_test
async def test_a_block_that_ends_while_it_is_open_gets_the_next_one() -> None:
    codes: list[int | None] = []
    seen: list[WebSocket] = []
    async with await wait_for_close(codes):
        async for ws in connect(URI):
            # The one before has ended, not only begun to.
            assert [before.ending is not None for before in seen] == [True] * len(seen)
            seen.append(ws)
            if len(seen) == 3:
                break
    assert codes == [1000] * 3
    assert now() == pytest.approx(7.5)


@virtual_test
async def test_closing_it_in_the_block_ends_the_loop() -> None:
    codes: list[int | None] = []
    async with await wait_for_close(codes):
        async for ws in connect(URI):
            await ws.close()
    assert codes == [1000]


@virtual_test
async def test_break_begins_to_close() -> None:
    codes: list[int | None] = []
    states = []
    async with await wait_for_close(codes):
        async for ws in connect(URI):
            if ws.request.target == "/":
                break
        states.append(ws.state)
        await asyncio.sleep(0)
        states.append(ws.state)
        assert states == [State.OPEN, State.CLOSING]
        assert (await ws.wait_closed()).clean
    assert codes == [1000]


@virtual_test
async def test_leaving_with_the_link_in_hand_is_the_same() -> None:
    codes: list[int | None] = []
    async with await wait_for_close(codes):
        link = connect(URI)
        ws = await first_of(link)
        assert (await ws.wait_closed()).clean
        assert link.last_ending is None
        # And it can be used again.
        ws = await first_of(link)
        assert link.attempts == 1
        assert (await ws.wait_closed()).clean
    assert codes == [1000, 1000]


@virtual_test
async def test_an_exception_and_a_return_begin_to_close() -> None:
    codes: list[int | None] = []
    kept: list[WebSocket] = []

    async def raising() -> None:
        async for ws in connect(URI):
            kept.append(ws)
            raise ZeroDivisionError

    async with await wait_for_close(codes):
        kept.append(await first_of(connect(URI)))
        with pytest.raises(ZeroDivisionError):
            await raising()
        for ws in kept:
            assert (await ws.wait_closed()).clean
    assert codes == [1000, 1000]


@virtual_test
async def test_with_the_connection_as_a_block_it_says_why_and_waits() -> None:
    codes: list[int | None] = []

    async def leave(how: str) -> WebSocket:
        async for ws in connect(URI):
            try:
                async with ws:
                    if how == "raise":
                        raise ZeroDivisionError
                    if how == "wait":
                        await asyncio.sleep(3600)
                    break
            finally:
                assert ws.ending is not None
        return ws

    async with await wait_for_close(codes):
        await leave("break")
        with pytest.raises(ZeroDivisionError):
            await leave("raise")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(leave("wait"), 10)
    assert codes == [1000, 1011, 1001]


@virtual_test
async def test_aclose_closes() -> None:
    codes: list[int | None] = []
    async with await wait_for_close(codes):
        async with contextlib.aclosing(aiter(connect(URI))) as connections:
            ws = await first_of(connections)
            assert ws.state is State.OPEN
        assert ws.ending is not None
        assert [ws async for ws in connections] == []
        await connections.aclose()
    assert codes == [1000]


@virtual_test
async def test_the_exception_of_a_lost_connection_may_come_out_of_the_block() -> None:
    async def careless() -> None:
        async for ws in connect(URI):
            await ws.recv()

    async with script_of(dropping()):
        with pytest.raises(ConnectionClosedError):
            await careless()


@virtual_test
async def test_an_application_is_called_for_all_of_them() -> None:
    calls: list[str] = []

    class Noting(Application):
        def on_open(self, ws: WebSocket) -> None:
            calls.append("open")

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            calls.append(str(message))

        def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
            calls.append(f"close {ending.code}")

    async def talk(peer: Peer) -> None:
        await peer.accept()
        await peer.send_frame("hello")
        peer.send_eof()
        await peer.expect_eof()

    async with script_of(talk, closing(1000)):
        async for ws in connect(URI, application=Noting()):
            await ws.wait_closed()
    assert calls == ["open", "hello", "close 1006", "open", "close 1000"]


@virtual_test
async def test_messages_that_came_before_the_end_are_read() -> None:
    async def talk(peer: Peer) -> None:
        await peer.accept()
        for message in ("one", "two"):
            await peer.send_frame(message)
        await peer.send_close(1001)
        await peer.expect_close()

    messages = []
    async with script_of(talk, talk, closing(1000)):
        async for ws in connect(URI):
            await asyncio.sleep(1)
            messages += [message async for message in ws]
    assert messages == ["one", "two"] * 2


# on_connected.


@pytest.mark.parametrize("kind", ["function", "coroutine function"])
@virtual_test
async def test_on_connected_comes_before_the_block(kind: str) -> None:
    story: list[tuple[str, int]] = []
    seen: list[WebSocket] = []

    def number(ws: WebSocket) -> int:
        if ws not in seen:
            seen.append(ws)
        return seen.index(ws)

    def subscribe(ws: WebSocket) -> None:
        story.append(("hook", number(ws)))
        ws.send_nowait("subscribe")

    async def subscribe_slowly(ws: WebSocket) -> None:
        await ws.send("subscribe")
        await asyncio.sleep(1)
        story.append(("hook", number(ws)))

    async def expecting(peer: Peer) -> None:
        await peer.accept()
        await peer.expect_frame("subscribe")
        await asyncio.sleep(5)
        peer.reset()

    async def client() -> None:
        async for ws in connect(URI, on_connected=subscribe if kind == "function" else subscribe_slowly):
            story.append(("block", number(ws)))
            await to_the_end(ws)

    async with script_of(expecting, expecting, answering(503), expecting, answering(403)):
        with pytest.raises(HandshakeRejected):
            await client()
    assert story == [(who, number) for number in range(3) for who in ("hook", "block")]


@virtual_test
async def test_a_connection_that_is_lost_in_on_connected_is_a_lost_connection() -> None:
    async def ask(ws: WebSocket) -> None:
        await ws.send("who am I?")
        await ws.recv()

    rounds = 0
    async with script_of(dropping(1), closing(1001), dropping(), closing(1000)) as arrivals:
        async for _ in (link := connect(URI, on_connected=ask)):
            rounds += 1
    assert rounds == 0
    assert link.last_ending is not None
    assert link.last_ending.code == 1000
    assert gaps(await arrivals) == pytest.approx([3.5, 5, 10])
    async with script_of(closing(1008)):
        with pytest.raises(ConnectionClosedError) as caught:
            await all_rounds(connect(URI, on_connected=ask))
    assert caught.value.__notes__
    assert caught.value.__context__ is None


@virtual_test
async def test_an_exception_of_on_connected_closes_and_comes_out() -> None:
    codes: list[int | None] = []

    async def broken(ws: WebSocket) -> None:
        raise ZeroDivisionError

    def broken_too(ws: WebSocket) -> None:
        raise ZeroDivisionError

    async def other_connection(ws: WebSocket) -> None:
        # That of another connection is no news of this one.
        async with connect(URI) as other:
            await other.close(4000)
            await other.recv()

    async with await wait_for_close(codes):
        for hook in (broken, broken_too):
            iterator = aiter(connect(URI, on_connected=hook))
            with pytest.raises(ZeroDivisionError):
                await anext(iterator)
            with pytest.raises(StopAsyncIteration):
                await anext(iterator)
        with pytest.raises(ConnectionClosedError):
            await anext(aiter(connect(URI, on_connected=other_connection)))
    assert codes == [1011, 1011, 4000, 1000]


# Cancelling, and more than one.


@virtual_test
async def test_a_wait_that_is_cancelled_goes_on() -> None:
    async with script_of(dropping(), closing(1000)) as arrivals:
        iterator = aiter(connect(URI))
        await to_the_end(await anext(iterator))
        lost_at = now()
        for _ in range(4):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(iterator), 0.5)
            assert now_loop().timers == []
        ws = await anext(iterator)
        assert now() == lost_at + 2.5
        await to_the_end(ws)
    assert (await arrivals)[1] == pytest.approx(lost_at + 2.5)


@virtual_test
async def test_one_at_a_time() -> None:
    iterator = aiter(connect("ws://nobody.example/", retry=RetryPolicy(max_attempts=2)))
    first = asyncio.ensure_future(anext(iterator))
    await asyncio.sleep(1)
    with pytest.raises(RuntimeError, match="another task waits for the next connection"):
        await anext(iterator)
    with pytest.raises(ConnectLost):
        await first


def cancellations() -> Iterator[CancelAt]:
    """At every point, at the beginning and at the end of a wait."""
    for when in ("wait", "wake"):
        yield from sweep(lambda n, when=when: CancelAt(n, when))  # type: ignore[misc]


def test_cancelling_anywhere_leaves_nothing() -> None:
    points = 0
    for cancel in cancellations():
        problems: list[str] = []
        endings: list[Disconnected] = []

        async def client() -> None:
            async def ask(ws: WebSocket) -> None:
                await ws.send("who am I?")
                assert await ws.recv() == "who am I?"

            rounds = 0
            async for ws in connect(URI, on_connected=ask):
                rounds += 1
                if rounds == 4:
                    async with ws:
                        await ws.send("bye")
                        break
                elif rounds == 3:
                    # Left open.
                    continue
                await ws.send("drop")
                await to_the_end(ws)

        async def handler(ws: WebSocket) -> None:
            async for message in ws:
                if message == "drop":
                    ws.abort()
                await ws.send(message)

        async def main(cancel: CancelAt, problems: list[str], endings: list[Disconnected]) -> None:
            asyncio.get_running_loop().set_exception_handler(
                lambda _, context: problems.append(repr(context))
            )
            server = await serve(handler, "a.example", 80, on_end=lambda *what: endings.append(what[-1]))
            task = asyncio.ensure_future(cancel(client()))
            await asyncio.wait([task])
            assert task.cancelled() is cancel.fired, task
            if not cancel.fired:
                task.result()
            # Without the server being closed.
            await look_around(problems)
            await server.close()

        run(main(cancel, problems, endings))
        assert not problems, f"{cancel.waits} waits: {problems}"
        if not cancel.fired:
            assert len(endings) == 4
        points += cancel.fired
    assert points > 40


# What is made for each.


@virtual_test
async def test_arguments_last_for_several_requests() -> None:
    heads: list[bytes] = []

    async def reading(peer: Peer) -> None:
        heads.append(await peer.expect_head())
        peer.reset()

    headers = iter([("X-Thing", "1")])
    with pytest.raises(ConnectLost):
        async with script_of(reading, reading, reading):
            await all_rounds(
                connect(URI, headers=headers, subprotocols=["a"], retry=RetryPolicy(max_attempts=3))
            )
    keys = set()
    for head in heads:
        assert b"\r\nX-Thing: 1\r\n" in head
        assert b"\r\nSec-WebSocket-Protocol: a\r\n" in head
        keys.add(head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0])
    assert len(keys) == 3


@virtual_test
async def test_what_is_for_one_and_what_is_for_many() -> None:
    both: list[Any] = [{"retry": RetryPolicy()}, {"on_connected": print}]
    for options in both:
        with pytest.raises(TypeError, match="retry and on_connected are for 'async for"):
            await connect(URI, **options)
        with pytest.raises(TypeError, match="retry and on_connected are for 'async for"):
            async with connect(URI, **options):
                pass
    one, other = socket.socketpair()
    with one, other, pytest.raises(ValueError, match="sock is for one connection"):
        async for _ in connect(URI, sock=one):
            pass
    with pytest.raises(TypeError, match="retry must be a RetryPolicy"):
        connect(URI, retry=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_connected must be callable"):
        connect(URI, on_connected="x")  # type: ignore[arg-type]


@virtual_test
async def test_nothing_is_kept_of_what_is_over() -> None:
    gc.collect()
    gc.disable()
    try:
        kept: list[weakref.ref[Any]] = []

        async def rounds() -> None:
            async for ws in connect(URI):
                await to_the_end(ws)
                # The one before it.
                assert [reference() for reference in kept] == [None] * len(kept)
                kept.append(weakref.ref(ws))

        async with script_of(*[dropping()] * 3, closing(1008)):
            with pytest.raises(ConnectionClosedError):
                await rounds()
        iterator = aiter(connect("ws://nobody.example/", retry=RetryPolicy(max_attempts=2)))
        kept.append(weakref.ref(iterator))
        with contextlib.suppress(ConnectLost):
            await anext(iterator)
        del iterator
        assert [reference() for reference in kept] == [None] * 5
    finally:
        gc.enable()


def test_every_delay_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with script_of(answering(503), dropping(), closing(1008)):
            with contextlib.suppress(ConnectionClosedError):
                await all_rounds(connect(URI))

    with caplog.at_level(logging.DEBUG, "wsframe"):
        run(main())
    lines = [record.getMessage() for record in caplog.records if "again" in record.getMessage()]
    assert [line.partition(": ")[0] for line in lines] == [
        "connecting again in 2.5 s (the server has a problem, which may pass)",
        "connecting again in 5.0 s (the server, or the way to it, went away)",
        "not connecting again (not retried",
    ]
    assert all(record.levelno == logging.DEBUG for record in caplog.records)


def test_dropped_in_a_cycle_or_after_the_loop_it_does_no_harm() -> None:
    class NeverEnded:
        ending = None
        start_closing = None

    async def main() -> None:
        async with serve(echo, "a.example", 80):
            iterator = aiter(connect(URI))
            ws = await anext(iterator)
            cycle: list[Any] = [iterator]
            cycle.append(cycle)
            del iterator, cycle
            gc.collect()
            assert (await ws.wait_closed()).clean
        iterator = aiter(connect(URI))
        iterator._websocket = NeverEnded()  # type: ignore[assignment]
        kept.append(iterator)

    kept: list[Any] = []
    run(main())
    # The loop is closed.
    kept.clear()
    gc.collect()


# Over sockets, on asyncio and uvloop.


def longer(items: list[Any], count: int) -> bool:
    return len(items) > count


@aio_test
async def test_a_server_of_ours_that_is_restarted() -> None:
    port = 0
    answers: list[str | bytes] = []
    endings: list[Disconnected] = []

    async def client(uri: str) -> None:
        async for ws in (link := connect(uri, retry=QUICK, on_connected=greet)):
            if link.last_ending is not None:
                endings.append(link.last_ending)
            with contextlib.suppress(ConnectionClosed):
                # One by one: those before the end are not lost with it.
                async for message in ws:
                    answers.append(message)  # noqa: PERF401

    task = None
    for round_ in range(3):
        async with serve(echo, "127.0.0.1", port) as server:
            port = port_of(server)
            task = task or asyncio.create_task(client(uri_of(server)))
            await until(functools.partial(longer, answers, round_))
            if round_ == 2:
                await server.close(code=1000)
        # Now and then nobody listens.
        await asyncio.sleep(0.05)
    assert task is not None
    await task
    assert answers == ["hello"] * 3
    assert all(ending.code in (1001, 1006) for ending in endings)


@aio_test
async def test_a_server_that_comes_later_and_leaves_without_a_word() -> None:
    with Listener() as placeholder:
        port = placeholder.port
    messages: list[str | bytes] = []

    async def client() -> None:
        async for ws in connect(f"ws://127.0.0.1:{port}/", retry=QUICK):
            with contextlib.suppress(ConnectionClosed):
                async for message in ws:
                    messages.append(message)  # noqa: PERF401

    async def leaving(ws: WebSocket) -> None:
        await ws.send("x")
        await ws.drain()
        ws.abort()

    async def polite(ws: WebSocket) -> None:
        await ws.send("bye")

    task = asyncio.create_task(client())
    await asyncio.sleep(0.1)
    async with serve(leaving, "127.0.0.1", port):
        await until(lambda: len(messages) > 2)
    count = len(messages)
    async with serve(polite, "127.0.0.1", port):
        await task
    assert messages[-1] == "bye"
    assert messages[:count] == ["x"] * count


@aio_test
async def test_bare_answers() -> None:
    answers = [b"503 Busy\r\nRetry-After: 0", b"429 Slow\r\nRetry-After: x", b"500 No", b"401 Who?"]
    with Listener() as listener:

        async def serving() -> None:
            for answer in answers:
                with await listener.accept() as raw:
                    await raw.head()
                    await raw.send(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % answer)
                    await raw.rest()

        task = asyncio.create_task(serving())
        with pytest.raises(HandshakeRejected) as caught:
            await all_rounds(link := connect(listener.uri, retry=QUICK))
        await task
    assert caught.value.status == 401
    assert link.attempts == 4


@aio_test
async def test_a_certificate_that_will_not_get_better() -> None:
    async with serve(echo, "127.0.0.1", 0, ssl=server_context("elsewhere.example")) as server:
        uri = uri_of(server).replace("ws:", "wss:")
        for context in (client_context(), None):
            link = connect(uri, ssl=context, retry=QUICK)
            with pytest.raises(ConnectLost) as caught:
                await all_rounds(link)
            assert link.attempts == 1
            assert caught.value.__notes__ == ["not retried: a certificate was not accepted"]


@aio_test
async def test_a_tls_server_that_stumbles_in_its_handshake() -> None:
    with Listener() as listener:

        async def serving() -> None:
            for _ in range(2):
                with await listener.accept() as raw:
                    await raw.receive()

        task = asyncio.create_task(serving())
        link = connect(
            listener.uri.replace("ws:", "wss:"),
            ssl=client_context(),
            retry=RetryPolicy(initial=0.01, maximum=0.01, max_attempts=2),
        )
        with pytest.raises(ConnectLost):
            await all_rounds(link)
        await task
        assert link.attempts == 2


@aio_test
async def test_cancelled_while_it_waits_and_while_it_connects() -> None:
    with Listener() as listener:

        async def client(uri: str) -> None:
            await all_rounds(connect(uri))

        connecting = asyncio.create_task(client(listener.uri))
        with await listener.accept() as raw:
            await raw.head()
            connecting.cancel()
            assert not await raw.rest()
        await asyncio.wait([connecting])
        assert connecting.cancelled()
        uri = listener.uri
    waiting = asyncio.create_task(client(uri))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


@pytest.mark.peer
@aio_test
async def test_websockets_server_that_is_restarted() -> None:
    async def handler(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    @contextlib.asynccontextmanager
    async def serving(port: int) -> AsyncIterator[int]:
        async with websockets.asyncio.server.serve(handler, "127.0.0.1", port) as server:
            yield port_of(server)

    # It says 1001.
    await restarted(serving)


@pytest.mark.peer
@aio_test
async def test_aiohttp_server_that_is_restarted() -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        try:
            async for message in ws:
                await ws.send_str(message.data)
        finally:
            await ws.close(code=1012)
        return ws

    @contextlib.asynccontextmanager
    async def serving(port: int) -> AsyncIterator[int]:
        app = web.Application()
        app.router.add_get("/", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        try:
            assert site._server is not None
            yield port_of(site._server)
        finally:
            await runner.cleanup()

    await restarted(serving)


async def restarted(serving: Callable[[int], contextlib.AbstractAsyncContextManager[int]]) -> None:
    """Talk to somebody's server while it is restarted twice."""
    answers: list[str | bytes] = []
    port = 0
    task = None
    decided: list[Disconnected] = []

    def decide(ending: Disconnected, _: object) -> float:
        decided.append(ending)
        return 0.01

    async def client(uri: str) -> None:
        async for ws in connect(uri, retry=RetryPolicy(decide=decide), on_connected=greet):
            with contextlib.suppress(ConnectionClosed):
                async for message in ws:
                    answers.append(message)
                    if len(answers) == 3:
                        return

    for round_ in range(3):
        async with serving(port) as port:
            task = task or asyncio.create_task(client(f"ws://127.0.0.1:{port}/"))
            await until(functools.partial(longer, answers, round_))
    assert task is not None
    await task
    assert answers == ["hello"] * 3
    assert len([ending for ending in decided if ending.was_websocket]) == 2


# The example.


@pytest.mark.skipif(os.name == "nt", reason="it is ended by a signal")
@aio_test
async def test_the_example() -> None:
    port = 0
    process = None
    said: list[str | bytes] = []

    async def handler(ws: WebSocket) -> None:
        async for message in ws:
            said.append(message)
            await ws.send(f"you have {message!s}")

    for round_ in range(2):
        async with serve(handler, "127.0.0.1", port) as server:
            port = port_of(server)
            process = process or await asyncio.create_subprocess_exec(
                sys.executable,
                str(ROOT / "examples" / "reconnecting_client.py"),
                uri_of(server),
                "news",
                "weather",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            await until(functools.partial(longer, said, 1 + 2 * round_))
            if round_ == 1:
                await server.close(code=1000)
    assert process is not None
    output, errors = await process.communicate()
    assert said == ["subscribe news", "subscribe weather"] * 2
    text = output.decode()
    assert text.count("you have subscribe news") == 2, text
    assert "connected (attempt 1)" in text
    assert errors == b""
    assert process.returncode == 0
