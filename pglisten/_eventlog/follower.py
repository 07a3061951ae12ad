"""What `EventLog.follow` returns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType

from gevent import get_hub
from greenlet import getcurrent

from .._completion import check_timeout
from .._may_wait import cannot_wait, check_may_wait, interrupts
from .._ownership import thread_ident
from ..errors import ConfigurationError, Error, ListenerClosed, OperationTimeout, copy_for_raise
from .bookmark import Bookmark, Nothing
from .entry import Entry
from .pace import FOLLOW
from .pauses import Pause
from .reader import Reader

__all__ = [
    "Follower", "begin_to_follow", "check_after", "miss_what_was_trimmed", "skip_to_newest", "take_now",
]  # fmt: skip


class Follower:
    """Receive all entries of some channels of a log, in the order of commits.

    `EventLog.follow` makes one. Iterate it, or call `get`: it returns `Entry` tuples. A lost connection and a
    slow consumer leave no gap: the entries are read later. ``None`` says that entries are missing, because
    trim has removed them before they were read, or because positions went back: a standby that lacked the
    newest entries has become the primary. A follower ends with `close` or with its ``with`` block. It belongs
    to its process: after a fork, the child's copy is closed.
    """

    __slots__ = ("__weakref__", "_bookmark", "_end", "_limit", "_pause", "_reader")

    def __init__(self, reader: Reader, bookmark: Bookmark, limit: int) -> None:
        self._reader = reader
        self._bookmark = bookmark
        self._limit = limit
        self._end: Error | None = None
        self._pause: Pause | None = None

    def get(self, timeout: float | None = None) -> Entry | None:
        """Return the next entry, or ``None`` where entries are missing.

        Raises `OperationTimeout` after *timeout* seconds (``None``: never; 0: after one turn of the event
        loop), `ListenerClosed` after the follower, the log or the broadcaster was closed, and `ServerError`
        if the server refuses to read the log. The next call then asks the server again.
        """
        if timeout is not None:
            timeout = check_timeout(timeout)
        ends_at = None
        reader, bookmark = self._reader, self._bookmark
        pace = reader.pace
        # A follower that catches up does this for each entry, so it makes few calls.
        while True:
            # Before the pace: from another thread, it would switch to greenlets of this one.
            if reader.owner.thread != thread_ident() or self._end is not None or reader.end is not None:
                self._check_open()
            if pace.left <= 0:
                pace.wait()
                self._check_open()
            if self._pause is not None:
                self._note_what_was_told()
            item = bookmark.take(reader.window)
            if not isinstance(item, Nothing):
                pace.left -= 1
                if bookmark.ahead and bookmark.left <= self._limit:
                    self._read_ahead()
                return item
            if ends_at is None and timeout is not None:
                ends_at = time.monotonic() + timeout
            self._wait(item is Nothing.BEHIND, timeout, ends_at)

    def _take_now(self) -> Entry | Nothing | None:
        reader, bookmark = self._reader, self._bookmark
        if reader.pace.left <= 0 or self.closed:
            return Nothing.NEW
        if self._pause is not None:
            self._note_what_was_told()
        item = bookmark.take(reader.window)
        if not isinstance(item, Nothing):
            reader.pace.left -= 1
            if bookmark.ahead and bookmark.left <= self._limit:
                self._read_ahead()
        return item

    def __iter__(self) -> Iterator[Entry | None]:
        """Iterate over what ``get()`` returns, until the follower is closed."""
        while True:
            try:
                item = self.get()
            except ListenerClosed:
                if not self.closed:
                    raise  # Thrown in from outside.
                return
            yield item

    @property
    def position(self) -> int:
        """The position up to which all entries were returned: ``follow(after=…)`` with it misses none."""
        self._note_what_was_told()
        return self._bookmark.position

    @property
    def channels(self) -> frozenset[str]:
        """The channels of this follower; empty if it follows all."""
        return self._bookmark.channels

    @property
    def closed(self) -> bool:
        """Whether the follower has ended, for any reason."""
        return self._end is not None or self._reader.end is not None or self._reader.owner.forked

    def close(self) -> None:
        """End the follower: calls of ``get()`` that wait raise `ListenerClosed`. Idempotent; never waits.

        In a signal handler that has interrupted pglisten, it ends a moment later, in the event loop.
        """
        if self._reader.owner.forked:
            return
        self._reader.owner.check_thread()
        if interrupts():
            get_hub().loop.run_callback(self.close)
        elif self._end is None:
            self._end = ListenerClosed("the follower was closed")
            if self._pause is not None:
                self._reader.pauses.end(self._pause)

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Follower {state} position={self.position} channels={len(self.channels) or 'all'}>"

    def _wait(self, behind: bool, timeout: float | None, ends_at: float | None) -> None:
        """Wait for something to take; raise `OperationTimeout` if *ends_at* (monotonic) comes first."""
        if getcurrent() is get_hub() and timeout != 0:
            raise cannot_wait()
        pause = self._pause
        if pause is None or pause not in self._reader.pauses:
            pause = self._pause = Pause(self._bookmark, self._limit, behind=behind)
        left = None if ends_at is None else max(0.0, ends_at - time.monotonic())
        ended = getcurrent() is not get_hub() and self._reader.pause(pause, left)
        if ended and pause.error is not None:
            raise copy_for_raise(pause.error)
        if not ended:
            self._check_open()
            raise OperationTimeout(f"no entry within {timeout:g} s")

    def _note_what_was_told(self) -> None:
        """Move on if a greenlet waits for a new entry: it would have been woken for one."""
        pause = self._pause
        if pause is not None and pause.waits_for_news:
            self._bookmark.caught_up(self._reader.pauses.covered)
        elif pause is not None and pause.event.is_set():
            self._pause = None

    def _read_ahead(self) -> None:
        """Have the next page read while the consumer is busy with this one."""
        self._bookmark.ahead = False
        if self._bookmark.wants(self._reader.window) is None:
            return
        if self._pause is None or self._pause not in self._reader.pauses:
            self._pause = Pause(self._bookmark, self._limit, behind=True)
            self._reader.read_ahead(self._pause)
            self._reader.pace.left = 0  # The reader has to run, in order to ask.

    def _check_open(self) -> None:
        owner = self._reader.owner
        if owner.thread != thread_ident():
            if owner.forked:
                raise ListenerClosed("the follower belongs to the parent process: follow in this one")
            owner.check_thread()
        end = self._end or self._reader.end
        if end is not None:
            raise copy_for_raise(end)


def check_after(after: int | None) -> None:
    """Raise `ConfigurationError` if *after* is neither a position nor None."""
    if after is not None and (isinstance(after, bool) or not isinstance(after, int) or after < 0):
        raise ConfigurationError(f"after is a position from 0 up, or None, not {after!r}", option="after")


def begin_to_follow(
    reader: Reader, after: int | None, channels: frozenset[str], limit: int, timeout: float | None
) -> Follower:
    """Return a follower, once the log has been read. See `EventLog.follow`."""
    began, window = time.monotonic(), reader.window
    reader.start()
    check_may_wait()
    if reader.pace.left <= 0:
        reader.pace.wait()
    reader.pace.left -= FOLLOW
    reader.look_once(timeout, "follow()")
    if after is not None and after > window.head:
        # The reader may not have heard of it yet.
        reader.look(None if timeout is None else max(0.0, began + timeout - time.monotonic()), "follow()")
        if after > window.head:
            raise ConfigurationError(
                f"after={after} is beyond the newest position of the log, {window.head}: "
                "it is another log's, or the server has lost its newest entries",
                option="after",
            )
    position = window.head if after is None else after
    return Follower(reader, Bookmark(window, position, channels, from_oldest=after == 0), limit)


def take_now(follower: Follower) -> Entry | Nothing | None:
    """Return the next item if it can be had without waiting, and otherwise `Nothing`. For event streams."""
    return follower._take_now()  # pyright: ignore[reportPrivateUsage]


def skip_to_newest(follower: Follower) -> None:
    """Have the follower continue after the newest entry that this process has read. For event streams."""
    follower._bookmark.to_newest(follower._reader.window)  # pyright: ignore[reportPrivateUsage]


def miss_what_was_trimmed(follower: Follower) -> None:
    """Have a follower that begins after position 0 return ``None`` for what was trimmed. For event streams.

    Its consumer had everything up to 0. For ``follow(after=0)``, that is not what 0 says.
    """
    follower._bookmark.from_oldest = False  # pyright: ignore[reportPrivateUsage]
