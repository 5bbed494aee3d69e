"""`connect` through proxies: HTTP and SOCKS, from an argument and from the environment, and how they fail."""

from __future__ import annotations

import contextlib
import gc
import pickle
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import websockets.asyncio.client

from aiohelpers import Listener, aio_test, cancelled_after, client_context, echo, port_of, server_context
from proxies import (
    ARGUMENTS,
    NAME,
    PROTOCOLS,
    VARIABLES,
    ProxyServer,
    closes,
    environment,
    floods,
    host_for,
    hurries,
    proxying,
    resets,
    stalls,
    talks_nonsense,
)
from wsframe import Cause, State, parse_uri
from wsframe.aio import (
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    InvalidProxy,
    ProxyError,
    connect,
    serve,
)
from wsframe.aio._route import Route
from wsframe.aio._transports import as_own_transport

__all__ = ["environment"]


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[int, list[Any]]]:
    """An echo server, and who has connected to it."""
    seen: list[Any] = []

    async def handler(ws: Any) -> None:
        seen.append(ws.request.headers.get("Host"))
        await echo(ws)

    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield port_of(server), seen


async def failing(uri: str, **options: Any) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        await connect(uri, **options)
    ending = caught.value.ending
    assert (ending.phase, ending.was_websocket) == (State.CONNECTING, False)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (type(caught.value), str(caught.value))
    return caught.value


# The way through.


@pytest.mark.parametrize("scheme", PROTOCOLS)
@aio_test
async def test_an_echo_through_a_proxy(scheme: str) -> None:
    host = host_for(scheme)
    async with serving() as (port, seen), proxying() as proxy:
        async with connect(f"ws://{host}:{port}/", proxy=proxy.url(scheme)) as ws:
            for message in ("", "héllo", bytes(70_000), "x" * (1 << 20)):
                await ws.send(message)
                assert await ws.recv() == message
            # The fast way is no different from that without a proxy.
            assert as_own_transport(ws._channel.transport) is not None
        assert ws.ending is not None
        assert ws.ending.clean
        assert seen == [f"{host}:{port}"]
        (asked,) = proxy.asked
        protocol, _, server = asked.partition(" ")
        assert protocol == scheme[:6].removesuffix("h").rstrip("a")
        assert server in (
            (f"127.0.0.1:{port}", f"::1:{port}") if host == "localhost" else (f"{NAME}:{port}",)
        )


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
@aio_test
async def test_tls_inside_the_tunnel(scheme: str) -> None:
    async with serving(ssl=server_context(NAME)) as (port, seen), proxying() as proxy:
        uri = f"wss://{NAME}:{port}/"
        async with connect(uri, ssl=client_context(), proxy=proxy.url(scheme)) as ws:
            await ws.send("sealed")
            assert await ws.recv() == "sealed"
        assert seen == [f"{NAME}:{port}"]
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@aio_test
async def test_an_answer_that_comes_byte_by_byte(scheme: str) -> None:
    async with (
        serving() as (port, _),
        proxying(ProxyServer(dribbles=True)) as proxy,
        connect(f"ws://{NAME}:{port}/", proxy=proxy.url(scheme)) as ws,
    ):
        await ws.send("x")
        assert await ws.recv() == "x"


@aio_test
async def test_what_an_http_proxy_is_asked() -> None:
    async with serving() as (port, _), proxying() as proxy:
        async with connect(f"ws://u:p@{NAME}:{port}/x", headers={"Cookie": "c"}, proxy=proxy.url()):
            pass
        (head,) = proxy.heads
        assert head.startswith(b"CONNECT %s:%d HTTP/1.1\r\nHost: " % (NAME.encode(), port))
        assert b"User-Agent: wsframe/" in head
        # What is for the server is not for the proxy.
        assert b"Cookie" not in head
        assert b"uthorization" not in head
        async with connect(f"ws://{NAME}:{port}/x", user_agent=None, proxy=proxy.url()):
            pass
        assert b"User-Agent" not in proxy.heads[1]


