"""The window and the bookmarks in it, against a model of a log that knows the table only."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from pglisten._eventlog.bookmark import Bookmark, Nothing
from pglisten._eventlog.entry import EPOCH, Entry, created_at, microseconds
from pglisten._eventlog.window import WINDOW_BYTES, Window
from support.log_model import CHANNELS, Log, positions, read, started, take


def test_inside_the_window_no_page_is_wanted() -> None:
    _, window = started(20, 10)
    assert (window.start, window.head, len(window)) == (10, 20, 10)
    bookmark = Bookmark(window, 10, frozenset())
    taken = [bookmark.take(window) for _ in range(11)]
    assert [item.position for item in taken if isinstance(item, Entry)] == list(range(11, 21))
    assert taken[-1] is Nothing.NEW
    assert Bookmark(window, 9, frozenset()).take(window) is Nothing.BEHIND


@pytest.mark.parametrize("channels", ["a", "ab", CHANNELS, ""])
def test_behind_the_window_pages_lead_to_it(channels: str) -> None:
    log, window = started(20, 10)
    expected = [entry.position for entry in log.entries if not channels or entry.channel in channels]
    assert positions(log, window, Bookmark(window, 0, frozenset(channels))) == expected


def test_the_first_page_is_the_window() -> None:
    log, window = Log(), Window(10)
    for _ in range(6):
        log.append("a")
    read(log, window, limit=4)
    assert (window.start, window.head) == (2, 6)


def test_a_log_that_fits_a_page_is_in_the_window_as_a_whole() -> None:
    log, window = Log(), Window(10)
    log.next = 5
    log.append("a")
    read(log, window)
    assert window.start == 0
    assert positions(log, window, Bookmark(window, 0, frozenset())) == [5]


def test_payloads_bound_the_window_too_and_the_newest_entry_stays() -> None:
    log, window = started(3, 10)
    log.append("a", "x" * (WINDOW_BYTES // 2))
    log.append("a", "x" * (WINDOW_BYTES // 2))
    read(log, window)
    assert (window.start, len(window)) == (4, 1)
    log.append("a", "x" * WINDOW_BYTES)
    read(log, window)
    assert (window.start, len(window)) == (5, 1)
    log.append("a")
    read(log, window)
    assert (window.start, len(window)) == (6, 1)


def test_what_was_trimmed_before_it_was_read_is_a_gap_for_all_who_lack_it() -> None:
    log, window = started(20, 5)
    behind, inside, ahead = (Bookmark(window, position, frozenset()) for position in (3, 16, 20))
    log.trim(18)
    read(log, window)
    assert positions(log, window, behind) == [None, 19, 20]
    assert positions(log, window, inside) == [17, 18, 19, 20]  # They are in memory.
    assert positions(log, window, ahead) == []


def test_what_was_trimmed_before_the_reader_read_it_is_a_gap() -> None:
    log, window = started(20, 5)
    follower, fresh = Bookmark(window, 20, frozenset("a")), Bookmark(window, 0, frozenset(), from_oldest=True)
    for _ in range(5):
        log.append("a")
    log.trim(23)
    read(log, window)
    assert positions(log, window, follower) == [None, 24, 25]
    assert positions(log, window, fresh) == [24, 25]


def test_a_follower_of_all_that_is_kept_has_no_gap_at_its_beginning_only() -> None:
    log, window = started(20, 5)
    follower = Bookmark(window, 0, frozenset(), from_oldest=True)
    log.trim(4)
    first = take(log, window, follower)
    assert isinstance(first, Entry)
    assert first.position == 5
    log.trim(10)
    read(log, window)
    # Two more are of the page that it has.
    assert positions(log, window, follower) == [6, 7, None, *range(11, 21)]


def test_a_log_that_was_trimmed_as_a_whole_contradicts_nothing() -> None:
    log, window = started(20, 5)
    log.trim(20)
    read(log, window)
    log.append("a")
    read(log, window)
    assert positions(log, window, Bookmark(window, 20, frozenset())) == [21]


@pytest.mark.parametrize("written_since", [0, 1, 2, 3])
def test_positions_that_go_back_are_noticed_and_all_go_on_from_the_newest(written_since: int) -> None:
    log, window = started(20, 5)
    behind, ahead = Bookmark(window, 3, frozenset("a")), Bookmark(window, 20, frozenset())
    assert isinstance(take(log, window, behind), Entry)
    log.entries, log.next = log.entries[:18], 19
    for _ in range(written_since):
        entry = log.append("a")
        log.entries[-1] = entry._replace(created=datetime.now(timezone.utc))
    page = log.after(window.head, frozenset(), window.last, 4)
    assert window.contradicts(page)
    window.begin(log.latest(4))
    assert [bookmark.take(window) for bookmark in (behind, ahead)] == [None, None]
    log.append("a")
    read(log, window)
    assert positions(log, window, behind) == positions(log, window, ahead) == [19 + written_since]


def test_a_page_for_a_place_that_was_left_is_dropped() -> None:
    log, window = started(20, 5)
    bookmark = Bookmark(window, 3, frozenset())
    page = log.after(3, frozenset(), 20, 4)
    bookmark.accept(page, 3, window)
    bookmark.accept(page, 3, window)
    assert positions(log, window, bookmark) == list(range(4, 21))


def test_creation_is_kept_to_the_microsecond() -> None:
    moment = datetime(9999, 12, 31, tzinfo=timezone.utc)
    for each in (moment, EPOCH, datetime(1, 1, 1, 0, 0, 0, 1, timezone.utc)):
        assert created_at(microseconds(each)) == each
