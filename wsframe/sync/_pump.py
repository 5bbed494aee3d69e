"""A thread that takes the messages of a ``WebSocket`` and calls back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from threading import get_ident
from typing import TYPE_CHECKING, TypeAlias

from .._backend import Message
from .._events import Disconnected
from ._link import logger

if TYPE_CHECKING:
    from ._websocket import WebSocket

__all__ = ["OnClose", "OnError", "OnMessage", "start_pump"]

OnMessage: TypeAlias = "Callable[[WebSocket, str | bytes], object]"
OnClose: TypeAlias = "Callable[[WebSocket, Disconnected], object]"
OnError: TypeAlias = "Callable[[WebSocket, Exception], object]"


def start_pump(
    websocket: WebSocket, on_message: OnMessage, on_close: OnClose | None, on_error: OnError | None
) -> threading.Thread:
    """See ``WebSocket.start_pump``."""
    for name, callback in (("on_message", on_message), ("on_close", on_close), ("on_error", on_error)):
        if not callable(callback) and (name == "on_message" or callback is not None):
            raise TypeError(f"{name} must be callable, not {callback!r}")
    if websocket._connection.stream:
        raise TypeError("stream is for those who call recv_stream(), and a pump gives whole messages")
    pump = _Pump(websocket, on_message, on_close, on_error)
    thread = threading.Thread(
        target=pump.run, name=f"wsframe pump {websocket.remote_address or ''}".rstrip(), daemon=True
    )
    with websocket._driver.lock:
        if websocket._reader is not None:
            raise websocket._reader_error()
        # It waits for the lock.
        thread.start()
        websocket._reader = thread.ident
    return thread


class _Pump:
    """What the thread does. It is the reader until its end."""

    def __init__(
        self,
        websocket: WebSocket,
        on_message: OnMessage,
        on_close: OnClose | None,
        on_error: OnError | None,
    ) -> None:
        self._websocket = websocket
        self._on_message = on_message
        self._on_close = on_close
        self._on_error = on_error

    def run(self) -> None:
        """Receive until the end."""
        websocket = self._websocket
        try:
            while (message := self._next()) is not None:
                self._call(self._on_message, message)
            ending = websocket.wait_closed()
        except Exception:
            logger.exception("a connection ends because its events could not be handled")
            ending = websocket.wait_closed()
        except BaseException:
            # Such as SystemExit in a callback.
            websocket.abort()
            raise
        finally:
            with websocket._driver.lock:
                websocket._reader = None
        if self._on_close is not None:
            self._call(self._on_close, ending)

    def _next(self) -> str | bytes | None:
        """Wait for a message; None when there is none any more that anybody wants."""
        websocket = self._websocket
        driver, queue = websocket._driver, websocket._queue
        with driver.lock:
            if not queue:
                message = driver.receive_message(get_ident(), None)
                if message is not None:
                    return message.data
                driver.wait(self._has_news)
            if not queue or websocket._is_leaving:
                return None
            kept: Message = websocket._take("message", None)
            return kept.data

    def _has_news(self) -> bool:
        return self._websocket._is_leaving or self._websocket._readable()

    def _call(self, callback: Callable[..., object], argument: object) -> None:
        try:
            callback(self._websocket, argument)
        except Exception as exc:
            self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        """A callback has raised that: it shall be the last, but for ``on_close``."""
        try:
            if self._on_error is None:
                logger.error("a callback raised an exception", exc_info=exc)
            else:
                self._on_error(self._websocket, exc)
        except Exception:
            logger.exception("on_error raised an exception")
        self._websocket.start_closing(1011)
