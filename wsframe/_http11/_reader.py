"""Lines and fields out of a growing buffer: what the readers of requests and of responses share."""

from __future__ import annotations

import re
from typing import Any, NoReturn

from .._config import Limits
from .._errors import HandshakeError
from .._http import NOT_TOKEN, NOT_VALUE, Headers

__all__ = ["DIGITS", "LF", "SP", "HttpError", "Reader"]

CR, LF, SP = b"\r\n "
DIGITS = re.compile(rb"[0-9]+")

#: First bytes of other protocols that end up on our port: a TLS record with a handshake or an alert (RFC 8446 s5.1),
#: and SSH (RFC 4253 s4.2).
SIGNATURES = (
    (b"\x16\x03", "it looks like TLS on a plain port"),
    (b"\x15\x03", "it looks like TLS on a plain port"),
    (b"SSH-", "it looks like SSH"),
)


class HttpError(HandshakeError):
    """What came is not an HTTP/1.x message that we take.

    Attributes:
        status: what a server answers (400, 411, 413, 414, 431, 505); None when a response was read.
        not_http: what came does not even look like HTTP: garbage, TLS or another protocol.
        limit: the name of the `Limits` value that was passed, or None.
    """

    def __init__(
        self, status: int | None, message: str, *, not_http: bool = False, limit: str | None = None
    ) -> None:
        super().__init__(message, status)
        self.not_http = not_http
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.status, str(self)), {"not_http": self.not_http, "limit": self.limit}


class Reader:
    """The base of both readers. One buffer, from which nothing is taken away while it is being read.

    Args:
        limits: its max_header values are used here.
    """

    __slots__ = ("_base", "_buffer", "_error", "_fields", "_limits", "_pos", "_scan", "_section")

    #: Whether a status comes with an error: only a server answers.
    _answers: bool

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._base = 0  # where the section began that max_header_bytes is about
        self._pos = 0  # where the line begins that is being read
        self._scan = 0  # up to here that line has been looked at
        self._section = "head"
        self._fields: list[tuple[bytes, bytes]] = []
        self._error: HttpError | None = None

    def _check(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(None)

    def _speaks_http(self) -> bool:
        raise NotImplementedError

    def _fail(
        self, status: int, message: str, *, limit: str | None = None, not_http: bool | None = None
    ) -> NoReturn:
        if limit is not None:
            message = f"{message} is over {limit} ({getattr(self._limits, limit)})"
        self._error = HttpError(
            status if self._answers else None,
            message,
            not_http=not self._speaks_http() if not_http is None else not_http,
            limit=limit,
        )
        raise self._error

    def _fail_not_http(self, end: int) -> NoReturn:
        """The bytes up to `end` condemn it."""
        shown = bytes(self._buffer[self._pos : end])[:32]
        self._fail(400, f"this is not HTTP: it begins with {shown!r}", not_http=True)

    def _signature(self) -> bool:
        """Raise for the first bytes of another protocol; True while they may still become such."""
        first = bytes(self._buffer[self._pos : self._pos + 4])
        for signature, verdict in SIGNATURES:
            if first.startswith(signature):
                self._fail(400, f"this is not HTTP: {verdict}", not_http=True)
        return any(signature.startswith(first) for signature, _ in SIGNATURES)

    def _search(self, stop: re.Pattern[bytes], what: str, status: int) -> int | None:
        """Return where in this line the first byte of the class `stop` is; None when it has not come."""
        full = self._pos + self._limits.max_header_line  # the index that at most a CR may have
        total = self._base + self._limits.max_header_bytes
        end = min(len(self._buffer), full + 1, total)
        found = stop.search(self._buffer, self._scan, end)
        if found is not None:
            self._scan = found.start()
            return self._scan
        self._scan = end
        if end > full:
            self._fail(status, f"the {what}", limit="max_header_line")
        self._check_total(end, status)
        return None

    def _check_total(self, index: int, status: int) -> None:
        """Fail if the byte at `index` has come and is one too many."""
        if index < len(self._buffer) and index >= self._base + self._limits.max_header_bytes:
            self._fail(status, f"the whole {self._section}", limit="max_header_bytes")

    def _line(self, stop: re.Pattern[bytes], what: str, status: int = 431) -> bytes | None:
        """Take one line, without its CRLF; None when it is not complete."""
        at = self._search(stop, what, status)
        if at is None:
            return None
        buffer = self._buffer
        if buffer[at] != CR:
            # RFC 9112 s2.2: a recipient MAY recognize a single LF as a line terminator. This one does not.
            bad = "LF without CR" if buffer[at] == LF else f"byte 0x{buffer[at]:02x}"
            self._fail(400, f"{bad} in the {what}")
        if at + 1 == len(buffer):
            return None
        self._check_total(at + 1, status)
        if buffer[at + 1] != LF:
            # RFC 9112 s2.2: a recipient of a bare CR MUST consider that element to be invalid.
            self._fail(400, f"CR without LF in the {what}")
        line = bytes(buffer[self._pos : at])
        self._pos = self._scan = at + 2
        return line

    def _field_lines(self, what: str) -> list[tuple[bytes, bytes]] | None:
        """Take field lines up to and including the empty line; None when it has not come."""
        while (line := self._line(NOT_VALUE, what)) is not None:
            if not line:
                fields, self._fields = self._fields, []
                return fields
            if len(self._fields) >= self._limits.max_header_count:
                self._fail(431, f"the number of {what}s", limit="max_header_count")
            self._fields.append(self._field(line, what))
        return None

    def _field(self, line: bytes, what: str) -> tuple[bytes, bytes]:
        # RFC 9112 s5: field-line = field-name ":" OWS field-value OWS
        if line[0] in b" \t":
            # RFC 9112 s5.2: a server that receives an obs-fold MUST either reject the message or replace it; s2.2: so
            # too with whitespace between the start line and the first field.
            self._fail(400, f"a {what} begins with whitespace: folded lines are not accepted")
        name, colon, value = line.partition(b":")
        if not colon:
            self._fail(400, f"a {what} has no colon: {line[:40]!r}")
        if NOT_TOKEN.search(name) or not name:
            # RFC 9112 s5.1: "No whitespace is allowed between the field name and colon": 400.
            space = (
                "whitespace before the colon" if name and name[-1] in b" \t" else "its name is not a token"
            )
            self._fail(400, f"a {what} is malformed, {space}: {line[:40]!r}")
        return name, value.strip(b" \t")

    def _content_length(self, headers: Headers) -> int | None:
        lengths = headers.get_all("content-length")
        if not lengths:
            return None
        digits = lengths[0].encode("latin-1")
        # RFC 9112 s6.3: an invalid Content-Length is unrecoverable. A list of equal ones may be taken as one: not here.
        if len(lengths) != 1 or not DIGITS.fullmatch(digits):
            self._fail(400, f"Content-Length is not one number: {', '.join(lengths)[:40]!r}")
        # RFC 9110 s8.6: anticipate large numbers. None of 19 digits is within any limit, and int() refuses long ones.
        return int(digits.lstrip(b"0")[:19] or b"0")
