"""Callbacks with threads: `Application` and its components with the blocking `serve`."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import websockets.sync.client

from framebuilder import CLOSE, PING, PONG, TEXT, build, close_payload, parse_all
from synchelpers import (
    DEADLINE,
    Job,
    client_context,
    dial,
    expect_log,
    open_raw,
    opened,
    server_context,
    serving,
    tidy,
    until,
    uri_of,
)
from wsframe import ANY_ORIGIN, Cause, Disconnected, Limits, LocalProtocolError, Request, Response, State
from wsframe.sync import (
    Accept,
    AddressBlockList,
    Application,
    ApplicationWrapper,
    Counting,
    HandshakeRejected,
    KeepAlive,
    OriginCheck,
    RetryPolicy,
    Server,
    WebSocket,
    connect,
)

__all__ = ["tidy"]


class Record(Application):
    """Answers every message, and remembers what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.open: list[WebSocket] = []
        self.threads: set[threading.Thread] = set()

    def on_open(self, ws: WebSocket) -> None:
        self.threads.add(threading.current_thread())
        self.told.append(("open",))
        self.open.append(ws)

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.threads.add(threading.current_thread())
        self.told.append(("message", message))
        ws.send_nowait(message)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.threads.add(threading.current_thread())
        assert ws.ending is ending
        # What the server knows of it is still there, but nothing can be done to it.
        server, info = ws.server, ws.server.info(ws.id)
        assert info is not None
        assert info.state is State.CLOSED
        assert not server.exists(ws.id)
        assert server.get(ws.id) is None
        assert not server.push(ws.id, "too late")
        assert not server.disconnect(ws.id)
        self.told.append(("close", ending.cause))

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected) -> None:
        assert isinstance(remote_address[0], str)
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

    def until_closed(self) -> None:
        """Wait for the end of a WebSocket."""
        until(lambda: "close" in self.names)


@contextlib.contextmanager
def calling(application: Application, **options: Any) -> Iterator[Server]:
    options.setdefault("ping_interval", None)
    with serving(application, **options) as (server, _):
        yield server


# The order of things.


def test_open_then_every_message_once_in_order_then_close() -> None:
    application = Record()
    with calling(application) as server, open_raw(server) as raw:
        raw.send(b"".join(raw.frame(TEXT, b"%d" % number) for number in range(500)))
        assert [raw.next_frame().payload for _ in range(500)] == [b"%d" % number for number in range(500)]
        raw.send_close()
        assert parse_all(raw.rest())[-1].payload == close_payload(1000)
        application.until_closed()
    assert application.told == [
        ("open",),
        *(("message", str(number)) for number in range(500)),
        ("close", Cause.CLOSE_HANDSHAKE),
    ]
    # By one thread, the connection's.
    assert len(application.threads) == 1


def test_tls_and_compression() -> None:
    application = Record()
    with calling(application, ssl=server_context(), compression=True) as server:
        uri = uri_of(server).replace("ws:", "wss:")
        with websockets.sync.client.connect(uri, ssl=client_context()) as theirs:
            for message in ("x" * 100_000, "y" * 1000, b"z" * 50_000, "", b"\x00\xff"):
                theirs.send(message)
                assert theirs.recv(DEADLINE) == message
        application.until_closed()
    assert application.names == ["open", *["message"] * 5, "close"]


def test_messages_in_one_chunk_with_the_request_and_the_close() -> None:
    application = Record()
    chunk = b"".join(build(TEXT, b"%d" % number, mask=b"1234") for number in range(3))
    with calling(application) as server:
        with open_raw(server, then=chunk + build(CLOSE, close_payload(4000), mask=b"1234")) as raw:
            frames = parse_all(raw.rest())
            assert [frame.payload for frame in frames] == [b"0", b"1", b"2", close_payload(4000)]
        application.until_closed()
    assert application.names == ["open", "message", "message", "message", "close"]


