"""The blocking `connect`: addresses, families, where from, Unix sockets, redirects; and errors that say what was
tried. The aio tests have the same rows."""

from __future__ import annotations

import contextlib
import errno
import http
import importlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aiohelpers import needs_ipv6
from connectrows import ARGUMENTS, Redirecting, full_listener
from synchelpers import (
    Job,
    Listener,
    client_context,
    echo,
    in_a_loop,
    port_of,
    server_context,
    serving,
    tidy,
)
from wsframe import Cause
from wsframe.sync import (
    ConnectError,
    ConnectLost,
    ConnectTimeout,
    HandshakeRejected,
    WebSocket,
    _dial,
    connect,
)

__all__ = ["tidy"]


def tell(ws: WebSocket) -> None:
    for _ in ws:
        ws.send(str(ws.remote_address[0]))


def peer_of(uri: str, **options: Any) -> str:
    """The address that a server sees."""
    with connect(uri, **options) as ws:
        ws.send("who am I?")
        address = ws.recv()
        assert isinstance(address, str)
        return address


def named(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> list[int]:
    """All names have these addresses; returns the families that were asked for."""
    asked: list[int] = []

    def look_up(host: str, port: int, family: int = 0) -> list[Any]:
        if host[0].isdigit():
            return real(host, port, family)
        asked.append(family)
        found = []
        for address, its_port in addresses:
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            if family in (0, kind):
                rest = (0, 0) if kind == socket.AF_INET6 else ()
                found.append((kind, socket.SOCK_STREAM, 6, "", (address, its_port, *rest)))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, f"nothing, looking up {host}")
        return found

    real = _dial.look_up
    monkeypatch.setattr(_dial, "look_up", look_up)
    return asked


# Families.


@needs_ipv6
def test_an_ipv6_server() -> None:
    with serving(tell, "::1", 0) as (server, _):
        port = port_of(server)
        assert peer_of(f"ws://[::1]:{port}/") == "::1"
        assert peer_of(f"ws://[::1]:{port}/", family=socket.AF_INET6) == "::1"
        assert peer_of(f"ws://[::1]:{port}/", local_addr=("::1", 0)) == "::1"
        with pytest.raises(ConnectLost) as caught:
            connect(f"ws://[::1]:{port}/", family=socket.AF_INET)
        assert isinstance(caught.value.__cause__, socket.gaierror)
        assert "IPv4 address of ::1" in str(caught.value)


@needs_ipv6
def test_the_family_decides_between_the_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tell, "::1", 0) as (six, _), serving(tell, "127.0.0.1", 0) as (four, _):
        asked = named(monkeypatch, ("::1", port_of(six)), ("127.0.0.1", port_of(four)))
        assert peer_of("ws://both.example/") == "::1"
        assert peer_of("ws://both.example/", family=socket.AF_INET) == "127.0.0.1"
        assert peer_of("ws://both.example/", family=socket.AF_INET6) == "::1"
        assert asked == [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
        # Where from decides too.
        assert peer_of("ws://both.example/", local_addr=("127.0.0.3", 0)) == "127.0.0.3"


@needs_ipv6
def test_a_dead_family_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as dead:
        port = dead.port
    with serving(tell) as (server, _):
        named(monkeypatch, ("::1", port), ("127.0.0.1", port), ("127.0.0.1", port_of(server)))
        assert peer_of("ws://several.example/") == "127.0.0.1"


def test_an_address_that_does_not_answer_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tell) as (server, _), full_listener() as full:
        named(monkeypatch, ("127.0.0.1", full), ("127.0.0.1", port_of(server)))
        assert peer_of("ws://several.example/") == "127.0.0.1"


def test_no_address_answers_in_time() -> None:
    with full_listener() as full:
        with pytest.raises(ConnectTimeout, match=f"waiting for 127.0.0.1 port {full}$") as caught:
            connect(f"ws://127.0.0.1:{full}/", open_timeout=0.3)
        assert caught.value.ending.cause is Cause.OPEN_TIMEOUT


# Where from.


def test_local_addr() -> None:
    with serving(tell) as (server, _):
        uri = f"ws://127.0.0.1:{port_of(server)}/"
        assert peer_of(uri, local_addr=("127.0.0.2", 0)) == "127.0.0.2"
        with socket.socket() as sock:
            sock.bind(("127.0.0.2", 0))
            port = sock.getsockname()[1]
        with connect(uri, local_addr=("127.0.0.2", port)) as ws:
            assert ws.local_address == ("127.0.0.2", port)


def test_a_local_addr_that_is_not_here() -> None:
    with serving(tell) as (server, _):
        uri = f"ws://127.0.0.1:{port_of(server)}/"
        with pytest.raises(ConnectLost, match=r"connecting from 192\.0\.2\.1 port 0") as caught:
            connect(uri, local_addr=("192.0.2.1", 0))
        cause = caught.value.__cause__
        assert isinstance(cause, OSError)
        assert cause.errno == errno.EADDRNOTAVAIL
        with pytest.raises(ConnectLost, match=r"no address of the same family as local_addr ::1"):
            connect(uri, local_addr=("::1", 0))


