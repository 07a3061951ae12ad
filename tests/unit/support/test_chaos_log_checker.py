"""The checker of the log's chaos run finds every kind of broken promise, and none where they are kept."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import pytest

from pglisten import Entry
from pglisten._eventlog.entry import created_at
from support.chaos.log_checker import (
    Stream,
    order_violations,
    start_violations,
    stream_violations,
    table_violations,
)
from support.chaos.log_results import Result, handovers, result_violations
from support.chaos.log_table import Table
from support.chaos.log_writers import Transaction

CHANNELS = "ab"
NOW = 1000.0


def entry(position: int, payload: str = "") -> Entry:
    """Entries with even positions are of channel a, others of channel b."""
    return Entry(position, CHANNELS[position % 2], payload or f"p{position}", created_at(position))


def table(positions: Iterable[int], *, removed: Sequence[int] = (), at: float = NOW) -> Table:
    return Table([entry(each) for each in positions], dict.fromkeys(removed, at))


def kinds(
    items: Sequence[int | Entry | None],
    *tables: Table,
    channels: str = "",
    start: int = 0,
    complete: bool = False,
    when: float = NOW + 1,
) -> list[str]:
    """Return the kinds of the violations in a stream of the entries at these positions."""
    stream = Stream("it", frozenset(channels), start, complete=complete)
    stream.items = [(when, entry(each) if isinstance(each, int) else each) for each in items]
    return [violation.kind for violation in stream_violations(stream, tables)]


TEN = table(range(1, 11))


def test_every_entry_once_and_in_order_is_what_was_promised() -> None:
    assert kinds([*range(1, 11)], TEN, complete=True) == []
    assert kinds([2, 4, 6, 8, 10], TEN, channels="a", complete=True) == []
    assert kinds([8, 9, 10], TEN, start=7, complete=True) == []
    assert kinds([5, 20, 21], table([5, 20, 21]), complete=True) == []


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([1, 2, 4], "lost"),
        ([2, 3], "lost"),
        ([1, 2, 2, 3], "twice"),
        ([1, 2, 3, 2, 4], "twice"),
        ([1, 2, 11], "unknown"),
        ([1, 2, entry(3, "altered"), 3], "unknown"),
        ([1, 2, None, 3], "gap"),
        ([None, 1], "gap"),
    ],
)
def test_a_stream_that_breaks_the_promise_is_noticed(items: list[int | Entry | None], kind: str) -> None:
    assert kind in kinds(items, TEN)


def test_entries_that_change_places_are_noticed() -> None:
    assert kinds([1, 3, 2, 4], TEN) == ["lost", "twice", "lost"]


def test_an_entry_of_another_channel_is_noticed() -> None:
    assert kinds([2, 3, 4], TEN, channels="a") == ["unknown"]


def test_the_last_entries_must_come() -> None:
    assert kinds([*range(1, 10)], TEN, complete=True) == ["lost"]
    assert kinds([], TEN, complete=True) == ["lost"]
    assert kinds([*range(1, 10)], TEN) == []


def test_a_gap_stands_only_for_what_trim_had_removed_before_it() -> None:
    trimmed = table(range(1, 11), removed=range(1, 6))
    assert kinds([1, 2, None, 6, 7], trimmed) == []
    # What was in memory comes although it is removed.
    assert kinds([1, 2, 3, 4, 5, 6], trimmed) == []
    assert kinds([1, 2, None, 4, 5, 6], trimmed) == []
    assert kinds([1, 2, 6], trimmed) == ["lost"]
    assert kinds([1, 2, None, 7], trimmed) == ["lost"]
    assert kinds([1, 2, None, 6], trimmed, when=NOW - 1) == ["gap", "lost"]
    assert kinds([1, 2, 3, 4, 5, None, 6], trimmed) == ["gap"]


def test_a_stream_from_the_oldest_begins_with_what_trim_has_left() -> None:
    trimmed = table(range(1, 11), removed=range(1, 6))
    assert kinds([6, 7], trimmed) == []
    assert kinds([4, 5, 6], trimmed) == []
    assert kinds([7, 8], trimmed) == ["lost"]
    assert kinds([6, 7], trimmed, when=NOW - 1) == ["lost"]


def test_after_a_failover_that_lost_entries_a_gap_has_to_come() -> None:
    before, after = table(range(1, 11)), table([1, 2, 3, 4, 5, 30, 31, 32, 33])
    # It had seen none of those that were lost.
    assert kinds([3, 4, 5, 30, 31, 32, 33], before, after, start=2, complete=True) == []
    assert kinds([3, 4, 5, 6, 7, None, 31, 32, 33], before, after, start=2, complete=True) == []
    assert kinds([3, 4, None, 32, 33], before, after, start=2, complete=True) == []
    assert kinds([3, 4, 5, 6, 7, 30, 31, 32, 33], before, after, start=2)[0] in ("lost", "twice")
    assert kinds([3, 4, 5, 6, 7, None, 8], before, after, start=2) != []
    assert kinds([3, 4, 5, 6, 7, None, 4, 5], before, after, start=2) != []
    assert kinds([3, 4, 5, 6, None, 30, None, 32], before, after, start=2) == ["gap", "lost"]


def test_the_same_position_may_be_another_entry_after_a_failover() -> None:
    before = table(range(1, 11))
    after = Table([*before.entries[:5], *(entry(each, f"new{each}") for each in range(6, 12))])
    new = after.entries[5:]
    assert kinds([4, 5, *new], before, after, start=3, complete=True) == []
    assert kinds([4, 5, 6, *new[1:]], before, after, start=3) != []
    assert kinds([4, 5, 6, None, *new[1:]], before, after, start=3, complete=True) == []


def wrote(*positions: int, began: float, committed: float | None = None) -> Transaction:
    return Transaction(began, [f"p{position}" for position in positions], committed)


def test_positions_follow_the_order_in_which_commits_were_acknowledged() -> None:
    # These overlap: both orders are right.
    together = [wrote(1, 3, began=1, committed=4), wrote(2, began=2, committed=3)]
    assert list(order_violations(TEN, together)) == []
    apart = [wrote(1, 3, began=1, committed=2), wrote(2, began=3, committed=4)]
    assert [each.kind for each in order_violations(TEN, apart)] == ["order"]
    # The outcome of the first was unknown: it may have been committed at any time.
    unknown = [wrote(1, 3, began=1), wrote(2, began=3, committed=4)]
    assert list(order_violations(TEN, unknown)) == []


def test_transactions_are_in_the_table_as_a_whole_or_not_at_all() -> None:
    whole = [wrote(*range(1, 11), began=1, committed=2)]
    assert list(table_violations([[TEN]], whole)) == []
    assert list(table_violations([[table([1, 3]), table([2])]], [wrote(1, 2, 3, began=1)])) == []
    lost = [*whole, wrote(11, began=3, committed=4)]
    assert [each.kind for each in table_violations([[TEN]], lost)] == ["table"]
    assert list(table_violations([[table([*range(1, 12)])], [TEN]], lost)) == []
    unknown = [*whole, wrote(11, began=3)]
    assert list(table_violations([[TEN]], unknown)) == []
    part = [wrote(*range(1, 12), began=1)]
    assert [each.kind for each in table_violations([[TEN]], part)] == ["table"]
    rolled_back = [wrote(*range(1, 10), began=1)]
    assert "rolled back" in next(table_violations([[TEN]], rolled_back)).text
    twice = Table([*TEN.entries, entry(12, "p3")])
    assert "twice" in next(table_violations([[twice]], whole)).text


def test_a_follower_begins_before_all_that_is_committed_later() -> None:
    written = [wrote(7, began=5, committed=6)]
    early, late = Stream("early", frozenset(), 6, began=4), Stream("late", frozenset(), 7, began=4)
    before = Stream("before", frozenset(), 7, began=math.inf)
    assert [each.kind for each in start_violations([early, late, before], TEN, written)] == ["start"]


def work(attempt: str, *items: int | None, when: float = NOW + 1) -> list[Result]:
    return [Result(attempt, when, None if each is None else entry(each)) for each in items]


def found(
    *batches: list[Result],
    channels: str = "",
    undone: Sequence[str] = (),
    complete: bool = True,
    of: Table = TEN,
) -> list[str]:
    results = [result for batch in batches for result in batch]
    return [each.kind for each in result_violations("it", channels, results, undone, of, complete=complete)]


def test_work_that_is_done_once_and_in_turns_is_what_was_promised() -> None:
    assert found(work("1/1", *range(1, 8)), work("2/1", 8), work("1/2", 9, 10)) == []
    assert found(work("1/1", 2, 4, 6), work("1/2", 8, 10), channels="a") == []
    assert found(work("1/1", 1, 2), work("1/3", *range(3, 11)), undone=["1/2"]) == []
    assert found(work("1/1", 1, 2), complete=False) == []
    trimmed = table(range(1, 11), removed=range(1, 6))
    assert found(work("1/1", 1, 2), work("1/2", None), work("1/3", *range(6, 11)), of=trimmed) == []


@pytest.mark.parametrize(
    ("batches", "kinds"),
    [
        # The position moved without the work; the work was committed without the position.
        ([work("1/1", 1, 2), work("1/2", *range(5, 11))], ["lost"]),
        ([work("1/1", 1, 2), work("2/1", 1, 2), work("2/2", *range(3, 11))], ["twice"]),
        # Two had a batch at a time.
        ([work("1/1", 1), work("2/1", 2), work("1/1", *range(3, 11))], ["turns"]),
        ([work("1/1", 1), work("2/1", 1), work("1/1", 2), work("2/1", *range(2, 11))], ["twice", "turns"]),
        ([work("1/1", 1, 2), work("1/2", *range(3, 10))], ["lost"]),
        ([work("1/1", 1, 2), work("1/2", None), work("1/3", *range(3, 11))], ["gap"]),
        ([work("1/1", 1, 2), work("gone", *range(3, 11))], ["undone"]),
        ([work("1/1", *range(1, 11)), work("gone", 11)], ["unknown", "undone"]),
    ],
)
def test_work_that_breaks_the_promise_is_noticed(batches: list[list[Result]], kinds: list[str]) -> None:
    assert set(kinds) <= set(found(*batches, undone=["gone"]))


def test_a_handover_is_another_process_s_batch() -> None:
    assert handovers([]) == 0
    assert handovers([*work("1/1", 1), *work("1/2", 2), *work("2/1", 3), *work("1/3", 4)]) == 2
