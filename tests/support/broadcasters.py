"""What tests of broadcasters share."""

from __future__ import annotations

from typing import Any

from pglisten import Broadcaster, Notification, Subscription
from pglisten.testing import FakeBackend, FakeServer
from support.timeouts import TIMEOUT


def make_fake(server: FakeServer, **options: Any) -> Broadcaster:
    """Return a broadcaster on a server in memory, which comes back at once.

    With a password, no attempt looks for a password file, which takes a thread and turns of the hub.
    """
    return Broadcaster("password=none", backend=FakeBackend(server), min_reconnect_interval=0.001, **options)


def come_in(broadcaster: Broadcaster, channel: str, *payloads: str) -> None:
    """Have notifications come as one read from the server, and all at once."""
    arrived = [Notification(1000, channel, payload) for payload in payloads]
    broadcaster._fan.feed._supervisor.queue.deliver(arrived)


def payloads(subscription: Subscription, count: int) -> list[str | None]:
    """Take *count* items."""
    return [(item := subscription.get(TIMEOUT)) and item.payload for _ in range(count)]


def queue_is_empty(subscription: Subscription, broadcaster: Broadcaster, channel: str) -> bool:
    """Whether what is sent now is the next to come."""
    broadcaster.notify(channel, "fence", TIMEOUT)
    return payloads(subscription, 1) == ["fence"]


def settle(broadcaster: Broadcaster) -> None:
    """Have all that was given back carried out."""
    broadcaster.ping(TIMEOUT)
    broadcaster.ping(TIMEOUT)


def released(broadcaster: Broadcaster) -> bool:
    """Whether no subscription is left, and no channel is listened to."""
    return broadcaster.stats().subscriptions == 0 and broadcaster.channels == frozenset()
