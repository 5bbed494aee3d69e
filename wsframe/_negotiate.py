"""The opening handshake on header lists (RFC 6455 s4, RFC 8441 s5): no bytes, no connection to drive.

A host that has parsed an HTTP request itself calls `negotiate` and gets a `Handshake` to accept or a `Rejection`
to send. The client's half, building the request and judging the response, stands here too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ._config import Limits, Timeouts
from ._connection import Connection
from ._enums import Role
from ._errors import HandshakeError, LocalProtocolError
from ._extension import (
    ExtensionFactory,
    PerMessageExtension,
    check_extensions,
    negotiate_extensions,
    offer_extensions,
)
from ._http import Headers, Request, Response
from ._uri import WebSocketURI

__all__ = [
    "ANY_ORIGIN",
    "SAME_HOST",
    "Handshake",
    "Origins",
    "Rejection",
    "SubprotocolChoice",
    "accept_value",
    "build_request",
    "check_response",
    "negotiate",
    "plain_request_rejection",
]

HeaderItems: TypeAlias = Headers | Mapping[str, str] | Iterable[tuple[str, str]]
Origins: TypeAlias = str | Sequence[str | re.Pattern[str]]
SubprotocolChoice: TypeAlias = Sequence[str] | Callable[[Request, tuple[str, ...]], str | None]

#: Origins rule: an Origin header, when there is one, must name the host that the request is for.
SAME_HOST: Final = "same-host"
#: Origins rule: every origin may connect.
ANY_ORIGIN: Final = "any"

# s1.3
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

#: What the handshake writes itself and nobody may write beside it.
_OWN_REQUEST_HEADERS = frozenset(
    (
        "host upgrade connection sec-websocket-key sec-websocket-version sec-websocket-protocol"
        " sec-websocket-extensions sec-websocket-accept content-length transfer-encoding origin"
    ).split()
)
_OWN_RESPONSE_HEADERS = _OWN_REQUEST_HEADERS - {"host", "origin"}


class _Unset:
    def __repr__(self) -> str:
        return "<as negotiated>"


AS_NEGOTIATED: Final = _Unset()


@dataclass(frozen=True, slots=True)
class Rejection:
    """An opening handshake that must not be accepted.

    Attributes:
        status: HTTP status to answer with.
        headers: header lines to answer with, without Content-Length.
        body: text for people that says what was wrong.
        error: the same as an exception, for ``Disconnected.error``.
    """

    status: int
    headers: Headers
    body: str
    error: HandshakeError

    @property
    def response(self) -> Response:
        """The whole HTTP response."""
        return Response(self.status, headers=self.headers, body=self.body.encode())


@dataclass(frozen=True, slots=True)
class Handshake:
    """An opening handshake that is in order and waits for ``accept``.

    Attributes:
        request: the request.
        key: the client's Sec-WebSocket-Key; None on HTTP/2 and HTTP/3 (RFC 8441 s5).
        offered: the subprotocols that the client offered, in its order.
        subprotocol: the chosen one, or None.
        extensions: the agreed extensions.
        extension_header: the value of the response's Sec-WebSocket-Extensions, or None.
    """

    request: Request
    key: str | None
    offered: tuple[str, ...]
    subprotocol: str | None
    extensions: tuple[PerMessageExtension, ...]
    extension_header: str | None

    def accept(
        self,
        *,
        subprotocol: str | _Unset | None = AS_NEGOTIATED,
        headers: HeaderItems = (),
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        stream: bool = False,
        decode_text: bool = True,
        random_bytes: Callable[[int], bytes] = os.urandom,
        trailing_data: bytes = b"",
    ) -> tuple[int, Headers, Connection]:
        """Agree (RFC 6455 s4.2.2).

        Args:
            subprotocol: overrides the chosen one; must have been offered, or be None.
            headers: further response header lines.
            limits, timeouts, stream, decode_text, random_bytes, trailing_data: see ``Connection``.

        Returns:
            status and headers of the response to send, and the open connection.

        Raises:
            LocalProtocolError: the subprotocol was not offered, or a header line is not allowed here.
        """
        chosen = self.subprotocol if isinstance(subprotocol, _Unset) else subprotocol
        if chosen is not None and chosen not in self.offered:
            # s4.2.2: the value MUST be one of those that the client sent.
            raise LocalProtocolError(
                f"subprotocol {chosen!r} was not offered; the client offered {', '.join(self.offered) or 'none'}"
            )
        lines: list[tuple[str, str]] = []
        if self.key is not None:
            lines += [
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Accept", accept_value(self.key)),
            ]
        if chosen is not None:
            lines.append(("Sec-WebSocket-Protocol", chosen))
        if self.extension_header is not None:
            lines.append(("Sec-WebSocket-Extensions", self.extension_header))
        all_headers = Headers(lines) + _foreign(headers, _OWN_RESPONSE_HEADERS)
        connection = Connection(
            Role.SERVER,
            subprotocol=chosen,
            extensions=self.extensions,
            limits=limits,
            timeouts=timeouts,
            stream=stream,
            decode_text=decode_text,
            random_bytes=random_bytes,
            trailing_data=trailing_data,
        )
        return (200 if self.key is None else 101), all_headers, connection


def accept_value(key: str) -> str:
    """The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (s4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()).decode()


