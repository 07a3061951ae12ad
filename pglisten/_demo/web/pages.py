"""One open page: notifications and states of the connection, in one event stream.

`pglisten.sse.stream` makes the events of notifications. If a page needs only notifications, its iterator is
the body of the response, and `pglisten.sse.app` the whole application. This page also has events of another
kind, even while the database is away. So a greenlet (ended by `Page.close`) queues the stream's chunks, and
the state's events go into the same queue.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gevent.queue import Full, Queue

from ..._greenlet import spawn
from ..._sse.registry import streams
from ..._sse.sender import Sender
from ...backend import Notification
from ...broadcast import Broadcaster
from ...errors import ListenerClosed
from ...sse import EventStream, stream
from .state import State, StatePublisher

__all__ = ["Page"]

QUEUE_SIZE = 16
"""Chunks that may wait for a browser. While a browser takes nothing, the stream drops the oldest
notifications. When the browser reconnects, it gets the newest state."""

SEND_TIMEOUT = 60.0
"""Seconds that a browser has for a chunk."""

RETRY = 1.0
"""Seconds until a browser reconnects: short, because a user watches."""


class Page:
    """The body of the response; an iterator over chunks, which the WSGI server closes."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        publisher: StatePublisher,
        channels: Iterable[str],
        *,
        worker: Mapping[str, object],
        hello: Mapping[str, object],
        last_event_id: str | None,
    ) -> None:
        """Send *hello* first, then events forever; each notification has the fields of *worker*."""
        self._broadcaster = broadcaster
        self._publisher = publisher
        self._channels = tuple(channels)
        self._worker = worker
        self._last_event_id = last_event_id
        self._queue: Queue[bytes | None] = Queue(QUEUE_SIZE)
        # The id makes a browser that reconnects send Last-Event-ID. The stream follows it.
        self._queue.put_nowait(b"id: hello\n" + _event("hello", {**worker, **hello}))
        self._listening = False
        self._told = ""
        self._stream: EventStream | None = None
        self._sender = Sender(SEND_TIMEOUT)
        publisher.callbacks.add(self._tell)
        self._greenlet = spawn("demo-page", self._run)
        streams.add(self)

    def __iter__(self) -> Page:
        return self

    def __next__(self) -> bytes:
        self._sender.attach()
        chunk = self._queue.get()
        if chunk is None:
            self.close()
            raise StopIteration
        self._sender.start_timer()
        return chunk

    def close(self) -> None:
        """End the greenlet, and leave the publisher and the registry. Idempotent."""
        self._sender.detach()
        self._publisher.callbacks.discard(self._tell)
        self._greenlet.kill(block=False)
        streams.remove(self)

    def end(self) -> None:
        """End the page. Once it has a stream, the stream's own end ends it. Never waits."""
        if self._stream is None:
            self._greenlet.kill(block=False)
            # A greenlet that is killed before its start does not finish by itself.
            self._finish()

    def abort(self) -> None:
        """End a send that is under way. Never waits."""
        self._sender.abort()

    def _run(self) -> None:
        try:
            if self._publisher.state.name in ("connecting", "lost"):
                self._tell(self._publisher.state)
            # Without a timeout: the page shows the state while the database is away.
            subscription = self._broadcaster.subscribe(*self._channels)
            self._listening = True
            state = self._publisher.state
            # Otherwise the event is still to come.
            if state.name in ("connected", "back") and self._told in ("", "connecting"):
                # A new page has not seen a loss: it is connected, not back.
                self._tell(replace(state, name="connected"))
            self._stream = stream(
                subscription,
                retry=RETRY,
                event="notification",
                encode=self._encode,
                last_event_id=self._last_event_id,
            )
            for chunk in self._stream:
                self._queue.put(chunk)
        except (ListenerClosed, BrokenPipeError):
            pass  # the worker ends, or the browser took nothing for too long
        finally:
            if self._stream is not None:
                self._stream.close()
            self._finish()

    def _finish(self) -> None:
        """End the response after the queued chunks, or instead of the oldest if the queue is full."""
        while True:
            try:
                return self._queue.put_nowait(None)
            except Full:
                self._queue.get_nowait()

    def _tell(self, state: State) -> None:
        if state.name == "connected" and not self._listening:
            return  # sent when this page's channels are acknowledged
        self._told = state.name
        try:
            self._queue.put_nowait(_event("state", state.fields()))
        except Full:
            # The browser takes nothing: if it reconnects, it gets the state.
            self._greenlet.kill(block=False)

    def _encode(self, notification: Notification) -> str:
        return json.dumps({**notification._asdict(), **self._worker})


def _event(name: str, data: Mapping[str, object]) -> bytes:
    # json.dumps() returns ASCII without line breaks.
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
