"""What eases the load of many streams: reconnect delays, gaps held back, a limit of age, one encoding."""

from __future__ import annotations

import time

import gevent
from gevent.event import Event

from pglisten import Broadcaster, Notification, Subscription, sse
from pglisten._broadcast.subscription import queued
from pglisten._sse.encoder import KEPT
from pglisten._sse.outage import QUIET, Outage
from pglisten._sse.registry import streams
from pglisten.testing import FakeServer
from support.programs.event_source import Parser, parse
from support.timeouts import TIMEOUT


def types(data: bytes) -> list[str]:
    return [event.type for event in parse(data).events]


def test_each_stream_draws_a_reconnect_delay_of_its_own(broadcaster: Broadcaster) -> None:
    bodies = [sse.stream(broadcaster.subscribe("orders"), retry=(1, 5)) for _ in range(50)]
    delays = [parse(next(body)).retry or 0 for body in bodies]
    assert all(1000 <= delay <= 5000 for delay in delays)
    assert len(set(delays)) > 30


def test_a_gap_is_held_back_for_a_part_of_the_spread_and_what_follows_stays_behind_it(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    spread = 0.4

    def follow(body: sse.EventStream) -> None:
        next(body)
        parser = Parser()
        while len(parser.events) < 2:
            parser.feed(next(body))
        assert [(event.type, event.data) for event in parser.events] == [("gap", ""), ("orders", "after")]
        body.close()

    bodies = [sse.stream(broadcaster.subscribe("orders"), gap_spread=spread) for _ in range(20)]
    following = [gevent.spawn(follow, body) for body in bodies]
    gevent.idle()
    began = time.monotonic()
    server.cut()
    server.wait_listened("orders", TIMEOUT)
    server.notify("orders", "after")
    gevent.joinall(following, timeout=TIMEOUT, raise_error=True)
    assert time.monotonic() - began > spread / 2  # Twenty draws are all in one half once in a million.


def test_a_stream_whose_gap_is_held_back_sends_heartbeats_and_ends_at_once(
    server: FakeServer, subscription: Subscription, stopping: None
) -> None:
    body = sse.stream(subscription, gap_spread=1000, heartbeat=0.01)
    next(body)
    server.cut()
    assert [next(body), next(body)] == [b":\n", b":\n"]
    ending = gevent.spawn(b"".join, body)
    gevent.idle()
    streams.end()
    assert types(ending.get(timeout=TIMEOUT)) == []


def test_a_stream_ends_when_it_has_reached_its_age_whether_or_not_events_come(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    quiet, busy = (sse.stream(broadcaster.subscribe(channel), max_age=0.1) for channel in ("a", "b"))
    began = time.monotonic()
    ended = gevent.spawn(b"".join, quiet)

    def notify() -> None:
        while True:
            server.notify("b", "x")
            gevent.sleep(0)

    notifying = gevent.spawn(notify)
    assert "b" in types(b"".join(busy))
    notifying.kill()
    assert types(ended.get(timeout=TIMEOUT)) == []
    assert time.monotonic() - began >= 0.09
    assert broadcaster.stats().subscriptions == 0


def test_an_event_is_encoded_once_for_all_streams_of_the_same_form(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    encoded: list[str] = []

    def encode(notification: Notification) -> str:
        encoded.append(notification.payload)
        return notification.payload.upper()

    bodies = [sse.stream(broadcaster.subscribe("orders"), encode=encode) for _ in range(10)]
    others = [sse.stream(broadcaster.subscribe("orders"), encode=encode, gap="missed") for _ in range(10)]
    for body in (*bodies, *others):
        next(body)
    fence = broadcaster.subscribe("orders")
    for number in range(100):
        server.notify("orders", f"number {number}")
    for _ in range(100):
        fence.get(TIMEOUT)
    received = {next(body) for body in bodies}
    (data,) = received
    assert [event.data for event in parse(data).events] == [f"NUMBER {number}" for number in range(100)]
    assert len(encoded) == 100
    # Another name for gaps makes another form, with ids of its own.
    assert received.isdisjoint(next(body) for body in others)
    assert len(encoded) == 200


def test_a_stream_that_is_far_behind_has_its_events_encoded_again(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    early, late = (sse.stream(broadcaster.subscribe("orders", queue_size=2 * KEPT)) for _ in range(2))
    next(early), next(late)
    for number in range(KEPT + 100):
        server.notify("orders", str(number))
    for body in (early, late):
        parser = Parser()
        while len(parser.events) < KEPT + 100:
            parser.feed(next(body))
        assert [event.data for event in parser.events] == [str(number) for number in range(KEPT + 100)]


def test_an_outage_is_one_line_with_its_cause_and_one_with_its_count() -> None:
    outage = Outage()
    assert outage.served(0) is None
    assert outage.refused("the server is down", 1) == "event streams are refused: the server is down"
    assert [outage.refused("another", moment) for moment in (2, 3, 4)] == [None, None, None]
    assert outage.served(5) == "event streams are served again: 4 were refused in 4.0 s"
    assert outage.served(6) is None
    # One channel of many that is refused again and again is no outage each time.
    assert outage.refused("once", 7) is None
    assert outage.served(8) is None
    assert outage.refused("again", 5 + QUIET) == "event streams are refused: again"
    assert outage.served(20 + QUIET) == f"event streams are served again: 2 were refused in {15 + 0.0:.1f} s"


def test_a_stream_that_was_ended_holds_no_gap_back(server: FakeServer, broadcaster: Broadcaster) -> None:
    subscription = broadcaster.subscribe("orders")
    body = sse.stream(subscription, gap_spread=1000, heartbeat=1000)
    next(body)
    server.cut()
    while not queued(subscription):
        gevent.sleep(0)
    body.end()
    with gevent.Timeout(TIMEOUT):
        assert b"".join(body) == b""


def test_a_revoked_stream_sends_nothing_of_what_was_being_encoded(broadcaster: Broadcaster) -> None:
    subscription = broadcaster.subscribe("orders")
    began, may_go_on = Event(), Event()

    def encode(notification: Notification) -> str:
        began.set()
        may_go_on.wait(TIMEOUT)
        return notification.payload

    body = sse.stream(subscription, encode=encode)
    next(body)
    for number in range(5):
        broadcaster.notify("orders", str(number), TIMEOUT)
    reading = gevent.spawn(b"".join, body)
    assert began.wait(TIMEOUT)
    body.revoke()
    may_go_on.set()
    assert reading.get(timeout=TIMEOUT) == b""
