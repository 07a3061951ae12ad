"""The followers that wait, by their channels.

Only a follower that waits is registered. So one that is killed, times out or is forgotten leaves nothing
behind: its greenlet removes it when it leaves the wait.
"""

from __future__ import annotations

from collections.abc import Iterable

from gevent.event import Event

from .bookmark import Bookmark

__all__ = ["Pause", "Pauses"]


class Pause:
    """One wait of a follower, which several of its greenlets may share."""

    __slots__ = ("behind", "bookmark", "error", "event", "greenlets", "limit")

    def __init__(self, bookmark: Bookmark, limit: int, *, behind: bool) -> None:
        self.bookmark = bookmark
        self.limit = limit
        """Most entries of a page of its own."""
        self.behind = behind
        """Whether it waits for a page of its own, and not for a new entry."""
        self.event = Event()
        self.error: Exception | None = None
        """Why it has ended without anything to read; ``None``: the follower looks again."""
        self.greenlets = 0

    @property
    def waits_for_news(self) -> bool:
        """Whether a greenlet is waiting for a new entry, and none has come."""
        return self.greenlets > 0 and not self.behind and not self.event.is_set()


class Pauses:
    """Keep the pauses that have not ended. No method switches greenlets."""

    def __init__(self) -> None:
        self.covered = 0
        """The position up to which each waiting follower was told of its new entries."""
        self._behind: dict[Pause, None] = {}
        self._waiting: dict[Pause, None] = {}
        self._channels: dict[str | None, dict[Pause, None]] = {}
        """Those that wait for a new entry, by channel; ``None`` for all channels."""

    def __contains__(self, pause: Pause) -> bool:
        return pause in self._waiting or pause in self._behind

    @property
    def behind(self) -> Pause | None:
        """The one that waits longest for a page of its own."""
        return next(iter(self._behind), None)

    def add(self, pause: Pause) -> None:
        """Register *pause*."""
        if pause.behind:
            self._behind[pause] = None
            return
        self._waiting[pause] = None
        for channel in pause.bookmark.channels or (None,):
            self._channels.setdefault(channel, {})[pause] = None

    def postpone(self, pause: Pause) -> None:
        """Serve the others first."""
        if pause in self._behind:
            del self._behind[pause]
            self._behind[pause] = None

    def concerned(self, channels: Iterable[str]) -> list[Pause]:
        """Return those that wait for a new entry of one of *channels*."""
        found: dict[Pause, None] = {}
        for channel in (None, *channels):
            found.update(self._channels.get(channel, {}))
        return list(found)

    def everyone(self) -> list[Pause]:
        """Return all."""
        return [*self._waiting, *self._behind]

    def end(self, pause: Pause, error: Exception | None = None) -> None:
        """Remove *pause* and wake its greenlets, which raise *error* if there is one."""
        if self.remove(pause):
            pause.error = error
            pause.event.set()

    def remove(self, pause: Pause) -> bool:
        """Remove *pause*; return whether it was there. Its follower has all entries up to ``covered``."""
        if self._behind.pop(pause, pause) is None:
            return True
        if self._waiting.pop(pause, pause) is not None:
            return False
        pause.bookmark.caught_up(self.covered)
        for channel in pause.bookmark.channels or (None,):
            waiting = self._channels[channel]
            del waiting[pause]
            if not waiting:
                del self._channels[channel]
        return True
