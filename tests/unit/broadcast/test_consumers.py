"""Functions that a broadcaster runs for notifications, and what becomes of them when they raise."""

from __future__ import annotations

import logging

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue

import pglisten
from pglisten import Broadcaster, Notification
from pglisten.testing import FakeServer
from support.broadcasters import come_in, make_fake
from support.handlers import Late, Seen, started
from support.timeouts import TIMEOUT


def test_a_function_gets_all_notifications_of_its_channels_in_order_after_on_gap(
    broadcaster: Broadcaster,
) -> None:
    seen = Seen()
    started(broadcaster, seen, "a", "b")
    for number in range(6):
        broadcaster.notify("ab"[number % 2], str(number), TIMEOUT)
    assert seen.next(6) == list("012345")
    assert (broadcaster.stats().consumers, broadcaster.stats().consumer_failures) == (1, 0)


def test_the_decorator_returns_the_function_and_nothing_runs_before_start(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    @broadcaster.on("a")
    def function(notification: Notification) -> None:
        raise AssertionError

    assert function.__name__ == "function"
    gevent.idle()
    assert not server.sessions()
    assert broadcaster.stats().consumers == 0


def test_functions_that_are_noted_after_start_start_at_once_and_starting_twice_starts_nothing_twice(
    broadcaster: Broadcaster,
) -> None:
    broadcaster.start()
    seen = Seen()
    broadcaster.on("a", on_gap=seen.on_gap)(seen)
    assert seen.next(1) == ["gap"]
    broadcaster.start()
    assert broadcaster.stats().consumers == 1


class Unreadable(Exception):
    @property
    def sqlstate(self) -> str:
        raise ValueError


@pytest.mark.parametrize("error", [ValueError, Late, BaseException, Unreadable])
def test_after_a_failure_on_gap_is_called_and_then_the_next_notification_comes(
    broadcaster: Broadcaster, error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen("secret 2", error=error)
    started(broadcaster, seen, "a")
    come_in(broadcaster, "a", "1", "secret 2", "3")
    assert seen.next(4) == ["1", "secret 2", "gap", "3"]
    stats = broadcaster.stats()
    assert (stats.consumers, stats.consumer_failures) == (1, 1)
    (record,) = [each for each in caplog.records if each.name == "pglisten.consumers"]
    assert record.levelno == logging.ERROR
    assert error.__qualname__ in record.getMessage()
    assert "in __call__" in record.getMessage()
    assert "secret" not in record.getMessage()
    assert record.exc_info is None


def test_no_notification_is_handled_before_on_gap_has_succeeded(broadcaster: Broadcaster) -> None:
    seen = Seen("1")
    started(broadcaster, seen, "a")
    seen.gap_fails = 3
    come_in(broadcaster, "a", "1", "2")
    assert seen.next(6) == ["1", "gap", "gap", "gap", "gap", "2"]
    assert broadcaster.stats().consumer_failures == 4


def test_on_gap_is_called_after_a_reconnection_and_after_an_overflow(
    server: FakeServer, broadcaster: Broadcaster
) -> None:
    seen, may_go_on = Seen(), Event()

    @broadcaster.on("b", on_gap=lambda: seen.calls.put("gap"), queue_size=2)
    def function(notification: Notification) -> None:
        seen(notification)
        may_go_on.wait(TIMEOUT)

    broadcaster.start()
    assert seen.next(1) == ["gap"]
    come_in(broadcaster, "b", "1")
    assert seen.next(1) == ["1"]
    come_in(broadcaster, "b", "2", "3", "4", "5")
    while broadcaster.stats().subscriptions_dropped < 2:
        gevent.idle()
    may_go_on.set()
    assert seen.next(3) == ["gap", "4", "5"]
    server.cut()
    assert seen.next(1) == ["gap"]


@pytest.mark.parametrize("when", ["at first", "when it is listened to again"])
def test_a_refused_channel_is_asked_for_again(
    server: FakeServer, broadcaster: Broadcaster, when: str
) -> None:
    seen, refusal = Seen(), {"a": pglisten.ServerError("no", sqlstate="42501")}
    if when == "at first":
        server.refuse_listen.update(refusal)
        broadcaster.on("a", on_gap=seen.on_gap)(seen)
        broadcaster.start()
    else:
        started(broadcaster, seen, "a")
        server.refuse_listen.update(refusal)
        server.cut()
    while broadcaster.stats().consumer_failures < 2:
        gevent.sleep(0.001)
    server.refuse_listen.clear()
    assert seen.next(1) == ["gap"]


def test_delays_grow_with_each_failure_and_one_success_makes_them_short_again(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    with make_fake(server, max_reconnect_interval=0.004, jitter=0.0) as broadcaster:
        seen = Seen("1")
        started(broadcaster, seen, "a")
        seen.gap_fails = 4
        come_in(broadcaster, "a", "1", "1")
        seen.next(6)
        seen.next(2)
    delays = [record.args[1] for record in caplog.records if record.name == "pglisten.consumers"]
    assert delays == [0.001, 0.002, 0.004, 0.004, 0.004, 0.001]


def test_a_timeout_that_a_failed_function_has_left_behind_ends_no_consumer(broadcaster: Broadcaster) -> None:
    handled: Queue[str] = Queue()

    @broadcaster.on("a", on_gap=lambda: handled.put("gap"))
    def handle(notification: Notification) -> None:
        handled.put(notification.payload)
        if notification.payload == "bad":
            gevent.Timeout(0).start()
            raise ValueError

    broadcaster.start()
    assert handled.get(timeout=TIMEOUT) == "gap"
    for payload in ("bad", "good"):
        broadcaster.notify("a", payload, TIMEOUT)
    assert [handled.get(timeout=TIMEOUT) for _ in range(3)] == ["bad", "gap", "good"]
    assert broadcaster.stats().consumers == 1


class Waiting(logging.Handler):
    """A handler in which the first record meets a timeout that the function has left behind."""

    def __init__(self) -> None:
        super().__init__()
        self.met = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.met:
            self.met = True
            raise gevent.Timeout(0)


def test_a_timeout_while_a_failure_is_logged_ends_no_consumer(broadcaster: Broadcaster) -> None:
    seen, handler = Seen("bad"), Waiting()
    started(broadcaster, seen, "a")
    logging.getLogger("pglisten.consumers").addHandler(handler)
    try:
        come_in(broadcaster, "a", "bad", "good")
        assert seen.next(3) == ["bad", "gap", "good"]
    finally:
        logging.getLogger("pglisten.consumers").removeHandler(handler)
    assert handler.met
    assert (broadcaster.stats().consumers, broadcaster.stats().consumer_failures) == (1, 1)
