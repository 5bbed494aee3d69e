"""Everything that can fail in the adapter for blocking sockets does, once at every point.

Scenarios run over sockets of the system whose first, second, ... n-th operation fails in every way; with Ctrl-C in the
first, second, ... n-th operation, waiting in poll included; and with the first, second, ... n-th call of the
application timing out. After every run there is exactly one ending on each side, and the true one; what was delivered
is the beginning of what was sent; no thread and no descriptor is left, and nothing is logged. A run samples the kinds
of failures; ``--sweep=all`` takes them all.
"""

from __future__ import annotations

import gc
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from adapterhelpers import descriptors
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
from synchelpers import DEADLINE, Job, client_context, server_context, until
from wsframe import Disconnected
from wsframe.sync import ConnectError, ConnectionClosed, WebSocket, connect, serve
from wsframe.sync import _driver as driver_module
from wsframe.sync import _transport as transport_module
from wsframe.sync._poll import wait_ready
from wsframe.testing import Faults

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs AF_UNIX sockets without names")

#: A message that takes several writes, and several reads.
LARGE = "fragment " * 30_000

#: Python itself repeats a system call that a signal has interrupted.
SYNC_KINDS = {name: kind for name, kind in KINDS.items() if name != "interrupted"}


@dataclass
class Talk:
    """What was sent and received by the applications of a run, and which call loses its patience."""

    to_server: list[Any] = field(default_factory=list)
    at_server: list[Any] = field(default_factory=list)
    to_client: list[Any] = field(default_factory=list)
    at_client: list[Any] = field(default_factory=list)
    impatient_side: str | None = None
    impatient_call: int = 0
    calls: dict[str, int] = field(default_factory=lambda: {"client": 0, "server": 0})

    def _call(self, ws: WebSocket, function: Callable[..., Any], *arguments: Any) -> Any:
        side = ws.role.value
        self.calls[side] += 1
        if side == self.impatient_side and self.calls[side] == self.impatient_call:
            try:
                return function(*arguments, timeout=0)
            except TimeoutError as exc:
                if "it is queued" in str(exc):
                    return None
        return function(*arguments)

    def say(self, ws: WebSocket, message: str | bytes) -> None:
        (self.to_server if ws.role.value == "client" else self.to_client).append(message)
        self._call(ws, ws.send, message)

    def hear(self, ws: WebSocket) -> Any:
        message = self._call(ws, ws.recv)
        (self.at_client if ws.role.value == "client" else self.at_server).append(message)
        return message

    def wait(self, ws: WebSocket) -> None:
        self._call(ws, ws.wait_closed)

    def ping(self, ws: WebSocket) -> None:
        pong = self._call(ws, ws.ping)
        if pong is not None:
            self._call(ws, pong.wait)


Side = Callable[[WebSocket, Talk], None]


def echo(ws: WebSocket, talk: Talk) -> None:
    while True:
        talk.say(ws, talk.hear(ws))


def nothing(ws: WebSocket, talk: Talk) -> None:
    pass


def wait(ws: WebSocket, talk: Talk) -> None:
    talk.wait(ws)


def ask(ws: WebSocket, talk: Talk) -> None:
    for message in ("one", b"two", ""):
        talk.say(ws, message)
        assert talk.hear(ws) == message
    talk.ping(ws)


def ask_much(ws: WebSocket, talk: Talk) -> None:
    talk.say(ws, LARGE)
    assert talk.hear(ws) == LARGE


def pour(ws: WebSocket, talk: Talk) -> None:
    for number in range(8):
        talk.say(ws, bytes([number]) * 60_000)


def drink(ws: WebSocket, talk: Talk) -> None:
    while True:
        talk.hear(ws)


def close(ws: WebSocket, talk: Talk) -> None:
    talk.say(ws, "last words")
    ws.close(4000, "enough")


def say_and_wait(ws: WebSocket, talk: Talk) -> None:
    talk.say(ws, b"unread" * 2000)
    talk.wait(ws)


