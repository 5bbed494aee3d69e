"""How the ``trace`` of `serve` and `connect` comes to hear a connection."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from .._adapter._trace import Trace, Tracer
from ._link import logger
from ._transport import Buffer, SyncTransport

__all__ = ["traced"]


def traced(
    transport: SyncTransport, trace: Trace | None, connection_id: int, *, is_server: bool
) -> SyncTransport:
    """Return a transport that tells ``trace`` what goes through it; the same one where there is none."""
    if trace is None:
        return transport
    return _TracedTransport(transport, Tracer(trace, connection_id, _failed, is_server=is_server))


def _failed(exc: Exception) -> None:
    logger.error("trace raised an exception; this connection is not traced any more", exc_info=exc)


class _TracedTransport:
    """Another transport, and who hears what it carries. What is sent is told when the system has taken it."""

    def __init__(self, transport: SyncTransport, tracer: Tracer) -> None:
        self._transport = transport
        self._tracer = tracer
        self.sock: socket.socket = transport.sock
        self.waits = transport.waits
        self.can_half_close = transport.can_half_close

    @property
    def secured(self) -> bool:
        return self._transport.secured

    @property
    def buffered(self) -> bool:
        return self._transport.buffered

    def secure(self) -> bool:
        return self._transport.secure()

    def receive(self, timeout: float | None) -> memoryview | None:
        data = self._transport.receive(timeout)
        if data:
            self._tracer.received(data)
        return data

    def send(self, buffers: Sequence[Buffer]) -> int:
        count = left = self._transport.send(buffers)
        for buffer in buffers:
            if not left:
                break
            taken = bytes(buffer[:left])
            left -= len(taken)
            self._tracer.sent(taken)
        return count

    def interest(self, read: bool, write: bool) -> tuple[bool, bool]:
        return self._transport.interest(read, write)

    def shutdown_write(self) -> None:
        self._transport.shutdown_write()

    def say_goodbye(self) -> None:
        self._transport.say_goodbye()

    def interrupt(self) -> None:
        self._transport.interrupt()

    def close(self) -> None:
        self._transport.close()
