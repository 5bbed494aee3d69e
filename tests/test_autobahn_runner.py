"""The Autobahn runner's own logic, without the suite: a script that speaks its protocol takes the suite's place."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("the runner needs process groups and file locks of a POSIX system", allow_module_level=True)
pytest.importorskip("rich")

AUTOBAHN = Path(__file__).resolve().parent.parent / "autobahn"
# The runner's files are scripts: they import each other by their directory.
sys.path.insert(0, str(AUTOBAHN))

import cases  # noqa: E402
import options  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402
import run  # noqa: E402
import shard  # noqa: E402
import suite  # noqa: E402
import verdict  # noqa: E402
from errors import UnusableError  # noqa: E402

#: Speaks the suite's side of the protocol. A case's behaviour is looked up in a plan, {"case": "hang"}; the
#: others are OK. "hang" says nothing more, "die" ends the process, anything else is the behaviour itself.
FAKE_SUITE = """
import json, os, sys, time
def say(**event):
    print(json.dumps(event), flush=True)
spec = json.load(open(sys.argv[2]))
plan = json.loads(os.environ["PLAN"])
if spec["wsframe"]["direction"] == "client":
    say(event="listening", port=1)
for case in spec["cases"]:
    todo = plan.get(case, "OK")
    if todo == "silence":
        time.sleep(60)
    say(event="start", case=case)
    if todo == "hang":
        time.sleep(60)
    if todo == "die":
        print("the suite's last words", file=sys.stderr)
        sys.exit(1)
    if todo == "refused":
        say(event="refused", case=case, reason="Connection refused")
        break
    name = spec["wsframe"]["agent"] + "_case_" + case.replace(".", "_")
    open(os.path.join(spec["outdir"], name + ".html"), "w").close()
    say(event="done", case=case, behavior=todo, behaviorClose="OK", remoteCloseCode=1000, remoteCloseReason=None,
        duration=1, result="as planned", resultClose="", received=0, closedByMe=True, reportfile=name + ".json",
        wasOpenHandshakeTimeout=False)
say(event="finished")
if spec["wsframe"]["direction"] == "client":
    time.sleep(60)
