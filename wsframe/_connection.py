"""``Connection``: a WebSocket after its opening handshake. The authority on s5.5, s7, keepalive and deadlines."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ._backend import Assembler, CodecError, Decoder, Frame, MaskingKeys, Message, encode_frame, encode_header
from ._config import Limits, Timeouts
from ._enums import Cause, CloseCode, Opcode, Role, State, Transport
from ._errors import LocalProtocolError, RemoteProtocolError, SlowPeerError
from ._events import CloseFrame, CloseReceived, Event, MessageChunk, PingReceived, PongReceived
from ._frames import MAX_REASON, PreparedMessage, pack_close, unpack_close
from ._keepalive import Keepalive
from ._lifecycle import Lifecycle
from ._state import Fact
from ._timers import Timer

if TYPE_CHECKING:
    from ._extension import PerMessageExtension

__all__ = ["Connection"]

BytesLike = bytes | bytearray | memoryview

#: The bounds of one receive_data: delivered payload bytes, and frames that are not plain data.
_MAX_DELIVERED = 1 << 20
_MAX_FRAMES = 256

#: What is still delivered when the transport is gone.
_MAX_DRAINED = 4 * _MAX_DELIVERED

_DATA = (Message, MessageChunk)

#: From here on an unmasked payload is not copied behind its header: two buffers are cheaper.
_SEPARATE_FROM = 32 * 1024

_CAUSES = {
    CloseCode.PROTOCOL_ERROR: Cause.PROTOCOL_ERROR,
    CloseCode.INVALID_DATA: Cause.INVALID_DATA,
    CloseCode.MESSAGE_TOO_BIG: Cause.TOO_BIG,
}


class Connection(Lifecycle):
    """One WebSocket, without I/O (RFC 6455 s5 to s7). It is OPEN at once; see ``Endpoint`` for how to drive it.

    Args:
        role: which side this is.
        subprotocol: the one that the opening handshake agreed on, or None.
        extensions: the agreed extensions; at most one may use RSV1.
        limits: bounds; by default those of the role.
        timeouts: deadlines in seconds.
        stream: give out `MessageChunk` events as payload arrives, instead of whole `Message` events.
        decode_text: give text as ``str``; False leaves it as validated UTF-8 ``bytes``.
        random_bytes: strong entropy, for masking keys (s10.3) and ping payloads.
        trailing_data: bytes that were received after the opening handshake; their events come out of the first
            ``receive_data``.

    Raises:
        LocalProtocolError: more than one extension.
    """

    __slots__ = (
        "_assembler",
        "_close_queued",
        "_decode_text",
        "_decoder",
        "_eof_waiting",
        "_extension",
        "_fragment_compressed",
        "_fragment_opcode",
        "_inflated",
        "_keepalive",
        "_keys",
        "_latest_pong",
        "_message_seen",
        "_pong_bytes",
        "_random_bytes",
        "_stream",
        "extensions",
        "has_more",
        "subprotocol",
    )

    def __init__(
        self,
        role: Role,
        *,
        subprotocol: str | None = None,
        extensions: Sequence[PerMessageExtension] = (),
        limits: Limits | None = None,
        timeouts: Timeouts | None = None,
        stream: bool = False,
        decode_text: bool = True,
        random_bytes: Callable[[int], bytes] = os.urandom,
        trailing_data: bytes = b"",
    ) -> None:
        super().__init__(role, State.OPEN, limits, timeouts)
        if len(extensions) > 1:
            # RFC 7692 s5: two extensions cannot both define RSV1, and there are no others.
            raise LocalProtocolError("only one per-message extension can be in use")
        self.subprotocol = subprotocol
        self.extensions = tuple(extensions)
        self._extension = extensions[0] if extensions else None
        self._stream = stream
        self._decode_text = decode_text
        self._random_bytes = random_bytes
        self._decoder = Decoder(
            role is Role.SERVER,
            self.limits.max_message_size,
            self.limits.max_fragments,
            self._extension is not None,
            stream,
            decode_text,
        )
        # Compressed messages are assembled here, after inflating.
        self._assembler: Assembler | None = None
        self._inflated = 0
        self._keys: MaskingKeys | None = None
        self._fragment_opcode: Opcode | None = None
        self._fragment_compressed = False
        self._close_queued: CloseFrame | None = None
        self._pong_bytes = 0
        self._latest_pong: int | None = None
        self._eof_waiting = False
        self._keepalive = Keepalive(self.timeouts, self._timers)
        self._keepalive.start()
        self._message_seen = False
        if self.timeouts.idle is not None:
            self._timers.start(Timer.IDLE, self.timeouts.idle)
        self._untimed = True
        self.has_more = bool(trailing_data)
        if trailing_data:
            self._decoder.feed(trailing_data)

    @property
    def connection(self) -> Connection:
        """This object itself: a bare connection is open from the start."""
        return self

    @property
    def latency(self) -> float | None:
        """Seconds of the last measured round trip of a Ping, or None."""
        return self._keepalive.latency

    # Receiving.

    def receive_data(self, data: BytesLike, now: float = 0.0) -> list[Event]:
        """Take received bytes and return what they mean, with a bounded amount of work.

        Never raises for anything that a peer can send: what is wrong with it fails the connection (s7.1.7), after the
        events of all that came before it.

        Args:
            data: received bytes; b"" to go on with what is kept when ``has_more`` is set.
            now: the time in seconds on any monotonic clock.
        """
        if self._untimed:
            self._tick(now)
        else:
            self._now = now
        events: list[Event] = []
        if data:
            self._last_received = now
            self._keepalive.alive = True
        if self._discard:
            self.has_more = False
            return events
        if data:
            self._decoder.feed(data)
        self._run(events)
        return events

    def _run(self, events: list[Event]) -> None:
        """Decode until the input is used up, the connection ends, or the bound of work is reached."""
        decoder = self._decoder
        # After our Close data is read to find the peer's, and dropped.
        out: list[Event] = events if self.state is State.OPEN else []
        delivered = frames = 0
        self.has_more = False
        while True:
            begin = len(out)
            try:
                frame = decoder.decode(out)
                if frame is None:
                    self.has_more = decoder.has_more
                    break
                delivered += _payload(out, begin)
                frames += 1
                if frame.opcode >= Opcode.CLOSE:
                    self._control(frame, events)
                else:
                    delivered += self._inflate(frame, out)
            except (CodecError, RemoteProtocolError) as exc:
                self._fail_for_peer(exc)
                break
            if self._discard:
                break
            if frames >= _MAX_FRAMES or delivered >= _MAX_DELIVERED:
                self.has_more = True
                break
        if self.timeouts.idle is not None and any(isinstance(event, _DATA) for event in events):
            self._message_seen = self._untimed = True
        if self._eof_waiting and not self.has_more:
            self._eof_waiting = False
            self._judge_eof()

    def _inflate(self, frame: Frame, out: list[Event]) -> int:
        """A frame of a compressed message: inflate it under the limit and give out what is finished."""
        extension = self._extension
        assert extension is not None
        if self.state is not State.OPEN:
            return 0
        if self._assembler is None:
            self._assembler = Assembler(self._stream, self._decode_text)
        if frame.opcode != Opcode.CONTINUATION:
            self._assembler.begin(frame.opcode)
            self._inflated = 0
        room = self.limits.max_message_size - self._inflated
        piece = extension.decode(frame.payload, final=frame.fin, limit=room)
        self._inflated += len(piece)
        if piece or frame.fin:
            self._assembler.add(piece, frame.fin, out)
        return len(piece)

    def _control(self, frame: Frame, events: list[Event]) -> None:
        payload = frame.payload
        if frame.opcode == Opcode.PING:
            # s5.5.2: upon receipt of a Ping, an endpoint MUST send a Pong in response, unless it already received a
            # Close. After our own Close nothing but the peer's Close matters (s5.5.1: no more data frames).
            if self.state is State.OPEN:
                self._queue_pong(payload)
                events.append(PingReceived(payload))
        elif frame.opcode == Opcode.PONG:
            if self.state is State.OPEN:
                events.append(PongReceived(payload, self._keepalive.answered(payload, self._now)))
        else:
            code, reason = unpack_close(payload)
            self._receive_close(code, reason, events)

    def _receive_close(self, code: int | None, reason: str, events: list[Event]) -> None:
        # s7.1.5: a Close without a code counts as 1005.
        received = CloseFrame(CloseCode.NO_STATUS_RCVD.value if code is None else code, reason)
        self._received = received
        if self._received_first is None:
            self._received_first = True
        events.append(CloseReceived(received.code, received.reason))
        self._advance(Fact.CLOSE_RECEIVED)
        # s5.5.1: after a Close nothing else is to be processed.
        self._stop_receiving()
        self._start_close_timer()
        if self._close_queued is None:
            # s5.5.1: if an endpoint receives a Close and did not send one, it MUST send one in response; typically
            # with the code that it received.
            self._queue_close(code, "")
        elif self._sent is not None:
            self._handshake_done()

    def _stop_receiving(self) -> None:
        self._discard = True
        self.has_more = False

    def _handshake_done(self) -> None:
        """Both Close frames are exchanged (s7.1.4)."""
        self._terminate(Cause.CLOSE_HANDSHAKE)
        # s7.1.1: the server closes TCP first, and a client waits for that, for a reasonable time.
        if self.role is Role.SERVER:
            self._verdict(Transport.CLOSE)
        else:
            self._linger()

    # Failing (s7.1.7).

    def _fail_for_peer(self, exc: CodecError | RemoteProtocolError) -> None:
        error = RemoteProtocolError(exc.reason, exc.code) if isinstance(exc, CodecError) else exc
        cause = _CAUSES[CloseCode(error.close_code)]
        self._fail(cause, error.close_code, str(error), error)

    def _fail(self, cause: Cause, code: int, reason: str, error: BaseException | None) -> None:
        """Fail the connection: say why, stop listening, and let the Close frame arrive before closing."""
        self._terminate(cause, error=error)
        self._stop_receiving()
        if self._close_queued is None:
            self._queue_close(code, reason.encode()[:MAX_REASON].decode(errors="ignore"))
        self._verdict(Transport.SHUTDOWN_WRITE)
        self._linger()

    # The end of the stream.

    def _on_eof(self, events: list[Event]) -> None:
        if self.has_more:
            # What was received before is still to be delivered, and may be a Close.
            self._eof_waiting = True
        else:
            self._judge_eof()

    def _judge_eof(self) -> None:
        if self._cause is None and self._received is None:
            self._terminate(Cause.TRUNCATED if self._decoder.pending else Cause.EOF)
        self._stop_receiving()
        self._verdict(Transport.CLOSE)

    def _on_transport_closed(self, events: list[Event]) -> None:
        # What was received is delivered, but not without bound: it may be compressed a thousand times.
        delivered = 0
        while self.has_more and not self._discard and delivered < _MAX_DRAINED:
            before = len(events)
            self._run(events)
            delivered += _payload(events, before)

    def receive_error(self, exc: BaseException, cause: Cause) -> list[Event]:
        """The transport failed; what had been received before is delivered first. See ``Endpoint``."""
        events: list[Event] = []
        if self.state is not State.CLOSED:
            self._on_transport_closed(events)
        return events + super().receive_error(exc, cause)

    def _was_websocket(self) -> bool:
        return True

    # Sending.

    def send_text(self, data: str | BytesLike) -> None:
        """Queue a text message (s5.6).

        Args:
            data: a ``str``, or bytes-like that is valid UTF-8.

        Raises:
            LocalProtocolError: the connection is not OPEN, a fragmented message is unfinished, or the data is no
                UTF-8; nothing was queued.
            SlowPeerError: too much is queued already; the connection is ending.
        """
        if not isinstance(data, str):
            data = _utf8(data)
        self._send(Opcode.TEXT, data)

    def send_bytes(self, data: BytesLike) -> None:
        """Queue a binary message (s5.6). Raises as ``send_text``."""
        # What is not bytes could change before it is written. (A str has no buffer: TypeError.)
        self._send(Opcode.BINARY, data if type(data) is bytes else bytes(memoryview(data)))

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
            raise LocalProtocolError("the parts of one message must all be str, or all be bytes-like (RFC 6455 s5.4)")
        payload = _encode(data) if isinstance(data, str) else bytes(data)
        self._check_cap()
        extension = self._extension
        if first:
            self._fragment_compressed = extension is not None and not (final and len(payload) < extension.min_size)
        if self._fragment_compressed:
            assert extension is not None
            payload = extension.encode(payload, first=first, final=final)
        self._fragment_opcode = None if final else opcode
        self._queue(opcode if first else Opcode.CONTINUATION, payload, final, first and self._fragment_compressed)
        self._touch()

    def send_prepared(self, message: PreparedMessage) -> None:
        """Queue a message that was framed before; for servers only, a client masks every frame afresh (s5.3).

        Raises:
            LocalProtocolError: as ``send_text``, or this is a client.
            SlowPeerError: as ``send_text``.
        """
        if self.role is Role.CLIENT:
            raise LocalProtocolError("a client cannot send prepared messages: each frame needs a fresh masking key")
        self._check_idle_message()
        self._check_cap()
        self._write(message.frame)
        self._touch()

    def ping(self, payload: BytesLike | None = None, now: float = 0.0) -> bytes:
        """Queue a Ping (s5.5.2).

        Args:
            payload: at most 125 bytes; by default 4 random ones.
            now: the time, for the round trip that ``PongReceived`` reports.

        Returns:
            the payload.

        Raises:
            LocalProtocolError: the connection is not OPEN, or the payload is too long.
        """
        self._check_open()
        data = self._random_bytes(4) if payload is None else bytes(payload)
        self._queue(Opcode.PING, data)
        self._keepalive.sent(data, now)
        return data

    def pong(self, payload: BytesLike = b"") -> None:
        """Queue an unsolicited Pong (s5.5.3). Pings are answered without being asked.

        Raises:
            LocalProtocolError: the connection is not OPEN, or the payload is over 125 bytes.
        """
        self._check_open()
        self._queue(Opcode.PONG, bytes(payload))

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
            self._close(code, reason)

    def _close(self, code: int | None, reason: str) -> None:
        self._queue_close(code, reason)
        self._advance(Fact.CLOSE_QUEUED)
        self._timers.stop(Timer.PING, Timer.PONG, Timer.GRACE, Timer.STUCK, Timer.IDLE)
        self._start_close_timer()

    def _queue_close(self, code: int | None, reason: str) -> None:
        payload = b"" if code is None else code.to_bytes(2, "big") + reason.encode()
        self._queue(Opcode.CLOSE, payload)
        self._close_queued = CloseFrame(CloseCode.NO_STATUS_RCVD.value if code is None else int(code), reason)

    def _on_handed_out(self) -> None:
        self._pong_bytes = 0
        self._latest_pong = None
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
            raise LocalProtocolError("cannot send a message before the last part of the fragmented one in progress")

    def _check_cap(self) -> None:
        """The cap looks at what was queued before, so one message of any size always fits."""
        if self._queued - self._handed + self._unsent <= self.limits.write_hard_cap:
            return
        waiting = self.buffered
        # Whole messages that were not begun are dropped: the peer shall learn why rather than get more of them.
        self._drop_output()
        self._fail(Cause.SLOW_PEER, CloseCode.TRY_AGAIN_LATER, "too slow to receive", None)
        raise SlowPeerError(
            f"{waiting} bytes wait for the peer, over write_hard_cap ({self.limits.write_hard_cap}):"
            " the connection is ending with 1013"
        )

    def _send(self, opcode: Opcode, data: str | bytes) -> None:
        if self.state is not State.OPEN or self._fragment_opcode is not None:
            self._check_idle_message()
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
        self._touch()

    def _queue(self, opcode: int, data: str | bytes, fin: bool = True, rsv1: bool = False) -> None:
        key = None
        if self.role is Role.CLIENT:
            # s5.3: the masking key is fresh for every frame, and cannot be predicted.
            if self._keys is None:
                self._keys = MaskingKeys(self._random_bytes)
            key = self._keys.next()
        try:
            if key is None and len(data) >= _SEPARATE_FROM:
                data = data.encode() if isinstance(data, str) else data
                self._write(encode_header(opcode, len(data), fin, rsv1))
                self._write(data)
            else:
                self._write(encode_frame(opcode, data, fin, rsv1, key))
        except UnicodeEncodeError as exc:
            raise LocalProtocolError(_NOT_ENCODABLE.format(exc)) from exc
        except ValueError as exc:
            raise LocalProtocolError(str(exc)) from exc

    def _queue_pong(self, payload: bytes) -> None:
        """Answer a ping; for a peer that floods and does not read, only the latest (s5.5.3) beyond a bound."""
        before = self._queued
        self._queue(Opcode.PONG, payload)
        size = self._queued - before
        if self._pong_bytes + size <= self.limits.max_pong_bytes:
            self._pong_bytes += size
        elif self._latest_pong is None:
            self._latest_pong = len(self._out) - 1
        else:
            frame = self._out.pop()
            self._queued -= len(self._out[self._latest_pong])
            self._out[self._latest_pong] = frame

    def _touch(self) -> None:
        """A message went out: the idle timeout starts afresh once the time is known."""
        if self.timeouts.idle is not None:
            self._message_seen = self._untimed = True

    # Time.

    def reading_paused(self, paused: bool) -> None:
        """The adapter stopped or resumed reading: keepalive is suspended, and starts afresh with a ping."""
        if self.state is State.OPEN and self._keepalive.pause(paused):
            self._queue_keepalive_ping(None)

    def _queue_keepalive_ping(self, now: float | None) -> None:
        payload = self._random_bytes(4)
        self._queue(Opcode.PING, payload)
        self._keepalive.sent(payload, now)
        self._keepalive.keepalive_sent(self._queued)
        self._untimed = True

    def _on_tick(self, now: float) -> bool:
        if self._message_seen:
            self._message_seen = False
            if self.timeouts.idle is not None and self.state is State.OPEN:
                self._timers.start(Timer.IDLE, self.timeouts.idle, now)
        return self._keepalive.tick(now, self._handed - self._unsent)

    def _on_timer(self, timer: Timer, now: float, events: list[Event]) -> None:
        if self.state is not State.OPEN:
            return
        if timer is Timer.IDLE:
            self._terminate_idle()
        elif timer is Timer.PING:
            if self._keepalive.ping_is_due(self._last_received, now):
                self._queue_keepalive_ping(now)
        elif timer is Timer.STUCK:
            self._drop_output()
            self._fail(Cause.SLOW_PEER, CloseCode.TRY_AGAIN_LATER, "too slow to receive", None)
        elif self._keepalive.ping_timed_out(timer, now):
            self._fail(Cause.PING_TIMEOUT, CloseCode.INTERNAL_ERROR, "keepalive ping timeout", None)
            self._verdict(Transport.ABORT)

    def _terminate_idle(self) -> None:
        # Not a failure: the peer did nothing wrong, and its Close is waited for.
        self._queue_close(CloseCode.GOING_AWAY, "idle timeout")
        self._terminate(Cause.IDLE_TIMEOUT)


_NOT_ENCODABLE = "text that UTF-8 cannot carry: {}"


def _payload(events: list[Event], begin: int) -> int:
    """How much payload was delivered since that position."""
    return sum(len(event.data) for event in events[begin:] if isinstance(event, _DATA))


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise LocalProtocolError(_NOT_ENCODABLE.format(exc)) from exc


def _utf8(data: BytesLike) -> bytes:
    """Bytes that may be sent as text (s5.6, s8.1)."""
    data = bytes(data)
    try:
        str(data, "utf-8")
    except UnicodeDecodeError as exc:
        raise LocalProtocolError(f"bytes that are not UTF-8 cannot be sent as text: {exc}") from exc
    return data
