"""Out of memory: `tests/nomemory.py` lets every allocation fail; a process of its own, because it might not survive."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsframe import _backend

CODECS = ["python"] + (["cython"] if _backend.backend == "cython" else [])


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None,
    reason="this Python has no _testcapi, which lets allocations fail",
)
@pytest.mark.parametrize("name", CODECS)
def test_every_allocation_may_fail(name: str) -> None:
    run = subprocess.run(
        [sys.executable, "-X", "faulthandler", "nomemory.py", name],
        cwd=Path(__file__).parent,
        # This copy of the package, wherever it was found.
        env={**os.environ, "PYTHONPATH": str(Path(str(_backend.__file__)).parent.parent)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, f"status {run.returncode} with allocations failing:\n{run.stdout[-5000:]}"
    assert run.stdout.splitlines()[-1].startswith("all of "), run.stdout[-5000:]
