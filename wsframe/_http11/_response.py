"""Reading the responses to a request (RFC 9112 s4, s6, s7)."""

from __future__ import annotations

import re

from .._config import Limits
from .._http import NOT_VALUE, Headers, Response
from ._reader import Reader

__all__ = ["ResponseReader"]

# RFC 9112 s4: status-line = HTTP-version SP status-code SP [ reason-phrase ]; many leave out the last SP.
STATUS_LINE = re.compile(rb"HTTP/([0-9])\.([0-9]) ([1-5][0-9][0-9])(?: (.*))?")
# RFC 9112 s7.1: chunk-size = 1*HEXDIG; chunk-ext = *( BWS ";" BWS chunk-ext-name ... ), which is not looked at.
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]+)(?:[ \t]*;.*)?")

#: Nobody sends more of them before the real answer; RFC 9110 s15.2 names no number.
MAX_INFORMATIONAL = 10


class ResponseReader(Reader):
    """Read the responses to one request (RFC 9112 s4, s6): 1xx ones, then the final one. Sizes are bytes.

    A body is kept up to max_body_size; then the response is returned with what there is and `truncated` is True.
    After the final response, or an error, what is fed is dropped, unless another protocol goes on (`leftover`).

    Args:
        limits: max_header_line, max_header_bytes (a head; the framing of a chunked body), max_header_count and
            max_body_size are used.
        request_method: what the request was; it decides whether there is a body (RFC 9112 s6.3).
    """

    _answers = False

    __slots__ = (
        "_body", "_chunked", "_done", "_eof", "_headers", "_informational", "_left", "_method", "_speaks", "_start",
        "_switched", "_truncated",
    )  # fmt: skip

    def __init__(self, limits: Limits, *, request_method: str = "GET") -> None:
        super().__init__(limits)
        self._method = request_method
        self._speaks = False
        self._informational = 0
        self._start: tuple[tuple[int, int], int, str] | None = None
        self._headers: Headers | None = None
        self._body = bytearray()
        self._left: int | None = 0  # bytes of the body or the chunk that have not come; None: until EOF
        self._chunked = ""  # what comes next of a chunked body: "size", "data", "end", "trailer"
        self._eof = False
        self._done = False
        self._switched = False
        self._truncated = False

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Append received bytes; they are copied. Never raises for what they contain."""
        if self._error is None and (not self._done or self._switched):
            self._buffer += data

    def feed_eof(self) -> Response | None:
        """Say that no more bytes will come, and return what `next` returns then.

        That is a final response as soon as its head is complete: EOF is how a body without a length ends (RFC 9112
        s6.3), and it cuts any other (`truncated`).

        Raises:
            HttpError: as `next`. None is returned, not raised, when EOF came before a complete head.
        """
        self._eof = True
        return self.next()

    def next(self) -> Response | None:
        """Return the next complete response, None when there is none (yet, or any more).

        1xx responses come one by one, without a body. 101 is final: it is returned as soon as its head is complete.

        Raises:
            HttpError: what came is not an HTTP/1.x response. The same error comes again at every further call.
        """
        self._check()
        if self._done:
            return None
        if self._headers is None:
            if not self._head() or self._start is None:
                return None
            if 100 <= self._start[1] <= 199 and self._start[1] != 101:
                return self._interim()
            self._begin_body()
        complete = self._read_body()
        if not complete and self._eof:
            complete = True
            # RFC 9112 s8: a body with a length that ends before it is incomplete; one without ends with EOF.
            self._truncated = self._left is not None
        if not complete:
            return None
        self._done = True
        if not self._switched:
            self._buffer.clear()
        return self.partial()

    def partial(self) -> Response | None:
        """Return the final response with as much of its body as has come, None before its head is complete.

        For a time-out, and for an error inside the body: the head still says what the server answered.
        """
        if self._start is None or self._headers is None:
            return None
        version, status, reason = self._start
        return Response(status, reason, self._headers, bytes(self._body), version)

    @property
    def truncated(self) -> bool:
        """Whether the body of the final response is not all of it: over max_body_size, or cut by EOF."""
        return self._truncated

    @property
    def pending(self) -> bool:
        """Whether some bytes have come but not the whole final response, nor an error."""
        return not self._done and self._error is None and (bool(self._buffer) or self._informational > 0)

    @property
    def leftover(self) -> bytes:
        """What follows a 101, or a 2xx to CONNECT: bytes of another protocol, untouched. Else empty."""
        return bytes(self._buffer[self._pos :]) if self._switched else b""

    def _speaks_http(self) -> bool:
        return self._speaks

    def _head(self) -> bool:
        if self._start is None:
            # Only the first of several responses can be something else.
            if not self._speaks and not self._prefix():
                return False
            line = self._line(NOT_VALUE, "status line")
            if line is None:
                return False
            found = STATUS_LINE.fullmatch(line)
            if found is None:
                self._fail(400, f"malformed status line: {line[:40]!r}")
            version = (int(found[1]), int(found[2]))
            if version[0] != 1:
                self._fail(505, f"a response with HTTP/{version[0]}.{version[1]}")
            self._start = version, int(found[3]), (found[4] or b"").decode("latin-1")
        fields = self._field_lines("header line")
        if fields is None:
            return False
        self._headers = Headers._trusted(fields)
        return True

    def _prefix(self) -> bool:
        """Check that it begins with "HTTP/", as early as the bytes allow."""
        expected = b"HTTP/"
        end = min(self._pos + len(expected), self._pos + self._limits.max_header_line + 1)
        first = bytes(self._buffer[self._pos : min(end, self._base + self._limits.max_header_bytes)])
        for index, byte in enumerate(first):
            if byte != expected[index]:
                if self._signature():
                    return False
                self._fail_not_http(self._pos + index + 1)
        self._speaks = len(first) == len(expected)
        return True

    def _interim(self) -> Response:
        response = self.partial()
        assert response is not None
        self._start = self._headers = None
        self._informational += 1
        if self._informational > MAX_INFORMATIONAL:
            self._fail(400, f"more than {MAX_INFORMATIONAL} informational responses")
        del self._buffer[: self._pos]
        self._pos = self._scan = 0
        return response

    def _begin_body(self) -> None:
        """Decide how long the body is (RFC 9112 s6.3, whose rules are numbered)."""
        assert self._start is not None
        assert self._headers is not None
        version, status, _ = self._start
        self._base = self._pos
        # Rules 1 and 2: these have no body, whatever their headers say.
        self._switched = status == 101 or (self._method == "CONNECT" and 200 <= status <= 299)
        if self._switched or self._method == "HEAD" or status in (204, 304):
            return
        length = self._content_length(self._headers)
        codings = self._headers.tokens("transfer-encoding")
        if codings:
            # Rule 3; and s6.1: in HTTP/1.0 Transfer-Encoding is to be treated as faulty framing.
            if length is not None or version < (1, 1) or codings.count("chunked") > 1:
                self._fail(
                    400, f"a response with status {status} whose Transfer-Encoding cannot be relied upon"
                )
            # Rule 4: chunked if that is the final coding, else until EOF.
            if codings[-1] == "chunked":
                self._chunked = "size"
                self._section = "framing of the chunked body"
                return
            self._left = None
        else:
            # Rules 6 and 8.
            self._left = length

    def _read_body(self) -> bool:
        """Move what has come into the body. True when it is complete, or as much as is kept."""
        if not self._chunked:
            self._take()
            return self._truncated or self._left == 0
        while True:
            if self._chunked == "size":
                line = self._line(NOT_VALUE, "chunk-size line")
                if line is None:
                    return False
                found = CHUNK_SIZE.fullmatch(line)
                if found is None:
                    self._fail(400, f"malformed chunk size: {line[:40]!r}")
                # RFC 9112 s7.1: a recipient MUST anticipate potentially large hexadecimal numerals.
                self._left = int(found[1].lstrip(b"0")[:16] or b"0", 16)
                self._chunked = "data" if self._left else "trailer"
            elif self._chunked == "data":
                self._take()
                if self._left:
                    return self._truncated
                self._chunked = "end"
            elif self._chunked == "end":
                end = bytes(self._buffer[self._pos : self._pos + 2])
                if not b"\r\n".startswith(end):
                    self._fail(400, "a chunk is longer than its size says")
                if len(end) < 2:
                    return False
                self._pos = self._scan = self._pos + 2
                self._chunked = "size"
            else:
                # RFC 9112 s7.1.2: a recipient MAY discard the trailer section.
                return self._field_lines("trailer line") is not None

    def _take(self) -> None:
        """Move bytes of the body, as many as have come, belong to it and are kept."""
        come = len(self._buffer) - self._pos
        belong = come if self._left is None else min(come, self._left)
        size = min(belong, self._limits.max_body_size - len(self._body))
        self._body += self._buffer[self._pos : self._pos + size]
        self._pos += size
        self._scan = self._pos
        # The data of chunks does not count as framing.
        self._base += size
        if self._left is not None:
            self._left -= size
        # Truncated only when there is more of it than is kept, not when it just fits.
        more = belong > size if self._left is None else self._left > 0
        self._truncated = more and len(self._body) == self._limits.max_body_size
