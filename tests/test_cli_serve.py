"""`python -m wsframe serve`, as a process of its own."""

from __future__ import annotations

import asyncio
import http.client
import re
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

import wsframe
from aiohelpers import run
from wsframe import Cause
from wsframe.aio import ConnectionClosedError, ConnectionClosedOK, HandshakeRejected, connect
from wsframe.cli import main

Starter = Callable[..., "Serving"]


class Serving:
    """A running server."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "wsframe", "serve", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        self.banner = self.process.stdout.readline()
        found = re.search(r"wss?://\S+", self.process.stdout.readline())
        assert found is not None
        self.uri = found.group()
        self.page = self.process.stdout.readline()

    def stop(self, number: int = signal.SIGTERM) -> str:
        """Send a signal; return what else was printed."""
        self.process.send_signal(number)
        output, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, output
        return output


@pytest.fixture
def start() -> Iterator[Starter]:
    """Start servers, and leave none behind."""
    started: list[Serving] = []

    def starter(*arguments: str) -> Serving:
        started.append(Serving(*arguments))
        return started[-1]

    yield starter
    for serving in started:
        if serving.process.poll() is None:
            serving.process.kill()
        serving.process.communicate()


async def echoed(uri: str, *messages: str | bytes, **options: Any) -> None:
    async with connect(uri, **options) as ws:
        for message in messages:
            await ws.send(message)
            assert await ws.recv() == message


def test_it_echoes_and_says_what_happened(start: Starter) -> None:
    serving = start("-v")
    assert wsframe.__version__ in serving.banner
    assert wsframe.backend_description in serving.banner
    assert serving.uri.startswith("ws://127.0.0.1:")
    assert serving.page == f"a page to try it is at {serving.uri.replace('ws:', 'http:')}\n"
    run(echoed(serving.uri + "path", "text", b"binary", "x" * (2 << 20), max_message_size=4 << 20))
    with pytest.raises(HandshakeRejected):
        run(echoed(serving.uri, origin="https://elsewhere.example"))
    output = serving.stop()
    lines = output.splitlines()
    assert re.fullmatch(r"127\.0\.0\.1:\d+ /path: closed by the peer; .*1000.*", lines[0])
    assert "refused by us" in lines[1]
    assert lines[2:] == ["closing"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_close_with_1001(start: Starter, number: int) -> None:
    serving = start()

    async def client() -> str:
        ws = await connect(serving.uri)
        output = await asyncio.to_thread(serving.stop, number)
        with pytest.raises(ConnectionClosedOK):
            await ws.recv()
        assert (ws.close_code, ws.close_reason) == (1001, "server is going away")
        return output

    # Without -v there is no line about connections.
    assert run(client()) == "closing\n"


def test_a_browser_gets_a_page(start: Starter) -> None:
    serving = start()
    url = serving.uri.replace("ws:", "http:")
    with urllib.request.urlopen(url) as response:
        page = response.read().decode()
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "WebSocket" in page
    assert wsframe.__version__ in page
    # Everything is filled in.
    assert "{{" not in page
    address = re.fullmatch(r"ws://(.*):(\d+)/", serving.uri)
    assert address is not None
    for method, status in (("HEAD", 200), ("POST", 405)):
        http_client = http.client.HTTPConnection(address[1], int(address[2]), timeout=10)
        http_client.request(method, "/")
        answer = http_client.getresponse()
        assert answer.status == status
        assert method != "HEAD" or answer.read() == b""
        http_client.close()


def test_size_subprotocols_origins_and_compression(start: Starter) -> None:
    serving = start(
        *("--max-size", "1000", "--subprotocol", "b", "--subprotocol", "a"),
        *("--origin", "https://example.org", "--no-compression"),
    )

    async def clients() -> None:
        options: dict[str, Any] = {"subprotocols": ["a", "b"], "compression": True}
        async with connect(serving.uri, origin="https://example.org", **options) as ws:
            assert ws.subprotocol == "b"
            assert ws.response is not None
            assert "Sec-WebSocket-Extensions" not in ws.response.headers
            await ws.send(bytes(1000))
            assert await ws.recv() == bytes(1000)
            await ws.send(bytes(1001))
            with pytest.raises(ConnectionClosedError) as caught:
                await ws.recv()
            assert caught.value.code == 1009
        with pytest.raises(HandshakeRejected) as refused:
            await connect(serving.uri, origin="https://elsewhere.example")
        assert refused.value.ending.cause is Cause.REJECTED

    run(clients())
    serving.stop()
    run(echoed(start("--origin", "any").uri, "x", origin="https://elsewhere.example"))

    async def compressed(uri: str) -> None:
        async with connect(uri, compression=True) as ws:
            assert ws.response is not None
            assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
            await ws.send("x" * 10_000)
            assert await ws.recv() == "x" * 10_000

    run(compressed(start().uri))


def test_tls(start: Starter, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(key)
    serving = start("--tls-cert", str(chain), "--tls-key", str(key))
    assert serving.uri.startswith("wss://127.0.0.1:")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    run(echoed(serving.uri, "text", ssl=context))
    assert serving.stop() == "closing\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["surf"], "'surf'"),
        (["serve", "--port", "99999"], "a port is a number from 0 to 65535, not 99999"),
        (["serve", "--port", "http"], "'http' is not a port number"),
        (["serve", "--max-size", "0"], "must be over 0"),
        (["serve", "--max-size", "much"], "'much' is not a number of bytes"),
        (["serve", "--tls-key", "key.pem"], "--tls-key needs --tls-cert"),
        (["serve", "--tls-cert", "/does/not/exist"], "/does/not/exist"),
        (["serve", "--subprotocol", "a b"], "'a b'"),
        (["serve", "--wurst"], "--wurst"),
    ],
)
def test_wrong_usage_gets_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status: object
    try:
        status = main(arguments)
    except SystemExit as exc:
        status = exc.code
    output = capsys.readouterr()
    assert status == 2
    assert output.out == ""
    assert output.err.startswith("python -m wsframe")
    assert words in output.err
    assert output.err.count("\n") == 1


def test_a_port_that_is_taken_gets_one_sentence(start: Starter, capsys: pytest.CaptureFixture[str]) -> None:
    port = start().uri.rpartition(":")[2].rstrip("/")
    assert main(["serve", "--port", port]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"python -m wsframe serve: cannot listen on 127.0.0.1 port {port}: ")
    assert error.count("\n") == 1


def test_the_version_names_the_codec(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    expected = f"wsframe {wsframe.__version__} ({wsframe.backend_description} codec)\n"
    assert capsys.readouterr().out == expected


def test_the_help_has_every_option_and_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    text = capsys.readouterr().out
    options = ["host", "port", "tls-cert", "tls-key", "max-size", "compression", "no-compression"]
    for option in [*options, "subprotocol", "origin", "verbose"]:
        assert f"--{option}" in text
    assert "8765" in text
    assert str(16 << 20) in text
