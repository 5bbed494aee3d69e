"""The components that have to be others where threads use them."""

from __future__ import annotations

import threading
from typing import Any

from .._adapter._application import Application
from .._adapter._components import ApplicationWrapper
from .._adapter._components import Counting as PlainCounting
from .._events import Disconnected
from .._http import Request

__all__ = ["Counting"]


class Counting(PlainCounting):
    """Counts what goes through it.

    Attributes:
        requests: all requests, for a WebSocket or not.
        open: WebSockets that are open now.
        opened: WebSockets that have been opened.
        messages: messages that came.
        endings: how what was a WebSocket has ended, by its cause.
        disconnects: connections that never became one, by the cause of their ending.
    """

    def __init__(self, application: Application) -> None:
        super().__init__(application)
        self._lock = threading.Lock()

    def on_request(self, request: Request, /) -> Any:
        """See `Application`."""
        with self._lock:
            self.requests += 1
        return ApplicationWrapper.on_request(self, request)

    def on_open(self, ws: Any, /) -> None:
        """See `Application`."""
        with self._lock:
            self.open += 1
            self.opened += 1
        ApplicationWrapper.on_open(self, ws)

    def on_message(self, ws: Any, message: str | bytes, /) -> None:
        """See `Application`."""
        with self._lock:
            self.messages += 1
        ApplicationWrapper.on_message(self, ws, message)

    def on_close(self, ws: Any, ending: Disconnected, /) -> None:
        """See `Application`."""
        with self._lock:
            self.open -= 1
            self.endings[ending.cause] += 1
        ApplicationWrapper.on_close(self, ws, ending)

    def on_disconnect(self, request: Request | None, remote_address: Any, ending: Disconnected, /) -> None:
        """See `Application`."""
        with self._lock:
            self.disconnects[ending.cause] += 1
        ApplicationWrapper.on_disconnect(self, request, remote_address, ending)
