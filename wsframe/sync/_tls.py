"""TLS on any socket: the third kind of transport.

Not an ``SSLSocket``, which is a real socket or nothing, reads every record by two system calls, and can neither tell a
handshake's end of stream from other errors nor be made when the peer has reset the connection already.
"""

from __future__ import annotations

import contextlib
import socket
import ssl as ssl_module
from collections.abc import Sequence
from typing import cast

from ._transport import Buffer, PolledTransport, some_of

__all__ = ["TlsTransport"]

#: Bytes that are encrypted, or taken out decrypted, at a time: some full records.
_CHUNK = 64 * 1024


class TlsTransport:
    """TLS over a socket in non-blocking mode.

    Args:
        sock: a connected stream socket.
        context: a TLS context for this side.
        server_side: which side this is.
        server_hostname: the name that the server's certificate must have.

    Raises:
        ValueError: the name and the context do not fit together.
    """

    waits = False
    # There is an end of the stream in each direction, but no way to keep reading after ours was sent.
    can_half_close = False

    def __init__(
        self,
        sock: socket.socket,
        context: ssl_module.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> None:
        self._incoming, self._outgoing = ssl_module.MemoryBIO(), ssl_module.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        self._raw = PolledTransport(sock)
        self._buffer = memoryview(bytearray(_CHUNK))
        # Encrypted and not written yet; and how many of the bytes that were to be sent will be sent then.
        self._out = memoryview(b"")
        self._out_for = 0
        self.sock = sock
        self.secured = False
        self.buffered = False

    def secure(self) -> bool:
        while True:
            try:
                self._tls.do_handshake()
            except ssl_module.SSLWantReadError:
                self._flush()
                if not self._feed():
                    return False
            except ssl_module.SSLError:
                # The peer shall hear why.
                with contextlib.suppress(OSError):
                    self._flush()
                raise
            else:
                self._flush()
                self.secured = True
                # More may have come with the last of it.
                self.buffered = True
                return True

    def receive(self, timeout: float | None) -> memoryview | None:
        count = 0
        self.buffered = True
        while count < _CHUNK:
            try:
                # With a buffer it gives the number of bytes, whatever its type says.
                read = cast("int", self._tls.read(_CHUNK - count, self._buffer[count:]))
            except ssl_module.SSLWantReadError:
                if count or not self._feed():
                    self.buffered = False
                    break
                continue
            except ssl_module.SSLError:
                if count:
                    # The error comes again.
                    break
                raise
            if not read:
                if count:
                    break
                return self._buffer[:0]
            count += read
        if self._out or self._outgoing.pending:
            # TLS has something to say for itself. Whether that works is seen when there is something else to send.
            with contextlib.suppress(OSError):
                self._flush()
        return self._buffer[:count] if count else None

    def _feed(self) -> bool:
        """Give TLS what has come; return whether there was anything."""
        data = self._raw.receive(0)
        if data is None:
            return False
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return True

    def send(self, buffers: Sequence[Buffer]) -> int:
        if not self._out_for and not self._out:
            data = memoryview(some_of(buffers, _CHUNK))[:_CHUNK]
            while self._out_for < len(data):
                try:
                    # One record at a time.
                    self._out_for += self._tls.write(data[self._out_for :])
                except ssl_module.SSLWantReadError:
                    break
        self._flush()
        if self._out:
            return 0
        count, self._out_for = self._out_for, 0
        return count

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._out = memoryview(bytes(self._out) + self._outgoing.read())
        while self._out:
            count = self._raw.send([self._out])
            if not count:
                break
            self._out = self._out[count:]

    def interest(self, read: bool, write: bool) -> tuple[bool, bool]:
        return self._raw.interest(read, write or (read and bool(self._out)))

    def shutdown_write(self) -> None:
        raise AssertionError("TLS cannot be half closed")

    def say_goodbye(self) -> None:
        if self.secured and not self._out:
            # This says close_notify, and wants to read the peer's.
            with contextlib.suppress(OSError, ValueError):
                self._tls.unwrap()
            with contextlib.suppress(OSError):
                self._flush()

    def interrupt(self) -> None:
        # Nobody waits in the socket itself.
        pass

    def close(self) -> None:
        self._raw.close()
