"""``Connection``: a WebSocket after its opening handshake. The authority on s5.5, s7, keepalive and deadlines."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ._backend import Assembler, CodecError, Decoder, Frame, Message, MessageChunk
from ._config import Limits, Timeouts
from ._enums import Cause, CloseCode, Opcode, Role, State, Transport
from ._errors import LocalProtocolError, RemoteProtocolError
from ._events import CloseFrame, CloseReceived, Event, PingReceived, PongReceived
from ._frames import unpack_close
from ._sending import Sending
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

# Looking a member up in its enumeration costs as much as decoding a short message.
_OPEN = State.OPEN
_CLOSE = Opcode.CLOSE.value

_CAUSES = {
    CloseCode.PROTOCOL_ERROR: Cause.PROTOCOL_ERROR,
    CloseCode.INVALID_DATA: Cause.INVALID_DATA,
    CloseCode.MESSAGE_TOO_BIG: Cause.TOO_BIG,
}


class Connection(Sending):
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

    Attributes:
        subprotocol: the agreed one, or None.
        stream: whether it gives out `MessageChunk`.
        decoder: what received bytes go through; lent to the fast path of an adapter.
        traffic: what went through so far, and whether anything out of the ordinary is going on; as well.

    Raises:
        LocalProtocolError: more than one extension.
    """

    __slots__ = (
        "_assembler",
        "_decode_text",
        "_eof_waiting",
        "_inflated",
        "_last_message",
        "_last_word",
        "decoder",
        "stream",
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
        if len(extensions) > 1:
            # RFC 7692 s5: two extensions cannot both define RSV1, and there are no others.
            raise LocalProtocolError("only one per-message extension can be in use")
        super().__init__(role, extensions[0] if extensions else None, limits, timeouts, random_bytes)
        self.subprotocol = subprotocol
        self.stream = stream
        self._decode_text = decode_text
        self.decoder = Decoder(
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
        # A Close frame or a broken rule that waits until what came before it has been given out.
        self._last_word: Frame | RemoteProtocolError | None = None
        self._eof_waiting = False
        # Open, and nobody has to be told when messages come.
        self.traffic.in_order = not self._idle_watched
        self._note_plain()
        self._keepalive.start()
        # When the last message came, or went.
        self._last_message: float | None = None
        if self.timeouts.idle is not None:
            self._timers.start(Timer.IDLE, self.timeouts.idle)
        self.traffic.untimed = True
        self.traffic.has_more = bool(trailing_data)
        if trailing_data:
            # Not borrowed: the first receive_data may be far away.
            self.decoder.feed(bytes(trailing_data))

    @property
    def connection(self) -> Connection:
        """This object itself: a bare connection is open from the start."""
        return self

    @property
    def extensions(self) -> tuple[PerMessageExtension, ...]:
        """The agreed ones."""
        # Not kept: a tuple for every connection that compresses would be 48 bytes.
        return () if self._extension is None else (self._extension,)

    @property
    def has_more(self) -> bool:
        """``receive_data`` stopped at its bound of work: call ``receive_data(b"", now)`` before reading on."""
        return self.traffic.has_more

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
        traffic = self.traffic
        if traffic.untimed:
            self._tick(now)
        else:
            self._now = now
        events: list[Event] = []
        if self._discard:
            return events
        decoder = self.decoder
        ordinary = False
        if data:
            ordinary = traffic.hear(now)
            decoder.feed(data)
        if not ordinary:
            self._run(events)
            return events
        # Mostly there is nothing but plain data, and this is all there is to do.
        try:
            frame = decoder.decode(events)
        except CodecError as exc:
            self._conclude_after_messages(_without_traceback(exc), events)
            return events
        if frame is not None:
            self._run(events, frame)
        elif decoder.has_more:
            traffic.has_more = True
        return events

    def take_decoded(self, events: list[Event], rest: Frame | CodecError | None, now: float) -> list[Event]:
        """Go on where a fast path, to which ``decoder`` and ``traffic`` are lent, found something that is not plain.

        Args:
            events: the messages that ``decoder`` gave; nobody has seen them yet.
            rest: what it returned or raised then; None if it stopped at its bound of work.
            now: the time in seconds, as for ``receive_data``.

        Returns:
            ``events``, completed.
        """
        self._now = now
        if rest is None:
            self.traffic.has_more = self.decoder.has_more
        elif isinstance(rest, CodecError):
            self._conclude_after_messages(_without_traceback(rest), events)
        else:
            self._run(events, rest)
        return events

    def _run(self, events: list[Event], frame: Frame | None = None) -> None:
        """Decode until the input is used up, the connection ends, or the bound of work is reached.

        Args:
            events: where events go, and what was decoded before ``frame``.
            frame: the first thing that is not plain data, if that has been found already.
        """
        decoder = self.decoder
        # After our Close data is read to find the peer's, and dropped.
        out: list[Event] = events if self.state is _OPEN else []
        begin = delivered = frames = 0
        self.traffic.has_more = False
        try:
            if self._last_word is not None:
                self._conclude(self._last_word, events)
            while not self._discard:
                try:
                    if frame is None:
                        begin = len(out)
                        frame = decoder.decode(out)
                        if frame is None:
                            self.traffic.has_more = decoder.has_more
                            break
                    delivered += _payload(out, begin)
                    frames += 1
                    if frame.opcode < _CLOSE:
                        delivered += self._inflate(frame, out)
                    elif frame.opcode == _CLOSE:
                        self._conclude_after_messages(frame, events)
                    else:
                        self._control(frame, events)
                except CodecError as exc:
                    self._conclude_after_messages(_without_traceback(exc), events)
                frame = None
                if self.traffic.has_more:
                    break
                if frames >= _MAX_FRAMES or delivered >= _MAX_DELIVERED:
                    # After the last word there is no more, whatever the input still has.
                    self.traffic.has_more = not self._discard
                    break
        finally:
            # The caller may use its buffer for something else before it calls again, if it does.
            decoder.keep_rest()
        if self.timeouts.idle is not None and any(isinstance(event, _DATA) for event in events):
            self._last_message = self._now
        if self._eof_waiting and not self.traffic.has_more:
            self._eof_waiting = False
            self._judge_eof()

    def _inflate(self, frame: Frame, out: list[Event]) -> int:
        """A frame of a compressed message: inflate it under the limit and give out what is finished."""
        extension = self._extension
        assert extension is not None
        if self.state is not State.OPEN:
            return 0
        if self._assembler is None:
            self._assembler = Assembler(self.stream, self._decode_text)
        if frame.opcode != Opcode.CONTINUATION:
            self._assembler.begin(frame.opcode)
            self._inflated = 0
        room = self.limits.max_message_size - self._inflated
        piece = extension.decode(frame.payload, final=frame.fin, limit=room)
        self._inflated += len(piece)
        if piece or frame.fin:
            self._assembler.add(piece, frame.fin, out)
        return len(piece)

    def _conclude_after_messages(self, last_word: Frame | RemoteProtocolError, events: list[Event]) -> None:
        """A Close, or a broken rule: nothing after it counts, but what came before it can still be answered.

        After our Close nothing can be sent, so it waits for the next call when this one has messages to give out.
        Otherwise it would depend on how the bytes were cut whether those are answered.
        """
        if self.state is _OPEN and any(isinstance(event, _DATA) for event in events):
            self._last_word = last_word
            self.traffic.has_more = True
        else:
            self._conclude(last_word, events)

    def _conclude(self, last_word: Frame | RemoteProtocolError, events: list[Event]) -> None:
        self._last_word = None
        if isinstance(last_word, RemoteProtocolError):
            self._fail_for_peer(last_word)
            return
        try:
            code, reason = unpack_close(last_word.payload)
        except RemoteProtocolError as exc:
            self._fail_for_peer(_without_traceback(exc))
        else:
            self._receive_close(code, reason, events)

    def _control(self, frame: Frame, events: list[Event]) -> None:
        payload = frame.payload
        if frame.opcode == Opcode.PING:
            # s5.5.2: upon receipt of a Ping, an endpoint MUST send a Pong in response, unless it already received a
            # Close. After our own Close nothing but the peer's Close matters (s5.5.1: no more data frames).
            if self.state is State.OPEN:
                self._queue_pong(payload)
                events.append(PingReceived(payload))
        elif self.state is State.OPEN:
            events.append(PongReceived(payload, self._keepalive.answered(payload, self._now)))

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
        self._tick(self._now)

    def _fail_for_peer(self, error: RemoteProtocolError) -> None:
        cause = _CAUSES[CloseCode(error.close_code)]
        self._fail(cause, error.close_code, str(error), error)
        self._tick(self._now)

    def _stop_receiving(self) -> None:
        super()._stop_receiving()
        self.traffic.has_more = False

    # The end of the stream.

    def _on_eof(self, events: list[Event]) -> None:
        if self.traffic.has_more:
            # What was received before is still to be delivered, and may be a Close.
            self._eof_waiting = True
        else:
            self._judge_eof()

    def _judge_eof(self) -> None:
        if self._cause is None and self._received is None:
            self._terminate(Cause.TRUNCATED if self.decoder.pending else Cause.EOF)
        self._stop_receiving()
        self._verdict(Transport.CLOSE)

    def _deliver_rest(self, events: list[Event]) -> None:
        # What was received is delivered, but not without bound: it may be compressed a thousand times.
        delivered = 0
        while self.traffic.has_more and not self._discard and delivered < _MAX_DRAINED:
            before = len(events)
            self._run(events)
            delivered += _payload(events, before)

    def _was_websocket(self) -> bool:
        return True

    def _unanswered_since(self) -> float | None:
        return self._keepalive.unanswered_since

    # Time.

    def reading_paused(self, paused: bool) -> None:
        """The adapter stopped or resumed reading: keepalive is suspended, and starts afresh."""
        if self.state is State.OPEN:
            self._keepalive.pause(paused, self.traffic.last_received)
            self.traffic.untimed = True

    def _advance(self, fact: Fact) -> None:
        super()._advance(fact)
        if self.state is not State.OPEN:
            self.traffic.in_order = self.traffic.plain = False
            # From now on it is the close timeout that watches.
            self._keepalive.stop()
            self._timers.stop(Timer.IDLE, Timer.WRITE)

    def _on_tick(self, now: float) -> bool:
        if self._message_sent:
            self._message_sent = False
            self._last_message = now
        flushed = self.traffic.handed - self.traffic.unsent
        progress = self._progress
        if progress is not None and progress.wanted and self.state is _OPEN:
            progress.begin(now, flushed)
        return self._keepalive.tick(now, flushed)

    def _on_timer(self, timer: Timer, now: float, events: list[Event]) -> None:
        if timer is Timer.IDLE:
            self._idle(now)
        elif timer is Timer.WRITE:
            assert self._progress is not None
            if self._progress.is_stuck(now, self.traffic.handed - self.traffic.unsent, self.buffered):
                self.give_up_on_slow_peer()
        elif timer is Timer.PING:
            if self._keepalive.ping_is_due(self.traffic.last_received, now):
                payload = self._random_bytes(4)
                self._queue_control(Opcode.PING, payload)
                self._keepalive.ping_sent(payload, now, self.traffic.queued)
                self.traffic.untimed = True
        else:
            cause = self._keepalive.lost(timer, now)
            if cause is Cause.SLOW_PEER:
                self.give_up_on_slow_peer()
            elif cause is not None:
                self._fail(cause, CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
                self._verdict(Transport.ABORT)

    def _idle(self, now: float) -> None:
        timeout = self.timeouts.idle
        assert timeout is not None
        if self._last_message is not None and self._last_message + timeout > now:
            self._timers.start_at(Timer.IDLE, self._last_message + timeout)
        else:
            # Not a failure: the peer did nothing wrong, and its Close is waited for.
            self._terminate(Cause.IDLE_TIMEOUT)
            self._queue_close(CloseCode.GOING_AWAY, "idle timeout")


def _without_traceback(exc: CodecError | RemoteProtocolError) -> RemoteProtocolError:
    """What is kept of an error: not its traceback, which would hold on to the caller's buffer."""
    code = exc.code if isinstance(exc, CodecError) else exc.close_code
    return RemoteProtocolError(str(exc), code)


def _payload(events: list[Event], begin: int) -> int:
    """How much payload was delivered since that position."""
    return sum(len(event.data) for event in events[begin:] if isinstance(event, _DATA))
