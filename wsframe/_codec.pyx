# cython: language_level=3, binding=False, embedsignature=False, auto_pickle=False, initializedcheck=False
# cython: boundscheck=True, wraparound=False, cdivision=True, freethreading_compatible=False
"""The frame codec, compiled: RFC 6455 s5 as seen by one receiver and one sender of bytes.

It does what ``_codec_py`` does, to the letter; that one is the reference and says why. A leaf: it imports nothing from
the package, for a relative import in here would look for the name that the package had when this was compiled.
"""

import os

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8String, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

cdef extern from "_codec.h":
    ctypedef struct ws_utf8:
        uint8_t need

    uint32_t ws_key(const uint8_t *bytes) nogil
    uint32_t ws_key_turn(uint32_t key, size_t taken) nogil
    void ws_xor(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) nogil
    int ws_xor_ascii(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key) nogil
    int ws_header_size(uint64_t length, int masked) nogil
    int ws_header(uint8_t *target, int opcode, uint64_t length, int fin, int rsv1, const uint8_t *key) nogil
    int ws_utf8_feed(ws_utf8 *state, const uint8_t *data, size_t n, size_t *whole) nogil

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object o)
    bint PyUnicode_IS_COMPACT_ASCII(object o)
    Py_ssize_t PyUnicode_GET_LENGTH(object o)
    int PyUnicode_Resize(PyObject **o, Py_ssize_t size) except -1
    int _PyBytes_Resize(PyObject **o, Py_ssize_t size) except -1
    Py_ssize_t PY_SSIZE_T_MAX

__all__ = [
    "Assembler",
    "CodecError",
    "Decoder",
    "Frame",
    "MaskingKeys",
    "Message",
    "MessageChunk",
    "apply_mask",
    "decode_header",
    "encode_frame",
    "encode_header",
]

cdef enum:
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CONTROL = 0x08
    FIN = 0x80
    RSV1 = 0x40
    RSV23 = 0x30
    MASKED = 0x80
    PROTOCOL_ERROR = 1002
    INVALID_DATA = 1007
    TOO_BIG = 1009
    BUDGET = 1 << 20
    OBJECT_COST = 64

cdef uint64_t TOP_BIT = <uint64_t>1 << 63
cdef str BAD_UTF8 = "invalid UTF-8 in a text message"


class CodecError(Exception):
    """The peer's bytes break RFC 6455 s5; ``code`` and ``reason`` are for the Close frame."""

    def __init__(self, code, reason):
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self):
        return self.reason


cdef int get_buffer(data, Py_buffer *view) except -1:
    """The bytes of any bytes-like object, in one piece."""
    try:
        PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
    except (BufferError, TypeError):
        # Such as every second byte of something; and for what has no bytes the twin's words.
        PyObject_GetBuffer(bytes(memoryview(data)), view, PyBUF_SIMPLE)
    return 0


cdef int get_key(key, uint8_t *target) except -1:
    """The 4 bytes of a masking key."""
    cdef Py_buffer view
    if type(key) is bytes and PyBytes_GET_SIZE(key) == 4:
        memcpy(target, PyBytes_AS_STRING(key), 4)
        return 0
    get_buffer(key, &view)
    try:
        if view.len != 4:
            raise ValueError(f"a masking key has 4 bytes, not {view.len}")
        memcpy(target, view.buf, 4)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef object checked_data(data):
    if not isinstance(data, (str, bytes)):
        # It would have to be known to the garbage collector.
        raise TypeError(f"data is a str or bytes, not {type(data).__name__}")
    return data


cdef int checked_opcode(opcode) except -1:
    opcode = PyNumber_Index(opcode)
    if not 0 <= opcode <= 15:
        raise ValueError(f"an opcode has four bits: {opcode} is none")
    return opcode


cdef uint64_t checked_limit(limit) except? 1:
    limit = PyNumber_Index(limit)
    if limit < 0:
        raise ValueError("a limit cannot be negative")
    # Frame lengths are below 2**63 (s5.2), so that larger limits are none.
    return min(limit, TOP_BIT - 1)


cdef inline bint known_opcode(unsigned int opcode) noexcept:
    return opcode <= 2 or 8 <= opcode <= 10


@cython.final
@cython.freelist(256)
@cython.no_gc
cdef class Message:
    """A whole message (RFC 6455 s5.4, s5.6): ``data`` and ``opcode``."""

    __match_args__ = ("data", "opcode")

    cdef readonly object data
    cdef readonly int opcode

    def __init__(self, data, opcode):
        if self.data is not None:
            raise AttributeError("Message objects are read-only")
        checked_data(data)
        self.opcode = checked_opcode(opcode)
        self.data = data

    @property
    def is_text(self):
        """Whether the message was sent as text."""
        return self.opcode == TEXT

    def __eq__(self, other):
        if type(other) is not Message:
            return NotImplemented
        return self.opcode == (<Message>other).opcode and self.data == (<Message>other).data

    def __hash__(self):
        return hash(("Message", self.data, self.opcode))

    def __repr__(self):
        return f"Message(data={self.data!r}, opcode={self.opcode!r})"


