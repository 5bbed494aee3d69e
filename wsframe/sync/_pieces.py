"""Sending one message whose pieces come from an iterable."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from .._adapter._exceptions import closed_error
from .._adapter._pieces import UNFINISHED, can_be_pieces, no_message
from .._adapter._websocket import BytesLike, check_piece
from .._enums import State
from .._errors import SlowPeerError
from ._pong import deadline_of

if TYPE_CHECKING:
    from ._websocket import WebSocket

__all__ = ["Pieces", "send_pieces"]

#: All ``str`` or all bytes-like.
Pieces: TypeAlias = Iterable[str | BytesLike]


def send_pieces(websocket: WebSocket, pieces: object, timeout: float | None) -> None:
    """Send one message whose pieces come from an iterable. See ``WebSocket.send``."""
    if not can_be_pieces(pieces):
        raise no_message(pieces)
    deadline = deadline_of(timeout)
    source = iter(cast("Iterable[Any]", pieces))
    try:
        # Whatever goes wrong with the first one, nothing has been sent yet.
        for first in source:
            check_piece(first)
            _Sending(websocket, timeout, deadline).send_all(first, source)
            return
    finally:
        # A generator that is not at its end shall clean up now.
        if isinstance(source, Generator):
            source.close()


class _Sending:
    """One message on its way. The lock is not held while a piece is asked for."""

    def __init__(self, websocket: WebSocket, timeout: float | None, deadline: float | None) -> None:
        self._websocket = websocket
        self._driver = websocket._driver
        self._connection = websocket._connection
        self._timeout = timeout
        self._deadline = deadline

    def send_all(self, first: str | BytesLike, source: Iterator[Any]) -> None:
        """Send the message.

        Raises:
            TimeoutError: it was not written in time.
        """
        driver, websocket = self._driver, self._websocket
        with driver.lock:
            websocket._wait_for_turn(self._timeout, self._deadline)
            websocket._wait_for_composer(self._timeout, self._deadline)
            self._send(first, final=False)
            driver.begin_message(get_ident())
        try:
            for piece in source:
                check_piece(piece, first)
                if len(piece):
                    with driver.lock:
                        self._send(piece, final=False)
            with driver.lock:
                end = self._send("" if isinstance(first, str) else b"", final=True)
                driver.end_message()
        except BaseException:
            with driver.lock:
                driver.end_message()
                # Half a message cannot be taken back, and nothing else can follow it.
                if self._connection.state is State.OPEN:
                    websocket.start_closing(1011, UNFINISHED)
            raise
        with driver.lock:
            websocket._wait_until_sent(end, "the message", self._timeout, self._deadline)

    def _send(self, piece: str | BytesLike, *, final: bool) -> int:
        """Queue a piece when there is room for it; return where in the stream it ends."""
        websocket, driver = self._websocket, self._driver
        websocket._wait_for_turn(self._timeout, self._deadline)
        send_fragment = partial(self._connection.send_fragment, final=final)
        try:
            return driver.send(send_fragment, piece)
        except SlowPeerError:
            driver.advance()
            raise closed_error(websocket._wait_for_end(self._timeout, self._deadline)) from None
