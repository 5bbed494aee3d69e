"""The peers, each by the shortest way from bytes to messages and back that it offers without I/O.

Where a peer leaves a part of the work to its users, they do it here as its own adapters do: joining fragments,
decoding text. What is private in a peer may move from version to version; then the peer is missing, and says so.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.metadata import version
from itertools import repeat
from typing import Any

from bench_cases import WINDOW_BITS, Case, Stream
from bench_errors import MissingError
from bench_ours import MAX_SIZE
from bench_work import Contestant, Work


class Websockets(Contestant):
    """websockets, with its C extension or without; that only masks."""

    def __init__(self, *, speedups: bool) -> None:
        if not speedups:
            # An import of a name that is None fails as if there was no such module.
            sys.modules["websockets.speedups"] = None  # type: ignore[assignment]
        from websockets import frames, protocol
        from websockets.extensions import permessage_deflate

        loaded = sys.modules.get("websockets.speedups") is not None
        if speedups and not loaded:
            raise MissingError("this installation of websockets has no C extension")
        self.speedups = speedups
        self.frames = frames
        # Either of the two.
        self.apply_mask: Any = vars(frames)["apply_mask"]
        self.protocol = protocol
        self.deflate = permessage_deflate

    def describe(self) -> dict[str, str]:
        """Return its version, and whether its C extension masks."""
        return {"version": version("websockets"), "masking": "C" if self.speedups else "Python"}

    def mask(self, case: Case, key: bytes) -> Work:
        """Measure `apply_mask`, which gives a new object."""
        apply_mask, data = self.apply_mask, case.message

        def run(times: int) -> int:
            for _ in repeat(None, times):
                apply_mask(data, key)
            return times

        return Work(run, lambda: [apply_mask(data, key)])

    def build(self, case: Case) -> Work:
        """Measure `Frame(...).serialize`; its callers encode text themselves."""
        frame, client, payload = self.frames.Frame, case.client, case.payload
        opcode = self.frames.Opcode(case.opcode)

        def run_text(times: int) -> int:
            assert isinstance(payload, str)
            for _ in repeat(None, times):
                frame(opcode, payload.encode()).serialize(mask=client)
            return times

        def run_binary(times: int) -> int:
            assert isinstance(payload, bytes)
            for _ in repeat(None, times):
                frame(opcode, payload).serialize(mask=client)
            return times

        return Work(
            run_text if case.text else run_binary,
            lambda: [frame(opcode, case.message).serialize(mask=client)],
        )

    def connection(self, *, client: bool = False, compressed: bool = False) -> Any:
        """Return its connection without I/O, opened."""
        side = self.protocol.Side.CLIENT if client else self.protocol.Side.SERVER
        connection = self.protocol.Protocol(side, max_size=MAX_SIZE)
        if compressed:
            connection.extensions = [
                self.deflate.PerMessageDeflate(False, False, WINDOW_BITS, WINDOW_BITS),
            ]
        return connection

    def send(self, case: Case) -> Work:
        """Measure `Protocol.send_text` and `data_to_send`."""
        connection = self.connection(client=case.client)
        send_text, data_to_send, text = connection.send_text, connection.data_to_send, case.payload
        assert isinstance(text, str)

        def run(times: int) -> int:
            for _ in repeat(None, times):
                send_text(text.encode())
                data_to_send()
            return times

        def check() -> list[Any]:
            send_text(text.encode())
            return [b"".join(data_to_send())]

        return Work(run, check)

    def parse(self, case: Case, stream: Stream) -> Work:
        """Measure `Protocol.receive_data` and `events_received`, joining and decoding as its adapters do."""
        connection, chunks = self.connection(compressed=case.compressed), stream.chunks
        receive, events_received = connection.receive_data, connection.events_received

        def run_whole_text(times: int) -> int:
            count = 0
            for _ in repeat(None, times):
                for chunk in chunks:
                    receive(chunk)
                    events = events_received()
                    for event in events:
                        _ = event.data.decode()
                    count += len(events)
            return count

        def run_whole_binary(times: int) -> int:
            count = 0
            for _ in repeat(None, times):
                for chunk in chunks:
                    receive(chunk)
                    events = events_received()
                    for event in events:
                        _ = event.data
                    count += len(events)
            return count

        def run_fragments(times: int) -> int:
            count = 0
            parts = []
            for _ in repeat(None, times):
                for chunk in chunks:
                    receive(chunk)
                    for event in events_received():
                        parts.append(event.data)
                        if event.fin:
                            _ = b"".join(parts).decode()
                            parts.clear()
                            count += 1
            return count

        def check() -> list[Any]:
            messages: list[Any] = []
            parts = []
            for chunk in chunks:
                receive(chunk)
                for event in events_received():
                    parts.append(event.data)
                    if event.fin:
                        data = b"".join(parts)
                        messages.append(data.decode() if case.text else data)
                        parts.clear()
            return messages

        if case.fragments > 1:
            return Work(run_fragments, check, stream.messages)
        return Work(run_whole_text if case.text else run_whole_binary, check, stream.messages)


class Wsproto(Contestant):
    """wsproto, which is all Python."""

    def __init__(self) -> None:
        from wsproto import connection, events, extensions, frame_protocol

        self.api = connection
        self.events = events
        self.extensions = extensions
        self.frames = frame_protocol

    def describe(self) -> dict[str, str]:
        """Return its version."""
        return {"version": version("wsproto"), "masking": "Python"}

    def mask(self, case: Case, key: bytes) -> Work:
        """Measure `XorMaskerSimple`, which gives a new object and is itself new for every frame."""
        masker, data = self.frames.XorMaskerSimple, case.message

        def run(times: int) -> int:
            for _ in repeat(None, times):
                masker(key).process(data)
            return times

        return Work(run, lambda: [masker(key).process(data)])

    def build(self, case: Case) -> Work:
        """Measure `FrameProtocol.send_data`."""
        send_data, payload = self.frames.FrameProtocol(case.client, []).send_data, case.payload

        def run(times: int) -> int:
            for _ in repeat(None, times):
                send_data(payload)
            return times

        return Work(run, lambda: [send_data(payload)])

    def connection(self, *, client: bool = False, compressed: bool = False) -> Any:
        """Return its connection without I/O."""
        extensions = []
        if compressed:
            extension = self.extensions.PerMessageDeflate()
            extension.accept(f"permessage-deflate; client_max_window_bits={WINDOW_BITS}")
            extensions = [extension]
        kind = self.api.ConnectionType
        return self.api.Connection(kind.CLIENT if client else kind.SERVER, extensions)

    def send(self, case: Case) -> Work:
        """Measure `Connection.send`."""
        send, message, payload = (
            self.connection(client=case.client).send,
            self.events.TextMessage,
            case.payload,
        )

        def run(times: int) -> int:
            for _ in repeat(None, times):
                send(message(payload))
            return times

        return Work(run, lambda: [send(message(payload))])

    def parse(self, case: Case, stream: Stream) -> Work:
        """Measure `Connection.receive_data` and `events`, joining what it gives in parts."""
        connection, chunks = self.connection(compressed=case.compressed), stream.chunks
        receive, events = connection.receive_data, connection.events
        nothing: Any = "" if case.text else b""

        def run(times: int) -> int:
            count = 0
            parts: list[Any] = []
            for _ in repeat(None, times):
                for chunk in chunks:
                    receive(chunk)
                    for event in events():
                        if event.message_finished:
                            if parts:
                                parts.append(event.data)
                                _ = nothing.join(parts)
                                parts.clear()
                            else:
                                _ = event.data
                            count += 1
                        else:
                            # Also at the end of a chunk.
                            parts.append(event.data)
            return count

        def check() -> list[Any]:
            messages = []
            parts: list[Any] = []
            for chunk in chunks:
                receive(chunk)
                for event in events():
                    parts.append(event.data)
                    if event.message_finished:
                        messages.append(nothing.join(parts))
                        parts.clear()
            return messages

        return Work(run, check, stream.messages)


class Aiohttp(Contestant):
    """aiohttp's compiled reader, its writer, and its compiled masking."""

    def __init__(self) -> None:
        from aiohttp._websocket import helpers, reader, writer

        if not reader.WebSocketReader.__module__.endswith("reader_c"):
            raise MissingError("this installation of aiohttp has no C extensions")
        self.helpers = helpers
        self.reader = reader
        self.writer = writer

    def describe(self) -> dict[str, str]:
        """Return its version, and that its extensions are loaded."""
        return {"version": version("aiohttp"), "reader": "Cython", "masking": "Cython"}

    def mask(self, case: Case, key: bytes) -> Work:
        """Measure `websocket_mask`, which masks in place: there is no new object."""
        mask, data = self.helpers.websocket_mask, bytearray(case.message)

        def run(times: int) -> int:
            for _ in repeat(None, times):
                mask(key, data)
            return times

        def check() -> list[Any]:
            fresh = bytearray(case.message)
            mask(key, fresh)
            return [fresh]

        return Work(run, check)

    def build(self, case: Case) -> Work:
        """Measure the part of `WebSocketWriter.send_frame` that makes a frame, without the coroutine around it."""
        transport = _AiohttpTransport()
        anything: Any = _AiohttpProtocol()
        writer = self.writer.WebSocketWriter(anything, transport, use_mask=case.client)  # type: ignore[arg-type]
        write, opcode, written, payload = (
            writer._write_websocket_frame,
            case.opcode,
            transport.written,
            case.payload,
        )
        message = case.message

        def run_text(times: int) -> int:
            assert isinstance(payload, str)
            for _ in repeat(None, times):
                write(payload.encode(), opcode, 0)
                written.clear()
            return times

        def run_binary(times: int) -> int:
            for _ in repeat(None, times):
                write(message, opcode, 0)
                written.clear()
            return times

        def check() -> list[Any]:
            write(message, opcode, 0)
            wire = b"".join(written)
            written.clear()
            return [wire]

        return Work(run_text if case.text else run_binary, check)

    def send(self, case: Case) -> Work:
        """Measure `WebSocketWriter.send_frame`, its coroutine driven by hand: it never has to wait here."""
        transport = _AiohttpTransport()
        anything: Any = _AiohttpProtocol()
        writer = self.writer.WebSocketWriter(anything, transport, use_mask=case.client)  # type: ignore[arg-type]
        send_frame, opcode, written, text = writer.send_frame, case.opcode, transport.written, case.payload
        assert isinstance(text, str)

        def run(times: int) -> int:
            for _ in repeat(None, times):
                try:  # suppress() would cost more than the frame
                    send_frame(text.encode(), opcode).send(None)
                except StopIteration:
                    written.clear()
            return times

        def check() -> list[Any]:
            with suppress(StopIteration):
                send_frame(text.encode(), opcode).send(None)
            wire = b"".join(written)
            written.clear()
            return [wire]

        return Work(run, check)

    def parse(self, case: Case, stream: Stream) -> Work:
        """Measure `WebSocketReader.feed_data`; messages are taken from its queue without a coroutine."""
        anything: Any = _AiohttpProtocol()
        # So large that the queue never stops the reader, also when its count of bytes begins again at 2 ** 32.
        queue = self.reader.WebSocketDataQueue(anything, 2**31 - 1, loop=anything)
        feed = self.reader.WebSocketReader(queue, MAX_SIZE, case.compressed, True).feed_data
        waiting, chunks = queue._buffer, stream.chunks

        def run(times: int) -> int:
            count = 0
            for _ in repeat(None, times):
                for chunk in chunks:
                    feed(chunk)
                    for message, _size in waiting:
                        _ = message.data
                    count += len(waiting)
                    waiting.clear()
            return count

        def check() -> list[Any]:
            messages: list[Any] = []
            for chunk in chunks:
                feed(chunk)
                messages += [message.data for message, _size in waiting]
                waiting.clear()
            return messages

        return Work(run, check, stream.messages)


class _AiohttpTransport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append

    def is_closing(self) -> bool:
        """Return that it is open."""
        return False


class _AiohttpProtocol:
    """What the queue pauses, if it ever was full, and the writer asks whether it may go on."""

    _reading_paused = False
    _paused = False

    def pause_reading(self) -> None:
        """Refuse: the reader would stop in the middle of a measurement."""
        raise AssertionError("the queue was full")
