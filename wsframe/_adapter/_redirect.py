"""Where a redirect leads, whether it is followed, and what is taken along (RFC 9110 s15.4)."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urljoin

from .._events import ResponseReceived
from .._http import Headers
from .._negotiate import HeaderItems
from .._uri import DEFAULT_PORTS, InvalidURI, WebSocketURI, parse_uri

__all__ = ["Redirects", "check_max_redirects"]

_STATUSES = frozenset((301, 302, 303, 307, 308))

#: Header lines that are for one origin only.
_CREDENTIALS = frozenset(("authorization", "cookie", "proxy-authorization"))

#: So much of a redirect's target is shown in messages.
_SHOWN = 200


def check_max_redirects(value: int) -> int:
    """Return it.

    Raises:
        TypeError: it is no int.
        ValueError: it is negative.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_redirects must be an int, not {value!r}")
    if value < 0:
        raise ValueError(f"max_redirects must not be negative, but is {value}")
    return value


class Redirects:
    """The way of one attempt to connect, from redirect to redirect.

    User information and the headers Authorization, Cookie and Proxy-Authorization stay behind when a redirect leads to
    another origin: another scheme, host or port. From ws to wss on the same host, with the default ports, is none.

    Args:
        uri: where to begin.
        headers: the caller's header lines.
        limit: how many redirects to follow.

    Attributes:
        uri: where to connect now.
        headers: what to send there.
        advice: why the last redirect was not followed.
    """

    __slots__ = ("_left", "_limit", "advice", "headers", "uri")

    def __init__(self, uri: WebSocketURI, headers: HeaderItems, limit: int) -> None:
        self.uri = uri
        self.headers = headers
        self.advice = ""
        self._limit = self._left = limit

    def follow(self, response: ResponseReceived | None) -> bool:
        """Whether to go on, to ``uri``, after the server has answered with something else than 101."""
        if response is None or response.status not in _STATUSES:
            return False
        locations = response.headers.get_all("Location")
        if not locations:
            return False
        try:
            target = _target(self.uri, locations)
        except InvalidURI as exc:
            self.advice = f"its Location cannot be followed: {exc}"
            return False
        if self.uri.secure and not target.secure:
            self.advice = f"it leads from wss to ws, to {_shown(target)}, which is not followed"
        elif not self._limit:
            self.advice = f"it is at {_shown(target)} now: connect there, or follow it with max_redirects=1"
        elif not self._left:
            self.advice = (
                f"it leads to {_shown(target)}, but max_redirects={self._limit} were followed already"
            )
        else:
            self._left -= 1
            if _same_origin(self.uri, target):
                if target.username is None:
                    target = replace(target, username=self.uri.username, password=self.uri.password)
            else:
                lines = Headers(self.headers)
                self.headers = [line for line in lines if line[0].lower() not in _CREDENTIALS]
            self.uri = target
            return True
        return False


def _target(uri: WebSocketURI, locations: list[str]) -> WebSocketURI:
    """The absolute URI (RFC 9110 s10.2.2).

    Raises:
        InvalidURI: there is none.
    """
    if len(locations) > 1:
        raise InvalidURI("there are several")
    # Not every release of the standard library joins ws URIs.
    base = f"{uri.origin}{uri.target}"
    try:
        absolute = urljoin(base, locations[0])
    except ValueError:
        raise InvalidURI("it is no URI") from None
    scheme, colon, rest = absolute.partition(":")
    # RFC 6455 has no redirects of its own: servers name what they know, which is the HTTP side of it.
    scheme = {"http": "ws", "https": "wss"}.get(scheme.lower(), scheme)
    # RFC 9110 s10.2.2: it may have a fragment, which a WebSocket URI may not (RFC 6455 s3).
    target = parse_uri(f"{scheme}{colon}{rest.partition('#')[0]}")
    # What is behind the % never goes over the wire, so the server could not repeat it.
    return replace(target, host=uri.host) if target.host == uri.host.partition("%")[0] else target


def _same_origin(here: WebSocketURI, there: WebSocketURI) -> bool:
    if here.host != there.host:
        return False
    if here.secure == there.secure:
        return here.port == there.port
    return (here.port, there.port) == (DEFAULT_PORTS["ws"], DEFAULT_PORTS["wss"])


def _shown(uri: WebSocketURI) -> str:
    text = str(uri)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
