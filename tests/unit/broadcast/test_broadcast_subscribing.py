"""subscribe() and listen() while something else happens: a kill, a close, an unlisten."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Broadcaster, ListenerEvent, ServerError, Subscription
from pglisten.testing import FakeServer
from support.broadcasters import come_in, make_fake, payloads, settle
from support.timeouts import TIMEOUT

TURNS = range(25)
"""Turns of the hub before each test intervenes. The longest call here takes a dozen."""


@pytest.fixture
def few_objects_of_others() -> Iterator[None]:
    """Exclude existing objects from collection, for a test that collects garbage repeatedly."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class TestSubscribing:
    """What ends subscribe() before it returns."""

    @pytest.mark.usefixtures("few_objects_of_others")
    @pytest.mark.parametrize("connected", [False, True])
    @pytest.mark.parametrize("error", [gevent.GreenletExit, gevent.Timeout])
    def test_subscribe_ended_at_any_moment_leaves_nothing(
        self, server: FakeServer, connected: bool, error: type[BaseException]
    ) -> None:
        was_ready = set[bool]()
        for turns in TURNS:
            with make_fake(server) as broadcaster:
                kept = [broadcaster.subscribe("shared")] if connected else []
                subscribing = gevent.spawn(broadcaster.subscribe, "shared", "own", "another")
                for _ in range(turns):
                    gevent.sleep(0)
                was_ready.add(subscribing.ready())
                subscribing.kill(error)
                del subscribing
                gc.collect()
                broadcaster.wait_connected(TIMEOUT)
                settle(broadcaster)
                stats = broadcaster.stats()
                assert (stats.subscriptions, stats.subscriptions_waiting) == (len(kept), 0)
                assert broadcaster.channels == ({"shared"} if kept else set())
                assert not server.listeners("own")
        assert was_ready == {False, True}

    def test_a_channel_left_and_subscribed_again_at_any_moment_delivers(self, server: FakeServer) -> None:
        for turns in TURNS:
            with make_fake(server) as broadcaster:
                kept = [broadcaster.subscribe("kept")] if turns % 2 else []
                broadcaster.subscribe("a").close()
                for _ in range(turns):
                    gevent.sleep(0)
                subscribing = gevent.spawn(broadcaster.subscribe, "a")
                for _ in range(turns % 4):
                    gevent.sleep(0)
                subscribing.kill()
                del subscribing
                subscription = broadcaster.subscribe("a", timeout=TIMEOUT)
                server.notify("a", "1")
                assert payloads(subscription, 1) == ["1"]
                del kept

    def test_subscribe_raises_what_has_ended_the_subscription_meanwhile(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        first = broadcaster.subscribe("a")
        server.freeze()
        subscribing = gevent.spawn(broadcaster.subscribe, "a", "b", queue_size=1, overflow="close")
        gevent.idle()
        come_in(broadcaster, "a", "1", "2", "3")
        with pytest.raises(pglisten.SubscriptionOverflow):
            subscribing.get(timeout=TIMEOUT)
        assert payloads(first, 3) == ["1", "2", "3"]
        assert broadcaster.channels == {"a"}

    def test_close_ends_a_subscribe_for_which_all_others_wait(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        first = broadcaster.subscribe("a")
        server.freeze()
        subscribing = gevent.spawn(broadcaster.subscribe, "a", "b", queue_size=1, overflow="block")
        gevent.idle()
        come_in(broadcaster, "a", "1", "2", "3")
        assert payloads(first, 2) == ["1", "2"]
        broadcaster.close()
        with pytest.raises(pglisten.ListenerClosed):
            subscribing.get(timeout=TIMEOUT)

    def test_subscribe_asks_again_before_other_callers_have_been_told_of_a_refusal(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> None:
        server.refuse_listen["a"] = ServerError("no", sqlstate="42501")

        def insist() -> Subscription:
            with pytest.raises(ServerError):
                broadcaster.subscribe("a")
            server.refuse_listen.clear()
            return broadcaster.subscribe("a", timeout=TIMEOUT)

        broadcaster.wait_connected(TIMEOUT)
        insisting, other = gevent.spawn(insist), gevent.spawn(broadcaster.subscribe, "a")
        subscription = insisting.get(timeout=TIMEOUT)
        with pytest.raises(ServerError):
            other.get(timeout=TIMEOUT)
        server.notify("a", "1")
        assert payloads(subscription, 1) == ["1"]

    def test_subscribe_asks_again_after_a_refusal_during_a_reconnection(self, server: FakeServer) -> None:
        returned, may_go_on = Event(), Event()

        def callback(event: ListenerEvent, error: Exception | None) -> None:
            if event is ListenerEvent.RECONNECTED:
                returned.set()
                may_go_on.wait(TIMEOUT)

        with make_fake(server, event_callback=callback) as broadcaster:
            lost = broadcaster.subscribe("a")
            server.refuse_listen["a"] = ServerError("no", sqlstate="22P05")
            server.cut()
            assert returned.wait(TIMEOUT)  # And the marker has to wait for the callback.
            with pytest.raises(ServerError):
                broadcaster.subscribe("a", timeout=TIMEOUT)
            server.refuse_listen.clear()
            found = broadcaster.subscribe("a", timeout=TIMEOUT)
            may_go_on.set()
            with pytest.raises(pglisten.ChannelNotOpen) as caught:
                lost.get(TIMEOUT)
            assert isinstance(caught.value.__cause__, ServerError)
            server.notify("a", "1")
            assert payloads(found, 2) == [None, "1"]


class TestListening:
    """``Subscription.listen()`` while the subscription or the channel changes."""

    @pytest.fixture
    def waiting(
        self, server: FakeServer, broadcaster: Broadcaster
    ) -> tuple[Subscription, gevent.Greenlet[..., None]]:
        """Return a subscription and its waiting ``listen("a")``; another subscription waits for "a" too."""
        subscription = broadcaster.subscribe("z")
        server.stop()
        gevent.spawn(broadcaster.subscribe, "a")
        listening = gevent.spawn(subscription.listen, "a")
        gevent.idle()
        return subscription, listening

    def test_close_ends_a_waiting_listen(
        self, waiting: tuple[Subscription, gevent.Greenlet[..., None]]
    ) -> None:
        subscription, listening = waiting
        subscription.close()
        with pytest.raises(pglisten.ListenerClosed, match="the subscription was closed"):
            listening.get(timeout=TIMEOUT)

    def test_unlisten_ends_a_waiting_listen(
        self, waiting: tuple[Subscription, gevent.Greenlet[..., None]]
    ) -> None:
        subscription, listening = waiting
        subscription.unlisten("a")
        with pytest.raises(pglisten.ChannelNotOpen, match="'a' was unlistened while its LISTEN was waiting"):
            listening.get(timeout=TIMEOUT)

    def test_a_killed_listen_leaves_the_channel_to_a_later_listen(
        self, server: FakeServer, waiting: tuple[Subscription, gevent.Greenlet[..., None]]
    ) -> None:
        subscription, listening = waiting
        subscription.unlisten("a")
        again = gevent.spawn(subscription.listen, "a")
        gevent.sleep(0)
        listening.kill()
        server.start()
        again.get(timeout=TIMEOUT)
        assert subscription.channels == {"a", "z"}