# Unix sockets.


@contextlib.contextmanager
def serving_at(path: Path, **options: Any) -> Iterator[None]:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    with serving(echo, sock=listening, **options):
        yield


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with serving_at(path):
        for given in (path, str(path)):
            with connect("ws://service.example/x", unix_path=given) as ws:
                for message in ("x", bytes(100_000)):
                    ws.send(message)
                    assert ws.recv() == message
                assert ws.request.headers["Host"] == "service.example"
            assert ws.ending is not None
            assert ws.ending.clean


def test_tls_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with (
        serving_at(path, ssl=server_context("service.example")),
        connect("wss://service.example/", unix_path=path, ssl=client_context()) as ws,
    ):
        ws.send("x")
        assert ws.recv() == "x"


def test_a_unix_socket_where_nobody_listens(tmp_path: Path) -> None:
    for path, kind in ((tmp_path / "none.sock", FileNotFoundError), (tmp_path / "dead.sock", OSError)):
        if kind is OSError:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(path))
        with pytest.raises(ConnectLost) as caught:
            connect("ws://localhost/", unix_path=path)
        assert isinstance(caught.value.__cause__, kind)
        assert f"connecting to {path}" in str(caught.value)


def test_a_unix_socket_whose_queue_is_full_is_given_up_in_time(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(path))
        listening.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(ConnectTimeout, match=f"waiting for {path}$"):
            connect("ws://localhost/", unix_path=path, open_timeout=0.3)


# Errors.


def test_errors_say_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as listener:
        port = listener.port
    with pytest.raises(OSError, match=rf"refused, connecting to 127\.0\.0\.1 port {port}") as failed:
        connect(f"ws://127.0.0.1:{port}/")
    assert isinstance(failed.value, ConnectError)
    assert isinstance(failed.value, ConnectionError)
    with pytest.raises(ConnectLost, match=r"looking up the address of wsframe\.invalid"):
        connect("ws://wsframe.invalid/")
    named(monkeypatch, ("127.0.0.1", port), ("127.0.0.2", port))
    with pytest.raises(ConnectLost) as caught:
        connect("ws://several.example/")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert "no address of several.example takes a connection" in str(caught.value)
    for address in ("127.0.0.1", "127.0.0.2"):
        assert f"refused, connecting to {address} port {port}" in str(caught.value)


def test_a_timeout_in_tls_says_so() -> None:
    with Listener() as listener:
        uri = f"wss://127.0.0.1:{listener.port}/"
        with pytest.raises(ConnectTimeout, match=rf"waiting for TLS with 127\.0\.0\.1 port {listener.port}$"):
            connect(uri, ssl=client_context(), open_timeout=0.3)


def test_a_timeout_of_the_server_names_nothing_else() -> None:
    with Listener() as listener, pytest.raises(ConnectTimeout) as caught:
        connect(listener.uri, open_timeout=0.3)
    assert "still waiting" not in str(caught.value)


