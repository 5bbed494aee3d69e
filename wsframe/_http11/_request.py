"""Reading a request (RFC 9112 s3)."""

from __future__ import annotations

import re
import sys

from .._config import Limits
from .._http import NOT_TOKEN, Headers, Request
from ._reader import LF, SP, Reader

__all__ = ["RequestReader"]

# RFC 9112 s3: request-line = method SP request-target SP HTTP-version
REQUEST_LINE = re.compile(rb"([^ ]+) ([^ ]+) HTTP/([0-9])\.([0-9])")
#: What ends the search in a request line: anything that is neither visible ASCII nor a space.
NOT_REQUEST_LINE = re.compile(rb"[^\x20-\x7e]")

#: RFC 9110 s9.1 and RFC 5789: whoever begins with one of these and a space means HTTP.
METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"}


class RequestReader(Reader):
    """Read one HTTP/1.x request, its body by Content-Length (RFC 9112 s3, s6). Sizes are bytes.

    The target is not interpreted and the Host header is not checked. Once the request is complete nothing more is
    parsed: what follows it is `leftover`, which grows with every `feed` and is for the caller to bound. After an error
    what is fed is dropped.

    Args:
        limits: max_header_line, max_header_bytes, max_header_count and max_body_size are used.
    """

    _answers = True

    __slots__ = ("_done", "_end", "_headers", "_leading", "_method_end", "_released", "_start")

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._leading = False  # whether the CRLF that may stand before the request has been seen
        self._method_end = 0
        self._start: tuple[str, str, tuple[int, int]] | None = None
        self._headers: Headers | None = None
        self._end = 0  # where the request ends, once its head is complete
        self._done = False
        self._released = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append received bytes; they are copied. Never raises for what they contain."""
        if self._error is None and not self._released:
            self._buffer += data

    def next(self) -> Request | None:
        """Return the request, once, when it is complete; None before and after.

        Raises:
            HttpError: it never will be. The same error comes again at every further call.
        """
        self._check()
        if self._done:
            return None
        if self._start is None:
            self._start = self._request_line()
            if self._start is None:
                return None
        if self._headers is None:
            fields = self._field_lines("header line")
            if fields is None:
                return None
            headers = Headers._trusted(fields)
            self._end = self._pos + self._body_size(headers)
            self._headers = headers
        if len(self._buffer) < self._end:
            return None
        self._done = True
        method, target, version = self._start
        return Request(method, target, self._headers, version, bytes(self._buffer[self._pos : self._end]))

    @property
    def pending(self) -> bool:
        """Whether some bytes have come but not a complete request, nor an error."""
        return bool(self._buffer) and not self._done and self._error is None

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body (RFC 9110 s10.1.1).

        True after a `next` that saw a complete head and nothing of the body. It stays True until the body begins to
        come: answer once.
        """
        # RFC 9110 s10.1.1: a server MUST ignore the expectation in an HTTP/1.0 request; it MAY omit the 100 if some of
        # the content has come already.
        if self._headers is None or self._start is None or len(self._buffer) > self._pos:
            return False
        return (
            self._end > self._pos
            and self._start[2] >= (1, 1)
            and "100-continue" in self._headers.tokens("expect")
        )

    @property
    def leftover(self) -> bytes:
        """What follows the complete request, untouched; empty before that."""
        return bytes(self._buffer[self._end :]) if self._done else b""

    @property
    def leftover_size(self) -> int:
        """``len(leftover)``, without copying it."""
        return len(self._buffer) - self._end if self._done else 0

    @property
    def received(self) -> bytes:
        """All bytes from the first one on, for a host that takes the connection over.

        After an error it is those up to it and the rest of their chunk.
        """
        return bytes(self._buffer)

    def release(self) -> None:
        """Forget all bytes, also those of `leftover`, in whatever state; what is fed from now on is dropped."""
        self._buffer = bytearray()
        self._end = self._pos = 0
        self._done = self._released = True

    def _speaks_http(self) -> bool:
        if self._start is not None:
            return True
        # Until the version has been seen a guess: a known method, or after the word what a target begins with.
        end = self._method_end
        if not end:
            return False
        # No further than the line may be, or the verdict would depend on how much has come.
        target = bytes(self._buffer[end + 1 : self._pos + self._limits.max_header_line + 1][:1])
        return target in (b"/", b"*") or bytes(self._buffer[self._pos : end]) in METHODS

    def _request_line(self) -> tuple[str, str, tuple[int, int]] | None:
        if not self._method_end and not self._method():
            return None
        start = self._pos
        line = self._line(NOT_REQUEST_LINE, "request line", 414)
        if line is None:
            return None
        found = REQUEST_LINE.fullmatch(line)
        if found is None:
            self._pos = start
            last = line.rsplit(b" ", 1)[1]
            if last.startswith(b"HTTP/"):
                self._fail(400, f"malformed request line: {line[:40]!r}", not_http=False)
            # "GET /" was a request once (HTTP/0.9); of three words the last one says what it is.
            known = line.count(b" ") == 1 and self._speaks_http()
            self._fail(400, f"a request line without an HTTP version: {line[:40]!r}", not_http=not known)
        method, target = found[1].decode("ascii"), found[2].decode("ascii")
        # It is kept as long as the connection, and nearly all have the same.
        method = sys.intern(method)
        version = (int(found[3]), int(found[4]))
        if version[0] != 1:
            self._fail(505, f"HTTP/{version[0]}.{version[1]} on a port that speaks HTTP/1.1", not_http=False)
        return method, target, version

    def _method(self) -> bool:
        """Read up to the space after the method: by then most of what is not HTTP has shown itself."""
        buffer = self._buffer
        # RFC 9112 s2.2: a server SHOULD ignore at least one empty line received prior to the request-line.
        if not self._leading and buffer.startswith(b"\r"):
            if len(buffer) == 1:
                return False
            self._leading = True
            if buffer[1] == LF:
                self._pos = self._scan = 2
        if self._signature():
            return False
        at = self._search(NOT_TOKEN, "request line", 400)
        if at is None:
            return False
        if buffer[at] != SP or at == self._pos:
            self._fail_not_http(at + 1)
        self._method_end = at
        return True

    def _body_size(self, headers: Headers) -> int:
        length = self._content_length(headers)
        if "transfer-encoding" in headers:
            # RFC 9112 s6.3: both "might indicate an attempt to perform request smuggling" and are to be an error.
            if length is not None:
                self._fail(400, "a request with both Transfer-Encoding and Content-Length")
            # RFC 9112 s6.3: a server MAY reject a request without a Content-Length by responding with 411.
            self._fail(411, "a request body with Transfer-Encoding is not accepted, only with Content-Length")
        if length is not None and length > self._limits.max_body_size:
            self._fail(413, "the request body", limit="max_body_size")
        return length or 0
