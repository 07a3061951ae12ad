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
"""Notifications after which ``receive`` looks for no more."""

BATCH = 600
"""Notifications that ``receive`` returns at the most: with what a consumer does about each, a millisecond
or two. One poll may bring more, up to what libpq's buffer has grown to: the rest waits for the next call."""

_DONE = {TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS, TRANSACTION_STATUS_INERROR}
"""The server has said ReadyForQuery."""

_fields = attrgetter("pid", "channel", "payload")


class Psycopg2Session(Session):
    """Takes over an established asynchronous *conn*, and its *libpq*."""

    def __init__(self, conn: connection, libpq: LibpqAccess) -> None:
        self.pid = conn.info.backend_pid
        self.server_encoding = conn.info.parameter_status("server_encoding")
        self._connection = conn
        self._libpq = libpq
        self._libpq_descriptor = OwnedDescriptor(conn.fileno())
        # Ours, not libpq's own: libpq closes its descriptor as soon as it finds the connection broken,
        # whoever waits on it, and the number could be somebody else's the next moment.
        self._descriptor = OwnedDescriptor(os.dup(conn.fileno()))
        self._owner = os.getpid()
        self._closed = self._abandoned = False
        self._lost: ConnectionLost | None = None
        self._received: list[Notification] = []
        """What has arrived and was not returned yet; after a loss, what is received before the loss is."""
        self._refusal = ""
        """What libpq said of the last query that was refused. It puts what it says of a loss behind that."""
        self._end_notice: ServerMessage | None = None
        """The server's announcement that it will end the session."""

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
            # libpq has all of it by now, however long it is; but the limit is to be the same everywhere.
            if size > MAX_RESULT:
                raise self._mark_lost(
                    f"the server sent more than {MAX_RESULT} bytes of rows in answer to a short question"
                )
            rows.append(row)
        return rows

    def _run(self, sql: str, timeout: float | None) -> psycopg2.extensions.cursor:
        """Run one query; return the cursor that has its last statement's result."""
        if self._lost is not None:
            raise copy_for_raise(self._lost)
        conn = self._connection
        deadline = Deadline(timeout)
        # Referred to until the very end: if psycopg2 misses the cursor, it blocks until the reply is there.
        cursor = conn.cursor()
        # Whatever the application has registered for text, and whatever the server calls text.
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
        """Send *sql* or a part of it; return what went wrong."""
        try:
            poll(self._connection)  # What comes before the question is no answer to it: libpq drops it now.
            # psycopg2 refuses "" without asking the server.
            cursor.execute(sql or ";")
        except psycopg2.Error as error:
            return error
        return None

    def _raise_if_refused(self, error: psycopg2.Error) -> None:
        """Raise what *error*, of a query, means; return if it means nothing."""
        conn, diag = self._connection, error.diag
        status = TRANSACTION_STATUS_ACTIVE if conn.closed else conn.info.transaction_status
        if isinstance(error, psycopg2.ProgrammingError) and error.pgcode is None and not conn.closed:
            # psycopg2's own opinion about a reply that was in order.
            if status in _DONE:
                return  # An empty query. The server did answer it.
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
            # Without its frames, which hold the statement and in it a payload.
        ) from error.with_traceback(None)

    def receive(self) -> list[Notification]:
        if self._lost is not None:
            return self._receive_before_loss()
        conn = self._connection
        received, self._received = self._received, []
        try:
            while len(received) < ENOUGH:
                # A poll reads what there is, up to the size of libpq's buffer, and over TLS a record at a
                # time. One that brings nothing has emptied it: a read that stops short of a record's end
                # has filled at least 8 kB (pqReadData), and no notification is as long as that.
                poll(conn)
                fresh = conn.notifies
                if not fresh:
                    break
                conn.notifies = []
                received.extend(make_notifications(map(_fields, fresh)))
                if len(fresh) == 1:
                    break  # No burst. Its consumer waits for it, and a look for more takes a system call.
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
        """Return what there is, and the next time, when there is nothing, raise the loss."""
        received, self._received = self._received, []
        if not received and self._lost is not None:
            raise copy_for_raise(self._lost)
        return received

    def _mark_lost(self, text: str, error: psycopg2.Error | None = None) -> ConnectionLost:
        """Count the connection as lost, for the server's reason if it gave one, else for *text*."""
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
        """Take note of what the server said beside its replies."""
        for said in self._libpq.notices():
            if said.ends_the_session:
                self._end_notice = said
            # Only what the server itself has to say: an application's RAISE NOTICE may hold anything.
            if said.sqlstate != "00000":
                logger.debug("server %d: %s %s: %s", self.pid, said.severity, said.sqlstate, said.message)

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
            # The connection is in libpq's non-blocking mode: what cannot be sent at once is not sent.
            self._connection.close()
        self._descriptor.close()

    def abandon(self) -> None:
        if self._closed or self._abandoned:
            return
        self._abandoned = True
        self._libpq.close()
        self._lost = self._lost or ConnectionLost("the session is its parent process's")
        # Nothing is closed: copies of the parent's greenlets may wait for either descriptor. Whatever
        # libpq or OpenSSL has to say goodbye with one day must not find the parent's connection.
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
