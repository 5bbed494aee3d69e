"""Connect a TCP socket to a name, whichever of its addresses answers first; or a Unix socket to a path.

``create_connection(happy_eyeballs_delay=...)`` does that too, but Python 3.11 and 3.12 leave sockets behind when it is
cancelled, and other event loops do not know it.
"""

from __future__ import annotations

import asyncio
import os
import socket as socket_module
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

__all__ = ["dial", "dial_unix", "look_up"]


async def dial(
    host: str,
    port: int,
    *,
    family: int = socket_module.AF_UNSPEC,
    local_addr: LocalAddress | None = None,
) -> socket_module.socket:
    """Return a connected, non-blocking socket.

    Args:
        host: a name or an address.
        port: the TCP port.
        family: AF_INET or AF_INET6 for addresses of that family alone.
        local_addr: host and port to connect from; port 0 is any.

    Raises:
        OSError: the name has no address, or none of them takes a connection. It says what was tried.
    """
    infos = in_turn(await look_up(host, port, family))
    if local_addr is None:
        return await _first(host, [(info, None) for info in infos])
    return await _first(host, with_local(host, infos, local_addr, await look_up(*local_addr, family)))


async def dial_unix(path: str) -> socket_module.socket:
    """Return a Unix socket, non-blocking and connected to a path.

    Raises:
        OSError: nobody listens there.
    """
    return await _attempt(socket_module.AF_UNIX, socket_module.SOCK_STREAM, 0, path, None)


async def look_up(host: str, port: int, family: int = socket_module.AF_UNSPEC) -> list[AddressInfo]:
    """Return the addresses of a name, as ``getaddrinfo`` does.

    Raises:
        socket.gaierror: there are none.
    """
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(
            host, port, family=family, type=socket_module.SOCK_STREAM
        )
    except socket_module.gaierror as exc:
        error = not_found(exc, host, family)
    else:
        return list(infos)
    raise error


async def _first(host: str, waiting: list[tuple[AddressInfo, Any]]) -> socket_module.socket:
    """The first of these addresses that answers."""
    loop = asyncio.get_running_loop()
    attempts: list[asyncio.Task[socket_module.socket]] = []
    errors: list[OSError] = []
    winner: asyncio.Task[socket_module.socket] | None = None
    try:
        while waiting or attempts:
            if waiting:
                (family, kind, protocol, _, address), local = waiting.pop(0)
                attempts.append(loop.create_task(_attempt(family, kind, protocol, address, local)))
            done, _ = await asyncio.wait(
                attempts, timeout=NEXT_ADDRESS_AFTER if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    winner = task
                    return task.result()
                if not isinstance(error, OSError):
                    raise error
                errors.append(error)
                attempts.remove(task)
    finally:
        for task in attempts:
            if task is not winner:
                task.cancel()
                task.add_done_callback(_close)
    raise no_address(host, errors)


async def _attempt(family: int, kind: int, protocol: int, address: Any, local: Any) -> socket_module.socket:
    sock = socket_module.socket(family, kind, protocol)
    doing = f"connecting from {shown(local)}"
    try:
        sock.setblocking(False)
        if local is not None:
            sock.bind(local)
        doing = f"connecting to {shown(address)}"
        await asyncio.get_running_loop().sock_connect(sock, address)
    except OSError as exc:
        sock.close()
        number = exc.errno
        if number is None:
            raise
    except BaseException:
        sock.close()
        raise
    else:
        return sock
    # Event loops differ in what they say, and not all of them name the address.
    raise OSError(number, f"{os.strerror(number)}, {doing}")


def _close(task: asyncio.Task[socket_module.socket]) -> None:
    """A connection that nobody wants any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
