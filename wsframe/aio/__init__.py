"""The asyncio adapter: `serve`, `connect`, and the `WebSocket` that both give."""

from __future__ import annotations

from .._adapter._answers import Accept
from .._adapter._application import Application
from .._adapter._broadcast import BroadcastResult
from .._adapter._components import AddressBlockList, ApplicationWrapper, Counting, KeepAlive, OriginCheck
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
from .._adapter._registry import ConnectionInfo, ServerStats
from .._adapter._retry import RetryPolicy
from .._adapter._routing import Route, Router
from .._adapter._trace import TracedFrame, TracedHead
from ._broadcast import Broadcast, broadcast
from ._channel import Tap
from ._client import connect
from ._server import Server, serve
from ._websocket import WebSocket

__all__ = [
    "Accept",
    "AddressBlockList",
    "Application",
    "ApplicationWrapper",
    "Broadcast",
    "BroadcastResult",
    "ConnectError",
    "ConnectLost",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "ConnectionInfo",
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
    "ServerStats",
    "Tap",
    "TracedFrame",
    "TracedHead",
    "TrustedProxies",
    "WebSocket",
    "broadcast",
    "connect",
    "serve",
]
