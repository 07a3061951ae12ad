"""The newest entries of a log, in memory, for all followers of a process. Pure.

Each channel has a list of its own beside the list of all, so that a follower of one channel finds its next
entry by bisection, however many entries others have.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Collection

from ..errors import ConfigurationError
from .entry import EPOCH, Entry, microseconds
from .statements import FEW_CHANNELS, Page

__all__ = ["WINDOW_BYTES", "Window", "check_window"]

WINDOW_BYTES = 16 << 20
"""Most bytes of payloads that a window keeps, as Python stores them. The newest entry always stays."""

_GONE = Entry(0, "", "", EPOCH)


def check_window(size: int) -> int:
    """Return *size*, or raise `ConfigurationError` if it is no number of entries."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigurationError(f"window is a number of entries from 1 up, not {size!r}", option="window")
    return size


class _Line:
    """Entries in order. The oldest are removed at the front."""

    __slots__ = ("_entries", "_first", "_positions")

    def __init__(self) -> None:
        self._positions: list[int] = []
        self._entries: list[Entry] = []
        self._first = 0
        """How many of the lists' first items are removed. The lists are cut when these are the half."""

    def __len__(self) -> int:
        return len(self._entries) - self._first

    def append(self, entry: Entry) -> None:
        self._positions.append(entry.position)
        self._entries.append(entry)

    def pop_first(self) -> Entry:
        """Remove the oldest entry and return it."""
        first = self._first
        entry, self._entries[first] = self._entries[first], _GONE
        self._first = first = first + 1
        if 2 * first > len(self._entries):
            del self._positions[:first], self._entries[:first]
            self._first = 0
        return entry

    def after(self, position: int) -> Entry | None:
        """Return the first entry after *position*."""
        positions = self._positions
        if not positions or positions[-1] <= position:
            return None
        return self._entries[bisect_right(positions, position, self._first)]

    def first_of(self, channels: Collection[str], position: int) -> Entry | None:
        """Return the first entry after *position* whose channel is one of *channels*."""
        for index in range(bisect_right(self._positions, position, self._first), len(self._entries)):
            if (entry := self._entries[index]).channel in channels:
                return entry
        return None


class Window:
    """All entries after the position ``start``, up to ``head``: at most *size* entries and `WINDOW_BYTES`."""

    def __init__(self, size: int) -> None:
        self.start = 0
        self.head = 0
        self.trimmed = 0
        """The highest position that trim is known to have removed."""
        self.generation = 0
        """How often positions went back: a standby that lacked the newest entries was promoted."""
        self.resumed = 0
        """The head after positions went back for the last time."""
        self.filled = False
        """Whether the log has been read."""
        self._size = size
        self._bytes = 0
        self._all = _Line()
        self._channels: dict[str, _Line] = {}
        self._last = _GONE

    def __len__(self) -> int:
        return len(self._all)

    @property
    def last(self) -> int:
        """The position of the last entry that was read; 0 if there is none."""
        return self._last.position

    def contradicts(self, page: Page) -> bool:
        """Whether *page*, read with ``last`` for the known position, belongs to another history.

        Positions went back if the last entry is another one now, or gone although trim did not remove it.
        """
        if page.newest < self.head or page.trimmed < self.trimmed:
            return True
        last = self._last
        return last.position > page.trimmed and page.known != microseconds(last.created)

    def begin(self, page: Page) -> None:
        """Replace the window by *page*, the newest entries. If it was filled before, positions went back."""
        self._clear(page.entries[0].position - 1 if page.reached is not None else page.trimmed)
        self.head, self.trimmed, self._last = page.newest, page.trimmed, _GONE
        if self.filled:
            self.generation += 1
            self.resumed = self.head
        self.filled = True
        self._append(page.entries)

    def add(self, page: Page) -> bool:
        """Add *page*, the entries after ``head``. Return whether entries between are missing: trimmed."""
        missing = page.trimmed > self.head
        if missing:
            self._clear(page.trimmed)
        self.head = page.through
        self.note_trimmed(page.trimmed)
        self._append(page.entries)
        return missing

    def note_trimmed(self, position: int) -> None:
        """Note that trim has removed all entries up to *position*."""
        self.trimmed = max(self.trimmed, position)

    def after(self, position: int, channels: Collection[str]) -> Entry | None:
        """Return the first entry after *position* of *channels*, of all channels if there are none."""
        if not channels:
            return self._all.after(position)
        if len(channels) > FEW_CHANNELS:
            return self._all.first_of(channels, position)
        first: Entry | None = None
        for channel in channels:
            line = self._channels.get(channel)
            entry = None if line is None else line.after(position)
            if entry is not None and (first is None or entry.position < first.position):
                first = entry
        return first

    def _append(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._all.append(entry)
            line = self._channels.get(entry.channel)
            if line is None:
                line = self._channels[entry.channel] = _Line()
            line.append(entry)
            self._bytes += sys.getsizeof(entry.payload)
            self._last = entry
        while len(self._all) > 1 and (len(self._all) > self._size or self._bytes > WINDOW_BYTES):
            self._evict()

    def _evict(self) -> None:
        entry = self._all.pop_first()
        self.start = entry.position
        self._bytes -= sys.getsizeof(entry.payload)
        line = self._channels[entry.channel]
        line.pop_first()
        if not line:
            del self._channels[entry.channel]

    def _clear(self, start: int) -> None:
        self.start, self._bytes = start, 0
        self._all, self._channels = _Line(), {}
