"""The servers under test: each hands a validated `str` to its handler and sends that `str` back.

Everything has the library's own defaults (limits, deadlines, keepalive). A function starts one and returns the port
that it listens on; the asynchronous ones run on whatever loop they find.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any

HOST = "127.0.0.1"
#: What a raw echo receives at once.
RECEIVE = 256 << 10

Start = Callable[[ssl.SSLContext | None, bool], Awaitable[int]]

#: Kept alive for as long as the process runs.
kept: list[Any] = []


def port_of(server: Any) -> int:
    """Return the port of something that has listening sockets, and keep it."""
    kept.append(server)
    port: int = server.sockets[0].getsockname()[1]
    return port


async def wsframe(tls: ssl.SSLContext | None, deflate: bool) -> int:
    """Start ours, with coroutines."""
    from wsframe.aio import WebSocket, serve

    async def echo(ws: WebSocket) -> None:
        async for message in ws:
            await ws.send(message)

    return port_of(await serve(echo, HOST, 0, ssl=tls, compression=deflate))


async def wsframe_callbacks(tls: ssl.SSLContext | None, deflate: bool) -> int:
    """Start ours, with callbacks."""
    from wsframe.aio import Application, WebSocket, serve

    class Echo(Application):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send_nowait(message)

    return port_of(await serve(Echo(), HOST, 0, ssl=tls, compression=deflate))


def wsframe_sync(tls: ssl.SSLContext | None, deflate: bool) -> int:
    """Start ours on blocking sockets: a thread for each connection."""
    from wsframe.sync import WebSocket, serve

    def echo(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)

    server = serve(echo, HOST, 0, ssl=tls, compression=deflate, max_connections=MOST_THREADS)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return port_of(server)


#: So many connections a server with a thread for each is asked to hold.
MOST_THREADS = 3000


async def websockets(tls: ssl.SSLContext | None, _deflate: bool) -> int:
    """Start websockets' asyncio server. It agrees to compression by itself."""
    from websockets.asyncio.server import ServerConnection, serve

    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    return port_of(await serve(echo, HOST, 0, ssl=tls))


async def aiohttp(tls: ssl.SSLContext | None, _deflate: bool) -> int:
    """Start aiohttp's server, without its access log. It agrees to compression by itself."""
    from aiohttp import WSMsgType, web

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
        return ws

    application = web.Application()
    application.router.add_get("/", echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0, ssl_context=tls)
    await site.start()
    kept.append(runner)
    port: int = runner.addresses[0][1]
    return port


async def picows(tls: ssl.SSLContext | None, _deflate: bool) -> int:
    """Start picows' core: callbacks, frame by frame."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

    class Echo(WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                transport.send(WSMsgType.TEXT, frame.get_payload_as_utf8_text())
            elif frame.msg_type == WSMsgType.CLOSE:
                transport.send_close(frame.get_close_code())
                transport.disconnect()

    return port_of(await ws_create_server(lambda _request: Echo(), HOST, 0, ssl=tls))


async def picows_websockets(tls: ssl.SSLContext | None, _deflate: bool) -> int:
    """Start picows' coroutines, which have the interface of websockets."""
    from picows.websockets import ServerConnection, serve

    async def echo(ws: ServerConnection) -> None:
        async for message in ws:
            await ws.send(message)

    return port_of(await serve(echo, HOST, 0, ssl=tls))


async def tornado(tls: ssl.SSLContext | None, deflate: bool) -> int:
    """Start tornado's server, without its access log and without Nagle's algorithm."""
    from tornado import netutil
    from tornado.httpserver import HTTPServer
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler

    class Echo(WebSocketHandler):  # type: ignore[misc]
        def open(self) -> None:
            self.set_nodelay(True)

        def get_compression_options(self) -> dict[str, Any] | None:
            return {} if deflate else None

        async def on_message(self, message: str | bytes) -> None:
            await self.write_message(message)

    application = Application([("/", Echo)], log_function=lambda _handler: None)
    sockets = netutil.bind_sockets(0, HOST)
    server = HTTPServer(application, ssl_options=tls)
    server.add_sockets(sockets)
    kept.append(server)
    port: int = sockets[0].getsockname()[1]
    return port


async def _on_uvicorn(ws: Any, tls: ssl.SSLContext | None) -> int:
    """Start uvicorn with something below the application, which is as bare as one can be."""
    import uvicorn

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})

    config = uvicorn.Config(echo, ws=ws, lifespan="off", log_config=None)
    config.load()
    config.ssl = tls
    sock = socket.create_server((HOST, 0))
    server = uvicorn.Server(config)
    kept.append((server, asyncio.create_task(server.serve(sockets=[sock]))))
    while not server.started:  # noqa: ASYNC110 - it does not say when
        await asyncio.sleep(0.01)
    port: int = sock.getsockname()[1]
    return port


async def uvicorn_wsframe(tls: ssl.SSLContext | None, _deflate: bool) -> int:
    """Start uvicorn with ours. It agrees to compression by itself."""
    from wsframe.integrations.uvicorn import WebSocketProtocol

    return await _on_uvicorn(WebSocketProtocol, tls)


async def uvicorn_websockets(tls: ssl.SSLContext | None, _deflate: bool) -> int:
    """Start uvicorn with websockets below it. It agrees to compression by itself."""
    return await _on_uvicorn("websockets-sansio", tls)


async def uvicorn_wsproto(tls: ssl.SSLContext | None, _deflate: bool) -> int:
    """Start uvicorn with wsproto below it. It agrees to compression by itself."""
    return await _on_uvicorn("wsproto", tls)


async def raw(tls: ssl.SSLContext | None, _deflate: bool) -> int:
    """Start an echo of bytes, which knows nothing of frames: what the loop and the kernel cost."""
    buffer = memoryview(bytearray(RECEIVE))

    class Echo(asyncio.BufferedProtocol):
        transport: asyncio.Transport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport  # type: ignore[assignment]

        def get_buffer(self, sizehint: int) -> memoryview:
            return buffer

        def buffer_updated(self, nbytes: int) -> None:
            # A copy, for the transport may keep it longer than the shared buffer stays as it is.
            self.transport.write(bytes(buffer[:nbytes]))

    return port_of(await asyncio.get_running_loop().create_server(Echo, HOST, 0, ssl=tls))


#: By the part of a contestant's name before the slash.
ASYNCHRONOUS: dict[str, Start] = {
    "wsframe.callbacks": wsframe_callbacks,
    "wsframe": wsframe,
    "wsframe-python": wsframe,
    "websockets": websockets,
    "aiohttp": aiohttp,
    "picows": picows,
    "picows.websockets": picows_websockets,
    "tornado": tornado,
    "uvicorn.wsframe": uvicorn_wsframe,
    "uvicorn.wsframe-python": uvicorn_wsframe,
    "uvicorn.websockets-sansio": uvicorn_websockets,
    "uvicorn.wsproto": uvicorn_wsproto,
    "raw": raw,
}
