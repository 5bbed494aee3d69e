"""For sweeps: what is judged after every run, and how many points were swept.

What is true of a connection's ending is worked out from the bytes that its transport delivered and from how these
ended, with the frame builder's parser and not with the code under test.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import gc
import logging
import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from framebuilder import parse_all
from wsframe import Cause, Disconnected, State
from wsframe.testing import Fault, FaultyListener, FaultySocket

#: What a sweep lets go wrong: name -> what makes the fault anew for every run.
KINDS: dict[str, Callable[[], BaseException | Fault]] = {
    "reset": lambda: ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    "pipe": lambda: BrokenPipeError(errno.EPIPE, "Broken pipe"),
    "timed out": lambda: TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
    "unreachable": lambda: OSError(errno.EHOSTUNREACH, "No route to host"),
    "no memory": lambda: OSError(errno.ENOBUFS, "No buffer space available"),
    "tls": lambda: ssl.SSLError(ssl.SSL_ERROR_SSL, "bad record"),
    "eof": lambda: Fault.EOF,
    "partial": lambda: Fault.PARTIAL,
    "not now": lambda: BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    "interrupted": lambda: InterruptedError(errno.EINTR, "Interrupted system call"),
}

#: Faults after which everything has to go on as if nothing had happened.
HARMLESS = ("partial", "not now", "interrupted")

#: Endings that only time brings.
TIMEOUTS = {Cause.OPEN_TIMEOUT, Cause.PING_TIMEOUT, Cause.CLOSE_TIMEOUT, Cause.SLOW_PEER}

#: So many points of a scenario are in a sample.
SAMPLE = 8

#: How many points were swept, by adapter; printed at the end of the run.
swept: collections.Counter[str] = collections.Counter()


def system_sockets() -> tuple[socket.socket, socket.socket]:
    """A listener, and a client that is connected to it: of this system, with little room in them.

    Both ends are in this process and what is sent is there at once, so they can be used in virtual time.
    """
    listener, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    for sock in (listener, client):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    # Linux finds a name that is free.
    listener.bind("")
    listener.listen()
    client.connect(listener.getsockname())
    return listener, client


def choose(kinds: Iterable[str], points: int, everything: bool, seed: str) -> list[tuple[str, int]]:
    """Which failure to try at which point: all of them, or a sample that is spread evenly.

    Args:
        kinds: of failures.
        points: where they can be.
        everything: no sample.
        seed: samples with different ones are different.
    """
    pairs = [(kind, n) for n in range(1, points + 1) for kind in kinds]
    if everything or len(pairs) <= SAMPLE:
        return pairs
    step = len(pairs) / SAMPLE
    first = zlib.crc32(seed.encode()) % step
    return [pairs[int(first + step * k)] for k in range(SAMPLE)]


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Says in a failure where it was."""
    try:
        yield
    except BaseException as exc:
        exc.add_note(what)
        raise


class Records(logging.Handler):
    """Keeps what is logged above DEBUG by wsframe and asyncio."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)

    def __enter__(self) -> Records:
        for name in ("wsframe", "asyncio"):
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("wsframe", "asyncio"):
            logging.getLogger(name).removeHandler(self)

    @property
    def texts(self) -> list[str]:
        return [f"logged: {record.levelname} {record.getMessage()} {record.exc_info}" for record in self.kept]


def cause_of(exc: BaseException) -> Cause:
    """What the documentation says that an exception of a transport is called."""
    if isinstance(exc, ssl.SSLError):
        return Cause.TLS_ERROR
    if isinstance(exc, (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)):
        return Cause.RESET
    return Cause.TRANSPORT_ERROR


class Wire:
    """What one side's transport has delivered, and the first thing that ended it.

    Args:
        threads: where several threads use it, which of their errors comes first is not for us to say.
    """

    def __init__(self, *, threads: bool = False) -> None:
        self.delivered = bytearray()
        self.end: BaseException | str | None = None
        self._threads = threads

    def note(self, end: BaseException | str) -> None:
        if self.end is None:
            self.end = end

    def agree(self, error: BaseException | None) -> None:
        """Believe the ending about which error it was, if it may be any."""
        if self._threads and isinstance(self.end, OSError) and isinstance(error, OSError):
            self.end = error

    @property
    def heard_close(self) -> bool:
        return any(frame[0] & 0x0F == 8 for frame in self._frames()[0])

    def _frames(self) -> tuple[list[bytes], bool]:
        """The complete frames behind the opening handshake's head, and whether something is begun and not ended."""
        head, separator, rest = bytes(self.delivered).partition(b"\r\n\r\n")
        if not separator:
            return [], bool(head)
        frames: list[bytes] = []
        while rest:
            size = _frame_size(rest)
            if size is None or size > len(rest):
                return frames, True
            frames.append(rest[:size])
            parse_all(rest[:size])
            rest = rest[size:]
        fins = [frame[0] & 0x80 for frame in frames if frame[0] & 0x0F < 8]
        return frames, bool(fins) and not fins[-1]

    def causes(self) -> set[Cause]:
        """What may be true of the ending of that side, if nobody there has aborted it and time has not run out."""
        if self.heard_close:
            return {Cause.CLOSE_HANDSHAKE}
        if self.delivered.startswith(b"HTTP/1.1 503"):
            return {Cause.REJECTED}
        if isinstance(self.end, BaseException):
            return {cause_of(self.end)}
        if self.end == "eof":
            # The peer's end of the stream before the answer is a truncated handshake, if anything came.
            return {Cause.TRUNCATED if self._frames()[1] else Cause.EOF}
        return set()


