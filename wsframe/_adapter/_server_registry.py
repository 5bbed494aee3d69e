"""``ServerRegistryBase``: the part of a ``Server`` that knows its connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from .._enums import Role
from .._frames import PreparedMessage, pack_close
from ._registry import AnyWebSocket, ConnectionInfo, Connections, Groups, Record, Registry, ServerStats
from ._websocket import BytesLike

__all__ = ["ServerRegistryBase"]

WebSocketT = TypeVar("WebSocketT", bound="Reachable")
RecordT = TypeVar("RecordT", bound="Record[Reachable]")


class Reachable(AnyWebSocket, Protocol):
    """What is asked of a ``WebSocket`` to which something is said."""

    def send_nowait(self, message: str | BytesLike | PreparedMessage) -> bool:
        """Queue a message at once; return whether that was possible."""

    def start_closing(self, code: int | None = 1000, reason: str = "") -> None:
        """Begin to close."""


class ServerRegistryBase(Generic[RecordT, WebSocketT]):
    """Base of the adapters' ``Server``: its connections by id and in groups, and counters.

    Every connection has an id from its accept on: an int, 1 for the first, that no later one of the same server gets.
    (An int and no UUID: it is short in logs, it says who came first, and a small number takes next to no memory. Who
    needs ids that differ between processes puts something in front.)
    """

    def __init__(self, registry: Registry[RecordT, WebSocketT]) -> None:
        self._registry = registry
        self._connections = Connections(registry)
        self._groups = Groups(registry)

    @property
    def connections(self) -> Connections[WebSocketT]:
        """The open WebSockets, as they are at any time: for ``for``, ``len`` and ``in``.

        Connections may come and go meanwhile: a ``for`` goes through those that were open when it began.
        """
        return self._connections

    def exists(self, connection_id: int) -> bool:
        """Whether a connection with that id is there, also in the opening handshake or while it is closing."""
        return self._registry.exists(connection_id)

    def is_established(self, connection_id: int) -> bool:
        """Whether there is an open WebSocket with that id, to which messages can be sent."""
        return self._registry.established(connection_id) is not None

    def get(self, connection_id: int) -> WebSocketT | None:
        """Return the WebSocket with that id, also while it is closing; None if there is none, or it has ended."""
        return self._registry.get(connection_id)

    def info(self, connection_id: int) -> ConnectionInfo | None:
        """Return what is known of the connection with that id at this moment, in whatever state; None if it is gone.

        In `Application.on_close` it is still there.
        """
        record = self._registry.record(connection_id)
        return None if record is None else self._info(record)

    def push(self, connection_id: int, data: str | BytesLike | PreparedMessage) -> bool:
        """Send a message without waiting, as ``send_nowait`` does.

        Returns:
            whether it was queued: not if there is no open WebSocket with that id.

        Raises:
            TypeError: the message is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
        """
        websocket = self._registry.established(connection_id)
        return websocket is not None and websocket.send_nowait(data)

    def disconnect(self, connection_id: int, code: int | None = 1000, reason: str = "") -> bool:
        """Begin to close a WebSocket.

        Args:
            connection_id: which.
            code: 1000-1003, 1007-1009, 1011-1014 or 3000-4999; None for an empty Close frame.
            reason: at most 123 bytes as UTF-8.

        Returns:
            whether a Close frame was queued: not if there is no open WebSocket with that id. That is not yet the peer's
            agreement: ``ws.close()`` and ``ws.wait_closed()`` wait for that, and the ending tells.

        Raises:
            LocalProtocolError: the code or the reason may not be sent, whether there is such a connection or not.
        """
        pack_close(code, reason, Role.SERVER)
        websocket = self._registry.established(connection_id)
        if websocket is None:
            return False
        websocket.start_closing(code, reason)
        return True

    @property
    def groups(self) -> Groups[WebSocketT]:
        """The groups that WebSockets have joined: a live mapping of their names to their open members.

        A group is there while it has members; see ``WebSocket.join``.
        """
        return self._groups

    def stats(self) -> ServerStats:
        """Return the counters of this server, for those who watch it. This looks at every connection.

        Any thread may call it.
        """
        return self._registry.stats()

    def _info(self, record: RecordT) -> ConnectionInfo | None:
        """What is known of a connection at this moment."""
        raise NotImplementedError

    def _addressees(
        self, to: str | Callable[[WebSocketT], object] | Iterable[WebSocketT] | None
    ) -> Iterable[WebSocketT]:
        """Those whom a broadcast means: see there."""
        registry = self._registry
        if to is None:
            return registry.websockets
        if isinstance(to, str):
            return registry.members(to)
        if callable(to):
            # Before anything is sent: it may raise.
            return [websocket for websocket in registry.websockets if to(websocket)]
        return to
