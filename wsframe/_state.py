"""Theory of operation, and the tables that the lifecycle of every connection follows.

A connection is a state machine with five states, and six kinds of facts move it::

    CONNECTING --REQUEST--> HANDSHAKE --OPENED--> OPEN --CLOSE_QUEUED / CLOSE_RECEIVED--> CLOSING
         any of these --TERMINAL--> CLOSING --TRANSPORT_CLOSED--> CLOSED

*Facts* are things that happened and cannot be undone: a frame that arrived, bytes that were handed to the
adapter, a deadline that passed. States only grow, so an answer to "how far did it get?" never changes afterwards.

*The ending* is decided by the first **terminal fact**: the second of the two Close frames (received, or handed out),
the end of the stream without one, an error of the transport, a broken rule, a deadline, a refusal. It fixes the
cause and the phase (the state in which it occurred). That the transport is gone is a terminal fact too, if there was
none before; so every way to CLOSED leads through CLOSING. Whatever follows, the EOF after our 1002 for instance, only
moves the *transport verdict* along::

    OPEN --> SHUTDOWN_WRITE --> CLOSE --> ABORT

OPEN means "go on". SHUTDOWN_WRITE: everything is said, and what the peer still sends is read and thrown away;
closing with unread input would make the kernel send RST, and the peer would lose our Close frame. CLOSE: flush and
close. ABORT: do not wait for anything. The verdict, too, only ever moves to the right.

*The end* itself is one moment: the adapter says that the transport is gone, and ``Disconnected`` comes out. It is
the last event, and there is exactly one.

Time enters as a number that is handed in (``now``). A deadline that was started by a call without one begins to
run with the next call that has it; adapters ask for ``next_timeout(now)`` after everything they do.
"""

from __future__ import annotations

import enum

from ._enums import Cause, Initiator, State, Transport

__all__ = ["INITIATORS", "TRANSITIONS", "VERDICT_ORDER", "Fact", "next_state"]


class Fact(enum.Enum):
    """What moves a connection from one state to another."""

    REQUEST = "the opening request was seen (server) or handed out (client)"
    OPENED = "the opening handshake succeeded"
    CLOSE_QUEUED = "our Close frame was queued"
    CLOSE_RECEIVED = "the peer's Close frame arrived"
    TERMINAL = "the first terminal fact occurred"
    TRANSPORT_CLOSED = "the transport is gone"


_C, _H, _O, _G, _D = State.CONNECTING, State.HANDSHAKE, State.OPEN, State.CLOSING, State.CLOSED

#: (state, fact) -> state. A pair that is not here cannot happen: the core has refused or ignored it before.
TRANSITIONS: dict[tuple[State, Fact], State] = {
    (_C, Fact.REQUEST): _H,
    (_C, Fact.TERMINAL): _G,
    (_H, Fact.OPENED): _O,
    (_H, Fact.TERMINAL): _G,
    (_O, Fact.CLOSE_QUEUED): _G,
    (_O, Fact.CLOSE_RECEIVED): _G,
    (_O, Fact.TERMINAL): _G,
    # Our Close may follow the peer's, the peer's may follow ours, and either may be followed by a failure.
    (_G, Fact.CLOSE_QUEUED): _G,
    (_G, Fact.CLOSE_RECEIVED): _G,
    (_G, Fact.TERMINAL): _G,
    (_G, Fact.TRANSPORT_CLOSED): _D,
}


def next_state(state: State, fact: Fact) -> State:
    """The state after that fact.

    Raises:
        RuntimeError: the pair is impossible; that is a bug in the core and not something a peer can cause.
    """
    try:
        return TRANSITIONS[state, fact]
    except KeyError:
        raise RuntimeError(f"impossible in {state.name}: {fact.value}") from None


#: Who made the connection end. None: who sent Close first (or refused) decides.
INITIATORS: dict[Cause, Initiator | None] = {
    Cause.CLOSE_HANDSHAKE: None,
    Cause.CLOSE_TIMEOUT: None,
    Cause.REJECTED: None,
    Cause.EOF: Initiator.REMOTE,
    Cause.TRUNCATED: Initiator.REMOTE,
    Cause.RESET: Initiator.TRANSPORT,
    Cause.TLS_ERROR: Initiator.TRANSPORT,
    Cause.TRANSPORT_ERROR: Initiator.TRANSPORT,
    Cause.OPEN_TIMEOUT: Initiator.LOCAL,
    Cause.PING_TIMEOUT: Initiator.LOCAL,
    Cause.IDLE_TIMEOUT: Initiator.LOCAL,
    Cause.PROTOCOL_ERROR: Initiator.LOCAL,
    Cause.INVALID_DATA: Initiator.LOCAL,
    Cause.TOO_BIG: Initiator.LOCAL,
    Cause.SLOW_PEER: Initiator.LOCAL,
    Cause.LOCAL_ABORT: Initiator.LOCAL,
    Cause.PLAIN_HTTP: Initiator.LOCAL,
    Cause.NOT_HTTP: Initiator.LOCAL,
    Cause.DETACHED: Initiator.LOCAL,
}

#: The transport verdict only moves forward through these.
VERDICT_ORDER: dict[Transport, int] = {
    Transport.OPEN: 0,
    Transport.SHUTDOWN_WRITE: 1,
    Transport.CLOSE: 2,
    Transport.ABORT: 3,
}