@cython.final
@cython.no_gc
cdef class MessageChunk:
    """A part of a message: ``data``, ``opcode``, ``first`` and ``final``."""

    __match_args__ = ("data", "opcode", "first", "final")

    cdef readonly object data
    cdef readonly int opcode
    cdef readonly bint first
    cdef readonly bint final

    def __init__(self, data, opcode, bint first, bint final):
        if self.data is not None:
            raise AttributeError("MessageChunk objects are read-only")
        checked_data(data)
        self.opcode = checked_opcode(opcode)
        self.data = data
        self.first = first
        self.final = final

    @property
    def is_text(self):
        """Whether the message is sent as text."""
        return self.opcode == TEXT

    cdef tuple fields(self):
        return self.data, self.opcode, self.first, self.final

    def __eq__(self, other):
        if type(other) is not MessageChunk:
            return NotImplemented
        return self.fields() == (<MessageChunk>other).fields()

    def __hash__(self):
        return hash(("MessageChunk", *self.fields()))

    def __repr__(self):
        return (
            f"MessageChunk(data={self.data!r}, opcode={self.opcode!r}, first={self.first!r}, final={self.final!r})"
        )


@cython.final
@cython.no_gc
cdef class Frame:
    """One frame (RFC 6455 s5.2): ``opcode``, ``payload``, ``fin`` and ``rsv1``."""

    __match_args__ = ("opcode", "payload", "fin", "rsv1")

    cdef readonly int opcode
    cdef readonly bytes payload
    cdef readonly bint fin
    cdef readonly bint rsv1

    def __init__(self, opcode, payload, bint fin=True, bint rsv1=False):
        if self.payload is not None:
            raise AttributeError("Frame objects are read-only")
        if type(payload) is not bytes:
            raise TypeError(f"payload is bytes, not {type(payload).__name__}")
        self.opcode = checked_opcode(opcode)
        self.payload = payload
        self.fin = fin
        self.rsv1 = rsv1

    cdef tuple fields(self):
        return self.opcode, self.payload, self.fin, self.rsv1

    def __eq__(self, other):
        if type(other) is not Frame:
            return NotImplemented
        return self.fields() == (<Frame>other).fields()

    def __hash__(self):
        return hash(("Frame", *self.fields()))

    def __repr__(self):
        return f"Frame(opcode={self.opcode!r}, payload={self.payload!r}, fin={self.fin!r}, rsv1={self.rsv1!r})"


cdef inline Message new_message(object data, int opcode):
    cdef Message message = Message.__new__(Message)
    message.data = data
    message.opcode = opcode
    return message


cdef inline MessageChunk new_chunk(object data, int opcode, bint first, bint final):
    cdef MessageChunk chunk = MessageChunk.__new__(MessageChunk)
    chunk.data = data
    chunk.opcode = opcode
    chunk.first = first
    chunk.final = final
    return chunk


cdef inline Frame new_frame(int opcode, bytes payload, bint fin, bint rsv1):
    cdef Frame frame = Frame.__new__(Frame)
    frame.opcode = opcode
    frame.payload = payload
    frame.fin = fin
    frame.rsv1 = rsv1
    return frame


cdef inline bytes unmasked(const uint8_t *source, Py_ssize_t size, bint masked, uint32_t key):
    cdef bytes result
    if not masked:
        return PyBytes_FromStringAndSize(<const char *>source, size)
    result = PyBytes_FromStringAndSize(NULL, size)
    ws_xor(<uint8_t *>PyBytes_AS_STRING(result), source, size, key)
    return result


cdef object utf8(const uint8_t *source, Py_ssize_t size):
    try:
        return PyUnicode_DecodeUTF8(<const char *>source, size, NULL)
    except UnicodeDecodeError:
        raise CodecError(INVALID_DATA, BAD_UTF8) from None


cdef object unmasked_text(const uint8_t *source, Py_ssize_t size, bint masked, uint32_t key):
    """Unmask, look for anything but ASCII and build the str, in one pass."""
    cdef object text
    cdef uint8_t *data
    if size == 0:
        return utf8(source, size)
    text = PyUnicode_New(size, 127)
    data = <uint8_t *>PyUnicode_DATA(text)
    # Without a mask this is a copy, which takes larger steps than CPython's own look for ASCII.
    if ws_xor_ascii(data, source, size, key if masked else 0):
        # It is no str, only memory that holds the unmasked bytes; nobody else has seen it.
        return utf8(data, size)
    return text


