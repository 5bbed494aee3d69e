"""The words that the whole package shares, as enumerations (RFC 6455 terms)."""

from __future__ import annotations

import enum

__all__ = ["Cause", "CloseCode", "Initiator", "Opcode", "Role", "State", "Transport"]


class Role(enum.Enum):
    """Which side of the connection an endpoint is (RFC 6455 s1.2)."""

    CLIENT = "client"
    SERVER = "server"


class State(enum.IntEnum):
    """How far a connection has come.

    The values only ever grow during the life of a connection. ``CLOSED`` is reached together with the
    ``Disconnected`` event and never before it.
    """

    CONNECTING = 1
    """No complete request yet (server), or the request has not been handed to the transport (client)."""
    HANDSHAKE = 2
    """The request was seen (server) or handed out (client); no answer yet."""
    OPEN = 3
    """It is a WebSocket: messages flow both ways."""
    CLOSING = 4
    """A Close frame went one way or the other, or something ended the connection."""
    CLOSED = 5
    """The transport is gone and ``Disconnected`` has been emitted."""


class Opcode(enum.IntEnum):
    """Frame opcodes (RFC 6455 s5.2). The values 3-7 and 11-15 are reserved."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class CloseCode(enum.IntEnum):
    """Close codes that have a name (RFC 6455 s7.4.1 and the IANA registry)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RCVD = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


class Transport(enum.Enum):
    """What an adapter shall do with the transport once it has flushed what ``data_to_send()`` gave."""

    OPEN = "open"
    """Leave it open and keep reading."""
    SHUTDOWN_WRITE = "shutdown write"
    """Flush, half-close where the transport can (TCP yes, TLS no), and keep reading: input is discarded."""
    CLOSE = "close"
    """Flush, then close it. Call ``transport_closed()`` when it is gone."""
    ABORT = "abort"
    """Write what can be written without waiting, then drop the transport at once."""


class Initiator(enum.Enum):
    """Who made the connection end."""

    LOCAL = "local"
    REMOTE = "remote"
    TRANSPORT = "transport"


class Cause(enum.Enum):
    """Why a connection ended; the first terminal fact decides and nothing later overwrites it."""

    CLOSE_HANDSHAKE = "close handshake"
    """Both Close frames were exchanged (RFC 6455 s7.1.4)."""
    EOF = "eof"
    """The peer ended its stream without a Close frame (or before ours could be handed out)."""
    TRUNCATED = "truncated"
    """As EOF, but inside a frame, inside a fragmented message, or inside the opening handshake."""
    RESET = "reset"
    """The transport was reset."""
    TLS_ERROR = "tls error"
    """TLS failed, in its handshake or later."""
    TRANSPORT_ERROR = "transport error"
    """Any other failure of the transport, or it was gone without another cause."""
    OPEN_TIMEOUT = "open timeout"
    """The opening handshake was not complete within ``Timeouts.open``."""
    PING_TIMEOUT = "ping timeout"
    """Nothing came within ``Timeouts.ping_timeout`` after a keepalive ping had left."""
    CLOSE_TIMEOUT = "close timeout"
    """The closing handshake was not complete within ``Timeouts.close``."""
    IDLE_TIMEOUT = "idle timeout"
    """No message went either way for ``Timeouts.idle``."""
    PROTOCOL_ERROR = "protocol error"
    """The peer broke the protocol (Close code 1002, or a broken opening handshake)."""
    INVALID_DATA = "invalid data"
    """Bad UTF-8 in a text message, or bad compressed data (Close code 1007)."""
    TOO_BIG = "too big"
    """A message over ``max_message_size`` or ``max_fragments`` (Close code 1009)."""
    SLOW_PEER = "slow peer"
    """The peer did not take what was queued for it."""
    LOCAL_ABORT = "local abort"
    """``abort()`` was called."""
    REJECTED = "rejected"
    """The opening handshake was refused, by us (server) or by the peer (client)."""
    PLAIN_HTTP = "plain http"
    """An HTTP request that did not ask for a WebSocket was answered."""
    NOT_HTTP = "not http"
    """What came was not HTTP at all."""
    DETACHED = "detached"
    """The bytes were handed to a host by ``detach()``."""
