"""Proxies without I/O: their URLs, which one is taken, and the conversation with an HTTP proxy."""

from __future__ import annotations

import pickle

import pytest

from wsframe import Limits, parse_uri
from wsframe._adapter._proxy import (
    InvalidProxy,
    Proxy,
    ProxyFailure,
    Tunnel,
    is_loopback,
    parse_proxy,
    proxy_for,
)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128)),
        ("HTTP://Proxy.Example/", Proxy("http", "proxy.example", 80)),
        ("http://a%40b:c%3Ad@p:1", Proxy("http", "p", 1, "a@b", "c:d")),
        ("http://a@p", Proxy("http", "p", 80, "a")),
        ("socks5h://[::1]", Proxy("socks5h", "::1", 1080)),
        ("socks5://a:b@p:9", Proxy("socks5", "p", 9, "a", "b")),
        ("socks4a://a@p", Proxy("socks4a", "p", 1080, "a")),
        ("socks4://10.0.0.1", Proxy("socks4", "10.0.0.1", 1080)),
    ],
)
def test_the_url_of_a_proxy(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url) == proxy


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must begin with"),
        ("proxy.example:3128", "must begin with"),
        ("ftp://p", "socks4a://"),
        ("https://p", "not supported"),
        ("http://", "no host"),
        ("http://p:0", "port"),
        ("http://p:s3cret", "port"),
        ("http://p/path", "nothing behind it"),
        ("http://p?q", "nothing behind it"),
        ("http://p#f", "nothing behind it"),
        ("http://a:s3cr/t@p", "nothing behind it"),
        ("http://a:s3c ret@p", "nothing behind it"),
        ("http://a:s3c%ret@p", "nothing behind it"),
        ("http://a:s3c%0Aret@p", "control"),
        ("http://p\r\n", "nothing behind it"),
        ("socks5://a@p", "password"),
        ("socks5://a:@p", "1 to 255"),
        ("socks5://a:s%C3%A9cret@p", "ASCII"),
        (f"socks5://a:{'s' * 256}@p", "1 to 255"),
        ("socks4://a:s3cret@p", "no passwords"),
    ],
)
def test_what_is_no_proxy(url: str, why: str) -> None:
    for variable in (None, "all_proxy"):
        if variable and not url.partition(":")[2].startswith("//"):
            continue
        with pytest.raises(InvalidProxy, match=why) as caught:
            parse_proxy(url, variable)
        assert "s3c" not in str(caught.value)
        assert str(caught.value).startswith(f"{variable} in the environment" if variable else "proxy")


@pytest.mark.parametrize("value", [False, 1, b"http://p", None])
def test_a_proxy_is_a_str(value: str) -> None:
    with pytest.raises(TypeError, match="proxy must be"):
        parse_proxy(value)


def test_what_is_shown_of_a_proxy() -> None:
    proxy = parse_proxy("http://ada:s3cret@[::1]:3128")
    assert str(proxy) == "http://[::1]:3128"
    assert "s3cret" not in repr(proxy)
    assert str(parse_proxy("p:3128", "http_proxy")) == "http://p:3128 (from http_proxy in the environment)"


def test_the_environment_leaves_the_scheme_out() -> None:
    ws = parse_uri("ws://example.org/")
    for name, scheme in (("http", "http"), ("all", "http"), ("socks", "socks5h")):
        assert proxy_for(ws, {name: "p:1"}) == Proxy(scheme, "p", 1, variable=f"{name}_proxy")
    # What the settings of macOS come as.
    assert proxy_for(ws, {"socks": "http://p:1"}) == Proxy("socks5h", "p", 1, variable="socks_proxy")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("localhost.", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.255.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost.example", False),
        ("notlocalhost", False),
        ("10.0.0.1", False),
        ("::2", False),
        ("fe80::1%eth0", False),
        ("example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


# The tunnel.


def tunnel(url: str = "http://p:3128", uri: str = "wss://example.org/") -> Tunnel:
    return Tunnel(parse_proxy(url), parse_uri(uri), "agent", Limits())


def test_the_request() -> None:
    assert tunnel().request == (
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\nUser-Agent: agent\r\n\r\n"
    )
    assert b"\r\nProxy-Authorization: Basic YTpi\r\n" in tunnel("http://a:b@p").request
    assert b"\r\nProxy-Authorization: Basic YTo=\r\n" in tunnel("http://a@p").request
    assert tunnel(uri="ws://[fe80::1%25eth0]:1/").request.startswith(b"CONNECT [fe80::1]:1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200\r\n\r\n",
        # RFC 9110 s9.3.6: any 2xx; and Content-Length and Transfer-Encoding mean nothing there.
        b"HTTP/1.1 204 Whatever\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_the_way_is_open_at_the_end_of_the_head(answer: bytes) -> None:
    assert tunnel().receive(answer)
    conversation = tunnel()
    for end in range(1, len(answer)):
        assert not conversation.receive(answer[end - 1 : end])
    assert conversation.receive(answer[-1:])


@pytest.mark.parametrize(
    ("pieces", "text", "status"),
    [
        ([b"HTTP/1.1 403 Forbidden\r\n\r\n"], "answered 403 Forbidden", 403),
        ([b"HTTP/1.1 502 \r\nContent-Length: 100\r\n\r\nhalf"], "answered 502", 502),
        ([b"HTTP/1.1 407 X\r\n\r\n"], "USER:PASSWORD", 407),
        ([b"HTTP/1.1 101 Switching Protocols\r\n\r\n"], "answered 101", 101),
        ([b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n"], "answered 302", 302),
        ([b""], "without an answer", None),
        ([b"HTTP/1.1 200 OK\r\n", b""], "without an answer", None),
        ([b"SSH-2.0\r\n"], "invalid answer", None),
        ([b"HTTP/1.1 200 OK\r\n\r\n\x16"], "before the server", None),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000], "invalid answer", None),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" * 50], "invalid answer", None),
    ],
)
def test_the_way_is_closed(pieces: list[bytes], text: str, status: int | None) -> None:
    conversation = tunnel("http://p:3128")
    with pytest.raises(ProxyFailure, match=text) as caught:
        assert [conversation.receive(piece) for piece in pieces] == []
    assert "http://p:3128" in str(caught.value)
    assert caught.value.status == status
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.status) == (ProxyFailure, str(caught.value), status)


def test_wrong_credentials_are_not_shown() -> None:
    with pytest.raises(ProxyFailure, match="does not take this") as caught:
        tunnel("http://ada:s3cret@p").receive(b"HTTP/1.1 407 No\r\n\r\n")
    assert "s3cret" not in str(caught.value)
