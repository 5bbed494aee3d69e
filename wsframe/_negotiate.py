"""The opening handshake on header lists (RFC 6455 s4, RFC 8441 s5): no bytes, no connection to drive.

A host that has parsed an HTTP request itself calls `negotiate` and gets a `Handshake` to accept or a `Rejection`
to send. The client's half stands with `Client`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ._config import Limits, Timeouts
from ._connection import Connection
from ._enums import Role
from ._errors import HandshakeError, LocalProtocolError
from ._extension import ExtensionFactory, PerMessageExtension, negotiate_extensions
from ._http import Headers, HeadersLike, Request, Response

__all__ = [
    "ANY_ORIGIN",
    "SAME_HOST",
    "Handshake",
    "HeaderItems",
    "Origins",
    "Rejection",
    "SubprotocolChoice",
    "accept_value",
    "negotiate",
]

HeaderItems: TypeAlias = HeadersLike
Origins: TypeAlias = str | Collection[str | re.Pattern[str]]
SubprotocolChoice: TypeAlias = Sequence[str] | Callable[[Request, tuple[str, ...]], str | None]

#: Origins rule: an Origin header, when there is one, must name the host that the request is for.
SAME_HOST: Final = "same-host"
#: Origins rule: every origin may connect.
ANY_ORIGIN: Final = "any"

# s1.3
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 s7.2: Host = uri-host [ ":" port ]
_HOST = re.compile(r"(?:\[[0-9A-Za-z:.%_~-]+\]|[0-9A-Za-z\-._~%!$&'()*+,;=]*)(?::[0-9]*)?")
# RFC 6454 s7.1: serialized-origin = scheme "://" host [ ":" port ]; and "null".
_ORIGIN = re.compile(r"null|[A-Za-z][A-Za-z0-9+.-]*://[^/?#@\s]*")
_DEFAULT_PORTS = {"http": ":80", "ws": ":80", "https": ":443", "wss": ":443"}

#: The most subprotocols that a client may offer.
_MAX_SUBPROTOCOLS = 256

#: What the handshake writes itself and nobody may write beside it.
OWN_REQUEST_HEADERS = frozenset(
    (
        "host upgrade connection sec-websocket-key sec-websocket-version sec-websocket-protocol"
        " sec-websocket-extensions sec-websocket-accept content-length transfer-encoding origin"
    ).split()
)
OWN_RESPONSE_HEADERS = OWN_REQUEST_HEADERS - {"host", "origin"}


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
                f"subprotocol {chosen!r} was not offered; the client offered {shown(self.offered, 'none')}"
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
        all_headers = Headers(lines) + foreign_headers(headers, OWN_RESPONSE_HEADERS)
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
        request: the request. From HTTP/2 or HTTP/3, with the ``:authority`` as its Host header.
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
        LocalProtocolError, TypeError, ValueError: a setting is wrong (see `check_settings`).
    """
    check_settings(origins, subprotocols, extensions)
    try:
        key = None
        if protocol is None:
            key = _check_upgrade(request)
            _check_version(request, 426)
        else:
            _check_extended_connect(request, protocol)
            # In HTTP/2 there is no Upgrade field, which a 426 must have.
            _check_version(request, 400)
        _check_origin(request, origins)
        offered = _offered_subprotocols(request)
        chosen = _choose_subprotocol(request, offered, subprotocols)
        if chosen is None and require_subprotocol:
            supported = "" if callable(subprotocols) else f"; supported: {', '.join(subprotocols)}"
            raise HandshakeError(
                f"no common subprotocol: the client offered {shown(offered, 'none')}{supported}", 400
            )
        agreed, header = negotiate_extensions(request.headers.get_all("Sec-WebSocket-Extensions"), extensions)
    except HandshakeError as exc:
        return _rejection(exc, request, extended_connect=protocol is not None)
    return Handshake(request, key, offered, chosen, tuple(agreed), header)


