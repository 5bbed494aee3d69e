"""What a driver is: the application under test, written with one library's public API, told what to do line by line.

`AsyncDriver` and `ThreadDriver` are bases for Python; ``docs/lifecycle.md`` has the lines themselves, for everybody
else.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import json
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar

from ._leftovers import Leftovers

__all__ = ["Assignment", "AsyncDriver", "Cannot", "Driver", "ThreadDriver", "describe", "message_text", "run"]

#: Seconds that a message sent beyond what fits may make no progress before it counts as waiting.
_STUCK = 0.3

#: Seconds that what an act has begun may take to come to an end after the connection has.
_LAST_WORDS = 1.0


class Cannot(Exception):
    """The library has nothing for this; the text says what, in a few words."""


@dataclass(frozen=True)
class Assignment:
    """What the application is to be in the next row.

    Attributes:
        row: its name.
        role: "server" or "client".
        acts: what the application will be told to do, as the names of the methods after ``act_``.
        settings: keyword arguments of `wsframe.aio.serve` and ``connect``; what a library has no word for is ignored.
        uri: where a client connects to.
        certificate: a file with a server's certificate and key, for TLS.
        authority: a file with the certificate of the authority that a client trusts, for TLS.
        answer: what a server's application does with the request: None accepts it, "nothing" neither accepts nor
            refuses it, "raise" raises an exception, a number refuses it with that status.
        body: that response's body.
        send_buffer: how much the system is to take of what is sent to a peer that does not read (SO_SNDBUF), where the
            library lets an application say that; without it, that depends on the system's mood.
        patience: seconds for the timeouts of opening and closing that ``settings`` do not name. Libraries give them ten
            and more, and nobody waits so long for what they say then.
    """

    row: str
    role: str
    acts: list[str]
    settings: dict[str, Any]
    uri: str | None = None
    certificate: str | None = None
    authority: str | None = None
    answer: int | str | None = None
    body: str = ""
    send_buffer: int | None = None
    patience: float | None = None

    def listener(self) -> socket.socket:
        """A socket that listens on a free port of this machine."""
        sock = socket.socket()
        if self.send_buffer is not None:
            # Accepted sockets inherit it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        return sock

    def dialled(self) -> socket.socket | None:
        """A socket that is connected to the server, where the standard one will not do."""
        if self.send_buffer is None:
            return None
        assert self.uri is not None
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer)
        sock.connect(("127.0.0.1", int(self.uri.rstrip("/").rpartition(":")[2])))
        return sock

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS context for this side, or None without TLS."""
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            return context
        if self.authority is not None:
            return ssl.create_default_context(cafile=self.authority)
        return None


class Driver:
    """What `AsyncDriver` and `ThreadDriver` share.

    A subclass has ``start`` and ``end``, and ``act_close``, ``act_send``, ``act_abort``, ``act_return``,
    ``act_raise``, ``act_cancel``, ``act_shutdown``, as far as its library has something for them. One object is made
    for every row.

    Attributes:
        name: the library's name, as in the table; also that of its distribution.
        roles: "server", "client".
        settings: the settings that the library has a word for.
        assignment: what this row is about.
    """

    name: ClassVar[str]
    roles: ClassVar[tuple[str, ...]] = ("server", "client")
    settings: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, assignment: Assignment, say: Callable[[dict[str, Any]], None]) -> None:
        self.assignment = assignment
        self._say = say

    @classmethod
    def version(cls) -> str:
        """The library's version."""
        return importlib.metadata.version(cls.name)

    def setting(self, name: str, default: Any = None) -> Any:
        """The value of a setting, or the default where the row does not name it."""
        return self.assignment.settings.get(name, default)

    def told(
        self, what: str, *, by: str = "", over: bool = False, brief: str | None = None, **more: Any
    ) -> None:
        """The application was told something.

        Args:
            what: in a few words, all that it can see of it.
            by: what told it: the function that raised, the callback.
            over: with this it knows that the connection is over.
            brief: what stands in the table for it; "" where it adds nothing to the rest.
            more: for wsframe's own drivers: the fields of the ending.
        """
        self._say(
            {"told": what, "by": by, "over": over, **more} | ({} if brief is None else {"brief": brief})
        )

    def told_message(self, data: str | bytes | bytearray | memoryview, *, by: str = "") -> None:
        """The application got a message."""
        self.told(message_text(data), by=by)

    def told_exception(self, exc: BaseException, *, by: str = "", over: bool = False, **more: Any) -> None:
        """The application got an exception: its type and text, and what it came from."""
        brief = type(exc).__name__
        if exc.__cause__ is not None:
            brief += f" from {type(exc.__cause__).__name__}"
        self.told(describe(exc), by=by, over=over, brief=brief, **more)


