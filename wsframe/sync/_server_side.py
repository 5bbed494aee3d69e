"""``ServerSide``: the part of a `WebSocket` that there is on servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .._adapter._server_side import ServerSideBase
from ._pong import Pong

if TYPE_CHECKING:
    from ._server import Server
    from ._serving import ServerConnection

__all__ = ["ServerSide"]


class ServerSide(ServerSideBase[Pong]):
    """Base of `WebSocket`: its server, its groups, and what the answer to its request has given it."""

    @property
    def server(self) -> Server:
        """The server that it is a connection of, also when it has ended.

        Raises:
            RuntimeError: this is a client.
        """
        return cast("ServerConnection", self._on_server()).server
