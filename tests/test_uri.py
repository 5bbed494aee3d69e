"""WebSocket URIs (RFC 6455 s3, RFC 3986)."""

from __future__ import annotations

import dataclasses
import re
import string
import traceback

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsframe._errors import WsframeError
from wsframe._uri import InvalidURI, WebSocketURI, parse_uri

U = WebSocketURI

GOOD = [
    ("ws://example.com", U(False, "example.com", 80, "/")),
    ("wss://example.com", U(True, "example.com", 443, "/")),
    ("WSS://Example.COM/Path", U(True, "example.com", 443, "/Path")),
    ("ws://example.com/", U(False, "example.com", 80, "/")),
    ("ws://example.com:8080/chat", U(False, "example.com", 8080, "/chat")),
    ("ws://example.com:/chat", U(False, "example.com", 80, "/chat")),
    ("ws://example.com:443", U(False, "example.com", 443)),
    ("ws://example.com:00080", U(False, "example.com", 80)),
    ("ws://example.com:65535", U(False, "example.com", 65535)),
    ("ws://example.com?a=b", U(False, "example.com", 80, "/?a=b")),
    ("ws://example.com/x?", U(False, "example.com", 80, "/x")),
    ("ws://example.com/x??", U(False, "example.com", 80, "/x??")),
    ("ws://example.com/x?a=b&c[]=/d?e:@", U(False, "example.com", 80, "/x?a=b&c[]=/d?e:@")),
    ("ws://example.com//x/../y", U(False, "example.com", 80, "//x/../y")),
    ("ws://example.com/%7Efoo%2f", U(False, "example.com", 80, "/%7Efoo%2f")),
    ("ws://example.com/é?ü=€", U(False, "example.com", 80, "/%C3%A9?%C3%BC=%E2%82%AC")),
    ('ws://example.com/"<>\\^`{|}', U(False, "example.com", 80, "/%22%3C%3E%5C%5E%60%7B%7C%7D")),
    ("ws://example.com/a;b=c,d!$&'()*+~", U(False, "example.com", 80, "/a;b=c,d!$&'()*+~")),
    ("ws://example.com./", U(False, "example.com.", 80)),
    ("ws://my_service:9/", U(False, "my_service", 9)),
    ("ws://" + "a" * 63, U(False, "a" * 63, 80)),
    ("ws://127.0.0.1:8765/", U(False, "127.0.0.1", 8765)),
    ("ws://[::1]", U(False, "::1", 80)),
    ("wss://[2001:DB8:0:0::1]:8443/x", U(True, "2001:db8::1", 8443, "/x")),
    ("ws://[::ffff:1.2.3.4]:80/", U(False, "::ffff:1.2.3.4", 80)),
    ("ws://[fe80::1%25eth0]:81/", U(False, "fe80::1%eth0", 81)),
    ("ws://münchen.example/", U(False, "xn--mnchen-3ya.example", 80)),
    ("ws://MÜNCHEN。example", U(False, "xn--mnchen-3ya.example", 80)),
    ("ws://xn--mnchen-3ya.example/", U(False, "xn--mnchen-3ya.example", 80)),
    ("ws://user@example.com", U(False, "example.com", 80, "/", "user")),
    ("ws://user:@example.com", U(False, "example.com", 80, "/", "user", "")),
    ("ws://@example.com", U(False, "example.com", 80, "/", "")),
    ("ws://us%40er:p%3Aa:s%2Fs@example.com:1/", U(False, "example.com", 1, "/", "us@er", "p:a:s/s")),
    ("ws://j%C3%BCrgen:ß@example.com", U(False, "example.com", 80, "/", "jürgen", "ß")),
    ("ws://user:pass@[::1]:1/", U(False, "::1", 1, "/", "user", "pass")),
    ("ws://example.com/@x:y", U(False, "example.com", 80, "/@x:y")),
]


# Spelled out, so that == does not hide what is not compared.
@pytest.mark.parametrize(("text", "uri"), GOOD, ids=[text for text, _ in GOOD])
def test_parse(text: str, uri: WebSocketURI) -> None:
    assert dataclasses.astuple(parse_uri(text)) == dataclasses.astuple(uri)


MUST_PORT = "the port must be a number from 1 to 65535"