def test_pings_are_answered_and_no_message() -> None:
    application = Record()
    with calling(application) as server, open_raw(server) as raw:
        raw.send_frame(PING, b"are you there?")
        frame = raw.next_frame()
        assert (frame.opcode, frame.payload) == (PONG, b"are you there?")
        raw.close()
        application.until_closed()
    assert application.names == ["open", "close"]


def test_callbacks_may_wait() -> None:
    class Waiting(Record):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            assert ws.ping().wait(DEADLINE) >= 0
            ws.send(message)
            ws.drain()
            ws.close(4000)

    with calling(Waiting()) as server, connect(uri_of(server)) as ws:
        ws.send("x")
        assert ws.recv(DEADLINE) == "x"
        assert ws.wait_closed(DEADLINE).code == 4000


def test_an_ended_websocket_needs_no_garbage_collector() -> None:
    kept: list[weakref.ref[Any]] = []

    class Keep(Application):
        def on_open(self, ws: WebSocket) -> None:
            kept.append(weakref.ref(ws))

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise ZeroDivisionError

        def on_error(self, ws: WebSocket, exc: BaseException) -> None:
            """Nothing."""

    gc.collect()
    gc.disable()
    try:
        with calling(Keep()) as server, connect(uri_of(server)) as ws:
            ws.send("x")
            ws.wait_closed(DEADLINE)
            until(lambda: kept[0]() is None)
    finally:
        gc.enable()


# Who closes.


@pytest.mark.parametrize("how", ["close", "start_closing", "abort", "disconnect", "another thread"])
def test_no_message_after_the_application_has_closed(how: str) -> None:
    class Leaving(Record):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            super().on_message(ws, message)
            if message != "go":
                return
            if how == "abort":
                ws.abort()
            elif how == "disconnect":
                assert ws.server.disconnect(ws.id, 4001)
            elif how == "another thread":
                Job(ws.start_closing, 4001).result()
            elif how == "close":
                ws.close(4001)
            else:
                ws.start_closing(4001)
            assert not ws.send_nowait("too late")

    application = Leaving()
    with calling(application, close_timeout=1) as server, open_raw(server) as raw:
        raw.send(b"".join(raw.frame(TEXT, text) for text in (b"a", b"go", b"b", b"c")))
        if how == "abort":
            with contextlib.suppress(ConnectionResetError):
                raw.rest()
        else:
            while (frame := raw.next_frame()).opcode != CLOSE:
                pass
            assert frame.payload == close_payload(4001)
            raw.send(raw.frame(TEXT, b"d"))
            raw.send_close(4001)
            raw.rest()
        application.until_closed()
    assert application.messages == ["a", "go"]
    assert application.names[-1] == "close"


def test_a_code_that_may_not_be_sent_does_not_stop_the_messages() -> None:
    class Clumsy(Record):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            with pytest.raises(LocalProtocolError):
                ws.start_closing(1005)
            super().on_message(ws, message)

    with calling(Clumsy()) as server, connect(uri_of(server)) as ws:
        for text in ("one", "two"):
            ws.send(text)
            assert ws.recv(DEADLINE) == text


def test_closing_the_server_calls_on_close_for_all() -> None:
    application = Record()
    with calling(application) as server:
        sockets = [connect(uri_of(server)) for _ in range(5)]
        until(lambda: len(application.open) == 5)
        readers = [Job(ws.wait_closed) for ws in sockets]
        assert server.close() == {Cause.CLOSE_HANDSHAKE: 5}
        assert {reader.result().code for reader in readers} == {1001}
        assert application.names.count("close") == 5


# What fails.


