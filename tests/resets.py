"""A three-message exchange that a bare peer resets after a given number of bytes, counted over both directions.

The script is written once, for both adapters: it yields what the peer does next, and whoever drives it does that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from dataclasses import dataclass, field

import framebuilder as fb
from wsframe import Cause, Disconnected, Initiator, Role

MESSAGES: list[str | bytes] = ["one", b"\0\xff" * 100, "drei: ü"]

#: Bytes to send, or how many bytes to receive at the most; the answer is what was received.
Step = bytes | int
Script = Generator[Step, bytes, None]

#: In a normal run each offset of the frames is swept, and of the heads of the opening handshake every so many.
STRIDE = 1 if os.environ.get("WSFRAME_SWEEP") == "all" else 9


@dataclass
class Progress:
    """How far the peer got."""

    role: Role
    """The role of the peer."""
    heads: int = 0
    """Bytes of the opening handshake."""
    moved: int = 0
    """Bytes in both directions."""
    request_done: bool = False
    opened: bool = False
    messages_sent: int = 0
    closed: bool = False
    """Its Close has gone."""
    echoed: list[str | bytes] = field(default_factory=list)
    """What came from the other side."""


def exchange(progress: Progress, limit: int | None) -> Script:
    """What the peer does, up to that many bytes."""
    script = _client(progress) if progress.role is Role.CLIENT else _server(progress)
    step = next(script)
    while True:
        left = len(step) if isinstance(step, bytes) else step
        if limit is not None:
            left = min(left, limit - progress.moved)
            if not left:
                return
        if isinstance(step, bytes):
            yield step[:left]
            progress.moved += left
            received = b""
            if left < len(step):
                return
        else:
            received = yield left
            assert received, "the other side has closed in the middle of it"
            assert len(received) <= left
            progress.moved += len(received)
        try:
            step = script.send(received)
        except StopIteration:
            return


def _client(progress: Progress) -> Script:
    yield fb.client_handshake_request()
    progress.request_done = True
    yield from _head()
    progress.opened = True
    progress.heads = progress.moved
    for message in MESSAGES:
        yield _frame(message, fb.SAMPLE_MASK)
        progress.messages_sent += 1
        progress.echoed.append((yield from _message()))
    yield fb.build(fb.CLOSE, fb.close_payload(1000), mask=fb.SAMPLE_MASK)
    progress.closed = True
    assert (yield from _read_frame()).payload == fb.close_payload(1000)


def _server(progress: Progress) -> Script:
    head = yield from _head()
    progress.request_done = True
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
    assert found is not None
    yield (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {fb.accept_for(found.group(1).decode())}\r\n\r\n"
    ).encode()
    progress.opened = True
    progress.heads = progress.moved
    for _ in MESSAGES:
        message = yield from _message()
        progress.echoed.append(message)
        yield _frame(message)
        progress.messages_sent += 1
    assert (yield from _read_frame()).payload == fb.close_payload(1000)
    yield fb.build(fb.CLOSE, fb.close_payload(1000))
    progress.closed = True


def _frame(message: str | bytes, mask: bytes | None = None) -> bytes:
    if isinstance(message, str):
        return fb.build(fb.TEXT, message.encode(), mask=mask)
    return fb.build(fb.BINARY, message, mask=mask)


def _head() -> Generator[Step, bytes, bytes]:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        # Nothing comes behind it before the next step.
        head += yield 1 << 16
    return head


def _take(count: int) -> Generator[Step, bytes, bytes]:
    data = b""
    while len(data) < count:
        data += yield count - len(data)
    return data


def _read_frame() -> Generator[Step, bytes, fb.ParsedFrame]:
    data = yield from _take(2)
    length = data[1] & 0x7F
    if length == 126:
        more = yield from _take(2)
        data, length = data + more, int.from_bytes(more, "big")
    data += yield from _take(length + (4 if data[1] & 0x80 else 0))
    (frame,) = fb.parse_all(data)
    return frame


def _message() -> Generator[Step, bytes, str | bytes]:
    frame = yield from _read_frame()
    return frame.payload.decode() if frame.opcode == fb.TEXT else frame.payload


def offsets(whole: Progress) -> list[int]:
    """Where to reset, when the whole exchange was that long."""
    return [*range(0, whole.heads, STRIDE), *range(whole.heads, whole.moved + 1)]


def check_whole(progress: Progress, received: list[str | bytes], ending: Disconnected) -> None:
    """Without a reset all of it works."""
    assert progress.closed
    assert progress.echoed == received == MESSAGES
    assert ending.clean
    assert ending.code == 1000


def check_reset(progress: Progress, received: list[str | bytes], ending: Disconnected) -> None:
    """What our side, whose peer did that and then sent RST, may tell its application."""
    assert progress.echoed == MESSAGES[: len(progress.echoed)]
    # A prefix, nothing garbled, nothing twice; of what was sent as a whole.
    assert received == MESSAGES[: len(received)]
    assert len(received) <= progress.messages_sent
    # What was answered had been received.
    assert len(received) >= len(progress.echoed) or progress.role is Role.SERVER
    assert ending.was_websocket <= (
        progress.request_done if progress.role is Role.CLIENT else progress.opened
    )
    if ending.cause is Cause.CLOSE_HANDSHAKE:
        # The reset came when all was said.
        assert progress.closed
        assert ending.clean
        assert ending.code == 1000
    else:
        assert ending.cause is Cause.RESET
        assert ending.initiator is Initiator.TRANSPORT
        assert isinstance(ending.error, ConnectionError)
        assert not ending.clean
        assert ending.code == (1006 if ending.received is None else 1000)
        assert ending.received is None or progress.closed
