"""What ``consume`` refuses: wrong arguments, and connections whose changes it would commit by the way."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from pglisten import ConfigurationError, InvalidChannelName
from pglisten.eventlog import EventLog
from support.fixtures.consumers import add
from support.logs import Opened, open_connection
from support.servers.server import Server


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("",), ConfigurationError, "name is text of 1 to 200 bytes"),
        (("x" * 201,), ConfigurationError, "name is text"),
        (("a\0",), ConfigurationError, "name is text"),
        ((None,), ConfigurationError, "name is text"),
        (("mail", "x" * 64), InvalidChannelName, "63"),
    ],
)
def test_wrong_arguments_are_refused_at_once(
    event_log: EventLog, psycopg2: Opened, arguments: Any, error: type[Exception], text: str
) -> None:
    name, *channels = arguments
    with pytest.raises(error, match=text):
        event_log.consume(name, psycopg2.connection, *channels)


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_a_wrong_size_is_refused(event_log: EventLog, psycopg2: Opened, size: Any) -> None:
    with pytest.raises(ConfigurationError, match="size is a number of entries") as caught:
        event_log.consume("mail", psycopg2.connection, size=size)
    assert caught.value.option == "size"


def test_a_connection_without_transactions_is_refused(event_log: EventLog, server: Server) -> None:
    with open_connection("psycopg2", server) as opened:
        with pytest.raises(TypeError, match="connection is a connection of a driver"):
            event_log.consume("mail", opened.cursor)
        opened.connection.autocommit = True
        with pytest.raises(ConfigurationError, match="autocommit"):
            event_log.consume("mail", opened.connection)
    with open_connection("sqlalchemy-psycopg2", server) as opened:
        opened.connection.execution_options(isolation_level="AUTOCOMMIT")
        add(event_log, "1")
        with pytest.raises(ConfigurationError, match="autocommit"):
            next(event_log.consume("mail", opened.connection))
    with open_connection("django", server) as opened, pytest.raises(ConfigurationError, match="autocommit"):
        event_log.consume("mail", opened.connection)


def test_changes_of_the_caller_are_not_committed_by_the_way(
    event_log: EventLog, opened: Opened, server: Server, log_schema: str
) -> None:
    server.query(f"CREATE TABLE {log_schema}.work (number int)")
    with contextlib.ExitStack() as stack:
        if hasattr(opened.connection, "in_atomic_block"):
            from django.db import transaction

            stack.enter_context(transaction.atomic(using="event_log"))
            stack.callback(transaction.set_rollback, True, using="event_log")
            cursor = stack.enter_context(opened.connection.cursor())
            cursor.execute(f"INSERT INTO {log_schema}.work VALUES (1)")
        elif hasattr(opened.connection, "exec_driver_sql"):
            opened.connection.exec_driver_sql(f"INSERT INTO {log_schema}.work VALUES (1)")
        elif hasattr(opened.connection, "get_bind"):
            opened.connection.connection().exec_driver_sql(f"INSERT INTO {log_schema}.work VALUES (1)")
        else:
            opened.cursor.execute(f"INSERT INTO {log_schema}.work VALUES (1)")
        with pytest.raises(ConfigurationError, match=r"end (that one|their transaction) first"):
            next(event_log.consume("mail", opened.connection))
        if not hasattr(opened.connection, "in_atomic_block"):
            opened.rollback()
