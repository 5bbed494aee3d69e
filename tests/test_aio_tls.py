"""TLS over the asyncio adapter: its handshake is inside open_timeout, and its failure is an ending."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiohelpers import (
    Endings,
    Listener,
    Raw,
    aio_test,
    cancelled_after,
    client_context,
    dial,
    echo,
    port_of,
    server_context,
    until,
)
from framebuilder import CLOSE, TEXT, build, client_handshake_request, close_payload, parse_all
from wsframe import Cause, State
from wsframe.aio import ConnectionClosedError, ConnectLost, ConnectTimeout, Server, WebSocket, connect, serve


@contextlib.asynccontextmanager
async def serving(handler: Any = echo, **options: Any) -> AsyncIterator[tuple[Server, Endings, str]]:
    endings = Endings()
    options.setdefault("ssl", server_context())
    async with serve(handler, "127.0.0.1", 0, on_end=endings, **options) as server:
        yield server, endings, f"wss://127.0.0.1:{port_of(server)}/"


class RawTls:
    """A TLS client over a bare socket, so that every byte below TLS is ours to hold back or send together."""

    def __init__(self, raw: Raw) -> None:
        self.raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = client_context().wrap_bio(self._in, self._out, server_hostname="localhost")

    async def step(self, call: Any, *arguments: Any) -> Any:
        while True:
            try:
                result = call(*arguments)
            except ssl.SSLWantReadError:
                await self.flush()
                data = await self.raw.receive()
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            else:
                return result

    async def handshake(self, *, flush: bool = True) -> None:
        await self.step(self._tls.do_handshake)
        if flush:
            await self.flush()

    async def flush(self) -> None:
        if self._out.pending:
            await self.raw.send(self._out.read())

    def write(self, data: bytes) -> None:
        self._tls.write(data)

    async def read(self) -> bytes:
        data = await self.step(self._tls.read, 1 << 16)
        assert isinstance(data, bytes)
        return data

    async def head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += await self.read()
        return data

    def close_notify(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()


@aio_test
async def test_echo_of_all_sizes_over_tls() -> None:
    async with serving() as (_, endings, uri):
        async with connect(uri, ssl=client_context()) as ws:
            for message in ("", "héllo", bytes(70_000), "x" * (1 << 20)):
                await ws.send(message)
                assert await ws.recv() == message
        assert ws.ending is not None
        assert ws.ending.clean
        assert (await endings.one()).clean


@aio_test
async def test_many_messages_both_ways_over_tls_with_flow_control() -> None:
    async with serving() as (_, _, uri), connect(uri, ssl=client_context()) as ws:

        async def send() -> None:
            for number in range(400):
                await ws.send(b"%d " % number + bytes(20_000))

        sending = asyncio.create_task(send())
        await asyncio.sleep(0.3)
        for number in range(400):
            message = await ws.recv()
            assert isinstance(message, bytes)
            assert message.startswith(b"%d " % number)
        await sending


@aio_test
async def test_a_certificate_that_is_not_trusted() -> None:
    async with serving() as (_, endings, uri):
        for context, hostname in ((None, None), (client_context(), "elsewhere.example")):
            with pytest.raises(ConnectLost) as caught:
                await connect(uri, ssl=context, server_hostname=hostname)
            ending = caught.value.ending
            assert (ending.cause, ending.phase, ending.code) == (Cause.TLS_ERROR, State.CONNECTING, 1015)
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
            # Whether the server is told why is up to the event loop.
            assert (await endings.one()).cause in (Cause.TLS_ERROR, Cause.EOF, Cause.RESET)
            endings.clear()


@aio_test
async def test_plain_bytes_to_a_tls_port() -> None:
    async with serving() as (server, endings, _):
        with await dial(server) as raw:
            await raw.send(client_handshake_request())
            with contextlib.suppress(ConnectionError):
                await raw.rest()
        ending = await endings.one()
        assert (ending.cause, ending.phase, ending.was_websocket) == (
            Cause.TLS_ERROR,
            State.CONNECTING,
            False,
        )


@aio_test
async def test_connect_and_drop_on_a_tls_port() -> None:
    async with serving() as (server, endings, _):
        (await dial(server)).close()
        assert (await endings.one()).cause is Cause.EOF
        endings.clear()
        raw = await dial(server)
        await raw.send(b"\x16\x03\x01")
        await asyncio.sleep(0.05)
        raw.reset()
        assert (await endings.one()).cause in (Cause.RESET, Cause.TRANSPORT_ERROR)


@aio_test
async def test_a_tls_handshake_that_never_ends_is_inside_open_timeout() -> None:
    async with serving(open_timeout=0.2) as (server, endings, _):
        with await dial(server) as raw:
            await raw.send(b"\x16\x03\x01\x02\x00\x01")
            with contextlib.suppress(ConnectionError):
                await raw.rest()
            assert (await endings.one()).cause is Cause.OPEN_TIMEOUT
    with Listener() as listener:
        connecting = connect(listener.uri.replace("ws:", "wss:"), ssl=client_context(), open_timeout=0.2)
        with pytest.raises(ConnectTimeout) as caught:
            await connecting
        assert (caught.value.ending.cause, caught.value.ending.phase) == (
            Cause.OPEN_TIMEOUT,
            State.CONNECTING,
        )


@aio_test
async def test_a_plain_server_that_speaks_first_is_not_taken_for_what_came_through_tls() -> None:
    with Listener() as listener:
        connecting = connect(listener.uri.replace("ws:", "wss:"), ssl=client_context())
        task = asyncio.ensure_future(connecting._open())
        with await listener.accept() as raw:
            await raw.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            with pytest.raises(ConnectLost) as caught:
                await task
        assert caught.value.ending.cause is Cause.TLS_ERROR


@pytest.mark.parametrize("turns", [*range(0, 24, 2), 60])
@aio_test
async def test_cancelling_at_any_point_leaves_nothing(turns: int) -> None:
    async with serving() as (_, _, uri):
        await cancelled_after(turns, connect(uri, ssl=client_context())._open())


@pytest.mark.parametrize("upgrade", [True, False])
@aio_test
async def test_a_request_right_behind_the_tls_handshake(upgrade: bool) -> None:
    # It is there before start_tls() has returned.
    async with serving() as (server, endings, _):
        with await dial(server) as raw:
            tls = RawTls(raw)
            await tls.handshake(flush=False)
            host = f"127.0.0.1:{port_of(server)}"
            tls.write(client_handshake_request(host=host, without=[] if upgrade else ["Upgrade"]))
            if upgrade:
                tls.write(build(TEXT, b"early", mask=b"1234"))
            await tls.flush()
            head = await tls.head()
            assert head.startswith(b"HTTP/1.1 101 " if upgrade else b"HTTP/1.1 426 ")
            if upgrade:
                _, _, rest = head.partition(b"\r\n\r\n")
                assert (rest or await tls.read()) == b"\x81\x05early"
        ending = await endings.one()
        assert ending.cause is (Cause.EOF if upgrade else Cause.PLAIN_HTTP)


@aio_test
async def test_everything_and_the_end_right_behind_the_tls_handshake() -> None:
    async with serving() as (server, endings, _):
        with await dial(server) as raw:
            tls = RawTls(raw)
            await tls.handshake(flush=False)
            tls.write(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
            tls.write(build(CLOSE, close_payload(1000), mask=b"1234"))
            tls.close_notify()
            await tls.flush()
            raw.shutdown()
            ending = await endings.one()
        assert (ending.received is not None, ending.code) == (True, 1000)


@pytest.mark.parametrize("notify", [True, False])
@aio_test
async def test_the_end_of_the_stream_with_and_without_close_notify(notify: bool) -> None:
    async with serving() as (server, endings, _):
        with await dial(server) as raw:
            tls = RawTls(raw)
            await tls.handshake()
            tls.write(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
            await tls.flush()
            await tls.head()
            if notify:
                tls.close_notify()
                await tls.flush()
            raw.shutdown()
            ending = await endings.one()
        # asyncio does not tell the two apart.
        assert (ending.cause, ending.was_websocket) == (Cause.EOF, True)


@aio_test
async def test_broken_tls_after_the_handshake() -> None:
    async with serving() as (server, endings, _):
        with await dial(server) as raw:
            tls = RawTls(raw)
            await tls.handshake()
            tls.write(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
            await tls.flush()
            await tls.head()
            await raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
            ending = await endings.one()
        assert (ending.cause, ending.code) == (Cause.TLS_ERROR, 1006)
        assert isinstance(ending.error, ssl.SSLError)


@aio_test
async def test_a_failing_close_arrives_over_tls() -> None:
    async with serving() as (server, endings, _):
        with await dial(server) as raw:
            tls = RawTls(raw)
            await tls.handshake()
            tls.write(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
            await tls.flush()
            await tls.head()
            tls.write(b"\xc1\x80" + bytes(100_000))
            await tls.flush()
            (frame,) = parse_all(await tls.read())
            assert (frame.opcode, frame.payload[:2]) == (CLOSE, close_payload(1002))
            raw.shutdown()
            assert (await endings.one()).cause is Cause.PROTOCOL_ERROR


@aio_test
async def test_a_handler_that_writes_on_after_the_peers_tls_end_is_no_news() -> None:
    async def handler(ws: WebSocket) -> None:
        with contextlib.suppress(ConnectionClosedError):
            while True:
                await ws.send("x")
                await asyncio.sleep(0)

    async with serving(handler) as (server, endings, _):
        with await dial(server) as raw:
            tls = RawTls(raw)
            await tls.handshake()
            tls.write(client_handshake_request(host=f"127.0.0.1:{port_of(server)}"))
            await tls.flush()
            await tls.head()
            tls.close_notify()
            await tls.flush()
            ending = await endings.one()
        assert ending.cause in (Cause.EOF, Cause.RESET, Cause.TLS_ERROR)


@aio_test
async def test_a_slow_handler_stops_the_peer_over_tls() -> None:
    release = asyncio.Event()
    received = []

    async def handler(ws: WebSocket) -> None:
        await release.wait()
        async for message in ws:
            received.append(len(message))  # noqa: PERF401

    async with serving(handler) as (_, endings, uri):
        ws = await connect(uri, ssl=client_context())
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 1500:
                await asyncio.wait_for(ws.send(bytes(20_000)), 0.2)
                sent += 1
        assert sent < 1500
        release.set()
        await ws.close()
        await endings.one()
        await until(lambda: len(received) == sent)


@aio_test
async def test_closing_a_server_in_the_middle_of_tls_handshakes() -> None:
    async with serving() as (server, endings, _):
        raws = [await dial(server) for _ in range(3)]
        await raws[0].send(b"\x16\x03\x01")
        await until(lambda: len(server._serving.registry.records) == 3)
        counts = await server.close()
        assert sum(counts.values()) == len(endings) == 3
        for raw in raws:
            with raw, contextlib.suppress(ConnectionError):
                await raw.rest()
