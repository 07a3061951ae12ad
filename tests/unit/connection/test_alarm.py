"""Waits with a time limit: one timer serves one wait after another, and each has its own time."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Callable
from types import FrameType

import gevent
import pytest
from gevent.event import Event

from pglisten import OperationTimeout
from pglisten._alarm import Alarm
from pglisten._queues import ListenerQueue, Overflow, Queue, SubscriptionQueue
from pglisten.backend import Notification
from pglisten.errors import ListenerClosed
from support.timeouts import TIMEOUT

ITEM = Notification(1, "a", "")
LONG = 0.2
"""Seconds of a wait whose timer runs on."""


@pytest.fixture(params=["listener", "subscription"])
def queue(request: pytest.FixtureRequest) -> Queue:
    return ListenerQueue(10) if request.param == "listener" else SubscriptionQueue(10, Overflow.CLOSE)


def give(queue: Queue, seconds: float) -> None:
    """Have *queue* get an item after *seconds*."""

    def put() -> None:
        queue.items.append(ITEM)
        queue.wake()

    gevent.spawn_later(seconds, put)


def take(queue: Queue, timeout: float) -> None:
    queue.wait(timeout)
    queue.items.popleft()


def late(queue: Queue, timeout: float) -> float:
    """Wait until the time is over; return how long that took."""
    began = time.monotonic()
    with pytest.raises(OperationTimeout), gevent.Timeout(TIMEOUT):
        queue.wait(timeout)
    return time.monotonic() - began


def test_each_wait_has_its_own_time_although_the_timer_of_the_one_before_runs_on(queue: Queue) -> None:
    give(queue, LONG / 2)
    take(queue, LONG)
    assert late(queue, LONG) > LONG - 0.01
    assert late(queue, LONG) > LONG - 0.01


def test_a_wait_may_be_shorter_than_the_one_before(queue: Queue) -> None:
    for shorter in (LONG, 0.01):
        give(queue, 0)
        take(queue, 10 * TIMEOUT)
        late(queue, shorter)


def test_several_waits_at_once_each_have_their_time(queue: Queue) -> None:
    longer, shorter = (gevent.spawn(late, queue, seconds) for seconds in (2 * LONG, LONG))
    assert shorter.get(timeout=TIMEOUT) > LONG - 0.01
    assert longer.get(timeout=TIMEOUT) > 2 * LONG - 0.01


def test_a_timer_wakes_no_greenlet_that_has_gone_on_to_wait_for_something_else(queue: Queue) -> None:
    give(queue, 0)
    take(queue, LONG)
    assert not Event().wait(2 * LONG)  # The timer fires in here.
    give(queue, 0)
    take(queue, LONG)


def test_the_timer_keeps_no_program_running_between_waits(queue: Queue) -> None:
    loop = gevent.get_hub().loop
    before = loop.activecnt
    for _ in range(2):
        give(queue, 0)
        take(queue, 10 * TIMEOUT)
        assert loop.activecnt == before


def test_a_signal_handler_that_raises_while_a_wait_begins_leaves_no_time_limit_behind(queue: Queue) -> None:
    began = Alarm.start.__code__, Alarm._start_timer.__code__, Alarm.stop.__code__

    def interrupting(number: int) -> Callable[..., object]:
        def trace(frame: FrameType, event: str, argument: object) -> object:
            nonlocal number
            if frame.f_code in began and event in ("line", "return"):
                number -= 1
                if not number:
                    raise KeyboardInterrupt
            return trace

        return trace

    loop = gevent.get_hub().loop
    interrupted, before = 0, loop.activecnt
    for number in itertools.count(1):
        tracing = sys.gettrace()
        sys.settrace(interrupting(number))  # type: ignore[arg-type]
        try:
            queue._alarm.stop()  # So that it has to start a timer.
            with contextlib.suppress(OperationTimeout):
                queue.wait(0)
            break
        except KeyboardInterrupt:
            interrupted += 1
        finally:
            sys.settrace(tracing)
        assert (queue._alarm.free, loop.activecnt) == (True, before)
    assert interrupted > 10


def test_frozen_time_ends_a_wait_all_the_same(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    give(queue, 0)
    take(queue, 2 * LONG)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(OperationTimeout), gevent.Timeout(TIMEOUT):
        queue.wait(LONG)


def test_no_timer_is_left_when_the_queue_has_ended(queue: Queue) -> None:
    loop = gevent.get_hub().loop
    before = loop.activecnt
    give(queue, 0)
    take(queue, 10 * TIMEOUT)
    queue.finish(ListenerClosed("over"))
    assert loop.activecnt == before
    with pytest.raises(ListenerClosed):
        queue.wait(10 * TIMEOUT)
    assert loop.activecnt == before
