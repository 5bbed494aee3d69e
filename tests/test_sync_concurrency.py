"""Many threads on one blocking connection, as a stranger sees them: every message intact, and in order per thread."""

from __future__ import annotations

import contextlib
import importlib
import random
import threading
from typing import Any

import pytest

from synchelpers import (
    DEADLINE,
    Job,
    client_context,
    port_of,
    server_context,
    serving,
    tidy,
    tiny_switch_interval,
)
from wsframe import PreparedMessage
from wsframe.sync import ConnectionClosed, WebSocket, connect

__all__ = ["tidy", "tiny_switch_interval"]

pytestmark = pytest.mark.usefixtures("tiny_switch_interval")

pytestmark = pytest.mark.peer

THREADS = 8
MESSAGES = 40


@pytest.fixture
def seed() -> int:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    return seed


def text_of(seed: int, sender: int, number: int) -> str:
    """What a thread says: compressible, now and then larger than what the system takes at once."""
    chance = random.Random(f"{seed} {sender} {number}")
    size = chance.choice((0, 10, 130, 2000, 70_000, 200_000))
    return f"{sender} {number} " + "".join(chance.choices("abcdefé☃ ", k=50)) * (size // 50)


def send_all(ws: WebSocket, seed: int, sender: int) -> None:
    """Be one of the threads: messages of all kinds, and pings between them."""
    chance = random.Random(seed + sender)
    for number in range(MESSAGES):
        text = text_of(seed, sender, number)
        kind = chance.randrange(5)
        if kind == 0:
            ws.send(text.encode())
        elif kind == 1:
            ws.send(PreparedMessage(text))
        elif kind == 2:
            third = len(text) // 3
            ws.send(piece for piece in (text[:third], text[third : 2 * third], text[2 * third :]))
        else:
            ws.send(text)
        if chance.randrange(4) == 0:
            ws.ping()


def check(seed: int, received: list[str | bytes]) -> None:
    """Everything is there, as it was sent, and in the order of its thread."""
    numbers = [0] * THREADS
    for message in received:
        text = message if isinstance(message, str) else message.decode()
        sender = int(text.split(" ", 1)[0])
        assert text == text_of(seed, sender, numbers[sender])
        numbers[sender] += 1
    assert numbers == [MESSAGES] * THREADS


def send_from_all(ws: WebSocket, seed: int) -> None:
    for job in [Job(send_all, ws, seed, sender) for sender in range(THREADS)]:
        job.result(4 * DEADLINE)


@pytest.mark.parametrize("reads", [False, True], ids=["nobody reads", "a reader"])
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_a_server_of_websockets_understands_eight_threads(seed: int, secure: bool, reads: bool) -> None:
    module = importlib.import_module("websockets.sync.server")
    received: list[str | bytes] = []

    def handler(theirs: Any) -> None:
        assert theirs.protocol.extensions
        for message in theirs:
            received.append(message)
            if reads:
                theirs.send(str(len(message)))

    with module.serve(
        handler,
        "127.0.0.1",
        0,
        compression="deflate",
        max_size=None,
        ping_interval=None,
        ssl=server_context() if secure else None,
    ) as server:
        job = Job(server.serve_forever)
        uri = f"{'wss' if secure else 'ws'}://127.0.0.1:{server.socket.getsockname()[1]}/"
        context: Any = {"ssl": client_context()} if secure else {}
        with connect(uri, compression=True, ping_interval=None, write_timeout=None, **context) as ws:
            answers = Job(lambda: [ws.recv() for _ in range(THREADS * MESSAGES)]) if reads else None
            send_from_all(ws, seed)
            if answers is not None:
                lengths = [int(answer) for answer in answers.result(4 * DEADLINE)]
                assert lengths == [len(message) for message in received]
            # Whoever closes waits until the peer has read all of it.
        assert ws.ending is not None
        assert ws.ending.clean
        server.shutdown()
        job.result()
    check(seed, received)


def test_a_client_of_websockets_understands_eight_threads_of_a_server(seed: int) -> None:
    module = importlib.import_module("websockets.sync.client")

    def handler(ws: WebSocket) -> None:
        send_from_all(ws, seed)

    with serving(handler, compression=True, ping_interval=None, write_timeout=None) as (server, endings):
        with module.connect(
            f"ws://127.0.0.1:{port_of(server)}/",
            compression="deflate",
            max_size=None,
            ping_interval=None,
            proxy=None,
        ) as theirs:
            assert theirs.protocol.extensions
            check(seed, list(theirs))
        assert endings.one().clean


def test_threads_that_send_while_one_closes(seed: int) -> None:
    """What the peer gets is whole messages, in order, up to some point."""
    module = importlib.import_module("websockets.sync.server")
    received: list[str | bytes] = []
    enough = threading.Event()

    def handler(theirs: Any) -> None:
        for message in theirs:
            received.append(message)
            if len(received) == 50:
                enough.set()

    def send_until_closed(ws: WebSocket, sender: int) -> int:
        number = 0
        with contextlib.suppress(ConnectionClosed):
            while True:
                ws.send(text_of(seed, sender, number % 20))
                number += 1
        return number

    with module.serve(handler, "127.0.0.1", 0, compression="deflate", max_size=None) as server:
        job = Job(server.serve_forever)
        port = server.socket.getsockname()[1]
        ws = connect(f"ws://127.0.0.1:{port}/", compression=True, ping_interval=None, close_timeout=DEADLINE)
        senders = [Job(send_until_closed, ws, sender) for sender in range(THREADS)]
        assert enough.wait(DEADLINE)
        ws.close(4000)
        assert ws.ending is not None
        assert ws.ending.clean
        sent = [sender.result() for sender in senders]
        server.shutdown()
        job.result()
    numbers = [0] * THREADS
    for message in received:
        assert isinstance(message, str)
        sender = int(message.split(" ", 1)[0])
        assert message == text_of(seed, sender, numbers[sender] % 20)
        numbers[sender] += 1
    # What send() has returned for has arrived, because the end was clean.
    assert all(arrived >= done for arrived, done in zip(numbers, sent, strict=True))
