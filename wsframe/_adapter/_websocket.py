"""What the ``WebSocket`` classes of the adapters have in common: what it is, its queue, and its pings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from .._backend import MessageChunk, ReceiveQueue
from .._connection import Connection
from .._enums import Role, State
from .._events import Disconnected, Event, Message, PongReceived
from .._frames import PreparedMessage
from .._http import Request, Response

__all__ = [
    "MESSAGE_TYPES",
    "BytesLike",
    "WebSocketBase",
    "check_message",
    "check_piece",
    "converted",
    "queue_message",
]

BytesLike = bytes | bytearray | memoryview

#: What is a whole message.
MESSAGE_TYPES = (str, bytes, bytearray, memoryview, PreparedMessage)

PongT = TypeVar("PongT")


class Record(Protocol):
    """What a server has of each of its connections."""

    id: int

    def ended(self, ending: Disconnected) -> None:
        """It has ended. Called once."""


class WebSocketBase(Generic[PongT]):
    """An open WebSocket, without the ways to wait for anything. Who derives from it has made ``_queue``.

    Attributes:
        request: the opening handshake's request.
        response: its response; None on a server.
        ending: how the connection ended; None while it has not.
    """

    __slots__ = ("_connection", "_pongs", "_queue", "_record", "ending", "request", "response")

    _queue: ReceiveQueue
    # An object and no function, because a bound method is one, too. None on a client.
    _record: Record | None

    def __init__(
        self,
        connection: Connection,
        request: Request,
        response: Response | None,
        record: Record | None,
    ) -> None:
        self.request = request
        self.response = response
        self.ending: Disconnected | None = None
        self._record = record
        self._connection = connection
        # By payload: those who wait for the pongs, in the order of the pings; None while nobody does.
        self._pongs: dict[bytes, PongT] | None = None

    @property
    def id(self) -> int:
        """Its number on its server, which no other connection of that server ever has; 0 on a client."""
        return 0 if self._record is None else self._record.id

    @property
    def role(self) -> Role:
        """Which side of the connection this is."""
        return self._connection.role

    @property
    def state(self) -> State:
        """OPEN, CLOSING or CLOSED."""
        return self._connection.state

    @property
    def subprotocol(self) -> str | None:
        """The agreed subprotocol."""
        return self._connection.subprotocol

    @property
    def latency(self) -> float | None:
        """Seconds of the last round trip of a ping, or None before the first."""
        return self._connection.latency

    @property
    def buffered_bytes(self) -> int:
        """Bytes of what was sent that still wait to be written."""
        return self._connection.buffered

    @property
    def close_code(self) -> int | None:
        """The Close code to tell an application, as in ``Disconnected.code``; None while open."""
        return None if self.ending is None else self.ending.code

    @property
    def close_reason(self) -> str | None:
        """The peer's reason, or ""; None while open."""
        return None if self.ending is None else self.ending.reason

    # From the loop that drives the connection.

    def wants_data(self) -> bool:
        """Whether there is room for more messages."""
        return not self._queue.full

    def has_unread(self) -> bool:
        """Whether there are messages that nobody has taken yet."""
        return bool(self._queue)

    def handle_events(self, events: list[Event]) -> None:
        """Take the core's events."""
        for event in events:
            if isinstance(event, Message):
                self._connection.traffic.messages_in += 1
                self._queue.put(event)
            elif isinstance(event, MessageChunk):
                # The last one makes it a message.
                self._connection.traffic.messages_in += event.final
                self._queue.put(event)
            elif isinstance(event, PongReceived):
                self._settle_pongs(event)
            elif isinstance(event, Disconnected):
                self.ending = event
                self._finish(event)
                self._pongs = None
                if self._record is not None:
                    self._record.ended(event)

    def _settle_pongs(self, event: PongReceived) -> None:
        pongs = self._pongs
        if event.rtt is None or pongs is None or event.payload not in pongs:
            return
        # A pong settles the earlier pings as well.
        for payload in list(pongs):
            self._settle(pongs.pop(payload), event.rtt)
            if payload == event.payload:
                break
        if not pongs:
            self._pongs = None

    def _pong_for(self, payload: bytes, new: Callable[[], PongT]) -> PongT:
        """Who waits for the pong with that payload."""
        if self._pongs is None:
            self._pongs = {}
        pong = self._pongs.get(payload)
        if pong is None:
            pong = self._pongs[payload] = new()
        return pong

    def _settle(self, pong: PongT, rtt: float) -> None:
        """The answer to a ping has come, after ``rtt`` seconds."""
        raise NotImplementedError

    def _finish(self, ending: Disconnected) -> None:
        """The connection has ended: wake whoever waits for anything."""
        raise NotImplementedError


def check_message(message: object) -> None:
    """Only ``str``, bytes-like data and what was prepared of them are messages.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(message, MESSAGE_TYPES):
        raise TypeError(f"a message is a str, bytes-like or a PreparedMessage, not {type(message).__name__}")


def check_piece(piece: object, like: object = None) -> None:
    """The pieces of one message are all ``str``, or all bytes-like.

    Args:
        piece: one of them.
        like: the first one; None if this is the first.

    Raises:
        TypeError: it is neither, or of the other kind.
    """
    if not isinstance(piece, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"a piece of a message is a str or bytes-like, not {type(piece).__name__}")
    if like is not None and isinstance(piece, str) is not isinstance(like, str):
        raise TypeError(
            "the pieces of one message are all str or all bytes-like, but"
            f" {type(piece).__name__} came after {type(like).__name__}"
        )


def converted(message: str | bytes, decode: bool) -> str | bytes:
    """A message that was received as ``str``, or as ``bytes``.

    Raises:
        UnicodeDecodeError: that cannot be made a ``str``.
    """
    if isinstance(message, str):
        return message if decode else message.encode()
    return message.decode() if decode else message


def queue_message(connection: Connection, message: str | BytesLike | PreparedMessage) -> None:
    """Have a connection send a message. A client cannot send what is framed already: it sends the same anew.

    Raises:
        LocalProtocolError, SlowPeerError: see ``Connection.send_text``.
    """
    if isinstance(message, PreparedMessage):
        if connection.role is Role.SERVER:
            connection.send_prepared(message)
            return
        message = message.data
    if isinstance(message, str):
        connection.send_text(message)
    else:
        connection.send_bytes(message)
