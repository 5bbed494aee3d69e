"""Every row of the endings table over sockets: all adapters with both codecs, against a peer that is a bare socket.

All are played in one go by driver processes (see ``docs/lifecycle.md``); each test looks at what came of one. A driver
also says what a row left behind: tasks, threads, descriptors, words in the log.
"""

from __future__ import annotations

import fcntl
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from wsframe.testing.lifecycle import ROWS
from wsframe.testing.lifecycle._certificates import Certificates
from wsframe.testing.lifecycle._libraries import ON_UVICORN, OURS, Library, own_driver
from wsframe.testing.lifecycle._run import Result, can_be_played, play_all
from wsframe.testing.lifecycle._verdict import expected_row

TABLE = {row.name: row for row in ROWS}
PLAYABLE = [row for row in ROWS if can_be_played(row)]
LIBRARIES = [
    library for library in (*OURS, *ON_UVICORN) if library.adapter is not None and library.missing() is None
]
#: The asyncio adapter once more, with callbacks and the better codec.
LIBRARIES.append(
    replace(
        LIBRARIES[0],
        name=LIBRARIES[0].name.replace("aio", "callbacks"),
        command=own_driver(str(Path(__file__).with_name("callback_driver.py"))).command,
    )
)

#: What callbacks do not have: a handler to leave.
NO_CALLBACKS = ("server/handler-raises", "server/handler-cancelled")

#: Mostly they wait, so there can be more of them than processors.
JOBS = 6 * (os.cpu_count() or 2)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    by_name = {library.name: library for library in LIBRARIES}
    shared = tmp_path_factory.getbasetemp().parent / "lifecycle-rows"
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return _played()
    # It takes minutes, so one of the workers plays them for all. The directory around theirs is new in every run.
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.exists():
            # (What a library is does not change, and cannot be pickled.)
            kept = {name: replace(result, library=None) for name, result in _played().items()}  # type: ignore[arg-type]
            shared.write_bytes(pickle.dumps(kept))
    loaded: dict[str, Result] = pickle.loads(shared.read_bytes())
    return {name: replace(result, library=by_name[name]) for name, result in loaded.items()}


def _played() -> dict[str, Result]:
    with Certificates() as certificates:
        played = play_all(PLAYABLE, LIBRARIES, certificates, table=TABLE, jobs=JOBS)
    return {result.library.name: result for result in played}


def test_there_is_a_driver_for_every_codec_here(results: dict[str, Result]) -> None:
    assert {name.partition(":")[0] for name in results} == {"aio", "sync", "uvicorn", "callbacks"}
    for name, result in results.items():
        assert result.problem is None, f"{name}: {result.problem}"
        assert result.version.endswith(name.partition(":")[2])


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
@pytest.mark.parametrize("name", [row.name for row in PLAYABLE])
def test_row(results: dict[str, Result], library: Library, name: str) -> None:
    result, row = results[library.name], TABLE[name]
    assert library.adapter is not None
    if library.name.startswith("callbacks") and name in NO_CALLBACKS:
        pytest.skip("there is no handler")
    if expected_row(row, library.adapter, TABLE) is None:
        assert name not in result.outcomes
        return
    outcome = result.outcomes[name]
    assert name not in result.wrong, "\n".join([*result.wrong[name], f"told: {outcome.told}"])
    assert outcome.over
    assert not outcome.left
