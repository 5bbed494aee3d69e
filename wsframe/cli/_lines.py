"""Where `connect` takes lines from: any file descriptor, or a prompt that can be edited."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable

from ._console import Console

__all__ = ["PromptInterrupted", "has_prompt", "read_lines", "read_prompt"]

_CHUNK = 64 * 1024
#: Chunks of lines that may wait: whoever feeds us faster than the peer takes it has to wait.
_AHEAD = 4
#: So many lines are taken in one turn: taking one need not wait for anything, and answers want to be read as well.
_LINES_PER_TURN = 64


class PromptInterrupted(Exception):
    """Ctrl-C was typed at the prompt, where it is a key and no signal."""


async def read_lines(descriptor: int, take: Callable[[bytes], Awaitable[None]]) -> None:
    """Read lines until the end of the input, and have each taken, without its line ending, before the next.

    A thread reads, because no event loop can wait for a regular file, and on Windows not for a console either. It is a
    daemon and reads with a bare system call: Python can end while it waits, and holds no lock that it would need.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[list[bytes] | None] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)

    def put(lines: list[bytes] | None) -> None:
        room.acquire()
        loop.call_soon_threadsafe(queue.put_nowait, lines)

    def read() -> None:
        try:
            rest = bytearray()
            while chunk := _read(descriptor):
                first, *others = chunk.split(b"\n")
                rest += first
                if others:
                    put([bytes(rest), *others[:-1]])
                    rest = bytearray(others[-1])
            if rest:
                put([bytes(rest)])
            put(None)
        except RuntimeError:
            # The event loop is closed: nobody wants to know any more.
            pass

    threading.Thread(target=read, name="wsframe-stdin", daemon=True).start()
    while (lines := await queue.get()) is not None:
        for number, line in enumerate(lines, 1):
            await take(line.removesuffix(b"\r"))
            if number % _LINES_PER_TURN == 0:
                await asyncio.sleep(0)
        room.release()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, _CHUNK)
    except OSError:
        # A terminal that is gone, or a descriptor that is none: there is nothing to read.
        return b""


def has_prompt() -> bool:
    """Whether the library for the prompt is installed, and the terminal can do more than print."""
    if os.environ.get("TERM") == "dumb":
        return False
    try:
        import prompt_toolkit  # noqa: F401
    except ImportError:
        return False
    return True


async def read_prompt(take: Callable[[bytes], Awaitable[None]], console: Console) -> None:
    """Prompt for lines until Ctrl-D, and have each taken. What the console shows meanwhile appears above the prompt.

    Raises:
        PromptInterrupted: Ctrl-C.
    """
    from prompt_toolkit import PromptSession

    session: PromptSession[str] = PromptSession()
    app = session.app

    def print_above(line: str) -> bool:
        if not app.is_running:
            return False
        # The library's own patch_stdout leaves raw mode for each line, and a Ctrl-D typed just then is lost.
        app.renderer.erase()
        app.output.write_raw(f"{line}\n")
        app.output.flush()
        app.invalidate()
        return True

    console.print_above = print_above
    try:
        while True:
            try:
                # Signals stay with the caller.
                line = await session.prompt_async("> ", handle_sigint=False)
            except EOFError:
                return
            except KeyboardInterrupt:
                raise PromptInterrupted from None
            # What a terminal sends that is no UTF-8 comes as halves of surrogate pairs.
            await take(line.encode(errors="surrogateescape"))
    finally:
        console.print_above = None
