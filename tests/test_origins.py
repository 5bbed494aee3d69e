"""The rule about the Origin header (RFC 6455 s4.2.1 item 7, s10.2; RFC 6454)."""

from __future__ import annotations

import re
from typing import Any

import pytest

import framebuilder as fb
from wsframe import ANY_ORIGIN, SAME_HOST, Handshake, Rejection, Request, negotiate


def judge(
    origins: Any, *values: str, host: str = "server.example.com", target: str = "/"
) -> Handshake | Rejection:
    headers = [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", fb.SAMPLE_KEY),
        ("Sec-WebSocket-Version", "13"),
        *(("Origin", value) for value in values),
    ]
    return negotiate(Request("GET", target, headers), origins=origins)


def is_allowed(outcome: Handshake | Rejection) -> bool:
    assert isinstance(outcome, Handshake) or outcome.status == 403
    return isinstance(outcome, Handshake)


HOST_ROWS = [
    ("server.example.com", "http://server.example.com", True),
    ("server.example.com", "https://server.example.com", True),
    ("server.example.com", "https://SERVER.Example.com", True),
    ("SERVER.example.com", "https://server.example.com", True),
    ("server.example.com:80", "http://server.example.com", True),
    ("server.example.com:443", "https://server.example.com", True),
    ("server.example.com", "http://server.example.com:80", True),
    ("server.example.com:8080", "http://server.example.com:8080", True),
    ("server.example.com:8080", "http://server.example.com", False),
    ("server.example.com", "http://server.example.com:8080", False),
    ("server.example.com:8080", "http://server.example.com:8081", False),
    ("server.example.com", "http://evil.example.com", False),
    ("server.example.com", "http://server.example.com.evil.com", False),
    ("server.example.com", "http://example.com", False),
    ("server.example.com", "http://server.example.com@evil.com", False),
    ("server.example.com", "http://evil.com/server.example.com", False),
    ("server.example.com", "http://server.example.com/", False),
    ("server.example.com", "server.example.com", False),
    ("server.example.com", "null", False),
    ("server.example.com", "", False),
    ("server.example.com", "http://", False),
    ("[::1]", "http://[::1]", True),
    ("[::1]:80", "http://[::1]", True),
    ("[::1]:8080", "http://[::1]:8080", True),
    ("[::1]", "http://[::1]:8080", False),
    ("[::1]", "http://[::2]", False),
    ("[FE80::1]", "https://[fe80::1]:443", True),
    ("[::80]", "http://[::80]", True),
    ("localhost:80:443", "http://localhost", None),
    ("x:80", "http://x:443:80", False),
    ("127.0.0.1:8765", "http://127.0.0.1:8765", True),
    ("127.0.0.1:8765", "http://localhost:8765", False),
]


@pytest.mark.parametrize(("host", "origin", "allowed"), HOST_ROWS)
def test_s10_2_same_host(host: str, origin: str, allowed: bool | None) -> None:
    outcome = judge(SAME_HOST, origin, host=host)
    assert isinstance(outcome, Handshake) is bool(allowed)
    if isinstance(outcome, Rejection):
        assert outcome.status == (400 if allowed is None else 403)
        if allowed is False:
            # Both sides, the setting, and the usual reason.
            for part in (repr(origin), repr(host), "'origins'", "proxy", "rewritten the Host header"):
                assert part in outcome.body


def test_s10_2_without_an_origin_it_is_no_browser() -> None:
    for origins in (SAME_HOST, ANY_ORIGIN, [], ["http://a"]):
        assert is_allowed(judge(origins))


def test_any_origin() -> None:
    for origin in ("null", "http://evil.example.com", ""):
        assert is_allowed(judge(ANY_ORIGIN, origin))


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        (["https://a.example"], "https://a.example", True),
        (["https://a.example"], "https://A.example", True),
        (["https://A.Example"], "https://a.example", True),
        (["https://a.example:443"], "https://a.example", True),
        (["http://a.example:80"], "http://a.example", True),
        (["http://a.example:443"], "http://a.example", False),
        (["https://a.example"], "http://a.example", False),
        (["https://a.example"], "https://a.example:8443", False),
        (["https://a.example"], "https://b.a.example", False),
        (["https://a.example"], "https://server.example.com", False),
        (["https://b.example", "https://a.example"], "https://a.example", True),
        ({"https://a.example"}, "https://a.example", True),
        ([], "http://server.example.com", False),
        (["http://a.example"], "null", False),
        (["null"], "null", True),
        (["file://"], "file://", True),
        ([re.compile(r"https://[a-z]+\.example")], "https://abc.example", True),
        ([re.compile(r"https://[a-z]+\.example")], "https://abc.example.evil", False),
        ([re.compile(r"https://[a-z]+\.example")], "xhttps://abc.example", False),
        ([re.compile(r"https://[a-z]+\.example")], "https://ABC.example", False),
        ([re.compile(r"https://a\.example", re.IGNORECASE), "http://b"], "HTTPS://A.example", True),
    ],
)
def test_s10_2_allowed_origins(allowed: Any, origin: str, expected: bool) -> None:
    outcome = judge(allowed, origin)
    assert is_allowed(outcome) is expected
    if isinstance(outcome, Rejection):
        assert repr(origin) in outcome.body
        assert "'origins'" in outcome.body


@pytest.mark.parametrize("origins", [SAME_HOST, ["http://server.example.com"]])
def test_two_origins(origins: Any) -> None:
    outcome = judge(origins, *["http://server.example.com"] * 2)
    assert isinstance(outcome, Rejection)
    assert outcome.status == 400


def test_rfc_9112_s3_2_2_the_host_of_an_absolute_target_counts() -> None:
    for target in ("http://real.example:80/chat?x", "HTTP://real.example?x", "http://real.example"):
        assert is_allowed(judge(SAME_HOST, "http://real.example", target=target))
        assert not is_allowed(judge(SAME_HOST, "http://server.example.com", target=target))
    assert not is_allowed(judge(SAME_HOST, "http://real.example", target="/http://real.example/"))
