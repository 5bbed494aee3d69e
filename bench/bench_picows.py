"""picows: its parser and its framing, driven without a socket.

They have no interface of their own; both sit inside an asyncio protocol. So a protocol is made, led through the
opening handshake with a transport that only keeps what is written, and then given bytes as an event loop would.
"""

from __future__ import annotations

import asyncio
import logging
from importlib.metadata import version
from itertools import repeat
from typing import Any

from bench_cases import CHUNK, Case, Stream
from bench_errors import UnsupportedError
from bench_ours import MAX_SIZE
from bench_wire import REQUEST
from bench_work import Contestant, Work


class Picows(Contestant):
    """picows' core: frames in and out, messages are not joined."""

    def __init__(self) -> None:
        from picows import picows

        self.picows = picows
        self.loop = asyncio.new_event_loop()
        self.logger = logging.getLogger("picows")
        self.logger.setLevel(logging.CRITICAL)
        # What would be collected is still in use by the C code.
        self.kept: list[Any] = []

    def describe(self) -> dict[str, str]:
        """Return its version."""
        return {"version": version("picows"), "parser": "Cython", "masking": "C"}

    def build(self, case: Case) -> Work:
        """Measure `WSTransport.send`, up to the transport's `write`."""
        transport = _Transport()
        sender = self.picows.WSTransport(case.client, transport, self.logger, self.loop)
        kind = self.picows.WSMsgType.TEXT if case.text else self.picows.WSMsgType.BINARY
        send, payload, written = sender.send, case.payload, transport.written

        def run(times: int) -> int:
            for _ in repeat(None, times):
                send(kind, payload)
                written.clear()
            return times

        def check() -> list[Any]:
            send(kind, payload)
            wire = b"".join(written)
            written.clear()
            return [wire]

        return Work(run, check)

    def send(self, case: Case) -> Work:
        """Measure the same: it has one way to send."""
        return self.build(case)

    def parse(self, case: Case, stream: Stream) -> Work:
        """Measure the protocol from `buffer_updated` to its listener, which reads each payload."""
        if case.fragments > 1:
            raise UnsupportedError("its core gives out frames and does not join them")
        if case.compressed:
            raise UnsupportedError("its core does not inflate")
        messages: list[Any] = []
        protocol = self.protocol(messages.append, text=case.text)
        get_buffer, buffer_updated, chunks = protocol.get_buffer, protocol.buffer_updated, stream.chunks

        def feed(chunk: bytes) -> None:
            # It parses in its own memory and unmasks in place, so the bytes are copied in; a socket would do that.
            start = 0
            while start < len(chunk):
                room = get_buffer(-1)
                size = min(len(room), len(chunk) - start)
                room[:size] = chunk[start : start + size] if start or size < len(chunk) else chunk
                buffer_updated(size)
                start += size

        def run(times: int) -> int:
            count = 0
            for _ in repeat(None, times):
                for chunk in chunks:
                    feed(chunk)
                    count += len(messages)
                    messages.clear()
            return count

        def check() -> list[Any]:
            for chunk in chunks:
                feed(chunk)
            found = messages.copy()
            messages.clear()
            return found

        return Work(run, check, stream.messages)

    def protocol(self, take: Any, *, text: bool) -> Any:
        """Return a server's protocol after the opening handshake, which gives every payload to `take`."""

        class Listener(self.picows.WSListener):  # type: ignore[misc, name-defined]
            if text:

                def on_ws_frame(self, transport: Any, frame: Any) -> None:
                    take(frame.get_payload_as_utf8_text())
            else:

                def on_ws_frame(self, transport: Any, frame: Any) -> None:
                    take(frame.get_payload_as_bytes())

        async def make() -> Any:
            protocol = self.picows.WSProtocol(
                None, None, False, lambda request: Listener(), self.logger, True, None, False, 10, 10,
                self.picows.WSAutoPingStrategy.PING_WHEN_IDLE, True, MAX_SIZE, None, 4 * CHUNK,
            )  # fmt: skip
            protocol.connection_made(_Transport())
            protocol.get_buffer(-1)[: len(REQUEST)] = REQUEST
            protocol.buffer_updated(len(REQUEST))
            return protocol

        protocol = self.loop.run_until_complete(make())
        self.kept = [protocol]
        return protocol


class _Socket:
    """Takes every option. Nothing is ever sent to it."""

    def fileno(self) -> int:
        """Return no descriptor, so that a write to it would fail."""
        return -1

    def setsockopt(self, *option: Any) -> None:
        """Take an option."""

    def getsockopt(self, *option: Any) -> int:
        """Return an option."""
        return 1


class _Transport:
    """Keeps what is written, and claims to have some of it left, so that nothing goes to the socket directly."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append

    def get_write_buffer_size(self) -> int:
        """Return that something waits."""
        return 1

    def writelines(self, parts: Any) -> None:
        """Take a header, which lies in memory that is used again, and a payload."""
        for part in parts:
            self.written.append(part.encode() if isinstance(part, str) else bytes(part))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the socket, and nothing else."""
        return _Socket() if name == "socket" else default
