"""Who owns a connection, for an adapter's loop: before it is open, and when it has ended."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from .._enums import Cause
from .._events import Disconnected, Event, Opened, ResponseReceived
from ._exceptions import connect_error

__all__ = ["ClientOpening", "Nobody", "Opening", "Owner"]

WebSocketT = TypeVar("WebSocketT")


class Owner(Protocol):
    """What the loop that drives an endpoint asks of whom it drives it for."""

    def handle_events(self, events: list[Event]) -> None:
        """Take events. May call the endpoint, whose output is written afterwards."""

    def wants_data(self) -> bool:
        """Whether there is room for more messages."""

    def has_unread(self) -> bool:
        """Whether there are messages that the application has not taken yet."""


class Nobody:
    """Owns a connection that has ended: so no reference cycle is left for the garbage collector."""

    def handle_events(self, events: list[Event]) -> None:
        pass

    def wants_data(self) -> bool:
        return True

    def has_unread(self) -> bool:
        return False


class Opening:
    """Base of those who own a connection until there is a ``WebSocket``, to which they then pass the events on."""

    __slots__ = ()

    def handle_events(self, events: list[Event]) -> None:
        """Take the core's events until there is a ``WebSocket``, then pass them on to it."""
        for position, event in enumerate(events):
            if isinstance(event, Opened):
                self._on_opened(event, events[position + 1 :])
                return
            self._on_event(event)

    def wants_data(self) -> bool:
        """What comes before the answer is bounded by the endpoint."""
        return True

    def has_unread(self) -> bool:
        """Nothing is given to the application before it is open."""
        return False

    def _on_opened(self, opened: Opened, rest: list[Event]) -> None:
        """It is open; ``rest`` are the events that are for the ``WebSocket``."""
        raise NotImplementedError

    def _on_event(self, event: Event) -> None:
        """Something else happened, before it was open."""
        raise NotImplementedError


class ClientOpening(Opening, Generic[WebSocketT]):
    """A client's part of it: what ``connect`` gives or raises."""

    def __init__(self) -> None:
        #: What the exception says behind how it ended.
        self.advice = ""
        #: What is being done, for those who ask what took so long.
        self.waiting_for = ""
        self._response: ResponseReceived | None = None
        self._websocket: WebSocketT | None = None
        self._ending: Disconnected | None = None

    def is_settled(self) -> bool:
        """Whether there is an outcome."""
        return self._websocket is not None or self._ending is not None

    @property
    def refusal(self) -> ResponseReceived | None:
        """The response of a server that refused, or sends the client elsewhere."""
        return self._response

    def outcome(self) -> WebSocketT:
        """The ``WebSocket``, or the exception that says why there is none."""
        if self._websocket is not None:
            return self._websocket
        ending = self._ending
        assert ending is not None
        if ending.cause is Cause.OPEN_TIMEOUT and self.waiting_for:
            self.advice = f"it was still waiting for {self.waiting_for}"
        raise connect_error(ending, self._response, self.advice) from ending.error

    def _on_event(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self._response = event
        elif isinstance(event, Disconnected):
            self._ending = event
