"""uvicorn with its own back ends: ``peer_uvicorn websockets-sansio`` or ``peer_uvicorn wsproto``."""

from __future__ import annotations

import importlib.metadata
import sys

from ._driver import run
from ._uvicorn import UvicornDriver

#: Back end -> the distribution that it needs.
DISTRIBUTIONS = {"websockets-sansio": "websockets", "wsproto": "wsproto"}


class PeerUvicornDriver(UvicornDriver):
    """It is told by ``websocket.disconnect``, and by what ``send`` raises."""

    name = "uvicorn"
    backend = sys.argv[1] if len(sys.argv) > 1 else "websockets-sansio"

    @classmethod
    def version(cls) -> str:
        """Those of uvicorn and of the library below it."""
        distribution = DISTRIBUTIONS[cls.backend]
        return f"{super().version()} with {distribution} {importlib.metadata.version(distribution)}"

    def protocol(self) -> str:
        """The back end's name."""
        return self.backend


if __name__ == "__main__":
    run(PeerUvicornDriver)
