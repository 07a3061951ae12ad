"""One open page: the notifications and what becomes of the connection, in one event stream.

`pglisten.sse.stream` makes the notifications' events. Where nothing but notifications is wanted it is the
body of the response itself, and `pglisten.sse.app` the whole application. Here events of another kind come
in between, also while the database is away: so a greenlet (owned by `Page.close`) takes the chunks and
queues them, and the state's events go into the same queue.
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
"""Chunks that may wait for a browser. For one that takes nothing the stream waits, and drops the oldest
notifications; of the states it is told the newest when it comes again."""

SEND_TIMEOUT = 60.0
"""Seconds that a browser has for a chunk."""

RETRY = 1.0
"""Seconds until a browser comes again; somebody watches it."""


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
        """Greet with *hello*, then go on for ever; *worker* goes along with each notification."""
        self._broadcaster = broadcaster
        self._publisher = publisher
        self._channels = tuple(channels)
        self._worker = worker
        self._last_event_id = last_event_id
        self._queue: Queue[bytes | None] = Queue(QUEUE_SIZE)
        # With an id, by which a browser remembers that it was here: the stream comes behind it.
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
        """Release what it has. Idempotent."""
        self._sender.detach()
        self._publisher.callbacks.discard(self._tell)
        self._greenlet.kill(block=False)
        streams.remove(self)

    def end(self) -> None:
        """End it; once there is a stream, that is what ends. Never waits."""
        if self._stream is None:
            self._greenlet.kill(block=False)
            # Killed before it has begun, it does not.
            self._finish()

    def abort(self) -> None:
        """End the send of the greenlet that is at it, if one is. Never waits."""
        self._sender.abort()

    def _run(self) -> None:
        try:
            if self._publisher.state.name in ("connecting", "lost"):
                self._tell(self._publisher.state)
            # Without a limit: it says how it stands while the database is away.
            subscription = self._broadcaster.subscribe(*self._channels)
            self._listening = True
            state = self._publisher.state
            # Else the event is still to come, and will be told.
            if state.name in ("connected", "back") and self._told in ("", "connecting"):
                # That it is back is no news to a page that is new.
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
            pass  # the worker ends, or the browser takes nothing: no room in the queue for too long
        finally:
            if self._stream is not None:
                self._stream.close()
            self._finish()

    def _finish(self) -> None:
        """Let the response end behind what is queued."""
        while True:
            try:
                return self._queue.put_nowait(None)
            except Full:
                self._queue.get_nowait()

    def _tell(self, state: State) -> None:
        if state.name == "connected" and not self._listening:
            return  # to be told when that is true of this page's channels
        self._told = state.name
        try:
            self._queue.put_nowait(_event("state", state.fields()))
        except Full:
            # It takes nothing: it may come again, and then it is told how it stands.
            self._greenlet.kill(block=False)

    def _encode(self, notification: Notification) -> str:
        return json.dumps({**notification._asdict(), **self._worker})


def _event(name: str, data: Mapping[str, object]) -> bytes:
    # JSON has no line breaks, and is ASCII here.
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
