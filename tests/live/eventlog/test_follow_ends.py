"""Followers that are killed, closed, or called where they may not wait."""

from __future__ import annotations

import gc
import threading
import weakref

import gevent
import pytest

from pglisten import EventLog, ListenerClosed, OperationTimeout
from pglisten.testing import Proxy
from pglisten.testing._proxy import DOWN
from support.eventlogs import fill, nothing_before_a_fence, positions
from support.fixtures.eventlogs import WINDOW
from support.servers.server import Server
from support.timeouts import TIMEOUT


def test_killed_timed_out_and_forgotten_followers_leave_nothing(server: Server, event_log: EventLog) -> None:
    stays = event_log.follow("c")
    for _ in range(3):
        killed = [gevent.spawn(event_log.follow(channel).get) for channel in ("c", "d")]
        killed.append(gevent.spawn(event_log.follow(after=0).get))
        gevent.idle()
        gevent.killall(killed)
        with pytest.raises(OperationTimeout):
            event_log.follow("c").get(0.01)
        with pytest.raises(ZeroDivisionError), gevent.Timeout(0.01, ZeroDivisionError):
            event_log.follow("c").get()
    forgotten = event_log.follow("c")
    reference = weakref.ref(forgotten)
    del forgotten
    gc.collect()
    assert reference() is None
    pauses = event_log._reader.pauses
    assert (pauses.everyone(), pauses._channels) == ([], {})
    assert nothing_before_a_fence(server, event_log, stays, "c")


def test_a_kill_in_the_middle_of_a_page_disturbs_no_other(
    server: Server, log_behind_proxy: tuple[EventLog, Proxy]
) -> None:
    log, between = log_behind_proxy
    live = log.follow()
    fill(server, log, 3 * WINDOW)
    assert positions(live, 3 * WINDOW)[-1] == 3 * WINDOW
    behind = log.follow(after=0)
    between.hold(DOWN)
    waiting = gevent.spawn(behind.get)
    between.wait_until(lambda: bool(between.held(DOWN)))
    waiting.kill()
    between.release()
    assert positions(behind, 3 * WINDOW) == list(range(1, 3 * WINDOW + 1))
    assert nothing_before_a_fence(server, log, live, "c0")


def test_closing_ends_waiting_calls_and_iterations(server: Server, event_log: EventLog) -> None:
    follower, other = event_log.follow(), event_log.follow("c")
    iterating, getting = gevent.spawn(list, follower), gevent.spawn(follower.get)
    gevent.idle()
    follower.close()
    follower.close()
    assert iterating.get(timeout=TIMEOUT) == []
    with pytest.raises(ListenerClosed, match="the follower was closed"):
        getting.get(timeout=TIMEOUT)
    assert (follower.closed, other.closed) == (True, False)
    iterating = gevent.spawn(list, other)
    gevent.idle()
    event_log.close()
    event_log.close()
    assert iterating.get(timeout=TIMEOUT) == []
    assert other.closed
    for call in (other.get, event_log.follow):
        with pytest.raises(ListenerClosed, match="the event log was closed"):
            call()
    assert event_log._broadcaster.channels == frozenset()
    event_log._broadcaster.ping(TIMEOUT)


def test_the_end_of_the_broadcaster_ends_the_log(event_log: EventLog) -> None:
    waiting = gevent.spawn(list, event_log.follow())
    gevent.idle()
    event_log._broadcaster.close()
    assert waiting.get(timeout=TIMEOUT) == []
    assert event_log.closed
    with pytest.raises(ListenerClosed):
        event_log.follow()


def test_a_reader_that_is_killed_from_outside_leaves_no_caller_waiting(event_log: EventLog) -> None:
    waiting = gevent.spawn(event_log.follow().get)
    gevent.idle()
    assert event_log._reader._greenlet is not None
    event_log._reader._greenlet.kill()
    with pytest.raises(ListenerClosed):
        waiting.get(timeout=TIMEOUT)


def test_other_threads_are_refused_and_the_event_loop_never_waits(event_log: EventLog) -> None:
    follower, raised = event_log.follow(), list[Exception]()

    def call(run: object) -> None:
        try:
            run()  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            raised.append(error)

    pool, loop = gevent.get_hub().threadpool, gevent.get_hub().loop
    for run in (follower.get, event_log.follow, follower.close, event_log.close):
        pool.apply(call, (run,))
    for run in (follower.get, event_log.follow):
        loop.run_callback(call, run)
    gevent.idle()
    assert ["thread" in str(error) for error in raised] == [True] * 4 + [False] * 2
    assert ["event loop" in str(error) for error in raised] == [False] * 4 + [True] * 2
    loop.run_callback(event_log.close)
    gevent.idle()
    assert follower.closed


def test_a_call_that_looks_is_answered_while_others_come_all_the_time(event_log: EventLog) -> None:
    event_log.follow(timeout=TIMEOUT)
    reader = event_log._reader
    first, others = gevent.spawn(reader.look, TIMEOUT, "look"), list["gevent.Greenlet[..., None]"]()
    with gevent.Timeout(TIMEOUT):
        while not first.ready():
            if reader._look is None:
                others.append(gevent.spawn(reader.look, TIMEOUT, "look"))
            gevent.sleep(0)
    gevent.joinall([first, *others], raise_error=True)


def test_another_thread_is_refused_before_it_would_wait_for_its_turn(event_log: EventLog) -> None:
    follower, other, raised = event_log.follow(), event_log.follow(), list[Exception]()

    def get() -> None:
        try:
            follower.get(0)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
            raised.append(error)

    event_log._reader.pace.left = 0
    waiting = gevent.spawn(other.get)
    gevent.sleep(0)  # Now it waits for the next portion.
    thread = threading.Thread(target=get)
    thread.start()
    thread.join()
    assert ["another OS thread" in str(error) for error in raised] == [True]
    waiting.kill()
