"""An adapter without I/O for the tests of the opening handshake, and responses written and read by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import framebuilder as fb
from wsframe import (
    Cause,
    Client,
    Disconnected,
    Endpoint,
    Event,
    HandshakeError,
    Initiator,
    RequestReceived,
    Server,
    State,
    Transport,
)

#: A minimal plain request, and the minimal opening handshake.
PLAIN = b"GET / HTTP/1.1\r\nHost: server.example.com\r\n\r\n"
REQUEST = fb.client_handshake_request()


@dataclass(frozen=True)
class Reply:
    """An HTTP response as it stands on the wire."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        """The body, in words."""
        return self.body.decode()


def parse_reply(data: bytes) -> Reply:
    """Take one response apart; there must be nothing behind it that the head does not announce."""
    head, separator, body = data.partition(b"\r\n\r\n")
    assert separator, data
    start, *lines = head.decode("latin-1").split("\r\n")
    version, status, reason = start.split(" ", 2)
    assert version == "HTTP/1.1"
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    assert all(name and "\n" not in name + value and "\r" not in name + value for name, value in headers), (
        lines
    )
    return Reply(int(status), reason, headers, body)


def parse_refusal(data: bytes) -> Reply:
    """As `parse_reply`, for a last response: it must say that it is the last, and how long it is."""
    reply = parse_reply(data)
    (connection,) = reply.all("Connection")
    assert "close" in connection.split(", ")
    assert reply.all("Content-Length") == [str(len(reply.body))]
    assert reply.body, "a refusal says what was wrong"
    return reply


def response(
    status: str = "101 Switching Protocols",
    *,
    key: str = fb.SAMPLE_KEY,
    headers: Iterable[tuple[str, str]] = (),
    without: Iterable[str] = (),
    http_version: str = "1.1",
) -> bytes:
    """A server's half of the opening handshake (s4.2.2), or something that is nearly one."""
    lines = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", fb.accept_for(key)),
    ]
    left_out = {name.lower() for name in without}
    lines = [line for line in lines if line[0].lower() not in left_out] + list(headers)
    head = [f"HTTP/{http_version} {status}", *(f"{name}: {value}" for name, value in lines)]
    return "".join(f"{line}\r\n" for line in [*head, ""]).encode("latin-1")


def plain_response(status: str, body: bytes = b"", *headers: tuple[str, str]) -> bytes:
    """An HTTP response with whatever headers."""
    head = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    return "".join(f"{line}\r\n" for line in [*head, ""]).encode("latin-1") + body


def entropy(n: int) -> bytes:
    """The key of RFC 6455 s1.3, and masking keys that hide nothing."""
    return b"the sample nonce" if n == 16 else bytes(n)


