"""HTTP messages as values: `Headers`, `Request`, `Response` (RFC 9110).

Nothing here knows how a message looks on the wire (that is `_http11`), but nothing can be put into one of these
values that would change its meaning there: a CR, LF or NUL never gets past a constructor.
"""

from __future__ import annotations

import functools
import http
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, overload

from ._errors import LocalProtocolError

__all__ = ["REASONS", "Headers", "HeadersLike", "Request", "Response"]

T = TypeVar("T")

#: What a `Headers` can be made of.
HeadersLike: TypeAlias = "Headers | Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]"

#: Status code to reason phrase (RFC 9110 s15). The library's table changes with the Python version, these do not.
REASONS: Mapping[int, str] = {
    **{status.value: status.phrase for status in http.HTTPStatus},
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    418: "(Unused)",
    422: "Unprocessable Content",
}

# RFC 9110 s5.6.2: token = 1*tchar
NOT_TOKEN = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")
# RFC 9110 s5.5: field-vchar = VCHAR / obs-text, and SP and HTAB between them.
NOT_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 9112 s3.2: no whitespace is allowed in the request-target (nor anything else that a URI cannot have).
NOT_TARGET = re.compile(rb"[^\x21-\x7e]")


class Headers:
    """An ordered, case-insensitive multi-map of header fields (RFC 9110 s5). Immutable and hashable.

    The raw bytes are kept as they came. The ``str`` side of it is Latin-1, which maps every byte to one character
    and back, so nothing is lost in either direction. Whitespace around a value is not part of it (RFC 9110 s5.5)
    and is removed.

    Two are equal when they have the same lines in the same order; names are compared without regard to case.
    Iterating gives the lines as ``(name, value)`` pairs of ``str``; ``len()`` counts lines.

    Args:
        items: another `Headers`, a mapping of names to values, or pairs of names and values, each ``str`` or
            ``bytes``.

    Raises:
        LocalProtocolError: a name that is not a token (RFC 9110 s5.6.2), or a value with a CR, LF, NUL, another
            control character but HTAB, or a character that Latin-1 does not have. It names the header and the
            position.
        TypeError: something that is not a pair, or a name or value that is neither ``str`` nor ``bytes``.
    """

    __slots__ = ("_lines",)

    # LF, name, ":", value, for each line: neither can have an LF, nor the name a colon. A server keeps one of these for
    # every connection, so it is one object, of a tenth of the size that a dict of lists would have.
    _lines: bytes

    def __init__(self, items: HeadersLike = ()) -> None:
        if isinstance(items, Headers):
            self._lines = items._lines
            return
        pairs = items.items() if isinstance(items, Mapping) else items
        self._fill(_checked_pair(pair) for pair in pairs)

    @classmethod
    def _trusted(cls, raw: Iterable[tuple[bytes, bytes]]) -> Headers:
        """Lines whose grammar has just been checked: what the HTTP/1.1 readers use."""
        self = cls.__new__(cls)
        self._fill(raw)
        return self

    def _fill(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        self._lines = b"".join([b"\n%b:%b" % pair for pair in raw])

    def _find(self, name: str) -> list[str]:
        """The values of all lines with that name, in order."""
        begin = _line_begin(name)
        lines = self._lines
        lowered = lines.lower()
        values: list[str] = []
        at = lowered.find(begin)
        while at >= 0:
            at += len(begin)
            end = lines.find(b"\n", at)
            values.append((lines[at:] if end < 0 else lines[at:end]).decode("latin-1"))
            at = lowered.find(begin, at)
        return values

    @property
    def raw(self) -> tuple[tuple[bytes, bytes], ...]:
        """The lines as bytes, in order, names in the case they came in."""
        return tuple((name, value) for name, _, value in self._split())

    def _split(self) -> list[tuple[bytes, bytes, bytes]]:
        return [line.partition(b":") for line in self._lines.split(b"\n")[1:]]

    def __getitem__(self, name: str) -> str:
        """The value of a field; the values of several lines joined by ``", "``.

        That is what several lines mean (RFC 9110 s5.3), with one exception, Set-Cookie: use `get_all` for it. A field
        that may stand only once but does so twice thus has a value that is not a valid one.

        Raises:
            KeyError: there is no such line.
        """
        values = self._find(name)
        if not values:
            raise KeyError(name.lower())
        return ", ".join(values)

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: T) -> str | T: ...
    def get(self, name: str, default: object = None) -> object:
        """Return the same as ``headers[name]``, or the default when there is no such line."""
        values = self._find(name)
        return ", ".join(values) if values else default

    def get_all(self, name: str) -> list[str]:
        """Return the values of all lines with that name, in order; empty when there is none."""
        return self._find(name)

    def tokens(self, name: str) -> list[str]:
        """Return the elements of a comma-separated list, over all lines with that name (RFC 9110 s5.6.1).

        They are lower-cased, without the whitespace around them; empty elements are dropped. For lists of tokens such
        as Connection and Upgrade; it knows nothing of quoted strings.
        """
        # RFC 9110 s5.6.1.2: a recipient MUST parse and ignore a reasonable number of empty list elements.
        elements = (
            element.strip(" \t").lower() for value in self._find(name) for element in value.split(",")
        )
        return [element for element in elements if element]

    def __add__(self, items: HeadersLike) -> Headers:
        """Return a longer one: these lines, then those. Raises what the constructor raises."""
        added = Headers.__new__(Headers)
        added._lines = self._lines + Headers(items)._lines
        return added

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self._find(name))

    def __iter__(self) -> Iterator[tuple[str, str]]:
        for name, _, value in self._split():
            yield name.decode("latin-1"), value.decode("latin-1")

    def __len__(self) -> int:
        return self._lines.count(b"\n")

    def _key(self) -> tuple[tuple[bytes, bytes], ...]:
        return tuple((name.lower(), value) for name, _, value in self._split())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Headers({list(self)!r})"


