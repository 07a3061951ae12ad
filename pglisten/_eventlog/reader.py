"""Reads a log for all followers of a process.

One greenlet asks the database, over the broadcaster's session. It waits for the log's bell, which only says
that there may be something new, or for a follower that is behind the window. New entries come first: between
two pages of followers that are behind, it looks for a bell.
"""

from __future__ import annotations

import logging
import random

import gevent

from .._broadcast.subscription import put_into, queued
from .._completion import Completion
from .._greenlet import Greenlet, let_others_run, spawn
from .._listener.backoff import Backoff
from .._ownership import Owner
from ..backend import Notification
from ..broadcast import Broadcaster, Subscription, outage_of
from ..errors import ConnectionLost, Error, ListenerClosed, NotConnected, ServerError, told, without_frames
from .names import LogNames
from .pace import Pace
from .pauses import Pause, Pauses
from .source import Source
from .statements import Page, Query, newest_page, page_after
from .window import Window

__all__ = ["Reader"]

logger = logging.getLogger("pglisten.eventlog")

PORTION = 100
"""Followers that are woken before other greenlets run: about a millisecond, with what they do then."""

BELLS = 1024
"""Room for bells. The reader takes all at once, so there are more only while it waits for the server."""

RETRY, LONGEST_RETRY = 0.1, 5.0
"""Seconds before a query that failed for a passing reason is run again: the first time, and at most."""

PASSING = ("40", "53", "55", "57", "58")
"""Classes of SQLSTATE that pass: rollback, resources, locks, an operator's intervention, the system."""

_LOOK = Notification(0, "", "")
"""Put into the queue of bells, it says that a follower wants something."""


