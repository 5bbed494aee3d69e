"""Where a blocking server listens: several addresses and ports, unix sockets, given sockets; and how it accepts."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from adapterhelpers import needs_ipv6
from framebuilder import TEXT, client_handshake_request
from servertables import BAD_ADDRESSES
from synchelpers import (
    DEADLINE,
    Raw,
    client_context,
    dial,
    echo,
    expect_log,
    port_of,
    server_context,
    serving,
    tidy,
    until,
)
from wsframe import Cause, Request, Response
from wsframe._adapter_io import _listening
from wsframe.sync import Server, WebSocket, connect, serve
from wsframe.sync import _server as server_module

__all__ = ["tidy"]


def names_of(server: Server) -> list[Any]:
    return [sock.getsockname()[:2] for sock in server.sockets]


def echoes(address: Any, family: int = socket.AF_UNIX) -> bool:
    """Whether there is an echo server."""
    sock = socket.socket(family)
    sock.settimeout(DEADLINE)
    sock.connect(address)
    with Raw(sock, masks=True) as raw:
        raw.send(client_handshake_request())
        assert raw.head().startswith(b"HTTP/1.1 101 ")
        raw.send_frame(TEXT, b"hello")
        answer = raw.next_frame().payload
        raw.send_close()
        raw.rest()
    return answer == b"hello"


# TCP.


def test_it_listens_on_every_host_once() -> None:
    with serving(echo, ["127.0.0.1", "127.0.0.2", "127.0.0.1"], 0) as (server, _):
        assert [name for name, _ in names_of(server)] == ["127.0.0.1", "127.0.0.2"]
        assert len({port for _, port in names_of(server)}) == 1
        for sock in server.sockets:
            assert echoes(sock.getsockname(), socket.AF_INET)
    assert server.sockets == ()


def test_several_ports() -> None:
    with serving(echo, [("127.0.0.1", 0), ("127.0.0.2", 0), "127.0.0.3"]) as (server, _):
        assert [name for name, _ in names_of(server)] == ["127.0.0.3", "127.0.0.1", "127.0.0.2"]
        for name in names_of(server):
            assert echoes(name, socket.AF_INET)


@needs_ipv6
def test_it_listens_on_both_kinds_of_addresses_of_one_port() -> None:
    for hosts in (["127.0.0.1", "::1"], None):
        with serving(echo, hosts, 0) as (server, _):
            (port,) = {port for _, port in names_of(server)}
            assert echoes(("127.0.0.1", port), socket.AF_INET)
            assert echoes(("::1", port), socket.AF_INET6)


def test_a_port_in_use_is_named_with_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for hosts in ("127.0.0.1", ["127.0.0.2", "127.0.0.1"]):
            with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: ") as caught:
                serve(echo, hosts, port)
            assert caught.value.errno == errno.EADDRINUSE
    with serving(echo, "127.0.0.1", port):
        assert echoes(("127.0.0.1", port), socket.AF_INET)


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the system cannot share ports")
def test_a_port_can_be_shared() -> None:
    with serving(echo, "127.0.0.1", 0, reuse_port=True) as (server, _):
        port = port_of(server)
        with serving(echo, "127.0.0.1", port, reuse_port=True):
            for _ in range(4):
                assert echoes(("127.0.0.1", port), socket.AF_INET)
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: "):
            serve(echo, "127.0.0.1", port)


# Unix sockets.


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    seen: list[WebSocket] = []

    def handler(ws: WebSocket) -> None:
        seen.append(ws)
        echo(ws)

    with serving(handler, unix_path=path, unix_mode=0o600) as (server, _):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert [sock.getsockname() for sock in server.sockets] == [str(path)]
        assert echoes(str(path))
        assert server.close() in ({}, {Cause.CLOSE_HANDSHAKE: 1})
    assert not path.exists()
    assert [(ws.remote_address, ws.local_address) for ws in seen] == [("", str(path))]


def test_what_a_server_has_left_behind_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
    with serving(unix_path=path):
        assert echoes(path)
        # But not where one listens.
        with pytest.raises(OSError, match=r"cannot listen on '.*socket': another server listens there"):
            serve(echo, unix_path=path)
        assert echoes(path)
    assert not os.path.exists(path)


def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OSError, match=r"cannot listen on .*: there is a file that is no socket"):
        serve(echo, unix_path=path)
    assert path.read_text() == "mine"
    with pytest.raises(OSError, match=r"cannot listen on '.*nowhere/socket': No such file"):
        serve(echo, unix_path=tmp_path / "nowhere" / "socket")


@pytest.mark.skipif(not os.path.exists("/proc/net/unix"), reason="names without files are Linux's")
def test_a_name_without_a_file() -> None:
    name = f"\0wsframe-sync-test-{os.getpid()}"
    with serving(unix_path=name):
        assert echoes(name)
        with pytest.raises(OSError, match=r"cannot listen on .*wsframe-sync-test.*in use"):
            serve(echo, unix_path=name)


@pytest.mark.peer
def test_curl_over_a_unix_socket(tmp_path: Path) -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    path = str(tmp_path / "socket")

    def on_request(request: Request) -> Response:
        return Response(200, body=f"{request.method} {request.target}\n".encode())

    with serving(unix_path=path, on_request=on_request):
        command = [program, "--disable", "-sSi", "--unix-socket", path, "http://localhost/health"]
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True
        )
    head, _, body = result.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"GET /health\n"


# All together.


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_tcp_unix_and_given_sockets_at_once(tmp_path: Path, secure: bool) -> None:
    path = str(tmp_path / "socket")
    given = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    options: dict[str, Any] = {"ssl": server_context()} if secure else {}
    with serving(echo, "127.0.0.1", 0, unix_path=path, sock=given, **options) as (server, _):
        assert len(server.sockets) == 4
        for listening in server.sockets:
            sock = socket.socket(listening.family)
            sock.connect(listening.getsockname())
            context = client_context() if secure else None
            with connect("wss://localhost/" if secure else "ws://localhost/", sock=sock, ssl=context) as ws:
                ws.send("hello")
                assert ws.recv(DEADLINE) == "hello"
    assert [sock.fileno() for sock in given] == [-1, -1]
    assert not os.path.exists(path)


def test_everywhere_or_nowhere(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    given = socket.create_server(("127.0.0.1", 0))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: "):
            serve(echo, [("127.0.0.1", 0), ("127.0.0.1", port)], unix_path=path, sock=given)
    assert given.fileno() == -1
    assert not os.path.exists(path)


def test_the_backlog_goes_to_the_system() -> None:
    class Watched(socket.socket):
        asked = 0

        def listen(self, backlog: int = 0) -> None:
            self.asked = backlog
            super().listen(backlog)

    watched = Watched()
    watched.bind(("127.0.0.1", 0))
    with serve(echo, sock=watched, backlog=7):
        assert watched.asked == 7
        assert not watched.getblocking()


@pytest.mark.parametrize(("options", "error", "message"), BAD_ADDRESSES)
def test_what_makes_no_sense_is_found_before_anything_listens(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        serve(echo, **options)


# What goes wrong while accepting.


class Refusing(socket.socket):
    """A listening socket that fails to accept, once."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.error: OSError | None = error
        self.asked = 0
        # Seconds.
        self.takes = 0.0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        error, self.error = self.error, None
        if error is not None:
            raise error
        time.sleep(self.takes)
        return super().accept()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINVAL])
