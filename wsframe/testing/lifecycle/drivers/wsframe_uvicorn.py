"""uvicorn with wsframe's `WebSocketProtocol`."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from ...._adapter._settings import settings_for
from ...._backend import backend
from ...._enums import Role
from ...._events import Disconnected
from ...._version import __version__
from ....integrations.uvicorn import WebSocketProtocol
from ._driver import run
from ._endings import SETTINGS, fields_of, in_words, options_of
from ._uvicorn import UvicornDriver


class OurUvicornDriver(UvicornDriver):
    """It is told by the connection's ending, with which the event has to agree."""

    name = "wsframe on uvicorn"
    settings = SETTINGS

    @classmethod
    def version(cls) -> str:
        """Those of wsframe and of uvicorn, and the codec that is loaded."""
        return f"{__version__} on uvicorn {importlib.metadata.version('uvicorn')} {backend}"

    def protocol(self) -> Any:
        """One with the settings for which uvicorn has no word."""
        driver = self
        settings = settings_for(Role.SERVER, options_of(self.assignment.settings))  # type: ignore[arg-type]

        class Protocol(WebSocketProtocol):
            limits = settings.limits
            timeouts = settings.timeouts

            def on_end(self, scope: dict[str, Any] | None, ending: Disconnected) -> None:
                if scope is not None and scope["extensions"]["wsframe"]["ending"] is not ending:
                    driver.told("another ending in the scope")
                driver._ended(ending)

        self._ending: Disconnected | None = None
        return Protocol

    def _ended(self, ending: Disconnected) -> None:
        self._ending = ending
        # What was received before can still be read; the reader is in the middle of it.
        if self.reader is not None and not self.reader.done():
            self.reader.add_done_callback(lambda _: self._over(ending))
        else:
            self._over(ending)

    def _over(self, ending: Disconnected) -> None:
        self.told(in_words(ending), over=True, ending=fields_of(ending))

    def _disconnected(self, event: Mapping[str, Any]) -> None:
        if self._ending is None or event != self._ending.asgi_event():
            self.told(f"another ending: {event}", by="recv()")

    async def act_send(self, size: int, count: int | None) -> None:
        """Send messages."""
        try:
            await super().act_send(size, count)
        except OSError as exc:
            if self._ending is None or str(exc) != str(self._ending):
                self.told(f"another ending: {exc}", by="send()")


if __name__ == "__main__":
    run(OurUvicornDriver)
