"""``Registry``: the connections of a server by id, in groups, and counted."""

from __future__ import annotations

import collections
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from .._connection import Connection
from .._enums import Cause, State
from .._events import Disconnected
from .._http import Request
from .._server import Server

__all__ = ["AnyWebSocket", "ConnectionInfo", "Connections", "Groups", "Record", "Registry", "ServerStats"]

WebSocketT = TypeVar("WebSocketT", bound="AnyWebSocket")
RecordT = TypeVar("RecordT", bound="Record[Any]")
WebSocketT_co = TypeVar("WebSocketT_co", bound="AnyWebSocket", covariant=True)


class AnyWebSocket(Protocol):
    """What is asked of a ``WebSocket``, whoever's it is."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def state(self) -> State:
        """OPEN, CLOSING or CLOSED."""


class Record(Protocol[WebSocketT_co]):
    """One connection of a server, from accept to its end."""

    id: int

    @property
    def endpoint(self) -> Server | Connection:
        """The sans-IO side."""

    @property
    def websocket(self) -> WebSocketT_co | None:
        """What it has become, from the opening handshake to its end; None if it was opened only to be closed."""

    @property
    def request(self) -> Request | None:
        """The request, if it has come."""

    @property
    def addresses(self) -> tuple[Any, Any]:
        """The local one and the peer's, as sockets give them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionInfo:
    """What a server knows of one of its connections, at one moment.

    Attributes:
        id: its number on this server.
        state: how far it has come.
        local_address: as sockets give it.
        remote_address: the peer's.
        path: the path that was requested, without the query; None as long as there is no request.
        subprotocol: the agreed one, or None.
        groups: the groups that it has joined.
        opened_age: seconds since it became a WebSocket; None before.
        last_received_age: seconds since the last byte came; None before the first.
        latency: seconds of the last round trip of a ping, or None before the first.
        messages_in: messages that were received.
        messages_out: messages that were sent or are queued to be.
        bytes_in: bytes that were received, from the request on; inside TLS.
        bytes_out: bytes that have left, from the response on; inside TLS.
        frames_in: complete frames that were received, control frames included.
        frames_out: frames that were sent or are queued to be, control frames included.
        buffered_bytes: bytes that wait to be written.
    """

    id: int
    state: State
    local_address: Any
    remote_address: Any
    path: str | None
    subprotocol: str | None
    groups: frozenset[str]
    opened_age: float | None
    last_received_age: float | None
    latency: float | None
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    frames_in: int
    frames_out: int
    buffered_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStats:
    """The counters of a server, from its start on. ``dataclasses.asdict`` makes a plain dict of them.

    Attributes:
        connections: connections now, in whatever state.
        websockets: those of them that have become a WebSocket and not ended.
        accepted: connections that were ever accepted.
        opened: those of them that have become a WebSocket.
        refused: how many requests were answered with which HTTP status instead.
        ended: how many connections ended with which cause, by its name.
        messages_in: messages that were received.
        messages_out: messages that were sent or are queued to be.
        bytes_in: bytes that were received; inside TLS.
        bytes_out: bytes that have left; inside TLS.
    """

    connections: int
    websockets: int
    accepted: int
    opened: int
    refused: Mapping[int, int]
    ended: Mapping[str, int]
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int


