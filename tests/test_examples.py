"""The programs in examples/, run as a reader would, with other people's clients; and the chat in a real browser."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from websockets.typing import Origin

from browser import driver
from cli_helpers import PATIENCE, environment
from framebuilder import client_handshake_request
from synchelpers import until

__all__ = ["driver"]

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

needs_signals = pytest.mark.skipif(os.name == "nt", reason="it is ended by a signal")
pytestmark = needs_signals


class Program:
    """An example that runs, and what it prints."""

    def __init__(self, name: str, *arguments: str, **more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", str(EXAMPLES / name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(PYTHONPATH=str(ROOT), **more),
        )
        self.lines: list[str] = []
        self.errors = ""
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    @property
    def port(self) -> int:
        """Where it says that it listens."""
        until(lambda: self.lines or self.process.poll() is not None)
        found = re.match(r"(?:ws|http)://127\.0\.0\.1:(\d+)/", self.lines[0] if self.lines else "")
        assert found, (self.lines, self.errors)
        return int(found[1])

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send it a signal, unless it has ended, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            for reader in self._readers:
                reader.join(PATIENCE)
            for stream in (self.process.stdout, self.process.stderr):
                assert stream is not None
                stream.close()


@contextlib.contextmanager
def running(name: str, **more: str) -> Iterator[Program]:
    """An example that serves on a free port; in the end Ctrl-C, which it takes quietly."""
    program = Program(name, "0", **more)
    try:
        yield program
    except BaseException:
        program.stop(signal.SIGKILL)
        raise
    assert program.stop() == 0, program.errors
    assert program.errors == ""


def client(port: int, path: str = "/", **options: Any) -> Any:
    """A client that is not ours."""
    return websockets.sync.client.connect(f"ws://127.0.0.1:{port}{path}", proxy=None, **options)


def ask(
    port: int, method: str, path: str, body: str | bytes | None = None, **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    """An HTTP request of a client that is not ours, and the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response, response.read().decode()
    finally:
        connection.close()


# All of them.


def examples() -> list[str]:
    return sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_each_is_run_and_linked() -> None:
    here = Path(__file__).read_text("utf-8")
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(examples()) >= 7
    for name in examples():
        assert re.search(rf'\b(?:running|Program)\(\s*"{re.escape(name)}"', here), f"{name} is not run here"
        assert f"(examples/{name})" in readme, f"{name} is not in README.md"


@pytest.mark.parametrize("name", examples())
def test_each_is_short_and_says_what_it_is(name: str) -> None:
    text = (EXAMPLES / name).read_text("utf-8")
    assert len(text.splitlines()) < 100
    assert f"python examples/{name}" in text.split('"""')[1]


# One by one.


def test_echo() -> None:
    with running("echo.py") as program, client(program.port) as theirs:
        for message in ("text", b"binary", "", "x" * 100_000):
            theirs.send(message)
            assert theirs.recv(PATIENCE) == message


def test_health() -> None:
    with running("health.py") as program:
        port = program.port
        response, body = ask(port, "GET", "/health")
        assert (response.status, json.loads(body)) == (200, {"websockets": 0})
        assert response.headers["Content-Type"] == "application/json"
        with client(port) as theirs:
            theirs.send("hello")
            assert theirs.recv(PATIENCE) == "hello"
            response, body = ask(port, "GET", "/health")
            assert json.loads(body) == {"websockets": 1}
        response, body = ask(port, "HEAD", "/health")
        assert (response.status, body) == (200, "")
        assert int(response.headers["Content-Length"]) > 0
        response, _ = ask(port, "POST", "/health", b"")
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
        assert ask(port, "GET", "/")[0].status == 426


