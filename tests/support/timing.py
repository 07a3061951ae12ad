"""Helpers for tests of what happens at one moment, and of how long it takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gevent

from pglisten import Listener
from pglisten.testing import Proxy
from pglisten.testing._proxy import UP

from .timeouts import TIMEOUT


def wait_for_a_failed_attempt(listener: Listener) -> None:
    """Poll until an attempt of *listener* to connect has failed, however busy the machine is."""
    with gevent.Timeout(TIMEOUT):
        while not listener.stats().failed_attempts:
            gevent.sleep(0.001)


def hold_before(between: Proxy, text: bytes) -> None:
    """Let a client's bytes through up to a message with *text*, and hold it and what follows."""
    between.hold(UP)
    while text not in between.held(UP):
        if between.held(UP):
            between.release(UP)
            between.hold(UP)
        between.wait_until(lambda: bool(between.held(UP)), timeout=20)


@dataclass
class Took:
    """How long something took in this thread, in seconds."""

    seconds: float = 0.0
    kept_waiting: float = 0.0
    """Of these: seconds in which it was ready to run but had no CPU. 0 if that is unknown."""

    @property
    def own(self) -> float:
        """Seconds of its own: running, and waiting for something."""
        return self.seconds - self.kept_waiting


@contextlib.contextmanager
def stopwatch() -> Iterator[Took]:
    """Measure a block of code."""
    took, waited, started = Took(), _kept_waiting(), time.monotonic()
    try:
        yield took
    finally:
        took.seconds = time.monotonic() - started
        took.kept_waiting = _kept_waiting() - waited


def _kept_waiting() -> float:
    """Return the seconds that this thread has spent on a run queue (Documentation/scheduler/sched-stats)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9
    except OSError:
        return 0.0
