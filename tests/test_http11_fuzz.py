"""HTTP/1.1 from any bytes, cut anyhow (RFC 9112); how much work that is; and h11 as a peer that is not ours."""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from http11_outcomes import (
    LIMITS,
    cut,
    next_or_error,
    read_request,
    read_responses,
    request_of,
    response_of,
    single,
)
from wsframe._config import Limits
from wsframe._http import Headers, Request, Response
from wsframe._http11 import (
    HttpError,
    RequestReader,
    ResponseReader,
    _reader,
    _request,
    _response,
    encode_request,
    encode_response,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

# --- any bytes, cut anyhow --------------------------------------------------------------------------------

TOKEN = st.text("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", min_size=1, max_size=12)
VALUE = st.text([chr(i) for i in range(256) if i == 9 or (i >= 32 and i != 127)], max_size=20)
#: Our writer refuses a Transfer-Encoding, and wants the true Content-Length.
FRAMING = {"content-length", "transfer-encoding"}
FIELDS = st.lists(st.tuples(TOKEN.filter(lambda name: name.lower() not in FRAMING), VALUE), max_size=6)
TARGET = st.text([chr(i) for i in range(33, 127)], min_size=1, max_size=12)

#: What a head is made of, and what it must not be made of.
PIECES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"POST", b"GET", b" ", b" /", b" HTTP/1.1", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"\r\n",
        b"\r\n\r\n", b"\r", b"\n", b"\t", b"\x00", b"\x7f", b"\xff", b":", b"a: b\r\n", b"A", b"Content-Length: ",
        b"content-length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"0", b"1", b"5", b"9" * 20, b"abc", b",", b";x",
        b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 101 S\r\n\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 204 N\r\n", b"x" * 30,
        b"\x16\x03\x01", b"\x15\x03", b"SSH-2.0", b"SS", b"3\r\nabc\r\n", b"0\r\n\r\n", b"1\r\nx\r\n", b"HTTP", b"/",
    ]
)  # fmt: skip
START = st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\n", OK, CHUNKED])
BYTES = st.binary(max_size=200) | st.tuples(START, st.lists(PIECES, max_size=25)).map(
    lambda parts: parts[0] + b"".join(parts[1])
)
LIMIT = st.integers(1, 40)
ANY_LIMITS = st.just(LIMITS) | st.builds(
    Limits,
    max_header_line=LIMIT,
    max_header_bytes=LIMIT | st.integers(40, 120),
    max_header_count=st.integers(1, 4),
    max_body_size=st.integers(1, 8),
)
PLACES = st.lists(st.integers(0, 200), max_size=8)


@given(BYTES, PLACES, ANY_LIMITS)
@example(b"FOO /", [4], Limits(max_header_line=3))
@example(b"\x16\x03", [1], Limits(max_header_bytes=1, max_header_line=1))
@example(b"SSH-", [1], Limits(max_header_bytes=2, max_header_line=2))
@example(b"\r\nGET / HTTP/1.1\r\n\r\n", [1], Limits(max_header_bytes=1))
def test_a_requests_outcome_does_not_depend_on_the_cuts(
    data: bytes, places: list[int], limits: Limits
) -> None:
    whole = read_request([data], limits)
    assert whole[0] in ("request", "pending", "error")
    assert read_request(single(data), limits) == whole
    assert read_request(cut(data, places), limits) == whole


@given(BYTES, PLACES, ANY_LIMITS, st.sampled_from(["GET", "HEAD", "CONNECT"]), st.booleans())
def test_a_responses_outcome_does_not_depend_on_the_cuts(
    data: bytes, places: list[int], limits: Limits, method: str, eof: bool
) -> None:
    whole = read_responses([data], limits, method, eof)
    assert read_responses(single(data), limits, method, eof) == whole
    assert read_responses(cut(data, places), limits, method, eof) == whole


@given(BYTES, ANY_LIMITS)
def test_a_request_and_its_leftover_are_all_that_came(data: bytes, limits: Limits) -> None:
    reader = RequestReader(limits)
    reader.feed(data)
    result = next_or_error(reader)
    assert reader.received == data
    if isinstance(result, HttpError):
        assert result.status in (400, 411, 413, 414, 431, 505)
    elif result is not None:
        end = len(data) - len(reader.leftover)
        assert data.endswith(reader.leftover)
        assert result.body == data[end - len(result.body) : end]


@given(TOKEN, TARGET, FIELDS, st.binary(max_size=20), st.sampled_from([(1, 0), (1, 1)]), PLACES)
def test_requests_round_trip(
    method: str,
    target: str,
    fields: list[tuple[str, str]],
    body: bytes,
    version: tuple[int, int],
    places: list[int],
) -> None:
    # What a TLS or SSH peer begins with is a token too.
    if method.startswith("SSH-"):
        method = "x" + method
    request = Request(method, target, fields, version, body)
    data = encode_request(request)
    found = request_of(data)
    assert (found.method, found.target, found.version, found.body) == (method, target, version, body)
    assert found.headers.raw[: len(fields)] == request.headers.raw
    assert [name for name, _ in list(found.headers)[len(fields) :]] == (["Content-Length"] if body else [])
    assert read_request(cut(data, places))[1] == found


