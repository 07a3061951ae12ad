"""How functions that a broadcaster runs end, which are refused, and what a fork does to them."""

from __future__ import annotations

import functools
from typing import Any

import gevent
import pytest
from gevent.event import Event

import pglisten
from pglisten import Broadcaster, Notification
from pglisten._consumers.registry import start_all, stop_all
from pglisten.testing import FakeServer
from support.broadcasters import come_in, make_fake
from support.fixtures.listeners import succeeds
from support.fixtures.programs import CHILDREN
from support.handlers import Seen, started
from support.timeouts import TIMEOUT


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
