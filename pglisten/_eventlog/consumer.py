"""Batches of entries for a named consumer, whose position moves in the transaction of the work.

::

    lock the consumer's row      another consumer of this name waits here, and goes on when this one commits
    read the entries after it
    move the row's position
    the caller works             in the same transaction
    COMMIT                       the work and the position, or neither

The row's lock is all that a consumer holds. It ends with the transaction, however the consumer's process
ends, and it works through a connection pooler too. Between batches a consumer holds nothing.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Generator
from typing import NamedTuple, Protocol, TypeAlias

from ..errors import ConfigurationError, ListenerClosed
from .cursors import Row, sqlstate
from .entry import POSSIBLE, Entry, created_at
from .follower import Follower
from .missing import no_state
from .names import LogNames
from .transactions import Transactions, autocommits

__all__ = [
    "BATCH_BYTES",
    "Batch",
    "Ended",
    "Wait",
    "check_consumer",
    "check_named",
    "check_size",
    "consume",
    "wait_for_news",
]

logger = logging.getLogger("pglisten.eventlog")

BATCH_BYTES = 16 << 20
"""Most bytes of payloads of a batch; one longer entry is a batch of its own."""

MAX_CONSUMER = 200
"""Longest name of a consumer, in bytes of UTF-8. It is a key of an index, whose entries are short."""

RETRIED = frozenset({"40001", "40P01"})
"""Serialization failure, which a wait for the row's lock ends with above READ COMMITTED, and deadlock. The
caller has done nothing in that transaction, so it is begun again."""

# The caller's search_path may begin with a schema of others, who may have made operators there.
_EQUALS = "OPERATOR(pg_catalog.=)"

Batch: TypeAlias = "list[Entry] | None"
"""The next entries, or ``None`` where the consumer may have missed some."""


Ended: TypeAlias = Callable[[], bool]
"""Returns whether to end, instead of going on with the next batch."""


class Wait(Protocol):
    """Waits for entries after a position; returns whether there may be some, or false for the end."""

    def __call__(self, position: int) -> bool: ...


def check_consumer(name: str) -> None:
    """Raise `ConfigurationError` if *name* is no name of a consumer."""
    wanted = f"name is text of 1 to {MAX_CONSUMER} bytes of UTF-8 without NUL"
    try:
        good = isinstance(name, str) and "\0" not in name and 1 <= len(name.encode()) <= MAX_CONSUMER
    except UnicodeEncodeError:
        good = False
    if not good:
        raise ConfigurationError(f"{wanted}, not {name!r}", option="name")


def check_size(size: int) -> None:
    """Raise `ConfigurationError` if *size* is no number of entries."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigurationError(f"size is a number of entries from 1 up, not {size!r}", option="size")


def check_named(name: str | None, connect: object, size: int) -> None:
    """Raise `ConfigurationError` if these are not the arguments of a named consumer, or of none."""
    if (name is None) != (connect is None):
        raise ConfigurationError(
            "a named consumer needs both: consume, its name, and connect, which returns a connection",
            option="connect" if connect is None else "consume",
        )
    if connect is not None and not callable(connect):
        raise ConfigurationError(
            f"connect is a function that returns a connection, not {type(connect).__name__}", option="connect"
        )
    if name is not None:
        check_consumer(name)
        check_size(size)


def wait_for_news(follow: Callable[[int], Follower], closed: Callable[[], bool]) -> Wait:
    """Return a function that waits for an entry, with a follower after a position that *follow* returns."""

    def wait(position: int) -> bool:
        try:
            with follow(position) as follower:
                follower.get()
        except ListenerClosed:
            if not closed():
                raise  # Thrown in from outside.
            return False
        except ConfigurationError as error:
            if error.option != "after":
                raise
            # Positions have just gone back. The next batch says so.
        return True

    return wait


class _Page(NamedTuple):
    entries: list[Entry]
    trimmed: int
    newest: int
    through: int
    """The consumer has all entries of its channels up to here when it has *entries*."""
    in_transaction: bool


def consume(
    of: Transactions,
    names: LogNames,
    name: str,
    channels: Collection[str],
    *,
    size: int,
    wait: Wait,
    ended: Ended,
) -> Generator[Batch, None, None]:
    """Yield batches; commit each one when the next is asked for. See `EventLog.consume`.

    *ended* is called after the commit of each batch; if it returns true, there is no other.
    """
    query = _Query(names, tuple(channels), size)
    _check_clean(of)
    while True:
        batch, through = _begun(of, query, name)
        if batch == []:
            if not wait(through):
                return
            continue
        try:
            yield batch
            of.commit()
        except BaseException:  # Also a generator that is closed, and a greenlet that is killed.
            _give_up(of)
            raise
        if ended():
            return


def _check_clean(of: Transactions) -> None:
    """Raise if the connection has changes that the consumer would commit."""
    ((clean,),) = of.run("SELECT pg_catalog.pg_current_xact_id_if_assigned() IS NULL AS clean")
    if not clean:
        raise ConfigurationError(
            "connection has changes that are not committed: end their transaction first", option="connection"
        )
    of.rollback()