def ask_with_two_threads(ws: WebSocket, talk: Talk) -> None:
    """One receives while the other sends."""

    def listen() -> None:
        for _ in range(6):
            talk.hear(ws)

    listener = Job(listen)
    try:
        for number in range(6):
            talk.say(ws, bytes([number]) * 30_000)
    finally:
        listener.thread.join(DEADLINE)
    listener.result()


#: name -> what the client does, and what the handler does.
SCENARIOS: dict[str, tuple[Side, Side]] = {
    "handshake": (nothing, wait),
    "echo": (ask, echo),
    "large": (ask_much, echo),
    "client closes": (close, say_and_wait),
    "server closes": (say_and_wait, close),
    "both close": (close, close),
    "client drains": (pour, drink),
    "server drains": (drink, pour),
    "two threads": (ask_with_two_threads, echo),
}

#: The three kinds of transports.
TRANSPORTS = ["plain", "polled", "tls"]


@dataclass
class Run:
    """One run of a scenario, and what came of it."""

    scenario: str
    transport: str = "plain"
    client_faults: Faults = field(default_factory=Faults)
    server_faults: Faults = field(default_factory=Faults)
    counts_polls: bool = False
    talk: Talk = field(default_factory=Talk)
    client: WebSocket | ConnectError | None = None
    client_exception: BaseException | None = None
    server_endings: list[Disconnected] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def play(self, monkeypatch: pytest.MonkeyPatch) -> Run:
        WIRES.update(client=Wire(threads=self.scenario == "two threads"), server=Wire())
        threads, before = set(threading.enumerate()), descriptors()
        with monkeypatch.context() as patch, Records() as records:
            # What waits behind unread messages does so for a second otherwise.
            patch.setattr(driver_module, "_UNREAD_WAIT", 0.05)
            if self.transport == "plain":
                # A socket with faults has methods of its own, and is taken for somebody else's.
                patch.setattr(transport_module, "_is_plain", lambda sock: True)
            if self.counts_polls:
                patch.setattr(driver_module, "wait_ready", self._counting(wait_ready))
            self._main(threads)
        self.problems += records.texts
        self.problems += [f"a thread is left: {thread}" for thread in set(threading.enumerate()) - threads]
        self.problems += [f"left open: {sock}" for sock in leftovers(RecordingSocket) if sock.fileno() != -1]
        if descriptors() > before:
            gc.collect()
            self.problems.append(f"{descriptors() - before} descriptors are left open")
        self._judge()
        operations = f"client {self.client_faults.operations}, server {self.server_faults.operations}"
        assert not self.problems, "\n".join([operations, *self.problems])
        return self

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Waiting in poll is an operation of the client's, too."""

        def counted(*arguments: Any) -> Any:
            if threading.current_thread().name == "client":
                self.client_faults.begin("poll")
            return function(*arguments)

        return counted

    def _main(self, threads: set[threading.Thread]) -> None:
        handler = SCENARIOS[self.scenario][1]
        listener, sock = system_sockets()
        server = serve(
            lambda ws: handler(ws, self.talk),
            sock=RecordingListener(listener, self.server_faults),
            ssl=server_context("localhost") if self.transport == "tls" else None,
            on_end=lambda request, address, ending: self.server_endings.append(ending),
            ping_interval=None,
            close_timeout=5,
        )
        accepting = Job(server.serve_forever)
        try:
            client = Job(self._client, RecordingSocket(sock, self.client_faults), name="client")
            client.result()
            # The server's side ends by itself.
            ours = threads | {accepting.thread}
            until(lambda: self.server_endings or self.server_faults.failed == "getsockname")
            until(lambda: set(threading.enumerate()) <= ours)
        finally:
            server.close()
            accepting.result()

    def _client(self, sock: RecordingSocket) -> None:
        tls = self.transport == "tls"
        try:
            with connect(
                "wss://localhost/" if tls else "ws://localhost/",
                sock=sock,
                ssl=client_context() if tls else None,
                ping_interval=None,
                close_timeout=5,
            ) as ws:
                self.client = ws
                SCENARIOS[self.scenario][0](ws, self.talk)
        except ConnectError as exc:
            self.client = exc
        except ConnectionClosed as exc:
            if exc.ending is not self.client_ending:
                self.problems.append("the exception has another ending than the connection")
        except KeyboardInterrupt as exc:
            self.client_exception = exc

    @property
    def client_ending(self) -> Disconnected | None:
        return None if self.client is None else self.client.ending

    def _judge(self) -> None:
        talk = self.talk
        if not is_prefix(talk.at_server, talk.to_server) or not is_prefix(talk.at_client, talk.to_client):
            self.problems.append("what was delivered is not the beginning of what was sent")
        verdict = judge_tls if self.transport == "tls" else judge
        server = WIRES["server"]
        if self.server_endings or server.delivered or server.end is not None:
            if len(self.server_endings) != 1:
                self.problems.append(f"the server's endings: {self.server_endings}")
            else:
                (ending,) = self.server_endings
                self.problems += verdict("server", server, ending, stalled=False, aborted=False)
        interrupted = self.client_exception is not None
        if not interrupted or self.client is not None:
            self.problems += verdict(
                "client", WIRES["client"], self.client_ending, stalled=False, aborted=interrupted
            )

    @property
    def points(self) -> dict[str, int]:
        """Where something could go wrong in this run."""
        return {"client": len(self.client_faults.operations), "server": len(self.server_faults.operations)}

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
    Run("echo", "tls").play(pytest.MonkeyPatch())
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("side", ["client", "server"])
def test_every_operation_fails(
    side: str, scenario: str, transport: str, everything: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = Run(scenario, transport).play(monkeypatch)
    chosen = choose(SYNC_KINDS, untouched.points[side], everything, f"{side} {scenario} {transport}")
    reached = 0
    for kind, n in chosen:
        this = Run(scenario, transport)
        faults = this.client_faults if side == "client" else this.server_faults
        faults.fail_at(n, SYNC_KINDS[kind]())
        with explained(f"{kind} at {side} operation {n}"):
            this.play(monkeypatch)
            if kind in HARMLESS and faults.failed in ("recv", "send"):
                assert this.is_whole == untouched.is_whole
        reached += faults.fired
    swept["blocking, operations"] += reached
    # How much one receive finds is the scheduler's to say.
    assert reached >= 0.25 * len(chosen) >= 0.25 * SAMPLE


@pytest.mark.parametrize("transport", TRANSPORTS)
# Ctrl-C comes in one thread, and what another one makes of it is its own affair.
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "two threads"])
def test_interrupted_in_every_operation(
    scenario: str, transport: str, everything: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = Run(scenario, transport, counts_polls=True).play(monkeypatch)
    chosen = choose(["Ctrl-C"], untouched.points["client"], everything, f"{scenario} {transport}")
    reached = 0
    for _, n in chosen:
        this = Run(scenario, transport, counts_polls=True)
        this.client_faults.fail_at(n, KeyboardInterrupt())
        with explained(f"Ctrl-C in operation {n}"):
            this.play(monkeypatch)
        reached += this.client_faults.fired
    swept["blocking, Ctrl-C"] += reached
    assert reached >= 0.25 * len(chosen) > 0


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != "handshake"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_every_call_of_the_application_times_out(
    side: str, scenario: str, transport: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = Run(scenario, transport).play(monkeypatch)
    reached = 0
    for n in itertools.count(1):
        this = Run(scenario, transport, talk=Talk(impatient_side=side, impatient_call=n))
        with explained(f"a timeout in the {side}'s call {n}"):
            this.play(monkeypatch)
            assert this.is_whole == untouched.is_whole
        if this.talk.calls[side] < n:
            break
        reached += 1
    swept["blocking, calls"] += reached
    assert reached
