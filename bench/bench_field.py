"""Servers under test, as a load generator measures them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from bench_basics import BaseCase
from bench_command import Settings
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
from bench_measure import Sample
from bench_pool import Command, Process, Starter
from bench_servers import MOST_THREADS

#: A server is kept busy for so long before it is measured for the first time: some compile while they run.
WARM_MS = 400.0


@dataclass(frozen=True)
class LoadCase(BaseCase):
    """Something that the load generator does to a server.

    Attributes:
        connections: how many are open at a time.
        tls: over TLS.
        one_core: the load generator runs on the server's core.
    """

    connections: int = 1
    tls: bool = False
    one_core: bool = False

    def options(self, name: str) -> dict[str, int]:
        """Return what the load generator is to do to that contestant.

        Raises:
            UnsupportedError: the contestant cannot do that.
        """
        raise NotImplementedError


class ServerField(Starter):
    """Servers under test."""

    def __init__(self, settings: Settings, programs: Programs, core: int | None) -> None:
        self._entries = {name: ECHO.entries[name] for name in settings.names}
        self._programs = programs
        self._core = core
        self._sample_ms = settings.sample_ns / 1e6
        self._descriptors = descriptors()
        self._probed: set[str] = set()
        self._warm: set[str] = set()
        self._case: LoadCase | None = None
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
        assert isinstance(case, LoadCase)
        self._case = case
        if case.connections + SPARE_DESCRIPTORS > self._descriptors:
            raise UnsupportedError(f"a process may only open {self._descriptors} files here")
        if name.endswith("/sync") and case.connections > MOST_THREADS:
            raise UnsupportedError("it has a thread for each connection")
        case.options(name)
        process = self._process(name, tls=case.tls)
        if not (name.startswith("raw/") or case.tls or name in self._probed):
            self._probed.add(name)
            probe_text(int(process.described["port"]))
        if name not in self._warm:
            self._warm.add(name)
            self._generate(name, ms=WARM_MS)
        self._generate(name, ms=self._sample_ms / 4)

    def sample(self, name: str) -> Sample:
        """Measure the case once."""
        answer = self._generate(name, ms=self._sample_ms)
        messages = answer["messages"]
        return Sample(answer["cpu_ns"] / messages, answer["wall_ns"] / messages, messages)

    def forget(self, name: str) -> None:
        """Nothing is kept: the load generator has closed its connections."""

    def _process(self, name: str, *, tls: bool) -> Process:
        """The server that a case needs."""
        if not tls:
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
        case = self._case
        assert case is not None
        process = self._process(name, tls=case.tls)
        options = {
            **case.options(name),
            "tls": int(case.tls),
            "warm_ms": max(1, round(ms / 3)),
            "ms": max(1, round(ms)),
        }
        if self._core is not None:
            options["core"] = self._core if case.one_core else other_core(self._core)
            options["spin"] = int(options["core"] != self._core)
        try:
            return generate(self._programs, int(process.described["port"]), process.pid, options)
        except WrongError:
            if not case.tls and process.has_ended():
                why = process.last_words()
                self.drop(name, why)
                raise WrongError(why) from None
            raise


def other_core(core: int) -> int:
    """Return a core that the server does not run on, if there is one."""
    return min(os.sched_getaffinity(0) - {core}, default=core)
