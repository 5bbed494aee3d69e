"""Rows of a client before there is a WebSocket."""

from __future__ import annotations

from typing import Any

from ..._enums import Cause, Initiator, State
from ..._errors import HandshakeError
from ._acts import (
    Act,
    Await,
    BreakTLS,
    CallAbort,
    CallClose,
    CutTLS,
    FailTLS,
    Fin,
    KeepSending,
    LoseTransport,
    NetworkError,
    NobodyListens,
    Reset,
    SendBytes,
    SendEarly,
)
from ._build import (
    AT_OPEN_TIMEOUT,
    LOST,
    OPEN_TIMEOUT,
    RESPONSE,
    client,
    only_in_the_core,
    refused,
    response,
)
from ._row import Instead, Row

__all__ = ["ROWS"]

GROUP = "opening, client"
LOCAL, REMOTE, TRANSPORT = Initiator
C, H = State.CONNECTING, State.HANDSHAKE

PART = RESPONSE[:40]
ASKED = Await("request")
FORBIDDEN = refused("403 Forbidden", b"no entry")

NO_HANDLE = only_in_the_core("who cancels `connect` is told so, and nothing else")
ANSWER_PART = "how much of the answer had come makes no difference to what can be done about it"
DEADLINE = "the deadline is one for the whole handshake; bytes do not move it"


