"""The asyncio client: `connect` and how it fails; with servers that are bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import threading
import time
from typing import Any

import pytest

from aiohelpers import Listener, Raw, aio_test, cancelled_after, client_context, echo, opened, uri_of
from framebuilder import BINARY, CLOSE, TEXT, close_payload
from wsframe import Cause, Initiator, InvalidURI, LocalProtocolError, State
from wsframe.aio import (
    ConnectError,
    ConnectionClosedError,
    ConnectionClosedOK,
    ConnectLost,
    ConnectTimeout,
    HandshakeInvalid,
    HandshakeRejected,
    connect,
    serve,
)


async def answering(listener: Listener, answer: bytes, *, then: str = "close") -> bytes:
    """Serve one connection: read the request, answer, and end somehow."""
    with await listener.accept() as raw:
        request = await raw.head()
        await raw.send(answer)
        if then == "wait":
            with contextlib.suppress(ConnectionError):
                await raw.rest()
        elif then == "reset":
            raw.reset()
        return request


async def failing(uri: str, server: Any, **options: Any) -> ConnectError:
    """The error of a connect to what ``server`` does."""
    task = asyncio.ensure_future(server)
    with pytest.raises(ConnectError) as caught:
        await connect(uri, **options)
    await task
    assert caught.value.ending is not None
    assert not caught.value.ending.was_websocket
    assert str(caught.value) == str(caught.value.ending)
    return caught.value


# Opening.


@aio_test
async def test_with_and_await_both_open() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        async with connect(uri_of(server)) as ws:
            await ws.send(b"x")
            assert await ws.recv() == b"x"
        assert ws.ending is not None
        assert ws.ending.clean
        ws = await connect(uri_of(server))
        await ws.send("x")
        assert await ws.recv() == "x"
        await ws.close(4000, "enough")
        assert ws.ending is not None
        assert ws.ending.sent is not None
        assert (ws.ending.sent.code, ws.ending.sent.reason) == (4000, "enough")


@aio_test
async def test_what_is_sent_in_the_handshake() -> None:
    with Listener() as listener:
        connecting = connect(
            listener.uri + "chat?room=1",
            headers=[("X-Thing", "1")],
            origin="https://example.org",
            subprotocols=["a", "b"],
            user_agent=None,
            compression=True,
        )
        task = asyncio.create_task(connecting._open())
        with await listener.accept() as raw:
            request = await raw.accept_websocket(
                "Sec-WebSocket-Protocol: b", then=raw.frame(TEXT, b"at once")
            )
            ws = await task
            assert await ws.recv() == "at once"
            assert ws.subprotocol == "b"
            assert ws.request.target == "/chat?room=1"
            ws.abort()
            await ws.wait_closed()
        for line in (
            b"GET /chat?room=1 HTTP/1.1",
            b"X-Thing: 1",
            b"Origin: https://example.org",
            b"Sec-WebSocket-Protocol: a, b",
            b"Sec-WebSocket-Extensions: permessage-deflate",
        ):
            assert line in request
        assert b"User-Agent" not in request


@aio_test
async def test_leaving_the_block_closes_with_a_code_that_says_why() -> None:
    codes: list[int | None] = []

    async def handler(ws: Any) -> None:
        await ws.wait_closed()
        codes.append(ws.close_code)

    async def cancelled(uri: str) -> None:
        async with connect(uri):
            await asyncio.sleep(3600)

    async with serve(handler, "127.0.0.1", 0) as server:
        async with connect(uri_of(server)):
            pass
        with pytest.raises(ZeroDivisionError):
            async with connect(uri_of(server)):
                raise ZeroDivisionError
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cancelled(uri_of(server)), 0.1)
    assert codes == [1000, 1011, 1001]


@aio_test
async def test_cancelling_the_close_at_the_end_of_the_block_leaves_nothing() -> None:
    with Listener() as listener:

        async def client() -> None:
            async with connect(listener.uri):
                pass

        task = asyncio.create_task(client())
        with await listener.accept() as raw:
            await raw.accept_websocket()
            assert (await raw.next_frame()).opcode == CLOSE
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@aio_test
async def test_a_connect_is_for_one_connection() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        connecting = connect(uri_of(server))
        async with connecting:
            with pytest.raises(RuntimeError, match="call connect"):
                await connecting


@aio_test
async def test_a_connected_socket_can_be_given() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        sock = socket.create_connection(("127.0.0.1", server.sockets[0].getsockname()[1]))
        sock.setblocking(False)
        async with connect("ws://whatever.example/", sock=sock) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"


@pytest.mark.parametrize(
    ("uri", "options", "error"),
    [
        ("http://127.0.0.1/", {}, InvalidURI),
        ("ws://127.0.0.1/", {"ssl": client_context()}, ValueError),
        ("ws://127.0.0.1/", {"headers": [("X", "a\r\nb")]}, LocalProtocolError),
        ("ws://127.0.0.1/", {"subprotocols": ["a b"]}, LocalProtocolError),
        ("ws://127.0.0.1/", {"wurst": 1}, TypeError),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    uri: str, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        connect(uri, **options)


# Failing.


@aio_test
async def test_a_closed_port() -> None:
    with Listener() as listener:
        uri = listener.uri
    with pytest.raises(ConnectLost) as caught:
        await connect(uri)
    ending = caught.value.ending
    assert (ending.cause, ending.phase, ending.initiator) == (
        Cause.TRANSPORT_ERROR,
        State.CONNECTING,
        Initiator.TRANSPORT,
    )
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert isinstance(caught.value, ConnectionError)


@aio_test
async def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(ConnectLost) as caught:
        await connect("ws://wsframe.invalid/")
    assert isinstance(caught.value.__cause__, socket.gaierror)


@aio_test
async def test_a_server_that_refuses() -> None:
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-Why: law\r\n\r\nno"
    for then in ("close", "wait"):
        with Listener() as listener:
            error = await failing(listener.uri, answering(listener, answer, then=then))
        assert isinstance(error, HandshakeRejected)
        assert (error.status, error.body, error.headers["X-Why"]) == (403, b"no", "law")
        assert (error.ending.cause, error.ending.initiator) == (Cause.REJECTED, Initiator.REMOTE)


@aio_test
async def test_a_server_that_answers_200() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\nhello"
    with Listener() as listener:
        error = await failing(listener.uri, answering(listener, answer))
    assert isinstance(error, HandshakeRejected)
    assert (error.status, error.body) == (200, b"hello")


@aio_test
async def test_the_status_is_known_although_the_body_never_ends() -> None:
    answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 100\r\n\r\nno"
    with Listener() as listener:
        error = await failing(listener.uri, answering(listener, answer, then="wait"), open_timeout=0.2)
    assert isinstance(error, HandshakeRejected)
    assert (error.status, error.body) == (403, b"no")


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", Cause.NOT_HTTP),
        (b"\x15\x03\x01\x00\x02\x02\x46", Cause.NOT_HTTP),
        (
            b"HTTP/1.1 101 Sure\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n",
            Cause.PROTOCOL_ERROR,
        ),
    ],
    ids=["SSH", "TLS", "wrong accept"],
)
@aio_test
async def test_an_answer_that_is_wrong(answer: bytes, cause: Cause) -> None:
    with Listener() as listener:
        error = await failing(listener.uri, answering(listener, answer, then="wait"))
    assert isinstance(error, HandshakeInvalid)
    assert error.ending.cause is cause


@pytest.mark.parametrize(
    ("answer", "then", "causes"),
    [
        (b"", "close", {Cause.EOF}),
        (b"HTTP/1.1 101 Swi", "close", {Cause.TRUNCATED}),
        (b"", "reset", {Cause.RESET}),
    ],
)
@aio_test
async def test_a_server_that_goes_away(answer: bytes, then: str, causes: set[Cause]) -> None:
    with Listener() as listener:
        error = await failing(listener.uri, answering(listener, answer, then=then))
    assert isinstance(error, ConnectLost)
    assert error.ending.cause in causes
    assert error.ending.phase is State.HANDSHAKE


@aio_test
async def test_a_server_that_says_nothing() -> None:
    with Listener() as listener:
        error = await failing(listener.uri, answering(listener, b"", then="wait"), open_timeout=0.2)
        assert isinstance(error, ConnectTimeout)
        assert isinstance(error, TimeoutError)
        assert (error.ending.cause, error.ending.phase) == (Cause.OPEN_TIMEOUT, State.HANDSHAKE)


@aio_test
async def test_open_timeout_before_tcp_is_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()

    async def never(*_: object, **__: object) -> None:
        await asyncio.sleep(3600)

    connecting = connect("ws://127.0.0.1:9/", open_timeout=0.1)
    monkeypatch.setattr(connect, "_connect_tcp", never)
    with pytest.raises(ConnectTimeout) as caught:
        await connecting
    assert (caught.value.ending.cause, caught.value.ending.phase) == (Cause.OPEN_TIMEOUT, State.CONNECTING)
    assert loop.is_running()


@aio_test
async def test_a_kernel_that_gives_up_first_is_no_open_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        raise TimeoutError(110, "Connection timed out")

    monkeypatch.setattr(connect, "_connect_tcp", never)
    with pytest.raises(ConnectLost) as caught:
        await connect("ws://127.0.0.1:9/")
    assert caught.value.ending.cause is Cause.TRANSPORT_ERROR


@pytest.mark.parametrize("turns", [*range(12), 40])
@aio_test
async def test_cancelling_at_any_point_leaves_nothing(turns: int) -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        await cancelled_after(turns, connect(uri_of(server))._open())


@aio_test
async def test_cancelling_while_the_server_thinks() -> None:
    with Listener() as listener:
        task = asyncio.ensure_future(connect(listener.uri)._open())
        with await listener.accept() as raw:
            await raw.head()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with contextlib.suppress(ConnectionResetError):
                assert await raw.rest() == b""


# Receiving.


@aio_test
async def test_recv_in_a_loop_of_timeouts_loses_nothing() -> None:
    async def handler(ws: Any) -> None:
        for number in range(300):
            await ws.send(str(number))
            if number % 3:
                await asyncio.sleep(0)

    async with serve(handler, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        received = []
        with contextlib.suppress(ConnectionClosedOK):
            while True:
                with contextlib.suppress(TimeoutError):
                    received.append(await asyncio.wait_for(ws.recv(), 0.0001))
        assert received == [str(number) for number in range(300)]


@aio_test
async def test_a_second_reader_is_told_who_the_first_is() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            first = asyncio.create_task(ws.recv(), name="the first reader")
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="the first reader"):
                await ws.recv()
            await raw.send_frame(TEXT, b"x")
            # Also in the moment in which the message is there and the first has not taken it yet.
            for _ in range(100):
                await asyncio.sleep(0)
                if not first.done():
                    with pytest.raises(RuntimeError, match="the first reader"):
                        await ws.recv()
            assert await first == "x"
            await raw.send_frame(TEXT, b"y")
            assert await ws.recv() == "y"


@aio_test
async def test_messages_are_had_as_str_or_bytes_whatever_they_came_as() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            for opcode in TEXT, BINARY:
                for decode in True, False:
                    await raw.send_frame(opcode, "Grüße".encode())
                    received: str | bytes = await ws.recv(decode)
                    assert received == ("Grüße" if decode else "Grüße".encode())
            await raw.send_frame(BINARY, b"\xff")
            with pytest.raises(UnicodeDecodeError):
                await ws.recv(decode=True)
            # Only that message is gone.
            await raw.send_frame(BINARY, b"\xff")
            assert await ws.recv() == b"\xff"


@aio_test
async def test_what_came_before_the_end_can_still_be_read() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            await raw.send(
                raw.frame(TEXT, b"1") + raw.frame(TEXT, b"2") + raw.frame(CLOSE, close_payload(4001, b"why"))
            )
            raw.shutdown()
            assert (await ws.wait_closed()).code == 4001
            assert [await ws.recv(), await ws.recv()] == ["1", "2"]
            for _ in range(2):
                with pytest.raises(ConnectionClosedError) as caught:
                    await ws.recv()
                assert (caught.value.code, caught.value.reason) == (4001, "why")
                assert caught.value.ending is ws.ending


@pytest.mark.parametrize(
    ("code", "quiet"), [(1000, True), (1001, True), (None, True), (1011, False), (4000, False)]
)
@aio_test
async def test_iteration_is_quiet_about_good_ends_only(code: int | None, quiet: bool) -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            await raw.send(raw.frame(TEXT, b"1"))
            await raw.send_close(code)
            raw.shutdown()
            received = []
            with contextlib.nullcontext() if quiet else pytest.raises(ConnectionClosedError):
                async for message in ws:
                    received.append(message)  # noqa: PERF401 - what came before an error counts
            assert received == ["1"]
            assert ws.close_code == (1005 if code is None else code)
            assert ws.ending.clean


@aio_test
async def test_iteration_raises_when_the_connection_is_lost() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            raw.shutdown()
            with pytest.raises(ConnectionClosedError) as caught:
                async for _ in ws:
                    pass
            assert caught.value.ending.cause is Cause.EOF
            assert ws.close_code == 1006


@aio_test
async def test_a_reset_is_told_from_an_end_of_stream() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            raw.reset()
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.ending.cause is Cause.RESET
            assert isinstance(caught.value.ending.error, ConnectionResetError)


@aio_test
async def test_several_tasks_can_wait_for_the_end() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            waiting = [asyncio.create_task(ws.wait_closed()) for _ in range(5)]
            await asyncio.sleep(0)
            waiting.pop().cancel()
            raw.shutdown()
            endings = await asyncio.gather(*waiting)
            assert all(ending is ws.ending for ending in endings)
            for call in (ws.send("x"), ws.ping(), ws.recv()):
                with pytest.raises(ConnectionClosedError):
                    await call
            await ws.close()
            ws.abort()


@aio_test
async def test_abort_needs_no_peer() -> None:
    with Listener() as listener:
        async with opened(connect(listener.uri), listener) as (ws, raw):
            ws.abort()
            ending = await ws.wait_closed()
            assert (ending.cause, ending.initiator, ending.clean) == (
                Cause.LOCAL_ABORT,
                Initiator.LOCAL,
                False,
            )
            with contextlib.suppress(ConnectionResetError):
                assert await raw.rest() == b""


@pytest.mark.parametrize("message", [5, None, {"x": 1}])
@aio_test
async def test_what_is_no_message_is_refused(message: Any) -> None:
    async with serve(echo, "127.0.0.1", 0) as server, connect(uri_of(server)) as ws:
        with pytest.raises(TypeError, match="a message is"):
            await ws.send(message)
        with pytest.raises(LocalProtocolError):
            await ws.send("\ud800")
        for data in (bytearray(b"1"), memoryview(b"2"), b"3", ""):
            await ws.send(data)
        assert [await ws.recv() for _ in range(4)] == [b"1", b"2", b"3", ""]


# Deadlines.


@aio_test
async def test_a_peer_that_vanishes_is_noticed() -> None:
    with Listener() as listener:
        connecting = connect(listener.uri, ping_interval=0.1, ping_timeout=0.1)
        async with opened(connecting, listener) as (ws, _):
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert (caught.value.ending.cause, caught.value.ending.initiator) == (
                Cause.PING_TIMEOUT,
                Initiator.LOCAL,
            )


@aio_test
async def test_a_blocked_event_loop_does_not_kill_a_live_peer() -> None:
    started: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    async def elsewhere() -> None:
        async with serve(echo, "127.0.0.1", 0, ping_interval=None) as server:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            started.put((uri_of(server), lambda: loop.call_soon_threadsafe(stop.set)))
            await stop.wait()

    # The peer lives in a loop of its own, which is never blocked.
    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    uri, stop = started.get()
    try:
        async with connect(uri, ping_interval=0.05, ping_timeout=0.05) as ws:
            for _ in range(3):
                for _ in range(8):
                    await asyncio.sleep(0.01)
                time.sleep(0.3)  # noqa: ASYNC251 - that is what this is about
            await ws.send("still here")
            assert await ws.recv() == "still here"
    finally:
        stop()
        thread.join()


@aio_test
async def test_an_idle_connection_is_closed() -> None:
    async with serve(echo, "127.0.0.1", 0) as server:
        ws = await connect(uri_of(server), idle_timeout=0.1)
        ending = await ws.wait_closed()
        assert (ending.cause, ending.clean) == (Cause.IDLE_TIMEOUT, True)


def test_raw_peers_mask_as_their_role_demands() -> None:
    with socket.socket() as sock:

        async def frames() -> tuple[bytes, bytes]:
            return Raw(sock, masks=True).frame(TEXT, b"x"), Raw(sock, masks=False).frame(TEXT, b"x")

        masked, plain = asyncio.run(frames())
    assert masked[1] & 0x80
    assert not plain[1] & 0x80
