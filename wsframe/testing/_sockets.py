"""Sockets of the system whose operations are counted, and fail when they are told to."""

from __future__ import annotations

import socket
from typing import Any

from ._faults import Fault, Faults

__all__ = ["FaultyListener", "FaultySocket"]


class FaultySocket(socket.socket):
    """A stream socket that counts what is done with it, and fails when `Faults` say so.

    For ``wsframe.sync.connect(sock=...)``, for asyncio's ``sock=``, and for any code that takes a socket. Operations
    that are counted: ``recv``, ``send``, ``shutdown``, ``setsockopt``, ``getsockname``, ``getpeername``, whatever the
    method is called in Python (``recv_into`` is a ``recv``, and ``sendmsg`` a ``send``).

    Args:
        sock: a connected socket, which becomes this one.
        faults: what is to go wrong. `Fault.STALL` is not possible with a socket of the system.
    """

    def __init__(self, sock: socket.socket, faults: Faults) -> None:
        timeout = sock.gettimeout()
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self.settimeout(timeout)
        self.faults = faults

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As ``socket.recv``."""
        fault = self.faults.begin("recv")
        if fault is Fault.EOF:
            return b""
        return super().recv(1 if fault is Fault.PARTIAL else bufsize, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As ``socket.recv_into``."""
        fault = self.faults.begin("recv")
        if fault is Fault.EOF:
            return 0
        return super().recv_into(buffer, 1 if fault is Fault.PARTIAL else nbytes, flags)

    def send(self, data: Any, flags: int = 0, /) -> int:
        """As ``socket.send``."""
        if self.faults.begin("send") is Fault.PARTIAL:
            data = memoryview(data)[:1]
        return super().send(data, flags)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        """As ``socket.sendmsg``."""
        if self.faults.begin("send") is Fault.PARTIAL:
            buffers = [memoryview(b"".join(buffers))[:1]]
        return super().sendmsg(buffers, ancdata, flags, address)

    def shutdown(self, how: int, /) -> None:
        """As ``socket.shutdown``."""
        self.faults.begin("shutdown")
        super().shutdown(how)

    def setsockopt(self, *arguments: Any) -> None:
        """As ``socket.setsockopt``."""
        self.faults.begin("setsockopt")
        super().setsockopt(*arguments)

    def getsockname(self) -> Any:
        """As ``socket.getsockname``."""
        self.faults.begin("getsockname")
        return super().getsockname()

    def getpeername(self) -> Any:
        """As ``socket.getpeername``."""
        self.faults.begin("getpeername")
        return super().getpeername()


class FaultyListener(socket.socket):
    """A listening socket whose ``accept`` gives a `FaultySocket`, and is itself counted as ``accept``.

    Args:
        sock: a listening socket, which becomes this one.
        faults: what is to go wrong, for all connections together.
    """

    def __init__(self, sock: socket.socket, faults: Faults) -> None:
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self.faults = faults

    def accept(self) -> tuple[FaultySocket, Any]:
        """As ``socket.accept``."""
        self.faults.begin("accept")
        sock, address = super().accept()
        return FaultySocket(sock, self.faults), address
