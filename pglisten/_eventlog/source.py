"""Queries over a broadcaster's session: where a reader gets its pages."""

from __future__ import annotations

import contextlib

from .._completion import check_timeout
from .._connection.live import LiveConnection
from .._consumers.registry import Consumers
from .._deadline import Deadline
from ..broadcast import Broadcaster
from ..errors import Error, ServerError
from .missing import NO_TABLE, missing_sql, no_state, with_remedy
from .names import LogNames
from .statements import REPLY_LIMIT, Page, Query, has_state

__all__ = ["Source", "consumers_of", "fetch"]


class Source:
    """Run queries over the session of *broadcaster*."""

    def __init__(self, broadcaster: Broadcaster, names: LogNames) -> None:
        self._broadcaster = broadcaster
        self._names = names
        self._connection: LiveConnection | None = None
        """The last one. It is looked up again when it has ended."""

    def read(self, query: Query) -> Page:
        """Return the page that *query* reads.

        Raises `NotConnected`, `ConnectionLost` or `ServerError`.
        """
        if self._connection is None or self._connection.cause is not None:
            self._connection = _connection(self._broadcaster, Deadline(None))
        connection = self._connection
        try:
            rows = connection.fetch_prepared(query.name, query.prepare, query.sql, REPLY_LIMIT)
        except ServerError as error:
            raise _explained(error, self._names, connection, REPLY_LIMIT, Deadline(None)) from error
        if not has_state(rows):
            raise no_state(self._names)
        return query.read(rows)


def fetch(
    broadcaster: Broadcaster, names: LogNames, sql: str, limit: float, timeout: float | None = None
) -> list[tuple[str | None, ...]]:
    """Run *sql* for the log of *names* over the connection of *broadcaster*; see `LiveConnection.fetch`.

    If this is the first use, it first waits until an attempt to connect has succeeded or failed.
    """
    timeout = check_timeout(timeout)
    deadline = Deadline(timeout)
    connection = _connection(broadcaster, deadline)
    try:
        return connection.fetch(sql, limit, deadline.remaining(), stated=timeout)
    except ServerError as error:
        raise _explained(error, names, connection, limit, deadline) from error


def _explained(
    error: ServerError, names: LogNames, connection: LiveConnection, limit: float, deadline: Deadline
) -> ServerError:
    """Return *error*; if it is about a table that is missing, with a hint that asks for another query."""
    if error.sqlstate == NO_TABLE:
        # If this fails, the first error tells more.
        with contextlib.suppress(Error):
            (row,) = connection.fetch(missing_sql(names), limit, deadline.remaining())
            return with_remedy(error, names, row)
    return error


def consumers_of(broadcaster: Broadcaster) -> Consumers:
    """Return the consumers that ``start()`` of *broadcaster* starts."""
    return broadcaster._consumers  # pyright: ignore[reportPrivateUsage]


def _connection(broadcaster: Broadcaster, deadline: Deadline) -> LiveConnection:
    return broadcaster._connection_by(deadline)  # pyright: ignore[reportPrivateUsage]
