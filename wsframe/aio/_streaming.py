"""Receiving messages in pieces: the ``WebSocket`` of ``serve`` and ``connect`` with ``stream=True``."""

from __future__ import annotations

import asyncio
import io
import weakref
from collections.abc import AsyncIterator
from typing import Any

from .._backend import MessageChunk, Traffic
from .._connection import Connection
from ._channel import Channel
from ._threads import check_thread
from ._transports import FutureInbox
from ._websocket import WebSocket

__all__ = ["MessageStream", "StreamedWebSocket", "websocket_class"]


class StreamedWebSocket(WebSocket):
    """A `WebSocket` that receives the pieces of messages as they come."""

    __slots__ = ()

    _queue: StreamInbox

    def _new_queue(
        self, loop: asyncio.AbstractEventLoop, channel: Channel, connection: Connection
    ) -> StreamInbox:
        limits = connection.limits
        return StreamInbox(
            limits.receive_queue_messages, limits.receive_queue_bytes, self, connection.traffic
        )

    def recv_stream(self) -> AsyncIterator[str | bytes]:
        """See `WebSocket`."""
        check_thread(self._loop, "recv_stream")
        return MessageStream(self._queue)


def websocket_class(connection: Connection) -> type[WebSocket]:
    """Return what goes with the connection."""
    return StreamedWebSocket if connection.stream else WebSocket


class StreamInbox(FutureInbox):
    """Chunks that were received and not yet read, and where in its message the reader is."""

    def __init__(self, max_items: int, max_bytes: int, owner: WebSocket, traffic: Traffic) -> None:
        super().__init__(max_items, max_bytes, owner)
        self._traffic = traffic
        # The last chunk that was taken did not end its message.
        self._is_inside = False
        # What recv() has of the message in which it is, or was when it was cancelled.
        self._joined: io.StringIO | io.BytesIO | None = None
        # Who gives out the chunks of the message that was begun. Left alone it is gone.
        self._stream: weakref.ref[MessageStream] | None = None
        # Nobody wants the rest of it.
        self._skips = False

    def take(self, messages: list[MessageChunk]) -> bool:
        """See `FutureInbox`. To the express lane each chunk was a message."""
        self._traffic.messages_in -= sum(not chunk.final for chunk in messages)
        return super().take(messages)

    async def receive(self, iterating: bool = False) -> str | bytes:
        """Wait for a whole message. Cancelled, it keeps what it has for the next."""
        await self._begin(iterating)
        while True:
            chunk = await self.next_chunk(iterating)
            if chunk.final and self._joined is None:
                return chunk.data
            if self._joined is None:
                # One buffer: a list would cost an object for each byte that is sent alone.
                self._joined = io.StringIO() if isinstance(chunk.data, str) else io.BytesIO()
            self._joined.write(chunk.data)  # type: ignore[arg-type]
            if chunk.final:
                return self.take_joined()

    async def begin_stream(self, stream: MessageStream) -> None:
        """Go to the next message, which that one reads."""
        await self._begin(iterating=False)
        self._stream = weakref.ref(stream)

    def is_read_by(self, stream: MessageStream) -> bool:
        """Whether nobody else has begun to read since."""
        return self._stream is not None and self._stream() is stream

    @property
    def has_joined(self) -> bool:
        """A ``recv`` was cancelled within the message."""
        return self._joined is not None

    def take_joined(self) -> str | bytes:
        """What it had."""
        assert self._joined is not None
        data, self._joined = self._joined.getvalue(), None
        return data

    async def next_chunk(self, iterating: bool = False) -> MessageChunk:
        """Wait for a chunk, of whatever message."""
        await self.wait(iterating)
        chunk: MessageChunk = self.get()
        self._is_inside = not chunk.final
        return chunk

    async def _begin(self, iterating: bool) -> None:
        """Skip what is left of a message that somebody has begun and left."""
        self._check_reader()
        if self._stream is not None:
            stream = self._stream()
            if stream is not None and stream.is_read_by_another_task():
                raise RuntimeError(
                    f"{stream.reader_name} is in the middle of a message; a WebSocket has one reader at a time"
                )
            self._stream = None
            self._skips = self._is_inside
        while self._skips:
            await self.next_chunk(iterating)
            self._skips = self._is_inside


class MessageStream:
    """The pieces of one message. Cancelled, it loses nothing and can be continued, unless somebody else began to read.

    Nothing is taken before the first piece is asked for.
    """

    __slots__ = ("__weakref__", "_begun", "_inbox", "_over", "_task")

    def __init__(self, inbox: StreamInbox) -> None:
        self._inbox = inbox
        self._begun = self._over = False
        self._task: asyncio.Task[Any] | None = None

    def __aiter__(self) -> MessageStream:
        return self

    async def __anext__(self) -> str | bytes:
        if self._over:
            raise StopAsyncIteration
        inbox = self._inbox
        if not self._begun:
            await inbox.begin_stream(self)
            self._begun = True
        elif not inbox.is_read_by(self):
            raise RuntimeError("the rest of this message is gone: somebody has begun to read the next one")
        self._task = asyncio.current_task()
        if inbox.has_joined:
            data = inbox.take_joined()
            if data:
                return data
        chunk = await inbox.next_chunk()
        if chunk.final:
            self._over = True
            self._task = None
            # An empty message has one empty piece, so that it can be told what it is.
            if not chunk.data and not chunk.first:
                raise StopAsyncIteration
        return chunk.data

    def is_read_by_another_task(self) -> bool:
        """Whether somebody who is not asking now has begun to read this message, and may go on."""
        task = self._task
        return task is not None and not task.done() and task is not asyncio.current_task()

    @property
    def reader_name(self) -> str:
        """The name of the task that reads it."""
        return "" if self._task is None else self._task.get_name()
