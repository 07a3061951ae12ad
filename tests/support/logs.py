"""Connections of applications that write to an event log, with every library that it knows."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.servers.server import Server


@dataclass
class Opened:
    """A connection, and what its statements run over."""

    connection: Any
    cursor: Any
    commit: Callable[[], object]
    rollback: Callable[[], object]


def _dbapi(module: str, server: Server) -> Any:
    keywords: dict[str, Any] = dict(server.keywords)
    if module == "pg8000":
        return importlib.import_module("pg8000.dbapi").connect(**_for_pg8000(keywords))
    return importlib.import_module(module).connect(server.dsn())


def _for_pg8000(keywords: dict[str, Any]) -> dict[str, Any]:
    names = {"host": "host", "port": "port", "user": "user", "password": "password", "dbname": "database"}
    given = {names[key]: value for key, value in keywords.items() if key in names}
    return given | {"port": int(given["port"])}


@contextlib.contextmanager
def _driver(module: str, server: Server) -> Iterator[Opened]:
    with contextlib.closing(_dbapi(module, server)) as connection:
        yield Opened(connection, connection.cursor(), connection.commit, connection.rollback)


@contextlib.contextmanager
def _native(_: str, server: Server) -> Iterator[Opened]:
    native: Any = importlib.import_module("pg8000.native")
    with contextlib.closing(native.Connection(**_for_pg8000(dict(server.keywords)))) as connection:
        connection.run("BEGIN")

        def end(how: str) -> None:
            connection.run(how)
            connection.run("BEGIN")

        yield Opened(connection, connection, lambda: end("COMMIT"), lambda: end("ROLLBACK"))


@contextlib.contextmanager
def _sqlalchemy(driver: str, server: Server, *, session: bool = False) -> Iterator[Opened]:
    import sqlalchemy
    from sqlalchemy.orm import Session

    engine = sqlalchemy.create_engine(
        f"postgresql+{driver}://", creator=lambda: _dbapi(driver, server), poolclass=sqlalchemy.NullPool
    )
    with Session(engine) if session else engine.connect() as connection:
        yield Opened(connection, connection, connection.commit, connection.rollback)
    engine.dispose()


@contextlib.contextmanager
def _django(_: str, server: Server) -> Iterator[Opened]:
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(DATABASES={}, USE_TZ=True)
        django.setup()
    from django.db import connections, transaction

    keywords = server.keywords
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}
    values = {name: str(keywords[key]) for name, key in names.items() if key in keywords}
    connections.settings["event_log"] = connections.configure_settings(
        {"default": {}, "event_log": {"ENGINE": "django.db.backends.postgresql", **values}}
    )["event_log"]
    connection = connections["event_log"]

    def end(how: Callable[[], object]) -> None:
        how()

    try:
        connection.set_autocommit(False)
        with connection.cursor() as cursor:
            yield Opened(
                connection,
                cursor,
                lambda: transaction.commit(using="event_log"),
                lambda: transaction.rollback(using="event_log"),
            )
    finally:
        connection.close()
        del connections["event_log"], connections.settings["event_log"]


CONNECTIONS: dict[str, Callable[[Server], contextlib.AbstractContextManager[Opened]]] = {
    "psycopg2": lambda server: _driver("psycopg2", server),
    "psycopg": lambda server: _driver("psycopg", server),
    "pg8000": lambda server: _driver("pg8000", server),
    "pg8000.native": lambda server: _native("", server),
    "sqlalchemy-psycopg2": lambda server: _sqlalchemy("psycopg2", server),
    "sqlalchemy-psycopg": lambda server: _sqlalchemy("psycopg", server),
    "sqlalchemy-pg8000": lambda server: _sqlalchemy("pg8000", server),
    "sqlalchemy-session": lambda server: _sqlalchemy("psycopg2", server, session=True),
    "django": lambda server: _django("", server),
}


def open_connection(name: str, server: Server) -> contextlib.AbstractContextManager[Opened]:
    """Open the connection called *name* in a ``with`` block; skip the test if its library is missing."""
    for module in name.replace("-session", "-psycopg2").split("-"):
        pytest.importorskip(module)
    return CONNECTIONS[name](server)
