"""Where a reader gets its pages: the broadcaster's session."""

from __future__ import annotations

from .._connection.live import LiveConnection
from ..broadcast import Broadcaster, connection_of
from .statements import REPLY_LIMIT, Page, Query

__all__ = ["Source"]


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
            self._connection = connection_of(self._broadcaster)
        return query.read(self._connection.fetch_prepared(query.name, query.prepare, query.sql, REPLY_LIMIT))