@pytest.mark.parametrize("where", ["on_open", "on_message", "on_close"])
def test_an_exception_is_told_and_ends_it_with_1011(where: str) -> None:
    class Fails(Record):
        def on_open(self, ws: WebSocket) -> None:
            super().on_open(ws)
            self.fail("on_open")

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            super().on_message(ws, message)
            self.fail("on_message")

        def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
            super().on_close(ws, ending)
            self.fail("on_close")

        def fail(self, name: str) -> None:
            if name == where:
                raise ZeroDivisionError

    application = Fails()
    with calling(application) as server, open_raw(server) as raw:
        raw.send(raw.frame(TEXT, b"a") + raw.frame(TEXT, b"b"))
        if where == "on_close":
            for _ in range(2):
                raw.next_frame()
            raw.send_close()
        else:
            while (frame := raw.next_frame()).opcode != CLOSE:
                pass
            assert frame.payload == close_payload(1011)
            raw.send_close(1011)
        raw.rest()
        application.until_closed()
        until(lambda: ("error", ZeroDivisionError) in application.told)
    messages = {"on_open": 0, "on_message": 1, "on_close": 2}[where]
    assert len(application.messages) == messages
    assert application.names.count("close") == 1


def test_by_default_a_failure_is_logged() -> None:
    class Fails(Application):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise ValueError("wurst")

    with (
        expect_log("^a callback raised an exception$"),
        calling(Fails()) as server,
        connect(uri_of(server)) as ws,
    ):
        ws.send("x")
        assert ws.wait_closed(DEADLINE).code == 1011


def test_on_error_may_choose_another_code_and_may_fail_itself() -> None:
    class Polite(Record):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise ValueError("wurst")

        def on_error(self, ws: WebSocket, exc: BaseException) -> None:
            ws.start_closing(4002, str(exc))

    with calling(Polite()) as server, connect(uri_of(server)) as ws:
        ws.send("x")
        assert ws.wait_closed(DEADLINE).code == 4002

    class Hopeless(Polite):
        def on_error(self, ws: WebSocket, exc: BaseException) -> None:
            raise exc

    with (
        expect_log("^on_error raised an exception$"),
        calling(Hopeless()) as server,
        connect(uri_of(server)) as ws,
    ):
        ws.send("x")
        assert ws.wait_closed(DEADLINE).code == 1011


# What never becomes a WebSocket.


def test_on_disconnect_is_for_all_else() -> None:
    application = Record()
    with calling(application) as server:
        with dial(server) as raw:
            raw.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
            raw.rest()
        until(lambda: len(application.told) == 1)
        dial(server).close()
        until(lambda: len(application.told) == 2)
    assert application.told == [
        ("disconnect", "/plain", Cause.PLAIN_HTTP),
        ("disconnect", None, Cause.EOF),
    ]


def test_on_disconnect_is_for_those_too_who_are_too_many() -> None:
    application = Record()
    with calling(application, max_connections=1) as server, open_raw(server):
        until(lambda: application.open)
        with dial(server) as raw:
            assert raw.head().startswith(b"HTTP/1.1 503 ")
        until(lambda: "disconnect" in application.names)
        assert application.told == [("open",), ("disconnect", None, Cause.REJECTED)]


def test_a_failing_on_disconnect_is_one_line_in_the_log() -> None:
    class Fails(Application):
        def on_disconnect(self, *_: object) -> None:
            raise ValueError("wurst")

    with expect_log("^on_disconnect raised an exception$"), serving(Fails()) as (server, endings):
        dial(server).close()
        endings.one()


def test_on_request_of_an_application() -> None:
    class Asks(Record):
        def on_request(self, request: Request) -> Any:
            if request.target == "/fail":
                raise ZeroDivisionError
            return Response(200, body="fine\n") if request.target == "/health" else None

    application = Asks()
    with calling(application) as server:
        with dial(server) as raw:
            raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert raw.rest().endswith(b"\r\n\r\nfine\n")
        with expect_log("^on_request raised an exception$"):
            with pytest.raises(HandshakeRejected) as caught:
                connect(uri_of(server) + "fail")
            assert caught.value.status == 500
            until(lambda: len(application.told) == 2)
        with connect(uri_of(server)) as ws:
            ws.send("x")
            assert ws.recv() == "x"


# Beside callbacks.