@dataclass(frozen=True, slots=True, init=False)
class Request:
    """An HTTP request (RFC 9112 s3).

    Args:
        method: a token; methods are case-sensitive (RFC 9110 s9.1).
        target: the request-target as it stands in the request line: visible ASCII, at least one character.
        headers: anything a `Headers` can be made of.
        version: major and minor number, each 0-9.
        body: the content, unframed.

    Attributes:
        remote_address: on a server, whose request it is: the peer's address as sockets give it, or what a trusted proxy
            says; else None.
        scheme: on a server, "http" or "https", in which way it came; else None.
        context: what the application has attached to the request, and so to its WebSocket; else None.

    These three are no part of what was sent, and do not count when two requests are compared. Adapters fill them in.

    Raises:
        LocalProtocolError: one of these values could not be sent as it is.
        TypeError: a value of the wrong type.
    """

    method: str
    target: str
    headers: Headers
    version: tuple[int, int]
    body: bytes
    remote_address: Any = field(init=False, compare=False, repr=False)
    scheme: str | None = field(init=False, compare=False, repr=False)
    context: Any = field(init=False, compare=False, repr=False)

    def __init__(
        self,
        method: str,
        target: str,
        headers: HeadersLike = (),
        version: tuple[int, int] = (1, 1),
        body: bytes = b"",
    ) -> None:
        _check_text(NOT_TOKEN, method, "method")
        _check_text(NOT_TARGET, target, "request target")
        if not method or not target:
            raise LocalProtocolError(f"the {'request target' if method else 'method'} is empty")
        object.__setattr__(self, "method", method)
        object.__setattr__(self, "target", target)
        object.__setattr__(self, "headers", Headers(headers))
        object.__setattr__(self, "version", _checked_version(version))
        object.__setattr__(self, "body", _checked_body(body))
        object.__setattr__(self, "remote_address", None)
        object.__setattr__(self, "scheme", None)
        object.__setattr__(self, "context", None)

    def came_from(self, remote_address: Any, scheme: str) -> None:
        """Fill in where it came from: for whoever has taken it from the peer."""
        object.__setattr__(self, "remote_address", remote_address)
        object.__setattr__(self, "scheme", scheme)

    def attach(self, context: Any) -> None:
        """Fill in the context."""
        object.__setattr__(self, "context", context)


