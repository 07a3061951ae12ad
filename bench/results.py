"""What came out: a run's figures, and what can be said about several rounds of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Run = dict[str, float]
"""The figures of one run, by the names of their metrics; times in seconds, sizes in bytes."""


@dataclass(frozen=True)
class Metric:
    """A figure, and how to show it."""

    name: str
    title: str
    """With the unit."""
    scale: float = 1.0
    """By what to multiply for that unit."""
    decimals: int = 0


class Spread(NamedTuple):
    """The median of several rounds, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Results:
    """The rounds of one benchmark: in each, every case ran once, in turn."""

    rounds: list[dict[str, Run]] = field(default_factory=list)
    """Label of the case to its run, for each round."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Label of the case to why it did not run, or not to the end."""

    def values(self, label: str, metric: str) -> list[float]:
        """Return a figure of each round in which there is one."""
        return [runs[label][metric] for runs in self.rounds if metric in runs.get(label, {})]

    def ratios(self, label: str, reference: str, metric: str) -> list[float]:
        """Return a figure divided by the reference's of the same round, for each round.

        What else the machine did hit both alike; dividing medians would compare different moments.
        """
        return [
            runs[label][metric] / runs[reference][metric]
            for runs in self.rounds
            if metric in runs.get(label, {}) and runs.get(reference, {}).get(metric)
        ]
