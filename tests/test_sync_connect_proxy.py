"""The blocking `connect` through proxies: HTTP and SOCKS, from an argument and from the environment, and how they
fail."""

from __future__ import annotations

import asyncio
import pickle
import socket
import sys
from typing import Any

import pytest

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
from synchelpers import Listener, client_context, in_a_loop, port_of, server_context, serving, tidy, until
from wsframe import Cause, State, parse_uri
from wsframe.sync import (
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    InvalidProxy,
    ProxyError,
    connect,
)
from wsframe.sync._route import Route

__all__ = ["environment", "tidy"]


def failing(uri: str, **options: Any) -> ConnectError:
    with pytest.raises(ConnectError) as caught:
        connect(uri, **options)
    ending = caught.value.ending
    assert (ending.phase, ending.was_websocket) == (State.CONNECTING, False)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy)) == (type(caught.value), str(caught.value))
    return caught.value


# The way through.


@pytest.mark.parametrize("scheme", PROTOCOLS)
def test_an_echo_through_a_proxy(scheme: str) -> None:
    host = host_for(scheme)
    with serving() as (server, _), in_a_loop(proxying()) as proxy:
        port = port_of(server)
        with connect(f"ws://{host}:{port}/", proxy=proxy.url(scheme)) as ws:
            for message in ("", "héllo", bytes(70_000), "x" * (1 << 20)):
                ws.send(message)
                assert ws.recv() == message
            assert ws.request.headers["Host"] == f"{host}:{port}"
        assert ws.ending is not None
        assert ws.ending.clean
        (asked,) = proxy.asked
        protocol, _, address = asked.partition(" ")
        assert protocol == scheme[:6].removesuffix("h").rstrip("a")
        assert address in (
            (f"127.0.0.1:{port}", f"::1:{port}") if host == "localhost" else (f"{NAME}:{port}",)
        )


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_tls_inside_the_tunnel(scheme: str) -> None:
    with serving(ssl=server_context(NAME)) as (server, _), in_a_loop(proxying()) as proxy:
        uri = f"wss://{NAME}:{port_of(server)}/"
        with connect(uri, ssl=client_context(), proxy=proxy.url(scheme)) as ws:
            ws.send("sealed")
            assert ws.recv() == "sealed"
        assert len(proxy.asked) == 1


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_an_answer_that_comes_byte_by_byte(scheme: str) -> None:
    with (
        serving() as (server, _),
        in_a_loop(proxying(ProxyServer(dribbles=True))) as proxy,
        connect(f"ws://{NAME}:{port_of(server)}/", proxy=proxy.url(scheme)) as ws,
    ):
        ws.send("x")
        assert ws.recv() == "x"


def test_what_an_http_proxy_is_asked() -> None:
    with serving() as (server, _), in_a_loop(proxying()) as proxy:
        port = port_of(server)
        with connect(f"ws://u:p@{NAME}:{port}/x", headers={"Cookie": "c"}, proxy=proxy.url()):
            pass
        (head,) = proxy.heads
        assert head.startswith(b"CONNECT %s:%d HTTP/1.1\r\nHost: " % (NAME.encode(), port))
        assert b"User-Agent: wsframe/" in head
        # What is for the server is not for the proxy.
        assert b"Cookie" not in head
        assert b"uthorization" not in head


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_the_connection_to_the_proxy_comes_from_local_addr(scheme: str) -> None:
    with serving() as (server, _), in_a_loop(proxying()) as proxy:
        uri = f"ws://{NAME}:{port_of(server)}/"
        with connect(uri, proxy=proxy.url(scheme), local_addr=("127.0.0.2", 0), family=socket.AF_INET):
            pass
        assert [host for host, _ in proxy.peers] == ["127.0.0.2"]
        error = failing(uri, proxy=proxy.url(scheme), family=socket.AF_INET6)
        assert isinstance(error, ProxyError)


