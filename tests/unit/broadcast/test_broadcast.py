"""Many subscribers over one connection to a server in memory: what each gets, and its cost to others."""

from __future__ import annotations

import gc
import threading

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Broadcaster, ServerError
from pglisten.testing import FakeBackend, FakeServer
from support.broadcasters import payloads, queue_is_empty, settle
from support.timeouts import TIMEOUT


def test_each_subscription_gets_its_channels_in_order_and_nothing_else(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    both, one = broadcaster.subscribe("a", "b"), broadcaster.subscribe("a")
    for number in range(5):
        server.notify("ab"[number % 2], str(number))
    assert payloads(both, 5) == ["0", "1", "2", "3", "4"]
    assert payloads(one, 3) == ["0", "2", "4"]
    assert queue_is_empty(one, broadcaster, "a")


def test_a_broadcaster_connects_on_first_use_and_not_before(server: FakeServer) -> None:
    with Broadcaster("", backend=FakeBackend(server)) as broadcaster:
        gevent.idle()
        assert server.queries == []
        assert repr(broadcaster) == "<Broadcaster dialling backend=fake channels=0 subscriptions=0>"
        assert (broadcaster.channels, broadcaster.connected) == (frozenset(), False)
        broadcaster.notify("a", "first", TIMEOUT)
        assert broadcaster.connected
    with Broadcaster("", backend=FakeBackend(server)):
        pass  # Never used, it ends as well.


def test_the_first_use_of_a_broadcaster_says_why_there_is_no_connection(server: FakeServer) -> None:
    server.refuse = pglisten.ConnectionFailed("no")
    with Broadcaster(
        "", backend=FakeBackend(server), min_reconnect_interval=3600, max_reconnect_interval=3600
    ) as b:
        with pytest.raises(pglisten.NotConnected) as caught:
            b.ping(TIMEOUT)
        assert str(caught.value.__cause__) == "no"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"dsn": "port=x"}, "port"),
        ({"jitter": 2}, "jitter"),
        ({"backend": "nope"}, "there is no backend 'nope'"),
    ],
)
def test_bad_options_are_refused_when_it_is_made(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(pglisten.ConfigurationError, match=complaint):
        Broadcaster(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"queue_size": 0}, pglisten.ConfigurationError, "queue_size"),
        ({"overflow": "drop"}, pglisten.ConfigurationError, "'drop_oldest', 'close' or 'block', not 'drop'"),
        ({"on_gap": 1}, pglisten.ConfigurationError, "on_gap is a function"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
    ],
)
def test_a_bad_subscription_is_refused_before_anything_is_sent(
    server: FakeServer,
    broadcaster: Broadcaster,
    options: dict[str, object],
    error: type[Exception],
    complaint: str,
) -> None:
    with pytest.raises(error, match=complaint):
        broadcaster.subscribe("a", **options)  # type: ignore[arg-type]
    with pytest.raises(pglisten.InvalidChannelName):
        broadcaster.subscribe("a", "")
    assert (server.queries, broadcaster.stats().subscriptions) == ([], 0)


