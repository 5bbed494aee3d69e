"""Sec-WebSocket-Extensions: grammar, formatting, and negotiation (RFC 6455 s9)."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsframe import HandshakeError, _extension
from wsframe._extension import (
    MAX_ITEMS,
    MAX_PARAMS,
    ExtensionItem,
    Params,
    check_extensions,
    format_extensions,
    negotiate_extensions,
    offer_extensions,
    parse_extensions,
)

Item = ExtensionItem


GOOD: list[tuple[list[str], list[ExtensionItem]]] = [
    ([], []),
    ([""], []),
    (["  \t "], []),
    ([",,", " , \t,"], []),
    (["foo"], [Item("foo")]),
    (["foo, bar; baz=2"], [Item("foo"), Item("bar", (("baz", "2"),))]),  # s9.1's own example
    (["foo; a"], [Item("foo", (("a", None),))]),
    (["foo;a;b=1;c"], [Item("foo", (("a", None), ("b", "1"), ("c", None)))]),
    (["foo; a; a=1"], [Item("foo", (("a", None), ("a", "1")))]),
    ([' foo\t;\ta = "1" , bar '], [Item("foo", (("a", "1"),)), Item("bar")]),
    ([r'foo; a="\1\0"'], [Item("foo", (("a", "10"),))]),
    (["foo", "bar; x=y", "foo; z"], [Item("foo"), Item("bar", (("x", "y"),)), Item("foo", (("z", None),))]),
    ([",foo,,bar,"], [Item("foo"), Item("bar")]),
    (["!#$%&'*+-.^_`|~09azAZ"], [Item("!#$%&'*+-.^_`|~09azAZ")]),
    ([", ".join(["x"] * MAX_ITEMS)], [Item("x")] * MAX_ITEMS),
    (["x" + ";y" * MAX_PARAMS], [Item("x", (("y", None),) * MAX_PARAMS)]),
]


@pytest.mark.parametrize(("lines", "items"), GOOD)
def test_good_headers(lines: list[str], items: list[ExtensionItem]) -> None:
    assert parse_extensions(lines) == items


BAD: list[tuple[list[str], int, int, str]] = [
    ([";"], 1, 0, "name is missing"),
    (["=a"], 1, 0, "name is missing"),
    (["foo, ;a"], 1, 5, "name is missing"),
    (["foo", "b\xe4r"], 2, 1, "unexpected text"),
    (["foo bar"], 1, 4, "unexpected text"),
    (["foo;"], 1, 3, "parameter's name is missing"),
    (["foo;;a"], 1, 3, "parameter's name is missing"),
    (["foo; a; , bar"], 1, 6, "parameter's name is missing"),
    (["foo; =1"], 1, 3, "parameter's name is missing"),
    (["foo; a="], 1, 6, "value is neither"),
    (["foo; a=,b"], 1, 6, "value is neither"),
    (["foo; a =;b"], 1, 7, "value is neither"),
    (['foo; a="1'], 1, 6, "value is neither"),
    (['foo; a="1\\"'], 1, 6, "value is neither"),
    (['foo; a=""'], 1, 7, "not a token"),
    (['foo; a="1 2"'], 1, 7, "not a token"),
    (['foo; a="1,2"'], 1, 7, "not a token"),
    (['foo; a="\\""'], 1, 7, "not a token"),
    (['foo; a="1"2'], 1, 10, "unexpected text"),
    (["foo=1"], 1, 3, "value is neither"),
    (["foo\r\nX: y"], 1, 3, "unexpected text"),
    (["foo\n"], 1, 3, "unexpected text"),
    (["foo\x00"], 1, 3, "unexpected text"),
    (["föö"], 1, 1, "unexpected text"),
    ([", ".join(["x"] * (MAX_ITEMS + 1))], 1, 3 * MAX_ITEMS, f"over {MAX_ITEMS} extensions"),
    (["x"] * (MAX_ITEMS + 1), MAX_ITEMS + 1, 0, f"over {MAX_ITEMS} extensions"),
    (["x" + ";y" * (MAX_PARAMS + 1)], 1, 1 + 2 * MAX_PARAMS, f"over {MAX_PARAMS} parameters"),
]


@pytest.mark.parametrize(("lines", "line", "offset", "what"), BAD)
def test_bad_headers_say_what_and_where(lines: list[str], line: int, offset: int, what: str) -> None:
    with pytest.raises(HandshakeError, match=what) as caught:
        parse_extensions(lines)
    assert f"line {line}, offset {offset}:" in str(caught.value)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()
    assert caught.value.status is None


tokens = st.from_regex(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,8}", fullmatch=True)
params = st.lists(st.tuples(tokens, st.none() | tokens), max_size=5).map(tuple)
items = st.builds(ExtensionItem, tokens, params)


@given(st.lists(items, max_size=8))
def test_what_is_written_is_read(given_items: list[ExtensionItem]) -> None:
    assert parse_extensions([format_extensions(given_items)]) == given_items
    assert parse_extensions(format_extensions([item]) for item in given_items) == given_items


@given(st.lists(items, max_size=4), st.data())
def test_quotes_and_spaces_change_nothing(given_items: list[ExtensionItem], data: st.DataObject) -> None:
    spaces = st.text(" \t", max_size=3)

    def write(item: ExtensionItem) -> Iterator[str]:
        yield item.name
        for name, value in item.params:
            yield data.draw(spaces) + ";" + data.draw(spaces) + name
            if value is not None:
                escaped = "".join(data.draw(st.sampled_from([c, "\\" + c])) for c in value)
                yield data.draw(spaces) + "=" + data.draw(spaces) + '"' + escaped + '"'

    commas = [data.draw(st.text(" \t,", max_size=3)) for _ in range(len(given_items) + 1)]
    text = ",".join("".join(write(item)) + comma for item, comma in zip(given_items, commas, strict=False))
    assert parse_extensions([commas[-1] + text]) == given_items


@given(
    st.lists(st.one_of(st.text(max_size=40), st.text('ab,;= "\\\t\x00\n\xe4', max_size=40)), max_size=4),
)
@example(['a; b="'])
@example(["a" * 70000])
def test_any_text_is_a_list_or_a_handshake_error(lines: list[str]) -> None:
    try:
        found = parse_extensions(lines)
    except HandshakeError:
        return
    assert parse_extensions([format_extensions(found)]) == found


class CountingPattern:
    """Counts what it is asked, and checks that nobody goes back."""

    def __init__(self, pattern: re.Pattern[str], counts: dict[str, int]) -> None:
        self.pattern = pattern
        self.counts = counts

    def match(self, text: str, position: int) -> re.Match[str] | None:
        self.counts["calls"] += 1
        assert position >= self.counts["furthest"]
        found = self.pattern.match(text, position)
        if found is None:
            self.counts["failed"] += 1
        else:
            self.counts["furthest"] = found.end()
        return found

    def fullmatch(self, text: str) -> re.Match[str] | None:
        return self.pattern.fullmatch(text)


PATTERNS = ["_token", "_separators", "_parameter", "_spaces"]


@pytest.mark.parametrize(
    "unit",
    [
        ";",
        ",",
        " ",
        "a,",
        ",a",
        "a;",
        "a;b",
        ";b",
        "a;b=",
        'a;b="',
        'a;b="c",',
        "\\",
        'a="\\',
        "a ",
        ", ,\t",
        "=",
    ],
)
@pytest.mark.parametrize("prefix", ["", "a", "a;b", 'a;b="', "a;b=", "a;"])
def test_work_is_linear(monkeypatch: pytest.MonkeyPatch, prefix: str, unit: str) -> None:
    """One scan from left to right: a match begins where the one before ended, and few fail."""
    text = (prefix + unit * 16384)[:16384]
    counts = {"calls": 0, "failed": 0, "furthest": 0}
    for name in PATTERNS:
        monkeypatch.setattr(_extension, name, CountingPattern(getattr(_extension, name), counts))
    with contextlib.suppress(HandshakeError):
        parse_extensions([text])
    # Every element ends with one parameter that is not there.
    assert counts["failed"] <= MAX_ITEMS + 1
    assert counts["calls"] <= (MAX_ITEMS + 1) * (MAX_PARAMS + 5)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_can_backtrack(name: str) -> None:
    """Each quantifier is possessive, so that one match looks at a character a fixed number of times."""
    parser: Any = importlib.import_module("re._parser")

    def operators(node: Any) -> Iterator[str]:
        if isinstance(node, (list, tuple, parser.SubPattern)):
            for child in node:
                yield from operators(child)
        elif type(node).__name__ == "_NamedIntConstant":
            yield str(node)

    used = set(operators(parser.parse(getattr(_extension, name).pattern, re.DOTALL)))
    assert "POSSESSIVE_REPEAT" in used
    assert not used & {"MAX_REPEAT", "MIN_REPEAT"}


def test_items_are_values() -> None:
    assert Item("a") == Item("a", ())
    assert len({Item("a"), Item("a"), Item("b")}) == 2
    with pytest.raises(FrozenInstanceError):
        Item("a").name = "b"  # type: ignore[misc]


def test_format() -> None:
    assert format_extensions([]) == ""
    assert format_extensions([Item("a"), Item("b", (("c", None), ("d", "1")))]) == "a, b; c; d=1"


@pytest.mark.parametrize(
    "item",
    [
        Item(""),
        Item("a b"),
        Item("a", (("b\r\n", None),)),
        Item("a", (("b", "c,d"),)),
        Item("a", (("b", ""),)),
    ],
)
def test_format_takes_only_tokens(item: ExtensionItem) -> None:
    with pytest.raises(ValueError, match="is not a token"):
        format_extensions([item])


class Fake:
    """An extension and its settings in one: takes offers that have its `wants`."""

    min_size = 0

    def __init__(self, name: str, wants: Params = (), offered: list[Params] | None = None) -> None:
        self.name = name
        self.params: Params = ()
        self.wants = wants
        self.offered: list[Params] = [()] if offered is None else offered

    def offers(self) -> list[Params]:
        return self.offered

    def accept_offer(self, params: Params) -> Fake | None:
        return self.agree(params) if set(self.wants) <= set(params) else None

    def accept_response(self, params: Params) -> Fake:
        if not set(self.wants) <= set(params):
            raise HandshakeError("wants more")
        return self.agree(params)

    def agree(self, params: Params) -> Fake:
        agreed = Fake(self.name)
        agreed.params = params
        return agreed

    def encode(self, data: bytes, *, first: bool, final: bool) -> bytes:
        return data

    def decode(self, data: bytes, *, final: bool, limit: int) -> bytes:
        return data


def test_offer() -> None:
    assert offer_extensions([]) is None
    assert offer_extensions([Fake("a", offered=[])]) is None
    two = [Fake("a", offered=[(("x", "1"),), ()]), Fake("b")]
    assert offer_extensions(two) == "a; x=1, a, b"


NEGOTIATED: list[tuple[list[str], list[Fake], str | None]] = [
    ([], [Fake("a")], None),
    (["a"], [], None),
    (["a"], [Fake("b")], None),
    (["a"], [Fake("a")], "a"),
    (["A"], [Fake("a")], None),
    (["z, a; x=1"], [Fake("a")], "a; x=1"),
    # The client's order decides, not ours.
    (["b, a"], [Fake("a"), Fake("b")], "b"),
    (["b", "a"], [Fake("a"), Fake("b")], "b"),
    # The first acceptable offer, and only one.
    (["a; y, a; x, a; x; y"], [Fake("a", (("x", None),))], "a; x"),
    (["a; y, a"], [Fake("a", (("x", None),))], None),
    (["a; y, b"], [Fake("a", (("x", None),)), Fake("b")], "b"),
    (["a, b"], [Fake("a"), Fake("b")], "a"),
]


@pytest.mark.parametrize(("lines", "factories", "response"), NEGOTIATED)
def test_server_negotiation(lines: list[str], factories: list[Fake], response: str | None) -> None:
    agreed, header = negotiate_extensions(lines, factories)
    assert header == response
    assert len(agreed) == (response is not None)
    if response is not None:
        assert [ExtensionItem(agreed[0].name, agreed[0].params)] == parse_extensions([response])
        # What a server agrees to is what the client takes.
        assert [(e.name, e.params) for e in check_extensions([response], factories)] == [
            (agreed[0].name, agreed[0].params)
        ]


@pytest.mark.parametrize("lines", [["a;"], ["a", "b="], ["a," * 33]])
@pytest.mark.parametrize("factories", [[], [Fake("a")]])
def test_server_refuses_a_broken_header(lines: list[str], factories: list[Fake]) -> None:
    with pytest.raises(HandshakeError) as caught:
        negotiate_extensions(lines, factories)
    assert caught.value.status == 400


def test_client_takes_nothing_for_nothing() -> None:
    assert check_extensions([], []) == []
    assert check_extensions([""], [Fake("a")]) == []


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["b"], "b, which was not offered"),
        (["a", "b"], "b, which was not offered"),
        (["A"], "A, which was not offered"),
        (["a, a"], "a twice"),
        (["a", "a; x"], "a twice"),
        (["a, c"], "a and c, and both use RSV1"),
        (["a;"], "parameter's name is missing"),
        (["d"], "wants more"),
    ],
)
def test_client_refuses(lines: list[str], what: str) -> None:
    with pytest.raises(HandshakeError, match=what):
        check_extensions(lines, [Fake("a"), Fake("c"), Fake("d", (("x", None),))])


def test_two_settings_of_one_name_are_a_mistake() -> None:
    two = [Fake("a"), Fake("a")]
    with pytest.raises(ValueError, match="two extension settings have the name 'a'"):
        offer_extensions(two)
    with pytest.raises(ValueError, match="two extension settings"):
        negotiate_extensions([], two)
    with pytest.raises(ValueError, match="two extension settings"):
        check_extensions([], two)