# Credentials.


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_user_name_and_password(scheme: str) -> None:
    with (
        serving() as (server, _),
        in_a_loop(proxying(ProxyServer(credentials=("ada", "s3cr:t@")))) as proxy,
    ):
        uri = f"ws://{NAME}:{port_of(server)}/"
        with connect(uri, proxy=proxy.url(scheme, "ada:s3cr%3At%40@")) as ws:
            ws.send("x")
            assert ws.recv() == "x"
        for userinfo in ("", "ada:wr0ng@"):
            error = failing(uri, proxy=proxy.url(scheme, userinfo))
            assert isinstance(error, ProxyError)
            assert error.status == (407 if scheme == "http" else None)
            assert proxy.url(scheme) in str(error)
            assert "wr0ng" not in str(error) + repr(error) + repr(error.ending)


def test_the_user_of_socks4() -> None:
    with serving() as (server, _), in_a_loop(proxying(ProxyServer(credentials=("ada", "")))) as proxy:
        uri = f"ws://{NAME}:{port_of(server)}/"
        with connect(uri, proxy=proxy.url("socks4a", "ada@")):
            pass
        error = failing(uri, proxy=proxy.url("socks4a", "bob@"))
        assert isinstance(error, ProxyError)


# Failing.


@pytest.mark.parametrize("scheme", PROTOCOLS)
def test_a_proxy_that_refuses(scheme: str) -> None:
    with in_a_loop(proxying(ProxyServer(refuses=True))) as proxy:
        error = failing(f"ws://{host_for(scheme)}/", proxy=proxy.url(scheme))
        assert isinstance(error, ProxyError)
        assert isinstance(error, ConnectionError)
        assert error.ending.cause is Cause.TRANSPORT_ERROR
        assert proxy.url(scheme) in str(error)
        if scheme == "http":
            assert error.status == 403
            assert "403 Forbidden" in str(error)


@pytest.mark.parametrize("behaves", [closes, resets, talks_nonsense])
@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_a_proxy_that_is_none(scheme: str, behaves: Any) -> None:
    with in_a_loop(proxying(ProxyServer(behaves=behaves))) as proxy:
        error = failing(f"ws://{NAME}/", proxy=proxy.url(scheme))
        assert isinstance(error, ProxyError)
        assert error.status is None
        assert proxy.url(scheme) in str(error)


@pytest.mark.parametrize(("behaves", "what"), [(floods, "header line"), (hurries, "before the server")])
def test_an_http_proxy_that_says_too_much(behaves: Any, what: str) -> None:
    with in_a_loop(proxying(ProxyServer(behaves=behaves))) as proxy:
        error = failing(f"ws://{NAME}/", proxy=proxy.url())
        assert isinstance(error, ProxyError)
        assert what in str(error)


async def announces_for_ever(raw: Any) -> None:
    """Each answer comes in time, and the last one never does."""
    await raw.receive()
    while True:
        await raw.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("scheme", "behaves"),
    [("http", stalls), ("socks5h", stalls), ("socks4a", stalls), ("http", announces_for_ever)],
)
def test_a_proxy_that_says_nothing(scheme: str, behaves: Any) -> None:
    with in_a_loop(proxying(ProxyServer(behaves=behaves))) as proxy:
        error = failing(f"ws://{NAME}/", proxy=proxy.url(scheme), open_timeout=0.3)
        assert isinstance(error, ConnectTimeout)
        assert error.ending.cause is Cause.OPEN_TIMEOUT
        assert f"the proxy {proxy.url(scheme)}" in str(error)


@pytest.mark.parametrize("scheme", ["http", "socks5h", "socks4a"])
def test_a_proxy_that_is_not_there(scheme: str) -> None:
    with Listener() as listener:
        port = listener.port
    userinfo = "ada@" if scheme == "socks4a" else "ada:s3cret@"
    error = failing(f"ws://{NAME}/", proxy=f"{scheme}://{userinfo}127.0.0.1:{port}")
    assert isinstance(error, ProxyError)
    assert f"{scheme}://127.0.0.1:{port}" in str(error)
    assert "refused" in str(error)
    assert "s3cret" not in str(error)
    error = failing(f"ws://{NAME}/", proxy=f"{scheme}://wsframe.invalid:{port}")
    assert isinstance(error, ProxyError)
    assert "wsframe.invalid" in str(error)


def test_a_name_that_only_the_proxy_would_know() -> None:
    with in_a_loop(proxying()) as proxy:
        with pytest.raises(ConnectError, match="with socks5h:// the proxy looks it up") as caught:
            connect("ws://wsframe.invalid/", proxy=proxy.url("socks5"))
        assert isinstance(caught.value.__cause__, socket.gaierror)
        assert proxy.peers == []


