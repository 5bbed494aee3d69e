"""Whose request it is that a proxy passes on: `TrustedProxies`, free of I/O."""

from __future__ import annotations

import time
from typing import Any

import pytest

from wsframe import HandshakeError, Headers, Request
from wsframe._adapter._forwarded import TrustedProxies, proxies_for
from wsframe._adapter._peers import PeerSet

PROXY = ("10.0.0.1", 4711)


def seen(
    *headers: tuple[str, str],
    address: Any = PROXY,
    trusted: Any = ("10.0.0.0/8", "unix", "2001:db8:1::/48"),
    kind: str | None = None,
    target: str = "/",
) -> tuple[Any, str | None, str | None]:
    """Remote address, scheme and Host, as an application gets them."""
    request = Request("GET", target, [("Host", "inside"), *headers], body=b"x")
    request.came_from(address, "http")
    found = TrustedProxies(trusted, headers=kind).apply(request)
    assert (found.method, found.target, found.version, found.body) == ("GET", target, (1, 1), b"x")
    assert [line for line in found.headers if line[0] != "Host"] == list(Headers(headers))
    return found.remote_address, found.scheme, found.headers["Host"]


def x_for(*values: str) -> list[tuple[str, str]]:
    return [("X-Forwarded-For", value) for value in values]


def client(*values: str, **options: Any) -> Any:
    """The remote address that comes of X-Forwarded-For."""
    return seen(*x_for(*values), **options)[0]


def test_nobody_is_believed_who_is_not_trusted() -> None:
    lies = [
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.example"),
    ]
    addresses: list[Any] = [("192.0.2.1", 1), ("::1", 1, 0, 0), None, ("not an address", 1), (7, 1), ()]
    for address in addresses:
        assert seen(*lies, address=address) == (address, "http", "inside")
        assert seen(("Forwarded", "for=1.2.3.4;proto=https;host=evil.example"), address=address) == (
            address,
            "http",
            "inside",
        )
    addresses = ["", "/run/socket", b"\0name"]
    for address in addresses:
        assert seen(*lies, address=address, trusted=["10.0.0.0/8"]) == (address, "http", "inside")
        assert seen(*lies, address=address) == (("1.2.3.4", 0), "https", "evil.example")


def test_a_trusted_one_is() -> None:
    for address in (PROXY, ("::ffff:10.0.0.1", 1, 0, 0), ("2001:db8:1::1%eth0", 1, 0, 2), ""):
        assert seen(
            ("X-Forwarded-For", "192.0.2.7"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "www.example:8443"),
            address=address,
        ) == (("192.0.2.7", 0), "https", "www.example:8443")
    assert seen() == (PROXY, "http", "inside")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("192.0.2.7", ("192.0.2.7", 0)),
        (" 192.0.2.7 ", ("192.0.2.7", 0)),
        ("192.0.2.7:80", ("192.0.2.7", 80)),
        ("2001:db8::7", ("2001:db8::7", 0, 0, 0)),
        ("[2001:db8::7]", ("2001:db8::7", 0, 0, 0)),
        ("[2001:db8::7]:80", ("2001:db8::7", 80, 0, 0)),
        ("::ffff:192.0.2.7", ("192.0.2.7", 0)),
        # The first that is not trusted, from the right; what stands before it may be anybody's.
        ("9.9.9.9, 192.0.2.7", ("192.0.2.7", 0)),
        ("9.9.9.9, 192.0.2.7, 10.1.1.1, 10.2.2.2", ("192.0.2.7", 0)),
        ("9.9.9.9,192.0.2.7,2001:db8:1::5", ("192.0.2.7", 0)),
        # All of them are trusted: it is the first.
        ("10.1.1.1, 10.2.2.2", ("10.1.1.1", 0)),
        # It is not known who came to a proxy, so nobody before it is believed.
        ("9.9.9.9, unknown", PROXY),
        ("9.9.9.9, _secret, 10.2.2.2", ("10.2.2.2", 0)),
        ("9.9.9.9, ", PROXY),
        ("", PROXY),
        (",", PROXY),
        ("999.2.3.4", PROXY),
        ("1.2.3.4:99999", PROXY),
        ("1.2.3.4:x", PROXY),
        ("fe80::1%eth0", PROXY),
        ("[::1", PROXY),
        ("localhost", PROXY),
        ("é", PROXY),
        ("1", PROXY),
    ],
)
def test_x_forwarded_for(value: str, expected: Any) -> None:
    assert client(value) == expected


