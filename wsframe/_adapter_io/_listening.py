"""Sockets to listen on: bound to all addresses of some names, or to a path; and what may go wrong with accepting."""

from __future__ import annotations

import errno
import os
import socket as socket_module
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from .._adapter._addresses import Addresses

__all__ = ["ACCEPT_PAUSE", "MAX_ACCEPTS", "bind_names", "cannot_listen", "check_addresses", "is_nothing"]

#: Connections that are accepted from one socket in one turn.
MAX_ACCEPTS = 100
#: Seconds without accepting after the system has run out of something: asking again at once would not help.
ACCEPT_PAUSE = 1.0

#: Ports that are tried where one is wanted that is free on several addresses.
_MAX_PORTS = 20

#: The connection ended before it was accepted, or there is none.
_NOTHING = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ECONNABORTED, errno.EPERM, errno.EPROTO)

#: The system has no IPv6, or no IPv4.
_NO_SUCH_KIND = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


def is_nothing(exc: OSError) -> bool:
    """Whether a failure to accept is about that connection alone, or there is none."""
    return exc.errno in _NOTHING


def check_addresses(addresses: Addresses) -> None:
    """Find out what this system cannot do.

    Raises:
        ValueError: it cannot share ports, or has no unix sockets.
    """
    if addresses.reuse_port and not hasattr(socket_module, "SO_REUSEPORT"):
        raise ValueError("reuse_port: this system has no such option")
    if addresses.unix_path is not None and not hasattr(socket_module, "AF_UNIX"):
        raise ValueError("unix_path: this system has no unix sockets")


def bind_names(
    names: Sequence[str | None], found: Iterable[Any], port: int, reuse_port: bool
) -> list[socket_module.socket]:
    """Return sockets bound to a port on all addresses that some names have.

    Args:
        names: those; None is all addresses of this machine.
        found: what ``getaddrinfo`` says of them, one after the other.
        port: the port; 0 becomes one that is free on all of them.
        reuse_port: other processes may listen there.

    Raises:
        OSError: one of the addresses cannot be bound.
    """
    infos = list(dict.fromkeys(found))
    for attempt in range(1, _MAX_PORTS + 1):
        try:
            sockets = _bind_all(infos, reuse_port)
        except OSError as exc:
            # What is free on one address need not be so on the others.
            if port or exc.errno != errno.EADDRINUSE or attempt == _MAX_PORTS:
                raise
        else:
            break
    if not sockets:
        shown = ", ".join(repr(name) for name in names)
        raise OSError(errno.EADDRNOTAVAIL, f"no address of {shown} can be listened on")
    return sockets


def _bind_all(infos: list[Any], reuse_port: bool) -> list[socket_module.socket]:
    """Bind to all that this machine has, where port 0 is the same one for all."""
    sockets: list[socket_module.socket] = []
    port = 0
    try:
        for family, kind, protocol, _, address in infos:
            address = (address[0], address[1] or port, *address[2:])
            try:
                sock = socket_module.socket(family, kind, protocol)
            except OSError as exc:
                if exc.errno in _NO_SUCH_KIND:
                    # Names have such addresses all the same.
                    continue
                raise
            sockets.append(sock)
            if os.name == "posix" and sys.platform != "cygwin":
                sock.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_REUSEADDR, 1)
            if reuse_port:
                sock.setsockopt(socket_module.SOL_SOCKET, socket_module.SO_REUSEPORT, 1)
            if family == socket_module.AF_INET6:
                # IPv4 has a socket of its own.
                sock.setsockopt(socket_module.IPPROTO_IPV6, socket_module.IPV6_V6ONLY, 1)
            try:
                sock.bind(address)
            except OSError as exc:
                if exc.errno == errno.EADDRNOTAVAIL and len(infos) > 1:
                    # Such as ::1 where there is no IPv6.
                    sockets.pop().close()
                    continue
                raise cannot_listen(address, exc) from None
            port = port or sock.getsockname()[1]
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def cannot_listen(address: Any, exc: OSError) -> OSError:
    """The same failure, with the address in words."""
    where = f"{address[0]} port {address[1]}" if isinstance(address, tuple) else repr(address)
    return OSError(exc.errno, f"cannot listen on {where}: {exc.strerror or exc}")