"""


def result(
    case: str, behavior: str = "OK", close: str = "OK", code: int | None = 1000, **details: Any
) -> verdict.Result:
    event = {
        "case": case,
        "behavior": behavior,
        "behaviorClose": close,
        "remoteCloseCode": code,
        "duration": 1,
        "reportfile": f"case_{case}.json",
        "result": "the result",
        "resultClose": "the close",
        "received": 0,
        "closedByMe": False,
    } | details
    return verdict.Result.from_event(event)


@pytest.fixture
def fake_suite(tmp_path: Path) -> Callable[..., suite.Suite]:
    """Make a suite whose cases end as planned."""
    script = tmp_path / "fake_suite.py"
    script.write_text(FAKE_SUITE, "utf-8")

    def make(**plan: str) -> suite.Suite:
        env = dict(os.environ) | {
            "PLAN": json.dumps({case.replace("_", "."): todo for case, todo in plan.items()})
        }
        return suite.Suite("a fake", (sys.executable, str(script)), env=env)

    return make


# Cases


def test_expected_result_is_514_ok_and_3_informational() -> None:
    expected = [case.expected for case in cases.all_cases().values()]
    assert len(expected) == 517
    assert expected.count("OK") == 514
    assert {case.id for case in cases.all_cases().values() if case.expected != "OK"} == {
        "7.1.6",
        "7.13.1",
        "7.13.2",
    }


def test_costs_are_known_and_compression_is_most_of_them() -> None:
    cost = {
        number: sum(c.cost for c in cases.all_cases().values() if cases.category(c.id) == number)
        for number in (1, 12, 13)
    }
    assert cost[12] > 10 * cost[1]
    assert cost[13] > 10 * cost[1]


def test_tiers() -> None:
    assert len(cases.tier("fast")) == 385
    assert len(cases.tier("full")) == 517
    assert set(cases.tier("fast")) <= set(cases.tier("full"))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("1.1.1", ["1.1.1"]),
        ("1.1.*", ["1.1.1", "1.1.10"]),
        ("1.*", ["1.1.1", "1.1.10"]),
        ("1*", ["1.1.1", "1.1.10", "10.1.1"]),
        ("*.1$", ["1.1.1", "10.1.1", "21.1"]),
        ("*.[2-9]$", []),
        ("1.1", []),
        ("1.1.1$", []),  # without a * it is an exact id
    ],
)
def test_patterns_are_read_as_the_suite_does(pattern: str, expected: list[str]) -> None:
    assert cases.matching(pattern, ["1.1.1", "1.1.10", "10.1.1", "21.1"]) == expected


def test_selection_is_in_the_suites_order_without_repetition() -> None:
    assert cases.select(["2.10", "2.*", "1.1.1"])[:3] == ["1.1.1", "2.1", "2.2"]
    assert cases.select(["2.*"])[-1] == "2.11"
    assert len(cases.select(["2.*", "2.1"])) == 11


@pytest.mark.parametrize("pattern", ["1.1.99", "nonsense", "88.*", "9.(*"])
def test_a_pattern_that_selects_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(UnusableError, match=pattern.replace("*", r"\*").replace("(", r"\(")):
        cases.select(["1.1.1", pattern])


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shards_hold_every_case_once_and_are_balanced(count: int) -> None:
    ids = cases.tier("full")
    shares = cases.shards(ids, count)
    assert sorted((case for share in shares for case in share), key=cases.sort_key) == ids
    cost = [sum(cases.all_cases()[case].cost + 1 for case in share) for share in shares]
    longest = max(case.cost for case in cases.all_cases().values())
    assert max(cost) - min(cost) <= longest + 1


def test_there_are_no_empty_shards() -> None:
    assert cases.shards(["1.1.1", "1.1.2"], 8) == [["1.1.1"], ["1.1.2"]]
    assert cases.shards([], 8) == []


# Verdicts


@pytest.mark.parametrize(
    ("got", "good"),
    [
        (result("1.1.1"), True),
        (result("1.1.1", "NON-STRICT"), False),
        (result("1.1.1", "INFORMATIONAL"), False),
        (result("1.1.1", "UNIMPLEMENTED"), False),
        (result("1.1.1", "OK", "UNCLEAN"), False),
        (result("1.1.1", "OK", "WRONG CODE"), False),
        (result("1.1.1", "FAILED", result="", resultClose=""), False),
        (result("7.1.6", "INFORMATIONAL", "INFORMATIONAL"), True),
        (result("7.13.1", "OK", "OK"), False),
        (result("7.13.2", "INFORMATIONAL", "FAILED"), False),
    ],
)
def test_verdict(got: verdict.Result, good: bool) -> None:
    problem = verdict.judge(got.case, got, wrong_masking=False)
    assert (problem is None) == good
    assert problem is None or problem.text


def test_a_missing_case_is_a_problem_with_its_reason() -> None:
    problem = verdict.judge("1.1.1", None, wrong_masking=False, why_missing="it hung")
    assert problem == verdict.Problem("1.1.1", "MISSING", "MISSING", "it hung")


@pytest.mark.parametrize(
    ("got", "complaint"),
    [
        (result("1.1.1", "FAILED", "FAILED", 1002), ""),
        (result("1.1.1", "OK", "OK", 1000, received=1, closedByMe=True), "accepted"),
        (result("1.1.1", "FAILED", "FAILED", 1002, received=1), "accepted"),
        (result("1.1.1", "FAILED", "FAILED", 1007), "expected 1002"),
        (result("1.1.1", "FAILED", "FAILED", None), "without a Close"),
        (result("1.1.1", "FAILED", "FAILED", 1002, closedByMe=True), "had to close"),
    ],
)
def test_wrong_masking_must_end_in_1002(got: verdict.Result, complaint: str) -> None:
    text = verdict.masking_complaint(got)
    assert complaint in text
    assert bool(text) == bool(complaint)


@pytest.mark.parametrize(
    ("got", "hint"),
    [
        (result("9.1.6", "FAILED", "FAILED", 1009), "max_message_size"),
        (result("12.1.1", "UNIMPLEMENTED"), "compression=True"),
        (result("1.1.1", "OK", "FAILED BY CLIENT"), "drop the TCP connection"),
        (result("1.1.1", "OK", "UNCLEAN", None), "both Close frames"),
        (result("6.4.3", "NON-STRICT"), "UTF-8"),
        (result("5.15", "NON-STRICT"), "before the failing Close"),
        (result("1.1.1", "FAILED", "FAILED", None, wasOpenHandshakeTimeout=True), "opening handshake"),
        (
            result("9.3.1", "FAILED", result="Case did not finish within 9 seconds.", duration=9000),
            "too slow",
        ),
        (
            result("9.3.1", "FAILED", result="Case did not finish within 9 seconds.", duration=100),
            "in the middle",
        ),
    ],
)
def test_the_setting_behind_a_failure_is_named(got: verdict.Result, hint: str) -> None:
    problem = verdict.judge(got.case, got, wrong_masking=False)
    assert problem is not None
    (text,) = verdict.explanations([problem], {got.case: got})
    assert hint in text
    assert text.startswith(got.case)


def test_a_hang_is_explained() -> None:
    problem = verdict.judge(
        "6.4.1", None, wrong_masking=False, why_missing="it hung: nothing happened for 5 s"
    )
    assert problem is not None
    (text,) = verdict.explanations([problem], {})
    assert "keeps the TCP connection open" in text


def test_many_cases_are_summed_up() -> None:
    assert verdict.summary(["9.1.1", "1.1.1"]) == "1.1.1, 9.1.1"
    assert verdict.summary(cases.select(["12.1.*", "9.1.1"])) == "19 cases (1 of 9.x, 18 of 12.x)"


# Shards


def run_shard(
    fake: suite.Suite,
    tmp_path: Path,
    ids: list[str],
    *,
    target: str = "ws://127.0.0.1:1",
    direction: str = "server",
) -> tuple[list[str], dict[str, str]]:
    row = rows.Row(direction, tuple(ids), target=target)
    done: list[str] = []
    one = shard.Shard(row, 0, ids, fake, tmp_path, 0.7, lambda got: done.append(got.case))
    asyncio.run(one.run())
    return done, one.why_missing


def test_a_shard_runs_its_cases(fake_suite: Callable[..., suite.Suite], tmp_path: Path) -> None:
    done, missing = run_shard(fake_suite(), tmp_path, ["1.1.1", "1.1.2"])
    assert done == ["1.1.1", "1.1.2"]
    assert missing == {}


def test_a_case_that_hangs_is_named_and_the_others_run(
    fake_suite: Callable[..., suite.Suite], tmp_path: Path
) -> None:
    started = time.monotonic()
    done, missing = run_shard(fake_suite(**{"1_1_2": "hang"}), tmp_path, ["1.1.1", "1.1.2", "1.1.3"])
    assert done == ["1.1.1", "1.1.3"]
    assert list(missing) == ["1.1.2"]
    assert "hung" in missing["1.1.2"]
    assert time.monotonic() - started < 20


def test_hanging_cases_are_given_up_one_day(fake_suite: Callable[..., suite.Suite], tmp_path: Path) -> None:
    ids = [f"1.1.{number}" for number in range(1, 9)]
    fake = fake_suite(**{case.replace(".", "_"): "hang" for case in ids})
    done, missing = run_shard(fake, tmp_path, ids)
    assert done == []
    assert sum("it hung" in reason for reason in missing.values()) == shard.STALLS_ALLOWED + 1
    assert sum("not run" in reason for reason in missing.values()) == 4


def test_a_suite_that_dies_is_quoted(fake_suite: Callable[..., suite.Suite], tmp_path: Path) -> None:
    done, missing = run_shard(fake_suite(**{"1_1_2": "die"}), tmp_path, ["1.1.1", "1.1.2", "1.1.3"])
    assert done == ["1.1.1"]
    assert set(missing) == {"1.1.2", "1.1.3"}
    assert "the suite's last words" in missing["1.1.3"]


def test_a_server_that_went_away_is_the_reason(
    fake_suite: Callable[..., suite.Suite], tmp_path: Path
) -> None:
    done, missing = run_shard(fake_suite(**{"1_1_2": "refused"}), tmp_path, ["1.1.1", "1.1.2"])
    assert done == ["1.1.1"]
    assert "no longer accepted connections (Connection refused)" in missing["1.1.2"]


def test_a_client_is_started_with_the_address(fake_suite: Callable[..., suite.Suite], tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"import sys, time; open({str(seen)!r}, 'w').write(sys.argv[1]); time.sleep(0.5)"
    command = shlex.join([sys.executable, "-c", code])
    done, missing = run_shard(fake_suite(), tmp_path, ["1.1.1", "1.1.2"], target=command, direction="client")
    assert done == ["1.1.1", "1.1.2"]
    assert missing == {}
    assert seen.read_text("utf-8") == "ws://127.0.0.1:1"


def test_a_client_that_does_nothing_is_an_error(
    fake_suite: Callable[..., suite.Suite], tmp_path: Path
) -> None:
    command = shlex.join([sys.executable, "-c", "import sys; sys.exit('no such module')"])
    with pytest.raises(
        UnusableError, match=r"status 1 before it ran a case; its last line was: no such module"
    ):
        run_shard(fake_suite(**{"1_1_1": "silence"}), tmp_path, ["1.1.1"], target=command, direction="client")


def test_a_client_that_ends_early_leaves_cases_missing(
    fake_suite: Callable[..., suite.Suite], tmp_path: Path
) -> None:
    command = shlex.join([sys.executable, "-c", "import time; time.sleep(0.3)"])
    fake = fake_suite(**{"1_1_2": "hang"})
    done, missing = run_shard(fake, tmp_path, ["1.1.1", "1.1.2"], target=command, direction="client")
    assert done == ["1.1.1"]
    assert "hung" in missing["1.1.2"] or "ended with status 0" in missing["1.1.2"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("peer", ["peer", "URL"]),
        ("peer -a 'b c'", ["peer", "-a", "b c", "URL"]),
        ("peer --url={url} --name {agent}", ["peer", "--url=URL", "--name", "me"]),
        ("peer {agent}", ["peer", "me", "URL"]),
    ],
)
def test_client_command(command: str, expected: list[str]) -> None:
    assert shard.client_command(command, "URL", "me") == expected


# Remembering and reporting


def test_only_good_results_of_the_same_configuration_are_kept(tmp_path: Path) -> None:
    ids = ("1.1.1", "1.1.2", "1.1.3")
    row = rows.Row("server", ids, target="ws://a")

    def resumed(wanted: rows.Row, *, resume: bool = True) -> set[str]:
        outcome = rows.Outcome(wanted)
        with rows.Record(tmp_path / "row", wanted).open(outcome, resume=resume) as add:
            kept = set(outcome.results)
            add(result("1.1.1"))
            add(result("1.1.2", "FAILED"))
            for case in ids:
                (tmp_path / "row" / f"case_{case}.html").touch()
        return kept

    assert resumed(row) == set()
    assert resumed(row) == {"1.1.1"}
    with (tmp_path / "row" / rows.RESULTS).open("a") as file:
        file.write('{"case": "1.1.3", "beha')  # a run was killed here
    assert resumed(row) == {"1.1.1"}
    assert resumed(rows.Row("server", ("1.1.3",), target="ws://a")) == set()
    assert resumed(rows.Row("server", ids, target="ws://b")) == set()
    assert resumed(rows.Row("server", ids, target="ws://b"), resume=False) == set()


def test_a_result_without_its_report_is_not_kept(tmp_path: Path) -> None:
    row = rows.Row("client", ("1.1.1",), adapter="aio", codec="python")
    for _ in range(2):
        outcome = rows.Outcome(row)
        with rows.Record(tmp_path, row).open(outcome, resume=True) as add:
            assert outcome.results == {}
            add(result("1.1.1"))


def test_the_index_holds_all_rows(tmp_path: Path) -> None:
    good = rows.Outcome(rows.Row("server", ("1.1.1", "7.1.6"), adapter="aio", codec="python"))
    good.results = {"1.1.1": result("1.1.1"), "7.1.6": result("7.1.6", "INFORMATIONAL", "INFORMATIONAL")}
    bad = rows.Outcome(
        rows.Row("client", ("1.1.1", "2.1", "2.2"), target="<peer>"), why_missing={"2.2": "it <hung>"}
    )
    bad.results = {"1.1.1": result("1.1.1"), "2.1": result("2.1", "FAILED")}

    assert report.counts(good) == {"ok": 1, "informational": 1, "failed": 0, "missing": 0}
    assert report.counts(bad) == {"ok": 1, "informational": 0, "failed": 1, "missing": 1}

    page = report.write_index([good, bad], tmp_path)
    index = json.loads((tmp_path / "index.json").read_text("utf-8"))
    assert set(index) == {"server_aio_python", "client_other"}
    assert index["client_other"]["2.1"]["behavior"] == "FAILED"
    assert index["client_other"]["2.1"]["reportfile"] == "client_other/case_2.1.json"
    text = page.read_text("utf-8")
    assert 'href="client_other/case_2.1.html"' in text
    assert "&lt;peer&gt;" in text
    assert "it &lt;hung&gt;" in text
    assert text.count("not run") == 3

    machine = report.as_json([good, bad], suite="a fake", report=page)
    assert machine["ok"] is False
    assert [row["ok"] for row in machine["rows"]] == [True, False]
    assert machine["rows"][1]["problems"] == {"2.1": "the result; Close 1000", "2.2": "it <hung>"}
    assert machine["rows"][1]["cases"]["2.2"] is None


def test_names_of_rows_differ_in_what_the_suite_keeps_of_them() -> None:
    made = [
        rows.Row(direction, (), adapter=adapter, codec=codec, wrong_masking=wrong)
        for direction in ("server", "client")
        for adapter in ("aio", "sync")
        for codec in ("cython", "python")
        for wrong in (False, True)
    ]
    kept = {"".join(c for c in row.slug.lower() if c.isalnum()) for row in made}
    assert len(kept) == len(made)


# The command


@pytest.fixture
def command(
    fake_suite: Callable[..., suite.Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """Run the whole command against a server that is not there, with a suite whose cases end as planned."""

    def start(*arguments: str, **plan: str) -> int:
        async def get_suite(say: object, *, wstest: str | None, way: str) -> suite.Suite:
            return fake_suite(**plan)

        async def no_probe(url: str) -> None:
            pass

        monkeypatch.setattr(run, "get_suite", get_suite)
        monkeypatch.setattr(run, "probe", no_probe)
        return run.main(["--url", "ws://127.0.0.1:1", "--output", str(tmp_path / "out"), *arguments])

    return start


def test_success(command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--cases", "1.*", "--shards", "2", "--json", str(tmp_path / "result.json")) == 0
    machine = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert machine["ok"] is True
    assert machine["rows"][0]["counts"] == {"ok": 16, "informational": 0, "failed": 0, "missing": 0}
    assert f"report: {tmp_path / 'out' / 'index.html'}" in capsys.readouterr().out


def test_failure(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--cases", "1.1.1,12.1.1", "--cases", "7.1.6", **{"12_1_1": "UNIMPLEMENTED"}) == 1
    printed = capsys.readouterr().out
    assert "compression=True" in printed
    assert "expected INFORMATIONAL" in printed


def test_resume_runs_only_what_is_not_yet_good(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--cases", "1.1.*", **{"1_1_3": "FAILED"}) == 1
    # Were they run again, these would fail.
    plan = {f"1_1_{number}": "FAILED" for number in (1, 2, 4, 5, 6, 7, 8)}
    assert command("--cases", "1.1.*", "--resume", **plan) == 0
    assert "7 results are from an earlier run" in capsys.readouterr().out
    assert command("--cases", "1.1.*", **plan) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cases", "1.1.99"],
        ["--cases", "77.*"],
        ["--cases", ","],
        ["--tier", "slow"],
        ["--shards", "0"],
        ["--shards", "many"],
        ["--stall-timeout", "-1"],
        ["--unknown"],
        ["surplus"],
        ["--adapter", "telepathy"],
        ["--url", "http://127.0.0.1/"],
        ["--url", "ws://"],
        ["--url", "ws://127.0.0.1:99999"],
        ["--url", "ws://127.0.0.1/#part"],
        ["--url", "ws://[::1"],
        ["--url", "ws://127.0.0.1", "--client"],
        ["--peer", "/no/such/program"],
        ["--peer", "'unbalanced"],
        ["--peer", ""],
        ["--peer", sys.executable, "--server"],
        ["--peer", sys.executable, "--codec", "python"],
        ["--peer", sys.executable, "--wstest", "/no/such/wstest"],
        ["--peer", sys.executable, "--wstest", sys.executable],
        ["--peer", sys.executable, "--json", "/no/such/directory/result.json"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_sentence_and_status_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*arguments, "--output", str(tmp_path)], "autobahn") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("autobahn: ")
    assert printed.err.count("\n") == 1


def test_two_runs_do_not_share_an_output_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with run.only_one_run(tmp_path):
        assert run.main(["--peer", sys.executable, "--output", str(tmp_path)]) == 2
    assert "another run is writing" in capsys.readouterr().err


def test_masking_rows_come_with_our_own_peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(options, "adapters", lambda: ["aio", "sync"])
    monkeypatch.setattr(options, "codecs", lambda: ["cython", "python"])

    def slugs(*arguments: str) -> list[str]:
        return [row.slug for row in options.read([*arguments, "--output", str(tmp_path)], "autobahn").rows]

    both = ["server_aio_cython", "client_aio_cython"]
    assert slugs() == [*both, "server_aio_cython_wrong_masking", "client_aio_cython_wrong_masking"]
    assert slugs("--cases", "1.*") == both
    assert slugs("--server", "--cases", "1.*", "--masking") == [both[0], "server_aio_cython_wrong_masking"]
    assert slugs("--client", "--codec", "all", "--adapter", "sync", "--no-masking") == [
        "client_sync_cython",
        "client_sync_python",
    ]
    assert slugs("--url", "ws://127.0.0.1", "--peer", sys.executable) == ["server_other", "client_other"]
