"""How a benchmark can end before it has a result, and the exit statuses."""

from __future__ import annotations

#: Everything that was asked for was measured.
EXIT_OK = 0
#: It was measured, but something that was asked for failed on the way.
EXIT_FAILED = 1
#: It could not run as asked: wrong usage, the wrong codec, something that was asked for by name is missing.
EXIT_UNUSABLE = 2


class UnusableError(Exception):
    """The run cannot take place; the text is one sentence for the user, who sees nothing else."""


class MissingError(Exception):
    """A contestant is not on this machine, or not as its name says; the text says why."""


class UnsupportedError(Exception):
    """A contestant cannot do what a case asks for; the text says why."""


class WrongError(Exception):
    """A contestant gave a wrong result, died or hangs; the text says what is known."""
