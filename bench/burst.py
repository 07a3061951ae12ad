"""The rate of a burst, and the cost of a notification.

The sender is another process and sends as fast as the server accepts. In "burst" sender and listener run at
the same time, and compete for the cores if there are few. In "backlog" the listener is stopped until
everything has been sent: then only the server's process for its session runs beside it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from bench.benchmark import Benchmark, Stage, one_by_one
from bench.cases import (
    ASYNCPG,
    COUNTING,
    GEVENT,
    LIB_PQ,
    OURS_2,
    OURS_3,
    OURS_8,
    PG8000,
    PGNOTIFY,
    PQ,
    PSYCOPG2,
    PSYCOPG3,
    TAKING_2,
    TAKING_3,
    TAKING_8,
    Case,
)
from bench.process import ROOT, Process, environment
from bench.results import Metric, Run

CASES = (
    COUNTING, PSYCOPG2, GEVENT, PG8000, PQ, PSYCOPG3, ASYNCPG, PGNOTIFY, LIB_PQ,
    OURS_2, TAKING_2, OURS_3, TAKING_3, OURS_8, TAKING_8,
)  # fmt: skip
METRICS = (
    Metric("rate", "thousands a second", 1e-3),
    Metric("cpu", "CPU of each, µs", 1e6, 2),
)


def _burst(name: str, title: str, *, size: int, held: bool = False, tls: bool = False) -> Benchmark:
    def measure(stage: Stage, case: Case) -> Run:
        whole = stage.scale.burst if size < 1000 else stage.scale.burst // 10
        count = max(100, int(whole * case.share))
        with stage.start(case, "burst", tls=tls, count=count) as peer:
            peer.expect("ready")
            send(stage, peer, count, size, held=held)
            said = peer.expect("seconds", "cpu")
        return {"rate": count / said["seconds"], "cpu": said["cpu"] / count}

    return Benchmark(name, title, CASES, METRICS, one_by_one(measure), COUNTING, tls)


def send(stage: Stage, peer: Process, count: int, size: int, *, held: bool) -> None:
    """Send *count* notifications from another process than *peer*, which is stopped meanwhile if *held*."""
    if held:
        os.kill(peer.pid, signal.SIGSTOP)
    # The sender is not measured, and so needs no TLS.
    command = [sys.executable, "-m", "bench.sender", stage.server.uri(tls=False), str(count), str(size)]
    try:
        subprocess.run(command, cwd=ROOT, env=environment(), check=True)
    finally:
        if held:
            os.kill(peer.pid, signal.SIGCONT)


BENCHMARKS = (
    _burst("burst", "notifications of 60 bytes, sent meanwhile", size=60),
    _burst("burst-4k", "notifications of 4,000 bytes, sent meanwhile", size=4000),
    _burst("backlog", "notifications of 60 bytes, sent before", size=60, held=True),
    _burst("burst-tls", "notifications of 60 bytes, sent meanwhile, over TLS", size=60, tls=True),
    _burst("burst-4k-tls", "notifications of 4,000 bytes, sent meanwhile, over TLS", size=4000, tls=True),
)
