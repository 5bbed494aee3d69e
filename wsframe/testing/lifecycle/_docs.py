"""The page about endings, written from the table."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

from ..._enums import Cause, Initiator, State
from ..._events import CloseFrame, Disconnected
from ._row import Row
from ._table import ROWS

__all__ = ["endings_page"]

#: What the parts of the table are about: group -> heading and text.
_GROUPS = {
    "opening, server": (
        "Opening: a server, before there is a WebSocket",
        """\
`was_websocket` is False in all of these, and the code 1006, or 1015 where the TLS handshake failed. The phase is
CONNECTING until a complete request has come, and HANDSHAKE until it is answered. After a refusal the server discards
what still comes, until the peer ends its stream or for 2 seconds, so that the response arrives.""",
    ),
    "opening, client": (
        "Opening: a client, before there is a WebSocket",
        """\
`was_websocket` is False here, too. The phase is CONNECTING until the request has gone out, which is after TCP and TLS,
and then HANDSHAKE. From the adapters these endings come with the exception of `connect`, as `exc.ending`.""",
    ),
    "closing, the peer began": (
        "Closing: the peer began",
        """\
After both Close frames a server closes TCP at once, and a client waits for that.""",
    ),
    "closing, we began": (
        "Closing: we began",
        """\
`close_timeout` is one deadline for all of it: our Close leaves, the peer answers it, TCP is closed.""",
    ),
    "lost or dropped": (
        "Lost, or dropped by us",
        """\
No Close frame came. Messages that were complete before have been delivered.""",
    ),
    "failed by us": (
        "Failed by us",
        """\
The peer broke a rule or passed a limit, and a Close frame tells it so. What else it sends is discarded, until it ends
its stream or for 2 seconds, and nothing from the offending message on is delivered. Such an ending is never clean,
whatever the peer answers.""",
    ),
    "silence": (
        "Silence",
        """\
A peer that has vanished, one that has nothing to say, and one that does not take what is sent.""",
    ),
}

_FIELDS = (
    ("`cause`", "why it ended: the first terminal fact decides, and nothing later overwrites it"),
    ("`initiator`", "who made it end: `LOCAL`, `REMOTE`, or the `TRANSPORT` in between"),
    ("`phase`", "how far it had got: `CONNECTING`, `HANDSHAKE`, `OPEN` or `CLOSING`"),
    ("`clean`", "both Close frames were exchanged, and ours did not complain"),
    (
        "`code`, `reason`",
        "those of the Close that was received; 1005 when it had no code, 1006 without a Close frame (RFC 6455 s7.1.5)",
    ),
    ("`received`, `sent`", "the two Close frames, or None; `sent` means handed to the transport"),
    ("`received_first`", "their order; None when there was neither"),
    ("`was_websocket`", "the opening handshake had succeeded"),
    ("`error`", "the exception behind it, or None"),
    ("`last_received_age`", "seconds since the last received byte; None when none ever came"),
    ("`unanswered_ping`", "seconds for which a keepalive ping had waited for its answer, or None"),
)

_VIEWS = (
    ("ASGI", "`ending.asgi_event()`", "the `websocket.disconnect` event, with `code` and `reason`"),
    (
        "web pages",
        "`ending.close_event()`",
        "what a browser would tell: `code`, `reason` and `wasClean`; 1006 for whatever never opened",
    ),
    (
        "shells",
        "`ending.exit_status`",
        "0: closed cleanly with 1000, 1001 or no code; 1: ended in another way; 3: there never was a WebSocket",
    ),
    (
        "decisions",
        "`ending.ok`",
        "as exit status 0; iterating over messages ends quietly, and raises otherwise",
    ),
)

_INTRODUCTION = """\
# How connections end

*Written from the table in `wsframe/testing/lifecycle/` by `python tests/endings_page.py`; change it there.*

Every connection ends in exactly one `Disconnected`, always the last event, and it says what happened. With the adapters
it is `ws.ending`, the `ending` of `ConnectionClosed` and of the errors of `connect`, and what `on_end` is called with.

This page is the whole table of them: {count} rows, for servers and for clients. The tests play every one against the
core, on a virtual clock, with the bytes cut in different ways, and over sockets against the adapters as far as a peer
on a socket can cause it.

## What an ending says

{fields}

In words, `str(ending)`; for instance:

```text
{examples}
```

`repr(ending)` shows all fields. For others:

{views}

## How to read the table

