"""Reading requests and writing both (RFC 9112): the tables."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from http11_outcomes import LIMITS, TINY, error_outcome, read_request, response_of, single
from wsframe._errors import HandshakeError, LocalProtocolError
from wsframe._http import Headers, Request, Response
from wsframe._http11 import HttpError, RequestReader, encode_request, encode_response

# --- requests ---------------------------------------------------------------------------------------------

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n"
    b"Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


#: What most rows begin with.
GET = b"GET / HTTP/1.1\r\n"
LENGTH = GET + b"Content-Length: "


def test_the_request_of_rfc_6455_s1_3() -> None:
    reader = RequestReader(LIMITS)
    reader.feed(HANDSHAKE + b"\x81\x00")
    assert reader.pending
    request = reader.next()
    assert request is not None
    assert (request.method, request.target, request.version, request.body) == ("GET", "/chat", (1, 1), b"")
    assert request.headers["host"] == "server.example.com"
    assert len(request.headers) == 7
    assert reader.leftover == b"\x81\x00"
    assert reader.next() is None
    reader.feed(memoryview(b"more"))
    assert reader.next() is None
    assert reader.leftover == b"\x81\x00more"
    assert reader.leftover_size == 6
    assert reader.received == HANDSHAKE + b"\x81\x00more"
    reader.release()
    reader.feed(b"x")
    assert reader.received == reader.leftover == b""
    assert reader.leftover_size == 0
    assert reader.next() is None
    assert not reader.pending


def test_release_before_a_request_is_complete() -> None:
    reader = RequestReader(LIMITS)
    reader.feed(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert reader.next() is None
    reader.release()
    reader.feed(b"GET / HTTP/1.1\r\n\r\n")
    assert reader.next() is None
    assert not reader.pending
    assert not reader.wants_continue
    assert reader.received == b""


@pytest.mark.parametrize(
    ("data", "request_", "leftover"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", Request("GET", "/", version=(1, 0)), b""),
        (b"GET / HTTP/1.9\r\n\r\n", Request("GET", "/", version=(1, 9)), b""),
        (b"\r\nGET / HTTP/1.1\r\n\r\n", Request("GET", "/"), b""),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", Request("OPTIONS", "*"), b""),
        (b"GET http://h/x HTTP/1.1\r\n\r\n", Request("GET", "http://h/x"), b""),
        (b"CONNECT h:80 HTTP/1.1\r\n\r\n", Request("CONNECT", "h:80"), b""),
        (b"!#$%&'*+-.^_`|~x / HTTP/1.1\r\n\r\n", Request("!#$%&'*+-.^_`|~x", "/"), b""),
        (b"S / HTTP/1.1\r\n\r\n", Request("S", "/"), b""),
        (b"get /HTTP/1.1 HTTP/1.1\r\n\r\n", Request("get", "/HTTP/1.1"), b""),
        (GET + b"a:b\r\nA: \t c d\t \r\nx:\r\n\r\n", Request("GET", "/", [("a", "b"), ("A", "c d"), ("x", "")]), b""),
        (GET + b"a: \xff\x80:\t:\r\n\r\n", Request("GET", "/", {"a": "\xff\x80:\t:"}), b""),
        (GET + b"\r\n\r\n", Request("GET", "/"), b"\r\n"),
        (LENGTH + b"3\r\n\r\nabcdef", Request("GET", "/", {"Content-Length": "3"}, body=b"abc"), b"def"),
        (LENGTH + b"0003\r\n\r\nabc", Request("GET", "/", {"Content-Length": "0003"}, body=b"abc"), b""),
        (LENGTH + b"0\r\n\r\nabc", Request("GET", "/", {"Content-Length": "0"}), b"abc"),
    ],
)  # fmt: skip
def test_requests(data: bytes, request_: Request, leftover: bytes) -> None:
    for chunks in ([data], single(data)):
        assert read_request(chunks)[:2] == ("request", request_)
    assert read_request([data])[3] == leftover
    # Every byte of it is needed.
    used = len(data) - len(leftover)
    assert read_request([data[: used - 1]]) == ("pending", True)


NOT_ONE = "Content-Length is not one number: "
TOO_BIG = "the request body is over max_body_size (65536)"
NO_LENGTH = "a request body with Transfer-Encoding is not accepted, only with Content-Length"
BOTH = "a request with both Transfer-Encoding and Content-Length"
NO_VERSION = "a request line without an HTTP version: "
FOLDED = "a header line begins with whitespace: folded lines are not accepted"
BEGINS = "this is not HTTP: it begins with "
LINE, HEAD, COUNT, BODY = "max_header_line", "max_header_bytes", "max_header_count", "max_body_size"

BAD_REQUESTS: list[tuple[bytes, int, str]] = [
    # RFC 9112 s3: the request line
    (b"GET  / HTTP/1.1\r\n", 400, "malformed request line: b'GET  / HTTP/1.1'"),
    (b"GET /  HTTP/1.1\r\n", 400, "malformed request line: b'GET /  HTTP/1.1'"),
    (b"GET / HTTP/1.1 \r\n", 400, NO_VERSION + "b'GET / HTTP/1.1 '"),
    (b"GET / a HTTP/1.1\r\n", 400, "malformed request line: b'GET / a HTTP/1.1'"),
    (b"GET HTTP/1.1\r\n", 400, "malformed request line: b'GET HTTP/1.1'"),
    (b"GET / HTTP/1\r\n", 400, "malformed request line: b'GET / HTTP/1'"),
    (b"GET / HTTP/1.10\r\n", 400, "malformed request line: b'GET / HTTP/1.10'"),
    (b"GET / HTTP/+1.1\r\n", 400, "malformed request line: b'GET / HTTP/+1.1'"),
    (b"GET x\r\n", 400, NO_VERSION + "b'GET x'"),
    (b"GET /\r\n", 400, NO_VERSION + "b'GET /'"),
    (b"GET / HTTP/1.1\n", 400, "LF without CR in the request line"),
    (b"GET / HTTP/1.1\rX", 400, "CR without LF in the request line"),
    (b"GET / HTTP/1.1\r\r", 400, "CR without LF in the request line"),
    (b"GET /\x00", 400, "byte 0x00 in the request line"),
    (b"GET /\t", 400, "byte 0x09 in the request line"),
    (b"GET /\xc3", 400, "byte 0xc3 in the request line"),
    (b"PROPFIND /\x7f", 400, "byte 0x7f in the request line"),
    (b"GET / HTTP/2.0\r\n", 505, "HTTP/2.0 on a port that speaks HTTP/1.1"),
    (b"GET / HTTP/0.9\r\n", 505, "HTTP/0.9 on a port that speaks HTTP/1.1"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2.0 on a port that speaks HTTP/1.1"),
    # RFC 9112 s5: the fields
    (GET + b"A: b\n", 400, "LF without CR in the header line"),
    (GET + b"A: b\rc", 400, "CR without LF in the header line"),
    (GET + b"A: \x00", 400, "byte 0x00 in the header line"),
    (GET + b"A: \x7f", 400, "byte 0x7f in the header line"),
    (GET + b" A: b\r\n", 400, FOLDED),
    (GET + b"A: b\r\n\tc\r\n", 400, FOLDED),
    (GET + b"Ab\r\n", 400, "a header line has no colon: b'Ab'"),
    (GET + b"A : b\r\n", 400, "a header line is malformed, whitespace before the colon: b'A : b'"),
    (GET + b"A\t: b\r\n", 400, "a header line is malformed, whitespace before the colon: b'A\\t: b'"),
    (GET + b"A b: c\r\n", 400, "a header line is malformed, its name is not a token: b'A b: c'"),
    (GET + b": c\r\n", 400, "a header line is malformed, its name is not a token: b': c'"),
    (GET + b"\xe9: c\r\n", 400, "a header line is malformed, its name is not a token: b'\\xe9: c'"),
    # RFC 9112 s6: the body
    (LENGTH + b"-1\r\n\r\n", 400, NOT_ONE + "'-1'"),
    (LENGTH + b"+1\r\n\r\n", 400, NOT_ONE + "'+1'"),
    (LENGTH + b"1_0\r\n\r\n", 400, NOT_ONE + "'1_0'"),
    (LENGTH + b"\xb2\r\n\r\n", 400, NOT_ONE + "'²'"),
    (GET + b"Content-Length:\r\n\r\n", 400, NOT_ONE + "''"),
    (LENGTH + b"1, 1\r\n\r\n", 400, NOT_ONE + "'1, 1'"),
    (LENGTH + b"1\r\ncontent-length: 1\r\n\r\n", 400, NOT_ONE + "'1, 1'"),
    (LENGTH + b"65537\r\n\r\n", 413, TOO_BIG),
    (LENGTH + b"9" * 9999 + b"\r\n\r\n", 413, TOO_BIG),
    (GET + b"Transfer-Encoding: chunked\r\n\r\n", 411, NO_LENGTH),
    (GET + b"Transfer-Encoding: identity\r\n\r\n", 411, NO_LENGTH),
    (GET + b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400, BOTH),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "status", "message"), BAD_REQUESTS, ids=[ascii(row[0][:60]) for row in BAD_REQUESTS]
)
def test_malformed_requests(data: bytes, status: int, message: str) -> None:
    # What only shows when something follows, shows here too.
    not_http = data.endswith(b" \r\n")
    limit = "max_body_size" if status == 413 else None
    expected = ("error", status, message, not_http, limit)
    assert read_request([data]) == read_request(single(data)) == expected
    # The verdict falls with the last byte of the table's row, not later; TLS, and "PRI", which goes on.
    if not data.startswith(b"PRI"):
        assert read_request([data[:-1]]) == ("pending", True)


NOT_HTTP: list[tuple[bytes, str]] = [
    (b"\x16\x03", "this is not HTTP: it looks like TLS on a plain port"),
    (b"\x15\x03", "this is not HTTP: it looks like TLS on a plain port"),
    (b"\x16\x02", BEGINS + "b'\\x16'"),
    (b"SSH-", "this is not HTTP: it looks like SSH"),
    (b"\x00", BEGINS + "b'\\x00'"),
    (b" ", BEGINS + "b' '"),
    (b"\n", BEGINS + "b'\\n'"),
    (b"\r\r", BEGINS + "b'\\r'"),
    (b"\r\n\r", BEGINS + "b'\\r'"),
    (b"{", BEGINS + "b'{'"),
    (b"GET\t", BEGINS + "b'GET\\t'"),
    (b"hello\r", BEGINS + "b'hello\\r'"),
    (b"\xff" * 4, BEGINS + "b'\\xff'"),
    (b"EHLO example.com\r\n", NO_VERSION + "b'EHLO example.com'"),
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", NO_VERSION + "b'PROXY TCP4 1.2.3.4 5.6.7.8 1 2'"),
    (b"OPTIONS rtsp://x RTSP/1.0\r\n", NO_VERSION + "b'OPTIONS rtsp://x RTSP/1.0'"),
    (b"hello world\n", "LF without CR in the request line"),
    (b"a b\x00", "byte 0x00 in the request line"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), NOT_HTTP, ids=[ascii(row[0]) for row in NOT_HTTP])
def test_what_is_not_http(data: bytes, message: str) -> None:
    expected = ("error", 400, message, True, None)
    assert read_request([data + b"x"]) == read_request(single(data)) == expected


def test_tls_waits_for_a_second_byte() -> None:
    assert read_request([b"\x16"]) == ("pending", True)


def test_after_an_error_nothing_is_taken() -> None:
    reader = RequestReader(LIMITS)
    reader.feed(b"\x00garbage")
    with pytest.raises(HttpError):
        reader.next()
    reader.feed(b"more")
    assert reader.received == b"\x00garbage"
    reader.release()
    assert reader.received == b""
    with pytest.raises(HttpError):
        reader.next()


# --- limits: the value passes, one more does not ----------------------------------------------------------


def get(line_size: int) -> bytes:
    line = b"GET /" + b"x" * (line_size - 14) + b" HTTP/1.1"
    assert len(line) == line_size
    return line


@pytest.mark.parametrize(
    ("fits", "over", "status", "limit", "message"),
    [
        (get(32), get(33), 414, LINE, "the request line is over max_header_line (32)"),
        (
            get(20) + b"\r\nA: " + b"x" * 29,
            get(20) + b"\r\nA: " + b"x" * 30,
            431,
            LINE,
            "the header line is over max_header_line (32)",
        ),
        (
            get(30) + b"\r\na: " + b"x" * 29 + b"\r\nb: " + b"x" * 27,
            get(30) + b"\r\na: " + b"x" * 29 + b"\r\nb: " + b"x" * 28,
            431,
            HEAD,
            "the whole head is over max_header_bytes (100)",
        ),
        (
            get(20) + b"\r\na: b\r\nc: d",
            get(20) + b"\r\na: b\r\nc: d\r\ne: f",
            431,
            COUNT,
            "the number of header lines is over max_header_count (2)",
        ),
        (
            get(20) + b"\r\nContent-Length: 5",
            get(20) + b"\r\nContent-Length: 6",
            413,
            BODY,
            "the request body is over max_body_size (5)",
        ),
    ],
)
def test_limits(fits: bytes, over: bytes, status: int, limit: str, message: str) -> None:
    assert read_request([fits + b"\r\n\r\n12345"], TINY)[0] == "request"
    assert read_request(single(fits + b"\r\n\r\n12345"), TINY)[0] == "request"
    expected = ("error", status, message, False, limit)
    assert read_request([over + b"\r\n\r\n123456"], TINY) == expected
    assert read_request(single(over + b"\r\n\r\n123456"), TINY) == expected


def test_a_line_that_never_ends() -> None:
    assert read_request([b"GET /" + b"x" * 27], TINY) == ("pending", True)
    assert read_request([b"GET /" + b"x" * 28], TINY)[1:] == (
        414, "the request line is over max_header_line (32)", False, LINE
    )  # fmt: skip
    # Without a space it is not known to be HTTP.
    assert read_request([b"x" * 33], TINY)[1:] == (
        400, "the request line is over max_header_line (32)", True, LINE
    )  # fmt: skip
    assert read_request([get(20) + b"\r\n" + b"x" * 33], TINY)[1] == 431


def test_the_defaults_take_large_heads() -> None:
    line = b"X: " + b"c" * (LIMITS.max_header_line - 3) + b"\r\n"
    assert read_request([GET + line * 3 + b"\r\n"])[0] == "request"
    assert read_request([GET + line * 4 + b"\r\n"])[4] == HEAD
    assert read_request([GET + b"a: b\r\n" * 128 + b"\r\n"])[0] == "request"
    assert read_request([GET + b"a: b\r\n" * 129])[4] == COUNT
    body = b"Content-Length: 65536\r\n\r\n" + b"x" * 65536
    assert read_request([GET + body])[0] == "request"


# --- Expect: 100-continue (RFC 9110 s10.1.1) --------------------------------------------------------------


def continue_wanted(head: bytes) -> bool:
    reader = RequestReader(LIMITS)
    reader.feed(head)
    reader.next()
    return reader.wants_continue


def test_wants_continue() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n"
    assert continue_wanted(head)
    reader = RequestReader(LIMITS)
    seen = []
    for byte in single(head + b"xy"):
        reader.feed(byte)
        request = reader.next()
        seen.append(reader.wants_continue)
    assert request is not None
    # With the last byte of the head, and until the body begins.
    assert seen == [False] * (len(head) - 1) + [True, False, False]


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.0\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nExpect: 100-continue\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: other\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\nx",
    ],
)
def test_wants_no_continue(head: bytes) -> None:
    assert not continue_wanted(head)


def test_http_error() -> None:
    error = HttpError(431, "too long", limit="max_header_line")
    assert isinstance(error, HandshakeError)
    assert (error.status, error.close_code, str(error)) == (431, 1002, "too long")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert error_outcome(twin) == error_outcome(error)


# --- writing ----------------------------------------------------------------------------------------------


def test_encode_request() -> None:
    request = Request("GET", "/x", [("Host", "h"), ("X", "\xe9")])
    assert encode_request(request) == b"GET /x HTTP/1.1\r\nHost: h\r\nX: \xe9\r\n\r\n"
    assert encode_request(Request("GET", "*", version=(1, 0))) == b"GET * HTTP/1.0\r\n\r\n"
    assert (
        encode_request(Request("POST", "/", body=b"abc"))
        == b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    )
    given_ = Request("POST", "/", {"content-length": "3"}, body=b"abc")
    assert encode_request(given_) == b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"


CL0, CL1, CL3, CL5 = ({"Content-Length": number} for number in "0135")
CHUNKED = {"Transfer-Encoding": "chunked"}


@pytest.mark.parametrize(
    ("response", "method", "data"),
    [
        (Response(200), "GET", b"200 OK\r\nContent-Length: 0\r\n\r\n"),
        (Response(299, body=b"x"), "GET", b"299 \r\nContent-Length: 1\r\n\r\nx"),
        (Response(426, "\xe9", [("A", "1")]), "GET", b"426 \xe9\r\nA: 1\r\nContent-Length: 0\r\n\r\n"),
        (Response(101, headers={"A": "x"}), "GET", b"101 Switching Protocols\r\nA: x\r\n\r\n"),
        (Response(100), "GET", b"100 Continue\r\n\r\n"),
        (Response(204), "GET", b"204 No Content\r\n\r\n"),
        (Response(304), "GET", b"304 Not Modified\r\n\r\n"),
        (Response(304, headers=CL5), "GET", b"304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        (Response(200, body=b"abc"), "HEAD", b"200 OK\r\nContent-Length: 3\r\n\r\n"),
        (Response(200, headers=CL3, body=b"abc"), "HEAD", b"200 OK\r\nContent-Length: 3\r\n\r\n"),
        (Response(200, headers=CL5), "HEAD", b"200 OK\r\nContent-Length: 5\r\n\r\n"),
        (Response(200, body=b"x"), "CONNECT", b"200 OK\r\nContent-Length: 1\r\n\r\nx"),
    ],
)
def test_encode_response(response: Response, method: str, data: bytes) -> None:
    assert encode_response(response, request_method=method) == b"HTTP/1.1 " + data
    old = dataclasses.replace(response, version=(1, 0))
    assert encode_response(old, request_method=method) == b"HTTP/1.0 " + data
    assert response_of(b"HTTP/1.1 " + data, method).status == response.status


FALSE_LENGTH = "Content-Length is 1, but the body has {} bytes"
NO_TE = "Transfer-Encoding is not supported: a body goes out with its Content-Length"


@pytest.mark.parametrize(
    ("response", "method", "message"),
    [
        (Response(101, body=b"x"), "GET", "a response with status 101 has no body"),
        (Response(204, body=b"x"), "GET", "a response with status 204 has no body"),
        (Response(304, body=b"x"), "GET", "a response with status 304 has no body"),
        (Response(204, headers=CL0), "GET", "a response with status 204 has no Content-Length"),
        (Response(101, headers=CL0), "GET", "a response with status 101 has no Content-Length"),
        (Response(200, headers=CL1), "GET", FALSE_LENGTH.format(0)),
        (Response(200, headers=CL1, body=b"xy"), "HEAD", FALSE_LENGTH.format(2)),
        (Response(200, headers={"content-length": "x"}), "HEAD", "Content-Length is not one number: 'x'"),
        (Response(304, headers={"content-length": "x"}), "GET", "Content-Length is not one number: 'x'"),
        (Response(200, headers=Headers(CL0) + CL0), "GET", "Content-Length is not one number: '0, 0'"),
        (Response(200, headers=CHUNKED), "GET", NO_TE),
        (Response(204, headers=CHUNKED), "GET", NO_TE),
        (Response(200, version=(2, 0)), "GET", "HTTP/2.0 is not written like HTTP/1.1"),
    ],
)
def test_encode_response_refuses(response: Response, method: str, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_response(response, request_method=method)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("GET", "/", CL1), FALSE_LENGTH.format(0)),
        (Request("POST", "/", CHUNKED, body=b"x"), NO_TE),
        (Request("GET", "/", version=(0, 9)), "HTTP/0.9 is not written like HTTP/1.1"),
    ],
)
def test_encode_request_refuses(request_: Request, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        encode_request(request_)
    assert str(caught.value) == message
