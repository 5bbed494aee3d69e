"""WebSocket URIs (RFC 6455 s3; the grammar is RFC 3986)."""

from __future__ import annotations

import ipaddress
import re
import urllib.parse
from dataclasses import dataclass, field
from typing import NoReturn

from ._errors import WsframeError

__all__ = ["InvalidURI", "WebSocketURI", "parse_authority", "parse_uri"]

DEFAULT_PORTS = {"ws": 80, "wss": 443}

# RFC 3986 s3.1: scheme = ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
# RFC 3986 s3.2: the authority ends at the first "/", "?" or "#".
PARTS = re.compile(r"(?P<authority>[^/?]*)(?P<path>[^?]*)(?:\?(?P<query>.*))?", re.DOTALL)
#: Spaces and control characters, those beyond ASCII included.
BLANK = re.compile(r"[\x00-\x20\x7f-\x9f\s]")
BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
# RFC 3986 s3.2.1: userinfo = *( unreserved / pct-encoded / sub-delims / ":" ); beyond ASCII it is an IRI (RFC 3987).
NOT_USERINFO = re.compile(r"[^A-Za-z0-9\-._~%!$&'()*+,;=:\u00a0-\U0010ffff]")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
#: Of a registered name (RFC 3986 s3.2.2) only what a host can be called, with the underscore that private names have.
HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
MAX_HOST = 253
# RFC 6874 s2: ZoneID = 1*( unreserved / pct-encoded ); we take those that need no encoding.
ZONE = re.compile(r"[A-Za-z0-9\-._~]+")
PORT = re.compile(r"[0-9]{1,5}")
# RFC 3986 s3.3, s3.4: pchar, "/" and "?" stay. "[" and "]" do not belong to them, but every server takes them in a
# query and some compare them literally, so they are left alone too.
TARGET_SAFE = "/?%:@!$&'()*+,;=-._~[]"


class InvalidURI(WsframeError, ValueError):
    """What was given is not a WebSocket URI (RFC 6455 s3). The message is a sentence that says why.

    It never quotes the user information, because messages end up in logs.
    """


