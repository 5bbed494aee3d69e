"""wsframe itself, with the codec that was asked for, and the limit that it is compared with."""

from __future__ import annotations

import os
import platform
import re
import sys
from itertools import repeat
from pathlib import Path
from typing import Any

from bench_basics import MIB
from bench_cases import WINDOW_BITS, Case, Stream
from bench_errors import MissingError
from bench_work import Contestant, Work

#: Large enough for every case. The limit is checked all the same.
MAX_SIZE = 32 * MIB
MAX_FRAGMENTS = 131072
#: A time for those who want one; no clock is read while anything is measured.
NOW = 1.0


class Wsframe(Contestant):
    """The checkout's own code, with one of its two codecs."""

    def __init__(self, codec: str) -> None:
        # Imported here: the environment decides which codec is loaded, and other contestants need neither.
        import wsframe
        from wsframe import _backend

        if _backend.backend != codec:
            raise MissingError(f"the {codec} codec is not loaded, but: {_backend.backend_description}")
        self.wsframe = wsframe
        self.backend = _backend

    def describe(self) -> dict[str, str]:
        """Return which codec of which files, and how it was compiled."""
        described = {
            "version": self.wsframe.__version__,
            "codec": self.backend.backend_description,
            "loaded from": str(Path(str(self.wsframe.__file__)).parent),
        }
        module = sys.modules[self.backend.encode_frame.__module__ or ""]
        if self.backend.backend == "cython":
            # A Cython module's functions may not say where they come from.
            module = sys.modules[f"{self.wsframe.__name__}._codec"]
            described["cython"] = _cython_version()
            described["compiler"] = _compiler(Path(str(module.__file__)))
        described["module"] = str(module.__file__)
        return described

    def mask(self, case: Case, key: bytes) -> Work:
        """Measure `apply_mask`."""
        apply_mask, data = self.backend.apply_mask, case.message

        def run(times: int) -> int:
            for _ in repeat(None, times):
                apply_mask(data, key)
            return times

        return Work(run, lambda: [apply_mask(data, key)])

    def build(self, case: Case) -> Work:
        """Measure `encode_frame`; for a client with a fresh key of the pool."""
        encode_frame, opcode, payload = self.backend.encode_frame, case.opcode, case.payload
        next_key = self.backend.MaskingKeys(os.urandom).next

        def run_server(times: int) -> int:
            for _ in repeat(None, times):
                encode_frame(opcode, payload)
            return times

        def run_client(times: int) -> int:
            for _ in repeat(None, times):
                encode_frame(opcode, payload, True, False, next_key())
            return times

        if case.client:
            return Work(run_client, lambda: [encode_frame(opcode, payload, True, False, next_key())])
        return Work(run_server, lambda: [encode_frame(opcode, payload)])

    def connection(self, *, client: bool = False, compressed: bool = False) -> Any:
        """Return a connection with its defaults, but for the size of messages."""
        ws = self.wsframe
        extensions = []
        if compressed:
            from wsframe._deflate import PermessageDeflate

            offer = (("client_max_window_bits", str(WINDOW_BITS)),)
            codec = PermessageDeflate(client_max_window_bits=WINDOW_BITS).accept_offer(offer)
            assert codec is not None
            extensions = [codec]
        return ws.Connection(
            ws.Role.CLIENT if client else ws.Role.SERVER,
            extensions=extensions,
            limits=ws.Limits(max_message_size=MAX_SIZE, write_hard_cap=2 * MAX_SIZE),
        )

    def send(self, case: Case) -> Work:
        """Measure `send_text` and `data_to_send`."""
        connection = self.connection(client=case.client)
        send = connection.send_text if case.text else connection.send_bytes
        data_to_send, payload = connection.data_to_send, case.payload

        def run(times: int) -> int:
            for _ in repeat(None, times):
                send(payload)
                data_to_send()
            return times

        def check() -> list[Any]:
            send(payload)
            return [b"".join(data_to_send())]

        return Work(run, check)

    def parse(self, case: Case, stream: Stream) -> Work:
        """Measure `Connection.receive_data`."""
        connection, chunks = self.connection(compressed=case.compressed), stream.chunks
        receive = connection.receive_data

        def run(times: int) -> int:
            count = 0
            for _ in repeat(None, times):
                for chunk in chunks:
                    events = receive(chunk, NOW)
                    for event in events:
                        _ = event.data
                    count += len(events)
                    while connection.has_more:
                        events = receive(b"", NOW)
                        for event in events:
                            _ = event.data
                        count += len(events)
            return count

        def check() -> list[Any]:
            events = []
            for chunk in chunks:
                events += receive(chunk, NOW)
                while connection.has_more:
                    events += receive(b"", NOW)
            return [event.data for event in events]

        return Work(run, check, stream.messages)

    def decode(self, case: Case, stream: Stream) -> Work:
        """Measure the bare `Decoder`."""
        decoder = self.backend.Decoder(True, MAX_SIZE, MAX_FRAGMENTS)
        feed, decode, chunks = decoder.feed, decoder.decode, stream.chunks

        def run(times: int) -> int:
            count = 0
            for _ in repeat(None, times):
                for chunk in chunks:
                    events: list[Any] = []
                    feed(chunk)
                    decode(events)
                    while decoder.has_more:
                        decode(events)
                    for event in events:
                        _ = event.data
                    count += len(events)
            return count

        def check() -> list[Any]:
            events: list[Any] = []
            for chunk in chunks:
                feed(chunk)
                decode(events)
                while decoder.has_more:
                    decode(events)
            return [event.data for event in events]

        return Work(run, check, stream.messages)


class Memcpy(Contestant):
    """The limit: every message's payload is copied into a new object, and that is all."""

    baseline = True

    def describe(self) -> dict[str, str]:
        """Return what copies."""
        return {"version": platform.python_version(), "how": "bytes(bytearray), once for every message"}

    def copies(self, case: Case, messages: int) -> Work:
        """Copy the payload so many times."""
        # bytes(bytes) would only count a reference.
        data = bytearray(case.message)

        def run(times: int) -> int:
            for _ in repeat(None, times * messages):
                bytes(data)
            return times * messages

        return Work(run, lambda: [bytes(data)] * messages, messages)

    def mask(self, case: Case, key: bytes) -> Work:
        """Copy."""
        return self.copies(case, 1)

    def build(self, case: Case) -> Work:
        """Copy."""
        return self.copies(case, 1)

    def send(self, case: Case) -> Work:
        """Copy."""
        return self.copies(case, 1)

    def parse(self, case: Case, stream: Stream) -> Work:
        """Copy."""
        return self.copies(case, stream.messages)

    def decode(self, case: Case, stream: Stream) -> Work:
        """Copy."""
        return self.copies(case, stream.messages)


def _cython_version() -> str:
    """Every Cython module shares types with others of its version, and those lie in a module named for it."""
    for name in sys.modules:
        if found := re.match(r"_cython_(\d+(?:_\w+?)*?)(?:_?t?)$", name):
            return found[1].replace("_", ".")
    return "unknown"


def _compiler(path: Path) -> str:
    """Compilers leave their name in what they make (on Linux, in the ELF section .comment)."""
    try:
        found = re.search(rb"(?:GCC: \([^)]*\) |clang version )[\w.+-]+", path.read_bytes())
    except OSError:
        found = None
    return found[0].decode("ascii", "replace") if found else "unknown"
