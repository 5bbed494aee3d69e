"""``Application``: callbacks for the connections of `serve` or `connect`, and the ``WebSocket`` that calls them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, NoReturn

from .._adapter._answers import Answer
from .._backend import Lane
from .._connection import Connection
from .._events import Disconnected, Event, Message
from .._http import Request, Response
from ._channel import Channel, logger
from ._transports import NO_INBOX
from ._websocket import WebSocket

if TYPE_CHECKING:
    from ._serving import ServerConnection

__all__ = [
    "NO_STREAM",
    "Application",
    "ApplicationWebSocket",
    "check_application",
    "check_handler",
    "has_own_on_request",
]

NO_STREAM = "stream is for those who call recv_stream(), and an Application gets whole messages"


class Application:
    """Base class for callbacks; an object of yours goes to `serve` in the place of a handler, or to `connect`.

    For every WebSocket ``on_open`` comes first, then ``on_message`` with each of its messages, in order, and
    ``on_close`` last. A connection of a server that never became one has ``on_disconnect`` instead. The methods here do
    nothing, but for ``on_error``, which logs.

    All but ``on_request`` are plain functions, called by the event loop while it takes in what was received: they must
    not wait. To answer, use ``ws.send_nowait``: all that is sent from the callbacks for one received chunk leaves
    together. To wait for something, start a task.

    When the application closes or aborts a WebSocket, it gets no more messages from it. When a callback raises, that
    is the same, and the WebSocket is closed with 1011. A peer that sends messages while more than the high-water mark
    waits to be written to it is not read from until there is room.
    """

    def on_request(self, request: Request, /) -> Answer | Awaitable[Answer]:
        """A server got a request, for a WebSocket or not; a returned `Response` is sent instead of going on.

        With an `Accept` it goes on, but for this connection in another way. May be a coroutine function. Without it,
        plain HTTP requests are answered with 426. Clients do not call it.
        """
        return None

    def on_open(self, ws: WebSocket, /) -> None:
        """The opening handshake is done. What is sent now is the first that the peer gets."""

    def on_message(self, ws: WebSocket, message: str | bytes, /) -> None:
        """A message came: ``str`` for text, ``bytes`` for binary."""

    def on_close(self, ws: WebSocket, ending: Disconnected, /) -> None:
        """What was a WebSocket has ended. Nothing is called for it any more, unless this raises."""

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected, /) -> None:
        """A connection of a server has ended that never became a WebSocket. (On a client ``connect`` raises.)

        Args:
            request: its request, or None if it did not come to that.
            remote_address: the peer's address, as sockets give it.
            ending: how it ended.
        """

    def on_error(self, ws: WebSocket, exc: BaseException, /) -> None:
        """``on_open``, ``on_message`` or ``on_close`` raised an exception. By default it is logged.

        Then the WebSocket is closed with 1011, unless this closes it with another code. What this raises is logged.
        """
        logger.error("a callback raised an exception", exc_info=exc)


_NOT_HERE = "there is nothing to receive: the Application gets the messages, in on_message"


class ApplicationWebSocket(WebSocket):
    """A `WebSocket` whose messages go to an `Application`."""

    __slots__ = ("_application", "_is_asking", "_is_listening")

    def __init__(
        self,
        application: Application,
        channel: Channel,
        connection: Connection,
        request: Request,
        response: Response | None = None,
        record: ServerConnection | None = None,
    ) -> None:
        self._application = application
        super().__init__(channel, connection, request, response, record)
        # Until the application has closed it, or failed.
        self._is_listening = True
        # A message has come since there was last room for answers.
        self._is_asking = False

    def _new_queue(self, loop: object, channel: Channel, connection: Connection) -> Any:
        return NO_INBOX

    def _open_lane(self, channel: Channel, connection: Connection) -> Lane | None:
        return channel.open_lane(
            connection,
            on_message=self._application.on_message,
            websocket=self,
            failed=self._fail,
        )

    def open(self) -> None:
        """Tell the application that it is open."""
        try:
            self._application.on_open(self)
        except (Exception, asyncio.CancelledError) as exc:
            self._fail(exc)

    async def recv(self, decode: bool | None = None) -> NoReturn:
        """Nothing can be received here.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(_NOT_HERE)

    def __aiter__(self) -> NoReturn:
        raise RuntimeError(_NOT_HERE)

    def start_closing(self, code: int | None = 1000, reason: str = "") -> None:
        """See `WebSocket`; then no more messages are given to the application."""
        super().start_closing(code, reason)
        self._is_listening = False

    def abort(self) -> None:
        """See `WebSocket`; then no more messages are given to the application."""
        self._is_listening = False
        super().abort()

    # From the channel.

    def wants_data(self) -> bool:
        """Who does not take the answers shall ask for no more. (Who only listens may still say that it is there.)"""
        lane = self._lane
        if lane is not None and lane.heard:
            lane.heard = False
            self._is_asking = True
        if not self._channel.congested:
            self._is_asking = False
        return not self._is_asking

    def handle_events(self, events: list[Event]) -> None:
        """Take the core's events."""
        on_message = self._application.on_message
        for event in events:
            if not isinstance(event, Message):
                super().handle_events([event])
            elif self._is_listening:
                self._connection.traffic.messages_in += 1
                self._is_asking = True
                try:
                    on_message(self, event.data)
                # A cancelled future whose result a callback asks for is a failure like any other.
                except (Exception, asyncio.CancelledError) as exc:
                    self._fail(exc)

    def _finish(self, ending: Disconnected) -> None:
        super()._finish(ending)
        try:
            self._application.on_close(self, ending)
        except (Exception, asyncio.CancelledError) as exc:
            self._fail(exc)

    def _fail(self, exc: BaseException) -> None:
        """A callback has raised that: it shall be the last, but for ``on_close``."""
        try:
            self._application.on_error(self, exc)
        except (Exception, asyncio.CancelledError):
            logger.exception("on_error raised an exception")
        self.start_closing(1011)


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


def check_handler(handler: object, *, stream: bool = False) -> None:
    """Find out before it is called whether it can be.

    Args:
        handler: what somebody wants to have called.
        stream: messages come in pieces.

    Raises:
        TypeError: it is no handler, and no Application that is in order.
    """
    if isinstance(handler, type) and issubclass(handler, Application):
        raise TypeError(f"not the class is needed but an object of it: {handler.__name__}()")
    if isinstance(handler, Application):
        check_application(handler)
        if stream:
            raise TypeError(NO_STREAM)
    elif not callable(handler):
        raise TypeError(f"a handler is a coroutine function or an Application, not {handler!r}")


def has_own_on_request(application: Application) -> bool:
    """Whether it does more with requests than the base class."""
    function = getattr(application.on_request, "__func__", application.on_request)
    return function is not Application.on_request
