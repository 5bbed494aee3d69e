"""A vendored copy in the field: it gives WebSocket to an HTTP server that is not ours, and may be compiled.

``.ci/run`` runs the Autobahn suite against the same host.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

import building
import framebuilder as fb

PAGE = building.CHECKOUT / "docs/integrate.md"


@pytest.fixture(scope="module", params=building.CODECS)
def copied_codec(request: pytest.FixtureRequest) -> str:
    if request.param == "cython" and shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    return str(request.param)


@pytest.fixture(scope="module")
def project(copied_codec: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's directory, built."""
    directory = tmp_path_factory.mktemp(f"host-{copied_codec}")
    building.make_host(directory, copied_codec)
    return directory


@pytest.fixture(scope="module")
def port(project: Path, copied_codec: str) -> Iterator[int]:
    """Where the host listens. It ends by itself if another codec is loaded."""
    with building.running(project, copied_codec) as port:
        yield port


def run_python(project: Path, script: str, **environment: str) -> None:
    command = [sys.executable, "-W", "error", "-c", script]
    subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(project), **environment}, check=True, timeout=60
    )


def test_the_loop_is_that_of_the_page() -> None:
    loop = (building.HERE / "myserver/_drive.py").read_text(encoding="utf-8").partition("HIGH_WATER = ")[2]
    assert loop.rstrip() in PAGE.read_text(encoding="utf-8")


def test_building_does_not_make_it_a_changed_copy(project: Path) -> None:
    assert "unchanged and current" in building.vendor(project / "myserver/_vendor/wsframe", "--check")


@pytest.mark.peer
@pytest.mark.parametrize("compression", ["deflate", None])
def test_echo(port: int, compression: str | None) -> None:
    with connect(f"ws://127.0.0.1:{port}/", compression=compression, max_size=None) as ws:
        for message in ("ä" * 1000, b"\0\1\2" * 100_000, "", b""):
            ws.send(message)
            assert ws.recv(30) == message
    assert ws.close_code == 1000


def test_frames_behind_the_request_in_the_same_segment(port: int) -> None:
    hello = fb.build(fb.TEXT, b"early", mask=fb.SAMPLE_MASK)
    close = fb.build(fb.CLOSE, fb.close_payload(1000), mask=fb.SAMPLE_MASK)
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(fb.client_handshake_request("/", host=f"127.0.0.1:{port}") + hello)
        received = b""
        while not received.endswith(fb.build(fb.TEXT, b"early")):
            chunk = sock.recv(65536)
            assert chunk, received
            received += chunk
        sock.sendall(close)
        assert sock.makefile("rb").read() == fb.build(fb.CLOSE, fb.close_payload(1000))


def test_a_peer_that_does_not_read_is_not_read_either(port: int) -> None:
    frame = fb.build(fb.BINARY, bytes(60_000), mask=bytes(4))
    answer = fb.build(fb.BINARY, bytes(60_000))
    bound = 64 << 20  # far above what the kernel's buffers take on the way there and back
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(fb.client_handshake_request("/", host=f"127.0.0.1:{port}"))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += sock.recv(1)
        sent = 0
        sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while sent < bound:
                sent += sock.send(frame[sent % len(frame) :])
        assert sent < bound
        # Nothing was lost: now that it is read, everything comes.
        sock.settimeout(20)
        rest = threading.Thread(target=sock.sendall, args=(frame[sent % len(frame) :],))
        rest.start()
        with sock.makefile("rb") as file:
            for _ in range(sent // len(frame) + 1):
                # Between the answers there may be a keepalive ping, with four bytes.
                while (start := file.read(6))[0] == 0x80 | fb.PING:
                    pass
                assert start + file.read(len(answer) - 6) == answer
        rest.join()


def test_plain_http_goes_on_as_ever(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    for _ in range(2):
        connection.request("GET", "/")
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"an echo server\n")
    connection.close()


@pytest.mark.peer
def test_refused_handshake(port: int) -> None:
    with (
        pytest.raises(InvalidStatus) as caught,
        connect(f"ws://127.0.0.1:{port}/", origin=Origin("https://elsewhere.example")),
    ):
        pass
    assert caught.value.response.status_code == 403


def test_the_environment_chooses_the_codec(project: Path, copied_codec: str) -> None:
    script = "from myserver._vendor import wsframe; assert wsframe.backend == {!r}, wsframe.backend"
    run_python(project, script.format("python"), WSFRAME_PURE_PYTHON="1")
    run_python(project, script.format(copied_codec), WSFRAME_PURE_PYTHON="0")


TWO_COPIES = """
import pickle
import sys

from myserver._vendor import wsframe as one
from myserver.other import ws as two

assert (one.backend, two.backend) == (sys.argv[1], "python"), (one.backend, two.backend)

def talk(copy):
    client, server = copy.Connection(copy.Role.CLIENT), copy.Connection(copy.Role.SERVER)
    client.send_text("h\\u00e4llo")
    client.send_fragment(b"a" * 70000, final=False)
    client.send_fragment(b"b", final=True)
    client.ping(b"x")
    client.close(4000, "bye")
    events = server.receive_data(b"".join(client.data_to_send()))
    events += server.transport_closed()
    broken = copy.Connection(copy.Role.SERVER)
    broken.receive_data(bytes.fromhex("c10000000000"))
    return [*events, *broken.transport_closed()]

events = [talk(one), talk(two), talk(one)]
assert repr(events[0]) == repr(events[1]) == repr(events[2]), events
for mine, other in zip(events[0], events[1]):
    assert type(mine) is not type(other) and mine != other, mine
    if type(mine).__name__ != "Disconnected":
        assert pickle.loads(pickle.dumps(mine)) == mine and pickle.loads(pickle.dumps(other)) == other
        assert type(pickle.loads(pickle.dumps(mine))) is type(mine)

public = [name for name in one.__all__ if isinstance(getattr(one, name), type)]
assert len(public) > 20
assert [name for name in public if getattr(one, name) is getattr(two, name)] == []
try:
    one.Connection(one.Role.SERVER).close(1005)
except two.WsframeError:
    raise AssertionError("caught by the other copy's name")
except one.LocalProtocolError:
    pass
"""


def test_two_copies_in_one_process(project: Path, copied_codec: str) -> None:
    building.vendor(project / "myserver/other/ws")
    command = [sys.executable, "-W", "error", "-c", TWO_COPIES, copied_codec]
    environment = {**os.environ, "PYTHONPATH": str(project), "WSFRAME_PURE_PYTHON": ""}
    subprocess.run(command, env=environment, check=True, timeout=60)
