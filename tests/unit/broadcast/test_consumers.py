"""Functions that a broadcaster runs for notifications, and what becomes of them when they raise."""

from __future__ import annotations

import functools
import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.queue import Queue

import pglisten
from pglisten import Broadcaster, Notification
from pglisten._consumers.registry import start_all, stop_all
from pglisten.testing import FakeServer
from support.broadcasters import come_in, make_fake
from support.fixtures.listeners import succeeds
from support.fixtures.programs import CHILDREN
from support.timeouts import TIMEOUT


class Late(gevent.Timeout):
    def __init__(self, text: str) -> None:
        super().__init__(None)


class Seen:
    """A consumer that notes its calls, and raises for some payloads."""

    def __init__(self, *poison: str, error: type[BaseException] = ValueError) -> None:
        self.calls: Queue[str] = Queue()
        self.poison = poison
        self.error = error
        self.gap_fails = 0

    def on_gap(self) -> None:
        self.calls.put("gap")
        if self.gap_fails:
            self.gap_fails -= 1
            raise self.error("the table is away")

    def __call__(self, notification: Notification) -> None:
        self.calls.put(notification.payload)
        if notification.payload in self.poison:
            raise self.error(f"no such order: {notification.payload}")

    def next(self, count: int) -> list[str]:
        return [self.calls.get(timeout=TIMEOUT) for _ in range(count)]


def started(broadcaster: Broadcaster, seen: Seen, *channels: str) -> None:
    """Start *seen* on *channels*, and wait until it listens."""
    broadcaster.on(*channels, on_gap=seen.on_gap)(seen)
    broadcaster.start()
    assert seen.next(1) == ["gap"]


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


@pytest.mark.parametrize("error", [ValueError, Late, BaseException])
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


def test_a_killed_function_ends_alone_and_the_log_says_so(
    broadcaster: Broadcaster, caplog: pytest.LogCaptureFixture
) -> None:
    seen, other = Seen("1", error=gevent.GreenletExit), Seen()
    broadcaster.on("a", on_gap=other.on_gap)(other)
    started(broadcaster, seen, "a")
    come_in(broadcaster, "a", "1", "2")
    assert other.next(3) == ["gap", "1", "2"]
    assert seen.next(1) == ["1"]
    assert broadcaster.stats().consumers == 1
    assert "was killed" in caplog.text


# Its end


