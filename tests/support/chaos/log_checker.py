"""Check what followers got, and the order of positions, against the log's table. Pure.

The checker knows the table, and what writers said of their transactions. The kinds of violation:

* ``lost`` ``twice`` ``unknown``: what a follower got is not the next entry of its channels in the table;
* ``gap``: a ``None`` came although trim had removed nothing, and positions had not gone back;
* ``order``: a transaction whose commit was acknowledged before another one began to commit has a higher
  position;
* ``table``: a transaction is in the table in part or twice, an acknowledged one is missing, or one that was
  rolled back is there;
* ``start``: a follower began after an entry that was committed later;
* ``call``: what the run has noted itself.
"""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from pglisten import Entry
from support.chaos.log_table import Table
from support.chaos.log_writers import Transaction


class Violation(NamedTuple):
    """A broken promise."""

    kind: str
    text: str


@dataclass
class Stream:
    """What one consumer got, also through several followers. Each began where the one before ended."""

    name: str
    channels: frozenset[str]
    start: int
    """The position after which it began."""
    began: float = math.inf
    """When it began with entries that come later, by the monotonic clock; infinite if it began at 0."""
    items: list[tuple[float, Entry | None]] = field(default_factory=list)
    """With the time of day at which each came."""
    complete: bool = False
    """Whether it must have got the last entry of its channels."""


class _Place(NamedTuple):
    """Where a stream may be."""

    generation: int
    """Which of the tables it follows."""
    position: int
    gap: float
    """Entries that trim had removed by this time of day may be missing before the next one."""


_NO_GAP = -math.inf
_ANY_GAP = math.inf


def stream_violations(stream: Stream, tables: Sequence[Table]) -> Iterator[Violation]:
    """Return what is wrong with *stream*. *tables* are those before each loss of entries, and the last one.

    All places in which the stream may be are kept: a table that only lost entries which the stream has not
    seen looks like the one before.
    """
    first = stream.items[0][0] if stream.items else 0.0
    gap = first if not stream.start else _NO_GAP
    places = {_Place(generation, stream.start, gap) for generation in range(len(tables))}
    for when, item in stream.items:
        steps = _after_gap if item is None else _after_entry
        reached = {step for place in places for step in steps(place, when, item, stream.channels, tables)}
        if not reached:
            kind, text = _what_is_wrong(places, item, stream.channels, tables)
            yield Violation(kind, f"{stream.name}: {text}")
            reached = _resume(places, item, tables)
        places = reached
    if stream.complete and not any(_is_at_end(place, stream.channels, tables) for place in places):
        yield Violation("lost", f"{stream.name} has not got the last entries: it is at {sorted(places)}")


def _after_gap(
    place: _Place, when: float, item: Entry | None, channels: frozenset[str], tables: Sequence[Table]
) -> Iterator[_Place]:
    generation, position, _ = place
    for later in range(generation + 1, len(tables)):
        common = tables[generation].common(tables[later])
        yield _Place(later, int(min(position, common)), _ANY_GAP)
    for same in _same_so_far(place, tables):
        if tables[same].trimmed_after(position) <= when:
            yield _Place(same, position, max(when, place.gap))


def _after_entry(
    place: _Place, when: float, item: Entry | None, channels: frozenset[str], tables: Sequence[Table]
) -> Iterator[_Place]:
    assert item is not None
    for generation in _same_so_far(place, tables):
        table = tables[generation]
        if table.get(item.position) != item or (channels and item.channel not in channels):
            continue
        missed = table.between(place.position, item.position, channels)
        if item.position > place.position and all(table.gone[each] <= place.gap for each in missed):
            yield _Place(generation, item.position, _NO_GAP)


def _same_so_far(place: _Place, tables: Sequence[Table]) -> Iterator[int]:
    """Return the generations that have the same entries up to the place."""
    for generation in range(place.generation, len(tables)):
        if place.position <= tables[place.generation].common(tables[generation]):
            yield generation


