"""``ServerSideBase``: the part of a ``WebSocket`` that there is on servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, cast

from ._registry import Registry
from ._websocket import WebSocketBase

__all__ = ["ServerRecord", "ServerSideBase"]

PongT = TypeVar("PongT")


class ServerRecord(Protocol):
    """What a server has of a connection that has become a ``WebSocket``."""

    @property
    def registry(self) -> Registry[Any, Any]:
        """Where its server finds it."""


class ServerSideBase(WebSocketBase[PongT]):
    """Base of the adapters' ``WebSocket``: its groups, and what the answer to its request has given it."""

    __slots__ = ()

    def check_caller(self, what: str) -> None:
        """Find out whether this thread may call ``what``.

        Raises:
            RuntimeError: it may not.
        """

    def join(self, group: str) -> bool:
        """Join a group of the server, which comes into being with its first member.

        It is left with ``leave``, or when the connection has ended, and goes with its last member.

        Returns:
            whether it is a member now: it is not if the connection is closing or has ended.

        Raises:
            TypeError: the name is no ``str``.
            RuntimeError: this is a client.
        """
        record = self._on_server()
        self.check_caller("join")
        return record.registry.join(self, group)

    def leave(self, group: str) -> bool:
        """Leave a group.

        Returns:
            whether it was a member.

        Raises:
            TypeError: the name is no ``str``.
            RuntimeError: this is a client.
        """
        record = self._on_server()
        self.check_caller("leave")
        return record.registry.leave(self, group)

    @property
    def groups(self) -> frozenset[str]:
        """The groups that it has joined.

        Raises:
            RuntimeError: this is a client.
        """
        return self._on_server().registry.groups_of(self.id)

    def _on_server(self) -> ServerRecord:
        if self._record is None:
            raise RuntimeError(
                "this is a client's WebSocket: only those of a server have a server, and groups"
            )
        # (The other kind of record is that of a connection that is turned away, which nobody gets to see.)
        return cast("ServerRecord", self._record)

    @property
    def context(self) -> Any:
        """What ``on_request`` has attached with ``Accept(context=...)``; None if nothing."""
        return self.request.context

    @property
    def path_params(self) -> Mapping[str, Any]:
        """The parameters in the path by which a server has found the handler."""
        # Not a slot: most have none.
        params: Mapping[str, Any] = self.__dict__.get("path_params", {})
        return params

    @path_params.setter
    def path_params(self, params: Mapping[str, Any]) -> None:
        self.__dict__["path_params"] = params
