"""Plays many rows against many libraries, several at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ._certificates import Certificates
from ._libraries import Library
from ._on_uvicorn import on_uvicorn
from ._outcome import Outcome
from ._player import Player
from ._process import DriverFailed, DriverProcess, Hangs
from ._row import Row
from ._verdict import expected_row, verdict

__all__ = ["PATIENCE", "Result", "can_be_played", "play_all"]

#: Seconds that another library gets to say something, beyond those that wsframe takes.
PATIENCE = 6.0

#: Likewise wsframe itself, on a busy machine.
_OUR_PATIENCE = 15.0

#: A machine that stands still makes timeouts come between the acts of a row. What is wrong is wrong every time.
_TRIES = 3


@dataclass
class Result:
    """What came of one library.

    Attributes:
        library: the library.
        again: rows that were played again, by themselves, because they went wrong among the others -> what was wrong.
        version: what its driver says.
        roles: likewise.
        outcomes: row -> what came of it.
        wrong: row -> what is wrong with that, for wsframe's own adapters.
        problem: why it could not be started at all.
    """

    library: Library
    version: str = ""
    roles: Sequence[str] = ()
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    wrong: dict[str, list[str]] = field(default_factory=dict)
    again: dict[str, list[str]] = field(default_factory=dict)
    problem: str | None = None


class _Pool:
    """The processes of one library's driver."""

    def __init__(self, result: Result) -> None:
        self._result = result
        self._idle: list[DriverProcess] = []
        self._lock = threading.Lock()

    def take(self) -> DriverProcess:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        library = self._result.library
        process = DriverProcess(library.command, library.environment)
        self._result.version = str(process.hello.get("version", ""))
        self._result.roles = tuple(process.hello.get("roles", ("server", "client")))
        return process

    def give_back(self, process: DriverProcess) -> None:
        with self._lock:
            self._idle.append(process)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for process in idle:
            process.close()


def can_be_played(row: Row) -> bool:
    """A script on a socket can play the row, and an application of at least one adapter can."""
    return row.over_sockets and any(
        expected_row(row, adapter, {row.name: row}) for adapter in ("aio", "sync")
    )


def play_all(
    rows: Iterable[Row],
    libraries: Iterable[Library],
    certificates: Certificates,
    *,
    table: Mapping[str, Row],
    jobs: int,
    patience: float = PATIENCE,
    on_played: Callable[[Result, Row], None] = lambda _result, _row: None,
) -> list[Result]:
    """Play rows against libraries.

    Args:
        rows: those that are played; rows that no script on a socket can play are left out.
        libraries: whose drivers are there.
        certificates: for the rows with TLS.
        table: all rows by name.
        jobs: how many rows are played at a time.
        patience: seconds that another library gets beyond those that wsframe takes.
        on_played: called after each row, played or not, by one thread at a time.
    """
    rows = [row for row in rows if can_be_played(row)]
    results = [Result(library) for library in libraries]
    lock = threading.Lock()
    stop = threading.Event()

    def play(result: Result, pool: _Pool, row: Row) -> None:
        if not stop.is_set():
            play_row(result, pool, row)
            with lock:
                on_played(result, row)

    def play_row(result: Result, pool: _Pool, row: Row) -> None:
        adapter = result.library.adapter
        expected = row if adapter is None else expected_row(row, adapter, table)
        if result.library.on_uvicorn and on_uvicorn(row) is None:
            return
        if expected is None or result.problem is not None:
            return
        try:
            driver = pool.take()
        except (DriverFailed, Hangs) as exc:
            with lock:
                result.problem = str(exc)
            return
        outcome: Outcome | None = None
        try:
            if row.role.value in driver.hello.get("roles", ("server", "client")):
                outcome = Player(
                    row, driver, certificates, patience if adapter is None else _OUR_PATIENCE
                ).play()
        finally:
            if outcome is not None and (outcome.left or outcome.status in ("hangs", "failed")):
                # What it has left must not come between the next row and its library.
                driver.kill()
            else:
                pool.give_back(driver)
        if outcome is None:
            return
        with lock:
            result.outcomes[row.name] = outcome
            wrong = [] if adapter is None else verdict(outcome, row, expected)
            if wrong:
                result.wrong[row.name] = wrong

    pools = [_Pool(result) for result in results]
    try:
        with ThreadPoolExecutor(jobs) as executor:
            futures = [
                executor.submit(play, result, pool, row)
                for result, pool in zip(results, pools, strict=True)
                for row in rows
            ]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                stop.set()
                raise
        for result, pool in zip(results, pools, strict=True):
            for name in list(result.wrong):
                for _ in range(_TRIES - 1):
                    if name in result.wrong:
                        result.again[name] = result.wrong.pop(name)
                        play_row(result, pool, table[name])
    finally:
        for pool in pools:
            pool.close()
    return results
