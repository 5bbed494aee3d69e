"""The asyncio adapter: `serve`, `connect`, and the `WebSocket` that both give."""

from __future__ import annotations

from .._adapter._answers import Accept
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
from .._adapter._forwarded import TrustedProxies
from .._adapter._proxy import InvalidProxy
from .._adapter._retry import RetryPolicy
from .._adapter._routing import Route, Router
from ._application import Application
from ._channel import Tap
from ._client import connect
from ._components import AddressBlockList, ApplicationWrapper, Counting, KeepAlive, OriginCheck
from ._server import Server, serve
from ._websocket import WebSocket, broadcast

__all__ = [
    "Accept",
    "AddressBlockList",
    "Application",
    "ApplicationWrapper",
    "ConnectError",
    "ConnectLost",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "Counting",
    "HandshakeInvalid",
    "HandshakeRejected",
    "InvalidProxy",
    "KeepAlive",
    "OriginCheck",
    "ProxyError",
    "RetryPolicy",
    "Route",
    "Router",
    "Server",
    "Tap",
    "TrustedProxies",
    "WebSocket",
    "broadcast",
    "connect",
    "serve",
]