cdef bytes checked_utf8(bytes data):
    cdef ws_utf8 state
    cdef size_t whole
    memset(&state, 0, sizeof(state))
    if (
        not ws_utf8_feed(&state, <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &whole)
        or state.need
    ):
        raise CodecError(INVALID_DATA, BAD_UTF8)
    return data


def apply_mask(data, key, offset=0):
    """XOR ``data`` with the masking key (RFC 6455 s5.3). See ``_codec_py.apply_mask``."""
    cdef Py_buffer view
    cdef uint8_t mask[4]
    cdef uint32_t word
    cdef bytes result
    get_key(key, mask)
    offset = PyNumber_Index(offset)
    if offset < 0:
        raise ValueError(f"offset must not be negative, but is {offset}")
    word = ws_key_turn(ws_key(mask), <size_t>(offset & 3))
    get_buffer(data, &view)
    try:
        result = PyBytes_FromStringAndSize(NULL, view.len)
        ws_xor(<uint8_t *>PyBytes_AS_STRING(result), <const uint8_t *>view.buf, view.len, word)
        return result
    finally:
        PyBuffer_Release(&view)


cdef unsigned long fork_generation = 0


def _after_fork():
    global fork_generation
    fork_generation += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@cython.final
cdef class MaskingKeys:
    """Unpredictable masking keys (RFC 6455 s5.3, s10.3) for one connection. See ``_codec_py.MaskingKeys``."""

    POOL_SIZE = 1024

    cdef object _random_bytes
    cdef bytes _pool
    cdef Py_ssize_t _position
    cdef unsigned long _generation

    # Not __init__: nobody can make one without it, and whose pool would be None.
    def __cinit__(self, random_bytes):
        self._random_bytes = random_bytes
        self._pool = b""
        self._position = 0
        self._generation = fork_generation

    def next(self):
        """A fresh key of 4 bytes."""
        cdef Py_ssize_t position = self._position
        cdef unsigned long generation
        if position + 4 > PyBytes_GET_SIZE(self._pool) or self._generation != fork_generation:
            # Looked at before: a fork while the bytes are being made would leave both processes with them.
            generation = fork_generation
            pool = self._random_bytes(1024)
            if type(pool) is not bytes:
                # bytes() alone would make zeros of a number.
                pool = bytes(memoryview(pool))
            if len(pool) != 1024:
                raise ValueError(f"random_bytes(1024) gave {len(pool)} bytes")
            self._pool = pool
            self._generation = generation
            position = 0
        self._position = position + 4
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(self._pool) + position, 4)


cdef int defined_opcode(opcode) except -1:
    cdef int overflow = 0
    opcode = PyNumber_Index(opcode)
    cdef long number = PyLong_AsLongAndOverflow(opcode, &overflow)
    if overflow or not 0 <= number <= 10 or not known_opcode(<unsigned int>number):
        raise ValueError(f"opcode {opcode} is not defined (RFC 6455 s5.2)")
    return <int>number


cdef int check_header(int opcode, object length, bint fin, bint rsv1) except -1:
    if opcode & CONTROL:
        # s5.5: All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented.
        if length > 125:
            raise ValueError(f"a control frame carries at most 125 bytes, not {length} (RFC 6455 s5.5)")
        if not fin:
            raise ValueError("a control frame cannot be fragmented (RFC 6455 s5.5)")
        if rsv1:
            raise ValueError("a control frame cannot be compressed (RFC 7692 s6.1)")
    elif rsv1 and opcode == CONTINUATION:
        raise ValueError(
            "a continuation frame cannot have RSV1: the first frame of a message has it (RFC 7692 s6.1)"
        )
    return 0


def encode_header(opcode, length, bint fin=True, bint rsv1=False, key=None):
    """The header of a frame (RFC 6455 s5.2). See ``_codec_py.encode_header``."""
    cdef uint8_t header[14]
    cdef uint8_t mask[4]
    cdef uint64_t size
    cdef int code, head
    opcode = PyNumber_Index(opcode)
    length = PyNumber_Index(length)
    code = defined_opcode(opcode)
    check_header(code, length, fin, rsv1)
    if key is not None:
        get_key(key, mask)
    if length < 0:
        raise ValueError(f"a payload cannot have {length} bytes")
    if length >= TOP_BIT:
        raise ValueError("a payload must be shorter than 2**63 bytes (RFC 6455 s5.2)")
    size = length
    head = ws_header(header, code, size, fin, rsv1, <const uint8_t *>NULL if key is None else <const uint8_t *>mask)
    return PyBytes_FromStringAndSize(<char *>header, head)


