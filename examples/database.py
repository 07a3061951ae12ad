"""The application's own connections, for the examples in this folder: DB-API, with the configured driver.

A real application already has connections: SQLAlchemy, Django's ORM, a pool. Its queries must let other
greenlets run. pg8000 does, once ``gevent.monkey`` has patched the process; psycopg2 needs `make_green`.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any

import pglisten
from pglisten.backend import ConnInfo

DSN = os.environ.get("PGLISTEN_DSN", "")

if pglisten.load_backend().name == "pg8000":  # PGLISTEN_BACKEND, or the installed driver
    import pg8000.dbapi as driver
else:
    import psycopg2 as driver

    from pglisten_psycopg2 import make_green

    make_green()

Error = driver.Error


def connect() -> contextlib.closing[Any]:
    """Return a connection for a ``with`` statement, which closes it. Only ``commit()`` commits."""
    if driver.__name__ == "psycopg2":
        return contextlib.closing(driver.connect(DSN))
    # pg8000 reads no connection strings. It uses TLS if the server offers it, and checks no certificates.
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
