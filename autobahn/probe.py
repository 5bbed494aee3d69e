"""Asking a server whether it is there, before the suite does, which would wait or report 517 failures."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from urllib.parse import SplitResult, urlsplit

from errors import UnusableError

TIMEOUT = 10.0


def parse_url(url: str) -> SplitResult:
    """Return the parts of a ws:// or wss:// URL, or say what is wrong with it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UnusableError(f"{url!r} is not a WebSocket URL: {error}") from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname or port == 0:
        raise UnusableError(f"{url!r} is not a WebSocket URL; one looks like ws://127.0.0.1:9001/path")
    if parts.fragment or parts.username is not None:
        raise UnusableError(f"{url!r} is not a WebSocket URL: it may hold neither a fragment nor a user")
    return parts


async def probe(url: str, timeout: float = TIMEOUT) -> None:
    """Make sure that a WebSocket server answers at `url`: open a connection, look at the status, and leave."""
    parts = parse_url(url)
    try:
        async with asyncio.timeout(timeout):
            status = await status_line(parts)
    except TimeoutError:
        raise UnusableError(f"no server answers at {url} within {timeout:g} s") from None
    except OSError as error:
        # asyncio puts its own words, with the address once more, where the system's would be clearer.
        reason = (
            os.strerror(error.errno)
            if error.errno is not None and error.errno > 0
            else error.strerror or str(error)
        )
        raise UnusableError(f"no server answers at {url}: {reason}") from None
    words = status.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith("HTTP/1."):
        raise UnusableError(f"what answers at {url} is not a WebSocket server: it said {status[:60]!r}")
    if words[1] != "101":
        raise UnusableError(f"the server at {url} refuses the WebSocket handshake: {status!r}")


async def status_line(parts: SplitResult) -> str:
    """Return the first line of the answer to an opening handshake."""
    secure = parts.scheme == "wss"
    port = parts.port or (443 if secure else 80)
    context = None
    if secure:
        # A server under test has a certificate of its own making, and the suite does not look at it either.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    try:
        key = base64.b64encode(os.urandom(16)).decode()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await writer.drain()
        line = await reader.readline()
    except ValueError:
        return "a line without an end"
    finally:
        # Nothing more is wanted; a proper end, of TLS above all, could take as long as the server likes.
        writer.transport.abort()
    return line.decode("latin-1").rstrip("\r\n")
