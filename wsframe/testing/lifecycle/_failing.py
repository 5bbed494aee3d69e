"""Rows in which the peer breaks the rules of an open WebSocket, or our limits."""

from __future__ import annotations

from typing import Any

from ..._config import Limits
from ..._enums import Cause, Initiator, State
from ..._errors import RemoteProtocolError
from ._acts import Act, Await, KeepSending, Opening, Reset, SendBytes, SendClose, SendFrame
from ._build import AT_LINGER, both, client, frame, reads, server, without_close
from ._row import Row

__all__ = ["ROWS"]

GROUP = "failed by us"
LOCAL = Initiator.LOCAL

DEFLATE: dict[str, Any] = {"settings": {"compression": True}}
SMALL: dict[str, Any] = {"settings": {"max_message_size": 1000}}
#: 2000 bytes "x", compressed (RFC 7692 s7.2.1).
MANY_X = bytes.fromhex("aaa81805a360148c8251300a46c150070000")
TOO_BIG = "message of 1001 bytes or more is over the limit of 1000"
BAD_TEXT = "invalid UTF-8 in a text message"
DECIDED = "the ending was decided before; nothing later overwrites it"


def failed(
    name: str, what: str, *acts: Act, cause: Cause, code: int, reason: str, **fields: Any
) -> tuple[Row, Row]:
    """We send a Close that says what was wrong; the peer reads it and leaves."""
    return both(name, what, Opening(), *acts, *reads("Close"), **fail(cause, code, reason), **fields)


def fail(cause: Cause, code: int, reason: str) -> dict[str, Any]:
    return {
        "group": GROUP,
        "phase": State.OPEN,
        "error": RemoteProtocolError,
        "says": reason,
        "wire": (f"Close {code}",),
        **without_close(cause, LOCAL, frame(code, reason)),
    }


def broken(name: str, what: str, *acts: Act, reason: str, **fields: Any) -> tuple[Row, Row]:
    """A rule of the protocol."""
    return failed(name, what, *acts, cause=Cause.PROTOCOL_ERROR, code=1002, reason=reason, **fields)


def invalid(name: str, what: str, *acts: Act, reason: str = BAD_TEXT, **fields: Any) -> tuple[Row, Row]:
    """What the data must be."""
    return failed(name, what, *acts, cause=Cause.INVALID_DATA, code=1007, reason=reason, **fields)


def too_big(name: str, what: str, *acts: Act, reason: str = TOO_BIG, **fields: Any) -> tuple[Row, Row]:
    """A limit of ours."""
    return failed(name, what, *acts, cause=Cause.TOO_BIG, code=1009, reason=reason, **fields)


