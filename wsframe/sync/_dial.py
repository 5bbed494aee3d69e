"""Making a connection before a deadline: all addresses of a name, the next one too when one is slow; a Unix socket."""

from __future__ import annotations

import errno
import os
import socket
from time import monotonic
from typing import Any

from .._adapter_io._route import (
    NEXT_ADDRESS_AFTER,
    AddressInfo,
    LocalAddress,
    in_turn,
    no_address,
    not_found,
    shown,
    with_local,
)
from ._poll import earliest, wait_ready

__all__ = ["TimedSocket", "dial", "dial_unix", "look_up"]

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK)

#: Sockets that are being connected, by descriptor, with what is being done.
_Running = dict[int, tuple[socket.socket, str]]


def dial(
    host: str,
    port: int,
    deadline: float,
    *,
    family: int = socket.AF_UNSPEC,
    local_addr: LocalAddress | None = None,
) -> socket.socket:
    """Return a non-blocking socket that is connected to the first address that answers.

    The system's look-up of the name has no deadline of ours.

    Args:
        host: a name or an address.
        port: the TCP port.
        deadline: on the clock of ``monotonic``.
        family: AF_INET or AF_INET6 for addresses of that family alone.
        local_addr: host and port to connect from; port 0 is any.

    Raises:
        TimeoutError: nothing has answered before the deadline.
        OSError: the name has no address, or none of them takes a connection. It says what was tried.
    """
    infos = in_turn(look_up(host, port, family))
    if local_addr is None:
        return _first(host, [(info, None) for info in infos], deadline)
    return _first(host, with_local(host, infos, local_addr, look_up(*local_addr, family)), deadline)


def dial_unix(path: str, deadline: float) -> socket.socket:
    """Return a Unix socket, non-blocking and connected to a path.

    Raises:
        TimeoutError: the one who listens there was too busy until the deadline.
        OSError: nobody listens there.
    """
    info = (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path)
    while True:
        try:
            return _first(path, [(info, None)], deadline)
        except BlockingIOError:
            # Its queue is full, and nobody tells when that is over.
            wait_ready([], min(0.01, max(0.0, deadline - monotonic())))


def look_up(host: str, port: int, family: int = socket.AF_UNSPEC) -> list[AddressInfo]:
    """Return the addresses of a name, as ``getaddrinfo`` does.

    Raises:
        socket.gaierror: there are none.
    """
    try:
        return list(socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM))
    except socket.gaierror as exc:
        error = not_found(exc, host, family)
    raise error


def _first(host: str, waiting: list[tuple[AddressInfo, Any]], deadline: float) -> socket.socket:
    running: _Running = {}
    errors: list[OSError] = []
    next_start = monotonic()
    try:
        while waiting or running:
            now = monotonic()
            if now >= deadline:
                raise TimeoutError("no connection was made before the open timeout was over")
            if waiting and (now >= next_start or not running):
                info, local = waiting.pop(0)
                next_start = now + NEXT_ADDRESS_AFTER
                try:
                    _start(info, local, running)
                except OSError as exc:
                    errors.append(exc)
                continue
            until = earliest(deadline, next_start if waiting else None)
            assert until is not None
            for descriptor in wait_ready([(fileno, False, True) for fileno in running], until - now):
                sock, doing = running.pop(descriptor)
                number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not number:
                    return sock
                errors.append(_error(number, doing))
                sock.close()
    finally:
        # Those that did not win.
        for sock, _ in running.values():
            sock.close()
    raise no_address(host, errors)


def _start(info: AddressInfo, local: Any, running: _Running) -> None:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    doing = f"connecting from {shown(local)}"
    try:
        sock.setblocking(False)
        if local is not None:
            sock.bind(local)
        doing = f"connecting to {shown(address)}"
        number = sock.connect_ex(address)
        # A Unix socket is connected at once or never.
        if number and (number not in _IN_PROGRESS or not isinstance(address, tuple)):
            raise OSError(number, os.strerror(number))
    except OSError as exc:
        sock.close()
        if exc.errno is None:
            raise
        number = exc.errno
    except BaseException:
        sock.close()
        raise
    else:
        running[sock.fileno()] = sock, doing
        return
    raise _error(number, doing)


def _error(number: int, doing: str) -> OSError:
    # OSError picks the subclass that fits, such as ConnectionRefusedError.
    return OSError(number, f"{os.strerror(number)}, {doing}")


class TimedSocket:
    """A non-blocking socket with the calls of a blocking one, all of which share a deadline.

    Args:
        sock: the socket.
        deadline: on the clock of ``monotonic``.
    """

    __slots__ = ("_deadline", "sock")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        """Send all of it. Raises OSError, and TimeoutError when it is too late."""
        view = memoryview(data)
        while view:
            self._wait(False, True)
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                continue

    def recv(self, size: int) -> bytes:
        """Wait for something to come. Raises as ``sendall``."""
        while True:
            self._wait(True, False)
            try:
                return self.sock.recv(size)
            except BlockingIOError:
                continue

    def close(self) -> None:
        """Give the descriptor back."""
        self.sock.close()

    def _wait(self, read: bool, write: bool) -> None:
        timeout = self._deadline - monotonic()
        if timeout <= 0 or not wait_ready([(self.sock.fileno(), read, write)], timeout):
            raise TimeoutError("the open timeout is over")
