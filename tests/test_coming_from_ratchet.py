"""What docs/coming-from.md says to those who come from Ratchet: a test for every row, by its name."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import websockets.asyncio.client
import websockets.exceptions
from websockets.typing import Origin, Subprotocol

from aiohelpers import aio_test, expect_log, open_raw, until, uri_of
from framebuilder import BINARY, CLOSE, PING, PONG, TEXT, close_payload
from moving import Told, one_request, serving
from wsframe import Cause, Disconnected, Request, Response, State
from wsframe.aio import (
    Accept,
    AddressBlockList,
    ApplicationWrapper,
    KeepAlive,
    OriginCheck,
    Route,
    Router,
    WebSocket,
    serve,
)

# Callbacks.


@aio_test
async def test_on_open() -> None:
    class Numbers(Told):
        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)
            ws.number = len(self.open)  # type: ignore[attr-defined]

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send_nowait(str(ws.number))  # type: ignore[attr-defined]

    async with serving(Numbers()) as (server, _):
        with await open_raw(server) as one, await open_raw(server) as two:
            for raw, number in ((two, b"2"), (one, b"1")):
                await raw.send_frame(TEXT, b"who am I?")
                assert (await raw.next_frame()).payload == number


@aio_test
async def test_on_message() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, "grüße".encode())
            await raw.send_frame(BINARY, "grüße".encode())
            await until(lambda: len(application.told) == 3)
        assert application.told[1:3] == [("message", "grüße"), ("message", "grüße".encode())]


@aio_test
async def test_on_close() -> None:
    class Answers(Told):
        def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
            super().on_close(ws, ending)
            assert not ws.send_nowait("too late")

    async with serving(Answers()) as (server, application):
        with await open_raw(server) as raw:
            await raw.send_close(4000, b"bye")
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload[:2]) == (CLOSE, close_payload(4000))
            assert await raw.rest() == b""
        ending = await application.ended(Cause.CLOSE_HANDSHAKE)
        assert (ending.code, ending.reason, ending.received_first) == (4000, "bye", True)


@aio_test
async def test_on_error() -> None:
    errors: list[BaseException] = []

    class Fails(Told):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise ValueError(message)

    class Hears(Fails):
        def on_error(self, ws: WebSocket, exc: BaseException) -> None:
            errors.append(exc)

    async with serving(Hears()) as (server, application):
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"oops")
            assert (await raw.next_frame()).payload[:2] == close_payload(1011)
            await raw.send_close(1011)
            await raw.rest()
        await application.ended(Cause.CLOSE_HANDSHAKE)
        assert [str(error) for error in errors] == ["oops"]
        # What a peer does is none.
        with await open_raw(server) as raw:
            await raw.send_frame(3, b"")
            await raw.rest()
        with await open_raw(server) as raw:
            raw.reset()
        await until(lambda: len(application.endings) == 3)
        assert len(errors) == 1
    # Whoever overrides nothing finds it in the log.
    with expect_log("a callback raised an exception"):
        async with serving(Fails()) as (server, application):
            with await open_raw(server) as raw:
                await raw.send_frame(TEXT, b"oops")
                await raw.next_frame()
                await raw.send_close(1011)
                await raw.rest()


# What a connection has.


@aio_test
async def test_send() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            assert ws.send_nowait("text")
            await ws.send(b"binary")
            frames = [await raw.next_frame() for _ in range(2)]
            assert [(frame.opcode, frame.payload) for frame in frames] == [
                (TEXT, b"text"),
                (BINARY, b"binary"),
            ]
            ws.start_closing()
            assert not ws.send_nowait("too late")


@aio_test
async def test_close() -> None:
    class Leaves(Told):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            super().on_message(ws, message)
            ws.start_closing(4000, "enough")

    async with serving(Leaves()) as (server, application):
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"one")
            assert (await raw.next_frame()).payload == close_payload(4000, b"enough")
            # TCP is there until the peer's Close frame has come.
            await raw.send_frame(TEXT, b"two")
            assert not application.endings
            await raw.send_close(4000)
            assert await raw.rest() == b""
        await application.ended(Cause.CLOSE_HANDSHAKE)
        assert application.told == [("open", "/"), ("message", "one"), ("close", Cause.CLOSE_HANDSHAKE)]
        # In a task.
        with await open_raw(server) as raw:
            await until(lambda: len(application.open) == 2)
            closing = asyncio.create_task(application.open[-1].close(4001, "enough"))
            assert (await raw.next_frame()).payload == close_payload(4001, b"enough")
            assert not closing.done()
            await raw.send_close(4001)
            await closing


@pytest.mark.parametrize("component", [False, True])
@aio_test
async def test_enable_keep_alive(component: bool) -> None:
    told = Told()
    application: Any = KeepAlive(told, 0.25) if component else told
    async with serving(application, heartbeat=None if component else 0.25) as (server, _):
        with await open_raw(server) as raw:
            # However much it says: it is asked in every period.
            for _ in range(2):
                await raw.send_frame(TEXT, b"here")
                ping = await raw.next_frame()
                assert ping.opcode == PING
                await raw.send_frame(PONG, ping.payload)
            ending = await told.ended(Cause.PING_TIMEOUT)
            assert (ending.code, ending.clean) == (1006, False)


@aio_test
async def test_set_strict_sub_protocol_check() -> None:
    offer = Subprotocol("other")
    async with (
        serving(subprotocols=["chat"]) as (server, _),
        websockets.asyncio.client.connect(uri_of(server), subprotocols=[offer]) as theirs,
    ):
        assert theirs.subprotocol is None
    async with serving(subprotocols=["chat"], require_subprotocol=True) as (server, _):
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            await websockets.asyncio.client.connect(uri_of(server), subprotocols=[offer])
        assert caught.value.response.status_code == 400


@aio_test
async def test_get_sub_protocols() -> None:
    async with serving(subprotocols=["v2", "v1"]) as (server, application):
        offers = [Subprotocol("v1"), Subprotocol("v2")]
        async with websockets.asyncio.client.connect(uri_of(server), subprotocols=offers) as theirs:
            assert theirs.subprotocol == "v2"
            assert (await application.one()).subprotocol == "v2"


@aio_test
async def test_http_request() -> None:
    async with serving() as (server, application):
        with await open_raw(server, ("Cookie", "a=b")) as raw:
            request = (await application.one()).request
            assert (request.method, request.target) == ("GET", "/")
            assert request.headers["cookie"] == "a=b"
            assert request.remote_address == raw.sock.getsockname()


@aio_test
async def test_closing() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            ws = await application.one()
            states = [ws.state]
            ws.start_closing()
            states.append(ws.state)
            await raw.send_close()
            await raw.rest()
        await ws.wait_closed()
        assert [*states, ws.state] == [State.OPEN, State.CLOSING, State.CLOSED]


@aio_test
async def test_resource_id() -> None:
    async with serving() as (server, application):
        for number in (1, 2):
            with await open_raw(server):
                await until(lambda: len(application.open) == number)  # noqa: B023
            await application.open[-1].wait_closed()
        assert [ws.id for ws in application.open] == [1, 2]


@aio_test
async def test_remote_address() -> None:
    async with serving() as (server, application):
        with await open_raw(server) as raw:
            host, port = (await application.one()).remote_address
            assert (host, port) == raw.sock.getsockname()


@aio_test
async def test_sending_to_all_the_others() -> None:
    class Chat(Told):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.server.broadcast(message, exclude=ws)

    async with serving(Chat()) as (server, application):
        with await open_raw(server) as ann, await open_raw(server) as bob, await open_raw(server) as eve:
            await until(lambda: len(application.open) == 3)
            await ann.send_frame(TEXT, b"from ann")
            assert [(await raw.next_frame()).payload for raw in (bob, eve)] == [b"from ann"] * 2
            await bob.send_frame(TEXT, b"from bob")
            # It is the first that ann gets.
            assert [(await raw.next_frame()).payload for raw in (ann, eve)] == [b"from bob"] * 2


# Components.


@aio_test
async def test_message_component_interface() -> None:
    class Shout(ApplicationWrapper):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            super().on_message(ws, str(message).upper())

    inner = Told()
    async with serving(Shout(inner)) as (server, _):
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"hello")
            await raw.send_close()
            await raw.rest()
        await inner.ended(Cause.CLOSE_HANDSHAKE)
    assert inner.told == [("open", "/"), ("message", "HELLO"), ("close", Cause.CLOSE_HANDSHAKE)]


@pytest.mark.parametrize("component", [False, True])
@aio_test
async def test_origin_check(component: bool) -> None:
    told = Told()
    good, evil = Origin("https://example.org"), Origin("https://evil.example")
    application: Any = OriginCheck(told, [good]) if component else told
    # The server itself is asked first.
    origins = [good, evil] if component else [good]
    async with serving(application, origins=origins) as (server, _):
        async with websockets.asyncio.client.connect(uri_of(server), origin=good):
            await told.one()
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            await websockets.asyncio.client.connect(uri_of(server), origin=evil)
        assert caught.value.response.status_code == 403
    # What nobody has to say.
    async with serving() as (server, _):
        own = Origin(uri_of(server).replace("ws:", "http:").rstrip("/"))
        async with websockets.asyncio.client.connect(uri_of(server), origin=own):
            pass
        with pytest.raises(websockets.exceptions.InvalidStatus):
            await websockets.asyncio.client.connect(uri_of(server), origin=good)


@aio_test
async def test_ip_black_list() -> None:
    told = Told()
    blocking = AddressBlockList(told, ["10.0.0.0/8"])
    async with serving(blocking) as (server, _):
        with await open_raw(server) as raw:
            ws = await told.one()
            assert not blocking.is_blocked(ws.remote_address)
            blocking.block("127.0.0.0/8")
            assert blocking.is_blocked(ws.remote_address)
            assert blocking.is_blocked(("10.1.2.3", 1))
            assert (await one_request(server, upgrade=True)).startswith(b"HTTP/1.1 403 ")
            # What is open stays open.
            assert ws.send_nowait("still here")
            assert (await raw.next_frame()).payload == b"still here"
        blocking.unblock("127.0.0.0/8")
        with await open_raw(server):
            await until(lambda: len(told.open) == 2)


@aio_test
async def test_session_provider() -> None:
    sessions = {"session=1": "ann"}

    class Remembers(Told):
        def on_request(self, request: Request) -> Accept | Response:
            user = sessions.get(request.headers.get("Cookie", ""))
            return Response(401) if user is None else Accept(context=user)

        def on_open(self, ws: WebSocket) -> None:
            ws.send_nowait(f"hello, {ws.context}")

    async with serving(Remembers()) as (server, _):
        with await open_raw(server, ("Cookie", "session=1")) as raw:
            assert (await raw.next_frame()).payload == b"hello, ann"
        answer = await one_request(server, "/", ("Cookie", "session=2"), upgrade=True)
        assert answer.startswith(b"HTTP/1.1 401 ")


@aio_test
async def test_app_route() -> None:
    class Room(Told):
        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)
            ws.send_nowait(ws.path_params.get("room", "no room"))

    chat, other = Room(), Room()
    router = Router([Route("/chat/<room>", chat), Route("/other", other, origins=["https://example.org"])])
    async with serving(router) as (server, _):
        async with websockets.asyncio.client.connect(f"{uri_of(server)}chat/red") as theirs:
            assert await theirs.recv() == "red"
        origin = Origin("https://example.org")
        async with websockets.asyncio.client.connect(f"{uri_of(server)}other", origin=origin) as theirs:
            assert await theirs.recv() == "no room"
        assert (await one_request(server, "/nowhere", upgrade=True)).startswith(b"HTTP/1.1 404 ")
        assert [told.told[0] for told in (chat, other)] == [("open", "/chat/red"), ("open", "/other")]


@aio_test
async def test_io_server_factory() -> None:
    told = Told()
    async with serve(told, "127.0.0.1", 0) as server:
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"hello")
            await until(lambda: len(told.told) == 2)
        # HTTP is read whatever the application does, and within bounds.
        answer = await one_request(server, "/", ("X", "x" * 20_000), upgrade=True)
        assert answer.startswith(b"HTTP/1.1 431 ")


@aio_test
async def test_run() -> None:
    async with serving() as (server, application):
        running = asyncio.create_task(server.serve_forever())
        with await open_raw(server) as raw:
            await application.one()
            closing = asyncio.create_task(server.close())
            assert (await raw.next_frame()).payload == close_payload(1001)
            await raw.send_close(1001)
            await raw.rest()
            await closing
        await running
