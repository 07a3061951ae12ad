"""The bytes of events: made once for all streams of the same form.

All subscriptions of a process get the same `Notification`, and all followers inside the window of a log the
same `Entry`. So the bytes are kept by the identity of what they were made of.
"""

from __future__ import annotations

from .._eventlog.entry import Entry
from .form import EventForm, Item

__all__ = ["RECONNECTED", "Encoder"]

KEPT = 1024
"""Events that are kept: a stream may be that far behind the first one, and finds them made."""

KEPT_BYTES = 1 << 20
"""Most bytes of the events that are kept. The newest event always is."""

RECONNECTED = "reconnected"
"""The data of the gap event with which a stream begins for a client that was away.

A page that loads its state on ``open`` has done so for this gap.
"""


class Encoder:
    """Make the bytes of events in one form.

    The ``id`` of an entry is its position. The ``id`` of a notification only marks a client that has been
    here before: *mark* and a number.
    """

    __slots__ = ("__weakref__", "_form", "_kept", "_mark", "_number", "_size", "first_gap", "gap")

    def __init__(self, form: EventForm, mark: str) -> None:
        self._form = form
        self._mark = mark
        self._number = 0
        self._kept: dict[int, tuple[Item, bytes]] = {}
        """The newest events, by the identity of their item, which the tuple keeps alive."""
        self._size = 0
        self.gap = form.gap_event(None).encode()
        """A gap among entries. It has no ``id``, so that a client that misses it resumes before it."""

        self.first_gap = form.gap_event(None, RECONNECTED).encode()
        """The same, at the beginning of a stream."""

    def event(self, item: Item) -> bytes:
        """Return the event for *item*."""
        kept = self._kept.get(id(item))
        if kept is not None:
            return kept[1]
        # Encoding calls the application, and so may switch greenlets: the same event may be made twice.
        if isinstance(item, Entry):
            data = self._form.event_for(item.position, item).encode()
        else:
            data = self._form.event_for(self.next_mark(), item).encode()
        self._keep(item, data)
        return data

    def marked_gap(self, data: str = "") -> bytes:
        """Return a gap among notifications, with an ``id`` that marks the client."""
        return self._form.gap_event(self.next_mark(), data).encode()

    def next_mark(self) -> str:
        """Return an ``id`` for an event of a stream that cannot resume."""
        self._number += 1
        return f"{self._mark}-{self._number}"

    def _keep(self, item: Item, data: bytes) -> None:
        kept = self._kept
        if id(item) in kept:
            return
        kept[id(item)] = item, data
        self._size += len(data)
        while len(kept) > 1 and (len(kept) > KEPT or self._size > KEPT_BYTES):
            self._size -= len(kept.pop(next(iter(kept)))[1])
