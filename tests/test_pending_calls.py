"""However a connection ends, whatever waits for it wakes with the same ending: {call} x {way to end} x {adapter}."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from framebuilder import TEXT
from sides import AioSide, Side, side
from synchelpers import DEADLINE, Job, Listener, Raw, open_raw, until
from wsframe import Cause, Disconnected, Role

__all__ = ["side"]

#: More than the systems take for a peer that does not read.
MUCH = 6 << 20

WRITING = ("send", "drain", "ping")
both_roles = pytest.mark.parametrize("role", Role)

CALLS = ("recv", "iteration", *WRITING, "pong", "wait_closed", "callback")


def call(side: Side, name: str, ws: Any) -> Callable[[], Any]:
    """A function that waits in one of the methods."""

    async def iterate() -> list[Any]:
        return [message async for message in ws]

    async def pong() -> Any:
        return await (await ws.ping())

    called: list[Any] = []

    async def callback() -> Any:
        ws.add_done_callback(called.append)
        await ws.wait_closed()
        return called

    def callback_of_a_thread() -> Any:
        ws.add_done_callback(called.append)
        ws.wait_closed()
        return called

    on_loop = isinstance(side, AioSide)
    return {
        "recv": lambda: ws.recv(),
        "iteration": iterate if on_loop else lambda: list(ws),
        "send": lambda: ws.send("one more"),
        "drain": lambda: ws.drain(),
        "ping": lambda: ws.ping(),
        "pong": pong if on_loop else lambda: ws.ping().wait(),
        "close": lambda: ws.close(4000),
        "wait_closed": lambda: ws.wait_closed(),
        "callback": callback if on_loop else callback_of_a_thread,
    }[name]


@dataclass(frozen=True)
class Way:
    """A way to end.

    Attributes:
        cause: what the ending is called.
        happen: does it.
        writing: the cause where output cannot leave, if it is another.
        options: of ``connect``.
        answers: the peer answers a Close, and takes what comes before.
        ok: it is a good end.
    """

    cause: Cause
    happen: Callable[[Side, Any, Raw], object] = lambda side, ws, raw: None
    writing: Cause | None = None
    options: dict[str, Any] = field(default_factory=dict)
    answers: bool = False
    ok: bool = False


def read_to_the_end(raw: Raw) -> None:
    """Be a peer that closes in order."""
    while raw.sock.recv(1 << 16):
        pass


def close(code: int | None) -> Callable[[Side, Any, Raw], object]:
    def happen(side: Side, ws: Any, raw: Raw) -> object:
        raw.send_close(code)
        raw.shutdown()
        return Job(read_to_the_end, raw)

    return happen


def close_by_us(side: Side, ws: Any, raw: Raw) -> object:
    side.do(ws.start_closing)
    return close(1000)(side, ws, raw)


def talk(side: Side, ws: Any, raw: Raw) -> object:
    """Say something all the time, and never read."""

    def run() -> None:
        while ws.ending is None:
            raw.send_frame(10)
            time.sleep(0.01)

    return Job(run)


WAYS = {
    "silence": Way(
        Cause.PING_TIMEOUT, writing=Cause.SLOW_PEER, options={"ping_interval": 0.1, "ping_timeout": 0.1}
    ),
    "no heartbeat": Way(Cause.PING_TIMEOUT, writing=Cause.SLOW_PEER, options={"heartbeat": 0.15}),
    "idle": Way(Cause.IDLE_TIMEOUT, options={"idle_timeout": 0.15}),
    "reset": Way(Cause.RESET, lambda side, ws, raw: raw.reset()),
    "end of stream": Way(Cause.EOF, lambda side, ws, raw: raw.shutdown()),
    "protocol error": Way(Cause.PROTOCOL_ERROR, lambda side, ws, raw: raw.send_frame(3)),
    "close 1000": Way(Cause.CLOSE_HANDSHAKE, close(1000), answers=True, ok=True),
    "close 1001": Way(Cause.CLOSE_HANDSHAKE, close(1001), answers=True, ok=True),
    "close without code": Way(Cause.CLOSE_HANDSHAKE, close(None), answers=True, ok=True),
    "close 4000": Way(Cause.CLOSE_HANDSHAKE, close(4000), answers=True),
    "our close": Way(Cause.CLOSE_HANDSHAKE, close_by_us, answers=True, ok=True),
    "our close, no answer": Way(Cause.CLOSE_TIMEOUT, lambda side, ws, raw: side.do(ws.start_closing)),
    "abort": Way(Cause.LOCAL_ABORT, lambda side, ws, raw: side.do(ws.abort)),
}

WRITING_WAYS = {
    "takes nothing and talks": Way(Cause.SLOW_PEER, talk, options={"write_timeout": 0.2}),
}


def outcome(pending: Any) -> Any:
    """What a call has returned, or the exception it has raised."""
    try:
        return pending.result()
    except Exception as exc:
        return exc


def check(side: Side, name: str, ws: Any, result: Any, ok: bool) -> None:
    """The call has ended as it should."""
    good, bad = side.module.ConnectionClosedOK, side.module.ConnectionClosedError
    assert isinstance(ws.ending, Disconnected)
    if name == "wait_closed":
        assert result is ws.ending
    elif name == "close":
        assert result is None
    elif name == "callback":
        assert result == [ws]
    elif name == "iteration" and ok:
        assert result == []
    else:
        assert type(result) is (good if ok else bad), result
        assert result.ending is ws.ending


@contextlib.contextmanager
def opened(side: Side, role: Role, writing: bool, options: dict[str, Any]) -> Iterator[tuple[Any, Raw]]:
    """A connection of ours in that role, and the bare socket at its other end."""
    receive_buffer = 4096 if writing else None
    if role is Role.CLIENT:
        with Listener(receive_buffer) as listener:
            connecting = side.start(lambda: side.module.connect(listener.uri, **options))
            with listener.accept() as raw:
                raw.accept_websocket()
                yield connecting.result(), raw
        return
    sockets: list[Any] = []
    over = threading.Event()

    async def wait_on_loop(ws: Any) -> None:
        sockets.append(ws)
        await ws.wait_closed()

    def wait_in_thread(ws: Any) -> None:
        # Those who wait have nobody to do it for them.
        sockets.append(ws)
        over.wait(DEADLINE)

    server = side.serve((wait_on_loop, wait_in_thread), **options)
    try:
        with open_raw(server.server, receive_buffer=receive_buffer) as raw:
            until(lambda: sockets)
            yield sockets[0], raw
    finally:
        over.set()
    assert server.ending() is sockets[0].ending


def run(side: Side, way: Way, names: tuple[str, ...], cause: Cause, role: Role = Role.CLIENT) -> Any:
    """Open a connection, begin with those calls, let it end, and look at what became of them."""
    writing = any(name in WRITING for name in names)
    patience = DEADLINE if way.answers else 0.2
    options: dict[str, Any] = {"ping_interval": None, "close_timeout": patience, **way.options}
    with opened(side, role, writing, options) as (ws, raw):
        pending = {}
        if writing:
            pending["first"] = side.start(ws.send, bytes(MUCH))
            # It is with the connection, or has gone where somebody would have to read it.
            until(lambda: ws._connection.buffered)
        for name in names:
            pending[name] = side.start(call(side, name, ws))
        time.sleep(0.02)
        if not way.options:
            assert [name for name in names if not pending[name].waits] == []
        helper = way.happen(side, ws, raw)
        results = {name: outcome(waiting) for name, waiting in pending.items()}
        if isinstance(helper, Job):
            helper.result()
    assert ws.ending.cause is cause, ws.ending
    for name in names:
        check(side, name, ws, results[name], way.ok)
    # And whatever is called now ends in the same way.
    for name in (*CALLS, "close"):
        check(side, name, ws, outcome(side.start(call(side, name, ws))), way.ok)
    return ws.ending


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("side", ["asyncio", "sync"], indirect=True)
def test_a_call_that_waits_wakes_with_the_ending(side: Side, name: str, way: str) -> None:
    cause = WAYS[way].cause
    if name in WRITING:
        cause = WAYS[way].writing or cause
    run(side, WAYS[way], (name,), cause)


@pytest.mark.parametrize("name", WRITING)
def test_a_peer_that_talks_and_never_reads_does_not_hold_a_sender_for_ever(side: Side, name: str) -> None:
    ending = run(side, WRITING_WAYS["takes nothing and talks"], (name,), Cause.SLOW_PEER)
    assert (ending.clean, ending.code) == (False, 1006)


@pytest.mark.parametrize(
    "way", ["reset", "end of stream", "close 4000", "protocol error", "our close, no answer", "abort"]
)
def test_a_close_that_waits(side: Side, way: str) -> None:
    cause = {
        "our close, no answer": Cause.CLOSE_TIMEOUT,
        "close 4000": Cause.CLOSE_HANDSHAKE,
    }.get(way, WAYS[way].cause)
    run(side, WAYS[way], ("close",), cause)


@pytest.mark.parametrize("way", ["silence", "no heartbeat", "reset", "close 1000", "close 4000", "abort"])
@both_roles
def test_all_of_them_at_once(side: Side, way: str, role: Role) -> None:
    run(side, WAYS[way], ("recv", "pong", "wait_closed", "callback"), WAYS[way].cause, role)


@pytest.mark.parametrize("way", ["silence", "takes nothing and talks", "reset", "abort"])
@both_roles
def test_all_that_write_at_once(side: Side, way: str, role: Role) -> None:
    chosen = (WAYS | WRITING_WAYS)[way]
    run(side, chosen, ("send", "drain", "ping", "recv", "wait_closed"), chosen.writing or chosen.cause, role)


def test_what_was_received_before_can_still_be_read(side: Side) -> None:
    with Listener() as listener:
        connecting = side.start(lambda: side.module.connect(listener.uri, ping_interval=None))
        with listener.accept() as raw:
            raw.accept_websocket()
            ws = connecting.result()
            for number in range(5):
                raw.send_frame(TEXT, b"%d" % number)
            raw.send_close(4000)
            raw.shutdown()
            assert side.do(ws.recv) == "0"
            side.do(ws.wait_closed)
            assert [side.do(ws.recv) for _ in range(4)] == ["1", "2", "3", "4"]
            check(side, "recv", ws, outcome(side.start(ws.recv)), False)
            raw.sock.settimeout(DEADLINE)
