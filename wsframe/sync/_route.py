"""``Route``: the way to a server: a socket that is there, a Unix socket, TCP, or TCP through a proxy."""

from __future__ import annotations

import socket as socket_module
from time import monotonic

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
from ._dial import TimedSocket, dial, dial_unix, look_up

__all__ = ["Route"]


class Route(RouteBase):
    """A way to a server that can be gone. Deadlines are on the clock of ``monotonic``."""

    __slots__ = ()

    def connected(
        self, uri: WebSocketURI, proxy: Proxy | None, user_agent: str | None, limits: Limits, deadline: float
    ) -> socket_module.socket:
        """Return a socket that is connected to the server.

        Raises:
            TimeoutError: it is too late.
            OSError: there is no way; where it is the proxy's fault, a `ProxyFailure`.
            ImportError: python-socks is needed and missing.
        """
        if self.sock is not None:
            sock: socket_module.socket = self.sock
            return sock
        if self.unix_path is not None:
            return dial_unix(self.unix_path, deadline)
        if proxy is None:
            return self._dial(uri.host, uri.port, deadline)
        if proxy.scheme != "http":
            return self._through_socks(uri, proxy, deadline)
        timed = self.dial_proxy(proxy, deadline)
        try:
            _open_tunnel(timed, Tunnel(proxy, uri, user_agent, limits), proxy, deadline)
        except BaseException:
            timed.close()
            raise
        return timed.sock

    def _dial(self, host: str, port: int, deadline: float) -> socket_module.socket:
        return dial(host, port, deadline, family=self.family, local_addr=self.local_addr)

    def dial_proxy(self, proxy: Proxy, deadline: float) -> TimedSocket:
        """Return a connection to the proxy.

        Raises:
            TimeoutError: it is too late.
            ProxyFailure: it cannot be reached.
        """
        try:
            return TimedSocket(self._dial(proxy.host, proxy.port, deadline), deadline)
        except OSError as exc:
            if _is_late(exc, deadline):
                raise
            text = text_of(exc)
        raise unreachable(proxy, text)

    def _through_socks(self, uri: WebSocketURI, proxy: Proxy, deadline: float) -> socket_module.socket:
        dialer = _Dialer(self, proxy, deadline)
        try:
            from python_socks import ProxyType
            from python_socks.sync import Proxy as SocksProxy

            client = SocksProxy(
                ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else ProxyType.SOCKS5,
                proxy.host,
                proxy.port,
                proxy.username or "",
                proxy.password or "",
                rdns=True,
                forward=dialer,
            )
        except (ImportError, TypeError):
            # Before 3.0 it had no such argument.
            raise socks_is_missing(proxy) from None
        host = _host_for(proxy, uri)
        try:
            # It should have no deadline of its own, but has one if it is not told another. The dialer keeps ours.
            client.connect(host, uri.port, timeout=DAY)
        except ProxyFailure:
            raise
        except Exception as exc:
            dialer.close()
            if monotonic() >= deadline:
                raise TimeoutError("the open timeout is over") from None
            # Also what its parsers make of nonsense.
            text = text_of(exc)
        except BaseException:
            dialer.close()
            raise
        else:
            assert dialer.timed is not None
            return dialer.timed.sock
        raise ProxyFailure(f"the proxy {proxy} did not connect us: {text}")


class _Dialer:
    """For python-socks another proxy, by which it reaches the one that it is to speak to.

    Attributes:
        timed: the connection to that one, once it is made.
    """

    def __init__(self, route: Route, proxy: Proxy, deadline: float) -> None:
        self._route = route
        self._proxy = proxy
        self._deadline = deadline
        self.timed: TimedSocket | None = None

    def connect(self, **_: object) -> TimedSocket:
        self.timed = self._route.dial_proxy(self._proxy, self._deadline)
        return self.timed

    def close(self) -> None:
        """It is of no use."""
        if self.timed is not None:
            self.timed.close()


def _is_late(exc: OSError, deadline: float) -> bool:
    """Whether it is our deadline that is over. (The system has timeouts of its own.)"""
    return isinstance(exc, TimeoutError) and monotonic() >= deadline


def _host_for(proxy: Proxy, uri: WebSocketURI) -> str:
    """What a SOCKS proxy is asked for."""
    host = uri.host.partition("%")[0]
    if not ask_by_address(proxy):
        return host
    family = socket_module.AF_INET if proxy.scheme == "socks4" else socket_module.AF_UNSPEC
    try:
        infos = look_up(host, uri.port, family)
    except socket_module.gaierror as exc:
        number, text = exc.args
    else:
        address: str = infos[0][4][0]
        return address
    raise socket_module.gaierror(number, f"{text} {lookup_hint(proxy)}")


def _open_tunnel(timed: TimedSocket, tunnel: Tunnel, proxy: Proxy, deadline: float) -> None:
    try:
        timed.sendall(tunnel.request)
        while not tunnel.receive(timed.recv(1 << 14)):
            pass
    except ProxyFailure:
        raise
    except OSError as exc:
        if _is_late(exc, deadline):
            raise
        text = text_of(exc)
    else:
        return
    raise ProxyFailure(f"the connection to the proxy {proxy} was lost: {text}")
