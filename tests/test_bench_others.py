"""The benchmarks of clients, memory and connections: that they measure what they say.

No test here says how fast or how small anything is. What is measured is real, but short.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bench_client
import bench_client_worker
import bench_clients
import bench_connect
import bench_contestants
import bench_echo
import bench_field
import bench_generator
import bench_main
import bench_memory
import bench_pool
import bench_servers
import benchtools
from bench_errors import UnsupportedError, WrongError

benchtools.skip_without_programs()


@pytest.fixture(scope="session")
def programs() -> bench_generator.Programs:
    """The C programs, compiled as they are now."""
    return benchtools.programs()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, programs: bench_generator.Programs) -> None:
    """Every sample takes some milliseconds, and nothing is compiled again."""
    for module in (bench_client, bench_connect, bench_memory):
        monkeypatch.setattr(module, "Programs", lambda: programs)
    for benchmark in (bench_client.ClientBenchmark, bench_connect.ConnectBenchmark):
        monkeypatch.setattr(benchmark, "quick_sample_ms", 4.0)
    monkeypatch.setattr(bench_field, "WARM_MS", 4.0)
    monkeypatch.setattr(bench_memory, "FIRST", 10)
    monkeypatch.setattr(bench_memory, "THEN", 30)


@pytest.fixture
def limit(programs: bench_generator.Programs) -> Iterator[bench_pool.Process]:
    entry = bench_contestants.ECHO.entries["limit"]
    process = bench_pool.Process(bench_generator.server_command(entry, programs, None))
    assert process.start() is None
    yield process
    process.close()


def bench(command: str, *arguments: str) -> int:
    return bench_main.main([command, "--quick", *arguments], "bench")


def run(command: str, file: Path, *arguments: str) -> dict[str, Any]:
    """Run it with the pure codec and return what it wrote."""
    status = bench(command, "--codec", "python", "--json", str(file), *arguments)
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
    assert status == 0, [case["skipped"] for case in found["cases"]]
    assert found["tool"] == f"wsframe bench {command}"
    return found


# --- clients ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_clients(tmp_path: Path) -> None:
    found = run("client", tmp_path / "result.json", "--cases", "trip/8K", "--goals")
    assert found["reference"] in {"wsframe-python/uvloop", "wsframe-python/asyncio"}
    here = {name for name in bench_contestants.CLIENT.entries if not name.startswith("wsframe/")}
    for case in found["cases"]:
        assert set(case["results"]) | set(found["missing"]) == here
        assert {"wsframe-python/asyncio", "wsframe-python/sync", "socket"} <= set(case["results"])
        for one in case["results"].values():
            assert len(one["cpu_ns"]) == len(one["wall_ns"]) == 3


class Liar(bench_clients.Client):
    def __init__(self, answer: str) -> None:
        self.answer = answer

    def trips(self, message: str, times: int) -> str:
        return self.answer

    def close(self) -> None:
        pass


def test_client_that_gives_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = bench_client_worker.ClientWorker(bench_contestants.CLIENT.entries["socket"])
    monkeypatch.setitem(bench_clients.BLOCKING, "socket", lambda port: Liar("x" * 32))
    with pytest.raises(WrongError, match="another message"):
        worker.ready("trip/32", size=32, port=1)
    assert worker.prepare("trip/32", size=32, port=1) == {"wrong": "another message came back"}


def test_bare_socket_counts_and_sees_the_end_of_what_came(limit: bench_pool.Process) -> None:
    worker = bench_client_worker.ClientWorker(bench_contestants.CLIENT.entries["socket"])
    for size in (1, 125, 126, 70_000, 1 << 20):
        assert worker.prepare("trip/32", size=size, port=int(limit.described["port"])) == {"messages": 1}
        assert "cpu_ns" in worker.sample(3)
        assert isinstance(worker.client, bench_clients.BareSocket)
        assert not b"abc".endswith(worker.client.trips("xyz", 1)[-3:])
        worker.forget()


def test_blocking_client_with_a_thread_is_counted_whole() -> None:
    worker = bench_client_worker.ClientWorker(bench_contestants.CLIENT.entries["socket"])
    assert worker.clock is time.process_time_ns


# --- memory -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("websockets")
    arguments = ["--loop", "asyncio", "--against", "websockets", "--goals"]
    arguments += ["--cases", "idle/plain,used/deflate"]
    found = run("memory", tmp_path / "result.json", *arguments)
    ours = {"wsframe-python/asyncio", "wsframe-python/sync", "websockets/asyncio"}
    for case in found["cases"]:
        deflate = case["name"].endswith("/deflate")
        assert set(case["results"]) == (ours if deflate else {*ours, "limit", "raw/asyncio"})
        if deflate:
            assert case["skipped"]["limit"] == "it agreed to no compression"
            assert case["skipped"]["raw/asyncio"] == "it has no frames"
        for one in case["results"].values():
            assert len(one["rss_bytes"]) == 1
            assert one["messages"] == [20]
            assert one["wall_ns"] == []
    assert "of best peer" in capsys.readouterr().out


def test_resident_memory_is_that_of_the_process() -> None:
    program = "import sys; data = b'x' * (64 << 20); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert 64 << 20 < bench_memory.resident(process.pid) < 256 << 20
        process.communicate()
    with pytest.raises(WrongError, match="has ended"):
        bench_memory.resident(process.pid)


def test_load_generator_holds_what_it_says(
    programs: bench_generator.Programs, limit: bench_pool.Process
) -> None:
    port = int(limit.described["port"])
    command = bench_generator.generator_command(programs, port, limit.pid, {"hold": "5,12", "used": 1})
    descriptors = Path(f"/proc/{limit.pid}/fd")
    before = len(list(descriptors.iterdir()))
    load = bench_pool.Process(bench_pool.Command(tuple(command), os.environ))
    try:
        for count in (5, 12):
            assert load.receive() == {"held": count}
            # It may not have found out yet that the generator has closed others.
            for _ in range(500):
                held = len(list(descriptors.iterdir())) - before
                if held == count:
                    break
                time.sleep(0.01)
            assert held == count
            load.tell("")
        assert load.has_ended()
    finally:
        load.close()


# --- connections ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short")
def test_connect(tmp_path: Path) -> None:
    pytest.importorskip("websockets")
    arguments = ["--loop", "asyncio", "--against", "websockets", "--cases", "open"]
    found = run("connect", tmp_path / "result.json", *arguments)
    assert [case["name"] for case in found["cases"]] == ["open/1", "open/100"]
    for case in found["cases"]:
        names = {"wsframe-python/asyncio", "wsframe-python/sync", "limit", "websockets/asyncio"}
        assert set(case["results"]) == names
        assert case["skipped"]["raw/asyncio"] == "it has no handshakes"
        assert all(min(one["messages"]) >= bench_connect.LEAST for one in case["results"].values())


def test_ended_threads_are_in_the_cpu_time(programs: bench_generator.Programs) -> None:
    # Each connection costs a thread 10 ms, and is not there any more when the load generator looks.
    source = "\n".join(
        (
            "import socket, sys, threading, time",
            "listener = socket.create_server(('127.0.0.1', 0))",
            "print(listener.getsockname()[1], flush=True)",
            "def busy(sock):",
            "    with sock:",
            "        sock.recv(4096)",
            "        end = time.thread_time() + 0.01",
            "        while time.thread_time() < end: pass",
            "        key = b's3pPLMBiTxaQ9kYGzzhZRbK+xOo='",
            "        sock.sendall(b'HTTP/1.1 101 Fine\\r\\nSec-WebSocket-Accept: ' + key + b'\\r\\n\\r\\n')",
            "        sock.recv(4096)",
            "while True:",
            "    sock, _ = listener.accept()",
            "    threading.Thread(target=busy, args=[sock], daemon=True).start()",
        )
    )
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        options = {"opens": 1, "least": 5, "warm_ms": 0, "ms": 0, "timeout": 20}
        found = bench_generator.generate(programs, port, process.pid, options)
        process.kill()
    assert found["messages"] >= 5
    assert found["cpu_ns"] / found["messages"] > 10e6


# --- all of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [bench_client, bench_connect, bench_memory])
def test_goals_are_about_what_there_is(module: Any) -> None:
    subject = module.BENCHMARK.subject
    for goal in subject.goals:
        assert set(goal.figures({})) <= set(subject.cases)
        assert goal.ours in subject.roster.entries
        assert goal.against in {"", *subject.roster.entries}
    for case in subject.cases.values():
        assert case.group in subject.groups


@pytest.mark.parametrize("command", ["echo", "client", "memory", "connect"])
def test_list(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert bench_main.main([command, "--list"], "bench") == 0
    shown = capsys.readouterr().out
    assert "wsframe/asyncio" in shown
    assert "wsframe-python/sync" in shown


def test_every_name_has_its_server_and_its_client() -> None:
    for name, entry in bench_contestants.ECHO.entries.items():
        if entry.loop is not None:
            assert name.partition("/")[0] in bench_servers.ASYNCHRONOUS
    for name, entry in bench_contestants.CLIENT.entries.items():
        if entry.loop is not None:
            assert name.partition("/")[0] in bench_clients.ASYNCHRONOUS
        else:
            assert name in bench_clients.BLOCKING


def test_threads_are_not_asked_for_too_many_connections() -> None:
    raw, case = "raw/asyncio", bench_connect.CASES["open/1"]
    with pytest.raises(UnsupportedError):
        case.options(raw)
    assert bench_memory.THEN <= bench_servers.MOST_THREADS
    assert bench_echo.CASES["many/1000"].connections <= bench_servers.MOST_THREADS
