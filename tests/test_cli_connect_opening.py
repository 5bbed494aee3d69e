"""`python -m wsframe connect`: the opening handshake, why there may be no WebSocket, and what is on the wire."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Generator
from pathlib import Path

import pytest
import trustme

import framebuilder
from cli_helpers import (
    PATIENCE,
    accept,
    command,
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


# --- what cannot be opened --------------------------------------------------------------------------------


def failure(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str]:
    status: int | str | None
    try:
        status = main(["connect", *arguments])
    except SystemExit as exc:
        status = exc.code
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    return status, shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["localhost"], "begin with ws:// or wss://"),
        (["http://localhost/"], "use ws:// or wss://"),
        (["ws://localhost/", "--ca", "x"], "--ca is for wss://"),
        (["ws://localhost/", "--insecure"], "--insecure is for wss://"),
        (["wss://localhost/", "--insecure", "--ca", "x"], "not allowed with"),
        (["wss://localhost/", "--ca", "/nowhere"], "cannot load certificates from /nowhere: No such file"),
        (["ws://localhost/", "-H", "no colon"], "not NAME:VALUE"),
        (["ws://localhost/", "-H", "a b: c"], "python -m wsframe connect: "),
        (["ws://localhost/", "-H", "Upgrade: h2c"], "Upgrade is written by the opening handshake itself"),
        (["ws://localhost/", "--subprotocol", "a b"], "python -m wsframe connect: "),
        (["ws://localhost/", "--ping", "-1"], "must not be below 0"),
        (["ws://localhost/", "--ping", "soon"], "not a number of seconds"),
        (["ws://localhost/", "--wait", "nan"], "must not be below 0"),
        (["ws://localhost/", "--hex", "-m", "xyz"], "--message is not hexadecimal"),
        (["ws://localhost/", "--hex", "--binary"], "not allowed with"),
        ([], "required: URL"),
    ],
)
def test_wrong_usage(capfd: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    status, shown = failure(capfd, *arguments)
    assert status == 2
    assert message in shown


def test_nobody_listens(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    status, shown = failure(capfd, f"ws://127.0.0.1:{port}/", "-m", "x")
    assert status == 3
    assert (
        shown == f"python -m wsframe connect: nothing listens at 127.0.0.1 port {port}: connection refused\n"
    )


def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("ws_proxy", f"http://ada:s3cret@127.0.0.1:{port}")
    status, shown = failure(capfd, "ws://service.example/", "-m", "x")
    assert status == 3
    assert f"the proxy http://127.0.0.1:{port} (from ws_proxy in the environment) cannot be reached" in shown
    assert "s3cret" not in shown
    monkeypatch.setenv("ws_proxy", "gopher://ada:s3cret@proxy.example")
    status, shown = failure(capfd, "ws://service.example/", "-m", "x")
    assert status == 2
    assert "ws_proxy in the environment must begin with" in shown
    assert "s3cret" not in shown


def test_the_origin_is_refused(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, shown = failure(capfd, f"{server}/", "--origin", "http://evil.example")
    assert status == 3
    assert "the server answered 403 Forbidden: origin 'http://evil.example' is not the host" in shown


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
            "401 Unauthorized (it wants to know who you are",
        ),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>", "404 Not Found (is the path right?)"),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: wss://new.example/\x80\r\nContent-Length: 0\r\n\r\n",
            "301 Moved: it is at wss://new.example/\\x80 now",
        ),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 10\r\n\r\na\x1b[2J\n\nb!!", "500 Oh: a\\e[2J b!!"),
        (b"220 mail.example ESMTP\r\n", "does not answer as a WebSocket server"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "(a server with TLS is reached with wss://)"),
        (b"HTTP/1.1 101 Sure\r\n\r\n", "the response's Upgrade header must be 'websocket'"),
        (b"HTTP/1.1 101 Sw", "the peer ended the stream"),
        (b"", "no WebSocket at 127.0.0.1 port "),
    ],
)
def test_another_answer(capfd: pytest.CaptureFixture[str], answer: bytes, message: str) -> None:
    def talk(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(answer)

    with raw_server(talk) as uri:
        status, shown = failure(capfd, uri)
    assert status == 3
    assert message in shown
    assert len(shown.splitlines()) == 1


# --- TLS --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure_server(authority: trustme.CA) -> Generator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with serving(context) as uri:
        yield uri


def test_an_unknown_authority(secure_server: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, shown = failure(capfd, secure_server, "-m", "x")
    assert status == 3
    assert "cannot trust the certificate of 127.0.0.1: " in shown
    assert "--ca FILE" in shown
    assert "--insecure" in shown


def test_ca(
    secure_server: str, authority: trustme.CA, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert main(["connect", secure_server, "--ca", str(tmp_path / "ca.pem"), "-m", "sealed"]) == 0
    assert capfd.readouterr().out == "sealed\n"
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    status, shown = failure(capfd, secure_server, "--ca", str(tmp_path / "other.pem"))
    assert status == 3
    assert "does FILE of --ca belong to this server?" in shown


def test_insecure(secure_server: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["connect", secure_server, "--insecure", "-m", "whoever you are"]) == 0
    assert capfd.readouterr().out == "whoever you are\n"


def test_tls_to_a_server_without(server: str, capfd: pytest.CaptureFixture[str]) -> None:
    status, shown = failure(capfd, f"wss{server[2:]}/", "-m", "x")
    assert status == 3
    assert "TLS failed" in shown
    assert "ws://" in shown


# --- the opening handshake and frames ---------------------------------------------------------------------


def test_headers_origin_and_subprotocols(server: str) -> None:
    origin = server.replace("ws", "http", 1)
    done = run(
        "connect", f"{server}/headers", "-m", "?", "-H", "X-Token: a:b", "-H", "X-Empty:",
        "--origin", origin, "--subprotocol", "nope", "--subprotocol", "superchat",
    )  # fmt: skip
    shown = done.stdout.decode()
    assert r"\nX-Token: a:b\nX-Empty: " in shown
    assert rf"\nOrigin: {origin}\n" in shown
    assert r"\nSec-WebSocket-Protocol: nope, superchat\n" in shown
    assert lines(done.stderr)[0] == f"connected to {server}/headers, subprotocol superchat"


def test_show_handshake(server: str) -> None:
    done = run("connect", f"{server}/?a=b", "--show-handshake", "--compression", "-m", "x")
    shown = lines(done.stderr)
    assert shown[0] == "> GET /?a=b HTTP/1.1"
    blank = shown.index(">")
    assert shown[blank + 1] == "< HTTP/1.1 101 Switching Protocols"
    end = shown.index("<")
    assert any(line.startswith("< Sec-WebSocket-Extensions: permessage-deflate") for line in shown[blank:end])
    assert shown[end + 1].startswith(f"connected to {server}/?a=b, permessage-deflate")
    assert done.stdout == b"x\n"


def test_show_handshake_of_a_refusal(server: str) -> None:
    done = run("connect", f"{server}/", "--show-handshake", "--frames", "--origin", "http://a.example")
    shown = lines(done.stderr)
    assert "> Origin: http://a.example" in shown
    assert "< HTTP/1.1 403 Forbidden" in shown
    assert done.returncode == 3


def test_frames_of_both_directions(server: str) -> None:
    done = run("connect", f"{server}/", "--frames", "--ping", "60", "-m", "hello")
    shown = [line[9:] for line in lines(done.stderr) if line[:1] == " "]
    text = [line for line in shown if "TEXT" in line]
    assert text == [
        ' > TEXT         fin masked           5 bytes  "hello"',
        ' < TEXT         fin                  5 bytes  "hello"',
    ]
    assert [line.split()[:2] for line in shown if "P" in line] == [[">", "PING"], ["<", "PONG"]]
    # The pong may come between them.
    assert [line for line in shown if "CLOSE" in line] == [
        " > CLOSE        fin masked           2 bytes  1000",
        " < CLOSE        fin                  2 bytes  1000",
    ]
    assert done.stdout == b"hello\n"


def test_frames_of_compressed_messages(server: str) -> None:
    done = run("connect", f"{server}/", "--frames", "--compression", "-m", "x" * 1000)
    shown = [line for line in lines(done.stderr) if "TEXT" in line]
    assert len(shown) == 2
    assert all(" fin rsv1" in line and '"' not in line for line in shown)
    assert done.stdout == b"x" * 1000 + b"\n"


def test_a_frame_that_is_cut_off() -> None:
    def talk(sock: socket.socket) -> None:
        accept(sock, framebuilder.build(framebuilder.TEXT, b"abc", declared_length=1000))
        finish(sock)

    with raw_server(talk) as uri:
        done = run("connect", uri, "--frames", "--wait", "inf")
    assert done.returncode == 1
    assert any(
        '< TEXT         fin               1000 bytes  "abc"...  (cut off after 3)' in line
        for line in lines(done.stderr)
    )


def test_ping_prints_round_trips(server: str) -> None:
    with subprocess.Popen(
        command("connect", f"{server}/", "--ping", "0.1"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(b"connected to ")
        for _ in range(3):
            line = process.stderr.readline().decode()
            assert line.startswith("pong after ")
            assert line.endswith(" ms\n")
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_pongs_that_do_not_come() -> None:
    def talk(sock: socket.socket) -> None:
        accept(sock)
        threading.Event().wait(1)
        finish(sock)

    with raw_server(talk) as uri:
        done = run("connect", uri, "--ping", "0.3", "--wait", "inf")
    assert done.returncode == 1
    shown = lines(done.stderr)
    assert "no pong for 0 s" in shown
    assert shown[-1].startswith("lost: the peer ended the stream without a Close")
    assert "never retrieved" not in done.stderr.decode()


@pytest.mark.peer
def test_a_server_that_is_not_ours() -> None:
    from websockets.sync.server import ServerConnection, serve

    def echo(websocket: ServerConnection) -> None:
        for message in websocket:
            websocket.send(message)

    with serve(echo, "127.0.0.1", 0) as theirs:
        thread = threading.Thread(target=theirs.serve_forever)
        thread.start()
        uri = f"ws://127.0.0.1:{theirs.socket.getsockname()[1]}/"
        done = run("connect", uri, "--compression", "--frames", stdin=b"hi\n" + b"z" * 1000 + b"\n")
        theirs.shutdown()
        thread.join()
    assert (done.returncode, done.stdout) == (0, b"hi\n" + b"z" * 1000 + b"\n")
    assert any("< TEXT         fin rsv1" in line for line in lines(done.stderr))
