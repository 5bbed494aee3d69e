"""Redirects without I/O: where they lead, which are followed, and what stays behind."""

from __future__ import annotations

import pytest

from wsframe import Headers, ResponseReceived, parse_uri
from wsframe._adapter._redirect import Redirects, check_max_redirects

SECRETS = [("Authorization", "Bearer x"), ("Cookie", "a=b"), ("proxy-authorization", "Basic y"), ("X", "1")]


def response(*locations: str, status: int = 302) -> ResponseReceived:
    return ResponseReceived(status, Headers([("Location", location) for location in locations]), b"")


def followed(uri: str, location: str, limit: int = 1) -> Redirects:
    redirects = Redirects(parse_uri(uri), Headers(SECRETS), limit)
    assert redirects.follow(response(location)), redirects.advice
    assert not redirects.advice
    return redirects


@pytest.mark.parametrize(
    ("uri", "location", "target"),
    [
        ("ws://a/x/y?q", "ws://b/z", "ws://b/z"),
        ("ws://a/x/y?q", "http://b/z", "ws://b/z"),
        ("ws://a/x/y?q", "https://b/z", "wss://b/z"),
        ("ws://a/x/y?q", "WSS://B/z", "wss://b/z"),
        ("ws://a/x/y?q", "/z", "ws://a/z"),
        ("ws://a/x/y?q", "z?r", "ws://a/x/z?r"),
        ("ws://a/x/y?q", "../z", "ws://a/z"),
        ("ws://a/x/y?q", "?r", "ws://a/x/y?r"),
        ("ws://a:81/x", "/z", "ws://a:81/z"),
        ("wss://a/x", "//b/z", "wss://b/z"),
        ("wss://a/x", "/z#fragment", "wss://a/z"),
        ("wss://a/x", "https://b:443/", "wss://b/"),
        ("ws://[fe80::1%25eth0]/x", "/z", "ws://[fe80::1%25eth0]/z"),
        ("ws://a/x", "", "ws://a/x"),
    ],
)
def test_where_it_leads(uri: str, location: str, target: str) -> None:
    assert str(followed(uri, location).uri) == target


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_these_are_redirects(status: int) -> None:
    assert Redirects(parse_uri("ws://a/"), (), 1).follow(response("/b", status=status))


@pytest.mark.parametrize("status", [200, 201, 300, 304, 305, 401, 503])
def test_these_are_none(status: int) -> None:
    redirects = Redirects(parse_uri("ws://a/"), (), 1)
    assert not redirects.follow(response("/b", status=status))
    assert not redirects.follow(response(status=302))
    assert not redirects.follow(None)
    assert redirects.advice == ""


@pytest.mark.parametrize(
    ("uri", "location", "same"),
    [
        ("ws://u:p@a/", "/b", True),
        ("ws://u:p@a/", "ws://a:80/b", True),
        # Only to more security, on the same host and with the default ports.
        ("ws://u:p@a/", "wss://a/b", True),
        ("ws://u:p@a/", "wss://a:444/b", False),
        ("ws://u:p@a:81/", "wss://a/b", False),
        ("ws://u:p@a:81/", "wss://a:81/b", False),
        ("ws://u:p@a/", "ws://a:81/b", False),
        ("ws://u:p@a/", "ws://b/", False),
        ("ws://u:p@a/", "ws://a.b/", False),
        ("wss://u:p@a/", "https://b/", False),
    ],
)
def test_credentials_stay_with_their_origin(uri: str, location: str, same: bool) -> None:
    redirects = followed(uri, location)
    names = [name.lower() for name, _ in Headers(redirects.headers)]
    assert names == (["authorization", "cookie", "proxy-authorization", "x"] if same else ["x"])
    assert (redirects.uri.username, redirects.uri.password) == (("u", "p") if same else (None, None))


def test_credentials_do_not_come_back() -> None:
    redirects = Redirects(parse_uri("ws://u:p@a/"), SECRETS, 2)
    assert redirects.follow(response("ws://b/"))
    assert redirects.follow(response("ws://a/"))
    assert redirects.uri.username is None
    assert [name for name, _ in Headers(redirects.headers)] == ["X"]


def test_credentials_that_the_server_gives() -> None:
    uri = followed("ws://u:p@a/", "ws://v:q@b/").uri
    assert (uri.username, uri.password) == ("v", "q")


def test_the_limit() -> None:
    redirects = Redirects(parse_uri("ws://a/"), (), 2)
    assert redirects.follow(response("/1"))
    assert redirects.follow(response("/2"))
    assert not redirects.follow(response("/3"))
    assert "max_redirects=2" in redirects.advice
    assert "ws://a/3" in redirects.advice


@pytest.mark.parametrize(
    ("uri", "locations", "limit", "advice"),
    [
        ("ws://a/", ["/b"], 0, "it is at ws://a/b now: connect there, or follow it with max_redirects=1"),
        ("wss://a/", ["ws://a/b"], 5, "from wss to ws"),
        ("wss://a/", ["http://a/b"], 5, "from wss to ws"),
        ("ws://a/", ["/b", "/c"], 5, "there are several"),
        ("ws://a/", ["ftp://a/"], 5, "ftp:// is not a WebSocket URI"),
        ("ws://a/", ["http://[/"], 5, "cannot be followed"),
        ("ws://a/", ["http://b c/"], 5, "cannot be followed"),
        ("ws://a/", ["ws://u:s3cret@b/"], 0, "ws://b/"),
        ("ws://a/", ["/" + "x" * 5000], 0, "xxx... now"),
    ],
)
def test_what_is_not_followed(uri: str, locations: list[str], limit: int, advice: str) -> None:
    redirects = Redirects(parse_uri(uri), SECRETS, limit)
    assert not redirects.follow(response(*locations))
    assert advice in redirects.advice
    assert "s3cret" not in redirects.advice
    assert len(redirects.advice) < 400
    assert redirects.uri == parse_uri(uri)


@pytest.mark.parametrize(("value", "error"), [(-1, ValueError), (True, TypeError), (1.0, TypeError)])
def test_the_limit_is_a_number(value: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_redirects"):
        check_max_redirects(value)
