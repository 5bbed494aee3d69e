"""Callbacks on asyncio: `Application` with `serve` and `connect`; with bare sockets and the websockets library."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets.asyncio.client

from aiohelpers import (
    Listener,
    Raw,
    aio_test,
    client_context,
    dial,
    echo,
    expect_log,
    open_raw,
    opened,
    server_context,
    until,
    uri_of,
)
from framebuilder import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    build,
    client_handshake_request,
    close_payload,
    parse_all,
)
from wsframe import (
    Cause,
    Disconnected,
    Initiator,
    Limits,
    LocalProtocolError,
    Request,
    Response,
    State,
)
from wsframe.aio import (
    Application,
    ConnectionClosedOK,
    ConnectLost,
    HandshakeRejected,
    Server,
    WebSocket,
    connect,
    serve,
)


class Record(Application):
    """Answers every message, and remembers what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.open: list[WebSocket] = []

    def on_open(self, ws: WebSocket) -> None:
        self.told.append(("open",))
        self.open.append(ws)

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        assert ws in self.open
        self.told.append(("message", message))
        ws.send_nowait(message)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        assert ws.ending is ending
        self.open.remove(ws)
        self.told.append(("close", ending.cause))

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
        assert remote_address[0] == "127.0.0.1"
        assert not ending.was_websocket
        self.told.append(("disconnect", None if request is None else request.target, ending.cause))

    def on_error(self, ws: WebSocket, exc: BaseException) -> None:
        self.told.append(("error", type(exc)))

    @property
    def messages(self) -> list[str | bytes]:
        """The messages that it got."""
        return [told[1] for told in self.told if told[0] == "message"]

    @property
    def names(self) -> list[str]:
        """Which callbacks were called."""
        return [told[0] for told in self.told]

    async def until_closed(self) -> None:
        """Wait for the end of a WebSocket."""
        await until(lambda: "close" in self.names)


@contextlib.asynccontextmanager
async def serving(application: Application, **options: Any) -> AsyncIterator[Server]:
    options.setdefault("ping_interval", None)
    async with serve(application, "127.0.0.1", 0, **options) as server:
        yield server


async def exchange_close(raw: Raw, code: int = 1000) -> bytes:
    """Close from the peer's side; return what came up to the end of the stream."""
    await raw.send_close(code)
    return await raw.rest()


# The order of things.


@aio_test
async def test_open_then_every_message_once_in_order_then_close() -> None:
    application = Record()
    async with serving(application) as server:
        with await open_raw(server) as raw:
            await raw.send(b"".join(raw.frame(TEXT, b"%d" % number) for number in range(500)))
            frames = [await raw.next_frame() for _ in range(500)]
            assert [frame.payload for frame in frames] == [b"%d" % number for number in range(500)]
            assert parse_all(await exchange_close(raw))[-1].payload == close_payload(1000)
        await application.until_closed()
    assert application.told == [
        ("open",),
        *(("message", str(number)) for number in range(500)),
        ("close", Cause.CLOSE_HANDSHAKE),
    ]


@aio_test
async def test_text_is_str_and_binary_is_bytes() -> None:
    application = Record()
    async with serving(application) as server:
        async with websockets.asyncio.client.connect(uri_of(server)) as theirs:
            for message in ("", "héllo ☃", "x" * 70_000, b"", b"\x00\xff", bytes(300_000)):
                await theirs.send(message)
                assert await theirs.recv() == message
        await application.until_closed()


@aio_test
async def test_messages_in_one_chunk_with_the_request_and_the_close() -> None:
    application = Record()
    chunk = b"".join(build(TEXT, b"%d" % number, mask=b"1234") for number in range(3))
    async with serving(application) as server:
        with await open_raw(server, then=chunk + build(CLOSE, close_payload(4000), mask=b"1234")) as raw:
            frames = parse_all(await raw.rest())
            assert [frame.payload for frame in frames] == [b"0", b"1", b"2", close_payload(4000)]
        await application.until_closed()
    assert application.names == ["open", "message", "message", "message", "close"]


