"""`Headers`, `Request` and `Response` as values (RFC 9110)."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsframe._errors import LocalProtocolError
from wsframe._http import REASONS, Headers, Request, Response

TCHARS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
VALUE_CHARS = [chr(i) for i in range(256) if i == 9 or (i >= 32 and i != 127)]

names = st.text(TCHARS, min_size=1, max_size=20)
values = st.text(VALUE_CHARS, max_size=30)
lines = st.lists(st.tuples(names, values), max_size=8)


# --- Headers ----------------------------------------------------------------------------------------------


def test_headers_keep_order_case_and_bytes() -> None:
    headers = Headers([("B", "1"), (b"a", b"\xff\t2"), ("b", "3")])
    assert headers.raw == ((b"B", b"1"), (b"a", b"\xff\t2"), (b"b", b"3"))
    assert list(headers) == [("B", "1"), ("a", "\xff\t2"), ("b", "3")]
    assert len(headers) == 3
    assert repr(headers) == "Headers([('B', '1'), ('a', 'ÿ\\t2'), ('b', '3')])"


def test_headers_look_up_without_regard_to_case() -> None:
    headers = Headers({"Sec-WebSocket-Key": "x"})
    assert headers["sec-websocket-key"] == headers["SEC-WEBSOCKET-KEY"] == "x"
    assert "SEC-websocket-KEY" in headers
    assert "Sec-WebSocket" not in headers
    assert b"Sec-WebSocket-Key" not in headers
    assert None not in headers


def test_headers_join_several_lines_as_rfc_9110_s5_3_says() -> None:
    headers = Headers([("A", "1"), ("x", "y"), ("a", "2")])
    assert headers["a"] == headers.get("A") == "1, 2"
    assert headers.get_all("A") == ["1", "2"]


@pytest.mark.parametrize(
    "name", ["", ":", "a:", "a:b", "a:1\nx", "\nx", "1\nx", "\n", "\xe4", "\u0430", "1", "y"]
)
def test_headers_are_found_by_whole_names_only(name: str) -> None:
    headers = Headers([("a", "1"), ("x", "y"), ("b", ":x:y"), ("a-x", "\xe4:")])
    assert name not in headers
    assert headers.get(name) is None
    assert headers.get_all(name) == []


@given(lines, names)
def test_headers_are_found_as_in_a_list_of_lines(items: list[tuple[str, str]], name: str) -> None:
    headers = Headers(items)
    for wanted in [name, *(item[0] for item in items)]:
        expected = [value.strip(" \t") for key, value in items if key.lower() == wanted.lower()]
        assert headers.get_all(wanted) == expected
        assert (wanted in headers) == bool(expected)


def test_headers_that_are_missing() -> None:
    headers = Headers()
    with pytest.raises(KeyError):
        headers["a"]
    assert headers.get("a") is None
    assert headers.get("a", "b") == "b"
    assert headers.get_all("a") == []
    assert headers.tokens("a") == []
    assert not headers


def test_what_get_all_returns_is_the_callers_own() -> None:
    headers = Headers({"a": "1"})
    headers.get_all("a").append("2")
    assert headers.get_all("a") == ["1"]


@pytest.mark.parametrize(
    ("lines", "tokens"),
    [
        (["Upgrade"], ["upgrade"]),
        (["keep-alive, Upgrade"], ["keep-alive", "upgrade"]),
        (["keep-alive", "\tUpgrade , x"], ["keep-alive", "upgrade", "x"]),
        ([", ,a,,b,\t,"], ["a", "b"]),
        (["", ","], []),
        (["a b"], ["a b"]),
    ],
)
def test_tokens(lines: list[str], tokens: list[str]) -> None:
    assert Headers([("Connection", line) for line in lines]).tokens("connection") == tokens


def test_headers_from_headers_mappings_and_pairs() -> None:
    headers = Headers([("a", "1"), ("b", "2")])
    assert (
        Headers(headers)
        == headers
        == Headers({"A": "1", "B": "2"})
        == Headers(iter([("a", "1"), ("b", "2")]))
    )


def test_headers_equality_and_hash() -> None:
    headers = Headers([("a", "1"), ("b", "2")])
    assert headers != Headers([("b", "2"), ("a", "1")])
    assert headers != Headers([("a", "1"), ("b", "3")])
    assert Headers({"a": "x"}) != Headers({"a": "X"})
    assert hash(headers) == hash(Headers([("A", "1"), ("B", "2")]))
    assert headers != [("a", "1"), ("b", "2")]


def test_headers_add() -> None:
    first = Headers({"a": "1"})
    longer = first + {"b": "2"} + [("A", "3")]
    assert list(longer) == [("a", "1"), ("b", "2"), ("A", "3")]
    assert longer.get_all("a") == ["1", "3"]
    assert list(first) == [("a", "1")]
    with pytest.raises(LocalProtocolError):
        first + {"b": "\r\n"}


def test_whitespace_around_a_value_is_not_part_of_it() -> None:
    assert Headers({"a": " \tx y\t "}).raw == ((b"a", b"x y"),)


@pytest.mark.parametrize("bad", [chr(i) for i in range(32) if i != 9] + ["\x7f"])
def test_values_refuse_control_characters(bad: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Headers([("ok", "fine"), ("X-Name", f"abc{bad}d")])
    assert str(caught.value) == f"header 'X-Name': character {bad!r} at position 3 is not allowed"


def test_injection_at_the_edges_is_refused_and_not_stripped() -> None:
    for value in ("\r\nEvil: 1", "x\r\n", "\n", "x\n", b"x\r", "\x00"):
        with pytest.raises(LocalProtocolError, match="'A'"):
            Headers([("A", value)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "a header name is empty"),
        ("a b", "header name 'a b': character ' ' at position 1 is not allowed"),
        ("a:", "header name 'a:': character ':' at position 1 is not allowed"),
        ("a\r\nb", "header name 'a\\r\\nb': character '\\r' at position 1 is not allowed"),
        ("ä", "header name 'ä': character 'ä' at position 0 is not allowed"),
        ("a€", "header name: character '€' at position 1 is not in Latin-1"),
        (":path", "header name ':path': character ':' at position 0 is not allowed"),
    ],
)
def test_names_are_tokens(name: str, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Headers([(name, "x")])
    assert str(caught.value) == message


def test_values_are_latin_1() -> None:
    assert Headers({"a": "é"}).raw == ((b"a", b"\xe9"),)
    with pytest.raises(LocalProtocolError) as caught:
        Headers({"a": "x€"})
    assert str(caught.value) == "header 'a': character '€' at position 1 is not in Latin-1"


@pytest.mark.parametrize(
    "items", ["ab", ["ab"], [b"ab"], [("a",)], [("a", "b", "c")], [1], [("a", 1)], [(1, "a")]]
)
def test_headers_of_the_wrong_type(items: Any) -> None:
    with pytest.raises(TypeError):
        Headers(items)


@given(lines)
def test_headers_round_trip(items: list[tuple[str, str]]) -> None:
    headers = Headers(items)
    assert list(headers) == [(name, value.strip(" \t")) for name, value in items]
    assert Headers(headers.raw) == headers
    assert Headers(list(headers)).raw == headers.raw
    assert pickle.loads(pickle.dumps(headers)) == headers
    assert copy.deepcopy(headers).raw == headers.raw
    assert eval(repr(headers)).raw == headers.raw
    assert {name.lower() for name, _ in headers} == {n.lower() for n, _ in items}


# --- Request and Response ---------------------------------------------------------------------------------


def test_request() -> None:
    request = Request("GET", "/x?y", {"Host": "h"})
    assert request == Request("GET", "/x?y", Headers({"host": "h"}), (1, 1), b"")
    assert hash(request) == hash(Request("GET", "/x?y", {"host": "h"}))
    assert dataclasses.replace(request, target="*").target == "*"
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.method = "POST"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(request)) == request
    match request:
        case Request(method, target):
            assert (method, target) == ("GET", "/x?y")


@pytest.mark.parametrize("target", ["*", "/", "http://h/x", "h:80", "//", "/%20#", '/[]{}|\\^"`<>'])
def test_targets(target: str) -> None:
    assert Request("GET", target).target == target


@pytest.mark.parametrize(
    ("method", "target", "message"),
    [
        ("", "/", "the method is empty"),
        ("GET", "", "the request target is empty"),
        ("G T", "/", "method: character ' ' at position 1 is not allowed"),
        ("GET\r\n", "/", "method: character '\\r' at position 3 is not allowed"),
        ("€", "/", "method: character '€' at position 0 is not in Latin-1"),
        ("GET", "/ HTTP/1.1\r\nX: y", "request target: character ' ' at position 1 is not allowed"),
        ("GET", "/\n", "request target: character '\\n' at position 1 is not allowed"),
        ("GET", "/\x7f", "request target: character '\\x7f' at position 1 is not allowed"),
        ("GET", "/é", "request target: character 'é' at position 1 is not allowed"),
    ],
)
def test_request_refuses(method: str, target: str, message: str) -> None:
    with pytest.raises(LocalProtocolError) as caught:
        Request(method, target)
    assert str(caught.value) == message


def test_response() -> None:
    response = Response(HTTPStatus.NOT_FOUND)
    assert type(response.status) is int
    assert (response.status, response.reason) == (404, "Not Found")
    assert Response(200, "").reason == ""
    assert Response(299).reason == ""
    assert Response(200, "Très bien").reason == "Très bien"
    assert Response(200, headers={"a": "b"}, body=b"x") == Response(200, "OK", [("A", "b")], b"x")
    assert dataclasses.replace(response, reason="Gone").reason == "Gone"
    assert pickle.loads(pickle.dumps(response)) == response


def test_a_body_of_text() -> None:
    response = Response(200, headers={"a": "b"}, body="sörry")
    assert response.body == "sörry".encode()
    assert list(response.headers) == [("a", "b"), ("Content-Type", "text/plain; charset=utf-8")]
    page = Response(200, headers={"content-type": "text/html"}, body="<p>")
    assert list(page.headers) == [("content-type", "text/html")]
    assert Response(204, body="") == Response(204)
    with pytest.raises(
        LocalProtocolError, match=r"the body: character '\\ud800' at position 1 cannot be encoded"
    ):
        Response(200, body="x\ud800")


def test_what_is_known_of_a_request_is_no_part_of_it() -> None:
    request = Request("GET", "/")
    assert (request.remote_address, request.scheme, request.context) == (None, None, None)
    request.came_from(("127.0.0.1", 7), "https")
    request.attach("user")
    assert (request.remote_address, request.scheme, request.context) == (("127.0.0.1", 7), "https", "user")
    other = Request("GET", "/")
    assert request == other
    assert hash(request) == hash(other)
    assert "user" not in repr(request)
    assert dataclasses.replace(request, target="/x").context is None
    assert pickle.loads(pickle.dumps(request)).context == "user"


@pytest.mark.parametrize("status", [-1, 0, 99, 600, 1000])
def test_status_out_of_range(status: int) -> None:
    with pytest.raises(LocalProtocolError, match=f"must be 100 to 599, not {status}$"):
        Response(status)


@pytest.mark.parametrize("reason", ["OK\r\n", "O\nK", "O\x00K", "€"])
def test_reason_refuses(reason: str) -> None:
    with pytest.raises(LocalProtocolError, match="reason phrase"):
        Response(200, reason)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Response("200"),  # type: ignore[arg-type]
        lambda: Response(True),
        lambda: Response(200, 1),  # type: ignore[arg-type]
        lambda: Response(200, body=bytearray(b"x")),  # type: ignore[arg-type]
        lambda: Request("GET", "/", body="text"),  # type: ignore[arg-type]
        lambda: Request("GET", 1),  # type: ignore[arg-type]
        lambda: Request(b"GET", "/"),  # type: ignore[arg-type]
    ],
)
def test_wrong_types(make: Any) -> None:
    with pytest.raises(TypeError):
        make()


@pytest.mark.parametrize("version", [(10, 0), (1, 10), (-1, 0)])
def test_version_is_two_digits(version: tuple[int, int]) -> None:
    with pytest.raises(LocalProtocolError, match="two digits"):
        Request("GET", "/", version=version)


def test_reasons_are_those_of_rfc_9110_in_every_python() -> None:
    assert REASONS[101] == "Switching Protocols"
    assert REASONS[413] == "Content Too Large"
    assert REASONS[414] == "URI Too Long"
    assert REASONS[426] == "Upgrade Required"
    assert REASONS[431] == "Request Header Fields Too Large"
