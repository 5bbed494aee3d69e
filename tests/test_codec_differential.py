"""The compiled codec does what its twin does: results, errors, what is pending, after every single call.

`tests/differential.py` is the same by the million; a sample of that runs here.
"""

from __future__ import annotations

import array
import copy
import dataclasses
import enum
import importlib.util
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import differential
import framebuilder as fb
from codectools import KEY, UNLIMITED, fragments, masked
from test_codec_laws import any_bytes, cut, cuts, keys, nearly_utf8, options, texts
from wsframe import Opcode, _backend, _codec_py

pytestmark = pytest.mark.skipif(
    _backend.backend != "cython", reason=f"nothing to compare: the codec is {_backend.backend_description}"
)


@pytest.fixture(scope="module")
def comparer() -> differential.Comparer:
    return differential.Comparer()


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The twin once more, with classes of its own: beside the compiled codec it makes the compiled ones."""
    spec = importlib.util.spec_from_file_location("codec_reference", _codec_py.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> object:
    """What comes of a call, in a form that can be compared."""
    try:
        result = function(*arguments, **keywords)
    except Exception as exc:
        return type(exc).__name__, str(exc)
    return type(result), result


def kind(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> object:
    """The same, where the words of an error are those of CPython or of Cython."""
    found = outcome(function, *arguments, **keywords)
    return found[0] if isinstance(found, tuple) and isinstance(found[0], str) else found


# --- decoding ----------------------------------------------------------------------------------------------


def test_a_sample_of_the_million(comparer: differential.Comparer) -> None:
    assert differential.check(comparer, 1, range(5000)) == ""


@pytest.mark.parametrize("number", range(4))
def test_a_difference_is_seen_and_made_small(
    comparer: differential.Comparer, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A comparison that cannot fail is worth nothing."""
    if number == 0:
        monkeypatch.setattr(_codec_py, "_BAD_UTF8", "something else")
    elif number == 1:
        monkeypatch.setattr(_codec_py, "_RSV23", 0x20)
    elif number == 2:
        monkeypatch.setattr(_codec_py, "apply_mask", lambda data, key, offset: _codec_py._xor(data, key))
    else:
        monkeypatch.setattr(_codec_py.Decoder, "pending", property(lambda self: self._in_frame))
    report = differential.check(comparer, 1, range(5000))
    assert "--first" in report
    shown = eval(report.rpartition("\n")[2], vars(differential))
    assert sum(map(len, shown.chunks)) < 30
    assert comparer.difference(shown)


def test_floods_are_among_the_inputs(
    comparer: differential.Comparer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_codec_py, "_BUDGET", 2 * differential.BOUND)
    monkeypatch.setattr(differential, "shrink", lambda case, differs: case)
    assert differential.check(comparer, 2, range(5000)).startswith("input ")


@settings(max_examples=400)
@given(
    data=any_bytes,
    options=options,
    where=cuts,
    reuse=st.booleans(),
    rhythm=st.integers(1, 4),
    connection=st.booleans(),
)
def test_same_bytes_same_outcome(
    comparer: differential.Comparer,
    data: bytes,
    options: dict[str, Any],
    where: list[int],
    reuse: bool,
    rhythm: int,
    connection: bool,
) -> None:
    case = differential.Case(
        connection=connection,
        chunks=tuple(cut(data, where)) or (b"",),
        masked=options["expect_masked"],
        # A connection's limits are above zero and below 2**63.
        max_size=min(options["max_message_size"] or 1, (1 << 63) - 1)
        if connection
        else options["max_message_size"],
        max_fragments=options["max_fragments"],
        compression=options["allow_rsv1"],
        stream=options["stream"],
        decode_text=options["decode_text"],
        reuse=reuse,
        rhythm=rhythm,
    )
    assert comparer.difference(case) == ""


