"""What `Broadcaster.stats` returns."""

from __future__ import annotations

from dataclasses import dataclass

from .._listener.stats import Stats

__all__ = ["BroadcasterStats"]


@dataclass(frozen=True)
class BroadcasterStats(Stats):
    """The figures of the broadcaster's listener, of its subscriptions and of its consumers."""

    subscriptions: int = 0
    """Open subscriptions: the server has acknowledged the channels with which they began."""
    subscriptions_dropped: int = 0
    """Notifications for which a subscription's queue had no room, closed subscriptions included."""
    subscriptions_waiting: int = 0
    """Calls of ``subscribe()`` that wait for the server's acknowledgement."""
    consumers: int = 0
    """Functions of ``on()`` that run in this process."""
    consumer_failures: int = 0
    """How often one of them has failed, and has begun again."""
