"""A time limit for one wait after another, with one timer.

To start and stop a timer is a good part of the cost of a short wait. A thousand event streams wait for each
notification, and seldom is one of these waits over its time. So the timer runs on from wait to wait. When it
fires, it looks whether the wait of that moment has had its time.
"""

from __future__ import annotations

import time
from typing import Any

import gevent
from greenlet import greenlet

__all__ = ["LATE", "Alarm", "timer_for"]

LATE = object()
"""What a wait whose time is over gets from ``hub.switch()``."""


class Alarm:
    """Wake the greenlet that waits, one at a time, when its wait takes too long."""

    __slots__ = ("_ends_at", "_fires_at", "_timer", "_waiting")

    # Tests of applications may freeze time: they replace what a module calls time.monotonic.
    _now = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._waiting: greenlet | None = None
        self._ends_at = 0.0
        """When the time of ``_waiting`` is over."""
        self._timer: Any = None
        self._fires_at = 0.0

    @property
    def free(self) -> bool:
        """Whether it can serve another wait."""
        return self._waiting is None

    def start(self, waiting: greenlet, seconds: float) -> None:
        """Have the hub switch to *waiting* with ``LATE`` after *seconds*, unless `end` is called before.

        Until then *waiting* must be in the hub, in no other wait.
        """
        self._ends_at = self._now() + seconds
        timer = self._timer
        if timer is None or self._fires_at > self._ends_at:
            timer = self._start_timer(seconds)
        # Last: a signal handler may raise before, and then there is nothing to end.
        self._waiting = waiting
        timer.ref = True

    def end(self, waiting: greenlet) -> None:
        """Note that a wait of *waiting* has ended, if this serves it."""
        if self._waiting is waiting:
            self._waiting = None
            timer = self._timer
            if timer is not None:
                # The timer alone must not keep a program running, nor a forked child.
                timer.ref = False

    def stop(self) -> None:
        """Stop the timer, because there will be no more waits."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.close()

    def _start_timer(self, seconds: float) -> Any:
        self.stop()
        self._fires_at = self._now() + seconds
        self._timer = timer = timer_for(seconds)
        timer.ref = False
        timer.start(self._fired, update=True)
        return timer

    def _fired(self) -> None:
        self.stop()
        if self._waiting is None:
            return
        left = self._ends_at - self._now()
        if left > 0:
            self._start_timer(left).ref = True
        else:
            self._waiting.switch(LATE)


def timer_for(seconds: float) -> Any:
    """Return a timer of this thread's event loop. It is not started."""
    # Low priority, as in gevent's own waits: an item that has arrived by then comes first.
    return gevent.get_hub().loop.timer(seconds, priority=-1)
