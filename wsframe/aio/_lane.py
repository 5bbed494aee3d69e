"""``LaneHost``: the part of a channel that lays an express lane, and takes what is too unusual for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import get_ident
from typing import Any, Protocol

from .._backend import CodecError, Frame, Lane, encode_frame, encode_header
from .._client import Client
from .._connection import Connection
from .._enums import Role
from .._events import Event
from .._server import Server
from ._transports import as_own_transport, lane_class

__all__ = ["LaneHost", "Tap"]


class Tap(Protocol):
    """Who listens to the bytes of a connection, for logs and for debugging. It changes nothing and must not raise."""

    def received(self, data: memoryview | bytes | bytearray) -> None:
        """These bytes came. What is not ``bytes`` is valid until this returns."""

    def sent(self, data: bytes) -> None:
        """These bytes go to the transport."""


class LaneHost:
    """Base of ``Channel``."""

    __slots__ = (
        "_clock",
        "_corked",
        "_loop",
        "_plain",
        "_tap",
        "_write_over",
        "endpoint",
        "lane",
        "lost",
        "transport",
    )

    endpoint: Client | Server | Connection
    transport: asyncio.Transport | None
    _plain: asyncio.Transport | None
    lane: Lane | None
    lost: bool
    _loop: asyncio.AbstractEventLoop
    _clock: Callable[[], float]
    _tap: Tap | None
    _corked: bool
    _write_over: bool

    def open_lane(
        self,
        connection: Connection,
        inbox: object = None,
        on_message: Callable[[Any, str | bytes], object] | None = None,
        websocket: object = None,
        failed: Callable[[BaseException], object] | None = None,
    ) -> Lane | None:
        """Ordinary messages go through an express lane from now on; None where somebody listens to the bytes.

        Args:
            connection: the endpoint.
            inbox: gets the messages.
            on_message: gets ``websocket`` and each message's data instead.
            websocket: for ``on_message``.
            failed: gets what ``on_message`` raises.
        """
        if self._tap is not None or self.lost:
            return None
        own = as_own_transport(self.transport)
        self.lane = lane_class(own)(
            connection,
            self,
            self._clock,
            connection.role is Role.CLIENT,
            encode_frame,
            encode_header,
            transport=own,
            write=self._write_out if own is None else None,
            inbox=inbox,
            on_message=on_message,
            websocket=websocket,
            failed=failed,
            get_ident=get_ident,
        )
        self.lane.cork(self._corked)
        return self.lane

    def now(self) -> float:
        """The time in seconds, on the clock of the endpoint."""
        return self._clock()

    def take_decoded(self, messages: list[Event], rest: Frame | Exception | None) -> None:
        """The lane has found something out of the ordinary."""
        self._deliver(self._decoded, messages, rest)

    def _decoded(self, messages: list[Event], rest: Frame | Exception | None) -> list[Event]:
        if isinstance(rest, Exception) and not isinstance(rest, CodecError):
            raise rest
        assert isinstance(self.endpoint, Connection)
        return self.endpoint.take_decoded(messages, rest, self._clock())

    def tell_unsent(self) -> None:
        """The transport could not send everything."""
        if self.transport is not None:
            self._tell_unsent(self.transport)
            self._schedule()

    def _write_out(self, data: bytes) -> None:
        transport = self.transport
        if transport is None or self._write_over or self._is_closing():
            return
        transport.write(data)
        if transport.get_write_buffer_size():
            self.tell_unsent()

    def _is_closing(self) -> bool:
        """The transport is, or the one below its TLS, which has failed and not said so yet."""
        transport, plain = self.transport, self._plain
        return (transport is not None and transport.is_closing()) or (
            plain is not None and plain.is_closing()
        )

    def _tell_unsent(self, transport: asyncio.Transport) -> None:
        if not transport.is_closing():
            size = transport.get_write_buffer_size()
            if self._plain is not None:
                size += self._plain.get_write_buffer_size()
            self.endpoint.unsent(size)

    # What a channel has.

    def fail(self, exc: BaseException) -> None:
        """The application's code, or ours, has raised that."""
        raise NotImplementedError

    def _deliver(self, source: Callable[..., list[Event]], *arguments: Any) -> None:
        raise NotImplementedError

    def _schedule(self) -> None:
        raise NotImplementedError
