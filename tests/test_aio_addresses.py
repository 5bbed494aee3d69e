"""Where a server listens: several addresses and ports, unix sockets, given sockets; whoever accepts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

import wsframe.testing
from aiohelpers import Raw, aio_test, client_context, echo, needs_ipv6, port_of, server_context
from framebuilder import TEXT, client_handshake_request
from servertables import BAD_ADDRESSES
from wsframe import Cause, Request, Response
from wsframe._adapter._addresses import Addresses, addresses_for
from wsframe._adapter_io import _listening
from wsframe.aio import Server, WebSocket, _listen, connect, serve


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    return port


def names_of(server: Server) -> list[Any]:
    return [sock.getsockname()[:2] for sock in server.sockets]


async def dial(address: Any, family: int = socket.AF_UNIX) -> Raw:
    sock = socket.socket(family)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, address)
    return Raw(sock, masks=True)


async def echoes(address: Any, family: int = socket.AF_UNIX) -> bool:
    """Whether an echo server is there."""
    with await dial(address, family) as raw:
        await raw.send(client_handshake_request())
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        await raw.send_frame(TEXT, b"hello")
        found = (await raw.next_frame()).payload == b"hello"
        await raw.send_close()
        await raw.rest()
    return found


def exists(path: str) -> bool:
    return Path(path).exists()


def nobody_listens(path: object) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return True
    return False


# TCP.


@aio_test
async def test_several_ports_at_once() -> None:
    first, second = free_port(), free_port()
    async with serve(echo, [("127.0.0.1", first), ("127.0.0.2", second), "127.0.0.3"], 0) as server:
        names = names_of(server)
        assert sorted(names)[:2] == [("127.0.0.1", first), ("127.0.0.2", second)]
        assert sorted(names)[2][0] == "127.0.0.3"
        for name in names:
            assert await echoes(name, socket.AF_INET)
    assert server.sockets == ()
    for port in (first, second):
        with socket.create_server(("127.0.0.1", port)):
            pass


@aio_test
async def test_a_free_port_is_the_same_on_all_addresses() -> None:
    async with serve(echo, ["127.0.0.1", "127.0.0.2", "127.0.0.3"], 0) as server:
        assert len({port for _, port in names_of(server)}) == 1
        assert len(server.sockets) == 3
        for name in names_of(server):
            assert await echoes(name, socket.AF_INET)


@needs_ipv6
@aio_test
async def test_a_free_port_is_the_same_for_both_kinds_of_addresses() -> None:
    async with serve(echo, ["127.0.0.1", "::1"], 0) as server:
        (_, port), (_, other) = names_of(server)
        assert port == other
        assert await echoes(("127.0.0.1", port), socket.AF_INET)
        assert await echoes(("::1", port), socket.AF_INET6)


@aio_test
async def test_a_port_that_is_not_free_everywhere_is_given_up_for_another() -> None:
    bind_all, asked = _listening._bind_all, 0

    def unlucky(*arguments: Any) -> list[socket.socket]:
        nonlocal asked
        asked += 1
        if asked <= 3:
            raise OSError(errno.EADDRINUSE, "cannot listen on 127.0.0.2 port 7: in use")
        return bind_all(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_listening, "_bind_all", unlucky)
        async with serve(echo, ["127.0.0.1", "127.0.0.2"], 0) as server:
            assert (asked, len(server.sockets)) == (4, 2)
        # Not for ever, and not where one port was asked for.
        asked = -100
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.2 port 7"):
            await serve(echo, ["127.0.0.1", "127.0.0.2"], 0)
        assert asked == -100 + _listening._MAX_PORTS
        asked = 0
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.2 port 7"):
            await serve(echo, ["127.0.0.1", "127.0.0.2"], 7)
        assert asked == 1


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the system cannot share ports")
@aio_test
async def test_a_port_can_be_shared() -> None:
    async with serve(echo, "127.0.0.1", 0, reuse_port=True) as server:
        port = port_of(server)
        async with serve(echo, "127.0.0.1", port, reuse_port=True):
            for _ in range(4):
                assert await echoes(("127.0.0.1", port), socket.AF_INET)
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: ") as caught:
            await serve(echo, "127.0.0.1", port)
        assert caught.value.errno == errno.EADDRINUSE


# Unix sockets.


@aio_test
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    seen: list[WebSocket] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(ws)
        await echo(ws)

    before = os.umask(0o022)
    try:
        async with serve(handler, unix_path=path) as server:
            assert stat.S_IMODE(path.stat().st_mode) == 0o755
            assert [sock.getsockname() for sock in server.sockets] == [str(path)]
            assert await echoes(str(path))
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(path))
            async with connect("ws://localhost/", sock=sock, ping_interval=None) as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"
                counts = await server.close(timeout=10)
            assert counts == {Cause.CLOSE_HANDSHAKE: 1}
            assert ws.close_code == 1001
    finally:
        os.umask(before)
    assert not path.exists()
    assert [ws.remote_address for ws in seen] == ["", ""]
    assert [ws.local_address for ws in seen] == [str(path)] * 2


@pytest.mark.parametrize("given", ["str", "bytes", "path"])
@aio_test
async def test_its_permissions(tmp_path: Path, given: str) -> None:
    path = tmp_path / "socket"
    kinds: dict[str, Any] = {"str": str(path), "bytes": bytes(path), "path": path}
    unix_path = kinds[given]
    async with serve(echo, unix_path=unix_path, unix_mode=0o600):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await echoes(str(path))


@aio_test
async def test_what_a_server_has_left_behind_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
    assert nobody_listens(path)
    async with serve(echo, unix_path=path):
        assert await echoes(path)
    assert not exists(path)


@aio_test
async def test_where_a_server_listens_no_other_does(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with serve(echo, unix_path=path):
        with pytest.raises(
            OSError, match=r"cannot listen on '.*socket': another server listens there"
        ) as caught:
            await serve(echo, unix_path=path)
        assert caught.value.errno == errno.EADDRINUSE
        assert await echoes(path)
    # Nor one whose queue is full, nor one of another kind.
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_UNIX, kind) as sock, contextlib.ExitStack() as stack:
            sock.bind(path)
            if kind == socket.SOCK_STREAM:
                sock.listen(0)
                for _ in range(3):
                    client = stack.enter_context(socket.socket(socket.AF_UNIX))
                    client.setblocking(False)
                    with contextlib.suppress(BlockingIOError):
                        client.connect(path)
            with pytest.raises(OSError, match="another server listens there"):
                await serve(echo, unix_path=path)
            assert exists(path)
        os.unlink(path)


@aio_test
async def test_what_is_no_socket_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(path)
    for name in (path, link):
        with pytest.raises(OSError, match=r"cannot listen on .*: there is a file that is no socket"):
            await serve(echo, unix_path=name)
    with pytest.raises(OSError, match="cannot listen on"):
        await serve(echo, unix_path=tmp_path)
    assert path.read_text() == "mine"
    with pytest.raises(OSError, match=r"cannot listen on '.*nowhere/socket': No such file") as caught:
        await serve(echo, unix_path=tmp_path / "nowhere" / "socket")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(OSError, match=r"cannot listen on .*: .*too long"):
        await serve(echo, unix_path=tmp_path / ("x" * 200))


@aio_test
async def test_only_its_own_file_is_removed(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    async with serve(echo, unix_path=path) as first:
        os.unlink(path)
        async with serve(echo, unix_path=path):
            await first.close()
            assert await echoes(path)
        assert not exists(path)
    # The file of a socket that was given is not its own either.
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        async with serve(echo, sock=sock):
            assert await echoes(path)
    assert exists(path)


@aio_test
async def test_its_file_is_found_from_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with serve(echo, unix_path="socket"):
        assert (tmp_path / "socket").exists()
        monkeypatch.chdir("/")
    assert not (tmp_path / "socket").exists()


@pytest.mark.skipif(not os.path.exists("/proc/net/unix"), reason="names without files are Linux's")
@aio_test
async def test_a_name_without_a_file() -> None:
    name = f"\0wsframe-test-{os.getpid()}"
    async with serve(echo, unix_path=name):
        assert await echoes(name)
        with pytest.raises(OSError, match=r"cannot listen on .*wsframe-test.*in use"):
            await serve(echo, unix_path=name)
    assert nobody_listens(name)


@pytest.mark.peer
@aio_test
async def test_curl_over_a_unix_socket(tmp_path: Path) -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    path = str(tmp_path / "socket")

    def on_request(request: Request) -> Response:
        return Response(200, body=f"{request.method} {request.target}\n".encode())

    async with serve(echo, unix_path=path, on_request=on_request):
        command = [program, "--disable", "-sSi", "--unix-socket", path, "http://localhost/health"]
        result = await asyncio.to_thread(
            subprocess.run, command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True
        )
    head, _, body = result.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == b"GET /health\n"


# All together.


@aio_test
async def test_tcp_unix_and_given_sockets_at_once(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    given = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    async with serve(echo, "127.0.0.1", 0, unix_path=path, sock=given) as server:
        assert len(server.sockets) == 4
        for sock in server.sockets:
            assert await echoes(sock.getsockname(), sock.family)
    assert [sock.fileno() for sock in given] == [-1, -1]


@aio_test
async def test_tls_on_all_of_them(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    given = socket.create_server(("127.0.0.1", 0))
    async with serve(
        echo, ["127.0.0.1", "127.0.0.2"], 0, unix_path=path, sock=given, ssl=server_context()
    ) as server:
        assert len(server.sockets) == 4
        assert names_of(server)[0][1] == names_of(server)[1][1]
        for listening in server.sockets:
            sock = socket.socket(listening.family)
            sock.connect(listening.getsockname())
            async with connect(
                "wss://localhost/",
                sock=sock,
                ssl=client_context(),
                ping_interval=None,
            ) as ws:
                await ws.send("hello")
                assert await ws.recv() == "hello"
    assert not exists(path)


@aio_test
async def test_everywhere_or_nowhere(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, other = taken.getsockname()[1], free_port()
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: "):
            await serve(echo, [("127.0.0.1", other), ("127.0.0.1", port)], unix_path=path)
        assert not exists(path)
    # What was bound cannot be listened on: another one got it first.
    with socket.socket() as first, socket.socket() as second:
        for sock in (first, second):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        second.bind(first.getsockname())
        first.listen()
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1 port \d+: "):
            await serve(echo, "127.0.0.1", other, unix_path=path, sock=second)
        assert second.fileno() == -1
    assert not exists(path)
    async with serve(echo, "127.0.0.1", other):
        assert await echoes(("127.0.0.1", other), socket.AF_INET)


def test_several_ports_in_the_network_in_memory() -> None:
    async def main() -> None:
        async with serve(echo, [("127.0.0.1", 1001), ("127.0.0.1", 1002)]) as server:
            assert names_of(server) == [("127.0.0.1", 1001), ("127.0.0.1", 1002)]
            for port in (1001, 1002):
                async with connect(f"ws://127.0.0.1:{port}/") as ws:
                    await ws.send("hello")
                    assert await ws.recv() == "hello"

    wsframe.testing.run(main())


# The arguments.


class Sock:
    """As much of a socket as is looked at."""

    def getsockname(self) -> None:
        """Nowhere."""


def test_what_they_mean() -> None:
    def tcp(*arguments: Any, **options: Any) -> Any:
        return addresses_for(*arguments, **options).tcp

    assert tcp() == (((None,), 0),)
    assert tcp("") == tcp(None, 0) == tcp()
    assert tcp("here", 80) == tcp(["here"], 80) == ((("here",), 80),)
    assert tcp(["a", "b"], 80) == ((("a", "b"), 80),)
    assert tcp(("a", "b")) == ((("a", "b"), 0),)
    assert tcp([("a", 1), ["b", 2]]) == ((("a",), 1), (("b",), 2))
    assert tcp([("a", 1), "b", (None, 2), "c"], 3) == ((("b", "c"), 3), (("a",), 1), ((None,), 2))
    # A single tuple of names is a sequence, not a pair.
    assert tcp(unix_path="x") == tcp(sock=Sock()) == ()
    assert tcp(port=80, unix_path="x") == (((None,), 80),)
    one = Sock()
    assert addresses_for(sock=one).sockets == addresses_for(sock=[one]).sockets == (one,)
    assert addresses_for(unix_path=b"x", unix_mode=0) == Addresses((), "x", 0, (), False, 100)


@pytest.mark.parametrize(("options", "error", "message"), BAD_ADDRESSES)
def test_what_makes_no_sense_is_found_before_anything_listens(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        serve(echo, **options)


@aio_test
async def test_the_backlog_goes_to_the_system() -> None:
    class Watched(socket.socket):
        asked = 0

        def listen(self, backlog: int = 0) -> None:
            self.asked = backlog
            super().listen(backlog)

    watched = Watched()
    watched.bind(("127.0.0.1", 0))
    listener = _listen.Listener(asyncio.get_running_loop(), [watched], lambda sock, _: sock.close(), 7)
    listener.close()
    assert watched.asked == 7
