"""The state machine of two endpoints, run; see `machine` for what it does and `actor` for the laws.

A part is a seed, and repeatable by it. In a normal run there is one; ``WSFRAME_LAWS=100`` makes it a hundred.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from machine import Machine

PARTS = int(os.environ.get("WSFRAME_LAWS", "1"))
RUNS = 400


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_two_endpoints_do(part: int) -> None:
    @seed(part)
    class Part(Machine):
        pass

    run_state_machine_as_test(
        Part,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=80,
            derandomize=False,
            database=None,
            phases=[Phase.generate],
        ),
    )
