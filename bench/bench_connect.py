"""`bench connect`: what opening and closing a connection costs a server."""

from __future__ import annotations

from dataclasses import dataclass

from bench_basics import Unit, duration
from bench_command import Benchmark, Settings
from bench_contestants import ECHO
from bench_errors import UnsupportedError
from bench_field import LoadCase, ServerField
from bench_generator import Programs
from bench_subject import Subject

DESCRIPTION = """\
Measure what a connection costs a server that is opened and closed again: TCP, the opening handshake, the closing
handshake, and the end of TCP. The figure is the CPU time of the server's process for one connection, kernel time
included. Exit status: 0 when everything was measured, 1 when a contestant failed, 2 when it could not run as asked."""

GROUPS = {
    "open": "open: opened and closed, so many at a time, a core each",
    "tls": "tls: the same with TLS, and a whole TLS handshake each time",
}

#: At least so many connections are in a sample.
LEAST = 20


@dataclass(frozen=True)
class OpenCase(LoadCase):
    """Connections that are opened and closed again, `connections` at a time."""

    def options(self, name: str) -> dict[str, int]:
        """Return what the load generator does."""
        if name.startswith("raw/"):
            raise UnsupportedError("it has no handshakes")
        return {"opens": self.connections, "least": LEAST}


CASES = {
    case.name: case
    for case in (
        *(OpenCase(f"open/{count}", "open", 0, connections=count) for count in (1, 100)),
        OpenCase("tls/10", "tls", 0, connections=10, tls=True),
    )
}
UNIT = Unit("CPU/connection", "CPU time for one connection", "cpu_ns", "ns", duration)


class ConnectBenchmark(Benchmark):
    """Contestants are servers; the load generator measures them."""

    subject = Subject("connect", CASES, GROUPS, ECHO, UNIT, (), wall=True)
    about = "opening and closing connections: CPU time for one"
    description = DESCRIPTION
    examples = "'open', 'open/1' or 'tls'"
    rounds, quick_rounds = 7, 2
    sample_ms, quick_sample_ms = 400.0, 100.0
    codecs = ("cython",)
    has_loops = True

    def check(self) -> None:
        """Compile what has to be compiled."""
        Programs()

    def start(self, settings: Settings, core: int | None) -> ServerField:
        """Start all servers."""
        return ServerField(settings, Programs(), core)


BENCHMARK = ConnectBenchmark()
