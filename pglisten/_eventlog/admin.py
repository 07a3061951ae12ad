"""What a log contains, and the removal of old entries.

The statements of `trim` are short: they run over the connection that also receives notifications.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NoReturn

from .._sql import READ_COMMITTED, quote_literal
from ..errors import ConfigurationError, OperationTimeout
from .cursors import Run
from .entry import POSSIBLE, created_at
from .missing import no_state
from .names import LogNames

__all__ = [
    "ConsumerStatus", "Fetch", "LogStatus", "check_keep", "check_older_than", "lags", "position",
    "position_over", "status", "trim",
]  # fmt: skip

Fetch = Callable[[str, "float | None"], "list[tuple[str | None, ...]]"]
"""Runs a query, which has so many seconds, and returns its rows as text."""

TRIM_ROWS = 1000
"""Entries that one statement of `trim` removes: some 20 milliseconds."""

OLDEST = 2e11
"""Seconds, some 6,300 years: PostgreSQL has no moment so long ago that it could subtract more."""

MOST_KEPT = 2**63 - 1
"""The highest position."""

LAGS_LIMIT, LAGS_CONSUMERS = 2, 100
"""Seconds after which the server ends the statement of `lags`, and the most consumers that it returns."""

STATEMENT_LIMIT = 60
"""Seconds after which the server ends a statement. Those of `status` count all entries."""

LOCK_LIMIT = 2
"""Seconds that `trim` waits for a lock of another session: its own connection receives nothing meanwhile."""

REPLY_LIMIT = STATEMENT_LIMIT + 10.0
"""Seconds after which a statement that is not answered means that the connection is lost."""

_BEGIN = (
    f"{READ_COMMITTED}SET LOCAL search_path = pg_catalog, pg_temp;"
    f"SET LOCAL statement_timeout = '{STATEMENT_LIMIT}s';"
)

_LOCK_LIMIT = f"SET LOCAL lock_timeout = '{LOCK_LIMIT}s';"

_EPOCH = f"CAST(CAST(extract(epoch FROM {POSSIBLE}) * 1000000 AS bigint) AS text)"


@dataclass(frozen=True)
class ConsumerStatus:
    """How far a consumer is."""

    name: str
    position: int
    """It has consumed everything up to here."""
    behind: int
    """Positions that it has not consumed, of all channels. Entries may be fewer: positions have holes."""
    active: bool
    """Whether a session works on a batch at the moment."""
    updated: datetime
    """When its position last moved, by the server's clock, in UTC."""


@dataclass(frozen=True)
class LogStatus:
    """The figures of a log."""

    name: str
    """Schema and name, as in ``public.events``."""
    version: int
    """The version of its tables."""
    newest: int
    """The newest position; 0 if there has been no entry."""
    oldest: int | None
    """The oldest position that is kept; ``None`` if the log is empty."""
    trimmed: int
    """The highest position that ``trim`` has removed; 0 if it has removed none."""
    entries: int
    """Entries that are kept."""
    unnumbered: int
    """Rows without a position, which no reader gets: they were inserted while triggers were off."""
    bytes: int
    """What the entries and their indexes take on disk."""
    consumers: tuple[ConsumerStatus, ...]
    """By name."""


def position_over(run: Run, names: LogNames) -> int:
    """Return the newest position by a cursor of the caller's."""
    ((newest,),) = run(_newest(names).replace("%", "%%"), ()) or _lost(names)
    return int(newest)


def position(fetch: Fetch, names: LogNames, timeout: float | None) -> int:
    """Return the newest position."""
    ((newest,),) = fetch(_BEGIN + _newest(names), timeout) or _lost(names)
    return _number(newest)


def _newest(names: LogNames) -> str:
    return f"SELECT CAST({_newest_of(names)} AS pg_catalog.text) AS newest FROM {names.state}"


def _newest_of(names: LogNames) -> str:
    """Return the expression for the newest position, beside the row of the log's state."""
    return f"GREATEST(trimmed, (SELECT position FROM {names.view} ORDER BY position DESC LIMIT 1))"


def check_older_than(older_than: timedelta | float | None) -> float | None:
    """Return *older_than* in seconds; raise `ConfigurationError` if it is no duration."""
    if older_than is None:
        return None
    seconds, shown = math.nan, "an integer beyond all floats"
    # Python does not print integers of some thousands of digits.
    with contextlib.suppress(OverflowError):
        if isinstance(older_than, timedelta):
            seconds = older_than.total_seconds()
        elif isinstance(older_than, (int, float)) and not isinstance(older_than, bool):
            seconds = float(older_than)
        shown = repr(older_than)
    if not 0 <= seconds < math.inf:
        raise ConfigurationError(
            f"older_than is seconds from 0 up or a timedelta, not {shown}", option="older_than"
        )
    return min(seconds, OLDEST)


def check_keep(keep: int | None, older_than: float | None) -> int | None:
    """Return *keep*; raise `ConfigurationError` if it is no number of entries, or neither limit is given."""
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 0):
        raise ConfigurationError(f"keep is a number of entries from 0 up, not {keep!r}", option="keep")
    if keep is None and older_than is None:
        raise ConfigurationError("give older_than, keep or both: trim() needs a limit", option="older_than")
    return None if keep is None else min(keep, MOST_KEPT)


