"""The event callback's own greenlet: one call at a time, in order, and never in anybody's way."""

from __future__ import annotations

import enum
import logging
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import gevent
from gevent.event import Event

from ._greenlet import Greenlet, spawn
from ._process import Home

logger = logging.getLogger("pglisten.events")


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
    """Calls *callback* for each event posted. Without a callback there is no greenlet either."""

    def __init__(self, callback: EventCallback | None, name: str) -> None:
        self._callback = callback
        self._posts: deque[_Post] = deque()
        self._wake = Event()
        self._finishing = False
        self._home = Home()
        self._greenlet: Greenlet | None = None
        if callback is not None:
            self._greenlet = spawn(name, self._run, callback)

    def post(
        self, event: ListenerEvent, error: Exception | None, then: Callable[[], None] | None = None
    ) -> None:
        """Queue a call; *then* is called when it has returned. Never waits."""
        if self._callback is not None:
            self._posts.append(_Post(event, error, then))
            self._wake.set()
        elif then is not None:
            then()

    @property
    def is_current(self) -> bool:
        """Whether the caller is the callback itself."""
        return self._greenlet is not None and gevent.getcurrent() is self._greenlet

    def finish(self, last: tuple[ListenerEvent, Exception] | None, grace: float | None) -> None:
        """Deliver what was posted and *last*, and end. Waits until the greenlet is gone.

        A callback that is still running after *grace* seconds (``None``: wait for it) is killed, and only
        *last* is delivered after it, with as much grace again.
        """
        self._finishing = True
        greenlet = self._greenlet
        if greenlet is None:
            return
        if last is not None:
            self._posts.append(_Post(*last, None))
        self._wake.set()
        for _ in range(2):  # Once for the call that runs, once for the last.
            greenlet.join(grace)
            if greenlet.dead:
                return
            while len(self._posts) > (last is not None):
                self._posts.popleft()
            greenlet.kill(block=False)
        greenlet.join(grace)

    def stop(self) -> None:
        """End it at once, without another call."""
        self._finishing = True
        self._posts.clear()
        if self._greenlet is not None:
            self._greenlet.kill(block=False)

    def _run(self, callback: EventCallback) -> None:
        while True:
            while self._posts:
                self._call(callback, self._posts.popleft())
            if self._finishing:
                return
            self._wake.clear()
            self._wake.wait()
            if self._home.forked:
                return

    def _call(self, callback: EventCallback, post: _Post) -> None:
        try:
            callback(post.event, post.error)
        except Exception:
            logger.exception("the event callback raised for %s", post.event.name)
        except gevent.GreenletExit:
            # Killed by finish(), or by user code that must not end the events of a living listener.
            logger.warning("the event callback was killed while it handled %s", post.event.name)
        if post.then is not None:
            post.then()
