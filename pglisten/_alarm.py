"""A time limit for one wait after another, with one timer.

To start and stop a timer is a good part of the cost of a short wait. A thousand event streams wait for each
notification, and seldom is one of these waits over its time. So the timer runs on from wait to wait. When it
fires, it looks whether the wait of that moment has had its time.
"""

from __future__ import annotations

import time
from typing import Any, Protocol

import gevent
from greenlet import greenlet

__all__ = ["LATE", "Alarm", "Limit"]

LATE = object()
"""What a wait whose time is over gets from ``hub.switch()``."""

SHORT = 1.0
"""Seconds up to which a wait has a timer of its own, which ends with it."""


class Limit(Protocol):
    """The time limit of one wait."""

    def close(self) -> None:
        """Note that the wait has ended."""


class Alarm:
    """Wake greenlets that wait too long: one by a timer that runs on, others by timers of their own."""

    __slots__ = ("_ends_at", "_fires_at", "_timer", "_waiting")

    def __init__(self) -> None:
        self._waiting: greenlet | None = None
        self._ends_at = 0.0
        """When the time of ``_waiting`` is over, of the monotonic clock."""
        self._timer: Any = None
        self._fires_at = 0.0

    def limit(self, waiting: greenlet, seconds: float) -> Limit:
        """Have the hub switch to *waiting* with ``LATE`` after *seconds*. The caller closes the result.

        Until then *waiting* must be in the hub, in no other wait.
        """
        if seconds <= SHORT or self._waiting is not None:
            timer: Any = _timer(seconds)
            timer.start(waiting.switch, LATE, update=True)
            return timer  # type: ignore[no-any-return]
        self._waiting, self._ends_at = waiting, time.monotonic() + seconds
        if self._timer is None or self._fires_at > self._ends_at:
            self.stop()
            self._start(seconds)
        return self

    def close(self) -> None:
        """Note that the wait has ended."""
        self._waiting = None

    def stop(self) -> None:
        """Stop the timer, because there will be no more waits."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.close()

    def _start(self, seconds: float) -> None:
        self._fires_at = time.monotonic() + seconds
        self._timer = _timer(seconds)
        self._timer.start(self._fired, update=True)

    def _fired(self) -> None:
        self.stop()
        if self._waiting is None:
            return
        left = self._ends_at - time.monotonic()
        if left > 0:
            self._start(left)
        else:
            self._waiting.switch(LATE)


def _timer(seconds: float) -> Any:
    # Low priority, as in gevent's own waits: an item that has arrived by then comes first.
    return gevent.get_hub().loop.timer(seconds, priority=-1)
