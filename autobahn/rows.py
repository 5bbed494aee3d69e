"""What is tested: one row per peer and direction, and what is remembered of it in the output directory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from cases import configuration
from verdict import Problem, Result, judge

#: The file that a row's results are appended to as they come.
RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Row:
    """One peer under test in one direction. `direction` is what the peer is: "server" or "client"."""

    direction: str
    cases: tuple[str, ...]
    #: Ours: which adapter and codec. Both None for somebody else's peer.
    adapter: str | None = None
    codec: str | None = None
    #: Somebody else's: the address of a server or the command of a client.
    target: str | None = None
    wrong_masking: bool = False

    @property
    def peer(self) -> str:
        """The peer's name for people."""
        return f"{self.adapter}/{self.codec}" if self.target is None else self.target

    @property
    def name(self) -> str:
        """The row's name for people."""
        wrong = "unmasked frames" if self.direction == "server" else "masked frames"
        return f"{self.direction} {self.peer}" + (f", {wrong}" if self.wrong_masking else "")

    @property
    def slug(self) -> str:
        """The row's name for files; the suite uses it as the name of the peer."""
        kind = f"{self.adapter}_{self.codec}" if self.target is None else "other"
        return f"{self.direction}_{kind}" + ("_wrong_masking" if self.wrong_masking else "")

    def fingerprint(self) -> dict[str, Any]:
        """Return what must be the same for earlier results to stand. The cases are not part of it."""
        return {
            "suite": configuration()["version"],
            "direction": self.direction,
            "adapter": self.adapter,
            "codec": self.codec,
            "target": self.target,
            "wrong_masking": self.wrong_masking,
        }


@dataclass
class Outcome:
    """What became of a row."""

    row: Row
    results: dict[str, Result] = field(default_factory=dict)
    #: Why a case has no result, by id.
    why_missing: dict[str, str] = field(default_factory=dict)
    #: Cases whose result is from an earlier run.
    resumed: int = 0
    seconds: float = 0.0

    def problems(self) -> list[Problem]:
        """Return every case that is not as expected, in order."""
        judged = (self.judge(case) for case in self.row.cases)
        return [problem for problem in judged if problem is not None]

    def judge(self, case: str) -> Problem | None:
        """Judge one case of the row."""
        return judge(
            case,
            self.results.get(case),
            wrong_masking=self.row.wrong_masking,
            why_missing=self.why_missing.get(case, ""),
        )


class Record:
    """A row's results on disk: the first line says for what, each further line is one result."""

    def __init__(self, directory: Path, row: Row) -> None:
        self.directory = directory
        self._row = row
        self._file: TextIO | None = None

    @contextmanager
    def open(self, outcome: Outcome, *, resume: bool) -> Iterator[Callable[[Result], None]]:
        """Prepare the directory; yield what adds a result to both the record and the outcome.

        With `resume` the outcome starts with the earlier results that are as expected.
        """
        kept = self._earlier() if resume else {}
        for case, result in kept.items():
            outcome.results[case] = result
            if case not in self._row.cases or outcome.judge(case) is not None:
                del outcome.results[case]
        outcome.resumed = len(outcome.results)
        if not outcome.results:
            shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / RESULTS).open("w", encoding="utf-8") as self._file:
            self._write({"row": self._row.fingerprint()})
            for result in outcome.results.values():
                self._write(dict(result.details))

            def add(result: Result) -> None:
                outcome.results[result.case] = result
                self._write(dict(result.details))

            yield add

    def _earlier(self) -> dict[str, Result]:
        try:
            lines = (self.directory / RESULTS).read_text("utf-8").splitlines()
        except OSError:
            return {}
        results: dict[str, Result] = {}
        for number, line in enumerate(lines):
            try:
                entry = json.loads(line)
                if number == 0:
                    if entry["row"] != self._row.fingerprint():
                        return {}
                    continue
                result = Result.from_event(entry)
                report = (self.directory / entry["reportfile"]).with_suffix(".html")
            except (ValueError, KeyError, TypeError):
                continue  # the line that a killed run was writing
            if report.exists():
                results[result.case] = result
        return results

    def _write(self, entry: dict[str, Any]) -> None:
        assert self._file is not None
        self._file.write(json.dumps(entry, sort_keys=True) + "\n")
        self._file.flush()
