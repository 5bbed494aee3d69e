"""``Pong``, which waits for the answer to a ping; and what all who wait need to know of time and threads."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

from .._adapter._exceptions import closed_error

if TYPE_CHECKING:
    from ._websocket import WebSocket

__all__ = ["Pong", "deadline_of", "is_running", "name_of"]


class Pong:
    """The answer to a ping, expected or come.

    Attributes:
        rtt: seconds between the ping and its pong; None while that has not come.
    """

    def __init__(self, websocket: WebSocket) -> None:
        self.rtt: float | None = None
        self._websocket = websocket

    def is_set(self) -> bool:
        """Whether it has come."""
        return self.rtt is not None

    def wait(self, timeout: float | None = None) -> float:
        """Wait for it, and return ``rtt``.

        Raises:
            TimeoutError: it did not come in time.
            ConnectionClosedOK, ConnectionClosedError: the connection ended before it came.
        """
        websocket = self._websocket
        driver = websocket._driver
        with driver.lock:
            driver.wait(lambda: self.rtt is not None or websocket.ending is not None, deadline_of(timeout))
            if self.rtt is not None:
                return self.rtt
            if websocket.ending is not None:
                raise closed_error(websocket.ending)
        raise TimeoutError(f"no pong came within {timeout:g} s")


def deadline_of(timeout: float | None) -> float | None:
    """When a timeout that begins now is over."""
    return None if timeout is None else monotonic() + timeout


def name_of(ident: int) -> str:
    """The name of a thread."""
    return next((thread.name for thread in threading.enumerate() if thread.ident == ident), "another thread")


def is_running(ident: int) -> bool:
    """Whether there still is such a thread."""
    return any(thread.ident == ident for thread in threading.enumerate())
