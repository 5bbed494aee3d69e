"""A network in memory, for asyncio: who listens, and who is connected."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
from typing import Any

from ._faults import Fault, Faults
from ._transport import MemoryStream, MemoryTransport

__all__ = ["MemoryNetwork", "MemoryServer"]


class MemoryNetwork:
    """Who listens, and who is connected.

    Attributes:
        loop: whose time it is.
        capacity: bytes that are under way in one direction of a connection before its sender has to wait.
        latency: virtual seconds that they take.
        client_faults: what counts and spoils the operations of clients that connect from now on, or None.
        server_faults: the same for servers.
        transports: those that are not closed yet.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.capacity = 64 * 1024
        self.latency = 0.0
        self.client_faults: Faults | None = None
        self.server_faults: Faults | None = None
        self.transports: set[MemoryTransport] = set()
        self.loop = loop
        self._servers: dict[int, MemoryServer] = {}
        self._dialed: dict[socket.socket, MemoryServer] = {}
        self._ports = itertools.count(49152)

    def listen(self, server: MemoryServer, port: int) -> int:
        """Take a port, or find one.

        Raises:
            OSError: it is taken.
        """
        port = port or next(self._ports)
        if port in self._servers:
            raise OSError(errno.EADDRINUSE, f"port {port} is taken in the network in memory")
        self._servers[port] = server
        return port

    def unlisten(self, port: int) -> None:
        """Give a port back."""
        del self._servers[port]

    def is_dialed(self, sock: socket.socket) -> bool:
        """Whether a socket stands for a connection in memory."""
        return sock in self._dialed

    def dial(self, sock: socket.socket, port: int) -> bool:
        """Connect a socket, which stands for the connection until ``connect`` makes a transport of it.

        Returns:
            whether it is connected; if not, it never will be.

        Raises:
            ConnectionRefusedError: nobody listens there.
        """
        # What is not possible at once is in progress, for a connect, and done soon.
        with contextlib.suppress(BlockingIOError, InterruptedError):
            if self.client_faults is not None and self.client_faults.begin("connect") is Fault.STALL:
                return False
        self._dialed[sock] = self._server_at(port)
        return True

    def connect(self, factory: Any, port: int | None, sock: socket.socket | None) -> MemoryTransport:
        """Make both transports of a connection; return the client's.

        Raises:
            ConnectionRefusedError: nobody listens there.
        """
        if sock is None:
            assert port is not None
            server = self._server_at(port)
        else:
            server = self._dialed.pop(sock)
            sock.close()
        there, back = (MemoryStream(self.loop, self.capacity, self.latency) for _ in range(2))
        here = ("127.0.0.1", next(self._ports))
        client = MemoryTransport(self, factory(), back, there, self.client_faults, here, server.address)
        MemoryTransport(self, server.factory(), there, back, self.server_faults, server.address, here)
        return client

    def _server_at(self, port: int) -> MemoryServer:
        try:
            return self._servers[port]
        except KeyError:
            raise ConnectionRefusedError(
                errno.ECONNREFUSED, f"nobody listens on port {port} in the network in memory"
            ) from None


class MemoryServer(asyncio.AbstractServer):
    """A listener in memory."""

    def __init__(self, network: MemoryNetwork, factory: Any, port: int) -> None:
        self.factory = factory
        self.address = ("127.0.0.1", network.listen(self, port))
        self._network = network
        self._closed = asyncio.Event()

    @property
    def sockets(self) -> tuple[Any, ...]:
        """What knows the address; none once it is closed."""
        return () if self._closed.is_set() else (self,)

    def getsockname(self) -> tuple[str, int]:
        """The address."""
        return self.address

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Where it runs."""
        return asyncio.get_running_loop()

    def is_serving(self) -> bool:
        """Whether it is not closed."""
        return not self._closed.is_set()

    def close(self) -> None:
        """Stop listening; connections are not touched."""
        if self.is_serving():
            self._closed.set()
            self._network.unlisten(self.address[1])

    async def start_serving(self) -> None:
        """It does from the beginning."""

    async def serve_forever(self) -> None:
        """Serve until cancelled."""
        try:
            await self._closed.wait()
        finally:
            self.close()

    async def wait_closed(self) -> None:
        """Wait until ``close`` was called."""
        await self._closed.wait()
