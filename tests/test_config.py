"""Limits and Timeouts: the documented defaults, and that nonsense is refused."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from wsframe import Connection, Limits, Role, Timeouts


def test_default_limits() -> None:
    limits = Limits()
    assert dataclasses.asdict(limits) == {
        "max_message_size": 1 << 20,
        "max_fragments": 131072,
        "max_pong_bytes": 65536,
        "max_header_line": 16384,
        "max_header_bytes": 65536,
        "max_header_count": 128,
        "max_body_size": 65536,
        "max_early_bytes": 65536,
        "write_high_water": 65536,
        "write_low_water": 16384,
        "write_hard_cap": 4 << 20,
        "receive_queue_messages": 16,
        "receive_queue_bytes": 262144,
    }


def test_a_client_takes_larger_messages() -> None:
    assert Limits.for_role(Role.SERVER) == Limits()
    assert Limits.for_role(Role.CLIENT) == Limits(max_message_size=16 << 20)
    assert Connection(Role.CLIENT).limits == Limits.for_role(Role.CLIENT)
    assert Connection(Role.SERVER).limits == Limits.for_role(Role.SERVER)
    assert Connection(Role.CLIENT, limits=Limits()).limits == Limits()


def test_default_timeouts() -> None:
    assert dataclasses.asdict(Timeouts()) == {
        "open": 10,
        "close": 10,
        "ping_interval": 20,
        "ping_timeout": 20,
        "heartbeat": None,
        "write": 60,
        "idle": None,
        "linger": 2,
    }


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_limits_are_positive_ints(name: str) -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"{name} must be positive"):
            Limits(**{name: wrong})
    for wrong_type in (1.5, "1", None, True):
        with pytest.raises(TypeError, match=f"{name} must be an int"):
            Limits(**{name: wrong_type})  # type: ignore[arg-type]


def test_limits_fit_a_frame_length() -> None:
    assert Limits(max_message_size=(1 << 63) - 1).max_message_size == (1 << 63) - 1
    with pytest.raises(ValueError, match="2\\*\\*63"):
        Limits(max_message_size=1 << 63)


@pytest.mark.parametrize(
    "marks",
    [
        {"write_low_water": 65537},
        {"write_high_water": (4 << 20) + 1},
        {"write_high_water": 100, "write_low_water": 101},
    ],
)
def test_water_marks_are_in_order(marks: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        Limits(**marks)
    assert Limits(write_low_water=5, write_high_water=5, write_hard_cap=5).write_low_water == 5


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Timeouts)])
def test_timeouts_are_seconds_up_to_a_day(name: str) -> None:
    for right in (1, 0.001, 86400, 86400.0):
        assert getattr(Timeouts(**{name: right}), name) == right
    for wrong in (0, -1, 86400.1, math.inf, math.nan, -math.inf):
        with pytest.raises(ValueError, match=f"{name} must be over 0"):
            Timeouts(**{name: wrong})
    for wrong_type in ("1", True, b"", object()):
        with pytest.raises(TypeError, match=f"{name} must be a number"):
            Timeouts(**{name: wrong_type})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["open", "close", "linger"])
def test_what_cannot_be_turned_off(name: str) -> None:
    with pytest.raises(ValueError, match=f"the {name} timeout cannot be turned off"):
        Timeouts(**{name: None})  # type: ignore[arg-type]


def test_what_can_be_turned_off() -> None:
    timeouts = Timeouts(ping_interval=None, ping_timeout=None, idle=None)
    assert Connection(Role.SERVER, timeouts=timeouts).next_timeout(0) is None


@pytest.mark.parametrize("value", [Limits(), Timeouts()])
def test_values_are_values(value: Any) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, 1)
    assert value == type(value)()
    assert hash(value) == hash(type(value)())
    assert dataclasses.replace(value) == value
    with pytest.raises(TypeError):
        type(value)(1)
