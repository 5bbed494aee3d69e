"""``Listener``: accepts TCP connections on descriptors of its own."""

from __future__ import annotations

import asyncio
import errno
import os
import socket as socket_module
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ._channel import logger

__all__ = ["Listener", "bound_sockets"]

#: Connections that wait to be accepted, as in asyncio.
_BACKLOG = 100
#: Seconds without accepting after the system has run out of something.
_PAUSE = 1.0
#: The connection ended before it was accepted, or there is none.
_NOTHING = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ECONNABORTED, errno.EPERM, errno.EPROTO)

#: The system has no IPv6, or no IPv4.
_NO_SUCH_KIND = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT)


class Listener:
    """Accepts connections until it is closed.

    Args:
        loop: the event loop.
        sockets: bound sockets; closed at the end.
        accepted: gets each connected socket, and the peer's address.

    Raises:
        OSError: one of them cannot be listened on; all are closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: Iterable[socket_module.socket],
        accepted: Callable[[socket_module.socket, Any], object],
    ) -> None:
        self.sockets = list(sockets)
        self._loop = loop
        self._accepted = accepted
        self._pauses: dict[socket_module.socket, asyncio.TimerHandle] = {}
        try:
            for sock in self.sockets:
                address = sock.getsockname()
                sock.setblocking(False)
                sock.listen(_BACKLOG)
                loop.add_reader(sock.fileno(), self._accept, sock)
        except OSError as exc:
            self.close()
            raise _cannot_listen(address, exc) from None

    def close(self) -> None:
        """Accept no more."""
        sockets, self.sockets = self.sockets, []
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()
        for sock in sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def _accept(self, listener: socket_module.socket) -> None:
        for _ in range(_BACKLOG):
            if listener not in self.sockets:
                return
            try:
                sock, address = listener.accept()
            except OSError as exc:
                if exc.errno not in _NOTHING:
                    self._pause(listener, exc)
                return
            try:
                self._accepted(sock, address)
            except Exception:
                logger.exception("an accepted connection could not be set up")
                sock.close()

    def _pause(self, listener: socket_module.socket, exc: OSError) -> None:
        """The system has run out of something, or worse: asking again at once would not help."""
        logger.error("no connections are accepted for %s s: %s", _PAUSE, exc)
        self._loop.remove_reader(listener.fileno())
        self._pauses[listener] = self._loop.call_later(_PAUSE, self._resume, listener)

    def _resume(self, listener: socket_module.socket) -> None:
        del self._pauses[listener]
        self._loop.add_reader(listener.fileno(), self._accept, listener)


async def bound_sockets(
    loop: asyncio.AbstractEventLoop, host: str | Sequence[str] | None, port: int
) -> list[socket_module.socket]:
    """Return sockets bound to a port on all addresses of one host, of several, or, for None, of this machine.

    Raises:
        OSError: there is no such name, or one of its addresses cannot be bound.
    """
    hosts: Sequence[str | None] = [host or None] if host is None or isinstance(host, str) else host
    infos: dict[Any, None] = {}
    for name in hosts:
        found = await loop.getaddrinfo(
            name, port, type=socket_module.SOCK_STREAM, flags=socket_module.AI_PASSIVE
        )
        infos.update(dict.fromkeys(found))
    sockets: list[socket_module.socket] = []
    try:
        for family, kind, protocol, _, address in infos:
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
                raise _cannot_listen(address, exc) from None
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, f"no address of {host!r} can be listened on")
    return sockets


def _cannot_listen(address: Any, exc: OSError) -> OSError:
    where = f"{address[0]} port {address[1]}" if isinstance(address, tuple) else repr(address)
    return OSError(exc.errno, f"cannot listen on {where}: {exc.strerror}")
