"""Everything that can fail in the asyncio adapter does, once at every point, in virtual time.

Scenarios run over transports in memory with their first, second, ... n-th I/O operation failing in every way, and with
cancellation at the first, second, ... n-th await, until they pass untouched. After every run there is exactly one
ending on each side, and the true one; what was delivered is the beginning of what was sent; nothing is left and nothing
is logged. A run samples the kinds of failures; ``--sweep=all`` takes them all.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from aiohelpers import client_context, server_context
from sweephelpers import (
    HARMLESS,
    KINDS,
    SAMPLE,
    WIRES,
    RecordingListener,
    RecordingSocket,
    Records,
    Wire,
    choose,
    explained,
    is_prefix,
    judge,
    judge_tls,
    leftovers,
    swept,
    system_sockets,
)
from wsframe import Cause, Disconnected, Limits
from wsframe.aio import ConnectError, ConnectionClosed, Server, WebSocket, _transports, connect, serve
from wsframe.testing import (
    CancelAt,
    Fault,
    Faults,
    VirtualClockLoop,
    run,
    sweep,
)
from wsframe.testing import _network as network
from wsframe.testing._transport import MemoryStream, MemoryTransport

#: A sender that does not wait gets to the end of its patience soon.
LIMITS = Limits(write_hard_cap=256 * 1024)

#: A message that takes several writes, and several reads.
LARGE = "fragment " * 30_000


@dataclass
class Talk:
    """What was sent and received by the applications of a run, from the moment when sending began."""

    to_server: list[Any] = field(default_factory=list)
    at_server: list[Any] = field(default_factory=list)
    to_client: list[Any] = field(default_factory=list)
    at_client: list[Any] = field(default_factory=list)

    async def say(self, ws: WebSocket, message: str | bytes) -> None:
        (self.to_server if ws.role.value == "client" else self.to_client).append(message)
        await ws.send(message)

    async def hear(self, ws: WebSocket) -> Any:
        message = await ws.recv()
        (self.at_client if ws.role.value == "client" else self.at_server).append(message)
        return message


#: When a cancellation comes: while it waits, or together with what it waits for.
WHEN: tuple[Literal["wait", "wake"], ...] = ("wait", "wake")


#: In memory; in memory with small buffers and a delay; and, on sockets that fail, asyncio's own transports and ours.
NETS = ["memory", "narrow", "system", "own"]

SYSTEM = ("system", "own")

ways = pytest.mark.parametrize(
    ("net", "tls"),
    [(net, tls) for tls in (False, True) for net in NETS if (net, tls) != ("own", True)],
    ids=lambda value: value if isinstance(value, str) else "tls" if value else "plain",
)

Side = Callable[[WebSocket, Talk], Awaitable[None]]


async def echo(ws: WebSocket, talk: Talk) -> None:
    while True:
        await talk.say(ws, await talk.hear(ws))


async def nothing(ws: WebSocket, talk: Talk) -> None:
    pass


async def wait(ws: WebSocket, talk: Talk) -> None:
    await ws.wait_closed()


async def ask(ws: WebSocket, talk: Talk) -> None:
    for message in ("one", b"two", ""):
        await talk.say(ws, message)
        assert await talk.hear(ws) == message
    await (await ws.ping())


async def ask_much(ws: WebSocket, talk: Talk) -> None:
    await talk.say(ws, LARGE)
    assert await talk.hear(ws) == LARGE


async def pour(ws: WebSocket, talk: Talk) -> None:
    for number in range(12):
        await talk.say(ws, bytes([number]) * 60_000)


async def drink(ws: WebSocket, talk: Talk) -> None:
    # Not at once: the other side has to wait for room.
    await asyncio.sleep(1)
    while True:
        await talk.hear(ws)


async def close_both(ws: WebSocket, talk: Talk) -> None:
    await talk.say(ws, "last words")
    await ws.close(1000, "enough")


async def close_unread(ws: WebSocket, talk: Talk) -> None:
    # The other side has said something that nobody reads.
    await asyncio.sleep(1)
    await ws.close(4000, "no more")


async def talk_and_wait(ws: WebSocket, talk: Talk) -> None:
    await talk.say(ws, b"unread" * 20_000)
    await ws.wait_closed()


#: name -> what the client does, and what the handler does.
SCENARIOS: dict[str, tuple[Side, Side]] = {
    "handshake": (nothing, wait),
    "echo": (ask, echo),
    "large": (ask_much, echo),
    "client closes": (close_unread, talk_and_wait),
    "server closes": (talk_and_wait, close_unread),
    "both close": (close_both, close_both),
    "client drains": (pour, drink),
    "server drains": (drink, pour),
}


class RecordingTransport(MemoryTransport):
    """Notes what its protocol is told."""

    @property
    def wire(self) -> Wire:
        return WIRES["server" if self.get_extra_info("sockname")[1] == 80 else "client"]

    def _fail(self, exc: Exception) -> None:
        self.wire.note(exc)
        super()._fail(exc)

    def _end_of_stream(self) -> None:
        self.wire.note("eof")
        super()._end_of_stream()


class RecordingStream(MemoryStream):
    """Notes what was read from it."""

    def read(self, size: int) -> bytes:
        data = super().read(size)
        assert isinstance(self.reader, RecordingTransport)
        self.reader.wire.delivered += data
        return data


async def _closing(server: Server) -> None:
    await server.close()


@dataclass
class Run:
    """One run of a scenario, and what came of it."""

    scenario: str
    net: str = "memory"
    tls: bool = False
    client_faults: Faults = field(default_factory=Faults)
    server_faults: Faults = field(default_factory=Faults)
    cancel_client: CancelAt = field(default_factory=CancelAt)
    cancel_server: CancelAt = field(default_factory=CancelAt)
    cancel_shutdown: CancelAt = field(default_factory=CancelAt)
    shutdown_at: float | None = None
    stalls: bool = False
    talk: Talk = field(default_factory=Talk)
    client: WebSocket | ConnectError | None = None
    server_endings: list[Disconnected] = field(default_factory=list)
    time: float = 0.0
    cancelled: bool = False
    problems: list[str] = field(default_factory=list)

    def play(self, monkeypatch: pytest.MonkeyPatch) -> Run:
        WIRES.update(client=Wire(), server=Wire())
        with monkeypatch.context() as patch, Records() as records:
            patch.setattr(network, "MemoryTransport", RecordingTransport)
            patch.setattr(network, "MemoryStream", RecordingStream)
            if self.net == "own":
                # As on asyncio's own loop, of which this one is a subclass.
                patch.setattr(_transports, "is_known", lambda loop: True)
            run(
                self._main(), timeout=1000, client_faults=self.client_faults, server_faults=self.server_faults
            )
            gc.collect()
        self.problems += records.texts
        self._judge()
        operations = f"client {self.client_faults.operations}, server {self.server_faults.operations}"
        assert not self.problems, "\n".join([operations, *self.problems])
        return self

    def _new_task(self, loop: asyncio.AbstractEventLoop, job: Any, **options: Any) -> asyncio.Task[Any]:
        """Every task that the server makes for a connection can be cancelled."""

        async def watched(job: Any) -> None:
            await self.cancel_server(job)

        if job.cr_code.co_filename.endswith(os.path.join("aio", "_serving.py")):
            job = watched(job)
        return asyncio.Task(job, loop=loop, **options)

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        loop.set_exception_handler(lambda _, context: self.problems.append(repr(context)))
        loop.set_task_factory(self._new_task)
        handler = SCENARIOS[self.scenario][1]

        async def handle(ws: WebSocket) -> None:
            own = _transports.as_own_transport(ws._channel.transport) is not None
            assert own is (self.net == "own")
            await handler(ws, self.talk)

        def ended(request: object, address: object, ending: Disconnected) -> None:
            self.server_endings.append(ending)
            self.time = max(self.time, loop.time())

        options: dict[str, Any] = {
            "limits": LIMITS,
            "on_end": ended,
            "ssl": server_context("localhost") if self.tls else None,
        }
        client_socket: socket.socket | None = None
        if self.net in SYSTEM:
            listener, client = system_sockets()
            client.setblocking(False)
            listener = RecordingListener(listener, self.server_faults)
            client_socket = RecordingSocket(client, self.client_faults)
            server = await serve(handle, sock=listener, **options)
        else:
            if self.net == "narrow":
                loop.network.capacity, loop.network.latency = 8000, 0.01
            server = await serve(handle, "localhost", 80, **options)
        main = asyncio.create_task(self._client(client_socket))
        tasks = [main]
        if self.shutdown_at is not None:
            tasks.append(asyncio.create_task(self._shut_down(server)))
        await asyncio.wait(tasks)
        self.cancelled = main.cancelled()
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                self.problems.append(f"{task} has raised {task.exception()!r}")
        self.time = max(self.time, loop.time())
        # Whatever is not over by then never will be, and is left.
        await asyncio.sleep(200)
        self._look_around(loop)
        await server.close()

    async def _client(self, sock: socket.socket | None) -> None:
        await self.cancel_client(self._client_main(sock))

    async def _client_main(self, sock: socket.socket | None) -> None:
        uri = "wss://localhost:80/" if self.tls else "ws://localhost/"
        try:
            context = client_context() if self.tls else None
            async with connect(uri, ssl=context, sock=sock, limits=LIMITS) as ws:
                self.client = ws
                await SCENARIOS[self.scenario][0](ws, self.talk)
        except ConnectError as exc:
            self.client = exc
        except ConnectionClosed as exc:
            if exc.ending is not self.client_ending:
                self.problems.append("the exception has another ending than the connection")

    async def _shut_down(self, server: Server) -> None:
        await asyncio.sleep(self.shutdown_at or 0)
        await self.cancel_shutdown(_closing(server))

    @property
    def client_ending(self) -> Disconnected | None:
        return None if self.client is None else self.client.ending

    def _look_around(self, loop: VirtualClockLoop) -> None:
        """Everything is over long since, without the server being closed."""
        self.problems += [
            f"a task is left: {task}" for task in asyncio.all_tasks() - {asyncio.current_task()}
        ]
        self.problems += [f"a timer is left: {timer}" for timer in loop.timers]
        self.problems += [f"a transport is left: {transport}" for transport in loop.network.transports]
        if self.net in SYSTEM:
            self.problems += [
                f"a socket is left: {sock}" for sock in leftovers(RecordingSocket) if sock.fileno() != -1
            ]
        gc.collect()
        # Futures that somebody still keeps.
        self.problems += [
            f"a future is left: {future}"
            for future in leftovers(asyncio.Future)
            if not future.done() and not isinstance(future, asyncio.Task) and future.get_loop() is loop
        ]

    def _judge(self) -> None:
        talk = self.talk
        if not is_prefix(talk.at_server, talk.to_server) or not is_prefix(talk.at_client, talk.to_client):
            self.problems.append("what was delivered is not the beginning of what was sent")
        if self.time > (100 if self.stalls else 30):
            self.problems.append(f"it was over only at {self.time:g} s")
        verdict = judge_tls if self.tls else judge
        if self.server_endings or WIRES["server"].delivered or WIRES["server"].end is not None:
            if len(self.server_endings) != 1:
                self.problems.append(f"the server's endings: {self.server_endings}")
            else:
                (ending,) = self.server_endings
                if ending.cause is not Cause.REJECTED or self.shutdown_at is None:
                    self.problems += verdict(
                        "server",
                        WIRES["server"],
                        ending,
                        stalled=self.stalls,
                        # Of a handler it is a Close, of TLS that is not established it can only be the end.
                        aborted=self.tls and self.cancel_server.fired,
                    )
        if self.client_faults.failed == "connect":
            return
        if not self.cancelled or self.client is not None:
            self.problems += verdict(
                "client",
                WIRES["client"],
                self.client_ending,
                stalled=self.stalls,
                aborted=self.cancel_client.fired,
            )

    @property
    def points(self) -> dict[str, int]:
        """Where something could go wrong in this run."""
        return {
            "client": len(self.client_faults.operations),
            "server": len(self.server_faults.operations),
            "cancel client": self.cancel_client.waits,
            "cancel server": self.cancel_server.waits,
        }

    @property
    def is_whole(self) -> bool:
        """Everything that was to be said was heard, and both sides closed in order."""
        talk = self.talk
        (server,) = self.server_endings
        return (
            self.client_ending is not None
            and self.client_ending.clean
            and server.clean
            and talk.at_server == talk.to_server
            and talk.at_client == talk.to_client
        )


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """What exists by now need not be looked at after every run."""
    Run("echo", tls=True).play(pytest.MonkeyPatch())
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@ways
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("side", ["client", "server"])
def test_every_operation_fails(
    side: str, scenario: str, net: str, tls: bool, everything: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: dict[str, Callable[[], Any]] = dict(KINDS)
    if net not in SYSTEM:
        kinds["stall"] = lambda: Fault.STALL
    untouched = Run(scenario, net, tls).play(monkeypatch)
    chosen = choose(kinds, untouched.points[side], everything, f"{side} {scenario} {net} {tls}")
    reached = 0
    for kind, n in chosen:
        this = Run(scenario, net, tls, stalls=kind == "stall")
        faults = this.client_faults if side == "client" else this.server_faults
        faults.fail_at(n, kinds[kind]())
        with explained(f"{kind} at {side} operation {n}"):
            this.play(monkeypatch)
            if kind in HARMLESS:
                assert this.is_whole == untouched.is_whole
        reached += faults.fired
    swept["asyncio, operations"] += reached
    # TLS may need an operation more or less.
    assert reached >= 0.9 * len(chosen) >= 0.9 * SAMPLE


@ways
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("side", ["client", "server"])
def test_cancelled_at_every_await(
    side: str, scenario: str, net: str, tls: bool, everything: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = Run(scenario, net, tls).play(monkeypatch)
    reached = 0
    # In a sample each await is cancelled in one of the two ways.
    for turn in (0, 1) if everything else (0,):
        for cancel in sweep(lambda n, turn=turn: CancelAt(n, WHEN[(n + turn) % 2])):  # type: ignore[misc]
            this = Run(scenario, net, tls)
            setattr(this, f"cancel_{side}", cancel)
            with explained(f"cancelled at {side} await {cancel.waits}, turn {turn}"):
                this.play(monkeypatch)
                assert this.cancelled == this.cancel_client.fired
            reached += cancel.fired
    swept["asyncio, awaits"] += reached
    assert reached >= (2 if everything else 1) * untouched.points[f"cancel {side}"] > 0


@ways
@pytest.mark.parametrize("scenario", ["handshake", "echo", "server drains"])
def test_shutdown_cancelled_at_every_await(
    scenario: str, net: str, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = 0
    for at in (0.0, 0.5):
        for when in WHEN:
            for cancel in sweep(lambda n, when=when: CancelAt(n, when)):  # type: ignore[misc]
                this = Run(scenario, net, tls, shutdown_at=at, cancel_shutdown=cancel)
                with explained(f"shutdown at {at:g} s cancelled at await {cancel.waits}, on {when}"):
                    this.play(monkeypatch)
                reached += cancel.fired
    swept["asyncio, awaits"] += reached
    assert reached >= 4
