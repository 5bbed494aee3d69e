"""``Client``: one connection on a client, without I/O: the request first, then the ``Connection`` (RFC 6455 s4.1)."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence

from ._config import Limits, Timeouts
from ._connection import Connection
from ._endpoint import HandshakeEndpoint
from ._enums import Cause, Initiator, Role, State, Transport
from ._errors import HandshakeError
from ._events import Event, Opened, ResponseReceived
from ._extension import ExtensionFactory, PerMessageExtension, check_extensions, offer_extensions
from ._frames import pack_close
from ._http import Headers, Request, Response
from ._http11 import HttpError, ResponseReader, encode_request
from ._lifecycle import Lifecycle
from ._negotiate import (
    OWN_REQUEST_HEADERS,
    HeaderItems,
    accept_value,
    check_subprotocols,
    foreign_headers,
    shown,
)
from ._state import Fact
from ._timers import Timer
from ._uri import WebSocketURI, parse_uri
from ._version import __version__

__all__ = ["Client"]

BytesLike = bytes | bytearray | memoryview

USER_AGENT = f"wsframe/{__version__}"


class Client(HandshakeEndpoint):
    """A client's side of one connection. See ``Endpoint`` for how to drive it; the request is queued at once.

    Args:
        uri: a ws or wss URI, as ``str`` or parsed.
        headers: further request header lines; a User-Agent or an Authorization among them replaces ours.
        origin: the Origin header, for servers that ask for one.
        subprotocols: what to offer, the preferred first.
        extensions: what to offer.
        user_agent: the User-Agent header, or None for none.
        limits: bounds; by default those of a client.
        timeouts: deadlines in seconds.
        stream, decode_text: see ``Connection``.
        random_bytes: strong entropy, for the key (s4.1 item 7) and for what ``Connection`` needs.

    Raises:
        InvalidURI: the URI is no WebSocket URI.
        LocalProtocolError: a value cannot stand in a header, or the handshake writes that header itself.
        ValueError: two extensions have one name.
    """

    __slots__ = ("_settings", "request", "uri")

    def __init__(
        self,
        uri: str | WebSocketURI,
        *,
        headers: HeaderItems = (),
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        extensions: Sequence[ExtensionFactory] = (),
        user_agent: str | None = USER_AGENT,
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        stream: bool = False,
        decode_text: bool = True,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.uri = parse_uri(uri) if isinstance(uri, str) else uri
        # s4.1 item 7: 16 random bytes, new for every connection.
        key = base64.b64encode(random_bytes(16)).decode()
        # What is offered must not change until the answer is judged.
        subprotocols, extensions = check_subprotocols(subprotocols), tuple(extensions)
        self.request: Request = build_request(
            self.uri,
            key,
            origin=origin,
            subprotocols=subprotocols,
            extensions=extensions,
            headers=headers,
            user_agent=user_agent,
        )
        self._settings = stream, decode_text, random_bytes
        super().__init__(
            _ClientHandshake(
                limits,
                timeouts,
                encode_request(self.request),
                lambda response: check_response(
                    response, key, subprotocols=subprotocols, extensions=extensions
                ),
            )
        )

    def receive_data(self, data: BytesLike, now: float = 0.0) -> list[Event]:
        """Take received bytes and return what they mean. Never raises for anything that a peer can send."""
        events = self._active.receive_data(data, now)
        before = self._active
        if isinstance(before, _ClientHandshake) and before.agreed is not None:
            response, subprotocol, extensions = before.agreed
            stream, decode_text, random_bytes = self._settings
            connection = Connection(
                Role.CLIENT,
                subprotocol=subprotocol,
                extensions=extensions,
                limits=before.limits,
                timeouts=before.timeouts,
                stream=stream,
                decode_text=decode_text,
                random_bytes=random_bytes,
                trailing_data=before.leftover,
            )
            self._switch(connection)
            before.opened()
            events.append(Opened(subprotocol, connection.extensions, response.headers))
            events += connection.receive_data(b"", now)
        return events


class _ClientHandshake(Lifecycle):
    """Until the server has answered."""

    __slots__ = ("_check", "_reader", "agreed")

    def __init__(
        self,
        limits: Limits | None,
        timeouts: Timeouts | None,
        request: bytes,
        check: Callable[[Response], tuple[str | None, list[PerMessageExtension]]],
    ) -> None:
        super().__init__(Role.CLIENT, State.CONNECTING, limits, timeouts)
        self._reader = ResponseReader(self.limits)
        self._check = check
        self.agreed: tuple[Response, str | None, list[PerMessageExtension]] | None = None
        self._write(request)
        self._timers.start(Timer.OPEN, self.timeouts.open)
        self.traffic.untimed = True

    @property
    def leftover(self) -> bytes:
        return self._reader.leftover

    def opened(self) -> None:
        """The `Connection` has taken over."""
        self._advance(Fact.OPENED)
        self._timers.stop_all()

    def _on_handed_out(self) -> None:
        if self.state is State.CONNECTING:
            self._advance(Fact.REQUEST)

    def receive_data(self, data: BytesLike, now: float = 0.0) -> list[Event]:
        self._tick(now)
        events: list[Event] = []
        if data:
            self.traffic.last_received = now
        if self._discard or not data:
            return events
        self._reader.feed(data)
        try:
            response = self._reader.next()
            # s4.1: other statuses are handled as in HTTP; the interim ones announce another response.
            while response is not None and 100 <= response.status < 200 and response.status != 101:
                response = self._reader.next()
            if response is not None:
                self._judge(response, events)
        except HandshakeError as exc:
            self._fail(exc, events)
        return events

    def _judge(self, response: Response, events: list[Event]) -> None:
        if response.status != 101:
            self._refused(response, events)
        elif self.state is State.CONNECTING:
            raise HandshakeError("the server answered before the request was sent", 101)
        else:
            self.agreed = (response, *self._check(response))

    def _refused(self, response: Response, events: list[Event]) -> None:
        events.append(ResponseReceived(response.status, response.headers, response.body))
        what = f"{response.status} {response.reason[:80]}".rstrip()
        error = HandshakeError(f"the server answered {what}", response.status)
        self._terminate(Cause.REJECTED, error=error, initiator=Initiator.REMOTE)
        self._stop_receiving()
        self._verdict(Transport.CLOSE)

    def _fail(self, error: HandshakeError, events: list[Event]) -> None:
        response = self._reader.partial()
        if response is not None and response.status != 101:
            # It is the body that is broken, and the head has said what matters.
            self._refused(response, events)
            return
        not_http = isinstance(error, HttpError) and error.not_http
        self._terminate(Cause.NOT_HTTP if not_http else Cause.PROTOCOL_ERROR, error=error)
        self._stop_receiving()
        self._verdict(Transport.CLOSE)

    def _on_eof(self, events: list[Event]) -> None:
        if self._cause is None:
            # A body may end with the stream, and one that should not is as good as there is.
            response = self._reader.feed_eof()
            if response is not None:
                self._refused(response, events)
            else:
                self._terminate(Cause.TRUNCATED if self._reader.pending else Cause.EOF)
        self._stop_receiving()
        self._verdict(Transport.CLOSE)

    def _on_timer(self, timer: Timer, now: float, events: list[Event]) -> None:
        response = self._reader.partial()
        if response is not None:
            # The answer is known, only its body is not complete.
            self._refused(response, events)
            return
        error = HandshakeError(f"no answer to the opening handshake within {self.timeouts.open:g} s")
        self._terminate(Cause.OPEN_TIMEOUT, error=error)
        self._verdict(Transport.ABORT)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        pack_close(code, reason, Role.CLIENT)
        # There is no WebSocket yet that could be closed in order.
        if self.state in (State.CONNECTING, State.HANDSHAKE):
            self.abort()


# Request and response, on header lists.


def build_request(
    uri: WebSocketURI,
    key: str,
    *,
    origin: str | None = None,
    subprotocols: Sequence[str] = (),
    extensions: Sequence[ExtensionFactory] = (),
    headers: HeaderItems = (),
    user_agent: str | None = None,
) -> Request:
    """The request of an opening handshake (s4.1).

    Raises:
        LocalProtocolError: a value cannot stand in a header, or ``headers`` has a line that the handshake writes.
        ValueError: two extensions have one name.
    """
    lines = [
        ("Host", uri.host_header),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", "13"),
    ]
    if origin is not None:
        lines.append(("Origin", origin))
    if subprotocols:
        lines.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    offer = offer_extensions(extensions)
    if offer is not None:
        lines.append(("Sec-WebSocket-Extensions", offer))
    foreign = foreign_headers(headers, OWN_REQUEST_HEADERS)
    if user_agent is not None and "User-Agent" not in foreign:
        lines.append(("User-Agent", user_agent))
    if uri.username is not None and "Authorization" not in foreign:
        # RFC 7617: the credentials of the URI.
        credentials = base64.b64encode(f"{uri.username}:{uri.password or ''}".encode()).decode()
        lines.append(("Authorization", f"Basic {credentials}"))
    return Request("GET", uri.target, Headers(lines) + foreign)


def check_response(
    response: Response, key: str, *, subprotocols: Sequence[str], extensions: Sequence[ExtensionFactory]
) -> tuple[str | None, list[PerMessageExtension]]:
    """Judge a 101 response (s4.1, the server's response) and return subprotocol and extensions.

    Raises:
        HandshakeError: what was wrong.
    """
    headers, status = response.headers, response.status
    # Of the response's rules in s4.1, item 1 is the status, which has been seen; then items 2 to 6.
    if response.version < (1, 1):
        raise HandshakeError("the server answered 101 with HTTP/1.0", status)
    if headers.tokens("Upgrade") != ["websocket"]:
        found = shown(headers.get_all("Upgrade"))
        raise HandshakeError(f"the response's Upgrade header must be 'websocket', but is {found}", status)
    if "upgrade" not in headers.tokens("Connection"):
        raise HandshakeError("the response's Connection header does not contain 'Upgrade'", status)
    accepts = headers.get_all("Sec-WebSocket-Accept")
    if accepts != [accept_value(key)]:
        raise HandshakeError(f"the Sec-WebSocket-Accept does not belong to our key: {shown(accepts)}", status)
    chosen = headers.get_all("Sec-WebSocket-Protocol")
    if len(chosen) > 1:
        raise HandshakeError(f"the server chose {len(chosen)} subprotocols", status)
    subprotocol = chosen[0] if chosen else None
    if subprotocol is not None and subprotocol not in subprotocols:
        offered = ", ".join(subprotocols) or "none"
        raise HandshakeError(f"the server chose subprotocol {shown(chosen)}; offered: {offered}", status)
    return subprotocol, check_extensions(headers.get_all("Sec-WebSocket-Extensions"), extensions)