# The server's half.


def negotiate(
    request: Request,
    *,
    origins: Origins,
    subprotocols: SubprotocolChoice = (),
    require_subprotocol: bool = False,
    extensions: Sequence[ExtensionFactory] = (),
    protocol: str | None = None,
) -> Handshake | Rejection:
    """Judge an opening handshake (s4.2.1) and choose subprotocol and extensions.

    Args:
        request: the request.
        origins: `SAME_HOST`, `ANY_ORIGIN`, or the allowed origins as strings and compiled patterns, which must match
            as a whole. A request without an Origin header does not come from a browser and is allowed.
        subprotocols: supported ones, the preferred first; or ``f(request, offered)`` that returns one of the offered,
            or None.
        require_subprotocol: refuse a client with which no subprotocol is agreed.
        extensions: supported extensions.
        protocol: the ``:protocol`` pseudo-header of an extended CONNECT (RFC 8441 s4); there is no key and no
            Upgrade then.

    Raises:
        LocalProtocolError: the callable chose a subprotocol that was not offered.
    """
    try:
        key = None
        if protocol is None:
            key = _check_upgrade(request)
        else:
            _check_extended_connect(request, protocol)
        _check_version(request)
        _check_origin(request, origins)
        offered = _offered_subprotocols(request)
        chosen = _choose_subprotocol(request, offered, subprotocols)
        if chosen is None and require_subprotocol:
            supported = "" if callable(subprotocols) else f"; supported: {', '.join(subprotocols)}"
            raise HandshakeError(
                f"no common subprotocol: the client offered {', '.join(offered) or 'none'}{supported}", 400
            )
        agreed, header = negotiate_extensions(request.headers.get_all("Sec-WebSocket-Extensions"), extensions)
    except HandshakeError as exc:
        return _rejection(exc)
    return Handshake(request, key, offered, chosen, tuple(agreed), header)


def plain_request_rejection(request: Request) -> Rejection:
    """The answer to an HTTP request that is no WebSocket handshake, when nobody gives another (426)."""
    return _rejection(HandshakeError("this is a WebSocket server: the request has no Upgrade: websocket", 426))


def wants_websocket(request: Request) -> bool:
    """Whether the request asks for a WebSocket, rightly or wrongly."""
    return "websocket" in request.headers.tokens("Upgrade")


