"""A session over an asynchronous psycopg2 connection."""

from __future__ import annotations

import logging
from operator import attrgetter

import psycopg2
from psycopg2.extensions import (
    BYTES,
    TRANSACTION_STATUS_ACTIVE,
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INERROR,
    TRANSACTION_STATUS_INTRANS,
    connection,
    register_type,
)

from pglisten.backend import Notification, make_notifications
from pglisten.errors import ServerError
from pglisten_libpq.reasons import ServerMessage
from pglisten_libpq.session import LibpqSession, Unreadable

from ._libpq import LibpqAccess
from ._wait import poll, step

__all__ = ["Psycopg2Session"]

logger = logging.getLogger("pglisten.psycopg2")

_DONE = {TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR}
"""Transaction states in which the server has sent ReadyForQuery."""

_fields = attrgetter("pid", "channel", "payload")


class Psycopg2Session(LibpqSession):
    """A session over *conn*, an established asynchronous connection that it takes over with its *libpq*."""

    def __init__(self, conn: connection, libpq: LibpqAccess) -> None:
        super().__init__(conn, conn.fileno())
        self.pid = conn.info.backend_pid
        self.server_encoding = conn.info.parameter_status("server_encoding")
        self._connection = conn
        self._libpq = libpq

    def execute(self, sql: str, timeout: float | None) -> None:
        self._run(sql, timeout)

    def fetch(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        cursor = self._run(sql, timeout)
        if cursor.description is None:
            return []
        return self._rows(tuple(map(_text, values)) for values in iter(cursor.fetchone, None))

    def _run(self, sql: str, timeout: float | None) -> psycopg2.extensions.cursor:
        """Run one query; return the cursor that has its last statement's result."""
        self._check_usable()
        conn = self._connection
        # Keep this reference to the end: without the cursor, psycopg2 blocks until the reply arrives.
        cursor = conn.cursor()
        # Overrides the types that the application has registered.
        register_type(BYTES, cursor)
        error = self._complete(lambda: self._send(cursor, sql), lambda: step(conn), timeout)
        if error is not None:
            self._raise_if_refused(error)
        return cursor

    def _send(self, cursor: psycopg2.extensions.cursor, sql: str) -> psycopg2.Error | None:
        """Send *sql* or a part of it; return psycopg2's error, if any."""
        try:
            poll(self._connection)  # libpq drops what came before the query, which is no reply to it.
            # psycopg2 refuses "" without sending it.
            cursor.execute(sql or ";")
        except psycopg2.Error as error:
            return error
        return None

    def _raise_if_refused(self, error: psycopg2.Error) -> None:
        """Raise the `ServerError` or `ConnectionLost` for *error*; return if the query was only empty."""
        conn, diag = self._connection, error.diag
        status = TRANSACTION_STATUS_ACTIVE if conn.closed else conn.info.transaction_status
        if isinstance(error, psycopg2.ProgrammingError) and error.pgcode is None and not conn.closed:
            # psycopg2 raised this itself, for a correct reply.
            if status in _DONE:
                return  # An empty query, which the server has answered.
            raise self._mark_lost("COPY is not possible here: the session is in the middle of it", error)
        if error.pgcode is None or status not in _DONE:
            raise self._mark_lost(self._libpq.reason(error), error)
        self._refusal = self._libpq.reason(error)
        raise ServerError(
            diag.message_primary or str(error),
            severity=diag.severity_nonlocalized or diag.severity or "ERROR",
            sqlstate=error.pgcode,
            detail=diag.message_detail,
            hint=diag.message_hint,
            # Without its frames: they hold the statement, which may contain a payload.
        ) from error.with_traceback(None)

    def _read(self) -> list[Notification]:
        conn = self._connection
        try:
            poll(conn)
        except psycopg2.Error as error:
            raise Unreadable(self._libpq.reason(error), error) from None
        fresh = conn.notifies
        if not fresh:
            return []
        conn.notifies = []
        return list(make_notifications(map(_fields, fresh)))

    def _unread(self) -> list[Notification]:
        conn = self._connection
        unread = list(make_notifications(map(_fields, conn.notifies)))
        conn.notifies = []
        return unread + self._libpq.unread_notifications()

    def _notices(self) -> list[ServerMessage]:
        return self._libpq.notices()

    def _log(self, message: str, *values: object) -> None:
        logger.debug(message, *values)

    def _let_go(self) -> None:
        self._libpq.close()

    def _finish(self) -> None:
        self._connection.close()


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
