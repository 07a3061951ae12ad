"""Many followers at once, and a hub that is not held up."""

from __future__ import annotations

import time

import gevent
import pytest

from pglisten import EventLog
from pglisten._greenlet import let_others_run
from pglisten.testing import Proxy
from support.eventlogs import append, fill, nothing_before_a_fence, payloads, positions
from support.fixtures.eventlogs import WINDOW
from support.servers.server import Server
from support.timeouts import TIMEOUT

FOLLOWERS = 1000

pytestmark = pytest.mark.timeout(120)


class Turns:
    """Measure the CPU of this thread between two turns of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.all = 0.0
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            before = time.thread_time()
            let_others_run()
            took = time.thread_time() - before
            self.longest, self.all = max(self.longest, took), self.all + took

    def __enter__(self) -> Turns:
        gevent.idle()
        return self

    def __exit__(self, *_: object) -> None:
        self._greenlet.kill()


def test_a_thousand_followers_resume_inside_the_window_without_a_query_and_hold_nobody_up(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    first = log.follow(after=0)
    fill(server, log, WINDOW, channels=20)
    assert positions(first, WINDOW)[-1] == WINDOW
    before = between.queries

    def resume(number: int) -> int:
        with log.follow(f"c{number % 20}", after=number % WINDOW // 2) as follower:
            return sum(payload is not None for payload in payloads(follower, 20))

    with Turns() as turns:
        resuming = [gevent.spawn(resume, number) for number in range(FOLLOWERS)]
        gevent.joinall(resuming, timeout=TIMEOUT, raise_error=True)
    assert {each.get() for each in resuming} == {20}
    assert between.queries == before
    assert nothing_before_a_fence(server, log, first, "c0")
    # gevent runs callbacks for 5 ms before it looks at descriptors and timers.
    print(f"longest turn {1000 * turns.longest:.1f} ms of {1000 * turns.all:.0f} ms")
    assert turns.longest < turns.all / 4


def test_one_entry_reaches_a_thousand_waiting_followers_by_one_query(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    waiting = [gevent.spawn(log.follow("c").get) for _ in range(FOLLOWERS)]
    gevent.idle()
    before = between.queries
    append(server, log, "c", "to all")
    gevent.joinall(waiting, timeout=TIMEOUT, raise_error=True)
    assert {each.get().payload for each in waiting} == {"to all"}
    assert between.queries - before <= 2


def test_catching_up_holds_nobody_up(server: Server, log_behind_proxy: tuple[EventLog, Proxy]) -> None:
    log, _ = log_behind_proxy
    log.follow()
    fill(server, log, 10 * WINDOW)
    follower = log.follow(after=0)
    with Turns() as turns:
        assert positions(follower, 10 * WINDOW) == list(range(1, 10 * WINDOW + 1))
    print(f"longest turn {1000 * turns.longest:.1f} ms of {1000 * turns.all:.0f} ms")
    assert turns.longest < turns.all / 10


def test_followers_far_behind_do_not_delay_those_that_wait_for_what_is_new(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    live = log.follow()
    fill(server, log, 10 * WINDOW)
    assert positions(live, 10 * WINDOW)[-1] == 10 * WINDOW
    assert nothing_before_a_fence(server, log, live, "c0")
    behind = [log.follow(after=0, queue_size=20) for _ in range(5)]
    catching_up = [gevent.spawn(positions, each, 9 * WINDOW) for each in behind]
    gevent.idle()
    before = between.queries
    for number in range(10):
        append(server, log, "c0", f"new {number}")
        assert payloads(live, 1) == [f"new {number}"]
    # Each of them waits for a page that is being read, at most; without that order there are 2,250 of them.
    assert between.queries - before < 450
    gevent.joinall(catching_up, timeout=TIMEOUT, raise_error=True)
    assert all(each.get() == list(range(1, 9 * WINDOW + 1)) for each in catching_up)


def test_a_slow_follower_costs_the_others_nothing(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, _ = log_behind_proxy
    slow, stuck, quick = log.follow(), log.follow(), log.follow()
    for _ in range(3):
        fill(server, log, WINDOW)
        assert len(payloads(quick, WINDOW)) == WINDOW
    assert len(log._reader.window) == WINDOW
    assert positions(slow, 3 * WINDOW) == list(range(1, 3 * WINDOW + 1))
    assert stuck.position == 0
