"""Reading responses (RFC 9112 s4, s6, s7): the tables."""

from __future__ import annotations

import pytest

from http11_outcomes import LIMITS, TINY, next_or_error, read_responses, single
from wsframe._http import Response
from wsframe._http11 import ResponseReader

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def test_101_leaves_what_follows_alone() -> None:
    reader = ResponseReader(LIMITS)
    reader.feed(SWITCH[:-1])
    assert reader.next() is None
    assert reader.pending
    assert reader.partial() is None
    reader.feed(SWITCH[-1:] + b"\x81\x01a")
    assert reader.next() == Response(101, None, {"Upgrade": "websocket"})
    reader.feed(b"\x81\x01b")
    assert reader.next() is None
    assert reader.leftover == b"\x81\x01a\x81\x01b"
    assert reader.feed_eof() is None


OK = b"HTTP/1.1 200 OK\r\n"
LENGTH = OK + b"Content-Length: "
CODED = OK + b"Transfer-Encoding: "
CHUNKED = CODED + b"chunked\r\n\r\n"

LENGTH_3 = {"Content-Length": "3"}


def length_3(body: bytes) -> Response:
    return Response(200, "OK", LENGTH_3, body)


def coded(codings: str, body: bytes) -> Response:
    return Response(200, "OK", {"Transfer-Encoding": codings}, body)


def chunked(body: bytes) -> Response:
    return coded("chunked", body)