@dataclass(frozen=True, slots=True)
class WebSocketURI:
    """The parts of a WebSocket URI (RFC 6455 s3), normalised.

    ``str()`` gives the URI without user information, fit for logs; ``repr()`` hides the password.

    Args:
        secure: True for wss.
        host: ASCII and lower case: IDNA-encoded, or an IP address without brackets (IPv6 may carry ``%zone``).
        port: 1-65535.
        target: path and query as they go into the request line ("/resource name/"): at least ``"/"``.
        username: decoded; None when the URI has no user information.
        password: decoded; None when the URI has none.
    """

    secure: bool
    host: str
    port: int
    target: str = "/"
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def host_header(self) -> str:
        """The value of the Host header: the host, with the port unless it is the default (RFC 6455 s4.1)."""
        # RFC 6874 s4: a zone means something on this machine only and MUST be removed from what is sent.
        host = self.host.partition("%")[0]
        if ":" in host:
            host = f"[{host}]"
        return host if self.port == DEFAULT_PORTS[self._scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The origin of a web page served from the same host and port (RFC 6454 s6.2), with http or https."""
        return f"{'https' if self.secure else 'http'}://{self.host_header}"

    @property
    def _scheme(self) -> str:
        return "wss" if self.secure else "ws"

    def __str__(self) -> str:
        host = self.host_header
        address, percent, zone = self.host.partition("%")
        if percent:
            host = host.replace(address, f"{address}%25{zone}", 1)
        return f"{self._scheme}://{host}{self.target}"


def parse_uri(uri: str) -> WebSocketURI:
    """Take a WebSocket URI apart (RFC 6455 s3).

    Non-ASCII characters in path and query, and ASCII ones that a URI cannot have (``"<>\\^`{|}``), are percent-encoded
    as UTF-8; what is percent-encoded already stays as it is. Hosts beyond ASCII are IDNA-encoded (RFC 3490, as in the
    standard library).

    Args:
        uri: ``ws://`` or ``wss://``, in any case.

    Raises:
        InvalidURI: it is not a WebSocket URI; the message says why.
        TypeError: it is not a ``str``.
    """
    if not isinstance(uri, str):
        raise TypeError(f"a URI must be a str, not {type(uri).__name__}")
    found = BLANK.search(uri)
    if found is not None:
        raise InvalidURI(
            f"a URI cannot contain {found[0]!r} (position {found.start()}); percent-encode it if it is meant"
        )
    scheme, rest = _split_scheme(uri)
    # RFC 6455 s3: "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used".
    if "#" in rest:
        raise InvalidURI("a WebSocket URI has no fragment; write %23 if a # is meant")
    found = BAD_PERCENT.search(rest)
    if found is not None:
        # RFC 3986 s2.4: "%" must be percent-encoded as "%25" to be used as data.
        raise InvalidURI("a % must be followed by two hexadecimal digits; write %25 if a % is meant")
    parts = PARTS.fullmatch(rest)
    assert parts is not None
    username, password, host, port = parse_authority(parts["authority"])
    # RFC 6455 s3: "/" if the path is empty; "?" if the query is non-empty.
    target = parts["path"] or "/"
    if parts["query"]:
        target = f"{target}?{parts['query']}"
    return WebSocketURI(
        secure=scheme == "wss",
        host=host,
        port=DEFAULT_PORTS[scheme] if port is None else port,
        target=_quote(target),
        username=username,
        password=password,
    )


def parse_authority(authority: str) -> tuple[str | None, str | None, str, int | None]:
    """Take ``user:password@host:port`` apart (RFC 3986 s3.2): user name, password, host and port, as in `WebSocketURI`.

    Raises:
        InvalidURI: it is none; the message says why.
    """
    userinfo, at, hostport = authority.rpartition("@")
    username, password = _parse_userinfo(userinfo) if at else (None, None)
    host, port = _parse_hostport(hostport)
    return username, password, host, port


def _split_scheme(uri: str) -> tuple[str, str]:
    """Return ``("ws" or "wss", what follows "//")``."""
    found = SCHEME.match(uri)
    if found is None:
        raise InvalidURI("the URI has no scheme; it must begin with ws:// or wss://")
    # RFC 3986 s3.1: schemes are case-insensitive.
    scheme = found[1].lower()
    slashes = uri.startswith("//", found.end())
    if scheme not in DEFAULT_PORTS:
        # Without the slashes it may be a user name.
        shown = f"{scheme[:32]}:// is not a WebSocket URI" if slashes else "this is not a WebSocket URI"
        raise InvalidURI(f"{shown}; use ws:// or wss://")
    if not slashes:
        raise InvalidURI(f"{scheme}: must be followed by // and a host")
    return scheme, uri[found.end() + 2 :]


def _parse_userinfo(userinfo: str) -> tuple[str, str | None]:
    found = NOT_USERINFO.search(userinfo)
    if found is not None:
        raise InvalidURI(f"{found[0]!r} in the user information must be percent-encoded")
    name, colon, word = userinfo.partition(":")
    try:
        username = urllib.parse.unquote(name, errors="strict")
        password = urllib.parse.unquote(word, errors="strict") if colon else None
    except UnicodeDecodeError:
        raise InvalidURI("the user information is not percent-encoded UTF-8") from None
    # RFC 7617 s2: "The user-id and password MUST NOT contain any control characters", and a user-id no colon.
    if CONTROL.search(username) or (password and CONTROL.search(password)):
        raise InvalidURI("the user information must not contain control characters")
    if ":" in username:
        raise InvalidURI("the user name must not contain a colon")
    return username, password


def _parse_hostport(hostport: str) -> tuple[str, int | None]:
    if hostport.startswith("["):
        inner, bracket, tail = hostport[1:].partition("]")
        if not bracket:
            raise InvalidURI("the IPv6 address has no closing bracket")
        if tail and not tail.startswith(":"):
            raise InvalidURI("only a port may follow the closing bracket of an IPv6 address")
        return _parse_ipv6(inner), _parse_port(tail[1:])
    host, _, port = hostport.partition(":")
    if ":" in port:
        raise InvalidURI("there is more than one colon in host and port; an IPv6 address needs brackets")
    return _parse_name(host), _parse_port(port)


def _parse_port(text: str) -> int | None:
    # RFC 3986 s6.2.3: a ":" with nothing after it is the default port.
    if not text:
        return None
    if not PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        # Not quoted: after an unencoded "/" in a password, it is the password.
        raise InvalidURI("the port must be a number from 1 to 65535")
    return int(text)


def _parse_ipv6(text: str) -> str:
    address, percent, zone = text.partition("%25")
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        parsed = None
    if parsed is None or parsed.scope_id or (percent and not ZONE.fullmatch(zone)):
        raise InvalidURI(f"[{text[:80]}] is not an IPv6 address")
    # RFC 5952 s5: mixed notation for these. The standard library does so from Python 3.13 on.
    host = f"::ffff:{parsed.ipv4_mapped}" if parsed.ipv4_mapped else parsed.compressed
    return f"{host}%{zone}" if percent else host


def _parse_name(text: str) -> str:
    if not text:
        raise InvalidURI("the URI has no host")

    def refuse() -> NoReturn:
        raise InvalidURI(f"{text[:80]!r} is not a valid host") from None

    # The limit stands before the codec: what it does is not linear in all versions of Python.
    if len(text) > MAX_HOST:
        refuse()
    name = text
    if not text.isascii():
        try:
            name = text.encode("idna").decode("ascii")
        except UnicodeError:
            refuse()
    # Looked at after the encoding, which can turn one character into ASCII punctuation, a slash among it.
    if not HOST.fullmatch(name) or len(name) > MAX_HOST:
        refuse()
    return name.lower()


def _quote(target: str) -> str:
    try:
        return urllib.parse.quote(target, safe=TARGET_SAFE)
    except UnicodeEncodeError:
        raise InvalidURI("the URI contains a lone surrogate, which UTF-8 cannot carry") from None
