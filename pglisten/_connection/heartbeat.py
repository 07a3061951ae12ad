"""When to ping the server, and how long its answer may take. Pure: each method is given the time.

All times are seconds on one monotonic clock, which the caller reads.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Heartbeat", "Liveness"]


class Heartbeat(NamedTuple):
    """The two settings of a heartbeat, in seconds above 0."""

    interval: float
    """Seconds between the reply to a heartbeat and the next heartbeat."""
    timeout: float
    """Seconds without a reply to the ping after which the connection counts as lost."""


class Liveness:
    """What one connection knows of its server's life, and what follows from that for the heartbeat.

    A notification is no reply. It also arrives over a connection that is dead in the other direction. While
    the consumer is slow, what is read now may have arrived long before the connection died.
    """

    __slots__ = ("_heartbeat", "_last_beat", "last_received")

    def __init__(self, heartbeat: Heartbeat | None, now: float) -> None:
        self._heartbeat = heartbeat
        self._last_beat = now
        """When the server last replied to a heartbeat: both directions were alive, and it still listened."""
        self.last_received = now
        """When the server last sent anything: a reply or a notification."""

    @property
    def query_timeout(self) -> float | None:
        """Seconds that the reply to a query of this package may take; ``None``: no limit.

        No query is given less time than a silent server has from its last reply to the end of a heartbeat.
        """
        return None if self._heartbeat is None else self._heartbeat.interval + self._heartbeat.timeout

    def replied(self, now: float) -> None:
        """Note that the server has replied at *now*."""
        self.last_received = now

    def beaten(self, now: float) -> None:
        """Note that the server has replied to a heartbeat at *now*."""
        self._last_beat = now

    def ping_due_in(self, now: float) -> float | None:
        """Return the seconds until the next ping; it is due from 0 down. ``None`` without a heartbeat.

        A reply to a command does not put it off: it proves that the server lives, not that it still listens.
        """
        return None if self._heartbeat is None else self._last_beat + self._heartbeat.interval - now

    def ping_timeout(self, now: float) -> float | None:
        """Return the seconds that the reply to a ping sent at *now* may take; ``None`` without a heartbeat.

        While notifications arrive, the reply queues behind all that are on their way. So it may take as long
        as the reply to a query, counted from the last arrival.
        """
        if self._heartbeat is None:
            return None
        return max(self._heartbeat.timeout, self.last_received + sum(self._heartbeat) - now)

    @property
    def unanswered(self) -> str:
        """Why the connection counts as lost if no reply to a ping arrives within `ping_timeout`.

        That may be longer than the number in this text, which is the one that the user set.
        """
        assert self._heartbeat is not None
        return f"the server did not answer a query within {self._heartbeat.timeout:g} s"