def test_where_the_system_has_run_out_of_something_it_waits_and_goes_on(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _listening.ACCEPT_PAUSE == 1
    monkeypatch.setattr(server_module, "ACCEPT_PAUSE", 0.2)
    listener = Refusing(OSError(code, "the system says no"))
    with (
        expect_log("^no connections are accepted for 0.2 s: .*the system says no", traceback=False),
        serving(sock=listener) as (server, _),
        dial(server),
    ):
        until(lambda: listener.asked)
        time.sleep(0.02)
        # It does not spin.
        assert listener.asked == 1
        assert echoes(listener.getsockname(), socket.AF_INET)


@pytest.mark.parametrize("takes", [0.0, 0.2])
def test_it_can_be_closed_while_it_waits(takes: float) -> None:
    listener = Refusing(OSError(errno.EMFILE, "too many"))
    # While one thread accepts those who have come, the other must not think that all is over.
    listener.takes = takes
    with (
        expect_log("^no connections are accepted for 1.0 s: ", traceback=False),
        serving(sock=listener) as (server, _),
        dial(server) as raw,
    ):
        until(lambda: listener.asked)
        # Who has come meanwhile hears why not.
        raw.send(b"GET / HTTP/1.1\r\n")
        server.close()
        assert raw.rest().startswith(b"HTTP/1.1 503 ")
    assert server.sockets == ()


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EAGAIN, errno.EINTR, errno.EPROTO])
def test_a_connection_that_has_gone_already_is_nothing(code: int) -> None:
    listener = Refusing(OSError(code, "nothing"))
    with serving(sock=listener):
        assert echoes(listener.getsockname(), socket.AF_INET)
        assert listener.asked > 1
