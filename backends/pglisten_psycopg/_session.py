"""A session over psycopg's wrapper of libpq."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from pglisten.backend import Notification, make_notifications, server_text
from pglisten.errors import ServerError
from pglisten_libpq.reasons import ServerMessage, one_line
from pglisten_libpq.session import LibpqSession, Unreadable
from pglisten_libpq.waiting import Step

__all__ = ["Notices", "PsycopgSession"]

logger = logging.getLogger("pglisten.psycopg")

NOTICES_KEPT = 50
"""One query can raise millions."""

_READY = {TransactionStatus.IDLE, TransactionStatus.INTRANS, TransactionStatus.INERROR}
"""The server has said ReadyForQuery."""

_COPY = {ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH}
_ERRORS = {ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE}


class Notices:
    """What the server says beside its replies, until the session looks at it.

    An object of its own, so that the connection does not refer to the session, which refers to it.
    """

    def __init__(self) -> None:
        self._heard: list[ServerMessage] = []

    def hear(self, notice: PGresult) -> None:
        """Keep *notice*; libpq calls this, from within any of its functions."""
        message = _field(notice, DiagnosticField.MESSAGE_PRIMARY) or ""
        sqlstate = _field(notice, DiagnosticField.SQLSTATE)
        self._heard.append(ServerMessage(_severity(notice), sqlstate, one_line(message)))
        del self._heard[:-NOTICES_KEPT]

    def take(self) -> list[ServerMessage]:
        """Return what was said since the last call, the last 50 at most."""
        heard, self._heard = self._heard, []
        return heard


class PsycopgSession(LibpqSession):
    """Takes over an established *pgconn*, and the *notices* that it writes to."""

    def __init__(self, pgconn: PGconn, notices: Notices) -> None:
        super().__init__(pgconn, pgconn.socket)
        self.pid = pgconn.backend_pid
        self.server_encoding = server_text(pgconn.parameter_status(b"server_encoding") or b"")
        pgconn.nonblocking = 1
        self._pgconn = pgconn
        self._heard = notices

    def execute(self, sql: str, timeout: float | None) -> None:
        self._run(sql, timeout)

    def fetch(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        return self._rows(_values(self._run(sql, timeout)))

    def _run(self, sql: str, timeout: float | None) -> PGresult | None:
        """Run one query; return its last statement's result, ``None`` if there is none."""
        self._check_usable()
        results: list[PGresult] = []
        error = self._complete(lambda: self._send(sql), lambda: self._step(results), timeout)
        if error is not None:
            raise self._mark_lost(self._text(), error)
        return self._examined(results)

    def _send(self, sql: str) -> psycopg.Error | None:
        """Send *sql* or a part of it; return psycopg's error, if any."""
        try:
            # libpq drops what came before the query, which is no reply to it.
            self._pgconn.consume_input()
            self._pgconn.is_busy()
            self._pgconn.send_query(sql.encode())
        except psycopg.Error as error:
            return error
        return None

    def _step(self, results: list[PGresult]) -> Step | psycopg.Error:
        """Send the rest of the query, and read what has arrived of the reply; return psycopg's error, if any.

        When the reply is complete, *results* has the last statement's result, or the error.
        """
        pgconn = self._pgconn
        try:
            pgconn.consume_input()
            if pgconn.flush():
                return Step.WRITE
            while not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    return Step.NOTHING
                results[:] = [result]
                if result.status in _COPY:
                    return Step.NOTHING  # libpq would return the same result again and again.
        except psycopg.Error as error:
            return error
        return Step.READ

    def _examined(self, results: list[PGresult]) -> PGresult | None:
        """Return the result; raise what it means if that is an error."""
        ready = self._pgconn.transaction_status in _READY
        last = results[-1] if results else None
        if last is not None and last.status in _COPY:
            raise self._mark_lost("COPY is not possible here: the session is in the middle of it")
        if ready and (last is None or last.status not in _ERRORS):
            return last
        sqlstate = None if last is None else _field(last, DiagnosticField.SQLSTATE)
        if not ready or last is None or not sqlstate:
            raise self._mark_lost(self._text())
        self._refusal = self._text()
        raise ServerError(
            _field(last, DiagnosticField.MESSAGE_PRIMARY) or self._refusal,
            severity=_severity(last),
            sqlstate=sqlstate,
            detail=_field(last, DiagnosticField.MESSAGE_DETAIL),
            hint=_field(last, DiagnosticField.MESSAGE_HINT),
        )

    def _read(self) -> list[Notification]:
        try:
            self._pgconn.consume_input()
        except psycopg.Error as error:
            raise Unreadable(self._text(), error) from None
        return self._unread()

    def _unread(self) -> list[Notification]:
        fields = [
            (pid, name.decode(), extra.decode()) for name, pid, extra in iter(self._pgconn.notifies, None)
        ]
        return list(make_notifications(fields))

    def _notices(self) -> list[ServerMessage]:
        return self._heard.take()

    def _log(self, message: str, *values: object) -> None:
        logger.debug(message, *values)

    def _text(self) -> str:
        """Return what libpq says of the last query, or of the loss."""
        return server_text(self._pgconn.error_message)

    def _finish(self) -> None:
        self._pgconn.finish()


def _values(result: PGresult | None) -> Iterator[tuple[str | None, ...]]:
    """Yield the rows of *result*."""
    if result is not None:
        for row in range(result.ntuples):
            values = (result.get_value(row, column) for column in range(result.nfields))
            yield tuple(None if value is None else value.decode("utf-8", "replace") for value in values)


def _severity(result: PGresult) -> str:
    # Servers before 9.6 send no severity that is not localised.
    severity = _field(result, DiagnosticField.SEVERITY_NONLOCALIZED)
    return severity or _field(result, DiagnosticField.SEVERITY) or "ERROR"


def _field(result: PGresult, field: DiagnosticField) -> str | None:
    value = result.error_field(field)
    return None if value is None else server_text(value)
