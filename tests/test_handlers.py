"""How handlers end, and how a server is shut down: the same on both adapters."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import Any

import pytest

from adapterhelpers import client_context, expect_log, port_of, request_to, server_context
from aiohelpers import LOOPS
from framebuilder import CLOSE, TEXT, close_payload
from sides import Server, Side, side
from synchelpers import DEADLINE, Raw, until
from wsframe import Cause, Initiator

__all__ = ["side"]


def dial(server: Server, *, secure: bool = False) -> Raw:
    """A bare socket, connected to a server."""
    sock = socket.create_connection(("127.0.0.1", port_of(server)), DEADLINE)
    return Raw(
        client_context().wrap_socket(sock, server_hostname="127.0.0.1") if secure else sock, masks=True
    )


def open_raw(server: Server, *, secure: bool = False) -> Raw:
    """A bare socket after the opening handshake of a client."""
    raw = dial(server, secure=secure)
    raw.send(request_to(server))
    assert raw.head().startswith(b"HTTP/1.1 101 ")
    return raw


def both(function: Any) -> Any:
    """A pair of handlers that do something without waiting."""

    async def on_loop(ws: Any) -> None:
        function(ws)

    return on_loop, function


async def wait_on_loop(ws: Any) -> None:
    await ws.wait_closed()


def wait_in_thread(ws: Any) -> None:
    ws.wait_closed()


WAITING = (wait_on_loop, wait_in_thread)


# Handlers.


def fail(ws: Any) -> None:
    raise ZeroDivisionError("wurst")


@pytest.mark.parametrize("code", [1000, 1011])
def test_how_a_handler_ends_is_how_it_closes(side: Side, code: int) -> None:
    with contextlib.ExitStack() as stack:
        if code == 1011:
            stack.enter_context(expect_log("handler raised"))
        server = side.serve(both(fail if code == 1011 else lambda ws: None))
        with open_raw(server) as raw:
            assert raw.next_frame().payload == close_payload(code)
            raw.send_close(code)
            assert raw.rest() == b""
        ending = server.ending()
        server.close()
    assert (ending.cause, ending.clean, ending.initiator) == (Cause.CLOSE_HANDSHAKE, True, Initiator.LOCAL)
    assert ending.sent is not None
    assert ending.sent.code == code


def test_a_callback_that_fails_is_logged_and_does_no_harm(side: Side) -> None:
    called: list[Any] = []

    def register(ws: Any) -> None:
        ws.add_done_callback(fail)
        ws.add_done_callback(called.append)

    async def on_loop(ws: Any) -> None:
        register(ws)
        await ws.wait_closed()

    def in_thread(ws: Any) -> None:
        register(ws)
        ws.wait_closed()

    if side.name == "sync":
        with expect_log("callback"):
            server = side.serve((on_loop, in_thread))
            open_raw(server).reset()
            until(lambda: called)
            server.close()
    else:
        server = side.serve((on_loop, in_thread))
        open_raw(server).reset()
        until(lambda: called)
        server.close()
        # It is the event loop that is told.
        (told,) = side.failures
        assert "ZeroDivisionError" in told
        side.failures.clear()
    assert called[0].ending.cause is Cause.RESET


def test_a_callback_may_wait_for_a_thread_that_uses_the_connection(side: Side) -> None:
    """No lock is held while it runs."""
    done = threading.Event()
    helped = threading.Event()

    def callback(ws: Any) -> None:
        def help_out() -> None:
            side_state.append(ws.state)
            with contextlib.suppress(Exception):
                ws.abort() if side.name == "sync" else None
            helped.set()

        threading.Thread(target=help_out).start()
        assert helped.wait(DEADLINE)
        done.set()

    side_state: list[Any] = []
    server = side.serve(both(lambda ws: ws.add_done_callback(callback)))
    with open_raw(server) as raw:
        assert raw.next_frame().opcode == CLOSE
        raw.send_close()
        assert raw.rest() == b""
    assert done.wait(DEADLINE)
    assert len(side_state) == 1


@pytest.mark.parametrize("side", LOOPS, indirect=True)
@pytest.mark.parametrize("end", ["reset", "close", "shutdown"])
def test_a_handler_that_does_something_else_is_cancelled_on_request(side: Side, end: str) -> None:
    log: list[str] = []

    async def handler(ws: Any) -> None:
        log.append("begin")
        try:
            await asyncio.sleep(DEADLINE)
        except asyncio.CancelledError:
            log.append(f"cancelled, {ws.ending.cause.name}")
            raise

    server = side.serve((handler, None), handler_cancellation=True)
    with open_raw(server) as raw:
        until(lambda: log)
        if end == "reset":
            raw.reset()
        elif end == "close":
            raw.send_close(1000)
            assert raw.next_frame().opcode == CLOSE
        else:
            closing = side.start(server.server.close)
            assert raw.next_frame().payload == close_payload(1001)
            raw.send_close(1001)
            assert closing.result() == {Cause.CLOSE_HANDSHAKE: 1}
        until(lambda: len(log) == 2)
    assert log[1] == f"cancelled, {'RESET' if end == 'reset' else 'CLOSE_HANDSHAKE'}"


@pytest.mark.parametrize("side", LOOPS, indirect=True)
def test_a_handler_that_reads_is_told_there_and_one_that_has_returned_is_left_alone(side: Side) -> None:
    log: list[str] = []

    async def handler(ws: Any) -> None:
        async for message in ws:
            log.append(message)  # noqa: PERF401
        await asyncio.sleep(0.05)
        log.append("tidied up")

    server = side.serve((handler, None), handler_cancellation=True)
    with open_raw(server) as raw:
        raw.send_frame(TEXT, b"a")
        raw.send_close(1000)
        assert raw.next_frame().opcode == CLOSE
        until(lambda: len(log) == 2)
    assert log == ["a", "tidied up"]


@pytest.mark.parametrize("side", LOOPS, indirect=True)
def test_a_handler_is_not_cancelled_unless_that_is_asked_for(side: Side) -> None:
    log: list[str] = []

    async def handler(ws: Any) -> None:
        ended = asyncio.Event()
        ws.add_done_callback(lambda _: ended.set())
        await ended.wait()
        await asyncio.sleep(0.05)
        log.append("not cancelled")

    server = side.serve((handler, None))
    open_raw(server).reset()
    until(lambda: log)


@pytest.mark.parametrize("side", LOOPS, indirect=True)
def test_who_sends_all_the_time_still_receives(side: Side) -> None:
    """`send` does not wait while the peer keeps up. Others have their turn all the same."""
    done = threading.Event()

    async def handler(ws: Any) -> None:
        async def receive() -> None:
            assert await ws.recv() == "enough"
            done.set()

        task = asyncio.create_task(receive())
        while not done.is_set():
            await ws.send(b"x")
        await task

    server = side.serve((handler, None), ping_interval=None)
    with open_raw(server) as raw:
        raw.take(1000)
        raw.send_frame(TEXT, b"enough")
        while (frame := raw.next_frame()).opcode != CLOSE:
            pass
        assert frame.payload == close_payload(1000)
        raw.send_close()
    assert done.is_set()


# Shutting down.


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_everyone_shares_one_deadline(side: Side, secure: bool) -> None:
    options = {"ssl": server_context()} if secure else {}
    server = side.serve(WAITING, close_timeout=DEADLINE, ping_interval=None, **options)
    with contextlib.ExitStack() as stack:
        mute = [stack.enter_context(open_raw(server, secure=secure)) for _ in range(3)]
        polite = stack.enter_context(open_raw(server, secure=secure))
        # Opening handshakes, one of which is in the middle of TLS where there is that.
        opening = stack.enter_context(dial(server, secure=secure))
        opening.send(request_to(server)[:-2])
        early = stack.enter_context(dial(server))
        early.send(b"\x16\x03\x01" if secure else b"GET / HTTP/1.1\r\n")
        server.wait_for(6)
        began = time.monotonic()
        closing = side.start(server.server.close, 1012, "restart", timeout=1.5)
        assert polite.next_frame().payload == close_payload(1012, b"restart")
        polite.send_close(1012)
        assert polite.rest() == b""
        assert opening.rest().startswith(b"HTTP/1.1 503 ")
        opening.close()
        # They are closed one after the other, and this one shall not have left before.
        with contextlib.suppress(ConnectionError):
            answer = early.rest()
            assert answer == b"" if secure else answer.startswith(b"HTTP/1.1 503 ")
        early.close()
        for raw in mute:
            assert raw.next_frame().payload == close_payload(1012, b"restart")
        counts = closing.result()
        assert 1.5 <= time.monotonic() - began < DEADLINE / 2
        assert counts.pop(Cause.LOCAL_ABORT) == 3
        assert counts.pop(Cause.CLOSE_HANDSHAKE) == 1
        assert counts == {Cause.REJECTED: 2}
    assert len(server.endings) == 6


def test_who_is_not_in_time_by_its_own_deadline_says_so(side: Side) -> None:
    server = side.serve(WAITING, close_timeout=0.3, ping_interval=None)
    with open_raw(server), open_raw(server):
        server.wait_for(2)
        assert server.close() == {Cause.CLOSE_TIMEOUT: 2}


def test_a_shutdown_in_no_time(side: Side) -> None:
    server = side.serve(WAITING, ping_interval=None)
    with open_raw(server) as raw:
        server.wait_for(1)
        assert server.close(timeout=0) == {Cause.LOCAL_ABORT: 1}
        # The Close has left all the same.
        assert raw.next_frame().payload == close_payload(1001)
    assert server.close(timeout=5) == {Cause.LOCAL_ABORT: 1}
