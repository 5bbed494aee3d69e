"""The load generator and the servers that it measures, seen from the one that conducts them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bench_compile import PLAIN, TLS, Program, check_system, compiled
from bench_contestants import Entry
from bench_errors import UnsupportedError, WrongError
from bench_pool import PATIENCE, Command, environment
from bench_wire import REQUEST, TEXT, frame

HERE = Path(__file__).resolve().parent
#: Descriptors that a server needs beside those of its connections.
SPARE_DESCRIPTORS = 100
#: What a server answers to what is no UTF-8 may take so many seconds.
PROBE_TIMEOUT = 10.0


class Programs:
    """The C programs, compiled.

    Raises:
        UnusableError: this cannot be done here.
    """

    def __init__(self) -> None:
        check_system()
        self.load: Program = compiled("bench_load", (TLS, PLAIN))
        self.limit: Program = compiled("bench_limit")

    @property
    def has_tls(self) -> bool:
        """The load generator knows TLS."""
        return self.load.build is TLS


class Certificate:
    """A directory with a certificate that nobody but us trusts, for as long as this lasts."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="wsframe-bench-")
        self.path: str | None = None
        try:
            import trustme
        except ImportError:
            return
        path = Path(self._directory.name)
        certificate = trustme.CA().issue_cert("localhost", "127.0.0.1")
        certificate.private_key_pem.write_to_path(path / "key.pem")
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(path / "cert.pem", append=True)
        self.path = str(path)

    def __enter__(self) -> Certificate:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.cleanup()


def server_command(entry: Entry, programs: Programs, core: int | None, *options: str) -> Command:
    """Return how to start a server under test."""
    own = environment(entry.codec)
    if entry.name == "limit":
        return Command(_pinned(core, str(programs.limit.path)), own)
    if entry.name == "ws/node":
        if "WSFRAME_NODE_PATH" in own:
            own["NODE_PATH"] = own["WSFRAME_NODE_PATH"]
        node = shutil.which("node")
        if node is None:
            missing = f"print({json.dumps(json.dumps({'missing': 'node is not installed'}))})"
            return Command((sys.executable, "-c", missing), own)
        return Command(_pinned(core, node, str(HERE / "bench_node.cjs"), *options), own)
    place = "-" if core is None else str(core)
    return Command((sys.executable, str(HERE / "bench_serve.py"), entry.name, place, *options), own)


def _pinned(core: int | None, *command: str) -> tuple[str, ...]:
    """Return a command that runs another one, in the same process, on that core."""
    if core is None:
        return command
    program = (
        "import os, sys; os.sched_setaffinity(0, {int(sys.argv[1])}); os.execv(sys.argv[2], sys.argv[2:])"
    )
    return (sys.executable, "-c", program, str(core), *command)


def descriptors() -> int:
    """Let processes that are started from now on open as many files as may be; return how many that is."""
    import resource  # which not every system has

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 1 << 20 if hard == resource.RLIM_INFINITY else hard


def generator_command(programs: Programs, port: int, pid: int, options: Mapping[str, Any]) -> list[str]:
    """Return how to start the load generator."""
    return [
        str(programs.load.path),
        str(port),
        str(pid),
        *(f"{name}={value}" for name, value in options.items()),
    ]


def generate(programs: Programs, port: int, pid: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Run the load generator against a server, and return what it measured.

    Raises:
        WrongError: what came back was not what had been sent, or nothing came.
        UnsupportedError: the server cannot do that.
    """
    command = generator_command(programs, port, pid, options)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise WrongError(f"it was not done within {PATIENCE:.0f} s") from None
    return read_answer(done.stdout.splitlines()[-1] if done.stdout.strip() else "", done.returncode)


def read_answer(line: str, status: int | None) -> dict[str, Any]:
    """Return what the load generator says in a line.

    Raises:
        WrongError: it says that the server is wrong, or nothing.
        UnsupportedError: it says that the server cannot do that.
    """
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        raise WrongError(f"the load generator ended with status {status}") from None
    if "wrong" in answer:
        what, _, why = answer["wrong"].partition(": ")
        if what == "unsupported":
            raise UnsupportedError(why)
        raise WrongError(answer["wrong"])
    return answer


def probe_text(port: int) -> None:
    """Make sure that a server looks at what it echoes: text that is no UTF-8 must not come back (RFC 6455 s8.1).

    Raises:
        WrongError: it came back, or the server does not end the connection.
    """
    with socket.create_connection(("127.0.0.1", port), PROBE_TIMEOUT) as sock:
        sock.settimeout(PROBE_TIMEOUT)
        sock.sendall(REQUEST)
        head, rest = _read_head(sock)
        if not head.startswith(b"HTTP/1.1 101"):
            raise WrongError(f"it refused: {head[:60].decode(errors='replace')}")
        # Not in one piece with the request: there are servers that drop what comes behind it.
        sock.sendall(frame(TEXT, b"\xc3\x28", b"abcd"))
        try:
            rest = rest or sock.recv(65536)
        except TimeoutError:
            raise WrongError("it does not end a connection on which text came that is no UTF-8") from None
        except ConnectionError:
            return
        if rest and rest[0] & 0x0F != 8:
            raise WrongError("it does not check that text is UTF-8")


def _read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """Read an HTTP response's head; what came behind it is returned, too."""
    received = b""
    try:
        while b"\r\n\r\n" not in received and (data := sock.recv(65536)):
            received += data
    except (TimeoutError, ConnectionError) as error:
        raise WrongError(f"it does not answer the opening handshake: {error}") from None
    head, _, rest = received.partition(b"\r\n\r\n")
    return head, rest
