"""`bench echo`: what an echo costs a server, with everything that an application has around it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench_basics import CPU_TIME, KIB, MIB, BaseCase, Panel, name_size
from bench_command import Benchmark, Settings
from bench_contestants import ECHO
from bench_errors import UnsupportedError, WrongError
from bench_generator import (
    SPARE_DESCRIPTORS,
    Certificate,
    Programs,
    descriptors,
    generate,
    probe_text,
    server_command,
)
from bench_goals import ECHO as GOALS
from bench_measure import Sample
from bench_pool import Command, Process, Starter
from bench_servers import MOST_THREADS
from bench_subject import Subject

DESCRIPTION = """\
Measure echo servers: wsframe, every peer that is installed, and what limits them. The figure is the CPU time of the
server's process for one message, kernel time included; wall-clock time stands beside. The load generator is a C
program that is compiled on first use. How it is measured, and how to read the tables, stands in docs/performance.md.
Exit status: 0 when everything was measured, 1 when a contestant failed, 2 when it could not run as asked."""

GROUPS = {
    "ping": "ping: one message there and back at a time, client and server on one core",
    "pipe": "pipe: 100 messages on the way on one connection, a core each",
    "many": "many: 32 B there and back on all of so many connections at once, a core each",
    "idle": "idle: 32 B there and back on one of so many connections, one core",
    "tls": "tls: as ping, with TLS",
}

PANELS = (
    Panel("Ping-pong", ("ping/",)),
    Panel("Ping-pong with TLS", ("tls/",)),
    Panel("Pipelined", ("pipe/",), by_size=False),
    Panel("Many connections", ("many/", "idle/"), by_size=False),
)


@dataclass(frozen=True)
class EchoCase(BaseCase):
    """One pattern of messages.

    Attributes:
        connections: how many are open.
        active: how many of them have messages on the way.
        inflight: how many messages each of those has on the way.
        tls: over TLS.
        one_core: the load generator runs on the server's core.
    """

    connections: int = 1
    active: int = 1
    inflight: int = 1
    tls: bool = False
    one_core: bool = False


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


class EchoField(Starter):
    """Servers under test."""

    def __init__(self, settings: Settings, programs: Programs, core: int | None) -> None:
        self._entries = {name: ECHO.entries[name] for name in settings.names}
        self._programs = programs
        self._core = core
        self._sample_ms = settings.sample_ns / 1e6
        self._descriptors = descriptors()
        self._probed: set[tuple[str, bool]] = set()
        self._case: EchoCase = next(iter(CASES.values()))
        #: Servers with TLS, started when they are first needed.
        self._secure: dict[str, Process] = {}
        self._certificate = Certificate()
        super().__init__({name: self._command(name) for name in settings.names})

    def _command(self, name: str, *options: str) -> Command:
        return server_command(self._entries[name], self._programs, self._core, *options)

    def close(self) -> None:
        """End all servers."""
        for process in self._secure.values():
            process.close()
        self._certificate.__exit__(None, None, None)
        super().close()

    def prepare(self, name: str, case: BaseCase) -> None:
        """See that the server does what it should, and warm it up."""
        assert isinstance(case, EchoCase)
        self._case = case
        if case.connections + SPARE_DESCRIPTORS > self._descriptors:
            raise UnsupportedError(f"a process may only open {self._descriptors} files here")
        if name.endswith("/sync") and case.connections > MOST_THREADS:
            raise UnsupportedError("it has a thread for each connection")
        process = self._process(name)
        if not name.startswith("raw/") and not case.tls and (name, case.tls) not in self._probed:
            self._probed.add((name, case.tls))
            probe_text(int(process.described["port"]))
        self._generate(name, ms=self._sample_ms / 4)

    def sample(self, name: str) -> Sample:
        """Measure the case once."""
        answer = self._generate(name, ms=self._sample_ms)
        messages = answer["messages"]
        return Sample(answer["cpu_ns"] / messages, answer["wall_ns"] / messages, messages)

    def forget(self, name: str) -> None:
        """Nothing is kept: the load generator has closed its connections."""

    def _process(self, name: str) -> Process:
        """The server that the case needs."""
        if not self._case.tls:
            return self.processes[name]
        if name in self._secure:
            return self._secure[name]
        if name == "limit":
            raise UnsupportedError("it has no TLS")
        if not self._programs.has_tls:
            raise UnsupportedError("the load generator was compiled without OpenSSL (libssl-dev)")
        if self._certificate.path is None:
            raise UnsupportedError(
                'there is no certificate without trustme; pip install "wsframe[bench]" gets it'
            )
        process = Process(self._command(name, f"tls={self._certificate.path}"))
        why = process.start()
        if why is not None:
            process.close()
            raise WrongError(why)
        self._secure[name] = process
        return process

    def _generate(self, name: str, ms: float) -> dict[str, Any]:
        process = self._process(name)
        case = self._case
        try:
            return generate(
                self._programs, int(process.described["port"]), process.pid, load(case, name, ms, self._core)
            )
        except WrongError:
            if not case.tls and process.has_ended():
                why = process.last_words()
                self.drop(name, why)
                raise WrongError(why) from None
            raise


def load(case: EchoCase, name: str, ms: float, core: int | None) -> Mapping[str, Any]:
    """Return the options of the load generator."""
    options: dict[str, Any] = {
        "connections": case.connections,
        "active": case.active,
        "inflight": case.inflight,
        "size": case.size,
        "warm_ms": max(1, round(ms / 3)),
        "ms": max(1, round(ms)),
        "least": max(LEAST, LEAST_EACH * case.active * case.inflight),
        "raw": int(name.startswith("raw/")),
        "tls": int(case.tls),
    }
    if core is not None:
        options["core"] = core if case.one_core else other_core(core)
    return options


def other_core(core: int) -> int:
    """Return a core that the server does not run on, if there is one."""
    return min(os.sched_getaffinity(0) - {core}, default=core)


class EchoBenchmark(Benchmark):
    """Contestants are servers; the load generator measures them."""

    subject = Subject("echo", CASES, GROUPS, ECHO, CPU_TIME, GOALS, PANELS, wall=True)
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

    def start(self, settings: Settings, core: int | None) -> EchoField:
        """Start all servers."""
        return EchoField(settings, Programs(), core)


BENCHMARK = EchoBenchmark()