class Driver:
    """Does after every call what an adapter does: write, tell what is unsent, obey, and keep the next deadline."""

    def __init__(self, endpoint: Endpoint, *, writable: bool = True) -> None:
        self.endpoint = endpoint
        self.now = 100.0
        self.writable = writable
        self.events: list[Event] = []
        self.output = b""
        self.verdicts: list[Transport] = []
        self.deadline: float | None = None
        self.settle()

    def settle(self) -> None:
        """What comes after every call."""
        written = b"".join(self.endpoint.data_to_send())
        self.output += written
        if self.writable:
            self.endpoint.unsent(0)
        elif written:
            self.endpoint.unsent(len(written))
        self.deadline = self.endpoint.next_timeout(self.now)
        if not self.verdicts or self.verdicts[-1] is not self.endpoint.transport:
            self.verdicts.append(self.endpoint.transport)

    @property
    def verdict(self) -> Transport:
        return self.endpoint.transport

    def take(self) -> bytes:
        """The output since the last time."""
        output, self.output = self.output, b""
        return output

    def feed(self, data: bytes) -> list[Event]:
        events = self.endpoint.receive_data(data, self.now)
        self.settle()
        while self.endpoint.has_more:
            events += self.endpoint.receive_data(b"", self.now)
            self.settle()
        self.events += events
        return events

    def eof(self) -> list[Event]:
        return self._call(self.endpoint.receive_eof())

    def error(self, exc: BaseException, cause: Cause) -> list[Event]:
        return self._call(self.endpoint.receive_error(exc, cause))

    def wait(self, seconds: float) -> list[Event]:
        """Let time pass, calling the endpoint when it wants to be called."""
        until = self.now + seconds
        events: list[Event] = []
        while self.deadline is not None and self.deadline <= until:
            self.now = max(self.now, self.deadline)
            events += self._call(self.endpoint.handle_timeout(self.now))
        self.now = until
        return events

    def _call(self, events: list[Event]) -> list[Event]:
        self.settle()
        self.events += events
        return events

    def gone(self) -> Disconnected:
        """The transport is gone: the one ending, and nothing ever after it."""
        endpoint = self.endpoint
        events = endpoint.transport_closed()
        self.events += events
        ending = events[-1]
        assert isinstance(ending, Disconnected)
        assert endpoint.ending is ending
        assert [event for event in self.events if isinstance(event, Disconnected)] == [ending]
        for _ in range(2):
            assert endpoint.state is State.CLOSED
            assert endpoint.data_to_send() == []
            assert endpoint.next_timeout(self.now + 1000) is None
            assert endpoint.has_more is False
            assert endpoint.receive_data(REQUEST + response(), self.now + 1000) == []
            assert endpoint.receive_eof() == []
            assert endpoint.receive_error(OSError(), Cause.RESET) == []
            assert endpoint.handle_timeout(self.now + 2000) == []
            assert endpoint.transport_closed() == []
            endpoint.close()
            endpoint.abort()
        assert endpoint.ending is ending
        assert str(ending)
        return ending


def server_with(request: bytes = REQUEST, **settings: Any) -> tuple[Server, Driver]:
    """A server that has received something."""
    server = Server(**settings)
    driver = Driver(server)
    driver.feed(request)
    return server, driver


def refused_by(request: bytes, **settings: Any) -> Reply:
    """What a server answers to a request that it refuses on its own, or to a plain one when nobody answers it."""
    server, driver = server_with(request, **settings)
    if server.state is State.HANDSHAKE:
        (event,) = driver.events
        assert isinstance(event, RequestReceived)
        assert not event.is_websocket
        server.respond_upgrade_required()
        driver.settle()
    else:
        assert driver.events == []
    reply = parse_refusal(driver.output)
    assert driver.verdict is Transport.SHUTDOWN_WRITE
    return reply


def client_with(uri: str = "ws://server.example.com/", **settings: Any) -> tuple[Client, Driver]:
    """A client whose request is out."""
    client = Client(uri, random_bytes=entropy, **settings)
    driver = Driver(client)
    assert client.state is State.HANDSHAKE
    return client, driver


def check_ending(
    ending: Disconnected,
    phase: State,
    cause: Cause,
    initiator: Initiator,
    *,
    code: int = 1006,
    error: str | BaseException | None = None,
    status: int | None = None,
    age: float | None,
) -> None:
    """All fields of an ending before OPEN.

    Args:
        ending: what came.
        phase, cause, initiator, code: as they must be.
        error: the exception itself, or a part of the message of a `HandshakeError`.
        status: that error's HTTP status.
        age: ``last_received_age``.
    """
    if isinstance(error, str):
        assert isinstance(ending.error, HandshakeError)
        assert error in str(ending.error)
        assert ending.error.status == status
    else:
        assert ending.error is error
    assert dataclasses.replace(ending, error=None) == Disconnected(
        phase=phase,
        cause=cause,
        initiator=initiator,
        clean=False,
        code=code,
        reason="",
        received=None,
        sent=None,
        received_first=None,
        was_websocket=False,
        error=None,
        last_received_age=age,
    )