def test_several_lines_are_one_list() -> None:
    assert client("9.9.9.9", "192.0.2.7", "10.1.1.1") == ("192.0.2.7", 0)


def test_scheme_and_host_are_those_of_the_farthest_trusted_proxy() -> None:
    def of(*lines: tuple[str, str]) -> Any:
        return seen(*lines)[1:]

    route = ("X-Forwarded-For", "192.0.2.7, 10.2.2.2")
    # The inner proxy has set it, or passed on what the outer one has set.
    assert of(route, ("X-Forwarded-Proto", "https")) == ("https", "inside")
    # Both have added one.
    assert of(route, ("X-Forwarded-Proto", "https, http"), ("X-Forwarded-Host", "www.example, middle")) == (
        "https",
        "www.example",
    )
    # The client has, too.
    assert of(
        route,
        ("X-Forwarded-Proto", "https, http, http"),
        ("X-Forwarded-Host", "evil.example, www.example, middle"),
    ) == ("http", "www.example")
    assert of(("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Host", "evil.example, www.example")) == (
        "http",
        "www.example",
    )
    for scheme, expected in (("WSS", "https"), ("ws", "http"), ("ftp", "http"), ("", "http"), ("é", "http")):
        assert of(("X-Forwarded-Proto", scheme)) == (expected, "inside")
    for host in ("a b", "a/b", "user@host", "", "x\ty", "http://x", "ö"):
        assert of(("X-Forwarded-Host", host)) == ("http", "inside")
    assert of(("X-Forwarded-Host", "[::1]:80")) == ("http", "[::1]:80")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("for=192.0.2.7", (("192.0.2.7", 0), "http", "inside")),
        ("For=192.0.2.7;PROTO=HTTPS", (("192.0.2.7", 0), "https", "inside")),
        ('for="192.0.2.7:80"; host="www.example:80"', (("192.0.2.7", 80), "http", "www.example:80")),
        ('for="[2001:db8::7]:80"', (("2001:db8::7", 80, 0, 0), "http", "inside")),
        ('for="192.0.2\\.7"', (("192.0.2.7", 0), "http", "inside")),
        ("by=10.0.0.1;for=192.0.2.7;x=y", (("192.0.2.7", 0), "http", "inside")),
        ("for=9.9.9.9, for=192.0.2.7", (("192.0.2.7", 0), "http", "inside")),
        (
            "for=9.9.9.9;host=evil.example, for=192.0.2.7;proto=https;host=www.example , for=10.2.2.2;proto=http",
            (("192.0.2.7", 0), "https", "www.example"),
        ),
        # A quotation mark of the client's does not swallow what the proxy has added.
        ('for="9.9.9.9, for=192.0.2.7', (("192.0.2.7", 0), "http", "inside")),
        ('x="\\, for=192.0.2.7;by="a,b"', (("192.0.2.7", 0), "http", "inside")),
        # No address, and no element.
        ("for=unknown;proto=https", (PROXY, "https", "inside")),
        ("for=9.9.9.9, for=_hidden;host=www.example", (PROXY, "http", "www.example")),
        ("proto=https", (PROXY, "https", "inside")),
        ("for=9.9.9.9,", (PROXY, "http", "inside")),
        ("", (PROXY, "http", "inside")),
        ("for", (PROXY, "http", "inside")),
        ("for=", (PROXY, "http", "inside")),
        ("for=1.2.3.4 proto=https", (PROXY, "http", "inside")),
        ('for="1.2.3.4', (PROXY, "http", "inside")),
        ('host="a b"', (PROXY, "http", "inside")),
        (";;;for=192.0.2.7;", (("192.0.2.7", 0), "http", "inside")),
    ],
)
def test_forwarded(value: str, expected: Any) -> None:
    assert seen(("Forwarded", value)) == expected


