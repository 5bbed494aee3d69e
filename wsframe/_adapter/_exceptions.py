"""Exceptions that adapters raise. Each carries the ending, which says what happened."""

from __future__ import annotations

from typing import Any

from .._enums import Cause
from .._errors import WsframeError
from .._events import Disconnected, ResponseReceived
from .._http import Headers

__all__ = [
    "ConnectError",
    "ConnectLost",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "HandshakeInvalid",
    "HandshakeRejected",
    "closed_error",
    "connect_error",
]


class ConnectionClosed(WsframeError):
    """The WebSocket is over.

    Attributes:
        ending: why; see ``Disconnected``.
    """

    def __init__(self, ending: Disconnected) -> None:
        super().__init__(str(ending))
        self.ending = ending

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.ending,)

    @property
    def code(self) -> int:
        """The Close code that an application should be told (RFC 6455 s7.1.5)."""
        return self.ending.code

    @property
    def reason(self) -> str:
        """The peer's reason, or ""."""
        return self.ending.reason


class ConnectionClosedOK(ConnectionClosed):
    """It was closed cleanly with 1000, 1001 or without a code."""


class ConnectionClosedError(ConnectionClosed):
    """It ended in any other way."""


class ConnectError(WsframeError):
    """``connect`` failed.

    Attributes:
        ending: why; see ``Disconnected``.
    """

    def __init__(self, ending: Disconnected) -> None:
        super().__init__(str(ending))
        self.ending = ending

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.ending,)


class ConnectTimeout(ConnectError, TimeoutError):
    """The connection was not open within ``open_timeout``."""


class ConnectLost(ConnectError, ConnectionError):
    """The connection could not be made, or was lost before it was a WebSocket."""


class HandshakeInvalid(ConnectError):
    """The server's answer is not what the opening handshake asks for (RFC 6455 s4.1)."""


class HandshakeRejected(ConnectError):
    """The server answered with another status than 101.

    Attributes:
        ending: see ``ConnectError``.
        status: HTTP status.
        headers: the response's header lines.
        body: at most ``Limits.max_body_size`` bytes of the response's body.
    """

    def __init__(self, ending: Disconnected, response: ResponseReceived) -> None:
        super().__init__(ending)
        self.status: int = response.status
        self.headers: Headers = response.headers
        self.body: bytes = response.body

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.ending, ResponseReceived(self.status, self.headers, self.body))


def closed_error(ending: Disconnected) -> ConnectionClosed:
    """The exception for the end of what was a WebSocket."""
    return ConnectionClosedOK(ending) if ending.ok else ConnectionClosedError(ending)


def connect_error(ending: Disconnected, response: ResponseReceived | None) -> ConnectError:
    """The exception for a ``connect`` that ended before it was a WebSocket."""
    if response is not None:
        return HandshakeRejected(ending, response)
    if ending.cause is Cause.OPEN_TIMEOUT:
        return ConnectTimeout(ending)
    if ending.cause in (Cause.PROTOCOL_ERROR, Cause.NOT_HTTP):
        return HandshakeInvalid(ending)
    return ConnectLost(ending)
