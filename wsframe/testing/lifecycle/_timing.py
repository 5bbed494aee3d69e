"""Rows about silence: keepalive, idleness, and peers that do not take what is sent."""

from __future__ import annotations

from typing import Any

from ..._config import Limits
from ..._enums import Cause, Initiator, Role, State
from ._acts import (
    AnswerClose,
    AnswerPings,
    Await,
    CallSend,
    Fin,
    KeepSending,
    Opening,
    Pass,
    ReadAgain,
    Reset,
    SendClose,
    SendFrame,
    Stall,
    StopReading,
)
from ._build import (
    AT_CLOSE_TIMEOUT,
    CLOSE_TIMEOUT,
    GRACE,
    HEARTBEAT,
    IDLE_TIMEOUT,
    PING_INTERVAL,
    PING_TIMEOUT,
    WRITE_TIMEOUT,
    both,
    by_timeout,
    client,
    closed,
    frame,
    leaves,
    only_in_the_core,
    server,
    without_close,
)
from ._row import Row

__all__ = ["ROWS"]

GROUP = "silence"
LOCAL, REMOTE, TRANSPORT = Initiator
OPEN = State.OPEN

#: From the last byte to the verdict.
LOST_AFTER = PING_INTERVAL + PING_TIMEOUT + GRACE
LOST_WORDS = "ping_interval + ping_timeout + 0.1 s"
KEEPALIVE: dict[str, Any] = {
    "settings": {"ping_interval": PING_INTERVAL, "ping_timeout": PING_TIMEOUT, "close_timeout": CLOSE_TIMEOUT}
}
IDLE: dict[str, Any] = {"settings": {"idle_timeout": IDLE_TIMEOUT, "close_timeout": CLOSE_TIMEOUT}}
BEATING: dict[str, Any] = {"settings": {"heartbeat": HEARTBEAT}}
UNANSWERED: dict[str, Any] = {
    **without_close(Cause.PING_TIMEOUT, LOCAL, frame(1011, "keepalive ping timeout")),
    "wire": ("Ping", "Close 1011"),
    "tcp": "dropped",
}
IDLE_CLOSE = frame(1001, "idle timeout")
TOO_SLOW = frame(1013, "too slow to receive")
SLOW = without_close(Cause.SLOW_PEER, LOCAL)
CAP: dict[str, Any] = {"settings": {"limits": Limits(write_hard_cap=1 << 20), "close_timeout": CLOSE_TIMEOUT}}
WAITS = only_in_the_core("`send` waits for room; nobody gets there who does not go around it")
ALIVE = "a live peer is not lost, whatever the clock says"


def alive(name: str, what: str, *acts: Any, wire: tuple[str, ...], **fields: Any) -> tuple[Row, ...]:
    """Keepalive does no harm: in the end the peer closes in order."""
    return tuple(
        make(
            name,
            what,
            Opening(),
            *acts,
            SendClose(1000, b"bye"),
            *leaves(role),
            group=GROUP,
            phase=State.CLOSING,
            wire=wire,
            same_as="peer-closes",
            because=ALIVE,
            **closed(REMOTE, frame(1000, "bye"), frame(1000)),
            **{**KEEPALIVE, **fields},
        )
        for role, make in ((Role.SERVER, server), (Role.CLIENT, client))
    )


