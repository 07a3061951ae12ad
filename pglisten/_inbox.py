"""What waits for one subscriber of a broadcaster.

There may be ten thousand in one process, most of them idle and all of them reached by one notification: so
it is small, to put something in never waits, and nobody who is waiting costs the others anything.
"""

from __future__ import annotations

import enum

import gevent
from gevent.hub import Waiter

from ._completion import Completion
from ._queues import Queue
from .backend import Notification
from .errors import Error, SubscriptionOverflow

__all__ = ["Join", "Overflow", "SubscriptionQueue"]


class Overflow(enum.Enum):
    """What becomes of a notification for which there is no room; the values are what users write."""

    DROP_OLDEST = "drop_oldest"
    CLOSE = "close"
    BLOCK = "block"


class Join(Completion):
    """One call that adds channels to an inbox, and waits for the server to acknowledge them."""

    __slots__ = ("missing",)

    def __init__(self) -> None:
        super().__init__()
        self.missing = 0
        """Channels that are not acknowledged."""

    def answered(self, error: Exception | None) -> None:
        """Take note of the server's answer for one of them."""
        self.missing -= 1
        if error is not None or not self.missing:
            self.resolve(error)


class SubscriptionQueue(Queue):
    """A queue of at most *size* items.

    The broadcaster appends to ``items`` itself as long as there is room, and calls `wake` where somebody is
    ``waiting``; a taker takes from ``items`` itself, and calls `make_room` where it is ``wanted``. Anything
    else goes through the methods. None of them switches greenlets but `wait`.
    """

    __slots__ = ("channels", "dropped", "overflow", "size", "wanted")

    def __init__(self, size: int, overflow: Overflow) -> None:
        super().__init__()
        self.size = size
        self.overflow = overflow
        self.channels: dict[str, Join | None] = {}
        """Its channels; while the call that adds one is waiting, with that call."""
        self.dropped = 0
        self.wanted: Waiter[None] | None = None
        """The broadcaster's own, while it waits for room here (``BLOCK``)."""

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
        # A marker before or behind what is dropped stands for it as well.
        if items[0] is None:
            items.popleft()
        if items:
            items.popleft()
            self.dropped += 1
        if not items or items[0] is not None:
            items.appendleft(None)
        items.append(notification)
        return True

    def finish(self, error: Error) -> None:
        """Let nothing more in: nor does the broadcaster wait to put it there."""
        super().finish(error)
        self.make_room()

    def make_room(self) -> None:
        """Have the broadcaster look again, if it waits."""
        wanted, self.wanted = self.wanted, None
        if wanted is not None:
            gevent.get_hub().loop.run_callback(wanted.switch, None)
