"""Many clients that send numbered messages as fast as they can: a process of its own, of bare sockets.

``python flood_clients.py PORT COUNT`` opens COUNT WebSockets to an echo server at 127.0.0.1:PORT, prints ``open``, and
from then on sends and receives without a pause. Each answers the server's Close frame in order, after the frame that it
is in the middle of. When all of them are at the end of the stream it prints one line of JSON: for each what came back,
and what it sent.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from wsframe.testing import framebuilder as fb

__all__ = ["PAYLOAD", "payload"]

#: Bytes of each message.
PAYLOAD = 200

#: How many different messages there are. Nobody comes so far.
NUMBERS = 50_000

#: Bytes in one go.
BATCH = 64 << 10


def payload(number: int) -> bytes:
    """What the message of that number has in it."""
    return b"%08d" % number + b"x" * (PAYLOAD - 8)


class Flood:
    """One client."""

    def __init__(self, sock: socket.socket, outgoing: memoryview, expected: memoryview, size: int) -> None:
        self.sock = sock
        self.outgoing = outgoing
        self.expected = expected
        # Bytes of a masked frame.
        self.size = size
        self.sent = self.matched = 0
        self.rest = b""
        self.close: bytes | None = None
        self.ended: str | None = None

    def write(self) -> bool:
        """Send more; False when there is nothing more to send."""
        if self.close is not None:
            if self.close:
                self.close = self.close[self.sock.send(self.close) :]
            return bool(self.close)
        if self.sent >= len(self.outgoing):
            return False
        self.sent += self.sock.send(self.outgoing[self.sent : self.sent + BATCH])
        return True

    def read(self) -> bool:
        """Take what came; False at the end."""
        try:
            data = self.sock.recv(BATCH)
        except ConnectionResetError:
            self.ended = "reset"
            return False
        if not data:
            self.ended = "eof"
            return False
        if not self.rest and data == self.expected[self.matched : self.matched + len(data)]:
            self.matched += len(data)
        else:
            self.rest += data
            self._look()
        return True

    def _look(self) -> None:
        """Something else than the next echo came: it should be the Close frame, at a boundary of frames."""
        expected = self.expected[self.matched : self.matched + len(self.rest)]
        same = 0
        while same < len(expected) and self.rest[same] == expected[same]:
            same += 1
        self.matched += same
        self.rest = self.rest[same:]
        if len(self.rest) >= 2 and len(self.rest) >= 2 + (self.rest[1] & 0x7F) and self.close is None:
            # The frame that was begun is finished first.
            left = -self.sent % self.size
            frame = fb.build(fb.CLOSE, self.rest[2:4], mask=fb.SAMPLE_MASK)
            self.close = bytes(self.outgoing[self.sent : self.sent + left]) + frame
            self.sent += left

    def report(self) -> dict[str, Any]:
        """What happened to it."""
        echo = PAYLOAD + 4
        return {
            "echoed": self.matched / echo,
            "sent": self.sent // self.size,
            "rest": self.rest.hex(),
            "ended": self.ended,
        }


def opened(port: int, number: int) -> socket.socket:
    """A bare socket after the opening handshake."""
    sock = socket.socket()
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 32 << 10)
    sock.connect(("127.0.0.1", port))
    sock.sendall(fb.client_handshake_request(f"/{number}", host=f"127.0.0.1:{port}"))
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    assert head.startswith(b"HTTP/1.1 101 "), head
    sock.setblocking(False)
    return sock


def main(port: int, count: int) -> None:
    """Run until all have ended."""
    outgoing = memoryview(
        b"".join(fb.build(fb.BINARY, payload(number), mask=fb.SAMPLE_MASK) for number in range(NUMBERS))
    )
    expected = memoryview(b"".join(fb.build(fb.BINARY, payload(number)) for number in range(NUMBERS)))
    floods = [
        Flood(opened(port, number), outgoing, expected, len(outgoing) // NUMBERS) for number in range(count)
    ]
    print("open", flush=True)
    selector = selectors.DefaultSelector()
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    for flood in floods:
        selector.register(flood.sock, both, flood)
    while selector.get_map():
        for key, events in selector.select():
            flood = key.data
            alive = True
            if events & selectors.EVENT_READ:
                alive = flood.read()
            if alive and events & selectors.EVENT_WRITE:
                try:
                    more = flood.write()
                except (ConnectionResetError, BrokenPipeError):
                    more = False
                if not more:
                    selector.modify(flood.sock, selectors.EVENT_READ, flood)
            elif alive and flood.close and not key.events & selectors.EVENT_WRITE:
                selector.modify(flood.sock, both, flood)
            if not alive:
                selector.unregister(flood.sock)
                flood.sock.close()
    print(json.dumps([flood.report() for flood in floods]))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
