"""What the ``serve`` functions of the adapters have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from .._events import Disconnected
from .._http import Request
from .._negotiate import Origins, SubprotocolChoice
from .._server import Server
from ._conduct import application_error
from ._settings import Settings

__all__ = ["CLOSE_MARGIN", "CommonOptions", "OnEnd"]

#: Seconds after the connections' own deadline for closing before a server that was given no other drops them: they say
#: better why one has ended.
CLOSE_MARGIN = 0.5

OnEnd: TypeAlias = Callable[["Request | None", Any, Disconnected], None]


class Log(Protocol):
    """What is used of a logger."""

    def debug(self, message: str, /, *arguments: Any) -> None:
        """What a peer did."""

    def error(self, message: str, /, *, exc_info: BaseException) -> None:
        """What the application's code did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonOptions:
    """Those arguments that are the same for all adapters."""

    settings: Settings
    origins: Origins
    subprotocols: SubprotocolChoice
    require_subprotocol: bool
    on_end: OnEnd | None

    def new_endpoint(self) -> Server:
        """The sans-IO side of a new connection."""
        return Server(
            origins=self.origins,
            subprotocols=self.subprotocols,
            require_subprotocol=self.require_subprotocol,
            extensions=self.settings.extensions,
            limits=self.settings.limits,
            timeouts=self.settings.timeouts,
        )

    def report(self, request: Request | None, address: Any, ending: Disconnected, log: Log) -> None:
        """Tell the log and the application how a connection has ended."""
        log.debug("connection from %s ended: %s", address, ending)
        error = application_error(ending)
        if error is not None:
            log.error("the application's code failed in an opening handshake", exc_info=error)
        if self.on_end is not None:
            try:
                self.on_end(request, address, ending)
            except Exception as exc:
                log.error("on_end raised an exception", exc_info=exc)
