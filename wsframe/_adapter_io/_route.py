"""``RouteBase``: the way to a server, as far as it can be known without going it; and the words for what goes wrong."""

from __future__ import annotations

import itertools
import os
import socket as socket_module
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

from .._adapter._proxy import InvalidProxy, Proxy, ProxyFailure, is_loopback, parse_proxy, proxy_for
from .._uri import WebSocketURI

__all__ = [
    "NEXT_ADDRESS_AFTER",
    "AddressInfo",
    "LocalAddress",
    "RouteBase",
    "ask_by_address",
    "in_turn",
    "lookup_hint",
    "no_address",
    "not_found",
    "shown",
    "socks_is_missing",
    "text_of",
    "unreachable",
    "with_local",
]

#: Seconds after which the next address is tried beside those that have not answered ("happy eyeballs").
NEXT_ADDRESS_AFTER = 0.25

_FAMILIES = (socket_module.AF_UNSPEC, socket_module.AF_INET, socket_module.AF_INET6)

#: What ``getaddrinfo`` gives.
AddressInfo: TypeAlias = tuple[int, int, int, str, Any]

LocalAddress: TypeAlias = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RouteBase:
    """What ``connect`` was told about the way; see there. ``proxy`` True: as the environment says at that moment."""

    sock: Any
    unix_path: str | None
    family: int
    local_addr: LocalAddress | None
    proxy: Proxy | Literal[True] | None

    @classmethod
    def checked(
        cls,
        *,
        sock: Any,
        unix_path: str | os.PathLike[str] | None,
        family: int,
        local_addr: LocalAddress | None,
        proxy: str | Literal[True] | None,
    ) -> Self:
        """Check the arguments of ``connect`` that are about the way.

        Raises:
            InvalidProxy: the proxy is none.
            TypeError: a value of the wrong type.
            ValueError: a value that cannot be, or two that exclude each other.
        """
        if not (unix_path is None or isinstance(unix_path, (str, os.PathLike))):
            raise TypeError(f"unix_path must be a str or a path, not {unix_path!r}")
        path = None if unix_path is None else os.fspath(unix_path)
        chosen = proxy if proxy is None or proxy is True else parse_proxy(proxy)
        if family not in _FAMILIES:
            raise ValueError(f"family must be socket.AF_INET, AF_INET6 or AF_UNSPEC, not {family!r}")
        if local_addr is not None:
            _check_local_addr(local_addr)
        if path is not None and not hasattr(socket_module, "AF_UNIX"):
            raise ValueError("unix_path: this system has no Unix sockets")
        ways = {"sock": sock is not None, "unix_path": path is not None}
        for name in [name for name, given in ways.items() if given]:
            others = {
                **ways,
                "family": family != socket_module.AF_UNSPEC,
                "local_addr": local_addr is not None,
                "proxy": isinstance(chosen, Proxy),
            }
            for other, given in others.items():
                if given and other != name:
                    raise ValueError(
                        f"{name} and {other} exclude each other: {name} is the whole way to the server"
                    )
        return cls(sock, path, family, local_addr, chosen)

    @property
    def leads_to_one_server(self) -> bool:
        """Whether it does not depend on the URI."""
        return self.sock is not None or self.unix_path is not None

    def proxy_to(self, uri: WebSocketURI) -> Proxy | None:
        """Return the proxy that is to be used, if one is.

        Raises:
            InvalidProxy: what the environment has is none.
        """
        if self.proxy is not True:
            return self.proxy
        if self.leads_to_one_server or is_loopback(uri.host):
            return None
        # It takes a while to import, and brings most of the standard library's HTTP.
        from urllib.request import getproxies, proxy_bypass

        proxies = getproxies()
        if not proxies or proxy_bypass(f"{uri.host}:{uri.port}"):
            return None
        try:
            return proxy_for(uri, proxies)
        except InvalidProxy as exc:
            raise InvalidProxy(f"{exc}; proxy=None does without") from None

    def towards(self, uri: WebSocketURI, proxy: Proxy | None) -> str:
        """What a connection is made to first, in words."""
        if proxy is not None:
            return f"the proxy {proxy}"
        return self.unix_path or f"{uri.host} port {uri.port}"


def _check_local_addr(value: Any) -> None:
    match value:
        case (str() as host, int()) if host:
            return
    raise TypeError(f"local_addr must be a pair of host and port, not {value!r}")


# Addresses.


def in_turn(infos: Iterable[AddressInfo]) -> list[AddressInfo]:
    """The address families in turn, each in its order, so that a dead one costs one delay and no more."""
    families: dict[int, list[AddressInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    return [info for row in itertools.zip_longest(*families.values()) for info in row if info is not None]


def with_local(
    host: str, infos: Sequence[AddressInfo], local_addr: LocalAddress, local_infos: Sequence[AddressInfo]
) -> list[tuple[AddressInfo, Any]]:
    """Each address that can be connected to from ``local_addr``, with the address to do that from.

    Raises:
        OSError: there is none.
    """
    local = {info[0]: info[4] for info in reversed(local_infos)}
    found = [(info, local[info[0]]) for info in infos if info[0] in local]
    if not found:
        raise OSError(f"{host} has no address of the same family as local_addr {local_addr[0]}")
    return found


def no_address(host: str, errors: Sequence[OSError]) -> OSError:
    """What to raise when no address takes a connection."""
    if len(errors) == 1:
        return errors[0]
    # OSError picks the subclass that fits, such as ConnectionRefusedError.
    text = "; ".join(error.strerror or str(error) for error in errors)
    return OSError(errors[0].errno, f"no address of {host} takes a connection: {text}")


def not_found(exc: socket_module.gaierror, host: str, family: int) -> socket_module.gaierror:
    """What to raise when a name has no address: it says whose, and of which kind."""
    kinds: dict[int, str] = {socket_module.AF_INET: "IPv4 ", socket_module.AF_INET6: "IPv6 "}
    number, text = exc.args[0], exc.args[-1]
    return socket_module.gaierror(number, f"{text}, looking up the {kinds.get(family, '')}address of {host}")


def shown(address: Any) -> str:
    """An address in words."""
    return f"{address[0]} port {address[1]}" if isinstance(address, tuple) else str(address)


# Proxies.


def ask_by_address(proxy: Proxy) -> bool:
    """Whether a SOCKS proxy wants an address: socks4 and socks5 do, of the others the proxy looks up the name."""
    return proxy.scheme in ("socks4", "socks5")


def lookup_hint(proxy: Proxy) -> str:
    """What helps when that address cannot be found."""
    other = "socks4a" if proxy.scheme == "socks4" else "socks5h"
    return f"(with {other}:// the proxy looks it up)"


def socks_is_missing(proxy: Proxy) -> ImportError:
    """What to raise without python-socks."""
    return ImportError(
        f"the proxy {proxy} needs python-socks 3.0 or newer: install wsframe[proxy], which brings it; "
        "proxy=None does without a proxy"
    )


def unreachable(proxy: Proxy, text: str) -> ProxyFailure:
    """What to raise when there is no connection to the proxy."""
    return ProxyFailure(f"the proxy {proxy} cannot be reached: {text}")


def text_of(exc: Exception) -> str:
    """What an exception says. Its frames, which may hold on to it, let go of it."""
    exc.with_traceback(None)
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__
