"""`bench echo`: what an echo costs a server, with everything that an application has around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench_basics import CPU_TIME, KIB, MIB, name_size
from bench_command import Benchmark, Settings
from bench_contestants import ECHO
from bench_field import LoadCase, ServerField
from bench_generator import Programs
from bench_goals import ECHO as GOALS
from bench_subject import Subject

DESCRIPTION = """\
Measure echo servers: wsframe, every peer that is installed, and what limits them. The figure is the CPU time of the
server's process for one message, kernel time included; wall-clock time stands beside. The load generator is a C
program that is compiled on first use. How it is measured, and how to read the tables, stands in docs/performance.md.
Exit status: 0 when everything was measured, 1 when a contestant failed, 2 when it could not run as asked."""

GROUPS = {
    "ping": "ping: one message there and back at a time, client and server on one core",
    "pipe": "pipe: 100 messages at once on one connection, and the next 100 when all are back, a core each",
    "many": "many: 32 B there and back on all of so many connections at once, a core each",
    "idle": "idle: 32 B there and back on one of so many connections, one core",
    "tls": "tls: as ping, with TLS",
}


@dataclass(frozen=True)
class EchoCase(LoadCase):
    """One pattern of messages.

    Attributes:
        active: how many connections have messages on the way.
        inflight: how many messages are sent at once on each of those.
    """

    active: int = 1
    inflight: int = 1

    def options(self, name: str) -> dict[str, int]:
        """Return what the load generator does."""
        return {
            "connections": self.connections,
            "active": self.active,
            "inflight": self.inflight,
            "size": self.size,
            "least": max(LEAST, LEAST_EACH * self.active * self.inflight),
            "raw": int(name.startswith("raw/")),
        }


def _ping(group: str, size: int, *, tls: bool = False) -> EchoCase:
    return EchoCase(f"{group}/{name_size(size)}", group, size, tls=tls, one_core=True)


SIZES = (32, 256, 8 * KIB, 100 * KIB, MIB)
CASES = {
    case.name: case
    for case in (
        *(_ping("ping", size) for size in SIZES),
        *(EchoCase(f"pipe/{name_size(size)}", "pipe", size, inflight=100) for size in (32, 8 * KIB)),
        *(EchoCase(f"many/{n}", "many", 32, connections=n, active=n) for n in (100, 1000, 10_000)),
        EchoCase("idle/10000", "idle", 32, connections=10_000, one_core=True),
        *(_ping("tls", size, tls=True) for size in SIZES if size != 256),
    )
}
#: So many connections take longer to open than a quick run has.
TOO_MANY_TO_BE_QUICK = 10_000
#: At least so many messages are in a sample, whatever their size.
LEAST = 8
#: ... and so many on each active connection.
LEAST_EACH = 3


class EchoBenchmark(Benchmark):
    """Contestants are servers; the load generator measures them."""

    subject = Subject("echo", CASES, GROUPS, ECHO, CPU_TIME, GOALS, wall=True)
    about = "echo servers: CPU time for one message"
    description = DESCRIPTION
    examples = "'ping', 'many/1000' or '*/32'"
    rounds, quick_rounds = 7, 2
    sample_ms, quick_sample_ms = 200.0, 80.0
    codecs = ("cython",)
    has_loops = True

    def cases(self, *, quick: bool) -> Sequence[EchoCase]:
        """Return all cases; for a quick run without those that take long."""
        return [
            case
            for case in CASES.values()
            if not quick or (case.connections < TOO_MANY_TO_BE_QUICK and not case.tls)
        ]

    def check(self) -> None:
        """Compile what has to be compiled."""
        Programs()

    def start(self, settings: Settings, core: int | None) -> ServerField:
        """Start all servers."""
        return ServerField(settings, Programs(), core)


BENCHMARK = EchoBenchmark()
