"""Who is measured: names, and what each needs to be here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bench_errors import UnusableError


@dataclass(frozen=True)
class Entry:
    """A contestant by name.

    Attributes:
        name: what it is called in commands, tables and files.
        about: what it is.
        codec: it is wsframe, with this codec.
        install: what to install to have it; None where it needs nothing.
        loop: the event loop that it runs on; None where it has none, or one of its own.
        host: somebody else's server in which it runs; who of ours does is measured beside whoever else does.
        limit: nobody can do less; it is there to be compared with.
    """

    name: str
    about: str
    codec: str | None = None
    install: str | None = None
    loop: str | None = None
    host: str | None = None
    limit: bool = False


class Roster:
    """All contestants of a benchmark, in their order.

    Attributes:
        entries: by name.
        ours: wsframe's names; every other figure is compared with the first that runs.
        peers: the names of those that one can choose from.
        limits: the names of the limits; the first is compared with.
    """

    def __init__(self, *entries: Entry) -> None:
        self.entries = {entry.name: entry for entry in entries}
        self.ours = tuple(entry.name for entry in entries if entry.codec is not None)
        self.limits = tuple(entry.name for entry in entries if entry.limit)
        self.peers = tuple(name for name in self.entries if name not in self.ours + self.limits)

    def codec_of(self, name: str) -> str | None:
        """Return which of our codecs a contestant runs with."""
        return self.entries[name].codec

    def matching(self, name: str) -> list[str]:
        """Return the peers of that name: it may leave out what stands behind a slash.

        Raises:
            UnusableError: there is none.
        """
        found = [peer for peer in self.peers if peer == name or peer.startswith(f"{name}/")]
        if not found:
            families = dict.fromkeys(peer.partition("/")[0] for peer in self.peers)
            raise UnusableError(f"--against {name}: there is no such peer, but: {', '.join(families)}")
        return found

    def choose(
        self, codecs: Iterable[str], against: Iterable[str] | None, loops: Iterable[str] | None = None
    ) -> list[str]:
        """Return the contestants for those codecs, peers and loops (all, where there is no choice), in their order.

        Raises:
            UnusableError: there is no peer of that name.
        """
        names = self.peers if against is None else [peer for name in against for peer in self.matching(name)]
        wanted = {*self.limits, *names}
        codecs = set(codecs)
        hosts: set[str | None] = {None, *(self.entries[name].host for name in names)}
        wanted |= {
            name
            for name in self.ours
            if self.entries[name].codec in codecs and self.entries[name].host in hosts
        }
        if loops is not None:
            allowed: set[str | None] = {None, *loops}
            wanted = {name for name in wanted if self.entries[name].loop in allowed}
        return [name for name in self.entries if name in wanted]


CODEC = Roster(
    Entry("wsframe-cython", "this checkout, compiled codec", codec="cython"),
    Entry("wsframe-python", "this checkout, pure-Python codec", codec="python"),
    Entry("memcpy", "the limit: copy the payload into a new object, nothing else", limit=True),
    Entry("websockets", "with its C extension", install="websockets"),
    Entry("websockets-python", "its C extension blocked", install="websockets"),
    Entry("wsproto", "pure Python", install="wsproto"),
    Entry("aiohttp", "its compiled reader, writer and masking", install="aiohttp"),
    Entry("picows", "its compiled parser and framing", install="picows"),
)


def _on_loops(name: str, about: str, **more: Any) -> list[Entry]:
    return [Entry(f"{name}/{loop}", about, loop=loop, **more) for loop in ("uvloop", "asyncio")]


ECHO = Roster(
    *_on_loops("wsframe.callbacks", "wsframe.aio, an Application", codec="cython"),
    *_on_loops("wsframe", "wsframe.aio, coroutines", codec="cython"),
    Entry("wsframe/sync", "wsframe.sync, a thread for each connection", codec="cython"),
    *_on_loops("wsframe-python", "the same with the pure-Python codec", codec="python"),
    Entry("wsframe-python/sync", "the same with the pure-Python codec", codec="python"),
    *_on_loops(
        "uvicorn.wsframe",
        "uvicorn with wsframe's protocol, a bare ASGI application",
        codec="cython",
        install="uvicorn",
        host="uvicorn",
    ),
    *_on_loops(
        "uvicorn.wsframe-python",
        "the same with the pure-Python codec",
        codec="python",
        install="uvicorn",
        host="uvicorn",
    ),
    Entry("limit", "a C epoll echo server that answers all that one read brings with one write", limit=True),
    *_on_loops("raw", "TCP echo with a BufferedProtocol; no frames", limit=True),
    *_on_loops("picows", "its core: callbacks", install="picows"),
    *_on_loops("picows.websockets", "picows' coroutines", install="picows"),
    *_on_loops("aiohttp", "web.WebSocketResponse", install="aiohttp"),
    *_on_loops("websockets", "websockets.asyncio.server", install="websockets"),
    *_on_loops("tornado", "WebSocketHandler", install="tornado"),
    *_on_loops(
        "uvicorn.websockets-sansio",
        "uvicorn with its protocol on websockets, likewise",
        install="uvicorn",
        host="uvicorn",
    ),
    *_on_loops(
        "uvicorn.wsproto", "uvicorn with its protocol on wsproto, likewise", install="uvicorn", host="uvicorn"
    ),
    Entry("ws/node", "Node's package ws"),
)

CLIENT = Roster(
    *_on_loops("wsframe", "wsframe.aio, coroutines", codec="cython"),
    Entry("wsframe/sync", "wsframe.sync", codec="cython"),
    *_on_loops("wsframe-python", "the same with the pure-Python codec", codec="python"),
    Entry("wsframe-python/sync", "the same with the pure-Python codec", codec="python"),
    Entry(
        "socket", "the limit of blocking clients: a bare socket, bytes are counted and not parsed", limit=True
    ),
    *_on_loops("picows", "its core: callbacks", install="picows"),
    *_on_loops("picows.websockets", "picows' coroutines", install="picows"),
    *_on_loops("aiohttp", "ClientSession.ws_connect", install="aiohttp"),
    *_on_loops("websockets", "websockets.asyncio.client", install="websockets"),
    Entry("websockets/sync", "websockets.sync.client, which has a thread that reads", install="websockets"),
    Entry("websocket-client", "blocking", install="websocket-client"),
)
