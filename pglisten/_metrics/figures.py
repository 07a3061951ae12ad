"""The figures that `pglisten.metrics` writes: their names, their meaning, and how those of workers add up.

Counters and gauges are written, because prometheus_client's multiprocess mode calls no collector of ours. The
modes begin with ``live``, so that the figures of a dead worker can be forgotten.
"""

from __future__ import annotations

import contextlib
import math
import os
from functools import cache
from typing import Literal, NamedTuple

from prometheus_client import Counter, Gauge

from .._sse.registry import streams
from ..broadcast import BroadcasterStats

__all__ = [
    "COUNTERS", "GAUGES", "LOG_GAUGES", "STREAMS", "gauges", "multiprocess", "remove_counter", "remove_gauge",
    "write_streams",
]  # fmt: skip

Mode = Literal["livesum", "livemax", "livemostrecent"]


class CounterFigure(NamedTuple):
    """A counter of one broadcaster; a total of all processes."""

    field: str
    """The field of `BroadcasterStats` that it counts."""
    name: str
    help: str

    @property
    def metric(self) -> Counter:
        """prometheus_client's counter. It is made when it is first written, in the process that serves."""
        return _counter(self.name, self.help)


class GaugeFigure(NamedTuple):
    """A gauge of one broadcaster."""

    name: str
    help: str
    mode: Mode

    @property
    def metric(self) -> Gauge:
        """prometheus_client's gauge; see `CounterFigure.metric`."""
        return _gauge(self.name, self.help, self.mode, ("name",))


class LogFigure(NamedTuple):
    """A gauge of an event log. Each process reads the same: the newest reading counts."""

    name: str
    help: str
    labels: tuple[str, ...]

    @property
    def metric(self) -> Gauge:
        """prometheus_client's gauge; see `CounterFigure.metric`."""
        return _gauge(self.name, self.help, "livemostrecent", self.labels)


COUNTERS = (
    CounterFigure(
        "received", "pglisten_notifications_received_total", "Notifications that were read and queued"
    ),
    CounterFigure(
        "dropped",
        "pglisten_notifications_dropped_total",
        "Notifications for which the listener's queue had no room",
    ),
    CounterFigure(
        "subscriptions_dropped",
        "pglisten_subscription_notifications_dropped_total",
        "Notifications for which a subscription's queue had no room",
    ),
    CounterFigure("reconnects", "pglisten_reconnects_total", "Connections that were made after a loss"),
    CounterFigure("failed_attempts", "pglisten_failed_attempts_total", "Attempts to connect that failed"),
    CounterFigure("consumer_failures", "pglisten_consumer_failures_total", "Failures of functions of on()"),
)

STARTED = GaugeFigure(
    "pglisten_started", "Processes that use the broadcaster, and so should be connected", "livesum"
)
CONNECTED = GaugeFigure(
    "pglisten_connected", "Processes that are connected and listen to all channels", "livesum"
)
DISCONNECTED = GaugeFigure(
    "pglisten_disconnected_seconds",
    "Time without a connection, in the process where it is longest; 0 if all are connected",
    "livemax",
)
QUEUE = GaugeFigure(
    "pglisten_queue_depth", "Items in the listener's queue, in the process where there are most", "livemax"
)
SUBSCRIPTIONS = GaugeFigure("pglisten_subscriptions", "Open subscriptions", "livesum")
CONSUMERS = GaugeFigure("pglisten_consumers", "Functions of on() that run", "livesum")
GAUGES = (STARTED, CONNECTED, DISCONNECTED, QUEUE, SUBSCRIPTIONS, CONSUMERS)

STREAMS = "pglisten_streams"

LOG_POSITION = LogFigure("pglisten_log_position", "The newest position of the event log", ("name", "log"))
LOG_LAG = LogFigure(
    "pglisten_log_consumer_lag",
    "Positions of the event log that the consumer has not consumed",
    ("name", "log", "consumer"),
)
LOG_READ = LogFigure(
    "pglisten_log_read_timestamp_seconds",
    "When the position and the lags of the event log were last read, since the epoch",
    ("name", "log"),
)
LOG_GAUGES = (LOG_POSITION, LOG_LAG, LOG_READ)


def gauges(stats: BroadcasterStats) -> dict[GaugeFigure, float]:
    """Return the values of all gauges of a broadcaster."""
    connected = stats.connected_since is not None
    return {
        STARTED: connected or stats.disconnected_for is not None,
        CONNECTED: connected,
        DISCONNECTED: stats.disconnected_for or 0.0,
        QUEUE: stats.queue_depth,
        SUBSCRIPTIONS: stats.subscriptions,
        CONSUMERS: stats.consumers,
    }


def write_streams() -> None:
    """Write the number of this process's open event streams, which are not those of one broadcaster."""
    _gauge(STREAMS, "Open event streams", "livesum", ()).set(len(streams))


def multiprocess() -> bool:
    """Whether prometheus_client is in its multiprocess mode."""
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ


def remove_counter(figure: CounterFigure, name: str) -> None:
    """Remove the counter of a broadcaster that is closed. In multiprocess mode the total stays."""
    if not multiprocess():
        with contextlib.suppress(KeyError):
            figure.metric.remove(name)


def remove_gauge(figure: GaugeFigure | LogFigure, *labels: str) -> None:
    """Remove a gauge of something that is gone.

    In multiprocess mode the file keeps it until its process has ended. Then 0 adds nothing to a sum, and NaN
    means of a log or a consumer that there is no value.
    """
    if multiprocess():
        figure.metric.labels(*labels).set(math.nan if isinstance(figure, LogFigure) else 0)
    else:
        with contextlib.suppress(KeyError):
            figure.metric.remove(*labels)


@cache
def _counter(name: str, text: str) -> Counter:
    return Counter(name, text, ("name",))


@cache
def _gauge(name: str, text: str, mode: Mode, labels: tuple[str, ...]) -> Gauge:
    return Gauge(name, text, labels, multiprocess_mode=mode)
