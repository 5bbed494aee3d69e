"""The suite's own switches: a missing peer is a skip for people and a failure for CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = """
import pytest

@pytest.mark.peer
def test_body():
    pytest.skip("no such peer")

@pytest.fixture
def peer():
    pytest.skip("no such peer either")

@pytest.mark.peer
def test_setup(peer):
    pass

@pytest.mark.browser
def test_page():
    pytest.skip("no browser")

def test_platform():
    pytest.skip("not on this platform")
"""


@pytest.mark.parametrize(
    ("required", "status", "summary"),
    [("0", 0, "4 skipped"), ("1", 1, "2 failed, 1 skipped, 1 error")],
)
def test_a_missing_peer(tmp_path: Path, required: str, status: int, summary: str) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "test_conftest_peers.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    peer\n    browser\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        # One codec, so that every test counts once.
        env={
            **os.environ,
            "WSFRAME_PURE_PYTHON": "1",
            "WSFRAME_REQUIRE_CYTHON": "0",
            "WSFRAME_REQUIRE_PEERS": required,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == status, run.stdout
    assert summary in run.stdout.splitlines()[-1]
    assert ("WSFRAME_REQUIRE_PEERS=1, but: Skipped: no such peer either" in run.stdout) == bool(status)


def test_a_missing_extension(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text(encoding="utf-8"))
    (tmp_path / "test_it.py").write_text("def test_it():\n    pass\n")
    for required, status in ("0", 0), ("", 0), ("1", 2):
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "."],
            cwd=tmp_path,
            env={**os.environ, "WSFRAME_PURE_PYTHON": "1", "WSFRAME_REQUIRE_CYTHON": required},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert bool(run.returncode) == bool(status), run.stdout
        told = (
            "WSFRAME_REQUIRE_CYTHON=1, but the codec is: python (WSFRAME_PURE_PYTHON=1)"
            in run.stdout + run.stderr
        )
        assert told == bool(status)
