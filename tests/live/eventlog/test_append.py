"""Entries are added in the transaction of whatever cursor the application has."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pglisten import InvalidChannelName, PayloadTooLong, ServerError
from pglisten.eventlog import EventLog
from support.fixtures.eventlogs import MakeLog
from support.logs import CONNECTIONS, Opened, open_connection
from support.servers.server import Server

ODD = '100% "odd": a? %s %(x)s%%s :n'
"""A name with what drivers and ORMs take for a parameter."""


def kept(server: Server, schema: str, name: str = "events") -> list[tuple[str, str]]:
    found = server.query(f'SELECT channel, payload FROM {schema}."{name}_log" ORDER BY position')
    return [(channel, payload) for channel, payload in found]


@pytest.fixture(params=sorted(CONNECTIONS))
def opened(request: pytest.FixtureRequest, server: Server) -> Iterator[Opened]:
    with open_connection(request.param, server) as made:
        yield made


def test_an_entry_is_committed_when_append_returns(
    event_log: EventLog, server: Server, log_schema: str
) -> None:
    event_log.append("orders", "it's \\ 17 é % :a", timeout=20)
    event_log.append("orders", "", timeout=20)
    assert kept(server, log_schema) == [("orders", "it's \\ 17 é % :a"), ("orders", "")]
    assert event_log.position(timeout=20) == 2


@pytest.fixture
def plain_log(server: Server, log_schema: str) -> EventLog:
    """A log that is written to with cursors only: its broadcaster never connects."""
    from pglisten import Broadcaster

    server.query(EventLog.sql(ODD, schema=log_schema))
    return EventLog(ODD, Broadcaster(server.dsn()), schema=log_schema)


def test_an_entry_is_part_of_the_transaction_of_the_cursor(
    plain_log: EventLog, opened: Opened, server: Server
) -> None:
    def there() -> list[tuple[str, str]]:
        return [(c, p) for c, p in server.query(f"SELECT channel, payload FROM {plain_log._names.view}")]

    plain_log.append("orders", "it's \\ 100% :a ? é", cursor=opened.cursor)
    assert there() == []
    opened.rollback()
    plain_log.append("orders", "it's \\ 100% :a ? é", cursor=opened.cursor)
    opened.commit()
    assert there() == [("orders", "it's \\ 100% :a ? é")]
    newest = server.query(f"SELECT max(position) FROM {plain_log._names.view}")[0][0]
    assert plain_log.position(cursor=opened.cursor) == newest
    opened.rollback()


@pytest.mark.parametrize("name", ["psycopg2", "psycopg", "pg8000"])
def test_a_cursor_in_autocommit_mode_commits_the_entry(
    name: str, plain_log: EventLog, server: Server
) -> None:
    with open_connection(name, server) as opened:
        opened.connection.autocommit = True
        plain_log.append("orders", "1", cursor=opened.cursor)
        assert plain_log.position(cursor=opened.cursor) == 1


def test_cursors_that_return_mappings_are_fine(plain_log: EventLog, server: Server) -> None:
    psycopg2_extras = pytest.importorskip("psycopg2.extras")
    with open_connection("psycopg2", server) as opened:
        cursor = opened.connection.cursor(cursor_factory=psycopg2_extras.RealDictCursor)
        plain_log.append("orders", "1", cursor=cursor)
        opened.commit()
        assert plain_log.position(cursor=cursor) == 1
        opened.rollback()
    psycopg = pytest.importorskip("psycopg")
    with open_connection("psycopg", server) as opened:
        cursor = opened.connection.cursor(row_factory=psycopg.rows.dict_row)
        assert plain_log.position(cursor=cursor) == 1
        # A connection of psycopg 3 can execute too.
        assert plain_log.position(cursor=opened.connection) == 1
        opened.rollback()


def test_every_parameter_style_of_pg8000_works(
    plain_log: EventLog, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pg8000")
    import pg8000.dbapi

    with open_connection("pg8000", server) as opened:
        for style in ("format", "pyformat", "qmark", "numeric", "named"):
            monkeypatch.setattr(pg8000.dbapi, "paramstyle", style)
            plain_log.append("orders", style, cursor=opened.cursor)
        opened.commit()
        assert plain_log.position(cursor=opened.cursor) == 5
        opened.rollback()


@pytest.mark.parametrize("wrong", [object(), "cursor"])
def test_what_runs_no_statement_is_refused(plain_log: EventLog, wrong: object) -> None:
    with pytest.raises(TypeError, match="cursor is a cursor of a driver"):
        plain_log.append("orders", "1", cursor=wrong)


def test_an_asynchronous_cursor_is_refused(plain_log: EventLog) -> None:
    psycopg = pytest.importorskip("psycopg")
    with pytest.raises(TypeError, match="asynchronous"):
        plain_log.append("orders", "1", cursor=psycopg.AsyncCursor.__new__(psycopg.AsyncCursor))


Refused = Callable[[EventLog, Any], None]


@pytest.mark.parametrize("with_cursor", [False, True])
@pytest.mark.parametrize(
    ("channel", "payload", "error"),
    [
        ("", "1", InvalidChannelName),
        ("x" * 64, "1", InvalidChannelName),
        ("a\0", "1", InvalidChannelName),
        (1, "1", TypeError),
        ("orders", "a\0", ValueError),
        ("orders", "\ud800", ValueError),
        ("orders", b"1", TypeError),
        ("orders", None, TypeError),
        ("orders", "x" * (16 * 2**20 + 1), PayloadTooLong),
    ],
)
def test_wrong_entries_are_refused_before_anything_is_sent(
    plain_log: EventLog, channel: Any, payload: Any, error: type[Exception], with_cursor: bool
) -> None:
    with pytest.raises(error):
        # An object() is no cursor: it would be refused with another error.
        plain_log.append(channel, payload, cursor=object() if with_cursor else None)
    plain_log._broadcaster.close()
    assert plain_log._broadcaster.stats().server_pid is None


def test_the_longest_entry_is_taken(event_log: EventLog, server: Server, log_schema: str) -> None:
    event_log.append("x" * 63, "'" * (16 * 2**20), timeout=50)
    assert server.query(f"SELECT octet_length(payload) FROM {log_schema}.events") == [(16 * 2**20,)]


def test_a_log_that_is_not_there_is_a_server_error(make_log: MakeLog, server: Server) -> None:
    log = make_log()
    server.query(f"DROP TABLE {log._names.entries} CASCADE")
    with pytest.raises(ServerError, match="42P01") as caught:
        log.append("orders", "secret", timeout=20)
    assert "secret" not in str(caught.value)


def test_the_payload_is_in_no_error_of_the_driver(plain_log: EventLog, server: Server) -> None:
    server.query(f"DROP TABLE {plain_log._names.entries} CASCADE")
    for name in ("psycopg2", "psycopg", "pg8000"):
        with open_connection(name, server) as opened:
            with pytest.raises(Exception, match=r"42P01|does not exist") as caught:
                plain_log.append("orders", "secret", cursor=opened.cursor)
            assert "secret" not in str(caught.value)
            with contextlib.suppress(Exception):
                opened.rollback()


def test_what_the_application_runs_within_its_cursor_may_call_pglisten(
    event_log: EventLog, server: Server
) -> None:
    from sqlalchemy import event

    with open_connection("sqlalchemy-psycopg2", server) as opened:

        @event.listens_for(opened.connection, "after_cursor_execute")
        def notify(*_: object) -> None:
            event_log._broadcaster.notify("executed", timeout=20)

        event_log.append("orders", "1", cursor=opened.connection)
        assert event_log.position(cursor=opened.connection) == 0
        opened.commit()
    assert event_log.position(timeout=20) == 1
