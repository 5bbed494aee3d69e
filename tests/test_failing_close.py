"""A Close that says what was wrong reaches conforming clients of other makes at once, not after some timeout.

A conforming client breaks no rule. So there is a relay on the way, which breaks one for it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client
from selenium import webdriver

from adapterhelpers import port_of
from browser import driver
from framebuilder import build
from sides import Server, Side, side
from synchelpers import DEADLINE, Job
from wsframe import ANY_ORIGIN, Cause, Request, Response

__all__ = ["driver", "side"]

#: Data with a reserved opcode, behind whatever the client sends next; masked, as it must be.
BAD = build(3, b"x", mask=b"abcd")

#: The close timeout is 10 s, and the linger time 2 s. A machine may stand still for a while, but not every time.
AT_ONCE = 1.0
ATTEMPTS = 5


class Relay:
    """Between a client and a server: passes everything on, and breaks a rule behind what the client says first."""

    def __init__(self, server: Server) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(DEADLINE)
        self._server = port_of(server)
        self.uri = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._job = Job(self._run)

    def _run(self) -> None:
        with (
            self._listener,
            self._listener.accept()[0] as client,
            socket.create_connection(("127.0.0.1", self._server), DEADLINE) as server,
        ):
            client.settimeout(DEADLINE)
            answers = Job(self._pass, server, client, b"")
            self._pass(client, server, BAD)
            answers.result()

    def _pass(self, source: socket.socket, target: socket.socket, bad: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            opening = bool(bad)
            while data := source.recv(1 << 16):
                target.sendall(data if opening else data + bad)
                if not opening:
                    bad = b""
                opening = opening and not data.endswith(b"\r\n\r\n")
            target.shutdown(socket.SHUT_WR)

    def join(self) -> None:
        self._job.result()


def page(request: Request) -> Response | None:
    """A page, because Chromium opens no connections to this machine for pages that come from nowhere."""
    if request.target == "/page":
        return Response(200, headers=[("Content-Type", "text/html")], body=b"<!doctype html><title>x</title>")
    return None


def best_of(talk: Callable[[str, int], float], side: Side) -> None:
    """Let a client talk to a server of ours several times, and see that it was fast once.

    Args:
        talk: is given the URI of a relay to the server, and the server's port; returns the seconds that it took.
        side: whose server.
    """

    async def on_loop(ws: Any) -> None:
        async for message in ws:
            await ws.send(message)

    def in_thread(ws: Any) -> None:
        for message in ws:
            ws.send(message)

    server = side.serve((on_loop, in_thread), origins=ANY_ORIGIN, on_request=page)
    best = DEADLINE
    for _ in range(ATTEMPTS):
        relay = Relay(server)
        best = min(best, talk(relay.uri, port_of(server)))
        relay.join()
        if best < AT_ONCE:
            break
    server.close()
    assert best < AT_ONCE
    causes = {ending.cause for ending in server.endings if ending.was_websocket}
    assert causes == {Cause.PROTOCOL_ERROR}


@pytest.mark.peer
def test_websockets_sees_it_at_once(side: Side) -> None:
    def talk(uri: str, port: int) -> float:
        with websockets.sync.client.connect(uri, proxy=None) as ws:
            begin = time.monotonic()
            ws.send("go")
            assert ws.recv(DEADLINE) == "go"
            with pytest.raises(websockets.exceptions.ConnectionClosedError) as caught:
                ws.recv(DEADLINE)
            taken = time.monotonic() - begin
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1002
        return taken

    best_of(talk, side)


SCRIPT = """
    const [uri, done] = arguments;
    const socket = new WebSocket(uri);
    let begin, heard = [];
    socket.onopen = () => { begin = performance.now(); socket.send("go"); };
    socket.onmessage = (event) => heard.push(event.data);
    socket.onclose = (event) => done([heard, event.code, (performance.now() - begin) / 1000]);
"""


@pytest.mark.browser
def test_chromium_sees_it_at_once(side: Side, driver: webdriver.Chrome) -> None:
    driver.set_script_timeout(DEADLINE)

    def talk(uri: str, port: int) -> float:
        driver.get(f"http://127.0.0.1:{port}/page")
        heard, code, taken = driver.execute_async_script(SCRIPT, uri)
        assert (heard, code) == (["go"], 1002)
        return float(taken)

    best_of(talk, side)
