"""``Server``: one connection on a server, without I/O: HTTP/1.1 first, then the ``Connection`` (RFC 6455 s4.2)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence

from ._config import Limits, Timeouts
from ._endpoint import HandshakeEndpoint
from ._enums import Cause, Initiator, Role, State, Transport
from ._errors import HandshakeError, LocalProtocolError
from ._events import Event, Opened, RequestReceived
from ._extension import ExtensionFactory
from ._frames import pack_close
from ._http import Headers, Request, Response
from ._http11 import HttpError, RequestReader, encode_response
from ._lifecycle import Lifecycle
from ._negotiate import (
    AS_NEGOTIATED,
    SAME_HOST,
    Handshake,
    HeaderItems,
    Origins,
    Rejection,
    SubprotocolChoice,
    _Unset,
    check_host,
    check_settings,
    negotiate,
    plain_request_rejection,
    wants_websocket,
)
from ._state import Fact
from ._timers import Timer

__all__ = ["Server"]

BytesLike = bytes | bytearray | memoryview


class Server(HandshakeEndpoint):
    """A server's side of one connection. See ``Endpoint`` for how to drive it.

    ``receive_data`` gives `RequestReceived` for a request that is in order, to be answered with `accept`, `reject`,
    `respond` or `detach`. What is not in order is refused without asking, and ``Disconnected.error`` tells why.

    An exception from a ``subprotocols`` callable is answered with 500, and becomes ``Disconnected.error``.

    Bytes that come before the answer are kept for ``accept``: those that came together with the end of the request,
    and of later ones as many as make ``Limits.max_early_bytes``. With more the connection is failed.

    Args:
        origins, subprotocols, require_subprotocol, extensions: see ``negotiate``.
        limits: bounds; by default those of a server.
        timeouts: deadlines in seconds.
        stream, decode_text, random_bytes: see ``Connection``.

    Raises:
        LocalProtocolError: a supported subprotocol is no token, or stands there twice.
        TypeError, ValueError: the origins or the extensions are wrong.
    """

    __slots__ = ("_handshake", "_settings")

    def __init__(
        self,
        *,
        origins: Origins = SAME_HOST,
        subprotocols: SubprotocolChoice = (),
        require_subprotocol: bool = False,
        extensions: Sequence[ExtensionFactory] = (),
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        stream: bool = False,
        decode_text: bool = True,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        judge = _negotiation(origins, subprotocols, require_subprotocol, extensions)
        self._handshake = _ServerHandshake(limits, timeouts, judge)
        self._settings = stream, decode_text, random_bytes
        super().__init__(self._handshake)

    @property
    def request(self) -> Request | None:
        """The request, once it is complete."""
        return self._handshake.request

    @property
    def handshake(self) -> Handshake | None:
        """What was negotiated, once a WebSocket request that is in order has come."""
        return self._handshake.handshake

    def negotiate(
        self,
        *,
        origins: Origins,
        subprotocols: SubprotocolChoice = (),
        require_subprotocol: bool = False,
        extensions: Sequence[ExtensionFactory] = (),
        request: Request | None = None,
    ) -> bool:
        """Judge the opening handshake anew: for whoever learns only from the request what it has to be judged by.

        The server's own settings have been asked before, and should then be lenient.

        Args:
            origins, subprotocols, require_subprotocol, extensions: see the function ``negotiate``.
            request: judge this one in the place of that which came, such as one with another Host.

        Returns:
            whether it waits for `accept` now. Otherwise it was refused, as it would have been by the server's own.

        Raises:
            LocalProtocolError: there is no WebSocket request to judge, or a setting is wrong.
            TypeError, ValueError: a setting is wrong.
        """
        before = self._handshake
        handshake = before.check_waiting()
        if handshake is None:
            raise LocalProtocolError(
                "the request does not ask for a WebSocket: there is nothing to negotiate"
            )
        judge = _negotiation(origins, subprotocols, require_subprotocol, extensions)
        return before.agree(handshake.request if request is None else request, judge)

    @property
    def status(self) -> int | None:
        """The HTTP status of the answer that the peer got; None as long as there is none."""
        return self._handshake.status

    def lift_open_timeout(self) -> None:
        """The request has come, and whoever answers it may take his time: ``Timeouts.open`` does not hold any more.

        For a host that leaves it to its applications when they answer.

        Raises:
            LocalProtocolError: there is no request to answer.
        """
        self._handshake.check_waiting()
        self._handshake.lift_open_timeout()

    def accept(
        self,
        *,
        subprotocol: str | _Unset | None = AS_NEGOTIATED,
        headers: HeaderItems = (),
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
    ) -> list[Event]:
        """Answer 101: it is a WebSocket now.

        Args:
            subprotocol: overrides the negotiated one; must have been offered, or be None.
            headers: further response header lines.
            limits: bounds for the WebSocket; by default the server's, which hold until now in any case.
            timeouts: deadlines, in the same way.

        Returns:
            `Opened`, and the events of what was received since the request.

        Raises:
            LocalProtocolError: there is no WebSocket request to accept, or an argument is not allowed.
        """
        before = self._handshake
        handshake = before.check_waiting()
        if handshake is None:
            raise LocalProtocolError("the request does not ask for a WebSocket: answer it with respond()")
        stream, decode_text, random_bytes = self._settings
        status, all_headers, connection = handshake.accept(
            subprotocol=subprotocol,
            headers=headers,
            limits=before.limits if limits is None else limits,
            timeouts=before.timeouts if timeouts is None else timeouts,
            stream=stream,
            decode_text=decode_text,
            random_bytes=random_bytes,
            trailing_data=before.early_data(),
        )
        before.send_response(Response(status, headers=all_headers))
        self._switch(connection)
        before.opened()
        events: list[Event] = [
            Opened(connection.subprotocol, connection.extensions, handshake.request.headers)
        ]
        if connection.has_more:
            # Not by receive_data: nobody said what time it is, and the deadlines begin with the next call that does.
            connection._run(events)
        return events

    def reject(self, status: int = 403, headers: HeaderItems = (), body: str | bytes = "") -> list[Event]:
        """Refuse the request; the connection ends with REJECTED (or PLAIN_HTTP, when it asked for no WebSocket).

        Args:
            status: 400 to 599.
            headers: further header lines, as in `respond`.
            body: text or bytes for the peer; by default the status in words.

        Returns:
            [], for symmetry with `accept`.

        Raises:
            LocalProtocolError: there is no request to answer, or an argument is not allowed.
        """
        if not 400 <= status <= 599:
            raise LocalProtocolError(f"reject() takes a status from 400 to 599, not {status}")
        if not body:
            body = f"{Response(status).reason or status}\n"
        return self.respond(status, headers, body)

    def respond(self, status: int = 200, headers: HeaderItems = (), body: str | bytes = b"") -> list[Event]:
        """Answer the request with an HTTP response and end the connection (as `reject`).

        Args:
            status: 200 to 599.
            headers: header lines; ``Connection: close`` and ``Content-Length`` are added, and for a ``str`` body
                ``Content-Type: text/plain; charset=utf-8`` unless one is given.
            body: left out of the answer to HEAD.

        Returns:
            [], for symmetry with `accept`.

        Raises:
            LocalProtocolError: there is no request to answer, or an argument is not allowed.
        """
        self._handshake.check_waiting()
        if not 200 <= status <= 599:
            raise LocalProtocolError(f"respond() takes a final status from 200 to 599, not {status}")
        self._handshake.respond(status, Headers(headers), body)
        return []

    def respond_upgrade_required(self) -> list[Event]:
        """Answer a plain HTTP request with 426, as nothing better is known.

        Returns:
            [], for symmetry with `accept`.

        Raises:
            LocalProtocolError: there is no request to answer, or it asks for a WebSocket.
        """
        before = self._handshake
        if before.check_waiting() is not None:
            raise LocalProtocolError("the request asks for a WebSocket: answer it with accept() or reject()")
        assert before.request is not None
        before.refuse(plain_request_rejection(before.request).response, Cause.PLAIN_HTTP, None)
        return []

    def detach(self) -> bytes:
        """Leave the connection to a host: all bytes received so far, untouched.

        It ends with DETACHED: ``transport_closed()`` gives the ending at any time from now on. The transport belongs
        to the host: whatever is called, ``transport`` stays OPEN and there are no deadlines. What was queued and not
        yet handed out (a 503, a ``100 Continue``) is dropped.

        Raises:
            LocalProtocolError: an answer was already given, or the connection has ended.
        """
        return self._handshake.detach()


def _negotiation(
    origins: Origins,
    subprotocols: SubprotocolChoice,
    require_subprotocol: bool,
    extensions: Sequence[ExtensionFactory],
) -> Callable[[Request], Handshake | Rejection]:
    """Return ``negotiate`` with these settings, which are checked now."""
    check_settings(origins, subprotocols, extensions)
    return functools.partial(
        negotiate,
        origins=origins,
        subprotocols=subprotocols,
        require_subprotocol=require_subprotocol,
        extensions=extensions,
    )


class _ServerHandshake(Lifecycle):
    """Until the request is answered."""

    __slots__ = ("_continued", "_early", "_negotiate", "_reader", "handshake", "request", "status")

    def __init__(
        self,
        limits: Limits | None,
        timeouts: Timeouts | None,
        negotiate_: Callable[[Request], Handshake | Rejection],
    ) -> None:
        super().__init__(Role.SERVER, State.CONNECTING, limits, timeouts)
        self._negotiate = negotiate_
        self._reader = RequestReader(self.limits)
        self._early = bytearray()
        self._continued = False
        self.request: Request | None = None
        self.handshake: Handshake | None = None
        self.status: int | None = None
        self._timers.start(Timer.OPEN, self.timeouts.open)
        self.traffic.untimed = True

    def receive_data(self, data: BytesLike, now: float = 0.0) -> list[Event]:
        self._tick(now)
        if data:
            self.traffic.last_received = now
        if self._discard or not data:
            # What follows a refused request is read and discarded, never parsed.
            return []
        if self.request is not None:
            self._keep_early(data)
            return []
        self._reader.feed(data)
        try:
            request = self._reader.next()
        except HttpError as exc:
            cause = Cause.NOT_HTTP if exc.not_http else Cause.REJECTED
            self.refuse(_error_response(exc), cause, exc)
            return []
        if request is None:
            if self._reader.wants_continue and not self._continued:
                # RFC 9110 s10.1.1: the client waits for this before it sends the body.
                self._continued = True
                self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
            return []
        return self._judge(request)

    def _judge(self, request: Request) -> list[Event]:
        self.request = request
        self._advance(Fact.REQUEST)
        if wants_websocket(request):
            if not self.agree(request, self._negotiate):
                return []
        else:
            try:
                check_host(request)
            except HandshakeError as exc:
                self.refuse(_error_response(exc), Cause.REJECTED, exc)
                return []
        # However much it is: the application has had no chance to answer yet.
        self._early += self._reader.leftover
        return [
            RequestReceived(
                request.method, request.target, request.headers, request.body, self.handshake is not None
            )
        ]

    def agree(self, request: Request, negotiate_: Callable[[Request], Handshake | Rejection]) -> bool:
        """Have an opening handshake judged, and refuse it if it is not in order."""
        try:
            outcome = negotiate_(request)
        except Exception as exc:
            # Not the peer's fault but that of an application's callable, which must not look like the peer's.
            error = HandshakeError("the server failed to answer", 500)
            self.refuse(_error_response(error), Cause.REJECTED, exc)
            return False
        if not isinstance(outcome, Handshake):
            self.refuse(outcome.response, Cause.REJECTED, outcome.error)
            return False
        self.handshake = outcome
        return True

    def _keep_early(self, data: BytesLike) -> None:
        """Bytes between the request and its answer."""
        if len(self._early) + len(data) > self.limits.max_early_bytes:
            error = HandshakeError(
                f"over {self.limits.max_early_bytes} bytes (max_early_bytes) were sent before the answer", 400
            )
            self.refuse(_error_response(error), Cause.PROTOCOL_ERROR, error)
        else:
            self._early += data

    def check_waiting(self) -> Handshake | None:
        """There must be a request without an answer."""
        if self.state is not State.HANDSHAKE:
            raise LocalProtocolError(f"there is no request to answer: the connection is {self.state.name}")
        return self.handshake

    def lift_open_timeout(self) -> None:
        self._timers.stop(Timer.OPEN)

    def early_data(self) -> bytes:
        return bytes(self._early)

    def send_response(self, response: Response) -> None:
        method = self.request.method if self.request is not None else "GET"
        self._write(encode_response(response, request_method=method))
        self.status = response.status

    def opened(self) -> None:
        """The `Connection` has taken over."""
        self._advance(Fact.OPENED)
        self._timers.stop_all()
        self._release()

    def _release(self) -> None:
        self._reader.release()
        self._early = bytearray()

    def respond(self, status: int, headers: Headers, body: str | bytes) -> None:
        # RFC 9110 s7.8: a sender of Upgrade MUST also send an "Upgrade" connection option.
        extra = [("Connection", "close, upgrade" if "Upgrade" in headers else "close")]
        if isinstance(body, str):
            body = body.encode()
            if "Content-Type" not in headers:
                extra.append(("Content-Type", "text/plain; charset=utf-8"))
        for name in ("Connection", "Content-Length", "Transfer-Encoding"):
            if name in headers:
                raise LocalProtocolError(f"the header {name} is written by respond() itself")
        response = Response(status, headers=headers + extra, body=body)
        cause = Cause.PLAIN_HTTP if self.handshake is None else Cause.REJECTED
        self.refuse(response, cause, None)

    def refuse(self, response: Response, cause: Cause, error: Exception | None) -> None:
        """Send a last response, and let it arrive before closing."""
        self.send_response(response)
        self._terminate(cause, error=error, initiator=Initiator.LOCAL)
        self._stop_receiving()
        self._release()
        self._verdict(Transport.SHUTDOWN_WRITE)
        self._linger()

    def detach(self) -> bytes:
        if self.state not in (State.CONNECTING, State.HANDSHAKE):
            raise LocalProtocolError(f"cannot detach: the connection is {self.state.name}")
        received = self._reader.received
        if self.request is not None:
            # The reader has the request and what came in the same chunk; the rest came later.
            received += self._early[len(self._reader.leftover) :]
        self._terminate(Cause.DETACHED)
        # The transport belongs to the host now: no verdict, no deadline.
        self._timers.stop_all()
        self._stop_receiving()
        self._drop_output()
        self._release()
        return received

    def _verdict(self, transport: Transport) -> None:
        # After detach() the transport is not ours to close, not even with the ending.
        if self._cause is not Cause.DETACHED:
            super()._verdict(transport)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        pack_close(code, reason, Role.SERVER)
        if self.state in (State.CONNECTING, State.HANDSHAKE):
            error = HandshakeError("the server is closing; try again later", 503)
            self.refuse(_error_response(error), Cause.REJECTED, error)

    def _on_eof(self, events: list[Event]) -> None:
        if self.state is State.HANDSHAKE and self.handshake is None:
            # An HTTP client may half-close after its request and still read the answer.
            return
        if self._cause is None:
            self._terminate(Cause.TRUNCATED if self._reader.pending else Cause.EOF)
        self._stop_receiving()
        self._verdict(Transport.CLOSE)

    def _on_timer(self, timer: Timer, now: float, events: list[Event]) -> None:
        if self.state is State.CONNECTING:
            error = HandshakeError(f"no complete request within {self.timeouts.open:g} s", 408)
        else:
            error = HandshakeError(f"the request was not answered within {self.timeouts.open:g} s", 503)
        self.refuse(_error_response(error), Cause.OPEN_TIMEOUT, error)


def _error_response(error: HandshakeError) -> Response:
    headers = Headers([("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")])
    return Response(error.status or 400, headers=headers, body=f"{error}\n".encode())
