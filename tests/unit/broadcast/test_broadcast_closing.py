"""The end of a broadcaster: close() from every place that may call it, and a killed greenlet."""

from __future__ import annotations

import gc
import threading
from typing import Any

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Broadcaster, ListenerEvent
from pglisten._broadcast import fanout
from pglisten.testing import FakeServer
from support.broadcasters import come_in, make_fake
from support.timeouts import TIMEOUT


class TestTheEnd:
    """close(), from every place that may call it."""

    def test_every_caller_of_close_returns_when_it_is_done(self, server: FakeServer) -> None:
        running, may_end = Event(), Event()

        def callback(event: ListenerEvent, error: Exception | None) -> None:
            running.set()
            may_end.wait(TIMEOUT)

        broadcaster = make_fake(server, event_callback=callback)
        broadcaster.wait_connected(TIMEOUT)
        assert running.wait(TIMEOUT)
        closers = [gevent.spawn(broadcaster.close, None) for _ in range(3)]
        gevent.idle()
        assert not any(closer.ready() for closer in closers)
        closers[0].kill()
        may_end.set()
        gevent.joinall(closers, timeout=TIMEOUT, raise_error=True)
        assert (server.sessions(), broadcaster._fan_out._greenlet.dead) == (frozenset(), True)

    def test_a_consumer_may_call_close(self, server: FakeServer, broadcaster: Broadcaster) -> None:
        subscription = broadcaster.subscribe("a")
        server.notify("a", "1")
        for _ in subscription:
            broadcaster.close()
        assert server.sessions() == frozenset()

    @pytest.mark.parametrize("overflow", ["drop_oldest", "block"])
    def test_on_gap_may_call_close(self, server: FakeServer, broadcaster: Broadcaster, overflow: Any) -> None:
        subscription = broadcaster.subscribe("a", queue_size=1, overflow=overflow, on_gap=broadcaster.close)
        for number in range(5):
            server.notify("a", str(number))
        broadcaster.ping(TIMEOUT)
        with gevent.Timeout(TIMEOUT):
            assert [item and item.payload for item in subscription][-1] == (
                "0" if overflow == "block" else "4"
            )
        assert server.sessions() == frozenset()

    @pytest.mark.parametrize("at", ["CONNECTED", "DISCONNECTED", "RECONNECTED"])
    def test_the_event_callback_may_call_close(self, server: FakeServer, at: str) -> None:
        def callback(event: ListenerEvent, error: Exception | None) -> None:
            if event.name == at:
                broadcaster.close()

        broadcaster = make_fake(server, event_callback=callback)
        with gevent.Timeout(TIMEOUT):
            try:
                subscription = broadcaster.subscribe("a")
                server.cut()
                list(subscription)
            except pglisten.ListenerClosed:
                pass  # Of subscribe().
            broadcaster.close()
        assert server.sessions() == frozenset()

    @pytest.mark.parametrize(("seconds", "all_came"), [(TIMEOUT, True), (0.0, False)])
    def test_close_hands_out_what_has_arrived_within_a_limit(
        self, broadcaster: Broadcaster, monkeypatch: pytest.MonkeyPatch, seconds: float, all_came: bool
    ) -> None:
        monkeypatch.setattr(fanout, "DRAIN_TIME", seconds)
        subscription = broadcaster.subscribe("a", queue_size=2000)
        come_in(broadcaster, "a", *map(str, range(2000)))
        broadcaster.close()
        assert (len(list(subscription)) == 2000) == all_came

    def test_subscribe_raises_right_after_the_broadcasters_greenlet_was_killed(
        self, broadcaster: Broadcaster
    ) -> None:
        subscription, raised = broadcaster.subscribe("a"), Event()
        greenlet = broadcaster._fan_out._greenlet
        assert greenlet is not None

        def subscribe(_: object) -> None:
            with pytest.raises(pglisten.ListenerClosed):
                broadcaster.subscribe("a", timeout=0)
            raised.set()

        greenlet.rawlink(subscribe)
        greenlet.kill(block=False)
        assert raised.wait(TIMEOUT)
        assert subscription.closed

    def test_a_broadcaster_killed_in_its_first_call_is_closed_with_all_others(
        self, server: FakeServer
    ) -> None:
        server.freeze()
        broadcaster = make_fake(server)
        notifying = gevent.spawn(broadcaster.notify, "a")
        gevent.idle()
        notifying.kill()
        fanout.close_all(0)
        assert broadcaster.closed

    def test_close_all_leaves_the_broadcasters_of_other_threads(self, server: FakeServer) -> None:
        made, may_end = threading.Event(), threading.Event()
        errors = list[BaseException]()

        def run() -> None:
            with make_fake(server) as broadcaster:
                subscription = broadcaster.subscribe("a")
                made.set()
                may_end.wait(TIMEOUT)
                if subscription.closed:
                    errors.append(AssertionError())
            gevent.get_hub().destroy(destroy_loop=True)

        thread = threading.Thread(target=run)
        thread.start()
        assert made.wait(TIMEOUT)
        fanout.close_all(0)
        may_end.set()
        thread.join()
        assert errors == []

    def test_a_subscription_whose_event_loop_is_gone_is_collected_in_silence(
        self, broadcaster: Broadcaster
    ) -> None:
        def ended() -> object:
            hub = gevent.get_hub()
            loop = hub.loop
            hub.destroy(destroy_loop=True)
            return loop

        found = list[Any]()
        thread = threading.Thread(target=lambda: found.append(ended()))
        thread.start()
        thread.join()
        subscription = broadcaster.subscribe("a")
        fan_out = broadcaster._fan_out
        fan_out._loop, mine = found[0], fan_out._loop
        del subscription  # Anything that is raised here fails the test, as every warning does.
        gc.collect()
        fan_out._loop = mine


def test_the_first_call_of_a_broadcaster_keeps_its_timeout(server: FakeServer) -> None:
    server.freeze()
    with make_fake(server) as broadcaster, gevent.Timeout(TIMEOUT):
        with pytest.raises(pglisten.NotConnected, match="dialling"):
            broadcaster.notify("a", timeout=0.01)
        with pytest.raises(pglisten.NotConnected, match="dialling"):
            broadcaster.ping(0.01)
