"""The application's side of one WebSocket, as the ASGI specification has it, for whatever server it runs on.

`Session` is what a server calls an application with: its ``receive`` and its ``send``. `Host` is what the server has to
be for that. Nothing here knows a particular server.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, ClassVar, TypeAlias

from .._adapter._conduct import answer_failure
from .._adapter._exceptions import ConnectionClosed
from .._adapter._owner import Opening
from .._backend import Finished
from .._enums import State
from .._errors import LocalProtocolError
from .._events import Disconnected, Event, RequestReceived
from .._http import Headers, Request
from .._server import Server
from ..aio import WebSocket
from ..aio._channel import Channel

__all__ = ["ASGIApplication", "Host", "Message", "Scope", "Session"]

Scope: TypeAlias = dict[str, Any]
Message: TypeAlias = Mapping[str, Any]
RawHeaders: TypeAlias = Iterable[tuple[bytes, bytes]]
ASGIApplication: TypeAlias = Callable[
    [Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[object]
]

_Denial: TypeAlias = tuple[int, Headers, bytearray]

#: Written by the answer itself, whatever the application says.
_FRAMING = ("connection", "content-length", "transfer-encoding")

_EXPECTED_FIRST = "'websocket.accept', 'websocket.close' or 'websocket.http.response.start'"
_EXPECTED_OPEN = "'websocket.send' or 'websocket.close'"
_EXPECTED_BODY = "'websocket.http.response.body'"


class Host(Channel):
    """The channel of a connection that a server has handed over with the request, and what the server is asked for.

    Attributes:
        disconnected: what ``send`` raises when the peer has gone.
    """

    __slots__ = ()

    disconnected: ClassVar[type[OSError]]

    def new_scope(self, request: Request, subprotocols: tuple[str, ...]) -> Scope:
        """What the application is told of the connection."""
        raise NotImplementedError

    def start(self, job: Coroutine[Any, Any, None]) -> None:
        """Run the application."""
        raise NotImplementedError

    def response_headers(self) -> RawHeaders:
        """Header lines that go with every answer."""
        raise NotImplementedError

    def answered(self, scope: Scope, status: int) -> None:
        """The application has accepted (101) or refused."""
        raise NotImplementedError

    def application_failed(self, text: str, exc: BaseException | None = None) -> None:
        """It did something that it must not, or raised something."""
        raise NotImplementedError

    def ended(self, scope: Scope | None, ending: Disconnected) -> None:
        """The connection has ended; ``scope`` is None where no application was asked."""
        raise NotImplementedError


class _Phase(enum.Enum):
    """What the application has done."""

    ASKED = "asked"
    OPEN = "accepted"
    DENYING = "sent 'websocket.http.response.start'"
    DONE = "closed"


class Session(Opening):
    """One connection, from its request to its end: owns the channel until there is a `WebSocket`.

    Args:
        host: the channel.
        application: what to call with the scope.

    Attributes:
        scope: what the application was told; None before the request.
    """

    __slots__ = (
        "_application",
        "_denial",
        "_ending",
        "_host",
        "_is_told",
        "_messages",
        "_phase",
        "_told",
        "_waiter",
        "_websocket",
        "scope",
    )

    #: A `WebSocket` asks whose it is. No registry finds these.
    id = 0

    def __init__(self, host: Host, application: ASGIApplication) -> None:
        self.scope: Scope | None = None
        self._host = host
        self._application = application
        self._phase = _Phase.ASKED
        # The application has heard that there is a connection.
        self._is_told = False
        # What it can find in the scope.
        self._told: dict[str, Any] = {"ending": None}
        self._ending: Disconnected | None = None
        # While the application can send, and as long as there may be messages for it.
        self._websocket: WebSocket | None = None
        self._messages: AsyncIterator[str | bytes] | None = None
        # Status, headers and body, so far, of an answer that is no WebSocket.
        self._denial: _Denial | None = None
        # Those who wait for messages before it is accepted.
        self._waiter: asyncio.Future[None] | None = None

    # For the application.

    async def receive(self) -> Message:
        """What an application is called with: wait for the next event.

        Raises:
            RuntimeError: another task is in here already.
        """
        if not self._is_told:
            self._is_told = True
            return {"type": "websocket.connect"}
        if self._messages is None:
            await self._answered()
        if self._messages is not None:
            try:
                data = await anext(self._messages)
            except (ConnectionClosed, StopAsyncIteration):
                pass
            else:
                return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}
        assert self._ending is not None
        return self._ending.asgi_event()

    def send(self, message: Message) -> Awaitable[None]:
        """What an application is called with: send an event. Awaiting it waits while the peer takes too little.

        Raises:
            OSError: the peer has gone; it is what the server says that it is.
            RuntimeError: the event is none that can be sent, or not now.
        """
        websocket = self._websocket
        if websocket is not None and message["type"] == "websocket.send":
            data, text = message.get("bytes"), message.get("text")
            if type(text) is str and data is None:
                sent = websocket.send(text)
            elif type(data) is bytes and text is None:
                sent = websocket.send(data)
            else:
                return self._send(message)
            return sent if type(sent) is Finished else self._sent(sent)
        return self._send(message)

    async def run(self) -> None:
        """Call the application, and end the connection when it has returned."""
        assert self.scope is not None
        host = self._host
        try:
            result = await self._application(self.scope, self.receive, self.send)
        except host.disconnected:
            # It has been told, and that is how it says so.
            self._leave()
        except asyncio.CancelledError:
            self._leave(1001)
            raise
        except Exception as exc:
            host.application_failed("Exception in ASGI application\n", exc)
            self._leave(1011)
        except BaseException:
            self._leave(1011)
            raise
        else:
            if result is not None:
                host.application_failed(f"ASGI callable should return None, but returned '{result}'.")
            if self._ending is None and self._phase is _Phase.ASKED:
                host.application_failed("ASGI callable returned without completing handshake.")
            elif self._ending is None and self._phase is _Phase.DENYING:
                host.application_failed("ASGI callable returned without completing response.")
            self._leave()

    # From the channel, and from the `WebSocket`.

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            endpoint = self._opening
            if endpoint.handshake is None:
                endpoint.respond_upgrade_required()
                return
            # It is the application that is waited for, and it may ask others in turn.
            endpoint.lift_open_timeout()
            self.scope = self._host.new_scope(endpoint.handshake.request, endpoint.handshake.offered)
            self.scope["extensions"]["wsframe"] = self._told
            self._host.start(self.run())
        elif isinstance(event, Disconnected):
            self.ended(event)

    def give_up(self) -> None:
        """Something that should not happen did."""
        if isinstance(self._host.endpoint, Server):
            answer_failure(self._host.endpoint)

    def ended(self, ending: Disconnected) -> None:
        """The connection has ended, whatever it was."""
        self._ending = self._told["ending"] = ending
        # It holds on to this.
        self._websocket = None
        self._wake()
        self._host.ended(self.scope, ending)

    # Inside.

    @property
    def _opening(self) -> Server:
        """The endpoint, until it is open."""
        endpoint = self._host.endpoint
        assert isinstance(endpoint, Server)
        return endpoint

    async def _answered(self) -> None:
        """Wait until the application has accepted, or the connection has ended."""
        while self._messages is None and self._ending is None:
            if self._waiter is None:
                self._waiter = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._waiter)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.set_result(None)

    async def _sent(self, sending: Awaitable[None]) -> None:
        try:
            await sending
        except ConnectionClosed as exc:
            raise self._gone() from exc
        except LocalProtocolError as exc:
            raise RuntimeError(f"'websocket.send' cannot be sent: {exc}") from exc

    def _gone(self) -> OSError:
        return self._host.disconnected("" if self._ending is None else str(self._ending))

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if self._phase is _Phase.ASKED:
            self._answer(kind, message)
        elif self._phase is _Phase.DENYING:
            self._go_on_denying(kind, message)
        elif self._phase is _Phase.DONE:
            raise RuntimeError(
                f"Unexpected ASGI message '{kind}', after sending 'websocket.close' or a whole response."
            )
        elif kind == "websocket.send":
            data = _payload(message)
            if self._websocket is None:
                raise self._gone()
            await self._sent(self._websocket.send(data))
        elif kind == "websocket.close":
            self._close(message)
        else:
            raise _unexpected(kind, _EXPECTED_OPEN)

    def _answer(self, kind: str, message: Message) -> None:
        """The first word of the application."""
        if kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            # If the peer has gone, there is nobody left to refuse.
            if self._is_waiting:
                self._refuse(403, Headers(), b"")
            self._phase = _Phase.DONE
        elif kind == "websocket.http.response.start":
            denial = _response_start(message)
            if not self._is_waiting:
                raise self._gone()
            self._denial = denial
            self._phase = _Phase.DENYING
        else:
            raise _unexpected(kind, _EXPECTED_FIRST)

    @property
    def _is_waiting(self) -> bool:
        """The peer still waits for the answer to its request."""
        return self._ending is None and self._host.endpoint.state is State.HANDSHAKE

    def _accept(self, message: Message) -> None:
        if not self._is_waiting:
            raise self._gone()
        host, endpoint = self._host, self._opening
        try:
            events = endpoint.accept(
                subprotocol=message.get("subprotocol") or None,
                headers=[*host.response_headers(), *(message.get("headers") or ())],
            )
        except (LocalProtocolError, TypeError) as exc:
            raise RuntimeError(f"'websocket.accept' cannot be sent: {exc}") from exc
        connection, request = endpoint.connection, endpoint.request
        assert connection is not None
        assert request is not None
        assert self.scope is not None
        websocket = WebSocket(host, connection, request, record=self)
        self._messages, self._websocket = aiter(websocket), websocket
        self._phase = _Phase.OPEN
        host.answered(self.scope, 101)
        websocket.handle_events(events[1:])
        self._wake()
        self._go_on()

    def _refuse(self, status: int, headers: Headers, body: bytes | str) -> None:
        """Answer with something else than a WebSocket."""
        assert self.scope is not None
        self._opening.respond(status, Headers(self._host.response_headers()) + headers, body)
        self._host.answered(self.scope, status)
        self._go_on()

    def _go_on_denying(self, kind: str, message: Message) -> None:
        if kind != "websocket.http.response.body":
            raise _unexpected(kind, _EXPECTED_BODY)
        if not self._is_waiting:
            raise self._gone()
        assert self._denial is not None
        status, headers, body = self._denial
        body += message.get("body") or b""
        if not message.get("more_body", False):
            self._refuse(status, headers, bytes(body))
            self._phase = _Phase.DONE
            self._denial = None

    def _close(self, message: Message) -> None:
        websocket, code = self._websocket, message.get("code")
        # Where the peer was faster there is nothing left to close.
        if websocket is not None:
            try:
                websocket.start_closing(1000 if code is None else code, message.get("reason") or "")
            except LocalProtocolError as exc:
                raise RuntimeError(f"'websocket.close' cannot be sent: {exc}") from exc
        self._phase = _Phase.DONE
        self._websocket = None

    def _leave(self, code: int = 1000) -> None:
        """The application has returned, or failed: end what it has not ended."""
        if self._ending is not None:
            return
        phase, websocket = self._phase, self._websocket
        self._phase = _Phase.DONE
        self._websocket = self._denial = None
        if websocket is not None:
            websocket.start_closing(code)
        elif phase in (_Phase.ASKED, _Phase.DENYING) and self._is_waiting:
            if code == 1001:
                self._opening.close()
                self._go_on()
            else:
                self._refuse(500, Headers(), "Internal Server Error")

    def _go_on(self) -> None:
        self._host.advance()
        self._host.update_reading()


def _response_start(message: Message) -> _Denial:
    """What a 'websocket.http.response.start' says, without what is written by the answer itself.

    Raises:
        RuntimeError: it does not say it as it must.
    """
    status = message["status"]
    if not 200 <= status <= 599:
        raise RuntimeError(f"Invalid HTTP status code '{status}' in response; it must be 200 to 599.")
    try:
        headers = Headers(message.get("headers") or ())
    except (LocalProtocolError, TypeError) as exc:
        raise RuntimeError(f"'websocket.http.response.start' cannot be sent: {exc}") from exc
    return status, Headers([line for line in headers if line[0].lower() not in _FRAMING]), bytearray()


def _payload(message: Message) -> str | bytes | bytearray | memoryview:
    """What a 'websocket.send' says.

    Raises:
        RuntimeError: it does not say it as it must.
    """
    data, text = message.get("bytes"), message.get("text")
    if data is None and isinstance(text, str):
        return text
    if text is None and isinstance(data, (bytes, bytearray, memoryview)):
        return data
    raise RuntimeError(
        "'websocket.send' needs either 'text', a str, or 'bytes', but got"
        f" text of {type(text).__name__} and bytes of {type(data).__name__}"
    )


def _unexpected(kind: str, expected: str) -> RuntimeError:
    return RuntimeError(f"Expected ASGI message {expected}, but got '{kind}'.")
