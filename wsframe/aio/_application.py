"""``ApplicationWebSocket``: the ``WebSocket`` that calls an `Application`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from .._adapter._application import NO_STREAM, NOT_HERE, Application, check_application
from .._backend import Lane
from .._connection import Connection
from .._events import Disconnected, Event, Message
from .._http import Request, Response
from ._channel import Channel, logger
from ._transports import NO_INBOX
from ._websocket import WebSocket

if TYPE_CHECKING:
    from ._serving import ServerConnection

__all__ = ["NO_STREAM", "Application", "ApplicationWebSocket", "check_application"]


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
        raise RuntimeError(NOT_HERE)

    def __aiter__(self) -> NoReturn:
        raise RuntimeError(NOT_HERE)

    def start_closing(self, code: int | None = 1000, reason: str = "") -> None:
        """See `WebSocket`; then no more messages are given to the application."""
        super().start_closing(code, reason)
        self._is_listening = False

    def abort(self) -> None:
        """See `WebSocket`; then no more messages are given to the application."""
        self._is_listening = False
        super().abort()

    def log_failure(self, exc: BaseException) -> None:
        """What an Application does about its failures unless it does something else."""
        logger.error("a callback raised an exception", exc_info=exc)

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
