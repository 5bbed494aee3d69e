"""Our servers with the client of Java's own HttpClient."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from peerhelpers import against, both_adapters
from synchelpers import DEADLINE, tidy
from wsframe import Cause, Initiator

__all__ = ["tidy"]

pytestmark = pytest.mark.peer

SOURCE = Path(__file__).parent / "peers" / "EchoClient.java"


@pytest.fixture(scope="module")
def java() -> str:
    """A Java that can run a source file, so that of a JDK."""
    program = shutil.which("java")
    if program is None:
        pytest.skip("java is not installed")
    modules = subprocess.run(
        [program, "--list-modules"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if not {"jdk.compiler", "java.net.http"} <= {line.partition("@")[0] for line in modules.stdout.split()}:
        pytest.skip("java has no compiler or no HttpClient: it takes a JDK, 13 or newer")
    return program


def client(java: str, uri: str, *steps: str) -> list[str]:
    """Run the client to its end; return what it says of every step."""
    result = subprocess.run(
        [java, str(SOURCE), uri, *steps],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=2 * DEADLINE,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@both_adapters
def test_messages_pings_and_the_clients_close(java: str, adapter: str) -> None:
    steps = {
        "open:a,b": "b",
        **{f"text:{size}": "same" for size in (0, 1, 125, 126, 65_535, 65_536)},
        **{f"binary:{size}": "same" for size in (0, 1, 125, 126, 65_535, 65_536)},
        "fragments:3": "same",
        "fragments:100000": "same",
        "pinged": "0",
        "say:ping": "ping",
        "text:1048576": "same",
        "binary:1048576": "same",
        "fragments:1048576": "same",
        "ping:hello": "pong hello",
        "ping:": "pong ",
        # The answer to a Close has its code, but no reason; so does Java's, below.
        "close:4000:bye": "4000 ",
    }
    said, (ending,) = against(
        adapter, lambda uri: client(java, uri, *steps, "pinged", "parts"), subprotocols=["b", "a"]
    )
    *said, pinged, parts = said
    assert dict(zip(steps, said, strict=True)) == steps
    # The one that was asked for. A mebibyte comes in parts.
    assert pinged == "1"
    assert int(parts) > 0
    assert (ending.clean, ending.code, ending.reason) == (True, 4000, "bye")
    assert ending.initiator is Initiator.REMOTE


@both_adapters
def test_our_closes_and_refusals(java: str, adapter: str) -> None:
    closes = [(1000, "done"), (1001, ""), (1011, "x"), (4999, "x" * 123)]
    steps = [step for code, reason in closes for step in ("open:a", f"say:close {code} {reason}")]
    said, endings = against(
        adapter,
        lambda uri: client(java, uri, *steps, "open:b"),
        subprotocols=["a"],
        require_subprotocol=True,
        connections=len(closes) + 1,
    )
    assert said == [word for code, reason in closes for word in ("a", f"{code} {reason}")] + ["refused 400"]
    *closed, refused = endings
    assert [ending.code for ending in closed] == [code for code, _ in closes]
    assert all(ending.clean and ending.initiator is Initiator.LOCAL for ending in closed)
    assert refused.cause is Cause.REJECTED
