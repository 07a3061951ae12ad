"""What a benchmark is, and how its rounds are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.cases import Case
from bench.process import PeerFailed, Process
from bench.results import Metric, Results, Run
from bench.server import DATABASE, Server


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    rounds: int
    burst: int
    """Notifications of 60 bytes in a burst; of the large ones a tenth."""
    latency: int
    """Notifications one at a time."""
    losses: int
    channels: int
    idle: float
    """Seconds in which nothing happens."""


FULL = Scale(rounds=7, burst=200_000, latency=3000, losses=20, channels=10_000, idle=10.0)
QUICK = Scale(rounds=1, burst=20_000, latency=300, losses=5, channels=1000, idle=2.0)


@dataclass(frozen=True)
class Stage:
    """What all runs have in common."""

    server: Server
    go: Path | None
    scale: Scale

    def start(
        self, case: Case, task: str, *, tls: bool = False, database: str = DATABASE, **options: object
    ) -> Process:
        """Start a peer's program."""
        return Process(case.command(task, self.server.uri(tls=tls, database=database), self.go, **options))


@dataclass(frozen=True)
class Benchmark:
    """Cases that take turns, and what is measured about each."""

    name: str
    title: str
    cases: tuple[Case, ...]
    metrics: tuple[Metric, ...]
    measure: Callable[[Stage, Case], Run] | None
    reference: Case
    """What the others are divided by."""
    tls: bool = False
    """Whether it needs a server with TLS."""
    measure_all: Callable[[Stage, Sequence[Case]], dict[str, Run]] | None = None
    """Instead of ``measure``: a round of all cases, which it has take turns within it."""

    def run(self, stage: Stage, progress: Callable[[str], None]) -> Results:
        """Run every case once, and all of it again for each round."""
        results = Results()
        for case in self.cases:
            if self.tls and not stage.server.tls:
                results.skipped[case.label] = "the server has no TLS"
            elif missing := case.missing(stage.go):
                results.skipped[case.label] = f"not installed: {missing}"
        for number in range(stage.scale.rounds):
            progress(f"{self.name}, round {number + 1} of {stage.scale.rounds}")
            results.rounds.append({})
            self._round(stage, results)
        return results

    def _round(self, stage: Stage, results: Results) -> None:
        cases = [case for case in self.cases if case.label not in results.skipped]
        if self.measure_all is not None:
            try:
                results.rounds[-1].update(self.measure_all(stage, cases))
            except PeerFailed as error:
                results.skipped |= {case.label: f"failed, or another beside it: {error}" for case in cases}
            return
        assert self.measure is not None
        for case in cases:
            try:
                results.rounds[-1][case.label] = self.measure(stage, case)
            except PeerFailed as error:
                results.skipped[case.label] = f"failed: {error}"
