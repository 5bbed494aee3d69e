"""``Route``: the way to a server: a socket that is there, a Unix socket, TCP, or TCP through a proxy."""

from __future__ import annotations

import asyncio
import socket as socket_module

from .._adapter._proxy import Proxy, ProxyFailure, Tunnel
from .._adapter_io._route import (
    RouteBase,
    ask_by_address,
    lookup_hint,
    socks_is_missing,
    text_of,
    unreachable,
)
from .._config import DAY, Limits
from .._uri import WebSocketURI
from ._dial import dial, dial_unix, look_up

__all__ = ["Route"]


class Route(RouteBase):
    """A way to a server that can be gone."""

    __slots__ = ()

    async def connected(
        self, uri: WebSocketURI, proxy: Proxy | None, user_agent: str | None, limits: Limits
    ) -> socket_module.socket:
        """Return a socket that is connected to the server.

        Raises:
            OSError: there is no way; where it is the proxy's fault, a `ProxyFailure`.
            ImportError: python-socks is needed and missing.
        """
        if self.sock is not None:
            sock: socket_module.socket = self.sock
            return sock
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
            text = text_of(exc)
        raise unreachable(proxy, text)

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
            raise socks_is_missing(proxy) from None
        host = await _host_for(proxy, uri)
        try:
            # It should have no deadline of its own, but has one if it is not told another.
            sock: socket_module.socket = await client.connect(host, uri.port, timeout=DAY)
        except ProxyFailure:
            raise
        except Exception as exc:
            # Also what its parsers make of nonsense.
            text = text_of(exc)
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
    """What a SOCKS proxy is asked for."""
    host = uri.host.partition("%")[0]
    if not ask_by_address(proxy):
        return host
    family = socket_module.AF_INET if proxy.scheme == "socks4" else socket_module.AF_UNSPEC
    try:
        infos = await look_up(host, uri.port, family)
    except socket_module.gaierror as exc:
        number, text = exc.args
    else:
        address: str = infos[0][4][0]
        return address
    raise socket_module.gaierror(number, f"{text} {lookup_hint(proxy)}")


async def _open_tunnel(sock: socket_module.socket, tunnel: Tunnel, proxy: Proxy) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_sendall(sock, tunnel.request)
        while not tunnel.receive(await loop.sock_recv(sock, 1 << 14)):
            pass
    except ProxyFailure:
        raise
    except OSError as exc:
        text = text_of(exc)
    else:
        return
    raise ProxyFailure(f"the connection to the proxy {proxy} was lost: {text}")
