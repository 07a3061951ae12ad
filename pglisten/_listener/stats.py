"""The figures of a listener."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .states import State
from .supervisor import Supervisor

__all__ = ["Stats", "stats_of"]


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
    disconnected_for: float | None = None
    """Seconds since the connection was lost, or since this process began to make its first one.

    ``None`` while there is a connection, before the first use, and after ``close()``."""
    last_error: Exception | None = None
    """The error of the last failed attempt or loss; ``None`` if there was none."""
    last_ping: float | None = None
    """Seconds that the present connection's last ping or heartbeat took; ``None`` before the first."""
    server_pid: int | None = None
    """Process id of the server process; ``None`` while there is no connection."""


def stats_of(supervisor: Supervisor) -> Stats:
    """Return the figures of this moment; all are zero in a forked child."""
    if supervisor.owner.forked:
        return Stats()
    connection, queue = supervisor.connection, supervisor.queue
    return Stats(
        received=queue.received,
        delivered=queue.delivered,
        dropped=queue.dropped,
        overflows=queue.overflows,
        reconnects=supervisor.reconnects,
        failed_attempts=supervisor.failed_attempts,
        queue_depth=len(queue),
        connected_since=None if connection is None else supervisor.connected_since,
        disconnected_for=None if connection is not None else _disconnected_for(supervisor),
        last_error=supervisor.last_error,
        last_ping=None if connection is None else connection.last_ping,
        server_pid=None if connection is None else connection.pid,
    )


def _disconnected_for(supervisor: Supervisor) -> float | None:
    if supervisor.since is None or supervisor.state is State.CLOSED:
        return None
    # The supervisor's greenlet has not yet heard of a loss that happened in this turn of the event loop.
    return 0.0 if supervisor.state is State.CONNECTED else time.monotonic() - supervisor.since
