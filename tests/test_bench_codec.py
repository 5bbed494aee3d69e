"""The codec benchmark: what it measures, that it compares like with like, and what it makes of the samples.

No test here says how fast anything is. Runs are real, with processes and all, but each sample is a single pass.
"""

from __future__ import annotations

import json
import os
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

import framebuilder

if sys.platform == "win32":
    pytest.skip("the benchmark waits for the pipes of its processes with select", allow_module_level=True)
pytest.importorskip("rich")

BENCH = Path(__file__).resolve().parent.parent / "bench"
# The benchmarks are scripts: they import each other by their directory.
sys.path.insert(0, str(BENCH))

import bench_basics  # noqa: E402
import bench_cases  # noqa: E402
import bench_chart  # noqa: E402
import bench_codec  # noqa: E402
import bench_command  # noqa: E402
import bench_contestants  # noqa: E402
import bench_goals  # noqa: E402
import bench_json  # noqa: E402
import bench_machine  # noqa: E402
import bench_main  # noqa: E402
import bench_measure  # noqa: E402
import bench_pool  # noqa: E402
import bench_stats  # noqa: E402
import bench_wire  # noqa: E402
import bench_worker  # noqa: E402
from bench_errors import UnusableError  # noqa: E402
from bench_goals import Speed, Verdict  # noqa: E402
from bench_measure import Result, Sample, Samples  # noqa: E402
from wsframe import cli  # noqa: E402
from wsframe.cli import _checkout  # noqa: E402

#: Those that a single pass takes too long for, and that differ from others in size alone.
LARGE = {name for name in bench_cases.CASES if name.endswith(("1M", "16M", "256K"))}
SMALL = sorted(set(bench_cases.CASES) - LARGE)