@aio_test
async def test_what_on_open_sends_comes_first() -> None:
    class Greeting(Record):
        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)
            assert ws.state is State.OPEN
            assert ws.request.target == "/"
            assert ws.send_nowait("welcome")

    application = Greeting()
    async with serving(application) as server:
        with await open_raw(server, then=build(TEXT, b"early", mask=b"1234")) as raw:
            assert (await raw.next_frame()).payload == b"welcome"
            assert (await raw.next_frame()).payload == b"early"
            await exchange_close(raw)
        await application.until_closed()


@aio_test
async def test_what_callbacks_send_for_one_chunk_leaves_together() -> None:
    application = Record()
    async with serving(application) as server:
        with await open_raw(server) as raw:
            chunk = b"".join(raw.frame(TEXT, b"%2d" % number) for number in range(100))
            await raw.send(chunk)
            assert len(await raw.receive()) == 4 * 100
            await exchange_close(raw)
        await application.until_closed()


@pytest.mark.parametrize("reset", [False, True])
@aio_test
async def test_what_came_before_the_end_is_delivered_before_it(reset: bool) -> None:
    application = Record()
    async with serving(application, max_message_size=4 << 20) as server:
        raw = await open_raw(server)
        # More than is delivered in one go, so that some of it is kept back.
        await raw.send(b"".join(raw.frame(TEXT, b"%6d" % number + bytes(100_000)) for number in range(30)))
        await until(lambda: len(application.messages) == 30)
        await raw.send(raw.frame(TEXT, b"last"))
        await until(lambda: len(application.messages) == 31)
        if reset:
            raw.reset()
        else:
            raw.close()
        await application.until_closed()
    assert [int(str(message)[:6]) for message in application.messages[:-1]] == list(range(30))
    assert application.names == ["open", *["message"] * 31, "close"]


@aio_test
async def test_no_task_for_a_connection() -> None:
    application = Record()
    async with serving(application) as server:
        before = len(asyncio.all_tasks())
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"x")
            await raw.next_frame()
            assert len(asyncio.all_tasks()) == before
            await exchange_close(raw)
        await application.until_closed()


@aio_test
async def test_pings_are_answered_and_no_message() -> None:
    application = Record()
    async with serving(application) as server:
        with await open_raw(server) as raw:
            await raw.send_frame(PING, b"are you there?")
            frame = await raw.next_frame()
            assert (frame.opcode, frame.payload) == (PONG, b"are you there?")
            await exchange_close(raw)
        await application.until_closed()
    assert application.names == ["open", "close"]


@aio_test
async def test_tls_and_compression() -> None:
    application = Record()
    async with serving(application, ssl=server_context(), compression=True) as server:
        uri = uri_of(server).replace("ws:", "wss:")
        async with websockets.asyncio.client.connect(uri, ssl=client_context()) as theirs:
            for message in ("x" * 100_000, "y" * 1000, b"z" * 50_000):
                await theirs.send(message)
                assert await theirs.recv() == message
        await application.until_closed()
    assert application.names == ["open", *["message"] * 3, "close"]


@aio_test
async def test_an_ended_websocket_needs_no_garbage_collector() -> None:
    kept: list[weakref.ref[Any]] = []

    class Keep(Record):
        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)
            kept.append(weakref.ref(ws))
            kept.append(weakref.ref(ws._channel))

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise ZeroDivisionError

    application = Keep()
    async with serving(application) as server:
        gc.disable()
        try:
            with await open_raw(server) as raw:
                await raw.send_frame(TEXT, b"x")
                await raw.next_frame()
                await exchange_close(raw)
            await application.until_closed()
            await asyncio.sleep(0.01)
            assert [reference() for reference in kept] == [None, None]
        finally:
            gc.enable()


# Who closes.