class Reader:
    """Keep the window of one log in one process, and the greenlet that fills it."""

    def __init__(self, names: LogNames, broadcaster: Broadcaster, window: int) -> None:
        self.owner = Owner()
        self.window = Window(window)
        self.end: Error | None = None
        """Why no more entries come; ``None`` while they do."""
        self._names = names
        self._broadcaster = broadcaster
        self._source = Source(broadcaster, names)
        self.pace = Pace()
        self.pauses = Pauses()
        """The followers that wait."""
        self._failed: str | None = None
        """Why the last query was refused, if the reason is none that passes."""
        self._due = True
        """Whether there may be new entries."""
        self._look: Completion | None = None
        """For the next read that begins; ``None`` while no call waits for it."""
        self._looks: list[Completion] = []
        """Resolved when the read that has begun, or its repetition, has reached the end of the log."""
        self._bells: Subscription | None = None
        self._idle = False
        """Whether the greenlet waits for a bell, so that a wish must wake it."""
        self._backoff = Backoff(RETRY, LONGEST_RETRY, 0.1, random.random)
        self._greenlet: Greenlet | None = None

    def start(self) -> None:
        """Start to read, unless that has started. Never waits."""
        if self._greenlet is None and self.end is None:
            self._greenlet = spawn("pglisten-log", self._run)
            # If it is killed from outside (gevent.killall): no caller may wait forever.
            self._greenlet.rawlink(lambda _: self.finish(ListenerClosed("the log's greenlet was killed")))

    def close(self) -> None:
        """End all followers and the greenlet, and wait for its end."""
        self.finish(ListenerClosed("the event log was closed"))
        if self._greenlet is not None:
            self._greenlet.kill()

    def finish(self, error: Error) -> None:
        """Hand out no more entries: all followers raise *error*. The first error counts."""
        if self.owner.forked or self.end is not None:
            return
        self.end = error
        self._resolve(error)
        for pause in self.pauses.everyone():
            self.pauses.end(pause)

    # What followers ask for. They wait for the greenlet, and it never waits for them.

    def look(self, timeout: float | None, what: str) -> None:
        """Return when a read that begins now or later has ended.

        Waits through reconnections. Raises the server's refusal, `ListenerClosed`, or `OperationTimeout` with
        *what* after *timeout* seconds.
        """
        if self._look is None:
            self._look = Completion()
        look = self._look
        self._due = True
        self._wake()
        look.wait(timeout, what, outage=lambda: outage_of(self._broadcaster))

    def look_once(self, timeout: float | None, what: str) -> None:
        """`look`, unless the log has been read."""
        if not self.window.filled or self._failed is not None:
            self.look(timeout, what)

    def pause(self, pause: Pause, timeout: float | None) -> bool:
        """Wait until *pause* ends; return False after *timeout* seconds (``None``: never)."""
        if pause not in self.pauses:
            self.pauses.add(pause)
            if pause.behind or self._failed is not None:
                self._due = self._due or not pause.behind
                self._wake()
        pause.greenlets += 1
        try:
            # It may end in the same turn of the event loop in which the time runs out.
            return pause.event.wait(timeout) or pause.event.is_set()
        finally:
            pause.greenlets -= 1
            if not pause.greenlets:
                self.pauses.remove(pause)

    def read_ahead(self, pause: Pause) -> None:
        """Read the next page for *pause*, in which no greenlet waits yet."""
        self.pauses.add(pause)
        self._wake()

    def _wake(self) -> None:
        if self._idle and self._bells is not None:
            self._idle = False
            put_into(self._bells, _LOOK)

    # The greenlet

    def _run(self) -> None:
        try:
            while True:
                self._listen()
                self._sleep()
        except ListenerClosed:
            self._check_process()
            self.finish(ListenerClosed("the broadcaster was closed"))
        except Exception as error:  # noqa: BLE001 - the end of the greenlet, and callers are told
            self._check_process()
            logger.error("reading the event log %s ended by a bug\n%s", self._names, told(error))
            self.finish(Error(f"reading the event log {self._names} ended by a bug: {error!r}"))

    def _listen(self) -> None:
        """Subscribe to the bell and read. Returns if the server refuses the bell."""
        try:
            with self._broadcaster.subscribe(self._names.bell, queue_size=BELLS) as self._bells:
                self._check_process()
                self._due = True
                while True:
                    answered = self._work()
                    self._hear(self._bells, wait=not (answered and (self._due or self.pauses.behind)))
        except ListenerClosed:
            raise
        except Error as error:
            self._check_process()
            self._fail(error)
        finally:
            self._bells = None

    def _hear(self, bells: Subscription, *, wait: bool) -> None:
        """Take all bells; *wait* for one, or for a follower that wants something."""
        self._idle = wait
        while wait or queued(bells):
            if bells.get() is not _LOOK:
                self._due = True
            self._check_process()
            self._idle = wait = False

    def _work(self) -> bool:
        """Read what is new, or a page for a follower. Return False to wait for a new connection."""
        try:
            if self._due:
                self._read_news()
            elif (pause := self.pauses.behind) is not None:
                self._read_for(pause)
            return True
        except (NotConnected, ConnectionLost):
            # The bell's queue gets a None after the reconnection.
            self._due = True
            return False
        except ServerError as error:
            if error.sqlstate[:2] in PASSING:
                logger.warning("reading the event log %s failed, trying again: %s", self._names, error)
                self._due = True
                self._sleep()
            else:
                self._fail(error)
            return True

    def _read_news(self) -> None:
        window = self.window
        self._begin_looks()
        self._due, began = False, window.filled
        after = page_after(self._names, window.head, head=window.head, known=window.last)
        page = self._fetch(after if began else newest_page(self._names))
        if began and window.contradicts(page):
            logger.warning("positions of the event log %s went back", self._names)
            began = False
            page = self._fetch(newest_page(self._names))
        if began:
            everyone = window.add(page)
            self._due = self._due or page.reached is not None
        else:
            everyone = window.filled
            window.begin(page)
        self._tell(page, everyone=everyone)
        # Not only when nothing more is due: calls that come all the time would keep the first one waiting.
        if not began or page.reached is None:
            self._resolve(None)

    def _tell(self, page: Page, *, everyone: bool) -> None:
        """Wake the followers of the entries of *page*."""
        pauses = self.pauses
        due = pauses.everyone() if everyone else pauses.concerned({entry.channel for entry in page.entries})
        for number, pause in enumerate(due, 1):
            pauses.end(pause)
            if not number % PORTION:
                let_others_run()
                self._check_process()
        pauses.covered = self.window.head

    def _read_for(self, pause: Pause) -> None:
        """Read a page for a follower that is behind the window."""
        window, bookmark = self.window, pause.bookmark
        position, channels = bookmark.wants(window), bookmark.channels
        if position is not None:
            head, known, limit = window.head, window.last, pause.limit
            query = page_after(self._names, position, channels=channels, head=head, known=known, limit=limit)
            self.pauses.postpone(pause)  # If this fails, the others get their turn.
            try:
                page = self._fetch(query)
            except ServerError as error:
                if error.sqlstate[:2] in PASSING:
                    raise
                self.pauses.end(pause, without_frames(error))
                return
            if window.contradicts(page):
                self._due = True
                return
            window.note_trimmed(page.trimmed)
            bookmark.accept(page, position, window)
        self.pauses.end(pause)

    def _fetch(self, query: Query) -> Page:
        try:
            page = self._source.read(query)
        finally:
            self._check_process()
        self._failed = None
        self._backoff.connected(0)
        return page

    def _fail(self, error: Error) -> None:
        """Have the calls that wait raise *error*. The next bell, or the next call, asks again."""
        if self._failed != str(error):
            logger.error("reading the event log %s failed: %s", self._names, error)
        self._failed, error = str(error), without_frames(error)
        self._resolve(error)
        for pause in self.pauses.everyone():
            self.pauses.end(pause, error)

    def _begin_looks(self) -> None:
        if self._look is not None:
            self._looks.append(self._look)
            self._look = None

    def _resolve(self, error: Error | None) -> None:
        if error is not None:
            self._begin_looks()
        looks, self._looks = self._looks, []
        for look in looks:
            look.resolve(error)

    def _sleep(self) -> None:
        gevent.sleep(self._backoff.after_failure())
        self._check_process()

    def _check_process(self) -> None:
        """End this greenlet in a forked child. To be called after every wait."""
        if self.owner.forked:
            raise gevent.GreenletExit
