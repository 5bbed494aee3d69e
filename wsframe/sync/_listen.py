"""Listening: the sockets that a server accepts from."""

from __future__ import annotations

import socket as socket_module
from collections.abc import Callable
from typing import Any

from .._adapter._addresses import Addresses
from .._adapter_io._listening import bind_names, cannot_listen, check_addresses
from .._adapter_io._unix import SocketFile, bound_unix_socket, remove_files

__all__ = ["Listeners"]


class Listeners:
    """Sockets that listen everywhere, or nowhere.

    Args:
        addresses: where.

    Attributes:
        sockets: those; none once they are closed.

    Raises:
        OSError: one of the addresses cannot be listened on. All sockets are closed then, the given ones as well.
        ValueError: this system cannot do that.
    """

    def __init__(self, addresses: Addresses) -> None:
        self.sockets: list[socket_module.socket] = []
        self._files: list[SocketFile] = []
        try:
            check_addresses(addresses)
            for names, port in addresses.tcp:
                self.sockets += _bound_sockets(names, port, addresses.reuse_port)
            if addresses.unix_path is not None:
                self.sockets.append(
                    bound_unix_socket(
                        addresses.unix_path, addresses.unix_mode, addresses.backlog, self._files
                    )
                )
            self.sockets += addresses.sockets
            for sock in self.sockets:
                _listen(sock, addresses.backlog)
        except BaseException:
            self.close()
            for sock in addresses.sockets:
                sock.close()
            raise

    def close(self, last: Callable[[socket_module.socket], object] | None = None) -> None:
        """Accept no more.

        Args:
            last: called with each socket before it is closed, for those whom the system has accepted already.
        """
        remove_files(self._files)
        sockets, self.sockets = self.sockets, []
        for sock in sockets:
            if last is not None:
                last(sock)
            sock.close()


def _bound_sockets(names: tuple[str | None, ...], port: int, reuse_port: bool) -> list[socket_module.socket]:
    found: list[Any] = []
    for name in names:
        found += socket_module.getaddrinfo(
            name, port, type=socket_module.SOCK_STREAM, flags=socket_module.AI_PASSIVE
        )
    return bind_names(names, found, port, reuse_port)


def _listen(sock: socket_module.socket, backlog: int) -> None:
    address = sock.getsockname()
    sock.setblocking(False)
    try:
        sock.listen(backlog)
    except OSError as exc:
        raise cannot_listen(address, exc) from None