def _begun(of: Transactions, query: _Query, name: str) -> tuple[Batch, int]:
    """Begin a transaction in which the position has moved; return its batch and the position.

    If the batch is empty, the transaction has been committed.
    """
    while True:
        try:
            rows = of.run(query.lock, name)
            if rows:
                moved = _moved(of, query, name, int(rows[0][0]))
                if moved[0] == []:
                    of.commit()  # Here, because above READ COMMITTED it may have to be tried again.
                return moved
            if not of.run(query.state):
                raise no_state(query.names)
            of.run(query.register, name)
            # Another session may have made it at the same time: then this one has added nothing.
            of.commit()
        except BaseException as error:
            # A kill or a timeout has ended the wait for a reply: no driver raises these.
            _give_up(of, interrupted=not isinstance(error, Exception))
            if sqlstate(error) not in RETRIED:
                raise


def _moved(of: Transactions, query: _Query, name: str, position: int) -> tuple[Batch, int]:
    page = query.page(of, position)
    if not page.in_transaction:
        raise autocommits()
    batch, through = (None, page.trimmed) if page.trimmed > position else (page.entries, page.through)
    if page.newest < position:
        # A restore without the newest entries, or another log. As for followers, what it has now is covered
        # by the None: it may be what this consumer had before.
        logger.warning(
            "consumer %r of the event log %s was at position %d, and the newest is %d: it goes on from there",
            name, query.names, position, page.newest,
        )  # fmt: skip
        batch, through = None, page.newest
    # If no entry is of its channels it moves on, or trim would seem to remove some of them.
    if through != position:
        of.run(query.move, through, name)
    return batch, through


def _give_up(of: Transactions, *, interrupted: bool = False) -> None:
    """Roll back. If that fails, or a query was *interrupted*, close the connection. The first error counts.

    A connection in the middle of a query cannot roll back. If it stayed open, the server would grant it the
    row's lock later, and all consumers of this name would wait for it.
    """
    with contextlib.suppress(Exception):
        if not interrupted:
            with contextlib.suppress(Exception):
                of.rollback()
                return
        of.close()


class _Query:
    """The statements of a consumer. `cursors` says how they are written."""

    def __init__(self, names: LogNames, channels: tuple[str, ...], size: int) -> None:
        consumers, state, view = (
            each.replace("%", "%%") for each in (names.consumers, names.state, names.view)
        )
        self.names = names
        self._channels = channels
        self._size = size
        self.lock = f"SELECT position FROM {consumers} WHERE name {_EQUALS} %s FOR UPDATE"
        self.state = f"SELECT trimmed FROM {state}"
        self.register = (
            f"INSERT INTO {consumers} (name, position) SELECT CAST(%s AS pg_catalog.text), trimmed "
            f"FROM {state} ON CONFLICT DO NOTHING"
        )
        self.move = (
            f"UPDATE {consumers} SET position = %s, updated = pg_catalog.clock_timestamp() "
            f"WHERE name {_EQUALS} %s"
        )
        # Equality lets the server read the index in order.
        chosen = {0: "", 1: f"AND channel {_EQUALS} %s"}.get(len(channels), f"AND channel {_EQUALS} ANY (%s)")
        self._page = f"""\
SELECT trimmed, newest, pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL AS in_transaction, found,
    position, channel, payload, created
FROM (
    SELECT trimmed,
        GREATEST(trimmed, (SELECT position FROM {view} ORDER BY position DESC LIMIT 1)) AS newest
    FROM {state}
) AS state LEFT JOIN (
    SELECT position, channel, payload, pg_catalog.count(*) OVER () AS found,
        CAST(
            extract(epoch FROM {POSSIBLE.format("created")}) OPERATOR(pg_catalog.*) 1000000 AS bigint
        ) AS created,
        pg_catalog.sum(pg_catalog.octet_length(payload)) OVER (ORDER BY position)
            OPERATOR(pg_catalog.-) pg_catalog.octet_length(payload) AS before
    FROM (
        SELECT position, channel, payload, created FROM {view}
        WHERE position OPERATOR(pg_catalog.>) %s {chosen}
        ORDER BY position LIMIT %s
    ) AS page
) AS entries ON before OPERATOR(pg_catalog.<) {BATCH_BYTES}
ORDER BY position"""

    def page(self, of: Transactions, position: int) -> _Page:
        """Return the entries after *position*."""
        channels: list[object] = []
        if self._channels:
            channels = [self._channels[0] if len(self._channels) == 1 else list(self._channels)]
        rows = of.run(self._page, position, *channels, self._size)
        if not rows:
            raise no_state(self.names)
        trimmed, newest, in_transaction, found, *_ = rows[0]
        entries = [_entry(row) for row in rows if row[4] is not None]
        complete = len(entries) == (found or 0) < self._size
        return _Page(entries, trimmed, newest, newest if complete else entries[-1].position, in_transaction)


def _entry(row: Row) -> Entry:
    *_, position, channel, payload, created = row
    return Entry(position, channel, payload, created_at(created))
