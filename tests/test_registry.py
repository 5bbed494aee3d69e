"""What adapters share for servers: the registry, groups, counters and the tracer, without I/O."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from framebuilder import BINARY, CLOSE, TEXT, build, client_handshake_request, close_payload
from wsframe import Cause, Connection, Disconnected, PreparedMessage, Request, Role, Server, State
from wsframe._adapter._broadcast import check_policy, needs_its_own, prepare, without
from wsframe._adapter._registry import Connections, Groups, Registry
from wsframe._adapter._trace import TracedFrame, TracedHead, Tracer, check_trace

REQUEST = client_handshake_request(host="localhost")


class Socket:
    """What an adapter's WebSocket is to a registry."""

    def __init__(self, number: int, connection: Connection) -> None:
        self.id = number
        self._connection = connection

    @property
    def state(self) -> State:
        return self._connection.state


class Plug:
    """One connection of a server, whose bytes come from the test."""

    def __init__(self, registry: Registry[Plug, Socket]) -> None:
        self.id = registry.new_id()
        self.endpoint: Server | Connection = Server()
        self.websocket: Socket | None = None
        self.request: Request | None = None
        self.addresses = ("here", "there")
        self.ending: Disconnected | None = None
        self._registry = registry
        registry.add(self)

    def open(self, now: float = 0.0) -> Socket:
        server = self.endpoint
        assert isinstance(server, Server)
        server.receive_data(REQUEST, now)
        server.accept()
        server.data_to_send()
        assert server.connection is not None
        self.request = server.request
        self.endpoint = server.connection
        self.websocket = Socket(self.id, server.connection)
        self._registry.opened(server.connection, now)
        return self.websocket

    def end(self) -> None:
        (*_, ending) = self.endpoint.transport_closed()
        assert isinstance(ending, Disconnected)
        self.ending = ending
        self._registry.remove(self, ending)


@pytest.fixture
def registry() -> Registry[Plug, Socket]:
    return Registry()


# Ids.


def test_ids_are_counted_and_never_used_again(registry: Registry[Plug, Socket]) -> None:
    first, second = Plug(registry), Plug(registry)
    assert (first.id, second.id) == (1, 2)
    second.end()
    first.end()
    assert Plug(registry).id == 3
    assert not registry.exists(1)
    assert not registry.exists(2)
    assert registry.exists(3)
    # What is no id is nobody's.
    assert not registry.exists(0)
    assert not registry.exists(-1)


def test_what_exists_is_established_and_is_got(registry: Registry[Plug, Socket]) -> None:
    plug = Plug(registry)
    told = [(registry.exists(1), registry.get(1), registry.established(1))]
    socket = plug.open()
    told.append((registry.exists(1), registry.get(1), registry.established(1)))
    plug.endpoint.close()
    told.append((registry.exists(1), registry.get(1), registry.established(1)))
    plug.endpoint.transport_closed()
    # Not removed yet, as in on_close.
    told.append((registry.exists(1), registry.get(1), registry.established(1)))
    assert told == [(True, None, None), (True, socket, socket), (True, socket, None), (False, None, None)]
    assert registry.info(1, 0.0) is not None


def test_connections_are_those_that_are_open(registry: Registry[Plug, Socket]) -> None:
    connections = Connections(registry)
    assert (len(connections), list(connections)) == (0, [])
    plugs = [Plug(registry) for _ in range(4)]
    sockets = [plug.open() for plug in plugs[:3]]
    assert list(connections) == sockets
    plugs[1].endpoint.close()
    assert list(connections) == [sockets[0], sockets[2]]
    assert len(connections) == 2
    assert sockets[0] in connections
    assert sockets[1] not in connections
    assert Socket(1, Connection(Role.SERVER)) not in connections
    for stranger in ("1", 1, object()):
        assert not connections.__contains__(stranger)
    assert repr(connections) == "<2 open connections>"
    # Whoever goes through them may end them, and others may come.
    for number, _ in enumerate(connections):
        if number == 0:
            plugs[2].end()
            plugs[0].end()
            Plug(registry).open()
    assert [socket.id for socket in connections] == [5]
    assert not hasattr(connections, "add")


