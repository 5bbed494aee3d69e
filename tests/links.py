"""Links that are not perfect: a TCP proxy on loopback that does to each connection what its `Fault` says.

It runs in a thread with an event loop of its own, so that blocking code can use it too. What it is to do to a
connection is known by the port from which that comes: ``Link.dial`` makes a socket for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass

#: How much is read at a time.
_CHUNK = 1 << 16

#: Seconds that a cut connection has to hear of it, before what it still sends is answered with RST.
_LAST_WORDS = 5.0

#: What slows a connection down, and what breaks it.
HARMLESS = ("none", "latency", "bandwidth", "slicer")
HARMFUL = ("cut", "reset", "half-open", "limit")


@dataclass(frozen=True)
class Fault:
    """What a link does to one connection.

    Attributes:
        kind: ``latency``: each chunk comes later; ``bandwidth``: so many bytes in a second; ``slicer``: chunks are cut
            into small ones; ``cut``: after so many bytes both sides see the end of the stream; ``reset``: both get RST;
            ``half-open``: nothing arrives any more, and nobody is told; ``limit``: one direction takes no more than so
            many bytes, then its receiver sees the end of the stream. ``none`` is a good link.
        delay: seconds, for ``latency``.
        rate: bytes in a second, for ``bandwidth``.
        size: of a slice.
        after: bytes that get through before it breaks; in both directions, for ``limit`` in its own.
        upwards: whom ``limit`` and ``half-open`` concern: what goes to the server, or to the client; None is both.
    """

    kind: str = "none"
    delay: float = 0.0
    rate: float = 0.0
    size: int = 0
    after: int = 0
    upwards: bool | None = None


class Link:
    """The proxy; a context manager.

    Attributes:
        clients: which connection of a client is behind one that comes out: port to port; for the user to forget.
    """

    def __init__(self) -> None:
        self.clients: dict[int, int] = {}
        self._orders: dict[int, tuple[Fault, int]] = {}
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.setblocking(False)
        self._address = self._listener.getsockname()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="link")

    def __enter__(self) -> Link:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()
        self._loop.close()
        self._listener.close()

    def dial(self, fault: Fault, port: int) -> socket.socket:
        """A socket that is connected to that port, by way of the fault."""
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self._orders[sock.getsockname()[1]] = fault, port
        sock.connect(self._address)
        return sock

    # In its own thread.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._acceptor = self._loop.create_task(self._accept())
        self._loop.run_forever()
        tasks = [self._acceptor, *self._tasks]
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        asyncio.set_event_loop(None)

    def _stop(self) -> None:
        self._loop.stop()

    async def _accept(self) -> None:
        while True:
            sock, address = await self._loop.sock_accept(self._listener)
            task = self._loop.create_task(self._connection(sock, address[1]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connection(self, client: socket.socket, port: int) -> None:
        fault, target = self._orders.pop(port)
        server = socket.socket()
        try:
            for sock in (client, server):
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.bind(("127.0.0.1", 0))
            self.clients[server.getsockname()[1]] = port
            await self._loop.sock_connect(server, ("127.0.0.1", target))
            await _Relay(fault, client, server).run()
        except OSError:
            _reset(client)
            _reset(server)
        finally:
            client.close()
            server.close()


class _Broken(Exception):
    """The fault has struck."""


class _Relay:
    """Both directions of one connection."""

    def __init__(self, fault: Fault, client: socket.socket, server: socket.socket) -> None:
        self._fault = fault
        self._client = client
        self._server = server
        self._moved = 0
        self._silent = False
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        tasks = [
            self._loop.create_task(self._one_way(self._client, self._server, upwards=True)),
            self._loop.create_task(self._one_way(self._server, self._client, upwards=False)),
        ]
        try:
            await asyncio.gather(*tasks)
        except _Broken:
            await _finish(tasks)
            if self._fault.kind == "reset":
                _reset(self._client)
                _reset(self._server)
            else:
                await self._cut()
        finally:
            await _finish(tasks)

    async def _one_way(self, source: socket.socket, sink: socket.socket, *, upwards: bool) -> None:
        try:
            await self._pump(source, sink, upwards=upwards)
        except OSError:
            if not self._silent:
                raise

    async def _pump(self, source: socket.socket, sink: socket.socket, *, upwards: bool) -> None:
        fault, passed = self._fault, 0
        concerned = fault.upwards in (None, upwards)
        while data := await self._loop.sock_recv(source, _CHUNK):
            if fault.kind in ("cut", "reset", "half-open") and not self._silent:
                left = fault.after - self._moved
                if len(data) >= left:
                    if concerned:
                        await self._loop.sock_sendall(sink, data[:left])
                    if fault.kind != "half-open":
                        raise _Broken
                    self._silent = True
            if self._silent and concerned:
                continue
            if fault.kind == "limit" and concerned and passed + len(data) >= fault.after:
                await self._loop.sock_sendall(sink, data[: fault.after - passed])
                break
            self._moved += len(data)
            passed += len(data)
            await self._forward(sink, data)
        if self._silent and concerned:
            return
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
        if data:
            # Nobody gets it.
            while await self._loop.sock_recv(source, _CHUNK):
                pass

    async def _forward(self, sink: socket.socket, data: bytes) -> None:
        fault = self._fault
        if fault.kind == "slicer":
            for begin in range(0, len(data), fault.size):
                await self._loop.sock_sendall(sink, data[begin : begin + fault.size])
                await asyncio.sleep(0)
            return
        if fault.kind == "latency":
            await asyncio.sleep(fault.delay)
        elif fault.kind == "bandwidth":
            await asyncio.sleep(len(data) / fault.rate)
        await self._loop.sock_sendall(sink, data)

    async def _cut(self) -> None:
        """FIN to both, and what they still send is taken: a socket closed with unread input would send RST."""
        both = self._client, self._server
        for sock in both:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                for sock in both:
                    while await self._loop.sock_recv(sock, _CHUNK):
                        pass


async def _finish(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