cdef bytes build_frame(object opcode, const uint8_t *payload, Py_ssize_t size, bint fin, bint rsv1, object key):
    cdef int code, head
    cdef bytes frame
    cdef uint8_t mask[4]
    cdef uint8_t *target
    code = defined_opcode(opcode)
    if code & CONTROL or rsv1:
        check_header(code, size, fin, rsv1)
    if key is not None:
        get_key(key, mask)
    head = ws_header_size(size, key is not None)
    if size > PY_SSIZE_T_MAX - 14:
        raise OverflowError("the payload is too large for a frame in memory")
    frame = PyBytes_FromStringAndSize(NULL, head + size)
    target = <uint8_t *>PyBytes_AS_STRING(frame)
    ws_header(target, code, size, fin, rsv1, <const uint8_t *>NULL if key is None else <const uint8_t *>mask)
    if key is not None:
        ws_xor(target + head, payload, size, ws_key(mask))
    elif size:
        memcpy(target + head, payload, size)
    return frame


def encode_frame(opcode, payload, bint fin=True, bint rsv1=False, key=None):
    """A whole frame, masked when there is a key. See ``_codec_py.encode_frame``."""
    cdef Py_buffer view
    cdef bytes encoded
    if type(payload) is bytes:
        encoded = <bytes>payload
    elif isinstance(payload, str):
        if PyUnicode_IS_COMPACT_ASCII(payload):
            return build_frame(
                opcode, <const uint8_t *>PyUnicode_DATA(payload), PyUnicode_GET_LENGTH(payload), fin, rsv1, key
            )
        # Not PyUnicode_AsUTF8: that would keep a second copy inside the str for as long as it lives.
        encoded = PyUnicode_AsUTF8String(payload)
    else:
        get_buffer(payload, &view)
        try:
            return build_frame(opcode, <const uint8_t *>view.buf, view.len, fin, rsv1, key)
        finally:
            PyBuffer_Release(&view)
    return build_frame(
        opcode, <const uint8_t *>PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded), fin, rsv1, key
    )


cdef int read_length(const uint8_t *data, Py_ssize_t have, uint64_t *length, int *size) except -1:
    """The payload length of the frame that begins at ``data``; 0 when more than the ``have`` bytes are needed."""
    cdef int i, extra
    cdef uint64_t value, least
    if have < 2:
        return 0
    value = data[1] & 0x7F
    if value < 126:
        length[0] = value
        size[0] = 2
        return 1
    extra, least = (2, 126) if value == 126 else (8, 1 << 16)
    if have < 2 + extra:
        return 0
    value = 0
    for i in range(extra):
        value = value << 8 | data[2 + i]
    # s5.2: the minimal number of bytes MUST be used to encode the length.
    if value < least:
        raise CodecError(PROTOCOL_ERROR, f"length {value} is not encoded in the fewest bytes")
    # s5.2: the most significant bit MUST be 0.
    if value & TOP_BIT:
        raise CodecError(PROTOCOL_ERROR, "frame length has its top bit set")
    length[0] = value
    size[0] = 2 + extra
    return 1


def decode_header(data, position=0):
    """Read the first bytes of a frame up to the masking key. See ``_codec_py.decode_header``."""
    cdef Py_buffer view
    cdef const uint8_t *start
    cdef Py_ssize_t begin
    cdef uint64_t length
    cdef int size
    get_buffer(data, &view)
    try:
        position = PyNumber_Index(position)
        if position < 0:
            raise ValueError(f"position must not be negative, but is {position}")
        if position > view.len:
            return None
        begin = position
        start = <const uint8_t *>view.buf + begin
        if not read_length(start, view.len - begin, &length, &size):
            return None
        return start[0], start[1], length, begin + size
    finally:
        PyBuffer_Release(&view)


