"""What the adapters do alike: answer a request, name a failure, judge how a handler or a block was left."""

from __future__ import annotations

from .._enums import Cause, State
from .._errors import HandshakeError
from .._events import Disconnected, Event
from .._http import Response
from .._server import Server
from ._exceptions import ConnectionClosed

__all__ = ["answer", "answer_failure", "application_error", "cause_of", "code_for_leaving", "is_end_of"]


def answer(endpoint: Server, response: Response | None) -> list[Event]:
    """Answer the request of which ``on_request`` has thought: with its response, or None to go on."""
    if response is not None:
        return endpoint.respond(response.status, response.headers, response.body)
    if endpoint.handshake is None:
        return endpoint.respond_upgrade_required()
    return endpoint.accept()


def answer_failure(endpoint: Server) -> None:
    """The application's code failed: say so to the peer, where it still can be said."""
    if endpoint.state is State.HANDSHAKE:
        endpoint.reject(500, body="the server failed to answer\n")
    else:
        endpoint.abort()


def application_error(ending: Disconnected) -> BaseException | None:
    """What went wrong in the application's code in an opening handshake that was refused for that."""
    error = ending.error
    return error if ending.cause is Cause.REJECTED and not isinstance(error, HandshakeError) else None


def cause_of(exc: BaseException | None, tls_error: type[BaseException]) -> Cause:
    """What an exception of a transport is called.

    Args:
        exc: the exception; None where nobody says why.
        tls_error: those of TLS. (Nothing in here imports ``ssl``.)
    """
    if isinstance(exc, tls_error):
        return Cause.TLS_ERROR
    if isinstance(exc, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)):
        return Cause.RESET
    return Cause.TRANSPORT_ERROR


def is_end_of(ending: Disconnected | None, exc: BaseException) -> bool:
    """The end of its connection is no failure of a handler. (The end of another one that it uses may be.)"""
    if isinstance(exc, BaseExceptionGroup):
        return all(is_end_of(ending, inner) for inner in exc.exceptions)
    return isinstance(exc, ConnectionClosed) and exc.ending is ending


def code_for_leaving(kind: type[BaseException] | None) -> int:
    """The Close code for a ``with`` block that is left by an exception of that kind, or by none."""
    if kind is None or issubclass(kind, ConnectionClosed):
        return 1000
    return 1011 if issubclass(kind, Exception) else 1001