def check_settings(
    origins: Origins, subprotocols: SubprotocolChoice, extensions: Sequence[ExtensionFactory]
) -> None:
    """Check what a server is configured with, so that a mistake shows before the first request.

    Raises:
        LocalProtocolError: a subprotocol is no token, or stands there twice; or a single ``str`` was given.
        TypeError: the origins are no collection of ``str`` and patterns of ``str``.
        ValueError: an origin can never match, or two extensions have one name.
    """
    if not callable(subprotocols):
        check_subprotocols(subprotocols)
    if len({factory.name for factory in extensions}) != len(extensions):
        raise ValueError(f"two extension settings have one name: {[factory.name for factory in extensions]}")
    if origins in (SAME_HOST, ANY_ORIGIN):
        return
    if isinstance(origins, str):
        raise ValueError(f"origins must be SAME_HOST, ANY_ORIGIN or a list of origins, not {origins!r}")
    if not isinstance(origins, Collection):
        raise TypeError(f"origins must be SAME_HOST, ANY_ORIGIN or a list of origins, not {origins!r}")
    for allowed in origins:
        if isinstance(allowed, str):
            if not _ORIGIN.fullmatch(allowed):
                hint = "; for every origin there is ANY_ORIGIN" if allowed == "*" else ""
                raise ValueError(
                    f"an origin is 'scheme://host[:port]', without a path, not {allowed!r}{hint}"
                )
        elif not isinstance(getattr(allowed, "pattern", None), str):
            raise TypeError(f"an allowed origin is a str or a compiled pattern of str, not {allowed!r}")


def plain_request_rejection(request: Request) -> Rejection:
    """The answer to an HTTP request that is no WebSocket handshake, when nobody gives another (426)."""
    error = HandshakeError("this is a WebSocket server: the request has no Upgrade: websocket", 426)
    return _rejection(error, request)


def wants_websocket(request: Request) -> bool:
    """Whether the request asks for a WebSocket, rightly or wrongly."""
    return "websocket" in request.headers.tokens("Upgrade")


def check_host(request: Request) -> None:
    """Check the Host header as every HTTP/1.1 server has to.

    Raises:
        HandshakeError: with the status to answer.
    """
    # RFC 9112 s3.2: a server MUST respond with 400 to any HTTP/1.1 request that lacks a Host field, and to any
    # request with more than one, or with an invalid value.
    hosts = request.headers.get_all("Host")
    if len(hosts) > 1 or (not hosts and request.version >= (1, 1)):
        raise HandshakeError(f"exactly one Host header is needed, not {len(hosts) or 'none'}", 400)
    if hosts and not is_host(hosts[0]):
        raise HandshakeError(f"the Host header is not 'host[:port]': {shown(hosts)}", 400)


def is_host(text: str) -> bool:
    """Whether it is what a Host header may be: a host and perhaps a port, or nothing."""
    return _HOST.fullmatch(text) is not None


def _rejection(error: HandshakeError, request: Request, *, extended_connect: bool = False) -> Rejection:
    status = error.status or 400
    lines = [("Content-Type", "text/plain; charset=utf-8")]
    if status == 405:
        # RFC 9110 s15.5.6: the origin server MUST generate an Allow header field in a 405.
        lines.append(("Allow", "GET"))
    if status == 426 or (extended_connect and not _is_version_13(request)):
        # RFC 6455 s4.4: the server MUST respond with the version(s) that it is capable of understanding.
        lines.append(("Sec-WebSocket-Version", "13"))
    if status == 426:
        # RFC 9110 s15.5.22: the server MUST send an Upgrade header field in a 426; s7.8: and the connection option.
        lines += [("Upgrade", "websocket"), ("Connection", "close, upgrade")]
    elif not extended_connect:
        # RFC 9113 s8.2.2: in HTTP/2 connection-specific fields MUST NOT be generated.
        lines.append(("Connection", "close"))
    return Rejection(status, Headers(lines), f"{error}\n", error)


def shown(values: Sequence[str], nothing: str = "missing") -> str:
    """What a peer sent, for a message: quoted, and no longer than what a person reads."""
    text = ", ".join(values)
    return repr(text if len(text) <= 80 else f"{text[:80]}...") if values else nothing


def _only(headers: Headers, name: str) -> str:
    values = headers.get_all(name)
    if len(values) != 1:
        raise HandshakeError(f"exactly one {name} header is needed, not {len(values) or 'none'}", 400)
    return values[0]


def _check_upgrade(request: Request) -> str:
    headers = request.headers
    # s4.2.1 item 1: an HTTP/1.1 or higher GET request.
    if request.method != "GET":
        raise HandshakeError(f"a WebSocket handshake is a GET request, not {shown([request.method])}", 405)
    if request.version < (1, 1):
        raise HandshakeError("a WebSocket handshake needs HTTP/1.1", 400)
    if request.body:
        raise HandshakeError("a WebSocket handshake has no body", 400)
    # Item 2: a Host header with the server's authority.
    check_host(request)
    if not headers["Host"]:
        raise HandshakeError("the Host header is empty", 400)
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
    if len(decoded) != 16:
        raise HandshakeError(f"the Sec-WebSocket-Key has {len(decoded)} bytes, not 16", 400)
    return key


