"""How the ``trace`` of `serve` and `connect` comes to hear a connection."""

from __future__ import annotations

from .._adapter._trace import Trace, Tracer
from ._channel import Tap, logger

__all__ = ["tap_for"]


def tap_for(trace: Trace | None, connection_id: int, *, is_server: bool) -> Tap | None:
    """Return what listens to a connection that is to be traced; None for the others, which it costs nothing."""
    return None if trace is None else Tracer(trace, connection_id, _failed, is_server=is_server)


def _failed(exc: Exception) -> None:
    logger.error("trace raised an exception; this connection is not traced any more", exc_info=exc)
