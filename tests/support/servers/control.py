"""A connection of the tests' own to a server, beside what is tested and without pglisten."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

import gevent

APPLICATION = "pglisten-test-control"


class Control:
    """Run SQL in gevent's threadpool with whichever driver there is; the hub goes on meanwhile.

    One connection, opened at the first query and again after it was lost.
    """

    def __init__(self, keywords: Mapping[str, object]) -> None:
        self._keywords: dict[str, Any] = dict(keywords)
        self._connection: Any = None
        # Queries of several greenlets run in several threads.
        self._lock = threading.Lock()

    def query(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        rows, error = gevent.get_hub().threadpool.apply(self._outcome, (sql, arguments))
        if error is not None:
            raise error
        return rows

    def close(self) -> None:
        gevent.get_hub().threadpool.apply(self._drop)

    def _outcome(
        self, sql: str, arguments: tuple[object, ...]
    ) -> tuple[list[tuple[Any, ...]], Exception | None]:
        # Raised in the pool, an error would be printed to standard error as well.
        try:
            return self._query(sql, arguments), None
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller shall have it
            return [], error

    def _query(self, sql: str, arguments: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            if self._connection is not None:
                try:
                    return self._run(sql, arguments)
                except connection_errors():
                    # The server was restarted since: a new connection, and once more.
                    self._drop()
            if self._connection is None:
                self._connection = connect(self._keywords)
            return self._run(sql, arguments)

    def _run(self, sql: str, arguments: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with contextlib.closing(self._connection.cursor()) as cursor:
            # Without arguments neither driver looks for placeholders.
            cursor.execute(sql, *([arguments] if arguments else []))
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*connection_errors()):
                connection.close()


def connect(keywords: dict[str, Any]) -> Any:
    try:
        import psycopg2
    except ImportError:
        return _connect_pg8000(keywords)
    connection = psycopg2.connect(**keywords, application_name=APPLICATION, connect_timeout=10)
    connection.autocommit = True
    return connection


def _connect_pg8000(keywords: dict[str, Any]) -> Any:
    import pg8000.dbapi

    connection = pg8000.dbapi.connect(
        user=keywords["user"],
        password=keywords.get("password"),
        host=keywords["host"],
        port=int(str(keywords["port"])),
        database=keywords["dbname"],
        application_name=APPLICATION,
        timeout=10,
    )
    connection.autocommit = True
    return connection


def connection_errors() -> tuple[type[Exception], ...]:
    errors: list[type[Exception]] = [OSError]
    with contextlib.suppress(ImportError):
        import psycopg2

        errors += [psycopg2.OperationalError, psycopg2.InterfaceError]
    with contextlib.suppress(ImportError):
        import pg8000.exceptions

        errors.append(pg8000.exceptions.InterfaceError)
    return tuple(errors)