BAD = [
    ("", "the URI has no scheme; it must begin with ws:// or wss://"),
    ("example.com", "the URI has no scheme; it must begin with ws:// or wss://"),
    ("//example.com/", "the URI has no scheme; it must begin with ws:// or wss://"),
    ("localhost:8765", "this is not a WebSocket URI; use ws:// or wss://"),
    ("http://example.com", "http:// is not a WebSocket URI; use ws:// or wss://"),
    ("HTTPS://example.com", "https:// is not a WebSocket URI; use ws:// or wss://"),
    ("ws:example.com", "ws: must be followed by // and a host"),
    ("wss:/example.com", "wss: must be followed by // and a host"),
    ("ws://", "the URI has no host"),
    ("ws:///x", "the URI has no host"),
    ("ws://:80/", "the URI has no host"),
    ("ws://user@", "the URI has no host"),
    ("ws://example.com/#", "a WebSocket URI has no fragment; write %23 if a # is meant"),
    ("ws://example.com#x", "a WebSocket URI has no fragment; write %23 if a # is meant"),
    ("ws://example.com/a b", "a URI cannot contain ' ' (position 18); percent-encode it if it is meant"),
    (" ws://example.com", "a URI cannot contain ' ' (position 0); percent-encode it if it is meant"),
    (
        "ws://example.com/\r\nX: y",
        "a URI cannot contain '\\r' (position 17); percent-encode it if it is meant",
    ),
    ("ws://exam\tple.com/", "a URI cannot contain '\\t' (position 9); percent-encode it if it is meant"),
    ("ws://example.com/\x00", "a URI cannot contain '\\x00' (position 17); percent-encode it if it is meant"),
    ("ws://example.com/\x85", "a URI cannot contain '\\x85' (position 17); percent-encode it if it is meant"),
    (
        "ws://example.com/\u3000",
        "a URI cannot contain '\\u3000' (position 17); percent-encode it if it is meant",
    ),
    ("ws://example.com/100%", "a % must be followed by two hexadecimal digits; write %25 if a % is meant"),
    ("ws://example.com/%zz", "a % must be followed by two hexadecimal digits; write %25 if a % is meant"),
    ("ws://example.com:0", MUST_PORT),
    ("ws://example.com:65536", MUST_PORT),
    ("ws://example.com:" + "9" * 5000, MUST_PORT),
    ("ws://example.com:-1", MUST_PORT),
    ("ws://example.com:+80", MUST_PORT),
    ("ws://example.com:8_0", MUST_PORT),
    ("ws://example.com:http", MUST_PORT),
    ("ws://example.com:٨٠", MUST_PORT),
    ("ws://::1/", "there is more than one colon in host and port; an IPv6 address needs brackets"),
    ("ws://[::1/", "the IPv6 address has no closing bracket"),
    ("ws://[::1]x/", "only a port may follow the closing bracket of an IPv6 address"),
    ("ws://[]/", "[] is not an IPv6 address"),
    ("ws://[1.2.3.4]/", "[1.2.3.4] is not an IPv6 address"),
    ("ws://[v1.x]/", "[v1.x] is not an IPv6 address"),
    ("ws://[fe80::1%25]/", "[fe80::1%25] is not an IPv6 address"),
    ("ws://[fe80::1%25a%2Fb]/", "[fe80::1%25a%2Fb] is not an IPv6 address"),
    ("ws://[::ffff:1.2.3.4%65]/", "[::ffff:1.2.3.4%65] is not an IPv6 address"),
    ("ws://[fe80::1%65th0]/", "[fe80::1%65th0] is not an IPv6 address"),
    ("ws://a..b/", "'a..b' is not a valid host"),
    ("ws://.a/", "'.a' is not a valid host"),
    ("ws://./", "'.' is not a valid host"),
    ("ws://ex%61mple.com/", "'ex%61mple.com' is not a valid host"),
    ("ws://a;b/", "'a;b' is not a valid host"),
    ("ws://a\\b/", "'a\\\\b' is not a valid host"),
    ("ws://a[b/", "'a[b' is not a valid host"),
    ("ws://" + "a" * 64, f"{'a' * 64!r} is not a valid host"),
    ("ws://" + "ü" * 64, f"{'ü' * 64!r} is not a valid host"),
    # Each label becomes "xn--tda", and the whole too long.
    ("ws://" + "ü." * 80, f"{'ü.' * 40!r} is not a valid host"),
    ("ws://" + "a." * 200, f"{'a.' * 40!r} is not a valid host"),
    ("ws://" + "ü." * 100000, f"{'ü.' * 40!r} is not a valid host"),
    # The IDNA codec makes "a/c" of this, which would end the host.
    ("ws://evil\u2100.example/", "'evil℀.example' is not a valid host"),
    ("ws://a\u2048b/", "'a⁈b' is not a valid host"),
    ("ws://\ud800/", "'\\ud800' is not a valid host"),
    ("ws://h/\ud800", "the URI contains a lone surrogate, which UTF-8 cannot carry"),
    ("ws://a@b@c/", "'@' in the user information must be percent-encoded"),
    ("ws://a[@c/", "'[' in the user information must be percent-encoded"),
    ("ws://%FF@c/", "the user information is not percent-encoded UTF-8"),
    ("ws://a%0D%0Ab@c/", "the user information must not contain control characters"),
    ("ws://a:b%00@c/", "the user information must not contain control characters"),
    ("ws://a%3Ab@c/", "the user name must not contain a colon"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[ascii(text[:30]) for text, _ in BAD])
def test_refuse(text: str, message: str) -> None:
    with pytest.raises(InvalidURI) as caught:
        parse_uri(text)
    assert str(caught.value) == message
    assert isinstance(caught.value, WsframeError)
    assert isinstance(caught.value, ValueError)
    assert "During handling" not in "".join(traceback.format_exception(caught.value))


def test_only_text_is_a_uri() -> None:
    with pytest.raises(TypeError, match="must be a str, not bytes"):
        parse_uri(b"ws://example.com")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "host", "origin", "shown"),
    [
        ("ws://h", "h", "http://h", "ws://h/"),
        ("ws://h:80/x", "h", "http://h", "ws://h/x"),
        ("ws://h:443", "h:443", "http://h:443", "ws://h:443/"),
        ("wss://h:443", "h", "https://h", "wss://h/"),
        ("wss://h:80", "h:80", "https://h:80", "wss://h:80/"),
        ("wss://[::1]", "[::1]", "https://[::1]", "wss://[::1]/"),
        ("ws://[::1]:8/", "[::1]:8", "http://[::1]:8", "ws://[::1]:8/"),
        ("ws://[fe80::1%25eth0]:8/", "[fe80::1]:8", "http://[fe80::1]:8", "ws://[fe80::1%25eth0]:8/"),
        ("ws://bücher/", "xn--bcher-kva", "http://xn--bcher-kva", "ws://xn--bcher-kva/"),
        ("ws://user:pass@h/x?y", "h", "http://h", "ws://h/x?y"),
    ],
)
def test_parts(text: str, host: str, origin: str, shown: str) -> None:
    uri = parse_uri(text)
    assert uri.host_header == host
    assert uri.origin == origin
    assert str(uri) == shown


