"""Slow subscriptions, and the gap markers after a loss, on a server in memory."""

from __future__ import annotations

import gc
import time
from itertools import pairwise

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Broadcaster, ServerError, Subscription
from pglisten._broadcast import fanout
from pglisten._broadcast.upstream import PER_WAKE
from pglisten.testing import FakeServer
from support.broadcasters import come_in, payloads, settle
from support.timeouts import TIMEOUT


class TestSlowSubscriptions:
    """What each overflow policy does to a slow subscription and to the others."""

    def test_one_marker_replaces_the_oldest_and_other_subscriptions_miss_nothing(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        slow, quick = broadcaster.subscribe("a", queue_size=3), broadcaster.subscribe("a")
        for number in range(10):
            server.notify("a", str(number))
        assert payloads(quick, 10) == [str(number) for number in range(10)]
        assert payloads(slow, 4) == [None, "7", "8", "9"]
        assert (slow.dropped, quick.dropped) == (7, 0)
        slow.close()
        assert broadcaster.stats().subscriptions_dropped == 7

    def test_an_overflow_ends_a_subscription_after_its_queued_items_and_unlistens(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        slow = broadcaster.subscribe("own", "a", queue_size=2, overflow="close")
        quick = broadcaster.subscribe("a")
        for number in range(4):
            server.notify("a", str(number))
        assert payloads(quick, 4) == ["0", "1", "2", "3"]
        assert slow.closed
        assert payloads(slow, 2) == ["0", "1"]
        with pytest.raises(pglisten.SubscriptionOverflow):
            slow.get(TIMEOUT)
        with pytest.raises(pglisten.SubscriptionOverflow):
            next(iter(slow))
        settle(broadcaster)
        assert broadcaster.channels == {"a"}

    @pytest.mark.parametrize("end", ["consumed", "closed", "collected"])
    def test_all_wait_for_a_subscription_that_blocks_until_it_consumes_or_is_gone(
        self, server: FakeServer, broadcaster: Broadcaster, end: str
    ) -> None:
        slow: Subscription | None = broadcaster.subscribe("a", queue_size=1, overflow="block")
        quick = broadcaster.subscribe("a")
        for number in range(3):
            server.notify("a", str(number))
        assert slow is not None
        assert payloads(quick, 1) == ["0"]
        broadcaster.ping(TIMEOUT)
        assert repr(quick) == "<Subscription open channels=1 queued=0>"
        if end == "consumed":
            assert payloads(slow, 3) == ["0", "1", "2"]
        elif end == "closed":
            slow.close()
            assert payloads(slow, 1) == ["0"]
        else:
            slow = None
            gc.collect()
        assert payloads(quick, 2) == ["1", "2"]

    def test_close_does_not_wait_for_a_subscription_that_blocks(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        slow = broadcaster.subscribe("a", queue_size=1, overflow="block")
        for number in range(5):
            server.notify("a", str(number))
        broadcaster.ping(TIMEOUT)
        with gevent.Timeout(TIMEOUT):
            broadcaster.close()
        assert [item and item.payload for item in slow] == ["0"]


class TestDelivering:
    """Changes of the subscriptions while a notification is handed out."""

    def test_a_subscription_that_unlistens_meanwhile_does_not_get_the_notification(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        made = [broadcaster.subscribe("a") for _ in range(fanout.PORTION + 1)]

        def take_and_drop() -> None:
            payloads(made[0], 1)
            made[-1].unlisten("a")

        dropping = gevent.spawn(take_and_drop)
        gevent.idle()
        server.notify("a", "1")
        dropping.get(timeout=TIMEOUT)
        server.notify("a", "2")
        assert payloads(made[-2], 2) == ["1", "2"]  # So the first one is handed out.
        with pytest.raises(pglisten.OperationTimeout):
            made[-1].get(0)

    def test_all_continue_when_the_subscription_that_blocks_unlistens(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        slow = broadcaster.subscribe("a", queue_size=1, overflow="block")
        quick = broadcaster.subscribe("a")
        for number in range(3):
            server.notify("a", str(number))
        assert payloads(quick, 1) == ["0"]
        broadcaster.ping(TIMEOUT)
        slow.unlisten("a")
        assert payloads(quick, 2) == ["1", "2"]
        assert payloads(slow, 1) == ["0"]
        with pytest.raises(pglisten.OperationTimeout):
            slow.get(0)

    @pytest.mark.parametrize("queue_size", [1, 256])
    def test_a_burst_does_not_outrun_a_consumer_that_only_takes(
        self, broadcaster: Broadcaster, queue_size: int
    ) -> None:
        subscription = broadcaster.subscribe("a", queue_size=queue_size)
        taking = gevent.spawn(payloads, subscription, 1000)
        gevent.idle()
        come_in(broadcaster, "a", *map(str, range(1000)))
        assert taking.get(timeout=TIMEOUT) == [str(number) for number in range(1000)]
        assert subscription.dropped == 0

    def test_each_of_many_consumers_wakes_once_for_a_burst(self, broadcaster: Broadcaster) -> None:
        made = [broadcaster.subscribe("a") for _ in range(fanout.PORTION + 1)]
        left: list[int] = []

        def take(subscription: Subscription) -> None:
            subscription.get(TIMEOUT)
            left.append(len(subscription._queue.items))

        taking = [gevent.spawn(take, each) for each in made]
        gevent.idle()
        come_in(broadcaster, "a", *map(str, range(10)))
        gevent.joinall(taking, timeout=TIMEOUT, raise_error=True)
        assert left == [9] * len(made)

    def test_other_greenlets_run_within_a_burst(self, broadcaster: Broadcaster) -> None:
        made = [broadcaster.subscribe("a", queue_size=1000) for _ in range(100)]
        counts = [0]

        def watch() -> None:
            while counts[-1] < 100 * len(made):
                gevent.sleep(1e-9)
                counts.append(sum(len(each._queue.items) for each in made))

        watching = gevent.spawn(watch)
        gevent.sleep(0)
        come_in(broadcaster, "a", *map(str, range(100)))
        watching.get(timeout=TIMEOUT)
        assert max(b - a for a, b in pairwise(counts)) <= 2 * fanout.PORTION * PER_WAKE


class TestGaps:
    """``None``, and ``on_gap``."""

    def test_after_a_loss_each_subscription_gets_one_marker(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        made = [broadcaster.subscribe("a"), broadcaster.subscribe("b"), broadcaster.subscribe()]
        server.cut()
        assert [payloads(each, 1) for each in made] == [[None]] * 3
        server.notify("a", "after")
        assert payloads(made[0], 1) == ["after"]

    def test_on_gap_is_called_in_the_consumers_greenlet_before_the_first_and_at_each_gap(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        seen, callers = list[object](), set[object]()

        def catch_up() -> None:
            callers.add(gevent.getcurrent())
            seen.append("read")

        subscription = broadcaster.subscribe("a", on_gap=catch_up)
        server.notify("a", "1")

        def consume() -> None:
            for item in subscription:
                seen.append(item and item.payload)
                if item and item.payload == "2":
                    return

        consuming = gevent.spawn(consume)
        gevent.idle()
        server.cut()
        with gevent.Timeout(TIMEOUT):
            while None not in seen:
                gevent.sleep(0)
        server.notify("a", "2")
        consuming.get(timeout=TIMEOUT)
        assert seen == ["read", "1", "read", None, "2"]
        assert callers == {consuming}

    def test_on_gap_that_fails_is_called_again_with_the_next(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        failures = [KeyError("start"), None, KeyError("gap"), None]

        def catch_up() -> None:
            if failure := failures.pop(0):
                raise failure

        subscription = broadcaster.subscribe("a", on_gap=catch_up)
        with pytest.raises(KeyError, match="start"):
            subscription.get(TIMEOUT)
        server.notify("a", "1")
        assert payloads(subscription, 1) == ["1"]
        server.cut()
        with pytest.raises(KeyError, match="gap"):
            subscription.get(TIMEOUT)
        assert payloads(subscription, 1) == [None]
        assert failures == []

    def test_a_channel_refused_after_a_reconnection_ends_its_subscriptions(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        lost, other = broadcaster.subscribe("a", "b"), broadcaster.subscribe("b")
        server.refuse_listen["a"] = ServerError("no", sqlstate="22P05")
        server.cut()
        assert payloads(other, 1) == [None]
        with pytest.raises(
            pglisten.ChannelNotOpen, match="refused channel 'a' when it was listened to again"
        ):
            lost.get(TIMEOUT)
        server.notify("b", "1")
        assert payloads(other, 1) == ["1"]

    def test_a_gap_whose_on_gap_failed_stays_pending_beside_an_earlier_call(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        began, may_end, calls = Event(), Event(), list[str]()

        def catch_up() -> None:
            call = ["start", "first", "second", "third", "fourth"][len(calls)]
            calls.append(call)
            if call == "first":
                began.set()
                may_end.wait(TIMEOUT)
            if call == "third":
                raise KeyError(call)

        def lose_the_connection() -> None:
            losses = broadcaster.stats().reconnects
            server.cut()
            with gevent.Timeout(TIMEOUT):
                while broadcaster.stats().reconnects == losses:
                    gevent.sleep(0.001)

        subscription = broadcaster.subscribe("a", on_gap=catch_up)
        slow = gevent.spawn(subscription.get, TIMEOUT)
        gevent.idle()
        lose_the_connection()
        assert began.wait(TIMEOUT)
        assert payloads(subscription, 1) == [None]  # For this consumer it is the same gap.
        lose_the_connection()
        with pytest.raises(KeyError, match="third"):
            subscription.get(TIMEOUT)
        may_end.set()
        assert slow.get(timeout=TIMEOUT) is None
        assert payloads(subscription, 1) == [None]
        assert calls[-1] == "fourth"

    def test_on_gap_is_not_called_when_the_stream_has_ended(self, broadcaster: Broadcaster) -> None:
        def fail() -> None:
            raise KeyError("the database is away")

        subscription = broadcaster.subscribe("a", on_gap=fail)
        with pytest.raises(KeyError):
            subscription.get(TIMEOUT)
        broadcaster.close()
        with pytest.raises(pglisten.ListenerClosed):
            subscription.get(TIMEOUT)


def test_a_timeout_counts_from_the_call_though_the_hub_was_held_up_before(broadcaster: Broadcaster) -> None:
    subscription = broadcaster.subscribe("a")
    time.sleep(0.1)  # Not gevent's: the event loop's own clock stands still meanwhile.
    began = time.monotonic()
    with pytest.raises(pglisten.OperationTimeout):
        subscription.get(0.05)
    assert time.monotonic() - began >= 0.049
