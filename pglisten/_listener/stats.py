"""The figures of a listener."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass(frozen=True)
class Stats:
    """A listener's figures since it was made, or since this process was forked."""

    received: int = 0
    """Notifications that were read and queued."""
    delivered: int = 0
    """Notifications that consumers have taken."""
    dropped: int = 0
    """Notifications that were dropped for newer ones (``overflow="drop_oldest"``)."""
    overflows: int = 0
    """Gap markers put in place of dropped notifications."""
    reconnects: int = 0
    """Connections made after a loss."""
    failed_attempts: int = 0
    """Attempts to connect that failed."""
    queue_depth: int = 0
    """Queued items, gap markers included."""
    connected_since: float | None = None
    """When the present connection was made, in seconds since the epoch; ``None`` while there is none."""
    last_error: Exception | None = None
    """The error of the last failed attempt or loss; ``None`` if there was none."""
    last_ping: float | None = None
    """Seconds that the present connection's last ping or heartbeat took; ``None`` before the first."""
    server_pid: int | None = None
    """Process id of the server process; ``None`` while there is no connection."""