def test_the_end_of_the_proxy_is_the_end_of_the_connection() -> None:
    with serving() as (server, _):
        with in_a_loop(proxying()) as proxy:
            ws = connect(f"ws://{NAME}:{port_of(server)}/", proxy=proxy.url())
        with pytest.raises(ConnectionClosed):
            ws.recv()
        assert ws.ending is not None
        assert ws.ending.cause in (Cause.EOF, Cause.RESET)
        until(lambda: not server._connections)


# The environment.


def test_the_environment_is_asked(environment: pytest.MonkeyPatch) -> None:
    with serving() as (server, _), in_a_loop(proxying()) as proxy:
        port = port_of(server)
        environment.setenv("http_proxy", proxy.url())
        with connect(f"ws://{NAME}:{port}/") as ws:
            ws.send("x")
            assert ws.recv() == "x"
        assert proxy.asked == [f"http {NAME}:{port}"]
        # Never for this machine, unless that is asked for.
        with connect(f"ws://localhost:{port}/", family=socket.AF_INET):
            pass
        assert len(proxy.asked) == 1
        with connect(f"ws://127.0.0.1:{port}/", proxy=proxy.url()):
            pass
        assert len(proxy.asked) == 2


def test_an_error_names_the_variable(environment: pytest.MonkeyPatch) -> None:
    with in_a_loop(proxying(ProxyServer(refuses=True))) as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url())
        error = failing(f"ws://{NAME}/")
        assert "from https_proxy in the environment" in str(error)
        environment.setenv("HTTPS_PROXY", "gopher://ada:s3cret@proxy.example")
        with pytest.raises(InvalidProxy, match=r"https_proxy in the environment .*proxy=None") as caught:
            connect(f"ws://{NAME}/")
        assert isinstance(caught.value, ValueError)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("variables", "ws", "wss"), VARIABLES, ids=str)
def test_which_variable_counts(
    environment: pytest.MonkeyPatch, variables: dict[str, str], ws: str | None, wss: str | None
) -> None:
    for name, value in variables.items():
        environment.setenv(name, value)
    route = Route.checked(sock=None, unix_path=None, family=socket.AF_UNSPEC, local_addr=None, proxy=True)
    for uri, host in ((f"ws://{NAME}/", ws), (f"wss://{NAME}/", wss)):
        proxy = route.proxy_to(parse_uri(uri))
        assert (None if proxy is None else proxy.host) == host


# python-socks is an extra.


def test_without_python_socks(environment: pytest.MonkeyPatch) -> None:
    environment.setitem(sys.modules, "python_socks", None)
    with serving() as (server, _), in_a_loop(proxying()) as proxy:
        uri = f"ws://{NAME}:{port_of(server)}/"
        with connect(uri, proxy=proxy.url("http")):
            pass
        with pytest.raises(ImportError, match=r"python-socks.*wsframe\[proxy\]"):
            connect(uri, proxy=proxy.url("socks5h"))
        environment.setenv("all_proxy", proxy.url("socks5h"))
        with pytest.raises(ImportError, match=r"all_proxy in the environment.*proxy=None") as caught:
            connect(uri)
        assert caught.value.__cause__ is None


def test_a_python_socks_that_is_too_old(environment: pytest.MonkeyPatch) -> None:
    class Old:
        def __init__(self, kind: Any, host: str, port: int, user: str, word: str, rdns: bool) -> None:
            pass

    environment.setattr("python_socks.sync.Proxy", Old)
    with pytest.raises(ImportError, match=r"python-socks 3\.0 or newer: install wsframe\[proxy\]"):
        connect(f"ws://{NAME}/", proxy="socks5h://127.0.0.1:9")


# Arguments.


@pytest.mark.parametrize(("options", "error"), ARGUMENTS)
def test_what_makes_no_sense_is_refused_at_once(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        connect("ws://example.org/", **options)


def test_a_socket_needs_no_proxy(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("http_proxy", "http://127.0.0.1:9")
    with serving() as (server, _):
        sock = socket.create_connection(("127.0.0.1", port_of(server)))
        with connect(f"ws://{NAME}/", sock=sock) as ws:
            ws.send("x")
            assert ws.recv() == "x"
