"""Messages in pieces: how one is sent as they come, and the line in which all who send wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from .._adapter._exceptions import closed_error
from .._adapter._pieces import UNFINISHED, WITHIN_ITSELF, can_be_pieces, no_message
from .._adapter._websocket import BytesLike, check_piece, queue_message
from .._config import Limits
from .._enums import State
from .._errors import SlowPeerError
from .._frames import PreparedMessage

if TYPE_CHECKING:
    from ._websocket import WebSocket

__all__ = ["Line", "Pieces", "WholeMessage", "send_pieces"]

#: All ``str`` or all bytes-like.
Pieces: TypeAlias = Iterable[str | BytesLike] | AsyncIterable[str | BytesLike]

#: So many pieces are sent without waiting before others get their turn.
_MAX_BURST = 32


class Line:
    """Where those who send wait for room, one behind the other. Made when somebody has to.

    Attributes:
        lock: whoever has it is the first in line.
        sender: the task that is in the middle of a message in pieces, which nothing else may come between.
    """

    __slots__ = ("_behind", "_size", "lock", "sender")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.sender: asyncio.Task[Any] | None = None
        # What was sent meanwhile by those who do not wait, and how many bytes that is.
        self._behind: list[PreparedMessage] = []
        self._size = 0

    def check_sender(self) -> None:
        """Who is in the middle of a message would wait for itself.

        Raises:
            RuntimeError: this task is.
        """
        if self.sender is not None and self.sender is asyncio.current_task():
            raise RuntimeError(WITHIN_ITSELF)

    def put_behind(self, message: str | BytesLike | PreparedMessage, limits: Limits) -> bool:
        """Keep a message until the one in pieces is complete; False if there are too many already.

        Raises:
            LocalProtocolError: the text has lone surrogates.
        """
        prepared = message if isinstance(message, PreparedMessage) else PreparedMessage(message)
        size = len(prepared.frame)
        # When they are queued the high-water mark may wait already.
        if self._behind and self._size + size > limits.write_hard_cap - limits.write_high_water:
            return False
        self._behind.append(prepared)
        self._size += size
        return True

    def end_message(self, websocket: WebSocket) -> None:
        """The message in pieces is over: queue what came meanwhile."""
        behind, self._behind = self._behind, []
        self._size = 0
        self.sender = None
        if websocket.state is State.OPEN and behind:
            # Who did not wait does not learn either that it ends with this.
            with contextlib.suppress(SlowPeerError):
                for message in behind:
                    queue_message(websocket._connection, message)
            websocket._channel.advance()


class WholeMessage:
    """What a message that is received whole is in pieces: the only one."""

    __slots__ = ("_websocket",)

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket: WebSocket | None = websocket

    def __aiter__(self) -> WholeMessage:
        return self

    async def __anext__(self) -> str | bytes:
        if self._websocket is None:
            raise StopAsyncIteration
        message = await self._websocket.recv()
        self._websocket = None
        return message


async def send_pieces(websocket: WebSocket, pieces: Pieces) -> None:
    """Send one message whose pieces come from an iterable. See ``WebSocket.send``."""
    source = _source_of(pieces)
    try:
        # Whatever goes wrong with the first one, nothing has been sent yet.
        try:
            first = await anext(source)
        except StopAsyncIteration:
            return
        check_piece(first)
        line = websocket._line_up()
        line.check_sender()
        websocket._in_line += 1
        try:
            async with line.lock:
                await _send_all(websocket, line, first, source)
        finally:
            websocket._in_line -= 1
    finally:
        await source.leave()


async def _send_all(websocket: WebSocket, line: Line, first: str | BytesLike, source: _Source) -> None:
    await _send_piece(websocket, first, final=False)
    line.sender = asyncio.current_task()
    count = 0
    try:
        async for piece in source:
            check_piece(piece, first)
            count += 1
            if count % _MAX_BURST == 0:
                await asyncio.sleep(0)
            if len(piece):
                await _send_piece(websocket, piece, final=False)
        await _send_piece(websocket, "" if isinstance(first, str) else b"", final=True)
    except BaseException:
        # Half a message cannot be taken back, and nothing else can follow it.
        if websocket.state is State.OPEN and not websocket._loop.is_closed():
            websocket.start_closing(1011, UNFINISHED)
        raise
    finally:
        line.end_message(websocket)


async def _send_piece(websocket: WebSocket, piece: str | BytesLike, *, final: bool) -> None:
    """Queue a piece when there is room for it."""
    channel, connection = websocket._channel, websocket._connection
    # Also while a received chunk is processed, at whose end the rest would leave.
    channel.gather()
    await channel.room()
    if connection.state is not State.OPEN:
        raise closed_error(await websocket.wait_closed())
    try:
        connection.send_fragment(piece, final=final)
    except SlowPeerError:
        channel.advance()
        raise closed_error(await websocket.wait_closed()) from None
    channel.advance_soon()


class _Source:
    """Pieces, one at a time, whatever they come from."""

    __slots__ = ("_iterator",)

    def __init__(self, iterator: Iterator[Any] | AsyncIterator[Any]) -> None:
        self._iterator = iterator

    def __aiter__(self) -> _Source:
        return self

    async def __anext__(self) -> Any:
        iterator = self._iterator
        if isinstance(iterator, AsyncIterator):
            return await anext(iterator)
        for piece in iterator:
            return piece
        raise StopAsyncIteration

    async def leave(self) -> None:
        """Nothing more is wanted. A generator that is not at its end shall clean up now."""
        if isinstance(self._iterator, AsyncGenerator):
            await self._iterator.aclose()
        elif isinstance(self._iterator, Generator):
            self._iterator.close()


def _source_of(pieces: object) -> _Source:
    """What gives the pieces.

    Raises:
        TypeError: it cannot be meant as pieces of a message.
    """
    if isinstance(pieces, AsyncIterable):
        return _Source(aiter(pieces))
    if can_be_pieces(pieces):
        return _Source(iter(cast("Iterable[Any]", pieces)))
    raise no_message(pieces)
