"""The drivers of other libraries: each plays a few rows in its roles, and is told what anybody would expect."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from wsframe.testing.lifecycle import ROWS
from wsframe.testing.lifecycle._certificates import Certificates
from wsframe.testing.lifecycle._libraries import BUILT_IN, ON_UVICORN, Library
from wsframe.testing.lifecycle._run import play_all

TABLE = {row.name: row for row in ROWS}
PEERS = [library for library in (*BUILT_IN, *ON_UVICORN) if library.adapter is None]

#: Those that come with the extra `test`, or that the project's CI has; the others only with the extra `lifecycle`.
USUAL = ("websockets", "aiohttp", "websocket-client", "ws", "uvicorn/websockets-sansio", "uvicorn/wsproto")


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with Certificates() as made:
        yield made


@pytest.mark.parametrize(
    "library",
    [
        pytest.param(library, id=library.name, marks=pytest.mark.peer if library.name in USUAL else ())
        for library in PEERS
    ],
)
def test_driver(certificates: Certificates, library: Library) -> None:
    missing = library.missing()
    if missing is not None:
        pytest.skip(missing)
    rows = [
        TABLE[f"{role}/{name}"]
        for role in ("server", "client")
        for name in (
            "peer-closes-4001",
            "we-close-4000",
            "fin",
            "tls-cut",
            "rejected",
            "peer-closes-behind-messages",
        )
    ]
    (result,) = play_all(rows, [library], certificates, table=TABLE, jobs=4, patience=2)
    assert result.problem is None
    assert result.version
    played = {name: outcome for name, outcome in result.outcomes.items() if outcome.status != "cannot"}
    assert {name.partition("/")[0] for name in played} == set(result.roles)
    for name, outcome in played.items():
        assert outcome.status == "played", (name, outcome.note)
        if not name.endswith("rejected"):
            assert outcome.told[0] == "open", (name, outcome.told)
        if "4001" in name:
            assert "4001" in "".join(outcome.told), (name, outcome.told)
            assert "theirs" in "".join(outcome.told), (name, outcome.told)
        if name.endswith("behind-messages"):
            assert [line.partition(": ")[2] for line in outcome.told[1:3]] == [
                "message 'one'",
                "message b'two'",
            ]