def test_recv_says_who_gets_the_messages() -> None:
    application = Record()
    with calling(application) as server, connect(uri_of(server)):
        until(lambda: application.open)
        (ws,) = application.open
        with pytest.raises(RuntimeError, match="the Application gets the messages"):
            ws.recv()
        with pytest.raises(RuntimeError, match="the Application gets the messages"):
            list(ws)
        with pytest.raises(RuntimeError, match="the Application gets the messages"):
            ws.start_pump(print)


def test_a_peer_that_does_not_read_is_not_read_from() -> None:
    application = Record()
    limits = Limits(write_high_water=50_000, write_low_water=20_000, write_hard_cap=1 << 20)
    count = 3000
    with calling(application, limits=limits, write_timeout=None) as server:
        with open_raw(server, receive_buffer=4096) as raw:
            flood = Job(raw.send, b"".join(raw.frame(TEXT, b"%5d" % n + bytes(10_000)) for n in range(count)))
            until(lambda: application.open)
            (ws,) = application.open
            # What the kernel takes is no business of ours; it is much less than all.
            until(lambda: ws.buffered_bytes > 50_000)
            seen = -1
            while seen != len(application.messages):
                seen = len(application.messages)
                threading.Event().wait(0.1)
            assert seen < count
            assert ws.buffered_bytes < 1 << 20
            assert flood.running
            # And nothing of it is lost.
            for number in range(count):
                assert int(raw.next_frame().payload[:5]) == number
            flood.result()
            raw.send_close()
            raw.rest()
        application.until_closed()
    assert application.told[-1] == ("close", Cause.CLOSE_HANDSHAKE)


# Components.


def refused(uri: str, **options: Any) -> int:
    with pytest.raises(HandshakeRejected) as caught:
        connect(uri, **options)
    return caught.value.status


def test_components_around_each_other() -> None:
    class Inner(Record):
        def on_request(self, request: Request) -> Accept:
            return Accept(context="user")

    class Shouts(ApplicationWrapper):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            super().on_message(ws, str(message).upper())

    inner = Inner()
    wall = AddressBlockList(KeepAlive(Shouts(inner), 60.0), ["10.0.0.0/8"])
    counting = Counting(OriginCheck(wall, ["https://a.example"]))
    with calling(counting, origins=ANY_ORIGIN, trusted_proxies=["127.0.0.1"]) as server:
        uri = uri_of(server)
        with connect(uri, origin="https://a.example") as ws:
            ws.send("hello")
            assert ws.recv(DEADLINE) == "HELLO"
            (kept,) = inner.open
            assert (kept.context, kept._connection.timeouts.heartbeat) == ("user", 60.0)
            assert counting.open == 1
        assert refused(uri, origin="https://b.example") == 403
        assert refused(uri, headers=[("X-Forwarded-For", "10.1.2.3")]) == 403
        wall.block("127.0.0.1")
        assert refused(uri) == 403
        until(lambda: counting.disconnects[Cause.REJECTED] == 3)
        until(lambda: counting.endings)
    assert (counting.requests, counting.messages, counting.open, counting.opened) == (4, 1, 0, 1)
    assert counting.endings == {Cause.CLOSE_HANDSHAKE: 1}


def test_who_does_not_answer_the_heartbeat_is_dropped() -> None:
    application = Record()
    with calling(KeepAlive(application, 0.05)) as server, open_raw(server) as raw:
        assert raw.next_frame().opcode == PING
        application.until_closed()
        assert application.told[-1] == ("close", Cause.PING_TIMEOUT)


def test_counting_with_many_threads() -> None:
    counting = Counting(Record())
    with calling(counting) as server:

        def talk() -> None:
            for _ in range(10):
                with connect(uri_of(server)) as ws:
                    for _ in range(20):
                        ws.send("x")
                        ws.recv(DEADLINE)

        for job in [Job(talk) for _ in range(4)]:
            job.result()
        until(lambda: counting.endings.total() == 40)
    assert (counting.requests, counting.messages, counting.open, counting.opened) == (40, 800, 0, 40)