@dataclass(frozen=True, slots=True, init=False)
class Response:
    """An HTTP response (RFC 9112 s4).

    Args:
        status: 100-599 (RFC 9110 s15).
        reason: the reason phrase, Latin-1 without control characters; None takes the standard one from `REASONS`, or
            none at all when the status has no name.
        headers: anything a `Headers` can be made of.
        body: the content, unframed. A ``str`` is encoded as UTF-8, and the header ``Content-Type: text/plain;
            charset=utf-8`` is added unless there is another.
        version: major and minor number, each 0-9.

    Raises:
        LocalProtocolError: one of these values could not be sent as it is.
        TypeError: a value of the wrong type.
    """

    status: int
    reason: str
    headers: Headers
    body: bytes
    version: tuple[int, int]

    def __init__(
        self,
        status: int,
        reason: str | None = None,
        headers: HeadersLike = (),
        body: str | bytes = b"",
        version: tuple[int, int] = (1, 1),
    ) -> None:
        if isinstance(status, bool) or not isinstance(status, int):
            raise TypeError(f"the status must be an int, not {status!r}")
        if not 100 <= status <= 599:
            raise LocalProtocolError(f"the status must be 100 to 599, not {int(status)}")
        if reason is None:
            reason = REASONS.get(status, "")
        _check_text(NOT_VALUE, reason, "reason phrase")
        object.__setattr__(self, "status", int(status))
        object.__setattr__(self, "reason", reason)
        headers = Headers(headers)
        if isinstance(body, str):
            body = _encoded(body)
            if body and "Content-Type" not in headers:
                headers += [("Content-Type", "text/plain; charset=utf-8")]
        object.__setattr__(self, "headers", headers)
        object.__setattr__(self, "body", _checked_body(body))
        object.__setattr__(self, "version", _checked_version(version))


@functools.lru_cache(64)
def _line_begin(name: str) -> bytes:
    """How the lines with that name begin in `Headers`, lower-cased; for what is no name, what none begins with."""
    name = name.lower()
    return b"\n%b:" % name.encode() if name.isascii() and ":" not in name and "\n" not in name else b"\n\n"


def _to_bytes(what: str, value: str | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{what}: must be str or bytes, not {type(value).__name__}")
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(
            f"{what}: character {value[exc.start]!r} at position {exc.start} is not in Latin-1"
        ) from None


def _refuse(illegal: re.Pattern[bytes], value: bytes, what: str) -> None:
    found = illegal.search(value)
    if found is not None:
        raise LocalProtocolError(
            f"{what}: character {found[0].decode('latin-1')!r} at position {found.start()} is not allowed"
        )


def _check_text(illegal: re.Pattern[bytes], value: object, what: str) -> None:
    if not isinstance(value, str):
        raise TypeError(f"{what}: must be str, not {type(value).__name__}")
    _refuse(illegal, _to_bytes(what, value), what)


def _checked_pair(pair: object) -> tuple[bytes, bytes]:
    if isinstance(pair, (str, bytes)) or not isinstance(pair, Iterable):
        raise TypeError(f"a header is a pair of name and value, not {pair!r}")
    try:
        name, value = pair
    except ValueError:
        raise TypeError(f"a header is a pair of name and value, not {pair!r}") from None
    raw_name = _to_bytes("header name", name)
    if not raw_name:
        raise LocalProtocolError("a header name is empty")
    shown = raw_name.decode("latin-1")
    _refuse(NOT_TOKEN, raw_name, f"header name {shown!r}")
    raw_value = _to_bytes(f"header {shown!r}", value)
    # RFC 9110 s5.5: field values are to be sent without CR, LF and NUL: whoever could smuggle them in would write
    # headers of their own, or a whole message.
    _refuse(NOT_VALUE, raw_value, f"header {shown!r}")
    return raw_name, raw_value.strip(b" \t")


def _checked_version(version: tuple[int, int]) -> tuple[int, int]:
    # RFC 9112 s2.3: HTTP-version = HTTP-name "/" DIGIT "." DIGIT
    if version == (1, 1):
        # This one, which is a constant: nearly all have it.
        return (1, 1)
    major, minor = version
    if not 0 <= major <= 9 or not 0 <= minor <= 9:
        raise LocalProtocolError(f"an HTTP version is two digits, not {version!r}")
    return (major, minor)


def _encoded(body: str) -> bytes:
    try:
        return body.encode()
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(
            f"the body: character {body[exc.start]!r} at position {exc.start} cannot be encoded"
        ) from None


def _checked_body(body: object) -> bytes:
    if isinstance(body, bytes):
        return body
    raise TypeError(f"a body must be bytes, not {type(body).__name__}")