# Info.


def test_info_of_every_state(registry: Registry[Plug, Socket]) -> None:
    assert registry.info(1, 0.0) is None
    plug = Plug(registry)
    info = registry.info(1, 5.0)
    assert info is not None
    assert (info.id, info.state, info.path, info.opened_age) == (1, State.CONNECTING, None, None)
    assert (info.local_address, info.remote_address) == ("here", "there")
    assert (info.last_received_age, info.messages_out, info.frames_in, info.frames_out) == (None, 0, 0, 0)
    plug.open(now=10.0)
    info = registry.info(1, 12.5)
    assert info is not None
    assert (info.state, info.path, info.subprotocol, info.latency) == (State.OPEN, "/", None, None)
    assert (info.opened_age, info.last_received_age) == (2.5, 2.5)
    assert info.bytes_in == 0  # an adapter counts these
    assert info.bytes_out > 100
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.id = 2  # type: ignore[misc]


def test_info_leaves_out_the_query(registry: Registry[Plug, Socket]) -> None:
    plug = Plug(registry)
    plug.open()
    plug.request = Request("GET", "/chat/room?token=secret")
    info = registry.info(1, 0.0)
    assert info is not None
    assert info.path == "/chat/room"
    assert "secret" not in repr(info)


def test_what_is_sent_is_counted(registry: Registry[Plug, Socket]) -> None:
    plug = Plug(registry)
    plug.open()
    connection = plug.endpoint
    assert isinstance(connection, Connection)
    before = connection.traffic.handed
    connection.send_text("abc")
    connection.send_bytes(bytes(100_000))
    connection.send_fragment("a", final=False)
    connection.send_fragment("b", final=False)
    connection.send_fragment("c", final=True)
    connection.send_prepared(PreparedMessage("x"))
    connection.ping(b"1")
    connection.pong()
    # A ping that is answered, and two messages of which an adapter would have counted.
    connection.receive_data(build(9, b"p", mask=b"abcd"), 1.0)
    info = registry.info(1, 1.0)
    assert info is not None
    assert (info.messages_out, info.frames_in, info.frames_out) == (4, 1, 9)
    waiting = info.buffered_bytes
    assert waiting > 100_000
    data = b"".join(connection.data_to_send())
    assert len(data) == waiting
    connection.unsent(1000)
    info = registry.info(1, 1.0)
    assert info is not None
    assert info.buffered_bytes == 1000
    assert info.bytes_out == before + waiting - 1000
    connection.close()
    info = registry.info(1, 1.0)
    assert info is not None
    assert (info.messages_out, info.frames_out) == (4, 10)


def test_what_is_too_long_to_be_sent_is_not_counted(registry: Registry[Plug, Socket]) -> None:
    plug = Plug(registry)
    plug.open()
    connection = plug.endpoint
    assert isinstance(connection, Connection)
    with pytest.raises(Exception, match="125"):
        connection.ping(bytes(126))
    with pytest.raises(Exception, match="surrogates"):
        connection.send_text("\ud800")
    assert (connection.traffic.frames_out, connection.traffic.messages_out) == (0, 0)


# Counters of a server.


def test_stats(registry: Registry[Plug, Socket]) -> None:
    plugs = [Plug(registry) for _ in range(5)]
    plugs[0].open()
    plugs[1].open()
    for plug in plugs[:2]:
        assert isinstance(plug.endpoint, Connection)
        plug.endpoint.send_text("abc")
        plug.endpoint.data_to_send()
        plug.endpoint.traffic.messages_in += 2
        plug.endpoint.traffic.bytes_in += 20
    plugs[1].endpoint.receive_eof()
    plugs[1].end()
    # Refused, in three ways; and one that never asked.
    for plug, data in ((plugs[2], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), (plugs[3], b"hello\r\n\r\n")):
        events = plug.endpoint.receive_data(data)
        if events:
            assert isinstance(plug.endpoint, Server)
            plug.endpoint.respond(404)
        plug.endpoint.data_to_send()
        plug.end()
    plugs[4].end()
    Plug(registry)
    stats = registry.stats()
    assert (stats.connections, stats.websockets, stats.accepted, stats.opened) == (2, 1, 6, 2)
    assert stats.refused == {404: 1, 400: 1}
    assert stats.ended == {"EOF": 1, "PLAIN_HTTP": 1, "NOT_HTTP": 1, "TRANSPORT_ERROR": 1}
    assert (stats.messages_in, stats.messages_out, stats.bytes_in) == (4, 2, 40)
    assert stats.bytes_out > 2 * 100
    # Plain values all the way, and not the registry's own.
    plain = dataclasses.asdict(stats)
    plain["refused"][404] += 1
    assert registry.stats() == stats


