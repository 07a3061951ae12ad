"""The queue between the connection and its consumers.

Delivering never waits, so that whoever delivers can always answer commands, heartbeats and close. What a
full queue means is the deliverer's business: it asks `has_room` before it reads from the socket
(``overflow="block"``), or delivers all the same and the oldest are dropped (``"drop_oldest"``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

from gevent.event import Event

from ._process import Home
from .backend import Notification
from .errors import Error, OperationTimeout, again


class Mailbox:
    """Notifications and gap markers in order; several greenlets may take, each item goes to one."""

    def __init__(self, size: int, *, drop_oldest: bool = False) -> None:
        self.size = size
        self._drop_oldest = drop_oldest
        self._items: deque[Notification | None] = deque()
        self._arrived = Event()
        self._end: Error | None = None
        self._home = Home()
        self._reader_waits = False
        self.on_room: Callable[[], None] = lambda: None
        """Called when a taker has made room that `has_room` had denied. Must not switch."""
        self.received = 0
        self.dropped = 0
        self.overflows = 0
        """Gap markers put where notifications were dropped."""
        self._markers = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def ended(self) -> Error | None:
        """Why no more is accepted; ``None`` while it is."""
        return self._end

    @property
    def delivered(self) -> int:
        """Notifications that consumers have taken."""
        return self.received - self.dropped - (len(self._items) - self._markers)

    def has_room(self) -> bool:
        """Whether to read more from the socket. If not, ``on_room`` will be called once there is."""
        if self._drop_oldest or len(self._items) < self.size:
            return True
        self._reader_waits = True
        return False

    def deliver(self, batch: Sequence[Notification]) -> None:
        """Append *batch*, of any length, in order."""
        if self._end is not None:
            return
        self._items.extend(batch)
        self.received += len(batch)
        if self._drop_oldest and len(self._items) - self._markers > self.size:
            self._drop()
        self._arrived.set()

    def mark_gap(self) -> None:
        """Append the marker that says that something may have been missed here."""
        if self._end is None:
            self._items.append(None)
            self._markers += 1
            self._arrived.set()

    def end(self, error: Error) -> None:
        """Accept no more: who takes gets what is queued, then *error*."""
        if self._end is None:
            self._end = error
            self._arrived.set()

    def get(self, timeout: float | None) -> Notification | None:
        """Return the next item, or raise `OperationTimeout`, or why there will be none."""
        items = self._items
        if not items:
            deadline = None if timeout is None else time.monotonic() + timeout
            # Another taker may be quicker, so look again after each wake-up.
            while not items:
                if self._end is not None:
                    raise again(self._end)
                self._arrived.clear()
                remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
                arrived = self._arrived.wait(remaining)
                if self._home.forked:
                    items.clear()  # What is queued is the parent's. Somebody will say how it goes on here.
                if not arrived and not items and self._end is None:
                    raise OperationTimeout(f"no notification within {timeout:g} s")
        item = items.popleft()
        if item is None:
            self._markers -= 1
        if self._reader_waits and len(items) < self.size:
            self._reader_waits = False
            self.on_room()
        return item

    def _drop(self) -> None:
        """Drop the oldest notifications over the size, with a marker in their place.

        Markers are never dropped: each stands for one reconnection. One of them among what is dropped
        says already what a new one would.
        """
        items = self._items
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


class Gate:
    """What stands between one connection and the mailbox until the connection's stream may begin.

    A new connection's notifications come after the callback has returned and the gap marker was put. Until
    then they wait here, as many as the mailbox takes: reading on is how another loss is noticed.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._open = False
        self._held: list[Notification] = []

    def open(self) -> None:
        """Let through what was held, and everything from now on."""
        self._open = True
        self._mailbox.deliver(self._held)
        self._held = []

    def has_room(self) -> bool:
        """Whether to read more from the socket now."""
        return self._mailbox.has_room() if self._open else len(self._held) < self._mailbox.size

    def deliver(self, batch: list[Notification], except_for: Collection[str]) -> None:
        """Pass on *batch*, but for the channels that nobody expects anything of."""
        if except_for:
            batch = [notification for notification in batch if notification.channel not in except_for]
        if self._open:
            self._mailbox.deliver(batch)
        else:
            self._held += batch
