"""`wsframe.integrations.uvicorn` with applications of Starlette and FastAPI, and with other people's clients."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import fastapi
import pytest
import websocket
import websockets.asyncio.client
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import InvalidStatus

from aiohelpers import aio_test, open_raw, until
from uvicornhelpers import http_implementations, serving
from wsframe.aio import HandshakeRejected, connect

pytestmark = pytest.mark.peer

endings: list[Any] = []


async def echo(ws: WebSocket) -> None:
    await ws.accept(
        subprotocol="two" if "two" in ws.scope["subprotocols"] else None, headers=[(b"x-app", b"yes")]
    )
    try:
        while True:
            message = await ws.receive()
            if "text" in message:
                await ws.send_text(message["text"])
            elif "bytes" in message:
                await ws.send_bytes(message["bytes"])
            else:
                raise WebSocketDisconnect(message["code"], message.get("reason"))
    except WebSocketDisconnect as exc:
        endings.append((exc.code, exc.reason, ws.scope["extensions"]["wsframe"]["ending"]))


async def deny(ws: WebSocket) -> None:
    await ws.send_denial_response(JSONResponse({"why": "not you"}, status_code=401, headers={"X-Why": "you"}))


async def leave(ws: WebSocket) -> None:
    await ws.accept()
    await ws.close(4000, "enough")


class Endpoint(WebSocketEndpoint):  # type: ignore[misc]
    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.send_json({"got": data})


async def index(_request: Any) -> JSONResponse:
    return JSONResponse({"hello": "world"})


STARLETTE = Starlette(
    routes=[
        Route("/", index),
        WebSocketRoute("/", echo),
        Mount("/below", routes=[WebSocketRoute("/deny", deny), WebSocketRoute("/leave", leave)]),
        WebSocketRoute("/endpoint", Endpoint),
    ]
)


FASTAPI = fastapi.FastAPI()


async def user(token: str | None = None) -> str:
    if token is None:
        raise fastapi.WebSocketException(code=fastapi.status.WS_1008_POLICY_VIOLATION)
    return token


@FASTAPI.websocket("/rooms/{room}")  # type: ignore[untyped-decorator]
async def in_a_room(ws: fastapi.WebSocket, room: str, who: Annotated[str, fastapi.Depends(user)]) -> None:
    await ws.accept()
    async for text in ws.iter_text():
        await ws.send_text(f"{who} in {room}: {text}")
    endings.append(ws.scope["extensions"]["wsframe"]["ending"])


@pytest.fixture(autouse=True)
def _no_endings() -> None:
    endings.clear()


MESSAGES: list[str | bytes] = ["text", b"bytes", "grüße" * 1000, bytes(100_000), "", b""]


@http_implementations
@pytest.mark.parametrize("compression", ["deflate", None])
@aio_test
async def test_websockets(http: str, compression: str | None) -> None:
    async with serving(STARLETTE, http=http) as served:
        connecting = websockets.asyncio.client.connect(
            served.uri,
            subprotocols=["one", "two"],  # type: ignore[list-item]
            compression=compression,
            proxy=None,
        )
        async with connecting as ws:
            assert ws.subprotocol == "two"
            assert ws.response is not None
            assert ws.response.headers["x-app"] == "yes"
            for message in MESSAGES:
                await ws.send(message)
                assert await ws.recv() == message
            await ws.close(4001, "theirs")
        await until(lambda: endings)
        code, reason, ending = endings[0]
        assert (code, reason) == (4001, "theirs")
        assert ending.clean
        with pytest.raises(InvalidStatus) as caught:
            await websockets.asyncio.client.connect(served.uri + "below/deny", proxy=None)
        assert caught.value.response.status_code == 401
        assert caught.value.response.body == b'{"why":"not you"}'
        assert caught.value.response.headers["X-Why"] == "you"
        async with websockets.asyncio.client.connect(served.uri + "below/leave", proxy=None) as ws:
            await ws.wait_closed()
            assert (ws.close_code, ws.close_reason) == (4000, "enough")


@http_implementations
@aio_test
async def test_aiohttp(http: str) -> None:
    async with serving(STARLETTE, http=http) as served, aiohttp.ClientSession() as session:
        async with session.ws_connect(served.uri, protocols=["two"], compress=12) as ws:
            assert ws.protocol == "two"
            for message in MESSAGES:
                await (ws.send_str(message) if isinstance(message, str) else ws.send_bytes(message))
                assert (await ws.receive()).data == message
            await ws.close(code=4001, message=b"theirs")
        await until(lambda: endings)
        assert endings[0][:2] == (4001, "theirs")
        # HTTP is uvicorn's, on the same port.
        async with session.get(served.uri.replace("ws:", "http:")) as response:
            assert await response.json() == {"hello": "world"}
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(served.uri + "below/deny")
        assert caught.value.status == 401


@http_implementations
@aio_test
async def test_websocket_client(http: str) -> None:
    def talk(uri: str) -> tuple[list[Any], int | None]:
        ws = websocket.create_connection(uri, timeout=30)
        got = []
        for message in MESSAGES:
            ws.send(message, 1 if isinstance(message, str) else 2)
            got.append(ws.recv())
        ws.close(4001, b"theirs")
        return got, ws.getstatus()

    async with serving(STARLETTE, http=http) as served:
        got, status = await asyncio.to_thread(talk, served.uri)
        assert (got, status) == (MESSAGES, 101)
        await until(lambda: endings)
        assert endings[0][:2] == (4001, "theirs")


@http_implementations
@aio_test
async def test_our_own_client(http: str) -> None:
    async with serving(STARLETTE, http=http) as served:
        async with connect(served.uri, compression=True) as ws:
            for message in MESSAGES:
                await ws.send(message)
                assert await ws.recv() == message
        with pytest.raises(HandshakeRejected) as caught:
            await connect(served.uri + "below/deny")
        assert (caught.value.status, caught.value.body) == (401, b'{"why":"not you"}')
        async with connect(served.uri + "endpoint") as ws:
            await ws.send("hello")
            assert await ws.recv() == '{"got":"hello"}'
        # Starlette answers for what it has no route for.
        with pytest.raises(HandshakeRejected) as caught:
            await connect(served.uri + "nowhere")
        assert caught.value.status == 403


@http_implementations
@aio_test
async def test_fastapi(http: str) -> None:
    async with serving(FASTAPI, http=http) as served:
        async with connect(served.uri + "rooms/42?token=me") as ws:
            await ws.send("hello")
            assert await ws.recv() == "me in 42: hello"
        await until(lambda: endings)
        assert endings[0].clean
        with pytest.raises(HandshakeRejected) as caught:
            await connect(served.uri + "rooms/42")
        assert caught.value.status == 403


@aio_test
async def test_starlette_hears_why() -> None:
    async with serving(STARLETTE) as served:
        with await open_raw(served) as raw:
            raw.reset()
            await until(lambda: endings)
        code, reason, ending = endings[0]
        assert (code, reason) == (1006, "")
        assert ending.cause.name == "RESET"


PROGRAM = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    print(scope["extensions"]["wsframe"]["ending"], flush=True)
"""


def test_command_line(tmp_path: Path) -> None:
    """As the documentation has it."""
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    command = [sys.executable, "-m", "uvicorn", "program:app", "--port", "0", "--lifespan", "off"]
    with subprocess.Popen(
        [*command, "--ws", "wsframe.integrations.uvicorn:WebSocketProtocol"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            lines = iter(server.stdout)
            port = next(found[1] for line in lines if (found := re.search(r"http://127.0.0.1:(\d+)", line)))
            ws = websocket.create_connection(f"ws://127.0.0.1:{port}/", timeout=30)
            ws.send("hello")
            assert ws.recv() == "hello"
            ws.close()
            assert any(line.startswith("closed by the peer") for line in lines)
        finally:
            server.terminate()
        assert any("Finished server process" in line for line in lines)
