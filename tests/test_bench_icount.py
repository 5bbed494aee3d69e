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
import wsframe
from bench_icount import Count

if sys.platform == "win32":
    pytest.skip("valgrind does not run on Windows", allow_module_level=True)

#: Runs what it is given, and pretends that the work takes 700 instructions each time it is done.
VALGRIND = """#!/bin/sh
parts=${2#--callgrind-out-file=}
shift 3
times=$(echo "$6" | sed "s/^0*//")
"$@" || exit
echo "summary: 5000" >"$parts.1"
echo "summary: $((700 * times))" >"$parts.2"
echo "summary: 60" >"$parts.3"
"""
TURN = "turn/client/125"


@pytest.fixture
def valgrind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "valgrind"
    script.write_text(VALGRIND)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(bench_icount, "CASES", {"mask/125": 20, TURN: 3})


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
    assert entry["instructions"] == {"mask/125": 700, TURN: 700}
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


@pytest.mark.usefixtures("valgrind")
def test_a_valgrind_that_does_not_see_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "valgrind"
    script.write_text(script.read_text().replace(".2", ".4"))
    assert icount(tmp_path / "icount.json") == 2
    assert "mask/125: callgrind has not seen where the work begins" in capsys.readouterr().err


@pytest.mark.parametrize("client", [False, True])
def test_turn_gives_the_message_back(client: bool) -> None:
    work = bench_icount_worker.echo_turn(client=client)
    (wire,) = work.check()
    (frame,) = bench_wire.read_frames(wire)
    assert frame.payload == bench_cases.CASES["parse/text/125"].message
    assert (frame.key is not None) == client
    assert work.run(3) == 3


def test_a_client_parses_what_a_server_sends() -> None:
    work = bench_icount_worker.parse_unmasked()
    assert set(work.check()) == {bench_cases.CASES["parse/text/125"].payload}
    assert work.run(2) == 2 * work.messages == 2 * len(work.check())


def test_every_case_can_be_made() -> None:
    for case in bench_icount.CASES:
        assert bench_icount_worker.ready(wsframe.backend, case).check()
