"""The queries that read a log, a page at a time, and what they return. Pure.

Each is a prepared statement: to plan it takes the server longer than to find a new entry. It returns one
text, because a driver takes longer for the values of a row than Python does to read them from JSON. A line of
it is for the state, one for the fields of the entries, and the rest is a payload too long for JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

from .._sql import READ_COMMITTED, quote_literal
from .entry import POSSIBLE, Entry, make_entries
from .names import LogNames

__all__ = [
    "PAGE_BYTES",
    "PAGE_ROWS",
    "REPLY_LIMIT",
    "Page",
    "Query",
    "has_state",
    "newest_page",
    "page_after",
]

PAGE_ROWS = 500
"""Most entries of a page: about a millisecond of parsing."""

PAGE_BYTES = 256 << 10
"""Most bytes of payloads of a page, in the database's encoding. One longer entry is a page of its own."""

FEW_CHANNELS = 8
"""Channels up to which each channel is searched in the index."""

SEARCHED = 2000
"""With more channels, a query looks at so many entries of all channels: some milliseconds of the server."""

STATEMENT_LIMIT = 20
"""Seconds after which the server ends a query, for instance while another session locks a table."""

REPLY_LIMIT = 30.0
"""Seconds after which a query that is not answered means that the connection is lost."""

_BEGIN = (
    f"{READ_COMMITTED}SET LOCAL search_path = pg_catalog, pg_temp;"
    f"SET LOCAL statement_timeout = '{STATEMENT_LIMIT}s';SET LOCAL timezone = 'UTC';"
    # Without fresh statistics, the planner may read far more rows than a page has.
    "SET LOCAL enable_hashjoin = off;SET LOCAL enable_mergejoin = off;SET LOCAL enable_bitmapscan = off;"
)

# For a position near the end, the planner expects so little that it would plan again each time. But for some
# channels, the best plan depends on how many entries they have.
_PLAN_ONCE = "SET LOCAL plan_cache_mode = force_generic_plan;"
_PLAN_EACH = "SET LOCAL plan_cache_mode = force_custom_plan;"

_MOMENT = POSSIBLE.format("created")
# The epoch is a double, which is exact for whole seconds only: a wrong microsecond would look as if positions
# had gone back.
_MICROSECONDS = (
    f"(date_part('epoch', date_trunc('second', {_MOMENT}))::int8 * 1000000"
    f" + date_part('microseconds', {_MOMENT})::int8 % 1000000)::text"
)


class Page(NamedTuple):
    """Entries in order, and the state of the log in the same snapshot."""

    entries: list[Entry]
    reached: int | None
    """The position up to which the page has all entries of its channels; ``None``: there are no more."""
    newest: int
    """The newest position of the log, as far as this page shows; 0 if it has never had an entry."""
    trimmed: int
    """The highest position that trim has removed; 0 if it has removed none."""
    known: int | None
    """When the entry at the known position was created, in microseconds since 1970; ``None``: it is gone."""

    @property
    def through(self) -> int:
        """The position up to which this page has all entries of its channels."""
        return self.newest if self.reached is None else self.reached


class Query(NamedTuple):
    """A query, and how to read its result."""

    name: str
    """The prepared statement that it executes: the same for the same statement."""
    prepare: str
    """The query that prepares the statement, once in a session."""
    sql: str
    limit: int
    head: int = 0
    """A position up to which all entries were committed before the query is sent."""
    newest_first: bool = False

    def read(self, rows: Sequence[Sequence[str | None]]) -> Page:
        """Return the page in *rows*."""
        state, fields, last = (rows[0][0] or "").split("\n", 2)
        # An empty text is NULL.
        trimmed, found, known, searched = (int(number) if number else None for number in state.split(" "))
        positions, channels, payloads, created = json.loads(fields)
        if last:
            payloads.append(last)
        entries = make_entries(positions, channels, payloads, created)
        if self.newest_first:
            entries.reverse()
        end = entries[-1].position if entries else 0
        cut = (found or 0) > len(entries) or len(entries) >= self.limit
        return Page(
            entries,
            reached=end if cut else searched,
            newest=max(self.head, trimmed or 0, end),
            trimmed=trimmed or 0,
            known=known,
        )


def has_state(rows: Sequence[Sequence[str | None]]) -> bool:
    """Return whether the log's state, the first field of the result, is there."""
    return not (rows[0][0] or "").startswith(" ")  # NULL is an empty text.


