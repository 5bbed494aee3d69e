"""The most damaging bug of deployed servers: they close TCP after writing Close, the peer's data or its reply hits a
closed socket, and the reset throws away what the peer has not read yet. Here nothing is lost and nothing reset.

The client is a bare socket, with frames of its own making.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import socket
import threading
import time
from typing import Any

import pytest

from adapterhelpers import client_context, port_of, request_to, server_context
from framebuilder import BINARY, CLOSE, close_payload, parse_all
from sides import Server, Side
from sides import side_and_transports as side
from synchelpers import DEADLINE, Job, Raw, until
from wsframe import Cause, Limits

__all__ = ["side"]

#: Of one message of the client's.
PIECE = 9_000

both_ways_to_connect = pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
sizes = pytest.mark.parametrize("size", [9_000, 900_000, 5_000_000])
delays = pytest.mark.parametrize("delay", [0.001, 0.02])
ways = pytest.mark.parametrize("way", ["close", "return", "shutdown"])


@functools.cache
def random_bytes(size: int) -> bytes:
    """Such a payload that nothing of it can be mistaken for another part of it."""
    return b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(size // 32 + 1))[:size]


@functools.cache
def messages(size: int) -> bytes:
    """So many bytes of payload in frames of a client, whose masking key is 0: it is for others to find that weak."""
    payload = random_bytes(size)
    return b"".join(
        b"\x82\xfe" + len(piece).to_bytes(2, "big") + bytes(4) + piece
        for piece in (payload[position : position + PIECE] for position in range(0, size, PIECE))
    )


def open_raw(server: Server, secure: bool) -> Raw:
    """A client's socket after the opening handshake. It is slow to take anything."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    sock.connect(("127.0.0.1", port_of(server)))
    if secure:
        sock.settimeout(DEADLINE)
        sock = client_context().wrap_socket(sock, server_hostname="127.0.0.1")
    raw = Raw(sock, masks=True)
    raw.send(request_to(server))
    assert raw.head().startswith(b"HTTP/1.1 101 ")
    return raw


def options(secure: bool, size: int) -> dict[str, Any]:
    return {
        "ssl": server_context() if secure else None,
        "ping_interval": None,
        "close_timeout": DEADLINE,
        # The whole of it waits to be written when the connection is closed.
        "limits": Limits(write_high_water=2 * size, write_hard_cap=3 * size),
    }


def handlers(way: str, first: Any, then: Any) -> Any:
    """Handlers, for asyncio and for threads, that close in that way after they have done something."""

    async def on_loop(ws: Any) -> None:
        await first(ws)
        if way == "close":
            await ws.close(1000)
        elif way == "shutdown":
            then()
            await ws.wait_closed()

    def in_thread(ws: Any) -> None:
        first(ws)
        if way == "close":
            ws.close(1000)
        elif way == "shutdown":
            then()
            ws.wait_closed()

    return on_loop, in_thread


@both_ways_to_connect
@ways
@delays
@sizes
def test_what_was_sent_before_the_close_arrives(
    side: Side, size: int, delay: float, way: str, secure: bool
) -> None:
    payload = random_bytes(size)
    sent = threading.Event()
    handler = handlers(way, lambda ws: ws.send(payload), sent.set)
    server = side.serve(handler, **options(secure, size))
    with open_raw(server, secure) as raw:
        closing = None
        if way == "shutdown":
            # A thread that sends waits until all of it is with the system, and can be surprised in the middle.
            sent.wait(0.05)
            closing = Job(server.close, 1000)
            until(lambda: server.server.is_closing)
        time.sleep(delay)
        raw.send(messages(PIECE))
        # The reply, while everything is still to be read.
        raw.send_close(1000)
        frames = parse_all(raw.rest())
        assert [frame.opcode for frame in frames] == [BINARY, CLOSE]
        assert frames[0].payload == payload
        assert frames[1].payload == close_payload(1000)
    ending = server.ending()
    assert (ending.cause, ending.clean, ending.code) == (Cause.CLOSE_HANDSHAKE, True, 1000)
    if closing is not None:
        assert closing.result() == {Cause.CLOSE_HANDSHAKE: 1}


@both_ways_to_connect
@ways
@delays
@sizes
def test_what_the_client_is_still_sending_resets_nothing(
    side: Side, size: int, delay: float, way: str, secure: bool
) -> None:
    got: list[bytes] = []
    heard = threading.Event()

    async def on_loop(ws: Any) -> None:
        got.append(await ws.recv())
        await ws.send(b"the last")

    def in_thread(ws: Any) -> None:
        got.append(ws.recv())
        ws.send(b"the last")

    handler = handlers(way, in_thread if side.name == "sync" else on_loop, heard.set)
    server = side.serve(handler, **options(secure, size))
    with open_raw(server, secure) as raw:
        closing = Job(_shut_down, server, heard) if way == "shutdown" else None
        # One thread at a time for a TLS socket: it reads when it has sent everything.
        sending = None if secure else Job(raw.send, messages(size))
        if secure:
            raw.send(messages(size))
        # The server has closed, and everything is still on its way, or in its system's hands, unread.
        assert [raw.next_frame().payload for _ in range(2)] == [b"the last", close_payload(1000)]
        if sending is not None:
            sending.result()
        time.sleep(delay)
        raw.send_close(1000)
        assert raw.rest() == b""
    ending = server.ending()
    assert (ending.cause, ending.clean, ending.code) == (Cause.CLOSE_HANDSHAKE, True, 1000)
    assert got == [random_bytes(size)[:PIECE]]
    if closing is not None:
        assert closing.result() == {Cause.CLOSE_HANDSHAKE: 1}


def _shut_down(server: Server, heard: threading.Event) -> Any:
    assert heard.wait(DEADLINE)
    return server.close(1000)


def test_everything_that_came_before_our_close_can_be_read(side: Side) -> None:
    """What is in the receive queue when we close is the application's."""
    got: list[list[bytes]] = []

    async def on_loop(ws: Any) -> None:
        await asyncio.sleep(0.1)
        await ws.close()
        got.append([message async for message in ws])

    def in_thread(ws: Any) -> None:
        # There is nobody else who reads.
        while not ws._queue.full:
            ws._driver.pump()
        ws.close()
        got.append(list(ws))

    server = side.serve((on_loop, in_thread), ping_interval=None, close_timeout=DEADLINE)
    with open_raw(server, False) as raw:
        sending = Job(raw.send, messages(900_000))
        assert raw.next_frame().payload == close_payload(1000)
        sending.result()
        raw.send_close(1000)
        assert raw.rest() == b""
    assert server.ending().clean
    server.close()
    (messages_read,) = got
    data = b"".join(messages_read)
    assert len(messages_read) >= 16
    assert random_bytes(900_000).startswith(data)
