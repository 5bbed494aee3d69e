"""Listening on descriptors of our own: which addresses, what goes wrong there, and what happens then."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

import pytest

from aiohelpers import Raw, aio_test, dial, echo, expect_log, needs_ipv6, open_raw, until
from framebuilder import close_payload
from wsframe import Cause
from wsframe._adapter_io import _listening
from wsframe.aio import WebSocket, _listen, _server, connect, serve
from wsframe.aio._listen import Listener, bound_sockets


def listening(host: str = "127.0.0.1", family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    return socket.create_server((host, 0), family=family)


def hosts_of(server: Any) -> list[str]:
    return [sock.getsockname()[0] for sock in server.sockets]


class Refusing(socket.socket):
    """A listening socket that fails to accept, once."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.error: OSError | None = error
        self.asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        error, self.error = self.error, None
        if error is not None:
            raise error
        return super().accept()


async def echoes(host: str, port: int) -> bool:
    """Whether there is an echo server."""
    name = f"[{host}]" if ":" in host else host
    async with connect(f"ws://{name}:{port}/", ping_interval=None) as ws:
        await ws.send("hello")
        return await ws.recv() == "hello"


# Addresses.


@aio_test
async def test_it_listens_on_every_host_once() -> None:
    async with serve(echo, ["127.0.0.1", "127.0.0.2", "127.0.0.1"], 0) as server:
        assert hosts_of(server) == ["127.0.0.1", "127.0.0.2"]
        for sock in server.sockets:
            assert await echoes(*sock.getsockname())
    assert server.sockets == ()


@needs_ipv6
@aio_test
async def test_it_listens_on_both_kinds_of_addresses_of_one_port() -> None:
    with listening() as sock:
        port = sock.getsockname()[1]
    async with serve(echo, ["127.0.0.1", "::1"], port) as server:
        assert hosts_of(server) == ["127.0.0.1", "::1"]
        assert await echoes("127.0.0.1", port)
        assert await echoes("::1", port)
    async with serve(echo, None, port) as server:
        assert set(hosts_of(server)) == {"0.0.0.0", "::"}
        assert await echoes("127.0.0.1", port)
        assert await echoes("::1", port)


class Poor(socket.socket):
    """A socket of a system without IPv6, in one way or another."""

    error = OSError()
    where = "socket"

    def __init__(self, family: int, *arguments: int) -> None:
        if self.where == "socket" and family == socket.AF_INET6:
            raise self.error
        super().__init__(family, *arguments)

    def bind(self, address: Any) -> None:
        if self.where == "bind" and self.family == socket.AF_INET6:
            raise self.error
        super().bind(address)


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("socket", errno.EAFNOSUPPORT),
        ("socket", errno.EPROTONOSUPPORT),
        ("bind", errno.EADDRNOTAVAIL),
    ],
)
def test_addresses_that_this_machine_does_not_have_are_left_out_if_there_are_others(
    where: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    six: Any = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))
    four: Any = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))

    class Names:
        async def getaddrinfo(self, host: str, *_: Any, **__: Any) -> list[Any]:
            other = (*six[:4], ("::2", 0, 0, 0))
            found: dict[str, list[Any]] = {"both": [six, four], "six": [six], "sixes": [six, other]}
            return found[host]

    names: Any = Names()
    monkeypatch.setattr(Poor, "where", where)
    monkeypatch.setattr(Poor, "error", OSError(code, "there is none"))
    monkeypatch.setattr("wsframe._adapter_io._listening.socket_module.socket", Poor)
    (sock,) = asyncio.run(bound_sockets(names, ["both"], 0))
    with sock:
        assert sock.family == socket.AF_INET
    with pytest.raises(OSError, match="no address of 'sixes' can be listened on"):
        asyncio.run(bound_sockets(names, ["sixes"], 0))
    with pytest.raises(
        OSError, match=r"cannot listen on ::1 port 0: |no address of 'six' can be listened on"
    ):
        asyncio.run(bound_sockets(names, ["six"], 0))


