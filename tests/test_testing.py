"""The kit for tests, `wsframe.testing`: its clock, its network in memory, its peers, and what it lets go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
import time
from typing import Any

import pytest

from aiohelpers import client_context, echo, server_context
from wsframe import Cause, Opcode, Role
from wsframe.aio import ConnectionClosedError, ConnectLost, ConnectTimeout, WebSocket, connect, serve
from wsframe.testing import (
    BlockingPeer,
    CancelAt,
    Deadlock,
    Fault,
    Faults,
    FaultyListener,
    FaultySocket,
    Peer,
    VirtualClockLoop,
    connected,
    listen,
    pair,
    run,
    sweep,
)


def network() -> Any:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return loop.network


# The clock.


def test_nobody_sleeps() -> None:
    order: list[tuple[str, float]] = []

    async def sleeper(name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        order.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(sleeper("day", 86400.5), sleeper("hour", 3600), sleeper("soon", 0.25))

    begun = time.monotonic()
    run(main(), timeout=100_000)
    assert order == [("soon", 0.25), ("hour", 3600.0), ("day", 86400.5)]
    assert time.monotonic() - begun < 60


def test_a_deadlock_is_told() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match=r"waiting for ever: .*test_testing\.py:\d+"):
        run(main())


def test_what_goes_on_for_ever_ends() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110 - it is what is tested
            await asyncio.sleep(7)

    with pytest.raises(TimeoutError, match="not done after 100 s of virtual time"):
        run(main(), timeout=100)


def test_what_spins_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from wsframe.testing import _clock

    monkeypatch.setattr(_clock, "_MAX_TURNS", 1000)

    async def main() -> None:
        while True:  # noqa: ASYNC110 - it is what is tested
            await asyncio.sleep(0)

    with pytest.raises(Deadlock, match="something spins"):
        run(main())


def test_an_exception_comes_out() -> None:
    async def main() -> None:
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        run(main())


def test_time_stands_still_for_threads() -> None:
    async def main() -> float:
        timer = asyncio.get_running_loop().call_later(5, pytest.fail, "time has passed")
        await asyncio.to_thread(time.sleep, 0.05)
        timer.cancel()
        return asyncio.get_running_loop().time()

    assert run(main()) == 0.0


def test_timers_that_are_set() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        kept, gone = loop.call_later(5, int), loop.call_later(5, int)
        gone.cancel()
        assert loop.timers == [kept]
        await asyncio.sleep(6)
        assert loop.timers == []

    run(main())


# The network.


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_client_and_a_server_in_memory(tls: bool) -> None:
    async def main() -> None:
        async with serve(
            echo, "localhost", 443, ssl=server_context("any.example") if tls else None
        ) as server:
            assert server.sockets[0].getsockname() == ("127.0.0.1", 443)
            uri = "wss://any.example/" if tls else "ws://any.example:443/"
            async with connect(uri, ssl=client_context() if tls else None) as ws:
                for message in ("text", b"bytes" * 100_000, ""):
                    await ws.send(message)
                    assert await ws.recv() == message
            assert ws.ending is not None
            assert ws.ending.clean
        assert not network().transports

    run(main())


def test_nobody_listens() -> None:
    async def main() -> None:
        with pytest.raises(ConnectLost) as caught:
            await connect("ws://localhost:1/")
        assert isinstance(caught.value.ending.error, ConnectionRefusedError)
        async with serve(echo, None, 80):
            with pytest.raises(OSError, match="taken"):
                await serve(echo, None, 80)
        async with serve(echo, None, 80):
            pass

    run(main())


def test_latency_is_half_a_round_trip() -> None:
    async def main() -> None:
        network().latency = 0.25
        async with connected(echo) as ws:
            assert await (await ws.ping()) == 0.5

    run(main())


def test_a_narrow_network_loses_nothing() -> None:
    async def main() -> None:
        network().capacity = 10
        async with connected(echo) as ws:
            await ws.send("x" * 5000)
            assert await ws.recv() == "x" * 5000

    run(main())


def test_closing_with_unread_input_resets() -> None:
    async def main() -> None:
        async with listen() as listener:
            async with asyncio.TaskGroup() as group:
                client = group.create_task(_opened(listener.uri))
                peer = await listener.accept()
                await peer.accept()
            ws = client.result()
            ws._channel.transport.pause_reading()  # type: ignore[union-attr]
            await peer.send_frame("unread")
            ws.abort()
            with pytest.raises(ConnectionResetError):
                await peer.expect_eof()
            await peer.close()

    run(main())


async def _opened(uri: str) -> WebSocket:
    return await connect(uri)


def test_keepalive_in_no_time() -> None:
    async def main() -> None:
        async with serve(echo, None, 80, ping_interval=None):
            async with connect("ws://localhost/") as ws:
                await asyncio.sleep(1000)
                assert ws.latency is not None
            async with await Peer.connect("ws://localhost/") as peer:
                await asyncio.sleep(1000)
                await peer.send_frame("still there?")
                await peer.expect_frame("still there?")

    run(main())


# Pairs.


def test_a_pair() -> None:
    async def main() -> None:
        async with pair(subprotocols=["a"], server_options={"subprotocols": ["a"]}) as (client, server):
            assert client.subprotocol == server.subprotocol == "a"
            await client.send("there")
            assert await server.recv() == "there"
            await server.send(b"back")
            assert await client.recv() == b"back"
        assert client.ending is not None
        assert server.ending is not None
        assert client.ending.clean
        assert server.ending.clean

    run(main())


def test_a_pair_works_on_any_loop() -> None:
    async def main() -> None:
        async with pair() as (client, server):
            await client.send("there")
            assert await server.recv() == "there"

    asyncio.run(main())


# Peers.


def test_a_peer_as_a_client() -> None:
    async def main() -> None:
        async with serve(echo, None, 80), await Peer.connect("ws://localhost/", "X-Test: 1") as peer:
            await peer.send_frame("par", fin=False)
            await peer.send_frame("t", Opcode.CONTINUATION)
            await peer.expect_frame("part", Opcode.TEXT)
            await peer.send(peer.frame(b"?", Opcode.PING))
            await peer.expect(b"\x8a\x01?")
            await peer.send_frame("a")
            with pytest.raises(AssertionError, match=r"expected payload b'b', not b'a'"):
                await peer.expect_frame("b")
            await peer.send_close(4000, "bye")
            await peer.expect_close(4000)
            await peer.expect_eof()
            with pytest.raises(AssertionError, match="expected a frame"):
                await peer.expect_frame()

    run(main())


def test_a_peer_as_a_server() -> None:
    async def main() -> None:
        async with listen() as listener, asyncio.TaskGroup() as group:

            async def client() -> WebSocket:
                async with connect(listener.uri) as ws:
                    await ws.send(b"hello")
                    return ws

            task = group.create_task(client())
            async with await listener.accept() as peer:
                assert b"Sec-WebSocket-Version: 13" in await peer.accept()
                await peer.expect_frame(b"hello", Opcode.BINARY)
                with pytest.raises(AssertionError, match="Close code"):
                    await peer.expect_close(1001)
                peer.reset()
        ending = task.result().ending
        assert ending is not None
        assert ending.cause is Cause.EOF

    run(main())


def test_a_peer_is_refused() -> None:
    async def main() -> None:
        async with serve(echo, None, 80):
            with pytest.raises(AssertionError, match=r"expected a 101 response, not b'HTTP/1\.1 403"):
                await Peer.connect("ws://localhost/", "Origin: https://elsewhere.example")

    run(main())


def test_a_peer_waits_only_so_long() -> None:
    async def main() -> None:
        async with (
            serve(echo, None, 80, ping_interval=None),
            await Peer.connect("ws://localhost/") as peer,
        ):
            with pytest.raises(TimeoutError):
                await peer.expect(b"!")
            assert asyncio.get_running_loop().time() == 30

    run(main())


def test_a_blocking_peer() -> None:
    from wsframe.sync import connect as sync_connect

    ours, theirs = socket.socketpair()

    def client() -> None:
        with sync_connect("ws://any.example/", sock=ours) as ws:
            ws.send("hello")
            assert ws.recv() == b"there"

    thread = threading.Thread(target=client)
    thread.start()
    with BlockingPeer(Role.SERVER, theirs) as peer:
        peer.accept()
        peer.expect_frame("hello", Opcode.TEXT)
        peer.send_frame(b"there")
        peer.expect_close(1000, "")
        peer.send_close()
        peer.send_eof()
        peer.expect_eof()
    thread.join()


# Faults.


async def _talk() -> None:
    async with connected(echo) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"


def test_operations_are_counted_and_named() -> None:
    client, server = Faults(), Faults()
    run(_talk(), client_faults=client, server_faults=server)
    assert client.operations == ["connect", "send", "recv", "send", "recv", "send", "recv", "recv"]
    assert server.operations == ["recv", "send", "recv", "send", "recv", "send"]
    assert not client.fired


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (ConnectionResetError(errno.ECONNRESET, "reset"), Cause.RESET),
        (OSError(errno.EHOSTUNREACH, "unreachable"), Cause.TRANSPORT_ERROR),
        (Fault.EOF, Cause.EOF),
        (Fault.STALL, Cause.PING_TIMEOUT),
    ],
    ids=str,
)
def test_the_third_receive_fails(fault: OSError | Fault, cause: Cause) -> None:
    faults = Faults().fail_at(2, fault, operation="recv")
    with pytest.raises(ConnectionClosedError) as caught:
        run(_talk(), client_faults=faults)
    assert caught.value.ending.cause is cause
    assert faults.failed == "recv"


def test_a_server_that_never_answers() -> None:
    async def main() -> None:
        async with serve(echo, None, 80):
            with pytest.raises(ConnectTimeout):
                await connect("ws://localhost/", open_timeout=3)
        assert asyncio.get_running_loop().time() == 3

    run(main(), client_faults=Faults().fail_at(1, Fault.STALL))


@pytest.mark.parametrize("fault", [Fault.PARTIAL, BlockingIOError(), InterruptedError()], ids=str)
def test_faults_that_do_no_harm(fault: Any) -> None:
    for faults in sweep(lambda n: Faults().fail_at(n, fault)):
        run(_talk(), client_faults=faults)


def test_a_sweep_ends_with_an_untouched_run() -> None:
    failed = []
    for faults in sweep(lambda n: Faults().fail_at(n, ConnectionResetError())):
        with contextlib.suppress(ConnectLost, ConnectionClosedError):
            run(_talk(), client_faults=faults)
        failed.append(faults.failed)
    # Its closing handshake is over when the last two fail: receiving the end.
    assert failed == ["connect", "send", "recv", "send", "recv", "send", "recv", "recv", None]


def test_a_sweep_that_never_ends_is_a_mistake() -> None:
    points = sweep(lambda n: Faults().fail_at(n, Fault.PARTIAL), limit=3)
    for _ in range(3):
        faults = next(points)
        for _ in range(10):
            faults.begin("send")
    with pytest.raises(RuntimeError, match="still failing at point 3"):
        next(points)


def test_counting_begins_with_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        Faults().fail_at(0, Fault.EOF)
    with pytest.raises(ValueError, match="from 1"):
        CancelAt(0)


@pytest.mark.parametrize("when", ["wait", "wake"])
def test_cancelled_at_every_await(when: Any) -> None:
    async def main(cancel: CancelAt) -> bool:
        task = asyncio.ensure_future(cancel(_talk()))
        await asyncio.wait([task])
        assert task.cancelled() or task.result() is None
        return task.cancelled()

    cancelled = [run(main(cancel)) for cancel in sweep(lambda n: CancelAt(n, when))]
    counted = CancelAt()
    run(main(counted))
    assert cancelled == [True] * counted.waits + [False]
    assert counted.waits >= 5


def test_a_faulty_socket() -> None:
    ours, theirs = socket.socketpair()
    with theirs, FaultySocket(ours, Faults().fail_at(3, Fault.PARTIAL)) as sock:
        assert sock.send(b"abc") == 3
        assert sock.sendmsg([b"d", b"e"]) == 2
        assert sock.send(b"xyz") == 1
        assert theirs.recv(10) == b"abcdex"
        theirs.send(b"hello")
        assert sock.recv(10) == b"hello"
        sock.shutdown(socket.SHUT_WR)
        assert sock.faults.operations == ["send", "send", "send", "recv", "shutdown"]


def test_a_faulty_socket_stays_broken_as_it_was() -> None:
    ours, theirs = socket.socketpair()
    with theirs, FaultySocket(ours, Faults().fail_at(1, BrokenPipeError())) as sock:
        theirs.send(b"said before")
        for _ in range(2):
            with pytest.raises(BrokenPipeError):
                sock.send(b"abc")
        assert sock.recv(100) == b"said before"
    ours, theirs = socket.socketpair()
    with theirs, FaultySocket(ours, Faults().fail_at(1, ConnectionResetError())) as sock:
        theirs.send(b"lost")
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                sock.recv(100)
        with pytest.raises(ConnectionResetError):
            sock.send(b"abc")


def test_a_faulty_listener() -> None:
    faults = Faults().fail_at(2, Fault.EOF, operation="recv")
    listener = socket.create_server(("127.0.0.1", 0))
    with FaultyListener(listener, faults) as faulty, socket.create_connection(faulty.getsockname()) as client:
        sock, _ = faulty.accept()
        with sock:
            client.send(b"abc")
            buffer = bytearray(10)
            assert sock.recv_into(buffer) == 3
            client.send(b"more")
            assert sock.recv_into(buffer) == 0
        assert faults.operations == ["accept", "recv", "recv"]
