"""What one greenlet puts into and others take from, where putting never waits.

Who waits stands in ``waiting`` with its bare greenlet, and takes itself out when it is killed or out of
time. So `wake`, which runs in the hub, finds nobody there who is not asleep in `Queue.wait`; a switch to a
greenlet that waits for something else meanwhile would break it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator

import gevent
from greenlet import getcurrent, greenlet

from ._may_wait import cannot_wait
from .backend import Notification
from .errors import Error, OperationTimeout, copy_for_raise

__all__ = ["Queue", "wake"]

LATE = object()
"""What a timer switches with."""


class Queue:
    """Items in order, ``None`` for a gap; several greenlets may take, each item goes to one.

    Whoever has made sure that there are ``items`` takes from them itself, and whoever appends calls `wake`
    if somebody is ``waiting``. No method switches greenlets but `wait`.
    """

    __slots__ = ("end", "items", "waiting")

    def __init__(self) -> None:
        self.items: deque[Notification | None] = deque()
        self.end: Error | None = None
        """Why nothing more comes; what is queued can still be taken."""
        self.waiting: list[greenlet] = []

    def finish(self, error: Error) -> None:
        """Let nothing more in: who takes gets what is queued, then *error*. The first one counts."""
        if self.end is None:
            self.end = error
            self.wake()

    def wake(self) -> None:
        """Have those who wait look again."""
        if self.waiting:
            gevent.get_hub().loop.run_callback(wake, iter((self,)))

    def next_taker(self) -> greenlet | None:
        """Return a greenlet that waits, if there is something to take: it has to be switched to at once."""
        if not self.items or not self.waiting:
            return None
        taker = self.waiting.pop(0)
        if self.waiting:
            self.wake()
        return taker

    def wait(self, timeout: float | None) -> None:
        """Wait for an item. Raises `OperationTimeout` after *timeout* seconds, or why there will be none.

        With 0 it waits for one turn of the event loop: a consumer that polls must let others run. In the
        event loop itself it looks, and raises `Error` where it would have to wait.
        """
        if self.items:
            return
        hub, me, waiting = gevent.get_hub(), getcurrent(), self.waiting
        if me is hub and timeout != 0 and self.end is None:
            raise cannot_wait()
        late, timer = me is hub, None
        try:
            if timeout is not None and not late:
                # As in gevent's own waits: what has arrived by then comes before the end of the time.
                timer = hub.loop.timer(timeout, priority=-1)
                timer.start(me.switch, LATE, update=True)
            # Another taker may be quicker, so look again after each wake-up.
            while not self.items:
                if self.end is not None:
                    raise copy_for_raise(self.end)
                if late:
                    raise OperationTimeout(f"no notification within {timeout:g} s")
                waiting.append(me)
                late = hub.switch() is LATE
        finally:
            if timer is not None:
                timer.close()
            # Late or killed; who was woken is out of there.
            if waiting and me in waiting:
                waiting.remove(me)
            # Or it would keep what it dies of, and that would keep this frame: a cycle with who waits.
            del me


def wake(queues: Iterator[Queue]) -> None:
    """Switch to those who wait at *queues*, as far as there is something; in the hub.

    One callback for many, since each costs as they do.
    """
    for queue in queues:
        waiting, items = queue.waiting, queue.items
        try:
            while waiting and (items or queue.end is not None):
                waiting.pop(0).switch()
        except BaseException:
            # Out of one of them, and reported by the hub. The others are woken all the same.
            gevent.get_hub().loop.run_callback(wake, itertools.chain((queue,), queues))
            raise
