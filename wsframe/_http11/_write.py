"""Writing messages (RFC 9112 s2.1)."""

from __future__ import annotations

from .._errors import LocalProtocolError
from .._http import Headers, Request, Response
from ._reader import DIGITS

__all__ = ["encode_request", "encode_response"]

CRLF = b"\r\n"


def encode_request(request: Request) -> bytes:
    """Write a request (RFC 9112 s3), adding Content-Length if there is a body and none is given.

    Raises:
        LocalProtocolError: a Transfer-Encoding, a Content-Length that is not that of the body, or an HTTP version that
            is not 1.x.
    """
    headers = _framed(request.headers, request.body, add=bool(request.body))
    start = f"{request.method} {request.target} {_version(request.version)}"
    return _encode(start, headers, request.body)


def encode_response(response: Response, *, request_method: str = "GET") -> bytes:
    """Write a response (RFC 9112 s4), adding Content-Length if there may be a body and none is given.

    1xx, 204 and 304 have no body. To HEAD the body is not written but its length is. CONNECT is nothing special here:
    a server that opens no tunnels answers it like any other request.

    Raises:
        LocalProtocolError: a body where there can be none, a Content-Length in a 1xx or 204 (RFC 9110 s8.6), one that
            is not that of the body, a Transfer-Encoding, or an HTTP version that is not 1.x.
    """
    status, headers = response.status, response.headers
    head = request_method == "HEAD"
    if status < 200 or status in (204, 304):
        if response.body:
            raise LocalProtocolError(f"a response with status {status} has no body")
        if status != 304 and "content-length" in headers:
            # RFC 9110 s8.6: a server MUST NOT send it in any response with a status code of 1xx or 204.
            raise LocalProtocolError(f"a response with status {status} has no Content-Length")
        _framed(headers, b"", add=False, declared_only=True)
    else:
        # RFC 9110 s9.3.2: to HEAD, the length that a GET would have had, if any is known.
        headers = _framed(headers, response.body, add=True, declared_only=head and not response.body)
    # RFC 9112 s4: the SP before an absent reason phrase stays.
    return _encode(
        f"{_version(response.version)} {status} {response.reason}", headers, b"" if head else response.body
    )


def _framed(headers: Headers, body: bytes, *, add: bool, declared_only: bool = False) -> Headers:
    """Check that the headers say the truth about the body, and add its length if wanted."""
    if "transfer-encoding" in headers:
        raise LocalProtocolError(
            "Transfer-Encoding is not supported: a body goes out with its Content-Length"
        )
    lengths = headers.get_all("content-length")
    if not lengths:
        return headers + Headers([("Content-Length", str(len(body)))]) if add else headers
    if len(lengths) > 1 or not DIGITS.fullmatch(lengths[0].encode("latin-1")):
        raise LocalProtocolError(f"Content-Length is not one number: {', '.join(lengths)!r}")
    if not declared_only and lengths[0] != str(len(body)):
        raise LocalProtocolError(f"Content-Length is {lengths[0]}, but the body has {len(body)} bytes")
    return headers


def _version(version: tuple[int, int]) -> str:
    if version[0] != 1:
        raise LocalProtocolError(f"HTTP/{version[0]}.{version[1]} is not written like HTTP/1.1")
    return f"HTTP/{version[0]}.{version[1]}"


def _encode(start: str, headers: Headers, body: bytes) -> bytes:
    lines = [start.encode("latin-1"), *(name + b": " + value for name, value in headers.raw)]
    return CRLF.join(lines) + CRLF + CRLF + body
