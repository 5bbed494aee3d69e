"""A proxy for tests: HTTP CONNECT, SOCKS4, SOCKS4a and SOCKS5, on bare sockets and without python-socks; and what the
tests of both adapters say about proxies.

Whatever name it is asked for, it connects to this machine.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from aiohelpers import Listener, Raw
from wsframe.aio import InvalidProxy

__all__ = [
    "ARGUMENTS",
    "NAME",
    "PROTOCOLS",
    "VARIABLES",
    "Behaviour",
    "ProxyServer",
    "closes",
    "environment",
    "floods",
    "host_for",
    "hurries",
    "proxying",
    "resets",
    "stalls",
    "talks_nonsense",
]

#: A name that only the proxies know.
NAME = "service.example"

PROTOCOLS = ["http", "socks5", "socks5h", "socks4", "socks4a"]

#: What the environment says -> the host of the proxy for ws, and for wss.
VARIABLES: list[tuple[dict[str, str], str | None, str | None]] = [
    ({}, None, None),
    ({"ftp_proxy": "http://ftp"}, None, None),
    ({"http_proxy": "http://http"}, "http", None),
    ({"HTTP_PROXY": "http://http"}, "http", None),
    ({"https_proxy": "http://https"}, "https", "https"),
    ({"http_proxy": "http://http", "https_proxy": "http://https"}, "https", "https"),
    ({"socks_proxy": "socks5h://socks", "https_proxy": "http://https"}, "socks", "socks"),
    ({"ws_proxy": "http://ws", "socks_proxy": "socks5h://socks"}, "ws", "socks"),
    ({"wss_proxy": "http://wss", "https_proxy": "http://https"}, "https", "wss"),
    ({"all_proxy": "http://all"}, "all", "all"),
    ({"all_proxy": "http://all", "http_proxy": "http://http"}, "http", "all"),
    ({"http_proxy": "http://lower", "HTTP_PROXY": "http://upper"}, "lower", None),
    ({"http_proxy": "", "all_proxy": "http://all"}, "all", "all"),
    ({"http_proxy": "http://http", "no_proxy": "elsewhere"}, "http", None),
    ({"http_proxy": "http://http", "no_proxy": "service.example"}, None, None),
    ({"http_proxy": "http://http", "NO_PROXY": "a, .example"}, None, None),
    ({"http_proxy": "http://http", "no_proxy": "*"}, None, None),
    ({"http_proxy": "http://http", "no_proxy": "service.example:81"}, "http", None),
    ({"http_proxy": "http://http", "no_proxy": "service.example:80"}, None, None),
    ({"http_proxy": "gopher://http", "no_proxy": "service.example"}, None, None),
]

#: Arguments of `connect` that make no sense -> what is raised at once.
ARGUMENTS: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"proxy": "https://p"}, InvalidProxy),
    ({"proxy": "p:3128"}, InvalidProxy),
    ({"proxy": False}, TypeError),
    ({"proxy": 3128}, TypeError),
    ({"proxy": "http://p", "sock": object()}, ValueError),
    ({"proxy": "http://p", "unix_path": "/run/x.sock"}, ValueError),
]

#: What a proxy does in the place of what it was asked for.
Behaviour: TypeAlias = Callable[[Raw], Awaitable[None]]


class ProxyServer:
    """What a proxy was told, and how it behaves.

    Args:
        credentials: the user name and the password that it wants.
        refuses: it connects to nobody.
        behaves: what it does with a connection, in the place of talking.
        dribbles: its answers come byte by byte.

    Attributes:
        asked: for each connection the protocol and the server, such as "http example.org:80".
        heads: the heads of the HTTP requests.
        peers: the addresses of the clients.
        url: scheme -> where it is.
    """

    def __init__(
        self,
        *,
        credentials: tuple[str, str] | None = None,
        refuses: bool = False,
        behaves: Behaviour | None = None,
        dribbles: bool = False,
    ) -> None:
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self.peers: list[tuple[str, int]] = []
        self.port = 0
        self._credentials = credentials
        self._refuses = refuses
        self._behaves = behaves
        self._dribbles = dribbles

    def url(self, scheme: str = "http", userinfo: str = "") -> str:
        return f"{scheme}://{userinfo}127.0.0.1:{self.port}"

    async def serve(self, raw: Raw) -> None:
        """Serve one client."""
        with raw, contextlib.suppress(ConnectionError, EOFError):
            self.peers.append(raw.sock.getpeername())
            if self._behaves is not None:
                await self._behaves(raw)
                return
            first = await raw.take(1)
            raw.received = first + raw.received
            speak = {b"\x05": self._socks5, b"\x04": self._socks4}.get(first, self._http)
            server = await speak(raw)
            if server is not None:
                with server:
                    await _pump(raw, server)

    async def _answer(self, raw: Raw, answer: bytes) -> None:
        for size in range(len(answer)) if self._dribbles else ():
            await raw.send(answer[size : size + 1])
            await asyncio.sleep(0.001)
        if not self._dribbles:
            await raw.send(answer)

    async def _reach(self, protocol: str, host: str, port: int) -> Raw | None:
        self.asked.append(f"{protocol} {host}:{port}")
        if self._refuses:
            return None
        sock = socket.socket()
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return Raw(sock, masks=True)

    async def _http(self, raw: Raw) -> Raw | None:
        head = await raw.head()
        self.heads.append(head)
        method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
        assert method == "CONNECT"
        if self._credentials is not None:
            wanted = base64.b64encode(":".join(self._credentials).encode())
            if b"\r\nProxy-Authorization: Basic " + wanted + b"\r\n" not in head:
                await self._answer(
                    raw,
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
                    b"Content-Length: 2\r\n\r\nno",
                )
                return None
        host, _, port = target.rpartition(":")
        server = await self._reach("http", host, int(port))
        if server is None:
            await self._answer(raw, b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        else:
            await self._answer(raw, b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
        return server

    async def _socks5(self, raw: Raw) -> Raw | None:
        _, count = await raw.take(2)
        methods = await raw.take(count)
        if self._credentials is None:
            await self._answer(raw, b"\x05\x00")
        elif 2 not in methods:
            await self._answer(raw, b"\x05\xff")
            return None
        else:
            await self._answer(raw, b"\x05\x02")
            words = []
            await raw.take(1)
            for _ in range(2):
                (length,) = await raw.take(1)
                words.append((await raw.take(length)).decode())
            right = tuple(words) == self._credentials
            await self._answer(raw, b"\x01\x00" if right else b"\x01\x01")
            if not right:
                return None
        _, _, _, kind = await raw.take(4)
        if kind == 3:
            (length,) = await raw.take(1)
            host = (await raw.take(length)).decode()
        else:
            family, length = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, await raw.take(length))
        (port,) = struct.unpack("!H", await raw.take(2))
        server = await self._reach("socks5", host, port)
        # 2: connection not allowed by ruleset.
        await self._answer(raw, b"\x05%c\x00\x01\x7f\x00\x00\x01\x00\x50" % (2 if server is None else 0))
        return server

    async def _socks4(self, raw: Raw) -> Raw | None:
        _, _, port, address = struct.unpack("!BBH4s", await raw.take(8))
        user = await _until_nul(raw)
        host = socket.inet_ntoa(address)
        if address[:3] == bytes(3) and address[3]:
            host = await _until_nul(raw)
        granted = self._credentials is None or user == self._credentials[0]
        server = await self._reach("socks4", host, port) if granted else None
        await self._answer(raw, b"\x00%c" % (91 if server is None else 90) + bytes(6))
        return server


async def _until_nul(raw: Raw) -> str:
    data = b""
    while not data.endswith(b"\0"):
        data += await raw.take(1)
    return data[:-1].decode()


async def _copy(source: Raw, sink: Raw) -> None:
    data, source.received = source.received, b""
    with contextlib.suppress(OSError):
        while data or (data := await source.receive()):
            await sink.send(data)
            data = b""
        sink.shutdown()


async def _pump(client: Raw, server: Raw) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_copy(client, server))
        group.create_task(_copy(server, client))


@contextlib.asynccontextmanager
async def proxying(proxy: ProxyServer | None = None) -> AsyncIterator[ProxyServer]:
    """A proxy while the block lasts."""
    proxy = proxy or ProxyServer()
    clients: set[asyncio.Task[None]] = set()
    failures: list[BaseException] = []

    async def accept(listener: Listener) -> None:
        while True:
            raw = await listener.accept()
            clients.add(asyncio.create_task(proxy.serve(raw)))

    with Listener() as listener:
        proxy.port = listener.port
        accepting = asyncio.create_task(accept(listener))
        try:
            yield proxy
        finally:
            for task in (accepting, *clients):
                task.cancel()
            results = await asyncio.gather(accepting, *clients, return_exceptions=True)
            failures += [
                result
                for result in results
                if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError)
            ]
    assert not failures, failures


# What a proxy may do instead.


async def closes(raw: Raw) -> None:
    await raw.receive()


async def resets(raw: Raw) -> None:
    await raw.receive()
    raw.reset()


async def stalls(raw: Raw) -> None:
    await asyncio.sleep(3600)


async def talks_nonsense(raw: Raw) -> None:
    await raw.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    await raw.rest()


async def floods(raw: Raw) -> None:
    await raw.receive()
    await raw.send(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 100_000)
    await raw.rest()


async def hurries(raw: Raw) -> None:
    await raw.receive()
    await raw.send(b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n")
    await raw.rest()


def host_for(scheme: str) -> str:
    # socks4 and socks5 have the client look up the name.
    return "localhost" if scheme in ("socks4", "socks5") else NAME


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No proxies but those of the test."""
    for scheme in ("http", "https", "ws", "wss", "socks", "all", "no"):
        for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper()):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    return monkeypatch
