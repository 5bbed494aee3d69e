"""Open and close connections by the thousand with the garbage collector off, and look at what is left.

    python tests/cycles.py --count 10000 --adapter aio
    python tests/cycles.py --count 10000 --adapter aio --loop uvloop
    python tests/cycles.py --count 10000 --adapter sync
    python tests/cycles.py --count 10000 --adapter sync --tls

A connection ends in one of several ways, in turn: closed by the client or by the server, reset by a bare client in the
middle of a message, aborted by the server or by the client, dropped in the opening handshake, refused. With the
collector off a reference cycle is memory that does not come back, so memory that stays flat says that there is none.

asyncio's own transports are such cycles: a selector transport keeps bound methods of itself. How many objects that
makes is measured first, with asyncio alone, and subtracted. uvloop's are not.

`tests/test_cycles.py` runs a sample.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import gc
import importlib
import logging
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import framebuilder as fb
import wsframe
import wsframe.aio
import wsframe.sync
from adapterhelpers import descriptors, resident
from aiohelpers import client_context, server_context
from wsframe import Cause, Disconnected, Request, Response

#: What is larger than that is a leak: per cycle, in objects that the collector knows, and in total, in bytes. A
#: connection that is kept is about a hundred objects, and tens of thousands of bytes.
MAX_OBJECTS_PER_CYCLE = 0.1
MAX_GROWTH = 8 << 20
#: Bytes of one of the objects that asyncio keeps, on average and generously.
ASYNCIOS_OBJECT = 300

MESSAGE = "x" * 2000
#: A port at which nothing answers (RFC 863, which nobody has run for decades).
NOBODY = 9
DEADLINE = 30.0
#: Times that each way is gone before it counts.
WARM_UP = 5

#: How a connection may end, and what the server must say about it.
WAYS: dict[str, set[Cause]] = {
    "client closes": {Cause.CLOSE_HANDSHAKE},
    "server closes": {Cause.CLOSE_HANDSHAKE},
    "client resets": {Cause.RESET},
    "client vanishes with a FIN": {Cause.TRUNCATED},
    "server aborts": {Cause.LOCAL_ABORT},
    "client aborts": {Cause.EOF, Cause.RESET},
    "handler raises": {Cause.CLOSE_HANDSHAKE, Cause.LOCAL_ABORT},
    "dropped in the handshake": {Cause.TRUNCATED},
    "reset in the handshake": {Cause.RESET},
    "dropped before a byte": {Cause.EOF},
    "refused": {Cause.REJECTED},
    "broken frame": {Cause.PROTOCOL_ERROR},
    "nobody listens": set(),
}
#: The same over TLS, where an end without close_notify may or may not be told from a proper one.
TLS_WAYS: dict[str, set[Cause]] = {
    "client closes": {Cause.CLOSE_HANDSHAKE},
    "server closes": {Cause.CLOSE_HANDSHAKE},
    "server aborts": {Cause.LOCAL_ABORT},
    "client aborts": {Cause.EOF, Cause.RESET, Cause.TLS_ERROR},
    "handler raises": {Cause.CLOSE_HANDSHAKE},
    "refused": {Cause.REJECTED},
    "not trusted": {Cause.EOF, Cause.RESET, Cause.TLS_ERROR},
}


@dataclass
class Left:
    """What a run has left behind."""

    cycles: int
    seconds: float
    objects: int
    """That the garbage collector knows: so many more than before."""
    unreachable: int
    """Of those, only the collector can find."""
    asyncios: int
    """Of these, asyncio's own."""
    garbage: collections.Counter[str]
    resident: int
    blocks: int
    descriptors: int
    threads: int
    tasks: int = 0
    timers: int = 0

    def complaints(self) -> list[str]:
        """What is wrong with that."""
        allowed = MAX_OBJECTS_PER_CYCLE * self.cycles + 100
        wrong = [
            f"{count} {name} were kept" for name, count in self.garbage.items() if name.startswith("wsframe.")
        ]
        if self.objects - self.asyncios > allowed:
            wrong.append(
                f"{self.objects - self.asyncios} objects more than before, {allowed:.0f} are allowed"
            )
        if self.unreachable - self.asyncios > allowed:
            common = ", ".join(f"{count} {name}" for name, count in self.garbage.most_common(8))
            wrong.append(f"{self.unreachable} objects in reference cycles: {common}")
        if self.resident > MAX_GROWTH + self.asyncios * ASYNCIOS_OBJECT:
            wrong.append(f"{self.resident >> 10} KiB of memory more than before")
        counted = {name: getattr(self, name) for name in ("descriptors", "threads", "tasks", "timers")}
        return wrong + [f"{count} {name} are left" for name, count in counted.items() if count > 0]

    def __str__(self) -> str:
        return (
            f"{self.cycles} cycles in {self.seconds:.1f} s: objects {self.objects:+d}, in reference cycles"
            f" {self.unreachable} (asyncio's own: {self.asyncios}),"
            f" memory {self.resident / 1024:+.0f} KiB, allocated blocks {self.blocks:+d},"
            f" descriptors {self.descriptors:+d}, threads {self.threads:+d}, tasks {self.tasks:+d},"
            f" timers {self.timers:+d}"
        )


