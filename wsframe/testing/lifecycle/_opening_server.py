"""Rows of a server before there is a WebSocket."""

from __future__ import annotations

from typing import Any

from ..._enums import Cause, Initiator, State
from ..._errors import HandshakeError
from ._acts import (
    Act,
    Answer,
    Await,
    Block,
    BreakTLS,
    CallAbort,
    CutTLS,
    Detach,
    FailTLS,
    Fin,
    KeepSending,
    LoseTransport,
    NetworkError,
    Pass,
    Raise,
    Reset,
    SendBytes,
    Shutdown,
)
from ._build import (
    AT_LINGER,
    AT_OPEN_TIMEOUT,
    LOST,
    OPEN_TIMEOUT,
    PART_OF_A_REQUEST,
    PLAIN_REQUEST,
    REQUEST,
    only_in_the_core,
    reads,
    request,
    server,
)
from ._row import Instead, Row

__all__ = ["ROWS"]

GROUP = "opening, server"
LOCAL, REMOTE, TRANSPORT = Initiator
C, H = State.CONNECTING, State.HANDSHAKE

GARBAGE = SendBytes(b"\x00\xff\x00\xff")
TLS_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
PART_OF_A_BODY = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n1"
#: One byte too many, in pieces that come after the request.
EARLY = (*(SendBytes(bytes(8192)) for _ in range(8)), SendBytes(b"x"))

NO_HANDLE = only_in_the_core("before the request is answered an application has nothing to call it on")
NOBODY_READS = {
    "sync": Instead(None, "`on_request` runs in the connection's thread, and nobody reads while it does"),
}
NO_DETACH = only_in_the_core("adapters keep what they have; to share a port, a host uses the core")
REQUEST_PART = "how much of the request had come makes no difference to what can be done about it"
DECIDED = "the ending was decided before; nothing later overwrites it"


def ended(
    name: str, what: str, *acts: Act, phase: State, cause: Cause, initiator: Initiator, **fields: Any
) -> Row:
    return server(
        name,
        what,
        *acts,
        group=GROUP,
        phase=phase,
        cause=cause,
        initiator=initiator,
        was_websocket=False,
        **fields,
    )


def answered(
    name: str,
    what: str,
    *acts: Act,
    status: int,
    phase: State,
    cause: Cause,
    says: str | None = None,
    seconds: float = 0.0,
    **fields: Any,
) -> Row:
    """We answer with an HTTP response, after so many seconds; the peer reads it and leaves."""
    return ended(
        name,
        what,
        *acts,
        *reads("response", seconds),
        phase=phase,
        cause=cause,
        initiator=LOCAL,
        wire=(f"HTTP {status}",),
        error=None if says is None else HandshakeError,
        says=says or "",
        **fields,
    )


def late(name: str, what: str, *acts: Act, status: int, phase: State, says: str, **fields: Any) -> Row:
    """The open timeout passes."""
    return answered(
        name,
        what,
        *acts,
        status=status,
        phase=phase,
        cause=Cause.OPEN_TIMEOUT,
        says=says,
        seconds=OPEN_TIMEOUT,
        when="open_timeout",
        settings={"open_timeout": OPEN_TIMEOUT},
        **fields,
    )


def lost(name: str, what: str, *acts: Act, phase: State, cause: Cause, **fields: Any) -> Row:
    """The transport fails."""
    return ended(name, what, *acts, phase=phase, cause=cause, initiator=TRANSPORT, **LOST, **fields)


NOT_ANSWERED = f"the request was not answered within {OPEN_TIMEOUT:g} s"
NO_REQUEST = f"no complete request within {OPEN_TIMEOUT:g} s"

