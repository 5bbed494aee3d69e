"""Transports in memory, for asyncio: they do what those over TCP do, without a descriptor.

What a closed or broken connection means is taken from TCP at its worst: whoever closes with unread input, or is sent
something afterwards, makes the other side's stream end in a reset, and what that side has not read yet is lost.
"""

from __future__ import annotations

import asyncio
import collections
import errno
from typing import Any, Protocol, cast

from ._faults import Fault, Faults

__all__ = ["MemoryStream", "MemoryTransport"]

#: What one call of ``data_received`` gets at the most, as in asyncio.
_READ_SIZE = 256 * 1024


class _Network(Protocol):
    """What a transport has to know of its network."""

    loop: asyncio.AbstractEventLoop
    transports: set[Any]


class MemoryStream:
    """One direction of a connection: bytes under way, and perhaps an end behind them.

    Args:
        loop: whose time it is.
        capacity: bytes that it takes before somebody has read them.
        latency: seconds that they take.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: int, latency: float) -> None:
        self.data = bytearray()
        self.ended = False
        self.broken = False
        self.reader: MemoryTransport | None = None
        self.writer: MemoryTransport | None = None
        self._loop = loop
        self._capacity = capacity
        self._latency = latency
        # None is the end.
        self._under_way: collections.deque[bytes | None] = collections.deque()
        self._size = 0

    @property
    def readable(self) -> bool:
        return bool(self.data) or self.ended or self.broken

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take what there is room for."""
        taken = bytes(data[: self._capacity - self._size])
        if taken:
            self._size += len(taken)
            self._send(taken)
        return len(taken)

    def swallow(self, size: int) -> int:
        """The same, and it never arrives."""
        count = min(size, self._capacity - self._size)
        self._size += count
        return count

    def end(self) -> None:
        self._send(None)

    def _send(self, item: bytes | None) -> None:
        self._under_way.append(item)
        if self._latency:
            self._loop.call_later(self._latency, self._arrive)
        else:
            self._arrive()

    def _arrive(self) -> None:
        # Timers of the same time come in any order, and what they bring does not.
        item = self._under_way.popleft()
        if item is None:
            self.ended = True
        else:
            self.data += item
        if self.reader is None:
            # Nobody is there any more.
            self.data.clear()
            if item is not None and self.writer is not None:
                self.writer.incoming.break_off()
        else:
            self.reader.wake()

    def break_off(self) -> None:
        """A reset: what was not read is lost."""
        self.broken = True
        self.data.clear()
        if self.reader is not None:
            self.reader.wake()

    def read(self, size: int) -> bytes:
        taken = bytes(self.data[:size])
        del self.data[:size]
        self._size -= len(taken)
        if taken and self.writer is not None:
            self.writer.wake_writing()
        return taken


