"""The queue between the connection and its consumers.

Delivering never waits, so that whoever delivers can always answer commands, heartbeats and close. What a
full queue means is the deliverer's business: it calls `request_room` before it reads from the socket
(``overflow="block"``), or delivers all the same and the oldest are dropped (``"drop_oldest"``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from greenlet import greenlet

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


class DeliveryGate:
    """What stands between one connection and the mailbox until the connection's stream may begin.

    A new connection's notifications come after the callback has returned and the gap marker was put. Until
    then they wait here, as many as the mailbox takes: reading on is how another loss is noticed.
    """

    def __init__(self, mailbox: ListenerQueue) -> None:
        self._mailbox = mailbox
        self._open = False
        self._held: list[Notification] = []
        self._put: Callable[[Sequence[Notification]], None] = self._held.extend

    def open(self) -> None:
        """Let through what was held, and everything from now on."""
        self._open = True
        self._put = self._mailbox.put
        self._mailbox.deliver(self._held)
        self._held = []

    def request_room(self, on_room: Callable[[], None]) -> bool:
        """Return whether to read more from the socket now; see `ListenerQueue.request_room`."""
        return self._mailbox.request_room(on_room) if self._open else len(self._held) < self._mailbox.size

    def put(self, batch: Sequence[Notification], except_for: Collection[str]) -> None:
        """Pass on *batch*, but for the channels that nobody expects anything of. Wakes nobody."""
        if except_for:
            batch = [notification for notification in batch if notification.channel not in except_for]
        self._put(batch)

    def wake(self) -> None:
        """Have takers look at what was delivered."""
        if self._open:
            self._mailbox.wake()

    def next_taker(self) -> greenlet | None:
        """Return who is to be switched to at once, after a delivery: see `Queue.next_taker`."""
        return self._mailbox.next_taker() if self._open and self._mailbox.waiting else None
