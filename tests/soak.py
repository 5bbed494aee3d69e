"""Many connections of both adapters over links that are slow, or break, for as long as one likes.

    python tests/soak.py --seconds 600 --seed 1

Each conversation has a number, and from that and the seed alone follow its adapters, its messages and what its link
does to it. The server echoes. Checked is that what arrives is a prefix of what was sent, on both sides; that each side
gets one ending, with a cause that fits what was done to the link; that nothing is lost over a link that is only slow;
and in the end that no task, thread, descriptor or connection is left, and that memory has not grown.

A conversation that is not as it should be is printed with its number, and ``--only NUMBER`` repeats it.
`tests/test_soak.py` runs a sample.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import gc
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import adapterhelpers
import wsframe.aio
import wsframe.sync
from links import HARMFUL, HARMLESS, Fault, Link
from wsframe import Cause, Disconnected, Request

#: Seconds after which a side that has not ended is stuck. Every deadline of a connection is far below.
DEADLINE = 60.0
#: How many conversations go on at a time, of each adapter's clients.
TASKS = 24
THREADS = 12
#: Bytes that memory may grow after the first fifth of the time.
MAX_GROWTH = 16 << 20

_ENDS = {Cause.CLOSE_HANDSHAKE, Cause.EOF, Cause.TRUNCATED, Cause.RESET}
_WAITS = {Cause.CLOSE_HANDSHAKE, Cause.PING_TIMEOUT, Cause.OPEN_TIMEOUT, Cause.CLOSE_TIMEOUT, Cause.SLOW_PEER}
#: What an application may be told, by what was done to its link.
CAUSES = {kind: {Cause.CLOSE_HANDSHAKE} for kind in HARMLESS} | {
    "cut": _ENDS,
    "limit": _ENDS,
    "reset": {Cause.CLOSE_HANDSHAKE, Cause.RESET},
    "half-open": _WAITS,
}
#: Where only one direction is dead, the other one tells of the peer's end, or of its 408.
_ONE_WAY = _WAITS | _ENDS | {Cause.REJECTED}

#: Where silence is the fault it shall be found soon; a machine that stands still shall not be taken for one.
PATIENT: dict[str, Any] = {
    "ping_interval": 10.0,
    "ping_timeout": 40.0,
    "close_timeout": 40.0,
    "open_timeout": 40.0,
}
IMPATIENT: dict[str, Any] = {
    "ping_interval": 0.3,
    "ping_timeout": 0.4,
    "close_timeout": 1.0,
    "open_timeout": 2.0,
}


@dataclass
class Conversation:
    """What two sides say to each other, and what has come of it."""

    number: int
    seed: int
    fault: Fault = field(init=False)
    sync_server: bool = field(init=False)
    sizes: list[int] = field(init=False)
    window: int = field(init=False)
    compression: bool = field(init=False)
    at_server: int = 0
    at_client: int = 0
    server_endings: list[Disconnected] = field(default_factory=list)
    client_ending: Disconnected | None = None

    def __post_init__(self) -> None:
        chance = random.Random(f"{self.seed} {self.number}")
        kind = chance.choice([*HARMLESS, *HARMFUL, *HARMFUL])
        self.sync_server = chance.random() < 0.5
        self.compression = chance.random() < 0.3
        self.window = chance.choice([1, 1, 4, 16])
        self.sizes = [
            chance.choice([0, 5, 125, 126, chance.randrange(20_000)]) for _ in range(chance.randrange(1, 25))
        ]
        slice_size = chance.choice([1, 7, 125])
        if kind in ("bandwidth", "slicer"):
            # They take their time.
            most = 2000 if kind == "bandwidth" else 20 * slice_size
            self.sizes = [min(size, most) for size in self.sizes[:8]]
        whole = 400 + 2 * sum(self.sizes) + 12 * len(self.sizes)
        after = chance.choice([chance.randrange(1, 400), chance.randrange(1, whole + 20)])
        one_way = chance.choice([True, False])
        self.fault = Fault(
            kind,
            delay=chance.choice([0.001, 0.02]),
            rate=chance.choice([20_000.0, 200_000.0]),
            size=slice_size,
            after=after // 2 + 1 if kind == "limit" else after,
            upwards=one_way if kind == "limit" or (kind == "half-open" and chance.random() < 0.5) else None,
        )

    @property
    def options(self) -> dict[str, Any]:
        return {"compression": self.compression} | (IMPATIENT if self.fault.kind == "half-open" else PATIENT)

    def message(self, index: int) -> str | bytes:
        head = f"{self.number}/{index}:"
        text = head + "äx7"[index % 3] * self.sizes[index]
        return text if index % 2 else text.encode()

    def check(self) -> None:
        """What both sides were told fits what was done."""
        fault, client = self.fault, self.client_ending
        assert client is not None
        assert len(self.server_endings) == 1, self.server_endings
        server = self.server_endings[0]
        causes = CAUSES[fault.kind]
        if fault.kind == "half-open" and fault.upwards is not None:
            causes = _ONE_WAY
        assert client.cause in causes, f"client: {client}"
        assert server.cause in causes, f"server: {server}"
        assert self.at_client <= self.at_server <= len(self.sizes)
        if fault.kind in HARMLESS:
            assert client.clean
            assert server.clean
            assert self.at_client == self.at_server == len(self.sizes)
        for one, other in ((client, server), (server, client)):
            assert one.received is None or one.received == other.sent
            assert one.code == (1006 if one.received is None else one.received.code)
            assert not (one.received_first and other.received_first)

    def __str__(self) -> str:
        sides = "sync" if self.sync_server else "aio"
        return (
            f"conversation {self.number} ({sides} server, {self.fault}, {len(self.sizes)} messages): client got"
            f" {self.at_client}, server {self.at_server}; {self.client_ending!r}; {self.server_endings!r}"
        )


class Soak:
    """All that goes on. Both servers, the link, and who takes part."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.link = Link()
        self.ended: collections.Counter[tuple[str, str, str]] = collections.Counter()
        self.done = 0
        self.failures: list[str] = []
        self.messages = 0
        self._lock = threading.Lock()
        self._running: dict[int, Conversation] = {}
        self._by_port: dict[int, Conversation] = {}
        #: Ports of the servers: adapter and patience.
        self.ports: dict[tuple[bool, bool], int] = {}

    # For servers.

    def of(self, request: Request) -> Conversation:
        return self._running[int(request.target[1:])]

    def on_end(self, request: Request | None, address: Any, ending: Disconnected) -> None:
        conversation = self._by_port.get(self.link.clients.pop(address[1], 0))
        if conversation is None:
            self.failures.append(f"an ending of nobody: {request}, {address}, {ending}")
        else:
            conversation.server_endings.append(ending)

    async def aio_handler(self, ws: wsframe.aio.WebSocket) -> None:
        conversation = self.of(ws.request)
        with contextlib.suppress(wsframe.aio.ConnectionClosed):
            async for message in ws:
                self._take(conversation, message)
                await ws.send(message)

    def sync_handler(self, ws: wsframe.sync.WebSocket) -> None:
        conversation = self.of(ws.request)
        with contextlib.suppress(wsframe.sync.ConnectionClosed):
            for message in ws:
                self._take(conversation, message)
                ws.send(message)

    def _take(self, conversation: Conversation, message: str | bytes) -> None:
        self._compare(conversation, conversation.at_server, message)
        conversation.at_server += 1

    def _compare(self, conversation: Conversation, index: int, message: str | bytes) -> None:
        """It is the next one, and whole."""
        if index >= len(conversation.sizes) or message != conversation.message(index):
            self.failures.append(f"message {index} arrived as {message[:50]!r}...: {conversation}")

    # For clients.

    def _begin(self, number: int) -> tuple[Conversation, dict[str, Any]]:
        conversation = Conversation(number, self.seed)
        port = self.ports[conversation.sync_server, conversation.fault.kind != "half-open"]
        self._running[number] = conversation
        sock = self.link.dial(conversation.fault, port)
        self._by_port[sock.getsockname()[1]] = conversation
        return conversation, {"sock": sock, **conversation.options}

    async def aio_client(self, number: int) -> None:
        conversation, options = self._begin(number)
        try:
            ws = await wsframe.aio.connect(f"ws://127.0.0.1/{number}", **options)
        except wsframe.aio.ConnectError as exc:
            conversation.client_ending = exc.ending
        else:
            with contextlib.suppress(wsframe.aio.ConnectionClosed):
                for index in range(len(conversation.sizes) + conversation.window):
                    if index < len(conversation.sizes):
                        await ws.send(conversation.message(index))
                    if index >= conversation.window:
                        self._got(conversation, await ws.recv())
            await ws.close()
            conversation.client_ending = ws.ending
        end = time.monotonic() + DEADLINE
        while not conversation.server_endings and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        self._finish(conversation, "aio")

    def sync_client(self, number: int) -> None:
        conversation, options = self._begin(number)
        try:
            ws = wsframe.sync.connect(f"ws://127.0.0.1/{number}", **options)
        except wsframe.sync.ConnectError as exc:
            conversation.client_ending = exc.ending
        else:
            with contextlib.suppress(wsframe.sync.ConnectionClosed):
                for index in range(len(conversation.sizes) + conversation.window):
                    if index < len(conversation.sizes):
                        ws.send(conversation.message(index))
                    if index >= conversation.window:
                        self._got(conversation, ws.recv())
            ws.close()
            conversation.client_ending = ws.ending
        end = time.monotonic() + DEADLINE
        while not conversation.server_endings and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(0.02)
        self._finish(conversation, "sync")

    def _got(self, conversation: Conversation, message: str | bytes) -> None:
        self._compare(conversation, conversation.at_client, message)
        conversation.at_client += 1

    def _finish(self, conversation: Conversation, adapter: str) -> None:
        with self._lock:
            self.done += 1
            self.messages += conversation.at_client + conversation.at_server
            try:
                conversation.check()
            except AssertionError as exc:
                self.failures.append(f"{adapter} client: {conversation}: {exc}")
            for side, endings in (
                ("client", [conversation.client_ending]),
                ("server", conversation.server_endings),
            ):
                for ending in endings:
                    name = "none" if ending is None else ending.cause.name
                    self.ended[conversation.fault.kind, side, name] += 1
            del self._running[conversation.number]
            ports = [port for port, other in self._by_port.items() if other is conversation]
            for port in ports:
                del self._by_port[port]


