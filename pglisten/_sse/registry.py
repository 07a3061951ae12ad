"""The event streams that are open in this process: a worker that stops has to end them.

`pglisten.sse` adds each stream that it makes, and `pglisten.gunicorn` ends the streams. The references are
weak, because a stream that the server has dropped needs no end.
"""

from __future__ import annotations

import weakref
from typing import Protocol

from gevent.event import Event

__all__ = ["Stream", "StreamRegistry", "streams"]


class Stream(Protocol):
    """The part of an event stream that ends it."""

    def end(self) -> None:
        """Let the stream end by itself once its queue is sent. Never waits."""

    def abort(self) -> None:
        """Interrupt the greenlet that is sending a chunk, if there is one. Never waits."""


class StreamRegistry:
    """The event streams of this process, from when they are made until the server closes them."""

    def __init__(self) -> None:
        self.stopping = False
        """Whether the worker stops: new streams end at once."""
        self.capacity: int | None = None
        """How many streams this process may have, so that its server still answers other requests.

        ``None``: not known. `pglisten.gunicorn` sets it.
        """
        self.opening = 0
        """Requests that wait until their stream can begin."""
        self._open: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._all_closed = Event()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, stream: Stream) -> None:
        """Add *stream*; end it at once if the worker stops."""
        self._open.add(stream)
        self._all_closed.clear()
        if self.stopping:
            stream.end()

    def remove(self, stream: Stream) -> None:
        """Remove *stream*, which is closed. Idempotent."""
        self._open.discard(stream)
        if self.stopping and not self._open:
            self._all_closed.set()

    def end(self) -> None:
        """Let all streams end by themselves, new ones too. Idempotent; never waits."""
        self.stopping = True
        for stream in list(self._open):
            stream.end()
        if not self._open:
            self._all_closed.set()

    def wait_closed(self, timeout: float) -> bool:
        """Wait up to *timeout* seconds until all streams are closed; return whether they are."""
        self._all_closed.wait(timeout)
        return not self._open

    def abort(self) -> None:
        """Interrupt the sends of the streams that are still open, because their clients take no data."""
        for stream in list(self._open):
            stream.abort()

    def reset(self) -> None:
        """Start without streams, in a forked child: the streams belong to its parent."""
        self.stopping, self.opening = False, 0
        self._open.clear()
        self._all_closed = Event()


streams = StreamRegistry()
"""One registry per process: gunicorn calls its hooks without the application whose streams have to end."""