def page_after(
    names: LogNames,
    position: int,
    *,
    channels: Collection[str] = (),
    head: int = 0,
    known: int = 0,
    limit: int = PAGE_ROWS,
) -> Query:
    """Return the query for the entries after *position*, of all *channels* if there are none.

    All entries up to *head* have been committed. *known* is the position whose `Page.known` is wanted.
    """
    limit = min(limit, PAGE_ROWS)
    name, prepare = _after(names, min(len(channels), FEW_CHANNELS + 1))
    array = f"ARRAY[{', '.join(map(quote_literal, sorted(channels)))}]" if channels else "NULL"
    plan = _PLAN_EACH if channels else _PLAN_ONCE
    sql = f'{_BEGIN}{plan}EXECUTE "{name}"({position:d}, {known:d}, {limit:d}, {array})'
    return Query(name, prepare, sql, limit, head)


@lru_cache(maxsize=64)
def newest_page(names: LogNames) -> Query:
    """Return the query for the newest entries."""
    found = f"SELECT * FROM {names.view} ORDER BY position DESC LIMIT {PAGE_ROWS}"
    name, prepare = _statement(names, found, order="DESC")
    sql = f'{_BEGIN}EXECUTE "{name}"(0, 0, {PAGE_ROWS}, NULL)'
    return Query(name, prepare, sql, PAGE_ROWS, newest_first=True)


@lru_cache(maxsize=64)
def _after(names: LogNames, channels: int) -> tuple[str, str]:
    """Return the statement for the entries after $1 of so many *channels*; see `_statement`."""
    after = f"SELECT * FROM {names.view} WHERE position > $1"
    first = f"ORDER BY position LIMIT {PAGE_ROWS}"
    if channels <= 1:
        condition = " AND channel = ($4)[1]" if channels else ""
        return _statement(names, f"{after}{condition} {first}")
    if channels <= FEW_CHANNELS:
        # The index has the entries of one channel in order: this reads the first ones of each.
        of_each = (f"({after} AND channel = ($4)[{number}] {first})" for number in range(1, channels + 1))
        return _statement(names, f"SELECT * FROM ({' UNION ALL '.join(of_each)}) AS each {first}")
    searched = f"{after} ORDER BY position LIMIT {SEARCHED}"
    return _statement(names, f"SELECT * FROM searched WHERE channel = ANY ($4) {first}", searched=searched)


def _statement(names: LogNames, found: str, *, order: str = "ASC", searched: str = "") -> tuple[str, str]:
    """Return the statement for the entries of *found*, as many as fit, and for the state: name, and PREPARE.

    Its parameters are a position, the known position, the most entries, and the channels. *found* selects
    from ``searched``, if that is not empty. Then the result has the position up to which ``searched`` goes,
    if it stopped at its limit.
    """
    search = f"WITH searched AS MATERIALIZED ({searched}) " if searched else ""
    end = f"(SELECT max(position) FROM searched HAVING count(*) = {SEARCHED})" if searched else "NULL"
    fits = f"FILTER (WHERE bytes <= {PAGE_BYTES} OR bytes = octet_length(payload))"
    short = f"FILTER (WHERE bytes <= {PAGE_BYTES})"
    # As JSON, a text of 16 MiB may be six times longer. Only the last one of a page can be that long.
    long = f"FILTER (WHERE bytes > {PAGE_BYTES} AND bytes = octet_length(payload))"
    select = f"""{search}SELECT concat(
    (SELECT max(trimmed) FROM {names.state}), ' ', count(*), ' ',
    (SELECT {_MICROSECONDS} FROM {names.view} WHERE position = $2), ' ', {end}, chr(10),
    '[', coalesce(json_agg(position) {fits}, '[]'), ',', coalesce(json_agg(channel) {fits}, '[]'), ',',
    coalesce(json_agg(payload) {short}, '[]'), ',', coalesce(json_agg({_MOMENT}) {fits}, '[]'), ']', chr(10),
    max(payload) {long}
)
FROM (
    SELECT *, sum(octet_length(payload)) OVER (ORDER BY position {order} ROWS UNBOUNDED PRECEDING) AS bytes
    -- The planner would take a parameter for a limit of a tenth of the log.
    FROM (SELECT * FROM ({found}) AS found LIMIT $3) AS limited
) AS page"""
    name = "pglisten " + hashlib.md5(select.encode(), usedforsecurity=False).hexdigest()
    return name, f'{_BEGIN}PREPARE "{name}" (int8, int8, int8, text[]) AS {select}'
