"""Queries over a broadcaster's session: where a reader gets its pages."""

from __future__ import annotations

from .._completion import check_timeout
from .._connection.live import LiveConnection
from .._consumers.registry import Consumers
from .._deadline import Deadline
from ..broadcast import Broadcaster
from .statements import REPLY_LIMIT, Page, Query

__all__ = ["Source", "consumers_of", "fetch"]


class Source:
    """Run queries over the session of *broadcaster*."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self._broadcaster = broadcaster
        self._connection: LiveConnection | None = None
        """The last one. It is looked up again when it has ended."""

    def read(self, query: Query) -> Page:
        """Return the page that *query* reads.

        Raises `NotConnected`, `ConnectionLost` or `ServerError`.
        """
        if self._connection is None or self._connection.cause is not None:
            self._connection = _connection(self._broadcaster, Deadline(None))
        return query.read(self._connection.fetch_prepared(query.name, query.prepare, query.sql, REPLY_LIMIT))


def fetch(
    broadcaster: Broadcaster, sql: str, limit: float, timeout: float | None = None
) -> list[tuple[str | None, ...]]:
    """Run *sql* over the connection of *broadcaster*; see `LiveConnection.fetch`.

    If this is the first use, it first waits until an attempt to connect has succeeded or failed.
    """
    timeout = check_timeout(timeout)
    deadline = Deadline(timeout)
    return _connection(broadcaster, deadline).fetch(sql, limit, deadline.remaining(), stated=timeout)


def consumers_of(broadcaster: Broadcaster) -> Consumers:
    """Return the consumers that ``start()`` of *broadcaster* starts."""
    return broadcaster._consumers  # pyright: ignore[reportPrivateUsage]


def _connection(broadcaster: Broadcaster, deadline: Deadline) -> LiveConnection:
    return broadcaster._connection_by(deadline)  # pyright: ignore[reportPrivateUsage]
