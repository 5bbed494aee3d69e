"""``ServerRegistry``: the part of a `Server` that knows its connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .._adapter._broadcast import BROADCAST_TIMEOUT, Policy
from .._adapter._registry import ConnectionInfo
from .._adapter._server_registry import ServerRegistryBase
from .._adapter._websocket import BytesLike
from .._frames import PreparedMessage
from ._broadcast import Broadcast, broadcast
from ._websocket import WebSocket

if TYPE_CHECKING:
    from ._serving import ServerConnection

__all__ = ["ServerRegistry"]


class ServerRegistry(ServerRegistryBase["ServerConnection", WebSocket]):
    """Base of `Server`: its connections by id and in groups, messages to many, and counters."""

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
            what can be awaited, and gives a `BroadcastResult`.

        Raises:
            TypeError: the message is of another type.
            ValueError: there is no such policy.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
        """
        return broadcast(self._addressees(to), message, policy=policy, exclude=exclude, timeout=timeout)

    def _info(self, record: ServerConnection) -> ConnectionInfo | None:
        return self._registry.info(record.id, record.channel.now())
