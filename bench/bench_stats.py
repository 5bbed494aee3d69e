"""Medians and their spread. Means and minima are not used: one is moved by a busy neighbour, the other by luck."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """The middle half of the samples, as a part of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def summarize(samples: Sequence[float]) -> Summary:
    """Return the median and the quartiles of at least one sample."""
    if len(samples) == 1:
        return Summary(samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Summary(median, low, high)


def ratio(of: Sequence[float], to: Sequence[float]) -> Summary:
    """Return how many times as long `of` takes as `to`.

    Both have one sample for each round. A pair was taken within a second or so, so what the machine did meanwhile was
    done to both, and the quotients spread less than the samples.
    """
    return summarize([mine / theirs for mine, theirs in zip(of, to, strict=True)])
