"""What happened in a chaos run, in the order in which it happened.

Everything is noted by greenlets of one thread, each note made in the turn of the event loop in which the
thing happened or, where that cannot be, on the safe side of it: the docstrings say which. A record's place in
the history is its time: "before" and "after" below mean places, not clocks.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from pglisten import Notification, Stats

SENDER = "sender"
"""Source of what one process commits, one transaction after another: commit order is the order of numbers."""
LISTENER = "listener"
"""Source of what greenlets send with the listener's own ``notify()``. A statement whose answer was lost may
be committed at any later time, by a session that the network has kept alive."""


@dataclass(frozen=True)
class Sending:
    """Before a notification's transaction begins. Source and number name it."""

    source: str
    number: int
    channel: str
    payload: str

    def __str__(self) -> str:
        return f"  -> {self.source} {self.number} to {self.channel} ({len(self.payload)} characters)"


@dataclass(frozen=True)
class Settled:
    """After the transaction of the numbers *first* to *last*; not *committed*: the outcome is unknown."""

    source: str
    first: int
    last: int
    committed: bool

    def __str__(self) -> str:
        outcome = "committed" if self.committed else "committed or not"
        return f"     {self.source} {self.first}..{self.last} {outcome}"


@dataclass(frozen=True)
class Opening:
    """Before a call of ``listen()``."""

    channel: str

    def __str__(self) -> str:
        return f"     listen {self.channel} begins"


@dataclass(frozen=True)
class Acknowledged:
    """After ``listen()`` has returned, if ``unlisten()`` has not been called since that call began."""

    channel: str

    def __str__(self) -> str:
        return f"     listen {self.channel} acknowledged"


@dataclass(frozen=True)
class Leaving:
    """Before a call of ``unlisten()`` or ``unlisten_all()``."""

    channel: str

    def __str__(self) -> str:
        return f"     unlisten {self.channel} begins"


@dataclass(frozen=True)
class Shut:
    """After ``unlisten()`` has returned without an error, if ``listen()`` has not been called since."""

    channel: str

    def __str__(self) -> str:
        return f"     unlisten {self.channel} acknowledged"


@dataclass(frozen=True)
class Consumed:
    """When a consumer has taken an item; *overflows* is the listener's figure of that moment."""

    item: Notification | None
    overflows: int

    def __str__(self) -> str:
        if self.item is None:
            return f"<=   None (overflows so far: {self.overflows})"
        return f"<-   {self.item.channel} {self.item.payload.partition(' ')[0]}"


@dataclass(frozen=True)
class Called:
    """When the event callback begins; *error* is the error's class."""

    event: str
    error: str
    text: str = ""

    def __str__(self) -> str:
        return f"**   {self.event} {self.error} {self.text}"


@dataclass(frozen=True)
class Returned:
    """Before the event callback returns or raises."""

    event: str

    def __str__(self) -> str:
        return f"**   {self.event}: callback ends"


@dataclass(frozen=True)
class Fault:
    """A fault begins or ends."""

    text: str

    def __str__(self) -> str:
        return f"!!   {self.text}"


@dataclass(frozen=True)
class Broken:
    """A promise that shows in the call itself was broken: a wrong error, or no return."""

    text: str

    def __str__(self) -> str:
        return f"##   {self.text}"


@dataclass(frozen=True)
class Final:
    """After ``close()`` and the last item: the figures."""

    stats: Stats

    def __str__(self) -> str:
        return f"     {self.stats}"


Record: TypeAlias = (
    Sending
    | Settled
    | Opening
    | Acknowledged
    | Leaving
    | Shut
    | Consumed
    | Called
    | Returned
    | Fault
    | Broken
    | Final
)


class History:
    """Records in their order, and when each was made."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._times: list[float] = []
        self._started = time.monotonic()

    def note(self, *records: Record) -> None:
        """Append records. Never switches greenlets."""
        self.records += records
        self._times += [time.monotonic() - self._started] * len(records)

    def excerpt(self, place: int, around: int = 20) -> str:
        """Return the records around a place, a line each, with seconds since the start."""
        return self._lines(range(max(0, place - around), min(len(self.records), place + around + 1)), place)

    def excerpt_of(self, channel: str, place: int, around: int = 20) -> str:
        """Return the records around a place that concern one channel, or all of them."""
        ours = [index for index, record in enumerate(self.records) if _concerns(record, channel)]
        middle = bisect_left(ours, place)
        return self._lines(ours[max(0, middle - around) : middle + around], place)

    def _lines(self, places: Iterable[int], marked: int) -> str:
        return "\n".join(
            f"{'>' if place == marked else ' '}{place:7d} {self._times[place]:8.3f} {self.records[place]}"
            for place in places
        )


def _concerns(record: Record, channel: str) -> bool:
    match record:
        case Sending() | Opening() | Acknowledged() | Leaving() | Shut():
            return record.channel == channel
        case Consumed(item):
            return item is None or item.channel == channel
        case _:
            return not isinstance(record, Settled)
