"""The queue of a subscription: its room, what it drops, and which greenlets it wakes."""

from __future__ import annotations

from itertools import pairwise

import gevent
import pytest
from gevent.event import Event
from greenlet import greenlet
from hypothesis import given
from hypothesis import strategies as st

from pglisten import Error, ListenerClosed, Notification, OperationTimeout, SubscriptionOverflow
from pglisten._queues import Overflow, SubscriptionQueue, wake


def item(number: int) -> Notification:
    return Notification(1, "c", str(number))


def put(queue: SubscriptionQueue, number: int) -> None:
    """Put one notification in; it never has to wait here."""
    assert queue.put(item(number))


def take(queue: SubscriptionQueue) -> Notification | None:
    """Take one item as a subscription does."""
    queue.wait(5)
    return queue.items.popleft()


def shown(queue: SubscriptionQueue) -> list[int | None]:
    return [each and int(each.payload) for each in queue.items]


def test_without_room_one_marker_replaces_the_oldest() -> None:
    queue = SubscriptionQueue(3, Overflow.DROP_OLDEST)
    for number in range(7):
        put(queue, number)
    assert shown(queue) == [None, 4, 5, 6]
    assert queue.dropped == 4


def test_a_marker_among_the_dropped_stands_for_them() -> None:
    queue = SubscriptionQueue(3, Overflow.DROP_OLDEST)
    put(queue, 0)
    queue.mark_gap()
    for number in range(1, 4):
        put(queue, number)
    assert shown(queue) == [None, 1, 2, 3]
    assert queue.dropped == 1


@given(st.integers(1, 4), st.lists(st.sampled_from(["put", "gap", "take"]), max_size=60))
def test_where_something_is_missing_there_is_a_marker(size: int, steps: list[str]) -> None:
    queue, number, last, consumed = SubscriptionQueue(size, Overflow.DROP_OLDEST), 0, -1, 0
    gap_before = False
    for step in steps:
        if step == "put":
            put(queue, number)
            number += 1
        elif step == "gap":
            queue.mark_gap()
        elif queue.items:
            got = take(queue)
            if got is None:
                gap_before = True
            else:
                assert int(got.payload) == last + 1 or (gap_before and int(got.payload) > last)
                last, gap_before = int(got.payload), False
                consumed += 1
        assert sum(each is not None for each in queue.items) <= size
        assert all(a or b for a, b in pairwise(queue.items))
    waiting = sum(each is not None for each in queue.items)
    assert consumed + waiting + queue.dropped == number


def test_a_queue_that_closes_delivers_what_was_queued_and_then_raises() -> None:
    queue = SubscriptionQueue(2, Overflow.CLOSE)
    for number in range(3):
        put(queue, number)
    assert [take(queue), take(queue)] == [item(0), item(1)]
    with pytest.raises(SubscriptionOverflow, match=r"2 notifications were queued.*larger queue_size"):
        queue.wait(5)
    assert queue.dropped == 1


def test_a_queue_that_blocks_accepts_nothing_until_there_is_room() -> None:
    queue = SubscriptionQueue(1, Overflow.BLOCK)
    put(queue, 0)
    assert not queue.put(item(1))
    assert take(queue) == item(0)
    put(queue, 1)
    assert shown(queue) == [1]


def test_each_item_goes_to_one_waiting_greenlet() -> None:
    queue = SubscriptionQueue(10, Overflow.BLOCK)
    consumers = [gevent.spawn(take, queue) for _ in range(3)]
    gevent.idle()
    for number in range(3):
        put(queue, number)
    gevent.joinall(consumers, raise_error=True)
    assert [each.value for each in consumers] == [item(0), item(1), item(2)]


@pytest.mark.parametrize("how", ["kill", "timeout"])
def test_a_greenlet_that_stopped_waiting_takes_no_item_from_others(how: str) -> None:
    queue = SubscriptionQueue(10, Overflow.BLOCK)

    def wait() -> None:
        with gevent.Timeout(0.001 if how == "timeout" else 5, False):  # type: ignore[arg-type]
            queue.wait(None)

    abandoned, other = gevent.spawn(wait), gevent.spawn(queue.wait, 5)
    gevent.idle()
    if how == "kill":
        abandoned.kill(block=False)
        put(queue, 0)  # Both are to be switched to in the same turn.
    abandoned.join()
    if how == "timeout":
        put(queue, 0)
    other.get(timeout=5)
    assert shown(queue) == [0]
    assert queue.waiting == []


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_a_timeout_says_how_long_it_was(timeout: float) -> None:
    queue = SubscriptionQueue(1, Overflow.BLOCK)
    with pytest.raises(OperationTimeout, match=f"no notification within {timeout:g} s"):
        queue.wait(timeout)
    assert queue.waiting == []


@pytest.mark.parametrize(("end", "raised"), [(ListenerClosed("gone"), "gone"), (Error("why"), "why")])
def test_the_first_end_counts_and_wakes_all_waiting_greenlets(end: Error, raised: str) -> None:
    queue = SubscriptionQueue(1, Overflow.DROP_OLDEST)
    waiting = [gevent.spawn(queue.wait, None) for _ in range(2)]
    gevent.idle()
    queue.finish(end)
    queue.finish(Error("late"))
    for each in waiting:
        with pytest.raises(type(end), match=raised):
            each.get(timeout=5)
    queue.mark_gap()
    assert shown(queue) == []


def test_a_greenlet_killed_before_it_is_woken_is_not_switched_to_again() -> None:
    queue, went_on = SubscriptionQueue(10, Overflow.BLOCK), Event()

    def wait_and_go_on() -> bool:
        with gevent.Timeout(5, False):  # type: ignore[arg-type]
            try:
                queue.wait(5)
            except gevent.GreenletExit:
                return went_on.wait(5)
        return False

    waiting = gevent.spawn(wait_and_go_on)
    gevent.idle()
    waiting.kill(block=False)
    put(queue, 0)  # Both are to be switched to in the same turn.
    gevent.idle()
    assert not waiting.dead
    went_on.set()
    assert waiting.get(timeout=5)


def test_an_error_in_one_woken_greenlet_does_not_keep_others_asleep(
    capsys: pytest.CaptureFixture[str],
) -> None:
    queues = [SubscriptionQueue(10, Overflow.BLOCK) for _ in range(3)]

    def die(queue: SubscriptionQueue) -> None:
        queue.wait(5)
        raise KeyError("of this")

    # Bare greenlets: what they die of comes out where they were switched to.
    hub = gevent.get_hub()
    dying = [greenlet(die, hub) for _ in range(2)]
    for each in dying:
        hub.loop.run_callback(each.switch, queues[0])
    others = [gevent.spawn(take, queue) for queue in queues]
    gevent.idle()
    for number, queue in enumerate(queues):
        queue.items.append(item(number))
    hub.loop.run_callback(wake, iter(queues))
    gevent.joinall(others, raise_error=True)
    assert [each.value for each in others] == [item(0), item(1), item(2)]
    assert capsys.readouterr().err.count("KeyError: 'of this'") == 2


def test_waiting_in_the_hub_raises() -> None:
    queue, told = SubscriptionQueue(10, Overflow.BLOCK), Event()

    def wait() -> None:
        with pytest.raises(Error, match="in the event loop"):
            queue.wait(None)
        told.set()

    gevent.get_hub().loop.run_callback(wait)
    assert told.wait(5)
    assert queue.waiting == []