@cython.final
cdef class Assembler:
    """Put one message together from pieces of its payload. See ``_codec_py.Assembler``."""

    cdef bint _stream
    cdef bint _decode_text
    cdef int _opcode
    cdef bint _chunk_first
    # The pieces so far, in the memory of the str or bytes that they will be, of which we hold the only reference;
    # also, when streaming text, the bytes of an unfinished character. Where the text is not ASCII, the str is no str
    # but memory alone, and what is handed out is decoded from it.
    cdef PyObject *_target
    cdef uint8_t *_data
    cdef size_t _size
    cdef size_t _capacity
    cdef bint _ascii
    cdef ws_utf8 _utf8

    def __cinit__(self, bint stream, bint decode_text):
        self._stream = stream
        self._decode_text = decode_text
        self._clear()

    def __dealloc__(self):
        Py_XDECREF(self._target)

    cdef void _clear(self) noexcept:
        cdef PyObject *target = self._target
        self._target = NULL
        Py_XDECREF(target)
        self._data = NULL
        self._size = self._capacity = 0
        memset(&self._utf8, 0, sizeof(self._utf8))
        self._chunk_first = self._ascii = True

    cdef inline bint _is_str(self) noexcept:
        return self._opcode == TEXT and self._decode_text and not self._stream

    cdef int _resize(self, size_t capacity) except -1:
        cdef object made
        if self._target == NULL:
            made = PyUnicode_New(capacity, 127) if self._is_str() else PyBytes_FromStringAndSize(NULL, capacity)
            Py_INCREF(made)
            self._target = <PyObject *>made
        elif self._is_str():
            PyUnicode_Resize(&self._target, capacity)
        else:
            try:
                _PyBytes_Resize(&self._target, capacity)
            except MemoryError:
                # It has let go of what was there. So large, nothing more can be added to it.
                self._size = <size_t>-1
                self._capacity = 0
                raise
        if self._is_str():
            self._data = <uint8_t *>PyUnicode_DATA(<object>self._target)
        else:
            self._data = <uint8_t *>PyBytes_AS_STRING(<object>self._target)
        self._capacity = capacity
        return 0

    cdef int _reserve(self, size_t more, uint64_t rest) except -1:
        """Have room for that much more. ``rest`` is what will complete the message after that, 0 if it is unknown."""
        cdef size_t wanted = self._size + more
        if wanted < self._size or wanted > ((<size_t>-1) >> 2):
            raise MemoryError()
        if wanted <= self._capacity:
            return 0
        if rest and rest <= wanted:
            # All that will be needed. What was announced is not allocated before half of it has come.
            wanted += rest
        else:
            wanted = max(wanted, self._capacity + (self._capacity >> 1), <size_t>64)
        return self._resize(wanted)

    cdef int _begin(self, int opcode) except -1:
        self._clear()
        self._opcode = opcode
        return 0

    cdef int _take(
        self,
        const uint8_t *source,
        Py_ssize_t size,
        bint masked,
        uint32_t key,
        bint final,
        uint64_t rest,
        list out,
    ) except -1:
        """The next piece, still masked or not."""
        cdef uint8_t *target
        cdef size_t whole
        cdef bint ascii = False
        if final and self._size == 0 and not self._stream:
            # The whole message in one piece.
            out.append(new_message(self._content(source, size, masked, key), self._opcode))
            return 0
        self._reserve(size, rest)
        target = self._data + self._size
        if self._is_str():
            # Without a mask this is a copy that looks for anything but ASCII.
            ascii = not ws_xor_ascii(target, source, size, key if masked else 0)
        elif masked:
            ws_xor(target, source, size, key)
        elif size:
            memcpy(target, source, size)
        self._size += size
        if self._stream:
            self._give_chunk(self._opcode == TEXT, final, out)
        else:
            if self._opcode == TEXT and not (ascii and self._utf8.need == 0):
                self._ascii = False
                if not ws_utf8_feed(&self._utf8, target, size, &whole) or (final and self._utf8.need):
                    raise CodecError(INVALID_DATA, BAD_UTF8)
            if final:
                out.append(new_message(self._finished(), self._opcode))
        if final:
            self._clear()
        return 0

    cdef object _finished(self):
        """All pieces as one object."""
        cdef object made
        if self._is_str() and not self._ascii:
            return utf8(self._data, self._size)
        if self._size != self._capacity:
            self._resize(self._size)
        made = <object>self._target
        Py_XDECREF(self._target)
        self._target = NULL
        return made

    cdef object _content(self, const uint8_t *source, Py_ssize_t size, bint masked, uint32_t key):
        if self._opcode != TEXT:
            return unmasked(source, size, masked, key)
        if self._decode_text:
            return unmasked_text(source, size, masked, key)
        return checked_utf8(unmasked(source, size, masked, key))

    cdef int _give_chunk(self, bint text, bint final, list out) except -1:
        """Streaming: give out what is there, in whole characters."""
        cdef size_t whole = self._size
        cdef bint valid = True
        cdef ws_utf8 state
        if text:
            # What is kept from the piece before is the beginning of a character: it is checked once more.
            memset(&state, 0, sizeof(state))
            valid = ws_utf8_feed(&state, self._data, self._size, &whole) and not (final and state.need)
        if whole or (final and valid):
            if text and self._decode_text:
                data = utf8(self._data, whole)
            else:
                data = PyBytes_FromStringAndSize(<const char *>self._data, whole)
            out.append(new_chunk(data, self._opcode, self._chunk_first, final and valid))
            self._chunk_first = False
        if not valid:
            # The characters before it are out: the same is given out however the bytes were cut.
            raise CodecError(INVALID_DATA, BAD_UTF8)
        self._size -= whole
        if self._size:
            # At most three bytes of a character.
            memmove(self._data, self._data + whole, self._size)
        return 0

    def begin(self, int opcode):
        """Start a message of that opcode (1 text, 2 binary), and forget the one before."""
        self._begin(opcode)

    def add(self, bytes piece not None, bint final, list out not None):
        """Take the next piece and append to ``out`` what is finished."""
        self._take(<const uint8_t *>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), False, 0, final, 0, out)


