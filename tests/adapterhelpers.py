"""For tests of both adapters: certificates, what a bare socket says, and a look at what a test leaves behind."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import re
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
import trustme

from framebuilder import SAMPLE_MASK, accept_for, build, client_handshake_request

_Self = TypeVar("_Self", bound="RawBase")
_Listener = TypeVar("_Listener", bound="ListenerBase")

# TLS.


@functools.cache
def authority() -> trustme.CA:
    """Who signs the certificates of the tests."""
    return trustme.CA()


def server_context(*names: str) -> ssl.SSLContext:
    """A server's TLS context, with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    return context


def client_context() -> ssl.SSLContext:
    """A client's TLS context, which trusts our authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


# Servers.


def port_of(server: Any) -> int:
    """Where a server listens."""
    port = server.sockets[0].getsockname()[1]
    assert isinstance(port, int)
    return port


def uri_of(server: Any) -> str:
    """Where a server listens, for clients."""
    return f"ws://127.0.0.1:{port_of(server)}/"


# Systems.


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")


# Bare sockets.


class RawBase:
    """A peer that is a bare socket: what does not depend on how it waits."""

    def __init__(self, sock: socket.socket, *, masks: bool) -> None:
        self.sock = sock
        self.received = b""
        self._mask = SAMPLE_MASK if masks else None

    def frame(self, opcode: int, payload: bytes = b"", **options: Any) -> bytes:
        """A frame as this side has to send it."""
        return build(opcode, payload, mask=self._mask, **options)

    def shutdown(self) -> None:
        """Send the end of the stream."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


class ListenerBase:
    """A bare listening socket: what does not depend on how it waits."""

    def __init__(self, receive_buffer: int | None = None) -> None:
        self.sock = socket.socket()
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.listen()
        self.sock.settimeout(0)
        self.port: int = self.sock.getsockname()[1]
        self.uri = f"ws://127.0.0.1:{self.port}/"

    def __enter__(self: _Listener) -> _Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def request_to(server: Any, *headers: tuple[str, str]) -> bytes:
    """An opening handshake for a server of ours."""
    return client_handshake_request(host=f"127.0.0.1:{port_of(server)}", headers=headers)


def response_to(request: bytes, *headers: str) -> bytes:
    """What a server answers to the opening handshake of a client."""
    found = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert found is not None
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_for(found.group(1).decode())}",
        *headers,
        "\r\n",
    ]
    return "\r\n".join(lines).encode()


# What a test leaves behind.


class _Records(logging.Handler):
    """Keeps what is logged above DEBUG."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.kept: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record)


_records = _Records()
_LOGGERS = ("wsframe", "asyncio", "concurrent.futures")


@contextlib.contextmanager
def expect_log(pattern: str, *, traceback: bool = True) -> Iterator[None]:
    """Exactly one record, whose text matches, is logged above DEBUG; with the traceback of an exception."""
    yield
    texts = [record.getMessage() for record in _records.kept]
    assert len(texts) == 1, texts
    assert re.search(pattern, texts[0]), texts
    assert (_records.kept[0].exc_info is not None) is traceback
    _records.kept.clear()


def descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def resident() -> int:
    """Bytes of memory that this process has; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def nothing_left(failures: list[str]) -> Iterator[None]:
    """Fail when there is a log record above DEBUG, a thread or a file descriptor too many in the end.

    Args:
        failures: what else there is to complain about; may be added to until the end.
    """
    gc.collect()
    before, threads = descriptors(), set(threading.enumerate())
    _records.kept.clear()
    for name in _LOGGERS:
        logging.getLogger(name).addHandler(_records)
    try:
        yield
    finally:
        # Futures whose exception nobody has seen say so now.
        gc.collect()
        for name in _LOGGERS:
            logging.getLogger(name).removeHandler(_records)
    failures += [f"logged: {record.levelname} {record.getMessage()}" for record in _records.kept]
    for thread in set(threading.enumerate()) - threads:
        if not thread.name.startswith("wsframe") or thread.name.startswith("wsframe pump"):
            # A peer's, or a pump, which may still be about to end. Those of a server have ended when that has.
            thread.join(1)
        if thread.is_alive():
            failures.append(f"a thread is left: {thread}")
    if descriptors() > before:
        failures.append(f"{descriptors() - before} file descriptors are left open")
    assert not failures, "\n".join(failures)
