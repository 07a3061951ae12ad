"""How old a notification is when it is taken, one at a time.

This process notes the time, sends, and waits until the listener has said how old it was; then comes the next.
It is the time of sending, of the server, and of the listener's waking up.
"""

from __future__ import annotations

import statistics
import time

from bench.benchmark import Benchmark, Stage
from bench.cases import ASYNCPG, GEVENT, LIB_PQ, OURS_2, OURS_8, PG8000, PGNOTIFY, PSYCOPG2, PSYCOPG3, Case
from bench.peers.script import CHANNEL
from bench.results import Metric, Run

CASES = (PSYCOPG2, GEVENT, PG8000, PSYCOPG3, ASYNCPG, PGNOTIFY, LIB_PQ, OURS_2, OURS_8)
METRICS = tuple(Metric(f"p{percent}", f"p{percent}, µs", 1e6) for percent in (50, 90, 99))
WARM_UP = 50
BUSY = 100


def _latency(
    name: str, title: str, cases: tuple[Case, ...] = CASES, *, tls: bool = False, busy: int = 0
) -> Benchmark:
    def measure(stage: Stage, case: Case) -> Run:
        count = WARM_UP + stage.scale.latency
        taken: list[float] = []
        with stage.start(case, "latency", tls=tls, count=count, busy=busy) as peer:
            peer.expect("ready")
            for _ in range(count):
                stage.server.execute("SELECT pg_notify(%s, %s)", CHANNEL, str(time.time_ns()))
                taken.append(peer.expect("latency")["latency"])
        cuts = statistics.quantiles(taken[WARM_UP:], n=100)
        return {f"p{percent}": cuts[percent - 1] for percent in (50, 90, 99)}

    return Benchmark(name, title, cases, METRICS, measure, cases[0], tls)


BENCHMARKS = (
    _latency("latency", "age of a notification when it is taken, one at a time"),
    _latency("latency-tls", "age of a notification when it is taken, one at a time, over TLS", tls=True),
    _latency(
        "latency-busy",
        f"age of a notification when it is taken, one at a time, beside {BUSY} busy greenlets",
        (GEVENT, OURS_2, OURS_8),
        busy=BUSY,
    ),
)
