"""TLS on a connection that was made in plain, so that its handshake has our deadline and its failure is an ending."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl as ssl_module
from typing import cast

from .._adapter._conduct import cause_of
from .._config import Timeouts
from .._enums import Cause
from ._channel import Channel

__all__ = ["start_tls"]


async def start_tls(
    channel: Channel,
    context: ssl_module.SSLContext,
    timeouts: Timeouts,
    *,
    server_side: bool = False,
    server_hostname: str | None = None,
) -> None:
    """Establish TLS on a channel that was made with ``securing``; where that fails, the channel ends."""
    plain = channel.transport
    assert plain is not None
    loop = asyncio.get_running_loop()
    # This runs when start_tls has put its protocol in place, and before that reads.
    loop.call_soon(_hand_over, channel, plain)
    try:
        # None where the connection was lost meanwhile.
        secure = await loop.start_tls(
            plain,
            channel,
            context,
            server_side=server_side,
            server_hostname=server_hostname,
            # The endpoint's own deadline, which knows when the connection began, comes first.
            ssl_handshake_timeout=timeouts.open + 1,
            ssl_shutdown_timeout=timeouts.linger,
        )
    except OSError as exc:
        # asyncio's frames hold on to their exception, and ours to the channel.
        exc.with_traceback(None)
        if isinstance(exc, ConnectionResetError) and exc.errno is None:
            # asyncio's word for the end of the stream.
            channel.endpoint.receive_eof()
            channel.end(None, Cause.TRANSPORT_ERROR)
        else:
            channel.end(exc, cause_of(exc, ssl_module.SSLError))
        return
    if secure is None:
        # Behind what knows why, if that is under way.
        loop.call_soon(channel.end, None, Cause.TRANSPORT_ERROR)
    elif not plain.is_closing():
        channel.secured(secure)
    elif secure.get_extra_info("cipher") is None:
        channel.end(None, Cause.TRANSPORT_ERROR)
    # Else the transport has broken at the end of the handshake, and is about to tell why.


def _hand_over(channel: Channel, plain: asyncio.Transport) -> None:
    """Give TLS what was read before it had taken over: uvloop reads from the first moment, paused or not."""
    protocol = cast("asyncio.BufferedProtocol", plain.get_protocol())
    if protocol is not channel:
        _resume_later(plain)
    early, channel.before_tls = channel.before_tls, b""
    while early and protocol is not channel:
        buffer = memoryview(protocol.get_buffer(len(early)))
        size = min(len(buffer), len(early))
        buffer[:size] = early[:size]
        protocol.buffer_updated(size)
        early = early[size:]


def _resume_later(plain: asyncio.Transport) -> None:
    """Let asyncio's TLS go on writing in another turn: a write that fails inside the plain transport's own would end
    that twice, once with another reason, and asyncio would log the second (CPython's issue 156512)."""

    def resume_writing() -> None:
        if not plain.is_closing():
            # The protocol holds this function, so this does not hold the protocol.
            protocol = plain.get_protocol()
            type(protocol).resume_writing(protocol)

    # Other event loops' TLS has no such attribute to set, and no need of it.
    with contextlib.suppress(AttributeError):
        plain.get_protocol().resume_writing = functools.partial(  # type: ignore[method-assign, assignment]
            asyncio.get_running_loop().call_soon, resume_writing
        )