class MemoryTransport(asyncio.Transport):
    """One end of a connection in memory. Its ``start_tls`` is the loop's, as for TCP.

    Attributes:
        incoming: what the other side sends.
        outgoing: what this side sends.
        made: done when ``connection_made`` was called.
    """

    # So asyncio asks whether start_tls can use it.
    _start_tls_compatible = True

    def __init__(
        self,
        network: _Network,
        protocol: asyncio.BaseProtocol,
        incoming: MemoryStream,
        outgoing: MemoryStream,
        faults: Faults | None,
        sockname: tuple[str, int],
        peername: tuple[str, int],
    ) -> None:
        super().__init__({"sockname": sockname, "peername": peername})
        self.incoming = incoming
        self.outgoing = outgoing
        self._network = network
        self._loop = network.loop
        self.made: asyncio.Future[None] = self._loop.create_future()
        self._protocol = protocol
        self._faults = faults or Faults()
        self._buffer = bytearray()
        self._high, self._low = 64 * 1024, 16 * 1024
        self._protocol_paused = False
        self._connected = False
        self._paused = False
        self._read_scheduled = False
        self._write_scheduled = False
        self._eof_forced = False
        self._eof_seen = False
        self._eof_sent = False
        self._closing = False
        self._lost = False
        incoming.reader = outgoing.writer = self
        network.transports.add(self)
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._protocol.connection_made(self)
        self._connected = True
        if not self.made.done():
            self.made.set_result(None)
        self.wake()

    # What a transport can be asked.

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who gets what comes."""
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Somebody else gets what comes."""
        self._protocol = protocol

    def is_closing(self) -> bool:
        """It is closed, or will be when everything is written."""
        return self._closing

    def is_reading(self) -> bool:
        """It is neither closing nor paused."""
        return not self._closing and not self._paused

    def can_write_eof(self) -> bool:
        """Yes."""
        return True

    def get_write_buffer_size(self) -> int:
        """Bytes that are not under way yet."""
        return len(self._buffer)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low water and high water, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Above ``high`` bytes the protocol is asked to pause writing, and below ``low`` to go on."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low
        self._pause_protocol()

    # Reading.

    def pause_reading(self) -> None:
        """Read no more for now."""
        self._paused = True

    def resume_reading(self) -> None:
        """Read on."""
        self._paused = False
        self.wake()

    def wake(self) -> None:
        """Something may be there to be read."""
        if not self._read_scheduled:
            self._read_scheduled = True
            self._loop.call_soon(self._read_ready)

    def _read_ready(self) -> None:
        self._read_scheduled = False
        if (
            self._connected
            and self.is_reading()
            and not self._eof_seen
            and (self.incoming.readable or self._eof_forced)
            and self._receive()
        ):
            self.wake()

    def _receive(self) -> bool:
        """What happens when a socket is readable; False where trying again is of no use."""
        buffer: memoryview | None = None
        protocol = self._protocol
        try:
            if isinstance(protocol, asyncio.BufferedProtocol):
                buffer = memoryview(protocol.get_buffer(-1))
            fault = self._operation("recv")
            if fault is Fault.STALL:
                return False
            data = b""
            if fault is not Fault.EOF:
                if self.incoming.broken:
                    raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
                size = _READ_SIZE if buffer is None else len(buffer)
                data = self.incoming.read(1 if fault is Fault.PARTIAL else size)
            if not data:
                self._end_of_stream()
            elif buffer is None:
                assert isinstance(protocol, asyncio.Protocol)
                protocol.data_received(data)
            else:
                assert isinstance(protocol, asyncio.BufferedProtocol)
                buffer[: len(data)] = data
                protocol.buffer_updated(len(data))
        except (BlockingIOError, InterruptedError):
            pass
        except Exception as exc:
            self._fail(exc)
        return True

    def _end_of_stream(self) -> None:
        self._eof_seen = True
        assert isinstance(self._protocol, asyncio.Protocol | asyncio.BufferedProtocol)
        if not self._protocol.eof_received():
            self.close()

    # Writing.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or keep what cannot be sent yet."""
        if self._eof_sent:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._lost:
            return
        if not self._buffer:
            count = self._send(data)
            if count is None or count == len(data):
                return
            data = memoryview(data)[count:]
        self._buffer += data
        self._pause_protocol()

    def write_eof(self) -> None:
        """End this side's stream when everything is written."""
        if not self._closing and not self._eof_sent:
            self._eof_sent = True
            if not self._buffer:
                self._shut_down()

    def wake_writing(self) -> None:
        """There may be room to write."""
        if self._buffer and not self._write_scheduled:
            self._write_scheduled = True
            self._loop.call_soon(self._write_ready)

    def _write_ready(self) -> None:
        self._write_scheduled = False
        if self._lost or not self._buffer:
            return
        count = self._send(self._buffer)
        if count is None:
            return
        del self._buffer[:count]
        self._resume_protocol()
        if not self._buffer and not self._lost:
            if self._closing:
                self._lose(None)
            elif self._eof_sent:
                self._shut_down()

    def _send(self, data: bytes | bytearray | memoryview) -> int | None:
        """What happens when a socket is written to: how many bytes it has taken, or None when it is broken."""
        try:
            fault = self._operation("send")
            if fault is Fault.STALL:
                # Whoever sends does not see that nothing arrives, until nothing more is taken.
                return self.outgoing.swallow(len(data))
            if self.incoming.broken:
                raise BrokenPipeError(errno.EPIPE, "Broken pipe")
            if fault is not Fault.PARTIAL:
                return self.outgoing.write(data)
            count = self.outgoing.write(data[:1])
        except (BlockingIOError, InterruptedError):
            count = 0
        except Exception as exc:
            self._fail(exc)
            return None
        # The rest can be tried at once.
        self._loop.call_soon(self.wake_writing)
        return count

    def _shut_down(self) -> None:
        if self._operation("shutdown") is not Fault.STALL:
            self.outgoing.end()

    def _pause_protocol(self) -> None:
        if not self._protocol_paused and len(self._buffer) > self._high:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def _resume_protocol(self) -> None:
        if self._protocol_paused and len(self._buffer) <= self._low:
            self._protocol_paused = False
            self._protocol.resume_writing()

    # Ending.

    def close(self) -> None:
        """Close when everything is written."""
        if not self._closing:
            self._closing = True
            if not self._buffer:
                self._force_close(None)

    def abort(self) -> None:
        """Close at once."""
        self._force_close(None)

    def _force_close(self, exc: BaseException | None) -> None:
        """The name under which asyncio's TLS calls it."""
        if not self._lost:
            self._closing = self._lost = True
            self._buffer.clear()
            self._loop.call_soon(self._lose, exc)

    def _lose(self, exc: BaseException | None) -> None:
        self._lost = True
        try:
            # Its type says Exception; asyncio's own TLS gives what it has.
            self._protocol.connection_lost(cast("Exception | None", exc))
        finally:
            self._network.transports.discard(self)
            unread = bool(self.incoming.data)
            self.incoming.reader = self.outgoing.writer = None
            if unread:
                self.outgoing.break_off()
            elif not self.outgoing.ended:
                self.outgoing.end()

    def _fail(self, exc: Exception) -> None:
        if not isinstance(exc, OSError):
            self._loop.call_exception_handler(
                {
                    "message": "a protocol failed",
                    "exception": exc,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
        self._force_close(exc)

    def _operation(self, name: str) -> Fault | None:
        fault = self._faults.begin(name)
        if fault is Fault.EOF and not self._eof_forced:
            self._eof_forced = True
            self.wake()
        return fault
