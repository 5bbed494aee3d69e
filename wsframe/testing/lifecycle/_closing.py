"""Rows about the closing handshake."""

from __future__ import annotations

from typing import Any

from ..._enums import Cause, Initiator, Role, State
from ..._errors import RemoteProtocolError
from ._acts import (
    Act,
    AnswerClose,
    Await,
    BreakTLS,
    CallAbort,
    CallClose,
    CallSend,
    Cancel,
    CutTLS,
    Fin,
    KeepSending,
    LoseTransport,
    NetworkError,
    Opening,
    Raise,
    ReadAgain,
    Reset,
    Return,
    SendBytes,
    SendClose,
    SendFrame,
    Shutdown,
    StopReading,
)
from ._build import (
    AT_CLOSE_TIMEOUT,
    AT_LINGER,
    CLOSE_TIMEOUT,
    both,
    client,
    closed,
    frame,
    leaves,
    server,
    without_close,
)
from ._row import Instead, Row

__all__ = ["ROWS"]

LOCAL, REMOTE, TRANSPORT = Initiator
G = State.CLOSING

BYE, OURS, THEIRS = frame(1000, "bye"), frame(4000, "ours"), frame(4001, "theirs")
#: More than fits anywhere between two sides of which one does not read.
FULL = (Opening(), StopReading(), CallSend(65536, count=None))

PEER, US = "closing, the peer began", "closing, we began"
DECIDED = "the closing handshake was complete; nothing later overwrites it"
IGNORED = "nothing counts after a Close frame but its answer"
NO_CANCELLATION = {"sync": Instead(None, "a thread cannot be cancelled")}
NO_TELLING = "nobody can tell a Close that crosses ours from one that answers it, and it does not matter"


def by_peer(
    name: str, what: str, *acts: Act, received: Any, sent: Any = None, **fields: Any
) -> tuple[Row, ...]:
    """The peer's Close comes first, and ours answers it; then the server closes TCP."""
    sent = frame(received.code) if sent is None else sent
    wire = ("Close",) if sent.code == 1005 else (f"Close {sent.code}",)
    return tuple(
        make(
            name,
            what,
            *acts,
            *leaves(role),
            group=PEER,
            phase=G,
            **{"wire": wire, **closed(REMOTE, received, sent), **fields},
        )
        for role, make in ((Role.SERVER, server), (Role.CLIENT, client))
    )


def by_us(
    name: str,
    what: str,
    *acts: Act,
    sent: Any,
    received: Any,
    roles: tuple[Role, ...] = (Role.SERVER, Role.CLIENT),
    **fields: Any,
) -> tuple[Row, ...]:
    """Our Close goes first, and the peer's answers it; then the server closes TCP."""
    wire = ("Close",) if sent.code == 1005 else (f"Close {sent.code}",)
    return tuple(
        (server if role is Role.SERVER else client)(
            name,
            what,
            *acts,
            *leaves(role),
            group=US,
            phase=G,
            **{"wire": wire, **closed(LOCAL, received, sent), **fields},
        )
        for role in roles
    )


def unanswered(
    name: str, what: str, *acts: Act, cause: Cause, initiator: Initiator, sent: Any = OURS, **fields: Any
) -> tuple[Row, Row]:
    """Our Close went, and the peer's never comes."""
    wire = () if sent is None else (f"Close {sent.code}",)
    return both(
        name,
        what,
        *acts,
        group=US,
        phase=G,
        **{"wire": wire, **without_close(cause, initiator, sent), **fields},
    )


def late(name: str, what: str, *acts: Act, sent: Any = OURS, **fields: Any) -> tuple[Row, Row]:
    """The close timeout passes after our Close."""
    return unanswered(
        name,
        what,
        *acts,
        cause=Cause.CLOSE_TIMEOUT,
        initiator=LOCAL,
        sent=sent,
        **{
            "tcp": "dropped",
            "settings": {"close_timeout": CLOSE_TIMEOUT},
            "age": CLOSE_TIMEOUT,
            **AT_CLOSE_TIMEOUT,
            **fields,
        },
    )


def stuck(
    name: str, what: str, *acts: Act, cause: Cause, initiator: Initiator, **fields: Any
) -> tuple[Row, Row]:
    """The peer's Close has come, but it does not read, so that ours cannot go."""
    return both(
        name,
        what,
        *FULL,
        SendClose(THEIRS.code, b"theirs"),
        *acts,
        group=PEER,
        phase=G,
        **{
            "cause": cause,
            "initiator": initiator,
            "code": THEIRS.code,
            "reason": THEIRS.reason,
            "received": THEIRS,
            "received_first": True,
            "wire": ("Binary",),
            "tcp": "dropped",
            **fields,
        },
    )


