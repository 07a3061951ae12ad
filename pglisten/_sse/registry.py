"""The event streams that are open in this process: what a worker has to end when it stops.

`pglisten.sse` enters what it makes, and `pglisten.gunicorn` ends it. References are weak: what is given up
needs no ending.
"""

from __future__ import annotations

import weakref
from typing import Protocol

from gevent.event import Event

__all__ = ["Stream", "StreamRegistry", "streams"]


class Stream(Protocol):
    """An event stream, as far as it has to be ended."""

    def end(self) -> None:
        """Let it end by itself, once what is queued is sent. Never waits."""

    def abort(self) -> None:
        """End the send of the greenlet that is at it, if one is. Never waits."""


class StreamRegistry:
    """The event streams that are open in this process, from their making until the server closes them."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether the process is to end: no new ones then."""
        self._open: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._all_closed = Event()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, stream: Stream) -> None:
        """Enter *stream*; it ends at once if the process is to end."""
        self._open.add(stream)
        self._all_closed.clear()
        if self.stopping:
            stream.end()

    def remove(self, stream: Stream) -> None:
        """Leave *stream* out: it is closed. Idempotent."""
        self._open.discard(stream)
        if self.stopping and not self._open:
            self._all_closed.set()

    def end(self) -> None:
        """Take no more, and let all end by themselves. Idempotent; never waits."""
        self.stopping = True
        for stream in list(self._open):
            stream.end()
        if not self._open:
            self._all_closed.set()

    def wait_closed(self, timeout: float) -> bool:
        """Wait *timeout* seconds at most until all are closed; return whether they are."""
        self._all_closed.wait(timeout)
        return not self._open

    def abort(self) -> None:
        """End the sends of those that are still there: their clients take nothing."""
        for stream in list(self._open):
            stream.abort()

    def reset(self) -> None:
        """Begin anew, in a forked child: its parent's streams are none of its own."""
        self.stopping = False
        self._open.clear()
        self._all_closed = Event()


streams = StreamRegistry()
