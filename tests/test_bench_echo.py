"""The echo benchmark: that it measures what it says, and that a server that does something else is found out.

No test here says how fast anything is. Servers and the load generator are real; samples last some milliseconds.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bench_compile
import bench_contestants
import bench_echo
import bench_field
import bench_generator
import bench_main
import bench_measure
import bench_pool
import bench_wire
import benchtools
import framebuilder
import wsframe
from bench_errors import UnsupportedError, UnusableError, WrongError
from bench_goals import Asked, Bound, Cost, Growth, Speed, Verdict, judge
from bench_measure import Result, Sample, Samples

benchtools.skip_without_programs()


@pytest.fixture(scope="session")
def programs() -> bench_generator.Programs:
    """The C programs, compiled as they are now."""
    return benchtools.programs()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, programs: bench_generator.Programs) -> None:
    """Every sample takes some milliseconds, and nothing is compiled again."""
    monkeypatch.setattr(bench_echo.EchoBenchmark, "quick_sample_ms", 4.0)
    monkeypatch.setattr(bench_field, "WARM_MS", 4.0)
    monkeypatch.setattr(bench_echo, "Programs", lambda: programs)


def bench(*arguments: str) -> int:
    return bench_main.main(["echo", "--quick", *arguments], "bench")


# --- a server that does as it is told ---------------------------------------------------------------------


class Peer:
    """Answers the opening handshake, and gives each message to a function that says what goes back."""

    def __init__(self, answer: Callable[[int, bytes], bytes], extra: str = "", accept: bool = True) -> None:
        self.answer = answer
        self.extra = extra
        self.accept = accept
        self.pongs: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            # One at a time: no test has two.
            with sock:
                sock.settimeout(20)
                with contextlib.suppress(OSError):
                    self._serve(sock)

    def _serve(self, sock: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            received = sock.recv(4096)
            if not received:
                return
            request += received
        head, _, received = request.partition(b"\r\n\r\n")
        key = next(line.split(b":")[1].strip() for line in head.split(b"\r\n") if b"-Key:" in line)
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        accept = base64.b64encode(digest).decode() if self.accept else "none"
        sock.sendall(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n{self.extra}\r\n".encode()
        )
        number = 0
        while True:
            frames, received = whole_frames(received)
            for frame in frames:
                if frame.opcode == 8:
                    sock.sendall(framebuilder.build(8, frame.payload))
                    return
                if frame.opcode == 10:
                    self.pongs.append(frame.payload)
                else:
                    sock.sendall(self.answer(number, frame.payload))
                    number += 1
            data = sock.recv(65536)
            if not data:
                return
            received += data


def whole_frames(data: bytes) -> tuple[list[bench_wire.WireFrame], bytes]:
    """Cut off the frames that are complete."""
    end = len(data)
    while end:
        try:
            return list(bench_wire.read_frames(data[:end])), data[end:]
        except ValueError:
            end -= 1
    return [], data


@pytest.fixture
def peer() -> Iterator[Callable[..., Peer]]:
    peers: list[Peer] = []

    def start(*arguments: Any, **options: Any) -> Peer:
        peers.append(Peer(*arguments, **options))
        return peers[-1]

    yield start
    for one in peers:
        one.close()


def text(payload: bytes) -> bytes:
    return framebuilder.build(framebuilder.TEXT, payload)


def echoes(programs: bench_generator.Programs, port: int, **options: Any) -> dict[str, Any]:
    chosen = {"warm_ms": 1, "ms": 1, "least": 8, "timeout": 1, **options}
    return bench_generator.generate(programs, port, os.getpid(), chosen)


def test_good_echo_is_measured(programs: bench_generator.Programs, peer: Callable[..., Peer]) -> None:
    answered: list[bytes] = []

    def answer(_number: int, payload: bytes) -> bytes:
        answered.append(payload)
        return text(payload)

    found = echoes(programs, peer(answer).port, size=125, least=200)
    assert found["messages"] >= 200
    assert found["cpu_ns"] > 0
    assert found["wall_ns"] > 0
    # What warms up is as much at least, and nobody sent anything else.
    assert len(answered) >= 400
    assert {len(payload) for payload in answered} == {125}
    assert len(set(answered)) == 128
    assert all(payload.isascii() for payload in answered)


def test_messages_go_out_together_when_all_are_back(
    programs: bench_generator.Programs, peer: Callable[..., Peer]
) -> None:
    kept: list[bytes] = []

    def answer(_number: int, payload: bytes) -> bytes:
        # Nothing goes back before ten are here.
        kept.append(text(payload))
        if len(kept) < 10:
            return b""
        whole = b"".join(kept)
        kept.clear()
        return whole

    found = echoes(programs, peer(answer).port, inflight=10, least=10)
    assert found["messages"] % 10 == 0
    assert kept == []


def test_echo_may_come_in_fragments_with_pings_between(
    programs: bench_generator.Programs, peer: Callable[..., Peer]
) -> None:
    def answer(number: int, payload: bytes) -> bytes:
        return (
            framebuilder.build(framebuilder.TEXT, payload[:5], fin=False)
            + framebuilder.build(9, b"ping %d" % number)
            + framebuilder.build(0, b"", fin=False)
            + framebuilder.build(0, payload[5:])
        )

    one = peer(answer)
    found = echoes(programs, one.port, size=300)
    assert found["messages"] >= 8
    assert one.pongs[:3] == [b"ping 0", b"ping 1", b"ping 2"]


#: What a server may do wrong, from its third message on, and what is said about it.
WRONG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda payload: b"", "nothing happened for 1 s"),
    "another byte": (lambda payload: text(payload[:-1] + b"\x7f"), "other bytes"),
    "an older message": (lambda payload: text(b"0 " + payload[2:]), "other bytes"),
    "shorter": (lambda payload: text(payload[:-1]), "an echo has 31 bytes, not 32"),
    "longer": (lambda payload: text(payload + b"!"), "longer than its message"),
    "twice": (lambda payload: text(payload) * 2, "more echoes than messages"),
    "binary": (lambda payload: framebuilder.build(2, payload), "no echo: opcode 2"),
    "masked": (lambda payload: framebuilder.build(1, payload, mask=b"abcd"), "masked"),
    "reserved bit": (lambda payload: b"\xc1" + text(payload)[1:], "reserved bit"),
    "text in a message": (
        lambda payload: framebuilder.build(1, payload[:5], fin=False) + text(payload[5:]),
        "no echo: opcode 1",
    ),
    "Close": (lambda payload: framebuilder.build(8, b"\x03\xe9"), "closed a connection with 1001"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_echo_is_found_out(
    programs: bench_generator.Programs, peer: Callable[..., Peer], what: str
) -> None:
    wrong, message = WRONG[what]

    def answer(number: int, payload: bytes) -> bytes:
        return text(payload) if number < 2 else wrong(payload)

    with pytest.raises(WrongError, match=message):
        echoes(programs, peer(answer).port)


@pytest.mark.parametrize("what", ["nothing", "shorter", "twice", "binary"])
def test_wrong_echo_is_found_out_while_it_is_measured(
    programs: bench_generator.Programs, peer: Callable[..., Peer], what: str
) -> None:
    wrong, message = WRONG[what]

    def answer(number: int, payload: bytes) -> bytes:
        # At least as many as are measured warm it up; that takes no time, so it ends with the first that is enough.
        return text(payload) if number < 1500 else wrong(payload)

    with pytest.raises(WrongError, match=message):
        echoes(programs, peer(answer).port, least=1000, warm_ms=0, ms=0)


def test_wrong_handshake_is_found_out(programs: bench_generator.Programs, peer: Callable[..., Peer]) -> None:
    def answer(_number: int, payload: bytes) -> bytes:
        return text(payload)

    with pytest.raises(WrongError, match=r"refused: HTTP/1\.1 101"):
        echoes(programs, peer(answer, accept=False).port)
    extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    with pytest.raises(WrongError, match="unasked"):
        echoes(programs, peer(answer, extension).port)
    with pytest.raises(UnsupportedError, match="no compression"):
        echoes(programs, peer(answer).port, deflate=1, size=1024)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(WrongError, match="cannot connect"):
        echoes(programs, port)


def test_server_that_does_not_look_at_text_is_found_out(peer: Callable[..., Peer]) -> None:
    def careless(_number: int, payload: bytes) -> bytes:
        return text(payload)

    def careful(_number: int, payload: bytes) -> bytes:
        return framebuilder.build(8, (1007).to_bytes(2, "big"))

    with pytest.raises(WrongError, match="does not check that text is UTF-8"):
        bench_generator.probe_text(peer(careless).port)
    bench_generator.probe_text(peer(careful).port)


# --- the limit --------------------------------------------------------------------------------------------


@pytest.fixture
def limit(programs: bench_generator.Programs) -> Iterator[bench_pool.Process]:
    entry = bench_contestants.ECHO.entries["limit"]
    process = bench_pool.Process(bench_generator.server_command(entry, programs, None))
    assert process.start() is None
    yield process
    process.close()
    assert process.has_ended()


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"size": 1},
        {"size": 125},
        {"size": 126},
        {"size": 65_535},
        {"size": 65_536},
        {"size": 1 << 20},
        {"size": 32, "inflight": 1000},
        {"size": 8192, "inflight": 100},
        {"size": 300_000, "inflight": 10},
        {"size": 32, "connections": 200},
        {"size": 32, "connections": 50, "active": 1},
        {"size": 32, "raw": 0, "opens": 10, "least": 50},
    ],
)
def test_limit_echoes(
    programs: bench_generator.Programs, limit: bench_pool.Process, options: dict[str, int]
) -> None:
    port = int(limit.described["port"])
    chosen = {"warm_ms": 2, "ms": 2, "timeout": 10, "least": 20, **options}
    found = bench_generator.generate(programs, port, limit.pid, chosen)
    assert found["messages"] >= chosen["least"]
    assert found["cpu_ns"] > 0


def test_limit_is_a_websocket_server(limit: bench_pool.Process) -> None:
    port = int(limit.described["port"])
    bench_generator.probe_text(port)
    ping = framebuilder.build(9, b"hello", mask=b"abcd")
    close = framebuilder.build(8, b"\x03\xe8bye", mask=b"wxyz")
    unicode = "Größe 🙂".encode()
    sent = framebuilder.build(1, unicode, mask=b"1234") + ping + framebuilder.build(2, b"\xff", mask=b"0000")
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(bench_wire.REQUEST)
        # Byte by byte, so that it has to keep what is not whole.
        for byte in sent + close:
            sock.sendall(bytes([byte]))
        received = b""
        while data := sock.recv(4096):
            received += data
    _, _, frames = received.partition(b"\r\n\r\n")
    assert [(frame.opcode, frame.payload) for frame in bench_wire.read_frames(frames)] == [
        (1, unicode),
        (10, b"hello"),
        (2, b"\xff"),
        (8, b"\x03\xe8bye"),
    ]


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80",
        b"\xc0\x80",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xff",
        b"abcdefgh\xc3\x28ijklmnop",
    ],
)
def test_limit_looks_at_text(limit: bench_pool.Process, payload: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        payload.decode()
    with socket.create_connection(("127.0.0.1", int(limit.described["port"])), 20) as sock:
        sock.sendall(bench_wire.REQUEST + framebuilder.build(1, payload, mask=b"abcd"))
        received = b""
        while data := sock.recv(4096):
            received += data
    assert received.partition(b"\r\n\r\n")[2] == b""


# --- runs -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("websockets")
    file, table = tmp_path / "result.json", tmp_path / "table.md"
    cases = ["ping/32", "ping/1M", "pipe/32", "many/100"]
    arguments = ["--codec", "python", "--loop", "asyncio"]
    output = ["--goals", "--json", str(file), "--markdown", str(table)]
    status = bench(*arguments, "--against", "websockets", "--cases", ",".join(cases), *output)
    shown = capsys.readouterr()
    assert status == 0, shown
    found = json.loads(file.read_text("utf-8"))
    assert found["tool"] == "wsframe bench echo"
    assert found["reference"] == "wsframe-python/asyncio"
    names = {"wsframe-python/asyncio", "wsframe-python/sync", "limit", "raw/asyncio", "websockets/asyncio"}
    assert set(found["contestants"]) == names
    assert "python" in found["contestants"]["wsframe-python/asyncio"]["codec"]
    assert [case["name"] for case in found["cases"]] == cases
    for case in found["cases"]:
        assert set(case["results"]) == names
        assert case["best peer"] == "websockets/asyncio"
        for one in case["results"].values():
            assert len(one["cpu_ns"]) == len(one["wall_ns"]) == len(one["messages"]) == 2
            assert all(sample > 0 for sample in one["cpu_ns"] + one["messages"])
    assert "of best peer" in shown.out
    assert "| `ping/1M` |" in table.read_text("utf-8")

    # And once more, to be compared with the first one.
    more = ["--against", "none", "--cases", "ping/32", "--rounds", "1", "--compare", str(file)]
    assert bench(*arguments, *more) == 0
    again = capsys.readouterr().out
    assert f"since {found['started']}" in again
    assert "as to limit" in again


@pytest.mark.usefixtures("short")
def test_every_server_that_is_installed_echoes(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    status = bench("--cases", "ping/256,pipe/8K", "--rounds", "1", "--codec", "python", "--json", str(file))
    found = json.loads(file.read_text("utf-8"))
    assert status == 0, [case["skipped"] for case in found["cases"]]
    roster = bench_contestants.ECHO
    here = {name for name in roster.entries if roster.codec_of(name) != "cython"}
    for case in found["cases"]:
        assert set(case["results"]) | set(found["missing"]) == here


@pytest.mark.skipif(wsframe.backend != "cython", reason="the codec is not compiled")
@pytest.mark.usefixtures("short")
def test_ours_with_the_compiled_codec_echo(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    arguments = ["--cases", "ping/256,pipe/8K", "--rounds", "1", "--codec", "cython"]
    status = bench(*arguments, "--against", "none", "--json", str(file))
    found = json.loads(file.read_text("utf-8"))
    assert status == 0, [case["skipped"] for case in found["cases"]]
    roster = bench_contestants.ECHO
    here = {name for name, entry in roster.entries.items() if entry.codec == "cython" and entry.host is None}
    for case in found["cases"]:
        assert here <= set(case["results"]) | set(found["missing"])


@pytest.mark.usefixtures("short")
def test_servers_on_uvicorn_echo(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn")
    file = tmp_path / "result.json"
    arguments = ["--cases", "ping/256", "--rounds", "1", "--codec", "python", "--loop", "asyncio"]
    assert bench(*arguments, "--against", "uvicorn.wsproto", "--json", str(file)) == 0
    (case,) = json.loads(file.read_text("utf-8"))["cases"]
    assert {name for name in case["results"] if name.startswith("uvicorn")} == {
        "uvicorn.wsframe-python/asyncio",
        "uvicorn.wsproto/asyncio",
    }


@pytest.mark.usefixtures("short")
def test_tls(tmp_path: Path, programs: bench_generator.Programs) -> None:
    pytest.importorskip("trustme")
    file = tmp_path / "result.json"
    arguments = ["--cases", "tls/32,tls/100K", "--rounds", "1", "--codec", "python", "--loop", "asyncio"]
    assert bench(*arguments, "--against", "none", "--json", str(file)) == 0
    for case in json.loads(file.read_text("utf-8"))["cases"]:
        assert case["skipped"]["limit"] == "it has no TLS"
        if programs.has_tls:
            assert set(case["results"]) == {"wsframe-python/asyncio", "wsframe-python/sync", "raw/asyncio"}
        else:
            assert "without OpenSSL" in case["skipped"]["wsframe-python/asyncio"]


@pytest.mark.usefixtures("short")
def test_server_that_dies_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = bench_generator.server_command

    def command(entry: Any, *arguments: Any) -> bench_pool.Command:
        if entry.name == "limit":
            return started(entry, *arguments)
        program = (
            'import sys; print(\'{"ready": {"version": "0", "port": 1}}\', flush=True); sys.exit(\'killed\')'
        )
        return bench_pool.Command((sys.executable, "-c", program), os.environ)

    monkeypatch.setattr(bench_field, "server_command", command)
    monkeypatch.setattr(bench_field, "probe_text", lambda port: None)
    file = tmp_path / "result.json"
    arguments = ["--cases", "ping/32", "--codec", "python", "--loop", "asyncio", "--against", "none"]
    assert bench(*arguments, "--json", str(file)) == 1
    (case,) = json.loads(file.read_text("utf-8"))["cases"]
    assert set(case["results"]) == {"limit"}
    assert "status 1: killed" in case["skipped"]["wsframe-python/asyncio"]
    assert "FAILED: wsframe-python/asyncio" in capsys.readouterr().out


# --- what is refused --------------------------------------------------------------------------------------


def test_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert bench("--cases", "ping/32") == 2
    assert "there is no C compiler" in capsys.readouterr().err


def test_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(bench_compile, "FLAGS", ("-include", "no-such-header.h"))
    with pytest.raises(UnusableError, match=r"cannot compile bench_limit.c: .*no-such-header"):
        bench_compile.compiled("bench_limit")
    assert list((tmp_path / "wsframe-bench").iterdir()) == []


def test_programs_are_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "bench_nothing.c"
    source.write_text("int main(void) { return 0; }\n")
    shutil.copy(bench_compile.SOURCES / "bench_common.h", tmp_path)
    monkeypatch.setattr(bench_compile, "SOURCES", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    broken = bench_compile.Build(link=("-lno-such-library",))
    first = bench_compile.compiled("bench_nothing", (broken, bench_compile.PLAIN))
    assert first.build is bench_compile.PLAIN
    assert subprocess.run([str(first.path)], check=False).returncode == 0
    stamp = first.path.stat().st_mtime_ns
    assert bench_compile.compiled("bench_nothing").path == first.path
    assert first.path.stat().st_mtime_ns == stamp
    source.write_text("int main(void) { return 1; }\n")
    assert bench_compile.compiled("bench_nothing").path != first.path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cases", "wurst"], "no case 'wurst'"),
        (["--against", "wurst"], "no such peer, but: picows, picows.websockets"),
        (["--loop", "trio"], "invalid choice"),
        (["--compare", "/nowhere/at/all.json"], "No such file"),
        (["--compare", __file__], "not JSON"),
        (["--compare", "{codec}"], "not a result of this version of wsframe bench echo"),
    ],
)
def test_what_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    codec = tmp_path / "codec.json"
    codec.write_text('{"tool": "wsframe bench codec", "format": 2}')
    assert bench(*(argument.format(codec=codec) for argument in arguments)) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


def test_choose() -> None:
    roster = bench_contestants.ECHO
    assert roster.choose(["cython"], ["websockets"], ["uvloop"]) == [
        "wsframe.callbacks/uvloop",
        "wsframe/uvloop",
        "wsframe/sync",
        "limit",
        "raw/uvloop",
        "websockets/uvloop",
    ]
    # A name is not the beginning of another one.
    assert roster.matching("picows") == ["picows/uvloop", "picows/asyncio"]
    assert roster.matching("picows.websockets/uvloop") == ["picows.websockets/uvloop"]
    assert {roster.entries[name].codec for name in roster.ours} == {"cython", "python"}


def test_quick_run_leaves_out_what_takes_long() -> None:
    benchmark = bench_echo.BENCHMARK
    quick = {case.name for case in benchmark.cases(quick=True)}
    assert {"ping/1M", "pipe/8K", "many/1000"} <= quick
    assert {case.name for case in benchmark.cases(quick=False)} - quick == {
        "many/10000",
        "idle/10000",
        "tls/32",
        "tls/8K",
        "tls/100K",
        "tls/1M",
    }


# --- goals and changes ------------------------------------------------------------------------------------


def result(case: str, **figures: list[float]) -> Result:
    """A result; `_` stands for `/` in the names."""
    return Result(
        bench_echo.CASES[case],
        {
            name.replace("_", "/"): Samples([Sample(figure, figure, 1) for figure in many])
            for name, many in figures.items()
        },
    )


def test_goals_are_about_what_there_is() -> None:
    subject = bench_echo.BENCHMARK.subject
    for goal in subject.goals:
        assert goal.figures({})
        assert set(goal.figures({})) <= set(subject.cases)
        assert goal.against in {*subject.cases, *subject.roster.entries}


def test_goals_of_other_kinds() -> None:
    def verdict(goal: Any, *results: Result) -> Verdict:
        (judged,) = judge(results, (goal,))
        return judged.verdict

    cost = Cost("cost", "wsframe/uvloop", "limit", 1.4, ("ping/32",))
    assert cost.asked == "<= 1.40x"
    assert verdict(cost, result("ping/32", wsframe_uvloop=[13.0], limit=[10.0])) is Verdict.REACHED
    assert verdict(cost, result("ping/32", wsframe_uvloop=[15.0], limit=[10.0])) is Verdict.MISSED
    assert verdict(cost, result("ping/32", limit=[10.0])) is Verdict.OPEN

    growth = Growth("growth", "wsframe/uvloop", "ping/32", 1.6, ("many/100", "many/1000"))
    one, few = result("ping/32", wsframe_uvloop=[10.0]), result("many/100", wsframe_uvloop=[15.0])
    assert verdict(growth, one, few) is Verdict.OPEN
    assert verdict(growth, one, few, result("many/1000", wsframe_uvloop=[16.0])) is Verdict.REACHED
    assert verdict(growth, one, few, result("many/1000", wsframe_uvloop=[17.0])) is Verdict.MISSED
    assert verdict(growth, few) is Verdict.OPEN

    bound = Bound("bytes", "wsframe/uvloop", 5120, ("ping/32",))
    assert bound.asked == "<= 5.00 KiB"
    assert verdict(bound, result("ping/32", wsframe_uvloop=[5120.0])) is Verdict.REACHED
    assert verdict(bound, result("ping/32", wsframe_uvloop=[5121.0])) is Verdict.MISSED


def test_missed_goal_is_put_beside_the_limits() -> None:
    goal = Speed("ping", "wsframe/uvloop", "picows/uvloop", 2.0, ("ping/32", "ping/8K"))
    ours = {"wsframe_uvloop": [9.0], "picows_uvloop": [10.0]}
    missed = result("ping/32", **ours, limit=[7.0], raw_uvloop=[8.0], raw_asyncio=[9.0])
    reached = result("ping/8K", wsframe_uvloop=[1.0], picows_uvloop=[10.0], limit=[1.0])
    limits = ("limit", "raw/uvloop", "raw/asyncio")
    (judged,) = judge((missed, reached), (goal,), limits)
    assert judged.asked == {"ping/32": Asked(5.0, {"limit": 7.0, "raw/uvloop": 8.0})}
    # What it is about already is not said again, and without limits there is nothing to say.
    (judged,) = judge((missed,), (Cost("cost", "wsframe/uvloop", "limit", 1.1, ("ping/32",)),), limits)
    assert judged.asked["ping/32"].limits == {"raw/uvloop": 8.0}
    assert judged.asked["ping/32"].figure == pytest.approx(7.7)
    (judged,) = judge((result("ping/32", **ours),), (goal,), limits)
    assert (judged.asked, judged.verdict) == ({}, Verdict.MISSED)


def test_chart_has_a_ranking_for_each_case(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from bench_chart import draw

    results = [
        result("ping/32", wsframe_uvloop=[10.0, 11.0], limit=[5.0, 6.0], websockets_uvloop=[1e6, 2e6]),
        result("many/100", wsframe_uvloop=[0.0, 0.0]),
        result("many/1000"),
    ]
    file = tmp_path / "chart.svg"
    draw(bench_echo.BENCHMARK.subject, results, file, "here and now")
    assert "</svg>" in file.read_text("utf-8")


def test_figure_of_nothing_is_compared_with_nothing() -> None:
    one = result("ping/32", wsframe_uvloop=[0.0, 1.0], limit=[1.0, 1.0])
    assert one.ratio("limit", "wsframe/uvloop") is None
    ratio = one.ratio("wsframe/uvloop", "limit")
    assert ratio is not None
    assert ratio.median == 0.5


def test_changes_are_told_from_noise(tmp_path: Path) -> None:
    from bench_compare import changes, read_old
    from bench_json import as_json

    subject = bench_echo.BENCHMARK.subject
    before = [
        result("ping/32", wsframe_uvloop=[10.0, 11.0, 12.0], limit=[5.0, 5.0, 5.0], raw_uvloop=[1.0] * 3),
        result("ping/8K", limit=[5.0]),
    ]
    file = tmp_path / "old.json"
    document = as_json(
        subject, before, settings={}, environment={"started": "then"}, contestants={}, missing={}
    )
    file.write_text(json.dumps(document))
    old = read_old(subject, file)
    now = [result("ping/32", wsframe_uvloop=[20.0, 22.0, 24.0], limit=[10.0, 10.0, 10.0])]
    ours, limit = changes(subject, now, old)
    assert (ours.case, ours.contestant) == ("ping/32", "wsframe/uvloop")
    assert (ours.old.median, ours.new.median) == (11, 22)
    assert ours.real
    # The machine became half as fast, and nothing else happened.
    assert ours.of_limit == 1
    assert limit.of_limit is None
    (same, _) = changes(subject, [result("ping/32", wsframe_uvloop=[11.0, 11.4, 13.0], limit=[5.0] * 3)], old)
    assert not same.real


def test_wrong_sample_is_not_counted() -> None:
    class Broken:
        missing: dict[str, str] = {"absent": "it is not installed"}  # noqa: RUF012
        names = ("good", "bad")
        described: dict[str, dict[str, str]] = {}  # noqa: RUF012

        def prepare(self, name: str, case: Any) -> None:
            pass

        def sample(self, name: str) -> Sample:
            if name == "bad":
                raise WrongError("an echo has other bytes than its message")
            return Sample(1.0, 1.0, 1)

        def forget(self, name: str) -> None:
            pass

    class Quiet:
        def at(self, case: Any, contestant: str, round_: int) -> None:
            pass

        def done(self, result: Result) -> None:
            pass

    (found,) = bench_measure.measure(Broken(), [bench_echo.CASES["ping/32"]], Quiet(), rounds=3)
    assert found.samples["good"].figures == [1.0] * 3
    assert list(found.samples) == ["good"]
    assert found.failed == {"bad"}
    assert found.skipped == {
        "absent": "it is not installed",
        "bad": "an echo has other bytes than its message",
    }