SHORT = [
    masked(fb.TEXT, "é€".encode()),
    masked(fb.TEXT, b"\xed\xa0"),
    fb.build(fb.TEXT, b"ab") + fb.build(fb.BINARY, b"c") + fb.build(fb.PING),
    fragments(fb.TEXT, "€"[:1].encode()[:2], "€".encode()[2:], mask=None),
    fragments(fb.TEXT, b"\xf0\x90", b"", b"\x8d\x88", mask=None),
    fragments(fb.BINARY, b"", b"a", b"", mask=None),
    fb.build(fb.TEXT, b"a", fin=False) + fb.build(fb.PING, b"p") + fb.build(fb.CONTINUATION, b"b"),
    fb.build(fb.TEXT, b"a", rsv=4, fin=False) + fb.build(fb.PONG) + fb.build(fb.CONTINUATION, b"bc"),
    fb.build(fb.TEXT, b"a") + b"\x83\x00",
    fb.build(fb.BINARY, b"", length_form=16),
    fb.build(fb.BINARY, b"", length_form=64, declared_length=1 << 63),
    fb.build(fb.BINARY, b"ab", length_form=64, declared_length=1 << 32),
]


@pytest.mark.parametrize("data", SHORT, ids=bytes.hex)
def test_every_cut(comparer: differential.Comparer, data: bytes) -> None:
    assert len(data) <= 13
    size = len(data)
    settings = [
        (stream, decode_text, rsv1)
        for stream in (False, True)
        for decode_text in (False, True)
        for rsv1 in (False, True)
    ]
    # Long ones are cut at each subset of their inner positions with one setting after the other.
    for number in range(1 << (size - 1)):
        edges = [0, *(at for at in range(1, size) if number >> (at - 1) & 1), size]
        chunks = tuple(data[begin:end] for begin, end in itertools.pairwise(edges))
        for stream, decode_text, rsv1 in settings if size < 9 else [settings[number % 8]]:
            for is_masked in {bool(data[1] & 0x80), number % 16 == 0}:
                case = differential.Case(
                    False, chunks, is_masked, 10, 3, rsv1, stream, decode_text, bool(number & 1)
                )
                assert comparer.difference(case) == "", case


@pytest.mark.parametrize("power", [7, 8, 15, 16, 23, 31, 32, 53, 62, 63, 64])
def test_limits_and_lengths_of_every_width(comparer: differential.Comparer, power: int) -> None:
    for length in {(1 << power) - 1, 1 << power, (1 << power) + 1, (1 << 63) - 1}:
        if length >= 1 << 64:
            continue
        for limit in length - 1, length, length + 1, UNLIMITED:
            for rsv1 in 0, 4:
                for fin in True, False:
                    data = fb.build(
                        fb.BINARY, b"abc", declared_length=length, length_form=64, fin=fin, rsv=rsv1
                    )
                    data += fb.build(fb.CONTINUATION, b"d")
                    case = differential.Case(
                        False, (data[:5], data[5:]), False, limit, limit, bool(rsv1), fin, True
                    )
                    assert comparer.difference(case) == "", case