# Bare clients, for both adapters.


def _dial(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _upgraded(port: int, way: str) -> socket.socket:
    sock = _dial(port)
    sock.sendall(fb.client_handshake_request("/" + way.replace(" ", "-")))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = sock.recv(4096)
        assert data, head
        head += data
    return sock


def bare(port: int, way: str) -> None:
    """What a client does that is no wsframe."""
    if way == "dropped before a byte":
        _dial(port).close()
        return
    request = fb.client_handshake_request()
    if way in ("dropped in the handshake", "reset in the handshake"):
        sock = _dial(port)
        sock.sendall(request[: len(request) // 2])
        if way.startswith("reset"):
            _reset(sock)
        else:
            sock.close()
        return
    sock = _upgraded(port, way)
    message = fb.build(fb.TEXT, MESSAGE.encode(), mask=fb.SAMPLE_MASK)
    if way == "broken frame":
        sock.sendall(fb.build(3, b"", mask=fb.SAMPLE_MASK))
        while sock.recv(4096):
            pass
        sock.close()
        return
    sock.sendall(message[: len(message) // 2])
    if way == "client resets":
        _reset(sock)
    else:
        sock.close()


BARE = {
    "client resets",
    "client vanishes with a FIN",
    "dropped in the handshake",
    "reset in the handshake",
    "dropped before a byte",
    "broken frame",
}

OPTIONS: dict[str, Any] = {"ping_interval": 5.0, "close_timeout": 5.0, "open_timeout": 20.0}


def _refuse(request: Request) -> Response | None:
    return Response(403, body=b"no") if request.target == "/refused" else None


# What is measured.


def _state() -> tuple[int, int, int, int, int]:
    return (
        len(gc.get_objects()),
        resident(),
        sys.getallocatedblocks(),
        descriptors(),
        threading.active_count(),
    )


def _unreachable() -> tuple[int, collections.Counter[str]]:
    """What only the collector can find, by type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        kinds = collections.Counter(
            f"{type(item).__module__}.{type(item).__qualname__}" for item in gc.garbage
        )
        return len(gc.garbage), kinds
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _difference(before: tuple[int, ...], cycles: int, seconds: float, per_transport: float = 0.0) -> Left:
    objects, resident, blocks, descriptors, threads = (
        now - then for now, then in zip(_state(), before, strict=True)
    )
    unreachable, garbage = _unreachable()
    asyncios = int(garbage[_TRANSPORT] * per_transport)
    return Left(
        cycles, seconds, objects, unreachable, asyncios, garbage, resident, blocks, descriptors, threads
    )


def _check_endings(way: str, causes: set[Cause], endings: list[Disconnected]) -> None:
    if causes:
        (ending,) = endings
        assert ending.cause in causes, f"{way}: {ending}"


def _client_arguments(port: int, way: str, tls: bool) -> tuple[str, dict[str, Any]]:
    """A URI and keyword arguments for ``connect``."""
    address = f"127.0.0.1:{NOBODY if way == 'nobody listens' else port}/{way.replace(' ', '-')}"
    if not tls:
        return f"ws://{address}", OPTIONS
    trusting = {} if way == "not trusted" else {"ssl": client_context()}
    return f"wss://{address}", OPTIONS | trusting


# asyncio.

_TRANSPORT = "asyncio.selector_events._SelectorSocketTransport"


async def _asyncio_alone() -> float:
    """How many objects asyncio leaves in reference cycles for each of its transports, without wsframe."""
    loop = asyncio.get_running_loop()
    lost: asyncio.Queue[None] = asyncio.Queue()

    class Protocol(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(100)

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def connection_lost(self, exc: Exception | None) -> None:
            lost.put_nowait(None)

    server = await loop.create_server(Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with _uncollected():
        for _ in range(20):
            sock = socket.socket()
            sock.setblocking(False)
            await loop.sock_connect(sock, address)
            transport, _ = await loop.create_connection(Protocol, sock=sock)
            transport.close()
            await lost.get()
            await lost.get()
            del transport, sock
        unreachable, garbage = _unreachable()
    server.close()
    return unreachable / garbage[_TRANSPORT] if garbage[_TRANSPORT] else 0.0


async def _aio_server_side(ws: Any) -> None:
    match ws.request.target:
        case "/server-closes":
            return
        case "/server-aborts":
            ws.abort()
        case "/handler-raises":
            raise wsframe.WsframeError("as it is meant to be")
    with contextlib.suppress(wsframe.aio.ConnectionClosed):
        async for message in ws:
            await ws.send(message)


async def _aio_cycle(port: int, way: str, endings: list[Disconnected], tls: bool) -> None:
    causes = (TLS_WAYS if tls else WAYS)[way]
    if way in BARE:
        await asyncio.get_running_loop().run_in_executor(None, bare, port, way)
    else:
        uri, options = _client_arguments(port, way, tls)
        with contextlib.suppress(wsframe.aio.ConnectError, wsframe.aio.ConnectionClosed):
            ws = await wsframe.aio.connect(uri, **options)
            if way in ("client closes", "client aborts"):
                await ws.send(MESSAGE)
                assert await ws.recv() == MESSAGE
            if way == "client closes":
                await ws.close()
            elif way == "client aborts":
                ws.abort()
            await ws.wait_closed()
    async with asyncio.timeout(DEADLINE):
        while causes and not endings:  # noqa: ASYNC110 - told by a plain function
            await asyncio.sleep(0.0005)
    _check_endings(way, causes, endings)
    endings.clear()


async def aio_cycles(
    count: int, report: Callable[[int], None] = lambda _: None, *, tls: bool = False
) -> Left:
    """So many connections on asyncio; what they have left behind, the server still running."""
    loop = asyncio.get_running_loop()
    endings: list[Disconnected] = []

    def on_end(request: Request | None, address: Any, ending: Disconnected) -> None:
        endings.append(ending)

    async def settle() -> None:
        # What a handler, a thread of the executor and a transport still have to do after the end.
        for _ in range(20):
            await asyncio.sleep(0.001)

    serving = wsframe.aio.serve(
        _aio_server_side,
        "127.0.0.1",
        0,
        ssl=server_context() if tls else None,
        on_request=_refuse,
        on_end=on_end,
        **OPTIONS,
    )
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
    per_transport = await _asyncio_alone()
    async with serving as server:
        port = server.sockets[0].getsockname()[1]
        ways = list(TLS_WAYS if tls else WAYS)
        for turn in range(WARM_UP * len(ways)):
            await _aio_cycle(port, ways[turn % len(ways)], endings, tls)
        await settle()
        with _uncollected():
            before, began = _state(), time.monotonic()
            timers = _timers(loop)
            for turn in range(count):
                await _aio_cycle(port, ways[turn % len(ways)], endings, tls)
                report(turn)
            await settle()
            left = _difference(before, count, time.monotonic() - began, per_transport)
            left.tasks = len(asyncio.all_tasks()) - 1
            left.timers = _timers(loop) - timers
    return left


def _timers(loop: asyncio.AbstractEventLoop) -> int:
    """Handles that wait for their time and were not cancelled; where the loop lets us look."""
    return sum(not handle.cancelled() for handle in getattr(loop, "_scheduled", ()))


# Blocking.


def _sync_server_side(ws: Any) -> None:
    match ws.request.target:
        case "/server-closes":
            return
        case "/server-aborts":
            ws.abort()
        case "/handler-raises":
            raise wsframe.WsframeError("as it is meant to be")
    with contextlib.suppress(wsframe.sync.ConnectionClosed):
        for message in ws:
            ws.send(message)


def _sync_cycle(port: int, way: str, endings: list[Disconnected], tls: bool) -> None:
    causes = (TLS_WAYS if tls else WAYS)[way]
    if way in BARE:
        bare(port, way)
    else:
        uri, options = _client_arguments(port, way, tls)
        with contextlib.suppress(wsframe.sync.ConnectError, wsframe.sync.ConnectionClosed):
            ws = wsframe.sync.connect(uri, **options)
            if way in ("client closes", "client aborts"):
                ws.send(MESSAGE)
                assert ws.recv() == MESSAGE
            if way == "client closes":
                ws.close()
            elif way == "client aborts":
                ws.abort()
            ws.wait_closed()
    end = time.monotonic() + DEADLINE
    while causes and not endings:
        assert time.monotonic() < end, f"{way}: the server has not heard of the end"
        time.sleep(0.0005)
    _check_endings(way, causes, endings)
    endings.clear()


def sync_cycles(count: int, report: Callable[[int], None] = lambda _: None, *, tls: bool = False) -> Left:
    """The same with blocking sockets."""
    endings: list[Disconnected] = []

    def on_end(request: Request | None, address: Any, ending: Disconnected) -> None:
        endings.append(ending)

    with wsframe.sync.serve(
        _sync_server_side,
        "127.0.0.1",
        0,
        ssl=server_context() if tls else None,
        on_request=_refuse,
        on_end=on_end,
        **OPTIONS,
    ) as server:
        port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            ways = list(TLS_WAYS if tls else WAYS)
            for turn in range(WARM_UP * len(ways)):
                _sync_cycle(port, ways[turn % len(ways)], endings, tls)
            threads = 2
            _wait_for_threads(threads)
            with _uncollected():
                before, began = _state(), time.monotonic()
                for turn in range(count):
                    _sync_cycle(port, ways[turn % len(ways)], endings, tls)
                    report(turn)
                _wait_for_threads(threads)
                left = _difference(before, count, time.monotonic() - began)
        finally:
            server.close()
            thread.join()
    return left


def _wait_for_threads(count: int) -> None:
    """Until only so many are left: a connection's thread has a little to do after on_end."""
    end = time.monotonic() + DEADLINE
    while threading.active_count() > count:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.001)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Handlers that raise are in the log; that is tested elsewhere."""
    logger = logging.getLogger("wsframe")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def main() -> int:
    parser = argparse.ArgumentParser(description="Open and close connections, and look at what is left.")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--adapter", choices=["aio", "sync"], default="aio")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="for aio")
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()

    def report(turn: int) -> None:
        if (turn + 1) % 1000 == 0:
            print(f"{turn + 1} cycles, {resident() >> 10} KiB", flush=True)

    with quiet():
        if arguments.adapter == "aio":
            factory = importlib.import_module(arguments.loop).new_event_loop
            with asyncio.Runner(loop_factory=factory) as runner:
                left = runner.run(aio_cycles(arguments.count, report, tls=arguments.tls))
        else:
            left = sync_cycles(arguments.count, report, tls=arguments.tls)
    print(f"wsframe.{arguments.adapter}, codec {wsframe.backend}: {left}")
    complaints = left.complaints()
    print(*complaints, sep="\n", end="\n" if complaints else "")
    return bool(complaints)


if __name__ == "__main__":
    sys.exit(main())
