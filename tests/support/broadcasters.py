"""Helpers for tests of broadcasters."""

from __future__ import annotations

from typing import Any

from pglisten import Broadcaster, Notification, Subscription
from pglisten.testing import FakeBackend, FakeServer
from support.timeouts import TIMEOUT


def make_fake(server: FakeServer, **options: Any) -> Broadcaster:
    """Return a broadcaster on a server in memory that reconnects at once.

    The password saves each attempt the look for a password file, which takes a thread and turns of the hub.
    """
    return Broadcaster("password=none", backend=FakeBackend(server), min_reconnect_interval=0.001, **options)


def come_in(broadcaster: Broadcaster, channel: str, *payloads: str) -> None:
    """Deliver notifications as if one read from the server had brought them."""
    arrived = [Notification(1000, channel, payload) for payload in payloads]
    broadcaster._fan_out.upstream._supervisor.queue.deliver(arrived)


def payloads(subscription: Subscription, count: int) -> list[str | None]:
    """Return the payloads of the next *count* items, ``None`` for a gap."""
    return [(item := subscription.get(TIMEOUT)) and item.payload for _ in range(count)]


def queue_is_empty(subscription: Subscription, broadcaster: Broadcaster, channel: str) -> bool:
    """Return whether a notification that is sent now is the next to come."""
    broadcaster.notify(channel, "fence", TIMEOUT)
    return payloads(subscription, 1) == ["fence"]


def settle(broadcaster: Broadcaster) -> None:
    """Wait until all pending UNLISTENs are carried out."""
    broadcaster.ping(TIMEOUT)
    broadcaster.ping(TIMEOUT)


def released(broadcaster: Broadcaster) -> bool:
    """Return whether no subscription is left and no channel is listened to."""
    return broadcaster.stats().subscriptions == 0 and broadcaster.channels == frozenset()