def test_two_kinds_of_headers_are_not_believed_both() -> None:
    both = [("X-Forwarded-For", "192.0.2.7"), ("Forwarded", "for=198.51.100.8")]
    with pytest.raises(HandshakeError, match="both Forwarded and X-Forwarded") as caught:
        seen(*both)
    assert caught.value.status == 400
    assert seen(*both, kind="forwarded")[0] == ("198.51.100.8", 0)
    assert seen(*both, kind="x-forwarded")[0] == ("192.0.2.7", 0)
    assert seen(both[0], kind="forwarded")[0] == PROXY
    assert seen(both[1], kind="x-forwarded")[0] == PROXY
    # From elsewhere they mean nothing.
    assert seen(*both, address=("192.0.2.1", 1))[0] == ("192.0.2.1", 1)


def test_the_request_is_the_same_where_the_host_is() -> None:
    for host, same in (("inside", True), ("outside", False)):
        request = Request("GET", "/", [("Host", "inside"), ("X-Forwarded-Host", host)])
        request.came_from(PROXY, "http")
        assert (TrustedProxies(["10.0.0.1"]).apply(request) is request) is same


@pytest.mark.parametrize(
    "junk", [",", "10.0.0.1,", " ", "\t;", 'x="', "a=b;", ";", '",', "a=\\", '"', '="\\"']
)
@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded"])
def test_junk_takes_no_time(name: str, junk: str) -> None:
    value = (junk * (60_000 // len(junk))) + "x"
    began = time.perf_counter()
    seen((name, value))
    seen((name, value + ", for=10.0.0.1"))
    # Linear is a few milliseconds, quadratic would be minutes.
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("proxies", "error", "message"),
    [
        ("10.0.0.1", TypeError, r"one is written \['10.0.0.1'\]"),
        (["10.0.0.1/8"], ValueError, "has host bits set"),
        (["proxy.example"], ValueError, "neither an address nor a network nor 'unix'"),
        ([7], TypeError, "an address or a network is a str, not 7"),
    ],
)
def test_wrong_proxies(proxies: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TrustedProxies(proxies)
    with pytest.raises(error, match=message):
        proxies_for(proxies)


def test_the_argument_of_serve() -> None:
    assert proxies_for(()) is None
    trusted = TrustedProxies(["10.0.0.1"])
    assert proxies_for(trusted) is trusted
    assert isinstance(proxies_for(iter(["unix"])), TrustedProxies)
    with pytest.raises(ValueError, match="headers must be"):
        TrustedProxies((), headers="X-Forwarded-For")


def test_a_set_of_peers_can_be_changed() -> None:
    peers = PeerSet(["10.0.0.0/8", "192.0.2.1", "unix"])
    assert ("10.1.2.3", 1) in peers
    assert ("192.0.2.1", 1) in peers
    assert ("192.0.2.2", 1) not in peers
    assert "" in peers
    for peer in ("10.0.0.0/8", "192.0.2.1", "unix", "9.9.9.9", "9.0.0.0/8"):
        peers.discard(peer)
    assert ("10.1.2.3", 1) not in peers
    assert ("192.0.2.1", 1) not in peers
    assert "" not in peers
    peers.add("::ffff:192.0.2.9")
    assert ("192.0.2.9", 1) in peers
    with pytest.raises(ValueError, match="nonsense"):
        peers.discard("nonsense")