#: Of the two sides of the connection of the run that is on.
WIRES: dict[str, Wire] = {}


class RecordingSocket(FaultySocket):
    """The same for a socket of the system."""

    side = "client"

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        with self._noting():
            count = super().recv_into(buffer, nbytes, flags)
        self._note_received(bytes(buffer[:count]))
        return count

    def send(self, data: Any, flags: int = 0, /) -> int:
        with self._noting():
            return super().send(data, flags)

    def sendmsg(self, *arguments: Any) -> int:
        with self._noting():
            return super().sendmsg(*arguments)

    def setsockopt(self, *arguments: Any) -> None:
        try:
            super().setsockopt(*arguments)
        except OSError as exc:
            WIRES[self.side].note(exc)
            raise

    def _note_received(self, data: bytes) -> None:
        WIRES[self.side].delivered += data
        if not data:
            WIRES[self.side].note("eof")

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except (BlockingIOError, InterruptedError):
            raise
        except OSError as exc:
            WIRES[self.side].note(exc)
            raise


class RecordingListener(FaultyListener):
    def accept(self) -> tuple[RecordingSocket, Any]:
        sock, address = socket.socket.accept(self)
        accepted = RecordingSocket(sock, self.faults)
        accepted.side = "server"
        return accepted, address


def _frame_size(data: bytes) -> int | None:
    """How long the first frame is, as its header says."""
    if len(data) < 2:
        return None
    length, start = data[1] & 0x7F, 2
    if length >= 126:
        width = 2 if length == 126 else 8
        if len(data) < 2 + width:
            return None
        length, start = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
    return start + (4 if data[1] & 0x80 else 0) + length


def judge(side: str, wire: Wire, ending: Disconnected | None, *, stalled: bool, aborted: bool) -> list[str]:
    """What is wrong with an ending, in words."""
    if ending is None:
        return [f"{side}: no ending"]
    if wire.end is None and not wire.delivered and ending.phase is State.CONNECTING:
        # There never was a connection.
        return [] if isinstance(ending.error, OSError) or stalled else [f"{side}: {ending!r}"]
    wire.agree(ending.error)
    allowed = wire.causes()
    if stalled:
        allowed |= TIMEOUTS
    if aborted:
        allowed.add(Cause.LOCAL_ABORT)
    found = f"{side}: {ending!r}, but {bytes(wire.delivered[-60:])!r} came, then {wire.end!r}"
    problems = []
    if ending.cause not in allowed:
        # A Close that came when ours could not go any more: the failure is the ending.
        late = ending.received is not None and ending.sent is None and isinstance(wire.end, BaseException)
        if not (late and isinstance(wire.end, BaseException) and ending.cause is cause_of(wire.end)):
            problems.append(f"{found}: expected one of {sorted(cause.name for cause in allowed)}")
    if (ending.cause is Cause.CLOSE_HANDSHAKE) != (ending.clean and ending.received is not None):
        problems.append(f"{found}: clean?")
    if (ending.received is not None) > wire.heard_close:
        problems.append(f"{found}: no Close came")
    if ending.cause in (Cause.RESET, Cause.TRANSPORT_ERROR, Cause.TLS_ERROR) and ending.error is not wire.end:
        problems.append(f"{found}: another error")
    return problems


def judge_tls(
    side: str, wire: Wire, ending: Disconnected | None, *, stalled: bool, aborted: bool
) -> list[str]:
    """The same where what was delivered is encrypted: an error of the transport is the ending, or came after it."""
    if ending is None:
        return [f"{side}: no ending"]
    wire.agree(ending.error)
    problems = []
    allowed = {Cause.CLOSE_HANDSHAKE}
    if isinstance(wire.end, BaseException):
        allowed.add(cause_of(wire.end))
    elif wire.end == "eof":
        allowed |= {Cause.EOF, Cause.TRUNCATED, Cause.TLS_ERROR}
    elif not wire.delivered and ending.phase is State.CONNECTING and isinstance(ending.error, OSError):
        return []
    if any(other.end == "eof" for other in WIRES.values()):
        # That one side's stream has ended in the middle of the handshake is told to the other by TLS.
        allowed.add(Cause.TLS_ERROR)
    if stalled:
        allowed |= TIMEOUTS
    if aborted:
        allowed.add(Cause.LOCAL_ABORT)
    if ending.cause not in allowed:
        problems.append(f"{side}: {ending!r}, but {len(wire.delivered)} bytes came, then {wire.end!r}")
    if (ending.cause is Cause.CLOSE_HANDSHAKE) != (ending.clean and ending.received is not None):
        problems.append(f"{side}: {ending!r}: clean?")
    return problems


def is_prefix(part: list[Any], whole: list[Any]) -> bool:
    return part == whole[: len(part)]


def leftovers(kind: type) -> Iterator[Any]:
    """Objects of a type that the garbage collector knows. (What existed before gc.freeze() is not looked at.)"""
    for found in gc.get_objects():
        if isinstance(found, kind):
            yield found
