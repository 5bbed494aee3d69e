"""The kinds of sockets, behind one interface.

`PlainTransport` is the operating system's own stream socket. It stays in blocking mode, so that receiving is one
system call that waits in the kernel, with the kernel's timeout (``settimeout`` would make it two: a poll, then the
receive). It is done without any lock, and shutting the socket down ends it.

`PolledTransport` is for sockets that somebody replaced, such as gevent's. It never waits: that is done by poll, and
calls are made under the driver's lock. `TlsTransport`, in a file of its own, stands on it: one thread cannot read from
TLS while another one writes.
"""

from __future__ import annotations

import _socket
import contextlib
import math
import socket
import ssl as ssl_module
import struct
from collections.abc import Sequence
from typing import Protocol

__all__ = [
    "LONGEST_WAIT",
    "Buffer",
    "PlainTransport",
    "PolledTransport",
    "SyncTransport",
    "open_transport",
    "prepare",
    "some_of",
]

Buffer = bytes | memoryview

#: The receive buffer begins small, since it stays with the connection, and grows while it is filled to the brim.
_BUFFER_SIZE = 16 * 1024
_MAX_BUFFER_SIZE = 256 * 1024

#: How many buffers go into one system call at the most; systems have a bound, and none has a smaller one.
_MAX_BUFFERS = 16 if not hasattr(socket, "sendmsg") else 512

_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)
_DONT_WAIT_OR_SIGNAL = _DONT_WAIT | getattr(socket, "MSG_NOSIGNAL", 0)

#: How many seconds a thread receives at the most without a look at the deadlines. One that begins to close and goes
#: away cannot tell it of a new one.
LONGEST_WAIT = 2.0

#: A kernel timeout that is too long by so many seconds is not set anew.
_SLACK = 0.001


class SyncTransport(Protocol):
    """What the driver needs of a socket."""

    sock: socket.socket
    """For its descriptor."""
    waits: bool
    """``receive`` can wait by itself, and is called without the lock."""
    can_half_close: bool
    """``shutdown_write`` is possible."""

    @property
    def secured(self) -> bool:
        """Bytes can be exchanged: there is no TLS, or its handshake is done."""

    def secure(self) -> bool:
        """Go on with the TLS handshake, without waiting; return whether it is done. Raises OSError."""

    def receive(self, timeout: float | None) -> memoryview | None:
        """What has come, until the next call; empty at the end of the stream; None when nothing came.

        Args:
            timeout: seconds to wait where ``waits`` is set; None waits without end.
        """

    def send(self, buffers: Sequence[Buffer]) -> int:
        """Send what can be sent without waiting; return how many bytes the system has taken of it. Raises OSError.

        What was not taken has to be the beginning of what the next call gives.
        """

    @property
    def buffered(self) -> bool:
        """Something may be there to be received of which poll does not know."""

    def interest(self, read: bool, write: bool) -> tuple[bool, bool]:
        """What to wait for with poll in order to read or write: readable, writable."""

    def shutdown_write(self) -> None:
        """Send the end of the stream."""

    def say_goodbye(self) -> None:
        """Say by TLS that nothing more will be sent, if that is possible without waiting."""

    def interrupt(self) -> None:
        """End what other threads are waiting for in this socket, for good."""

    def close(self) -> None:
        """Give the descriptor back."""