# fmt: off
ROWS: tuple[Row, ...] = (
    *both("ping-unanswered", "the peer stops answering, without a word",
          Opening(), group=GROUP, phase=OPEN, age=LOST_AFTER, unanswered_ping=PING_TIMEOUT + GRACE,
          **KEEPALIVE, **UNANSWERED, **by_timeout(LOST_AFTER, LOST_WORDS)),
    *both("ping-unanswered-after-a-message", "the peer sends a message, and then stops answering, without a word",
          Opening(), SendFrame(1, b"hello"), group=GROUP, phase=OPEN, age=LOST_AFTER, delivered=("hello",),
          unanswered_ping=PING_TIMEOUT + GRACE,
          **KEEPALIVE, **UNANSWERED, **by_timeout(LOST_AFTER, LOST_WORDS),
          same_as="ping-unanswered", because="the message came before it, and was delivered"),
    *both("heartbeat-unanswered", "pings go out in a fixed period, and the peer sends messages but answers none",
          Opening(), KeepSending("messages"), group=GROUP, phase=OPEN, unanswered_ping=HEARTBEAT + GRACE,
          **BEATING, **UNANSWERED, **by_timeout(2 * HEARTBEAT + GRACE, "heartbeat, twice + 0.1 s"),
          same_as="ping-unanswered", because="the answer that was asked for did not come"),
    *alive("heartbeat-answered", "pings go out in a fixed period, and the peer answers them, and closes in the end",
           AnswerPings(), Pass(3 * HEARTBEAT + 0.1), wire=("Ping", "Close 1000"), **BEATING),
    *both("reset-while-a-ping-waits", "a ping waits for its answer, and the peer resets",
          Opening(), Await("Ping", PING_INTERVAL, PING_INTERVAL), Pass(0.1), Reset(), group=GROUP, phase=OPEN,
          wire=("Ping",), tcp="lost", age=PING_INTERVAL + 0.1, unanswered_ping=0.1, error=ConnectionResetError,
          **KEEPALIVE, **without_close(Cause.RESET, TRANSPORT),
          same_as="reset", because="the system has told before the time was up"),
    *alive("pings-answered", "the peer says nothing but answers pings, and closes in the end",
           AnswerPings(), Pass(3 * LOST_AFTER), wire=("Ping", "Close 1000")),
    *alive("pings-not-answered-but-messages", "the peer answers no ping but sends messages, and closes in the end",
           KeepSending("pings"), Pass(2 * LOST_AFTER), wire=("Pong", "Close 1000")),
    *alive("stalled-process", "the process stands still for twice the ping timeout, and the peer is alive",
           Await("Ping", PING_INTERVAL, PING_INTERVAL),
           Stall(2 * PING_TIMEOUT, meanwhile=(SendFrame(1, b"alive"),)), wire=("Ping", "Close 1000"),
           delivered=("alive",)),
    # Idleness.
    *both("idle", "no message comes or goes for the idle timeout, and the peer answers our Close",
          Opening(), Await("Close", IDLE_TIMEOUT, IDLE_TIMEOUT), AnswerClose(), Fin(), group=GROUP, phase=OPEN,
          wire=("Close 1001",), age=IDLE_TIMEOUT, when="idle_timeout", **IDLE,
          **closed(LOCAL, frame(1001), IDLE_CLOSE, cause=Cause.IDLE_TIMEOUT)),
    *both("idle-but-pings", "pings come but no message for the idle timeout, and the peer answers our Close",
          Opening(), KeepSending("pings"), Await("Close", IDLE_TIMEOUT, IDLE_TIMEOUT), AnswerClose(), Fin(),
          group=GROUP, phase=OPEN, wire=("Pong", "Close 1001"), when="idle_timeout", **IDLE,
          **closed(LOCAL, frame(1001), IDLE_CLOSE, cause=Cause.IDLE_TIMEOUT),
          same_as="idle", because="idleness is about messages"),
    *both("idle-unanswered", "no message comes or goes for the idle timeout, and the peer does not answer our Close",
          Opening(), group=GROUP, phase=OPEN, wire=("Close 1001",), tcp="dropped", age=IDLE_TIMEOUT, **IDLE,
          **without_close(Cause.IDLE_TIMEOUT, LOCAL, IDLE_CLOSE),
          **by_timeout(IDLE_TIMEOUT + CLOSE_TIMEOUT, "idle_timeout + close_timeout")),
    *both("idle-then-fin", "no message comes or goes for the idle timeout, and the peer answers with FIN",
          Opening(), Await("Close", IDLE_TIMEOUT, IDLE_TIMEOUT), Fin(), group=GROUP, phase=OPEN,
          wire=("Close 1001",), age=IDLE_TIMEOUT, when="idle_timeout", **IDLE,
          **without_close(Cause.IDLE_TIMEOUT, LOCAL, IDLE_CLOSE),
          same_as="idle-unanswered", because="either way our Close, which came first, was not answered"),
    # It does not take what is sent.
    *both("ping-cannot-leave", "the peer reads nothing, so that a ping cannot leave, and is silent",
          Opening(), StopReading(), CallSend(65536, count=None), group=GROUP, phase=OPEN, wire=("Binary",),
          tcp="dropped", age=LOST_AFTER, **KEEPALIVE, **SLOW,
          **by_timeout(LOST_AFTER + CLOSE_TIMEOUT, f"{LOST_WORDS} + close_timeout")),
    *both("write-timeout", "the peer reads nothing, and sends pings for ever",
          Opening(), StopReading(), CallSend(65536, count=None), KeepSending("pings"), group=GROUP, phase=OPEN,
          wire=("Binary",), tcp="dropped", **SLOW,
          settings={"write_timeout": WRITE_TIMEOUT, "close_timeout": CLOSE_TIMEOUT},
          # It may have begun to run while the application was still sending.
          after=CLOSE_TIMEOUT, by=1.25 * WRITE_TIMEOUT + CLOSE_TIMEOUT,
          when="write_timeout, a quarter more at the most + close_timeout",
          same_as="ping-cannot-leave", because="the peer did not take what was sent, whatever found that out"),
    *both("send-over-the-cap", "the peer reads nothing, and more is sent than the hard cap",
          Opening(), StopReading(), CallSend(65536, count=None, waits=False), group=GROUP, phase=OPEN,
          wire=("Binary",), tcp="dropped", **CAP, **SLOW, except_on=WAITS, **AT_CLOSE_TIMEOUT,
          same_as="ping-cannot-leave", because="the peer did not take what was sent, whatever found that out"),
    *both("send-over-the-cap-reset", "the peer reads nothing, more is sent than the hard cap, and the peer resets",
          Opening(), StopReading(), CallSend(65536, count=None, waits=False), Reset(), group=GROUP, phase=OPEN,
          wire=("Binary",), tcp="lost", **CAP, **SLOW, except_on=WAITS,
          same_as="ping-cannot-leave", because="the ending was decided before; nothing later overwrites it"),
    *both("send-over-the-cap-told", "more is sent than the hard cap, and the peer reads in time to be told so",
          Opening(), StopReading(), CallSend(65536, count=None, waits=False), ReadAgain(), Await("Close"), Fin(),
          group=GROUP, phase=OPEN, wire=("Binary", "Close 1013"), except_on=WAITS, **CAP,
          **without_close(Cause.SLOW_PEER, LOCAL, TOO_SLOW)),
)
