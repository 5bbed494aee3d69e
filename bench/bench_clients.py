"""The clients under test: each sends a `str`, waits for its echo, and has it as a validated `str`.

Everything has the library's own defaults. A client is opened once for each case; its `trips` does so many round trips
and returns what the last one gave.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from itertools import repeat
from typing import Any

from bench_wire import REQUEST, TEXT, frame

#: So long the server is given to open a connection, in seconds.
PATIENCE = 20.0


class Client:
    """An open connection."""

    #: It has no frames; what it gives is bytes of the wire.
    baseline = False

    def trips(self, message: str, times: int) -> Any:
        """Send and receive so many times, and return what came last."""
        raise NotImplementedError

    def close(self) -> None:
        """End the connection."""
        raise NotImplementedError


class Asynchronous(Client):
    """A client with `send` and `recv`, or what they are called there, on an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.send: Callable[[str], Awaitable[Any]]
        self.recv: Callable[[], Awaitable[Any]]
        self.end: Callable[[], Awaitable[Any]]

    async def open(self, port: int) -> None:
        """Connect."""
        raise NotImplementedError

    def trips(self, message: str, times: int) -> Any:
        """Do them in one task."""
        return self.run(self._trips(message, times))

    async def _trips(self, message: str, times: int) -> Any:
        send, recv, received = self.send, self.recv, None
        for _ in repeat(None, times):
            await send(message)
            received = await recv()
        return received

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it to its end."""
        return self.loop.run_until_complete(coroutine)

    def close(self) -> None:
        """End the connection."""
        self.run(self._close())

    async def _close(self) -> None:
        await self.end()


class Wsframe(Asynchronous):
    """Ours, with coroutines."""

    async def open(self, port: int) -> None:
        """Connect."""
        from wsframe.aio import connect

        ws = await connect(f"ws://127.0.0.1:{port}/")
        self.send, self.recv, self.end = ws.send, ws.recv, ws.close


class Websockets(Asynchronous):
    """websockets' asyncio client."""

    async def open(self, port: int) -> None:
        """Connect."""
        from websockets.asyncio.client import connect

        ws = await connect(f"ws://127.0.0.1:{port}/", proxy=None)
        self.send, self.recv, self.end = ws.send, ws.recv, ws.close


class PicowsWebsockets(Asynchronous):
    """picows' coroutines."""

    async def open(self, port: int) -> None:
        """Connect."""
        from picows.websockets import connect

        ws = await connect(f"ws://127.0.0.1:{port}/", proxy=None)
        self.send, self.recv, self.end = ws.send, ws.recv, ws.close


class Aiohttp(Asynchronous):
    """aiohttp's client."""

    async def open(self, port: int) -> None:
        """Connect."""
        import aiohttp

        session = aiohttp.ClientSession()
        ws = await session.ws_connect(f"ws://127.0.0.1:{port}/")

        async def end() -> None:
            await ws.close()
            await session.close()

        self.send, self.recv, self.end = ws.send_str, ws.receive_str, end


class Picows(Asynchronous):
    """picows' core: the callback for one echo sends the next message."""

    async def open(self, port: int) -> None:
        """Connect."""
        from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

        text = WSMsgType.TEXT

        class Listener(WSListener):  # type: ignore[misc]
            message = ""
            left = 0
            done: asyncio.Future[str]

            def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
                received = frame.get_payload_as_utf8_text()
                self.left -= 1
                if self.left:
                    transport.send(text, self.message)
                else:
                    self.done.set_result(received)

        self.transport, self.listener = await ws_connect(Listener, f"ws://127.0.0.1:{port}/")
        self.text = text

    async def _trips(self, message: str, times: int) -> Any:
        listener = self.listener
        listener.message, listener.left, listener.done = message, times, self.loop.create_future()
        self.transport.send(self.text, message)
        return await listener.done

    async def _close(self) -> None:
        self.transport.disconnect()
        await self.transport.wait_disconnected()


class Blocking(Client):
    """A client with `send` and `recv` that block."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws

    def trips(self, message: str, times: int) -> Any:
        """Do them one after the other."""
        send, recv, received = self.ws.send, self.ws.recv, None
        for _ in repeat(None, times):
            send(message)
            received = recv()
        return received

    def close(self) -> None:
        """End the connection."""
        self.ws.close()


def wsframe_sync(port: int) -> Client:
    """Connect ours on a blocking socket."""
    from wsframe.sync import connect

    return Blocking(connect(f"ws://127.0.0.1:{port}/"))


def websockets_sync(port: int) -> Client:
    """Connect websockets on a blocking socket; it has a thread that reads."""
    from websockets.sync.client import connect

    return Blocking(connect(f"ws://127.0.0.1:{port}/", proxy=None))


def websocket_client(port: int) -> Client:
    """Connect websocket-client."""
    import websocket

    return Blocking(websocket.create_connection(f"ws://127.0.0.1:{port}/", timeout=PATIENCE))


class BareSocket(Client):
    """The limit of blocking clients: a frame that was made before goes out, and as many bytes as it takes come in."""

    baseline = True

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(REQUEST)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.sock.recv(4096)
        self.sock.settimeout(None)
        self.buffer = memoryview(bytearray(1 << 18))

    def trips(self, message: str, times: int) -> bytes:
        """Do them one after the other."""
        wire = frame(TEXT, message.encode(), b"abcd")
        # The reply has no masking key.
        size = len(wire) - 4
        sendall, recv_into, buffer = self.sock.sendall, self.sock.recv_into, self.buffer
        last = 0
        for _ in repeat(None, times):
            sendall(wire)
            left = size
            while left:
                last = recv_into(buffer)
                if not last:
                    raise ConnectionError("the server is gone")
                left -= last
        return bytes(buffer[:last])

    def close(self) -> None:
        """End the connection."""
        self.sock.close()


#: By the part of a contestant's name before the slash.
ASYNCHRONOUS: dict[str, type[Asynchronous]] = {
    "wsframe": Wsframe,
    "wsframe-python": Wsframe,
    "websockets": Websockets,
    "picows": Picows,
    "picows.websockets": PicowsWebsockets,
    "aiohttp": Aiohttp,
}
#: By the whole name.
BLOCKING: dict[str, Callable[[int], Client]] = {
    "wsframe/sync": wsframe_sync,
    "wsframe-python/sync": wsframe_sync,
    "websockets/sync": websockets_sync,
    "websocket-client": websocket_client,
    "socket": BareSocket,
}