class _Base:
    """What both share."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = memoryview(bytearray(_BUFFER_SIZE))

    def _grow(self) -> None:
        """The buffer was filled to the brim: the next one is larger."""
        size = len(self._buffer)
        if size < _MAX_BUFFER_SIZE:
            self._buffer = memoryview(bytearray(min(size * 4, _MAX_BUFFER_SIZE)))

    def close(self) -> None:
        self.sock.close()


class PlainTransport(_Base):
    """A stream socket of the operating system, in blocking mode.

    One thing the kernel's timeout cannot do: a process that is interrupted by signals again and again, each time before
    a timeout is over, waits longer, because Python then begins to wait anew.
    """

    waits = True
    secured = True
    can_half_close = True
    buffered = False

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(True)
        # What the kernel has: seconds, None for no timeout; not a number, and so equal to none, while it is not known.
        self._timeout: float | None = math.nan
        self._waited_in_vain = True
        self._pack = _timeval_format(sock)

    def secure(self) -> bool:
        return True

    def receive(self, timeout: float | None) -> memoryview | None:
        flags = 0
        if timeout != self._timeout:
            if timeout is not None and timeout <= 0:
                flags = _DONT_WAIT
            else:
                self._set_timeout(timeout)
        buffer = self._buffer
        try:
            count = self.sock.recv_into(buffer, 0, flags)
        except BlockingIOError:
            self._waited_in_vain = True
            return None
        self._waited_in_vain = False
        if count == len(buffer):
            self._grow()
        return buffer[:count]

    def _set_timeout(self, timeout: float | None) -> None:
        """Make the kernel wait so long, or less, without asking it every time."""
        current = self._timeout
        if timeout is None:
            value = self._pack.pack(0, 0)
        else:
            if current is not None and timeout * 0.5 <= current <= timeout + _SLACK:
                return
            if not self._waited_in_vain and timeout < LONGEST_WAIT:
                # While data comes, the same deadline comes nearer with every call: a shorter timeout stays right for a
                # while, and waking too early costs little.
                timeout *= 0.75
            seconds, fraction = divmod(timeout, 1.0)
            # Zero would mean no timeout at all.
            value = self._pack.pack(int(seconds), max(int(fraction * 1e6), 0 if seconds else 1))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._timeout = timeout

    def send(self, buffers: Sequence[Buffer]) -> int:
        try:
            if len(buffers) == 1:
                return self.sock.send(buffers[0], _DONT_WAIT_OR_SIGNAL)
            return self.sock.sendmsg(buffers[:_MAX_BUFFERS], [], _DONT_WAIT_OR_SIGNAL)
        except BlockingIOError:
            return 0

    def interest(self, read: bool, write: bool) -> tuple[bool, bool]:
        return read, write

    def shutdown_write(self) -> None:
        # A connection that is gone already needs no end.
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def say_goodbye(self) -> None:
        pass

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class PolledTransport(_Base):
    """Any stream socket, in non-blocking mode; also a TLS socket that somebody else has made."""

    waits = False
    secured = True

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self._tls = sock if isinstance(sock, ssl_module.SSLSocket) else None
        self.can_half_close = self._tls is None
        # TLS may have to write in order to read, and the other way round.
        self._read_needs_write = False
        self._write_needs_read = False

    def secure(self) -> bool:
        return True

    def receive(self, timeout: float | None) -> memoryview | None:
        self._read_needs_write = False
        buffer = self._buffer
        try:
            count = self.sock.recv_into(buffer)
        except (BlockingIOError, ssl_module.SSLWantReadError):
            return None
        except ssl_module.SSLWantWriteError:
            self._read_needs_write = True
            return None
        if count == len(buffer):
            self._grow()
        return buffer[:count]

    def send(self, buffers: Sequence[Buffer]) -> int:
        self._write_needs_read = False
        try:
            return self.sock.send(some_of(buffers, _BUFFER_SIZE))
        except (BlockingIOError, ssl_module.SSLWantWriteError):
            return 0
        except ssl_module.SSLWantReadError:
            self._write_needs_read = True
            return 0

    @property
    def buffered(self) -> bool:
        return self._tls is None or self._tls.pending() > 0

    def interest(self, read: bool, write: bool) -> tuple[bool, bool]:
        return (
            (read and not self._read_needs_write) or (write and self._write_needs_read),
            (write and not self._write_needs_read) or (read and self._read_needs_write),
        )

    def shutdown_write(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def say_goodbye(self) -> None:
        if self._tls is not None:
            # This says close_notify, and wants to read the peer's.
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()

    def interrupt(self) -> None:
        # Nobody waits in the socket itself.
        pass


def prepare(sock: socket.socket) -> None:
    """Small messages shall not wait for more to come."""
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def open_transport(sock: socket.socket) -> SyncTransport:
    """The transport for a connected socket, which belongs to it from now on."""
    return PlainTransport(sock) if _is_plain(sock) else PolledTransport(sock)


def _is_plain(sock: object) -> bool:
    """Its methods are the operating system's, which has the calls that we need."""
    return (
        # Somebody may have replaced the class only after this socket was made, and wants nobody to wait in the kernel.
        isinstance(sock, socket.socket)
        and getattr(type(sock), "recv_into", None) is _socket.socket.recv_into
        and getattr(type(sock), "send", None) is _socket.socket.send
        and hasattr(socket, "MSG_DONTWAIT")
        and hasattr(socket, "SO_RCVTIMEO")
        and hasattr(_socket.socket, "sendmsg")
    )


def _timeval_format(sock: socket.socket) -> struct.Struct:
    """How this system writes a timeout: two numbers, each as wide as a time_t."""
    size = len(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 64))
    return struct.Struct("@qq" if size == 16 else "@ii")


def some_of(buffers: Sequence[Buffer], size: int) -> Buffer:
    """The first buffer; joined with what follows as long as that is about so many bytes together, because nothing that
    is small shall become a packet or a TLS record of its own."""
    data = buffers[0]
    if len(buffers) == 1 or len(data) >= size:
        return data
    taken = [data]
    size -= len(data)
    for buffer in buffers[1:]:
        if len(buffer) > size:
            break
        taken.append(buffer)
        size -= len(buffer)
    return b"".join(taken)