@pytest.mark.parametrize(("options", "error", "match"), ARGUMENTS)
def test_what_makes_no_sense_is_refused_at_once(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        connect("ws://127.0.0.1/", **options)


# Certificates.


def test_one_line_of_help_about_certificates() -> None:
    with serving(ssl=server_context("service.example")) as (server, _):
        uri = f"wss://127.0.0.1:{port_of(server)}/"
        for options, help_ in (
            ({}, r"ssl\.create_default_context\(cafile=\.\.\.\)"),
            ({"ssl": client_context()}, r"not for this address.*server_hostname="),
            ({"ssl": client_context(), "server_hostname": "other.example"}, r"for other names"),
        ):
            with pytest.raises(ConnectLost, match=help_) as caught:
                connect(uri, **options)
            error = caught.value
            assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
            assert error.__cause__ is error.ending.error
            assert str(error).startswith(f"{error.ending}; ")
        with connect(uri, ssl=client_context(), server_hostname="service.example"):
            pass


# Redirects.


@contextlib.contextmanager
def redirecting(
    targets: dict[str, str], status: int = 302, **options: Any
) -> Iterator[tuple[int, Redirecting]]:
    server_of = Redirecting(targets, status)
    with serving(echo, on_request=server_of, **options) as (server, _):
        yield port_of(server), server_of


def echoes(uri: str, **options: Any) -> str:
    """Be the client of an echo server; returns the target that was reached."""
    ws: WebSocket
    with connect(uri, **options) as ws:
        ws.send("x")
        assert ws.recv() == "x"
        return ws.request.target


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_when_asked(status: int) -> None:
    with redirecting({"/a": "b?c", "/b?c": "/d"}, status) as (port, server):
        uri = f"ws://127.0.0.1:{port}/a"
        assert echoes(uri, max_redirects=2) == "/d"
        assert server.paths == ["/a", "/b?c", "/d"]
        assert len({request.headers["Sec-WebSocket-Key"] for request in server.requests}) == 3


def test_the_default_is_to_follow_none() -> None:
    with redirecting({"/a": "/b"}) as (port, server):
        with pytest.raises(HandshakeRejected) as caught:
            connect(f"ws://127.0.0.1:{port}/a")
        error = caught.value
        assert (error.status, error.headers["Location"], error.body) == (302, "/b", b"moved")
        assert "max_redirects=1" in str(error)
        assert server.paths == ["/a"]


def test_a_loop_ends_at_the_limit() -> None:
    with redirecting({"/a": "/b", "/b": "/a"}) as (port, server):
        with pytest.raises(HandshakeRejected, match="max_redirects=5 were followed"):
            connect(f"ws://127.0.0.1:{port}/a", max_redirects=5)
        assert server.paths == ["/a", "/b"] * 3


def test_what_a_server_of_another_origin_gets() -> None:
    headers = [("Authorization", "Bearer s3cret"), ("Cookie", "a=b"), ("X-Thing", "1")]
    with redirecting({}) as (there, other), redirecting({"/a": "/b"}) as (here, server):
        server.targets["/b"] = f"http://127.0.0.1:{there}/c"
        target = echoes(f"ws://127.0.0.1:{here}/a", headers=iter(headers), max_redirects=2, user_agent="me")
        assert target == "/c"
        for request in server.requests:
            assert request.headers["Authorization"] == "Bearer s3cret"
            assert request.headers["Cookie"] == "a=b"
        (request,) = other.requests
        assert "Authorization" not in request.headers
        assert "Cookie" not in request.headers
        assert (request.headers["X-Thing"], request.headers["User-Agent"]) == ("1", "me")


def test_from_ws_to_wss_and_not_back() -> None:
    with (
        redirecting({"/back": "x"}, ssl=server_context()) as (secure, tls),
        redirecting({"/a": f"wss://127.0.0.1:{secure}/b"}) as (plain, _),
    ):
        tls.targets["/back"] = f"ws://127.0.0.1:{plain}/c"
        uri = f"ws://127.0.0.1:{plain}/a"
        assert echoes(uri, max_redirects=1, ssl=client_context()) == "/b"
        with pytest.raises(HandshakeRejected, match="from wss to ws"):
            connect(f"wss://127.0.0.1:{secure}/back", max_redirects=5, ssl=client_context())
        with pytest.raises(ConnectLost, match="certificate"):
            connect(uri, max_redirects=1)


def test_a_server_hostname_is_for_the_first_server() -> None:
    with (
        redirecting({}, ssl=server_context("localhost")) as (there, _),
        redirecting({"/a": f"wss://localhost:{there}/b"}, ssl=server_context("first.example")) as (here, _),
    ):
        uri = f"wss://127.0.0.1:{here}/a"
        assert echoes(uri, ssl=client_context(), server_hostname="first.example", max_redirects=1) == "/b"


def test_there_is_one_deadline_for_all() -> None:
    over = threading.Event()

    def slowly(listener: Listener) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, EOFError), listener.accept() as raw:
                raw.head()
                over.wait(0.1)
                raw.send(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")

    with Listener() as listener:
        listener.sock.settimeout(0.2)
        job = Job(slowly, listener)
        begin = time.monotonic()
        with pytest.raises(ConnectTimeout):
            connect(listener.uri, max_redirects=1000, open_timeout=0.5)
        assert time.monotonic() - begin > 0.4
        over.set()
        job.result()


def test_the_deadline_goes_on_behind_a_redirect() -> None:
    def serve(listener: Listener) -> None:
        with listener.accept() as raw:
            raw.head()
            time.sleep(1.2)
            raw.send(b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")
        with listener.accept() as raw:
            # Nothing is said there.
            raw.rest()

    with Listener() as listener:
        job = Job(serve, listener)
        begin = time.monotonic()
        with pytest.raises(ConnectTimeout):
            connect(listener.uri, max_redirects=1, open_timeout=1.5)
        # A deadline of its own would be over after 2.7 s.
        assert time.monotonic() - begin < 2.4
        job.result()


# Strangers.


@pytest.mark.peer
def test_redirects_of_aiohttp() -> None:
    async def moved(_: web.Request) -> web.Response:
        raise web.HTTPFound("/new?x=1")

    async def new(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_str(message.data)
        return ws

    @contextlib.asynccontextmanager
    async def running() -> Any:
        app = web.Application()
        app.router.add_get("/old", moved)
        app.router.add_get("/new", new)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            yield port_of(site._server)
        finally:
            await runner.cleanup()

    with in_a_loop(running()) as port:
        assert echoes(f"ws://127.0.0.1:{port}/old", max_redirects=1) == "/new?x=1"


@pytest.mark.peer
def test_redirects_of_websockets() -> None:
    module = importlib.import_module("websockets.sync.server")

    def redirect(connection: Any, request: Any) -> Any:
        if request.path != "/old":
            return None
        response = connection.respond(http.HTTPStatus.MOVED_PERMANENTLY, "moved\n")
        response.headers["Location"] = "/new"
        return response

    with module.serve(echo, "127.0.0.1", 0, process_request=redirect) as server:
        job = Job(server.serve_forever)
        port = server.socket.getsockname()[1]
        assert echoes(f"ws://127.0.0.1:{port}/old", max_redirects=1) == "/new"
        server.shutdown()
        job.result()