def trim(
    fetch: Fetch, names: LogNames, older_than: float | None, keep: int | None, timeout: float | None
) -> int:
    """Remove entries; see `EventLog.trim`."""
    ends = None if timeout is None else time.monotonic() + timeout
    removed = 0
    ((last,),) = fetch(_last_to_trim(names, keep or 0), timeout)
    while True:
        left = None if ends is None else ends - time.monotonic()
        if left is not None and left <= 0:
            raise OperationTimeout(f"trim: not done within {timeout:g} s; {removed} entries are removed")
        ((old, gone),) = fetch(_trim(names, _number(last), older_than), left) or _lost(names)
        removed += _number(gone)
        if _number(old) < TRIM_ROWS:
            return removed


def _last_to_trim(names: LogNames, keep: int) -> str:
    return (
        f"{_BEGIN}{_LOCK_LIMIT}SELECT CAST(COALESCE((SELECT position FROM {names.positions} "
        f"ORDER BY position DESC LIMIT 1 OFFSET {keep}), 0) AS text)"
    )


def _trim(names: LogNames, last: int, older_than: float | None) -> str:
    """Return the statement that removes the first entries up to *last* that are all old enough.

    Entries are not quite in the order of their times, and what is removed must be the beginning of the log:
    readers are told of it by one position. It looks only after what was trimmed before, because the index
    keeps the dead rows there until VACUUM. Arrays, because the planner would read whole tables for a join.
    """
    young = "false"
    if older_than is not None:
        young = f"created >= clock_timestamp() - make_interval(secs => {older_than!r})"
    return f"""{_BEGIN}{_LOCK_LIMIT}WITH first AS MATERIALIZED (
    SELECT p.position, p.id, e.created
    FROM {names.positions} AS p LEFT JOIN {names.entries} AS e ON e.id = p.id
    WHERE p.position > (SELECT trimmed FROM {names.state}) AND p.position <= {last}
    ORDER BY p.position LIMIT {TRIM_ROWS}
), old AS MATERIALIZED (
    SELECT position, id FROM first
    WHERE position < COALESCE((SELECT min(position) FROM first WHERE {young}), {last + 1})
), positions AS (
    DELETE FROM {names.positions} WHERE position = ANY (ARRAY(SELECT position FROM old))
), entries AS (
    DELETE FROM {names.entries} WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING id
), state AS (
    UPDATE {names.state} SET trimmed = GREATEST(trimmed, (SELECT max(position) FROM old))
    WHERE EXISTS (SELECT FROM old)
)
SELECT CAST((SELECT count(*) FROM old) AS text), CAST((SELECT count(*) FROM entries) AS text)
FROM {names.state}"""


def status(fetch: Fetch, names: LogNames, timeout: float | None) -> LogStatus:
    """Return the figures of this moment."""
    figures = fetch(_figures(names), timeout) or _lost(names)
    ((version, newest, oldest, trimmed, entries, unnumbered, size),) = figures
    head, start = _number(newest), _number(trimmed)
    rows = fetch(_consumers(names), timeout)
    consumers = tuple(
        ConsumerStatus(
            name or "", _number(at), max(0, head - max(start, _number(at))), active == "true",
            created_at(_number(updated)),
        )
        for name, at, active, updated in rows
    )  # fmt: skip
    return LogStatus(
        str(names), _number(version), head, None if oldest is None else int(oldest), start,
        _number(entries), _number(unnumbered), _number(size), consumers,
    )  # fmt: skip


def lags(fetch: Fetch, names: LogNames, timeout: float | None) -> tuple[int, dict[str, int]]:
    """Return the newest position, and for each consumer how many positions it is behind.

    It counts nothing: it reads the end of an index, and the consumers, which are few.
    """
    sql = (
        f"{_BEGIN}SET LOCAL statement_timeout = '{LAGS_LIMIT}s';"
        f"SELECT CAST({_newest_of(names)} AS text), CAST(GREATEST(s.trimmed, c.position) AS text), c.name "
        f"FROM {names.state} AS s LEFT JOIN {names.consumers} AS c ON true "
        f"ORDER BY c.name LIMIT {LAGS_CONSUMERS}"
    )
    rows = fetch(sql, timeout) or _lost(names)
    head = _number(rows[0][0])
    return head, {name: max(0, head - _number(at)) for _, at, name in rows if name is not None}


def _figures(names: LogNames) -> str:
    columns = (
        "version",
        f"GREATEST(trimmed, (SELECT max(position) FROM {names.positions}))",
        f"(SELECT min(position) FROM {names.positions} WHERE position > trimmed)",
        "trimmed",
        f"(SELECT count(*) FROM {names.view})",
        (
            f"(SELECT count(*) FROM {names.entries} AS e "
            f"WHERE NOT EXISTS (SELECT FROM {names.positions} AS p WHERE p.id = e.id))"
        ),
        " + ".join(
            f"pg_total_relation_size(CAST({quote_literal(table)} AS regclass))"
            for table in (names.entries, names.positions)
        ),
    )
    return f"{_BEGIN}SELECT {', '.join(f'CAST({each} AS text)' for each in columns)} FROM {names.state}"


def _consumers(names: LogNames) -> str:
    # A consumer locks its row while it works on a batch: then the row's xmax is its transaction, and each
    # running transaction has a lock on its own number. All this needs no right but SELECT.
    return f"""{_BEGIN}SELECT name, CAST(position AS text),
    CAST(EXISTS (
        SELECT FROM pg_catalog.pg_locks AS l
        WHERE l.locktype = 'transactionid' AND l.granted AND l.transactionid = c.xmax
    ) AS text),
    {_EPOCH.format("updated")}
FROM {names.consumers} AS c ORDER BY name"""


def _lost(names: LogNames) -> NoReturn:
    raise no_state(names)


def _number(text: str | None) -> int:
    return int(text or 0)
