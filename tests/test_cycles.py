"""A thousand connections with the garbage collector off leave nothing; see `cycles`, which does ten thousand."""

from __future__ import annotations

import asyncio
import importlib

import pytest

import cycles
from aiohelpers import LOOPS

COUNT = 1040


@pytest.mark.parametrize("loop_kind", LOOPS)
def test_nothing_is_left_on_asyncio(loop_kind: str) -> None:
    factory = importlib.import_module(loop_kind).new_event_loop
    with cycles.quiet(), asyncio.Runner(loop_factory=factory) as runner:
        left = runner.run(cycles.aio_cycles(COUNT))
    assert left.complaints() == []


def test_nothing_is_left_with_blocking_sockets() -> None:
    with cycles.quiet():
        left = cycles.sync_cycles(COUNT)
    assert left.complaints() == []
