"""The blocking adapter on whatever socket it is given: pairs, Unix sockets, with and without a timeout, and those that
gevent has put in the place of the system's."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from framebuilder import BINARY, PING, PONG, TEXT
from synchelpers import (
    DEADLINE,
    Job,
    Raw,
    port_of,
    serving,
    tidy,
    waits,
)
from wsframe.sync import ConnectionClosedOK, connect

__all__ = ["tidy"]


def as_it_is(sock: socket.socket) -> None:
    pass


def non_blocking(sock: socket.socket) -> None:
    sock.setblocking(False)


def with_a_timeout(sock: socket.socket) -> None:
    # Far less than the test waits.
    sock.settimeout(0.01)


@pytest.mark.parametrize("prepared", [as_it_is, non_blocking, with_a_timeout])
@pytest.mark.parametrize("kind", ["pair", "tcp"])
def test_the_mode_of_a_socket_does_not_matter(prepared: Callable[[socket.socket], None], kind: str) -> None:
    if kind == "pair":
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
            theirs, _ = listening.accept()
    prepared(ours)
    with Raw(theirs, masks=False) as raw:
        job = Job(lambda: connect("ws://example.com/", sock=ours, ping_interval=None))
        waits(job)
        raw.accept_websocket()
        ws = job.result()
        reader = Job(ws.recv)
        waits(reader)
        raw.send_frame(TEXT, b"after a while")
        assert reader.result() == "after a while"
        with pytest.raises(TimeoutError):
            ws.recv(timeout=0.05)
        # More than the kernel takes.
        big = bytes(12 << 20)
        sender = Job(ws.send, big)
        waits(sender)
        assert raw.next_frame().payload == big
        sender.result()
        peer = Job(raw.send_frame, BINARY, big)
        assert ws.recv(timeout=DEADLINE) == big
        peer.result()
        raw.send_close(1000)
        raw.shutdown()
        with pytest.raises(ConnectionClosedOK):
            ws.recv()


class Replaced(socket.socket):
    """A socket with methods of somebody's own, as gevent's and those of tests are."""

    calls = 0

    def recv_into(self, *arguments: Any) -> int:
        Replaced.calls += 1
        return super().recv_into(*arguments)


def test_a_class_of_somebody_elses() -> None:
    with serving() as (server, _):
        sock = Replaced()
        sock.connect(("127.0.0.1", port_of(server)))
        with connect("ws://example.com/", sock=sock, origin=None) as ws:
            for message in ("x", bytes(1 << 20)):
                ws.send(message)
                assert ws.recv(timeout=DEADLINE) == message
        assert Replaced.calls


# gevent.

_needs_gevent = pytest.mark.skipif(importlib.util.find_spec("gevent") is None, reason="gevent is missing")


def run_patched(program: str) -> str:
    """Run a program in a process in which gevent has replaced what waits; return what it prints."""
    prologue = """
        from gevent import monkey
        monkey.patch_all()
        import gevent, socket, sys, threading, time
        import wsframe.sync
        from wsframe.sync import *
        from wsframe.sync._transport import PlainTransport, PolledTransport

        class Ticker:
            # Somebody else who wants to run: if we wait without letting others, this stands still.
            def __init__(self):
                self.longest = 0.0
                self.greenlet = gevent.spawn(self.run)
            def run(self):
                last = time.monotonic()
                while True:
                    gevent.sleep(0.005)
                    now = time.monotonic()
                    self.longest = max(self.longest, now - last)
                    last = now

        def port_of(server):
            return server.sockets[0].getsockname()[1]
    """
    process = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prologue) + textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE * 2,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert process.returncode == 0, process.stdout
    return process.stdout


@_needs_gevent
def test_client_and_server_under_gevent_in_one_thread() -> None:
    output = run_patched(
        """
        def echo(ws):
            for message in ws:
                ws.send(message)

        server = serve(echo, "127.0.0.1", 0)
        accepting = gevent.spawn(server.serve_forever)
        ticker = Ticker()

        def talk(number):
            answers = []
            with connect(f"ws://127.0.0.1:{port_of(server)}/", compression=number % 2 == 0) as ws:
                assert type(ws._driver._transport) is PolledTransport
                for message in (str(number), "x" * 300_000, b""):
                    ws.send(message)
                    answers.append(ws.recv(timeout=20) == message)
                try:
                    ws.recv(timeout=0.2)
                except TimeoutError:
                    answers.append("timeout")
                answers.append(ws.ping().wait(20) >= 0)
            return answers == [True, True, True, "timeout", True] and ws.ending.clean

        jobs = [gevent.spawn(talk, number) for number in range(20)]
        print(all(job.get() for job in jobs))
        # All of that happened side by side: nobody has waited for all others.
        print(ticker.longest < 2)
        print({cause.name: count for cause, count in server.close().items()})
        accepting.get(timeout=20)
        print(threading.active_count())
        """
    )
    lines = output.splitlines()
    assert lines[:2] == ["True", "True"], output
    assert lines[2].startswith("{"), output


@_needs_gevent
def test_who_waits_lets_others_run_and_is_woken_by_them() -> None:
    output = run_patched(
        """
        ours, theirs = socket.socketpair()

        def serve_one():
            import base64, hashlib, re
            head = b""
            while b"\\r\\n\\r\\n" not in head:
                head += theirs.recv(4096)
            key = re.search(rb"Sec-WebSocket-Key: (\\S+)", head).group(1)
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            theirs.sendall(
                b"HTTP/1.1 101 x\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                b"Sec-WebSocket-Accept: " + accept + b"\\r\\n\\r\\n"
            )

        peer = gevent.spawn(serve_one)
        ws = connect("ws://example.com/", sock=ours, ping_interval=None, close_timeout=1)
        ticker = Ticker()
        reader = gevent.spawn(lambda: next(iter(ws), "over"))
        waiter = gevent.spawn(ws.wait_closed)
        gevent.sleep(0.3)
        print(reader.ready(), waiter.ready(), ticker.longest < 0.25)
        try:
            ws.recv()
        except RuntimeError as exc:
            print("already waiting" in str(exc))
        # More than the socket takes: the one who sends waits, the reader goes on.
        sender = gevent.spawn(ws.send, bytes(8 << 20))
        gevent.sleep(0.1)
        theirs.sendall(b"\\x81\\x02hi")
        print(reader.get(timeout=20), sender.ready())
        got = 0
        while got < (8 << 20):
            got += len(theirs.recv(1 << 20))
        sender.get(timeout=20)
        began = time.monotonic()
        ws.start_pump(
            lambda ws, message: print("pumped", message), on_close=lambda ws, ending: print(ending.cause.name)
        )
        theirs.sendall(b"\\x81\\x01!")
        gevent.sleep(0.1)
        ws.close()
        print(waiter.get(timeout=20).cause.name, time.monotonic() - began < 5)
        gevent.sleep(0.1)
        print(ticker.longest < 0.5)
        """
    )
    lines = output.splitlines()
    assert lines[:4] == ["False False True", "True", "hi False", "pumped !"], output
    assert sorted(lines[4:6]) == ["CLOSE_TIMEOUT", "CLOSE_TIMEOUT True"], output
    assert lines[6:] == ["True"], output


@_needs_gevent
def test_tls_names_and_reconnecting_under_gevent() -> None:
    output = run_patched(
        """
        from adapterhelpers import client_context, server_context
        ticker = Ticker()
        rounds = []

        def handler(ws):
            ws.send("hello")
            ws.recv()
            ws.close(1001 if len(rounds) < 3 else 1000)

        server = serve(handler, "127.0.0.1", 0, ssl=server_context())
        accepting = gevent.spawn(server.serve_forever)
        policy = RetryPolicy(decide=lambda ending, _: 0.05 if ending.code == 1001 else None)
        uri = f"wss://localhost:{port_of(server)}/"
        for ws in connect(uri, ssl=client_context(), family=socket.AF_INET, retry=policy):
            rounds.append(ws.recv(timeout=20))
            ws.send("go")
            ws.wait_closed(20)
        print(rounds)
        server.close()
        accepting.get(timeout=20)
        print(ticker.longest < 1)
        """
    )
    assert output.splitlines() == ["['hello', 'hello', 'hello']", "True"], output


@_needs_gevent
def test_a_socket_that_is_older_than_gevents_own_holds_nobody_up() -> None:
    output = run_patched(
        """
        def handler(ws):
            time.sleep(0.3)
            ws.send("late")

        server = serve(handler, "127.0.0.1", 0)
        accepting = gevent.spawn(server.serve_forever)
        sock = monkey.get_original("socket", "socket")()
        sock.connect(("127.0.0.1", port_of(server)))
        ticker = Ticker()
        ws = connect("ws://example.com/", sock=sock)
        print(type(ws._driver._transport) is PolledTransport, ws.recv(timeout=20), ticker.longest < 0.25)
        ws.close()
        server.close()
        accepting.get(timeout=20)
        """
    )
    assert output == "True late True\n", output


def test_no_socket_is_left_to_the_garbage_collector() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        ours, theirs = socket.socketpair()
        with Raw(theirs, masks=False) as raw:
            job = Job(lambda: connect("ws://example.com/", sock=ours, ping_interval=None))
            raw.accept_websocket()
            ws = job.result()
            raw.send_frame(PING, b"x")
            ws.service()
            assert raw.next_frame().opcode == PONG
            ws.abort()
            assert ours.fileno() == -1
