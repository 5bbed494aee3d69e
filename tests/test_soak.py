"""A sample of `soak`: connections of both adapters over links that are slow, or break."""

from __future__ import annotations

import soak
from links import HARMFUL

SEED = 1


def test_conversations_over_links_that_are_slow_or_break() -> None:
    report = soak.run(seed=SEED, numbers=iter(range(160)))
    print(report)
    assert report.failures == []
    assert report.conversations == 160
    # Each fault was there, and did something.
    kinds = {kind for kind, _, _ in report.ended}
    assert kinds == set(soak.CAUSES)
    broken = {(kind, cause) for kind, _, cause in report.ended if kind in HARMFUL}
    assert broken > {
        ("reset", "RESET"),
        ("cut", "EOF"),
        ("half-open", "PING_TIMEOUT"),
        ("limit", "TRUNCATED"),
    }