def test_authentication() -> None:
    with running("authentication.py") as program:
        port = program.port
        with client(port, additional_headers={"Authorization": "Bearer token-of-ann"}) as theirs:
            assert theirs.recv(PATIENCE) == "hello, ann"
        with client(port, additional_headers={"Cookie": "a=b; token=token-of-bob"}) as theirs:
            assert theirs.recv(PATIENCE) == "hello, bob"
        for shown in (
            {},
            {"Authorization": "Bearer token-of-eve"},
            {"Cookie": "token=x"},
            {"Cookie": "\xe9"},
        ):
            with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
                client(port, additional_headers=shown)
            assert refused.value.response.status_code == 401
            assert refused.value.response.headers["WWW-Authenticate"] == "Bearer"
        # As a browser, which would not tell its page of a status.
        with client(port, origin=Origin(f"http://127.0.0.1:{port}")) as theirs:
            with pytest.raises(websockets.exceptions.ConnectionClosedError):
                theirs.recv(PATIENCE)
            assert (theirs.close_code, theirs.close_reason) == (3000, "log in first")


def test_broadcast() -> None:
    secret = {"Authorization": "Bearer secret"}
    with running("broadcast.py", PUSH_TOKEN="secret") as program:
        port = program.port
        with client(port) as ann, client(port) as bob:
            # It is known to the server when it has sent the response, and so before we have read it.
            response, body = ask(port, "POST", "/push", "it rains \u2602".encode(), **secret)
            assert response.status == 200
            assert json.loads(body) == {"delivered": 2, "dropped": 0, "disconnected": 0}
            assert ann.recv(PATIENCE) == bob.recv(PATIENCE) == "it rains \u2602"
            for headers in ({}, {"Authorization": "Bearer wrong"}):
                assert ask(port, "POST", "/push", b"x", **headers)[0].status == 401
            assert ask(port, "POST", "/push", b"\xff", **secret)[0].status == 400
            assert ask(port, "GET", "/push")[0].status == 405
            assert ask(port, "POST", "/elsewhere", b"x")[0].status == 426


def test_broadcast_leaves_who_does_not_keep_up() -> None:
    news = "x" * 60_000
    with running("broadcast.py", PUSH_TOKEN="secret") as program, socket.socket() as stalled:
        port = program.port
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", port))
        stalled.sendall(client_handshake_request(host=f"127.0.0.1:{port}"))
        assert stalled.recv(12) == b"HTTP/1.1 101"
        with client(port) as theirs:
            results: list[dict[str, int]] = []
            # The kernel takes some megabytes.
            while not results or not results[-1]["disconnected"]:
                assert len(results) < 1000
                _, body = ask(port, "POST", "/push", news, Authorization="Bearer secret")
                results.append(json.loads(body))
                assert theirs.recv(PATIENCE) == news
            assert results[0] == {"delivered": 2, "dropped": 0, "disconnected": 0}
            assert results[-1] == {"delivered": 1, "dropped": 0, "disconnected": 1}
            _, body = ask(port, "POST", "/push", news, Authorization="Bearer secret")
            assert json.loads(body) == {"delivered": 1, "dropped": 0, "disconnected": 0}


