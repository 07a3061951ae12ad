"""What one greenlet puts into and others take from, where putting never waits.

Delivering never waits, so that whoever delivers can always answer commands, heartbeats and close. There
may be ten thousand subscriptions in one process, most of them idle, and all reached by one notification: so a
queue is small, and a greenlet that waits costs the others nothing.

Consumers take from ``items`` themselves, and producers append to them: a method call for each notification is
measurable. What else they then have to do stands in each class.

Who waits stands in ``waiting`` with its bare greenlet, and takes itself out when it is killed or out of
time. So `wake`, which runs in the hub, finds nobody there who is not asleep in `Queue.wait`; a switch to a
greenlet that waits for something else meanwhile would break it.
"""

from __future__ import annotations

import enum
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import gevent
from gevent.hub import Waiter
from greenlet import getcurrent, greenlet

from ._may_wait import cannot_wait
from ._ownership import abandon_after_fork
from .backend import Notification
from .errors import Error, OperationTimeout, SubscriptionOverflow, copy_for_raise

__all__ = ["ListenerQueue", "Overflow", "Queue", "SubscriptionQueue", "wake"]

LATE = object()
"""What a timer switches with."""


class Queue:
    """Items in order, ``None`` for a gap; several greenlets may take, each item goes to one.

    What appends to ``items`` itself calls `wake` if a greenlet is ``waiting``. No method switches greenlets
    but `wait`.
    """

    __slots__ = ("dropped", "end", "items", "size", "waiting")

    def __init__(self, size: int) -> None:
        self.size = size
        """Notifications for which there is room."""
        self.items: deque[Notification | None] = deque()
        self.dropped: int = 0
        """Notifications for which there was none."""
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

    def next_consumer(self) -> greenlet | None:
        """Return a greenlet that waits, if there is something to take: it has to be switched to at once."""
        if not self.items or not self.waiting:
            return None
        consumer = self.waiting.pop(0)
        if self.waiting:
            self.wake()
        return consumer

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
            # Another consumer may be quicker, so look again after each wake-up.
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

    def _drop_oldest(self, count: int, *, merge: bool) -> bool:
        """Drop the oldest *count* notifications, with a marker in their place; return whether that is new.

        A marker before, among or behind them says already what a new one would. With *merge* one stays of
        those that nothing stands between any more, else all.
        """
        items, passed = self.items, 0
        while count:
            if items.popleft() is None:
                passed += 1
            else:
                count -= 1
                self.dropped += 1
        needed = 0 if items and items[0] is None else 1
        items.extendleft([None] * (needed if merge else passed or needed))
        return bool(needed and not passed)


class ListenerQueue(Queue):
    """Notifications and gap markers in order.

    A consumer that takes from ``items`` itself calls `consumed` for a marker, and if there is an ``on_room``.
    """

    def __init__(self, size: int, *, drop_oldest: bool = False) -> None:
        super().__init__(size)
        self._drops_oldest = drop_oldest
        self.on_room: Callable[[], None] | None = None
        """Called, once, when a consumer has made the room that `request_room` had denied."""
        self.received = 0
        self.overflows = 0
        """Gap markers put where notifications were dropped."""
        self._markers = 0
        abandon_after_fork(self)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def delivered(self) -> int:
        """Notifications that consumers have taken."""
        return self.received - self.dropped - (len(self.items) - self._markers)

    def request_room(self, on_room: Callable[[], None]) -> bool:
        """Return whether to read more from the socket. If not, *on_room* is called once there is room.

        Only the last request counts. *on_room* must not switch greenlets.
        """
        if self._drops_oldest or len(self.items) < self.size:
            return True
        self.on_room = on_room
        return False

    def deliver(self, batch: Sequence[Notification]) -> None:
        """Append *batch*, of any length, in order, and wake consumers."""
        self.put(batch)
        self.wake()

    def put(self, batch: Sequence[Notification]) -> None:
        """Append *batch* and wake no consumer: the caller calls `wake`, or switches to `next_consumer`."""
        if self.end is not None:
            return
        self.items.extend(batch)
        self.received += len(batch)
        if self._drops_oldest and (excess := len(self.items) - self._markers - self.size) > 0:
            # Each marker stands for one reconnection, so all are kept.
            added = self._drop_oldest(excess, merge=False)
            self._markers += added
            self.overflows += added

    def mark_gap(self) -> None:
        """Append the marker that says that something may have been missed here."""
        if self.end is None:
            self.items.append(None)
            self._markers += 1
            self.wake()

    def get(self, timeout: float | None) -> Notification | None:
        """Return the next item, or raise `OperationTimeout`, or why there will be none."""
        if not self.items:
            self.wait(timeout)
        item = self.items.popleft()
        if item is None or self.on_room:
            self.consumed(item)
        return item

    def consumed(self, item: Notification | None) -> None:
        """Take note that *item* was taken."""
        if item is None:
            self._markers -= 1
        if self.on_room and len(self.items) < self.size:
            on_room, self.on_room = self.on_room, None
            on_room()

    def abandon(self) -> None:
        """Forget what is queued: it is the parent process's."""
        self.items.clear()
        self._markers = 0
        self.on_room = None


class Overflow(enum.Enum):
    """What becomes of a notification for which there is no room; the values are what users write."""

    DROP_OLDEST = "drop_oldest"
    CLOSE = "close"
    BLOCK = "block"


class SubscriptionQueue(Queue):
    """A queue of at most *size* items.

    The broadcaster appends to ``items`` itself while they are fewer than ``size``. A consumer that takes from
    ``items`` itself calls `make_room` if there is a ``blocked_writer``. No method switches greenlets except
    `wait` and `wait_for_room`.
    """

    __slots__ = ("blocked_writer", "overflow")

    def __init__(self, size: int, overflow: Overflow) -> None:
        super().__init__(size)
        self.overflow = overflow
        self.blocked_writer: Waiter[None] | None = None
        """The broadcaster's own, while it is in `wait_for_room`."""

    def mark_gap(self) -> None:
        """Append a marker, unless the last item is one: it says the same."""
        if self.end is None and not (self.items and self.items[-1] is None):
            self.items.append(None)
            self.wake()

    def put(self, notification: Notification) -> bool:
        """Append *notification*, or do what is to be done without room; return whether it is done with."""
        items = self.items
        # A marker at the head takes nobody's room.
        if len(items) < self.size or (items[0] is None and len(items) == self.size):
            items.append(notification)
            self.wake()
            return True
        if self.overflow is Overflow.BLOCK:
            return False
        if self.overflow is Overflow.CLOSE:
            self.dropped += 1
            self.finish(
                SubscriptionOverflow(
                    f"{self.size} notifications were queued and nobody took them: take them faster, "
                    "or subscribe with a larger queue_size or overflow='drop_oldest'"
                )
            )
            return True
        self._drop_oldest(1, merge=True)
        items.append(notification)
        return True

    def finish(self, error: Error) -> None:
        """Let nothing more in: nor does the broadcaster wait to put it there."""
        super().finish(error)
        self.make_room()

    def wait_for_room(self) -> None:
        """Wait until `make_room` is called: the broadcaster, where `put` has refused (``BLOCK``)."""
        waiter: Waiter[None] = Waiter()
        self.blocked_writer = waiter
        waiter.get()

    def make_room(self) -> None:
        """Have the broadcaster look again, if it waits."""
        blocked_writer, self.blocked_writer = self.blocked_writer, None
        if blocked_writer is not None:
            gevent.get_hub().loop.run_callback(blocked_writer.switch, None)


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