@aio_test
async def test_an_ipv6_address_has_brackets_for_an_http_proxy() -> None:
    async with serving() as (port, _), proxying() as proxy:
        async with connect(f"ws://[2001:db8::1]:{port}/", proxy=proxy.url()):
            pass
        assert proxy.asked == [f"http [2001:db8::1]:{port}"]


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
@aio_test
async def test_the_connection_to_the_proxy_comes_from_local_addr(scheme: str) -> None:
    async with serving() as (port, _), proxying() as proxy:
        uri = f"ws://{NAME}:{port}/"
        async with connect(uri, proxy=proxy.url(scheme), local_addr=("127.0.0.2", 0), family=socket.AF_INET):
            pass
        assert [host for host, _ in proxy.peers] == ["127.0.0.2"]
        error = await failing(uri, proxy=proxy.url(scheme), family=socket.AF_INET6)
        assert isinstance(error, ProxyError)


@pytest.mark.peer
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@aio_test
async def test_the_proxy_of_these_tests_is_one_to_a_stranger(scheme: str) -> None:
    async with serving() as (port, _), proxying() as proxy:
        uri = f"ws://{NAME}:{port}/"
        async with websockets.asyncio.client.connect(uri, proxy=proxy.url(scheme)) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"


# Credentials.


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@aio_test
async def test_user_name_and_password(scheme: str) -> None:
    async with (
        serving() as (port, _),
        proxying(ProxyServer(credentials=("ada", "s3cr:t@"))) as proxy,
    ):
        uri = f"ws://{NAME}:{port}/"
        async with connect(uri, proxy=proxy.url(scheme, "ada:s3cr%3At%40@")) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"
        for userinfo in ("", "ada:wr0ng@"):
            error = await failing(uri, proxy=proxy.url(scheme, userinfo))
            assert isinstance(error, ProxyError)
            assert error.status == (407 if scheme == "http" else None)
            assert proxy.url(scheme) in str(error)
            assert "wr0ng" not in str(error) + repr(error) + repr(error.ending)


@aio_test
async def test_the_user_of_socks4() -> None:
    async with serving() as (port, _), proxying(ProxyServer(credentials=("ada", ""))) as proxy:
        uri = f"ws://{NAME}:{port}/"
        async with connect(uri, proxy=proxy.url("socks4a", "ada@")):
            pass
        error = await failing(uri, proxy=proxy.url("socks4a", "bob@"))
        assert isinstance(error, ProxyError)


# Failing.


@pytest.mark.parametrize("scheme", PROTOCOLS)
@aio_test
async def test_a_proxy_that_refuses(scheme: str) -> None:
    async with proxying(ProxyServer(refuses=True)) as proxy:
        error = await failing(f"ws://{host_for(scheme)}/", proxy=proxy.url(scheme))
        assert isinstance(error, ProxyError)
        assert isinstance(error, ConnectionError)
        assert error.ending.cause is Cause.TRANSPORT_ERROR
        assert proxy.url(scheme) in str(error)
        if scheme == "http":
            assert error.status == 403
            assert "403 Forbidden" in str(error)


@pytest.mark.parametrize("behaves", [closes, resets, talks_nonsense])
@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
@aio_test
async def test_a_proxy_that_is_none(scheme: str, behaves: Any) -> None:
    async with proxying(ProxyServer(behaves=behaves)) as proxy:
        error = await failing(f"ws://{NAME}/", proxy=proxy.url(scheme))
        assert isinstance(error, ProxyError)
        assert error.status is None
        assert proxy.url(scheme) in str(error)


@pytest.mark.parametrize(("behaves", "what"), [(floods, "header line"), (hurries, "before the server")])
@aio_test
async def test_an_http_proxy_that_says_too_much(behaves: Any, what: str) -> None:
    async with proxying(ProxyServer(behaves=behaves)) as proxy:
        error = await failing(f"ws://{NAME}/", proxy=proxy.url())
        assert isinstance(error, ProxyError)
        assert what in str(error)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
