"""The time to recover from a loss: from before the session is terminated to RECONNECTED.

The listener was connected for longer than its shortest interval, and so may connect at once. With ten
thousand channels, it has recovered when it listens to all of them again.
"""

from __future__ import annotations

import statistics
import time

from bench.benchmark import Benchmark, Stage, one_by_one
from bench.cases import LIB_PQ, OURS_2, OURS_3, OURS_8, Case
from bench.process import Process
from bench.results import Metric, Run
from bench.server import APPLICATION

AGE = "100 milliseconds"
"""Age of a session before it is terminated: ten times the shortest interval."""


def lose(stage: Stage) -> int:
    """Terminate the session of the only listener once it is old enough; return the time of that in ns."""
    found: list[tuple[object, ...]] = []
    while not found:
        # Wait until it is the only session. A listener may be back while the process of its last session
        # still ends; to terminate that one again would cause no loss.
        found = stage.server.query(
            "SELECT min(pid) FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"
            " HAVING count(*) = 1 AND min(backend_start) < clock_timestamp() - %s::interval",
            APPLICATION,
            AGE,
        )
    began = time.time_ns()
    stage.server.execute("SELECT pg_terminate_backend(%s)", *found[0])
    return began


def _reconnect(stage: Stage, case: Case) -> Run:
    durations: list[float] = []
    with stage.start(case, "losses", count=stage.scale.losses) as peer:
        peer.expect("ready")
        for _ in range(stage.scale.losses):
            began = lose(stage)
            durations.append((peer.expect("back")["back"] - began) / 1e9)
    return {"median": statistics.median(durations), "most": max(durations)}


def listen_and_lose(stage: Stage, peer: Process) -> tuple[Run, Run]:
    """Return what a peer reports about listening to many channels, at first and after a loss."""
    peer.expect("ready")
    first = peer.expect("seconds", "cpu")
    began = lose(stage)
    again = peer.expect("back", "cpu")
    again["seconds"] = (again["back"] - began) / 1e9
    return first, again


def _channels(stage: Stage, case: Case) -> Run:
    count = stage.scale.channels
    with stage.start(case, "channels", count=count) as peer:
        first, again = listen_and_lose(stage, peer)
    with stage.start(case, "memory", count=count) as peer:
        peer.expect("ready")
        memory = peer.expect("bytes")["bytes"]
    return {
        "listen": first["seconds"],
        "listen_cpu": first["cpu"],
        "again": again["seconds"],
        "again_cpu": again["cpu"],
        "memory": memory,
    }


CASES = (LIB_PQ, OURS_2, OURS_3, OURS_8)
BENCHMARKS = (
    Benchmark(
        "reconnect",
        "from the end of a session to RECONNECTED",
        CASES,
        (Metric("median", "median, ms", 1e3, 2), Metric("most", "the longest, ms", 1e3, 2)),
        one_by_one(_reconnect),
        LIB_PQ,
    ),
    Benchmark(
        "channels",
        "10,000 channels, and again after a loss",
        CASES,
        (
            Metric("listen", "at first, s", 1, 3),
            Metric("listen_cpu", "CPU, s", 1, 3),
            Metric("again", "again, s", 1, 3),
            Metric("again_cpu", "CPU, s", 1, 3),
            Metric("memory", "memory, MB", 1e-6, 1),
        ),
        one_by_one(_channels),
        LIB_PQ,
    ),
)
