"""Followers of a log: what they get, from where, and what it costs the server."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import gevent
import pytest

from pglisten import Broadcaster, ConfigurationError, EventLog, InvalidChannelName, OperationTimeout
from pglisten._eventlog.source import fetch
from pglisten.testing import Proxy
from support.eventlogs import append, fill, next_entry, nothing_before_a_fence, payloads, positions
from support.fixtures.eventlogs import WINDOW, MakeLog
from support.servers.server import Server
from support.timeouts import TIMEOUT


def test_entries_come_in_the_order_of_commits_to_all_who_follow_their_channel(
    server: Server, event_log: EventLog
) -> None:
    everything, a, ab = (event_log.follow(*channels) for channels in ((), ("a",), ("a", "b")))
    append(server, event_log, "a", "1", "2")
    append(server, event_log, "c", "3")
    append(server, event_log, "b", "4")
    assert payloads(everything, 4) == ["1", "2", "3", "4"]
    assert payloads(a, 2) == ["1", "2"]
    assert payloads(ab, 3) == ["1", "2", "4"]
    assert (everything.position, a.position, ab.position) == (4, 2, 4)
    assert all(nothing_before_a_fence(server, event_log, each, "a") for each in (ab,))


def test_an_entry_is_what_was_inserted(server: Server, event_log: EventLog) -> None:
    follower = event_log.follow('it\'s \\ "é" %s')
    before = datetime.now(timezone.utc)
    append(server, event_log, 'it\'s \\ "é" %s', "päyload \\ ' \n €")
    entry = next_entry(follower)
    assert entry[:3] == (1, 'it\'s \\ "é" %s', "päyload \\ ' \n €")
    assert abs(entry.created - before) < timedelta(seconds=TIMEOUT)
    assert entry.created.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("created", "read"),
    [
        ("2024-02-29 12:00:00.000001+02", datetime(2024, 2, 29, 10, 0, 0, 1, timezone.utc)),
        ("1500-01-01 00:00:00.123457+00", datetime(1500, 1, 1, 0, 0, 0, 123457, timezone.utc)),
        ("2400-03-01 11:00:00.999999+00", datetime(2400, 3, 1, 11, 0, 0, 999999, timezone.utc)),
        ("infinity", datetime(9999, 12, 31, tzinfo=timezone.utc)),
        ("294276-12-31 23:59:59+00", datetime(9999, 12, 31, tzinfo=timezone.utc)),
        ("-infinity", datetime(1, 1, 1, tzinfo=timezone.utc)),
        ("4713-01-01 00:00:00+00 BC", datetime(1, 1, 1, tzinfo=timezone.utc)),
    ],
)
def test_no_time_of_creation_stops_a_follower(
    server: Server, event_log: EventLog, created: str, read: datetime
) -> None:
    follower = event_log.follow()
    server.query(f"INSERT INTO {event_log._names.entries} (channel, created) VALUES ('c', %s)", created)
    assert next_entry(follower).created == read
    assert nothing_before_a_fence(server, event_log, follower, "c")


def test_what_is_rolled_back_is_never_read_and_leaves_no_gap(server: Server, event_log: EventLog) -> None:
    follower = event_log.follow()
    server.query(
        f"DO $$ BEGIN INSERT INTO {event_log._names.entries} (channel) VALUES ('undone');"
        " SET CONSTRAINTS ALL IMMEDIATE; RAISE division_by_zero;"
        " EXCEPTION WHEN division_by_zero THEN NULL; END $$"
    )
    append(server, event_log, "c", "kept")
    assert payloads(follower, 1) == ["kept"]
    assert follower.position == 2  # The number 1 was drawn.


def test_from_now_means_nothing_that_the_log_has_held_so_far(server: Server, event_log: EventLog) -> None:
    fill(server, event_log, 3)
    follower = event_log.follow()
    assert follower.position == 3
    assert nothing_before_a_fence(server, event_log, follower, "c0")


@pytest.mark.parametrize("channels", [(), ("c3",), ("c1", "c2", "c9"), tuple(f"c{n}" for n in range(2, 11))])
def test_a_follower_resumes_far_behind_the_window_and_meets_it(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy], channels: tuple[str, ...]
) -> None:
    log, _ = log_behind_proxy
    log.follow()
    fill(server, log, 10 * WINDOW, channels=13)
    expected = [
        number for number in range(1, 10 * WINDOW + 1) if not channels or f"c{number % 13}" in channels
    ]
    with log.follow(*channels, after=0, timeout=TIMEOUT) as follower:
        assert payloads(follower, len(expected)) == list(map(str, expected))
        assert nothing_before_a_fence(server, log, follower, channels[0] if channels else "c1")
    middle = expected[len(expected) // 2]
    with log.follow(*channels, after=middle, queue_size=1000) as follower:
        rest = [number for number in expected if number > middle]
        assert payloads(follower, len(rest)) == list(map(str, rest))


def test_inside_the_window_a_follower_costs_no_query(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    first = log.follow(after=0)
    fill(server, log, 2 * WINDOW, channels=7)
    assert positions(first, 2 * WINDOW)[-1] == 2 * WINDOW
    before = between.queries
    for after in range(WINDOW, 2 * WINDOW, 100):
        with log.follow("c1", "c2", after=after, timeout=TIMEOUT) as follower:
            assert next_entry(follower).position > after
        with log.follow(after=after) as follower:
            assert positions(follower, 2 * WINDOW - after) == list(range(after + 1, 2 * WINDOW + 1))
            with pytest.raises(OperationTimeout):
                follower.get(0)
    assert between.queries == before


def test_new_entries_are_read_once_for_all_followers(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    waiting = [gevent.spawn(log.follow(f"c{number % 10}").get) for number in range(100)]
    gevent.idle()
    before = between.queries
    fill(server, log, 10, channels=10)
    gevent.joinall(waiting, timeout=TIMEOUT, raise_error=True)
    assert sorted(each.get().position for each in waiting) == [
        number for number in range(1, 11) for _ in "0123456789"
    ]
    assert between.queries - before <= 2


def test_a_follower_of_a_quiet_channel_costs_no_query_while_others_are_loud(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    quiet, loud = log.follow("quiet"), log.follow("c0")
    waiting = gevent.spawn(quiet.get)
    gevent.idle()
    for _ in range(3):
        fill(server, log, WINDOW)
        assert payloads(loud, WINDOW)[-1] == str(WINDOW)
    assert quiet.position == 3 * WINDOW
    before = between.queries
    append(server, log, "quiet", "at last")
    assert waiting.get(timeout=TIMEOUT).payload == "at last"
    # The bell, and perhaps one more look.
    assert between.queries - before <= 2


def test_each_bell_costs_one_query_and_a_session_that_was_changed_is_noticed(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    follower = log.follow()
    append(server, log, "c", "prepares the query")
    assert len(payloads(follower, 1)) == 1
    before = between.queries
    append(server, log, "c", "1")
    assert payloads(follower, 1) == ["1"]
    assert between.queries == before + 1
    fetch(log._broadcaster, log._names, "DEALLOCATE ALL", TIMEOUT)
    append(server, log, "c", "2")
    assert payloads(follower, 1) == ["2"]


def test_a_burst_of_bells_is_read_in_pages(server: Server, log_behind_proxy: tuple[EventLog, Proxy]) -> None:
    log, between = log_behind_proxy
    follower = log.follow()
    before = between.queries
    server.query(
        f"DO $$ BEGIN FOR number IN 1..2000 LOOP"
        f" INSERT INTO {log._names.entries} (channel) VALUES ('c'); END LOOP; END $$"
    )
    assert positions(follower, 2000) == list(range(1, 2001))
    assert between.queries - before <= 8


def test_the_longest_entry_is_read_by_followers_inside_and_behind(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, _ = log_behind_proxy
    first = log.follow()
    server.query(f"INSERT INTO {log._names.entries} (channel, payload) VALUES ('c', repeat('x', 16 << 20))")
    append(server, log, "c", "behind it")
    assert [len(next_entry(first).payload), len(next_entry(first).payload)] == [16 << 20, 9]
    with log.follow(after=0) as second:
        assert [len(next_entry(second).payload), len(next_entry(second).payload)] == [16 << 20, 9]


def test_several_greenlets_share_a_follower_and_each_entry_goes_to_one(
    server: Server, event_log: EventLog
) -> None:
    follower = event_log.follow()
    waiting = [gevent.spawn(follower.get) for _ in range(5)]
    gevent.idle()
    append(server, event_log, "c", "1", "2", "3", "4", "5")
    gevent.joinall(waiting, timeout=TIMEOUT, raise_error=True)
    assert sorted(each.get().payload for each in waiting) == ["1", "2", "3", "4", "5"]
    assert nothing_before_a_fence(server, event_log, follower, "c")


@pytest.mark.parametrize("after", [-1, True, 1.0, "1"])
def test_what_is_no_position_is_refused_at_once(broadcaster: Broadcaster, after: object) -> None:
    log = EventLog("not there", broadcaster)
    with pytest.raises(ConfigurationError) as caught:
        log.follow(after=after)  # type: ignore[arg-type]
    assert caught.value.option == "after"


def test_a_position_that_is_not_there_yet_is_refused(server: Server, event_log: EventLog) -> None:
    event_log.follow()
    fill(server, event_log, 5)
    # The reader may not have heard of them, and asks.
    assert event_log.follow(after=5).position == 5
    for after in (6, 2**63):
        with pytest.raises(ConfigurationError, match="beyond the newest position of the log, 5") as caught:
            event_log.follow(after=after)
        assert caught.value.option == "after"


def test_wrong_arguments_are_refused_at_once(broadcaster: Broadcaster) -> None:
    with pytest.raises(ConfigurationError) as caught:
        EventLog("x" * 41, broadcaster)
    assert caught.value.option == "name"
    with pytest.raises(ConfigurationError) as caught:
        EventLog("events", "dbname=x")  # type: ignore[arg-type]
    assert caught.value.option == "broadcaster"
    with pytest.raises(ConfigurationError) as caught:
        EventLog("events", broadcaster, window=0)
    assert caught.value.option == "window"
    with pytest.raises(ConfigurationError) as caught:
        EventLog("events", broadcaster).follow(queue_size=0)
    assert caught.value.option == "queue_size"
    with pytest.raises(InvalidChannelName):
        EventLog("events", broadcaster).follow("")


def test_two_logs_of_one_broadcaster_share_its_session(
    server: Server, make_broadcaster: object, make_log: MakeLog, log_schema: str
) -> None:
    one = make_log("one")
    server.query(EventLog.sql("two", schema=log_schema))
    with EventLog("two", one._broadcaster, schema=log_schema) as two:
        before = server.sessions()
        first, second = one.follow(), two.follow()
        assert server.sessions() == before + 1
        append(server, two, "c", "2")
        append(server, one, "c", "1")
        assert (payloads(first, 1), payloads(second, 1)) == (["1"], ["2"])
        assert repr(two) == f"<EventLog {log_schema}.two open>"
        assert repr(second) == "<Follower open position=1 channels=all>"