def test_the_status_of_an_answer() -> None:
    server = Server()
    assert server.status is None
    server.receive_data(REQUEST)
    assert server.status is None
    server.accept()
    assert server.status == 101


# Groups.


def test_groups_come_and_go_with_their_members(registry: Registry[Plug, Socket]) -> None:
    groups = Groups(registry)
    plugs = [Plug(registry) for _ in range(3)]
    a, b, c = [plug.open() for plug in plugs]
    assert (dict(groups), len(groups), repr(groups)) == ({}, 0, "<groups: none>")
    assert registry.join(a, "red")
    assert registry.join(a, "red")
    assert registry.join(b, "red")
    assert registry.join(b, "blue")
    assert groups == {"red": {a, b}, "blue": {b}}
    assert "red" in groups
    assert "green" not in groups
    assert repr(groups) == "<groups: 'red', 'blue'>"
    assert registry.members("red") == [a, b]
    assert registry.members("green") == []
    with pytest.raises(KeyError):
        groups["green"]
    assert registry.groups_of(b.id) == {"red", "blue"}
    assert registry.groups_of(c.id) == frozenset()
    # Going through them while they change.
    for name in groups:
        assert registry.leave(b, name)
    assert not registry.leave(b, "red")
    assert groups == {"red": {a}}
    plugs[0].end()
    assert groups == {}
    assert registry.groups_of(a.id) == frozenset()
    assert not registry._joined


def test_only_what_is_open_joins(registry: Registry[Plug, Socket]) -> None:
    plug, other = Plug(registry), Plug(registry)
    socket, stays = plug.open(), other.open()
    assert registry.join(socket, "red")
    registry.join(stays, "red")
    plug.endpoint.close()
    # It is still a member, but nobody can send to it.
    assert registry.members("red") == [stays]
    assert not registry.join(socket, "blue")
    plug.end()
    assert not registry.join(socket, "blue")
    assert Groups(registry) == {"red": {stays}}


@pytest.mark.parametrize("name", [None, 1, b"red", ("red",)])
def test_the_name_of_a_group_is_a_str(registry: Registry[Plug, Socket], name: Any) -> None:
    socket = Plug(registry).open()
    for function in (registry.join, registry.leave):
        with pytest.raises(TypeError, match="the name of a group is a str"):
            function(socket, name)


# What is decided about a broadcast.


def test_broadcast_helpers() -> None:
    with pytest.raises(ValueError, match="'wait', 'drop', 'disconnect', not 'slow'"):
        check_policy("slow")
    assert prepare("x").frame == build(TEXT, b"x")
    prepared = PreparedMessage(b"x")
    assert prepare(prepared) is prepared
    assert needs_its_own(Connection(Role.CLIENT))
    assert not needs_its_own(Connection(Role.SERVER))
    assert without(["a", "b", "c"], ("b", "d")) == ["a", "c"]
    assert without([1, 2], 2) == [1]


# Tracing.


