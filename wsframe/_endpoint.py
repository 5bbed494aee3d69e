"""What ``Connection``, ``Server`` and ``Client`` have in common, so that one adapter loop drives any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ._backend import Traffic
from ._enums import Cause, Role, State, Transport
from ._events import Disconnected, Event
from ._lifecycle import Lifecycle

if TYPE_CHECKING:
    from ._connection import Connection

__all__ = ["Endpoint", "HandshakeEndpoint"]


class Endpoint(Protocol):
    """A connection without I/O: bytes in, events out.

    ``now`` is the time of any monotonic clock, in seconds. After every call, an adapter hands on ``data_to_send()``,
    obeys ``transport``, and arranges for ``handle_timeout`` at ``next_timeout(now)``.
    """

    @property
    def state(self) -> State:
        """How far the connection has come."""

    @property
    def transport(self) -> Transport:
        """What to do with the transport once everything from ``data_to_send`` is flushed."""

    @property
    def ending(self) -> Disconnected | None:
        """The ``Disconnected`` event once it has been emitted."""

    @property
    def connection(self) -> Connection | None:
        """The WebSocket connection; None before ``Opened``."""

    @property
    def has_more(self) -> bool:
        """``receive_data`` stopped at its bound of work: call ``receive_data(b"", now)`` before reading on."""

    @property
    def buffered(self) -> int:
        """Bytes that are queued here or, as far as ``unsent`` told, with the adapter."""

    def receive_data(self, data: bytes | bytearray | memoryview, now: float = 0.0) -> list[Event]:
        """Take received bytes. Never raises for anything that a peer can send."""

    def receive_eof(self) -> list[Event]:
        """The peer will send no more. Idempotent."""

    def receive_error(self, exc: BaseException, cause: Cause) -> list[Event]:
        """The transport failed.

        Args:
            exc: what the system reported; it becomes ``Disconnected.error``, without its traceback.
            cause: RESET, TLS_ERROR or TRANSPORT_ERROR.

        Raises:
            ValueError: another cause.
        """

    def transport_closed(self) -> list[Event]:
        """The transport is gone. Emits ``Disconnected``, once."""

    def data_to_send(self) -> list[bytes]:
        """Bytes to write, in order; [] when there are none. What was handed out counts as sent."""

    def unsent(self, n: int) -> None:
        """Of the bytes handed out so far, ``n`` are still with the adapter.

        Raises:
            ValueError: ``n`` is negative.
        """

    def reading_paused(self, paused: bool) -> None:
        """The adapter stopped or resumed reading; meanwhile silence is no sign of death."""

    def next_timeout(self, now: float) -> float | None:
        """When to call ``handle_timeout``, or None."""

    def handle_timeout(self, now: float) -> list[Event]:
        """Time has passed. A call that comes too early changes nothing."""

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Begin to end the connection: a Close frame, or before OPEN a 503 (server) or an abort (client). Idempotent.

        Raises:
            LocalProtocolError: the code or the reason may not be sent. That is checked in every state.
        """

    def abort(self) -> None:
        """End the connection at once."""


class HandshakeEndpoint:
    """Base of ``Server`` and ``Client``: the opening handshake first, then the ``Connection`` that came out of it."""

    __slots__ = ("_active", "connection")

    def __init__(self, handshake: Lifecycle) -> None:
        self._active: Lifecycle = handshake
        self.connection: Connection | None = None

    def _switch(self, connection: Connection) -> None:
        connection.take_over(self._active)
        self.connection = connection
        self._active = connection

    @property
    def role(self) -> Role:
        """Which side this is."""
        return self._active.role

    @property
    def state(self) -> State:
        """How far the connection has come."""
        return self._active.state

    @property
    def traffic(self) -> Traffic:
        """What went through so far; see ``Connection``."""
        return self._active.traffic

    @property
    def transport(self) -> Transport:
        """What to do with the transport once everything from ``data_to_send`` is flushed."""
        return self._active.transport

    @property
    def ending(self) -> Disconnected | None:
        """The ``Disconnected`` event once it has been emitted."""
        return self._active.ending

    @property
    def has_more(self) -> bool:
        """See ``Endpoint``."""
        return self.connection is not None and self.connection.has_more

    @property
    def buffered(self) -> int:
        """Bytes that are queued here or, as far as ``unsent`` told, with the adapter."""
        return self._active.buffered

    def receive_data(self, data: bytes | bytearray | memoryview, now: float = 0.0) -> list[Event]:
        """Take received bytes and return what they mean. Never raises for anything that a peer can send."""
        return self._active.receive_data(data, now)

    def receive_eof(self) -> list[Event]:
        """The peer will send no more. Idempotent."""
        return self._active.receive_eof()

    def receive_error(self, exc: BaseException, cause: Cause) -> list[Event]:
        """The transport failed.

        Args:
            exc: what the system reported; it becomes ``Disconnected.error``, without its traceback.
            cause: RESET, TLS_ERROR or TRANSPORT_ERROR.

        Raises:
            ValueError: another cause.
        """
        return self._active.receive_error(exc, cause)

    def transport_closed(self) -> list[Event]:
        """The transport is gone. Emits ``Disconnected``, once."""
        return self._active.transport_closed()

    def data_to_send(self) -> list[bytes]:
        """Bytes to write, in order; [] when there are none. What was handed out counts as sent."""
        return self._active.data_to_send()

    def unsent(self, n: int) -> None:
        """Of the bytes handed out so far, ``n`` are still with the adapter.

        Raises:
            ValueError: ``n`` is negative.
        """
        self._active.unsent(n)

    def reading_paused(self, paused: bool) -> None:
        """The adapter stopped or resumed reading; meanwhile silence is no sign of death."""
        self._active.reading_paused(paused)

    def next_timeout(self, now: float) -> float | None:
        """When to call ``handle_timeout``, or None."""
        return self._active.next_timeout(now)

    def handle_timeout(self, now: float) -> list[Event]:
        """Time has passed. A call that comes too early changes nothing."""
        return self._active.handle_timeout(now)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Begin to end the connection: a Close frame, or before OPEN a 503 (server) or an abort (client). Idempotent.

        Raises:
            LocalProtocolError: the code or the reason may not be sent. That is checked in every state.
        """
        self._active.close(code, reason)

    def abort(self) -> None:
        """End the connection at once."""
        self._active.abort()
