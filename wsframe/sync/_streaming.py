"""Receiving messages in pieces: the ``WebSocket`` of ``serve`` and ``connect`` with ``stream=True``."""

from __future__ import annotations

import io
import weakref
from collections.abc import Iterator
from threading import get_ident
from typing import Any

from .._adapter._websocket import converted
from .._backend import MessageChunk
from .._connection import Connection
from ._pong import deadline_of, is_running, name_of
from ._websocket import WebSocket

__all__ = ["MessageStream", "StreamedWebSocket", "websocket_class"]


def websocket_class(connection: Connection) -> type[WebSocket]:
    """Return what goes with the connection."""
    return StreamedWebSocket if connection.stream else WebSocket


class StreamedWebSocket(WebSocket):
    """A `WebSocket` that receives the pieces of messages as they come, and knows where in its message the reader is."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # The last chunk that was taken did not end its message.
        self._is_inside = False
        # What recv() has of the message in which it is, or was when its time was over.
        self._joined: io.StringIO | io.BytesIO | None = None
        # Who gives out the chunks of the message that was begun. Left alone it is gone.
        self._stream: weakref.ref[MessageStream] | None = None
        # Nobody wants the rest of it.
        self._skips = False

    def recv(self, timeout: float | None = None, decode: bool | None = None) -> Any:
        """See `WebSocket`. After a `TimeoutError` it keeps what it has of a message for the next."""
        data = self._whole_message(timeout)
        return data if decode is None else converted(data, decode)

    def _whole_message(self, timeout: float | None) -> str | bytes:
        with self._driver.lock:
            deadline = deadline_of(timeout)
            self._begin(timeout, deadline)
            while True:
                chunk = self._next_chunk(timeout, deadline)
                if chunk.final and self._joined is None:
                    return chunk.data
                if self._joined is None:
                    # One buffer: a list would cost an object for each byte that is sent alone.
                    self._joined = io.StringIO() if isinstance(chunk.data, str) else io.BytesIO()
                self._joined.write(chunk.data)  # type: ignore[arg-type]
                if chunk.final:
                    return self._take_joined()

    def recv_stream(self, timeout: float | None = None) -> Iterator[str | bytes]:
        """See `WebSocket`."""
        return MessageStream(self, timeout)

    def _take_joined(self) -> str | bytes:
        assert self._joined is not None
        data, self._joined = self._joined.getvalue(), None
        return data

    def _next_chunk(self, timeout: float | None, deadline: float | None) -> MessageChunk:
        """Wait for a chunk, of whatever message."""
        if not self._queue:
            self._reader = get_ident()
            try:
                self._driver.wait(self._readable, deadline)
            finally:
                self._reader = None
        chunk: MessageChunk = self._take("message, or no further piece of one,", timeout)
        self._is_inside = not chunk.final
        return chunk

    def _begin(self, timeout: float | None, deadline: float | None) -> None:
        """Skip what is left of a message that somebody has begun and left."""
        if self._reader is not None:
            raise self._reader_error()
        if self._stream is not None:
            stream = self._stream()
            if stream is not None and stream.is_read_by_another_thread():
                raise RuntimeError(
                    f"{stream.reader_name} is in the middle of a message; a WebSocket has one reader at a time"
                )
            self._stream = None
            self._skips = self._is_inside
        while self._skips:
            self._next_chunk(timeout, deadline)
            self._skips = self._is_inside


class MessageStream:
    """The pieces of one message. After a `TimeoutError` it can be continued, unless somebody else began to read.

    Nothing is taken before the first piece is asked for.
    """

    __slots__ = ("__weakref__", "_begun", "_over", "_thread", "_timeout", "_websocket")

    def __init__(self, websocket: StreamedWebSocket, timeout: float | None) -> None:
        self._websocket = websocket
        self._timeout = timeout
        self._begun = self._over = False
        self._thread: int | None = None

    def __iter__(self) -> MessageStream:
        return self

    def __next__(self) -> str | bytes:
        websocket, timeout = self._websocket, self._timeout
        with websocket._driver.lock:
            if self._over:
                raise StopIteration
            deadline = deadline_of(timeout)
            if not self._begun:
                websocket._begin(timeout, deadline)
                websocket._stream = weakref.ref(self)
                self._begun = True
            elif websocket._stream is None or websocket._stream() is not self:
                raise RuntimeError(
                    "the rest of this message is gone: somebody has begun to read the next one"
                )
            elif websocket._reader is not None:
                raise websocket._reader_error()
            self._thread = get_ident()
            if websocket._joined is not None:
                data = websocket._take_joined()
                if data:
                    return data
            chunk = websocket._next_chunk(timeout, deadline)
            if chunk.final:
                self._over = True
                self._thread = None
                # An empty message has one empty piece, so that it can be told what it is.
                if not chunk.data and not chunk.first:
                    raise StopIteration
            return chunk.data

    def is_read_by_another_thread(self) -> bool:
        """Whether somebody who is not asking now has begun to read this message, and may go on."""
        thread = self._thread
        return thread is not None and thread != get_ident() and is_running(thread)

    @property
    def reader_name(self) -> str:
        """The name of the thread that reads it."""
        return "" if self._thread is None else name_of(self._thread)