@pytest.mark.parametrize("how", ["start_closing", "close in a task", "abort"])
@aio_test
async def test_no_message_after_the_application_has_closed(how: str) -> None:
    tasks: list[asyncio.Task[None]] = []

    class Leaving(Record):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            super().on_message(ws, message)
            if message != "go":
                return
            if how == "abort":
                ws.abort()
            elif how == "start_closing":
                ws.start_closing(4001, "enough")
            else:
                tasks.append(asyncio.create_task(ws.close(4001, "enough")))
                # A task begins later, when this chunk is done.
                return
            assert not ws.send_nowait("too late")

    application = Leaving()
    async with serving(application) as server:
        with await open_raw(server) as raw:
            await raw.send(b"".join(raw.frame(TEXT, text) for text in (b"a", b"go", b"b", b"c")))
            if how == "abort":
                with contextlib.suppress(ConnectionResetError):
                    await raw.rest()
            else:
                frames = [await raw.next_frame()]
                while frames[-1].opcode != CLOSE:
                    frames.append(await raw.next_frame())
                assert frames[-1].payload == close_payload(4001, b"enough")
                await raw.send(raw.frame(TEXT, b"d"))
                await exchange_close(raw, 4001)
        await application.until_closed()
        await asyncio.gather(*tasks)
    expected = ["a", "go", "b", "c"] if tasks else ["a", "go"]
    assert application.messages == expected
    assert application.names[-1] == "close"
    assert application.names.count("close") == 1


@aio_test
async def test_a_code_that_may_not_be_sent_does_not_stop_the_messages() -> None:
    class Clumsy(Record):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            with pytest.raises(LocalProtocolError):
                ws.start_closing(1005)
            super().on_message(ws, message)

    application = Clumsy()
    async with serving(application) as server:
        with await open_raw(server) as raw:
            await raw.send(raw.frame(TEXT, b"a") + raw.frame(TEXT, b"b"))
            assert [(await raw.next_frame()).payload for _ in range(2)] == [b"a", b"b"]
            await exchange_close(raw)
        await application.until_closed()


@aio_test
async def test_closing_in_on_open() -> None:
    class Unfriendly(Record):
        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)
            ws.start_closing(1013, "full")

    application = Unfriendly()
    async with serving(application) as server:
        with await open_raw(server, then=build(TEXT, b"early", mask=b"1234")) as raw:
            assert (await raw.next_frame()).payload == close_payload(1013, b"full")
            await exchange_close(raw, 1013)
        await application.until_closed()
    assert application.told == [("open",), ("close", Cause.CLOSE_HANDSHAKE)]


@aio_test
async def test_closing_the_server_closes_all_and_waits_for_nothing_else() -> None:
    application = Record()
    ended: list[Disconnected] = []

    def on_end(request: Any, address: Any, ending: Disconnected) -> None:
        # The application has heard of it before.
        assert ("close", ending.cause) in application.told
        ended.append(ending)

    async with serving(application, on_end=on_end) as server, contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(websockets.asyncio.client.connect(uri_of(server)))
            for _ in range(3)
        ]
        await until(lambda: len(application.open) == 3)
        counts = await server.close(reason="maintenance")
        assert counts == {Cause.CLOSE_HANDSHAKE: 3}
        assert len(ended) == 3
        for theirs in clients:
            await theirs.wait_closed()
            assert (theirs.close_code, theirs.close_reason) == (1001, "maintenance")
    assert application.names.count("close") == 3


# Failures.


class Failing(Record):
    """One of its callbacks raises."""

    def __init__(self, where: str, error: type[BaseException] = ZeroDivisionError) -> None:
        super().__init__()
        self.where = where
        self.error = error

    def on_open(self, ws: WebSocket) -> None:
        super().on_open(ws)
        self.fail("open")

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        super().on_message(ws, message)
        self.fail("message")

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        super().on_close(ws, ending)
        self.fail("close")

    def fail(self, where: str) -> None:
        if where == self.where:
            raise self.error("wurst")


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
@pytest.mark.parametrize("where", ["open", "message"])
@aio_test
async def test_a_failing_callback_closes_with_1011_and_is_the_last_but_on_close(
    where: str, error: type[BaseException]
) -> None:
    application = Failing(where, error)
    async with serving(application) as server:
        with await open_raw(server) as raw:
            await raw.send(raw.frame(TEXT, b"a") + raw.frame(TEXT, b"b"))
            received = await exchange_close(raw, 1011)
        assert parse_all(received)[-1].payload == close_payload(1011)
        await application.until_closed()
    sent = [("message", "a")] if where == "message" else []
    assert application.told == [("open",), *sent, ("error", error), ("close", Cause.CLOSE_HANDSHAKE)]


