"""``python -m wsframe lifecycle``: what it takes, what it prints, and that it catches drivers that lie, hang or die."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wsframe.testing.lifecycle import ROWS
from wsframe.testing.lifecycle._certificates import Certificates
from wsframe.testing.lifecycle._compare import columns_of, to_markdown
from wsframe.testing.lifecycle._libraries import BUILT_IN, Library, own_driver
from wsframe.testing.lifecycle._run import Result, can_be_played, play_all

TABLE = {row.name: row for row in ROWS}
SOME = ("client/peer-closes", "client/fin", "client/reset")
LIAR = Path(__file__).parent / "lying_driver.py"


@pytest.fixture(scope="module")
def certificates() -> Iterator[Certificates]:
    with Certificates() as made:
        yield made


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "wsframe", "lifecycle", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def play(certificates: Certificates, library: Library, *names: str, patience: float = 1.0) -> Result:
    rows = [TABLE[name] for name in names or SOME]
    (result,) = play_all(rows, [library], certificates, table=TABLE, jobs=2, patience=patience)
    return result


def script(tmp_path: Path, text: str) -> Library:
    path = tmp_path / "driver.py"
    path.write_text(text, encoding="utf-8")
    return own_driver(str(path))


def test_rows_and_libraries_are_listed() -> None:
    done = command("--list", "--libraries", "sync", "--role", "client", "--rows", "*/fin*")
    assert done.returncode == 0, done.stderr
    names = [row.name for row in ROWS if row.name.startswith("client/fin") and can_be_played(row)]
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()[2:]] == names
    assert "sync:python" in done.stdout
    assert "websockets" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--libraries", "nobody"], "there is no driver for 'nobody'"),
        (["--rows", "client/nothing"], "no row is called 'client/nothing'"),
        (["--rows", "server/fin", "--role", "client"], "no row is called 'server/fin'"),
        (["--driver", "no_such_module"], "there is no file and no module no_such_module"),
        (["--driver", "no such file.py"], "there is no file and no module"),
        (["--jobs", "0"], "'0' is not a whole number"),
        (["--role", "peer"], "invalid choice"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_prints_a_table_and_writes_what_was_told(tmp_path: Path) -> None:
    page, data = tmp_path / "page.md", tmp_path / "run.json"
    done = command(
        "--libraries", "aio:python", "--rows", ",".join(SOME), "--json", str(data), "--markdown", str(page)
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "CLOSE_HANDSHAKE by the peer 1000 bye" in done.stdout
    assert "tells 3 of 3 endings from all others" in done.stdout
    run = json.loads(data.read_text(encoding="utf-8"))
    assert [row["name"] for row in run["rows"]] == [row.name for row in ROWS if row.name in SOME]
    ending = run["rows"][0]["libraries"]["aio:python"]["ending"]
    assert (ending["cause"], ending["clean"]) == ("CLOSE_HANDSHAKE", True)
    assert "| the peer resets | RESET 1006 |" in page.read_text(encoding="utf-8")


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    (library,) = (library for library in BUILT_IN if library.name == "websockets")
    assert library.missing() is None
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert library.missing() == "pip install websockets"


def test_a_driver_that_lies_is_caught(certificates: Certificates) -> None:
    liar = own_driver(str(LIAR))
    result = play(certificates, Library("liar", liar.command, adapter="aio"))
    assert sorted(result.wrong) == sorted(SOME)
    for name, problems in result.wrong.items():
        clean = TABLE[name].clean
        assert problems == [f"clean is {not clean}, not {clean}"]


def test_a_driver_that_hangs_is_killed(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsframe.testing.lifecycle._player.DEADLINE", 1.0)
    hangs = script(
        tmp_path,
        "import json, time\n"
        'print(json.dumps({"driver": "hangs", "version": "1"}), flush=True)\n'
        "time.sleep(1000)\n",
    )
    result = play(certificates, hangs, "client/fin")
    assert result.outcomes["client/fin"].status == "hangs"


def test_a_driver_that_dies_says_why(certificates: Certificates, tmp_path: Path) -> None:
    dies = script(
        tmp_path,
        "import json\n"
        'print(json.dumps({"driver": "dies", "version": "1"}), flush=True)\n'
        "input()\n"
        "raise ValueError('no more')\n",
    )
    outcome = play(certificates, dies, "client/fin").outcomes["client/fin"]
    assert (outcome.status, outcome.note) == ("failed", "ValueError: no more")


def test_a_driver_that_dies_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "dies.py"
    path.write_text(
        "import json\n"
        'print(json.dumps({"driver": "dies", "version": "1"}), flush=True)\n'
        "input()\n"
        "raise ValueError('no more')\n",
        encoding="utf-8",
    )
    done = command("--driver", str(path), "--rows", "client/fin")
    assert done.returncode == 1
    assert "dies client/fin: the driver failed: ValueError: no more" in done.stdout


@pytest.mark.parametrize("text", ["import no_such_module\n", "print('hello')\n", "print('{}')\n"])
def test_what_is_no_driver(certificates: Certificates, tmp_path: Path, text: str) -> None:
    result = play(certificates, script(tmp_path, text), "client/fin")
    assert result.problem
    assert not result.outcomes


def test_what_a_row_leaves_behind_is_found(certificates: Certificates, tmp_path: Path) -> None:
    leaves = script(
        tmp_path,
        "import asyncio, logging, socket\n"
        "from wsframe.testing.lifecycle.drivers import run\n"
        "from wsframe.testing.lifecycle.drivers.wsframe_aio import AioDriver\n"
        "kept = []\n"
        "class Leaves(AioDriver):\n"
        "    async def end(self):\n"
        "        await super().end()\n"
        "        kept.append(socket.socket())\n"
        "        kept.append(asyncio.create_task(asyncio.sleep(1000)))\n"
        "        logging.getLogger('wsframe').info('hello')\n"
        "run(Leaves)\n",
    )
    result = play(certificates, Library("leaves", leaves.command, adapter="aio"), "client/fin")
    problems = "\n".join(result.wrong["client/fin"])
    assert "left behind: a task: <coroutine object sleep" in problems
    assert "left behind: 1 file descriptors" in problems
    assert "logged: INFO wsframe: hello" in problems


def test_endings_that_are_told_alike_are_marked(certificates: Certificates, tmp_path: Path) -> None:
    # It forgets everything but whether it is over, as some libraries do.
    forgets = script(
        tmp_path,
        "from wsframe.testing.lifecycle.drivers import run\n"
        "from wsframe.testing.lifecycle.drivers.wsframe_aio import AioDriver\n"
        "class Forgets(AioDriver):\n"
        "    def told(self, what, *, over=False, ending=None, **more):\n"
        "        super().told('over' if over and 'CLOSE' not in what else what, over=over, **more)\n"
        "run(Forgets)\n",
    )
    result = play(certificates, forgets, *SOME, "client/fin-after-a-message", "client/reset-inside-a-frame")
    (column,) = columns_of([result], TABLE)
    # The last two say nothing new: their endings are those of the others.
    assert column.marks == dict.fromkeys(
        ("client/fin", "client/reset", "client/fin-after-a-message", "client/reset-inside-a-frame"), "a"
    )
    assert column.told_apart == (1, 3)
    assert "| the peer resets | (a) over |" in to_markdown([column], list(ROWS))
