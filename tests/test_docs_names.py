"""Every public name of the asyncio adapter stands on a page in docs/, as code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from wsframe import aio
from wsframe._adapter._settings import ConnectionOptions

DOCS = Path(__file__).resolve().parents[1] / "docs"


def code_of(text: str) -> str:
    """What stands in backticks and in blocks."""
    blocks = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", rest)])


CODE = "\n".join(code_of(page.read_text(encoding="utf-8")) for page in sorted(DOCS.glob("*.md")))


def is_documented(name: str, code: str = CODE) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", code) is not None


#: The arguments, apart from those that are named by all that calls them.
ARGUMENTS = sorted(
    {
        name
        for function in (aio.serve, aio.connect, aio.broadcast, aio.RetryPolicy, aio.Accept, aio.Route)
        for name in inspect.signature(function).parameters
        if name != "self"
    }
    | ConnectionOptions.__annotations__.keys()
)

#: Attributes that are for other parts of the adapter, although their names have no underscore.
INTERNAL = {
    *("check_caller", "disconnect_slow", "give_up", "handle_events", "has_room", "has_unread"),
    *("is_slow", "is_within_message", "reader", "wants_data", "why_over"),
}

ATTRIBUTES = sorted(
    {
        name
        for kind in (aio.WebSocket, aio.Server, aio.Application, aio.ServerStats, aio.ConnectionInfo)
        for name in dir(kind)
        if not name.startswith("_")
    }
    - INTERNAL
)


@pytest.mark.parametrize("name", aio.__all__)
def test_what_can_be_imported(name: str) -> None:
    assert is_documented(name)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments(name: str) -> None:
    assert is_documented(name)


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes(name: str) -> None:
    assert is_documented(name)


def test_what_is_not_there_is_found() -> None:
    assert len(ARGUMENTS) > 50
    assert len(ATTRIBUTES) > 50
    assert not is_documented("close", code_of("to close\n`closed`\n```python\nws.start_close()\n```\n"))
    assert is_documented("close", code_of("`await ws.close(1000)`"))
