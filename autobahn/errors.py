"""The two ways in which a run can end before it has a result, and the exit statuses."""

from __future__ import annotations

#: Every case ended as expected.
EXIT_OK = 0
#: The suite ran, and at least one case did not end as expected or is missing.
EXIT_FAILED = 1
#: The suite could not run as asked: wrong usage, no suite, nothing that answers.
EXIT_UNUSABLE = 2


class UnusableError(Exception):
    """The run cannot take place; the text is one sentence for the user, who sees nothing else."""


class SuiteMissingError(UnusableError):
    """One way to get the suite did not work; another one may."""
