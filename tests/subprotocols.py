"""The table of subprotocol negotiation, for the core and for what is above it."""

from __future__ import annotations

from typing import Any

from wsframe import Request

__all__ = ["ANSWERS", "OFFERS"]


def prefer_last(_: Request, offered: tuple[str, ...]) -> str | None:
    return offered[-1] if offered else None


#: To a server: the request's header lines, what it supports, and what it chooses, or the status of its refusal.
OFFERS: list[tuple[list[str], Any, str | int | None]] = [
    ([], [], None),
    ([], ["a"], None),
    (["a"], [], None),
    (["a"], ["a"], "a"),
    (["a"], ["b"], None),
    (["a"], ["A"], None),
    (["a, b"], ["b", "a"], "b"),
    (["b, a"], ["a", "b"], "a"),
    (["a,b ,\tc"], ["c"], "c"),
    (["a", "b"], ["b"], "b"),
    (["a", "b, c"], ["x", "c", "a"], "c"),
    ([" , a,, "], ["a"], "a"),
    ([""], ["a"], None),
    (["a.b/c"], ["a.b"], 400),
    (["a, a"], ["a"], 400),
    (["a", "a"], [], 400),
    (["a b"], ["a"], 400),
    (['"a"'], ["a"], 400),
    (["a;q=1"], ["a"], 400),
    (["ä"], ["a"], 400),
    (["v1.json.example.com"], ("v1.json.example.com",), "v1.json.example.com"),
    (["a, b"], prefer_last, "b"),
    ([], prefer_last, None),
    (["a"], lambda request, offered: None, None),
    (["a"], lambda request, offered: "a" if request.target == "/chat" else None, "a"),
]

#: To a client: what it offers, the header lines of the answer, and what is wrong with them.
ANSWERS: list[tuple[list[str], list[str], str | None]] = [
    (["a", "b"], ["b"], None),
    (["a"], [], None),
    ([], ["a"], "offered: none"),
    (["a"], ["b"], "'b'; offered: a"),
    (["a"], ["A"], "'A'; offered: a"),
    (["a"], [""], "''; offered: a"),
    ([], [""], "''; offered: none"),
    (["a", "b"], ["a, b"], "'a, b'; offered: a, b"),
    (["a", "b"], ["a", "b"], "2 subprotocols"),
    (["a"], ["a", "a"], "2 subprotocols"),
]