@pytest.mark.parametrize("size", [(1 << 20) - 64, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (2 << 20) + 5])
def test_the_bound_of_work_is_the_same(comparer: differential.Comparer, size: int) -> None:
    for stream in False, True:
        for payload in bytes(size), "é".encode() * (size // 2):
            opcode = fb.TEXT if payload[0] else fb.BINARY
            data = (
                masked(opcode, payload)
                + masked(fb.PING)
                + masked(opcode, payload, fin=False)
                + masked(0, payload)
            )
            for chunks in (data,), (data[: size // 2], data[size // 2 :], masked(fb.TEXT, b"x")):
                case = differential.Case(False, chunks, True, UNLIMITED, 10, False, stream, True, True)
                assert comparer.difference(case) == ""
    flood = masked(fb.BINARY, b"") * 40_000
    assert comparer.difference(differential.Case(False, (flood,), True, 10, 10, False, False, True)) == ""
    flood = fragments(fb.BINARY, *[b""] * 20_000, b"x" * 9)
    assert (
        comparer.difference(differential.Case(False, (flood,), True, 10, UNLIMITED, False, False, True)) == ""
    )
    # Fed in two pieces that meet inside a frame, and decoded then: the third piece is the second to be decoded.
    for frame_ in masked(fb.BINARY, bytes(100)), masked(fb.BINARY, bytes(300), fin=False) + masked(0, b"x"):
        flood = frame_ * 12_000
        for at in 1, 10, 5 * len(frame_) + 3, 1000 * len(frame_) + 50, len(flood) // 2 - 20:
            pieces = b"", flood[:at], flood[at:]
            case = differential.Case(False, pieces, True, 1000, 10, False, False, True, False, 2)
            assert comparer.difference(case) == "", at


@settings(max_examples=400)
@given(
    messages=st.lists(
        st.tuples(
            st.sampled_from([fb.TEXT, fb.TEXT, fb.BINARY]),
            st.lists(nearly_utf8 | texts.map(str.encode) | st.binary(max_size=9), min_size=1, max_size=5),
            st.booleans(),
        ),
        max_size=4,
    ),
    stream=st.booleans(),
    decode_text=st.booleans(),
)
def test_assemblers(
    comparer: differential.Comparer,
    messages: list[tuple[int, list[bytes], bool]],
    stream: bool,
    decode_text: bool,
) -> None:
    one, two = (codec.Assembler(stream, decode_text) for codec in (comparer.compiled, comparer.twin))
    for opcode, pieces, complete in messages:
        one.begin(opcode)
        two.begin(opcode)
        for number, piece in enumerate(pieces):
            final = complete and number == len(pieces) - 1
            mine: list[Any] = []
            its: list[Any] = []
            results = outcome(one.add, piece, final, mine), outcome(two.add, piece, final, its)
            assert results[0] == results[1]
            assert mine == its
            if results[0] != (type(None), None):
                break


# --- odd arguments -----------------------------------------------------------------------------------------


class OddInt(int):
    pass


class OddBytes(bytes):
    pass


class OddText(str):
    __slots__ = ()

    def encode(self, *arguments: Any, **keywords: Any) -> bytes:
        return b"something else"


class Number:
    """Not an int, but an index."""

    def __index__(self) -> int:
        return 2


class Colour(enum.IntEnum):
    RED = 1


PAYLOADS: list[Any] = [
    b"",
    b"abc",
    bytes(126),
    bytearray(b"abcde"),
    memoryview(b"abcdefgh")[::2],
    memoryview(b"abcdefgh")[::-1],
    memoryview(b""),
    memoryview(bytearray(b"abcdef")).cast("H"),
    array.array("I", [1, 2, 3]),
    array.array("d"),
    OddBytes(b"odd"),
    "",
    "text",
    "é€𐍈",
    "\ud800",
    "\udcff" * 3,
    OddText("text"),
    OddText("é"),
    5,
    None,
    [1, 2],
    1.5,
    object,
]
KEYS_: list[Any] = [
    None,
    KEY,
    bytearray(KEY),
    memoryview(KEY),
    memoryview(KEY * 2)[::2],
    array.array("I", [7]),
    OddBytes(KEY),
    b"",
    b"123",
    b"12345",
    "1234",
    1234,
    [1, 2, 3, 4],
    (1, 2, 3, 4),
    0,
    False,
]
NUMBERS: list[Any] = [
    *range(-2, 18),
    125,
    126,
    127,
    255,
    256,
    65535,
    65536,
    *(
        sign * (1 << power) + more
        for power in (31, 32, 63, 64, 100)
        for sign in (1, -1)
        for more in (-1, 0, 1)
    ),
    True,
    False,
    OddInt(1),
    OddInt(1 << 64),
    Number(),
    Opcode.TEXT,
    Opcode.PING,
    Colour.RED,
    1.0,
    float("nan"),
    "1",
    b"1",
    None,
    [],
    1j,
]
FLAGS: list[Any] = [True, False, 0, 1, 2, "", "x", None, [], 1.5]


def both(comparer: differential.Comparer, name: str, *arguments: Any, **keywords: Any) -> None:
    mine = outcome(getattr(comparer.compiled, name), *arguments, **keywords)
    assert mine == outcome(getattr(comparer.twin, name), *arguments, **keywords), (name, arguments, keywords)


def test_encoding_with_odd_arguments(comparer: differential.Comparer) -> None:
    for payload, key in itertools.product(PAYLOADS, KEYS_):
        both(comparer, "encode_frame", fb.BINARY, payload, key=key)
        both(comparer, "encode_frame", fb.PING, payload, True, True, key)
        both(comparer, "encode_frame", 3, payload, key=key)
        both(comparer, "apply_mask", payload, key)
        both(comparer, "apply_mask", payload, key, -1)
    for number, key in itertools.product(NUMBERS, KEYS_):
        both(comparer, "encode_header", number, 1, key=key)
        both(comparer, "encode_header", fb.TEXT, number, key=key)
        both(comparer, "encode_header", fb.CLOSE, number, False, True, key)
        both(comparer, "encode_frame", number, b"abc", key=key)
        both(comparer, "encode_frame", number, None, key=key)
        both(comparer, "apply_mask", b"abcdef", key, number)
        both(comparer, "apply_mask", None, key, number)
    for first, second in itertools.product(NUMBERS, NUMBERS):
        both(comparer, "encode_header", first, second)
    for fin, rsv1, opcode in itertools.product(FLAGS, FLAGS, [0, 1, 2, 8, 9, 10]):
        both(comparer, "encode_header", opcode, 3, fin, rsv1)
        both(comparer, "encode_frame", opcode, b"abc", fin=fin, rsv1=rsv1, key=KEY)


def test_reading_headers_with_odd_arguments(comparer: differential.Comparer) -> None:
    headers: list[Any] = [
        *PAYLOADS,
        fb.build(1, b"", declared_length=70_000),
        b"\x81\x7e\x00\x01",
        b"\x81\x7f" + b"\xff" * 8,
    ]
    headers += [bytearray(headers[-3]), memoryview(bytes(4) + headers[-3]).cast("B")[4:]]
    for data, position in itertools.product(headers, NUMBERS):
        both(comparer, "decode_header", data, position)
    for data in headers:
        both(comparer, "decode_header", data)
        both(comparer, "decode_header", data=data, position=0)


@pytest.mark.parametrize("name", ["encode_frame", "encode_header", "apply_mask", "decode_header"])
def test_wrong_numbers_of_arguments(comparer: differential.Comparer, name: str) -> None:
    for count in 0, 6:
        mine, its = (kind(getattr(codec, name), *[1] * count) for codec in (comparer.compiled, comparer.twin))
        assert mine == its == "TypeError"
    mine, its = (kind(getattr(codec, name), 1, 1, nonsense=1) for codec in (comparer.compiled, comparer.twin))
    assert mine == its == "TypeError"


@settings(max_examples=300)
@given(
    opcode=st.integers(-1, 16),
    payload=st.binary(max_size=300)
    | st.text(max_size=200)
    | st.text(st.characters(categories=["Cs", "Ll"]), max_size=5),
    fin=st.booleans(),
    rsv1=st.booleans(),
    key=st.none() | keys,
    offset=st.integers(0, 9),
)
def test_encoding(
    comparer: differential.Comparer,
    opcode: int,
    payload: bytes | str,
    fin: bool,
    rsv1: bool,
    key: bytes | None,
    offset: int,
) -> None:
    both(comparer, "encode_frame", opcode, payload, fin, rsv1, key)
    both(comparer, "encode_header", opcode, len(payload), fin, rsv1, key)
    both(comparer, "apply_mask", payload, key or KEY, offset)


def test_making_and_feeding_decoders_with_odd_arguments(comparer: differential.Comparer) -> None:
    for limit in NUMBERS:
        for arguments in ((True, limit, 1), (True, 1, limit), (True, limit, limit)):
            made = [outcome(codec.Decoder, *arguments) for codec in (comparer.compiled, comparer.twin)]
            if isinstance(made[0], tuple) and isinstance(made[0][0], str):
                assert made[0] == made[1], arguments
            else:
                assert isinstance(made[1], tuple)
                assert not isinstance(made[1][0], str), (arguments, made)
    for data in PAYLOADS:
        for before in b"", b"\x81":
            pair = [codec.Decoder(False, 100, 10) for codec in (comparer.compiled, comparer.twin)]
            results = []
            for decoder in pair:
                decoder.feed(before)
                results.append((outcome(decoder.feed, data), decoder.pending))
            assert results[0] == results[1]
    wrong: list[Any] = [(), None, {}, "list", type("MyList", (list,), {})()]
    for out in wrong:
        pair = [codec.Decoder(False, 100, 10) for codec in (comparer.compiled, comparer.twin)]
        for decoder in pair:
            decoder.feed(b"\x81\x01a")
            with pytest.raises(TypeError):
                decoder.decode(out)
            # Nothing was lost by that.
            found: list[Any] = []
            assert decoder.decode(found) is None
            assert [message.data for message in found] == ["a"]


@pytest.mark.parametrize(
    "answer", [b"", bytes(1023), bytearray(1024), memoryview(bytes(1024)), 1024, None, "x" * 1024, [0] * 1024]
)
def test_masking_keys_with_odd_entropy(comparer: differential.Comparer, answer: Any) -> None:
    def source(size: int) -> Any:
        return answer

    mine, its = (outcome(codec.MaskingKeys(source).next) for codec in (comparer.compiled, comparer.twin))
    assert mine == its


@pytest.mark.parametrize("name", ["Decoder", "Assembler", "MaskingKeys"])
def test_nothing_comes_into_being_unfinished(comparer: differential.Comparer, name: str) -> None:
    cls = getattr(comparer.compiled, name)
    with pytest.raises(TypeError):
        cls.__new__(cls)
    with pytest.raises(TypeError):
        cls()


# --- values ------------------------------------------------------------------------------------------------

#: Of each class: arguments that are right and wrong.
VALUES: dict[str, list[tuple[Any, ...]]] = {
    "Message": [
        ("x", 1),
        (b"x", 2),
        ("", 1),
        (OddText("odd"), 1),
        (OddBytes(b"odd"), 2),
        ("x", 0),
        *(("x", number) for number in NUMBERS),
        *((data, 2) for data in (None, 5, bytearray(b"x"), memoryview(b"x"), ["x"])),
        (None, None),
        (),
        ("x",),
        ("x", 1, 2),
    ],
    "MessageChunk": [
        ("x", 1, True, False),
        (b"x", 2, False, True),
        *(("x", 1, first, final) for first in FLAGS for final in FLAGS),
        *(("x", number, True, True) for number in NUMBERS),
        (None, 1, True, True),
        ("x", 1, True),
        (),
    ],
    "Frame": [
        (9, b"x"),
        (1, b"x", False, True),
        *((1, b"x", fin, rsv1) for fin in FLAGS for rsv1 in FLAGS),
        *((number, b"x") for number in NUMBERS),
        *((1, payload) for payload in PAYLOADS),
        (),
        (1,),
        (1, b"", True, False, True),
    ],
}


def pairs(comparer: differential.Comparer, reference: ModuleType) -> Iterator[tuple[Any, Any]]:
    """Values of both codecs that should be alike."""
    for name, argument_lists in VALUES.items():
        mine, its = getattr(comparer.compiled, name), getattr(reference, name)
        assert mine is not its
        for arguments in argument_lists:
            if not isinstance(kind(mine, *arguments), str):
                yield mine(*arguments), its(*arguments)


def test_values_are_made_from_the_same_arguments(
    comparer: differential.Comparer, reference: ModuleType
) -> None:
    for name, argument_lists in VALUES.items():
        mine, its = getattr(comparer.compiled, name), getattr(reference, name)
        assert mine.__match_args__ == its.__match_args__
        fields = mine.__match_args__
        for arguments in argument_lists:
            one, two = kind(mine, *arguments), kind(its, *arguments)
            if isinstance(one, str) or isinstance(two, str):
                assert one == two, (name, arguments)
                if len(arguments) == len(fields):
                    assert outcome(mine, *arguments) == outcome(its, *arguments)
                continue
            values = mine(*arguments), its(*arguments)
            described = [
                [(type(getattr(value, field)), getattr(value, field)) for field in fields] for value in values
            ]
            assert described[0] == described[1], (name, arguments)
            if len(arguments) == len(fields):
                keywords = dict(zip(fields, arguments, strict=True))
                assert mine(**keywords) == values[0]
                assert its(**keywords) == values[1]


def test_values_show_compare_and_hash_the_same(
    comparer: differential.Comparer, reference: ModuleType
) -> None:
    values = list(pairs(comparer, reference))
    assert len(values) > 100
    for mine, its in values:
        assert repr(mine) == repr(its)
        assert str(mine) == str(its)
        assert hash(mine) == hash(its)
        # Those of different codecs never meet in one process, and know nothing of each other.
        assert mine != its
        for other in None, 1, "x", (mine,), NotImplemented, type(mine):
            assert (mine == other) is (its == other) is False
            assert mine.__eq__(other) is its.__eq__(other) is NotImplemented
        for operator in "__lt__", "__le__", "__gt__", "__ge__":
            assert getattr(mine, operator)(mine) is getattr(its, operator)(its) is NotImplemented
        assert not hasattr(mine, "__dict__")
        assert not hasattr(its, "__dict__")
    for (one, other_one), (two, other_two) in itertools.islice(itertools.product(values, values), 40_000):
        assert (one == two) is (other_one == other_two)
        assert (one != two) is (other_one != other_two)


def test_values_are_read_only(comparer: differential.Comparer, reference: ModuleType) -> None:
    for mine, its in pairs(comparer, reference):
        before = repr(mine)
        for field in (*mine.__match_args__, "is_text", "something", "__match_args__", "__class__"):
            assert kind(setattr, mine, field, 1) == kind(setattr, its, field, 1) or field == "__class__"
            assert isinstance(kind(setattr, mine, field, 1), str)
            assert kind(delattr, mine, field) == kind(delattr, its, field) or field == "__class__"
        again = {
            "Message": ("y", 2),
            "MessageChunk": (b"y", 2, True, True),
            "Frame": (2, b"y"),
        }[type(mine).__name__]
        assert outcome(mine.__init__, *again) == outcome(its.__init__, *again)
        assert isinstance(kind(mine.__init__, *again), str)
        assert repr(mine) == repr(its) == before


def test_values_match(comparer: differential.Comparer, reference: ModuleType) -> None:
    def taken_apart(codec: Any, value: Any) -> object:
        match value:
            case codec.Message(data, 1):
                return "text", data
            case codec.Message(data, opcode):
                return data, opcode
            case codec.MessageChunk(data, opcode, True, final):
                return "first", data, opcode, final
            case codec.MessageChunk(data, opcode, first, final):
                return data, opcode, first, final
            case codec.Frame(opcode, payload, fin, rsv1):
                return opcode, payload, fin, rsv1
        raise AssertionError(value)

    for mine, its in pairs(comparer, reference):
        assert taken_apart(comparer.compiled, mine) == taken_apart(reference, its)


def test_values_are_final(comparer: differential.Comparer, reference: ModuleType) -> None:
    for name in VALUES:
        for codec in comparer.compiled, reference:
            with pytest.raises(TypeError):
                type("Mine", (getattr(codec, name),), {})


def test_errors_are_the_same(comparer: differential.Comparer, reference: ModuleType) -> None:
    error: Any
    for codec in comparer.compiled, reference:
        error = codec.CodecError(1002, "why")
        assert (error.code, error.reason, str(error), error.args) == (1002, "why", "why", (1002, "why"))
        assert isinstance(error, Exception)
        for arguments in (), (1002,), (1002, "why", 1):
            with pytest.raises(TypeError):
                codec.CodecError(*arguments)
        copied: Any = copy.copy(error)
        assert (type(copied), copied.code, copied.reason) == (type(error), 1002, "why")
    assert repr(comparer.compiled.CodecError(1, "x")) == repr(reference.CodecError(1, "x"))


#: In a process of its own: load what the first argument holds, say what it is, and write the same back.
TRAVEL = """
import copy, pickle, sys
from wsframe import _backend
assert _backend.backend == "python"
values = pickle.loads(sys.stdin.buffer.read())
assert all(type(value).__module__.endswith("_codec_py") for value in values), values
assert copy.copy(values[0]) == values[0] and copy.deepcopy(values)[:-1] == values[:-1]
sys.stdout.buffer.write(pickle.dumps((repr(values), values)))
"""


def test_values_travel_between_the_codecs(comparer: differential.Comparer) -> None:
    codec = comparer.compiled
    values: list[Any] = [
        codec.Message("é", 1),
        codec.Message(b"x", 2),
        codec.MessageChunk("x", 1, True, False),
        codec.Frame(9, b"ping"),
        codec.CodecError(1009, "too big"),
    ]
    assert copy.copy(values[0]) == values[0]
    assert copy.deepcopy(values)[:-1] == values[:-1]
    run = subprocess.run(
        [sys.executable, "-c", TRAVEL],
        input=pickle.dumps(values),
        env={**os.environ, "WSFRAME_PURE_PYTHON": "1"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    shown, returned = pickle.loads(run.stdout)
    assert shown == repr(values)
    assert returned[:-1] == values[:-1]
    assert [type(value) for value in returned] == [type(value) for value in values]
    assert (returned[-1].code, returned[-1].reason) == (1009, "too big")


def test_the_case_of_a_report_can_be_repeated(comparer: differential.Comparer) -> None:
    case = differential.Generator(5).case(11)
    assert differential.Generator(5).case(11) == case
    assert eval(repr(case), vars(differential)) == case
    assert dataclasses.replace(case, connection=not case.connection) != case