@pytest.mark.parametrize(
    ("data", "method", "response", "truncated"),
    [
        (b"HTTP/1.1 403\r\nContent-Length: 3\r\n\r\nabc", "GET", Response(403, "", LENGTH_3, b"abc"), False),
        (b"HTTP/1.1 403 \r\nContent-Length: 3\r\n\r\nabc", "GET", Response(403, "", LENGTH_3, b"abc"), False),
        (b"HTTP/1.0 599 \xe9 \t!\r\n\r\n", "GET", Response(599, "\xe9 \t!", version=(1, 0)), False),
        # The rules of RFC 9112 s6.3. First those without a body.
        (b"HTTP/1.1 204 x\r\nContent-Length: 3\r\n\r\nabc", "GET", Response(204, "x", LENGTH_3), False),
        (b"HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n", "GET", Response(304, "x", LENGTH_3), False),
        (LENGTH + b"3\r\n\r\n", "HEAD", length_3(b""), False),
        (CHUNKED, "HEAD", chunked(b""), False),
        # With a length.
        (LENGTH + b"3\r\n\r\nabcdef", "GET", length_3(b"abc"), False),
        (LENGTH + b"3\r\n\r\nab", "GET", length_3(b"ab"), True),
        (LENGTH + b"3\r\n\r\n", "GET", length_3(b""), True),
        # Until EOF.
        (OK + b"\r\nuntil EOF", "GET", Response(200, body=b"until EOF"), False),
        (OK + b"\r\n", "GET", Response(200), False),
        (CODED + b"gzip\r\n\r\nxyz", "GET", coded("gzip", b"xyz"), False),
        (CODED + b"chunked, gzip\r\n\r\nxyz", "GET", coded("chunked, gzip", b"xyz"), False),
        # In chunks.
        (CODED + b"gzip, Chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "GET", coded("gzip, Chunked", b"x"), False),
        (CHUNKED + b"0\r\n\r\n", "GET", chunked(b""), False),
        (
            CHUNKED + b'3\r\nabc\r\n00A;x="y;"\r\n012345678\n\r\n0\r\n\r\n',
            "GET",
            chunked(b"abc012345678\n"),
            False,
        ),
        (CHUNKED + b"3 ;a\r\nabc\r\n0;\r\nA: b\r\n\r\nrest", "GET", chunked(b"abc"), False),
        (CHUNKED + b"3\r\nabc\r\n3\r\nd", "GET", chunked(b"abcd"), True),
        (CHUNKED + b"3\r\nabc", "GET", chunked(b"abc"), True),
        (CHUNKED + b"3\r\nabc\r\n", "GET", chunked(b"abc"), True),
        (CHUNKED + b"3\r\nabc\r\n0\r\n", "GET", chunked(b"abc"), True),
        (CHUNKED, "GET", chunked(b""), True),
    ],
)
def test_responses(data: bytes, method: str, response: Response, truncated: bool) -> None:
    for chunks in ([data], single(data)):
        outcome = read_responses(chunks, method=method)
        assert outcome == ((response, response.headers.raw), truncated, b"", False, response)


def test_informational_responses_come_one_by_one() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    data = b"HTTP/1.1 100 Continue\r\n\r\n" + hints + SWITCH + b"rest"
    for chunks in ([data], single(data)):
        outcome = read_responses(chunks)
        assert [response.status for response, _ in outcome[:3]] == [100, 103, 101]
        assert outcome[3:5] == (False, b"rest")
    reader = ResponseReader(LIMITS)
    reader.feed(hints)
    response = reader.next()
    assert response == Response(103, "Early Hints", {"Link": "x"})
    assert reader.pending, "the final response is still missing"
    assert reader.partial() is None
    assert reader.feed_eof() is None


def test_informational_responses_are_counted() -> None:
    hint = b"HTTP/1.1 100 Continue\r\n\r\n"
    assert len(read_responses([hint * 10 + OK + b"\r\n"])) == 15
    outcome = read_responses([hint * 11 + OK + b"\r\n"])
    assert len(outcome) == 16
    assert outcome[10:] == ("error", None, "more than 10 informational responses", False, None, None)


def test_each_head_has_its_own_limits() -> None:
    hint = b"HTTP/1.1 100 C\r\n" + b"a: b\r\n" * 2 + b"\r\n"
    final = b"HTTP/1.1 200 C\r\na: b\r\nContent-Length: 0\r\n\r\n"
    assert read_responses([hint * 5 + final], TINY)[5][0].status == 200


def test_connect_opens_a_tunnel() -> None:
    outcome = read_responses([LENGTH + b"3\r\n\r\nabcdef"], method="CONNECT")
    assert outcome[0][0] == length_3(b"")
    assert outcome[2] == b"abcdef"
    refused = read_responses([b"HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\nabcdef"], method="CONNECT")
    assert refused[0][0].body == b"abc"
    assert refused[2] == b""


UNRELIABLE = "a response with status 200 whose Transfer-Encoding cannot be relied upon"

BAD_RESPONSES: list[tuple[bytes, str, bool]] = [
    (b"\x16\x03", "this is not HTTP: it looks like TLS on a plain port", True),
    (b"\x15\x03", "this is not HTTP: it looks like TLS on a plain port", True),
    (b"\x15\x04", "this is not HTTP: it begins with b'\\x15'", True),
    (b"SSH-", "this is not HTTP: it looks like SSH", True),
    (b"SS ", "this is not HTTP: it begins with b'S'", True),
    (b"220 ", "this is not HTTP: it begins with b'2'", True),
    (b"HTTX", "this is not HTTP: it begins with b'HTTX'", True),
    (b"http/1.1", "this is not HTTP: it begins with b'h'", True),
    (b"\r\n", "this is not HTTP: it begins with b'\\r'", True),
    (b"HTTP/1.1 200 OK\n", "LF without CR in the status line", False),
    (b"HTTP/1.1 200 O\x00", "byte 0x00 in the status line", False),
    (b"HTTP/1.1  200 OK\r\n", "malformed status line: b'HTTP/1.1  200 OK'", False),
    (b"HTTP/1.1 20 OK\r\n", "malformed status line: b'HTTP/1.1 20 OK'", False),
    (b"HTTP/1.1 2000 OK\r\n", "malformed status line: b'HTTP/1.1 2000 OK'", False),
    (b"HTTP/1.1 099 OK\r\n", "malformed status line: b'HTTP/1.1 099 OK'", False),
    (b"HTTP/1.1 600 OK\r\n", "malformed status line: b'HTTP/1.1 600 OK'", False),
    (b"HTTP/1.1\r\n", "malformed status line: b'HTTP/1.1'", False),
    (b"HTTP/2 200\r\n", "malformed status line: b'HTTP/2 200'", False),
    (b"HTTP/2.0 200\r\n", "a response with HTTP/2.0", False),
    (OK + b"A b\r\n", "a header line has no colon: b'A b'", False),
    (LENGTH + b"x\r\n\r\n", "Content-Length is not one number: 'x'", False),
    (LENGTH + b"1\r\nContent-Length: 1\r\n\r\n", "Content-Length is not one number: '1, 1'", False),
    (LENGTH + b"1\r\nTransfer-Encoding: chunked\r\n\r\n", UNRELIABLE, False),
    (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", UNRELIABLE, False),
    (CODED + b"chunked, chunked\r\n\r\n", UNRELIABLE, False),
    (CHUNKED + b"x\r\n", "malformed chunk size: b'x'", False),
    (CHUNKED + b"\r\n", "malformed chunk size: b''", False),
    (CHUNKED + b"+1\r\n", "malformed chunk size: b'+1'", False),
    (CHUNKED + b"0x1\r\n", "malformed chunk size: b'0x1'", False),
    (CHUNKED + b"1 \r\n", "malformed chunk size: b'1 '", False),
    (CHUNKED + b"1\n", "LF without CR in the chunk-size line", False),
    (CHUNKED + b"1\r\nab", "a chunk is longer than its size says", False),
    (CHUNKED + b"1\r\na\rb", "a chunk is longer than its size says", False),
    (CHUNKED + b"0\r\nx\r\n", "a trailer line has no colon: b'x'", False),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message", "not_http"), BAD_RESPONSES, ids=[ascii(row[0][-40:]) for row in BAD_RESPONSES]
)
def test_malformed_responses(data: bytes, message: str, not_http: bool) -> None:
    whole = read_responses([data])
    assert whole[:5] == ("error", None, message, not_http, None)
    assert read_responses(single(data)) == whole


def test_partial_says_what_the_server_answered() -> None:
    reader = ResponseReader(LIMITS)
    reader.feed(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n")
    assert reader.next() is None
    assert reader.partial() is None
    reader.feed(b"\r\nbec")
    assert reader.next() is None
    assert reader.partial() == Response(403, None, {"Content-Length": "9"}, b"bec")
    reader.feed(b"ause..")
    assert reader.next() == reader.partial() == Response(403, None, {"Content-Length": "9"}, b"because..")


def test_partial_after_an_error_in_the_body() -> None:
    outcome = read_responses([CHUNKED + b"3\r\nabc\r\nx\r\n"])
    assert outcome[5] == chunked(b"abc")


# TINY takes 5 bytes of a body.
@pytest.mark.parametrize(
    ("data", "body", "truncated"),
    [
        (LENGTH + b"5\r\n\r\n12345", b"12345", False),
        (LENGTH + b"6\r\n\r\n12345", b"12345", True),
        (LENGTH + b"" + b"9" * 15 + b"\r\n\r\n12345", b"12345", True),
        (OK + b"\r\n123456", b"12345", True),
        (CHUNKED + b"5\r\n12345\r\n0\r\n\r\n", b"12345", False),
        (CHUNKED + b"6\r\n12345", b"12345", True),
        (CHUNKED + b"ffffffffffffffffffffff\r\n12345", b"12345", True),
        (CHUNKED + b"5\r\n12345\r\n1\r\n", b"12345", True),
    ],
)
def test_a_long_body_is_kept_in_part(data: bytes, body: bytes, truncated: bool) -> None:
    for chunks in ([data], [data + b"rest"], single(data), single(data + b"rest")):
        reader = ResponseReader(TINY)
        found = None
        for chunk in chunks:
            assert found is None or reader.next() is None
            reader.feed(chunk)
            found = reader.next() or found
        assert found is not None, "without EOF"
        assert found.body == body
        assert reader.truncated is truncated
        assert reader.leftover == b""


def test_the_framing_of_chunks_is_counted_alone() -> None:
    # Neither the head nor the data: together they are over max_header_bytes here.
    head = CODED + b"chunked\r\n" + b"a: " + b"x" * 20 + b"\r\n\r\n"
    outcome = read_responses([head + b"1;xxxxxxxx\r\nx\r\n" * 5 + b"0\r\n\r\n"], TINY)
    assert outcome[0][0].body == b"xxxxx"
    data = CHUNKED + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 16 + b"0\r\n\r\n"
    assert len(data) > LIMITS.max_header_bytes
    assert read_responses([data])[0][0].body == b"x" * 65536


@pytest.mark.parametrize("data", [OK + b"\r\n123456", LENGTH + b"1\r\n\r\n123", b"garbage"])
def test_nothing_is_kept_that_nobody_will_read(data: bytes) -> None:
    reader = ResponseReader(TINY)
    for chunk in [data] + [b"x" * 100] * 100:
        reader.feed(chunk)
        next_or_error(reader)
    assert len(reader._buffer) <= len(data)


def test_a_body_until_eof_that_just_fits() -> None:
    assert read_responses([OK + b"\r\n12345"], TINY)[:2] == ((Response(200, body=b"12345"), ()), False)


LINE, HEAD, COUNT = "max_header_line", "max_header_bytes", "max_header_count"


@pytest.mark.parametrize(
    ("data", "limit", "what"),
    [
        (b"HTTP/1.1 200 " + b"x" * 20, LINE, "the status line"),
        (OK + b"a: " + b"x" * 30, LINE, "the header line"),
        (OK + (b"a: " + b"x" * 27 + b"\r\n") * 2 + b"b: " + b"x" * 20, HEAD, "the whole head"),
        (OK + b"a: b\r\n" * 3, COUNT, "the number of header lines"),
        (CHUNKED + b"1;" + b"x" * 31, LINE, "the chunk-size line"),
        (CHUNKED + (b"1;" + b"x" * 25 + b"\r\na\r\n") * 4, HEAD, "the whole framing of the chunked body"),
        (CHUNKED + b"0\r\na: " + b"x" * 30, LINE, "the trailer line"),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * 3, COUNT, "the number of trailer lines"),
    ],
)
def test_response_limits(data: bytes, limit: str, what: str) -> None:
    whole = read_responses([data], TINY)
    message = f"{what} is over {limit} ({getattr(TINY, limit)})"
    assert whole[:5] == ("error", None, message, False, limit)
    assert read_responses(single(data), TINY) == whole
