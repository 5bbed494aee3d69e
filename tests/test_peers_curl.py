"""Our servers with curl, which knows HTTP and nothing of WebSocket."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from framebuilder import SAMPLE_ACCEPT, build, client_handshake_request, close_payload
from peerhelpers import against, both_adapters
from synchelpers import DEADLINE, tidy
from wsframe import Cause, Request, Response, aio, sync

__all__ = ["tidy"]

pytestmark = pytest.mark.peer

PAGE = "<!doctype html><p>héllo".encode()


@pytest.fixture(scope="module")
def curl() -> str:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    return program


def get(curl: str, uri: str, *options: str) -> tuple[str, bytes]:
    """The head of what curl prints, and the rest."""
    result = subprocess.run(
        # Its own configuration and a proxy have no say.
        [curl, "--disable", "--noproxy", "*", "-sSNi", "--http1.1", *options, uri.replace("ws:", "http:")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    head, _, body = result.stdout.partition(b"\r\n\r\n")
    return head.decode(), body


async def greet_aio(ws: aio.WebSocket) -> None:
    await ws.send("hello")


def greet_sync(ws: sync.WebSocket) -> None:
    ws.send("hello")


@both_adapters
def test_an_upgrade(curl: str, adapter: str) -> None:
    lines = client_handshake_request(without=["Host"]).decode().strip().splitlines()[1:]
    (head, body), (ending,) = against(
        adapter,
        lambda uri: get(curl, uri, *(word for line in lines for word in ("-H", line))),
        handler=greet_aio if adapter == "aio" else greet_sync,
        # It will not answer our Close.
        close_timeout=0.1,
    )
    assert head.startswith("HTTP/1.1 101 ")
    assert f"Sec-WebSocket-Accept: {SAMPLE_ACCEPT}" in head.splitlines()
    assert body == build(1, b"hello") + build(8, close_payload(1000))
    assert ending.cause is Cause.CLOSE_TIMEOUT


@both_adapters
def test_plain_http(curl: str, adapter: str) -> None:
    (head, body), (ending,) = against(adapter, lambda uri: get(curl, uri))
    assert head.startswith("HTTP/1.1 426 ")
    assert "Upgrade: websocket" in head.splitlines()
    assert b"WebSocket" in body
    assert ending.cause is Cause.PLAIN_HTTP


@both_adapters
def test_a_page(curl: str, adapter: str) -> None:
    def on_request(request: Request) -> Response | None:
        return Response(200, headers=[("Content-Type", "text/html; charset=utf-8")], body=PAGE)

    (head, body), (ending,) = against(adapter, lambda uri: get(curl, uri), on_request=on_request)
    assert head.startswith("HTTP/1.1 200 ")
    assert body == PAGE
    assert ending.cause is Cause.PLAIN_HTTP
