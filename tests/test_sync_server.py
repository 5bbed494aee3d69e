"""The blocking server: opening, handlers, bounds, its end; with peers that are bare sockets."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framebuilder import BINARY, CLOSE, PONG, TEXT, build, client_handshake_request, close_payload, parse_all
from synchelpers import (
    DEADLINE,
    Job,
    client_context,
    dial,
    echo,
    expect_log,
    open_raw,
    port_of,
    server_context,
    serving,
    tidy,
    until,
    uri_of,
    waits,
)
from wsframe import Cause, Initiator, LocalProtocolError, Request, Response, State
from wsframe.sync import (
    ConnectError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    HandshakeRejected,
    Server,
    WebSocket,
    connect,
    serve,
)
from wsframe.sync import _server as server_module
from wsframe.sync import _serving as serving_module

__all__ = ["tidy"]


def read_all(ws: WebSocket) -> list[str | bytes]:
    return list(ws)


# Opening.


def test_text_and_binary_come_back_as_what_they_are() -> None:
    with serving() as (server, endings):
        with open_raw(server) as raw:
            raw.send_frame(TEXT, "héllo".encode())
            raw.send_frame(BINARY, b"\x00\xff")
            raw.send_frame(TEXT)
            assert [raw.next_frame().payload for _ in range(3)] == ["héllo".encode(), b"\x00\xff", b""]
            raw.send_close(1000, b"bye")
            assert parse_all(raw.rest())[-1].payload == close_payload(1000)
        ending = endings.one()
        assert (ending.cause, ending.clean, ending.code, ending.reason) == (
            Cause.CLOSE_HANDSHAKE,
            True,
            1000,
            "bye",
        )
        assert ending.initiator is Initiator.REMOTE


def test_a_thousand_messages_in_one_chunk_come_back_in_order() -> None:
    with serving() as (server, _), open_raw(server) as raw:
        raw.send(b"".join(raw.frame(TEXT, b"%d" % number) for number in range(1000)))
        assert [raw.next_frame().payload for _ in range(1000)] == [b"%d" % n for n in range(1000)]
        raw.send_close()
        raw.rest()


def test_messages_in_the_same_chunk_as_the_request_are_not_lost() -> None:
    with serving() as (server, _), open_raw(server, then=build(TEXT, b"early", mask=b"1234")) as raw:
        assert raw.next_frame().payload == b"early"
        raw.send_close()
        raw.rest()


def test_the_handler_sees_the_request() -> None:
    seen: list[WebSocket] = []

    def handler(ws: WebSocket) -> None:
        seen.append(ws)
        assert ws.request.headers["User-Agent"].startswith("wsframe/")
        ws.send(ws.request.target)
        ws.wait_closed()

    with (
        serving(handler, subprotocols=["chat"]) as (server, _),
        connect(uri_of(server) + "a?b=c", subprotocols=["other", "chat"]) as ws,
    ):
        assert ws.recv() == "/a?b=c"
        assert seen[0].remote_address == ws.local_address
        assert seen[0].local_address == ws.remote_address
        assert seen[0].response is None
        assert seen[0].subprotocol == "chat"


@pytest.mark.parametrize(
    ("sent", "status", "cause"),
    [
        (client_handshake_request(without=["Upgrade"]), 426, Cause.PLAIN_HTTP),
        (client_handshake_request(key="short"), 400, Cause.REJECTED),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400, Cause.NOT_HTTP),
        (client_handshake_request(headers=[("Origin", "https://elsewhere.example")]), 403, Cause.REJECTED),
    ],
    ids=["plain HTTP", "bad key", "TLS", "origin"],
)
def test_what_is_refused_is_answered_and_read_to_its_end(sent: bytes, status: int, cause: Cause) -> None:
    with serving() as (server, endings):
        with dial(server) as raw:
            raw.send(sent + b"and what follows" * 5000)
            answer = raw.rest()
            assert answer.startswith(b"HTTP/1.1 %d " % status)
            assert b"\r\nConnection: close" in answer
        assert endings.one().cause is cause


def test_connect_and_drop() -> None:
    with serving() as (server, endings):
        dial(server).close()
        ending = endings.one()
        assert (ending.cause, ending.phase, ending.was_websocket) == (Cause.EOF, State.CONNECTING, False)
        endings.clear()
        dial(server).reset()
        assert endings.one().cause is Cause.RESET


def test_a_request_that_never_ends_is_answered_408() -> None:
    with serving(open_timeout=0.1) as (server, endings):
        with dial(server) as raw:
            raw.send(b"GET / HTTP/1.1\r\n")
            assert raw.rest().startswith(b"HTTP/1.1 408 ")
        assert endings.one().cause is Cause.OPEN_TIMEOUT


def test_on_request_answers_plain_http() -> None:
    def on_request(request: Request) -> Response | None:
        return Response(200, body=b"fine\n") if request.target == "/health" else None

    with serving(on_request=on_request) as (server, endings):
        with dial(server) as raw:
            raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            # An HTTP client may be done with sending.
            raw.shutdown()
            assert raw.rest().endswith(b"\r\n\r\nfine\n")
        assert endings.one().cause is Cause.PLAIN_HTTP
        with connect(uri_of(server)) as ws:
            ws.send("x")
            assert ws.recv() == "x"


def test_on_request_may_take_its_time_and_refuse() -> None:
    asked, answer = threading.Event(), threading.Event()

    def on_request(request: Request) -> Response | None:
        asked.set()
        answer.wait(DEADLINE)
        return Response(401, headers=[("WWW-Authenticate", "Basic")])

    with serving(on_request=on_request) as (server, endings):
        job = Job(connect, uri_of(server))
        assert asked.wait(DEADLINE)
        # Others are served meanwhile.
        with dial(server) as raw:
            raw.send(b"junk\r\n\r\n")
            assert raw.rest().startswith(b"HTTP/1.1 400 ")
        until(lambda: endings)
        answer.set()
        with pytest.raises(HandshakeRejected) as caught:
            job.result()
        assert (caught.value.status, caught.value.headers["WWW-Authenticate"]) == (401, "Basic")
        until(lambda: len(endings) == 2)
        assert endings[-1].cause is Cause.REJECTED


def _raising(request: Request) -> Response | None:
    raise ValueError("wurst")


def _impossible(request: Request) -> Response | None:
    return Response(200, headers=[("Connection", "keep-alive")])


@pytest.mark.parametrize("on_request", [_raising, _impossible])
def test_a_failing_on_request_is_a_500_and_one_line_in_the_log(on_request: Any) -> None:
    with expect_log("on_request"), serving(on_request=on_request) as (server, endings):
        with pytest.raises(HandshakeRejected) as caught:
            connect(uri_of(server))
        assert caught.value.status == 500
        assert endings.one().cause is Cause.REJECTED


def test_a_failing_choice_of_subprotocol_is_a_500_and_one_line_in_the_log() -> None:
    def choose(request: Request, offered: Any) -> str:
        raise ValueError("wurst")

    with (
        expect_log("application's code failed in an opening handshake"),
        serving(subprotocols=choose) as (server, endings),
    ):
        with pytest.raises(HandshakeRejected) as caught:
            connect(uri_of(server), subprotocols=["chat"])
        assert caught.value.status == 500
        assert isinstance(endings.one().error, ValueError)


def test_a_failing_on_end_is_one_line_in_the_log() -> None:
    def on_end(*_: object) -> None:
        raise ValueError("wurst")

    with expect_log("on_end"), serving(on_end=on_end) as (server, _), connect(uri_of(server)):
        pass


def test_a_peer_that_leaves_while_on_request_thinks() -> None:
    asked, answer = threading.Event(), threading.Event()

    def on_request(request: Request) -> None:
        asked.set()
        answer.wait(DEADLINE)

    with serving(on_request=on_request) as (server, endings):
        with dial(server) as raw:
            raw.send(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
            assert asked.wait(DEADLINE)
        time.sleep(0.02)
        answer.set()
        ending = endings.one()
        assert (ending.cause, ending.was_websocket) == (Cause.EOF, False)


# Handlers.


def test_a_handler_that_returns_closes_with_1000() -> None:
    with serving(lambda ws: ws.send("done")) as (server, endings):
        with open_raw(server) as raw:
            assert raw.next_frame().payload == b"done"
            assert raw.next_frame().payload == close_payload(1000)
            raw.send_close()
            assert raw.rest() == b""
        ending = endings.one()
        assert (ending.clean, ending.initiator) == (True, Initiator.LOCAL)


@pytest.mark.parametrize("how", ["abort", "close"])
def test_a_socket_that_was_looked_after_is_closed_at_once(how: str) -> None:
    def on_request(request: Request) -> None:
        # The thread in serve_forever waits in poll for this one, too: while it does, the system keeps the socket.
        (connection,) = server._serving.connections
        until(lambda: connection.driver._attended is not None)
        time.sleep(0.05)

    def handler(ws: WebSocket) -> None:
        if how == "abort":
            ws.abort()
        else:
            ws.close()

    with (
        serving(handler, on_request=on_request, open_timeout=2 * DEADLINE) as (server, _),
        open_raw(server) as raw,
    ):
        if how == "close":
            assert raw.next_frame().opcode == CLOSE
            # After that nothing comes which could end the wait.
            raw.send_close()
        assert raw.rest() == b""


def test_a_handler_that_raises_closes_with_1011_and_is_logged_once() -> None:
    def handler(ws: WebSocket) -> None:
        raise ValueError("wurst")

    with expect_log("handler"), serving(handler) as (server, endings):
        with open_raw(server) as raw:
            assert raw.next_frame().payload == close_payload(1011)
            raw.send_close(1011)
            raw.rest()
        assert endings.one().clean


def test_the_end_of_its_connection_is_no_failure_of_a_handler() -> None:
    raised: list[BaseException] = []

    def handler(ws: WebSocket) -> None:
        try:
            while True:
                ws.recv()
        except ConnectionClosed as exc:
            raised.append(exc)
            raise ExceptionGroup("several", [exc]) from None

    with serving(handler) as (server, endings):
        open_raw(server).close()
        assert endings.one().cause is Cause.EOF
        with connect(uri_of(server)):
            pass
        until(lambda: len(raised) == 2)
        assert [type(exc) for exc in raised] == [ConnectionClosedError, ConnectionClosedOK]


def test_the_end_of_another_connection_may_be_a_failure_of_the_handler() -> None:
    with serving() as (backend, _):

        def handler(ws: WebSocket) -> None:
            with connect(uri_of(backend)) as other:
                other.close()
                other.recv()

        with expect_log("handler"), serving(handler) as (server, _), connect(uri_of(server)) as ws:
            with pytest.raises(ConnectionClosedError) as caught:
                ws.recv()
            assert caught.value.code == 1011


def test_an_ended_websocket_needs_no_garbage_collector() -> None:
    references: list[weakref.ref[WebSocket]] = []

    def handler(ws: WebSocket) -> None:
        references.append(weakref.ref(ws))

    gc.collect()
    gc.disable()
    try:
        with serving(handler) as (server, endings):
            with connect(uri_of(server)):
                pass
            endings.one()
            until(lambda: references[0]() is None)
    finally:
        gc.enable()


def test_messages_before_a_bad_frame_are_answered_first() -> None:
    with serving() as (server, endings):
        with open_raw(server) as raw:
            raw.send(raw.frame(TEXT, b"one") + raw.frame(TEXT, b"two") + raw.frame(3))
            frames = parse_all(raw.rest())
            assert [frame.payload for frame in frames[:2]] == [b"one", b"two"]
            assert frames[2].payload[:2] == close_payload(1002)
        assert endings.one().cause is Cause.PROTOCOL_ERROR


# Its bounds.


def test_beyond_max_connections_there_is_a_503() -> None:
    with serving(max_connections=2) as (server, endings):
        with connect(uri_of(server)) as first, connect(uri_of(server)) as second:
            threads = threading.active_count()
            for _ in range(3):
                with pytest.raises(HandshakeRejected) as caught:
                    connect(uri_of(server))
                assert caught.value.status == 503
            raws = [dial(server) for _ in range(10)]
            assert all(raw.head().startswith(b"HTTP/1.1 503 ") for raw in raws)
            assert threading.active_count() == threads
            for ws in (first, second):
                ws.send("still")
                assert ws.recv() == "still"
            for raw in raws:
                raw.close()
        until(lambda: len(endings) == 15)
        assert {ending.cause for ending in endings} == {Cause.REJECTED, Cause.CLOSE_HANDSHAKE}
        with connect(uri_of(server)) as ws:
            ws.send("room again")
            assert ws.recv() == "room again"


def test_mute_refused_connections_are_bounded_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MAX_REFUSED", 3)
    with serving(max_connections=1) as (server, endings), connect(uri_of(server)):
        raws = [dial(server) for _ in range(5)]
        try:
            answers = [raw.rest() for raw in raws]
        finally:
            for raw in raws:
                raw.close()
        assert [answer[:12] for answer in answers] == [b"HTTP/1.1 503"] * 3 + [b""] * 2
        until(lambda: len(endings) == 3)


def test_a_system_without_threads_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(connection: Any) -> None:
        raise RuntimeError("can't start new thread")

    with serving() as (server, _):
        with monkeypatch.context() as patched:
            patched.setattr(serving_module.ServerConnection, "start", start)
            with (
                expect_log("can't start new thread", traceback=False),
                pytest.raises(HandshakeRejected) as caught,
            ):
                connect(uri_of(server))
            assert caught.value.status == 503
        with connect(uri_of(server)) as ws:
            ws.send("x")
            assert ws.recv() == "x"


def test_a_system_without_descriptors_left(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(server_module, "ACCEPT_PAUSE", 0.1)
    with serving() as (server, _):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        # The descriptor of the client's end is the last one.
        sock = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, hard))
        try:
            with expect_log("no connections are accepted", traceback=False), sock:
                sock.connect(("127.0.0.1", port_of(server)))
                time.sleep(0.05)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        with connect(uri_of(server)) as ws:
            ws.send("x")
            assert ws.recv() == "x"


# Its end.


def test_closing_the_server_ends_everything_and_counts() -> None:
    over = threading.Event()

    def handler(ws: WebSocket) -> None:
        if ws.request.target == "/busy":
            over.wait(DEADLINE)
        else:
            echo(ws)

    with serving(handler) as (server, endings):
        with contextlib.ExitStack() as stack:
            idle = stack.enter_context(connect(uri_of(server)))
            busy = stack.enter_context(connect(uri_of(server) + "busy"))
            early = stack.enter_context(dial(server))
            early.send(b"GET / HTTP/1.1\r\n")
            gone = stack.enter_context(open_raw(server))
            gone.close()
            endings.one()
            readers = [Job(read_all, ws) for ws in (idle, busy)]
            waits(readers[0])
            closing = Job(server.close, 1001, "over")
            for reader in readers:
                assert reader.result() == []
            for ws in (idle, busy):
                assert (ws.close_code, ws.close_reason) == (1001, "over")
            assert early.rest().startswith(b"HTTP/1.1 503 ")
            early.close()
            # The handler that is busy is waited for.
            waits(closing)
            over.set()
            assert closing.result() == {Cause.CLOSE_HANDSHAKE: 2, Cause.REJECTED: 1}
            assert server.sockets == ()
            assert server.close() == {Cause.CLOSE_HANDSHAKE: 2, Cause.REJECTED: 1}
        assert len(endings) == 4


def test_closing_while_everybody_talks() -> None:
    count = 40
    with serving(close_timeout=DEADLINE) as (server, endings):

        def talk() -> tuple[int, int, WebSocket]:
            sent = received = 0
            with connect(uri_of(server), close_timeout=DEADLINE, ping_interval=None) as ws:
                try:
                    while True:
                        ws.send(str(sent))
                        sent += 1
                        assert ws.recv(DEADLINE) == str(received)
                        received += 1
                except ConnectionClosed:
                    return sent, received, ws

        jobs = [Job(talk) for _ in range(count)]
        until(lambda: len(server.connections) == count and server.stats().messages_in > 5000)
        assert server.close(1001, "over") == {Cause.CLOSE_HANDSHAKE: count}
        for job in jobs:
            sent, received, ws = job.result()
            assert received in (sent, sent - 1)
            assert ws.ending is not None
            assert (ws.ending.clean, ws.close_code, ws.close_reason) == (True, 1001, "over")
        assert len(endings) == count


def test_mute_peers_do_not_hold_the_server_up() -> None:
    with serving(close_timeout=0.3) as (server, _):
        raws = [open_raw(server) for _ in range(20)] + [dial(server)]
        try:
            began = time.monotonic()
            assert server.close() == {Cause.CLOSE_TIMEOUT: 20, Cause.REJECTED: 1}
            assert 0.3 <= time.monotonic() - began < 2
        finally:
            for raw in raws:
                raw.close()


def test_a_peer_that_does_not_read_does_not_hold_the_server_up() -> None:
    def handler(ws: WebSocket) -> None:
        ws.send(b"x" * (8 << 20))

    with serving(handler, close_timeout=0.3) as (server, endings):
        with open_raw(server, receive_buffer=4096):
            time.sleep(0.05)
            assert server.close() == {Cause.CLOSE_TIMEOUT: 1}
        assert endings.one().sent is None


def test_a_handler_that_does_not_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_HANDLER_GRACE", 0.05)
    over = threading.Event()

    def handler(ws: WebSocket) -> None:
        over.wait(DEADLINE)

    threads = set(threading.enumerate())
    with serving(handler, close_timeout=0.1) as (server, _), connect(uri_of(server)) as ws:
        job = Job(ws.wait_closed)
        with expect_log("a handler does not end", traceback=False):
            assert server.close() == {Cause.CLOSE_HANDSHAKE: 1}
        assert job.result().code == 1001
    over.set()
    until(lambda: set(threading.enumerate()) <= threads)


def test_a_handler_may_close_the_server() -> None:
    counts: list[Any] = []

    def handler(ws: WebSocket) -> None:
        counts.append(ws_server[0].close(1012, "restart"))

    ws_server: list[Server] = []
    with serving(handler) as (server, _):
        ws_server.append(server)
        with connect(uri_of(server)) as first:
            assert first.wait_closed(DEADLINE).code == 1012
        server.wait_closed(DEADLINE)
        until(lambda: counts)
        assert counts == [{Cause.CLOSE_HANDSHAKE: 1}]


def test_several_may_close_it_at_once() -> None:
    with serving() as (server, _), connect(uri_of(server)) as ws:
        reader = Job(read_all, ws)
        jobs = [Job(server.close) for _ in range(8)]
        assert [job.result() for job in jobs] == [{Cause.CLOSE_HANDSHAKE: 1}] * 8
        reader.result()


def test_closing_while_on_request_thinks() -> None:
    asked, answer = threading.Event(), threading.Event()

    def on_request(request: Request) -> None:
        asked.set()
        answer.wait(DEADLINE)

    with serving(on_request=on_request) as (server, _), dial(server) as raw:
        raw.send(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
        assert asked.wait(DEADLINE)
        closing = Job(server.close)
        assert raw.rest().startswith(b"HTTP/1.1 503 ")
        answer.set()
        raw.close()
        assert closing.result() == {Cause.REJECTED: 1}


def test_a_server_that_never_served_can_be_closed() -> None:
    with serve(echo, "127.0.0.1", 0) as server:
        assert not server.is_closing
        with pytest.raises(TimeoutError):
            server.wait_closed(0.01)
        with pytest.raises(LocalProtocolError):
            server.close(1005)
        assert server.close() == {}
        server.wait_closed(0)
        server.serve_forever()


def test_serve_forever_is_for_one_thread() -> None:
    with (
        serving() as (server, _),
        connect(uri_of(server)),
        pytest.raises(RuntimeError, match="already running in Thread-"),
    ):
        server.serve_forever()


def test_connections_that_come_and_go_while_it_closes() -> None:
    with serving() as (server, endings):
        stop = threading.Event()
        uri = uri_of(server)

        def come_and_go() -> int:
            opened = 0
            while not stop.is_set():
                try:
                    with connect(uri, open_timeout=5) as ws:
                        opened += 1
                        ws.send("x")
                        ws.recv()
                except (ConnectionClosed, OSError, HandshakeRejected):
                    pass
            return opened

        jobs = [Job(come_and_go) for _ in range(4)]
        until(lambda: len(endings) > 50)
        server.close()
        ended = len(endings)
        stop.set()
        assert sum(job.result() for job in jobs) >= 50
        assert len(endings) == ended


# Where it listens.


def test_a_listening_socket_can_be_given() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    with serving(sock=sock) as (server, _):
        assert server.sockets == (sock,)
        with connect(uri_of(server)) as ws:
            ws.send("x")
            assert ws.recv() == "x"
    assert sock.fileno() == -1


@pytest.fixture
def unix_path(tmp_path: Path) -> Iterator[str]:
    if not hasattr(socket, "AF_UNIX"):
        pytest.skip("there are no Unix sockets")
    # Paths of Unix sockets have to be short.
    before = os.getcwd()
    os.chdir(tmp_path)
    yield "socket"
    os.chdir(before)


def test_unix_sockets(unix_path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(unix_path)
        listener.listen()
        with serving(sock=listener) as (_, endings):
            client = socket.socket(socket.AF_UNIX)
            client.connect(unix_path)
            with connect("ws://localhost/", sock=client) as ws:
                ws.send("x" * 300_000)
                assert ws.recv() == "x" * 300_000
                reader = Job(read_all, ws)
                waits(reader)
            assert reader.result() == []
            assert endings.one().clean


def test_all_interfaces_share_one_port() -> None:
    with serve(echo, None, 0) as server:
        ports = {sock.getsockname()[1] for sock in server.sockets}
        assert len(ports) == 1
        assert {sock.family for sock in server.sockets} >= {socket.AF_INET}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"wurst": 1}, TypeError),
        ({"max_connections": 0}, ValueError),
        ({"max_connections": 1.5}, TypeError),
        ({"open_timeout": None}, ValueError),
        ({"sock": object()}, TypeError),
    ],
)
def test_wrong_arguments_are_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        serve(echo, "127.0.0.1", 0, **options)


def test_a_port_that_is_taken() -> None:
    with serve(echo, "127.0.0.1", 0) as server, pytest.raises(OSError):
        serve(echo, ["127.0.0.1", "::1"], port_of(server))


# Control frames.


def test_pings_are_answered_in_order() -> None:
    with serving() as (server, _), open_raw(server) as raw:
        raw.send(b"".join(raw.frame(9, b"%d" % number) for number in range(600)))
        frames = [raw.next_frame() for _ in range(600)]
        assert [frame.payload for frame in frames] == [b"%d" % number for number in range(600)]
        assert {frame.opcode for frame in frames} == {PONG}
        raw.send_close()
        assert parse_all(raw.rest())[0].opcode == CLOSE


def test_the_peer_gets_the_close_although_it_still_sends() -> None:
    """Closing with unread input would reset the connection, and our Close would be lost."""

    def handler(ws: WebSocket) -> None:
        ws.recv()
        ws.close(4000, "enough")

    with serving(handler) as (server, endings):
        with open_raw(server) as raw:
            for _ in range(100):
                raw.send_frame(TEXT, b"x" * 1000)
            frame = raw.next_frame()
            assert (frame.opcode, frame.payload) == (CLOSE, close_payload(4000, b"enough"))
            raw.send_frame(TEXT, b"x" * 1000)
            raw.send_close(4000)
            assert raw.rest() == b""
        assert endings.one().clean


def test_an_abort_is_heard_at_once_also_when_the_accepting_thread_looks_after_the_connection() -> None:
    """A socket that is closed while another thread polls it is not gone before that one comes back."""
    with serving(lambda ws: ws.abort(), ssl=server_context(), on_request=lambda _: None) as (server, _):
        uri = uri_of(server).replace("ws:", "wss:")
        for _ in range(40):
            with (
                contextlib.suppress(ConnectError),
                connect(uri, ssl=client_context(), ping_interval=None) as ws,
            ):
                assert ws.wait_closed(5).cause in (Cause.EOF, Cause.RESET, Cause.TLS_ERROR)
