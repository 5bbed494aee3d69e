"""For libraries on asyncio whose application is a coroutine: a handler, or what uses a client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ._driver import Assignment, AsyncDriver

__all__ = ["ApplicationFails", "HandlerDriver"]


class ApplicationFails(Exception):
    """What the application raises when it is to raise something."""

    def __init__(self) -> None:
        super().__init__("the application fails")


class HandlerDriver(AsyncDriver):
    """It reads until it is told to leave.

    Attributes:
        application: the task that the handler runs in.
        never: what waits for this waits until the row is over.
    """

    def __init__(self, assignment: Assignment, say: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(assignment, say)
        loop = asyncio.get_running_loop()
        self.application: asyncio.Task[Any] | None = None
        self.never: asyncio.Future[None] = loop.create_future()
        self.reader: asyncio.Task[Any] | None = None
        self._leave: asyncio.Future[None] = loop.create_future()

    async def use(self, read: Coroutine[Any, Any, None]) -> None:
        """Be the handler: open, read, and leave."""
        self.application = asyncio.current_task()
        self.told("open")
        self.reader = asyncio.create_task(read)
        try:
            await asyncio.wait({self.reader, self._leave}, return_when=asyncio.FIRST_COMPLETED)
            if self._leave.done():
                self._leave.result()
            else:
                self.reader.result()
        finally:
            self.reader.cancel()

    async def read_all(self) -> None:
        """Wait until nothing is read any more."""
        if self.reader is not None:
            await asyncio.wait({self.reader})

    def act_return(self) -> None:
        """Leave the handler."""
        self._leave.set_result(None)

    def act_raise(self) -> None:
        """Leave it with an exception."""
        self._leave.set_exception(ApplicationFails())

    def act_cancel(self) -> None:
        """Cancel the handler's task."""
        assert self.application is not None
        self.application.cancel()
