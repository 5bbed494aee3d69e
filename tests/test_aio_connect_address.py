"""`connect`: addresses, families, where from, Unix sockets; and errors that say what was tried."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

import wsframe.testing
from aiohelpers import Listener, aio_test, client_context, echo, needs_ipv6, port_of, server_context
from connectrows import ARGUMENTS, full_listener
from wsframe import Cause
from wsframe.aio import ConnectError, ConnectLost, ConnectTimeout, _dial, connect, serve
from wsframe.aio._transports import as_own_transport


async def peer_of(uri: str, **options: Any) -> str:
    """The address that a server sees."""
    async with connect(uri, **options) as ws:
        await ws.send("who am I?")
        address = await ws.recv()
        assert isinstance(address, str)
        return address


async def tell(ws: Any) -> None:
    async for _ in ws:
        await ws.send(str(ws.remote_address[0]))


def named(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> list[int]:
    """All names have these addresses; returns the families that were asked for."""
    asked: list[int] = []

    async def look_up(host: str, port: int, family: int = 0) -> list[Any]:
        if host[0].isdigit():
            return await real(host, port, family)
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
@aio_test
async def test_an_ipv6_server() -> None:
    async with serve(tell, "::1", 0) as server:
        port = port_of(server)
        assert await peer_of(f"ws://[::1]:{port}/") == "::1"
        assert await peer_of(f"ws://[::1]:{port}/", family=socket.AF_INET6) == "::1"
        assert await peer_of(f"ws://[::1]:{port}/", local_addr=("::1", 0)) == "::1"
        with pytest.raises(ConnectLost) as caught:
            await connect(f"ws://[::1]:{port}/", family=socket.AF_INET)
        assert isinstance(caught.value.__cause__, socket.gaierror)
        assert "IPv4 address of ::1" in str(caught.value)


@needs_ipv6
@aio_test
async def test_the_family_decides_between_the_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(tell, "::1", 0) as six, serve(tell, "127.0.0.1", 0) as four:
        asked = named(monkeypatch, ("::1", port_of(six)), ("127.0.0.1", port_of(four)))
        assert await peer_of("ws://both.example/") == "::1"
        assert await peer_of("ws://both.example/", family=socket.AF_INET) == "127.0.0.1"
        assert await peer_of("ws://both.example/", family=socket.AF_INET6) == "::1"
        assert asked == [socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6]
        # Where from decides too.
        assert await peer_of("ws://both.example/", local_addr=("127.0.0.3", 0)) == "127.0.0.3"


@needs_ipv6
@aio_test
async def test_a_dead_family_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as dead:
        port = dead.port
    async with serve(tell, "127.0.0.1", 0) as server:
        named(monkeypatch, ("::1", port), ("127.0.0.1", port), ("127.0.0.1", port_of(server)))
        assert await peer_of("ws://several.example/") == "127.0.0.1"


@aio_test
async def test_an_address_that_does_not_answer_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(tell, "127.0.0.1", 0) as server:
        with full_listener() as full:
            named(monkeypatch, ("127.0.0.1", full), ("127.0.0.1", port_of(server)))
            assert await peer_of("ws://several.example/") == "127.0.0.1"


@aio_test
async def test_no_address_answers_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with full_listener() as full:
        uri = f"ws://127.0.0.1:{full}/"
        with pytest.raises(ConnectTimeout, match=f"waiting for 127.0.0.1 port {full}$"):
            await connect(uri, open_timeout=0.4)
        task = asyncio.ensure_future(connect(uri)._open())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# Where from.


@aio_test
async def test_local_addr() -> None:
    async with serve(tell, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{port_of(server)}/"
        assert await peer_of(uri, local_addr=("127.0.0.2", 0)) == "127.0.0.2"
        with socket.socket() as sock:
            sock.bind(("127.0.0.2", 0))
            port = sock.getsockname()[1]
        async with connect(uri, local_addr=("127.0.0.2", port)):
            pass


@aio_test
async def test_a_local_addr_that_is_not_here() -> None:
    async with serve(tell, "127.0.0.1", 0) as server:
        uri = f"ws://127.0.0.1:{port_of(server)}/"
        with pytest.raises(ConnectLost, match=r"connecting from 192\.0\.2\.1 port 0") as caught:
            await connect(uri, local_addr=("192.0.2.1", 0))
        cause = caught.value.__cause__
        assert isinstance(cause, OSError)
        assert cause.errno == errno.EADDRNOTAVAIL
        with pytest.raises(ConnectLost, match=r"no address of the same family as local_addr ::1"):
            await connect(uri, local_addr=("::1", 0))


# Unix sockets.


@aio_test
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        async with serve(echo, sock=listening):
            for given in (path, str(path)):
                async with connect("ws://service.example/x", unix_path=given) as ws:
                    for message in ("x", bytes(100_000)):
                        await ws.send(message)
                        assert await ws.recv() == message
                    assert ws.request.headers["Host"] == "service.example"
                    assert as_own_transport(ws._channel.transport) is not None
                assert ws.ending is not None
                assert ws.ending.clean


@aio_test
async def test_tls_over_a_unix_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "x.sock"))
        listening.listen()
        async with serve(echo, sock=listening, ssl=server_context("service.example")):
            uri = "wss://service.example/"
            async with connect(uri, unix_path=tmp_path / "x.sock", ssl=client_context()) as ws:
                await ws.send("x")
                assert await ws.recv() == "x"


@aio_test
async def test_a_unix_socket_where_nobody_listens(tmp_path: Path) -> None:
    for path, kind in ((tmp_path / "none.sock", FileNotFoundError), (tmp_path / "dead.sock", OSError)):
        if kind is OSError:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(path))
        with pytest.raises(ConnectLost) as caught:
            await connect("ws://localhost/", unix_path=path)
        assert isinstance(caught.value.__cause__, kind)
        assert f"connecting to {path}" in str(caught.value)


# Errors.


@aio_test
async def test_errors_say_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as listener:
        port = listener.port
    with pytest.raises(ConnectLost, match=rf"refused, connecting to 127\.0\.0\.1 port {port}"):
        await connect(f"ws://127.0.0.1:{port}/")
    with pytest.raises(ConnectLost, match=r"looking up the address of wsframe\.invalid"):
        await connect("ws://wsframe.invalid/")
    named(monkeypatch, ("127.0.0.1", port), ("127.0.0.2", port))
    with pytest.raises(ConnectLost) as caught:
        await connect("ws://several.example/")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert "no address of several.example takes a connection" in str(caught.value)
    for address in ("127.0.0.1", "127.0.0.2"):
        assert f"refused, connecting to {address} port {port}" in str(caught.value)


@aio_test
async def test_a_timeout_says_what_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any, **__: Any) -> Any:
        await asyncio.sleep(3600)

    monkeypatch.setattr(_dial, "look_up", never)
    with pytest.raises(ConnectTimeout, match=r"waiting for several\.example port 81$"):
        await connect("ws://several.example:81/", open_timeout=0.1)


def test_a_timeout_in_tls_says_so() -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, None, 443)
        with pytest.raises(ConnectTimeout, match=r"waiting for TLS with localhost port 443$"):
            await connect("wss://localhost/", ssl=client_context())
        server.close()
        await server.wait_closed()

    # On a virtual clock, where nothing else can take so long.
    wsframe.testing.run(main())


@pytest.mark.parametrize(("options", "error", "match"), ARGUMENTS)
def test_what_makes_no_sense_is_refused_at_once(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        connect("ws://127.0.0.1/", **options)


# One family.


@aio_test
async def test_every_failure_is_an_os_error() -> None:
    with Listener() as listener:
        port = listener.port
    with pytest.raises(OSError, match="refused") as caught:
        await connect(f"ws://127.0.0.1:{port}/")
    assert isinstance(caught.value, ConnectError)
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.ending.cause is Cause.TRANSPORT_ERROR


# Certificates.


@aio_test
async def test_one_line_of_help_about_certificates() -> None:
    async with serve(echo, "127.0.0.1", 0, ssl=server_context("service.example")) as server:
        uri = f"wss://127.0.0.1:{port_of(server)}/"
        for options, help_ in (
            ({}, r"ssl\.create_default_context\(cafile=\.\.\.\)"),
            ({"ssl": client_context()}, r"not for this address.*server_hostname="),
            ({"ssl": client_context(), "server_hostname": "other.example"}, r"for other names"),
        ):
            with pytest.raises(ConnectLost, match=help_) as caught:
                await connect(uri, **options)
            error = caught.value
            assert isinstance(error.__cause__, ssl.SSLCertVerificationError)
            assert error.__cause__ is error.ending.error
            assert error.__cause__.verify_message.rstrip(".") in str(error)
            assert str(error).startswith(f"{error.ending}; ")
            assert "\n" not in str(error)
        async with connect(uri, ssl=client_context(), server_hostname="service.example"):
            pass
