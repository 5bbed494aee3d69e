"""wsframe: a WebSocket layer for Python. These are the sans-IO names; adapters are ``wsframe.aio`` and so on."""

from __future__ import annotations

from ._backend import Frame, apply_mask, backend, backend_description
from ._client import Client
from ._config import Limits, Timeouts
from ._connection import Connection
from ._deflate import PermessageDeflate
from ._endpoint import Endpoint
from ._enums import Cause, CloseCode, Initiator, Opcode, Role, State, Transport
from ._errors import (
    HandshakeError,
    LocalProtocolError,
    RemoteProtocolError,
    SlowPeerError,
    WsframeError,
)
from ._events import (
    CloseFrame,
    CloseReceived,
    Disconnected,
    Event,
    Message,
    MessageChunk,
    Opened,
    PingReceived,
    PongReceived,
    RequestReceived,
    ResponseReceived,
)
from ._frames import PreparedMessage, pack, pack_close, unpack, unpack_close
from ._http import Headers, Request, Response
from ._negotiate import ANY_ORIGIN, SAME_HOST, Handshake, Rejection, accept_value, negotiate
from ._server import Server
from ._uri import InvalidURI, WebSocketURI, parse_uri
from ._version import __version__

__all__ = [
    "ANY_ORIGIN",
    "SAME_HOST",
    "Cause",
    "Client",
    "CloseCode",
    "CloseFrame",
    "CloseReceived",
    "Connection",
    "Disconnected",
    "Endpoint",
    "Event",
    "Frame",
    "Handshake",
    "HandshakeError",
    "Headers",
    "Initiator",
    "InvalidURI",
    "Limits",
    "LocalProtocolError",
    "Message",
    "MessageChunk",
    "Opcode",
    "Opened",
    "PermessageDeflate",
    "PingReceived",
    "PongReceived",
    "PreparedMessage",
    "Rejection",
    "RemoteProtocolError",
    "Request",
    "RequestReceived",
    "Response",
    "ResponseReceived",
    "Role",
    "Server",
    "SlowPeerError",
    "State",
    "Timeouts",
    "Transport",
    "WebSocketURI",
    "WsframeError",
    "__version__",
    "accept_value",
    "apply_mask",
    "backend",
    "backend_description",
    "negotiate",
    "pack",
    "pack_close",
    "parse_uri",
    "unpack",
    "unpack_close",
]
