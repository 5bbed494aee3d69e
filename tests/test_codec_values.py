"""What the codec gives out: values that nobody can change, that compare, match, print and travel."""

from __future__ import annotations

import copy
import pickle
import weakref
from types import ModuleType
from typing import Any

import pytest

import framebuilder as fb
from wsframe import _backend

#: Class, the names of its fields in their order, a value for each, and for each another one.
VALUES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("Message", {"data": "text", "opcode": 1}, {"data": "other", "opcode": 2}),
    ("Message", {"data": b"bytes", "opcode": 2}, {"data": b"other", "opcode": 1}),
    (
        "MessageChunk",
        {"data": "text", "opcode": 1, "first": True, "final": False},
        {"data": "", "opcode": 2, "first": False, "final": True},
    ),
    (
        "Frame",
        {"opcode": 9, "payload": b"ping", "fin": True, "rsv1": False},
        {"opcode": 10, "payload": b"pong", "fin": False, "rsv1": True},
    ),
]

each = pytest.mark.parametrize(("name", "fields", "others"), VALUES, ids=[name for name, _, _ in VALUES])


@each
def test_fields(codec: ModuleType, name: str, fields: dict[str, Any], others: dict[str, Any]) -> None:
    cls = getattr(codec, name)
    value = cls(*fields.values())
    assert {key: getattr(value, key) for key in fields} == fields
    assert value == cls(**fields)
    assert cls.__match_args__ == tuple(fields)
    assert repr(value) == f"{name}({', '.join(f'{key}={field!r}' for key, field in fields.items())})"
    with pytest.raises(TypeError):
        cls(*fields.values(), "one too many")
    with pytest.raises(TypeError):
        cls()
    assert cls.__doc__


@each
def test_read_only(codec: ModuleType, name: str, fields: dict[str, Any], others: dict[str, Any]) -> None:
    value = getattr(codec, name)(**fields)
    for key, other in others.items():
        with pytest.raises(AttributeError):
            setattr(value, key, other)
        with pytest.raises(AttributeError):
            delattr(value, key)
    with pytest.raises(AttributeError):
        value.something = 1
    assert value == getattr(codec, name)(**fields)


@each
def test_small(codec: ModuleType, name: str, fields: dict[str, Any], others: dict[str, Any]) -> None:
    value = getattr(codec, name)(**fields)
    assert not hasattr(value, "__dict__")
    with pytest.raises(TypeError):
        weakref.ref(value)


@each
def test_equal_and_hash(codec: ModuleType, name: str, fields: dict[str, Any], others: dict[str, Any]) -> None:
    cls = getattr(codec, name)
    value, same = cls(**fields), cls(**fields)
    assert value == same
    assert not value != same  # noqa: SIM202
    assert hash(value) == hash(same)
    assert len({value, same}) == 1
    for key, other in others.items():
        assert value != cls(**(fields | {key: other}))
    assert value != tuple(fields.values())
    assert value != 1
    assert value is not None
    with pytest.raises(TypeError):
        value < same  # noqa: B015


def test_classes_are_never_equal(codec: ModuleType) -> None:
    values = [
        codec.Message(b"x", 2),
        codec.Message("x", 2),
        codec.MessageChunk(b"x", 2, True, True),
        codec.Frame(2, b"x"),
    ]
    assert len(set(values)) == 4
    assert all((a == b) is (a is b) for a in values for b in values)


@each
def test_final(codec: ModuleType, name: str, fields: dict[str, Any], others: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        type("Mine", (getattr(codec, name),), {})


def test_match(codec: ModuleType) -> None:
    def describe(value: object) -> tuple[object, ...]:
        match value:
            case codec.Message(data, 1):
                return "text", data
            case codec.Message(data):
                return "bytes", data
            case codec.MessageChunk(data, opcode, first, final):
                return data, opcode, first, final
            case codec.Frame(9, payload):
                return "ping", payload
            case codec.Frame(opcode, payload, fin, rsv1):
                return opcode, payload, fin, rsv1
        return ()

    assert describe(codec.Message("x", 1)) == ("text", "x")
    assert describe(codec.Message(b"x", 2)) == ("bytes", b"x")
    assert describe(codec.MessageChunk(b"x", 2, True, False)) == (b"x", 2, True, False)
    assert describe(codec.Frame(9, b"x")) == ("ping", b"x")
    assert describe(codec.Frame(1, b"x", False, True)) == (1, b"x", False, True)


def test_is_text(codec: ModuleType) -> None:
    for data in "x", b"x":
        assert codec.Message(data, 1).is_text is True
        assert codec.Message(data, 2).is_text is False
        assert codec.MessageChunk(data, 1, True, True).is_text is True
        assert codec.MessageChunk(data, 2, True, True).is_text is False
    with pytest.raises(AttributeError):
        codec.Message("x", 1).is_text = False


def test_frame_defaults(codec: ModuleType) -> None:
    assert codec.Frame(2, b"x") == codec.Frame(2, b"x", True, False)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@each
def test_pickle_works_across_codecs(
    name: str, fields: dict[str, Any], others: dict[str, Any], protocol: int
) -> None:
    value = getattr(_backend, name)(**fields)
    pickled = pickle.dumps(value, protocol)
    assert pickle.loads(pickled) == value
    assert type(pickle.loads(pickled)) is type(value)
    # What was written with one codec loads with the other: neither is named.
    assert b"._codec" not in pickled
    assert b"_backend" in pickled
    nested = pickle.loads(pickle.dumps([value, {"key": value}], protocol))
    assert nested == [value, {"key": value}]


@each
def test_copy(name: str, fields: dict[str, Any], others: dict[str, Any]) -> None:
    value = getattr(_backend, name)(**fields)
    assert copy.copy(value) == value
    assert copy.deepcopy([value]) == [value]


def test_codec_error_pickles() -> None:
    error = pickle.loads(pickle.dumps(_backend.CodecError(1009, "too big")))
    assert (type(error), error.code, error.reason) == (_backend.CodecError, 1009, "too big")


def test_what_the_decoder_makes_is_like_what_anyone_makes(codec: ModuleType) -> None:
    decoder = codec.Decoder(False, 100, 10)
    decoder.feed(fb.build(fb.TEXT, b"x") + fb.build(fb.PING, b"y"))
    out: list[Any] = []
    frame = decoder.decode(out)
    assert out == [codec.Message("x", 1)]
    assert hash(out[0]) == hash(codec.Message("x", 1))
    assert frame == codec.Frame(9, b"y")
    assert [type(field) for field in (frame.opcode, frame.payload, frame.fin, frame.rsv1)] == [
        int,
        bytes,
        bool,
        bool,
    ]
    assert type(out[0].opcode) is int
