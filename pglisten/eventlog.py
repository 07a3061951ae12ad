"""A log of entries in the database, of which a follower misses none, not even while it does not listen.

A notification that is sent while no session listens is gone. An `EventLog` keeps entries in a table, and its
followers read them in the order of commits, with a notification as the bell. Each process has one reader for
all its followers, over the session of a `Broadcaster`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import TypeVar

import gevent

from ._completion import check_timeout
from ._consumers.consumer import Consumer, Work
from ._consumers.stream import Stream
from ._eventlog import admin
from ._eventlog.admin import ConsumerStatus, LogStatus
from ._eventlog.batches import Batches
from ._eventlog.consumer import Batch, Ended, check_consumer, check_named, check_size, consume, wait_for_news
from ._eventlog.cursors import runner
from ._eventlog.entry import Entry
from ._eventlog.follower import Follower, begin_to_follow, check_after
from ._eventlog.names import LogNames
from ._eventlog.reader import Reader
from ._eventlog.schema import create_sql
from ._eventlog.source import consumers_of, fetch
from ._eventlog.transactions import transactions
from ._eventlog.window import check_window
from ._eventlog.writing import append_sql, append_template, check_entry
from ._may_wait import calls_back, close_or_begin_to
from ._options import on_gap as check_on_gap
from ._options import queue_size as check_queue_size
from ._sql import check_channel
from .broadcast import Broadcaster
from .errors import ConfigurationError, ListenerClosed

__all__ = ["ConsumerStatus", "Entry", "EventLog", "Follower", "LogStatus"]


Function = TypeVar("Function", bound=Callable[..., object])


class EventLog:
    """Follow the log *name*, which ``pglisten log create`` makes, over the session of *broadcaster*.

    *schema* is where its tables are. *window* is the number of entries, the newest, that each process keeps
    in memory, up to 16 MiB of payloads: a follower inside the window asks the server nothing.

    An event log starts to read with the first call of ``follow()`` in each process. After a fork, the child
    reads for itself and has none of the parent's followers. Raises `ConfigurationError` for a wrong argument.
    """

    def __init__(
        self, name: str, broadcaster: Broadcaster, *, schema: str = "public", window: int = 10_000
    ) -> None:
        self._names = LogNames(name, schema)
        if not isinstance(broadcaster, Broadcaster):
            raise ConfigurationError(
                f"broadcaster is a Broadcaster, not {broadcaster!r}", option="broadcaster"
            )
        self._broadcaster = broadcaster
        self._window = check_window(window)
        self._reader = Reader(self._names, broadcaster, window)

    def follow(
        self,
        *channels: str,
        after: int | None = None,
        queue_size: int = 256,
        timeout: float | None = None,
    ) -> Follower:
        """Return a follower of *channels*, or of all channels if none is given.

        It begins after the position *after*; 0 means with the oldest entry that is kept. ``None`` means after
        the newest entry that this process has read. Then every entry comes that is committed after the call
        has returned. An entry that was committed before comes too if this process had not read it: it was
        committed a few milliseconds ago, or while the connection was down. Behind the window, the follower
        reads *queue_size* entries at a time.

        The first call in a process waits until the log was read, through reconnections, at most *timeout*
        seconds (``None``: forever). Raises `ConfigurationError` if *after* is no position or beyond the
        newest one, `InvalidChannelName`, `ServerError` if the server refuses to read the log,
        `OperationTimeout` or `ListenerClosed`.
        """
        timeout = check_timeout(timeout)
        wanted = frozenset(map(check_channel, channels))
        limit = check_queue_size(queue_size)
        check_after(after)
        reader = self._require_open()
        return begin_to_follow(reader, after, wanted, limit, timeout)

    @staticmethod
    def sql(name: str, *, schema: str = "public") -> str:
        """Return the statement that makes the log *name* in *schema*, for a migration.

        It changes nothing if the log is there, and upgrades one of an older release. It is atomic, and may be
        part of a transaction. Its user becomes the owner of the log. Raises `ConfigurationError`.
        """
        return create_sql(LogNames(name, schema))

    @calls_back
    def append(
        self, channel: str, payload: str, *, cursor: object = None, timeout: float | None = None
    ) -> None:
        """Add an entry. Readers get it when its transaction has committed.

        Without *cursor* it has a transaction of its own, over the broadcaster's session, and has committed
        when this returns. With *cursor* it is part of the transaction of *cursor*: a cursor of psycopg2,
        psycopg or pg8000, a connection of ``pg8000.native``, a connection or session of SQLAlchemy, or a
        cursor of Django. Then *timeout* has no effect, and the errors are those of the driver.

        Raises `InvalidChannelName`, and `PayloadTooLong` over 16 MiB, before anything is sent. Without
        *cursor*, raises `NotConnected`, `ServerError`, `OperationTimeout` after *timeout* seconds (``None``:
        never), or `ConnectionLost`: after the last two the entry may have been added.
        """
        check_entry(channel, payload)
        timeout = check_timeout(timeout)
        if cursor is not None:
            runner(cursor)(append_template(self._names), (channel, payload))
        else:
            self._fetch(append_sql(self._names, channel, payload), timeout)

    @calls_back
    def position(self, *, cursor: object = None, timeout: float | None = None) -> int:
        """Return the newest committed position; 0 if there has been no entry.

        What is read before this call, in a transaction that has ended or in that of *cursor*, may lack
        entries up to this position. So take the position first and read the state after it; then follow from
        the position. *cursor* and *timeout* are those of ``append``, and so are the errors.
        """
        timeout = check_timeout(timeout)
        if cursor is not None:
            return admin.position_over(runner(cursor), self._names)
        return admin.position(self._fetch, self._names, timeout)

    def consume(
        self, name: str, connection: object, *channels: str, size: int = 100
    ) -> Generator[list[Entry] | None, None, None]:
        """Yield the entries of *channels* (none: all channels) in batches, for the consumer called *name*.

        Each batch is a transaction of *connection*: a connection of psycopg2, psycopg or pg8000 without
        autocommit, a connection or session of SQLAlchemy, or Django's. The consumer's position moves in it,
        and it commits when the next batch is asked for. So what the loop's body changes over *connection*
        happens once, whatever fails. An exception in the body, ``break``, and closing the generator roll the
        batch back, and the consumer gets it again.

        Consumers of one name take turns: one has a batch, the others wait for its end. A new name begins with
        the oldest entry that is kept. Yields ``None``, a batch of its own, where ``trim`` has removed entries
        that this consumer had not read, and where its position is beyond the newest one, after a restore.
        While there is no entry, it waits without a transaction.

        A batch has up to *size* entries, and 16 MiB of payloads. The generator ends when the event log or its
        broadcaster is closed. It raises the driver's errors. Raises `ConfigurationError` for a wrong
        argument, and what ``follow`` raises.
        """
        return self._batches(name, connection, channels, size, lambda: False)

    def on(
        self,
        *channels: str,
        on_gap: Callable[..., object] | None = None,
        consume: str | None = None,
        connect: Callable[[], object] | None = None,
        size: int = 100,
    ) -> Callable[[Function], Function]:
        """Return a decorator for a function that gets the entries of *channels* (none: all channels).

        It only notes the function, as `Broadcaster.on` does, and the broadcaster's ``start()`` starts it.

        Without *consume* each process that has started it follows the log from now on, and calls the function
        with each `Entry`. *on_gap* is called without arguments at the start, where entries are missing, and
        after the function has raised: then the next entry comes. Without *on_gap* the same one comes again.

        With *consume*, the name of a consumer, the function gets a list of up to *size* entries, in one of
        all processes, and a connection that *connect* has returned. The consumer's position moves in its
        transaction, which commits after the function has returned; see ``consume``. If the function raises,
        the connection is closed, and the same entries come again over another one. *on_gap* is called with
        the connection where ``trim`` has removed entries that the consumer had not read.

        Raises `InvalidChannelName`, `ConfigurationError` for a wrong argument, and `ListenerClosed`.
        """
        wanted = tuple(map(check_channel, channels))
        check_on_gap(on_gap)
        check_named(consume, connect, size)

        def read(connection: object, ended: Ended) -> Generator[Batch, None, None]:
            return self._batches(str(consume), connection, wanted, size, ended)

        def begin(consumer: Consumer, function: Callable[..., object]) -> Work:
            if connect is not None:
                return Batches(consumer, connect, read, function, on_gap, lambda: self.closed)
            return Stream(consumer, lambda: self.follow(*wanted), function, on_gap, lambda: self.closed, True)

        return consumers_of(self._broadcaster).decorator(begin)

    def _batches(
        self, name: str, connection: object, channels: tuple[str, ...], size: int, ended: Ended
    ) -> Generator[Batch, None, None]:
        check_consumer(name)
        check_size(size)
        wanted = tuple(dict.fromkeys(map(check_channel, channels)))
        over = transactions(connection)

        wait = wait_for_news(lambda position: self.follow(*wanted, after=position), lambda: self.closed)
        return consume(over, self._names, name, wanted, size=size, wait=wait, ended=ended)

    def trim(
        self,
        *,
        older_than: timedelta | float | None = None,
        keep: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Remove old entries and return how many.

        Removes entries that are *older_than* (a timedelta, or seconds), except the *keep* newest. At least
        one of them is needed. Readers that have not read what is removed get a ``None`` in its place. It
        works in steps of a thousand entries, each a transaction of its own.

        Raises `ConfigurationError`, `NotConnected`, `ConnectionLost`, `ServerError`, or `OperationTimeout`
        after *timeout* seconds (``None``: never): then a part is removed.
        """
        seconds = admin.check_older_than(older_than)
        kept = admin.check_keep(keep, seconds)
        return admin.trim(self._fetch, self._names, seconds, kept, check_timeout(timeout))

    def status(self, *, timeout: float | None = None) -> LogStatus:
        """Return the log's figures. It counts all entries: about a second for some millions.

        Meanwhile the broadcaster's session receives no notifications. Raises `NotConnected`,
        `ConnectionLost`, `ServerError`, or `OperationTimeout` after *timeout* seconds (``None``: never).
        """
        return admin.status(self._fetch, self._names, check_timeout(timeout))

    def _fetch(self, sql: str, timeout: float | None) -> list[tuple[str | None, ...]]:
        self._require_open()
        return fetch(self._broadcaster, self._names, sql, admin.REPLY_LIMIT, timeout)

    @property
    def closed(self) -> bool:
        """Whether ``close()`` was called, or the broadcaster was closed."""
        return self._reader.end is not None or self._broadcaster.closed

    def close(self) -> None:
        """End all followers of this process, and stop to read. The broadcaster stays open. Idempotent."""
        reader = self._reader
        if reader.owner.forked:
            if reader.end is not None:
                return
            reader = self._reader = Reader(self._names, self._broadcaster, self._window)
        reader.owner.check_thread()
        close_or_begin_to(lambda _: reader.close(), None)

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<EventLog {self._names} {'closed' if self.closed else 'open'}>"

    def _require_open(self) -> Reader:
        """Return this process's reader. A forked child begins with a new one."""
        reader = self._reader
        if reader.owner.forked and reader.end is None:
            # After os.fork() in an unpatched process, the child still has the parent's event loop.
            gevent.reinit()
            reader = self._reader = Reader(self._names, self._broadcaster, self._window)
        if not reader.owner.forked:
            reader.owner.check_thread()
        if reader.end is not None:
            raise ListenerClosed("the event log was closed") from reader.end
        return reader


def broadcaster_of(log: EventLog) -> Broadcaster:
    """Return the broadcaster whose session *log* uses. For event streams."""
    return log._broadcaster  # pyright: ignore[reportPrivateUsage]


def append_all(log: EventLog, channel: str, payloads: Sequence[str], limit: float, lock_limit: int) -> None:
    """Add entries, which were checked, in this order, in one transaction. For `pglisten.socketio`.

    The connection is lost if there is no answer within *limit* seconds. Raises what ``append`` raises, and
    `ServerError` 55P03 after *lock_limit* seconds of waiting for a lock.
    """
    log._require_open()  # pyright: ignore[reportPrivateUsage]
    names = log._names  # pyright: ignore[reportPrivateUsage]
    sql = append_sql(names, channel, *payloads, lock_limit=lock_limit)
    fetch(broadcaster_of(log), names, sql, limit)
