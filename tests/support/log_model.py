"""A model of a log that knows the table only, and the steps of its reader and followers."""

from __future__ import annotations

from pglisten._eventlog.bookmark import Bookmark, Nothing
from pglisten._eventlog.entry import Entry, created_at, microseconds
from pglisten._eventlog.statements import Page
from pglisten._eventlog.window import Window

__all__ = ["CHANNELS", "Log", "positions", "read", "read_ahead", "started", "take"]

CHANNELS = "abcdefghijkl"


class Log:
    """The tables of a log, and what a query for a page would return."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.trimmed = 0
        self.next = 1

    @property
    def newest(self) -> int:
        return max(self.trimmed, *(entry.position for entry in self.entries[-1:]), 0)

    def append(self, channel: str, payload: str = "", hole: int = 0) -> Entry:
        entry = Entry(self.next + hole, channel, payload, created_at(1000 * self.next))
        self.next = entry.position + 1
        self.entries.append(entry)
        return entry

    def trim(self, through: int) -> None:
        removed = [entry.position for entry in self.entries if entry.position <= through]
        self.entries = self.entries[len(removed) :]
        self.trimmed = max([self.trimmed, *removed])

    def page(self, found: list[Entry], known: int, cut: int | None) -> Page:
        created = [microseconds(entry.created) for entry in self.entries if entry.position == known]
        return Page(found, cut, self.newest, self.trimmed, created[0] if created else None)

    def after(self, position: int, channels: frozenset[str], known: int, limit: int) -> Page:
        found = [
            entry
            for entry in self.entries
            if entry.position > position and (not channels or entry.channel in channels)
        ][:limit]
        return self.page(found, known, found[-1].position if len(found) == limit else None)

    def latest(self, limit: int) -> Page:
        found = self.entries[-limit:]
        return self.page(found, 0, found[-1].position if len(found) == limit else None)


def read(log: Log, window: Window, limit: int = 4) -> None:
    """Read all that is new, as the reader does."""
    if not window.filled:
        window.begin(log.latest(limit))
    while True:
        page = log.after(window.head, frozenset(), window.last, limit)
        assert not window.contradicts(page)
        window.add(page)
        if page.reached is None:
            return


def take(log: Log, window: Window, bookmark: Bookmark, limit: int = 3) -> Entry | Nothing | None:
    """Take the next item, with pages of the follower's own."""
    while (item := bookmark.take(window)) is Nothing.BEHIND:
        read_ahead(log, window, bookmark, limit)
    return item


def read_ahead(log: Log, window: Window, bookmark: Bookmark, limit: int = 3) -> None:
    """Read the next page of the follower's own, if one is wanted."""
    if (position := bookmark.wants(window)) is not None:
        page = log.after(position, bookmark.channels, window.last, limit)
        window.note_trimmed(page.trimmed)
        bookmark.accept(page, position, window)


def positions(log: Log, window: Window, bookmark: Bookmark) -> list[int | None]:
    """Return the positions of all items until there is nothing new, ``None`` for a gap."""
    found = []
    while not isinstance(item := take(log, window, bookmark), Nothing):
        found.append(item and item.position)
    return found


def started(count: int, size: int) -> tuple[Log, Window]:
    """Return a log of *count* entries on two channels, and a window that has read it from its beginning."""
    log, window = Log(), Window(size)
    read(log, window)
    for number in range(count):
        log.append("ab"[number % 2])
    read(log, window)
    return log, window
