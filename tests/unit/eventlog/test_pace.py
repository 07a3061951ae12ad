"""Followers that take at once share the turns of the event loop."""

from __future__ import annotations

from collections.abc import Iterator

import gevent
import pytest

from pglisten._eventlog.pace import PORTION, Pace
from pglisten._greenlet import let_others_run


def take(pace: Pace, count: int, taken: list[int]) -> None:
    for _ in range(count):
        if pace.left <= 0:
            pace.wait()
        pace.left -= 1
        taken[0] += 1


@pytest.fixture
def turns() -> Iterator[tuple[list[int], list[int]]]:
    """Return a counter, and what it has grown by in each turn of the event loop."""
    taken, grown = [0], list[int]()

    def watch() -> None:
        while True:
            before = taken[0]
            let_others_run()
            grown.append(taken[0] - before)

    watching = gevent.spawn(watch)
    gevent.idle()
    yield taken, grown
    watching.kill()


def test_in_one_turn_all_take_no_more_than_a_portion(turns: tuple[list[int], list[int]]) -> None:
    taken, grown = turns
    pace = Pace()
    takers = [gevent.spawn(take, pace, 200, taken) for _ in range(50)]
    gevent.joinall(takers, raise_error=True)
    assert taken == [50 * 200]
    # The watcher's turn may lie within that of the pace.
    assert max(grown) <= 2 * PORTION


def test_waking_has_its_price(turns: tuple[list[int], list[int]]) -> None:
    taken, grown = turns
    pace = Pace()
    pace.left = 0
    takers = [gevent.spawn(take, pace, 1, taken) for _ in range(PORTION)]
    gevent.joinall(takers, raise_error=True)
    assert max(grown) <= PORTION / 2  # PORTION at once, if waking cost nothing


def test_one_that_is_killed_while_it_waits_is_forgotten() -> None:
    pace, taken = Pace(), [0]
    pace.left = 0
    killed, other = (gevent.spawn(take, pace, 1, taken) for _ in range(2))
    gevent.sleep(0)
    killed.kill()
    other.get(timeout=5)
    assert taken == [1]
    assert not pace._waiting


def test_in_the_event_loop_it_returns_at_once() -> None:
    pace, done = Pace(), list[bool]()
    pace.left = 0
    gevent.get_hub().loop.run_callback(lambda: done.append(pace.wait() is None))
    gevent.sleep(0)
    assert done == [True]
