"""Why there is no WebSocket, in one sentence, and what can be done about it."""

from __future__ import annotations

import errno
import os
import re
import socket
import ssl

from .._enums import Cause
from .._uri import WebSocketURI
from ..aio import ConnectError, HandshakeRejected, ProxyError

__all__ = ["explain"]

#: How much of a refusing response's body is shown.
_SHOWN_BODY = 200

_ADVICE = {
    401: "it wants to know who you are: -H 'Authorization: ...' or ws://USER:PASSWORD@HOST/",
    403: "servers often look at the origin (--origin) or at credentials (-H)",
    404: "is the path right?",
    426: "the server wants another version or protocol",
}


def explain(exc: ConnectError, uri: WebSocketURI, *, own_trust: bool) -> str:
    """One sentence about a failed ``connect``. It may contain what the server sent.

    Args:
        exc: the failure.
        uri: where to.
        own_trust: certificate authorities were named.
    """
    if isinstance(exc, HandshakeRejected):
        return _rejected(exc)
    if isinstance(exc, ProxyError):
        return str(exc.ending.error)
    error = exc.ending.error
    where = f"{uri.host} port {uri.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = (
            "does FILE of --ca belong to this server"
            if own_trust
            else "--ca FILE trusts an authority of your own"
        )
        mark = "?" if own_trust else ""
        return (
            f"cannot trust the certificate of {uri.host}: {error.verify_message.rstrip('.')}"
            f" ({advice}{mark or ','} --insecure accepts any certificate)"
        )
    if exc.ending.cause is Cause.TLS_ERROR:
        return f"TLS failed with {where}: {_reason_of(error)} (a server without TLS is reached with ws://)"
    if isinstance(error, socket.gaierror):
        return f"cannot find the host: {error.strerror}"
    if exc.ending.cause is Cause.NOT_HTTP:
        hint = "" if uri.secure else " (a server with TLS is reached with wss://)"
        return f"{where} does not answer as a WebSocket server: {error}{hint}"
    if exc.ending.cause is Cause.OPEN_TIMEOUT:
        return f"no WebSocket at {where} in time: {error}"
    if isinstance(error, OSError):
        number = _errno_of(error)
        if number == errno.ECONNREFUSED:
            return f"nothing listens at {where}: connection refused"
        return f"cannot connect to {where}: {os.strerror(number) if number else error}"
    return f"no WebSocket at {where}: {exc}"


def _rejected(exc: HandshakeRejected) -> str:
    text = str(exc.ending.error)
    location = exc.headers.get("Location")
    if 300 <= exc.status < 400 and location is not None:
        return f"{text}: it is at {location} now; connect there"
    body = " ".join(exc.body.decode(errors="replace").split())
    # A page of HTML explains nothing in a terminal.
    if body and not body.startswith("<"):
        text += f": {body[:_SHOWN_BODY]}{'...' if len(body) > _SHOWN_BODY else ''}"
    elif exc.status in _ADVICE:
        text += f" ({_ADVICE[exc.status]})"
    return text


def _reason_of(error: BaseException | None) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return str(error) or type(error).__name__


def _errno_of(error: OSError) -> int | None:
    """The number, also where asyncio tried several addresses and all failed alike."""
    if error.errno is not None:
        return error.errno
    numbers = set(re.findall(r"\[Errno (\d+)\]", str(error)))
    return int(numbers.pop()) if len(numbers) == 1 else None
