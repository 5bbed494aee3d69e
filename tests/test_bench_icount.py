"""Instruction counts: what is compared with what. A script stands for valgrind, so that nothing here takes long."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import bench_cases
import bench_icount
import bench_icount_worker
import bench_main
import bench_wire
from bench_icount import Count

if sys.platform == "win32":
    pytest.skip("valgrind does not run on Windows", allow_module_level=True)

#: Runs what it is given, and pretends that each time the work is done takes 700 instructions, after 5000.
VALGRIND = """#!/bin/sh
shift 2
times=$(echo "$6" | sed "s/^0*//")
"$@" || exit
echo "==1== Collected : $((5000 + 700 * times))" >&2
"""


@pytest.fixture
def valgrind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "valgrind"
    script.write_text(VALGRIND)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(bench_icount, "CASES", {"mask/125": 20, bench_icount_worker.TURN: 3})


def icount(file: Path, *arguments: str) -> int:
    return bench_main.main(["icount", "--codec", "python", "--file", str(file), *arguments], "bench")


@pytest.mark.usefixtures("valgrind")
def test_counts_are_kept_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "icount.json"
    assert icount(file) == 0
    assert "no counts of the same interpreter" in capsys.readouterr().out
    assert not file.exists()

    assert icount(file, "--update") == 0
    (entry,) = json.loads(file.read_text())
    assert entry["instructions"] == {"mask/125": 700, bench_icount_worker.TURN: 700}
    assert entry["key"]["codec"] == "python"
    assert "3." in entry["key"]["python"]
    capsys.readouterr()
    assert icount(file) == 0
    assert "+0.0%" in capsys.readouterr().out

    entry["instructions"]["mask/125"] = 660
    other = {"key": {**entry["key"], "python": "CPython 2.7"}, "instructions": {"mask/125": 1}}
    file.write_text(json.dumps([other, entry]))
    assert icount(file) == 1
    assert "+6.1%  GROWN" in capsys.readouterr().out
    assert icount(file, "--update") == 0
    # What others have counted stays.
    assert json.loads(file.read_text())[0] == other

    file.write_text(json.dumps([other]))
    assert icount(file) == 0


def test_growth() -> None:
    assert not Count("x", 105.0, 100.0).grown
    assert Count("x", 105.1, 100.0).grown
    assert not Count("x", 50.0, 100.0).grown
    assert not Count("x", 50.0, None).grown


def test_without_valgrind(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert icount(tmp_path / "icount.json") == 2
    assert "valgrind is not installed" in capsys.readouterr().err


@pytest.mark.usefixtures("valgrind")
def test_what_fails_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_icount, "CASES", {"no/such/case": 1})
    assert icount(tmp_path / "icount.json") == 2
    assert "no/such/case failed under callgrind with status 1: KeyError" in capsys.readouterr().err


def test_turn_gives_the_message_back() -> None:
    work = bench_icount_worker.echo_turn()
    (wire,) = work.check()
    (frame,) = bench_wire.read_frames(wire)
    assert frame.payload == bench_cases.CASES["parse/text/125"].message
    assert work.run(3) == 3
