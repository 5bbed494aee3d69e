"""The table of subprotocol negotiation over sockets: through `serve`, through `connect`, and through both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import synchelpers
from aiohelpers import Listener, aio_test, dial, port_of, uri_of
from framebuilder import client_handshake_request
from subprotocols import ANSWERS, OFFERS
from wsframe import Cause
from wsframe.aio import HandshakeInvalid, HandshakeRejected, WebSocket, connect, serve

OPTIONS: Any = {"ping_interval": None}


@pytest.mark.parametrize("require", [False, True], ids=["", "required"])
@pytest.mark.parametrize(("lines", "supported", "chosen"), OFFERS)
@aio_test
async def test_a_server_chooses(
    lines: list[str], supported: Any, chosen: str | int | None, require: bool
) -> None:
    seen: list[str | None] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(ws.subprotocol)

    if require and isinstance(supported, (list, tuple)) and not supported:
        # Nothing could ever be agreed.
        return
    async with serve(
        handler, "127.0.0.1", 0, subprotocols=supported, require_subprotocol=require, **OPTIONS
    ) as server:
        with await dial(server) as raw:
            headers = [("Sec-WebSocket-Protocol", line) for line in lines]
            host = f"127.0.0.1:{port_of(server)}"
            await raw.send(client_handshake_request("/chat", host=host, headers=headers))
            head = (await raw.head()).decode()
            answered = [
                line.partition(": ")[2]
                for line in head.split("\r\n")
                if line.lower().startswith("sec-websocket-protocol:")
            ]
            if isinstance(chosen, int) or (chosen is None and require):
                assert head.startswith("HTTP/1.1 400 ")
                assert answered == []
                assert seen == []
            else:
                assert head.startswith("HTTP/1.1 101 ")
                assert answered == ([] if chosen is None else [chosen])
                # The handler is told the same, and leaves, which closes.
                await raw.next_frame()
                await raw.send_close()
                await raw.rest()
                assert seen == [chosen]


@pytest.mark.parametrize(("lines", "supported", "chosen"), OFFERS)
def test_a_blocking_server_chooses(lines: list[str], supported: Any, chosen: str | int | None) -> None:
    seen: list[str | None] = []
    with (
        synchelpers.serving(lambda ws: seen.append(ws.subprotocol), subprotocols=supported) as (server, _),
        synchelpers.dial(server) as raw,
    ):
        headers = [("Sec-WebSocket-Protocol", line) for line in lines]
        host = f"127.0.0.1:{port_of(server)}"
        raw.send(client_handshake_request("/chat", host=host, headers=headers))
        head = raw.head().decode()
        answered = [line[24:] for line in head.split("\r\n") if line.startswith("Sec-WebSocket-Protocol: ")]
        if isinstance(chosen, int):
            assert head.startswith(f"HTTP/1.1 {chosen} ")
            assert (answered, seen) == ([], [])
        else:
            assert head.startswith("HTTP/1.1 101 ")
            assert answered == ([] if chosen is None else [chosen])
            raw.next_frame()
            raw.send_close()
            raw.rest()
            assert seen == [chosen]


@pytest.mark.parametrize(("offered", "values", "reason"), ANSWERS)
@aio_test
async def test_a_client_takes_only_what_it_offered(
    offered: list[str], values: list[str], reason: str | None
) -> None:
    with Listener() as listener:
        connecting = asyncio.ensure_future(_opened(listener.uri, offered))
        with await listener.accept() as raw:
            request = await raw.accept_websocket(*(f"Sec-WebSocket-Protocol: {value}" for value in values))
            lines = [
                line for line in request.decode().split("\r\n") if line.startswith("Sec-WebSocket-Protocol:")
            ]
            assert lines == ([f"Sec-WebSocket-Protocol: {', '.join(offered)}"] if offered else [])
            if reason is None:
                ws = await connecting
                assert ws.subprotocol == (values[0] if values else None)
                ws.abort()
                await ws.wait_closed()
            else:
                with pytest.raises(HandshakeInvalid) as caught:
                    await connecting
                assert caught.value.ending.cause is Cause.PROTOCOL_ERROR
                assert reason in str(caught.value.ending.error)


async def _opened(uri: str, offered: list[str]) -> WebSocket:
    return await connect(uri, subprotocols=offered, **OPTIONS)


#: What a client of ours can offer, and what comes of it.
BOTH = [
    ([name.strip() for line in lines for name in line.split(",") if name.strip()], supported, chosen)
    for lines, supported, chosen in OFFERS
    if not isinstance(chosen, int)
]


@pytest.mark.parametrize("require", [False, True], ids=["", "required"])
@pytest.mark.parametrize(("offered", "supported", "chosen"), BOTH)
@aio_test
async def test_both_sides_agree(
    offered: list[str], supported: Any, chosen: str | None, require: bool
) -> None:
    async def handler(ws: WebSocket) -> None:
        await ws.send(repr(ws.subprotocol))

    if require and isinstance(supported, (list, tuple)) and not supported:
        return
    async with serve(
        handler, "127.0.0.1", 0, subprotocols=supported, require_subprotocol=require, **OPTIONS
    ) as server:
        connecting = connect(uri_of(server) + "chat", subprotocols=offered, **OPTIONS)
        if require and chosen is None:
            with pytest.raises(HandshakeRejected, match="400") as caught:
                await connecting
            assert b"no common subprotocol" in caught.value.body
            return
        async with connecting as ws:
            assert ws.subprotocol == chosen
            assert await ws.recv() == repr(chosen)


def test_the_tables_are_long_enough() -> None:
    assert len(OFFERS) >= 18
    assert len(ANSWERS) >= 10
    assert len(BOTH) >= 10
