"""Making a TCP connection before a deadline: all addresses of a name, the next one too when one is slow."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from time import monotonic
from typing import Any

from ._poll import earliest, wait_ready

__all__ = ["dial"]

#: Seconds after which the next address is tried as well ("happy eyeballs").
_STAGGER = 0.25

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK)


def dial(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address that answers. The system's look-up of the name has no deadline of ours.

    Args:
        host: a name or an address.
        port: the TCP port.
        deadline: on the clock of ``monotonic``.

    Raises:
        TimeoutError: nothing has answered before the deadline.
        OSError: the name is unknown, or no address can be connected to.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = _interleaved([(family, address) for family, _, _, _, address in found])
    running: dict[int, tuple[socket.socket, Any]] = {}
    errors: list[OSError] = []
    next_start = monotonic()
    try:
        while addresses or running:
            now = monotonic()
            if now >= deadline:
                raise TimeoutError("no TCP connection was made before the open timeout was over")
            if addresses and (now >= next_start or not running):
                family, address = addresses.pop(0)
                next_start = now + _STAGGER
                try:
                    _start(family, address, running)
                except OSError as exc:
                    errors.append(exc)
                continue
            until = earliest(deadline, next_start if addresses else None)
            assert until is not None
            for descriptor in wait_ready([(fileno, False, True) for fileno in running], until - now):
                sock, address = running.pop(descriptor)
                error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not error:
                    return sock
                errors.append(_error(error, address))
                sock.close()
    finally:
        # Those that did not win.
        for sock, _ in running.values():
            sock.close()
    if len(errors) == 1:
        raise errors[0]
    raise OSError(errors[0].errno, "; ".join(str(error) for error in errors))


def _start(family: int, address: Any, running: dict[int, tuple[socket.socket, Any]]) -> None:
    sock = socket.socket(family, socket.SOCK_STREAM)
    running[sock.fileno()] = sock, address
    sock.setblocking(False)
    error = sock.connect_ex(address)
    if error and error not in _IN_PROGRESS:
        del running[sock.fileno()]
        sock.close()
        raise _error(error, address)


def _error(number: int, address: Any) -> OSError:
    # OSError picks the subclass that fits, such as ConnectionRefusedError.
    return OSError(number, f"{os.strerror(number)}, connecting to {address[0]} port {address[1]}")


def _interleaved(addresses: list[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """Families take turns, so that one that does not work here holds nothing up; the system's first comes first."""
    families: dict[int, list[tuple[int, Any]]] = {}
    for family, address in addresses:
        families.setdefault(family, []).append((family, address))
    turns = itertools.zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]
