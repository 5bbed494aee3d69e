"""Which proxy leads to a server, and what is said to an HTTP proxy. The environment is read by whoever asks."""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .._config import Limits
from .._errors import WsframeError
from .._http import Request
from .._http11 import HttpError, ResponseReader, encode_request
from .._uri import BAD_PERCENT, BLANK, InvalidURI, WebSocketURI, parse_authority

__all__ = ["InvalidProxy", "Proxy", "ProxyFailure", "Tunnel", "is_loopback", "parse_proxy", "proxy_for"]

#: Scheme -> the port that is meant when there is none.
_PORTS = {"http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

#: Whether the URI is wss -> whose proxies are taken for it, the best first. That is the order of RFC 6455 s4.1: one for
#: WebSocket, then SOCKS, then that of HTTPS, which is used to tunnels, then that of HTTP.
_PREFERRED = {
    True: ("wss", "socks", "https", "all"),
    False: ("ws", "socks", "https", "http", "all"),
}

_URL = re.compile(r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?(?P<authority>[^/?#]*)/?")

#: RFC 1929 s2: the lengths are one byte each.
_MAX_SOCKS_CREDENTIAL = 255


class InvalidProxy(WsframeError, ValueError):
    """What was given as a proxy, or stands in the environment as one, is none. The message is a sentence that says why.

    It never quotes the user information, because messages end up in logs.
    """


class ProxyFailure(OSError):
    """The proxy cannot be reached or does not do what it was asked to: what ``Disconnected.error`` is then.

    Attributes:
        status: what an HTTP proxy answered, or None.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[ProxyFailure], tuple[str, int | None]]:
        return type(self), (str(self), self.status)


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy. ``str()`` is fit for messages: it has no user information, and says who named the proxy.

    Args:
        scheme: http, socks4, socks4a, socks5 or socks5h.
        host: as in `WebSocketURI`.
        port: 1-65535.
        username: decoded; None when there is none.
        password: decoded; None when there is none.
        variable: of the environment, in lower case; None for an argument.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    variable: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        named = f" (from {self.variable} in the environment)" if self.variable else ""
        return f"{self.scheme}://{host}:{self.port}{named}"


def parse_proxy(url: str, variable: str | None = None) -> Proxy:
    """Take the URL of a proxy apart.

    Args:
        url: ``http://``, ``socks5://``, ``socks5h://``, ``socks4://`` or ``socks4a://``, with user information or
            without. From the environment it may lack the scheme, as it often does.
        variable: the variable of the environment that it comes from.

    Raises:
        InvalidProxy: it is none of these; the message says why.
        TypeError: it is not a ``str``.
    """
    if not isinstance(url, str):
        raise TypeError(f"proxy must be a URL, True or None, not {url!r}")
    what = f"{variable} in the environment" if variable else "proxy"
    parts = _URL.fullmatch(url)
    if parts is None or BLANK.search(url) or BAD_PERCENT.search(url):
        raise InvalidProxy(f"{what} must be like http://USER:PASSWORD@HOST:PORT, with nothing behind it")
    scheme = (parts["scheme"] or "").lower()
    if variable == "socks_proxy" and scheme in ("", "http"):
        # What an operating system's settings have there.
        scheme = "socks5h"
    elif variable and not scheme:
        scheme = "http"
    if scheme == "https":
        raise InvalidProxy(
            f"{what} is an https:// one, which is not supported; http:// ones lead to wss:// servers too"
        )
    if scheme not in _PORTS:
        raise InvalidProxy(f"{what} must begin with one of {', '.join(f'{name}://' for name in _PORTS)}")
    try:
        username, password, host, port = parse_authority(parts["authority"])
    except InvalidURI as exc:
        raise InvalidProxy(f"{what}: {exc}") from None
    _check_credentials(what, scheme, username, password)
    return Proxy(scheme, host, port or _PORTS[scheme], username, password, variable)


def _check_credentials(what: str, scheme: str, username: str | None, password: str | None) -> None:
    if username is None or scheme == "http":
        return
    words = [username] if password is None else [username, password]
    if not all(word.isascii() and 1 <= len(word) <= _MAX_SOCKS_CREDENTIAL for word in words):
        raise InvalidProxy(f"{what}: SOCKS takes user names and passwords of 1 to 255 ASCII characters")
    if scheme.startswith("socks4") and password is not None:
        raise InvalidProxy(f"{what}: SOCKS4 has user names, but no passwords")
    if scheme.startswith("socks5") and password is None:
        raise InvalidProxy(f"{what}: SOCKS5 wants a password with the user name")


def proxy_for(uri: WebSocketURI, proxies: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a server, or None.

    Args:
        uri: of the server.
        proxies: scheme -> URL of a proxy, as ``urllib.request.getproxies`` gives them.

    Raises:
        InvalidProxy: that is not the URL of a proxy.
    """
    for name in _PREFERRED[uri.secure]:
        if proxies.get(name):
            return parse_proxy(proxies[name], f"{name}_proxy")
    return None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, which a proxy elsewhere cannot reach: it would take itself for it."""
    # RFC 6761 s6.3: localhost, and what ends in it.
    if host.rstrip(".").rpartition(".")[2] == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


class Tunnel:
    """A conversation with an HTTP proxy: asks it for a connection to a server (RFC 9110 s9.3.6).

    Args:
        proxy: whom.
        uri: of the server.
        user_agent: as for the server.
        limits: bounds for the answer.

    Attributes:
        request: the bytes to send.
    """

    __slots__ = ("_proxy", "_reader", "request")

    def __init__(self, proxy: Proxy, uri: WebSocketURI, user_agent: str | None, limits: Limits) -> None:
        host = uri.host.partition("%")[0]
        target = f"[{host}]:{uri.port}" if ":" in host else f"{host}:{uri.port}"
        headers = [("Host", target)]
        if user_agent is not None:
            headers.append(("User-Agent", user_agent))
        if proxy.username is not None:
            credentials = base64.b64encode(f"{proxy.username}:{proxy.password or ''}".encode()).decode()
            headers.append(("Proxy-Authorization", f"Basic {credentials}"))
        self.request = encode_request(Request("CONNECT", target, headers))
        self._proxy = proxy
        self._reader = ResponseReader(limits, request_method="CONNECT")

    def receive(self, data: bytes) -> bool:
        """Take bytes of the answer, b"" at the end of the stream; return whether the way is open.

        Raises:
            ProxyFailure: it is not, and will not be.
        """
        reader, proxy = self._reader, self._proxy
        response, problem = None, ""
        if data:
            reader.feed(data)
        try:
            # RFC 9110 s15.2: "A client MUST be able to parse one or more 1xx responses".
            response = reader.next() if data else reader.feed_eof()
            while response is not None and response.status < 200:
                response = reader.next()
        except HttpError as exc:
            # The reader keeps it, and its traceback would keep the reader.
            exc.with_traceback(None)
            problem = str(exc)
        if problem:
            raise ProxyFailure(f"the proxy {proxy} gave an invalid answer: {problem}")
        # How it refuses stands in the head, and only that is of interest.
        response = response or reader.partial()
        if response is None:
            if data:
                return False
            raise ProxyFailure(f"the proxy {proxy} closed the connection without an answer")
        if not 200 <= response.status <= 299:
            raise ProxyFailure(_refusal(proxy, response.status, response.reason), response.status)
        if reader.leftover:
            # In TLS and in WebSocket the client speaks first.
            raise ProxyFailure(f"the proxy {proxy} sent something before the server was asked")
        return True


def _refusal(proxy: Proxy, status: int, reason: str) -> str:
    text = f"the proxy {proxy} answered {status} {reason[:80]}".rstrip()
    if status == 407 and proxy.username is None:
        text += ": it wants a user name and a password, http://USER:PASSWORD@HOST:PORT"
    elif status == 407:
        text += ": it does not take this user name and password"
    return text