def traced(
    received: list[bytes], sent: list[bytes], *, is_server: bool = True
) -> list[TracedHead | TracedFrame]:
    seen: list[TracedHead | TracedFrame] = []
    tracer = Tracer(seen.append, 7, lambda exc: pytest.fail(repr(exc)), is_server=is_server)
    for data in received:
        tracer.received(memoryview(data))
    for data in sent:
        tracer.sent(data)
    return seen


ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_a_tracer_tells_heads_and_frames(size: int) -> None:
    received = REQUEST + build(TEXT, b"hi", mask=b"abcd") + build(CLOSE, close_payload(1000), mask=b"abcd")
    sent = ANSWER + build(BINARY, bytes(1000))
    seen = traced(
        [received[at : at + size] for at in range(0, len(received), size)],
        [sent[at : at + size] for at in range(0, len(sent), size)],
    )
    assert seen[0] == TracedHead(7, "received", tuple(REQUEST.decode().split("\r\n")[:-2]))
    assert seen[1:] == [
        TracedFrame(7, "received", TEXT, True, False, 2, b"hi"),
        TracedFrame(7, "received", CLOSE, True, False, 2, close_payload(1000)),
        TracedHead(7, "sent", ("HTTP/1.1 101 Switching Protocols", "Upgrade: websocket")),
        TracedFrame(7, "sent", BINARY, True, False, 1000, bytes(128)),
    ]


def test_a_tracer_of_a_client_knows_which_side_asks() -> None:
    seen = traced([ANSWER + build(TEXT, b"x")], [REQUEST + build(TEXT, b"y", mask=b"abcd")], is_server=False)
    assert [type(event) for event in seen] == [TracedHead, TracedFrame] * 2


def test_a_tracer_shows_no_secrets() -> None:
    head = (
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nAuthorization: Basic hunter2\r\ncookie:hunter2=1\r\n"
        b" hunter2\r\n\thunter2\r\nSec-WebSocket-Key: shown\r\nPROXY-AUTHORIZATION : hunter2\r\nX: y\nCookie:"
        b" hunter2\r\n z\r\nX-Folded: a\r\n b\r\n\r\n"
    )
    answer = b"HTTP/1.1 101 OK\r\nSet-Cookie: hunter2\r\nSet-Cookie: hunter2; HttpOnly\r\n\r\n"
    seen = traced([head], [answer])
    assert "hunter2" not in repr(seen)
    assert seen == [
        TracedHead(
            7,
            "received",
            (
                "GET / HTTP/1.1",
                "Host: a",
                "Upgrade: websocket",
                "Authorization: [redacted]",
                "cookie: [redacted]",
                "Sec-WebSocket-Key: shown",
                "PROXY-AUTHORIZATION : [redacted]",
                "X: y",
                "Cookie: [redacted]",
                "X-Folded: a",
                " b",
            ),
        ),
        TracedHead(7, "sent", ("HTTP/1.1 101 OK", "Set-Cookie: [redacted]", "Set-Cookie: [redacted]")),
    ]


def test_a_tracer_takes_no_body_for_frames() -> None:
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n\x81\x02hi"
    answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\n\x81\x02hi"
    seen = traced([request], [answer])
    assert [type(event) for event in seen] == [TracedHead, TracedHead]


def test_a_tracer_ends_where_there_are_no_frames() -> None:
    bad = build(TEXT, b"x", length_form=64)
    seen = traced([REQUEST + build(TEXT, b"a", mask=b"abcd") + bad, build(TEXT, b"b", mask=b"abcd")], [])
    assert [getattr(event, "head", None) for event in seen] == [None, b"a"]


def test_a_trace_that_raises_is_told_once_and_not_called_again() -> None:
    calls: list[object] = []
    failures: list[Exception] = []

    def trace(event: object) -> None:
        calls.append(event)
        raise ZeroDivisionError

    tracer = Tracer(trace, 1, failures.append, is_server=True)
    tracer.received(REQUEST + build(TEXT, b"a", mask=b"abcd"))
    tracer.sent(ANSWER)
    assert len(calls) == 1
    assert [type(failure) for failure in failures] == [ZeroDivisionError]


def test_what_cannot_be_called_is_no_trace() -> None:
    check_trace(None)
    check_trace(print)
    with pytest.raises(TypeError, match="trace must be callable"):
        check_trace("stderr")


def test_the_ending_of_what_was_refused_says_so(registry: Registry[Plug, Socket]) -> None:
    plug = Plug(registry)
    plug.endpoint.close()
    plug.endpoint.data_to_send()
    plug.end()
    assert plug.ending is not None
    assert plug.ending.cause is Cause.REJECTED
    assert registry.stats().refused == {503: 1}