def test_secrets_stay_out_of_logs() -> None:
    uri = parse_uri("ws://user:secret@h/")
    assert "secret" not in repr(uri)
    assert "secret" not in str(uri)
    for text in (
        "ws://user:secret@h:99999/",
        "ws://user:secret/@h/",
        "ws://user:secret#@h/",
        "ws://user:secret@@h/",
        "secret:x@h",
        "ws://user:secret%zz@h",
        "ws://user:secret%00@h",
    ):
        with pytest.raises(InvalidURI) as caught:
            parse_uri(text)
        assert "secret" not in str(caught.value)


LEGAL = re.compile(r"wss?://(\[[0-9a-f:.]+(%25[\w.~-]+)?\]|[a-z0-9_.-]+)(:[0-9]+)?/[\x21-\x7e]*")


@given(st.text() | st.text(string.printable).map("ws://".__add__) | st.text().map("ws://h/".__add__))
@example("ws://[::%25a]:1?")
def test_any_text_is_a_uri_or_refused(text: str) -> None:
    try:
        uri = parse_uri(text)
    except InvalidURI:
        return
    shown = str(uri)
    assert LEGAL.fullmatch(shown)
    assert uri.host_header.isascii()
    assert parse_uri(shown) == dataclasses.replace(uri, username=None, password=None)