def test_close_lets_a_function_finish_and_gives_it_nothing_more(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    broadcaster, began, done = make_fake(server), Event(), []

    @broadcaster.on("a")
    def function(notification: Notification) -> None:
        began.set()
        gevent.sleep(0.02)
        broadcaster.notify("b", "the connection is still there", TIMEOUT)
        done.append(notification.payload)

    broadcaster.start()
    while not broadcaster.stats().subscriptions:
        gevent.idle()
    come_in(broadcaster, "a", "1", "2")
    began.wait(TIMEOUT)
    broadcaster.close(timeout=TIMEOUT)
    assert done == ["1"]
    assert broadcaster.stats().consumers == 0
    assert not server.sessions()
    assert not caplog.records
    with pytest.raises(pglisten.ListenerClosed):
        broadcaster.on("a")(function)
    with pytest.raises(pglisten.ListenerClosed):
        broadcaster.start()


@pytest.mark.parametrize("ignores_its_kill", [False, True])
def test_a_stuck_function_holds_nothing_up(server: FakeServer, ignores_its_kill: bool) -> None:
    broadcaster, began, free = make_fake(server), Event(), Event()

    @broadcaster.on("a", on_gap=began.set)
    def function(notification: Notification) -> None:
        began.set()
        try:
            free.wait()
        except gevent.GreenletExit:
            if ignores_its_kill:
                free.wait()
            raise

    broadcaster.start()
    began.wait(TIMEOUT)
    began.clear()
    come_in(broadcaster, "a", "1")
    began.wait(TIMEOUT)
    with gevent.Timeout(5):
        broadcaster.close(timeout=0.01)
    assert broadcaster.stats().consumers == ignores_its_kill
    free.set()
    gevent.idle()


def test_a_function_may_close_its_broadcaster(server: FakeServer) -> None:
    broadcaster, ended = make_fake(server), Event()

    @broadcaster.on("a", on_gap=lambda: broadcaster.close(timeout=TIMEOUT) or ended.set())
    def function(notification: Notification) -> None: ...

    broadcaster.start()
    assert ended.wait(TIMEOUT)
    gevent.idle()
    assert broadcaster.stats().consumers == 0


# Many broadcasters, as in a worker


def test_a_worker_starts_all_and_also_what_is_noted_later_and_ends_all(server: FakeServer) -> None:
    first, second, seen = make_fake(server), make_fake(server), Seen()
    try:
        for each in (first, second):
            each.on("a", on_gap=seen.on_gap)(seen)
        start_all()
        second.on("b", on_gap=seen.on_gap)(seen)
        assert seen.next(3) == ["gap"] * 3
        stop_all(TIMEOUT)
        assert first.stats().consumers == second.stats().consumers == 0
    finally:
        pglisten._consumers.registry._serving = None  # type: ignore[attr-defined]
        first.close()
        second.close()


# Refusals


def asynchronous() -> Any:
    async def function(notification: Notification) -> None: ...

    return function


def generator(notification: Notification) -> Any:
    yield notification


@pytest.mark.parametrize("function", [None, asynchronous(), generator])
def test_what_a_call_does_not_run_is_refused(broadcaster: Broadcaster, function: Any) -> None:
    with pytest.raises(TypeError, match="consumer"):
        broadcaster.on("a")(function)


def test_wrong_arguments_are_refused_by_the_decorator(broadcaster: Broadcaster) -> None:
    wrong: list[tuple[tuple[str, ...], dict[str, Any]]] = [
        ((), {}),
        (("a",), {"on_gap": 1}),
        (("a",), {"queue_size": 0}),
    ]
    for channels, options in wrong:
        with pytest.raises(pglisten.ConfigurationError):
            broadcaster.on(*channels, **options)
    with pytest.raises(pglisten.InvalidChannelName):
        broadcaster.on("")
    with pytest.raises(TypeError):
        broadcaster.on(print)  # type: ignore[arg-type]
    broadcaster.on("a")(functools.partial(print, "a"))


# Forks

PRELOADED = """
import pglisten
from pglisten import Broadcaster
from pglisten.testing import FakeBackend, FakeServer

server = FakeServer()
broadcaster = Broadcaster("", backend=FakeBackend(server), min_reconnect_interval=0.001)
seen = []
broadcaster.on("a", on_gap=lambda: seen.append((os.getpid(), "gap")))(
    lambda notification: seen.append((os.getpid(), notification.payload))
)
broadcaster.start()
{run}

def child():
    gevent.reinit()
    server.thaw()
    del seen[:]
    gevent.sleep(0.05)
    # The copy of the parent's does nothing, whatever it was about to do.
    assert seen == [] and not server.sessions() and broadcaster.stats().consumers == 0, seen
    broadcaster.start()
    with gevent.Timeout(20):
        while not seen:
            gevent.sleep(0.001)
        broadcaster.notify("a", "1", 20)
        while len(seen) < 2:
            gevent.sleep(0.001)
    assert seen == [(os.getpid(), "gap"), (os.getpid(), "1")], seen
    broadcaster.close()
    assert not server.sessions()

assert status(fork(child)) == 0
broadcaster.close()
print("well")
"""


@pytest.mark.slow
@pytest.mark.parametrize("patched", ["plain", "patched"])
@pytest.mark.parametrize("run", ["", "while not seen: gevent.sleep(0.001)"], ids=["not begun", "waiting"])
def test_a_forked_child_starts_its_own(run: str, patched: str) -> None:
    succeeds(CHILDREN + PRELOADED.format(run=run), patched)