# A client's.


class Client(Application):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.threads: set[threading.Thread] = set()

    def on_open(self, ws: WebSocket) -> None:
        self.threads.add(threading.current_thread())
        self.told.append("open")
        ws.send("hello")

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.threads.add(threading.current_thread())
        self.told.append(message)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.threads.add(threading.current_thread())
        assert ws.ending is ending
        self.told.append(ending.code)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_client_is_called_in_a_thread_of_its_own(secure: bool) -> None:
    options: dict[str, Any] = {"ssl": server_context()} if secure else {}
    with serving(**options) as (server, _):
        uri, context = uri_of(server), None
        if secure:
            uri, context = uri.replace("ws:", "wss:"), client_context()
        client = Client()
        with connect(uri, ssl=context, application=client) as ws:
            for number in range(20):
                ws.send(str(number))
            until(lambda: len(client.told) == 22)
            with pytest.raises(RuntimeError, match="on_message"):
                ws.recv()
            with pytest.raises(RuntimeError, match="on_message"):
                ws.start_pump(print)
            with pytest.raises(RuntimeError, match="on_message"):
                ws.recv_stream()
        # Leaving the block has waited for all of it.
        assert client.told[0] == "open"
        assert client.told[-1] == 1000
        assert [message for message in client.told if message not in ("open", "hello", 1000)] == [
            str(number) for number in range(20)
        ]
        (thread,) = client.threads
        assert thread.name.startswith("wsframe")
        assert not thread.is_alive()


def test_a_client_hears_of_messages_that_came_with_the_answer_and_of_the_end() -> None:
    client = Client()
    with opened(then=b"\x81\x05early", application=client) as (ws, raw):
        assert raw.next_frame().payload == b"hello"
        raw.send(raw.frame(TEXT, b"late") + raw.frame(CLOSE, close_payload(4001)))
        raw.shutdown()
        until(lambda: client.told[-1:] == [4001])
        assert client.told == ["open", "early", "late", 4001]
        assert ws.close_code == 4001


def test_a_callback_of_a_client_that_raises_ends_the_connection() -> None:
    class Broken(Client):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise ZeroDivisionError

    client = Broken()
    with expect_log("a callback raised"), opened(application=client) as (_, raw):
        assert raw.next_frame().payload == b"hello"
        raw.send(raw.frame(TEXT, b"one") + raw.frame(TEXT, b"two"))
        assert raw.next_frame().payload == close_payload(1011)
        raw.send_close(1011)
        raw.shutdown()
        until(lambda: len(client.told) == 2)
        (thread,) = client.threads
        thread.join(DEADLINE)


def test_a_client_may_close_in_a_callback() -> None:
    class Closing(Client):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            super().on_message(ws, message)
            with ws:
                pass

    client = Closing()
    with serving() as (server, _):
        ws = connect(uri_of(server), application=client)
        ws.wait_closed(DEADLINE)
        until(lambda: client.told[-1:] == [1000])
        assert client.told == ["open", "hello", 1000]


def test_an_application_is_called_for_all_connections_of_a_loop() -> None:
    codes = [1001, 1000]

    def handler(ws: WebSocket) -> None:
        ws.recv()
        ws.close(codes.pop(0))

    client = Client()
    policy = RetryPolicy(decide=lambda ending, _: 0.01 if ending.code == 1001 else None)
    with serving(handler) as (server, _):
        for ws in connect(uri_of(server), application=client, retry=policy):
            ws.wait_closed(DEADLINE)
    assert client.told == ["open", 1001, "open", 1000]


def test_what_is_no_application_for_a_client() -> None:
    with pytest.raises(TypeError, match="an Application is an instance"):
        connect("ws://127.0.0.1/", application=Client)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="whole messages"):
        connect("ws://127.0.0.1/", application=Client(), stream=True)