@dataclass
class Report:
    """What a run has found, and left."""

    seconds: float
    conversations: int
    messages: int
    ended: collections.Counter[tuple[str, str, str]]
    grown: int
    failures: list[str]

    def __str__(self) -> str:
        first = (
            f"{self.conversations} conversations, {self.messages} messages in {self.seconds:.0f} s; memory"
            f" {self.grown / 1024:+.0f} KiB; {len(self.failures)} failures"
        )
        lines = [first]
        kinds = [*HARMLESS, *HARMFUL]
        for (kind, side, cause), count in sorted(
            self.ended.items(), key=lambda item: kinds.index(item[0][0])
        ):
            lines.append(f"  {kind:10} {side:7} {cause:16} {count:7}")
        return "\n".join([*lines, *self.failures])


def run(
    *,
    seed: int,
    numbers: Iterator[int],
    until: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Have these conversations, or as many of them as there is time for.

    Args:
        seed: with a number it makes a conversation.
        numbers: which ones.
        until: whether it is enough.
        say: is told how it goes.
    """
    threads, descriptors, kept = set(threading.enumerate()), adapterhelpers.descriptors(), _kept()
    soak, began = Soak(seed), time.monotonic()
    resident: list[tuple[float, int]] = []
    lock = threading.Lock()

    def next_number() -> int | None:
        with lock:
            return None if until() else next(numbers, None)

    def sync_clients() -> None:
        while (number := next_number()) is not None:
            try:
                soak.sync_client(number)
            except Exception as exc:
                soak.failures.append(f"conversation {number}: {exc!r}")

    async def aio_clients() -> None:
        while (number := next_number()) is not None:
            try:
                await soak.aio_client(number)
            except Exception as exc:
                soak.failures.append(f"conversation {number}: {exc!r}")

    async def watch() -> None:
        while True:
            resident.append((time.monotonic(), adapterhelpers.resident()))
            say(f"{time.monotonic() - began:6.0f} s, {soak.done} conversations, {resident[-1][1] >> 10} KiB")
            await asyncio.sleep(5)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for patient, options in ((True, PATIENT), (False, IMPATIENT)):
                server = await stack.enter_async_context(
                    wsframe.aio.serve(
                        soak.aio_handler, "127.0.0.1", 0, on_end=soak.on_end, compression=True, **options
                    )
                )
                soak.ports[False, patient] = server.sockets[0].getsockname()[1]
            workers = [threading.Thread(target=sync_clients, name="client") for _ in range(THREADS)]
            watcher = asyncio.create_task(watch())
            for worker in workers:
                worker.start()
            await asyncio.gather(*(aio_clients() for _ in range(TASKS)))
            for worker in workers:
                # They need nothing from this thread but that its servers go on.
                while worker.is_alive():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                worker.join()
            watcher.cancel()
        await asyncio.sleep(0.1)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        soak.failures += [f"a task is left: {task!r}" for task in left]

    with soak.link, contextlib.ExitStack() as stack:
        for patient, options in ((True, PATIENT), (False, IMPATIENT)):
            server = stack.enter_context(
                wsframe.sync.serve(
                    soak.sync_handler, "127.0.0.1", 0, on_end=soak.on_end, compression=True, **options
                )
            )
            soak.ports[True, patient] = server.sockets[0].getsockname()[1]
            acceptor = threading.Thread(target=server.serve_forever, name="acceptor")
            acceptor.start()
            stack.callback(acceptor.join)
            stack.callback(server.close)
        asyncio.run(main())
    grown = _growth(resident)
    if grown > MAX_GROWTH:
        soak.failures.append(f"memory has grown by {grown >> 10} KiB")
    soak.failures += _leftovers(threads, descriptors, kept)
    return Report(time.monotonic() - began, soak.done, soak.messages, soak.ended, grown, soak.failures)


def _growth(resident: list[tuple[float, int]]) -> int:
    """How much memory has grown since the first fifth."""
    resident.append((time.monotonic(), adapterhelpers.resident()))
    begin, end = resident[0][0], resident[-1][0]
    warm = [size for moment, size in resident if moment - begin <= (end - begin) / 5]
    return resident[-1][1] - max(warm)


def _leftovers(threads: set[threading.Thread], descriptors: int, kept: collections.Counter[str]) -> list[str]:
    left = [f"a thread is left: {thread}" for thread in set(threading.enumerate()) - threads]
    gc.collect()
    if adapterhelpers.descriptors() > descriptors:
        left.append(f"{adapterhelpers.descriptors() - descriptors} descriptors are left")
    return left + [f"{count} {name} objects are left" for name, count in (_kept() - kept).items()]


def _kept() -> collections.Counter[str]:
    """What there is of connections; a test that has failed may have left some before us."""
    return collections.Counter(
        type(item).__name__ for item in gc.get_objects() if type(item).__name__ in _CONNECTIONS
    )


#: What there is one of for each connection.
_CONNECTIONS = {"Connection", "WebSocket", "Channel", "Driver", "ServerConnection"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Many connections over links that are slow, or break.")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="this conversation, and no other")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    only = arguments.only
    print(f"seed {arguments.seed}, codec {wsframe.backend}")
    report = run(
        seed=arguments.seed,
        numbers=itertools.count() if only is None else iter([only]),
        until=lambda: time.monotonic() > end,
        say=lambda line: print(line, flush=True),
    )
    print(report)
    return bool(report.failures)


if __name__ == "__main__":
    sys.exit(main())
