"""`bench client`: what a round trip costs a client."""

from __future__ import annotations

from pathlib import Path

from bench_basics import KIB, MIB, BaseCase, Unit, duration, name_size
from bench_command import Benchmark, Settings
from bench_contestants import CLIENT, ECHO
from bench_errors import UnusableError
from bench_generator import Programs, server_command
from bench_goals import CLIENT as GOALS
from bench_pool import Command, Pool, Process, worker
from bench_subject import Subject

DESCRIPTION = """\
Measure clients: a message there and back at a time, against the echo server in C that is the limit of `bench echo`.
The figure is the CPU time of the client's process for one round trip, kernel time included. Exit status: 0 when
everything was measured, 1 when a contestant failed, 2 when it could not run as asked."""

GROUPS = {"trip": "trip: text there and back, one message at a time, client and server on one core"}
CASES = {
    case.name: case
    for case in (BaseCase(f"trip/{name_size(size)}", "trip", size) for size in (32, 8 * KIB, 100 * KIB, MIB))
}
UNIT = Unit("CPU/trip", "CPU time for one round trip", "cpu_ns", "ns", duration)
WORKER = Path(__file__).resolve().with_name("bench_client_worker.py")


class ClientPool(Pool):
    """Clients that measure themselves, and the server that they talk to."""

    def __init__(self, commands: dict[str, Command], sample_ns: int, server: Command) -> None:
        self._server = Process(server)
        try:
            why = self._server.start()
            if why is not None:
                raise UnusableError(f"the server does not start: {why}")
            super().__init__(commands, sample_ns)
        except BaseException:
            self._server.close()
            raise

    def arguments(self, case: BaseCase) -> dict[str, int]:
        """Return what a client has to know of a case besides its name."""
        return {"size": case.size, "port": int(self._server.described["port"])}

    def close(self) -> None:
        """End all processes."""
        super().close()
        self._server.close()


class ClientBenchmark(Benchmark):
    """Contestants are processes that measure themselves."""

    subject = Subject("client", CASES, GROUPS, CLIENT, UNIT, GOALS, wall=True)
    about = "clients: CPU time for one round trip"
    description = DESCRIPTION
    examples = "'trip/32' or '*/1M'"
    rounds, quick_rounds = 7, 3
    sample_ms, quick_sample_ms = 100.0, 40.0
    codecs = ("cython",)
    has_loops = True

    def check(self) -> None:
        """Compile what has to be compiled."""
        Programs()

    def start(self, settings: Settings, core: int | None) -> ClientPool:
        """Start a server, and a process for each client."""
        entries = self.subject.roster.entries
        commands = {name: worker(entries[name], core, WORKER) for name in settings.names}
        server = server_command(ECHO.entries["limit"], Programs(), core)
        return ClientPool(commands, settings.sample_ns, server)


BENCHMARK = ClientBenchmark()
