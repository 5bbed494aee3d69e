"""``TrustedProxies``: whose request it is that a proxy passes on, as that says in X-Forwarded-For or Forwarded.

Everybody can write such headers. So only what a trusted proxy has written counts: the headers are read from their end,
where the nearest proxy has added who came to it, and no farther than to the first address that is not trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .._errors import HandshakeError
from .._http import Headers, Request
from .._negotiate import is_host
from ._peers import IpAddress, PeerSet, ip_address

__all__ = ["TrustedProxies", "proxies_for"]

#: So many proxies are looked at.
_MAX_HOPS = 32
#: So many commas may stand in the quoted strings of one element of Forwarded.
_MAX_QUOTED_COMMAS = 4

_X_FORWARDED = ("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
_KINDS = (None, "x-forwarded", "forwarded")

_SCHEMES = {"http": "http", "ws": "http", "https": "https", "wss": "https"}

#: An address with a port, of either kind. What has no port is tried as it is.
_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?")

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_PAIR = rf"{_NAME}=(?:{_NAME}|{_QUOTED})"
#: One element of Forwarded: pairs of names and values. There is one way to match it, so that failing takes no longer.
_ELEMENT = re.compile(rf"(?:{_PAIR})?(?:;[ \t]*(?:{_PAIR})?)*")
_PAIRS = re.compile(rf"({_NAME})=({_NAME}|{_QUOTED})")


@dataclass(frozen=True, slots=True)
class _Hop:
    """What one proxy says of who came to it."""

    node: str | None
    scheme: str | None = None
    host: str | None = None


class TrustedProxies:
    """Proxies that are believed.

    Args:
        proxies: their addresses and networks; ``"unix"`` for all that come over a unix socket.
        headers: which headers they write: "x-forwarded" (X-Forwarded-For, -Proto and -Host), "forwarded", or None for
            either. Then a request with both kinds is refused, because one of them may be the client's own.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    __slots__ = ("_headers", "_peers")

    def __init__(self, proxies: Iterable[str], *, headers: str | None = None) -> None:
        self._peers = PeerSet(proxies)
        if headers not in _KINDS:
            raise ValueError(f"headers must be 'x-forwarded', 'forwarded' or None, not {headers!r}")
        self._headers = headers

    def apply(self, request: Request) -> Request:
        """Return a request as it was before proxies passed it on: its remote address, scheme and Host.

        Args:
            request: with the ``remote_address`` and ``scheme`` with which it came. It is returned as it is if it does
                not come from a trusted proxy.

        Raises:
            HandshakeError: there are both kinds of headers, and either might be the proxy's.
        """
        if request.remote_address not in self._peers:
            return request
        hops = self._hops(request.headers)
        address, scheme, host = request.remote_address, request.scheme or "http", None
        for hop in hops:
            # Each is written by one who is trusted; the last of them knows the client.
            scheme, host = hop.scheme or scheme, hop.host or host
            found = None if hop.node is None else _parse_node(hop.node)
            if found is None:
                # Who came to that proxy is not known, and so nobody knows who wrote what stands before it.
                break
            ip, port = found
            address = (str(ip), port) if ip.version == 4 else (str(ip), port, 0, 0)
            if not self._peers.has_ip(ip):
                break
        if host is not None and [host] != request.headers.get_all("Host"):
            lines = [line for line in request.headers if line[0].lower() != "host"]
            headers = Headers([("Host", host), *lines])
            request = Request(request.method, request.target, headers, request.version, request.body)
        request.came_from(address, scheme)
        return request

    def _hops(self, headers: Headers) -> list[_Hop]:
        """From the nearest proxy outwards."""
        old = any(name in headers for name in _X_FORWARDED)
        new = "Forwarded" in headers
        if self._headers is None and old and new:
            raise HandshakeError(
                "there are both Forwarded and X-Forwarded headers: say in the setting 'trusted_proxies' which of them"
                " the proxies write",
                400,
            )
        if new and self._headers != "x-forwarded":
            return _forwarded_hops(headers["Forwarded"])
        return _x_forwarded_hops(headers) if old and self._headers != "forwarded" else []


def proxies_for(trusted: TrustedProxies | Iterable[str]) -> TrustedProxies | None:
    """Return what the argument of ``serve`` means; None where nobody is trusted.

    Raises:
        TypeError, ValueError: see `TrustedProxies`.
    """
    if isinstance(trusted, TrustedProxies):
        return trusted
    proxies = trusted if isinstance(trusted, str) else tuple(trusted)
    return TrustedProxies(proxies) if proxies else None


def _x_forwarded_hops(headers: Headers) -> list[_Hop]:
    nodes, schemes, hosts = (_last_elements(headers.get(name, "")) for name in _X_FORWARDED)
    hops = []
    for position in range(max(1, len(nodes))):
        node = nodes[position] if nodes else None
        # Where there are fewer of these, not every proxy has added one.
        scheme, host = (values[position] if position < len(values) else "" for values in (schemes, hosts))
        hops.append(_Hop(node, _SCHEMES.get(scheme.lower()), host if host and is_host(host) else None))
    return hops


def _last_elements(value: str) -> list[str]:
    """The elements of a list, the last one first."""
    elements = value.rsplit(",", _MAX_HOPS)[::-1] if value else []
    return [element.strip(" \t") for element in elements[:_MAX_HOPS]]


def _forwarded_hops(value: str) -> list[_Hop]:
    hops: list[_Hop] = []
    rest: str | None = value
    while rest is not None and len(hops) < _MAX_HOPS:
        rest, element = _last_element(rest)
        if element is None:
            # What was added to it before is not known.
            break
        pairs = {name.lower(): _unquoted(text) for name, text in reversed(_PAIRS.findall(element))}
        host = pairs.get("host", "")
        hops.append(
            _Hop(
                pairs.get("for"),
                _SCHEMES.get(pairs.get("proto", "").lower()),
                host if host and is_host(host) else None,
            )
        )
    return hops


def _last_element(value: str) -> tuple[str | None, str | None]:
    """What stands before the last element, if anything does, and that element; None if it is none.

    What a client has written stands at the left, and a quotation mark in it must not swallow what a proxy has added.
    """
    end = len(value)
    for _ in range(_MAX_QUOTED_COMMAS + 1):
        comma = value.rfind(",", 0, end)
        element = value[comma + 1 :].strip(" \t")
        if _ELEMENT.fullmatch(element):
            return (None if comma < 0 else value[:comma]), element
        if comma < 0:
            break
        end = comma
    return None, None


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _parse_node(text: str) -> tuple[IpAddress, int] | None:
    """The address and port in it, or None: it may also be a made-up name, or "unknown"."""
    found = _WITH_PORT.fullmatch(text)
    if found is None:
        ip = ip_address(text)
        return None if ip is None or "%" in text else (ip, 0)
    ip = ip_address(found[1] or found[2])
    port = int(found[3] or 0)
    return None if ip is None or port > 65535 else (ip, port)
