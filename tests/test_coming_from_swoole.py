"""What docs/coming-from.md says to those who come from Swoole or OpenSwoole: a test for every row, by its name."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.asyncio.server
from websockets.typing import Subprotocol

import wsframe
from adapterhelpers import request_to
from aiohelpers import Listener, aio_test, dial, open_raw, opened, until, uri_of
from framebuilder import BINARY, CLOSE, CONTINUATION, PING, PONG, SAMPLE_MASK, TEXT, build, close_payload
from moving import Told, one_request, serving
from wsframe import Cause, CloseFrame, LocalProtocolError, RemoteProtocolError, Request, Response, State
from wsframe.aio import (
    Accept,
    ConnectionClosed,
    ConnectionClosedOK,
    HandshakeRejected,
    RetryPolicy,
    Server,
    WebSocket,
    connect,
)


def state_of(server: Server, number: int) -> State | None:
    info = server.info(number)
    return None if info is None else info.state


# Callbacks.


@aio_test
async def test_on_open() -> None:
    class Greeter(Told):
        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)
            assert ws.server.get(ws.id) is ws
            ws.send_nowait(f"welcome, {ws.request.headers['X-Name']}")

    async with serving(Greeter()) as (server, application):
        with await open_raw(server, ("X-Name", "ann")) as raw:
            assert (await raw.next_frame()).payload == b"welcome, ann"
        await until(lambda: application.endings)
        assert [told[0] for told in application.told] == ["open", "close"]


@aio_test
async def test_on_message() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"hel", fin=False)
            await raw.send_frame(PING, b"?")
            await raw.send_frame(CONTINUATION, b"lo")
            await raw.send_frame(BINARY, b"\x00\xff")
            assert (await raw.next_frame()).opcode == PONG
            await raw.send_frame(TEXT, b"\xff")
            assert (await raw.next_frame()).payload[:2] == close_payload(1007)
        await application.ended(Cause.INVALID_DATA)
        assert application.told[1:-1] == [("message", "hello"), ("message", b"\x00\xff")]


@pytest.mark.parametrize("who", ["peer", "server", "nobody"])
@aio_test
async def test_on_close(who: str) -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            if who == "peer":
                await raw.send_close(4001, b"bye")
                await raw.rest()
            elif who == "server":
                ws.start_closing(4002, "enough")
                assert (await raw.next_frame()).payload == close_payload(4002, b"enough")
                await raw.send_close(4002)
                await raw.rest()
            else:
                raw.reset()
            cause = Cause.RESET if who == "nobody" else Cause.CLOSE_HANDSHAKE
            ending = await application.ended(cause)
    assert application.told == [("open", "/"), ("close", cause)]
    initiators = {"peer": "REMOTE", "server": "LOCAL", "nobody": "TRANSPORT"}
    assert ending.initiator.name == initiators[who]
    assert (ending.code, ending.reason) == {
        "peer": (4001, "bye"),
        "server": (4002, ""),
        "nobody": (1006, ""),
    }[who]


@aio_test
async def test_on_disconnect() -> None:
    class Refuses(Told):
        def on_request(self, request: Request) -> Response:
            return Response(200 if request.target == "/page" else 403, body="x")

    async with serving(Refuses()) as (server, application):
        assert (await one_request(server, "/page")).startswith(b"HTTP/1.1 200 ")
        await until(lambda: len(application.told) == 1)
        assert (await one_request(server, "/chat", upgrade=True)).startswith(b"HTTP/1.1 403 ")
        await until(lambda: len(application.told) == 2)
        with await dial(server) as raw:
            await raw.send(b"GET / HT")
        await until(lambda: len(application.told) == 3)
        assert application.told == [
            ("disconnect", "/page", Cause.PLAIN_HTTP),
            ("disconnect", "/chat", Cause.REJECTED),
            ("disconnect", None, Cause.TRUNCATED),
        ]
        assert not any(ending.was_websocket for ending in application.endings)


@aio_test
async def test_on_request() -> None:
    class Pushes(Told):
        server: Server

        async def on_request(self, request: Request) -> Response | None:
            await asyncio.sleep(0)
            self.told.append(("request", request.method, request.target))
            if request.target != "/push":
                return None
            pushed = [self.server.push(ws.id, request.body) for ws in self.server.connections]
            return Response(200, body=f"{sum(pushed)}\n")

    async with serving(Pushes()) as (server, application):
        application.server = server
        with await open_raw(server) as raw:
            answer = await one_request(server, "/push", ("Content-Length", "0"), method="POST")
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"\r\n\r\n1\n")
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload) == (BINARY, b"")
        assert (await one_request(server)).startswith(b"HTTP/1.1 426 ")
        told = [entry for entry in application.told if entry[0] == "request"]
        assert told == [("request", "GET", "/"), ("request", "POST", "/push"), ("request", "GET", "/")]


@aio_test
async def test_on_hand_shake() -> None:
    class Doorkeeper(Told):
        def on_request(self, request: Request) -> Response | Accept:
            if "Cookie" not in request.headers:
                return Response(401, body="who are you?\n")
            return Accept(subprotocol="two")

    async with serving(Doorkeeper(), subprotocols=["one", "two"]) as (server, application):
        refusal = await one_request(server, "/", upgrade=True)
        assert refusal.startswith(b"HTTP/1.1 401 ")
        assert refusal.endswith(b"\r\n\r\nwho are you?\n")
        await until(lambda: application.endings)
        async with websockets.asyncio.client.connect(
            uri_of(server),
            additional_headers={"Cookie": "me"},
            subprotocols=[Subprotocol("one"), Subprotocol("two")],
        ) as theirs:
            assert theirs.subprotocol == "two"
        await until(lambda: len(application.endings) == 2)
        assert [told[0] for told in application.told] == ["disconnect", "open", "close"]


@aio_test
async def test_on_before_handshake_response() -> None:
    class Names(Told):
        def on_request(self, request: Request) -> Accept:
            return Accept(headers=[("X-Served-By", "a")])

    async with serving(Names()) as (server, _), websockets.asyncio.client.connect(uri_of(server)) as theirs:
        assert theirs.response is not None
        assert theirs.response.headers["X-Served-By"] == "a"


# By number.


@aio_test
async def test_fd() -> None:
    async with serving() as (server, application):
        with await open_raw(server), await open_raw(server):
            await until(lambda: len(application.open) == 2)
        await until(lambda: len(application.endings) == 2)
        with await open_raw(server):
            await until(lambda: len(application.open) == 3)
        assert [ws.id for ws in application.open] == [1, 2, 3]


@aio_test
async def test_push() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw, await dial(server):
            await until(lambda: server.exists(2))
            assert server.push(1, "text")
            assert server.push(1, b"binary")
            frames = [await raw.next_frame() for _ in range(2)]
            assert [(frame.opcode, frame.payload) for frame in frames] == [
                (TEXT, b"text"),
                (BINARY, b"binary"),
            ]
            # Nobody has asked for a WebSocket there, and nobody is there.
            assert not server.push(2, "text")
            assert not server.push(3, "text")
            assert server.broadcast("all").result.delivered == 1
            assert (await raw.next_frame()).payload == b"all"
            application.open[0].start_closing()
            assert not server.push(1, "text")


@aio_test
async def test_finish() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            begun = asyncio.Event()

            async def pieces() -> AsyncIterator[str]:
                yield "one "
                begun.set()
                # Nothing comes between them.
                assert server.push(ws.id, "another message")
                yield "two"

            sending = asyncio.create_task(ws.send(pieces()))
            await begun.wait()
            await sending
            frames = [await raw.next_frame()]
            while not frames[-1].fin:
                frames.append(await raw.next_frame())
            assert [frame.opcode for frame in frames] == [TEXT] + [CONTINUATION] * (len(frames) - 1)
            assert len(frames) > 1
            assert b"".join(frame.payload for frame in frames) == b"one two"
            last = await raw.next_frame()
            assert (last.opcode, last.fin, last.payload) == (TEXT, True, b"another message")


@aio_test
async def test_disconnect() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            for code, reason in ((1005, ""), (1006, ""), (999, ""), (1000, "x" * 124)):
                with pytest.raises(LocalProtocolError):
                    server.disconnect(ws.id, code, reason)
            assert server.disconnect(ws.id, 1001, "x" * 123)
            assert not server.disconnect(ws.id)
            assert not server.disconnect(99)
            assert (await raw.next_frame()).payload == close_payload(1001, b"x" * 123)
            # TCP is open, and what the peer says is read.
            await raw.send_frame(TEXT, b"too late")
            assert ws.ending is None
            await raw.send_close(1001)
            assert await raw.rest() == b""
        ending = await application.ended(Cause.CLOSE_HANDSHAKE)
        assert (ending.clean, ending.received_first) == (True, False)
        assert ("message", "too late") not in application.told


@aio_test
async def test_exist() -> None:
    async with serving() as (server, _):
        assert not server.exists(1)
        with await dial(server) as raw:
            await until(lambda: server.exists(1))
            await raw.send(request_to(server))
            await raw.head()
            assert server.exists(1)
            assert server.disconnect(1)
            assert server.exists(1)
            await raw.send_close()
            await raw.rest()
        await until(lambda: not server.exists(1))


@aio_test
async def test_is_established() -> None:
    async with serving() as (server, _):
        with await dial(server) as raw:
            await until(lambda: server.exists(1))
            assert not server.is_established(1)
            await raw.send(request_to(server))
            await raw.head()
            assert server.is_established(1)
            server.disconnect(1)
            assert not server.is_established(1)
            await raw.send_close()
            await raw.rest()


@aio_test
async def test_websocket_status() -> None:
    answer = asyncio.Event()
    at_the_end = []

    class Waits(Told):
        async def on_request(self, request: Request) -> None:
            await answer.wait()

        def on_close(self, ws: WebSocket, ending: wsframe.Disconnected) -> None:
            at_the_end.append(state_of(ws.server, ws.id))

    async with serving(Waits()) as (server, _):
        with await dial(server) as raw:
            await until(lambda: server.exists(1))
            assert [state_of(server, 1), State.CONNECTING] == [1, 1]
            await raw.send(request_to(server))
            await until(lambda: [state_of(server, 1), State.HANDSHAKE] == [2, 2])
            answer.set()
            await raw.head()
            assert [state_of(server, 1), State.OPEN] == [3, 3]
            server.disconnect(1)
            assert [state_of(server, 1), State.CLOSING] == [4, 4]
            await raw.send_close()
            await raw.rest()
        await until(lambda: at_the_end)
        assert [*at_the_end, State.CLOSED] == [5, 5]
        assert state_of(server, 1) is None


@aio_test
async def test_get_client_info() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            await application.one()
            await raw.send_frame(TEXT, b"hello")
            await until(lambda: len(application.told) == 2)
            info = server.info(1)
            assert info is not None
            assert info.remote_address == raw.sock.getsockname()
            assert info.local_address == raw.sock.getpeername()
            assert info.opened_age is not None
            assert info.last_received_age is not None
            assert 0 <= info.last_received_age <= info.opened_age < 60
            assert info.buffered_bytes == 0
        await until(lambda: server.info(1) is None)


@aio_test
async def test_connections() -> None:
    async with serving() as (server, _):
        with await open_raw(server) as one, await open_raw(server) as two, await dial(server):
            await until(lambda: server.exists(3) and len(server.connections) == 2)
            for ws in server.connections:
                assert server.is_established(ws.id)
                ws.send_nowait(str(ws.id))
            assert [(await raw.next_frame()).payload for raw in (one, two)] == [b"1", b"2"]
            # Who is closing is none any more.
            assert server.disconnect(1)
            assert [ws.id for ws in server.connections] == [2]


@aio_test
async def test_get_client_list() -> None:
    async with serving() as (server, _):
        with await open_raw(server), await open_raw(server), await open_raw(server):
            await until(lambda: len(server.connections) == 3)
            assert [ws.id for ws in itertools.islice(server.connections, 2)] == [1, 2]
            assert [ws.id for ws in server.connections] == [1, 2, 3]


@aio_test
async def test_stats() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw, await open_raw(server):
            await until(lambda: len(application.open) == 2)
            await raw.send_close()
            await raw.rest()
            await until(lambda: application.endings)
            stats = server.stats()
            assert (stats.connections, stats.accepted) == (1, 2)
            assert stats.ended == {"CLOSE_HANDSHAKE": 1}


# Frames.


def test_pack() -> None:
    assert wsframe.pack("hello") == build(TEXT, b"hello")
    assert wsframe.pack(b"hello") == build(BINARY, b"hello")
    assert wsframe.pack(b"?", wsframe.Opcode.PING) == build(PING, b"?")
    assert wsframe.pack("hel", fin=False) == build(TEXT, b"hel", fin=False)
    assert wsframe.pack("hello", mask=SAMPLE_MASK) == build(TEXT, b"hello", mask=SAMPLE_MASK)
    frame, rest = wsframe.unpack(wsframe.pack("hello", mask=True))
    assert (frame, rest) == (wsframe.Frame(TEXT, b"hello", True, False), b"")
    with pytest.raises(LocalProtocolError):
        wsframe.pack(b"x" * 126, wsframe.Opcode.PING)


def test_unpack() -> None:
    two = build(TEXT, b"hello", mask=SAMPLE_MASK) + build(CLOSE, close_payload(1000))
    frame, rest = wsframe.unpack(two)
    assert frame is not None
    assert (frame.opcode, frame.payload, frame.fin) == (TEXT, b"hello", True)
    frame, rest = wsframe.unpack(rest)
    assert frame is not None
    assert (frame.opcode, rest) == (CLOSE, b"")
    assert wsframe.unpack_close(frame.payload) == (1000, "")
    assert wsframe.unpack(two[:5]) == (None, two[:5])
    with pytest.raises(RemoteProtocolError):
        wsframe.unpack(b"\x83\x00")


# Who is still there?


@aio_test
async def test_heartbeat_check_interval() -> None:
    async with serving(ping_interval=0.05, ping_timeout=60) as (server, application):
        with await open_raw(server) as raw:
            for _ in range(3):
                ping = await raw.next_frame()
                assert ping.opcode == PING
                await raw.send_frame(PONG, ping.payload)
            assert server.is_established((await application.one()).id)


@aio_test
async def test_heartbeat_idle_time() -> None:
    async with serving(ping_interval=0.05, ping_timeout=0.05) as (server, application):
        with await open_raw(server) as raw:
            assert (await raw.next_frame()).opcode == PING
            ending = await application.ended(Cause.PING_TIMEOUT)
            assert (ending.was_websocket, ending.code) == (True, 1006)
    # Pings do not help who sends no message, if messages are asked for.
    async with serving(idle_timeout=0.05) as (server, application):
        with await open_raw(server) as raw:
            await raw.send_frame(PONG)
            assert (await raw.next_frame()).payload[:2] == close_payload(1001)
            await raw.send_close(1001)
            await raw.rest()
        await application.ended(Cause.IDLE_TIMEOUT)


@aio_test
async def test_heartbeat() -> None:
    async with serving() as (server, application):
        with await open_raw(server), await open_raw(server) as raw:
            await until(lambda: len(application.open) == 2)
            await asyncio.sleep(0.2)
            await raw.send_frame(TEXT, b"here")
            await until(lambda: len(application.told) == 3)
            infos = [server.info(ws.id) for ws in server.connections]
            ages = {info.id: info.last_received_age for info in infos if info is not None}
            silent, heard = ages[1], ages[2]
            assert silent is not None
            assert heard is not None
            assert silent - heard > 0.1
            assert [number for number, age in ages.items() if age is not None and age > heard] == [1]


@aio_test
async def test_open_websocket_ping_frame() -> None:
    seen: list[Any] = []
    async with serving(trace=seen.append) as (server, application):
        with await open_raw(server) as raw:
            await raw.send_frame(PING, b"who?")
            pong = await raw.next_frame()
            assert (pong.opcode, pong.payload) == (PONG, b"who?")
        await until(lambda: application.endings)
        frames = [(frame.direction, frame.opcode, frame.head) for frame in seen if hasattr(frame, "opcode")]
        assert frames[:2] == [("received", PING, b"who?"), ("sent", PONG, b"who?")]
        assert [told[0] for told in application.told] == ["open", "close"]


@aio_test
async def test_open_websocket_pong_frame() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            assert ws.latency is None
            pong = await ws.ping()
            ping = await raw.next_frame()
            await raw.send_frame(PONG, ping.payload)
            assert await pong == ws.latency
            assert [told[0] for told in application.told] == ["open"]


@aio_test
async def test_open_websocket_close_frame() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            await raw.send_close(4000, b"bye")
            await raw.rest()
        ending = await application.ended(Cause.CLOSE_HANDSHAKE)
        assert ending.received == CloseFrame(4000, "bye")
    async with serving() as (server, application):
        with await open_raw(server):
            await application.one()
        assert (await application.ended(Cause.EOF)).received is None


# Settings.


@aio_test
async def test_websocket_subprotocol() -> None:
    async with serving(subprotocols=["chat"]) as (server, _):
        offer = Subprotocol("chat")
        async with websockets.asyncio.client.connect(uri_of(server), subprotocols=[offer]) as theirs:
            assert theirs.subprotocol == "chat"
        async with websockets.asyncio.client.connect(uri_of(server)) as theirs:
            assert theirs.response is not None
            assert "Sec-WebSocket-Protocol" not in theirs.response.headers
    async with serving(subprotocols=["chat"], require_subprotocol=True) as (server, _):
        assert (await one_request(server, upgrade=True)).startswith(b"HTTP/1.1 400 ")


@aio_test
async def test_websocket_compression() -> None:
    seen: list[Any] = []
    async with serving(compression=True, trace=seen.append) as (server, application):
        async with websockets.asyncio.client.connect(uri_of(server)) as theirs:
            ws = await application.one()
            for message in ("x" * 255, "x" * 256):
                assert server.push(ws.id, message)
                assert await theirs.recv() == message
        sent = [event for event in seen if event.direction == "sent" and hasattr(event, "opcode")]
        assert [(frame.compressed, frame.length < 100) for frame in sent[:2]] == [
            (False, False),
            (True, True),
        ]


@aio_test
async def test_start() -> None:
    async with serving() as (server, _):
        forever = asyncio.create_task(server.serve_forever())
        with await open_raw(server) as raw:
            await raw.send_close()
            await raw.rest()
        assert not forever.done()
        await server.close()
        await forever


@aio_test
async def test_shutdown() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            await application.one()
            closing = asyncio.create_task(server.close())
            assert (await raw.next_frame()).payload == close_payload(1001)
            await raw.send_close(1001)
            assert await raw.rest() == b""
            assert await closing == {Cause.CLOSE_HANDSHAKE: 1}


# The client.


async def their_echo(theirs: Any) -> None:
    async for message in theirs:
        await theirs.send(message)


def turn_away(theirs: Any, request: Any) -> Any:
    return theirs.respond(403, "not you\n") if request.path == "/closed" else None


@aio_test
async def test_client_upgrade() -> None:
    async with websockets.asyncio.server.serve(
        their_echo, "127.0.0.1", 0, process_request=turn_away
    ) as server:
        async with connect(uri_of(server)) as ws:
            assert ws.response is not None
            assert ws.response.status == 101
        with pytest.raises(HandshakeRejected) as caught:
            await connect(f"{uri_of(server)}closed")
        assert (caught.value.status, caught.value.body) == (403, b"not you\n")
        assert "Date" in caught.value.headers


@aio_test
async def test_client_push() -> None:
    async with websockets.asyncio.server.serve(their_echo, "127.0.0.1", 0) as server:
        async with connect(uri_of(server)) as ws:
            for message in ("text", b"binary"):
                await ws.send(message)
                assert await ws.recv() == message
        with pytest.raises(ConnectionClosed):
            await ws.send("too late")


@aio_test
async def test_client_recv() -> None:
    async def one(theirs: Any) -> None:
        await theirs.send("one")
        await theirs.recv()

    async with websockets.asyncio.server.serve(one, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        assert await ws.recv() == "one"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await ws.recv()
        await ws.send("go")
        with pytest.raises(ConnectionClosedOK) as caught:
            await ws.recv()
        assert caught.value.ending.code == 1000


@aio_test
async def test_client_close() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri, ping_interval=None), listener) as (ws, raw):
            closing = asyncio.create_task(ws.close(4000, "bye"))
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, close_payload(4000, b"bye"))
            assert not closing.done()
            await raw.send_close(4000)
            raw.shutdown()
            await closing
            assert await raw.rest() == b""
            assert ws.ending is not None
            assert ws.ending.clean


@aio_test
async def test_reconnecting_after_a_loss() -> None:
    subscribed: list[str | bytes] = []

    async def news(theirs: Any) -> None:
        subscribed.append(await theirs.recv())
        if len(subscribed) == 1:
            theirs.transport.abort()
        else:
            await theirs.send("rain")

    async def subscribe(ws: WebSocket) -> None:
        await ws.send("news, please")

    async with websockets.asyncio.server.serve(news, "127.0.0.1", 0) as server:
        link = connect(
            uri_of(server), on_connected=subscribe, retry=RetryPolicy(initial=0.01, max_attempts=20)
        )
        received: list[str | bytes] = []
        async for ws in link:
            try:
                received += [message async for message in ws]
            except ConnectionClosed:
                continue
        assert received == ["rain"]
        assert subscribed == ["news, please"] * 2
        assert link.attempts == 2
        assert link.last_ending is not None
        assert link.last_ending.code in (1000, 1006)
    # Where nobody could ever be let in, it ends at once.
    async with websockets.asyncio.server.serve(
        their_echo, "127.0.0.1", 0, process_request=turn_away
    ) as server:
        with pytest.raises(HandshakeRejected):
            await anext(aiter(connect(f"{uri_of(server)}closed")))
