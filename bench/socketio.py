"""Socket.IO: how many emits a second reach a client of another process, and how old they are there.

PgManager and the RedisManager of python-socketio take turns, each with a server of its own on this machine.
A process emits, another one has a client. An emit over PostgreSQL returns after its commit, so one greenlet
waits for each of them; many greenlets share commits.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing

from bench.benchmark import FULL, Benchmark, Stage, one_by_one
from bench.cases import Case
from bench.process import PeerFailed, Process
from bench.results import Metric, Run
from bench.streams import RedisCase, running_redis
from pglisten.eventlog import EventLog

PHASES = {"one": 3000, "many": 20_000, "large": 20}
"""Emits of a full run: by one greenlet, by a hundred, and of 1 MB each by one."""

REDIS = RedisCase("RedisManager", "socketio_emits", "redis", ("--style", "redis"))
OURS = tuple(
    Case(f"PgManager, {backend}", "socketio_emits", backend, ("--backend", backend))
    for backend in ("psycopg2", "psycopg", "pg8000")
)


def _measure(stage: Stage, case: Case) -> Run:
    share = stage.scale.latency / FULL.latency
    with ExitStack() as stack:
        port = None
        if case is REDIS:
            port, _, subscribers = stack.enter_context(running_redis())
        else:
            with closing(stage.server.connect()) as connection, connection.cursor() as cursor:
                cursor.execute(EventLog.sql("socketio"))
        receiver = stack.enter_context(stage.start(case, "receive", redis=port))
        receiver.expect("ready")
        while port is not None and not subscribers():
            time.sleep(0.01)
        figures: Run = {}
        for phase, emits in PHASES.items():
            count = max(5, int(emits * share))
            with stage.start(case, phase, redis=port, count=count) as sender:
                figures |= _figures(phase, count, sender, receiver)
    return figures


def _figures(phase: str, count: int, sender: Process, receiver: Process) -> Run:
    sent = sender.expect("cpu")
    had = receiver.expect("seconds", "p50", "count")
    if had["count"] != count:
        raise PeerFailed(f"{had['count']} of {count} have arrived")
    figures = {phase: count / had["seconds"]}
    if phase == "one":
        figures["p50"] = had["p50"]
    elif phase == "many":
        figures["cpu"] = (sent["cpu"] + had["cpu"]) / count
    return figures


BENCHMARKS = (
    Benchmark(
        "socketio",
        "emits to a client of another process",
        (REDIS, *OURS),
        (
            Metric("one", "a second, one greenlet"),
            Metric("many", "a second, 100 greenlets"),
            Metric("large", "of 1 MB a second"),
            Metric("p50", "p50, ms", 1e3, 2),
            Metric("cpu", "CPU of both, µs", 1e6),
        ),
        one_by_one(_measure),
        REDIS,
    ),
)
