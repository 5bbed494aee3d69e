"""The fast path of the adapters in plain Python: the twin of ``_fastpath.pyx``, which does the same compiled.

A connection is a state machine in readable Python, and is asked about everything that is not ordinary. What is
ordinary, a whole message on a connection that nothing unusual was agreed for, need not ask it: its decoder and its
counters are lent to whoever carries the bytes. Both are leaves: they import nothing from the package.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

__all__ = ["Finished", "Inbox", "Lane", "Receive", "ReceiveQueue", "SocketTransport", "Traffic"]

#: From here on a payload is not copied behind its header.
_SEPARATE_FROM = 32 * 1024

#: Gathered output that is larger leaves before there is more.
_GATHER_UP_TO = 64 * 1024

#: Messages that are sent without waiting before others get their turn.
_MAX_BURST = 32

#: Buffers in one system call.
_AT_ONCE = 16

#: Looks in one go; see ``look_again``.
_MAX_LOOKS = 16

#: Messages that were read are removed from a queue that does not become empty, so many at a time at the least.
_REMOVE_FROM = 64

#: What is no failure of a callback.
_FATAL = (SystemExit, KeyboardInterrupt, GeneratorExit)

_TEXT = 1
_BINARY = 2

_AGAIN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


class Traffic:
    """What went through one connection: shared by the endpoint and by those who carry its bytes.

    Attributes:
        queued: bytes that were ever queued to be sent.
        handed: how many of those were handed out.
        unsent: how many of those are still with the adapter, as far as it told.
        bytes_in: bytes that came, as counted by who carries them.
        messages_in: messages that came, as counted by who takes them to the application.
        frames_out: frames that were ever queued to be sent.
        messages_out: messages that were, or begun.
        opened: when it was open, in seconds, as told by who carries it.
        last_received: when the last byte came, in seconds; None before the first.
        alive: bytes came since the last keepalive ping was sent.
        untimed: something waits for the next call that brings a time.
        has_more: decoding stopped at its bound of work.
        in_order: the connection is open, and what it receives is given out as it comes.
        plain: the connection is open, and a message that is sent is one frame, as it is.
    """

    __slots__ = (
        "alive",
        "bytes_in",
        "frames_out",
        "handed",
        "has_more",
        "in_order",
        "last_received",
        "messages_in",
        "messages_out",
        "opened",
        "plain",
        "queued",
        "unsent",
        "untimed",
    )

    def __init__(self) -> None:
        self.queued = 0
        self.handed = 0
        self.unsent = 0
        self.bytes_in = 0
        self.messages_in = 0
        self.frames_out = 0
        self.messages_out = 0
        self.opened = 0.0
        self.last_received: float | None = None
        self.alive = False
        self.untimed = False
        self.has_more = False
        self.in_order = False
        self.plain = False

    def queue(self, size: int) -> None:
        """A message is queued to be sent, in one frame of so many bytes."""
        self.queued += size
        self.frames_out += 1
        self.messages_out += 1

    def hand_out(self) -> None:
        """All that was queued is handed out."""
        self.handed = self.queued

    def waits_over(self, bound: int) -> bool:
        """Whether more bytes than that wait, here or with the adapter."""
        return self.queued - self.handed + self.unsent > bound

    def hear(self, now: float) -> bool:
        """Bytes came; return whether what they mean is to be given out, and nothing is kept before it."""
        self.last_received = now
        self.alive = True
        return self.in_order and not self.has_more


class Lane:
    """The express lane of one open connection: ordinary messages, from received bytes to the application and back.

    It refuses what is not ordinary (see `Traffic`), and does nothing then: its user asks the endpoint instead. What it
    finds only while it is at work it hands to ``channel``, whose ``take_decoded``, ``advance``, ``advance_soon``,
    ``tell_unsent``, ``update_reading`` and ``fail`` it calls.

    Args:
        connection: the endpoint, which lends its decoder, its counters and its masking keys.
        channel: who does everything else.
        clock: the time in seconds.
        masks: this is a client, which masks what it sends.
        encode_frame: the codec's.
        encode_header: the codec's.
        transport: where to write; a `SocketTransport`, or None.
        write: what to write with, where it is None.
        inbox: gets the messages. While there are unread ones, output is gathered.
        on_message: gets ``websocket`` and the data of each message, where there is no ``inbox``.
        websocket: for ``on_message``.
        failed: gets what one of them raised, in place of ``channel.fail``.
        get_ident: names the thread that calls; nothing is sent in another than this. None where nobody cares.

    Attributes:
        heard: messages have come since its user has set this to False.
        corked: output is held back until the chunk that is being processed is done.
        burst: how many messages ``send`` has taken since something was received, or waited for.
    """

    __slots__ = (
        "_channel",
        "_clock",
        "_connection",
        "_decoder",
        "_encode_frame",
        "_encode_header",
        "_failed",
        "_get_ident",
        "_inbox",
        "_keys",
        "_masks",
        "_on_message",
        "_out",
        "_size",
        "_thread",
        "_traffic",
        "_transport",
        "_turns",
        "_websocket",
        "_write",
        "burst",
        "corked",
        "heard",
    )

    def __init__(
        self,
        connection: Any,
        channel: Any,
        clock: Callable[[], float],
        masks: bool,
        encode_frame: Callable[..., bytes],
        encode_header: Callable[..., bytes],
        *,
        transport: SocketTransport | None = None,
        write: Callable[[bytes], object] | None = None,
        inbox: Any = None,
        on_message: Callable[[Any, Any], object] | None = None,
        websocket: Any = None,
        failed: Callable[[BaseException], object] | None = None,
        get_ident: Callable[[], int] | None = None,
    ) -> None:
        self._get_ident = get_ident
        self._thread = 0 if get_ident is None else get_ident()
        self._traffic: Traffic = connection.traffic
        self._decoder = connection.decoder
        self._connection: Any = connection
        self._channel: Any = channel
        self._clock = clock
        self._masks = masks
        self._encode_frame = encode_frame
        self._encode_header = encode_header
        self._transport: SocketTransport | None = transport
        if transport is not None:
            transport.lane = self
        elif write is None:
            raise TypeError("a lane needs a transport, or something to write with")
        self._write = write
        self._inbox = inbox
        self._on_message = on_message
        self._websocket = websocket
        self._failed = failed
        self._keys: Any = None
        self.heard = False
        self.corked = False
        self.burst = 0
        # Where the turns of its reader were when the burst began.
        self._turns = 0
        # Frames that have not been written.
        self._out: list[bytes] = []
        self._size = 0

    def cork(self, corked: bool) -> None:
        """Hold output back, or no longer; ``flush`` writes it."""
        self.corked = corked

    def close(self) -> None:
        """The connection has ended: let go of everything."""
        if self._transport is not None:
            self._transport.lane = None
            self._transport = None
        self._channel = self._write = self._inbox = self._on_message = self._websocket = None
        self._failed = None
        self._connection = self._keys = None
        self._out = []
        self._size = 0

    def receive(self, buffer: memoryview, size: int) -> bool:
        """Take received bytes; False where this is not the place for them, and nothing was done."""
        traffic, channel = self._traffic, self._channel
        if not traffic.in_order or traffic.has_more or traffic.untimed or channel is None:
            return False
        traffic.hear(self._clock())
        traffic.bytes_in += size
        messages: list[Any] = []
        try:
            rest = self._decoder.receive(buffer, size, messages)
        except Exception as exc:
            channel.take_decoded(messages, exc)
            return True
        if rest is not None or self._decoder.has_more:
            channel.take_decoded(messages, rest)
            return True
        if not messages:
            return True
        full = False
        traffic.messages_in += len(messages)
        self.corked = self.heard = True
        try:
            if self._on_message is not None:
                for message in messages:
                    if not self._traffic.in_order:
                        # The application has closed it.
                        break
                    self._on_message(self._websocket, message.data)
            else:
                full = self._inbox.take(messages)
        except _FATAL:
            raise
        except BaseException as exc:
            # Also a CancelledError, of a future that a callback asked for its result.
            if self._failed is not None:
                self._failed(exc)
            elif self._channel is not None:
                channel.fail(exc)
        finally:
            self.corked = False
        if self._is_ordinary():
            self.flush()
        else:
            channel.advance()
        if full or traffic.unsent:
            channel.update_reading()
        return True

    def _is_ordinary(self) -> bool:
        """Whether the application has done nothing that the endpoint has to be asked about."""
        traffic = self._traffic
        return traffic.queued == traffic.handed and traffic.in_order and not traffic.untimed

    def send(self, message: object) -> bool:
        """Frame and write a message; False where this is not the place for it, and nothing was done.

        So that others get their turn, a caller that does nothing but send is refused now and then; see ``burst``.
        """
        if self._inbox is not None and self._inbox.turns != self._turns:
            self._turns = self._inbox.turns
            self.burst = 0
        if self.burst >= _MAX_BURST or not self.send_nowait(message):
            return False
        self.burst += 1
        return True

    def send_nowait(self, message: object) -> bool:
        """As ``send``, however often."""
        if not self._is_free():
            return False
        if type(message) is str:
            try:
                return self._frame(_TEXT, message.encode())
            except UnicodeEncodeError:
                # Whoever is asked next says it better.
                return False
        if type(message) is bytes:
            return self._frame(_BINARY, message)
        return False

    def _is_free(self) -> bool:
        """Nothing unusual is going on, and everything before has left, or is gathered here."""
        traffic, transport = self._traffic, self._transport
        if self._get_ident is not None and self._get_ident() != self._thread:
            return False
        if not traffic.plain or traffic.queued != traffic.handed or self._channel is None:
            return False
        if transport is not None:
            if transport.is_closing():
                return False
            if traffic.unsent and not transport.get_write_buffer_size():
                traffic.unsent = 0
        return not traffic.unsent

    def send_framed(self, frame: bytes) -> bool:
        """As ``send_nowait``, for what is framed already; not for clients, whose frames are masked."""
        if self._masks or not self._is_free():
            return False
        self._gather(frame)
        self._count()
        self._leave(separate=len(frame) >= _SEPARATE_FROM and self._transport is not None)
        return True

    def _frame(self, opcode: int, payload: bytes) -> bool:
        """Gather or write one frame."""
        separate = len(payload) >= _SEPARATE_FROM and not self._masks
        if separate and self._transport is None:
            return False
        key = None
        if self._masks:
            if self._keys is None:
                self._keys = self._connection.masking_keys()
            key = self._keys.next()
        if separate:
            self._gather(self._encode_header(opcode, len(payload)))
            self._gather(payload)
        else:
            self._gather(self._encode_frame(opcode, payload, True, False, key))
        self._count()
        self._leave(separate)
        return True

    def _leave(self, separate: bool) -> None:
        """Something was gathered: write it, or wait for more, unless it is ``separate``, and is not copied for that."""
        if separate or self._size >= _GATHER_UP_TO:
            self.flush()
        elif not self.corked:
            if self._inbox:
                # More messages wait to be answered in this turn: let the answers leave together.
                self._channel.advance_soon()
            else:
                self.flush()

    def _gather(self, piece: bytes) -> None:
        self._out.append(piece)
        self._size += len(piece)
        self._traffic.queued += len(piece)
        self._traffic.handed += len(piece)

    def _count(self) -> None:
        """A message has gone, in one frame."""
        self._traffic.frames_out += 1
        self._traffic.messages_out += 1

    def flush(self) -> None:
        """Write what was gathered."""
        if not self._size:
            return
        out, self._out = self._out, []
        self._size = 0
        if self._transport is not None:
            transport = self._transport
            transport.writelines(out)
            if transport.get_write_buffer_size():
                # It is watched from now on that this leaves.
                self._channel.tell_unsent()
        elif self._write is not None:
            self._write(b"".join(out))


class SocketTransport:
    """A transport on a descriptor of its own, for event loops that only have to say when it is ready: plain TCP.

    It has the methods of ``asyncio.Transport`` that a channel uses, with the meaning that they have there. What it
    receives stands in ``buffer``, and is given to ``lane``, or else with ``buffer_updated(size)`` to the protocol.

    Args:
        loop: an event loop with ``add_reader`` and ``add_writer``.
        sock: a connected, non-blocking socket; closed at the end.
        protocol: has ``connection_made``, ``buffer_updated``, ``eof_received``, ``connection_lost``, ``pause_writing``
            and ``resume_writing``.
        buffer: what is received into; it may be shared with others, for it is used between two calls only.
        look_again: an event may be the last one, although more could be found out by reading on: libuv stops to watch
            a socket that was reset, whether the data before that has been read or not. A read that was followed by no
            write, which would have failed, is then followed by another read.
        peername: the peer's address, where it is known: a socket that has been reset does not tell it any more.

    Attributes:
        lane: the connection's express lane, once it has one.
    """

    __slots__ = (
        "_buffer",
        "_closing",
        "_eof",
        "_high",
        "_look_again",
        "_looking",
        "_loop",
        "_lost",
        "_low",
        "_paused",
        "_peername",
        "_pending",
        "_protocol",
        "_reading",
        "_sends",
        "_sock",
        "_waiting",
        "_writing",
        "lane",
    )

    def __init__(
        self,
        loop: Any,
        sock: Any,
        protocol: Any,
        buffer: memoryview,
        look_again: bool = False,
        peername: Any = None,
    ) -> None:
        self.lane: Lane | None = None
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._buffer = buffer
        self._look_again = look_again
        self._peername = peername
        # In the next turn anyway.
        self._looking = False
        # How often the system took something.
        self._sends = 0
        self._high, self._low = 65536, 16384
        self._pending: list[bytes | memoryview] = []
        # Bytes of it.
        self._waiting = 0
        self._reading = self._writing = False
        self._paused = self._closing = self._lost = self._eof = False

    # What asyncio's transports have.

    def start(self) -> None:
        """Tell the protocol, and begin to read."""
        self._protocol.connection_made(self)
        if not self._closing:
            self.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket``, ``sockname`` or ``peername``."""
        if name == "socket":
            return self._sock
        if name == "peername" and self._peername is not None:
            return self._peername
        try:
            if name == "sockname":
                return self._sock.getsockname()
            if name == "peername":
                return self._sock.getpeername()
        except OSError:
            pass
        return default

    def get_protocol(self) -> Any:
        """Who is told what happens."""
        return self._protocol

    def is_closing(self) -> bool:
        """It is closed, or will be when what was written has left."""
        return self._closing

    def pause_reading(self) -> None:
        """Do not read until ``resume_reading``."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def resume_reading(self) -> None:
        """Read."""
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._on_readable)

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and have not left."""
        return self._waiting

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        """Above ``high`` bytes the protocol is told to pause, at ``low`` to resume."""
        self._high, self._low = high, low
        self._maybe_pause()

    def write(self, data: bytes) -> None:
        """Write bytes; what cannot leave at once is kept."""
        self.writelines([data])

    def writelines(self, pieces: list[bytes]) -> None:
        """Write pieces, in one system call as far as possible."""
        kept = [piece for piece in pieces if piece]
        if self._closing or self._eof or not kept:
            return
        was_empty = not self._waiting
        self._pending += kept
        self._waiting += sum(map(len, kept))
        if was_empty:
            self._send_pending()
        if self._waiting and not self._lost:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._sock.fileno(), self._on_writable)
            self._maybe_pause()

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more comes, once everything has left.

        Raises:
            OSError: the system refuses; the connection may have been reset.
        """
        if self._closing or self._eof:
            return
        self._eof = True
        if not self._waiting:
            self._shut_down()

    def close(self) -> None:
        """End it when everything has left."""
        if self._closing:
            return
        self.pause_reading()
        self._closing = True
        if not self._waiting:
            self._lose(None)

    def abort(self) -> None:
        """End it now."""
        self._lose(None)

    # From the event loop.

    def _on_readable(self) -> None:
        if not self._looking:
            self._look()

    def _look_later(self) -> None:
        self._looking = False
        self._look()

    def _look(self) -> None:
        for _ in range(_MAX_LOOKS):
            sends = self._sends
            if not self._read_once() or not self._look_again or self._sends != sends:
                return
        self._looking = True
        self._loop.call_soon(self._look_later)

    def _read_once(self) -> bool:
        """Receive once; whether there may be more to find out."""
        if not self._reading:
            return False
        try:
            size = self._sock.recv_into(self._buffer)
        except OSError as exc:
            # A spurious wake-up is no end.
            if exc.errno not in _AGAIN:
                self._lose(exc)
            return False
        if size:
            try:
                if self.lane is None or not self.lane.receive(self._buffer, size):
                    self._protocol.buffer_updated(size)
            except Exception as exc:
                self._fail(exc)
            return True
        self.pause_reading()
        try:
            if not self._protocol.eof_received():
                self.close()
        except Exception as exc:
            self._fail(exc)
        return False

    def _on_writable(self) -> None:
        if not self._lost:
            self._send_pending()
        if self._lost:
            return
        if not self._waiting:
            self._stop_writing()
        if self._paused and self._waiting <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        if not self._waiting and not self._lost:
            if self._closing:
                self._lose(None)
            elif self._eof:
                try:
                    self._shut_down()
                except OSError as exc:
                    self._lose(exc)

    # Inside.

    def _shut_down(self) -> None:
        self._sock.shutdown(1)

    def _send_pending(self) -> None:
        """Send as much as possible of what is kept."""
        pending = self._pending
        while pending:
            try:
                sent = (
                    self._sock.send(pending[0])
                    if len(pending) == 1
                    else self._sock.sendmsg(pending[:_AT_ONCE])
                )
            except OSError as exc:
                if exc.errno not in _AGAIN:
                    self._lose(exc)
                return
            self._sends += 1
            self._waiting -= sent
            gone = 0
            while gone < min(len(pending), _AT_ONCE) and sent >= len(pending[gone]):
                sent -= len(pending[gone])
                gone += 1
            whole = gone == min(len(pending), _AT_ONCE)
            del pending[:gone]
            if sent:
                pending[0] = memoryview(pending[0])[sent:]
            if not whole:
                # The system takes no more for now.
                return

    def _maybe_pause(self) -> None:
        if self._waiting > self._high and not self._paused and not self._lost:
            self._paused = True
            self._protocol.pause_writing()

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._sock.fileno())

    def _lose(self, exc: BaseException | None) -> None:
        """It is over; the protocol is told in the next turn."""
        if self._lost:
            return
        self.pause_reading()
        self._stop_writing()
        self._lost = self._closing = True
        self._pending = []
        self._waiting = 0
        self.lane = None
        self._loop.call_soon(self._end, exc)

    def _end(self, exc: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._sock.close()
            self._protocol = self._loop = None

    def _fail(self, exc: Exception) -> None:
        """The protocol raised: that is a bug, and not something that a peer did."""
        self._loop.call_exception_handler(
            {"message": "wsframe: receiving failed", "exception": exc, "transport": self}
        )
        self._lose(exc)


class ReceiveQueue:
    """Messages that were received and not yet read.

    What is put in is never refused: the bound is kept by not reading on while ``full``. A queue that was full takes
    reading up again when it is half empty, so that the transport is not stopped and started for every message.

    Args:
        max_items: so many messages, or
        max_bytes: so many bytes of payload are enough.

    Attributes:
        full: no more should be read for now.
        watched: somebody wants to know, once, when the last message has been taken.
    """

    __slots__ = ("_bytes", "_head", "_max_bytes", "_max_items", "_messages", "full", "watched")

    def __init__(self, max_items: int, max_bytes: int) -> None:
        # None while there is none, so that an idle connection keeps nothing. Those before ``_head`` have been taken.
        self._messages: list[Any] | None = None
        self._head = 0
        self._bytes = 0
        self._max_items = max_items
        self._max_bytes = max_bytes
        self.full = self.watched = False

    @property
    def items(self) -> list[Any]:
        """The messages, the oldest first."""
        return [] if self._messages is None else self._messages[self._head :]

    def __len__(self) -> int:
        return 0 if self._messages is None else len(self._messages) - self._head

    def put(self, message: Any) -> None:
        """Add a message."""
        if self._messages is None:
            self._messages = [message]
        else:
            self._messages.append(message)
        self._count(message)

    def _count(self, message: Any) -> None:
        self._bytes += len(message.data)
        if len(self) >= self._max_items or self._bytes >= self._max_bytes:
            self.full = True

    def get(self) -> Any:
        """Take the oldest message.

        Raises:
            IndexError: there is none.
        """
        messages = self._messages
        if messages is None:
            raise IndexError("there is no message")
        message = messages[self._head]
        messages[self._head] = None
        self._head += 1
        if self._head == len(messages):
            self._messages = None
            self._head = 0
        elif self._head >= _REMOVE_FROM and 2 * self._head >= len(messages):
            del messages[: self._head]
            self._head = 0
        self._bytes -= len(message.data)
        if self.full and len(self) <= self._max_items // 2 and self._bytes <= self._max_bytes // 2:
            self.full = False
            self.on_room()
        if self.watched and self._messages is None:
            self.watched = False
            self.on_room()
        return message

    def on_room(self) -> None:
        """It was full and is not any more, or is empty and was watched."""


class Inbox(ReceiveQueue):
    """A queue that one task at a time can wait at, any number of times, and is woken from at once.

    What the task does then, until it waits again, happens before ``take`` returns, and needs no turn of the event
    loop; unless another task is running at that moment. To ``asyncio.Task`` it looks like a future, and is nothing
    else. `Receive` waits here.

    Args:
        max_items: see `ReceiveQueue`.
        max_bytes: see `ReceiveQueue`.
        loop: the event loop.
        current_task: ``asyncio.current_task``.
        cancelled_error: ``asyncio.CancelledError``.
        owner: its ``why_over`` returns the exception that tells a reader that nothing comes any more, or None; it is
            given whether the reader is an ``async for``. Its ``has_room`` is called when it was full and is not any
            more, or is empty and was ``watched``. (An object and not two functions, because bound methods are objects,
            too, and take 64 bytes each.)
        get_ident: names the thread that calls; its ``check_caller`` is asked about a reader in another one than this.
            None where nobody cares.

    Attributes:
        turns: how often a reader got a message, or began to wait for one.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_callback",
        "_cancelled",
        "_cancelled_error",
        "_context",
        "_current_task",
        "_get_ident",
        "_loop",
        "_message",
        "_owner",
        "_task",
        "_thread",
        "_waiting",
        "turns",
    )

    def __init__(
        self,
        max_items: int,
        max_bytes: int,
        loop: Any,
        current_task: Callable[[Any], Any],
        cancelled_error: type[BaseException],
        owner: Any,
        get_ident: Callable[[], int] | None = None,
    ) -> None:
        super().__init__(max_items, max_bytes)
        self._get_ident = get_ident
        self._thread = 0 if get_ident is None else get_ident()
        self._loop = loop
        self._current_task = current_task
        self._cancelled_error = cancelled_error
        self._owner = owner
        self._callback: Callable[[Any], object] | None = None
        self._context: Any = None
        self._message: object = None
        self._task: Any = None
        # Somebody has begun to wait and not gone on, although he may have been told to.
        self._waiting = False
        self._cancelled = False
        self._asyncio_future_blocking = False
        self.turns = 0

    def close(self, owner: Any) -> None:
        """Nothing comes any more: let go of the owner, and ask this one instead."""
        self._owner = owner

    def take(self, messages: list[Any]) -> bool:
        """Add messages and let the task go on that waits; return whether it is full afterwards.

        The list is not the caller's any more.
        """
        if self._messages is not None:
            self._messages.extend(messages)
        elif messages:
            self._messages = messages
        for message in messages:
            self._count(message)
        self.wake()
        return self.full

    def wake(self) -> None:
        """Let the task go on that waits, if one does."""
        callback, context = self._callback, self._context
        if callback is None:
            return
        self._callback = self._context = None
        if self._current_task(self._loop) is None:
            context.run(callback, self)
        else:
            self._loop.call_soon(callback, self, context=context)

    def wake_soon(self) -> None:
        """The same in the next turn of the event loop."""
        callback, context = self._callback, self._context
        if callback is not None:
            self._callback = self._context = None
            self._loop.call_soon(callback, self, context=context)

    @property
    def reader(self) -> Any:
        """The task that waits, or None."""
        return self._task

    def on_room(self) -> None:
        self._owner.has_room()

    # What a task asks of what it awaits.

    def get_loop(self) -> Any:
        """The event loop."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Any = None) -> None:
        """Whom to call; the task."""
        self._callback = callback
        self._context = context
        self._task = getattr(callback, "__self__", None)

    def cancel(self, msg: object = None) -> bool:
        """Let the task go on with a CancelledError; False if it goes on anyway."""
        callback, context = self._callback, self._context
        if callback is None:
            return False
        self._callback = self._context = None
        self._cancelled = True
        self._message = msg
        self._loop.call_soon(callback, self, context=context)
        return True

    def result(self) -> None:
        """None, or a CancelledError."""
        if self._cancelled:
            self._cancelled = False
            message, self._message = self._message, None
            raise self._cancelled_error() if message is None else self._cancelled_error(message)


class Receive:
    """One reader of an `Inbox`: awaited, it gives the data of one message; as an asynchronous iterator, of all.

    Raises:
        RuntimeError: another task waits there already.
        BaseException: what ``why_over`` of its owner returned.
    """

    __slots__ = ("_begun", "_inbox", "_iterating")

    def __init__(self, inbox: Inbox, iterating: bool = False) -> None:
        self._inbox = inbox
        self._iterating = iterating
        self._begun = False

    def __aiter__(self) -> Receive:
        return self

    def __anext__(self) -> Receive:
        return self

    def __await__(self) -> Receive:
        # Where a task waits with this one, the next is refused with one of its own.
        return Receive(self._inbox, self._iterating) if self._begun else self

    def __iter__(self) -> Receive:
        return self

    def __next__(self) -> Inbox:
        inbox = self._inbox
        if self._begun:
            self.close()
            inbox.result()
        elif inbox._get_ident is not None and inbox._get_ident() != inbox._thread:
            inbox._owner.check_caller("recv")
        if inbox._waiting:
            name = getattr(inbox.reader, "get_name", str)()
            raise RuntimeError(f"recv() is already waiting in {name}; a WebSocket has one reader at a time")
        inbox.turns += 1
        if inbox:
            raise StopIteration(inbox.get().data)
        over = inbox._owner.why_over(self._iterating)
        if over is not None:
            try:
                raise over
            finally:
                # Its traceback holds this frame.
                del over
        self._begun = inbox._waiting = inbox._asyncio_future_blocking = True
        return inbox

    def throw(self, *exc: Any) -> None:
        """Wait no longer, but raise this."""
        self.close()
        raise exc[1] if len(exc) > 1 and exc[1] is not None else exc[0]

    def close(self) -> None:
        """Wait no longer."""
        if self._begun:
            self._begun = self._inbox._waiting = False
            self._inbox._task = None


class Finished:
    """A coroutine that has nothing left to do: it can be awaited, or made a task of, any number of times."""

    __slots__ = ()

    def __await__(self) -> Finished:
        return self

    def __iter__(self) -> Finished:
        return self

    def __next__(self) -> None:
        raise StopIteration

    def send(self, value: object) -> None:
        """Be done."""
        raise StopIteration

    def throw(self, *exc: Any) -> None:
        """There is nobody in here who could handle it."""
        raise exc[1] if len(exc) > 1 and exc[1] is not None else exc[0]

    def close(self) -> None:
        """Nothing is open."""
