"""Check what the work of a named consumer has left in its table, against the log's table. Pure.

The table is in the database of the log, so both always belong together, also after a failover that lost
entries. To the kinds of `support.chaos.log_checker` it adds:

* ``undone``: an attempt that was rolled back has left results;
* ``turns``: results of another attempt stand between those of one attempt, so two had a batch at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from pglisten import Entry
from support.chaos.log_checker import Stream, Violation, stream_violations
from support.chaos.log_table import Table


class Result(NamedTuple):
    """One row that the work has inserted."""

    attempt: str
    """Which work on a batch inserted it."""
    when: float
    """The time of day."""
    entry: Entry | None
    """``None`` marks a gap."""


def result_violations(
    name: str,
    channels: Iterable[str],
    results: Sequence[Result],
    undone: Collection[str],
    table: Table,
    *,
    complete: bool,
) -> Iterator[Violation]:
    """Return what is wrong with *results*, which are in the order of their insertion.

    *undone* are the attempts that were rolled back. *complete*: the last entry must be there.
    """
    stream = Stream(f"results of {name}", frozenset(channels), 0, complete=complete)
    stream.items = [(result.when, result.entry) for result in results]
    yield from stream_violations(stream, [table])
    seen: set[str] = set()
    for attempt, group in groupby(results, key=lambda result: result.attempt):
        first = next(group).entry
        if attempt in undone:
            yield Violation("undone", f"{name}: {attempt} was rolled back, and left {first!r:.200}")
        if attempt in seen:
            yield Violation("turns", f"{name}: {attempt} goes on after another attempt, with {first!r:.200}")
        seen.add(attempt)


def handovers(results: Sequence[Result]) -> int:
    """Return how often another process has taken over."""
    processes = [process for process, _ in groupby(result.attempt.partition("/")[0] for result in results)]
    return max(0, len(processes) - 1)
