"""What the tests of `connect` have in common on both adapters: arguments, servers, and which ending is retried."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from adapterhelpers import client_context
from wsframe import Request, Response

__all__ = ["ARGUMENTS", "CODES_AGAIN", "CODES_STOP", "STATUSES_STOP", "Redirecting", "full_listener"]

#: Arguments that make no sense -> what is raised at once, and what it says.
ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"family": socket.AF_UNIX}, ValueError, "family"),
    ({"family": "ipv4"}, ValueError, "family"),
    ({"local_addr": "127.0.0.1"}, TypeError, "local_addr"),
    ({"local_addr": ("", 0)}, TypeError, "local_addr"),
    ({"local_addr": ("127.0.0.1", "0")}, TypeError, "local_addr"),
    ({"unix_path": 5}, TypeError, "unix_path"),
    ({"unix_path": "x", "sock": object()}, ValueError, "sock and unix_path exclude"),
    ({"unix_path": "x", "local_addr": ("127.0.0.1", 0)}, ValueError, "unix_path and local_addr"),
    ({"sock": object(), "family": socket.AF_INET}, ValueError, "sock and family"),
    ({"sock": object(), "local_addr": ("127.0.0.1", 0)}, ValueError, "sock and local_addr"),
    ({"sock": object(), "max_redirects": 1}, ValueError, "max_redirects"),
    ({"unix_path": "x", "max_redirects": 1}, ValueError, "max_redirects"),
    ({"max_redirects": -1}, ValueError, "max_redirects"),
    ({"ssl": False}, TypeError, "SSLContext"),
    ({"ssl": True}, TypeError, "SSLContext"),
    ({"ssl": ssl.SSLContext}, TypeError, "SSLContext"),
    ({"ssl": client_context()}, ValueError, "wss://"),
]

#: The Close codes of a server after which a client connects again, or does not; and the same of HTTP.
CODES_AGAIN: list[int | None] = [1001, None, 1011, 1012, 1013, 1014, 4000]
CODES_STOP = [1002, 1003, 1007, 1008, 1009, 3000, 3003]
STATUSES_STOP = [200, 301, 401, 403, 404]


class Redirecting:
    """An echo server that redirects some paths. `requests` are those that it got."""

    def __init__(self, targets: dict[str, str], status: int = 302) -> None:
        self.targets = targets
        self.requests: list[Request] = []
        self._status = status

    def __call__(self, request: Request) -> Response | None:
        self.requests.append(request)
        target = self.targets.get(request.target)
        return (
            None if target is None else Response(self._status, headers=[("Location", target)], body=b"moved")
        )

    @property
    def paths(self) -> list[str]:
        return [request.target for request in self.requests]


@contextlib.contextmanager
def full_listener() -> Iterator[int]:
    """A port that answers nobody: its queue is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
