"""Listening: `Listener` accepts on descriptors of its own, `LoopListener` leaves that to the event loop."""

from __future__ import annotations

import asyncio
import socket as socket_module
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .._adapter._addresses import Addresses
from .._adapter_io._listening import (
    ACCEPT_PAUSE,
    MAX_ACCEPTS,
    bind_names,
    cannot_listen,
    check_addresses,
    is_nothing,
)
from .._adapter_io._unix import SocketFile, bound_unix_socket, remove_files
from ._channel import logger
from ._transports import is_known

__all__ = ["Listener", "LoopListener", "bound_sockets", "listen"]


class Listener:
    """Accepts connections until it is closed.

    Args:
        loop: the event loop.
        sockets: bound sockets; closed at the end.
        accepted: gets each connected socket, and the peer's address.
        backlog: connections that the system keeps until they are accepted.
        files: those of unix sockets; removed at the end.

    Raises:
        OSError: one of them cannot be listened on; all are closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Iterable[socket_module.socket],
        accepted: Callable[[socket_module.socket, Any], object],
        backlog: int = 100,
        files: Iterable[SocketFile] = (),
    ) -> None:
        self.sockets = list(sockets)
        self._files = list(files)
        self._loop = loop
        self._accepted = accepted
        self._pauses: dict[socket_module.socket, asyncio.TimerHandle] = {}
        try:
            for sock in self.sockets:
                address = sock.getsockname()
                sock.setblocking(False)
                sock.listen(backlog)
                loop.add_reader(sock.fileno(), self._accept, sock)
        except OSError as exc:
            self.close()
            raise cannot_listen(address, exc) from None

    def close(self) -> None:
        """Accept no more."""
        remove_files(self._files)
        sockets, self.sockets = self.sockets, []
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        for sock in sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def _accept(self, listener: socket_module.socket) -> None:
        for _ in range(MAX_ACCEPTS):
            if listener not in self.sockets:
                return
            try:
                sock, address = listener.accept()
            except OSError as exc:
                if not is_nothing(exc):
                    self._pause(listener, exc)
                return
            try:
                self._accepted(sock, address)
            except Exception:
                logger.exception("an accepted connection could not be set up")
                sock.close()

    def _pause(self, listener: socket_module.socket, exc: OSError) -> None:
        """The system has run out of something, or worse: asking again at once would not help."""
        logger.error("no connections are accepted for %s s: %s", ACCEPT_PAUSE, exc)
        self._loop.remove_reader(listener.fileno())
        self._pauses[listener] = self._loop.call_later(ACCEPT_PAUSE, self._resume, listener)

    def _resume(self, listener: socket_module.socket) -> None:
        del self._pauses[listener]
        self._loop.add_reader(listener.fileno(), self._accept, listener)


class LoopListener:
    """What the event loop's own servers accept on.

    Args:
        servers: those.
        files: those of unix sockets; removed at the end.
    """

    def __init__(self, servers: Sequence[asyncio.AbstractServer], files: Iterable[SocketFile] = ()) -> None:
        self._servers = servers
        self._files = list(files)

    @property
    def sockets(self) -> list[socket_module.socket]:
        """The listening sockets; none once it is closed."""
        return [sock for server in self._servers for sock in getattr(server, "sockets", ())]

    def close(self) -> None:
        """Accept no more."""
        remove_files(self._files)
        for server in self._servers:
            server.close()


async def listen(
    loop: asyncio.AbstractEventLoop,
    addresses: Addresses,
    new_protocol: Callable[[], asyncio.BaseProtocol],
    accepted: Callable[[socket_module.socket, Any], object] | None = None,
) -> Listener | LoopListener:
    """Listen everywhere, or nowhere.

    Args:
        loop: the event loop.
        addresses: where.
        new_protocol: makes the protocol for a connection that the loop accepts.
        accepted: gets what we accept ourselves; None where the loop shall do that.

    Raises:
        OSError: one of the addresses cannot be listened on. All sockets are closed then, the given ones as well.
        ValueError: this system cannot do that.
    """
    sockets: list[socket_module.socket] = []
    files: list[SocketFile] = []
    servers: list[asyncio.AbstractServer] = []
    backlog, reuse_port = addresses.backlog, addresses.reuse_port
    try:
        check_addresses(addresses)
        for hosts, port in addresses.tcp:
            if is_known(loop):
                sockets += await bound_sockets(loop, hosts, port, reuse_port)
            else:
                # It may have a network of its own.
                names: Any = hosts
                options: dict[str, Any] = {"backlog": backlog, "reuse_port": reuse_port or None}
                servers.append(await loop.create_server(new_protocol, names, port, **options))
        if addresses.unix_path is not None:
            sockets.append(bound_unix_socket(addresses.unix_path, addresses.unix_mode, backlog, files))
        sockets += addresses.sockets
        if accepted is not None:
            return Listener(loop, sockets, accepted, backlog, files)
        for sock in sockets:
            # Each is in the list before the next may fail.
            servers.append(await _loop_server(loop, sock, new_protocol, backlog))  # noqa: PERF401
    except BaseException:
        LoopListener(servers, files).close()
        for sock in (*sockets, *addresses.sockets):
            sock.close()
        raise
    return LoopListener(servers, files)


async def _loop_server(
    loop: asyncio.AbstractEventLoop,
    sock: socket_module.socket,
    new_protocol: Callable[[], asyncio.BaseProtocol],
    backlog: int,
) -> asyncio.AbstractServer:
    """Have the loop listen on a bound socket."""
    address = sock.getsockname()
    make: Any = loop.create_server
    options: dict[str, Any] = {"sock": sock, "backlog": backlog}
    if sock.family == getattr(socket_module, "AF_UNIX", None):
        make = loop.create_unix_server
        if sys.version_info >= (3, 13) and isinstance(loop, asyncio.BaseEventLoop):
            # The file of a socket that was given to us is not ours to remove, and of one that we made we do it.
            options["cleanup_socket"] = False
    try:
        # The loop does that again. But where it is uvloop and fails, it cannot be closed any more.
        sock.listen(backlog)
    except OSError as exc:
        raise cannot_listen(address, exc) from None
    server: asyncio.AbstractServer = await make(new_protocol, **options)
    return server


async def bound_sockets(
    loop: asyncio.AbstractEventLoop,
    names: Sequence[str | None],
    port: int,
    reuse_port: bool = False,
) -> list[socket_module.socket]:
    """Return sockets bound to a port on all addresses of some names; see `bind_names`.

    Raises:
        OSError: there is no such name, or one of its addresses cannot be bound.
    """
    found: list[Any] = []
    for name in names:
        found += await loop.getaddrinfo(
            name, port, type=socket_module.SOCK_STREAM, flags=socket_module.AI_PASSIVE
        )
    return bind_names(names, found, port, reuse_port)