def _rejection(error: HandshakeError) -> Rejection:
    status = error.status or 400
    lines = [("Content-Type", "text/plain; charset=utf-8")]
    if status == 405:
        lines.append(("Allow", "GET"))
    if status == 426:
        # RFC 9110 s15.5.22 wants Upgrade, RFC 6455 s4.4 the version.
        lines += [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    lines.append(("Connection", "close, upgrade" if status == 426 else "close"))
    return Rejection(status, Headers(lines), f"{error}\n", error)


def _only(headers: Headers, name: str) -> str:
    values = headers.get_all(name)
    if len(values) != 1:
        found = "none" if not values else f"{len(values)} of them"
        raise HandshakeError(f"exactly one {name} header is needed, not {found}", 400)
    return values[0]


def _check_upgrade(request: Request) -> str:
    headers = request.headers
    # s4.2.1 item 1: an HTTP/1.1 or higher GET request.
    if request.method != "GET":
        raise HandshakeError(f"a WebSocket handshake is a GET request, not {request.method}", 405)
    if request.version < (1, 1):
        raise HandshakeError("a WebSocket handshake needs HTTP/1.1", 400)
    if request.body:
        raise HandshakeError("a WebSocket handshake has no body", 400)
    _only(headers, "Host")
    # Items 3 and 4.
    if not wants_websocket(request):
        raise plain_request_rejection(request).error
    if "upgrade" not in headers.tokens("Connection"):
        raise HandshakeError("the Connection header does not contain 'Upgrade'", 400)
    # Item 5: base64 of 16 bytes.
    key = _only(headers, "Sec-WebSocket-Key")
    try:
        decoded = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        raise HandshakeError("the Sec-WebSocket-Key is not base64", 400) from None
    if len(decoded) != 16 or len(key) != 24:
        raise HandshakeError(f"the Sec-WebSocket-Key has {len(decoded)} bytes, not 16", 400)
    return key


def _check_extended_connect(request: Request, protocol: str) -> None:
    # RFC 8441 s5: the request is a CONNECT with :protocol websocket, without Upgrade and key.
    if request.method != "CONNECT":
        raise HandshakeError(f"a WebSocket handshake on HTTP/2 is a CONNECT request, not {request.method}", 400)
    if protocol != "websocket":
        raise HandshakeError(f":protocol is {protocol!r}, not 'websocket'", 501)


def _check_version(request: Request) -> None:
    # Item 6 and s4.4.
    versions = request.headers.get_all("Sec-WebSocket-Version")
    if [value.strip() for value in versions] != ["13"]:
        shown = ", ".join(versions) or "missing"
        raise HandshakeError(f"the Sec-WebSocket-Version must be 13, but is {shown}", 426)


def _check_origin(request: Request, origins: Origins) -> None:
    """s4.2.1 item 7, s10.2."""
    values = request.headers.get_all("Origin")
    if not values or origins == ANY_ORIGIN:
        return
    origin = _only(request.headers, "Origin")
    if isinstance(origins, str):
        if origins != SAME_HOST:
            raise ValueError(f"origins must be SAME_HOST, ANY_ORIGIN or a sequence of origins, not {origins!r}")
        host = request.headers.get("Host") or ""
        named = _authority(origin.partition("://")[2])
        if named is None or named != _authority(host):
            raise HandshakeError(
                f"origin {origin!r} is not the host {host!r} that the request is for; allow it with the setting"
                " 'origins'. Behind a proxy: it may have rewritten the Host header",
                403,
            )
        return
    for allowed in origins:
        if origin == allowed if isinstance(allowed, str) else allowed.fullmatch(origin):
            return
    raise HandshakeError(f"origin {origin!r} is not among those that the setting 'origins' allows", 403)


def _authority(text: str) -> str | None:
    """host[:port] for comparing: lower case, and without a default port. None for nothing at all."""
    text = text.lower()
    for default in (":80", ":443"):
        text = text.removesuffix(default)
    return text or None


def _offered_subprotocols(request: Request) -> tuple[str, ...]:
    offered: list[str] = []
    for value in request.headers.get_all("Sec-WebSocket-Protocol"):
        for item in value.split(","):
            name = item.strip(" \t")
            if not name:
                continue
            # s4.1 item 10: tokens, all different.
            if not _TOKEN.fullmatch(name):
                raise HandshakeError(f"subprotocol {name[:40]!r} is not a token", 400)
            if name in offered:
                raise HandshakeError(f"subprotocol {name[:40]!r} is offered twice", 400)
            offered.append(name)
            if len(offered) > 256:
                raise HandshakeError("over 256 subprotocols are offered", 400)
    return tuple(offered)


def _choose_subprotocol(
    request: Request, offered: tuple[str, ...], subprotocols: SubprotocolChoice
) -> str | None:
    if callable(subprotocols):
        chosen = subprotocols(request, offered)
        if chosen is not None and chosen not in offered:
            raise LocalProtocolError(f"the callable chose subprotocol {chosen!r}, which was not offered: {offered}")
        return chosen
    # In the server's order of preference.
    return next((name for name in subprotocols if name in offered), None)


# The client's half.


def check_subprotocols(subprotocols: Sequence[str]) -> tuple[str, ...]:
    """Check a list of subprotocols that will be offered (s4.1 item 10).

    Raises:
        LocalProtocolError: one is no token, or stands there twice; or the list is a single ``str``.
    """
    if isinstance(subprotocols, str):
        raise LocalProtocolError(f"subprotocols is a sequence of names; for one, write [{subprotocols!r}]")
    for name in subprotocols:
        if not _TOKEN.fullmatch(name):
            raise LocalProtocolError(f"subprotocol {name!r} is not a token (RFC 6455 s4.1)")
    if len(set(subprotocols)) != len(subprotocols):
        raise LocalProtocolError(f"a subprotocol is offered twice: {', '.join(subprotocols)}")
    return tuple(subprotocols)


def build_request(
    uri: WebSocketURI,
    key: str,
    *,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    extensions: Sequence[ExtensionFactory] = (),
    headers: HeaderItems = (),
    user_agent: str | None = None,
) -> Request:
    """The request of an opening handshake (s4.1).

    Raises:
        LocalProtocolError: a value cannot stand in a header, or ``headers`` has a line that the handshake writes.
    """
    lines = [
        ("Host", uri.host_header),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if origin is not None:
        lines.append(("Origin", origin))
    if subprotocols:
        lines.append(("Sec-WebSocket-Protocol", ", ".join(check_subprotocols(subprotocols))))
    offer = offer_extensions(extensions)
    if offer is not None:
        lines.append(("Sec-WebSocket-Extensions", offer))
    foreign = _foreign(headers, _OWN_REQUEST_HEADERS)
    if user_agent is not None and "User-Agent" not in foreign:
        lines.append(("User-Agent", user_agent))
    if uri.username is not None and "Authorization" not in foreign:
        # RFC 7617: the credentials of the URI.
        credentials = base64.b64encode(f"{uri.username}:{uri.password or ''}".encode()).decode()
        lines.append(("Authorization", f"Basic {credentials}"))
    return Request("GET", uri.target, Headers(lines) + foreign)


def check_response(
    response: Response, key: str, *, subprotocols: Sequence[str], extensions: Sequence[ExtensionFactory]
) -> tuple[str | None, list[PerMessageExtension]]:
    """Judge a 101 response (s4.1, the server's response) and return subprotocol and extensions.

    Raises:
        HandshakeError: what was wrong.
    """
    headers = response.headers
    status = response.status
    if response.version < (1, 1):
        raise HandshakeError("the server answered 101 with HTTP/1.0", status)
    if headers.tokens("Upgrade") != ["websocket"]:
        shown = ", ".join(headers.get_all("Upgrade")) or "missing"
        raise HandshakeError(f"the response's Upgrade header must be 'websocket', but is {shown}", status)
    if "upgrade" not in headers.tokens("Connection"):
        raise HandshakeError("the response's Connection header does not contain 'Upgrade'", status)
    accepts = headers.get_all("Sec-WebSocket-Accept")
    if accepts != [accept_value(key)]:
        shown = ", ".join(accepts) or "missing"
        raise HandshakeError(f"the Sec-WebSocket-Accept does not belong to our key: {shown[:60]}", status)
    chosen = headers.get_all("Sec-WebSocket-Protocol")
    if len(chosen) > 1:
        raise HandshakeError(f"the server chose {len(chosen)} subprotocols", status)
    subprotocol = chosen[0] if chosen else None
    if subprotocol is not None and subprotocol not in subprotocols:
        offered = ", ".join(subprotocols) or "none"
        raise HandshakeError(f"the server chose subprotocol {subprotocol[:40]!r}; offered: {offered}", status)
    return subprotocol, check_extensions(headers.get_all("Sec-WebSocket-Extensions"), extensions)


def _foreign(headers: HeaderItems, own: frozenset[str]) -> Headers:
    """Header lines that a caller adds."""
    extra = Headers(headers)
    for name, _ in extra:
        if name.lower() in own:
            raise LocalProtocolError(f"the header {name} is written by the opening handshake itself")
    return extra
