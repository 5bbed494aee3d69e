"""For tests with many WebSockets: an application that knows them all, and as many descriptors as that takes."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from aiohelpers import until
from wsframe import Disconnected
from wsframe.aio import Application, Server, WebSocket, serve

__all__ = ["Crowd", "crowd", "many_descriptors"]


class Crowd(Application):
    """All its WebSockets, and how those ended that have."""

    def __init__(self) -> None:
        self.members: list[WebSocket] = []
        self.endings: list[Disconnected] = []

    def on_open(self, ws: WebSocket) -> None:
        self.members.append(ws)

    def on_close(self, ws: WebSocket, ending: Disconnected) -> None:
        self.members.remove(ws)
        self.endings.append(ending)

    async def one(self) -> WebSocket:
        """Its only member, as soon as that is there."""
        await until(lambda: self.members)
        (ws,) = self.members
        return ws


@contextlib.asynccontextmanager
async def crowd(**options: Any) -> AsyncIterator[tuple[Server, Crowd]]:
    """A server with such an application."""
    application = Crowd()
    options.setdefault("ping_interval", None)
    async with serve(application, "127.0.0.1", 0, **options) as server:
        yield server, application


@contextlib.contextmanager
def many_descriptors(count: int) -> Iterator[None]:
    """Be allowed so many open files, or skip the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        pytest.skip(f"a process may only open {hard} files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
