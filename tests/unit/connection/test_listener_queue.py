from __future__ import annotations

import gevent
import greenlet
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pglisten
from pglisten import Notification
from pglisten._queues import ListenerQueue
from pglisten.testing.contract._forking import in_a_forked_child


def _numbered(*numbers: int) -> list[Notification]:
    return [Notification(1, "c", str(number)) for number in numbers]


def _drain(queue: ListenerQueue) -> list[int | None]:
    return [None if item is None else int(item.payload) for item in (queue.get(0) for _ in range(len(queue)))]


def test_items_come_in_order_with_the_gap_where_it_was_put() -> None:
    queue = ListenerQueue(10)
    queue.deliver(_numbered(1, 2))
    queue.mark_gap()
    queue.deliver(_numbered(3))
    assert _drain(queue) == [1, 2, None, 3]


def test_a_full_queue_asks_for_no_more_and_says_when_there_is_room() -> None:
    queue = ListenerQueue(2)
    calls: list[int] = []
    queue.deliver(_numbered(1, 2, 3))
    assert not queue.request_room(lambda: calls.append(len(queue)))
    queue.get(0)
    assert calls == []
    queue.get(0)
    assert calls == [1]
    queue.get(0)
    assert calls == [1]


def test_delivering_never_waits_and_loses_nothing() -> None:
    queue = ListenerQueue(1)
    queue.deliver(_numbered(*range(100)))
    assert _drain(queue) == list(range(100))


def test_the_oldest_give_way_to_one_marker_in_their_place() -> None:
    queue = ListenerQueue(2, drop_oldest=True)
    queue.deliver(_numbered(1, 2))
    queue.deliver(_numbered(3))
    queue.deliver(_numbered(4))
    assert _drain(queue) == [None, 3, 4]
    assert (queue.received, queue.dropped, queue.delivered, queue.overflows) == (4, 2, 2, 1)


def test_a_reconnection_marker_is_never_dropped_and_stands_for_what_was_dropped_around_it() -> None:
    queue = ListenerQueue(1, drop_oldest=True)
    queue.deliver(_numbered(1))
    queue.mark_gap()
    queue.mark_gap()
    queue.deliver(_numbered(2, 3))
    assert _drain(queue) == [None, None, 3]
    assert queue.overflows == 0


@given(st.lists(st.one_of(st.none(), st.integers(1, 9), st.just("get")), max_size=60), st.integers(1, 5))
def test_every_hole_has_a_marker_and_markers_add_up(steps: list[object], size: int) -> None:
    queue = ListenerQueue(size, drop_oldest=True)
    sent = gaps = 0
    got: list[int | None] = []
    for step in steps:
        if step is None:
            queue.mark_gap()
            gaps += 1
        elif step == "get":
            if len(queue):
                item = queue.get(0)
                got.append(None if item is None else int(item.payload))
        else:
            assert isinstance(step, int)
            queue.deliver(_numbered(*range(sent, sent + step)))
            sent += step
        assert len([x for x in queue.items if x is not None]) <= size
    got += _drain(queue)
    expected = 0
    marked = False
    for number in got:
        if number is None:
            marked = True
            continue
        assert number == expected or (marked and number > expected)
        expected, marked = number + 1, False
    assert expected == sent or marked
    assert got.count(None) == gaps + queue.overflows
    assert queue.received == sent == queue.delivered + queue.dropped


def test_what_is_queued_at_the_end_still_comes_and_then_the_reason() -> None:
    queue = ListenerQueue(2)
    queue.deliver(_numbered(1))
    queue.finish(pglisten.ListenerClosed("closed"))
    queue.deliver(_numbered(2))
    queue.mark_gap()
    assert queue.get(None) == Notification(1, "c", "1")
    with pytest.raises(pglisten.ListenerClosed):
        queue.get(None)


def test_the_end_wakes_every_waiting_consumer() -> None:
    queue = ListenerQueue(2)
    consumers = [gevent.spawn(queue.get, None) for _ in range(3)]
    gevent.idle()
    queue.finish(pglisten.ListenerClosed("closed"))
    gevent.joinall(consumers, timeout=5)
    assert all(isinstance(consumer.exception, pglisten.ListenerClosed) for consumer in consumers)


def test_each_item_goes_to_one_of_several_consumers() -> None:
    queue = ListenerQueue(100)
    got: list[str] = []

    def take() -> None:
        for _ in range(10):
            item = queue.get(5)
            assert item is not None
            got.append(item.payload)
            gevent.sleep(0)

    consumers = [gevent.spawn(take) for _ in range(5)]
    gevent.idle()
    for number in range(50):
        queue.deliver(_numbered(number))
        if number % 7 == 0:
            gevent.sleep(0)
    gevent.joinall(consumers, timeout=5, raise_error=True)
    assert sorted(got, key=int) == [str(n) for n in range(50)]


def test_a_consumer_killed_while_it_waits_takes_nothing_along() -> None:
    queue = ListenerQueue(2)
    consumer = gevent.spawn(queue.get, None)
    gevent.idle()
    queue.deliver(_numbered(1))
    consumer.kill()
    assert len(queue) == 1 or consumer.value is not None


def test_a_time_out_is_an_error_and_not_an_end() -> None:
    queue = ListenerQueue(2)
    with pytest.raises(pglisten.OperationTimeout):
        queue.get(0.001)
    queue.deliver(_numbered(1))
    assert queue.get(0) == Notification(1, "c", "1")


def test_one_item_wakes_one_waiting_consumer() -> None:
    queue = ListenerQueue(2)
    consumers = [gevent.spawn(queue.get, None) for _ in range(3)]
    gevent.idle()
    woken: list[object] = []
    before = greenlet.settrace(lambda _, greenlets: woken.append(greenlets[1]))
    try:
        queue.deliver(_numbered(1))
        gevent.idle()
    finally:
        greenlet.settrace(before)
    assert [consumer for consumer in woken if consumer in consumers] == consumers[:1]
    assert consumers[0].ready()
    assert len(queue.waiting) == 2
    gevent.killall(consumers)
    assert queue.waiting == []


def test_the_next_consumer_is_switched_to_and_the_others_are_woken_for_the_rest() -> None:
    queue = ListenerQueue(5)
    consumers = [gevent.spawn(queue.get, None) for _ in range(3)]
    gevent.idle()
    assert queue.next_consumer() is None
    queue.put(_numbered(1, 2))
    assert queue.next_consumer() is consumers[0]
    gevent.get_hub().loop.run_callback(gevent.getcurrent().switch)
    consumers[0].switch()
    gevent.idle()
    assert [consumer.ready() for consumer in consumers] == [True, True, False]
    assert [consumer.value.payload for consumer in consumers[:2]] == ["1", "2"]
    gevent.killall(consumers)


def test_a_forked_child_hands_out_nothing_that_its_parent_has_queued() -> None:
    queue = ListenerQueue(5)
    consumer = gevent.spawn(queue.get, None)
    gevent.idle()
    queue.deliver(_numbered(1))
    # The child has a copy of the consumer that is about to be woken.
    in_a_forked_child(lambda: _assert_never_taken(queue, consumer))
    assert consumer.get(timeout=5) == Notification(1, "c", "1")


def _assert_never_taken(
    queue: ListenerQueue, consumer: gevent.Greenlet[[float | None], Notification | None]
) -> None:
    gevent.reinit()
    gevent.idle()
    assert not consumer.ready()
    assert len(queue) == 0
