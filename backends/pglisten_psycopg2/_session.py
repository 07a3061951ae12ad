"""A session over an asynchronous psycopg2 connection."""

from __future__ import annotations

import logging
import os
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

from pglisten.backend import (
    MAX_RESULT,
    Deadline,
    DeadlinePassed,
    Notification,
    OwnedDescriptor,
    Session,
    make_notifications,
)
from pglisten.errors import ConnectionLost, ServerError, copy_for_raise

from ._libpq import LibpqAccess
from ._reasons import ServerMessage, explain
from ._wait import leak, poll, wait

__all__ = ["Psycopg2Session"]

logger = logging.getLogger("pglisten.psycopg2")

ENOUGH = 300
"""If it has this many notifications, ``receive`` polls no more."""

BATCH = 600
"""Most notifications that one ``receive`` returns. With a consumer's work for each, they take one or two
milliseconds. One poll may bring more, as many as libpq's buffer holds; the next call returns the others."""

_DONE = {TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR}
"""Transaction states in which the server has sent ReadyForQuery."""

_fields = attrgetter("pid", "channel", "payload")


class Psycopg2Session(Session):
    """A session over *conn*, an established asynchronous connection that it takes over with its *libpq*."""

    def __init__(self, conn: connection, libpq: LibpqAccess) -> None:
        self.pid = conn.info.backend_pid
        self.server_encoding = conn.info.parameter_status("server_encoding")
        self._connection = conn
        self._libpq = libpq
        self._libpq_descriptor = OwnedDescriptor(conn.fileno())
        # A duplicate: libpq closes its own descriptor as soon as it finds the connection broken, while a
        # greenlet may wait for it. Another file could then get the same number.
        self._descriptor = OwnedDescriptor(os.dup(conn.fileno()))
        self._owner = os.getpid()
        self._closed = self._abandoned = False
        self._lost: ConnectionLost | None = None
        self._received: list[Notification] = []
        """Notifications that `receive` has not returned yet. After a loss, it returns them before it
        raises."""
        self._refusal = ""
        """libpq's text for the last refused query. libpq appends its text for a loss to this one."""
        self._end_notice: ServerMessage | None = None
        """The server's message that it will end the session, if it sent one."""

    def fileno(self) -> int:
        return self._descriptor.fileno()

    def execute(self, sql: str, timeout: float | None) -> None:
        self._run(sql, timeout)

    def fetch(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        cursor = self._run(sql, timeout)
        if cursor.description is None:
            return []
        rows: list[tuple[str | None, ...]] = []
        size = 0
        while (values := cursor.fetchone()) is not None:
            row = tuple(map(_text, values))
            size += 7 + sum(4 + len((value or "").encode()) for value in row)
            # libpq already holds the whole result, but the limit is the same for all backends.
            if size > MAX_RESULT:
                raise self._mark_lost(
                    f"the server sent more than {MAX_RESULT} bytes of rows for a short query"
                )
            rows.append(row)
        return rows

    def _run(self, sql: str, timeout: float | None) -> psycopg2.extensions.cursor:
        """Run one query; return the cursor that has its last statement's result."""
        if self._lost is not None:
            raise copy_for_raise(self._lost)
        conn = self._connection
        deadline = Deadline(timeout)
        # Keep this reference to the end: without the cursor, psycopg2 blocks until the reply arrives.
        cursor = conn.cursor()
        # Overrides the types that the application has registered.
        register_type(BYTES, cursor)
        try:
            error = self._send(cursor, sql) or wait(conn, deadline)
        except DeadlinePassed:
            raise self._mark_lost(f"the server did not answer a query within {timeout:g} s") from None
        except BaseException:
            self._mark_lost("a query was interrupted, and its reply is still to come")
            raise
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

    def receive(self) -> list[Notification]:
        if self._lost is not None:
            return self._receive_before_loss()
        conn = self._connection
        received, self._received = self._received, []
        try:
            while len(received) < ENOUGH:
                # A poll reads the available data, up to the size of libpq's buffer, and over TLS one record.
                # If it brings no notification, the socket is empty: a read that stops within a record has
                # filled at least 8 kB (pqReadData), and no notification is as long as that.
                poll(conn)
                fresh = conn.notifies
                if not fresh:
                    break
                conn.notifies = []
                received.extend(make_notifications(map(_fields, fresh)))
                if len(fresh) == 1:
                    break  # No burst. The consumer waits for this one, and another poll costs a system call.
        except psycopg2.Error as error:
            self._mark_lost(self._libpq.reason(error), error)
            self._received[:0] = received
            return self._receive_before_loss()
        self._read_notices()
        if len(received) > BATCH:
            self._received = received[BATCH:]
            del received[BATCH:]
        return received

    def _receive_before_loss(self) -> list[Notification]:
        """Return the notifications that arrived before the loss; raise the loss when there are none left."""
        received, self._received = self._received, []
        if not received and self._lost is not None:
            raise copy_for_raise(self._lost)
        return received

    def _mark_lost(self, text: str, error: psycopg2.Error | None = None) -> ConnectionLost:
        """Mark the connection as lost: for the server's reason if it gave one, else for *text*.

        Returns the error to raise.
        """
        conn = self._connection
        self._received.extend(make_notifications(map(_fields, conn.notifies)))
        self._received += self._libpq.unread_notifications()
        conn.notifies = []
        self._read_notices()
        message, sqlstate = explain((self._refusal and text.rpartition(self._refusal)[2]) or text)
        if sqlstate is None and self._end_notice is not None:
            message, sqlstate = self._end_notice.message, self._end_notice.sqlstate
        self._lost = ConnectionLost(message, sqlstate=sqlstate)
        if error is not None:
            # Without its frames, which would live as long as the session.
            self._lost.__cause__ = error.with_traceback(None)
        return copy_for_raise(self._lost)

    def _read_notices(self) -> None:
        """Keep the server's message that ends the session, and log its notices."""
        for notice in self._libpq.notices():
            if notice.ends_the_session:
                self._end_notice = notice
            # Only the server's own notices: an application's RAISE NOTICE (00000) may contain a payload.
            if notice.sqlstate != "00000":
                logger.debug(
                    "server %d: %s %s: %s", self.pid, notice.severity, notice.sqlstate, notice.message
                )

    def close(self) -> None:
        if self._closed:
            return
        if os.getpid() != self._owner:
            self.abandon()
        self._end()
        if self._abandoned or not self._descriptor.is_ours:
            leak(self._connection)
            self._libpq_descriptor.close()
        else:
            # libpq is in non-blocking mode: it does not send what it cannot send at once.
            self._connection.close()
        self._descriptor.close()

    def abandon(self) -> None:
        if self._closed or self._abandoned:
            return
        self._abandoned = True
        self._libpq.close()
        self._lost = self._lost or ConnectionLost("the session is its parent process's")
        # Divert both and close neither: copies of the parent's greenlets may wait for them. If libpq or
        # OpenSSL sends a last message later, it must not reach the parent's connection.
        self._descriptor.divert()
        self._libpq_descriptor.divert()

    def _end(self) -> None:
        self._closed = True
        self._libpq.close()
        self._lost = self._lost or ConnectionLost("the session was closed")


def _text(value: object) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
