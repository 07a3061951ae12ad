"""Check whether a chaos run's history keeps the promises. Pure: a function from records to violations.

The promises, with the kinds of violation:

* ``lost``: what was committed while its channel was acknowledged is delivered, or a ``None`` stands between
  the neighbours that it would have had;
* ``duplicate`` ``order`` ``unknown``: nothing comes twice, in another order than that of commits, or altered;
* ``unwanted``: what was committed after ``unlisten()`` had returned does not come;
* ``early`` ``overtaken``: a loss's ``None`` comes after the callback for RECONNECTED has ended, and before
  all that was sent after DISCONNECTED;
* ``count``: a ``None`` for each RECONNECTED and each overflow, no more; the listener's own figures agree;
* ``events``: their order and their errors;
* ``call``: what the run has noted itself.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from support.chaos.digest import Digest, Sent, Violation
from support.chaos.history import Record

EVENTS = {
    ("CONNECTED", ""): "C",
    ("RECONNECTED", ""): "R",
    ("CONNECTION_ATTEMPT_FAILED", "ConnectionFailed"): "F",
    ("DISCONNECTED", "ConnectionLost"): "D",
    ("DISCONNECTED", "ListenerClosed"): "X",
}
EVENT_ORDER = re.compile("F*(C(DF*R)*(DF*|X)?)?")
"""All events of a listener's life. A listener closed while it is not connected says nothing more."""


def violations(records: Sequence[Record]) -> list[Violation]:
    """Return every broken promise, in the order of the places."""
    digest = Digest(records)
    found = [
        *digest.broken,
        *_stream(digest),
        *_lost(digest),
        *_markers(digest),
        *_events(digest),
        *_figures(digest, len(records)),
    ]
    return sorted(found, key=lambda violation: violation.place)


def count_covered(records: Sequence[Record]) -> int:
    """Return how many were expected and did not come, lost ones included."""
    digest = Digest(records)
    for _ in _stream(digest):
        pass
    return sum(sent.position is None and digest.expected(sent) for sent in digest.sent.values())


def _stream(digest: Digest) -> Iterable[Violation]:
    """Look at each notification as it came. Notes its position, too."""
    newest: dict[str, float] = {}
    for position, (place, consumed) in enumerate(digest.stream):
        if consumed.item is None:
            continue
        sent = digest.sent.get((consumed.item.channel, consumed.item.payload))
        if sent is None:
            yield Violation("unknown", place, f"this was never sent: {consumed.item!r:.200}")
            continue
        if sent.position is not None:
            yield Violation("duplicate", place, f"{sent} comes twice", sent)
            continue
        sent.position = position
        if place < sent.began:
            yield Violation("unknown", place, f"{sent} comes before it was sent", sent)
        if digest.unwanted(sent):
            yield Violation("unwanted", place, f"{sent} was sent while the channel was not in the set", sent)
        source = sent.sending.source
        if sent.last < newest.get(source, -math.inf):
            yield Violation("order", place, f"{sent} comes after what was committed later", sent)
        newest[source] = max(newest.get(source, -math.inf), sent.first)


def _lost(digest: Digest) -> Iterable[Violation]:
    """Find what is missing and has no marker between the neighbours that it would have."""
    markers = [0]
    for _, consumed in digest.stream:
        markers.append(markers[-1] + (consumed.item is None))
    for source in {sent.sending.source for sent in digest.sent.values()}:
        ours = [sent for sent in digest.sent.values() if sent.sending.source == source]
        neighbours = _Neighbours([sent for sent in ours if sent.position is not None], len(digest.stream))
        for sent in ours:
            if sent.position is not None or not digest.expected(sent):
                continue
            before, after = neighbours.of(sent)
            if before > after or markers[after] == markers[before + 1]:
                place = digest.stream[after][0] if after < len(digest.stream) else sent.began
                yield Violation("lost", place, f"{sent} is missing, and no None stands in its place", sent)


class _Neighbours:
    """What came of one source, to be asked for the nearest on either side of something."""

    def __init__(self, came: Sequence[Sent], end: int) -> None:
        by_last = sorted(came, key=lambda sent: sent.last)
        by_first = sorted(came, key=lambda sent: sent.first)
        self._lasts = [sent.last for sent in by_last]
        self._firsts = [sent.first for sent in by_first]
        # The latest position of those committed before, the earliest of those committed after.
        self._before = [-1]
        for sent in by_last:
            self._before.append(max(self._before[-1], sent.position or 0))
        self._after = [end]
        for sent in reversed(by_first):
            self._after.append(min(self._after[-1], sent.position or 0))

    def of(self, sent: Sent) -> tuple[int, int]:
        """Return the positions of the last that came certainly before it, and the first certainly after."""
        before = self._before[bisect_left(self._lasts, sent.first)]
        after = self._after[len(self._firsts) - bisect_right(self._firsts, sent.last)]
        return before, after


def _markers(digest: Digest) -> Iterable[Violation]:
    """Compare each marker with the events, and each notification with the markers before it."""
    losses = [place for place, called in digest.events if EVENTS.get((called.event, called.error)) == "D"]
    markers = 0
    for place, consumed in digest.stream:
        if consumed.item is None:
            markers += 1
            allowed = bisect_left(digest.returned, place) + consumed.overflows
            if markers > allowed:
                yield Violation("early", place, f"None number {markers}, but only {allowed} had a reason")
            continue
        sent = digest.sent.get((consumed.item.channel, consumed.item.payload))
        if sent is not None and (before := bisect_left(losses, sent.began)) > markers:
            yield Violation(
                "overtaken", place, f"{sent} was sent after loss {before}, and comes before its None", sent
            )


def _events(digest: Digest) -> Iterable[Violation]:
    letters = "".join(EVENTS.get((called.event, called.error), "?") for _, called in digest.events)
    # The longest beginning that may be: what comes next is wrong.
    longest = len(letters)
    while not EVENT_ORDER.fullmatch(letters[:longest]):
        longest -= 1
    if longest < len(letters):
        place, called = digest.events[longest]
        yield Violation(
            "events", place, f"{called} cannot follow {letters[max(0, longest - 10) : longest]!r}"
        )


def _figures(digest: Digest, end: int) -> Iterable[Violation]:
    """Compare the listener's figures with the history."""
    stats = digest.stats
    if stats is None:
        yield Violation("count", end - 1, "the run did not come to its end")
        return
    names = [called.event for _, called in digest.events]
    came = sum(consumed.item is not None for _, consumed in digest.stream)
    markers = len(digest.stream) - came
    missing = sum(sent.position is None for sent in digest.sent.values())
    for what, figure, seen in (
        ("delivered, and consumed", stats.delivered, came),
        ("received less dropped, and consumed", stats.received - stats.dropped, came),
        ("reconnects, and RECONNECTED", stats.reconnects, names.count("RECONNECTED")),
        ("failed attempts, and events", stats.failed_attempts, names.count("CONNECTION_ATTEMPT_FAILED")),
        ("reconnects with overflows, and None", stats.reconnects + stats.overflows, markers),
        ("queue depth, and nothing", stats.queue_depth, 0),
    ):
        if figure != seen:
            yield Violation("count", end - 1, f"{what}: {figure} and {seen}")
    if not stats.overflows <= stats.dropped <= missing:
        text = f"{stats.overflows} overflows, {stats.dropped} dropped, {missing} missing"
        yield Violation("count", end - 1, f"{text}: each should be no more than the next")
