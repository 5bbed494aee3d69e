"""Rows in which an open WebSocket is lost, or dropped by us."""

from __future__ import annotations

from typing import Any

from ..._enums import Cause, Initiator, State
from ._acts import (
    Act,
    BreakTLS,
    CallAbort,
    CallSend,
    CutTLS,
    Fin,
    LoseTransport,
    NetworkError,
    Opening,
    Reset,
    SendFrame,
    StopReading,
)
from ._build import both, without_close
from ._row import Instead, Row

__all__ = ["ROWS"]

GROUP = "lost or dropped"
LOCAL, REMOTE, TRANSPORT = Initiator

WITHIN = "within a frame or a message, where makes no difference: that message is not complete"
NO_NOTIFY = "asyncio does not tell a missing close_notify"


def lost(
    name: str, what: str, *acts: Act, cause: Cause, initiator: Initiator, **fields: Any
) -> tuple[Row, Row]:
    return both(
        name, what, *acts, group=GROUP, phase=State.OPEN, **{**without_close(cause, initiator), **fields}
    )


# fmt: off
ROWS: tuple[Row, ...] = (
    *lost("fin", "the peer ends its stream without a Close",
          Opening(), Fin(), cause=Cause.EOF, initiator=REMOTE),
    *lost("fin-after-a-message", "the peer sends a message and ends its stream",
          Opening(), SendFrame(1, b"hello"), Fin(), cause=Cause.EOF, initiator=REMOTE, delivered=("hello",),
          same_as="fin", because="the message came before it, and was delivered"),
    *lost("fin-inside-a-header", "the peer ends its stream inside the header of a frame",
          Opening(), SendFrame(2, b"x" * 200, cut=3), Fin(), cause=Cause.TRUNCATED, initiator=REMOTE),
    *lost("fin-inside-a-payload", "the peer ends its stream inside the payload of a frame",
          Opening(), SendFrame(1, b"hello world", cut=9), Fin(), cause=Cause.TRUNCATED, initiator=REMOTE,
          same_as="fin-inside-a-header", because=WITHIN),
    *lost("fin-inside-a-close", "the peer ends its stream inside a Close frame",
          Opening(), SendFrame(8, b"\x03\xe8bye", cut=4), Fin(), cause=Cause.TRUNCATED, initiator=REMOTE,
          same_as="fin-inside-a-header", because="half a Close frame is none"),
    *lost("fin-between-fragments", "the peer ends its stream between two fragments of a message",
          Opening(), SendFrame(1, b"hel", fin=False), Fin(), cause=Cause.TRUNCATED, initiator=REMOTE,
          same_as="fin-inside-a-header", because=WITHIN),
    *lost("reset", "the peer resets",
          Opening(), Reset(), cause=Cause.RESET,
          initiator=TRANSPORT, error=ConnectionResetError, tcp="lost"),
    *lost("reset-inside-a-frame", "the peer resets inside a frame",
          Opening(), SendFrame(1, b"hello", cut=4), Reset(), cause=Cause.RESET, initiator=TRANSPORT,
          error=ConnectionResetError, tcp="lost",
          same_as="reset", because="after a reset nobody can know what else was on its way"),
    *lost("reset-while-full", "the peer does not read, and resets",
          Opening(), StopReading(), CallSend(65536, count=None), Reset(), cause=Cause.RESET, initiator=TRANSPORT,
          error=ConnectionResetError, tcp="lost", wire=("Binary",),
          same_as="reset", because="what was sent may or may not have arrived, as always without a Close"),
    *lost("tls-cut", "the stream ends without TLS close_notify, as when somebody cuts it off",
          Opening(), CutTLS(), cause=Cause.TLS_ERROR,
          initiator=TRANSPORT, error=OSError, tcp="lost", tls=True,
          except_on={"aio": Instead("fin", NO_NOTIFY)}),
    *lost("tls-cut-inside-a-frame", "the stream ends inside a frame and without TLS close_notify",
          Opening(), SendFrame(1, b"hello", cut=4), CutTLS(), cause=Cause.TLS_ERROR, initiator=TRANSPORT, error=OSError,
          tcp="lost", tls=True, same_as="tls-cut", because="it was cut off, and perhaps not by the peer",
          except_on={"aio": Instead("fin-inside-a-header", NO_NOTIFY)}),
    *lost("tls-broken", "a broken TLS record comes",
          Opening(), BreakTLS(), cause=Cause.TLS_ERROR,
          initiator=TRANSPORT, error=OSError, tcp="lost", tls=True,
          same_as="tls-cut", because="TLS has failed; the error says at what"),
    *lost("tls-fin-without-close", "the peer ends its stream in order, with TLS close_notify, but without a Close",
          Opening(), Fin(), cause=Cause.EOF, initiator=REMOTE, tls=True,
          same_as="fin", because="it is the same in TLS"),
    *lost("network-error", "the system reports that the network has failed",
          Opening(), NetworkError(), cause=Cause.TRANSPORT_ERROR,
          initiator=TRANSPORT, error=OSError, tcp="lost"),
    *lost("transport-gone", "somebody closes the transport under us",
          Opening(), LoseTransport(), cause=Cause.TRANSPORT_ERROR, initiator=TRANSPORT, tcp="lost"),
    *lost("abort", "the application aborts",
          Opening(), CallAbort(), cause=Cause.LOCAL_ABORT, initiator=LOCAL, tcp="dropped"),
    *lost("abort-while-full", "the peer does not read, and the application aborts",
          Opening(), StopReading(), CallSend(65536, count=None), CallAbort(), cause=Cause.LOCAL_ABORT,
          initiator=LOCAL,
          tcp="dropped", wire=("Binary",),
          same_as="abort", because="what was sent may or may not have arrived, as always without a Close"),
)
