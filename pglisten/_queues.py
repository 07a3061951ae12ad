"""The queues between the connection and the consumers: of a listener, and of each subscription.

No producer waits in a queue, except a broadcaster for a subscription with ``overflow="block"``. So the
greenlet that reads the connection can always answer commands, heartbeats and ``close()``.

A consumer takes from ``items`` itself, and a producer may append to ``items`` itself, because a method call
for each notification is measurable. Each class says what they then have to call.

``waiting`` holds the greenlets blocked in `Queue.wait`. Each removes itself when it is killed or times out.
So `wake`, which runs in the hub, never switches to a greenlet that has gone on to wait for something else.
"""

from __future__ import annotations

import enum
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import gevent
from gevent.hub import Waiter
from greenlet import getcurrent, greenlet

from ._alarm import LATE, Alarm, timer_for
from ._completion import timed_out
from ._may_wait import cannot_wait
from ._ownership import abandon_after_fork
from .backend import Notification
from .errors import Error, SubscriptionOverflow, copy_for_raise

__all__ = ["ListenerQueue", "Overflow", "Queue", "SubscriptionQueue", "wake"]


class Queue:
    """Keep items in order, with ``None`` for a gap. Several greenlets may consume; each item goes to one.

    A producer that appends to ``items`` itself calls `wake` if a greenlet is ``waiting``. No method switches
    greenlets except `wait`.
    """

    __slots__ = ("_alarm", "dropped", "end", "items", "size", "waiting")

    def __init__(self, size: int) -> None:
        self.size = size
        """Room, in notifications."""
        self.items: deque[Notification | None] = deque()
        self.dropped: int = 0
        """Notifications for which there was no room."""
        self.end: Error | None = None
        """Why no more items come; ``None`` while they do. Queued items can still be consumed."""
        self.waiting: list[greenlet] = []
        self._alarm = Alarm()

    def finish(self, error: Error) -> None:
        """Accept no more items: consumers get the queued ones, then *error*. The first error counts."""
        if self.end is None:
            self.end = error
            self._alarm.stop()
            self.wake()

    def wake(self) -> None:
        """Have the waiting greenlets look again, in the hub."""
        if self.waiting:
            gevent.get_hub().loop.run_callback(wake, iter((self,)))

    def next_consumer(self) -> greenlet | None:
        """Return a waiting greenlet if there is an item. The caller must switch to it at once."""
        if not (self.items and self.waiting):
            return None
        consumer = self.waiting.pop(0)
        self.wake()
        return consumer

    def wait(self, timeout: float | None, stated: float | None = None) -> None:
        """Wait for an item. Raises `OperationTimeout` after *timeout* seconds (``None``: never), or ``end``.

        0 waits for one turn of the event loop, because a consumer that polls must let others run. In the
        event loop no call can wait: 0 only looks, any other *timeout* raises `Error`. *stated*: for the text.
        """
        if self.items:
            return
        hub, me, waiting = gevent.get_hub(), getcurrent(), self.waiting
        if me is hub and timeout != 0 and self.end is None:
            raise cannot_wait()
        late, timer, alarm = me is hub, None, self._alarm
        try:
            if timeout is not None and not late and self.end is None:
                if alarm.free:
                    alarm.start(me, timeout)
                else:
                    timer = timer_for(timeout)
                    timer.start(me.switch, LATE, update=True)
            # Look again after each wake-up: another consumer may have taken the item.
            while not self.items:
                if self.end is not None:
                    raise copy_for_raise(self.end)
                if late:
                    raise timed_out("no notification", stated or timeout)
                waiting.append(me)
                late = hub.switch() is LATE
        finally:
            alarm.end(me)
            if timer is not None:
                timer.close()
            # It timed out or was killed. A greenlet that was woken has been removed.
            if waiting and me in waiting:
                waiting.remove(me)
            # Break a cycle: frame, greenlet, its exception, traceback, frame.
            del me

    def _drop_oldest(self, count: int, *, merge: bool) -> bool:
        """Drop the oldest *count* notifications, with a marker in their place; return whether it is new.

        A marker before, among or behind them already says that something is missing. If several markers
        adjoin afterwards, *merge* keeps one, otherwise all stay.
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
    """The queue between a connection and its consumers, with room for *size* notifications.

    If it is full, the greenlet that reads the connection decides: it calls `request_room` before it reads
    from the socket (``overflow="block"``). With *drop_oldest*, it reads on and the oldest notifications are
    dropped. A consumer that takes from ``items`` itself calls `consumed` for each marker, and for each item
    while ``on_room`` is set.
    """

    def __init__(self, size: int, *, drop_oldest: bool = False) -> None:
        super().__init__(size)
        self._drops_oldest = drop_oldest
        self.on_room: Callable[[], None] | None = None
        """Called once, when a consumer has made the room that `request_room` had denied."""
        self.received = 0
        """Notifications that were put in."""
        self.overflows = 0
        """Gap markers put in place of dropped notifications."""
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
        granted = self._drops_oldest or len(self.items) < self.size
        if not granted:
            self.on_room = on_room
        return granted

    def deliver(self, batch: Sequence[Notification]) -> None:
        """Append *batch*, of any length, and wake consumers."""
        self.put(batch)
        self.wake()

    def put(self, batch: Sequence[Notification]) -> None:
        """Append *batch* and wake no consumer: the caller calls `wake` or switches to `next_consumer`."""
        if self.end is not None:
            return
        self.items.extend(batch)
        self.received += len(batch)
        if self._drops_oldest and (excess := len(self.items) - self._markers - self.size) > 0:
            # Keep all markers: each stands for one reconnection.
            added = self._drop_oldest(excess, merge=False)
            self._markers += added
            self.overflows += added

    def mark_gap(self) -> None:
        """Append a marker: notifications may be missing here."""
        if self.end is None:
            self.items.append(None)
            self._markers += 1
            self.wake()

    def get(self, timeout: float | None, stated: float | None = None) -> Notification | None:
        """Return the next item; raises what `wait` raises."""
        if not self.items:
            self.wait(timeout, stated)
        item = self.items.popleft()
        if item is None or self.on_room:
            self.consumed(item)
        return item

    def consumed(self, item: Notification | None) -> None:
        """Note that a consumer has taken *item*."""
        if item is None:
            self._markers -= 1
        if self.on_room and len(self.items) < self.size:
            on_room, self.on_room = self.on_room, None
            on_room()

    def abandon(self) -> None:
        """Drop the queued items in a forked child: they are the parent process's."""
        self.items.clear()
        self._markers = 0
        self.on_room = None