@aio_test
async def test_a_proxy_that_says_nothing(scheme: str) -> None:
    async with proxying(ProxyServer(behaves=stalls)) as proxy:
        error = await failing(f"ws://{NAME}/", proxy=proxy.url(scheme), open_timeout=0.2)
        assert isinstance(error, ConnectTimeout)
        assert error.ending.cause is Cause.OPEN_TIMEOUT
        assert f"the proxy {proxy.url(scheme)}" in str(error)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
@aio_test
async def test_a_proxy_that_is_not_there(scheme: str) -> None:
    with Listener() as listener:
        port = listener.port
    userinfo = "ada@" if scheme == "socks4a" else "ada:s3cret@"
    error = await failing(f"ws://{NAME}/", proxy=f"{scheme}://{userinfo}127.0.0.1:{port}")
    assert isinstance(error, ProxyError)
    assert f"{scheme}://127.0.0.1:{port}" in str(error)
    assert "refused" in str(error)
    assert "s3cret" not in str(error)
    error = await failing(f"ws://{NAME}/", proxy=f"{scheme}://wsframe.invalid:{port}")
    assert isinstance(error, ProxyError)
    assert "wsframe.invalid" in str(error)


@aio_test
async def test_a_name_that_only_the_proxy_would_know() -> None:
    async with proxying() as proxy:
        with pytest.raises(ConnectError, match="with socks5h:// the proxy looks it up") as caught:
            await connect("ws://wsframe.invalid/", proxy=proxy.url("socks5"))
        assert isinstance(caught.value.__cause__, socket.gaierror)
        assert proxy.peers == []


@pytest.mark.parametrize("turns", [*range(0, 36, 3), 60, 90])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@aio_test
async def test_cancelling_at_any_point_leaves_nothing(scheme: str, turns: int) -> None:
    async with serving() as (port, _), proxying() as proxy:
        await cancelled_after(turns, connect(f"ws://{NAME}:{port}/", proxy=proxy.url(scheme))._open())


@aio_test
async def test_the_end_of_the_proxy_is_the_end_of_the_connection() -> None:
    async with serving() as (port, _):
        async with proxying() as proxy:
            ws = await connect(f"ws://{NAME}:{port}/", proxy=proxy.url())
        with pytest.raises(ConnectionClosed):
            await ws.recv()
        assert ws.ending is not None
        assert ws.ending.cause in (Cause.EOF, Cause.RESET)


@aio_test
async def test_no_failure_waits_for_the_garbage_collector() -> None:
    with Listener() as listener:
        nobody = listener.port

    async def fail(uri: str, **options: Any) -> None:
        # pytest.raises would be a cycle itself.
        with contextlib.suppress(ConnectError):
            await connect(uri, **options)

    async def fail_in_all_ways() -> None:
        for scheme in ("http", "socks5h"):
            for proxy in (
                ProxyServer(refuses=True),
                ProxyServer(behaves=closes),
                ProxyServer(behaves=talks_nonsense),
            ):
                async with proxying(proxy):
                    await fail(f"ws://{NAME}/", proxy=proxy.url(scheme))
            await fail(f"ws://{NAME}/", proxy=f"{scheme}://127.0.0.1:{nobody}")
        await fail(f"ws://127.0.0.1:{nobody}/")

    await fail_in_all_ways()
    gc.collect()
    gc.disable()
    try:
        await fail_in_all_ways()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [thing for thing in gc.garbage if type(thing).__module__.startswith("wsframe.")]
        assert left == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


# The environment.