class Registry(Generic[RecordT, WebSocketT]):
    """The connections of one server, and the groups of its WebSockets."""

    def __init__(self) -> None:
        self._last_id = 0
        self._records: dict[int, RecordT] = {}
        self._groups: dict[str, dict[int, WebSocketT]] = {}
        # Of those only who are in a group.
        self._joined: dict[int, set[str]] = {}
        self._accepted = self._opened = self._closed = 0
        self._refused: collections.Counter[int] = collections.Counter()
        self._ended: collections.Counter[Cause] = collections.Counter()
        # What went through the connections that have ended.
        self._gone = _Total()

    # From the server's loop.

    def new_id(self) -> int:
        """A number for a connection. It is never given again."""
        self._last_id += 1
        return self._last_id

    def add(self, record: RecordT) -> None:
        """A connection was accepted."""
        self._accepted += 1
        self._records[record.id] = record

    def opened(self, connection: Connection, now: float) -> None:
        """A connection that was added has become a WebSocket."""
        self._opened += 1
        connection.traffic.opened = now

    def remove(self, record: RecordT, ending: Disconnected) -> None:
        """A connection has ended. It leaves its groups."""
        endpoint = record.endpoint
        self._records.pop(record.id, None)
        self._ended[ending.cause] += 1
        self._gone.add(endpoint)
        if record.websocket is not None:
            self._closed += 1
        elif isinstance(endpoint, Server) and endpoint.status is not None:
            self._refused[endpoint.status] += 1
        for group in self._joined.pop(record.id, ()):
            self._drop_out(group, record.id)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def records(self) -> list[RecordT]:
        """All connections, in whatever state, in the order in which they came."""
        return list(self._records.values())

    def record(self, connection_id: int) -> RecordT | None:
        """The connection with that id, in whatever state."""
        return self._records.get(connection_id)

    # For the application.

    def exists(self, connection_id: int) -> bool:
        """Whether there is such a connection, in whatever state, that has not ended."""
        record = self._records.get(connection_id)
        return record is not None and record.endpoint.state is not State.CLOSED

    def get(self, connection_id: int) -> WebSocketT | None:
        """The WebSocket with that id; None if there is none, or it has ended."""
        record = self._records.get(connection_id)
        websocket: WebSocketT | None = None if record is None else record.websocket
        return None if websocket is None or websocket.state is State.CLOSED else websocket

    def established(self, connection_id: int) -> WebSocketT | None:
        """As ``get``, but OPEN ones only."""
        websocket = self.get(connection_id)
        return websocket if websocket is not None and websocket.state is State.OPEN else None

    @property
    def websockets(self) -> list[WebSocketT]:
        """All that are OPEN, in the order in which they came."""
        return _open_ones(record.websocket for record in self._records.values())

    def info(self, connection_id: int, now: float) -> ConnectionInfo | None:
        """What is known of a connection; None if there is none with that id."""
        record = self._records.get(connection_id)
        if record is None:
            return None
        endpoint, request = record.endpoint, record.request
        connection = endpoint.connection
        traffic = endpoint.traffic
        local, remote = record.addresses
        last = traffic.last_received
        return ConnectionInfo(
            id=connection_id,
            state=endpoint.state,
            local_address=local,
            remote_address=remote,
            path=None if request is None else request.target.partition("?")[0],
            subprotocol=None if connection is None else connection.subprotocol,
            groups=self.groups_of(connection_id),
            opened_age=None if record.websocket is None else max(0.0, now - traffic.opened),
            last_received_age=None if last is None else max(0.0, now - last),
            latency=None if connection is None else connection.latency,
            messages_in=traffic.messages_in,
            # Before, there are only responses.
            messages_out=0 if connection is None else traffic.messages_out,
            bytes_in=traffic.bytes_in,
            bytes_out=traffic.handed - traffic.unsent,
            frames_in=0 if connection is None else connection.decoder.frames,
            frames_out=0 if connection is None else traffic.frames_out,
            buffered_bytes=endpoint.buffered,
        )

    def stats(self) -> ServerStats:
        """The counters. This looks at every connection. Any thread may call it: what it goes through is copied."""
        total = _Total()
        total.add_total(self._gone)
        for record in self.records:
            total.add(record.endpoint)
        return ServerStats(
            connections=len(self._records),
            websockets=self._opened - self._closed,
            accepted=self._accepted,
            opened=self._opened,
            refused=dict(self._refused),
            ended={cause.name: count for cause, count in list(self._ended.items())},
            messages_in=total.messages_in,
            messages_out=total.messages_out,
            bytes_in=total.bytes_in,
            bytes_out=total.bytes_out,
        )

    # Groups.

    def join(self, websocket: WebSocketT, group: str) -> bool:
        """Put a WebSocket into a group; return whether it is in it: not if it is not OPEN any more.

        Raises:
            TypeError: the name is no ``str``.
        """
        _check_name(group)
        if self.established(websocket.id) is not websocket:
            return False
        self._groups.setdefault(group, {})[websocket.id] = websocket
        self._joined.setdefault(websocket.id, set()).add(group)
        return True

    def leave(self, websocket: WebSocketT, group: str) -> bool:
        """Take a WebSocket out of a group; return whether it was in it.

        Raises:
            TypeError: the name is no ``str``.
        """
        _check_name(group)
        joined = self._joined.get(websocket.id, set())
        if group not in joined:
            return False
        joined.remove(group)
        if not joined:
            del self._joined[websocket.id]
        self._drop_out(group, websocket.id)
        return True

    def groups_of(self, connection_id: int) -> frozenset[str]:
        """The groups that it is in."""
        return frozenset(self._joined.get(connection_id, ()))

    def members(self, group: str) -> list[WebSocketT]:
        """Who is in a group and OPEN, in the order in which they joined; nobody if there is no such group."""
        return _open_ones(self._groups.get(group, {}).values())

    def _drop_out(self, group: str, connection_id: int) -> None:
        members = self._groups[group]
        del members[connection_id]
        if not members:
            del self._groups[group]


