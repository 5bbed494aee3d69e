"""Who is measured: names, and what each needs to be here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench_errors import UnusableError


@dataclass(frozen=True)
class Entry:
    """A contestant by name.

    Attributes:
        name: what it is called in commands, tables and files.
        about: what it is.
        codec: it is wsframe, with this codec.
        install: what to install to have it; None where it needs nothing.
    """

    name: str
    about: str
    codec: str | None = None
    install: str | None = None


#: Every other figure is compared with the first of ours that runs.
ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("wsframe-cython", "this checkout, compiled codec", codec="cython"),
        Entry("wsframe-python", "this checkout, pure-Python codec", codec="python"),
        Entry("memcpy", "the limit: copy the payload into a new object, nothing else"),
        Entry("websockets", "with its C extension", install="websockets"),
        Entry("websockets-python", "its C extension blocked", install="websockets"),
        Entry("wsproto", "pure Python", install="wsproto"),
        Entry("aiohttp", "its compiled reader, writer and masking", install="aiohttp"),
        Entry("picows", "its compiled parser and framing", install="picows"),
    )
}

LIMIT = "memcpy"
OURS = tuple(entry.name for entry in ENTRIES.values() if entry.codec is not None)
PEERS = tuple(name for name in ENTRIES if name not in OURS and name != LIMIT)


def codec_of(name: str) -> str | None:
    """Return which of our codecs a contestant runs with."""
    return ENTRIES[name].codec


def choose(codecs: Iterable[str], against: Iterable[str] | None) -> list[str]:
    """Return the contestants for those codecs and peers (all, where there is no choice), in their order.

    Raises:
        UnusableError: there is no peer of that name.
    """
    peers = set(PEERS if against is None else against)
    if strange := peers - set(PEERS):
        raise UnusableError(f"--against {min(strange)}: there is no such peer, but: {', '.join(PEERS)}")
    codecs = set(codecs)
    return [
        name for name, entry in ENTRIES.items() if entry.codec in codecs or name in peers or name == LIMIT
    ]
