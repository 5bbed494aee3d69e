"""Exceptions that adapters raise. Each carries the ending, which says what happened."""

from __future__ import annotations

from typing import Any

from .._enums import Cause
from .._errors import WsframeError
from .._events import Disconnected, ResponseReceived
from .._http import Headers
from ._proxy import ProxyFailure

__all__ = [
    "ConnectError",
    "ConnectLost",
    "ConnectTimeout",
    "ConnectionClosed",
    "ConnectionClosedError",
    "ConnectionClosedOK",
    "HandshakeInvalid",
    "HandshakeRejected",
    "ProxyError",
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
    """It was closed cleanly with 1000, 1001 or without a code. It is no `OSError`, because nothing went wrong."""


class ConnectionClosedError(ConnectionClosed, ConnectionError):
    """It ended in any other way. It is a `ConnectionError`, as what a socket raises when its connection is lost."""


class ConnectError(WsframeError, OSError):
    """``connect`` failed. All of its kinds are an `OSError`, as everything that goes wrong on a network.

    Attributes:
        ending: why; see ``Disconnected``. Its ``error`` is the exception of the system, or of TLS, if one is behind it.
    """

    def __init__(self, ending: Disconnected, advice: str = "") -> None:
        super().__init__(f"{ending}; {advice}" if advice else str(ending))
        self.ending = ending
        self._advice = advice

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.ending, self._advice)


class ConnectTimeout(ConnectError, TimeoutError):
    """The connection was not open within ``open_timeout``."""


class ConnectLost(ConnectError, ConnectionError):
    """The connection could not be made, or was lost before it was a WebSocket."""


class ProxyError(ConnectLost):
    """The proxy cannot be reached, or refuses, or answers nonsense. The message names it, without its password."""

    @property
    def status(self) -> int | None:
        """What an HTTP proxy answered, if it answered; None otherwise."""
        error = self.ending.error
        return error.status if isinstance(error, ProxyFailure) else None


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

    def __init__(self, ending: Disconnected, response: ResponseReceived, advice: str = "") -> None:
        super().__init__(ending, advice)
        self.status: int = response.status
        self.headers: Headers = response.headers
        self.body: bytes = response.body

    def __reduce__(self) -> tuple[Any, ...]:
        response = ResponseReceived(self.status, self.headers, self.body)
        return type(self), (self.ending, response, self._advice)


def closed_error(ending: Disconnected) -> ConnectionClosed:
    """The exception for the end of what was a WebSocket."""
    return ConnectionClosedOK(ending) if ending.ok else ConnectionClosedError(ending)


def connect_error(ending: Disconnected, response: ResponseReceived | None, advice: str = "") -> ConnectError:
    """The exception for a ``connect`` that ended before it was a WebSocket.

    Args:
        ending: how it ended.
        response: what the server answered, if it was not 101.
        advice: what stands behind the ending in its message; by default what is known to help.
    """
    if response is not None:
        return HandshakeRejected(ending, response, advice)
    if ending.cause is Cause.OPEN_TIMEOUT:
        return ConnectTimeout(ending, advice)
    if ending.cause in (Cause.PROTOCOL_ERROR, Cause.NOT_HTTP):
        return HandshakeInvalid(ending, advice)
    if isinstance(ending.error, ProxyFailure):
        return ProxyError(ending, advice)
    return ConnectLost(ending, advice or _advice_for(ending.error))


#: OpenSSL's number for what is wrong with a certificate -> what helps.
_CERTIFICATES = {
    9: "the certificate is not valid yet: is the clock of this machine right?",
    10: "the certificate has expired, and the server needs a new one",
    62: "the certificate is for other names: connect to one of them, or name it with server_hostname=",
    64: "the certificate is not for this address: connect to a name, or give it with server_hostname=",
    **dict.fromkeys(
        (18, 19, 20, 21),
        "nobody whom this machine trusts has signed the certificate: pass ssl= a context that trusts who has, as "
        "ssl.create_default_context(cafile=...) does",
    ),
}


def _advice_for(error: BaseException | None) -> str:
    """What helps against what is wrong with a certificate. (Nothing in here imports ``ssl``.)"""
    code = getattr(error, "verify_code", 0)
    if not code:
        return ""
    return _CERTIFICATES.get(
        code, "pass ssl= a context that accepts the certificate, if it is right as it is"
    )
