"""Event logs: what an append costs, and how fast entries reach their followers.

``--only eventlog`` runs all four: "append" compares ways to give positions, "latency" is from before the
INSERT to the consumer, "catch-up" reads a long log from its beginning, and in "resume" a thousand followers
begin at once inside the window.
"""

from __future__ import annotations

from contextlib import closing

from bench.benchmark import Benchmark, Stage, one_by_one
from bench.cases import Case
from bench.latency import Lane, latency
from bench.results import Metric, Run
from pglisten.eventlog import EventLog

DATABASE = "eventlog"
FACTOR = 5
"""Entries to catch up with, in bursts: a million in a full run."""

SERIAL = Case("serial column, NOTIFY", "eventlog_writers", "psycopg2", ("--style", "serial"))
LOCK = Case("the same, lock from INSERT", "eventlog_writers", "psycopg2", ("--style", "lock"))
LOG = Case("pglisten event log", "eventlog_writers", "psycopg2", ("--style", "log"))
BY_HAND = Case("psycopg2, SELECT", "eventlog_psycopg2", "psycopg2")
FOLLOWERS = tuple(
    Case(f"follower, {backend}", "eventlog_follower", backend, ("--backend", backend))
    for backend in ("psycopg2", "psycopg", "pg8000")
)


def _database(stage: Stage, name: str) -> None:
    stage.server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    stage.server.execute(f'CREATE DATABASE "{name}"')


def _append(stage: Stage, case: Case) -> Run:
    _database(stage, "append")
    with stage.start(case, "append", database="append", count=stage.scale.burst // 2) as peer:
        said: Run = peer.expect("paused", "plain", "lost", "copy")
    return said


def _filled(stage: Stage) -> int:
    """Make a long log, unless that was done; return how many entries it has."""
    count = FACTOR * stage.scale.burst
    if not stage.server.query("SELECT FROM pg_database WHERE datname = %s", DATABASE):
        _database(stage, DATABASE)
        with closing(stage.server.connect(DATABASE)) as connection, connection.cursor() as cursor:
            cursor.execute(EventLog.sql("events"))
            for _ in range(FACTOR):
                cursor.execute(
                    "INSERT INTO events (channel, payload) "
                    "SELECT 'c' || i %% 10, rpad(i::text, 100, 'x') FROM generate_series(1, %s) AS i",
                    (stage.scale.burst,),
                )
            cursor.execute("VACUUM ANALYZE")
    return count


def _catch_up(stage: Stage, case: Case) -> Run:
    count = _filled(stage)
    with stage.start(case, "catch-up", database=DATABASE, count=count) as peer:
        said = peer.expect("seconds")
    stalls = {name: said[name] for name in ("stall", "stall_cpu") if name in said}
    return {"rate": count / said["seconds"]} | stalls


def _resume(stage: Stage, case: Case) -> Run:
    _filled(stage)
    with stage.start(case, "resume", database=DATABASE) as peer:
        said: Run = peer.expect("seconds", "asked", "hold", "stall", "stall_cpu")
    return said


class LogLane(Lane):
    """A follower, and a connection that appends."""

    task = "entry-latency"
    send = "INSERT INTO events (channel, payload) VALUES (%s, %s)"
    prepare = EventLog.sql("events")


STALLS = (Metric("stall", "longest hold, ms", 1e3, 1), Metric("stall_cpu", "of its CPU, ms", 1e3, 1))

BENCHMARKS = (
    Benchmark(
        "eventlog.append",
        "8 writers, a tenth of the transactions rolled back; a third pauses up to 20 ms before COMMIT",
        (SERIAL, LOCK, LOG),
        (
            Metric("paused", "committed a second"),
            Metric("lost", "lost by a reader"),
            Metric("plain", "committed a second, no pauses"),
            Metric("copy", "COMMIT after COPY, ms", 1e3),
        ),
        one_by_one(_append),
        SERIAL,
    ),
    latency(
        "eventlog.latency",
        "age of an entry when its consumer has it, one at a time",
        (BY_HAND, *FOLLOWERS),
        lane=LogLane,
    ),
    Benchmark(
        "eventlog.catchup",
        "entries of 100 bytes, read from the beginning in pages of 500",
        (BY_HAND, *FOLLOWERS),
        (Metric("rate", "thousands a second", 1e-3), *STALLS),
        one_by_one(_catch_up),
        BY_HAND,
    ),
    Benchmark(
        "eventlog.resume",
        "1,000 followers that begin at once, 100 entries behind",
        FOLLOWERS,
        (
            Metric("asked", "asked the server"),
            Metric("seconds", "all, ms", 1e3),
            Metric("hold", "longest of one greenlet, ms CPU", 1e3, 1),
            *STALLS,
        ),
        one_by_one(_resume),
        FOLLOWERS[0],
    ),
)