CLOSE_OURS = CallClose(OURS.code, OURS.reason)

# fmt: off
ROWS: tuple[Row, ...] = (
    # The peer begins.
    *by_peer("peer-closes", "the peer sends Close 1000 'bye'", Opening(), SendClose(1000, b"bye"), received=BYE),
    *by_peer("peer-closes-without-code", "the peer sends a Close without a code", Opening(), SendClose(),
             received=frame(1005), sent=frame(1005)),
    *by_peer("peer-goes-away", "the peer sends Close 1001", Opening(), SendClose(1001), received=frame(1001)),
    *by_peer("peer-closes-for-an-error", "the peer sends Close 1011 'oops'", Opening(), SendClose(1011, b"oops"),
             received=frame(1011, "oops")),
    *by_peer("peer-closes-4001", "the peer sends Close 4001 'theirs'", Opening(), SendClose(4001, b"theirs"),
             received=THEIRS),
    *by_peer("peer-closes-behind-messages", "the peer sends two messages and Close 1000 'bye' at once",
             Opening(), SendFrame(1, b"one"), SendFrame(2, b"two"), SendClose(1000, b"bye"), received=BYE,
             delivered=("one", b"two"),
             same_as="peer-closes", because="the messages came before it, and were delivered"),
    *by_peer("peer-closes-in-a-message", "the peer sends Close 1000 'bye' between two fragments",
             Opening(), SendFrame(1, b"one", fin=False), SendClose(1000, b"bye"), received=BYE,
             same_as="peer-closes", because="a Close may stand there; the message is not delivered"),
    *by_peer("peer-closes-and-goes-on", "the peer sends Close 1000 'bye', then a message and junk",
             Opening(), SendClose(1000, b"bye"), SendFrame(1, b"more"), SendBytes(b"\xff" * 20), received=BYE,
             tcp="dropped",
             same_as="peer-closes", because=IGNORED),
    *by_peer("peer-closes-twice", "the peer sends Close 1000 'bye', then Close 4001",
             Opening(), SendClose(1000, b"bye"), SendClose(4001), received=BYE, tcp="dropped",
             same_as="peer-closes", because=IGNORED),
    *both("peer-closes-and-fins", "the peer sends Close 1000 'bye' and ends its stream at once",
          Opening(), SendClose(1000, b"bye"), Fin(), group=PEER, phase=G, wire=("Close 1000",),
          **closed(REMOTE, BYE, frame(1000)),
          same_as="peer-closes", because="our Close answers all the same, and TCP still takes it"),
    client("peer-closes-and-resets", "the peer sends Close 1000 'bye', gets ours, and resets",
           Opening(), SendClose(1000, b"bye"), Await("Close"), Reset(), group=PEER, phase=G, wire=("Close 1000",),
          tcp="lost", **closed(REMOTE, BYE, frame(1000)), same_as="peer-closes", because=DECIDED),
    client("peer-closes-and-stays", "the server sends Close 1000 'bye' and does not close TCP",
           Opening(), SendClose(1000, b"bye"), group=PEER, phase=G, wire=("Close 1000",),
           **closed(REMOTE, BYE, frame(1000)), **AT_LINGER, same_as="peer-closes", because=DECIDED),
    *by_peer("peer-closes-while-full", "the peer does not read, sends Close 4001 'theirs', and reads after all",
             *FULL, SendClose(4001, b"theirs"), ReadAgain(), received=THEIRS, wire=("Binary", "Close 4001"),
             same_as="peer-closes-4001", because="it took a while, and came to the same end"),
    # The peer's Close has come, and ours cannot go.
    *stuck("peer-closes-and-never-reads", "the peer does not read, sends Close 4001 'theirs', and never reads",
           cause=Cause.CLOSE_TIMEOUT, initiator=REMOTE, age=CLOSE_TIMEOUT, settings={"close_timeout": CLOSE_TIMEOUT},
           **AT_CLOSE_TIMEOUT),
    *stuck("peer-closes-while-full-and-fins", "the peer does not read, sends Close 4001 'theirs', and ends its stream",
           Fin(), cause=Cause.CLOSE_TIMEOUT,
           initiator=REMOTE, age=CLOSE_TIMEOUT, settings={"close_timeout": CLOSE_TIMEOUT},
           **AT_CLOSE_TIMEOUT,
           same_as="peer-closes-and-never-reads", because="it could still have read; it did not in time"),
    *stuck("peer-closes-while-full-and-resets", "the peer does not read, sends Close 4001 'theirs', and resets",
           Reset(), cause=Cause.RESET, initiator=TRANSPORT, error=ConnectionResetError, tcp="lost"),
    *stuck("peer-closes-while-full-network-error",
           "the peer does not read, sends Close 4001 'theirs', and the network fails",
           NetworkError(), cause=Cause.TRANSPORT_ERROR, initiator=TRANSPORT, error=OSError, tcp="lost"),
    *stuck("peer-closes-while-full-transport-gone",
           "the peer does not read, sends Close 4001, and the transport is closed under us",
           LoseTransport(), cause=Cause.TRANSPORT_ERROR, initiator=TRANSPORT, tcp="lost"),
    *stuck("peer-closes-while-full-fin-transport-gone",
           "the peer does not read, sends Close 4001 and its FIN, and the transport is closed",
           Fin(), LoseTransport(), cause=Cause.EOF, initiator=REMOTE, tcp="lost"),
    *stuck("peer-closes-while-full-abort", "the peer does not read, sends Close 4001 'theirs', and we abort",
           CallAbort(), cause=Cause.LOCAL_ABORT, initiator=LOCAL),
    # We begin.
    *by_us("we-close", "the application closes with 1000, and the peer answers",
           Opening(), CallClose(), AnswerClose(), sent=frame(1000), received=frame(1000)),
    *by_us("we-close-4000", "the application closes with 4000 'ours', and the peer answers 4001 'theirs'",
           Opening(), CLOSE_OURS, Await("Close"), SendClose(4001, b"theirs"), sent=OURS, received=THEIRS),
    *by_us("we-close-without-code", "the application closes without a code, and the peer answers",
           Opening(), CallClose(None), AnswerClose(), sent=frame(1005), received=frame(1005)),
    *by_us("we-close-answered-without-code", "the application closes with 1000, and the peer answers without a code",
           Opening(), CallClose(), Await("Close"), SendClose(), sent=frame(1000), received=frame(1005)),
    *by_us("both-close", "both sides close at once: 4000 'ours' and 4001 'theirs'",
           Opening(), CLOSE_OURS, SendClose(4001, b"theirs"), sent=OURS, received=THEIRS,
           same_as="we-close-4000", because=NO_TELLING),
    *by_us("we-close-answered-late", "messages and pings come before the peer answers our Close 1000",
           Opening(), CallClose(), Await("Close"), SendFrame(1, b"late"), SendFrame(9, b"late"), SendClose(1000),
           sent=frame(1000), received=frame(1000),
           same_as="we-close", because="after our Close the peer's messages are dropped, and pings not answered"),
    *by_us("we-close-behind-messages", "messages come, and then the application closes with 1000",
           Opening(), SendFrame(1, b"one"), SendFrame(2, b"two"), CallClose(), AnswerClose(),
           sent=frame(1000), received=frame(1000), delivered=("one", b"two"),
           same_as="we-close", because="what came before our Close was delivered"),
    *by_us("we-close-while-full", "the peer does not read while we close with 1000, and reads after all",
           *FULL, CallClose(), ReadAgain(), AnswerClose(), sent=frame(1000), received=frame(1000),
           wire=("Binary", "Close 1000"),
           same_as="we-close", because="it took a while, and came to the same end"),
    *both("both-close-while-full", "the peer's Close 4001 'theirs' comes while our Close 4000 'ours' cannot go",
          *FULL, CLOSE_OURS, SendClose(4001, b"theirs"), ReadAgain(), Await("Close"), Fin(), group=US, phase=G,
          wire=("Binary", "Close 4000"), **closed(REMOTE, THEIRS, OURS)),
    *by_us("handler-returns", "the handler returns", Opening(), Return(), AnswerClose(),
           sent=frame(1000), received=frame(1000), roles=(Role.SERVER,),
           same_as="we-close", because="to return is to close with 1000"),
    *by_us("handler-raises", "the handler raises an exception", Opening(), Raise(), AnswerClose(),
           sent=frame(1011), received=frame(1011), roles=(Role.SERVER,)),
    *by_us("handler-cancelled", "the handler is cancelled", Opening(), Cancel(), AnswerClose(),
           sent=frame(1001), received=frame(1001), roles=(Role.SERVER,),
           except_on=NO_CANCELLATION),
    *by_us("block-left", "the `with` block of `connect` is left", Opening(), Return(), AnswerClose(),
           sent=frame(1000), received=frame(1000), roles=(Role.CLIENT,),
           same_as="we-close", because="to leave it is to close with 1000"),
    *by_us("block-left-by-an-exception", "the `with` block of `connect` is left by an exception",
           Opening(), Raise(), AnswerClose(),
           sent=frame(1011), received=frame(1011), roles=(Role.CLIENT,)),
    *by_us("block-cancelled", "the `with` block of `connect` is cancelled", Opening(), Cancel(), AnswerClose(),
           sent=frame(1001), received=frame(1001), roles=(Role.CLIENT,), except_on=NO_CANCELLATION),
    *by_us("shutdown", "the server is closed, and the peer is idle", Opening(), Shutdown(), AnswerClose(),
           sent=frame(1001), received=frame(1001), roles=(Role.SERVER,),
           same_as="handler-cancelled", because="either way it is the server that stops, and the peer is told so"),
    *by_us("shutdown-1012", "the server is closed with 1012 'restart'",
           Opening(), Shutdown(1012, "restart"), AnswerClose(),
           sent=frame(1012, "restart"), received=frame(1012), roles=(Role.SERVER,)),
    *by_us("shutdown-while-busy", "the server is closed while the peer sends, and the peer answers",
           Opening(), KeepSending("messages"), Shutdown(), AnswerClose(),
           sent=frame(1001), received=frame(1001), roles=(Role.SERVER,),
           same_as="handler-cancelled", because="a peer that answers is closed in order, busy or not"),
    client("we-close-and-reset", "the peer answers our Close 1000 and resets",
           Opening(), CallClose(), AnswerClose(), Reset(), group=US, phase=G, wire=("Close 1000",), tcp="lost",
          **closed(LOCAL, frame(1000), frame(1000)), same_as="we-close", because=DECIDED),
    client("we-close-and-server-stays", "the server answers our Close 1000 and does not close TCP",
           Opening(), CallClose(), AnswerClose(), group=US, phase=G, wire=("Close 1000",),
           **closed(LOCAL, frame(1000), frame(1000)), **AT_LINGER, same_as="we-close", because=DECIDED),
    client("we-close-and-server-stays-too-long",
           "the server answers our Close 1000 and does not close TCP within close_timeout",
           Opening(), CallClose(), AnswerClose(), group=US, phase=G, wire=("Close 1000",), tcp="dropped",
           settings={"close_timeout": CLOSE_TIMEOUT},
           **closed(LOCAL, frame(1000), frame(1000)), **AT_CLOSE_TIMEOUT,
           same_as="we-close", because=DECIDED),
    # Our Close is not answered.
    *late("our-close-unanswered", "the application closes with 4000 'ours', and the peer is mute",
          Opening(), CLOSE_OURS),
    *late("our-close-drowned", "the application closes with 4000 'ours', and the peer goes on sending messages",
          Opening(), CLOSE_OURS, Await("Close"), KeepSending("messages"), age=0.0,
          same_as="our-close-unanswered", because="the deadline is one for the whole closing handshake"),
    *late("our-close-pinged", "the application closes with 4000 'ours', and the peer goes on sending pings",
          Opening(), CLOSE_OURS, Await("Close"), KeepSending("pings"), age=0.0,
          same_as="our-close-unanswered", because="the deadline is one for the whole closing handshake"),
    server("shutdown-of-a-mute-peer", "the server is closed, and the peer is mute",
           Opening(), Shutdown(), group=US, phase=G, wire=("Close 1001",), tcp="dropped",
           age=CLOSE_TIMEOUT,
           settings={"close_timeout": CLOSE_TIMEOUT},
           **without_close(Cause.CLOSE_TIMEOUT, LOCAL, frame(1001)), **AT_CLOSE_TIMEOUT),
    server("shutdown-of-a-peer-that-does-not-read", "the server is closed, and the peer reads nothing",
           *FULL, Shutdown(), group=US, phase=G, wire=("Binary",), tcp="dropped",
           age=CLOSE_TIMEOUT, settings={"close_timeout": CLOSE_TIMEOUT},
           **without_close(Cause.CLOSE_TIMEOUT, LOCAL), **AT_CLOSE_TIMEOUT,
           same_as="our-close-stuck", because="our Close cannot go, whoever wanted it"),
    *late("our-close-stuck", "the application closes, and the peer never reads what was sent before",
          *FULL, CLOSE_OURS, sent=None, wire=("Binary",)),
    *unanswered("our-close-then-fin", "the peer ends its stream instead of answering our Close 4000 'ours'",
                Opening(), CLOSE_OURS, Await("Close"), Fin(), cause=Cause.EOF, initiator=REMOTE),
    *unanswered("our-close-then-cut", "the peer ends its stream inside a frame after our Close 4000 'ours'",
                Opening(), CLOSE_OURS, Await("Close"), SendFrame(1, b"hello", cut=4), Fin(),
                cause=Cause.TRUNCATED, initiator=REMOTE),
    *unanswered("our-close-then-reset", "the peer resets instead of answering our Close 4000 'ours'",
                Opening(), CLOSE_OURS, Await("Close"), Reset(), cause=Cause.RESET, initiator=TRANSPORT,
                error=ConnectionResetError, tcp="lost"),
    *unanswered("our-close-then-network-error", "the network fails after our Close 4000 'ours'",
                Opening(), CLOSE_OURS, Await("Close"), NetworkError(), cause=Cause.TRANSPORT_ERROR,
                initiator=TRANSPORT,
                error=OSError, tcp="lost"),
    *unanswered("our-close-then-transport-gone", "somebody closes the transport under us after our Close 4000 'ours'",
                Opening(), CLOSE_OURS, Await("Close"), LoseTransport(), cause=Cause.TRANSPORT_ERROR,
                initiator=TRANSPORT,
                tcp="lost"),
    *unanswered("our-close-then-tls-cut", "the stream ends after our Close 4000 'ours', without TLS close_notify",
                Opening(), CLOSE_OURS, Await("Close"), CutTLS(), cause=Cause.TLS_ERROR, initiator=TRANSPORT,
                error=OSError, tls=True, tcp="lost",
                except_on={"aio": Instead("our-close-then-fin", "asyncio does not tell a missing close_notify")}),
    *unanswered("our-close-then-bad-frame", "the peer breaks the rules after our Close 4000 'ours'",
                Opening(), CLOSE_OURS, Await("Close"), SendFrame(3, b""), Fin(), cause=Cause.PROTOCOL_ERROR,
                initiator=LOCAL,
                error=RemoteProtocolError, says="reserved opcode 3"),
    *unanswered("our-close-then-bad-text", "the peer sends invalid UTF-8 after our Close 4000 'ours'",
                Opening(), CLOSE_OURS, Await("Close"), SendFrame(1, b"\xff"), Fin(), cause=Cause.INVALID_DATA,
                initiator=LOCAL,
                error=RemoteProtocolError, says="invalid UTF-8 in a text message"),
    *unanswered("our-close-then-too-big", "the peer sends too big a message after our Close 4000 'ours'",
                Opening(), CLOSE_OURS, Await("Close"), SendFrame(2, b"x" * 1001), Fin(), cause=Cause.TOO_BIG,
                initiator=LOCAL,
                error=RemoteProtocolError, says="message of 1001 bytes or more is over the limit of 1000",
                settings={"max_message_size": 1000}),
    *unanswered("our-close-then-abort", "the application closes with 4000 'ours', and aborts before the answer",
                Opening(), CLOSE_OURS, Await("Close"), CallAbort(), cause=Cause.LOCAL_ABORT, initiator=LOCAL,
                tcp="dropped"),
    *unanswered("our-stuck-close-then-abort", "the application closes and aborts, and the peer reads nothing",
                *FULL, CLOSE_OURS, CallAbort(), cause=Cause.LOCAL_ABORT, initiator=LOCAL, sent=None, wire=("Binary",),
                tcp="dropped"),
    *unanswered("our-stuck-close-then-fin", "our Close cannot go, and the peer ends its stream",
                *FULL, CLOSE_OURS, Fin(), cause=Cause.EOF, initiator=REMOTE, sent=None, wire=("Binary",),
                tcp="dropped", settings={"close_timeout": CLOSE_TIMEOUT}, **AT_CLOSE_TIMEOUT),
    *unanswered("our-stuck-close-then-reset", "our Close cannot go, and the peer resets",
                *FULL, CLOSE_OURS, Reset(), cause=Cause.RESET, initiator=TRANSPORT, sent=None, wire=("Binary",),
                error=ConnectionResetError, tcp="lost"),
    *unanswered("our-close-then-tls-broken", "a broken TLS record comes after our Close 4000 'ours'",
                Opening(), CLOSE_OURS, Await("Close"), BreakTLS(), cause=Cause.TLS_ERROR, initiator=TRANSPORT,
                error=OSError, tls=True, tcp="lost",
                same_as="our-close-then-tls-cut", because="TLS has failed; the error says at what"),
)
