"""Virtual time for asyncio: an event loop that never sleeps, and the network in memory that belongs to it."""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from ._faults import Faults
from ._network import MemoryNetwork, MemoryServer

__all__ = ["Deadlock", "VirtualClockLoop", "run"]

T = TypeVar("T")

#: So many turns of the loop without time passing are a program that spins.
_MAX_TURNS = 1_000_000

#: Real seconds that a job in another thread may take.
_MAX_REAL_WAIT = 60.0


class Deadlock(RuntimeError):
    """Nothing will ever happen again: nothing is ready, no timer is set, and yet somebody waits."""


class _Selector(selectors.DefaultSelector):
    """Does not wait. Where it would have to, time is moved on instead."""

    def __init__(self, pass_time: Callable[[float | None], bool]) -> None:
        super().__init__()
        self._pass_time = pass_time

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and not self._pass_time(timeout):
            # Somebody else works for us, in real time.
            ready = super().select(_MAX_REAL_WAIT)
            if not ready:
                raise Deadlock(f"a job in another thread has not ended within {_MAX_REAL_WAIT:g} s")
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop with a clock of its own, which jumps to the next timer whenever nothing else is to be done.

    It has a network of its own, too: ``create_server``, ``create_connection`` and ``getaddrinfo`` stay in memory, so
    `serve` and `connect` need nothing but each other. There is one machine in it, and all names lead there. Time
    stands still while a job runs in another thread (``asyncio.to_thread``). A socket of the system can be used as
    well, if its other end is in this process: time does not wait for anybody outside.

    Args:
        start: what ``time()`` begins with, in seconds.
        timeout: virtual seconds that everything together may take.

    Attributes:
        network: what is in memory.
    """

    def __init__(self, start: float = 0.0, timeout: float = math.inf) -> None:
        self._now = start
        self._timeout = timeout
        self._end = start + timeout
        self._turns = 0
        self._jobs = 0
        self.network = MemoryNetwork(self)
        super().__init__(_Selector(self._pass_time))

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    @property
    def timers(self) -> list[asyncio.TimerHandle]:
        """Timers that are set, and neither due nor cancelled."""
        handles = cast("list[asyncio.TimerHandle]", self._scheduled)  # type: ignore[attr-defined]
        return [handle for handle in handles if not handle.cancelled() and handle.when() > self._now]

    def _pass_time(self, timeout: float | None) -> bool:
        """Nothing is ready: move on by so many seconds; False where real time has to pass."""
        if timeout == 0:
            self._turns += 1
            if self._turns > _MAX_TURNS:
                raise Deadlock(f"{_MAX_TURNS} turns of the loop, and no time has passed: something spins")
            return True
        self._turns = 0
        if self._jobs:
            return False
        if timeout is None:
            raise Deadlock(f"nothing is ready and no timer is set; waiting for ever: {self._waiting()}")
        if self._now + timeout > self._end:
            # What is to be cancelled now may take some time as well.
            self._end += self._timeout
            raise TimeoutError(
                f"not done after {self._timeout:g} s of virtual time; waiting: {self._waiting()}"
            )
        self._now += timeout
        return True

    def _waiting(self) -> str:
        """Who waits, and where."""
        found = []
        for task in asyncio.all_tasks(self):
            frames = task.get_stack()
            where = f"{frames[-1].f_code.co_filename}:{frames[-1].f_lineno}" if frames else "?"
            found.append(f"{task.get_name()} in {where}")
        return "; ".join(sorted(found)) or "nobody"

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """As ever; and time stands still until it is done."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: object) -> None:
        self._jobs -= 1

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As ever; its threads end in real time."""
        self._jobs += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._jobs -= 1

    # The network.

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        """All names lead to the one machine that there is."""
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", int(port)))]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect in memory to where somebody listens; sockets of other families are the system's."""
        if sock.family != socket.AF_INET:
            await super().sock_connect(sock, address)
            return
        await asyncio.sleep(0)
        if not self.network.dial(sock, address[1]):
            await self.create_future()

    async def create_connection(  # type: ignore[override]
        self, factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        """In memory; with ``sock`` a socket that ``sock_connect`` has connected, or one of the system's.

        Raises:
            ValueError: ``ssl`` was given: TLS begins with ``start_tls`` here.
            ConnectionRefusedError: nobody listens on that port.
        """
        sock = options.get("sock")
        if sock is not None and not self.network.is_dialed(sock):
            return await super().create_connection(factory, host, port, **options)
        if options.get("ssl"):
            raise ValueError("in memory, TLS begins with start_tls")
        transport = self.network.connect(factory, port, sock)
        try:
            await transport.made
        except BaseException:
            transport.close()
            raise
        return transport, transport.get_protocol()

    async def create_server(self, factory: Any, host: Any = None, port: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """In memory; with ``sock`` the system's.

        Raises:
            ValueError: ``ssl`` was given: TLS begins with ``start_tls`` here.
            OSError: somebody listens on that port already.
        """
        if options.get("sock") is not None:
            return await super().create_server(factory, host, port, **options)
        if options.get("ssl"):
            raise ValueError("in memory, TLS begins with start_tls")
        await asyncio.sleep(0)
        return MemoryServer(self.network, factory, int(port or 0))


def run(
    main: Coroutine[Any, Any, T],
    *,
    timeout: float = 3600.0,
    client_faults: Faults | None = None,
    server_faults: Faults | None = None,
) -> T:
    """Run a coroutine on a `VirtualClockLoop`, as ``asyncio.run`` does, and return its result.

    Args:
        main: the test.
        timeout: virtual seconds that it may take.
        client_faults: counts, and spoils, what clients do in the network in memory.
        server_faults: the same for servers.

    Raises:
        TimeoutError: it takes longer than that: two endpoints that keep each other alive never come to an end.
        Deadlock: it waits for something that cannot happen.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualClockLoop(timeout=timeout)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualClockLoop)
        loop.network.client_faults = client_faults
        loop.network.server_faults = server_faults
        return runner.run(main)
