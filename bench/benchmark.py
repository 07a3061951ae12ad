"""A benchmark, and how its rounds run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cases import Case
from bench.process import PeerFailed, Process
from bench.results import Metric, Results, Run
from bench.server import DATABASE, Server


@dataclass(frozen=True)
class Scale:
    """The size of a run."""

    rounds: int
    burst: int
    """Notifications of 60 bytes in a burst; a tenth as many large ones."""
    latency: int
    """Notifications one at a time."""
    losses: int
    channels: int
    idle: float
    """Seconds without notifications."""


FULL = Scale(rounds=7, burst=200_000, latency=3000, losses=20, channels=10_000, idle=10.0)
QUICK = Scale(rounds=1, burst=20_000, latency=300, losses=5, channels=1000, idle=2.0)


@dataclass(frozen=True)
class Stage:
    """What all runs share."""

    server: Server
    go: Path | None
    scale: Scale

    def start(
        self, case: Case, task: str, *, tls: bool = False, database: str = DATABASE, **options: object
    ) -> Process:
        """Start a peer's program."""
        return Process(case.command(task, self.server.uri(tls=tls, database=database), self.go, **options))


Round = Callable[[Stage, Sequence[Case]], Iterable[tuple[Case, Run | PeerFailed]]]
"""Measures each case once."""


def one_by_one(measure: Callable[[Stage, Case], Run]) -> Round:
    """Make a round from a function that measures one case; a failing case does not stop the others."""

    def measure_each(stage: Stage, cases: Sequence[Case]) -> Iterator[tuple[Case, Run | PeerFailed]]:
        for case in cases:
            try:
                yield case, measure(stage, case)
            except PeerFailed as error:
                yield case, error

    return measure_each


@dataclass(frozen=True)
class Benchmark:
    """Cases that take turns, and what is measured for each."""

    name: str
    title: str
    cases: tuple[Case, ...]
    metrics: tuple[Metric, ...]
    measure: Round
    reference: Case
    """The case that the others are divided by."""
    tls: bool = False
    """Whether it needs a server with TLS."""

    def run(self, stage: Stage, progress: Callable[[str], None]) -> Results:
        """Run every case once in each round."""
        results = Results()
        for case in self.cases:
            if self.tls and not stage.server.tls:
                results.skipped[case.label] = "the server has no TLS"
            elif missing := case.missing(stage.go):
                results.skipped[case.label] = f"not installed: {missing}"
        for number in range(stage.scale.rounds):
            progress(f"{self.name}, round {number + 1} of {stage.scale.rounds}")
            results.rounds.append({})
            cases = [case for case in self.cases if case.label not in results.skipped]
            for case, run in self.measure(stage, cases):
                if isinstance(run, PeerFailed):
                    results.skipped[case.label] = f"failed: {run}"
                else:
                    results.rounds[-1][case.label] = run
        return results
