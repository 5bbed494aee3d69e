"""The table: all rows, group by group."""

from __future__ import annotations

from . import _closing, _failing, _losing, _opening_client, _opening_server, _timing
from ._row import Row

__all__ = ["ROWS"]

#: Every way in which a connection can end.
ROWS: tuple[Row, ...] = (
    *_opening_server.ROWS,
    *_opening_client.ROWS,
    *_closing.ROWS,
    *_losing.ROWS,
    *_failing.ROWS,
    *_timing.ROWS,
)
