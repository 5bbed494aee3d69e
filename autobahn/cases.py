"""The suite's cases: ids, patterns, tiers, expected outcomes, and how to share them out over shards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from errors import UnusableError

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Case:
    """One case of the suite, e.g. 9.1.6."""

    id: str
    #: The behaviour that counts as success: "OK", or "INFORMATIONAL" for the few that the suite never judges.
    expected: str
    #: About how many milliseconds it takes, which matters only in comparison with the others.
    cost: int


def sort_key(case_id: str) -> tuple[int, ...]:
    """Order ids as the suite does: by number, so that 2.10 comes after 2.9."""
    return tuple(int(part) for part in case_id.split("."))


def category(case_id: str) -> int:
    """Return the first number of the id, which is the chapter of the suite."""
    return sort_key(case_id)[0]


@cache
def configuration() -> dict[str, Any]:
    """Return `suite.json`: the suite's version, where it comes from, the tiers and the masking cases."""
    loaded: dict[str, Any] = json.loads((HERE / "suite.json").read_text("utf-8"))
    return loaded


@cache
def all_cases() -> dict[str, Case]:
    """Return every case of the suite by id, from `expected.json`, in the suite's order."""
    rows: dict[str, dict[str, Any]] = json.loads((HERE / "expected.json").read_text("utf-8"))
    return {case_id: Case(case_id, row["expected"], row["cost"]) for case_id, row in rows.items()}


def matching(pattern: str, known: Iterable[str]) -> list[str]:
    """Return the ids that `pattern` selects, with the suite's own reading of it.

    Without a `*` a pattern is one exact id. With one it is a regular expression that must match from the
    start of the id but not to its end, in which `.` stands for itself and `*` for anything. So `1.*` leaves
    10.1.1 out, `1*` does not, and `12.*.[1-6]$` is the first six cases of each group.
    """
    if "*" not in pattern:
        return [case_id for case_id in known if case_id == pattern]
    try:
        expression = re.compile(pattern.replace(".", r"\.").replace("*", ".*"))
    except re.error as error:
        raise UnusableError(f"the case pattern {pattern!r} cannot be read: {error}") from None
    return [case_id for case_id in known if expression.match(case_id)]


def select(patterns: Iterable[str], known: Sequence[str] | None = None) -> list[str]:
    """Return the ids that any of the patterns selects, in the suite's order.

    The suite itself hangs on an id it does not know, so an id or a pattern that selects nothing is refused here.
    """
    ids = list(all_cases()) if known is None else list(known)
    chosen: set[str] = set()
    for pattern in patterns:
        found = matching(pattern, ids)
        if not found and "*" in pattern:
            raise UnusableError(
                f"no case matches the pattern {pattern!r}; ids run from {ids[0]} to {ids[-1]}"
            )
        if not found:
            raise UnusableError(
                f"the suite has no case {pattern!r}; write a whole id such as 9.1.6, or a pattern such as '9.1.*'"
            )
        chosen.update(found)
    if not chosen:
        raise UnusableError("no case was selected")
    return sorted(chosen, key=sort_key)


def tier(name: str) -> list[str]:
    """Return the ids of the tier `name` ("fast" or "full")."""
    return select(configuration()["tiers"][name])


def wrong_masking_cases() -> list[str]:
    """Return the ids that are also run with wrongly masked frames; in each the suite sends a data frame first."""
    return select(configuration()["wrong_masking_cases"])


def shards(case_ids: Sequence[str], count: int) -> list[list[str]]:
    """Share the cases out over at most `count` shards that should take equally long.

    The longest case first, each to the shard with the least to do: the few long cases end up apart, the many
    short ones level out the rest. No shard is empty.
    """
    cost = {case_id: all_cases()[case_id].cost for case_id in case_ids}
    shares: list[list[str]] = [[] for _ in range(max(1, min(count, len(case_ids))))]
    loads = [0] * len(shares)
    for case_id in sorted(case_ids, key=lambda each: (-cost[each], sort_key(each))):
        lightest = loads.index(min(loads))
        shares[lightest].append(case_id)
        # Even the shortest case costs a connection, so that equal loads mean equal numbers among short cases.
        loads[lightest] += cost[case_id] + 1
    return [sorted(share, key=sort_key) for share in shares if share]
