"""Callbacks come once and in order, whatever fails: every I/O operation of both sides does, in virtual time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from aiohelpers import client_context, server_context
from sweephelpers import HARMLESS, KINDS, Records, choose, explained, swept
from wsframe import Disconnected, Request
from wsframe.aio import Application, ConnectError, WebSocket, connect, serve
from wsframe.testing import Fault, Faults, run

#: What a side may be told. A client that does not become a WebSocket is told by an exception.
SERVER_ORDER = re.compile(r"(open( message)* close|disconnect)?")
CLIENT_ORDER = re.compile(r"(open( message)* close)?")

MESSAGES = ["fragment " * 3000, "", "short", "é" * 20_000, "last"]


class Told(Application):
    """What it was told, in order. It answers whatever comes, and ends with the last message."""

    def __init__(self, *, begins: bool = False) -> None:
        self.begins = begins
        self.order: list[str] = []
        self.messages: list[str | bytes] = []
        self.endings: list[Disconnected] = []

    def on_open(self, ws: WebSocket) -> None:
        self.order.append("open")
        if self.begins:
            for message in MESSAGES:
                ws.send_nowait(message)

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.order.append("message")
        self.messages.append(message)
        if not self.begins:
            ws.send_nowait(message)
        elif message == "last":
            ws.start_closing(4000)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.order.append("close")
        self.endings.append(ending)

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
        self.order.append("disconnect")
        self.endings.append(ending)


class Scene:
    """One connection between two applications."""

    def __init__(self, *, tls: bool) -> None:
        self.tls = tls
        self.server, self.client = Told(), Told(begins=True)
        self.server_faults, self.client_faults = Faults(), Faults()
        self.ended: list[Disconnected] = []
        self.problems: list[str] = []

    def play(self) -> Scene:
        with Records() as records:
            run(
                self._main(), timeout=1000, client_faults=self.client_faults, server_faults=self.server_faults
            )
        assert self.problems + records.texts == []
        for order, told in ((SERVER_ORDER, self.server), (CLIENT_ORDER, self.client)):
            assert order.fullmatch(" ".join(told.order)), told.order
            assert told.messages == MESSAGES[: len(told.messages)]
        # The server's owner heard the same.
        assert self.ended == self.server.endings
        return self

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.problems.append(repr(context)))
        context, ours = (server_context("localhost"), client_context()) if self.tls else (None, None)
        server = await serve(
            self.server, "localhost", 80, ssl=context, on_end=lambda *told: self.ended.append(told[-1])
        )
        uri = "wss://localhost:80/" if self.tls else "ws://localhost/"
        try:
            ws = await connect(uri, ssl=ours, application=self.client)
        except ConnectError:
            pass
        else:
            assert await ws.wait_closed() is self.client.endings[0]
        await asyncio.sleep(200)
        await server.close()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_callbacks_come_once_and_in_order_whatever_fails(side: str, tls: bool, everything: bool) -> None:
    untouched = Scene(tls=tls).play()
    assert untouched.client.messages == untouched.server.messages == MESSAGES
    assert untouched.client.order == untouched.server.order == ["open", *["message"] * 5, "close"]
    points = len((untouched.client_faults if side == "client" else untouched.server_faults).operations)
    kinds: dict[str, Callable[[], Any]] = {**KINDS, "stall": lambda: Fault.STALL}
    reached = 0
    for kind, n in choose(kinds, points, everything, f"application {side} {tls}"):
        scene = Scene(tls=tls)
        faults = scene.client_faults if side == "client" else scene.server_faults
        faults.fail_at(n, kinds[kind]())
        with explained(f"{kind} at {side} operation {n}"):
            scene.play()
            if kind in HARMLESS:
                assert scene.client.messages == MESSAGES
        reached += faults.fired
    swept["asyncio, operations"] += reached
    assert reached
