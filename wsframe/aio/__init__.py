"""The asyncio adapter: `serve`, `connect`, and the `WebSocket` that both give."""

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
    ProxyError,
)
from .._adapter._proxy import InvalidProxy
from .._adapter._retry import RetryPolicy
from ._application import Application
from ._channel import Tap
from ._client import connect
from ._server import Server, serve
from ._websocket import WebSocket, broadcast

__all__ = [
    "Application",
    "ConnectError",
    "ConnectLost",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "HandshakeInvalid",
    "HandshakeRejected",
    "InvalidProxy",
    "ProxyError",
    "RetryPolicy",
    "Server",
    "Tap",
    "WebSocket",
    "broadcast",
    "connect",
    "serve",
]
