"""Components around an `Application`: the base class, and the four that there are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiohelpers import aio_test, expect_log, open_raw, until, uri_of
from framebuilder import PING, TEXT
from wsframe import ANY_ORIGIN, Cause, Disconnected, Request, Response
from wsframe.aio import (
    Accept,
    AddressBlockList,
    Application,
    ApplicationWrapper,
    Counting,
    HandshakeRejected,
    KeepAlive,
    OriginCheck,
    Server,
    WebSocket,
    connect,
    serve,
)


class Inner(Application):
    """Echoes, and remembers what it is told."""

    def __init__(self, says: Any = None) -> None:
        self.told: list[Any] = []
        self.says = says
        self.sockets: list[WebSocket] = []

    def on_request(self, request: Request) -> Any:
        self.told.append("request")
        return self.says

    def on_open(self, ws: WebSocket) -> None:
        self.told.append("open")
        self.sockets.append(ws)

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.told.append(message)
        if message == "fail":
            raise ValueError("a bug")
        ws.send_nowait(message)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.told.append(("close", ending.code))

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
        self.told.append(("disconnect", ending.cause))

    def on_error(self, ws: WebSocket, exc: BaseException) -> None:
        self.told.append(("error", str(exc)))


class Later(Inner):
    """Answers requests with a coroutine."""

    async def on_request(self, request: Request) -> Any:
        await asyncio.sleep(0)
        return super().on_request(request)


@contextlib.asynccontextmanager
async def serving(application: Application, **options: Any) -> AsyncIterator[tuple[Server, str]]:
    options.setdefault("ping_interval", None)
    async with serve(application, "127.0.0.1", 0, **options) as server:
        yield server, uri_of(server)


async def talk(uri: str, **options: Any) -> None:
    async with connect(uri, **options) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"


async def refused(uri: str, **options: Any) -> tuple[int, str]:
    with pytest.raises(HandshakeRejected) as caught:
        await connect(uri, **options)
    return caught.value.status, caught.value.body.decode()


both_styles = pytest.mark.parametrize("kind", [Inner, Later])


# The base class.


@both_styles
@aio_test
async def test_everything_is_passed_on(kind: Any) -> None:
    inner = kind()
    async with serving(ApplicationWrapper(ApplicationWrapper(inner))) as (_server, uri):
        await talk(uri)
        async with connect(uri) as ws:
            await ws.send("fail")
            await ws.wait_closed()
            assert ws.close_code == 1011
        await until(lambda: len(inner.told) >= 8)
        assert inner.told == [
            "request",
            "open",
            "hello",
            ("close", 1000),
            "request",
            "open",
            "fail",
            ("error", "a bug"),
            *inner.told[8:],
        ]
        inner.told.clear()
        inner.says = Response(404)
        assert (await refused(uri))[0] == 404
        await until(lambda: len(inner.told) == 2)
        assert inner.told == ["request", ("disconnect", Cause.REJECTED)]


def test_what_is_not_overridden_costs_nothing() -> None:
    inner = Inner()

    class Opens(ApplicationWrapper):
        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)

    wrapped = KeepAlive(AddressBlockList(OriginCheck(Opens(inner), ANY_ORIGIN)))
    assert wrapped.on_message == inner.on_message
    assert wrapped.on_close == inner.on_close
    assert wrapped.on_open != inner.on_open
    assert Counting(inner).on_message != inner.on_message


def test_only_applications_can_be_wrapped() -> None:
    class Waits(Application):
        async def on_message(self, ws: WebSocket, message: str | bytes) -> None:  # type: ignore[override]
            pass

    for wrong, message in (
        (7, "a component wraps an Application, not 7"),
        (Inner, "a component wraps an Application"),
        (Waits(), "on_message must be a plain function"),
    ):
        with pytest.raises(TypeError, match=message):
            ApplicationWrapper(wrong)  # type: ignore[arg-type]


@aio_test
async def test_a_wrapper_of_ones_own() -> None:
    class Shouts(ApplicationWrapper):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            assert isinstance(message, str)
            super().on_message(ws, message.upper())

    async with serving(Shouts(Inner())) as (_, uri), connect(uri) as ws:
        await ws.send("hello")
        assert await ws.recv() == "HELLO"


# The four.


@both_styles
@aio_test
async def test_origins(kind: Any) -> None:
    inner = kind()
    async with serving(OriginCheck(inner, ["https://good.example"]), origins=ANY_ORIGIN) as (_server, uri):
        await talk(uri, origin="https://good.example")
        await talk(uri)
        inner.told.clear()
        status, body = await refused(uri, origin="https://evil.example")
        assert status == 403
        assert "'https://evil.example' is not among those" in body
        await until(lambda: inner.told)
        assert inner.told == [("disconnect", Cause.REJECTED)]
    with pytest.raises(ValueError, match="ANY_ORIGIN"):
        OriginCheck(inner, "*")


@both_styles
@aio_test
async def test_blocked_addresses(kind: Any) -> None:
    inner = kind()
    wall = AddressBlockList(inner, ["10.0.0.0/8"])
    async with serving(wall, trusted_proxies=["127.0.0.1"]) as (_server, uri):
        await talk(uri)
        for address in ("10.1.2.3", "192.0.2.1"):
            headers = [("X-Forwarded-For", address)]
            assert wall.is_blocked((address, 0)) is (address == "10.1.2.3")
            if address == "10.1.2.3":
                assert await refused(uri, headers=headers) == (403, "this address is blocked\n")
            else:
                await talk(uri, headers=headers)
        wall.block("192.0.2.0/24")
        assert (await refused(uri, headers=[("X-Forwarded-For", "192.0.2.1")]))[0] == 403
        wall.unblock("192.0.2.0/24")
        await talk(uri, headers=[("X-Forwarded-For", "192.0.2.1")])
        async with connect(uri) as ws:
            wall.block("127.0.0.1")
            assert (await refused(uri))[0] == 403
            # What is open stays open.
            await ws.send("hello")
            assert await ws.recv() == "hello"
    with pytest.raises(ValueError, match="neither an address"):
        wall.block("everybody")


@both_styles
@aio_test
async def test_keepalive(kind: Any) -> None:
    inner = kind()
    async with serving(KeepAlive(inner, 0.05)) as (server, uri):
        with await open_raw(server) as raw:
            frame = await raw.next_frame()
            assert frame.opcode == PING
            # Who does not answer is dropped.
            await until(lambda: ("close", 1006) in inner.told)
    inner.says = Accept(options={"heartbeat": 99.0}, context=1)
    async with serving(KeepAlive(inner, 0.05)) as (server, uri), connect(uri) as ws:
        await ws.send("hello")
        assert await ws.recv() == "hello"
        kept = inner.sockets[-1]
        assert (kept._connection.timeouts.heartbeat, kept.context) == (99.0, 1)
    inner.says = Response(403)
    async with serving(KeepAlive(inner, 0.05)) as (server, uri):
        assert (await refused(uri))[0] == 403
    with pytest.raises(ValueError, match="heartbeat must be over 0"):
        KeepAlive(inner, 0)


@both_styles
@aio_test
async def test_counting(kind: Any) -> None:
    inner = kind()
    counting = Counting(inner)
    async with serving(counting) as (server, uri):
        async with connect(uri) as first, connect(uri):
            assert (counting.open, counting.opened) == (2, 2)
            for _ in range(3):
                await first.send("hello")
                assert await first.recv() == "hello"
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"\xff")
            await raw.rest()
        inner.says = Response(404)
        await refused(uri)
        await until(lambda: sum(counting.endings.values()) == 3 and counting.disconnects)
        assert (counting.requests, counting.open, counting.opened, counting.messages) == (4, 0, 3, 3)
        assert counting.endings == {Cause.CLOSE_HANDSHAKE: 2, Cause.INVALID_DATA: 1}
        assert counting.disconnects == {Cause.REJECTED: 1}


@aio_test
async def test_all_of_them_around_each_other() -> None:
    inner = Inner(Accept(context="user"))
    counting = Counting(
        OriginCheck(AddressBlockList(KeepAlive(inner, 60.0), ["unix"]), ["https://a.example"])
    )
    async with serving(counting, origins=ANY_ORIGIN) as (_, uri):
        await talk(uri, origin="https://a.example")
        assert (await refused(uri, origin="https://b.example"))[0] == 403
        await until(lambda: counting.disconnects)
        (ws,) = inner.sockets
        assert ws.context == "user"
        assert ws._connection.timeouts.heartbeat == 60.0
        assert (counting.requests, counting.messages) == (2, 1)


@aio_test
async def test_an_error_in_a_component_is_told() -> None:
    class Fails(ApplicationWrapper):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise ValueError("of the component")

    class Silent(Application):
        pass

    async with serving(Fails(Silent())) as (_, uri):
        with expect_log("^a callback raised an exception$"):
            async with connect(uri) as ws:
                await ws.send("hello")
                await ws.wait_closed()
        assert ws.close_code == 1011
