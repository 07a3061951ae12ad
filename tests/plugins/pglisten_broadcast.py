"""What tests of broadcasters share."""

from __future__ import annotations

from pglisten import Broadcaster, Subscription

PATIENCE = 20.0
"""Seconds for what takes milliseconds."""


def payloads(subscription: Subscription, count: int) -> list[str | None]:
    """Take *count* items."""
    return [(item := subscription.get(PATIENCE)) and item.payload for _ in range(count)]


def queue_is_empty(subscription: Subscription, broadcaster: Broadcaster, channel: str) -> bool:
    """Whether what is sent now is the next to come."""
    broadcaster.notify(channel, "fence", PATIENCE)
    return payloads(subscription, 1) == ["fence"]


def settle(broadcaster: Broadcaster) -> None:
    """Have all that was given back carried out."""
    broadcaster.ping(PATIENCE)
    broadcaster.ping(PATIENCE)