def ended(
    name: str, what: str, *acts: Act, cause: Cause, initiator: Initiator, phase: State = H, **fields: Any
) -> Row:
    return client(
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


def lost(name: str, what: str, *acts: Act, cause: Cause, **fields: Any) -> Row:
    """The transport fails."""
    return ended(name, what, *acts, cause=cause, initiator=TRANSPORT, **LOST, **fields)


def wrong(
    name: str, what: str, answer: bytes, says: str, cause: Cause = Cause.PROTOCOL_ERROR, **fields: Any
) -> Row:
    """The server's answer is not what the opening handshake asks for."""
    return ended(
        name,
        what,
        ASKED,
        SendBytes(answer),
        cause=cause,
        initiator=LOCAL,
        error=HandshakeError,
        says=says,
        tcp="dropped",
        **fields,
    )


def rejected(name: str, what: str, *acts: Act, status: int = 403, **fields: Any) -> Row:
    """The server answers with another status."""
    says = f"the server answered {status}"
    return ended(
        name,
        what,
        ASKED,
        *acts,
        cause=Cause.REJECTED,
        initiator=REMOTE,
        error=HandshakeError,
        says=says,
        **fields,
    )


def late(name: str, what: str, *acts: Act, **fields: Any) -> Row:
    """The open timeout passes."""
    return ended(
        name,
        what,
        *acts,
        cause=Cause.OPEN_TIMEOUT,
        initiator=LOCAL,
        error=HandshakeError,
        says=f"no answer to the opening handshake within {OPEN_TIMEOUT:g} s",
        tcp="dropped",
        settings={"open_timeout": OPEN_TIMEOUT},
        **AT_OPEN_TIMEOUT,
        **fields,
    )


# fmt: off
ROWS: tuple[Row, ...] = (
    # There is no connection, or it goes.
    lost("nobody-listens", "nobody listens there",
         NobodyListens(), phase=C, cause=Cause.TRANSPORT_ERROR, error=ConnectionRefusedError, age=None),
    lost("network-error-before-the-request", "the system reports that the network has failed, before anything is sent",
         NetworkError(), phase=C, cause=Cause.TRANSPORT_ERROR, error=OSError, age=None),
    lost("network-error-before-the-answer",
         "the system reports that the network has failed, before the answer has come",
         ASKED, NetworkError(), cause=Cause.TRANSPORT_ERROR, error=OSError, age=None),
    lost("transport-gone-before-the-answer", "somebody closes the transport under us, before the answer has come",
         ASKED, LoseTransport(), cause=Cause.TRANSPORT_ERROR, age=None),
    ended("fin-before-the-answer", "the peer ends its stream instead of answering",
          ASKED, Fin(), cause=Cause.EOF, initiator=REMOTE, age=None),
    ended("fin-inside-the-answer", "the peer ends its stream inside its answer",
          ASKED, SendBytes(PART), Fin(), cause=Cause.TRUNCATED, initiator=REMOTE),
    ended("fin-after-an-interim-response", "the peer announces an answer with 103 and ends its stream",
          ASKED, SendBytes(b"HTTP/1.1 103 Early Hints\r\n\r\n"), Fin(), cause=Cause.TRUNCATED, initiator=REMOTE,
          same_as="fin-inside-the-answer", because=ANSWER_PART),
    lost("reset-before-the-answer", "the peer resets instead of answering",
         ASKED, Reset(), cause=Cause.RESET, error=ConnectionResetError, age=None),
    lost("reset-inside-the-answer", "the peer resets inside its answer",
         ASKED, SendBytes(PART), Reset(), cause=Cause.RESET, error=ConnectionResetError,
         same_as="reset-before-the-answer", because=ANSWER_PART),
    # The answer is none, or a wrong one.
    wrong("garbage", "the peer answers with bytes that are no HTTP",
          b"\x00\xff\x00\xff", "this is not HTTP: it begins with", Cause.NOT_HTTP),
    wrong("another-protocol", "it is an SSH server that answers",
          b"SSH-2.0-OpenSSH_9.6\r\n", "it looks like SSH", Cause.NOT_HTTP),
    wrong("tls-on-a-plain-uri", "the port has TLS, and the URI is ws",
          b"\x15\x03\x01\x00\x02\x02\x46", "it looks like TLS on a plain port", Cause.NOT_HTTP),
    wrong("http2", "the peer answers with HTTP/2.0",
          b"HTTP/2.0 101 Switching Protocols\r\n\r\n", "a response with HTTP/2.0"),
    wrong("broken-head", "a header line of the answer is malformed",
          b"HTTP/1.1 101 Switching Protocols\r\nUpgrade : websocket\r\n", "whitespace before the colon"),
    wrong("head-too-long", "a header line of the answer is over the limit",
          b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 16384, "is over max_header_line (16384)"),
    wrong("wrong-accept", "the Sec-WebSocket-Accept of the 101 belongs to another key",
          response("Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=", without="Sec-WebSocket-Accept"),
          "the Sec-WebSocket-Accept does not belong to our key"),
    wrong("no-upgrade", "the 101 has no Upgrade header",
          response(without="Upgrade"), "the response's Upgrade header must be 'websocket'"),
    wrong("subprotocol-not-offered", "the 101 chooses a subprotocol that was not offered",
          response("Sec-WebSocket-Protocol: chat"), "the server chose subprotocol 'chat'; offered: none"),
    wrong("extension-not-offered", "the 101 chooses an extension that was not offered",
          response("Sec-WebSocket-Extensions: permessage-deflate"), "permessage-deflate"),
    # It refuses.
    rejected("rejected", "the peer answers 403", SendBytes(FORBIDDEN)),
    rejected("plain-answer", "the peer answers 200, as a web server does that knows no WebSocket",
             SendBytes(refused("200 OK", b"hello")), status=200),
    rejected("redirect", "the peer answers 302",
             SendBytes(refused("302 Found", b"", "Location: /elsewhere", "Content-Length: 0")), status=302),
    rejected("rejected-inside-the-body", "the peer answers 403 and ends its stream inside the body",
             SendBytes(FORBIDDEN[:-1]), Fin(),
             same_as="rejected", because="the head has said what matters"),
    rejected("rejected-without-an-end", "the peer answers 403, with a body that never ends",
             SendBytes(FORBIDDEN[:-1]), age=OPEN_TIMEOUT,
             settings={"open_timeout": OPEN_TIMEOUT}, **AT_OPEN_TIMEOUT,
             same_as="rejected", because="the head has said what matters"),
    rejected("rejected-and-reset", "the peer answers 403 and resets",
             SendBytes(FORBIDDEN), Reset(),
             same_as="rejected", because="the ending was decided before; nothing later overwrites it"),
    # Nothing comes, or not enough.
    late("no-answer", "the peer takes the request and is silent", ASKED, age=None),
    late("half-an-answer", "the peer never finishes its answer",
         ASKED, SendBytes(PART), age=OPEN_TIMEOUT, same_as="no-answer", because=ANSWER_PART),
    late("slow-answer", "the peer sends its answer byte by byte, for ever",
         ASKED, KeepSending("head"), same_as="no-answer", because=DEADLINE),
    # We go.
    ended("abort-before-the-answer", "it is aborted (`connect` is cancelled) before the answer has come",
          ASKED, CallAbort(), cause=Cause.LOCAL_ABORT, initiator=LOCAL, age=None, tcp="dropped", except_on=NO_HANDLE),
    ended("close-before-the-answer", "it is closed before the answer has come",
          ASKED, CallClose(), cause=Cause.LOCAL_ABORT, initiator=LOCAL, age=None, tcp="dropped", except_on=NO_HANDLE,
          same_as="abort-before-the-answer", because="there is no WebSocket yet that could be closed in order"),
    # TLS.
    lost("tls-garbage", "the port has no TLS, and the URI is wss",
         FailTLS("garbage"), phase=C, cause=Cause.TLS_ERROR, code=1015, error=OSError, age=None, tls=True),
    lost("tls-certificate-not-trusted", "the peer's certificate is not trusted",
         FailTLS("certificate"), phase=C, cause=Cause.TLS_ERROR, code=1015, error=OSError, age=None, tls=True,
         same_as="tls-garbage", because="the TLS handshake has failed; the error says at what"),
    ended("tls-fin", "the peer ends its stream instead of the TLS handshake",
          Fin(), phase=C, cause=Cause.EOF, initiator=REMOTE, age=None, tls=True, tcp="dropped"),
    lost("tls-reset", "the peer resets in the TLS handshake",
         Reset(), phase=C, cause=Cause.RESET, error=ConnectionResetError, age=None, tls=True),
    late("tls-silence", "the peer is silent in the TLS handshake", phase=C, age=None, tls=True),
    ended("tls-abort", "it is aborted (`connect` is cancelled) in the TLS handshake",
          CallAbort(), phase=C, cause=Cause.LOCAL_ABORT, initiator=LOCAL, age=None, tls=True, tcp="dropped",
          except_on=NO_HANDLE),
    lost("tls-transport-gone", "somebody closes the transport under us in the TLS handshake",
         LoseTransport(), phase=C, cause=Cause.TRANSPORT_ERROR, age=None, tls=True),
    lost("tls-cut-inside-the-answer", "the stream ends inside the answer, and without TLS close_notify",
         ASKED, SendBytes(PART), CutTLS(), cause=Cause.TLS_ERROR, error=OSError, tls=True,
         except_on={"aio": Instead("fin-inside-the-answer", "asyncio does not tell a missing close_notify")}),
    lost("tls-broken-before-the-answer", "a broken TLS record comes instead of the answer",
         ASKED, BreakTLS(), cause=Cause.TLS_ERROR, error=OSError, age=None, tls=True,
         same_as="tls-cut-inside-the-answer", because="TLS has failed; the error says at what"),
    # What comes with the end of the TLS handshake is there before the request has gone.
    ended("early-rejection", "the peer answers 503 before it has the request",
          SendEarly(refused("503 Service Unavailable")), phase=C, cause=Cause.REJECTED, initiator=REMOTE,
          error=HandshakeError, says="the server answered 503", tls=True),
    ended("early-fin", "the peer begins to answer before it has the request, and ends its stream",
          SendEarly(PART, fin=True), phase=C, cause=Cause.TRUNCATED, initiator=REMOTE, tls=True),
    ended("early-garbage", "the peer sends garbage before it has the request",
          SendEarly(b"\x00\xff\x00\xff"), phase=C, cause=Cause.NOT_HTTP, initiator=LOCAL, error=HandshakeError,
          says="this is not HTTP: it begins with", tls=True),
    ended("early-acceptance", "the peer answers 101 before it has the request",
          SendEarly(RESPONSE), phase=C, cause=Cause.PROTOCOL_ERROR, initiator=LOCAL, error=HandshakeError,
          says="the server answered before the request was sent", tls=True),
)
