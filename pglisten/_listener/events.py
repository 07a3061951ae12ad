"""Calls the event callback in a greenlet of its own: one call at a time, in order."""

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
"""Seconds in which a killed callback must unwind."""

BEGINNING = 0.01
"""The least seconds for the last call: with 0 it would be killed before it begins."""


class ListenerEvent(enum.Enum):
    """What happened to a listener's connection: the first argument of ``event_callback(event, error)``."""

    CONNECTED = "connected"
    """The first connection is made and all channels are listened to. The error is ``None``."""
    DISCONNECTED = "disconnected"
    """The connection was lost, or closed. The error is a `ConnectionLost`, or `ListenerClosed`."""
    RECONNECTED = "reconnected"
    """Another connection is made and all channels are listened to. The error is ``None``. After the callback
    has returned, a gap marker follows in the stream."""
    CONNECTION_ATTEMPT_FAILED = "connection attempt failed"
    """An attempt to connect failed, and another will follow. The error is a `ConnectionFailed`."""


EventCallback = Callable[[ListenerEvent, "Exception | None"], object]


class _Post(NamedTuple):
    event: ListenerEvent
    error: Exception | None
    then: Callable[[], None] | None


class Dispatcher:
    """Call *callback* for each posted event, in a greenlet that ends when no event is left.

    If the application kills that greenlet, one call ends. The next event starts another greenlet.
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
        """Queue a call of the callback; *then* is called after the callback has returned. Never waits."""
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
        """Call the callback for all posted events and for *last*, and wait until the greenlet has ended.

        A callback that still runs after *grace_period* seconds (``None``: no limit) is killed. Only *last* is
        delivered after it, with the same grace period again.
        """
        if last is not None:
            self.post(*last)
        timeout = grace_period
        for _ in range(2):  # Once for the call that runs, once for the last one.
            self._wait_idle(timeout)
            if self._greenlet is None:
                return
            while len(self._posts) > (last is not None):
                self._posts.popleft()
            # Wait for its end: else the second round would find it again.
            greenlet = self._greenlet
            greenlet.kill(timeout=DEATH)
            if not greenlet.dead:
                break  # It ignores GreenletExit, and is left running.
            self._ended(greenlet)
            timeout = None if grace_period is None else max(grace_period, BEGINNING)
        self._stopped = True

    def stop(self) -> None:
        """Make no further call, and kill the one that runs unless it is the caller."""
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
                # Its link has not run yet, and joining a dead greenlet in a loop would keep it from running.
                self._ended(greenlet)

    def _start(self) -> None:
        if self._greenlet is None and not self._stopped:
            self._greenlet = spawn(self._name, self._run)
            # A link runs even if the greenlet is killed before it begins.
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
            # The stream continues, however the call ended.
            if post.then is not None:
                post.then()