@given(st.integers(200, 599), VALUE, FIELDS, st.binary(max_size=20), st.sampled_from(["GET", "HEAD"]))
def test_responses_round_trip(
    status: int, reason: str, fields: list[tuple[str, str]], body: bytes, method: str
) -> None:
    if status in (204, 304):
        body = b""
    response = Response(status, reason, fields, body)
    found = response_of(encode_response(response, request_method=method), method)
    assert (found.status, found.reason) == (status, reason)
    assert found.body == (b"" if method == "HEAD" else body)
    assert found.headers.raw[: len(fields)] == response.headers.raw


# --- h11, which is not ours -------------------------------------------------------------------------------


def lower(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in headers.raw]


def h11_reads_request(data: bytes) -> tuple[h11.Request, bytes, bytes]:
    """What h11's server makes of one request, its body, and what is left."""
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(data)
    request = peer.next_event()
    assert isinstance(request, h11.Request), request
    body = b""
    while isinstance(event := peer.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return request, body, peer.trailing_data[0]


def h11_reads_response(
    data: bytes, method: str = "GET"
) -> tuple[h11.Response | h11.InformationalResponse, bytes]:
    peer = h11.Connection(h11.CLIENT)
    headers = [("Host", "h"), ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    peer.send(h11.Request(method=method, target="/", headers=headers))
    peer.send(h11.EndOfMessage())
    peer.receive_data(data)
    response = peer.next_event()
    assert isinstance(response, (h11.Response, h11.InformationalResponse)), response
    body = b""
    if isinstance(response, h11.Response):
        peer.receive_data(b"")
        while isinstance(event := peer.next_event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage)
    return response, body


#: h11 has its own opinion about these, and we pass them on as they are.
H11_JUDGES = {"host", "expect", "connection", "upgrade"}
H11_FIELDS = st.lists(
    st.tuples(
        TOKEN.filter(lambda name: name.lower() not in FRAMING | H11_JUDGES),
        VALUE.map(lambda v: v.strip(" \t")),
    ),
    max_size=6,
)


@given(TOKEN, TARGET, H11_FIELDS, st.binary(max_size=20))
def test_h11_reads_our_requests(method: str, target: str, fields: list[tuple[str, str]], body: bytes) -> None:
    request = Request(method, target, [("Host", "h"), *fields], body=body)
    found, content, rest = h11_reads_request(encode_request(request))
    assert (found.method.decode(), found.target.decode(), content, rest) == (method, target, body, b"")
    assert list(found.headers)[: len(request.headers)] == lower(request.headers)


@given(TOKEN, TARGET, H11_FIELDS, st.binary(max_size=20))
def test_we_read_what_h11s_client_writes(
    method: str, target: str, fields: list[tuple[str, str]], body: bytes
) -> None:
    if method.startswith("SSH-"):
        method = "x" + method
    raw = [("Host", "h"), *fields, ("Content-Length", str(len(body)))]
    event = h11.Request(
        method=method, target=target, headers=[(n.encode("latin-1"), v.encode("latin-1")) for n, v in raw]
    )
    peer = h11.Connection(h11.CLIENT)
    data = peer.send(event) or b""
    data += peer.send(h11.Data(data=body)) or b""
    data += peer.send(h11.EndOfMessage()) or b""
    assert request_of(data) == Request(method, target, raw, body=body)


@given(st.integers(200, 599), H11_FIELDS, st.binary(max_size=20), st.sampled_from(["GET", "HEAD"]))
def test_h11_reads_our_responses(
    status: int, fields: list[tuple[str, str]], body: bytes, method: str
) -> None:
    if status in (204, 304):
        body = b""
    response = Response(status, headers=fields, body=body)
    found, content = h11_reads_response(encode_response(response, request_method=method), method)
    assert found.status_code == status
    assert found.reason.decode("latin-1") == response.reason
    assert content == (b"" if method == "HEAD" else body)
    assert list(found.headers)[: len(fields)] == lower(response.headers)


def test_h11_reads_our_101() -> None:
    response = Response(101, headers={"Upgrade": "websocket", "Connection": "Upgrade"})
    found, _ = h11_reads_response(encode_response(response))
    assert (found.status_code, list(found.headers)) == (101, lower(response.headers))


@given(
    st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    H11_FIELDS,
    st.lists(st.binary(max_size=20), max_size=4),
    st.sampled_from(["length", "chunked", "eof"]),
    st.sampled_from(["GET", "HEAD"]),
)
def test_we_read_what_h11s_server_writes(
    status: int, fields: list[tuple[str, str]], pieces: list[bytes], framing: str, method: str
) -> None:
    peer = h11.Connection(h11.SERVER)
    version = b"HTTP/1.0" if framing == "eof" else b"HTTP/1.1"
    peer.receive_data(method.encode() + b" / " + version + b"\r\nHost: h\r\n\r\n")
    peer.next_event()
    body = b"".join(pieces)
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    if framing == "length":
        raw.append((b"Content-Length", str(len(body)).encode()))
    elif framing == "chunked":
        raw.append((b"Transfer-Encoding", b"chunked"))
    data = peer.send(h11.Response(status_code=status, reason=b"x", headers=raw)) or b""
    for piece in pieces if method == "GET" else ():
        data += peer.send(h11.Data(data=piece)) or b""
    data += peer.send(h11.EndOfMessage()) or b""
    for chunks in ([data], single(data)):
        (found, _), truncated, *_ = read_responses(chunks, method=method)
        assert (found.status, found.body, truncated) == (status, b"" if method == "HEAD" else body, False)
        assert (
            lower(found.headers)[: len(fields)]
            == [(name.lower(), value) for name, value in raw][: len(fields)]
        )


@given(st.sampled_from([b"GET / HTTP/1.1\r\nHost: h\r\n", b""]), st.lists(PIECES, max_size=20).map(b"".join))
def test_what_we_take_h11_takes_and_understands_alike(start: bytes, data: bytes) -> None:
    # The other way round does not hold: h11 is lenient (bare LF, folding, Transfer-Encoding).
    outcome = read_request([start + data])
    if outcome[0] != "request":
        return
    _, request, raw, leftover = outcome
    # h11 checks Host itself, and takes no empty line before the request.
    if data.startswith(b"\r\n") and not start:
        data = data[2:]
    if request.version >= (1, 1) and len(request.headers.get_all("host")) != 1:
        return
    found, body, rest = h11_reads_request(start + data)
    assert found.method.decode() == request.method
    assert found.target.decode() == request.target
    assert [(name, value) for name, value in found.headers] == [(name.lower(), value) for name, value in raw]
    assert (body, rest) == (request.body, leftover)


# --- work -------------------------------------------------------------------------------------------------


class CountingPattern:
    """Counts the bytes that a pattern's search looks at."""

    def __init__(self, pattern: re.Pattern[bytes], work: list[int]) -> None:
        self.pattern = pattern
        self.work = work

    def search(self, data: bytes, start: int = 0, end: int | None = None) -> re.Match[bytes] | None:
        stop = len(data) if end is None else end
        found = self.pattern.search(data, start, stop)
        self.work.append((found.end() if found else stop) - start)
        return found


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted: list[int] = []
    for module in (_reader, _request, _response):
        for name in ("NOT_TOKEN", "NOT_VALUE", "NOT_REQUEST_LINE"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, CountingPattern(getattr(module, name), counted))
    return counted


LONG_HEADS = {
    "long lines": b"GET /"
    + b"x" * 16000
    + b" HTTP/1.1\r\n"
    + (b"a: " + b"x" * 16000 + b"\r\n") * 2
    + b"\r\n",
    "many lines": b"GET / HTTP/1.1\r\n" + (b"a: " + b"x" * 500 + b"\r\n") * 125 + b"\r\n",
    "a line without end": b"GET / HTTP/1.1\r\n" + b"a" * 16384,
    "a method without end": b"x" * 16384,
    "an empty line and a method without end": b"\r\n" + b"x" * 16382,
    "a line of colons": b"GET / HTTP/1.1\r\n" + b":" * 16384,
    "a body": b"GET / HTTP/1.1\r\nContent-Length: 65536\r\n\r\n" + b"x" * 65536,
}


@pytest.mark.parametrize("data", LONG_HEADS.values(), ids=LONG_HEADS.keys())
def test_a_request_byte_by_byte_is_linear_work(data: bytes, work: list[int]) -> None:
    reader = RequestReader(LIMITS)
    for byte in single(data):
        reader.feed(byte)
        reader.next()
    # Every byte once for the end of its line, those of names once more; every CR twice.
    assert 0 < sum(work) <= 2 * len(data) + 10


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n" + (b"a: " + b"x" * 16000 + b"\r\n") * 4 + b"\r\n",
        CHUNKED + b"1;" + b"x" * 16000 + b"\r\na\r\n" + b"8000\r\n" + b"x" * 32768 + b"\r\n0\r\n\r\n",
        OK + b"\r\n" + b"x" * 65536,
    ],
    ids=["head", "chunks", "until EOF"],
)
def test_a_response_byte_by_byte_is_linear_work(data: bytes, work: list[int]) -> None:
    reader = ResponseReader(LIMITS)
    for byte in single(data):
        reader.feed(byte)
        reader.next()
    assert 0 < sum(work) <= 2 * len(data) + 10
