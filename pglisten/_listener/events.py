"""The event callback's own greenlet: one call at a time, in order, and never in anybody's way."""

from __future__ import annotations

import enum
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import gevent

from .._greenlet import Greenlet, spawn
from .._ownership import Owner

logger = logging.getLogger("pglisten.events")

DEATH = 0.1
"""Seconds for a killed callback to unwind."""

BEGINNING = 0.01
"""Seconds that the last call gets at least: without any it would be killed before it has begun."""


class ListenerEvent(enum.Enum):
    """What happened to a listener's connection; ``event_callback(event, error)`` is told."""

    CONNECTED = "connected"
    """The first connection is there and all channels are listened to. The error is ``None``."""
    DISCONNECTED = "disconnected"
    """The connection was lost, or closed. The error is a `ConnectionLost`, or `ListenerClosed`."""
    RECONNECTED = "reconnected"
    """The connection is back and all channels are listened to. The error is ``None``; a gap marker follows
    in the stream once the callback has returned."""
    CONNECTION_ATTEMPT_FAILED = "connection attempt failed"
    """One attempt failed, and another will follow. The error is a `ConnectionFailed`."""


EventCallback = Callable[[ListenerEvent, "Exception | None"], object]


class _Post(NamedTuple):
    event: ListenerEvent
    error: Exception | None
    then: Callable[[], None] | None


class Dispatcher:
    """Calls *callback* for each event posted, in a greenlet that lives as long as there are any.

    Whoever kills that greenlet ends one call: the next post starts another.
    """

    def __init__(self, callback: EventCallback | None, name: str) -> None:
        self._callback = callback
        self._name = name
        self._posts: deque[_Post] = deque()
        self._stopped = False
        self._owner = Owner()
        self._greenlet: Greenlet | None = None

    def post(
        self, event: ListenerEvent, error: Exception | None, then: Callable[[], None] | None = None
    ) -> None:
        """Queue a call; *then* is called when it has returned. Never waits."""
        if self._callback is not None:
            self._posts.append(_Post(event, error, then))
            self._start()
        elif then is not None:
            then()

    @property
    def is_current(self) -> bool:
        """Whether the caller is the callback itself."""
        return self._greenlet is not None and gevent.getcurrent() is self._greenlet

    def finish(self, last: tuple[ListenerEvent, Exception] | None, grace_period: float | None) -> None:
        """Deliver what was posted and *last*, and wait until the greenlet is gone.

        A callback that still runs after *grace_period* seconds (``None``: no limit) is killed. Only *last* is
        delivered after it, with the same grace period again.
        """
        if last is not None:
            self.post(*last)
        timeout = grace_period
        for _ in range(2):  # Once for the call that runs, once for the last.
            self._wait_idle(timeout)
            if self._greenlet is None:
                return
            while len(self._posts) > (last is not None):
                self._posts.popleft()
            # Until it is gone, or the second round would find it again.
            greenlet = self._greenlet
            greenlet.kill(timeout=DEATH)
            if not greenlet.dead:
                break  # It swallows even that, and is left to itself.
            self._ended(greenlet)
            timeout = None if grace_period is None else max(grace_period, BEGINNING)
        self._stopped = True

    def stop(self) -> None:
        """Make no other call, and end the one that runs unless it is the caller."""
        self._stopped = True
        self._posts.clear()
        if self._greenlet is not None and not self.is_current:
            self._greenlet.kill(block=False)

    def _wait_idle(self, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while (greenlet := self._greenlet) is not None:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return
            greenlet.join(remaining)
            if greenlet.dead:
                # Its link is called a moment later, and to join it until then would not even let that happen.
                self._ended(greenlet)

    def _start(self) -> None:
        if self._greenlet is None and not self._stopped:
            self._greenlet = spawn(self._name, self._run)
            # Also if it is killed before it has begun.
            self._greenlet.rawlink(self._ended)

    def _run(self) -> None:
        while self._posts and not self._owner.forked:
            self._call(self._posts.popleft())

    def _ended(self, greenlet: object) -> None:
        if greenlet is self._greenlet:
            self._greenlet = None
            if self._posts and not self._owner.forked:
                self._start()

    def _call(self, post: _Post) -> None:
        assert self._callback is not None
        try:
            self._callback(post.event, post.error)
        except (Exception, gevent.Timeout):
            logger.exception("the event callback raised for %s", post.event.name)
        finally:
            # The stream goes on, whatever became of the call.
            if post.then is not None:
                post.then()