def test_a_channel_is_listened_to_from_its_first_subscription_to_its_last(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    first = broadcaster.subscribe("a")
    second = broadcaster.subscribe("a", "b")
    first.close()
    settle(broadcaster)
    assert broadcaster.channels == {"a", "b"}
    second.unlisten("a")
    assert second.channels == {"b"}
    settle(broadcaster)
    second.close()
    settle(broadcaster)
    assert broadcaster.channels == frozenset()
    asked = [query for query in server.queries if "LISTEN" in query]
    statements = [query.removesuffix(";SHOW server_encoding") for query in asked]
    assert statements == ['LISTEN "a"', 'LISTEN "b"', 'UNLISTEN "a"', "UNLISTEN *"]


def test_a_thousand_subscriptions_made_at_once_share_a_few_round_trips(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    made = [gevent.spawn(broadcaster.subscribe, f"c{number}", "common") for number in range(1000)]
    gevent.joinall(made, timeout=TIMEOUT, raise_error=True)
    assert len(broadcaster.channels) == 1001
    assert len([query for query in server.queries if "LISTEN" in query]) <= 3


def test_a_subscription_in_use_can_add_and_remove_channels(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    subscription = broadcaster.subscribe()
    waiting = gevent.spawn(payloads, subscription, 1)
    gevent.idle()
    subscription.listen("a", TIMEOUT)
    with pytest.raises(pglisten.ChannelAlreadyOpen):
        subscription.listen("a", TIMEOUT)
    server.notify("a", "1")
    assert waiting.get(timeout=TIMEOUT) == ["1"]
    other = broadcaster.subscribe("a")
    server.notify("a", "2")
    assert payloads(other, 1) == ["2"]  # And so it is queued for both.
    subscription.listen("b", TIMEOUT)
    subscription.unlisten("a")
    with pytest.raises(pglisten.ChannelNotOpen):
        subscription.unlisten("a")
    server.notify("a", "the other's")
    assert payloads(other, 1) == ["the other's"]
    assert payloads(subscription, 1) == ["2"]
    assert queue_is_empty(subscription, broadcaster, "b")


class TestFailures:
    """A subscribe() that fails leaves nothing."""

    def test_all_waiting_calls_raise_a_refusal_and_the_next_call_asks_again(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        server.refuse_listen["bad"] = ServerError("no", sqlstate="42501")
        broadcaster.wait_connected(TIMEOUT)
        made = [gevent.spawn(broadcaster.subscribe, f"good{number}", "bad") for number in range(3)]
        for each in made:
            with pytest.raises(ServerError, match="no"):
                each.get(timeout=TIMEOUT)
        settle(broadcaster)
        assert (broadcaster.channels, broadcaster.stats().subscriptions) == (frozenset(), 0)
        del server.refuse_listen["bad"]
        assert queue_is_empty(broadcaster.subscribe("bad", timeout=TIMEOUT), broadcaster, "bad")

    @pytest.mark.parametrize("how", ["timeout", "kill"])
    def test_an_abandoned_call_leaves_nothing_and_the_others_waiting(
        self, server: FakeServer, broadcaster: Broadcaster, how: str
    ) -> None:
        server.stop()
        abandoned = gevent.spawn(
            broadcaster.subscribe, "a", "own", timeout=0.01 if how == "timeout" else None
        )
        patient = gevent.spawn(broadcaster.subscribe, "a", timeout=TIMEOUT)
        gevent.idle()
        if how == "kill":
            abandoned.kill()
        else:
            with pytest.raises(pglisten.OperationTimeout):
                abandoned.get(timeout=TIMEOUT)
        assert broadcaster.channels == {"a"}
        server.start()
        assert queue_is_empty(patient.get(timeout=TIMEOUT), broadcaster, "a")


class TestTheEnd:
    """The end of a subscription, and of a broadcaster."""

    def test_queued_items_are_delivered_after_close_and_then_iteration_ends(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        one, other = broadcaster.subscribe("a"), broadcaster.subscribe("a")
        waiting = gevent.spawn(broadcaster.subscribe("b").get)
        server.notify("a", "1")
        assert payloads(one, 1) == ["1"]
        broadcaster.close()
        assert [item and item.payload for item in other] == ["1"]
        for each in (one.get, waiting.get, broadcaster.subscribe, broadcaster.ping):
            with pytest.raises(pglisten.ListenerClosed):
                each()
        broadcaster.close()
        assert repr(one) == "<Subscription closed channels=0 queued=0>"
        assert repr(broadcaster).startswith("<Broadcaster closed backend=fake ")

    def test_closing_a_subscription_wakes_its_waiting_consumer(self, broadcaster: Broadcaster) -> None:
        subscription = broadcaster.subscribe("a")
        waiting = gevent.spawn(list, subscription)
        gevent.idle()
        subscription.close()
        assert waiting.get(timeout=TIMEOUT) == []
        subscription.close()
        with pytest.raises(pglisten.ListenerClosed):
            subscription.listen("b")

    def test_a_greenlet_killed_in_a_with_block_closes_its_subscription(
        self, broadcaster: Broadcaster
    ) -> None:
        ready = Event()

        def consume() -> None:
            with broadcaster.subscribe("a") as subscription:
                ready.set()
                list(subscription)

        consuming = gevent.spawn(consume)
        assert ready.wait(TIMEOUT)
        consuming.kill()
        assert broadcaster.stats().subscriptions == 0

    @pytest.mark.parametrize("where", ["here", "another thread"])
    def test_a_collected_subscription_is_closed_in_whatever_thread_that_happens(
        self, broadcaster: Broadcaster, where: str
    ) -> None:
        made = [broadcaster.subscribe("a")]
        made.append(made)  # type: ignore[arg-type]  # A cycle: only the collector finds it.
        del made
        if where == "here":
            gc.collect()
        else:
            collecting = threading.Thread(target=gc.collect)
            collecting.start()
            collecting.join()
        with gevent.Timeout(TIMEOUT):
            while broadcaster.stats().subscriptions:
                gevent.sleep(0.001)
        settle(broadcaster)
        assert broadcaster.channels == frozenset()

    def test_a_subscription_whose_greenlet_is_killed_is_closed_without_the_collector(
        self, broadcaster: Broadcaster
    ) -> None:
        def consume() -> None:
            list(broadcaster.subscribe("a", timeout=TIMEOUT))

        consuming = gevent.spawn(consume)
        with gevent.Timeout(TIMEOUT):
            while not broadcaster.stats().subscriptions:
                gevent.idle()
        gc.disable()
        try:
            consuming.kill()
            del consuming
            settle(broadcaster)
            assert broadcaster.stats().subscriptions == 0
        finally:
            gc.enable()

    def test_no_consumer_waits_forever_if_the_broadcasters_greenlet_is_killed(
        self, broadcaster: Broadcaster
    ) -> None:
        subscription = broadcaster.subscribe("a")
        fan_out = broadcaster._fan_out
        assert fan_out._greenlet is not None
        fan_out._greenlet.kill()
        with pytest.raises(pglisten.ListenerClosed):
            subscription.get(TIMEOUT)
        assert broadcaster.closed

    def test_calls_from_another_thread_are_refused(self, broadcaster: Broadcaster) -> None:
        subscription = broadcaster.subscribe("a")
        for call in (
            subscription.get,
            subscription.close,
            broadcaster.subscribe,
            broadcaster.ping,
            broadcaster.close,
        ):
            with pytest.raises(pglisten.Error, match="another OS thread"):
                gevent.get_hub().threadpool.apply(call)
        assert queue_is_empty(subscription, broadcaster, "a")
