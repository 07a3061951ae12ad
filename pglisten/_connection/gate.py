"""Holds back a new connection's notifications until its stream may begin."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from greenlet import greenlet

from .._queues import ListenerQueue
from ..backend import Notification

__all__ = ["DeliveryGate"]


class DeliveryGate:
    """Hold the notifications of one connection until `open`, then pass them on to the queue.

    The notifications of a new connection follow the gap marker, which is put after the event callback has
    returned. Until then they wait here, as many as the queue takes: the loop notices a loss only while it
    reads.
    """

    def __init__(self, queue: ListenerQueue) -> None:
        self._queue = queue
        self._open = False
        self._held: list[Notification] = []
        self._put: Callable[[Sequence[Notification]], None] = self._held.extend

    def open(self) -> None:
        """Pass on what was held, and everything from now on."""
        self._open = True
        self._put = self._queue.put
        self._queue.deliver(self._held)
        self._held = []

    def request_room(self, on_room: Callable[[], None]) -> bool:
        """Return whether to read more from the socket now; see `ListenerQueue.request_room`."""
        return self._queue.request_room(on_room) if self._open else len(self._held) < self._queue.size

    def put(self, batch: Sequence[Notification], except_for: Collection[str]) -> None:
        """Pass on *batch* without the notifications on the channels *except_for*. Wakes no consumer."""
        if except_for:
            batch = [notification for notification in batch if notification.channel not in except_for]
        self._put(batch)

    def wake(self) -> None:
        """Wake the consumers that wait."""
        if self._open:
            self._queue.wake()

    def next_consumer(self) -> greenlet | None:
        """Return the consumer to switch to at once after a delivery; see `Queue.next_consumer`."""
        return self._queue.next_consumer() if self._open and self._queue.waiting else None