@pytest.fixture
def one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every sample is a single pass."""
    monkeypatch.setattr(bench_codec.CodecBenchmark, "quick_sample_ms", 1e-6)


def bench(*arguments: str) -> int:
    return bench_main.main(["codec", "--quick", *arguments], "bench")


def result(case: str, **samples: list[float]) -> Result:
    """A result in which the contestants took that long; `_` stands for `-` in their names."""
    return Result(
        bench_cases.CASES[case],
        {
            name.replace("_", "-"): Samples([Sample(figure, figure, 1) for figure in figures])
            for name, figures in samples.items()
        },
    )


# --- cases ------------------------------------------------------------------------------------------------


def test_names_say_group_and_size() -> None:
    for name, case in bench_cases.CASES.items():
        assert name == case.name
        assert name.startswith(f"{case.group}/")
        assert case.group in bench_cases.GROUPS
        assert len(case.message) == case.size
        assert name.endswith((bench_basics.name_size(case.size), "4x125"))
    sizes = {case.size for case in bench_cases.CASES.values()}
    assert (min(sizes), max(sizes)) == (8, 16 << 20)


def test_payloads_are_the_same_in_every_run_and_text_is_text() -> None:
    plain, unicode = (bench_cases.CASES[f"parse/{kind}/4K"].message for kind in ("text", "unicode"))
    assert plain.isascii()
    assert len(unicode.decode()) < len(unicode)
    binary = bench_cases.CASES["parse/binary/512"]
    assert binary.message == Random("parse/binary/512").randbytes(512)


@pytest.mark.parametrize("name", [name for name in SMALL if name.startswith(("parse", "decode"))])
def test_stream_has_what_is_expected_of_it(name: str) -> None:
    case = bench_cases.CASES[name]
    stream = bench_cases.stream(case)
    assert stream.chunks == bench_cases.stream(case).chunks
    if case.separate:
        assert len(stream.chunks) == stream.messages
    else:
        assert {len(chunk) for chunk in stream.chunks[:-1]} <= {bench_cases.CHUNK}
    inflater = zlib.decompressobj(-bench_cases.WINDOW_BITS)
    messages: list[bytes] = []
    parts: list[bytes] = []
    for frame in bench_wire.read_frames(b"".join(stream.chunks)):
        assert frame.key is not None
        assert frame.opcode == (0 if parts else case.opcode)
        assert frame.rsv1 == (case.compressed and not parts)
        parts.append(frame.payload)
        if frame.fin:
            assert len(parts) == case.fragments
            data = b"".join(parts)
            messages.append(inflater.decompress(data + b"\0\0\xff\xff") if case.compressed else data)
            parts.clear()
    assert not parts
    assert [message.decode() if case.text else message for message in messages] == stream.expected
    if case.compressed:
        # Equal messages would compress to nothing.
        assert len(set(messages)) == len(messages)


def test_wire_agrees_with_the_frame_builder_of_the_tests() -> None:
    for size in (0, 1, 125, 126, 65535, 65536):
        payload = Random(size).randbytes(size)
        frame = bench_wire.frame(2, payload, b"abcd")
        assert frame == framebuilder.build(framebuilder.BINARY, payload, mask=b"abcd")
        (found,) = bench_wire.read_frames(frame)
        assert found == bench_wire.WireFrame(2, True, False, b"abcd", payload)
        if size:
            with pytest.raises(ValueError, match="inside"):
                list(bench_wire.read_frames(frame[:-1]))
    with pytest.raises(ValueError, match="inside a header"):
        list(bench_wire.read_frames(b"\x82"))


def test_select() -> None:
    def names(*patterns: str) -> list[str]:
        return [case.name for case in bench_basics.select(bench_cases.CASES, patterns)]

    assert names("mask/8") == ["mask/8"]
    assert len(names("mask")) == len(names("mask/")) == len(names("mask/*")) == 11
    assert names("parse/text/125", "build/*/text/8") == [
        "build/server/text/8",
        "build/client/text/8",
        "parse/text/125",
    ]
    with pytest.raises(UnusableError, match=r"no case 'mask/9'"):
        names("mask", "mask/9")


# --- contestants ------------------------------------------------------------------------------------------


def test_choose() -> None:
    assert bench_contestants.CODEC.choose(["cython", "python"], None) == list(bench_contestants.CODEC.entries)
    assert bench_contestants.CODEC.choose(["python"], ["wsproto"]) == ["wsframe-python", "memcpy", "wsproto"]
    assert bench_contestants.CODEC.choose(["cython"], []) == ["wsframe-cython", "memcpy"]
    with pytest.raises(UnusableError, match="no such peer"):
        bench_contestants.CODEC.choose(["cython"], ["wsproto", "wurst"])


def test_environment_decides_the_codec_and_nothing_of_ours_gets_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSFRAME_PURE_PYTHON", "1")
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    assert "WSFRAME_PURE_PYTHON" not in bench_pool.environment("cython")
    assert bench_pool.environment("python")["WSFRAME_PURE_PYTHON"] == "1"
    assert "AIOHTTP_NO_EXTENSIONS" not in bench_pool.environment(None)


def test_who_does_less_is_found_out() -> None:
    cases = bench_cases.CASES

    def wrong(name: str, found: list[Any]) -> str | None:
        case = cases[name]
        stream = bench_cases.stream(case) if case.group == "parse" else None
        return bench_worker.what_is_wrong(case, stream, found, baseline=False)

    text = bench_cases.stream(cases["parse/text/4K"]).expected
    assert wrong("parse/text/4K", list(text)) is None
    assert wrong("parse/text/4K", list(text[1:])) == f"it gave {len(text) - 1} messages, not {len(text)}"
    assert wrong("parse/text/4K", [str(one).encode() for one in text]) == "message 0 is bytes"
    assert wrong("parse/text/4K", [*text[:-1], "x"]) == f"message {len(text) - 1} has another payload"
    binary = bench_cases.stream(cases["parse/binary/512"]).expected
    assert wrong("parse/binary/512", [bytearray(one) for one in binary if isinstance(one, bytes)]) is None

    payload = cases["build/server/text/8"].message
    unmasked = framebuilder.build(framebuilder.TEXT, payload)
    masked = framebuilder.build(framebuilder.TEXT, payload, mask=b"abcd")
    assert wrong("build/server/text/8", [unmasked]) is None
    assert wrong("build/server/text/8", [masked]) == "the frame is masked"
    assert wrong("build/client/text/8", [masked]) is None
    assert wrong("build/client/text/8", [unmasked]) == "the frame is not masked"
    assert wrong("build/server/text/8", [unmasked * 2]) == "it gave 2 frames"
    assert wrong("build/server/text/8", [unmasked[:-1]]) == "the wire ends inside a frame"
    assert wrong("build/server/text/8", [b"\x82" + unmasked[1:]]) is not None
    assert wrong("build/server/text/8", [unmasked[:-1] + b"!"]) == "the frame has another payload"

    data, key = cases["mask/8"].message, cases["mask/8"].random().randbytes(4)
    assert wrong("mask/8", [bench_wire.xor(data, key)]) is None
    assert wrong("mask/8", [data]) == "it gave other bytes"


# --- what the samples say ---------------------------------------------------------------------------------


def test_summary() -> None:
    assert bench_stats.summarize([7.0]) == bench_stats.Summary(7, 7, 7)
    summary = bench_stats.summarize([1, 100, 3, 2, 4])
    assert summary == bench_stats.Summary(3, 2, 4)
    assert summary.spread == pytest.approx(2 / 3)


def test_ratio_is_of_pairs() -> None:
    # The machine became three times as slow, and the ratio does not care.
    ratio = bench_stats.ratio([10, 30, 30], [5, 15, 15])
    assert ratio == bench_stats.Summary(2, 2, 2)
    with pytest.raises(ValueError, match="shorter"):
        bench_stats.ratio([1, 2], [1])


def test_result_compares_who_was_measured() -> None:
    one = result("mask/8", wsframe_cython=[10.0, 12.0], memcpy=[20.0, 24.0])
    found = one.ratio("memcpy", "wsframe-cython")
    assert found is not None
    assert found.median == 2
    assert one.ratio("memcpy", "websockets") is None


def test_goals_name_what_there_is() -> None:
    for goal in bench_goals.CODEC:
        assert set(goal.figures({})) <= set(bench_cases.CASES)
        assert {goal.ours, goal.against} <= set(bench_contestants.CODEC.entries)
        assert goal.ours in bench_contestants.CODEC.ours
        assert goal.figures({})


def test_goals_are_judged_by_their_worst_case() -> None:
    goal = Speed("masking", "wsframe-cython", "memcpy", 2, ("mask/8", "mask/32"))
    good = result("mask/8", wsframe_cython=[1.0], memcpy=[2.0])
    better = result("mask/32", wsframe_cython=[1.0], memcpy=[9.0])
    bad = result("mask/32", wsframe_cython=[1.0], memcpy=[1.9])
    alone = result("mask/32", wsframe_cython=[1.0])

    def verdict(*results: Result) -> Verdict:
        (one,) = bench_goals.judge(list(results), (goal,))
        return one.verdict

    assert verdict(good, better) is Verdict.REACHED
    assert verdict(good, bad) is Verdict.MISSED
    assert verdict(bad) is Verdict.MISSED
    assert verdict(good) is Verdict.OPEN
    assert verdict(good, alone) is Verdict.OPEN
    assert verdict() is Verdict.OPEN


def test_busy_machine_is_noticed() -> None:
    one = result("mask/8", wsframe_cython=[10.0])
    assert bench_json.core_share([one]) == 1
    one.samples["wsframe-cython"].taken = [Sample(10.0, 40.0, 1)]
    assert bench_json.core_share([one]) == 0.25
    assert bench_json.core_share([]) is None


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0.00 ns"),
        (46.61, "46.6 ns"),
        (999.4, "999 ns"),
        (999.6, "1.00 us"),
        (1.24e6, "1.24 ms"),
        (3e9, "3.00 s"),
    ],
)
def test_durations(ns: float, text: str) -> None:
    assert bench_basics.duration(ns) == text


# --- runs -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_pass")
def test_everything_runs_with_the_pure_codec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "result.json"
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    status = bench(
        "--codec", "python", "--cases", ",".join(SMALL), "--rounds", "2", "--goals", "--json", str(file)
    )
    shown = capsys.readouterr()
    assert status == 0, shown
    if before is not None:
        assert os.sched_getaffinity(0) == before
    found = json.loads(file.read_text("utf-8"))
    check_schema(found)
    assert found["settings"]["codecs"] == ["python"]
    assert found["settings"]["rounds"] == 2
    assert found["reference"] == "wsframe-python"
    assert "wsframe-cython" not in found["contestants"]
    assert "python" in found["contestants"]["wsframe-python"]["codec"]
    assert Path(found["contestants"]["wsframe-python"]["loaded from"]) == BENCH.parent / "wsframe"
    assert sorted(case["name"] for case in found["cases"]) == SMALL
    for case in found["cases"]:
        assert {"wsframe-python", "memcpy"} <= set(case["results"])
        assert not case["failed"]
        # Everyone is either measured or named, with a reason.
        assert set(case["results"]) | set(case["skipped"]) == {
            name for name in bench_contestants.CODEC.entries if name != "wsframe-cython"
        }
        for one in case["results"].values():
            assert len(one["cpu_ns"]) == len(one["wall_ns"]) == 2
    for name, why in found["missing"].items():
        assert f"missing: {name}: {why}" in shown.out.replace("\n", " ")
    for name in ("wsframe-python", "CPU/message", "goals", "mask/8", "decode/text/125"):
        assert name in shown.out


def check_schema(found: Mapping[str, Any]) -> None:
    """What those who read the file may rely on."""
    assert found["tool"] == "wsframe bench codec"
    assert found["format"] == 2
    assert {"started", "seconds", "checkout", "machine", "python", "settings", "contestants"} <= set(found)
    assert {"missing", "reference", "core share", "cases", "goals"} <= set(found)
    assert {"commit", "changed"} == set(found["checkout"])
    assert {"cpu", "cores", "core used", "governor", "kernel", "virtual"} <= set(found["machine"])
    assert {"version", "implementation", "compiler"} <= set(found["python"])
    assert all("version" in described for described in found["contestants"].values())
    for case in found["cases"]:
        assert {"name", "group", "size", "results", "skipped", "failed"} <= set(case)
        for name, one in case["results"].items():
            assert name in found["contestants"]
            assert {"messages", "of reference", "of best peer", "of limit"} <= set(one)
            assert one["low_ns"] <= one["median_ns"] <= one["high_ns"]
            assert all(sample > 0 for sample in one["cpu_ns"])
    for goal in found["goals"]:
        assert {"what", "ours", "against", "asked", "figures", "shown", "asked for", "verdict"} == set(goal)


@pytest.mark.usefixtures("one_pass")
def test_another_codec_than_asked_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    # As on a machine where the extension is not built.
    monkeypatch.setattr(bench_pool, "environment", lambda codec: {**os.environ, "WSFRAME_PURE_PYTHON": "1"})
    arguments = ["--cases", "mask/8", "--against", "none"]
    for codec in ("cython", "both"):
        assert bench("--codec", codec, *arguments) == 2
        assert "the cython codec was asked for and cannot be measured" in capsys.readouterr().err
    # Where none was asked for, the one that is there will do, and the other one is named.
    file = tmp_path / "result.json"
    assert bench(*arguments, "--json", str(file)) == 0
    assert "missing: wsframe-cython: the cython codec is not loaded, but: python" in capsys.readouterr().out
    found = json.loads(file.read_text("utf-8"))
    assert list(found["missing"]) == ["wsframe-cython"]
    assert list(found["cases"][0]["results"]) == ["wsframe-python", "memcpy"]


#: Speaks the protocol of a worker. What it does wrong depends on whom it stands for.
FAKE_WORKER = """
import json, sys
name = sys.argv[1]
def say(**answer):
    print(json.dumps(answer), flush=True)
