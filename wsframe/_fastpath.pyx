# cython: language_level=3, binding=False, embedsignature=False, auto_pickle=False, initializedcheck=False
# cython: boundscheck=True, wraparound=False, cdivision=True, freethreading_compatible=False
"""The fast path of the adapters, compiled: from a socket that is readable to a whole message, and back.

It does what ``_fastpath_py`` does; that one is the reference and says why. A leaf: it imports nothing from the package,
and names the codec's classes nowhere. What it needs of them it is given.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.unicode cimport PyUnicode_AsUTF8String
from libc.errno cimport errno
from libc.math cimport NAN, isnan
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, strerror

cdef extern from "_codec.h":
    uint32_t ws_key(const uint8_t *bytes) nogil
    void ws_xor(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) nogil
    int ws_header_size(uint64_t length, int masked) nogil
    int ws_header(uint8_t *target, int opcode, uint64_t length, int fin, int rsv1, const uint8_t *key) nogil

cdef extern from "Python.h":
    void *PyUnicode_DATA(object o)
    bint PyUnicode_IS_COMPACT_ASCII(object o)
    Py_ssize_t PyUnicode_GET_LENGTH(object o)
    Py_ssize_t PY_SSIZE_T_MAX
    void PyErr_SetObject(object kind, object value)
    unsigned long PyThread_get_thread_ident()

cdef extern from "<sys/socket.h>" nogil:
    enum: MSG_NOSIGNAL
    enum: SHUT_WR
    ssize_t recv(int fd, void *buffer, size_t size, int flags)
    ssize_t send(int fd, const void *buffer, size_t size, int flags)
    int shutdown(int fd, int how)

cdef extern from *:
    """
    #include <errno.h>
    /* The two are one number on most systems. */
    static inline int ws_try_again(int code) { return code == EAGAIN || code == EWOULDBLOCK || code == EINTR; }
    """
    bint ws_try_again(int code) nogil

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from "<sys/socket.h>" nogil:
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr *message, int flags)

__all__ = ["Finished", "Inbox", "Lane", "Receive", "ReceiveQueue", "SocketTransport", "Traffic"]

cdef enum:
    TEXT = 1
    BINARY = 2
    # From here on a payload is not copied behind its header.
    SEPARATE_FROM = 32768
    # Gathered output that is larger leaves before there is more.
    GATHER_UP_TO = 65536
    # Messages that are sent without waiting before others get their turn.
    MAX_BURST = 32
    # Messages that were read are removed from a queue that does not become empty, so many at a time at the least.
    REMOVE_FROM = 64
    # Buffers in one system call.
    AT_ONCE = 16
    # Looks in one go; see look_again.
    MAX_LOOKS = 16


@cython.final
cdef class Traffic:
    """What went through one connection. See ``_fastpath_py.Traffic``."""

    cdef public long long queued
    cdef public long long handed
    cdef public long long unsent
    cdef public long long bytes_in
    cdef public long long messages_in
    cdef public long long frames_out
    cdef public long long messages_out
    cdef public double opened
    # A number and no object: without objects, too, the collector has nothing to look at here. NaN for None.
    cdef double _last_received
    cdef public bint alive
    cdef public bint untimed
    cdef public bint has_more
    cdef public bint in_order
    cdef public bint plain

    def __cinit__(self):
        self._last_received = NAN

    @property
    def last_received(self):
        """When the last byte came; None before the first."""
        return None if isnan(self._last_received) else self._last_received

    @last_received.setter
    def last_received(self, now):
        self._last_received = NAN if now is None else now

    def queue(self, Py_ssize_t size):
        """A message is queued to be sent, in one frame of so many bytes."""
        self.queued += size
        self.frames_out += 1
        self.messages_out += 1

    def hand_out(self):
        """All that was queued is handed out."""
        self.handed = self.queued

    def waits_over(self, long long bound):
        """Whether more bytes than that wait, here or with the adapter."""
        return self.queued - self.handed + self.unsent > bound

    def hear(self, now):
        """Bytes came; return whether what they mean is to be given out, and nothing is kept before it."""
        self._last_received = now
        self.alive = True
        return self.in_order and not self.has_more


cdef object system_error(int code):
    # It becomes the subclass for that number.
    return OSError(code, strerror(code).decode("utf-8", "replace"))


cdef class ReceiveQueue:
    """Messages that were received and not yet read. See ``_fastpath_py.ReceiveQueue``."""

    # None while there is none, so that an idle connection keeps nothing. Those before ``_head`` have been taken.
    cdef list _messages
    cdef Py_ssize_t _head
    cdef public bint full
    cdef public bint watched
    cdef long long _bytes
    cdef long long _max_bytes
    cdef Py_ssize_t _max_items

    def __init__(self, max_items, max_bytes):
        # Larger ones are no bounds.
        self._max_items = min(max_items, PY_SSIZE_T_MAX)
        self._max_bytes = min(max_bytes, PY_SSIZE_T_MAX)

    @property
    def items(self):
        """The messages, the oldest first."""
        return [] if self._messages is None else self._messages[self._head:]

    def __len__(self):
        return self._size()

    cdef Py_ssize_t _size(self) noexcept:
        return 0 if self._messages is None else PyList_GET_SIZE(self._messages) - self._head

    def put(self, message):
        """Add a message."""
        if self._messages is None:
            self._messages = [message]
        else:
            self._messages.append(message)
        self._count(message)

    cdef int _count(self, object message) except -1:
        self._bytes += len(message.data)
        if self._size() >= self._max_items or self._bytes >= self._max_bytes:
            self.full = True
        return 0

    def get(self):
        """Take the oldest message."""
        return self._get()

    cdef object _get(self):
        cdef list messages = self._messages
        cdef object message
        if messages is None:
            raise IndexError("there is no message")
        message = messages[self._head]
        messages[self._head] = None
        self._head += 1
        if self._head == PyList_GET_SIZE(messages):
            self._messages = None
            self._head = 0
        elif self._head >= REMOVE_FROM and 2 * self._head >= PyList_GET_SIZE(messages):
            del messages[:self._head]
            self._head = 0
        self._bytes -= len(message.data)
        if self.full and self._size() <= self._max_items // 2 and self._bytes <= self._max_bytes // 2:
            self.full = False
            self.on_room()
        if self.watched and self._messages is None:
            self.watched = False
            self.on_room()
        return message

    cpdef on_room(self):
        """It was full and is not any more, or is empty and was watched."""


@cython.final
cdef class Inbox(ReceiveQueue):
    """A queue that a task can wait at. See ``_fastpath_py.Inbox``."""

    cdef public bint _asyncio_future_blocking
    cdef readonly unsigned long turns
    cdef object _loop
    cdef object _current_task
    cdef object _cancelled_error
    cdef object _owner
    cdef object _callback
    cdef object _context
    cdef object _message
    cdef object _task
    # 0 where nobody cares.
    cdef unsigned long _thread
    cdef bint _waiting
    cdef bint _cancelled

    def __init__(self, max_items, max_bytes, loop, current_task, cancelled_error, owner, get_ident=None):
        ReceiveQueue.__init__(self, max_items, max_bytes)
        # What it is given gives the same number, at the price of a call in Python.
        self._thread = 0 if get_ident is None else PyThread_get_thread_ident()
        self._loop = loop
        self._current_task = current_task
        self._cancelled_error = cancelled_error
        self._owner = owner

    def close(self, owner):
        """Nothing comes any more: let go of the owner, and ask this one instead."""
        self._owner = owner

    def take(self, list messages not None):
        """Add messages and let the task go on that waits. See ``_fastpath_py.Inbox.take``."""
        return self._take(messages)

    cdef bint _take(self, list messages) except -1:
        if self._messages is not None:
            self._messages.extend(messages)
        elif messages:
            self._messages = messages
        for message in messages:
            self._count(message)
        self._wake()
        return self.full

    def wake(self):
        """Let the task go on that waits, if one does."""
        self._wake()

    cdef int _wake(self) except -1:
        cdef object callback = self._callback, context = self._context
        if callback is None:
            return 0
        self._callback = self._context = None
        if self._current_task(self._loop) is None:
            context.run(callback, self)
        else:
            self._loop.call_soon(callback, self, context=context)
        return 0

    def wake_soon(self):
        """The same in the next turn of the event loop."""
        callback, context = self._callback, self._context
        if callback is not None:
            self._callback = self._context = None
            self._loop.call_soon(callback, self, context=context)

    @property
    def reader(self):
        """The task that waits, or None."""
        return self._task

    cpdef on_room(self):
        """Tell the owner."""
        self._owner.has_room()

    # What a task asks of what it awaits.

    def get_loop(self):
        """The event loop."""
        return self._loop

    def add_done_callback(self, callback, *, context=None):
        """Whom to call; the task."""
        self._callback = callback
        self._context = context
        self._task = getattr(callback, "__self__", None)

    def cancel(self, msg=None):
        """Let the task go on with a CancelledError; False if it goes on anyway."""
        callback, context = self._callback, self._context
        if callback is None:
            return False
        self._callback = self._context = None
        self._cancelled = True
        self._message = msg
        self._loop.call_soon(callback, self, context=context)
        return True

    def result(self):
        """None, or a CancelledError."""
        self._result()

    cdef int _result(self) except -1:
        if self._cancelled:
            self._cancelled = False
            message, self._message = self._message, None
            raise self._cancelled_error() if message is None else self._cancelled_error(message)
        return 0


@cython.final
@cython.freelist(16)
cdef class Receive:
    """One reader of an `Inbox`. See ``_fastpath_py.Receive``."""

    cdef Inbox _inbox
    cdef bint _iterating
    cdef bint _begun

    def __cinit__(self, Inbox inbox not None, bint iterating=False):
        self._inbox = inbox
        self._iterating = iterating

    def __aiter__(self):
        return self

    def __anext__(self):
        return self

    def __await__(self):
        # Where a task waits with this one, the next is refused with one of its own.
        return Receive(self._inbox, self._iterating) if self._begun else self

    def __iter__(self):
        return self

    def __next__(self):
        cdef Inbox inbox = self._inbox
        if self._begun:
            self._leave()
            inbox._result()
        elif inbox._thread and inbox._thread != PyThread_get_thread_ident():
            inbox._owner.check_caller("recv")
        if inbox._waiting:
            name = getattr(inbox.reader, "get_name", str)()
            raise RuntimeError(f"recv() is already waiting in {name}; a WebSocket has one reader at a time")
        inbox.turns += 1
        if inbox._size():
            # With its value set behind Cython's back: raised in the usual way it would get a traceback for nobody,
            # which costs as much as everything else in here.
            PyErr_SetObject(StopIteration, inbox._get().data)
            raise StopIteration
        over = inbox._owner.why_over(self._iterating)
        if over is not None:
            raise over
        self._begun = inbox._waiting = inbox._asyncio_future_blocking = True
        return inbox

    def throw(self, *exc):
        """Wait no longer, but raise this."""
        self._leave()
        raise exc[1] if len(exc) > 1 and exc[1] is not None else exc[0]

    def close(self):
        """Wait no longer."""
        self._leave()

    cdef void _leave(self) noexcept:
        if self._begun:
            self._begun = self._inbox._waiting = False
            self._inbox._task = None


@cython.final
cdef class Lane:
    """The express lane of one open connection. See ``_fastpath_py.Lane``."""

    cdef Traffic _traffic
    cdef object _connection
    cdef object _channel
    cdef object _decoder
    cdef object _clock
    cdef object _write
    cdef object _keys
    cdef object _inbox
    # The same, where it is one of ours.
    cdef Inbox _fast_inbox
    cdef unsigned long _turns
    cdef object _on_message
    cdef object _websocket
    cdef object _failed
    cdef SocketTransport _transport
    # 0 where nobody cares.
    cdef unsigned long _thread
    cdef bint _masks
    cdef readonly bint corked
    cdef public bint heard
    cdef public int burst
    # Frames that have not been written.
    cdef uint8_t *_out
    cdef Py_ssize_t _size
    cdef Py_ssize_t _capacity

    def __cinit__(
        self, connection, channel, clock, bint masks, encode_frame, encode_header, *, transport=None, write=None,
        inbox=None, on_message=None, websocket=None, failed=None, get_ident=None,
    ):
        self._thread = 0 if get_ident is None else PyThread_get_thread_ident()
        self._traffic = connection.traffic
        self._decoder = connection.decoder
        self._connection = connection
        self._channel = channel
        self._clock = clock
        self._masks = masks
        if isinstance(transport, SocketTransport):
            self._transport = transport
            self._transport._lane = self
        elif write is None:
            raise TypeError("a lane needs a transport, or something to write with")
        self._write = write
        self._inbox = inbox
        if type(inbox) is Inbox:
            self._fast_inbox = inbox
        self._on_message = on_message
        self._websocket = websocket
        self._failed = failed

    def __dealloc__(self):
        PyMem_Free(self._out)

    def cork(self, bint corked):
        """Hold output back, or no longer; ``flush`` writes it."""
        self.corked = corked

    def close(self):
        """The connection has ended: let go of everything."""
        if self._transport is not None:
            self._transport._lane = None
            self._transport = None
        self._channel = self._write = self._inbox = self._fast_inbox = self._on_message = self._websocket = None
        self._failed = self._connection = self._keys = None
        self._size = 0

    # Receiving.

    def receive(self, buffer, Py_ssize_t size):
        """Take received bytes; False where this is not the place for them, and nothing was done."""
        return self._receive(buffer, size)

    cdef bint _receive(self, object buffer, Py_ssize_t size) except -1:
        cdef Traffic traffic = self._traffic
        cdef list messages = []
        cdef object rest, channel = self._channel
        cdef bint full = False
        if not traffic.in_order or traffic.has_more or traffic.untimed or channel is None:
            return False
        traffic._last_received = self._clock()
        traffic.alive = True
        traffic.bytes_in += size
        try:
            rest = self._decoder.receive(buffer, size, messages)
        except Exception as exc:
            channel.take_decoded(messages, exc)
            return True
        if rest is not None or self._decoder.has_more:
            channel.take_decoded(messages, rest)
            return True
        if PyList_GET_SIZE(messages) == 0:
            return True
        traffic.messages_in += PyList_GET_SIZE(messages)
        self.corked = self.heard = True
        try:
            if self._on_message is not None:
                for message in messages:
                    if not traffic.in_order:
                        # The application has closed it.
                        break
                    self._on_message(self._websocket, message.data)
            elif self._fast_inbox is not None:
                full = self._fast_inbox._take(messages)
            else:
                full = self._inbox.take(messages)
        except (SystemExit, KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as exc:
            # Also a CancelledError, of a future that a callback asked for its result.
            if self._failed is not None:
                self._failed(exc)
            elif self._channel is not None:
                channel.fail(exc)
        finally:
            self.corked = False
        if traffic.queued != traffic.handed or traffic.untimed or not traffic.in_order:
            channel.advance()
        else:
            self._flush()
        if full or traffic.unsent:
            channel.update_reading()
        return True

    # Sending.

    def send(self, message):
        """Frame and write a message; False where this is not the place for it, and nothing was done.

        So that others get their turn, a caller that does nothing but send is refused now and then; see ``burst``.
        """
        cdef unsigned long turns
        if self._inbox is not None:
            turns = self._fast_inbox.turns if self._fast_inbox is not None else self._inbox.turns
            if turns != self._turns:
                self._turns = turns
                self.burst = 0
        if self.burst >= MAX_BURST or not self._send(message):
            return False
        self.burst += 1
        return True

    def send_nowait(self, message):
        """As ``send``, however often."""
        return self._send(message)

    cdef bint _send(self, object message) except -1:
        cdef bytes encoded
        if not self._is_free():
            return False
        if type(message) is str:
            if PyUnicode_IS_COMPACT_ASCII(message):
                return self._frame(TEXT, <const uint8_t *>PyUnicode_DATA(message), PyUnicode_GET_LENGTH(message))
            try:
                encoded = PyUnicode_AsUTF8String(message)
            except UnicodeEncodeError:
                # Whoever is asked next says it better.
                return False
            return self._frame(TEXT, <const uint8_t *>PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))
        if type(message) is bytes:
            return self._frame(BINARY, <const uint8_t *>PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message))
        return False

    def send_framed(self, bytes frame not None):
        """As ``send_nowait``, for what is framed already; not for clients, whose frames are masked."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(frame)
        cdef const uint8_t *data = <const uint8_t *>PyBytes_AS_STRING(frame)
        if self._masks or not self._is_free():
            return False
        if size >= SEPARATE_FROM and self._transport is not None:
            self._write_separately(NULL, 0, data, size)
            return True
        self._reserve(size)
        memcpy(self._out + self._size, data, size)
        self._gathered(size)
        return True

    cdef bint _is_free(self) noexcept:
        """Nothing unusual is going on, and everything before has left, or is gathered here."""
        cdef Traffic traffic = self._traffic
        if self._thread and self._thread != PyThread_get_thread_ident():
            return False
        if not traffic.plain or traffic.queued != traffic.handed or self._channel is None:
            return False
        if self._transport is not None:
            if self._transport._closing:
                return False
            if traffic.unsent and self._transport._waiting == 0:
                traffic.unsent = 0
        return not traffic.unsent

    cdef bint _frame(self, int opcode, const uint8_t *payload, Py_ssize_t size) except -1:
        """Gather or write one frame."""
        cdef bytes key = None
        cdef const uint8_t *mask = NULL
        cdef uint8_t header[14]
        cdef int head
        cdef bint separate = size >= SEPARATE_FROM and not self._masks
        if separate and self._transport is None:
            return False
        if self._masks:
            if self._keys is None:
                self._keys = self._connection.masking_keys()
            key = self._keys.next()
            if PyBytes_GET_SIZE(key) != 4:
                raise ValueError("a masking key has 4 bytes")
            mask = <const uint8_t *>PyBytes_AS_STRING(key)
        head = ws_header_size(size, mask != NULL)
        if separate:
            ws_header(header, opcode, size, True, False, NULL)
            self._write_separately(header, head, payload, size)
            return True
        self._reserve(head + size)
        ws_header(self._out + self._size, opcode, size, True, False, mask)
        if mask != NULL:
            ws_xor(self._out + self._size + head, payload, size, ws_key(mask))
        elif size:
            memcpy(self._out + self._size + head, payload, size)
        self._gathered(head + size)
        return True

    cdef int _write_separately(
        self, const uint8_t *header, Py_ssize_t head, const uint8_t *payload, Py_ssize_t size
    ) except -1:
        """Write what was gathered and a large frame behind it, which is not copied."""
        self._count(head + size)
        self._transport._write_three(self._out, self._size, header, head, payload, size)
        self._drop_out()
        self._after_write()
        return 0

    cdef int _gathered(self, Py_ssize_t size) except -1:
        """So many bytes were put into what is gathered: write it, or wait for more."""
        self._size += size
        self._count(size)
        if self._size >= GATHER_UP_TO:
            self._flush()
        elif not self.corked:
            if self._fast_inbox._size() if self._fast_inbox is not None else self._inbox:
                # More messages wait to be answered in this turn: let the answers leave together.
                self._channel.advance_soon()
            else:
                self._flush()
        return 0

    cdef void _count(self, Py_ssize_t size) noexcept:
        """A message has gone, in one frame of so many bytes."""
        cdef Traffic traffic = self._traffic
        traffic.queued += size
        traffic.handed += size
        traffic.frames_out += 1
        traffic.messages_out += 1

    cdef int _reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t capacity = self._capacity
        cdef uint8_t *grown
        if more > (PY_SSIZE_T_MAX >> 1) - self._size:
            raise MemoryError()
        if self._size + more <= capacity:
            return 0
        capacity = max(self._size + more, 2 * capacity, <Py_ssize_t>256)
        grown = <uint8_t *>PyMem_Realloc(self._out, capacity)
        if grown == NULL:
            raise MemoryError()
        self._out = grown
        self._capacity = capacity
        return 0

    cdef void _drop_out(self) noexcept:
        # An idle connection keeps nothing.
        PyMem_Free(self._out)
        self._out = NULL
        self._size = self._capacity = 0

    def flush(self):
        """Write what was gathered."""
        self._flush()

    cdef int _flush(self) except -1:
        cdef bytes data
        if self._size == 0:
            return 0
        if self._transport is not None:
            self._transport._write_three(self._out, self._size, NULL, 0, NULL, 0)
            self._drop_out()
            self._after_write()
        else:
            data = PyBytes_FromStringAndSize(<const char *>self._out, self._size)
            self._drop_out()
            if self._write is not None:
                self._write(data)
        return 0

    cdef int _after_write(self) except -1:
        if self._transport is not None and self._transport._waiting:
            # It is watched from now on that this leaves.
            self._channel.tell_unsent()
        return 0


