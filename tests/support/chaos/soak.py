"""Steady traffic with an occasional fault, and samples of what this process uses."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import gevent
import psutil
from gevent.event import Event

import pglisten
from pglisten import Listener
from support.chaos.faults import NETWORK, Faults, plan
from support.chaos.history import History, Record
from support.fixtures.leaks import descriptors, greenlets
from support.servers.server import Server
from support.timeouts import RECOVERY_TIMEOUT

CHANNEL = "soak"
BATCH = 50
PERIOD = 0.1
"""Seconds between batches: 500 a second."""
BETWEEN_FAULTS = 5.0
"""Seconds of undisturbed traffic on the average."""
KINDS = (*NETWORK, "terminate", "server freeze")
"""No crash of the server: the outcome of each COMMIT must be known."""


class Sample(NamedTuple):
    """What the process has at one moment."""

    second: float
    rss: float
    """Bytes."""
    descriptors: float
    greenlets: float
    objects: float
    """Objects that the garbage collector tracks."""


LIMITS = {
    # Share of the beginning, and what comes on top: memory is had in arenas, and a fault holds some of each.
    "rss": (0.03, 2 * 2**20),
    "descriptors": (0.0, 2.0),
    "greenlets": (0.0, 3.0),
    "objects": (0.0, 500.0),
}
"""By how much a figure may be larger in the end than in the beginning: a share of it, and so many."""


def growth(samples: Sequence[Sample], what: str) -> tuple[float, float, float]:
    """Return the beginning's level, by how much the end's is above it, and the line's rise over all.

    A level is the median of a quarter: what a fault holds at the moment does not count.
    """
    figures = [float(getattr(sample, what)) for sample in samples]
    quarter = max(1, len(figures) // 4)
    first, last = statistics.median(figures[:quarter]), statistics.median(figures[-quarter:])
    seconds = [sample.second for sample in samples]
    slope = statistics.linear_regression(seconds, figures).slope
    return first, last - first, slope * (seconds[-1] - seconds[0])


def not_flat(samples: Sequence[Sample]) -> list[str]:
    """Return what has grown over its limit, by level and by slope: one alone may be an outlier's doing."""
    found = []
    for what, (share, extra) in LIMITS.items():
        level, more, rise = growth(samples, what)
        if min(more, rise) > level * share + extra:
            found.append(f"{what} grew from {level:.0f} by {more:.0f} (slope: {rise:.0f} over all)")
    return found


class Forgetful(History):
    """A history that keeps no records: kept, they would look like a leak."""

    def note(self, *records: Record) -> None:
        pass


class Soak:
    """A listener, its sender and consumer, and the greenlet that takes the samples."""

    def __init__(self, listener: Listener, server: Server, faults: Faults, seconds: float) -> None:
        self.sent = self.received = self.missing = self.markers = 0
        self.mistakes: list[str] = []
        self._newest = -1
        # Plain tuples of numbers: the garbage collector, whose objects are counted, does not track them.
        self._samples: list[tuple[float, ...]] = []
        self._listener = listener
        self._server = server
        self._faults = faults
        self._seconds = seconds
        self._stopping = Event()
        self._arrived = Event()
        self._process = psutil.Process()

    def run(self, seed: int) -> None:
        """Soak, then wait until the last that was sent has come; returns with the listener closed."""
        self._listener.listen(CHANNEL, RECOVERY_TIMEOUT)
        consuming = gevent.spawn(self._consume)
        others: list[gevent.Greenlet[..., Any]] = [gevent.spawn(run) for run in (self._send, self._sample)]
        others.append(gevent.spawn(self._disturb, seed))
        try:
            self._stopping.wait(self._seconds)
            self._stopping.set()
            gevent.joinall(others, timeout=RECOVERY_TIMEOUT, raise_error=True)
            self._flow()
        finally:
            self._listener.close()
            gevent.killall(others)
            consuming.get(timeout=RECOVERY_TIMEOUT)

    def _send(self) -> None:
        sql = f"SELECT count(pg_notify('{CHANNEL}', (%s + i)::text)) FROM generate_series(0, {BATCH - 1}) i"
        due = time.monotonic()
        while not self._stopping.is_set():
            self._server.query(sql, self.sent)
            self.sent += BATCH
            due += PERIOD
            self._stopping.wait(max(0.0, due - time.monotonic()))

    def _consume(self) -> None:
        expected, gap = 0, False
        for item in self._listener:
            if item is None:
                self.markers += 1
                gap = True
                self._arrived.set()
                continue
            number = int(item.payload)
            self.received += 1
            if number < expected or (number > expected and not gap):
                self.mistakes.append(f"{number} came where {expected} was due")
            self.missing += max(0, number - expected)
            expected, gap = number + 1, False
            self._newest = number
            self._arrived.set()

    def _disturb(self, seed: int) -> None:
        rng = random.Random(f"{seed} pauses")
        for planned in plan(seed, "soak", KINDS, self._seconds):
            if self._stopping.wait(rng.uniform(0.0, 2 * BETWEEN_FAULTS)):
                return
            self._faults.carry_out([planned])

    def _sample(self) -> None:
        # What is there after this has been there once for all.
        warm_up = min(30.0, self._seconds / 5)
        started = time.monotonic()
        self._stopping.wait(warm_up)
        while not self._stopping.wait(1.0):
            # Collects first.
            living = len(greenlets())
            now, rss = time.monotonic() - started, self._process.memory_info().rss
            self._samples.append((now, rss, len(descriptors()), living, len(gc.get_objects())))

    def _flow(self) -> None:
        """Show that a notification sent now arrives, whichever connection is left."""
        for _ in range(20):
            try:
                self._listener.wait_connected(RECOVERY_TIMEOUT)
                self._listener.ping(RECOVERY_TIMEOUT)
            except (pglisten.NotConnected, pglisten.ConnectionLost):
                continue
            last, markers = self.sent, self.markers
            # Before it is sent: it may come before the server's answer.
            self.sent += 1
            self._server.notify(CHANNEL, str(last))
            if self._came(last, markers):
                return
        self.mistakes.append("notifications do not flow again")

    def _came(self, number: int, markers: int) -> bool:
        """Wait for *number*, or for another marker, which it may be hidden behind; whether it has come."""
        deadline = time.monotonic() + RECOVERY_TIMEOUT
        while self._newest < number and self.markers == markers:
            self._arrived.clear()
            if not self._arrived.wait(max(0.0, deadline - time.monotonic())):
                break
        return self._newest >= number

    @property
    def samples(self) -> list[Sample]:
        """What was measured after the warm-up, once a second."""
        return [Sample(*sample) for sample in self._samples]

    def report(self) -> str:
        """Return one line of figures."""
        stats, faults = self._listener.stats(), self._faults.counts
        parts, samples = [], self.samples
        for what, unit, name in (
            ("rss", 2**20, "RSS in MB"),
            ("descriptors", 1, "descriptors"),
            ("greenlets", 1, "greenlets"),
            ("objects", 1, "objects"),
        ):
            level, more, rise = (figure / unit for figure in growth(samples, what))
            parts.append(f"{name} {level:.1f} {more:+.1f} (slope {rise:+.1f})")
        return (
            f"soak {self._listener.backend}, {self._seconds:g} s: {self.sent} sent, {self.received} "
            f"received, {self.missing} missing with a marker, {self.markers} None; {faults.total()} faults, "
            f"{stats.reconnects} reconnects; {len(samples)} samples, beginning and change: "
            f"{', '.join(parts)}"
        )
