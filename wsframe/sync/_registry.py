"""``ServerRegistry``: the part of a `Server` that knows its connections, for any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING

from .._adapter._broadcast import BROADCAST_TIMEOUT, Policy
from .._adapter._registry import ConnectionInfo, Registry, ServerStats
from .._adapter._server_registry import ServerRegistryBase
from .._adapter._websocket import BytesLike
from .._connection import Connection
from .._events import Disconnected
from .._frames import PreparedMessage
from ._broadcast import Broadcast, broadcast
from ._websocket import WebSocket

if TYPE_CHECKING:
    from ._serving import ServerConnection

__all__ = ["ServerRegistry", "SharedRegistry"]


class SharedRegistry(Registry["ServerConnection", WebSocket]):
    """A registry for many threads.

    Args:
        lock: guards it. It is the last to be taken: who holds it takes no connection's lock.
    """

    def __init__(self, lock: threading.RLock) -> None:
        super().__init__()
        self._lock = lock

    def new_id(self) -> int:
        with self._lock:
            return super().new_id()

    def add(self, record: ServerConnection) -> None:
        with self._lock:
            super().add(record)

    def opened(self, connection: Connection, now: float) -> None:
        with self._lock:
            super().opened(connection, now)

    def remove(self, record: ServerConnection, ending: Disconnected) -> None:
        with self._lock:
            super().remove(record, ending)

    @property
    def records(self) -> list[ServerConnection]:
        with self._lock:
            return super().records

    @property
    def websockets(self) -> list[WebSocket]:
        with self._lock:
            return super().websockets

    def stats(self) -> ServerStats:
        with self._lock:
            return super().stats()

    def join(self, websocket: WebSocket, group: str) -> bool:
        with self._lock:
            return super().join(websocket, group)

    def leave(self, websocket: WebSocket, group: str) -> bool:
        with self._lock:
            return super().leave(websocket, group)

    def groups_of(self, connection_id: int) -> frozenset[str]:
        with self._lock:
            return super().groups_of(connection_id)

    def members(self, group: str) -> list[WebSocket]:
        with self._lock:
            return super().members(group)


class ServerRegistry(ServerRegistryBase["ServerConnection", WebSocket]):
    """Base of `Server`: its connections by id and in groups, messages to many, and counters. Any thread may ask."""

    def broadcast(
        self,
        message: str | BytesLike | PreparedMessage,
        to: str | Callable[[WebSocket], object] | Iterable[WebSocket] | None = None,
        *,
        policy: Policy = "wait",
        exclude: WebSocket | Iterable[WebSocket] = (),
        timeout: float = BROADCAST_TIMEOUT,
    ) -> Broadcast:
        """Send one message to many; see `broadcast`, which does it.

        Args:
            message: as for ``send``.
            to: the name of a group, a predicate that is called with every open WebSocket, or the WebSockets themselves;
                all open ones without it.
            policy: what to do about those that are slow.
            exclude: one that does not get it, or several.
            timeout: seconds, for the policy ``"wait"``.

        Returns:
            what has come of it so far; ``wait`` waits for the rest, and gives a `BroadcastResult`.

        Raises:
            TypeError: the message is of another type.
            ValueError: there is no such policy.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
        """
        return broadcast(self._addressees(to), message, policy=policy, exclude=exclude, timeout=timeout)

    def _info(self, record: ServerConnection) -> ConnectionInfo | None:
        with record.driver.lock:
            return self._registry.info(record.id, monotonic())