@aio_test
async def test_the_environment_is_asked_when_the_connection_is_made(environment: pytest.MonkeyPatch) -> None:
    async with serving() as (port, _), proxying() as proxy:
        connecting = connect(f"ws://{NAME}:{port}/")
        environment.setenv("http_proxy", proxy.url())
        async with connecting as ws:
            await ws.send("x")
            assert await ws.recv() == "x"
        assert proxy.asked == [f"http {NAME}:{port}"]


@aio_test
async def test_loopback_is_never_reached_through_the_environments_proxy(
    environment: pytest.MonkeyPatch,
) -> None:
    async with serving() as (port, _), proxying() as proxy:
        environment.setenv("ALL_PROXY", proxy.url())
        for host in ("127.0.0.1", "localhost"):
            async with connect(f"ws://{host}:{port}/", family=socket.AF_INET):
                pass
        assert proxy.asked == []
        # But what is asked for is done.
        async with connect(f"ws://127.0.0.1:{port}/", proxy=proxy.url()):
            pass
        assert len(proxy.asked) == 1


@aio_test
async def test_an_error_names_the_variable(environment: pytest.MonkeyPatch) -> None:
    async with proxying(ProxyServer(refuses=True)) as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url())
        error = await failing(f"ws://{NAME}/")
        assert "from https_proxy in the environment" in str(error)
        environment.setenv("HTTPS_PROXY", "gopher://ada:s3cret@proxy.example")
        with pytest.raises(InvalidProxy, match=r"https_proxy in the environment .*proxy=None") as caught:
            await connect(f"ws://{NAME}/")
        assert isinstance(caught.value, ValueError)
        assert "s3cret" not in str(caught.value)


def used(uri: str) -> str | None:
    route = Route.checked(sock=None, unix_path=None, family=socket.AF_UNSPEC, local_addr=None, proxy=True)
    proxy = route.proxy_to(parse_uri(uri))
    return None if proxy is None else proxy.host


@pytest.mark.parametrize(("variables", "ws", "wss"), VARIABLES, ids=str)
def test_which_variable_counts(
    environment: pytest.MonkeyPatch, variables: dict[str, str], ws: str | None, wss: str | None
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    assert used(f"ws://{NAME}/") == ws
    assert used(f"wss://{NAME}/") == wss


# python-socks is an extra.


@aio_test
async def test_without_python_socks(environment: pytest.MonkeyPatch) -> None:
    environment.setitem(sys.modules, "python_socks", None)
    async with serving() as (port, _), proxying() as proxy:
        uri = f"ws://{NAME}:{port}/"
        async with connect(uri, proxy=proxy.url("http")):
            pass
        with pytest.raises(ImportError, match=r"python-socks.*wsframe\[proxy\]"):
            await connect(uri, proxy=proxy.url("socks5h"))
        environment.setenv("all_proxy", proxy.url("socks5h"))
        with pytest.raises(ImportError, match=r"all_proxy in the environment.*proxy=None") as caught:
            await connect(uri)
        assert caught.value.__cause__ is None
        async with connect(f"ws://127.0.0.1:{port}/"):
            pass


@aio_test
async def test_a_python_socks_that_is_too_old(environment: pytest.MonkeyPatch) -> None:
    class Old:
        def __init__(self, kind: Any, host: str, port: int, user: str, word: str, rdns: bool) -> None:
            pass

    environment.setattr("python_socks.async_.asyncio.Proxy", Old)
    with pytest.raises(ImportError, match=r"python-socks 3\.0 or newer: install wsframe\[proxy\]"):
        await connect(f"ws://{NAME}/", proxy="socks5h://127.0.0.1:9")


# Arguments.


@pytest.mark.parametrize(("options", "error"), ARGUMENTS)
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        connect("ws://example.org/", **options)


@aio_test
async def test_a_socket_needs_no_proxy(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", "http://127.0.0.1:9")
    async with serving() as (port, _):
        sock = socket.create_connection(("127.0.0.1", port))
        async with connect(f"ws://{NAME}/", sock=sock) as ws:
            await ws.send("x")
            assert await ws.recv() == "x"
