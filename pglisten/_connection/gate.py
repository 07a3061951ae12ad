"""What stands between one connection and the listener's queue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from greenlet import greenlet

from .._mailbox import ListenerQueue
from ..backend import Notification

__all__ = ["DeliveryGate"]


class DeliveryGate:
    """What stands between one connection and the queue until the connection's stream may begin.

    A new connection's notifications come after the callback has returned and the gap marker was put. Until
    then they wait here, as many as the queue takes: reading on is how another loss is noticed.
    """

    def __init__(self, queue: ListenerQueue) -> None:
        self._queue = queue
        self._open = False
        self._held: list[Notification] = []
        self._put: Callable[[Sequence[Notification]], None] = self._held.extend

    def open(self) -> None:
        """Let through what was held, and everything from now on."""
        self._open = True
        self._put = self._queue.put
        self._queue.deliver(self._held)
        self._held = []

    def request_room(self, on_room: Callable[[], None]) -> bool:
        """Return whether to read more from the socket now; see `ListenerQueue.request_room`."""
        return self._queue.request_room(on_room) if self._open else len(self._held) < self._queue.size

    def put(self, batch: Sequence[Notification], except_for: Collection[str]) -> None:
        """Pass on *batch*, but for the channels that nobody expects anything of. Wakes nobody."""
        if except_for:
            batch = [notification for notification in batch if notification.channel not in except_for]
        self._put(batch)

    def wake(self) -> None:
        """Have takers look at what was delivered."""
        if self._open:
            self._queue.wake()

    def next_taker(self) -> greenlet | None:
        """Return who is to be switched to at once, after a delivery: see `Queue.next_taker`."""
        return self._queue.next_taker() if self._open and self._queue.waiting else None
