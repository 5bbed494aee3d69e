"""The sending side of a ``Connection``: messages and control frames, and the bounds of what waits to be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ._backend import MaskingKeys, encode_frame, encode_header
from ._config import Limits, Timeouts
from ._enums import Cause, CloseCode, Opcode, Role, State, Transport
from ._errors import LocalProtocolError, SlowPeerError
from ._events import CloseFrame
from ._frames import MAX_REASON, PreparedMessage, pack_close
from ._keepalive import keepalive_for
from ._lifecycle import Lifecycle
from ._progress import Progress
from ._state import Fact

if TYPE_CHECKING:
    from ._extension import PerMessageExtension

__all__ = ["Sending"]

BytesLike = bytes | bytearray | memoryview

#: From here on an unmasked payload is not copied behind its header: two buffers are cheaper.
_SEPARATE_FROM = 32 * 1024

# Looking a member up in its enumeration costs as much as framing a short message.
_OPEN = State.OPEN
_TEXT = Opcode.TEXT.value
_BINARY = Opcode.BINARY.value

#: What a frame of at most 125 bytes needs beside its payload (s5.2): a client's has a masking key.
_PONG_OVERHEAD = {Role.SERVER: 2, Role.CLIENT: 6}


class Sending(Lifecycle):
    """Base of ``Connection``: what it can say, in whole frames.

    A frame is queued in one step or not at all, so the output is always a sequence of whole frames.
    """

    __slots__ = (
        "_close_queued",
        "_extension",
        "_fragment_compressed",
        "_fragment_opcode",
        "_hard_cap",
        "_held_pong",
        "_idle_watched",
        "_keepalive",
        "_keys",
        "_masks",
        "_message_sent",
        "_pongs_end",
        "_pongs_handed",
        "_pongs_queued",
        "_progress",
        "_random_bytes",
    )

    def __init__(
        self,
        role: Role,
        extension: PerMessageExtension | None,
        limits: Limits | None,
        timeouts: Timeouts | None,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        super().__init__(role, State.OPEN, limits, timeouts)
        self._extension = extension
        self._random_bytes = random_bytes
        self._keys: MaskingKeys | None = None
        # What every send asks for, looked up once.
        self._masks = role is Role.CLIENT
        # More than memory holds is no bound, and no C integer.
        self._hard_cap = min(self.limits.write_hard_cap, (1 << 63) - 1)
        self._idle_watched = self.timeouts.idle is not None
        self._keepalive = keepalive_for(self.timeouts, self._timers, self.traffic)
        # None as long as everything has left at once.
        self._progress: Progress | None = None
        # The fragmented message in progress.
        self._fragment_opcode: Opcode | None = None
        self._fragment_compressed = False
        # A message was sent, at a time that the next tick will tell.
        self._message_sent = False
        self._close_queued: CloseFrame | None = None
        # Pongs: bytes in the output queue; bytes that may still be with the adapter, and where in the stream these end;
        # and the payload of the one that has to wait.
        self._pongs_queued = 0
        self._pongs_handed = 0
        self._pongs_end = 0
        self._held_pong: bytes | None = None

    # Messages.

    def send_text(self, data: str | BytesLike) -> None:
        """Queue a text message (s5.6).

        Args:
            data: a ``str``, or bytes-like that is valid UTF-8.

        Raises:
            LocalProtocolError: the connection is not OPEN, a fragmented message is unfinished, or the data is no
                UTF-8; nothing was queued.
            SlowPeerError: too much is queued already; the connection is ending.
        """
        self._send(_TEXT, data if isinstance(data, str) else _utf8(data))

    def send_bytes(self, data: BytesLike) -> None:
        """Queue a binary message (s5.6). Raises as ``send_text``."""
        self._send(_BINARY, _copy(data))

    def send_fragment(self, data: str | BytesLike, *, final: bool) -> None:
        """Queue a part of a message (s5.4). The first part decides between text and binary.

        Args:
            data: ``str`` for a text message, bytes-like for a binary one.
            final: this part ends the message.

        Raises:
            LocalProtocolError: as ``send_text``, or the type differs from the first part's.
            SlowPeerError: as ``send_text``.
        """
        self._check_open()
        opcode = Opcode.TEXT if isinstance(data, str) else Opcode.BINARY
        first = self._fragment_opcode is None
        if not first and opcode is not self._fragment_opcode:
            raise LocalProtocolError(
                "the parts of one message must all be str, or all be bytes-like (RFC 6455 s5.4)"
            )
        payload = _encode(data) if isinstance(data, str) else _copy(data)
        self._check_cap()
        extension = self._extension
        if first:
            self._fragment_compressed = extension is not None and not (
                final and len(payload) < extension.min_size
            )
        if self._fragment_compressed:
            assert extension is not None
            payload = extension.encode(payload, first=first, final=final)
        self._fragment_opcode = None if final else opcode
        self._note_plain()
        self._queue(
            opcode if first else Opcode.CONTINUATION, payload, final, first and self._fragment_compressed
        )
        if not first:
            self.traffic.messages_out -= 1
        self._touch()

    def send_prepared(self, message: PreparedMessage) -> None:
        """Queue a message that was framed before; for servers only, a client masks every frame afresh (s5.3).

        Raises:
            LocalProtocolError: as ``send_text``, or this is a client.
            SlowPeerError: as ``send_text``.
        """
        if self.role is Role.CLIENT:
            raise LocalProtocolError(
                "a client cannot send prepared messages: each frame needs a fresh masking key"
            )
        self._check_idle_message()
        self._check_cap()
        self._write(message.frame)
        self._touch()

    def _send(self, opcode: int, data: str | bytes) -> None:
        if self.state is not _OPEN or self._fragment_opcode is not None:
            self._check_idle_message()
        if self.traffic.waits_over(self._hard_cap):
            self._check_cap()
        extension = self._extension
        if extension is not None:
            payload = _encode(data) if isinstance(data, str) else data
            if len(payload) >= extension.min_size:
                self._queue(opcode, extension.encode(payload, first=True, final=True), True, True)
            else:
                self._queue(opcode, payload)
        else:
            self._queue(opcode, data)
        if self._idle_watched:
            self._touch()

    def _note_plain(self) -> None:
        """Whether the next message can be framed by whoever carries the bytes, without asking."""
        self.traffic.plain = (
            self.state is _OPEN
            and self._extension is None
            and self._fragment_opcode is None
            and self._held_pong is None
            and not self._idle_watched
        )

    def masking_keys(self) -> MaskingKeys:
        """Return where this connection's masking keys come from (s5.3, s10.3)."""
        if self._keys is None:
            self._keys = MaskingKeys(self._random_bytes)
        return self._keys

    def _touch(self) -> None:
        """A message went out: the idle timeout starts afresh once the time is known."""
        if self.timeouts.idle is not None:
            self._message_sent = self.traffic.untimed = True

    # Control frames.

    def ping(self, payload: BytesLike | None = None, now: float | None = None) -> bytes:
        """Queue a Ping (s5.5.2).

        Args:
            payload: at most 125 bytes; by default 4 random ones.
            now: the time, for the round trip that ``PongReceived`` reports; by default that of the next call that
                brings one.

        Returns:
            the payload.

        Raises:
            LocalProtocolError: the connection is not OPEN, or the payload is too long.
            SlowPeerError: as ``send_text``.
        """
        self._check_open()
        data = self._random_bytes(4) if payload is None else _copy(payload)
        self._check_cap()
        self._queue_control(Opcode.PING, data)
        self._keepalive.sent(data, now)
        if now is None:
            self.traffic.untimed = True
        return data

    def pong(self, payload: BytesLike = b"") -> None:
        """Queue an unsolicited Pong (s5.5.3). Pings are answered without being asked.

        Raises:
            LocalProtocolError: the connection is not OPEN, or the payload is over 125 bytes.
            SlowPeerError: as ``send_text``.
        """
        self._check_open()
        data = _copy(payload)
        self._check_cap()
        self._queue_control(Opcode.PONG, data)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Start the closing handshake (s7.1.2). Idempotent: only the first Close is ever sent.

        Args:
            code: 1000-1003, 1007-1014 (1010 as a client only) or 3000-4999; None for an empty Close.
            reason: at most 123 bytes as UTF-8.

        Raises:
            LocalProtocolError: the code or the reason may not be sent. That is checked in every state.
        """
        pack_close(code, reason, self.role)
        if self.state is State.OPEN:
            self._queue_close(code, reason)
            self._start_close_timer()

    def _queue_close(self, code: int | None, reason: str) -> None:
        payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
        self._queue_control(Opcode.CLOSE, payload)
        self._close_queued = CloseFrame(CloseCode.NO_STATUS_RCVD.value if code is None else int(code), reason)
        self._advance(Fact.CLOSE_QUEUED)

    def _queue_pong(self, payload: bytes) -> None:
        """Answer a ping; for a peer that floods and does not read, only the latest (s5.5.3) beyond a bound."""
        self._count_pongs()
        size = len(payload) + _PONG_OVERHEAD[self.role]
        waiting = self._pongs_queued + self._pongs_handed
        if self._held_pong is None and waiting + size <= self.limits.max_pong_bytes:
            self._queue_control(Opcode.PONG, payload)
            self._pongs_queued += size
        else:
            self._held_pong = payload
            self._note_plain()

    def _release_pong(self) -> None:
        """Queue the pong that had to wait, unless the adapter itself still sits on pongs and there is no room."""
        payload = self._held_pong
        assert payload is not None
        self._count_pongs()
        size = len(payload) + _PONG_OVERHEAD[self.role]
        if self.state is not State.OPEN:
            self._held_pong = None
        elif not self._pongs_handed or self._pongs_handed + size <= self.limits.max_pong_bytes:
            self._held_pong = None
            self._queue_control(Opcode.PONG, payload)
            self._pongs_queued += size
        self._note_plain()

    def _count_pongs(self) -> None:
        """At the most as many bytes of pongs are still with the adapter as it has bytes at all."""
        left = self.traffic.handed - self.traffic.unsent >= self._pongs_end
        self._pongs_handed = 0 if left else min(self._pongs_handed, self.traffic.unsent)

    # The output queue.

    def data_to_send(self) -> list[bytes]:
        """Bytes to write, in order; [] when there are none. What was handed out counts as sent."""
        if self._held_pong is not None:
            self._release_pong()
        return super().data_to_send()

    def unsent(self, n: int) -> None:
        """Of the bytes handed out so far, ``n`` are still with the adapter.

        Raises:
            ValueError: ``n`` is negative.
        """
        if not n:
            # Mostly everything leaves at once.
            self.traffic.unsent = 0
            return
        super().unsent(n)
        if self.state is _OPEN:
            if self._progress is None:
                self._progress = Progress(self.timeouts.write, self._timers)
            if self._progress.want():
                self.traffic.untimed = True

    def _on_handed_out(self) -> None:
        if self._pongs_queued:
            self._pongs_handed += self._pongs_queued
            self._pongs_queued = 0
            self._pongs_end = self.traffic.handed
        if self._close_queued is not None and self._sent is None:
            self._sent = self._close_queued
            if self._received_first is None:
                self._received_first = False
            if self._received is not None:
                self._handshake_done()

    def _check_open(self) -> None:
        if self.state is not State.OPEN:
            raise LocalProtocolError(f"cannot send: the connection is {self.state.name}")

    def _check_idle_message(self) -> None:
        self._check_open()
        if self._fragment_opcode is not None:
            # s5.4: the fragments of one message MUST NOT be interleaved with another message.
            raise LocalProtocolError(
                "cannot send a message before the last part of the fragmented one in progress"
            )

    def _check_cap(self) -> None:
        """The cap looks at what was queued before, so one message of any size always fits."""
        if not self.traffic.waits_over(self._hard_cap):
            return
        waiting = self.buffered
        self.give_up_on_slow_peer()
        raise SlowPeerError(
            f"{waiting} bytes wait for the peer, over write_hard_cap ({self.limits.write_hard_cap}):"
            " the connection is ending with 1013"
        )

    def _queue(self, opcode: int, data: str | bytes, fin: bool = True, rsv1: bool = False) -> None:
        key = None
        if self._masks:
            # s5.3: the masking key is fresh for every frame, and cannot be predicted.
            key = (self._keys or self.masking_keys()).next()
        try:
            if key is None and len(data) >= _SEPARATE_FROM:
                data = data.encode() if isinstance(data, str) else data
                self._write(encode_header(opcode, len(data), fin, rsv1))
                self._write_on(data)
            else:
                self._write(encode_frame(opcode, data, fin, rsv1, key))
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(_NOT_ENCODABLE.format(exc)) from exc
        except ValueError as exc:
            raise LocalProtocolError(str(exc)) from exc

    def _queue_control(self, opcode: int, payload: bytes) -> None:
        self._queue(opcode, payload)
        # It was counted as one.
        self.traffic.messages_out -= 1

    # Endings that begin with something we say.

    def _handshake_done(self) -> None:
        """Both Close frames are exchanged (s7.1.4)."""
        self._terminate(Cause.CLOSE_HANDSHAKE)
        # s7.1.1: the server closes TCP first, and a client waits for that, for a reasonable time.
        if self.role is Role.SERVER:
            self._verdict(Transport.CLOSE)
        else:
            self._linger()

    def _fail(self, cause: Cause, code: int, reason: str, error: BaseException | None = None) -> None:
        """Fail the connection (s7.1.7): say why, stop listening, and let the Close frame arrive before closing."""
        self._terminate(cause, error=error)
        self._stop_receiving()
        if self._close_queued is None:
            self._queue_close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))
        self._verdict(Transport.SHUTDOWN_WRITE)
        self._linger()

    def give_up_on_slow_peer(self) -> None:
        """The peer does not take what it is sent: end the connection with 1013 (SLOW_PEER). OPEN connections only.

        What was not begun is dropped: the peer shall learn why rather than get more of what it does not take.
        """
        if self.state is not State.OPEN:
            return
        self._drop_output()
        self._fail(Cause.SLOW_PEER, CloseCode.TRY_AGAIN_LATER, "too slow to receive")


_NOT_ENCODABLE = "text that UTF-8 cannot carry: {}"


def _copy(data: BytesLike) -> bytes:
    """What is not bytes could change before it is written. (A str has no buffer, nor has an int: TypeError.)"""
    return data if type(data) is bytes else bytes(memoryview(data))


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(_NOT_ENCODABLE.format(exc)) from exc


def _utf8(data: BytesLike) -> bytes:
    """Bytes that may be sent as text (s5.6, s8.1)."""
    data = _copy(data)
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as exc:
        raise LocalProtocolError(f"bytes that are not UTF-8 cannot be sent as text: {exc}") from exc
    return data
