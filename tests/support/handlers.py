"""Functions that a broadcaster calls for notifications."""

from __future__ import annotations

import gevent
from gevent.queue import Queue

from pglisten import Broadcaster, Notification
from support.timeouts import TIMEOUT


class Late(gevent.Timeout):
    def __init__(self, text: str) -> None:
        super().__init__(None)


class Seen:
    """A consumer that notes its calls, and raises for some payloads."""

    def __init__(self, *poison: str, error: type[BaseException] = ValueError) -> None:
        self.calls: Queue[str] = Queue()
        self.poison = poison
        self.error = error
        self.gap_fails = 0

    def on_gap(self) -> None:
        self.calls.put("gap")
        if self.gap_fails:
            self.gap_fails -= 1
            raise self.error("the table is away")

    def __call__(self, notification: Notification) -> None:
        self.calls.put(notification.payload)
        if notification.payload in self.poison:
            raise self.error(f"no such order: {notification.payload}")

    def next(self, count: int) -> list[str]:
        return [self.calls.get(timeout=TIMEOUT) for _ in range(count)]


def started(broadcaster: Broadcaster, seen: Seen, *channels: str) -> None:
    """Start *seen* on *channels*, and wait until it listens."""
    broadcaster.on(*channels, on_gap=seen.on_gap)(seen)
    broadcaster.start()
    assert seen.next(1) == ["gap"]
