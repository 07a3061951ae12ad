"""Old entries are removed from the beginning of a log, and the figures of a log."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import gevent
import pytest

from pglisten import ConfigurationError, OperationTimeout, ServerError
from pglisten.eventlog import ConsumerStatus, EventLog, LogStatus, broadcaster_of
from support.fixtures.listeners import MakeConnection
from support.servers.server import Server


def fill(server: Server, schema: str, count: int, *, age: str = "0") -> None:
    server.query(
        f"INSERT INTO {schema}.events (channel, payload, created) "
        f"SELECT 'c', i::text, clock_timestamp() - interval '{age}' FROM generate_series(1, {count}) i"
    )


def figures(log: EventLog) -> tuple[int, int | None, int, int]:
    status = log.status(timeout=20)
    return status.newest, status.oldest, status.trimmed, status.entries


def test_the_newest_are_kept(event_log: EventLog, server: Server, log_schema: str) -> None:
    assert figures(event_log) == (0, None, 0, 0)
    assert event_log.trim(keep=0, timeout=20) == 0
    fill(server, log_schema, 2500)
    assert event_log.trim(keep=3000, timeout=20) == 0
    assert event_log.trim(keep=100, timeout=20) == 2400
    assert figures(event_log) == (2500, 2401, 2400, 100)
    assert event_log.trim(keep=100, timeout=20) == 0
    assert event_log.trim(keep=0, timeout=20) == 100
    assert figures(event_log) == (2500, None, 2500, 0)
    assert event_log.position(timeout=20) == 2500
    assert server.query(f"SELECT count(*) FROM {log_schema}.events") == [(0,)]


@pytest.mark.parametrize("older_than", [timedelta(hours=1), 3600, 3600.5])
def test_the_old_ones_go_up_to_the_first_that_is_young(
    event_log: EventLog, server: Server, log_schema: str, older_than: Any
) -> None:
    fill(server, log_schema, 1200, age="2 hours")
    fill(server, log_schema, 1)
    fill(server, log_schema, 5, age="2 hours")
    assert event_log.trim(older_than=older_than, keep=1000, timeout=20) == 206
    assert event_log.trim(older_than=older_than, timeout=20) == 994
    assert figures(event_log) == (1206, 1201, 1200, 6)


@pytest.mark.parametrize(
    "limit",
    [{"keep": 2**63}, {"keep": 10**400}, {"older_than": 1e12}, {"older_than": 1e300},
     {"older_than": timedelta.max}],
)  # fmt: skip
def test_a_limit_beyond_what_the_server_counts_removes_nothing(
    event_log: EventLog, server: Server, log_schema: str, limit: Any
) -> None:
    fill(server, log_schema, 3, age="6000 years")
    assert event_log.trim(**limit, timeout=20) == 0


def test_a_follower_is_told(event_log: EventLog, server: Server, log_schema: str) -> None:
    fill(server, log_schema, 1)
    behind = event_log.follow(after=1, timeout=20)
    fill(server, log_schema, 12_000)
    ready = event_log.follow(after=12_001, timeout=20)
    assert event_log.trim(keep=1, timeout=50) == 12_000
    event_log.append("c", "last", timeout=20)
    assert ready.get(timeout=20).payload == "last"
    seen = [behind.get(timeout=20) for _ in range(3)]
    while seen[-1] is None or seen[-1].payload != "last":
        seen.append(behind.get(timeout=20))
    positions = [item.position for item in seen if item is not None]
    assert positions == sorted(positions)
    missing = 12_001 - len(positions)
    assert seen.count(None) == (missing > 0)


def test_two_trims_at_once_remove_each_entry_once(
    event_log: EventLog, make_log: Any, server: Server, log_schema: str
) -> None:
    fill(server, log_schema, 5000)
    other = make_log()
    trims = [gevent.spawn(log.trim, keep=10, timeout=50) for log in (event_log, other)]
    assert sum(each.get(timeout=50) for each in trims) == 4990
    assert figures(event_log) == (5000, 4991, 4990, 10)


@pytest.mark.any_backend
@pytest.mark.parametrize("mode", ["ACCESS EXCLUSIVE", "SHARE"])
def test_another_sessions_lock_ends_it_and_not_the_connection(
    event_log: EventLog, make_connection: MakeConnection, server: Server, log_schema: str, mode: str
) -> None:
    fill(server, log_schema, 10)
    locker = make_connection()
    locker.execute(f"BEGIN; LOCK TABLE {log_schema}.events_position IN {mode} MODE", 20)
    with pytest.raises(ServerError) as caught:
        event_log.trim(keep=5, timeout=50)
    assert caught.value.sqlstate == "55P03"
    locker.execute("ROLLBACK", 20)
    assert event_log.trim(keep=5, timeout=20) == 5
    assert broadcaster_of(event_log).stats().reconnects == 0


def test_an_entry_deleted_by_hand_does_not_stop_it(
    event_log: EventLog, server: Server, log_schema: str
) -> None:
    fill(server, log_schema, 10, age="2 hours")
    server.query(f"DELETE FROM {log_schema}.events WHERE id < 6")
    assert event_log.trim(older_than=60, timeout=20) == 5
    assert figures(event_log) == (10, None, 10, 0)


def test_a_timeout_leaves_a_part(event_log: EventLog, server: Server, log_schema: str) -> None:
    fill(server, log_schema, 10)
    event_log.position(timeout=20)
    with pytest.raises(OperationTimeout):
        event_log.trim(keep=0, timeout=0)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({}, "older_than"),
        ({"keep": -1}, "keep"),
        ({"keep": 1.5}, "keep"),
        ({"keep": True}, "keep"),
        ({"older_than": -1}, "older_than"),
        ({"older_than": timedelta(-1)}, "older_than"),
        ({"older_than": float("nan")}, "older_than"),
        ({"older_than": float("inf")}, "older_than"),
        ({"older_than": 10**400}, "older_than"),
        ({"older_than": 10**5000}, "older_than"),
        ({"older_than": "7d"}, "older_than"),
    ],
)
def test_wrong_limits_are_refused(event_log: EventLog, arguments: Any, option: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        event_log.trim(**arguments)
    assert caught.value.option == option


def test_the_status_is_that_of_the_tables(event_log: EventLog, server: Server, log_schema: str) -> None:
    fill(server, log_schema, 3)
    server.query("SET session_replication_role = replica")
    fill(server, log_schema, 2)
    server.query("RESET session_replication_role")
    server.query(f"INSERT INTO {log_schema}.events_consumer (name, position) VALUES ('mail', 1)")
    # As a program that is not of pglisten may write it.
    server.query(f"INSERT INTO {log_schema}.events_consumer VALUES ('new', 0, 'infinity')")
    status = event_log.status(timeout=20)
    mail, new = status.consumers
    size = status.bytes
    assert new.updated == datetime(9999, 12, 31, tzinfo=timezone.utc)
    assert abs(datetime.now(timezone.utc) - mail.updated) < timedelta(minutes=1)
    assert mail == ConsumerStatus("mail", 1, 2, active=False, updated=mail.updated)
    assert status == LogStatus(f"{log_schema}.events", 1, 3, 1, 0, 3, 2, size, (mail, new))
    assert 50_000 < size < 500_000
    event_log.trim(keep=1, timeout=20)
    assert [each.behind for each in event_log.status(timeout=20).consumers] == [1, 1]
