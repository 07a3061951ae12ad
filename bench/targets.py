"""The targets, and whether the results meet them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bench.cases import (
    ASYNCPG,
    COUNTING,
    LIB_PQ,
    MUTE_2,
    MUTE_3,
    MUTE_8,
    OURS_2,
    OURS_3,
    OURS_8,
    PG8000,
    PQ,
    PSYCOPG2,
    PSYCOPG3,
    Case,
)
from bench.eventlog import BY_HAND, FOLLOWERS, LOCK, LOG, SERIAL
from bench.results import Results
from bench.streams import ALONE, FLASK_SSE
from bench.streams import OURS as STREAMS


@dataclass(frozen=True)
class Target:
    """A limit for the median of a figure, or of its ratio to a reference."""

    benchmark: str
    metric: str
    case: Case
    reference: Case | None
    sense: Literal[">=", "<="]
    limit: float
    scale: float = 1.0
    """Factor of an absolute figure for the unit of the limit."""
    unit: str = ""

    def __str__(self) -> str:
        of = "" if self.reference is None else f" / {self.reference.label}"
        return (
            f"{self.benchmark}, {self.metric}: {self.case.label}{of} {self.sense} {self.limit:g}{self.unit}"
        )

    def reached(self, results: Mapping[str, Results]) -> float | None:
        """Return the figure that the limit is for; ``None`` if it was not measured."""
        if self.benchmark not in results:
            return None
        measured = results[self.benchmark]
        if self.reference is None:
            values = [value * self.scale for value in measured.values(self.case.label, self.metric)]
        else:
            values = measured.ratios(self.case.label, self.reference.label, self.metric)
        return statistics.median(values) if values else None

    def met(self, reached: float) -> bool:
        return reached >= self.limit if self.sense == ">=" else reached <= self.limit


TARGETS = (
    Target("burst", "rate", OURS_2, COUNTING, ">=", 0.85),
    Target("burst", "rate", OURS_2, PSYCOPG3, ">=", 1.8),
    Target("burst", "rate", OURS_2, ASYNCPG, ">=", 1.8),
    Target("burst", "rate", OURS_2, LIB_PQ, ">=", 0.9),
    Target("burst", "cpu", OURS_2, COUNTING, "<=", 1.5),
    Target("burst", "cpu", OURS_3, PQ, "<=", 1.3),
    Target("burst", "rate", OURS_8, COUNTING, ">=", 0.75),
    Target("burst", "rate", OURS_8, ASYNCPG, ">=", 1.7),
    Target("burst", "rate", OURS_8, PG8000, ">=", 1.5),
    Target("burst", "rate", OURS_8, LIB_PQ, ">=", 0.9),
    *(
        Target("latency", metric, ours, PSYCOPG2, "<=", limit)
        for ours in (OURS_2, OURS_3, OURS_8)
        for metric, limit in (("p50", 1.1), ("p99", 1.5))
    ),
    *(
        target
        for ours in (OURS_2, OURS_3, OURS_8)
        for target in (
            Target("reconnect", "median", ours, LIB_PQ, "<=", 1.0),
            Target("channels", "again", ours, LIB_PQ, "<=", 0.4),
            Target("channels", "memory", ours, None, "<=", 5, 1e-6, " MB"),
            Target("stalls", "burst", ours, None, "<=", 5, 1e3, " ms"),
            Target("heartbeat", "cpu", ours, None, "<=", 0.1, 100, " % of a core"),
        )
    ),
    *(
        target
        for mute in (MUTE_2, MUTE_3, MUTE_8)
        for target in (
            Target("idle", "cpu", mute, None, "<=", 0.1, 100, " % of a core"),
            Target("idle", "waits", mute, None, "<=", 0, 1, " a second"),
        )
    ),
    Target("eventlog.append", "lost", LOG, None, "<=", 0),
    Target("eventlog.append", "paused", LOG, SERIAL, ">=", 0.8),
    Target("eventlog.append", "paused", LOG, LOCK, ">=", 5),
    Target("eventlog.append", "plain", LOG, SERIAL, ">=", 0.5),
    *(
        target
        for follower in FOLLOWERS
        for target in (
            Target("eventlog.latency", "p50", follower, BY_HAND, "<=", 1.3),
            Target("eventlog.catchup", "rate", follower, BY_HAND, ">=", 0.5),
            Target("eventlog.catchup", "stall", follower, None, "<=", 10, 1e3, " ms"),
            Target("eventlog.resume", "asked", follower, None, "<=", 0),
            Target("eventlog.resume", "hold", follower, None, "<=", 5, 1e3, " ms"),
        )
    ),
    *(
        target
        for streams in STREAMS
        for target in (
            Target("streams.1000", "cpu", streams, ALONE, "<=", 1.5),
            Target("streams.1000", "rate", streams, FLASK_SSE, ">=", 2),
        )
    ),
)


def judged(results: Mapping[str, Results]) -> list[dict[str, object]]:
    """Return every target that was measured, with its result."""
    return [
        {"target": str(target), "reached": reached, "met": target.met(reached)}
        for target in TARGETS
        if (reached := target.reached(results)) is not None
    ]
