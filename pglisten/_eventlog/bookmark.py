"""Where one follower is in a log. Pure."""

from __future__ import annotations

import enum
from collections import deque

from .entry import Entry
from .statements import Page
from .window import Window

__all__ = ["Bookmark", "Nothing"]


class Nothing(enum.Enum):
    """Why there is no item."""

    NEW = "no new entry"
    """The follower has all entries up to the window's head."""
    BEHIND = "behind the window"
    """The next entry may be one that is no longer in the window: a page of the follower's own is wanted."""


class Bookmark:
    """Keep the place of one follower of *channels*, of all channels if there are none.

    It begins after *position*, or with *from_oldest* with the oldest entry that is kept.
    """

    __slots__ = ("_generation", "_page", "_through", "ahead", "channels", "from_oldest", "position")

    def __init__(
        self, window: Window, position: int, channels: frozenset[str], *, from_oldest: bool = False
    ) -> None:
        self.channels = channels
        self.position = position
        """The follower has all entries up to here."""
        self.from_oldest = from_oldest
        """Whether it has not reached its first entry, so that what was trimmed before is no loss."""
        self._generation = window.generation
        self._page: deque[Entry] = deque()
        """Entries of its own page that are still to come."""
        self._through = 0
        """The position up to which the page goes."""
        self.ahead = False
        """Whether the page that follows its own has not been asked for."""

    def take(self, window: Window) -> Entry | Nothing | None:
        """Return the next entry; ``None`` where some may be missing; `Nothing` if there is none now."""
        if self._generation != window.generation:
            self._generation, self.position = window.generation, window.resumed
            self._page.clear()
            self.ahead = False
            return None
        if self._page:
            entry = self._page.popleft()
            self.position = entry.position if self._page else self._through
            return entry
        if self.position < window.start:
            if self.position >= window.trimmed:
                return Nothing.BEHIND
            self.position = window.trimmed
            return self.take(window) if self.from_oldest else None
        return self._take_from(window)

    def _take_from(self, window: Window) -> Entry | Nothing:
        self.from_oldest = False
        found = window.after(self.position, self.channels)
        if found is None:
            self.caught_up(window.head)
            return Nothing.NEW
        self.position = found.position
        return found

    @property
    def left(self) -> int:
        """Entries of its own page that are still to come."""
        return len(self._page)

    def wants(self, window: Window) -> int | None:
        """Return the position after which a page of its own is wanted; ``None`` if none is.

        While it has a page, this is where the page ends, so that the next one can be read ahead.
        """
        position = self._through if self._page else self.position
        if self._generation != window.generation or not window.trimmed <= position < window.start:
            return None
        return position

    def caught_up(self, position: int) -> None:
        """Note that there is no entry of its channels up to *position*."""
        self.position = max(self.position, position)

    def to_newest(self, window: Window) -> None:
        """Skip all entries up to the window's head."""
        self.caught_up(window.head)
        self._page.clear()
        self.ahead = False

    def accept(self, page: Page, position: int, window: Window) -> None:
        """Take *page*, its own, which was read for *position*. If it has moved meanwhile, drop the page."""
        if position != self.wants(window) or page.trimmed > position:
            return  # Trimmed: the window knows, and `take` says so.
        self.from_oldest = False
        self._page.extend(page.entries)
        self._through = page.through
        self.ahead = True
        if not self._page:
            self.position = page.through
