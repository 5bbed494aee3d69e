"""`python -m wsframe connect`: what it sends, shows and returns, and how it leaves."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path

import pytest

import framebuilder
from cli_helpers import (
    PATIENCE,
    accept,
    command,
    drain,
    finish,
    lines,
    raw_server,
    run,
    serving,
)
from wsframe.cli import main


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    with serving(compression=True, subprotocols=["chat", "superchat"]) as uri:
        yield uri


# --- in a pipe --------------------------------------------------------------------------------------------


def test_a_line_is_echoed(server: str) -> None:
    done = run("connect", f"{server}/", stdin=b"hi\n")
    assert (done.returncode, done.stdout) == (0, b"hi\n")
    assert lines(done.stderr) == [
        f"connected to {server}/",
        "closed by us; sent Close 1000, received Close 1000",
    ]


def test_all_answers_come_though_the_server_is_slow(server: str) -> None:
    done = run("connect", f"{server}/slow", stdin=b"one\ntwo")
    assert (done.returncode, done.stdout) == (0, b"one\ntwo\n")


def test_an_answer_is_awaited_though_a_greeting_came(server: str) -> None:
    done = run("connect", f"{server}/welcome", stdin=b"one\n")
    assert (done.returncode, done.stdout) == (0, b"welcome\none\n")


def test_many_lines(server: str) -> None:
    text = b"".join(b"%d\n" % number for number in range(20_000))
    done = run("connect", f"{server}/", stdin=text)
    assert done.returncode == 0
    assert done.stdout == text


def test_line_endings_and_empty_lines(server: str) -> None:
    done = run("connect", f"{server}/", stdin="a\r\n\n\u00e4\n".encode())
    assert done.stdout.decode() == "a\n\n\u00e4\n"


def test_a_regular_file_is_read(server: str, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_text("from a file\n")
    with path.open("rb") as file:
        done = subprocess.run(
            command("connect", f"{server}/"), stdin=file, capture_output=True, timeout=PATIENCE, check=False
        )
    assert (done.returncode, done.stdout) == (0, b"from a file\n")


def test_without_stdin_at_all(server: str) -> None:
    line = f'exec "{sys.executable}" -m wsframe connect {server}/welcome <&-'
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, b"welcome\n")


def test_wait_zero_leaves_at_once(server: str) -> None:
    done = run("connect", f"{server}/silent", "--wait", "0", stdin=b"into the void\n")
    assert (done.returncode, done.stdout) == (0, b"")


def test_wait_for_ever_stays_until_the_server_closes() -> None:
    def talk(sock: socket.socket) -> None:
        accept(sock)
        threading.Event().wait(0.7)
        sock.sendall(framebuilder.build(framebuilder.TEXT, b"late"))
        sock.sendall(framebuilder.build(framebuilder.CLOSE, framebuilder.close_payload(1001)))
        finish(sock)

    with raw_server(talk) as uri:
        done = run("connect", uri, "--wait", "inf")
    assert (done.returncode, done.stdout) == (0, b"late\n")
    assert lines(done.stderr)[-1] == "closed by the peer; received Close 1001, sent Close 1001"


def test_output_comes_while_it_runs(server: str) -> None:
    with subprocess.Popen(
        command("connect", f"{server}/tick"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"tick 0\n"
        assert process.stdout.readline() == b"tick 1\n"
        process.terminate()
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_nobody_reads_the_output_any_more(server: str) -> None:
    line = f'yes | "{sys.executable}" -m wsframe connect {server}/ | head -n 2; echo ${{PIPESTATUS[1]}}'
    done = subprocess.run(["bash", "-c", line], capture_output=True, timeout=PATIENCE, check=False)
    assert done.stdout == b"y\ny\n0\n"
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


def test_a_line_that_is_no_text(server: str) -> None:
    done = run("connect", f"{server}/", stdin=b"fine\n\xff\nnever sent\n")
    assert done.returncode == 2
    assert b"never sent" not in done.stdout
    assert "line 2 is not UTF-8, so it cannot be a text message; --binary sends" in done.stderr.decode()


# --- what messages look like ------------------------------------------------------------------------------


def test_binary_lines_and_messages(server: str) -> None:
    done = run("connect", f"{server}/", "--binary", stdin=b"ab\xff\n\n")
    assert done.stdout == b"0x6162ff\n0x\n"


def test_hexadecimal_lines_take_what_is_printed(server: str) -> None:
    done = run("connect", f"{server}/", "--hex", stdin=b"0x6162ff\n00 01\n")
    assert done.stdout == b"0x6162ff\n0x0001\n"


def test_a_line_that_is_not_hexadecimal(server: str) -> None:
    done = run("connect", f"{server}/", "--hex", stdin=b"0x123\n")
    assert done.returncode == 2
    assert "line 1 is not hexadecimal" in done.stderr.decode()


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("\x1b]0;title\x07\x1b[2J", r"\e]0;title\x07\e[2J"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\x9b31m\x7f\x00", r"\x9b31m\x7f\x00"),
        ("\u202egnp.exe\u2066 \u2028 \U000e0041", r"\u202egnp.exe\u2066 \u2028 \U000e0041"),
        ("tab\tand \\ and \u00fcml\u00e4ut, \U0001f469\u200d\U0001f680", None),
    ],
)
def test_nothing_that_a_terminal_obeys(server: str, sent: str, shown: str | None) -> None:
    done = run("connect", f"{server}/send?{sent.encode().hex()}")
    assert done.stdout.decode() == f"{sent if shown is None else shown}\n"


def test_json_stays_json(server: str) -> None:
    value = {"a": 'quo"te \\ and\nline', "b": ["\u00e4", 1]}
    done = run("connect", f"{server}/", "-m", json.dumps(value))
    assert json.loads(done.stdout) == value


def test_raw(server: str) -> None:
    done = run("connect", f"{server}/send?611b62", "--raw")
    assert done.stdout == b"a\x1bb\n"
    done = run("connect", f"{server}/", "--raw", "--hex", "-m", "000aff")
    assert done.stdout == b"\x00\x0a\xff"


def test_characters_that_the_output_cannot_have(server: str) -> None:
    done = run("connect", f"{server}/", "-m", "\u20ac", PYTHONIOENCODING="ascii")
    assert done.stdout == b"\\u20ac\n"


# --- --message --------------------------------------------------------------------------------------------


def test_message_waits_for_its_answer(server: str) -> None:
    done = run("connect", f"{server}/slow", "--message", "one", "-m", "two")
    assert (done.returncode, done.stdout) == (0, b"one\ntwo\n")


def test_message_without_an_answer() -> None:
    def talk(sock: socket.socket) -> None:
        accept(sock)
        sock.recv(100)
        sock.sendall(framebuilder.build(framebuilder.CLOSE, framebuilder.close_payload(1000)))
        finish(sock)

    with raw_server(talk) as uri:
        done = run("connect", uri, "--message", "anybody?")
    assert (done.returncode, done.stdout) == (1, b"")


# --- exit status ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status"), [("1000", 0), ("1001,bye", 0), ("1011", 1), ("4001,because", 1), ("1008,\u202e", 1)]
)
def test_exit_status_by_the_close_code(
    server: str, query: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["connect", f"{server}/close?{query}", "-m", "x"]) == max(status, 1)
    done = run("connect", f"{server}/close?{query}", "--wait", "inf")
    assert done.returncode == status
    assert f"closed by the peer; received Close {query[:4]}" in lines(done.stderr)[-1]
    assert "\u202e" not in done.stderr.decode()


def test_exit_status_of_a_lost_connection(server: str) -> None:
    done = run("connect", f"{server}/drop", stdin=b"x\n")
    assert done.returncode == 1
    assert lines(done.stderr)[-1].startswith("lost: ")


def test_exit_status_of_a_broken_protocol() -> None:
    def talk(sock: socket.socket) -> None:
        accept(sock, framebuilder.build(3, b"?"))
        drain(sock)

    with raw_server(talk) as uri:
        done = run("connect", uri, "--wait", "inf", "--frames")
    assert done.returncode == 1
    assert "reserved opcode 3" in lines(done.stderr)[-1]
    assert any("< reserved 3   fin                   1 byte  3f" in line for line in lines(done.stderr))


# --- leaving ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes(server: str, number: signal.Signals) -> None:
    with subprocess.Popen(
        command("connect", f"{server}/welcome"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert lines(errors)[-1] == "closed by us; sent Close 1001, received Close 1001"


def test_a_second_interrupt_drops_the_connection() -> None:
    closing = threading.Event()

    def talk(sock: socket.socket) -> None:
        accept(sock, framebuilder.build(framebuilder.TEXT, b"ready"))
        assert framebuilder.parse_all(sock.recv(100))[0].opcode == framebuilder.CLOSE
        closing.set()
        drain(sock)

    with (
        raw_server(talk) as uri,
        subprocess.Popen(
            command("connect", uri), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert closing.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "closing (once more to drop the connection)" in lines(errors)
    assert "aborted by us" in errors.decode() or "sent Close 1001" in lines(errors)[-1]


def test_an_interrupt_before_it_is_open() -> None:
    asked = threading.Event()

    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        asked.set()
        drain(sock)

    with (
        raw_server(talk) as uri,
        subprocess.Popen(command("connect", uri), stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        assert asked.wait(PATIENCE)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert lines(errors) == ["interrupted before the connection was open"]


def test_help_tells_exit_statuses() -> None:
    done = run("connect", "--help")
    assert done.returncode == 0
    assert "exit status:\n  0    closed cleanly" in done.stdout.decode()


@pytest.mark.parametrize("name", ["serve", "connect"])
def test_every_option_is_documented(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    options = set(re.findall(r"(?<!\w)--?[a-zA-Z][a-z-]*", capfd.readouterr().out.replace("python -m", "")))
    options -= {"-h", "--help"}
    if name == "serve":
        # The default; what people need is its opposite.
        options.remove("--compression")
    page = (Path(__file__).parent.parent / "docs" / "cli.md").read_text("utf-8")
    section = re.split(r"^## ", page, flags=re.MULTILINE)[1 if name == "serve" else 2]
    assert section.startswith(name)
    assert {option for option in options if f"`{option}" not in section} == set()
