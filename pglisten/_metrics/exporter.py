"""Writes the figures of one broadcaster, in each process.

The writer is one of the broadcaster's consumers: it begins, ends and forks as the functions of ``on()`` do. A
scrape by `pglisten.metrics.app` writes too. Writing never switches greenlets; only the questions to the
database wait.
"""

from __future__ import annotations

import logging
import os
import random
import time

import gevent

from .._consumers.consumer import Consumer
from .._eventlog import admin
from .._eventlog.source import fetch
from ..broadcast import Broadcaster, BroadcasterStats
from ..errors import Error
from ..eventlog import EventLog
from .figures import (
    COUNTERS,
    GAUGES,
    LOG_LAG,
    LOG_POSITION,
    LOG_READ,
    CounterFigure,
    gauges,
    remove_counter,
    remove_gauge,
    write_streams,
)

__all__ = ["Exporter", "exporters"]

logger = logging.getLogger("pglisten.metrics")

TIMEOUT = 5.0
"""Seconds that a question about a log may wait and take; the figures are not written meanwhile."""

REPLY_LIMIT = 30.0
"""Seconds after which a question that is not answered means that the connection is lost."""


class Exporter:
    """Write the figures of *broadcaster* with the label *name*, every *interval* seconds."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        logs: tuple[EventLog, ...],
        name: str,
        interval: float,
        log_interval: float,
    ) -> None:
        self.name = name
        self._broadcaster = broadcaster
        self._logs = {log: _LogWriter(broadcaster, log, name) for log in logs}
        self._interval = interval
        self._log_interval = log_interval
        self._pid = os.getpid()
        self._written: dict[CounterFigure, int] = {}
        """What the counters have of this process."""

    def add(self) -> None:
        """Have scrapes write too, until the broadcaster is closed."""
        _exporters.append(self)

    @property
    def closed(self) -> bool:
        """Whether there will be no more figures."""
        return self._broadcaster.closed

    def begin(self, consumer: Consumer) -> _Writing:
        """Return the work of this process's writer."""
        return _Writing(self, consumer)

    def write(self) -> None:
        """Write the figures of this moment, unless this is not the broadcaster's thread. Never waits."""
        if self.closed:
            self.end()
        elif self._is_here():
            self._write(self._broadcaster.stats())

    def _is_here(self) -> bool:
        """Whether this thread may write: two at once would count a difference twice."""
        owner = self._broadcaster._fan_out.owner  # pyright: ignore[reportPrivateUsage]
        return owner.is_here or owner.forked

    def _write(self, stats: BroadcasterStats) -> None:
        if self._pid != os.getpid():
            self._pid, self._written = os.getpid(), {}
        for counter in COUNTERS:
            value, before = getattr(stats, counter.field), self._written.get(counter, 0)
            # Note it first: a signal handler may write in between, and each is to be counted once.
            self._written[counter] = value
            counter.metric.labels(self.name).inc(max(0, value - before))
        for gauge, number in gauges(stats).items():
            gauge.metric.labels(self.name).set(number)
        write_streams()

    def end(self) -> None:
        """Write the counters a last time, and remove the figures of this process."""
        if not self._is_here():
            return
        if self.closed and self in _exporters:
            _exporters.remove(self)
        self._write(self._broadcaster.stats())
        for gauge in GAUGES:
            remove_gauge(gauge, self.name)
        for counter in COUNTERS:
            remove_counter(counter, self.name)
        for log in self._logs.values():
            log.end()

    def run(self, consumer: Consumer) -> None:
        """Write until the broadcaster is closed. Runs in a greenlet of the broadcaster's consumers."""
        ask_at = 0.0
        while not self.closed:
            self.write()
            if self._logs and self._broadcaster.connected and time.monotonic() >= ask_at:
                for log in self._logs.values():
                    log.ask()
                    consumer.check()
                # The workers began together, and need not ask together.
                ask_at = time.monotonic() + self._log_interval * random.uniform(0.9, 1.1)  # noqa: S311
            gevent.sleep(self._interval)
            consumer.check()


class _Writing:
    """An exporter's work in one process; see `Work`."""

    def __init__(self, exporter: Exporter, consumer: Consumer) -> None:
        self._exporter = exporter
        self._consumer = consumer

    @property
    def closed(self) -> bool:
        return self._exporter.closed

    def run(self) -> None:
        self._exporter.run(self._consumer)

    def close(self) -> None:
        self._exporter.end()


class _LogWriter:
    """Ask for the position of one log and the lags of its consumers, and write them."""

    def __init__(self, broadcaster: Broadcaster, log: EventLog, name: str) -> None:
        self._broadcaster = broadcaster
        self._names = log._names  # pyright: ignore[reportPrivateUsage]
        self._labels = (name, str(self._names))
        self._consumers: set[str] = set()
        """Those whose lag was written."""
        self._asked = False
        self._failed = False

    def ask(self) -> None:
        """Ask the database, at most `TIMEOUT` seconds. If that fails, the figures stay as they were."""
        try:
            newest, behind = admin.lags(self._fetch, self._names, TIMEOUT)
        except Error as error:
            if not self._failed:
                logger.warning("no figures of event log %s: %s", self._names, error)
            self._failed = True
            return
        self._asked, self._failed = True, False
        LOG_POSITION.metric.labels(*self._labels).set(newest)
        LOG_READ.metric.labels(*self._labels).set(time.time())
        for gone in self._consumers - behind.keys():
            remove_gauge(LOG_LAG, *self._labels, gone)
        self._consumers = set(behind)
        for consumer, lag in behind.items():
            LOG_LAG.metric.labels(*self._labels, consumer).set(lag)

    def _fetch(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        return fetch(self._broadcaster, self._names, sql, REPLY_LIMIT, timeout)

    def end(self) -> None:
        """Remove what was written."""
        if self._asked:
            remove_gauge(LOG_POSITION, *self._labels)
            remove_gauge(LOG_READ, *self._labels)
            for consumer in self._consumers:
                remove_gauge(LOG_LAG, *self._labels, consumer)
            self._consumers, self._asked = set(), False


_exporters: list[Exporter] = []


def exporters() -> list[Exporter]:
    """Return those whose broadcasters are not closed."""
    for each in [each for each in _exporters if each.closed]:
        each.write()  # Ends it.
    return [each for each in _exporters if not each.closed]
