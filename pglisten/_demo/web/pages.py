"""One open page: what it hears, what it reads in the log, and how the connection stands, in one event stream.

If a page needs only notifications, `pglisten.sse.stream` returns the body of the response, and
`pglisten.sse.app` the whole application. This page has two ledgers, and hears of the connection even while it
is lost. So greenlets (ended by `Page.close`) queue the events of each, and this iterator sends them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from gevent.queue import Empty, Full, Queue

from ..._greenlet import Greenlet, spawn
from ..._sse.registry import streams
from ..._sse.sender import Sender
from ...broadcast import Broadcaster
from ...errors import Error
from ...eventlog import Entry, EventLog
from ..behind import follow, hear
from .cast import Cast
from .state import State, StatePublisher

__all__ = ["Page"]

QUEUE_SIZE = 64
"""Events that may wait for a browser. While a browser takes nothing, the subscription drops the oldest
notifications, and the follower falls behind. When the browser reconnects, it gets the newest state."""

SEND_TIMEOUT = 60.0
"""Seconds that a browser has for a chunk."""

HEARTBEAT = 15.0
"""Seconds of silence after which a comment is sent, so that the server notices if the browser is gone."""


class Page:
    """The body of the response, an iterator over chunks, and the `Book` of the window."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        log: EventLog | None,
        channel: str,
        publisher: StatePublisher,
        cast: Cast,
        *,
        window: str,
        hello: Mapping[str, object],
        after: int | None,
    ) -> None:
        """Send *hello* first, then events forever.

        *after* is the last position that the window has read; ``None`` if its ledgers begin now. Otherwise
        the left ledger begins with a gap.
        """
        self._broadcaster, self._log, self._channel = broadcaster, log, channel
        self._publisher, self._cast = publisher, cast
        self._window = window
        self._after = after
        self._queue: Queue[bytes | None] = Queue(QUEUE_SIZE)
        self._queue.put_nowait(_event("hello", hello))
        self._listening = False
        self._told = ""
        self._sender = Sender(SEND_TIMEOUT)
        publisher.callbacks.add(self._state)
        cast.callbacks.add(self._players)
        if publisher.state.name in ("connecting", "lost"):
            self._state(publisher.state)
        self._greenlets: list[Greenlet] = [spawn("demo-page", self._hear)]
        cast.enter(window)
        self._players()
        streams.add(self)

    def __iter__(self) -> Page:
        return self

    def __next__(self) -> bytes:
        self._sender.attach()
        try:
            chunk = self._queue.get(timeout=HEARTBEAT)
        except Empty:
            chunk = b":\n\n"
        if chunk is None:
            self.close()
            raise StopIteration
        self._sender.start_timer()
        return chunk

    def close(self) -> None:
        """End the greenlets, and leave the publisher, the cast and the registry. Idempotent."""
        self._sender.detach()
        self._publisher.callbacks.discard(self._state)
        self._cast.callbacks.discard(self._players)
        for greenlet in self._greenlets:
            greenlet.kill(block=False)
        self._cast.leave(self._window)
        streams.remove(self)

    def end(self) -> None:
        """End the page after what is queued. Never waits."""
        for greenlet in self._greenlets:
            greenlet.kill(block=False)
        # A greenlet that is killed before its start does not finish by itself.
        self._finish()

    def abort(self) -> None:
        """End a send that is under way. Never waits."""
        self._sender.abort()

    # The book: see `pglisten._demo.behind`.

    def listening(self) -> None:
        """Begin the left ledger, and follow the log for the right one."""
        if self._after is not None:
            self.gap()
        if self._log is None:
            self._begin()
        else:
            self._greenlets.append(spawn("demo-page-log", self._follow, self._log))

    def gap(self) -> None:
        """Send the gap marker."""
        self._queue.put(_event("gap", {}))

    def heard(self, payload: str) -> None:
        """Send a notification."""
        self._queue.put(_event("heard", {"payload": payload}))

    def following(self, position: int) -> None:
        """Send the position from which the right ledger begins."""
        self._queue.put(_event("following", {"position": position}))
        self._begin()

    def read(self, entry: Entry | None) -> None:
        """Send an entry."""
        if entry is not None:  # The demo never trims its log.
            self._queue.put(_event("read", {"position": entry.position, "payload": entry.payload}))

    def _hear(self) -> None:
        # Without a timeout: the page shows the state while the database is away.
        self._until_closed(lambda: hear(self._broadcaster, self._channel, self))

    def _follow(self, log: EventLog) -> None:
        self._until_closed(lambda: follow(log, self._channel, self._after, self))

    def _until_closed(self, fill: Callable[[], None]) -> None:
        # The worker ends, or the server refuses: the page tries again.
        with contextlib.suppress(Error):
            fill()
        self._finish()

    def _begin(self) -> None:
        self._listening = True
        state = self._publisher.state
        # Otherwise the event is still to come.
        if state.name in ("connected", "back") and self._told in ("", "connecting"):
            # A new page has not seen a loss: it is connected, not back.
            self._state(replace(state, name="connected"))

    def _finish(self) -> None:
        """End the response after the queued chunks, or instead of the oldest if the queue is full."""
        while True:
            try:
                return self._queue.put_nowait(None)
            except Full:
                self._queue.get_nowait()

    def _state(self, state: State) -> None:
        if state.name == "connected" and not self._listening:
            return  # sent when the channel is acknowledged and the log followed
        self._told = state.name
        self._put("state", state.fields())

    def _players(self) -> None:
        self._put("cast", self._cast.fields())

    def _put(self, name: str, data: Mapping[str, object]) -> None:
        """Queue an event without waiting."""
        try:
            self._queue.put_nowait(_event(name, data))
        except Full:
            # The browser takes nothing: if it reconnects, it gets the newest.
            self.end()


def _event(name: str, data: Mapping[str, object]) -> bytes:
    # json.dumps() returns ASCII without line breaks.
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