class AsyncDriver(Driver):
    """Base for libraries on asyncio. Everything runs in one event loop."""

    def __init__(self, assignment: Assignment, say: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(assignment, say)
        self._tasks: set[asyncio.Task[None]] = set()
        # When an act last got further.
        self._progress = 0.0

    async def start(self) -> int | None:
        """Listen, and return the port; or begin to connect in a task, and return None."""
        raise NotImplementedError

    async def end(self) -> None:
        """The row is over: stop everything."""

    def spawn(self, job: Coroutine[Any, Any, Any], by: str) -> asyncio.Task[None]:
        """Run something beside the rest; what it raises, the application was told."""
        task = asyncio.get_running_loop().create_task(self._report(job, by))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _report(self, job: Coroutine[Any, Any, Any], by: str) -> None:
        try:
            await job
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            self.told_exception(exc, by=by)

    async def send_all(
        self, send: Callable[[bytes], Awaitable[Any] | None], size: int, count: int | None
    ) -> None:
        """For ``act_send``: send so many messages, or, for None, until no more goes out."""
        loop = asyncio.get_running_loop()
        sent = 0
        while count is None or sent < count:
            result = send(bytes(size))
            if result is not None:
                await result
            sent += 1
            self._progress = loop.time()
            # What does not wait must let others run all the same.
            await asyncio.sleep(0)

    async def begin(self, act: str, arguments: dict[str, Any]) -> None:
        """Begin an act; it need not be done when this returns."""
        try:
            result = getattr(self, f"act_{act}")(**arguments)
        except Cannot:
            raise
        except Exception as exc:
            self.told_exception(exc, by=f"{act}()")
            return
        if not inspect.iscoroutine(result):
            return
        loop = asyncio.get_running_loop()
        self._progress = loop.time()
        task = self.spawn(_refused_or(result, refused := loop.create_future()), f"{act}()")
        if act == "send":
            # It has to have been sent, or to be waiting for room.
            while not task.done() and loop.time() - self._progress < _STUCK:
                await asyncio.wait({task}, timeout=_STUCK / 10)
        else:
            # As far as it gets without waiting for anybody.
            for _ in range(3):
                await asyncio.sleep(0)
        if refused.done():
            raise refused.result()

    async def finish(self) -> None:
        """Let the acts come to an end, stop everything, and cancel what is left of them."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS)
        await self.end()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS)


class ThreadDriver(Driver):
    """Base for libraries that block. ``start``, ``end`` and the acts are called in the main thread."""

    def __init__(self, assignment: Assignment, say: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(assignment, say)
        self._threads: list[threading.Thread] = []
        # When an act last got further.
        self._progress = 0.0

    def start(self) -> int | None:
        """Listen, and return the port; or begin to connect in a thread, and return None."""
        raise NotImplementedError

    def end(self) -> None:
        """The row is over: stop everything."""

    def spawn(self, job: Callable[[], Any], by: str) -> threading.Thread:
        """Run something in a thread; what it raises, the application was told."""

        def run_job() -> None:
            try:
                job()
            except BaseException as exc:
                self.told_exception(exc, by=by)

        thread = threading.Thread(target=run_job, name=by, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def send_all(self, send: Callable[[bytes], Any], size: int, count: int | None) -> None:
        """For ``act_send``: send so many messages, or, for None, until no more goes out."""
        sent = 0
        while count is None or sent < count:
            send(bytes(size))
            sent += 1
            self._progress = time.monotonic()

    def begin(self, act: str, arguments: dict[str, Any]) -> None:
        """Begin an act; it need not be done when this returns."""
        method = getattr(self, f"act_{act}")
        if act not in ("close", "send", "shutdown"):
            method(**arguments)
            return
        self._progress = time.monotonic()
        refused: list[Cannot] = []

        def job() -> None:
            try:
                method(**arguments)
            except Cannot as exc:
                refused.append(exc)

        thread = self.spawn(job, f"{act}()")
        # Such calls wait for the peer: that they have begun is all that can be known.
        thread.join(0.02)
        while act == "send" and thread.is_alive() and time.monotonic() - self._progress < _STUCK:
            thread.join(0.01)
        if refused:
            raise refused[0]

    def finish(self) -> None:
        """Let the acts come to an end, and stop everything."""
        deadline = time.monotonic() + _LAST_WORDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.end()
        for thread in self._threads:
            thread.join(_LAST_WORDS)


def run(kind: type[AsyncDriver] | type[ThreadDriver]) -> None:
    """Be a driver: read what is to be done from stdin until its end, and write to stdout what was told."""
    # Nothing that a library prints may come between.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def say(line: dict[str, Any]) -> None:
        with lock:
            out.write(json.dumps(line) + "\n")
            out.flush()

    say(
        {
            "driver": kind.name,
            "version": kind.version(),
            "roles": kind.roles,
            "python": sys.version.split()[0],
        }
    )
    if issubclass(kind, AsyncDriver):
        asyncio.run(_converse_async(kind, say))
    else:
        _converse(kind, say)


def _converse(kind: type[ThreadDriver], say: Callable[[dict[str, Any]], None]) -> None:
    driver: ThreadDriver | None = None
    leftovers = Leftovers()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "act" in command:
                assert driver is not None
                driver.begin(command.pop("act"), command)
                say({"acted": True})
            elif "sync" in command:
                say({"synced": True})
            elif "end" in command:
                assert driver is not None
                driver.finish()
                driver = None
                say({"ended": True, **leftovers.look()})
            else:
                assignment = Assignment(**command)
                _check(kind, assignment)
                driver = kind(assignment, say)
                leftovers.begin()
                say({"port": driver.start(), "ignores": _ignored(kind, assignment)})
        except Cannot as exc:
            say({"cannot": str(exc)})


async def _converse_async(kind: type[AsyncDriver], say: Callable[[dict[str, Any]], None]) -> None:
    driver: AsyncDriver | None = None
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    leftovers = Leftovers()
    loop.set_exception_handler(lambda _, context: leftovers.note(f"asyncio: {context['message']}"))
    while line := await commands.readline():
        command = json.loads(line)
        try:
            if "act" in command:
                assert driver is not None
                await driver.begin(command.pop("act"), command)
                say({"acted": True})
            elif "sync" in command:
                say({"synced": True})
            elif "end" in command:
                assert driver is not None
                await driver.finish()
                driver = None
                say({"ended": True, **await leftovers.look_async()})
            else:
                assignment = Assignment(**command)
                _check(kind, assignment)
                driver = kind(assignment, say)
                leftovers.begin()
                say({"port": await driver.start(), "ignores": _ignored(kind, assignment)})
        except Cannot as exc:
            say({"cannot": str(exc)})


async def _refused_or(job: Coroutine[Any, Any, Any], refused: asyncio.Future[Cannot]) -> None:
    try:
        await job
    except Cannot as exc:
        refused.set_result(exc)


#: Without these a row is about nothing.
_ESSENTIAL = ("compression", "idle_timeout", "limits", "max_message_size", "ping_interval")


def _check(kind: type[Driver], assignment: Assignment) -> None:
    for name in _ignored(kind, assignment):
        if name in _ESSENTIAL:
            limits = ", ".join(assignment.settings["limits"]) if name == "limits" else name
            raise Cannot(f"no {limits}")
    if assignment.role not in kind.roles:
        raise Cannot(f"no {assignment.role}")
    for act in assignment.acts:
        if not hasattr(kind, f"act_{act}"):
            raise Cannot(f"no {act}")


def _ignored(kind: type[Driver], assignment: Assignment) -> list[str]:
    return sorted(
        name for name, value in assignment.settings.items() if value is not None and name not in kind.settings
    )


def describe(exc: BaseException) -> str:
    """An exception and what it came from, as far as an application can see it."""
    text = _one(exc)
    cause = exc.__cause__
    return text if cause is None else f"{text}, from {_one(cause)}"


def _one(exc: BaseException) -> str:
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def message_text(data: str | bytes | bytearray | memoryview) -> str:
    """A message, as reports have it."""
    data = data if isinstance(data, str) else bytes(data)
    if len(data) > 40:
        unit = "characters" if isinstance(data, str) else "bytes"
        return f"message of {len(data)} {unit}"
    return f"message {data!r}"
