"""What all benchmarks share: cases, how figures are written, and what a figure means."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from bench_errors import UnusableError

KIB, MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class BaseCase:
    """One thing to measure.

    Attributes:
        name: what it is called, such as `parse/text/125`.
        group: the beginning of the name, which says what kind of case it is.
        size: payload bytes of one message; 0 where no message is sent.
    """

    name: str
    group: str
    size: int


AnyCase = TypeVar("AnyCase", bound=BaseCase)


@dataclass(frozen=True)
class Unit:
    """What the figures of a benchmark are.

    Attributes:
        heading: the head of their column.
        said: the same in words.
        key: what the samples are called in files.
        suffix: what the names of all other figures in files end with.
        show: write one for people.
    """

    heading: str
    said: str
    key: str
    suffix: str
    show: Callable[[float], str]


@dataclass(frozen=True)
class Panel:
    """A part of the chart: the cases that begin with one of the prefixes, over their sizes or each by itself."""

    title: str
    prefixes: tuple[str, ...]
    by_size: bool = True


def name_size(size: int) -> str:
    """Return a size in bytes as it stands in names: 125, 4K, 16M."""
    if size and size % MIB == 0:
        return f"{size // MIB}M"
    if size and size % KIB == 0:
        return f"{size // KIB}K"
    return str(size)


def select(cases: Mapping[str, AnyCase], patterns: Iterable[str]) -> list[AnyCase]:
    """Return the cases that match any of the patterns, in their own order.

    A pattern is a name, the beginning of one up to a slash, or has `*`, `?` or `[...]` as in a shell.

    Raises:
        UnusableError: a pattern matches nothing.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        found = {
            name
            for name in cases
            if fnmatch.fnmatchcase(name, pattern) or name.startswith(f"{pattern.rstrip('/')}/")
        }
        if not found:
            raise UnusableError(f"there is no case {pattern!r}; --list shows them all")
        chosen |= found
    return [case for name, case in cases.items() if name in chosen]


def duration(ns: float) -> str:
    """Return a time with three digits: 46.6 ns, 1.24 ms."""
    return _scaled(ns, ["ns", "us", "ms", "s"], 1000)


def amount(size: float) -> str:
    """Return an amount of memory with three digits: 2.31 KiB."""
    return _scaled(size, ["B", "KiB", "MiB", "GiB"], 1024)


def _scaled(value: float, units: list[str], step: int) -> str:
    for unit in units:
        if abs(value) < step * 0.9995 or unit == units[-1]:
            break
        value /= step
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def times(value: float) -> str:
    """Return a ratio with as many digits as mean something."""
    return f"{value:.2f}x" if value < 10 else f"{value:.1f}x" if value < 100 else f"{value:.0f}x"


CPU_TIME = Unit("CPU/message", "CPU time for one message", "cpu_ns", "ns", duration)
