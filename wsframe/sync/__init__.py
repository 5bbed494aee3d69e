"""The adapter for blocking sockets and threads: `serve`, `connect`, and the `WebSocket` that both give."""

from __future__ import annotations

from .._adapter._exceptions import (
    ConnectError,
    ConnectionClosed,
    ConnectionClosedError,
    ConnectionClosedOK,
    ConnectLost,
    ConnectTimeout,
    HandshakeInvalid,
    HandshakeRejected,
)
from ._client import connect
from ._server import Server, serve
from ._websocket import Pong, WebSocket

__all__ = [
    "ConnectError",
    "ConnectLost",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "HandshakeInvalid",
    "HandshakeRejected",
    "Pong",
    "Server",
    "WebSocket",
    "connect",
    "serve",
]
