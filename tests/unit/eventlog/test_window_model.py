"""Followers in many orders of steps, against a model of a log: each gets every entry or a gap."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pglisten._eventlog.bookmark import Bookmark
from pglisten._eventlog.entry import Entry
from pglisten._eventlog.pauses import Pause, Pauses
from pglisten._eventlog.window import Window
from support.log_model import CHANNELS, Log, read, read_ahead, take


class Follower:
    """A bookmark, its pause while it waits, and the check of what it gets."""

    def __init__(self, window: Window, channels: str, ahead_at: int) -> None:
        self.bookmark = Bookmark(window, 0, frozenset(channels))
        self.ahead_at = ahead_at
        self.pause: Pause | None = None
        self.seen = 0
        self.gap = False

    def take(self, log: Log, window: Window, pauses: Pauses, history: list[Entry]) -> bool:
        if self.pause is not None:
            if not self.pause.event.is_set():
                pauses.remove(self.pause)  # It timed out.
            self.pause = None
        item = take(log, window, self.bookmark)
        if item is None:
            assert log.trimmed > self.seen
            self.gap = True
        elif isinstance(item, Entry):
            assert item.position > self.seen
            assert self.gap or self.missed(history, item.position) == []
            self.seen, self.gap = item.position, False
            if self.bookmark.left == self.ahead_at:
                read_ahead(log, window, self.bookmark)
        else:
            self.pause = Pause(self.bookmark, 3, behind=False)
            pauses.add(self.pause)
            return False
        return True

    def missed(self, history: list[Entry], before: int) -> list[int]:
        wanted = self.bookmark.channels
        return [
            entry.position
            for entry in history
            if self.seen < entry.position < before and (not wanted or entry.channel in wanted)
        ]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(CHANNELS[:4]), st.integers(0, 2)),
        st.tuples(st.just("take"), st.integers(0, 4), st.integers(1, 6)),
        st.tuples(st.just("read"), st.just(0), st.just(0)),
        st.tuples(st.just("trim"), st.integers(0, 12), st.just(0)),
    ),
    max_size=120,
)


@given(STEPS, st.integers(1, 6))
def test_every_follower_gets_every_entry_once_and_in_order_or_a_gap(
    steps: list[tuple[str, int | str, int]], size: int
) -> None:
    log, window, pauses, history = Log(), Window(size), Pauses(), list[Entry]()
    read(log, window)
    channels_of_each = ("", "a", "ab", "d", CHANNELS)
    followers = [Follower(window, each, number % 3) for number, each in enumerate(channels_of_each)]

    def bring() -> None:
        while True:
            page = log.after(window.head, frozenset(), window.last, 4)
            everyone = window.add(page)
            channels = {entry.channel for entry in page.entries}
            for pause in pauses.everyone() if everyone else pauses.concerned(channels):
                pauses.end(pause)
            pauses.covered = window.head
            if page.reached is None:
                return

    for step, what, count in steps:
        if step == "append":
            history.append(log.append(str(what), hole=count))
        elif step == "read":
            bring()
        elif step == "trim":
            log.trim(log.newest - int(what))
        else:
            for _ in range(count):
                followers[int(what)].take(log, window, pauses, history)
    bring()
    for follower in followers:
        while follower.take(log, window, pauses, history):
            pass
        assert follower.gap or follower.missed(history, log.next) == []
    for follower in followers:
        assert follower.pause is not None
        pauses.remove(follower.pause)
    assert pauses.everyone() == []
    assert pauses._channels == {}
