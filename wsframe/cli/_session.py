"""What `connect` does between opening and ending: lines go out, messages come in, somebody wants to leave."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from .._events import Disconnected
from ..aio import ConnectionClosed, WebSocket
from ._console import Console, OutputGone
from ._lines import PromptInterrupted, has_prompt, read_lines, read_prompt

__all__ = ["BadLine", "Session", "parse_line", "stdin_is_terminal"]

#: At the end of the input with fewer messages received than sent: how long nothing may come.
PATIENCE = 5.0
#: The same where every message may have been answered: what else belongs to it comes soon or is not awaited.
GRACE = 0.5


class BadLine(ValueError):
    """A line cannot be sent as it was asked for."""


def parse_line(line: bytes, *, binary: bool, hexadecimal: bool) -> str | bytes:
    """The message that a line stands for.

    Raises:
        BadLine: it is no UTF-8, or not hexadecimal.
    """
    if hexadecimal:
        try:
            return bytes.fromhex(line.decode("ascii").strip().removeprefix("0x"))
        except ValueError:
            raise BadLine(
                "not hexadecimal: a line has two digits for each byte, such as 68656c6c6f or 68 65"
            ) from None
    if binary:
        return line
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise BadLine(
            "not UTF-8, so it cannot be a text message; --binary sends the bytes as they are"
        ) from None


class Session:
    """One connection of `connect`.

    Args:
        websocket: it is open.
        console: shows what comes.
        messages: send these, wait for an answer to each and leave; with None, lines come from stdin.
        binary, hexadecimal: what lines are.
        wait: seconds without a message, after the end of the input, after which to leave; None for a sensible choice.
        ping: seconds between pings, or None.
    """

    def __init__(
        self,
        websocket: WebSocket,
        console: Console,
        *,
        messages: Sequence[str | bytes] | None,
        binary: bool,
        hexadecimal: bool,
        wait: float | None,
        ping: float | None,
    ) -> None:
        self._websocket = websocket
        self._console = console
        self._messages = messages
        self._format = binary, hexadecimal
        self._wait = wait
        self._ping = ping
        self._loop = asyncio.get_running_loop()
        self._code = 1000
        self._sent = 0
        self._answers = 0
        self._heard = 0.0
        self._news = asyncio.Event()
        self._talking: asyncio.Task[None] | None = None
        self._interrupted = False
        #: A line could not be sent, so not everything was said.
        self.bad_input = False

    @property
    def unanswered(self) -> bool:
        """An answer that was asked for did not come."""
        return self._messages is not None and self._answers < len(self._messages)

    def interrupt(self) -> None:
        """Ctrl-C: close; the second time, drop the connection."""
        if self._interrupted:
            self._websocket.abort()
            return
        self._interrupted = True
        self._code = 1001
        self._console.note("closing (once more to drop the connection)")
        if self._talking is not None:
            self._talking.cancel()

    async def run(self) -> Disconnected:
        """Talk until one side wants to leave, and return how it ended."""
        websocket = self._websocket
        tasks = [asyncio.create_task(job) for job in (self._print(), self._talk())]
        printing, self._talking = tasks
        if self._ping:
            tasks.append(asyncio.create_task(self._measure(self._ping)))
        if self._interrupted:
            self._talking.cancel()
        await asyncio.wait((printing, self._talking), return_when=asyncio.FIRST_COMPLETED)
        # The prompt goes first, so that what follows is printed below it, and Ctrl-C is a signal again.
        await _stop(self._talking)
        websocket.start_closing(self._code)
        ending = await websocket.wait_closed()
        for task in tasks:
            await _stop(task, cancel=task is not printing)
        return ending

    async def _print(self) -> None:
        """Show messages until the connection has ended, or nobody reads them."""
        try:
            while True:
                message = await self._websocket.recv()
                self._console.message(message)
                self._heard = self._loop.time()
                # What comes before the first message was sent answers nothing.
                if self._sent:
                    self._answers += 1
                self._news.set()
        except (ConnectionClosed, OutputGone):
            return

    async def _talk(self) -> None:
        """Send what there is to send; return when it is time to leave."""
        try:
            if self._messages is not None:
                await self._ask(self._messages)
            elif not stdin_is_terminal():
                await read_lines(_stdin(), self._send_line)
                await self._wait_for_answers()
            elif self._console.out_is_terminal and has_prompt():
                await read_prompt(self._send_line, self._console)
            else:
                await read_lines(_stdin(), self._send_line)
        except ConnectionClosed:
            return
        except PromptInterrupted:
            self.interrupt()
        except BadLine as exc:
            self._console.error(f"line {self._sent + 1} is {exc}")
            self.bad_input = True

    async def _send_line(self, line: bytes) -> None:
        binary, hexadecimal = self._format
        try:
            message = parse_line(line, binary=binary, hexadecimal=hexadecimal)
        except BadLine as exc:
            if not stdin_is_terminal():
                raise
            # Who typed that can type it again.
            self._console.error(f"not sent: {exc}")
            return
        await self._send(message)

    async def _send(self, message: str | bytes) -> None:
        # Counted first: the answer may be there before send() returns.
        self._sent += 1
        await self._websocket.send(message)

    async def _ask(self, messages: Sequence[str | bytes]) -> None:
        for number, message in enumerate(messages, 1):
            await self._send(message)
            while self._answers < number:
                self._news.clear()
                await self._news.wait()

    async def _wait_for_answers(self) -> None:
        """All lines are sent: stay while answers come. After our Close they would not be read any more."""
        began = self._loop.time()
        while True:
            patience = self._wait
            if patience is None:
                patience = GRACE if self._answers >= self._sent else PATIENCE
            rest = max(began, self._heard) + patience - self._loop.time()
            if rest <= 0:
                return
            self._news.clear()
            try:
                async with asyncio.timeout(rest):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _measure(self, period: float) -> None:
        """Ping, and say how long each round trip took."""
        try:
            while True:
                began = self._loop.time()
                pong = asyncio.ensure_future(await self._websocket.ping())
                # We may be gone when the connection ends; then nobody asks for this one.
                pong.add_done_callback(lambda pong: pong.cancelled() or pong.exception())
                while not (await asyncio.wait((pong,), timeout=period))[0]:
                    self._console.note(f"no pong for {self._loop.time() - began:.0f} s")
                self._console.note(f"pong after {pong.result() * 1000:.1f} ms")
                await asyncio.sleep(began + period - self._loop.time())
        except ConnectionClosed:
            return


async def _stop(task: asyncio.Task[None], *, cancel: bool = True) -> None:
    if cancel:
        task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        # A failure of our own is not to be lost.
        task.result()


def stdin_is_terminal() -> bool:
    """Whether lines are typed by a person."""
    return sys.stdin is not None and sys.stdin.isatty()


def _stdin() -> int:
    # Without a console or with stdin closed there is none; a descriptor that is none reads as empty.
    return -1 if sys.stdin is None else sys.stdin.fileno()
