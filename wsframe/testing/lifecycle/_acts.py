"""What the two sides of a row do, one act after the other.

A row's acts happen in order, each after the one before has had its effect: what the peer sends has arrived, what the
application said has been handed to the transport. Where that matters a script says so itself with `Await`. "The
side under test" is ours: a server or a client, with an application on top of it. "The peer" is a script on a socket.

A client under test sends its request by itself; the peer of a server sends one when the script says so (`Opening`,
`SendBytes`). An application on a server accepts what asks for a WebSocket, unless `Answer`, `Block` or `Raise` stands
before the request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

__all__ = [
    "Act",
    "Answer",
    "AnswerClose",
    "AnswerPings",
    "ApplicationAct",
    "Await",
    "Block",
    "BreakTLS",
    "CallAbort",
    "CallClose",
    "CallSend",
    "Cancel",
    "CutTLS",
    "Detach",
    "FailTLS",
    "Fin",
    "KeepSending",
    "LoseTransport",
    "NetworkError",
    "NobodyListens",
    "Opening",
    "Pass",
    "PeerAct",
    "Raise",
    "ReadAgain",
    "Reset",
    "Return",
    "Seen",
    "SendBytes",
    "SendClose",
    "SendEarly",
    "SendFrame",
    "Shutdown",
    "Stall",
    "StopReading",
]


class PeerAct:
    """Base of what the peer does.

    Attributes:
        over_sockets: a script on a loopback socket can do it.
    """

    __slots__ = ()
    over_sockets: ClassVar[bool] = True


class ApplicationAct:
    """Base of what the application of the side under test does."""

    __slots__ = ()
    over_sockets: ClassVar[bool] = True


# Both together, or neither.


@dataclass(frozen=True, slots=True)
class Opening:
    """The opening handshake, of both sides. The first act of the rows that end as a WebSocket, and of no others.

    A row whose ``settings`` ask for compression agrees on permessage-deflate, without parameters.

    Attributes:
        together: what the peer sends in one piece with its half of the handshake.
    """

    together: tuple[SendFrame | SendClose | SendBytes, ...] = ()
    over_sockets: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Pass:
    """Nothing happens for so many seconds.

    Attributes:
        seconds: how long.
    """

    seconds: float
    over_sockets: ClassVar[bool] = True


# The peer.


@dataclass(frozen=True, slots=True)
class SendBytes(PeerAct):
    """It sends bytes as they are: before it is a WebSocket, or instead of frames.

    Attributes:
        data: the bytes. In a server's response ``{accept}`` stands for the value of Sec-WebSocket-Accept that belongs
            to the client's key.
    """

    data: bytes


@dataclass(frozen=True, slots=True)
class SendEarly(PeerAct):
    """It sends bytes that arrive before the client has handed its request to the transport.

    TLS can bring them: what the server says at once may come with the end of the TLS handshake.

    Attributes:
        data: the bytes.
        fin: it ends its stream behind them.
    """

    data: bytes
    fin: bool = False
    over_sockets: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class SendFrame(PeerAct):
    """It sends a frame, masked as its role demands.

    Attributes:
        opcode: 0 to 15.
        payload: as it is before masking.
        fin: the FIN bit.
        rsv: the three reserved bits as a number: RSV1 is 4, RSV2 is 2, RSV3 is 1.
        wrong_mask: a client does not mask it, a server does.
        length_form: how many bits carry the length (7, 16, 64); None for the shortest, as it must be.
        cut: of the whole frame, only so many bytes are sent.
    """

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv: int = 0
    wrong_mask: bool = False
    length_form: Literal[7, 16, 64] | None = None
    cut: int | None = None


@dataclass(frozen=True, slots=True)
class SendClose(PeerAct):
    """It sends a Close frame, whether it has seen ours or not.

    Attributes:
        code: the code; None for a frame without one.
        reason: the reason.
    """

    code: int | None = None
    reason: bytes = b""


@dataclass(frozen=True, slots=True)
class AnswerClose(PeerAct):
    """It waits for our Close and answers it with a Close of the same code, and no reason."""


@dataclass(frozen=True, slots=True)
class AnswerPings(PeerAct):
    """From now on it answers every Ping with a Pong, beside the acts that follow."""


@dataclass(frozen=True, slots=True)
class Fin(PeerAct):
    """It ends its stream (over TLS with close_notify first) and still reads."""


@dataclass(frozen=True, slots=True)
class Reset(PeerAct):
    """It resets the connection: RST."""


@dataclass(frozen=True, slots=True)
class CutTLS(PeerAct):
    """It ends the TCP stream below TLS, without close_notify."""


@dataclass(frozen=True, slots=True)
class BreakTLS(PeerAct):
    """It sends bytes below TLS that TLS cannot have made."""


@dataclass(frozen=True, slots=True)
class FailTLS(PeerAct):
    """The TLS handshake fails.

    Attributes:
        how: "garbage": what it sends is not TLS; "certificate": the client, whichever side that is, does not trust
            the server's certificate, and says so.
    """

    how: Literal["garbage", "certificate"]


@dataclass(frozen=True, slots=True)
class NobodyListens(PeerAct):
    """There is no server: the system refuses the connection. Always the only act of the peer, for clients."""


@dataclass(frozen=True, slots=True)
class StopReading(PeerAct):
    """It reads no more. A few bytes still fit into the systems' buffers, but not what `CallSend` sends."""


