"""Helpers for tests of followers."""

from __future__ import annotations

from pglisten import Entry, EventLog, Follower
from support.servers.server import Server
from support.timeouts import TIMEOUT

__all__ = ["append", "fill", "next_entry", "nothing_before_a_fence", "payloads", "positions", "trim"]


def append(server: Server, log: EventLog, channel: str, *payloads: str) -> None:
    """Insert entries, beside the code under test."""
    server.query(
        f"INSERT INTO {log._names.entries} (channel, payload) SELECT %s, unnest(%s::text[])",
        channel,
        list(payloads),
    )


def fill(server: Server, log: EventLog, count: int, channels: int = 1) -> None:
    """Insert *count* entries in one transaction: payloads 1, 2, …, channels c0, c1, … in turn."""
    server.query(
        f"INSERT INTO {log._names.entries} (channel, payload) "
        f"SELECT 'c' || number % {channels}, number FROM generate_series(1, {count}) AS number"
    )


def trim(server: Server, log: EventLog, through: int) -> None:
    """Remove all entries up to the position *through*, as trim does."""
    names = log._names
    server.query(
        f"WITH gone AS (DELETE FROM {names.positions} WHERE position <= {through} RETURNING id, position), "
        f"entries AS (DELETE FROM {names.entries} USING gone WHERE {names.entries}.id = gone.id) "
        f"UPDATE {names.state} SET trimmed = (SELECT max(position) FROM gone)"
    )


def next_entry(follower: Follower) -> Entry:
    """Return the next item, which is no gap."""
    item = follower.get(TIMEOUT)
    assert item is not None
    return item


def payloads(follower: Follower, count: int) -> list[str | None]:
    """Return the payloads of the next *count* items, ``None`` for a gap."""
    return [(item := follower.get(TIMEOUT)) and item.payload for _ in range(count)]


def positions(follower: Follower, count: int) -> list[int | None]:
    """Return the positions of the next *count* items, ``None`` for a gap."""
    return [(item := follower.get(TIMEOUT)) and item.position for _ in range(count)]


def nothing_before_a_fence(server: Server, log: EventLog, follower: Follower, channel: str) -> bool:
    """Return whether an entry that is appended now is the next to come."""
    append(server, log, channel, "fence")
    return payloads(follower, 1) == ["fence"]
