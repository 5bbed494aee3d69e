"""A driver for the tests: it does what it should, and lies about what it was told."""

from __future__ import annotations

from typing import Any

from wsframe.testing.lifecycle.drivers import run
from wsframe.testing.lifecycle.drivers.wsframe_aio import AioDriver


class LyingDriver(AioDriver):
    name = "liar"

    def told(self, what: str, *, over: bool = False, **more: Any) -> None:
        if over and "ending" in more:
            more["ending"]["clean"] = not more["ending"]["clean"]
        super().told(what, over=over, **more)


if __name__ == "__main__":
    run(LyingDriver)
