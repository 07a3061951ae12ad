"""What a benchmark is, and how its rounds are run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.cases import Case
from bench.process import PeerFailed, Process
from bench.results import Metric, Results, Run
from bench.server import Server


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    rounds: int
    burst: int
    """Notifications of 60 bytes in a burst; of the large ones a tenth."""
    latency: int
    """Notifications one at a time."""


FULL = Scale(rounds=7, burst=200_000, latency=3000)
QUICK = Scale(rounds=1, burst=20_000, latency=300)


@dataclass(frozen=True)
class Stage:
    """What all runs have in common."""

    server: Server
    go: Path | None
    scale: Scale

    def start(self, case: Case, task: str, *, tls: bool = False, **options: object) -> Process:
        """Start a peer's program."""
        return Process(case.command(task, self.server.uri(tls=tls), self.go, **options))


@dataclass(frozen=True)
class Benchmark:
    """Cases that take turns, and what is measured about each."""

    name: str
    title: str
    cases: tuple[Case, ...]
    metrics: tuple[Metric, ...]
    measure: Callable[[Stage, Case], Run]
    reference: Case
    """What the others are divided by."""
    tls: bool = False
    """Whether it needs a server with TLS."""

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
            for case in self.cases:
                if case.label in results.skipped:
                    continue
                try:
                    results.rounds[-1][case.label] = self.measure(stage, case)
                except PeerFailed as error:
                    results.skipped[case.label] = f"failed: {error}"
        return results
