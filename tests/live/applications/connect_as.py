"""Says as whom libpq itself, or a backend, connects; for test_connecting_as_libpq.py.

Reads requests from standard input and writes answers, each a line of JSON. In a process of its own: libpq
looks into the environment, and writes to stderr.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable

import psycopg2

from pglisten import ListenerConnection
from pglisten.errors import Error

WHO = "current_user || '@' || current_database()"


def libpq(dsn: str) -> str:
    connection = psycopg2.connect(dsn)
    try:
        cursor = connection.cursor()
        cursor.execute(f"SELECT {WHO}")
        return str(cursor.fetchall()[0][0])
    finally:
        connection.close()


def backend(name: str) -> Callable[[str], str]:
    def connect(dsn: str) -> str:
        with ListenerConnection(dsn, backend=name) as connection:
            connection.listen("who", timeout=20)
            connection.execute(f"SELECT pg_notify('who', {WHO})", timeout=20)
            found = connection.get(timeout=20)
            assert found is not None
            return str(found.payload)

    return connect


def main() -> None:
    # Else logging writes warnings to stderr, where only what libpq writes is wanted.
    logging.getLogger().addHandler(logging.NullHandler())
    ways = {
        "libpq": libpq,
        "psycopg2": backend("psycopg2"),
        "psycopg": backend("psycopg"),
        "pg8000": backend("pg8000"),
    }
    stderr = os.dup(2)
    for line in sys.stdin:
        request = json.loads(line)
        os.environ.clear()
        os.environ.update(request["environ"])
        with tempfile.TemporaryFile() as printed:
            os.dup2(printed.fileno(), 2)
            try:
                answer = {"who": ways[request["way"]](request["dsn"]), "error": ""}
            except (psycopg2.Error, Error) as error:
                answer = {"who": "", "error": str(error)}
            finally:
                os.dup2(stderr, 2)
            printed.seek(0)
            answer["printed"] = printed.read().decode()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