def _is_at_end(place: _Place, channels: frozenset[str], tables: Sequence[Table]) -> bool:
    left = tables[-1].between(place.position, math.inf, channels)
    return not left and len(tables) - 1 in _same_so_far(place, tables)


def _what_is_wrong(
    places: Iterable[_Place], item: Entry | None, channels: frozenset[str], tables: Sequence[Table]
) -> tuple[str, str]:
    where = max(places)
    if item is None:
        return "gap", f"a None after {where.position} has no reason"
    if not any(table.get(item.position) == item for table in tables):
        return "unknown", f"{item!r:.200} is not in the table"
    if item.position <= where.position:
        return "twice", f"{item!r:.200} came after {where.position}"
    if channels and item.channel not in channels:
        return "unknown", f"{item!r:.200} is of another channel"
    missed = tables[where.generation].between(where.position, item.position, channels)
    return "lost", f"{len(missed)} entries between {where.position} and {item!r:.200}: {missed[:5]}"


def _resume(places: set[_Place], item: Entry | None, tables: Sequence[Table]) -> set[_Place]:
    """Return where to go on after a violation, so that each is reported once."""
    if item is None:
        return places
    at = {
        _Place(generation, item.position, _NO_GAP)
        for generation, table in enumerate(tables)
        if table.get(item.position) == item
    }
    return at or places


def table_violations(
    generations: Sequence[Sequence[Table]], written: Sequence[Transaction]
) -> Iterator[Violation]:
    """Return what is wrong with the tables themselves.

    *generations* has the tables of all logs, before each loss of entries, and at the end. *written* are all
    transactions that began to commit.
    """
    known = {payload for each in written for payload in each.payloads}
    found = [ChainMap(*(table.by_payload for table in tables)) for tables in generations]
    for tables, positions in zip(generations, found, strict=True):
        if (twice := sum(len(table.entries) for table in tables) - len(positions)) > 0:
            yield Violation("table", f"{twice} entries are there twice")
        for payload in positions.keys() - known:
            yield Violation("table", f"{payload!r} was rolled back, and is at {positions[payload]}")
        for each in written:
            there = sum(payload in positions for payload in each.payloads)
            if there not in (0, len(each.payloads)):
                yield Violation("table", f"{there} of {len(each.payloads)} entries of {each.payloads[:3]}")
    for each in written:
        acknowledged = each.committed is not None and each.payloads
        if acknowledged and not any(each.payloads[0] in positions for positions in found):
            yield Violation("table", f"acknowledged, and not there: {each.payloads[:3]}")


def order_violations(table: Table, written: Sequence[Transaction]) -> Iterator[Violation]:
    """Compare positions with the order in which the server acknowledged commits."""
    there = [
        (each, [table.by_payload[payload] for payload in each.payloads if payload in table.by_payload])
        for each in written
    ]
    present = [(each, positions) for each, positions in there if positions]
    began = [(each.began, 1, min(positions)) for each, positions in present]
    acknowledged = [
        (each.committed, 0, max(positions)) for each, positions in present if each.committed is not None
    ]
    highest = 0
    for when, is_beginning, position in sorted(chain(began, acknowledged)):
        if not is_beginning:
            highest = max(highest, position)
        elif position < highest:
            yield Violation(
                "order", f"{position} began to commit at {when:.6f}, when {highest} was acknowledged"
            )


def start_violations(
    streams: Iterable[Stream], table: Table, written: Iterable[Transaction]
) -> Iterator[Violation]:
    """Look for entries that began to be committed after a follower had begun, and are before its start."""
    began = [
        (each.began, table.by_payload[payload])
        for each in written
        for payload in each.payloads[:1]
        if payload in table.by_payload
    ]
    for stream in streams:
        for when, position in began:
            if when > stream.began and position <= stream.start:
                yield Violation(
                    "start", f"{stream.name} began after {stream.start}, and {position} came later"
                )
                break
