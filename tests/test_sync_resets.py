"""RST at every byte of an exchange, with the blocking adapter; see `resets`."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from resets import MESSAGES, Progress, check_reset, check_whole, exchange, offsets
from synchelpers import Job, Listener, Raw, dial, serving, tidy, until
from wsframe import Disconnected, Role
from wsframe.sync import ConnectError, ConnectionClosed, connect

__all__ = ["tidy"]


def play(raw: Raw, progress: Progress, limit: int | None) -> None:
    """Do what the script says; then reset."""
    raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    script = exchange(progress, limit)
    answer: bytes | None = None
    with contextlib.suppress(StopIteration):
        while True:
            step = script.send(answer)  # type: ignore[arg-type]
            answer = b""
            if isinstance(step, bytes):
                raw.send(step)
            else:
                answer = raw.sock.recv(step)
    if limit is not None:
        raw.reset()


def test_the_client_resets_at_every_byte() -> None:
    received: list[str | bytes] = []
    told: list[Disconnected] = []

    def handler(ws: Any) -> None:
        try:
            for message in ws:
                received.append(message)
                ws.send(message)
        except ConnectionClosed as exc:
            told.append(exc.ending)

    with serving(handler, ping_interval=None) as (server, endings):

        def run(limit: int | None) -> Progress:
            progress = Progress(Role.CLIENT)
            with dial(server) as raw:
                play(raw, progress, limit)
                # on_end comes behind the handler.
                until(lambda: endings)
            (check_whole if limit is None else check_reset)(progress, received, endings.one())
            assert told in ([], endings)
            received.clear()
            endings.clear()
            told.clear()
            return progress

        for limit in offsets(run(None)):
            run(limit)


def test_the_server_resets_at_every_byte() -> None:
    def talk(uri: str) -> tuple[list[str | bytes], Disconnected]:
        received: list[str | bytes] = []
        try:
            ws = connect(uri, ping_interval=None)
        except ConnectError as exc:
            return received, exc.ending
        try:
            for message in MESSAGES:
                ws.send(message)
                received.append(ws.recv())
        except ConnectionClosed as exc:
            return received, exc.ending
        ws.close()
        return received, ws.wait_closed()

    with Listener() as listener:

        def run(limit: int | None) -> Progress:
            progress = Progress(Role.SERVER)
            job = Job(talk, listener.uri)
            with listener.accept() as raw:
                play(raw, progress, limit)
                if limit is None:
                    raw.shutdown()
                received, ending = job.result()
            (check_whole if limit is None else check_reset)(progress, received, ending)
            return progress

        for limit in offsets(run(None)):
            run(limit)
