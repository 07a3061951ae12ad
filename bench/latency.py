"""The age of a notification when the consumer receives it, one at a time.

This process notes the time, sends, and waits until the listener has reported the age; then it sends the
next. The age includes sending, the server, and the wake-up of the listener.

The cases take turns every few milliseconds, in random order. How fast a machine wakes a process up changes
within a second, and with what ran before, by more than the cases differ. The listeners that wait for their
turn are stopped, because some are active without notifications. Each has a database of its own, because the
server wakes every listener of a database. All listeners run on one core that nothing else of the benchmark
uses: the core that the kernel chooses changes the result by half.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any

from bench.benchmark import Benchmark, Stage, one_by_one
from bench.cases import (
    ASYNCPG,
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
    Case,
)
from bench.peers.script import CHANNEL
from bench.results import Metric, Run

CASES = (PSYCOPG2, GEVENT, PG8000, PQ, PSYCOPG3, ASYNCPG, PGNOTIFY, LIB_PQ, OURS_2, OURS_3, OURS_8)
METRICS = tuple(Metric(f"p{percent}", f"p{percent}, µs", 1e6) for percent in (50, 90, 99))
TURN = 50
"""Notifications in a turn; the first turn is not counted."""

BUSY = 100


@contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """Run this process on *cores* during the block; programs that it starts meanwhile stay there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Lane:
    """A listener on the listeners' core, and a connection on the other cores that sends to it."""

    task = "latency"
    """What the listener's program does."""
    send = "SELECT pg_notify(%s, %s)"
    """Takes the channel, and the time in ns."""
    prepare = ""
    """Run before, in the database of the lane."""

    def __init__(self, stack: ExitStack, stage: Stage, case: Case, cores: list[int], **options: Any) -> None:
        database = f"{case.program}_{'_'.join(case.options)}".replace("-", "")
        stage.server.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        stage.server.execute(f'CREATE DATABASE "{database}"')
        self._cursor = stack.enter_context(closing(stage.server.connect(database))).cursor()
        if self.prepare:
            self._cursor.execute(self.prepare)
        with _on(set(cores[-1:])):
            self._peer = stack.enter_context(stage.start(case, self.task, database=database, **options))
        self._peer.expect("ready")
        self._cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        for (pid,) in self._cursor.fetchall():
            os.sched_setaffinity(pid, cores[:-1] or cores)
        os.kill(self._peer.pid, signal.SIGSTOP)
        self._ages: list[float] = []

    def turn(self) -> None:
        """Send notifications one at a time, each when the listener has received the one before."""
        os.kill(self._peer.pid, signal.SIGCONT)
        for _ in range(TURN):
            self._cursor.execute(self.send, (CHANNEL, str(time.time_ns())))
            self._ages.append(self._peer.expect("latency")["latency"])
        os.kill(self._peer.pid, signal.SIGSTOP)

    def run(self) -> Run:
        """Return the figures."""
        cuts = statistics.quantiles(self._ages[TURN:], n=100)
        return {f"p{percent}": cuts[percent - 1] for percent in (50, 90, 99)}


def latency(
    name: str,
    title: str,
    cases: tuple[Case, ...] = CASES,
    *,
    tls: bool = False,
    busy: int = 0,
    lane: type[Lane] = Lane,
) -> Benchmark:
    """Return a benchmark in which the cases take turns, each in a *lane* of its own."""

    def in_turns(stage: Stage, cases: Sequence[Case]) -> Iterator[tuple[Case, Run]]:
        cores, shuffler, count = sorted(os.sched_getaffinity(0)), random.Random(0), TURN + stage.scale.latency
        with ExitStack() as stack:
            stack.enter_context(_on(set(cores[:-1] or cores)))
            lanes = {case: lane(stack, stage, case, cores, tls=tls, busy=busy, count=count) for case in cases}
            for _ in range(0, count, TURN):
                for each in shuffler.sample(list(lanes.values()), len(lanes)):
                    each.turn()
            yield from ((case, each.run()) for case, each in lanes.items())

    # Busy cases at the same time would compete with one another.
    alone = one_by_one(lambda stage, case: dict(in_turns(stage, [case]))[case])
    return Benchmark(name, title, cases, METRICS, alone if busy else in_turns, cases[0], tls)


BENCHMARKS = (
    latency("latency", "age of a notification when it is received, one at a time"),
    latency("latency-tls", "age of a notification when it is received, one at a time, over TLS", tls=True),
    latency(
        "latency-busy",
        f"age of a notification when it is received, one at a time, beside {BUSY} busy greenlets",
        (GEVENT, OURS_2, OURS_3, OURS_8),
        busy=BUSY,
    ),
)
