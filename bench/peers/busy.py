"""Other greenlets of a process that listens: some that work, and one that measures how late the hub is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import gevent

WORK = 50e-6
"""Seconds that a busy greenlet works without a pause: a small step of a request."""

PAUSE = 0.01
"""Seconds that it then sleeps. 100 of them take about half of a core."""

TICK = 0.001


@contextmanager
def busy_greenlets(count: int) -> Iterator[None]:
    """Run as many greenlets, each busy for `WORK` every `PAUSE` seconds."""

    def work() -> None:
        while True:
            until = time.perf_counter() + WORK
            while time.perf_counter() < until:
                pass
            gevent.sleep(PAUSE)

    workers = [gevent.spawn_later(PAUSE * number / count, work) for number in range(count)]
    yield
    gevent.killall(workers)


class Ticker:
    """A greenlet that is due every millisecond, and records how late it ran."""

    def __init__(self) -> None:
        self.worst = self.worst_cpu = 0.0
        """Seconds late by the clock, and of this thread's CPU time in between."""
        gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            now, cpu = time.perf_counter(), time.thread_time()
            gevent.sleep(TICK)
            self.worst = max(self.worst, time.perf_counter() - now - TICK)
            self.worst_cpu = max(self.worst_cpu, time.thread_time() - cpu)

    def lap(self) -> dict[str, float]:
        """Return what it has recorded since the last call."""
        noted = {"stall": self.worst, "stall_cpu": self.worst_cpu}
        self.worst = self.worst_cpu = 0.0
        return noted