*By* is the initiator, and *frames* are the Close frames in their order. *We send* is what goes out after our half of
the opening handshake, or instead of it, and how TCP ends: FIN means in order, so that a peer that reads gets every
byte; "dropped" means at once, by FIN or RST as the system will. *When* is the time after the last thing that happens;
names are those of the adapters' settings. (The times in what errors say are those of the tests.) What applications are
told alike stands below each part, with the reason.
"""

_BEFORE_COMPARISON = (
    "<!-- comparison: what `python -m wsframe lifecycle` found; docs/_endings_comparison.md -->"
)


def endings_page(comparison: str = "") -> str:
    """The text of ``docs/endings.md``.

    Args:
        comparison: Markdown, with a heading of level 2, for its end: what other libraries tell their applications.
    """
    introduction = _INTRODUCTION.format(
        count=len(ROWS),
        fields="\n".join(_table(("field", "says"), _FIELDS)),
        examples="\n".join(map(str, _examples())),
        views="\n".join(_table(("for", "there is", "which is"), _VIEWS)),
    )
    parts = [introduction]
    for group, rows in itertools.groupby(ROWS, key=lambda row: row.group):
        parts.append(_part(group, list(rows)))
    parts.append(_exceptions())
    parts.append(f"{_BEFORE_COMPARISON}\n" + (f"\n{comparison.strip()}\n" if comparison.strip() else ""))
    return "\n".join(parts)


def _examples() -> Iterator[Disconnected]:
    closed = Disconnected(
        phase=State.CLOSING,
        cause=Cause.CLOSE_HANDSHAKE,
        initiator=Initiator.REMOTE,
        clean=True,
        code=1000,
        reason="bye",
        received=CloseFrame(1000, "bye"),
        sent=CloseFrame(1000, ""),
        received_first=True,
        was_websocket=True,
        error=None,
        last_received_age=0.0,
    )
    yield closed
    lost = dataclasses.replace(
        closed,
        phase=State.OPEN,
        cause=Cause.PING_TIMEOUT,
        initiator=Initiator.LOCAL,
        clean=False,
        code=1006,
        reason="",
        received=None,
        sent=CloseFrame(1011, "keepalive ping timeout"),
        received_first=False,
        last_received_age=41.2,
        unanswered_ping=20.0,
    )
    yield lost
    yield dataclasses.replace(
        lost, cause=Cause.EOF, sent=None, received_first=None, last_received_age=3.1, unanswered_ping=None
    )
    yield dataclasses.replace(
        lost,
        cause=Cause.CLOSE_TIMEOUT,
        phase=State.CLOSING,
        sent=CloseFrame(1001, ""),
        last_received_age=10.0,
        unanswered_ping=None,
    )
    yield dataclasses.replace(
        lost,
        cause=Cause.INVALID_DATA,
        sent=CloseFrame(1007, "invalid UTF-8 in a text message"),
        unanswered_ping=None,
    )


# One part.


def _table(header: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for cells in (header, ("---",) * len(header), *lines):
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


_HEADER = (
    "what happens",
    "role",
    "phase",
    "cause",
    "by",
    "clean",
    "code",
    "frames",
    "error",
    "we send",
    "when",
)


def _part(group: str, rows: list[Row]) -> str:
    heading, text = _GROUPS[group]
    merged = list(_merged(rows))
    told = [(*_cells(row), role) for row, role in merged if row.same_as is None]
    lines = [f"## {heading}", "", text, ""]
    lines += _table(_HEADER, ((what, role, *rest) for what, *rest, role in told))
    alike = [_alike(row, role) for row, role in merged if row.same_as is not None]
    if alike:
        lines += ["", "Told alike:", "", *alike]
    return "\n".join(lines) + "\n"


def _merged(rows: Iterable[Row]) -> Iterator[tuple[Row, str]]:
    """Rows for both roles that say the same are one."""
    rest = list(rows)
    while rest:
        row = rest.pop(0)
        other = next((candidate for candidate in rest if _says(candidate) == _says(row)), None)
        if other is None:
            yield row, row.role.value
        else:
            rest.remove(other)
            yield row, "both"


def _says(row: Row) -> tuple[str, ...]:
    return (*_cells(row), _alike(row, "") if row.same_as else "")


def _cells(row: Row) -> tuple[str, ...]:
    """All cells but that of the role."""
    return (
        f"{row.what} (`{_slug(row.name)}`)",
        row.phase.name,
        row.cause.name,
        row.initiator.name,
        "yes" if row.clean else "no",
        str(row.code) + (f" {row.reason!r}" if row.reason else ""),
        _frames(row),
        _error(row),
        _wire(row),
        row.when,
    )


def _alike(row: Row, role: str) -> str:
    assert row.same_as is not None
    return f"- {row.what} (`{_slug(row.name)}`, {role}): as `{_slug(row.same_as)}`; {row.because}"


def _slug(name: str) -> str:
    return name.partition("/")[2]


def _frames(row: Row) -> str:
    frames = [
        f"{way} {'empty' if frame.code == 1005 else frame.code}"
        + (f" {frame.reason!r}" if frame.reason else "")
        for way, frame in (("received", row.received), ("sent", row.sent))
        if frame is not None
    ]
    if row.received_first is False:
        frames.reverse()
    return ", ".join(frames)


def _error(row: Row) -> str:
    if row.error is None:
        return ""
    told = row.sent is not None and row.says == row.sent.reason
    return f"`{row.error.__name__}`" + (f": {row.says}" if row.says and not told else "")


def _wire(row: Row) -> str:
    ends = {"FIN": ["FIN"], "dropped": ["dropped"], "lost": [], "kept": ["(it stays open)"]}
    return ", ".join([*row.wire, *ends[row.tcp]]) or "nothing"


# Where adapters can do less.


def _exceptions() -> str:
    found: dict[tuple[str, str], tuple[dict[str, None], dict[str, None]]] = {}
    for row in ROWS:
        for adapter, instead in row.except_on.items():
            like = f"as `{_slug(instead.like)}`" if instead.like else "does not happen"
            rows, adapters = found.setdefault((like, instead.because), ({}, {}))
            rows[f"`{_slug(row.name)}`"] = adapters[f"`wsframe.{adapter}`"] = None
    lines = [
        (", ".join(rows), ", ".join(adapters), like, because)
        for (like, because), (rows, adapters) in found.items()
    ]
    header = ("rows", "with", "instead", "because")
    return "\n".join(["## Where an adapter can do less", "", *_table(header, lines), ""])
