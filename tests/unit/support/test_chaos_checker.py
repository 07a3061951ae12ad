"""The chaos checker finds every kind of broken promise, and none in a history that keeps them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pglisten import Notification, Stats
from support.chaos.checker import count_covered, violations
from support.chaos.faults import NETWORK, plan
from support.chaos.history import (
    LISTENER,
    SENDER,
    Acknowledged,
    Broken,
    Called,
    Consumed,
    Final,
    History,
    Leaving,
    Opening,
    Record,
    Returned,
    Sending,
    Settled,
    Shut,
)


class Tale(list[Record]):
    """A history, told in few words. Figures fit what was told unless given."""

    def send(self, *numbers: int, channel: str = "c", source: str = SENDER, committed: bool = True) -> Tale:
        self += [Sending(source, number, channel, f"{source} {number}") for number in numbers]
        self.append(Settled(source, numbers[0], numbers[-1], committed))
        return self

    def take(
        self, *numbers: int | None, channel: str = "c", source: str = SENDER, overflows: int = 0
    ) -> Tale:
        for number in numbers:
            item = None if number is None else Notification(1, channel, f"{source} {number}")
            self.append(Consumed(item, overflows))
        return self

    def event(self, letter: str) -> Tale:
        name, error = {
            "C": ("CONNECTED", ""),
            "D": ("DISCONNECTED", "ConnectionLost"),
            "F": ("CONNECTION_ATTEMPT_FAILED", "ConnectionFailed"),
            "R": ("RECONNECTED", ""),
            "X": ("DISCONNECTED", "ListenerClosed"),
        }[letter]
        self += [Called(name, error), Returned(name)]
        return self

    def open(self, channel: str = "c") -> Tale:
        self += [Opening(channel), Acknowledged(channel)]
        return self

    def leave(self, channel: str = "c") -> Tale:
        self += [Leaving(channel), Shut(channel)]
        return self

    def begin(self) -> Tale:
        return self.event("C").open()

    def lose(self) -> Tale:
        return self.event("D").event("F").event("R")

    def end(self, **figures: Any) -> Tale:
        self.event("X")
        items = [record.item for record in self if isinstance(record, Consumed)]
        names = [record.event for record in self if isinstance(record, Called)]
        reconnects = names.count("RECONNECTED")
        told = Stats(
            received=len(items) - items.count(None),
            delivered=len(items) - items.count(None),
            overflows=items.count(None) - reconnects,
            dropped=items.count(None) - reconnects,
            reconnects=reconnects,
            failed_attempts=names.count("CONNECTION_ATTEMPT_FAILED"),
        )
        self.append(Final(dataclasses.replace(told, **figures)))
        return self


def kinds(tale: Tale) -> list[str]:
    return [violation.kind for violation in violations(tale)]


GOOD = {
    "nothing goes wrong": Tale().begin().send(0, 1).send(2).take(0, 1, 2).end(),
    "what is missing has its marker": Tale()
    .begin()
    .send(0, 1)
    .take(0)
    .lose()
    .take(None)
    .send(2)
    .take(2)
    .end(),
    "sent before the loss was noticed": Tale().begin().send(0, 1, 2).lose().take(None, 2).end(),
    "missing at the end": Tale().begin().send(0, 1).take(0).lose().take(None).end(),
    "an unknown outcome that came": Tale().begin().send(0, committed=False).send(1).take(0, 1).end(),
    "an unknown outcome that did not": Tale().begin().send(0, committed=False).send(1).take(1).end(),
    "sent before the acknowledgement": Tale().event("C").send(0).open().send(1).take(1).end(),
    "sent while it was being left": Tale([Leaving("c")]).begin().send(0).take(0).end(),
    "sent after unlisten": Tale().begin().leave().send(0).open().send(1).take(1).end(),
    "arrived before unlisten, consumed after": Tale().begin().send(0).leave().take(0).end(),
    "listened to again": Tale().begin().leave().send(0).open().send(1).take(1).leave().send(2).end(),
    "dropped for want of room": Tale()
    .begin()
    .send(0, 1, 2)
    .take(None, overflows=1)
    .take(2)
    .end(received=3, dropped=2),
    "the listener's own, committed late": Tale()
    .begin()
    .send(0, source=LISTENER, committed=False)
    .lose()
    .take(None)
    .send(1, source=LISTENER)
    .take(1, 0, source=LISTENER)
    .end(),
    "closed before it was ever connected": Tale([Final(Stats())]),
}


@pytest.mark.parametrize("tale", GOOD.values(), ids=GOOD.keys())
def test_a_history_that_keeps_the_promises_passes(tale: Tale) -> None:
    assert violations(tale) == []


BAD = {
    "no marker at all": (Tale().begin().send(0, 1, 2).take(0, 2).end(), "lost"),
    "the last one is missing": (Tale().begin().send(0, 1).take(0).end(), "lost"),
    "the marker is after the right neighbour": (
        Tale().begin().send(0, 1, 2).take(0).lose().take(2, None).end(),
        "lost",
    ),
    "the marker is before the left neighbour": (
        Tale().begin().send(0, 1, 2).lose().take(None, 0, 2).end(),
        "lost",
    ),
    "missing on one channel of two": (
        Tale().begin().open("d").send(0).send(1, channel="d").send(2).take(0, 2).end(),
        "lost",
    ),
    "the listener's own is missing": (
        Tale().begin().send(0, source=LISTENER).send(1, source=LISTENER).take(1, source=LISTENER).end(),
        "lost",
    ),
    "between unlisten and the next listen nothing is owed, but after it": (
        Tale().begin().leave().send(0).open().send(1, 2).take(2).end(),
        "lost",
    ),
    "twice": (Tale().begin().send(0, 1).take(0, 1, 1).end(), "duplicate"),
    "twice, with a marker between": (
        Tale().begin().send(0, 1).take(0, 1).lose().take(None, 1).end(),
        "duplicate",
    ),
    "exchanged": (Tale().begin().send(0, 1, 2).take(0, 2, 1).end(), "order"),
    "exchanged between channels": (
        Tale().begin().open("d").send(0).send(1, channel="d").take(1, channel="d").take(0).end(),
        "order",
    ),
    "the listener's own exchanged": (
        Tale().begin().send(0, source=LISTENER).send(1, source=LISTENER).take(1, 0, source=LISTENER).end(),
        "order",
    ),
    "never sent": (Tale().begin().take(7).end(), "unknown"),
    "on another channel": (Tale().begin().send(0, channel="d").take(0).end(), "unknown"),
    "before it was sent": (Tale().begin().take(0).send(0).end(), "unknown"),
    "after unlisten": (Tale().begin().leave().send(0).take(0).end(), "unwanted"),
    "a marker without a reason": (Tale().begin().send(0).take(0, None).end(overflows=0, dropped=0), "early"),
    "a marker before the callback has ended": (
        Tale([*Tale().begin().event("D"), Called("RECONNECTED", "")]).take(None).end(),
        "early",
    ),
    "the marker is overtaken": (
        Tale().begin().event("D").send(0).event("R").take(0, None).end(),
        "overtaken",
    ),
    "a reconnection without a marker": (Tale().begin().lose().end(overflows=0, dropped=0), "count"),
    "more markers than reasons": (
        Tale().begin().lose().take(None, None).end(overflows=0, dropped=0),
        "count",
    ),
    "figures that are not what was consumed": (Tale().begin().send(0).take(0).end(delivered=2), "count"),
    "something that stayed in the queue": (Tale().begin().end(queue_depth=1), "count"),
    "dropped without an overflow marker's place": (Tale().begin().send(0).take(0).end(dropped=1), "count"),
    "connected twice": (Tale().begin().event("C").end(), "events"),
    "disconnected twice": (Tale().begin().event("D").event("D").end(), "events"),
    "reconnected before disconnected": (Tale().begin().event("R").take(None).end(), "events"),
    "something after the end": (Tale().begin().end()[:-1], "count"),
    "a failure while connected": (Tale().begin().event("F").end(), "events"),
    "the wrong error": (Tale([Called("CONNECTED", "ConnectionLost")]).end(), "events"),
    "a call that broke its promise": (Tale([Broken("ping hangs")]).begin().end(), "call"),
}


@pytest.mark.parametrize(("tale", "kind"), BAD.values(), ids=BAD.keys())
def test_a_history_that_breaks_a_promise_is_found_out(tale: Tale, kind: str) -> None:
    assert kind in kinds(tale)


@st.composite
def _tales(draw: st.DrawFn) -> Tale:
    """Draw a history that keeps the promises: some connections, each bringing all that is sent meanwhile."""
    tale = Tale().begin()
    number = 0
    for round_ in range(draw(st.integers(1, 4))):
        if round_:
            tale.event("D")
            number = _some(tale, number, draw(st.integers(0, 3)))
            tale.event("R").take(None)
        before, number = number, _some(tale, number, draw(st.integers(1, 5)))
        tale.take(*range(before, number))
    return tale.end()


def _some(tale: Tale, first: int, count: int) -> int:
    if count:
        tale.send(*range(first, first + count))
    return first + count


def _changed(tale: Tale) -> Iterator[tuple[int, Consumed]]:
    return ((place, record) for place, record in enumerate(tale) if isinstance(record, Consumed))


@given(_tales(), st.data())
def test_whatever_is_taken_out_repeated_or_exchanged_in_the_stream_is_noticed(
    tale: Tale, data: st.DataObject
) -> None:
    assert violations(tale) == []
    places = [place for place, _ in _changed(tale)]
    place = data.draw(st.sampled_from(places))
    assert violations([*tale[:place], *tale[place + 1 :]])
    assert violations([*tale[:place], tale[place], *tale[place:]])
    following = places[places.index(place) + 1 :]
    if following and tale[place] != tale[following[0]]:
        other = following[0]
        exchanged = list(tale)
        exchanged[place], exchanged[other] = tale[other], tale[place]
        assert violations(exchanged)


def test_what_is_missing_with_its_marker_is_counted() -> None:
    tale = Tale().begin().send(0, 1, 2).take(0).lose().take(None).send(3).take(3).end()
    assert violations(tale) == []
    assert count_covered(tale) == 2


def test_a_violation_leads_to_its_place_and_to_what_its_channel_went_through() -> None:
    history = History()
    history.note(*Tale().begin().open("d").send(0).send(1, channel="d").send(2).take(0, 2).end())
    [violation] = [each for each in violations(history.records) if each.kind == "lost"]
    assert "sender 1 on d" in violation.text
    assert history.records[violation.place] == Consumed(Notification(1, "c", "sender 2"), 0)
    assert any(line.startswith(">") for line in history.excerpt(violation.place).splitlines())
    assert violation.sent is not None
    assert "listen d acknowledged" in history.excerpt_of("d", violation.sent.began)


def test_a_seed_plans_the_same_faults_and_every_kind_comes_before_any_comes_again() -> None:
    planned = plan(7, "network", NETWORK, 60.0)
    assert planned == plan(7, "network", NETWORK, 60.0)
    assert planned != plan(8, "network", NETWORK, 60.0)
    assert {fault.kind for fault in planned[: len(NETWORK)]} == set(NETWORK)
    assert 60.0 <= sum(fault.hold + fault.rest for fault in planned) < 65.0