@aio_test
async def test_a_failing_on_close_loses_nothing() -> None:
    application = Failing("close")
    ended: list[Disconnected] = []
    async with serving(application, on_end=lambda *told: ended.append(told[-1])) as server:
        with await open_raw(server) as raw:
            await exchange_close(raw)
        await application.until_closed()
        assert [ending.cause for ending in ended] == [Cause.CLOSE_HANDSHAKE]
        assert await server.close() == {}
    assert application.names == ["open", "close", "error"]


@pytest.mark.parametrize("where", ["open", "message", "close"])
@aio_test
async def test_by_default_an_error_is_logged_once(where: str) -> None:
    class Default(Failing):
        def on_error(self, ws: WebSocket, exc: BaseException) -> None:
            Application.on_error(self, ws, exc)

    application = Default(where)
    async with serving(application) as server:
        with expect_log("a callback raised an exception"), await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"a")
            received = await exchange_close(raw)
            await application.until_closed()
        frames = [frame for frame in parse_all(received) if frame.opcode == CLOSE]
        assert frames[0].payload == close_payload(1000 if where == "close" else 1011)


@aio_test
async def test_on_error_may_choose_another_code() -> None:
    class Own(Failing):
        def on_error(self, ws: WebSocket, exc: BaseException) -> None:
            super().on_error(ws, exc)
            ws.start_closing(4000, str(exc))

    application = Own("message")
    async with serving(application) as server:
        with await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"a")
            frames = parse_all(await exchange_close(raw))
            assert frames[-1].payload == close_payload(4000, b"wurst")
        await application.until_closed()


@aio_test
async def test_a_failing_on_error_is_logged_and_closes_all_the_same() -> None:
    class Worse(Failing):
        def on_error(self, ws: WebSocket, exc: BaseException) -> None:
            raise KeyError("and that")

    application = Worse("message")
    async with serving(application) as server:
        with expect_log("on_error raised an exception"), await open_raw(server) as raw:
            await raw.send_frame(TEXT, b"a")
            assert parse_all(await exchange_close(raw))[-1].payload == close_payload(1011)
            await application.until_closed()


@aio_test
async def test_what_a_peer_does_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    application = Record()
    caplog.set_level(logging.INFO)
    async with serving(application) as server:
        for what in (b"\xff\xff", raw_frame(TEXT, b"\xff"), raw_frame(CLOSE, b"\x03")):
            with await open_raw(server) as raw:
                await raw.send(raw.frame(TEXT, b"good") + what)
                await raw.rest()
        (await open_raw(server)).reset()
        await until(lambda: application.names.count("close") == 4)
    assert application.names.count("message") == 3
    assert {told[1] for told in application.told if told[0] == "close"} == {
        Cause.PROTOCOL_ERROR,
        Cause.INVALID_DATA,
        Cause.RESET,
    }
    assert "error" not in application.names
    assert not caplog.records


def raw_frame(opcode: int, payload: bytes) -> bytes:
    return build(opcode, payload, mask=b"1234")


# What never becomes a WebSocket.


@aio_test
async def test_on_disconnect_is_for_what_never_became_a_websocket() -> None:
    application = Record()
    async with serving(application, open_timeout=1) as server:
        (await dial(server)).close()
        await until(lambda: len(application.told) == 1)
        with await dial(server) as raw:
            await raw.send(b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.rest()).startswith(b"HTTP/1.1 426 ")
        await until(lambda: len(application.told) == 2)
        with await dial(server) as raw:
            await raw.send(client_handshake_request(key="short"))
            assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")
        await until(lambda: len(application.told) == 3)
    assert application.told == [
        ("disconnect", None, Cause.EOF),
        ("disconnect", "/page", Cause.PLAIN_HTTP),
        ("disconnect", application.told[2][1], Cause.REJECTED),
    ]


@aio_test
async def test_on_disconnect_hears_of_a_failed_tls_handshake() -> None:
    application = Record()
    async with serving(application, ssl=server_context()) as server:
        with await dial(server) as raw:
            await raw.send(b"this is no TLS at all\r\n\r\n")
            await raw.rest()
        await until(lambda: application.told)
    assert application.told == [("disconnect", None, Cause.TLS_ERROR)]


@aio_test
async def test_a_failing_on_disconnect_is_logged_and_on_end_hears_of_it_still() -> None:
    class Failing(Application):
        def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
            raise ZeroDivisionError

    ended: list[Disconnected] = []
    async with serving(Failing(), on_end=lambda *told: ended.append(told[-1])) as server:
        with expect_log("on_disconnect raised"):
            (await dial(server)).close()
            await until(lambda: ended)


