"""The results: the figures of a run, and statistics of several rounds."""

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
    """Includes the unit."""
    scale: float = 1.0
    """Factor for that unit."""
    decimals: int = 0


class Spread(NamedTuple):
    """Median, minimum and maximum of several rounds."""

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
    """Label of the case to the reason why it did not run, or not to the end."""

    def values(self, label: str, metric: str) -> list[float]:
        """Return a figure of each round that has it."""
        return [runs[label][metric] for runs in self.rounds if metric in runs.get(label, {})]

    def ratios(self, label: str, reference: str, metric: str) -> list[float]:
        """Return the ratio of a figure to the reference's in the same round, for each round.

        Other load on the machine affects both equally; a ratio of medians would compare different moments.
        """
        return [
            runs[label][metric] / runs[reference][metric]
            for runs in self.rounds
            if metric in runs.get(label, {}) and runs.get(reference, {}).get(metric)
        ]
