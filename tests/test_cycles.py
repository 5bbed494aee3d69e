"""A thousand connections with the garbage collector off leave nothing; see `cycles`, which does ten thousand."""

from __future__ import annotations

import asyncio
import importlib

import pytest

import cycles
from aiohelpers import LOOPS

#: With TLS a connection takes ten times as long.
COUNTS = {False: 1040, True: 140}


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("loop_kind", LOOPS)
def test_nothing_is_left_on_asyncio(loop_kind: str, tls: bool) -> None:
    factory = importlib.import_module(loop_kind).new_event_loop
    with cycles.quiet(), asyncio.Runner(loop_factory=factory) as runner:
        left = runner.run(cycles.aio_cycles(COUNTS[tls], tls=tls))
    assert left.complaints() == []


@pytest.mark.parametrize("tls", [False, True])
def test_nothing_is_left_with_blocking_sockets(tls: bool) -> None:
    with cycles.quiet():
        left = cycles.sync_cycles(COUNTS[tls], tls=tls)
    assert left.complaints() == []