# on_request.


@pytest.mark.parametrize("later", [False, True])
@aio_test
async def test_on_request_refuses_or_answers_or_lets_go_on(later: bool) -> None:
    def decide(request: Request) -> Response | None:
        if request.target == "/health":
            return Response(200, body=b"fine\n")
        return Response(401) if "Authorization" not in request.headers else None

    class Now(Record):
        def on_request(self, request: Request) -> Response | None:
            return decide(request)

    class Later(Record):
        async def on_request(self, request: Request) -> Response | None:
            await asyncio.sleep(0.01)
            return decide(request)

        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)
            ws.send_nowait("welcome")

    application = Later() if later else Now()
    async with serving(application) as server:
        with await dial(server) as raw:
            await raw.send(b"GET /health HTTP/1.0\r\n\r\n")
            assert (await raw.rest()).endswith(b"\r\n\r\nfine\n")
        with pytest.raises(HandshakeRejected) as caught:
            await connect(uri_of(server))
        assert caught.value.status == 401
        async with connect(uri_of(server), headers=[("Authorization", "me")]) as ws:
            await ws.send("x")
            if later:
                assert await ws.recv() == "welcome"
            assert await ws.recv() == "x"
        await application.until_closed()
    assert application.names == ["disconnect", "disconnect", "open", "message", "close"]


@pytest.mark.parametrize("later", [False, True])
@aio_test
async def test_a_failing_on_request_is_a_500(later: bool) -> None:
    class Now(Record):
        def on_request(self, request: Request) -> Response | None:
            raise ZeroDivisionError

    class Later(Record):
        async def on_request(self, request: Request) -> Response | None:
            raise ZeroDivisionError

    application = Later() if later else Now()
    async with serving(application) as server:
        with expect_log("on_request|could not be handled"):
            with pytest.raises(HandshakeRejected) as caught:
                await connect(uri_of(server))
            assert caught.value.status == 500
            await until(lambda: application.told)
    assert application.told == [("disconnect", "/", Cause.REJECTED)]


@aio_test
async def test_on_request_as_an_argument_where_the_application_has_none() -> None:
    application = Record()
    async with serving(application, on_request=lambda request: Response(403)) as server:
        with pytest.raises(HandshakeRejected):
            await connect(uri_of(server))


class WithRequest(Application):
    def on_request(self, request: Request) -> Response | None:
        return None


class WithCoroutine(Application):
    async def on_message(self, ws: WebSocket, message: str | bytes) -> None:  # type: ignore[override]
        await ws.send(message)