class Connections(Collection[WebSocketT]):
    """The open WebSockets of a server, as they are at any time. ``len`` and ``for`` look at every connection.

    A ``for`` goes through those that were open when it began.
    """

    __slots__ = ("_registry",)

    def __init__(self, registry: Registry[Any, WebSocketT]) -> None:
        self._registry = registry

    def __len__(self) -> int:
        return len(self._registry.websockets)

    def __iter__(self) -> Iterator[WebSocketT]:
        return iter(self._registry.websockets)

    def __contains__(self, websocket: object) -> bool:
        number = getattr(websocket, "id", None)
        return type(number) is int and self._registry.established(number) is websocket

    def __repr__(self) -> str:
        return f"<{len(self)} open connections>"


class Groups(Mapping[str, frozenset[WebSocketT]]):
    """The groups of a server, as they are at any time: by name, their open WebSockets at the moment of asking."""

    __slots__ = ("_registry",)

    def __init__(self, registry: Registry[Any, WebSocketT]) -> None:
        self._registry = registry

    def __getitem__(self, group: str) -> frozenset[WebSocketT]:
        if group not in self._registry._groups:
            raise KeyError(group)
        return frozenset(self._registry.members(group))

    def __len__(self) -> int:
        return len(self._registry._groups)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._registry._groups))

    def __repr__(self) -> str:
        return f"<groups: {', '.join(map(repr, self)) or 'none'}>"


class _Total:
    """What went through many connections."""

    __slots__ = ("bytes_in", "bytes_out", "messages_in", "messages_out")

    def __init__(self) -> None:
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0

    def add(self, endpoint: Server | Connection) -> None:
        traffic = endpoint.traffic
        self.messages_in += traffic.messages_in
        if isinstance(endpoint, Connection):
            # Before, there are only responses.
            self.messages_out += traffic.messages_out
        self.bytes_in += traffic.bytes_in
        self.bytes_out += traffic.handed - traffic.unsent

    def add_total(self, other: _Total) -> None:
        self.messages_in += other.messages_in
        self.messages_out += other.messages_out
        self.bytes_in += other.bytes_in
        self.bytes_out += other.bytes_out


def _open_ones(websockets: Iterable[WebSocketT | None]) -> list[WebSocketT]:
    return [ws for ws in websockets if ws is not None and ws.state is State.OPEN]


def _check_name(group: object) -> None:
    if not isinstance(group, str):
        raise TypeError(f"the name of a group is a str, not {type(group).__name__}")
