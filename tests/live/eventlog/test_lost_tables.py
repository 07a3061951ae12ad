"""A log that lacks some of its tables says so, and can be dropped."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pglisten import EventLog, ServerError
from pglisten._eventlog.schema import drop_sql
from support.fixtures.consumers import add
from support.logs import open_connection
from support.servers.server import Server
from support.timeouts import TIMEOUT

CALLS: dict[str, Callable[[EventLog], object]] = {
    "append": lambda log: log.append("c", "1", timeout=TIMEOUT),
    "status": lambda log: log.status(timeout=TIMEOUT),
    "position": lambda log: log.position(timeout=TIMEOUT),
    "follow": lambda log: log.follow(timeout=TIMEOUT),
    "trim": lambda log: log.trim(keep=0, timeout=TIMEOUT),
}


@pytest.mark.parametrize(
    ("suffix", "calls"),
    [
        ("", ["append", "status", "position", "follow", "trim"]),
        ("_position", ["append", "status", "position", "follow", "trim"]),
        ("_state", ["status", "position", "follow", "trim"]),
        ("_consumer", ["status"]),
    ],
)
def test_a_table_that_was_dropped_is_named_and_the_rest_can_be_dropped(
    event_log: EventLog, server: Server, log_schema: str, suffix: str, calls: list[str]
) -> None:
    server.query(f"CREATE TABLE {log_schema}.other_state ()")
    server.query(f"DROP TABLE {log_schema}.events{suffix} CASCADE")
    for name in calls:
        with pytest.raises(ServerError, match="42P01") as caught:
            CALLS[name](event_log)
        wanted = f"the event log {log_schema}.events lacks {log_schema}.events{suffix}: restore it"
        assert wanted in str(caught.value)
    with pytest.raises(Exception, match=f"the event log {log_schema}.events lacks some of its tables"):
        server.query(EventLog.sql("events", schema=log_schema))
    server.query(drop_sql(event_log._names))
    left = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s) UNION ALL "
    left += "SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace(%s)"
    assert server.query(left, log_schema, log_schema) == [("other_state",)]
    server.query(EventLog.sql("events", schema=log_schema))
    event_log.append("c", "1", timeout=TIMEOUT)
    assert event_log.follow(after=0, timeout=TIMEOUT).get(TIMEOUT)


def test_what_has_the_name_of_a_part_and_no_comment_is_left_alone(
    event_log: EventLog, server: Server, log_schema: str
) -> None:
    server.query(f"DROP TABLE {log_schema}.events, {log_schema}.events_state CASCADE")
    server.query(f"CREATE TABLE {log_schema}.events_state ()")
    server.query(drop_sql(event_log._names))
    left = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
    assert server.query(left, log_schema) == [("events_state",)]


def test_a_state_without_its_row_is_said(event_log: EventLog, server: Server, log_schema: str) -> None:
    add(event_log, "1")
    server.query(f"DELETE FROM {log_schema}.events_state")
    for name in ("status", "position", "follow", "trim"):
        with pytest.raises(ServerError, match=f"{log_schema}.events has no row in {log_schema}.events_state"):
            CALLS[name](event_log)
    for row in ("", f"INSERT INTO {log_schema}.events_consumer (name, position) VALUES ('mail', 0);"):
        server.query(f"{row} SELECT 1")
        with open_connection("psycopg2", server) as opened, pytest.raises(ServerError, match="has no row in"):
            next(event_log.consume("mail", opened.connection))
