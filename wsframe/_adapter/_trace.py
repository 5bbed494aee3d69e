"""``Tracer``: tells a callback what goes through a connection: heads without their secrets, and frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .._backend import CodecError
from ._wire import FrameSeen, WireScanner

__all__ = ["Direction", "Trace", "TracedFrame", "TracedHead", "Tracer", "check_trace"]

Direction: TypeAlias = Literal["received", "sent"]

#: Fields whose values are nobody's business.
_SECRET = ("authorization", "cookie", "proxy-authorization", "set-cookie")
_REDACTED = "[redacted]"


@dataclass(frozen=True, slots=True)
class TracedHead:
    """The head of an HTTP message: a request, or a response.

    Attributes:
        id: the connection's number on its server; 0 on a client.
        direction: ``"received"`` or ``"sent"``.
        lines: the start line and the header lines. Those of Authorization, Cookie, Proxy-Authorization and Set-Cookie
            have ``[redacted]`` in the place of their values.
    """

    id: int
    direction: Direction
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TracedFrame:
    """A frame that is complete (RFC 6455 s5.2).

    Attributes:
        id: the connection's number on its server; 0 on a client.
        direction: ``"received"`` or ``"sent"``.
        opcode: 0 continuation, 1 text, 2 binary, 8 Close, 9 Ping, 10 Pong; other numbers are reserved.
        fin: it ends its message.
        compressed: it belongs to a compressed message.
        length: bytes of its payload.
        head: the first 128 bytes of the payload at the most, unmasked.
    """

    id: int
    direction: Direction
    opcode: int
    fin: bool
    compressed: bool
    length: int
    head: bytes


#: What ``serve`` and ``connect`` are given to trace with.
Trace: TypeAlias = Callable[["TracedHead | TracedFrame"], object]


class Tracer:
    """A tap that tells a callback.

    What is no frame ends it for that direction.

    Args:
        trace: the callback.
        connection_id: what to call the connection.
        failed: called with what ``trace`` raised; after that nothing is traced.
        is_server: which side this is.
    """

    __slots__ = ("_failed", "_id", "_received", "_sent", "_trace")

    def __init__(
        self, trace: Trace, connection_id: int, failed: Callable[[Exception], object], *, is_server: bool
    ) -> None:
        self._trace: Trace | None = trace
        self._id = connection_id
        self._failed = failed
        self._received = WireScanner(requests=is_server)
        self._sent = WireScanner(requests=not is_server)

    def received(self, data: memoryview | bytes | bytearray) -> None:
        """These bytes came."""
        self._tell("received", self._received, data)

    def sent(self, data: bytes) -> None:
        """These bytes go to the transport."""
        self._tell("sent", self._sent, data)

    def _tell(self, direction: Direction, scanner: WireScanner, data: memoryview | bytes | bytearray) -> None:
        trace = self._trace
        if trace is None:
            return
        try:
            for seen in scanner.feed(data):
                trace(self._event(direction, seen))
        except CodecError:
            # Whoever wants to know what was wrong with it finds it in the ending.
            pass
        except Exception as exc:
            self._trace = None
            self._failed(exc)

    def _event(self, direction: Direction, seen: tuple[str, ...] | FrameSeen) -> TracedHead | TracedFrame:
        if isinstance(seen, tuple):
            return TracedHead(self._id, direction, _redacted(seen))
        return TracedFrame(
            self._id, direction, seen.opcode, seen.fin, seen.compressed, seen.length, seen.head
        )


def check_trace(trace: object) -> None:
    """Raises:
    TypeError: it is given, and nothing that could be called.
    """
    if trace is not None and not callable(trace):
        raise TypeError(f"trace must be callable with one argument, not {trace!r}")


def _redacted(lines: tuple[str, ...]) -> tuple[str, ...]:
    """The lines of a head without what is secret in them, however badly it is written."""
    shown: list[str] = []
    secret = False
    for line in (part for whole in lines for part in re.split(r"[\r\n]", whole)):
        if not line.startswith((" ", "\t")):
            name, colon, _ = line.partition(":")
            secret = bool(colon) and name.strip().lower() in _SECRET
            shown.append(f"{name}: {_REDACTED}" if secret else line)
        elif not secret:
            # It goes on with the field before (RFC 9112 s5.2).
            shown.append(line)
    return tuple(shown)
