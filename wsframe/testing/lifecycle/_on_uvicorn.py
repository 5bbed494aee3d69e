"""What the rows of a server are on uvicorn, which does the HTTP and has ASGI applications."""

from __future__ import annotations

from dataclasses import replace

from ..._enums import Cause, State
from ..._events import CloseFrame
from ._acts import CallAbort, CallClose, Opening, SendBytes, Shutdown
from ._build import PLAIN_REQUEST
from ._row import Row

__all__ = ["on_uvicorn"]

_RESTART = CloseFrame(1012, "")
_STOPPED = "server/shutdown-1012"


def on_uvicorn(row: Row) -> Row | None:
    """The same row with what uvicorn decides; None where it cannot happen there."""
    if _cannot_happen(row):
        return None
    if not row.opens or not any(isinstance(act, Shutdown) for act in row.acts):
        return row
    # The server stops with 1012, whatever it is asked for.
    received = None if row.received is None else _RESTART
    row = replace(
        row,
        sent=None if row.sent is None else _RESTART,
        received=received,
        code=row.code if received is None else received.code,
        wire=tuple("Close 1012" if word.startswith("Close") else word for word in row.wire),
    )
    if received is None or row.name == _STOPPED:
        return row
    return replace(row, same_as=_STOPPED, because="uvicorn always stops with 1012")


def _cannot_happen(row: Row) -> bool:
    return (
        row.role.value == "client"
        # Until there is a whole request that asks for a WebSocket, uvicorn has the connection.
        or row.phase is State.CONNECTING
        or any(isinstance(act, SendBytes) and act.data == PLAIN_REQUEST for act in row.acts)
        # What comes in one piece with the request is dropped by uvicorn.
        or any(isinstance(act, Opening) and act.together for act in row.acts)
        # Applications may take their time, and let in whom they like.
        or (row.phase is State.HANDSHAKE and row.cause is Cause.OPEN_TIMEOUT)
        or "origins" in row.says
        # ASGI has no word for it.
        or any(isinstance(act, CallAbort) or act == CallClose(None) for act in row.acts)
    )