# fmt: off
ROWS: tuple[Row, ...] = (
    # The peer goes.
    ended("connect-and-drop", "the peer connects and ends its stream",
          Fin(), phase=C, cause=Cause.EOF, initiator=REMOTE, age=None),
    ended("fin-inside-the-head", "the peer ends its stream inside the request's head",
          SendBytes(PART_OF_A_REQUEST), Fin(), phase=C, cause=Cause.TRUNCATED, initiator=REMOTE),
    ended("fin-inside-the-body", "the peer ends its stream inside the body of a plain request",
          SendBytes(PART_OF_A_BODY), Fin(), phase=C, cause=Cause.TRUNCATED, initiator=REMOTE,
          same_as="fin-inside-the-head", because=REQUEST_PART),
    ended("fin-while-the-request-waits", "the peer asks for a WebSocket and ends its stream before the answer",
          Block(), SendBytes(REQUEST), Fin(), phase=H, cause=Cause.EOF, initiator=REMOTE,
          except_on=NOBODY_READS),
    lost("reset-at-once", "the peer connects and resets",
         Reset(), phase=C, cause=Cause.RESET, error=ConnectionResetError, age=None),
    lost("reset-inside-the-head", "the peer resets inside the request's head",
         SendBytes(PART_OF_A_REQUEST), Reset(), phase=C, cause=Cause.RESET, error=ConnectionResetError,
         same_as="reset-at-once", because=REQUEST_PART),
    lost("reset-while-the-request-waits", "the peer asks for a WebSocket and resets before the answer",
         Block(), SendBytes(REQUEST), Reset(), phase=H, cause=Cause.RESET, error=ConnectionResetError,
         except_on=NOBODY_READS),
    lost("network-error-before-the-request", "the system reports that the network has failed, before a request",
         NetworkError(), phase=C, cause=Cause.TRANSPORT_ERROR, error=OSError, age=None),
    lost("network-error-while-the-request-waits", "the network fails while a request waits for its answer",
         Block(), SendBytes(REQUEST), NetworkError(), phase=H, cause=Cause.TRANSPORT_ERROR, error=OSError),
    lost("transport-gone-before-the-request", "somebody closes the transport under us, before a request",
         LoseTransport(), phase=C, cause=Cause.TRANSPORT_ERROR, age=None),
    lost("transport-gone-while-the-request-waits", "the transport is closed under us while a request waits",
         Block(), SendBytes(REQUEST), LoseTransport(), phase=H, cause=Cause.TRANSPORT_ERROR),
    # What it sends is no request, or one that we do not take.
    answered("garbage", "the peer sends bytes that are no HTTP",
             GARBAGE, status=400, phase=C, cause=Cause.NOT_HTTP, says="this is not HTTP: it begins with"),
    answered("tls-hello-on-a-plain-port", "the peer begins with TLS on a port without it",
             SendBytes(TLS_HELLO), status=400, phase=C, cause=Cause.NOT_HTTP, says="it looks like TLS on a plain port"),
    answered("http2", "the peer begins with HTTP/2",
             SendBytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), status=505, phase=C, cause=Cause.REJECTED,
             says="HTTP/2.0 on a port that speaks HTTP/1.1"),
    answered("broken-head", "a header line of the request is malformed",
             SendBytes(b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n"), status=400, phase=C, cause=Cause.REJECTED,
             says="whitespace before the colon"),
    answered("head-too-long", "a header line of the request is over the limit",
             SendBytes(b"GET / HTTP/1.1\r\nX: " + b"x" * 16384), status=431, phase=C, cause=Cause.REJECTED,
             says="is over max_header_line (16384)"),
    answered("body-too-long", "a plain request announces a body over the limit",
             SendBytes(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n\r\n"),
             status=413, phase=C, cause=Cause.REJECTED, says="is over max_body_size (65536)"),
    answered("no-key", "the request has no Sec-WebSocket-Key",
             SendBytes(request(without="Sec-WebSocket-Key")), status=400, phase=H, cause=Cause.REJECTED,
             says="exactly one Sec-WebSocket-Key header is needed"),
    answered("old-version", "the request asks for version 8 of the protocol",
             SendBytes(request("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version")),
             status=426, phase=H, cause=Cause.REJECTED, says="the Sec-WebSocket-Version must be 13"),
    answered("foreign-origin", "a page of another site asks, in somebody's browser",
             SendBytes(request("Origin: http://elsewhere")), status=403, phase=H, cause=Cause.REJECTED,
             says="allow it with the setting 'origins'"),
    answered("too-much-before-the-answer", "the peer sends over 64 KiB while its request waits",
             Block(), SendBytes(REQUEST), Pass(0.1), *EARLY, status=400, phase=H, cause=Cause.PROTOCOL_ERROR,
             says="over 65536 bytes (max_early_bytes)",
             except_on=NOBODY_READS),
    ended("garbage-and-stays", "the peer sends garbage and stays, whatever we say",
          GARBAGE, phase=C, cause=Cause.NOT_HTTP, initiator=LOCAL, wire=("HTTP 400",), error=HandshakeError,
          says="this is not HTTP: it begins with", **AT_LINGER, same_as="garbage", because=DECIDED),
    ended("garbage-and-reset", "the peer sends garbage, is told so, and resets",
          GARBAGE, Await("response"), Reset(), phase=C, cause=Cause.NOT_HTTP, initiator=LOCAL, wire=("HTTP 400",),
          tcp="lost", error=HandshakeError, says="this is not HTTP: it begins with",
          same_as="garbage", because=DECIDED),
    # Nothing comes, or not enough.
    late("silence", "the peer connects and is silent",
         status=408, phase=C, says=NO_REQUEST, age=None),
    late("half-a-head", "the peer never finishes the request's head",
         SendBytes(PART_OF_A_REQUEST), status=408, phase=C, says=NO_REQUEST, age=OPEN_TIMEOUT,
         same_as="silence", because=REQUEST_PART),
    late("slow-head", "the peer sends the request's head byte by byte, for ever",
         KeepSending("head"), status=408, phase=C, says=NO_REQUEST,
         same_as="silence", because="the deadline is one for the whole handshake; bytes do not move it"),
    late("half-a-body", "the peer never finishes the body of a plain request",
         SendBytes(PART_OF_A_BODY), status=408, phase=C, says=NO_REQUEST, age=OPEN_TIMEOUT,
         same_as="silence", because=REQUEST_PART),
    late("request-not-answered", "the application does not answer a request for a WebSocket",
         Block(), SendBytes(REQUEST), status=503, phase=H, says=NOT_ANSWERED,
         age=OPEN_TIMEOUT,
         except_on=NOBODY_READS),
    late("plain-request-not-answered", "the application does not answer a plain request",
         Block(), SendBytes(PLAIN_REQUEST), status=503, phase=H, says=NOT_ANSWERED,
         age=OPEN_TIMEOUT,
         same_as="request-not-answered", because="it is the application that is late, whatever it was asked",
         except_on=NOBODY_READS),
    # The application answers something else.
    answered("rejected", "the application refuses the request",
             Answer(403), SendBytes(REQUEST), status=403, phase=H, cause=Cause.REJECTED),
    answered("application-raises", "the application raises an exception instead of answering",
             Raise(), SendBytes(REQUEST), status=500, phase=H, cause=Cause.REJECTED,
             same_as="rejected", because="it is the application that refused; its log has the traceback"),
    answered("plain-request-answered", "the application answers a plain request",
             Answer(200, b"hello"), SendBytes(PLAIN_REQUEST), status=200, phase=H, cause=Cause.PLAIN_HTTP),
    answered("plain-request", "nobody answers a plain request but wsframe",
             SendBytes(PLAIN_REQUEST), status=426, phase=H, cause=Cause.PLAIN_HTTP,
             same_as="plain-request-answered", because="it was answered; the application knows whether by itself"),
    ended("plain-request-and-fin", "the peer sends a plain request and ends its stream, but still reads",
          Answer(200, b"hello"), SendBytes(PLAIN_REQUEST), Fin(),
          phase=H, cause=Cause.PLAIN_HTTP, initiator=LOCAL, wire=("HTTP 200",),
          same_as="plain-request-answered", because="HTTP allows it, and the answer arrives"),
    # We go.
    answered("shutdown-before-the-request", "the server is closed before a request has come",
             Shutdown(), status=503, phase=C, cause=Cause.REJECTED, says="the server is closing", age=None),
    answered("shutdown-inside-the-head", "the server is closed while the request comes",
             SendBytes(PART_OF_A_REQUEST), Shutdown(), status=503, phase=C, cause=Cause.REJECTED,
             says="the server is closing", same_as="shutdown-before-the-request", because=REQUEST_PART),
    answered("shutdown-while-the-request-waits", "the server is closed while a request waits for its answer",
             Block(), SendBytes(REQUEST), Shutdown(), status=503, phase=H, cause=Cause.REJECTED,
             says="the server is closing",
             except_on=NOBODY_READS),
    ended("abort-before-the-request", "it is aborted before a request has come",
          CallAbort(), phase=C, cause=Cause.LOCAL_ABORT,
          initiator=LOCAL, tcp="dropped", age=None, except_on=NO_HANDLE),
    ended("abort-while-the-request-waits", "it is aborted while a request waits for its answer",
          Block(), SendBytes(REQUEST), CallAbort(),
          phase=H, cause=Cause.LOCAL_ABORT, initiator=LOCAL, tcp="dropped", except_on=NO_HANDLE),
    ended("detached-before-the-request", "a host takes the connection before the request is complete",
          SendBytes(PART_OF_A_REQUEST), Detach(),
          phase=C, cause=Cause.DETACHED, initiator=LOCAL, tcp="kept", except_on=NO_DETACH),
    ended("detached", "a host takes the connection with the request",
          SendBytes(PLAIN_REQUEST), Detach(), phase=H, cause=Cause.DETACHED,
          initiator=LOCAL, tcp="kept", except_on=NO_DETACH),
    # TLS.
    lost("tls-garbage", "on a port with TLS the peer sends something else",
         FailTLS("garbage"), phase=C, cause=Cause.TLS_ERROR, code=1015, error=OSError, age=None, tls=True),
    lost("tls-certificate-refused", "the peer does not trust our certificate",
         FailTLS("certificate"), phase=C, cause=Cause.TLS_ERROR, code=1015, error=OSError, age=None, tls=True,
         same_as="tls-garbage", because="the TLS handshake has failed; the error says at what"),
    ended("tls-connect-and-drop", "on a port with TLS the peer connects and ends its stream",
          Fin(), phase=C, cause=Cause.EOF, initiator=REMOTE, age=None, tls=True, tcp="dropped",
          same_as="connect-and-drop", because="nothing was said, in TLS or otherwise"),
    ended("tls-silence", "on a port with TLS the peer is silent",
          phase=C, cause=Cause.OPEN_TIMEOUT,
          initiator=LOCAL, error=HandshakeError, says=NO_REQUEST, age=None, tls=True,
          tcp="dropped", settings={"open_timeout": OPEN_TIMEOUT}, **AT_OPEN_TIMEOUT,
          same_as="silence", because="the deadline is one for TLS and the opening handshake"),
    lost("tls-cut-inside-the-head", "the stream ends inside the request's head, and without TLS close_notify",
         SendBytes(PART_OF_A_REQUEST), CutTLS(), phase=C, cause=Cause.TLS_ERROR, error=OSError, tls=True,
         except_on={"aio": Instead("fin-inside-the-head", "asyncio does not tell a missing close_notify")}),
    lost("tls-broken-while-the-request-waits", "a broken TLS record comes while a request waits for its answer",
         Block(), SendBytes(REQUEST), BreakTLS(), phase=H, cause=Cause.TLS_ERROR, error=OSError, tls=True,
         except_on=NOBODY_READS),
)
