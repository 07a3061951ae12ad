"""A chaos run's history, sorted for the checker: what was sent, what arrived, what was open when. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pglisten import Stats
from support.chaos.history import (
    SENDER,
    Acknowledged,
    Broken,
    Called,
    Consumed,
    Final,
    Leaving,
    Opening,
    Record,
    Returned,
    Sending,
    Settled,
    Shut,
)


@dataclass
class Sent:
    """A notification and its fate."""

    sending: Sending
    began: int
    ended: float = math.inf
    """Place after which it certainly is committed or certainly will not be; infinite if that is unknown."""
    committed: bool = False
    position: int | None = None
    """Where it came in the stream."""

    @property
    def first(self) -> float:
        """It was committed at this moment or later, on its source's own scale."""
        return self.sending.number if self.sending.source == SENDER else self.began

    @property
    def last(self) -> float:
        """It was committed at this moment or earlier, if at all."""
        if self.sending.source == SENDER:
            return self.sending.number
        return self.ended if self.committed else math.inf

    def __str__(self) -> str:
        return f"{self.sending.source} {self.sending.number} on {self.sending.channel}"


class Violation(NamedTuple):
    """A broken promise, the place in the history where it shows, and the notification that it is about."""

    kind: str
    place: int
    text: str
    sent: Sent | None = None


@dataclass
class Spans:
    """Stretches of a channel's history, between what begins and what ends them."""

    begun: list[int] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)

    def begin(self, place: int) -> None:
        if len(self.begun) == len(self.ended):
            self.begun.append(place)

    def end(self, place: int) -> None:
        if len(self.begun) > len(self.ended):
            self.ended.append(place)

    def hold(self, began: int, ended: float) -> bool:
        """Whether all from *began* to *ended* lies in one of them."""
        which = bisect_right(self.begun, began) - 1
        if which < 0:
            return False
        return which >= len(self.ended) or ended < self.ended[which]


class Digest:
    """A history, sorted."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.sent: dict[tuple[str, str], Sent] = {}
        self.stream: list[tuple[int, Consumed]] = []
        self.open: dict[str, Spans] = {}
        self.shut: dict[str, Spans] = {}
        self.events: list[tuple[int, Called]] = []
        self.returned: list[int] = []
        """Places where callbacks for RECONNECTED have ended."""
        self.broken: list[Violation] = []
        self.stats: Stats | None = None
        self._by_name: dict[tuple[str, int], Sent] = {}
        for place, record in enumerate(records):
            self._sort(place, record)

    def _sort(self, place: int, record: Record) -> None:
        match record:
            case Sending(source, number, channel, payload):
                sent = self.sent[channel, payload] = self._by_name[source, number] = Sent(record, place)
            case Settled(source, first, last, committed):
                for number in range(first, last + 1):
                    sent = self._by_name[source, number]
                    sent.committed = committed
                    # A transaction of the sender's ends with its session, one way or the other.
                    sent.ended = place if committed or source == SENDER else math.inf
            case Consumed():
                self.stream.append((place, record))
            case Called():
                self.events.append((place, record))
            case Returned("RECONNECTED"):
                self.returned.append(place)
            case Broken(text):
                self.broken.append(Violation("call", place, text))
            case Final(stats):
                self.stats = stats
            case _:
                self._sort_channel(place, record)

    def _sort_channel(self, place: int, record: Record) -> None:
        match record:
            case Acknowledged(channel):
                self.open.setdefault(channel, Spans()).begin(place)
            case Leaving(channel):
                self.open.setdefault(channel, Spans()).end(place)
            case Shut(channel):
                self.shut.setdefault(channel, Spans()).begin(place)
            case Opening(channel):
                self.shut.setdefault(channel, Spans()).end(place)
            case _:
                pass

    def expected(self, sent: Sent) -> bool:
        """Whether it has to come, or a marker in its place."""
        spans = self.open.get(sent.sending.channel)
        return sent.committed and spans is not None and spans.hold(sent.began, sent.ended)

    def unwanted(self, sent: Sent) -> bool:
        """Whether it must not come."""
        spans = self.shut.get(sent.sending.channel)
        return spans is not None and spans.hold(sent.began, sent.ended)
