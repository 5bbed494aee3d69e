"""``ApplicationWebSocket``: the ``WebSocket`` that calls an `Application`."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any, NoReturn

from .._adapter._application import NOT_HERE, Application
from .._adapter._exceptions import ConnectionClosed
from .._events import Disconnected
from ._link import logger
from ._websocket import WebSocket

__all__ = ["ApplicationWebSocket"]


class ApplicationWebSocket(WebSocket):
    """A `WebSocket` whose messages go to an `Application`. One thread is in ``run``, and calls the callbacks."""

    def __init__(self, application: Application, *arguments: Any, **options: Any) -> None:
        self._application = application
        super().__init__(*arguments, **options)
        # A client has one of its own.
        self._thread: threading.Thread | None = None

    def recv(self, timeout: float | None = None, decode: bool | None = None) -> NoReturn:
        """Nothing can be received here.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(NOT_HERE)

    def __iter__(self) -> NoReturn:
        raise RuntimeError(NOT_HERE)

    def recv_stream(self, timeout: float | None = None) -> NoReturn:
        """Nothing can be received here.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(NOT_HERE)

    def start_pump(self, *_: object, **__: object) -> NoReturn:
        """The Application is called already.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(NOT_HERE)

    def log_failure(self, exc: BaseException) -> None:
        """What an Application does about its failures unless it does something else."""
        logger.error("a callback raised an exception", exc_info=exc)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """See `WebSocket`. On a client ``on_close`` has returned by then, if it does so within ``close_timeout``."""
        super().__exit__(kind, exc, traceback)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(self._connection.timeouts.close)

    def start(self) -> None:
        """Give it a thread: on a client, which has none."""
        self._thread = threading.Thread(
            target=self._live, name=f"wsframe {self.remote_address or ''}".rstrip(), daemon=True
        )
        self._thread.start()

    def _live(self) -> None:
        try:
            self.run()
        except Exception:
            logger.exception("a connection ends because its events could not be handled")
        self.tell_end(self.wait_closed())

    # For the connection's thread.

    def run(self) -> None:
        """Call the application with what comes, until the connection has ended."""
        high_water = self._connection.limits.write_high_water
        try:
            self._application.on_open(self)
        except BaseException as exc:
            self._fail(exc)
        while not self._is_leaving:
            try:
                message = super().recv()
            except ConnectionClosed:
                break
            # Another thread may have closed it.
            if not self._is_leaving:
                try:
                    self._application.on_message(self, message)
                except BaseException as exc:
                    self._fail(exc)
            if self.buffered_bytes > high_water:
                # Who does not take the answers shall ask for no more.
                with self._driver.lock:
                    self._wait_for_room(high_water, None)
        self.wait_closed()

    def tell_end(self, ending: Disconnected) -> None:
        """Call it for the last time."""
        try:
            self._application.on_close(self, ending)
        except BaseException as exc:
            self._fail(exc)

    def _fail(self, exc: BaseException) -> None:
        """A callback has raised that: it shall be the last, but for ``on_close``."""
        try:
            self._application.on_error(self, exc)
        except BaseException:
            logger.exception("on_error raised an exception")
        self.start_closing(1011)
