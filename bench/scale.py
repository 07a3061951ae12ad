"""What NOTIFY costs: commits a second of 1 to 64 writers while 10, 100 and 500 sessions listen.

The sessions belong to one process of its own, which reads what they get. The server's files are in memory, so
that no commit waits for a disk.
"""

from __future__ import annotations

import statistics
import time

from bench.benchmark import FULL, Benchmark, Stage, one_by_one
from bench.cases import Case
from bench.idle import used
from bench.peers.script import CHANNEL
from bench.process import PeerFailed
from bench.results import Metric, Run
from bench.server import APPLICATION

SESSIONS = (10, 100, 500)
WRITERS = (1, 8, 64)
ALONE = 200
"""Notifications that are sent alone, in a full run."""

PLAIN = Case("INSERT", "scale_sessions", "psycopg2", ("--style", "plain"))
ELSEWHERE = Case("the same, and NOTIFY elsewhere", "scale_sessions", "psycopg2", ("--style", "elsewhere"))
HEARD = Case("the same, and NOTIFY to all", "scale_sessions", "psycopg2", ("--style", "heard"))


def _measure(stage: Stage, case: Case, sessions: int) -> Run:
    share = stage.scale.latency / FULL.latency
    stage.server.execute("DROP TABLE IF EXISTS scale")
    stage.server.execute("CREATE TABLE scale (id bigserial PRIMARY KEY, payload text NOT NULL)")
    figures: Run = {}
    with stage.start(case, "listen", count=sessions) as listener:
        listener.expect("ready")
        found = stage.server.query(
            "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND query LIKE 'LISTEN%%'",
            APPLICATION,
        )
        pids = [int(str(pid)) for (pid,) in found]
        if len(pids) != sessions:
            raise PeerFailed(f"{len(pids)} of {sessions} sessions listen")
        if case is HEARD:
            ages: list[float] = []
            for number in range(max(5, int(ALONE * share))):
                began = time.time_ns()
                stage.server.execute("SELECT pg_notify(%s, %s)", CHANNEL, f"alone {number}")
                ages.append((listener.expect("all")["all"] - began) / 1e9)
            figures["p50"] = statistics.median(ages)
        for writers in WRITERS:
            before = sum(used(pid)[0] for pid in pids)
            with stage.start(case, "write", count=writers, seconds=3 * share) as writing:
                said = writing.expect("rate", "commits")
            figures[f"writers_{writers}"] = said["rate"]
            if writers == 1:
                figures["cpu"] = (sum(used(pid)[0] for pid in pids) - before) / said["commits"]
    return figures


def _benchmark(sessions: int) -> Benchmark:
    return Benchmark(
        f"scale.{sessions}",
        f"commits a second of 1, 8 and 64 writers, while {sessions} sessions listen",
        (PLAIN, ELSEWHERE, HEARD),
        (
            *(Metric(f"writers_{count}", f"writers: {count}") for count in WRITERS),
            Metric("cpu", "CPU of all sessions for one commit, ms", 1e3, 2),
            Metric("p50", "until all have one, ms", 1e3, 2),
        ),
        one_by_one(lambda stage, case: _measure(stage, case, sessions)),
        PLAIN,
    )


BENCHMARKS = tuple(map(_benchmark, SESSIONS))
