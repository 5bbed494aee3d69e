"""``NoWait``: sending without waiting, for callbacks, for other threads, and for sending to many."""

from __future__ import annotations

import functools
from collections.abc import Callable

from .._adapter._websocket import BytesLike, check_message, queue_message
from .._enums import State
from .._errors import SlowPeerError
from .._frames import PreparedMessage
from ._backlog import Backlog, Settle, Waiting
from ._driver import Driver
from ._server_side import ServerSide

__all__ = ["NoWait"]


class NoWait(ServerSide):
    """Base of `WebSocket`: what never waits. Any thread may call it.

    What the system does not take at once is written by whoever waits in a method of the WebSocket, or else, on a
    server, by the thread in ``serve_forever``.
    """

    _driver: Driver

    def send_nowait(self, message: str | BytesLike | PreparedMessage) -> bool:
        """Queue a message at once and whole, and never wait: for callbacks, and for sending to many.

        Nothing slows the caller down but itself: with ``try_send``, with ``buffered_bytes``, or by waiting in
        ``drain``. When more than ``Limits.write_hard_cap`` bytes wait already, the peer is too slow: it loses its
        connection, with 1013.

        While a message is being sent in pieces this one is kept, and queued behind it.

        Returns:
            whether it was queued. It was not if the connection is closing or has ended; ``ending`` will say why. Nor
            was it if about ``Limits.write_hard_cap`` bytes are kept behind a message in pieces.

        Raises:
            TypeError: the message is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
        """
        check_message(message)
        connection, driver = self._connection, self._driver
        function: Callable[..., None] = connection.send_text
        if not isinstance(message, str):
            function = functools.partial(queue_message, connection)
        with driver.lock:
            if connection.state is not State.OPEN:
                return False
            if self.is_within_message:
                prepared = message if isinstance(message, PreparedMessage) else PreparedMessage(message)
                return self.put_behind(prepared, len(prepared.frame)) is not None
            try:
                driver.send(function, message)
            except SlowPeerError:
                driver.advance()
                return False
            finally:
                if driver.pending:
                    driver.leave_to_others()
            return True

    def try_send(self, message: str | BytesLike | PreparedMessage) -> bool:
        """As ``send_nowait``, but only where ``send`` would not have to wait: for what need not be sent at any price.

        Returns:
            whether it was queued. It was not if more than the high-water mark waits to be written, or if the connection
            is closing or has ended. ``state`` tells which.

        Raises:
            TypeError: the message is of another type.
            LocalProtocolError: the text has lone surrogates, which UTF-8 cannot carry.
        """
        check_message(message)
        with self._driver.lock:
            return not self.is_within_message and not self.look_whether_slow() and self.send_nowait(message)

    # From a broadcast.

    @property
    def is_slow(self) -> bool:
        """More than the high-water mark waits for the peer."""
        connection = self._connection
        return connection.buffered > connection.limits.write_high_water

    def look_whether_slow(self) -> bool:
        """As ``is_slow``, but first what waits is offered to the system. The lock is held."""
        if self._driver.pending:
            self._driver.advance()
        return self.is_slow

    @property
    def is_within_message(self) -> bool:
        """A message is being sent in pieces, and nothing can be sent before its end but with ``send_nowait``."""
        return self._driver.composer is not None

    def put_behind(
        self,
        message: str | bytes | PreparedMessage,
        size: int,
        deadline: float | None = None,
        settle: Settle | None = None,
    ) -> Waiting | None:
        """Keep a message until there is room for it; see ``Backlog.put``. The lock is held."""
        driver = self._driver
        if driver.backlog is None:
            driver.backlog = Backlog(self._connection, lambda: driver.composer is not None)
        entry = driver.backlog.put(message, size, deadline, settle)
        driver.nudge()
        driver.leave_to_others()
        return entry

    def disconnect_slow(self) -> None:
        """The peer takes too little: drop what waits for it, and end the connection with 1013."""
        driver = self._driver
        with driver.lock:
            driver.call(self._connection.give_up_on_slow_peer)
            driver.advance()
            driver.leave_to_others()