class Overflow(enum.Enum):
    """What happens to a notification for which there is no room. The values are the public option's."""

    DROP_OLDEST = "drop_oldest"
    CLOSE = "close"
    BLOCK = "block"


class SubscriptionQueue(Queue):
    """The queue of one subscription, with room for *size* notifications.

    A producer appends to ``items`` itself only while they are fewer than ``size``. A consumer that takes
    from ``items`` itself calls `make_room` while ``blocked_writer`` is set. No method switches greenlets
    except `wait` and `wait_for_room`.
    """

    __slots__ = ("blocked_writer", "overflow")

    def __init__(self, size: int, overflow: Overflow) -> None:
        super().__init__(size)
        self.overflow = overflow
        self.blocked_writer: Waiter[None] | None = None
        """What the broadcaster's greenlet waits with in `wait_for_room`; ``None`` otherwise."""

    def mark_gap(self) -> None:
        """Append a marker, unless the last item is one."""
        if self.end is None and not (self.items and self.items[-1] is None):
            self.items.append(None)
            self.wake()

    def put(self, notification: Notification) -> bool:
        """Append *notification*; without room, apply the overflow policy. Return False if it has to wait."""
        items = self.items
        # A marker at the head takes no room.
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
                    f"{self.size} notifications were queued and one more had no room: consume faster, "
                    "or subscribe with a larger queue_size or overflow='drop_oldest'"
                )
            )
            return True
        self._drop_oldest(1, merge=True)
        items.append(notification)
        return True

    def finish(self, error: Error) -> None:
        """Accept no more items, as in `Queue.finish`; the broadcaster stops waiting for room."""
        super().finish(error)
        self.make_room()

    def wait_for_room(self) -> None:
        """Wait until `make_room` is called. For the broadcaster's greenlet, after `put` returned False."""
        waiter: Waiter[None] = Waiter()
        self.blocked_writer = waiter
        waiter.get()

    def make_room(self) -> None:
        """Have the broadcaster's greenlet try again, if it waits for room."""
        blocked_writer, self.blocked_writer = self.blocked_writer, None
        if blocked_writer is not None:
            gevent.get_hub().loop.run_callback(blocked_writer.switch, None)


def wake(queues: Iterator[Queue]) -> None:
    """Switch to greenlets that wait in *queues*, as long as there are items or an end. Runs in the hub.

    One callback serves many queues, because a callback costs as much as a switch.
    """
    for queue in queues:
        waiting, items = queue.waiting, queue.items
        try:
            while waiting and (items or queue.end is not None):
                waiting.pop(0).switch()
        except BaseException:
            # One of the greenlets raised this, and the hub reports it. Wake the others all the same.
            gevent.get_hub().loop.run_callback(wake, itertools.chain((queue,), queues))
            raise
