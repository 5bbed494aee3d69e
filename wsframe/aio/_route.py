"""``Route``: the way to a server: a socket that is there, a Unix socket, TCP, or TCP through a proxy."""

from __future__ import annotations

import asyncio
import os
import socket as socket_module
from dataclasses import dataclass
from typing import Any, Literal

from .._adapter._proxy import (
    InvalidProxy,
    Proxy,
    ProxyFailure,
    Tunnel,
    is_loopback,
    parse_proxy,
    proxy_for,
)
from .._config import DAY, Limits
from .._uri import WebSocketURI
from ._dial import LocalAddress, dial, dial_unix, look_up

__all__ = ["Route", "route_for"]

_FAMILIES = (socket_module.AF_UNSPEC, socket_module.AF_INET, socket_module.AF_INET6)


@dataclass(frozen=True, slots=True)
class Route:
    """What ``connect`` was told about the way; see there. ``proxy`` True: as the environment says at that moment."""

    sock: socket_module.socket | None
    unix_path: str | None
    family: int
    local_addr: LocalAddress | None
    proxy: Proxy | Literal[True] | None

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

    async def connected(
        self, uri: WebSocketURI, proxy: Proxy | None, user_agent: str | None, limits: Limits
    ) -> socket_module.socket:
        """Return a socket that is connected to the server.

        Raises:
            OSError: there is no way; where it is the proxy's fault, a `ProxyFailure`.
            ImportError: python-socks is needed and missing.
        """
        if self.sock is not None:
            return self.sock
        if self.unix_path is not None:
            return await dial_unix(self.unix_path)
        if proxy is None:
            return await self._dial(uri.host, uri.port)
        if proxy.scheme != "http":
            return await self._through_socks(uri, proxy)
        sock = await self.dial_proxy(proxy)
        try:
            await _open_tunnel(sock, Tunnel(proxy, uri, user_agent, limits), proxy)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _dial(self, host: str, port: int) -> socket_module.socket:
        return await dial(host, port, family=self.family, local_addr=self.local_addr)

    async def dial_proxy(self, proxy: Proxy) -> socket_module.socket:
        """Return a socket that is connected to the proxy.

        Raises:
            ProxyFailure: it cannot be reached.
        """
        try:
            return await self._dial(proxy.host, proxy.port)
        except OSError as exc:
            text = _text_of(exc)
        raise ProxyFailure(f"the proxy {proxy} cannot be reached: {text}")

    async def _through_socks(self, uri: WebSocketURI, proxy: Proxy) -> socket_module.socket:
        try:
            from python_socks import ProxyType
            from python_socks.async_.asyncio import Proxy as SocksProxy

            client = SocksProxy(
                ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else ProxyType.SOCKS5,
                proxy.host,
                proxy.port,
                proxy.username or "",
                proxy.password or "",
                rdns=True,
                forward=_Dialer(self, proxy),
            )
        except (ImportError, TypeError):
            # Before 3.0 it had no such argument.
            raise ImportError(
                f"the proxy {proxy} needs python-socks 3.0 or newer: install wsframe[proxy], which brings it; "
                "proxy=None does without a proxy"
            ) from None
        host = await _host_for(proxy, uri)
        try:
            # It should have no deadline of its own, but has one if it is not told another.
            sock: socket_module.socket = await client.connect(host, uri.port, timeout=DAY)
        except ProxyFailure:
            raise
        except Exception as exc:
            # Also what its parsers make of nonsense.
            text = _text_of(exc)
        else:
            return sock
        raise ProxyFailure(f"the proxy {proxy} did not connect us: {text}")


class _Dialer:
    """For python-socks another proxy, by which it reaches the one that it is to speak to."""

    def __init__(self, route: Route, proxy: Proxy) -> None:
        self._route = route
        self._proxy = proxy

    async def connect(self, **_: object) -> socket_module.socket:
        return await self._route.dial_proxy(self._proxy)


async def _host_for(proxy: Proxy, uri: WebSocketURI) -> str:
    """What a SOCKS proxy is asked for: socks4 and socks5 want an address, of the others the proxy looks up the name."""
    host = uri.host.partition("%")[0]
    if proxy.scheme not in ("socks4", "socks5"):
        return host
    family = socket_module.AF_INET if proxy.scheme == "socks4" else socket_module.AF_UNSPEC
    try:
        infos = await look_up(host, uri.port, family)
    except socket_module.gaierror as exc:
        number, text = exc.args
    else:
        address: str = infos[0][4][0]
        return address
    other = "socks4a" if proxy.scheme == "socks4" else "socks5h"
    raise socket_module.gaierror(number, f"{text} (with {other}:// the proxy looks it up)")


def _text_of(exc: Exception) -> str:
    """What it says. Its frames, which may hold on to it, let go of it."""
    exc.with_traceback(None)
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc) or type(exc).__name__


async def _open_tunnel(sock: socket_module.socket, tunnel: Tunnel, proxy: Proxy) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, tunnel.request)
        while not tunnel.receive(await loop.sock_recv(sock, 1 << 14)):
            pass
    except ProxyFailure:
        raise
    except OSError as exc:
        text = _text_of(exc)
    else:
        return
    raise ProxyFailure(f"the connection to the proxy {proxy} was lost: {text}")


def route_for(
    *,
    sock: socket_module.socket | None,
    unix_path: str | os.PathLike[str] | None,
    family: int,
    local_addr: LocalAddress | None,
    proxy: str | Literal[True] | None,
) -> Route:
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
    return Route(sock, path, family, local_addr, chosen)


def _check_local_addr(value: Any) -> None:
    match value:
        case (str() as host, int()) if host:
            return
    raise TypeError(f"local_addr must be a pair of host and port, not {value!r}")