def test_broadcast_needs_a_token() -> None:
    program = Program("broadcast.py", "0", PUSH_TOKEN="")
    try:
        assert program.process.wait(PATIENCE) == 1
    finally:
        program.stop(signal.SIGKILL)
    assert "PUSH_TOKEN" in program.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drain(number: int) -> None:
    program = Program("drain.py", "0")
    heard: list[str | bytes] = []
    endings: list[tuple[int | None, str | None]] = []
    try:
        port = program.port

        def stay() -> None:
            with client(port) as theirs:
                theirs.send("hello")
                heard.append(theirs.recv(PATIENCE))
                with contextlib.suppress(websockets.exceptions.ConnectionClosedOK):
                    theirs.recv(PATIENCE)
                endings.append((theirs.close_code, theirs.close_reason))

        threads = [threading.Thread(target=stay, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(heard) == 3)
        # Half an opening handshake is nothing to wait for.
        with socket.create_connection(("127.0.0.1", port)) as half:
            half.sendall(b"GET / HTTP/1.1\r\n")
            program.process.send_signal(number)
            for thread in threads:
                thread.join(PATIENCE)
            assert half.recv(12) == b"HTTP/1.1 503"
        assert program.process.wait(PATIENCE) == 0
    finally:
        program.stop(signal.SIGKILL)
    assert endings == [(1001, "the server is restarted")] * 3
    assert program.lines[1] == "4 connections have ended"
    assert "3: close handshake" in program.lines
    assert program.errors == ""


def test_reconnecting_client() -> None:
    said: list[str | bytes] = []

    def news(theirs: websockets.sync.server.ServerConnection) -> None:
        said.append(theirs.recv(PATIENCE))
        theirs.send(f"rain {len(said)}")
        if len(said) == 1:
            theirs.socket.shutdown(socket.SHUT_RDWR)
        else:
            theirs.close(1000)

    with websockets.sync.server.serve(news, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        port = server.socket.getsockname()[1]
        program = Program("reconnecting_client.py", f"ws://127.0.0.1:{port}/", "news")
        try:
            assert program.process.wait(PATIENCE) == 0
        finally:
            program.stop(signal.SIGKILL)
            server.shutdown()
            thread.join(PATIENCE)
    assert said == ["subscribe news"] * 2
    assert [line for line in program.lines if line.startswith("rain")] == ["rain 1", "rain 2"]
    assert program.lines[0] == "connected (attempt 1); before that: nothing"
    assert program.lines[2].startswith("connected (attempt 2); before that: ")
    assert program.errors == ""


# The chat.


def chat(port: int, room: str, name: str) -> Any:
    return client(port, f"/chat?{urlencode({'room': room, 'name': name})}")


def told(theirs: Any) -> dict[str, Any]:
    heard: dict[str, Any] = json.loads(theirs.recv(PATIENCE))
    return heard


def test_chat() -> None:
    with running("chat.py") as program:
        port = program.port
        with chat(port, "red", "ann") as ann, chat(port, "blue", "eve") as eve:
            assert told(ann) == {"event": "joined", "name": "ann", "names": ["ann"]}
            assert told(eve) == {"event": "joined", "name": "eve", "names": ["eve"]}
            with chat(port, "red", "b\u00f6b") as bob:
                joined = {"event": "joined", "name": "b\u00f6b", "names": ["ann", "b\u00f6b"]}
                assert told(ann) == told(bob) == joined
                ann.send("hello")
                bob.send(b"binary is nothing that is said")
                bob.send("hi")
                for theirs in (ann, bob):
                    both = sorted((told(theirs) for _ in range(2)), key=lambda heard: str(heard["text"]))
                    assert both == [
                        {"event": "said", "name": "ann", "text": "hello"},
                        {"event": "said", "name": "b\u00f6b", "text": "hi"},
                    ]
            assert told(ann) == {"event": "left", "name": "b\u00f6b", "names": ["ann"]}
            # What is lost is gone, too.
            with chat(port, "red", "carl") as lost:
                assert told(ann)["event"] == "joined"
                lost.socket.shutdown(socket.SHUT_RDWR)
            assert told(ann) == {"event": "left", "name": "carl", "names": ["ann"]}
            # The first that is heard in another room.
            eve.send("anybody here?")
            assert told(eve) == {"event": "said", "name": "eve", "text": "anybody here?"}


def test_chat_tells_a_page_what_is_wrong() -> None:
    with running("chat.py") as program:
        port = program.port
        for room, name in (("", "ann"), ("red", " "), ("red", "x" * 21)):
            with chat(port, room, name) as theirs:
                with pytest.raises(websockets.exceptions.ConnectionClosedError):
                    theirs.recv(PATIENCE)
                assert theirs.close_code == 4000
                assert "up to 20 characters" in str(theirs.close_reason)
        with pytest.raises(websockets.exceptions.InvalidStatus) as refused:
            client(port, "/elsewhere")
        assert refused.value.response.status_code == 404
        # Whoever writes a novel is sent away, and the others are told.
        with chat(port, "red", "ann") as ann, chat(port, "red", "bob") as bob:
            assert [told(ann)["name"] for _ in range(2)] == ["ann", "bob"]
            bob.send("x" * 5000)
            assert told(ann) == {"event": "left", "name": "bob", "names": ["ann"]}


def test_the_page_of_the_chat() -> None:
    with running("chat.py") as program:
        response, page = ask(program.port, "GET", "/")
        assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert page == (EXAMPLES / "chat.html").read_text("utf-8")
        assert not re.search(r"https?://|src=|innerHTML|insertAdjacent|document\.write|eval\(", page)
        response, page = ask(program.port, "HEAD", "/")
        assert (response.status, page) == (200, "")


class Pages:
    """The page of the chat in several windows of a browser, by the names of those who sit there."""

    def __init__(self, driver: webdriver.Chrome, port: int) -> None:
        self.driver = driver
        self._url = f"http://127.0.0.1:{port}/"
        self._first = driver.current_window_handle
        self._handles: dict[str, str] = {}

    def open(self, name: str, room: str) -> None:
        """Somebody opens the page, and joins a room."""
        if self._handles:
            self.driver.switch_to.new_window("window")
        self._handles[name] = self.driver.current_window_handle
        self.driver.get(self._url)
        for field, text in (("room", room), ("name", name)):
            part = self.driver.find_element(By.ID, field)
            part.clear()
            part.send_keys(text)
        self.driver.find_element(By.ID, "enter").click()
        self.wait_for(name, "state", f"In {room}: ")

    def say(self, name: str, text: str) -> None:
        self._look_at(name)
        self.driver.find_element(By.ID, "text").send_keys(text, Keys.ENTER)

    def wait_for(self, name: str, part: str, text: str) -> None:
        """Until a part of somebody's page has that text in it."""
        self._look_at(name)
        end = time.monotonic() + PATIENCE
        while text not in (shown := self.driver.find_element(By.ID, part).text):
            assert time.monotonic() < end, f"{name} sees {shown!r}, and not {text!r}"
            time.sleep(0.02)

    def log(self, name: str) -> list[str]:
        """The lines that somebody sees."""
        self._look_at(name)
        found: list[str] = self.driver.execute_script(
            "return [...document.querySelectorAll('#log li')].map((row) => row.innerText)"
        )
        return found

    def complaints(self, name: str) -> Any:
        """What the browser's console says."""
        self._look_at(name)
        return self.driver.get_log("browser")  # type: ignore[no-untyped-call]

    def close(self, name: str) -> None:
        """Somebody closes the window."""
        self._look_at(name)
        self.driver.close()
        del self._handles[name]

    def close_all(self) -> None:
        """Leave one window to those who come next."""
        for name in list(self._handles):
            if self._handles[name] != self._first:
                self.close(name)
        self.driver.switch_to.window(self._first)
        self.driver.get("about:blank")

    def _look_at(self, name: str) -> None:
        self.driver.switch_to.window(self._handles[name])


@pytest.mark.browser
def test_the_chat_in_two_pages(driver: webdriver.Chrome) -> None:
    with running("chat.py") as program:
        pages = Pages(driver, program.port)
        try:
            pages.open("ann", "red")
            pages.open("eve", "blue")
            pages.open("bob", "red")
            pages.wait_for("bob", "state", "In red: ann, bob")
            pages.wait_for("ann", "state", "In red: ann, bob")
            pages.wait_for("ann", "log", "bob joined")
            pages.say("ann", "hello <b>bob</b> & \u2615")
            pages.wait_for("bob", "log", "hello <b>bob</b> & \u2615")
            pages.say("bob", "hi ann")
            pages.wait_for("ann", "log", "hi ann")
            assert pages.log("bob") == ["bob joined", "annhello <b>bob</b> & \u2615", "bobhi ann"]
            for name in ("ann", "bob", "eve"):
                assert pages.complaints(name) == []
            pages.close("bob")
            pages.wait_for("ann", "log", "bob left")
            pages.wait_for("ann", "state", "In red: ann")
            assert [line for line in pages.log("ann") if "left" in line] == ["bob left"]
            assert pages.log("eve") == ["eve joined"]
        finally:
            pages.close_all()


@pytest.mark.browser
def test_the_chat_says_that_its_server_is_gone(driver: webdriver.Chrome) -> None:
    pages: Any = None
    with running("chat.py") as program:
        pages = Pages(driver, program.port)
        pages.open("ann", "red")
    try:
        pages.wait_for("ann", "state", "The connection has ended: 1001")
        assert driver.find_element(By.ID, "enter").is_enabled()
        assert not driver.find_element(By.ID, "send").is_enabled()
    finally:
        pages.close_all()
