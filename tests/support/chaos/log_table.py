"""The truth about a log: all entries that its table has or had, and when trim removed them."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate

from pglisten import Entry
from pglisten.eventlog import EventLog
from support.servers.server import Server

GONE = "gone"
"""Suffix of the tables in which triggers keep what trim removes."""


class Table:
    """Entries in order of positions. *removed*: the time of day at which trim removed some of them."""

    def __init__(self, entries: Sequence[Entry], removed: Mapping[int, float] | None = None) -> None:
        self.entries = list(entries)
        self._positions = [entry.position for entry in entries]
        removed = removed or {}
        self.gone = {position: removed.get(position, math.inf) for position in self._positions}
        """When each was removed; infinite if it is there."""
        self._channels: dict[frozenset[str], list[int]] = {}
        self._first_trim = list(accumulate((self.gone[each] for each in reversed(self._positions)), min))[
            ::-1
        ]
        self._common: dict[int, float] = {}

    @cached_property
    def by_position(self) -> dict[int, Entry]:
        return {entry.position: entry for entry in self.entries}

    @cached_property
    def by_payload(self) -> dict[str, int]:
        return {entry.payload: entry.position for entry in self.entries}

    def get(self, position: int) -> Entry | None:
        return self.by_position.get(position)

    def between(self, after: float, before: float, channels: frozenset[str]) -> list[int]:
        """Return the positions of *channels* (all if there are none) between two others."""
        if channels not in self._channels:
            self._channels[channels] = [
                entry.position for entry in self.entries if not channels or entry.channel in channels
            ]
        positions = self._channels[channels]
        first = bisect_right(positions, after)
        # Mostly there is none.
        last = first
        while last < len(positions) and positions[last] < before:
            last += 1
        return positions[first:last]

    def trimmed_after(self, position: int) -> float:
        """Return when trim first removed an entry beyond *position*."""
        index = bisect_right(self._positions, position)
        return self._first_trim[index] if index < len(self._first_trim) else math.inf

    def common(self, other: Table) -> float:
        """Return up to where both have the same entries; infinite if *other* has all of these."""
        if other is self:
            return math.inf
        if id(other) not in self._common:
            self._common[id(other)] = self._compare(other)
        return self._common[id(other)]

    def _compare(self, other: Table) -> float:
        last = 0
        for index, ours in enumerate(self.entries):
            if index >= len(other.entries) or other.entries[index] != ours:
                return last
            last = ours.position
        return math.inf


def watch(server: Server, log: str) -> None:
    """Make *log*, and triggers that keep what trim removes."""
    server.query(EventLog.sql(log))
    server.query(
        f"""
        CREATE TABLE {log}_position_{GONE} (position bigint, id bigint, at timestamptz);
        CREATE TABLE {log}_{GONE} (id bigint, channel text, payload text, created timestamptz);
        CREATE FUNCTION {log}_keep_position() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            INSERT INTO public.{log}_position_{GONE} SELECT position, id, clock_timestamp() FROM old_rows;
            RETURN NULL;
        END $$;
        CREATE FUNCTION {log}_keep_entry() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
            INSERT INTO public.{log}_{GONE} SELECT id, channel, payload, created FROM old_rows;
            RETURN NULL;
        END $$;
        CREATE TRIGGER keep AFTER DELETE ON {log}_position REFERENCING OLD TABLE AS old_rows
            FOR EACH STATEMENT EXECUTE FUNCTION {log}_keep_position();
        CREATE TRIGGER keep AFTER DELETE ON {log} REFERENCING OLD TABLE AS old_rows
            FOR EACH STATEMENT EXECUTE FUNCTION {log}_keep_entry();
        """
    )


def read(server: Server, log: str) -> Table:
    """Return all that *log* has and had."""
    rows = server.query(
        f"SELECT position, channel, payload, created, NULL FROM {log}_log "
        f"UNION ALL SELECT p.position, e.channel, e.payload, e.created, extract(epoch FROM p.at)::float8 "
        f"FROM {log}_position_{GONE} AS p JOIN {log}_{GONE} AS e ON e.id = p.id ORDER BY 1"
    )
    return Table(
        [Entry(*row[:4]) for row in rows],
        {row[0]: row[4] for row in rows if row[4] is not None},
    )
