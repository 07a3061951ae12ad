"""The application's own connections, for the examples beside this file: DB-API, with the driver configured.

An application has this already: SQLAlchemy, Django's ORM, a pool. What matters is that a query lets other
greenlets run. pg8000 does, once ``gevent.monkey`` has patched the process; psycopg2 has to be told.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pglisten
from pglisten.backend import ConnInfo

DSN = os.environ.get("PGLISTEN_DSN", "")

if pglisten.load_backend().name == "pg8000":  # PGLISTEN_BACKEND, or what is installed
    import pg8000.dbapi as driver
else:
    import psycopg2 as driver

    from pglisten_psycopg2 import make_green

    make_green()

Error = driver.Error


def connect() -> contextlib.closing[Any]:
    """Return a connection for a ``with`` statement, at whose end it is closed; only ``commit()`` commits."""
    if driver.__name__ == "psycopg2":
        return contextlib.closing(driver.connect(DSN))
    # pg8000 reads no connection strings. Of TLS it takes what it finds, without checking certificates.
    info = ConnInfo.parse(DSN, os.environ).targets()[0].with_password()
    return contextlib.closing(
        driver.connect(
            user=info.user,
            password=info.password,
            host=info.host,
            port=info.port,
            database=info.dbname,
            unix_sock=info.socket_path if info.is_unix else None,
        )
    )


def run(statements: str) -> None:
    """Run *statements* in one transaction."""
    with connect() as connection:
        connection.cursor().execute(statements)
        connection.commit()
