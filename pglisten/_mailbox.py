"""The queue between the connection and its consumers.

Delivering never waits, so that whoever delivers can always answer commands, heartbeats and close. What a
full queue means is the deliverer's business: it calls `request_room` before it reads from the socket
(``overflow="block"``), or delivers all the same and the oldest are dropped (``"drop_oldest"``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._ownership import abandon_after_fork
from ._queues import Queue
from .backend import Notification


class ListenerQueue(Queue):
    """Notifications and gap markers in order.

    A taker takes from ``items`` itself, and calls `taken` for a marker, and where there is an ``on_room``.
    """

    def __init__(self, size: int, *, drop_oldest: bool = False) -> None:
        super().__init__()
        self.size = size
        self._drop_oldest = drop_oldest
        self.on_room: Callable[[], None] | None = None
        """Called, once, when a taker has made the room that `request_room` had denied."""
        self.received = 0
        self.dropped = 0
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
        if self._drop_oldest or len(self.items) < self.size:
            return True
        self.on_room = on_room
        return False

    def deliver(self, batch: Sequence[Notification]) -> None:
        """Append *batch*, of any length, in order, and wake takers."""
        self.put(batch)
        self.wake()

    def put(self, batch: Sequence[Notification]) -> None:
        """Append *batch* and wake nobody: what follows is `Queue.wake`, or a switch to `Queue.next_taker`."""
        if self.end is not None:
            return
        self.items.extend(batch)
        self.received += len(batch)
        if self._drop_oldest and len(self.items) - self._markers > self.size:
            self._drop()

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
            self.taken(item)
        return item

    def taken(self, item: Notification | None) -> None:
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

    def _drop(self) -> None:
        """Drop the oldest notifications over the size, with a marker in their place.

        Markers are never dropped: each stands for one reconnection. One of them among what is dropped
        says already what a new one would.
        """
        items = self.items
        passed = 0
        while len(items) - self._markers + passed > self.size:
            if items.popleft() is None:
                passed += 1
            else:
                self.dropped += 1
        if not passed and items[0] is not None:
            passed = 1
            self._markers += 1
            self.overflows += 1
        items.extendleft([None] * passed)