@dataclass(frozen=True, slots=True)
class ReadAgain(PeerAct):
    """It reads again, all that has been waiting for it."""


@dataclass(frozen=True, slots=True)
class KeepSending(PeerAct):
    """From now on it sends something every ``every`` seconds, as long as it can, beside the acts that follow.

    Attributes:
        what: messages, pings, or bytes of an HTTP head that never ends.
        every: seconds.
    """

    what: Literal["messages", "pings", "head"]
    every: float = 0.05


Seen: TypeAlias = Literal["request", "response", "Close", "Ping", "Pong", "message", "EOF"]


@dataclass(frozen=True, slots=True)
class Await(PeerAct):
    """It waits until it has seen something from the side under test.

    Attributes:
        what: the client's request, a whole HTTP response (101 or another), a kind of frame, or the end of the stream.
        after: seconds after the act before during which it must not come.
        by: seconds after the act before within which it must come, on a machine that takes no time.
    """

    what: Seen
    after: float = 0.0
    by: float = 0.0


@dataclass(frozen=True, slots=True)
class NetworkError(PeerAct):
    """The system of the side under test reports that the network has failed (such as EHOSTUNREACH, ETIMEDOUT)."""

    over_sockets: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class LoseTransport(PeerAct):
    """The transport is gone, and nobody says why: somebody has closed it under the side under test."""

    over_sockets: ClassVar[bool] = False


# The application of the side under test.


@dataclass(frozen=True, slots=True)
class CallClose(ApplicationAct):
    """It closes the connection (and goes on; it does not wait for the end).

    Attributes:
        code: the Close code; None for an empty Close frame.
        reason: the reason.
    """

    code: int | None = 1000
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CallAbort(ApplicationAct):
    """It aborts the connection."""


@dataclass(frozen=True, slots=True)
class CallSend(ApplicationAct):
    """It sends binary messages.

    Attributes:
        size: bytes of each.
        count: how many; None: until no more goes out, and then one more waits.
        waits: it waits for room as it should; False: it sends whatever is waiting already.
    """

    size: int
    count: int | None = 1
    waits: bool = True


@dataclass(frozen=True, slots=True)
class Stall(ApplicationAct):
    """The whole process of the side under test stands still: no reading, no timers, as when an event loop is blocked.

    Attributes:
        seconds: how long.
        meanwhile: what the peer sends in this time.
    """

    seconds: float
    meanwhile: tuple[SendFrame | SendClose | SendBytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Return(ApplicationAct):
    """The handler returns, or, on a client, the ``with`` block of ``connect`` is left."""


@dataclass(frozen=True, slots=True)
class Raise(ApplicationAct):
    """The same by an exception of the application. Before the request: it is raised instead of an answer."""


@dataclass(frozen=True, slots=True)
class Cancel(ApplicationAct):
    """The same by cancellation."""


@dataclass(frozen=True, slots=True)
class Shutdown(ApplicationAct):
    """The whole server is closed.

    Attributes:
        code: the Close code for WebSockets.
        reason: the reason.
    """

    code: int = 1001
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Answer(ApplicationAct):
    """It answers the request with an HTTP response instead of accepting it.

    Attributes:
        status: HTTP status, 200 to 599.
        body: the body.
    """

    status: int
    body: bytes = field(default=b"")


@dataclass(frozen=True, slots=True)
class Block(ApplicationAct):
    """It does not answer the request."""


@dataclass(frozen=True, slots=True)
class Detach(ApplicationAct):
    """It takes the connection from the library, with all bytes so far."""


Act: TypeAlias = Opening | Pass | PeerAct | ApplicationAct
