"""The registry of an asyncio server: ids, info, groups, counters; those of Swoole's names that stand for them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.client
from websockets.typing import Subprotocol

import synchelpers
from adapterhelpers import request_to
from aiohelpers import Endings, aio_test, dial, echo, open_raw, until, uri_of
from framebuilder import BINARY, CLOSE, PING, TEXT, close_payload
from servertables import BAD_CLOSES
from wsframe import (
    Cause,
    Disconnected,
    Limits,
    LocalProtocolError,
    PreparedMessage,
    Request,
    Response,
    State,
    sync,
)
from wsframe.aio import Application, Server, ServerStats, WebSocket, connect, serve


class Told(Application):
    """Remembers what it was told, and what its server said about it at that moment."""

    def __init__(self) -> None:
        self.open: list[WebSocket] = []
        self.told: list[tuple[Any, ...]] = []

    def on_open(self, ws: WebSocket) -> None:
        self.open.append(ws)
        self.told.append(("open", ws.id, ws.server.is_established(ws.id)))

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.told.append(("message", ws.id, message))

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        server, info = ws.server, ws.server.info(ws.id)
        assert info is not None
        assert info.state is State.CLOSED
        assert not server.exists(ws.id)
        assert server.get(ws.id) is None
        assert not server.push(ws.id, "too late")
        assert not server.disconnect(ws.id)
        self.told.append(("close", ws.id, ending.cause))

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
        self.told.append(("disconnect", None if request is None else request.target, ending.cause))

    async def one(self) -> WebSocket:
        await until(lambda: self.open)
        return self.open[-1]


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[Server, Told]]:
    application = Told()
    options.setdefault("ping_interval", None)
    async with serve(application, "127.0.0.1", 0, **options) as server:
        yield server, application


# Ids.


@aio_test
async def test_every_connection_has_an_id_that_no_other_ever_has() -> None:
    async with serving() as (server, application):
        seen: list[int] = []
        for _ in range(3):
            with await open_raw(server):
                await until(lambda: len(application.open) > len(seen))
                ws = application.open[-1]
                assert server.get(ws.id) is ws
                seen.append(ws.id)
            await ws.wait_closed()
            # It is still its own.
            assert ws.id == seen[-1]
            assert server.get(ws.id) is None
        assert seen == [1, 2, 3]
    # Those of another server are its own.
    async with serving() as (server, application):
        with await open_raw(server):
            assert (await application.one()).id == 1


@aio_test
async def test_a_client_has_no_id_and_no_server() -> None:
    async with serve(echo, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        assert ws.id == 0
        for use in (lambda: ws.server, lambda: ws.groups, lambda: ws.join("x"), lambda: ws.leave("x")):
            with pytest.raises(RuntimeError, match="a client's WebSocket"):
                use()


def test_ids_on_sync() -> None:

    ids = []
    with synchelpers.serving(lambda ws: ids.append(ws.id)) as (server, _):
        for _ in range(3):
            with sync.connect(synchelpers.uri_of(server)) as ws:
                assert ws.id == 0
                ws.wait_closed(10)
    assert ids == [1, 2, 3]


@aio_test
async def test_handlers_have_ids_and_a_server() -> None:
    seen: list[tuple[int, Any]] = []

    async def handler(ws: WebSocket) -> None:
        seen.append((ws.id, ws.server))
        assert ws.server.get(ws.id) is ws
        assert ws in ws.server.connections
        async for message in ws:
            ws.server.push(ws.id, message)

    endings = Endings()
    async with serve(handler, "127.0.0.1", 0, on_end=endings) as server:
        async with connect(uri_of(server)) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"
        assert (await endings.one()).was_websocket
        assert seen == [(1, server)]
        assert not server.exists(1)


# What Swoole calls exist and isEstablished.


@aio_test
async def test_swoole_exist_and_is_established() -> None:
    answer = asyncio.Event()

    async def on_request(request: Request) -> Response | None:
        await answer.wait()
        return None

    async with serving(on_request=on_request) as (server, application):
        assert not server.exists(1)
        with await dial(server) as raw:
            await until(lambda: server.exists(1))
            assert not server.is_established(1)
            info = server.info(1)
            assert info is not None
            assert info.state is State.CONNECTING
            assert info.remote_address == raw.sock.getsockname()
            # The request is there, and nobody has answered.

            await raw.send(request_to(server))
            await until(lambda: _state(server, 1) is State.HANDSHAKE)
            assert server.exists(1)
            assert not server.is_established(1)
            assert server.get(1) is None
            assert len(server.connections) == 0
            assert not server.push(1, "too early")
            assert not server.disconnect(1)
            answer.set()
            await raw.head()
            assert server.exists(1)
            assert server.is_established(1)
            ws = server.get(1)
            assert ws is application.open[0]
            assert list(server.connections) == [ws]
            # It is closing: there, but nothing can be sent.
            ws.start_closing()
            assert server.exists(1)
            assert not server.is_established(1)
            assert server.get(1) is ws
            assert ws not in server.connections
            await raw.send_close()
            await raw.rest()
        await until(lambda: not server.exists(1))
        assert server.info(1) is None
        assert application.told == [("open", 1, True), ("close", 1, Cause.CLOSE_HANDSHAKE)]


def _state(server: Server, number: int) -> State | None:
    info = server.info(number)
    return None if info is None else info.state


# What Swoole calls push and disconnect.


@aio_test
async def test_swoole_push() -> None:
    async with serving() as (server, _application):
        with await open_raw(server) as raw, await open_raw(server) as other:
            await until(lambda: len(server.connections) == 2)
            assert server.push(1, "text")
            assert server.push(1, b"bytes")
            assert server.push(1, PreparedMessage("prepared"))
            assert server.push(2, bytearray(b"other"))
            frames = [await raw.next_frame() for _ in range(3)]
            assert [(frame.opcode, frame.payload) for frame in frames] == [
                (TEXT, b"text"),
                (BINARY, b"bytes"),
                (TEXT, b"prepared"),
            ]
            assert (await other.next_frame()).payload == b"other"
            assert not server.push(3, "nobody")
            with pytest.raises(TypeError, match="not int"):
                server.push(1, 1)  # type: ignore[arg-type]
            with pytest.raises(LocalProtocolError):
                server.push(1, "\ud800")
            ws = server.get(1)
            assert ws is not None
            ws.start_closing()
            assert not server.push(1, "closing")


@aio_test
async def test_swoole_disconnect() -> None:
    async with serving(close_timeout=5) as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            assert server.disconnect(ws.id, 4000, "bye")
            # True is not the peer's agreement.
            assert ws.ending is None
            assert ws.state is State.CLOSING
            # There is no open WebSocket any more.
            assert not server.disconnect(ws.id)
            assert (await raw.next_frame()).payload == close_payload(4000, b"bye")
            await raw.send_close(4000)
            ending = await ws.wait_closed()
            assert (ending.cause, ending.clean) == (Cause.CLOSE_HANDSHAKE, True)
            assert not server.disconnect(ws.id)
        assert application.told[-1] == ("close", ws.id, Cause.CLOSE_HANDSHAKE)


@aio_test
async def test_swoole_disconnect_has_a_code_and_a_reason_of_its_own() -> None:
    async with serving() as (server, _application):
        with await open_raw(server) as raw, await open_raw(server) as other:
            await until(lambda: len(server.connections) == 2)
            assert server.disconnect(1)
            assert (await raw.next_frame()).payload == close_payload(1000)
            assert server.disconnect(2, None)
            frame = await other.next_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, b"")
            for peer in (raw, other):
                await peer.send_close()
                await peer.rest()


@pytest.mark.parametrize(("code", "reason", "why"), BAD_CLOSES)
@aio_test
async def test_swoole_disconnect_refuses_what_may_not_be_sent(code: Any, reason: str, why: str) -> None:
    async with serving() as (server, application):
        with await open_raw(server):
            ws = await application.one()
            for number in (ws.id, 99):
                with pytest.raises(LocalProtocolError, match=why):
                    server.disconnect(number, code, reason)
            assert ws.state is State.OPEN
            assert server.disconnect(ws.id, 1000, "x" * 123)


# What Swoole calls getClientInfo.


@aio_test
async def test_swoole_info() -> None:
    async with serving(subprotocols=["chat"]) as (server, application):
        async with websockets.asyncio.client.connect(
            uri_of(server) + "room?token=secret", subprotocols=[Subprotocol("chat")], ping_interval=None
        ) as theirs:
            ws = await application.one()
            ws.join("red")
            await theirs.send("hello")
            await theirs.send(b"bytes")
            assert ws.send_nowait("x" * 1000)
            assert len(await theirs.recv()) == 1000
            await (await ws.ping())
            await until(lambda: len(application.told) == 3)
            info = server.info(ws.id)
            assert info is not None
            assert (info.id, info.state, info.path, info.subprotocol) == (1, State.OPEN, "/room", "chat")
            assert info.groups == {"red"}
            assert info.local_address == ws.local_address == theirs.remote_address
            assert info.remote_address == ws.remote_address == theirs.local_address
            assert (info.messages_in, info.messages_out) == (2, 1)
            # A ping of ours, and its pong.
            assert (info.frames_in, info.frames_out) == (3, 2)
            # The handshake; frames of 5 bytes each, and a pong with 4, each with 6 more.
            handshake = info.bytes_in - (6 + 5) * 2 - (6 + 4)
            assert 100 < handshake < 1000
            assert 100 < info.bytes_out - (4 + 1000) - (2 + 4) < 1000
            assert info.buffered_bytes == 0
            assert info.latency == ws.latency is not None
            assert info.opened_age is not None
            assert info.last_received_age is not None
            assert 0 <= info.last_received_age <= info.opened_age < 60
        assert server.info(99) is None


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("callbacks", [False, True])
@aio_test
async def test_all_kinds_of_messages_are_counted(compression: bool, callbacks: bool) -> None:
    handler: Any = Told() if callbacks else echo
    async with serve(handler, "127.0.0.1", 0, compression=compression, ping_interval=None) as server:
        async with websockets.asyncio.client.connect(
            uri_of(server), compression="deflate" if compression else None, max_size=None
        ) as theirs:
            for message in ("x", "y" * 3000, bytes(100_000), ["in", "three", "parts"]):
                await theirs.send(message)
                if not callbacks:
                    await theirs.recv()
            await theirs.ping()
            await until(lambda: (info := server.info(1)) is not None and info.messages_in == 4)
            info = server.info(1)
            assert info is not None
            assert info.messages_out == (0 if callbacks else 4)
        stats = server.stats()
        assert stats.messages_in == 4


# The view of the connections.


@aio_test
async def test_connections_can_be_gone_through_while_they_come_and_go() -> None:
    async with serving() as (server, _application), contextlib.AsyncExitStack() as stack:
        raws = [stack.enter_context(await open_raw(server)) for _ in range(5)]
        await until(lambda: len(server.connections) == 5)
        connections = server.connections
        seen = []
        for ws in connections:
            seen.append(ws.id)
            if ws.id == 2:
                for number in (1, 4):
                    other = server.get(number)
                    assert other is not None
                    other.abort()
                stack.enter_context(await open_raw(server))
                await until(lambda: not server.exists(4))
        assert sorted(seen) == [1, 2, 3, 4, 5]
        await until(lambda: len(connections) == 4)
        assert sorted(ws.id for ws in connections) == [2, 3, 5, 6]
        assert raws


# Endings, with callbacks and with handlers.


@aio_test
async def test_on_close_is_for_websockets_and_on_disconnect_for_all_else() -> None:
    async with serving(close_timeout=1) as (server, application):
        # Whoever closes.
        with await open_raw(server) as raw:
            ws = await application.one()
            await raw.send_close(4001)
            await raw.rest()
        await until(lambda: ws.ending)
        with await open_raw(server):
            await until(lambda: len(application.open) == 2)
            server.disconnect(2, 4002)
        await until(lambda: application.open[1].ending)
        with await open_raw(server) as raw:
            await until(lambda: len(application.open) == 3)
            raw.reset()
        await until(lambda: application.open[2].ending)
        # And what is no WebSocket.
        with await dial(server) as raw:
            await raw.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
            await raw.rest()
        with await dial(server) as raw:
            raw.close()
        await until(lambda: len([name for name, *_ in application.told if name == "disconnect"]) == 2)
    told = [entry for entry in application.told if entry[0] != "open"]
    assert told[0] == ("close", 1, Cause.CLOSE_HANDSHAKE)
    assert told[1] in (
        ("close", 2, Cause.EOF),
        ("close", 2, Cause.RESET),
        ("close", 2, Cause.CLOSE_HANDSHAKE),
    )
    assert told[2] == ("close", 3, Cause.RESET)
    assert {entry[1:] for entry in told[3:]} == {("/plain", Cause.PLAIN_HTTP), (None, Cause.EOF)}


@aio_test
async def test_on_end_tells_the_same_of_handlers() -> None:
    endings = Endings()
    async with serve(echo, "127.0.0.1", 0, on_end=endings, ping_interval=None) as server:
        with await open_raw(server) as raw:
            await raw.send_close(4001)
            await raw.rest()
        await until(lambda: len(endings) == 1)
        with await open_raw(server):
            await until(lambda: server.is_established(2))
            assert server.disconnect(2, 4002)
        await until(lambda: len(endings) == 2)
        with await dial(server) as raw:
            await raw.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
            await raw.rest()
        await until(lambda: len(endings) == 3)
    assert [ending.was_websocket for ending in endings] == [True, True, False]
    assert endings[0].code == 4001
    assert endings[1].sent is not None
    assert endings[1].sent.code == 4002
    assert endings[2].cause is Cause.PLAIN_HTTP


# Groups.


@aio_test
async def test_groups() -> None:
    async with serving() as (server, _application):
        assert dict(server.groups) == {}
        with await open_raw(server) as raw, await open_raw(server):
            await until(lambda: len(server.connections) == 2)
            a, b = server.connections
            assert a.join("red")
            assert b.join("red")
            assert b.join("blue")
            assert server.groups == {"red": {a, b}, "blue": {b}}
            assert a.groups == {"red"}
            assert b.leave("blue")
            assert not b.leave("blue")
            assert list(server.groups) == ["red"]
            # It is left when the connection has ended, however.
            raw.reset()
            await until(lambda: a.ending)
            assert server.groups == {"red": {b}}
            assert a.groups == frozenset()
            assert not a.join("red")
            b.abort()
            await until(lambda: b.ending)
            assert server.groups == {}
            with pytest.raises(TypeError):
                b.join(1)  # type: ignore[arg-type]


# Counters.


@aio_test
async def test_stats() -> None:
    async with serving(origins=["https://good.example"]) as (server, application):
        assert server.stats() == ServerStats(
            connections=0,
            websockets=0,
            accepted=0,
            opened=0,
            refused={},
            ended={},
            messages_in=0,
            messages_out=0,
            bytes_in=0,
            bytes_out=0,
        )
        async with connect(uri_of(server)) as ws:
            await ws.send("x" * 100)
            await until(lambda: ("message", 1, "x" * 100) in application.told)
            assert server.push(1, "abc")
            await ws.recv()
            for _ in range(2):
                with await dial(server) as raw:
                    await raw.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
                    await raw.rest()
            with await dial(server) as raw:
                await raw.send(request_to(server, ("Origin", "https://bad.example")))
                assert b" 403 " in await raw.rest()
            await until(lambda: len(application.told) == 5)
            stats = server.stats()
            assert (stats.connections, stats.websockets, stats.accepted, stats.opened) == (1, 1, 4, 1)
            assert stats.refused == {426: 2, 403: 1}
            assert stats.ended == {"PLAIN_HTTP": 2, "REJECTED": 1}
            assert (stats.messages_in, stats.messages_out) == (1, 1)
        await until(lambda: not server.exists(1))
        after = server.stats()
        assert (after.connections, after.websockets, after.opened) == (0, 0, 1)
        assert after.ended == {"PLAIN_HTTP": 2, "REJECTED": 1, "CLOSE_HANDSHAKE": 1}
        # What it was is not forgotten with a connection: a Close came, and went.
        assert (after.messages_in, after.messages_out) == (1, 1)
        assert (after.bytes_in, after.bytes_out) == (stats.bytes_in + 8, stats.bytes_out + 4)
        await server.close()
        assert server.stats() == after
        assert all(type(name) in (int, str) for name in itertools.chain(after.refused, after.ended))
        assert dataclasses.asdict(after)["accepted"] == 4


@aio_test
async def test_the_prometheus_collector_of_the_docs() -> None:
    prometheus_client = pytest.importorskip("prometheus_client")
    page = (Path(__file__).parents[1] / "docs" / "server.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python prometheus\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    registry = prometheus_client.CollectorRegistry()
    async with serving() as (server, application):
        registry.register(names["WebSocketCollector"](server))
        async with connect(uri_of(server)):
            await application.one()
            with await dial(server) as raw:
                await raw.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
                await raw.rest()
            await until(lambda: server.stats().ended)
            # In another thread, as it would be.
            text = (await asyncio.to_thread(prometheus_client.generate_latest, registry)).decode()
    lines = text.splitlines()
    assert "websocket_websockets 1.0" in lines
    assert "websocket_accepted_total 2.0" in lines
    assert 'websocket_refused_total{status="426"} 1.0' in lines
    assert 'websocket_ended_total{cause="PLAIN_HTTP"} 1.0' in lines


@aio_test
async def test_any_thread_may_ask_for_stats() -> None:
    over = threading.Event()
    failures: list[BaseException] = []

    def ask(server: Server) -> None:
        while not over.is_set():
            try:
                server.stats()
            except BaseException as exc:
                failures.append(exc)
                return

    async with serving() as (server, _application):
        thread = threading.Thread(target=ask, args=(server,))
        thread.start()
        for _ in range(100):
            with await open_raw(server):
                pass
        over.set()
        thread.join()
        await until(lambda: server.stats().connections == 0)
    assert failures == []


@aio_test
async def test_a_large_message_that_has_not_left_is_not_counted_as_gone() -> None:
    async with serving(close_timeout=1) as (server, application):
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await application.one()
            assert ws.send_nowait(bytes(8 << 20))
            await until(lambda: ws.buffered_bytes)
            info = server.info(ws.id)
            assert info is not None
            assert info.messages_out == 1
            assert info.buffered_bytes == ws.buffered_bytes
            assert info.bytes_out + info.buffered_bytes > 8 << 20
            assert info.bytes_out < 8 << 20
            ws.abort()
            raw.close()
        await until(lambda: ws.ending)
        assert server.stats().bytes_out < 8 << 20


# try_send, beside send_nowait and send.


@pytest.mark.parametrize("kind", [bytes, bytearray], ids=["lane", "endpoint"])
@aio_test
async def test_try_send_says_no_where_send_would_wait(kind: Any) -> None:
    async with serving(close_timeout=1) as (server, application):
        with await open_raw(server, receive_buffer=4096) as raw:
            ws = await application.one()
            count = 0
            # The kernel takes some megabytes.
            while ws.try_send(kind(65536)):
                count += 1
                assert count < 1000
                if count % 16 == 0:
                    await asyncio.sleep(0)
            assert ws.state is State.OPEN
            high = Limits().write_high_water
            assert high < ws.buffered_bytes <= high + 2 * 65546
            waiting = asyncio.create_task(ws.send("waits"))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            assert not ws.try_send("x")
            # send_nowait does not ask.
            assert ws.send_nowait("does not wait")
            for _ in range(count):
                assert len((await raw.next_frame()).payload) == 65536
            assert (await raw.next_frame()).payload == b"does not wait"
            assert (await raw.next_frame()).payload == b"waits"
            await waiting
            assert ws.try_send("again")
            assert (await raw.next_frame()).payload == b"again"


@aio_test
async def test_try_send_takes_what_send_nowait_takes() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            for message in ("a", b"b", bytearray(b"c"), memoryview(b"d"), PreparedMessage("e")):
                assert ws.try_send(message)
            assert [(await raw.next_frame()).payload for _ in range(5)] == [b"a", b"b", b"c", b"d", b"e"]
            with pytest.raises(TypeError, match="not int"):
                ws.try_send(1)  # type: ignore[arg-type]
            with pytest.raises(LocalProtocolError):
                ws.try_send("\ud800")
            ws.start_closing()
            assert not ws.try_send("too late")
            await raw.next_frame()
            await raw.send_close()
            await raw.rest()
            await until(lambda: ws.ending)
            assert not ws.try_send("much too late")


@aio_test
async def test_a_burst_in_one_turn_is_no_reason_to_say_no() -> None:
    class Burst(Told):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            # bytearray: not for the express lane.
            for _ in range(20):
                assert ws.try_send(bytearray(8192))

    application = Burst()
    async with serve(application, "127.0.0.1", 0, ping_interval=None) as server:
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"go")
            for _ in range(20):
                assert len((await raw.next_frame()).payload) == 8192


@aio_test
async def test_what_was_gathered_in_two_places_leaves_in_order() -> None:
    """The express lane gathers the first, the connection all that follows, and more than is gathered at the most."""

    class Mixed(Told):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            assert ws.send_nowait("first")
            assert ws.send_nowait(bytearray(300_000))
            assert ws.send_nowait("third")
            assert ws.try_send(bytearray(b"fourth"))

    application = Mixed()
    async with serve(application, "127.0.0.1", 0, ping_interval=None) as server:
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"go")
            sizes = [len((await raw.next_frame()).payload) for _ in range(4)]
            assert sizes == [5, 300_000, 5, 6]


@aio_test
async def test_a_ping_is_no_message() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            await raw.send_frame(PING, b"?")
            await raw.next_frame()
            info = server.info(ws.id)
            assert info is not None
            assert (info.messages_in, info.messages_out) == (0, 0)
            assert (info.frames_in, info.frames_out) == (1, 1)
