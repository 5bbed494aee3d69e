"""Where a server listens: what the arguments of ``serve`` mean, before there is any socket."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Addresses", "HostLike", "PathLike", "addresses_for"]

#: One name or address, a sequence of them, or of pairs with a port; None for all interfaces.
HostLike: TypeAlias = "str | Sequence[str | tuple[str | None, int]] | None"
PathLike: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"

#: Connections that the system keeps until they are accepted.
_BACKLOG = 100


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where to listen.

    Attributes:
        tcp: names (None is all interfaces) that share a port, and that port.
        unix_path: of a unix socket, or None; begins with NUL where it is no file.
        unix_mode: permissions of its file, or None for those that the system gives.
        sockets: what the caller has bound.
        reuse_port: other processes may listen on the same ports.
        backlog: connections that the system keeps until they are accepted.
    """

    tcp: tuple[tuple[tuple[str | None, ...], int], ...]
    unix_path: str | None
    unix_mode: int | None
    sockets: tuple[Any, ...]
    reuse_port: bool
    backlog: int


def addresses_for(
    host: HostLike = None,
    port: int | None = None,
    *,
    unix_path: PathLike | None = None,
    unix_mode: int | None = None,
    sock: Any = None,
    reuse_port: bool = False,
    backlog: int | None = None,
) -> Addresses:
    """Check these arguments of ``serve``, and bring them together.

    Raises:
        TypeError: a value of the wrong type, or one without which it has no meaning.
        ValueError: a value out of range.
    """
    elsewhere = unix_path is not None or sock is not None
    tcp = () if elsewhere and host is None and port is None else _tcp_addresses(host, port)
    if reuse_port and not tcp:
        raise TypeError("reuse_port is for TCP ports: it needs host or port")
    sockets = () if sock is None else tuple(sock) if isinstance(sock, Iterable) else (sock,)
    if sock is not None and not sockets:
        raise ValueError("sock: there is no socket in it")
    for one in sockets:
        if not hasattr(one, "getsockname"):
            raise TypeError(f"sock must be a socket, or several, not {one!r}")
    path = _checked_path(unix_path)
    return Addresses(
        tcp, path, _checked_mode(unix_mode, path), sockets, bool(reuse_port), _checked_backlog(backlog)
    )


def _tcp_addresses(host: object, port: object) -> tuple[tuple[tuple[str | None, ...], int], ...]:
    shared = 0 if port is None else _checked_port(port)
    if host is None or isinstance(host, str):
        return (((host or None,), shared),)
    names: list[str | None] = []
    pairs: list[tuple[tuple[str | None, ...], int]] = []
    if not isinstance(host, Iterable) or isinstance(host, (bytes, bytearray)):
        raise TypeError(f"host must be a name, a sequence of names or of (host, port) pairs, not {host!r}")
    items = list(host)
    for item in items:
        if item is None or isinstance(item, str):
            names.append(item or None)
        elif isinstance(item, (tuple, list)) and len(item) == 2 and (item[0] is None or type(item[0]) is str):
            pairs.append(((item[0] or None,), _checked_port(item[1])))
        else:
            hint = f"; a single pair is written [{host!r}]" if isinstance(item, int) else ""
            raise TypeError(
                f"host must be a name, a sequence of names or of (host, port) pairs, not {host!r}{hint}"
            )
    if not items:
        raise ValueError("host: there is no address in it")
    if port is not None and not names:
        raise TypeError(f"port {port} is for nothing: every address in host has a port of its own")
    return (*([(tuple(names), shared)] if names else []), *pairs)


def _checked_port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port must be an int, not {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be 0 to 65535, not {port}")
    return port


def _checked_path(path: PathLike | None) -> str | None:
    if path is None:
        return None
    text = os.fsdecode(path)
    if not text:
        raise ValueError("unix_path is empty")
    return text


def _checked_mode(mode: object, path: str | None) -> int | None:
    if mode is None:
        return None
    if path is None:
        raise TypeError("unix_mode needs unix_path")
    if isinstance(mode, bool) or not isinstance(mode, int):
        raise TypeError(f"unix_mode must be an int, such as 0o660, not {mode!r}")
    if not 0 <= mode <= 0o777:
        raise ValueError(f"unix_mode must be 0 to 0o777, not {mode:#o}")
    if path.startswith("\0"):
        raise ValueError("unix_mode is for files, and this unix_path is none")
    return mode


def _checked_backlog(backlog: object) -> int:
    if backlog is None:
        return _BACKLOG
    if isinstance(backlog, bool) or not isinstance(backlog, int):
        raise TypeError(f"backlog must be an int, not {backlog!r}")
    if backlog <= 0:
        raise ValueError(f"backlog must be positive, not {backlog}")
    return backlog
