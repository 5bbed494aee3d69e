"""``Application``: callbacks for the connections of `serve` or `connect`, in every adapter."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import Any

from .._events import Disconnected
from .._http import Request
from ._answers import Answer

__all__ = ["NOT_HERE", "NO_STREAM", "Application", "check_application", "check_handler", "has_own_on_request"]

NO_STREAM = "stream is for those who call recv_stream(), and an Application gets whole messages"

#: What is said to those who want to receive all the same.
NOT_HERE = "there is nothing to receive: the Application gets the messages, in on_message"


class Application:
    """Base class for callbacks; an object of yours goes to `serve` in the place of a handler, or to `connect`.

    For every WebSocket ``on_open`` comes first, then ``on_message`` with each of its messages, in order, and
    ``on_close`` last. A connection of a server that never became one has ``on_disconnect`` instead. The methods here do
    nothing, but for ``on_error``, which logs.

    All but ``on_request`` are plain functions. With asyncio they are called by the event loop while it takes in what
    was received: they must not wait. To answer, use ``ws.send_nowait``: all that is sent from the callbacks for one
    received chunk leaves together. To wait for something, start a task. With blocking sockets they are called by the
    connection's thread, and may wait and ``send``.

    When the application closes or aborts a WebSocket, it gets no more messages from it. When a callback raises, that
    is the same, and the WebSocket is closed with 1011. A peer that sends messages while more than the high-water mark
    waits to be written to it is not read from until there is room.
    """

    def on_request(self, request: Request, /) -> Answer | Awaitable[Answer]:
        """A server got a request, for a WebSocket or not; a returned `Response` is sent instead of going on.

        With an `Accept` it goes on, but for this connection in another way. May be a coroutine function with asyncio.
        Without it, plain HTTP requests are answered with 426. Clients do not call it.
        """
        return None

    def on_open(self, ws: Any, /) -> None:
        """The opening handshake is done. What is sent now is the first that the peer gets."""

    def on_message(self, ws: Any, message: str | bytes, /) -> None:
        """A message came: ``str`` for text, ``bytes`` for binary."""

    def on_close(self, ws: Any, ending: Disconnected, /) -> None:
        """What was a WebSocket has ended. Nothing is called for it any more, unless this raises."""

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected, /) -> None:
        """A connection of a server has ended that never became a WebSocket. (On a client ``connect`` raises.)

        Args:
            request: its request, or None if it did not come to that.
            remote_address: the peer's address, as sockets give it.
            ending: how it ended.
        """

    def on_error(self, ws: Any, exc: BaseException, /) -> None:
        """``on_open``, ``on_message`` or ``on_close`` raised an exception. By default it is logged.

        Then the WebSocket is closed with 1011, unless this closes it with another code. What this raises is logged.
        """
        ws.log_failure(exc)


def check_application(application: Application) -> None:
    """Find out now what would go wrong with every connection.

    Raises:
        TypeError: it is none, or has a coroutine function where that would never be awaited.
    """
    if not isinstance(application, Application):
        raise TypeError(f"an Application is an instance of a class derived from it, not {application!r}")
    for name in ("on_open", "on_message", "on_close", "on_disconnect", "on_error"):
        if inspect.iscoroutinefunction(getattr(application, name)):
            raise TypeError(f"{name} must be a plain function: nobody would await it; it can start a task")


def check_handler(handler: object, *, stream: bool = False, is_plain: bool = False) -> None:
    """Find out before it is called whether it can be.

    Args:
        handler: what somebody wants to have called.
        stream: messages come in pieces.
        is_plain: it must not be a coroutine function.

    Raises:
        TypeError: it is no handler, and no Application that is in order.
    """
    if isinstance(handler, type) and issubclass(handler, Application):
        raise TypeError(f"not the class is needed but an object of it: {handler.__name__}()")
    if isinstance(handler, Application):
        check_application(handler)
        if stream:
            raise TypeError(NO_STREAM)
    elif not callable(handler) or (is_plain and inspect.iscoroutinefunction(handler)):
        kind = "plain" if is_plain else "coroutine"
        raise TypeError(f"a handler is a {kind} function or an Application, not {handler!r}")


def has_own_on_request(application: Application) -> bool:
    """Whether it does more with requests than the base class."""
    function = getattr(application.on_request, "__func__", application.on_request)
    return function is not Application.on_request
