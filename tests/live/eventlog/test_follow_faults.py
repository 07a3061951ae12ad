"""Followers through losses, trims and refusals."""

from __future__ import annotations

import random

import gevent
import pytest

from pglisten import EventLog, OperationTimeout, ServerError
from pglisten.testing import Proxy
from support.eventlogs import append, fill, nothing_before_a_fence, payloads, positions, trim
from support.fixtures.broadcasters import MakeBroadcaster
from support.fixtures.eventlogs import WINDOW
from support.fixtures.listeners import MakeConnection
from support.servers.server import Server
from support.timeouts import TIMEOUT


def test_a_lost_connection_leaves_no_gap(server: Server, event_log: EventLog) -> None:
    follower, waiting = event_log.follow(), gevent.spawn(event_log.follow("c0").get)
    for round_number in range(1, 4):
        server.terminate(event_log._broadcaster.stats().server_pid or 0)
        fill(server, event_log, 3)
        assert payloads(follower, 3) == ["1", "2", "3"]
        assert event_log._broadcaster.stats().reconnects == round_number
    assert waiting.get(timeout=TIMEOUT).position == 1


def test_what_was_committed_during_an_outage_is_read_after_it(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    follower, behind = log.follow(), log.follow(after=0)
    between.refuse()
    between.cut()
    fill(server, log, 3 * WINDOW)
    waiting = gevent.spawn(payloads, follower, 3 * WINDOW)
    with pytest.raises(OperationTimeout):
        behind.get(0.05)
    assert not waiting.ready()
    between.accept()
    expected = [str(number) for number in range(1, 3 * WINDOW + 1)]
    assert waiting.get(timeout=TIMEOUT) == expected
    assert payloads(behind, 3 * WINDOW) == expected


def test_connections_that_break_all_the_time_lose_and_repeat_nothing(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    rng = random.Random(seed)
    live, late = log.follow(), log.follow(after=0)
    found = gevent.spawn(positions, live, 5 * WINDOW)
    for number in range(20):
        fill(server, log, WINDOW // 4)
        if number == 10:
            late_found = gevent.spawn(positions, late, 5 * WINDOW)
        gevent.sleep(rng.uniform(0, 0.02))  # A fault at any moment.
        between.cut()
    assert found.get(timeout=TIMEOUT) == list(range(1, 5 * WINDOW + 1))
    assert late_found.get(timeout=TIMEOUT) == list(range(1, 5 * WINDOW + 1))


def test_follow_waits_for_a_connection_at_most_its_timeout(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    between.refuse()
    with pytest.raises(OperationTimeout):
        log.follow(timeout=0.05)
    waiting = gevent.spawn(log.follow)
    gevent.idle()
    between.accept()
    assert nothing_before_a_fence(server, log, waiting.get(timeout=TIMEOUT), "c")


def test_trim_that_was_faster_is_a_gap_and_nothing_else_is(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    reader = log.follow()
    fill(server, log, 3 * WINDOW)
    assert positions(reader, 3 * WINDOW)[-1] == 3 * WINDOW
    behind = log.follow(after=10, queue_size=100)
    assert positions(behind, 100) == list(range(11, 111))
    trim(server, log, 500)
    kept = log.follow(after=0)
    ahead: list[int] = []
    while (entry := behind.get(TIMEOUT)) is not None:
        ahead.append(entry.position)
    # It may have read one page ahead.
    assert ahead == [*range(111, 111 + len(ahead))]
    assert len(ahead) <= 100
    assert positions(behind, 1) == [501]
    assert behind.position == 501
    assert positions(kept, 1) == [501]
    # Ahead of what is removed: no gap.
    trim(server, log, 3 * WINDOW)
    assert nothing_before_a_fence(server, log, reader, "c0")
    # While the reader was away.
    between.refuse()
    between.cut()
    fill(server, log, 10)
    trim(server, log, 3 * WINDOW + 5)
    between.accept()
    assert positions(reader, 3) == [None, 3 * WINDOW + 6, 3 * WINDOW + 7]


def test_a_waiting_follower_of_another_channel_is_told_of_a_trim_too(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    waiting = gevent.spawn(log.follow("quiet").get)
    gevent.idle()
    between.refuse()
    between.cut()
    append(server, log, "quiet", "lost")
    trim(server, log, 1)
    between.accept()
    assert waiting.get(timeout=TIMEOUT) is None


def test_a_refusal_is_raised_by_all_who_wait_and_the_next_call_asks_again(
    server: Server, event_log: EventLog
) -> None:
    names = event_log._names
    follower = event_log.follow()
    waiting = [gevent.spawn(event_log.follow().get) for _ in range(3)]
    gevent.idle()
    server.query(f"ALTER VIEW {names.view} RENAME TO elsewhere")
    append(server, event_log, "c", "1")
    for each in waiting:
        with pytest.raises(ServerError, match="42P01"):
            each.get(timeout=TIMEOUT)
    for call in (lambda: follower.get(TIMEOUT), lambda: event_log.follow(timeout=TIMEOUT)):
        with pytest.raises(ServerError, match="42P01"):
            call()
    server.query(f"ALTER VIEW {names.view.replace('events_log', 'elsewhere')} RENAME TO events_log")
    assert payloads(follower, 1) == ["1"]
    assert event_log.follow(after=0).get(TIMEOUT).payload == "1"


def test_a_log_that_is_not_there_is_an_error_at_once(
    server: Server, make_broadcaster: MakeBroadcaster, log_schema: str
) -> None:
    with EventLog("missing", make_broadcaster(), schema=log_schema) as log:
        with pytest.raises(ServerError, match="42P01"):
            log.follow()
        server.query(EventLog.sql("missing", schema=log_schema))
        assert nothing_before_a_fence(server, log, log.follow(), "c")


def test_a_channel_that_the_database_cannot_express_fails_for_its_follower_alone(
    server: Server, make_broadcaster: MakeBroadcaster, log_schema: str
) -> None:
    server.query(f"CREATE DATABASE {log_schema} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    latin = Server(server.keywords | {"dbname": log_schema}, "a database in LATIN1")
    try:
        latin.query(EventLog.sql("events"))
        with (
            make_broadcaster(latin.dsn()) as broadcaster,
            EventLog("events", broadcaster, window=10) as log,
        ):
            follower = log.follow("é")
            append(latin, log, "é", *"0123456789abc")
            assert payloads(follower, 13)[-1] == "c"
            waiting, behind = gevent.spawn(follower.get), log.follow("日", after=0)
            for _ in range(2):
                with pytest.raises(ServerError, match="22P05"):
                    behind.get(TIMEOUT)
            append(latin, log, "é", "on")
            assert waiting.get(timeout=TIMEOUT).payload == "on"
    finally:
        latin.close()
        server.query(f"DROP DATABASE {log_schema}")


def test_a_query_that_an_administrator_cancels_is_run_again(
    server: Server, event_log: EventLog, make_connection: MakeConnection
) -> None:
    follower, locker = event_log.follow(), make_connection()
    locker.execute(f"BEGIN; LOCK TABLE {event_log._names.state} IN ACCESS EXCLUSIVE MODE", TIMEOUT)
    append(server, event_log, "c", "1")
    cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
    with gevent.Timeout(TIMEOUT):
        while server.query(cancel, event_log._broadcaster.stats().server_pid) != [(True,)]:
            gevent.sleep(0.01)  # PostgreSQL has no event for it.
    locker.execute("COMMIT", TIMEOUT)
    assert payloads(follower, 1) == ["1"]
    assert event_log._broadcaster.stats().reconnects == 0