@pytest.mark.parametrize(
    ("handler", "options", "message"),
    [
        (WithRequest(), {"on_request": lambda request: None}, "on_request is there twice"),
        (Application(), {"handler_cancellation": True}, "handler_cancellation is for handlers"),
        (WithCoroutine(), {}, "on_message must be a plain function"),
        (Application, {}, r"an object of it: Application\(\)"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(handler: Any, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        serve(handler, "127.0.0.1", 0, **options)


@pytest.mark.parametrize("application", [WithCoroutine(), Application, echo])
def test_connect_takes_nothing_else_for_an_application(application: Any) -> None:
    with pytest.raises(TypeError, match=r"on_message must be a plain function|an Application is"):
        connect("ws://127.0.0.1/", application=application)


# Beside callbacks.


@aio_test
async def test_recv_says_who_gets_the_messages() -> None:
    application = Record()
    async with serving(application) as server:
        async with connect(uri_of(server), application=Record()) as ws:
            with pytest.raises(RuntimeError, match="the Application gets the messages"):
                await ws.recv()
            with pytest.raises(RuntimeError, match="the Application gets the messages"):
                async for _ in ws:
                    pass
        await application.until_closed()


@aio_test
async def test_tasks_may_use_what_callbacks_have() -> None:
    tasks: list[asyncio.Task[None]] = []

    class Working(Application):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            tasks.append(asyncio.create_task(self.work(ws, message)))

        async def work(self, ws: WebSocket, message: str | bytes) -> None:
            assert await (await ws.ping()) >= 0
            await ws.send(message)
            await ws.drain()
            await ws.close(4000)
            with pytest.raises(ConnectionClosedOK if ws.close_code == 1000 else Exception):
                await ws.send("x")

    async with serving(Working()) as server:
        async with connect(uri_of(server)) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"
            await ws.wait_closed()
            assert ws.close_code == 4000
        await asyncio.gather(*tasks)


@aio_test
async def test_a_peer_that_does_not_read_is_not_read_from() -> None:
    application = Record()
    limits = Limits(write_high_water=50_000, write_low_water=20_000, write_hard_cap=1 << 20)
    count = 3000
    # Without a timer that would look at it sooner or later.
    async with serving(application, limits=limits, write_timeout=None) as server:
        with await open_raw(server, receive_buffer=4096) as raw:
            flood = asyncio.create_task(
                raw.send(b"".join(raw.frame(TEXT, b"%5d" % n + bytes(10_000)) for n in range(count)))
            )
            (ws,) = application.open
            # What the kernel takes is no business of ours; it is much less than all.
            await until(lambda: ws.buffered_bytes > 50_000)
            seen = -1
            while seen != len(application.messages):
                seen = len(application.messages)
                await asyncio.sleep(0.1)
            assert seen < count
            assert ws.buffered_bytes < 1 << 20
            assert not flood.done()
            # And nothing of it is lost.
            for number in range(count):
                assert int((await raw.next_frame()).payload[:5]) == number
            await flood
            await exchange_close(raw)
        await application.until_closed()
    assert application.told[-1] == ("close", Cause.CLOSE_HANDSHAKE)


# Clients.


@aio_test
async def test_a_client_with_callbacks() -> None:
    application = Record()
    ending: Disconnected | None = None

    class Client(Record):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            self.told.append(("message", message))

    client = Client()
    async with serving(application) as server:
        async with connect(uri_of(server), application=client) as ws:
            # It was told before connect was done.
            assert client.told == [("open",)]
            assert client.open == [ws]
            for number in range(100):
                assert ws.send_nowait(str(number))
            await until(lambda: len(client.messages) == 100)
        ending = ws.ending
        assert ending is not None
        assert ending.clean
    assert client.told == [
        ("open",),
        *(("message", str(number)) for number in range(100)),
        ("close", Cause.CLOSE_HANDSHAKE),
    ]


@aio_test
async def test_a_client_gets_what_comes_with_the_response() -> None:
    application = Record()
    with Listener() as listener:
        task = asyncio.ensure_future(awaited(connect(listener.uri, application=application)))
        with await listener.accept() as raw:
            await raw.accept_websocket(then=build(TEXT, b"one") + build(TEXT, b"two") + build(CLOSE))
            ws = await task
            assert application.told[0] == ("open",)
            assert [(await raw.next_frame()).payload for _ in range(2)] == [b"one", b"two"]
            await raw.next_frame()
            raw.close()
        ending = await ws.wait_closed()
        assert (ending.cause, ending.code, ending.initiator) == (
            Cause.CLOSE_HANDSHAKE,
            1005,
            Initiator.REMOTE,
        )
    assert application.names == ["open", "message", "message", "close"]


async def awaited(connecting: connect) -> WebSocket:
    return await connecting


@aio_test
async def test_a_client_that_fails_to_connect_raises_and_calls_nothing() -> None:
    application = Record()
    with Listener() as listener:
        pass
    with pytest.raises(ConnectLost):
        await connect(listener.uri, application=application)
    async with serving(WithRequest(), on_end=None) as server:
        with pytest.raises(HandshakeRejected):
            await connect(uri_of(server), application=application, origin="https://elsewhere.example")
    assert application.told == []


@aio_test
async def test_a_client_whose_on_open_closes() -> None:
    class Short(Record):
        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)
            ws.send_nowait("that is all")
            ws.start_closing()

    application = Short()
    with Listener() as listener:
        async with opened(connect(listener.uri, application=application), listener) as (ws, raw):
            assert (await raw.next_frame()).payload == b"that is all"
            assert (await raw.next_frame()).opcode == CLOSE
            await raw.send_close()
            raw.shutdown()
            assert (await ws.wait_closed()).clean
    assert application.names == ["open", "close"]