def _check_extended_connect(request: Request, protocol: str) -> None:
    # RFC 8441 s5: the request is a CONNECT with :protocol websocket, without Upgrade and key.
    if request.method != "CONNECT":
        raise HandshakeError(
            f"a WebSocket handshake on HTTP/2 is a CONNECT request, not {shown([request.method])}", 400
        )
    if protocol != "websocket":
        raise HandshakeError(f":protocol is {shown([protocol])}, not 'websocket'", 501)


def _is_version_13(request: Request) -> bool:
    return request.headers.get_all("Sec-WebSocket-Version") == ["13"]


def _check_version(request: Request, status: int) -> None:
    # s4.2.1 item 6 and s4.4.
    if not _is_version_13(request):
        found = shown(request.headers.get_all("Sec-WebSocket-Version"))
        raise HandshakeError(f"the Sec-WebSocket-Version must be 13, but is {found}", status)


def _check_origin(request: Request, origins: Origins) -> None:
    """s4.2.1 item 7, s10.2."""
    if origins == ANY_ORIGIN or "Origin" not in request.headers:
        return
    origin = _only(request.headers, "Origin")
    if origins == SAME_HOST:
        host = _host(request)
        named = _authority(origin.partition("://")[2])
        if not named or named != _authority(host):
            raise HandshakeError(
                f"origin {shown([origin])} is not the host {shown([host])} that the request is for; allow it with"
                " the setting 'origins'. Behind a proxy: it may have rewritten the Host header",
                403,
            )
    elif not any(_is_allowed(origin, allowed) for allowed in origins):
        raise HandshakeError(
            f"origin {shown([origin])} is not among those that the setting 'origins' allows", 403
        )


def origin_rejection(request: Request, origins: Origins) -> Rejection | None:
    """What a request is refused with whose Origin header does not follow a rule; None if it does."""
    try:
        _check_origin(request, origins)
    except HandshakeError as exc:
        return _rejection(exc, request)
    return None


def _host(request: Request) -> str:
    """host[:port] that the request is for."""
    scheme, separator, rest = request.target.partition("://")
    if separator and scheme.isalpha():
        # RFC 9112 s3.2.2: with an absolute-form target a server MUST ignore the Host field and use that of the target.
        return re.split("[/?]", rest, maxsplit=1)[0]
    return request.headers.get("Host", "")


def _authority(text: str) -> str:
    """host[:port] for comparing: lower case, and without a default port."""
    return re.sub(r":(?:80|443)?\Z", "", text.lower())


def _is_allowed(origin: str, allowed: str | re.Pattern[str]) -> bool:
    if isinstance(allowed, str):
        return _without_default_port(origin) == _without_default_port(allowed)
    return allowed.fullmatch(origin) is not None


def _without_default_port(origin: str) -> str:
    # RFC 6454 s4: scheme and host in lower case; s6.2: the default port is not written.
    origin = origin.lower()
    return origin.removesuffix(_DEFAULT_PORTS.get(origin.partition("://")[0], "\n"))


def _offered_subprotocols(request: Request) -> tuple[str, ...]:
    offered: list[str] = []
    for value in request.headers.get_all("Sec-WebSocket-Protocol"):
        for item in value.split(","):
            name = item.strip(" \t")
            if not name:
                continue
            # s4.1 item 10: tokens, all different.
            if not _TOKEN.fullmatch(name):
                raise HandshakeError(f"subprotocol {shown([name])} is not a token", 400)
            if name in offered:
                raise HandshakeError(f"subprotocol {shown([name])} is offered twice", 400)
            offered.append(name)
            if len(offered) > _MAX_SUBPROTOCOLS:
                raise HandshakeError(f"over {_MAX_SUBPROTOCOLS} subprotocols are offered", 400)
    return tuple(offered)


def _choose_subprotocol(
    request: Request, offered: tuple[str, ...], subprotocols: SubprotocolChoice
) -> str | None:
    if callable(subprotocols):
        chosen = subprotocols(request, offered)
        if chosen is not None and chosen not in offered:
            raise LocalProtocolError(
                f"the callable chose subprotocol {chosen!r}; the client offered {shown(offered, 'none')}"
            )
        return chosen
    # In the server's order of preference.
    return next((name for name in subprotocols if name in offered), None)


# Of both halves.


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


def foreign_headers(headers: HeaderItems, own: frozenset[str]) -> Headers:
    """Header lines that a caller adds.

    Raises:
        LocalProtocolError: one of them is not the caller's to write, or cannot be written.
    """
    extra = Headers(headers)
    for name, _ in extra:
        if name.lower() in own:
            raise LocalProtocolError(f"the header {name} is written by the opening handshake itself")
    return extra
