"""Keepalive over real sockets: who is there survives a program that stood still, and who has vanished is noticed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aiohelpers import LOOPS
from framebuilder import CLOSE, PING, PONG, TEXT
from sides import Side, side
from synchelpers import DEADLINE, Job, Listener, Raw, until
from wsframe import Cause

__all__ = ["side"]

INTERVAL = 0.1
TIMEOUT = 1.0

KEEPALIVES: dict[str, dict[str, Any]] = {
    "silence": {"ping_interval": INTERVAL, "ping_timeout": TIMEOUT},
    "heartbeat": {"heartbeat": TIMEOUT},
}

keepalives = pytest.mark.parametrize("keepalive", KEEPALIVES)


@contextlib.contextmanager
def opened(side: Side, **options: Any) -> Iterator[tuple[Any, Raw]]:
    """A client of ours and the bare socket that serves it."""
    with Listener() as listener:
        connecting = side.start(lambda: side.module.connect(listener.uri, **options))
        with listener.accept() as raw:
            raw.accept_websocket()
            ws = connecting.result()
            try:
                yield ws, raw
            finally:
                side.do(ws.abort)
                side.do(ws.wait_closed)


class Live:
    """A peer that echoes, and answers pings: all of them, but it can be asked to wait with the next one."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.answer.set()

    def wait_with_the_next(self) -> None:
        self.asked.clear()
        self.answer.clear()

    def run(self) -> None:
        raw = self._raw
        while (frame := raw.next_frame()).opcode != CLOSE:
            if frame.opcode == PING:
                self.asked.set()
                assert self.answer.wait(DEADLINE)
                raw.send_frame(PONG, frame.payload)
            else:
                raw.send_frame(frame.opcode, frame.payload)
        raw.send_close()
        raw.shutdown()


@keepalives
def test_a_program_that_stands_still_does_not_lose_a_live_peer(side: Side, keepalive: str) -> None:
    with opened(side, **KEEPALIVES[keepalive]) as (ws, raw):
        peer = Live(raw)
        running = Job(peer.run)
        peer.wait_with_the_next()
        while not peer.asked.wait(0.001):
            if side.name == "sync":
                with contextlib.suppress(TimeoutError):
                    ws.recv(0.02)
        # The answer comes while nobody looks, and the deadline, too.
        standing = Job(side.block, 2 * TIMEOUT)
        time.sleep(0.05)
        peer.answer.set()
        standing.result()
        side.do(ws.send, "still there")
        assert side.do(ws.recv) == "still there"
        assert not ws.ending
        side.do(ws.close)
        running.result()
        assert ws.ending.clean


def vanish(side: Side, keepalive: str, wait: Callable[[Any], object]) -> None:
    """Let the peer say nothing more, and see that this is noticed in interval + timeout + a second."""
    options = KEEPALIVES[keepalive]
    bound = sum(options.values()) + (TIMEOUT if keepalive == "heartbeat" else 0) + 1
    taken = DEADLINE
    # It may be the machine that has stood still, but not every time.
    for _ in range(3):
        with opened(side, **options) as (ws, raw):
            raw.send_frame(TEXT, b"the last")
            assert side.do(ws.recv) == "the last"
            began = time.monotonic()
            wait(ws)
            taken = time.monotonic() - began
            assert ws.ending.cause is Cause.PING_TIMEOUT
            assert ws.close_code == 1006
            # It has been told, should it still be there.
            assert [raw.next_frame().opcode for _ in range(2)] == [PING, CLOSE]
        if taken < bound:
            break
    assert taken < bound


@keepalives
def test_a_peer_that_has_vanished_is_noticed(side: Side, keepalive: str) -> None:
    def wait(ws: Any) -> None:
        with pytest.raises(side.module.ConnectionClosedError):
            side.do(ws.recv)

    vanish(side, keepalive, wait)


@keepalives
@pytest.mark.parametrize("side", LOOPS, indirect=True)
def test_a_peer_that_has_vanished_is_noticed_where_nobody_waits(side: Side, keepalive: str) -> None:
    def look(ws: Any) -> None:
        until(lambda: ws.ending)

    vanish(side, keepalive, look)


def test_a_heartbeat_is_not_stilled_by_talk(side: Side) -> None:
    with opened(side, heartbeat=0.2) as (ws, raw):

        def talk() -> int:
            count = 0
            with contextlib.suppress(ConnectionError):
                while ws.ending is None:
                    raw.send_frame(TEXT, b"blah")
                    count += 1
                    time.sleep(0.01)
            return count

        def listen() -> None:
            while True:
                ws.recv()

        async def listen_on_loop() -> None:
            while True:
                await ws.recv()

        talking = Job(talk)
        with pytest.raises(side.module.ConnectionClosedError):
            side.do(listen if side.name == "sync" else listen_on_loop)
        assert talking.result()
        assert ws.ending.cause is Cause.PING_TIMEOUT


def test_latency_and_a_ping_that_is_waited_for(side: Side) -> None:
    async def ping_on_loop(ws: Any) -> float:
        rtt: float = await (await ws.ping(b"mine"))
        return rtt

    with opened(side, ping_interval=None) as (ws, raw):
        assert ws.latency is None
        waiting = (
            side.start(ping_on_loop, ws)
            if side.name != "sync"
            else side.start(lambda: ws.ping(b"mine").wait())
        )
        assert raw.next_frame().payload == b"mine"
        # Unknown ones are no answer.
        raw.send_frame(PONG, b"other")
        raw.send_frame(PONG)
        time.sleep(0.02)
        assert waiting.waits
        raw.send_frame(PONG, b"mine")
        assert 0.02 <= waiting.result() == ws.latency
        # Late ones change nothing.
        latency = ws.latency
        raw.send_frame(PONG, b"mine")
        raw.send_frame(TEXT, b"x")
        assert side.do(ws.recv) == "x"
        assert ws.latency == latency
