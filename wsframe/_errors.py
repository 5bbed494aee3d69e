"""Exceptions of the sans-IO core."""

from __future__ import annotations

__all__ = ["HandshakeError", "LocalProtocolError", "RemoteProtocolError", "SlowPeerError", "WsframeError"]


class WsframeError(Exception):
    """Base of every exception that wsframe raises on its own account."""


class LocalProtocolError(WsframeError):
    """The caller asked for something that the protocol or the connection's state does not allow.

    It is raised before anything was changed: the connection is as it was.
    """


class RemoteProtocolError(WsframeError):
    """The peer broke the protocol. Never raised by the core's input methods: it is what
    ``Disconnected.error`` carries.

    Attributes:
        close_code: the Close code that was sent, or would have been (RFC 6455 s7.4.1).
    """

    def __init__(self, message: str, close_code: int = 1002) -> None:
        super().__init__(message)
        self.close_code = close_code

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r}, close_code={self.close_code})"


class HandshakeError(RemoteProtocolError):
    """The peer's part of the opening handshake was wrong, or it refused (RFC 6455 s4).

    Attributes:
        status: the HTTP status that was sent or received, or None when there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, 1002)
        self.status = status

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r}, status={self.status})"


class SlowPeerError(WsframeError):
    """A message was not queued, because more than ``Limits.write_hard_cap`` bytes already wait for a peer that does
    not take them. The connection is ending with the cause SLOW_PEER."""