@cython.final
cdef class SocketTransport:
    """A transport on a descriptor of its own. See ``_fastpath_py.SocketTransport``."""

    cdef object _loop
    cdef object _sock
    cdef object _protocol
    cdef object _buffer
    cdef object _peername
    cdef Lane _lane
    cdef int _fd
    cdef list _pending
    cdef Py_ssize_t _offset
    cdef Py_ssize_t _waiting
    cdef Py_ssize_t _high
    cdef Py_ssize_t _low
    cdef bint _reading
    cdef bint _writing
    cdef bint _paused
    cdef bint _closing
    cdef bint _lost
    cdef bint _eof
    cdef bint _look_again
    # In the next turn anyway.
    cdef bint _looking
    # How often the system took something.
    cdef unsigned long _sends

    def __cinit__(self, loop, sock, protocol, buffer, bint look_again=False, peername=None):
        self._peername = peername
        self._look_again = look_again
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._buffer = buffer
        self._fd = sock.fileno()
        self._high = 65536
        self._low = 16384

    # What asyncio's transports have.

    def start(self):
        """Tell the protocol, and begin to read."""
        self._protocol.connection_made(self)
        if not self._closing:
            self.resume_reading()

    def get_extra_info(self, name, default=None):
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

    def get_protocol(self):
        """Who is told what happens."""
        return self._protocol

    def is_closing(self):
        """It is closed, or will be when what was written has left."""
        return self._closing

    def pause_reading(self):
        """Do not read until ``resume_reading``."""
        self._stop_reading()

    def resume_reading(self):
        """Read."""
        if not self._reading and not self._closing:
            self._reading = True
            self._loop.add_reader(self._fd, self._on_readable)

    cdef int _stop_reading(self) except -1:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)
        return 0

    def get_write_buffer_size(self):
        """Bytes that were written and have not left."""
        return self._waiting

    def set_write_buffer_limits(self, high, low):
        """Above ``high`` bytes the protocol is told to pause, at ``low`` to resume."""
        # Larger ones are no bounds.
        self._high = min(high, PY_SSIZE_T_MAX)
        self._low = min(low, PY_SSIZE_T_MAX)
        self._maybe_pause()

    def write(self, data):
        """Write bytes; what cannot leave at once is kept."""
        cdef bytes whole = data
        self._write_three(<const uint8_t *>PyBytes_AS_STRING(whole), PyBytes_GET_SIZE(whole), NULL, 0, NULL, 0)

    def writelines(self, pieces):
        """Write pieces, in one system call as far as possible."""
        cdef list kept = [piece for piece in pieces if piece]
        if self._closing or self._eof or not kept:
            return
        if self._pending is None:
            self._pending = kept
        else:
            self._pending.extend(kept)
        was_empty = self._waiting == 0
        for piece in kept:
            self._waiting += PyBytes_GET_SIZE(<bytes?>piece)
        if was_empty:
            self._send_pending()
        self._watch_writing()

    def can_write_eof(self):
        """It can."""
        return True

    def write_eof(self):
        """Say that nothing more comes, once everything has left."""
        if self._closing or self._eof:
            return
        self._eof = True
        if self._waiting == 0:
            self._shut_down()

    cdef int _shut_down(self) except -1:
        cdef int code
        if shutdown(self._fd, SHUT_WR) < 0:
            code = errno
            raise system_error(code)
        return 0

    def close(self):
        """End it when everything has left."""
        if self._closing:
            return
        self._closing = True
        self._stop_reading()
        if self._waiting == 0:
            self._lose(None)

    def abort(self):
        """End it now."""
        self._lose(None)

    # From the event loop.

    def _on_readable(self):
        if not self._looking:
            self._look()

    def _look_later(self):
        self._looking = False
        self._look()

    cdef int _look(self) except -1:
        cdef unsigned long sends
        cdef int looks
        for looks in range(MAX_LOOKS):
            sends = self._sends
            if not self._read_once() or not self._look_again or self._sends != sends:
                return 0
        self._looking = True
        self._loop.call_soon(self._look_later)
        return 0

    cdef bint _read_once(self) except -1:
        """Receive once; whether there may be more to find out."""
        cdef ssize_t n
        cdef int code
        cdef Py_buffer view
        if not self._reading:
            return False
        PyObject_GetBuffer(self._buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
        n = recv(self._fd, view.buf, view.len, 0)
        code = errno
        PyBuffer_Release(&view)
        if n > 0:
            try:
                if self._lane is None or not self._lane._receive(self._buffer, n):
                    self._protocol.buffer_updated(n)
            except Exception as exc:
                self._fail(exc)
            return True
        if n == 0:
            self._stop_reading()
            try:
                if not self._protocol.eof_received():
                    self.close()
            except Exception as exc:
                self._fail(exc)
        elif not ws_try_again(code):
            # A spurious wake-up is no end.
            self._lose(system_error(code))
        return False

    def _on_writable(self):
        if self._lost:
            return
        self._send_pending()
        if self._lost:
            return
        if self._waiting == 0:
            self._stop_writing()
        if self._paused and self._waiting <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        if self._waiting == 0 and not self._lost:
            if self._closing:
                self._lose(None)
            elif self._eof:
                try:
                    self._shut_down()
                except OSError as exc:
                    self._lose(exc)

    # Inside.

    cdef int _write_three(
        self, const uint8_t *first, Py_ssize_t first_size, const uint8_t *second, Py_ssize_t second_size,
        const uint8_t *third, Py_ssize_t third_size
    ) except -1:
        """Write up to three pieces of memory, which are the caller's again afterwards."""
        cdef iovec vector[3]
        cdef ssize_t sent = 0
        cdef Py_ssize_t total = first_size + second_size + third_size
        cdef int count = 0, code
        if self._closing or self._eof or total == 0:
            return 0
        if self._waiting == 0:
            if second_size == 0 and third_size == 0:
                sent = send(self._fd, first, first_size, MSG_NOSIGNAL)
            else:
                if first_size:
                    vector[count].iov_base = <void *>first
                    vector[count].iov_len = first_size
                    count += 1
                if second_size:
                    vector[count].iov_base = <void *>second
                    vector[count].iov_len = second_size
                    count += 1
                if third_size:
                    vector[count].iov_base = <void *>third
                    vector[count].iov_len = third_size
                    count += 1
                sent = self._send_vector(vector, count)
            if sent >= 0:
                self._sends += 1
            if sent == total:
                return 0
            if sent < 0:
                code = errno
                if not ws_try_again(code):
                    self._lose(system_error(code))
                    return 0
                sent = 0
        self._keep(first, first_size, &sent)
        self._keep(second, second_size, &sent)
        self._keep(third, third_size, &sent)
        self._watch_writing()
        return 0

    cdef ssize_t _send_vector(self, iovec *vector, int count) noexcept:
        cdef msghdr message
        cdef ssize_t sent
        message = msghdr(msg_iov=vector, msg_iovlen=count)
        # Long copies need not keep other threads waiting.
        with nogil:
            sent = sendmsg(self._fd, &message, MSG_NOSIGNAL)
        return sent

    cdef int _keep(self, const uint8_t *data, Py_ssize_t size, ssize_t *sent) except -1:
        """Keep what has not been sent of a piece."""
        cdef Py_ssize_t gone = min(size, sent[0])
        sent[0] -= gone
        if gone < size:
            if self._pending is None:
                self._pending = []
            self._pending.append(PyBytes_FromStringAndSize(<const char *>data + gone, size - gone))
            self._waiting += size - gone
        return 0

    cdef int _send_pending(self) except -1:
        """Send as much as possible of what is kept."""
        cdef iovec vector[AT_ONCE]
        cdef Py_ssize_t i, count, taken
        cdef ssize_t sent
        cdef int code
        cdef bytes piece
        while self._waiting:
            count = min(PyList_GET_SIZE(self._pending), <Py_ssize_t>AT_ONCE)
            for i in range(count):
                piece = <bytes?>self._pending[i]
                taken = self._offset if i == 0 else 0
                vector[i].iov_base = PyBytes_AS_STRING(piece) + taken
                vector[i].iov_len = PyBytes_GET_SIZE(piece) - taken
            sent = self._send_vector(vector, <int>count)
            if sent < 0:
                code = errno
                if not ws_try_again(code):
                    self._lose(system_error(code))
                return 0
            self._sends += 1
            self._waiting -= sent
            i = 0
            while i < count and <size_t>sent >= vector[i].iov_len:
                sent -= <ssize_t>vector[i].iov_len
                i += 1
            if i:
                self._offset = 0
                del self._pending[:i]
            self._offset += sent
            if i < count:
                # The system takes no more for now.
                return 0
        self._pending = None
        self._offset = 0
        return 0

    cdef int _watch_writing(self) except -1:
        if self._waiting and not self._lost:
            if not self._writing:
                self._writing = True
                self._loop.add_writer(self._fd, self._on_writable)
            self._maybe_pause()
        return 0

    cdef int _maybe_pause(self) except -1:
        if self._waiting > self._high and not self._paused and not self._lost:
            self._paused = True
            self._protocol.pause_writing()
        return 0

    cdef int _stop_writing(self) except -1:
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._fd)
        return 0

    cdef int _lose(self, object exc) except -1:
        """It is over; the protocol is told in the next turn."""
        if self._lost:
            return 0
        self._lost = self._closing = True
        self._stop_reading()
        self._stop_writing()
        self._pending = None
        self._offset = self._waiting = 0
        self._lane = None
        self._loop.call_soon(self._end, exc)
        return 0

    def _end(self, exc):
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._sock.close()
            self._protocol = self._loop = None

    cdef int _fail(self, object exc) except -1:
        """The protocol raised: that is a bug, and not something that a peer did."""
        self._loop.call_exception_handler(
            {"message": "wsframe: receiving failed", "exception": exc, "transport": self}
        )
        self._lose(exc)
        return 0


@cython.final
cdef class Finished:
    """A coroutine that has nothing left to do. See ``_fastpath_py.Finished``."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        raise StopIteration

    def send(self, value):
        """Be done."""
        raise StopIteration

    def throw(self, *exc):
        """There is nobody in here who could handle it."""
        raise exc[1] if len(exc) > 1 and exc[1] is not None else exc[0]

    def close(self):
        """Nothing is open."""