if name == "wsproto":
    say(missing="No module named 'wsproto'")
    sys.exit()
if name == "picows":
    print("its last words", file=sys.stderr)
    sys.exit(3)
say(ready={"version": "0"})
for line in sys.stdin:
    command = json.loads(line)
    do = command["do"]
    if do == "prepare":
        if name == "aiohttp" and command["case"] == "mask/32":
            say(unsupported="it cannot")
        elif name == "websockets-python" and command["case"] == "mask/8":
            say(wrong="it gave other bytes")
        else:
            say(messages=2)
    elif do == "calibrate":
        say(iterations=5)
    elif do == "sample":
        if name == "websockets":
            sys.exit("killed")
        assert command["iterations"] == 5
        say(cpu_ns=100, wall_ns=200)
    else:
        say()
"""


def test_who_is_missing_or_fails_is_named_and_not_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake = tmp_path / "fake.py"
    fake.write_text(FAKE_WORKER, "utf-8")
    monkeypatch.setattr(bench_pool, "WORKER", fake)
    file = tmp_path / "result.json"
    assert bench("--cases", "mask/8,mask/32", "--rounds", "2", "--json", str(file)) == 1
    found = json.loads(file.read_text("utf-8"))
    check_schema(found)
    assert found["missing"] == {
        "wsproto": "No module named 'wsproto'",
        "picows": "its process ended with status 3: its last words",
    }
    first, second = found["cases"]
    assert set(first["results"]) == {"wsframe-cython", "wsframe-python", "memcpy", "aiohttp"}
    # 100 ns for 5 times 2 messages.
    assert first["results"]["memcpy"]["cpu_ns"] == [10, 10]
    assert first["results"]["memcpy"]["wall_ns"] == [20, 20]
    assert first["skipped"]["websockets-python"] == "it gave other bytes"
    assert first["skipped"]["websockets"] == "its process ended with status 1: killed"
    assert first["failed"] == ["websockets", "websockets-python"]
    # One wrong case does not spoil the others, a dead process does; and to be unable to is no failure.
    assert set(second["results"]) == {"wsframe-cython", "wsframe-python", "memcpy", "websockets-python"}
    assert second["skipped"]["websockets"] == first["skipped"]["websockets"]
    assert second["skipped"]["aiohttp"] == "it cannot"
    assert second["failed"] == []
    shown = capsys.readouterr().out
    assert "FAILED: websockets-python: it gave other bytes (mask/8)" in shown
    assert "skipped: aiohttp: it cannot (mask/32)" in shown
    assert "missing: wsproto: No module named 'wsproto'" in shown

    assert bench("--cases", "mask/8", "--against", "wsproto") == 2
    assert "--against wsproto: No module named 'wsproto' (pip install wsproto" in capsys.readouterr().err


def test_contestants_take_turns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "fake.py"
    fake.write_text(FAKE_WORKER, "utf-8")
    monkeypatch.setattr(bench_pool, "WORKER", fake)
    order: list[str] = []

    class Log:
        def at(self, case: bench_basics.BaseCase, contestant: str, round_: int) -> None:
            if round_:
                order.append(f"{round_}{contestant[:1]}")

        def done(self, result: Result) -> None:
            order.append("done")

    entries = bench_contestants.CODEC.entries
    commands = {
        name: bench_pool.worker(entries[name], None) for name in ("wsframe-python", "memcpy", "aiohttp")
    }
    with bench_pool.Pool(commands, sample_ns=1) as pool:
        bench_measure.measure(pool, [bench_cases.CASES["mask/8"]], Log(), rounds=4)
    assert order == "1w 1m 1a 2m 2a 2w 3a 3w 3m 4w 4m 4a done".split()


def test_worker_calibrates() -> None:
    class Clocked(bench_worker.CodecWorker):
        def sample(self, iterations: int) -> dict[str, Any]:
            return {"cpu_ns": 100 * iterations, "wall_ns": 0}

    worker = Clocked(bench_worker.make("memcpy"))
    assert worker.calibrate(1) == {"iterations": 1}
    assert worker.calibrate(150) == {"iterations": 2}
    assert worker.calibrate(1_000_000) == {"iterations": 10_000}


@pytest.mark.usefixtures("one_pass")
def test_chart(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "chart.svg"
    cases = "mask/8,mask/32,parse/text/125,parse/fragments"
    assert bench("--codec", "python", "--against", "none", "--cases", cases, "--chart", str(file)) == 0
    text = file.read_text("utf-8")
    assert text.startswith("<?xml")
    assert "</svg>" in text


@pytest.mark.usefixtures("one_pass")
def test_markdown(tmp_path: Path) -> None:
    file = tmp_path / "result.md"
    cases = "mask/8,parse/text/125,parse/text/4K"
    arguments = ["--codec", "python", "--against", "none", "--cases", cases, "--markdown", str(file)]
    assert bench(*arguments) == 0
    text = file.read_text("utf-8")
    assert "wsframe-python" in text.splitlines()[0]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == ["| `mask/8`", "| `parse/text/125`", "| `parse/text/4K`"]
    assert all(row[1].split()[1] in ("ns", "us", "ms", "s") for row in rows)
    # A goal of which something was not measured says nothing.
    assert "goal" not in text


def test_panels_show_what_was_measured() -> None:
    results = [
        result("mask/32", memcpy=[2.0]),
        result("mask/8", memcpy=[1.0]),
        Result(bench_cases.CASES["mask/125"]),
    ]
    ((panel, chosen),) = bench_chart.panels(bench_codec.BENCHMARK.subject, results)
    assert panel.title == "Masking"
    assert [one.case.size for one in chosen] == [8, 32]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "wurst"], "no case 'wurst'"),
        (["--against", "wurst"], "no such peer"),
        (["--chart", "chart.gif"], "must end with .svg or .png"),
        (["--json", "/nowhere/at/all.json"], "no directory"),
        (["--rounds", "0"], "not a whole number"),
        (["--codec", "rust"], "invalid choice"),
        (["--chart", "chart.svg"], 'matplotlib; pip install "wsframe[bench]"'),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(bench_command, "need", _nothing_is_installed)
    assert bench(*arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.startswith("bench: ")
    assert shown.out == ""


def _nothing_is_installed(module: str, why: str) -> None:
    raise UnusableError(f'{why} with {module}; pip install "wsframe[bench]" gets it')


def test_machine_is_described() -> None:
    described, python = bench_machine.machine(0), bench_machine.interpreter()
    assert json.loads(json.dumps([described, python, bench_machine.commit()]))
    assert str(python["version"]) in bench_machine.one_line(described, python)


# --- the command line -------------------------------------------------------------------------------------


def test_command_lists_cases_and_contestants(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "codec", "--list"]) == 0
    shown = capsys.readouterr().out
    for name in (*bench_cases.CASES, *bench_contestants.CODEC.entries):
        assert name in shown


@pytest.mark.parametrize("command", ["bench", "autobahn"])
def test_command_needs_a_checkout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    monkeypatch.setattr(_checkout, "CHECKOUT", tmp_path)
    assert cli.main([command, "codec"]) == 2
    assert "needs a checkout of wsframe" in capsys.readouterr().err
