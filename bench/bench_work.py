"""What a contestant has to offer to be measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench_cases import Case, Stream
from bench_errors import UnsupportedError


@dataclass(frozen=True)
class Work:
    """A case made ready by a contestant.

    Attributes:
        run: do it so many times, and return how many messages that were. This is what is timed, so its loop is
            written out in every contestant rather than calling back for each message.
        check: do it once, and return everything that comes out: masked payloads, frames, or messages.
        messages: how many messages one time has.
    """

    run: Callable[[int], int]
    check: Callable[[], list[Any]]
    messages: int = 1


class Contestant:
    """One library, as one process has loaded it. What a subclass leaves out, it cannot do."""

    #: Gives out the payload's bytes and nothing else: a limit to compare with, not a WebSocket.
    baseline = False

    def describe(self) -> dict[str, str]:
        """Return what was loaded: `version`, and what else decides how fast it is."""
        raise NotImplementedError

    def prepare(self, case: Case, stream: Stream | None) -> Work:
        """Make a case ready. There is a stream for the groups that parse.

        Raises:
            UnsupportedError: it cannot do that.
        """
        if case.group == "mask":
            return self.mask(case, case.random().randbytes(4))
        if case.group == "build":
            return self.build(case)
        if case.group == "send":
            return self.send(case)
        assert stream is not None
        return self.parse(case, stream) if case.group == "parse" else self.decode(case, stream)

    def mask(self, case: Case, key: bytes) -> Work:
        """XOR the payload with the key."""
        raise UnsupportedError("its masking cannot be called from Python")

    def build(self, case: Case) -> Work:
        """Make the frame of one message."""
        raise UnsupportedError("it builds no frames by themselves")

    def send(self, case: Case) -> Work:
        """Send one message through the object that stands for the connection."""
        raise UnsupportedError("it has no connection without I/O")

    def parse(self, case: Case, stream: Stream) -> Work:
        """Take received bytes and give out whole messages: validated `str`, or `bytes`."""
        raise UnsupportedError("it has no parser without I/O")

    def decode(self, case: Case, stream: Stream) -> Work:
        """As `parse`, without the object that stands for the connection."""
        raise UnsupportedError("its parser and its connection are one")
