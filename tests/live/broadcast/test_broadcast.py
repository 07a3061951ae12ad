"""Broadcasters on a real server: sessions, round trips, losses, forks, and everything at once."""

from __future__ import annotations

import random

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Broadcaster, Subscription
from support.broadcasters import payloads, queue_is_empty, settle
from support.fixtures.broadcasters import MakeBroadcaster
from support.fixtures.listeners import Events, succeeds
from support.fixtures.proxy import MakeProxy
from support.servers.server import Server
from support.timeouts import TIMEOUT


def test_hundreds_of_subscriptions_have_one_session(server: Server, broadcaster: Broadcaster) -> None:
    before = server.sessions()
    made = [broadcaster.subscribe("common", f"own {number}", timeout=TIMEOUT) for number in range(300)]
    assert server.sessions() == before + 1
    server.notify("common", "all")
    for number, subscription in enumerate(made):
        server.notify(f"own {number}", str(number))
        assert payloads(subscription, 2) == ["all", str(number)]
    assert broadcaster.stats().subscriptions == 300


def test_what_is_committed_after_subscribe_has_returned_is_delivered(
    server: Server, broadcaster: Broadcaster
) -> None:
    for number in range(20):
        with broadcaster.subscribe(f"c{number}", timeout=TIMEOUT) as subscription:
            server.notify(f"c{number}", "x")
            assert payloads(subscription, 1) == ["x"]


def test_two_thousand_channels_at_once_cost_a_few_round_trips(
    server: Server, make_broadcaster: MakeBroadcaster, proxy: MakeProxy
) -> None:
    between = proxy(server)
    broadcaster = make_broadcaster(server.dsn(host=between.host, port=between.port))
    broadcaster.wait_connected(TIMEOUT)
    before = between.queries
    made = [gevent.spawn(broadcaster.subscribe, f"c{number}") for number in range(2000)]
    gevent.joinall(made, timeout=TIMEOUT, raise_error=True)
    assert between.queries - before <= 6
    subscriptions = [each.get() for each in made]
    assert queue_is_empty(subscriptions[-1], broadcaster, "c1999")


def test_the_server_keeps_no_channel_of_a_closed_subscription(
    broadcaster: Broadcaster, server: Server
) -> None:
    stays, goes = broadcaster.subscribe("stays"), broadcaster.subscribe("stays", "goes")
    goes.close()
    settle(broadcaster)
    server.notify("goes", "x")
    assert queue_is_empty(stays, broadcaster, "stays")
    assert broadcaster.stats().received == 1  # The fence: the other was not sent at all.


def test_after_a_loss_all_have_a_marker_and_go_on(server: Server, make_broadcaster: MakeBroadcaster) -> None:
    events = Events()
    broadcaster = make_broadcaster(event_callback=events)
    made = [broadcaster.subscribe(f"c{number % 3}", timeout=TIMEOUT) for number in range(30)]
    pid = broadcaster.stats().server_pid
    server.query(f"SELECT pg_terminate_backend({pid})")
    assert [payloads(each, 1) for each in made] == [[None]] * 30
    for number in range(3):
        server.notify(f"c{number}", "after")
    assert [payloads(each, 1) for each in made] == [["after"]] * 30
    assert events.names == ["CONNECTED", "DISCONNECTED", "RECONNECTED"]


def test_subscribe_without_a_connection_returns_with_the_next_one(
    server: Server, make_broadcaster: MakeBroadcaster, proxy: MakeProxy
) -> None:
    between, events = proxy(server), Events()
    between.refuse()
    broadcaster = make_broadcaster(
        server.dsn(host=between.host, port=between.port), event_callback=events, max_reconnect_interval=0.05
    )
    subscribing = gevent.spawn(broadcaster.subscribe, "c")
    events.wait_for("CONNECTION_ATTEMPT_FAILED")
    assert not subscribing.ready()
    between.accept()
    assert queue_is_empty(subscribing.get(timeout=TIMEOUT), broadcaster, "c")


FORK = """
import os, sys, gevent
import pglisten
broadcaster = pglisten.Broadcaster(sys.argv[1], backend=sys.argv[2])
subscription = broadcaster.subscribe("c", timeout=20)
parent = broadcaster.stats().server_pid
broadcaster.notify("c", "the parent's", 20)
while not subscription._queue.items:
    gevent.sleep(0.001)
child = os.fork()
if not child:
    status = 1
    try:
        try:
            subscription.get(20)
        except pglisten.ListenerClosed as error:
            assert "subscribe in this one" in str(error)
        assert broadcaster.channels == frozenset()
        subscription.close()
        own = broadcaster.subscribe("c", "own", timeout=20)
        assert broadcaster.stats().server_pid != parent
        broadcaster.notify("own", "the child's", 20)
        assert own.get(20).payload == "the child's"
        broadcaster.close()
        status = 0
    finally:
        os._exit(status)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert subscription.get(20).payload == "the parent's"
broadcaster.notify("c", "after", 20)
assert subscription.get(20).payload == "after"
assert broadcaster.stats().server_pid == parent
broadcaster.close()
print("well")
"""


@pytest.mark.slow
@pytest.mark.parametrize("patched", ["plain", "patched"])
def test_after_a_fork_each_process_has_its_own(server: Server, backend_name: str, patched: str) -> None:
    patch = "from gevent import monkey; monkey.patch_all()\n" if patched == "patched" else ""
    succeeds(patch + FORK, server.dsn(), backend_name)


@pytest.mark.slow
def test_consumers_come_and_go_connections_break_and_no_loss_is_without_a_marker(
    server: Server, make_broadcaster: MakeBroadcaster, proxy: MakeProxy
) -> None:
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    rng, between = random.Random(seed), proxy(server)
    broadcaster = make_broadcaster(
        server.dsn(host=between.host, port=between.port), max_reconnect_interval=0.05, heartbeat_interval=0.5
    )
    sent, over = [0], Event()

    def consume(number: int) -> None:
        own_rng = random.Random(seed + number)
        while not over.is_set():
            try:
                with broadcaster.subscribe(
                    "c", queue_size=own_rng.choice([1, 5, 50]), timeout=2
                ) as subscription:
                    follow(subscription, own_rng)
            except (pglisten.OperationTimeout, gevent.Timeout):
                continue

    def follow(subscription: Subscription, own_rng: random.Random) -> None:
        """Consume for a while."""
        last: int | None = None
        for _ in range(own_rng.randrange(1, 60)):
            item = subscription.get(2)
            if item is None:
                last = None
                continue
            assert last is None or int(item.payload) == last + 1
            last = int(item.payload)
            gevent.sleep(own_rng.choice([0, 0, 0.002]))

    consumers = [gevent.spawn(consume, number) for number in range(20)]
    for round_ in range(400):
        server.notify("c", str(sent[0]))
        sent[0] += 1
        if round_ % 40 == 39:
            between.cut(rng.choice(["fin", "rst"]))
            victim = rng.randrange(len(consumers))
            consumers[victim].kill()
            consumers[victim] = gevent.spawn(consume, victim)
        gevent.sleep(0)
    over.set()
    # Consumers that wait for more time out after two seconds.
    gevent.joinall(consumers, timeout=TIMEOUT, raise_error=True)
    broadcaster.wait_connected(TIMEOUT)
    settle(broadcaster)
    assert (broadcaster.stats().subscriptions, broadcaster.channels) == (0, frozenset())
