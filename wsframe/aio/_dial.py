"""Connect a TCP socket to a name, whichever of its addresses answers first.

``create_connection(happy_eyeballs_delay=...)`` does that too, but Python 3.11 and 3.12 leave sockets behind when it is
cancelled, and other event loops do not know it.
"""

from __future__ import annotations

import asyncio
import itertools
import socket as socket_module
from typing import Any, TypeAlias

__all__ = ["dial"]

#: Seconds after which the next address is tried beside those that have not answered.
_DELAY = 0.25

_AddressInfo: TypeAlias = tuple[int, int, int, str, Any]


async def dial(host: str, port: int) -> socket_module.socket:
    """Return a connected, non-blocking socket.

    Raises:
        OSError: the name has no address, or none of them takes a connection.
    """
    loop = asyncio.get_running_loop()
    infos = _in_turn(await loop.getaddrinfo(host, port, type=socket_module.SOCK_STREAM))
    attempts: list[asyncio.Task[socket_module.socket]] = []
    errors: list[OSError] = []
    winner: asyncio.Task[socket_module.socket] | None = None
    try:
        while infos or attempts:
            if infos:
                attempts.append(loop.create_task(_attempt(infos.pop(0))))
            done, _ = await asyncio.wait(
                attempts, timeout=_DELAY if infos else None, return_when=asyncio.FIRST_COMPLETED
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
    if len(errors) == 1:
        raise errors[0]
    raise OSError(f"no address of {host} takes a connection: {'; '.join(map(str, errors))}")


async def _attempt(info: _AddressInfo) -> socket_module.socket:
    family, kind, protocol, _, address = info
    sock = socket_module.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def _close(task: asyncio.Task[socket_module.socket]) -> None:
    """A connection that nobody wants any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()


def _in_turn(infos: list[Any]) -> list[_AddressInfo]:
    """The address families in turn, each in its order, so that a dead one costs one delay and no more."""
    families: dict[int, list[_AddressInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    return [info for row in itertools.zip_longest(*families.values()) for info in row if info is not None]