@pytest.mark.parametrize("fails", [False, True])
@aio_test
async def test_who_comes_before_it_listens_everywhere_has_a_server(
    fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    async def handler(ws: WebSocket) -> None:
        seen.append(ws.server.sockets)
        if fails:
            await ws.wait_closed()
        else:
            seen.append(await ws.server.close(4000))

    frames: list[bytes] = []

    async def listen_slowly(*arguments: Any) -> Any:
        listener = await _listen.listen(*arguments)
        with await open_raw(listener) as raw:
            await until(lambda: seen)
            if fails:
                listener.close()
                # As soon as this has been told.
                tasks.append(asyncio.create_task(ended(raw.sock.dup())))
                raise OSError("the other address is taken")
            frames.append((await raw.next_frame()).payload)
            await raw.send_close(4000)
            await until(lambda: len(seen) == 2)
        return listener

    async def ended(sock: socket.socket) -> None:
        with Raw(sock, masks=True) as raw:
            frames.append((await raw.next_frame()).payload)
            await raw.send_close(1001)
            assert await raw.rest() == b""

    tasks: list[asyncio.Task[None]] = []
    monkeypatch.setattr(_server, "listen", listen_slowly)
    if fails:
        with pytest.raises(OSError, match="the other address is taken"):
            await serve(handler, "127.0.0.1", 0, ping_interval=None)
        await asyncio.gather(*tasks)
        assert (seen, frames) == ([()], [close_payload(1001)])
    else:
        async with serve(handler, "127.0.0.1", 0, ping_interval=None) as server:
            assert server.is_closing
            assert server.sockets == ()
        assert seen == [(), {Cause.CLOSE_HANDSHAKE: 1}]
        assert frames == [close_payload(4000)]


@aio_test
async def test_a_port_in_use_is_named_with_its_address() -> None:
    with listening() as taken:
        port = taken.getsockname()[1]
        for hosts in ("127.0.0.1", ["127.0.0.2", "127.0.0.1"]):
            with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: ") as caught:
                await serve(echo, hosts, port)
            assert caught.value.errno == errno.EADDRINUSE
    async with serve(echo, "127.0.0.1", port):
        assert await echoes("127.0.0.1", port)


@aio_test
async def test_where_one_socket_cannot_listen_none_does() -> None:
    bound = []
    port = 0
    for _ in range(2):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        port = sock.getsockname()[1]
        bound.append(sock)
    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1 port {port}: ") as caught:
        Listener(asyncio.get_running_loop(), bound, lambda sock, _: sock.close())
    assert caught.value.errno == errno.EADDRINUSE
    assert [sock.fileno() for sock in bound] == [-1, -1]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@aio_test
async def test_a_given_socket_is_listened_on_and_closed(family: socket.AddressFamily) -> None:
    if family == socket.AF_INET:
        sock = listening()
    else:
        sock = socket.socket(socket.AF_UNIX)
        # Linux finds a name that is free.
        sock.bind("")
    async with serve(echo, sock=sock) as server:
        assert server.sockets == (sock,)
        assert not sock.getblocking()
        client = socket.socket(family)
        client.connect(sock.getsockname())
        async with connect("ws://localhost/", sock=client, ping_interval=None) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"
    assert sock.fileno() == -1


# What goes wrong while accepting.


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINVAL])
@aio_test
async def test_where_the_system_has_run_out_of_something_it_waits_and_goes_on(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _listening.ACCEPT_PAUSE == 1
    monkeypatch.setattr(_listen, "ACCEPT_PAUSE", 0.2)
    listener = Refusing(OSError(code, "the system says no"))
    with expect_log("^no connections are accepted for 0.2 s: .*the system says no", traceback=False):
        async with serve(echo, sock=listener) as server:
            with await dial(server):
                await until(lambda: listener.asked)
                for _ in range(20):
                    await asyncio.sleep(0)
                # It does not spin.
                assert listener.asked == 1
                assert await echoes(*listener.getsockname())


@aio_test
async def test_it_can_be_closed_while_it_waits() -> None:
    listener = Refusing(OSError(errno.EMFILE, "too many"))
    with expect_log("^no connections are accepted for 1.0 s: ", traceback=False):
        async with serve(echo, sock=listener) as server:
            with await dial(server):
                await until(lambda: listener.asked)
    assert server.sockets == ()
    assert listener.asked == 1


@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EAGAIN, errno.EINTR, errno.EPROTO])
@aio_test
async def test_a_connection_that_has_gone_already_is_nothing(code: int) -> None:
    listener = Refusing(OSError(code, "nothing"))
    async with serve(echo, sock=listener):
        assert await echoes(*listener.getsockname())
        assert listener.asked > 1


@aio_test
async def test_it_accepts_no_more_once_it_is_closed() -> None:
    accepted: list[socket.socket] = []

    def accept(sock: socket.socket, _: object) -> None:
        accepted.append(sock)
        listener.close()

    sock = listening()
    clients = [socket.create_connection(sock.getsockname()) for _ in range(3)]
    listener = Listener(asyncio.get_running_loop(), [sock], accept)
    await until(lambda: accepted)
    await asyncio.sleep(0.01)
    assert len(accepted) == 1
    assert listener.sockets == []
    assert sock.fileno() == -1
    listener.close()
    for each in (*accepted, *clients):
        each.close()


@aio_test
async def test_one_that_cannot_be_set_up_does_not_keep_others_out() -> None:
    accepted: list[socket.socket] = []

    def accept(sock: socket.socket, _: object) -> None:
        accepted.append(sock)
        if len(accepted) == 1:
            raise ValueError("a bug")

    listener = Listener(asyncio.get_running_loop(), [listening()], accept)
    with expect_log("^an accepted connection could not be set up$"):
        clients = [socket.create_connection(listener.sockets[0].getsockname()) for _ in range(2)]
        await until(lambda: len(accepted) == 2)
    assert accepted[0].fileno() == -1
    assert accepted[1].fileno() != -1
    listener.close()
    for each in (*accepted, *clients):
        each.close()


@aio_test
async def test_many_come_at_once() -> None:
    async with serve(echo, "127.0.0.1", 0, ping_interval=None) as server:
        raws: list[Raw] = await asyncio.gather(*[open_raw(server) for _ in range(90)])
        for raw in raws:
            raw.close()