# fmt: off
ROWS: tuple[Row, ...] = (
    # 1002
    *broken("rsv1", "a frame has RSV1 set, and no extension was agreed",
            SendFrame(1, b"hello", rsv=4), reason="reserved bit RSV1 is set and no extension was agreed"),
    *broken("rsv2", "a frame has RSV2 set",
            SendFrame(1, b"hello", rsv=2), reason="reserved bit RSV2 or RSV3 is set"),
    *broken("rsv1-on-a-ping", "a Ping has RSV1 set, and compression was agreed",
            SendFrame(9, b"hello", rsv=4), reason="RSV1 is set on a control or continuation frame", **DEFLATE),
    *broken("reserved-opcode", "a frame has a reserved opcode",
            SendFrame(3, b"hello"), reason="reserved opcode 3"),
    *broken("reserved-control-opcode", "a frame has a reserved opcode for control frames",
            SendFrame(11, b"hello"), reason="reserved opcode 11"),
    server("not-masked", "a client's frame is not masked", Opening(), SendFrame(1, b"hello", wrong_mask=True),
           *reads("Close"), **fail(Cause.PROTOCOL_ERROR, 1002, "frame is not masked, but a client must mask")),
    client("masked", "a server's frame is masked", Opening(), SendFrame(1, b"hello", wrong_mask=True),
           *reads("Close"), **fail(Cause.PROTOCOL_ERROR, 1002, "frame is masked, but a server must not mask")),
    *broken("long-ping", "a Ping has 126 bytes",
            SendFrame(9, b"x" * 126), reason="control frame over 125 bytes"),
    *broken("fragmented-ping", "a Ping is fragmented",
            SendFrame(9, b"x", fin=False), reason="fragmented control frame"),
    *broken("continuation-of-nothing", "a continuation frame continues nothing",
            SendFrame(0, b"hello"), reason="continuation frame without a message to continue"),
    *broken("message-in-a-message", "a message begins before the last one ends",
            SendFrame(1, b"one", fin=False), SendFrame(1, b"two"),
            reason="new message before the last fragment of the one in progress"),
    *broken("long-length", "a length is not encoded in the fewest bytes",
            SendFrame(2, b"x", length_form=16), reason="length 1 is not encoded in the fewest bytes"),
    *broken("one-byte-close", "a Close has one byte of payload",
            SendFrame(8, b"\x03"), reason="Close frame with one byte of payload (RFC 6455 s5.5.1)"),
    *broken("close-1005", "a Close has the code 1005",
            SendClose(1005), reason="Close frame with code 1005, which may not be sent (RFC 6455 s7.4)"),
    *broken("close-1005-and-goes-on", "a Close has the code 1005, and a message and a Close 1000 follow",
            SendClose(1005), SendFrame(1, b"more"), SendClose(1000),
            reason="Close frame with code 1005, which may not be sent (RFC 6455 s7.4)",
            same_as="close-1005", because="nothing counts after what failed the connection"),
    *broken("close-999", "a Close has the code 999",
            SendClose(999), reason="Close frame with code 999, which may not be sent (RFC 6455 s7.4)"),
    *broken("bad-frame-behind-messages", "messages come, and then a frame has RSV2 set",
            SendFrame(1, b"one"), SendFrame(2, b"two"), SendFrame(1, b"three", rsv=2),
            reason="reserved bit RSV2 or RSV3 is set", delivered=("one", b"two"),
            same_as="rsv2", because="the messages came before it, and were delivered"),
    *both("bad-frame-with-the-handshake", "a frame with RSV2 set comes in one piece with the opening handshake",
          Opening(together=(SendFrame(1, b"one"), SendFrame(1, b"two", rsv=2))), *reads("Close"),
          **fail(Cause.PROTOCOL_ERROR, 1002, "reserved bit RSV2 or RSV3 is set"), delivered=("one",),
          same_as="rsv2", because="how bytes are cut makes no difference"),
    *broken("bytes-that-are-no-frame", "bytes come that are no frame",
            SendBytes(b"\xff" * 20), reason="reserved bit RSV2 or RSV3 is set",
            same_as="rsv2", because="that is the first thing that is wrong with them"),
    # 1007
    *invalid("bad-text", "a text message is not UTF-8", SendFrame(1, b"hello\xff")),
    *invalid("bad-text-in-fragments", "a text message in fragments is not UTF-8, where they meet",
             SendFrame(1, b"hello\xe2\x82", fin=False), SendFrame(0, b"\xc0"),
             same_as="bad-text", because="a message is one, however it is cut"),
    *invalid("bad-text-at-once", "a text frame is not UTF-8 at its beginning, and its end never comes",
             SendFrame(1, b"\xff" * 100, cut=20),
             same_as="bad-text", because="it cannot become valid any more, so nobody waits for the rest"),
    *invalid("text-ends-inside-a-character", "a text message ends inside a character", SendFrame(1, b"hello\xe2\x82"),
             same_as="bad-text", because="half a character is no UTF-8"),
    *invalid("bad-close-reason", "the reason of a Close is not UTF-8", SendClose(1000, b"\xff"),
             reason="Close reason is not UTF-8 (RFC 6455 s5.5.1)"),
    *invalid("bad-deflate", "a compressed message cannot be inflated", SendFrame(1, b"\xff" * 10, rsv=4),
             reason="invalid compressed data", **DEFLATE),
    # 1009
    *too_big("too-big", "a message is over the limit", SendFrame(2, b"x" * 1001), **SMALL),
    *too_big("too-big-announced", "a frame announces more than the limit, and its payload never comes",
             SendFrame(2, b"x" * 1001, cut=14), **SMALL,
             same_as="too-big", because="the header says so; nothing is allocated for it"),
    *too_big("too-big-in-fragments", "the fragments of a message are over the limit together",
             SendFrame(2, b"x" * 600, fin=False), SendFrame(0, b"x" * 401), **SMALL,
             same_as="too-big", because="a message is one, however it is cut"),
    *too_big("too-big-inflated", "a compressed message is over the limit when it is inflated",
             SendFrame(2, MANY_X, rsv=4), reason="message is over the size limit when decompressed",
             settings={"compression": True, "max_message_size": 1000}),
    *too_big("too-many-fragments", "a message has more fragments than the limit",
             *(SendFrame(0 if n else 2, b"x", fin=False) for n in range(6)), reason="message has over 5 fragments",
             settings={"limits": Limits(max_fragments=5)}),
    # What happens afterwards changes nothing.
    *failed("bad-text-and-close", "a text message is not UTF-8, and a Close 1000 follows",
            SendFrame(1, b"hello\xff"), SendClose(1000), cause=Cause.INVALID_DATA, code=1007, reason=BAD_TEXT,
            same_as="bad-text", because="nothing counts after what failed the connection"),
    *both("bad-text-and-reset", "a text message is not UTF-8, and the peer resets when it is told so",
          Opening(), SendFrame(1, b"hello\xff"), Await("Close"), Reset(), tcp="lost",
          **fail(Cause.INVALID_DATA, 1007, BAD_TEXT), same_as="bad-text", because=DECIDED),
    *both("bad-text-and-stays", "a text message is not UTF-8, and the peer stays, whatever we say",
          Opening(), SendFrame(1, b"hello\xff"), **AT_LINGER,
          **fail(Cause.INVALID_DATA, 1007, BAD_TEXT), same_as="bad-text", because=DECIDED),
    *both("bad-text-and-goes-on", "a text message is not UTF-8, and the peer goes on sending",
          Opening(), SendFrame(1, b"hello\xff"), KeepSending("messages"), **AT_LINGER,
          **fail(Cause.INVALID_DATA, 1007, BAD_TEXT), same_as="bad-text", because=DECIDED),
)