# Not for the garbage collector: it would clear what a borrowed buffer belongs to before we give it back. There is
# nothing in a decoder that could lead back to it, once decode() has returned.
@cython.final
@cython.no_gc
cdef class Decoder:
    """Turn received bytes into messages and other frames. See ``_codec_py.Decoder``."""

    cdef readonly bint has_more
    cdef readonly uint64_t frames
    cdef uint8_t _mask_bit
    cdef bint _allow_rsv1
    cdef bint _stream
    cdef bint _decode_text
    cdef bint _failed
    cdef uint64_t _max_size
    cdef uint64_t _max_fragments
    # The input: somebody's buffer while _borrowed, else our own memory.
    cdef Py_buffer _view
    cdef bint _borrowed
    # In the middle of feed or decode, where raw pointers are held. They run no Python code of their own, but letting go
    # of somebody's buffer can (PEP 688), as can the garbage collector while an exception is made.
    cdef bint _busy
    cdef uint8_t *_own
    cdef Py_ssize_t _capacity
    cdef const uint8_t *_input
    cdef Py_ssize_t _position
    cdef Py_ssize_t _end
    cdef Py_ssize_t _budget
    # The message in progress (s5.4). An opcode of 0 means that there is none.
    cdef int _opcode
    cdef bint _compressed
    cdef uint64_t _fragments
    cdef uint64_t _size
    cdef Assembler _assembler
    # The compressed frame in progress, and how many Frames its message has given so far.
    cdef uint64_t _pieces
    cdef bytearray _partial
    # The data frame in progress.
    cdef bint _in_frame
    cdef bint _fin
    cdef uint64_t _left
    cdef uint32_t _key

    def __cinit__(
        self,
        bint expect_masked,
        max_message_size,
        max_fragments,
        bint allow_rsv1=False,
        bint stream=False,
        bint decode_text=True,
    ):
        self._mask_bit = MASKED if expect_masked else 0
        max_message_size, max_fragments = PyNumber_Index(max_message_size), PyNumber_Index(max_fragments)
        self._max_size = checked_limit(max_message_size)
        self._max_fragments = checked_limit(max_fragments)
        self._allow_rsv1 = allow_rsv1
        self._stream = stream
        self._decode_text = decode_text
        self._budget = BUDGET

    def __dealloc__(self):
        if self._borrowed:
            PyBuffer_Release(&self._view)
        PyMem_Free(self._own)

    @property
    def pending(self):
        """There are bytes of an unfinished frame or frames of an unfinished message; never after an error."""
        return self._opcode != 0 or self._position < self._end

    def feed(self, data):
        """Take received bytes; ``decode`` does the work. See ``_codec_py.Decoder``."""
        self._feed(data, -1)

    cdef int _feed(self, data, Py_ssize_t size) except -1:
        """Take bytes: the first ``size``, or all when that is -1."""
        cdef Py_buffer view
        cdef bint taken = False
        # First, for it may run Python code.
        get_buffer(data, &view)
        try:
            if size > view.len or size < -1:
                raise ValueError(f"cannot take {size} bytes of {view.len}")
            self._begin_work()
        except:
            PyBuffer_Release(&view)
            raise
        if size == -1:
            size = view.len
        try:
            if self._borrowed:
                self._keep_rest()
            if self._failed:
                pass
            elif self._position == self._end:
                self._view = view
                self._borrowed = taken = True
                self._input = <const uint8_t *>view.buf
                self._position = 0
                self._end = size
            else:
                self._append(<const uint8_t *>view.buf, size)
        finally:
            if not taken:
                PyBuffer_Release(&view)
            self._busy = False
        return 0

    cdef int _begin_work(self) except -1:
        if self._busy:
            raise RuntimeError("the decoder is at work: it cannot be used from inside its own feed or decode")
        self._busy = True
        return 0

    def keep_rest(self):
        """Stop borrowing what was fed: what is left of it is copied. See ``_codec_py.Decoder``."""
        if self._borrowed:
            self._keep_rest()

    cdef int _append(self, const uint8_t *data, Py_ssize_t size) except -1:
        """Put bytes behind what is left in our own memory; many small ones cost no more than one large one."""
        cdef Py_ssize_t kept = self._end - self._position
        cdef Py_ssize_t capacity
        cdef uint8_t *grown
        if size > (PY_SSIZE_T_MAX >> 1) - kept:
            raise MemoryError()
        if self._position > kept:
            memmove(self._own, self._own + self._position, kept)
            self._position = 0
            self._end = kept
        if self._end + size > self._capacity:
            capacity = max(self._end + size, 2 * self._capacity, 256)
            grown = <uint8_t *>PyMem_Realloc(self._own, capacity)
            if grown == NULL:
                raise MemoryError()
            self._own = grown
            self._capacity = capacity
        if size:
            memcpy(self._own + self._end, data, size)
        self._end += size
        self._input = self._own
        return 0

    cdef int _keep_rest(self) except -1:
        """Let go of somebody's buffer, or of our own when it is used up; what is left over is copied."""
        cdef Py_ssize_t position = self._position, end = self._end
        if self._borrowed:
            if position < end:
                self._position = self._end = 0
                try:
                    self._append(<const uint8_t *>self._view.buf + position, end - position)
                except:
                    # Nothing has changed.
                    self._position = position
                    self._end = end
                    raise
            else:
                self._position = self._end = 0
            self._borrowed = False
            PyBuffer_Release(&self._view)
        if self._position == self._end:
            # An idle connection keeps nothing.
            PyMem_Free(self._own)
            self._own = NULL
            self._input = NULL
            self._capacity = self._position = self._end = 0
        elif self._capacity > 4 * (self._end - self._position) + 1024:
            self._shrink()
        return 0

    cdef void _shrink(self) noexcept:
        """Most of our own memory is used up: do not hold it for the little that is left."""
        cdef Py_ssize_t size = self._end - self._position
        cdef uint8_t *small = <uint8_t *>PyMem_Malloc(size)
        if small == NULL:
            # Then it stays as it is.
            return
        memcpy(small, self._own + self._position, size)
        PyMem_Free(self._own)
        self._input = self._own = small
        self._position = 0
        self._end = self._capacity = size

    cdef int _give_up(self) except -1:
        """Keep nothing of what a failed connection has sent."""
        self._failed = True
        self._position = self._end
        self._keep_rest()
        self._in_frame = False
        self._opcode = 0
        self._partial = None
        self._assembler = None
        return 0

    def decode(self, list out not None):
        """Append finished messages (or chunks) to ``out`` until something else comes. See ``_codec_py.Decoder``."""
        cdef Frame frame
        self._begin_work()
        self.has_more = False
        try:
            frame = self._run(out)
            if frame is None:
                self._budget = BUDGET
                self._keep_rest()
        except:
            self._give_up()
            raise
        finally:
            self._busy = False
        return frame

    def receive(self, buffer, size, list out not None):
        """``feed`` the first bytes of a buffer and ``decode``, in one step. See ``_codec_py.Decoder``."""
        size = PyNumber_Index(size)
        if size < 0:
            raise ValueError(f"cannot take {size} bytes")
        self._feed(buffer, size)
        return self.decode(out)

    cdef Frame _run(self, list out):
        cdef const uint8_t *data = self._input
        cdef Py_ssize_t end = self._end
        cdef Py_ssize_t start, size
        cdef uint64_t length
        cdef int head, opcode
        cdef uint8_t first, second
        cdef bint compressed, final
        cdef bint masked = self._mask_bit != 0
        cdef uint32_t key
        cdef Frame frame
        cdef object content
        while True:
            if self._budget <= 0:
                self.has_more = self._position < end
                return None
            if self._in_frame:
                if self._position >= end:
                    return None
                frame = self._payload(out)
                if frame is not None:
                    return frame
                continue
            if end - self._position < 2:
                return None
            first = data[self._position]
            second = data[self._position + 1]
            # Most frames are whole messages, text or binary, masked as they must be: nothing to judge.
            if not (
                (first == (FIN | TEXT) or first == (FIN | BINARY))
                and self._opcode == 0
                and second & MASKED == self._mask_bit
            ):
                self._judge(first, second)
            if not read_length(data + self._position, end - self._position, &length, &head):
                return None
            opcode = first & 0x0F
            start = self._position + head + (4 if masked else 0)
            if opcode & CONTROL:
                size = length
                if end - start < size:
                    return None
                key = ws_key(data + start - 4) if masked else 0
                frame = new_frame(opcode, unmasked(data + start, size, masked, key), True, False)
                self._position = start + size
                self.frames += 1
                return frame
            compressed = self._compressed if opcode == CONTINUATION else first & RSV1 != 0
            self._bound(length, opcode, compressed)
            if start > end:
                return None
            final = first & FIN != 0
            key = ws_key(data + start - 4) if masked else 0
            if (
                opcode != CONTINUATION and final and not compressed and not self._stream
                and length <= <uint64_t>(end - start)
            ):
                # A whole message in one piece.
                size = length
                if opcode == BINARY:
                    content = unmasked(data + start, size, masked, key)
                elif self._decode_text:
                    content = unmasked_text(data + start, size, masked, key)
                else:
                    content = checked_utf8(unmasked(data + start, size, masked, key))
                out.append(new_message(content, opcode))
                self._position = start + size
                self.frames += 1
                self._budget -= size + OBJECT_COST
                continue
            if opcode != CONTINUATION:
                self._opcode = opcode
                self._compressed = compressed
                self._fragments = self._size = self._pieces = 0
                if not compressed:
                    if self._assembler is None:
                        self._assembler = Assembler(self._stream, self._decode_text)
                    self._assembler._begin(opcode)
            self._fragments += 1
            self._size += length
            self._in_frame = True
            self._fin = final
            self._left = length
            self._key = key
            self._position = start
            frame = self._payload(out)
            if frame is not None:
                return frame

    cdef int _judge(self, uint8_t first, uint8_t second) except -1:
        """What the first two bytes of a frame can break; the order is part of the interface."""
        cdef int opcode = first & 0x0F
        # s5.2: RSV bits MUST be 0 unless an extension is negotiated that defines them.
        if first & RSV23:
            raise CodecError(PROTOCOL_ERROR, "reserved bit RSV2 or RSV3 is set")
        if first & RSV1 and not self._allow_rsv1:
            raise CodecError(PROTOCOL_ERROR, "reserved bit RSV1 is set and no extension was agreed")
        if not known_opcode(opcode):
            raise CodecError(PROTOCOL_ERROR, f"reserved opcode {opcode}")
        # RFC 7692 s6.1: RSV1 belongs to the first frame of a message, and only to data.
        if first & RSV1 and (opcode & CONTROL or opcode == CONTINUATION):
            raise CodecError(PROTOCOL_ERROR, "RSV1 is set on a control or continuation frame")
        if opcode & CONTROL:
            # s5.5: control frames have at most 125 bytes and are not fragmented.
            if not first & FIN:
                raise CodecError(PROTOCOL_ERROR, "fragmented control frame")
            if second & 0x7F > 125:
                raise CodecError(PROTOCOL_ERROR, "control frame over 125 bytes")
        elif opcode == CONTINUATION:
            if not self._opcode:
                raise CodecError(PROTOCOL_ERROR, "continuation frame without a message to continue")
        elif self._opcode:
            # s5.4: the fragments of one message MUST NOT be interleaved with those of another.
            raise CodecError(PROTOCOL_ERROR, "new message before the last fragment of the one in progress")
        if second & MASKED != self._mask_bit:
            # s5.1: a server MUST close on an unmasked frame, a client on a masked one.
            wrong = "not masked, but a client must mask" if self._mask_bit else "masked, but a server must not mask"
            raise CodecError(PROTOCOL_ERROR, f"frame is {wrong}")
        return 0

    cdef inline int _bound(self, uint64_t length, int opcode, bint compressed) except -1:
        """Refuse a data frame that takes its message over a limit, before a byte of it is kept."""
        cdef uint64_t size = length, fragments = 1, limit = self._max_size
        # Lengths and limits are below 2**63, and so is every sum that passed before: nothing here can wrap.
        if opcode == CONTINUATION:
            size += self._size
            fragments += self._fragments
        if fragments > self._max_fragments:
            raise CodecError(TOO_BIG, f"message has over {self._max_fragments} fragments")
        if compressed:
            # Incompressible data grows a little, and every fragment may end with an empty block.
            limit += (limit >> 3) + 1024 + 64 * fragments
        if size > limit:
            raise CodecError(TOO_BIG, f"message of {size} bytes or more is over the limit of {self._max_size}")
        return 0

    cdef Frame _payload(self, list out):
        """Take what there is of the current data frame's payload."""
        cdef const uint8_t *source = self._input + self._position
        cdef Py_ssize_t take = self._end - self._position
        cdef bint whole, final
        cdef uint32_t key = self._key
        cdef Frame frame = None
        if <uint64_t>take > self._left:
            take = <Py_ssize_t>self._left
        self._position += take
        self._left -= take
        if self._mask_bit:
            self._key = ws_key_turn(key, take)
        self._budget -= take + OBJECT_COST
        whole = self._left == 0
        final = whole and self._fin
        if self._compressed:
            frame = self._compressed_piece(unmasked(source, take, self._mask_bit != 0, key), whole, final)
        elif take or final:
            self._assembler._take(
                source, take, self._mask_bit != 0, key, final, self._left if self._fin and not self._stream else 0, out
            )
        if whole:
            self._in_frame = False
            self.frames += 1
        if final:
            self._opcode = 0
        return frame

    cdef Frame _compressed_piece(self, bytes piece, bint whole, bint final):
        """Compressed data leaves frame by frame, or, when streaming, piece by piece as if fragmented finer."""
        cdef bint first
        if self._stream:
            if not piece and not final:
                return None
        elif not whole:
            if self._partial is None:
                self._partial = bytearray()
            self._partial += piece
            return None
        elif self._partial is not None:
            self._partial += piece
            piece = bytes(self._partial)
            self._partial = None
        self._pieces += 1
        first = self._pieces == 1
        return new_frame(self._opcode if first else CONTINUATION, piece, final, first)
